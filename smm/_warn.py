"""Warnings that point at the user's line."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

from smm.errors import SmmWarning

_OWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_STANDARD = os.path.join(os.path.dirname(os.path.abspath(os.__file__)), "")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def warn_user(message: str, command: str | None = None) -> None:
    """Warn with an SmmWarning of the line of the user's code that led here.

    Frames of the standard library between smm's own, as of a context manager, are passed over. In a thread
    that smm started there is no line of the user's; then the warning points at the thread's outermost one.

    Args:
        message: the sentence.
        command: the same for a person at the command line, see SmmWarning.
    """
    frame = _user_frame(sys._getframe(1))
    # By frame, since `stacklevel` leaves some frames of Python's imports out of its count.
    warnings.warn_explicit(
        SmmWarning(message, command),
        SmmWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _user_frame(frame: FrameType) -> FrameType:
    """Return the innermost frame of neither smm nor the standard library, else the outermost one."""
    while _is_between(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _is_between(file: str) -> bool:
    if file.startswith(("<frozen ", _OWN)):
        return True
    return file.startswith(_STANDARD) and not any(folder in file for folder in _INSTALLED)
