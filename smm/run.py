"""What a run is made of, as values: what there is to do and why, and how each metric ended.

Nothing is computed here. `plan` decides, `smm._schedule` carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from smm.errors import MetricNotStoredError
from smm.graph import upstream_first
from smm.metric import Reason, Record

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

_set = object.__setattr__

Status: TypeAlias = Literal["computed", "stored", "failed", "skipped", "held"]


class Runnable(Protocol):
    """What a run needs of a manager."""

    functions_dict: dict[str, Callable[[], Any]]
    """A function that knows which metrics it reads gives their names by a method `reads()`."""
    cache: MutableMapping[str, Any]

    def exists(self, name: str) -> bool:
        """Whether the value is in memory, or stored with its side-car."""

    def bring(self, name: str, use_stored: bool = True, *, verbose: bool | None = None) -> bool:
        """See that the value is stored, computing it if need be; whether this call computed it."""

    def record(self, name: str) -> Record:
        """What the side-car says of the stored value."""

    def _release(self, is_wanted: Callable[[str], bool]) -> None:
        """Let values leave memory that are not wanted there; what is not stored yet stays."""


@attrs.frozen(kw_only=True)
class Failed:
    """An earlier run's failure of a metric that is still missing, as its log notes it."""

    name: str
    kind: str
    """Class name of the exception."""
    message: str
    where: str | None
    """`file.py:12`, the line of the user's code."""
    when: datetime
    log: Path
    traceback: str = ""
    """From where the user's code begins."""


@attrs.frozen(kw_only=True)
class Outcome:
    """How one metric of a run ended."""

    name: str
    status: Status
    """`stored` was there before, or was computed meanwhile by another process or for a row that reads it;
    `computed` is stored now; `failed` is not, or not anew; `skipped` failed in an earlier run and was not
    tried, nor what reads it; `held` was not tried, because the storage refused another row of the metric."""
    seconds: float = 0.0
    """How long a worker was busy with it, all tries together."""
    worker: str = ""
    """Host and process, with the thread where there are several; empty if none was busy with it."""
    tries: int = 1
    error: BaseException | None = None
    """What the metric raised, or the upstream metric that it needs."""
    traceback: str = ""
    """Of the error, from where the user's code begins."""
    where: str | None = None
    """File and line of the user's code that raised."""
    files: tuple[str, ...] = ()
    """Of the user's code, those that the error came through."""
    upstream: str | None = None
    """The failed metric because of which this one was not tried."""

    # By hand, for that takes half the time, and there is one for each row of a sweep.
    def __init__(
        self,
        *,
        name: str,
        status: Status,
        seconds: float = 0.0,
        worker: str = "",
        tries: int = 1,
        error: BaseException | None = None,
        traceback: str = "",
        where: str | None = None,
        files: tuple[str, ...] = (),
        upstream: str | None = None,
    ) -> None:
        _set(self, "name", name)
        _set(self, "status", status)
        _set(self, "seconds", seconds)
        _set(self, "worker", worker)
        _set(self, "tries", tries)
        _set(self, "error", error)
        _set(self, "traceback", traceback)
        _set(self, "where", where)
        _set(self, "files", files)
        _set(self, "upstream", upstream)


@attrs.frozen(kw_only=True)
class RunReport:
    """What a run has done, in the order it was done."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    """From start to end, all metrics together."""
    left: int = 0
    """Metrics that were not come to, because the run was interrupted or failed fast."""
    interrupted: bool = False
    """By Ctrl-C or SIGTERM."""
    executor: str = "threads"
    workers: int = 1
    """How many there were at the start."""
    log: Path | None = None
    """The run's log; None if nothing was computed, or the storage has no folder."""

    def of(self, status: Status) -> tuple[Outcome, ...]:
        """The metrics that ended so."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)

    def __repr__(self) -> str:
        counts = [f"{count:,} {status}" for status, count in self.counts().items() if count]
        if self.left:
            counts.append(f"{self.left:,} left")
        return f"<RunReport: {', '.join(counts) or 'nothing to do'}, {self.seconds:.3g} s>"

    def counts(self) -> dict[str, int]:
        """How many metrics ended in each way."""
        found = dict.fromkeys(("computed", "stored", "failed", "skipped", "held"), 0)
        for outcome in self.outcomes:
            found[outcome.status] += 1
        return found


@attrs.frozen(kw_only=True)
class Plan:
    """What a run will do."""

    stored: tuple[str, ...]
    """Asked for, and there already."""
    compute: tuple[str, ...]
    """To be computed in this order: what they read comes first, asked for or not."""
    reads: Mapping[str, tuple[str, ...]]
    """For each of `compute` and `skipped`, what it reads by its declared inputs."""
    unreadable: Mapping[str, Exception]
    """Of `compute`, those whose inputs cannot be told, and why."""
    reasons: Mapping[str, Reason]
    """For each of `compute`."""
    skipped: Mapping[str, Failed]
    """Not to be tried again, because they failed and nothing about them has changed since, or because what
    they read did: then with its failure."""

    @property
    def forced(self) -> frozenset[str]:
        """Those that are computed even if they are stored."""
        return frozenset(name for name, reason in self.reasons.items() if reason.kind == "forced")


def plan(
    manager: Runnable,
    names: Iterable[str],
    *,
    force: bool = False,
    stored: Collection[str] | None = None,
    failed: Callable[[Collection[str]], Mapping[str, Failed]] | None = None,
    stale: Callable[[str], Reason | None] | None = None,
) -> Plan:
    """Decide what there is to do. Computes and loads nothing.

    Args:
        manager: whose metrics are run.
        names: declared metrics; a name given twice counts once.
        force: compute those of `names` that are stored, too.
        stored: the names that are stored, if that is known; else the manager is asked for each.
        failed: gives, of the names it is asked about, those that failed before and are not worth another try.
            None of them is skipped whose upstream is computed in this run, or was computed since.
        stale: says of a stored metric why it is to be computed again; None for one that stays.

    Raises:
        CircularMetricError: a metric would read itself.
    """
    is_stored = manager.exists if stored is None else stored.__contains__
    reasons: dict[str, Reason] = {}

    def there(name: str) -> bool:
        """Whether it is stored and stays; else it is noted why not."""
        if not is_stored(name):
            return False
        reason = stale(name) if stale is not None else None
        if reason is not None:
            reasons.setdefault(name, reason)
        return reason is None

    wanted = dict.fromkeys(names)
    done = {} if force else {name: None for name in wanted if there(name)}
    waiting = [name for name in wanted if name not in done]
    missing, forced = Reason(kind="missing"), Reason(kind="forced")
    for name in waiting:
        reasons.setdefault(name, forced if force and is_stored(name) else missing)
    unreadable: dict[str, Exception] = {}
    reads: dict[str, tuple[str, ...]] = {}
    for name in waiting:  # grows while it is read
        if name in reads:
            continue
        try:
            reads[name] = _reads(manager, name)
        except Exception as error:  # noqa: BLE001 - reported as this metric's failure
            reads[name], unreadable[name] = (), error
        for upstream in reads[name]:
            if upstream not in reads and not there(upstream):
                reasons.setdefault(upstream, Reason(kind="needed", about=name))
                waiting.append(upstream)
    order = [name for name in upstream_first(reads) if name in reads]
    skipped = _skipped(manager, order, reads, failed(order) if failed is not None and order else {})
    return Plan(
        stored=tuple(done),
        compute=tuple(name for name in order if name not in skipped),
        reads=reads,
        unreadable=unreadable,
        reasons={name: reasons[name] for name in order if name not in skipped},
        skipped=skipped,
    )


def _skipped(
    manager: Runnable,
    order: Iterable[str],
    reads: Mapping[str, tuple[str, ...]],
    failed: Mapping[str, Failed],
) -> dict[str, Failed]:
    skipped: dict[str, Failed] = {}
    if not failed:
        return skipped

    def is_renewed(read: str, since: datetime) -> bool:
        if read in reads:
            return read not in skipped
        try:
            return manager.record(read).date > since
        except MetricNotStoredError:
            return False

    for name in order:  # upstream first
        noted = failed.get(name)
        if noted is not None and not any(is_renewed(read, noted.when) for read in reads[name]):
            skipped[name] = noted
        elif (upstream := next((read for read in reads[name] if read in skipped), None)) is not None:
            skipped[name] = skipped[upstream]
    return skipped


def _reads(manager: Runnable, name: str) -> tuple[str, ...]:
    """What the function of a metric says it reads, if it is one that knows."""
    reads: Any = getattr(manager.functions_dict.get(name), "reads", None)
    return () if reads is None else tuple(reads())
