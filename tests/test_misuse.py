"""Every mistake a user can make has an error with a name that says what to do, and leaves a kernel that still halts."""

from __future__ import annotations

import errno
import signal
import threading

import pytest
from host.stories import in_os_thread

from lkl_green import (
    FixedPriority,
    GreenletHost,
    KernelBug,
    KernelHalted,
    KernelPanic,
    RunReason,
    ThreadHost,
    VirtualClock,
    lkl_start_kernel,
)
from lkl_green.errors import (
    BadKernelThread,
    HostMisuse,
    LockMisuse,
    NoCurrentKernel,
    ReentrantRun,
    SchedulingWhileAtomic,
    WrongThread,
)
from lkl_green.host.ops import LiveObjects
from lkl_green.kernel.softirq import NET_RX_SOFTIRQ
from lkl_green.kernel.unistd import NR_getpid
from lkl_green.linux import (
    Completion,
    EventFd,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    alloc_workqueue,
    call_usermodehelper,
    current_kernel,
    do_exit,
    kernel_execve,
    kernel_thread,
    kthread_create,
    kthread_create_worker,
    kthread_run,
    kthread_stop,
    local_bh_disable,
    local_bh_enable,
    msleep,
    panic,
    pipe,
    preempt_disable,
    preempt_enable,
    printk,
    request_irq,
    schedule,
    tasklet,
    yield_,
)


def fails(fn, *args):
    """The exception that a call raises, for a story to put into its log."""
    try:
        fn(*args)
    except Exception as error:
        return error
    return None


def in_handler(fn, where):
    """Call `fn` in an interrupt handler, a timer callback or a tasklet, from a kernel thread."""
    kernel = current_kernel()
    done = Completion(name="the handler has run")

    def call(*_):
        try:
            fn()
        finally:
            done.complete()

    if where == "interrupt handler":
        irq = kernel.lkl_get_free_irq("test")
        request_irq(irq, call, "test")
        kernel.lkl_trigger_irq(irq)
    elif where == "timer callback":
        Timer(call).mod_timer_in(1000)
    else:
        tasklet(call).schedule()
    done.wait_for_completion()


WHERE = ["interrupt handler", "timer callback", "tasklet"]


# -- lkl_run() where it does not belong


def test_lkl_run_in_a_kernel_thread(boot, log):
    def init():
        log.append(fails(kernel.lkl_run))
        log.append(fails(kernel.pause))
        log.append(fails(kernel.run))
        return "alive"

    kernel = boot(init)
    assert kernel.run() == "alive"
    assert [type(error) for error in log] == [ReentrantRun] * 3
    assert "inside kernel thread <Task init-1" in str(log[0])


@pytest.mark.parametrize("where", WHERE)
def test_lkl_run_in_an_interrupt(boot, log, where):
    def init():
        in_handler(lambda: log.append(fails(kernel.lkl_run)), where)
        return "alive"

    kernel = boot(init)
    assert kernel.run() == "alive"
    assert isinstance(log[0], ReentrantRun)


def test_lkl_run_in_an_interrupt_of_the_idle_task(boot, log):
    kernel = boot()
    irq = kernel.lkl_get_free_irq("test")
    kernel.irq.request_irq(irq, lambda irq: log.append(fails(kernel.lkl_run)), "test")
    kernel.lkl_run()
    kernel.lkl_trigger_irq(irq)
    assert kernel.lkl_run().reason is RunReason.IDLE
    assert isinstance(log[0], ReentrantRun)
    assert "interrupt handler" in str(log[0])


@pytest.mark.parametrize("call", ["lkl_run", "pause", "run"])
def test_running_the_kernel_from_another_os_thread(boot, call):
    kernel = boot()
    with pytest.raises(WrongThread, match="lkl_syscall"):
        in_os_thread(getattr(kernel, call))
    assert kernel.lkl_is_running()
    assert kernel.lkl_run().reason is RunReason.IDLE


def test_run_in_another_os_thread_does_not_halt_the_owners_kernel(boot):
    kernel = boot(lambda: msleep(5) or "done")
    with pytest.raises(WrongThread):
        in_os_thread(kernel.run)
    assert kernel.run() == "done"


# -- sleeping where it is forbidden


@pytest.mark.parametrize("where", WHERE)
def test_sleeping_in_an_interrupt(boot, log, where):
    def init():
        held = Mutex(name="held")
        kthread_run(hold_for_ever, held)
        yield_()
        yield_()
        empty = Semaphore(0)
        for sleep in (schedule, held.lock, empty.down, Completion().wait_for_completion, lambda: msleep(1)):
            in_handler(lambda sleep=sleep: log.append(fails(sleep)), where)
        return "alive"

    def hold_for_ever(mutex):
        mutex.lock()
        Completion().wait_for_completion()

    kernel = boot(init)
    assert kernel.run() == "alive"
    assert [isinstance(error, KernelBug) for error in log] == [True] * 5
    words = "an interrupt handler" if where == "interrupt handler" else "a softirq, tasklet or timer callback"
    assert words in str(log[0])
    assert isinstance(log[0], SchedulingWhileAtomic)


@pytest.mark.parametrize("where", WHERE)
def test_a_mutex_in_an_interrupt_even_a_free_one(boot, log, where):
    def init():
        mutex = Mutex(name="free")
        in_handler(lambda: log.extend([fails(mutex.lock), fails(mutex.trylock)]), where)
        return mutex.is_locked()

    assert boot(init).run() is False
    assert [type(error) for error in log] == [LockMisuse] * 2
    assert "SpinLock" in str(log[0])


def test_sleeping_with_a_spinlock_held(run, log):
    def init():
        lock, mutex = SpinLock(name="the lock"), Mutex()
        with lock:
            log.append(fails(schedule))
            log.append(fails(mutex.lock))
            log.append(fails(Completion().wait_for_completion))
            log.append(mutex.is_locked())
        with mutex:
            msleep(1)
        return "alive"

    assert run(init) == "alive"
    assert [type(error) for error in log[:3]] == [SchedulingWhileAtomic] * 3
    assert all("a SpinLock is held" in str(error) for error in log[:3])
    assert log[3] is False


def test_sleeping_with_bottom_halves_or_preemption_disabled(run, log):
    def init():
        local_bh_disable()
        log.append(fails(msleep, 1))
        local_bh_enable()
        preempt_disable()
        log.append(fails(msleep, 1))
        current_kernel().sched.preempt_enable()
        msleep(1)
        return "alive"

    assert run(init) == "alive"
    assert [type(error) for error in log] == [SchedulingWhileAtomic] * 2


@pytest.mark.parametrize(
    ("enable", "disable"), [(preempt_enable, "preempt_disable"), (local_bh_enable, "local_bh_disable")]
)
def test_enabling_what_is_not_disabled_is_a_bug_there_and_not_at_the_next_sleep(run, log, enable, disable):
    def init():
        log.append(fails(enable))
        msleep(1)
        with SpinLock(name="the lock"):
            log.append(fails(local_bh_enable))
        local_bh_disable()
        log.append(fails(preempt_enable))
        local_bh_enable()
        msleep(1)
        return "alive"

    assert run(init) == "alive"
    assert [type(error) for error in log] == [KernelBug] * 3
    assert f"{enable.__name__}() without a {disable}() before it in init-1: preempt_count underflow" in str(log[0])


@pytest.mark.parametrize("enable", [preempt_enable, local_bh_enable])
def test_enabling_in_an_interrupt_handler_what_is_not_disabled_there(run, log, enable):
    def init():
        in_handler(lambda: log.append(fails(enable)), "interrupt handler")
        msleep(1)
        return "alive"

    assert run(init) == "alive"
    assert [type(error) for error in log] == [KernelBug]


def test_sleeping_in_the_application(boot, log):
    kernel = boot()
    for sleep in (
        kernel.sched.schedule,
        Mutex(kernel).lock,
        Semaphore(0, kernel).down,
        Completion(kernel).wait_for_completion,
        lambda: kernel.timers.sleep(1000),
        lambda: kernel.kthreads.kthread_create(print),
    ):
        log.append(fails(sleep))
    assert [type(error) for error in log] == [SchedulingWhileAtomic] * 6
    assert all("only kernel threads may sleep; this is the application" in str(error) for error in log)
    assert kernel.lkl_run().reason is RunReason.IDLE
    assert kernel.lkl_syscall(NR_getpid) == 1


# -- system calls where they do not belong


@pytest.mark.parametrize("where", WHERE)
def test_a_system_call_in_an_interrupt(boot, log, where):
    def init():
        in_handler(lambda: log.append(fails(kernel.lkl_syscall, NR_getpid)), where)
        return "alive"

    kernel = boot(init)
    assert kernel.run() == "alive"
    assert isinstance(log[0], KernelBug | ReentrantRun)
    assert "interrupt handler" in str(log[0])


def test_a_system_call_in_an_interrupt_of_the_idle_task_leaves_nothing_half_done(boot, log):
    kernel = boot()
    irq = kernel.lkl_get_free_irq("test")
    kernel.irq.request_irq(irq, lambda irq: log.append(fails(kernel.lkl_syscall, NR_getpid)), "test")
    kernel.lkl_run()
    kernel.lkl_trigger_irq(irq)
    kernel.lkl_run()
    assert isinstance(log[0], ReentrantRun)
    assert len(kernel.pids) == 3
    assert kernel.lkl_syscall(NR_getpid) == 1


# -- locks


def test_unlocking_what_another_task_holds(run, log):
    def other(mutex, lock):
        log.append(fails(mutex.unlock))
        log.append(fails(lock.unlock))

    def init():
        mutex, lock = Mutex(name="mine"), SpinLock(name="free")
        mutex.lock()
        kthread_run(other, mutex, lock, name="thief")
        msleep(1)
        mutex.unlock()
        log.append(fails(mutex.unlock))

    run(init)
    assert [type(error) for error in log] == [LockMisuse] * 3
    assert "thief-4 unlocks <Mutex mine held by init-1" in str(log[0])


def test_locking_twice(run, log):
    def init():
        mutex, lock = Mutex(name="once"), SpinLock(name="once")
        with mutex:
            log.append(fails(mutex.lock))
        with lock:
            log.append(fails(lock.lock))
        log.append((mutex.is_locked(), lock.owner))

    run(init)
    assert [type(error) for error in log[:2]] == [LockMisuse] * 2
    assert "not recursive" in str(log[0])
    assert "lock_irqsave" in str(log[1])
    assert log[2] == (False, None)


def test_a_handler_that_takes_the_lock_of_the_task_it_interrupts(run, log):
    def init():
        kernel = current_kernel()
        lock = SpinLock(name="shared")
        irq = kernel.lkl_get_free_irq("test")
        request_irq(irq, lambda irq: log.append(fails(lock.lock)), "test")
        with lock:
            kernel.lkl_trigger_irq(irq)
            kernel.sched.cond_resched()
        flags = lock.lock_irqsave()
        kernel.lkl_trigger_irq(irq)
        kernel.sched.cond_resched()
        lock.unlock_irqrestore(flags)

    run(init)
    assert isinstance(log[0], LockMisuse)
    assert "deadlock" in str(log[0])
    assert log[1] is None, "with interrupts off the handler comes after the lock has been released"


def test_a_task_that_exits_with_locks_held_is_noticed(boot):
    def careless(mutex, lock):
        mutex.lock()
        lock.lock()

    def init():
        kthread_run(careless, Mutex(), SpinLock(), name="careless")
        msleep(1)
        return "alive"

    kernel = boot(init)
    assert kernel.run() == "alive"
    assert "careless-4 exits with" in kernel.printk.text()
    assert kernel.statistics().tainted == 1


# -- in-kernel functions outside any kernel


IN_KERNEL = {
    "schedule": schedule,
    "yield_": yield_,
    "msleep": lambda: msleep(1),
    "printk": lambda: printk("hello"),
    "kthread_run": lambda: kthread_run(print),
    "kernel_thread": lambda: kernel_thread(print),
    "panic": lambda: panic("no kernel"),
    "request_irq": lambda: request_irq(3, print, "test"),
    "alloc_workqueue": lambda: alloc_workqueue("test"),
    "kthread_create_worker": lambda: kthread_create_worker("test"),
    "pipe": pipe,
    "EventFd": EventFd,
}


@pytest.mark.parametrize("call", IN_KERNEL.values(), ids=IN_KERNEL)
def test_an_in_kernel_function_where_no_kernel_runs(kernel, call):
    with pytest.raises(NoCurrentKernel, match=r"kernel=.*can be made before there is a kernel"):
        call()
    kernel.lkl_run()
    with pytest.raises(NoCurrentKernel):
        call()


def test_an_in_kernel_function_in_a_thread_that_kernel_code_started(run, log):
    def init():
        os_thread = threading.Thread(target=lambda: log.append(fails(schedule)))
        os_thread.start()
        os_thread.join()

    run(init)
    assert isinstance(log[0], NoCurrentKernel)


# -- starting


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"host": "thread", "switch": "direct"}, "needs host='greenlet'"),
        ({"host": ThreadHost(), "switch": "direct"}, "needs host='greenlet'"),
        ({"host": "fibers"}, "use 'greenlet', 'thread' or a HostOps object"),
        ({"host": 7}, "use 'greenlet', 'thread' or a HostOps object"),
        ({"switch": "longjmp"}, "use 'direct' or 'semaphore'"),
        ({"on_oops": "ignore"}, "use 'panic' or 'kill'"),
        ({"clock": "wall"}, "use 'monotonic', 'virtual' or a Clock object"),
        ({"clock": 7}, "use 'monotonic', 'virtual' or a Clock object"),
        ({"policy": "fifo"}, "policy"),
        ({"init": 7}, "init"),
        ({"watchdog_s": -1.0}, "watchdog_s"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        lkl_start_kernel(**arguments)


def test_a_policy_object_of_another_kernel(configuration):
    policy = FixedPriority()
    with lkl_start_kernel(policy=policy, loglevel=0, **configuration) as kernel:
        host = GreenletHost()
        with pytest.raises(ValueError, match="give each kernel its own"):
            lkl_start_kernel(policy=policy, host=host)
        assert host.live() == LiveObjects()
        assert kernel.lkl_syscall(NR_getpid) == 1


def test_a_host_that_another_kernel_uses(configuration):
    host = GreenletHost() if configuration["host"] == "greenlet" else ThreadHost()
    with lkl_start_kernel(host=host, switch=configuration["switch"], loglevel=0) as kernel:
        before = host.live()
        with pytest.raises(HostMisuse, match="a kernel uses this host already"):
            lkl_start_kernel(host=host, switch=configuration["switch"], loglevel=0)
        assert host.live() == before
        assert kernel.lkl_syscall(NR_getpid) == 1
    with lkl_start_kernel(host=host, switch=configuration["switch"], loglevel=0) as kernel:
        assert kernel.lkl_syscall(NR_getpid) == 1


# -- after the end


def test_everything_after_the_halt(boot, log):
    kernel = boot(clock=VirtualClock())
    irq = kernel.lkl_get_free_irq("test")
    kernel.lkl_sys_halt()
    assert kernel.lkl_run().reason is RunReason.HALTED
    kernel.pause()
    assert kernel.run() is None
    assert kernel.lkl_syscall(NR_getpid) == -errno.ESHUTDOWN
    with pytest.raises(OSError) as caught:
        kernel.sys.getpid()
    assert caught.value.errno == errno.ESHUTDOWN
    assert kernel.lkl_trigger_irq(irq) == -errno.ESHUTDOWN
    assert kernel.lkl_sys_halt() == 0
    assert not kernel.lkl_is_running()
    assert in_os_thread(lambda: kernel.lkl_syscall(NR_getpid)) == -errno.ESHUTDOWN
    assert in_os_thread(lambda: kernel.lkl_trigger_irq(irq)) == -errno.ESHUTDOWN
    assert in_os_thread(kernel.lkl_sys_halt) == 0
    with pytest.raises(KernelHalted):
        kernel.new_thread_group_leader()
    assert "halted" in repr(kernel)
    assert kernel.ps().count("\n") == 1
    assert kernel.statistics().tasks == 0


def test_in_kernel_objects_after_the_halt_raise_and_do_not_hang(boot, log):
    def init():
        log.extend([Mutex(), Semaphore(0), Completion(), Timer(print)])
        log.append(kthread_create(print, name="never"))

    kernel = boot(init)
    kernel.run()
    mutex, semaphore, completion, timer, task = log
    for sleep in (mutex.lock, semaphore.down, completion.wait_for_completion):
        assert isinstance(fails(sleep), SchedulingWhileAtomic)
    semaphore.up()
    completion.complete_all()
    timer.mod_timer(10**12)
    assert kernel.sched.wake_up_process(task) is False
    assert kernel.lkl_run().reason is RunReason.HALTED


# -- threads and processes


def test_a_kernel_thread_that_returns_without_exec(boot):
    def child(arg):
        return 5

    def init():
        kernel_thread(child)
        msleep(1)

    kernel = boot(init)
    with pytest.raises(KernelPanic) as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, BadKernelThread)
    assert "child() returned 5" in str(caught.value.__cause__)
    assert "do_exit()" in str(caught.value.__cause__)
    assert kernel.halted


def test_a_kernel_thread_that_returns_0_without_exec_is_one_as_well(boot):
    kernel = boot(lambda: kernel_thread(lambda arg: 0) and msleep(1), on_oops="kill")
    kernel.run()
    assert "BadKernelThread" in kernel.printk.text()


def test_a_kernel_thread_that_returns_something_else_after_exec(boot):
    def child(arg):
        kernel_execve("/bin/true")
        return 5

    kernel = boot(lambda: kernel_thread(child) and msleep(1), on_oops="kill")
    kernel.register_program("/bin/true", lambda sys, argv, envp: 0)
    kernel.run()
    assert "must return 0" in kernel.printk.text()


def test_a_user_process_that_wants_a_kernel_thread(boot, log):
    def main(sys, argv, envp):
        log.append(fails(kernel_thread, print))
        return 0

    def init():
        return call_usermodehelper("/bin/greedy", wait=2)

    kernel = boot(init)
    kernel.register_program("/bin/greedy", main)
    assert kernel.run() == 0
    assert isinstance(log[0], PermissionError)
    assert "it cannot have kernel threads" in str(log[0])


def test_a_kthread_that_waits_for_its_own_end(boot, log):
    def suicidal():
        kthread_stop(current_kernel().sched.current)

    def init():
        kthread_run(suicidal, name="suicidal")
        msleep(1)
        log.append("alive")
        Completion(name="never").wait_for_completion()

    kernel = boot(init)
    while (status := kernel.lkl_run()).reason is RunReason.IDLE:
        kernel.pause(status)
    assert log == ["alive"]
    assert status.reason is RunReason.DEADLOCK
    assert "suicidal-4" in status.report


def test_a_program_under_a_relative_path(kernel):
    with pytest.raises(ValueError, match="absolute"):
        kernel.register_program("bin/true", lambda sys, argv, envp: 0)


# -- exceptions that nobody catches


class Oops(Exception):
    """A mistake."""


def explode(*_):
    raise Oops("boom")


def bang_in_thread(kernel):
    kthread_run(explode, name="victim")
    msleep(2)


def bang_in_irq(kernel):
    irq = kernel.lkl_get_free_irq("test")
    request_irq(irq, explode, "test")
    kernel.lkl_trigger_irq(irq)
    msleep(2)


def bang_in_softirq(kernel):
    kernel.softirq.open_softirq(NET_RX_SOFTIRQ, explode)
    kernel.softirq.raise_softirq(NET_RX_SOFTIRQ)
    msleep(2)


def bang_in_tasklet(kernel):
    tasklet(explode).schedule()
    msleep(2)


def bang_in_timer(kernel):
    Timer(explode).mod_timer_in(1000)
    msleep(2)


BANGS = [bang_in_thread, bang_in_irq, bang_in_softirq, bang_in_tasklet, bang_in_timer]


@pytest.mark.parametrize("bang", BANGS)
def test_an_exception_panics_the_kernel_and_is_the_cause_of_what_lkl_run_raises(boot, log, bang):
    def init():
        try:
            bang(kernel)
            log.append("went on")
        finally:
            log.append("unwound")

    kernel = boot(init)
    with pytest.raises(KernelPanic, match="boom") as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, Oops)
    assert log == ["unwound"]
    assert kernel.halted
    assert "Oops" in kernel.printk.text()
    with pytest.raises(KernelHalted, match="panic"):
        kernel.lkl_run()


@pytest.mark.parametrize("bang", BANGS)
def test_with_on_oops_kill_the_kernel_goes_on(boot, log, bang):
    def init():
        bang(kernel)
        log.append("went on")
        bang(kernel) if bang is bang_in_thread else None
        return "alive"

    kernel = boot(init, on_oops="kill")
    assert kernel.run() == "alive"
    assert log == ["went on"]
    assert kernel.statistics().tainted >= 1
    assert "in explode" in kernel.printk.text(), "the traceback is in the log"


@pytest.mark.parametrize("on_oops", ["panic", "kill"])
def test_an_init_that_raises_panics_whatever_on_oops_says(boot, on_oops):
    kernel = boot(explode, on_oops=on_oops)
    with pytest.raises(KernelPanic, match="Oops in init: boom") as caught:
        kernel.run()
    assert isinstance(caught.value.__cause__, Oops)
    assert kernel.halted


def test_the_panic_is_raised_by_each_lkl_run_until_somebody_halts(boot):
    kernel = boot(explode)
    for _ in range(2):
        with pytest.raises(KernelPanic):
            kernel.lkl_run()
    assert kernel.lkl_is_running() is False
    assert kernel.lkl_sys_halt() == 0
    assert kernel.host.live() == LiveObjects()


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("on_oops", ["panic", "kill"])
def test_do_exit_in_an_interrupt_kills_no_innocent_task(boot, log, where, on_oops):
    def init():
        try:
            in_handler(lambda: do_exit(3), where)
        finally:
            log.append("init was unwound by the halt, not by the handler")

    kernel = boot(init, on_oops=on_oops)
    with pytest.raises(KernelPanic, match="Aiee, killing interrupt handler"):
        kernel.run()
    assert kernel.init_result is None
    assert len(log) == 1


@pytest.mark.parametrize("where", WHERE)
def test_panic_in_an_interrupt(boot, where):
    kernel = boot(lambda: in_handler(lambda: panic("the disk is on fire"), where))
    with pytest.raises(KernelPanic, match="not syncing: the disk is on fire"):
        kernel.run()


def test_panic_in_an_interrupt_of_the_idle_task(boot):
    kernel = boot()
    irq = kernel.lkl_get_free_irq("test")
    kernel.irq.request_irq(irq, lambda irq: panic("the disk is on fire"), "test")
    kernel.lkl_run()
    kernel.lkl_trigger_irq(irq)
    with pytest.raises(KernelPanic, match="the disk is on fire"):
        kernel.lkl_run()


def test_one_bad_handler_does_not_keep_others_from_running(boot, log):
    def init():
        kernel = current_kernel()
        irqs = [kernel.lkl_get_free_irq("test") for _ in range(3)]
        for irq, handler in zip(irqs, [log.append, explode, log.append], strict=True):
            request_irq(irq, handler, "test")
            kernel.lkl_trigger_irq(irq)
        kernel.sched.cond_resched()
        log.append(kernel.sched.current.preempt_count)
        return irqs

    first, _, third = boot(init, on_oops="kill").run()
    assert log == [first, third, 0]


def test_a_console_that_fails_does_not_bring_the_kernel_down(boot, configuration):
    def broken(text):
        raise BrokenPipeError("the reader has gone")

    def init():
        printk("hello")
        kthread_run(explode, name="victim")
        msleep(1)
        return "alive"

    host = GreenletHost(console=broken) if configuration["host"] == "greenlet" else ThreadHost(console=broken)
    kernel = boot(init, host=host, loglevel=7, on_oops="kill")
    assert kernel.run() == "alive"
    assert "hello" in kernel.printk.text()
    assert "Oops: boom" in kernel.printk.text()


# -- Ctrl-C


@pytest.fixture
def default_sigint():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def to_the_main_thread():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def from_here():
    signal.raise_signal(signal.SIGINT)


SIGNALS = [to_the_main_thread, from_here]


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("send", SIGNALS)
def test_ctrl_c_leaves_run_after_a_clean_halt(boot, log, send):
    def sleeper():
        try:
            Completion(name="never").wait_for_completion()
        finally:
            log.append("sleeper was unwound")

    def init():
        kthread_run(sleeper)
        msleep(1)
        send()
        try:
            while True:
                schedule()
        finally:
            log.append("init was unwound")

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        kernel.run()
    assert sorted(log) == ["init was unwound", "sleeper was unwound"]
    assert kernel.halted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_in_a_sleeping_kernel(boot):
    kernel = boot(lambda: msleep(100_000), clock="monotonic")
    timer = threading.Timer(0.02, to_the_main_thread)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        kernel.run()
    timer.join()
    assert kernel.halted


@pytest.mark.usefixtures("default_sigint")
def test_a_keyboard_interrupt_raised_in_a_kernel_thread_is_the_applications_and_the_kernel_stays_usable(boot, log):
    def interrupted():
        raise KeyboardInterrupt

    def init():
        kthread_run(interrupted, name="interrupted")
        for turn in range(3):
            msleep(1)
            log.append(turn)
        return "done"

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        while not kernel.halted:
            kernel.pause(kernel.lkl_run())
    assert kernel.lkl_is_running()
    assert kernel.run() == "done"
    assert log == [0, 1, 2]


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("send", SIGNALS)
def test_ctrl_c_under_lkl_run_leaves_it_and_the_kernel_stays_usable(boot, log, send):
    """Wherever the main thread is at that moment, KeyboardInterrupt strikes no kernel thread."""

    def sender():
        send()
        while True:
            msleep(1)

    def init():
        kthread_run(sender, name="sender")
        for turn in range(3):
            msleep(2)
            log.append(turn)
        return "done"

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        while not kernel.halted:
            kernel.pause(kernel.lkl_run())
    assert kernel.lkl_is_running()
    assert kernel.run() == "done"
    assert log == [0, 1, 2]


def test_system_exit_in_a_kernel_thread_is_the_applications_too(boot):
    def leaves():
        raise SystemExit(3)

    def init():
        kthread_run(leaves)
        msleep(5)
        return "done"

    kernel = boot(init)
    with pytest.raises(SystemExit):
        while not kernel.halted:
            kernel.pause(kernel.lkl_run())
    assert kernel.run() == "done"


@pytest.mark.parametrize("where", WHERE)
def test_a_keyboard_interrupt_in_a_handler_kills_no_task_and_loses_no_interrupt(boot, log, where):
    def interrupted():
        raise KeyboardInterrupt

    def init():
        irq = kernel.lkl_get_free_irq("last")
        request_irq(irq, lambda irq: log.append("the other interrupt"), "last")
        kernel.irq.raise_local(irq)
        in_handler(interrupted, where)
        log.append("init went on")
        return "done"

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        while not kernel.halted:
            kernel.pause(kernel.lkl_run())
    assert kernel.run() == "done"
    assert log == ["the other interrupt", "init went on"]
