"""What a test may say of its schedule before the schedule ends."""

from __future__ import annotations

from lkl_green.kernel.current import current_kernel
from lkl_green.testing.controller import Controller
from lkl_green.testing.detect.ending import verdict_of


def note_failure(error: BaseException) -> None:
    """Let a schedule fail with an exception that has not left the test yet.

    What the test still does, such as its tear-down, goes on under the same schedule. If that blocks, the schedule has
    failed all the same, with this exception and not with a deadlock.
    """
    run = _controller().run
    if run.passed:
        run.verdict, run.error = verdict_of(error), error


def nothing_decided() -> bool:
    """Whether the schedule had nothing to decide so far: every schedule begins like this."""
    return not _controller().trail


def _controller() -> Controller:
    policy = current_kernel().sched.policy
    assert isinstance(policy, Controller), "this is for tests that are explored"
    return policy
