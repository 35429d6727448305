"""The wait queue of a file: tasks that sleep, and watchers that are told.

Linux puts both on one list of entries with a function each; the function of a sleeping task wakes it, that of an epoll
item puts the item on a ready list. Here the tasks stay in the dicts of `WaitQueueHead`, which know no functions and so
cost a sleeper nothing, and the watchers stand beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lkl_green.kernel.task import TASK_NORMAL
from lkl_green.kernel.wait import WaitQueueHead

if TYPE_CHECKING:
    from lkl_green.kernel.kernel import Kernel

ANY_EVENT = 0xFFFF_FFFF


class Watcher(Protocol):
    """Whoever wants to hear of changes without sleeping; called in the context of the one who makes the change."""

    def file_changed(self, events: int) -> object:
        """What is watched may have become ready for `events`; must not sleep.

        True of an exclusive watcher: somebody will deal with it, and no other exclusive one need be told.
        """

    def file_released(self) -> None:
        """What is watched is gone, and the watcher is off its list."""


class FileWaitQueue(WaitQueueHead):
    """A wait queue that watchers can join (Linux: wait_queue_head_t with wake-up functions and keys).

    Args:
        kernel: the kernel it belongs to; the current one if left out. Bound at first use if no kernel runs.
        name: shown in `repr` and deadlock reports.
    """

    __slots__ = ("_watchers",)

    def __init__(self, kernel: Kernel | None = None, name: str = "") -> None:
        super().__init__(kernel, name)
        self._watchers: dict[Watcher, bool] | None = None  # made when somebody watches; the value: exclusively

    def untie(self) -> None:
        """Forget watchers, too: they are of the same kernel."""
        super().untie()
        self._watchers = None

    def add_watcher(self, watcher: Watcher, exclusive: bool = False) -> None:
        """Tell it of each change from now on; exclusive ones are told in turn until one of them deals with it."""
        if self._watchers is None:
            self._watchers = {}
        self._watchers[watcher] = exclusive

    def remove_watcher(self, watcher: Watcher) -> None:
        """Tell it nothing more; no harm if it is not there."""
        if self._watchers is not None:
            self._watchers.pop(watcher, None)

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """Who watches."""
        return tuple(self._watchers or ())

    def wake_up(self, nr_exclusive: int = 1, states: int = TASK_NORMAL) -> int:
        """Tell the watchers that anything may be ready, and wake tasks as `WaitQueueHead.wake_up()` does."""
        if self._watchers:
            self._tell(ANY_EVENT, nr_exclusive)
        return super().wake_up(nr_exclusive, states)

    def wake_up_poll(self, events: int, nr_exclusive: int = 1) -> int:
        """Wake, and let watchers know for what (Linux: wake_up_poll()); how many tasks were asleep.

        A wake-up for EPOLLOUT does not make an edge-triggered EPOLLIN come again. It is part of a primitive, such as
        the write that made a file readable, and no scheduling point of its own.
        """
        if self._watchers:
            self._tell(events, nr_exclusive)
        if self._waiters or self._exclusive:
            return self.do_wake_up(nr_exclusive)
        return 0

    def release_watchers(self) -> None:
        """What is watched is gone: take every watcher off and tell it."""
        watchers, self._watchers = self._watchers, None
        for watcher in watchers or ():
            watcher.file_released()

    def _tell(self, events: int, nr_exclusive: int) -> None:
        for watcher, exclusive in list((self._watchers or {}).items()):
            if exclusive and nr_exclusive <= 0:
                continue
            if watcher.file_changed(events) and exclusive:
                nr_exclusive -= 1
