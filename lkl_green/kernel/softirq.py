"""Softirqs: the half of interrupt work that may itself be interrupted (kernel/softirq.c, rules 123, 124).

Raised bits run when the interrupt returns or bottom halves are enabled again, in fixed order and with a limit: after
MAX_SOFTIRQ_RESTART rounds the rest is left to ksoftirqd, which is scheduled like any other task. Linux also stops after
2 ms; a limit in time would make a run depend on the machine's speed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lkl_green.errors import KernelBug, NoCurrentKernel
from lkl_green.kernel.binding import Bindable, kernel_for
from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.sched import preempt_count_underflow
from lkl_green.kernel.task import HARDIRQ_MASK, SOFTIRQ_MASK, SOFTIRQ_OFFSET, TASK_IDLE, TASK_RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task

(
    HI_SOFTIRQ,
    TIMER_SOFTIRQ,
    NET_TX_SOFTIRQ,
    NET_RX_SOFTIRQ,
    BLOCK_SOFTIRQ,
    IRQ_POLL_SOFTIRQ,
    TASKLET_SOFTIRQ,
    SCHED_SOFTIRQ,
    HRTIMER_SOFTIRQ,
    RCU_SOFTIRQ,
) = range(10)

SOFTIRQ_NAMES = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")

MAX_SOFTIRQ_RESTART = 10


class Softirqs:
    """The softirq vectors of one kernel, and ksoftirqd's body.

    Attributes:
        pending: a bit for each raised vector.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._actions: dict[int, Callable[[], None]] = {}
        self.pending = 0
        self.ksoftirqd: Task | None = None
        self.counts = dict.fromkeys(range(len(SOFTIRQ_NAMES)), 0)

    def open_softirq(self, vec: int, action: Callable[[], None]) -> None:
        """Install the action of a vector. Raises TypeError unless it is a plain function."""
        check_callback(action, "softirq action")
        self._actions[vec] = action

    def raise_softirq(self, vec: int) -> None:
        """Mark a vector; it runs at the next irq_exit, or in ksoftirqd if no interrupt is being handled."""
        kernel = self._kernel
        if kernel.sched.trace is not None:
            kernel.sched.trace.emit("softirq_raise", vec, SOFTIRQ_NAMES[vec])
        self.pending |= 1 << vec
        if not kernel.sched.current.preempt_count & (HARDIRQ_MASK | SOFTIRQ_MASK):
            self._wakeup_softirqd()

    def local_bh_disable(self) -> None:
        """Keep softirqs from running in the current task."""
        self._kernel.sched.current.preempt_count += SOFTIRQ_OFFSET

    def local_bh_enable(self) -> None:
        """Undo one `local_bh_disable`; the last one runs what was raised meanwhile. Raises KernelBug without one."""
        kernel = self._kernel
        task = kernel.sched.current
        count = task.preempt_count = task.preempt_count - SOFTIRQ_OFFSET
        if not count & (HARDIRQ_MASK | SOFTIRQ_MASK):
            if self.pending:
                self.do_softirq()
            kernel.sched.preempt_check()
        elif count & SOFTIRQ_MASK == SOFTIRQ_MASK:  # counted down from 0
            task.preempt_count = count + SOFTIRQ_OFFSET
            raise preempt_count_underflow(task, "local_bh_enable()", "local_bh_disable()")

    def do_softirq(self) -> None:
        """Run what was raised: the last interrupt returns, or bottom halves are enabled again."""
        task = self._kernel.sched.current
        clock = self._kernel.clock
        task.preempt_count += SOFTIRQ_OFFSET
        free_reads, clock.free_reads = clock.free_reads, True  # rule 91
        try:
            for _ in range(MAX_SOFTIRQ_RESTART):
                pending, self.pending = self.pending, 0
                if not pending:
                    return
                self._run(pending)
        finally:
            clock.free_reads = free_reads
            task.preempt_count -= SOFTIRQ_OFFSET
        if self.pending:
            self._wakeup_softirqd()

    def _run(self, pending: int) -> None:
        kernel = self._kernel
        trace = kernel.sched.trace
        task = kernel.sched.current
        count = task.preempt_count
        while pending:
            vec = (pending & -pending).bit_length() - 1
            pending &= pending - 1
            self.counts[vec] += 1
            if trace is not None:
                trace.emit("softirq_entry", vec, SOFTIRQ_NAMES[vec])
            try:
                self._actions[vec]()
            except BaseException as error:
                kernel.faults.oops_in_interrupt(error, f"softirq {SOFTIRQ_NAMES[vec]}")
            if task.preempt_count != count:
                self.repair_preempt_count(count, f"softirq {SOFTIRQ_NAMES[vec]}")
            if trace is not None:
                trace.emit("softirq_exit", vec, SOFTIRQ_NAMES[vec])

    def repair_preempt_count(self, count: int, where: str) -> None:
        """What a callback took and kept, the interrupted task must not pay for (Linux: "huh, entered softirq ...")."""
        task = self._kernel.sched.current
        self._kernel.printk.warn(
            f"huh, entered {where} with preempt_count {count:#x}, exited with {task.preempt_count:#x}? "
            "It keeps a SpinLock, or disabled something and did not enable it again"
        )
        task.preempt_count = count

    def _wakeup_softirqd(self) -> None:
        if self.ksoftirqd is not None:
            self._kernel.sched.try_to_wake_up(self.ksoftirqd)

    def run_ksoftirqd(self, _arg: object) -> None:
        """Thread function of ksoftirqd. Whatever ends it is a panic: tasklets and timers that are left would wait."""
        kernel = self._kernel
        sched = kernel.sched
        task = sched.current
        try:
            while not kernel.kthreads.should_stop():
                task.state = TASK_IDLE
                if self.pending:
                    task.state = TASK_RUNNING
                    self.do_softirq()
                    sched.cond_resched()
                else:
                    sched.schedule()
        except BaseException as error:
            kernel.faults.must_not_end(task, error)
            raise
        task.state = TASK_RUNNING
        kernel.faults.must_not_end(task, None)


class Tasklet(Bindable):
    """A function that runs once in a softirq however often it was scheduled before (rule 124).

    Args:
        queue: the kernel's tasklet queue; that of the current kernel if None, or of the first to use it if none runs.
        func: what to run, called without arguments.
    """

    __slots__ = ("_disabled", "_queue", "func", "scheduled")

    VALUES = ("_disabled",)

    def __init__(self, queue: TaskletQueue | None, func: Callable[[], object]) -> None:
        check_callback(func, "tasklet")
        self._queue = queue if queue is not None else kernel_for(self).tasklets
        self.func = func
        self._disabled = 0
        self.scheduled = False

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel from now on."""
        self._queue = kernel.tasklets

    def untie(self) -> None:
        """Be not scheduled: the softirq has ended with its kernel."""
        self.scheduled = False

    def schedule(self) -> None:
        """Run soon; nothing if that is planned already."""
        if not self.scheduled:
            self.scheduled = True
            try:
                self._queue.add(self)
            except NoCurrentKernel:
                self.scheduled = False
                raise

    def disable(self) -> None:
        """Keep it from running until as many `enable()` calls have come."""
        self._disabled += 1

    def enable(self) -> None:
        """Undo one `disable()`. Raises KernelBug if there was none."""
        if not self._disabled:
            raise KernelBug(f"BUG: enable() of {self!r}, which is not disabled")
        self._disabled -= 1
        if not self._disabled and self.scheduled:
            self._queue.kick()

    def run(self) -> bool:
        """Run unless disabled; whether it ran."""
        if self._disabled:
            return False
        self.scheduled = False
        self.func()
        return True

    def __repr__(self) -> str:
        state = "scheduled" if self.scheduled else "idle"
        disabled = f", disabled {self._disabled} deep" if self._disabled else ""
        return f"<Tasklet {getattr(self.func, '__name__', self.func)} {state}{disabled}>"


class TaskletQueue:
    """The tasklets that are scheduled, as the action of TASKLET_SOFTIRQ."""

    def __init__(self, softirqs: Softirqs) -> None:
        self._softirqs = softirqs
        self._scheduled: deque[Tasklet] = deque()
        softirqs.open_softirq(TASKLET_SOFTIRQ, self._run)

    def add(self, tasklet: Tasklet) -> None:
        """Queue and raise."""
        self._scheduled.append(tasklet)
        self.kick()

    @property
    def functions(self) -> list[Callable[[], object]]:
        """The functions of the tasklets that are scheduled."""
        return [tasklet.func for tasklet in self._scheduled]

    def kick(self) -> None:
        """Make the softirq run."""
        self._softirqs.raise_softirq(TASKLET_SOFTIRQ)

    def _run(self) -> None:
        """Run what was scheduled before; one that raises leaves the rest for the next round."""
        batch, self._scheduled = self._scheduled, deque()
        disabled = []
        try:
            while batch:
                tasklet = batch.popleft()
                if not tasklet.run():
                    disabled.append(tasklet)
        finally:
            self._scheduled = deque([*batch, *disabled, *self._scheduled])
            if batch:
                self.kick()
