"""Which functions get points, how they are found, and that everything is put back."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green.cli import main
from lkl_green.testing import explore
from lkl_green.testing.instrument.instrumented import instrumented

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

BANK = """
    import functools

    class Account:
        def __init__(self): self.balance = 100
        @property
        def empty(self): return self.balance == 0
        @staticmethod
        def static(account): return account.balance
        @classmethod
        def of(cls, other): return other.balance

    def decorated(function):
        @functools.wraps(function)
        def wrapper(*args): return function(*args)
        return wrapper

    @decorated
    def wrapped(account): return account.balance

    @functools.lru_cache
    def cached(account): return account.balance

    first, second = lambda a: a.balance, lambda b: b.balance
    table = {"get": lambda c: c.balance}

    def untouched(): return 1

    def test():
        import threading
        account = Account()
        def withdraw():
            if account.balance >= 70:
                account.balance -= 70
        threads = [threading.Thread(target=withdraw) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert account.balance >= 0
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Writes a module and imports it; both are gone afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def make(name: str, source: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def codes_of(bank: Any) -> list[Any]:
    functions = [
        *(bank.Account.__init__, bank.Account.empty.fget, bank.Account.static, bank.Account.of.__func__),
        *(bank.wrapped.__wrapped__, bank.cached.__wrapped__, bank.first, bank.second, bank.table["get"], bank.test),
    ]
    return [function.__code__ for function in functions]


def test_all_kinds_of_functions_get_points_and_give_them_back(write: Any) -> None:
    bank = write("bank", BANK)
    before, untouched = codes_of(bank), bank.untouched.__code__
    for _ in range(2):
        with instrumented(bank.test) as points:
            meanwhile = codes_of(bank)
            assert all(old is not new for old, new in zip(before, meanwhile, strict=True))
            assert [code.co_firstlineno for code in meanwhile] == [code.co_firstlineno for code in before]
            assert not points.left_out
            assert "bank.py" in points.summary()
            with instrumented(bank.test) as again:  # twice: nothing happens
                assert codes_of(bank) == meanwhile
                assert not again.left_out
        assert codes_of(bank) == before
        assert bank.untouched.__code__ is untouched


def test_what_is_not_its_source_is_left_out(write: Any) -> None:
    bank = write("bank", BANK)
    file = Path(bank.__file__)
    file.write_text(file.read_text().replace("self.balance = 100", "self.balance = 99"))
    with instrumented(bank.test) as points:
        left_out = "\n".join(points.left_out)
        assert "Account.__init__ (bank.py): it is not what its source says" in left_out
        assert "Account.of " not in left_out


def test_a_module_without_its_source_is_left_out_loudly(write: Any) -> None:
    bank = write("bank", BANK)
    Path(bank.__file__).unlink()
    report = explore(bank.test, threads=True, schedules=5)
    assert any("no points in ordinary code" in warning for warning in report.warnings)


def test_what_a_test_exchanges_itself_stays_as_it_is(write: Any) -> None:
    bank = write("bank", BANK)
    replacement = bank.untouched.__code__
    with instrumented(bank.test):
        bank.first.__code__ = replacement
    assert bank.first.__code__ is replacement


def test_modules_imported_meanwhile_get_points_and_nothing_is_cached_on_disk(write: Any, tmp_path: Path) -> None:
    write("other", "def f(a): return a.b\n")
    del sys.modules["other"]
    test = write("bank", BANK).test
    with instrumented(test):
        other = importlib.import_module("other")
        rewritten = other.f.__code__
        assert type(other.__spec__.loader).__name__ == "SourceFileLoader"
    assert other.f.__code__ is not rewritten
    del sys.modules["other"]
    assert importlib.import_module("other").f.__code__ == other.f.__code__, "the cached code is the plain one"


def test_only_the_project_and_what_was_asked_for_get_points(write: Any, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'the-bank'\n")
    (tmp_path / "site-packages" / "the_bank").mkdir(parents=True)
    (tmp_path / "site-packages" / "the_bank" / "__init__.py").write_text("def installed(a): return a.b\n")
    (tmp_path / "site-packages" / "library.py").write_text("def asked(a): return a.b\n")
    sys.path.append(str(tmp_path / "site-packages"))
    try:
        bank, the_bank, library = write("bank", BANK), *map(importlib.import_module, ("the_bank", "library"))
        write("test_other", "def test(a): return a.b\n")
        with instrumented(bank.test) as points:
            assert {Path(file).name for file in points.accesses} == {"bank.py", "__init__.py"}
        with instrumented(bank.test, ["library"]) as points:
            assert library.__file__ in points.accesses
            assert the_bank.__file__ in points.accesses
    finally:
        sys.path.remove(str(tmp_path / "site-packages"))


def test_the_command_line_finds_it_in_two_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "account.py").write_text(dedent(BANK))
    (tmp_path / "test_account.py").write_text("from account import test as body\n\ndef test_it():\n    body()\n")
    monkeypatch.chdir(tmp_path)
    command = ["explore", "--threads", "--no-shrink", "--schedules=20"]
    assert main([*command, "test_account.py::test_it"]) == 1
    told = capsys.readouterr().out
    assert "points in account.py, test_account.py: " in told
    assert "Account.balance" in told
    assert main([*command, "--points=sync", "test_account.py::test_it"]) == 0
