"""epoll: level, edge and one shot; files that go away; epolls in epolls; and a model that asks poll()."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from users import nr_files, refused, run_program

from lkl_green import lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS, Configuration
from lkl_green.kernel.signum import SIG_BLOCK, SIGUSR1
from lkl_green.kernel.unistd import EPOLL_CLOEXEC, EPOLLEXCLUSIVE, F_GETFD, FD_CLOEXEC
from lkl_green.linux import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    O_NONBLOCK,
    EpollEvent,
    EventFd,
    EventPoll,
    allow_signal,
    current_kernel,
    do_poll,
    kernel_read,
    kernel_write,
    kthread_run,
    ktime_get,
    msleep,
    pipe,
    request_irq,
    send_sig,
    socketpair,
    vfs_poll,
)

if TYPE_CHECKING:
    from lkl_green.fs.file import File

MS = 1_000_000


def add(epoll: EventPoll, file: File, events: int, data: object = None) -> None:
    epoll.ctl(EPOLL_CTL_ADD, file, EpollEvent(events, data))


def now(epoll: EventPoll, maxevents: int = 64) -> list[tuple[Any, int]]:
    """What it reports without waiting."""
    return [(event.data, event.events) for event in epoll.wait(maxevents, 0)]


# -- how events are reported


def test_level_triggered_reports_as_long_as_it_is_so(run):
    def init():
        epoll, (r, w) = EventPoll(), pipe()
        add(epoll, r, EPOLLIN, "r")
        assert now(epoll) == []
        kernel_write(w, b"ab")
        assert now(epoll) == now(epoll) == [("r", EPOLLIN)]
        kernel_read(r, 1)
        assert now(epoll) == [("r", EPOLLIN)]
        kernel_read(r, 1)
        assert now(epoll) == []
        w.close()
        assert now(epoll) == [("r", EPOLLHUP)], "unasked"

    run(init)


def test_edge_triggered_reports_each_change(run):
    def init():
        epoll, (r, w) = EventPoll(), pipe()
        kernel_write(w, b"before")
        add(epoll, r, EPOLLIN | EPOLLET, "r")
        assert now(epoll) == [("r", EPOLLIN)], "what was there when it was added is the first edge"
        assert now(epoll) == []
        kernel_write(w, b"more")
        kernel_write(w, b"and more")
        assert now(epoll) == [("r", EPOLLIN)]
        kernel_read(r, 1)
        assert now(epoll) == [], "reading is no edge, though bytes are left"
        w.close()
        assert now(epoll) == [("r", EPOLLIN | EPOLLHUP)]
        assert now(epoll) == []

    run(init)


def test_an_edge_of_the_other_direction_is_none(run):
    def init():
        epoll, (a, b) = EventPoll(), socketpair(O_NONBLOCK)
        add(epoll, a, EPOLLIN | EPOLLET, "a")
        b.write(b"x")
        assert now(epoll) == [("a", EPOLLIN)]
        a.write(bytes(1 << 20))
        b.read(1 << 20)  # a becomes writable again
        assert now(epoll) == []

    run(init)


def test_one_shot_is_muted_until_it_is_changed(run):
    def init():
        epoll, (r, w) = EventPoll(), pipe()
        add(epoll, r, EPOLLIN | EPOLLONESHOT, 1)
        kernel_write(w, b"x")
        assert now(epoll) == [(1, EPOLLIN)]
        kernel_write(w, b"x")
        assert now(epoll) == []
        epoll.ctl(EPOLL_CTL_MOD, r, EpollEvent(EPOLLIN | EPOLLONESHOT, 2))
        assert now(epoll) == [(2, EPOLLIN)]
        w.close()
        assert now(epoll) == [], "muted is muted, even for the end"

    run(init)


def test_modify_looks_again(run):
    def init():
        epoll, (_r, w) = EventPoll(), pipe()
        add(epoll, w, 0, "w")
        assert now(epoll) == []
        epoll.ctl(EPOLL_CTL_MOD, w, EpollEvent(EPOLLOUT, "out"))
        assert now(epoll) == [("out", EPOLLOUT)]
        epoll.ctl(EPOLL_CTL_MOD, w, EpollEvent(0, "w"))
        assert now(epoll) == []

    run(init)


def test_maxevents_takes_turns(run):
    def init():
        epoll = EventPoll()
        for name in "abcd":
            add(epoll, EventFd(1), EPOLLIN, name)
        assert [[name for name, _ in now(epoll, 3)] for _ in range(4)] == [[*"abc"], [*"dab"], [*"cda"], [*"bcd"]]
        assert refused(epoll.wait, 0) == errno.EINVAL

    run(init)


# -- waiting


def test_it_waits_for_any_file(run, log):
    def init():
        def server():
            while True:
                for event in epoll.wait():
                    log.append((event.data, ends[event.data].read(10)))

        epoll, ends, peers = EventPoll(), [], []
        for number in range(3):
            a, b = socketpair()
            ends.append(a)
            peers.append(b)
            add(epoll, a, EPOLLIN, number)
        kthread_run(server)
        msleep(1)
        for number in (1, 2, 0):
            peers[number].write(b"%d" % number)
            msleep(1)

    run(init)
    assert log == [(1, b"1"), (2, b"2"), (0, b"0")]


def test_timeouts_signals_and_closing(run, log):
    def init():
        def waiter():
            allow_signal(10)
            log.append(refused(epoll.wait))

        epoll = EventPoll()
        add(epoll, EventFd(), EPOLLIN)
        start = ktime_get()
        assert epoll.wait(timeout_ns=5 * MS) == []
        assert 5 * MS <= ktime_get() - start < 6 * MS
        tasks = [kthread_run(waiter) for _ in range(2)]
        msleep(1)
        send_sig(10, tasks[0])
        msleep(1)
        epoll.close()
        msleep(1)
        assert refused(epoll.wait) == refused(add, epoll, EventFd(), EPOLLIN) == errno.EBADF

    run(init)
    assert log == [errno.EINTR, errno.EBADF]


def test_one_event_wakes_one_waiter_and_two_wake_two(run, log):
    def init():
        def waiter(name):
            for event in epoll.wait(1):
                event.data.read(8)
                log.append(name)

        epoll = EventPoll()
        events = [EventFd() for _ in range(3)]
        for event in events:
            add(epoll, event, EPOLLIN | EPOLLET, event)
        for name in "abc":
            kthread_run(waiter, name)
        msleep(1)
        events[0].signal()
        msleep(1)
        assert log == ["a"]
        events[1].signal()
        events[2].signal()
        msleep(1)

    run(init)
    assert log == ["a", "b", "c"]


def test_what_stays_ready_is_told_to_every_waiter(run, log):
    def init():
        epoll, event = EventPoll(), EventFd()
        add(epoll, event, EPOLLIN, "ready")
        for name in "abc":
            kthread_run(lambda name=name: log.append((name, *(found.data for found in epoll.wait()))))
        msleep(1)
        event.signal()
        msleep(1)

    run(init)
    assert log == [(name, "ready") for name in "abc"]


def exclusive_waiters(log, file, number, how):
    """Threads that wait on an epoll each, all of which watch one file; which of them are told, a list to be."""
    told = []

    class Told(EventPoll):
        def item_ready(self, item):
            told.append(epolls.index(self))
            super().item_ready(item)

    def thread(name, epoll):
        while True:
            log.append((name, [event.events for event in epoll.wait()]))
            if file.poll() & EPOLLHUP:
                return
            file.read(8)

    epolls = [Told() for _ in range(number)]
    for name, epoll in enumerate(epolls):
        add(epoll, file, EPOLLIN | how)
        kthread_run(thread, name, epoll)
    msleep(1)
    return told


@pytest.mark.parametrize(("how", "told"), [(EPOLLEXCLUSIVE, [0]), (0, [0, 1, 2])])
def test_of_several_exclusive_epolls_one_is_told(run, log, how, told):
    """The others, if they are told, find that there is nothing left, and sleep on."""

    def init():
        event = EventFd()
        told = exclusive_waiters(log, event, 3, how)
        event.signal()
        msleep(1)
        return told

    assert run(init) == told
    assert log == [(0, [EPOLLIN])]


def test_an_exclusive_epoll_that_nobody_waits_for_does_not_keep_the_news_to_itself(run, log):
    def init():
        event = EventFd()
        idle = EventPoll()
        add(idle, event, EPOLLIN | EPOLLEXCLUSIVE)
        exclusive_waiters(log, event, 2, EPOLLEXCLUSIVE)
        for _ in range(2):
            event.signal()
            msleep(1)
        return idle.wait(timeout_ns=0)

    assert run(init) == [], "it was told, and the others were faster"
    assert log == [(0, [EPOLLIN]), (0, [EPOLLIN])]


def test_two_events_in_a_row_wake_two_and_an_end_wakes_all(run, log):
    def init():
        a, b = pipe()
        told = exclusive_waiters(log, a, 3, EPOLLEXCLUSIVE)
        for _ in range(2):
            b.write(bytes(8))
        assert told == [0, 0, 1], "nobody waits any more for the first when the second event comes"
        msleep(1)
        b.close()
        msleep(1)

    run(init)
    assert sorted(log[2:]) == [(name, [EPOLLHUP]) for name in range(3)], "the end is everybody's"


def test_a_mask_of_signals_is_in_force_while_it_waits(run, log):
    def main(sys):
        epoll = sys.epoll_create1()
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append("handler"))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        sys.kill(sys.getpid(), SIGUSR1)
        assert sys.epoll_wait(epoll, timeout_ms=1) == []
        log.append("blocked")
        assert refused(lambda: sys.epoll_wait(epoll, sigmask=())) == errno.EINTR
        assert sys.epoll_wait(epoll, timeout_ms=1, sigmask=()) == []
        assert sys.sigprocmask(SIG_BLOCK) == {SIGUSR1}

    assert run(lambda: run_program(main)) == 0
    assert log == ["blocked", "handler"]


def test_an_interrupt_makes_an_event(run):
    def init():
        epoll, event = EventPoll(), EventFd()
        add(epoll, event, EPOLLIN, "irq")
        request_irq(6, event.signal, "device")

        def device():
            msleep(2)
            current_kernel().lkl_trigger_irq(6)

        kthread_run(device)
        return [(found.data, found.events) for found in epoll.wait()]

    assert run(init) == [("irq", EPOLLIN)]


# -- files that come and go


def test_a_released_file_drops_out(run):
    def init():
        epoll, (r, w) = EventPoll(), pipe()
        add(epoll, r, EPOLLIN, "r")
        add(epoll, w, EPOLLOUT, "w")
        kernel_write(w, b"x")
        assert len(epoll) == 2
        r.close()
        assert len(epoll) == 1
        assert now(epoll) == [("w", EPOLLOUT | EPOLLERR)]
        w.close()
        assert (len(epoll), now(epoll)) == (0, [])
        assert bool(epoll) is True
        epoll.close()
        return nr_files()

    assert run(init) == 0


def test_a_released_epoll_watches_nothing(run):
    def init():
        epoll, event = EventPoll(), EventFd()
        add(epoll, event, EPOLLIN)
        assert len(event.f_wq.watchers) == 1
        epoll.close()
        assert event.f_wq.watchers == ()
        event.signal()

    run(init)


def test_wrong_operations(run):
    def init():
        epoll, event, closed = EventPoll(), EventFd(), EventFd()
        closed.close()
        add(epoll, event, EPOLLIN)
        assert refused(add, epoll, event, EPOLLIN) == errno.EEXIST
        assert refused(add, epoll, epoll, EPOLLIN) == errno.EINVAL
        assert refused(add, epoll, closed, EPOLLIN) == errno.EBADF
        assert refused(add, epoll, EventFd(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT) == errno.EINVAL
        assert refused(add, epoll, EventPoll(), EPOLLIN | EPOLLEXCLUSIVE) == errno.EINVAL
        alone = EventFd()
        add(epoll, alone, EPOLLIN | EPOLLEXCLUSIVE)
        assert refused(epoll.ctl, EPOLL_CTL_MOD, alone, EpollEvent(EPOLLIN)) == errno.EINVAL
        assert refused(epoll.ctl, EPOLL_CTL_MOD, event, EpollEvent(EPOLLIN | EPOLLEXCLUSIVE)) == errno.EINVAL
        epoll.ctl(EPOLL_CTL_DEL, alone)
        assert refused(epoll.ctl, EPOLL_CTL_ADD, EventFd()) == errno.EFAULT
        assert refused(epoll.ctl, 9, event) == errno.EINVAL
        epoll.ctl(EPOLL_CTL_DEL, event)
        for operation in (EPOLL_CTL_DEL, EPOLL_CTL_MOD):
            assert refused(epoll.ctl, operation, event, EpollEvent(0)) == errno.ENOENT
        event.signal()
        assert now(epoll) == []
        assert refused(epoll.read, 1) == refused(epoll.write, b"x") == errno.EINVAL
        assert refused(EventPoll, 1) == errno.EINVAL

    run(init)


# -- epolls in epolls


def test_a_waiter_that_is_taken_down_when_it_has_been_woken_leaves_the_event_to_the_next(run, log):
    def init():
        epoll, event = EventPoll(), EventFd()
        add(epoll, event, EPOLLIN)
        first, _ = (kthread_run(lambda n=n: log.append((n, len(epoll.wait())))) for n in (1, 2))
        msleep(1)
        event.signal()
        current_kernel().exits.take_down(first)
        msleep(1)

    run(init)
    assert log == [(2, 1)]


def test_an_epoll_in_an_epoll(run, log):
    def init():
        inner, outer, event = EventPoll(), EventPoll(), EventFd()
        add(inner, event, EPOLLIN, "event")
        add(outer, inner, EPOLLIN, "inner")
        kthread_run(lambda: log.append([found.data for found in outer.wait()]))
        msleep(1)
        assert vfs_poll(outer) == 0
        event.signal()
        msleep(1)
        assert now(outer) == [("inner", EPOLLIN)]
        assert do_poll([(outer, EPOLLIN)]) == [EPOLLIN]
        event.read(8)
        assert now(outer) == now(inner) == []
        inner.close()
        assert len(outer) == 0

    run(init)
    assert log == [["inner"]]


def test_a_cycle_or_a_long_chain_is_eloop(run):
    def init():
        chain = [EventPoll(name=f"epoll/{number}") for number in range(6)]
        for above, below in pairwise(chain[:5]):
            add(above, below, EPOLLIN)
        assert refused(add, chain[4], chain[5], EPOLLIN) == errno.ELOOP
        assert refused(add, chain[5], chain[0], EPOLLIN) == errno.ELOOP
        assert refused(add, chain[4], chain[0], EPOLLIN) == errno.ELOOP
        assert refused(add, chain[1], chain[0], EPOLLIN) == errno.ELOOP
        event = EventFd()
        add(chain[4], event, EPOLLIN, "bottom")
        event.signal()
        assert vfs_poll(chain[0]) == EPOLLIN
        for epoll in chain:
            epoll.close()

    run(init)


# -- by descriptors


def test_the_system_calls(run):
    def init():
        def main(sys):
            epfd = sys.epoll_create1(EPOLL_CLOEXEC)
            assert sys.fcntl(epfd, F_GETFD) == FD_CLOEXEC
            r, w = sys.pipe2()
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, r, EPOLLIN)
            again = sys.dup(r)
            sys.epoll_ctl(epfd, EPOLL_CTL_ADD, again, EPOLLIN, "again")
            assert sys.epoll_wait(epfd, timeout_ms=3) == []
            sys.clone(lambda sys: sys.write(w, b"x"))
            assert sys.epoll_wait(epfd, 1) == [(r, EPOLLIN)]
            assert sorted(sys.epoll_wait(epfd), key=str) == [(r, EPOLLIN), ("again", EPOLLIN)]
            sys.close(r)
            assert len(sys.epoll_wait(epfd)) == 2, "the file is open still, under its other number"
            sys.wait4()
            sys.close(again)
            assert sys.epoll_wait(epfd, timeout_ms=0) == []
            assert refused(sys.epoll_ctl, epfd, EPOLL_CTL_DEL, again) == errno.EBADF
            assert refused(sys.epoll_ctl, w, EPOLL_CTL_ADD, epfd) == errno.EINVAL
            assert refused(sys.epoll_wait, w) == errno.EINVAL
            assert refused(sys.epoll_wait, 99) == errno.EBADF

        run_program(main)
        return nr_files()

    assert run(init) == 0


def test_an_epoll_server_has_the_same_trace_everywhere(parity):
    def init():
        def client(end, number):
            for step in range(3):
                msleep(number * 2 + step)
                end.write(b"%d:%d" % (number, step))
                end.read(100)
            end.close()

        epoll = EventPoll()
        for number in range(5):
            a, b = socketpair(O_NONBLOCK)
            b.set_flags(0)
            kthread_run(client, b, number)
            add(epoll, a, EPOLLIN | EPOLLET, a)
        while len(epoll):
            for event in epoll.wait():
                try:
                    while data := event.data.read(3):
                        event.data.write(data)
                    event.data.close()
                except BlockingIOError:
                    continue
        epoll.close()
        assert nr_files() == 0

    parity(init)


# -- a model: level-triggered is what poll() says; edge-triggered is that, after a change


class Pond:
    """Files that change, an epoll that watches them in both ways, and what it has to say."""

    def __init__(self) -> None:
        self.files: list[File] = []
        for _ in range(2):
            self.files += [*pipe(O_NONBLOCK), *socketpair(O_NONBLOCK), EventFd(0, O_NONBLOCK)]
        self.level, self.edge = EventPoll(), EventPoll()
        self.wanted: dict[int, int] = {}
        self.changed: set[int] = set()  # items that an edge may be reported for

    def use(self, number: int, length: int) -> None:
        """Read or write a little or a lot, or close."""
        file = self.files[number]
        before = [vfs_poll(other) for other in self.files]
        try:
            if length < 0:
                file.read(-length)
            elif length == 0:
                file.close()
                self.wanted.pop(number, None)
            else:
                file.write(length.to_bytes(8, "little") if isinstance(file, EventFd) else bytes(length))
        except OSError:
            pass
        for other, mask in enumerate(before):
            after = vfs_poll(self.files[other])
            if after & ~mask or (length > 0 and other != number) or isinstance(file, EventFd) or not length:
                self.changed.add(other)

    def watch(self, number: int, events: int) -> None:
        """Add, change or remove an interest."""
        file = self.files[number]
        if not file.f_count:
            return
        operation = EPOLL_CTL_ADD if number not in self.wanted else EPOLL_CTL_MOD if events else EPOLL_CTL_DEL
        for epoll, how in ((self.level, 0), (self.edge, EPOLLET)):
            epoll.ctl(operation, file, EpollEvent(events | how, number))
        if operation == EPOLL_CTL_DEL:
            del self.wanted[number]
        else:
            self.wanted[number] = events
        self.changed.add(number)

    def check(self) -> None:
        """Level-triggered is exact. An edge needs a change, is true when reported, and does not get lost."""
        polled = do_poll([(self.files[number], events) for number, events in self.wanted.items()], 0)
        ready = {number: mask for number, mask in zip(self.wanted, polled, strict=True) if mask}
        assert dict(now(self.level)) == ready
        edges = dict(now(self.edge))
        assert edges.items() <= ready.items()
        assert edges.keys() <= self.changed
        for number in self.changed & ready.keys() - edges.keys():
            assert ready[number] & ~self.reported.get(number, 0) == 0, "a new readiness without an edge"
        self.reported = ready
        self.changed.clear()

    reported: dict[int, int] = {}


LENGTHS = st.sampled_from([-(1 << 20), -100, -8, 0, 1, 100, 4096, 1 << 19])
STEP = st.one_of(
    st.tuples(st.just("use"), st.integers(0, 9), LENGTHS),
    st.tuples(st.just("use"), st.integers(0, 9), LENGTHS),
    st.tuples(st.just("watch"), st.integers(0, 9), st.sampled_from([0, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT])),
    st.tuples(st.just("check"), st.just(0), st.just(0)),
)


@pytest.mark.parametrize("where", CONFIGURATIONS[:1], ids=lambda where: where.name)
@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEP, max_size=40))
def test_epoll_says_what_poll_says(where: Configuration, steps: list[tuple[str, int, int]]) -> None:
    def init():
        pond = Pond()
        for number in range(0, 10, 3):
            pond.watch(number, EPOLLIN | EPOLLOUT)
        for what, number, arg in steps:
            if what == "use":
                pond.use(number, arg)
            elif what == "watch":
                pond.watch(number, arg)
            else:
                pond.check()
        pond.check()

    kernel = lkl_start_kernel(init, host=where.host, switch=where.switch, clock="virtual", loglevel=0)
    kernel.run()
    assert kernel.fs.nr_files == 0
