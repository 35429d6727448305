"""CPython's own tests of threads, run as programs of a kernel: which, how, and what came of them.

python tests/green/tests_of_cpython.py --write     brings this interpreter's column of the table up to date
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
import unittest
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lkl_green import lkl_start_kernel
from lkl_green.green import as_main, green_threads
from lkl_green.testing import explore

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "threads-conformance.md"
VERSION = ".".join(map(str, sys.version_info[:3]))
LIMIT_S = 20.0  # for one test, on the wall; in virtual time they take milliseconds

# What is taken from each module, and what that is.
MODULES = {
    "test.test_threading": "Thread, Lock, RLock, Condition, Event, Semaphore, Barrier (`lock_tests`), Timer, hooks",
    "test.test_thread": "`_thread`: start_new_thread, locks, joinable threads",
    "test.test_queue": "Queue, LifoQueue, PriorityQueue, SimpleQueue",
    "test.test_threading_local": "threading.local",
    "test.test_sched": "sched.scheduler",
    "test.test_concurrent_futures": "the next six, which up to Python 3.11 are one module",
    "test.test_concurrent_futures.test_thread_pool": "ThreadPoolExecutor",
    "test.test_concurrent_futures.test_as_completed": "as_completed",
    "test.test_concurrent_futures.test_wait": "wait",
    "test.test_concurrent_futures.test_future": "Future",
    "test.test_concurrent_futures.test_init": "initializers of pools",
    "test.test_concurrent_futures.test_shutdown": "the end of pools",
    "test.test_asyncio.test_locks": "asyncio: Lock, Event, Condition, Semaphore, Barrier",
    "test.test_asyncio.test_queues": "asyncio: queues",
    "test.test_asyncio.test_runners": "asyncio.run, Runner",
    "test.test_asyncio.test_timeouts": "asyncio.timeout",
    "test.test_asyncio.test_taskgroups": "asyncio.TaskGroup",
    "test.test_asyncio.test_threads": "asyncio.to_thread",
}


def is_one_here(module: str) -> bool:
    """Whether this version has it as one module: the tests of concurrent.futures became a package in 3.12."""
    if not module.startswith("test.test_concurrent_futures"):
        return True
    return (module == "test.test_concurrent_futures") == (sys.version_info < (3, 12))


# Tests that are not run: a pattern of their names, and why. The first that fits counts.
RULES = (
    (r"ProcessPool|InitializerResources|Fork(Server)?Test|TestForkInThread", "processes"),
    (r"InterruptMain|SIG[A-Z]|[Ss]ignal|test_interrupt|sigint|without_uncancel", "signals"),
    (r"Subinterp|Interpreter", "subinterpreters"),
    (r"CSimpleQueueTest", "a second copy of the C module `_queue`, loaded by the test, waits in C"),
    (r"SetAsyncExc", "an exception is set in an OS thread by its ident"),
    (r"test__all__|disallow_instantiation|no_subclass|test_signature", "asks for the C types themselves"),
    (r"test_foreign_thread|ident_of_no_threading", "looks into threading._active, where OS threads stand"),
    (
        r"limbo_cleanup|test_tstate_lock|test_shutdown_locks|duplicate_handle",
        "looks into how CPython starts OS threads",
    ),
    (r"ThreadTests\.test_name", "replaces threading._counter; names are counted in each kernel"),
    (r"recursion_limit", "the recursion limit of an OS thread"),
    (r"test_(change|set)_name", "the name of an OS thread"),
)

# A call of the kind that a kernel thread must not make: the refusal is the expected outcome.
_PROCESS = re.compile(r"calls (Popen|os\.fork|os\.\w*spawn\w*|BaseProcess\.start)\(\)")


class Outcomes(NamedTuple):
    """What came of one module's tests."""

    passed: list[str]
    failed: dict[str, str]
    skipped: dict[str, str]

    def __str__(self) -> str:
        return f"{len(self.passed)} passed, {len(self.skipped)} skipped"


def tests_of(module: str) -> list[unittest.TestCase]:
    """All test cases of a module. Raises ImportError where the interpreter was installed without it."""
    return list(_flat(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))))


def _flat(suite: Any) -> Iterator[Any]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _flat(test)
        else:
            yield test


def reason_to_skip(name: str) -> str:
    """Why a test is not run; empty if it is."""
    return next((reason for pattern, reason in RULES if re.search(pattern, name)), "")


def run_module(module: str) -> Outcomes:
    """Run a module's tests, each in a kernel of its own, in virtual time."""
    outcomes = Outcomes([], {}, {})
    tests = tests_of(module)
    with green_threads():
        for test in tests:
            name = test.id().removeprefix(f"{module}.")
            reason = reason_to_skip(name)
            if reason:
                outcomes.skipped[name] = reason
            else:
                _note(outcomes, name, *run_test(test))
    return outcomes


def run_all() -> dict[str, Outcomes | None]:
    """All modules; None for one that the interpreter was installed without."""
    found: dict[str, Outcomes | None] = {}
    for module in filter(is_one_here, MODULES):
        try:
            found[module] = run_module(module)
        except ModuleNotFoundError:
            found[module] = None
    return found


def explore_locks(schedules: int) -> dict[str, str]:
    """Run the tests of locks and their kin under random schedules; what failed. Their sleeps say who waits by then."""
    failed = {}
    for test in tests_of("test.test_threading"):
        name = test.id()
        if reason_to_skip(name) or not re.search(r"(Lock|Event|Condition|Semaphore|Barrier)Tests", name):
            continue
        report = explore(partial(_run_in_schedule, test), policy="random", schedules=schedules, threads=True)
        if not report.passed:
            failed[name] = f"{report.outcome}: {report.reason} {[failure.error for failure in report.failures]}"
    return failed


def _run_in_schedule(test: unittest.TestCase) -> None:
    result = unittest.TestResult()
    test.run(result)
    problems = [text for _, text in result.failures + result.errors]
    if problems:
        raise AssertionError(problems[0])


def _note(outcomes: Outcomes, name: str, result: unittest.TestResult, error: str) -> None:
    if result.skipped:
        outcomes.skipped[name] = "skips itself"
    elif _PROCESS.search(error):
        outcomes.skipped[name] = "processes"
    elif error:
        outcomes.failed[name] = error
    else:
        outcomes.passed.append(name)


def run_test(test: unittest.TestCase) -> tuple[unittest.TestResult, str]:
    """Run one test; its result, and what went wrong."""
    result = unittest.TestResult()
    kernel = lkl_start_kernel(as_main(lambda: test.run(result)), clock="virtual", loglevel=0, watchdog_s=LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            while not kernel.halted:
                kernel.pause(kernel.lkl_run(budget_ns=10**9))
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{test.id()} did not end; it is at\n{kernel.dump_stacks()}")
        except (Exception, KeyboardInterrupt) as error:  # that of Ctrl-C comes out of lkl_run()
            return result, f"{type(error).__name__}: {error}"
        finally:
            kernel.lkl_sys_halt()
    problems = [text for _, text in result.failures + result.errors]
    return result, "\n".join(problems)


# -- the page


def table_cell(module: str, version: str = VERSION) -> str:
    """What the page says about a module in this version; empty if it says nothing."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    header = next(line for line in lines if line.startswith("| module |"))
    columns = [cell.strip() for cell in header.split("|")]
    if version not in columns:
        return ""
    row = next((line for line in lines if line.startswith(f"| `{module}` |")), "")
    return row.split("|")[columns.index(version)].strip() if row else ""


def write_column() -> None:
    """Run everything and bring this version's column up to date."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("| module |"))
    columns = [cell.strip() for cell in lines[header].split("|")]
    column = columns.index(VERSION)
    found = run_all()
    for module in MODULES:
        outcomes = found.get(module)
        cell = str(outcomes) if outcomes else "not installed" if is_one_here(module) else ""
        number = next(number for number, line in enumerate(lines) if line.startswith(f"| `{module}` |"))
        cells = lines[number].split("|")
        cells[column] = f" {cell} "
        lines[number] = "|".join(cells)
        print(module, cell)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write_column()
    elif sys.argv[1:2] == ["--explore"]:
        print()
        print(json.dumps(explore_locks(int(sys.argv[2]))))
    else:
        found = run_all()
        print()
        print(json.dumps({module: outcomes and outcomes._asdict() for module, outcomes in found.items()}))
