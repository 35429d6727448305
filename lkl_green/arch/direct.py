"""The reviewer's model: a task is a greenlet, and `switch_threads()` is `greenlet.switch()`.

    lkl_run()  --- root ------------------------------------------------------------
                    | first entry          ^ idle            | first entry
                    v                      |                 v
                  carrier 1  --switch-->  carrier 2  --switch--> ...

- *A carrier* is a greenlet that runs one task after another, as a carrier thread runs Java's virtual threads.
- *swapper has no greenlet of its own.* Its context is whoever called `lkl_run()`, here called the root. Switching to
  swapper is returning to that frame.
- *A greenlet is entered for the first time from the root.* Its C stack begins below whoever enters it first. If a task
  entered its child from inside its own `schedule()`, a chain of threads that each start the next would creep up the C
  stack and die after some hundred generations with only one of them alive. So a task that switches to a newborn for
  which no carrier is parked switches to the root, and the root enters it. Every later switch goes straight from task to
  task.
- *Carriers are parked, not thrown away.* Starting a greenlet costs about 50 switches on CPython 3.11 and later (one
  mmap and one munmap of its frame stack). A carrier whose task has ended runs the next newborn, without any switch if
  that is what the scheduler picked, or waits in the pool. Dropped: a greenlet for each task, which made creation twenty
  times as dear; and an unbounded pool, which kept 6 KiB for each of the most tasks there ever were.
- *A dead task does not switch out of a dead stack.* `ret_from_fork` has unwound the task's frames before the carrier
  looks for something else to do.
- *A task is resumed in the greenlet in which it left.* Its code may make greenlets of its own and sleep in them. A
  task's `switch_to` is the bound `switch` of its carrier, until the scheduler finds the task in another greenlet and
  `stack_changed` binds that one's. Dropped: binding it at each switch. `getcurrent().switch` takes a quarter of a bare
  switch, the comparison an eighth. `arch/stacks.py` says what is an error, and what becomes of it.
- *The kernel sends nothing through `greenlet.parent`* but the end of a carrier that the full pool does not want. Then
  the parent is set to the root of that moment, as `lkl_run()` may be called from another greenlet each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from greenlet import GreenletExit, getcurrent, greenlet

from lkl_green.arch.base import Arch, KernelEntry, ThreadInfo
from lkl_green.arch.stacks import is_switched_out, raise_in_base
from lkl_green.host.native import get_ident

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

# A parked carrier keeps about 6 KiB; more than a burst of carriers is not worth keeping.
POOL_LIMIT = 256

# What the root gets from a carrier that has ended; the next task waits to be resumed.
_ENDED = object()

# A greenlet and what resumes it, which is bound once for all the tasks that it will run.
Carrier: TypeAlias = "tuple[greenlet, Callable[[], Any]]"


class DirectArch(Arch):
    """Each kernel thread a greenlet; a context switch is one `greenlet.switch()`."""

    name = "direct"
    releases_threads = False  # a carrier survives its task

    def __init__(self) -> None:
        # Bound once: a task has never run exactly as long as its switch_to *is* this object.
        self._first_switch: Callable[[], Any] = self._start
        self._pool: list[Carrier] = []
        self._entry: KernelEntry
        self._swapper: ThreadInfo
        self._root: greenlet | None = None
        self._owner = 0

    # -- life cycle

    def threads_init(self, swapper: ThreadInfo, entry: KernelEntry) -> None:
        """Boot: remember who the idle task is."""
        self._swapper = swapper
        self._entry = entry
        self._owner = get_ident()

    def threads_cleanup(self) -> None:
        """End the parked carriers."""
        here = getcurrent()
        while self._pool:
            carrier, _ = self._pool.pop()
            carrier.parent = here
            carrier.throw(GreenletExit)

    def new_thread(self, task: ThreadInfo) -> None:
        """Nothing but a mark: the first switch will find a carrier, and a task that never runs costs none."""
        task.switch_to = self._first_switch

    def release_thread(self, task: ThreadInfo) -> None:
        """Nothing: the carrier is in the pool already, or was never taken."""

    # -- the root

    def enter(self) -> None:
        """The caller of `lkl_run()` is the root from now on."""
        here = getcurrent()
        if here is not self._root:
            self._swapper.stack = self._swapper.base = here
            self._swapper.switch_to = here.switch  # a new bound method, each time it is asked for
            self._root = here  # last: it says that the lines above have been run

    def leave(self) -> None:
        """Swapper is nobody until the next `lkl_run()`."""

    def switch_from_idle(self, next: ThreadInfo) -> None:
        """Resume tasks until swapper is resumed, entering newborns on the way."""
        entry = self._entry
        swapper = self._swapper
        while next is not swapper:
            switch_to = next.switch_to
            if switch_to is self._first_switch:
                switch_to = self._give_carrier(next, self._pool.pop() if self._pool else self._new_carrier())
            try:
                came: object = switch_to()
            except BaseException as error:
                self._take_back(entry.current)
                if entry.current is swapper or is_switched_out(entry.current):
                    raise  # the switch itself failed
                came = error
            next = entry.current
            # The root is resumed to be swapper, to enter a newborn, or by a carrier that has ended; else by other code.
            while not (next is swapper or next.switch_to is self._first_switch or came is _ENDED):
                came = raise_in_base(next, "the caller of lkl_run()", came)
                next = entry.current

    def _take_back(self, task: ThreadInfo) -> None:
        """If an exception has killed the task's carrier before its first line, the task is to get another one."""
        carrier = getattr(task.switch_to, "__self__", None)
        if isinstance(carrier, greenlet) and carrier.dead and task is not self._swapper:
            task.context = carrier.gr_context
            task.stack = task.base = None
            task.switch_to = self._first_switch

    def _start(self) -> None:
        """First switch to a task, on the stack of another one."""
        if not self._pool:
            self._swapper.switch_to()
            return
        switch_to = self._give_carrier(self._entry.current, self._pool.pop())
        switch_to()

    def _new_carrier(self) -> Carrier:
        carrier = greenlet(self._work)
        return carrier, carrier.switch

    def _give_carrier(self, task: ThreadInfo, carrier: Carrier) -> Callable[[], Any]:
        """Let a carrier run the task; what resumes it."""
        its_greenlet, resume = carrier
        its_greenlet.gr_context = task.context
        task.stack = task.base = its_greenlet
        task.switch_to = resume
        task.context = None
        return resume

    # -- a carrier

    def _work(self) -> object:
        """Run one task after another; return, to the root, only when the pool is full."""
        while True:
            try:
                entry = self._entry
                ret_from_fork = entry.ret_from_fork
                me = getcurrent()
                carrier = me, me.switch
                pool = self._pool
                first_switch = self._first_switch
                while True:
                    task = entry.current
                    next = ret_from_fork()
                    task.switch_to = first_switch  # a reference to the dead task does not keep the carrier
                    task.stack = task.base = None
                    if next.switch_to is first_switch:
                        self._give_carrier(next, carrier)
                        continue
                    if len(pool) >= POOL_LIMIT:
                        assert self._root is not None
                        me.parent = self._root
                        return _ENDED
                    pool.append(carrier)
                    resume = next.switch_to
                    del task, next  # a parked carrier keeps no task alive, nor what the last task set
                    me.gr_context = None
                    try:
                        came = resume()
                    except BaseException as error:
                        if isinstance(error, GreenletExit) or is_switched_out(entry.current):
                            raise  # the switch itself failed
                        came = error
                    while entry.current.base is not me:  # other code has resumed it
                        came = raise_in_base(entry.current, "a carrier of the kernel", came)
            except GreenletExit:
                raise
            except BaseException as error:
                self._entry.interrupted(error)
            self._find_work()

    def _find_work(self) -> None:
        """After an exception between two tasks: see that the current task is the calling carrier's."""
        entry = self._entry
        me = getcurrent()
        task = entry.current
        if task.base is me:
            return  # it has not begun: `ret_from_fork` lets nothing out once it has
        mine = [carrier for carrier in self._pool if carrier[0] is me]
        carrier = mine[0] if mine else (me, me.switch)
        if task.switch_to is self._first_switch:
            if mine:
                self._pool.remove(carrier)
            self._give_carrier(task, carrier)
            return
        if not mine:
            self._pool.append(carrier)
        me.gr_context = None
        came = task.switch_to()
        while entry.current.base is not me:
            came = raise_in_base(entry.current, "a carrier of the kernel", came)

    # -- greenlets of a task's own

    def stack_changed(self, task: ThreadInfo) -> None:
        """Resume the task in the greenlet in which it is."""
        assert task.stack is not None
        task.switch_to = task.stack.switch

    # -- asked from outside

    def runs_current(self) -> bool:
        """Whether the caller is a kernel thread: on the owner's OS thread, and not the idle task."""
        return get_ident() == self._owner and self._entry.current is not self._swapper

    def os_thread_of(self, task: ThreadInfo) -> int:
        """Everything runs on the owner's."""
        return self._owner

    def stack_of(self, task: ThreadInfo) -> FrameType | None:
        """The frame in which the task's greenlet is parked."""
        owner = getattr(task.switch_to, "__self__", None)
        frame = owner.gr_frame if isinstance(owner, greenlet) else None
        return frame  # noqa: RET504 - types-greenlet says Any
