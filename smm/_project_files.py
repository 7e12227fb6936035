"""Source files of a project, read once, as they were when they were imported."""

from __future__ import annotations

import functools
import linecache
import os
import sys
import sysconfig
import tokenize
from collections.abc import Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any, TypeAlias

from smm._statements import AGAIN, Source, UnreadError

Stamp: TypeAlias = tuple[int, int]
"""Modification time in nanoseconds, and size."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_LIBRARIES = tuple(
    {
        os.path.join(os.path.abspath(folder), "")
        for folder in (
            os.path.dirname(__file__),
            os.path.dirname(os.__file__),
            sysconfig.get_path("stdlib"),
            sysconfig.get_path("platstdlib"),
        )
    }
)
_WITHOUT_SOURCE = (*EXTENSION_SUFFIXES, ".pyc")


@functools.lru_cache(maxsize=4096)
def is_project_file(file: str) -> bool:
    """Whether a file is the user's own: none of Python's, of an installed package's or of smm's."""
    path = os.path.abspath(file)
    if path.endswith(_WITHOUT_SOURCE) or path.startswith(_LIBRARIES):
        return False
    return _INSTALLED.isdisjoint(path.split(os.sep))


# --- files as they were imported ------------------------------------------------------------------------

# By module: its spec, and
_first_seen: dict[str, tuple[object, Stamp | None]] = {}  # how its file looked when it was seen first
_as_imported: dict[str, tuple[object, Source]] = {}  # its source, once that has been read
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
                _note(name, namespace)


def _note(name: str, namespace: Mapping[str, Any]) -> Stamp | None:
    """How the file of a module looked when that was first seen; a module imported again is seen anew."""
    mark = mark_of(namespace)
    seen = _first_seen.get(name)
    if seen is not None and seen[0] is mark:
        return seen[1]
    file = namespace.get("__file__")
    stamp = _stamp(file) if isinstance(file, str) and is_project_file(file) else None
    _first_seen[name] = mark, stamp
    return stamp


def mark_of(namespace: Mapping[str, Any]) -> object:
    """Another object after every import of a module. A script has none, but is never imported again."""
    return namespace.get("__spec__") or namespace.get("__name__")


def _stamp(file: str) -> Stamp | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def module_source(namespace: Mapping[str, Any], file: str) -> Source:
    """The source of a module that is loaded, as it was when it was imported.

    Raises:
        UnreadError: it is not there, cannot be read, or was edited after the module was imported.
    """
    name, mark = str(namespace.get("__name__")), mark_of(namespace)
    known = _as_imported.get(name)
    if known is not None and known[0] is mark:
        return known[1]
    seen = _note(name, namespace)
    if seen is not None and os.path.isfile(file) and seen != _stamp(file):
        raise UnreadError(f"{file} was edited after it was imported; {AGAIN}")
    source = file_source(file, namespace)
    _as_imported[name] = mark, source
    return source


def forget(file: str) -> bool:
    """Let a file be read anew that was edited since; for what was loaded from it without an import.

    Returns:
        Whether there is something new to read.
    """
    found = False
    for name, (_, source) in list(_as_imported.items()):
        if source.file == file and _first_seen[name][1] != _stamp(file):
            del _as_imported[name], _first_seen[name]
            found = True
    return found


def file_source(file: str, namespace: Mapping[str, Any] | None = None) -> Source:
    """The source in a file, or in what Python keeps of a notebook's cells and of archives.

    Raises:
        UnreadError: it is not there, or cannot be read.
    """
    stamp = _stamp(file)
    if stamp is not None:
        return _read(file, stamp)
    loader = {key: value for key, value in (namespace or {}).items() if key.startswith("__")}
    lines = linecache.getlines(file, loader)
    if not lines:
        kept = "is kept nowhere" if file.startswith("<") else "is not there any more"
        raise UnreadError(f"its source, {file}, {kept}")
    return text_source(file, "".join(lines))


@functools.lru_cache(maxsize=1024)
def _read(file: str, _stamp: Stamp) -> Source:
    try:
        with tokenize.open(file) as stream:
            text = stream.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UnreadError(f"its source, {file}, cannot be read: {error}") from error
    return Source(file, text)


@functools.lru_cache(maxsize=1024)
def text_source(file: str, text: str) -> Source:
    """The source in a text, such as a cell of a notebook.

    Raises:
        UnreadError: it cannot be parsed.
    """
    return Source(file, text)
