"""Objects of a kernel that tasks share: a copy would be another object, on which other tasks wait."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex


class NoCopy:
    """Base of objects that can be neither copied nor pickled; `copy` and `pickle` ask this one method."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be copied or pickled: it belongs to a kernel, and tasks share this very object. Pass it "
            "on as it is, or make a new one"
        )
