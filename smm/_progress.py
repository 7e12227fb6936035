"""How a run goes, while it goes: bars on a terminal or in a notebook, else a line for each metric.

All of it goes to standard error: standard output stays free for results, and for what metrics print.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Protocol

from smm._blame import last_line
from smm._pace import Paces
from smm._text import seconds, visible
from smm.errors import SmmError
from smm.run import Outcome, Plan

_MOST_BARS = 8
"""Of metrics at work, besides the one for all."""
_EVERY_SECONDS = 0.1
"""How often bars change."""


class Watch(Protocol):
    """Looks on while a run goes."""

    def over(
        self, outcomes: Iterator[Outcome], planned: Plan, paces: Paces, workers: int
    ) -> Iterator[Outcome]:
        """Pass the outcomes of a plan on, telling how far it is."""


class Silent:
    """Says nothing."""

    def over(
        self, outcomes: Iterator[Outcome], planned: Plan, paces: Paces, workers: int
    ) -> Iterator[Outcome]:
        """Pass the outcomes on."""
        del planned, paces, workers
        return outcomes


@contextlib.contextmanager
def watching(show: bool) -> Iterator[Watch]:
    """What looks on for the length of a block, and tells of metrics that wait for another process.

    Args:
        show: False for silence.
    """
    if not show:
        yield Silent()
        return
    with _waits_told():
        yield Bars() if sys.stderr.isatty() or in_notebook() else Lines()


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel that has what rich draws with."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" and find_spec("ipywidgets") is not None


# --- lines -----------------------------------------------------------------------------------------------


class Lines:
    """A line for each metric that ends; for thousands of quick ones, a line a second."""

    def over(
        self, outcomes: Iterator[Outcome], planned: Plan, paces: Paces, workers: int
    ) -> Iterator[Outcome]:
        """Pass the outcomes on, with a line before the first."""
        if not planned.compute and not planned.skipped:
            yield from outcomes
            return
        total, done = len(planned.compute) + len(planned.skipped), 0
        left = _Left(planned, paces, workers)
        _print(_first_line(planned, left.text()))
        said = 0.0
        for outcome in outcomes:
            if outcome.name in planned.reads:
                done += 1
                left.ended(outcome)
                now = time.monotonic()
                if outcome.error is not None or outcome.seconds >= 1 or total <= 200 or now - said >= 1:
                    said = now
                    _print(f"[{done}/{total}] {outcome.name}: {ended(outcome)}")
            yield outcome


def _first_line(planned: Plan, left: str) -> str:
    parts = [f"{len(planned.compute):,} to compute", f"{len(planned.stored):,} already stored"]
    if planned.skipped:
        parts.append(f"{len(planned.skipped):,} skipped that failed before")
    return ", ".join(parts) + (f"; about {left}" if left else "")


def ended(outcome: Outcome) -> str:
    """How a metric ended, in a few words."""
    if outcome.status == "skipped":
        before = "it" if outcome.upstream is None else getattr(outcome.error, "name", outcome.upstream)
        return f"skipped, {before} failed in an earlier run" + ("" if outcome.upstream else _why(outcome))
    if outcome.status == "held" and outcome.upstream is None:
        return f"held back, the storage refused {getattr(outcome.error, 'name', 'another row')}"
    if outcome.upstream is not None:
        return f"not tried, {outcome.upstream} failed"
    if outcome.error is not None:
        return f"failed{_why(outcome)}"
    return seconds(outcome.seconds) if outcome.status == "computed" else "stored meanwhile"


def _why(outcome: Outcome) -> str:
    if outcome.error is None:
        return ""
    tries = f" ({outcome.tries} tries)" if outcome.tries > 1 else ""
    place = f" ({outcome.where})" if outcome.where else ""
    said = getattr(outcome.error, "text", None) if outcome.status == "skipped" else None
    if said is not None:
        said = f"{getattr(outcome.error, 'kind', '')}: {said}"
    elif isinstance(outcome.error, SmmError):
        said = outcome.error.what()  # the way out comes at the end, as a call or as a command
    return f"{tries}, {last_line(outcome.error) if said is None else said}{place}"


def _print(line: str) -> None:
    print(visible(line), file=sys.stderr, flush=True)  # noqa: T201


class _Left:
    """What is left to compute, in seconds of all workers together."""

    def __init__(self, planned: Plan, paces: Paces, workers: int) -> None:
        self._left = dict.fromkeys(planned.compute)
        self._paces = paces
        self._workers = workers
        self._known: dict[str, int] = {}
        for name in planned.compute:
            key = paces.base_name(name)
            self._known[key] = self._known.get(key, 0) + 1

    def ended(self, outcome: Outcome) -> None:
        """One less."""
        if outcome.name in self._left:
            del self._left[outcome.name]
            self._known[self._paces.base_name(outcome.name)] -= 1

    def seconds(self, base_name: str | None = None) -> float | None:
        """For all, or for one metric; None if nothing is known of some that are left."""
        total = 0.0
        for key, count in self._known.items():
            if count and base_name in (None, key):
                each = self._paces.of_base(key)
                if each is None:
                    return None
                total += count * each
        return total / min(self._workers, max(1, len(self._left)))

    def text(self, base_name: str | None = None) -> str:
        """The same for a person; empty if it is not known."""
        left = self.seconds(base_name)
        return "" if left is None or not self._left else f"{seconds(left)} left"


# --- bars ------------------------------------------------------------------------------------------------


class Bars:
    """One bar for all metrics, and one for each that is at work: rows, rows a second, time left."""

    def over(
        self, outcomes: Iterator[Outcome], planned: Plan, paces: Paces, workers: int
    ) -> Iterator[Outcome]:
        """Pass the outcomes on, moving the bars; failures stay on the screen."""
        if not planned.compute:
            yield from outcomes
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from smm._terminal import Console, Text

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False),
        )
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True) as progress:
            shown = _Shown(progress, planned, paces, workers)
            for outcome in outcomes:
                shown.ended(outcome)
                if outcome.error is not None and outcome.upstream is None:
                    console.print(Text(f"{outcome.name}: {ended(outcome)}", style="red"))
                yield outcome


class _Shown:
    """The bars of one run."""

    def __init__(self, progress: Any, planned: Plan, paces: Paces, workers: int) -> None:
        self._progress = progress
        self._paces = paces
        self._left = _Left(planned, paces, workers)
        self._rows: dict[str, int] = {}
        for name in (*planned.stored, *planned.compute, *planned.skipped):
            base_name = paces.base_name(name)
            self._rows[base_name] = self._rows.get(base_name, 0) + 1
        self._done: dict[str, int] = {}
        self._computed: dict[str, int] = {}
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, Any] = {}
        self._all = progress.add_task("all", total=sum(self._rows.values()), pace="", left=self._left.text())
        self._started = self._changed = time.monotonic()

    def ended(self, outcome: Outcome) -> None:
        """Count one more, and show it if that was not done a moment ago."""
        base_name = self._paces.base_name(outcome.name)
        self._done[base_name] = self._done.get(base_name, 0) + 1
        self._left.ended(outcome)
        if outcome.status in ("computed", "failed"):
            self._computed[base_name] = self._computed.get(base_name, 0) + 1
        now = time.monotonic()
        self._begun.setdefault(base_name, now - outcome.seconds)
        if now - self._changed >= _EVERY_SECONDS:
            self._changed = now
            self._show(now)

    def _show(self, now: float) -> None:
        for base_name in self._computed:
            done, rows = self._done[base_name], self._rows[base_name]
            task = self._tasks.get(base_name)
            if done >= rows:
                if task is not None:
                    self._progress.remove_task(self._tasks.pop(base_name))
                continue
            if task is None:
                if len(self._tasks) >= _MOST_BARS:
                    continue
                task = self._tasks[base_name] = self._progress.add_task(
                    visible(base_name), total=rows, pace="", left=""
                )
            pace = _rate(self._computed[base_name], now - self._begun[base_name])
            self._progress.update(task, completed=done, pace=pace, left=self._left.text(base_name))
        self._progress.update(
            self._all,
            completed=sum(self._done.values()),
            pace=_rate(sum(self._computed.values()), now - self._started),
            left=self._left.text(),
        )


def _rate(rows: int, duration: float) -> str:
    if rows == 0 or duration <= 0:
        return ""
    rate = rows / duration
    return f"{rate:.3g}/s" if rate >= 1 else f"{seconds(1 / rate)} a row"


# --- waiting for other processes -------------------------------------------------------------------------


@contextlib.contextmanager
def _waits_told() -> Iterator[None]:
    """Tell when a metric waits for another process that computes it."""
    log = logging.getLogger("smm")
    level, told = log.level, _Waits(_print)
    log.addHandler(told)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(told)


class _Waits(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line.startswith("Wait for "):
            self._tell(line)
