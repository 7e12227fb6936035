"""Stands for numpy, which is loaded when something of it is first asked for.

For the modules that a stored number or text passes through: serving one needs no numpy, and importing that
takes longer than starting Python. They read `np` from here, behind `TYPE_CHECKING`; what has an array in hand
imports numpy itself.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    import numpy as np

    value = globals()[name] = getattr(np, name)  # asked for once
    return value
