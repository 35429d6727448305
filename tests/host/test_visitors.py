"""Greenlets of the application: known while they live, remembered as long as they left something, never kept alive."""

from __future__ import annotations

import gc

from greenlet import greenlet

from lkl_green.host.objects import HostThread, TlsKey
from lkl_green.host.visitors import Visitors

HERE, ELSEWHERE = 1, 2


def test_a_visitor_is_known_while_it_lives():
    visitors: Visitors[HostThread] = Visitors()
    context, record = greenlet(print), HostThread(1, True)
    visitors.add(context, record, HERE, ())
    assert visitors.get(context) is record
    assert visitors.items() == [(context, record)]
    assert visitors.get(greenlet(print)) is None
    del context
    gc.collect()
    assert visitors.items() == []


def test_who_has_called_on_an_os_thread_is_told_once_at_its_end():
    visitors: Visitors[HostThread] = Visitors()
    here, there = HostThread(1, True), HostThread(2, True)
    visitors.add(greenlet(print), here, HERE, ())
    visitors.add(greenlet(print), there, ELSEWHERE, ())
    assert visitors.pop_all_of(HERE) == [here]
    assert visitors.pop_all_of(HERE) == []
    assert visitors.pop_all_of(ELSEWHERE) == [there]


def test_records_of_the_dead_do_not_pile_up_unless_they_left_a_value():
    visitors: Visitors[HostThread] = Visitors()
    key, with_value = TlsKey(None), HostThread(0, True)
    key.values[with_value] = "left behind"
    visitors.add(greenlet(print), with_value, HERE, [key])
    for tid in range(1, 2_000):
        visitors.add(greenlet(print), HostThread(tid, True), HERE, [key])
    remembered = visitors.pop_all_of(HERE)
    assert len(remembered) < 200
    assert with_value in remembered
