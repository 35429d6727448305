"""What `running()` gives to async code."""

from __future__ import annotations

from contextvars import copy_context
from inspect import isawaitable
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lkl_green.embed.await_task import close
from lkl_green.embed.call_runner import CallRunner, outlast
from lkl_green.embed.kernel_call import Call
from lkl_green.embed.streams import KernelIterator, KernelStream
from lkl_green.embed.thread_pool import start_thread
from lkl_green.kernel.unistd import O_ACCMODE, O_RDONLY, O_WRONLY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from lkl_green.embed.backend import Waiter
    from lkl_green.embed.driver import Driver
    from lkl_green.embed.embedding import Embedding
    from lkl_green.embed.monitor import SliceMonitor
    from lkl_green.fs.file import File
    from lkl_green.fs.kfifo import KFifo
    from lkl_green.kernel.completion import Completion
    from lkl_green.kernel.kernel import Kernel

T = TypeVar("T")


class Embedded:
    """A kernel that runs in an event loop, as the loop's tasks see it.

    Attributes:
        kernel: the kernel.
        sys: system calls to be awaited: `await k.sys.nanosleep(1000)`; they raise OSError.
    """

    def __init__(self, embedding: Embedding, monitor: SliceMonitor | None = None) -> None:
        self._ended = embedding.ended
        self._end_coroutines = embedding.end_coroutines
        self._driver = embedding.driver
        self._calls = CallRunner(embedding.driver)
        self._monitor = monitor
        self.kernel: Kernel = embedding.kernel
        self.sys = AsyncSys(self)

    # -- calls

    @overload
    def call(
        self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any, name: str | None = None
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def call(self, fn: Callable[..., T], *args: Any, name: str | None = None) -> Coroutine[Any, Any, T]: ...
    def call(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Coroutine[Any, Any, Any]:
        """Run `fn(*args)` as a kernel thread; await it for its result.

        An exception is raised here, and is no oops. Cancelling takes the thread down: TaskKilled is raised at its
        sleep, and the cancelled caller waits until it has ended.

        Args:
            fn: a function, or an `async def` function, whose awaits run in the loop.
            args: its arguments.
            name: the thread's name; the function's if left out.

        Raises:
            KernelHalted: it has halted, before or meanwhile.
            WrongLoop: the kernel runs in another event loop.
            OSError: there is no room for another thread.
            TypeError: `fn` is no function.
            AwaitCancelled: something that `fn` awaited was cancelled in the loop.
            Exception: whatever `fn` raises.
        """
        if type(fn) is not FunctionType and not callable(fn):
            raise not_a_function("call", fn)
        if name is None:
            name = getattr(fn, "__name__", "call")
        return self._calls.run(Call(self._driver, fn, args), name)

    def syscall(self, nr: int, *params: Any) -> Awaitable[int]:
        """A system call, raw, as a thread of init makes it: an int, or a negative errno. Await it."""
        return self._calls.run(Call(self._driver, self.kernel.syscalls.dispatch, (nr, params)), "syscall")

    async def wait(self, completion: Completion) -> None:
        """Wait until a completion of the kernel lets us through. Cancelling leaves its queue, and loses no token."""
        call = Call(self._driver, completion.wait_for_completion, (), completion.complete)
        await self._calls.run(call, "wait")

    # -- files

    def stream(self, file: File, writer: File | None = None) -> KernelStream:
        """An anyio byte stream over kernel files.

        Args:
            file: a socket, which is received from and sent to; or the end of a pipe to receive from.
            writer: the end of another pipe to send to.
        """
        if writer is not None:
            return KernelStream(self, file, writer)
        mode = file.f_flags & O_ACCMODE
        return KernelStream(self, None if mode == O_WRONLY else file, None if mode == O_RDONLY else file)

    def iterate(self, source: KFifo[T] | File) -> KernelIterator[T]:
        """`async for` over a fifo, until it is closed and empty, or over a file's bytes, until its end."""
        return KernelIterator(self, source)

    # -- threads

    def spawn(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> KernelThread:
        """Start a kernel thread and do not wait for it.

        An exception that leaves it is an oops like that of any other kernel thread. Raises as `call` does.
        """
        if not callable(fn):
            raise not_a_function("spawn", fn)
        driver = self._driver
        driver.check("spawn()")
        thread = KernelThread(driver, fn, args)
        if name is None:
            name = getattr(fn, "__name__", "thread")
        thread.task = start_thread(self.kernel, thread, thread.run, None, name, copy_context())
        driver.pending[thread] = None
        driver.wake()
        return thread

    @property
    def slow_slices(self) -> list[str]:
        """Reports of slices that took longer than `slow_slice_s`; empty if nobody watches."""
        return [] if self._monitor is None else self._monitor.reports

    # -- the end

    async def halt(self) -> None:
        """Halt the kernel: its threads are taken down. Leave the block after that."""
        driver = self._driver
        if not self.kernel.halted:
            driver.check("halt()")
            await self._end_coroutines(driver.halt_timeout_s)
            self.kernel.power_off()
            driver.wake()
        await self._ended.wait()

    async def halted(self) -> None:
        """Wait until the kernel has halted."""
        await self._ended.wait()

    def __repr__(self) -> str:
        return f"<Embedded {self.kernel!r} in {self._driver.backend.name}>"


class KernelThread(Call):
    """A kernel thread that async code has started with `spawn()`."""

    __slots__ = ("_waiters",)

    def __init__(self, driver: Driver, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__(driver, fn, args)
        self._waiters: list[Waiter] = []

    def run(self, arg: object) -> Any:
        """The thread function: what it raises is an oops."""
        result = super().run(arg)
        if self.error is not None and not self.task.killed:
            raise self.error
        return result

    def ended(self, code: Any) -> None:
        """The function has returned, or its thread has died; the driver has it in its list, even if nobody waits."""
        super().ended(code)
        self.driver.outbox.append(self)

    def in_loop(self) -> None:
        """The driver deals with the thread's end: all who wait for it go on."""
        super().in_loop()
        for waiter in self._waiters:
            waiter.wake()
        self._waiters.clear()

    async def wait_ended(self) -> None:
        """Wait until the thread has ended."""
        waiter = self.driver.backend.new_waiter()
        self._waiters.append(waiter)
        await waiter.wait()

    async def join(self) -> Any:
        """Wait until it has ended; its result. Cancelling does not touch the thread.

        Raises:
            KernelHalted: it was taken down.
            Exception: what it died of, in a kernel that survives an oops.
        """
        driver = self.driver
        if not self.done:
            driver.check("join()")
            await self.wait_ended()
        if self.error is not None:
            raise self.error
        return self.result

    async def cancel(self) -> None:
        """Take it down: TaskKilled is raised at its sleep. Returns when it has ended.

        Raises:
            CoroutineStuck: from the block; what the thread awaited does not end.
        """
        self.driver.check("cancel()")
        self.kill()
        if not self.done:
            await outlast(self, self.wait_ended)

    def __repr__(self) -> str:
        return f"<KernelThread {self.task.comm}-{self.task.pid} {'ended' if self.done else 'runs'}>"


class AsyncSys:
    """The system calls, each a coroutine function; see `lkl_green.kernel.syscall.Sys`."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """`await k.sys.name(...)`."""
        embedded = self._embedded
        function = getattr(embedded.kernel.sys, name)

        def call(*args: Any) -> Awaitable[Any]:
            return embedded._calls.run(Call(embedded._driver, function, args), name)

        return call


def not_a_function(what: str, fn: object) -> TypeError:
    """What to raise for something that cannot be called; a coroutine is closed, or Python would warn of it."""
    hint = "pass the function and its arguments"
    if isawaitable(fn):
        close(fn)
        hint = f"pass the function itself: {what}(function, *args), not {what}(function(*args))"
    return TypeError(f"{what}({fn!r}): this is no function; {hint}")
