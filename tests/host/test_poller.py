"""The poller: what a descriptor and a doorbell say, on epoll and on whatever else `selectors` has."""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import threading

import pytest

from lkl_green import lkl_start_kernel
from lkl_green.errors import HostMisuse
from lkl_green.host import services
from lkl_green.host.faulty import FaultyHost
from lkl_green.host.greenlets import GreenletHost
from lkl_green.host.ops import HostOps
from lkl_green.host.poller import POLLIN, POLLNVAL, POLLOUT, POLLRDHUP
from lkl_green.host.pollers import EpollPoller, SelectorPoller, make_poller
from lkl_green.host.threads import ThreadHost

SECOND = 10**9

KINDS = {
    "epoll": EpollPoller,
    "default": SelectorPoller,
    "poll": lambda: SelectorPoller(selectors.PollSelector()),
}


@pytest.fixture(params=KINDS)
def poller(request):
    if request.param == "epoll" and not hasattr(select, "epoll"):
        pytest.skip("this machine has no epoll")
    before = descriptors()
    poller = KINDS[request.param]()
    yield poller
    poller.close()
    assert descriptors() == before, "the poller left descriptors open"


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def descriptors():
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


# -- descriptors


def test_a_descriptor_says_when_data_comes(poller, pair, log):
    ours, theirs = pair
    assert poller.register(ours.fileno(), log.append)
    poller.poll(0)
    log.clear()
    if not poller.edge_triggered:
        poller.rearm(ours.fileno(), POLLIN)
    assert not poller.poll(0)
    theirs.send(b"data")
    assert poller.poll(SECOND)
    assert [events & POLLIN for events in log] == [POLLIN]


def test_what_was_said_is_not_said_again(poller, pair, log):
    """Nobody reads: a level-triggered poller would spin."""
    ours, theirs = pair
    theirs.send(b"data")
    poller.register(ours.fileno(), log.append)
    assert poller.poll(SECOND)
    assert not poller.poll(0)
    assert len(log) == 1
    assert log[0] & (POLLIN | POLLOUT) == POLLIN | POLLOUT


def test_rearming_asks_again_for_what_is_still_there(poller, pair, log):
    ours, theirs = pair
    theirs.send(b"data")
    poller.register(ours.fileno(), log.append)
    poller.poll(SECOND)
    poller.rearm(ours.fileno(), POLLIN)
    poller.rearm(ours.fileno(), POLLOUT)
    assert poller.poll(0) is not poller.edge_triggered


def test_the_other_side_closes(poller, pair, log):
    ours, theirs = pair
    poller.register(ours.fileno(), log.append)
    poller.poll(0)
    log.clear()
    poller.rearm(ours.fileno(), POLLIN)
    theirs.close()
    assert poller.poll(SECOND)
    assert log[0] & POLLRDHUP


def test_waiting_collects_and_only_dispatching_calls(poller, pair, log):
    ours, _ = pair
    poller.register(ours.fileno(), log.append)
    assert poller.wait(SECOND)
    assert poller.look()
    assert log == []
    poller.dispatch()
    assert len(log) == 1


def test_who_was_unregistered_meanwhile_is_not_called(poller, pair, log):
    ours, _ = pair
    poller.register(ours.fileno(), log.append)
    poller.wait(SECOND)
    poller.unregister(ours.fileno())
    poller.dispatch()
    assert log == []


def test_it_can_be_registered_again(poller, pair, log):
    ours, _ = pair
    for _ in range(2):
        poller.register(ours.fileno(), log.append)
        poller.unregister(ours.fileno())
    poller.register(ours.fileno(), log.append)
    assert poller.poll(SECOND)
    assert len(log) == 1


def test_a_regular_file_is_always_ready_and_not_watched(log, tmp_path):
    poller = make_poller()
    with (tmp_path / "file").open("w") as file:
        assert not poller.register(file.fileno(), log.append)
        assert poller.watched == {}
    poller.close()


def test_a_thousand_descriptors_come_in_batches(poller, log):
    pairs = [socket.socketpair() for _ in range(400)]
    for ours, _ in pairs:
        poller.register(ours.fileno(), log.append)
    while poller.poll(0):
        pass
    assert len(log) == 400
    for ours, theirs in pairs:
        poller.unregister(ours.fileno())
        ours.close()
        theirs.close()


# -- the one descriptor


def test_another_loop_can_watch_the_poller(pair):
    poller = make_poller()
    ours, theirs = pair
    poller.register(ours.fileno(), lambda events: None)
    poller.poll(0)
    outer = select.poll()
    outer.register(poller.fileno(), select.POLLIN)
    assert outer.poll(0) == []
    theirs.send(b"data")
    assert outer.poll(1000) == [(poller.fileno(), select.POLLIN)]
    poller.poll(0)
    assert outer.poll(0) == []
    poller.wake()
    assert outer.poll(1000) == [(poller.fileno(), select.POLLIN)]
    poller.look()
    assert outer.poll(0) == []
    poller.close()


def test_a_selector_without_a_descriptor_says_so():
    poller = SelectorPoller(selectors.PollSelector())
    with pytest.raises(HostMisuse, match="PollSelector has no descriptor"):
        poller.fileno()
    poller.close()


# -- doorbell


def test_the_doorbell_ends_a_wait_and_counts_once(poller):
    poller.wake()
    poller.wake()
    assert poller.wait(None)
    assert not poller.wait(0)
    poller.wake()
    assert poller.wait(None)


def test_the_doorbell_is_heard_among_other_news(poller, pair, log):
    ours, _ = pair
    poller.register(ours.fileno(), log.append)
    poller.wake()
    assert poller.wait(SECOND)
    poller.poll(0)
    assert len(log) == 1
    assert not poller.poll(0)


def test_many_wake_ups_are_one_system_call(poller, monkeypatch, log):
    ring = poller._ring
    monkeypatch.setattr(poller, "_ring", lambda: (log.append("ring"), ring()))
    for _ in range(10):
        poller.wake()
    poller.wait(None)
    poller.wake()
    assert log == ["ring", "ring"]


def test_another_thread_wakes(poller):
    thread = threading.Thread(target=poller.wake, daemon=True)
    thread.start()
    assert poller.wait(60 * SECOND)
    thread.join()


def test_a_ring_that_fails_leaves_the_bell_unrung(poller, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(poller, "_ring", lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            poller.wake()
    poller.wake()
    assert poller.wait(SECOND)


def test_an_interrupted_wait_loses_nothing(poller, pair, log):
    """A signal handler raises out of a wait; what is ready afterwards is found by the next."""

    def handler(number, frame):
        theirs.send(b"data")
        raise TimeoutError

    ours, theirs = pair
    poller.register(ours.fileno(), log.append)
    poller.poll(0)
    poller.rearm(ours.fileno(), POLLIN)
    log.clear()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(TimeoutError):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            poller.wait(60 * SECOND)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert poller.poll(SECOND)
    assert [events & POLLIN for events in log] == [POLLIN]


# -- misuse


def test_twice_and_never_registered_are_named(poller, pair, log):
    ours, _ = pair
    poller.register(ours.fileno(), log.append)
    with pytest.raises(HostMisuse, match=r"watched already.*duplicate"):
        poller.register(ours.fileno(), log.append)
    poller.unregister(ours.fileno())
    with pytest.raises(HostMisuse, match="is not watched"):
        poller.unregister(ours.fileno())


def test_no_such_descriptor(poller, log):
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        poller.register(read, log.append)
    assert poller.watched == {}


def test_an_audit_finds_what_somebody_else_has_closed(poller, pair, log):
    ours, _ = pair
    poller.register(ours.fileno(), log.append)
    poller.poll(0)
    log.clear()
    number = ours.detach()
    os.close(number)
    poller.audit()
    poller.poll(0)
    assert log[-1] == POLLNVAL
    poller.unregister(number)


def test_a_number_that_is_used_again_tells_its_former_owner(pair, log):
    poller = make_poller()
    ours, theirs = pair
    number = ours.detach()
    poller.register(number, log.append)
    os.close(number)
    assert os.dup(theirs.fileno()) == number
    poller.register(number, lambda events: log.append("new owner"))
    assert log == [POLLNVAL]
    assert poller.poll(SECOND)
    assert log == [POLLNVAL, "new owner"]
    poller.close()
    os.close(number)


def test_a_closed_poller_says_so_and_takes_wake_ups_without_a_word(poller, log):
    poller.close()
    poller.close()
    poller.wake()
    for call in (poller.fileno, lambda: poller.wait(0), lambda: poller.register(0, log.append)):
        with pytest.raises(HostMisuse, match="is closed"):
            call()


def test_its_repr_says_what_it_is(poller, pair, log):
    poller.register(pair[0].fileno(), log.append)
    assert "watches 1 descriptor" in repr(poller)
    poller.close()
    assert "closed" in repr(poller)


# -- in a host


@pytest.fixture(params=[GreenletHost, ThreadHost, lambda: FaultyHost(GreenletHost(), "sem_alloc")])
def host(request):
    host = request.param()
    before = descriptors()
    host.host_init()
    yield host
    host.host_cleanup()
    assert descriptors() == before
    assert host.made_poller is None


def test_a_host_makes_one_poller_on_first_use(host):
    assert host.made_poller is None
    assert host.poller() is host.poller() is host.made_poller


def test_a_wake_up_before_the_poller_was_made_is_not_lost(host):
    host.idle_wake()
    host.poller()
    host.idle_sleep(None)


def test_idle_waits_for_descriptors_wake_ups_and_time(host, pair, log):
    ours, theirs = pair
    poller = host.poller()
    poller.register(ours.fileno(), log.append)
    assert host.live().descriptors == 1
    host.idle_sleep(None)
    poller.dispatch()
    host.idle_sleep(1000)
    theirs.send(b"data")
    host.idle_sleep(None)
    poller.dispatch()
    assert [events & POLLIN for events in log] == [0, POLLIN]
    host.idle_wake()
    host.idle_sleep(None)
    poller.unregister(ours.fileno())


def test_idle_notices_a_descriptor_that_somebody_else_closed(host, pair, log, monkeypatch):
    monkeypatch.setattr(services, "AUDIT_S", 0.001)
    number = pair[0].detach()
    poller = host.poller()
    poller.register(number, log.append)
    poller.poll(0)
    log.clear()
    os.close(number)
    host.idle_sleep(60 * SECOND)
    poller.dispatch()
    assert log == [POLLNVAL]


def test_a_host_without_one_says_what_to_do():
    with pytest.raises(HostMisuse, match="cannot watch descriptors"):
        HostOps.poller(GreenletHost())


def test_only_the_owner_of_a_running_host_gets_it():
    with pytest.raises(HostMisuse, match="no kernel uses this host"):
        GreenletHost().poller()


def test_a_halted_kernel_has_closed_its_poller(configuration):
    before = descriptors()
    kernel = lkl_start_kernel(loglevel=0, **configuration)
    poller = kernel.host.poller()
    assert descriptors() != before
    kernel.lkl_run()
    kernel.lkl_sys_halt()
    assert poller.closed
    assert descriptors() == before


def test_a_callback_that_raises_leaves_the_others_for_the_next_time(poller, log):
    pairs = [socket.socketpair() for _ in range(3)]

    def callback(events):
        log.append(events)
        if len(log) == 2:
            raise ValueError

    for ours, _ in pairs:
        poller.register(ours.fileno(), callback)
    poller.wait(SECOND)
    with pytest.raises(ValueError, match=r"^$"):
        poller.dispatch()
    poller.dispatch()
    assert len(log) == 3
    for ours, theirs in pairs:
        poller.unregister(ours.fileno())
        ours.close()
        theirs.close()
