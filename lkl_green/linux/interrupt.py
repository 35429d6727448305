"""Interrupts, softirqs and tasklets: <linux/interrupt.h>, <linux/irqflags.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.softirq import Tasklet
from lkl_green.kernel.task import SOFTIRQ_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable


def request_irq(irq: int, handler: Callable[[int], object], name: str) -> None:
    """Handle an interrupt. Raises OSError: EINVAL, EBUSY."""
    current_kernel().irq.request_irq(irq, handler, name)


def free_irq(irq: int, name: str) -> None:
    """Stop handling it. Raises OSError(EINVAL)."""
    current_kernel().irq.free_irq(irq, name)


def irq_expect(irq: int) -> None:
    """Say that a host thread was given work that will end in this interrupt."""
    current_kernel().irq.irq_expect(irq)


def in_interrupt() -> bool:
    """Whether an interrupt handler or a softirq runs."""
    return current_kernel().sched.current.preempt_count >= SOFTIRQ_OFFSET


def local_irq_save() -> bool:
    """Disable interrupts; the previous state."""
    return current_kernel().irq.local_irq_save()


def local_irq_restore(flags: bool) -> None:
    """Restore it; pending interrupts run if that enables them (rule 69)."""
    current_kernel().irq.local_irq_restore(flags)


def local_irq_disable() -> None:
    """Disable interrupts."""
    current_kernel().irq.local_irq_save()


def local_irq_enable() -> None:
    """Enable interrupts; pending ones run."""
    current_kernel().irq.local_irq_restore(False)


def local_bh_disable() -> None:
    """Keep softirqs from running here."""
    current_kernel().softirq.local_bh_disable()


def local_bh_enable() -> None:
    """Let them run again."""
    current_kernel().softirq.local_bh_enable()


def cpu_relax() -> None:
    """For busy-wait loops: deliver pending interrupts, that of the timer among them (rule 72).

    A little virtual time passes, as in UML; or a loop that waits for a timer would never end.
    """
    kernel = current_kernel()
    kernel.timers.now_ns()
    kernel.irq.local_irq_restore(kernel.irq.local_irq_save())


def tasklet(func: Callable[[], object]) -> Tasklet:
    """A tasklet that calls `func()` (rule 124), of the current kernel, or of the first to use it if none runs."""
    return Tasklet(None, func)
