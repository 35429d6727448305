"""A Python script, to be run as a program's main thread in a kernel."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

from lkl_green.errors import ProgramError
from lkl_green.green.program import as_main

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def load_script(path: str, args: Sequence[str]) -> Callable[[], None]:
    """A function that runs the file as `python path args` would: as `__main__`, up to the end of its last thread.

    Raises:
        ProgramError: there is no such file, or it is no Python.
    """
    file = Path(path)
    try:
        code = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except OSError as error:
        raise ProgramError(f"{file}: {error.strerror or error}") from error
    except SyntaxError as error:
        raise ProgramError(f"{file}:{error.lineno or 0}: syntax error: {error.msg}") from error
    except ValueError as error:
        raise ProgramError(f"{file}: this is no Python source: {error}") from error
    return lambda: _run(code, file, args)


def _run(code: types.CodeType, file: Path, args: Sequence[str]) -> None:
    module = types.ModuleType("__main__")
    module.__file__ = str(file)
    directory = str(file.resolve().parent)
    argv, sys.argv = sys.argv, [str(file), *args]
    outer = sys.modules["__main__"]
    sys.modules["__main__"] = module
    sys.path.insert(0, directory)
    try:
        as_main(exec)(code, module.__dict__)  # its threads may look at all this until the last one ends
    finally:
        sys.modules["__main__"] = outer
        sys.argv = argv
        if directory in sys.path:  # the program may have changed the path
            sys.path.remove(directory)
