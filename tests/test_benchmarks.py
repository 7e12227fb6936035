"""The harness of the benchmarks: turns, ratios, reports. Nothing here depends on how fast anything is."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.benchmarks import __main__ as command
from tests.benchmarks import declare, look, machine, measure, ours, peers, report, work
from tests.benchmarks.areas import AREAS
from tests.benchmarks.measure import Area, Contestant, Goal, Outcome, Race, Room, Spread

ROOT = Path(__file__).resolve().parents[1]
MACHINE = {"date": "2026-01-31", "processor": "Abacus 9000", "cores": "2", "Python": "CPython 3.11.7"}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path, quick=True)


def says(name: str, *values: float, log: list[str] | None = None) -> Contestant:
    """A contestant whose samples are these, one after another."""

    def make(_: Room) -> Callable[[], float]:
        left = iter(values)

        def sample() -> float:
            if log is not None:
                log.append(name)
            return next(left)

        return sample

    return Contestant(name=name, make=make)


def fails(name: str, *, when_made: bool) -> Contestant:
    def sample() -> float:
        raise ValueError("no\nluck")

    def make(_: Room) -> Callable[[], float]:
        if when_made:
            sample()
        return sample

    return Contestant(name=name, make=make)


def missing(name: str) -> Contestant:
    def make(_: Room) -> Callable[[], float]:
        raise AssertionError("it was made")

    return Contestant(name=name, make=make, why_not=lambda: "not installed")


def race(*goals: Goal, rounds: int = 3, **options: Any) -> Race:
    return Race(goals=goals, rounds=rounds, quick_rounds=rounds, **options)


# --- medians and ratios ----------------------------------------------------------------------------------


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(low=2.0, median=3.0, high=4.0)
    assert Spread.of([7.0]) == Spread(low=7.0, median=7.0, high=7.0)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios(room: Room) -> None:
    # A machine that is ten times as slow in the second round; the first sample does not count.
    ours_, theirs = says("smm", 99.0, 1.0, 20.0, 3.0), says("peer", 1.0, 2.0, 20.0, 2.0)
    [found] = measure.run(race(Goal(text="x", smm=ours_, reference=theirs, limit=1.0)), room)
    assert found.smm == Spread(low=2.0, median=3.0, high=11.5)
    assert found.reference == Spread(low=2.0, median=2.0, high=11.0)
    assert found.ratio == Spread(low=0.75, median=1.0, high=1.25)
    assert found.met is True


@pytest.mark.parametrize(
    ("limits", "met"),
    [
        ({"limit": 0.5}, True),
        ({"limit": 0.49}, False),
        ({}, None),
        ({"bound": 1.0}, True),
        ({"bound": 0.9}, False),
    ],
)
def test_a_goal_is_met_at_its_limit(room: Room, limits: dict[str, Any], met: bool | None) -> None:
    goal = Goal(text="x", smm=says("smm", 9.0, 1.0), reference=says("peer", 1.0, 2.0), **limits)
    [found] = measure.run(race(goal, rounds=1), room)
    assert found.met is met
    assert goal.has_limit is bool(limits)


# --- taking turns ----------------------------------------------------------------------------------------


def test_each_round_begins_with_another_one(room: Room) -> None:
    log: list[str] = []
    a, b, c = (says(name, *range(1, 9), log=log) for name in "abc")
    goals = Goal(text="x", smm=a, reference=b), Goal(text="y", smm=a, reference=c)
    measure.run(race(*goals), room)
    assert ["".join(log[start : start + 3]) for start in range(0, len(log), 3)] == [
        "cab",
        "abc",
        "bca",
        "cab",
    ]


def test_contestants_of_several_goals_are_measured_once_a_round(room: Room) -> None:
    log: list[str] = []
    shared = says("smm", *range(1, 9), log=log)
    goals = [Goal(text="x", smm=shared, reference=says(name, *range(1, 9), log=log)) for name in "ab"]
    measure.run(race(*goals), room)
    assert sorted(log) == ["a"] * 4 + ["b"] * 4 + ["smm"] * 4


@pytest.mark.parametrize("when_made", [True, False])
def test_one_that_fails_is_said_and_the_others_go_on(room: Room, when_made: bool) -> None:
    bad, good, other = fails("bad", when_made=when_made), says("good", *[2.0] * 4), says("other", *[4.0] * 4)
    failed, fine = measure.run(
        race(
            Goal(text="x", smm=bad, reference=good, limit=1),
            Goal(text="y", smm=good, reference=other, limit=1),
        ),
        room,
    )
    assert failed.why_not == "bad: ValueError: no luck"
    assert (failed.smm, failed.ratio, failed.met) == (None, None, None)
    assert failed.reference == Spread(low=2.0, median=2.0, high=2.0)
    assert fine.met is True


def test_one_that_is_missing_is_said_and_never_made(room: Room) -> None:
    goal = Goal(text="x", smm=says("smm", *[1.0] * 4), reference=missing("peer"), limit=1)
    [found] = measure.run(race(goal), room)
    assert (found.why_not, found.met) == ("peer: not installed", None)


def test_a_quick_run_leaves_out_what_is_slow(tmp_path: Path) -> None:
    def goal() -> Goal:
        return Goal(text="large", smm=says("smm", *[1.0] * 4), reference=says("peer", *[1.0] * 4))

    [quick] = measure.run(race(goal(), slow=True), Room(tmp_path, quick=True))
    assert (quick.why_not, quick.ratio) == ("large: not in a quick run", None)
    [full] = measure.run(race(goal(), slow=True), Room(tmp_path))
    assert full.ratio is not None


def test_what_a_race_has_opened_is_closed_after_it(room: Room) -> None:
    closed: list[str] = []

    def make(room: Room) -> Callable[[], float]:
        room.at_end.callback(closed.append, "closed")
        return lambda: 1.0 if not closed else 2.0

    one, two = (Contestant(name=name, make=make) for name in "ab")
    [found] = measure.run(race(Goal(text="x", smm=one, reference=two)), room)
    assert found.ratio == Spread(low=1.0, median=1.0, high=1.0)
    assert closed == ["closed", "closed"]


def test_a_room_gives_new_folders_and_makes_things_once(room: Room) -> None:
    folders = {room.folder() for _ in range(3)}
    assert len(folders) == 3
    assert all(folder.is_dir() for folder in folders)
    assert room.once(Room.folder) == room.once(Room.folder)


# --- samples ---------------------------------------------------------------------------------------------


def test_a_loop_runs_its_statement_on_its_names(room: Room) -> None:
    seen: list[int] = []
    sample = measure.loop(room, "append(value)", append=seen.append, value=7)
    seen.clear()
    assert sample() > 0
    assert set(seen) == {7}


def test_for_each_calls_once_for_each_and_keeps_what_they_return() -> None:
    class Value:
        alive = 0

        def __init__(self, _: int) -> None:
            Value.alive += 1
            most.append(Value.alive)

        def __del__(self) -> None:
            Value.alive -= 1

    most: list[int] = []
    assert measure.for_each(Value, range(5)) > 0
    assert most == [1, 2, 3, 4, 5]
    assert Value.alive == 0


def test_a_process_that_fails_is_no_sample(room: Room) -> None:
    def make(room: Room) -> Callable[[], float]:
        return measure.process([sys.executable, "-c", "raise SystemExit('out of luck')"], room.folder(), room)

    goal = Goal(text="x", smm=Contestant(name="smm", make=make), reference=says("peer", *[1.0] * 4))
    [found] = measure.run(race(goal), room)
    assert found.why_not == "smm: out of luck"


# --- what the areas say ----------------------------------------------------------------------------------


@pytest.mark.parametrize("area", AREAS.values(), ids=AREAS)
def test_every_area_lists_its_goals_without_measuring(area: Area) -> None:
    assert any(goal.has_limit for goal in area.goals)
    assert area.title
    assert area.says.endswith(".")
    for goal in area.goals:
        assert goal.text
        assert goal.smm.name != goal.reference.name
        assert goal.limit is None or goal.limit > 0
        assert goal.unit in ("s", "B")
    told = [(goal.text, goal.smm.name, goal.reference.name) for goal in area.goals]
    assert len(set(told)) == len(told)


def test_the_goals_are_these() -> None:
    """Each limit once; a change here is a change of what smm promises to reach."""
    limits = {
        name: [goal.limit if goal.bound is None else goal.bound for goal in area.goals if goal.has_limit]
        for name, area in AREAS.items()
    }
    assert limits == {
        "warm": [5, 2.5, 6],
        "cold": [1.0, 0.2, 0.8, 0.25, 1.4, 1.0, 0.1, 0.1, 1.4, 1.0],
        "store": [0.7, 0.3, 0.2, 1.2, 1.3, 1.8, 0.6],
        "sweep": [0.35, 0.8, 0.6, 0.53, 0.05, 0.15],
        "look": [2.5, 1.3],
        "declare": [4, 600, 2, 2],
        "start": [1.5, 5.5, 2.5, 4],
    }


def test_a_peer_that_is_missing_is_told_with_the_way_to_get_it() -> None:
    assert peers.needs("json")() is None
    assert peers.needs("no_such_peer")() == "not installed: pip install 'smm-metrics[bench]'"


def test_an_option_that_a_storage_lacks_is_told() -> None:
    assert ours.has_option("npz", "compress")() is None
    assert ours.has_option("npz", "telepathy")() == "NpzStorageInterface has no telepathy= yet"


@pytest.mark.parametrize(
    ("text", "count"),
    [(declare.of_many_metrics("functions"), declare.METRICS), (declare.of_many_rows("functions"), 1)],
    ids=["metrics", "rows"],
)
def test_the_configurations_are_right(text: str, count: int, tmp_path: Path) -> None:
    import smm

    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    assert len(smm.load_config(path).metrics) == count


def test_a_store_that_is_written_by_hand_is_one_that_smm_reads(tmp_path: Path) -> None:
    store = look.filled(tmp_path, 30)
    assert look.stored(store) == {f"f_{i}" for i in range(30)}
    assert [store.manager.f(i) for i in range(30)] == [work.one()] * 30
    (tmp_path / "f_3_date.json").unlink()
    assert look.stored(store) == {f"f_{i}" for i in range(30) if i != 3}


def test_the_gets_of_the_large_store_compute_nothing(tmp_path: Path) -> None:
    look.filled(tmp_path, 250)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("f_*")}
    chunks = ((tmp_path, range(start, start + 10)) for start in range(0, 250, 10))
    assert look.gets(chunks)() > 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("f_*")} == before


def test_a_run_that_does_not_end_as_it_should_is_no_sample(tmp_path: Path) -> None:
    def fails_at_two(i: int) -> float:
        return 1 / (i - 2)

    made = ours.collected(tmp_path, fails_at_two, range(3))
    report = made.run()
    with pytest.raises(AssertionError, match=r"not 3 computed: .*1 failed"):
        ours.check_report(report, "computed", 3)
    ours.check_report(made.run(["f_0", "f_1"]), "stored", 2)


def test_what_a_sample_gives_is_checked_after_the_clock_has_stopped() -> None:
    seen: list[str] = []
    measure.seconds_of(lambda: "value", seen.append)
    assert seen == ["value"]


# --- reports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (18.24e-9, "s", "18.2 ns"),
        (1.5e-6, "s", "1.5 µs"),
        (87.34e-6, "s", "87.3 µs"),
        (0.5632, "s", "563 ms"),
        (12.0, "s", "12 s"),
        (1234.0, "s", "1,234 s"),
        (1e-12, "s", "0.001 ns"),
        (362.0, "B", "362 B"),
        (2500.0, "B", "2.5 kB"),
    ],
)
def test_quantities_are_readable(value: float, unit: str, text: str) -> None:
    assert report.quantity(value, unit) == text


def results() -> report.Results:
    a, b = says("CM.f()"), says('dict["f|g"]')
    half, double = Spread(low=0.4, median=0.5, high=0.6), Spread(low=1.9, median=2.0, high=2.1)
    micro = Spread(low=1e-6, median=2e-6, high=3e-6)
    goals = [
        Goal(text="met", smm=a, reference=b, limit=1),
        Goal(text="missed", smm=a, reference=b, limit=1),
        Goal(text="told", smm=a, reference=b),
        Goal(text="not measured", smm=a, reference=b, limit=1),
    ]
    outcomes = [
        Outcome(goal=goals[0], smm=micro, reference=micro, ratio=half),
        Outcome(goal=goals[1], smm=micro, reference=micro, ratio=double),
        Outcome(goal=goals[2], smm=micro, reference=micro, ratio=double),
        Outcome(goal=goals[3], smm=micro, why_not="peer: not [installed]"),
    ]
    area = Area(name="warm", title="Warm hits", says="In a loop.", races=(Race(goals=tuple(goals)),))
    return report.Results(machine=MACHINE, quick=False, areas={area: outcomes})


def test_what_is_missed_or_not_measured_is_counted() -> None:
    assert results().missed == 2


def test_the_table_has_a_line_for_each_goal() -> None:
    found = results()
    console = Console(width=160, record=True, file=io.StringIO())
    for area, outcomes in found.areas.items():
        console.print(report.table(area, outcomes))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert lines == [
        "Warm hits",
        "what smm against smm takes it takes ratio at most",
        'met CM.f() dict["f|g"] 2 µs 2 µs 0.5 (0.4-0.6) 1 met',
        'missed CM.f() dict["f|g"] 2 µs 2 µs 2 (1.9-2.1) 1 missed',
        'told CM.f() dict["f|g"] 2 µs 2 µs 2 (1.9-2.1)',
        'not measured CM.f() dict["f|g"] 2 µs 1 not measured',
        "not measured: peer: not [installed]",
    ]


def test_the_docs_are_renewed_between_the_markers_only() -> None:
    page = f"# Page\n\nbefore\n\n{report.BEGIN}\nyesterday\n{report.END}\n\nafter\n"
    renewed = report.renewed(page, results())
    assert renewed.startswith(
        f"# Page\n\nbefore\n\n{report.BEGIN}\nMeasured on 2026-01-31. Processor Abacus 9000, cores 2"
    )
    assert renewed.endswith(f"{report.END}\n\nafter\n")
    assert "yesterday" not in renewed
    assert '| met | CM.f() | dict["f\\|g"] | 2 µs | 2 µs | 0.5 (0.4-0.6) | 1 | met |' in renewed
    assert report.renewed(renewed, results()) == renewed


@pytest.mark.parametrize(
    "page",
    ["no markers", report.BEGIN, f"{report.END}\n{report.BEGIN}", f"{report.BEGIN}{report.END}{report.END}"],
)
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="must have"):
        report.renewed(page, results())


def test_the_page_of_the_docs_can_be_renewed() -> None:
    text = command.PAGE.read_text(encoding="utf-8")
    assert "Abacus 9000" in report.renewed(text, results())


def test_the_machine_is_named(tmp_path: Path) -> None:
    found = machine.described(tmp_path)
    assert {"date", "processor", "cores", "file system", "Python", "smm", "numpy"} <= set(found)
    assert all(found.values())
    assert machine.version("no-such-library") is None


# --- the command -----------------------------------------------------------------------------------------


def test_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in (*AREAS, "--quick", "--json", "--docs", "--check"):
        assert name in done.stdout


def test_docs_are_renewed_by_whole_runs_only() -> None:
    done = CliRunner().invoke(command.main, ["warm", "--docs"])
    assert done.exit_code == 2
    assert "all tables" in done.output


@pytest.fixture
def one_area(monkeypatch: pytest.MonkeyPatch) -> Area:
    """In the place of all areas: one with a goal that is met and one that is missed."""
    goals = (
        Goal(text="x", smm=says("smm", *[1.0] * 9), reference=says("peer", *[2.0] * 9), limit=1),
        Goal(text="y", smm=says("smm", *[3.0] * 9), reference=says("peer", *[2.0] * 9), limit=1),
    )
    area = Area(name="warm", title="Warm", says="So.", races=(race(*goals),))
    monkeypatch.setattr(command, "AREAS", {"warm": area})
    return area


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--check",), 1)])
def test_a_missed_goal_is_an_error_only_when_asked(
    one_area: Area, options: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    done = CliRunner().invoke(command.main, ["--json", str(tmp_path / "found.json"), *options])
    assert done.exit_code == code, done.output
    assert "1 goal not met" in done.output


def test_figures_and_docs_are_written(
    one_area: Area, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{report.BEGIN}\n{report.END}\n")
    monkeypatch.setattr(command, "PAGE", page)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    done = CliRunner().invoke(command.main, ["--docs"])
    assert done.exit_code == 0, done.output
    assert "### Warm" in page.read_text()
    [kept] = (tmp_path / ".benchmarks").iterdir()
    assert str(kept) in done.output
    assert json.loads(kept.read_text())["areas"]["warm"][0]["met"] is True


def test_a_real_run_of_one_area(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    arguments = [sys.executable, "-m", "tests.benchmarks", "warm", "--quick", "--json", str(path)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Warm hits" in done.stdout
    assert str(path) in done.stdout
    found = json.loads(path.read_text())
    assert found["quick"] is True
    assert set(found["areas"]) == {"warm"}
    goals = found["areas"]["warm"]
    assert len(goals) == len(AREAS["warm"].goals)
    for goal in goals:
        assert goal["smm"]["s"]["low"] <= goal["smm"]["s"]["median"] <= goal["smm"]["s"]["high"]
    # Dicts are always there; peers may be.
    assert all(
        goal["ratio"] is not None and goal["why_not"] == ""
        for goal in goals
        if goal["reference"]["name"].startswith("dict[")
    )
