"""Source files of a project, read once, as they were when they were imported."""

from __future__ import annotations

import codecs
import functools
import os
from collections.abc import Mapping
from typing import Any, TextIO

from smm._imported import Stamp, first_look, is_edited, look_anew, mark_of, stamp_of
from smm._statements import AGAIN, Source, UnreadError

# By module: its spec, and its source, once that has been read.
_as_imported: dict[str, tuple[object, Source]] = {}


def module_source(namespace: Mapping[str, Any], file: str) -> Source:
    """The source of a module that is loaded, as it was when it was imported.

    Raises:
        UnreadError: it is not there, cannot be read, or was edited after the module was imported.
    """
    name, mark = str(namespace.get("__name__")), mark_of(namespace)
    known = _as_imported.get(name)
    if known is not None and known[0] is mark:
        return known[1]
    seen = first_look(name, namespace)
    if seen is not None and os.path.isfile(file) and seen != stamp_of(file):
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
        if source.file == file and is_edited(name, file):
            del _as_imported[name]
            look_anew(name)
            found = True
    return found


def file_source(file: str, namespace: Mapping[str, Any] | None = None) -> Source:
    """The source in a file, or in what Python keeps of a notebook's cells and of archives.

    Raises:
        UnreadError: it is not there, or cannot be read.
    """
    stamp = stamp_of(file)
    if stamp is not None:
        return _read(file, stamp)
    loader = {key: value for key, value in (namespace or {}).items() if key.startswith("__")}
    import linecache

    lines = linecache.getlines(file, loader)
    if not lines:
        kept = "is kept nowhere" if file.startswith("<") else "is not there any more"
        raise UnreadError(f"its source, {file}, {kept}")
    return text_source(file, "".join(lines))


@functools.lru_cache(maxsize=1024)
def _read(file: str, _stamp: Stamp) -> Source:
    try:
        with _opened(file) as stream:
            text = stream.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UnreadError(f"its source, {file}, cannot be read: {error}") from error
    return Source(file, text)


def _opened(file: str) -> TextIO:
    """A source file in its encoding, which nearly all leave unsaid."""
    with open(file, "rb") as stream:
        head = stream.readline() + stream.readline()
    if b"coding" in head or head.startswith(codecs.BOM_UTF8):
        import tokenize

        return tokenize.open(file)
    return open(file, encoding="utf-8")


@functools.lru_cache(maxsize=1024)
def text_source(file: str, text: str) -> Source:
    """The source in a text, such as a cell of a notebook.

    Raises:
        UnreadError: it cannot be parsed.
    """
    return Source(file, text)
