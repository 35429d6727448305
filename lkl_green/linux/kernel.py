"""Messages, and the end of it all: <linux/kernel.h>, <linux/reboot.h>."""

from __future__ import annotations

from typing import NoReturn

from lkl_green.errors import TaskExit
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.printk import KERN_INFO


def printk(text: str, level: int = KERN_INFO) -> None:
    """Log a message."""
    current_kernel().printk.printk(text, level)


def WARN_ON(condition: object, text: str = "") -> bool:  # noqa: N802
    """Log a warning if the condition holds; whether it does."""
    if condition:
        current_kernel().printk.warn(text or "WARN_ON")
    return bool(condition)


def panic(text: str) -> NoReturn:
    """Stop the kernel: the current task ends, `lkl_run()` raises KernelPanic."""
    current_kernel().panic(text)
    raise TaskExit(1)


def kernel_power_off() -> None:
    """Halt the kernel as soon as the current task gives up the CPU."""
    current_kernel().power_off()
