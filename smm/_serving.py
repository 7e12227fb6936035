"""How a metric's value comes about: from memory, else from the storage, else computed, stored and dated."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from smm import _flights, _warm
from smm._flights import Flight
from smm._keeping import ABSENT, Keeping, is_sidecar
from smm._shelf import copied, new_record, nobody_else_has
from smm._text import seconds
from smm._warn import warn_user
from smm.collect import Row
from smm.errors import (
    CorruptMetricError,
    UnknownMetricError,
    UnstorableError,
    closest,
)
from smm.identity import check_base_name
from smm.metric import Code, Read, Record, SideCar, read_from_text
from smm.protocols import SIDECAR


class Serving(Keeping):
    """Metric names to values, over functions without arguments, a memory cache and one storage.

    May be shared by many threads: each metric is computed by one of them, different ones at the same time.
    Processes on the same folder count as such threads.
    """

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
        __tracebackhide__ = self.hidden_frames
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
        __tracebackhide__ = self.hidden_frames
        if use_stored and name not in self._unsaved:
            value = self._remembered(name)
            if value is not ABSENT:
                if _warm.in_flight:
                    _flights.refuse_circle((self._shelf.space, name), name)
                if self._bounded is None:
                    self._unbounded.make_ready(name, value, self._unsaved)
                return self._give(name, value)
            # While nothing is in flight, a stored pair can be read without entering a flight for it.
            mark = _flights.calm() if self._bounded is None else None  # which takes its time to keep a value
            if mark is not None:
                value = self._undamaged(name, row, verbose, mark=mark)
                if value is not ABSENT:
                    return self._give(name, value)
            settled = self._settle(name, row, True, verbose, looked=mark is not None)
        else:
            settled = self._settle(name, row, use_stored, verbose)
        return self._give(name, settled[0])

    def save(self, name: str, force: bool = False, *, verbose: bool | None = None) -> Any:
        """Bring the metric to the storage, and return its value; a stored one stays as it is.

        Fills memory and storage. `force` computes again and replaces both.

        Raises:
            As `get`.
        """
        __tracebackhide__ = self.hidden_frames
        self._drop_outdated()
        if not force and name in self.cache and not self._shelf.exists(name):
            self._set_unsaved(name, True)  # its files were taken away: what memory has is stored again
        return self._give(name, self._settle(name, None, not force, verbose)[0])

    def load(self, name: str, force: bool = False, *, verbose: bool | None = None) -> Any:
        """The metric's value from memory, else from the storage; computes nothing.

        Fills memory. `force` reads the storage again. `load("x_date")` is the date of `x` as ISO 8601 text.

        Raises:
            MetricNotStoredError: it is nowhere.
            CorruptMetricError: the stored bytes are damaged.
        """
        value = ABSENT if force else self._remembered(name)
        if value is not ABSENT:
            return self._give(name, value)
        if is_sidecar(name) and name not in self.functions_dict:
            metric = name.removesuffix(SIDECAR)
            self.record(metric)
            return self._shelf.date_text(metric)
        row = self.functions_dict.get(name)
        value = self._undamaged(name, row, verbose, may_compute=False)
        if value is ABSENT:
            value = self._look_again(name, row, verbose)
        if value is ABSENT:
            raise self._not_stored(name)
        return self._give(name, value)

    def compute(self, name: str, force: bool = False, *, verbose: bool | None = None) -> Any:
        """The metric's value from memory, else computed; the storage is neither read nor written.

        Fills memory; the value counts as unsaved until a `get` or `save` stores it. `force` computes again.

        Raises:
            As `get`, without OSError.
        """
        __tracebackhide__ = self.hidden_frames
        with self._flight(name, verbose) as flight:
            value = ABSENT if force else self._remembered(name)
            if value is ABSENT:
                if not force:
                    _raise_shared(flight)
                row = self.functions_dict.get(name)
                if row is None:
                    raise self._unknown(name)
                check_base_name(name)
                value, _ = self._compute(name, row, flight, verbose)
        return self._give(name, value)

    # --- how a value comes about ------------------------------------------------------------------------
    # Between two metrics of a chain lie the frames of `serve`, `_settle`, `_compute` and the row's: no more,
    # so that a chain of a hundred metrics stays far from Python's recursion limit.

    def _settle(
        self,
        name: str,
        row: Callable[[], Any] | None,
        use_stored: bool,
        verbose: bool | None,
        *,
        looked: bool = False,
    ) -> tuple[Any, bool]:
        """The canonical value, brought to memory and storage by whoever comes first; others wait for it.

        And whether this call computed it. `looked`: a moment ago, the storage did not have it.
        """
        __tracebackhide__ = self.hidden_frames
        with self._flight(name, verbose) as flight:
            row = row or self.functions_dict.get(name)
            if use_stored:
                value = self._in_memory(name) if looked else self._present(name, row, verbose)
                if value is not ABSENT:
                    return value, False
                _raise_shared(flight)
            if row is not None:
                return self._made(name, row, flight, use_stored, verbose)
        value = self._look_again(name, None, verbose) if use_stored else ABSENT
        if value is ABSENT:
            raise self._unknown(name)
        return value, False

    def _made(
        self, name: str, row: Callable[[], Any], flight: Flight, use_stored: bool, verbose: bool | None
    ) -> tuple[Any, bool]:
        """The canonical value, computed and stored unless another process was quicker; whether it was not."""
        __tracebackhide__ = self.hidden_frames
        check_base_name(name)  # an entry put into functions_dict by hand was not seen before
        self._shelf.check(name)
        with self._lock(name, verbose):
            if use_stored:
                try:
                    value = self._present(name, row, verbose, sure=True)
                except CorruptMetricError as error:
                    self._warn_of_damage(name, error)
                    value = ABSENT
                if value is not ABSENT:
                    return value, False
            else:
                self._check_record(name, row, self._shelf.record(name))
            kept = self._kept_unsaved(name) if use_stored else None
            changes = self._changes
            value, record = kept or self._compute(name, row, flight, verbose)
            stored = self._store(name, value, record, verbose, changes)
            self._warn_of_unseen_reads(record)
            return stored, kept is None

    def _remembered(self, name: str) -> Any:
        """Return the value in memory, unless its code has changed since it came there; else ABSENT."""
        if name in self.cache:
            self._drop_outdated()
        return self.cache.get(name, ABSENT)

    def _in_memory(self, name: str) -> Any:
        """The value if memory has it, and the storage too."""
        return ABSENT if name in self._unsaved else self.cache.get(name, ABSENT)

    def _present(
        self, name: str, row: Callable[[], Any] | None, verbose: bool | None, *, sure: bool = False
    ) -> Any:
        """The value if nothing needs to be computed or stored. `sure`: nobody else is replacing the pair."""
        if name in self._unsaved:
            return ABSENT
        value = self.cache.get(name, ABSENT)
        if value is not ABSENT:
            return value
        return self._from_storage(name, row, verbose) if sure else self._undamaged(name, row, verbose)

    def _undamaged(
        self,
        name: str,
        row: Callable[[], Any] | None,
        verbose: bool | None,
        *,
        may_compute: bool = True,
        mark: int | None = None,
    ) -> Any:
        """The stored value, read without a lock: what looks damaged may be one pair's record, another's data.

        Who finds it absent takes the lock and looks again. `mark` is for `_remember`.
        """
        try:
            return self._from_storage(name, row, verbose, may_compute=may_compute, mark=mark)
        except CorruptMetricError:
            return ABSENT

    def _warn_of_damage(self, name: str, error: CorruptMetricError) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warn_user(f"{error.what()}; it is computed again now, and replaced")

    def _warn_of_unseen_reads(self, record: Record) -> None:
        """Warn once of a metric whose reads may not all be noted; after it is stored."""
        key = record.base_name or record.name
        if record.reads_unseen is not None and key not in self._warned_of_reads:
            self._warned_of_reads.add(key)
            warn_user(
                f"what metric {record.name!r} read is not fully known: {record.reads_unseen}. Read before "
                "you start processes, and pass values in; smm why and smm status show which records say so"
            )

    def _kept_unsaved(self, name: str) -> tuple[Any, Record] | None:
        """What memory has and the storage has not."""
        value = self.cache.get(name, ABSENT) if name in self._unsaved else ABSENT
        if value is ABSENT:
            return None
        record = self._record_in_memory(name) or new_record(name)  # someone may fill `cache` by hand
        if name in self._refused and record.code != self._staleness.code(name):
            return None  # the function may give something else by now, which the storage keeps
        return value, record

    def _keep_refused(
        self,
        name: str,
        value: Any,
        duration_seconds: float,
        *,
        row: Callable[[], Any] | None = None,
        code: Code | None = None,
        flight: Flight | None = None,
    ) -> None:
        """Keep a value that the storage has refused in memory, unsaved: it was expensive.

        A `get` or `save` tries to store it again, and computes only once the code is another one. Where an
        older value is stored, that one stays.
        """
        if self._shelf.exists(name):
            return
        row = row or self.functions_dict.get(name)
        record = _record_of(name, row, duration_seconds, code or self._staleness.code(name), flight)
        self._refused.add(name)
        self._set_unsaved(name, True)
        self._remember(name, copied(value), record)

    def _from_storage(
        self,
        name: str,
        row: Callable[[], Any] | None,
        verbose: bool | None,
        *,
        may_compute: bool = True,
        mark: int | None = None,
    ) -> Any:
        """Read the pair into memory; absent if it is not stored, not finished, or stale and not wanted."""
        changes = self._changes
        pair = self._shelf.read(name)
        if pair is None:
            return ABSENT
        value, noted = pair
        self._check_record(name, row or self.functions_dict.get(name), noted)
        if may_compute:
            self._update_inputs(name, noted)
        if not self._staleness.serves(name, noted, may_compute=may_compute):
            return ABSENT
        self._say(verbose, "Load {}, computed on {:%Y-%m-%d %H:%M}", name, noted.date)
        if mark is None:
            self._set_unsaved(name, False)
        value = self._remember(name, value, noted, mark)
        self._drop_if_outrun(name, noted, changes)
        return value

    def _drop_if_outrun(self, name: str, record: Record | SideCar, changes: int) -> None:
        """Let a value leave memory if another metric, which it may come from, has changed meanwhile."""
        if changes != self._changes and not record.reads_nothing:
            self._drop_saved(name)

    def _update_inputs(self, name: str, noted: Record | SideCar) -> None:
        """Bring what a stored metric read up to date, as far as only that decides whether it is stale.

        An input that is computed again and comes out as it was leaves the metric fresh. Inputs are taken in
        the order in which they were read, each after its own inputs, and none after the first that has
        changed: the metric may not read it any more.
        """
        if noted.reads_nothing or not self._staleness.recomputes(name):
            return
        waiting, seen = [name], {name}
        while waiting:
            doubtful = self._staleness.doubtful_input(waiting[-1])
            if doubtful is not None and doubtful not in seen:
                seen.add(doubtful)
                waiting.append(doubtful)
                continue
            here = waiting.pop()
            if waiting:
                self._settle(here, None, True, None)

    def _look_again(self, name: str, row: Callable[[], Any] | None, verbose: bool | None) -> Any:
        """Data without a side-car may be in the middle of a publication, whose writer has the lock."""
        if not self.storage_interface.exists(name):
            return ABSENT
        with self._flight(name, verbose), self._lock(name, verbose):
            return self._from_storage(name, row, verbose, may_compute=False)

    def _compute(
        self, name: str, row: Callable[[], Any], flight: Flight, verbose: bool | None
    ) -> tuple[Any, Record]:
        """Call the metric's function and keep its canonical value in memory, unsaved."""
        __tracebackhide__ = self.hidden_frames
        self._say(verbose, "Compute {}", name)
        code = self._staleness.code(name)  # before: nothing may go wrong between a value and its keeping
        made: list[Any] = []
        started = time.perf_counter()
        try:
            made.append(row())
            duration = time.perf_counter() - started
            given_away = nobody_else_has(made)  # asked before it is an argument, which is one more to have it
            value = self._shelf.canonical(name, made[0], given_away=given_away)
        except BaseException as error:
            flight.failure = error
            if isinstance(error, UnstorableError) and made:
                error.value = made[0]
                duration = time.perf_counter() - started
                self._keep_refused(name, made[0], duration, row=row, code=code, flight=flight)
            else:
                error.add_note(f"while computing metric {name!r}")
            made.clear()  # an exception may keep this frame for long
            raise
        record = _record_of(name, row, duration, code, flight)
        self._set_unsaved(name, True)  # first: who sees the value in memory must see that it is not stored
        value = self._remember(name, value, record)
        if self._tells(verbose):
            self._say(verbose, f"Completed {name} in {seconds(duration)}")
        return value, record

    def _store(self, name: str, value: Any, record: Record, verbose: bool | None, changes: int) -> Any:
        """Publish the pair, and return the value as the storage gives it back."""
        self._say(verbose, "Save {}", name)
        try:
            published = self._shelf.write(name, value, record)
        except UnstorableError as error:
            error.value = value
            if self._shelf.exists(name):
                self._drop(name)  # the old value, which is whole, is served on
            else:
                self._refused.add(name)
            raise
        except OSError as error:
            error.add_note(
                f"the value of {name!r} is in memory, unsaved: CM.save({name!r}), or another run, tries again"
            )
            raise
        # In this order: who sees a saved value sees the one that the storage gives back.
        record = published.record
        is_changed = published.replaced and record.changed == record.date
        if is_changed:
            self._drop_readers()
        value = self._remember(name, published.value, record)
        self._set_unsaved(name, False)
        self._drop_if_outrun(name, record, changes + is_changed)
        self._keep_sources(name, record)
        return value

    def _keep_sources(self, name: str, record: Record) -> None:
        """Keep the source of the code that a record notes beside the results, to show later what changed."""
        folder, code = self._shelf.folder, record.code
        if folder is None or code is None:
            return
        from smm import _code_archive

        if _code_archive.is_done(folder, code):
            return
        found = self._staleness.fingerprint_of(name)
        if found is not None and found.digest == code.digest:
            _code_archive.keep(folder, code, found.sources)

    def _unknown(self, name: str) -> UnknownMetricError:
        stored = self._shelf.exists(name)
        rows = self._rows_under(name)
        hint = "" if rows is not None else closest(name, self.functions_dict)
        return UnknownMetricError(name=name, stored=stored, hint=hint, rows=rows)


def _raise_shared(flight: Flight) -> None:
    """Raise the exception of the computation that this one has waited for, if it failed."""
    failure = flight.shared_failure()
    if failure is not None:
        raise failure


def _record_of(
    name: str,
    row: Callable[[], Any] | None,
    duration_seconds: float,
    code: Code | None,
    flight: Flight | None,
) -> Record:
    """Return the record of a computation that has just ended; without a flight its reads are not known."""
    base_name, params = (row.rows.base_name, row.noted_params()) if isinstance(row, Row) else (None, None)
    return new_record(
        name,
        base_name=base_name,
        params=params,
        duration_seconds=duration_seconds,
        code=code,
        inputs=None if flight is None else _inputs_of(flight),
        reads_unseen=None if flight is None else flight.reads_unseen,
    )


def _inputs_of(flight: Flight) -> tuple[Read, ...]:
    """Return what a metric has read: in this process, and in those that were forked from it meanwhile."""
    reads = dict(flight.reads)
    for line in flight.read_by_children():
        read = read_from_text(line)
        reads.setdefault((read.store, read.name), read)
    return tuple(reads.values())
