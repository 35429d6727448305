"""Fixtures and set-up of marked tests: anew in each schedule, in its main thread, and always torn down."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from in_pytest import LOAD, in_this_process, make_environment_plain

import lkl_green.testing  # noqa: F401 - or each run would import it anew, for pytester puts sys.modules back

if TYPE_CHECKING:
    from in_pytest import Pytest

pytest_plugins = ["pytester"]

ACCOUNT = """
    import os, threading, unittest
    import pytest

    pytestmark = pytest.mark.schedules(100)

    class Account:
        def __init__(self):
            self.balance = 100
            self.lock = threading.Lock()

        def withdraw(self, amount):
            with self.lock:
                seen = self.balance
            with self.lock:
                if seen >= amount:
                    self.balance -= amount

    def both(account, amount=70):
        threads = [threading.Thread(target=account.withdraw, args=[amount]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert account.balance >= 0

    @pytest.fixture
    def account():
        return Account()
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    make_environment_plain(monkeypatch)


@pytest.fixture
def run(pytester: pytest.Pytester) -> Pytest:
    """run(text, *args, ini=""): pytest on a file test_it.py, in this process."""
    return in_this_process(pytester, ACCOUNT)


@pytest.fixture
def run_outside(pytester: pytest.Pytester) -> Pytest:
    """The same in a process of its own, which can fork workers whatever threads this process has."""

    def run(text: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=dedent(ACCOUNT) + dedent(text))
        return pytester.runpytest_subprocess(*LOAD, timeout=60)

    return run


# -- a race behind each kind of set-up is found by default options


RACES = {
    "fixture": "def test_it(account): both(account)",
    "setup_method": """
        class TestIt:
            def setup_method(self): self.account = Account()
            def test_it(self): both(self.account)
    """,
    "fixture_of_a_class": """
        class TestIt:
            @pytest.fixture(autouse=True)
            def fill(self): self.account = Account()
            def test_it(self): both(self.account)
    """,
    "unittest": """
        class TestIt(unittest.TestCase):
            def setUp(self): self.account = Account()
            def tearDown(self): del self.account
            def test_it(self): both(self.account)
    """,
    "subtest": """
        class TestIt(unittest.TestCase):
            def setUp(self): self.account = Account()
            def test_it(self):
                with self.subTest("both"):
                    both(self.account)
    """,
    "setup_function": """
        def setup_function(): global shared; shared = Account()
        def test_it(): both(shared)
    """,
    "yielding": """
        @pytest.fixture
        def opened(account):
            yield account
            account.balance = "closed"
        def test_it(opened): both(opened)
    """,
    "starting_a_thread": """
        @pytest.fixture
        def busy(account):
            thread = threading.Thread(target=account.withdraw, args=[70])
            thread.start()
            yield account
            thread.join()
        def test_it(busy):
            busy.withdraw(70)
            assert busy.balance >= 0
    """,
    "built_in": """
        def test_it(account, tmp_path, monkeypatch, capsys):
            (tmp_path / "new").mkdir()
            monkeypatch.setenv("NEW", "1")
            print("new")
            assert capsys.readouterr().out == "new\\n"
            both(account)
    """,
    "dynamic": """
        def test_it(request): both(request.getfixturevalue("account"))
    """,
    "parametrized": """
        @pytest.fixture(params=[10, 70])
        def amount(request): return request.param
        def test_it(account, amount): both(account, amount)
    """,
    "of_a_wider_scope_put_back": """
        @pytest.fixture(scope="module")
        def shared(): return Account()
        @pytest.fixture
        def fresh(shared):
            shared.balance = 100
            yield shared
            shared.balance = 100
        def test_it(fresh): both(fresh)
    """,
    "decorated": """
        from lkl_green.testing import schedules
        @schedules(100)
        def test_it(account): both(account)
    """,
}


@pytest.mark.parametrize("kind", RACES)
def test_a_race_behind_set_up_is_found(run: Pytest, kind: str) -> None:
    result = run(RACES[kind])
    assert result.parseoutcomes().pop("failed", 0) == 1
    result.stdout.fnmatch_lines(["E   *assert* -40 >= 0", "*- schedule -*", "    pytest *test_it.py::*--lkl-replay=*"])


def test_the_schedule_of_a_test_with_fixtures_replays_in_pytest_and_in_no_other_way(
    run: Pytest, pytester: pytest.Pytester
) -> None:
    first = run(RACES["built_in"])
    line = next(line for line in first.outlines if line.startswith("    pytest "))
    again = pytester.runpytest_inprocess(*LOAD, *line.split()[1:])
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["E   *assert* -40 >= 0"])
    schedule = line.partition("=")[2]
    alone = pytester.run(sys.executable, "-m", "lkl_green", "replay", schedule)
    assert alone.ret == 2
    assert line in alone.errlines


# -- how often, where and in which order

ORDER = """
    calls = []

    @pytest.fixture(scope="module")
    def wide():
        calls.append("wide made")
        yield "wide"
        calls.append("wide gone")

    @pytest.fixture
    def first(wide, request):
        assert threading.current_thread() is threading.main_thread()
        calls.append("first made")
        request.addfinalizer(lambda: calls.append("first gone"))

    @pytest.fixture(autouse=True)
    def unasked():
        calls.append("unasked made")
        yield
        calls.append("unasked gone")

    @pytest.fixture
    def second(first):
        calls.append("second made")
        yield
        calls.append("second gone")

    class TestOrder:
        def setup_method(self):
            assert not hasattr(self, "used")
            self.used = True

        @pytest.mark.schedules(schedules=3, threads=True)
        def test_it(self, second):
            calls.append("called")

    def test_what_was_called():
        one = ["unasked made", "first made", "second made", "called", "second gone", "first gone", "unasked gone"]
        # Three schedules, and two of them once more.
        assert calls == ["wide made", *one * 5, "unasked made"]
"""


def test_fixtures_are_finished_in_reverse_order_in_each_schedule_and_wider_ones_stay(run: Pytest) -> None:
    text = ORDER.replace("def test_what", "@pytest.mark.schedules(1, verify=False)\n    def test_what")
    run(text, "-p", "no:randomly").assert_outcomes(passed=2)


def test_nothing_gathers_from_schedule_to_schedule(run: Pytest) -> None:
    run("""
        @pytest.fixture(scope="module")
        def wide(): return ()

        @pytest.fixture
        def marking(request, wide):
            request.applymarker(pytest.mark.usefixtures())

        def test_it(request, marking, caplog, tmp_path):
            import logging
            logging.getLogger().warning("once")
            assert len(caplog.records) == 1
            assert len(list(request.node.iter_markers("usefixtures"))) == 1
            assert not list(tmp_path.iterdir())
            assert {path.name for path in tmp_path.parent.iterdir() if path.is_dir()} == {"test_it0", "test_itcurrent"}
            (tmp_path / "file").write_text("")
            assert len(request._get_active_fixturedef("wide")._finalizers) < 4
    """).assert_outcomes(passed=1)


# -- failures and errors


def test_a_fixture_that_cannot_be_made_is_an_error_and_is_made_once(run: Pytest) -> None:
    result = run("""
        made = []

        @pytest.fixture
        def broken():
            made.append(1)
            raise ValueError("broken")

        def test_it(broken): pass

        def test_skipped(): pytest.skip("not today")

        @pytest.mark.schedules(1, verify=False)
        def test_count(): assert made == [1]
    """)
    result.assert_outcomes(errors=1, skipped=1, passed=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", "E   ValueError: broken"])
    result.stdout.no_fnmatch_line("*- schedule -*")


def test_a_set_up_that_fails_in_some_schedules_is_an_error_with_its_schedule(run: Pytest) -> None:
    result = run("""
        @pytest.fixture
        def raced(account):
            both(account)

        def test_it(raced): pass
    """)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", "E   *assert* -40 >= 0", "*- schedule -*"])


def test_a_tear_down_that_fails_is_an_error_and_a_note_where_the_test_failed_before(run: Pytest) -> None:
    result = run("""
        @pytest.fixture
        def bad_end():
            yield
            raise ValueError("bad end")

        def test_passes(bad_end): pass

        def test_fails(bad_end): raise KeyError("test")
    """)
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_passes*",
            "E   ValueError: bad end",
            "E   KeyError: 'test'",
            "E   and its tear-down failed: ValueError: bad end",
        ]
    )


def test_tear_down_runs_after_failures_deadlocks_and_endless_schedules(run: Pytest) -> None:
    result = run("""
        open_ones = []

        @pytest.fixture
        def opened(monkeypatch):
            assert not open_ones
            monkeypatch.setenv("OPENED", "1")
            open_ones.append(1)
            yield threading.Lock()
            open_ones.clear()

        pytestmark = pytest.mark.schedules(20, threads=True, max_steps=200)

        def test_fails(opened): assert 0

        def test_deadlocks(opened):
            opened.acquire()
            opened.acquire()

        def test_never_ends(opened):
            while True:
                with opened: pass

        def test_it_is_closed():
            assert not open_ones
            assert "OPENED" not in os.environ
    """)
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(["E   assert 0", "deadlock", "livelock"])


def test_a_tear_down_that_blocks_does_not_hide_why_the_test_failed(run: Pytest) -> None:
    result = run("""
        @pytest.fixture
        def worker():
            told = threading.Event()
            thread = threading.Thread(target=told.wait)
            thread.start()
            yield told
            thread.join()

        def test_it(worker):
            assert "heads" == "tails"
            worker.set()
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E   AssertionError: assert 'heads' == 'tails'", "failed: AssertionError: *"])


def test_pytest_fail_is_a_failing_schedule(run: Pytest) -> None:
    result = run("""
        def test_it(account):
            thread = threading.Thread(target=account.withdraw, args=[70])
            thread.start()
            account.withdraw(70)
            thread.join()
            if account.balance < 0:
                pytest.fail("overdrawn")

        def test_raises():
            with pytest.raises(ValueError):
                pass
    """)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E   Failed: overdrawn", "*- schedule -*", "E   Failed: DID NOT RAISE ValueError"])


# -- wider scopes


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_a_fixture_with_a_wider_scope_that_schedules_change_is_named(run: Pytest, scope: str) -> None:
    result = run(f"""
        @pytest.fixture(scope={scope!r})
        def shared():
            return {{"account": Account()}}

        @pytest.mark.schedules(100, points="sync", after_points=False)
        def test_it(shared): both(shared["account"])

        @pytest.mark.schedules(10, verify=False, points="sync", after_points=False)
        def test_unchecked(shared): both(shared["account"])
    """)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "state kept between schedules; none failed in 100 schedules, 2 replayed",
            f"schedules change *fixture 'shared' (scope '{scope}'): *shared[[]'account'].balance was 100 and is 30",
        ]
    )


def test_a_failure_says_so_too(run: Pytest) -> None:
    result = run("""
        @pytest.fixture(scope="module")
        def seen(): return []

        def test_it(seen):
            seen.append(1)
            assert len(seen) < 5
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*schedules change *fixture 'seen' (scope 'module'): len(seen) was 0*"])


# -- processes


def test_each_process_of_a_campaign_makes_fixtures_of_its_own(run_outside: Pytest) -> None:
    result = run_outside("""
        pytestmark = pytest.mark.schedules(200, jobs=2)

        def test_passes(account, tmp_path):
            (tmp_path / "new").mkdir()
            account.withdraw(70)
            assert account.balance == 30

        def test_fails(account): both(account)
    """)
    result.assert_outcomes(passed=1, failed=1)


# -- other plugins


def test_examples_of_hypothesis_have_a_campaign_each(run: Pytest) -> None:
    pytest.importorskip("hypothesis")
    result = run(
        """
        from hypothesis import Phase, given, settings, strategies

        few = settings(max_examples=2, database=None, phases=[Phase.generate])

        @few
        @given(amount=strategies.integers(51, 100))
        def test_it(account, amount):
            assert account.balance == 100
            both(account, amount)

        class TestMethod:
            def setup_method(self): self.balance = 0

            @few
            @given(amount=strategies.integers(1, 10))
            def test_passes(self, account, amount):
                assert (account.balance, self.balance) == (100, 0)
                self.balance = account.balance = amount
        """,
        *["-p", "_hypothesis_pytestplugin", "--no-lkl-shrink"],
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E   *assert* >= 0", "E   Failing test case: *"])


ASYNC = """
    import asyncio
    {imports}
    pytestmark = [pytest.mark.schedules(100), pytest.mark.{mark}]

    @pytest.fixture
    def anyio_backend(): return "asyncio"

    @{fixture}
    async def opened():
        await asyncio.sleep(1)
        yield Account()
        await asyncio.sleep(1)

    async def test_race(opened):
        await asyncio.gather(*(asyncio.to_thread(opened.withdraw, 70) for _ in range(2)))
        assert opened.balance >= 0

    @pytest.mark.schedules(5)
    async def test_deadlock(opened):
        opened.lock.acquire()
        opened.lock.acquire()

    @pytest.mark.schedules(5)
    async def test_right(opened):
        assert opened.balance == 100
        opened.balance = 0
"""


@pytest.mark.parametrize("mark", ["asyncio", "anyio"])
def test_asynchronous_tests_and_fixtures_have_a_loop_in_each_schedule(run: Pytest, mark: str) -> None:
    if mark == "asyncio":
        pytest.importorskip("pytest_asyncio")
        text = ASYNC.format(imports="import pytest_asyncio", mark=mark, fixture="pytest_asyncio.fixture")
        plugin = ["-p", "pytest_asyncio.plugin"]
    else:
        text = ASYNC.format(imports="", mark=mark, fixture="pytest.fixture")
        plugin = ["-p", "anyio.pytest_plugin"]
    ini = "asyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n" if mark == "asyncio" else ""
    # A coroutine of anyio's runner that the deadlock left may be freed after the test.
    plugin += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    result = run(text, *plugin, "--no-lkl-shrink", ini=ini)
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["E   *assert* -40 >= 0", "deadlock"])


def test_a_loop_that_outlives_schedules_is_refused(run: Pytest) -> None:
    pytest.importorskip("pytest_asyncio")
    result = run(
        """
        @pytest.mark.asyncio(loop_scope="module")
        async def test_it(): pass
        """,
        *["-p", "pytest_asyncio.plugin"],
        ini="asyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n",
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*event loop has the scope 'module'*use loop_scope='function'*"])
