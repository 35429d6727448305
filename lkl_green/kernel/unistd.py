"""Numbers and structures that both sides of a system call know (x86-64's numbers)."""

from __future__ import annotations

NR_read = 0
NR_write = 1
NR_close = 3
NR_poll = 7
NR_rt_sigaction = 13
NR_rt_sigprocmask = 14
NR_ioctl = 16
NR_readv = 19
NR_writev = 20
NR_pipe = 22
NR_select = 23
NR_sched_yield = 24
NR_dup = 32
NR_dup2 = 33
NR_pause = 34
NR_nanosleep = 35
NR_getpid = 39
NR_socket = 41
NR_connect = 42
NR_accept = 43
NR_sendto = 44
NR_recvfrom = 45
NR_shutdown = 48
NR_bind = 49
NR_listen = 50
NR_getsockname = 51
NR_getpeername = 52
NR_socketpair = 53
NR_setsockopt = 54
NR_getsockopt = 55
NR_clone = 56
NR_execve = 59
NR_exit = 60
NR_wait4 = 61
NR_kill = 62
NR_uname = 63
NR_fcntl = 72
NR_getppid = 110
NR_rt_sigpending = 127
NR_rt_sigsuspend = 130
NR_reboot = 169
NR_gettid = 186
NR_clock_gettime = 228
NR_exit_group = 231
NR_epoll_wait = 232
NR_epoll_ctl = 233
NR_tgkill = 234
NR_pselect6 = 270
NR_ppoll = 271
NR_epoll_pwait = 281
NR_accept4 = 288
NR_eventfd2 = 290
NR_epoll_create1 = 291
NR_dup3 = 292
NR_pipe2 = 293

LINUX_REBOOT_MAGIC1 = 0xFEE1DEAD
LINUX_REBOOT_MAGIC2 = 672274793
LINUX_REBOOT_CMD_RESTART = 0x01234567
LINUX_REBOOT_CMD_HALT = 0xCDEF0123
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC

CLOCK_REALTIME = 0
CLOCK_MONOTONIC = 1

WNOHANG = 1

O_RDONLY = 0
O_WRONLY = 1
O_RDWR = 2
O_ACCMODE = 3
O_NONBLOCK = 0o4000
O_CLOEXEC = 0o2000000

F_DUPFD = 0
F_GETFD = 1
F_SETFD = 2
F_GETFL = 3
F_SETFL = 4
F_DUPFD_CLOEXEC = 1030
FD_CLOEXEC = 1
FIONREAD = 0x541B

EPOLLIN = 0x1
EPOLLPRI = 0x2
EPOLLOUT = 0x4
EPOLLERR = 0x8
EPOLLHUP = 0x10
EPOLLNVAL = 0x20
EPOLLRDHUP = 0x2000
EPOLLEXCLUSIVE = 1 << 28
EPOLLWAKEUP = 1 << 29
EPOLLONESHOT = 1 << 30
EPOLLET = 1 << 31
EPOLL_CTL_ADD = 1
EPOLL_CTL_DEL = 2
EPOLL_CTL_MOD = 3
EPOLL_CLOEXEC = O_CLOEXEC

POLLIN, POLLPRI, POLLOUT = EPOLLIN, EPOLLPRI, EPOLLOUT
POLLERR, POLLHUP, POLLNVAL, POLLRDHUP = EPOLLERR, EPOLLHUP, EPOLLNVAL, EPOLLRDHUP

EFD_SEMAPHORE = 1
EFD_NONBLOCK = O_NONBLOCK
EFD_CLOEXEC = O_CLOEXEC

AF_UNIX = 1
AF_INET = 2
SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_NONBLOCK = O_NONBLOCK
SOCK_CLOEXEC = O_CLOEXEC
SHUT_RD = 0
SHUT_WR = 1
SHUT_RDWR = 2


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


class PollFd:
    """One descriptor of a poll() (struct pollfd).

    Attributes:
        fd: the descriptor; a negative one is passed over.
        events: what the caller wants to know.
        revents: what the kernel found; POLLERR, POLLHUP and POLLNVAL unasked.
    """

    __slots__ = ("events", "fd", "revents")

    def __init__(self, fd: int, events: int) -> None:
        self.fd = fd
        self.events = events
        self.revents = 0

    def __repr__(self) -> str:
        return f"<PollFd {self.fd} events={self.events:#x} revents={self.revents:#x}>"


class EpollEvent:
    """What an epoll is to watch for, and what it found (struct epoll_event).

    Attributes:
        events: EPOLL* bits.
        data: whatever the caller wants back.
    """

    __slots__ = ("data", "events")

    def __init__(self, events: int, data: object = None) -> None:
        self.events = events
        self.data = data

    def __repr__(self) -> str:
        return f"<EpollEvent {self.events:#x} {self.data!r}>"
