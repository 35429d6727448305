"""Pipes, sockets and fifos of the kernel, used by async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from lkl_green.linux import KFifo, kthread_run, msleep, pipe, socketpair

if TYPE_CHECKING:
    from tests.embed.conftest import Kernels

pytestmark = pytest.mark.anyio


async def test_a_socket_of_the_kernel_is_a_byte_stream(kernels: Kernels, configuration: dict[str, Any]) -> None:
    def shout() -> Any:
        ours, theirs = socketpair()

        def server() -> None:
            while data := theirs.read(100):
                theirs.write(data.upper())
            theirs.close()

        kthread_run(server)
        return ours

    async with kernels.running(kernels.start(**configuration)) as k:
        async with k.stream(await k.call(shout)) as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"HELLO"
            await stream.send(b"again")
            assert await stream.receive(2) == b"AG"
            assert await stream.receive() == b"AIN"
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
        await stream.aclose()


async def test_other_libraries_use_it(kernels: Kernels) -> None:
    async with kernels.running() as k:
        ours, theirs = await k.call(socketpair)
        async with k.stream(ours) as a, k.stream(theirs) as b:
            await a.send(b"line one\nline two\n")
            lines = BufferedByteReceiveStream(b)
            assert await lines.receive_until(b"\n", 100) == b"line one"
            assert await lines.receive_until(b"\n", 100) == b"line two"


async def test_more_than_fits_goes_through_while_somebody_reads(kernels: Kernels) -> None:
    async with kernels.running() as k:
        reader, writer = await k.call(pipe)
        received = bytearray()

        async def receive() -> None:
            async with k.stream(reader) as stream:
                async for chunk in stream:
                    received.extend(chunk)

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            async with k.stream(writer) as stream:
                await stream.send(bytes(1_000_000))
    assert len(received) == 1_000_000


async def test_two_pipes_make_a_stream(kernels: Kernels) -> None:
    async with kernels.running() as k:
        (r1, w1), (r2, w2) = await k.call(pipe), await k.call(pipe)
        async with k.stream(r1, w2) as a, k.stream(r2, w1) as b:
            await a.send(b"ping")
            assert await b.receive() == b"ping"
            await b.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await a.receive()
            await a.send_eof()
            await a.send_eof()


async def test_cancelling_loses_no_byte(kernels: Kernels) -> None:
    async with kernels.running() as k:
        reader, writer = await k.call(pipe)
        async with k.stream(reader) as receiver, k.stream(writer) as sender:
            received = bytearray()
            sent = bytes(range(200))

            async def send() -> None:
                for number in sent:
                    await sender.send(bytes([number]))

            async with anyio.create_task_group() as group:
                group.start_soon(send)
                while len(received) < len(sent):
                    with anyio.move_on_after(0.0005):
                        received += await receiver.receive(1)
            assert bytes(received) == sent


async def test_a_peer_that_has_gone_breaks_the_stream(kernels: Kernels) -> None:
    async with kernels.running() as k:
        reader, writer = await k.call(pipe)
        async with k.stream(writer) as sender:
            await k.stream(reader).aclose()
            with pytest.raises(anyio.BrokenResourceError):
                await sender.send(b"x")


async def test_two_tasks_cannot_receive_at_once(kernels: Kernels) -> None:
    async with kernels.running() as k:
        reader, writer = await k.call(pipe)
        async with k.stream(reader) as stream, k.stream(writer), anyio.create_task_group() as group:
            group.start_soon(stream.receive)
            await anyio.sleep(0.002)
            with pytest.raises(anyio.BusyResourceError):
                await stream.receive()
            group.cancel_scope.cancel()


async def test_a_file_that_is_closed_under_a_waiting_task(kernels: Kernels) -> None:
    async with kernels.running() as k:
        reader, writer = await k.call(pipe)
        errors: list[type[Exception]] = []

        async def receive(stream: Any) -> None:
            try:
                await stream.receive()
            except anyio.ClosedResourceError as error:
                errors.append(type(error))

        async with anyio.create_task_group() as group:
            group.start_soon(receive, k.stream(reader))
            await anyio.sleep(0.002)
            await k.call(reader.close)
        await k.call(writer.close)
    assert errors == [anyio.ClosedResourceError]


async def test_iterating_over_a_fifo(kernels: Kernels, configuration: dict[str, Any]) -> None:
    kernel = kernels.start(**configuration)
    fifo: KFifo[int] = KFifo(2, kernel)

    def produce() -> None:
        for number in range(6):
            fifo.put(number)
            if number % 2:
                msleep(1)
        fifo.close()

    async with kernels.running(kernel) as k:
        k.spawn(produce)
        assert [number async for number in k.iterate(fifo)] == [0, 1, 2, 3, 4, 5]


async def test_iterating_over_a_file(kernels: Kernels) -> None:
    def produce(writer: Any) -> None:
        for word in (b"one", b"two"):
            writer.write(word)
            msleep(2)
        writer.close()

    async with kernels.running() as k:
        reader, writer = await k.call(pipe)
        k.spawn(produce, writer)
        assert b"".join([chunk async for chunk in k.iterate(reader)]) == b"onetwo"
        await k.call(reader.close)
