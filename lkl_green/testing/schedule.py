"""A recorded schedule, and its file.

A schedule is the list of decisions that were taken where there was more than one way to go on. Each is written down by
what it *means*: which task, about to do what, to which object. So a file can be read by a person, replayed on another
version of Python, where byte code and addresses differ, and checked while it is replayed: where the program does
something else than was recorded, the first difference is named.

Names are stable because they are given by the run itself: a task is called by its comm, a thread of `threading` by its
name, a second one of that name "name#2"; numbers that programs count up from schedule to schedule begin anew in each;
an object by its own name if it has one, else by its type and the order in which objects of that type were first used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lkl_green.errors import ScheduleFileError
from lkl_green.testing.decision import Decision
from lkl_green.testing.settings import ScheduleSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "lkl_green schedule"
VERSION = 2
# What a file of an earlier version means by what it does not say.
_BEFORE = {1: {"after_points": False}}


@dataclass
class Schedule:
    """What is needed to run one schedule again.

    Attributes:
        decisions: in order.
        test: which test it is of, FILE.py::name where that is known.
        verdict, error: how it ended.
        policy, seed, number: where it came from.
        counted: the names with numbers that were given in it, in order.
        settings: how each schedule of the campaign was run; "options" in the file.
    """

    decisions: list[Decision]
    test: str = ""
    verdict: str = ""
    error: str = ""
    policy: str = ""
    seed: int = 0
    number: int = 0
    counted: list[str] = field(default_factory=list)
    settings: ScheduleSettings = field(default_factory=ScheduleSettings)

    @property
    def options(self) -> dict[str, Any]:
        """The settings as the file has them."""
        return self.settings.to_file()

    def to_replay(self) -> Settings:
        """The settings of a campaign that runs this schedule again."""
        return Settings(**self.options, policy="fifo", seed=self.seed, name=self.test)

    def dumps(self) -> str:
        """As text: JSON, a decision to a line."""
        head = {
            "format": FORMAT,
            "version": VERSION,
            "test": self.test,
            "verdict": self.verdict,
            "error": self.error,
            "policy": self.policy,
            "seed": self.seed,
            "number": self.number,
            **({"counted": self.counted} if self.counted else {}),
            "options": self.options,
        }
        lines = ",\n".join("  " + json.dumps(list(decision)) for decision in self.decisions)
        return json.dumps(head, indent=1)[:-2] + f',\n "decisions": [\n{lines}\n ]\n}}\n'

    def save(self, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.dumps(), encoding="utf-8")

    @classmethod
    def loads(cls, text: str, source: str = "the schedule") -> Schedule:
        """Read what `dumps()` wrote. Raises ScheduleFileError if it is damaged, or of a newer format."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ScheduleFileError(f"{source} is not a schedule file: {error}; it may be cut off or edited") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ScheduleFileError(f"{source} is JSON, but not a schedule: it has no format {FORMAT!r}")
        version = data.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise ScheduleFileError(
                f"{source} has format version {version!r}; this lkl_green reads up to {VERSION}: "
                "replay it with the version that wrote it, or a later one"
            )
        try:
            entries = _typed("decisions", data["decisions"], list)
            decisions = [Decision(*map(_text, _typed("a decision", entry, list))) for entry in entries]
            fields = {name: _typed(name, data[name], kind) for name, kind in _FIELDS.items()}
            options = _BEFORE.get(version, {}) | _typed("options", data["options"], dict)
            settings = ScheduleSettings.of_file(options)
            counted = list(map(_text, _typed("counted", data.get("counted", []), list)))
            return cls(decisions, **fields, counted=counted, settings=settings)
        except (KeyError, TypeError, ValueError) as error:
            raise ScheduleFileError(f"{source} is damaged: {type(error).__name__}: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Schedule:
        """Read a file. Raises ScheduleFileError if it cannot be read, is damaged, or of a newer format."""
        try:
            return cls.loads(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ScheduleFileError(f"{path} cannot be read: {error}") from None


_FIELDS = {"test": str, "verdict": str, "error": str, "policy": str, "seed": int, "number": int}


def _typed(name: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{name} is {value!r}, which is no {kind.__name__}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} stands where a name should")
    return value
