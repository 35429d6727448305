"""A controller under which a held lock disables the tasks that want it.

A task that arrives at a held lock queues itself and sleeps. When it arrives makes no difference, unless the program can
see that it waits, or the lock is handed over in the order of arrival. A search that tries each moment of arrival runs
many schedules that differ in nothing else. So here such a task cannot be chosen, and takes the lock when it is free.

If all that could go on are at held locks, the kernel idles until time wakes a task. If there is no such time, they
arrive, and the schedule ends in the deadlock that it is.

The rule belongs to the controller, and not to a policy: so it holds for each search, and for a replay of its schedules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.points import LOCK
from lkl_green.testing.actor import UNDRAWN
from lkl_green.testing.controller import Controller
from lkl_green.testing.policies.base import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.task import Task
    from lkl_green.testing.actor import Actor
    from lkl_green.testing.counted import CountedNames
    from lkl_green.testing.run import Run


class DisablingController(Controller):
    """Keeps tasks from held locks, and reports to the policy who wakes whom and what belongs to one step."""

    __slots__ = ("_arriving", "_blocked", "_idling", "_misses", "_passes_time", "_seen_ns", "_wakes", "_within")

    def __init__(self, names: CountedNames) -> None:
        super().__init__(names)
        self._arriving = False  # nothing but arrivals is left
        self._blocked = False  # the running task is at a held lock, and about to give up the CPU
        self._idling = False  # all tasks that could go on are at held locks
        self._misses: Callable[[str], None] | None = None
        self._passes_time: Callable[[Actor], None] | None = None
        self._seen_ns = 0
        self._wakes: Callable[[Actor, Actor | None], None] | None = None
        self._within: Callable[[Actor, Kind, object], None] | None = None

    def begin(self, policy: Policy, run: Run) -> None:
        """Decide by `policy` from now on."""
        super().begin(policy, run)
        self._arriving = self._blocked = self._idling = False
        policy = policy.decider or policy
        self._misses = policy.misses
        reports = type(policy).wakes is not Policy.wakes
        self._passes_time = policy.passes_time if reports else None
        self._seen_ns = self._kernel.clock.peek_ns()
        self._wakes = policy.wakes if reports else None
        self._within = policy.within if reports else None

    def stop_deciding(self) -> None:
        """Take no further decisions."""
        super().stop_deciding()
        self._misses = self._passes_time = self._wakes = self._within = None

    def finish(self) -> None:
        """The schedule is over."""
        super().finish()
        self._misses = self._passes_time = self._wakes = self._within = None

    # -- decisions

    def point(self, kind: Kind, obj: object) -> None:
        """The running task is about to do `kind` to `obj`."""
        task = self._sched.current
        actor = self._running
        if actor is None:
            return
        if task.preempt_count or task.irqs_disabled:
            if self._within is not None:
                self._within(actor, kind, obj)
            return
        self._look_at_clock(actor)
        self._count_step()
        actor.kind, actor.obj, actor.priority = kind, obj, UNDRAWN
        chosen = self._decide(actor)
        if chosen is None and not self._arriving:
            self._blocked = True
            self._sched.preempt_schedule()
        elif chosen is not None and chosen is not actor:
            self._switch_to(chosen)
        elif self._executes is not None:
            self._executes(actor)

    def _decide(self, running: Actor | None) -> Actor | None:
        """Who is next; None if all that could go on are at held locks."""
        able = self.enabled
        for actor in able:
            if actor.kind == LOCK:
                able = [actor for actor in able if not _is_disabled(actor)]
                break
        if len(able) < 2:
            return able[0] if able else None
        if running is not None and running not in able:
            running = None
        index = self._pick(able, running)
        self.trail.append(index)
        return able[index]

    def _park(self, irq: int) -> None:
        """An interrupt was triggered: it comes at once, and no other moment is tried."""
        self._kernel.irq.raise_local(irq)
        if self._misses is not None:
            self._misses(f"interrupt {irq} was delivered at once, and at no later point")

    # -- the kernel's side

    @property
    def nr_running(self) -> int:
        """How many tasks are runnable besides the current one; those at held locks only if another one is."""
        if self._idling:
            return 0
        return 1 if self._blocked else super().nr_running

    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        """A task became runnable, or the running one gives up the CPU and stays so."""
        running = self._running
        super().enqueue_task(task, preempted)
        if running is None or self._running is running:
            self._idling = self._arriving = False
            if self._wakes is not None:
                self._wakes(self._actors[task], running)

    def pick_next_task(self) -> Task | None:
        """The task that was chosen at a point; else, a decision among those that are left."""
        if self._next is not None or self._sched.listener is None:
            self._idling = self._blocked = False
            return super().pick_next_task()
        running = self._running
        self._look_at_clock(running)
        if running is not None:
            self.enabled.remove(running)  # it sleeps, or has ended
            self._running = None
        self._blocked = self._idling = False
        if not self.enabled:
            return None
        chosen = self._decide(None)
        if chosen is None and not self._arriving:
            self._idling = True
            return None
        self._running = chosen = chosen or self.enabled[0]
        if self._executes is not None:
            self._executes(chosen)
        return chosen.task

    def _look_at_clock(self, actor: Actor | None) -> None:
        """Report to the policy if the step that has just ended has moved the clock."""
        now = self._kernel.clock.peek_ns()
        if now != self._seen_ns:
            self._seen_ns = now
            if self._passes_time is not None and actor is not None:
                self._passes_time(actor)

    def release_held(self) -> bool:
        """Time will wake no task: those at held locks arrive, whether or not there are any."""
        self._arriving = arriving = self._idling
        self._idling = False
        return arriving


def _is_disabled(actor: Actor) -> bool:
    return actor.kind == LOCK and actor.obj.owner not in (None, actor.task)
