"""A first kernel thread: start it, let it work, stop it.

    lkl-green run examples/01_first_kernel_thread.py

`init` is the function of process 1. When it returns, the kernel powers off. It starts a kernel thread that blinks an
LED until somebody asks it to stop. Both are straight-line code: `msleep()` puts one thread to sleep, and the kernel
runs whoever else has something to do. Each printed line begins with the kernel's time.
"""

from __future__ import annotations

from lkl_green.linux import kthread_run, kthread_should_stop, kthread_stop, msleep, printk


def blink(led: str) -> int:
    """Switch the LED on and off; how often it was switched."""
    switched = 0
    while not kthread_should_stop():
        switched += 1
        printk(f"{led} {'on' if switched % 2 else 'off'}")
        msleep(100)
    return switched


def init() -> None:
    blinker = kthread_run(blink, "LED0", name="blink/%s")
    printk(f"started {blinker.comm}, pid {blinker.pid}")
    msleep(450)
    # kthread_stop() sets the flag, wakes the thread, waits for its end, and returns what its function returned.
    switched = kthread_stop(blinker)
    printk(f"it was switched {switched} times")
