"""`to_dict`, `to_frame` and `to_xarray`: each stored value at its params, and nothing else."""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from smm import MemoryStorageInterface, NpzStorageInterface, ParameterizedDatedCacheManager
from smm._columns import MISSING, text
from smm._encoding import Unsupported, canonical, encode
from smm._tables import Cell, Table, array_maker, frame_maker
from smm.errors import CorruptMetricError, MissingExtraError, NotTabularError
from tests import params as any_params
from tests.params import Colour
from tests.strategies import times_without_unit


@pytest.fixture
def cm(tmp_path: Path) -> ParameterizedDatedCacheManager:
    return ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path / "results"), verbose=False)


def collected(params_list: Any, function: Any, **options: Any) -> Any:
    """A collected metric of a function, in a manager of its own."""
    manager = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    manager.collect("f", params_list, **options)(function)
    return manager.f


def table(params: Sequence[Any], values: Sequence[Any]) -> Table:
    cells = [
        Cell(name=f"f_{index}", params={"a": param}, value=value)
        for index, (param, value) in enumerate(zip(params, values, strict=True))
    ]
    return Table(base_name="f", arguments=["a"], cells=cells)


# --- what a table gives back -----------------------------------------------------------------------------


def same(back: Any, value: Any) -> bool:
    """Whether a table holds a value: numbers and times by what they say, all else with its type."""
    back, value = plain(back), plain(value)
    if is_time(back) and isinstance(value, dt.date | dt.timedelta):
        value = np.array(value, back.dtype)[()]
    if is_time(value):
        if isinstance(back, str):
            return back == text(value)
        return is_time(back) and bool(back == value or (np.isnat(back) and np.isnat(value)))
    if type(value) in (int, float, complex) and type(back) in (int, float, complex):
        return same_number(back, value)
    try:
        return encode(canonical(back)) == encode(canonical(value))
    except Unsupported:
        return bool(back == value)


def shows(back: str, value: Any) -> bool:
    """Whether a text is that of a value, in the column's dtype."""
    if is_time(value):
        return back == text(value) or np.datetime64(back) == value
    number = type(plain(value)) in (int, float, complex)
    return back == text(value) or (number and same_number(complex(back), plain(value)))


def plain(value: Any) -> Any:
    """numpy's numbers as Python's."""
    return value.item() if isinstance(value, np.number | np.bool_) and not is_time(value) else value


def same_number(back: complex, value: complex) -> bool:
    if value != value:
        return back != back
    if isinstance(back, float) and isinstance(value, float) and value == 0:
        return back == 0 and math.copysign(1, back) == math.copysign(1, value)
    return back == value


def is_missing(back: Any) -> bool:
    return (
        back is None
        or back is pd.NA
        or back is pd.NaT
        or bool(np.isnat(back) if is_time(back) else back != back)
    )


def is_time(value: Any) -> bool:
    return isinstance(value, np.datetime64 | np.timedelta64)


def scalars() -> st.SearchStrategy[Any]:
    """Values that go into one cell."""
    odd = [
        2**53 + 1,
        2**63,
        10**30,
        True,
        1,
        1.0,
        0.5,
        "1",
        "a\0",
        "\ud83d",
        b"",
        2j,
        Decimal(1),
        np.float16(7),
    ]
    days = [dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, 12), dt.timedelta(1), dt.timedelta.max]
    times = [
        np.datetime64("2026-01-31"),
        np.datetime64("9999", "Y"),
        np.timedelta64(3, "Y"),
    ]
    return st.one_of(
        st.integers(),
        st.floats(),
        st.text(max_size=3),
        st.sampled_from([*odd, *days, *times]),
        times_without_unit(),
        any_params.numpy_scalars(),
    )


def of_one_kind() -> st.SearchStrategy[Any]:
    kinds = [
        st.integers(),
        st.floats(),
        st.booleans(),
        st.text(max_size=3),
        st.datetimes(),
        st.complex_numbers(),
    ]
    return st.sampled_from(kinds).flatmap(lambda kind: st.lists(kind, min_size=1, max_size=5))


def columns(scalar: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.one_of(of_one_kind(), st.lists(scalar, max_size=5))


def with_holes(values: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[list[Any]]:
    def dug(each: list[Any]) -> st.SearchStrategy[list[Any]]:
        # What is sampled from is hashed, and a time without a unit cannot be.
        keeps = st.tuples(*(st.sampled_from(["kept", "kept", None, MISSING]) for _ in each))
        return keeps.map(lambda kept: [v if k == "kept" else k for k, v in zip(kept, each, strict=True)])

    return values.flatmap(dug)


@given(with_holes(columns(scalars())))
def test_a_frame_has_each_value_in_its_line(values: list[Any]) -> None:
    frame: Any = frame_maker("pandas")(table(range(len(values)), values))
    assert list(frame.columns) == ["a", "f"]
    assert list(frame["a"]) == list(range(len(values)))
    column = (
        frame["f"].array
        if isinstance(frame["f"].dtype, pd.api.extensions.ExtensionDtype)
        else frame["f"].to_numpy()
    )
    for back, value in zip(column, values, strict=True):
        assert is_missing(back) if value is None or value is MISSING else same(back, value), (back, value)


@given(columns(any_params.params()))
def test_a_frame_has_each_param_in_its_line(params: list[Any]) -> None:
    params = [canonical(param) for param in params]
    frame: Any = frame_maker("pandas")(table(params, [MISSING] * len(params)))
    assert all(frame["f"].isna())
    for back, param in zip(frame["a"].to_numpy(), params, strict=True):
        assert same(back, param), (back, param)


@given(columns(any_params.params()))
def test_params_that_differ_do_so_in_a_frame(params: list[Any]) -> None:
    params = [canonical(param) for param in params]
    frame: Any = frame_maker("pandas")(table(params, [MISSING] * len(params)))
    distinct = len({encode(param) for param in params})
    assert len({encode(canonical(back)) for back in frame["a"].to_numpy()}) == distinct


@given(with_holes(columns(scalars())))
def test_a_frame_of_polars_has_each_value_in_its_line(values: list[Any]) -> None:
    frame: Any = frame_maker("polars")(table(range(len(values)), values))
    assert frame["a"].to_list() == list(range(len(values)))
    backs = frame["f"].to_numpy() if frame["f"].dtype.is_temporal() else frame["f"].to_list()
    nulls = frame["f"].is_null().to_list()
    for back, null, value in zip(backs, nulls, values, strict=True):
        if value is None or value is MISSING or (is_time(value) and np.isnat(value) and null):
            assert null
        elif isinstance(back, str):
            assert shows(back, value), (back, value)
        else:
            assert same(back, value), (back, value)


@given(columns(any_params.params()))
def test_a_frame_of_polars_has_each_param_or_its_text(params: list[Any]) -> None:
    params = [canonical(param) for param in params]
    frame: Any = frame_maker("polars")(table(params, [MISSING] * len(params)))
    assert frame["f"].null_count() == len(params)
    backs = frame["a"].to_list() if frame["a"].dtype == pl.String else frame["a"].to_numpy()
    for back, param in zip(backs, params, strict=True):
        assert back == text(param) if isinstance(back, str) else same(back, param), (back, param)


def found_at(coordinate: Any, param: Any) -> list[int]:
    """Where along a coordinate a param lies."""
    shown = text(param) if isinstance(param, list) else param
    exact = coordinate.dtype == object
    return [
        index
        for index, each in enumerate(coordinate)
        if same(each, shown) and (not exact or type(each) is type(shown))
    ]


def held(back: Any, value: Any) -> bool:
    """Whether an array holds a value, bools perhaps as floats among what is missing."""
    if value is None or value is MISSING:
        return is_missing(back)
    return same(back, value) or (
        isinstance(value, bool | np.bool_) and type(back) is np.float64 and back == value
    )


def grid_params() -> st.SearchStrategy[Any]:
    odd = [1, 1.0, True, "1", None, Colour.RED, (1, 2), [1], b"1", Decimal(1), -0.0, 2**53 + 1, 2**63]
    days = [dt.date(2026, 1, 31), np.datetime64("2026-01-31", "s"), np.datetime64("2026-02-01", "ns")]
    return st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.sampled_from([*odd, *days]))


def blocks(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Arrays of a shape, by the scalars in them."""
    codes = ["?", "i1", "<i8", ">u8", "<f4", ">f8", "<c8", "<M8[D]", "<m8[s]", "<U2"]

    def filled(code: str) -> st.SearchStrategy[Any]:
        size = math.prod(shape)
        return st.lists(st.integers(0, 9), min_size=size, max_size=size).map(
            lambda digits: np.array(digits).astype(code).reshape(shape)
        )

    return st.sampled_from(codes).flatmap(filled)


@st.composite
def sweeps(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Table:
    """Rows of two arguments, all of a grid or some, each with a value or without."""
    sides = st.lists(grid_params(), min_size=1, max_size=3, unique_by=lambda param: encode(canonical(param)))
    places = [(a, b) for a in draw(sides) for b in draw(sides)]
    rows = draw(st.permutations(places))[: draw(st.integers(1, len(places)))]
    cells = [
        Cell(name=f"f_{index}", params={"a": a, "b": b}, value=draw(values | st.just(MISSING)))
        for index, (a, b) in enumerate(rows)
    ]
    return Table(base_name="f", arguments=["a", "b"], cells=cells)


@given(sweeps(scalars() | st.none()))
def test_an_array_has_each_value_at_its_params(sweep: Table) -> None:
    array: Any = array_maker()(sweep)
    assert isinstance(array, xr.DataArray)
    assert (array.dims, array.name) == (("a", "b"), "f")
    left = np.ones(array.shape, bool)
    for cell in sweep.cells:
        (place,) = [
            (a, b)
            for a in found_at(array.a.values, cell.params["a"])
            for b in found_at(array.b.values, cell.params["b"])
        ]
        left[place] = False
        back = array.values[place]
        assert held(back, cell.value), (back, cell)
    assert all(is_missing(back) for back in array.values[left])


@given(sweeps(blocks((2, 3))))
def test_an_array_has_each_array_at_its_params(sweep: Table) -> None:
    array: Any = array_maker()(sweep)
    stored = [cell for cell in sweep.cells if cell.value is not MISSING]
    assert array.dims == (("a", "b", "f_0", "f_1") if stored else ("a", "b"))
    for cell in stored:
        (place,) = [
            (a, b)
            for a in found_at(array.a.values, cell.params["a"])
            for b in found_at(array.b.values, cell.params["b"])
        ]
        assert array.values[place].shape == (2, 3)
        for back, value in zip(array.values[place].flat, cell.value.flat, strict=True):
            assert held(back, value), (back, value)


# --- to_dict ---------------------------------------------------------------------------------------------


def roughness(lag: int, power: int = 2) -> dict[str, float]:
    return {"lag": lag, "variance": lag**0.5 * power}


def test_a_dict_has_what_is_stored_in_the_order_of_the_rows(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(params_list=[[100], [10], [1000], [10], {"lag": 1}])(roughness)
    assert cm.roughness.to_dict() == {}
    cm.roughness(1)
    cm.roughness(100)
    cm.clear_cache()
    cm.compute("roughness_10_2")  # in memory only
    expected = ["roughness_100_2", "roughness_10_2", "roughness_1_2"]
    assert list(cm.roughness.to_dict()) == expected
    everything = cm.roughness.to_dict(compute=True)
    assert everything == {name: roughness(int(name.split("_")[1])) for name in everything}
    assert list(everything) == [*expected[:2], "roughness_1000_2", "roughness_1_2"]
    assert cm.roughness.exists(1000)


def test_a_dict_tells_1_from_1p0_from_true() -> None:
    metric = collected([1, 1.0, True, "1"], lambda a: repr(a))
    assert list(metric.to_dict(compute=True).values()) == ["1", "1.0", "True", "'1'"]


def test_a_failing_row_raises_as_in_get_all() -> None:
    metric = collected([1, 0, 2], lambda a: 1 / a)
    for ask in (metric.to_dict, metric.to_frame, metric.to_xarray):
        with pytest.raises(ZeroDivisionError) as caught:
            ask(compute=True)
        assert any("1 of 3 rows of 'f' failed" in note for note in caught.value.__notes__)
    assert metric.to_dict() == {"f_1": 1.0, "f_2": 0.5}


@pytest.mark.parametrize("form", ["to_dict", "to_frame", "to_xarray"])
@pytest.mark.parametrize("compute", [False, True])
def test_memory_is_left_as_it_was(cm: ParameterizedDatedCacheManager, form: str, compute: bool) -> None:
    cm.collect(params_list=[[1], [10], [100]])(roughness)
    cm.roughness(1)
    cm.roughness(10)
    cm.clear_cache()
    cm.roughness(10)
    getattr(cm.roughness, form)(compute=compute)
    assert list(cm.cache) == ["roughness_10_2"]
    assert cm.roughness.exists(100) is compute


@pytest.mark.parametrize("form", ["to_dict", "to_frame", "to_xarray"])
def test_damage_is_an_error(cm: ParameterizedDatedCacheManager, tmp_path: Path, form: str) -> None:
    cm.collect(params_list=[[1], [10]])(roughness)
    cm.roughness.get_all()
    cm.clear_cache()
    (tmp_path / "results" / "roughness_10_2.npz").write_bytes(b"")
    with pytest.raises(CorruptMetricError, match="roughness_10_2"):
        getattr(cm.roughness, form)()


# --- to_frame --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["pandas", "polars"])
def test_a_frame_has_params_first_and_a_column_for_each_key(
    cm: ParameterizedDatedCacheManager, engine: str
) -> None:
    cm.collect(params_list=[[100], [10, 3], [1]])(roughness)
    cm.roughness(100)
    cm.roughness(1)
    frame = cm.roughness.to_frame(engine)
    assert list(frame.columns) == ["lag", "power", "roughness_lag", "variance"]
    assert list(frame["lag"]) == [100, 10, 1]
    assert list(frame["power"]) == [2, 3, 2]
    assert frame["variance"][0] == 20.0
    assert frame["variance"][2] == 2.0
    assert is_missing(frame["variance"][1])
    assert is_missing(frame["roughness_lag"][1])
    whole = cm.roughness.to_frame(engine, compute=True)
    assert list(whole["roughness_lag"]) == [100, 10, 1]


def test_the_dtypes_of_a_frame() -> None:
    def f(a: int) -> dict[str, Any]:
        return {"i": a, "b": a > 1, "x": a / 2, "s": str(a), "n": np.float32(a), "t": np.datetime64(a, "D")}

    metric = collected([1, 2], f)
    metric(1)
    pandas_dtypes = {
        "a": "int64",
        "i": "int64",
        "b": "bool",
        "x": "float64",
        "n": "float32",
        "t": "datetime64[s]",
    }
    holed = pandas_dtypes | {"i": "Int64", "b": "boolean"}
    assert {name: str(metric.to_frame().dtypes[name]) for name in holed} == holed
    polars_dtypes = [pl.Int64, pl.Int64, pl.Boolean, pl.Float64, pl.String, pl.Float32, pl.Datetime("ms")]
    assert metric.to_frame("polars").dtypes == polars_dtypes
    metric(2)
    assert {name: str(metric.to_frame().dtypes[name]) for name in pandas_dtypes} == pandas_dtypes
    assert metric.to_frame("polars").dtypes == polars_dtypes


@pytest.mark.parametrize("engine", ["pandas", "polars"])
def test_a_frame_without_params_has_one_row(engine: str) -> None:
    metric = collected(((),), lambda: 5)
    assert metric.to_frame(engine).shape == (1, 1)
    assert is_missing(metric.to_frame(engine)["f"][0])
    assert list(metric.to_frame(engine, compute=True)["f"]) == [5]


@pytest.mark.parametrize("engine", ["pandas", "polars"])
def test_a_frame_of_no_rows_has_its_columns(engine: str) -> None:
    frame = collected([], lambda a, b=1: a).to_frame(engine)
    assert frame.shape == (0, 3)
    assert list(frame.columns) == ["a", "b", "f"]


def test_the_params_of_a_frame_are_those_of_the_identity() -> None:
    def f(a: int, *args: int, c: int = 3, log: Any = None, **kwargs: int) -> int:
        return a

    metric = collected([[1], [1, 2, 3], {"a": 1, "d": 4}], f, ignore=["log"])
    frame = metric.to_frame(compute=True)
    assert list(frame.columns) == ["a", "*args", "c", "**kwargs", "f"]
    assert list(frame["*args"]) == [(), (2, 3), ()]
    assert list(frame["**kwargs"]) == [{}, {}, {"d": 4}]
    assert list(frame["c"]) == [3, 3, 3]
    assert metric.to_frame("polars")["*args"].to_list() == ["()", "(2, 3)", "()"]


def test_a_value_column_never_hides_a_param() -> None:
    def f(a: int, f: int) -> Any:
        return {"a": 1, "f_a": 2} if a else 3

    assert list(collected([[1, 2]], f).to_frame(compute=True).columns) == ["a", "f", "f_f_a", "f_a"]
    assert list(collected([[0, 2]], f).to_frame(compute=True).columns) == ["a", "f", "f_f"]


def test_objects_in_a_frame_are_the_callers_own() -> None:
    metric = collected([[[1, 2]]], lambda a: len(a))
    metric.to_frame()["a"][0].append(3)
    assert metric.to_frame()["a"][0] == [1, 2]
    assert metric.name([1, 2]) in metric.names()


def test_keys_that_are_no_text() -> None:
    metric = collected([1], lambda a: {10: 1, (2, 3): 2, None: 3})
    assert list(metric.to_frame(compute=True).columns) == ["a", "10", "(2, 3)", "None"]
    with pytest.raises(NotTabularError, match=r"f_1.*\['1'\]: a second key of the name '1'"):
        collected([1], lambda a: {1: 1, "1": 2}).to_frame(compute=True)


@pytest.mark.parametrize(
    ("value", "place", "found"),
    [
        (np.arange(3), "", "array of int64, shape 3"),
        ([1, 2], "", "list of 2"),
        ({"x": 1, "y": [1]}, "['y']", "list of 1"),
        ({"x": {"y": 1}}, "['x']", "dict of 1"),
    ],
)
@pytest.mark.parametrize("engine", ["pandas", "polars"])
def test_what_a_frame_does_not_take(value: Any, place: str, found: str, engine: str) -> None:
    metric = collected([1, 2], lambda a: value if a == 2 else 1)
    with pytest.raises(NotTabularError, match="to_dict") as caught:
        metric.to_frame(engine, compute=True)
    assert (caught.value.name, caught.value.place) == ("f_2", place)
    assert caught.value.found.startswith(found)
    assert "to_xarray" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_an_unknown_engine() -> None:
    with pytest.raises(ValueError, match=r"'dask'.*'pandas', 'polars' or None"):
        collected([1], lambda a: a).to_frame("dask")


# --- to_xarray -------------------------------------------------------------------------------------------


def test_an_array_of_numbers() -> None:
    metric = collected([[3, 1], [1, 1], [1, 2], [3, 2], [2, 2]], lambda a, b, c="x": 10 * a + b)
    for a, b in [(3, 1), (1, 1), (1, 2), (3, 2)]:
        metric(a, b)
    array = metric.to_xarray()
    assert (array.name, array.dims, array.shape) == ("f", ("a", "b", "c"), (3, 2, 1))
    assert array.dtype == float
    assert list(array.a.values) == [1, 2, 3]
    assert float(array.sel(a=3, b=2, c="x")) == 32.0
    assert math.isnan(array.sel(a=2, b=1, c="x"))
    assert math.isnan(array.sel(a=2, b=2, c="x"))
    assert metric.to_xarray(compute=True).sel(a=2, b=2, c="x") == 22


def test_an_array_without_holes_keeps_its_dtype() -> None:
    assert collected([1, 2], lambda a: a).to_xarray(compute=True).dtype == np.int64
    assert collected([1, 2], lambda a: a > 1).to_xarray(compute=True).dtype == bool


@pytest.mark.parametrize(
    ("value", "dtype", "missing"),
    [
        (1, "float64", math.nan),
        (True, "float64", math.nan),
        (np.float32(1), "float32", math.nan),
        (1j, "complex128", complex(math.nan, math.nan)),
        (np.datetime64("2026-01-31"), "datetime64[s]", np.datetime64("NaT", "s")),
        (np.timedelta64(5, "ns"), "timedelta64[ns]", np.timedelta64("NaT", "ns")),
        ("text", "object", None),
        (b"bytes", "object", None),
        (2**53 + 1, "object", None),
        (np.array(["text"]), "object", None),
    ],
)
def test_what_is_missing_in_an_array(value: Any, dtype: str, missing: Any) -> None:
    metric = collected([1, 2], lambda a: value)
    metric(1)
    array = metric.to_xarray()
    assert array.dtype == dtype
    assert array.values.flat[0] == value
    hole = array.values.flat[1]
    assert is_missing(hole)
    assert (hole is None) is (missing is None)
    if isinstance(missing, complex):
        assert math.isnan(hole.real)
        assert math.isnan(hole.imag)


def test_an_array_of_arrays() -> None:
    metric = collected([[1, 2], [2, 2]], lambda a, b: np.full((2, 3), a, ">f8"))
    array = metric.to_xarray(compute=True)
    assert array.dims == ("a", "b", "f_0", "f_1")
    assert array.shape == (2, 1, 2, 3)
    assert array.dtype == np.dtype("=f8")
    assert (array.sel(a=2, b=2) == 2).all()


def test_lists_of_numbers_are_arrays() -> None:
    assert collected([1, 2], lambda a: [[a, 0.5], [1, 2]]).to_xarray(compute=True).shape == (2, 2, 2)
    for value in ([1, "a"], [[1], [1, 2]], [2**53 + 1, 0.5], [10**30]):
        with pytest.raises(NotTabularError, match=r"f_1.*list of"):
            collected([1], lambda a, value=value: value, ignore=["value"]).to_xarray(compute=True)


def test_a_data_set_of_dicts(cm: ParameterizedDatedCacheManager) -> None:
    def spectrum(lag: int) -> dict[str, Any]:
        more = {"odd": 1} if lag % 2 else {}
        return {"lag": lag, "lag_0": 0.5, "power": np.arange(4.0), "grid": np.ones((2, 2))} | more

    cm.collect(params_list=[[1], [2]])(spectrum)
    data = cm.spectrum.to_xarray(compute=True)
    assert isinstance(data, xr.Dataset)
    assert {name: data[name].dims for name in data} == {
        "spectrum_lag": ("lag",),
        "lag_0": ("lag",),
        "power": ("lag", "power_0"),
        "grid": ("lag", "grid_0", "grid_1"),
        "odd": ("lag",),
    }
    assert list(data["spectrum_lag"].values) == [1, 2]
    assert data["odd"].sel(lag=1) == 1
    assert math.isnan(data["odd"].sel(lag=2))


def test_dims_never_hide_params_nor_variables() -> None:
    array = collected([[1, 2]], lambda f_0, f: np.arange(3)).to_xarray(compute=True)
    assert (array.name, array.dims) == ("f_f", ("f_0", "f", "f_f_0"))
    data = collected([1], lambda a: {"x": np.arange(3), "x_0": 1}).to_xarray(compute=True)
    assert {name: data[name].dims for name in data} == {"x": ("a", "f_x_0"), "x_0": ("a",)}


def test_an_array_tells_1_from_1p0_from_true() -> None:
    metric = collected([1, 1.0, True, "1"], lambda a: repr(a))
    array = metric.to_xarray(compute=True)
    assert list(array.values) == ["1", "1.0", "True", "'1'"]
    assert [type(each) for each in array.a.values] == [int, float, bool, str]
    assert list(metric.to_frame()["a"].map(type)) == [int, float, bool, str]
    assert metric.to_frame("polars")["a"].to_list() == ["1", "1.0", "True", "1"]


def test_the_order_of_coordinates() -> None:
    numbers = collected([3, 0.5, math.nan, -1, math.inf], lambda a: a).to_xarray(compute=True)
    assert numbers.a.dtype == float
    assert list(numbers.values[:4]) == [-1, 0.5, 3, math.inf]
    assert math.isnan(numbers.a.values[4])
    days = [dt.datetime(2026, 1, 31), dt.datetime(2025, 1, 31)]
    assert list(collected(days, lambda a: a.year).to_xarray(compute=True).values) == [2025, 2026]
    words = collected(["b", "a", "c"], lambda a: a).to_xarray(compute=True)
    assert list(words.a.values) == list(words.values) == ["b", "a", "c"]


def test_coordinates_that_have_no_hash_are_texts() -> None:
    array = collected([[[1, 2]], [[3]]], lambda a: len(a)).to_xarray(compute=True)
    assert array.sel(a="[1, 2]") == 2


@pytest.mark.parametrize("value", [None, MISSING])
def test_nothing_stored_is_an_array_of_nan(value: Any) -> None:
    array: Any = array_maker()(table([1, 2], [value, value]))
    assert (array.name, array.dims, array.dtype) == ("f", ("a",), float)
    assert np.isnan(array.values).all()


def test_an_array_without_params() -> None:
    metric = collected(((),), lambda: 5)
    assert math.isnan(metric.to_xarray())
    assert metric.to_xarray(compute=True).item() == 5


def test_an_array_of_no_rows_has_its_dims() -> None:
    array = collected([], lambda a, b=1: a).to_xarray()
    assert (array.dims, array.shape) == (("a", "b"), (0, 0))


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (np.zeros(3), np.zeros(4), "its shape is (4,), where that of 'f_1' is (3,)"),
        (1, np.zeros(4), "its shape is (4,), where that of 'f_1' is ()"),
        ({"x": 1}, {"x": [1, 2]}, "['x']: its shape is (2,), where that of 'f_1' is ()"),
        ({"x": 1}, 5, "5, where 'f_1' is dict of 1"),
        ({"x": 1}, {"x": {"y": 2}}, "['x']: dict of 1"),
        (1, np.ma.masked_array([1]), "array of int64"),
    ],
)
def test_what_an_array_does_not_take(first: Any, second: Any, found: str) -> None:
    with pytest.raises(NotTabularError, match="'f_2' does not go into an array") as caught:
        array_maker()(
            Table(
                base_name="f",
                arguments=["a"],
                cells=[Cell(name=f"f_{a}", params={"a": a}, value=v) for a, v in ((1, first), (2, second))],
            )
        )
    assert f": {found}" in str(caught.value)
    assert "to_dict" in str(caught.value)


def test_a_grid_that_is_almost_empty_is_refused() -> None:
    rows = [[a, a] for a in range(300)]
    assert collected(rows, lambda a, b: a).to_xarray(compute=True).shape == (300, 300)
    metric = collected(rows, lambda a, b: np.zeros(200, "i1"))
    with pytest.raises(NotTabularError, match=r"300 rows in a grid of 300 x 300 .*18,000,000 .*to_frame"):
        metric.to_xarray(compute=True)


# --- libraries that are not there ------------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def test_polars_stands_in_for_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = collected([1], lambda a: a)
    assert isinstance(metric.to_frame(), pd.DataFrame)
    without(monkeypatch, "pandas")
    assert isinstance(metric.to_frame(), pl.DataFrame)
    with pytest.raises(MissingExtraError, match=r"pandas.*smm-metrics\[frames\]"):
        metric.to_frame("pandas")


@pytest.mark.parametrize(
    ("missing", "form", "arguments", "extra"),
    [
        (("pandas", "polars"), "to_frame", (), "frames"),
        (("polars",), "to_frame", ("polars",), "polars"),
        (("xarray",), "to_xarray", (), "xarray"),
    ],
)
def test_a_missing_library_is_said_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
    missing: tuple[str, ...],
    form: str,
    arguments: tuple[str, ...],
    extra: str,
) -> None:
    without(monkeypatch, *missing)
    metric = collected([1], lambda a: a)
    with pytest.raises(MissingExtraError) as caught:
        getattr(metric, form)(*arguments, compute=True)
    assert (caught.value.module, caught.value.extra) == (missing[0], extra)
    assert not metric.exists(1)
