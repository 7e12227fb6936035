"""How a metric's value comes about: from memory, else from the storage, else computed, stored and dated."""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smm import _flights
from smm._flights import Flight
from smm._shelf import Shelf, copied, new_record
from smm._text import seconds
from smm._tree import Refused, freeze, hand_out
from smm.collect import Row
from smm.errors import (
    CorruptMetricError,
    MetricNotStoredError,
    NameClashError,
    SmmWarning,
    UnknownMetricError,
    UnstorableError,
    closest,
)
from smm.identity import check_base_name
from smm.metric import Record
from smm.protocols import SIDECAR, StorageInterface

if TYPE_CHECKING:
    from smm._memory import BoundedMemory

log = logging.getLogger("smm")

hushed: ContextVar[bool] = ContextVar("smm_hushed", default=False)
"""Whether a run tells how far it is, in place of the lines that `verbose` means."""


class Serving:
    """Metric names to values, over functions without arguments, a memory cache and one storage.

    May be shared by many threads: each metric is computed by one of them, different ones at the same time.
    Processes on the same folder count as such threads.
    """

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
        self.read_only = read_only
        self.memory_limit = memory_limit
        """Bytes that `cache` may take, unsaved values aside; None for no limit."""
        self.functions_dict: dict[str, Callable[[], Any]] = {}
        """What computes each declared metric; an entry put here is used from then on."""
        self._shelf = Shelf(storage_interface)
        self._records: dict[str, Record] = {}  # of what is in `cache`, unless that keeps them itself
        self._unsaved: set[str] = set()  # names in `cache` that no storage holds yet
        self._bounded: BoundedMemory | None = None  # `cache`, if it has a limit
        if memory_limit is not None:
            from smm._memory import BoundedMemory  # most managers have none, and need no cachetools

            self._bounded = BoundedMemory(memory_limit, self._unsaved)
        self.cache: MutableMapping[str, Any] = {} if self._bounded is None else self._bounded
        """Canonical values by metric name; callers get views or copies of these."""
        self._warned: set[str] = set()

    # --- looking ----------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the metric is in memory, or stored with its side-car. Opens no data."""
        if name in self.cache:
            return True
        if _is_sidecar(name):
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

    # --- serving ----------------------------------------------------------------------------------------

    def get(self, name: str, use_stored: bool = True, *, verbose: bool | None = None) -> Any:
        """The metric's value: from memory, else from the storage, else computed and stored.

        Fills memory and storage. A memory hit touches no disk. `use_stored=False` computes again and replaces
        both; if that fails, the old value and date stay.

        Raises:
            UnknownMetricError: neither stored nor declared.
            CircularMetricError: the metric reads itself.
            UnstorableError: the storage refuses the value, which the exception carries as `.value`.
            OSError: the value could not be stored; it stays in memory, and `save` tries again.
            Exception: what the metric's function raised, itself, with a note naming the metric.
        """
        return self.serve(name, None, use_stored=use_stored, verbose=verbose)

    def serve(
        self,
        name: str,
        row: Callable[[], Any] | None,
        *,
        use_stored: bool = True,
        verbose: bool | None = None,
    ) -> Any:
        """`get`, computed by `row` in place of the `functions_dict` entry if one is given."""
        if use_stored and name not in self._unsaved:
            value = self.cache.get(name, _ABSENT)
            if value is not _ABSENT:
                _flights.refuse_circle((self._shelf.space, name), name)
                return self._give(value)
        return self._give(self._settle(name, row, use_stored, verbose)[0])

    def save(self, name: str, force: bool = False, *, verbose: bool | None = None) -> Any:
        """Bring the metric to the storage, and return its value; a stored one stays as it is.

        Fills memory and storage. `force` computes again and replaces both.

        Raises:
            As `get`.
        """
        if not force and name in self.cache and not self._shelf.exists(name):
            self._set_unsaved(name, True)  # its files were taken away: what memory has is stored again
        return self._give(self._settle(name, None, not force, verbose)[0])

    def load(self, name: str, force: bool = False, *, verbose: bool | None = None) -> Any:
        """The metric's value from memory, else from the storage; computes nothing.

        Fills memory. `force` reads the storage again. `load("x_date")` is the date of `x` as ISO 8601 text.

        Raises:
            MetricNotStoredError: it is nowhere.
            CorruptMetricError: the stored bytes are damaged.
        """
        value = _ABSENT if force else self.cache.get(name, _ABSENT)
        if value is not _ABSENT:
            return self._give(value)
        if _is_sidecar(name) and name not in self.functions_dict:
            metric = name.removesuffix(SIDECAR)
            self.record(metric)
            return self._shelf.date_text(metric)
        row = self.functions_dict.get(name)
        value = self._undamaged(name, row, verbose)
        if value is _ABSENT:
            value = self._look_again(name, row, verbose)
        if value is _ABSENT:
            raise self._not_stored(name)
        return self._give(value)

    def compute(self, name: str, force: bool = False, *, verbose: bool | None = None) -> Any:
        """The metric's value from memory, else computed; the storage is neither read nor written.

        Fills memory; the value counts as unsaved until a `get` or `save` stores it. `force` computes again.

        Raises:
            As `get`, without OSError.
        """
        with self._flight(name, verbose) as flight:
            value = _ABSENT if force else self.cache.get(name, _ABSENT)
            if value is _ABSENT:
                if not force:
                    _raise_shared(flight)
                row = self.functions_dict.get(name)
                if row is None:
                    raise self._unknown(name)
                check_base_name(name)
                value, _ = self._compute(name, row, flight, verbose)
            return self._give(value)

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

    # --- how a value comes about ------------------------------------------------------------------------
    # Between two metrics of a chain lie the frames of `serve`, `_settle`, `_compute` and the row's: no more,
    # so that a chain of a hundred metrics stays far from Python's recursion limit.

    def _settle(
        self, name: str, row: Callable[[], Any] | None, use_stored: bool, verbose: bool | None
    ) -> tuple[Any, bool]:
        """The canonical value, brought to memory and storage by whoever comes first; others wait for it.

        And whether this call computed it.
        """
        with self._flight(name, verbose) as flight:
            row = row or self.functions_dict.get(name)
            if use_stored:
                value = self._present(name, row, verbose)
                if value is not _ABSENT:
                    return value, False
                _raise_shared(flight)
            if row is not None:
                return self._made(name, row, flight, use_stored, verbose)
        value = self._look_again(name, None, verbose) if use_stored else _ABSENT
        if value is _ABSENT:
            raise self._unknown(name)
        return value, False

    def _made(
        self, name: str, row: Callable[[], Any], flight: Flight, use_stored: bool, verbose: bool | None
    ) -> tuple[Any, bool]:
        """The canonical value, computed and stored unless another process was quicker; whether it was not."""
        check_base_name(name)  # an entry put into functions_dict by hand was not seen before
        self._shelf.check(name)
        with self._lock(name, verbose):
            if use_stored:
                try:
                    value = self._present(name, row, verbose, sure=True)
                except CorruptMetricError as error:
                    self._warn_of_damage(name, error)
                    value = _ABSENT
                if value is not _ABSENT:
                    return value, False
            else:
                self._check_record(name, row, self._shelf.record(name))
            kept = self._kept_unsaved(name) if use_stored else None
            value, record = kept or self._compute(name, row, flight, verbose)
            return self._store(name, value, record, verbose), kept is None

    def _present(
        self, name: str, row: Callable[[], Any] | None, verbose: bool | None, *, sure: bool = False
    ) -> Any:
        """The value if nothing needs to be computed or stored. `sure`: nobody else is replacing the pair."""
        if name in self._unsaved:
            return _ABSENT
        value = self.cache.get(name, _ABSENT)
        if value is not _ABSENT:
            return value
        return self._from_storage(name, row, verbose) if sure else self._undamaged(name, row, verbose)

    def _undamaged(self, name: str, row: Callable[[], Any] | None, verbose: bool | None) -> Any:
        """The stored value, read without a lock: what looks damaged may be one pair's record, another's data.

        Who finds it absent takes the lock and looks again.
        """
        try:
            return self._from_storage(name, row, verbose)
        except CorruptMetricError:
            return _ABSENT

    def _warn_of_damage(self, name: str, error: CorruptMetricError) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(f"{error}: doing that now", SmmWarning, stacklevel=2)

    def _kept_unsaved(self, name: str) -> tuple[Any, Record] | None:
        """What memory has and the storage has not."""
        value = self.cache.get(name, _ABSENT) if name in self._unsaved else _ABSENT
        if value is _ABSENT:
            return None
        record = self._records.get(name) if self._bounded is None else self._bounded.record(name)
        return value, record or new_record(name)  # someone may fill `cache` by hand

    def _from_storage(self, name: str, row: Callable[[], Any] | None, verbose: bool | None) -> Any:
        """Read the pair into memory; absent if it is not stored or not finished."""
        pair = self._shelf.read(name)
        if pair is None:
            return _ABSENT
        value, record = pair
        self._check_record(name, row or self.functions_dict.get(name), record)
        self._say(verbose, f"Load {name}, computed on {record.date:%Y-%m-%d %H:%M}")
        self._set_unsaved(name, False)
        return self._remember(name, value, record)

    def _look_again(self, name: str, row: Callable[[], Any] | None, verbose: bool | None) -> Any:
        """Data without a side-car may be in the middle of a publication, whose writer has the lock."""
        if not self.storage_interface.exists(name):
            return _ABSENT
        with self._flight(name, verbose), self._lock(name, verbose):
            return self._from_storage(name, row, verbose)

    def _compute(
        self, name: str, row: Callable[[], Any], flight: Flight, verbose: bool | None
    ) -> tuple[Any, Record]:
        """Call the metric's function and keep its canonical value in memory, unsaved."""
        self._say(verbose, f"Compute {name}")
        started = time.perf_counter()
        data: Any = _ABSENT
        try:
            data = row()
            duration = time.perf_counter() - started
            value = self._shelf.canonical(name, data)
        except BaseException as error:
            flight.failure = error
            if isinstance(error, UnstorableError) and data is not _ABSENT:
                error.value = data
            else:
                error.add_note(f"while computing metric {name!r}")
            raise
        base_name, params = (row.rows.base_name, row.noted_params()) if isinstance(row, Row) else (None, None)
        record = new_record(name, base_name=base_name, params=params, duration_seconds=duration)
        self._set_unsaved(name, True)  # first: who sees the value in memory must see that it is not stored
        value = self._remember(name, value, record)
        self._say(verbose, f"Completed {name} in {seconds(duration)}")
        return value, record

    def _store(self, name: str, value: Any, record: Record, verbose: bool | None) -> Any:
        """Publish the pair, and return the value as the storage gives it back."""
        self._say(verbose, f"Save {name}")
        try:
            stored = self._shelf.write(name, value, record)
        except UnstorableError as error:
            error.value = value
            self._drop(name)
            raise
        except OSError as error:
            error.add_note(f"the value of {name!r} is in memory, unsaved: CM.save({name!r}) tries again")
            raise
        # In this order: who sees a saved value sees the one that the storage gives back.
        value = self._remember(name, stored, record)
        self._set_unsaved(name, False)
        return value

    def _remember(self, name: str, value: Any, record: Record) -> Any:
        with contextlib.suppress(Refused):  # then `_give` copies it whole
            value = freeze(value)
        if self._bounded is not None:
            self._bounded.remember(name, value, record)
        else:
            self._records[name] = record
            self.cache[name] = value
        return value

    def _set_unsaved(self, name: str, unsaved: bool) -> None:
        if unsaved:
            self._unsaved.add(name)
        else:
            self._unsaved.discard(name)
        if self._bounded is not None:
            self._bounded.place(name)

    def _give(self, value: Any) -> Any:
        try:
            return hand_out(value, writable=not self.read_only)
        except Refused:  # a class of the user's may store what smm's own storages do not know
            return copied(value)

    def _check_record(self, name: str, row: Callable[[], Any] | None, record: Record | None) -> None:
        """Refuse to serve, or to replace, what other params have stored under the same name."""
        if record is None or record.params is None or not isinstance(row, Row):
            return
        expected = row.noted_params()
        if record.base_name != row.rows.base_name or _values(record.params) != _values(expected):
            raise NameClashError(
                base_name=row.rows.base_name,
                reason=f"{row!r} would take the name {name!r}, under which {self._shelf.where} holds "
                f"{record.base_name} with params {dict(record.params)}; rename one of the two",
            )

    def _flight(self, name: str, verbose: bool | None) -> Flight:
        return _flights.enter((self._shelf.space, name), name, waiting=lambda line: self._say(verbose, line))

    def _lock(self, name: str, verbose: bool | None) -> AbstractContextManager[object]:
        return self._shelf.lock(name, waiting=lambda line: self._say(verbose, line))

    def _unknown(self, name: str) -> UnknownMetricError:
        stored = self._shelf.exists(name)
        return UnknownMetricError(name=name, stored=stored, hint=closest(name, self.functions_dict))

    def _not_stored(self, name: str) -> MetricNotStoredError:
        if name in self.cache:
            unsaved = ", unsaved" if name in self._unsaved else ""
            detail = f"it is in memory{unsaved}: CM.save({name!r}) stores that value"
        elif not _is_sidecar(name) and self.storage_interface.exists(name):
            detail = "its data is there without a side-car: it was never finished"
        else:
            known = name in self.functions_dict
            detail = "" if known else closest(name, self.functions_dict).removeprefix("; ")
        return MetricNotStoredError(name=name, where=self._shelf.where, detail=detail)

    def _say(self, verbose: bool | None, line: str) -> None:
        log.info("%s", line)
        if (self.verbose and not hushed.get()) if verbose is None else verbose:
            print(line)  # noqa: T201 - what `verbose` promises

    def _drop(self, name: str) -> None:
        self.cache.pop(name, None)
        self._records.pop(name, None)
        self._unsaved.discard(name)


class _Absent(enum.Enum):
    """No value; None is a value."""

    ABSENT = enum.auto()


_ABSENT = _Absent.ABSENT


def _is_sidecar(name: str) -> bool:
    return name.endswith(SIDECAR)


def _values(params: Mapping[str, Any]) -> str:
    """What identifies a call whatever its arguments are called; as text, since 1 == 1.0 == True."""
    return json.dumps(list(params.values()))


def _raise_shared(flight: Flight) -> None:
    """Who waited for a computation that failed gets its exception; not another thread's Ctrl-C."""
    if isinstance(flight.previous, Exception):
        raise flight.previous
