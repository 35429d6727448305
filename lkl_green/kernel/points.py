"""What each kind of scheduling point does to its object.

A scheduling point is announced to `sched.listener` as (kind, object), before the operation is done. A second one stands
after each operation that lets others continue, a release or a notification, and is announced to `sched.after`: what
the task does next, in plain statements, may come after what the others do. This table is the
only place that says what a kind means. The policies and detectors of a schedule explorer take their sets of kinds from
it, so that they cannot disagree.

Each kind has one effect:

    reads     looks at its object, or waits for something that lets all its waiters through
    changes   may change its object, or the order in which its waiters are served
    takes     takes a lock, or one of a semaphore's count
    gives     gives one of these back
    ends      waits until its object, a task or a work, has ended

Two operations on one object *commute* if both read, or wait for an end: the result is the same in either order. All
other pairs conflict.

A kind is a plain string, so that to announce it loads one constant. With `Kind`, mypy rejects a misspelt kind; at run
time `POINTS[kind]` raises KernelBug. Dropped: an Enum, whose members cost an attribute lookup at each point.

Kinds are written to schedule files. A kind that gets another name keeps the old one in `was`, and recorded schedules
still replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, NoReturn

from lkl_green.errors import KernelBug

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal[
    # locks
    "lock", "timed_lock", "trylock", "unlock", "down", "down_trylock", "up", "spin_lock", "spin_trylock", "spin_unlock",
    # sleeping and waking
    "wait", "wait_event", "wake_up", "notify", "wake", "wait_for_completion", "complete", "complete_all", "sleep",
    # tasks
    "start", "resume", "yield", "after", "join",
    # event loops
    "await", "callback", "cancel",
    # data
    "read", "write", "fetch_add", "exchange", "compare_exchange", "poll", "receive", "put", "get", "close",
    # works
    "queue_work", "queue_delayed_work", "mod_delayed_work", "cancel_work", "flush_work", "flush_workqueue",
    "kthread_queue_work", "kthread_mod_delayed_work", "kthread_cancel_work_sync", "kthread_flush_work",
    "kthread_flush_worker",
]  # fmt: skip

Effect = Literal["reads", "changes", "takes", "gives", "ends"]

# What a task is about to do that has announced nothing: run for the first time, or continue after a sleep, after a
# yield, or after an operation that lets others continue.
START: Final = "start"
RESUME: Final = "resume"
YIELD: Final = "yield"
AFTER: Final = "after"

# Operations that some part of a search has a rule of its own for.
LOCK: Final = "lock"
UNLOCK: Final = "unlock"
SLEEP: Final = "sleep"
JOIN: Final = "join"
COMPARE_EXCHANGE: Final = "compare_exchange"

# What an event loop of asyncio does next: continue a task after an `await`, call another function, cancel a task.
AWAIT: Final = "await"
CALLBACK: Final = "callback"
CANCEL: Final = "cancel"


class Point(NamedTuple):
    """A row of the table.

    Attributes:
        effect: what the operation does to its object.
        why: the reason for this row.
        waits: whether it may sleep until another operation on its object lets it go on.
        holds: whether the task that has taken the object holds it alone until it gives it back, from point to point.
        looks: whether the task goes on if it does not get the object, and so knows that it was held.
        atomic: whether it begins a section in which all operations belong to its step.
        forgotten: whether it is a notification that is not remembered, or waits for one.
        was: what schedule files called it earlier.
    """

    effect: Effect
    why: str
    waits: bool = False
    holds: bool = False
    looks: bool = False
    atomic: bool = False
    forgotten: bool = False
    was: tuple[str, ...] = ()


class Points(dict[Kind, Point]):
    """The table: a row for each kind."""

    def __missing__(self, kind: str) -> NoReturn:
        raise KernelBug(
            f"BUG: {kind!r} was announced to sched.listener and is not a kind of scheduling point: it is misspelt, or "
            "new; a new kind needs a row in the table of lkl_green/kernel/points.py"
        )


POINTS: Final = Points({
    # -- locks
    "lock": Point("takes", "a lock has one holder at a time, until unlock", waits=True, holds=True),
    "timed_lock": Point(
        "takes", "a lock, or time runs out, and that it was held has been seen",
        waits=True, holds=True, looks=True, was=("lock",),
    ),
    "trylock": Point(
        "takes", "a lock if it succeeds, which its owner tells; if it fails, the failure has been seen",
        holds=True, looks=True,
    ),
    "unlock": Point("gives", "the lock is free, or the longest waiter's"),
    "down": Point(
        "takes", "holds nothing: a count above 1 lets several tasks in, and any task may raise it (rule 120)",
        waits=True, was=("lock",),  # of the semaphores of `threading`
    ),
    "down_trylock": Point(
        "takes", "as down; it never sleeps, and a failure has been seen", looks=True, was=("down", "trylock")
    ),
    "up": Point("gives", "raises the count, by any task (rule 120)", was=("unlock",)),
    "spin_lock": Point(
        "takes", "holds nothing from point to point: preemption is disabled, so the whole section is one step",
        atomic=True,
    ),
    "spin_trylock": Point(
        "takes", "as spin_lock; a failure has been seen", looks=True, atomic=True, was=("spin_lock",)
    ),
    "spin_unlock": Point("gives", "announced with preemption disabled, so it belongs to the step of spin_lock"),
    # -- sleeping and waking
    "wait": Point(
        "changes", "joins a queue that is served in order of arrival: Condition.wait(), an exclusive wait_event()",
        waits=True, forgotten=True,
    ),
    "wait_event": Point(
        "reads", "a wake-up wakes all of these waiters, so their order does not matter: wait_event(), Event.wait()",
        waits=True, forgotten=True, was=("wait",),
    ),
    "wake_up": Point("changes", "takes waiters off their queue; a later waiter finds no trace of it", forgotten=True),
    "notify": Point(
        "changes", "as wake_up: Condition.notify(); Event.set() is forgotten after clear()", forgotten=True
    ),
    "wake": Point("changes", "a task is made runnable, or gets a signal; no queue forgets it, its object is the task"),
    "wait_for_completion": Point("changes", "uses one complete() up, in order of arrival (rule 119)", waits=True),
    "complete": Point("changes", "lets one waiter through, now or later"),
    "complete_all": Point("changes", "lets all waiters through, now and later"),
    "sleep": Point("reads", "waits for time to pass; it has no object"),
    # -- tasks
    "start": Point("changes", "is_alive() sees the start of a thread; a task's first run has no object"),
    "resume": Point("reads", "continues after a sleep; it has no object"),
    "yield": Point("reads", "continues after it gave up the CPU; it has no object"),
    "after": Point("reads", "continues after an operation that lets others continue; it has no object"),
    "join": Point("ends", "the end of a task lets all through that join it", waits=True),
    # -- event loops of asyncio
    "await": Point("reads", "a task of a loop continues after an await; what it does then is not known before"),
    "callback": Point("reads", "a loop calls a function that belongs to none of its tasks; it has no object"),
    "cancel": Point("reads", "a task of a loop is cancelled while it waits; it has no object"),
    # -- data
    "read": Point("reads", "a shared variable, or the state of a lock, queue or thread that is looked at"),
    "write": Point("changes", "the value, or the bytes on their way, are others afterwards"),
    "fetch_add": Point("changes", "reads and writes a shared variable in one operation"),
    "exchange": Point("changes", "as fetch_add"),
    "compare_exchange": Point("changes", "as fetch_add; if the value is another one it only reads"),
    "poll": Point("reads", "looks at what a file is ready for, and takes nothing out"),
    "receive": Point("changes", "takes out what it reads, in order of arrival", waits=True),
    "put": Point("changes", "adds an item, or serves the longest waiter"),
    "get": Point("changes", "takes an item out, in order of arrival", waits=True),
    "close": Point("changes", "all that use the file afterwards fail, or find its end"),
    # -- works
    "queue_work": Point("changes", "makes the work pending"),
    "queue_delayed_work": Point("changes", "makes the work pending"),
    "mod_delayed_work": Point("changes", "makes the work pending, at another time"),
    "cancel_work": Point("changes", "the work is not pending afterwards"),
    "flush_work": Point("ends", "the end of the work lets all through that flush it", waits=True),
    "flush_workqueue": Point("ends", "all flushes wait for the works that were queued before", waits=True),
    "kthread_queue_work": Point("changes", "makes the work pending"),
    "kthread_mod_delayed_work": Point("changes", "makes the work pending, at another time"),
    "kthread_cancel_work_sync": Point("changes", "the work is not pending afterwards", waits=True),
    "kthread_flush_work": Point("ends", "as flush_work", waits=True),
    "kthread_flush_worker": Point("ends", "as flush_workqueue", waits=True),
})  # fmt: skip


def kinds(test: Callable[[Point], bool]) -> frozenset[str]:
    """The kinds whose row passes `test`."""
    return frozenset(kind for kind, point in POINTS.items() if test(point))


# Operations that commute with each other on one object.
COMMUTES: Final = kinds(lambda point: point.effect in ("reads", "ends"))
TAKES: Final = kinds(lambda point: point.effect == "takes")
GIVES: Final = kinds(lambda point: point.effect == "gives")

# Operations that take a lock or find out that it is held, and those that begin a section without points.
LOOKS: Final = kinds(lambda point: point.holds and point.looks)
ATOMIC: Final = kinds(lambda point: point.atomic)

# Operations that leave what their task knows at the object, for those that fetch it: what they say happens before what
# the others do. A section under a spin lock is one step, so that to take it does both.
_BOTH: Final = kinds(lambda point: point.effect == "changes" and point.waits and not point.forgotten) | {
    "compare_exchange",
    "exchange",
    "fetch_add",
    "put",
    "write",
    "close",
    "spin_lock",
    "spin_trylock",
}
LEAVES: Final = GIVES | _BOTH | kinds(lambda point: point.effect == "changes" and not point.waits)
FETCHES: Final = TAKES | _BOTH | kinds(lambda point: point.waits or point.effect in ("reads", "ends"))
