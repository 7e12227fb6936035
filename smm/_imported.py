"""How the files of a user's modules looked when these were imported, to know later whether one was edited."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any, TypeAlias

Stamp: TypeAlias = tuple[int, int]
"""Modification time in nanoseconds, and size."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})
# What `sysconfig` says of the standard library, which takes long to import.
_STANDARD = os.path.join(sys.platlibdir, f"python{sys.version_info.major}.{sys.version_info.minor}")
_LIBRARIES = tuple(
    {
        os.path.join(os.path.abspath(folder), "")
        for folder in (
            os.path.dirname(__file__),
            os.path.dirname(os.__file__),
            os.path.join(sys.base_prefix, _STANDARD),
            os.path.join(sys.base_exec_prefix, _STANDARD),
            os.path.join(sys.exec_prefix, _STANDARD),
        )
    }
)
_WITHOUT_SOURCE = (*EXTENSION_SUFFIXES, ".pyc")


@functools.lru_cache(maxsize=4096)
def is_project_file(file: str) -> bool:
    """Whether a file is the user's own: none of Python's, of an installed package's or of smm's."""
    if file.startswith(_LIBRARIES) and ".." not in file:  # as nearly all are
        return False
    path = os.path.abspath(file)
    if path.endswith(_WITHOUT_SOURCE) or path.startswith(_LIBRARIES):
        return False
    return _INSTALLED.isdisjoint(path.split(os.sep))


# By module: its spec, and how its file looked when it was seen first.
_first_seen: dict[str, tuple[object, Stamp | None]] = {}
_modules_seen = (0, 0)  # how many there were, and the id of the last


def note_imports() -> None:
    """Note how the files of all modules of the user look, to know later whether one was edited since.

    To be called soon after they are imported, for instance when a metric is declared. Costs nothing if no
    module has come since the last call.
    """
    global _modules_seen
    if _modules_seen != (len(sys.modules), id(next(reversed(sys.modules.values()), None))):
        modules = list(sys.modules.items())
        _modules_seen = len(modules), id(modules[-1][1])
        for name, module in modules:
            namespace = getattr(module, "__dict__", None)
            if isinstance(namespace, dict):
                first_look(name, namespace)


def first_look(name: str, namespace: Mapping[str, Any]) -> Stamp | None:
    """How the file of a module looked when that was first seen; a module imported again is seen anew."""
    mark = mark_of(namespace)
    seen = _first_seen.get(name)
    if seen is not None and seen[0] is mark:
        return seen[1]
    file = namespace.get("__file__")
    stamp = stamp_of(file) if isinstance(file, str) and is_project_file(file) else None
    _first_seen[name] = mark, stamp
    return stamp


def is_edited(name: str, file: str) -> bool:
    """Whether the file of a module that was seen looks otherwise now."""
    return _first_seen[name][1] != stamp_of(file)


def look_anew(name: str) -> None:
    """Take the file of a module as it is now for what runs."""
    del _first_seen[name]


def mark_of(namespace: Mapping[str, Any]) -> object:
    """Another object after every import of a module. A script has none, but is never imported again."""
    return namespace.get("__spec__") or namespace.get("__name__")


def stamp_of(file: str) -> Stamp | None:
    """How a file looks; None if it is not there."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
