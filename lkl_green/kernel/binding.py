"""Which kernel a lock, completion, timer, work or fifo belongs to.

One that is made with `kernel=`, or while a kernel runs, belongs to that kernel for good. One that is made where no
kernel runs, at module level say, is *unbound*: it is bound to the kernel whose code uses it first, as asyncio's locks
are. When that kernel has halted, or was rewound, it is unbound again.

*No price for the bound.* An unbound thing has a stand-in where its kernel, scheduler or timers would be. The first
attribute that kernel code asks of the stand-in binds the thing, which puts the real one there; for the rest of the
operation under way the stand-in passes everything on. So no operation asks whether its thing is bound. Dropped: a
`__getattr__` of the thing itself, which CPython 3.11 charges for with each attribute and each method.

*Noticing the end of a kernel.* A kernel remembers weakly what was bound to it late, and unbinds all of it at its end.
Only what was made outside of kernels is remembered, so making a completion in a kernel thread costs what it did.

*What is left of the old kernel.* Who holds or waits, and what is queued or armed, is forgotten: a lock that was held by
a task that has ended is free, since that task can never unlock it. What the application may want to read stays: the
count of a semaphore, `done` of a completion, the elements of a fifo. Under `explore()` these go back, too, to what the
first schedule found, or schedules would depend on each other. Where a holder or a waiter did *not* end with its kernel
(see HaltTimeout) nothing can be said of the thing any more, and each use of it is a KernelHalted.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import WeakKeyDictionary

from lkl_green.errors import KernelHalted, NoCurrentKernel
from lkl_green.kernel.current import running_here
from lkl_green.kernel.nocopy import NoCopy
from lkl_green.kernel.printk import KERN_WARNING
from lkl_green.kernel.state import SystemState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lkl_green.kernel.kernel import Kernel
    from lkl_green.kernel.sched import Scheduler
    from lkl_green.kernel.task import Task

# The parts of a kernel that things keep in attributes of their own.
_NOT_BOUND = 1 << 32

_PARTS = frozenset({"sched", "tasklets", "timers"})

# What operations ask of these parts that need no kernel, such as `up()` of a semaphore that no task waits for.
_WITHOUT_KERNEL: dict[str, Any] = {"after": None, "disarm": lambda _timer: False, "listener": None, "running": None}


class Bindable(NoCopy):
    """Base of what can be made before there is a kernel: its constructor asks `kernel_for()`.

    The methods are for `Bindings`, which calls them where a kernel takes a thing and lets it go.

    Attributes:
        VALUES: the attributes that outlive a kernel.
    """

    __slots__ = ("__weakref__",)

    VALUES: ClassVar[tuple[str, ...]] = ()

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel, or to a stand-in for one, from now on."""
        raise NotImplementedError

    def untie(self) -> None:
        """Forget what tasks of a kernel that has gone did: they hold nothing, wait for nothing, have queued nothing."""

    def users(self) -> Iterable[Task]:
        """The tasks that hold it or wait for it."""
        return ()

    def whole(self) -> tuple[Bindable, ...]:
        """Itself, and what is bound together with it."""
        return (self,)


class BindableWork(Bindable):
    """Base of works. A queue takes a work without asking for its kernel, so an unbound one counts as being cancelled.

    Then the test by which queues refuse what is being cancelled finds it, and the others pay nothing.

    Attributes:
        pending: queued, or waiting for its time, and not yet running for it.
        canceling: how many tasks cancel it at present, and _NOT_BOUND; it cannot be queued unless this is 0.
    """

    __slots__ = ("_kernel", "canceling", "pending")

    _kernel: Kernel

    def __init__(self, kernel: Kernel | None) -> None:
        self._kernel = kernel = kernel if kernel is not None else kernel_for(self)
        self.pending = False
        self.canceling = _NOT_BOUND if isinstance(kernel, Unbound) else 0

    def bind(self, kernel: Kernel) -> None:
        """Belong to a kernel, or to a stand-in for one, from now on."""
        self._kernel = kernel
        self.canceling -= _NOT_BOUND

    def untie(self) -> None:
        """Be idle and unbound: what was queued will not run any more."""
        self.pending = False
        self.canceling = _NOT_BOUND

    def may_be_queued(self, kernel: Kernel) -> bool:
        """Whether a work whose `canceling` is not 0 was only unbound, and is no more: `kernel` queues it."""
        if isinstance(self._kernel, Unbound | _LeftBehind):
            self._kernel.bind(kernel)
        return not self.canceling


def kernel_for(owner: Bindable) -> Kernel:
    """The kernel that runs here; a stand-in where none does, to be replaced when `owner` is used."""
    kernel = running_here.kernel
    return kernel if kernel is not None else cast("Kernel", Unbound(owner))


class Unbound:
    """Stands for the kernel in what belongs to none yet."""

    __slots__ = ("_bound", "_owner")

    def __init__(self, owner: Bindable) -> None:
        self._owner = owner
        # A dict for its setdefault(), which is atomic: of two kernels on two OS threads that come at once, one wins.
        self._bound: dict[str, Kernel] = {}

    def bind(self, kernel: Kernel) -> None:
        """Bind the thing to `kernel`, unless that has been done."""
        kernel = self._bound.setdefault("kernel", kernel)
        kernel.bindings.add(self._owner)

    def kernel(self) -> Kernel | None:
        """The kernel of the thing, which is bound by this; None, and it stays unbound, where no kernel runs."""
        if not self._bound:
            running = running_here.kernel
            if running is None or running.halted:
                return None
            self.bind(running)
        return self._bound["kernel"]

    def __getattr__(self, name: str) -> Any:
        kernel = self.kernel()
        if kernel is not None:
            return getattr(kernel, name)
        if name in _PARTS:
            return _UnboundPart(self, name)
        raise self.no_kernel(name)

    def no_kernel(self, name: str) -> Exception:
        """Why there is no attribute of this name."""
        if name.startswith("__"):
            return AttributeError(name)
        return NoCurrentKernel(
            f"{self._owner!r} is used where no kernel runs. It was made where none ran and without kernel=..., so it "
            "belongs to the kernel that uses it first: use it in a kernel thread, or make it with kernel=..."
        )


class _UnboundPart:
    """Stands for the scheduler, the timers or the tasklets of the kernel in what belongs to none yet."""

    __slots__ = ("_part", "_unbound")

    def __init__(self, unbound: Unbound, part: str) -> None:
        self._unbound = unbound
        self._part = part

    def __getattr__(self, name: str) -> Any:
        kernel = self._unbound.kernel()
        if kernel is not None:
            return getattr(getattr(kernel, self._part), name)
        if name in _WITHOUT_KERNEL:
            return _WITHOUT_KERNEL[name]
        raise self._unbound.no_kernel(name)


class _LeftBehind:
    """Stands for the kernel, and its parts, in what tasks still held that did not end when their kernel halted."""

    __slots__ = ("_why",)

    def __init__(self, why: str) -> None:
        self._why = why

    def __getattr__(self, name: str) -> Any:
        if name in _PARTS:
            return self
        if name.startswith("__"):
            raise AttributeError(name)
        raise KernelHalted(self._why)


class Bindings:
    """What was bound to one kernel after it had been made.

    Attributes:
        restores: whether what outlives a kernel goes back to what this one found; for kernels that are rewound.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        # The values that it found in them; None while there is nothing, which is all that most kernels ever have.
        self._found: WeakKeyDictionary[Bindable, list[list[Any]]] | None = None
        self.restores = False

    def add(self, owner: Bindable) -> None:
        """Bind it, and what is bound together with it."""
        whole = owner.whole()
        if self._found is None:
            self._found = WeakKeyDictionary()
        self._found[owner] = [[copy(getattr(thing, name)) for name in thing.VALUES] for thing in whole]
        for thing in whole:
            thing.bind(self._kernel)

    def let_go(self) -> None:
        """The kernel has halted or is rewound: unbind everything."""
        if self._found is None:
            return
        bound, self._found = self._found, None
        for owner, found in list(bound.items()):
            whole = owner.whole()
            if not self._is_left_behind(owner, whole):
                stand_in = cast("Kernel", Unbound(owner))
                for thing, values in zip(whole, found, strict=True):
                    thing.bind(stand_in)
                    thing.untie()
                    if self.restores:
                        for name, value in zip(thing.VALUES, values, strict=True):
                            setattr(thing, name, value)

    def _is_left_behind(self, owner: Bindable, whole: tuple[Bindable, ...]) -> bool:
        """Whether a task that did not end holds it or waits for it, which makes it useless."""
        users = [task for thing in whole for task in thing.users()]
        if not users:
            return False
        kernel = self._kernel
        if not any(kernel.pids.tasks.get(task.pid) is task for task in users):
            kernel.printk.printk(
                f"{owner!r}: the task that held it has ended without releasing it; it is free now", KERN_WARNING
            )
            return False
        left_behind = _LeftBehind(
            f"{owner!r} cannot be used any more: these tasks of kernel {kernel.name} did not end when it halted. "
            "Make a new one, and see what keeps the tasks from ending"
        )
        for thing in whole:
            thing.bind(cast("Kernel", left_behind))
        return True


def of_another_kernel(sched: Scheduler) -> str:
    """Why code of the kernel that runs here cannot sleep by this scheduler; "" if it is the right one."""
    running = running_here.kernel
    if running is None or running.sched is sched:
        return ""
    if sched.system_state is not SystemState.RUNNING:
        return (
            f"kernel {running.name} runs here, and what would sleep belongs to one that has halted, in which it was "
            "made; make it anew, or at module level, where it is bound to the kernel that uses it"
        )
    return (
        f"kernel {running.name} runs here, and what would sleep belongs to another one, which was given as kernel=... "
        "or has used it first, and has not halted; make one for each kernel"
    )
