"""The functions that are cached while smm and its peers are measured: next to nothing to compute.

This module imports nothing that takes long, since worker processes import it, smm's and others'.
"""

from __future__ import annotations

import time


def scaled(i: int) -> float:
    """A float."""
    return i * 0.5


def product(a: int, b: int) -> float:
    """Of two params."""
    return a * 0.5 + b


def one() -> float:
    """Without params."""
    return 1.5


def slow(i: int) -> float:
    """Ten milliseconds in which the processor is free, as when waiting for a server."""
    time.sleep(0.01)
    return i * 0.5
