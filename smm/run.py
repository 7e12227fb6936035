"""Bring many metrics to the storage, one after another, past those that fail."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import attrs

from smm.errors import MetricNotStoredError
from smm.graph import upstream_first
from smm.metric import Record

Status: TypeAlias = Literal["computed", "stored", "failed"]


class Runnable(Protocol):
    """What a run needs of a manager."""

    functions_dict: dict[str, Callable[[], Any]]
    cache: dict[str, Any]

    def exists(self, name: str) -> bool:
        """Whether the value is in memory, or stored with its side-car."""

    def get(self, name: str, use_stored: bool = True) -> Any:
        """The value, computed and stored if need be."""

    def record(self, name: str) -> Record:
        """What the side-car says of the stored value."""


@runtime_checkable
class Reading(Protocol):
    """A function of `functions_dict` that knows which metrics it reads."""

    def reads(self) -> Iterable[str]:
        """Their names."""


@attrs.frozen(kw_only=True)
class Outcome:
    """How one metric of a run ended."""

    name: str
    status: Status
    """`stored` was there before, or came from another process; `computed` is stored now; `failed` is not, or
    not anew."""
    seconds: float = 0.0
    """How long this run was busy with it."""
    error: BaseException | None = None
    """What the metric raised, or the upstream metric that it needs."""
    upstream: str | None = None
    """The failed metric because of which this one was not tried."""


@attrs.frozen(kw_only=True)
class RunReport:
    """What a run has done, in the order it was done."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    """From start to end, all metrics together."""

    def of(self, status: Status) -> tuple[Outcome, ...]:
        """The metrics that ended so."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)


@attrs.frozen(kw_only=True)
class Plan:
    """What a run will do."""

    stored: tuple[str, ...]
    """Asked for, and there already."""
    compute: tuple[str, ...]
    """To be computed in this order: what they read comes first, asked for or not."""
    reads: Mapping[str, tuple[str, ...]]
    """For each of `compute`, what it reads by its declared inputs."""
    unreadable: Mapping[str, Exception]
    """Of `compute`, those whose inputs cannot be told, and why."""


def plan(
    manager: Runnable, names: Iterable[str], *, force: bool = False, stored: Collection[str] | None = None
) -> Plan:
    """Decide what there is to do. Computes and loads nothing.

    Args:
        manager: whose metrics are run.
        names: declared metrics; a name given twice counts once.
        force: compute those of `names` that are stored, too.
        stored: the names that are stored, if that is known; else the manager is asked for each.

    Raises:
        CircularMetricError: a metric would read itself.
    """
    there = manager.exists if stored is None else stored.__contains__
    wanted = dict.fromkeys(names)
    done = {} if force else {name: None for name in wanted if there(name)}
    unreadable: dict[str, Exception] = {}
    reads: dict[str, tuple[str, ...]] = {}
    waiting = [name for name in wanted if name not in done]
    for name in waiting:  # grows while it is read
        if name in reads:
            continue
        try:
            reads[name] = _reads(manager, name)
        except Exception as error:  # noqa: BLE001 - reported as this metric's failure
            reads[name], unreadable[name] = (), error
        waiting += [upstream for upstream in reads[name] if upstream not in reads and not there(upstream)]
    order = [name for name in upstream_first(reads) if name in reads]
    return Plan(stored=tuple(done), compute=tuple(order), reads=reads, unreadable=unreadable)


def execute(manager: Runnable, planned: Plan, *, force: Collection[str] = ()) -> Iterator[Outcome]:
    """Carry a plan out, one metric after another, and tell how each ended as soon as it has.

    A metric that raises stops nothing but what depends on it. Values are stored, not kept: memory holds what
    it held before, the metric that runs, and inputs that a waiting one reads too.

    Args:
        manager: whose metrics are run.
        planned: what `plan` made of them.
        force: names that are computed even if they are stored.

    Raises:
        KeyboardInterrupt: passes; whatever has been yielded as computed is stored.
    """
    for name in planned.stored:
        yield Outcome(name=name, status="stored")
    memory = _Memory(manager.cache, planned)
    failed: dict[str, BaseException] = {}
    for name in planned.compute:
        outcome = _blocked(name, planned, failed) or _run(manager, name, use_stored=name not in force)
        if outcome.error is not None:
            failed[name] = outcome.error
        memory.ended(outcome)
        yield outcome


def _blocked(name: str, planned: Plan, failed: Mapping[str, BaseException]) -> Outcome | None:
    if name in planned.unreadable:
        return Outcome(name=name, status="failed", error=planned.unreadable[name])
    upstream = next((read for read in planned.reads[name] if read in failed), None)
    if upstream is None:
        return None
    return Outcome(name=name, status="failed", error=failed[upstream], upstream=upstream)


def _run(manager: Runnable, name: str, *, use_stored: bool) -> Outcome:
    if use_stored and manager.exists(name):
        return Outcome(name=name, status="stored")  # another process has been here since
    since, started = datetime.now(UTC), time.perf_counter()
    try:
        manager.get(name, use_stored)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a metric that ends the process ends only itself
        # The frames of a failed metric may hold gigabytes; their lines are enough to tell where it failed.
        traceback.clear_frames(error.__traceback__)
        return Outcome(name=name, status="failed", seconds=time.perf_counter() - started, error=error)
    status: Status = "computed" if _was_computed(manager, name, since) else "stored"
    return Outcome(name=name, status=status, seconds=time.perf_counter() - started)


def _was_computed(manager: Runnable, name: str, since: datetime) -> bool:
    """Whether a value was computed since then; no if another process was waited for that had begun before."""
    try:
        record = manager.record(name)
    except MetricNotStoredError:
        return True
    return record.date - timedelta(seconds=record.duration_seconds or 0.0) >= since


class _Memory:
    """Takes out of a manager's memory what the run brings there.

    What was computed goes at once, and comes back from the storage for its first reader: of a sweep whose
    rows read each other one by one, the order of the run would otherwise keep half in memory.
    """

    def __init__(self, cache: MutableMapping[str, Any], planned: Plan) -> None:
        self._cache = cache
        self._keep = set(cache)
        self._reads = planned.reads
        self._readers = Counter(read for reads in planned.reads.values() for read in reads)

    def ended(self, outcome: Outcome) -> None:
        reads = self._reads[outcome.name]
        self._readers.subtract(reads)
        gone = [read for read in reads if self._readers[read] == 0]
        if outcome.status != "failed":  # a value that could not be stored must not be lost
            gone.append(outcome.name)
        for name in gone:
            if name not in self._keep:
                self._cache.pop(name, None)


def _reads(manager: Runnable, name: str) -> tuple[str, ...]:
    function: object = manager.functions_dict.get(name)
    return tuple(function.reads()) if isinstance(function, Reading) else ()
