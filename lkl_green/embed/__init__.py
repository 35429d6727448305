"""A kernel inside an event loop: asyncio, with uvloop or without, and trio.

    async with embed.running(kernel) as k:
        result = await k.call(function, argument)      # a kernel thread

In kernel threads, `embed.await_(something)` waits for what the loop awaits.

Where things are, each part using those below it:

    running, worker_thread, guest     a kernel for the time of a block; on an OS thread; step by step in other loops
    handle, streams                   what the block is given: `Embedded`, its threads, streams and iterators
    embedding                         attach, the driver's task, halt, detach
    call_runner, thread_pool,         calls into the kernel: the task that makes one, the kernel threads that run
    kernel_call                       them, the call itself
    from_kernel, await_task,          what kernel threads ask of the loop: `await_()`, the tasks that await for
    trampoline                        them, `async def` thread functions
    driver                            slices, and the messages between kernel and loop
    idle_sleep, slice_budget,         when the next slice runs, and how long it may take
    doorbell
    backend, on_asyncio, on_trio      the event loops
"""

from lkl_green.embed.from_kernel import await_ as await_
from lkl_green.embed.from_kernel import to_host_thread as to_host_thread
from lkl_green.embed.guest import Guest as Guest
from lkl_green.embed.handle import Embedded as Embedded
from lkl_green.embed.handle import KernelThread as KernelThread
from lkl_green.embed.running import running as running
from lkl_green.embed.streams import KernelIterator as KernelIterator
from lkl_green.embed.streams import KernelStream as KernelStream
from lkl_green.embed.worker_thread import ThreadedKernel as ThreadedKernel
from lkl_green.embed.worker_thread import in_thread as in_thread
