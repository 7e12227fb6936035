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
    """Return the refusal, without a place, of a value that is no plain data.

    Runs no code of the value's own, but for frames and series, which are asked what they hold.
    """
    return Refused(found=_type_name(type(value)), way_out=_way_out(value))


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _way_out(value: Any) -> str:
    library = type(value).__module__.partition(".")[0]
    by_library = _LIBRARIES.get((library, type(value).__name__))
    if isinstance(by_library, str):
        return by_library
    if by_library is not None:
        try:
            return by_library(value)
        except Exception:  # noqa: BLE001 - another class of that name: the refusal must come all the same
            return _PLAIN
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


def _way_of_pandas_frame(frame: Any) -> str:
    is_plain = all(map(_is_plain_column, [column for _, column in frame.reset_index().items()]))
    return 'save df.reset_index().to_dict("list")' if is_plain else "save df.to_csv()"


def _way_of_pandas_series(series: Any) -> str:
    if not _is_plain_column(series) or not all(map(_is_plain_column, _levels(series.index))):
        return "save series.to_csv()"
    return 'save series.rename("value").reset_index().to_dict("list")'


def _way_of_pandas_index(index: Any) -> str:
    return "save index.tolist()" if _is_plain_column(index) else "save index.astype(str).tolist()"


def _levels(index: Any) -> list[Any]:
    return [index.get_level_values(level) for level in range(index.nlevels)]


def _is_plain_column(column: Any) -> bool:
    """Return whether a column of pandas is nothing but numbers and text as a list."""
    return {type(each) for each in column.tolist()} <= {bool, int, float, complex, str, type(None)}


def _way_of_polars_frame(frame: Any) -> str:
    is_plain = all(_is_plain_polars(column) for column in frame.get_columns())
    return "save df.to_dict(as_series=False)" if is_plain else "save df.write_json()"


def _way_of_polars_series(series: Any) -> str:
    return "save series.to_list()" if _is_plain_polars(series) else "save series.to_frame().write_json()"


def _is_plain_polars(series: Any) -> bool:
    dtype = series.dtype
    return bool(dtype.is_numeric() and not dtype.is_decimal()) or str(dtype) in ("String", "Boolean", "Null")


# By name, so that none of these libraries is imported. What suits a value depends on what it holds.
_LIBRARIES: dict[tuple[str, str], str | Callable[[Any], str]] = {
    ("pandas", "DataFrame"): _way_of_pandas_frame,
    ("pandas", "Series"): _way_of_pandas_series,
    ("pandas", "Index"): _way_of_pandas_index,
    ("pandas", "RangeIndex"): _way_of_pandas_index,
    ("pandas", "MultiIndex"): _way_of_pandas_index,
    ("pandas", "DatetimeIndex"): _way_of_pandas_index,
    ("pandas", "Timestamp"): "save x.to_datetime64()",
    ("pandas", "Timedelta"): "save x.to_timedelta64()",
    ("pandas", "NAType"): "save None",
    ("polars", "DataFrame"): _way_of_polars_frame,
    ("polars", "Series"): _way_of_polars_series,
    ("xarray", "DataArray"): 'save x.to_dict(data="array")',
    ("xarray", "Dataset"): 'save x.to_dict(data="array")',
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
