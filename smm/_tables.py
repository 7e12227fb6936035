"""Collected metrics as people look at them: a frame with a line for each row, or a labelled array.

Works on plain cells; where these come from is decided elsewhere. In a table None is missing, just as a value
that is not there.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from smm._columns import (
    MISSING,
    Array,
    Mask,
    as_array,
    as_objects,
    common_dtype,
    dtype_with_gaps,
    fits,
    gap,
    params_column,
    text,
    values_column,
)
from smm._encoding import encode, fresh, short
from smm._signature import read_signature
from smm._values import summary
from smm.errors import MissingExtraError, NotTabularError, require
from smm.metric import Function

_MOST_ELEMENTS = 10_000_000
"""An array with no more elements is made, however few of them have a value."""

_SPARSEST = 100
"""A larger one is made if its grid has no more than so many places for each row."""


@attrs.frozen(kw_only=True)
class Cell:
    """One row of a collected metric."""

    name: str
    """The metric name."""
    params: Mapping[str, Any]
    """By argument name, canonical. What `*args` and `**kwargs` took may be absent if it is nothing."""
    value: Any = MISSING


@attrs.frozen(kw_only=True)
class Table:
    """The distinct rows of a collected metric, in the order of its params list."""

    base_name: str
    arguments: Sequence[str]
    """Names of the params, in signature order."""
    cells: Sequence[Cell]

    def params(self, argument: str) -> list[Any]:
        """What each row has for an argument: copies, for whoever gets them to change."""
        nothing: Any = {} if argument.startswith("**") else ()
        return [fresh(cell.params.get(argument, nothing)) for cell in self.cells]


def argument_names(
    base_name: str, function: Function, ignore: Iterable[str], inputs: Iterable[str]
) -> list[str]:
    """The names of a call's params in signature order, with `*args` and `**kwargs` if it may have these."""
    ignored = frozenset(ignore)
    signature = read_signature(base_name, function, ignored, frozenset(inputs))
    in_order = (
        ("", [each.name for each in signature.positional]),
        ("*", [signature.rest]),
        ("", [each.name for each in signature.keyword_only]),
        ("**", [signature.options]),
    )
    return [stars + name for stars, names in in_order for name in names if name and name not in ignored]


# --- values by column ------------------------------------------------------------------------------------


def _columns(table: Table, kind: str, read: Callable[[Any], Any], way_out: str) -> dict[str, list[Any]]:
    """The values of all rows: under the base name, or of dicts under each key; MISSING where there is none.

    Args:
        table: the rows.
        kind: of the table, for a message: `a frame`.
        read: a value in the form that the table takes; None if it takes no such value.
        way_out: for a message.

    Raises:
        NotTabularError: the table does not take a value.
    """
    columns: dict[str, list[Any]] = {}
    for index, cell in enumerate(table.cells):
        entries: dict[str, Any] = {}
        for label, place, value in _entries(cell, table.base_name):
            entry = MISSING if value is None else read(value)
            if entry is None or label in entries:
                found = f"a second key of the name {label!r}" if label in entries else summary(value)
                raise NotTabularError(name=cell.name, table=kind, place=place, found=found, way_out=way_out)
            entries[label] = entry
        for label, entry in entries.items():
            if label not in columns:
                columns[label] = [MISSING] * len(table.cells)
            columns[label][index] = entry
    return columns or {table.base_name: [MISSING] * len(table.cells)}


def _entries(cell: Cell, base_name: str) -> Iterator[tuple[str, str, Any]]:
    """Of each value in a cell: its column, its place in the cell, and itself."""
    if isinstance(cell.value, dict):
        for key, value in cell.value.items():
            yield key if isinstance(key, str) else short(key), f"[{short(key)}]", value
    elif cell.value is not MISSING and cell.value is not None:
        yield base_name, "", cell.value


def _scalar(value: Any) -> Any:
    """What goes into one cell of a frame; None if it is more than that."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and not isinstance(value, np.ma.MaskedArray):
        value = value[()]
    kinds = (numbers.Number, np.generic, str, bytes, dt.date, dt.time, dt.timedelta)
    return value if isinstance(value, kinds) else None


def _free(name: str, base_name: str, taken: Collection[str]) -> str:
    """The name, with the base name before it while there is such a one already."""
    while name in taken:
        name = f"{base_name}_{name}"
    return name


def _names(table: Table, labels: Collection[str]) -> dict[str, str]:
    """Each column's name in the table: `<base_name>_<label>` for a label that is an argument's name too."""
    taken = {*table.arguments, *labels}
    names = {}
    for label in labels:
        names[label] = _free(label, table.base_name, taken) if label in table.arguments else label
        taken.add(names[label])
    return names


# --- frames ----------------------------------------------------------------------------------------------


def frame_maker(engine: str | None) -> Callable[[Table], Any]:
    """What makes a frame of a table, by pandas or polars; None is pandas, or polars if only that is there.

    Raises:
        MissingExtraError: the library is not installed.
        ValueError: `engine` is none of these.
    """
    if engine not in (None, "pandas", "polars"):
        raise ValueError(f"engine is {engine!r}; it must be 'pandas', 'polars' or None")
    if engine == "polars":
        return functools.partial(_polars_frame, require("polars", "polars"))
    try:
        return functools.partial(_pandas_frame, require("pandas", "frames"))
    except MissingExtraError as missing:
        if engine is None:
            try:
                return functools.partial(_polars_frame, require("polars", "polars"))
            except MissingExtraError:
                raise missing from None
        raise


def _frame_columns(table: Table) -> Iterator[tuple[str, Array, Mask]]:
    """Name, content and holes of each column: the params, then the values."""
    for argument in table.arguments:
        yield argument, params_column(table.params(argument)), np.zeros(len(table.cells), bool)
    way_out = "ask for to_dict or to_xarray, or return scalars or a dict of scalars"
    columns = _columns(table, "a frame", _scalar, way_out)
    for label, name in _names(table, columns).items():
        yield name, *values_column(columns[label])


def _pandas_frame(pandas: Any, table: Table) -> Any:
    columns = _frame_columns(table)
    return pandas.DataFrame({name: _pandas_series(pandas, column, holes) for name, column, holes in columns})


def _pandas_series(pandas: Any, column: Array, holes: Mask) -> Any:
    if column.dtype.kind == "O":
        there = column[~holes]
        if len(there) and all(type(value) is str and value == text(value) for value in there):
            return pandas.Series(list(column))  # in whatever this pandas keeps text
        return pandas.Series(column, dtype=object)
    series = pandas.Series(column)
    if column.dtype.kind not in "biu" or not holes.any():
        return series
    bits = 8 * column.dtype.itemsize
    nullable = {"b": "boolean", "i": f"Int{bits}", "u": f"UInt{bits}"}
    return series.astype(nullable[column.dtype.kind]).mask(holes)


def _polars_frame(polars: Any, table: Table) -> Any:
    return polars.DataFrame([_polars_series(polars, *column) for column in _frame_columns(table)])


def _polars_series(polars: Any, name: str, column: Array, holes: Mask) -> Any:
    """A Series; of text if polars has no type for what is in the column."""
    typed = _for_polars(column)
    if typed is not None:
        return polars.Series(name, typed).scatter(np.flatnonzero(holes), None)
    kinds = {type(value) for value in column[~holes]}
    if kinds in ({bytes}, {dt.date}):
        return polars.Series(name, list(column))
    texts = [None if hole else text(value) for value, hole in zip(column, holes, strict=True)]
    return polars.Series(name, texts, dtype=polars.String)


def _for_polars(column: Array) -> Array | None:
    """The column in a dtype that polars takes; None if there is none."""
    kind, size = column.dtype.kind, column.dtype.itemsize
    if kind in "biu" or (kind == "f" and size in (4, 8)):
        return column
    if kind == "f" and size == 2:
        return column.astype(np.float32)
    if kind not in "mM":
        return None
    unit, _ = np.datetime_data(column.dtype)
    dtype = np.dtype(f"{kind}8[{'ms' if unit == 's' else unit}]")
    if kind == "M":  # polars fails to show what is beyond Python's years
        years = column[~np.isnat(column)].astype("M8[Y]").astype(int) + 1970
        if not ((years >= dt.MINYEAR) & (years <= dt.MAXYEAR)).all():
            return None
    return column.astype(dtype) if fits(column, dtype) else None


# --- labelled arrays -------------------------------------------------------------------------------------


def array_maker() -> Callable[[Table], Any]:
    """What makes an array, or a data set of arrays, of a table by xarray.

    Raises:
        MissingExtraError: xarray is not installed.
    """
    return functools.partial(_xarray, require("xarray", "xarray"))


def _xarray(xarray: Any, table: Table) -> Any:
    way_out = "ask for to_dict, or return numbers, arrays of one shape, or dicts of these, in every row"
    of_dicts = _holds_dicts(table, way_out)
    columns = _columns(table, "an array", _block, way_out)
    shapes = {label: _shape(table, label, blocks, way_out) for label, blocks in columns.items()}
    coordinates, places = _grid(table)
    grid = tuple(map(len, coordinates))
    _check_size(table, grid, sum(map(math.prod, shapes.values())))
    names = _names(table, columns)
    taken = {*table.arguments, *names.values()}
    variables = {}
    for label, blocks in columns.items():
        dims = list(table.arguments)
        for axis in range(len(shapes[label])):
            dims.append(_free(f"{label}_{axis}", table.base_name, taken))
            taken.add(dims[-1])
        filled = _filled(blocks, places, grid, shapes[label])
        variables[names[label]] = _variable(xarray, dims, filled)
    coords = {
        argument: _variable(xarray, [argument], column)
        for argument, column in zip(table.arguments, coordinates, strict=True)
    }
    if of_dicts:
        return xarray.Dataset(variables, coords=coords)
    ((name, variable),) = variables.items()
    return xarray.DataArray(variable, coords=coords, dims=variable.dims, name=name)


def _variable(xarray: Any, dims: Sequence[str], array: Array) -> Any:
    # Objects as they are: xarray would ask pandas about them, which makes nan of None among texts.
    return xarray.Variable(dims, array, fastpath=array.dtype == object)


def _block(value: Any) -> Array | None:
    """A scalar, an array, or a nested list of numbers, as an array; None for anything else."""
    scalar = _scalar(value)
    if scalar is not None:
        return as_array(scalar)
    if isinstance(value, np.ndarray) and value.ndim and not isinstance(value, np.ma.MaskedArray):
        return as_array(value)
    if not isinstance(value, list | tuple):
        return None
    try:
        array, exact = np.asarray(value), np.asarray(value, object)
    except ValueError:  # its lists differ in length
        return None
    # An int among floats may have become another number.
    unchanged = array.dtype.kind in "biufc" and ((exact == array) | (array != array)).all()
    return array if unchanged else None


def _holds_dicts(table: Table, way_out: str) -> bool:
    """Whether the rows are dicts; refuses a table where some are and some are not."""
    stored = [cell for cell in table.cells if cell.value is not MISSING and cell.value is not None]
    dicts = [cell for cell in stored if isinstance(cell.value, dict)]
    other = next((cell for cell in stored if not isinstance(cell.value, dict)), None)
    if not dicts or other is None:
        return bool(dicts)
    found = f"{summary(other.value)}, where {dicts[0].name!r} is {summary(dicts[0].value)}"
    raise NotTabularError(name=other.name, table="an array", place="", found=found, way_out=way_out)


def _shape(table: Table, label: str, blocks: Sequence[Any], way_out: str) -> tuple[int, ...]:
    """The shape that all of a column's blocks have; without dimensions if there are none."""
    there = [(cell, block) for cell, block in zip(table.cells, blocks, strict=True) if block is not MISSING]
    if not there:
        return ()
    first, shape = there[0][0], there[0][1].shape
    for cell, block in there:
        if block.shape != shape:
            place = f"[{label!r}]" if isinstance(cell.value, dict) else ""
            found = f"its shape is {block.shape}, where that of {first.name!r} is {shape}"
            raise NotTabularError(name=cell.name, table="an array", place=place, found=found, way_out=way_out)
    return tuple(shape)


def _grid(table: Table) -> tuple[list[Array], list[tuple[int, ...]]]:
    """The coordinates along each argument, and for each row its place among them.

    Numbers and times are sorted, anything else is in the order of its first appearance.
    """
    coordinates: list[Array] = []
    ranks: list[list[int]] = []
    for argument in table.arguments:
        params = table.params(argument)
        keys = [encode(value) for value in params]
        distinct: dict[bytes, Any] = {}
        for key, value in zip(keys, params, strict=True):
            distinct.setdefault(key, value)
        column = params_column(list(distinct.values()))
        in_order = range(len(column))
        if column.dtype.kind in "iufmM":
            in_order = np.argsort(column, kind="stable").tolist()
        rank = dict(zip((list(distinct)[index] for index in in_order), range(len(column)), strict=True))
        coordinates.append(_for_xarray(column[list(in_order)], hashable=True))
        ranks.append([rank[key] for key in keys])
    return coordinates, list(zip(*ranks, strict=True)) if ranks else [()] * len(table.cells)


def _check_size(table: Table, grid: tuple[int, ...], elements: int) -> None:
    rows, places = len(table.cells), math.prod(grid)
    if places > _SPARSEST * rows and places * elements > _MOST_ELEMENTS:
        sizes = " x ".join(f"{size:,}" for size in grid)
        raise NotTabularError(
            name=table.base_name,
            table="an array",
            place="",
            found=f"{rows:,} rows in a grid of {sizes} places, which makes {places * elements:,} elements",
            way_out="ask for to_frame or to_dict",
        )


def _filled(
    blocks: Sequence[Any], places: Sequence[tuple[int, ...]], grid: tuple[int, ...], shape: tuple[int, ...]
) -> Array:
    """The blocks at their places in the grid, and gaps at the others."""
    there = [(place, block) for place, block in zip(places, blocks, strict=True) if block is not MISSING]
    arrays = [block for _, block in there]
    full = len(there) == math.prod(grid)
    dtype = common_dtype(arrays) if full else dtype_with_gaps(arrays)
    filled = np.empty(grid + shape, dtype)
    if not full:
        filled[...] = gap(dtype)
    for place, block in there:
        part = _for_xarray(as_objects(block)) if dtype.kind == "O" else block
        filled[place] = part if shape else part[()]  # an array of objects would be taken for one itself
    return filled


def _for_xarray(array: Array, *, hashable: bool = False) -> Array:
    """The array, changed in place, with text for those of its objects that xarray stumbles over.

    These are numpy's times in no unit that pandas has and, in coordinates, what has no hash.
    """
    if array.dtype.kind == "O":
        for place in np.ndindex(array.shape):
            value: object = array[place]
            if isinstance(value, np.datetime64 | np.timedelta64):
                usual = as_array(value)
                array[place] = text(value) if usual.dtype.kind == "O" else usual[()]
            elif hashable and not _has_hash(value):
                array[place] = text(value)
    return array


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except (TypeError, ValueError):  # numpy's for a timedelta64 without unit
        return False
    return True
