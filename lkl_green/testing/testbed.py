"""A kernel to run schedules in, one after another.

A booted kernel serves many schedules: after one that ended cleanly it is rewound, after any other it is halted, which
unwinds what is left of the test, and the next schedule gets a new one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

from lkl_green.boot import lkl_start_kernel
from lkl_green.errors import HaltTimeout, KernelPanic, ScheduleAborted
from lkl_green.host.collector import collector
from lkl_green.host.faulty import FaultyHost
from lkl_green.host.greenlets import GreenletHost
from lkl_green.host.threads import ThreadHost
from lkl_green.kernel.loop import RunReason, RunUntil
from lkl_green.kernel.rewind import Rewind
from lkl_green.kernel.task import TASK_NOLOAD, TASK_RUNNING
from lkl_green.kernel.taskend import TaskEnd
from lkl_green.testing.campaign_watchdog import CampaignWatchdog
from lkl_green.testing.controller import Controller
from lkl_green.testing.counted import CountedNames
from lkl_green.testing.detect.ending import ends_campaign, is_failure, verdict_of
from lkl_green.testing.detect.heldlocks import mutexes_left_held
from lkl_green.testing.disabling import DisablingController
from lkl_green.testing.run import Run, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from lkl_green.host.ops import HostOps
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task
    from lkl_green.testing.policies.base import Policy
    from lkl_green.testing.settings import ScheduleSettings

_UNTIL_IDLE, _HALTED = RunUntil.IDLE, RunReason.HALTED
_HALT_TIMEOUT_S = 1.0

# Schedules between two collections of young garbage, and of all.
_COLLECT_EVERY = 64
_COLLECT_ALL_EVERY = 4096

_CONFIGURATIONS: dict[str, tuple[type[GreenletHost | ThreadHost], str]] = {
    "direct": (GreenletHost, "direct"),
    "hosted": (GreenletHost, "semaphore"),
    "pthreads": (ThreadHost, "semaphore"),
}


class Testbed:
    """Runs schedules of tests, each in a kernel that is as good as new.

    Args:
        settings: how each schedule is run. `threads` and `lockdep` are for the campaign.
        configuration: "direct", "hosted" or "pthreads": how tasks are switched, which no schedule can tell. "direct"
            becomes "hosted" with `host_faults`, because it needs no host operation to make a task.
    """

    __test__ = False  # pytest looks for classes of this name

    def __init__(self, settings: ScheduleSettings, configuration: str = "direct") -> None:
        self.settings = settings
        self.max_steps = settings.max_steps
        if configuration == "threads":
            raise ValueError("configuration='threads': kernel threads that are OS threads are called 'pthreads' now")
        if configuration not in _CONFIGURATIONS:
            raise ValueError(f"configuration={configuration!r}: use {', '.join(map(repr, _CONFIGURATIONS))}")
        self.configuration = "hosted" if settings.host_faults and configuration == "direct" else configuration
        self.names = CountedNames()
        self._watchdog: CampaignWatchdog | None = None
        self._kernel: Kernel | None = None
        self._controller: Controller
        self._rewind: Rewind
        self._base = 0
        self._end = TaskEnd()  # of "main", for whose end nothing waits
        self._runs = 0
        self.boots = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Halt the kernel that is left."""
        if self._runs:
            self._runs = 0
            collector.let_go()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._kernel is not None:
            self._discard(self._kernel)

    def limit(self, max_steps: int) -> None:
        """From the next schedule on, take one for endless after so many operations."""
        self.max_steps = max_steps
        if self._kernel is not None:
            self._connect(self._kernel)

    # -- one schedule

    def run(
        self,
        test: Callable[[], object],
        policy: Policy,
        dissect: Callable[[Kernel, Run], None] | None = None,
    ) -> Run:
        """Run `test` as a kernel thread named "main", under `policy`, until every task has ended or none can go on.

        Args:
            test: the test.
            policy: decides the schedule.
            dissect: called at the end with the kernel, which still stands as it stopped, and what came of the run.

        Raises:
            BaseException: one that says nothing of the test, and ends the campaign: KeyboardInterrupt, BdbQuit,
                pytest's Exit and Skipped.
        """
        kernel = self._kernel or self._boot()
        controller = self._controller
        self._collect_garbage()
        run = Run()
        main = kernel.fork.create_thread(self._end, self._main, test, "main", parent=kernel.init_task)
        kernel.sched.wake_up_new_task(main)
        controller.begin(policy, run)
        try:
            self._run_to_the_end(kernel, controller)
        except KernelPanic as panic:
            run.error = panic.__cause__ or panic
            run.verdict = verdict_of(run.error)
        except ScheduleAborted:
            pass  # where the application's stack is the idle task's; the verdict is in the run
        except BaseException as error:
            if not is_failure(error):
                raise
            self._note(run, error)
        finally:
            controller.finish()
        policy.end(run)
        run.time_ns = kernel.clock.peek_ns()
        self._judge(run, kernel, main)
        if run.error is not None and ends_campaign(run.error):
            raise run.error
        if dissect is not None:
            dissect(kernel, run)
        controller.forget()
        if not self._rewind.rewind():
            self._discard(kernel)
        return run

    def _collect_garbage(self) -> None:
        """The collector is off, or finalisers would run at points that depend on everything that was ever allocated."""
        self._runs = runs = self._runs + 1
        if runs == 1:
            collector.keep_off()
        elif runs % _COLLECT_EVERY == 0:
            collector.collect(2 if runs % _COLLECT_ALL_EVERY == 0 else 1)

    def _main(self, test: Callable[[], object]) -> None:
        try:
            test()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """An exception left the test: no more of this schedule, if there is more."""
        run, kernel = self._controller.run, self._kernel
        self._note(run, error)
        assert kernel is not None
        if len(kernel.pids.tasks) > self._base + 1:
            self._controller.cut_off()

    def _note(self, run: Run, error: BaseException) -> None:
        """The first failure counts: a test that has failed may block in its tear-down, or raise while it is unwound."""
        if run.passed:
            run.verdict, run.error = verdict_of(error), error

    def _run_to_the_end(self, kernel: Kernel, controller: Controller) -> None:
        """The idle loop, in virtual time."""
        loop = kernel.loop
        while True:
            status = loop.run(_UNTIL_IDLE, None, None)
            if status.reason is _HALTED:
                return
            if controller.release_parked():
                continue
            if status.next_event_ns is None and not kernel.irq.raised:
                if controller.release_held():
                    continue
                return
            loop.pause(status)

    def _judge(self, run: Run, kernel: Kernel, main: Task) -> None:
        """Nothing went wrong and nothing can happen: was that the end?"""
        if not run.passed:
            return
        if len(kernel.pids.tasks) != self._base and self._any_stuck(kernel):
            run.verdict = Verdict.LEAKED if main.exit_state else Verdict.DEADLOCK
        elif run.escape is not None:
            run.verdict, run.error = Verdict.ESCAPED, run.escape
        elif kernel.exits.locks_left:
            run.verdict, run.detail = Verdict.HELD, mutexes_left_held(kernel)

    def _any_stuck(self, kernel: Kernel) -> bool:
        """Whether a task sleeps that is no service thread."""
        return any(
            task.state != TASK_RUNNING and not task.state & TASK_NOLOAD and not task.exit_state for task in kernel.pids
        )

    # -- kernels

    def _boot(self) -> Kernel:
        disabling = self.settings.held_locks == "disable"
        controller = DisablingController(self.names) if disabling else Controller(self.names)
        make_host, switch = _CONFIGURATIONS[self.configuration]
        host: HostOps = make_host()
        if self.settings.host_faults:
            host = FaultyHost(host, lambda operation: controller.choose(f"fault {operation}", 2) == 1)
        kernel = lkl_start_kernel(
            None,
            host=host,
            switch=switch,
            clock="virtual",
            policy=controller,
            name="test",
            livelock_points=None,  # `max_steps` is the limit here
            loglevel=0,
        )
        if self.settings.watchdog_s is not None and self._watchdog is None:
            self._watchdog = CampaignWatchdog(self.settings.watchdog_s, lambda: self._kernel)
        self._controller = controller
        self._connect(kernel)
        kernel.lkl_run()
        self._kernel = kernel
        self._base = len(kernel.pids.tasks)
        self._rewind = Rewind(kernel)
        self._rewind.rewind()  # counters, too, begin as they do in every later schedule
        self.boots += 1
        return kernel

    def _connect(self, kernel: Kernel) -> None:
        self._controller.connect(
            kernel,
            self.max_steps,
            explore_time=self.settings.explore_time,
            explore_irqs=self.settings.explore_irqs,
            memory=self.settings.in_memory,
            after_points=self.settings.after_points,
        )

    def _discard(self, kernel: Kernel) -> None:
        """Halt a kernel in whatever state it is; what its tasks do while they are unwound is nobody's business."""
        self._kernel = None
        if kernel.halted:
            return
        with suppress(HaltTimeout, ScheduleAborted):
            kernel.lkl_sys_halt(_HALT_TIMEOUT_S)
