"""The ways out that refusals name: each is done, and what it gives is kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import re
import uuid
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

import smm
from smm.errors import UnstorableError

Point = namedtuple("Point", "a b")


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Fit:
    slope: float
    names: list[str]


@attrs.define
class Peak:
    height: float


DAYS = pd.date_range("2026-01-01", periods=3)
VALUES: dict[str, Any] = {
    "a frame of numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan]}),
    "a frame with an index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")),
    "a frame of dates": pd.DataFrame({"a": [1, 2, 3]}, index=DAYS),
    "a frame with dates in a column": pd.DataFrame({"when": DAYS, "b": ["x", "y", "z"]}),
    "a frame of anything": pd.DataFrame({"a": [{1}, object(), None]}),
    "a frame with two indexes": pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", "n"])
    ),
    "a series of numbers": pd.Series([1.5, 2.5]),
    "a series of texts": pd.Series(["x", "y"]),
    "a series of dates": pd.Series(DAYS),
    "a series over dates": pd.Series([1, 2, 3], index=DAYS),
    "an index of texts": pd.Index(["x", "y"]),
    "an index of dates": DAYS,
    "an index of numbers": pd.RangeIndex(3),
    "a timestamp": pd.Timestamp("2026-01-01"),
    "a time delta of pandas": pd.Timedelta("1 day"),
    "a polars frame": pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "a polars frame of dates": pl.DataFrame({"when": [dt.date(2026, 1, 1)], "b": [[1, 2]]}),
    "a polars series": pl.Series("s", [1.0, None]),
    "a polars series of texts": pl.Series("s", ["x"]),
    "a polars series of dates": pl.Series("s", [dt.datetime(2026, 1, 1)]),
    "a data array": xr.DataArray(np.zeros((2, 2)), dims=["x", "y"], attrs={"unit": "m"}),
    "a data array over times": xr.DataArray([1.0, 2.0, 3.0], dims=["t"], coords={"t": DAYS}),
    "a dataset over times": xr.Dataset(
        {"a": ("t", [1, 2, 3])}, coords={"t": DAYS, "s": ("t", ["x", "y", "z"])}
    ),
    "a set": {1, 2},
    "a range": range(3),
    "a generator": (x for x in [1, 2]),
    "a date": dt.date(2026, 1, 1),
    "a datetime": dt.datetime(2026, 1, 1, 12),
    "a datetime with a zone": dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC),
    "a time": dt.time(12),
    "a time delta": dt.timedelta(1),
    "a decimal": decimal.Decimal("1.5"),
    "a fraction": fractions.Fraction(1, 3),
    "a uuid": uuid.UUID(int=3),
    "an enum": Colour.RED,
    "a dataclass": Fit(1.0, ["a"]),
    "an attrs class": Peak(2.0),
    "a named tuple": Point(1, 2),
    "an ordered dict": OrderedDict(a=1),
    "a masked array": np.ma.MaskedArray([1.0, 2.0], [True, False]),
    "a record array": np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
    "bytes that can change": bytearray(b"ab"),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_every_way_out_works(tmp_path: Path, value: Any) -> None:
    storage = smm.NpzStorageInterface(tmp_path)
    with pytest.raises(UnstorableError) as caught:
        storage.save("x", value)
    ways = re.findall(
        r"(?:save |or )((?:[\w.]+\(.*?\)+)|[\w.]+|\{.*?\}|\(.*?\))(?=,? or |$|;)", caught.value.way_out
    )
    assert ways, caught.value.way_out
    names = {
        "x": value,
        "df": value,
        "series": value,
        "index": value,
        "np": np,
        "dataclasses": dataclasses,
        "attrs": attrs,
    }
    for way in ways:
        if way == "np.datetime64(x)" and getattr(value, "tzinfo", None):
            continue  # numpy has no zones
        storage.save("x", eval(way, names))
