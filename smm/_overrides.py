"""Values that a caller puts over those of a configuration file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smm._keys import Refused, dotted, refused, shown, undotted
from smm._yaml import MAX_DEPTH, MAX_VALUES, NO_MARK, Place, Places
from smm.errors import Problem

FILE = "overrides"
"""What problems call the place of such a value."""


def merged(data: Any, place: Place, overrides: Mapping[str, Any]) -> tuple[Any, Place, list[Problem]]:
    """Plain data with the overrides put in, one after another; `data` itself stays as it was.

    Returns:
        The data, where everything in them stands (NO_MARK for what came from here), and what is wrong with
        the overrides themselves.
    """
    problems: list[Problem] = []
    for text, value in overrides.items():
        try:
            data, place = _with(data, place, _checked_key(text), _plain(value))
        except (Refused, ValueError) as error:
            message = error.refusals[0].message if isinstance(error, Refused) else str(error)
            problems.append(Problem(file=FILE, line=0, column=0, path=str(text), message=message))
    return data, place, problems


def _checked_key(text: Any) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise refused(f"found the key {shown(text)}, wanted a text such as 'storage.metrics_dir'")
    keys = undotted(text)
    if len(keys) > MAX_DEPTH:
        raise refused(f"found a key of {len(keys):,} names, wanted at most {MAX_DEPTH:,}")
    return keys


def _with(data: Any, place: Place, keys: tuple[str, ...], value: Any) -> tuple[Any, Place]:
    # Copies along the way, because parts of the data may be shared by aliases.
    root: dict[str, Any] = {"": {} if data is None else data}
    root_places = Places(NO_MARK, {"": place}, {})
    holder, places = root, root_places
    for depth, name in enumerate(("", *keys[:-1])):
        below = holder.get(name, {})
        if type(below) is not dict:
            where = dotted(keys[:depth]) or "the whole file"
            raise refused(f"found {shown(below)} as {where}, wanted a mapping to put this key in")
        holder[name] = dict(below)
        places.items[name] = _copied(places.items.get(name, NO_MARK))
        holder, places = holder[name], places.items[name]
    holder[keys[-1]] = value
    places.items[keys[-1]] = places.keys[keys[-1]] = NO_MARK
    return root[""], root_places.items[""]


def _copied(place: Place) -> Places:
    if isinstance(place, Places):
        return Places(place.mark, dict(place.items), dict(place.keys))
    return Places(NO_MARK, {}, {})


def _plain(value: Any) -> Any:
    """A copy of what a caller gave, as YAML would hold it: tuples become lists.

    Raises:
        Refused: there is no such value in YAML, or it is too large or contains itself.
    """
    root: list[Any] = [None]
    todo: list[tuple[Any, Any, Any, int]] = [(value, root, 0, 0)]
    count = 0
    while todo:
        value, holder, at, depth = todo.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise refused(
                f"found more than {MAX_DEPTH:,} levels or {MAX_VALUES:,} values; does it contain itself?"
            )
        if type(value) in _SCALARS:
            holder[at] = value
        elif type(value) in (list, tuple):
            holder[at] = made = [None] * len(value)
            todo += [(item, made, index, depth + 1) for index, item in enumerate(value)]
        elif type(value) is dict and all(type(name) in _SCALARS for name in value):
            holder[at] = by_name = dict.fromkeys(value)
            todo += [(item, by_name, name, depth + 1) for name, item in value.items()]
        elif isinstance(value, os.PathLike):
            holder[at] = Path(value)
        else:
            raise refused(
                f"found {shown(value)}, wanted a value as YAML has them: a text, number, list, mapping ..."
            )
    return root[0]


_SCALARS = frozenset({type(None), bool, int, float, str})
