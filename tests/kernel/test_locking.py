"""Mutexes, semaphores and spin locks: rules 120 and 121, models of them, and every way of leaving early."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkl_green import KernelPanic, lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS
from lkl_green.errors import Deadlock, LockMisuse
from lkl_green.linux import (
    SCHED_FIFO,
    SIGKILL,
    TASK_RUNNING,
    Completion,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    allow_signal,
    current,
    current_kernel,
    do_exit,
    flush_signals,
    kernel_power_off,
    kthread_create,
    kthread_run,
    ktime_get,
    local_irq_restore,
    local_irq_save,
    msleep,
    preempt_disable,
    preempt_enable,
    request_irq,
    sched_setscheduler,
    schedule,
    send_sig,
    tasklet,
    wake_up_process,
    yield_,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.compare.parity import Configuration
    from lkl_green.linux import Task

MS = 1_000_000
FOR_EVER_NS = 10_000 * MS


def clean() -> bool:
    """Whether the current task is left as if nothing had happened."""
    task = current()
    return (task.state, task.waiting_for, task.preempt_count, task.irqs_disabled) == (TASK_RUNNING, None, 0, False)


# -- rule 120: semaphores


DOWNS: dict[str, Callable[[Semaphore], object]] = {
    "plain": lambda semaphore: semaphore.down(),
    "interruptible": lambda semaphore: semaphore.down_interruptible(),
    "killable": lambda semaphore: semaphore.down_killable(),
    "timeout": lambda semaphore: semaphore.down_timeout(FOR_EVER_NS),
}


def down(semaphore: Semaphore, name: Any, log: list[Any], kind: str = "plain") -> None:
    allow_signal(10)
    allow_signal(SIGKILL)
    try:
        DOWNS[kind](semaphore)
        log.append((name, "down"))
    except OSError as error:
        log.append((name, error.errno))
    finally:
        assert clean()


def test_rule_120_a_semaphore_lets_as_many_down_as_it_counts(run, log):
    def init():
        semaphore = Semaphore(2)
        for name in "abcd":
            kthread_run(down, semaphore, name, log)
        msleep(1)
        log.append("full")
        semaphore.up()
        msleep(1)
        semaphore.up()
        msleep(1)
        return semaphore.count

    assert run(init) == 0
    assert log == [("a", "down"), ("b", "down"), "full", ("c", "down"), ("d", "down")]


def test_rule_120_anyone_may_up_from_any_context(run, log):
    def init():
        kernel, semaphore = current_kernel(), Semaphore(0)
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, lambda irq: semaphore.up(), "dev")
        waiter = kthread_run(lambda: [log.append(down(semaphore, step, log)) for step in range(4)])
        msleep(1)
        kernel.lkl_trigger_irq(irq)
        msleep(1)
        Timer(lambda timer: semaphore.up()).mod_timer_in(MS)
        msleep(2)
        tasklet(semaphore.up).schedule()
        msleep(1)
        semaphore.up()
        msleep(1)
        return wake_up_process(waiter)

    assert run(init) is False
    assert [entry for entry in log if entry] == [(step, "down") for step in range(4)]


def test_rule_120_trylock_interruptible_and_timeout_results(run, log):
    def init():
        semaphore = Semaphore(1)
        log.append([semaphore.down_trylock(), semaphore.down_trylock(), semaphore.count])
        begin = ktime_get()
        with pytest.raises(TimeoutError) as late:
            semaphore.down_timeout(MS)
        log.append((late.value.errno, ktime_get() - begin >= MS))
        with pytest.raises(TimeoutError):
            semaphore.down_timeout(0)
        allow_signal(10)
        send_sig(10, current())
        with pytest.raises(InterruptedError) as interrupted:
            semaphore.down_interruptible()
        log.append(interrupted.value.errno)
        semaphore.up()
        semaphore.down_interruptible()  # one that can be had is had, signal or not
        log.append((semaphore.count, clean()))

    run(init)
    assert log == [[True, False, 0], (errno.ETIME, True), errno.EINTR, (0, True)]


def test_a_semaphore_is_handed_over_and_cannot_be_snatched(run, log):
    def init():
        semaphore = Semaphore(0)
        kthread_run(down, semaphore, "waiter", log)
        msleep(1)
        semaphore.up()
        log.append(semaphore.down_trylock())
        msleep(1)

    run(init)
    assert log == [False, ("waiter", "down")]


def test_a_task_that_ups_and_downs_again_does_not_starve_the_others(run, log):
    def init():
        def greedy(name):
            for step in range(3):
                with semaphore:
                    log.append(f"{name}{step}")
                    yield_()

        semaphore = Semaphore(1)
        for task in [kthread_create(greedy, name) for name in "ab"]:
            wake_up_process(task)
        msleep(1)

    run(init)
    assert log == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_semaphore_cannot_start_below_zero(run):
    def init():
        with pytest.raises(ValueError, match="cannot be negative"):
            Semaphore(-1)

    run(init)


# -- rule 120: mutexes


def test_rule_120_a_mutex_is_held_by_one_and_goes_to_the_longest_waiter(run, log):
    def init():
        def worker(name):
            with mutex:
                log.append(f"{name} in")
                msleep(1)
                log.append(f"{name} out")

        mutex = Mutex()
        for name in "abc":
            kthread_run(worker, name)
        msleep(10)
        assert not mutex.is_locked()

    run(init)
    assert log == ["a in", "a out", "b in", "b out", "c in", "c out"]


def test_rule_120_only_the_owner_may_unlock(run):
    def init():
        def thief():
            with pytest.raises(LockMisuse, match="only the owner may unlock"):
                mutex.unlock()
            return clean()

        mutex = Mutex()
        with pytest.raises(LockMisuse):
            mutex.unlock()
        mutex.lock()
        tasks = [kthread_run(thief)]
        msleep(1)
        assert mutex.owner is current()
        mutex.unlock()
        return tasks[0].exit_code

    assert run(init) is True


def test_rule_120_a_mutex_is_not_recursive(run):
    def init():
        mutex = Mutex()
        with mutex:
            with pytest.raises(LockMisuse, match="not recursive"):
                mutex.lock()
            assert not mutex.trylock()
            assert mutex.owner is current()
        return mutex.is_locked()

    assert run(init) is False


@pytest.mark.parametrize("take", ["lock", "trylock", "lock_interruptible"])
def test_rule_120_not_from_an_interrupt(boot, take):
    kernel = boot()
    mutex = Mutex(kernel)
    irq = kernel.lkl_get_free_irq("dev")
    kernel.irq.request_irq(irq, lambda irq: getattr(mutex, take)(), "dev")
    kernel.lkl_trigger_irq(irq)
    with pytest.raises(KernelPanic, match="taken in an interrupt") as caught:
        kernel.lkl_run()
    assert isinstance(caught.value.__cause__, LockMisuse)
    assert not mutex.is_locked()


def test_rule_120_a_task_that_exits_with_a_mutex_held_is_named(run):
    def init():
        def careless():
            Mutex().lock()
            do_exit(0)

        kthread_run(careless, name="careless")
        msleep(1)
        return current_kernel().printk.text()

    assert "careless-4 exits with 1 mutexes held" in run(init)


def test_the_kernel_keeps_which_tasks_left_mutexes_locked(run):
    """Whatever the log says: tools count on it."""

    def careless(mutexes):
        for mutex in mutexes:
            mutex.lock()

    def init():
        mutexes = [Mutex(name=name) for name in "ab"]
        kthread_run(careless, mutexes, name="careless")
        kthread_run(careless, [], name="careful")
        msleep(1)
        return list(current_kernel().exits.locks_left)

    assert run(init) == [("careless-4", 2)]


def test_a_mutex_whose_owner_is_gone_is_a_deadlock_that_names_it(boot):
    def init():
        mutex = Mutex(name="orphan")
        kthread_run(mutex.lock, name="careless")
        msleep(1)
        mutex.lock()

    kernel = boot(init)
    with pytest.raises(Deadlock, match="orphan held by careless-4"):
        kernel.run()


def test_the_owner_changes_at_the_unlock_not_when_the_heir_runs(run, log):
    def init():
        mutex = Mutex()
        mutex.lock()
        heir = kthread_run(mutex.lock)
        msleep(1)
        mutex.unlock()
        log.append((mutex.owner is heir, mutex.trylock()))
        with pytest.raises(LockMisuse):
            mutex.unlock()

    run(init)
    assert log == [(True, False)]


@pytest.mark.parametrize("sig", [10, SIGKILL])
@pytest.mark.parametrize("kind", ["lock", "lock_interruptible", "lock_killable"])
def test_a_signal_ends_only_the_waits_it_may_end(run, log, kind, sig):
    def init():
        def waiter():
            allow_signal(10)
            allow_signal(SIGKILL)
            try:
                getattr(mutex, kind)()
            except InterruptedError as error:
                log.append(error.errno)
            else:
                log.append("locked")
                mutex.unlock()
            log.append(clean())

        mutex = Mutex()
        mutex.lock()
        task = kthread_run(waiter)
        kthread_run(lambda: mutex.__enter__().__exit__(None, None, None))
        msleep(1)
        send_sig(sig, task)
        msleep(1)
        mutex.unlock()
        msleep(1)
        return mutex.is_locked()

    assert run(init) is False
    ended = kind == "lock_interruptible" or (kind == "lock_killable" and sig == SIGKILL)
    assert log == [errno.EINTR if ended else "locked", True]


@pytest.mark.parametrize("order", ["unlock first", "signal first"])
def test_an_heir_that_is_signalled_before_it_runs_holds_the_lock_or_does_not_want_it(run, log, order):
    def init():
        def heir():
            allow_signal(10)
            try:
                mutex.lock_interruptible()
                log.append("heir holds it")
                mutex.unlock()
            except InterruptedError:
                log.append("heir left")

        def next_one():
            mutex.lock()
            log.append("next holds it")
            mutex.unlock()

        mutex = Mutex()
        mutex.lock()
        task = kthread_run(heir)
        kthread_run(next_one)
        msleep(1)
        actions = [mutex.unlock, lambda: send_sig(10, task)]
        for action in actions if order == "unlock first" else reversed(actions):
            action()
        msleep(1)
        return mutex.is_locked()

    assert run(init) is False
    assert log == ["heir holds it", "next holds it"]


def test_an_important_heir_preempts_the_one_who_unlocks(run, log):
    def init():
        def urgent():
            with mutex:
                log.append("urgent")
                msleep(1)

        mutex = Mutex()
        task = kthread_create(urgent)
        sched_setscheduler(task, SCHED_FIFO, 1)
        with mutex:
            wake_up_process(task)
            log.append("locked")
        log.append(("unlocked", mutex.owner is task))
        with mutex:
            log.append("again")

    run(init)
    assert log == ["locked", "urgent", ("unlocked", True), "again"]


# -- taken down while holding or waiting


@pytest.mark.parametrize("holders", [1, 2, 3])
def test_halting_leaves_every_lock_free_and_every_count_whole(run, log, holders):
    """Holders and waiters alike are unwound; what one gives back while it dies may go to another that dies, too."""
    kept: list[Any] = []

    def init():
        def user(name):
            try:
                with semaphore, mutex:
                    log.append(f"{name} holds")
                    msleep(1000)
            finally:
                log.append(f"{name} gone")

        mutex, semaphore = Mutex(name="m"), Semaphore(holders, name="s")
        kept.extend((mutex, semaphore))
        for name in "abcde":
            kthread_run(user, name)
        msleep(1)
        kernel_power_off()

    run(init)
    assert log[0] == "a holds"
    assert sorted(entry for entry in log if entry.endswith("gone")) == [f"{name} gone" for name in "abcde"]
    mutex, semaphore = kept
    assert not mutex.is_locked()
    assert semaphore.count == holders
    assert repr(mutex) == "<Mutex m free waiters: nobody>"
    assert repr(semaphore) == f"<Semaphore s count={holders} waiters: nobody>"


# -- rule 121: spin locks


def test_rule_121_contention_is_a_deadlock_by_definition(run):
    def init():
        lock = SpinLock(name="mine")
        with lock:
            with pytest.raises(LockMisuse, match="spinlock deadlock"):
                lock.lock()
            assert not lock.trylock()
            assert current().preempt_count == 1
        return clean()

    assert run(init)


def test_rule_121_an_interrupt_handler_that_wants_the_interrupted_task_s_lock(run, log):
    def init():
        def handler(irq):
            log.append(lock.trylock())
            if log[-1]:
                lock.unlock()

        kernel, lock = current_kernel(), SpinLock()
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, handler, "dev")
        with lock:
            kernel.lkl_trigger_irq(irq)
            local_irq_restore(local_irq_save())
        flags = lock.lock_irqsave()
        kernel.lkl_trigger_irq(irq)
        log.append("held, and no handler comes")
        lock.unlock_irqrestore(flags)

    run(init)
    assert log == [False, "held, and no handler comes", True]


def test_rule_121_a_handler_that_keeps_a_lock_does_not_make_the_interrupted_task_atomic(run, log):
    def init():
        def keeps(irq):
            lock.lock()

        def fails(irq):
            other.lock()
            raise ZeroDivisionError

        kernel, lock, other = current_kernel(), SpinLock(), SpinLock()
        for handler in (keeps, fails):
            irq = kernel.lkl_get_free_irq("dev")
            request_irq(irq, handler, "dev")
            kernel.lkl_trigger_irq(irq)
        local_irq_restore(local_irq_save())
        log.append(clean())
        msleep(1)
        return kernel.printk.text()

    assert "preempt_count" in run(init, on_oops="kill")
    assert log == [True]


def test_rule_121_only_the_holder_unlocks(run):
    def init():
        lock = SpinLock()
        with pytest.raises(LockMisuse, match="does not hold"):
            lock.unlock()
        flags = local_irq_save()
        with pytest.raises(LockMisuse):
            lock.unlock_irqrestore(False)
        assert current().irqs_disabled
        local_irq_restore(flags)
        return clean()

    assert run(init)


def test_rule_121_a_failed_lock_irqsave_leaves_interrupts_as_they_were(run):
    def init():
        lock = SpinLock()
        with lock:
            with pytest.raises(LockMisuse):
                lock.lock_irqsave()
            assert not current().irqs_disabled
            flags = local_irq_save()
            with pytest.raises(LockMisuse):
                lock.lock_irqsave()
            assert current().irqs_disabled
            local_irq_restore(flags)
        return clean()

    assert run(init)


def test_rule_121_an_exception_in_the_section_unlocks(run):
    def init():
        lock = SpinLock()
        with pytest.raises(ZeroDivisionError), lock:
            raise ZeroDivisionError
        return clean(), lock.owner

    assert run(init) == (True, None)


SECTIONS = st.recursive(
    st.just([]),
    lambda inner: st.lists(st.tuples(st.sampled_from(["lock", "irqsave", "irq", "preempt"]), inner), max_size=3),
    max_leaves=12,
)


def enter_sections(sections: list[tuple[str, Any]], depth: int, disabled: bool, locks: list[SpinLock]) -> None:
    """Nest sections of all kinds; at each level the task's counters are what the nesting says."""
    for kind, inner in sections:
        lock = SpinLock()
        match kind:
            case "lock":
                with lock:
                    assert (current().preempt_count, current().irqs_disabled) == (depth + 1, disabled)
                    enter_sections(inner, depth + 1, disabled, [*locks, lock])
            case "irqsave":
                flags = lock.lock_irqsave()
                assert flags is disabled
                assert (current().preempt_count, current().irqs_disabled) == (depth + 1, True)
                enter_sections(inner, depth + 1, True, [*locks, lock])
                lock.unlock_irqrestore(flags)
            case "irq":
                flags = local_irq_save()
                assert flags is disabled
                enter_sections(inner, depth, True, locks)
                local_irq_restore(flags)
            case "preempt":
                preempt_disable()
                assert current().preempt_count == depth + 1
                enter_sections(inner, depth + 1, disabled, locks)
                preempt_enable()
        assert lock.owner is None
        assert all(held.owner is current() for held in locks)
        assert (current().preempt_count, current().irqs_disabled) == (depth, disabled)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sections=SECTIONS)
def test_nested_sections_add_up(sections):
    """Run while an interrupt is pending and a real-time task waits to preempt: both get in only between sections."""

    def init():
        def urgent():
            while True:
                kick.wait_for_completion()
                assert init_task.preempt_count == 0
                assert not init_task.irqs_disabled

        def handler(irq):
            kick.complete()

        kernel, init_task, kick = current_kernel(), current(), Completion()
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, handler, "dev")
        task = kthread_create(urgent)
        sched_setscheduler(task, SCHED_FIFO, 1)
        wake_up_process(task)
        kernel.lkl_trigger_irq(irq)
        enter_sections(sections, 0, False, [])
        return clean()

    with lkl_start_kernel(init, clock="virtual", loglevel=0) as kernel:
        assert kernel.run()


# -- a handler that breaks the rules


FORBIDDEN: dict[str, Callable[[], object]] = {
    "down": lambda: Semaphore(0).down(),
    "down_timeout": lambda: Semaphore(0).down_timeout(5),
    "wait_for_completion": lambda: Completion().wait_for_completion(),
    "wait_for_completion_timeout": lambda: Completion().wait_for_completion_timeout(5),
    "wait_event": lambda: WaitQueueHead().wait_event(lambda: False),
    "wait_event_timeout": lambda: WaitQueueHead().wait_event_timeout(lambda: False, 5),
    "prepare_to_wait": lambda: WaitQueueHead().prepare_to_wait(),
    "mutex": lambda: Mutex().lock(),
    "msleep": lambda: msleep(1),
    "schedule": schedule,
}


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_a_handler_that_sleeps_does_not_make_the_interrupted_sleeper_believe_it_was_served(run, log, forbidden):
    """The handler's `current` is a task that is on its way to sleep on a semaphore, and must stay so."""

    def init():
        def victim():
            kernel.lkl_trigger_irq(irq)
            semaphore.down()
            log.append("served")

        kernel, semaphore = current_kernel(), Semaphore(0)
        irq = kernel.lkl_get_free_irq("dev")
        request_irq(irq, lambda irq: FORBIDDEN[forbidden](), "dev")
        kthread_run(victim)
        msleep(1)
        log.append(kernel.printk.tainted)
        semaphore.up()
        msleep(1)
        return semaphore.count

    assert run(init, on_oops="kill") == 0
    assert log == [1, "served"]


# -- a model of the semaphore


class SemaphoreModel:
    """A count and a queue of (name, kind)."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.queue: deque[tuple[int, str]] = deque()

    def down(self, name: int, kind: str) -> list[Any]:
        if self.count:
            self.count -= 1
            return [(name, "down")]
        self.queue.append((name, kind))
        return []

    def up(self) -> list[Any]:
        if self.queue:
            return [(self.queue.popleft()[0], "down")]
        self.count += 1
        return []

    def leave(self, kinds: tuple[str, ...], why: int, name: int | None = None) -> list[Any]:
        leavers = [entry for entry in self.queue if entry[1] in kinds and name in (None, entry[0])]
        for leaver in leavers:
            self.queue.remove(leaver)
        return [(who, why) for who, _ in leavers]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("down"), st.sampled_from(list(DOWNS))),
        st.tuples(st.sampled_from(["up", "up from irq", "try", "time passes"]), st.none()),
        st.tuples(st.sampled_from(["signal", "kill", "spurious", "up and kill"]), st.integers(0, 20)),
    ),
    max_size=25,
)


def follow(count: int, steps: list[tuple[str, Any]]) -> None:
    kernel, semaphore, model = current_kernel(), Semaphore(count), SemaphoreModel(count)
    irq = kernel.lkl_get_free_irq("dev")
    request_irq(irq, lambda irq: semaphore.up(), "dev")
    log: list[Any] = []
    tasks: list[Task] = []
    for what, arg in steps:
        expected: list[Any] = []
        chosen = arg % len(tasks) if isinstance(arg, int) and tasks else -1
        match what:
            case "down":
                expected = model.down(len(tasks), arg)
                tasks.append(kthread_run(down, semaphore, len(tasks), log, arg))
            case "up":
                expected = model.up()
                semaphore.up()
            case "up from irq":
                expected = model.up()
                kernel.lkl_trigger_irq(irq)
            case "try":
                assert semaphore.down_trylock() is (model.count > 0)
                model.count -= model.count > 0
            case "time passes":
                expected = model.leave(("timeout",), errno.ETIME)
                msleep(2 * FOR_EVER_NS // MS)
            case "signal" if tasks:
                expected = model.leave(("interruptible",), errno.EINTR, chosen)
                send_sig(10, tasks[chosen])
            case "kill" if tasks:
                expected = model.leave(("interruptible", "killable"), errno.EINTR, chosen)
                send_sig(SIGKILL, tasks[chosen])
            case "up and kill" if tasks:
                # Whoever was served before it was killed keeps what it got.
                expected = model.up()
                semaphore.up()
                expected += model.leave(("interruptible", "killable"), errno.EINTR, chosen)
                send_sig(SIGKILL, tasks[chosen])
            case "spurious" if tasks:
                wake_up_process(tasks[chosen])
        msleep(1)
        assert log == expected
        assert semaphore.count == model.count
        log.clear()


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(count=st.integers(0, 2), steps=STEPS)
def test_a_semaphore_follows_the_model(where: Configuration, count: int, steps: list[tuple[str, Any]]) -> None:
    options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0}
    with lkl_start_kernel(follow, count, steps, **options) as kernel:
        kernel.run()


# -- a model of the mutex


class MutexModel:
    """An owner, and a queue of (worker, kind)."""

    def __init__(self) -> None:
        self.owner: int | None = None
        self.queue: deque[tuple[int, str]] = deque()

    def waits(self, worker: int) -> bool:
        return any(worker == waiting for waiting, _ in self.queue)

    def lock(self, worker: int, kind: str) -> list[Any]:
        if self.owner == worker:
            return [(worker, "misuse")]
        if self.owner is None:
            self.owner = worker
            return [(worker, "locked")]
        self.queue.append((worker, kind))
        return []

    def unlock(self, worker: int) -> list[Any]:
        if self.owner != worker:
            return [(worker, "misuse")]
        if not self.queue:
            self.owner = None
            return [(worker, "unlocked")]
        self.owner = self.queue.popleft()[0]
        return [(worker, "unlocked"), (self.owner, "locked")]

    def signal(self, worker: int, sig: int) -> list[Any]:
        kinds = ("lock_interruptible", "lock_killable") if sig == SIGKILL else ("lock_interruptible",)
        for entry in self.queue:
            if entry[0] == worker and entry[1] in kinds:
                self.queue.remove(entry)
                return [(worker, "interrupted")]
        return []


class Worker:
    """A task that does to a mutex what it is told."""

    def __init__(self, number: int, mutex: Mutex, log: list[Any]) -> None:
        self.number, self.mutex, self.log = number, mutex, log
        self.inbox: deque[str] = deque()
        self.told = Semaphore(0)
        self.task = kthread_run(self.work)

    def tell(self, what: str) -> None:
        self.inbox.append(what)
        self.told.up()

    def work(self) -> None:
        allow_signal(10)
        allow_signal(SIGKILL)
        while True:
            self.told.down()
            flush_signals()
            self.log.append((self.number, self.do(self.inbox.popleft())))
            assert clean()

    def do(self, what: str) -> str:
        try:
            result = getattr(self.mutex, what)()
        except LockMisuse:
            return "misuse"
        except InterruptedError:
            return "interrupted"
        if what == "trylock":
            return "locked" if result else "busy"
        return "unlocked" if what == "unlock" else "locked"


COMMANDS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(
            ["lock", "lock_interruptible", "lock_killable", "unlock", "unlock", "trylock", "signal", "kill", "wake"]
        ),
    ),
    max_size=30,
)


def follow_mutex(steps: list[tuple[int, str]]) -> None:
    mutex, model, log = Mutex(), MutexModel(), []
    workers = [Worker(number, mutex, log) for number in range(4)]
    for number, what in steps:
        worker = workers[number]
        expected: list[Any] = []
        if what in ("signal", "kill"):
            sig = SIGKILL if what == "kill" else 10
            expected = model.signal(number, sig)
            send_sig(sig, worker.task)
        elif what == "wake":
            wake_up_process(worker.task)
        elif not model.waits(number):
            if what == "trylock":
                free = model.owner is None
                model.owner = number if free else model.owner
                expected = [(number, "locked" if free else "busy")]
            else:
                expected = model.unlock(number) if what == "unlock" else model.lock(number, what)
            worker.tell(what)
        msleep(1)
        assert log == expected
        owner = None if model.owner is None else workers[model.owner].task
        assert mutex.owner is owner
        assert [worker.task.locks_held for worker in workers] == [int(n == model.owner) for n in range(4)]
        log.clear()


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=COMMANDS)
def test_a_mutex_follows_the_model(where: Configuration, steps: list[tuple[int, str]]) -> None:
    options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0}
    with lkl_start_kernel(follow_mutex, steps, **options) as kernel:
        kernel.run()


# -- parity


def test_locks_under_preemption_and_signals_trace_the_same(parity):
    def init():
        def worker(number):
            allow_signal(10)
            for _ in range(6):
                try:
                    with semaphore:
                        mutex.lock_interruptible()
                        with spin:
                            shared.append(number)
                        msleep(0.5 * number)
                        mutex.unlock()
                except InterruptedError:
                    flush_signals()
                schedule()

        mutex, semaphore, spin, shared = Mutex(), Semaphore(2), SpinLock(), []
        tasks = [kthread_create(worker, number, name="worker/%d") for number in range(5)]
        for number, task in enumerate(tasks):
            sched_setscheduler(task, SCHED_FIFO if number % 2 else 0, number)
            wake_up_process(task)
        for step in range(20):
            msleep(1)
            send_sig(10, tasks[step % 5])
        while any(task.exit_state == 0 for task in tasks):
            msleep(1)

    assert parity(init).count("sched_switch") > 60
