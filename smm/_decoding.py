"""Params back from the form in which a record notes them."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import functools
import json
import operator
import pathlib
import sys
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from smm._encoding import canonical, json_form


class Described:
    """A param that its record only describes: an array, or a member of an Enum that is not imported.

    To be handed on as it is.
    """

    __slots__ = ("form",)

    def __init__(self, form: Any) -> None:
        self.form = form
        """As the record has it."""

    def __repr__(self) -> str:
        what = self.form["type"] if isinstance(self.form, dict) else type(self.form).__name__
        return f"<{what} that a record describes>"


def decode(form: Any) -> Any:
    """The param that `json_form` wrote so; a `Described` if that does not tell it whole."""
    try:
        value = _decoded(form)
        is_whole = json.dumps(json_form(canonical(value))) == json.dumps(form)
    except Exception:  # noqa: BLE001 - whatever a form of another version, or a damaged one, makes of a class
        return Described(form)
    return value if is_whole else Described(form)


def form_of(param: Any) -> Any:
    """A param as a record has it: the opposite of `decode`.

    Raises:
        Unsupported: it can be no param.
    """
    return param.form if isinstance(param, Described) else json_form(canonical(param))


def _decoded(form: Any) -> Any:
    if isinstance(form, list):
        return list(map(_decoded, form))
    if isinstance(form, dict):
        return _FROM_FIELDS[form["type"]](form)
    return form


def _items(form: Mapping[str, Any]) -> list[Any]:
    return list(map(_decoded, form["items"]))


def _zone(form: Any) -> dt.tzinfo | None:
    if isinstance(form, list):
        return dt.timezone(dt.timedelta(microseconds=form[0]), form[1])
    return None if form is None else zoneinfo.ZoneInfo(form)


def _moment(kind: Any, form: Mapping[str, Any]) -> Any:
    return kind.fromisoformat(form["iso"]).replace(fold=form["fold"], tzinfo=_zone(form["zone"]))


def _three(kind: Any, form: Mapping[str, Any]) -> Any:
    return kind(_decoded(form["start"]), _decoded(form["stop"]), _decoded(form["step"]))


def _count(kind: Any, form: Mapping[str, Any]) -> Any:
    unit, step = np.datetime_data(np.dtype(form["dtype"]))
    return kind(form["count"], (unit, step))


def _member(form: Mapping[str, Any]) -> Any:
    module, _, name = form["class"].rpartition(".")
    while module not in sys.modules:  # never imported here: that would run the user's code
        module, _, outer = module.rpartition(".")
        name = f"{outer}.{name}"
    members: Any = functools.reduce(getattr, name.split("."), sys.modules[module])
    if not isinstance(form["name"], str):
        return members(_decoded(form["name"]))
    return functools.reduce(operator.or_, [members[part] for part in form["name"].split("|")])


_FROM_FIELDS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "int": lambda form: int(form["hex"], 16),
    "float": lambda form: float(form["value"]),
    "str": lambda form: bytes.fromhex(form["hex"]).decode("utf-8", "surrogatepass"),
    "bytes": lambda form: bytes.fromhex(form["hex"]),
    "tuple": lambda form: tuple(_items(form)),
    "set": lambda form: set(_items(form)),
    "frozenset": lambda form: frozenset(_items(form)),
    "dict": lambda form: {_decoded(key): _decoded(item) for key, item in form["items"]},
    "complex": lambda form: complex(_decoded(form["real"]), _decoded(form["imag"])),
    "date": lambda form: dt.date.fromisoformat(form["iso"]),
    "datetime": functools.partial(_moment, dt.datetime),
    "time": functools.partial(_moment, dt.time),
    "timedelta": lambda form: dt.timedelta(form["days"], form["seconds"], form["microseconds"]),
    "Decimal": lambda form: decimal.Decimal(form["value"]),
    "Fraction": lambda form: fractions.Fraction(_decoded(form["numerator"]), _decoded(form["denominator"])),
    "UUID": lambda form: uuid.UUID(form["hex"]),
    "range": functools.partial(_three, range),
    "slice": functools.partial(_three, slice),
    "datetime64": functools.partial(_count, np.datetime64),
    "timedelta64": functools.partial(_count, np.timedelta64),
    "enum": _member,
    **{
        kind.__name__: lambda form, kind=kind: kind(form["path"])  # type: ignore[misc]
        for kind in (
            pathlib.PurePosixPath,
            pathlib.PureWindowsPath,
            pathlib.PosixPath,
            pathlib.WindowsPath,
        )
    },
}
