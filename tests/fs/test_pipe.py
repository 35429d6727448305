"""Pipes: order, atomic writes, ends, signals, and a model that agrees for any sizes."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from users import nr_files, refused, run_program, start

from lkl_green import Deadlock, lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS, Configuration
from lkl_green.fs.pipe import PIPE_SIZE, create_pipe_files
from lkl_green.kernel.signum import SIG_IGN, SIGABRT, SIGPIPE, TermSignal
from lkl_green.kernel.unistd import FIONREAD
from lkl_green.linux import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    O_NONBLOCK,
    SIGKILL,
    current_kernel,
    fd_install,
    kernel_read,
    kernel_wait4,
    kernel_write,
    kthread_run,
    msleep,
    pipe,
    request_irq,
    send_sig,
    vfs_poll,
)

PIPE_BUF = 4096


def test_bytes_come_out_in_the_order_in_which_they_went_in(run):
    def init():
        r, w = pipe()
        for piece in (b"one", b"two", b"three"):
            assert kernel_write(w, piece) == len(piece)
        assert (kernel_read(r, 4), kernel_read(r, 100)) == (b"onet", b"wothree")
        r.close()
        w.close()
        return nr_files()

    assert run(init) == 0


def test_a_reader_waits_and_takes_what_there_is(run, log):
    def init():
        def reader():
            while data := kernel_read(r, 1000):
                log.append(data)
            log.append("end")

        r, w = pipe()
        kthread_run(reader)
        for piece in (b"a", b"bc"):
            msleep(1)
            kernel_write(w, piece)
        msleep(1)
        w.close()
        msleep(1)
        r.close()

    run(init)
    assert log == [b"a", b"bc", "end"]


def test_a_long_write_goes_in_as_room_comes_up(run, log):
    def init():
        def writer():
            log.append(kernel_write(w, bytes(3 * PIPE_SIZE)))
            w.close()

        r, w = pipe()
        kthread_run(writer)
        msleep(1)
        assert r.ioctl(FIONREAD) == PIPE_SIZE
        total = 0
        while data := kernel_read(r, 5000):
            total += len(data)
        r.close()
        return total

    assert run(init) == 3 * PIPE_SIZE
    assert log == [3 * PIPE_SIZE]


def test_each_byte_wakes_one_reader_and_the_end_wakes_all(run, log):
    def init():
        def reader(name):
            log.append((name, kernel_read(r, 1)))

        r, w = pipe()
        for name in "abcde":
            kthread_run(reader, name)
        msleep(1)
        kernel_write(w, b"1")
        msleep(1)
        kernel_write(w, b"23")  # one wake-up, and whoever leaves something wakes the next one
        msleep(1)
        assert len(log) == 3
        w.close()
        msleep(1)
        r.close()

    run(init)
    assert log == [("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b""), ("e", b"")]


def test_writes_up_to_pipe_buf_are_never_torn(run):
    def init():
        def writer(letter):
            for _ in range(30):
                assert kernel_write(w, letter * PIPE_BUF) == PIPE_BUF

        r, w = pipe()
        tasks = [kthread_run(writer, letter) for letter in (b"x", b"y", b"z")]
        received = b""
        while len(received) < len(tasks) * 30 * PIPE_BUF:
            received += kernel_read(r, 1000)
        blocks = {received[at : at + PIPE_BUF] for at in range(0, len(received), PIPE_BUF)}
        assert blocks == {b"x" * PIPE_BUF, b"y" * PIPE_BUF, b"z" * PIPE_BUF}
        r.close()
        w.close()

    run(init)


def test_non_blocking_ends(run):
    def init():
        r, w = pipe(O_NONBLOCK)
        assert refused(kernel_read, r, 1) == errno.EAGAIN
        assert kernel_write(w, bytes(PIPE_SIZE + 1)) == PIPE_SIZE
        assert refused(kernel_write, w, b"x") == errno.EAGAIN
        kernel_read(r, PIPE_BUF - 1)
        assert refused(kernel_write, w, bytes(PIPE_BUF)) == errno.EAGAIN, "an atomic write does not go in in part"
        assert kernel_write(w, bytes(PIPE_BUF + 1)) == PIPE_BUF - 1, "a longer one does"
        w.close()
        assert len(kernel_read(r, 1 << 20)) == PIPE_SIZE
        assert kernel_read(r, 1) == b"", "the end is not EAGAIN"
        r.close()

    run(init)


def test_what_poll_says(run):
    def init():
        r, w = pipe()
        assert (vfs_poll(r), vfs_poll(w)) == (0, EPOLLOUT)
        kernel_write(w, bytes(PIPE_SIZE - PIPE_BUF + 1))
        assert (vfs_poll(r), vfs_poll(w)) == (EPOLLIN, 0)
        kernel_read(r, 1)
        assert vfs_poll(w) == EPOLLOUT
        w.close()
        assert vfs_poll(r) == EPOLLIN | EPOLLHUP
        kernel_read(r, PIPE_SIZE)
        assert vfs_poll(r) == EPOLLHUP
        r.close()
        r, w = pipe()
        kernel_write(w, bytes(PIPE_SIZE))
        assert vfs_poll(w) == 0
        r.close()
        assert vfs_poll(w) == EPOLLOUT | EPOLLERR
        w.close()

    run(init)


def test_epipe_for_kernel_code(run, log):
    def init():
        r, w = pipe()
        kthread_run(lambda: log.append(kernel_write(w, bytes(PIPE_SIZE + 10))))
        kthread_run(lambda: log.append(refused(kernel_write, w, b"x")))
        msleep(1)
        r.close()
        msleep(1)
        assert refused(kernel_write, w, b"x") == errno.EPIPE
        assert kernel_write(w, b"") == 0
        w.close()

    run(init)
    assert log == [PIPE_SIZE, errno.EPIPE], "what went in before counts"


def test_a_process_that_writes_for_nobody_dies_of_sigpipe(run, log):
    def main(sys):
        r, w = sys.pipe2()
        sys.close(r)
        try:
            sys.write(w, b"x")
        finally:
            log.append("unwound")

    assert run(lambda: run_program(main)) == TermSignal(SIGPIPE)
    assert log == ["unwound"]


def test_a_process_that_ignores_or_handles_sigpipe_sees_epipe(run, log):
    def main(sys):
        r, w = sys.pipe2()
        sys.close(r)
        sys.sigaction(SIGPIPE, SIG_IGN)
        child = sys.clone(lambda sys: sys.write(w, b"inherited"))
        log.append(refused(sys.write, w, b"x"))
        sys.sigaction(SIGPIPE, lambda sys, sig: log.append(sig))
        log.append(refused(sys.write, w, b"x"))
        return sys.wait4(child)[1]

    assert run(lambda: run_program(main)) == SIGABRT, "the child does not catch EPIPE"
    assert log == [errno.EPIPE, SIGPIPE, errno.EPIPE]


def test_what_the_application_writes_for_nobody_is_an_error_and_no_signal(kernel):
    r, w = kernel.sys.pipe2()
    kernel.sys.close(r)
    assert [refused(kernel.sys.write, w, b"x") for _ in range(3)] == [errno.EPIPE] * 3


def test_a_killed_writer_tells_what_it_wrote_or_is_interrupted(run, log):
    def init():
        def main(sys):
            log.append("writing")
            sys.write(1, bytes(PIPE_SIZE * 2))
            log.append("not reached")

        kernel = current_kernel()
        r, w = pipe()
        assert [fd_install(r), fd_install(w)] == [0, 1]
        pid = start(main)
        msleep(1)
        send_sig(SIGKILL, kernel.pids.tasks[pid])
        code = kernel_wait4(pid)[1]
        assert r.ioctl(FIONREAD) == PIPE_SIZE
        return code

    assert run(init) == SIGKILL
    assert log == ["writing"]


def test_a_reader_that_is_taken_down_when_it_has_been_woken_leaves_the_data_to_the_next(run, log):
    """As a cancelled task of an event loop is, whose thread reads for it."""

    def init():
        r, w = pipe()
        first, _ = (kthread_run(lambda n=n: log.append((n, kernel_read(r, 10)))) for n in (1, 2))
        msleep(1)
        kernel_write(w, b"x")
        current_kernel().exits.take_down(first)
        msleep(1)
        r.close()
        w.close()

    run(init)
    assert log == [(2, b"x")]


def test_an_interrupt_handler_writes(run, log):
    def init():
        r, w = pipe(O_NONBLOCK)
        r.set_flags(0)
        request_irq(5, lambda irq: kernel_write(w, b"irq"), "device")
        kthread_run(lambda: log.append(kernel_read(r, 10)))
        msleep(1)
        current_kernel().lkl_trigger_irq(5)
        msleep(1)
        r.close()
        w.close()

    run(init)
    assert log == [b"irq"]


def test_flags_and_sizes_that_are_none(run):
    def init():
        assert refused(pipe, 1) == errno.EINVAL
        with pytest.raises(OSError, match="at least 4096"):
            create_pipe_files(size=PIPE_BUF - 1)
        assert nr_files() == 0

    run(init)


def test_reading_ones_own_empty_pipe_is_a_deadlock_with_a_name(boot):
    def init():
        r, _w = pipe()
        kernel_read(r, 1)

    with pytest.raises(Deadlock, match="pipe"):
        boot(init).run()


def test_a_pipeline_has_the_same_trace_everywhere(parity):
    def init():
        def stage(r, w):
            while data := kernel_read(r, 700):
                kernel_write(w, data.upper())
            w.close()

        first, feed = pipe()
        second, middle = pipe()
        last, out = pipe()
        kthread_run(stage, first, middle)
        kthread_run(stage, second, out)
        for number in range(20):
            kernel_write(feed, b"abc" * number * 37)
        feed.close()
        total = 0
        while data := kernel_read(last, 1000):
            total += len(data)
        assert total == sum(range(20)) * 37 * 3

    parity(init)


# -- a model: any number of readers and writers, any sizes, blocking or not

SIZES = st.sampled_from([1, 2, 100, 4095, 4096, 4097, 5000, 20_000, 70_000])
ENDS = st.tuples(st.booleans(), st.lists(SIZES, min_size=1, max_size=5))


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=25, deadline=None)
@given(
    writers=st.lists(ENDS, min_size=1, max_size=3),
    reads=st.lists(SIZES, min_size=1, max_size=4),
    size=st.sampled_from([4096, 8192, PIPE_SIZE]),
)
def test_bytes_in_are_bytes_out(where: Configuration, writers: Any, reads: list[int], size: int) -> None:
    """Each writer counts in its own letter; what comes out per letter is what went in, and nothing is torn."""
    sent: dict[int, int] = {}
    atomic = all(length <= PIPE_BUF for _, lengths in writers for length in lengths)

    def init():
        def writer(letter, blocking, lengths):
            for length in lengths:
                data = bytes([letter]) * length
                if blocking:
                    assert kernel_write(w, data) == length
                    sent[letter] = sent.get(letter, 0) + length
                    continue
                w.set_flags(O_NONBLOCK)
                try:
                    sent[letter] = sent.get(letter, 0) + kernel_write(w, data)
                except BlockingIOError:
                    assert len(data) > w._stream.room or length > PIPE_BUF
                finally:
                    w.set_flags(0)
                msleep(1)

        r, w = create_pipe_files(size=size)
        tasks = [
            kthread_run(writer, letter, blocking, lengths) for letter, (blocking, lengths) in enumerate(writers, 65)
        ]
        received = b""
        turn = 0

        def closer():
            for task in tasks:
                while not task.exit_state:
                    msleep(1)
            w.close()

        kthread_run(closer)
        while data := kernel_read(r, reads[turn % len(reads)]):
            received += data
            turn += 1
        r.close()
        assert {letter: received.count(letter) for letter in sent} == sent
        assert len(received) == sum(sent.values())
        if atomic:
            assert _is_made_of(received, [(letter, list(lengths)) for letter, (_, lengths) in enumerate(writers, 65)])
        return nr_files()

    kernel = lkl_start_kernel(init, host=where.host, switch=where.switch, clock="virtual", loglevel=0)
    assert kernel.run() == 0


def _is_made_of(received: bytes, writers: list[tuple[int, list[int]]]) -> bool:
    """Whether runs of one letter can be cut into that writer's pieces, in order, some of them left out."""
    runs: list[tuple[int, int]] = []
    for byte in received:
        if runs and runs[-1][0] == byte:
            runs[-1] = (byte, runs[-1][1] + 1)
        else:
            runs.append((byte, 1))
    for letter, lengths in writers:
        mine = [length for byte, length in runs if byte == letter]
        if not _fits(mine, lengths):
            return False
    return True


def _fits(runs: list[int], lengths: list[int]) -> bool:
    if not runs:
        return True
    if not lengths:
        return False
    if _fits(runs, lengths[1:]):
        return True
    left = runs[0] - lengths[0]
    return left >= 0 and _fits([left, *runs[1:]] if left else runs[1:], lengths[1:])
