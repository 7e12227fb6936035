"""What was measured, as tables for the terminal and for the docs, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from rich.markup import escape
from rich.table import Table

from tests.benchmarks.measure import Area, Outcome, Spread

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_UNITS = {
    "s": ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1, "s")),
    "B": ((1, "B"), (1e3, "kB"), (1e6, "MB")),
}


@attrs.frozen(kw_only=True)
class Results:
    """All that one run of the benchmarks found."""

    machine: Mapping[str, str]
    quick: bool
    areas: Mapping[Area, Sequence[Outcome]]

    @property
    def missed(self) -> int:
        """How many goals with a limit were not reached, or not measured."""
        return sum(
            outcome.met is not True
            for outcomes in self.areas.values()
            for outcome in outcomes
            if outcome.goal.has_limit
        )


# --- words -----------------------------------------------------------------------------------------------


def quantity(value: float, unit: str = "s") -> str:
    """Three digits, in the unit that suits: `87.3 µs`."""
    scale, name = next(
        ((scale, name) for scale, name in reversed(_UNITS[unit]) if abs(value) >= scale), _UNITS[unit][0]
    )
    return f"{_digits(value / scale)} {name}"


def _digits(value: float) -> str:
    """Three of them, and no exponent: `1,234`, `12.3`, `0.0123`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(spread: Spread | None) -> str:
    """With its quartiles: `0.45 (0.43-0.48)`."""
    if spread is None:
        return ""
    return f"{_digits(spread.median)} ({_digits(spread.low)}-{_digits(spread.high)})"


def limit(outcome: Outcome) -> str:
    """What the goal asks for."""
    goal = outcome.goal
    if goal.bound is not None:
        return quantity(goal.bound, goal.unit)
    return "" if goal.limit is None else _digits(goal.limit)


def verdict(outcome: Outcome) -> str:
    """`met`, `missed`, `not measured`, or nothing where there is no limit."""
    if outcome.why_not:
        return "not measured"
    return {True: "met", False: "missed", None: ""}[outcome.met]


HEADINGS = ("what", "smm", "against", "smm takes", "it takes", "ratio", "at most", "")


def cells(outcome: Outcome) -> tuple[str, ...]:
    """One line of a table, under `HEADINGS`."""
    goal = outcome.goal
    return (
        goal.text,
        goal.smm.name,
        goal.reference.name,
        "" if outcome.smm is None else quantity(outcome.smm.median, goal.unit),
        "" if outcome.reference is None else quantity(outcome.reference.median, goal.unit),
        ratio(outcome.ratio),
        limit(outcome),
        verdict(outcome),
    )


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Why goals were not measured, each reason once."""
    return list(dict.fromkeys(outcome.why_not for outcome in outcomes if outcome.why_not))


# --- forms -----------------------------------------------------------------------------------------------


def table(area: Area, outcomes: Sequence[Outcome]) -> Table:
    """For the terminal."""
    made = Table(title=area.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in HEADINGS:
        made.add_column(heading, justify="right" if heading in HEADINGS[3:7] else "left")
    styles = {"met": "green", "missed": "red"}
    for outcome in outcomes:
        *others, last = map(escape, cells(outcome))
        made.add_row(*others, f"[{styles.get(last, 'yellow')}]{last}[/]" if last else "")
    if reasons := notes(outcomes):
        made.caption = escape("\n".join(f"not measured: {reason}" for reason in reasons))
        made.caption_justify = "left"
    return made


def as_json(results: Results) -> dict[str, Any]:
    """For programs: seconds, bytes and ratios as numbers, each with its quartiles."""
    return {
        "machine": dict(results.machine),
        "quick": results.quick,
        "areas": {
            area.name: [_outcome_as_json(outcome) for outcome in outcomes]
            for area, outcomes in results.areas.items()
        },
    }


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    def numbers(spread: Spread | None) -> dict[str, float] | None:
        return None if spread is None else attrs.asdict(spread)

    goal = outcome.goal
    return {
        "text": goal.text,
        "smm": {"name": goal.smm.name, goal.unit: numbers(outcome.smm)},
        "reference": {"name": goal.reference.name, goal.unit: numbers(outcome.reference)},
        "ratio": numbers(outcome.ratio),
        "limit": goal.limit,
        "bound": goal.bound,
        "met": outcome.met,
        "why_not": outcome.why_not,
    }


def page(results: Results) -> str:
    """For the docs: the machine, and a table for each area, in Markdown."""
    where = dict(results.machine)
    date, processor = where.pop("date"), where.pop("processor")
    others = ", ".join(f"{key} {value}" for key, value in where.items())
    short = " A quick run: few rounds, and not everything." if results.quick else ""
    lines = [_wrapped(f"Measured on {date}. Processor {processor}, {others}.{short}")]
    for area, outcomes in results.areas.items():
        lines += ["", f"### {area.title}", "", _wrapped(area.says), ""]
        lines += [_line(HEADINGS), _line(["---"] * 3 + ["--:"] * 4 + ["---"])]
        lines += [_line(cells(outcome)) for outcome in outcomes]
        if reasons := notes(outcomes):
            lines += ["", *(f"- not measured: {reason}" for reason in reasons)]
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def around(text: str) -> tuple[str, str]:
    """What stands on a page of the docs above and below its measured part, the markers with it.

    Raises:
        ValueError: it does not have each marker once, in their order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or text.count(BEGIN) + text.count(END) != 2:
        raise ValueError(f"the page must have {BEGIN} and, below it, {END}, each once")
    return before + BEGIN, END + after


def renewed(text: str, results: Results) -> str:
    """The page with these results in its measured part; raises as `around`."""
    before, after = around(text)
    return f"{before}\n{page(results)}\n{after}"
