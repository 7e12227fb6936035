"""What maintenance of stores finds, as a person wants to read it, and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rich.console import RenderableType
from rich.table import Table

from smm._diff import Difference, Outcome, ranked
from smm._gc import KINDS, Garbage, GarbageKind
from smm._render import count_cell, date, new_table
from smm._terminal import Text
from smm._text import size
from smm._values import value_json
from smm._verify import Verdict

T = TypeVar("T")

MOST_SHOWN = 20
"""Things of one kind that are shown one by one."""

_LONGEST_PARAMS = 80


def watched(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Pass the items on, with a bar on standard error if that is a terminal and there are many."""
    if total < MOST_SHOWN or not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from smm._terminal import Console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, description=label)


def _more(count: int) -> list[RenderableType]:
    return [Text(f"and {count - MOST_SHOWN:,} more; --json lists them all")] if count > MOST_SHOWN else []


# --- gc --------------------------------------------------------------------------------------------------

_MEANING: Mapping[GarbageKind, str] = {
    "undeclared": "stored, and nothing declares it any more",
    "unfinished": "data without a side-car: never finished",
    "side-car": "a side-car without data",
    "temporary": "what a killed process was writing",
    "log": "of an old run",
}


def garbage_tables(garbage: Sequence[Garbage]) -> list[RenderableType]:
    """A few things of each kind, then the sums."""
    table = new_table("kind", "name", "size", "computed", numbers=("size",))
    sums = new_table("in all", "count", "size", "", numbers=("count", "size"))
    for kind in KINDS:
        found = [one for one in garbage if one.kind == kind]
        if not found:
            continue
        for one in found[:MOST_SHOWN]:
            table.add_row(kind, Text(one.name), _size(one.size), date(one.date))
        if len(found) > MOST_SHOWN:
            table.add_row(kind, Text(f"and {len(found) - MOST_SHOWN:,} more; --json lists them all"), "", "")
        sums.add_row(kind, count_cell(len(found)), _size(total_size(found)), _MEANING[kind])
    sums.add_section()
    sums.add_row("", count_cell(len(garbage)), _size(total_size(garbage)), "")
    return [table, "", sums]


def total_size(garbage: Iterable[Garbage]) -> int | None:
    """Bytes of all; None where there are no files."""
    sizes = [one.size for one in garbage if one.size is not None]
    return sum(sizes) if sizes else None


def _size(count: int | None) -> str:
    return "" if count is None else size(count)


def garbage_json(garbage: Iterable[Garbage], removed: Collection[Garbage]) -> dict[str, Any]:
    """What `smm gc --json` prints."""
    garbage = list(garbage)
    return {
        "garbage": [
            {
                "kind": one.kind,
                "name": one.name,
                "path": None if one.path is None else str(one.path),
                "bytes": one.size,
                "date": None if one.date is None else one.date.isoformat(),
                "removed": one in removed,
            }
            for one in garbage
        ],
        "count": len(garbage),
        "bytes": total_size(garbage),
        "removed": len(removed),
    }


# --- verify ----------------------------------------------------------------------------------------------


def verdict_tables(verdicts: Sequence[Verdict]) -> list[RenderableType]:
    """What is wrong, and how much was checked and how."""
    bad = [verdict for verdict in verdicts if verdict.problem is not None]
    parts: list[RenderableType] = []
    if bad:
        table = new_table("metric", "", "problem", "file")
        for verdict in bad[:MOST_SHOWN]:
            path = "" if verdict.path is None else str(verdict.path)
            table.add_row(
                Text(verdict.name, style="bold red"),
                verdict.trouble or "",
                Text(verdict.problem or ""),
                Text(path),
            )
        parts += [table, *_more(len(bad)), ""]
    sizes = [verdict.size for verdict in verdicts if verdict.size is not None]
    read = f", {size(sum(sizes))} read" if sizes else ""
    parts.append(Text(f"{len(verdicts) - len(bad):,} of {len(verdicts):,} are whole{read}"))
    by_format = sum(verdict.problem is None and verdict.against == "format" for verdict in verdicts)
    if by_format:
        parts.append(Text(f"{by_format:,} of these by their format alone: no record notes their check sum"))
    return parts


def verdicts_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What `smm verify --json` prints."""
    return {
        "checked": len(verdicts),
        "damaged": sum(verdict.problem is not None for verdict in verdicts),
        "metrics": [
            {
                "name": verdict.name,
                "trouble": verdict.trouble,
                "problem": verdict.problem,
                "path": None if verdict.path is None else str(verdict.path),
                "bytes": verdict.size,
                "against": verdict.against,
            }
            for verdict in verdicts
        ],
    }


# --- diff ------------------------------------------------------------------------------------------------

_COLOURS: Mapping[Outcome, str] = {
    "within": "dim",
    "same": "dim",
    "only in A": "yellow",
    "only in B": "yellow",
}
_WORDS: Mapping[Outcome, str] = {
    "same": "the same",
    "within": "within the tolerance",
    "beyond": "beyond the tolerance",
}


def difference_tables(differences: Iterable[Difference], *, show_all: bool) -> list[RenderableType]:
    """What changed most, one line a metric, and how many did.

    Args:
        differences: of all metrics.
        show_all: show every metric that is not the same, instead of 20.
    """
    found = ranked(differences)
    moved = [one for one in found if one.outcome != "same"]
    parts: list[RenderableType] = []
    if moved:
        parts += [_moved_table(moved if show_all else moved[:MOST_SHOWN])]
        if len(moved) > MOST_SHOWN and not show_all:
            parts.append(Text(f"and {len(moved) - MOST_SHOWN:,} more; --all shows them"))
        parts.append("")
    counts = outcome_counts(found)
    said = ", ".join(
        f"{count:,} {_WORDS.get(outcome, outcome)}" for outcome, count in counts.items() if count
    )
    return [*parts, Text(f"{len(found):,} compared: {said}")]


def _moved_table(moved: Iterable[Difference]) -> Table:
    table = new_table(
        "metric", "", "relative", "absolute", "where", "A", "B", "params", numbers=("relative", "absolute")
    )
    for one in moved:
        change = one.change
        where, before, after = one.reason, "", ""
        if change is not None:
            more = f" and {change.count - 1:,} more" if change.count > 1 else ""
            where, before, after = f"{change.place}{more}", change.before, change.after
        table.add_row(
            Text(one.name),
            Text(one.outcome, style=_COLOURS.get(one.outcome, "bold red")),
            _number(None if change is None else change.relative),
            _number(None if change is None else change.absolute),
            Text(where.strip()),
            Text(before),
            Text(after),
            Text(_params(one.params)),
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _params(params: Mapping[str, Any] | None) -> str:
    text = ", ".join(f"{name}={value}" for name, value in (params or {}).items())
    return text if len(text) <= _LONGEST_PARAMS else f"{text[:_LONGEST_PARAMS]}..."


def outcome_counts(differences: Iterable[Difference]) -> dict[Outcome, int]:
    """How many metrics came out in each way."""
    counts: dict[Outcome, int] = dict.fromkeys(
        ("same", "within", "beyond", "different", "only in A", "only in B", "unreadable"), 0
    )
    for one in differences:
        counts[one.outcome] += 1
    return counts


def differences_json(differences: Iterable[Difference], *, rtol: float, atol: float) -> dict[str, Any]:
    """What `smm diff --json` prints; ranked as the table is, and with what is the same."""
    found = ranked(differences)
    return {
        "rtol": rtol,
        "atol": atol,
        "counts": outcome_counts(found),
        "metrics": [_difference_json(one) for one in found],
    }


def _difference_json(one: Difference) -> dict[str, Any]:
    change = one.change
    return {
        "name": one.name,
        "outcome": one.outcome,
        "relative": None if change is None else value_json(change.relative),
        "absolute": None if change is None else value_json(change.absolute),
        "place": None if change is None else change.place,
        "a": None if change is None else change.before,
        "b": None if change is None else change.after,
        "count": None if change is None else change.count,
        "reason": one.reason or None,
        "base_name": one.base_name,
        "params": None if one.params is None else dict(one.params),
    }
