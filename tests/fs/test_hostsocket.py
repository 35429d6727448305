"""Real sockets served by kernel threads; the clients are OS threads, and sometimes kernel threads, too."""

from __future__ import annotations

import errno
import gc
import os
import socket
import struct
import threading

import pytest
from greenlet import greenlet

from lkl_green.fs.eventpoll import EventPoll
from lkl_green.fs.hostsocket import host_socket
from lkl_green.host import services
from lkl_green.host.pollers import SelectorPoller
from lkl_green.kernel.unistd import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, EPOLLOUT, SOCK_NONBLOCK, EpollEvent
from lkl_green.linux import (
    Completion,
    allow_signal,
    current_kernel,
    kthread_run,
    kthread_stop,
    msleep,
    schedule,
    send_sig,
)

SIGUSR1 = 10
PATIENCE_S = 10
LOCALHOST = ("127.0.0.1", 0)


pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture(params=["epoll", "selectors"])
def any_poller(request, monkeypatch):
    """With the poller of this machine, and with the portable one."""
    if request.param == "selectors":
        monkeypatch.setattr(services, "make_poller", SelectorPoller)


def listening(**options):
    server = host_socket(**options)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(LOCALHOST)
    server.listen()
    return server


def in_thread(fn, *args):
    thread = threading.Thread(target=fn, args=args, daemon=True)
    thread.start()
    return thread


def started(fn, *args, name="worker"):
    """Run a kernel thread; what completes at its end. (Stopping one that has not begun would keep it from running.)"""
    done = Completion()

    def body():
        try:
            fn(*args)
        finally:
            done.complete()

    kthread_run(body, name=name)
    return done


def client_of(address):
    return socket.create_connection(address, timeout=PATIENCE_S)


def echo(connection):
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def ask(address, text, log):
    """An OS thread's part: send, and read until the echo is complete."""
    with client_of(address) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(65536):
            answer += data
    log.append(answer == text)


# -- serving


def test_each_connection_is_a_kernel_thread(run, log, any_poller):
    def init():
        threads = []
        with listening() as server:
            clients = [in_thread(ask, server.getsockname(), b"x" * (10_000 * n), log) for n in range(8)]
            for _ in clients:
                connection, _peer = server.accept()
                threads.append(started(echo, connection, name="echo"))
            for thread in threads:
                thread.wait_for_completion()

            for client in clients:
                client.join(PATIENCE_S)

    run(init)
    assert log == [True] * 8


def test_both_ends_in_one_kernel(run, log, any_poller):
    """connect() and accept() sleep, each in its own kernel thread."""

    def client(address):
        with host_socket() as sock:
            sock.connect(address)
            for number in range(100):
                sock.sendall(b"%d" % number)
                assert sock.recv(100) == b"%d" % number
            log.append(sock.getpeername() == address)

    def init():
        with listening() as server:
            client_done = started(client, server.getsockname(), name="client")
            connection, peer = server.accept()
            assert connection.getpeername() == peer
            echo(connection)
            client_done.wait_for_completion()

    run(init)
    assert log == [True]


def test_more_than_any_buffer_holds(run, any_poller):
    size = 4 << 20

    def client(address):
        with host_socket() as sock:
            sock.connect(address)
            sock.sendall(bytes(size))

    def init():
        got = 0
        with listening() as server:
            client_done = started(client, server.getsockname(), name="client")
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    got += len(data)
            client_done.wait_for_completion()
        return got

    assert run(init) == size


def test_several_threads_accept_from_one_socket(run, log):
    """Many connections may be one edge: whoever got one wakes the next."""

    def acceptor(server):
        connection, _ = server.accept()
        with connection:
            log.append(connection.recv(10))

    def init():
        with listening() as server:
            threads = [kthread_run(acceptor, server, name=f"acceptor/{n}") for n in range(5)]
            msleep(1)
            clients = [client_of(server.getsockname()) for _ in threads]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number)
            for thread in threads:
                kthread_stop(thread)
            for client in clients:
                client.close()

    run(init)
    assert sorted(log) == [b"0", b"1", b"2", b"3", b"4"]


def test_one_acceptor_of_two_is_interrupted_and_the_other_gets_the_connection(run, log):
    def acceptor(server, name):
        allow_signal(SIGUSR1)
        try:
            connection, _ = server.accept()
        except InterruptedError:
            log.append(f"{name} interrupted")
        else:
            connection.close()
            log.append(f"{name} accepted")

    def init():
        with listening() as server:
            first = kthread_run(acceptor, server, "first", name="first")
            second = kthread_run(acceptor, server, "second", name="second")
            msleep(1)
            with client_of(server.getsockname()):
                send_sig(SIGUSR1, first)
                kthread_stop(first)
                kthread_stop(second)

    run(init)
    assert log == ["first interrupted", "second accepted"]


def test_the_end_that_comes_with_the_last_bytes_is_not_missed(run, any_poller):
    """Data and FIN in one event: the short read must not be taken for an empty socket."""

    def init():
        ours, theirs = socket.socketpair()
        with host_socket(ours) as sock:
            sock.poll()  # registered before anything comes
            theirs.send(b"last words")
            theirs.close()
            return sock.recv(4096), sock.recv(4096), sock.recv(4096)

    assert run(init) == (b"last words", b"", b"")


def test_a_short_read_saves_the_system_call_that_says_eagain(run, log):
    ours, theirs = socket.socketpair()

    def reader(sock):
        while data := sock.recv(4096):
            log.append(data)

    def init():
        with host_socket(ours) as sock:
            real, calls = sock._recv, []
            sock._recv = lambda count: (calls.append(count), real(count))[1]
            task = kthread_run(reader, sock, name="reader")
            for number in range(5):
                theirs.send(b"%d" % number)
                msleep(1)
            theirs.close()
            kthread_stop(task)
            return len(calls)

    assert run(init) == 6
    assert log == [b"0", b"1", b"2", b"3", b"4"]


def test_datagrams(run):
    def server(sock):
        data, peer = sock.recvfrom(100)
        sock.sendto(data.upper(), peer)

    def init():
        with host_socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, host_socket(type=socket.SOCK_DGRAM) as client:
            sock.bind(LOCALHOST)
            task = kthread_run(server, sock, name="server")
            schedule()
            client.connect(sock.getsockname())
            client.send(b"hello")
            answer = client.recv(100)
            kthread_stop(task)
            return answer

    assert run(init) == b"HELLO"


def test_a_small_count_leaves_the_rest_for_later(run):
    ours, theirs = socket.socketpair()

    def init():
        with host_socket(ours) as sock:
            theirs.send(b"abcdef")
            parts = [sock.recv(6, socket.MSG_PEEK), sock.recv(2), sock.recv(2), sock.recv(2)]
            with pytest.raises(BlockingIOError):
                sock.recv(2, socket.MSG_DONTWAIT)
            theirs.close()
            return [*parts, sock.recv(2)]

    assert run(init) == [b"abcdef", b"ab", b"cd", b"ef", b""]


def test_read_and_write_are_recv_and_send(run):
    ours, theirs = socket.socketpair()

    def init():
        with host_socket(ours) as sock:
            assert sock.write(b"hello") == 5
            assert theirs.recv(100) == b"hello"
            theirs.send(b"there")
            assert sock.read(100) == b"there"
            theirs.close()

    run(init)


# -- non-blocking, epoll


def test_an_event_loop_of_kernel_epoll_serves_real_clients(run, log):
    """A server written for epoll, inside one kernel thread: O_NONBLOCK sockets and one wait."""

    def init():
        answered = 0
        with listening(flags=SOCK_NONBLOCK) as server, EventPoll() as epoll:
            epoll.ctl(EPOLL_CTL_ADD, server, EpollEvent(EPOLLIN, server), 0)
            clients = [in_thread(ask, server.getsockname(), b"x" * 1000, log) for _ in range(5)]
            while answered < len(clients):
                for event in epoll.wait(16, None):
                    if event.data is server:
                        connection, _ = server.accept(SOCK_NONBLOCK)
                        epoll.ctl(EPOLL_CTL_ADD, connection, EpollEvent(EPOLLIN, connection), 0)
                        continue
                    data = event.data.recv(4096)
                    if data:
                        event.data.sendall(data)
                    else:
                        epoll.ctl(EPOLL_CTL_DEL, event.data, None, 0)
                        event.data.close()
                        answered += 1

    run(init)


def test_a_non_blocking_connect_is_under_way(run):
    def init():
        with listening() as server, host_socket(flags=SOCK_NONBLOCK) as sock:
            with pytest.raises(BlockingIOError, match=f"Errno {errno.EINPROGRESS}"):
                sock.connect(server.getsockname())
            with EventPoll() as epoll:
                epoll.ctl(EPOLL_CTL_ADD, sock, EpollEvent(EPOLLOUT, None), 0)
                assert epoll.wait(1, None)[0].events == EPOLLOUT
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            connection, _ = server.accept()
            connection.close()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0

    run(init)


def test_nobody_there_to_accept(run):
    def init():
        with listening(flags=SOCK_NONBLOCK) as server, pytest.raises(BlockingIOError):
            server.accept()

    run(init)


# -- errors


def test_nobody_listens(run):
    def init():
        with listening() as server:
            address = server.getsockname()
        with host_socket() as sock, pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1"):
            sock.connect(address)

    run(init)


def test_the_peer_resets(run, any_poller):
    def init():
        with listening() as server:
            client = client_of(server.getsockname())
            connection, _ = server.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

            def reset():
                client.close()

            with connection:
                in_thread(reset)
                with pytest.raises(ConnectionResetError):
                    connection.recv(100)
                with pytest.raises(BrokenPipeError):
                    connection.sendall(b"x")

    run(init)


def test_closing_ends_every_wait(run, log):
    def wait(what, call):
        try:
            call()
        except OSError as error:
            log.append((what, error.errno))

    def init():
        server = listening()
        ours, theirs = socket.socketpair()
        sock = host_socket(ours)
        threads = [
            kthread_run(wait, "accept", server.accept, name="accept"),
            kthread_run(wait, "accept", server.accept, name="accept"),
            kthread_run(wait, "recv", lambda: sock.recv(1), name="recv"),
            kthread_run(wait, "sendall", lambda: sock.sendall(bytes(1 << 22)), name="sendall"),
        ]
        msleep(1)
        server.close()
        sock.close()
        for thread in threads:
            kthread_stop(thread)
        theirs.close()

    run(init)
    assert sorted(log) == [("accept", 9), ("accept", 9), ("recv", 9), ("sendall", 9)]


def test_a_closed_socket_is_not_used_again(run):
    def init():
        sock = host_socket()
        sock.close()
        calls = [
            lambda: sock.recv(1),
            lambda: sock.recvfrom(1),
            lambda: sock.send(b""),
            lambda: sock.sendall(b""),
            lambda: sock.sendto(b"", LOCALHOST),
            lambda: sock.bind(LOCALHOST),
            sock.listen,
            sock.accept,
            lambda: sock.connect(LOCALHOST),
            lambda: sock.shutdown(socket.SHUT_RDWR),
            sock.getsockname,
            sock.getpeername,
            lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        ]
        for call in calls:
            with pytest.raises(OSError, match=r"Errno 9.*it is closed"):
                call()

    run(init)


def test_what_is_no_socket(run):
    def init():
        with pytest.raises(TypeError, match="is no socket"):
            host_socket("localhost")
        closed = socket.socket()
        closed.close()
        with pytest.raises(OSError, match="is closed"):
            host_socket(closed)
        with pytest.raises(OSError, match="only SOCK_NONBLOCK"):
            host_socket(flags=1)
        with pytest.raises(OSError, match=f"Errno {errno.EAFNOSUPPORT}"):
            host_socket(999)
        with host_socket() as sock:
            with pytest.raises(OSError, match="only SOCK_NONBLOCK and SOCK_CLOEXEC"):
                sock.accept(1)
            with pytest.raises(OSError, match=f"Errno {errno.EINVAL}"):
                sock.accept()
            with pytest.raises(OSError, match=f"Errno {errno.ENOTCONN}"):
                sock.getpeername()
            with pytest.raises(OSError, match=f"Errno {errno.ENOTCONN}"):
                sock.shutdown(socket.SHUT_RDWR)

    run(init)


def test_no_descriptor_left_to_accept_with(run, monkeypatch):
    """The connection still waits, and is accepted when there is one again."""

    class Exhausted:
        def __init__(self, sock):
            self.sock = sock
            self.left = 1

        def accept(self):
            if self.left:
                self.left -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

        def getsockname(self):
            return self.sock.getsockname()

    def init():
        with listening() as server, client_of(server.getsockname()):
            real, server._sock = server._sock, Exhausted(server._sock)
            with pytest.raises(OSError, match="Too many open files"):
                server.accept()
            connection, _ = server.accept()
            connection.close()
            server._sock = real

    run(init)


def test_a_halt_closes_every_socket(boot):
    """The leak check of this file is the assertion."""

    def init():
        server = listening()
        kthread_run(server.accept, name="accept")
        ours, _theirs = socket.socketpair()
        theirs = host_socket(_theirs)
        kthread_run(lambda: host_socket(ours).recv(1), name="recv")
        msleep(1)
        assert current_kernel().host.live().descriptors == 2
        assert theirs.poll() == EPOLLOUT

    kernel = boot(init)
    kernel.run()
    assert kernel.fs.nr_files == 0


# -- very many


@pytest.mark.parametrize("rounds", [int(os.environ.get("LKL_GREEN_CONNECTIONS", "1000")) // 50])
def test_connections_come_and_go_and_leave_nothing_behind(boot, rounds, eventually):
    """50 at a time, until LKL_GREEN_CONNECTIONS were opened and closed; `make soak` wants ten thousand."""

    def foreign_threads(kernel):
        return threading.active_count() - kernel.host.live().threads

    def counts(kernel):
        gc.collect()
        greenlets = sum(isinstance(thing, greenlet) for thing in gc.get_objects())
        return {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "tasks": len(kernel.pids),
            "greenlets": greenlets,
            "host": kernel.host.live(),
            "files": kernel.fs.nr_files,
        }

    def clients(address, rounds):
        for _ in range(rounds):
            socks = [client_of(address) for _ in range(50)]
            for sock in socks:
                sock.sendall(b"hello")
            for sock in socks:
                assert sock.recv(5) == b"hello"
                sock.close()

    def init():
        kernel = current_kernel()
        foreigners = foreign_threads(kernel)
        with listening(name="server") as server:

            def serve(number):
                threads = []
                for _ in range(number):
                    connection, _peer = server.accept()
                    threads.append(started(echo, connection, name="echo"))
                for thread in threads:
                    thread.wait_for_completion()

            server.poll()  # watched from now on, whether or not somebody ever has to wait for a connection
            seen = []
            for batches in (1, rounds):  # the first makes what is kept: a poller, a pool of greenlets
                thread = in_thread(clients, server.getsockname(), batches)
                for _ in range(batches):
                    serve(50)
                thread.join(PATIENCE_S)
                assert eventually(lambda: foreign_threads(kernel) <= foreigners)
                seen.append(counts(kernel))
            # The greenlet of an OS thread that has ended may be freed some time later: fewer are no leak.
            assert seen[1].pop("greenlets") <= seen[0].pop("greenlets")
            assert seen[0] == seen[1]

    boot(init, clock="monotonic").run()
