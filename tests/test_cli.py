"""The command line: what each option does, and what a newcomer's mistakes get him."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

import lkl_green
from lkl_green.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Call = Callable[..., "Outcome"]
    Program = Callable[..., str]

ROOT = Path(__file__).parent.parent

GREETING = """
    from lkl_green.linux import kthread_run, msleep, printk

    def greet(name):
        printk(f"hello, {name}")

    def init(name="world", status="0"):
        kthread_run(greet, name, name="greeter")
        msleep(20)
        print("greeted")
        return int(status)
"""


class Outcome:
    """What a call of the command line left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def complaint(self) -> str:
        """The one line on stderr that a mistake gets; nothing else was printed."""
        assert self.out == ""
        assert self.err.startswith("lkl-green: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        return self.err.removeprefix("lkl-green: ").rstrip("\n")


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """program(text): a program file."""

    def program(text: str, name: str = "program.py") -> str:
        path = tmp_path / name
        path.write_text(dedent(text))
        return str(path)

    return program


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """call(*argv): the command line in this process."""

    def call(*argv: str) -> Outcome:
        try:
            status = main(argv)
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        printed = capfd.readouterr()
        return Outcome(status, printed.out, printed.err)

    return call


# -- lkl-green run


def test_run_boots_a_kernel_on_init(call: Call, program: Program) -> None:
    outcome = call("run", program(GREETING))
    assert outcome.status == 0
    assert [line.partition("] ")[2] or line for line in outcome.out.splitlines()] == ["hello, world", "greeted"]
    assert outcome.err == ""


def test_arguments_after_the_program_are_inits_even_if_they_look_like_options(call: Call, program: Program) -> None:
    echo = program("def init(*args): print(args)")
    outcome = call("run", "--clock", "virtual", echo, "--stats", "-x", "--", "a b", "--help")
    assert outcome.status == 0
    assert outcome.out == "('--stats', '-x', '--', 'a b', '--help')\n"


@pytest.mark.parametrize(
    ("result", "status"),
    [("0", 0), ("3", 3), ("255", 255), ("None", 0), ("'text'", 0), ("True", 0), ("[1]", 0)],
)
def test_exit_status_is_inits_result(call: Call, program: Program, result: str, status: int) -> None:
    outcome = call("run", program(f"def init(): return {result}"))
    assert outcome.status == status
    assert outcome.err == ""


@pytest.mark.parametrize("result", ["-12", "256"])
def test_a_result_that_is_no_exit_status_is_not_taken_for_success(call: Call, program: Program, result: str) -> None:
    outcome = call("run", program(f"def init(): return {result}"))
    assert outcome.status == 1
    assert f"init returned {result}" in outcome.complaint


def test_do_exit_and_sys_exit_give_the_status_too(call: Call, program: Program) -> None:
    assert call("run", program("from lkl_green.linux import do_exit\ndef init(): do_exit(9)")).status == 9
    assert call("run", program("import sys\ndef init(): sys.exit(8)")).status == 8


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "direct"),
        (["--host", "greenlet"], "direct"),
        (["--host", "greenlet", "--switch", "direct"], "direct"),
        (["--switch", "semaphore"], "semaphore"),
        (["--host", "thread"], "semaphore"),
        (["--host", "thread", "--switch", "semaphore"], "semaphore"),
    ],
)
def test_host_and_switch_choose_the_configuration(call: Call, program: Program, options: list[str], name: str) -> None:
    text = """
        from threading import get_ident
        from lkl_green.linux import current_kernel

        main = get_ident()

        def init():
            print(current_kernel().arch.name, "thread" if get_ident() != main else "greenlet")
    """
    outcome = call("run", *options, program(text))
    host = "thread" if "thread" in options else "greenlet"
    assert outcome.out.split() == [name, host]


def test_virtual_clock_takes_no_time_and_tells_the_same_each_time(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import ktime_get, ssleep

        def init():
            ssleep(1_000_000)
            print(ktime_get())
    """
    first, second = (call("run", "--clock", "virtual", program(text)) for _ in range(2))
    assert int(first.out) >= 1_000_000_000_000_000
    assert first.out == second.out


def test_trace_writes_ftrace_text(call: Call, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "trace.txt"
    assert call("run", "--clock", "virtual", "--trace", str(file), program(GREETING)).status == 0
    text = file.read_text()
    assert text.startswith("# tracer: nop\n")
    assert "sched_process_fork: comm=swapper pid=0 child_comm=init child_pid=1" in text
    assert "next_comm=greeter" in text
    assert text.count("sched_process_exit") >= 2, "the halt is part of the trace"


def test_trace_to_stdout_comes_after_the_programs_output(call: Call, program: Program) -> None:
    outcome = call("run", "--clock", "virtual", "--trace", "-", program(GREETING))
    assert outcome.out.index("greeted") < outcome.out.index("# tracer: nop")


def test_stats_count_for_each_task(call: Call, program: Program) -> None:
    outcome = call("run", "--clock", "virtual", "--stats", program(GREETING))
    assert outcome.out.endswith("greeted\n")
    totals, header, *rows = outcome.err.splitlines()
    assert "switches" in totals
    assert "wakeups" in totals
    assert "irqs" in totals
    assert "elapsed" in totals
    assert header.split() == ["PID", "SWITCHES", "RUNTIME", "ms", "COMM"]
    table = {row.split()[3]: row.split() for row in rows}
    assert table["init"][0] == "1"
    assert int(table["init"][1]) >= 2
    assert "greeter" in table
    assert sum(int(row[1]) for row in table.values()) <= int(totals.split()[0])


def test_stats_and_trace_together_trace_from_the_first_event_on(call: Call, program: Program, tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    greeting = program(GREETING)
    call("run", "--clock", "virtual", "--trace", str(alone), greeting)
    call("run", "--clock", "virtual", "--stats", "--trace", str(both), greeting)
    assert both.read_text().splitlines() == alone.read_text().splitlines()


def test_on_oops_kill_goes_on_without_the_thread(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import kthread_run, msleep

        def fail():
            raise ValueError("on purpose")

        def init():
            kthread_run(fail, name="fail")
            msleep(1)
            return 5
    """
    killed = call("run", "--on-oops", "kill", program(text))
    assert killed.status == 5
    assert "Oops: fail-4: ValueError: on purpose" in killed.out
    panicked = call("run", "--on-oops", "panic", program(text))
    assert panicked.status == 1
    assert "Kernel panic" in panicked.err


def test_loglevel_chooses_what_is_shown(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import KERN_DEBUG, KERN_ERR, KERN_INFO, printk

        def init():
            for level in (KERN_ERR, KERN_INFO, KERN_DEBUG):
                printk(f"level {level}", level)
    """

    def shown(*options: str) -> list[str]:
        return [line.split()[-1] for line in call("run", *options, program(text)).out.splitlines()]

    assert shown() == ["3", "6"]
    assert shown("--loglevel", "8") == ["3", "6", "7"]
    assert shown("--loglevel", "4") == ["3"]
    assert shown("--loglevel", "0") == []


def test_the_programs_directory_is_on_the_path_while_it_runs(call: Call, program: Program) -> None:
    program("number = 6", name="its_helper.py")
    text = """
        def init():
            import its_helper
            print(its_helper.number, __name__ != "__main__")
    """
    path_before = list(sys.path)
    assert call("run", program(text)).out == "6 True\n"
    assert sys.path == path_before
    assert "its_helper" not in sys.modules


# -- mistakes in the call


def test_no_such_file(call: Call) -> None:
    outcome = call("run", "nowhere.py")
    assert outcome.complaint == "nowhere.py: No such file or directory"
    assert outcome.status == 2


@pytest.mark.parametrize("command", ["run", "parity"])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def init(:\n", ":1: syntax error: invalid syntax"),
        ("pass\n\0", "this is no Python source|syntax error: source code .* null bytes"),
        ("import no_such_module_anywhere as init", ":1: loading it fails with ModuleNotFoundError: No module named"),
        ("def init():\n    1 / 0\ninit()", ":3: loading it fails with ZeroDivisionError: division by zero|:2: loading"),
        ("init = 1\nraise SystemExit(0)", "it exits while it is loaded"),
        ("x = 1", "it has no function `init`, which the kernel calls as process 1; is it a script?"),
        ("init = 3", "its `init` is not a function but int 3"),
        ("async def init(): pass", "its `init` is a coroutine function"),
        ("def init(): yield", "its `init` is a generator function"),
        ("def init(a): pass", r"wrong arguments for init\(a\): missing a required argument: 'a'"),
    ],
)
def test_a_file_that_is_no_program(call: Call, program: Program, command: str, text: str, complaint: str) -> None:
    path = program(text)
    outcome = call(command, path)
    assert outcome.status == 2
    assert outcome.complaint.startswith(path)
    assert re.search(complaint, outcome.complaint)


def test_too_many_arguments_for_init(call: Call, program: Program) -> None:
    outcome = call("run", program("def init(name='x'): pass"), "a", "b")
    assert outcome.status == 2
    assert "wrong arguments for init(name='x'): too many positional arguments" in outcome.complaint


def test_options_behind_the_program_are_told_where_they_belong(call: Call, program: Program) -> None:
    outcome = call("run", program("def init(): pass"), "--clock", "virtual")
    assert outcome.status == 2
    assert outcome.complaint.endswith("put --clock before the file")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "the following arguments are required: PROGRAM.py; see `lkl-green run --help`"),
        (["run", "--host", "process", "x.py"], "argument --host: invalid choice: 'process'"),
        (["run", "--clock", "broken", "x.py"], "argument --clock: invalid choice: 'broken'"),
        (["run", "--watchdog", "soon", "x.py"], "argument --watchdog: 'soon' is not a number of seconds"),
        (["run", "--watchdog", "nan", "x.py"], "argument --watchdog: 'nan' is not a number of seconds"),
        (
            ["run", "--loglevel", "9", "x.py"],
            "argument --loglevel: invalid choice: 9|argument --loglevel: invalid choice: '9'",
        ),
        (["run", "--on-oops", "cry", "x.py"], "argument --on-oops: invalid choice: 'cry'"),
        (["run", "--stat", "x.py"], "unrecognized arguments|required: PROGRAM.py"),
        (["run", "--clok=virtual", "x.py"], "--clok=virtual; did you mean --clock?; see `lkl-green run --help`"),
        (["explore", "--seeds", "x.py::t"], "did you mean --seed?; see `lkl-green explore --help`"),
        (["run", "--host", "thread", "--switch", "direct", "x.py"], "--switch direct is greenlet.switch()"),
        (["parity", "--clock", "monotonic", "x.py"], "unrecognized arguments|required: PROGRAM.py"),
    ],
)
def test_mistakes_in_options(call: Call, argv: list[str], complaint: str) -> None:
    outcome = call(*argv)
    assert outcome.status == 2
    assert any(part in outcome.complaint for part in complaint.split("|"))


def test_a_trace_file_that_cannot_be_written(call: Call, program: Program, tmp_path: Path) -> None:
    outcome = call("run", "--trace", str(tmp_path / "no" / "trace"), program("def init(): print('ran')"))
    assert outcome.status == 2
    assert outcome.complaint.endswith("trace: No such file or directory")


# -- programs that fail


@pytest.mark.parametrize("host", ["greenlet", "thread"])
def test_an_exception_in_init_is_shown_with_the_programs_frames_only(call: Call, program: Program, host: str) -> None:
    text = """
        def divide(by):
            return 1 / by

        def init():
            divide(0)
    """
    outcome = call("run", "--host", host, program(text))
    assert outcome.status == 1
    assert outcome.err.startswith(
        "lkl-green: Kernel panic - not syncing: ZeroDivisionError in init: division by zero\n"
    )
    assert "line 6, in init" in outcome.err
    assert "line 3, in divide" in outcome.err
    assert outcome.err.endswith("ZeroDivisionError: division by zero\n")
    assert str(Path(lkl_green.__file__).parent) not in outcome.err


def test_a_panic_of_the_programs_own_has_no_traceback(call: Call, program: Program) -> None:
    outcome = call("run", program("from lkl_green.linux import panic\ndef init(): panic('no root')"))
    assert outcome.status == 1
    assert outcome.err == "lkl-green: Kernel panic - not syncing: no root\n"


def test_a_deadlock_is_reported_with_stacks(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import Completion

        def wait_for_ever():
            Completion(name="godot").wait_for_completion()

        def init():
            wait_for_ever()
    """
    outcome = call("run", program(text))
    assert outcome.status == 1
    assert outcome.err.startswith("lkl-green: deadlock: ")
    assert "init-1" in outcome.err
    assert "godot" in outcome.err
    assert "in wait_for_ever" in outcome.err


def test_the_watchdog_ends_a_thread_that_never_yields(call: Call, program: Program) -> None:
    text = """
        def init():
            while True:
                pass
    """
    outcome = call("run", "--watchdog", "0.05", program(text))
    assert outcome.status == 1
    assert "soft lockup - init-1" in outcome.err
    assert "program.py:" in outcome.err


def test_watchdog_0_lets_a_thread_take_its_time(call: Call, program: Program) -> None:
    text = """
        import time

        def init():
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                pass
            return 6
    """
    assert call("run", "--watchdog", "0", program(text)).status == 6


def test_a_failed_run_still_writes_trace_and_stats(call: Call, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    outcome = call("run", "--stats", "--trace", str(file), program("def init(): 1 / 0"))
    assert outcome.status == 1
    assert "sched_switch" in file.read_text()
    assert "COMM" in outcome.err


def test_a_program_that_swallows_the_halt_is_named(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import kthread_run, msleep

        def stubborn():
            while True:
                try:
                    msleep(10)
                except BaseException:
                    pass

        def init():
            kthread_run(stubborn, name="stubborn")
            msleep(1)
    """
    outcome = call("run", program(text))
    assert "stubborn-4" in outcome.out + outcome.err


# -- lkl-green parity


def test_parity_shows_the_programs_output_once_and_a_summary(call: Call, program: Program) -> None:
    outcome = call("parity", program(GREETING), "parity")
    assert outcome.status == 0
    assert outcome.err == ""
    hello, greeted, summary = outcome.out.splitlines()
    assert hello.endswith("hello, parity")
    assert greeted == "greeted"
    assert summary.startswith("equal: ")
    assert "trace lines" in summary
    assert "switches" in summary


def test_parity_loads_the_program_anew_for_each_run(call: Call, program: Program) -> None:
    program("seen = []", name="shared_by_the_program.py")
    text = """
        import shared_by_the_program
        from lkl_green.linux import usleep

        mine = []

        def init():
            mine.append(1)
            shared_by_the_program.seen.append(1)
            usleep(len(mine) + 10 * len(shared_by_the_program.seen))
    """
    assert call("parity", program(text)).status == 0


def test_parity_shows_the_first_difference(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import current_kernel, msleep

        def init():
            msleep(5 if current_kernel().arch.name == "direct" else 6)
    """
    outcome = call("parity", program(text))
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    assert lines[0].startswith("direct and hosted differ from event ")
    assert [line[0] for line in lines[1:4]] == [" ", " ", " "]
    assert lines[4].startswith("- ")
    assert "expires=5000000" in outcome.out
    assert "expires=6000000" in outcome.out


def test_parity_of_a_program_that_fails_the_same_everywhere(call: Call, program: Program) -> None:
    outcome = call("parity", "--loglevel", "0", program("def init(): 1 / 0"))
    assert outcome.status == 1
    assert outcome.err.count("division by zero") == 2, "in the panic's message and the traceback, of one run"
    assert outcome.out.startswith("equal: ")


# -- the rest, in a process of its own


@contextmanager
def lkl_green_process(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """The command line as a process, which is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lkl_green", *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_version_and_help(call: Call) -> None:
    assert call("--version").out == f"lkl-green {lkl_green.__version__}\n"
    top = call("--help")
    assert top.status == 0
    assert "def init(" in top.out
    for command in ("run", "parity"):
        assert command in top.out
        text = call(command, "--help").out
        assert f"example:\n  lkl-green {command} " in text


def test_examples_in_the_help_exist(call: Call) -> None:
    texts = [call(*argv).out for argv in (["--help"], ["run", "--help"], ["parity", "--help"])]
    for text in texts:
        example = ROOT / text.split()[-1]
        assert example.is_file()


def test_as_a_module_in_a_process_of_its_own(program: Program) -> None:
    with lkl_green_process("run", program(GREETING), "process", "17") as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 17
    assert "hello, process" in out
    assert err == ""


@pytest.mark.parametrize("host", ["greenlet", "thread"])
@pytest.mark.parametrize("doing", ["msleep(100_000)", "schedule()"])
def test_ctrl_c(program: Program, host: str, doing: str) -> None:
    text = f"""
        from lkl_green.linux import msleep, schedule

        def init():
            print("running", flush=True)
            try:
                while True:
                    {doing}
            finally:
                print("cleaned up", flush=True)
    """
    with lkl_green_process("run", "--host", host, program(text)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "cleaned up\n"
    assert err.startswith("lkl-green: interrupted\nkernel lkl0 at ")
    assert f"in init\n    {doing}" in err


def test_a_second_ctrl_c_ends_a_thread_that_never_yields(program: Program) -> None:
    text = """
        from lkl_green.linux import current_kernel

        def init():
            print("running", flush=True)
            while current_kernel().loop.fatal is None:
                pass
            print("the first one waits for a scheduling point", flush=True)
            while True:
                pass
    """
    with lkl_green_process("run", program(text)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        assert "the first one" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("lkl-green: interrupted\nkernel lkl0 at ")
    assert "task init-1: RUNNING\n" in err
    assert "in init\n" in err


def test_a_thread_that_goes_on_after_ctrl_c_is_named_with_what_helps(program: Program) -> None:
    text = """
        def init():
            print("running", flush=True)
            while True:
                pass
    """
    with lkl_green_process("run", program(text)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        told = process.stdout.readline()
        assert "interrupted, but init-1 has not reached a scheduling point since, at " in told
        assert "press Ctrl-C again" in told
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


@pytest.mark.parametrize("host", ["greenlet", "thread"])
def test_sigquit_tells_what_every_thread_does_and_the_run_goes_on(program: Program, host: str) -> None:
    text = """
        from lkl_green.linux import Completion, kthread_run, msleep

        def waits():
            Completion(name="godot").wait_for_completion()

        def init():
            kthread_run(waits, name="waits")
            print("running", flush=True)
            msleep(1500)
            return 3
    """
    with lkl_green_process("run", "--host", host, program(text)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGQUIT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert err.startswith("kernel lkl0 at ")
    assert "waiting for <Completion godot" in err
    assert "in waits\n" in err


# -- what a run ends by


@pytest.mark.parametrize("host", ["greenlet", "thread"])
@pytest.mark.parametrize("doing", ["msleep(100_000)", "Completion(name='never').wait_for_completion()"])
def test_a_time_limit_ends_the_run_with_a_report(call: Call, program: Program, host: str, doing: str) -> None:
    text = f"""
        from lkl_green.linux import Completion, kthread_run, msleep

        def ticks():
            while True:
                msleep(10)

        def init():
            kthread_run(ticks)
            {doing}
    """
    outcome = call("run", "--time-limit", "0.2", "--host", host, program(text))
    assert outcome.status == 124
    assert outcome.err.startswith("lkl-green: time limit: the kernel has run for 0.2 s\nkernel lkl0 at ")
    assert f"in init\n    {doing}" in outcome.err


@pytest.mark.parametrize("doing", ["pass", "time.sleep(60)"])
def test_a_time_limit_ends_the_process_if_a_thread_does_not_give_up_the_cpu(program: Program, doing: str) -> None:
    text = f"""
        import time

        def init():
            while True:
                {doing}
    """
    with lkl_green_process("run", "--time-limit", "0.2", program(text)) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 124
    assert "the process ends\n" in err
    assert "in init\n" in err


def test_a_time_limit_that_is_not_reached_is_not_noticed(call: Call, program: Program) -> None:
    outcome = call("run", "--time-limit", "60", program(GREETING), "x", "5")
    assert (outcome.status, outcome.err) == (5, "")


def test_a_hung_task_is_told_by_default_and_not_if_it_is_switched_off(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import Completion, kernel_power_off, kthread_run, msleep, ssleep

        def ends():
            ssleep(300)
            kernel_power_off()

        def ticks():
            while True:
                msleep(500)

        def init():
            kthread_run(ends)
            kthread_run(ticks)
            Completion(name="never").wait_for_completion()
    """
    told = call("run", "--clock", "virtual", program(text))
    assert told.out.count("INFO: task init:1 blocked for more than 120 seconds.") == 1
    assert "Completion never" in told.out
    assert "INFO" in call("parity", program(text)).out
    assert "INFO" not in call("run", "--clock", "virtual", "--hung-task-timeout", "0", program(text)).out


def test_a_livelock_is_told_by_run_and_parity(call: Call, program: Program) -> None:
    text = """
        from lkl_green.linux import cond_resched, kthread_run, msleep

        def poll():
            while True:
                cond_resched()

        def init():
            kthread_run(poll, name="poller")
            msleep(1)
    """
    for command in (["run", "--clock", "virtual"], ["parity"]):
        outcome = call(*command, "--livelock-points", "20000", program(text))
        assert outcome.status == 1
        assert "lkl-green: livelock: virtual time stands still" in outcome.err
        assert re.search(r"poller-4 at .*program.py:6 in poll: cond_resched\(\)", outcome.err)


@pytest.mark.parametrize(("result", "status"), [(0, 1), (7, 7)])
def test_threads_that_are_left_blocked_for_good_fail_the_run(
    call: Call, program: Program, result: int, status: int
) -> None:
    text = f"""
        from lkl_green.linux import Mutex, kthread_run, msleep

        def takes(first, second):
            with first:
                msleep(1)
                with second:
                    pass

        def init():
            one, two = Mutex(name="one"), Mutex(name="two")
            kthread_run(takes, one, two, name="ab")
            kthread_run(takes, two, one, name="ba")
            msleep(10)
            return {result}
    """
    outcome = call("run", program(text))
    assert outcome.status == status
    assert outcome.err.startswith("lkl-green: init has ended, and ab-4, ba-5 are blocked for good (state D)\n")
    assert "a cycle: ab-4 -> ba-5 -> ab-4" in outcome.err


def test_a_panic_is_told_once(call: Call, program: Program) -> None:
    outcome = call("run", program("def init(): raise ValueError('what went wrong')"))
    assert outcome.out == ""
    assert outcome.err.count("Kernel panic") == outcome.err.count("Traceback") == 1


def test_a_call_that_blocks_is_named(call: Call, program: Program) -> None:
    text = """
        import time

        def init():
            time.sleep(0.5)
    """
    outcome = call("run", "--watchdog", "0.1", program(text))
    assert outcome.status == 1
    assert "program.py:5 in init: time.sleep(0.5), inside the call time.sleep(0.5); a call that blocks" in outcome.err
    assert "msleep() sleeps" in outcome.err


# -- scripts


SCRIPT = """
    import threading
    print("it runs")
    thread = threading.Thread(target=print, args=["in a thread"])
    thread.start()
    thread.join()
"""


def test_a_script_is_not_executed_only_to_find_that_it_has_no_init(call: Call, program: Program) -> None:
    for command in ("run", "parity"):
        assert "it has no function `init`" in call(command, program(SCRIPT)).complaint
    assert call("run", "--threads", program(SCRIPT)).out == "it runs\nin a thread\n"


@pytest.mark.parametrize(
    "text",
    [
        "if True:\n    def init(): print('found')",
        "init = lambda: print('found')",
        "(init := lambda: print('found'))",
        "class init:\n    def __init__(self): print('found')",
        "def main(): print('found')\nfor init in [main]: pass",
        "def main(): print('found')\ndef define():\n    global init\n    init = main\ndefine()",
        "globals()['init'] = lambda: print('found')",
        "exec('def init(): print(\"found\")')",
        "import sys\nsys.modules[__name__].init = lambda: print('found')",
        "def main(): print('found')\nmatch main:\n    case init: pass",
    ],
)
def test_an_init_is_found_however_it_is_defined(call: Call, program: Program, text: str) -> None:
    assert call("run", program(text)).out == "found\n"


@pytest.mark.parametrize(
    "text",
    ["def main():\n    init = 1\n    print(init)\nmain()", "class A:\n    def init(self): pass\nprint(1)", "print(1)"],
)
def test_an_init_elsewhere_is_none(call: Call, program: Program, text: str) -> None:
    assert "it has no function `init`" in call("run", program(text)).complaint


def test_a_script_that_fails_is_told_as_python_tells_it(call: Call, program: Program) -> None:
    outcome = call("run", "--threads", program("def fail():\n    raise ValueError('own')\nfail()"))
    assert outcome.status == 1
    assert outcome.err.startswith("Traceback (most recent call last):\n")
    assert outcome.err.endswith("ValueError: own\n")
    assert "panic" not in outcome.err


def test_without_a_standard_output(program: Program) -> None:
    shell = f"exec {sys.executable} -m lkl_green run {program(GREETING)} nobody 7 >&-"
    done = subprocess.run(
        shell,
        shell=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.parametrize("host", ["greenlet", "thread"])
def test_a_console_that_nobody_reads_ends_the_program(program: Program, host: str) -> None:
    text = """
        from lkl_green.linux import msleep, printk

        def init():
            while True:
                printk("x" * 1000)
                msleep(1)
    """
    with lkl_green_process("run", "--host", host, program(text)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "options",
    [["--host", "greenlet"], ["--host", "thread"], ["--host", "thread", "--trace", "-"]],
    ids=" ".join,
)
def test_a_reader_that_leaves_is_no_error(program: Program, options: list[str]) -> None:
    text = """
        from lkl_green.linux import printk, schedule

        def init():
            for _ in range(1000):
                printk("x" * 1000)
                print("y" * 1000, flush=True)
                schedule()
    """
    with lkl_green_process("run", *options, program(text)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""
