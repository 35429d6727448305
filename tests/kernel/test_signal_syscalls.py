"""The system calls of signals: dispositions, masks, what is pending, waiting, inheritance; and a model of all of it."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import run_program, start

from lkl_green import lkl_start_kernel
from lkl_green.compare.parity import CONFIGURATIONS, Configuration
from lkl_green.kernel.signum import (
    IGNORED_BY_DEFAULT,
    SA_NOCLDWAIT,
    SA_RESTART,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGALRM,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
    SigAction,
    TermSignal,
    signals_in,
    sigset,
)
from lkl_green.kernel.unistd import (
    NR_clone,
    NR_ppoll,
    NR_rt_sigaction,
    NR_rt_sigpending,
    NR_rt_sigprocmask,
    NR_rt_sigsuspend,
)
from lkl_green.linux import current, current_kernel, kernel_wait4, msleep, send_sig

MS = 1_000_000


def task_of(pid):
    return current_kernel().pids.tasks[pid]


def refused(call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


# -- sets


@given(st.sets(st.integers(1, 64)))
def test_a_set_of_signals_is_a_number(signals):
    assert list(signals_in(sigset(signals))) == sorted(signals)


# -- rt_sigaction


def test_sigaction_tells_what_was_done_before(run, log):
    def handler(sys, sig):
        pass

    def main(sys):
        for wanted in (handler, SIG_IGN, SIG_DFL):
            before = sys.sigaction(SIGUSR1, wanted, SA_RESTART, {SIGHUP})
            log.append((before.handler, before.flags, before.mask))
        last = SigAction()
        sys._raw(NR_rt_sigaction, SIGUSR1, None, last)
        log.append((last.handler, last.flags, last.mask))

    run(lambda: run_program(main))
    rest = (SA_RESTART, sigset({SIGHUP}))
    assert log == [(SIG_DFL, 0, 0), (handler, *rest), (SIG_IGN, *rest), (SIG_DFL, 0, 0)]


def test_what_the_kernel_keeps_is_a_copy(run, log):
    def main(sys):
        action = SigAction(lambda sys, sig: log.append("handler"))
        sys._raw(NR_rt_sigaction, SIGUSR1, action, None)
        action.handler = SIG_IGN
        sys.kill(sys.getpid(), SIGUSR1)

    run(lambda: run_program(main))
    assert log == ["handler"]


@pytest.mark.parametrize(
    ("sig", "handler", "flags", "error"),
    [
        (SIGKILL, SIG_IGN, 0, errno.EINVAL),
        (SIGSTOP, print, 0, errno.EINVAL),
        (0, SIG_IGN, 0, errno.EINVAL),
        (65, SIG_IGN, 0, errno.EINVAL),
        (SIGTERM, print, 0x4, errno.EINVAL),  # SA_SIGINFO: there is no siginfo
        (SIGTERM, "a name", 0, errno.EFAULT),
        (SIGTERM, 2, 0, errno.EFAULT),
    ],
)
def test_sigaction_refuses(run, sig, handler, flags, error):
    found = []
    run(lambda: run_program(lambda sys: found.append(refused(sys.sigaction, sig, handler, flags))))
    assert found == [error]


def test_ignoring_a_signal_forgets_the_pending_one(run, log):
    def main(sys):
        for disposition, sig in ((SIG_IGN, SIGTERM), (SIG_DFL, SIGCHLD)):
            sys.sigaction(sig, lambda sys, sig: log.append(sig))
            sys.sigprocmask(SIG_BLOCK, {sig})
            sys.kill(sys.getpid(), sig)
            sys.tgkill(sys.getpid(), sys.gettid(), sig)
            sys.sigaction(sig, disposition)
            log.append(sys.sigpending())
        sys.sigprocmask(SIG_SETMASK)

    assert run(lambda: run_program(main)) == 0
    assert log == [set(), set()]


# -- rt_sigprocmask, rt_sigpending


def test_a_blocked_signal_waits(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append("handler"))
        log.append(sys.sigprocmask(SIG_BLOCK, {SIGUSR1, SIGUSR2}))
        sys.kill(sys.getpid(), SIGUSR1)
        sys.nanosleep(MS)
        log.append((sys.sigpending(), sys.sigprocmask(SIG_UNBLOCK, {SIGUSR1})))
        log.append((sys.sigpending(), sys.sigprocmask(SIG_SETMASK)))

    run(lambda: run_program(main))
    assert log == [set(), "handler", ({SIGUSR1}, {SIGUSR1, SIGUSR2}), (set(), {SIGUSR2})]


def test_sigkill_cannot_be_blocked(run, log):
    def main(sys):
        sys.sigprocmask(SIG_SETMASK, range(1, 65))
        log.append(sorted(set(range(1, 65)) - sys.sigprocmask(SIG_BLOCK)))
        sys.kill(sys.getpid(), SIGKILL)

    assert run(lambda: run_program(main)) == TermSignal(SIGKILL)
    assert log == [[SIGKILL, SIGSTOP]]


def test_a_blocked_fatal_signal_kills_when_it_is_unblocked(run, log):
    def main(sys):
        sys.sigprocmask(SIG_BLOCK, {SIGTERM})
        sys.kill(sys.getpid(), SIGTERM)
        log.append("lives")
        sys.sigprocmask(SIG_UNBLOCK, {SIGTERM})
        log.append("never")

    assert run(lambda: run_program(main)) == TermSignal(SIGTERM)
    assert log == ["lives"]


def test_a_signal_that_is_pending_is_not_queued_again(run, log):
    def main(sys):
        for sig in (SIGUSR1, 40):
            sys.sigaction(sig, lambda sys, sig: log.append(sig))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1, 40})
        for _ in range(3):
            sys.kill(sys.getpid(), SIGUSR1)
            sys.kill(sys.getpid(), 40)
        sys.sigprocmask(SIG_SETMASK)

    run(lambda: run_program(main))
    assert log == [40, SIGUSR1]


def test_one_for_the_thread_and_one_for_the_process_are_two(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sig))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        sys.kill(sys.getpid(), SIGUSR1)
        sys.tgkill(sys.getpid(), sys.gettid(), SIGUSR1)
        sys.sigprocmask(SIG_SETMASK)

    run(lambda: run_program(main))
    assert log == [SIGUSR1, SIGUSR1]


def test_another_how_is_refused_and_changes_nothing(run, log):
    def main(sys):
        log.append(refused(sys.sigprocmask, 3, {SIGTERM}))
        log.append(refused(sys.sigprocmask, SIG_BLOCK, {65}))
        log.append(sys.sigprocmask(SIG_BLOCK))

    run(lambda: run_program(main))
    assert log == [errno.EINVAL, errno.EINVAL, set()]


# -- waiting


def test_pause_waits_for_a_handler(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append("handler"))
        sys.pause()
        log.append("goes on")

    def init():
        pid = start(main)
        msleep(1)
        log.append(str(task_of(pid).waiting_for))
        for sig in (SIGCHLD, SIGCONT, SIGUSR1):
            send_sig(sig, task_of(pid))
            msleep(1)
        kernel_wait4(pid)

    run(init)
    assert log == ["a signal", "handler", "goes on"]


def test_sigsuspend_waits_with_another_mask_and_loses_nothing(run, log):
    """The race that it is for: the signal comes before the wait begins."""

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sys.sigprocmask(SIG_BLOCK)))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1, SIGHUP})
        sys.kill(sys.getpid(), SIGUSR1)
        sys.sigsuspend({SIGALRM})
        log.append(sys.sigprocmask(SIG_BLOCK))

    run(lambda: run_program(main))
    assert log == [{SIGALRM, SIGUSR1}, {SIGUSR1, SIGHUP}]


# -- tgkill


def test_tgkill_knows_which_thread_belongs_to_whom(run, log):
    def main(sys):
        pid = sys.getpid()
        log.append(refused(sys.tgkill, pid + 100, pid, SIGTERM))
        log.append(refused(sys.tgkill, pid, pid + 100, SIGTERM))
        log.append(refused(sys.tgkill, pid, pid, 99))
        sys.tgkill(pid, pid, 0)

    run(lambda: run_program(main))
    assert log == [errno.ESRCH, errno.ESRCH, errno.EINVAL]


# -- fork and exec


def test_a_child_inherits_dispositions_and_mask_but_no_pending_signal(run, log):
    def child(sys):
        log.append((sys.sigpending(), sys.sigprocmask(SIG_BLOCK)))
        sys.kill(sys.getpid(), SIGUSR1)
        sys.sigaction(SIGUSR1, SIG_DFL)

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append("handler"))
        sys.sigprocmask(SIG_BLOCK, {SIGUSR2})
        sys.kill(sys.getpid(), SIGUSR2)
        sys.wait4(sys.clone(child))
        sys.kill(sys.getpid(), SIGUSR1)

    assert run(lambda: run_program(main)) == 0
    assert log == [(set(), {SIGUSR2}), "handler", "handler"]


def test_a_new_program_has_no_handlers_but_ignores_and_blocks_what_the_old_one_did(run, log):
    def second(sys, argv, envp):
        for sig in (SIGUSR1, SIGUSR2):
            was = SigAction()
            sys._raw(NR_rt_sigaction, sig, None, was)
            log.append(was.handler)
        log.append((sys.sigprocmask(SIG_BLOCK), sys.sigpending()))
        sys.kill(sys.getpid(), SIGUSR2)
        sys.kill(sys.getpid(), SIGUSR1)

    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append("never"))
        sys.sigaction(SIGUSR2, SIG_IGN)
        sys.sigprocmask(SIG_BLOCK, {SIGHUP})
        sys.kill(sys.getpid(), SIGHUP)
        sys.execve("/bin/second")

    def init():
        current_kernel().register_program("/bin/second", second)
        return run_program(main)

    assert run(init) == TermSignal(SIGUSR1)
    assert log == [SIG_DFL, SIG_IGN, ({SIGHUP}, {SIGHUP})]


# -- SIGCHLD


def test_a_childs_end_is_a_signal_for_who_handles_it(run, log):
    def main(sys):
        sys.sigaction(SIGCHLD, lambda sys, sig: log.append(sys.wait4()))
        sys.clone(lambda sys: 3)
        sys.pause()

    run(lambda: run_program(main))
    assert log == [(5, 3)]


@pytest.mark.parametrize(("handler", "flags"), [(SIG_IGN, 0), (SIG_DFL, SA_NOCLDWAIT)])
def test_who_ignores_sigchld_has_no_zombies(run, log, handler, flags):
    def main(sys):
        sys.sigaction(SIGCHLD, handler, flags)
        child = sys.clone(lambda sys: sys.nanosleep(MS))
        log.append(refused(sys.wait4))
        log.append(child in current_kernel().pids.tasks)

    run(lambda: run_program(main))
    assert log == [errno.ECHILD, False]


def test_a_child_may_be_made_with_another_signal(run, log):
    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: log.append(sig))
        child = sys._call(NR_clone, SIGUSR1, lambda sys: 3, ())
        sys.pause()
        log.append(sys.wait4(child))

    run(lambda: run_program(main))
    assert log == [SIGUSR1, (5, 3)]


def test_a_child_that_would_stop_its_parent_ends_all_the_same(run, log):
    def main(sys):
        child = sys._call(NR_clone, SIGTSTP, lambda sys: 3, ())
        log.append(sys.wait4(child))

    run(lambda: run_program(main))
    assert log == [(5, 3)]


def test_a_child_cannot_be_made_with_what_is_no_signal(run, log):
    def main(sys):
        log.append(refused(lambda: sys._call(NR_clone, 65, lambda sys: 3, ())))

    run(lambda: run_program(main))
    assert log == [errno.EINVAL]


def test_the_mask_comes_back_when_a_call_is_made_wrongly(run, log):
    def main(sys):
        with pytest.raises(AttributeError):
            sys._call(NR_ppoll, ["no PollFd"], 1, 0, sigset({SIGUSR1}))
        log.append(sys.sigprocmask(SIG_BLOCK))

    run(lambda: run_program(main))
    assert log == [set()]


# -- kernel threads and the application


def test_who_is_no_process_has_neither_handlers_nor_a_mask(kernel, run):
    calls = [
        (NR_rt_sigaction, SIGTERM, SigAction(), None),
        (NR_rt_sigprocmask, SIG_BLOCK, 1, None),
        (NR_rt_sigpending, []),
        (NR_rt_sigsuspend, 0),
    ]
    assert [kernel.lkl_syscall(*call) for call in calls] == [-errno.EINVAL] * 4
    assert run(lambda: [current_kernel().lkl_syscall(*call) for call in calls]) == [-errno.EINVAL] * 4


# -- the model

SIGNALS = (SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD, SIGWINCH, 40)


class SignalModel:
    """A process of one thread: what is blocked, pending and done about signals, and what comes of each call."""

    def __init__(self, log: list[int]) -> None:
        self.log = log
        self.blocked: set[int] = set()
        self.pending: set[tuple[str, int]] = set()
        self.handlers: dict[int, int | set[int]] = {}  # SIG_IGN, or the mask of a handler

    def send(self, sig: int, to: str) -> None:
        if sig in self.blocked or not self.ignored(sig):
            self.pending.add((to, sig))

    def ignored(self, sig: int) -> bool:
        if sig in self.handlers:
            return self.handlers[sig] == SIG_IGN
        return sig in IGNORED_BY_DEFAULT

    def action(self, sig: int, handler: int | set[int]) -> None:
        self.handlers[sig] = handler
        if handler == SIG_DFL:
            del self.handlers[sig]
        if self.ignored(sig):
            self.pending -= {("thread", sig), ("process", sig)}

    def return_to_user_mode(self) -> int | None:
        """Run handlers; the signal that kills, if one does."""
        frames = []
        while ready := sorted((sig, to) for to, sig in self.pending if sig not in self.blocked):
            sig = ready[0][0]
            self.pending.discard(("thread" if ("thread", sig) in self.pending else "process", sig))
            handler = self.handlers.get(sig)
            if handler is None and sig not in IGNORED_BY_DEFAULT:
                return sig
            if isinstance(handler, set):
                frames.append((sig, set(self.blocked)))
                self.blocked |= handler | {sig}
        for sig, before in reversed(frames):
            self.log.append(sig)
            self.blocked = before
            killed = self.return_to_user_mode()
            if killed is not None:
                return killed
        return None


numbers = st.sampled_from(SIGNALS)
steps = st.one_of(
    st.tuples(st.just("kill"), numbers),
    st.tuples(st.just("tgkill"), numbers),
    st.tuples(st.just("block"), st.sets(numbers)),
    st.tuples(st.just("unblock"), st.sets(numbers)),
    st.tuples(st.just("setmask"), st.sets(numbers)),
    st.tuples(st.just("handle"), st.tuples(numbers, st.sets(numbers))),
    st.tuples(st.just("ignore"), numbers),
    st.tuples(st.just("default"), numbers),
    st.tuples(st.just("fork"), st.none()),
)
HOW = {"block": SIG_BLOCK, "unblock": SIG_UNBLOCK, "setmask": SIG_SETMASK}


def predict(model: SignalModel, what: str, arg: Any) -> int | None:
    """Do a step in the model; the signal that kills, if one does."""
    match what:
        case "kill" | "tgkill":
            model.send(arg, "process" if what == "kill" else "thread")
        case "handle":
            model.action(*arg)
        case "ignore" | "default":
            model.action(arg, SIG_IGN if what == "ignore" else SIG_DFL)
        case "block":
            model.blocked |= arg
        case "unblock":
            model.blocked -= arg
        case "setmask":
            model.blocked = set(arg)
        case "fork":
            if model.handlers.get(SIGCHLD) != SIG_IGN:
                model.send(SIGCHLD, "process")
    return model.return_to_user_mode()


def perform(sys: Any, what: str, arg: Any, handler: Any) -> None:
    """Do a step in the process."""
    match what:
        case "kill":
            sys.kill(sys.getpid(), arg)
        case "tgkill":
            sys.tgkill(sys.getpid(), sys.gettid(), arg)
        case "handle":
            sys.sigaction(arg[0], handler, mask=arg[1])
        case "ignore" | "default":
            sys.sigaction(arg, SIG_IGN if what == "ignore" else SIG_DFL)
        case _:
            sys.sigprocmask(HOW[what], arg)


def fork(sys: Any, model: SignalModel) -> None:
    """A child has the same mask and dispositions, and nothing pending."""
    child = sys.clone(lambda sys: agree(sys, model, set()))
    if model.handlers.get(SIGCHLD) == SIG_IGN:
        assert refused(sys.wait4, child) == errno.ECHILD
    else:
        assert sys.wait4(child)[1] == 0


def agree(sys: Any, model: SignalModel, pending: set[int]) -> None:
    assert sys.sigprocmask(SIG_BLOCK) == model.blocked
    assert sys.sigpending() == pending
    for sig in SIGNALS:
        was = SigAction()
        sys._raw(NR_rt_sigaction, sig, None, was)
        found = was.handler if was.handler in (SIG_DFL, SIG_IGN) else set(signals_in(was.mask))
        assert found == model.handlers.get(sig, SIG_DFL)


@pytest.mark.parametrize("where", CONFIGURATIONS, ids=lambda where: where.name)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(story=st.lists(steps, max_size=25))
def test_masks_dispositions_and_pending_signals_follow_the_model(where: Configuration, story: list[Any]) -> None:
    """After each call: the handlers that ran, in their order; what is blocked and pending; whether it lives."""
    doomed: list[int] = []

    def main(sys: Any) -> None:
        log: list[int] = []
        model = SignalModel(expected := [])
        for what, arg in story:
            killer = predict(model, what, arg)
            doomed.extend([] if killer is None else [killer])
            if what == "fork":
                fork(sys, model)
            else:
                perform(sys, what, arg, lambda sys, sig: log.append(sig))
            assert not doomed, "the model died, and the process did not"
            assert log == expected
            agree(sys, model, {sig for _, sig in model.pending})

    options = {"host": where.host, "switch": where.switch, "clock": "virtual", "loglevel": 0}
    with lkl_start_kernel(lambda: run_program(main), **options) as kernel:
        assert kernel.run() == (TermSignal(doomed[0]) if doomed else 0), kernel.printk.text()
        assert kernel.signals.threads == {}


def test_parity_of_masks(parity):
    def main(sys):
        sys.sigaction(SIGUSR1, lambda sys, sig: sys.sigpending())
        sys.sigprocmask(SIG_BLOCK, {SIGUSR1})
        sys.clone(lambda sys: sys.kill(sys.getppid(), SIGUSR1))
        sys.wait4()
        sys.sigsuspend()
        sys.sigsuspend()

    def init():
        pid = start(main)
        msleep(1)
        send_sig(SIGTERM, task_of(pid))
        assert kernel_wait4(pid)[1] == TermSignal(SIGTERM)

    assert "sys_enter: NR 130 (0x0)" in parity(init)


def test_a_kernel_thread_has_no_state_of_this_kind(run):
    def init():
        for sig in (SIGTERM, SIGKILL):
            send_sig(sig, current())
        return current_kernel().signals.threads

    assert run(init) == {}
