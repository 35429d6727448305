"""Stepping: the application regains control at every task switch.

    python examples/06_step_by_step.py

With `RunUntil.SWITCH`, `lkl_run()` runs one kernel thread up to its next switch and returns. So the application
decides, switch by switch, when the kernel goes on: between two frames of an animation, under a debugger, or never. The
kernel still decides *which* thread runs.
"""

from __future__ import annotations

from lkl_green import RunReason, RunUntil, lkl_start_kernel
from lkl_green.linux import Completion, kthread_create, schedule, wake_up_process


def count(name: str, rounds: int, done: Completion) -> None:
    for number in range(rounds):
        print(f"    {name} {number}")
        schedule()
    done.complete()


def init() -> int:
    done = Completion(name="done")
    # Both are made before either is woken, so that they take turns.
    counters = [kthread_create(count, name, 3, done, name=name) for name in ("left", "right")]
    for counter in counters:
        wake_up_process(counter)
    for _ in counters:
        done.wait_for_completion()
    return len(counters)


def main() -> None:
    kernel = lkl_start_kernel(init)
    steps = 0
    while (status := kernel.lkl_run(until=RunUntil.SWITCH)).reason is not RunReason.HALTED:
        steps += 1
        print(f"step {steps}: {status.reason.value}")
    print(f"halted; init returned {kernel.init_result}")


if __name__ == "__main__":
    main()
