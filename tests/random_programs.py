"""Random programs: threads that play scripts of kernel calls, for tests that compare runs of one program."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import strategies as st

from lkl_green.linux import (
    SCHED_FIFO,
    SCHED_NORMAL,
    SCHED_RR,
    UMH_WAIT_PROC,
    Completion,
    DelayedWork,
    Mutex,
    Semaphore,
    SpinLock,
    Timer,
    WaitQueueHead,
    Work,
    allow_signal,
    call_usermodehelper,
    cancel_delayed_work_sync,
    cancel_work_sync,
    cond_resched,
    current,
    current_kernel,
    do_exit,
    flush_signals,
    flush_work,
    free_irq,
    irq_expect,
    kthread_create,
    kthread_park,
    kthread_parkme,
    kthread_should_park,
    kthread_should_stop,
    kthread_stop,
    kthread_unpark,
    ktime_get,
    local_bh_disable,
    local_bh_enable,
    local_irq_restore,
    local_irq_save,
    ndelay,
    request_irq,
    sched_setscheduler,
    schedule,
    schedule_delayed_work,
    schedule_work,
    send_sig,
    tasklet,
    usleep,
    wake_up,
    wake_up_process,
)

NR_OBJECTS = 2
NR_THREADS = 4
SECOND_NS = 1_000_000_000
DELAYS_NS = (0, 500, 1_000, 5_000, 5_000, 20_000)


class Stage:
    """What the threads of one random program share."""

    def __init__(self) -> None:
        self.kernel = current_kernel()
        self.mutexes = [Mutex(name=f"mutex{n}") for n in range(NR_OBJECTS)]
        self.semaphores = [Semaphore(n, name=f"sem{n}") for n in range(NR_OBJECTS)]
        self.completions = [Completion(name=f"completion{n}") for n in range(NR_OBJECTS)]
        self.queues = [WaitQueueHead(name=f"queue{n}") for n in range(NR_OBJECTS)]
        self.tokens = [0] * NR_OBJECTS
        self.spinlock = SpinLock(name="spinlock")
        self.timers = [Timer(lambda timer: self.semaphores[0].up(), name=f"timer{n}") for n in range(NR_OBJECTS)]
        self.tasklet = tasklet(lambda: self.give(1))
        self.works = [Work(lambda work: self.give(0), name="work0"), Work(self.work, name="work1")]
        self.delayed = [DelayedWork(self.work, name=f"delayed{n}") for n in range(NR_OBJECTS)]
        self.threads: list[Any] = []
        self.irqs = [self.kernel.lkl_get_free_irq(f"device{n}") for n in range(NR_OBJECTS)]
        request_irq(self.irqs[0], lambda irq: self.completions[0].complete(), "device0")
        request_irq(self.irqs[1], lambda irq: self.tasklet.schedule(), "device1")
        # A line of its own for what OS threads do: whoever raised it by hand would take away what is expected of them.
        self.irqs.append(self.kernel.lkl_get_free_irq("device2"))
        request_irq(self.irqs[2], lambda irq: self.give(0), "device2")
        # Interrupts that are raised in a handler and in a timer's callback.
        self.irqs.append(self.kernel.lkl_get_free_irq("device3"))
        request_irq(self.irqs[3], lambda irq: self.kernel.lkl_trigger_irq(self.irqs[0]), "device3")
        self.alarm = Timer(lambda timer: self.kernel.lkl_trigger_irq(self.irqs[3]), name="alarm")
        self.kernel.register_program("/bin/nap", self.nap)
        # While an interrupt may come, a kernel in which all wait is not deadlocked. At last nothing may come any more.
        Timer(self.unplug, name="unplug").add_timer(SECOND_NS)

    def unplug(self, timer: Timer) -> None:
        for number, irq in enumerate(self.irqs):
            free_irq(irq, f"device{number}")

    def give(self, number: int) -> None:
        """Put a token down and wake who waits for it."""
        self.tokens[number] += 1
        wake_up(self.queues[number])

    def work(self, work: Work) -> None:
        usleep(2)
        self.semaphores[1].up()

    def take(self, number: int, timeout_ns: int) -> None:
        """Take a token, with patience."""
        self.queues[number].wait_event_interruptible_timeout(lambda: self.tokens[number], timeout_ns)
        self.tokens[number] = max(self.tokens[number] - 1, 0)

    @staticmethod
    def nap(sys: Any, argv: list[str], envp: dict[str, str]) -> int:
        child = sys.clone(lambda sys: sys.nanosleep(3_000))
        sys.sched_yield()
        return int(sys.wait4(child)[1])

    # -- running a script

    def play(self, script: list[Any]) -> int:
        """Thread function: a script's steps, one after another; how many there were."""
        for name, *arguments in script:
            try:
                getattr(self, f"do_{name}")(*arguments)
            except (InterruptedError, TimeoutError):
                flush_signals()
        return len(script)

    def start(self, script: list[Any], wake: bool = True) -> None:
        thread = kthread_create(self.play, script, name=f"actor/{len(self.threads)}")
        self.threads.append(thread)
        if wake:
            wake_up_process(thread)

    def do_schedule(self) -> None:
        schedule()

    def do_cond_resched(self) -> None:
        cond_resched()

    def do_compute(self, points: int) -> None:
        """Longer than a time slice, or than the clock is left alone."""
        for _ in range(points):
            cond_resched()

    def do_read_clock(self) -> None:
        ktime_get()

    def do_sleep(self, delay_ns: int) -> None:
        usleep(delay_ns / 1000)

    def do_ndelay(self, delay_ns: int) -> None:
        ndelay(delay_ns)

    def do_locked(self, number: int, script: list[Any]) -> None:
        if self.mutexes[number].owner is not current():
            with self.mutexes[number]:
                self.play(script)

    def do_spinlocked(self, script: list[Any]) -> None:
        if self.spinlock.owner is None:
            with self.spinlock:
                self.play(script)

    def do_irqs_off(self, script: list[Any]) -> None:
        flags = local_irq_save()
        self.play(script)
        local_irq_restore(flags)

    def do_bh_off(self, script: list[Any]) -> None:
        local_bh_disable()
        self.play(script)
        local_bh_enable()

    def do_down(self, number: int) -> None:
        self.semaphores[number].down()

    def do_down_timeout(self, number: int, delay_ns: int) -> None:
        self.semaphores[number].down_timeout(delay_ns)

    def do_down_interruptible(self, number: int) -> None:
        allow_signal(10)
        self.semaphores[number].down_interruptible()

    def do_up(self, number: int) -> None:
        self.semaphores[number].up()

    def do_wait(self, number: int) -> None:
        self.completions[number].wait_for_completion()

    def do_wait_timeout(self, number: int, delay_ns: int) -> None:
        self.completions[number].wait_for_completion_timeout(delay_ns)

    def do_complete(self, number: int) -> None:
        self.completions[number].complete()

    def do_complete_all(self, number: int) -> None:
        self.completions[number].complete_all()

    def do_give(self, number: int) -> None:
        self.give(number)

    def do_take(self, number: int, delay_ns: int) -> None:
        self.take(number, delay_ns)

    def do_trigger(self, number: int) -> None:
        self.kernel.lkl_trigger_irq(self.irqs[number])

    def do_ask_os_thread(self) -> None:
        irq_expect(self.irqs[2])
        threading.Thread(target=self.kernel.lkl_trigger_irq, args=(self.irqs[2],), daemon=True).start()

    def do_timer(self, number: int, delay_ns: int) -> None:
        self.timers[number].mod_timer_in(delay_ns)

    def do_timer_at(self, number: int, expires_ns: int) -> None:
        self.timers[number].mod_timer(expires_ns)

    def do_alarm(self, delay_ns: int) -> None:
        self.alarm.mod_timer_in(delay_ns)

    def do_del_timer(self, number: int) -> None:
        self.timers[number].del_timer_sync()

    def do_queue_work(self, number: int) -> None:
        schedule_work(self.works[number])

    def do_flush_work(self, number: int) -> None:
        flush_work(self.works[number])

    def do_cancel_work(self, number: int) -> None:
        cancel_work_sync(self.works[number])

    def do_delay_work(self, number: int, delay_ns: int) -> None:
        schedule_delayed_work(self.delayed[number], delay_ns)

    def do_cancel_delayed(self, number: int) -> None:
        cancel_delayed_work_sync(self.delayed[number])

    def do_priority(self, policy: int, priority: int) -> None:
        sched_setscheduler(current(), policy, 0 if policy == SCHED_NORMAL else priority)

    def do_wake(self, number: int) -> None:
        if number < len(self.threads):
            wake_up_process(self.threads[number])

    def do_signal(self, number: int) -> None:
        if number < len(self.threads):
            send_sig(10, self.threads[number])

    def do_stop(self, number: int) -> None:
        if number < len(self.threads):
            kthread_stop(self.threads[number])

    def do_park(self, number: int) -> None:
        if number < len(self.threads):
            kthread_park(self.threads[number])

    def do_unpark(self, number: int) -> None:
        if number < len(self.threads):
            kthread_unpark(self.threads[number])

    def do_service(self) -> None:
        """What a well-behaved kthread does in its loop."""
        if current().kthread is not None:
            if kthread_should_park():
                kthread_parkme()
            if kthread_should_stop():
                do_exit(7)

    def do_start(self, script: list[Any], wake: bool) -> None:
        if len(self.threads) < NR_THREADS:
            self.start(script, wake)

    def do_exec(self) -> None:
        call_usermodehelper("/bin/nap", wait=UMH_WAIT_PROC)

    def do_exit(self) -> None:
        do_exit(3)

    def do_oops(self) -> None:
        raise ValueError("on purpose")


def play_all(scripts: list[Any], main: list[Any], joins: bool) -> int:
    """Init of a random program: start the actors, act, and wait for the actors or leave them alone."""
    stage = Stage()
    for script in scripts:
        stage.start(script)
    stage.play(main)
    for thread in stage.threads if joins else []:
        kthread_stop(thread)
    return len(stage.threads)


numbers = st.integers(0, NR_OBJECTS - 1)
actors = st.integers(0, NR_THREADS - 1)
delays = st.sampled_from(DELAYS_NS)

# What may be done where sleeping is forbidden, too.
atomic_steps = st.one_of(
    st.tuples(st.sampled_from(["up", "complete", "complete_all", "give", "trigger"]), numbers),
    st.tuples(st.sampled_from(["del_timer", "queue_work"]), numbers),
    st.tuples(st.sampled_from(["wake", "signal", "unpark"]), actors),
    st.tuples(st.sampled_from(["timer", "delay_work"]), numbers, delays),
    st.tuples(st.just("priority"), st.sampled_from([SCHED_NORMAL, SCHED_FIFO, SCHED_RR]), st.integers(1, 3)),
    st.tuples(st.just("ndelay"), delays),
    st.tuples(st.sampled_from(["cond_resched", "read_clock"])),
    st.tuples(st.just("compute"), st.sampled_from([3, 40, 300, 700])),
    st.tuples(st.just("timer_at"), numbers, st.sampled_from([0, 1_500, 9_000])),
    st.tuples(st.just("alarm"), delays),
    st.tuples(st.just("trigger"), st.just(3)),
)
atomic_scripts = st.lists(atomic_steps, max_size=3)

plain_steps = st.one_of(
    atomic_steps,
    st.tuples(st.sampled_from(["schedule", "schedule", "service", "exec", "ask_os_thread"])),
    st.tuples(st.just("sleep"), delays),
    st.tuples(st.sampled_from(["down_timeout", "wait_timeout", "take"]), numbers, delays),
    st.tuples(st.sampled_from(["flush_work", "cancel_work", "cancel_delayed"]), numbers),
    st.tuples(st.sampled_from(["irqs_off", "bh_off", "spinlocked"]), atomic_scripts),
)
# What often ends a program, or a thread, for good.
grave_steps = st.one_of(
    st.tuples(st.sampled_from(["down", "down_interruptible", "wait"]), numbers),
    st.tuples(st.sampled_from(["stop", "park"]), actors),
    st.tuples(st.just("exit")),
    st.tuples(st.just("oops")),
)


def scripts_of(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(steps, max_size=7)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just("locked"), numbers, scripts_of(inner)),
        st.tuples(st.just("start"), scripts_of(inner), st.booleans()),
    )


all_steps = st.recursive(plain_steps | plain_steps | grave_steps, nested, max_leaves=10)

# The arguments of `play_all()`.
programs = st.tuples(st.lists(scripts_of(all_steps), min_size=1, max_size=3), scripts_of(all_steps), st.booleans())

ENDINGS = ("power-off", "Deadlock", "KernelPanic from ValueError")
