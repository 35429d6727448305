"""`python -m lkl_green` is `lkl-green`."""

from __future__ import annotations

from lkl_green.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
