"""Real concurrency bugs of released packages: found in the old release, replayed, shrunk, gone from the fixed one.

    python -m benchmarks.real_bugs

Each bug is a small test of a package's public API, written with `threading` as anybody would write it, and two releases
of that package, which are installed into a directory of their own. Two releases cannot be imported into one process, so
what happens inside a release happens in a process of its own:

    __main__.py   the story of one bug, step by step
    bugs.py       which bugs there are
    releases.py   installing a release
    inside.py     what is done inside a release: find, replay, pass; run by the story, answers in JSON
    fasteners_rwlock.py, pykka_future.py, cachetools_cached.py    the tests

docs/real-bugs.md tells what came of it.
"""
