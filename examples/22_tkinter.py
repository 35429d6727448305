"""A kernel as a guest in tkinter's main loop: kernel threads move what the window shows.

    python examples/22_tkinter.py [--stand-in]

    tkinter                                        kernel
    after(delay, step), createfilehandler  --->    guest.step()
    label["text"] = ...                    <---    typist: msleep(), show()

tkinter has the two things a guest needs: `after()` for the kernel's next timer, and `createfilehandler()` for the
descriptor that becomes readable when an interrupt comes from an OS thread.

Where there is no display, or with --stand-in, a loop of the same shape without windows takes tkinter's place, and says
so on standard error only if --display asks for the real one.
"""

from __future__ import annotations

import selectors
import sys
import threading
import time
from typing import TYPE_CHECKING

from lkl_green import KernelPanic, lkl_start_kernel
from lkl_green.embed import Guest
from lkl_green.linux import Completion, current_kernel, msleep, request_irq

if TYPE_CHECKING:
    from collections.abc import Callable


class StandIn:
    """As much of tkinter's loop as a guest needs."""

    def __init__(self) -> None:
        self._timers: dict[str, tuple[float, Callable[[], object]]] = {}
        self._number = 0
        self._selector = selectors.DefaultSelector()
        self._over = False

    def show(self, text: str) -> None:
        print(text)

    def after(self, ms: int, function: Callable[[], object]) -> str:
        self._number += 1
        self._timers[str(self._number)] = (time.monotonic() + ms / 1000, function)
        return str(self._number)

    def after_cancel(self, name: str) -> None:
        self._timers.pop(name, None)

    def watch(self, fd: int, function: Callable[[], object]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, function)

    def mainloop(self) -> None:
        while not self._over:
            first = min((when for when, _ in self._timers.values()), default=None)
            timeout = None if first is None else max(0.0, first - time.monotonic())
            for key, _ in self._selector.select(timeout):
                key.data()
            for name, (when, function) in list(self._timers.items()):
                if when <= time.monotonic():
                    self._timers.pop(name, None)
                    function()

    def quit(self) -> None:
        self._over = True
        self._selector.close()


class Window:
    """The same of tkinter itself."""

    def __init__(self) -> None:
        import tkinter

        self._tkinter = tkinter
        self._root = tkinter.Tk()  # raises TclError without a display
        self._label = tkinter.Label(self._root, width=40)
        self._label.pack()
        self.after = self._root.after
        self.after_cancel = self._root.after_cancel
        self.mainloop = self._root.mainloop

    def show(self, text: str) -> None:
        self._label["text"] = text
        print(self._label["text"])

    def watch(self, fd: int, function: Callable[[], object]) -> None:
        self._fd = fd
        self._root.createfilehandler(fd, self._tkinter.READABLE, lambda fd, mask: function())

    def quit(self) -> None:
        self._root.deletefilehandler(self._fd)
        self._root.destroy()


def open_window(arguments: list[str]) -> StandIn | Window:
    if "--stand-in" in arguments:
        return StandIn()
    try:
        return Window()
    except Exception as error:  # no tkinter, or no display
        if "--display" in arguments:
            print(f"no window: {error}", file=sys.stderr)
        return StandIn()


def typist(window: StandIn | Window) -> None:
    """A kernel thread: types a line, letter by letter."""
    for end in range(6, 13, 2):
        window.show("hello, world"[:end])
        msleep(5)


def wait_for_knock(window: StandIn | Window) -> None:
    """A kernel thread: waits for an interrupt, which an OS thread raises."""
    kernel, knocked = current_kernel(), Completion(name="knock")
    irq = kernel.lkl_get_free_irq("door")
    request_irq(irq, lambda irq: knocked.complete(), "door")
    threading.Timer(0.1, kernel.lkl_trigger_irq, (irq,)).start()
    knocked.wait_for_completion()
    window.show("somebody has knocked")


def init(window: StandIn | Window) -> None:
    typist(window)
    wait_for_knock(window)


def main() -> None:
    window = open_window(sys.argv[1:])
    timer = ""

    with Guest(lkl_start_kernel(init, window)) as guest:

        def step() -> None:
            nonlocal timer
            if timer:
                window.after_cancel(timer)
            try:
                guest.step()
            except KernelPanic:  # tkinter prints what a callback raises, and goes on
                window.quit()
                raise
            if guest.kernel.halted:
                window.quit()
            else:
                timer = window.after(guest.delay_ms(), step)

        window.watch(guest.fileno(), step)
        step()
        window.mainloop()
    print("the kernel has halted")


if __name__ == "__main__":
    main()
