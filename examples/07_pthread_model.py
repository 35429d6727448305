"""The same kernel on the pthread model: other contexts, same behaviour.

    python examples/07_pthread_model.py

The Linux Kernel Library gives each kernel thread an OS thread and lets a semaphore decide which of them may run. The
same `init` is run both ways here. It notes on which OS threads its kernel threads find themselves, which is the whole
difference. The two traces, of all switches, wake-ups and timers, are equal.
"""

from __future__ import annotations

from threading import get_ident

from lkl_green import format_trace, lkl_start_kernel
from lkl_green.linux import Mutex, kthread_run, kthread_stop, msleep


def philosopher(number: int, left: Mutex, right: Mutex) -> int:
    """Eat twice, with two forks; the OS thread this ran on."""
    for _ in range(2):
        with left, right:
            msleep(10 + number)
        msleep(5)
    return get_ident()


def init(seats: str = "5") -> set[int]:
    forks = [Mutex(name=f"fork{number}") for number in range(int(seats))]
    diners = []
    for number in range(len(forks)):
        # Everybody takes the fork with the lower number first, so nobody waits in a circle.
        pair = sorted((number, (number + 1) % len(forks)))
        diners.append(kthread_run(philosopher, number, forks[pair[0]], forks[pair[1]], name="philosopher/%d"))
    return {kthread_stop(diner) for diner in diners}


def dine(host: str) -> str:
    """Run init on a kind of host; the trace."""
    kernel = lkl_start_kernel(init, host=host, clock="virtual", trace=True)
    os_threads = kernel.run()
    trace = format_trace(kernel.trace_stop())
    print(f"host={host!r}: 5 kernel threads on {len(os_threads)} OS thread{'s' * (len(os_threads) > 1)}")
    return trace


def main() -> None:
    greenlets = dine("greenlet")
    threads = dine("thread")
    print("the traces are equal" if greenlets == threads else "the traces differ")


if __name__ == "__main__":
    main()
