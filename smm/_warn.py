"""Warnings that point at the user's line."""

from __future__ import annotations

import os
import sys
import warnings

from smm.errors import SmmWarning

_OWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def warn_user(message: str, command: str | None = None) -> None:
    """Warn with an SmmWarning of the line of the user's code that led here.

    Args:
        message: the sentence.
        command: the same for a person at the command line, see SmmWarning.
    """
    level = 2
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OWN) and frame.f_back is not None:
        frame = frame.f_back
        level += 1
    warnings.warn(SmmWarning(message, command), stacklevel=level)
