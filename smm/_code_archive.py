"""The source of every definition that a stored metric was computed by, kept once beside the results.

`<folder>/.smm/code/<digest>.py` holds a definition's source as it was compared: without comments, docstrings
and layout. It serves to show what changed, and nothing else: deleting it loses no result.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from smm._files import NewFile
from smm._folders import make_own_folder, open_own_folder
from smm._reading import RECORD_LIMIT, warn_of
from smm.errors import StoreFileError
from smm.metric import Code

_CODE = "code"
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
        if not _DIGEST.fullmatch(digest):
            continue
        with contextlib.suppress(
            OSError, LookupError, RecursionError
        ):  # the last: nested too deep to be written
            if not _is_kept(place, digest):
                _write(place, digest, sources[name])


def kept(folder: Path, digest: str) -> str | None:
    """Return the source of a digest; None if it was never kept, or cannot be read any more.

    Digests come from side-cars, which anyone may have written; what is none is not looked for.

    Warns:
        SmmWarning: something else is in the file's place, once a process; or `.smm` is a link.
    """
    if not _DIGEST.fullmatch(digest):
        return None
    try:
        with open_own_folder(str(folder), _CODE) as code:
            return code.read(f"{digest}.py", RECORD_LIMIT).decode("utf-8", "surrogatepass")
    except StoreFileError as error:
        warn_of(error, "the source of the code that computed a metric cannot be shown")
        return None
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


def _is_kept(folder: str, digest: str) -> bool:
    with contextlib.suppress(FileNotFoundError), open_own_folder(folder, _CODE) as code:
        return code.status(f"{digest}.py") is not None
    return False


def _write(folder: str, digest: str, source: str) -> None:
    with make_own_folder(folder, _CODE) as code:
        file = NewFile(folder, ".py")
        try:
            file.write(source.encode("utf-8", "surrogatepass"))
            file.finish()
        except BaseException:
            file.discard()
            raise
        file.publish(f"{digest}.py", into=code)
