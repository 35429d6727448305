"""Whole lives of kthreads and processes: models of them, and what preemption does to births and deaths."""

from __future__ import annotations

import errno
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkl_green import lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS
from lkl_green.kernel.exit import WNOHANG
from lkl_green.kernel.task import TASK_DEAD, TASK_PARKED
from lkl_green.linux import (
    SCHED_FIFO,
    SCHED_NORMAL,
    SIGCHLD,
    TASK_UNINTERRUPTIBLE,
    Completion,
    Timer,
    current,
    current_kernel,
    do_exit,
    kernel_execve,
    kernel_power_off,
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
    msleep,
    sched_setscheduler,
    schedule,
    schedule_timeout_interruptible,
    set_current_state,
    wake_up_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.compare.parity import Configuration
    from lkl_green.linux import Task

MS = 1_000_000


def task_of(pid: int) -> Task:
    return current_kernel().pids.tasks[pid]


def well_behaved(log: list[Any], result: Any = 0) -> Any:
    """A thread function that runs, parks and stops when it is asked to."""
    log.append("runs")
    while not kthread_should_stop():
        if kthread_should_park():
            log.append("parks")
            kthread_parkme()
            log.append("goes on")
        schedule_timeout_interruptible(1000 * MS)
    log.append("stops")
    return result


def in_thread(fn: Callable[[], Any]) -> tuple[int, Any]:
    """Run `fn` in a kernel thread of one's own; (pid, exit code)."""
    return kernel_wait4(kernel_thread(lambda arg: do_exit(fn()), None, SIGCHLD))


def exec_program(main: Callable[..., Any], path: str = "/bin/program") -> int:
    """Start a user process; its pid."""
    current_kernel().register_program(path, main)
    return kernel_thread(lambda arg: kernel_execve(path), None, SIGCHLD)


# -- parking, under preemption


def test_rule_103_a_parker_that_preempts_finds_the_thread_parked(run):
    """Linux disables preemption from complete() to schedule(), and waits until the thread is inactive."""

    def init():
        task = kthread_run(well_behaved, [])
        msleep(1)
        sched_setscheduler(current(), SCHED_FIFO, 9)
        result = kthread_park(task), task.state
        kthread_unpark(task)
        kthread_stop(task)
        return result

    assert run(init) == (0, TASK_PARKED)


def test_rule_102_a_thread_that_is_unparked_before_it_parks_does_not_sleep(run, log):
    def init():
        def slow():
            while not kthread_should_park():
                msleep(1)
            asked.complete()
            gate.wait_for_completion()
            kthread_parkme()
            log.append("goes on")

        asked, gate = Completion(), Completion()
        task = kthread_run(slow)
        kernel_thread(lambda arg: do_exit(kthread_park(task)))
        asked.wait_for_completion()
        kthread_unpark(task)
        gate.complete()
        msleep(5)
        return task.state

    assert run(init) == TASK_DEAD
    assert log == ["goes on"]


def test_rule_104_unpark_in_a_timer_callback(run, log):
    def init():
        task = kthread_run(well_behaved, log)
        msleep(1)
        kthread_park(task)
        Timer(lambda timer: kthread_unpark(task)).mod_timer_in(MS)
        msleep(2)
        kthread_stop(task)

    run(init)
    assert log == ["runs", "parks", "goes on", "stops"]


class KthreadModel:
    """The life of a well-behaved kthread."""

    def __init__(self) -> None:
        self.state = "new"
        self.result: Any = None

    def do(self, what: str) -> Any:
        """What the call returns; the state after it."""
        state = self.state
        match what:
            case "wake":
                self.state = "running" if state == "new" else state
                return state in ("new", "running")
            case "park":
                if state in ("gone", "parked"):
                    return -errno.ENOSYS if state == "gone" else -errno.EBUSY
                self.state = "parked"
                return 0
            case "unpark":
                self.state = "running" if state == "parked" else state
                return None
            case "stop":
                if state != "gone":
                    self.state, self.result = "gone", -errno.EINTR if state == "new" else "result"
                return self.result
        raise AssertionError(what)


CALLS = {"wake": wake_up_process, "park": kthread_park, "unpark": kthread_unpark, "stop": kthread_stop}


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(list(CALLS))), max_size=20), urgent=st.booleans())
def test_kthreads_follow_the_model(where: Configuration, steps: list[tuple[int, str]], urgent: bool) -> None:
    """Each call's result, and the state after it; also when the caller preempts everybody."""

    def init():
        tasks = [kthread_create(well_behaved, [], "result") for _ in range(3)]
        models = [KthreadModel() for _ in tasks]
        if urgent:
            sched_setscheduler(current(), SCHED_FIFO, 9)
        for number, what in steps:
            assert CALLS[what](tasks[number]) == models[number].do(what)
            msleep(1)
            for task, model in zip(tasks, models, strict=True):
                assert (task.state == TASK_PARKED) is (model.state == "parked")
                assert (task.state == TASK_DEAD) is (model.state == "gone")

    options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0}
    with lkl_start_kernel(init, **options) as kernel:
        kernel.run()


# -- deaths


def test_a_real_time_parent_that_powers_off_finds_the_dying_child_out_of_the_way(run):
    """Nobody preempts an end that is under way: nothing could be raised in frames that are gone."""

    def init():
        pid = kernel_thread(lambda arg: do_exit(3), None, SIGCHLD)
        sched_setscheduler(current(), SCHED_FIFO, 5)
        return kernel_wait4(pid)[1]

    assert run(init) == 3


def test_a_real_time_parent_collects_children_that_are_still_on_their_way_out(run):
    def init():
        sched_setscheduler(current(), SCHED_FIFO, 5)
        codes = []
        for code in range(20):
            pid = kernel_thread(do_exit, code, SIGCHLD)
            sched_setscheduler(task_of(pid), SCHED_NORMAL)
            codes.append(kernel_wait4(pid)[1])
        return codes, len(current_kernel().pids)

    assert run(init) == (list(range(20)), 3)


def test_orphans_that_die_together_are_all_kept_for_an_init_that_waits(run):
    """Init is woken by the first, and not waiting any more when the others come."""

    def init():
        def parent(arg):
            for code in (11, 12, 13):
                kernel_thread(do_exit, code, SIGCHLD)
            do_exit(1)

        kernel_thread(parent, None, SIGCHLD)
        codes = []
        while True:
            try:
                codes.append(kernel_wait4()[1])
            except ChildProcessError:
                return codes

    assert run(init) == [1, 11, 12, 13]


def test_halting_unwinds_stoppers_and_whom_they_wait_for(run, log):
    def init():
        def says(name, call):
            try:
                call()
            finally:
                log.append(name)

        stubborn = kthread_run(lambda: says("stubborn", Completion().wait_for_completion))
        never_run = kthread_create(log.append, "must not run")
        msleep(1)
        kthread_run(says, "stopper", lambda: kthread_stop(stubborn))
        msleep(1)
        kernel_power_off()
        says("stopper of a thread that never runs", lambda: kthread_stop(never_run))

    run(init)
    assert sorted(log) == ["stopper", "stopper of a thread that never runs", "stubborn"]


class FamilyModel:
    """A parent's children, oldest first: pid, code, and whether it has ended."""

    def __init__(self) -> None:
        self.children: dict[int, tuple[int, bool]] = {}

    def wait4(self, pid: int) -> tuple[int, Any] | None:
        """What WNOHANG returns; None for ECHILD."""
        matching = {child: end for child, end in self.children.items() if pid in (-1, child)}
        if not matching:
            return None
        for child, (code, ended) in matching.items():
            if ended:
                del self.children[child]
                return child, code
        return 0, 0


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["fork", "end", "end", "wait", "wait any"]), st.integers(0, 9)), max_size=30
    ),
    urgent=st.booleans(),
)
def test_wait4_follows_the_model(where: Configuration, steps: list[tuple[str, int]], urgent: bool) -> None:
    def parent() -> None:
        model = FamilyModel()
        gates: dict[int, Completion] = {}
        pids: list[int] = []
        if urgent:
            sched_setscheduler(current(), SCHED_FIFO, 9)

        def child(code: int) -> None:
            gates[code].wait_for_completion()
            do_exit(code)

        for what, arg in steps:
            match what:
                case "fork":
                    gates[len(pids)] = Completion()
                    pids.append(kernel_thread(child, len(pids), SIGCHLD))
                    model.children[pids[-1]] = (len(pids) - 1, False)
                case "end" if pids:
                    number = arg % len(pids)
                    gates[number].complete()
                    if pids[number] in model.children:
                        model.children[pids[number]] = (number, True)
                case "wait" | "wait any":
                    pid = pids[arg % len(pids)] if pids and what == "wait" else -1
                    expected = model.wait4(pid)
                    if expected is None:
                        with pytest.raises(ChildProcessError):
                            kernel_wait4(pid, WNOHANG)
                    elif expected == (0, 0):
                        assert kernel_wait4(pid, WNOHANG) == expected
                    else:
                        assert kernel_wait4(pid) == expected
            msleep(1)

    def init():
        code = kernel_wait4(kernel_thread(lambda arg: do_exit(parent()), None, SIGCHLD))[1]
        assert code is None

    options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0}
    with lkl_start_kernel(init, **options) as kernel:
        kernel.run()


# -- births


def test_a_chain_in_which_each_thread_starts_the_next_has_no_end(run):
    def init():
        def link(generation):
            if generation:
                kernel_thread(link, generation - 1)
            else:
                done.complete()
            do_exit(0)

        done = Completion()
        kernel_thread(link, 1500)
        done.wait_for_completion()
        msleep(1)
        return len(current_kernel().pids)

    assert run(init) == 3


def test_pids_go_up_wrap_around_and_skip_the_living(run):
    def init():
        current_kernel().pids.limit = 10
        pids = [in_thread(lambda: 0)[0] for _ in range(12)]
        sleeper = kernel_thread(lambda arg: (msleep(100), do_exit(0)))
        pids += [in_thread(lambda: 0)[0] for _ in range(6)]
        return pids, sleeper

    pids, sleeper = run(init)
    assert pids[:6] == pids[6:12] == [4, 5, 6, 7, 8, 9]
    assert sleeper == 4
    assert pids[12:] == [5, 6, 7, 8, 9, 5]


def test_a_halting_kernel_forks_no_more(run, log):
    def init():
        def victim():
            try:
                set_current_state(TASK_UNINTERRUPTIBLE)
                schedule()
            finally:
                try:
                    kernel_thread(log.append, "must not run")
                except OSError as error:
                    log.append(error.errno)

        kthread_run(victim)
        msleep(1)

    run(init)
    assert log == [errno.ESHUTDOWN]


def test_children_inherit_context_variables_and_give_none_back(run, log):
    color: ContextVar[str] = ContextVar("color", default="none")

    def init():
        color.set("red")
        task = kthread_create(lambda: (log.append(color.get()), color.set("blue")))
        color.set("green")
        wake_up_process(task)
        in_thread(lambda: (log.append(color.get()), color.set("blue")))
        msleep(1)
        log.append(color.get())

    run(init)
    assert sorted(log[:2]) == ["green", "red"]
    assert log[2:] == ["green"]


def test_a_child_may_run_before_its_parent_goes_on(run, log):
    def init():
        def parent():
            sched_setscheduler(current(), SCHED_FIFO, 5)
            pid = kernel_thread(lambda arg: (log.append("child"), do_exit(0)), None, SIGCHLD)
            sched_setscheduler(task_of(pid), SCHED_FIFO, 6)
            log.append("parent")
            return kernel_wait4(pid)[1]

        return in_thread(parent)[1]

    assert run(init) == 0
    assert log == ["child", "parent"]


def test_vforks_nest(run, log):
    def init():
        def grandchild(sys):
            sys.nanosleep(1000)
            log.append("grandchild")

        def child(sys):
            sys.vfork(grandchild)
            log.append("child")

        def main(sys, argv, envp):
            sys.vfork(child)
            log.append("parent")

        kernel_wait4(exec_program(main))

    run(init)
    assert log == ["grandchild", "child", "parent"]


def test_halting_takes_a_vfork_family_down(run, log):
    def init():
        def says(name, call):
            try:
                call()
            finally:
                log.append(name)

        def child(sys):
            says("child", lambda: sys.nanosleep(10**12))

        exec_program(lambda sys, argv, envp: says("parent", lambda: sys.vfork(child)))
        msleep(1)

    run(init)
    assert sorted(log) == ["child", "parent"]
