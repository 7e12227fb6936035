"""Whether stored metrics still hold: their code, their inputs and their age against their records."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from smm._pause import collector_paused
from smm._reloads import code_may_change, reloads_begun
from smm._text import seconds
from smm._warn import warn_user
from smm.collect import Row
from smm.errors import StaleMetricError
from smm.metric import Code, Reason, Record, SideCar, Trust

if TYPE_CHECKING:
    from smm._fingerprint import Fingerprint

DEFAULT = Trust(on_stale="warn", stale_on=("code", "inputs", "age"))

_CHANGES = {
    "changed": "changed",
    "added": "is used now, and was not then",
    "removed": "is not used any more",
}


@functools.cache
def _fingerprints() -> Any:
    """Import the module that takes fingerprints with the first one; asking here again beats an import."""
    with collector_paused():  # all that importing makes stays
        from smm import _fingerprint

    return _fingerprint


class Staleness:
    """Judges the stored metrics of one manager by the code, the records and the policies of now.

    Keeps no verdict: each is reached anew from the record, the fingerprint of the code as it is now, and the
    records of what was read. Fingerprints are kept with the code that they were taken of. Reads side-cars,
    and no data. Safe for many threads.

    Args:
        functions: what computes each metric.
        sidecar: reads a metric's side-car; None if there is none, or a damaged one.
        drop: is told each stored metric that is found stale, whose value memory must not serve any more.
    """

    def __init__(
        self,
        functions: Mapping[str, Callable[[], Any]],
        sidecar: Callable[[str], SideCar | None],
        drop: Callable[[str], None],
    ) -> None:
        self._trust = DEFAULT
        self.looking = False
        """True if values are only looked at: all are served, whatever the policies say."""
        self._functions = functions
        self._sidecar = sidecar
        self._drop = drop
        # With what they were made of, whose ids are the keys: no other can take these then.
        self._trusts: dict[int, tuple[Trust, Trust]] = {}
        self._codes: dict[int, tuple[Fingerprint, Code]] = {}
        self._warned: set[str] = set()
        self._state: object = None  # of the project's code, when `_digests` was last compared
        self._digests: dict[str, tuple[str, str | None]] = {}  # by metric: one of its rows, its digest then
        self._reloads_seen = reloads_begun()
        self._comparing = threading.Lock()

    # --- policies ---------------------------------------------------------------------------------------

    @property
    def trust(self) -> Trust:
        """The policies of the manager."""
        return self._trust

    @trust.setter
    def trust(self, trust: Trust) -> None:
        self._trust = trust
        self._trusts = {}

    def trust_of(self, name: str) -> Trust:
        """Return a metric's own policies, completed by the manager's."""
        entry = self._functions.get(name)
        if not isinstance(entry, Row):
            return self._trust
        own = entry.rows.metric.trust
        known = self._trusts.get(id(own))
        if known is None:
            known = self._trusts[id(own)] = own, own.over(self._trust)
        return known[1]

    def recomputes(self, name: str) -> bool:
        """Return whether a metric is computed again when it is stale."""
        return self.trust_of(name).on_stale == "recompute" and name in self._functions

    def serves(
        self, name: str, record: Record | SideCar, *, may_compute: bool, look: Look | None = None
    ) -> bool:
        """Return whether a stored value is to be served; False if it is stale, and to be computed again.

        A value that is stale only because an input is stale itself is served: computed again from the same
        input, it would be no fresher.

        Warns:
            SmmWarning: it is stale, and served; once for each base name. Or nobody can compare its code,
                because an earlier smm noted it; once.

        Raises:
            StaleMetricError: it is stale, and the policy is `error`.
        """
        trust = self.trust_of(name)
        if trust.on_stale == "serve" or self.looking:
            return True
        if trust.max_age_seconds is None and self._has_code_of_now(name, record):
            return True
        reasons = (look or self.look()).reasons(name, _whole(record))
        stale = [reason for reason in reasons if reason.is_stale]
        if not stale:
            if any(reason.is_earlier for reason in reasons):
                self.warn_of_earlier(1)
            return True
        if trust.on_stale == "error":
            raise StaleMetricError(name=name, reasons=tuple(map(str, stale)))
        if may_compute and self.recomputes(name) and not all(reason.is_inherited for reason in stale):
            return False
        self._warn(name, stale)
        return True

    def _has_code_of_now(self, name: str, record: Record | SideCar) -> bool:
        """Return whether a metric read nothing, and its code is the noted one.

        Then its age alone can make it stale, and no record but its own must be read.
        """
        entry, digest = self._functions.get(name), record.code_digest
        if digest is None or not record.reads_nothing or not isinstance(entry, Row) or entry.rows.inputs:
            return False
        fingerprints = _fingerprints()
        now = self._fingerprint(name, entry)
        return (
            isinstance(now, fingerprints.Fingerprint)
            and now.digest == digest
            and record.code_reading == fingerprints.READING
        )

    def _warn(self, name: str, stale: list[Reason]) -> None:
        key = self._key(name)
        if key not in self._warned:
            self._warned.add(key)
            from shlex import quote

            others = f"; other rows of {key!r} may be, too" if key != name else ""
            what = f"metric {name!r} is stale: {stale[0]}{others}"
            warn_user(
                f"{what}. CM.why({name!r}) says more, on_stale='recompute' computes what is stale again, "
                f"CM.accept({name!r}) takes the value as it is",
                f"{what}. smm why {{target}} {quote(name)} says more, --set on_stale=recompute computes what "
                f"is stale again, smm accept {{target}} {quote(name)} takes the value as it is",
            )

    def warn_of_earlier(self, count: int) -> None:
        """Warn once of stored metrics whose code an earlier version of smm has noted."""
        if "" not in self._warned:  # no metric has this name
            self._warned.add("")
            several = f"{count:,} stored metrics were" if count > 1 else "a stored metric was"
            warn_user(
                f"{several} noted by an earlier smm, which read code differently: nobody can tell whether "
                "the code has changed since. They are served as they are; smm status counts them, and smm "
                "accept notes their code anew"
            )

    # --- judging ----------------------------------------------------------------------------------------

    def look(self) -> Look:
        """Return a new look: verdicts of one moment, for which each side-car is read once."""
        return Look(self, self._sidecar)

    def reasons(self, name: str, record: Record | None = None) -> tuple[Reason, ...]:
        """Return why a metric would be computed again; empty if it is fresh. See `Look.reasons`."""
        return self.look().reasons(name, record)

    def is_certain(self, name: str, record: Record | SideCar) -> bool:
        """Return whether a metric is fresh without a look at other records."""
        return self.trust_of(name).max_age_seconds is None and self._has_code_of_now(name, record)

    def found_stale(self, name: str) -> None:
        """Have memory forget a stored value that is stale."""
        self._drop(name)

    def doubtful_input(self, name: str) -> str | None:
        """Return the input that must be brought up to date before a stored metric can be judged.

        That is the first one read which is stale itself and is computed again when it is asked for, if
        nothing else makes the metric stale: it may come out as it was.
        """
        stale = [reason for reason in self.reasons(name) if reason.is_stale]
        if not all(reason.is_inherited for reason in stale):
            return None
        return next((each.about for each in stale if each.about and self.recomputes(each.about)), None)

    # --- code -------------------------------------------------------------------------------------------

    def code(self, name: str) -> Code | None:
        """Return what a record notes of the code that computes a metric; None if it cannot be told."""
        found = self.fingerprint_of(name)
        if found is None:
            return None
        known = self._codes.get(id(found))
        if known is None:
            code = Code(
                digest=found.digest,
                parts=dict(found.parts),
                python=found.python,
                reading=_fingerprints().READING,
                unseen=found.unseen,
            )
            known = self._codes[id(found)] = found, code
        return known[1]

    def fingerprint_of(self, name: str) -> Fingerprint | None:
        """Return the fingerprint of what computes a metric, by the source of now; None if there is none."""
        found = self._fingerprint(name, self._functions.get(name))
        known: Fingerprint | None = found if isinstance(found, _fingerprints().Fingerprint) else None
        return known

    def function_of(self, name: str) -> Callable[..., Any] | None:
        """Return the user's function behind a metric; None if nothing declares it."""
        return _function_of(self._functions.get(name))

    def declared(self, name: str) -> Row | None:
        """Return the row behind a metric if it declares inputs."""
        entry = self._functions.get(name)
        return entry if isinstance(entry, Row) and entry.rows.inputs else None

    def metrics_with_other_code(self) -> set[str]:
        """Return the metrics whose code is not what it was when this was last asked, or first looked at.

        By base name, or by metric name where there is no base name. For a manager that calls it before it
        serves from memory. Costs next to nothing while no module is reloaded, and in a notebook a few
        comparisons.
        """
        begun, may_change = reloads_begun(), code_may_change()
        if not self._digests or (begun == self._reloads_seen and not may_change):
            return set()
        state = _fingerprints().state_of_code()
        if not may_change:  # else the module that is being reloaded may still be the old one
            self._reloads_seen = begun
        if state is self._state:
            return set()
        with self._comparing:
            other = set()
            for key, (name, digest) in list(self._digests.items()):
                found = self.fingerprint_of(name)
                now = None if found is None else found.digest
                if now != digest:
                    self._digests[key] = name, now
                    other.add(key)
            self._state = state
        return other

    def _fingerprint(self, name: str, entry: Callable[[], Any] | None) -> Any:
        fingerprints = _fingerprints()
        found = fingerprints.fingerprint(_function_of(entry))
        if self._state is None:
            self._state = fingerprints.state_of_code()
        key = self._key(name)
        if key not in self._digests:
            digest = found.digest if isinstance(found, fingerprints.Fingerprint) else None
            self._digests.setdefault(key, (name, digest))
        return found

    def _key(self, name: str) -> str:
        entry = self._functions.get(name)
        return entry.rows.base_name if isinstance(entry, Row) else name


class Look:
    """Verdicts of one moment about stored metrics and all that they read; each side-car is read once.

    Used by one thread.
    """

    def __init__(self, staleness: Staleness, sidecar: Callable[[str], SideCar | None]) -> None:
        self._staleness = staleness
        self._sidecar = functools.cache(sidecar)
        self._verdicts: dict[str, tuple[Reason, ...]] = {}

    def reasons(self, name: str, record: Record | None = None) -> tuple[Reason, ...]:
        """Return why a metric would be computed again; empty if it is fresh.

        Args:
            name: the metric.
            record: its side-car's, if that has just been read.
        """
        verdicts = self._verdicts
        waiting, around = [name], {name}
        while waiting:
            here = waiting[-1]
            if here in verdicts:
                waiting.pop()
                continue
            noted = record if here == name and record is not None else self._record(here)
            inputs = self._inputs(here, noted)
            missing = [read for read in inputs if read not in verdicts and read not in around]
            if missing:
                waiting += missing
                around.update(missing)
                continue
            verdicts[here] = tuple(self._judged(here, noted))
            if any(reason.is_stale for reason in verdicts[here]):
                self._staleness.found_stale(here)
            waiting.pop()
        return verdicts[name]

    def is_stale(self, name: str, record: Record | SideCar | None = None) -> bool:
        """Return whether a stored value is not what would be computed now, as far as that can be told.

        Args:
            name: the metric.
            record: its side-car's, if that has just been read.
        """
        if record is not None and self._staleness.is_certain(name, record):
            return False
        whole = None if record is None else _whole(record)
        return any(reason.is_stale for reason in self.reasons(name, whole))

    def is_earlier(self, record: Record | SideCar) -> bool:
        """Return whether an earlier smm noted the code of a metric, so that it cannot be compared."""
        return record.code_reading not in (None, _fingerprints().READING)

    def _record(self, name: str) -> Record | None:
        noted = self._sidecar(name)
        return None if noted is None else noted.record()

    def _inputs(self, name: str, record: Record | None) -> list[str]:
        if record is None or "inputs" not in (self._staleness.trust_of(name).stale_on or ()):
            return []
        return [read.name for read in record.inputs or () if read.store is None]

    def _judged(self, name: str, record: Record | None) -> Iterator[Reason]:
        if record is None:
            yield Reason(kind="missing", detail="is not stored")
            return
        trust = self._staleness.trust_of(name)
        what = trust.stale_on or ()
        if "code" in what:
            yield from self._code_reasons(name, record)
        if "inputs" in what:
            yield from self._input_reasons(name, record)
        if "age" in what and trust.max_age_seconds is not None:
            age = (datetime.now(UTC) - record.date).total_seconds()
            if age > trust.max_age_seconds:
                detail = f"it is {seconds(age)} old, and may be {seconds(trust.max_age_seconds)}"
                yield Reason(kind="age", detail=detail)

    def _code_reasons(self, name: str, record: Record) -> Iterator[Reason]:
        function = self._staleness.function_of(name)
        if function is None:
            yield Reason(kind="unknown", detail="nothing declares it any more")
            return
        fingerprints = _fingerprints()
        now, noted = fingerprints.fingerprint(function), record.code
        if isinstance(now, fingerprints.Unknown):
            yield Reason(kind="unknown", detail=f"its code cannot be compared: {now.reason}")
        elif noted is None:
            yield Reason(kind="unknown", detail="its record does not note by which code it was computed")
        elif noted.reading != fingerprints.READING:
            detail = "its code was noted by an earlier smm, which read code differently"
            yield Reason(kind="unknown", is_earlier=True, detail=f"{detail}; smm accept notes it anew")
        elif noted.digest != now.digest:
            if noted.python != now.python:
                detail = f"its code was noted by Python {noted.python}, this is {now.python}"
                yield Reason(kind="unknown", detail=detail)
                return
            changes = fingerprints.changed(noted.parts, now.parts)
            for part, how in changes:
                yield Reason(kind="code", about=part, detail=_CHANGES[how])
            if not changes:
                function_itself = next(iter(now.parts), None)
                yield Reason(
                    kind="code", about=function_itself, detail="puts the same parts together otherwise"
                )
        if noted is not None and noted.unseen:
            yield Reason(kind="unseen", detail=f"code not fully seen: {'; '.join(noted.unseen)}")

    def _input_reasons(self, name: str, record: Record) -> Iterator[Reason]:
        if record.inputs is None:
            return  # an older record; what is declared now may still be compared by its code
        for read in record.inputs:
            if read.store is not None:
                continue  # in another storage, which its own manager judges
            now = self._sidecar(read.name)
            if now is None:
                yield Reason(kind="input", about=read.name, detail="is gone")
            elif now.changed != read.date:
                when = f"{now.date.astimezone():%Y-%m-%d %H:%M:%S}"
                yield Reason(kind="input", about=read.name, detail=f"was computed again on {when}")
            elif any(reason.is_stale for reason in self._verdicts.get(read.name, ())):
                yield Reason(kind="input", about=read.name, is_inherited=True, detail="is stale itself")
        if record.reads_unseen is not None:
            yield Reason(kind="unseen", detail=f"reads not fully seen: {record.reads_unseen}")
        yield from self._undeclared_then(name, record)

    def _undeclared_then(self, name: str, record: Record) -> Iterator[Reason]:
        """Give the inputs that are declared now and were not read then."""
        entry = self._staleness.declared(name)
        if entry is None:
            return
        try:
            declared = entry.reads()
        except (TypeError, ValueError, LookupError) as error:
            yield Reason(kind="unknown", detail=f"its inputs cannot be told: {error}")
            return
        noted = {read.name for read in record.inputs or ()}
        for other in declared:
            if other not in noted:
                yield Reason(kind="input", about=other, detail="is read now, and was not then")


def _function_of(entry: Callable[[], Any] | None) -> Callable[..., Any] | None:
    if isinstance(entry, Row):
        return entry.rows.function
    # What is given the manager is a partial of smm's own.
    return entry.func if isinstance(entry, partial) and entry.keywords.keys() == {"CM"} else entry


def _whole(record: Record | SideCar) -> Record:
    return record.record() if isinstance(record, SideCar) else record
