"""The block device inside trio: example 20 with another loop, and a time limit around it.

    python examples/21_trio.py [FILE [BLOCK_SIZE [WORKERS]]]

It needs trio (`pip install trio`). Cancelling is trio's: the second run is cut off by `move_on_after()`. Its kernel
threads are taken down wherever they sleep, their `finally` blocks run, and the block of `running()` is left with
nothing behind it.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import trio

from lkl_green import lkl_start_kernel
from lkl_green.embed import running
from lkl_green.linux import msleep

program = runpy.run_path(str(Path(__file__).with_name("20_asyncio.py")))["program"]


def sleeper() -> None:
    try:
        msleep(3_600_000)
    finally:
        print("the sleeper is taken down")


async def main() -> None:
    await program(*sys.argv[1:])
    kernel = lkl_start_kernel()
    with trio.move_on_after(0.05) as scope:
        async with running(kernel) as k:
            await k.call(sleeper)
    print(f"cancelled: {scope.cancelled_caught}, halted: {kernel.halted}")


if __name__ == "__main__":
    trio.run(main)
