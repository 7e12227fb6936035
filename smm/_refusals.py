"""Refusing a value: what it is, and a way out that can be typed as it stands."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
else:
    from smm import _numpy as np

_PLAIN = "save plain data: arrays, numbers, str, bytes, None, and lists, tuples and dicts of these"


_TRIED = 10_000
"""Rows, or elements, with which a way out is tried."""

_BUILTINS = {each.__name__: each for each in (bytes, dict, list, str)}

Keeps: TypeAlias = Callable[[Any], object]
"""What a storage makes of a value, or raises `Refused`."""


class Refused(ValueError):  # noqa: N818 - a verdict; who knows the metric makes an error of it
    """A value that cannot be kept. Who knows metric and storage makes an UnstorableError of it."""

    def __init__(
        self,
        *,
        place: str = "",
        found: str,
        way_out: str = "",
        ways: Sequence[str] = (),
        value: Any = None,
        otherwise: str = "",
    ) -> None:
        super().__init__(place, found, way_out)
        self.place = place
        """Inside the data: `['a'][3]`; empty for the data itself."""
        self.found = found
        """What is there: `set`, `a list that contains itself`."""
        self.ways = ways
        """What could be saved instead, best first, as it is typed: it depends on the storage what works."""
        self.value = value
        """What was found, if there are such ways."""
        self.otherwise = otherwise
        """Another way out besides those."""
        self.way_out = way_out or f"save {ways[0]}{otherwise}"
        """What to do instead: `save sorted(x)`; `x` is what was found."""

    def __str__(self) -> str:
        return f"{self.place + ': ' if self.place else ''}{self.found}; {self.way_out}"

    def at(self, place: str) -> Refused:
        """Return the same refusal, `place` before its own."""
        return self.moved(place + self.place)

    def moved(self, place: str) -> Refused:
        """Return the same refusal at another place."""
        return Refused(
            place=place,
            found=self.found,
            way_out=self.way_out,
            ways=self.ways,
            value=self.value,
            otherwise=self.otherwise,
        )

    def working_way_out(self, keeps: Keeps, npz_keeps: Keeps) -> str:
        """Return the first way out that works: each is done, and its result given to the storage.

        Args:
            keeps: of the storage that refuses.
            npz_keeps: of the storage that keeps most.
        """
        if not self.ways:
            return self.way_out
        x = _sample(self.value)
        for way in self.ways:
            if _leads_out(way, x, keeps):
                return f"save {way}{self.otherwise}"
        for way in self.ways:
            if _leads_out(way, x, npz_keeps):
                return f"use NpzStorageInterface and save {way}{self.otherwise}"
        return _PLAIN


def _sample(value: Any) -> Any:
    """Return the beginning of a long array, frame or series: converting all of it may take gigabytes."""
    is_long = isinstance(value, np.ndarray) or _library(type(value)) in ("pandas", "polars")
    return value[:_TRIED] if is_long and hasattr(value, "__len__") and len(value) > _TRIED else value


def _leads_out(way: str, x: Any, keeps: Keeps) -> bool:
    names = {"__builtins__": _BUILTINS, "np": np, "x": x, "df": x, "series": x, "index": x}
    try:
        keeps(eval(way, names))  # noqa: S307 - an expression of this module: the one that is shown
    except Exception:  # noqa: BLE001 - another version of the library, or a value of another kind
        return False
    return True


def refusal_of(value: Any) -> Refused:
    """Return the refusal, without a place, of a value that is no plain data.

    Runs no code of the value's own, but for classes of pandas, polars, xarray and numpy.
    """
    found = _type_name(type(value))
    try:
        ways = _ways_of(value)
    except Exception:  # noqa: BLE001 - another class of that name: the refusal must come all the same
        ways = ()
    if ways:
        return Refused(found=found, ways=ways, value=value)
    return Refused(found=found, way_out=_way_out(value))


def ways_of_objects(array: Any) -> tuple[str, ...]:
    """Return what to save in place of an array of Python objects, for `Refused`."""
    if array.dtype.names is not None:
        return ("x.tolist()",)
    objects = array[:_TRIED].ravel().tolist() if array.ndim else [array.item()]
    kinds = set(map(type, objects))
    if kinds == {str} and not any(text.endswith("\0") for text in objects):  # which numpy would cut off
        return "x.astype(str)", "x.tolist()"
    if kinds == {bool}:
        return "x.astype(bool)", "x.tolist()"
    if kinds == {int}:
        return "x.astype(int)", "x.tolist()"
    if kinds == {float}:
        return "x.astype(float)", "x.tolist()"
    if kinds <= {date, datetime}:
        return 'x.astype("datetime64[us]")', "x.astype(str).tolist()"
    return ("x.tolist()",)


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _library(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _ways_of(value: Any) -> tuple[str, ...]:
    """Return the ways out of a value of a library's class that can be tried; none for other values."""
    kind = type(value)
    if kind in (datetime, date):
        ways = ("np.datetime64(x)", "x.isoformat()")
        return ways if getattr(value, "tzinfo", None) is None else ways[1:]  # numpy has no zones
    if kind is timedelta:
        return "np.timedelta64(x)", "x.total_seconds()"
    if (standard := _STANDARD.get((_library(kind), kind.__name__))) is not None:
        return standard
    if kind is np.ma.MaskedArray:
        return "{'data': x.data, 'mask': np.ma.getmaskarray(x)}", "x.filled()", "x.tolist()"
    if kind is np.recarray:
        return "np.asarray(x).astype(x.dtype.descr)", "x.tolist()"
    for each in kind.__mro__:
        ways_of = _TRIED_OF.get((_library(each), each.__name__))
        if ways_of is not None:
            return ways_of(value) if callable(ways_of) else ways_of
    return ()


# By name, so that no module is imported; not of classes derived from these, whose code is not run.
_STANDARD: dict[tuple[str, str], tuple[str, ...]] = {
    ("builtins", "bytearray"): ("bytes(x)", "bytes(x).hex()"),
    ("builtins", "memoryview"): ("bytes(x)", "bytes(x).hex()"),
    ("builtins", "set"): ("list(x)",),
    ("builtins", "frozenset"): ("list(x)",),
    ("builtins", "range"): ("list(x)",),
    ("builtins", "slice"): ("(x.start, x.stop, x.step)",),
    ("builtins", "mappingproxy"): ("dict(x)",),
    ("collections", "OrderedDict"): ("dict(x)",),
    ("collections", "defaultdict"): ("dict(x)",),
    ("collections", "Counter"): ("dict(x)",),
    ("collections", "deque"): ("list(x)",),
    ("array", "array"): ("np.array(x)", "x.tolist()"),
}


def _ways_of_frame(frame: Any) -> tuple[str, ...]:
    by_column = ('df.reset_index().to_dict("list")',) if frame.columns.is_unique else ()
    return *by_column, 'df.to_dict("split")', "df.to_csv()"


def _ways_of_timestamp(timestamp: Any) -> tuple[str, ...]:
    return ("x.to_datetime64()", "x.isoformat()")[timestamp.tzinfo is not None :]


# Of classes derived from these, too.
_TRIED_OF: dict[tuple[str, str], tuple[str, ...] | Callable[[Any], tuple[str, ...]]] = {
    ("pandas", "DataFrame"): _ways_of_frame,
    ("pandas", "Series"): (
        'series.rename("value").reset_index().to_dict("list")',
        'series.to_frame().to_dict("split")',
        "series.to_csv()",
    ),
    ("pandas", "Index"): (
        "index.tolist()",
        "index.astype(str).tolist()",
        "index.to_frame(index=False).to_csv(index=False)",
    ),
    ("pandas", "ExtensionArray"): ("x.tolist()", "x.astype(str).tolist()"),
    ("pandas", "Timestamp"): _ways_of_timestamp,
    ("pandas", "Timedelta"): ("x.to_timedelta64()", "x.total_seconds()"),
    ("pandas", "NaTType"): ('np.datetime64("NaT")', "None"),
    ("pandas", "NAType"): ("None", "np.nan"),
    ("pandas", "Period"): ("str(x)",),
    ("pandas", "Interval"): ("(x.left, x.right)", "str(x)"),
    ("pathlib", "PurePath"): ("str(x)",),
    ("polars", "DataFrame"): (
        "df.to_dict(as_series=False)",
        "df.write_csv()",
        "df.write_ipc(None).getvalue()",
    ),
    ("polars", "Series"): (
        "series.to_list()",
        "series.to_frame().write_csv()",
        "series.to_frame().write_ipc(None).getvalue()",
    ),
    ("xarray", "DataArray"): ('x.to_dict(data="array")', "x.to_dict()"),
    ("xarray", "Dataset"): ('x.to_dict(data="array")', "x.to_dict()"),
    ("xarray", "Variable"): ('x.to_dict(data="array")', "x.to_dict()"),
}


def _way_out(value: Any) -> str:
    by_library = _LIBRARIES.get((_library(type(value)), type(value).__name__))
    if by_library is not None:
        return by_library
    for kinds, way_out in _ways_out():
        if isinstance(value, kinds):
            return way_out
    if hasattr(type(value), "__dataclass_fields__"):
        return "save dataclasses.asdict(x)"
    if hasattr(type(value), "__attrs_attrs__"):
        return "save attrs.asdict(x)"
    if hasattr(type(value), "__array__"):
        return "save np.asarray(x)"
    return _PLAIN


_LIBRARIES = {
    ("torch", "Tensor"): "save x.numpy(force=True)",
    ("decimal", "Decimal"): "save str(x)",
    ("fractions", "Fraction"): "save (x.numerator, x.denominator)",
    ("uuid", "UUID"): "save str(x)",
}


@functools.cache
def _ways_out() -> tuple[tuple[Any, str], ...]:
    """By type. The first that fits is told, so the special come before the general."""
    return (
        (np.ma.MaskedArray, "save x.filled(), or {'data': x.data, 'mask': np.ma.getmaskarray(x)}"),
        ((np.recarray, np.record), "save np.asarray(x).astype(x.dtype.descr)"),
        (np.ndarray, "save np.asarray(x)"),
        (enum.Enum, "save x.value"),
        (np.generic, "save x.item()"),
        (bool, "save bool(x)"),
        (int, "save int(x)"),
        (float, "save float(x)"),
        (complex, "save complex(x)"),
        (str, "save str(x)"),
        ((bytes, bytearray, memoryview), "save bytes(x)"),
        (list, "save list(x)"),
        (tuple, "save tuple(x)"),
        (Mapping, "save dict(x)"),
        ((Set, range, Iterator), "save list(x)"),
        (date, "save x.isoformat() or np.datetime64(x)"),
        (time, "save x.isoformat()"),
        (timedelta, "save np.timedelta64(x)"),
        (type, "save its name"),
        (Callable, "save what it returns"),
    )
