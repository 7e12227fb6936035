"""Values written out, so that the text is the same wherever and whenever they are equal."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from importlib import import_module
from types import EllipsisType, NoneType
from typing import Any

from smm._blake import blake2b

_DEEPEST = 20

_AS_WRITTEN = (
    *(NoneType, EllipsisType, bool, float, complex, str, bytes, range),
    *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
)
# By module, which is loaded where there is such a value.
_AS_WRITTEN_TOO = {"decimal": ("Decimal",), "fractions": ("Fraction",), "uuid": ("UUID",)}
_PATHS = {"pathlib": ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")}


def plain(value: Any, *, changeable: bool = False, depth: int = 0) -> str | None:
    """A constant, or a tuple or frozenset of such, as text; None for anything else.

    Args:
        value: any object. None of its code is run unless its type is Python's own or numpy's.
        changeable: write out lists, dicts, sets and arrays too, as they are now, and paths, which are not
            the same on another machine.
        depth: how many containers it lies in.
    """
    kind = type(value)
    if kind is int:
        return f"{value:#x}"  # Python refuses to write very long ones in decimal
    if kind in _AS_WRITTEN or _is_one(kind, _AS_WRITTEN_TOO) or (changeable and _is_one(kind, _PATHS)):
        return ascii(value)
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}({plain(value.value)})"
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        return _array(value) if changeable or value.shape == () else None
    if kind is tuple or kind is frozenset or (changeable and kind in (list, set, dict)):
        return None if depth == _DEEPEST else _container(value, changeable, depth + 1)
    return None


def _is_one(kind: type, known: Mapping[str, tuple[str, ...]]) -> bool:
    module = str(kind.__module__).partition(".")[0]
    return module in known and kind in [getattr(import_module(module), name) for name in known[module]]


def _container(value: Any, changeable: bool, depth: int) -> str | None:
    items = [item for pair in value.items() for item in pair] if isinstance(value, dict) else value
    written = [plain(item, changeable=changeable, depth=depth) for item in items]
    known = [text for text in written if text is not None]
    if len(known) < len(written):
        return None
    if isinstance(value, set | frozenset):
        known.sort()
    return f"{type(value).__name__}({', '.join(known)})"


def _array(value: Any) -> str | None:
    if value.dtype.hasobject:
        return None
    digest = blake2b(value.tobytes(), digest_size=16).hexdigest()
    return f"{type(value).__name__}({value.dtype.str}, {value.shape}, {digest})"
