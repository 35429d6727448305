"""Descriptors of the host in the hands of kernel threads: the other side of each is an OS thread or the test itself."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from contextlib import suppress

import pytest

from lkl_green import lkl_start_kernel
from lkl_green.errors import HostMisuse, NoCurrentKernel
from lkl_green.fs.eventpoll import EventPoll
from lkl_green.fs.hostfd import host_fd
from lkl_green.fs.hostsocket import host_socket
from lkl_green.fs.select import do_poll
from lkl_green.host import poller as poller_module
from lkl_green.host import services
from lkl_green.host.pollers import SelectorPoller
from lkl_green.kernel.loop import RunReason
from lkl_green.kernel.unistd import (
    EPOLL_CTL_ADD,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    O_NONBLOCK,
    O_RDONLY,
    EpollEvent,
)
from lkl_green.linux import allow_signal, current_kernel, kthread_run, kthread_stop, msleep, schedule, send_sig

SIGUSR1 = 10
PATIENCE_S = 10


@pytest.fixture(autouse=True)
def no_leak():
    """Nothing that a test does may leave a descriptor open."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def pipe():
    """Read end and write end, closed by whoever uses them."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE_S)
    yield ours, theirs
    ours.close()
    theirs.close()


def later(fn, *args):
    """Do it in an OS thread, after the kernel had time to fall asleep; whether it had does not matter."""

    def body():
        time.sleep(0.02)
        fn(*args)

    threading.Thread(target=body, daemon=True).start()


# -- reading and writing


def test_a_kernel_thread_sleeps_until_the_host_sends(run, pipe, log):
    read, write = pipe

    def other():
        log.append("others run")
        later(os.write, write, b"hello")

    def init():
        with host_fd(read) as file:
            kthread_run(other, name="other")
            log.append(file.read(100))
            later(os.close, write)
            log.append(file.read(100))

    run(init)
    assert log == ["others run", b"hello", b""]


def test_data_that_is_there_costs_no_registration(run, pipe):
    read, write = pipe
    os.write(write, b"hello")

    def init():
        with host_fd(read) as file:
            return file.read(100), current_kernel().host.made_poller

    assert run(init) == (b"hello", None)


def test_a_writer_sleeps_until_there_is_room(run, pair, log):
    """A megabyte does not fit into any buffer."""
    ours, theirs = pair
    size = 1 << 20

    def drain():
        left = size
        while left:
            left -= len(theirs.recv(65536))
        log.append("drained")

    def init():
        with host_fd(ours) as file:
            later(drain)
            log.append(file.write(bytes(size)))

    run(init)
    for _ in range(1000):
        if len(log) == 2:
            break
        time.sleep(0.01)
    assert sorted(map(str, log)) == [str(size), "drained"]


def test_nobody_reads_any_more(run, pipe):
    read, write = pipe
    os.close(read)

    def init():
        with host_fd(write) as file, pytest.raises(BrokenPipeError):
            file.write(b"x")

    run(init)


def test_what_was_written_before_the_reader_went_is_told(run, pair):
    ours, theirs = pair

    def init():
        with host_fd(ours) as file:
            later(theirs.close)
            return file.write(bytes(1 << 22))

    assert 0 < run(init) < 1 << 22


def test_a_regular_file_is_always_ready(run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def init():
        with path.open("rb", buffering=0) as object_, host_fd(object_) as file:
            return file.poll() & EPOLLIN, file.read(4), file.read(100), file.read(1), current_kernel().irq.has_sources

    assert run(init) == (EPOLLIN, b"cont", b"ent", b"", False)


def test_two_kernel_threads_talk_through_the_host(run, log):
    """A pipe of the host inside one kernel: as slow as it is, it works."""
    read, write = os.pipe()

    def reader(file):
        with file:
            while data := file.read(1):
                log.append(data)

    def init():
        task = kthread_run(reader, host_fd(read), name="reader")
        with host_fd(write) as file:
            for data in (b"a", b"b", b"c"):
                file.write(data)
                schedule()
        kthread_stop(task)

    run(init)
    assert log == [b"a", b"b", b"c"]


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="Linux has eventfds")
def test_an_eventfd_of_the_host_counts(run):
    number = os.eventfd(0)

    def init():
        with host_fd(number) as file:
            later(os.eventfd_write, number, 3)
            return file.read(8)

    assert run(init) == (3).to_bytes(8, sys.byteorder)


# -- non-blocking, poll, epoll


def test_a_non_blocking_file_says_eagain(run, pipe):
    read, write = pipe

    def init():
        with host_fd(read, flags=O_NONBLOCK) as file:
            with pytest.raises(BlockingIOError):
                file.read(1)
            os.write(write, b"x")
            assert file.read(1) == b"x"
            file.set_flags(0)
            later(os.write, write, b"y")
            return file.read(1)

    assert run(init) == b"y"


def test_the_kernels_poll_waits_for_the_host(run, pipe, log):
    read, write = pipe

    def init():
        kernel = current_kernel()
        with host_fd(read) as file:
            log.append(do_poll(kernel, [(file, EPOLLIN)], 0))
            later(os.write, write, b"x")
            log.append(do_poll(kernel, [(file, EPOLLIN)], None))
            os.close(write)
            file.read(1)
            log.append(do_poll(kernel, [(file, EPOLLIN)], None))

    run(init)
    assert log == [[0], [EPOLLIN], [EPOLLHUP]]


@pytest.mark.parametrize("trigger", [0, EPOLLET], ids=["level", "edge"])
def test_the_kernels_epoll_waits_for_the_host(run, pair, log, trigger):
    ours, theirs = pair

    def init():
        with host_fd(ours) as file, EventPoll() as epoll:
            epoll.ctl(EPOLL_CTL_ADD, file, EpollEvent(EPOLLIN | trigger, "ours"), 0)
            for number in range(3):
                later(theirs.send, b"x")
                [event] = epoll.wait(8, None)
                log.append((event.data, event.events, file.read(8)))
                assert number == len(log) - 1

    run(init)
    assert log == [("ours", EPOLLIN, b"x")] * 3


def test_a_socket_that_can_be_written_says_so(run, pair):
    def init():
        with host_fd(pair[0]) as file:
            return file.poll()

    assert run(init) == EPOLLOUT


# -- ending a wait


def test_closing_the_file_under_a_reader_ends_its_wait(run, pipe, log):
    read, _ = pipe

    def reader(file):
        try:
            file.read(1)
        except OSError as error:
            log.append(error)

    def init():
        file = host_fd(read)
        task = kthread_run(reader, file, name="reader")
        msleep(1)
        file.close()
        kthread_stop(task)

    run(init)
    assert "[Errno 9]" in str(log[0])
    assert "was closed meanwhile, while reader waited for it" in str(log[0])


def test_closing_the_descriptor_behind_the_kernels_back_ends_the_wait_with_a_name(run, pair, monkeypatch):
    monkeypatch.setattr(services, "AUDIT_S", 0.001)
    number = pair[0].detach()

    def init():
        with host_fd(number) as file:
            later(os.close, number)
            with pytest.raises(OSError, match=r"Errno 9.*closed by somebody who did not tell the kernel"):
                file.read(1)

    run(init)


def test_a_signal_ends_the_wait(run, pipe, log):
    read, _ = pipe

    def reader(file):
        allow_signal(SIGUSR1)
        try:
            file.read(1)
        except InterruptedError:
            log.append("interrupted")

    def init():
        with host_fd(read) as file:
            task = kthread_run(reader, file, name="reader")
            msleep(1)
            send_sig(SIGUSR1, task)
            kthread_stop(task)

    run(init)
    assert log == ["interrupted"]


def test_a_halt_ends_the_wait_and_closes_the_descriptor(boot, pipe, log):
    read, _ = pipe

    def reader(file):
        try:
            file.read(1)
        finally:
            log.append("left")

    def init():
        kthread_run(reader, host_fd(read), name="reader")
        msleep(1)

    kernel = boot(init)
    kernel.run()
    assert log == ["left"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)


# -- idle, deadlock, virtual time


def test_waiting_for_the_host_is_no_deadlock_and_forgetting_to_is(boot, pipe):
    read, write = pipe

    def init():
        with host_fd(read) as file:
            file.read(1)
        with host_fd(os.dup(write)):
            current_kernel().sched.current.state = 2
            schedule()

    kernel = boot(init)
    status = kernel.lkl_run()
    assert status.reason is RunReason.IDLE
    os.write(write, b"x")
    kernel.pause(status)
    assert kernel.lkl_run().reason is RunReason.DEADLOCK


def test_without_a_timer_virtual_time_stands_still_while_the_host_works(run, pipe):
    read, write = pipe

    def init():
        clock = current_kernel().clock
        with host_fd(read) as file:
            before = clock.peek_ns()
            later(os.write, write, b"x")
            file.read(1)
            return clock.peek_ns() - before

    assert run(init) < 1_000_000


def test_virtual_time_waits_for_what_is_expected(run, pipe, log):
    read, write = pipe

    def sleeper():
        msleep(5)
        log.append("timer")

    def init():
        with host_fd(read) as file:
            task = kthread_run(sleeper, name="sleeper")
            file.expect()
            later(os.write, write, b"x")
            file.read(1)
            log.append("host")
            msleep(10)
            kthread_stop(task)

    run(init)
    assert log == ["host", "timer"]


def test_virtual_time_does_not_wait_for_what_may_never_come(run, pipe, log):
    def reader(file):
        try:
            file.read(1)
        except OSError:
            log.append("closed")

    def init():
        with host_fd(pipe[0]) as file:
            task = kthread_run(reader, file, name="reader")
            msleep(1_000_000)
        kthread_stop(task)

    run(init)
    assert log == ["closed"]


def test_a_busy_kernel_still_sees_the_host(run, pipe, log):
    """Nobody ever sleeps: readiness comes in at checkpoints."""
    read, write = pipe

    def reader(file):
        log.append(file.read(1))

    def init():
        with host_fd(read) as file:
            task = kthread_run(reader, file, name="reader")
            schedule()
            os.write(write, b"x")
            rounds = 0
            while not log:
                rounds += 1
                schedule()
            kthread_stop(task)
            return rounds

    assert 0 < run(init, clock="monotonic") < 2000


def test_the_same_without_edges(run, pair, log, monkeypatch):
    """The portable poller: one that has to be asked again each time."""
    monkeypatch.setattr(services, "make_poller", SelectorPoller)
    ours, theirs = pair
    theirs.settimeout(None)
    threading.Thread(target=lambda: theirs.sendall(theirs.recv(1 << 20, socket.MSG_WAITALL)), daemon=True).start()

    def init():
        kernel = current_kernel()
        with host_fd(ours) as file:
            file.write(bytes(1 << 20))
            left = 1 << 20
            while left:
                do_poll(kernel, [(file, EPOLLIN)], None)
                left -= len(file.read(65536))
            assert isinstance(kernel.host.made_poller, SelectorPoller)

    run(init)


# -- misuse


def test_what_is_no_descriptor(run):
    def init():
        for wrong in ("3", None, object(), True):
            with pytest.raises(TypeError, match="is no descriptor"):
                host_fd(wrong)
        with pytest.raises(OSError, match="closed, or was never open"):
            host_fd(-1)
        sock = socket.socket()
        sock.close()
        with pytest.raises(OSError, match="closed, or was never open"):
            host_fd(sock)
        with pytest.raises(OSError, match="Bad file descriptor"):
            host_fd(1 << 20)
        with pytest.raises(OSError, match="only O_NONBLOCK"):
            host_fd(0, flags=O_NONBLOCK | 1)

    run(init)


def test_two_files_for_one_descriptor_are_told_to_use_a_duplicate(run, pipe):
    read, _ = pipe

    def init():
        with host_fd(read, close=False) as first, host_fd(read, close=False) as second:
            first.poll()
            with pytest.raises(HostMisuse, match=r"watched already.*dup"):
                second.poll()

    run(init)


def test_a_closed_file_is_not_used_again(run, pipe):
    def init():
        file = host_fd(pipe[0])
        file.close()
        for use in (lambda: file.read(1), file.close, file.fileno):
            with pytest.raises(OSError, match="it is closed"):
                use()
        assert file.poll() & EPOLLHUP

    run(init)


def test_a_descriptor_is_given_back_as_it_was(run, pipe):
    read, _ = pipe
    assert os.get_blocking(read)

    def init():
        with host_fd(read, close=False) as file:
            assert file.fileno() == read
            assert file.f_flags == O_RDONLY
            assert not os.get_blocking(read)

    run(init)
    assert os.get_blocking(read)


def test_a_host_that_gives_out_is_an_error_of_the_one_who_waits(run, pipe, monkeypatch):
    def give_out():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(services, "make_poller", give_out)

    def init():
        with host_fd(pipe[0]) as file, pytest.raises(OSError, match="Too many open files"):
            file.read(1)

    run(init)


def test_a_lost_descriptor_does_not_take_its_successors_watch_along(run, log):
    """Somebody closes a descriptor behind the kernel's back, and its number is given to another one."""

    def init():
        read, write = os.pipe()
        lost = host_fd(read)
        waiter = kthread_run(refuse, lost)
        msleep(1)
        new_read, new_write = os.pipe()
        os.dup2(new_read, read)
        os.close(new_read)
        successor = host_fd(read)
        reader = kthread_run(lambda: log.append(successor.read(10)))
        msleep(1)
        lost.close()
        threading.Thread(target=os.write, args=(new_write, b"hello")).start()
        successor.expect()
        kthread_stop(reader)
        kthread_stop(waiter)
        successor.close()
        os.close(write)
        os.close(new_write)

    def refuse(file):
        with pytest.raises(OSError, match="closed by somebody who did not tell the kernel"):
            file.read(1)

    run(init)
    assert log == [b"hello"]


def test_without_an_interrupt_number_nobody_can_wait_and_nothing_is_left(run, pipe):
    read, write = pipe

    def init():
        irq = current_kernel().irq
        taken = []
        with pytest.raises(OSError, match="are taken"):
            while True:
                taken.append(irq.get_free_irq("others"))
        with host_fd(read) as file:
            with pytest.raises(OSError, match="interrupt numbers are taken"):
                file.read(1)
            irq.put_irq(taken.pop(), "others")
            threading.Thread(target=os.write, args=(write, b"x")).start()
            return file.read(1)

    assert run(init) == b"x"


def test_what_could_not_be_made_a_file_is_the_callers_as_it_was(pipe, pair):
    """Where no kernel runs there is no file, and nobody will expect that standard input has changed."""
    with pytest.raises(NoCurrentKernel):
        host_fd(pipe[0])
    assert os.get_blocking(pipe[0])
    pair[0].settimeout(3)
    with pytest.raises(NoCurrentKernel):
        host_socket(pair[0])
    assert pair[0].gettimeout() == 3
    with pytest.raises(NoCurrentKernel):
        host_socket(socket.AF_INET)


def test_everything_is_counted(boot, pipe):
    kernel = boot()
    kernel.lkl_run()
    file = host_fd(pipe[0], kernel=kernel)
    file.poll()
    assert kernel.host.live().descriptors == 1
    assert kernel.irq.has_sources
    assert repr(file).startswith("<HostFile host fd")
    file.close()
    assert kernel.host.live().descriptors == 0
    assert not kernel.irq.has_sources


def test_select_and_poller_agree_on_the_bits():
    """The numbers of poll() are used for epoll, too."""
    for name in ("POLLIN", "POLLPRI", "POLLOUT", "POLLERR", "POLLHUP", "POLLNVAL"):
        assert getattr(select, name) == getattr(poller_module, name)


def test_a_kernel_without_descriptors_has_no_poller(configuration):
    with lkl_start_kernel(lambda: msleep(1), clock="virtual", loglevel=0, **configuration) as kernel:
        kernel.run()
        assert kernel.host.made_poller is None


def test_a_doorbell_that_idle_finds_while_it_looks_at_descriptors_is_not_lost(boot, pipe):
    """Under a virtual clock idle looks before it decides; what it hears then must keep it from sleeping."""
    kernel = boot()
    with host_fd(pipe[0], kernel=kernel) as file:
        file.poll()
        status = kernel.lkl_run()
        kernel.host.idle_wake()
        kernel.pause(status)
