"""The LKL CPU: which host thread may run kernel code.

A mutex would do if all that were asked for was exclusion. LKL asks for more, and that is where its state comes from:

- *re-entry*: the owner may get the CPU again (an interrupt handler that makes a system call), hence `count`;
- *hand-over*: a context switch gives the CPU to the host thread of the next task, which never asked for it, hence an
  explicit `owner` that `change_owner` moves while `count` stays (rules 15 and 16);
- *interrupts that never wait*: who raises one either gets the CPU or leaves a mark and goes (rule 17);
- *shutdown with strangers at the door*: destructors of host threads may come after the kernel has gone, so that the
  memory of the lock itself must outlive everybody who might touch it.

The last is what the shutdown gate is for. Whoever enters adds 1 to `shutdown_gate` before it touches the lock, and
subtracts it when it is done, for a waiter as long as it waits (rule 8). Shutdown adds MAX_THREADS, a number no count of
callers reaches. From then on the gate answers two questions with one atomic read: at MAX_THREADS or above nobody may
come in, and exactly at MAX_THREADS nobody is in there any more, so that lock and semaphores can be freed.

    free  --get-->  owned, count 1  --get by owner-->  count 2  --put-->  count 1  --put-->  free, one sleeper woken

What LKL leaves open is closed here (reference, part 5): a second shutdown is a no-op (rule 18); `sleepers` cannot wrap
(5.7); a put after the cleanup is an error, not a use after free (5.10); initialisation resets everything, so that a
process can boot twice (rule 23); `lkl_bug` raises, with the lock released (rule 24a); and the results have names
(rule 24). The decrement of `sleepers` stays with the putter (5.8): moving it to the woken getter mends hangs of another
host, in which an up and a down may pass each other; our semaphores count.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from lkl_green.arch.base import TIF_HOST_THREAD
from lkl_green.errors import HostMisuse, KernelBug, UnbalancedPut
from lkl_green.host.native import sleep
from lkl_green.host.whole import whole_lock

if TYPE_CHECKING:
    from lkl_green.host.ops import HostMutex, HostOps, HostSemaphore

MAX_THREADS = 1_000_000

# Results of get() and try_run_irq() (rule 24).
LKL_CPU_IN_SHUTDOWN = -2  # refused at the gate, the lock was not touched
LKL_CPU_MAX_THREAD = -1  # the gate closed while the caller waited for the lock
LKL_CPU_IN_USE = 0  # another host thread owns the CPU
LKL_CPU_LOCKED = 1  # the caller owns the CPU


class CpuHooks(Protocol):
    """What the LKL CPU asks of the kernel when it is put."""

    def irqs_disabled(self) -> bool:
        """Whether the current task has interrupts disabled."""

    def in_interrupt(self) -> bool:
        """Whether an interrupt handler or a softirq runs."""

    def run_irqs(self) -> None:
        """Run the handlers of pending interrupts."""

    def current_thread_flags(self) -> int:
        """TIF_* bits of the current task."""

    def single_task_running(self) -> bool:
        """Whether no task but the current one is runnable."""

    def thread_sched_jb(self) -> None:
        """Let the runnable tasks go first; comes back on this host thread, without the CPU (rule 36)."""


class LklCpu:
    """The right to run kernel code, owned by one host thread at a time.

    Args:
        ops: host operations, for the lock, the semaphores and thread identities.
        hooks: the kernel's answers.
    """

    __slots__ = ("_gate_lock", "_hooks", "_ops", "count", "irqs_pending", "lock", "owner", "sem", "shutdown_gate",
                 "shutdown_sem", "sleepers")  # fmt: skip

    def __init__(self, ops: HostOps, hooks: CpuHooks) -> None:
        self._ops = ops
        self._hooks = hooks
        # LKL uses the compiler's atomics on the gate; this lock is held for one addition and never while waiting.
        self._gate_lock = whole_lock()
        self.shutdown_gate = MAX_THREADS  # closed until init()
        self.lock: HostMutex | None = None
        self.sem: HostSemaphore | None = None
        self.shutdown_sem: HostSemaphore | None = None
        self.irqs_pending = False
        self.sleepers = 0
        self.count = 0
        self.owner = 0

    def init(self) -> None:
        """Open the CPU. Raises OSError(ENOMEM), with nothing allocated, if the host gives no lock (rule 23)."""
        ops = self._ops
        self.lock = ops.mutex_alloc(False)
        self.sem = ops.sem_alloc(0)
        self.shutdown_sem = ops.sem_alloc(0)
        self.irqs_pending = False
        self.sleepers = self.count = self.owner = 0
        if self.lock is None or self.sem is None or self.shutdown_sem is None:
            self.free()
            raise OSError(errno.ENOMEM, "the host gave no lock or semaphore for the LKL CPU")
        self.shutdown_gate = 0

    # -- get and put

    def _gate_add(self, n: int) -> int:
        """Add to the gate; the old value."""
        with self._gate_lock:
            old = self.shutdown_gate
            self.shutdown_gate = old + n
            return old

    def _try_get_lock(self, n: int) -> int:
        """Take the CPU if it is free. The lock is held on return unless the result is LKL_CPU_IN_SHUTDOWN."""
        if self._gate_add(n) >= MAX_THREADS:
            return LKL_CPU_IN_SHUTDOWN
        ops = self._ops
        ops.mutex_lock(self.lock)
        if self.shutdown_gate >= MAX_THREADS:
            return LKL_CPU_MAX_THREAD
        self_tid = ops.thread_self()
        if self.owner and not ops.thread_equal(self.owner, self_tid):
            return LKL_CPU_IN_USE
        self.owner = self_tid
        self.count += 1
        return LKL_CPU_LOCKED

    def _try_get_unlock(self, result: int, n: int) -> None:
        if result >= LKL_CPU_MAX_THREAD:
            self._ops.mutex_unlock(self.lock)
        self._gate_add(-n)

    def get(self) -> int:
        """Wait for the CPU; LKL_CPU_LOCKED, or a negative result after which the caller must not put (rules 6, 7)."""
        result = self._try_get_lock(1)
        while result == LKL_CPU_IN_USE:
            self.sleepers += 1
            self._try_get_unlock(result, 0)
            self._ops.sem_down(self.sem)
            result = self._try_get_lock(0)
        self._try_get_unlock(result, 1)
        return result

    def put(self) -> None:
        """Release the CPU once. Raises UnbalancedPut for anyone but its owner (rule 10)."""
        ops, hooks = self._ops, self._hooks
        if self.lock is None:
            raise UnbalancedPut("lkl_cpu_put() after the LKL CPU was shut down: the kernel has halted")
        ops.mutex_lock(self.lock)
        if not self.count or not self.owner or not ops.thread_equal(self.owner, ops.thread_self()):
            owner, count = self.owner, self.count
            ops.mutex_unlock(self.lock)
            raise UnbalancedPut(
                f"lkl_cpu_put() by host thread {ops.thread_self()}, but the CPU is owned by "
                f"{owner or 'nobody'} (count {count}): each put needs a get by the same thread"
            )
        while self.irqs_pending and not hooks.irqs_disabled():
            self.irqs_pending = False
            ops.mutex_unlock(self.lock)
            hooks.run_irqs()
            ops.mutex_lock(self.lock)
        if self._must_schedule():
            in_interrupt = hooks.in_interrupt()
            ops.mutex_unlock(self.lock)
            if in_interrupt:
                raise KernelBug("lkl_cpu_put() in an interrupt handler by a host task while other tasks are runnable")
            hooks.thread_sched_jb()
            return
        self._release()
        ops.mutex_unlock(self.lock)

    def _must_schedule(self) -> bool:
        """Runnable kernel threads run before waiting host threads get the CPU (rule 12)."""
        hooks = self._hooks
        is_host_task = hooks.current_thread_flags() & TIF_HOST_THREAD
        return bool(is_host_task) and self.count == 1 and not hooks.single_task_running()

    def _release(self) -> None:
        self.count -= 1
        if self.count:
            return
        if self.sleepers:
            self.sleepers -= 1
            self._ops.sem_up(self.sem)
        self.owner = 0

    def change_owner(self, owner: int) -> None:
        """Give the CPU to the host thread of the task that is switched to (rules 15, 16)."""
        ops = self._ops
        try:
            ops.mutex_lock(self.lock)
            count = self.count
            if count <= 1:
                self.owner = owner
            ops.mutex_unlock(self.lock)
        except BaseException:
            self._unlock_if_held()
            raise
        if count > 1:
            raise KernelBug(f"schedule() with the LKL CPU held {count} times: sleeping inside a nested lkl_cpu_get()")

    def _unlock_if_held(self) -> None:
        """An exception came while the lock was taken, held or given back: it is not held afterwards."""
        with suppress(HostMisuse):  # it is not held
            self._ops.mutex_unlock(self.lock)

    def put_after_exception(self) -> None:
        """An exception came in `get` or `put`, or between them: the caller has neither CPU nor lock afterwards.

        For the idle task, which alone calls `get` in our kernels: it is the only one that can be behind the gate.
        """
        self._unlock_if_held()
        if self.lock is None:
            return
        self._ops.mutex_lock(self.lock)
        if self.owner and self._ops.thread_equal(self.owner, self._ops.thread_self()):
            self.count = 1
            self._release()
        self._ops.mutex_unlock(self.lock)
        with self._gate_lock:
            self.shutdown_gate = MAX_THREADS if self.shutdown_gate >= MAX_THREADS else 0

    def try_run_irq(self) -> int:
        """Get the CPU for an interrupt without waiting (rule 17).

        LKL_CPU_LOCKED: the caller owns the CPU, runs the handler and puts. LKL_CPU_IN_USE: marked, the owner's next
        put runs it. Negative: the kernel is gone and the interrupt dropped.
        """
        result = self._try_get_lock(1)
        if result == LKL_CPU_IN_USE:
            self.irqs_pending = True
        self._try_get_unlock(result, 1)
        return result

    # -- shutdown

    def shutdown(self) -> None:
        """Close the gate. Calling it again changes nothing (rule 18)."""
        with self._gate_lock:
            if self.shutdown_gate < MAX_THREADS:
                self.shutdown_gate += MAX_THREADS

    def idle_shutdown(self) -> None:
        """The idle task saw the closed gate: send every sleeper away and free the CPU (rules 19 to 21)."""
        ops = self._ops
        try:
            ops.mutex_lock(self.lock)
            while self.sleepers:
                self.sleepers -= 1
                ops.sem_up(self.sem)
            ops.mutex_unlock(self.lock)
        except BaseException:
            self._unlock_if_held()
            raise
        self._wait_for_leavers()
        ops.sem_up(self.shutdown_sem)

    def _wait_for_leavers(self) -> None:
        # LKL spins. Where host threads are greenlets, who is behind the gate runs only if this thread waits for one.
        while self.shutdown_gate > MAX_THREADS:
            tid = self._ops.thread_create(_nothing, None)
            if tid:
                self._ops.thread_join(tid)
            sleep(0.0005)

    def wait_shutdown(self) -> None:
        """Wait until `idle_shutdown` is through, and free the rest. Raises KernelBug for a second caller (rule 22)."""
        if self.shutdown_sem is None:
            raise KernelBug("wait_shutdown() of an LKL CPU that was freed: only one caller may wait")
        self._ops.sem_down(self.shutdown_sem)
        self.free()

    def free(self) -> None:
        """Free lock and semaphores; called again, it goes on where an exception has interrupted it."""
        ops = self._ops
        if self.lock is not None:
            ops.mutex_free(self.lock)
            self.lock = None
        if self.sem is not None:
            ops.sem_free(self.sem)
            self.sem = None
        if self.shutdown_sem is not None:
            ops.sem_free(self.shutdown_sem)
            self.shutdown_sem = None
        self.shutdown_gate = MAX_THREADS
        self.owner = self.count = 0

    def __repr__(self) -> str:
        owner = f"owner={self.owner} count={self.count}" if self.owner else "free"
        gate = "closed" if self.shutdown_gate >= MAX_THREADS else "open"
        return f"<LklCpu {owner} sleepers={self.sleepers} gate={gate}>"


def _nothing(_arg: object) -> None:
    """A host thread that ends at once."""
