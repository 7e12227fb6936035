"""A manager's memory with a limit: of the values that are stored, it lets go what was used longest ago."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache

from smm._text import size as size_text
from smm.metric import Record

T = TypeVar("T")

_ENTRY = 512
"""Bytes that an entry takes besides its value: its name, its record, its places in the tables."""
_HEADER = sys.getsizeof(np.empty(0))
_NUMBERS = frozenset({type(None), bool, int, float, complex})
_SHARED_FROM = 512
"""Bytes from which on a thing that occurs twice in a value is counted once."""


def weight(value: Any) -> int:
    """About how many bytes of memory a value takes, whatever it is made of and however deep it is nested.

    An array counts with the memory it is a view of, once within the value. An object of an unknown class is
    asked for its size, without what it refers to.
    """
    total = 0
    seen: set[int] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, np.ndarray):
            total += _HEADER
            root: Any = item
            while isinstance(root.base, np.ndarray):
                root = root.base
            size = root.nbytes
        else:
            root, size = item, sys.getsizeof(item, _HEADER)
        holds_others = isinstance(item, list | tuple | dict | set | frozenset)
        if holds_others or size >= _SHARED_FROM:
            if id(root) in seen:
                continue
            seen.add(id(root))
        total += size
        if isinstance(item, dict):
            todo += item.keys()
            todo += item.values()
        elif holds_others and _NUMBERS.issuperset(map(type, item)):
            total += sum(map(sys.getsizeof, item))  # a long list of numbers, at the speed of C
        elif holds_others:
            todo += item
        elif isinstance(item, np.ndarray) and item.dtype.kind == "O":
            todo += item.ravel().tolist()
    return total


class _Entry(NamedTuple):
    value: Any
    record: Record | str | None
    size: int = 0
    """Unsaved values are not weighed."""


_Cache: TypeAlias = "LRUCache[str, _Entry]"


class BoundedMemory(MutableMapping[str, Any]):
    """Values by metric name: those that are unsaved, and of the others as many as the limit allows.

    Unsaved values are never let go and count for nothing. A value that exceeds the limit by itself is not
    kept. May be shared by many threads, and used by a signal handler at any point.

    Args:
        limit: bytes, together with what an entry takes besides its value.
        unsaved: the names that no storage holds yet. After a change of it, `place` is called.
    """

    def __init__(self, limit: int, unsaved: AbstractSet[str]) -> None:
        self.limit = limit
        self._unsaved = unsaved
        self._held: dict[str, _Entry] = {}  # the unsaved values; a dict, since each use of it is one step
        self._kept = self._empty()
        # cachetools' caches know no threads, and even to look something up changes the order in them.
        # Reentrant, because a signal handler or a finalizer may ask for a metric at any point.
        self._lock = threading.RLock()
        self._busy = False  # in the middle of an operation on `_kept`
        self._disturbed = False  # by a handler that came in the middle, and had something to change
        self._torn = False  # `_kept` is half changed
        _memories[id(self)] = self

    @property
    def size(self) -> int:
        """Bytes, of all but the unsaved values; never more than `limit`."""
        with self._lock:
            return int(self._look(lambda kept: kept.currsize) or 0)

    # --- what a manager needs besides a mapping ---------------------------------------------------------

    def remember(self, name: str, value: Any, record: Record | str | None) -> None:
        """Keep a value with its record."""
        # Outside of the lock: a large value takes its time.
        size = None if name in self._unsaved else _ENTRY + weight(value)
        with self._lock:
            if size is None or name in self._unsaved:
                self._hold(name, _Entry(value, record))
            else:
                self._keep(name, _Entry(value, record, size))
        # Among them this one, if it was saved meanwhile, and those whose `place` an interrupt has prevented.
        for stray in self._held.keys() - self._unsaved:
            self.place(stray)

    def record(self, name: str) -> Record | str | None:
        """What `remember` was given with the value."""
        with self._lock:
            entry = self._entry(name)
        return None if entry is None else entry.record

    def place(self, name: str) -> None:
        """Take a value that is saved now among those that may be let go, or one that is unsaved now out."""
        held = self._held.get(name)
        if name in self._unsaved:
            with self._lock:
                entry = self._entry(name)
                if entry is not None and name in self._unsaved:
                    self._hold(name, entry)
        elif held is not None:
            size = _ENTRY + weight(held.value)
            with self._lock:
                if name not in self._unsaved and self._held.get(name) is held:
                    self._keep(name, held._replace(size=size))

    def _entry(self, name: str) -> _Entry | None:
        return self._held.get(name) or self._look(lambda kept: kept.get(name))

    def _hold(self, name: str, entry: _Entry) -> None:
        self._held[name] = entry  # first: there is no moment in which it is nowhere
        self._change(lambda kept: kept.pop(name, None))

    def _keep(self, name: str, entry: _Entry) -> None:
        def renew(kept: _Cache) -> None:
            kept.pop(name, None)
            if entry.size <= self.limit:
                kept[name] = entry  # lets others go

        try:
            self._change(renew)
        finally:
            self._held.pop(name, None)

    # --- the stored values, whole or not at all ---------------------------------------------------------
    # Ctrl-C and signal handlers come between any two calls, those of cachetools too. What is cut in the
    # middle is thrown away as a whole, before it is used again: all of it is stored. A handler that comes in
    # the middle finds nothing, and if it has something to change, the same happens.

    def _look(self, operation: Callable[[_Cache], T]) -> T | None:
        return None if self._busy else self._whole(operation)

    def _change(self, operation: Callable[[_Cache], T]) -> T | None:
        if self._busy:
            self._disturbed = True
            return None
        return self._whole(operation)

    def _whole(self, operation: Callable[[_Cache], T]) -> T:
        try:
            self._busy = True
            if self._torn:
                self._kept = self._empty()
            self._torn = True
            result = operation(self._kept)
            self._torn = self._disturbed
            return result
        finally:
            self._busy = self._disturbed = False

    def _empty(self) -> _Cache:
        return LRUCache(self.limit, getsizeof=lambda entry: entry.size)

    def _after_fork(self) -> None:
        """In a forked child: threads that were in the middle of something are no more."""
        self._lock = threading.RLock()
        self._busy = self._disturbed = False  # `_torn` says whether there was such a thread

    # --- the mapping ------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        with self._lock:
            entry = self._entry(name)
        if entry is None:
            raise KeyError(name)
        return entry.value

    def __setitem__(self, name: str, value: Any) -> None:
        self.remember(name, value, None)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __contains__(self, name: object) -> bool:
        with self._lock:
            return name in self._held or bool(self._look(lambda kept: name in kept))

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(dict.fromkeys([*self._held, *(self._look(list) or ())])))

    def __len__(self) -> int:
        return sum(1 for _ in self)  # `list` would ask for the length first

    def pop(self, name: str, *default: Any) -> Any:
        """As of a dict, in one step."""
        with self._lock:
            kept = self._change(lambda kept: kept.pop(name, None))
            entry = self._held.pop(name, kept)
        if entry is not None:
            return entry.value
        if default:
            return default[0]
        raise KeyError(name)

    def clear(self) -> None:
        """Empty it, unsaved values too."""
        with self._lock:
            self._held.clear()
            self._change(lambda kept: kept.clear())

    def __repr__(self) -> str:
        return f"<{len(self)} values, {size_text(self.size)} of at most {size_text(self.limit)}>"


_memories: WeakValueDictionary[int, BoundedMemory] = WeakValueDictionary()


def _free_all() -> None:
    for memory in _memories.values():
        memory._after_fork()


os.register_at_fork(after_in_child=_free_all)
