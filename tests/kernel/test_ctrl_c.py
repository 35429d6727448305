"""Exceptions that signal handlers and other OS threads raise while a kernel runs, Ctrl-C first."""

from __future__ import annotations

import ctypes
import itertools
import signal
import sys
import threading

import pytest
from programs import run_program

from lkl_green import lkl_start_kernel
from lkl_green.errors import ExecImage
from lkl_green.kernel.unistd import NR_getpid, NR_nanosleep
from lkl_green.linux import Semaphore, cond_resched, current_kernel, kthread_run, msleep, usleep

pytestmark = pytest.mark.usefixtures("default_sigint")


@pytest.fixture
def default_sigint():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def loop(kernel):
    """The loop of the documentation."""
    while not kernel.halted:
        kernel.pause(kernel.lkl_run())


# -- Ctrl-C under lkl_run()


def test_the_first_ctrl_c_comes_out_of_lkl_run_and_not_in_a_kernel_thread(boot, log):
    def interrupted():
        ctrl_c()
        log.append("goes on")
        msleep(1)
        log.append("and on")

    def init():
        kthread_run(interrupted)
        msleep(5)
        return "done"

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        loop(kernel)
    assert kernel.run() == "done"
    assert log == ["goes on", "and on"]


def test_a_second_ctrl_c_is_raised_where_the_main_thread_is(boot, log, configuration):
    if configuration["host"] == "thread":
        pytest.skip("the main thread runs no kernel thread here")

    def never_yields():
        try:
            ctrl_c()
            ctrl_c()
        except KeyboardInterrupt:
            log.append("KeyboardInterrupt")

    kernel = boot(lambda: kthread_run(never_yields) and msleep(1))
    with pytest.raises(KeyboardInterrupt):
        loop(kernel)
    assert log == ["KeyboardInterrupt"]


def test_a_ctrl_c_between_two_calls_is_raised_at_once(boot):
    kernel = boot()
    kernel.lkl_run()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    kernel.lkl_run()


def test_a_ctrl_c_in_a_system_call_of_the_application_comes_out_of_the_call(boot):
    def init():
        usleep(5)
        ctrl_c()
        msleep(10**6)

    kernel = boot(init)
    with pytest.raises(KeyboardInterrupt):
        kernel.lkl_syscall(NR_nanosleep, 10**9)
    assert kernel.lkl_syscall(NR_getpid) == 1


def test_the_handler_is_taken_out_when_the_kernel_has_halted(boot):
    first, second = boot(), boot()
    for kernel in (first, second):
        kernel.lkl_run()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    first.lkl_sys_halt()
    second.lkl_run()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    second.lkl_sys_halt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_application_is_left_alone(boot, log):
    def own(signum, frame):
        log.append("own")

    signal.signal(signal.SIGINT, own)

    def init():
        ctrl_c()
        return "done"

    kernel = boot(init)
    loop(kernel)
    assert kernel.init_result == "done"
    assert log == ["own"]
    assert signal.getsignal(signal.SIGINT) is own


# -- exceptions of other signal handlers


def test_an_exception_of_a_signal_handler_in_a_busy_kernel_leaves_it_able_to_halt(boot):
    """Raised at one place, because Python ignores exceptions in finalizers. Others: test_async_exceptions.py."""

    def init():
        there, back = Semaphore(0), Semaphore(0)

        def echo():
            while True:
                there.down()
                back.up()

        kthread_run(echo)
        for turn in itertools.count():
            there.up()
            back.down()
            cond_resched()
            if turn == 20:
                # To the main thread: up to Python 3.12 a signal that another OS thread gets is noticed much later.
                signal.pthread_kill(main_thread, signal.SIGALRM)

    main_thread = threading.get_ident()
    kernel = boot(init, clock="monotonic")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop(kernel)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert kernel.lkl_sys_halt(1) == 0
    assert kernel.halted
    assert kernel.sched.current is kernel.sched.swapper


def test_a_thread_that_reaches_the_recursion_limit_in_a_sleep_catches_the_error_and_goes_on(boot):
    def deeper():
        usleep(1)
        deeper()

    def init():
        with pytest.raises(RecursionError):
            deeper()
        msleep(1)
        return "fine"

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        assert boot(init).run() == "fine"
    finally:
        sys.setrecursionlimit(limit)


# -- exceptions sent to an OS thread


def raise_in(thread, error):
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error)) == 1


def test_an_exception_for_a_foreign_thread_in_a_call_is_raised_there_and_not_in_the_owner(boot, log):
    kernel = boot(clock="monotonic")
    tasks_before = len(kernel.pids)

    def foreign():
        try:
            while True:
                kernel.lkl_syscall(NR_nanosleep, 100_000)
        except KeyboardInterrupt:
            log.append("KeyboardInterrupt")

    thread = threading.Thread(target=foreign)
    thread.start()
    while len(kernel.pids) == tasks_before:  # until its first call has been taken in
        kernel.lkl_run()
    raise_in(thread, KeyboardInterrupt)
    while thread.is_alive():
        kernel.lkl_run()
    assert log == ["KeyboardInterrupt"]
    assert kernel.lkl_sys_halt(1) == 0


# -- what only the kernel may raise


def test_a_program_that_raises_the_kernels_exec_exception_dies_of_it(boot):
    def main(sys):
        raise ExecImage

    def init():
        return run_program(main)

    assert boot(init).run() == signal.SIGABRT


def test_a_kernel_on_another_thread_leaves_ctrl_c_alone(configuration, log):
    def runs():
        kernel = lkl_start_kernel(
            lambda: log.append(current_kernel().name), clock="virtual", loglevel=0, **configuration
        )
        loop(kernel)

    thread = threading.Thread(target=runs)
    thread.start()
    thread.join()
    assert len(log) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
