"""Params lists as a configuration writes them: rows, and sweeps that stand for many rows.

Reading one checks it and counts its rows without making them; `expand` makes them one at a time.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from smm._keys import dotted, read_at, read_list, read_mapping, refused, shown

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

MAX_ROWS = 1_000_000
"""Of all params lists of a configuration together, sweeps counted by the rows they stand for."""

WORDS = ("grid", "zip", "rows_from", "range", "linspace")
"""A mapping with one of these as its only key is a sweep."""

_START = r"[^\x00-@\[-^`{-\x7f]"  # any character but those of ASCII that begin no name
_FOLLOWING = r"[^\x00-/:-@\[-^`{-\x7f]"
DOTTED_PATH = rf"{_START}{_FOLLOWING}*(\.{_START}{_FOLLOWING}*)+"
"""`package.module.name`, as a regular expression that Python and JSON Schema read alike."""


@attrs.frozen(kw_only=True)
class Range:
    """`range: [start, stop, step]`: integers, `stop` excluded, as in Python."""

    start: int
    stop: int
    step: int = 1

    @property
    def count(self) -> int:
        """How many values it has, however many that are."""
        # len() of a range ends at sys.maxsize.
        return max(0, -((self.start - self.stop) // self.step))

    def values(self) -> Iterable[int]:
        """The integers, made one at a time."""
        return range(self.start, self.stop, self.step)


@attrs.frozen(kw_only=True)
class Linspace:
    """`linspace: [start, stop, count]`: floats at even distances, both ends included, as in numpy."""

    start: float
    stop: float
    count: int

    def values(self) -> Iterable[float]:
        """The floats `numpy.linspace` gives."""
        import numpy as np  # checking a file is not slowed by an import that most files do not need

        values: list[float] = np.linspace(self.start, self.stop, self.count).tolist()
        return values


Axis: TypeAlias = tuple[Any, ...] | Range | Linspace
"""The values that one argument takes in a sweep."""


@attrs.frozen(kw_only=True)
class Grid:
    """`grid: {a: ..., b: ...}`: every combination, the last argument changing fastest."""

    axes: Mapping[str, Axis]

    @property
    def count(self) -> int:
        """How many rows it stands for; not counted on beyond MAX_ROWS."""
        count = 1
        for axis in self.axes.values():
            count *= _length(axis)
            if count > MAX_ROWS:  # the product of many long axes takes long to compute
                break
        return count


@attrs.frozen(kw_only=True)
class Zip:
    """`zip: {a: ..., b: ...}`: the values side by side; all axes are equally long."""

    axes: Mapping[str, Axis]

    @property
    def count(self) -> int:
        """How many rows it stands for."""
        return _length(next(iter(self.axes.values())))


@attrs.frozen(kw_only=True)
class RowsFrom:
    """`rows_from: analysis.rows`: dotted path of an iterable of rows, or of a function that makes one."""

    path: str


_SWEPT = frozenset({Range, Linspace, Grid, Zip, RowsFrom})

Row: TypeAlias = Any
"""A tuple of positional arguments, a dict of named ones, or a scalar for the one argument."""

Item: TypeAlias = Any
"""One entry of a params list: a Row, or a Range, Linspace, Grid, Zip or RowsFrom."""


def expand(
    params_list: Iterable[Item], rows_from: Callable[[RowsFrom], Iterable[Row]]
) -> Iterator[tuple[int, Row]]:
    """Give every row of a params list with the index of the entry it came from, lazily.

    Args:
        params_list: entries as `read_params_list` makes them.
        rows_from: called with each RowsFrom entry; gives its rows. What it raises passes.
    """
    for index, item in enumerate(params_list):
        for row in _rows(item, rows_from):
            yield index, row


def are_rows(params_list: Iterable[Item]) -> bool:
    """Whether each entry is itself a row, so that there is nothing to expand."""
    return _SWEPT.isdisjoint(map(type, params_list))


def _rows(item: Item, rows_from: Callable[[RowsFrom], Iterable[Row]]) -> Iterable[Row]:
    match item:
        case tuple() | dict():
            return (item,)
        case Range() | Linspace():
            return item.values()
        case Grid(axes=axes):
            return (dict(zip(axes, row, strict=True)) for row in itertools.product(*_columns(axes)))
        case Zip(axes=axes):
            return (dict(zip(axes, row, strict=True)) for row in zip(*_columns(axes), strict=True))
        case RowsFrom():
            return rows_from(item)
        case _:
            return (item,)


def _columns(axes: Mapping[str, Axis]) -> list[Iterable[Any]]:
    return [axis if isinstance(axis, tuple) else axis.values() for axis in axes.values()]


def count(item: Item) -> int:
    """How many rows an entry stands for; 0 for RowsFrom, which only the user's code knows."""
    if isinstance(item, Range | Linspace | Grid | Zip):
        return item.count
    return 0 if isinstance(item, RowsFrom) else 1


def _length(axis: Axis) -> int:
    return len(axis) if isinstance(axis, tuple) else axis.count


# --- reading ---------------------------------------------------------------------------------------------


def read_params_list(value: Any) -> tuple[Item, ...]:
    """Plain data as entries of a params list.

    Raises:
        Refused: with everything that is wrong in it.
    """
    return read_list(value, _read_item, "a list of rows, such as [[1, 2], {a: 1, b: 3}]")


def _read_item(value: Any) -> Item:
    if type(value) is list:
        # Rows without a mapping in them, which nearly all are, need no closer look.
        return read_list(value, _read_value) if dict in map(type, value) else tuple(value)
    if type(value) is dict:
        word = _sweep_word(value)
        if word is not None:
            return _read_sweep(word, value)
        return read_mapping(value, _read_value, key="the name of an argument")
    if value is None:
        raise refused("found null, wanted a row; write [] for no arguments, [null] for one that is None")
    return value


def _read_value(value: Any) -> Any:
    word = _sweep_word(value) if type(value) is dict else None
    if word is not None:
        sweep = f"grid: {{a: {{{word}: ...}}}}" if word in _AXES else f"{word}: ..."
        raise refused(f"found {word} inside of one row, wanted a value; for a row each write '- {sweep}'")
    return value


def _sweep_word(value: dict[Any, Any]) -> str | None:
    if len(value) == 1:
        (word,) = value
        if word in WORDS:
            return str(word)
    return None


def _read_sweep(word: str, value: dict[Any, Any]) -> Item:
    sweep = read_at(word, _SWEEPS[word], value)
    if count(sweep) > MAX_ROWS:
        raise refused(f"found more than {MAX_ROWS:,} rows, wanted at most that many; make the sweep coarser")
    return sweep


def _read_range(value: Any) -> Range:
    if type(value) is not list or len(value) not in (2, 3):
        raise refused(f"found {_written(value)}, wanted [start, stop] or [start, stop, step]")
    start, stop, step = (*read_list(value, _read_integer), 1)[:3]
    if step == 0:
        raise refused("found a step of 0, wanted one that leads from start to stop", 2)
    made = Range(start=start, stop=stop, step=step)
    if made.count == 0:
        raise refused(
            f"found no values from {shown(start)} to {shown(stop)} in steps of {shown(step)}, wanted some; "
            "stop is excluded"
        )
    return made


def _read_integer(value: Any) -> int:
    if type(value) is not int:
        raise refused(f"found {shown(value)}, wanted a whole number; for fractions use linspace")
    return value


def _read_linspace(value: Any) -> Linspace:
    if type(value) is not list or len(value) != 3:
        raise refused(f"found {_written(value)}, wanted [start, stop, count]")
    start, stop = read_list(value[:2], _read_number)
    if type(value[2]) is not int or value[2] < 1:
        raise refused(f"found {shown(value[2])}, wanted how many values: a whole number from 1", 2)
    if not math.isfinite(stop - start):
        raise refused("found ends too far apart for floats to lie between them; bring them closer")
    return Linspace(start=start, stop=stop, count=value[2])


def _read_number(value: Any) -> float:
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an int beyond all floats
        pass
    raise refused(f"found {shown(value)}, wanted a finite number")


def _read_rows_from(value: Any) -> RowsFrom:
    return RowsFrom(path=read_dotted_path(value))


def read_dotted_path(value: Any) -> str:
    """A dotted path, of which nothing is imported.

    Raises:
        Refused: it is none.
    """
    if type(value) is not str or not is_dotted_path(value):
        raise refused(f"found {shown(value)}, wanted a dotted path such as 'analysis.poly_X'")
    return value


def is_dotted_path(text: str) -> bool:
    """True for `package.module.name`; whether anything is there is not asked."""
    return _DOTTED_PATH.fullmatch(text) is not None


def _read_grid(value: Any) -> Grid:
    return Grid(axes=_read_axes(value))


def _read_zip(value: Any) -> Zip:
    axes = _read_axes(value)
    lengths = {name: _length(axis) for name, axis in axes.items()}
    first, *others = lengths
    for other in others:
        if lengths[other] != lengths[first]:
            raise refused(
                f"found {shown(lengths[first])} values of {dotted((first,))} and {shown(lengths[other])} of "
                f"{dotted((other,))}, wanted equally many; use grid for every combination"
            )
    return Zip(axes=axes)


def _read_axes(value: Any) -> dict[str, Axis]:
    if value == {}:
        raise refused("found an empty mapping, wanted at least one argument with its values")
    wanted = "a mapping of arguments to their values, such as {a: [1, 4]}"
    return read_mapping(value, _read_axis, wanted, key="the name of an argument")


def _read_axis(value: Any) -> Axis:
    if type(value) is dict and (word := _sweep_word(value)) in _AXES:
        axis: Axis = read_at(word, _AXES[word], value)
        return axis
    if type(value) is not list or not value:
        wanted = "a list of values, {range: [start, stop]} or {linspace: [start, stop, count]}"
        raise refused(f"found {shown(value)}, wanted {wanted}")
    return read_list(value, _read_value)


def _written(value: Any) -> str:
    return f"a list of {len(value)}" if type(value) is list else shown(value)


_AXES: dict[str | None, Callable[[Any], Any]] = {"range": _read_range, "linspace": _read_linspace}
_SWEEPS: dict[str, Callable[[Any], Any]] = {
    "range": _read_range,
    "linspace": _read_linspace,
    "grid": _read_grid,
    "zip": _read_zip,
    "rows_from": _read_rows_from,
}
_DOTTED_PATH = re.compile(DOTTED_PATH)


# --- the same for editors --------------------------------------------------------------------------------

_VALUE = {"not": {"$ref": "#/definitions/sweep_word"}}
_ARGUMENTS = {"type": "object", "additionalProperties": {"$ref": "#/definitions/axis"}, "minProperties": 1}


def _only(word: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {word: schema},
        "required": [word],
        "additionalProperties": False,
    }


_RANGE = {
    "type": "array",
    "description": "[start, stop] or [start, stop, step]: whole numbers, stop excluded.",
    "items": [{"type": "integer"}, {"type": "integer"}, {"type": "integer", "not": {"const": 0}}],
    "additionalItems": False,
    "minItems": 2,
}
_LINSPACE = {
    "type": "array",
    "description": "[start, stop, count]: numbers at even distances, both ends included.",
    "items": [{"type": "number"}, {"type": "number"}, {"type": "integer", "minimum": 1}],
    "additionalItems": False,
    "minItems": 3,
}

DEFINITIONS: dict[str, Any] = {
    "dotted_path": {"type": "string", "pattern": f"^{DOTTED_PATH}$"},
    "sweep_word": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"enum": list(WORDS)},
    },
    "axis": {
        "description": "The values one argument takes.",
        "anyOf": [
            {"type": "array", "minItems": 1, "items": _VALUE},
            _only("range", _RANGE),
            _only("linspace", _LINSPACE),
        ],
    },
    "row": {
        "description": "Positional arguments, named arguments, one argument, or a sweep.",
        "anyOf": [
            {"type": "array", "items": _VALUE},
            {"type": "object", "not": {"$ref": "#/definitions/sweep_word"}, "additionalProperties": _VALUE},
            {"type": ["string", "number", "boolean"]},
            _only("grid", _ARGUMENTS | {"description": "Every combination of the values."}),
            _only("zip", _ARGUMENTS | {"description": "The values side by side, equally many of each."}),
            _only("range", _RANGE),
            _only("linspace", _LINSPACE),
            _only("rows_from", {"$ref": "#/definitions/dotted_path"}),
        ],
    },
}
"""JSON Schema of what `read_params_list` takes, item by item: `row`."""

SCHEMA = {"type": "array", "items": {"$ref": "#/definitions/row"}}
