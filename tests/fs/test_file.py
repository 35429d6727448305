"""Files: what every kind has in common, shown on a kind that is as simple as can be."""

from __future__ import annotations

import errno

import pytest

from lkl_green.fs.file import File
from lkl_green.kernel.rewind import Rewind
from lkl_green.kernel.unistd import EPOLLHUP, EPOLLIN, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY
from lkl_green.linux import SIGKILL, allow_signal, current_kernel, kthread_run, msleep, send_sig


class Mailbox(File):
    """A file that holds one letter."""

    __slots__ = ("letter", "releases")

    def __init__(self, flags: int = O_RDWR) -> None:
        super().__init__(flags, name="mailbox")
        self.letter = b""
        self.releases = 0

    def _read(self, count: int) -> bytes:
        if not self.letter:
            self.wait_until(lambda: self.letter)
        letter, self.letter = self.letter[:count], b""
        return letter

    def _write(self, data: bytes | bytearray) -> int:
        self.letter = bytes(data)
        self.f_wq.wake_up_poll(EPOLLIN)
        return len(data)

    def poll(self) -> int:
        return EPOLLIN if self.letter else 0

    def _release(self) -> None:
        self.releases += 1


class Events:
    """A watcher."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def file_changed(self, events: int) -> None:
        self.seen.append(events)

    def file_released(self) -> None:
        self.seen.append("released")


def refused(call, *args) -> int | None:
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


def test_a_reader_sleeps_until_somebody_writes(run, log):
    def init():
        box = Mailbox()
        kthread_run(lambda: log.append(box.read(10)))
        msleep(1)
        log.append("writing")
        log.append(box.write(b"hello"))
        msleep(1)
        box.close()

    run(init)
    assert log == ["writing", 5, b"hello"]


def test_what_is_not_bytes_or_not_open_for_it_is_refused(run):
    def init():
        with Mailbox(O_RDONLY) as box:
            assert refused(box.write, b"x") == errno.EBADF
            assert refused(box.read, -1) == errno.EINVAL
            assert box.read(0) == b""
        with Mailbox(O_WRONLY) as box:
            assert refused(box.read, 1) == errno.EBADF
            assert refused(box.write, "text") == errno.EFAULT
            assert box.write(memoryview(b"ab")) == 2
            assert refused(box.ioctl, 0x5401) == errno.ENOTTY
        with File() as nothing:
            assert refused(nothing.read, 1) == refused(nothing.write, b"") == errno.EINVAL
        for use in (lambda: nothing.read(1), lambda: nothing.write(b""), nothing.close, nothing.get):
            assert refused(use) == errno.EBADF
        assert refused(nothing.ioctl, 1) == errno.EBADF

    run(init)


def test_a_non_blocking_file_never_sleeps(run):
    def init():
        with Mailbox(O_RDWR | O_NONBLOCK) as box:
            with pytest.raises(BlockingIOError):
                box.read(1)
            box.set_flags(0)
            assert box.f_flags == O_RDWR
            box.set_flags(O_NONBLOCK | O_WRONLY)
            assert box.f_flags == O_RDWR | O_NONBLOCK

    run(init)


def test_the_last_reference_releases(run):
    def init():
        box = Mailbox()
        assert current_kernel().fs.nr_files == 1
        assert box.get() is box
        box.close()
        assert (box.releases, current_kernel().fs.nr_files) == (0, 1)
        box.close()
        assert (box.releases, current_kernel().fs.nr_files) == (1, 0)

    run(init)


def test_a_file_that_is_closed_under_a_reader_wakes_it_with_ebadf(run, log):
    def init():
        def read():
            with pytest.raises(OSError, match=r"was closed while reader/. waited") as caught:
                box.read(1)
            log.append(caught.value.errno)

        box = Mailbox()
        for number in (1, 2):
            kthread_run(read, name=f"reader/{number}")
        msleep(1)
        box.close()
        msleep(1)

    run(init)
    assert log == [errno.EBADF, errno.EBADF]


@pytest.mark.parametrize("sig", [15, SIGKILL])
def test_a_signal_ends_the_wait(run, log, sig):
    def init():
        def read():
            allow_signal(sig)
            with pytest.raises(InterruptedError):
                box.read(1)
            log.append("interrupted")

        with Mailbox() as box:
            task = kthread_run(read)
            msleep(1)
            send_sig(sig, task)
            msleep(1)
            assert not box.f_wq.waitqueue_active()

    run(init)
    assert log == ["interrupted"]


def test_watchers_hear_of_changes_and_of_the_end(run):
    def init():
        box, events, other = Mailbox(), Events(), Events()
        box.f_wq.add_watcher(events)
        box.f_wq.add_watcher(other)
        box.write(b"x")
        box.f_wq.remove_watcher(other)
        box.f_wq.wake_up()
        box.close()
        assert events.seen == [EPOLLIN, 0xFFFF_FFFF, "released"]
        assert other.seen == [EPOLLIN]
        assert EPOLLHUP  # a released file has no watchers to tell

    run(init)


def test_a_halting_kernel_releases_what_was_left_open(boot):
    boxes = []
    kernel = boot(lambda: boxes.append(Mailbox()))
    kernel.run()
    assert kernel.fs.nr_files == 0
    assert boxes[0].releases == 1


def test_a_file_that_cannot_be_released_does_not_keep_the_others(boot):
    class Stuck(Mailbox):
        def _release(self) -> None:
            raise OSError(errno.EIO, "the device is gone")

    files = []
    kernel = boot(lambda: files.extend([Stuck(), Mailbox()]))
    kernel.run()
    assert kernel.fs.nr_files == 0
    assert files[1].releases == 1
    assert "the device is gone" in kernel.printk.text()


def test_a_kernel_with_an_open_file_is_not_as_good_as_new(kernel):
    kernel.lkl_run()
    rewind = Rewind(kernel)
    file = File(kernel=kernel)
    assert rewind.rewind() is False
    file.close()
    assert rewind.rewind() is True


def test_scheduling_points_stand_before_the_operation(run):
    def init():
        seen = []
        with Mailbox() as box:
            sched = current_kernel().sched
            sched.listener = lambda kind, thing: seen.append((kind, box.letter)) if thing is box else None
            box.write(b"x")
            box.read(1)
        sched.listener = None
        assert seen == [("write", b""), ("receive", b"x"), ("close", b"")]

    run(init)
