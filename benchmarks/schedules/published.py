"""What other tools need: mean schedules to the first bug, of the trials that found it.

From the raw data of two papers, 20 trials each: SURW (ASPLOS 2025), with a limit of 10,000 schedules; and RFF (ASPLOS
2024), whose columns are marked (R), with PERIOD (ICSE 2022) as rerun there and as its own paper reports. They count at
the level of instructions of C programs, here it is operations on shared variables; some count a profiling run as the
first schedule. A figure is left out where it is not known, and infinite where no trial found the bug.
"""

from __future__ import annotations

from math import inf

TOOLS = (
    "RW", "PCT-3", "PCT-10", "POS", "SURW", "N-U", "N-S", "POS(R)", "PCT3(R)", "RFF", "QL-RF", "PERIOD(R)", "PERIOD",
)  # fmt: skip

# Greybox fuzzing with feedback: shown, and not what the figures are held against.
NOT_COMPARED = "RFF"

_ = None
_FIGURES: dict[str, tuple[float | None, ...]] = {
    "account": (18, 4, 4, 4, 6, 7, 3, 1, 9, 1, 6, 10, 2),
    "bluetooth_driver": (215, 112, 83, 36, 70, 70, 1494, 72, 161, 45, 155, 9, 9),
    "circular_buffer": (4, 9, 5, 2, 3, 3, 14, 2, 5, 2, 2, 3, 17),
    "deadlock01": (3, 13, 7, 4, 2, 4, 3, 4, 20, 5, 1, 3, 3),
    "lazy01": (21, 5, 5, 5, 2, 6, 4, 5, 10, 6, 12, 7, 3),
    "queue": (1, 3, 2, 1, 2, 2, 2, 1, 12, 1, 1, 4, 25),
    "reorder_3": (inf, 185, 148, 86, 7, 26, 24, 223, 241, 7, 45843, 6, 6),
    "reorder_4": (inf, 554, 362, 533, 7, 53, 22, 1464, 395, 6, inf, 9, 9),
    "reorder_5": (inf, 647, 1094, 2169, 10, 152, 27, 4377, 1126, 6, inf, 12, 12),
    "reorder_10": (inf, 3225, 4462, inf, 17, 4358, 74, inf, 2356, 6, inf, 27, 27),
    "reorder_20": (inf, 3005, 3297, inf, 6, 3783, 10, inf, 2128, 6, inf, 39, 39),
    "reorder_50": (inf, 3304, 9422, inf, 13, inf, 75, inf, 12346, 6, inf, 129, _),
    "reorder_100": (inf, inf, inf, inf, 194, inf, 3785, inf, 7447, 6, inf, 297, _),
    "stack": (176, 3, 3, 2, 5, 5, 986, 2, 2, 2, 1, 8, 2),
    "twostage": (464, 13, 9, 15, 8, 8, 9, 15, 9, 8, 336, 4, 3),
    "twostage_20": (inf, 159, 101, 156, 6, 172, 24, 185, 188, 22, inf, 76, _),
    "twostage_50": (inf, 1676, 692, 1637, 20, 1834, 93, 1984, 849, 35, inf, 286, _),
    "twostage_100": (inf, 7466, 5726, 6674, 454, 8530, 2992, inf, 3888, 56, inf, 690, 690),
    "wronglock": (36, 51, 20, 10, 7, 4, 4, 1, 88, 1, 37, 4, 10),
    "wronglock_3": (36, 58, 14, 11, 9, 5, 5, 1, 40, 1, 37, 5, 6),
    "WorkStealQueue": (_, 48, 16, 12, 6, 33, 13, 10, 12, 10, inf, 57, 1661),
    "boundedBuffer": (7, 20, 6, 5, 9, 8, 7, 6, 15, 8, 14, 8, 20),
}


def figure(program: str, tool: str) -> float | None:
    """The mean that was published; None where there is none."""
    return _FIGURES[program][TOOLS.index(tool)]


def best(program: str) -> tuple[float, str]:
    """The best figure to be compared with, and whose it is."""
    known = [(value, tool) for tool in TOOLS if tool != NOT_COMPARED and (value := figure(program, tool)) is not None]
    return min(known, key=lambda entry: entry[0])
