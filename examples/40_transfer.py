"""An ordinary script with threads: two transfers that take two locks, each in its own order, and so may wait for ever.

`lkl-green run --threads examples/40_transfer.py` ends in the deadlock, told with who holds which lock; with `--polite`,
the second transfer waits until the first is done.
"""

import sys
import threading
import time


class Account:
    """Money, and a lock to change it under."""

    def __init__(self, balance):
        self.lock = threading.Lock()
        self.balance = balance


def transfer(source, target, amount):
    with source.lock:
        time.sleep(1)  # something slow
        with target.lock:
            source.balance -= amount
            target.balance += amount


def main():
    a, b = Account(100), Account(0)
    there = threading.Thread(target=transfer, args=(a, b, 100), name="there")
    back = threading.Thread(target=transfer, args=(b, a, 100), name="back")
    there.start()
    if "--polite" in sys.argv:
        there.join()
    back.start()
    there.join()
    back.join()
    assert (a.balance, b.balance) == (100, 0)
    print("100 went from a to b and back again, after", round(time.monotonic()), "s")


if __name__ == "__main__":
    main()
