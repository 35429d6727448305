"""Whoever wants the garbage collector off, it is on again when the last one has let go."""

from __future__ import annotations

import gc
import threading

from lkl_green.host.collector import Collector


def test_overlapping_users_leave_it_on():
    collector = Collector()
    collector.keep_off()
    collector.keep_off()
    assert not gc.isenabled()
    collector.let_go()
    assert not gc.isenabled()
    collector.let_go()
    assert gc.isenabled()


def test_it_stays_off_for_a_program_that_had_it_off():
    collector = Collector()
    gc.disable()
    try:
        collector.keep_off()
        collector.let_go()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_users_in_several_threads():
    collector = Collector()

    def use():
        for _ in range(200):
            collector.keep_off()
            collector.let_go()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert gc.isenabled()
