"""Whether stored metrics still hold: their code, what they read and their age against their records."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from smm._fingerprint import Fingerprint, Unknown, changed, fingerprint
from smm._text import seconds
from smm.collect import Row
from smm.errors import SmmWarning, StaleMetricError
from smm.metric import Code, Reason, Record, Trust

DEFAULT = Trust(on_stale="warn", stale_on=("code", "inputs", "age"))

_CHANGES = {
    "changed": "changed",
    "added": "is used now, and was not then",
    "removed": "is not used any more",
}


class Staleness:
    """Judges the stored metrics of one manager, each once a process. Touches the storage's side-cars only.

    Safe for many threads: two that judge a metric at once come to the same.

    Args:
        functions: what computes each metric.
        record: reads a side-car.
    """

    def __init__(
        self, functions: Mapping[str, Callable[[], Any]], record: Callable[[str], Record | None]
    ) -> None:
        self.trust = DEFAULT
        """Of the manager."""
        self.looking = False
        """Whether values are only looked at: all are served, whatever the policies say."""
        self._functions = functions
        self._record = record
        # Forgotten by putting another in its place: who is in the middle of judging goes on with this one.
        self._verdicts: dict[str, tuple[Reason, ...]] = {}
        self._dates: dict[str, datetime | None] = {}  # of the records that were judged
        self._warned: set[str] = set()

    # --- policies ---------------------------------------------------------------------------------------

    def trust_of(self, name: str) -> Trust:
        """The metric's own, and what it leaves open as the manager says."""
        entry = self._functions.get(name)
        return entry.rows.metric.trust.over(self.trust) if isinstance(entry, Row) else self.trust

    def serves(self, name: str, record: Record, *, may_compute: bool) -> bool:
        """Whether a stored value is to be served; no if it is stale, and to be computed again.

        Warns:
            SmmWarning: it is stale, and served; once for each base name.

        Raises:
            StaleMetricError: it is stale, and the policy is `error`.
        """
        policy = self.trust_of(name).on_stale
        if policy == "serve" or self.looking:
            return True
        stale = [reason for reason in self.reasons(name, record) if reason.is_stale]
        if not stale:
            return True
        if policy == "error":
            raise StaleMetricError(name=name, reasons=tuple(map(str, stale)))
        if policy == "recompute" and may_compute and name in self._functions:
            return False
        self._warn(name, stale)
        return True

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

    def is_stale(self, name: str) -> bool:
        """Whether a stored value is not what would be computed now, as far as that can be told."""
        return any(reason.is_stale for reason in self.reasons(name))

    def replaced(self, name: str) -> None:
        """A metric has been computed, accepted or deleted: what read it must be judged anew."""
        if name in self._verdicts:
            self.forget()

    def forget(self) -> None:
        """Judge everything anew: another process may have been at work."""
        self._verdicts = {}

    def code(self, name: str) -> Code | None:
        """What a record notes of the code that computes a metric; None if it cannot be told."""
        found = self.fingerprint_of(name)
        if found is None:
            return None
        return Code(digest=found.digest, parts=dict(found.parts), python=found.python)

    def fingerprint_of(self, name: str) -> Fingerprint | None:
        """The fingerprint of what computes a metric, by the source of now; None if it cannot be told."""
        found = fingerprint(self.function_of(name))
        return None if isinstance(found, Unknown) else found

    def function_of(self, name: str) -> Callable[..., Any] | None:
        """The user's function behind a metric; None if nothing declares it."""
        entry = self._functions.get(name)
        if isinstance(entry, Row):
            return entry.rows.function
        # What is given the manager is a partial of smm's own.
        return entry.func if isinstance(entry, partial) and entry.keywords.keys() == {"CM"} else entry

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
        now = fingerprint(function)
        if isinstance(now, Unknown):
            yield Reason(kind="unknown", detail=f"its code cannot be compared: {now.reason}")
        elif record.code is None:
            yield Reason(kind="unknown", detail="its record does not note by which code it was computed")
        elif record.code.digest != now.digest:
            if record.code.python != now.python:
                detail = f"its code was noted by Python {record.code.python}, this is {now.python}"
                yield Reason(kind="unknown", detail=detail)
                return
            changes = changed(record.code.parts, now.parts)
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
            now = self._record(read.name)
            if now is None:
                yield Reason(kind="input", about=read.name, detail="is gone")
            elif now.date != read.date:
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
