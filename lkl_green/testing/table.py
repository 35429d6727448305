"""A schedule as a table: a column for each task, a row for each step, and the source line that does it.

    step  main          a             b             source
       1  start
       2  join a                                    account.py:9    thread.join()
       3                start
       4                read balance                account.py:4    old = balance.value
       5                ~             start
       6                              read balance  account.py:4    old = balance.value

A "~" stands where a task could have gone on and another one was let before it: a preemption. Long stretches of one task
are told by their first and last steps, and what the worker of a pool does between two calls of the program by their
number. Where the columns would be too narrow the task's name stands in front instead.
"""

from __future__ import annotations

from itertools import groupby
from os.path import basename
from typing import TYPE_CHECKING, NamedTuple

from lkl_green.kernel.points import AFTER, CALLBACK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lkl_green.testing.step import Step

_CUT = "~"

# Of asyncio.
_LOOP_FILES = ("base_events.py", "selector_events.py")

# Columns narrower than this say nothing; the source gets what is left, and at least so much.
_NARROWEST = 9
_WIDEST = 26
_SOURCE = 24

# Of a stretch of one task, so many steps are shown at its beginning and at its end.
_STRETCH_BEGIN = 2
_STRETCH_END = 2


class _Row(NamedTuple):
    """One step, the first of several that a pool does, or the steps that are left out."""

    number: int
    step: Step | None
    hidden: int = 0
    folded: int = 1

    @property
    def cell(self) -> str:
        """What its task does."""
        if self.step is None:
            return ""
        if self.folded > 1:
            return f"pool: {self.folded} steps"
        return f"{self.step.op} {self.step.obj}".rstrip()


def schedule_table(steps: Sequence[Step], width: int = 100, max_rows: int | None = 40) -> str:
    """The table.

    Args:
        steps: of a recorded run.
        width: of the text, in characters.
        max_rows: of more, the last ones are shown: there it fails. None: every step is shown.
    """
    if max_rows is None:
        rows = [_Row(number, step) for number, step in enumerate(steps, 1)]
    else:
        rows = _rows(steps)
    if max_rows is not None and len(rows) > max_rows:
        rows = rows[len(rows) - max_rows + 1 :]
        first = rows[0].number
        rows.insert(0, _Row(first, None, first - 1))
    tasks = list(dict.fromkeys(row.step.actor for row in rows if row.step is not None))
    tasks += [row.step.preempts for row in rows if row.step and row.step.preempts and row.step.preempts not in tasks]
    tasks = list(dict.fromkeys(tasks))
    column = _column_width(rows, tasks, width)
    lines = _in_columns(rows, tasks, column) if column else _as_list(rows, tasks)
    return "\n".join(line[:width].rstrip() for line in lines)


def _rows(steps: Sequence[Step]) -> list[_Row]:
    """The steps that are worth a row: long stretches of one task are cut."""
    rows: list[_Row] = []
    told = [
        _Row(number, step)
        for number, step in enumerate(steps, 1)
        if not _only_continues(steps, number - 1) and not _of_the_loop(step)
    ]
    for _, group in groupby(_folded(told), key=_actor):
        stretch = list(group)
        hidden = len(stretch) - _STRETCH_BEGIN - _STRETCH_END
        if hidden > 1:
            between = _Row(stretch[_STRETCH_BEGIN].number, None, hidden)
            stretch[_STRETCH_BEGIN:-_STRETCH_END] = [between]
        rows += stretch
    return rows


def _folded(rows: Sequence[_Row]) -> Iterator[_Row]:
    """The rows, with one for all that a pool does in one go."""
    for (_, in_pool, _), group in groupby(rows, key=_pool_work):
        steps = list(group)
        if in_pool:
            yield steps[0]._replace(folded=len(steps))
        else:
            yield from steps


def _pool_work(row: _Row) -> tuple[str, bool, int]:
    """Equal for rows to fold: a preemption keeps a row of its own."""
    step = row.step
    in_pool = step is not None and step.where is not None and step.where.in_pool
    return _actor(row), in_pool, row.number if step is not None and step.preempts else 0


def _actor(row: _Row) -> str:
    return row.step.actor if row.step is not None else ""


def _only_continues(steps: Sequence[Step], at: int) -> bool:
    """Whether a step is a point after an operation which shows nothing that the step before or after it does not."""
    return steps[at].op == AFTER and steps[at].actor in [
        step.actor for step in (*steps[at - 1 : at], *steps[at + 1 : at + 2])
    ]


def _of_the_loop(step: Step) -> bool:
    """Whether a step is an event loop's own work: looking for input, calling what is not the program's."""
    if step.where is None:
        return step.op == CALLBACK
    return step.where.in_standard_library and basename(step.where.filename) in _LOOP_FILES


def _source(step: Step) -> tuple[str, str]:
    return ("", "") if step.where is None else (str(step.where), step.where.text)


def _column_width(rows: Sequence[_Row], tasks: Sequence[str], width: int) -> int:
    """How wide each task's column can be; 0 if there is no room for columns."""
    cells = [len(row.cell) for row in rows]
    wanted = min(max([*cells, *map(len, tasks), _NARROWEST]), _WIDEST)
    room = (width - 6 - _SOURCE) // max(len(tasks), 1) - 2
    return 0 if room < _NARROWEST else min(wanted, room)


def _in_columns(rows: Sequence[_Row], tasks: Sequence[str], column: int) -> list[str]:
    places = max((len(_source(row.step)[0]) for row in rows if row.step is not None), default=0)
    lines = ["step  " + "".join(f"{_fit(task, column)}  " for task in tasks) + "source"]
    for row in rows:
        if row.step is None:
            lines.append(f"   .  ({row.hidden} more steps)")
            continue
        step = row.step
        cells = {step.preempts: _CUT, step.actor: row.cell}
        place, text = _source(step)
        cut = "".join(f"{_fit(cells.get(task, ''), column)}  " for task in tasks)
        lines.append(f"{row.number:>4}  {cut}{place:<{places}}  {text}")
    return lines


def _as_list(rows: Sequence[_Row], tasks: Sequence[str]) -> list[str]:
    names = min(max(map(len, tasks), default=0), _WIDEST)
    lines = [f"step  {'task':<{names}}  operation"]
    for row in rows:
        if row.step is None:
            lines.append(f"   .  ({row.hidden} more steps)")
            continue
        step = row.step
        place, text = _source(step)
        before = f"  {_CUT} before {step.preempts}" if step.preempts else ""
        what = f"{row.cell:<18}  {place}  {text}".rstrip()
        lines.append(f"{row.number:>4}  {_fit(step.actor, names)}  {what}{before}")
    return lines


def _fit(text: str, width: int) -> str:
    """Exactly so wide; what is cut off leaves a dot."""
    return f"{text:<{width}}" if len(text) <= width else f"{text[: width - 1]}."
