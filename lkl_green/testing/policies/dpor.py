"""Partial order reduction: of all schedules that differ in the order of independent operations only, one is run.

Two schedules are of one *trace* if each of their operations that conflict come in the same order. They end alike, so
one of them will do. This is dynamic partial order reduction with source sets and sleep sets (Abdulla, Aronis, Jonsson,
Sagonas, POPL 2014):

1. An execution goes its way to the end. Its races are found as they happen (`happens_before.py`).
2. For each race, some task that begins an execution with the other order is to be tried where the first event of the
   race was chosen; unless one that would do is to be tried there, or was.
3. What has been tried at a decision *sleeps* below it until a step conflicts with it: before that its step would only
   repeat what was seen. If all that could go on sleeps, the execution is *redundant*, and not counted.

A decision is a node of a tree, walked depth first. Tasks are known by the order in which they appear. That is the same
in all executions that begin alike, and no name is needed beyond one execution.

*What is no decision.* A task that is about to do what conflicts with nothing goes on at once. Among such operations is
giving a lock back: while it is held others that want it are disabled, by the controller (`disabling.py`).

*Random draws, faults, ties* are decisions with all their values; of a wide range a few stand for all, and then the
search does not end as exhausted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

from lkl_green.kernel.points import JOIN, LOOKS, POINTS, RESUME, UNLOCK
from lkl_green.testing.policies.abort import abort_schedule
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.policies.branches import Choice, Node, lowest
from lkl_green.testing.policies.happens_before import (
    ACQUIRE,
    CLOCK,
    LOCAL,
    READ,
    RELEASE,
    UNKNOWN,
    WRITE,
    History,
    Thread,
    conflict,
    pending,
    relations,
)
from lkl_green.testing.run import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkl_green.kernel.points import Kind
    from lkl_green.testing.actor import Actor
    from lkl_green.testing.run import Run

# A range of more values than the first is represented by the second.
_WIDE = 16
_STAND_INS = 4

# So many decisions in a row for one task, and another one is preferred: it may spin.
_SPINNING = 200


class DPOR(Policy):
    """One schedule for each order of the operations that conflict."""

    name = "dpor"
    systematic = True
    settles: ClassVar = {"held_locks": "disable"}
    requires: ClassVar = {"held_locks": "disable", "explore_time": False, "explore_cancel": False, "host_faults": False}
    schedules = sys.maxsize

    def __init__(self) -> None:
        super().__init__()
        self._observed = False  # whether the program can see that a lock is held
        self._table = relations(observed=False)
        self._history = History()
        self._actors: list[Actor] = []
        self._path: list[Node | Choice] = []
        self._depth = 0
        self._nodes: list[Node | None] = []  # by event
        self._last = -1  # the number of the task that was chosen last
        self._in_a_row = 0
        self._step: Thread | None = None  # whose step is an event
        self._node: Node | None = None  # that the next event follows from
        self._new = 0  # the first event that the execution before did not have
        self._asleep = 0
        self._redundant = False
        self._starts_over = False
        self._exhausted = False
        self._not_tried = ""
        self.left_out = "the search has not come to its end"

    # -- the way down

    def begin(self, seed: int, number: int) -> bool:
        """The next execution, if there is one."""
        super().begin(seed, number)
        self._depth = 0
        self._history.clear()
        self._actors.clear()
        self._nodes.clear()
        self._node = self._step = None
        self._last, self._in_a_row = -1, 0
        self._asleep = 0
        self._redundant = False
        self._new = self._path[-1].event if self._path else 0
        self._starts_over = False
        return not self._exhausted

    def pick(self, enabled: Sequence[Actor], running: Actor | None) -> int:
        """A task that conflicts with no other; else, what the tree says."""
        if self._redundant:
            return 0 if running is None else enabled.index(running)
        able = 0
        for index, actor in enumerate(enabled):
            thread = actor.state or self._enter(actor)
            relation = pending(actor, thread, self._table)[0]
            if relation <= RELEASE:
                return index
            able |= 1 << thread.number
        node = self._next_node(able, running)
        if node is None:
            return 0
        self._node = node
        self._asleep = node.asleep
        taken = node.taken
        self._in_a_row = self._in_a_row + 1 if taken == self._last else 0
        self._last = taken
        for index, actor in enumerate(enabled):
            if actor.state.number == taken:
                return index
        return abort_schedule(Verdict.NONDETERMINISTIC, "a task that could go on here before cannot go on now")

    def _next_node(self, able: int, running: Actor | None) -> Node | None:
        """The decision here; None if the rest of the execution would only repeat what is known."""
        depth = self._depth
        self._depth = depth + 1
        if depth < len(self._path):
            node = self._path[depth]
            assert isinstance(node, Node)
            return node
        awake = able & ~self._asleep
        if not awake:
            self._cut_off()
            return None
        if self._in_a_row >= _SPINNING:
            awake = awake & ~(1 << self._last) or awake
        taken = lowest(awake)
        if running is not None and awake >> running.state.number & 1:
            taken = running.state.number
        node = Node(len(self._history), able, taken, self._asleep)
        self._path.append(node)
        return node

    def choose(self, kind: str, count: int) -> int:
        """An option that was not tried here; of a wide range, one of a few."""
        if self._redundant:
            return 0
        options = count if count <= _WIDE else _STAND_INS
        if options < count:
            self._not_tried = f"of the {count} values of a decision of kind {kind!r}, {_STAND_INS} were tried"
        depth = self._depth
        self._depth = depth + 1
        if depth == len(self._path):
            self._path.append(Choice(max(len(self._history) - 1, 0), options))
        place = self._path[depth].taken
        return place if options == count else place * (count - 1) // (_STAND_INS - 1)

    # -- what happens

    def misses(self, what: str) -> None:
        """The search will not answer for it."""
        self._not_tried = self._not_tried or what

    def wakes(self, actor: Actor, waker: Actor | None) -> None:
        """What the waker has done so far comes before all that the other one does from now on."""
        thread = actor.state or self._enter(actor)
        thread.past |= self._history.all if waker is None else (waker.state or self._enter(waker)).past

    def _enter(self, actor: Actor) -> Thread:
        thread = actor.state = Thread(len(self._actors), 0)
        self._actors.append(actor)
        return thread

    def executes(self, actor: Actor) -> None:
        """Note the event, and what races with it."""
        if self._redundant:
            return
        thread = actor.state or self._enter(actor)
        relation, obj = pending(actor, thread, self._table)
        if actor.kind != RESUME:
            thread.waits = POINTS[actor.kind].waits
            thread.kind, thread.relation, thread.obj = actor.kind, self._table[actor.kind], obj
        self._step = None
        if relation == LOCAL:
            if actor.kind == JOIN:
                self._joins(thread, actor.obj)
            return
        if relation == RELEASE:
            self._history.release(thread, obj)
        elif relation == ACQUIRE and obj.owner is not None:
            self._arrives(thread, obj)
        elif self._asleep >> thread.number & 1:
            self._cut_off()
        elif thread.kind in LOOKS:
            self._looks(thread, obj)
        else:
            if actor.task is None:
                self.misses("the tasks of an event loop are not yet known to this search: use a policy that samples")
            self._event(thread, relation, obj)
            self._look_closer(thread, obj)

    def _joins(self, thread: Thread, joined: Any) -> None:
        """What a thread that has ended did comes before all that follows; one that runs will wake the joiner."""
        task = getattr(getattr(joined, "_green", joined), "task", None)
        if task is None:
            self.misses("a thread is joined that has not been started")
        elif task.exit_state:
            other = next((actor.state for actor in self._actors if actor.task is task), None)
            thread.past |= self._history.all if other is None else other.past

    def _looks(self, thread: Thread, lock: Any) -> None:
        """A task takes a lock, or finds that it is held."""
        held = lock.owner is not None
        self._event(thread, READ if held else WRITE, lock)
        if not held:
            self._history.takes(lock)
        if not self._observed:
            self._start_over()

    def _look_closer(self, thread: Thread, obj: object) -> None:
        """What an operation does besides, and what the search cannot answer for."""
        if thread.kind == UNLOCK:
            self._history.release(thread, obj)
        elif thread.waits:
            self._gives_back(thread, getattr(obj, "_lock", None))
        elif hasattr(obj, "is_alive") and POINTS[thread.kind].effect == "reads":
            self.misses("the test asks whether a thread is alive, and the end of a thread is no operation")
        if self._history.looked and not self._observed:
            self._start_over()

    def _gives_back(self, thread: Thread, lock: object) -> None:
        """Waiting on a Condition gives its lock back in the same step."""
        if lock is not None:
            if self._observed:
                self._access(thread, WRITE, lock)
            self._history.release(thread, lock)

    def _event(self, thread: Thread, relation: int, obj: object) -> None:
        self._history.begin(thread)
        self._nodes.append(self._node)
        self._node, self._step = None, thread
        self._access(thread, relation, obj)

    def _access(self, thread: Thread, relation: int, obj: object) -> None:
        """The present event does this to an object."""
        history = self._history
        event = len(history) - 1
        before = history.past(event)
        races = history.access(thread, relation, obj)
        if races and event >= self._new:
            self._reverse(races, event, thread.number, before if relation == ACQUIRE else history.past(event))
        self._wake_up(thread, relation, obj)

    def within(self, actor: Actor, kind: Kind, obj: object) -> None:
        """A further operation of the step that an actor is in."""
        if self._redundant:
            return
        thread = actor.state or self._enter(actor)
        relation = self._table[kind]
        if relation == LOCAL or obj is None:
            return
        self._go_on(thread, WRITE if relation in (ACQUIRE, RELEASE, UNKNOWN) else relation, obj)

    def passes_time(self, actor: Actor) -> None:
        """The step of an actor that has just ended has read the clock. So may any step that sleeps."""
        if not self._redundant:
            self._go_on(actor.state or self._enter(actor), WRITE, CLOCK)
            self._asleep = 0

    def _go_on(self, thread: Thread, relation: int, obj: object) -> None:
        """A step does one thing more. One that is no event yet has no decision before it, and cannot be reversed."""
        if self._step is thread:
            self._access(thread, relation, obj)
        else:
            self._event(thread, relation, obj)

    def _wake_up(self, thread: Thread, relation: int, obj: object) -> None:
        """A step was done: what conflicts with it sleeps no longer."""
        asleep = self._asleep
        while asleep:
            number = lowest(asleep)
            asleep &= asleep - 1
            other = self._actors[number]
            if conflict(relation, obj, *pending(other, other.state, self._table)):
                self._asleep &= ~(1 << number)

    # -- reversing

    def _reverse(self, races: int, event: int, number: int, past: int) -> None:
        """See to it that each race is tried in the other order."""
        while races:
            first = lowest(races)
            races &= races - 1
            node = self._nodes[first]
            initials = self._history.initials(first, event, number, past)
            if node is None or not initials & node.able:
                self.misses("two operations race, and the second could not be tried first")
            elif not initials & (node.todo | node.asleep):
                able = initials & node.able
                node.todo |= 1 << number if able >> number & 1 else able & -able

    def _arrives(self, thread: Thread, lock: object) -> None:
        """A task wants a lock that is held for good: it may have been the first to take it."""
        race = self._history.held_before(thread, lock)
        if race:
            self._reverse(race, len(self._history), thread.number, thread.past)

    def _cut_off(self) -> None:
        """The rest would repeat what is known. Tasks at held locks have not told yet that they want them."""
        self._redundant = True
        for actor in self._actors:
            if self._table[actor.kind] == ACQUIRE and actor.obj.owner not in (None, actor.task):
                self._arrives(actor.state, actor.obj)

    def _start_over(self) -> None:
        """The program can see that a lock is held: from now on giving one back is an event, in all executions."""
        self._observed = self._starts_over = self._redundant = True
        self._table = relations(observed=True)

    # -- backing up

    def end(self, run: Run) -> None:
        """Back up to the last decision that has another option."""
        run.redundant = self._redundant
        path = self._path
        if self._starts_over:
            path.clear()
            return
        del path[self._depth :]
        while path and not path[-1].advance():
            path.pop()
        if not path:
            self._exhausted = True
            self.verdict = "each order of the operations that conflict"
            self.left_out = self._not_tried
