"""How a run goes, while it goes: a bar on a terminal, else a line for each metric."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator

from smm._blame import shown
from smm._text import seconds
from smm.run import Outcome, Plan


def watched(outcomes: Iterable[Outcome], planned: Plan) -> Iterator[Outcome]:
    """Pass the outcomes of a plan on, telling on standard error how far it is.

    Standard output stays free for the result, and for what the metrics themselves print.
    """
    if not planned.compute:
        yield from outcomes
    elif sys.stderr.isatty():
        yield from _with_bar(outcomes, planned)
    else:
        yield from _with_lines(outcomes, planned)


def _with_lines(outcomes: Iterable[Outcome], planned: Plan) -> Iterator[Outcome]:
    total, before = len(planned.compute), len(planned.stored)
    print(f"{total:,} to compute, {before:,} already stored", file=sys.stderr)  # noqa: T201
    for number, outcome in enumerate(outcomes, start=1 - before):  # what is stored comes first
        if number > 0:
            print(f"[{number}/{total}] {outcome.name}: {_ended(outcome)}", file=sys.stderr, flush=True)  # noqa: T201
        yield outcome


def _ended(outcome: Outcome) -> str:
    if outcome.upstream is not None:
        return f"not tried, {outcome.upstream} failed"
    if outcome.error is not None:
        return f"failed, {shown(outcome.error)}"
    return seconds(outcome.seconds) if outcome.status == "computed" else "stored meanwhile"


def _with_bar(outcomes: Iterable[Outcome], planned: Plan) -> Iterator[Outcome]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    total, before = len(planned.compute), len(planned.stored)
    running = [escape(name) for name in (*planned.compute, "")]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(running[0], total=before + total, completed=before)
        for number, outcome in enumerate(outcomes, start=1 - before):
            if number > 0:
                bar.update(task, completed=before + number, description=running[number])
            if outcome.error is not None and outcome.upstream is None:
                bar.console.print(
                    f"{outcome.name}: {_ended(outcome)}",
                    style="red",
                    markup=False,
                    highlight=False,
                )
            yield outcome


@contextlib.contextmanager
def waits_told() -> Iterator[None]:
    """Tell on standard error when a metric waits for another process that computes it."""
    log = logging.getLogger("smm")
    level, told = log.level, _Waits()
    log.addHandler(told)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(told)


class _Waits(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line.startswith("Wait for "):
            print(line, file=sys.stderr, flush=True)  # noqa: T201
