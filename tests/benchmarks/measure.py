"""Contestants measured in turn, and what comes of it: medians, quartiles, ratios.

A time says as much about the machine as about the code. What is compared is measured in one run, one after
the other in each round, in another order each round; a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import subprocess
import time
import timeit
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs

Sample: TypeAlias = Callable[[], float]
"""Measures once: seconds for one operation, or bytes for one row."""
T = TypeVar("T")


class Room:
    """Where contestants work: fresh folders for all who ask, and what is made once for all of them.

    Folders are left as they are until the end of all measuring: creating files right after many have been
    deleted is several times slower on some file systems.

    Args:
        folder: an empty one, which someone else removes.
        quick: whether samples should be short rather than exact.
    """

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.quick = quick
        self.at_end = contextlib.ExitStack()
        """What is to be closed when a race is over."""
        self._folder = folder
        self._count = 0
        self._made: dict[Callable[[Room], Any], Any] = {}

    @property
    def environment(self) -> dict[str, str]:
        """For processes: bytecode of what they import is kept, as that of installed packages is.

        The round that is not counted makes it.
        """
        others = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return others | {"PYTHONPYCACHEPREFIX": str(self._folder / "bytecode")}

    def folder(self) -> Path:
        """A new empty folder."""
        self._count += 1
        made = self._folder / f"{self._count:05d}"
        made.mkdir()
        return made

    def once(self, make: Callable[[Room], T]) -> T:
        """What `make` gives, made when it is asked for first."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made


def _never() -> str | None:
    return None


@attrs.frozen(kw_only=True, eq=False)
class Contestant:
    """One way to do a thing. Goals of a race that have the same one share what is measured of it."""

    name: str
    make: Callable[[Room], Sample] = attrs.field(repr=False)
    """Prepares, and gives what measures."""
    why_not: Callable[[], str | None] = attrs.field(default=_never, repr=False)
    """Why it cannot be measured here: a library is missing. None if it can."""


@attrs.frozen(kw_only=True)
class Goal:
    """What smm is measured against, and how much of it it may take."""

    text: str
    smm: Contestant
    reference: Contestant
    limit: float | None = None
    """At most so many times the reference; None for what is only told."""
    bound: float | None = None
    """At most so much by itself, in the goal's unit."""
    unit: str = "s"
    """`s`, or `B` for bytes."""

    @property
    def has_limit(self) -> bool:
        """Whether it can be missed."""
        return self.limit is not None or self.bound is not None


@attrs.frozen(kw_only=True)
class Race:
    """Goals whose contestants are measured in turn."""

    goals: tuple[Goal, ...]
    rounds: int = 15
    quick_rounds: int = 5
    slow: bool = False
    """Left out of a quick run."""

    @property
    def contestants(self) -> tuple[Contestant, ...]:
        """Each once, in the order of the goals."""
        return tuple(dict.fromkeys(each for goal in self.goals for each in (goal.smm, goal.reference)))


@attrs.frozen(kw_only=True, eq=False)
class Area:
    """A part of what smm does."""

    name: str
    title: str
    says: str
    """How it is measured, in a few sentences."""
    races: tuple[Race, ...]

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Of all races."""
        return tuple(goal for race in self.races for goal in race.goals)


@attrs.frozen(kw_only=True)
class Spread:
    """A median and its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(low=values[0], median=values[0], high=values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low=low, median=median, high=high)


@attrs.frozen(kw_only=True)
class Outcome:
    """What was found about a goal."""

    goal: Goal
    smm: Spread | None = None
    reference: Spread | None = None
    ratio: Spread | None = None
    """None if one of the two was not measured."""
    why_not: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the limit is kept; None if there is none, or nothing was measured."""
        if self.ratio is None or self.smm is None:
            return None
        if self.goal.bound is not None:
            return self.smm.median <= self.goal.bound
        return None if self.goal.limit is None else self.ratio.median <= self.goal.limit


# --- taking turns ----------------------------------------------------------------------------------------


def run(race: Race, room: Room) -> list[Outcome]:
    """Measure the contestants of a race in turn. One that fails is said so, with the others' figures kept."""
    if race.slow and room.quick:
        return [Outcome(goal=goal, why_not=f"{goal.text}: not in a quick run") for goal in race.goals]
    os.sync()  # what others have left to be written is not to be paid for here
    with room.at_end:
        reasons: dict[Contestant, str] = {}
        samples = dict(_ready(race.contestants, room, reasons))
        rounds = race.quick_rounds if room.quick else race.rounds
        found = _rounds(samples, rounds, reasons)
    return [outcome(goal, found, reasons) for goal in race.goals]


def _ready(
    contestants: Iterable[Contestant], room: Room, reasons: dict[Contestant, str]
) -> Iterator[tuple[Contestant, Sample]]:
    for each in contestants:
        reason = each.why_not()
        if reason is not None:
            reasons[each] = reason
            continue
        with _said(each, reasons):
            yield each, each.make(room)


def _rounds(
    samples: Mapping[Contestant, Sample], rounds: int, reasons: dict[Contestant, str]
) -> dict[Contestant, list[float]]:
    """All samples by round, after one that nobody counts: whoever fails is out."""
    found: dict[Contestant, list[float]] = {each: [] for each in samples}
    order = list(samples)
    for turn in range(-1, rounds):
        gc.collect()
        for each in rotated(order, turn):
            if each not in reasons:
                with _said(each, reasons):
                    seconds = samples[each]()
                    if turn >= 0:
                        found[each].append(seconds)
    return {each: values for each, values in found.items() if each not in reasons}


@contextlib.contextmanager
def _said(contestant: Contestant, reasons: dict[Contestant, str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a contestant that cannot run is a line of the report
        reasons[contestant] = _in_a_line(error)


def _in_a_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        return str(said.strip().splitlines()[-1])
    return " ".join(f"{type(error).__name__}: {error}".split())


def rotated(order: Sequence[T], turn: int) -> list[T]:
    """The same, beginning with another one each turn: who comes after whom should not matter."""
    start = turn % len(order) if order else 0
    return [*order[start:], *order[:start]]


def outcome(
    goal: Goal, found: Mapping[Contestant, Sequence[float]], reasons: Mapping[Contestant, str]
) -> Outcome:
    """What all samples, in the order of the rounds, say about a goal."""
    ours, theirs = found.get(goal.smm), found.get(goal.reference)
    missing = [f"{each.name}: {reasons[each]}" for each in (goal.smm, goal.reference) if each in reasons]
    return Outcome(
        goal=goal,
        smm=Spread.of(ours) if ours else None,
        reference=Spread.of(theirs) if theirs else None,
        ratio=Spread.of([a / b for a, b in zip(ours, theirs, strict=True)]) if ours and theirs else None,
        why_not="; ".join(missing),
    )


# --- samples ---------------------------------------------------------------------------------------------


def loop(room: Room, statement: str, **names: Any) -> Sample:
    """A statement in a loop of some milliseconds, as `timeit` does it: for what takes microseconds.

    A sample is the best of three loops, for the worst are those in which the machine did something else.

    Args:
        room: whether it is a quick run.
        statement: what is repeated.
        names: its variables, which are local ones.
    """
    setup = "".join(f"{name} = _given[{name!r}]\n" for name in names)
    timer = timeit.Timer(statement, setup or "pass", globals={"_given": names})
    at_least = 0.002 if room.quick else 0.01
    number = 1
    while timer.timeit(number) < at_least:
        number *= 2
    return lambda: min(timer.repeat(3, number)) / number


def seconds_of(work: Callable[[], T], check: Callable[[T], object] = id) -> float:
    """How long a call takes without the garbage collector.

    Args:
        work: the call; what it returns is let go when the clock has stopped.
        check: is given that before; raises if it is not what it should be.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        kept = work()
        seconds = time.perf_counter() - start
        check(kept)
        del kept
    finally:
        if enabled:
            gc.enable()
    return seconds


def for_each(work: Callable[[T], object], items: Sequence[T]) -> float:
    """Seconds for one of many calls in a row, which all keep what they return until the last one."""
    return seconds_of(lambda: [work(item) for item in items]) / len(items)


def process(arguments: Sequence[str], folder: Path, room: Room) -> Sample:
    """Seconds from the start of a process to its end.

    Raises:
        CalledProcessError: (when measured) it fails.
    """

    def sample() -> float:
        start = time.perf_counter()
        subprocess.run(
            arguments,
            cwd=folder,
            env=room.environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return time.perf_counter() - start

    return sample
