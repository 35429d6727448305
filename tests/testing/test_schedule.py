"""Schedule files: what is written is read, and what is damaged, foreign or newer says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkl_green.errors import ScheduleFileError
from lkl_green.testing import Schedule
from lkl_green.testing.decision import Decision
from lkl_green.testing.schedule import FORMAT, VERSION
from lkl_green.testing.settings import ScheduleSettings

names = st.text(max_size=12)
decisions = st.lists(st.builds(Decision, names, names, names), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | names
schedules = st.builds(
    Schedule,
    decisions,
    test=names,
    verdict=names,
    error=names,
    policy=names,
    seed=st.integers(),
    number=st.integers(min_value=0),
    settings=st.builds(ScheduleSettings),
)
anything = st.recursive(
    scalars | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)

GOOD = Schedule([Decision("a", "lock", "m"), Decision("fault disk", "1/2")], test="t.py::t", seed=7, number=3)


@given(schedules)
@settings(deadline=None)
def test_what_is_written_is_read(schedule):
    assert Schedule.loads(schedule.dumps()) == schedule


def test_a_file_is_for_people_too(tmp_path):
    GOOD.save(tmp_path / "new" / "schedule.json")
    text = (tmp_path / "new" / "schedule.json").read_text(encoding="utf-8")
    assert '\n  ["a", "lock", "m"],\n' in text
    assert json.loads(text)["decisions"] == [["a", "lock", "m"], ["fault disk", "1/2", ""]]
    assert Schedule.load(tmp_path / "new" / "schedule.json") == GOOD


@pytest.mark.parametrize("length", range(len(GOOD.dumps()) - 2))
def test_a_file_that_is_cut_off_anywhere_says_so(length):
    with pytest.raises(ScheduleFileError, match="it may be cut off or edited"):
        Schedule.loads(GOOD.dumps()[:length])


@given(anything)
@settings(deadline=None)
def test_any_other_json_is_no_schedule(data):
    with pytest.raises(ScheduleFileError, match="but not a schedule"):
        Schedule.loads(json.dumps(data))


@given(st.sampled_from(sorted(json.loads(GOOD.dumps()))), anything)
@settings(deadline=None)
def test_a_field_of_another_type_is_damage_or_is_right(name, value):
    data = {**json.loads(GOOD.dumps()), name: value}
    if type(value) is not type(json.loads(GOOD.dumps())[name]):
        with pytest.raises(ScheduleFileError, match=r"^here\.json "):
            Schedule.loads(json.dumps(data), "here.json")
        return
    try:
        schedule = Schedule.loads(json.dumps(data), "here.json")
    except ScheduleFileError:
        return  # a list of what are no decisions, a version or a format that does not exist
    assert all(type(part) is str for decision in schedule.decisions for part in decision)


@given(st.text(max_size=60))
@settings(deadline=None)
def test_text_that_is_no_json_says_so(text):
    with pytest.raises(ScheduleFileError):
        Schedule.loads(text)


@pytest.mark.parametrize("version", [VERSION + 1, 99, 0, -1, None, "1", True, 1.0])
def test_a_version_that_this_one_does_not_know(version):
    data = {**json.loads(GOOD.dumps()), "version": version}
    with pytest.raises(ScheduleFileError, match=f"reads up to {VERSION}: replay it with the version that wrote it"):
        Schedule.loads(json.dumps(data))


@pytest.mark.parametrize("name", ["test", "verdict", "error", "policy", "seed", "number", "options", "decisions"])
def test_a_field_that_is_missing_is_named(name):
    data = json.loads(GOOD.dumps())
    del data[name]
    with pytest.raises(ScheduleFileError, match=f"damaged: KeyError: '{name}'"):
        Schedule.loads(json.dumps(data))


def test_an_option_that_a_file_does_not_have_is_what_it_was_before_there_was_one():
    data = json.loads(GOOD.dumps())
    data["options"] = {"explore_time": True}
    assert Schedule.loads(json.dumps(data)).settings == ScheduleSettings(explore_time=True, loop_order="fifo")


@pytest.mark.parametrize("entry", ["ab", ["a"], ["a", 1], ["a", "b", "c", "d"], {"a": "b"}, None, []])
def test_a_decision_that_is_none(entry):
    data = {**json.loads(GOOD.dumps()), "decisions": [entry]}
    with pytest.raises(ScheduleFileError, match="is damaged: TypeError"):
        Schedule.loads(json.dumps(data))


def test_json_that_is_nested_too_deep():
    with pytest.raises(ScheduleFileError, match="is not a schedule file"):
        Schedule.loads("[" * 200_000)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ScheduleFileError, match="cannot be read"):
        Schedule.load(tmp_path / "missing.json")
    with pytest.raises(ScheduleFileError, match="cannot be read"):
        Schedule.load(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScheduleFileError, match="cannot be read"):
        Schedule.load(tmp_path / "bytes.json")


def test_the_format_is_named_in_the_file():
    assert json.loads(GOOD.dumps())["format"] == FORMAT
