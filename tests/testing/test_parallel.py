"""Campaigns in several processes, threads and machines: the same report, whoever did the work."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sharing

from lkl_green.errors import NotParallel
from lkl_green.testing import Outcome, Verdict, explore
from lkl_green.testing.campaign import CHUNK
from lkl_green.testing.policies import Policy, make_policy, policy_makers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lkl_green.testing import Report

SCHEDULES = 2500


def spawning() -> ProcessPoolExecutor:
    """Processes that share nothing with this one."""
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@contextmanager
def dask() -> Iterator[Executor]:
    """A cluster on this machine."""
    distributed = pytest.importorskip("distributed", reason="dask is in the dependency group 'cluster'")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


EXECUTORS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": spawning,
    "dask": dask,
}


def facts(report: Report) -> tuple[object, ...]:
    """All of a report but the time it took."""
    failures = [(failure.number, failure.headline(), failure.schedule.dumps()) for failure in report.failures]
    return report.outcome, report.reason, report.schedules, report.steps, failures


ALL = [sharing.passes, sharing.fails_often, sharing.fails_rarely, sharing.fails_by_chance]


@pytest.mark.parametrize("test", ALL, ids=lambda test: test.__name__)
def test_any_number_of_processes_gives_the_same_report(test: Callable[[], None]) -> None:
    alone = facts(explore(test, schedules=SCHEDULES, seed=3))
    assert facts(explore(test, schedules=SCHEDULES, seed=3, jobs=3)) == alone


@pytest.mark.parametrize("name", EXECUTORS)
def test_any_executor_gives_the_same_report(name: str) -> None:
    with EXECUTORS[name]() as executor:
        for test in (sharing.passes, sharing.fails_rarely):
            alone = facts(explore(test, schedules=SCHEDULES))
            assert facts(explore(test, schedules=SCHEDULES, executor=executor)) == alone


@pytest.mark.parametrize("policy", [name for name, make in policy_makers().items() if not make().systematic])
def test_every_policy_that_samples_can_be_shared(policy: str) -> None:
    count = 3 * CHUNK + 7
    alone = facts(explore(sharing.fails_rarely, policy=policy, schedules=count, stop_on_failure=False))
    shared = facts(explore(sharing.fails_rarely, policy=policy, schedules=count, stop_on_failure=False, jobs=2))
    assert shared == alone


def test_all_failures_are_found_in_order() -> None:
    report = explore(sharing.fails_often, schedules=2 * CHUNK, jobs=2, stop_on_failure=False)
    numbers = [failure.number for failure in report.failures]
    assert len(numbers) > 1
    assert numbers == sorted(numbers)
    assert report.schedules == 2 * CHUNK


CLOSURE = """
import sharing
from lkl_green.testing import explore

threads = 2
print(explore(lambda: sharing.count(threads) and None, jobs=2, schedules=64).outcome.value)
"""


def test_a_closure_is_forked_into_the_workers() -> None:
    """In a process of its own: a worker of xdist has other threads."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here.parents[1], here)))}
    done = subprocess.run(
        [sys.executable, "-c", CLOSURE], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("passed\n", "")


def test_exceptions_that_cannot_travel_need_not() -> None:
    report = explore(sharing.raises_what_cannot_be_pickled, jobs=2)
    assert report.failure is not None
    assert report.failure.headline().endswith("Odd")


def test_with_other_threads_about_workers_are_spawned_and_closures_refused() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait, args=(60,))
    other.start()
    try:
        assert explore(sharing.fails_often, schedules=300, jobs=2).outcome is Outcome.FAILED
        with pytest.raises(NotParallel, match=r"other threads.*cannot be forked.*cannot be sent"):
            explore(lambda: None, jobs=2)
    finally:
        done.set()
        other.join()


def test_an_executor_needs_a_test_that_can_be_imported() -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(NotParallel, match="at the top of a module"):
        explore(lambda: None, executor=executor)


@pytest.mark.parametrize("how", ["jobs", "executor"])
def test_a_search_cannot_be_shared(how: str) -> None:
    searches = [name for name, make in policy_makers().items() if make().systematic]
    assert searches
    for name in searches:
        executor = ThreadPoolExecutor(1) if how == "executor" else None
        with pytest.raises(NotParallel, match=f"policy '{name}' searches"):
            explore(sharing.passes, policy=name, jobs=2 if how == "jobs" else 1, executor=executor)


def test_a_policy_object_is_not_shared_between_threads() -> None:
    policy = make_policy("pos")
    alone = facts(explore(sharing.fails_rarely, policy="pos", schedules=SCHEDULES))
    with ThreadPoolExecutor(3) as executor:
        assert facts(explore(sharing.fails_rarely, policy=policy, schedules=SCHEDULES, executor=executor)) == alone
    assert isinstance(pickle.loads(pickle.dumps(policy)), Policy)


# -- limits and accidents: never a pass


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_time_budget_that_is_used_up_is_incomplete(jobs: int) -> None:
    report = explore(sharing.takes_long, schedules=10_000, time_budget=[0.5, 4.0][jobs - 1], jobs=jobs)
    assert (report.outcome, report.reason) == (Outcome.INCOMPLETE, "the time budget was used up")
    assert 0 < report.schedules < 1000


def test_a_time_budget_holds_in_an_executor_too() -> None:
    with ThreadPoolExecutor(2) as executor:
        report = explore(sharing.takes_long, schedules=10_000, time_budget=0.5, executor=executor)
    assert report.outcome is Outcome.INCOMPLETE
    assert 0 < report.schedules < 100


def test_a_worker_that_dies_makes_it_incomplete_and_is_named() -> None:
    report = explore(sharing.kills_its_process, schedules=10_000, jobs=2)
    assert report.outcome is Outcome.INCOMPLETE
    assert "a worker process ended with exit code 7; it had schedules " in report.reason


class BrokenExecutor(Executor):
    """A cluster that has lost its workers."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("no workers"))
        return future


def test_an_executor_that_fails_makes_it_incomplete() -> None:
    report = explore(sharing.passes, executor=BrokenExecutor())
    assert report.outcome is Outcome.INCOMPLETE
    assert report.reason == f"the executor failed at schedules 0 to {CHUNK - 1}: RuntimeError: no workers"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"schedules": 0}, "schedules=0: with none, nothing would be tested"),
        ({"jobs": 0}, "jobs=0: at least one process"),
        ({"time_budget": 0.0}, "time_budget=0.0: seconds, more than 0"),
    ],
)
def test_numbers_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        explore(sharing.passes, **options)


# -- Ctrl-C in the first moments


EARLY = """
import multiprocessing, os, signal, sys, threading
from multiprocessing import util
import interrupted
from lkl_green.testing import explore

def to_all():
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    when = sys.argv[1]
    if when == "worker":  # before it runs anything of ours
        util.register_after_fork(interrupted, lambda _: os.kill(os.getpid(), signal.SIGINT))
    elif when == "parent":  # where an exception is ignored
        os.register_at_fork(after_in_parent=to_all)
    elif when == "spawned":
        threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
    try:
        print(explore(interrupted.passes, schedules=64, jobs=2).outcome.value)
    except KeyboardInterrupt:
        print("interrupted", len(multiprocessing.active_children()))
"""
INTERRUPTED = """
import multiprocessing, os, signal
if multiprocessing.current_process().name != "MainProcess":
    os.kill(os.getpid(), signal.SIGINT)

def passes():
    pass
"""


def run_early(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a session of its own, so that a signal for the process group is for nobody else."""
    (directory / "interrupted.py").write_text(INTERRUPTED)
    (directory / "early.py").write_text(EARLY)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parents[2], directory))),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )


@pytest.mark.parametrize("when", ["worker", "spawned"])
def test_a_worker_is_deaf_to_ctrl_c_from_its_first_instruction(tmp_path: Path, when: str) -> None:
    done = run_early(tmp_path, "early.py", when)
    assert (done.stdout, done.stderr) == ("exhausted\n", "")


def test_ctrl_c_while_workers_start_interrupts_and_leaves_none_behind(tmp_path: Path) -> None:
    done = run_early(tmp_path, "early.py", "parent")
    assert (done.stdout, done.stderr) == ("interrupted 0\n", "")


INTERRUPTED_SESSION = """
import os, signal
import pytest

@pytest.fixture(autouse=True, scope="module")
def early():
    os.register_at_fork(after_in_parent=lambda: os.killpg(0, signal.SIGINT))

@pytest.mark.schedules(10000, jobs=2)
def test_first():
    pass

def test_never():
    pass
"""


def test_ctrl_c_while_workers_start_stops_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_early.py").write_text(INTERRUPTED_SESSION)
    done = run_early(
        tmp_path, "-m", "pytest", "-p", "lkl_green.pytest_plugin", "-p", "no:cacheprovider", "test_early.py"
    )
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout
    assert "no tests ran" in done.stdout


def test_workers_end_when_whoever_started_them_is_killed() -> None:
    """Each of them forked with the others' pipes open."""
    killed = """
import multiprocessing, os, signal, time
from lkl_green.testing import explore

def killed(progress):
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

explore(lambda: time.sleep(0.01), schedules=10000, jobs=2, on_progress=killed)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(  # returns when nobody has its standard output open any more
        [sys.executable, "-c", killed], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    workers = done.stdout.split()
    assert len(workers) == 2, done.stderr


# -- progress


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_is_told_now_and_then(jobs: int) -> None:
    told: list[Any] = []
    report = explore(sharing.takes_long, schedules=40, jobs=jobs, on_progress=told.append, time_budget=60)
    assert report.passed
    assert told
    assert [progress.schedules for progress in told] == sorted(progress.schedules for progress in told)
    assert all(progress.total == 40 and progress.budget_s == 60 for progress in told)
    assert told[0]._replace(schedules=30, elapsed_s=2.0).rate == 15
    assert str(told[0]._replace(schedules=30, elapsed_s=2.0)) == "30 of 40 schedules, 15/s, 2 of 60 s"


def test_threads_are_replaced_in_every_worker() -> None:
    alone = explore(sharing.deadlocks, threads=True)
    assert alone.failure is not None
    assert alone.failure.verdict is Verdict.DEADLOCK
    assert facts(explore(sharing.deadlocks, threads=True, jobs=2)) == facts(alone)
    assert type(threading.Lock()).__module__ == "_thread"
