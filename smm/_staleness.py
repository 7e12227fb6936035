"""Whether stored metrics still hold: their code, what they read and their age against their records."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from smm._pause import collector_paused
from smm._text import seconds
from smm.collect import Row
from smm.errors import SmmWarning, StaleMetricError
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
def _taker() -> Any:
    """What takes fingerprints, imported with the first one; asking here again is quicker than an import."""
    with collector_paused():  # all that importing makes stays
        from smm import _fingerprint

    return _fingerprint


class Staleness:
    """Judges the stored metrics of one manager, each once a process. Touches the storage's side-cars only.

    Safe for many threads: two that judge a metric at once come to the same.

    Args:
        functions: what computes each metric.
        sidecar: reads a metric's.
    """

    def __init__(
        self, functions: Mapping[str, Callable[[], Any]], sidecar: Callable[[str], SideCar | None]
    ) -> None:
        self._trust = DEFAULT
        self.looking = False
        """Whether values are only looked at: all are served, whatever the policies say."""
        self.sidecar = sidecar
        """Reads a metric's; None if there is none, or a damaged one."""
        self._functions = functions
        # Forgotten by putting another in its place: who is in the middle of judging goes on with this one.
        self._verdicts: dict[str, tuple[Reason, ...]] = {}
        self._dates: dict[str, datetime | None] = {}  # of the records that were judged
        # With what they were made of, whose ids are the keys: no other can take these then.
        self._trusts: dict[int, tuple[Trust, Trust]] = {}
        self._codes: dict[int, tuple[Fingerprint, Code]] = {}
        self._warned: set[str] = set()

    # --- policies ---------------------------------------------------------------------------------------

    @property
    def trust(self) -> Trust:
        """Of the manager."""
        return self._trust

    @trust.setter
    def trust(self, trust: Trust) -> None:
        self._trust = trust
        self._trusts = {}

    def trust_of(self, name: str) -> Trust:
        """The metric's own, and what it leaves open as the manager says."""
        entry = self._functions.get(name)
        if not isinstance(entry, Row):
            return self._trust
        own = entry.rows.metric.trust
        known = self._trusts.get(id(own))
        if known is None:
            known = self._trusts[id(own)] = own, own.over(self._trust)
        return known[1]

    def serves(self, name: str, record: Record | SideCar, *, may_compute: bool) -> bool:
        """Whether a stored value is to be served; no if it is stale, and to be computed again.

        Warns:
            SmmWarning: it is stale, and served; once for each base name.

        Raises:
            StaleMetricError: it is stale, and the policy is `error`.
        """
        trust = self.trust_of(name)
        policy = trust.on_stale
        if policy == "serve" or self.looking:
            return True
        if trust.max_age_seconds is None and self._has_code_of_now(name, record):
            return True
        stale = [reason for reason in self.reasons(name, _whole(record)) if reason.is_stale]
        if not stale:
            return True
        if policy == "error":
            raise StaleMetricError(name=name, reasons=tuple(map(str, stale)))
        if policy == "recompute" and may_compute and name in self._functions:
            return False
        self._warn(name, stale)
        return True

    def _has_code_of_now(self, name: str, record: Record | SideCar) -> bool:
        """Whether a metric's code is the noted one, and nothing else than that and its age makes it stale.

        Of most metrics that is all there is to ask, and needs no verdict to be kept: that no other verdict
        depends on it, is seen from its having none itself. What has one may have been replaced by another
        process, which `reasons` notices.
        """
        entry, digest = self._functions.get(name), record.code_digest
        if digest is None or not record.reads_nothing or not isinstance(entry, Row) or name in self._verdicts:
            return False
        if entry.rows.inputs:
            return False
        taker = _taker()
        now = taker.fingerprint(entry.rows.function)
        return isinstance(now, taker.Fingerprint) and now.digest == digest

    def _warn(self, name: str, stale: list[Reason]) -> None:
        entry = self._functions.get(name)
        key = entry.rows.base_name if isinstance(entry, Row) else name
        if key not in self._warned:
            self._warned.add(key)
            others = f"; other rows of {key!r} may be, too" if key != name else ""
            warnings.warn(
                f"metric {name!r} is stale: {stale[0]}{others}. CM.why({name!r}) says more, "
                "on_stale='recompute' computes what is stale again, smm accept takes the value as it is",
                SmmWarning,
                stacklevel=2,
            )

    # --- judging ----------------------------------------------------------------------------------------

    def reasons(self, name: str, record: Record | None = None) -> tuple[Reason, ...]:
        """Why a metric would be computed again; empty if it is fresh. Judged once, until it is replaced.

        Args:
            name: the metric.
            record: its side-car's, if that has just been read.
        """
        if name in self._verdicts and record is not None and record.date != self._dates.get(name):
            self.forget()  # another process has replaced it
        verdicts = self._verdicts
        waiting, around = [name], {name}
        while waiting:
            here = waiting[-1]
            if here in verdicts:
                waiting.pop()
                continue
            noted = record if here == name and record is not None else self._record(here)
            upstream = self._upstream(here, noted)
            missing = [read for read in upstream if read not in verdicts and read not in around]
            if missing:
                waiting += missing
                around.update(missing)
                continue
            self._dates[here] = None if noted is None else noted.date
            verdicts[here] = tuple(self._judged(here, noted, verdicts))
            waiting.pop()
        return verdicts[name]

    def is_stale(self, name: str, record: Record | SideCar | None = None) -> bool:
        """Whether a stored value is not what would be computed now, as far as that can be told.

        Args:
            name: the metric.
            record: its side-car's, if that has just been read.
        """
        ages = self.trust_of(name).max_age_seconds is not None
        if record is not None and not ages and self._has_code_of_now(name, record):
            return False
        whole = None if record is None else _whole(record)
        return any(reason.is_stale for reason in self.reasons(name, whole))

    def replaced(self, name: str) -> None:
        """A metric has been computed, accepted or deleted: what read it must be judged anew."""
        if name in self._verdicts:
            self.forget()

    def anew(self) -> Staleness:
        """One with the same policies, for one look at many metrics: it reads each side-car once."""
        made = Staleness(self._functions, functools.cache(self.sidecar))
        made.trust = self.trust
        return made

    def forget(self) -> None:
        """Judge everything anew: another process may have been at work."""
        self._verdicts = {}

    def code(self, name: str) -> Code | None:
        """What a record notes of the code that computes a metric; None if it cannot be told."""
        found = self.fingerprint_of(name)
        if found is None:
            return None
        known = self._codes.get(id(found))
        if known is None:
            code = Code(digest=found.digest, parts=dict(found.parts), python=found.python)
            known = self._codes[id(found)] = found, code
        return known[1]

    def fingerprint_of(self, name: str) -> Fingerprint | None:
        """The fingerprint of what computes a metric, by the source of now; None if it cannot be told."""
        taker = _taker()
        found = taker.fingerprint(self.function_of(name))
        known: Fingerprint | None = found if isinstance(found, taker.Fingerprint) else None
        return known

    def function_of(self, name: str) -> Callable[..., Any] | None:
        """The user's function behind a metric; None if nothing declares it."""
        entry = self._functions.get(name)
        if isinstance(entry, Row):
            return entry.rows.function
        # What is given the manager is a partial of smm's own.
        return entry.func if isinstance(entry, partial) and entry.keywords.keys() == {"CM"} else entry

    def _record(self, name: str) -> Record | None:
        noted = self.sidecar(name)
        return None if noted is None else noted.record()

    def _upstream(self, name: str, record: Record | None) -> list[str]:
        if record is None or "inputs" not in (self.trust_of(name).stale_on or ()):
            return []
        return [read.name for read in record.inputs or () if read.store is None]

    def _judged(
        self, name: str, record: Record | None, upstream: Mapping[str, tuple[Reason, ...]]
    ) -> Iterator[Reason]:
        if record is None:
            yield Reason(kind="missing", detail="is not stored")
            return
        trust = self.trust_of(name)
        what = trust.stale_on or ()
        if "code" in what:
            yield from self._code_reasons(name, record)
        if "inputs" in what:
            yield from self._input_reasons(name, record, upstream)
        if "age" in what and trust.max_age_seconds is not None:
            age = (datetime.now(UTC) - record.date).total_seconds()
            if age > trust.max_age_seconds:
                detail = f"it is {seconds(age)} old, and may be {seconds(trust.max_age_seconds)}"
                yield Reason(kind="age", detail=detail)

    def _code_reasons(self, name: str, record: Record) -> Iterator[Reason]:
        function = self.function_of(name)
        if function is None:
            yield Reason(kind="unknown", detail="nothing declares it any more")
            return
        taker = _taker()
        now = taker.fingerprint(function)
        if isinstance(now, taker.Unknown):
            yield Reason(kind="unknown", detail=f"its code cannot be compared: {now.reason}")
        elif record.code is None:
            yield Reason(kind="unknown", detail="its record does not note by which code it was computed")
        elif record.code.digest != now.digest:
            if record.code.python != now.python:
                detail = f"its code was noted by Python {record.code.python}, this is {now.python}"
                yield Reason(kind="unknown", detail=detail)
                return
            changes = taker.changed(record.code.parts, now.parts)
            for part, how in changes:
                yield Reason(kind="code", about=part, detail=_CHANGES[how])
            if not changes:
                function_itself = next(iter(now.parts), None)
                yield Reason(
                    kind="code", about=function_itself, detail="puts the same parts together otherwise"
                )

    def _input_reasons(
        self, name: str, record: Record, upstream: Mapping[str, tuple[Reason, ...]]
    ) -> Iterator[Reason]:
        if record.inputs is None:
            return  # an older record; what is declared now may still be compared by its code
        for read in record.inputs:
            if read.store is not None:
                continue  # of another storage, which is its own manager's to judge
            now = self.sidecar(read.name)
            if now is None:
                yield Reason(kind="input", about=read.name, detail="is gone")
            elif now.changed != read.date:
                when = f"{now.date.astimezone():%Y-%m-%d %H:%M:%S}"
                yield Reason(kind="input", about=read.name, detail=f"was computed again on {when}")
            elif any(reason.is_stale for reason in upstream.get(read.name, ())):
                yield Reason(kind="input", about=read.name, detail="is stale itself")
        entry = self._functions.get(name)
        if isinstance(entry, Row) and entry.rows.inputs:
            noted = {read.name for read in record.inputs}
            try:
                declared = entry.reads()
            except (TypeError, ValueError, LookupError) as error:
                yield Reason(kind="unknown", detail=f"its inputs cannot be told: {error}")
                return
            for other in declared:
                if other not in noted:
                    yield Reason(kind="input", about=other, detail="is read now, and was not then")


def _whole(record: Record | SideCar) -> Record:
    return record.record() if isinstance(record, SideCar) else record
