"""What the samplers promise: PCT its bound, URW its uniformity, SURW the same for one object."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from math import comb
from typing import TYPE_CHECKING

import pytest

from lkl_green.testing import Shared, spawn
from lkl_green.testing.campaign import CHUNK, Campaign
from lkl_green.testing.policies import PCT, SURW, URW, Policy, RandomWalk
from lkl_green.testing.settings import ScheduleSettings, Settings
from lkl_green.testing.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.testing import Spawned

# The critical value of chi-square at one in a thousand: d, by Wilson and Hilferty.
ONE_IN_A_THOUSAND = 3.0902


def chi_square_limit(freedom: int) -> float:
    part = 2 / (9 * freedom)
    return freedom * (1 - part + ONE_IN_A_THOUSAND * part**0.5) ** 3


def run_often(policy: Policy, test: Callable[[], None], count: int, seed: int = 1) -> list[tuple[int, ...]]:
    with Testbed(ScheduleSettings(after_points=False)) as testbed:
        trails = []
        for number in range(count):
            assert policy.begin(seed, number)
            trails.append(tuple(testbed.run(test, policy).trail))
        return trails


def unequal() -> None:
    """Two tasks of 2 and 5 operations that have nothing to do with each other."""
    for name, times in (("x", 2), ("y", 5)):
        spawn(read_often, Shared(0, name), times)


def read_often(variable: Shared[int], times: int) -> None:
    for _ in range(times):
        assert variable.value == 0


def chi_square(counts: Counter[tuple[int, ...]], cells: int) -> float:
    expected = counts.total() / cells
    return sum((count - expected) ** 2 / expected for count in counts.values()) + expected * (cells - len(counts))


def test_urw_takes_every_interleaving_equally_often() -> None:
    cells = comb(9, 3)
    counts = Counter(run_often(URW(), unequal, 40 * cells)[1:])
    assert len(counts) == cells
    assert chi_square(counts, cells) < chi_square_limit(cells - 1)


def test_a_random_walk_does_not() -> None:
    cells = comb(9, 3)
    counts = Counter(run_often(RandomWalk(), unequal, 40 * cells))
    assert chi_square(counts, cells) > 3 * chi_square_limit(cells - 1)


def test_surw_takes_every_order_on_an_object_equally_often() -> None:
    orders: Counter[tuple[int, ...]] = Counter()

    def test() -> None:
        order: list[int] = []
        variable = Shared(0, "x")

        def write(who: int, times: int) -> None:
            for _ in range(times):
                variable.value = who
                order.append(who)

        tasks = [spawn(write, 1, 2, name="two"), spawn(write, 2, 4, name="four")]
        for task in tasks:
            task.join()
        orders[tuple(order)] += 1

    cells = comb(6, 2)
    run_often(SURW(), test, 40 * cells)
    assert len(orders) == cells
    assert chi_square(orders, cells) < chi_square_limit(cells - 1)


def comes_between(found: list[bool]) -> Callable[[], None]:
    """A bug of depth 2: the reader comes between two writes that belong together."""

    def test() -> None:
        x, y = Shared(0, "x"), Shared(0, "y")

        def write() -> None:
            x.value = 1
            y.value = 1

        def read() -> None:
            found.append((x.value, y.value) == (1, 0))

        join(spawn(write), spawn(read))

    return test


def there_and_back(found: list[bool]) -> Callable[[], None]:
    """A bug of depth 3: away from the first task at one place, and back from the second at another."""

    def test() -> None:
        x = Shared(0, "x")

        def first() -> None:
            x.value = 1
            found.append(x.value == 2)

        def second() -> None:
            if x.value == 1:
                x.value = 2
                x.value = 3

        join(spawn(first), spawn(second))

    return test


def join(*tasks: Spawned) -> None:
    for task in tasks:
        task.join()


@pytest.mark.parametrize(("depth", "bug"), [(2, comes_between), (3, there_and_back)])
def test_pct_keeps_its_bound(depth: int, bug: Callable[[list[bool]], Callable[[], None]]) -> None:
    found: list[bool] = []
    policy = PCT(depth, fair=False)
    run_often(policy, bug(found), 4000)
    bound = 1 / (3 * policy.longest ** (depth - 1))
    # Three standard errors of so many trials at that probability.
    allowance = 3 * (bound * (1 - bound) / len(found)) ** 0.5
    assert sum(found) / len(found) >= bound - allowance
    assert allowance < bound


def test_pct_of_less_depth_does_not_find_what_is_deeper() -> None:
    found: list[bool] = []
    run_often(PCT(2, fair=False), there_and_back(found), 2000)
    assert not any(found)


def test_pct_measures_the_longest_schedule() -> None:
    policy = PCT(3)
    trails = run_often(policy, unequal, 100)
    assert policy.longest == max(map(len, trails))


def test_what_was_learnt_is_forgotten_with_every_chunk() -> None:
    """Or the schedules of a number would depend on who ran those before."""
    with closing(Campaign(unequal, Settings(policy="pct", seed=3, lockdep=False))) as campaign:
        whole = [run.trail for number in range(2 * CHUNK) if (run := campaign.run(number)) is not None]
    with closing(Campaign(unequal, Settings(policy="pct", seed=3, lockdep=False))) as campaign:
        half = [run.trail for number in range(CHUNK, 2 * CHUNK) if (run := campaign.run(number)) is not None]
    assert whole[CHUNK:] == half
