"""Refusing a value: what it is, and a way out that can be typed as it stands."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
else:
    from smm import _numpy as np

_PLAIN = "save plain data: arrays, numbers, str, bytes, None, and lists, tuples and dicts of these"


class Refused(ValueError):  # noqa: N818 - a verdict; who knows the metric makes an error of it
    """A value that cannot be kept. Who knows metric and storage makes an UnstorableError of it."""

    def __init__(self, *, place: str = "", found: str, way_out: str) -> None:
        super().__init__(place, found, way_out)
        self.place = place
        """Inside the data: `['a'][3]`; empty for the data itself."""
        self.found = found
        """What is there: `set`, `a list that contains itself`."""
        self.way_out = way_out
        """What to do instead: `save sorted(x)`; `x` is what was found."""

    def __str__(self) -> str:
        return f"{self.place + ': ' if self.place else ''}{self.found}; {self.way_out}"

    def at(self, place: str) -> Refused:
        """The same refusal, `place` before its own."""
        return Refused(place=place + self.place, found=self.found, way_out=self.way_out)


def refusal_of(value: Any) -> Refused:
    """The refusal, without a place, of a value that is no plain data. Runs none of the value's own code."""
    return Refused(found=_type_name(type(value)), way_out=_way_out(value))


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _way_out(value: Any) -> str:
    library = type(value).__module__.partition(".")[0]
    by_library = _LIBRARIES.get((library, type(value).__name__))
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


# By name, so that none of these libraries is imported.
_LIBRARIES = {
    ("pandas", "DataFrame"): 'save df.to_dict("list")',
    ("pandas", "Series"): "save series.to_numpy()",
    ("pandas", "Index"): "save index.to_numpy()",
    ("pandas", "Timestamp"): "save x.to_datetime64()",
    ("pandas", "Timedelta"): "save x.to_timedelta64()",
    ("pandas", "NAType"): "save None",
    ("polars", "DataFrame"): "save df.to_dict(as_series=False)",
    ("polars", "Series"): "save series.to_numpy()",
    ("xarray", "DataArray"): "save x.to_dict()",
    ("xarray", "Dataset"): "save x.to_dict()",
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
