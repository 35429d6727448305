"""From kernel thread to user process: init execs a program and waits for it.

    lkl-green run examples/03_init_execs.py

A program is a function `main(sys, argv, envp)` registered under a path. It reaches the kernel through `sys` only, whose
methods are system calls. The way there is that of Linux: `kernel_thread()` makes a thread of the kernel, which becomes
a user process by `kernel_execve()`; its function then returns 0, and the new thread proceeds to user mode. In user
mode, the shell clones one child, which it does not wait for at once, and vforks another, which execs.
"""

from __future__ import annotations

from typing import Any

from lkl_green.linux import SIGCHLD, current_kernel, do_exit, kernel_execve, kernel_thread, kernel_wait4, printk

MS = 1_000_000


def shell(sys: Any, argv: list[str], envp: dict[str, str]) -> int:
    """The program /bin/sh."""
    print(f"{argv[0]}: pid {sys.getpid()}, parent {sys.getppid()}, on {sys.uname().sysname}, HOME={envp['HOME']}")
    background = sys.clone(count_down, 3)
    print(f"{argv[0]}: pid {background} counts in the background")
    # A vfork() parent sleeps until the child has left its memory, by exec or exit.
    sys.vfork(run, "/bin/echo", "hello", "from", "user", "mode")
    status = 0
    for _ in range(2):
        pid, code = sys.wait4()
        print(f"{argv[0]}: pid {pid} exited with {code}")
        status += code
    return status


def count_down(sys: Any, start: int) -> int:
    """A child that runs in the shell's program."""
    for number in range(start, 0, -1):
        print(f"pid {sys.getpid()}: {number}")
        sys.nanosleep(10 * MS)
    return 40


def run(sys: Any, path: str, *args: str) -> int:
    """A child that becomes another program; it comes back from execve() only if there is none."""
    try:
        sys.execve(path, [path, *args])
    except FileNotFoundError:
        return 127


def echo(sys: Any, argv: list[str], envp: dict[str, str]) -> int:
    """The program /bin/echo."""
    print(*argv[1:])
    return 2


def become_shell(_arg: object) -> int:
    """A thread of the kernel, up to the exec."""
    try:
        return kernel_execve("/bin/sh", ["sh"], {"HOME": "/"})
    except FileNotFoundError as error:
        printk(f"no shell: {error}")
        do_exit(127)


def init() -> int:
    kernel = current_kernel()
    kernel.register_program("/bin/sh", shell)
    kernel.register_program("/bin/echo", echo)
    pid = kernel_thread(become_shell, flags=SIGCHLD)
    _, status = kernel_wait4(pid)
    printk(f"the shell, pid {pid}, exited with {status}")
    return int(status)
