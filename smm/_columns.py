"""Values of many rows side by side in one array, each of them still what it was.

A dtype is taken only if it holds all of them: where two integers would become one float, or 1 and True one
number, they stay Python objects. Missing values are NaN or NaT where the dtype has it.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from smm._encoding import encode, short

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]


class Missing(enum.Enum):
    """No value; None is a value."""

    MISSING = enum.auto()


MISSING: Final = Missing.MISSING

_PYTHON_TIMES = {dt.datetime: "M8[us]", dt.timedelta: "m8[us]"}
_UNITS = {"ms": "ms", "us": "us", "ns": "ns", "ps": "ns", "fs": "ns", "as": "ns"}
"""The unit that numpy's times get, which is one that pandas has; all others get seconds."""


# --- one value -------------------------------------------------------------------------------------------


def as_array(value: Any) -> Array:
    """A value as an array: without dimensions unless it is one, of objects if numpy has no dtype for it."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "mM":
        return _in_usual_unit(np.asarray(value))
    if isinstance(value, np.ndarray):
        return value.astype(value.dtype.newbyteorder("="), copy=False)
    if type(value) in (bool, int, float, complex) or isinstance(value, np.number | np.bool_):
        return np.asarray(value)
    if type(value) in _PYTHON_TIMES and getattr(value, "tzinfo", None) is None:
        time = np.array(value, _PYTHON_TIMES[type(value)])
        if time.item() == value:  # numpy does not say that a timedelta is too long for it
            return time
    return _boxed(value)


def _boxed(value: Any) -> Array:
    box = np.empty((), object)
    if isinstance(value, np.str_):
        value = str.__str__(value)  # str() would drop NULs at the end
    box[()] = bytes.__bytes__(value) if isinstance(value, np.bytes_) else value
    return box


def _in_usual_unit(times: Array) -> Array:
    """The same times in s, ms, us or ns; as objects if that cannot be."""
    unit, _ = np.datetime_data(times.dtype)
    kind = times.dtype.kind
    if not np.isnat(times).all() and (unit == "generic" or (kind == "m" and unit in ("Y", "M"))):
        return as_objects(times)
    dtype = np.dtype(f"{kind}8[{_UNITS.get(unit, 's')}]")
    return times.astype(dtype) if fits(times, dtype) else as_objects(times)


def as_objects(array: Array) -> Array:
    """The same as Python objects; times stay numpy's, since nanoseconds would become ints."""
    if array.dtype.kind not in "mM":
        return array.astype(object)
    box = np.empty(array.shape, object)
    for place in np.ndindex(array.shape):
        box[place] = array[place]
    return box


def text(value: Any) -> str:
    """A value as one line of UTF-8 text; a str as it is, but for lone surrogates."""
    try:
        line = value if isinstance(value, str) else " ".join(str(value).split())
    except ValueError:  # an int with more digits than Python writes
        line = short(value)
    return line.encode("utf-8", "backslashreplace").decode()


# --- the dtype of many -----------------------------------------------------------------------------------


def fits(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether the array comes back from that dtype."""
    if array.dtype == dtype:
        return True
    with np.errstate(all="ignore"):
        there = array.astype(dtype)
        back = (there.real if dtype.kind == "c" != array.dtype.kind else there).astype(array.dtype)
    return np.array_equal(array, back, equal_nan=array.dtype.kind in "fcmM")


def common_dtype(arrays: Sequence[Array]) -> np.dtype[Any]:
    """The dtype that holds all of them as they are, object if there is no other; of none, float64."""
    dtypes = {array.dtype for array in arrays} or {np.dtype(float)}
    if len(dtypes) == 1:
        return dtypes.pop()
    kinds = {dtype.kind for dtype in dtypes}
    if kinds <= set("iufc") or (len(kinds) == 1 and kinds <= set("mMSU")):
        dtype = np.result_type(*dtypes)
        # What signed and unsigned integers have in common is float64, which is neither.
        if dtype.kind in kinds and all(fits(array, dtype) for array in arrays):
            return dtype
    return np.dtype(object)


def gap(dtype: np.dtype[Any]) -> Any:
    """Return what stands for a missing value in an array of this dtype: NaN or NaT, else None."""
    if dtype.kind in "mM":
        # In the array's own unit: numpy 2.5 warns of a NaT that is made without one.
        return np.datetime64("NaT", "s").view(dtype.newbyteorder("="))
    return {"f": math.nan, "c": complex(math.nan, math.nan)}.get(dtype.kind)


def dtype_with_gaps(arrays: Sequence[Array]) -> np.dtype[Any]:
    """The dtype that holds them, and what is missing: float64 for bools and integers."""
    dtype = common_dtype(arrays)
    if dtype.kind in "biu":
        dtype = np.dtype(float)
    held = gap(dtype) is not None and all(fits(array, dtype) for array in arrays)
    return dtype if held else np.dtype(object)


# --- columns ---------------------------------------------------------------------------------------------


def values_column(values: Sequence[Any]) -> tuple[Array, Mask]:
    """Values side by side, and where they are MISSING: there the array has the dtype's gap, or zero.

    What is no scalar, such as an array, is an object.
    """
    holes = np.array([value is MISSING for value in values], bool)
    present = [value for value in values if value is not MISSING]
    arrays = [_boxed(value) if isinstance(value, np.ndarray) else as_array(value) for value in present]
    dtype = common_dtype(arrays)
    if dtype.kind == "O":
        arrays = list(map(_boxed, present))  # Python's own numbers among them stay such
    column = np.full(len(values), 0 if dtype.kind in "biu" else gap(dtype), dtype)
    for index, array in zip(np.flatnonzero(~holes), arrays, strict=True):
        column[index] = array[()]
    return column, holes


def params_column(params: Sequence[Any]) -> Array:
    """Params side by side; as objects if a dtype would make two of them equal, such as 1 and 1.0."""
    column, _ = values_column(params)
    forms = {(type(value), getattr(value, "dtype", None)) for value in params}
    if column.dtype.kind == "O" or len(forms) <= 1:
        return column
    if len(np.unique(column)) == len({encode(value) for value in params}):
        return column
    objects = np.empty(len(params), object)
    for index, value in enumerate(params):
        objects[index] = value
    return objects
