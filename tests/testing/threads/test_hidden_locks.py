"""A native lock that the replacements do not find ends the campaign within seconds, and is named."""

from __future__ import annotations

import threading
import time

from lkl_green.errors import BlockedCall
from lkl_green.testing import explore
from lkl_green.testing.run import Verdict


def test_a_hidden_lock_that_blocks_is_an_escape() -> None:
    native_lock = threading.Lock()
    acquire, release = native_lock.acquire, native_lock.release  # bound methods of C: the lock cannot be exchanged

    def program() -> None:
        def hold() -> None:
            acquire()
            time.sleep(1)
            release()

        threads = [threading.Thread(target=hold) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    failure = explore(program, threads=True).failure
    assert failure is not None
    assert failure.verdict is Verdict.ESCAPED
    assert type(failure.exception) is BlockedCall
    assert "test_hidden_locks.py" in failure.error
