"""What a store holds that nobody needs any more, and what of it is removed."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import (
    DatedCacheManager,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
)
from smm._files import NewFile
from smm._moving import Journal
from smm._rename_plan import RenamePendingError
from smm._shelf import Shelf
from smm.errors import StorageAbilityError
from smm.maintain import Garbage, gc, remove, stored_names
from smm.metric import Metric
from smm.testing import files_below
from tests.commands import run_cli as smm
from tests.projects import Project, project
from tests.stores import DictStorage

__all__ = ["project"]

LEGACY = Path(__file__).parent / "data" / "legacy_store_0_5"
DAY = 24 * 3600


def declaring(storage: Any, names: Iterable[str]) -> DatedCacheManager:
    CM = DatedCacheManager(storage, verbose=False)
    CM.set_functions_dict({name: lambda: 1 for name in names})
    return CM


def filled(storage: Any, *names: str) -> DatedCacheManager:
    """A manager that has stored what it declares."""
    CM = declaring(storage, names)
    for name in names:
        CM.get(name)
    return CM


def found(manager: DatedCacheManager, **options: Any) -> set[tuple[str, str]]:
    return {(one.kind, one.name) for one in gc(manager, **options)}


def removed(manager: DatedCacheManager, garbage: Iterable[Garbage] | None = None) -> list[str]:
    return [one.name for one in remove(manager, gc(manager) if garbage is None else garbage)]


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


# --- what nothing declares any more ---------------------------------------------------------------------


@pytest.mark.parametrize("made", [NpzStorageInterface, NpyStorageInterface, JsonStorageInterface])
def test_what_nothing_declares_is_found_and_removed(made: Any, tmp_path: Path) -> None:
    filled(made(tmp_path), "kept", "old", "ü/x")
    CM = declaring(made(tmp_path), ["kept", "missing"])
    before = files_below(tmp_path)
    garbage = gc(CM)
    assert files_below(tmp_path) == before
    assert [(one.kind, one.name) for one in garbage] == [("undeclared", "old"), ("undeclared", "ü/x")]
    old = garbage[0]
    ending = CM.storage_interface.file_ext  # type: ignore[attr-defined]
    files = [tmp_path / f"old{ending}", tmp_path / "old_date.json"]
    assert old.path == files[0]
    assert old.size == sum(path.stat().st_size for path in files)
    assert old.date == CM.date("old")
    assert removed(CM, garbage) == ["old", "ü/x"]
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {f"kept{ending}", "kept_date.json"}
    assert gc(CM) == ()


def test_a_storage_without_files() -> None:
    storage = MemoryStorageInterface()
    filled(storage, "kept", "old")
    CM = declaring(storage, ["kept"])
    (old,) = gc(CM)
    assert (old.kind, old.name, old.path, old.size) == ("undeclared", "old", None, None)
    assert removed(CM) == ["old"]
    assert stored_names(CM) == {"kept"}


def test_a_store_that_was_never_made(tmp_path: Path) -> None:
    assert gc(declaring(NpzStorageInterface(tmp_path / "none"), ["x"])) == ()
    assert not (tmp_path / "none").exists()


def test_a_storage_that_cannot_list_says_so() -> None:
    with pytest.raises(StorageAbilityError, match="DictStorage has no method 'recorded'"):
        gc(filled(DictStorage(), "x"))


def test_a_value_leaves_memory_too() -> None:
    CM = filled(MemoryStorageInterface(), "old")
    CM.set_functions_dict({})
    CM.load("old")
    assert removed(CM) == ["old"]
    assert "old" not in CM.cache


@given(
    st.sets(st.sampled_from("abcdefgh")),
    st.sets(st.sampled_from("abcdefgh")),
    st.sets(st.sampled_from("abcdefgh")),
)
def test_no_declared_result_is_ever_removed(
    tmp_path_factory: pytest.TempPathFactory, stored: set[str], declared: set[str], broken: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    filled(NpzStorageInterface(folder), *stored)
    for name in broken & stored:
        (folder / f"{name}_date.json").unlink()
    CM = declaring(NpzStorageInterface(folder), declared)
    before = stored_names(CM)
    garbage = gc(CM)
    assert {one.name for one in garbage if one.kind == "undeclared"} == before - declared
    removed(CM, garbage)
    assert stored_names(CM) == before & declared
    assert gc(CM) == ()
    shutil.rmtree(folder)


# --- what is declared though its names are not known ----------------------------------------------------


def swept(folder: Path, **options: Any) -> ParameterizedDatedCacheManager:
    CM = ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False, **options)

    @CM.collect(params_list=[[1]])
    def slope(n: int) -> int:
        return n

    return CM


def test_rows_that_are_declared_no_more(tmp_path: Path) -> None:
    dynamic = swept(tmp_path, dynamic_metric_creation=True)
    for n in (1, 2, 3):
        dynamic.slope(n)
    assert found(swept(tmp_path)) == {("undeclared", "slope_2"), ("undeclared", "slope_3")}


def test_rows_of_a_base_name_that_takes_any_params_are_declared(tmp_path: Path) -> None:
    for n in (1, 2):
        swept(tmp_path, dynamic_metric_creation=True).slope(n)
    filled(NpzStorageInterface(tmp_path), "slope_of_old", "other")
    assert found(swept(tmp_path, dynamic_metric_creation=True)) == {("undeclared", "other")}


def test_rows_of_a_metric_that_waits_for_its_function_are_declared(tmp_path: Path) -> None:
    CM = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)

    @CM.collect(params_list=[[1], [2]], name_generation_function=lambda base, params: f"odd-{params[0]}")
    def later(n: int) -> int:
        return n

    @CM.collect(params_list=[[1]])
    def gone(n: int) -> int:
        return n

    CM.run()
    waiting = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    waiting.declare(Metric(base_name="later", params_list=[[1], [2]]))
    assert found(waiting) == {("undeclared", "gone_1")}


def test_records_without_a_base_name_go_by_the_names(tmp_path: Path) -> None:
    shutil.copytree(LEGACY / "npz", tmp_path / "s")
    CM = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path / "s"), verbose=False)
    CM.declare(Metric(base_name="poly_Y", params_list=[[1, 2]]))
    kept = {name for name in stored_names(CM) if name.startswith("poly_Y_")}
    assert len(kept) >= 3
    assert {name for _, name in found(CM)} == stored_names(CM) - kept
    removed(CM)
    assert stored_names(CM) == kept


def test_others_that_share_the_folder_may_be_named(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), "mine", "theirs", "nobodys")
    mine, theirs = (declaring(NpzStorageInterface(tmp_path), [name]) for name in ("mine", "theirs"))
    assert found(mine) == {("undeclared", "theirs"), ("undeclared", "nobodys")}
    assert found(mine, also=[theirs]) == {("undeclared", "nobodys")}


# --- what is not known to be smm's ----------------------------------------------------------------------


def test_what_may_be_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "x")
    np.savez(tmp_path / "figure.npz", np.zeros(2))
    (tmp_path / "release_date.json").write_text('{"version": 3}')
    (tmp_path / "note.npz").write_bytes(b"?")
    (tmp_path / "note_date.json").write_text("?")
    (tmp_path / "folder.npz").mkdir()
    assert gc(CM) == ()
    assert found(CM, unknown=True) == {
        ("unfinished", "figure"),
        ("unfinished", "note"),
        ("side-car", "release"),
    }
    assert removed(CM, gc(CM, unknown=True)) == ["figure", "note", "release"]
    assert stored_names(CM) == {"x"}
    assert gc(CM, unknown=True) == ()


def test_a_side_car_that_another_format_shares_is_left_alone(tmp_path: Path) -> None:
    filled(NpyStorageInterface(tmp_path), "y", "z")
    shutil.copy(tmp_path / "y.npy", tmp_path / "y.npz")
    CM = filled(NpzStorageInterface(tmp_path), "x")
    assert gc(CM) == ()
    (tmp_path / "y.npy").unlink()
    assert found(CM) == {("undeclared", "y")}


def test_a_name_with_dots_is_no_other_format(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), "model", "model.v2")
    assert found(declaring(NpzStorageInterface(tmp_path), ["model.v2"])) == {("undeclared", "model")}


# --- halves ---------------------------------------------------------------------------------------------


def test_data_and_side_cars_without_each_other(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "a", "b", "c", "d")
    (tmp_path / "a_date.json").unlink()
    (tmp_path / "b.npz").unlink()
    (tmp_path / "c.npz").unlink()
    (tmp_path / "c_date.json").write_text("{")
    garbage = gc(CM)
    assert [(one.kind, one.name) for one in garbage] == [
        ("unfinished", "a"),
        ("side-car", "b"),
        ("side-car", "c"),
    ]
    assert [one.path for one in garbage] == [
        tmp_path / "a.npz",
        tmp_path / "b_date.json",
        tmp_path / "c_date.json",
    ]
    assert all(one.path is not None and one.size == one.path.stat().st_size for one in garbage)
    assert removed(CM) == ["a", "b", "c"]
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"d.npz", "d_date.json"}


def test_old_forms_of_side_cars_without_data(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    storage.save("x_date", "2024-01-31")
    (tmp_path / ".smm" / "tmp").rmdir()
    assert (tmp_path / "x_date.npz").exists()
    assert found(declaring(storage, [])) == {("side-car", "x")}
    assert removed(declaring(storage, [])) == ["x"]
    assert not (tmp_path / "x_date.npz").exists()


def test_what_is_finished_meanwhile_stays(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "a", "b")
    (tmp_path / "a_date.json").unlink()
    (tmp_path / "b.npz").unlink()
    garbage = gc(CM)
    assert len(garbage) == 2
    filled(NpzStorageInterface(tmp_path), "a", "b")
    assert removed(CM, garbage) == []
    assert stored_names(CM) == {"a", "b"}


# --- others at work -------------------------------------------------------------------------------------


def test_what_another_process_stores_meanwhile_stays(tmp_path: Path) -> None:
    other = filled(NpzStorageInterface(tmp_path), "x")
    CM = declaring(NpzStorageInterface(tmp_path), [])
    garbage = gc(CM)
    other.get("x", use_stored=False)
    assert removed(CM, garbage) == []
    assert stored_names(CM) == {"x"}


def test_what_is_declared_meanwhile_stays(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), "x")
    CM = declaring(NpzStorageInterface(tmp_path), [])
    garbage = gc(CM)
    CM.functions_dict["x"] = lambda: 1
    assert removed(CM, garbage) == []


def test_what_is_gone_meanwhile_is_not_removed_again(tmp_path: Path) -> None:
    other = filled(NpzStorageInterface(tmp_path), "x", "y")
    CM = declaring(NpzStorageInterface(tmp_path), [])
    garbage = gc(CM)
    other.delete("x")
    assert removed(CM, garbage) == ["y"]


def test_a_metric_that_somebody_works_on_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smm._locks._SAY_AFTER_SECONDS", 0.0)
    filled(NpzStorageInterface(tmp_path), "x")
    computing, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        computing.set()
        assert go_on.wait(60)
        return 2

    other = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    other.set_functions_dict({"x": slow})
    thread = threading.Thread(target=lambda: other.get("x", use_stored=False))
    thread.start()
    try:
        assert computing.wait(60)
        CM = declaring(NpzStorageInterface(tmp_path), [])
        garbage = gc(CM)
        assert [one.name for one in garbage] == ["x"]
        assert removed(CM, garbage) == []
    finally:
        go_on.set()
        thread.join()
    assert CM.load("x") == 2


def test_nothing_is_collected_while_metrics_are_being_renamed(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), "old")
    CM = declaring(NpzStorageInterface(tmp_path), ["new"])
    garbage = gc(CM)
    assert [one.name for one in garbage] == ["old"]
    journal = Journal(Shelf(CM.storage_interface))
    journal.write({"old": "old", "new": "new"})
    with pytest.raises(RenamePendingError, match="finish it with smm rename"):
        gc(CM)
    assert removed(CM, garbage) == []
    assert journal.path is not None
    journal.path.write_text("of another version")
    with pytest.raises(RenamePendingError):
        gc(CM)
    journal.remove()
    assert removed(CM, garbage) == ["old"]


# --- temporary files ------------------------------------------------------------------------------------


def test_temporary_files_of_dead_writers(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "x")
    tmp = tmp_path / ".smm" / "tmp"
    old, young = "0" * 32 + ".npz", "1" * 32 + ".npz"
    for name, seconds in ((old, 3600), (young, 0), ("somebody's.npz", 3600)):
        (tmp / name).write_bytes(b"12345")
        age(tmp / name, seconds)
    (tmp / "folder").mkdir()
    (one,) = gc(CM)
    assert one == Garbage(kind="temporary", name=old, path=tmp / old, size=5)
    assert removed(CM) == [old]
    assert sorted(os.listdir(tmp)) == [young, "folder", "somebody's.npz"]


def test_the_file_of_a_living_writer_stays(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "x")
    # flock belongs to the open file, so that a writer of this process stands for one of another.
    writer = NewFile(str(tmp_path), ".npz")
    writer.write(b"slow")
    age(Path(writer.path), 9 * DAY)
    assert gc(CM) == ()
    pretended = Garbage(kind="temporary", name="t", path=Path(writer.path), size=4)
    assert removed(CM, [pretended]) == []
    writer.publish(str(tmp_path / "slow.npz"))
    assert (tmp_path / "slow.npz").read_bytes() == b"slow"
    assert removed(CM, [pretended]) == []


def test_a_look_leaves_no_lock(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "x")
    path = tmp_path / ".smm" / "tmp" / ("0" * 32 + ".npz")
    path.write_bytes(b"1")
    age(path, 3600)
    assert len(gc(CM)) == 1
    assert len(gc(CM)) == 1
    path.chmod(0o400)  # whose file may be read can be asked about
    assert removed(CM) == [path.name]


# --- logs -----------------------------------------------------------------------------------------------


def make_logs(folder: Path, count: int, days: Callable[[int], float]) -> list[str]:
    runs = folder / ".smm" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    names = [f"2020-01-{number + 1:02}T00-00-00.000000.jsonl" for number in range(count)]
    for number, name in enumerate(names):
        (runs / name).write_text("")
        age(runs / name, days(number) * DAY)
    return names


def test_old_logs_beyond_the_newest(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "x")
    names = make_logs(tmp_path, 25, lambda number: 100)
    assert found(CM) == {("log", name) for name in names[:5]}
    assert found(CM, keep_logs=24) == {("log", names[0])}
    assert found(CM, keep_logs=25) == set()
    assert len(found(CM, keep_logs=0)) == 25
    (tmp_path / ".smm" / "runs" / names[0]).write_text("a run that still writes")
    garbage = gc(CM, keep_logs=23)
    assert [one.name for one in garbage] == [names[1]], "what was just written is young"
    assert removed(CM, garbage) == [names[1]]
    with pytest.raises(ValueError, match="keep_logs is -1"):
        gc(CM, keep_logs=-1)


def test_young_logs_stay_however_many(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "x")
    names = make_logs(tmp_path, 25, lambda number: 31 - number)
    assert found(CM) == {("log", names[0]), ("log", names[1])}


def test_a_log_that_grows_stays(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), "x")
    (name,) = make_logs(tmp_path, 1, lambda number: 100)
    garbage = gc(CM, keep_logs=0)
    (tmp_path / ".smm" / "runs" / name).write_text("one more line")
    assert removed(CM, garbage) == []


def test_a_log_that_keeps_a_row_from_being_tried_again_stays(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("no")

    CM = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    CM.set_functions_dict({"x": fail})
    report = CM.run()
    assert report.log is not None
    age(report.log, 100 * DAY)
    make_logs(tmp_path, 3, lambda number: 200)
    assert len(gc(CM, keep_logs=0)) == 3
    removed(CM, gc(CM, keep_logs=0))
    assert len(CM.run().of("skipped")) == 1
    CM.set_functions_dict({})
    assert report.log.name in {one.name for one in gc(CM, keep_logs=0)}


# --- the command ----------------------------------------------------------------------------------------

CODE = """
    def one(): return 1
    def row(n): return [n]
"""
CONFIG = """
    metrics:
      one: {function: gc_code.one}
      row: {function: gc_code.row, params_list: [1, 2, 3]}
"""


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """All stored, `less.yaml` declares `one` and `row_1`, and the side-car of `one` is gone."""
    project.write("gc_code.py", CODE)
    project.write("metrics.yaml", CONFIG)
    project.write("less.yaml", CONFIG.replace("[1, 2, 3]", "[1]"))
    project.write("rest.yaml", CONFIG.replace("[1, 2, 3]", "[3]"))
    monkeypatch.chdir(project.folder)
    assert smm("run", "metrics.yaml", "--no-progress").exit_code == 0
    (project.folder / "results" / "one_date.json").unlink()
    return project


def stored_files() -> set[str]:
    return {path.name for path in Path("results").iterdir() if path.suffix == ".npz"}


ALL = {"one.npz", "row_1.npz", "row_2.npz", "row_3.npz"}


def test_without_yes_and_terminal_it_only_lists(here: Project) -> None:
    result = smm("gc", "less.yaml")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["kind", "name", "size", "computed"]
    assert [line[:2] for line in lines[1:4]] == [
        ["undeclared", "row_2"],
        ["undeclared", "row_3"],
        ["unfinished", "one"],
    ]
    assert ["undeclared", "2"] in [line[:2] for line in lines]
    assert result.stdout.splitlines()[-1] == "nothing removed; --yes removes it"
    assert stored_files() == ALL


def test_yes_removes(here: Project) -> None:
    result = smm("gc", "less.yaml", "--yes")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("3 removed, ")
    assert stored_files() == {"row_1.npz"}
    assert smm("gc", "less.yaml").stdout == "nothing to remove\n"


def test_also_names_who_shares_the_folder(here: Project) -> None:
    assert smm("gc", "less.yaml", "--also", "rest.yaml", "--yes").exit_code == 0
    assert stored_files() == {"row_1.npz", "row_3.npz"}


@pytest.mark.parametrize(("answer", "left"), [("y\n", {"row_1.npz"}), ("n\n", ALL)])
def test_on_a_terminal_it_asks(
    here: Project, monkeypatch: pytest.MonkeyPatch, answer: str, left: set[str]
) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("smm._store_commands.sys", terminal)
    result = smm("gc", "less.yaml", text=answer)
    assert result.exit_code == 0
    assert "Remove 3 things? [y/N]" in result.stderr
    assert stored_files() == left
    if left == ALL:
        assert result.stdout.splitlines()[-1] == "nothing removed"


def test_ctrl_c_at_the_question_removes_nothing(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("smm._store_commands.sys", terminal)

    def interrupted(*_: Any, **__: Any) -> bool:
        raise click.Abort  # which is what click makes of Ctrl-C

    monkeypatch.setattr("click.confirm", interrupted)
    assert (smm("gc", "less.yaml").exit_code, stored_files()) == (130, ALL)


def test_gc_as_json(here: Project) -> None:
    listed = json.loads(smm("gc", "less.yaml", "--json").stdout)
    assert (listed["count"], listed["removed"]) == (3, 0)
    assert stored_files() == ALL
    gone = json.loads(smm("gc", "less.yaml", "--json", "--yes").stdout)
    assert (gone["count"], gone["removed"]) == (3, 3)
    assert [(one["kind"], one["name"], one["removed"]) for one in gone["garbage"]] == [
        ("undeclared", "row_2", True),
        ("undeclared", "row_3", True),
        ("unfinished", "one", True),
    ]
    assert gone["bytes"] == sum(one["bytes"] for one in gone["garbage"]) == listed["bytes"]
    assert gone["garbage"][0]["path"].endswith("results/row_2.npz")
    assert gone["garbage"][0]["date"].startswith("20")
    assert stored_files() == {"row_1.npz"}


def test_keep_logs_is_20_unless_told(here: Project) -> None:
    from smm._gc import KEEP_LOGS

    shutil.rmtree("results/.smm/runs")
    make_logs(Path("results"), 25, lambda number: 100)
    for options, count in ((), 25 - KEEP_LOGS), (("--keep-logs", "2"), 23):
        listed = json.loads(smm("gc", "metrics.yaml", "--json", *options).stdout)["garbage"]
        assert [one["kind"] for one in listed].count("log") == count


def test_many_of_a_kind_are_counted(here: Project) -> None:
    filled(NpzStorageInterface("results"), *(f"old_{n}" for n in range(30)))
    lines = smm("gc", "less.yaml").stdout.splitlines()
    assert len([line for line in lines if line.startswith("undeclared  old_")]) == 20
    assert "undeclared  and 12 more; --json lists them all" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope.yaml"], "'nope.yaml' is no file"),
        (["results"], "'results' is a folder"),
        (["metrics.yaml", "--also", "nope.yaml"], "'nope.yaml' is no file"),
        (["metrics.yaml", "--keep-logs", "-1"], "Invalid value for '--keep-logs'"),
        (["blocked.yaml"], "Not a directory"),
    ],
)
def test_wrong_usage_is_exit_code_2(here: Project, arguments: list[str], message: str) -> None:
    here.write("blocked.yaml", CONFIG + "    storage: {metrics_dir: gc_code.py}\n")
    result = smm("gc", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
