"""The ready callbacks of one event loop, in an order that the exploration policy decides.

A loop of asyncio keeps what is ready in a deque: it appends on the right and takes from the left. `ReadyQueue` stands
in the place of that deque, and its `popleft()` is the decision.

*What may pass what.* A task's next step is free: it may come before or after anything else that is ready. But what
asyncio is built on stays in order:

    callbacks of one future     in the order in which they were added, tasks that await it included
    timers                      by their time; timers of one moment in any order, as the documentation says
    all other callbacks         in the order in which they became ready

The last rule keeps transports and streams whole: a protocol hears of its connection before it gets data. Dropped: a
free choice among all callbacks, which breaks correct programs, because asyncio itself relies on the order.

*What is not real.* `call_soon()` is documented as first in, first out, and so is the order of tasks of a loop. A real
loop meets another order of the same tasks when input and timers come at other times. So each choice that is not the
oldest callback is one that this program may or may not meet; a report of a failure counts them. With
`loop_order="fifo"` there are none.

*Cancellation.* Where it is explored, a task that waits can be cancelled instead, once in a schedule. The task that the
loop is run for is left out: its cancellation ends the test.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from lkl_green.kernel.points import AWAIT, CANCEL, START
from lkl_green.testing.loops.actors import CallbackActor, TaskActor
from lkl_green.testing.loops.handles import future_of, runs_the_loop, task_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lkl_green.testing.loops.loop_actor import LoopActor


class Decider(Protocol):
    """What a queue asks of the controller."""

    def choose_actor(self, actors: Sequence[LoopActor]) -> int:
        """Which of them acts next."""

    def choose(self, kind: str, count: int) -> int:
        """One of so many options; 0 is the plain one."""

    def unique_name(self, name: str) -> str:
        """The name itself, or with a number if another actor bears it."""


class Campaigns(Protocol):
    """What a queue asks of the campaign."""

    @property
    def any_order(self) -> bool:
        """Whether tasks may pass each other."""

    cancellations_left: int

    def rename(self, task: asyncio.Task[Any]) -> None:
        """Give a task that was given no name one that does not depend on earlier schedules."""


class ReadyQueue(deque[Any]):
    """The ready handles of one loop.

    Args:
        handles: those that are ready already.
        decider: decides.
        campaign: says what is decided.
    """

    def __init__(self, handles: Iterable[Any], decider: Decider, campaign: Campaigns) -> None:
        super().__init__()
        self._decider = decider
        self._campaign = campaign
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], TaskActor | None] = WeakKeyDictionary()
        self._callbacks = CallbackActor(decider.unique_name("loop"))
        self._timers: list[CallbackActor] = []
        for handle in handles:
            self.append(handle)

    def append(self, handle: Any) -> None:
        """Something is ready."""
        super().append(handle)
        task = task_of(handle)
        if task is not None and task not in self._tasks:
            self._campaign.rename(task)
            self._tasks[task] = None

    def popleft(self) -> Any:
        """What the loop calls next."""
        first = self[0]
        if first._cancelled:
            return super().popleft()
        if self._campaign.cancellations_left:
            self._may_cancel()
        actors = self._actors() if self._campaign.any_order and len(self) > 1 else [self._alone(first)]
        chosen = actors[self._decider.choose_actor(actors)]
        handle = self[chosen.place]
        del self[chosen.place]
        if isinstance(chosen, TaskActor):
            if chosen.kind == START:
                chosen.runs_loop = runs_the_loop(handle._callback.__self__)
            chosen.kind = AWAIT
        return handle

    def current_task_name(self, loop: asyncio.AbstractEventLoop) -> str:
        """What the run calls the task of this queue's loop that is running; "" if there is none."""
        task = asyncio.current_task(loop)
        actor = None if task is None else self._tasks.get(task)
        return "" if actor is None else actor.name

    def _may_cancel(self) -> None:
        """Cancel a task, if the policy wants it."""
        targets = [actor for actor in self._tasks.values() if actor is not None and actor.can_be_cancelled]
        if targets and self._decider.choose(CANCEL, 2):
            self._campaign.cancellations_left -= 1
            targets[self._decider.choose_actor([target.cancellation for target in targets])].cancel()

    # -- who can be next

    def _actors(self) -> list[LoopActor]:
        """Everything that may be next, the oldest first."""
        actors: list[LoopActor] = []
        futures: set[int] = set()
        is_ordinary_next = True
        timers: list[Any] = []
        for place, handle in enumerate(self):
            if handle._cancelled:
                continue
            actor: LoopActor | None = None
            if (task := task_of(handle)) is not None:
                actor = self._task(task)
            elif isinstance(handle, asyncio.TimerHandle):
                if not timers or handle.when() == timers[0].when():
                    actor = self._timer(len(timers), handle)
                    timers.append(handle)
            elif is_ordinary_next:
                is_ordinary_next = False
                actor = self._callback(handle)
            future = future_of(handle)
            if future is not None:
                if id(future) in futures:
                    continue
                futures.add(id(future))
            if actor is not None:
                actor.place = place
                actors.append(actor)
        return actors

    def _alone(self, handle: Any) -> LoopActor:
        """The actor of the oldest handle."""
        task = task_of(handle)
        if task is not None:
            actor: LoopActor = self._task(task)
        elif isinstance(handle, asyncio.TimerHandle):
            actor = self._timer(0, handle)
        else:
            actor = self._callback(handle)
        actor.place = 0
        return actor

    def _task(self, task: asyncio.Task[Any]) -> TaskActor:
        """The actor of a task. It is made late: some versions of asyncio name a task after it is ready."""
        actor = self._tasks[task]
        if actor is None:
            actor = self._tasks[task] = TaskActor(self._decider.unique_name(task.get_name()), task)
        return actor

    def _callback(self, handle: Any) -> CallbackActor:
        self._callbacks.handle = handle
        return self._callbacks

    def _timer(self, number: int, handle: Any) -> CallbackActor:
        """Timers of one moment are numbered; the numbers are used again at the next."""
        if number == len(self._timers):
            self._timers.append(CallbackActor(self._decider.unique_name("timer")))
        actor = self._timers[number]
        actor.handle = handle
        return actor
