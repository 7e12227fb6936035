"""The ways out that refusals name: each is done, and what it gives is kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import uuid
from array import array
from collections import Counter, OrderedDict, deque, namedtuple
from pathlib import Path
from types import GeneratorType, MappingProxyType
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
    "a frame with numbers as columns": pd.DataFrame({0: [1, 2], 1: [3, 4]}),
    "a frame with dates as columns": pd.DataFrame([[1, 2, 3]], columns=DAYS),
    "a frame with columns of one name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "a frame with two rows of columns": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    ),
    "a frame with an index called as a column": pd.DataFrame({"a": [1]}, index=pd.Index([5], name="a")),
    "a frame with missing whole numbers": pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
    "a frame of categories": pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "a frame of months": pd.DataFrame({"a": pd.period_range("2020-01", periods=2, freq="M")}),
    "a frame of complex numbers": pd.DataFrame({"a": [1j]}),
    "a frame with texts missing": pd.DataFrame({"a": ["x", None]}),
    "a frame of nothing": pd.DataFrame(),
    "a series with an index called value": pd.Series([1.0], index=pd.Index(["x"], name="value")),
    "a series of bytes": pd.Series([b"a"]),
    "a series with two indexes": pd.Series([1, 2], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "an index of two": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
    "an index of categories": pd.CategoricalIndex(["a", "b"]),
    "an index of months": pd.period_range("2020-01", periods=2, freq="M"),
    "an index of intervals": pd.interval_range(0, 3),
    "an index of times with a zone": DAYS.tz_localize("UTC"),
    "categories": pd.Categorical(["a", "b"]),
    "a timestamp with a zone": pd.Timestamp("2026-01-01", tz="UTC"),
    "no time of pandas": pd.NaT,
    "a missing value of pandas": pd.NA,
    "a month": pd.Period("2020-01"),
    "an interval": pd.Interval(0, 1),
    "a polars frame of categories": pl.DataFrame({"a": pl.Series(["x"], dtype=pl.Categorical)}),
    "a polars frame of bytes": pl.DataFrame({"a": [b"x"]}),
    "a polars frame of frames": pl.DataFrame({"a": [{"x": dt.date(2026, 1, 1)}]}),
    "a polars series of decimals": pl.Series("d", ["1.5"]).cast(pl.Decimal(10, 2)),
    "a polars series of durations": pl.Series("d", [dt.timedelta(1)]),
    "a variable of xarray": xr.Variable("x", [1, 2]),
    "an array of texts as objects": np.array(["1", "b"], dtype=object),
    "an array of numbers as objects": np.array([1.5, 2.5], dtype=object),
    "an array of long numbers": np.array([2**70, 1], dtype=object),
    "an array of this and that": np.array(["a", 1, None], dtype=object),
    "an array of lists": np.array([[1], [1, 2]], dtype=object),
    "an array of dates": np.array([dt.date(2026, 1, 1)], dtype=object),
    "an array of texts that end in zeros": np.array(["a\0"], dtype=object),
    "records with objects": np.array([("a", 1)], dtype=[("a", object), ("b", int)]),
    "masked numbers of two dimensions": np.ma.MaskedArray([[1, 2]], [[True, False]]),
    "a counter": Counter("aa"),
    "a queue": deque([1, 2]),
    "a view on a dict": MappingProxyType({"a": 1}),
    "a view on bytes": memoryview(b"ab"),
    "an array of Python's": array("d", [1.0]),
    "a slice": slice(1, 2, 3),
    "a path": Path("a"),
    "a very long time": dt.timedelta(days=999_999_999),
}
if hasattr(np.dtypes, "StringDType"):  # comes with numpy 2
    VALUES["an array of texts of any length"] = np.array(["a", "bc"], dtype=np.dtypes.StringDType())


STORAGES: dict[str, type[smm.FileBasedStorageInterface]] = {
    "Npz": smm.NpzStorageInterface,
    "Json": smm.JsonStorageInterface,
    "Npy": smm.NpyStorageInterface,
}


def storage_of(kind: str, folder: Path) -> smm.StorageInterface:
    made: Any = STORAGES[kind]
    storage: smm.StorageInterface = made(folder / kind)
    return storage


@pytest.mark.parametrize("kind", ["Npz", "Json", "Npy"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_every_way_out_works(tmp_path: Path, kind: str, value: Any) -> None:
    storage = storage_of(kind, tmp_path)
    value = iter([1, 2]) if isinstance(value, GeneratorType) else value
    try:
        storage.save("x", value)
    except UnstorableError as error:
        way_out = error.way_out
    else:
        assert kind == "Json", "what JSON reads back is a list"
        return
    way = way_out.removesuffix(", or give the storage allow_pickle=True")
    if way.startswith("use NpzStorageInterface and "):
        storage, way = storage_of("Npz", tmp_path), way.removeprefix("use NpzStorageInterface and ")
    elif ", or use " in way:  # what JSON and npy do not keep of numpy
        way = way.partition(", or use ")[0]
    assert way.startswith("save "), way_out
    names = dict.fromkeys(("x", "df", "series", "index"), value)
    modules = {"np": np, "dataclasses": dataclasses, "attrs": attrs}
    made = eval(way.removeprefix("save "), names | modules)
    if kind == "Npy" and isinstance(made, dict) and "asdict" in way:
        storage = storage_of("Npz", tmp_path)  # npy says so then
    storage.save("x", made)


def test_no_way_out_loses_the_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    with pytest.raises(UnstorableError) as caught:
        smm.NpzStorageInterface(tmp_path).save("x", frame)
    assert eval(caught.value.way_out.removeprefix("save "), {"df": frame}) == {"key": ["x", "y"], "a": [1, 2]}


@pytest.mark.parametrize("name", ["DataFrame", "Series", "Index"])
def test_a_class_that_is_only_called_as_one_of_pandas(tmp_path: Path, name: str) -> None:
    kind = type(name, (), {"__module__": "pandas.core.frame", "__qualname__": name})
    with pytest.raises(UnstorableError) as caught:
        smm.NpzStorageInterface(tmp_path).save("x", kind())
    assert caught.value.found == f"pandas.core.frame.{name}"
    assert caught.value.way_out.startswith("save plain data")


class Loud(OrderedDict[str, int]):
    def __iter__(self) -> Any:
        raise AssertionError("no code of the user's is run for a refusal")


@pytest.mark.parametrize("value", [Loud(a=1), np.array([Loud(a=1)], dtype=object)])
def test_a_users_class_is_only_named(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UnstorableError) as caught:
        smm.NpzStorageInterface(tmp_path).save("x", value)
    assert caught.value.way_out


def test_an_array_that_contains_itself_has_an_end(tmp_path: Path) -> None:
    array = np.empty(2, dtype=object)
    array[0] = array
    for kind in ("Npz", "Json", "Npy"):
        with pytest.raises(UnstorableError, match="an array of Python objects; save plain data"):
            storage_of(kind, tmp_path).save("x", array)


def test_of_a_long_frame_the_beginning_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    usual = pd.DataFrame.to_dict

    def to_dict(frame: pd.DataFrame, *more: Any) -> Any:
        lengths.append(len(frame))
        return usual(frame, *more)

    monkeypatch.setattr(pd.DataFrame, "to_dict", to_dict)
    with pytest.raises(UnstorableError, match="reset_index"):
        smm.MemoryStorageInterface().save("x", pd.DataFrame({"a": np.zeros(100_000)}))
    assert lengths == [10_000]
