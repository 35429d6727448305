"""A kernel inside an event loop: asyncio, with uvloop or without, and trio.

    async with embed.running(kernel) as k:
        result = await k.call(function, argument)      # a kernel thread

In kernel threads, `embed.await_(something)` waits for what the loop awaits.
"""

from lkl_green.embed.awaiting import await_ as await_
from lkl_green.embed.awaiting import to_host_thread as to_host_thread
from lkl_green.embed.guest import Guest as Guest
from lkl_green.embed.handle import Embedded as Embedded
from lkl_green.embed.handle import KernelThread as KernelThread
from lkl_green.embed.running import running as running
from lkl_green.embed.streams import KernelIterator as KernelIterator
from lkl_green.embed.streams import KernelStream as KernelStream
from lkl_green.embed.worker_thread import ThreadedKernel as ThreadedKernel
from lkl_green.embed.worker_thread import in_thread as in_thread
