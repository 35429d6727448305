"""Installing the replacements, and taking them out again.

The replacements find their kernel where they are called: the one that runs on this OS thread. So they are installed
once and serve many kernels one after another; a campaign of ten thousand schedules pays for it once. Where no kernel
runs they do what the originals did.

The table has a row for each attribute: (module or class, name, replacement). Rows that a Python version does not have
are left out, which is all the difference between the versions.
"""

from __future__ import annotations

import _thread
import _threading_local
import concurrent.futures.thread as futures_thread
import functools
import importlib
import itertools
import multiprocessing.dummy
import queue
import sched
import selectors
import sys
import threading
import time
from concurrent.futures import _base as futures_base
from contextlib import ExitStack, contextmanager
from itertools import chain
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lkl_green.errors import KernelHalted, TaskUnwind, ThreadsInstalled
from lkl_green.green import clock, condition, escape, local, lowlevel, multiprocessing_pool, ordinals, originals, thread
from lkl_green.green.aio import selector_maker
from lkl_green.green.locals_made_earlier import Twins
from lkl_green.green.lock import Lock, RLock
from lkl_green.green.pools import Pools
from lkl_green.green.rebind import Rebinder, is_program
from lkl_green.green.simplequeue import SimpleQueue
from lkl_green.green.watch import Watch, advise
from lkl_green.host import native
from lkl_green.kernel.current import running_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lkl_green.kernel.kernel import Kernel

_ABSENT: Any = object()
_NATIVE_LOCK: Any
_NATIVE_RLOCK: Any
_NATIVE_LOCK, _NATIVE_RLOCK = originals.LOCK_TYPES


class Replacements:
    """The replacements, and what they replace.

    Args:
        roots: functions that hold names or locks which no module holds.
        on_loop: called with each event loop of asyncio that begins to run in a schedule.

    Attributes:
        unhandled: what the program holds that could not be replaced, for people.
    """

    def __init__(self, roots: Iterable[object] = (), on_loop: Callable[[Any], object] | None = None) -> None:
        self._roots = list(roots)
        self._on_loop = on_loop
        self._foreign_loops: list[tuple[Any, str, Any]] = []
        self._rebinder: Rebinder
        self._twins: Twins
        self._loaded: dict[str, ModuleType] = {}
        self.unhandled: list[str] = []
        self._adopted: dict[int, tuple[Any, Any]] = {}  # by id of the native object: itself, and its stand-in
        self._counts: WeakKeyDictionary[Kernel, dict[str, itertools.count[int]]] = WeakKeyDictionary()
        self._strangers = thread.Strangers()
        self._pools = Pools()
        self._replaced: list[tuple[Any, str, Any, Any]] = []  # module or class, name, original, replacement
        self._names: list[tuple[Any, Any]] = []

    # -- in and out

    def install(self) -> None:
        """Replace everything. Raises ThreadsInstalled if something has replaced it already."""
        if vars(threading)["Lock"] is Lock:
            raise ThreadsInstalled(
                "the replacements for threading are installed already: one installation serves every kernel of the "
                "process, so use green_threads() once, around all of it"
            )
        self._twins = Twins(is_program)
        self._names = [*self._table_of_names(), *self._twins.pairs]
        self._rebinder = Rebinder(self._names, self._stand_in)
        self._loaded = dict(sys.modules)
        try:
            self._keep_imports_native()
            for owner, name, new in list(self._table()):
                self._replace(owner, name, new)
            self._rebinder.walk([*self._roots, *chain(*self._twins.pairs)])
            futures_base.LOGGER.addFilter(_is_news)
            self._refuse_foreign_loops()
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put everything back."""
        futures_base.LOGGER.removeFilter(_is_news)
        self._pools.leave_all()
        for owner, name, old, _new in reversed(self._replaced):
            if old is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, old)
        self._rebinder.undo()
        self._undo_what_was_made_meanwhile()
        for native_object, stand_in in self._adopted.values():
            _move_items(stand_in, native_object)
        self._replaced.clear()
        self._adopted.clear()
        self._loaded.clear()

    def _undo_what_was_made_meanwhile(self) -> None:
        """Exchange replacements for originals where they came after the installation."""
        table = [(new, old) for old, new in self._names]
        named = {}
        for owner, name, old, new in self._replaced:
            if isinstance(owner, ModuleType) and old is not _ABSENT:
                table.append((new, old))
                named[id(new), name] = old
        table += [(Lock, threading.Lock), (RLock, threading.RLock)]  # for those held under another name
        natives = {id(stand_in): native_object for native_object, stand_in in self._adopted.values()}
        rebinder = Rebinder(table, lambda value: natives.get(id(value), value), named)
        rebinder.walk(self._roots, _modules_except(self._loaded))

    def _replace(self, owner: Any, name: str, new: Any) -> None:
        self._replaced.append((owner, name, vars(owner).get(name, _ABSENT), new))
        setattr(owner, name, new)

    def _refuse_foreign_loops(self) -> None:
        """A program may import such a loop after the installation: it is looked for before each schedule."""
        self._foreign_loops = escape.foreign_loops()
        for owner, name, new in self._foreign_loops:
            self._replace(owner, name, new)

    def _keep_imports_native(self) -> None:
        """Module locks stay native: importing a module is not an operation of the program."""
        bootstrap: Any = importlib._bootstrap
        self._replace(bootstrap, "_thread", SimpleNamespace(**vars(_thread)))

    # -- the table

    def _table_of_names(self) -> list[tuple[Any, Any]]:
        """(original, replacement) for what programs import by name."""
        pairs = [
            (_NATIVE_LOCK, Lock),
            (_thread.allocate_lock, Lock),
            (threading.Lock, Lock),
            (threading.RLock, RLock),
            (_thread.RLock, RLock),
            (_thread.get_ident, thread.get_ident),
            (_thread.get_native_id, thread.get_native_id),
            (threading.current_thread, self._strangers.current_thread),
            (threading.enumerate, thread.enumerate_threads),
            (threading.active_count, thread.active_count),
            (_thread.start_new_thread, lowlevel.start_new_thread),
            (_thread._count, lowlevel.count),
            (threading.local, local.local),
            (queue.SimpleQueue, SimpleQueue),
        ]
        if originals.start_joinable_thread is not None:
            pairs.append((originals.start_joinable_thread, lowlevel.start_joinable_thread))
        if originals.set_name is not None:
            pairs.append((originals.set_name, lowlevel.set_name))
        pairs += [(getattr(time, name), new) for name, new in clock.REPLACED.items()]
        pairs += [(getattr(owner, name), new) for owner, name, new in escape.table() if not isinstance(owner, type)]
        return pairs

    def _table(self) -> Iterator[tuple[Any, str, Any]]:
        """(module or class, name, replacement) for all that is replaced in the standard library."""
        names = {id(old): new for old, new in self._names}
        # Where two originals have one replacement and one name, modules that were imported meanwhile get the later one.
        modules = [functools, _thread, threading, _threading_local, queue, time, sched, futures_thread, futures_base]
        modules.append(multiprocessing.dummy)
        for module in modules:
            for name, old in list(vars(module).items()):
                if not name.startswith("__") and id(old) in names and (module, name) not in _KEPT:
                    yield module, name, names[id(old)]
        yield selectors, "DefaultSelector", selector_maker(self._on_loop)
        yield sys, "unraisablehook", _without_unwinding(sys.unraisablehook)
        yield threading, "_newname", self._new_name
        yield threading, "_CRLock", None
        yield threading.Thread, "start", thread.thread_start
        yield threading.Thread, "join", thread.thread_join
        yield threading.Thread, "is_alive", thread.thread_is_alive
        yield futures_thread, "_global_shutdown_lock", Lock()
        yield futures_thread.ThreadPoolExecutor, "_counter", staticmethod(self._counter("pool", 0))
        yield futures_thread, "_shutdown", futures_thread._shutdown
        yield from ordinals.table(self._next)
        yield from self._pools.table()
        yield from multiprocessing_pool.table()
        yield from clock.time_machine_table()
        yield from condition.Methods(self._rebinder.adopt_condition).table()
        yield from escape.table()

    def _new_name(self, template: str) -> str:
        """The name of a Thread that was given none; counted anew in each kernel."""
        return originals.new_name(template) if running_here.kernel is None else template % self._next("thread", 1)

    def _counter(self, what: str, start: int) -> Callable[[], int]:
        original: Callable[[], int] = futures_thread.ThreadPoolExecutor._counter  # type: ignore[attr-defined]
        return lambda: original() if running_here.kernel is None else self._next(what, start)

    def _next(self, what: str, start: int) -> int:
        kernel = running_here.kernel
        assert kernel is not None
        counts = self._counts.setdefault(kernel, {})
        return next(counts.setdefault(what, itertools.count(start)))

    def rewind(self, kernel: Kernel) -> None:
        """Names are counted from the beginning again: a kernel is about to run another schedule."""
        self._pools.leave_all()
        self._counts.pop(kernel, None)
        if not self._foreign_loops:
            self._refuse_foreign_loops()

    # -- objects that were made before

    def _stand_in(self, value: Any) -> Any:
        """What to put in the place of a native object that the program made earlier."""
        kind = type(value)
        if kind in originals.LOCK_TYPES:
            return self._adopt(value)
        if isinstance(value, native.local | originals.SimpleQueue):
            return self._adopt_other(value)
        return value

    def _adopt(self, lock: Any) -> Any:
        known = self._adopted.get(id(lock))
        if known is not None:
            return known[1]
        if type(lock) is not _NATIVE_LOCK and type(lock) is not _NATIVE_RLOCK:
            return lock
        if not _is_free(lock):
            self.unhandled.append(f"{lock!r} is held; it stays what it is")
            return lock
        stand_in = Lock() if type(lock) is _NATIVE_LOCK else RLock()
        self._adopted[id(lock)] = (lock, stand_in)
        return stand_in

    def _adopt_other(self, value: Any) -> Any:
        known = self._adopted.get(id(value))
        if known is not None:
            return known[1]
        stand_in: Any
        if isinstance(value, native.local):
            stand_in = self._twins.of_object(value)
            if stand_in is None:  # of the standard library, or of what runs the tests
                return value
        else:
            stand_in = SimpleQueue()
            _move_items(value, stand_in)
        self._adopted[id(value)] = (value, stand_in)
        return stand_in


# Attributes with an original that stay: Thread and Condition use them for OS threads outside the kernel.
_KEPT = {(threading, "_start_new_thread"), (threading, "_start_joinable_thread"), (threading, "_active_limbo_lock")}


def _without_unwinding(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """`sys.unraisablehook` without finalizers that were ended because the kernel took their thread down."""
    return lambda unraisable: None if isinstance(unraisable.exc_value, TaskUnwind) else hook(unraisable)


def _is_news(_record: Any) -> bool:
    """A worker of a thread pool logs what ends it, the end of its kernel as well, which is no news."""
    kernel = running_here.kernel
    return kernel is None or not kernel.sched.current.killed


def _modules_except(loaded: dict[str, ModuleType]) -> Iterator[ModuleType]:
    """The modules that are not among these, apart from those of this package, to which the replacements belong."""
    for name, module in list(sys.modules.items()):
        if loaded.get(name) is not module and type(module) is ModuleType and name.partition(".")[0] != "lkl_green":
            yield module


def _move_items(source: Any, target: Any) -> None:
    """Move what is in one SimpleQueue to another one. Other kinds of objects are left alone."""
    if type(source) in (SimpleQueue, originals.SimpleQueue):
        while not source.empty():
            target.put(source.get_nowait())


def _is_free(lock: Any) -> bool:
    if type(lock) is _NATIVE_RLOCK and lock._is_owned():
        return False
    if not lock.acquire(blocking=False):
        return False
    lock.release()
    return True


@contextmanager
def green_threads(
    kernel: Kernel | None = None,
    watch_s: float | None = 5.0,
    roots: Iterable[object] = (),
    on_loop: Callable[[Any], object] | None = None,
) -> Iterator[Replacements]:
    """Make `threading`, `queue`, `time`, thread pools and asyncio run as kernel threads, for as long as it lasts.

    Args:
        kernel: the kernel that will run the program; None if there are several, one after another.
        watch_s: raise Escape in a thread of that kernel that blocks outside it for this long; None: do not look.
        roots: functions that hold names or locks which no module holds: made by `exec()`, or bound to fixtures.
        on_loop: called with each event loop of asyncio that begins to run in a schedule of a campaign.

    Raises:
        ThreadsInstalled: they do already.
        KernelHalted: this kernel will not run any more.
    """
    if kernel is not None and not kernel.lkl_is_running():
        raise KernelHalted("green_threads() for a kernel that has halted")
    if kernel is not None:
        advise(kernel)
    replacements = Replacements(roots, on_loop)
    with ExitStack() as stack:
        replacements.install()
        stack.callback(replacements.restore)
        if kernel is not None and watch_s is not None:
            watch = Watch(kernel, watch_s)
            watch.start()
            stack.callback(watch.stop)
        yield replacements
