"""How long rows take, by the records of stored ones and by what a run has seen: for batches and forecasts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from smm.errors import MetricNotStoredError
from smm.metric import Reason
from smm.run import Plan, Runnable

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

_SAMPLE = 16
"""Records that are read for each metric."""


@attrs.frozen(kw_only=True)
class Pace:
    """What is known of one metric's rows."""

    seconds: float | None = None
    """That a row takes to compute; None if none is known."""
    size: float | None = None
    """Bytes that it takes on the disk."""


class Paces:
    """Seconds and bytes for a row of each metric. Used by one thread."""

    def __init__(self, base_name: Callable[[str], str], recorded: Mapping[str, Pace]) -> None:
        self.base_name = base_name
        """Of a metric name."""
        self._recorded = recorded
        self._seen: dict[str, tuple[int, float]] = {}  # rows and their seconds

    def seconds(self, name: str) -> float | None:
        """What a row is expected to take; None if nothing is known of its metric."""
        return self.of_base(self.base_name(name))

    def of_base(self, base_name: str) -> float | None:
        """What a row of this metric is expected to take."""
        rows, total = self._seen.get(base_name, (0, 0.0))
        if rows:
            return total / rows
        return self._recorded[base_name].seconds if base_name in self._recorded else None

    def learn(self, name: str, seconds: float) -> None:
        """Take in what a row took."""
        base_name = self.base_name(name)
        rows, total = self._seen.get(base_name, (0, 0.0))
        self._seen[base_name] = rows + 1, total + seconds


def recorded(
    manager: Runnable, by_base: Mapping[str, Sequence[str]], stored: Collection[str]
) -> dict[str, Pace]:
    """Means over a few stored rows of each metric, by base name; opens up to 16 side-cars each."""
    return {base_name: _pace(manager, names, stored) for base_name, names in by_base.items()}


def _pace(manager: Runnable, names: Sequence[str], stored: Collection[str]) -> Pace:
    there = [name for name in names if name in stored]
    seconds: list[float] = []
    sizes: list[int] = []
    for name in there[:: max(1, len(there) // _SAMPLE)][:_SAMPLE]:
        try:
            record = manager.record(name)
        except MetricNotStoredError:
            continue  # deleted meanwhile
        if record.duration_seconds is not None:
            seconds.append(record.duration_seconds)
        if record.data is not None:
            sizes.append(record.data.size)
    return Pace(seconds=_mean(seconds), size=_mean(sizes))


def _mean(values: Collection[float]) -> float | None:
    return sum(values) / len(values) if values else None


# --- forecasts -------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class MetricForecast:
    """What a run will do for one metric."""

    base_name: str
    reasons: Mapping[Reason, int]
    """Rows to compute by why; what they are about is left out."""
    stored: int
    """Rows asked for that are there."""
    skipped: int
    """Rows that failed before and will not be tried."""
    pace: Pace

    @property
    def rows(self) -> int:
        """To compute."""
        return sum(self.reasons.values())


@attrs.frozen(kw_only=True)
class Forecast:
    """What a run will do, and what it will take."""

    plan: Plan
    metrics: tuple[MetricForecast, ...]
    workers: int
    seconds: float | None
    """From start to end on so many workers; None if nothing is known."""
    size: float | None
    """Bytes of new data."""
    unknown: tuple[str, ...]
    """Base names of which no row has ever been stored: they come on top."""


def forecast(
    plan: Plan, by_base: Mapping[str, Sequence[str]], paces: Mapping[str, Pace], workers: int
) -> Forecast:
    """What a plan will take, by what is recorded of rows like its own."""
    base_of = {name: base for base, names in by_base.items() for name in names}
    counted: dict[str, dict[Reason, int]] = {}
    for name in plan.compute:
        reasons = counted.setdefault(base_of.get(name, name), {})
        why = attrs.evolve(plan.reasons[name], about=None, detail="")
        reasons[why] = reasons.get(why, 0) + 1
    stored = _tally(base_of.get(name, name) for name in plan.stored)
    skipped = _tally(base_of.get(name, name) for name in plan.skipped)
    involved = {**counted, **stored, **skipped}
    order = [base for base in by_base if base in involved] + [
        base for base in involved if base not in by_base
    ]
    metrics = tuple(
        MetricForecast(
            base_name=base,
            reasons=counted.get(base, {}),
            stored=stored.get(base, 0),
            skipped=skipped.get(base, 0),
            pace=paces.get(base, Pace()),
        )
        for base in order
    )
    known = [metric for metric in metrics if metric.rows and metric.pace.seconds is not None]
    sized = [metric for metric in metrics if metric.rows and metric.pace.size is not None]
    return Forecast(
        plan=plan,
        metrics=metrics,
        workers=workers,
        seconds=_wall(plan, base_of, paces, workers) if known else None,
        size=sum(metric.rows * (metric.pace.size or 0.0) for metric in sized) if sized else None,
        unknown=tuple(metric.base_name for metric in metrics if metric.rows and metric.pace.seconds is None),
    )


def _tally(base_names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for base_name in base_names:
        found[base_name] = found.get(base_name, 0) + 1
    return found


def _wall(plan: Plan, base_of: Mapping[str, str], paces: Mapping[str, Pace], workers: int) -> float:
    """The longer of: the work divided among the workers, and the longest chain of rows that read another."""
    total, longest = 0.0, 0.0
    ends: dict[str, float] = {}
    for name in plan.compute:  # upstream first
        took = paces.get(base_of.get(name, name), Pace()).seconds or 0.0
        total += took
        ends[name] = took + max((ends.get(read, 0.0) for read in plan.reads[name]), default=0.0)
        longest = max(longest, ends[name])
    return max(total / workers, longest)
