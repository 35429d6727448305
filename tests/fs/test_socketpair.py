"""Socketpairs: both ways at once, ends in one direction or both, and what is lost when a peer goes."""

from __future__ import annotations

import errno

import pytest
from users import nr_files, refused, run_program

from lkl_green.fs.socketpair import create_socketpair
from lkl_green.kernel.unistd import AF_UNIX, FIONREAD, SOCK_NONBLOCK, SOCK_STREAM
from lkl_green.linux import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    O_NONBLOCK,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    current_kernel,
    kthread_run,
    msleep,
    socketpair,
    vfs_poll,
)


def test_both_directions_at_once(run):
    def init():
        def echo():
            while data := b.read(100):
                b.write(data.upper())
            b.close()

        a, b = socketpair()
        kthread_run(echo)
        answers = []
        for word in (b"one", b"two"):
            a.write(word)
            answers.append(a.read(100))
        a.shutdown(SHUT_WR)
        answers.append(a.read(1))
        a.close()
        assert nr_files() == 0
        return answers

    assert run(init) == [b"ONE", b"TWO", b""]


def test_each_side_fills_its_own_direction(run, log):
    def init():
        def push(end, letter):
            log.append(end.write(letter * 50_000))

        def pull(end):
            total = 0
            while total < 50_000:
                total += len(end.read(3000))
            log.append(total)

        pair = create_socketpair(size=4096)
        for end, letter in zip(pair, (b"x", b"y"), strict=True):
            kthread_run(push, end, letter)
            kthread_run(pull, end)
        msleep(10)
        for end in pair:
            end.close()

    run(init)
    assert log == [50_000] * 4


def test_shutdown_of_writing_lets_the_rest_be_read(run):
    def init():
        a, b = socketpair()
        a.write(b"rest")
        a.shutdown(SHUT_WR)
        assert refused(a.write, b"x") == errno.EPIPE
        assert vfs_poll(b) == EPOLLIN | EPOLLOUT | EPOLLRDHUP
        assert (b.ioctl(FIONREAD), b.read(10), b.read(10)) == (4, b"rest", b"")
        b.write(b"back")
        assert a.read(10) == b"back"
        a.close()
        b.close()

    run(init)


def test_shutdown_of_reading_breaks_the_peers_writes(run, log):
    def init():
        def reader():
            log.append(a.read(1))

        a, b = socketpair()
        kthread_run(reader)
        msleep(1)
        a.shutdown(SHUT_RD)
        msleep(1)
        assert refused(b.write, b"x") == errno.EPIPE
        assert a.write(b"other way") == b.ioctl(FIONREAD) == 9
        a.shutdown(SHUT_RDWR)
        assert vfs_poll(a) == EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP
        assert refused(a.shutdown, 3) == errno.EINVAL
        a.close()
        b.close()
        assert refused(a.shutdown, SHUT_RD) == errno.EBADF

    run(init)
    assert log == [b""]


def test_a_closed_peer(run, log):
    def init():
        def reader():
            log.append(a.read(1))

        a, b = socketpair()
        kthread_run(reader)
        msleep(1)
        b.close()
        msleep(1)
        assert vfs_poll(a) == EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP
        assert refused(a.write, b"x") == errno.EPIPE
        a.close()

    run(init)
    assert log == [b""]


def test_a_peer_that_is_closed_with_bytes_unread_resets(run):
    def init():
        a, b = socketpair()
        b.write(b"sent before")
        a.write(b"never read")
        b.close()
        assert vfs_poll(a) & EPOLLERR
        assert a.read(100) == b"sent before"
        with pytest.raises(ConnectionResetError):
            a.read(1)
        assert a.read(1) == b"", "once"
        a.close()

    run(init)


def test_non_blocking(run):
    def init():
        a, b = socketpair(O_NONBLOCK)
        assert refused(a.read, 1) == errno.EAGAIN
        assert vfs_poll(a) == EPOLLOUT
        room = a.write(bytes(1 << 20))
        assert room == 212_992
        assert refused(a.write, b"x") == errno.EAGAIN
        assert (vfs_poll(a), vfs_poll(b)) == (0, EPOLLIN | EPOLLOUT)
        assert len(b.read(1 << 20)) == room
        assert vfs_poll(a) == EPOLLOUT
        a.close()
        b.close()

    run(init)


def test_the_system_calls(run):
    def init():
        def main(sys):
            a, b = sys.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)
            assert refused(sys.read, a, 1) == errno.EAGAIN
            sys.write(a, b"hello")
            sys.shutdown(a, SHUT_WR)
            assert (sys.read(b, 3), sys.read(b, 9), sys.read(b, 1)) == (b"hel", b"lo", b"")
            assert refused(sys.shutdown, 99, SHUT_WR) == errno.EBADF
            assert refused(sys.shutdown, sys.eventfd(), SHUT_WR) == errno.ENOTSOCK
            assert refused(sys.socketpair, 2) == errno.EAFNOSUPPORT
            assert refused(sys.socketpair, AF_UNIX, 2) == errno.EPROTONOSUPPORT
            assert refused(sys.socketpair, AF_UNIX, SOCK_STREAM, 6) == errno.EPROTONOSUPPORT

        run_program(main)
        assert refused(socketpair, 1) == errno.EINVAL
        assert refused(create_socketpair, 0, current_kernel(), "small", 10) == errno.EINVAL
        return nr_files()

    assert run(init) == 0


def test_a_conversation_has_the_same_trace_everywhere(parity):
    def init():
        def server():
            while data := b.read(7):
                b.write(data[::-1])
            b.close()

        a, b = socketpair()
        kthread_run(server)
        for number in range(20):
            a.write(b"x" * number + b"!")
            a.read(100)
        a.close()

    parity(init)
