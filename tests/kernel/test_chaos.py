"""Lost wake-ups, torn states, starvation: programs whose outcome is known, under schedules that nobody would choose.

Whatever the order in which tasks run, a lock excludes, a counter is conserved, each item is consumed once, and
everybody gets to the end. The schedule is drawn by a generator: who runs next, and whether the current task is
preempted, at every scheduling point that a primitive announces. A wake-up that gets lost is a Deadlock here.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import RunReason, SchedulingPolicy, lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS
from lkl_green.host.ops import LiveObjects
from lkl_green.linux import (
    READ_ONCE,
    SCHED_FIFO,
    SIGCHLD,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    Completion,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    allow_signal,
    cond_resched,
    current,
    current_kernel,
    do_exit,
    flush_signals,
    kernel_thread,
    kernel_wait4,
    kthread_create,
    kthread_park,
    kthread_parkme,
    kthread_run,
    kthread_should_park,
    kthread_should_stop,
    kthread_stop,
    kthread_unpark,
    request_irq,
    sched_setscheduler,
    schedule,
    send_sig,
    set_current_state,
    tasklet,
    usleep,
    wake_up_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green import Kernel
    from lkl_green.linux import Task

S = 1_000_000_000


class Drawn(SchedulingPolicy):
    """Anybody runs next, and a time slice may end at any tick."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tasks: list[Task] = []

    @property
    def nr_running(self) -> int:
        return len(self.tasks)

    def enqueue_task(self, task: Task, preempted: bool = False) -> None:
        assert task not in self.tasks, f"{task!r} is queued twice"
        assert task.state == TASK_RUNNING, f"{task!r} is queued asleep"
        self.tasks.append(task)

    def dequeue_task(self, task: Task) -> bool:
        if task not in self.tasks:
            return False
        self.tasks.remove(task)
        return True

    def pick_next_task(self) -> Task | None:
        return self.tasks.pop(self.random.randrange(len(self.tasks))) if self.tasks else None

    def task_tick(self, task: Task) -> None:
        task.need_resched = bool(self.tasks)


def preempt_at_random(kernel: Kernel, seed: int, percent: int) -> None:
    """Preempt whoever reaches an announced scheduling point, wherever that is possible, every now and then."""

    def listener(kind: str, thing: object) -> None:
        task = sched.current
        if task is sched.swapper or task.preempt_count or task.irqs_disabled:
            return
        if chance.randrange(100) < percent:
            sched.preempt_schedule()

    chance = random.Random(seed)
    sched = kernel.sched
    sched.listener = listener


class Team:
    """Workers of one program; `join()` waits for all of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.finished = Semaphore(0, name="finished")
        self.members: list[Task] = []

    def start(self, fn: Callable[[], object], urgent: bool = False) -> Task:
        def member() -> None:
            fn()
            self.finished.up()

        task = kthread_create(member, name=fn.__name__)
        if urgent:
            sched_setscheduler(task, SCHED_FIFO, 1 + self.random.randrange(5))
        wake_up_process(task)
        self.members.append(task)
        return task

    def join(self) -> None:
        for _ in self.members:
            self.finished.down()


# -- the programs; each asserts what must hold whatever the schedule


def locks(seed: int) -> None:
    """Mutexes exclude, semaphores admit as many as they count, through signals and time-outs."""

    def worker() -> None:
        allow_signal(10)
        for _ in range(12):
            try:
                if chance.random() < 0.5:
                    mutex.lock_interruptible()
                else:
                    mutex.lock()
            except InterruptedError:
                flush_signals()
                continue
            inside["mutex"] += 1
            assert inside["mutex"] == 1
            if chance.random() < 0.3:
                usleep(chance.randrange(50))
            cond_resched()
            inside["mutex"] -= 1
            mutex.unlock()
            try:
                semaphore.down_timeout(chance.randrange(1, 200_000))
            except TimeoutError:
                continue
            inside["semaphore"] += 1
            assert inside["semaphore"] <= 2
            with spin:
                inside["spin"] += 1
                assert inside["spin"] == 1
                inside["spin"] -= 1
            usleep(chance.randrange(100))
            inside["semaphore"] -= 1
            semaphore.up()

    def disturber() -> None:
        for _ in range(60):
            send_sig(10, chance.choice(team.members))
            wake_up_process(chance.choice(team.members))
            usleep(chance.randrange(40))

    team, chance = Team(seed), random.Random(seed)
    mutex, semaphore, spin = Mutex(name="m"), Semaphore(2, name="s"), SpinLock(name="spin")
    inside = {"mutex": 0, "semaphore": 0, "spin": 0}
    for number in range(5):
        team.start(worker, urgent=number == 0)
    team.start(disturber)
    team.join()
    assert not mutex.is_locked()
    assert semaphore.count == 2


def queue(seed: int) -> None:
    """Each item is consumed once, by exclusive and other waiters, with wake-ups from tasks, timers and interrupts."""

    def producer() -> None:
        for _ in range(25):
            items.append(next(numbers))
            chance.choice(wakers)()
            if chance.random() < 0.3:
                schedule()

    def consumer() -> None:
        allow_signal(10)
        exclusive = chance.random() < 0.5
        while len(consumed) < total:
            try:
                wait.wait_event_interruptible(lambda: items or len(consumed) >= total, exclusive=exclusive)
            except InterruptedError:
                flush_signals()
                continue
            if items:
                consumed.append(items.pop(0))
                if items and exclusive:
                    wait.wake_up()
        wait.wake_up_all()

    def disturber() -> None:
        for _ in range(40):
            send_sig(10, chance.choice(consumers))
            usleep(chance.randrange(100))

    kernel, team, chance = current_kernel(), Team(seed), random.Random(seed)
    wait = WaitQueueHead(name="items")
    soft = tasklet(wait.wake_up)
    irq = kernel.lkl_get_free_irq("dev")
    request_irq(irq, lambda irq: wait.wake_up(), "dev")
    wakers = [
        wait.wake_up,
        lambda: kernel.lkl_trigger_irq(irq),
        lambda: Timer(lambda timer: wait.wake_up()).mod_timer_in(chance.randrange(1, 5000)),
        soft.schedule,
    ]
    items: list[int] = []
    consumed: list[int] = []
    total = 75
    numbers = iter(range(total))
    consumers = [team.start(consumer, urgent=number == 0) for number in range(4)]
    for number in range(3):
        team.start(producer, urgent=number == 2)
    if seed % 2:  # else nobody makes up for a wake-up that got lost
        team.start(disturber)
    team.join()
    kernel.irq.free_irq(irq, "dev")
    usleep(5000)  # the last of the timers
    assert sorted(consumed) == list(range(total))
    assert not wait.waitqueue_active()


def ping_pong(seed: int) -> None:
    """Completions hand a ball around a ring; time-outs and spurious wake-ups neither lose nor double it."""

    def player(number: int) -> None:
        for _ in range(10):
            if chance.random() < 0.5:
                while not balls[number].wait_for_completion_timeout(chance.randrange(1, 3000)):
                    cond_resched()
            else:
                balls[number].wait_for_completion()
            held.append(number)
            balls[(number + 1) % len(balls)].complete()

    def disturber() -> None:
        for _ in range(50):
            wake_up_process(chance.choice(team.members))
            usleep(chance.randrange(30))

    team, chance = Team(seed), random.Random(seed)
    balls = [Completion(name=f"ball {number}") for number in range(5)]
    held: list[int] = []
    for number in range(5):
        team.start(lambda number=number: player(number), urgent=number == 3)
    if seed % 2:
        team.start(disturber)
    balls[0].complete()
    team.join()
    assert held == [*range(5)] * 10
    assert [ball.done for ball in balls] == [1, 0, 0, 0, 0]


def raw_sleepers(seed: int) -> None:
    """Rule 116 by hand: state, test, schedule(); no letter is missed however the two sides interleave."""

    def receiver() -> None:
        while len(received) < 20 * senders:
            set_current_state(TASK_INTERRUPTIBLE)
            if READ_ONCE(lambda: letters):
                set_current_state(TASK_RUNNING)
                received.append(letters.pop(0))
                read.up()
                continue
            READ_ONCE(lambda: None)  # preempted here, it must not fall asleep over a letter that has come
            schedule()

    def sender() -> None:
        for _ in range(20):
            letters.append(1)
            wake_up_process(task)
            if chance.random() < 0.5:
                usleep(chance.randrange(30))
            read.down()  # the next wake-up must not make up for this one

    team, chance, read = Team(seed), random.Random(seed), Semaphore(0, name="read")
    senders = 1 + seed % 3
    letters: list[int] = []
    received: list[int] = []
    task = team.start(receiver, urgent=bool(seed % 2))
    for number in range(senders):
        team.start(sender, urgent=number == 1)
    team.join()
    assert len(received) == 20 * senders


def served() -> str:
    """A kthread that does nothing but what it is asked to."""
    while not kthread_should_stop():
        if kthread_should_park():
            kthread_parkme()
        set_current_state(TASK_INTERRUPTIBLE)
        if not kthread_should_stop() and not kthread_should_park():
            schedule()
        set_current_state(TASK_RUNNING)
    return "served"


def lives(seed: int) -> None:
    """Kthreads are parked, unparked and stopped; children are born, die and are collected; nothing is left."""

    def master() -> None:
        for _ in range(4):
            task = kthread_run(served)
            for _ in range(chance.randrange(3)):
                assert kthread_park(task) == 0
                kthread_unpark(task)
            schedule()
            assert kthread_stop(task) in ("served", -4)

    def parent() -> None:
        def child(depth: int) -> None:
            pids = {kernel_thread(child, depth - 1, SIGCHLD) for _ in range(2)} if depth else set()
            if chance.random() < 0.7:
                while pids:
                    pid, code = kernel_wait4()
                    assert code == depth - 1
                    pids.remove(pid)
            do_exit(depth)

        assert kernel_wait4(kernel_thread(child, 3, SIGCHLD))[1] == 3

    kernel, team, chance = current_kernel(), Team(seed), random.Random(seed)
    before = len(kernel.pids)
    for number in range(2):
        team.start(master, urgent=number == 1)
        team.start(parent, urgent=number == 0)
    team.join()
    while len(kernel.pids) > before:  # members that have said they finish, and orphans
        usleep(10)


PROGRAMS = [locks, queue, ping_pong, raw_sleepers, lives]


def run_chaos(program: Callable[[int], None], seed: int, percent: int, drawn: bool, **options: Any) -> Kernel:
    def init() -> int:
        kernel = current_kernel()
        preempt_at_random(kernel, seed, percent)
        program(seed)
        assert (current().preempt_count, current().state) == (0, TASK_RUNNING)
        kernel.sched.listener = None
        return len(kernel.timers)

    policy = Drawn(seed) if drawn else None
    with lkl_start_kernel(init, clock="virtual", loglevel=0, policy=policy, **options) as kernel:
        while kernel.lkl_run().reason is not RunReason.HALTED:
            assert kernel.loop.next_event_ns is not None, kernel.dump_stacks()
            kernel.pause()
        assert kernel.init_result == 0
    return kernel


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_ends_well_under_any_schedule(program, seed):
    run_chaos(program, seed, percent=(0, 10, 50, 90)[seed % 4], drawn=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_ends_well_under_the_default_policy_with_preemption_anywhere(program, seed):
    run_chaos(program, seed, percent=25 * seed, drawn=False)


@pytest.mark.parametrize("drawn", [False, True], ids=["default", "drawn"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_chaos_is_the_same_chaos_in_all_configurations(program, drawn):
    traces = []
    for where in CONFIGURATIONS:
        kernel = run_chaos(program, 1, 30, drawn, host=where.host, switch=where.switch, trace=True)
        traces.append(list(kernel.sched.trace.records))
    assert traces[0] == traces[1]
    assert traces[0] == traces[2]


@pytest.mark.parametrize("after", [0, 5, 50, 300])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_halting_in_the_middle_of_chaos_leaves_nothing_behind(program, after, configuration):
    """At whatever switch the application loses interest, every task is unwound and the host gets everything back."""

    def init() -> None:
        preempt_at_random(current_kernel(), after, 30)
        program(after)

    kernel = lkl_start_kernel(init, clock="virtual", loglevel=0, policy=Drawn(after), **configuration)
    kernel.lkl_run(max_switches=after)
    kernel.lkl_sys_halt()
    assert kernel.halted
    assert len(kernel.pids) == 0
    assert kernel.host.live() == LiveObjects()
