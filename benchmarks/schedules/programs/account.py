"""account: the balance is right only if it is looked at between the deposit and the withdrawal, or never."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn


def account() -> None:
    m = Mutex(name="m")
    x, y, z = Shared(1, "x"), Shared(2, "y"), Shared(4, "z")
    balance = Shared(1, "balance")
    deposited, withdrawn = Shared(False, "dd"), Shared(False, "wd")

    def check() -> None:
        with m:
            if deposited.value and withdrawn.value:
                assert balance.value == (x.value - y.value) - z.value

    def deposit() -> None:
        with m:
            balance.value = balance.value + y.value
            deposited.value = True

    def withdraw() -> None:
        with m:
            balance.value = balance.value - z.value
            withdrawn.value = True

    join([spawn(check), spawn(deposit), spawn(withdraw)])


PROGRAMS = (Program("account", "account", account),)
