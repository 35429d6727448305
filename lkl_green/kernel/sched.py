"""The scheduler: `schedule()` and what leads to it.

1. *One path.* Every context switch of a kernel thread goes through `schedule()`: account, pick, switch, finish. It is
   written for speed and is the one function here that repeats what others could do, because it is most of what a
   switch costs over the bare `greenlet.switch()`. It reads the clock never and allocates nothing.
2. *One test for everything rare.* Interrupts, timers, posted calls, time slices, budgets of `lkl_run()` and a halting
   kernel all want to be noticed in `schedule()`. They share one number: `points` counts the scheduling points passed,
   and when it reaches `checkpoint`, the slow path looks at all of them. Another OS thread makes itself noticed by
   setting `checkpoint` to 0, one atomic store, after it has left its message. Dropped: a flag for each cause, three
   tests on every switch.
3. *The idle task is the application.* swapper's context is the caller of `lkl_run()`, so leaving `lkl_run()`, for
   whatever reason, is a switch to swapper, and coming back is a switch from it. swapper runs with preemption disabled,
   which makes sleeping in the application's context the error it is.
4. *The current task is on no queue* (unlike Linux, where it stays on the run queue and the policy skips it). A runnable
   task that gives up the CPU goes to the end of its queue.
5. *How the application calls `lkl_run()` does not change the program.* At the end of what `lkl_run()` was allowed, the
   scheduler decides who is next as it would have done, keeps the answer in `picked`, and switches to swapper. The next
   call continues with that task and does not pick again. Dropped: putting the task back into its queue, to be picked
   anew. It looked at the clock and delivered interrupts where one long call would not have.
6. *The policy decides, the scheduler takes short cuts it was shown.* While all that is runnable stands in one FIFO
   queue, the policy lets the scheduler see it as `fifo`, and `schedule()` turns it without a call, as Linux's
   pick_next_task() asks the fair class directly when nobody else has a task. Otherwise `fifo` is None.
7. *An exception can come between any two calls.* `kernel/async_exceptions.py` says what happens then. The handlers here
   cost nothing unless one comes.

A scheduling point is announced to `listener` as (kind, object) *before* the operation is done, if there is a listener.
The kinds stand in `lkl_green.kernel.points`. Exploring schedules needs this and nothing else of the primitives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import GreenletExit, getcurrent

from lkl_green.arch.stacks import is_switched_out, own_stack, raise_in_base
from lkl_green.errors import (
    ForeignGreenlet,
    KernelBug,
    SchedulingWhileAtomic,
    TaskAbandoned,
    TaskKilled,
    WrongThread,
)
from lkl_green.host.native import get_ident
from lkl_green.kernel.async_exceptions import ORDERLY, repair
from lkl_green.kernel.binding import of_another_kernel
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import (
    HARDIRQ_MASK,
    KILLED_SLEEPS,
    MAX_RT_PRIO,
    PF_KILL_BLOCKED,
    PREEMPT_MASK,
    PREEMPT_OFFSET,
    SOFTIRQ_MASK,
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_NORMAL,
    TASK_PREEMPTED,
    TASK_RUNNING,
    TASK_WAKEKILL,
    Task,
)

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable

    from lkl_green.arch.base import Arch
    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.policy import SchedulingPolicy
    from lkl_green.kernel.tracepoint import Tracepoints

_RUNNING = SystemState.RUNNING

NEVER = 1 << 62

# How many scheduling points may pass before the clock is looked at: what a timer may be late by under load, against
# the price of reading the clock (a third of a context switch).
POLL_POINTS = 256


class Scheduler:
    """One CPU's run queue and the switch between its tasks.

    Attributes:
        current: the task that runs; swapper while the application does.
        last: the task that really ran before the current one was switched to (rule 29).
        swapper: the idle task.
        owner: the OS thread that runs swapper.
        points: scheduling points passed; `checkpoint`: at how many the slow path is taken, 0 for the next one.
        misses: scheduling points without a context switch.
        limit: at how many points the application wants the CPU back.
        picked: the task that was to run next when the application got the CPU back; it is on no queue.
        leave: the kernel stops, or has an exception for the application: leave `lkl_run()` at the next point.
        killing: how many tasks are being taken down while the kernel goes on.
        needs_repair: an exception came in the middle of a switch or a wake-up, and `repair()` has not run since.
        tasks: all tasks of the kernel.
        post_switch: the next task has to look at who ran before it.
        trace: who is told of switches and wake-ups; None while nobody listens.
        listener: called with each operation before it is done; None: operations are not announced.
        after: called after each operation that lets other tasks continue; None: these are not announced.
        notifiers: who is called in a task when it is switched to (Linux: preempt notifiers); may sleep.
    """

    __slots__ = (
        "after",
        "arch",
        "at_checkpoint",
        "checkpoint",
        "current",
        "fifo",
        "idle_switches",
        "interrupted",
        "killing",
        "last",
        "leave",
        "limit",
        "listener",
        "misses",
        "needs_repair",
        "notifiers",
        "on_abandoned",
        "on_bad_pick",
        "on_dead",
        "owner",
        "picked",
        "points",
        "policy",
        "post_switch",
        "releases_threads",
        "ret_from_fork",
        "swapper",
        "system_state",
        "tasks",
        "trace",
    )

    def __init__(self, swapper: Task, policy: SchedulingPolicy, arch: Arch) -> None:
        self.owner = get_ident()
        self.current = swapper
        self.last = swapper
        self.swapper = swapper
        self.arch = arch
        self.releases_threads = arch.releases_threads
        self.points = 0
        self.checkpoint = POLL_POINTS
        self.limit = NEVER
        self.picked: Task | None = None
        self.misses = 0
        self.idle_switches = 0
        self.leave = False
        self.system_state = _RUNNING
        self.killing = 0
        self.needs_repair = False
        self.tasks: Iterable[Task] = ()
        self.notifiers: dict[Task, Callable[[], None]] = {}
        self.post_switch = False
        self.trace: Tracepoints | None = None
        self.listener: Callable[[Kind, object], None] | None = None
        self.after: Callable[[], None] | None = None
        # Set by the kernel at boot: what a checkpoint looks at, and what becomes of tasks at the end and the beginning.
        self.at_checkpoint: Callable[[], bool]
        self.on_dead: Callable[[Task], None]
        self.on_abandoned: Callable[[Task], None]
        self.on_bad_pick: Callable[[Task], None]
        self.ret_from_fork: Callable[[], Task]
        self.interrupted: Callable[[BaseException], None]
        self.fifo: deque[Task] | None = None
        self.policy = policy
        policy.attach(self)

    @property
    def nr_switches(self) -> int:
        """Context switches since boot, those from and to the idle task included."""
        return self.points - self.misses + self.idle_switches

    def is_idle(self) -> bool:
        """Whether no task is runnable besides the current one."""
        fifo = self.fifo
        return self.picked is None and not (fifo if fifo is not None else self.needs_repair or self.policy.nr_running)

    # -- giving up the CPU

    def schedule(self) -> None:  # noqa: C901 - see point 1 above
        """Give up the CPU; returns when the task runs again (Linux: schedule(), rules 115 to 117).

        A task whose state is not TASK_RUNNING sleeps until it is woken. Raises SchedulingWhileAtomic where sleeping is
        forbidden, ForeignGreenlet in a greenlet that is not of the task's own, and TaskKilled in a task that is taken
        down.
        """
        prev = self.current
        if prev.preempt_count:
            raise self._scheduling_while_atomic(prev)
        if getcurrent() is not prev.stack:  # see arch/stacks.py
            self._stack_changed(prev)
        try:
            self.points = points = self.points + 1
            fifo = self.fifo
            if points >= self.checkpoint or fifo is None:
                next = self._pick_next_slow(prev)
                if next is prev:
                    return
            elif prev.state:
                if prev.signals and self._signal_pending_state(prev):
                    return
                next = fifo.popleft() if fifo else self.swapper
            elif fifo:
                fifo.append(prev)
                next = fifo.popleft()
            else:
                self.misses += 1
                return
            if self.trace is not None:
                self.trace.sched_switch(prev, next)
            self.last = prev
            self.current = next
            switch_to = next.switch_to  # CPython is quick at loading from a slot, and slow at calling through one
            try:
                switch_to()
            except BaseException as error:
                self.turn_back(prev, error)
            if self.current is not prev:  # other code has resumed it
                self.turn_back(prev, None)
            if self.post_switch:
                self.finish_task_switch()
        except ORDERLY:
            raise
        except BaseException:
            self.current = prev
            prev.state = TASK_RUNNING
            self.needs_repair, self.fifo = True, None
            raise

    def _pick_next_slow(self, prev: Task) -> Task:
        """Pick at a checkpoint, or where the policy has to be asked; `prev` itself if it is to go on."""
        if self.needs_repair:
            repair(self)
        if self.points >= self.checkpoint and not self.at_checkpoint() and self.fifo is not None:
            next = self._pick_next_fifo(prev, self.fifo)
        else:
            next = self._pick_next_policy(prev)
        if self.points < self.limit:
            return next
        if next is prev:
            self.misses -= 1
        return self._give_to_application(next)

    def _pick_next_fifo(self, prev: Task, fifo: deque[Task]) -> Task:
        """What `schedule()` does without a checkpoint: the application wants the CPU, and nothing else has come up."""
        if prev.state:
            if prev.signals and self._signal_pending_state(prev):
                return prev
            return fifo.popleft() if fifo else self.swapper
        if fifo:
            fifo.append(prev)
            return fifo.popleft()
        self.misses += 1
        return prev

    def _pick_next_policy(self, prev: Task) -> Task:
        """Ask the policy, after what a checkpoint may have changed."""
        prev.need_resched = False
        if prev.killed:
            self._raise_killed(prev)
        policy = self.policy
        if prev.state:
            if prev.signals and self._signal_pending_state(prev):
                return prev
        elif not self.leave and not policy.nr_running:
            self.misses += 1
            return prev
        else:
            policy.enqueue_task(prev, prev.saved_state != TASK_RUNNING)
        next = None if self.leave else policy.pick_next_task()
        if next is not None and next.state:
            next = self._refuse(next)
        if next is prev:
            self.misses += 1
            return prev
        return self.swapper if next is None else next

    def _give_to_application(self, next: Task) -> Task:
        """Remember who is next, and let the application have the CPU first."""
        swapper = self.swapper
        if next is not swapper:
            self.picked = next
        return swapper

    def _signal_pending_state(self, prev: Task) -> bool:
        """A pending signal ends an interruptible sleep before it begins (rule 115)."""
        if not prev.state & (TASK_INTERRUPTIBLE | TASK_WAKEKILL) or not signal_ends_sleep(prev):
            return False
        prev.state = TASK_RUNNING
        self.misses += 1
        return True

    def _scheduling_while_atomic(self, prev: Task) -> KernelBug:
        count = prev.preempt_count
        if prev is self.swapper and not count & (HARDIRQ_MASK | SOFTIRQ_MASK):
            why = of_another_kernel(self) or "only kernel threads may sleep; this is the application (the idle task)"
        elif count & HARDIRQ_MASK:
            why = "an interrupt handler must not sleep; wake a kernel thread that does"
        elif count & SOFTIRQ_MASK:
            why = "a softirq, tasklet or timer callback must not sleep; wake a kernel thread that does"
        else:
            why = f"preemption is disabled {count} deep: a SpinLock is held or preempt_disable() was called"
        prev.state = TASK_RUNNING
        return SchedulingWhileAtomic(f"BUG: scheduling while atomic: {prev.comm}/{prev.pid}: {why}")

    def might_sleep(self) -> None:
        """Raises SchedulingWhileAtomic where sleeping is forbidden, even if it is not needed (Linux: might_sleep()).

        Primitives that keep state in the task call this before they touch it: in an interrupt handler the task is
        somebody else, who may be on its way to sleep elsewhere.
        """
        if self.current.preempt_count:
            raise self._scheduling_while_atomic(self.current)

    def preempt_schedule(self) -> None:
        """Let a more important task run, though the current one may be about to sleep (Linux: preempt_schedule()).

        A task that is preempted between setting its state and `schedule()` stays on the run queue; its state is kept
        aside, where a wake-up finds and clears it.
        """
        prev = self.current
        try:
            prev.saved_state = prev.state | TASK_PREEMPTED
            prev.state = TASK_RUNNING
            self.schedule()
        finally:
            prev.need_resched = False
            prev.state = prev.saved_state & ~TASK_PREEMPTED
            prev.saved_state = TASK_RUNNING

    def preempt_to(self, next: Task) -> bool:
        """`preempt_schedule()` where the policy has chosen already; False, and nothing done, at a checkpoint.

        It may go on where `prev` is taken down: TaskKilled is raised with the state that this would restore.
        """
        if self.points + 1 >= self.checkpoint or self.needs_repair:
            return False
        prev = self.current
        if getcurrent() is not prev.stack:
            self._stack_changed(prev)
        try:
            self.points += 1
            prev.saved_state = prev.state | TASK_PREEMPTED
            prev.state = TASK_RUNNING
            if self.trace is not None:
                self.trace.sched_switch(prev, next)
            self.last = prev
            self.current = next
            try:
                next.switch_to()
            except BaseException as error:
                self.turn_back(prev, error)
            if self.current is not prev:  # other code has resumed it
                self.turn_back(prev, None)
            if self.post_switch:
                self.finish_task_switch()
        except ORDERLY:
            raise
        except BaseException:
            self.current = prev
            prev.state = prev.saved_state & ~TASK_PREEMPTED
            prev.saved_state = TASK_RUNNING
            self.needs_repair, self.fifo = True, None
            raise
        prev.need_resched = False
        prev.state = prev.saved_state & ~TASK_PREEMPTED
        prev.saved_state = TASK_RUNNING
        return True

    def cond_resched(self) -> bool:
        """A scheduling point in a long computation; whether another task ran (rule 127)."""
        self.points = points = self.points + 1
        self.misses += 1
        if points >= self.checkpoint:
            self.at_checkpoint()
            current = self.current
            if current.killed and not current.preempt_count:
                self._raise_killed(current)
            if points >= self.limit and not current.preempt_count and not current.need_resched:
                self._pause_for_application(current)
                return False
        current = self.current
        if current.need_resched and not current.preempt_count and not current.irqs_disabled:
            self.preempt_schedule()
            return True
        return False

    def _pause_for_application(self, prev: Task) -> None:
        """Let the application have the CPU, and go on where it was: no scheduling point, and no choice.

        The state is put aside as in `preempt_schedule()`, in case the application wakes the task.
        """
        self.misses -= 1
        try:
            prev.saved_state = prev.state | TASK_PREEMPTED
            prev.state = TASK_RUNNING
            swapper = self._give_to_application(prev)
            if self.trace is not None:
                self.trace.sched_switch(prev, swapper)
            self.last = prev
            self.current = swapper
            swapper.switch_to()
            if self.post_switch:
                self.finish_task_switch()
        except ORDERLY:
            raise
        except BaseException:
            self.current = prev
            self.needs_repair, self.fifo = True, None
            raise
        finally:
            prev.state = prev.saved_state & ~TASK_PREEMPTED
            prev.saved_state = TASK_RUNNING

    # -- waking up

    def wake_up_process(self, task: Task) -> bool:
        """Make a sleeping task runnable; whether it was asleep (Linux: wake_up_process(), rule 114).

        Only TASK_INTERRUPTIBLE and TASK_UNINTERRUPTIBLE sleepers are woken, not a parked task.
        """
        if self.listener is not None:
            self.listener("wake", task)
        woken = self.try_to_wake_up(task)
        if self.after is not None:
            self.after()
        return woken

    def try_to_wake_up(self, task: Task, states: int = TASK_NORMAL) -> bool:
        """`wake_up_process` as part of a primitive, whose own scheduling point has been announced.

        Args:
            task: whom to wake.
            states: only a sleeper in one of these is woken.
        """
        if not task.state & states:
            return self._wake_preempted(task, states)
        if self.trace is not None:
            self.trace.sched_waking(task)
        try:
            task.state = TASK_RUNNING
            if task is not self.current:
                fifo = self.fifo
                if fifo is not None and task.prio >= MAX_RT_PRIO:
                    fifo.append(task)
                else:
                    self._enqueue(task)
        except BaseException:
            self.needs_repair, self.fifo = True, None
            raise
        return True

    wake_up_state = try_to_wake_up  # Linux's name for it where the states matter

    def _wake_preempted(self, task: Task, states: int) -> bool:
        if not task.saved_state & states:
            return False
        if self.trace is not None:
            self.trace.sched_waking(task)
        task.saved_state = TASK_RUNNING
        return True

    def _enqueue(self, task: Task) -> None:
        self.policy.enqueue_task(task)
        current = self.current
        if task.prio < current.prio:
            current.need_resched = True
            if not current.preempt_count and not current.irqs_disabled:
                self.preempt_schedule()

    def wake_up_new_task(self, task: Task) -> None:
        """Make a newborn runnable for the first time."""
        if self.trace is not None:
            self.trace.sched_wakeup_new(task)
        try:
            task.state = TASK_RUNNING
            fifo = self.fifo
            if fifo is not None and task.prio >= MAX_RT_PRIO:
                fifo.append(task)
            else:
                self._enqueue(task)
        except BaseException:
            self.needs_repair, self.fifo = True, None
            raise

    def sched_setscheduler(self, task: Task, policy: int, prio: int) -> None:
        """Change policy and priority; a runnable task moves to its new queue."""
        try:
            queued = task.state == TASK_RUNNING and task is not self.current and self.policy.dequeue_task(task)
            task.policy, task.prio = policy, prio
            if queued:
                self._enqueue(task)
            elif task is self.picked:
                self.swapper.need_resched = True  # another one may be more important now
            elif task is self.current:
                self.fifo = None  # the policy knows best when to show it again
                task.need_resched = True
                self.preempt_check()
        except BaseException:
            self.needs_repair, self.fifo = True, None
            raise

    def forget(self, task: Task) -> None:
        """A runnable task that has never run is dropped: do not run it."""
        if task is self.picked:
            self.picked = None
        else:
            self.policy.dequeue_task(task)

    # -- greenlets of a task's own, see arch/stacks.py

    def _stack_changed(self, task: Task) -> None:
        """The current task gives up the CPU in another greenlet than last time. Raises ForeignGreenlet."""
        try:
            task.stack = own_stack(task)
        except ForeignGreenlet:
            task.state = TASK_RUNNING
            raise
        self.arch.stack_changed(task)

    def turn_back(self, task: Task, cause: BaseException | None) -> None:
        """Other code than the scheduler has resumed `task`: raise ForeignGreenlet there, until the scheduler does it.

        Args:
            task: the task in whose greenlet this is called.
            cause: what the switch raised; raised again if it was the switch of the scheduler that failed.
        """
        # GreenletExit unwinds a greenlet that is collected, or that the kernel drops: never kept from it.
        if isinstance(cause, GreenletExit) or (
            cause is not None and (self.current is task or is_switched_out(self.current))
        ):
            raise cause
        came: object = cause
        while self.current is not task:
            came = raise_in_base(self.current, repr(task), came)
        if isinstance(came, BaseException):
            raise came

    # -- the other side of a switch

    def finish_task_switch(self) -> None:
        """Clean up after the task that ran before; runs in the one that runs now (rules 44, 113)."""
        try:
            self.post_switch = self.system_state is not _RUNNING or self.killing > 0 or bool(self.notifiers)
            last = self.last
            if last.state == TASK_DEAD and last.killed <= KILLED_SLEEPS:  # the frames of one that was given up stay
                self.on_dead(last)
        except BaseException:
            self.needs_repair, self.fifo = True, None
            raise
        current = self.current
        if current in self.notifiers:  # first: one may let its task wait for the place where it can be raised into
            self.notifiers[current]()
        if current.killed and current.state == TASK_RUNNING and current is not self.swapper:
            self._raise_killed(current)

    def schedule_tail(self) -> None:
        """The first thing a newborn does (rules 77, 83, 112)."""
        try:
            self.current.preempt_count = 0  # FORK_PREEMPT_COUNT in a newborn, 0 in a host task that comes back
            if self.post_switch:
                self.finish_task_switch()
        except ORDERLY:
            raise
        except BaseException:
            self.needs_repair, self.fifo = True, None
            raise

    def task_dead(self, prev: Task) -> Task:
        """The current task's last act: pick who runs next, for the architecture to go there (rule 117)."""
        prev.state = TASK_DEAD
        self.points = points = self.points + 1
        if self.releases_threads:
            self.post_switch = True
        fifo = self.fifo
        if points >= self.checkpoint or not fifo:
            next = self._pick_next_of_dead()
        else:
            next = fifo.popleft()
        if self.trace is not None:
            self.trace.sched_switch(prev, next)
        self.last = prev
        self.current = next
        return next

    def _pick_next_of_dead(self) -> Task:
        if self.needs_repair:
            repair(self)
        if self.points >= self.checkpoint:
            self.at_checkpoint()
        next = None if self.leave else self.policy.pick_next_task()
        if next is not None and next.state:
            next = self._refuse(next)
        if next is None:
            return self.swapper
        return self._give_to_application(next) if self.points >= self.limit else next

    def _refuse(self, next: Task) -> Task | None:
        """The policy has picked a task that is not runnable: the kernel stops, and the idle task runs."""
        self.on_bad_pick(next)
        return None

    def schedule_idle(self) -> bool:
        """Run tasks until the idle task is switched to; False if none is runnable (Linux: schedule_idle())."""
        swapper = self.swapper
        try:
            fifo = self.fifo
            picked = self.picked
            if picked is not None:
                next = self._continue_with(picked)
            elif fifo is None:
                if self.needs_repair:
                    repair(self)
                next = self.policy.pick_next_task()
                if next is not None and next.state:
                    self.on_bad_pick(next)
                    return True
            else:
                next = fifo.popleft() if fifo else None
            if next is None:
                return False
            swapper.need_resched = False
            self.idle_switches += 1
            if self.trace is not None:
                self.trace.sched_switch(swapper, next)
            self.last = swapper
            self.current = next
            self.arch.switch_from_idle(next)
            if self.post_switch:
                self.finish_task_switch()
        except BaseException:
            self.current = swapper
            self.needs_repair, self.fifo = True, None
            raise
        return True

    def _continue_with(self, picked: Task) -> Task | None:
        """The task that was to run next; another one if the application has woken a more important one meanwhile."""
        self.picked = None
        if not self.swapper.need_resched:
            return picked
        self.policy.enqueue_task(picked, True)
        next = self.policy.pick_next_task()
        return self._refuse(next) if next is not None and next.state else next

    # -- taking a task down

    def _raise_killed(self, task: Task) -> None:
        """End the sleep of a killed task. One that goes on sleeping is given up, so that halting cannot hang.

        A task that has PF_KILL_BLOCKED waits for what has to end before it can; a halt does not wait for that.
        """
        if task.flags & PF_KILL_BLOCKED and self.system_state is _RUNNING:
            return
        task.state = task.saved_state = TASK_RUNNING
        task.killed += 1
        if task.killed > KILLED_SLEEPS:
            self._abandon(task)
        raise TaskKilled(f"{task.comm}-{task.pid} is taken down: the kernel halts")

    def _abandon(self, task: Task) -> None:
        """Switch away from a task that swallows TaskKilled, for ever: nothing but not running it stops it."""
        if self.killing:
            self.killing -= 1
        self.on_abandoned(task)
        self.arch.abandon(task, self.task_dead(task))
        raise TaskAbandoned(f"{task.comm}-{task.pid} was given up and must not run again")

    # -- preemption

    def preempt_enable(self) -> None:
        """Undo one `preempt_disable()`; the last one lets a more important task run. Raises KernelBug without one."""
        current = self.current
        count = current.preempt_count = current.preempt_count - 1
        if not count:  # as most often; the look for a mistake costs nothing here
            if current.need_resched and not current.irqs_disabled:
                self.preempt_schedule()
        elif count & PREEMPT_MASK == PREEMPT_MASK:  # counted down from 0, and borrowed from the fields above
            current.preempt_count = count + PREEMPT_OFFSET
            raise preempt_count_underflow(current, "preempt_enable()", "preempt_disable()")

    def preempt_check(self) -> None:
        """Where an interrupt or a bottom half ends: let a more important task run."""
        current = self.current
        if current.need_resched and not current.preempt_count and not current.irqs_disabled:
            self.preempt_schedule()

    def preempt_disable(self) -> None:
        """Forbid `schedule()` until `preempt_enable()`."""
        self.current.preempt_count += 1

    def check_thread(self, what: str) -> None:
        """Raises WrongThread on an OS thread other than the owner's, if no task runs and the kernel does not halt."""
        if self.current is self.swapper and get_ident() != self.owner and self.system_state is _RUNNING:
            raise WrongThread(
                f"{what} from an OS thread that does not run the kernel: it may sleep, and would not notice; raise an "
                "interrupt with lkl_trigger_irq(), and do it in the handler"
            )

    def leave_soon(self) -> None:
        """Make the current task give up the CPU to the application at its next scheduling point."""
        self.leave = True
        self.checkpoint = 0


def preempt_count_underflow(task: Task, enable: str, disable: str) -> KernelBug:
    """The error for enabling what is not disabled (Linux: DEBUG_PREEMPT)."""
    return KernelBug(
        f"BUG: {enable} without a {disable} before it in {task.comm}-{task.pid}: preempt_count underflow; call them in "
        "pairs, each in the task that called the other"
    )


def signal_ends_sleep(task: Task) -> bool:
    """Whether a pending signal ends the sleep in the task's state: SIGKILL each, others an interruptible one."""
    return bool(task.state & TASK_INTERRUPTIBLE) or 9 in (task.signals or ())
