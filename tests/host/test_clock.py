"""The clocks."""

from __future__ import annotations

import pytest

from lkl_green.errors import KernelBug
from lkl_green.host.clock import MonotonicClock, VirtualClock
from lkl_green.host.greenlets import GreenletHost


class HostWithHands(GreenletHost):
    """A host whose clock is set by hand."""

    hands_ns = 0

    def time(self) -> int:
        return self.hands_ns


def test_a_monotonic_clock_counts_from_its_creation():
    host = HostWithHands()
    host.hands_ns = 5_000
    clock = MonotonicClock(host, start_ns=100)
    assert (clock.now_ns(), clock.peek_ns()) == (100, 100)
    host.hands_ns += 7
    assert (clock.now_ns(), clock.peek_ns()) == (107, 107)
    assert not clock.is_virtual


def test_a_virtual_clock_moves_by_what_a_reading_costs():
    clock = VirtualClock(start_ns=10, read_cost_ns=3)
    assert [clock.now_ns(), clock.now_ns(), clock.now_ns()] == [10, 13, 16]
    assert clock.is_virtual


def test_looking_without_reading_costs_nothing():
    clock = VirtualClock()
    assert [clock.peek_ns(), clock.peek_ns(), clock.now_ns(), clock.peek_ns()] == [0, 0, 0, 1000]


def test_in_interrupts_reading_is_free():
    clock = VirtualClock()
    clock.free_reads = True
    assert [clock.now_ns(), clock.now_ns()] == [0, 0]
    clock.free_reads = False
    assert [clock.now_ns(), clock.now_ns()] == [0, 1000]


def test_a_loop_that_polls_the_clock_ends():
    clock = VirtualClock(read_cost_ns=1)
    readings = 0
    while clock.now_ns() < 50:
        readings += 1
    assert readings == 50


def test_the_clock_jumps_forwards_or_stays():
    clock = VirtualClock(start_ns=5)
    clock.advance_to(5)
    clock.advance_to(1_000_000)
    assert clock.peek_ns() == 1_000_000


def test_time_does_not_go_backwards():
    clock = VirtualClock(start_ns=5)
    with pytest.raises(KernelBug, match="time goes backwards 5 -> 4"):
        clock.advance_to(4)
    assert clock.peek_ns() == 5


@pytest.mark.parametrize("cost", [0, -1])
def test_readings_must_cost_something(cost):
    with pytest.raises(ValueError, match="would never end"):
        VirtualClock(read_cost_ns=cost)


@pytest.mark.parametrize("clock", [VirtualClock(), MonotonicClock(GreenletHost())])
def test_clocks_have_no_room_for_misspelt_attributes(clock):
    with pytest.raises(AttributeError):
        clock.free_read = True
