"""What is made where no kernel runs belongs to the kernel that uses it first, until that kernel has gone."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from conftest import PATIENCE_S

from lkl_green import KernelPanic, lkl_start_kernel
from lkl_green.errors import HaltTimeout, KernelHalted, NoCurrentKernel, SchedulingWhileAtomic
from lkl_green.kernel.task import TASK_UNINTERRUPTIBLE
from lkl_green.linux import (
    EPOLLIN,
    Completion,
    DelayedWork,
    KFifo,
    KthreadDelayedWork,
    KthreadWork,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    Work,
    current,
    current_kernel,
    do_exit,
    flush_work,
    kthread_create_worker,
    kthread_destroy_worker,
    kthread_flush_work,
    kthread_queue_delayed_work,
    kthread_queue_work,
    kthread_run,
    local_bh_disable,
    msleep,
    request_irq,
    schedule,
    schedule_delayed_work,
    schedule_work,
    tasklet,
    wait_event,
    wake_up,
    yield_,
)

# As the modules of an application make them: when they are imported, before there is a kernel.
MUTEX = Mutex(name="MUTEX")
SEMAPHORE = Semaphore(2, name="SEMAPHORE")
SPINLOCK = SpinLock(name="SPINLOCK")
COMPLETION = Completion(name="COMPLETION")
QUEUE = WaitQueueHead(name="QUEUE")
FIFO: KFifo[int] = KFifo(2, name="FIFO")
EXPIRED: list[str] = []
TIMER = Timer(lambda timer: EXPIRED.append("timer"), name="TIMER")
WORK = Work(lambda work: EXPIRED.append("work"), name="WORK")
DELAYED_WORK = DelayedWork(lambda work: EXPIRED.append("delayed work"), name="DELAYED_WORK")
KTHREAD_WORK = KthreadWork(lambda work: EXPIRED.append("kthread work"), name="KTHREAD_WORK")
KTHREAD_DELAYED_WORK = KthreadDelayedWork(lambda work: EXPIRED.append("kthread delayed work"))
TASKLET = tasklet(lambda: EXPIRED.append("tasklet"))


def with_waiting():
    """Threads that wait for one another by everything that sleeps."""
    log = []

    def worker(number):
        SEMAPHORE.down()
        with MUTEX:
            msleep(number)
            log.append(number)
        SEMAPHORE.up()
        if number == 3:
            QUEUE.wake_up()
            COMPLETION.complete()
        FIFO.put(number)

    tasks = [kthread_run(worker, number) for number in (1, 2, 3)]
    QUEUE.wait_event(lambda: 3 in log)
    COMPLETION.wait_for_completion()
    log.append([FIFO.get() for _ in tasks])
    with SPINLOCK:
        log.append(repr(MUTEX))
    flags = SPINLOCK.lock_irqsave()
    SPINLOCK.unlock_irqrestore(flags)
    return log


def with_timers_and_works():
    """Everything that runs later."""
    EXPIRED.clear()
    TIMER.mod_timer_in(10)
    msleep(1)
    TASKLET.schedule()
    yield_()
    schedule_work(WORK)
    flush_work(WORK)
    schedule_delayed_work(DELAYED_WORK, 10)
    msleep(1)
    worker = kthread_create_worker("worker")
    kthread_queue_work(worker, KTHREAD_WORK)
    kthread_flush_work(KTHREAD_WORK)
    kthread_queue_delayed_work(worker, KTHREAD_DELAYED_WORK, 10)
    msleep(1)
    kthread_destroy_worker(worker)
    return list(EXPIRED)


STORIES = {
    with_waiting: [1, 2, 3, [1, 2, 3], "<Mutex MUTEX free waiters: nobody>"],
    with_timers_and_works: ["timer", "tasklet", "work", "delayed work", "kthread work", "kthread delayed work"],
}


@pytest.mark.parametrize("story", STORIES)
def test_one_module_serves_kernel_after_kernel(run, story):
    for _ in range(3):
        assert run(story) == STORIES[story]


@pytest.mark.parametrize("story", STORIES)
def test_binding_is_not_in_the_trace(parity, story):
    """The first kernel of the three binds what the story uses, and the next time all three do."""
    assert parity(story) == parity(story)


# -- the first use


def test_what_kernel_code_has_used_is_as_any_other(boot):
    mutex, timer = Mutex(), Timer(print)
    kernel = boot(lambda: (mutex.lock(), timer.del_timer(), mutex.unlock(), msleep(1)))
    kernel.lkl_run()
    assert mutex._sched is kernel.sched
    assert mutex._kernel is kernel
    assert timer._timers is kernel.timers


def test_the_first_use_may_be_one_that_sleeps(run, log):
    done, queue, fifo, semaphore = Completion(), WaitQueueHead(), KFifo(1), Semaphore(0)

    def waker():
        done.complete()
        log.append("condition")
        wake_up(queue)
        fifo.put("element")
        semaphore.up()

    def init():
        kthread_run(waker)
        done.wait_for_completion_timeout(10**9)
        wait_event(queue, lambda: log)
        log.append(fifo.get())
        semaphore.down()

    run(init)
    assert log == ["condition", "element"]


def test_the_first_use_may_be_in_an_interrupt_handler(run):
    done, queue = Completion(), WaitQueueHead()

    def init():
        kernel = current_kernel()
        irq = kernel.lkl_get_free_irq("test")
        request_irq(irq, lambda irq: (done.complete(), queue.wake_up()), "test")
        kernel.lkl_trigger_irq(irq)
        done.wait_for_completion()
        return done._kernel is kernel

    assert run(init)


def test_the_pieces_of_a_wait_bind_too(run):
    queue = WaitQueueHead()

    def init():
        queue.prepare_to_wait(TASK_UNINTERRUPTIBLE)
        active = queue.waitqueue_active()
        queue.finish_wait()
        return active, queue._kernel is current_kernel()

    assert run(init) == (True, True)


def test_a_fifo_is_bound_with_its_queues(run):
    fifo = KFifo(1)

    def init():
        fifo.f_wq.prepare_to_wait()
        fifo.f_wq.finish_wait()
        return {thing._sched for thing in (fifo, fifo._getters, fifo._putters)} == {current_kernel().sched}

    assert run(init)


def test_a_work_is_bound_by_the_queue_that_takes_it(boot, log):
    """The application queues it, and no kernel runs there."""
    kernel = boot()
    work, delayed, moved = Work(log.append), DelayedWork(log.append), DelayedWork(log.append)
    queue = kernel.workqueues.system_wq
    assert queue.queue_work(work)
    assert queue.queue_delayed_work(delayed, 10)
    assert not queue.mod_delayed_work(moved, 10)
    assert not queue.queue_work(work), "it is pending"
    kernel.lkl_run()
    assert log == [work, delayed, moved]
    assert moved._kernel is moved.timer._timers._kernel is kernel


def test_a_work_that_is_being_cancelled_is_not_queued_for_being_unbound(run, log):
    work = Work(log.append)

    def init():
        work.cancel_work_sync()
        work.canceling += 1
        refused = schedule_work(work)
        work.canceling -= 1
        return refused, schedule_work(work), flush_work(work), work.canceling

    assert run(init) == (False, True, True, 0)


# -- where no kernel runs

NEEDS_A_KERNEL = {
    "lock": lambda: Mutex().lock(),
    "trylock": lambda: Mutex().trylock(),
    "unlock": lambda: Mutex().unlock(),
    "down": lambda: Semaphore(0).down(),
    "spin_lock": lambda: SpinLock().lock(),
    "spin_lock_irqsave": lambda: SpinLock().lock_irqsave(),
    "wait_for_completion": lambda: Completion().wait_for_completion(),
    "prepare_to_wait": lambda: WaitQueueHead().prepare_to_wait(),
    "wait_event": lambda: WaitQueueHead().wait_event(lambda: False),
    "get": lambda: KFifo(1).get(),
    "mod_timer": lambda: Timer(print).mod_timer(10),
    "cancel_work": lambda: Work(print).cancel_work(),
    "tasklet": lambda: tasklet(print).schedule(),
}


@pytest.mark.parametrize("use", NEEDS_A_KERNEL.values(), ids=NEEDS_A_KERNEL)
def test_use_where_no_kernel_runs_says_that_and_what_to_do(use):
    with pytest.raises(NoCurrentKernel, match=r"is used where no kernel runs.*use it in a kernel thread.*kernel="):
        use()


def test_a_use_that_failed_for_want_of_a_kernel_has_left_nothing(run, log):
    mutex, work, soon, timer = Mutex(), Work(log.append), tasklet(lambda: log.append("tasklet")), Timer(log.append)
    for use in (mutex.lock, work.cancel_work_sync, soon.schedule, lambda: timer.mod_timer(10)):
        with pytest.raises(NoCurrentKernel):
            use()

    def init():
        with mutex:
            schedule_work(work)
        flush_work(work)
        soon.schedule()
        yield_()
        timer.mod_timer_in(10)
        msleep(1)

    run(init)
    assert log == [work, "tasklet", timer]


def test_what_needs_no_kernel_works_without_one(run):
    """The application's code announces something before a kernel thread has asked for it."""
    done, gate, semaphore, fifo, queue = Completion(), Completion(), Semaphore(0), KFifo(2), WaitQueueHead()
    done.complete()
    gate.complete_all()
    semaphore.up()
    assert semaphore.down_trylock()
    semaphore.up()
    assert fifo.try_put("early")
    assert fifo.poll() & EPOLLIN
    assert queue.wake_up() == 0
    assert not Timer(print).del_timer()
    assert not Timer(print).shutdown()
    assert not Work(print).flush_work()

    def init():
        done.wait_for_completion()
        gate.wait_for_completion()
        semaphore.down()
        return fifo.get(), done.done, semaphore.count

    assert run(init) == ("early", 0, 0)


# -- the end of a kernel


def test_a_lock_that_was_held_when_its_kernel_halted_is_free_in_the_next(boot):
    mutex, spinlock, waited = Mutex(name="m"), SpinLock(name="s"), Mutex(name="waited for")

    def holder():
        mutex.lock()
        waited.lock()
        schedule_forever()

    def schedule_forever():
        current().state = TASK_UNINTERRUPTIBLE
        schedule()

    def init():
        kthread_run(holder, name="holder")
        kthread_run(waited.lock, name="waiter")
        msleep(1)
        spinlock.lock()
        do_exit(0)

    first = boot(init)
    first.run()
    log = first.printk.text()
    assert "<Mutex m held by holder-4 waiters: nobody>: the task that held it has ended without releasing it" in log
    assert not mutex.is_locked()

    def again():
        with mutex, waited, spinlock:
            return current_kernel()

    second = boot(again)
    assert second.run() is second


def test_numbers_and_elements_stay(boot):
    """The application reads what happened, and a second kernel goes on where the first one ended."""
    semaphore, done, fifo = Semaphore(3), Completion(), KFifo(4)

    def init():
        semaphore.down()
        done.complete()
        fifo.put(current_kernel().name)
        if fifo.nr_in == 2:
            fifo.close()

    for name in ("one", "two"):
        boot(init, name=name).run()
    assert (semaphore.count, done.done, fifo.closed) == (1, 2, True)
    assert list(fifo) == ["one", "two"]


def test_what_was_queued_or_armed_can_be_queued_and_armed_again(boot, log):
    work, delayed, timer = Work(log.append, name="w"), DelayedWork(log.append), Timer(log.append)
    soon = tasklet(lambda: log.append("tasklet"))
    kthread_work = KthreadWork(log.append)

    def leaves_everything_undone():
        worker = kthread_create_worker("worker")
        local_bh_disable()
        soon.schedule()
        schedule_work(work)
        kthread_queue_work(worker, kthread_work)
        schedule_delayed_work(delayed, 10**9)
        timer.mod_timer_in(10**9)
        return [thing.pending for thing in (work, delayed, timer, kthread_work)] + [soon.scheduled]

    def does_it():
        worker = kthread_create_worker("worker")
        assert schedule_work(work)
        flush_work(work)
        assert schedule_delayed_work(delayed, 20)
        assert not timer.mod_timer_in(10)
        msleep(1)
        assert kthread_queue_work(worker, kthread_work)
        kthread_flush_work(kthread_work)
        soon.schedule()
        yield_()
        kthread_destroy_worker(worker)

    assert boot(leaves_everything_undone).run() == [True] * 5
    assert log == []
    boot(does_it).run()
    assert log == [work, timer, delayed, kthread_work, "tasklet"]


def test_a_timer_is_shut_down_for_one_kernel(boot, log):
    timer = Timer(lambda timer: log.append(current_kernel().name))

    def init():
        timer.mod_timer_in(10)
        msleep(1)
        timer.shutdown()

    for name in ("one", "two"):
        boot(init, name=name).run()
    assert log == ["one", "two"]
    assert not timer.shutdown(), "no harm where an application cleans up"


def test_a_task_that_does_not_end_with_its_kernel_keeps_what_it_has(configuration, run):
    """On OS threads it might even continue. Nothing can be said of its lock, not even that it is free."""
    mutex, done = Mutex(name="kept"), Completion(name="asked for")

    def stubborn(_):
        mutex.lock()
        while True:
            try:
                done.wait_for_completion()
            except BaseException:
                continue

    first = lkl_start_kernel(clock="virtual", loglevel=0, name="first", **configuration)
    first.fork.kernel_thread(stubborn, name="stubborn")
    first.lkl_run()
    with pytest.raises(HaltTimeout, match="stubborn"):
        first.lkl_sys_halt()

    def init():
        errors = []
        for use in (mutex.lock, mutex.trylock, mutex.unlock, done.wait_for_completion, done.complete):
            with pytest.raises(KernelHalted, match=r"kernel first did not end.*Make a new one") as caught:
                use()
            errors.append(str(caught.value))
        return errors

    errors = run(init)
    assert "<Mutex kept held by stubborn-" in errors[0]
    assert "<Completion asked for" in errors[-1]


def test_a_work_that_does_not_end_with_its_kernel_is_queued_by_no_other(configuration, run):
    def stubborn(_work):
        while True:
            try:
                msleep(1)
            except BaseException:
                continue

    work = Work(stubborn, name="stubborn")
    first = lkl_start_kernel(clock="virtual", loglevel=0, name="first", **configuration)
    first.workqueues.system_wq.queue_work(work)
    first.lkl_run()
    with pytest.raises(HaltTimeout, match="kworker"):
        first.lkl_sys_halt()

    def init():
        with pytest.raises(KernelHalted, match=r"stubborn running in kworker/0:0.*kernel first did not end"):
            schedule_work(work)
        return "alive"

    assert run(init) == "alive"


def test_a_panic_is_an_end_once_the_kernel_is_halted(boot):
    mutex = Mutex()

    def init():
        mutex.lock()
        raise ValueError("in the first kernel")

    with pytest.raises(KernelPanic):
        boot(init).run()
    assert boot(mutex.trylock).run() is True


# -- two kernels


def test_a_second_living_kernel_cannot_sleep_on_it_and_is_told_so(boot):
    mutex, done = Mutex(name="shared"), Completion()
    first = boot(lambda: (mutex.lock(), mutex.unlock(), done.complete(), msleep(1)), name="first")
    first.lkl_run()

    def init():
        for use in (mutex.lock, lambda: (done.wait_for_completion(), done.wait_for_completion())):
            with pytest.raises(
                SchedulingWhileAtomic, match=r"kernel second runs here.*has not halted; make one for each"
            ):
                use()

    second = boot(init, name="second")
    second.run()
    first.run()
    assert boot(mutex.trylock).run() is True, "the first has halted"


def test_what_was_made_in_a_kernel_that_has_halted_says_so(boot):
    made = boot(Mutex).run()

    def init():
        with pytest.raises(SchedulingWhileAtomic, match=r"kernel second runs here.*has halted.*at module level"):
            made.lock()

    boot(init, name="second").run()


def test_of_two_kernels_that_come_at_once_on_two_os_threads_one_wins():
    def drive(name, done, together, outcomes):
        def init():
            together.wait(PATIENCE_S)
            done.complete()
            together.wait(PATIENCE_S)
            outcomes.append(done._kernel.name if done._sched is done._kernel.sched else "torn")
            together.wait(PATIENCE_S)  # neither halts before the other has looked

        with lkl_start_kernel(init, name=name, loglevel=0) as kernel:
            kernel.run()

    for _ in range(20):
        outcomes = []
        arguments = (Completion(), threading.Barrier(2), outcomes)
        os_threads = [threading.Thread(target=drive, args=(name, *arguments), daemon=True) for name in ("one", "two")]
        for os_thread in os_threads:
            os_thread.start()
        for os_thread in os_threads:
            os_thread.join(PATIENCE_S)
        assert outcomes in (["one", "one"], ["two", "two"])


# -- memory


def test_a_module_keeps_no_kernel_that_has_halted(configuration):
    kernels = []
    for _ in range(3):
        with lkl_start_kernel(
            lambda: (with_waiting(), with_timers_and_works()), loglevel=0, clock="virtual", **configuration
        ) as kernel:
            kernel.run()
        kernels.append(weakref.ref(kernel))
        del kernel
    gc.collect()
    assert [kernel() for kernel in kernels] == [None] * 3


def test_a_lock_that_was_left_held_keeps_no_kernel_either(configuration):
    mutex = Mutex()
    with lkl_start_kernel(mutex.lock, loglevel=0, clock="virtual", **configuration) as kernel:
        kernel.run()
    gone = weakref.ref(kernel)
    del kernel
    gc.collect()
    assert gone() is None


def test_a_kernel_keeps_nothing_that_was_bound_to_it(kernel):
    """A web application makes a completion for each request, in the loop, where no kernel runs."""
    gone = []
    for _ in range(3):
        done = Completion()
        kernel.kthreads.kthread_run_nowait(done.complete, name="worker", failed=print)
        kernel.lkl_run()
        assert done.completion_done()
        assert done._kernel is kernel
        gone.append(weakref.ref(done))
        del done
    gc.collect()
    assert [done() for done in gone] == [None] * 3


def test_what_is_never_used_is_garbage():
    gone = [weakref.ref(make()) for make in (Mutex, Completion, lambda: KFifo(1), lambda: DelayedWork(print))]
    gc.collect()
    assert [thing() for thing in gone] == [None] * 4
