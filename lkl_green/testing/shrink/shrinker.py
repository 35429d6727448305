"""Shrinking: the simplest schedule that fails the same way.

Simple means, the most important first: few preemptions, few faults, few tasks, few steps, few jumps of time and
interrupts, and few decisions that are not first come, first served (`Cost`). Two ways lead there, in turn:

*Delta debugging* (`_reduce`) takes deviations out of the failing schedule, many at once, then fewer, then pairs: what a
preemption was for often needs the way back to go as well. It makes a long random schedule short within some dozen runs,
and stops at schedules that cannot spare anything, which are not always the simplest.

*Search* (`_search`) starts at the plain schedule and tries everything with one deviation, with two, ... that is cheaper
than what there is. Where it comes to its end, the number of preemptions is proved minimal.

*The same failure* is the same verdict and, for one that comes from an exception, the same type of exception, raised at
the same line. Messages are not compared: those of assertions carry the values of the run. A deadlock is a deadlock: if
a test has two of them, the simpler one may take the other's place. What it is for a livelock: see `endless`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.errors import BlockedCall
from lkl_green.host.native import monotonic
from lkl_green.testing.campaign import Campaign
from lkl_green.testing.cost import Cost, Shrunk
from lkl_green.testing.detect.ending import describe
from lkl_green.testing.policies.replay import Replay, Trail
from lkl_green.testing.run import Verdict
from lkl_green.testing.shrink.contrast import contrast
from lkl_green.testing.shrink.endless import Endless, endless, tell_shortened
from lkl_green.testing.shrink.frontier import Frontier
from lkl_green.testing.shrink.measured import Branch, Deviation, Following, Guided, Measured, Pace, Place
from lkl_green.testing.source import raised_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lkl_green.testing.report import Failure
    from lkl_green.testing.run import Run

DEFAULT_BUDGET_S = 1.5
DEFAULT_MAX_RUNS = 20_000

# Verdicts that are not about one schedule, or that take too long to be met again and again.
_NOT_SHRUNK = (
    Verdict.NONDETERMINISTIC,
    Verdict.KEPT_STATE,
    Verdict.UNEXPLORED,
    Verdict.MISMATCH,
    Verdict.HUNG,
    Verdict.RACE,  # it is seen in recorded runs only
)

# A candidate that has done so many times the steps of the best schedule, and these, has lost its way.
_STEPS_FACTOR = 4
_STEPS_MORE = 200

# The search is tried first, for so many runs, because the simplest schedules are so simple; then delta debugging, for
# such a share of the time; then the search goes on.
_FIRST_RUNS = 100
_REDUCE_SHARE = 0.5

# A search that has found nothing simpler for so many runs is not worth its time any more.
_PATIENCE = 2_500

# Once nothing with fewer preemptions fails, so many runs go into fewer steps.
_POLISHING_RUNS = 300


class _Best(NamedTuple):
    """The simplest schedule so far."""

    cost: Cost
    trail: list[int]
    taken: list[Deviation]


@dataclass
class _Search:
    """How far the search has come.

    Attributes:
        frontier: what has not been tried.
        choices: what to choose where it is not about tasks, as in the failing schedule.
        following: what to try next: a trail, its deviations and its preemptions; None if nothing is left.
    """

    frontier: Frontier
    choices: dict[Place, int]
    following: tuple[list[int], int, int] | None


class Shrinker:
    """Makes one failing schedule simpler.

    Args:
        campaign: runs the test.
        failure: how it fails.
        budget_s: seconds after which the simplest schedule so far has to do.
        max_runs: the same in runs.
    """

    def __init__(self, campaign: Campaign, failure: Failure, budget_s: float, max_runs: int) -> None:
        self._campaign = campaign
        self._failure = failure
        self._start_s = monotonic()
        self._deadline_s = self._start_s + budget_s
        self._max_runs = max_runs
        self._endless: Endless | None = None
        self._wanted: tuple[object, ...]
        self._best: _Best
        self._improved = 0
        self.runs = 0

    def shrink(self) -> Failure:
        """The simplest schedule found, recorded; the failure itself if nothing is simpler."""
        if self._failure.verdict is Verdict.LIVELOCK:
            self._endless = endless(self._campaign, self._failure.schedule, self._campaign.testbed.max_steps)
            if self._endless is None:
                return self._failure
            self._campaign.testbed.limit(self._endless.limit)
        first = Following(Replay(self._failure.schedule.decisions), self._endless.pace if self._endless else Pace())
        run = self._run(first)
        self._wanted = self._signature(run, first)
        kind = describe(run.error).partition(":")[0]
        if run.verdict is not self._failure.verdict or kind != self._failure.error.partition(":")[0]:
            return self._failure
        before = first.cost
        self._best = _Best(before, run.trail, first.taken)
        search = self._begin_search()
        self._search(search, self.runs + _FIRST_RUNS)
        self._reduce(self._start_s + (self._deadline_s - self._start_s) * _REDUCE_SHARE)
        minimal = self._search(search, self._max_runs)
        self._polish(search)
        self._reduce(self._deadline_s)
        minimal &= not (first.met_faults and self._best.cost.preemptions)
        told = contrast(self._campaign, self._best.taken, self._pace(), self._deadline_s)
        failure = self._failure
        if self._best.cost != before or self._endless is not None:
            failure = self._recorded()
        failure.contrast = told
        limit = 0 if self._endless is None else self._endless.limit
        elapsed_s = monotonic() - self._start_s
        failure.shrunk = Shrunk(before, self._best.cost, self.runs, elapsed_s, minimal, limit)
        return failure

    def _recorded(self) -> Failure:
        """The simplest schedule as a failure of its own."""
        found = self._failure
        run, recording = self._campaign.record(Trail(self._best.trail))
        again = self._campaign.failure(run, recording, found.number, found.schedule.policy)
        again.detail = again.detail or found.detail
        if self._endless is not None:
            tell_shortened(again, found, self._endless.limit)
        return again

    def _run(self, policy: Measured) -> Run:
        self.runs += 1
        policy.begin(0, 0)
        return self._campaign.testbed.run(self._campaign.test, policy)

    def _signature(self, run: Run, policy: Measured) -> tuple[object, ...]:
        """What two failures share if they are the same."""
        if self._endless is not None:
            return run.verdict, policy.starves
        return (
            (run.verdict,) if run.error is None else (run.verdict, type(run.error).__qualname__, raised_at(run.error))
        )

    @property
    def _spent(self) -> bool:
        return self.runs >= self._max_runs or monotonic() >= self._deadline_s

    def _pace(self) -> Pace:
        """How long candidates may take."""
        if self._endless is not None:
            return self._endless.pace
        return Pace(self._best.cost.steps * _STEPS_FACTOR + _STEPS_MORE)

    def _try(self, policy: Measured) -> bool:
        """Run a candidate; whether it fails the same way and is simpler, and so is the best from now on."""
        return self._is_better(self._run(policy), policy)

    def _is_better(self, run: Run, policy: Measured) -> bool:
        if policy.cost >= self._best.cost or self._signature(run, policy) != self._wanted:
            return False
        self._best = _Best(policy.cost, run.trail, policy.taken)
        self._improved = self.runs
        return True

    # -- delta debugging

    def _reduce(self, until_s: float) -> None:
        """Take out what can go, until nothing can."""
        while self._reduce_once(until_s):
            pass

    def _reduce_once(self, until_s: float) -> bool:
        for fewer in _subsets(self._best.taken):
            if self._spent or monotonic() >= until_s:
                return False
            if self._try(Guided(fewer, self._pace())):
                return True
        return False

    # -- search

    def _begin_search(self) -> _Search:
        choices = {place: int(target) for place, target, _ in self._best.taken if target.isdecimal()}
        bound = self._best.cost.preemptions
        return _Search(Frontier(max(bound - 1, 0), bound), choices, ([], 0, 0))

    def _search(self, search: _Search, until_runs: int) -> bool:
        """Try schedules with few deviations; whether all with fewer preemptions than the best were tried."""
        while self._best.cost.preemptions:
            if search.following is None:
                return True
            if self._spent or self.runs >= until_runs or self.runs - self._improved > _PATIENCE:
                return False
            search.frontier.limit = self._best.cost.preemptions - 1
            self._visit(search)
        return True

    def _polish(self, search: _Search) -> None:
        """Look for fewer steps at the same number of preemptions."""
        search.frontier.raise_limit(self._best.cost.preemptions)
        if search.following is None:
            search.following = search.frontier.next()
        for _ in range(_POLISHING_RUNS):
            if search.following is None or self._spent:
                return
            self._visit(search)

    def _visit(self, search: _Search) -> None:
        """Run the next schedule of the search."""
        assert search.following is not None
        trail, deviations, preemptions = search.following
        branch = Branch(trail, search.choices, self._pace())
        run = self._run(branch)
        self._is_better(run, branch)
        search.frontier.add(run.trail, branch.forks, len(trail), deviations, preemptions)
        search.following = search.frontier.next()


def _subsets(taken: Sequence[Deviation]) -> Iterator[list[Deviation]]:
    """The deviations without half of them, a quarter, ..., without one, then without two neighbours."""
    yield []
    size = len(taken) // 2
    while size:
        for begin in range(0, len(taken), size):
            yield [*taken[:begin], *taken[begin + size :]]
        size //= 2
    for begin in range(len(taken) - 1):
        for other in range(begin + 1, min(begin + 4, len(taken))):
            yield [one for number, one in enumerate(taken) if number not in (begin, other)]


def shrink(
    test: Callable[[], object],
    failure: Failure,
    budget_s: float = DEFAULT_BUDGET_S,
    max_runs: int = DEFAULT_MAX_RUNS,
) -> Failure:
    """The simplest schedule in which `test` fails as in `failure`.

    Args:
        test: the test that was explored.
        failure: what `explore()` found.
        budget_s: seconds that may take.
        max_runs: schedules that may take.

    Returns:
        a recorded failure, which replays; `failure` itself if its schedule does not fail again like this, or its
        verdict is not about one schedule.
    """
    if failure.verdict in _NOT_SHRUNK or isinstance(failure.exception, BlockedCall):
        return failure
    with Campaign(test, failure.schedule.to_replay()) as campaign:
        return Shrinker(campaign, failure, budget_s, max_runs).shrink()
