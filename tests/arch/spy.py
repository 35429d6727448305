"""A host that writes down which of its operations were called, by which task's thread, in which order."""

from __future__ import annotations

from typing import Any

from host.stories import HOSTS

from lkl_green import Kernel, lkl_start_kernel
from lkl_green.host.faulty import FaultyHost

KINDS = sorted(HOSTS)


class SpyHost(FaultyHost):
    """Wraps a host; `calls_made` holds (tid of the caller, operation, argument) while `listening`."""

    def __init__(self, kind: str, fails: dict[str, int] | None = None) -> None:
        super().__init__(HOSTS[kind](lambda text: None), fails or {})
        self.listening = False
        self.calls_made: list[tuple[int, str, Any]] = []

    def _note(self, operation: str, argument: Any) -> None:
        if self.listening:
            self.calls_made.append((self._host.thread_self(), operation, argument))

    def sem_alloc(self, count):
        self._note("sem_alloc", count)
        return super().sem_alloc(count)

    def sem_free(self, sem):
        self._note("sem_free", sem)
        super().sem_free(sem)

    def sem_up(self, sem):
        self._note("sem_up", sem)
        super().sem_up(sem)

    def sem_down(self, sem):
        self._note("sem_down", sem)
        super().sem_down(sem)

    def mutex_lock(self, mutex):
        self._note("mutex_lock", mutex)
        super().mutex_lock(mutex)

    def mutex_unlock(self, mutex):
        self._note("mutex_unlock", mutex)
        super().mutex_unlock(mutex)

    def thread_create(self, fn, arg):
        self._note("thread_create", arg)
        return super().thread_create(fn, arg)

    def thread_join(self, tid):
        self._note("thread_join", tid)
        return super().thread_join(tid)

    def thread_exit(self):
        self._note("thread_exit", None)
        super().thread_exit()

    def jmp_buf_set(self, jmp_buf, fn):
        self._note("jmp_buf_set", jmp_buf)
        return super().jmp_buf_set(jmp_buf, fn)

    def jmp_buf_longjmp(self, jmp_buf, value):
        self._note("jmp_buf_longjmp", value)
        super().jmp_buf_longjmp(jmp_buf, value)

    def told(self, names: dict[Any, str]) -> list[tuple[str, str, Any]]:
        """The calls with tids and semaphores replaced by the names of their tasks, and mutex calls left out."""
        return [
            (names.get(tid, "?"), operation, names.get(argument, argument) if argument is not None else None)
            for tid, operation, argument in self.calls_made
            if not operation.startswith("mutex")
        ]


def boot_spied(kind: str, init: Any = None, *args: Any, fails: dict[str, int] | None = None, **options: Any) -> Kernel:
    """A kernel with LKL's switch on a SpyHost, under virtual time."""
    arguments: dict[str, Any] = {"clock": "virtual", "loglevel": 0, **options}
    return lkl_start_kernel(init, *args, host=SpyHost(kind, fails), switch="semaphore", **arguments)


def names_of(kernel: Kernel) -> dict[Any, str]:
    """Who is who: tids and semaphores of the tasks that exist now."""
    names: dict[Any, str] = {}
    for task in [kernel.sched.swapper, *kernel.pids]:
        names[task.tid] = names[task.sched_sem] = task.comm
    return names
