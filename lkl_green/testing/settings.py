"""The settings of a campaign: their names, defaults and checks.

`explore()`, the decorator, the pytest plugin, the command line, test beds and schedule files all take them from here.
Where settings may come from several places (a marker below a command line), they are a mapping of names to values
until all are known: only what was left out everywhere has its default.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from lkl_green.errors import ScheduleFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from lkl_green.testing.policies.base import Policy
    from lkl_green.testing.progress import Progress

POINTS = ("memory", "sync")
RACES = ("report", "fail", "off")
LOOP_ORDERS = ("tasks", "fifo")
HELD_LOCKS = ("arrive", "disable")


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """How each schedule is run. A recorded schedule is run again with the same ones, so that its file has them.

    Attributes:
        max_steps: operations after which a schedule counts as one that never ends.
        explore_time: let timers expire at any point, not only when nothing else can happen.
        explore_irqs: let a triggered interrupt come at any later point.
        host_faults: let every host operation that can fail do so, as chance has it.
        after_points: decide once more after each operation that lets others continue: release, set, notify, put,
            start, complete. Searches do without: each order of operations follows from the points before them.
        threads: run `threading`, `queue`, thread pools and `time` of the test as kernel threads in virtual time.
            A campaign takes None, too: do so if the test starts a thread. Schedule files say what came of it.
        points: "memory": before each access of ordinary code to what threads can share, too; "sync": at operations of
            `threading` and of the kernel only. None: "memory" with `threads`, else "sync".
        points_in: names of modules and packages that get points besides those of the test's project.
        lockdep: record a few schedules as they are run, to warn of locks that are taken in contradicting orders or left
            held, though nothing failed of it.
        races: what happens about data races, which are looked for in the schedules that are recorded. "report": they
            are listed; "fail": a schedule that shows one fails; "off": they are not looked for.
        ignored_races: patterns of names of what is accessed, of functions, and of FILE.py:LINE, whose races are meant.
        loop_order: "tasks": the tasks of an asyncio loop that are ready run in any order. "fifo": they run in the order
            in which they became ready, as in a real loop; input and timers alone make a difference.
        explore_cancel: cancel a task of an asyncio loop at an `await`, at most one in each schedule, and never the one
            that the loop is run for.
        held_locks: what becomes of a task that is about to take a held lock. "arrive": it goes on, queues itself and
            sleeps, as it would. "disable": it cannot be chosen while another one can, which leaves fewer orders that
            differ in nothing but who came to wait first. None: what the policy wants.
        watchdog_s: a schedule fails if a task of it runs for so long without a scheduling point; None: it may.
    """

    max_steps: int = 100_000
    explore_time: bool = False
    explore_irqs: bool = True
    host_faults: bool = False
    after_points: bool = True
    threads: bool | None = False
    points: str | None = None
    points_in: Sequence[str] = ()
    lockdep: bool = True
    races: str = "report"
    ignored_races: Sequence[str] = ()
    loop_order: str = "tasks"
    explore_cancel: bool = False
    held_locks: str | None = None
    # A task that computes for so long between two points can hardly be told from one that never ends.
    watchdog_s: float | None = 10.0

    def __post_init__(self) -> None:
        if self.points not in (None, *POINTS):
            raise ValueError(f"points={self.points!r}: use {' or '.join(map(repr, POINTS))}")
        if self.races not in RACES:
            raise ValueError(f"races={self.races!r}: use {', '.join(map(repr, RACES))}")
        if self.loop_order not in LOOP_ORDERS:
            raise ValueError(f"loop_order={self.loop_order!r}: use {' or '.join(map(repr, LOOP_ORDERS))}")
        if self.held_locks not in (None, *HELD_LOCKS):
            raise ValueError(f"held_locks={self.held_locks!r}: use {' or '.join(map(repr, HELD_LOCKS))}")
        for name in ("points_in", "ignored_races"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name}={getattr(self, name)!r}: a list is wanted, not one string")
        # The class is frozen. What is left open is settled here, so that equal settings are equal; but while it is not
        # known whether the test starts threads, it stays open.
        if self.threads is not None:
            object.__setattr__(self, "points", self.points or ("memory" if self.threads else "sync"))
        object.__setattr__(self, "points_in", tuple(self.points_in))
        object.__setattr__(self, "ignored_races", tuple(self.ignored_races))

    @property
    def in_memory(self) -> bool:
        """Whether ordinary code has points."""
        return self.points == "memory"

    @classmethod
    def of_file(cls, options: Mapping[str, Any]) -> Self:
        """The settings that a schedule file has. Raises ScheduleFileError for one that does not exist.

        A file that does not say which points there were is older than those in ordinary code; one that says nothing of
        event loops is older than their exploration.
        """
        try:
            return cls(**{"points": "sync", "loop_order": "fifo", **options})
        except TypeError as error:
            raise ScheduleFileError(f"the schedule's options {dict(options)!r} do not exist: {error}") from None

    def to_file(self) -> dict[str, Any]:
        """What `of_file()` reads."""
        values = {field.name: getattr(self, field.name) for field in fields(ScheduleSettings)}
        values |= {"points_in": list(self.points_in), "ignored_races": list(self.ignored_races)}
        return values | {"threads": bool(self.threads), "points": self.points or "sync"}


@dataclass(frozen=True, kw_only=True)
class Settings(ScheduleSettings):
    """What a campaign runs, and how.

    Attributes:
        threads: as in `ScheduleSettings`; None, the default: find out whether the test starts threads of `threading`.
        policy: how schedules are made.
        schedules: how many; None: what the policy wants, 1000 samples or all that there are to search.
        seed: the same seed gives the same schedules.
        jobs: how many processes share the work. With `executor`: how many chunks it works on at a time.
        executor: who runs chunks of schedules instead, in threads, processes, or on other machines; the test, and a
            policy that is an object, are pickled.
        time_budget: seconds after which no further schedule is begun; what is left makes the result *incomplete*.
        on_progress: called now and then with a `Progress`.
        stop_on_failure: whether the first failing schedule is the last.
        shrink: look for the simplest schedule that fails like the first one that was found.
        verify: at the end of a campaign that found nothing, run two to ten of its schedules again. One that goes
            another way is a failure: the test is not deterministic, or keeps state between schedules.
        name: what reports call the test; "": FILE.py::function.

    Raises:
        ValueError: a number that makes no sense.
    """

    threads: bool | None = None
    policy: Policy | str = "default"
    schedules: int | None = None
    seed: int = 0
    jobs: int = 1
    executor: Executor | None = None
    time_budget: float | None = None
    on_progress: Callable[[Progress], object] | None = None
    stop_on_failure: bool = True
    shrink: bool = False
    verify: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedules is not None and self.schedules < 1:
            raise ValueError(f"schedules={self.schedules}: with none, nothing would be tested")
        if self.jobs < 1:
            raise ValueError(f"jobs={self.jobs}: at least one process has to do the work")
        if self.time_budget is not None and not self.time_budget > 0:
            raise ValueError(f"time_budget={self.time_budget}: seconds, more than 0, or None for no limit")

    @property
    def count(self) -> int:
        """How many schedules, once it is known what the policy wants."""
        assert self.schedules is not None
        return self.schedules

    @property
    def is_shared(self) -> bool:
        """Whether others than this process run the schedules."""
        return self.jobs > 1 or self.executor is not None

    def of_each_schedule(self) -> ScheduleSettings:
        """The part that is recorded with a schedule."""
        return ScheduleSettings(**self.to_file())

    def for_a_worker(self) -> Settings:
        """The same without what stays in the process that started the campaign."""
        return replace(self, executor=None, on_progress=None)


def setting_names() -> set[str]:
    """What `explore()` takes besides the test."""
    return {field.name for field in fields(Settings)}


def option_names() -> list[str]:
    """What a decorator or marker `schedules(count, ...)` takes besides the count and `setup`."""
    return sorted(setting_names() - {"schedules"})


def check_options(names: Iterable[str]) -> None:
    """Raises TypeError if one of the names is not an option of `schedules()`; `setup` is not checked here."""
    known = option_names()
    for name in names:
        if name not in known:
            raise TypeError(f"schedules() has no option {name!r}; there are: setup, {', '.join(known)}")
