"""Side-cars with values that no record can have: each counts as missing, is named, and is replaced."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from smm import JsonStorageInterface, NpzStorageInterface, ParameterizedDatedCacheManager
from smm.cli import main
from smm.errors import MetricNotStoredError, SmmWarning
from smm.maintain import gc, plan_rename, rename, status, verify
from smm.metric import Record
from tests.projects import Project, project

__all__ = ["project"]

DAMAGE: dict[str, dict[str, Any]] = {
    "a date before all time": {"date": "0001-01-01T00:00:00+14:00"},
    "a date that no zone west of it has": {"date": "0001-01-01T00:00:00+00:00"},
    "a date that no zone east of it has": {"date": "9999-12-31T23:59:59+00:00"},
    "another date before all time": {"changed": "0001-01-01T00:00:00+14:00"},
    "a duration without end": {"duration_seconds": float("inf")},
    "a duration that is no number": {"duration_seconds": float("nan")},
    "a duration below 0": {"duration_seconds": -1},
    "a duration of many digits": {"duration_seconds": 10**400},
    "deep params": {"params": {"a": json.loads("[" * 900 + "]" * 900)}},
}
every_damage = pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)

warned = "the side-car of metric 'f_1' in .* is damaged .*: it counts as missing, and is replaced"


def made(folder: Path) -> ParameterizedDatedCacheManager:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False)
    cm.collect("f", params_list=[1, 2])(double)
    return cm


def double(a: float) -> float:
    return 2.0 * a


def damage(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.fixture
def cm(tmp_path: Path, change: dict[str, Any]) -> ParameterizedDatedCacheManager:
    """A manager that has just been made, on a store in which the record of one row is damaged."""
    made(tmp_path).run()
    damage(tmp_path / "f_1_date.json", change)
    return made(tmp_path)


@every_damage
def test_it_is_computed_again_and_replaced(cm: ParameterizedDatedCacheManager) -> None:
    with pytest.warns(SmmWarning, match=warned):
        assert cm.get("f_1") == 2.0
    assert cm.record("f_1").duration_seconds is not None


@every_damage
def test_a_run_computes_it_again(cm: ParameterizedDatedCacheManager) -> None:
    with pytest.warns(SmmWarning, match=warned):
        report = cm.run()
    assert [outcome.name for outcome in report.of("computed")] == ["f_1"]
    assert not report.of("failed")
    assert cm.record("f_1").params == {"a": 1}
    assert len(cm.run().of("stored")) == 2


@every_damage
@pytest.mark.filterwarnings("ignore:the side-car of metric 'f_1'")
def test_it_is_missing_for_all_who_look(cm: ParameterizedDatedCacheManager) -> None:
    looks: list[Callable[[str], Any]] = [cm.load, cm.date, cm.record, lambda name: cm.load(f"{name}_date")]
    for look in looks:
        with pytest.raises(MetricNotStoredError):
            look("f_1")
    assert [reason.kind for reason in cm.why("f_1")] == ["missing"]
    (found,) = status(cm).metrics
    assert found.stored == 2, "by the listing"
    cm.graph()
    assert {verdict.name: verdict.trouble for verdict in verify(cm)} == {"f_1": "side-car", "f_2": None}
    assert gc(cm) == (), "it is declared, and will be replaced"
    assert [move.old for move in plan_rename(cm, "f", "g").moves] == ["f_2"]
    assert [move.old for move in rename(cm, "f", "g").moves] == ["f_2"]


@pytest.mark.parametrize(
    "change",
    [
        {"code": {"digest": "0" * 16, "parts": {"a": 1}, "python": "3", "reading": float("inf")}},
        {"code": [1]},
        {"code": {"digest": 1, "parts": [["a", 1]], "python": None}},
        {"inputs": [{"name": "x", "date": "0001-01-01T00:00:00+14:00"}]},
        {"inputs": [{"name": "x", "date": "2026-01-31", "store": ["elsewhere"]}]},
        {"inputs": [[]]},
        {"accepted": {"date": "0001-01-01T00:00:00+14:00", "digest": None}},
        {"accepted": {"date": "2026-01-31", "digest": {}}},
    ],
)
def test_what_says_where_a_value_came_from_may_be_unreadable(cm: ParameterizedDatedCacheManager) -> None:
    """It is no part of the value."""
    assert cm.load("f_1") == 2.0
    cm.why("f_1")
    status(cm)
    cm.graph()
    list(verify(cm))
    assert [move.old for move in plan_rename(cm, "f", "g").moves] == ["f_1", "f_2"]


@pytest.fixture(params=["Etc/GMT+12", "Etc/GMT-14", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def smm(project: Project, command: str, *arguments: str) -> int:
    """Run a command on the project's file, and return its exit code."""
    return CliRunner().invoke(main, [command, str(project.folder / "metrics.yaml"), *arguments]).exit_code


@pytest.mark.parametrize("year", [2, 1500, 9998])
def test_dates_of_all_other_years_can_be_shown_anywhere(project: Project, year: int, zone: str) -> None:
    project.write("dated_code.py", "def f(a): return a")
    project.write("metrics.yaml", "metrics: {f: {function: dated_code.f, params_list: [[1]]}}")
    assert smm(project, "run", "--no-progress") == 0
    when = datetime(year, 1, 1, tzinfo=UTC) if year < 5000 else datetime(year, 12, 31, 23, 59, tzinfo=UTC)
    path = project.folder / "results" / "f_1_date.json"
    damage(path, {"date": when.isoformat(), "changed": when.isoformat(), "duration_seconds": 1e12})
    for command in ("show", "why"):
        assert smm(project, command, "f_1") == 0
    for command in ("status", "graph", "plan", "verify"):
        assert smm(project, command) == 0
    assert Record.from_json("f_1", path.read_text()).date == when


def test_a_side_car_in_a_json_store(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(JsonStorageInterface(tmp_path), verbose=False)
    cm.set_functions_dict({"f_1": lambda: 1})
    cm.get("f_1")
    damage(tmp_path / "f_1_date.json", DAMAGE["a date before all time"])
    cm.clear_cache()
    with pytest.warns(SmmWarning, match=warned):
        assert cm.get("f_1") == 1
