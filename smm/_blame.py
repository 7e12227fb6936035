"""Whose line raised an exception: the user's, as far as it can be told."""

from __future__ import annotations

import traceback
from pathlib import Path

_OWN = str(Path(__file__).parent) + "/"
_STANDARD = str(Path(traceback.__file__).parent) + "/"
_INSTALLED = ("site-packages", "dist-packages")


def user_line(error: BaseException) -> str | None:
    """`file.py:12`, the innermost line outside of smm and of libraries; else the innermost outside of smm.

    None if the exception never left smm.
    """
    lines = [
        (frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not is_own(frame.f_code.co_filename)
    ]
    if not lines:
        return None
    file, number = ([line for line in lines if not _is_library(line[0])] or lines)[-1]
    return f"{file}:{number}"


def user_files(error: BaseException) -> tuple[str, ...]:
    """The files of the user's own code that an exception came through, each once."""
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return tuple(dict.fromkeys(file for file in files if is_users(file)))


def last_line(error: BaseException) -> str:
    """Type and message of an exception, as the last line of a traceback has them; one line of the message."""
    kind = type(error).__qualname__
    lines = [line.strip() for line in message(error).splitlines() if line.strip()]
    return f"{kind}: {lines[0]}" if lines else kind


def message(error: BaseException) -> str:
    """What an exception says; nothing if its class cannot say it."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ of the user's must not hide which error it was
        return ""


def shown(error: BaseException) -> str:
    """An exception as one line, with the file and line of the user's code it comes from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    place = user_line(error)
    return f"{last_line(error)} ({place})" if place else last_line(error)


def user_traceback(error: BaseException) -> str:
    """The traceback from where smm called the user's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and is_own(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def is_users(file: str) -> bool:
    """Whether a file of code is neither smm's nor a library's."""
    return not is_own(file) and not _is_library(file)


def is_own(file: str) -> bool:
    """Return whether a file of code is smm's own, or Python's machinery of imports."""
    return file.startswith(("<frozen ", _OWN))


def _is_library(file: str) -> bool:
    return file.startswith(_STANDARD) or any(folder in Path(file).parts for folder in _INSTALLED)
