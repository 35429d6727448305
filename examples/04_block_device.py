"""A block device: an OS thread does the reading, kernel threads do the thinking.

    lkl-green run examples/04_block_device.py FILE [BLOCK_SIZE [WORKERS]]

    OS thread                    interrupt handler            kernel threads
    reads a block of the file    completes the request  --->  worker/N: waits for its block, computes its CRC-32
    raises an interrupt  ----->                               init: feeds SHA-256, block by block, in order

Kernel code never blocks in a system call of the host, because that would stop every kernel thread. What has to block is
left to an OS thread, which raises an interrupt when it is done. `irq_expect()` says that this will happen: in virtual
time the kernel then waits for it before it lets time pass, so that a run does not depend on how fast the disk is.

The SHA-256 at the end is the one that `sha256sum FILE` prints. `--loglevel 8` shows each block's CRC-32.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections import deque
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING

from lkl_green.linux import (
    KERN_DEBUG,
    KERN_ERR,
    Completion,
    Semaphore,
    WaitQueueHead,
    current_kernel,
    free_irq,
    irq_expect,
    kthread_run,
    kthread_stop,
    printk,
    request_irq,
    wait_event,
    wake_up,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# How many blocks may be under way: asked for, or read and not hashed yet.
DEPTH = 8


class Bio:
    """One request: a block to read (Linux: struct bio)."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.data = b""
        self.error: Exception | None = None
        self.done = Completion(name=f"read of block {number}")


class Disk:
    """A block device and its driver."""

    def __init__(self, path: str, block_size: int) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._block_size = block_size
        self._kernel = current_kernel()
        self._submitted: SimpleQueue[Bio | None] = SimpleQueue()
        self._finished: deque[Bio] = deque()
        self._irq = self._kernel.lkl_get_free_irq("disk")
        request_irq(self._irq, self._interrupt, "disk")
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def read(self, number: int) -> bytes:
        """Read a block; the calling kernel thread sleeps meanwhile."""
        bio = Bio(number)
        irq_expect(self._irq)
        self._submitted.put(bio)
        bio.done.wait_for_completion()
        if bio.error is not None:
            raise bio.error
        return bio.data

    def close(self) -> None:
        """Send the OS thread home."""
        self._submitted.put(None)
        self._thread.join()
        free_irq(self._irq, "disk")
        os.close(self._fd)

    def _interrupt(self, irq: int) -> None:
        """In the kernel: interrupts that come close together are one, so take whatever is finished."""
        while self._finished:
            self._finished.popleft().done.complete()

    def _work(self) -> None:
        """On an OS thread of its own, outside the kernel."""
        while (bio := self._submitted.get()) is not None:
            try:
                bio.data = os.pread(self._fd, self._block_size, bio.number * self._block_size)
            except Exception as error:  # for whoever asked; without an interrupt he would wait for ever
                bio.error = error
            self._finished.append(bio)
            self._kernel.lkl_trigger_irq(self._irq)


class Checksum:
    """The blocks on their way from the disk through the workers to the one who hashes them in order."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._numbers: Iterator[int] = count()
        self._room = Semaphore(DEPTH, name="room")
        self._ready: dict[int, bytes] = {}
        self._arrived = WaitQueueHead(name="arrived")

    def work(self, worker: int) -> int:
        """Thread function of a worker; how many blocks it has read."""
        for blocks in count():
            # First the room, then the number: so the lowest block that is not there yet always has room.
            self._room.down()
            number = next(self._numbers)
            data = self._disk.read(number)
            printk(f"worker/{worker}: block {number}, {len(data)} bytes, CRC-32 {zlib.crc32(data):08x}", KERN_DEBUG)
            self._ready[number] = data
            wake_up(self._arrived)
            if not data:
                self._room.up()
                return blocks
        raise AssertionError("count() has ended")

    def sha256(self) -> str:
        """Hash the blocks in their order, up to the end of the file, which is an empty block."""
        digest = hashlib.sha256()
        for number in count():
            wait_event(self._arrived, lambda wanted=number: wanted in self._ready)
            data = self._ready.pop(number)
            if not data:
                break
            digest.update(data)
            self._room.up()
        return digest.hexdigest()


def init(path: str = __file__, block_size: str = "4096", workers: str = "3") -> int:
    size, nr_workers = int(block_size), int(workers)
    if min(size, nr_workers) < 1:
        printk("BLOCK_SIZE and WORKERS are numbers from 1 on", KERN_ERR)
        return 1
    try:
        disk = Disk(path, size)
    except OSError as error:
        printk(f"{path}: {error.strerror}", KERN_ERR)
        return 1
    try:
        checksum = Checksum(disk)
        tasks = [kthread_run(checksum.work, number, name="worker/%d") for number in range(nr_workers)]
        digest = checksum.sha256()
        for task in tasks:
            printk(f"blocks read by {task.comm}: {kthread_stop(task)}")
    finally:
        disk.close()
    print(f"{digest}  {path}")
    return 0
