"""Stored values as a person wants to read them, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_ITEMS = 20
"""Entries of a list or dict, or lines of a text, that are shown one by one."""

_DEEPEST = 4
"""Levels of nesting that are shown."""

_LONGEST_INT = 1000
"""Bits of an int that is shown by its digits; Python refuses to convert very many."""


def summary(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, np.ndarray):
        return _array_summary(value)
    if isinstance(value, dict):
        return f"dict of {len(value)}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= 60 else f"{value[:60]!r}... ({len(value):,} long)"
    if isinstance(value, np.generic):
        return f"{value} ({value.dtype})"
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
        return f"int of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _array_summary(array: np.ndarray[Any, Any]) -> str:
    what = f"array of {array.dtype}, shape {'x'.join(map(str, array.shape)) or '()'}"
    if array.dtype.kind not in "iufbmM" or array.size == 0:
        return what
    if array.dtype.kind == "b":
        return f"{what}, {np.count_nonzero(array):,} of {array.size:,} true"
    missing = _missing(array)
    gaps = int(np.count_nonzero(missing))
    known = array[~missing] if gaps else array
    between = f", from {known.min()} to {known.max()}" if known.size else ""
    return f"{what}{between}{f', {gaps:,} missing' if gaps else ''}"


def _missing(array: np.ndarray[Any, Any]) -> NDArray[np.bool_]:
    if array.dtype.kind == "f":
        return np.asarray(np.isnan(array))
    if array.dtype.kind in "mM":
        return np.asarray(np.isnat(array))
    return np.zeros(array.shape, bool)


def value_lines(value: Any, indent: str = "") -> Iterator[str]:
    """A value over several lines: containers by entry, arrays with a few of their values."""
    if isinstance(value, np.ndarray):
        yield indent + summary(value)
        few = np.array2string(value, threshold=60, edgeitems=3, max_line_width=100 - len(indent))
        yield from (indent + line for line in few.splitlines())
        return
    if isinstance(value, str):
        lines = value.expandtabs().splitlines()
        yield from (indent + _printable(line) for line in lines[:_MOST_ITEMS] or [value])
        if len(lines) > _MOST_ITEMS:
            yield f"{indent}... and {len(lines) - _MOST_ITEMS:,} more lines"
        return
    yield indent + summary(value)
    if isinstance(value, dict | list | tuple):
        yield from _entries(value, indent + "  ")


def _printable(line: str) -> str:
    """A line as it is, unless it would change what the terminal does, or nothing would be seen of it."""
    return line if line and line.isprintable() else repr(line)


def _entries(value: Any, indent: str) -> Iterator[str]:
    named = isinstance(value, dict)
    pairs = list(value.items())[:_MOST_ITEMS] if named else list(enumerate(value[:_MOST_ITEMS]))
    for key, entry in pairs:
        label = f"{indent}{f'{key!r}' if named else f'[{key}]'}: "
        if isinstance(entry, dict | list | tuple) and entry and len(indent) < 2 * _DEEPEST:
            yield label + summary(entry)
            yield from _entries(entry, indent + "  ")
        else:
            yield label + summary(entry)
    if len(value) > _MOST_ITEMS:
        yield f"{indent}... and {len(value) - _MOST_ITEMS:,} more"


def value_json(value: Any) -> Any:
    """A value as plain JSON: `{"type": ...}` for what JSON has no word for, "nan" and "inf" as text.

    Raises:
        RecursionError: the value is nested too deeply for JSON.
    """
    match value:
        case int() if value.bit_length() > _LONGEST_INT:
            return {"type": "int", "value": hex(value)}
        case None | bool() | int() | str():
            return value
        case np.ndarray():
            return {
                "type": "array",
                "dtype": np.lib.format.dtype_to_descr(value.dtype),
                "shape": list(value.shape),
                "values": value_json(_plain(value)),
            }
        case np.generic():
            return {"type": str(value.dtype), "value": value_json(_plain(value))}
        case float():
            return value if math.isfinite(value) else str(value)
        case list():
            return [value_json(entry) for entry in value]
        case tuple():
            return {"type": "tuple", "value": [value_json(entry) for entry in value]}
        case dict() if "type" not in value and all(type(key) is str for key in value):
            return {key: value_json(entry) for key, entry in value.items()}
        case dict():
            return {
                "type": "dict",
                "items": [[value_json(key), value_json(entry)] for key, entry in value.items()],
            }
        case bytes():
            return {"type": "bytes", "value": value.hex()}
        case complex():
            return {"type": "complex", "value": [value_json(value.real), value_json(value.imag)]}
        case _:
            return {"type": type(value).__name__, "value": str(value)}


def _plain(value: Any) -> Any:
    """An array or scalar of numpy's as nested lists of Python's own; dates and the like as text."""
    if value.dtype.kind in "mM" or value.dtype.char in "gG":
        value = np.asarray(value).astype(str)
    return value.tolist()
