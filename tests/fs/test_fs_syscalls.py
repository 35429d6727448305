"""The system calls of files, raw and from all sides: the application, foreign OS threads, kernel threads, processes."""

from __future__ import annotations

import errno
import threading
import time

import pytest
from users import nr_files, refused, run_program, start

from lkl_green import Deadlock
from lkl_green.kernel import unistd
from lkl_green.kernel.signum import SIG_BLOCK, SIGUSR1
from lkl_green.kernel.unistd import EPOLL_CTL_ADD, EPOLLEXCLUSIVE, FIONREAD, EpollEvent, NR_readv, NR_writev, PollFd
from lkl_green.linux import EPOLLIN, EventPoll, KFifo, current_kernel, do_poll, fget, kthread_run, msleep, pipe

TIMEOUT_S = 20.0


# -- raw calls


def test_raw_calls_speak_in_ints_and_objects(kernel):
    raw = kernel.lkl_syscall
    fds: list[int] = []
    assert raw(unistd.NR_pipe2, fds, 0) == 0
    assert fds == [0, 1]
    buffer = bytearray(b"........")
    assert raw(unistd.NR_write, fds[1], b"hello, world", 5) == 5
    assert raw(unistd.NR_read, fds[0], buffer, 100) == 5
    assert buffer == b"hello..."
    assert raw(unistd.NR_write, fds[1], memoryview(b"view"), 4) == 4
    view = memoryview(buffer)
    assert raw(unistd.NR_read, fds[0], view, 8) == 4
    assert buffer == b"viewo..."
    assert raw(unistd.NR_pipe, fds) == 0
    assert raw(unistd.NR_dup2, fds[0], fds[0]) == 2
    assert raw(unistd.NR_ioctl, fds[0], unistd.FIONREAD, 0) == 0
    events: list[EpollEvent] = []
    assert raw(unistd.NR_epoll_create1, 0) == 4
    assert raw(unistd.NR_epoll_ctl, 4, unistd.EPOLL_CTL_ADD, fds[1], EpollEvent(unistd.EPOLLOUT, "mine")) == 0
    assert raw(unistd.NR_epoll_wait, 4, events, 10, -1) == 1
    assert repr(events[0]) == "<EpollEvent 0x4 'mine'>"
    pair: list[int] = []
    assert raw(unistd.NR_socketpair, unistd.AF_UNIX, unistd.SOCK_STREAM, 0, pair) == 0
    assert raw(unistd.NR_shutdown, pair[0], unistd.SHUT_WR) == 0
    assert raw(unistd.NR_eventfd2, 0, 0) == 7
    for fd in range(8):
        assert raw(unistd.NR_close, fd) == 0
    assert kernel.fs.nr_files == 0


@pytest.mark.parametrize(
    ("number", "params", "error"),
    [
        (unistd.NR_read, (99, bytearray(), 1), errno.EBADF),
        (unistd.NR_read, (0, b"cannot be filled", 1), errno.EFAULT),
        (unistd.NR_read, (0, memoryview(bytearray(3)), 4), errno.EFAULT),
        (unistd.NR_read, (0, bytearray(), -1), errno.EINVAL),
        (unistd.NR_read, (1, bytearray(), 1), errno.EBADF),
        (unistd.NR_write, (0, b"x", 1), errno.EBADF),
        (unistd.NR_write, (1, "text", 4), errno.EFAULT),
        (unistd.NR_write, (1, b"short", 6), errno.EFAULT),
        (unistd.NR_write, (1, b"x", -1), errno.EINVAL),
        (unistd.NR_close, (-1,), errno.EBADF),
        (unistd.NR_ioctl, (1, 0x5401, None), errno.ENOTTY),
        (unistd.NR_pipe2, ([], 1), errno.EINVAL),
        (unistd.NR_epoll_ctl, (0, unistd.EPOLL_CTL_ADD, 1, EpollEvent(0)), errno.EINVAL),
        (unistd.NR_poll, ([PollFd(0, 0)], 2, 0), errno.EINVAL),
    ],
)
def test_raw_calls_fail_with_negative_errnos(kernel, number, params, error):
    assert kernel.lkl_syscall(unistd.NR_pipe2, [], 0) == 0
    assert kernel.lkl_syscall(number, *params) == -error
    assert kernel.fs.nr_files == 2


# -- from all sides


def test_readv_and_writev(run):
    def main(sys):
        r, w = sys.pipe2()
        assert sys.writev(w, [b"one", bytearray(b""), memoryview(b"two")]) == 6
        parts = [bytearray(2), bytearray(0), bytearray(2), bytearray(4)]
        assert sys.readv(r, parts) == 6
        assert parts == [b"on", b"", b"et", b"wo\0\0"]
        assert sys.writev(w, []) == sys.readv(r, []) == 0
        view = bytearray(3)
        sys.write(w, b"abc")
        assert (sys.readv(r, [memoryview(view)[1:]]), view) == (2, b"\0ab")
        raw = sys._raw
        for nr, good, bad in ((NR_readv, bytearray(1), b"x"), (NR_writev, b"x", "x")):
            assert raw(nr, 99, [good], 1) == -errno.EBADF
            assert raw(nr, r if nr == NR_readv else w, [good, bad], 2) == -errno.EFAULT
            assert raw(nr, r if nr == NR_readv else w, [good], 2) == -errno.EINVAL
            assert raw(nr, r if nr == NR_readv else w, [good] * 1025, 1025) == -errno.EINVAL
        assert sys.read(r, 10) == b"c"

    assert run(lambda: run_program(main)) == 0


def test_a_writev_is_as_atomic_as_a_write(run, log):
    """Its pieces go into a pipe as one, and wait for room as one."""

    def main(sys):
        r, w = sys.pipe2()
        sys.write(w, bytes(65536 - 100))
        sys.clone(lambda sys: sys.writev(w, [b"x" * 80, b"y" * 80]))
        sys.nanosleep(1000)
        log.append(sys.ioctl(r, FIONREAD))
        sys.read(r, 65536)
        log.append(sys.read(r, 1000))

    run(lambda: run_program(main))
    assert log == [65536 - 100, b"x" * 80 + b"y" * 80]


def test_the_application_blocks_while_kernel_threads_work(boot):
    kernel = boot()
    sys = kernel.sys
    r, w = sys.pipe2()
    back, out = sys.pipe2()

    def upper(source, sink):
        while data := source.read(10):
            msleep(1)
            sink.write(data.upper())

    def sys_start():
        kthread_run(upper, fget(r), fget(out))

    kernel.syscalls.install(500, "start", sys_start)
    kernel.lkl_syscall(500)
    sys.write(w, b"hello")
    assert sys.read(back, 10) == b"HELLO"
    with pytest.raises(Deadlock):
        sys.read(back, 10)


def test_a_foreign_thread_blocks_in_read(boot):
    kernel = boot()
    r, w = kernel.sys.pipe2()
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(kernel.sys.read(r, 10)), daemon=True)
    reader.start()
    run_until(kernel, lambda: any(task.waiting_for is not None and "pipe" in repr(task) for task in kernel.pids))
    assert kernel.sys.write(w, b"hello") == 5
    run_until(kernel, lambda: not reader.is_alive())
    assert received == [b"hello"]


def run_until(kernel, condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        kernel.lkl_run()
        time.sleep(0.001)


def test_processes_in_a_pipeline_have_the_same_trace_everywhere(parity):
    def init():
        def shell(sys):
            def stage(sys, source, sink, others):
                sys.dup2(source, 0)
                sys.dup2(sink, 1)
                for fd in others:
                    sys.close(fd)
                sys.execve("/bin/upper")

            pipes = [sys.pipe2() for _ in range(3)]
            (r1, w1), (r2, w2), (r3, w3) = ((r + 10, w + 10) for r, w in pipes)
            for pair in pipes:
                for fd in pair:
                    sys.dup2(fd, fd + 10)
                    sys.close(fd)
            every = [r1, w1, r2, w2, r3, w3]
            sys.clone(stage, r1, w2, every)
            sys.clone(stage, r2, w3, every)
            for fd in (r1, r2, w2, w3):
                sys.close(fd)
            for word in (b"one ", b"two ", b"three"):
                sys.write(w1, word)
                sys.nanosleep(1000)
            sys.close(w1)
            text = b""
            while data := sys.read(r3, 4):
                text += data
            assert text == b"ONE TWO THREE"
            assert [sys.wait4()[1], sys.wait4()[1]] == [3, 3]

        def upper(sys, argv, envp):
            count = 0
            while data := sys.read(0, 100):
                sys.write(1, data.upper())
                count += 1
            return count

        current_kernel().register_program("/bin/upper", upper)
        run_program(shell)
        assert nr_files() == 0

    text = parity(init)
    assert "sys_enter: NR 293" in text


# -- the end


def test_vectors_masks_and_exclusive_epolls_have_the_same_trace_everywhere(parity):
    def server(sys, r, w):
        sys.close(w)
        epoll = sys.epoll_create1()
        sys.epoll_ctl(epoll, EPOLL_CTL_ADD, r, EPOLLIN | EPOLLEXCLUSIVE)
        while sys.epoll_wait(epoll) == [(r, EPOLLIN)]:
            sys.readv(r, [bytearray(3), bytearray(3)])

    def main(sys):
        r, w = sys.pipe2()
        for _ in range(3):
            sys.clone(server, r, w)
        sys.sigaction(SIGUSR1, lambda sys, sig: sys.getpid())
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        for _ in range(4):
            sys.writev(w, [b"abc", b"def"])
            sys.kill(sys.getpid(), SIGUSR1)
            with pytest.raises(InterruptedError):
                sys.select([], sigmask=())
            sys.select([], timeout_ns=1000)
        sys.close(r)
        sys.close(w)
        return sum(sys.wait4()[1] for _ in range(3))

    text = parity(lambda: run_program(main))
    assert text.count("sys_exit: NR 19 = 6") == 4


def test_whatever_waits_when_the_kernel_halts_leaves_nothing(boot, log):
    def init():
        def waits(what, *args):
            try:
                what(*args)
            finally:
                log.append(what.__name__)

        r, w = pipe()
        w.write(bytes(65536))
        epoll, empty = EventPoll(), KFifo(1)
        kthread_run(waits, pipe()[0].read, 1)
        kthread_run(waits, w.write, b"x")
        kthread_run(waits, epoll.wait)
        kthread_run(waits, empty.get)
        kthread_run(waits, do_poll, [(epoll, EPOLLIN)])

        def main(sys):
            sys.pipe2()
            sys.read(0, 1)

        start(main)
        msleep(1)
        assert (nr_files(), log) == (7, [])
        assert r.f_count == 1

    kernel = boot(init)
    kernel.run()
    assert sorted(log) == ["do_poll", "get", "read", "wait", "write"]
    assert kernel.fs.nr_files == 0


def test_a_halted_kernel_refuses(boot):
    kernel = boot()
    r, _w = kernel.sys.pipe2()
    kernel.lkl_sys_halt()
    assert refused(kernel.sys.read, r, 1) == refused(kernel.sys.pipe2) == errno.ESHUTDOWN


def test_two_kernels_have_files_of_their_own(boot):
    one, other = boot(), boot()
    assert one.sys.pipe2() == other.sys.pipe2() == (0, 1)
    one.sys.write(1, b"one")
    other.sys.write(1, b"other")
    assert (one.sys.read(0, 9), other.sys.read(0, 9)) == (b"one", b"other")
