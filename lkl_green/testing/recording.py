"""Writing down what happens in a run: each decision, and each operation with the line of source that does it.

Campaigns run without this, at full speed, and keep only the trail of choices. A schedule that is worth a closer look is
run once more, under a `Recording`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.points import CANCEL, COMMUTES, RESUME, START
from lkl_green.testing.coverage import Coverage
from lkl_green.testing.decision import Decision
from lkl_green.testing.detect.dataraces import is_access
from lkl_green.testing.detect.deadlock import describe_deadlock
from lkl_green.testing.detect.evidence import Evidence
from lkl_green.testing.detect.heldlocks import describe_held
from lkl_green.testing.detect.spinning import describe_spinning
from lkl_green.testing.loops.loop_actor import LoopActor, current_task_name
from lkl_green.testing.policies.delegating import Delegating
from lkl_green.testing.run import Verdict
from lkl_green.testing.source import Where, innermost, stack_of
from lkl_green.testing.step import Step
from lkl_green.trace.ftrace import format_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.task import Task
    from lkl_green.kernel.tracepoint import Tracepoints
    from lkl_green.testing.actor import Actor
    from lkl_green.testing.policies.base import Policy
    from lkl_green.testing.run import Run

# Of trace events, so many are kept of a run that is not traced on purpose: they are for the end of a report.
_TRACED = 100

# Of the stack of an access, so many of the innermost frames are kept.
_FRAMES = 6


class KnowsEnabled(Protocol):
    """What a recording asks of the controller."""

    enabled: Sequence[Actor]


class Recording(Delegating):
    """Another policy, with its decisions written down; one recording serves one run.

    Args:
        policy: the one that decides.
        trace_capacity: how many of the last trace events are kept; None keeps all.
        most_steps: of a longer run only the beginning is written down; None writes down all of it.

    Attributes:
        decisions: what it decided, by name.
        steps: everything that was done.
        evidence: what the detectors look at.
        coverage: what it decided about.
        warnings: what is wrong though the run passed: locks taken in contradicting orders, locks left held.
        trace: the run's trace events, as ftrace prints them.
        races: the data races that are to be reported, a sentence each.
        counted: the names with numbers that tasks and objects were given, in order.
        overtakings: how often a task of an event loop ran before something that was ready earlier.
    """

    name = "recording"

    def __init__(self, policy: Policy, trace_capacity: int | None = _TRACED, most_steps: int | None = None) -> None:
        super().__init__(policy)
        self.evidence = Evidence()
        self.coverage = Coverage(recorded=1)
        self._names = self.evidence.names
        self._where: dict[int, Where | None] = {}
        self._inside: dict[int, str] = {}
        self._stacks: dict[int, tuple[Where, ...]] = {}
        self._decision: int | None = None
        self._preempts = ""
        self.decisions: list[Decision] = []
        self.steps: list[Step] = []
        self.evidence.steps = self.steps
        self.warnings: list[str] = []
        self.trace = ""
        self.races: list[str] = []
        self.counted: list[str] = []
        self.overtakings = 0
        self._trace_capacity = trace_capacity
        self._most_steps = sys.maxsize if most_steps is None else most_steps
        self._tracepoints: Tracepoints | None = None

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """The policy's choice."""
        if not self.is_whole:
            return self._policy.pick(enabled, running)
        if running is not None:
            self._locate(running)
        index = self._policy.pick(enabled, running)
        chosen = enabled[index]
        self.coverage.decision(enabled, chosen)
        self.evidence.enabled = [actor.name for actor in enabled]
        self._decision = len(self.decisions)
        self._preempts = "" if running is None or running is chosen else self._shown(running)
        self.decisions.append(Decision(chosen.name, chosen.kind, self._names.object(chosen.obj)))
        if index and isinstance(chosen, LoopActor) and chosen.kind != CANCEL:
            self.overtakings += 1
        if chosen.act is not None:
            self._step(chosen, "happens", "", None)
        return index

    def choose(self, kind: str, count: int) -> int:
        """The policy's choice."""
        index = self._policy.choose(kind, count)
        self.decisions.append(Decision(kind, f"{index}/{count}"))
        return index

    def executes(self, actor: Actor) -> None:
        """An operation is about to be done."""
        self._policy.executes(actor)
        if not self.is_whole:
            return
        if self._tracepoints is None:
            self._tracepoints = current_kernel().trace_start(self._trace_capacity)
        own = actor.obj is not None or actor.kind not in (START, RESUME)  # a thread may start another thread
        if own and actor.task is current_kernel().sched.current:
            self._locate(actor)
        elif isinstance(actor, LoopActor):
            self._where[id(actor)] = actor.where()
        name, where = self._names.object(actor.obj), self._where.get(id(actor))
        task = actor.task
        if task is not None:
            self.evidence.tasks[task] = actor.name
            self.evidence.locks.announce(actor.name, task, actor.kind, actor.obj, name, where)
            self._watch_races(actor, task, name)
        self._step(actor, actor.kind, name, where)

    def _watch_races(self, actor: Actor, task: Task, name: str) -> None:
        kernel, races = current_kernel(), self.evidence.races
        controller: KnowsEnabled = kernel.sched.policy  # type: ignore[assignment]
        races.enabled([other.name for other in controller.enabled if other.task is not None], kernel.clock.peek_ns())
        if is_access(actor.obj):
            stack = self._stacks.pop(id(actor), ())
            races.access(actor.name, task, actor.obj, name, actor.kind not in COMMUTES, stack, len(self.steps) + 1)
        else:
            races.operation(actor.name, task, actor.kind, actor.obj)

    @property
    def is_whole(self) -> bool:
        """Whether everything was written down."""
        return len(self.steps) < self._most_steps

    def _step(self, actor: Actor, op: str, obj: str, where: Where | None) -> None:
        now = current_kernel().clock.peek_ns()
        step = Step(self._shown(actor), op, obj, where, self._decision, self._preempts, now)
        self.steps.append(step)
        self._decision, self._preempts = None, ""

    def _shown(self, actor: Actor) -> str:
        """Whose column a step is in: a task of an event loop has its own, not that of the thread."""
        return self._inside.get(id(actor)) or actor.name

    def _locate(self, actor: Actor) -> None:
        """Where the running task is: the innermost frame that is not ours; for an access, all of its frames."""
        self._inside[id(actor)] = current_task_name()
        frame = sys._getframe(2)
        self._where[id(actor)] = innermost(frame)
        if is_access(actor.obj):
            self._stacks[id(actor)] = tuple(stack_of(frame)[-_FRAMES:])

    def dissect(self, kernel: Kernel, run: Run) -> None:
        """Let the detectors say what is wrong, while the kernel still stands as it stopped."""
        if self._tracepoints is not None:
            self.trace = format_trace(self._tracepoints.records)
            kernel.trace_stop()
        if run.verdict in (Verdict.DEADLOCK, Verdict.LEAKED):
            run.detail = describe_deadlock(kernel, self.evidence)
        elif run.verdict is Verdict.LIVELOCK:
            run.detail += "\n" + describe_spinning(self.evidence)
        elif run.verdict is Verdict.HELD:
            run.detail = "\n".join(describe_held(self.evidence)) or run.detail
        elif run.passed:
            self.warnings = [*self.evidence.locks.inversions(), *describe_held(self.evidence)]

    def end(self, run: Run) -> None:
        """Hand over the decisions."""
        run.decisions = self.decisions
        super().end(run)
