"""Two stores held against each other: which results moved, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from smm._compare import Change, Likeness, check_tolerance, compare
from smm._shelf import Shelf
from smm._stored import (
    Noted,
    Reading,
    Store,
    matching,
    names_with_data,
    noted,
    on_steady_pair,
    read,
    shelf_of,
)
from smm.metric import Record
from smm.protocols import RecordStorage

Outcome: TypeAlias = Likeness | Literal["only in A", "only in B", "unreadable"]

RTOL = 1e-9
"""The usual tolerance: what another version of a numerical library may well make."""

_RANK: Mapping[Outcome, int] = {
    "unreadable": 0,
    "different": 1,
    "beyond": 2,
    "only in A": 3,
    "only in B": 3,
    "within": 4,
    "same": 5,
}


@attrs.frozen(kw_only=True)
class Difference:
    """How one metric of store B differs from that of the same name in store A."""

    name: str
    outcome: Outcome
    """As `Change.likeness`; or that one store does not have it, or that a value cannot be read."""
    change: Change | None = None
    """Where and how much; None where there are not two values."""
    reason: str = ""
    """Why a value cannot be read."""
    base_name: str | None = None
    params: Mapping[str, Any] | None = None
    """By argument name, as the record has them; of A's record if B's has none."""

    @property
    def matters(self) -> bool:
        """Whether the two are not the same within the tolerance."""
        return self.outcome not in ("same", "within")


def diff(
    a: Store, b: Store, *, rtol: float = RTOL, atol: float = 0.0, names: Iterable[str] | None = None
) -> Iterator[Difference]:
    """Compare two stores, metric by metric, by name; holds one value of each at a time, in no cache.

    Two numbers are within the tolerance if they differ by at most `rtol` times the larger one of them, or by
    at most `atol`. nan equals nan, -0.0 equals 0.0, infinite numbers are compared exactly. Everything else
    must be equal, with types, dtypes and shapes.

    Args:
        a: a manager, a storage, or a folder of results in npz, npy or json.
        b: the other one.
        rtol: relative tolerance; 0 for none.
        atol: absolute tolerance.
        names: metric names, base names or globs; all that one of the two has by default.

    Raises:
        ValueError: a tolerance is none.
        UnknownMetricError: a name means nothing in either.
        TargetError: a folder holds no results, or results of several formats.
        StorageAbilityError: a storage cannot list what it has.
    """
    check_tolerance(rtol, atol)
    pair = _Pair(a, b)
    chosen = pair.names(names)
    made = (pair.difference(name, rtol=rtol, atol=atol) for name in chosen)
    return (one for one in made if one is not None)


def names_to_compare(a: Store, b: Store, patterns: Iterable[str] | None) -> list[str]:
    """The names that `diff` of the two comes to; raises as `diff`."""
    return _Pair(a, b).names(patterns)


def ranked(differences: Iterable[Difference]) -> list[Difference]:
    """What matters most first: what cannot be compared, then by relative change, then what one lacks."""
    return sorted(
        differences,
        key=lambda one: (_RANK[one.outcome], -_relative(one), one.name),
    )


def _relative(one: Difference) -> float:
    return (one.change.relative if one.change is not None else None) or 0.0


class _Pair:
    """Two stores, and what each has."""

    def __init__(self, a: Store, b: Store) -> None:
        self._stores = a, b
        self._shelves = shelf_of(a), shelf_of(b)
        self._names = tuple(map(_finished, self._stores, self._shelves))
        self._is_one_store = self._shelves[0].space == self._shelves[1].space

    def names(self, patterns: Iterable[str] | None) -> list[str]:
        """What patterns mean among all names that one of the two has; sorted."""
        return matching(self._names[0] | self._names[1], patterns, base_name=self._base_name)

    def _base_name(self, name: str) -> str | None:
        for shelf, names in zip(self._shelves, self._names, strict=True):
            record = noted(shelf, name).record if name in names else None
            if record is not None and record.base_name is not None:
                return record.base_name
        return None

    def difference(self, name: str, *, rtol: float, atol: float) -> Difference | None:
        """Compare one metric; None if both stores have just lost it."""
        one, other = (
            _found(shelf, name) if name in names else None
            for shelf, names in zip(self._shelves, self._names, strict=True)
        )
        if one is None and other is None:
            return None
        made = Difference(name=name, outcome="only in A" if other is None else "only in B")
        for found in (one, other):
            record = None if found is None else found.record
            if record is not None and record.params is not None:
                made = attrs.evolve(made, base_name=record.base_name, params=record.params)
        if one is None or other is None:
            return made
        pair = (("A", one.reading), ("B", other.reading))
        if reasons := [f"in {store}, {_reason(reading)}" for store, reading in pair if reading.trouble]:
            return attrs.evolve(made, outcome="unreadable", reason="; ".join(reasons))
        if self._is_one_store and one.record == other.record:
            change = Change(likeness="same")  # whatever its class takes two readings of one value for
        else:
            change = compare(one.reading.value, other.reading.value, rtol=rtol, atol=atol)
        return attrs.evolve(made, outcome=change.likeness, change=change)


def _finished(store: Store, shelf: Shelf) -> set[str]:
    """The names that count as stored; in a folder without any side-car, all that have data."""
    names = names_with_data(store, shelf)
    if isinstance(shelf.storage, RecordStorage):
        return shelf.storage.recorded() or names
    return names


def _reason(reading: Reading) -> str:
    return f"damaged: {reading.reason}" if reading.trouble == "damaged" else reading.reason


@attrs.frozen(kw_only=True)
class _Found:
    reading: Reading
    record: Record | None = None


def _found(shelf: Shelf, name: str) -> _Found | None:
    """A value and its record; None if it has just been deleted."""

    def look(seen: Noted) -> _Found | None:
        reading = read(shelf, name, None if seen.record is None else seen.record.data)
        return None if reading is None else _Found(reading=reading, record=seen.record)

    try:
        return on_steady_pair(shelf, name, look)
    except OSError as error:
        return _Found(reading=Reading(trouble="unreadable", reason=error.strerror or str(error)))
