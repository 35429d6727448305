"""Program files: a Python file with a function `init`, loaded for one run and forgotten after it; and how it failed.

Three runs of one file must not see each other, or the comparison of their traces would compare the second run of a
program with the first. So the file is executed anew for each run, under a name that nothing else imports, and the
modules that it imported from its own directory are dropped afterwards. The file is compiled here, not by the import
system, which would leave a `__pycache__` next to somebody else's program.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from contextlib import contextmanager, suppress
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkl_green.compare.toplevel import may_define
from lkl_green.errors import ProgramError
from lkl_green.kernel.callback import not_plain
from lkl_green.kernel.stacktext import user_traceback

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterator

# Not "__main__": a file that also is a script must not start itself.
MODULE_NAME = "_lkl_green_program"


@contextmanager
def load_program(path: str | Path, *args: Any) -> Iterator[Callable[..., Any]]:
    """The `init` of a program file, for as long as the context lasts.

    Args:
        path: the file.
        args: what `init` will be called with; only their number is looked at.

    Raises:
        ProgramError: there is no such file, it is no Python, it fails while it is loaded, or it has no such `init`.
    """
    file = Path(path)
    source, _ = _compile(file)
    if not may_define(source, "init"):  # a script would do all that it does before this could be said
        raise ProgramError(_no_init(file))
    with load_file(path) as module:
        yield _find_init(file, module, args)


@contextmanager
def load_file(path: str | Path) -> Iterator[types.ModuleType]:
    """A Python file as a module, for as long as the context lasts.

    Raises:
        ProgramError: there is no such file, it is no Python, or it fails while it is loaded.
    """
    file = Path(path)
    _, code = _compile(file)
    directory = file.resolve().parent
    before = set(sys.modules)
    sys.path.insert(0, str(directory))
    try:
        yield _execute(file, code)
    finally:
        with suppress(ValueError):  # the program may have changed the path
            sys.path.remove(str(directory))
        _forget_modules(before, directory)


def _compile(file: Path) -> tuple[bytes, types.CodeType]:
    """The source of a file, and what it compiles to."""
    try:
        source = file.read_bytes()
        return source, compile(source, str(file), "exec", dont_inherit=True)
    except OSError as error:
        raise ProgramError(f"{file}: {error.strerror or error}") from error
    except SyntaxError as error:
        raise ProgramError(f"{file}:{error.lineno or 0}: syntax error: {error.msg}") from error
    except ValueError as error:
        raise ProgramError(f"{file}: this is no Python source: {error}") from error


def _execute(file: Path, code: types.CodeType) -> types.ModuleType:
    # A spec with a loader, because from Python 3.15 on a traceback through a module without one gives a warning.
    spec = spec_from_file_location(MODULE_NAME, file, loader=SourceFileLoader(MODULE_NAME, str(file)))
    assert spec is not None
    module = module_from_spec(spec)
    module.__file__ = str(file)
    sys.modules[MODULE_NAME] = module
    try:
        exec(code, module.__dict__)
    except SystemExit as error:
        raise ProgramError(
            f"{file}: it exits while it is loaded; put what makes it a script under `if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        line = _line_in(file, error)
        raise ProgramError(f"{file}:{line}: loading it fails with {type(error).__name__}: {error}") from error
    return module


def _line_in(file: Path, error: Exception) -> int:
    """The line of the program at which an exception passed through it."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
    return lines[-1] if lines else 0


def _no_init(file: Path) -> str:
    return (
        f"{file}: it has no function `init`, which the kernel calls as process 1; is it a script? "
        "`lkl-green run --threads` runs those"
    )


def _find_init(file: Path, module: types.ModuleType, args: tuple[Any, ...]) -> Callable[..., Any]:
    init = getattr(module, "init", None)
    if init is None:
        raise ProgramError(_no_init(file))
    if not callable(init):
        raise ProgramError(f"{file}: its `init` is not a function but {type(init).__name__} {init!r}")
    kind = not_plain(init)
    if kind is not None:
        raise ProgramError(
            f"{file}: its `init` is {kind}; kernel code is plain Python that sleeps in calls such as msleep(). To "
            "await, run the kernel in an event loop: lkl_green.embed"
        )
    _check_arguments(file, init, args)
    return init  # type: ignore[no-any-return]


def _check_arguments(file: Path, init: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        signature = inspect.signature(init)
    except ValueError:  # a callable written in C need not tell
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        options = [arg for arg in args if isinstance(arg, str) and arg.startswith("--")]
        hint = f"; what follows the file is for init: put {options[0]} before the file" if options else ""
        raise ProgramError(f"{file}: wrong arguments for init{signature}: {error}{hint}") from error


def _forget_modules(before: set[str], directory: Path) -> None:
    """Drop the program and the modules next to it; libraries stay, even if they are installed below its directory."""
    for name in set(sys.modules) - before:
        if name == MODULE_NAME or _stands_in(directory, name):
            del sys.modules[name]


def _stands_in(directory: Path, name: str) -> bool:
    """Whether a module was found in the directory itself, as `name.py` or `name/`."""
    top = name.partition(".")[0]
    origin = getattr(sys.modules[name], "__file__", None)
    if origin is None or top == __name__.partition(".")[0]:
        return False
    file = Path(origin).resolve()
    return file.is_relative_to(directory) and file.relative_to(directory).parts[0].partition(".")[0] == top


# -- a program that failed


def explain_failure(error: BaseException) -> str:
    """What went wrong in a kernel: the message, and the traceback of the exception that it came from."""
    cause = error.__cause__
    return str(error) if cause is None else f"{error}\n{user_traceback(cause)}"
