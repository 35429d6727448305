"""Files and fifos of the kernel, as async code likes them: an anyio byte stream, and `async for`.

Each operation is a call into the kernel, and so may sleep there and be cancelled. What a call has taken out of a file
at the very moment at which its caller is cancelled is kept for the next one: no byte is lost by cancelling.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import anyio
from anyio.abc import ByteStream

from lkl_green.embed.kernel_call import Call
from lkl_green.kernel.unistd import SHUT_WR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lkl_green.embed.call_runner import CallRunner
    from lkl_green.fs.file import File
    from lkl_green.fs.kfifo import KFifo

T = TypeVar("T")

CHUNK = 65536


class HasCalls(Protocol):
    """What a stream uses of `Embedded`, whose module imports this one."""

    _calls: CallRunner


class Taker(Generic[T]):
    """Takes things out of the kernel, one after another.

    Args:
        calls: run the functions that take them.
        name: the name of the kernel threads.
    """

    __slots__ = ("_calls", "_kept", "_name")

    def __init__(self, calls: CallRunner, name: str) -> None:
        self._calls = calls
        self._name = name
        self._kept: list[T] = []

    async def take(self, function: Callable[..., T], *args: Any) -> T:
        """What `function(*args)` returns, which runs in a kernel thread and may sleep. Raises what it raises."""
        if self._kept:
            await anyio.lowlevel.checkpoint()
            return self._kept.pop()
        call = Call(self._calls.driver, function, args)
        try:
            result: T = await self._calls.run(call, self._name)
        except BaseException:
            if call.done and not call.failed:
                self._kept.append(call.result)
            raise
        return result


class KernelIterator(Generic[T]):
    """`async for` over a fifo, until it is closed and empty, or over a file's bytes, until its end."""

    __slots__ = ("_args", "_function", "_taker")

    def __init__(self, embedded: HasCalls, source: KFifo[T] | File) -> None:
        get = getattr(source, "get", None) if not hasattr(source, "read") else None
        self._function: Callable[..., Any] = get if get is not None else source.read  # type: ignore[union-attr]
        self._args: tuple[Any, ...] = () if get is not None else (CHUNK,)
        self._taker: Taker[T] = Taker(embedded._calls, "iterate")

    def __aiter__(self) -> Self:
        """The iterator itself."""
        return self

    async def __anext__(self) -> T:
        """The next element, or the next bytes."""
        try:
            item = await self._taker.take(self._function, *self._args)
        except EOFError:
            raise StopAsyncIteration from None
        if self._args and not item:
            raise StopAsyncIteration
        return item


class KernelStream(ByteStream):
    """An anyio byte stream over files of the kernel: a socket, or the two ends of two pipes.

    Args:
        embedded: the kernel.
        reader: what is received from; None for a stream that only sends.
        writer: what is sent to; None for a stream that only receives.
    """

    def __init__(self, embedded: HasCalls, reader: File | None, writer: File | None) -> None:
        self._calls = embedded._calls
        self._reader = reader
        self._writer = writer
        self._taker: Taker[bytes] = Taker(self._calls, "receive")
        self._rest = b""
        self._receiving = anyio.ResourceGuard("receiving from")
        self._sending = anyio.ResourceGuard("sending to")

    async def receive(self, max_bytes: int = CHUNK) -> bytes:
        """Some bytes, as soon as there are any.

        Raises:
            anyio.EndOfStream: the other side has closed its end.
            anyio.ClosedResourceError: this side has.
            anyio.BrokenResourceError: the connection was reset.
            anyio.BusyResourceError: another task is receiving.
        """
        with self._receiving:
            if self._reader is None:
                raise anyio.ClosedResourceError
            data, self._rest = self._rest, b""
            if not data:
                try:
                    data = await self._taker.take(self._reader.read, max_bytes)
                except OSError as error:
                    raise _as_anyio(error) from error
            if not data:
                raise anyio.EndOfStream
            data, self._rest = data[:max_bytes], data[max_bytes:]
            return data

    async def send(self, item: bytes) -> None:
        """Send all of it. Raises as `receive` does."""
        with self._sending:
            if self._writer is None:
                raise anyio.ClosedResourceError
            try:
                await self._call(_write_all, self._writer, item, name="send")
            except OSError as error:
                raise _as_anyio(error) from error

    async def send_eof(self) -> None:
        """The other side reads the end; receiving goes on."""
        with self._sending:
            await anyio.lowlevel.checkpoint()
            writer, self._writer = self._writer, None
            if writer is None:
                return
            if writer is self._reader:
                await self._call(writer.shutdown, SHUT_WR, name="shutdown")  # type: ignore[attr-defined]
            else:
                self._close(writer)

    async def aclose(self) -> None:
        """Close both files, even if cancelled."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        for file in {reader, writer} - {None}:
            self._close(file)
        await anyio.lowlevel.checkpoint()

    def _close(self, file: File | None) -> None:
        if file is not None and file.f_count:
            file.close()
            self._calls.driver.wake()

    def _call(self, function: Callable[..., Any], *args: Any, name: str) -> Awaitable[Any]:
        return self._calls.run(Call(self._calls.driver, function, args), name)


def _write_all(file: File, data: bytes) -> None:
    """In a kernel thread: a signal or a full pipe may end a write in the middle."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _as_anyio(error: OSError) -> Exception:
    if error.errno == errno.EBADF:
        return anyio.ClosedResourceError(str(error))
    if error.errno in (errno.EPIPE, errno.ECONNRESET):
        return anyio.BrokenResourceError(str(error))
    return error
