"""User processes on the host's network: they have nothing but `sys`."""

from __future__ import annotations

import errno
import socket
import threading

import pytest

from lkl_green.kernel.signum import SIG_IGN, SIGPIPE, TermSignal
from lkl_green.kernel.unistd import (
    AF_INET,
    EPOLL_CTL_ADD,
    EPOLLIN,
    POLLIN,
    SHUT_WR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    NR_accept,
    NR_recvfrom,
    NR_sendto,
)
from tests.fs.users import nr_files, refused, run_program, start

PATIENCE_S = 10
LOCALHOST = ("127.0.0.1", 0)


pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def process(run):
    """process(main): a kernel whose init runs the program `main(sys)` and waits for it; its exit code."""

    def process(main):
        return run(lambda: run_program(main))

    return process


def listening(sys, kind=SOCK_STREAM):
    fd = sys.socket(AF_INET, kind)
    sys.setsockopt(fd, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sys.bind(fd, LOCALHOST)
    sys.listen(fd)
    return fd


def in_thread(fn, *args):
    threading.Thread(target=fn, args=args, daemon=True).start()


def ask(address, log):
    with socket.create_connection(address, timeout=PATIENCE_S) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(100):
            answer += data
    log.append(answer)


@pytest.mark.parametrize(
    ("send", "dies"),
    [
        (lambda sys, fd: sys.send(fd, b"x"), True),
        (lambda sys, fd: sys.write(fd, b"x"), True),
        (lambda sys, fd: sys.writev(fd, [b"x"]), True),
        (lambda sys, fd: sys.send(fd, b"x", socket.MSG_NOSIGNAL), False),
    ],
    ids=["send", "write", "writev", "MSG_NOSIGNAL"],
)
def test_sending_for_nobody_is_sigpipe_and_for_who_ignores_it_epipe(process, log, send, dies):
    def sender(sys, fd):
        log.append(refused(send, sys, fd))

    def main(sys):
        server = listening(sys)
        client = sys.socket()
        sys.connect(client, sys.getsockname(server))
        sys.shutdown(client, SHUT_WR)
        codes = [sys.wait4(sys.clone(sender, client))[1]]
        sys.sigaction(SIGPIPE, SIG_IGN)
        codes.append(sys.wait4(sys.clone(sender, client))[1])
        assert codes == [TermSignal(SIGPIPE) if dies else 0, 0]

    assert process(main) == 0
    assert log == [errno.EPIPE] * (1 if dies else 2)


def test_a_process_serves_a_real_client(process, log):
    def main(sys):
        server = listening(sys)
        in_thread(ask, sys.getsockname(server), log)
        connection, peer = sys.accept(server)
        assert sys.getpeername(connection) == peer
        while data := sys.recv(connection, 100):
            assert sys.send(connection, data.upper()) == len(data)
        sys.close(connection)
        sys.close(server)
        return 7

    assert process(main) == 7


def test_a_forking_server(process, log):
    """The classic: a child for each connection, which inherits it; the parent closes its own number."""

    def child(sys, connection):
        while data := sys.read(connection, 100):
            sys.write(connection, data)
        return 0

    def main(sys):
        server = listening(sys)
        for _ in range(3):
            in_thread(ask, sys.getsockname(server), log)
        for _ in range(3):
            connection, _peer = sys.accept(server)
            sys.clone(child, connection)
            sys.close(connection)
        for _ in range(3):
            sys.wait4()
        return 0

    assert process(main) == 0


def test_two_processes_talk_through_the_hosts_network(run, log):
    def client(sys):
        fd = sys.socket()
        sys.connect(fd, log[0])
        sys.send(fd, b"ping")
        sys.shutdown(fd, SHUT_WR)
        log.append(sys.recv(fd, 100))
        return 0

    def server(sys):
        fd = listening(sys)
        log.append(sys.getsockname(fd))
        connection, _ = sys.accept(fd)
        while data := sys.recv(connection, 100):
            sys.send(connection, data + b" pong")
        return 0

    def init():
        from lkl_green.linux import kernel_wait4, schedule

        start(server, "/bin/server")
        while not log:
            schedule()
        run_program(client, "/bin/client")
        kernel_wait4(-1, 0)
        return nr_files()

    assert run(init) == 0
    assert log[1] == b"ping pong"


def test_poll_and_epoll_see_the_socket(process, log):
    def main(sys):
        server = listening(sys, SOCK_STREAM | SOCK_NONBLOCK)
        assert refused(sys.accept, server) == errno.EAGAIN
        in_thread(ask, sys.getsockname(server), log)
        assert sys.poll([(server, POLLIN)]) == [(server, POLLIN)]
        connection, _ = sys.accept(server, SOCK_NONBLOCK | SOCK_CLOEXEC)
        epoll = sys.epoll_create1()
        sys.epoll_ctl(epoll, EPOLL_CTL_ADD, connection, EPOLLIN)
        [(fd, events)] = sys.epoll_wait(epoll)
        assert (fd, events & EPOLLIN) == (connection, EPOLLIN)
        return len(sys.recv(connection, 100))

    assert process(main) == 5


def test_datagrams(process):
    def main(sys):
        one, other = sys.socket(AF_INET, SOCK_DGRAM), sys.socket(AF_INET, SOCK_DGRAM)
        sys.bind(one, LOCALHOST)
        sys.bind(other, LOCALHOST)
        sys.sendto(other, b"hello", sys.getsockname(one))
        return sys.recvfrom(one, 100) == (b"hello", sys.getsockname(other))

    assert process(main) == 1


def test_options(process):
    def main(sys):
        fd = sys.socket()
        sys.setsockopt(fd, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sys.getsockopt(fd, socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    assert process(main) == 1


def test_the_end_of_a_process_closes_its_sockets(run):
    def init():
        before = nr_files()
        run_program(lambda sys: sys.listen(sys.socket()))
        return nr_files() - before

    assert run(init) == 0


def test_what_is_wrong_is_an_errno(process):
    def main(sys):
        fd = sys.socket()
        read, _write = sys.pipe2()
        assert refused(sys.accept, read) == errno.ENOTSOCK
        assert refused(sys.accept, 99) == errno.EBADF
        assert refused(sys.accept, fd) == errno.EINVAL
        assert refused(sys.accept, fd, 1) == errno.EINVAL
        assert refused(sys.getpeername, fd) == errno.ENOTCONN
        assert refused(sys.recv, fd, 1) == errno.ENOTCONN
        assert refused(sys.socket, 999) == errno.EAFNOSUPPORT
        assert refused(sys.bind, fd, "somewhere") == errno.EFAULT
        assert refused(sys.bind, fd, ("127.0.0.1", 1 << 20)) == errno.EFAULT
        assert refused(sys.bind, fd, ("256.0.0.1.", 80)) == errno.EADDRNOTAVAIL
        assert refused(sys.connect, fd, None) == errno.EFAULT
        assert refused(sys.setsockopt, fd, socket.SOL_SOCKET, 12345, 1) == errno.ENOPROTOOPT
        assert refused(sys._call, NR_sendto, fd, b"x", 2) == errno.EFAULT
        assert refused(sys._call, NR_sendto, fd, "text", 1) == errno.EFAULT
        assert refused(sys._call, NR_recvfrom, fd, b"constant", 1) == errno.EFAULT
        sys.bind(fd, LOCALHOST)
        assert refused(sys.bind, sys.socket(), sys.getsockname(fd)) == errno.EADDRINUSE
        address = sys.getsockname(fd)
        sys.close(fd)
        assert refused(sys.connect, sys.socket(), address) == errno.ECONNREFUSED
        return 0

    assert process(main) == 0


def test_no_number_left(process):
    """accept() refuses before it takes the connection, which so is not lost."""

    def main(sys):
        server = listening(sys)
        while True:
            try:
                sys.dup(server)
            except OSError:
                break
        with socket.create_connection(sys.getsockname(server), timeout=PATIENCE_S):
            assert refused(sys.accept, server) == errno.EMFILE
            assert refused(sys.socket) == errno.EMFILE
            sys.close(server + 1)
            return sys._call(NR_accept, server, None)

    assert process(main) > 0


def test_the_application_and_other_os_threads_make_the_calls(boot, log):
    """No kernel thread at all: each OS thread has a task of its own in the kernel."""
    kernel = boot()
    sys = kernel.sys
    server = listening(sys)
    address = sys.getsockname(server)
    in_thread(ask, address, log)
    connection, _ = sys.accept(server)
    while data := sys.recv(connection, 100):
        sys.send(connection, data)

    def foreign():
        try:
            log.append(kernel.sys.recv(connection, 100))
        finally:
            kernel.lkl_sys_halt()

    in_thread(foreign)
    while not kernel.halted:
        kernel.pause(kernel.lkl_run())
    assert b"" in log
