"""The one place where schedules are decided.

A `Controller` is the scheduling policy of a kernel under test, and its scheduler's `listener`. Three things lead here:

    point()            a task announces an operation: who goes on, it or another one?
    pick_next_task()   the running task sleeps, yields or has ended: who is next?
    choose()           everything else that could go either way: a random number, a fault, a tie of timers

and each asks the exploration policy, if there is more than one answer, and appends the number of the answer to the
run's trail. Nothing else in a kernel under a virtual clock is undecided, so the trail *is* the schedule.

*Who is enabled.* `enabled` holds an actor for every runnable task, the running one included, in the order in which they
became runnable. A task that finds a lock taken is enabled all the same: it goes on, queues itself and sleeps. Dropped:
disabling it, as model checkers do. It saves one step, and hides the order of arrival, which fair locks serve by.

*What is atomic.* With preemption or interrupts disabled, and in the idle task, an announced operation is no point: the
code said that nothing may come between. It belongs to the step that began before it.

*Interrupts and time as actors.* Where they are explored, an interrupt that was triggered is parked, and stands beside
the tasks as something that can happen next; so does the expiry of the first armed timer. To choose it is to deliver it
in the task that runs, as on a real machine, and then to decide again.

*Accesses* of ordinary code, where they have points, are announced one by one, and a program makes many. If no other
task can run they are no steps, and `access()` is called only for policies that want to know every operation. They have
a limit of their own, because a long computation is not an endless schedule.

Everything here is on the hot path of a schedule: it counts and appends, and does not read the clock or make names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from lkl_green.errors import ScheduleAborted
from lkl_green.kernel.points import AFTER, RESUME, YIELD
from lkl_green.kernel.policy import SchedulingPolicy
from lkl_green.kernel.sched import NEVER
from lkl_green.kernel.task import EXIT_DEAD, TASK_RUNNING
from lkl_green.testing.actor import UNDRAWN, Actor
from lkl_green.testing.instrument.announce import GATE
from lkl_green.testing.policies.base import Policy
from lkl_green.testing.run import Run, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lkl_green.errors import Escape
    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.points import Kind
    from lkl_green.kernel.sched import Scheduler
    from lkl_green.kernel.task import Task
    from lkl_green.testing.counted import CountedNames


# Accesses of ordinary code that a schedule may make, for each step that it may take.
_ACCESSES_EACH = 50

# Of those that a task makes while no other one can run, policies that look at every operation see so many.
_ALONE = 10_000


class Controller(SchedulingPolicy):
    """Turns the scheduling points of one kernel into decisions of an exploration policy.

    Args:
        names: of the tasks and objects of all schedules of the campaign.
    """

    __slots__ = (
        "_accesses_left",
        "_actors",
        "_after_points",
        "_bearers",
        "_choose",
        "_executes",
        "_explore_time",
        "_kernel",
        "_limit",
        "_listen",
        "_max_steps",
        "_memory",
        "_next",
        "_parked",
        "_pick",
        "_running",
        "_sched",
        "enabled",
        "names",
        "run",
        "steps",
        "trail",
    )

    _kernel: Kernel
    _sched: Scheduler
    _pick: Callable[[Sequence[Actor], Actor | None], int]
    _choose: Callable[[str, int], int]
    _executes: Callable[[Actor], None] | None
    _listen: Callable[[Kind, object], None]

    def __init__(self, names: CountedNames) -> None:
        self.names = names
        self.enabled: list[Actor] = []
        self._actors: dict[Task, Actor] = {}
        self._bearers: dict[str, int] = {}
        self._running: Actor | None = None
        self._next: Actor | None = None
        self._parked: dict[int, Actor] = {}
        self._after_points = False
        self._explore_time = False
        self._executes = None
        self._max_steps = self._limit = NEVER
        self._accesses_left = 0
        self._memory = False
        self.steps = 0
        self.run = Run()
        self.trail = self.run.trail

    def attach(self, sched: Scheduler) -> None:
        """A kernel starts with this policy."""
        self._sched = sched

    # -- one schedule

    def connect(
        self,
        kernel: Kernel,
        max_steps: int,
        *,
        explore_time: bool,
        explore_irqs: bool,
        after_points: bool,
        memory: bool = False,
    ) -> None:
        """Learn which kernel this is the policy of, once it has been made, and what is to be explored."""
        self._kernel = kernel
        self._memory = memory
        self._max_steps = max_steps
        self._explore_time = explore_time
        self._after_points = after_points
        self._listen = self.point_among_events if explore_time else self.point
        kernel.timers.tie_break = self._tie_break
        if explore_irqs:
            kernel.irq.park = self._park

    def begin(self, policy: Policy, run: Run) -> None:
        """Decide by `policy` from now on; only service threads exist, and they sleep."""
        self.run = run
        self.trail = run.trail
        self.steps = 0
        self._limit = self._max_steps
        self.names.begin()
        policy = policy.decider or policy
        self._pick = policy.pick
        self._choose = policy.choose
        if type(policy).executes is not Policy.executes:
            self._executes = policy.executes
        self._sched.listener = self._listen
        if self._after_points:
            self._sched.after = self.after
        if self._memory:
            self._open_gate()

    def _open_gate(self) -> None:
        """Have accesses of ordinary code announced."""
        looks_at_all = self._executes is not None or self._explore_time
        self._accesses_left = most = self._max_steps * _ACCESSES_EACH
        GATE.open(self._kernel, None if looks_at_all else self.enabled, most, self.access, self._endless_accesses)

    def finish(self) -> None:
        """The schedule is over: what happens from here on decides nothing."""
        if self._memory:
            GATE.close()
        self._sched.listener = None
        self._sched.after = None
        self._executes = None
        self.run.steps = self.steps
        self.run.tasks = len(self._actors)
        self._bearers.clear()
        self._parked.clear()

    def forget(self) -> None:
        """Let go of the tasks of the last schedule.

        A task that has ended and its kthread know each other, and nobody asks either any more. Parted, they and what
        the function knew are freed at once; to look for them in the garbage took longer than to switch ten times.
        """
        for task in self._actors:
            if task.exit_state == EXIT_DEAD:
                task.kthread = None
        self._actors.clear()

    # -- decisions

    def point(self, kind: Kind, obj: object) -> None:
        """The running task is about to do `kind` to `obj`."""
        task = self._sched.current
        if task.preempt_count or task.irqs_disabled:
            return
        actor = self._running
        if actor is None:
            return
        self.steps = steps = self.steps + 1
        if steps > self._limit:
            self.abort(Verdict.LIVELOCK, f"the schedule did not end within {self._max_steps} steps")
        actor.kind = kind
        actor.obj = obj
        actor.priority = UNDRAWN
        enabled = self.enabled
        if len(enabled) > 1:
            index = self._pick(enabled, actor)
            self.trail.append(index)
            chosen = enabled[index]
            if chosen is not actor:
                self._switch_to(chosen)
                return
        if self._executes is not None:
            self._executes(actor)

    def access(self, kind: Kind, place: object) -> None:
        """The running task is about to access `place`. It is a step if other tasks could run instead."""
        listener = self._sched.listener
        if listener is None:
            return
        if len(self.enabled) > 1 or listener is not self._listen or self._explore_time:
            if self._accesses_left:
                self._accesses_left -= 1
                self._limit += 1
            listener(kind, place)
        elif self._executes is not None and self.run.alone < _ALONE:
            actor = self._running
            if actor is not None:
                self.run.alone += 1
                actor.kind, actor.obj, actor.priority = kind, place, UNDRAWN
                self._executes(actor)

    def _endless_accesses(self) -> None:
        if self._sched.listener is not None:
            most = self._max_steps * _ACCESSES_EACH
            self.abort(Verdict.LIVELOCK, f"the schedule did not end within {most} accesses")

    def after(self) -> None:
        """The running task has let others continue: one of them may do so before its next statement."""
        if len(self.enabled) > 1:
            self._listen(AFTER, None)

    def _switch_to(self, chosen: Actor) -> None:
        """The running task waits, before its operation, until it is chosen itself."""
        self._running = chosen
        if self._executes is not None:
            self._executes(chosen)
        assert chosen.task is not None
        if not self._sched.preempt_to(chosen.task):
            self._running = self._actors[self._sched.current]
            self._next = chosen
            self._sched.preempt_schedule()

    def choose(self, kind: str, count: int) -> int:
        """One of `count` options that are not about who runs."""
        if count < 2 or self._sched.listener is None:
            return 0
        index = self._choose(kind, count)
        self.trail.append(index)
        return index

    def choose_actor(self, actors: Sequence[Actor]) -> int:
        """Which of the actors of an event loop acts next, in the thread that runs."""
        if self._sched.listener is None:
            return 0
        self._count_step()
        index = 0
        if len(actors) > 1:
            index = self._pick(actors, None)
            self.trail.append(index)
        chosen = actors[index]
        if self._executes is not None:
            self._executes(chosen)
        chosen.priority = UNDRAWN
        return index

    def _tie_break(self, count: int) -> int:
        return self.choose("tie", count)

    def abort(self, verdict: Verdict, detail: str) -> NoReturn:
        """End the schedule from inside a task. Raises ScheduleAborted, which takes the task out of its frames."""
        if self.run.passed:  # a test that has failed already may still have been in its tear-down
            self.run.verdict, self.run.detail = verdict, detail
        self.cut_off()
        raise ScheduleAborted(detail)

    def escaped(self, error: Escape) -> None:
        """A task would have blocked outside the kernel: the schedule fails, even if the program catches `error`."""
        self.run.escape = error

    def cut_off(self) -> None:
        """Take no further decisions, and halt the kernel as soon as the current task gives up the CPU."""
        self.stop_deciding()
        self._kernel.power_off()

    def stop_deciding(self) -> None:
        """Take no further decisions: what happens from here on does not belong to the schedule."""
        self._sched.listener = None
        self._sched.after = None
        self._sched.trace = None
        self._executes = None

    # -- the kernel's side

    @property
    def nr_running(self) -> int:
        """How many tasks are runnable besides the current one."""
        return len(self.enabled) - (self._running is not None)

    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        """A task became runnable, or the running one gives up the CPU and stays so."""
        actor = self._actors.get(task)
        if actor is None:
            actor = self._appears(task)
        elif actor is self._running:
            if not preempted:
                actor.kind, actor.obj, actor.priority = YIELD, None, UNDRAWN
            self._running = None
            return
        else:
            actor.kind, actor.obj, actor.priority = RESUME, None, UNDRAWN
        self.enabled.append(actor)

    def _appears(self, task: Task) -> Actor:
        end = task.kthread
        name = self.names.settled((end and end.name) or task.comm)
        actor = self._actors[task] = Actor(self.unique_name(name), task)
        return actor

    def unique_name(self, name: str) -> str:
        """The name of a new actor: numbered from its second bearer in this run."""
        count = self._bearers[name] = self._bearers.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def actor_of(self, task: Task) -> Actor | None:
        """The actor that stands for a task; None if it has not been runnable in this run."""
        return self._actors.get(task)

    def dequeue_task(self, task: Task) -> bool:
        """Take a runnable task out."""
        actor = self._actors.get(task)
        if actor is None or actor not in self.enabled:
            return False
        self.enabled.remove(actor)
        return True

    def pick_next_task(self) -> Task | None:
        """The task that was chosen at a point; else, a decision among those that are left."""
        chosen = self._next
        if chosen is not None:
            self._next = None
            self._running = chosen
            return chosen.task
        running = self._running
        enabled = self.enabled
        if running is not None:
            enabled.remove(running)  # it sleeps, or has ended
            self._running = None
        if not enabled:
            return None
        if (len(enabled) == 1 and not self._parked and not self._explore_time) or self._sched.listener is None:
            chosen = enabled[0]
        elif self._parked or self._explore_time:
            chosen = self._decide_among_events(running)
        else:
            index = self._pick(enabled, None)
            self.trail.append(index)
            chosen = enabled[index]
        self._running = chosen
        if self._executes is not None:
            self._executes(chosen)
        return chosen.task

    # -- interrupts and time as actors

    def point_among_events(self, kind: Kind, obj: object) -> None:
        """`point()` where an interrupt or the next timer may come first."""
        task = self._sched.current
        actor = self._running
        if task.preempt_count or task.irqs_disabled or actor is None:
            return None
        while True:
            events = self._events()
            if not events:
                return self.point(kind, obj)
            actor.kind, actor.obj, actor.priority = kind, obj, UNDRAWN
            options = self.enabled + events
            index = self._pick(options, actor)
            self.trail.append(index)
            chosen = options[index]
            if chosen.act is None:
                break
            chosen.act()
        self._count_step()
        if chosen is not actor:
            self._switch_to(chosen)
        elif self._executes is not None:
            self._executes(actor)
        return None

    def _count_step(self) -> None:
        self.steps += 1
        if self.steps > self._limit:
            self.abort(Verdict.LIVELOCK, f"the schedule did not end within {self._max_steps} steps")

    def _decide_among_events(self, sleeper: Actor | None) -> Actor:
        """Who of the enabled tasks is next, after whatever events come before.

        Args:
            sleeper: the task that gives up the CPU. An event that wakes it finds it current, and so not to be queued.
        """
        while True:
            options = self.enabled + self._events()
            index = 0
            if len(options) > 1:
                index = self._pick(options, None)
                self.trail.append(index)
            chosen = options[index]
            if chosen.act is None:
                return chosen
            chosen.act()
            if sleeper is not None and sleeper.task is not None and sleeper.task.state == TASK_RUNNING:
                sleeper.kind, sleeper.obj, sleeper.priority = RESUME, None, UNDRAWN
                self.enabled.append(sleeper)
                sleeper = None

    def _events(self) -> list[Actor]:
        """What could happen next besides a task."""
        events = list(self._parked.values())
        if self._explore_time and self._kernel.timers.next_ns != NEVER:
            events.append(Actor("clock", None, self._expire_next_timer))
        return events

    def _park(self, irq: int) -> None:
        """An interrupt was triggered: let the policy say when it comes."""
        if self._sched.listener is None:
            self._kernel.irq.raise_local(irq)
        elif irq not in self._parked:
            self._parked[irq] = Actor(f"irq {irq}", None, lambda: self._raise_irq(irq))
            self._sched.listener = self.point_among_events

    def release_parked(self) -> bool:
        """The kernel is idle: whatever is still parked comes now; whether there was anything."""
        parked = list(self._parked)
        for irq in parked:
            del self._parked[irq]
            self._kernel.irq.raise_local(irq)
        return bool(parked)

    def release_held(self) -> bool:
        """Nothing is left but tasks that were kept from held locks: let them arrive; whether there are any."""
        return False

    def _raise_irq(self, irq: int) -> None:
        del self._parked[irq]
        self._kernel.irq.raise_local(irq)
        self._kernel.irq.deliver()

    def _expire_next_timer(self) -> None:
        kernel = self._kernel
        kernel.clock.advance_to(max(kernel.timers.next_ns, kernel.clock.peek_ns()))
        kernel.timers.poll()
        kernel.irq.deliver()
