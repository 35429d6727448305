"""What the kernel answers the LKL CPU when it is put (see `lkl_green.arch.lkl_cpu`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lkl_green.arch.semaphore import SemaphoreArch
from lkl_green.kernel.task import HARDIRQ_MASK, SOFTIRQ_MASK

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel


class Hooks:
    """The kernel's answers to the LKL CPU."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def irqs_disabled(self) -> bool:
        """Whether the current task has interrupts disabled."""
        return self._kernel.sched.current.irqs_disabled

    def in_interrupt(self) -> bool:
        """Whether an interrupt handler or a softirq runs."""
        return bool(self._kernel.sched.current.preempt_count & (HARDIRQ_MASK | SOFTIRQ_MASK))

    def run_irqs(self) -> None:
        """Run the handlers of pending interrupts."""
        self._kernel.irq.deliver()

    def current_thread_flags(self) -> int:
        """TIF_* bits of the current task."""
        return self._kernel.sched.current.thread_flags

    def single_task_running(self) -> bool:
        """Whether no task but the current one is runnable."""
        return self._kernel.sched.is_idle()

    def thread_sched_jb(self) -> None:
        """Let the runnable tasks go first."""
        arch = self._kernel.arch
        assert isinstance(arch, SemaphoreArch)
        arch.thread_sched_jb()
