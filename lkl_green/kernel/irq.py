"""Interrupts: how the world outside gets the kernel's attention (rules 64 to 74).

An interrupt may be raised by any OS thread, a signal handler included, at any moment. All that happens at that moment
is: put the number into a set, say so, ring the host's doorbell. No lock is taken, because a signal handler may have
interrupted the holder. The handler runs later, in the kernel, at one of the *named points*:

        schedule(), cond_resched(), interrupts enabled again, idle; on a real clock also entry to lkl_run()

They are the same in all configurations, which is why the same program behaves the same in all of them. LKL runs the
handler in the thread that raised it if the kernel is idle (rule 66); here that thread only leaves the mark.

*Virtual time.* Under a virtual clock a run must not depend on when the host's threads get to run. So what comes from
outside is held back until the kernel is idle, and whoever hands work to a host thread says so with `irq_expect()`:
idle then waits for all of it before it looks. Host work takes no virtual time, and its results arrive together.

Triggers of one number that come before it is delivered are one interrupt (rule 70). One pass delivers in ascending
order (rule 71) what was raised before it began; what its handlers raise waits for the next pass (rule 69).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.numbers import check_int
from lkl_green.kernel.state import SystemState
from lkl_green.kernel.task import HARDIRQ_MASK, HARDIRQ_OFFSET, SOFTIRQ_MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lkl_green.kernel.kernel import Kernel

_HALTED = SystemState.HALTED

NR_IRQS = 4096

IRQF_SHARED = 0x80


class IrqAction:
    """One handler of an interrupt line (Linux: struct irqaction); the arguments of `request_irq()`."""

    __slots__ = ("dev_id", "flags", "handler", "name")

    def __init__(self, handler: Callable[[int], object], name: str, flags: int, dev_id: object) -> None:
        self.handler = handler
        self.name = name
        self.flags = flags
        self.dev_id = dev_id

    @property
    def has_dev_id(self) -> bool:
        """Whether it was requested with a `dev_id`, and so is not found by its name."""
        return self.dev_id is not self.name

    def __repr__(self) -> str:
        return f"{self.name!r} with dev_id {self.dev_id!r}" if self.has_dev_id else repr(self.name)


class Irq:
    """One interrupt line: who reserved it, who handles it, how often it came."""

    __slots__ = ("actions", "count", "expected", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.actions: tuple[IrqAction, ...] = ()
        self.count = 0
        self.expected = 0

    def find(self, dev_id: object) -> IrqAction | None:
        """The handler that was requested with this `dev_id`, or under this name without one."""
        return next((action for action in self.actions if action.dev_id is dev_id or action.dev_id == dev_id), None)


class InterruptController:
    """The interrupt lines of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._clock = kernel.clock
        self._irqs: dict[int, Irq] = {}
        # Raised and not delivered. The set is never replaced: other OS threads may hold it.
        self.raised: set[int] = set()
        # Raised by other OS threads under a virtual clock: held until idle.
        self.held: set[int] = set()
        # Completions of expected host work, counted by appending: an append is atomic, a decrement is not.
        self._arrived: list[int] = []
        self.nr_irqs = 0
        self.nr_lost = 0
        # Who decides when a triggered interrupt is raised, where schedules are explored; None: it is, at once.
        self.park: Callable[[int], None] | None = None

    # -- lines

    def get_free_irq(self, user: str) -> int:
        """Reserve the lowest free number, from 1 (rule 64). Raises OSError(EBUSY) if there is none."""
        for irq in range(1, NR_IRQS):
            if irq not in self._irqs:
                self._irqs[irq] = Irq(user)
                return irq
        raise OSError(errno.EBUSY, f"all {NR_IRQS - 1} interrupt numbers are taken")

    def put_irq(self, irq: int, user: str) -> None:
        """Give a number back, with its handlers (rule 64).

        For the wrong user it is a warning and no change, and so it is while there is a handler with a `dev_id`: only
        the owner of that may remove it, which for the timer's interrupt is the kernel.
        """
        line = self._irqs.get(irq)
        if line is None or line.user != user:
            owner = "nobody" if line is None else line.user
            self._kernel.printk.warn(f"lkl_put_irq: irq {irq} belongs to {owner}, not to {user}")
            return
        if any(action.has_dev_id for action in line.actions):
            self._kernel.printk.warn(f"lkl_put_irq: irq {irq} is handled by {list(line.actions)}; free_irq() first")
            return
        del self._irqs[irq]
        self.raised.discard(irq)

    def request_irq(
        self, irq: int, handler: Callable[[int], object], name: str, flags: int = 0, dev_id: object = None
    ) -> None:
        """Call `handler(irq)` for each delivery (Linux: request_irq()).

        A line has one handler, or several that all agreed to share it. They are called in the order of their requests.

        Args:
            irq: the number.
            handler: the function to call; it must not sleep.
            name: shown in traces and messages.
            flags: IRQF_SHARED to share the line; 0 not to.
            dev_id: what `free_irq()` finds this handler by; the name if left out.

        Raises:
            OSError: EINVAL for a number out of range or unknown flags; EBUSY if the line has a handler and not both
                share it, or if a handler has this `dev_id` already.
            TypeError: `irq` is not an integer, or `handler` is not a plain function.
        """
        self._check(irq)
        check_callback(handler, "interrupt handler")
        if flags & ~IRQF_SHARED:
            raise OSError(errno.EINVAL, f"flags={flags:#x}: use IRQF_SHARED, or 0")
        line = self._irqs.setdefault(irq, Irq(name))
        action = IrqAction(handler, name, flags, name if dev_id is None else dev_id)
        if line.actions:
            self._check_shared(irq, line, action)
        line.actions = (*line.actions, action)

    def _check_shared(self, irq: int, line: Irq, action: IrqAction) -> None:
        """Raises OSError(EBUSY) unless the handlers of a line and a new one agree to share it."""
        if line.find(action.dev_id) is not None:
            raise OSError(errno.EBUSY, f"irq {irq} already has a handler {action!r}")
        unshared = [other for other in (*line.actions, action) if not other.flags & IRQF_SHARED]
        if unshared:
            raise OSError(
                errno.EBUSY,
                f"irq {irq} has the handler {line.actions[0]!r}, and {unshared[0]!r} does not share it: take another "
                "number, from lkl_get_free_irq(), or request it with IRQF_SHARED everywhere",
            )

    def free_irq(self, irq: int, dev_id: object = None) -> None:
        """Remove a handler (Linux: free_irq()).

        Args:
            irq: the number.
            dev_id: as given to `request_irq()`, or the name if none was. It may be left out if the line has one
                handler, which was requested without a `dev_id`.

        Raises:
            OSError: EINVAL if there is no such handler. The kernel's own interrupts, such as the timer's, have a
                `dev_id` that only the kernel knows.
        """
        self._check(irq)
        line = self._irqs.get(irq)
        actions = () if line is None else line.actions
        if dev_id is None and len(actions) == 1 and not actions[0].has_dev_id:
            dev_id = actions[0].dev_id
        action = None if line is None else line.find(dev_id)
        if line is None or action is None:
            which = "no dev_id was given" if dev_id is None else f"none of them has the dev_id {dev_id!r}"
            raise OSError(errno.EINVAL, f"irq {irq} has the handlers {list(actions)}, and {which}")
        line.actions = tuple(other for other in actions if other is not action)
        line.expected = 0

    def _check(self, irq: int) -> None:
        """Raises TypeError for what is not an integer, OSError(EINVAL) for a number out of range."""
        check_int(irq, "irq")
        if not 0 < irq < NR_IRQS:
            raise OSError(errno.EINVAL, f"irq {irq} is not in 1..{NR_IRQS - 1}")

    @property
    def has_sources(self) -> bool:
        """Whether an interrupt from outside can come at all: a handler other than the kernel's timer exists."""
        return any(line.actions for irq, line in self._irqs.items() if irq != self._kernel.timers.irq)

    # -- raising

    def trigger(self, irq: int) -> int:
        """Raise an interrupt (lkl_trigger_irq): from any OS thread and from signal handlers; takes no lock.

        Returns:
            0, -EINVAL for a number out of range (rule 65), or -ESHUTDOWN if the kernel has halted.

        Raises:
            TypeError: `irq` is not an integer.
        """
        if type(irq) is not int:
            check_int(irq, "irq")
        if not 0 < irq < NR_IRQS:
            return -errno.EINVAL
        kernel = self._kernel
        if kernel.sched.system_state is _HALTED:
            return -errno.ESHUTDOWN
        if self._clock.is_virtual and kernel.is_foreign():
            self.held.add(irq)
        elif self.park is not None:
            self.park(irq)
        else:
            self.raised.add(irq)
            kernel.sched.checkpoint = 0
        line = self._irqs.get(irq)
        if line is not None and line.expected:
            # Last: once nothing is expected any more, idle believes that what came is in `held`.
            self._arrived.append(irq)
        # A loop that runs looks once more before it sleeps, and finds what was left before it was seen running.
        if not kernel.loop.running:
            kernel.host.doorbell()
        return 0

    def raise_local(self, irq: int) -> None:
        """Mark an interrupt that the kernel itself found, such as a timer that is due."""
        self.raised.add(irq)

    def irq_expect(self, irq: int) -> None:
        """Say that a host thread was given work that will end in one trigger of `irq`.

        Under a virtual clock idle waits for it; and a task that waits for it is not deadlocked.

        Raises:
            OSError: EINVAL for a number out of range, or that is not in use.
            TypeError: `irq` is not an integer.
        """
        self._check(irq)
        line = self._irqs.get(irq)
        if line is None:
            raise OSError(errno.EINVAL, f"irq {irq} is not in use: get it with lkl_get_free_irq(), or request_irq()")
        line.expected += 1

    @property
    def expected(self) -> int:
        """How many triggers are still to come."""
        while self._arrived:
            line = self._irqs.get(self._arrived.pop())
            if line is not None and line.expected:
                line.expected -= 1
        return sum(line.expected for line in self._irqs.values())

    # -- delivering

    def release_held(self) -> None:
        """The kernel is idle: what came from outside may come in."""
        if self.held and not self.expected:
            held = list(self.held)
            self.held.difference_update(held)
            self.raised.update(held)

    def deliver(self) -> None:
        """One pass over the pending interrupts, if the current task has them enabled."""
        kernel = self._kernel
        task = kernel.sched.current
        if task.irqs_disabled or task.preempt_count & HARDIRQ_MASK:
            return
        # A copy of a set of ints is one atomic step; another OS thread may add meanwhile.
        batch = self.raised.copy()
        self.raised.difference_update(batch)
        # irq_enter, the handlers, irq_exit with the softirqs (rule 68)
        # The state is left as it is: a handler that wakes this very task, which is about to sleep, clears it.
        count = task.preempt_count
        task.preempt_count = count + HARDIRQ_OFFSET
        task.irqs_disabled = True
        free_reads, self._clock.free_reads = self._clock.free_reads, True
        try:
            for irq in sorted(batch):
                self._handle(irq)
        finally:
            self._clock.free_reads = free_reads
            if task.preempt_count != count + HARDIRQ_OFFSET:
                kernel.softirq.repair_preempt_count(count + HARDIRQ_OFFSET, f"the handlers of irqs {sorted(batch)}")
            task.preempt_count = count
            task.irqs_disabled = False
        if kernel.softirq.pending and not task.preempt_count & SOFTIRQ_MASK:
            kernel.softirq.do_softirq()

    def _handle(self, irq: int) -> None:
        line = self._irqs.get(irq)
        if line is None or not line.actions:
            self.nr_lost += 1
            return
        line.count += 1
        self.nr_irqs += 1
        trace = self._kernel.sched.trace
        # A handler may free itself or another one, which replaces the tuple.
        for action in line.actions:
            if trace is not None:
                trace.emit("irq_handler_entry", irq, action.name)
            try:
                action.handler(irq)
            except BaseException as error:
                self._kernel.faults.oops_in_interrupt(error, f"interrupt handler {action.name!r} of irq {irq}")
            if trace is not None:
                trace.emit("irq_handler_exit", irq, "handled")

    # -- enabling and disabling

    def local_irq_save(self) -> bool:
        """Disable interrupts for the current task; the previous state."""
        task = self._kernel.sched.current
        disabled = task.irqs_disabled
        task.irqs_disabled = True
        return disabled

    def local_irq_restore(self, disabled: bool) -> None:
        """Restore what `local_irq_save` returned; enabling is a named point (rules 67, 69)."""
        kernel = self._kernel
        task = kernel.sched.current
        was_disabled, task.irqs_disabled = task.irqs_disabled, disabled
        if disabled or not was_disabled or task is kernel.sched.swapper:
            return
        if self.raised:
            self.deliver()
        if task.need_resched:
            kernel.sched.preempt_check()

    @property
    def lines(self) -> Collection[int]:
        """The numbers that somebody has reserved."""
        return self._irqs.keys()

    def handlers_of(self, irq: int) -> list[Callable[[int], object]]:
        """The functions that handle an interrupt."""
        line = self._irqs.get(irq)
        return [] if line is None else [action.handler for action in line.actions]

    def statistics(self) -> dict[int, tuple[str, int]]:
        """Per interrupt number: who uses it and how often it came (/proc/interrupts)."""
        return {irq: (line.user, line.count) for irq, line in sorted(self._irqs.items())}
