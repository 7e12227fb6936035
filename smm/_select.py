"""Which metrics are meant: by name, by base name, by glob."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from smm.collect import Row
from smm.errors import UnknownMetricError, closest
from smm.protocols import RecordStorage


class Declaring(Protocol):
    """What is asked of a manager here."""

    storage_interface: Any
    functions_dict: dict[str, Callable[[], Any]]
    dynamic_metric_creation: bool

    @property
    def waiting(self) -> tuple[str, ...]:
        """Base names declared without a function."""

    def exists(self, name: str) -> bool:
        """Whether the value is in memory, or stored with its side-car."""


def groups(manager: Declaring) -> dict[str, list[str]]:
    """The names of every declared row by base name, both in the order of declaration."""
    found: dict[str, list[str]] = {}
    for name, function in manager.functions_dict.items():
        base = function.rows.base_name if isinstance(function, Row) else name
        names = found.get(base)
        if names is None:
            names = found[base] = []
        names.append(name)
    return found


def base_names(manager: Declaring) -> dict[str, str]:
    """The base name of every declared row, by metric name."""
    return {name: base_name(manager, name) for name in manager.functions_dict}


def base_name(manager: Declaring, name: str) -> str:
    """Of a metric name: what it was collected under; the name itself if it was not collected."""
    function = manager.functions_dict.get(name)
    return function.rows.base_name if isinstance(function, Row) else name


def stored_names(manager: Declaring, names: Iterable[str] | None = None) -> set[str]:
    """Names that are stored with their side-car, by one listing of the folder.

    A storage that cannot list is asked for each of `names`, by default for each declared one.
    """
    storage = manager.storage_interface
    if isinstance(storage, RecordStorage):
        return storage.recorded()
    return {name for name in (manager.functions_dict if names is None else names) if manager.exists(name)}


def select(manager: Declaring, patterns: Sequence[str], *, among: Iterable[str] = ()) -> list[str]:
    """The names that patterns mean, in the order of declaration; all declared ones for no pattern.

    Args:
        manager: whose metrics.
        patterns: metric names, base names (for all their rows), or globs with `* ? [...]`. One that is a
            metric's name means that metric, even if it is another one's base name.
        among: further names that may be meant, such as stored ones.

    Raises:
        UnknownMetricError: a pattern means nothing; with the closest name.
    """
    by_base = groups(manager)
    if not patterns:
        return [name for names in by_base.values() for name in names]
    known = {**dict.fromkeys(manager.functions_dict), **dict.fromkeys(sorted(among))}
    chosen: set[str] = set()
    for pattern in patterns:
        meant = _meant(pattern, known, by_base)
        if not meant and pattern not in manager.waiting:
            raise UnknownMetricError(name=pattern, hint=closest(pattern, {**known, **by_base}))
        chosen |= meant
    return [name for name in known if name in chosen]


def _meant(pattern: str, known: Collection[str], by_base: Mapping[str, Sequence[str]]) -> set[str]:
    rows = by_base.get(pattern, ())
    if rows and (pattern in rows or pattern not in known):
        return set(rows)
    if pattern in known:
        return {pattern}
    if not set("*?[") & set(pattern):
        return set()
    matches = re.compile(fnmatch.translate(pattern)).match
    return {name for name in known if matches(name)}
