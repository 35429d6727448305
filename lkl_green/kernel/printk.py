"""The kernel's log (kernel/printk): a ring of messages, and a console that shows the important ones."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lkl_green.host.clock import Clock
    from lkl_green.host.ops import HostOps

(
    KERN_EMERG,
    KERN_ALERT,
    KERN_CRIT,
    KERN_ERR,
    KERN_WARNING,
    KERN_NOTICE,
    KERN_INFO,
    KERN_DEBUG,
) = range(8)

LOG_CAPACITY = 8192


class LogRecord(NamedTuple):
    """One line of the log; `level` is KERN_*, `time_ns` on the kernel's clock."""

    level: int
    time_ns: int
    text: str

    def __str__(self) -> str:
        seconds, ns = divmod(self.time_ns, 1_000_000_000)
        return f"[{seconds:5d}.{ns // 1000:06d}] {self.text}"


class Printk:
    """The log of one kernel.

    Args:
        host: whose `print` operation is the console.
        clock: time stamps; reading it here takes no virtual time.
        loglevel: messages of a lower level number are shown on the console.

    Attributes:
        records: the ring, oldest first.
        tainted: how many oopses and warnings there have been.
    """

    def __init__(self, host: HostOps, clock: Clock, loglevel: int = KERN_DEBUG) -> None:
        self._host = host
        self._clock = clock
        self.console_loglevel = loglevel
        self.records: deque[LogRecord] = deque(maxlen=LOG_CAPACITY)
        self.tainted = 0

    def printk(self, text: str, level: int = KERN_INFO, console: bool = True) -> None:
        """Log a message; each of its lines becomes a record. Without `console` it is in the log only."""
        now = self._clock.peek_ns()
        for line in text.rstrip("\n").split("\n"):
            record = LogRecord(level, now, line)
            self.records.append(record)
            if console and level < self.console_loglevel:
                self._show(record)

    def _show(self, record: LogRecord) -> None:
        """Print a record; a console that fails gets no more, as a log that raised would take down whoever logs."""
        try:
            self._host.print(f"{record}\n")
        except Exception:
            self.console_loglevel = 0

    def err(self, text: str) -> None:
        """Log an error."""
        self.printk(text, KERN_ERR)

    def warn(self, text: str) -> None:
        """Log a warning of the kind Linux's WARN() gives, and taint the kernel."""
        self.tainted += 1
        self.printk(f"WARNING: {text}", KERN_WARNING)

    def text(self) -> str:
        """The log as `dmesg` prints it."""
        return "".join(f"{record}\n" for record in self.records)
