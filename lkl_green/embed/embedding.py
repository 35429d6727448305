"""The life of a kernel in an event loop: it is taken over, run by a task of the loop, halted and given back.

    running()        attach   ---- the block ----   halt   wait for `ended`   detach
    driver's task             slice | checkpoint | slice | sleep | ...

*Time.* The driver's task sleeps until the kernel's next timer is due. A virtual clock jumps instead, unless the loop
awaits something for a kernel thread: what the host does takes no virtual time, so that the jump waits for it, as idle
waits for interrupts that are expected.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lkl_green.embed.await_task import AwaitTasks
from lkl_green.embed.doorbell import Doorbell
from lkl_green.embed.driver import Driver
from lkl_green.errors import Deadlock, LoopGone
from lkl_green.kernel.loop import RunReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.embed.backend import Backend
    from lkl_green.embed.slice_budget import SliceBudget
    from lkl_green.kernel.kernel import Kernel

# Between two looks whether something has ended.
_PAUSE_S = 0.001

_IDLE, _DEADLOCK = RunReason.IDLE, RunReason.DEADLOCK


class Embedding:
    """One kernel in one event loop; `kernel.embedding` while it is attached.

    Args:
        kernel, backend: the kernel and the loop.
        budget: how long a slice may take.
        fail: ends the block of `running()`.
        halt_timeout_s: how long what threads await in the loop may take to end when it is cancelled.

    Attributes:
        kernel: as given.
        driver: runs the slices.
        await_tasks: tasks of the loop that await something for kernel threads.
        can_await: whether kernel threads may use `await_()`.
        ended: set when the driver's task has ended.
    """

    can_await = True

    def __init__(
        self,
        kernel: Kernel,
        backend: Backend,
        budget: SliceBudget,
        fail: Callable[[], object],
        halt_timeout_s: float,
    ) -> None:
        self.kernel = kernel
        self._backend = backend
        self._doorbell = Doorbell(kernel.host, partial(backend.call_threadsafe, self._heard), self._loop_has_gone)
        self.driver = Driver(kernel, backend, budget, self._doorbell, fail, halt_timeout_s)
        self.await_tasks = AwaitTasks(self.driver)
        self.ended = anyio.Event()
        self._closing = False
        self._open_ended = kernel.open_ended
        self._is_virtual = kernel.clock.is_virtual

    # -- begin and end

    def attach(self) -> None:
        """Take the kernel over: calls may come at any time, so that being idle is not a deadlock."""
        self.kernel.embedding = self
        self.kernel.open_ended = True
        self._doorbell.hang_up()

    def detach(self) -> None:
        """Give the kernel back."""
        self._doorbell.take_down()
        self.driver.stop_watching()
        self.driver.detached = True
        self.kernel.open_ended = self._open_ended
        self.kernel.embedding = None

    def close_soon(self) -> None:
        """The block is over and makes no more calls: a kernel that can never continue is deadlocked from now on."""
        self._closing = True
        self.kernel.open_ended = self._open_ended
        self.driver.wake()

    async def end_coroutines(self, timeout_s: float) -> None:
        """Take down the `async def` threads while the kernel can still run them, each in its own task."""
        driver = self.driver
        for coroutine in list(driver.coroutines):
            if not driver.has_ended():
                coroutine.kill()
        deadline = anyio.current_time() + timeout_s
        while driver.coroutines and not driver.has_ended() and anyio.current_time() < deadline:
            await anyio.sleep(_PAUSE_S)

    def halt(self, timeout_s: float) -> None:
        """Halt the kernel, if it has not, and let everything go that waits for it. Raises HaltTimeout."""
        driver = self.driver
        try:
            self.kernel.lkl_sys_halt(timeout_s)
        finally:
            driver.deal_with_messages()
            for one in list(driver.pending):
                one.kernel_has_gone()
            self.await_tasks.cancel_all()
            driver.wake()

    # -- the kernel's methods, called by tasks of the loop

    def syscall_of_owner(self, nr: int, params: tuple[Any, ...]) -> int:
        """A system call that does not await, and stops the loop until it is done."""
        with self._doorbell.silent():
            try:
                return self.kernel.host_tasks.syscall_of_owner(nr, params)
            except Deadlock as error:
                raise Deadlock(
                    f"{error}\nThe call keeps the event loop from running, whose tasks might have ended it: await it, "
                    "as in `await k.sys.read(...)`"
                ) from None

    def touched(self) -> None:
        """The kernel was told to stop, or was stopped."""
        self._doorbell.ring()

    # -- the doorbell

    def _heard(self) -> None:
        """The kernel has rung. Runs in a callback of the loop: waking the driver's task takes another turn of it."""
        driver = self.driver
        if not driver.has_ended():
            driver.go_on(driver.is_idle())
        elif not driver.detached:
            driver.deal_with_messages()
            driver.wake()

    def _loop_has_gone(self) -> None:
        """The kernel has rung and the loop will never hear it: answer those that would wait for ever."""
        if self.driver.error is None:
            self.driver.error = LoopGone(
                f"the event loop that ran kernel {self.kernel.name} was closed under it. Leave the block of running() "
                "before the loop is closed; halt the kernel with lkl_sys_halt()"
            )
        self.kernel.host_tasks.refuse_all()

    # -- the driver's task

    async def drive(self) -> None:
        """Run the kernel until it halts. Errors are left in `driver.error`."""
        driver = self.driver
        try:
            await self._run()
        except GeneratorExit:  # the loop was closed, and resumes no task any more
            self._loop_has_gone()
            raise
        except BaseException as error:
            cancelled = isinstance(error, self._backend.cancelled)
            gone = LoopGone("the event loop has cancelled the task that runs the kernel")
            driver.failed(gone if cancelled else error)
            self.ended.set()
            if cancelled:
                raise
        self.ended.set()

    async def _run(self) -> None:
        """Run slices in turn with the loop's other tasks, and sleep while the kernel is idle."""
        driver, kernel = self.driver, self.kernel
        budget, sched = driver.budget, kernel.sched
        time = kernel.host.time
        begin = time()
        while True:
            points = sched.points
            driver.slice()
            if driver.error is not None or kernel.halted:
                return
            end = time()
            if self._time_jumps() and end - begin < budget.budget_ns:
                continue
            if self._is_busy():
                await driver.checkpoint()
                others = time()
                budget.learn(end - begin, sched.points - points, others - end)
                begin = others
                continue
            self._check_deadlock()
            if driver.error is not None:
                return
            await driver.idle_sleep.sleep(driver.status)
            begin = time()

    def _is_busy(self) -> bool:
        reason = self.driver.status.reason
        if reason is not _IDLE and reason is not _DEADLOCK:
            return True
        return not self.kernel.sched.is_idle() or self.kernel.loop.has_events

    def _time_jumps(self) -> bool:
        """Let virtual time jump to the next timer, if the kernel is idle and expects nothing from outside."""
        driver, kernel = self.driver, self.kernel
        if not self._is_virtual or self.await_tasks.tasks or self._is_busy():
            return False
        if kernel.irq.expected or kernel.readiness.expected or driver.status.next_event_ns is None:
            return False
        kernel.loop.pause(driver.status)
        driver.status = RunStatus(RunReason.BUDGET, None)  # busy: what is due now has not run
        return True

    def _check_deadlock(self) -> None:
        driver = self.driver
        if self._closing and driver.status.reason is _DEADLOCK and not self.await_tasks.tasks and not driver.pending:
            driver.failed(Deadlock(driver.status.report))
