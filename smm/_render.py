"""Statuses, reports and records as a person wants to read them, and as JSON.

With the progress bar the only part of smm that loads rich.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from smm._blame import last_line
from smm._terminal import Console, Text
from smm._text import seconds, size
from smm._values import summary
from smm.collect import Row
from smm.errors import (
    CorruptMetricError,
    FailedBeforeError,
    MetricNotStoredError,
    SmmError,
    UnstorableError,
)
from smm.manager import DatedCacheManager
from smm.protocols import FolderStorage

if TYPE_CHECKING:
    from smm._pace import Forecast, MetricForecast
    from smm.metric import Record
    from smm.run import Failed, Outcome, RunReport, Status

_MOST_FAILURES = 20
"""Failures of a run that are shown one by one."""

_MOST_READS = 4
"""Upstream metrics of a record that are shown one by one."""

_DIGITS = 8
"""Of the digest of a metric's code, enough to tell two of them apart."""

_WIDE = 200
"""Columns where there is no terminal, so that nothing is cut in a file."""


def as_text(*parts: RenderableType) -> str:
    """Render for standard output: in colour and at its width if it is a terminal."""
    terminal = sys.stdout.isatty()
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=terminal,
        width=shutil.get_terminal_size().columns if terminal else _WIDE,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str | Text))
    lines = out.getvalue().splitlines()
    return "\n".join(line if terminal else line.rstrip() for line in lines)


def new_table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    """A table without lines, with these columns; those of numbers are aligned to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def count_cell(number: int, style: str = "") -> Text:
    """A number of rows; a dash for none."""
    return Text(f"{number:,}", style=style) if number else Text("-", style="dim")


def date(when: datetime | None) -> str:
    """A date for a person, in local time: `2026-01-31 14:05`."""
    return "" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M")


# --- runs ------------------------------------------------------------------------------------------------


def run_tables(report: RunReport, base_names: Mapping[str, str], target: str) -> list[RenderableType]:
    """Show what a run did for each metric, then what failed and where.

    Args:
        report: the run.
        base_names: by metric name.
        target: what the command was given, for the commands that errors recommend.
    """
    by_base: dict[str, list[Outcome]] = {base_name: [] for base_name in base_names.values()}  # in their order
    for outcome in report.outcomes:
        by_base.setdefault(base_names.get(outcome.name, outcome.name), []).append(outcome)
    by_base = {base_name: outcomes for base_name, outcomes in by_base.items() if outcomes}
    rare = {status: label for status, label in _RARE.items() if report.of(status)}
    numbers = ("computed", "already stored", "failed", *rare.values(), "time")
    table = new_table("metric", *numbers, numbers=numbers)
    for base_name, outcomes in by_base.items():
        busy = sum(outcome.seconds for outcome in outcomes)
        table.add_row(Text(base_name), *_run_cells(outcomes, busy, rare))
    if len(by_base) != 1:
        table.add_section()
        cells = _run_cells(report.outcomes, report.seconds, rare)
        table.add_row(Text("in all", style="bold"), *cells)
    parts: list[RenderableType] = [table]
    if failed := (*report.of("failed"), *report.of("skipped")):
        parts += ["", *_failures(failed, target)]
        if report.of("skipped"):
            parts += [
                "",
                "skipped: failed in an earlier run, and nothing changed since; --retry-failed tries again",
            ]
        if report.log is not None:
            parts += ["", f"tracebacks are in {_short(str(report.log))}"]
    parts += _refusals(report, base_names)
    if report.left:
        parts += ["", f"not come to: {report.left:,}; run again for the rest"]
    return parts


_RARE: dict[Status, str] = {"skipped": "skipped", "held": "held back"}
"""The ways to end that have a column only where they occur."""


def _refusals(report: RunReport, base_names: Mapping[str, str]) -> Iterator[RenderableType]:
    """What the storage has refused, what has become of it, and what to do."""
    refused: dict[str, list[Outcome]] = {}
    for outcome in report.of("failed"):
        if isinstance(outcome.error, UnstorableError) and outcome.upstream is None:
            refused.setdefault(base_names.get(outcome.name, outcome.name), []).append(outcome)
    for base_name, outcomes in refused.items():
        held = sum(base_names.get(each.name, each.name) == base_name for each in report.of("held"))
        values = "1 value was" if len(outcomes) == 1 else f"{len(outcomes):,} values were"
        rest = f", and {held:,} more {'row was' if held == 1 else 'rows were'} held back" if held else ""
        yield ""
        yield Text(f"{base_name}: {values} computed and refused by the storage{rest}.")
        yield Text(
            "A refused value is lost with this process. Let the function return what the storage keeps, or "
            "take another storage; --keep-trying computes the other rows all the same"
        )


def _run_cells(outcomes: Sequence[Outcome], duration: float, rare: Iterable[Status]) -> list[RenderableType]:
    counts = dict.fromkeys(("computed", "stored", "failed", "skipped", "held"), 0)
    for outcome in outcomes:
        counts[outcome.status] += 1
    return [
        count_cell(counts["computed"], "green"),
        count_cell(counts["stored"]),
        count_cell(counts["failed"], "bold red"),
        *(count_cell(counts[status], "yellow") for status in rare),
        seconds(duration) if duration >= 0.001 else Text("-", style="dim"),
    ]


def _failures(failed: Sequence[Outcome], target: str) -> Iterator[RenderableType]:
    table = new_table("failed", "because", "where")
    own = [outcome for outcome in failed if outcome.upstream is None]
    blocked = [outcome for outcome in failed if outcome.upstream is not None]
    for outcome in [*own, *blocked][:_MOST_FAILURES]:
        because, where = failure(outcome, target)
        table.add_row(Text(outcome.name, style="bold red"), Text(because), Text(where or ""))
    yield table
    if len(failed) > _MOST_FAILURES:
        yield Text(f"and {len(failed) - _MOST_FAILURES:,} more; --json lists them all")


def failure(outcome: Outcome, target: str) -> tuple[str, str | None]:
    """Return why a metric failed, and the line of the user's code."""
    if outcome.upstream is not None:
        return f"{outcome.upstream} failed, which it reads", None
    if outcome.error is None:
        return "", None
    place = outcome.where and _short(outcome.where)
    if isinstance(outcome.error, FailedBeforeError):
        return f"skipped; {outcome.error.kind}: {outcome.error.text.splitlines()[0]}", place
    tries = f" ({outcome.tries} tries)" if outcome.tries > 1 else ""
    error = outcome.error
    text = error.for_command_line(target) if isinstance(error, SmmError) else last_line(error)
    return f"{text}{tries}", place


def _short(place: str) -> str:
    """A path as seen from the working directory, if it lies below."""
    here = os.getcwd() + os.sep
    return place.removeprefix(here)


def run_json(report: RunReport) -> dict[str, Any]:
    """What `smm run --json` prints."""
    return {
        "seconds": report.seconds,
        **report.counts(),
        "left": report.left,
        "interrupted": report.interrupted,
        "executor": report.executor,
        "workers": report.workers,
        "log": None if report.log is None else str(report.log),
        "metrics": [_outcome_json(outcome) for outcome in report.outcomes],
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "name": outcome.name,
        "status": outcome.status,
        "seconds": outcome.seconds,
        "worker": outcome.worker,
        "tries": outcome.tries,
        "error": error
        and {
            "type": type(error).__qualname__,
            "message": str(error),
            "where": outcome.where,
            "traceback": outcome.traceback,
            "upstream": outcome.upstream,
        },
    }


# --- plans -----------------------------------------------------------------------------------------------

_WHY = {
    "missing": "missing",
    "forced": "stored, and to be replaced",
    "needed": "missing, and read by others",
    "code": "stale: code",
    "input": "stale: input",
    "age": "stale: age",
}


def plan_tables(forecast: Forecast) -> list[RenderableType]:
    """What a run would do for each metric, and what it would take in all."""
    if not forecast.plan.compute and not forecast.plan.skipped:
        return [f"nothing to compute: {len(forecast.plan.stored):,} stored"]
    columns = ("metric", "to compute", "already stored", "each", "in all", "size", "why")
    table = new_table(*columns, numbers=columns[1:6])
    for metric in forecast.metrics:
        each, size_each = metric.pace.seconds, metric.pace.size
        if not metric.rows:
            each = size_each = None
        table.add_row(
            Text(metric.base_name),
            count_cell(metric.rows, "green"),
            count_cell(metric.stored),
            "" if each is None else seconds(each),
            "" if each is None else seconds(each * metric.rows),
            "" if size_each is None else size(size_each * metric.rows),
            Text("; ".join(_reasons(metric))),
        )
    return [table, "", Text(_in_all(forecast))]


def _reasons(metric: MetricForecast) -> Iterator[str]:
    several = len(metric.reasons) + bool(metric.skipped) > 1
    for reason, count in metric.reasons.items():
        yield f"{f'{count:,} ' if several else ''}{_WHY[reason.kind]}"
    if metric.skipped:
        yield f"{metric.skipped:,} skipped, failed before: --retry-failed"


def _in_all(forecast: Forecast) -> str:
    rows = len(forecast.plan.compute)
    workers = f"{forecast.workers} worker{'' if forecast.workers == 1 else 's'}"
    taking = "" if forecast.seconds is None else f", about {seconds(forecast.seconds)} on {workers}"
    storing = "" if forecast.size is None else f", {size(forecast.size)}"
    unknown = ""
    if forecast.unknown:
        unknown = f"; not counted, since no row has been stored yet: {', '.join(forecast.unknown)}"
    return f"in all {rows:,} to compute{taking}{storing}{unknown}"


def plan_json(forecast: Forecast) -> dict[str, Any]:
    """What `smm plan --json` prints."""
    return {
        "rows": len(forecast.plan.compute),
        "seconds": forecast.seconds,
        "bytes": forecast.size,
        "workers": forecast.workers,
        "unknown": list(forecast.unknown),
        "metrics": [
            {
                "name": metric.base_name,
                "rows": metric.rows,
                "reasons": {reason.kind: count for reason, count in metric.reasons.items()},
                "stored": metric.stored,
                "skipped": metric.skipped,
                "seconds": metric.pace.seconds,
                "bytes": metric.pace.size,
            }
            for metric in forecast.metrics
        ],
    }


# --- records ---------------------------------------------------------------------------------------------


def title(name: str) -> Text:
    """A metric's name, as a heading."""
    return Text(name, style="bold")


def record_table(manager: DatedCacheManager, record: Record) -> Table:
    """What is known of a stored value, one fact a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    took = "" if record.duration_seconds is None else f", in {seconds(record.duration_seconds)}"
    length = "" if record.data is None else f", {size(record.data.size)}"
    versions = {"smm": record.smm_version, "Python": record.python_version, "numpy": record.numpy_version}
    facts = {
        "call": _call(manager, record),
        "computed": f"{date(record.date)}{took}",
        "with": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "code": _code(record),
        "read": _reads(record),
        "accepted": _accepted(record),
        "stale": _stale(manager, record),
        "stored in": f"{_place(manager)}{length}",
    }
    for label, fact in facts.items():
        if fact:
            table.add_row(label, Text(fact))
    return table


def _code(record: Record) -> str:
    if record.code is None:
        return ""
    parts = len(record.code.parts)
    return f"{record.code.digest[:_DIGITS]}, {parts:,} definition{'' if parts == 1 else 's'}"


def _reads(record: Record) -> str:
    """What was read to compute it, by name and date."""
    reads = record.inputs or ()
    shown = [
        f"{read.name}{f' in {read.store}' if read.store else ''} of {date(read.date)}"
        for read in reads[:_MOST_READS]
    ]
    more = len(reads) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _stale(manager: DatedCacheManager, record: Record) -> str:
    """The first reason why it is stale; empty if it is not."""
    reasons = manager._staleness.reasons(record.name, record)
    return next((str(reason) for reason in reasons if reason.is_stale), "")


def _accepted(record: Record) -> str:
    if record.accepted is None:
        return ""
    digest = record.accepted.digest
    by = "code that was not noted" if digest is None else f"code {digest[:_DIGITS]}"
    return f"{date(record.accepted.date)}, computed by {by}"


def _place(manager: DatedCacheManager) -> str:
    storage = manager.storage_interface
    return str(storage.metrics_dir) if isinstance(storage, FolderStorage) else type(storage).__name__


def _call(manager: DatedCacheManager, record: Record) -> str:
    """The call that made a value, from the code if it still declares it, else as the record notes it."""
    function = manager.functions_dict.get(record.name)
    if isinstance(function, Row):
        return function.rows.show(function.call)
    if record.base_name is None or record.params is None:
        return ""
    return f"{record.base_name}({', '.join(f'{name}={value}' for name, value in record.params.items())})"


def values_table(manager: DatedCacheManager, names: Iterable[str]) -> Table:
    """One line a metric: its value in short, when it was computed, or that it is not stored."""
    table = new_table("metric", "value", "computed")
    names = list(names)
    failed = manager._failed_before([name for name in names if not manager.exists(name)])
    for name in names:
        try:
            value, when = summary(manager.load(name)), date(manager.date(name))
            table.add_row(Text(name), Text(value), when)
        except MetricNotStoredError:
            noted = failed.get(name)
            missing = (
                Text("not stored", style="yellow") if noted is None else Text(failure_line(noted), "red")
            )
            table.add_row(Text(name), missing, "")
        except CorruptMetricError as error:
            table.add_row(Text(name), Text(f"damaged: {error.reason}", style="red"), "")
        manager.clear_cache()  # of many values, one at a time is enough to hold
    return table


def failure_line(failed: Failed) -> str:
    """Why a metric failed in an earlier run, in one line."""
    place = "" if failed.where is None else f" ({_short(failed.where)})"
    return f"failed: {failed.kind}: {' '.join(failed.message.split())}{place}"


def failed_json(failed: Failed) -> dict[str, Any]:
    """What `smm show --json` prints of a metric that failed in an earlier run."""
    return {
        "name": failed.name,
        "failed": {
            "type": failed.kind,
            "message": failed.message,
            "where": failed.where,
            "when": failed.when.isoformat(),
            "traceback": failed.traceback,
        },
    }


def record_json(record: Record) -> dict[str, Any]:
    """A record as its side-car has it."""
    fields: dict[str, Any] = json.loads(record.to_json())
    del fields["smm_record"]
    return fields
