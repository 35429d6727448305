"""Going the same way again: by the numbers of a trail, or by the names of a recorded schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from lkl_green.kernel.points import POINTS
from lkl_green.testing.decision import Decision
from lkl_green.testing.names import Names
from lkl_green.testing.policies.abort import abort_schedule
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.testing.actor import Actor

_ONCE_CUT_AT = 15


class Trail(Policy):
    """Takes the same options as a run in this process took; where the trail ends, nobody is preempted any more."""

    name = "trail"

    def __init__(self, trail: Sequence[int]) -> None:
        super().__init__()
        self._trail = trail
        self._next = 0

    def begin(self, seed: int, number: int) -> bool:
        """From the start."""
        self._next = 0
        return True

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The same as then."""
        return self._take(len(enabled), 0 if running is None else enabled.index(running))

    def choose(self, kind: str, count: int) -> int:
        """The same as then."""
        return self._take(count, 0)

    def _take(self, count: int, default: int) -> int:
        position = self._next
        self._next = position + 1
        if position >= len(self._trail):
            return default
        index = self._trail[position]
        if index >= count:
            abort_schedule(
                Verdict.NONDETERMINISTIC,
                f"decision {position + 1}: option {index + 1} was taken before, and now there are only {count}",
            )
        return index


class Replay(Policy):
    """Follows a recorded schedule, and checks at each decision that it fits.

    Args:
        decisions: of the schedule.
    """

    name = "replay"

    def __init__(self, decisions: Sequence[Decision]) -> None:
        super().__init__()
        self._decisions = decisions
        self._next = 0
        self._names = Names()

    def begin(self, seed: int, number: int) -> bool:
        """From the start."""
        self._next = 0
        self._names = Names()
        return True

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The recorded actor, which must be about to do what was recorded."""
        wanted = self._wanted()
        for index, actor in enumerate(enabled):
            if actor.name == wanted.actor or _was_cut(wanted.actor, actor.name):
                found = Decision(wanted.actor, actor.kind, self._names.object(actor.obj))
                if found != wanted and not (found.obj == wanted.obj and wanted.op in POINTS[actor.kind].was):
                    self._mismatch(f"recorded was {str(wanted)!r}, and now {str(found)!r} comes next")
                self._next += 1
                return index
        able = ", ".join(f"{actor.name} ({actor.kind})" for actor in enabled)
        return self._mismatch(f"recorded was {str(wanted)!r}, and {wanted.actor} cannot go on; these can: {able}")

    def executes(self, actor: Actor) -> None:
        """Name objects in the order in which the recording did."""
        self._names.object(actor.obj)

    def choose(self, kind: str, count: int) -> int:
        """The recorded choice."""
        wanted = self._wanted()
        index, _, options = wanted.op.partition("/")
        if wanted.actor != kind or options != str(count) or not index.isdecimal() or int(index) >= count:
            self._mismatch(f"recorded was {str(wanted)!r}, and now there is a choice of {kind!r} among {count}")
        self._next += 1
        return int(index)

    def _wanted(self) -> Decision:
        if self._next >= len(self._decisions):
            self._mismatch("the recorded schedule ends here, and the test goes on")
        return self._decisions[self._next]

    def _mismatch(self, what: str) -> NoReturn:
        abort_schedule(
            Verdict.MISMATCH,
            f"decision {self._next + 1} of {len(self._decisions)}: {what}. The test, or what it tests, has changed "
            "since the schedule was recorded, or it is not deterministic",
        )

    @property
    def left(self) -> int:
        """How many recorded decisions have not been asked for."""
        return len(self._decisions) - self._next


def _was_cut(recorded: str, name: str) -> bool:
    """Whether a name of today was recorded when names had 15 characters at most."""
    return len(recorded) == _ONCE_CUT_AT and name.startswith(recorded)
