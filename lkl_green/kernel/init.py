"""Boot, in the order of init/main.c.

The architecture makes the caller swapper (pid 0); swapper forks init (pid 1), kthreadd (pid 2) and ksoftirqd (pid 3).
None of them runs before the first `lkl_run()`. If the host gives out in between, everything is given back and the
caller gets the OSError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from lkl_green.kernel.callback import check_result
from lkl_green.kernel.fork import do_exit
from lkl_green.kernel.hosttask import HostTasks
from lkl_green.kernel.owner import Owner
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import PF_KTHREAD, TASK_IDLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel


class Init:
    """The boot of one kernel, and its pid 1.

    Args:
        kernel: the kernel.
        function: what pid 1 runs; None: it sleeps until the kernel is halted.
        args: its arguments.
    """

    def __init__(self, kernel: Kernel, function: Callable[..., Any] | None, args: tuple[Any, ...]) -> None:
        self._kernel = kernel
        self._function = function
        self._args = args

    def start_kernel(self) -> None:
        """Start everything. Raises OSError(ENOMEM), with nothing left allocated."""
        kernel = self._kernel
        kernel.host.host_init()
        kernel.host.doorbell = kernel.host.idle_wake
        undo: list[Callable[[], None]] = [kernel.host.host_cleanup]
        try:
            kernel.arch.threads_init(kernel.sched.swapper, kernel.sched)
            undo.append(kernel.arch.threads_cleanup)
            kernel.host_tasks = HostTasks(kernel)
            kernel.loop.attach(kernel.host_tasks.posts)
            undo.append(kernel.host_tasks.cleanup)
            kernel.owner = Owner(kernel)
            undo.append(kernel.owner.cleanup)
            undo.append(self._drop_all)
            self._rest_init()
            kernel.watchdog.start()
        except BaseException:
            kernel.sched.system_state = SystemState.HALTED
            while undo:
                undo.pop()()
            raise

    def _rest_init(self) -> None:
        """Fork the first tasks."""
        kernel = self._kernel
        kernel.init_task = kernel.fork.kernel_thread(self._kernel_init, name="init")
        kernel.kthreads.kthreadd = kernel.fork.kernel_thread(kernel.kthreads.run_kthreadd, name="kthreadd")
        kernel.softirq.ksoftirqd = kernel.kthreads.fork_kthread(kernel.softirq.run_ksoftirqd, "ksoftirqd/0")

    def _drop_all(self) -> None:
        for task in self._kernel.pids:
            self._kernel.exits.drop_unstarted(task)

    def _kernel_init(self, _arg: object) -> Any:
        """Thread function of pid 1; 0 if the application's function has become a user program."""
        kernel = self._kernel
        function, args = self._function, self._args
        if function is None:
            self._sleep_for_good()
        else:
            # A call with * is one more C stack frame, to be saved at every switch.
            result = function(*args) if args else function()
            check_result(function, result)
        if kernel.init_task.flags & PF_KTHREAD:
            kernel.init_result = result
            do_exit(result)
        return result or 0  # with a program, the result of init is the program's exit code

    def _sleep_for_good(self) -> NoReturn:
        sched = self._kernel.sched
        while True:
            sched.current.state = TASK_IDLE
            sched.schedule()

    def exited(self, code: Any) -> None:
        """Pid 1 has ended; Linux panics, a library powers off."""
        kernel = self._kernel
        if kernel.halting:
            return
        if kernel.init_result is None:
            kernel.init_result = code
        kernel.power_off()
