"""What is explored may hold locks that no module holds: a fixture's, one of a namespace that `exec()` filled."""

from __future__ import annotations

import functools
import threading
from threading import Lock, Thread

import pytest

from lkl_green.testing import Outcome, explore, schedules

NATIVE = type(threading.Lock())


class Account:
    """It checks, and takes later."""

    def __init__(self):
        self.lock = Lock()
        self.balance = 100

    def withdraw(self, amount):
        with self.lock:
            enough = self.balance >= amount
        if enough:
            with self.lock:
                self.balance -= amount


@pytest.fixture
def account():
    return Account()


def withdraw_twice(account):
    account.balance = 100
    threads = [Thread(target=account.withdraw, args=(70,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account.balance >= 0


def bound(account):
    return lambda: withdraw_twice(account)


def partial(account):
    return functools.partial(withdraw_twice, account)


def keyword(account):
    return functools.partial(withdraw_twice, account=account)


def method(account):
    account.test = lambda: withdraw_twice(account)
    return functools.partial(getattr, account)("test")


def executed(account):
    namespace = {"__name__": "nowhere", "account": account, "withdraw_twice": withdraw_twice}
    exec("def test():\n    withdraw_twice(account)", namespace)
    return namespace["test"]


@pytest.mark.parametrize("make", [bound, partial, keyword, method, executed])
def test_locks_of_fixtures_are_scheduling_points(account, make):
    lock = account.lock
    report = explore(make(account), threads=True)
    assert report.outcome is Outcome.FAILED
    assert account.lock is lock
    assert type(lock) is NATIVE


def test_the_decorator_passes_fixtures_on(account):
    explored = schedules(200, threads=True, shrink=False)(withdraw_twice)
    with pytest.raises(AssertionError, match="failed"):
        explored(account)


def test_names_of_a_namespace_that_is_no_module_are_found():
    namespace = {"__name__": "nowhere"}
    exec(
        "from threading import Lock, Thread\n"
        "def test():\n"
        "    balance, lock = [100], Lock()\n"
        "    def withdraw():\n"
        "        with lock: enough = balance[0] >= 70\n"
        "        if enough:\n"
        "            with lock: balance[0] -= 70\n"
        "    threads = [Thread(target=withdraw) for _ in range(2)]\n"
        "    for thread in threads: thread.start()\n"
        "    for thread in threads: thread.join()\n"
        "    assert balance[0] >= 0\n",
        namespace,
    )
    assert explore(namespace["test"], threads=True).outcome is Outcome.FAILED
    assert namespace["Lock"] is Lock
