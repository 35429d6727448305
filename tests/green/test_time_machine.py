"""A program that travels with time-machine: it departs where the test says, and time passes as the kernel's does."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from lkl_green.green import run_threads
from lkl_green.testing import explore

time_machine = pytest.importorskip("time_machine")

_2020 = datetime(2020, 1, 1, tzinfo=UTC)


def sleep_in_thread(seconds: float) -> None:
    thread = threading.Thread(target=time.sleep, args=(seconds,))
    thread.start()
    thread.join()


def a_journey_on_which_time_passes() -> None:
    with time_machine.travel(_2020) as traveller:
        assert time.time() == _2020.timestamp(), "the journey begins when the time is first asked for"
        sleep_in_thread(5)
        assert 5 <= time.time() - _2020.timestamp() < 5.1
        assert 5 <= (datetime.now(UTC) - _2020).total_seconds() < 5.1
        traveller.shift(100)
        assert 105 <= time.time_ns() / 1e9 - _2020.timestamp() < 105.1
    assert time.gmtime().tm_year == 2000, "back at the time of the kernel"


def a_journey_on_which_time_stands() -> None:
    with time_machine.travel(_2020, tick=False):
        sleep_in_thread(5)
        assert not threading.Event().wait(timeout=3)
        assert time.time() == _2020.timestamp()
        assert time.strftime("%Y") == "2020"


JOURNEYS = [a_journey_on_which_time_passes, a_journey_on_which_time_stands]


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.__name__)
def test_journeys_are_the_same_in_each_schedule(journey) -> None:
    explore(journey, threads=True, schedules=20).assert_passed()


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.__name__)
def test_journeys_in_virtual_time(journey) -> None:
    run_threads(journey)


def test_outside_of_kernels_time_machine_is_what_it_was() -> None:
    with time_machine.travel(_2020, tick=False):
        assert time.time() == _2020.timestamp()
    assert time.gmtime().tm_year > 2020
