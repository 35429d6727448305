"""Signals as both sides of a system call know them: numbers, sets, actions, and what `wait4()` says of the dead.

Numbers are those of x86-64 (asm/signal.h), whatever the host's are. A set of signals is an int, as `sigset_t` is one.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    # What a process does about a signal: SIG_DFL, SIG_IGN, or a function of its `sys` and the number.
    Handler = int | Callable[[Any, int], object]

SIGHUP = 1
SIGINT = 2
SIGQUIT = 3
SIGABRT = 6
SIGKILL = 9
SIGUSR1 = 10
SIGSEGV = 11
SIGUSR2 = 12
SIGPIPE = 13
SIGALRM = 14
SIGTERM = 15
SIGCHLD = 17
SIGCONT = 18
SIGSTOP = 19
SIGTSTP = 20
SIGTTIN = 21
SIGTTOU = 22
SIGURG = 23
SIGWINCH = 28
NSIG = 64

IGNORED_BY_DEFAULT = frozenset((SIGCHLD, SIGCONT, SIGURG, SIGWINCH))  # SIG_KERNEL_IGNORE_MASK
STOPPING_BY_DEFAULT = frozenset((SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))  # SIG_KERNEL_STOP_MASK

SIG_DFL = 0
SIG_IGN = 1

SIG_BLOCK = 0
SIG_UNBLOCK = 1
SIG_SETMASK = 2

SA_NOCLDSTOP = 0x1
SA_NOCLDWAIT = 0x2
SA_RESTART = 0x1000_0000
SA_NODEFER = 0x4000_0000
SA_RESETHAND = 0x8000_0000
SA_KNOWN = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_RESTART | SA_NODEFER | SA_RESETHAND


def check_signal(sig: int) -> int:
    """The number, if it is a signal's. Raises OSError(EINVAL)."""
    if not 0 < sig <= NSIG:
        raise OSError(errno.EINVAL, f"{sig} is not a signal")
    return sig


def sigset(signals: Iterable[int]) -> int:
    """A set of signals. Raises OSError(EINVAL) for a number that is none."""
    mask = 0
    for sig in signals:
        mask |= 1 << check_signal(sig) - 1
    return mask


def signals_in(mask: int) -> Iterator[int]:
    """The signals of a set, in order."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length()
        mask ^= lowest


UNBLOCKABLE = sigset((SIGKILL, SIGSTOP))


class SigAction:
    """What a process does about a signal (struct sigaction).

    Args:
        handler: SIG_DFL, SIG_IGN or a function, called as `handler(sys, sig)`.
        flags: SA_RESTART, SA_NODEFER, SA_RESETHAND, SA_NOCLDWAIT, SA_NOCLDSTOP.
        mask: the set of signals that are blocked besides while it runs.
    """

    __slots__ = ("flags", "handler", "mask")

    def __init__(self, handler: Handler = SIG_DFL, flags: int = 0, mask: int = 0) -> None:
        self.handler = handler
        self.flags = flags
        self.mask = mask

    def set(self, other: SigAction) -> None:
        """Become the same as another one."""
        self.handler, self.flags, self.mask = other.handler, other.flags, other.mask

    def __repr__(self) -> str:
        return f"<SigAction {self.handler!r} flags={self.flags:#x} mask={self.mask:#x}>"


class TermSignal(int):
    """The exit code of a process that a signal has ended: the signal's number, told from the same number by its type.

    `sys.wait4()` and `kernel_wait4()` return it where another process has an exit code (WIFSIGNALED(), WTERMSIG()).
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"TermSignal({int(self)})"


def exit_byte(code: int) -> int:
    """The low byte of a process's exit code, which is what everybody who waits for it sees (Linux: sys_exit())."""
    return code & 0xFF


def wait_status(code: Any) -> Any:
    """The status word of an exit code: the code in the second byte, or the signal in the low seven bits.

    What a kernel thread left that is not a number is its own status.
    """
    if isinstance(code, TermSignal):
        return int(code)
    if code is None:
        return 0
    return (code & 0xFF) << 8 if isinstance(code, int) else code


def exit_code_of(status: Any) -> Any:
    """The exit code of a status word, a TermSignal if a signal ended the process."""
    if not isinstance(status, int):
        return status
    return TermSignal(status & 0x7F) if status & 0x7F else status >> 8
