"""The application owns the loop: `while True: lkl_run(); pause()`.

    python examples/05_plain_loop.py

`lkl_run()` runs kernel threads until there is nothing left to do, and then *returns*. It says when the next timer is
due. What the application does meanwhile is its own affair; `pause()` sleeps until an interrupt comes or that time is
reached. In virtual time it does not sleep but moves the clock, so that this program takes no time at all; leave out
`clock="virtual"` to see it wait.
"""

from __future__ import annotations

from lkl_green import RunReason, lkl_start_kernel
from lkl_green.linux import kthread_run, kthread_stop, msleep


def walk(name: str, pace_ms: int, steps: int) -> None:
    for step in range(1, steps + 1):
        msleep(pace_ms)
        print(f"  kernel: {name} makes step {step}")


def init() -> str:
    walkers = [
        kthread_run(walk, "the hare", 100, 4, name="hare"),
        kthread_run(walk, "the tortoise", 250, 2, name="tortoise"),
    ]
    for walker in walkers:
        kthread_stop(walker)
    return "both have arrived"


def main() -> None:
    kernel = lkl_start_kernel(init, clock="virtual")
    while True:
        status = kernel.lkl_run()
        if status.reason is RunReason.HALTED:
            break
        print(f"application: the kernel has nothing to do until {(status.next_event_ns or 0) / 1e9:.3f} s")
        kernel.pause(status)
    print(f"application: {kernel.init_result}")


if __name__ == "__main__":
    main()
