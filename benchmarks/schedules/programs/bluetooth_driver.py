"""bluetooth_driver: a request that has been let in finds the driver stopped."""

from __future__ import annotations

from benchmarks.schedules.program import Program
from benchmarks.schedules.programs.shared import join
from lkl_green.linux import Mutex
from lkl_green.testing import Shared, spawn


def bluetooth_driver() -> None:
    atomic = Mutex(name="atomic")
    pending = Shared(1, "pendingIo")
    stopping, event, stopped = Shared(False, "stoppingFlag"), Shared(False, "stoppingEvent"), Shared(False, "stopped")

    def decrement() -> None:
        with atomic:
            pending.value -= 1
            left = pending.value
        if left == 0:
            event.value = True

    def add() -> None:
        status = 0
        if stopping.value:
            status = -1
        else:
            with atomic:
                pending.value += 1
        if status == 0:
            assert not stopped.value
        decrement()

    def stop() -> None:
        stopping.value = True
        decrement()
        if event.value:
            stopped.value = True

    stopper = spawn(stop)
    add()
    join([stopper])


PROGRAMS = (Program("bluetooth_driver", "bluetooth_driver", bluetooth_driver),)
