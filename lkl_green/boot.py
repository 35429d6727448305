"""`lkl_start_kernel()`: check what was asked for, put a kernel and its file layer together, boot it.

This stands above both: the kernel proper does not know what files are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkl_green.fs.init import vfs_init
from lkl_green.host.clock import Clock, VirtualClock
from lkl_green.host.greenlets import GreenletHost
from lkl_green.host.ops import HostOps
from lkl_green.host.threads import ThreadHost
from lkl_green.kernel.callback import check_callback
from lkl_green.kernel.kernel import Kernel
from lkl_green.kernel.livelock import DEFAULT_LIMIT
from lkl_green.kernel.policy import FixedPriority, SchedulingPolicy
from lkl_green.kernel.printk import KERN_DEBUG

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS: dict[str, type[GreenletHost | ThreadHost]] = {"greenlet": GreenletHost, "thread": ThreadHost}
SWITCHES = ("direct", "semaphore")


def lkl_start_kernel(
    init: Callable[..., Any] | None = None,
    *args: Any,
    host: str | HostOps = "greenlet",
    switch: str | None = None,
    clock: str | Clock = "monotonic",
    policy: SchedulingPolicy | None = None,
    on_oops: str = "panic",
    trace: bool = False,
    name: str = "lkl0",
    open_ended: bool | None = None,
    watchdog_s: float | None = None,
    livelock_points: int | None = DEFAULT_LIMIT,
    hung_task_timeout_s: float | None = None,
    loglevel: int = KERN_DEBUG,
) -> Kernel:
    """Boot a kernel; nothing of it runs before `lkl_run()`.

    Args:
        init: the function of pid 1, called with `args`; when it returns, the kernel powers off. None: the kernel stays
            up until `lkl_sys_halt()`.
        args: its arguments.
        host: "greenlet", "thread", or host operations of your own.
        switch: "direct" (greenlets only; the default there) or "semaphore" (LKL's protocol; the default on threads).
        clock: "monotonic", "virtual", or a Clock.
        policy: the scheduling policy; FixedPriority by default.
        on_oops: "panic" stops the kernel when an exception leaves a kernel thread; "kill" goes on without the thread.
        trace: record trace events from the start, in `kernel.sched.trace`.
        name: the kernel's name.
        open_ended: whether the application, or a foreign thread, may call in when nothing else can happen, so that this
            is no deadlock; by default only without init.
        watchdog_s: end a task that passes no scheduling point for this long; None: no watchdog.
        livelock_points: under a virtual clock, `lkl_run()` raises Livelock when so many scheduling points have passed
            while time stood still and a timer was armed; a switch, interrupt or softirq counts as ten. None: never.
        hung_task_timeout_s: log a task that is blocked for longer, on the kernel's clock, with its stack and with who
            holds what it waits for; None: look for none.
        loglevel: messages with a lower level number are printed on the console.

    Raises:
        ValueError: for arguments that do not fit together.
        TypeError: for an init that is not a plain function.
        OSError: ENOMEM if the host gives out; nothing is left allocated.
    """
    ops = HOSTS[host]() if isinstance(host, str) and host in HOSTS else host
    if not isinstance(ops, HostOps):
        raise ValueError(f"host={host!r}: use 'greenlet', 'thread' or a HostOps object")
    if switch is None:
        switch = "semaphore" if ops.foreign_threads_run_kernel else "direct"
    _check_switch(switch, ops)
    _check_options(init, clock, policy, on_oops, watchdog_s)
    if hung_task_timeout_s is not None and hung_task_timeout_s <= 0:
        raise ValueError(f"hung_task_timeout_s={hung_task_timeout_s}: use seconds above 0, or None for no limit")
    if livelock_points is not None and livelock_points < 1:
        raise ValueError(f"livelock_points={livelock_points}: use a number from 1 on, or None to look for no livelock")
    kernel = Kernel(
        ops,
        switch,
        VirtualClock() if clock == "virtual" else None if isinstance(clock, str) else clock,
        FixedPriority() if policy is None else policy,
        on_oops=on_oops,
        name=name,
        open_ended=open_ended,
        init=init,
        init_args=args,
        watchdog_ns=None if watchdog_s is None else int(watchdog_s * 1e9),
        livelock_points=livelock_points,
        hung_task_timeout_ns=None if hung_task_timeout_s is None else int(hung_task_timeout_s * 1e9),
        loglevel=loglevel,
    )
    vfs_init(kernel)
    if trace:
        kernel.trace_start()
    kernel.init.start_kernel()
    return kernel


def _check_switch(switch: str, ops: HostOps) -> None:
    if switch not in SWITCHES:
        raise ValueError(f"switch={switch!r}: use 'direct' or 'semaphore'")
    if switch == "direct" and ops.foreign_threads_run_kernel:
        raise ValueError("switch='direct' is greenlet.switch(): it needs host='greenlet'; OS threads use 'semaphore'")


def _check_options(
    init: Callable[..., Any] | None,
    clock: str | Clock,
    policy: SchedulingPolicy | None,
    on_oops: str,
    watchdog_s: float | None,
) -> None:
    if on_oops not in ("panic", "kill"):
        raise ValueError(f"on_oops={on_oops!r}: use 'panic' or 'kill'")
    if not isinstance(clock, Clock) and clock not in ("monotonic", "virtual"):
        raise ValueError(f"clock={clock!r}: use 'monotonic', 'virtual' or a Clock object")
    if policy is not None and not isinstance(policy, SchedulingPolicy):
        raise ValueError(f"policy={policy!r}: use a SchedulingPolicy, such as FixedPriority()")
    if init is not None:
        check_callback(init, "function for init")
    if watchdog_s is not None and watchdog_s <= 0:
        raise ValueError(f"watchdog_s={watchdog_s}: use a time in seconds above 0, or None for no watchdog")
