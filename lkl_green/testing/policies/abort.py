"""Ending a schedule from inside a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

from lkl_green.kernel.current import current_kernel

if TYPE_CHECKING:
    from lkl_green.testing.run import Verdict


@runtime_checkable
class Aborts(Protocol):
    """What a policy asks of the controller."""

    def abort(self, verdict: Verdict, detail: str) -> NoReturn:
        """End the schedule."""


def abort_schedule(verdict: Verdict, detail: str) -> NoReturn:
    """End the present schedule here. Raises ScheduleAborted, which takes the running task out of its frames."""
    controller = current_kernel().sched.policy
    assert isinstance(controller, Aborts)
    controller.abort(verdict, detail)
