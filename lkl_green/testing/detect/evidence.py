"""What detectors have to go by: a recorded run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lkl_green.testing.detect.dataraces import DataRaces
from lkl_green.testing.detect.lockorder import LockOrder
from lkl_green.testing.names import Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.kernel.task import Task
    from lkl_green.testing.step import Step


@dataclass
class Evidence:
    """A recorded run.

    Attributes:
        steps: everything that was done.
        enabled: who could go on at the last decision.
        names: of its objects.
        tasks: the names of its tasks.
        locks: what was held when something else was taken.
        races: accesses that nothing puts in order.
    """

    steps: Sequence[Step] = ()
    enabled: list[str] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    tasks: dict[Task, str] = field(default_factory=dict)
    locks: LockOrder = field(default_factory=LockOrder)
    races: DataRaces = field(init=False)

    def __post_init__(self) -> None:
        self.races = DataRaces(self.tasks)

    def task(self, task: Task) -> str:
        """What the run calls a task."""
        return self.tasks.get(task, task.comm)

    def told(self, obj: object) -> str:
        """An object, with its type unless its name says that."""
        name = self.names.object(obj)
        kind = type(obj).__name__
        return name if name.startswith(kind) else f"{kind} {name}"
