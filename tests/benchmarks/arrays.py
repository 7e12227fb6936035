"""The functions of `work` that give arrays."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

FLOATS_8KB = 1_024
FLOATS_8MB = 1_048_576
FLOATS_256MB = 32 * FLOATS_8MB


def array_8kb(i: int) -> NDArray[np.float64]:
    """Some numbers."""
    return filled(FLOATS_8KB, i)


def array_8mb(i: int) -> NDArray[np.float64]:
    """A million numbers; made once and kept, so that storing is what takes time."""
    return filled(FLOATS_8MB, i)


_fresh: dict[int, NDArray[np.float64]] = {}


def make_ready(i: int) -> None:
    """Have an array for the next `fresh_8mb(i)`, so that making it is not part of what is measured."""
    _fresh[i] = array_8mb(i).copy()


def fresh_8mb(i: int) -> NDArray[np.float64]:
    """A million numbers that nobody else holds, as most functions give them."""
    return _fresh.pop(i)


def array_256mb(i: int) -> NDArray[np.float64]:
    """More than fits into a processor's cache."""
    return np.arange(i, i + FLOATS_256MB, dtype=np.float64)


@functools.lru_cache(maxsize=256)
def filled(size: int, i: int) -> NDArray[np.float64]:
    """Random numbers, the same for the same `i`."""
    return np.random.default_rng(i).normal(size=size)
