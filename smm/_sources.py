"""Whether a process that lives for long still runs the code that the user's files have."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from smm._blame import is_users
from smm._reading import crc32_of_file

_imported: dict[str, int] = {}
"""Check sums of the user's files that this process has imported, as they were then."""
_seen = 0


class OldCodeError(RuntimeError):
    """A file has been changed since this process imported it."""


def check_sources(functions: Iterable[Callable[..., Any]]) -> None:
    """Compare the modules that functions are in, and what these import of the user's, with their files.

    Raises:
        OldCodeError: one is not what its file says any more.
    """
    note_sources()
    for file in _reached(functions):
        noted = _imported.get(file)
        if noted is not None and _check_sum(file) not in (noted, None):
            raise OldCodeError(f"it has imported {file}, which was changed since; start the workers anew")


def note_sources() -> None:
    """Note the user's files that were imported since the last call; costs nothing if none was."""
    global _seen
    if len(sys.modules) == _seen:
        return
    _seen = len(sys.modules)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file not in _imported and is_users(file):
            total = _check_sum(file)
            if total is not None:
                _imported[file] = total


def _check_sum(file: str) -> int | None:
    try:
        return crc32_of_file(file)
    except OSError:
        return None  # removed, as nobody edits


def _reached(functions: Iterable[Callable[..., Any]]) -> list[str]:
    """Files of the user's modules that functions see, by the names that their modules have."""
    spaces = [_globals(function) for function in functions]
    known = {id(space) for space in spaces}
    files: dict[str, None] = {}
    for space in spaces:  # grows while it is read
        file = space.get("__file__")
        if isinstance(file, str) and not is_users(file):
            continue
        if isinstance(file, str):
            files[file] = None
        for value in list(space.values()):
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            module = sys.modules.get(name) if isinstance(name, str) else None
            if module is not None and id(vars(module)) not in known:
                known.add(id(vars(module)))
                spaces.append(vars(module))
    return list(files)


def _globals(function: Any) -> dict[str, Any]:
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    found = getattr(function, "__globals__", None) or getattr(type(function).__call__, "__globals__", {})
    return found if isinstance(found, dict) else {}
