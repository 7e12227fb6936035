"""What is told of a run while it goes."""

from __future__ import annotations

import logging
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest

from smm import _progress
from smm._pace import Pace, Paces
from smm._progress import Bars, Lines, Silent, in_notebook, watching
from smm.errors import FailedBeforeError
from smm.run import Outcome, Plan


def planned(compute: list[str], stored: tuple[str, ...] = ()) -> Plan:
    reads: dict[str, tuple[str, ...]] = dict.fromkeys(compute, ())
    return Plan(stored=stored, compute=tuple(compute), reads=reads, unreadable={}, reasons={}, skipped={})


def paces(**seconds: float) -> Paces:
    return Paces(lambda name: name[0], {base: Pace(seconds=each) for base, each in seconds.items()})


def computed(*names: str, seconds: float = 0.5) -> Iterator[Outcome]:
    return (Outcome(name=name, status="computed", seconds=seconds) for name in names)


# --- lines -----------------------------------------------------------------------------------------------


def test_a_line_for_each_and_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(["a1", "a2", "b1"], stored=("a0",))
    outcomes = [
        Outcome(name="a0", status="stored"),
        Outcome(name="a1", status="computed", seconds=2.0),
        Outcome(name="a2", status="failed", error=ValueError("no"), where="a.py:3", tries=2),
        Outcome(name="b1", status="failed", error=ValueError("no"), upstream="a2"),
    ]
    passed = list(Lines().over(iter(outcomes), plan, paces(a=1.0, b=3.0), 2))
    assert passed == outcomes
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "3 to compute, 1 already stored; about 2.5 s left",
        "[1/3] a1: 2 s",
        "[2/3] a2: failed (2 tries), ValueError: no (a.py:3)",
        "[3/3] b1: not tried, a2 failed",
    ]


def test_what_failed_before_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    error = FailedBeforeError(name="a1", kind="ValueError", text="no")
    outcome = Outcome(name="a1", status="skipped", error=error, where="a.py:3")
    assert _progress.ended(outcome) == "skipped, it failed in an earlier run, ValueError: no (a.py:3)"


def test_of_thousands_of_quick_ones_a_line_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(100_000))  # in hundredths
    monkeypatch.setattr(time, "monotonic", lambda: 1.0 + next(clock) / 100)
    names = [f"a{number}" for number in range(1000)]
    assert len(list(Lines().over(computed(*names), planned(names), paces(), 1))) == 1000
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1,000 to compute, 0 already stored"
    assert 10 <= len(lines) <= 12


def test_nothing_to_compute_is_silence(capsys: pytest.CaptureFixture[str]) -> None:
    stored = Outcome(name="a0", status="stored")
    for watch in (Lines(), Bars(), Silent()):
        assert list(watch.over(iter([stored]), planned([], ("a0",)), paces(), 1)) == [stored]
    assert capsys.readouterr().err == ""


# --- bars ------------------------------------------------------------------------------------------------


class Screen:
    """Stands for rich's Progress: the bars that are on it now."""

    def __init__(self) -> None:
        self.bars: dict[int, dict[str, Any]] = {}
        self.most = 0

    def add_task(self, description: str, **fields: Any) -> int:
        number = max(self.bars, default=-1) + 1
        self.bars[number] = {"description": description, "completed": 0, **fields}
        self.most = max(self.most, len(self.bars))
        return number

    def update(self, number: int, **fields: Any) -> None:
        self.bars[number] |= fields

    def remove_task(self, number: int) -> None:
        del self.bars[number]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr(_progress, "_EVERY_SECONDS", 0.0)
    return Screen()


def test_one_bar_for_all_and_one_for_each_metric_at_work(screen: Screen) -> None:
    plan = planned(["a1", "a2", "b1", "b2"], stored=("a0",))
    shown = _progress._Shown(screen, plan, paces(a=1.0, b=2.0), 1)
    (everything,) = screen.bars.values()
    assert (everything["description"], everything["total"], everything["left"]) == ("all", 5, "6 s left")
    shown.ended(Outcome(name="a0", status="stored"))
    for outcome in computed("a1", "b1"):
        shown.ended(outcome)
    bars = {bar["description"]: bar for bar in screen.bars.values()}
    assert {name: (bar["completed"], bar["total"]) for name, bar in bars.items()} == {
        "all": (3, 5),
        "a": (2, 3),
        "b": (1, 2),
    }
    assert (bars["all"]["left"], bars["a"]["left"], bars["b"]["left"]) == (
        "3 s left",
        "1 s left",
        "2 s left",
    )
    assert "/s" in bars["a"]["pace"] or "a row" in bars["a"]["pace"]
    for outcome in computed("a2", "b2"):
        shown.ended(outcome)
    assert [bar["description"] for bar in screen.bars.values()] == ["all"], "the others have ended"


def test_never_more_bars_than_fit(screen: Screen) -> None:
    names = [f"{letter}{number}" for number in (1, 2) for letter in "abcdefghijklmnop"]
    shown = _progress._Shown(screen, planned(names), paces(), 4)
    for outcome in computed(*names):
        shown.ended(outcome)
    assert screen.most == _progress._MOST_BARS + 1


def test_bars_end_with_the_run_and_failures_stay(capsys: pytest.CaptureFixture[str]) -> None:
    bad = Outcome(name="a1", status="failed", error=ValueError("[no]"))
    assert list(Bars().over(iter([bad]), planned(["a1"]), paces(), 1)) == [bad]
    assert "a1: failed, ValueError: [no]" in capsys.readouterr().err


# --- where -----------------------------------------------------------------------------------------------


def test_a_notebook_has_bars_if_it_can_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    kernel = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: kernel))
    for there in (True, False):
        monkeypatch.setattr(_progress, "find_spec", lambda name, there=there: there or None)
        assert in_notebook() is there
        with watching(True) as watch:
            assert isinstance(watch, Bars if there else Lines)
    with watching(False) as watch:
        assert isinstance(watch, Silent)


def test_waiting_for_another_process_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("smm")
    before = (log.level, list(log.handlers))
    with watching(True):
        log.info("Wait for x: process 12 is working on it")
        log.info("Compute x")
    assert (log.level, list(log.handlers)) == before
    assert capsys.readouterr().err.splitlines() == ["Wait for x: process 12 is working on it"]
