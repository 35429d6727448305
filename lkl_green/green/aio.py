"""asyncio in a kernel thread: an event loop that sleeps in the kernel.

An event loop waits in one place, `selector.select(timeout)`. `KernelSelector` asks the real selector what is ready, and
if nothing is, sleeps in the kernel: under a virtual clock, time jumps to the loop's next timer. What can make it ready
meanwhile is another kernel thread that uses a socket, `call_soon_threadsafe()` with its self-pipe above all; each such
use makes the selectors of the kernel look again. With a real clock, the world outside may do it, too, and the selector
looks again every few milliseconds.

asyncio keeps the running loop as a property of the OS thread, in C, and from CPython 3.14 on its current task, too,
which was found by its loop before. With loops in several kernel threads they have to follow the greenlet: as long as
there is a loop, a trace function of the greenlets swaps them at each switch.
"""

from __future__ import annotations

import selectors
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import greenlet

from lkl_green.green.waiter import Waiter, limit_ns, rest
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkl_green.kernel.kernel import Kernel

_POLL_NS = 2_000_000  # how often the outside world is looked at, with a real clock

native_default_selector: Any = selectors.DefaultSelector
_native_select = native_default_selector.select

# Who sleeps in a selector, per kernel.
_sleepers: WeakKeyDictionary[Kernel, list[Waiter]] = WeakKeyDictionary()


def selector_maker(on_loop: Callable[[Any], object] | None = None) -> Callable[[], Any]:
    """What stands for `selectors.DefaultSelector`: in a kernel thread it makes one that sleeps in the kernel.

    Args:
        on_loop: called with each asyncio loop when it first waits in such a selector while scheduling points have a
            listener, that is, in each schedule of a campaign.
    """

    def default_selector() -> Any:
        return native_default_selector() if running_here.kernel is None else KernelSelector(on_loop)

    return default_selector


def poll_again(kernel: Kernel) -> None:
    """A socket was used: whoever sleeps in a selector of this kernel looks again."""
    for waiter in _sleepers.get(kernel, ()):
        if not waiter.released:
            waiter.release()


class KernelSelector(native_default_selector):  # type: ignore[misc]
    """The default selector; waiting in it is sleeping in the kernel.

    Args:
        on_loop: see `selector_maker()`.

    Attributes:
        loop: the event loop that waits in it, where `on_loop` was told of it; for reports.
        latency_ns: how much later than asked for a wait with a timeout ends, under a virtual clock.
    """

    def __init__(self, on_loop: Callable[[Any], object] | None = None) -> None:
        super().__init__()
        self.loop: Any = None
        self.latency_ns = 0
        self._on_loop = on_loop
        # asyncio has been imported if it is asyncio that makes this.
        self._follow = _RunningLoops.start() if "asyncio.events" in sys.modules else None

    def select(self, timeout: float | None = None) -> Any:
        """What is ready, after at most `timeout` s (selectors.BaseSelector.select)."""
        kernel = running_here.kernel
        if kernel is None:
            return _native_select(self, timeout)
        listener = kernel.sched.listener
        if listener is not None:
            if self._on_loop is not None:
                self._tell_loop(self._on_loop)
            listener("sleep", None)  # before the look: what becomes ready after it must find us asleep
        ready = _native_select(self, 0)
        if ready or (timeout is not None and timeout <= 0):
            if listener is None:
                rest(kernel)
            return ready
        self._sleep(kernel, limit_ns(timeout))
        return _native_select(self, 0)

    def _tell_loop(self, on_loop: Callable[[Any], object]) -> None:
        """The running loop, if it is this selector's, has now what is needed to run."""
        events: Any = sys.modules.get("asyncio.events")
        loop = None if events is None else events._get_running_loop()
        if getattr(loop, "_selector", None) is self:
            self._on_loop = None
            self.loop = loop
            on_loop(loop)

    def _sleep(self, kernel: Kernel, timeout_ns: int | None) -> None:
        if not kernel.clock.is_virtual:
            timeout_ns = _POLL_NS if timeout_ns is None else min(timeout_ns, _POLL_NS)
        elif timeout_ns is not None:
            timeout_ns += self.latency_ns
        waiters = _sleepers.setdefault(kernel, [])
        waiter = Waiter(kernel, self)
        waiters.append(waiter)
        try:
            waiter.wait(timeout_ns)
        finally:
            waiters.remove(waiter)

    def close(self) -> None:
        """Close it, and stop following its loop."""
        super().close()
        self.loop = None
        if self._follow is not None:
            self._follow.stop()
            self._follow = None

    def __repr__(self) -> str:
        return f"<event loop's selector of {len(self.get_map() or ())} descriptors>"


_NO_LOOP = (None, None)


def _keep_task(_loop: object, _task: object) -> None:
    """Before CPython 3.14 the current task is found by its loop, which nobody else runs."""


class _RunningLoops:
    """The running loop of each greenlet that is switched out, on one OS thread, and its current task.

    Attributes:
        users: how many selectors are open.
    """

    def __init__(self, outer: Callable[..., Any] | None) -> None:
        from asyncio import events, tasks

        any_tasks: Any = tasks
        self.users = 0
        self._outer = outer
        self._left: dict[Any, tuple[Any, Any]] = {}
        self._get: Callable[[], Any] = events._get_running_loop
        self._set: Callable[[Any], None] = events._set_running_loop
        self._swap_task: Callable[[Any, Any], Any]
        self._swap_task = any_tasks._swap_current_task if sys.version_info >= (3, 14) else _keep_task

    @classmethod
    def start(cls) -> _RunningLoops:
        """Follow the switches of this OS thread, once however many loops there are."""
        tracer = greenlet.gettrace()
        follow = getattr(tracer, "__self__", None)
        if not isinstance(follow, _RunningLoops):
            follow = cls(tracer)
            greenlet.settrace(follow.switched)
        follow.users += 1
        return follow

    def stop(self) -> None:
        """One loop fewer."""
        self.users -= 1
        if not self.users and greenlet.gettrace() == self.switched:
            greenlet.settrace(self._outer)

    def switched(self, event: str, args: tuple[Any, Any]) -> None:
        """Called by greenlet after each switch, in the greenlet that was switched to."""
        origin, target = args
        loop = self._get()
        if loop is not None:
            self._left[origin] = loop, self._swap_task(loop, None)
        wanted, task = self._left.pop(target, _NO_LOOP)
        if wanted is not loop:
            self._set(wanted)
        if task is not None:
            self._swap_task(wanted, task)
        if self._outer is not None:
            self._outer(event, args)
