"""Context variables follow the kernel thread, in every configuration."""

from __future__ import annotations

import contextvars
import gc
import weakref

import pytest

from lkl_green.linux import do_exit, kernel_thread, kthread_run, msleep, yield_

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


def test_a_child_gets_a_copy_of_its_creators_context(run, log):
    def child():
        log.append(("child", VAR.get()))
        VAR.set("child's")
        yield_()
        log.append(("child", VAR.get()))

    def init():
        VAR.set("init's")
        kthread_run(child)
        VAR.set("init's, later")
        yield_()
        yield_()
        log.append(("init", VAR.get()))

    run(init)
    assert log == [("child", "init's"), ("child", "child's"), ("init", "init's, later")]


def test_a_low_level_thread_does_so_too(run, log):
    def child(arg):
        log.append((arg, VAR.get()))
        do_exit(0)

    def init():
        for value in ("one", "two"):
            VAR.set(value)
            kernel_thread(child, value)
        VAR.set("three")
        yield_()

    run(init)
    assert log == [("one", "one"), ("two", "two")]


def test_init_gets_a_copy_of_the_applications(run, log):
    def init():
        log.append(VAR.get())
        VAR.set("init's")

    token = VAR.set("the application's")
    try:
        run(init)
        log.append(VAR.get())
    finally:
        VAR.reset(token)
    assert log == ["the application's"] * 2


def test_what_a_thread_sets_is_seen_by_no_other(run, log):
    def thread(name):
        for _ in range(3):
            VAR.set(name)
            yield_()
            log.append(VAR.get() == name)

    def init():
        for name in "abcd":
            kthread_run(thread, name)
        msleep(1)
        log.append(VAR.get() == "unset")

    run(init)
    assert log == [True] * 13


def test_a_worker_does_not_pass_the_context_of_its_last_task_on(run, log):
    def first():
        VAR.set("first's")

    def second():
        log.append(VAR.get())

    def init():
        for _ in range(3):
            kthread_run(first)
            msleep(1)
            kthread_run(second)
            msleep(1)

    run(init)
    assert log == ["unset"] * 3


def test_the_context_of_a_dead_thread_is_freed(run):
    class Value:
        pass

    refs = []

    def thread():
        value = Value()
        refs.append(weakref.ref(value))
        VAR.set(value)

    def init():
        for _ in range(5):
            kthread_run(thread)
        msleep(1)
        gc.collect()
        return [ref() is None for ref in refs]

    assert run(init) == [True] * 5


def test_a_host_task_has_the_context_of_the_thread_that_first_called(boot, log):
    kernel = boot(clock="monotonic")
    kernel.syscalls.install(500, "ours", lambda: log.append(VAR.get()))
    token = VAR.set("the application's")
    try:
        assert kernel.lkl_syscall(500) == 0
    finally:
        VAR.reset(token)
    assert log == ["the application's"]


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_application_that_uses_contexts_of_its_own_is_not_disturbed(boot, log, where):
    def thread():
        for _ in range(3):
            VAR.set("kernel's")
            msleep(1)

    kernel = boot()
    context = contextvars.copy_context()

    def drive():
        VAR.set("application's")
        kernel.lkl_run()
        log.append(VAR.get())

    def init_like():
        kernel.fork.kernel_thread(lambda _: (thread(), do_exit(0)))

    if where == "before":
        context.run(init_like)
    else:
        init_like()
    context.run(drive)
    contextvars.copy_context().run(drive)
    log.append(VAR.get())
    assert log == ["application's", "application's", "unset"]
