"""The random numbers of schedules: each schedule's are its own, as good as any, and the same wherever it is run."""

from __future__ import annotations

import copy
import pickle
from statistics import correlation, mean

import pytest

from lkl_green.testing.policies import POS, make_policy, policy_makers
from lkl_green.testing.policies.chance import CHUNK, SHARE, Chance


def numbers(chance: Chance, seed: int, number: int, count: int = 2 * SHARE) -> list[float]:
    chance.begin(seed, number)
    return [chance.random() for _ in range(count)]


def test_a_schedule_has_the_same_numbers_whatever_was_run_before() -> None:
    one_after_another = Chance()
    for number in (0, 1, CHUNK - 1, CHUNK, 3 * CHUNK + 5):
        drawn = numbers(one_after_another, 7, number)
        assert numbers(Chance(), 7, number) == drawn
        numbers(one_after_another, 8, number)
        assert numbers(one_after_another, 7, number) == drawn
        assert numbers(one_after_another, 7, number, 3) == drawn[:3]


def test_no_two_schedules_share_a_number() -> None:
    chance = Chance()
    drawn = [x for seed in (-1, 0, 1, 2**70) for number in range(2 * CHUNK) for x in numbers(chance, seed, number)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= x < 1 for x in drawn)


@pytest.mark.parametrize("place", [0, 1, SHARE - 1, SHARE, 2 * SHARE - 1])
def test_the_numbers_at_one_place_of_many_schedules_are_even_and_do_not_follow_from_their_neighbours(
    place: int,
) -> None:
    chance = Chance()
    rows = [numbers(chance, 0, number) for number in range(4000)]
    column = [row[place] for row in rows]
    assert abs(mean(column) - 0.5) < 0.02  # five standard deviations are 0.023
    tenths = [sum(int(10 * x) == tenth for x in column) for tenth in range(10)]
    assert max(abs(count - 400) for count in tenths) < 100
    assert abs(correlation(column[:-1], column[1:])) < 0.08
    assert abs(correlation([row[place - 1] for row in rows], column)) < 0.08


def test_all_that_random_can_draw_follows_from_the_schedule() -> None:
    def draw(chance: Chance) -> list[object]:
        chance.begin(3, 70)
        bits = [chance.getrandbits(k) for k in (0, 1, 32, 33, 100)]
        assert all(value < 1 << k for value, k in zip(bits, (0, 1, 32, 33, 100), strict=True))
        hand = list(range(60))
        chance.shuffle(hand)
        assert sorted(hand) == list(range(60))
        return [bits, hand, chance.choice("abc"), chance.sample(range(99), 9), chance.gauss(), chance.randbytes(5)]

    chance = Chance()
    first = draw(chance)
    assert draw(chance) == first == draw(Chance())


def test_a_copy_begins_anew() -> None:
    chance = Chance()
    drawn = numbers(chance, 1, 2)
    for other in (copy.deepcopy(chance), pickle.loads(pickle.dumps(chance))):
        assert numbers(other, 1, 2) == drawn


def test_before_a_schedule_it_is_an_ordinary_generator() -> None:
    assert 0 <= Chance().random() < 1


@pytest.mark.parametrize("name", sorted(policy_makers()))
def test_every_policy_can_be_sent_elsewhere_in_the_middle_of_a_campaign(name: str) -> None:
    policy = make_policy(name)
    policy.begin(0, 0)
    assert pickle.loads(pickle.dumps(policy)).begin(0, 0)


def test_a_policy_draws_from_its_schedule() -> None:
    policy = POS()
    policy.begin(4, 9)
    drawn = [policy.random.random() for _ in range(3)]
    assert drawn == numbers(Chance(), 4, 9, 3)
