"""The interface of exploration policies.

A policy is asked whenever there is more than one way to go on, and only then. Everything it may want to know is in the
actors and in the `Run`; everything it draws comes from `self.random`, which is seeded per schedule, so that a schedule
is a function of the policy, its options, the seed and the schedule's number.

The same interface serves systematic search: `begin()` says whether there is a schedule left, `pick()` and `choose()`
walk down one branch, `end()` backs up. Partial order reduction needs no more: pending operations are known at each
decision, and `executes()` tells what was done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from lkl_green.kernel.points import CANCEL
from lkl_green.testing.policies.chance import Chance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lkl_green.kernel.points import Kind
    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# How often a fault point fires in a run that has faults at all, and how many runs have: one in FAULTY_RUNS, one in
# FAULT_ODDS. A test in which everything fails tests little.
_FAULTY_RUNS = 4
_FAULT_ODDS = 8

# A task of a loop is cancelled with odds of one in 2, 4, 8, 16 or 32 at each step of the loop, in schedules that take
# turns: early in some, late in others, whatever the length of the test.
_CANCEL_SPREAD = 5


class Policy(ABC):
    """Chooses how schedules go.

    Attributes:
        name: what `policy="..."` and reports call it.
        learns: whether earlier schedules of a campaign shape later ones. Such a policy begins anew with every chunk of
            schedule numbers, so that what it does does not depend on how many processes share the campaign.
        systematic: whether each schedule follows from the one before: a search, which cannot be shared out by numbers.
        schedules: how many are run, unless the settings say so.
        settles: settings that are left open by default, and what they are under this policy.
        requires: settings under which it can work; it is refused under others.
        random: the source of chance of the present schedule.
        decider: the policy that decides the present schedule in place of this one; None: this one does.
        maker: what reports call the maker of the present schedule.
        verdict: what was tried when a search has come to its end: "every order ...", "exhausted within 2 preemptions";
            "" before, and for a sampler.
        left_out: what a search has not tried, and so cannot answer for; "" for nothing, and for samplers.
    """

    name: ClassVar[str]
    learns: ClassVar[bool] = False
    systematic: ClassVar[bool] = False
    schedules: ClassVar[int] = 1000
    settles: ClassVar[Mapping[str, object]] = {"held_locks": "arrive"}
    requires: ClassVar[Mapping[str, object]] = {}

    def __init__(self) -> None:
        self.random = Chance()
        self.decider: Policy | None = None
        self.maker = self.name
        self.verdict = ""
        self.left_out = ""
        self._faulty = False
        self._cancel_odds = 2

    def begin(self, seed: int, number: int) -> bool:
        """A schedule begins.

        Args:
            seed: of the campaign.
            number: of the schedule in the campaign, from 0.

        Returns:
            False if there is none left: the search is exhausted.
        """
        self.random.begin(seed, number)
        self._cancel_odds = 2 << number % _CANCEL_SPREAD
        self._faulty = number % _FAULTY_RUNS == _FAULTY_RUNS - 1
        return True

    @abstractmethod
    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """Who goes next.

        Args:
            enabled: two or more actors, in the order in which they became enabled.
            running: the one that runs and could go on; None if it cannot.

        Returns:
            an index into `enabled`.
        """

    def choose(self, kind: str, count: int) -> int:
        """Any other decision.

        Args:
            kind: what it is about: "random" (a draw of the program), "fault NAME" (0: none), "tie" (which timer first),
                "cancel" (1: a task of an event loop is cancelled now).
            count: how many options there are.

        Returns:
            which one, from 0.
        """
        if kind == CANCEL:
            return int(self.random.random() * self._cancel_odds < 1)
        if kind.startswith("fault") and not (self._faulty and int(self.random.random() * _FAULT_ODDS) == 0):
            return 0
        return int(self.random.random() * count)

    def executes(self, actor: Actor) -> None:  # noqa: B027 - optional
        """`actor` is about to do its pending operation, chosen or alone. Defined only by policies that count."""

    def misses(self, what: str) -> None:  # noqa: B027 - optional
        """Something happened that could have gone another way, and the policy was not asked."""

    def passes_time(self, actor: Actor) -> None:  # noqa: B027 - optional
        """The step of `actor` that has just ended has read a virtual clock, and so moved it on."""

    def wakes(self, actor: Actor, waker: Actor | None) -> None:  # noqa: B027 - optional
        """`waker` has made `actor` runnable; None: time did, or the application."""

    def within(self, actor: Actor, kind: Kind, obj: object) -> None:  # noqa: B027 - optional
        """`actor` does an operation where no other task may come between: it belongs to the step before."""

    def end(self, run: Run) -> None:  # noqa: B027 - optional
        """The schedule has ended."""
