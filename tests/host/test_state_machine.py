"""Both hosts and a model of the contract, driven in lockstep.

On each host, three workers wait for commands: a semaphore or mutex operation, a thread-local value, the end. The model
says what each command gives, who blocks, and whom an `up`, an `unlock` or an end lets go, in which order. After each
step both hosts have to come to exactly the state that the model has: who has done how many commands with what results,
who is blocked where, what the semaphores count.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lkl_green.errors import HostMisuse
from lkl_green.host.ops import HostOps, LiveObjects

from .stories import HOSTS, settle, start

WORKERS = range(3)
SEMAPHORES = range(2)
MUTEXES = range(2)  # The first is recursive, the second is not.

Command = tuple[Any, ...]


class Machine:
    """Workers on a host."""

    def __init__(self, kind: str) -> None:
        self.console: list[str] = []
        self.host: HostOps = HOSTS[kind](self.console.append)
        self.host.host_init()
        self.sems: list[Any] = [self.host.sem_alloc(i) for i in SEMAPHORES]
        self.mutexes: list[Any] = [self.host.mutex_alloc(i == 0) for i in MUTEXES]
        self.destroyed: list[str] = []
        self.key = self.host.tls_alloc(self.destroyed.append)
        self.go: list[Any] = [self.host.sem_alloc(0) for _ in WORKERS]
        self.commands: list[Command] = [() for _ in WORKERS]
        self.results: list[list[Any]] = [[] for _ in WORKERS]
        self.tids = [start(self.host, self.work, worker) for worker in WORKERS]

    def work(self, worker: int) -> None:
        """What a worker does: one command after another."""
        while True:
            self.host.sem_down(self.go[worker])
            command, *args = self.commands[worker]
            try:
                result = getattr(self, command)(*args)
            except HostMisuse as exc:
                result = str(exc)
            self.results[worker].append(result)
            if command == "end":
                return

    def up(self, i: int) -> None:
        self.host.sem_up(self.sems[i])

    def down(self, i: int) -> None:
        self.host.sem_down(self.sems[i])

    def lock(self, i: int) -> None:
        self.host.mutex_lock(self.mutexes[i])

    def unlock(self, i: int) -> None:
        self.host.mutex_unlock(self.mutexes[i])

    def set(self, value: str | None) -> int:
        return self.host.tls_set(self.key, value)

    def get(self) -> object:
        return self.host.tls_get(self.key)

    def end(self) -> None:
        pass

    def command(self, worker: int, command: Command) -> None:
        self.commands[worker] = command
        self.host.sem_up(self.go[worker])

    def join(self, worker: int) -> None:
        assert self.host.thread_join(self.tids[worker]) == 0
        self.tids[worker] = start(self.host, self.work, worker)

    def ended(self) -> list[bool]:
        return [self.host._threads[tid].ended for tid in self.tids]

    def state(self) -> tuple[Any, ...]:
        """What is compared with the model."""
        waiting = [len(thing.waiters) for thing in [*self.sems, *self.mutexes]]
        at_rest = [len(go.waiters) for go in self.go]
        return self.results, [sem.count for sem in self.sems], waiting, at_rest, self.destroyed


class Model:
    """The contract, without any thread."""

    def __init__(self) -> None:
        self.counts = list(SEMAPHORES)
        self.sem_queues: list[deque[int]] = [deque() for _ in SEMAPHORES]
        self.holders: list[int | None] = [None for _ in MUTEXES]
        self.depths = [0 for _ in MUTEXES]
        self.mutex_queues: list[deque[int]] = [deque() for _ in MUTEXES]
        self.values: list[str | None] = [None for _ in WORKERS]
        self.results: list[list[Any]] = [[] for _ in WORKERS]
        self.ended = [False for _ in WORKERS]
        self.destroyed: list[str] = []

    def blocked(self, worker: int) -> bool:
        return any(worker in queue for queue in [*self.sem_queues, *self.mutex_queues])

    def idle(self, worker: int) -> bool:
        return not self.ended[worker] and not self.blocked(worker)

    def command(self, worker: int, command: Command) -> None:
        name, *args = command
        getattr(self, name)(worker, *args)

    def done(self, worker: int, result: Any = None) -> None:
        self.results[worker].append(result)

    def up(self, worker: int | None, i: int) -> None:
        if self.sem_queues[i]:
            self.done(self.sem_queues[i].popleft())
        else:
            self.counts[i] += 1
        if worker is not None:
            self.done(worker)

    def down(self, worker: int, i: int) -> None:
        if self.counts[i]:
            self.counts[i] -= 1
            self.done(worker)
        else:
            self.sem_queues[i].append(worker)

    def lock(self, worker: int, i: int) -> None:
        if self.holders[i] == worker and i != 0:
            self.done(worker, "mutex_lock: the calling thread holds this mutex already")
        elif self.holders[i] in (None, worker):
            self.holders[i] = worker
            self.depths[i] += 1
            self.done(worker)
        else:
            self.mutex_queues[i].append(worker)

    def unlock(self, worker: int, i: int) -> None:
        if self.holders[i] is None:
            self.done(worker, "mutex_unlock: this mutex is not locked")
            return
        if self.holders[i] != worker:
            self.done(worker, "mutex_unlock: this mutex is held by another thread")
            return
        self.done(worker)
        self.depths[i] -= 1
        if self.depths[i] == 0:
            self.holders[i] = None
            if self.mutex_queues[i]:
                self.lock(self.mutex_queues[i].popleft(), i)

    def set(self, worker: int, value: str | None) -> None:
        self.values[worker] = value
        self.done(worker, 0)

    def get(self, worker: int) -> None:
        self.done(worker, self.values[worker])

    def end(self, worker: int) -> None:
        self.done(worker)
        self.ended[worker] = True
        if self.values[worker] is not None:
            self.destroyed.append(self.values[worker])
            self.values[worker] = None

    def join(self, worker: int) -> None:
        self.ended[worker] = False

    def state(self) -> tuple[Any, ...]:
        waiting = [len(queue) for queue in [*self.sem_queues, *self.mutex_queues]]
        at_rest = [int(self.idle(worker)) for worker in WORKERS]
        return self.results, self.counts, waiting, at_rest, self.destroyed


def alike(real: tuple[Any, ...], model: tuple[Any, ...]) -> bool:
    """Equal, where the model knows only how the words of a misuse begin."""
    results, *rest = real
    expected, *others = model
    return rest == others and all(
        len(mine) == len(theirs) and all(map(same_result, mine, theirs))
        for mine, theirs in zip(results, expected, strict=True)
    )


def same_result(real: Any, model: Any) -> bool:
    if isinstance(real, str) and isinstance(model, str) and model.startswith("mutex_"):
        return real.startswith(model)
    return bool(real == model)


workers = st.sampled_from(WORKERS)
semaphores = st.sampled_from(SEMAPHORES)
mutexes = st.sampled_from(MUTEXES)


class Lockstep(RuleBasedStateMachine):
    """Each rule does one thing to the model and to both hosts, and waits until the hosts have come to rest."""

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.machines = [Machine(kind) for kind in HOSTS]

    def give(self, worker: int, *command: Any) -> None:
        if self.model.idle(worker):
            self.model.command(worker, command)
            for machine in self.machines:
                machine.command(worker, command)

    @rule(worker=workers, i=semaphores)
    def up(self, worker, i):
        self.give(worker, "up", i)

    @rule(i=semaphores)
    def up_by_the_application(self, i):
        self.model.up(None, i)
        for machine in self.machines:
            machine.up(i)

    @rule(worker=workers, i=semaphores)
    def down(self, worker, i):
        self.give(worker, "down", i)

    @rule(worker=workers, i=mutexes)
    def lock(self, worker, i):
        self.give(worker, "lock", i)

    @rule(worker=workers, i=mutexes)
    def unlock(self, worker, i):
        self.give(worker, "unlock", i)

    @rule(worker=workers, value=st.sampled_from(["a", "b", None]))
    def set(self, worker, value):
        self.give(worker, "set", value)

    @rule(worker=workers)
    def get(self, worker):
        self.give(worker, "get")

    @rule(worker=workers)
    @precondition(lambda self: not all(self.model.ended))
    def end(self, worker):
        # A mutex whose holder has ended stays locked for ever: legal, but it would stop the story.
        if worker not in self.model.holders:
            self.give(worker, "end")

    @rule(worker=workers)
    @precondition(lambda self: any(self.model.ended))
    def join_and_start_another(self, worker):
        if self.model.ended[worker]:
            self.model.join(worker)
            for machine in self.machines:
                machine.join(worker)

    @invariant()
    def hosts_and_model_agree(self) -> None:
        for machine in self.machines:
            settle(machine.host, lambda: alike(machine.state(), self.model.state()))  # noqa: B023 - called at once
        assert self.machines[0].results == self.machines[1].results

    def teardown(self) -> None:
        for machine in getattr(self, "machines", []):
            # After its last command a thread has still to end; those that host_cleanup() meets are told to exit.
            settle(machine.host, lambda: machine.ended() == self.model.ended)  # noqa: B023 - called at once
            machine.host.host_cleanup()
            left = [machine.tids[worker] for worker in WORKERS if not self.model.ended[worker]]
            assert all(str(tid) in machine.console[0] for tid in left)
            assert len(machine.console) == bool(left)
            ended = len(WORKERS) - len(left)
            assert machine.host.live() == LiveObjects(
                semaphores=len(SEMAPHORES) + len(WORKERS), mutexes=len(MUTEXES), tls_keys=1, threads=ended
            )


Lockstep.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    # No shrinking: each attempt that fails waits until the patience with the hosts is at an end.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
TestLockstep = Lockstep.TestCase
