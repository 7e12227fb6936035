"""The source of every definition that a stored metric was computed by, kept once beside the results.

`<folder>/.smm/code/<digest>.py` holds a definition's source as it was compared: without comments, docstrings
and layout. It serves to show what changed, and nothing else: deleting it loses no result.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from smm._files import OWN_FOLDER, NewFile, make_folders
from smm.metric import Code

_DIGEST = re.compile(r"[0-9a-f]{16,64}")

_kept: set[tuple[str, str]] = set()
"""Folders, and digests of parts and of whole code, that this process has seen to."""


def is_done(folder: Path, code: Code) -> bool:
    """Whether this process has seen to all parts of a code; quick."""
    return (str(folder), code.digest) in _kept


def keep(folder: Path, code: Code, sources: Mapping[str, str]) -> None:
    """Keep the source of each part that is not there yet. One that cannot be is left out, and nothing said.

    Args:
        folder: of the results.
        code: as a record notes it.
        sources: by name; one that is kept already is not read.
    """
    place = str(folder)
    _kept.add((place, code.digest))
    for name, digest in code.parts.items():
        if (place, digest) in _kept:
            continue
        _kept.add((place, digest))  # whatever comes: not again for every row of a sweep
        path = _path(folder, digest)
        if path is None or os.path.exists(path):
            continue
        with contextlib.suppress(
            OSError, LookupError, RecursionError
        ):  # the last: nested too deep to be written
            _write(place, path, sources[name])


def kept(folder: Path, digest: str) -> str | None:
    """The source of a digest; None if it was never kept, or cannot be read any more."""
    path = _path(folder, digest)
    if path is None:
        return None
    try:
        return Path(path).read_bytes().decode("utf-8", "surrogatepass")
    except (OSError, UnicodeDecodeError):
        return None


def difference(before: str, now: str, *, name: str, when: str) -> str:
    """How two sources differ, as a unified diff; empty if they do not.

    Args:
        before: the one.
        now: the other.
        name: of the definition.
        when: the first was the source.
    """
    lines = difflib.unified_diff(
        before.splitlines(), now.splitlines(), f"{name}, {when}", f"{name}, now", lineterm=""
    )
    return "\n".join(lines)


def _path(folder: Path, digest: str) -> str | None:
    """Where a source lies. Digests come from side-cars, which anyone may have written: no path but ours."""
    if not _DIGEST.fullmatch(digest):
        return None
    return os.path.join(folder, OWN_FOLDER, "code", f"{digest}.py")


def _write(folder: str, path: str, source: str) -> None:
    code = os.path.dirname(path)
    if not os.path.isdir(code):
        make_folders(folder)
        with contextlib.suppress(FileExistsError):
            os.mkdir(code)
            with contextlib.suppress(OSError):  # as `.smm` itself, so that a group can share it
                os.chmod(code, os.stat(folder).st_mode & 0o7777)
    file = NewFile(folder, ".py")
    try:
        file.write(source.encode("utf-8", "surrogatepass"))
        file.finish()
    except BaseException:
        file.discard()
        raise
    file.publish(path)
