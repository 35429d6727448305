"""Trace records and ftrace text: Linux's field names, what readers expect of a line, and a consistent story."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import format_trace
from lkl_green.kernel.task import HARDIRQ_OFFSET, SOFTIRQ_OFFSET
from lkl_green.kernel.tracepoint import Accounting, TraceRecord
from lkl_green.linux import (
    SCHED_FIFO,
    SIGCHLD,
    SIGUSR1,
    TASK_INTERRUPTIBLE,
    Completion,
    Mutex,
    SpinLock,
    Timer,
    WaitQueueHead,
    Work,
    cond_resched,
    current,
    current_kernel,
    do_exit,
    flush_work,
    kernel_execve,
    kernel_thread,
    kernel_wait4,
    kthread_create,
    kthread_park,
    kthread_parkme,
    kthread_run,
    kthread_should_park,
    kthread_should_stop,
    kthread_stop,
    ktime_get,
    local_bh_disable,
    local_bh_enable,
    local_irq_restore,
    local_irq_save,
    msleep,
    request_irq,
    sched_setscheduler,
    schedule,
    schedule_work,
    set_current_state,
    tasklet,
    wake_up_process,
)
from lkl_green.trace.ftrace import FORMATS, format_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.kernel.task import Task

MS = 1_000_000

# What Perfetto's importer of ftrace text looks for in a line, after the name of the task.
PERFETTO = re.compile(r"-(\d+)\s+\(?\s*(\d+|-+)?\)?\s?\[(\d+)\]\s*([a-zA-Z.]{3}[0-9a-f.]{1,2}\s*)?(\d+\.\d+):\s+(\S+):")
LINE = re.compile(r"^ *(\S+)-(\d+) +\[000\] ([d.][n.][Hhs.][0-9a-f.]) +(\d+)\.(\d{9}): (\w+): (.*)$")

# The texts of the events, as the kernel's format files have them (a pointer or a symbol is a name here).
COMM = r"[^ =]{1,15}"
WAKE = rf"comm={COMM} pid=\d+ prio=\d+ target_cpu=000"
TEXTS = {
    "sched_switch": rf"prev_comm={COMM} prev_pid=\d+ prev_prio=\d+ prev_state=(R|R\+|S|D|I|P|X|Z) ==> "
    rf"next_comm={COMM} next_pid=\d+ next_prio=\d+",
    "sched_waking": WAKE,
    "sched_wakeup": WAKE,
    "sched_wakeup_new": WAKE,
    "sched_process_fork": rf"comm={COMM} pid=\d+ child_comm={COMM} child_pid=\d+",
    "sched_process_exec": r"filename=\S+ pid=\d+ old_pid=\d+",
    "sched_process_exit": rf"comm={COMM} pid=\d+ prio=\d+",
    "irq_handler_entry": r"irq=\d+ name=\S+",
    "irq_handler_exit": r"irq=\d+ ret=(handled|unhandled)",
    "softirq_raise": r"vec=\d \[action=[A-Z_]+\]",
    "softirq_entry": r"vec=\d \[action=[A-Z_]+\]",
    "softirq_exit": r"vec=\d \[action=[A-Z_]+\]",
    "timer_start": r"timer=\S+ function=\S+ expires=\d+",
    "timer_cancel": r"timer=\S+",
    "timer_expire_entry": r"timer=\S+ function=\S+ now=\d+",
    "timer_expire_exit": r"timer=\S+",
    "workqueue_execute_start": r"work struct \S+: function \S+",
    "workqueue_execute_end": r"work struct \S+: function \S+",
    "signal_generate": rf"sig=\d+ errno=\d+ code=\d+ comm={COMM} pid=\d+ grp=[01] res=[012]",
    "signal_deliver": r"sig=\d+ errno=\d+ code=\d+ sa_handler=\S+ sa_flags=[0-9a-f]+",
    "sys_enter": r"NR \d+ \(.*\)",
    "sys_exit": r"NR \d+ = -?\d+",
}


def story() -> None:
    """Something of everything: each event occurs."""

    def consumer() -> None:
        while not kthread_should_stop():
            if kthread_should_park():
                kthread_parkme()
            queue.wait_event_interruptible_timeout(lambda: items, MS)
            if items:
                items.pop()
            with mutex:
                cond_resched()

    def program(sys: Any, argv: list[str], envp: dict[str, str]) -> int:
        sys.nanosleep(100_000)
        sys.sigaction(SIGUSR1, lambda sys, sig: None)
        sys.kill(sys.getpid(), SIGUSR1)
        return sys.wait4(sys.vfork(lambda sys: 3))[1]

    def busy() -> None:
        for _ in range(600):
            ktime_get()
            cond_resched()

    kernel = current_kernel()
    queue, mutex, items, lock = WaitQueueHead(), Mutex(), [], SpinLock()
    kernel.register_program("/bin/program", program)
    soft = tasklet(queue.wake_up)
    irq = kernel.lkl_get_free_irq("dev")
    request_irq(irq, lambda irq: soft.schedule(), "dev")
    consumers = [kthread_create(consumer, name=f"consumer/{n}") for n in range(3)]
    sched_setscheduler(consumers[0], SCHED_FIFO, 7)
    for task in consumers:
        wake_up_process(task)
    hogs = [kthread_run(busy, name="hog") for _ in range(2)]
    for step in range(6):
        items.append(step)
        kernel.lkl_trigger_irq(irq)
        schedule()
        with lock:
            queue.wake_up()
        msleep(0.3)
    work = Work(lambda work: msleep(1), name="job")
    schedule_work(work)
    kernel_wait4(kernel_thread(lambda arg: kernel_execve("/bin/program"), None, SIGCHLD))
    kthread_park(consumers[1])
    flush_work(work)
    for task in consumers + hogs:
        kthread_stop(task)


def records_of(boot: Any, init: Any, **options: Any) -> list[TraceRecord]:
    kernel = boot(init, trace=True, **options)
    kernel.run()
    assert kernel.sched.trace is not None
    return list(kernel.sched.trace.records)


def events(records: Iterable[TraceRecord], name: str) -> list[TraceRecord]:
    return [record for record in records if record.event == name]


# -- the text


def test_each_event_has_linux_s_fields_in_linux_s_order(boot):
    records = records_of(boot, story)
    seen = set()
    for record in records:
        match = LINE.match(format_record(record))
        assert match, format_record(record)
        event, text = match.group(6), match.group(7)
        assert re.fullmatch(TEXTS[event], text), f"{event}: {text}"
        seen.add(event)
    assert seen == set(TEXTS) == set(FORMATS)


def test_perfetto_finds_task_cpu_flags_time_and_event_in_each_line(boot):
    text = format_trace(records_of(boot, story))
    assert text.startswith("# tracer: nop\n")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) > 300
    for line in lines:
        match = PERFETTO.search(line)
        assert match, line
        pid, tgid, cpu, flags, time, event = match.groups()
        assert (tgid, cpu) == (None, "000")
        assert line.lstrip().startswith(("<idle>-0 ", line.split("-" + pid)[0].lstrip() + "-" + pid))
        assert flags.strip() in line
        assert len(time.split(".")[1]) == 9
        assert event in FORMATS


def test_an_exact_line_of_each_kind():
    def line(event: str, *fields: Any, **context: Any) -> str:
        values = {"time_ns": 1_000_006_001, "comm": "kthreadd", "pid": 2, "irqs_disabled": False}
        values.update({"need_resched": False, "preempt_count": 0, **context})
        return format_record(TraceRecord(**values, event=event, fields=fields))

    assert line("sched_switch", "kthreadd", 2, 120, "S", "swapper", 0, 140, irqs_disabled=True, preempt_count=2) == (
        "        kthreadd-2       [000] d..2     1.000006001: sched_switch: prev_comm=kthreadd prev_pid=2 "
        "prev_prio=120 prev_state=S ==> next_comm=swapper next_pid=0 next_prio=140"
    )
    assert line("sched_waking", "init", 1, 120, comm="swapper", pid=0, preempt_count=HARDIRQ_OFFSET) == (
        "          <idle>-0       [000] ..h.     1.000006001: sched_waking: comm=init pid=1 prio=120 target_cpu=000"
    )
    assert line("sys_exit", 35, -4, time_ns=123_456_789_012_345_678) == (
        "        kthreadd-2       [000] .... 123456789.012345678: sys_exit: NR 35 = -4"
    )


@pytest.mark.parametrize(
    ("preempt_count", "flags"),
    [
        (0, "...."),
        (1, "...1"),
        (10, "...a"),
        (200, "...f"),
        (SOFTIRQ_OFFSET, "..s."),
        (HARDIRQ_OFFSET, "..h."),
        (HARDIRQ_OFFSET + SOFTIRQ_OFFSET + 1, "..H1"),
    ],
)
def test_the_flags_column(preempt_count, flags):
    record = TraceRecord(0, "x", 1, False, False, preempt_count, "timer_cancel", ("t",))
    assert f"[000] {flags} " in format_record(record)
    record = record._replace(irqs_disabled=True, need_resched=True)
    assert f"[000] dn{flags[2:]} " in format_record(record)


def test_the_flags_of_a_running_kernel(boot):
    """Softirqs interrupt tasks, interrupts interrupt softirqs, and all of it shows."""

    def init():
        def soft():
            kernel.lkl_trigger_irq(inner)
            local_irq_restore(local_irq_save())

        kernel, task = current_kernel(), current()
        outer, inner = kernel.lkl_get_free_irq("outer"), kernel.lkl_get_free_irq("inner")
        request_irq(outer, lambda irq: bottom.schedule(), "outer")
        request_irq(inner, lambda irq: None, "inner")
        bottom = tasklet(soft)
        msleep(1)
        local_bh_disable()
        kernel.lkl_trigger_irq(outer)
        cond_resched()
        local_bh_enable()
        with SpinLock(), SpinLock():
            wake_up_process(task)
            Timer(print, name="armed").mod_timer_in(1)

    lines = format_trace(records_of(boot, init)).splitlines()
    flags = {match.group(7): match.group(3) for line in lines if (match := LINE.match(line))}
    assert flags["irq=2 name=outer"] == "d.H."
    assert flags["vec=6 [action=TASKLET]"] == "..s."
    assert flags["irq=3 name=inner"] == "d.H."
    armed = next(text for text in flags if text.startswith("timer=armed"))
    assert flags[armed] == "...2"


@pytest.mark.parametrize("comm", ["a b", "a=b", "a b = c", "a\nb", "a\tb"])
def test_names_that_would_confuse_a_reader_are_made_safe(boot, comm):
    def init():
        kthread_stop(kthread_run(lambda: None, name=comm))
        msleep(1)
        Timer(print, name=comm).mod_timer_in(1)

    lines = format_trace(records_of(boot, init)).splitlines()
    safe = re.sub(r"[\s=]", "_", comm)
    assert f"child_comm={safe} " in "\n".join(lines)
    for line in lines:
        if not line.startswith("#"):
            match = LINE.match(line)
            assert match, line
            if match.group(6).startswith("sched_"):
                assert re.fullmatch(TEXTS[match.group(6)], match.group(7))


def test_an_empty_trace_is_a_header():
    text = format_trace([])
    assert "entries-in-buffer/entries-written: 0/0   #P:1" in text
    assert all(line.startswith("#") for line in text.splitlines())


# -- the story is consistent


def check_story(records: list[TraceRecord]) -> None:
    """What a reader may rely on: who runs, who can run, and time that does not go back."""
    runnable = {0}
    running = 0
    now = 0
    waking: Any = None
    for record in records:
        assert record.time_ns >= now
        now = record.time_ns
        assert record.pid == running
        assert (waking is None) == (record.event != "sched_wakeup"), "each sched_waking is followed by its sched_wakeup"
        waking = record.fields if record.event == "sched_waking" else None
        match record.event:
            case "sched_wakeup_new" | "sched_wakeup":
                runnable.add(record.fields[1])
            case "sched_switch":
                _, prev, _, state, _, next, _ = record.fields
                assert prev == running
                assert prev != next
                assert next in runnable
                if prev and not state.startswith("R"):
                    runnable.discard(prev)
                running = next
            case "sched_process_exit":
                assert record.fields[1] == running


def test_only_who_is_runnable_is_switched_to_and_only_who_runs_writes(boot):
    check_story(records_of(boot, story))


def test_the_story_is_consistent_under_another_policy_too(boot):
    from lkl_green import SchedulingPolicy

    class Lifo(SchedulingPolicy):
        def __init__(self) -> None:
            self.tasks: list[Task] = []

        @property
        def nr_running(self) -> int:
            return len(self.tasks)

        def enqueue_task(self, task: Task, preempted: bool = False) -> None:
            self.tasks.append(task)

        def dequeue_task(self, task: Task) -> bool:
            self.tasks.remove(task)
            return True

        def pick_next_task(self) -> Task | None:
            return self.tasks.pop() if self.tasks else None

    check_story(records_of(boot, story, policy=Lifo()))


def test_entries_and_exits_nest(boot):
    """irq, softirq, timer and system call events come in pairs, properly nested within each task."""
    closes = {
        "irq_handler_exit": "irq_handler_entry",
        "softirq_exit": "softirq_entry",
        "timer_expire_exit": "timer_expire_entry",
        "sys_exit": "sys_enter",
    }
    stacks: dict[int, list[tuple[str, Any]]] = {}
    for record in records_of(boot, story):
        stack = stacks.setdefault(record.pid, [])
        key = record.fields[0] if record.fields else None
        if record.event in closes.values():
            stack.append((record.event, key))
        elif record.event in closes:
            assert stack.pop() == (closes[record.event], key)
        elif record.event == "sched_process_exit":
            # exit() does not return; its sys_enter stays open.
            stack[:] = [entry for entry in stack if entry[0] != "sys_enter"]
    assert all(not stack for stack in stacks.values())


def test_preempted_tasks_and_only_those_are_shown_with_a_plus(boot):
    def init():
        def urgent():
            done.wait_for_completion()

        done = Completion()
        task = kthread_create(urgent, name="urgent")
        sched_setscheduler(task, SCHED_FIFO, 1)
        wake_up_process(task)
        done.complete()
        other = kthread_run(lambda: [schedule() for _ in range(3)], name="other")
        for _ in range(3):
            schedule()
        for _ in range(400):
            cond_resched()
        kthread_stop(other)

    switches = [record.fields for record in events(records_of(boot, init), "sched_switch")]
    states = {(fields[0], fields[3], fields[4]) for fields in switches}
    assert ("init", "R+", "urgent") in states
    assert ("init", "R", "other") in states
    assert ("other", "R", "init") in states
    assert ("other", "R+", "init") not in states


def test_a_wake_up_is_written_in_the_context_of_who_wakes(boot):
    def init():
        task = current()
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, lambda irq: wake_up_process(task), "dev")
        msleep(1)
        set_current_state(TASK_INTERRUPTIBLE)
        kernel.lkl_trigger_irq(irq)
        schedule()

    wakings = [record for record in events(records_of(boot, init), "sched_waking") if record.fields[1] == 1]
    by_timer, by_irq = wakings
    assert (by_timer.pid, by_timer.preempt_count & SOFTIRQ_OFFSET) == (0, SOFTIRQ_OFFSET)
    assert (by_irq.pid, by_irq.preempt_count) == (1, HARDIRQ_OFFSET)
    assert by_irq.irqs_disabled


def test_waking_a_task_that_was_preempted_on_its_way_to_sleep_is_a_wake_up_too(boot):
    def init():
        def urgent():
            done.wait_for_completion()
            assert wake_up_process(task)

        task, done = current(), Completion()
        rt = kthread_create(urgent, name="urgent")
        sched_setscheduler(rt, SCHED_FIFO, 1)
        wake_up_process(rt)
        set_current_state(TASK_INTERRUPTIBLE)
        done.complete()
        schedule()

    records = records_of(boot, init)
    wakings = [(record.comm, record.fields[0]) for record in events(records, "sched_waking")]
    assert wakings[wakings.index(("urgent", "init")) - 1] == ("init", "urgent")


def test_births_execs_and_deaths(boot, log):
    def init():
        current_kernel().register_program("/bin/prog", lambda sys, argv, envp: 0)
        pid = kernel_thread(lambda arg: kernel_execve("/bin/prog"), None, SIGCHLD)
        kernel_wait4(pid)
        log.append(pid)

    records = records_of(boot, init)
    pid = log[0]
    mine = [
        (record.event, record.fields)
        for record in records
        if record.event.startswith("sched_process") and pid in record.fields
    ]
    assert mine == [
        ("sched_process_fork", ("init", 1, "init", pid)),
        ("sched_process_exec", ("/bin/prog", pid, pid)),
        ("sched_process_exit", ("prog", pid, 120)),
    ]


def test_system_calls_show_number_arguments_and_result(boot, log):
    def init():
        kernel = current_kernel()
        for call in ((39,), (35, 1000), (35, -1), (61, -1, [0], 0), (999, 5)):
            log.append(kernel.lkl_syscall(*call))

    records = records_of(boot, init)
    entries = [format_record(record).split(": ", 2)[2] for record in events(records, "sys_enter")]
    exits = [record.fields for record in events(records, "sys_exit")]
    assert entries == ["NR 39 ()", "NR 35 (0x3e8)", "NR 35 (-0x1)", "NR 61 (-0x1, list, 0x0)", "NR 999 (0x5)"]
    assert exits == [(nr, result) for nr, result in zip((39, 35, 35, 61, 999), log, strict=True)]


# -- the ring


def test_the_ring_keeps_the_newest_and_counts_all(boot):
    kernel = boot(story)
    trace = kernel.trace_start(capacity=50)
    kernel.run()
    assert len(trace.records) == 50
    assert trace.written > 300
    text = format_trace(trace.records, trace.written)
    assert f"entries-in-buffer/entries-written: 50/{trace.written} " in text
    whole = records_of(boot, story)
    assert list(trace.records) == whole[-50:] or [r.event for r in trace.records] == [r.event for r in whole[-50:]]


def test_tracing_may_start_and_stop_at_any_time(boot):
    records: list[list[TraceRecord]] = []

    def init():
        kernel = current_kernel()
        msleep(1)
        for _ in range(2):
            kernel.trace_start()
            msleep(1)
            records.append(kernel.trace_stop())
            msleep(1)
        assert kernel.trace_stop() == []

    boot(init).run()
    first, second = records
    assert [record.event for record in first] == [record.event for record in second]
    assert [record.event for record in first][:2] == ["timer_start", "sched_switch"]
    assert events(first, "sched_switch")[-1].fields[4] == "init"


def test_tracing_stops_in_the_middle_of_a_system_call(boot, log):
    def init():
        kernel = current_kernel()
        kernel.syscalls.install(500, "stop", lambda: log.extend(kernel.trace_stop()))
        kernel.trace_start()
        assert kernel.lkl_syscall(500) == 0
        assert kernel.lkl_syscall(39) == 1

    boot(init).run()
    assert [record.event for record in log] == ["sys_enter"]


def test_tracing_changes_nothing(boot):
    """Neither the order of events nor the time at which they happen."""

    def outcome(**options: Any) -> tuple[Any, ...]:
        kernel = boot(story, **options)
        kernel.run()
        statistics = kernel.statistics()
        return statistics.switches, statistics.irqs, statistics.softirqs, statistics.time_ns

    assert outcome() == outcome(trace=True)


def test_accounting_adds_up(boot):
    kernel = boot(story)
    trace = kernel.trace_start(accounting=True)
    begin = kernel.clock.peek_ns()
    kernel.run()
    assert isinstance(trace, Accounting)
    switches = events(trace.records, "sched_switch")
    assert sum(trace.switches.values()) == len(switches)
    assert trace.wakeups == len(events(trace.records, "sched_waking"))
    assert sum(trace.runtime_ns.values()) == switches[-1].time_ns - begin
    assert trace.comms[1] == "init"
    assert trace.runtime_ns[0] > sum(time for pid, time in trace.runtime_ns.items() if pid), "mostly asleep"


def test_accounting_alone_keeps_no_records(boot):
    kernel = boot(story)
    trace = kernel.trace_start(capacity=0, accounting=True)
    kernel.run()
    assert isinstance(trace, Accounting)
    assert len(trace.records) == 0
    assert sum(trace.switches.values()) > 50


# -- parity


def test_the_story_is_byte_identical_everywhere(parity):
    trace = parity(story)
    for event in FORMATS:
        assert f": {event}: " in trace


def test_a_panic_traces_the_same_up_to_its_end(configuration):
    from lkl_green import KernelPanic, lkl_start_kernel

    def init():
        def fails(arg):
            raise ZeroDivisionError

        kernel_thread(lambda arg: (msleep(1), do_exit(0)))
        kernel_thread(fails)
        msleep(5)

    def traced(**options: Any) -> list[TraceRecord]:
        kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, trace=True, **options)
        with pytest.raises(KernelPanic):
            kernel.run()
        return kernel.trace_stop()

    assert traced(**configuration) == traced()
