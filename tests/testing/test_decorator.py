"""`@schedules(...)`: calling the test explores it."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import sharing

from lkl_green.errors import NotATest, ScheduleFailed
from lkl_green.testing import Report, explore, random, schedules


def test_the_body_runs_once_in_each_schedule_with_the_same_arguments() -> None:
    calls: list[Any] = []

    @schedules(5, verify=False)
    def test(box: list[int], *, word: str = "a") -> None:
        calls.append((box, word))

    box = [1]
    test(box, word="b")
    assert calls == [(box, "b")] * 5
    assert all(seen is box for seen, _ in calls)


def test_a_failure_is_an_assertion_error_with_the_report() -> None:
    @schedules(500, seed=2, policy="random")
    def test() -> None:
        assert sharing.count(1) == 2

    with pytest.raises(ScheduleFailed, match=r"failed: .* policy random, seed 2") as caught:
        test()
    assert isinstance(caught.value, AssertionError)
    report = caught.value.report
    assert isinstance(report, Report)
    assert report.test.endswith("test_decorator.py::" + test.__qualname__)
    assert report.failure is not None
    assert report.failure.shrunk is not None
    assert report.failure.shrunk.after.preemptions == 1


def test_a_limit_that_was_hit_is_no_pass() -> None:
    @schedules(10_000, time_budget=0.05)
    def test() -> None:
        sharing.takes_long()

    with pytest.raises(ScheduleFailed, match="incomplete"):
        test()


def test_name_documentation_and_signature_are_the_tests_own() -> None:
    @schedules()
    def test_it(tmp_path: object, number: int = 3) -> None:
        """What is tested."""

    assert test_it.__name__ == "test_it"
    assert test_it.__doc__ == "What is tested."
    assert list(inspect.signature(test_it).parameters) == ["tmp_path", "number"]
    with pytest.raises(TypeError, match="tmp_path"):
        test_it()


def test_setup_runs_in_each_schedule_and_makes_arguments() -> None:
    seen = []

    def setup(box: list[int]) -> dict[str, object]:
        box.clear()
        return {"fresh": []}

    @schedules(3, setup=setup, verify=False)
    def test(box: list[int], fresh: list[int] | None = None) -> None:
        assert fresh is not None
        box.append(1)
        fresh.append(1)
        seen.append((list(box), list(fresh)))

    test([7])
    assert seen == [([1], [1])] * 3


def test_setup_is_part_of_the_schedule() -> None:
    drawn = []

    @schedules(4, seed=1, setup=lambda: {"number": random.randrange(1000)})
    def test(number: int = 0) -> None:
        drawn.append(number)

    test()
    first, drawn = drawn, []
    test()
    assert first == drawn
    assert len(set(first)) == 4


@pytest.mark.parametrize(
    ("setup", "complaint"),
    [
        (lambda nobody: None, "setup wants 'nobody', which is no argument"),
        (lambda: {"nobody": 1}, "setup made nobody, which the test does not take"),
    ],
)
def test_setup_that_does_not_fit(setup: Any, complaint: str) -> None:
    @schedules(3, setup=setup)
    def test() -> None:
        pass

    with pytest.raises((TypeError, ScheduleFailed), match=complaint):
        test()


async def coroutine() -> None:
    pass


def generator() -> Any:
    yield


async def asynchronous_generator() -> Any:
    yield


class AsynchronousCall:
    async def __call__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (coroutine, "coroutine is a coroutine function"),
        (functools.partial(coroutine), "a coroutine function"),
        (AsynchronousCall(), "a coroutine function"),
        (generator, "generator is a generator function"),
        (asynchronous_generator, "asynchronous_generator is an asynchronous generator function"),
        (None, "None cannot be called"),
    ],
)
def test_what_would_test_nothing_is_refused(function: Any, what: str) -> None:
    with pytest.raises(NotATest, match=what):
        schedules()(function)
    with pytest.raises(NotATest, match=what):
        explore(function)


def test_an_unknown_option_and_forgotten_parentheses() -> None:
    with pytest.raises(TypeError, match=r"no option 'threds'; there are: setup, .*threads"):
        schedules(5, threds=True)
    with pytest.raises(TypeError, match=r"@schedules\(\) or @schedules\(1000\)"):
        schedules(generator)  # type: ignore[arg-type]


def test_methods_of_classes() -> None:
    class TestThings:
        ran = 0

        @schedules(4, verify=False)
        def test_it(self, step: int) -> None:
            self.ran += step

    things = TestThings()
    things.test_it(2)
    assert things.ran == 8
