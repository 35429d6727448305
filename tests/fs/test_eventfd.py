"""eventfd: a counter that is read, written, signalled and polled."""

from __future__ import annotations

import errno
import sys as python

import pytest
from users import nr_files, refused, run_program

from lkl_green.fs.eventfd import MAX_COUNT
from lkl_green.kernel.unistd import EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, F_GETFD, FD_CLOEXEC
from lkl_green.linux import EPOLLIN, EPOLLOUT, EventFd, current_kernel, kthread_run, msleep, request_irq, vfs_poll


def number(data: bytes) -> int:
    assert len(data) == 8
    return int.from_bytes(data, python.byteorder)


def eight(value: int) -> bytes:
    return value.to_bytes(8, python.byteorder)


def test_a_read_takes_the_whole_count(run, log):
    def init():
        event = EventFd()
        kthread_run(lambda: log.append(number(event.read(8))))
        msleep(1)
        event.write(eight(3))
        event.signal(4)
        msleep(1)
        assert event.count == 0
        event.close()
        assert refused(event.signal) == errno.EBADF
        return nr_files()

    assert run(init) == 0
    assert log == [7]


def test_a_semaphore_gives_one_to_each(run, log):
    def init():
        event = EventFd(0, EFD_SEMAPHORE)
        for _ in range(3):
            kthread_run(lambda: log.append(number(event.read(8))))
        msleep(1)
        event.signal(2)
        msleep(1)
        assert log == [1, 1]
        event.signal()
        msleep(1)
        event.close()

    run(init)
    assert log == [1, 1, 1]


def test_a_writer_waits_at_the_maximum(run, log):
    def init():
        event = EventFd(MAX_COUNT)
        assert vfs_poll(event) == EPOLLIN
        kthread_run(lambda: log.append(event.write(eight(5))))
        msleep(1)
        event.signal()
        msleep(1)
        assert log == []
        assert number(event.read(8)) == MAX_COUNT, "a signal that does not fit is lost"
        msleep(1)
        assert event.count == 5
        assert vfs_poll(event) == EPOLLIN | EPOLLOUT
        event.close()

    run(init)
    assert log == [8]


def test_non_blocking_and_wrong_arguments(run):
    def init():
        with EventFd(0, EFD_NONBLOCK) as event:
            assert vfs_poll(event) == EPOLLOUT
            assert refused(event.read, 8) == errno.EAGAIN
            assert refused(event.read, 7) == refused(event.write, b"1234567") == errno.EINVAL
            assert refused(event.write, b"\xff" * 8) == errno.EINVAL
            event.write(eight(MAX_COUNT))
            assert refused(event.write, eight(1)) == errno.EAGAIN
        for arguments in ((-1,), (MAX_COUNT + 1,), (0, 0x100)):
            with pytest.raises(OSError, match="eventfd"):
                EventFd(*arguments)
        return nr_files()

    assert run(init) == 0


def test_an_interrupt_handler_signals(run, log):
    def init():
        event = EventFd()
        request_irq(4, event.signal, "device")
        kthread_run(lambda: log.append(number(event.read(8))))
        msleep(1)
        current_kernel().lkl_trigger_irq(4)
        msleep(1)
        event.close()

    run(init)
    assert log == [4]


def test_the_system_call(run):
    def init():
        def main(sys):
            fd = sys.eventfd(2, EFD_CLOEXEC | EFD_NONBLOCK)
            assert sys.fcntl(fd, F_GETFD) == FD_CLOEXEC
            assert number(sys.read(fd, 8)) == 2
            assert refused(sys.read, fd, 8) == errno.EAGAIN
            assert refused(sys.eventfd, -1) == refused(sys.eventfd, 0, 0x100) == errno.EINVAL
            return 5

        return run_program(main), nr_files()

    assert run(init) == (5, 0)
