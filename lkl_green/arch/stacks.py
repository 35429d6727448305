"""The greenlets of a task: its code may make some of its own and sleep in them.

    base  --- I.switch() -->  greenlet I  --- schedule() -->  other tasks  --- switch_to -->  greenlet I

A task begins in one greenlet, its base. SQLAlchemy's `greenlet_spawn()`, greenback and gevent-like code make others and
switch between them; the kernel is not told. A task that gives up the CPU has to be resumed in the greenlet in which it
did so. Hence the scheduler compares `getcurrent()` with `task.stack` at each scheduling point. Dropped: comparing only
where a task sleeps. A task that yields in an inner greenlet would be resumed in its base, and the inner greenlet, with
all it holds, would be lost without a word. Nothing cheaper than `getcurrent()` tells two greenlets apart.

Two things are errors. On OS threads greenlet itself refuses both:

- *A task gives up the CPU in a greenlet that is not its own*: the parents of that greenlet do not lead to the task's
  base. When it ended, control would go to its parent, in the middle of another task.
- *A switch of other code resumes a task that sleeps*: `sleeper.switch()`, or the end of a greenlet whose parent sleeps.
  The one that was resumed sees that it is not the current task. It raises the error in the base of the current task,
  whose code made the switch, and sleeps on. A carrier in the pool and the caller of `lkl_run()` do the same.

Nothing is raised for a switch into code that does not sleep in the kernel: the kernel does not run there. That code
gets the first of the two errors at its next scheduling point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import GreenletExit, getcurrent

from lkl_green.errors import ForeignGreenlet
from lkl_green.host.stacks import of_package

if TYPE_CHECKING:
    from greenlet import greenlet

    from lkl_green.arch.base import ThreadInfo


def own_stack(task: ThreadInfo) -> greenlet:
    """The calling greenlet, in which `task` runs. Raises ForeignGreenlet if its parents do not lead to the base."""
    here = ancestor = getcurrent()
    while ancestor is not task.base:
        if ancestor.parent is None:
            raise ForeignGreenlet(
                f"BUG: {task!r} gives up the CPU in {here!r}, which belongs to another kernel thread or to the "
                "application; make a greenlet in the kernel thread that runs it"
            )
        ancestor = ancestor.parent
    return here


def raise_in_base(intruder: ThreadInfo, what: str, came: object) -> object:
    """Raise ForeignGreenlet in `intruder`, whose switch resumed the caller; returns when the caller is resumed again.

    Args:
        intruder: the current task, or swapper for the application.
        what: whom it resumed.
        came: what the switch brought: a value, or the exception that it raised.

    Returns:
        What the next switch brings, an exception also as a value.
    """
    error = ForeignGreenlet(
        f"BUG: a greenlet switch of {intruder!r} resumed {what}: it went to a greenlet in which another kernel thread "
        "sleeps, or a greenlet of another kernel thread ended in it; only the scheduler resumes kernel threads"
    )
    error.__cause__ = came if isinstance(came, BaseException) else None
    if intruder.base is None or intruder.base.dead:
        raise error
    try:
        return intruder.base.throw(error)
    except GreenletExit:
        raise  # the end of a parked carrier
    except BaseException as another:
        return another


def is_switched_out(task: ThreadInfo) -> bool:
    """Whether the kernel has suspended `task`; false while it runs, in whichever greenlet."""
    stack = getattr(task, "stack", None)
    if stack is None:
        return True  # it never ran
    if stack.dead:
        return False
    frame = stack.gr_frame
    return frame is None or of_package(frame.f_code.co_filename)
