"""Numbers, text and lists of them as one array, where nothing is lost by it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smm._npy import plain_array
from smm._refusals import Refused, refusal_of

MAX_DIMENSIONS = 32
"""What every numpy can hold; numpy 2 alone has 64."""

_NPZ = "use NpzStorageInterface, which keeps it as it is"
_PYTHON = frozenset({bool, int, float, complex, str, bytes})

Shape: TypeAlias = tuple[int, ...]


def stack(data: Any, *, allow_pickle: bool = False) -> NDArray[Any]:
    """The array that means the same as `data`: an array, a number, a text, or lists of these.

    Lists and tuples are dimensions, at any depth. Every element keeps its kind and value, so they must all
    be of one type, and the lists of one length. An array comes back as `plain_array` gives it, which may
    share its memory; anything else is copied.

    Raises:
        Refused: with the place, what does not become an array without a change.
    """
    if isinstance(data, np.ndarray):
        return plain_array(data, allow_pickle=allow_pickle)
    elements = _Elements(allow_pickle)
    shape = elements.take(data, [])
    if len(shape) > MAX_DIMENSIONS:
        raise Refused(found=f"an array of {len(shape)} dimensions", way_out=_NPZ)
    return elements.stacked().reshape(shape)


class _Elements:
    """What is neither list nor tuple, in order; all of the first one's type."""

    def __init__(self, allow_pickle: bool) -> None:
        self._allow_pickle = allow_pickle
        self._values: list[Any] = []
        self._first: tuple[str, object] = ("", None)

    def take(self, value: Any, around: list[int]) -> Shape:
        """Add an element, or all that a list holds; give the shape it has by itself.

        `around` holds the ids of the lists it is in.
        """
        if type(value) not in (list, tuple):
            return self._add(value)
        if id(value) in around:
            raise Refused(
                found=f"a {type(value).__name__} that contains itself",
                way_out="save a copy without the inner reference",
            )
        if len(around) == MAX_DIMENSIONS:
            raise Refused(found=f"lists nested over {MAX_DIMENSIONS} deep", way_out=_NPZ)
        inside = [*around, id(value)]
        first: Shape | None = None
        for index, item in enumerate(value):
            try:
                shape = self.take(item, inside)
                if first is None:
                    first = shape
                if shape != first:
                    raise Refused(
                        found=f"shape {shape} beside {first}",
                        way_out=f"save np.array of equally long lists, or {_NPZ}",
                    )
            except Refused as refused:
                raise refused.at(f"[{index}]") from None
        return (len(value), *(first or ()))

    def _add(self, value: Any) -> Shape:
        if isinstance(value, np.ndarray):
            value = plain_array(value, allow_pickle=self._allow_pickle)
        said, common = self._type_of(value)
        if not self._values:
            self._first = said, common
        elif common != self._first[1]:
            raise Refused(
                found=f"{said} beside {self._first[0]}",
                way_out=f"save np.array(x, dtype=float), or with the type you mean, or {_NPZ}",
            )
        self._values.append(value)
        return value.shape if isinstance(value, np.ndarray) else ()

    def stacked(self) -> NDArray[Any]:
        """All elements in one array, along a new first dimension."""
        if not self._values:
            return np.array([])
        if any(isinstance(value, np.ndarray) for value in self._values):
            return np.stack([np.asarray(value) for value in self._values])
        whole = self._first[1] == ("i", np.dtype(np.int64))
        return np.array(self._values, dtype=_integer_type(self._values) if whole else None)

    def _type_of(self, value: Any) -> tuple[str, object]:
        """How to call an element's type, and what all elements must have in common."""
        kind = type(value)
        if kind is np.ndarray:
            return f"an array of {value.dtype}", _common(value.dtype)
        if isinstance(value, np.generic):
            _check_end(value)
            plain = plain_array(np.asarray(value), allow_pickle=self._allow_pickle)
            return f"np.{kind.__name__}", _common(plain.dtype)
        if kind is dict:
            raise Refused(found="dict", way_out=_NPZ)
        if kind is type(None):
            raise Refused(found="None", way_out=f"save np.nan, or {_NPZ}")
        if kind not in _PYTHON:
            raise refusal_of(value)
        _check_end(value)
        if kind is int and not -(2**63) <= value < 2**64:
            raise Refused(found="an int of more than 64 bits", way_out=f"save float(x), or {_NPZ}")
        return kind.__name__, _common(np.dtype(kind))


def _common(dtype: np.dtype[Any]) -> tuple[str, np.dtype[Any] | None]:
    """What elements must share: their dtype, but for byte order, and for the length of texts."""
    return dtype.kind, None if dtype.kind in "US" else dtype.newbyteorder("=")


def _check_end(value: Any) -> None:
    if isinstance(value, (str, bytes)) and value[-1:] in ("\0", b"\0"):
        raise Refused(
            found=f"a {type(value).__name__} that ends in a zero, which arrays do not keep", way_out=_NPZ
        )


def _integer_type(values: list[Any]) -> type[np.integer[Any]]:
    """The 64 bits that hold all of these ints."""
    low, high = min(values), max(values)
    if high < 2**63:
        return np.int64
    if low < 0:
        raise Refused(found=f"ints from {low} to {high}, over 64 bits", way_out=f"save floats, or {_NPZ}")
    return np.uint64
