"""Descriptors: numbers, birth, exec and death; counted until nothing is open."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st
from users import nr_files, refused, run_program, start

from lkl_green import lkl_start_kernel
from lkl_green.fs.fdtable import FilesStruct
from lkl_green.fs.file import File
from lkl_green.kernel.fork import CLONE_FILES
from lkl_green.kernel.unistd import (
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    F_SETFL,
    FD_CLOEXEC,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    NR_clone,
)
from lkl_green.linux import (
    CLONE_VFORK,
    SIGCHLD,
    current,
    current_kernel,
    fd_install,
    fget,
    kernel_execve,
    kernel_thread,
    kernel_wait4,
    kthread_run,
    msleep,
    pipe,
)


def test_the_lowest_free_number(run):
    def init():
        sys = current_kernel().sys
        assert sys.pipe2() == (0, 1)
        assert sys.pipe2() == (2, 3)
        sys.close(1)
        sys.close(2)
        assert [sys.dup(0), sys.dup(0), sys.dup(0)] == [1, 2, 4]
        for fd in range(5):
            sys.close(fd)
        assert sys.eventfd() == 0
        return nr_files()

    assert run(init) == 1


def test_dup2_and_dup3(run):
    def init():
        sys = current_kernel().sys
        r, w = sys.pipe2()
        assert sys.dup2(w, 7) == 7
        assert sys.dup2(w, w) == w
        assert refused(sys.dup3, w, w) == errno.EINVAL
        assert refused(sys.dup3, w, 9, O_NONBLOCK) == errno.EINVAL
        assert sys.dup3(r, 8, O_CLOEXEC) == 8
        assert (sys.fcntl(8, F_GETFD), sys.fcntl(7, F_GETFD)) == (FD_CLOEXEC, 0)
        assert sys.dup(r) == 2, "the numbers below 7 were never taken"
        assert nr_files() == 2
        assert sys.dup2(r, 7) == 7, "what was there is closed"
        sys.close(w)
        assert nr_files() == 1
        assert sys.read(7, 1) == b""
        for bad in (lambda: sys.dup2(99, 1), lambda: sys.dup2(r, -1), lambda: sys.dup2(r, 1024), lambda: sys.dup(44)):
            assert refused(bad) == errno.EBADF

    run(init)


def test_a_number_that_dup2_took_is_not_given_again(run):
    def init():
        sys = current_kernel().sys
        for _ in range(3):
            sys.eventfd()
        sys.close(0)
        sys.close(1)
        sys.dup2(2, 0)
        return sys.eventfd(), sys.eventfd()

    assert run(init) == (1, 3)


def test_fcntl(run):
    def init():
        sys = current_kernel().sys
        r, w = sys.pipe2()
        assert (sys.fcntl(r, F_GETFL), sys.fcntl(w, F_GETFL)) == (O_RDONLY, O_WRONLY)
        sys.fcntl(r, F_SETFL, O_NONBLOCK | O_RDWR)
        assert sys.fcntl(r, F_GETFL) == O_RDONLY | O_NONBLOCK
        assert refused(sys.read, r, 1) == errno.EAGAIN
        other = sys.dup(r)
        sys.fcntl(other, F_SETFL, 0)
        assert sys.fcntl(r, F_GETFL) == O_RDONLY, "the flags are the file's"
        sys.fcntl(r, F_SETFD, FD_CLOEXEC)
        assert (sys.fcntl(r, F_GETFD), sys.fcntl(other, F_GETFD)) == (FD_CLOEXEC, 0), "this one is the number's"
        sys.fcntl(r, F_SETFD, 0)
        assert sys.fcntl(r, F_GETFD) == 0
        assert sys.fcntl(r, F_DUPFD, 10) == 10
        assert sys.fcntl(r, F_DUPFD_CLOEXEC, 10) == 11
        assert sys.fcntl(11, F_GETFD) == FD_CLOEXEC
        assert refused(sys.fcntl, r, F_DUPFD, -1) == refused(sys.fcntl, r, F_DUPFD, 1024) == errno.EINVAL
        assert refused(sys.fcntl, r, 4711) == errno.EINVAL
        assert refused(sys.fcntl, 99, F_GETFD) == errno.EBADF

    run(init)


def test_emfile_leaves_nothing_behind(run):
    def init():
        sys = current_kernel().sys
        fds = [sys.eventfd() for _ in range(1023)]
        assert fds == list(range(1023))
        before = nr_files()
        assert refused(sys.pipe2) == refused(sys.socketpair) == errno.EMFILE
        assert sys.eventfd() == 1023
        for call in (sys.eventfd, sys.epoll_create1, lambda: sys.dup(0), lambda: sys.fcntl(0, F_DUPFD, 5)):
            assert refused(call) == errno.EMFILE
        assert refused(fd_install, pipe()[0]) == errno.EMFILE
        return nr_files() - before

    assert run(init) == 3  # one eventfd, and the pipe that kernel code keeps


def test_what_is_not_open(run):
    def init():
        sys = current_kernel().sys
        r, _w = sys.pipe2()
        sys.close(r)
        for bad in (r, -1, 12345):
            for call in (sys.close, sys.dup, lambda fd: sys.read(fd, 1), lambda fd: sys.write(fd, b""), fget):
                assert refused(call, bad) == errno.EBADF

    run(init)


def test_a_child_process_has_a_copy(run, log):
    def init():
        def main(sys):
            def child(sys):
                sys.close(r)
                log.append(sys.write(w, b"from the child"))
                return 0

            r, w = sys.pipe2()
            sys.clone(child)
            sys.close(w)
            log.append(sys.read(r, 100))
            log.append(sys.read(r, 100))
            sys.wait4()
            return nr_files()

        assert run_program(main) == 1
        return nr_files()

    assert run(init) == 0
    assert log == [14, b"from the child", b""]


def test_threads_share_one_table(run, log):
    def init():
        def main(sys):
            def thread(sys):
                log.append(sys.pipe2())

            sys.clone_thread(thread)
            sys.nanosleep(1_000_000)
            log.append(sys.write(1, b"x"))  # still open, though its maker is gone

        run_program(main)
        return nr_files()

    assert run(init) == 0
    assert log == [(0, 1), 1]


def test_exec_closes_what_is_marked_and_unshares(run, log):
    def init():
        def neighbour(sys):
            """No thread of the process, which would die in the exec; it has the same table all the same."""
            sys.nanosleep(10_000_000)
            log.append(sys.fcntl(2, F_GETFD))

        def prog(sys):
            sys.pipe2()
            sys.pipe2(O_CLOEXEC)
            sys._call(NR_clone, SIGCHLD | CLONE_FILES, neighbour, ())
            sys.nanosleep(1_000_000)
            sys.execve("/bin/other")

        def other(sys, argv, envp):
            for fd in range(4):
                try:
                    log.append((fd, sys.fcntl(fd, F_GETFD)))
                except OSError as error:
                    log.append((fd, error.errno))
            return 0

        current_kernel().register_program("/bin/other", other)
        run_program(prog)
        msleep(20)
        return nr_files()

    assert run(init) == 0
    assert log == [(0, 0), (1, 0), (2, errno.EBADF), (3, errno.EBADF), FD_CLOEXEC], "the neighbour kept its table"


def test_a_kernel_thread_that_becomes_a_program_brings_its_files(run, log):
    def init():
        r, w = pipe()

        def become(_arg):
            assert fd_install(w) == 0
            return kernel_execve("/bin/hello")

        current_kernel().register_program("/bin/hello", lambda sys, argv, envp: sys.write(0, b"hello") * 0)
        pid = kernel_thread(become, flags=SIGCHLD | CLONE_VFORK)
        log.append(r.read(10))
        log.append(r.read(10))
        kernel_wait4(pid)
        r.close()
        return nr_files()

    assert run(init) == 0
    assert log == [b"hello", b""]


def test_kthreads_do_not_inherit(run):
    def init():
        current_kernel().sys.pipe2()
        seen = []
        kthread_run(lambda: seen.append(current().files))
        msleep(1)
        assert current().files is not None
        return seen

    assert run(init) == [None]


def test_a_task_that_opens_nothing_has_no_table(run):
    def init():
        def main(sys):
            sys.clone(lambda sys: None)
            sys.wait4()
            return current().files is None

        return run_program(main)

    assert run(init) == 1


def test_the_application_and_its_host_tasks_share_those_of_init(boot):
    kernel = boot()
    r, w = kernel.sys.pipe2()
    assert kernel.init_task.files is not None
    assert kernel.sys.write(w, b"abc") == 3
    assert kernel.sys.read(r, 10) == b"abc"
    assert kernel.fs.nr_files == 2
    kernel.lkl_sys_halt()
    assert kernel.fs.nr_files == 0


def test_dead_and_killed_tasks_leave_nothing_open(boot):
    def init():
        def main(sys):
            _r, w = sys.pipe2()
            sys.clone(lambda sys: len(sys.read(0, 1)))
            sys.clone(lambda sys: None)
            sys.write(w, bytes(1 << 20))

        start(main)
        msleep(5)

    kernel = boot(init)
    kernel.run()
    assert kernel.fs.nr_files == 0


def test_a_file_that_cannot_be_released_does_not_keep_a_task_from_dying(run):
    class Stuck(File):
        def _release(self) -> None:
            raise OSError(errno.EIO, "the device is gone")

    def init():
        def main(sys):
            fd_install(Stuck())
            sys.eventfd()
            return 7

        code = run_program(main)
        assert "the device is gone" in current_kernel().printk.text()
        return code, nr_files()

    assert run(init) == (7, 0)


def test_a_file_that_cannot_be_released_is_replaced_and_left_all_the_same(run, log):
    """dup2() onto it, and an exec that closes it: neither fails half way."""

    class Stuck(File):
        def _release(self) -> None:
            raise OSError(errno.EIO, "the device is gone")

    def init():
        def main(sys):
            event = sys.eventfd()
            assert sys.dup2(event, fd_install(Stuck())) == 1
            sys.fcntl(fd_install(Stuck()), F_SETFD, FD_CLOEXEC)
            sys.eventfd(0, O_CLOEXEC)
            sys.execve("/bin/other")

        def other(sys, argv, envp):
            log.extend(current().files)
            return 7

        current_kernel().register_program("/bin/other", other)
        code = run_program(main)
        assert "descriptor 2 is closed with an error" in current_kernel().printk.text()
        return code, nr_files()

    assert run(init) == (7, 0)
    assert log == [0, 1]


def test_a_file_that_was_closed_behind_the_table_takes_no_number(run):
    def init():
        files = FilesStruct()
        file = File()
        assert files.fd_install(file) == 0
        file.close()
        assert [refused(files.dup, 0), refused(files.dup, 0, 5), refused(files.dup_to, 0, 7)] == [errno.EBADF] * 3
        assert [files.fd_install(File()) for _ in range(3)] == [1, 2, 3]

    run(init)


def test_a_child_that_never_ran_gives_its_copy_back(boot):
    def init():
        sys = current_kernel().sys
        sys.pipe2()
        kernel_thread(lambda _: None, flags=SIGCHLD)

    kernel = boot(init)
    kernel.run()
    assert kernel.fs.nr_files == 0


def test_fget_gives_a_reference(run):
    def init():
        sys = current_kernel().sys
        r, w = sys.pipe2()
        file = fget(r)
        sys.close(r)
        sys.write(w, b"still there")
        assert file.read(20) == b"still there"
        file.close()
        return nr_files()

    assert run(init) == 1


# -- a model: a dict, and the lowest number not in it

LIMIT = 5  # so that few numbers are enough to meet again
NUMBERS = st.integers(0, LIMIT + 1)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["install", "install", "close", "dup", "dup_from", "dup_to", "dup_to", "copy"]),
        NUMBERS,
        NUMBERS,
    ),
    min_size=5,
    max_size=40,
)


class Model:
    """What a table should do; failures are negative errnos."""

    def __init__(self) -> None:
        self.files: dict[int, File] = {}

    def _give(self, start: int, file: File) -> int:
        number = next(fd for fd in range(start, 1000) if fd not in self.files)
        if number >= LIMIT:
            return -errno.EMFILE
        self.files[number] = file
        return number

    def install(self, file: File) -> int:
        return self._give(0, file)

    def close(self, fd: int) -> int | None:
        return None if self.files.pop(fd, None) is not None else -errno.EBADF

    def dup(self, fd: int, start: int = 0) -> int:
        if fd not in self.files:
            return -errno.EBADF
        return -errno.EINVAL if start >= LIMIT else self._give(start, self.files[fd])

    def dup_to(self, fd: int, number: int) -> int:
        if fd not in self.files:
            return -errno.EBADF
        if fd == number:
            return -errno.EINVAL
        if number >= LIMIT:
            return -errno.EBADF
        self.files[number] = self.files[fd]
        return number


def attempt(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return -error.errno


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_a_table_follows_the_model(steps):
    kernel = lkl_start_kernel(clock="virtual", loglevel=0)
    table, model = FilesStruct(LIMIT), Model()
    for what, a, b in steps:
        match what:
            case "install":
                file = File(kernel=kernel)
                got, want = attempt(table.fd_install, file), model.install(file)
                if want < 0:
                    file.close()
            case "close":
                got, want = attempt(table.close, a), model.close(a)
            case "dup":
                got, want = attempt(table.dup, a), model.dup(a)
            case "dup_from":
                got, want = attempt(table.dup, a, b), model.dup(a, b)
            case "dup_to":
                got, want = attempt(table.dup_to, a, b), model.dup_to(a, b)
            case "copy":
                old, table = table, table.copy()
                got = want = [old.close(fd) for fd in old].clear()
        assert got == want, (what, a, b)
        assert {fd: table.fget(fd) for fd in table} == model.files
        assert kernel.fs.nr_files == len(set(model.files.values()))
    kernel.lkl_sys_halt()
