"""`lkl_run()`: the idle loop, run by the application.

    while True:                      what Johannes Berg wrote: while (1) { lkl_run(); pause(); }
        status = kernel.lkl_run()
        kernel.pause(status)

Linux's idle loop looks for a runnable task, switches to it, and sleeps when there is none. `lkl_run()` is that loop
without the sleep: it returns, and says until when there is nothing to do. LKL needs a task, idle_host_task, whose only
purpose is to own the CPU while it is given away in idle (rules 58 to 61); here swapper is `current` whenever the kernel
does not run, so there is no such task and no such switch.

Leaving early, for `RunUntil.SWITCH`, a budget, a panic or a halt, is a switch to swapper like any other: the next task
that passes a scheduling point finds the checkpoint reached, and swapper gets the CPU. It works the same in every
configuration, and the trace shows it.

*One program, however the application cuts up its calls.* Under a virtual clock, a program must do the same whether the
application calls `lkl_run()` once or leaves it at every switch. Therefore a call that continues in the middle, with the
task in `sched.picked`, first lets that task go on. It reads no clock and delivers nothing: one long call would not have
been in swapper at this moment. Events are taken in where the idle task runs because no task is runnable, and at the
checkpoints of tasks; `_next_poll` counts the scheduling points between these, whatever the limits of the calls are.
"""

from __future__ import annotations

import enum
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # see kernel/interrupt.py
from collections import deque
from os import getpid
from signal import SIGINT, default_int_handler
from typing import TYPE_CHECKING, Any

from lkl_green.errors import Deadlock, KernelHalted, ReentrantRun, WrongThread
from lkl_green.host.native import get_ident
from lkl_green.kernel.current import running_here
from lkl_green.kernel.interrupt import defer_sigint, restore_sigint
from lkl_green.kernel.sched import NEVER, POLL_POINTS
from lkl_green.kernel.state import SystemState

if TYPE_CHECKING:
    from lkl_green.host.native import LockType
    from lkl_green.kernel.kernel import Kernel


_RUNNING, _HALTED = SystemState.RUNNING, SystemState.HALTED


class RunUntil(enum.Enum):
    """When `lkl_run()` returns, if not earlier."""

    IDLE = "idle"
    SWITCH = "switch"


class RunReason(enum.Enum):
    """Why `lkl_run()` returned."""

    IDLE = "idle"
    HALTED = "halted"
    SWITCHED = "switched"
    BUDGET = "budget"
    DEADLOCK = "deadlock"


# Naming a member through its class costs half a context switch; lkl_run() names several.
_SWITCH = RunUntil.SWITCH
_IDLE, _SWITCHED, _BUDGET = RunReason.IDLE, RunReason.SWITCHED, RunReason.BUDGET


class RunStatus:
    """What `lkl_run()` returns.

    Attributes:
        reason: why it returned.
        next_event_ns: when the first timer is due, on `kernel.clock`; None if none is armed.
        report: for DEADLOCK, who waits for what, with stacks.
    """

    __slots__ = ("next_event_ns", "reason", "report")

    def __init__(self, reason: RunReason, next_event_ns: int | None, report: str = "") -> None:
        self.reason = reason
        self.next_event_ns = next_event_ns
        self.report = report

    def __repr__(self) -> str:
        return f"<RunStatus {self.reason.name} next_event_ns={self.next_event_ns}>"


class RunLoop:
    """The idle loop of one kernel, and its checkpoints."""

    __slots__ = (
        "_clock_is_virtual",
        "_deadline_ns",
        "_host",
        "_idle_status",
        "_in_main_thread",
        "_irq",
        "_kernel",
        "_next_look",
        "_next_poll",
        "_next_tick",
        "_owner",
        "_pid",
        "_posts",
        "_progress",
        "_readiness",
        "_sched",
        "_timers",
        "fatal",
        "left",
        "running",
        "was_idle",
    )

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sched = kernel.sched
        self._irq = kernel.irq
        self._timers = kernel.timers
        self._host = kernel.host
        self._readiness = kernel.readiness
        self._progress = kernel.progress
        self._posts: deque[object] = deque()
        self._clock_is_virtual = kernel.clock.is_virtual
        self._owner = get_ident()
        self._in_main_thread = self._owner == threading.main_thread().ident
        # Where tasks are OS threads, which the child of a fork does not have; 0 where they are not.
        self._pid = getpid() if kernel.host.foreign_threads_run_kernel else 0
        self._next_poll = POLL_POINTS
        self._next_tick = POLL_POINTS
        self._next_look = 0
        self._deadline_ns = NEVER
        self._idle_status = RunStatus(_IDLE, None)  # what is returned most often is made once
        self.running = False
        # The kernel had nothing to do while a timer was armed; the detector of livelocks takes it back.
        self.was_idle = False
        # An exception that is the application's, not a task's: KeyboardInterrupt, SystemExit.
        self.fatal: BaseException | None = None
        # Held from a Ctrl-C until `lkl_run()` raises its KeyboardInterrupt; None if no Ctrl-C came.
        self.left: LockType | None = None

    def attach(self, posts: deque[Any]) -> None:
        """Watch the box of posts, which exists only once the host has been initialised."""
        self._posts = posts

    def rewind(self) -> None:
        """Scheduling points are counted from 0 again."""
        self._sched.limit = NEVER
        self._next_poll = self._next_tick = POLL_POINTS

    # -- lkl_run()

    def run(self, until: RunUntil, max_switches: int | None, budget_ns: int | None) -> RunStatus:
        """See `Kernel.lkl_run`."""
        kernel = self._kernel
        if self._sched.system_state is _HALTED:
            if kernel.panicked is None:
                return RunStatus(RunReason.HALTED, None)
            raise KernelHalted("lkl_run() after a kernel panic: the kernel has stopped for good")
        if self.running or get_ident() != self._owner:
            self.check_caller("lkl_run()")
        if self._in_main_thread and getsignal(SIGINT) is default_int_handler:
            defer_sigint()
        limit = NEVER if max_switches is None else max_switches
        early = _BUDGET
        if until is _SWITCH:
            limit, early = 1, _SWITCHED
        self._sched.limit = self._sched.points + limit
        self._deadline_ns = NEVER if budget_ns is None else kernel.host.time() + budget_ns
        return self._enter_and_run(early)

    def run_slice(self, max_switches: int, budget_ns: int) -> RunStatus:
        """`run()` until idle within both budgets, by the driver of an event loop, who knows where it is."""
        kernel = self._kernel
        if self._sched.system_state is _HALTED or self.running:
            return self.run(RunUntil.IDLE, max_switches, budget_ns)
        self._sched.limit = self._sched.points + max_switches
        self._deadline_ns = kernel.host.time() + budget_ns
        return self._enter_and_run(_BUDGET)

    def run_until_idle(self) -> RunStatus:
        """`run()` without limits, by a caller that `check_caller` has let through."""
        if self._in_main_thread and getsignal(SIGINT) is default_int_handler:
            defer_sigint()
        self._sched.limit = self._deadline_ns = NEVER
        return self._enter_and_run(_BUDGET)

    def _enter_and_run(self, early: RunReason) -> RunStatus:
        """Make the caller swapper's context, and this kernel the one whose code runs on this OS thread, for a while."""
        kernel = self._kernel
        if self._pid and self._pid != getpid():
            raise kernel.owner.forked("lkl_run()")
        outer = running_here.kernel
        try:
            running_here.kernel = kernel
            self.running = True
            kernel.arch.enter()
            status = self._run(early)
            if self._sched.system_state is not _HALTED:
                kernel.arch.leave()
            self.running = False
            running_here.kernel = outer
        except BaseException as error:  # not `finally`: an exception may come in the lines above, too
            self.running = False
            running_here.kernel = outer
            self._left_by(error)
            raise
        return status

    def _left_by(self, error: BaseException) -> None:
        """`lkl_run()` ends with an exception: no kernel code runs any more, and swapper is current."""
        kernel, sched = self._kernel, self._sched
        left, self.left = self.left, None
        if left is not None:
            left.release()
        if sched.current is not sched.swapper:  # cannot be, because `schedule_idle()` restores it
            lost, sched.current = sched.current, sched.swapper
            kernel.panic(f"{type(error).__name__} in the scheduler: {lost.comm}-{lost.pid} cannot go on", error)
        if not kernel.halted:
            kernel.arch.leave_after_exception()

    def check_caller(self, what: str) -> None:
        """Only the owner's application context may. Raises WrongThread or ReentrantRun."""
        if get_ident() == self._owner and not self.running:
            return
        if self._kernel.arch.runs_current():
            raise ReentrantRun(
                f"{what} inside kernel thread {self._sched.current!r}: a kernel thread sleeps or calls schedule(); "
                "running the kernel is the application's part"
            )
        if get_ident() != self._owner:
            raise WrongThread(
                f"{what} from an OS thread that does not own the kernel: it belongs to the thread that called "
                "lkl_start_kernel(); other threads use lkl_syscall() and lkl_trigger_irq()"
            )
        raise ReentrantRun(f"{what} while lkl_run() runs: called from an interrupt handler, a callback or a policy")

    def _run(self, early: RunReason) -> RunStatus:
        sched = self._sched
        irq = self._irq
        sched.leave = False
        # After the line above: another OS thread that wants the kernel to stop says so first and sets `leave` then.
        if self.fatal is not None or self._kernel.stopping:
            sched.leave = True
        if sched.picked is not None or self._host.made_poller is not None:
            self._look_on_entry()
        while True:
            if sched.picked is None and (sched.leave or sched.points < sched.limit):
                self._next_poll = next_poll = sched.points + POLL_POINTS
                sched.checkpoint = 0 if sched.killing else next_poll
                if sched.checkpoint > sched.limit:
                    sched.checkpoint = sched.limit
                if irq.raised or irq.held or self._posts or self._timers.next_ns != NEVER:
                    self.take_events()
            if sched.leave or sched.points >= sched.limit:
                return self._leave(early)
            if sched.schedule_idle():
                if sched.fifo is None or sched.fifo or sched.leave or sched.points >= sched.limit:
                    continue
                if not (irq.raised or irq.held or self._posts or self._timers.next_ns != NEVER):
                    return self._idle()  # as most often; another turn would find the same
            elif not irq.raised:
                return self._idle()
            else:  # an interrupt that raises itself lets no scheduling point pass
                if self._over_budget():
                    return RunStatus(early, self.next_event_ns)
                self._progress.tick()

    def _look_on_entry(self) -> None:
        """Look at descriptors; and at all else where the call continues in the middle, on a real clock.

        A virtual clock has stood still since the last call, and what comes from outside waits until the kernel is idle.
        """
        sched = self._sched
        if self._host.made_poller is not None:
            self._look_at_descriptors()
        if sched.picked is None:
            return
        if sched.checkpoint:  # at 0 the task has left something that its next point is to look at
            sched.checkpoint = 0 if self._irq.raised else min(self._next_poll, sched.limit)
        if not self._clock_is_virtual:
            self.take_events()

    def _leave(self, early: RunReason) -> RunStatus:
        """The kernel stops, or has an exception for the application, or what `lkl_run()` was allowed is used up."""
        if self.fatal is None and self._kernel.stopping:
            self._stop()
            if self.fatal is None:
                return RunStatus(RunReason.HALTED, None)
        if self.fatal is not None:
            fatal, self.fatal = self.fatal, None
            raise fatal
        return RunStatus(early, self.next_event_ns)

    def _stop(self) -> None:
        """A panic, or somebody powers the kernel off."""
        kernel = self._kernel
        if kernel.panicked is not None:
            raise kernel.panicked
        kernel.reboot.halt()

    def _idle(self) -> RunStatus:
        next_ns = self._timers.next_ns
        if next_ns != NEVER:
            self.was_idle = True
            return RunStatus(_IDLE, next_ns)
        if not self._kernel.open_ended and not self._irq.has_sources:
            report = self._kernel.reports.deadlock("nothing can ever run again")
            if report:
                return RunStatus(RunReason.DEADLOCK, None, report)
        return self._idle_status

    @property
    def next_event_ns(self) -> int | None:
        """When the first timer is due."""
        next_ns = self._timers.next_ns
        return None if next_ns == NEVER else next_ns

    def hopeless(self, status: RunStatus) -> bool:
        """Whether a caller that waits for the kernel would wait for ever."""
        if status.reason is RunReason.DEADLOCK:
            return True
        kernel = self._kernel
        no_event = status.reason is _IDLE and status.next_event_ns is None
        return no_event and not kernel.expects_calls and not kernel.irq.has_sources and not self._posts

    # -- checkpoints

    def take_events(self) -> None:
        """Where the idle task runs: everything from outside may come in."""
        self._timers.poll()
        irq = self._irq
        # Under a virtual clock, what host threads send is held back while a task is runnable; see kernel/irq.py.
        if not self._clock_is_virtual or self._sched.is_idle():
            irq.release_held()
            if self._posts:
                self._kernel.host_tasks.take_posts()
        if irq.raised:
            irq.deliver()

    def at_checkpoint(self) -> bool:
        """The slow path of `schedule()` and `cond_resched()`: see the scheduler's essay, point 2.

        Returns:
            whether it looked at events. If not, the application wants the CPU (`sched.limit`), and that is all.
        """
        sched = self._sched
        points = sched.points
        if self._clock_is_virtual and sched.checkpoint and points < self._next_poll and not self._irq.raised:
            return False
        self._next_poll = points + POLL_POINTS
        # Before the looks, so that what another OS thread announces from here on is seen at the next point.
        sched.checkpoint = min(self._next_poll, sched.limit)
        self._timers.poll()
        if not self._clock_is_virtual:
            if self._posts:
                self._kernel.host_tasks.take_posts()
            if self._host.made_poller is not None and points >= self._next_look:
                self._look_at_descriptors()
        if self._irq.raised:
            self._irq.deliver()
            if self._irq.raised:
                sched.checkpoint = 0  # interrupts are disabled here: the next point of another task delivers them
        if points >= self._next_tick:  # what made us look early, an interrupt for instance, ends no time slice
            self._next_tick = points + POLL_POINTS
            sched.policy.task_tick(sched.current)
            self._progress.tick()
        if self._over_budget():
            sched.limit = points
            sched.checkpoint = min(sched.checkpoint, points)
        if sched.leave:
            sched.current.need_resched = True
        if sched.leave or sched.system_state is not _RUNNING or sched.killing:
            sched.checkpoint = 0
        return True

    @property
    def has_events(self) -> bool:
        """Whether something from outside waits to be taken in; a loop of one's own looks before it sleeps."""
        irq = self._irq
        return bool(irq.raised or self._posts or (irq.held and not irq.expected))

    def _look_at_descriptors(self) -> None:
        """A system call, so not as often as the rest; idle leaves it to pause(), which waits for them anyway."""
        sched = self._sched
        self._next_look = sched.points + POLL_POINTS
        if not self._clock_is_virtual or sched.is_idle():
            self._readiness.look()

    def _over_budget(self) -> bool:
        return self._deadline_ns != NEVER and self._kernel.host.time() >= self._deadline_ns

    def interrupted(self, error: BaseException) -> None:
        """A signal handler raised `error` while the owner waited for a kernel thread: leave with it soon."""
        self.fatal = error
        self._sched.leave_soon()

    def give_sigint_back(self) -> None:
        """The kernel has halted: Ctrl-C is Python's again."""
        if self._in_main_thread:
            restore_sigint()

    # -- pause()

    def pause(self, status: RunStatus | None) -> None:
        """See `Kernel.pause`."""
        kernel = self._kernel
        self.check_caller("pause()")
        if status is not None:
            if status.reason is RunReason.DEADLOCK:
                raise Deadlock(status.report)
            if status.reason is not _IDLE:
                return
        sched = self._sched
        if (
            sched.system_state is _HALTED
            or self.fatal is not None
            or self._irq.raised
            or self._posts
            or not sched.is_idle()
        ):
            return
        if kernel.clock.is_virtual:
            self._pause_virtual()
            return
        self._sleep_on_host(min(kernel.timers.next_ns, kernel.hung_tasks.due_ns))

    def _sleep_on_host(self, wake_ns: int) -> None:
        """Until the doorbell rings, or a timer is due, or it is time to look for hung tasks."""
        kernel, progress = self._kernel, self._progress
        before_ns = progress.idle_since_ns = kernel.clock.peek_ns()
        try:
            kernel.host.idle_sleep(None if wake_ns == NEVER else max(wake_ns - before_ns, 0))
        finally:
            progress.idle_since_ns = None
        if kernel.clock.peek_ns() >= progress.due_ns:
            progress.time_passed(before_ns)

    def _pause_virtual(self) -> None:
        """Wait for the host's part, which takes no virtual time; else jump to the next timer (rule 90)."""
        kernel = self._kernel
        if self._readiness.look():
            return
        if kernel.irq.expected or self._readiness.expected:
            kernel.host.idle_sleep(None)
        elif kernel.irq.held:
            return
        elif (next_ns := kernel.timers.next_ns) != NEVER:
            before_ns = kernel.clock.peek_ns()
            if next_ns > before_ns:
                kernel.clock.advance_to(next_ns)
                if next_ns >= self._progress.due_ns:
                    self._progress.time_passed(before_ns)
            else:
                kernel.clock.now_ns()  # a callback armed a timer for now: if no time passed, now would never end
                kernel.livelock.crept(before_ns)
        else:
            kernel.host.idle_sleep(None)
