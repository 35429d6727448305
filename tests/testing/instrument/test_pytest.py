"""Points in ordinary code under pytest: after its rewriting of assertions, and not on disk."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

import lkl_green.testing.instrument.instrumented  # noqa: F401 - or each run would import it anew

pytest_plugins = ["pytester"]

BANK = """
    class Account:
        def __init__(self): self.balance = 100

        def withdraw(self, amount):
            if self.balance >= amount:
                self.balance -= amount
                return True
"""

TEST = """
    import threading
    import pytest
    from bank import Account

    @pytest.mark.schedules(50, threads=True)
    def test_it():
        account, log = Account(), []
        def withdraw():
            if account.withdraw(70):
                log.append(account.balance)
        threads = [threading.Thread(target=withdraw) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert account.balance >= 0 and len(log) == 1

    def test_plain():
        assert Account().balance == 100
"""

BOX = """
    import threading
    import pytest

    class Box:
        def __init__(self): self.items = []; self.count = 0
        def both(self): return True

    @pytest.mark.schedules(50, threads=True)
    def test_it():
        box = Box()
        def add():
            box.items.append(1)
            box.count += 1
            assert box.count in (1, 2) and not (box.items and box.count == 7)
            assert len(box.items) <= 2 and box.both() and box.items[-1] == 1, "message"
            assert box.items.index(1) == 0 and 1 in box.items
        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert box.count == 2
"""


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, *options: str) -> str:
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-p", "lkl_green.pytest_plugin", *options)
    return result.stdout.str()


def test_messages_have_their_values_and_caches_have_no_points(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    pytester.makepyfile(bank=dedent(BANK), test_bank=dedent(TEST))
    told = run(pytester)
    assert "assert (-40 >= 0" in told
    assert "where -40 = <bank.Account object at" in told
    assert "1 failed, 1 passed" in told
    cached = [file.read_bytes() for file in (pytester.path / "__pycache__").iterdir()]
    assert cached
    assert not any(b"lkl_green point" in code for code in cached)


def test_options_and_configuration_choose_the_points(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(bank=dedent(BANK), test_bank=dedent(TEST))
    assert "2 passed" in run(pytester, "--lkl-points=sync")
    pytester.makeini("[pytest]\nlkl_points = sync\n")
    assert "2 passed" in run(pytester)
    assert "1 failed, 1 passed" in run(pytester, "--lkl-points=memory", "--no-lkl-shrink")


def test_a_schedule_found_without_rewritten_assertions_replays_with_them(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """pytest's rewriting must not change which accesses an assertion makes, nor what they are called."""
    from lkl_green.cli import main

    pytester.makepyfile(test_box=dedent(BOX))
    assert main(["explore", "--no-shrink", "--save=race.json", "test_box.py::test_it"]) == 1
    told = run(pytester, "test_box.py", "--lkl-replay=race.json")
    assert "assert 1 == 2" in told
    assert "does not fit" not in told
