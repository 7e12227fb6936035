"""What a manager holds: a memory, one storage, and what is asked of them without computing."""

from __future__ import annotations

import enum
import functools
import sys
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smm import _flights, _warm
from smm._flights import Flight
from smm._hidden_frames import HiddenFrames
from smm._reloads import on_reload
from smm._shelf import Shelf, copied, new_record
from smm._staleness import Staleness
from smm._text import visible
from smm._tree import PYTHON_ATOMS, Refused, freeze, hand_out
from smm._warn import warn_user
from smm.collect import Row
from smm.errors import ChangedInMemoryError, MetricNotStoredError, closest
from smm.metric import Read, Record, SideCar, read_to_text
from smm.protocols import SIDECAR, StorageInterface

if TYPE_CHECKING:
    from smm._memory import BoundedMemory

hushed: ContextVar[bool] = ContextVar("smm_hushed", default=False)
"""Whether a run tells how far it is, in place of the lines that `verbose` means."""


class _Absent(enum.Enum):
    """No value; None is a value."""

    ABSENT = enum.auto()


ABSENT = _Absent.ABSENT


class Keeping:
    """A memory of canonical values over one storage, for functions without arguments by metric name."""

    def __init__(
        self,
        storage_interface: StorageInterface,
        *,
        verbose: bool,
        read_only: bool,
        memory_limit: int | None = None,
    ) -> None:
        self.storage_interface = storage_interface
        self.verbose = verbose
        self.hidden_frames = HiddenFrames()
        """Whether IPython and pytest leave out smm's own frames; set by `show_internal_frames`."""
        self.read_only = read_only
        self.memory_limit = memory_limit
        """Bytes that `cache` may take, unsaved values aside; None for no limit."""
        self.functions_dict: dict[str, Callable[[], Any]] = {}
        """What computes each declared metric; an entry put here is used from then on."""
        self._shelf = Shelf(storage_interface)
        self._staleness = Staleness(self.functions_dict, self._shelf.sidecar, self._drop_saved)
        # Of what is in `cache`, unless that keeps them itself; as the side-car's text if it comes from there.
        self._records: dict[str, Record | str] = {}
        self._unsaved: set[str] = set()  # names in `cache` that no storage holds yet
        self._refused: set[str] = set()  # of these, those that the storage has refused
        self._readers: set[str] = set()  # names in `cache` whose values were computed from others
        self._sums: dict[str, tuple[int, int]] = {}  # by name: the id of a value, the sum over its arrays
        self._changes = 0  # how often a value was replaced by another one
        self._bounded: BoundedMemory | None = None  # `cache`, if it has a limit
        self._unbounded = _warm.Cache()  # else
        self._cells = self._unbounded.cells
        """What calls may have without asking (`smm._warm`); empty ones if there is a limit."""
        if memory_limit is not None:
            from smm._memory import BoundedMemory  # most managers have none, and need no cachetools

            self._bounded = BoundedMemory(memory_limit, self._unsaved)
        self.cache: MutableMapping[str, Any] = self._unbounded if self._bounded is None else self._bounded
        """Canonical values by metric name; callers get views or copies of these."""
        self._warned: set[str] = set()
        self._warned_of_reads: set[str] = set()
        on_reload(self._unbounded.unready_all)

    # --- looking ----------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the metric is in memory, or stored with its side-car. Opens no data."""
        if name in self.cache:
            return True
        if is_sidecar(name):
            return self._shelf.record(name.removesuffix(SIDECAR)) is not None
        return self._shelf.exists(name)

    def record(self, name: str) -> Record:
        """What the side-car says, read from the storage.

        Raises:
            MetricNotStoredError: the metric is not stored, even if it is in memory.
        """
        exists = self.storage_interface.exists(name)
        record = self._shelf.record(name) if exists else None
        if exists and record is None:  # perhaps in the middle of a publication, whose writer has the lock
            with self._flight(name, None), self._lock(name, None):
                record = self._shelf.record(name)
        if record is None:
            raise self._not_stored(name)
        return record

    def date(self, name: str) -> datetime:
        """When the stored value's computation ended: aware, UTC. The predecessor's dates are midnights.

        Raises:
            MetricNotStoredError: the metric is not stored, even if it is in memory.
        """
        return self.record(name).date

    # --- removing ---------------------------------------------------------------------------------------

    def delete(self, name: str, *, verbose: bool | None = None) -> None:
        """Remove the metric from memory and its data and side-car from the storage.

        Raises:
            MetricNotStoredError: it is nowhere.
            StorageAbilityError: the storage has no `delete`.
        """
        with self._flight(name, verbose):
            if self.storage_interface.exists(name):
                self._say(verbose, f"Delete {name}")
                with self._lock(name, verbose):
                    self._shelf.delete(name)
                self._drop_readers()
            elif name not in self.cache:
                raise self._not_stored(name)
            self._drop(name)

    def clear_cache(self) -> None:
        """Empty the memory cache, unsaved values with it. The storage is untouched."""
        unsaved = list(self._unsaved)
        self.cache.clear()
        self._records.clear()
        for name in unsaved:
            if name not in self.cache:  # else another thread has just computed it: it is not saved
                self._unsaved.discard(name)
                self._refused.discard(name)

    # --- memory -----------------------------------------------------------------------------------------

    def _cell(self, name: str) -> _warm.Cell:
        """Where the quickest calls look for the value of a metric."""
        return self._unbounded.cell(name)

    def _remember(self, name: str, value: Any, record: Record | SideCar, mark: int | None = None) -> Any:
        """Keep a value in memory, made read-only, and return it.

        With a `mark` of `_flights.calm`, nothing is kept and ABSENT returned, if any flight has begun
        since: it may have brought a newer value, or deleted this one.
        """
        if type(value) not in PYTHON_ATOMS:
            value = _frozen(value)
        if mark is None:
            return self._keep(name, value, record)
        with _flights.beginnings():
            return self._keep(name, value, record) if _flights.still_calm(mark) else ABSENT

    def _keep(self, name: str, value: Any, record: Record | SideCar) -> Any:
        if not record.reads_nothing:
            self._readers.add(name)
        self._sums.pop(name, None)
        noted = record.text if isinstance(record, SideCar) else record
        if self._bounded is not None:
            self._bounded.remember(name, value, noted)
        else:
            self._records[name] = noted
            self.cache[name] = value
        return value

    def _set_unsaved(self, name: str, unsaved: bool) -> None:
        if unsaved:
            self._unsaved.add(name)
            self._unbounded.unready(name)
        else:
            self._unsaved.discard(name)
            self._refused.discard(name)
        if self._bounded is not None:
            self._bounded.place(name)

    def _drop(self, name: str) -> None:
        self.cache.pop(name, None)
        self._records.pop(name, None)
        self._unsaved.discard(name)
        self._refused.discard(name)

    def _drop_saved(self, name: str) -> None:
        """Let a value leave memory that the storage has; an unsaved one stays."""
        if name in self._unsaved or name not in self.cache:
            return
        value, record = self.cache.pop(name, ABSENT), self._record_in_memory(name)
        if value is not ABSENT and name in self._unsaved:  # computed by another thread in between
            self._keep(name, value, record or new_record(name))

    def _drop_readers(self) -> None:
        """Let all values leave memory that were computed from other metrics: one of these has changed.

        They are judged when they are read from the storage the next time.
        """
        self._changes += 1
        readers, self._readers = self._readers, set()
        for name in readers:
            self._drop_saved(name)

    def _drop_outdated(self) -> None:
        """Let values leave memory whose code may have changed since they came into it."""
        other = self._staleness.metrics_with_other_code()
        if not other:
            return
        for name in list(self.cache):
            row = self.functions_dict.get(name)
            if (row.rows.base_name if isinstance(row, Row) else name) in other:
                self._drop_saved(name)
        self._drop_readers()

    def _give(self, name: str, value: Any) -> Any:
        is_read = bool(_warm.in_flight) and self._note_read(name)
        if type(value) in PYTHON_ATOMS:
            return value
        if is_read and "numpy" in sys.modules:
            value = self._unchanged(name, value)
        try:
            return hand_out(value, writable=not self.read_only)
        except Refused:  # a class of the user's may store what smm's own storages do not know
            return copied(value)

    def _unchanged(self, name: str, value: Any) -> Any:
        """Return a value that a metric reads, read again from the storage if its arrays were written into.

        The check sum is taken when the value is first read by a metric.

        Warns:
            SmmWarning: they were.

        Raises:
            ChangedInMemoryError: they were, and no storage holds the value as it was.
        """
        from smm import _array_sums

        if not _array_sums.are_needed():
            return value
        noted, now = self._sums.get(name), _array_sums.sum_of(value)
        if noted is None or noted[0] != id(value):
            self._sums[name] = id(value), now
        elif noted[1] != now:
            pair = None if name in self._unsaved else self._shelf.read(name)
            if pair is None:
                raise ChangedInMemoryError(name=name)
            value = self._remember(name, *pair)
            warn_user(
                f"something has written into the read-only arrays of metric {name!r} in memory, as numpy "
                "before 2.5 lets np.add.at and the like do; it is read from the storage again. Give these "
                "functions a .copy()"
            )
        return value

    def _note_read(self, name: str) -> bool:
        """Note a read on the metrics that are being computed and may have asked; True if there are any."""
        readers = _flights.readers()
        record = (self._record_in_memory(name) or self._shelf.record(name)) if readers else None
        if record is None:
            return bool(readers)
        for reader in readers:
            store = None if reader.key[0] == self._shelf.space else self._shelf.where
            read = Read(name=name, date=record.changed, store=store)
            reader.note_read((store, name), read, read_to_text(read))
        return True

    def _record_in_memory(self, name: str) -> Record | None:
        """Of the value that memory has, if that did not come into it by hand."""
        record = self._records.get(name) if self._bounded is None else self._bounded.record(name)
        return Record.from_json(name, record) if isinstance(record, str) else record

    # --- helpers ----------------------------------------------------------------------------------------

    def _check_record(
        self, name: str, row: Callable[[], Any] | None, record: Record | SideCar | None
    ) -> None:
        """Refuse to serve, or to replace, what other params have stored under the same name."""
        if record is not None and isinstance(row, Row):
            row.check_record(name, record, self._shelf.where)

    def _flight(self, name: str, verbose: bool | None) -> Flight:
        return _flights.enter((self._shelf.space, name), name, waiting=lambda line: self._say(verbose, line))

    def _lock(self, name: str, verbose: bool | None) -> AbstractContextManager[object]:
        return self._shelf.lock(name, waiting=lambda line: self._say(verbose, line))

    def _not_stored(self, name: str) -> MetricNotStoredError:
        is_declared = name in self.functions_dict
        if name in self.cache:
            detail = "it is in memory, unsaved" if name in self._unsaved else "it is in memory"
        elif not is_sidecar(name) and self.storage_interface.exists(name):
            detail = "its data is there without a side-car: it was never finished"
        else:
            detail = "" if is_declared else closest(name, self.functions_dict).removeprefix("; ")
        return MetricNotStoredError(
            name=name,
            where=self._shelf.where,
            detail=detail,
            in_memory=name in self.cache,
            declared=is_declared,
            rows=self._rows_under(name),
        )

    def _rows_under(self, base_name: str) -> Sequence[str] | None:
        """Return the metric names of the rows under a base name that is no metric's name; None for others."""
        del base_name  # a manager that knows rows overrides this
        return None

    def _say(self, verbose: bool | None, line: str, *values: object) -> None:
        """Tell of an action; `values` go into the line if there is anybody to read it."""
        if not self._tells(verbose):
            return
        line = visible(line.format(*values) if values else line)
        if _is_logging():
            _log().info("%s", line)
        if self._shows(verbose):
            print(line)  # noqa: T201 - what `verbose` promises

    def _tells(self, verbose: bool | None) -> bool:
        """Whether there is anybody to read what is done."""
        return self._shows(verbose) or _is_logging()

    def _shows(self, verbose: bool | None) -> bool:
        return (self.verbose and not hushed.get()) if verbose is None else verbose


@functools.cache
def _log() -> Any:
    """The logger; asked for when someone has imported logging, without which nobody listens."""
    import logging

    return logging.getLogger("smm")


def _is_logging() -> bool:
    return "logging" in sys.modules and bool(_log().isEnabledFor(20))  # INFO


def _frozen(value: Any) -> Any:
    try:
        return freeze(value)
    except Refused:
        return value  # `_give` copies it whole


def is_sidecar(name: str) -> bool:
    """Whether a name is that of a side-car."""
    return name.endswith(SIDECAR)
