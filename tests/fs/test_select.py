"""poll(): several files at once, for kernel code and by descriptors."""

from __future__ import annotations

import errno

import pytest
from users import nr_files, refused, run_program, start

from lkl_green import Deadlock
from lkl_green.kernel.signum import SIG_BLOCK, SIGHUP, SIGTERM, SIGUSR1, TermSignal
from lkl_green.kernel.unistd import POLLIN, POLLOUT, NR_pselect6, NR_select, PollFd
from lkl_green.linux import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLNVAL,
    EPOLLOUT,
    EventFd,
    allow_signal,
    current,
    current_kernel,
    do_poll,
    kernel_read,
    kernel_wait4,
    kernel_write,
    kthread_run,
    ktime_get,
    msleep,
    pipe,
    request_irq,
    send_sig,
    socketpair,
)

MS = 1_000_000


def test_whichever_is_ready_first_ends_the_sleep(run, log):
    def init():
        pipes = [pipe() for _ in range(3)]

        def poller():
            for _ in range(3):
                found = do_poll([(r, EPOLLIN) for r, _ in pipes])
                log.append(found)
                for (r, _), events in zip(pipes, found, strict=True):
                    if events:
                        kernel_read(r, 10)

        kthread_run(poller)
        for number in (2, 0, 1):
            msleep(1)
            kernel_write(pipes[number][1], b"x")
        msleep(1)
        for ends in pipes:
            for end in ends:
                assert not end.f_wq.waitqueue_active()
                end.close()
        return nr_files()

    assert run(init) == 0
    assert log == [[0, 0, EPOLLIN], [EPOLLIN, 0, 0], [0, EPOLLIN, 0]]


def test_time_runs_out(run):
    def init():
        r, w = pipe()
        start = ktime_get()
        assert do_poll([(r, EPOLLIN), (r, EPOLLIN)], 5 * MS) == [0, 0]
        assert do_poll([], 5 * MS) == []
        assert do_poll([(r, EPOLLIN), (w, EPOLLOUT)], 5 * MS) == [0, EPOLLOUT]
        assert do_poll([(r, EPOLLIN)], 0) == [0]
        assert not r.f_wq.waitqueue_active()
        assert current().waiting_for is None
        return ktime_get() - start

    assert 10 * MS <= run(init) < 11 * MS


def test_ends_and_errors_are_reported_unasked(run, log):
    def init():
        r, w = pipe()
        kthread_run(lambda: log.append(do_poll([(r, 0)])))
        msleep(1)
        kernel_write(w, b"nobody asked for this")
        msleep(1)
        assert log == []
        w.close()
        msleep(1)
        r.close()
        r, w = pipe()
        r.close()
        log.append(do_poll([(w, 0)]))
        w.close()

    run(init)
    assert log == [[EPOLLHUP], [EPOLLERR]]


def test_a_file_that_is_closed_meanwhile(run, log):
    def init():
        a, b = socketpair()
        kthread_run(lambda: log.append(do_poll([(a, EPOLLIN), (b, EPOLLIN)])))
        msleep(1)
        a.close()
        msleep(1)
        b.close()

    run(init)
    assert log == [[EPOLLNVAL, EPOLLIN | EPOLLHUP]]


def test_signals_and_kills(run, log):
    def init():
        def poller():
            allow_signal(10)
            log.append(refused(do_poll, [(event, EPOLLIN)]))

        event = EventFd()
        task = kthread_run(poller)
        msleep(1)
        send_sig(10, task)
        msleep(1)
        assert not event.f_wq.waitqueue_active()

        def main(sys):
            sys.poll([], -1)

        pid = start(main)
        msleep(1)
        send_sig(9, current_kernel().pids.tasks[pid])
        log.append(kernel_wait4(pid)[1])
        event.close()

    run(init)
    assert log == [errno.EINTR, 9]


def test_an_interrupt_between_look_and_sleep_is_not_missed(run):
    def init():
        event = EventFd()
        request_irq(7, lambda irq: event.signal(), "device")
        poll, looks = event.poll, []

        class Late(EventFd):
            def poll(self):
                looks.append(1)
                if len(looks) == 2:  # queued, but not asleep
                    current_kernel().lkl_trigger_irq(7)
                return poll()

        late = Late()
        late.f_wq = event.f_wq
        return do_poll([(late, EPOLLIN)], 50 * MS), ktime_get() < 10 * MS

    assert run(init) == ([EPOLLIN], True)


def test_by_descriptors(run):
    def init():
        def main(sys):
            r, w = sys.pipe2()
            assert sys.poll([(r, POLLIN), (w, POLLOUT), (-1, POLLIN)]) == [(w, POLLOUT)]
            assert sys.poll([(r, POLLIN), (77, POLLIN)], -1) == [(77, EPOLLNVAL)], "an invalid one ends it at once"
            assert sys.poll([(r, POLLIN)], 3) == sys.ppoll([(r, POLLIN)], 3000) == []
            sys.clone(lambda sys: sys.write(w, b"hello"))
            assert sys.poll([(r, POLLIN)]) == [(r, POLLIN)]
            assert sys.ppoll([(r, POLLIN)], None) == [(r, POLLIN)]
            assert refused(sys.ppoll, [], -5) == errno.EINVAL
            return sys.wait4()[1]

        return run_program(main), nr_files()

    assert run(init) == (5, 0)


def test_select_by_descriptors(run):
    def main(sys):
        r, w = sys.pipe2()
        a, b = sys.socketpair()
        assert sys.select([r, a], [w, b], [r, w], 0) == ([], [w, b], [])
        assert sys.select([r], timeout_ns=3000) == ([], [], [])
        sys.clone(lambda sys: sys.write(w, b"hello"))
        assert sys.select([r, a]) == ([r], [], [])
        code = sys.wait4()[1]
        sys.close(b)
        assert sys.select([r, a], [a]) == ([r, a], [a], [])
        assert refused(sys.select, [77]) == errno.EBADF
        assert refused(sys.select, [-1]) == errno.EBADF
        assert refused(sys.select, [r], (), (), -5) == errno.EINVAL
        return code

    assert run(lambda: (run_program(main), nr_files())) == (5, 0)


def test_an_end_is_readable_and_not_writable_to_select(run):
    """poll() would say POLLHUP whatever it was asked; select() goes on sleeping."""

    def main(sys):
        r, w = sys.pipe2()
        sys.close(w)
        assert sys.select([r], [r]) == ([r], [], [])
        assert sys.select([], [r], [r], MS) == ([], [], [])
        return sys.clock_gettime() >= MS

    assert run(lambda: run_program(main)) == 1


def test_the_raw_select_changes_the_sets(kernel):
    r, w = kernel.sys.pipe2()
    read, write = {r, 50}, {w}
    assert kernel.lkl_syscall(NR_select, w + 1, read, write, None, 0) == 1
    assert (read, write) == (set(), {w}), "what is not below the number is not looked at"
    assert kernel.lkl_syscall(NR_select, -1, None, None, None, 0) == -errno.EINVAL
    assert kernel.lkl_syscall(NR_select, 51, {50}, None, None, 0) == -errno.EBADF
    assert kernel.lkl_syscall(NR_pselect6, 0, None, None, None, 10) == 0
    assert kernel.lkl_syscall(NR_pselect6, 0, None, None, None, 10, 0) == -errno.EINVAL, "the application has no mask"


WAITS = {
    "ppoll": lambda sys, mask: sys.ppoll([(0, POLLIN)], MS, mask),
    "pselect": lambda sys, mask: sys.select([0], timeout_ns=MS, sigmask=mask),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_mask_of_signals_is_in_force_while_it_waits(run, log, name):
    """A signal that was blocked until then ends the wait; its handler sees the wait's mask, and later code its own."""
    wait = WAITS[name]

    def main(sys):
        sys.pipe2()
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sys.sigprocmask(SIG_BLOCK)))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        sys.kill(sys.getpid(), SIGUSR1)
        wait(sys, None)
        log.append("blocked")
        assert refused(wait, sys, {SIGHUP}) == errno.EINTR
        log.append(sys.sigprocmask(SIG_BLOCK))
        sys.kill(sys.getpid(), SIGUSR1)
        sys.write(1, b"ready before it waits")
        wait(sys, ())
        log.append(sys.sigpending())

    assert run(lambda: run_program(main)) == 0
    assert log == ["blocked", {SIGHUP, SIGUSR1}, {SIGUSR1}, {SIGUSR1}]


def test_a_fatal_signal_that_the_waits_mask_lets_through_is_fatal(run):
    def main(sys):
        sys.pipe2()
        sys.sigprocmask(SIG_BLOCK, {SIGTERM})
        sys.kill(sys.getpid(), SIGTERM)
        sys.ppoll([(0, POLLIN)], None, ())

    assert run(lambda: run_program(main)) == TermSignal(SIGTERM)


def test_the_raw_call_fills_the_structures(run):
    def init():
        kernel = current_kernel()
        r, w = kernel.sys.pipe2()
        fds = [PollFd(r, POLLIN), PollFd(w, POLLOUT), PollFd(99, 0)]
        fds[0].revents = 0x77
        assert kernel.lkl_syscall(7, fds, 3, 0) == 2
        assert [entry.revents for entry in fds] == [0, POLLOUT, EPOLLNVAL]
        assert repr(fds[1]) == "<PollFd 1 events=0x4 revents=0x4>"
        assert kernel.lkl_syscall(7, fds, 4, 0) == kernel.lkl_syscall(7, fds, -1, 0) == -errno.EINVAL

    run(init)


def test_a_deadlock_names_all_that_is_waited_for(boot):
    def init():
        r, _w = pipe()
        do_poll([(r, EPOLLIN), (EventFd(name="never"), EPOLLIN)])

    with pytest.raises(Deadlock, match=r"<poll of <PipeReader pipe>, <EventFd never>>"):
        boot(init).run()


def test_a_poll_server_has_the_same_trace_everywhere(parity):
    def init():
        def client(end, number):
            for step in range(3):
                msleep(number * 3 + step)
                end.write(b"%d" % step)
            end.close()

        ours = []
        for number in range(4):
            a, b = socketpair()
            kthread_run(client, b, number)
            ours.append(a)
        while ours:
            for end, events in zip(list(ours), do_poll([(end, EPOLLIN) for end in ours], 50 * MS), strict=True):
                if events and not end.read(10):
                    ours.remove(end)
                    end.close()
        assert nr_files() == 0

    parity(init)
