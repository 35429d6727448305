"""ftrace's text format: what `cat /sys/kernel/tracing/trace` would print.

This text is the form in which two runs are compared, so that nothing of the host may enter it: no OS thread ids, no
addresses, no wall-clock time. Time stamps have nine digits after the point where the kernel prints six, because a
virtual clock counts nanoseconds (trace-cmd report -t prints nine, too).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.task import HARDIRQ_MASK, PREEMPT_MASK, SOFTIRQ_MASK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.kernel.tracepoint import TraceRecord

_HEADER = """\
# tracer: nop
#
# entries-in-buffer/entries-written: {kept}/{written}   #P:1
#
#                                _-----=> irqs-off
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| /
#           TASK-PID     CPU#  ||||   TIMESTAMP  FUNCTION
#              | |         |   ||||      |         |
"""

# Readers split the fields of scheduler and signal events at blanks and at "=", which a task's name may contain.
_UNSAFE = str.maketrans(" =\t\r\n", "_____")

_WAKE = "comm=%s pid=%d prio=%d target_cpu=000"

# The texts of the events' format files, as printf formats of their fields.
FORMATS = {
    "sched_switch": "prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s ==> next_comm=%s next_pid=%d next_prio=%d",
    "sched_waking": _WAKE,
    "sched_wakeup": _WAKE,
    "sched_wakeup_new": _WAKE,
    "sched_process_fork": "comm=%s pid=%d child_comm=%s child_pid=%d",
    "sched_process_exec": "filename=%s pid=%d old_pid=%d",
    "sched_process_exit": "comm=%s pid=%d prio=%d",
    "irq_handler_entry": "irq=%d name=%s",
    "irq_handler_exit": "irq=%d ret=%s",
    "softirq_raise": "vec=%d [action=%s]",
    "softirq_entry": "vec=%d [action=%s]",
    "softirq_exit": "vec=%d [action=%s]",
    "timer_start": "timer=%s function=%s expires=%d",
    "timer_cancel": "timer=%s",
    "timer_expire_entry": "timer=%s function=%s now=%d",
    "timer_expire_exit": "timer=%s",
    "workqueue_execute_start": "work struct %s: function %s",
    "workqueue_execute_end": "work struct %s: function %s",
    "signal_generate": "sig=%d errno=%d code=%d comm=%s pid=%d grp=%d res=%d",
    "signal_deliver": "sig=%d errno=%d code=%d sa_handler=%s sa_flags=%x",
    "sys_enter": "NR %d (%s)",
    "sys_exit": "NR %d = %d",
}


def _flags(record: TraceRecord) -> str:
    count = record.preempt_count
    softirq = count & SOFTIRQ_MASK
    context = ("H" if softirq else "h") if count & HARDIRQ_MASK else "s" if softirq else "."
    depth = count & PREEMPT_MASK
    return "".join(
        (
            "d" if record.irqs_disabled else ".",
            "n" if record.need_resched else ".",
            context,
            format(min(depth, 15), "x") if depth else ".",
        )
    )


def format_record(record: TraceRecord) -> str:
    """One line, without its newline."""
    seconds, ns = divmod(record.time_ns, 1_000_000_000)
    comm = "<idle>" if record.pid == 0 else record.comm.translate(_UNSAFE)
    fields = record.fields
    if record.event.startswith(("sched_", "signal_")):
        fields = tuple(field.translate(_UNSAFE) if isinstance(field, str) else field for field in fields)
    text = (FORMATS[record.event] % fields).replace("\n", "_")
    return f"{comm:>16}-{record.pid:<7} [000] {_flags(record)} {seconds:5d}.{ns:09d}: {record.event}: {text}"


def format_trace(records: Iterable[TraceRecord], written: int | None = None) -> str:
    """The whole file: header and one line for each record.

    Args:
        records: what to print, oldest first.
        written: how many were written in all, if the ring lost some.
    """
    lines = [format_record(record) for record in records]
    kept = len(lines)
    header = _HEADER.format(kept=kept, written=kept if written is None else written)
    return header + "".join(line + "\n" for line in lines)
