"""The kernel's log: levels, the ring, the console."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lkl_green import GreenletHost, ThreadHost, lkl_start_kernel
from lkl_green.kernel.printk import LOG_CAPACITY, LogRecord
from lkl_green.linux import (
    KERN_ALERT,
    KERN_CRIT,
    KERN_DEBUG,
    KERN_EMERG,
    KERN_ERR,
    KERN_INFO,
    KERN_NOTICE,
    KERN_WARNING,
    WARN_ON,
    Timer,
    current_kernel,
    ktime_get,
    msleep,
    printk,
)


@pytest.fixture
def console(configuration) -> Any:
    """console(init, **options): boot on a host that keeps what it prints, run; the kernel and what was printed."""

    def console(init, **options):
        host_type = GreenletHost if configuration["host"] == "greenlet" else ThreadHost
        printed: list[str] = []
        host = host_type(console=printed.append)
        kernel = lkl_start_kernel(init, host=host, switch=configuration["switch"], clock="virtual", **options)
        kernel.run()
        return kernel, printed

    return console


def test_levels_are_linuxs():
    levels = [KERN_EMERG, KERN_ALERT, KERN_CRIT, KERN_ERR, KERN_WARNING, KERN_NOTICE, KERN_INFO, KERN_DEBUG]
    assert levels == list(range(8))


def test_a_message_is_kept_with_its_level_and_time(run, log):
    def init():
        printk("one")
        msleep(1500)
        printk("two", KERN_ERR)
        log.extend(current_kernel().printk.records)

    run(init)
    one, two = log
    assert (one.level, one.time_ns, one.text) == (KERN_INFO, 0, "one")
    assert (two.level, two.time_ns // 1_000_000, two.text) == (KERN_ERR, 1500, "two")


def test_a_record_prints_as_dmesg_does(kernel):
    assert str(LogRecord(KERN_INFO, 12_345_678_901, "text")) == "[   12.345678] text"
    kernel.printk.printk("one")
    kernel.printk.err("two")
    assert kernel.printk.text() == "[    0.000000] one\n[    0.000000] two\n"
    assert [record.level for record in kernel.printk.records] == [KERN_INFO, KERN_ERR]


def test_each_line_is_a_record_and_a_final_newline_is_none(kernel):
    kernel.printk.printk("one\n\n  two\n")
    kernel.printk.printk("")
    assert [record.text for record in kernel.printk.records] == ["one", "", "  two", ""]


def test_the_console_shows_what_is_important_enough(console):
    def init():
        for level in range(8):
            printk(f"level {level}", level)
        msleep(1)
        current_kernel().printk.console_loglevel = KERN_ERR
        printk("critical", KERN_CRIT)
        printk("error", KERN_ERR)

    kernel, printed = console(init, loglevel=KERN_WARNING)
    assert printed == [f"[    0.000000] level {level}\n" for level in range(4)] + ["[    0.001001] critical\n"]
    assert len(kernel.printk.records) == 10


@pytest.mark.parametrize(("loglevel", "shown"), [(0, 0), (8, 8)])
def test_the_console_can_be_silent_or_show_everything(console, loglevel, shown):
    _, printed = console(lambda: [printk("text", level) for level in range(8)], loglevel=loglevel)
    assert len(printed) == shown


def test_the_ring_keeps_the_newest(kernel):
    for number in range(LOG_CAPACITY + 10):
        kernel.printk.printk(str(number))
    assert len(kernel.printk.records) == LOG_CAPACITY
    assert (kernel.printk.records[0].text, kernel.printk.records[-1].text) == ("10", str(LOG_CAPACITY + 9))


def test_a_warning_taints_the_kernel(run, log):
    def init():
        kernel = current_kernel()
        log.append(WARN_ON(1 > 2, "never"))
        log.append(kernel.printk.tainted)
        log.append(WARN_ON([1], "a list"))
        WARN_ON(True)
        log.append(kernel.printk.tainted)
        log.append(kernel.statistics().tainted)
        log.extend((record.level, record.text) for record in kernel.printk.records)

    run(init)
    assert log == [False, 0, True, 2, 2, (KERN_WARNING, "WARNING: a list"), (KERN_WARNING, "WARNING: WARN_ON")]


def test_logging_takes_no_virtual_time(run):
    def init():
        for _ in range(100):
            printk("text")
        return ktime_get()

    assert run(init) == 0


def test_interrupts_and_callbacks_may_log(run, log):
    def init():
        Timer(lambda timer: printk("from a callback")).mod_timer_in(0)
        msleep(1)
        log.extend(record.text for record in current_kernel().printk.records)

    run(init)
    assert log == ["from a callback"]


def test_a_foreign_os_thread_may_log(kernel):
    thread = threading.Thread(target=kernel.printk.printk, args=("from outside",))
    thread.start()
    thread.join(5)
    assert [record.text for record in kernel.printk.records] == ["from outside"]


def test_a_console_that_fails_does_not_take_down_who_logs(configuration, log):
    def fails(text):
        log.append(text)
        raise OSError("the console is gone")

    def init():
        printk("one")
        printk("two")
        return "done"

    host_type = GreenletHost if configuration["host"] == "greenlet" else ThreadHost
    kernel = lkl_start_kernel(init, host=host_type(console=fails), switch=configuration["switch"], clock="virtual")
    assert kernel.run() == "done"
    assert log == ["[    0.000000] one\n"]
    assert [record.text for record in kernel.printk.records] == ["one", "two"]


def test_an_oops_is_logged_with_its_traceback(boot):
    def init():
        def broken():
            raise ValueError("what went wrong")

        kernel = current_kernel()
        kernel.kthreads.kthread_run(broken, name="broken")
        msleep(1)

    kernel = boot(init, on_oops="kill")
    kernel.run()
    lines = [record.text for record in kernel.printk.records]
    assert lines[0] == "Oops: broken-4: ValueError: what went wrong"
    assert any("in broken" in line for line in lines)
    assert lines[-1] == "ValueError: what went wrong"
    assert {record.level for record in kernel.printk.records} == {KERN_EMERG}


def test_two_kernels_have_two_logs(boot):
    one, two = boot(lambda: printk("one")), boot(lambda: printk("two"))
    one.run()
    two.run()
    assert [[record.text for record in kernel.printk.records] for kernel in (one, two)] == [["one"], ["two"]]
