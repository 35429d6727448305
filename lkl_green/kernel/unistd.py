"""Numbers and structures that both sides of a system call know (x86-64's numbers)."""

from __future__ import annotations

NR_sched_yield = 24
NR_nanosleep = 35
NR_getpid = 39
NR_clone = 56
NR_execve = 59
NR_exit = 60
NR_wait4 = 61
NR_kill = 62
NR_uname = 63
NR_getppid = 110
NR_reboot = 169
NR_gettid = 186
NR_clock_gettime = 228

LINUX_REBOOT_MAGIC1 = 0xFEE1DEAD
LINUX_REBOOT_MAGIC2 = 672274793
LINUX_REBOOT_CMD_RESTART = 0x01234567
LINUX_REBOOT_CMD_HALT = 0xCDEF0123
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC

CLOCK_REALTIME = 0
CLOCK_MONOTONIC = 1

WNOHANG = 1


class Utsname:
    """What uname() tells (struct utsname); an object for the kernel to fill."""

    __slots__ = ("machine", "nodename", "release", "sysname", "version")

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str

    def __repr__(self) -> str:
        return f"<Utsname {self.sysname} {self.nodename} {self.release} {self.machine}>"
