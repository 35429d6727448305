"""Every exception of the package, in one tree.

    Exception
     +-- LklError                     whatever this package raises on purpose
     |    +-- HostError               the host operations were misused or cannot go on
     |    |    +-- HostMisuse         freeing with waiters, joining yourself, unlocking what you do not hold, ...
     |    |    +-- HostDeadlock       every host thread of a GreenletHost waits for another
     |    |    +-- HostPanic          the host operation `panic` was called
     |    |    +-- WrongHostThread    an OS thread other than the owner touched what belongs to the owner
     |    +-- ApiMisuse               the application's side was called at the wrong time or place
     |    |    +-- WrongThread        lkl_run() and friends from an OS thread that does not own the kernel
     |    |    +-- ReentrantRun       lkl_run() inside lkl_run(), in a kernel thread or an interrupt handler
     |    |    +-- KernelHalted       the kernel was asked for something after it had halted
     |    |    |    +-- OwnerGone     the OS thread that ran the kernel has ended and did not halt it
     |    |    +-- NoCurrentKernel    in-kernel code was called where no kernel runs
     |    |    +-- ThreadsInstalled   green_threads() inside green_threads()
     |    |    +-- AlreadyEmbedded    an event loop runs this kernel already
     |    |    +-- NotEmbedded        a kernel thread awaits, and no event loop runs its kernel
     |    |    +-- AwaitOutsideKernelThread   await_() where no kernel thread runs
     |    |    +-- WrongLoop          a task of another event loop asked for something
     |    |    +-- LoopGone           the event loop was closed under its kernel, or cancelled its driver
     |    |    +-- NotATest           what was to be explored is no plain function
     |    |    +-- NotParallel        a campaign cannot be run by several processes
     |    +-- KernelBug               kernel code broke a rule (Linux: BUG(), lkl_bug()); an oops
     |    |    +-- SchedulingWhileAtomic   schedule() with a spinlock held, in an interrupt, or in the idle task
     |    |    +-- LockMisuse         unlocking a lock that another task holds, exiting with one held, ...
     |    |    +-- UnbalancedPut      lkl_cpu_put() by somebody who does not own the LKL CPU
     |    |    +-- ForeignGreenlet    a kernel thread runs in a greenlet of another one, or of the application
     |    |    +-- BadKernelThread    a kernel_thread() function returned without a successful kernel_execve()
     |    |    +-- ScopeAcrossSwitch  a kernel thread slept with a cancel scope of the event loop open
     |    +-- KernelPanic             the kernel stopped for good; raised out of lkl_run() from the original
     |    +-- Deadlock                nothing runnable, no timer, no interrupt source, tasks still waiting
     |    +-- Livelock                tasks or interrupts go round, and virtual time never passes
     |    +-- TimeLimit               a run took longer than it was given
     |    +-- AwaitCancelled          somebody in the event loop cancelled what a kernel thread awaits
     |    +-- CoroutineStuck          what a kernel thread awaited does not end though it was cancelled
     |    +-- Escape                  a kernel thread would wait for what the kernel does not control
     |    +-- HaltTimeout             some task did not stop within the timeout of lkl_sys_halt()
     |    +-- ProgramError            a program given to the command line cannot be loaded
     |    +-- ScheduleFileError       a schedule file is damaged, of a newer format, or no schedule at all
     |    +-- ScheduleFailed          a test was explored, and fails in some schedule, or could not be explored

    BaseException
     +-- TaskUnwind                   takes a context out of its frames; never catch it without re-raising
          +-- TaskExit                do_exit(): leave the task with an exit code
          +-- TaskKilled              the kernel halts: raised at a task's sleep, so that `finally` blocks run
          +-- TaskAbandoned           the task slept once too often while it was killed
          +-- ExecImage               execve() of a user program: leave the old image
          +-- HostThreadExit          host operation thread_exit()
          +-- LongJump                host operation jmp_buf_longjmp()
          +-- ScheduleAborted         the schedule of a test goes no further: a limit was reached
          +-- SoftLockup              the watchdog ends a task that never yields

Errors of kernel functions that Linux reports as a negative errno are plain `OSError` with that errno; only the raw
system call boundary (`lkl_syscall`) speaks negative integers. Ordinary errors derive from `Exception`; whatever takes
a context out of its frames derives from `BaseException`, so that a task's `except Exception` does not stop it.
"""

from __future__ import annotations


class LklError(Exception):
    """Base of every ordinary error of this package."""


class HostError(LklError):
    """The host operations were misused or cannot go on."""


class HostMisuse(HostError):
    """A host operation was called against its contract."""


class HostDeadlock(HostError):
    """Every host thread of a `GreenletHost` is blocked, so that the caller could never be woken."""


class HostPanic(HostError):
    """The host operation `panic` was called."""


class WrongHostThread(HostError):
    """An OS thread other than its owner touched a host object that belongs to one OS thread."""


class ApiMisuse(LklError):
    """The application's side of the kernel was called at the wrong time or from the wrong place."""


class WrongThread(ApiMisuse):
    """The call belongs to the OS thread that started the kernel."""


class ReentrantRun(ApiMisuse):
    """`lkl_run()` was called while it already runs."""


class KernelHalted(ApiMisuse):
    """The kernel has halted and cannot do this any more."""


class OwnerGone(KernelHalted):
    """The OS thread that ran the kernel has ended and did not halt it."""


class NoCurrentKernel(ApiMisuse):
    """In-kernel code was called in a context in which no kernel runs."""


class AlreadyEmbedded(ApiMisuse):
    """An event loop runs this kernel already."""


class NotEmbedded(ApiMisuse):
    """A kernel thread awaits something, and no event loop runs its kernel."""


class AwaitOutsideKernelThread(ApiMisuse):
    """`await_()` was called where no kernel thread runs."""


class WrongLoop(ApiMisuse):
    """A task of another event loop asked for something."""


class LoopGone(ApiMisuse):
    """The event loop was closed under its kernel, or has cancelled the kernel's driver."""


class NotATest(ApiMisuse):
    """What was to be explored is no plain function: a coroutine function, a generator."""


class NotParallel(ApiMisuse):
    """A campaign cannot be run by several processes: its policy is one search, or its test cannot get there."""


class ThreadsInstalled(ApiMisuse):
    """The replacements for `threading` were to be installed a second time."""


class KernelBug(LklError):
    """Kernel code broke a rule of the kernel (Linux: `BUG()`)."""


class SchedulingWhileAtomic(KernelBug):
    """`schedule()` was called where sleeping is forbidden (rule 117)."""


class LockMisuse(KernelBug):
    """A lock was used against its contract (rules 120, 121)."""


class UnbalancedPut(KernelBug):
    """The LKL CPU was put by a host thread that does not own it (rule 10)."""


class ForeignGreenlet(KernelBug):
    """A kernel thread runs in a greenlet of another kernel thread or of the application.

    A greenlet belongs to the kernel thread in which it was made: its parents lead to that thread's own greenlet. Raised
    in the kernel thread that gives up the CPU in such a greenlet, or whose switch resumes a kernel thread that sleeps.
    The application gets it, too, if its switch resumes a kernel thread.
    """


class BadKernelThread(KernelBug):
    """A `kernel_thread()` function returned without a successful `kernel_execve()` (rule 76)."""


class ScopeAcrossSwitch(KernelBug):
    """A kernel thread slept with a cancel scope of the event loop open."""


class KernelPanic(LklError):
    """The kernel stopped for good. `__cause__` is the exception that an oops came from, if there was one."""


class Deadlock(LklError):
    """No task can ever run again: the message names each waiting task, what it waits for and its stack."""


class Livelock(LklError):
    """Tasks or interrupts go round while virtual time stands still: the message names them, with their lines."""


class TimeLimit(LklError):
    """A run took longer than it was given."""


class AwaitCancelled(LklError):
    """Somebody in the event loop, not the kernel, cancelled what a kernel thread awaits."""


class CoroutineStuck(LklError):
    """What kernel threads awaited does not end, though it was cancelled.

    Attributes:
        coroutines: a description of each.
    """

    def __init__(self, coroutines: list[str]) -> None:
        super().__init__(
            f"the kernel has halted, but the event loop still runs {len(coroutines)} of its threads' coroutines: "
            f"{', '.join(coroutines)}; they ignore that they were cancelled"
        )
        self.coroutines = coroutines


class Escape(LklError):
    """A kernel thread would wait for what the kernel does not control: a real socket, a process, a native thread."""


class BlockedCall(Escape):
    """A kernel thread was in a call that blocks outside the kernel, and the call was ended after some seconds."""


class HaltTimeout(LklError):
    """Some tasks did not stop in time.

    Attributes:
        tasks: a description of each task that is still alive.
    """

    def __init__(self, message: str, tasks: list[str]) -> None:
        super().__init__(message)
        self.tasks = tasks


class ProgramError(LklError):
    """A program file cannot be loaded or has no `init`."""


class ScheduleFileError(LklError):
    """A schedule file is damaged, of a newer format, or no schedule at all."""


class ScheduleFailed(LklError, AssertionError):
    """A test was explored: it fails in some schedule, or not all that was asked for could be explored.

    An AssertionError, too, so that test runners count it as a failure and not as an error.

    Attributes:
        report: the `Report` of the exploration.
    """

    def __init__(self, message: str, report: object) -> None:
        super().__init__(message)
        self.report = report


class TaskUnwind(BaseException):
    """Base of what takes a context out of its frames."""


class TaskExit(TaskUnwind):
    """`do_exit()`: ends the current task.

    Its argument is the exit code, whatever the task wants `kthread_stop()` or `wait4()` to see.
    """

    # No __init__ and no property: each task may end with one of these, and either would be a tenth of its life.


class TaskKilled(TaskUnwind):
    """The kernel halts, or the task was killed: raised at the task's sleep."""


class TaskAbandoned(TaskUnwind):
    """A killed task went on sleeping: it gets no further chance."""


class ExecImage(TaskUnwind):
    """`execve()` succeeded: the user frames of the old image are left."""


class HostThreadExit(TaskUnwind):
    """Host operation `thread_exit()`."""


class LongJump(TaskUnwind):
    """Host operation `jmp_buf_longjmp()`; caught by the `jmp_buf_set()` that owns the buffer."""

    def __init__(self, jmp_buf: object, value: int) -> None:
        super().__init__(value)
        self.jmp_buf = jmp_buf
        self.value = value


class ScheduleAborted(TaskUnwind):
    """The schedule of a test goes no further: a limit was reached, or a recorded schedule does not fit."""


class SoftLockup(TaskUnwind):
    """Raised by the watchdog inside a task that has not reached a scheduling point for too long."""
