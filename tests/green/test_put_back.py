"""green_threads() leaves every module, class and object as it found it, however its block ends."""

from __future__ import annotations

import _thread
import _threading_local
import concurrent.futures._base
import concurrent.futures.thread
import importlib
import os
import queue
import sched
import select
import selectors
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import pytest

from lkl_green import lkl_start_kernel
from lkl_green.errors import ThreadsInstalled
from lkl_green.green import Replacements, as_main, green_threads, run_threads
from lkl_green.host import native

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULES = [
    *(_thread, _threading_local, threading, queue, time, sched, select, selectors, signal, socket, subprocess, os),
    *(concurrent.futures._base, concurrent.futures.thread, importlib._bootstrap),
]


def attributes() -> dict[tuple[str, ...], Any]:
    """What the modules hold that are replaced in part, and their classes."""
    found: dict[tuple[str, ...], Any] = {}
    for module in MODULES:
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if isinstance(value, type):
                found.update({(module.__name__, name, inner): of_class for inner, of_class in vars(value).items()})
    found.update({("BaseProcess", name): value for name, value in vars(BaseProcess).items()})
    return found


def changed(before: dict[tuple[str, ...], Any]) -> list[tuple[str, ...]]:
    """What is another object than before, or was not there."""
    now = attributes()
    return sorted(key for key in before.keys() | now.keys() if key not in now or before.get(key) is not now[key])


def leave(_monkeypatch: pytest.MonkeyPatch) -> None:
    run_threads(lambda: threading.Thread(target=time.sleep, args=(1,)).start())


def raise_inside(_monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="inside"), green_threads():
        raise ValueError("inside")


def nest(_monkeypatch: pytest.MonkeyPatch) -> None:
    with green_threads():
        during = attributes()
        with pytest.raises(ThreadsInstalled), green_threads():
            pass
        assert changed(during) == []


def fail_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more_threads(*_args: object) -> None:
        raise RuntimeError("can't start new thread")

    kernel = lkl_start_kernel(as_main(int), clock="virtual")
    with monkeypatch.context() as without_threads:
        without_threads.setattr(native, "start_new_thread", no_more_threads)
        with pytest.raises(RuntimeError, match="can't start"), green_threads(kernel):
            pass
    kernel.run()


def fail_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise ValueError("in the middle")

    with monkeypatch.context() as failing:
        failing.setattr("lkl_green.green.rebind.Rebinder._root", fail)
        replacements = Replacements([int])
        with pytest.raises(ValueError, match="in the middle"):
            replacements.install()


@pytest.mark.parametrize("how", [leave, raise_inside, nest, fail_to_install, fail_to_watch])
def test_every_attribute_is_the_same_object_afterwards(
    how: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGURG)
    before = attributes()
    how(monkeypatch)
    assert changed(before) == []
    assert signal.getsignal(signal.SIGURG) is handler


class Mailbox:
    """What a program makes at import; `hidden` stands deeper than the search for locks goes."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.hidden = [[[[[[[[[threading.Condition()]]]]]]]]]
        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()


mailbox = Mailbox()


def deepest(value: Any) -> Any:
    while isinstance(value, list):
        value = value[0]
    return value


@pytest.mark.parametrize("condition", [mailbox.changed, deepest(mailbox.hidden)], ids=["found", "hidden"])
def test_a_condition_that_was_made_earlier_works_inside_and_as_before_afterwards(condition: Any) -> None:
    before = dict(vars(condition))

    def exchange() -> list[bool]:
        """One thread waits, another one wakes it."""
        heard = []

        def listen() -> None:
            with condition:
                listening.set()
                heard.append(condition.wait(10))

        listening = threading.Event()
        thread = threading.Thread(target=listen)
        thread.start()
        listening.wait(10)
        with condition:
            condition.notify()
        thread.join(10)
        return heard

    assert run_threads(exchange) == [True]
    assert vars(condition) == before
    assert exchange() == [True]


def test_what_is_in_a_queue_stays_in_it_on_the_way_in_and_out() -> None:
    mailbox.events.put("made earlier")
    mailbox.events.put("made earlier, too")

    def program() -> str:
        mailbox.events.put("made inside")
        return mailbox.events.get()

    assert run_threads(program) == "made earlier"
    assert [mailbox.events.get(timeout=1) for _ in range(2)] == ["made earlier, too", "made inside"]
    assert mailbox.events.empty()


NAMES = """\
from _thread import LockType, allocate_lock, get_ident
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from selectors import DefaultSelector
from threading import Condition, Lock, RLock, local
from time import monotonic as now
from time import sleep
Recursive = RLock
def wait(seconds=1, how=sleep): how(seconds)
class Account:
    make = Lock
"""


def in_an_interpreter_of_its_own(text: str, *arguments: object) -> None:
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_modules_take_that_are_imported_meanwhile_is_what_they_would_have_had(tmp_path: Path) -> None:
    """Modules of the program, and of the standard library: two of those take clocks by name."""
    for name in ("imported_inside", "imported_afterwards"):
        (tmp_path / f"{name}.py").write_text(NAMES)
    in_an_interpreter_of_its_own(
        """
        import sys, time
        sys.path.insert(0, sys.argv[1])
        from lkl_green.green import run_threads

        def program():
            import imported_inside, socketserver, timeit
            assert imported_inside.sleep is time.sleep

        assert not {"socketserver", "timeit"} & set(sys.modules)
        run_threads(program)
        import imported_inside, imported_afterwards, socketserver, timeit
        for name, value in vars(imported_afterwards).items():
            if not name.startswith("__") and name not in ("Account", "wait"):
                assert vars(imported_inside)[name] is value, name
        assert imported_inside.wait.__defaults__ == (1, time.sleep)
        assert imported_inside.Account.make is imported_afterwards.Account.make
        assert socketserver.time is time.monotonic
        assert timeit.default_timer is time.perf_counter
        """,
        tmp_path,
    )


def test_modules_of_this_package_that_are_imported_meanwhile_stay_native() -> None:
    in_an_interpreter_of_its_own(
        """
        import importlib, sys
        from lkl_green.green import green_threads
        from lkl_green.host import native

        late = ["lkl_green.embed", "lkl_green.testing", "lkl_green.kernel.time_limit"]
        assert not set(late) & set(sys.modules)
        with green_threads():
            for name in late:
                importlib.import_module(name)
        for name, module in list(sys.modules.items()):
            if name.startswith("lkl_green.") and not name.startswith("lkl_green.green."):
                for attribute in native.__all__:
                    where_from = str(getattr(vars(module).get(attribute), "__module__", ""))
                    assert not where_from.startswith("lkl_green.green"), (name, attribute)
        """
    )
