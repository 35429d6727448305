"""fasteners 0.17.2: who holds the write lock and takes the read lock, too, may wait for ever."""

from __future__ import annotations

import threading

import fasteners


def test_a_writer_reads_its_own_data() -> None:
    lock = fasteners.ReaderWriterLock()
    done = []

    def update_and_check() -> None:
        with lock.write_lock(), lock.read_lock():
            done.append("checked")

    def update() -> None:
        with lock.write_lock():
            done.append("updated")

    threads = [threading.Thread(target=update_and_check, name="checker"), threading.Thread(target=update, name="other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["checked", "updated"]
