"""Where the values of a configuration stand in its file: lines and columns, beside the plain data."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias

Mark: TypeAlias = int
"""A line and a column, both from 0, in one integer: `line << 32 | column`."""

NO_MARK: Mark = -1
"""The place of what no file holds."""


class Places:
    """Where a list or mapping and everything in it stands: a tree beside the plain data.

    It is kept apart from the data so that the data are plain lists and dicts for whoever gets them.
    """

    __slots__ = ("items", "keys", "mark")

    def __init__(self, mark: Mark, items: Any, keys: dict[Any, Mark]) -> None:
        self.mark = mark
        self.items = items
        """A list or dict beside the data's: Places for what is a list or mapping, else a Mark."""
        self.keys = keys
        """Where each key of a mapping stands."""


Place: TypeAlias = Places | Mark


def find(place: Place, keys: tuple[Hashable, ...], *, at_key: bool = False) -> Mark:
    """The mark of what `keys` lead to, or of the nearest thing above it.

    Args:
        place: of the value the keys begin at.
        keys: from there downward.
        at_key: the last of the keys itself is meant instead of its value.
    """
    for index, key in enumerate(keys):
        if not isinstance(place, Places):
            return place
        if at_key and index == len(keys) - 1 and key in place.keys:
            return place.keys[key]
        try:
            place = place.items[key]
        except (KeyError, IndexError, TypeError):
            break
    return place.mark if isinstance(place, Places) else place


def line_and_column(mark: Mark) -> tuple[int, int]:
    """Both counted from 1; `(0, 0)` for NO_MARK."""
    return (0, 0) if mark == NO_MARK else ((mark >> 32) + 1, (mark & 0xFFFFFFFF) + 1)
