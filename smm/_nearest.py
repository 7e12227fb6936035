"""Which declared row a person most likely meant by a call that no row declares."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from smm._encoding import short


class HasKey(Protocol):
    """A call, of which only the key is looked at."""

    key: tuple[Any, ...]


C = TypeVar("C", bound=HasKey)


def nearest(call: C, others: Iterable[C]) -> C | None:
    """The call that a person most likely meant, the first of several; None if there are no others.

    Fewest different params first, then numbers by their ratio and words by how they begin.
    """
    return min(others, key=lambda other: _distance(call, other), default=None)


def _distance(one: HasKey, other: HasKey) -> float:
    (kinds, marks), (other_kinds, other_marks) = one.key, other.key
    apart = 2.0 * abs(len(kinds) - len(other_kinds))
    for kind, mark, other_kind, other_mark in zip(kinds, marks, other_kinds, other_marks, strict=False):
        if kind is not other_kind or mark != other_mark:
            apart += 1 + _unlikeness(mark, other_mark)
    return apart


def _unlikeness(one: object, other: object) -> float:
    """From 0 (`1` and `1.0`) to 1 (nothing in common)."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        try:
            ratio = abs(one - other) / (abs(one) + abs(other)) if one != other else 0.0
        except OverflowError:
            return 1.0
        return ratio if ratio <= 1 else 1.0  # nan where one is infinite
    text, other_text = (value if isinstance(value, str) else short(value) for value in (one, other))
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(text, other_text, strict=False))
    return 1 - sum(1 for _ in alike) / max(len(text), len(other_text), 1)
