"""The in-kernel API under Linux's names, for the kernel whose code the caller is.

    from lkl_green.linux import kthread_run, msleep, printk

    def init():
        task = kthread_run(blink, "LED0", name="blinker")
        ...

These functions find their kernel through the context (see `lkl_green.kernel.current`) and raise NoCurrentKernel where
there is none. Classes (`Mutex`, `Completion`, `WaitQueueHead`, ...) take the current kernel when they are made, or
another one as `kernel=`. Durations carry their unit in the name, except where Linux's name says it: `msleep(ms)`,
`ssleep(s)`. Failures raise OSError with Linux's errno.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from lkl_green.errors import TaskExit
from lkl_green.fs import pipe as _pipe
from lkl_green.fs import select as _select
from lkl_green.fs import socketpair as _socketpair
from lkl_green.fs.eventfd import EventFd
from lkl_green.fs.eventpoll import EventPoll
from lkl_green.fs.file import File
from lkl_green.fs.file_table import files_of_current as _files_of_current
from lkl_green.fs.hostfd import HostFile, host_fd
from lkl_green.fs.hostsocket import HostSocket, host_socket
from lkl_green.fs.kfifo import KFifo
from lkl_green.kernel import kthread_worker as _kthread_worker
from lkl_green.kernel import umh as _umh
from lkl_green.kernel.completion import Completion
from lkl_green.kernel.current import current_kernel
from lkl_green.kernel.fork import CLONE_PARENT, CLONE_VFORK, do_exit
from lkl_green.kernel.kthread_work import KthreadDelayedWork, KthreadWork
from lkl_green.kernel.kthread_worker import KthreadWorker
from lkl_green.kernel.locking import Mutex, Semaphore, SpinLock
from lkl_green.kernel.printk import (
    KERN_ALERT,
    KERN_CRIT,
    KERN_DEBUG,
    KERN_EMERG,
    KERN_ERR,
    KERN_INFO,
    KERN_NOTICE,
    KERN_WARNING,
)
from lkl_green.kernel.signum import (
    SA_RESTART,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGALRM,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    TermSignal,
)
from lkl_green.kernel.softirq import Tasklet
from lkl_green.kernel.task import (
    DEFAULT_PRIO,
    MAX_RT_PRIO,
    SCHED_FIFO,
    SCHED_NORMAL,
    SCHED_RR,
    TASK_IDLE,
    TASK_INTERRUPTIBLE,
    TASK_KILLABLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Task,
)
from lkl_green.kernel.timer import MAX_SCHEDULE_TIMEOUT, Timer
from lkl_green.kernel.umh import UMH_NO_WAIT, UMH_WAIT_EXEC, UMH_WAIT_PROC
from lkl_green.kernel.unistd import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLNVAL,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLRDHUP,
    O_NONBLOCK,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    EpollEvent,
)
from lkl_green.kernel.wait import WaitQueueHead
from lkl_green.kernel.work import DelayedWork, Work
from lkl_green.kernel.workqueue import Workqueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lkl_green.fs.file import Buffer

    T = TypeVar("T")

_NS_PER_US = 1_000
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000


# -- the current task


def current() -> Task:
    """The running task."""
    return current_kernel().sched.current


def schedule() -> None:
    """Give up the CPU (rules 115 to 117)."""
    current_kernel().sched.schedule()


def cond_resched() -> bool:
    """Let others run if it is time; whether one did (rule 127)."""
    return current_kernel().sched.cond_resched()


def set_current_state(state: int) -> None:
    """Announce a sleep, before the condition is tested (rule 116)."""
    current_kernel().sched.current.state = state


def schedule_timeout(timeout_ns: int) -> int:
    """Sleep in the state that was set, for at most `timeout_ns`; what is left of it (rule 118)."""
    return current_kernel().timers.schedule_timeout(timeout_ns)


def schedule_timeout_uninterruptible(timeout_ns: int) -> int:
    """The same, uninterruptible."""
    set_current_state(TASK_UNINTERRUPTIBLE)
    return schedule_timeout(timeout_ns)


def schedule_timeout_interruptible(timeout_ns: int) -> int:
    """The same, interruptible."""
    set_current_state(TASK_INTERRUPTIBLE)
    return schedule_timeout(timeout_ns)


def yield_() -> None:
    """Go to the end of the queue (Linux: yield())."""
    set_current_state(TASK_RUNNING)
    schedule()


def preempt_disable() -> None:
    """Forbid sleeping and preemption until `preempt_enable()`."""
    current_kernel().sched.preempt_disable()


def preempt_enable() -> None:
    """Undo one `preempt_disable()`."""
    current_kernel().sched.preempt_enable()


def need_resched() -> bool:
    """Whether somebody more important is runnable (rule 127)."""
    return current_kernel().sched.current.need_resched


def in_interrupt() -> bool:
    """Whether an interrupt handler or a softirq runs."""
    return current_kernel().sched.current.preempt_count >= 1 << 8


# -- waking


def wake_up_process(task: Task) -> bool:
    """Wake a sleeping task; whether it slept (rule 114)."""
    return current_kernel().sched.wake_up_process(task)


def sched_setscheduler(task: Task, policy: int, rt_priority: int = 0) -> None:
    """Set policy and real-time priority (1 to 99 for SCHED_FIFO and SCHED_RR). Raises ValueError for others."""
    if policy == SCHED_NORMAL:
        prio = DEFAULT_PRIO
    elif policy in (SCHED_FIFO, SCHED_RR) and 0 < rt_priority < MAX_RT_PRIO:
        prio = MAX_RT_PRIO - 1 - rt_priority
    else:
        raise ValueError(f"policy {policy} with rt_priority {rt_priority}: real-time priorities are 1 to 99")
    current_kernel().sched.sched_setscheduler(task, policy, prio)


# -- threads and processes


def kernel_thread(fn: Callable[[Any], Any], arg: Any = None, flags: int = 0) -> int:
    """Low level: a kernel thread that ends in `do_exit()` or `kernel_execve()`; its pid (rules 75 to 77, 81)."""
    return current_kernel().fork.kernel_thread(fn, arg, flags).pid


def kernel_execve(path: str, argv: Sequence[str] = (), envp: Mapping[str, str] | None = None) -> int:
    """Become a user program; 0, which the thread function then returns (rules 76, 79). Raises OSError(ENOENT)."""
    return current_kernel().exec.kernel_execve(path, argv, envp)


def kernel_wait4(pid: int = -1, options: int = 0) -> tuple[int, Any]:
    """Wait for a child forked with SIGCHLD; (pid, exit code), a TermSignal if a signal ended it.

    Raises ChildProcessError without one.
    """
    return current_kernel().exits.wait4(pid, options)


def call_usermodehelper(
    path: str, argv: Sequence[str] = (), envp: Mapping[str, str] | None = None, wait: int = UMH_WAIT_EXEC
) -> int:
    """Run a user program as a child of the kernel; its exit code with UMH_WAIT_PROC, else 0. Raises OSError."""
    return _umh.call_usermodehelper(current_kernel(), path, argv, envp, wait)


def kthread_create(fn: Callable[..., Any], *args: Any, name: str = "kthread") -> Task:
    """Make a kernel thread that calls `fn(*args)` once it is woken (rules 95, 96). Raises OSError."""
    return current_kernel().kthreads.kthread_create(fn, *args, name=name)


def kthread_run(fn: Callable[..., Any], *args: Any, name: str = "kthread") -> Task:
    """Make a kernel thread and wake it. Raises OSError."""
    return current_kernel().kthreads.kthread_run(fn, *args, name=name)


def kthread_stop(task: Task) -> Any:
    """Ask a kthread to stop, wait until it has; its result (rule 97)."""
    return current_kernel().kthreads.kthread_stop(task)


def kthread_should_stop() -> bool:
    """Whether the current kthread was asked to stop (rule 100)."""
    return current_kernel().kthreads.should_stop()


def kthread_park(task: Task) -> int:
    """Ask a kthread to park and wait until it has; 0, -ENOSYS or -EBUSY (rule 103)."""
    return current_kernel().kthreads.kthread_park(task)


def kthread_unpark(task: Task) -> None:
    """Let it go on (rule 104)."""
    current_kernel().kthreads.kthread_unpark(task)


def kthread_should_park() -> bool:
    """Whether the current kthread was asked to park."""
    return current_kernel().kthreads.should_park()


def kthread_parkme() -> None:
    """Park for as long as that is asked (rule 102)."""
    current_kernel().kthreads.parkme()


def send_sig(sig: int, task: Task) -> None:
    """Send a signal to a task; what becomes of it is told in kernel/signal.py. Raises OSError: EINVAL, EOPNOTSUPP."""
    current_kernel().signals.send_sig(sig, task)


def allow_signal(sig: int) -> None:
    """Let the current kernel thread receive a signal."""
    current_kernel().signals.allow_signal(sig)


def signal_pending(task: Task | None = None) -> bool:
    """Whether a signal waits for the task, the current one if left out."""
    kernel = current_kernel()
    return kernel.signals.signal_pending(kernel.sched.current if task is None else task)


def flush_signals(task: Task | None = None) -> None:
    """Forget pending signals."""
    kernel = current_kernel()
    kernel.signals.flush_signals(kernel.sched.current if task is None else task)


# -- waiting


def wait_event(queue: WaitQueueHead, condition: Callable[[], object]) -> None:
    """Sleep until the condition holds."""
    queue.wait_event(condition)


def wait_event_interruptible(queue: WaitQueueHead, condition: Callable[[], object]) -> None:
    """The same; a signal ends it. Raises InterruptedError."""
    queue.wait_event_interruptible(condition)


def wait_event_timeout(queue: WaitQueueHead, condition: Callable[[], object], timeout_ns: int) -> int:
    """The same, for at most `timeout_ns`; 0 if it passed, else what is left, at least 1."""
    return queue.wait_event_timeout(condition, timeout_ns)


def wake_up(queue: WaitQueueHead) -> int:
    """Wake all non-exclusive waiters and one exclusive one (rule 122)."""
    return queue.wake_up()


def wake_up_all(queue: WaitQueueHead) -> int:
    """Wake all waiters."""
    return queue.wake_up_all()


# -- time


def ktime_get() -> int:
    """The kernel's clock in ns."""
    return current_kernel().timers.now_ns()


def msleep(ms: float) -> None:
    """Sleep for at least `ms` milliseconds."""
    current_kernel().timers.sleep(int(ms * _NS_PER_MS))


def ssleep(seconds: float) -> None:
    """Sleep for at least `seconds`."""
    current_kernel().timers.sleep(int(seconds * _NS_PER_S))


def usleep(us: float) -> None:
    """Sleep for at least `us` microseconds."""
    current_kernel().timers.sleep(int(us * _NS_PER_US))


def msleep_interruptible(ms: float) -> float:
    """Sleep until the time has passed or a signal comes; the milliseconds left."""
    return current_kernel().timers.sleep_interruptible(int(ms * _NS_PER_MS)) / _NS_PER_MS


def ndelay(duration_ns: int) -> None:
    """Let time pass without giving up the CPU (rule 92)."""
    current_kernel().timers.delay(duration_ns)


def mod_timer(timer: Timer, expires_ns: int) -> bool:
    """Arm or move a timer; whether it was armed (rule 126)."""
    return timer.mod_timer(expires_ns)


def del_timer(timer: Timer) -> bool:
    """Disarm; whether it was armed."""
    return timer.del_timer()


def del_timer_sync(timer: Timer) -> bool:
    """Disarm, and the callback does not run any more."""
    return timer.del_timer_sync()


# -- interrupts


def request_irq(irq: int, handler: Callable[[int], object], name: str) -> None:
    """Handle an interrupt. Raises OSError: EINVAL, EBUSY."""
    current_kernel().irq.request_irq(irq, handler, name)


def free_irq(irq: int, name: str) -> None:
    """Stop handling it. Raises OSError(EINVAL)."""
    current_kernel().irq.free_irq(irq, name)


def irq_expect(irq: int) -> None:
    """Say that a host thread was given work that will end in this interrupt."""
    current_kernel().irq.irq_expect(irq)


def local_irq_save() -> bool:
    """Disable interrupts; the previous state."""
    return current_kernel().irq.local_irq_save()


def local_irq_restore(flags: bool) -> None:
    """Restore it; pending interrupts run if that enables them (rule 69)."""
    current_kernel().irq.local_irq_restore(flags)


def local_irq_disable() -> None:
    """Disable interrupts."""
    current_kernel().irq.local_irq_save()


def local_irq_enable() -> None:
    """Enable interrupts; pending ones run."""
    current_kernel().irq.local_irq_restore(False)


def local_bh_disable() -> None:
    """Keep softirqs from running here."""
    current_kernel().softirq.local_bh_disable()


def local_bh_enable() -> None:
    """Let them run again."""
    current_kernel().softirq.local_bh_enable()


def cpu_relax() -> None:
    """For busy-wait loops: deliver pending interrupts, that of the timer among them (rule 72).

    A little virtual time passes, as in UML; or a loop that waits for a timer would never end.
    """
    kernel = current_kernel()
    kernel.timers.now_ns()
    kernel.irq.local_irq_restore(kernel.irq.local_irq_save())


def tasklet(func: Callable[[], object]) -> Tasklet:
    """A tasklet that calls `func()` (rule 124)."""
    return Tasklet(current_kernel().tasklets, func)


# -- work queues


def alloc_workqueue(name: str, max_active: int = 0, ordered: bool = False) -> Workqueue:
    """Make a work queue that runs up to `max_active` works at a time (rule 125). Raises ValueError."""
    return current_kernel().workqueues.alloc_workqueue(name, max_active, ordered)


def alloc_ordered_workqueue(name: str) -> Workqueue:
    """Make a work queue that runs one work at a time, in the order of queueing."""
    return current_kernel().workqueues.alloc_workqueue(name, ordered=True)


def destroy_workqueue(wq: Workqueue) -> None:
    """Drain it, and take nothing from now on."""
    wq.destroy_workqueue()


def queue_work(wq: Workqueue, work: Work) -> bool:
    """Run it in a worker thread; False if it is pending already. In any context."""
    return wq.queue_work(work)


def queue_delayed_work(wq: Workqueue, dwork: DelayedWork, delay_ns: int) -> bool:
    """The same, when `delay_ns` have passed."""
    return wq.queue_delayed_work(dwork, delay_ns)


def mod_delayed_work(wq: Workqueue, dwork: DelayedWork, delay_ns: int) -> bool:
    """Queue it in `delay_ns` from now, pending or not; whether it was pending."""
    return wq.mod_delayed_work(dwork, delay_ns)


def schedule_work(work: Work) -> bool:
    """`queue_work()` on the system's own queue."""
    return current_kernel().workqueues.system_wq.queue_work(work)


def schedule_delayed_work(dwork: DelayedWork, delay_ns: int) -> bool:
    """`queue_delayed_work()` on the system's own queue."""
    return current_kernel().workqueues.system_wq.queue_delayed_work(dwork, delay_ns)


def flush_work(work: Work) -> bool:
    """Wait until the last queueing has been executed; False if there was nothing to wait for."""
    return work.flush_work()


def flush_delayed_work(dwork: DelayedWork) -> bool:
    """Do not wait for its time any longer, and flush it."""
    return dwork.flush_delayed_work()


def flush_workqueue(wq: Workqueue) -> None:
    """Wait until everything queued before has been executed."""
    wq.flush_workqueue()


def drain_workqueue(wq: Workqueue) -> None:
    """Wait until it is empty; meanwhile only its own works may queue more."""
    wq.drain_workqueue()


def cancel_work(work: Work) -> bool:
    """Take it off its queue; whether it was pending."""
    return work.cancel_work()


def cancel_work_sync(work: Work) -> bool:
    """The same, and wait for the end of a run that has begun."""
    return work.cancel_work_sync()


def cancel_delayed_work(dwork: DelayedWork) -> bool:
    """Stop its timer, or take it off its queue; whether it was pending."""
    return dwork.cancel_delayed_work()


def cancel_delayed_work_sync(dwork: DelayedWork) -> bool:
    """The same, and wait for the end of a run that has begun."""
    return dwork.cancel_delayed_work_sync()


def kthread_create_worker(name: str) -> KthreadWorker:
    """Make a kernel thread that runs works one after another (rules 107 to 111). Raises OSError."""
    return _kthread_worker.kthread_create_worker(current_kernel(), name)


def kthread_destroy_worker(worker: KthreadWorker) -> None:
    """Flush, and stop the thread (rule 108)."""
    worker.destroy_worker()


def kthread_queue_work(worker: KthreadWorker, work: KthreadWork) -> bool:
    """Run it after what is queued already; False if it is pending or being cancelled (rule 107)."""
    return worker.queue_work(work)


def kthread_queue_delayed_work(worker: KthreadWorker, dwork: KthreadDelayedWork, delay_ns: int) -> bool:
    """The same, when `delay_ns` have passed (rule 109)."""
    return worker.queue_delayed_work(dwork, delay_ns)


def kthread_mod_delayed_work(worker: KthreadWorker, dwork: KthreadDelayedWork, delay_ns: int) -> bool:
    """Queue it in `delay_ns` from now, pending or not; whether it was pending (rule 109)."""
    return worker.mod_delayed_work(dwork, delay_ns)


def kthread_cancel_work_sync(work: KthreadWork) -> bool:
    """Take it off its queue, and wait for the end of a run that has begun; whether it was pending (rule 110)."""
    return work.cancel_work_sync()


def kthread_cancel_delayed_work_sync(dwork: KthreadDelayedWork) -> bool:
    """The same; its timer is stopped, too."""
    return dwork.cancel_work_sync()


def kthread_flush_work(work: KthreadWork) -> None:
    """Wait until it is neither queued, as of now, nor running (rule 111)."""
    work.flush_work()


def kthread_flush_worker(worker: KthreadWorker) -> None:
    """Wait until everything queued before has been run."""
    worker.flush_worker()


# -- shared variables, for code whose schedules are explored


def READ_ONCE(read: Callable[[], T], name: str = "") -> T:  # noqa: N802
    """Read a shared variable, as a scheduling point that a schedule explorer sees."""
    sched = current_kernel().sched
    if sched.listener is not None:
        sched.listener("read", name)
    return read()


def WRITE_ONCE(write: Callable[[], object], name: str = "") -> None:  # noqa: N802
    """Write a shared variable, as a scheduling point that a schedule explorer sees."""
    sched = current_kernel().sched
    if sched.listener is not None:
        sched.listener("write", name)
    write()


# -- files


def pipe(flags: int = 0) -> tuple[File, File]:
    """A pipe: the end to read from, the end to write to; without descriptors (create_pipe_files())."""
    return _pipe.create_pipe_files(flags)


def socketpair(flags: int = 0) -> tuple[_socketpair.UnixSocket, _socketpair.UnixSocket]:
    """Two connected stream sockets; without descriptors."""
    return _socketpair.create_socketpair(flags)


def kernel_read(file: File, count: int) -> bytes:
    """Up to `count` bytes; b"" at the end. Raises OSError: EAGAIN, EINTR, EBADF."""
    return file.read(count)


def kernel_write(file: File, data: Buffer) -> int:
    """Write; how many bytes were taken. Raises OSError: EPIPE, EAGAIN, EINTR, EBADF."""
    return file.write(data)


def vfs_poll(file: File) -> int:
    """What would not block now, as EPOLL* bits; never sleeps."""
    return file.poll()


def do_poll(wanted: Sequence[tuple[File, int]], timeout_ns: int | None = None) -> list[int]:
    """Wait until one of the files is ready; what each is ready for. Raises InterruptedError (EINTR).

    Args:
        wanted: files, each with the EPOLL* bits to wait for.
        timeout_ns: 0 only looks, None waits for good.
    """
    return _select.do_poll(current_kernel(), wanted, timeout_ns)


def filp_close(file: File) -> None:
    """Give a reference back; the last one closes the file. Raises OSError(EBADF)."""
    file.close()


def fget(fd: int) -> File:
    """The file behind a descriptor of the current task, with a reference for the caller. Raises OSError(EBADF)."""
    return _files_of_current(current_kernel()).fget(fd).get()


def fd_install(file: File) -> int:
    """Give the file, and its reference, the lowest free descriptor of the current task. Raises OSError(EMFILE)."""
    return _files_of_current(current_kernel()).fd_install(file)


# -- messages and the end


def printk(text: str, level: int = KERN_INFO) -> None:
    """Log a message."""
    current_kernel().printk.printk(text, level)


def WARN_ON(condition: object, text: str = "") -> bool:  # noqa: N802
    """Log a warning if the condition holds; whether it does."""
    if condition:
        current_kernel().printk.warn(text or "WARN_ON")
    return bool(condition)


def panic(text: str) -> NoReturn:
    """Stop the kernel: the current task ends, `lkl_run()` raises KernelPanic."""
    current_kernel().panic(text)
    raise TaskExit(1)


def kernel_power_off() -> None:
    """Halt the kernel as soon as the current task gives up the CPU."""
    current_kernel().power_off()


__all__ = [
    "CLONE_PARENT",
    "CLONE_VFORK",
    "EPOLLERR",
    "EPOLLET",
    "EPOLLHUP",
    "EPOLLIN",
    "EPOLLNVAL",
    "EPOLLONESHOT",
    "EPOLLOUT",
    "EPOLLRDHUP",
    "EPOLL_CTL_ADD",
    "EPOLL_CTL_DEL",
    "EPOLL_CTL_MOD",
    "KERN_ALERT",
    "KERN_CRIT",
    "KERN_DEBUG",
    "KERN_EMERG",
    "KERN_ERR",
    "KERN_INFO",
    "KERN_NOTICE",
    "KERN_WARNING",
    "MAX_SCHEDULE_TIMEOUT",
    "O_NONBLOCK",
    "READ_ONCE",
    "SA_RESTART",
    "SCHED_FIFO",
    "SCHED_NORMAL",
    "SCHED_RR",
    "SHUT_RD",
    "SHUT_RDWR",
    "SHUT_WR",
    "SIGALRM",
    "SIGCHLD",
    "SIGHUP",
    "SIGINT",
    "SIGKILL",
    "SIGPIPE",
    "SIGTERM",
    "SIGUSR1",
    "SIGUSR2",
    "SIG_BLOCK",
    "SIG_DFL",
    "SIG_IGN",
    "SIG_SETMASK",
    "SIG_UNBLOCK",
    "TASK_IDLE",
    "TASK_INTERRUPTIBLE",
    "TASK_KILLABLE",
    "TASK_RUNNING",
    "TASK_UNINTERRUPTIBLE",
    "UMH_NO_WAIT",
    "UMH_WAIT_EXEC",
    "UMH_WAIT_PROC",
    "WARN_ON",
    "WRITE_ONCE",
    "Completion",
    "DelayedWork",
    "EpollEvent",
    "EventFd",
    "EventPoll",
    "File",
    "HostFile",
    "HostSocket",
    "KFifo",
    "KthreadDelayedWork",
    "KthreadWork",
    "KthreadWorker",
    "Mutex",
    "Semaphore",
    "SpinLock",
    "Task",
    "Tasklet",
    "TermSignal",
    "Timer",
    "WaitQueueHead",
    "Work",
    "Workqueue",
    "alloc_ordered_workqueue",
    "alloc_workqueue",
    "allow_signal",
    "call_usermodehelper",
    "cancel_delayed_work",
    "cancel_delayed_work_sync",
    "cancel_work",
    "cancel_work_sync",
    "cond_resched",
    "cpu_relax",
    "current",
    "current_kernel",
    "del_timer",
    "del_timer_sync",
    "destroy_workqueue",
    "do_exit",
    "do_poll",
    "drain_workqueue",
    "fd_install",
    "fget",
    "filp_close",
    "flush_delayed_work",
    "flush_signals",
    "flush_work",
    "flush_workqueue",
    "free_irq",
    "host_fd",
    "host_socket",
    "in_interrupt",
    "irq_expect",
    "kernel_execve",
    "kernel_power_off",
    "kernel_read",
    "kernel_thread",
    "kernel_wait4",
    "kernel_write",
    "kthread_cancel_delayed_work_sync",
    "kthread_cancel_work_sync",
    "kthread_create",
    "kthread_create_worker",
    "kthread_destroy_worker",
    "kthread_flush_work",
    "kthread_flush_worker",
    "kthread_mod_delayed_work",
    "kthread_park",
    "kthread_parkme",
    "kthread_queue_delayed_work",
    "kthread_queue_work",
    "kthread_run",
    "kthread_should_park",
    "kthread_should_stop",
    "kthread_stop",
    "kthread_unpark",
    "ktime_get",
    "local_bh_disable",
    "local_bh_enable",
    "local_irq_disable",
    "local_irq_enable",
    "local_irq_restore",
    "local_irq_save",
    "mod_delayed_work",
    "mod_timer",
    "msleep",
    "msleep_interruptible",
    "ndelay",
    "need_resched",
    "panic",
    "pipe",
    "preempt_disable",
    "preempt_enable",
    "printk",
    "queue_delayed_work",
    "queue_work",
    "request_irq",
    "sched_setscheduler",
    "schedule",
    "schedule_delayed_work",
    "schedule_timeout",
    "schedule_timeout_interruptible",
    "schedule_timeout_uninterruptible",
    "schedule_work",
    "send_sig",
    "set_current_state",
    "signal_pending",
    "socketpair",
    "ssleep",
    "tasklet",
    "usleep",
    "vfs_poll",
    "wait_event",
    "wait_event_interruptible",
    "wait_event_timeout",
    "wake_up",
    "wake_up_all",
    "wake_up_process",
    "yield_",
]
