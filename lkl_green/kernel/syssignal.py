"""The system calls of signals as methods that raise OSError: what a libc keeps in its signal.h.

Sets of signals are Python sets here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.kernel import unistd
from lkl_green.kernel.signum import SigAction, signals_in, sigset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.kernel.signum import Handler


class SignalCalls:
    """Methods for the `sys` of a process."""

    def _call(self, nr: int, *params: Any) -> int:
        raise NotImplementedError

    def sigaction(self, sig: int, handler: Handler, flags: int = 0, mask: Iterable[int] = ()) -> SigAction:
        """Say what is to be done about a signal; what was done before.

        Args:
            sig: the signal.
            handler: SIG_DFL, SIG_IGN, or a function. It is called as `handler(sys, sig)` when the process returns
                from the kernel; the system call that it interrupted raises InterruptedError afterwards.
            flags: SA_RESTART starts such calls again where that can be done, not those that sleep for a time or wait
                for descriptors; SA_NODEFER, SA_RESETHAND; SA_NOCLDWAIT for SIGCHLD.
            mask: signals that are blocked besides this one while the handler runs.

        Raises:
            OSError: EINVAL for SIGKILL, SIGSTOP, no signal, or unknown flags; EFAULT for another handler.
        """
        before = SigAction()
        self._call(unistd.NR_rt_sigaction, sig, SigAction(handler, flags, sigset(mask)), before)
        return before

    def sigprocmask(self, how: int, signals: Iterable[int] = ()) -> set[int]:
        """Change the thread's mask with SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK; the set that was blocked before.

        Raises OSError(EINVAL) for another `how`, or a number that is no signal.
        """
        before: list[int] = []
        self._call(unistd.NR_rt_sigprocmask, how, sigset(signals), before)
        return set(signals_in(before[0]))

    def sigpending(self) -> set[int]:
        """Which blocked signals were sent to the thread or its process."""
        found: list[int] = []
        self._call(unistd.NR_rt_sigpending, found)
        return set(signals_in(found[0]))

    def sigsuspend(self, signals: Iterable[int] = ()) -> None:
        """Wait for a signal while the mask is another one; returns when its handler has."""
        self._wait(unistd.NR_rt_sigsuspend, sigset(signals))

    def pause(self) -> None:
        """Wait for a signal; returns when its handler has."""
        self._wait(unistd.NR_pause)

    def _wait(self, nr: int, *params: int) -> None:
        try:
            self._call(nr, *params)
        except InterruptedError:
            return
