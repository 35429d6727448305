"""Which bugs there are."""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """A bug that a release of a package has, and a later one has not.

    Attributes:
        package: its name in the package index.
        old: the release with the bug.
        fixed: the release without it.
        program: the module here that has the test.
        test: the test's name.
        verdict: how it fails.
    """

    package: str
    old: str
    fixed: str
    program: str
    test: str
    verdict: str


BUGS = {
    bug.package: bug
    for bug in (
        Bug("fasteners", "0.17.2", "0.17.3", "fasteners_rwlock", "test_a_writer_reads_its_own_data", "deadlock"),
        Bug("pykka", "4.2.0", "4.3.0", "pykka_future", "test_two_readers_of_one_future", "deadlock"),
        Bug("cachetools", "4.1.1", "4.2.0", "cachetools_cached", "test_one_session_for_each_user", "failed"),
    )
}
