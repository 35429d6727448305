"""Signals under many schedules: the race that sigsuspend() is for is found, and sigsuspend() has it not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel.signum import SIG_BLOCK, SIGUSR1
from lkl_green.linux import SIGCHLD, current_kernel, kernel_execve, kernel_thread, kernel_wait4
from lkl_green.testing import explore, spawn

if TYPE_CHECKING:
    from collections.abc import Callable


def signalled_while_it_prepares(wait: Callable[[Any, list[bool]], None]) -> Callable[[], None]:
    """A process that waits for a signal in its own way, and somebody who sends it at any moment."""

    def story() -> None:
        came: list[bool] = []

        def main(sys: Any, argv: list[str], envp: dict[str, str]) -> None:
            sys.sigaction(SIGUSR1, lambda sys, sig: came.append(True))
            ready.append(True)
            wait(sys, came)

        def send() -> None:
            while not ready:
                kernel.sys.sched_yield()
            kernel.sys.kill(pid, SIGUSR1)

        ready: list[bool] = []
        kernel = current_kernel()
        kernel.register_program("/bin/waiter", main)
        pid = kernel_thread(lambda _: kernel_execve("/bin/waiter"), None, SIGCHLD)
        sender = spawn(send)
        assert kernel_wait4(pid)[1] == 0
        sender.join()
        assert came == [True]

    return story


def careless(sys: Any, came: list[bool]) -> None:
    if not came:
        sys.sched_yield()  # whatever a program does between looking and waiting
        sys.pause()


def careful(sys: Any, came: list[bool]) -> None:
    sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
    if not came:
        sys.sched_yield()
        sys.sigsuspend()


def test_a_signal_between_looking_and_waiting_is_lost_and_found() -> None:
    report = explore(signalled_while_it_prepares(careless), schedules=200, seed=1)
    assert report.failure is not None
    assert report.failure.verdict.value == "deadlock"


def test_sigsuspend_looks_and_waits_in_one() -> None:
    report = explore(signalled_while_it_prepares(careful), schedules=200, seed=1)
    assert report.passed, report.text()
