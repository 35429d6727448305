"""Interrupts, softirqs and tasklets: <linux/interrupt.h>, <linux/irqflags.h>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.softirq import Tasklet
from lkl_green.kernel.task import SOFTIRQ_OFFSET

if TYPE_CHECKING:
    from collections.abc import Callable


def request_irq(irq: int, handler: Callable[[int], object], name: str, flags: int = 0, dev_id: object = None) -> None:
    """Call `handler(irq)` for each interrupt with this number.

    Args:
        irq: the number, from `lkl_get_free_irq()`.
        handler: the function to call; it must not sleep.
        name: shown in traces and messages.
        flags: IRQF_SHARED if the line may have other handlers that say the same; else it has one.
        dev_id: what `free_irq()` finds this handler by; the name if left out.

    Raises:
        OSError: EBUSY if the line has a handler and not both share it; EINVAL for a number out of range.
        TypeError: `irq` is not an integer, or `handler` is not a plain function.
    """
    current_kernel().irq.request_irq(irq, handler, name, flags, dev_id)


def free_irq(irq: int, dev_id: object = None) -> None:
    """Remove a handler: the one with this `dev_id`, or this name if it was requested without.

    Both may be left out for the only handler of a line. Raises OSError(EINVAL) if there is no such handler.
    """
    current_kernel().irq.free_irq(irq, dev_id)


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
    """Let them run again. Raises KernelBug if they were not disabled here."""
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
