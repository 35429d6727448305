"""A kernel, put together: the parts, and the application's side of them.

`Kernel` owns every object of a kernel. It does little itself: the application's calls are a line or two each, and the
parts know one another through it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Self

from lkl_green.arch.direct import DirectArch
from lkl_green.arch.semaphore import SemaphoreArch
from lkl_green.errors import AlreadyEmbedded, KernelBug, KernelHalted, KernelPanic, TimeLimit, WrongThread
from lkl_green.host.clock import Clock, MonotonicClock
from lkl_green.host.native import Event, get_ident
from lkl_green.kernel.binding import Bindings
from lkl_green.kernel.cpu_hooks import Hooks
from lkl_green.kernel.current import running_here
from lkl_green.kernel.exec import Exec
from lkl_green.kernel.exit import Exits
from lkl_green.kernel.fork import Fork
from lkl_green.kernel.hung_task import HungTasks
from lkl_green.kernel.init import Init
from lkl_green.kernel.irq import InterruptController
from lkl_green.kernel.kthread import KThreads
from lkl_green.kernel.livelock import LivelockDetector
from lkl_green.kernel.loop import RunLoop, RunStatus, RunUntil
from lkl_green.kernel.nocopy import NoCopy
from lkl_green.kernel.panic import Faults
from lkl_green.kernel.printk import Printk
from lkl_green.kernel.progress import ProgressMeasure
from lkl_green.kernel.readiness import Readiness
from lkl_green.kernel.reboot import DEFAULT_TIMEOUT_S, Reboot
from lkl_green.kernel.report import KernelStatistics, Reports
from lkl_green.kernel.sched import Scheduler
from lkl_green.kernel.signal import Signals
from lkl_green.kernel.softirq import Softirqs, TaskletQueue
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.syscall import Sys, Syscalls
from lkl_green.kernel.task import SOFTIRQ_OFFSET, TASK_RUNNING, PidTable, Task
from lkl_green.kernel.timer import Timers
from lkl_green.kernel.tracepoint import Accounting, Tracepoints
from lkl_green.kernel.watchdog import Watchdog
from lkl_green.kernel.workqueue import Workqueues

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from lkl_green.arch.base import Arch
    from lkl_green.host.ops import HostOps
    from lkl_green.kernel.filelayer import FileLayer
    from lkl_green.kernel.hosttask import HostTasks
    from lkl_green.kernel.owner import Owner
    from lkl_green.kernel.policy import SchedulingPolicy
    from lkl_green.kernel.tracepoint import TraceRecord

_RUNNING, _HALTED = SystemState.RUNNING, SystemState.HALTED

VERSION = "6.1.0-lkl_green"


class Kernel(NoCopy):
    """One kernel; made by `lkl_start_kernel()`.

    Attributes:
        name: shown by uname.
        clock: its time.
        sys: system calls that raise OSError.
        stopping: whether it has been asked to halt, by any OS thread.
        panicked: the exception of a panic; None if there was none.
        init_task: pid 1.
        init_result: what init returned; valid once halted.
        left_blocked: when init has ended: the report of tasks that were blocked for good then; "" if there were none.
        open_ended: whether the application may still call in when nothing else can happen.
        has_init: whether pid 1 runs a function of the application, at whose end the kernel halts.
        embedding: who runs it inside an event loop; None while nobody does.
        fs: the open files; what is above the kernel puts it in before boot.
    """

    def __init__(
        self,
        host: HostOps,
        switch: str,
        clock: Clock | None,
        policy: SchedulingPolicy,
        *,
        on_oops: str,
        name: str,
        open_ended: bool | None,
        init: Callable[..., Any] | None,
        init_args: tuple[Any, ...],
        watchdog_ns: int | None,
        livelock_points: int | None,
        hung_task_timeout_ns: int | None,
        loglevel: int,
    ) -> None:
        self.name = name
        self.version = VERSION
        self.host = host
        self.clock: Clock = MonotonicClock(host) if clock is None else clock
        self.expects_calls = open_ended is True
        self.open_ended = init is None if open_ended is None else open_ended
        self.has_init = init is not None
        self.embedding: Any = None
        self.stopping = False
        self.panicked: KernelPanic | None = None
        self.init_result: Any = None
        self.left_blocked = ""
        self.init_task: Task
        self._owner = get_ident()
        self.halted_event = Event()

        self.arch: Arch = DirectArch() if switch == "direct" else SemaphoreArch(host, Hooks(self))
        self.pids = PidTable()
        self.printk = Printk(host, self.clock, loglevel)
        self.fork = Fork(self)
        swapper = self.fork.fork_idle()
        swapper.state = TASK_RUNNING
        self.sched = Scheduler(swapper, policy, self.arch)
        self.fork.attach(self.sched)
        self.signals = Signals(self)
        self.exec = Exec(self)
        self.exits = Exits(self)
        self.bindings = Bindings(self)
        self.irq = InterruptController(self)
        self.readiness = Readiness(self)
        self.softirq = Softirqs(self)
        self.tasklets = TaskletQueue(self.softirq)
        self.timers = Timers(self)
        self.kthreads = KThreads(self)
        self.workqueues = Workqueues(self)
        self.syscalls = Syscalls(self)
        self.sys = Sys(self.lkl_syscall)
        self.progress = ProgressMeasure(self)
        self.hung_tasks = HungTasks(self, hung_task_timeout_ns)
        self.livelock = LivelockDetector(self, livelock_points)
        self.loop = RunLoop(self)
        self.faults = Faults(self, on_oops)
        self.init = Init(self, init, init_args)
        self.reboot = Reboot(self)
        self.reports = Reports(self)
        self.watchdog = Watchdog(self, watchdog_ns)
        self.host_tasks: HostTasks
        self.owner: Owner
        self.fs: FileLayer
        self._connect(switch)

    def _connect(self, switch: str) -> None:
        """Tell the scheduler whom to call."""
        sched = self.sched
        sched.at_checkpoint = self.loop.at_checkpoint
        sched.ret_from_fork = self.fork.ret_from_fork if switch == "direct" else self._ret_from_fork_on_host_thread
        sched.interrupted = self.loop.interrupted
        sched.on_dead = self.arch.release_thread
        sched.on_abandoned = self.reboot.abandon
        sched.on_bad_pick = self.faults.bad_pick
        sched.tasks = self.pids

    def _ret_from_fork_on_host_thread(self) -> Task:
        """A host thread that runs one task may be an OS thread, on which no kernel has run before."""
        running_here.kernel = self
        return self.fork.ret_from_fork()

    @property
    def halting(self) -> bool:
        """Whether its tasks are being taken down, or have been."""
        return self.sched.system_state is not _RUNNING

    @property
    def halted(self) -> bool:
        """Whether it has come to its end."""
        return self.sched.system_state is _HALTED

    def power_off(self) -> None:
        """Halt as soon as the current task gives up the CPU (kernel_power_off())."""
        self.stopping = True
        self.reboot.asked_by = self.sched.current
        self.sched.leave_soon()
        if self.embedding is not None:
            self.embedding.touched()

    # -- the application's side

    def lkl_run(
        self, until: RunUntil = RunUntil.IDLE, max_switches: int | None = None, budget_ns: int | None = None
    ) -> RunStatus:
        """Run kernel threads until there is nothing to do.

        Args:
            until: RunUntil.SWITCH returns at each task switch, and so leaves scheduling the kernel against the
                application to the application.
            max_switches: return after so many calls of `schedule()`.
            budget_ns: return after so much time on the host's clock, at a scheduling point.

        Returns:
            why it returned, and when the next timer is due.

        Raises:
            KernelPanic: from the exception of an oops; the kernel has stopped.
            KeyboardInterrupt: Ctrl-C; the kernel has given up the CPU and can be run again. A second Ctrl-C before that
                is raised where the main thread is. Only in the main thread, and only instead of Python's own handler.
            WrongThread, ReentrantRun, KernelHalted: see there.
        """
        return self.loop.run(until, max_switches, budget_ns)

    def pause(self, status: RunStatus | None = None) -> None:
        """Sleep on the host until an interrupt comes or the next timer is due; virtual time jumps there instead.

        Args:
            status: what `lkl_run()` returned; unless that is IDLE there is nothing to wait for.

        Raises:
            Deadlock: the status says that nothing will ever come.
            AlreadyEmbedded: somebody else's loop runs the kernel, which would stand still.
        """
        self._check_not_embedded("pause()")
        self.loop.pause(status)

    def run(self) -> Any:
        """`lkl_run()` and `pause()` until the kernel has halted; init's return value.

        An exception halts the kernel before it leaves. The KeyboardInterrupt of a Ctrl-C has `report()` as a note.
        """
        if not self.halted:  # before the `try`: who may not run it must not halt it either
            self.loop.check_caller("run()")
            self._check_not_embedded("run()")
        sched = self.sched
        try:
            while sched.system_state is not _HALTED:  # as `halted`, without a call on each turn
                self.pause(self.lkl_run())
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | TimeLimit) and not hasattr(error, "__notes__"):
                error.add_note(self.report())  # before the halt takes the tasks away
            self.reboot.halt_quietly()
            raise
        return self.init_result

    def _check_not_embedded(self, what: str) -> None:
        if self.embedding is not None:
            raise AlreadyEmbedded(
                f"{what} of kernel {self.name}, which an event loop runs: it would stop that loop. To wait for the "
                "kernel's end, leave the block of running(), or `await k.halted()`"
            )

    def lkl_syscall(self, nr: int, *params: Any) -> int:
        """A system call, raw: an int, or a negative errno.

        From a kernel thread it runs in that thread; from the application in the calling OS thread's host task. From
        the owner's thread this runs the kernel until the call is done; another OS thread waits until the owner does.

        Raises:
            Deadlock: the call can never return.
            OwnerGone: the owner's thread has ended without halting the kernel.
            KernelHalted: in the child of an `os.fork()`, without the OS threads that the kernel needs.
            KernelBug, ReentrantRun: in an interrupt handler or a callback.
        """
        sched = self.sched
        if sched.current is not sched.swapper and self.arch.runs_current():
            if sched.current.preempt_count >= SOFTIRQ_OFFSET:
                raise KernelBug(
                    "BUG: lkl_syscall() in an interrupt handler or a timer callback, which is no task's; "
                    "wake a kernel thread that makes the call"
                )
            return self.syscalls.dispatch(nr, params)
        if sched.system_state is _HALTED:
            self.owner.check("lkl_syscall()")
            return -errno.ESHUTDOWN
        if get_ident() == self._owner:
            if self.loop.running:
                self.loop.check_caller("lkl_syscall()")
            if self.embedding is not None:
                return self.embedding.syscall_of_owner(nr, params)  # type: ignore[no-any-return]
            return self.host_tasks.syscall_of_owner(nr, params)
        return self.host_tasks.syscall_of_foreign(nr, params)

    def new_thread_group_leader(self) -> None:
        """Make the calling OS thread a process of its own in the kernel, before its first system call.

        Raises:
            OSError: EBUSY after its first system call, ENOMEM if the host gives out.
            KernelHalted: the kernel has halted.
        """
        if self.halted:
            raise KernelHalted("new_thread_group_leader() on a kernel that has halted")
        self.host_tasks.new_thread_group_leader()

    def lkl_trigger_irq(self, irq: int) -> int:
        """Raise an interrupt, from any OS thread or signal handler: 0, -EINVAL, -ESHUTDOWN. TypeError: no integer."""
        return self.irq.trigger(irq)

    def lkl_get_free_irq(self, user: str) -> int:
        """Reserve an interrupt number. Raises OSError(EBUSY) if there is none."""
        return self.irq.get_free_irq(user)

    def lkl_put_irq(self, irq: int, user: str) -> None:
        """Give it back."""
        self.irq.put_irq(irq, user)

    def lkl_is_running(self) -> bool:
        """Whether the kernel was booted and has neither halted nor panicked."""
        return not self.halted and self.panicked is None

    def lkl_sys_halt(self, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Halt: take every task down, then give the host everything back.

        Args:
            timeout: seconds to wait for tasks to end.

        Returns:
            0; also if the kernel has halted before.

        Raises:
            HaltTimeout: names the tasks that did not end; the kernel has halted unless this was another thread's call.
            OwnerGone: the owner's thread has ended without halting the kernel, which has halted all the same.
        """
        return self.reboot.sys_halt(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.lkl_sys_halt()
        else:
            self.reboot.halt_quietly()

    # -- programs

    def register_program(self, path: str, main: Callable[..., int | None]) -> None:
        """Make a user program executable as `path`: `main(sys, argv, envp) -> int`."""
        self.exec.register_program(path, main)

    # -- trouble

    def panic(self, text: str, cause: BaseException | None = None) -> None:
        """Stop the kernel: `lkl_run()` raises KernelPanic at the next scheduling point."""
        self.faults.panic(text, cause)

    def is_owned_here(self) -> bool:
        """Whether the calling OS thread owns the kernel."""
        return get_ident() == self._owner

    def is_foreign(self) -> bool:
        """Whether the caller is an OS thread that neither owns the kernel nor runs one of its tasks."""
        return get_ident() != self._owner and not self.arch.runs_current()

    def has_same_owner(self, other: Kernel) -> bool:
        """Whether one OS thread runs both kernels."""
        return self._owner == other._owner

    def check_running(self, what: str) -> None:
        """Raises KernelHalted if the kernel cannot do it any more, WrongThread from a foreign OS thread."""
        if not self.lkl_is_running():
            raise KernelHalted(f"{what} on a kernel that has halted")
        if self.is_foreign():
            raise WrongThread(f"{what} from an OS thread that does not own the kernel; use lkl_syscall() there")

    # -- looking inside

    def trace_start(self, capacity: int | None = None, accounting: bool = False) -> Tracepoints:
        """Start tracing into a new ring.

        Args:
            capacity: how many records to keep; None keeps all, 0 only counts.
            accounting: count switches and time per task, too.
        """
        trace = (Accounting if accounting else Tracepoints)(self.sched, self.clock, capacity)
        self.sched.trace = trace
        return trace

    def trace_stop(self) -> list[TraceRecord]:
        """Stop tracing; the records."""
        trace, self.sched.trace = self.sched.trace, None
        return [] if trace is None else list(trace.records)

    def report(self) -> str:
        """The state of each task: since when, what it waits for and who holds that, and where it is (SysRq-t).

        It may be called at any time from the kernel's own OS thread, also in a signal handler.
        """
        return self.reports.report()

    def ps(self) -> str:
        """A table of the tasks."""
        return self.reports.ps()

    def dump_stacks(self) -> str:
        """The stacks of all tasks that are switched out."""
        return self.reports.dump_stacks()

    def statistics(self) -> KernelStatistics:
        """Counts since boot."""
        return self.reports.statistics()

    def __repr__(self) -> str:
        state = "halted" if self.halted else "panicked" if self.panicked else "running"
        return f"<Kernel {self.name} {state} arch={self.arch.name} tasks={len(self.pids)}>"
