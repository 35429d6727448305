"""What a task is: its states, its flags, its fields, and the table of all of them.

States and flags are plain ints with Linux's values. An `enum.IntFlag` would read better and costs more for one `&`
than three context switches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.arch.base import ThreadInfo
from lkl_green.kernel.nocopy import NoCopy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from lkl_green.kernel.completion import Completion
    from lkl_green.kernel.exec import PtRegs
    from lkl_green.kernel.taskend import TaskEnd
    from lkl_green.kernel.wait import WaitQueueHead

# Task states (include/linux/sched.h).
TASK_RUNNING = 0
TASK_INTERRUPTIBLE = 0x1
TASK_UNINTERRUPTIBLE = 0x2
EXIT_DEAD = 0x10
EXIT_ZOMBIE = 0x20
TASK_PARKED = 0x40
TASK_DEAD = 0x80
TASK_WAKEKILL = 0x100
TASK_NOLOAD = 0x400
TASK_NEW = 0x800
TASK_PREEMPTED = 0x1000  # ours, in saved_state only: the task did not give up the CPU of itself
TASK_OUTSIDE = 0x2000  # ours: a host task between two calls; whoever still knows it and wakes it must not run it
TASK_KILLABLE = TASK_WAKEKILL | TASK_UNINTERRUPTIBLE
TASK_IDLE = TASK_UNINTERRUPTIBLE | TASK_NOLOAD
TASK_NORMAL = TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE

# Task flags.
PF_IDLE = 0x2
PF_EXITING = 0x4
PF_KTHREAD = 0x200000
PF_NEWBORN = 0x2000_0000  # ours: it has not run yet, and if it is killed now it never will
PF_REPARENTED = 0x1000_0000  # ours: its parent died, init is its parent now
PF_KILL_BLOCKED = 0x0800_0000  # ours: while the kernel runs, TaskKilled is not raised at its sleeps

# preempt_count is one number with three fields, as in include/linux/preempt.h: how often preemption was disabled, how
# deep in softirqs and how deep in interrupts. "May this context sleep?" is one test for zero.
PREEMPT_OFFSET = 1
SOFTIRQ_OFFSET = 1 << 8
HARDIRQ_OFFSET = 1 << 16
PREEMPT_MASK = 0xFF
SOFTIRQ_MASK = 0xFF << 8
HARDIRQ_MASK = 0xF << 16
FORK_PREEMPT_COUNT = 1

# Priorities: 0 to 99 real-time (99 - rt_priority), 120 every SCHED_NORMAL task, 140 the idle task.
MAX_RT_PRIO = 100
DEFAULT_PRIO = 120
IDLE_PRIO = 140
SCHED_NORMAL = 0
SCHED_FIFO = 1
SCHED_RR = 2

# A killed task that sleeps this often in spite of it is given up.
KILLED_SLEEPS = 16

TASK_COMM_LEN = 16  # with C's final NUL, so that 15 characters are left (rule 96)
PID_MAX_LIMIT = 4 * 1024 * 1024

_STATE_NAMES = {
    TASK_RUNNING: "RUNNING",
    TASK_INTERRUPTIBLE: "INTERRUPTIBLE",
    TASK_UNINTERRUPTIBLE: "UNINTERRUPTIBLE",
    TASK_PARKED: "PARKED",
    TASK_DEAD: "DEAD",
    TASK_KILLABLE: "KILLABLE",
    TASK_IDLE: "IDLE",
    TASK_NEW: "NEW",
    TASK_OUTSIDE: "UNINTERRUPTIBLE",
    EXIT_ZOMBIE: "ZOMBIE",
    EXIT_DEAD: "DEAD",
}

_STATE_LETTERS = (
    (TASK_INTERRUPTIBLE, "S"),
    (TASK_UNINTERRUPTIBLE | TASK_OUTSIDE, "D"),
    (TASK_PARKED, "P"),
    (TASK_DEAD, "X"),
)


def state_name(state: int) -> str:
    """A task state in words, for people."""
    return _STATE_NAMES.get(state, hex(state))


def state_letter(task: Task) -> str:
    """A task's state as `ps` and ftrace print it."""
    if task.exit_state:
        return "Z" if task.exit_state == EXIT_ZOMBIE else "X"
    state = task.state
    if state & TASK_NOLOAD:
        return "I"
    for bits, letter in _STATE_LETTERS:
        if state & bits:
            return letter
    return "R"


class SchedEntity(ThreadInfo):
    """What `schedule()` and wake-ups touch of a task, which only the current task and whoever wakes it may write.

    CPython lays the slots of a class out together, so that these are one cache line. Among the others they were three,
    and among a thousand tasks, which no cache holds, that is a twentieth of a switch.

    Attributes:
        state: TASK_* bits; set before the condition is tested, or a wake-up is lost (rule 116).
        saved_state: the state of a task that was preempted between setting its state and sleeping.
        preempt_count: see PREEMPT_OFFSET above; nonzero forbids `schedule()`.
        prio: the priority that decides.
        signals: the signals that were sent and not dealt with; None if there are none (Linux: TIF_SIGPENDING).
        waiting_for: what a sleeping task waits for; served by semaphores and their like when it is cleared.
    """

    __slots__ = ("preempt_count", "prio", "saved_state", "signals", "state", "waiting_for")

    prio: int


class Task(SchedEntity, NoCopy):
    """A kernel thread, a user process or the idle task (Linux: `struct task_struct`).

    Attributes:
        need_resched: somebody more important is runnable.
        irqs_disabled: interrupts wait; per task, so that it cannot leak to whoever runs next (reference 5.20).
        policy: SCHED_*.
        killed: nonzero once the kernel takes the task down: each sleep raises TaskKilled and is counted here.
        locks_held: mutexes that it holds.
        pid, tgid, comm, flags: as in Linux.
        fn, arg: what `ret_from_fork` calls; passed blindly by fork (rule 78).
        parent, children: the family; `children` is None until there is one.
        exit_signal: SIGCHLD makes a zombie for `wait4()`; 0 lets the kernel reap at once.
        exit_state, exit_code: EXIT_* and what `wait4()` or `kthread_stop()` will see.
        regs: the user registers; None stands for cleared ones.
        kthread: what the thread's end is reported to; a KThread if `kthread_create()` made it. None for a task whose
            function ends in `do_exit()` or becomes a user process.
        wait_chldexit: on which `wait4()` sleeps; None until it does.
        vfork_done: completed when the child execs or exits.
        files: the descriptors; None until it has any. What it is only the file layer knows.
    """

    __slots__ = (
        "__weakref__",
        "arg",
        "children",
        "comm",
        "exit_code",
        "exit_signal",
        "exit_state",
        "files",
        "flags",
        "fn",
        "irqs_disabled",
        "killed",
        "kthread",
        "locks_held",
        "need_resched",
        "parent",
        "pid",
        "policy",
        "regs",
        "tgid",
        "vfork_done",
        "wait_chldexit",
    )

    context: Context
    policy: int
    flags: int
    fn: Callable[[Any], Any] | None
    arg: Any
    exit_code: Any

    def __init__(self, pid: int, comm: str, parent: Task | None) -> None:
        """What every task starts with; fork sets the fields that are only annotated above."""
        self.state = TASK_NEW
        self.saved_state = TASK_RUNNING
        self.preempt_count = FORK_PREEMPT_COUNT
        self.need_resched = False
        self.irqs_disabled = False
        self.signals: set[int] | None = None
        self.killed = 0
        self.locks_held = 0
        self.waiting_for: object | None = None
        self.pid = pid
        self.tgid = pid
        self.comm = comm
        self.parent = parent
        self.children: dict[Task, None] | None = None
        self.exit_signal = 0
        self.exit_state = 0
        self.regs: PtRegs | None = None
        self.kthread: TaskEnd | None = None
        self.wait_chldexit: WaitQueueHead | None = None
        self.vfork_done: Completion | None = None
        self.files: object | None = None

    def __repr__(self) -> str:
        waiting = f" waiting for {self.waiting_for!r}" if self.waiting_for is not None and self.state else ""
        return f"<Task {self.comm}-{self.pid} {state_name(self.exit_state or self.state)}{waiting}>"


class PidTable:
    """All tasks by pid, and the next pid to give.

    Pids go up and wrap at the limit, as Linux's do, so that a pid is not used again soon after its task has gone.
    """

    __slots__ = ("limit", "next_pid", "tasks")

    def __init__(self, limit: int = PID_MAX_LIMIT) -> None:
        self.tasks: dict[int, Task] = {}
        self.next_pid = 1
        self.limit = limit

    def alloc(self) -> int:
        """A free pid, or 0 if there is none."""
        pid = self.next_pid
        if pid in self.tasks or pid >= self.limit:
            pid = self._search(pid)
        self.next_pid = pid + 1
        return pid

    def _search(self, start: int) -> int:
        if len(self.tasks) >= self.limit - 1:
            return 0
        pid = start if start < self.limit else 1
        while pid in self.tasks:
            pid = pid + 1 if pid + 1 < self.limit else 1
        return pid

    def __iter__(self) -> Iterator[Task]:
        return iter(sorted(self.tasks.values(), key=lambda task: task.pid))

    def __len__(self) -> int:
        return len(self.tasks)
