"""Stored metrics under other names: what is meant, what is in the way, and that nothing is lost."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import enum
import errno
import json
import os
import pathlib
import pickle
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import (
    DatedCacheManager,
    FileBasedStorageInterface,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
    _files,
    legacy_metric_name,
)
from smm._decoding import Described, decode, form_of
from smm._encoding import Unsupported, canonical, encode, json_form
from smm._files import write_small
from smm.errors import MetricNameError, StorageAbilityError, UnknownMetricError
from smm.maintain import (
    RenameConflictError,
    RenamePendingError,
    RenamePlan,
    plan_rename,
    rename,
    rename_rows,
)
from smm.metric import OnStale, Record
from smm.testing import alike, files_below
from tests.commands import run_cli as smm
from tests.params import params
from tests.projects import Project, project
from tests.stores import DictStorage, NumpyFiles, PickleFiles

__all__ = ["project"]


class DeletingDict(DictStorage):
    """Three methods and `delete`, over a dict."""

    def delete(self, name: str) -> None:
        del self.kept[name]


class DeletingFiles(NumpyFiles):
    """The same over a folder, by numpy's own functions."""

    def delete(self, name: str) -> None:
        self._path(name).unlink()


KINDS: dict[str, Callable[[Path], Any]] = {
    "npz": NpzStorageInterface,
    "npy": NpyStorageInterface,
    "json": JsonStorageInterface,
    "subclass": PickleFiles,
    "memory": lambda _: MemoryStorageInterface(),
    "three methods, dict": lambda _: DeletingDict(),
    "three methods, files": DeletingFiles,
}
FILES = ("npz", "npy", "json", "subclass")

Bases = Mapping[str, list[Any]]
"""Rows by base name."""


def metric(base_name: str) -> Callable[..., Any]:
    """A function whose values are different for each base name and row, and what every storage keeps."""

    def function(a: Any, b: Any = 0) -> Any:
        return [float(sum(base_name.encode())), float(a), float(b), len(base_name) + 0.5]

    return function


def manager(storage: Any, declared: Bases, on_stale: OnStale = "warn") -> ParameterizedDatedCacheManager:
    """One with these rows, which compute what `metric` says."""
    CM = ParameterizedDatedCacheManager(storage, verbose=False, stale_on=("inputs",), on_stale=on_stale)
    for base_name, rows in declared.items():
        CM.collect(base_name, params_list=rows)(metric(base_name))
    return CM


def filled(storage: Any, declared: Bases) -> ParameterizedDatedCacheManager:
    """The same with all rows stored."""
    CM = manager(storage, declared)
    for name in CM:
        CM.get(name)
    return CM


def results(storage: Any) -> dict[str, bytes | None]:
    """All files of a store but those that are smm's own; nothing for a storage without files."""
    folder = getattr(storage, "metrics_dir", getattr(storage, "folder", None))
    if folder is None:
        return {}
    return {str(path): content for path, content in files_below(folder).items() if path.parts[0] != ".smm"}


def never(*_: Any) -> Any:
    """Computes what is stored already."""
    raise AssertionError("computed again")


def record_of(storage: Any, name: str) -> Record:
    """The record, whatever the storage can do."""
    return DatedCacheManager(storage, verbose=False).record(name)


def names(plan: RenamePlan) -> dict[str, str]:
    """New names by old ones."""
    return {move.old: move.new for move in plan.moves}


# --- what is meant ---------------------------------------------------------------------------------------

ALIKE = ["pol", "poly", "poly_X", "poly_X_Y", "polyX"]
NEW = ["other", "poly_1", "p.q"]
stores = st.dictionaries(
    st.sampled_from(ALIKE), st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True), min_size=1
)


@given(st.sampled_from(list(KINDS)), stores, st.data())
def test_renamed_there_and_back_is_the_same_store(
    tmp_path_factory: pytest.TempPathFactory, kind: str, bases: dict[str, list[int]], data: st.DataObject
) -> None:
    storage = KINDS[kind](tmp_path_factory.mktemp("store") / "results")
    stored = list(filled(storage, bases))
    old = data.draw(st.sampled_from(sorted(bases)))
    new = data.draw(st.sampled_from([name for name in [*ALIKE, *NEW] if name not in bases]))
    can_list = kind in FILES or kind == "memory"
    declared = data.draw(st.sampled_from(["old", "new", "both", *(["neither"] if can_list else [])]))
    rows = bases[old]
    others = {base: each for base, each in bases.items() if base != old}
    code = dict(others)
    code |= {old: rows} if declared in ("old", "both") else {}
    code |= {new: rows} if declared in ("new", "both") else {}
    files = results(storage)
    values = {name: storage.load(name) for name in stored}
    records = {name: record_of(storage, name) for name in stored}

    plan = rename(manager(storage, code), old, new)

    moved = {f"{old}_{row}_0": f"{new}_{row}_0" for row in rows}
    assert (names(plan), plan.declared, plan.followers) == (moved, declared, ())
    for name in stored:
        now = moved.get(name, name)
        assert alike(storage.load(now), values[name])
        record = record_of(storage, now)
        assert (record.name, record.base_name) == (now, new if name in moved else records[name].base_name)
        assert (record.date, record.params, record.data) == (
            records[name].date,
            records[name].params,
            records[name].data,
        )
        assert now == name or not (storage.exists(name) or storage.exists(f"{name}_date"))
    mine = tuple(f"{name}{ending}" for name in moved for ending in (".", "_date."))
    assert {path: text for path, text in files.items() if not path.startswith(mine)}.items() <= results(
        storage
    ).items()
    served = manager(storage, {new: rows}, on_stale="error")
    assert all(alike(served.get(name), values[then]) for then, name in moved.items())

    back = rename(manager(storage, others | {new: rows}), new, old)
    assert names(back) == {now: name for name, now in moved.items()}
    assert results(storage) == files
    assert {name: record_of(storage, name) for name in stored} == records
    assert all(alike(storage.load(name), value) for name, value in values.items())


def test_a_single_metric_has_its_base_name(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = DatedCacheManager(storage, verbose=False)
    CM.collect("weekly")(lambda: 1)
    CM.set_functions_dict({"by hand": lambda: 2})
    assert (CM["weekly"], CM["by hand"]) == (1, 2)
    assert names(rename(CM, "weekly", "hourly")) == {"weekly": "hourly"}
    assert names(rename(CM, "by hand", "by_hand")) == {"by hand": "by_hand"}
    after = DatedCacheManager(storage, verbose=False, on_stale="serve")
    after.collect("hourly")(lambda: 3)
    after.collect("by_hand")(lambda: 4)
    assert (after["hourly"], after["by_hand"]) == (1, 2)
    assert (record_of(storage, "hourly").base_name, record_of(storage, "by_hand").base_name) == (
        "hourly",
        None,
    )


def test_one_row_of_many(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1, 2], [1, 3]]})
    value = CM.load("poly_1_2")
    assert names(rename(CM, "poly_1_2", "cube_1_2")) == {"poly_1_2": "cube_1_2"}
    assert storage.names() == {"cube_1_2", "poly_1_3"}
    record = record_of(storage, "cube_1_2")
    assert (record.base_name, record.params) == ("cube", {"a": 1, "b": 2})
    assert alike(manager(storage, {"cube": [[1, 2]]}, on_stale="error").get("cube_1_2"), value)
    # A metric of its own, by any name.
    rename(CM, "cube_1_2", "the best")
    after = DatedCacheManager(storage, verbose=False, on_stale="serve")
    after.collect("the best")(lambda: never())
    assert alike(after["the best"], value)


def test_one_row_does_not_become_another_row(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    filled(storage, {"poly": [[1, 2]]})
    before = files_below(tmp_path)
    with pytest.raises(RenameConflictError, match="other params; rename_rows"):
        rename(manager(storage, {"poly": [[1, 2], [1, 3]]}), "poly_1_2", "poly_1_3")
    assert files_below(tmp_path) == before


def test_what_is_declared_otherwise_is_no_row(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = DatedCacheManager(storage, verbose=False)
    CM.set_functions_dict({"poly_1_0": lambda: 1, "poly_2_0": lambda: 2})
    assert CM["poly_1_0"] + CM["poly_2_0"] == 3
    code = manager(storage, {"cube": [[1], [2]]})
    code.functions_dict["poly_1_0"] = lambda: 1
    assert names(rename(code, "poly", "cube")) == {"poly_2_0": "cube_2_0"}
    assert storage.names() == {"poly_1_0", "cube_2_0"}


def test_the_new_function_says_what_its_rows_are_called(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = ParameterizedDatedCacheManager(storage, verbose=False, dynamic_metric_creation=True)

    @CM.collect(params_list=[[1, 2]])
    def old(a: Any, b: Any, *, kind: str = "low") -> Any:
        return [a, b, kind]

    values = {given: CM.old(*given) for given in [(1, 2), (3, (4, 5)), (None, 1.5)]}
    after = ParameterizedDatedCacheManager(
        storage, verbose=False, dynamic_metric_creation=True, on_stale="serve"
    )

    @after.collect(
        params_list=[[1, 2]],
        name_generation_function=lambda base_name, params: f"{len(params)} of {base_name}: {params}",
    )
    def new(x: Any, b: Any, *, kind: str = "low", more: int = 0) -> Any:
        never()

    plan = rename(after, "old", "new")
    assert not plan.conflicts
    assert after.new.name(1, 2) == "2 of new: (1, 2)"
    assert set(names(plan).values()) == {after.new.name(*given) for given in values} == storage.names()
    assert all(alike(after.new(*given), value) for given, value in values.items())
    assert record_of(storage, after.new.name(1, 2)).params == {"x": 1, "b": 2, "kind": "low", "more": 0}


def test_the_old_function_says_what_its_rows_were_called(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    CM.collect(
        "old", params_list=[[1], [2]], name_generation_function=lambda base, params: f"{params[0]}@{base}"
    )(lambda a: a)
    CM.old.get_all()
    assert names(rename(CM, "old", "new")) == {"1@old": "1@new", "2@old": "2@new"}
    bare = ParameterizedDatedCacheManager(storage, verbose=False)
    with pytest.raises(RenameConflictError, match="does not begin with 'new'; declare the new metric"):
        rename(bare, "new", "newer")


class Mode(enum.Enum):
    """A param that a record notes by its class."""

    FAST = 1


def test_long_names_and_described_params_keep_their_rest(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    rows = [[np.arange(3), Mode.FAST], ["a b", 1.5], [[1, 2], {"x": 1}]]

    def function(a: Any, b: Any) -> str:
        return f"{a} {b}"

    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    CM.collect("old", params_list=rows)(function)
    values = CM.old.get_all()
    for code in ("old", "new"):
        after = ParameterizedDatedCacheManager(storage, verbose=False, on_stale="error")
        after.collect(code, params_list=rows)(function)
        plan = rename(after, "old", "new")
        assert set(names(plan).values()) == {name.replace("old", "new", 1) for name in CM.old.names()}
        served = ParameterizedDatedCacheManager(storage, verbose=False, on_stale="error")
        served.collect("new", params_list=rows)(function)
        assert served.new.get_all() == values
        assert rename(served, "new", "old").moves


def test_unknown_names_say_so(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path / "results")
    CM = manager(storage, {"poly": [[1]]})
    with pytest.raises(UnknownMetricError, match="did you mean 'poly'"):
        plan_rename(CM, "polly", "cube")
    with pytest.raises(MetricNameError, match="ends in '_date'"):
        rename(CM, "poly", "poly_date")
    assert rename(CM, "poly", "cube").moves == ()
    assert not (tmp_path / "results").exists(), "nothing to do makes nothing"
    CM.get("poly_1_0")
    assert rename(CM, "poly", "poly").moves == ()
    rename(CM, "poly", "cube")
    assert rename(CM, "poly", "cube").moves == ()
    assert rename(manager(storage, {}), "poly", "cube").moves == (), (
        "done before, however it is asked for again"
    )


# --- the predecessor's stores ----------------------------------------------------------------------------

STORE = Path(__file__).parent / "data" / "legacy_store_0_5"
LEGACY_ROWS = [[1, 2], [1, 3], [4, 5], [1.5, "lo"]]


def legacy(storage: Any, base_name: str) -> ParameterizedDatedCacheManager:
    """A manager that calls the predecessor's rows as the predecessor did."""
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    collect = CM.collect(base_name, LEGACY_ROWS, name_generation_function=legacy_metric_name)
    collect(lambda a, b: never())
    return CM


@pytest.mark.parametrize("kind", ["json", "npy", "npz"])
@pytest.mark.parametrize("declared", ["old", "new"])
def test_a_store_of_the_predecessor(tmp_path: Path, kind: str, declared: str) -> None:
    shutil.copytree(STORE / kind, tmp_path / kind)
    storage: FileBasedStorageInterface = KINDS[kind](tmp_path / kind)
    before = results(storage)
    stored = storage.names()
    rows = {f"poly_Y_{rest}": f"poly_Y_new_{rest}" for rest in ("1_2", "1_3", "4_5", "1p5_lo")}
    values = {name: storage.load(name) for name in stored}
    with pytest.raises(UnknownMetricError, match="declare 'poly_Y' with its rows"):
        rename(DatedCacheManager(storage, verbose=False), "poly_Y", "poly_Y_new")

    code = legacy(storage, "poly_Y" if declared == "old" else "poly_Y_new")
    assert names(rename(code, "poly_Y", "poly_Y_new")) == rows
    assert storage.names() == storage.recorded() == (stored - rows.keys()) | set(rows.values())
    for name in stored:
        now = rows.get(name, name)
        assert alike(storage.load(now), values[name])
        assert storage.load(f"{now}_date") == "2026-11-23"
    assert json.loads((tmp_path / kind / "poly_Y_new_1_2_date.json").read_text()) == "2026-11-23"
    served = legacy(storage, "poly_Y_new")
    assert [
        alike(value, values[name]) for name, value in zip(rows, served.poly_Y_new.get_all(), strict=True)
    ] == [True] * 4
    unchanged = {path: text for path, text in before.items() if not path.startswith("poly_Y")}
    assert unchanged.items() <= results(storage).items()

    assert names(rename(served, "poly_Y_new", "poly_Y")) == {new: old for old, new in rows.items()}
    assert storage.names() == storage.recorded() == stored
    # One by one, whatever is declared.
    rename(DatedCacheManager(storage, verbose=False), "single", "alone")
    assert alike(storage.load("alone"), values["single"])
    assert storage.load("alone_date") == "2026-11-23"


def test_names_that_the_predecessor_wrote_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a b.npz", 1.5)
    np.savez(tmp_path / "a b_date.npz", "2026-11-23")
    storage = NpzStorageInterface(tmp_path)
    rename(DatedCacheManager(storage, verbose=False), "a b", "c d")
    assert sorted(results(storage)) == ["c%20d.npz", "c%20d_date.json"]
    assert storage.load("c d") == 1.5


# --- what was computed from them -------------------------------------------------------------------------


def chained(storage: Any, poly: str, on_stale: OnStale = "warn") -> ParameterizedDatedCacheManager:
    """`summary` reads `total`, which reads itself and the rows of a metric called `poly`."""
    CM = manager(storage, {poly: [[1], [2]]}, on_stale)

    @CM.collect(params_list=[[1], [2]])
    def total(a: int) -> Any:
        before = CM.total(a - 1) if a > 1 else 0.0
        return before + float(np.sum(CM[f"{poly}_{a}_0"]))

    @CM.collect
    def summary() -> Any:
        return [float(CM.total(a)) for a in (1, 2)]

    return CM


@pytest.mark.parametrize("kind", KINDS)
def test_what_read_them_follows_and_stays_fresh(tmp_path: Path, kind: str) -> None:
    storage = KINDS[kind](tmp_path)
    CM = chained(storage, "poly")
    value = CM.summary()
    records = {name: record_of(storage, name) for name in CM}
    plan = rename(CM, "poly", "cube")
    assert {each.name: each.inputs for each in plan.followers} == {
        "total_1": ("poly_1_0",),
        "total_2": ("poly_2_0",),
    }
    after = chained(storage, "cube", on_stale="error")
    assert alike(after.summary(), value)
    assert {name: after.why(name) for name in after} == dict.fromkeys(after, ())
    # The metric that reads itself follows, too.
    assert {each.name for each in rename(after, "total", "sum").followers} == {"summary"}
    assert [read.name for read in record_of(storage, "sum_2").inputs or ()] == ["sum_1", "cube_2_0"]
    for name, record in records.items():
        now = record_of(storage, name.replace("poly", "cube").replace("total", "sum"))
        assert (now.date, now.duration_seconds, now.code, now.data) == (
            record.date,
            record.duration_seconds,
            record.code,
            record.data,
        )
        assert [read.date for read in now.inputs or ()] == [read.date for read in record.inputs or ()]
    assert after.why("summary") == ()


def test_what_was_read_from_another_store_does_not_follow(tmp_path: Path) -> None:
    other = filled(NpzStorageInterface(tmp_path / "other"), {"poly": [[1]]})
    CM = filled(NpzStorageInterface(tmp_path / "own"), {"poly": [[1]]})
    CM.collect("total")(lambda: other["poly_1_0"][0] + CM["poly_1_0"][0])
    CM.get("total")
    rename(CM, "poly", "cube")
    reads = {read.store: read.name for read in CM.record("total").inputs or ()}
    assert reads == {str(tmp_path / "other"): "poly_1_0", None: "cube_1_0"}


def test_fields_of_later_versions_go_along(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = chained(storage, "poly")
    CM.summary()
    for name in ("poly_1_0", "total_1"):
        text = json.loads(storage.read_record(name) or "")
        storage.write_record(name, json.dumps(text | {"later": [name]}))
    rename(CM, "poly", "cube")
    assert json.loads(storage.read_record("cube_1_0") or "")["later"] == ["poly_1_0"]
    assert json.loads(storage.read_record("total_1") or "")["later"] == ["total_1"]


def test_a_reader_that_is_being_computed_is_waited_for(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1]]})
    reading, asked, go_on = threading.Event(), threading.Event(), threading.Event()

    @CM.collect
    def reader() -> Any:
        value = CM["poly_1_0"]
        reading.set()
        assert go_on.wait(30)
        return value

    go_on.set()
    CM.get("reader")
    go_on.clear()
    reading.clear()
    first = CM.date("reader")
    again = threading.Thread(target=lambda: CM.get("reader", use_stored=False))
    again.start()
    assert reading.wait(30)
    other = filled(storage, {})
    flight = other._flight

    def asking(name: str, verbose: bool | None) -> Any:
        if name == "reader":
            asked.set()
        return flight(name, verbose)

    other._flight = asking  # type: ignore[method-assign]
    renaming = threading.Thread(target=rename, args=(other, "poly", "cube"))
    renaming.start()
    assert asked.wait(30)
    go_on.set()
    again.join()
    renaming.join()
    record = CM.record("reader")
    assert record.date > first
    assert [read.name for read in record.inputs or ()] == ["cube_1_0"]


def test_memory_lets_go_of_what_is_renamed_but_not_of_what_is_unsaved() -> None:
    CM = filled(MemoryStorageInterface(), {"poly": [[1], [2]]})
    CM.compute("poly_2_0", force=True)
    assert set(CM.cache) == {"poly_1_0", "poly_2_0"}
    rename(CM, "poly", "cube")
    assert set(CM.cache) == {"poly_2_0"}


# --- what is in the way ----------------------------------------------------------------------------------


def conflicts_of(manager: DatedCacheManager, old: str, new: str) -> dict[str, str]:
    """The reasons by old name; the same by a plan and by an attempt, which changes nothing."""
    before = results(manager.storage_interface)
    plan = plan_rename(manager, old, new)
    assert rename(manager, old, new, dry_run=True) == plan
    with pytest.raises(RenameConflictError) as caught:
        rename(manager, old, new)
    assert caught.value.plan == plan
    assert "nothing is renamed" in str(caught.value)
    assert results(manager.storage_interface) == before
    found = {conflict.old: conflict.reason for conflict in plan.conflicts}
    assert len(found) == len(plan.conflicts)
    assert all(str(conflict) in str(caught.value) for conflict in plan.conflicts)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_all_conflicts_are_listed_and_nothing_is_done(tmp_path: Path, kind: str) -> None:
    storage = KINDS[kind](tmp_path)
    CM = filled(storage, {"poly": [[row] for row in range(5)], "cube": [[0]]})
    storage.save("cube_1_0", storage.load("poly_2_0"))
    if kind.startswith("three"):
        storage.save("cube_2_0_date", storage.load("poly_2_0_date"))
    else:
        storage.write_record("cube_2_0", storage.read_record("poly_2_0"))
    found = conflicts_of(CM, "poly", "cube")
    assert {name: reason.partition(",")[0] for name, reason in found.items()} == {
        "poly_0_0": "that is stored already",
        "poly_1_0": "data of that name lies there without a side-car",
        "poly_2_0": "a side-car of that name lies there without data; smm gc removes it",
    }
    assert len(plan_rename(CM, "poly", "cube").moves) == 5


@pytest.mark.parametrize("kind", FILES)
def test_names_that_no_file_can_have_are_conflicts(tmp_path: Path, kind: str) -> None:
    CM = filled(KINDS[kind](tmp_path), {"poly": [[1], [10**30]]})
    longest = "x" * (255 - len("_date.pickle") - len("_1_0"))
    found = conflicts_of(CM, "poly", longest)
    assert list(found) == [f"poly_{10**30}_0"]
    assert "bytes as a file name" in found[f"poly_{10**30}_0"]


def test_side_cars_without_data_are_conflicts(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), {"poly": [[1], [2]]})
    (tmp_path / "poly_1_0.npz").unlink()
    assert conflicts_of(CM, "poly", "cube") == {
        "poly_1_0": "its side-car lies there without data; smm gc removes it"
    }


def test_data_without_a_side_car_stays_where_it_is(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1], [2]]})
    storage.remove_record("poly_1_0")
    assert names(rename(CM, "poly", "cube")) == {"poly_2_0": "cube_2_0"}
    assert storage.names() == {"poly_1_0", "cube_2_0"}


def test_a_name_that_another_metric_is_declared_with_is_a_conflict(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), {"poly": [[1]]})
    CM.collect("cube", params_list=[["X", 1]])(lambda x, a: never())
    CM.collect("cube_X_1", params_list=[[0]])(lambda a: never())
    found = conflicts_of(CM, "poly", "cube_X")
    assert found == {
        "poly_1_0": "<row cube_X_1(0)> is declared with this name; rename one of the two in the code"
    }
    CM.collect("same", params_list=[[1, 0]], name_generation_function=lambda *_: "square_1_0")(
        lambda a, b: never()
    )
    assert list(conflicts_of(CM, "poly", "square")) == ["poly_1_0"], (
        "the params are the same, the metric is not"
    )


def test_params_that_the_new_function_does_not_take_are_conflicts(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), {"poly": [[1, 2]]})
    CM.collect("cube", params_list=[[1]])(lambda a: never())
    assert "do not fit the new function: cube()" in conflicts_of(CM, "poly", "cube")["poly_1_2"]
    CM.collect("square", params_list=[[1, 2]])(lambda b, c: never())
    assert "rename_rows" in conflicts_of(CM, "poly", "square")["poly_1_2"], "b is not what b was"


def test_a_link_to_the_old_file_is_not_taken_for_its_copy(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1]]})
    size = (tmp_path / "poly_1_0.npz").stat().st_size
    link = "/" * (size - len("./poly_1_0.npz")) + "poly_1_0.npz"  # as long as the file that it leads to
    (tmp_path / "cube_1_0.npz").symlink_to(f"./{link}")
    assert (tmp_path / "cube_1_0.npz").lstat().st_size == size
    shutil.copy(tmp_path / "poly_1_0_date.json", tmp_path / "cube_1_0_date.json")
    assert conflicts_of(CM, "poly", "cube")


def test_a_renaming_begun_by_hand_is_finished(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1], [2]]})
    shutil.copy2(tmp_path / "poly_1_0.npz", tmp_path / "cube_1_0.npz")
    shutil.copy(tmp_path / "poly_1_0_date.json", tmp_path / "cube_1_0_date.json")
    shutil.copy2(tmp_path / "poly_2_0.npz", tmp_path / "cube_2_0.npz")
    rename(CM, "poly", "cube")
    assert storage.names() == storage.recorded() == {"cube_1_0", "cube_2_0"}
    assert record_of(storage, "cube_1_0").base_name == "cube"


def test_a_storage_that_cannot_delete_is_refused() -> None:
    CM = filled(DictStorage(), {"poly": [[1]]})
    with pytest.raises(StorageAbilityError, match="DictStorage has no method 'delete'"):
        rename(CM, "poly", "cube")


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    """Where a file system knows no case, the old file is in the way of its own new name."""
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1], [2]]})
    plan = rename(CM, "poly", "Poly")
    assert [move.by_way_of for move in plan.moves] == ["renaming~1", "renaming~2"]
    assert storage.names() == storage.recorded() == {"Poly_1_0", "Poly_2_0"}


# --- other params ----------------------------------------------------------------------------------------


def test_arguments_are_called_otherwise(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    CM.collect("poly", params_list=[{"a": 1, "kind": "lo"}, {"a": 2, "kind": "hi"}])(
        lambda a, *, kind: [a, kind]
    )
    values = CM.poly.get_all()
    after = ParameterizedDatedCacheManager(storage, verbose=False, on_stale="serve")
    after.collect("poly", params_list=[{"degree": 1, "mode": "lo"}])(lambda degree, *, mode: never())
    plan = rename_rows(after, "poly", {"a": "degree", "kind": "mode"})
    assert names(plan) == {"poly_1_kind=lo": "poly_1_mode=lo", "poly_2_kind=hi": "poly_2_mode=hi"}
    assert alike(after.poly.get_all(), values[:1])
    assert record_of(storage, "poly_2_mode=hi").params == {"degree": 2, "mode": "hi"}
    assert rename_rows(after, "poly", {"a": "degree", "kind": "mode"}).moves == ()


def test_only_the_record_changes_where_the_name_stays(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    filled(storage, {"poly": [[1, 2]]})
    data = results(storage)["poly_1_2.npz"]
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    CM.collect("poly", params_list=[[1, 2]])(lambda degree, b: never())
    assert names(rename_rows(CM, "poly", {"a": "degree"})) == {"poly_1_2": "poly_1_2"}
    assert results(storage)["poly_1_2.npz"] == data
    assert record_of(storage, "poly_1_2").params == {"degree": 1, "b": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_arguments_of_a_whole_grid(tmp_path: Path, kind: str) -> None:
    storage = KINDS[kind](tmp_path)
    grid = [[a, b] for a in range(3) for b in range(3)]
    CM = filled(storage, {"poly": grid})
    CM.collect("reader", params_list=grid)(lambda a, b: float(CM.poly(a, b)[1]))
    CM.reader.get_all()
    values = {(a, b): storage.load(f"poly_{a}_{b}") for a, b in grid}
    after = ParameterizedDatedCacheManager(storage, verbose=False, stale_on=("inputs",), on_stale="error")
    after.collect("poly", params_list=grid)(lambda b, a: never())
    after.collect("reader", params_list=grid)(lambda a, b: never())
    plan = rename_rows(after, "poly", lambda params: params)
    assert names(plan) == {f"poly_{a}_{b}": f"poly_{b}_{a}" for a, b in grid}
    assert [move.new for move in plan.moves if move.by_way_of is None] == ["poly_0_0", "poly_1_1", "poly_2_2"]
    for a, b in grid:
        assert alike(storage.load(f"poly_{b}_{a}"), values[a, b])
        assert [read.name for read in record_of(storage, f"reader_{a}_{b}").inputs or ()] == [f"poly_{b}_{a}"]
        assert after.why(f"reader_{a}_{b}") == ()
        assert dict(record_of(storage, f"poly_{b}_{a}").params or {}) == {"a": a, "b": b}
    assert len(results(storage)) in (0, 4 * len(grid))


def test_a_shift_by_one_is_done_once(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[row] for row in range(6)]})
    values = [CM.load(f"poly_{row}_0") for row in range(6)]
    rename_rows(CM, "poly", lambda params: params | {"a": params["a"] + 1}, new_base_name=None)
    assert storage.names() == {f"poly_{row}_0" for row in range(1, 7)}
    assert all(alike(storage.load(f"poly_{row + 1}_0"), value) for row, value in enumerate(values))


def test_more_arguments_and_another_base_name(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1], [2]]})
    CM.collect("cube", params_list=[[1, "x"]])(lambda a, kind, scale=1.5: never())
    plan = rename_rows(CM, "poly", lambda params: {"a": params["a"], "kind": "x"}, new_base_name="cube")
    assert set(names(plan).values()) == {"cube_1_x_1p5", "cube_2_x_1p5"}
    record = record_of(storage, "cube_1_x_1p5")
    assert (record.base_name, record.params) == ("cube", {"a": 1, "kind": "x", "scale": 1.5})


def test_a_metric_without_params_gets_some(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = ParameterizedDatedCacheManager(storage, verbose=False, on_stale="serve")
    CM.collect("trend")(lambda: 12)
    assert CM.trend() == 12
    after = ParameterizedDatedCacheManager(storage, verbose=False, on_stale="serve")
    after.collect("trend", params_list=[[3], [4]])(lambda window: never())
    rename_rows(after, "trend", lambda params: params | {"window": 3})
    assert after.trend(3) == 12


def test_params_come_as_they_were(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    array = np.arange(3.0)
    rows: list[list[Any]] = [
        [1.5, (1959, 2000)],
        [dt.date(2026, 1, 31), None],
        [Mode.FAST, {1: "x"}],
        [array, "a"],
    ]
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    CM.collect("old", params_list=rows)(lambda a, b: 1)
    CM.old.get_all()
    seen: list[dict[str, Any]] = []

    def swapped(params: dict[str, Any]) -> dict[str, Any]:
        seen.append(params)
        return {"y": params["b"], "x": params["a"]}

    after = ParameterizedDatedCacheManager(storage, verbose=False, on_stale="serve")
    after.collect("old", params_list=[[row[1], row[0]] for row in rows])(lambda y, x: never())
    plan = rename_rows(after, "old", swapped)
    assert {type(params["a"]) for params in seen} == {float, dt.date, Mode, Described}
    assert "<array that a record describes>" in {repr(params["a"]) for params in seen}
    assert set(names(plan).values()) == set(after.old.names())
    assert after.old.get_all() == [1, 1, 1, 1]


def test_described_params_need_a_declared_row(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    CM.collect("old", params_list=[[np.arange(3)]])(lambda a: 1)
    CM.old.get_all()
    after = ParameterizedDatedCacheManager(storage, verbose=False)
    after.collect("old", params_list=[[1]])(lambda b: never())
    with pytest.raises(RenameConflictError, match="declare the row with its new params"):
        rename_rows(after, "old", {"a": "b"})


def test_params_that_do_not_fit_are_conflicts(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1], [2]], "other": [[1]]})
    before = results(storage)
    for new_params, reason in (
        ({"a": "degree"}, "do not fit: poly() got an unexpected keyword argument 'degree'"),
        (lambda params: {"a": 7}, "another one would get the same name"),
        (lambda params: {"a": object()}, "is an object of class object"),
        ({"a": "b"}, "two of its arguments would be called the same"),
    ):
        with pytest.raises(RenameConflictError) as caught:
            rename_rows(CM, "poly", new_params)
        assert [reason in conflict.reason for conflict in caught.value.plan.conflicts] == [True, True]
    with pytest.raises(RenameConflictError, match="the function 'cube', by which rows get their names"):
        rename_rows(CM, "poly", {"a": "a"}, new_base_name="cube")
    with pytest.raises(RenameConflictError, match="that is stored already"):
        rename_rows(CM, "poly", lambda params: params, new_base_name="other")
    assert results(storage) == before


def test_mistakes_in_new_params_are_said(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, {"poly": [[1]]})
    before = results(storage)
    with pytest.raises(ValueError, match=r"no stored row of 'poly' has 'z' among its params \(a, b\)"):
        rename_rows(CM, "poly", {"z": "y"})
    with pytest.raises(TypeError, match="must give params by argument name"):
        rename_rows(CM, "poly", lambda params: [1])  # type: ignore[arg-type, return-value]
    with pytest.raises(KeyError) as caught:
        rename_rows(CM, "poly", lambda params: {"a": params["z"]})
    assert caught.value.__notes__ == ["while finding a new name for 'poly_1_0'"]
    with pytest.raises(UnknownMetricError):
        rename_rows(manager(MemoryStorageInterface(), {"poly": [[1]]}), "polly", dict, new_base_name="poly")
    assert results(storage) == before


@given(params())
def test_params_are_decoded_whole_or_not_at_all(param: Any) -> None:
    try:
        value = canonical(param)
    except Unsupported:
        return
    form = json.loads(json.dumps(json_form(value)))
    decoded = decode(form)
    assert form_of(decoded) == form
    if not isinstance(decoded, Described):
        assert encode(canonical(decoded)) == encode(value)


def test_damaged_forms_are_only_described() -> None:
    for form in ({"type": "date"}, {"type": "nothing"}, {}, [{"type": "float", "value": "1"}]):
        assert isinstance(decode(form), Described)
    assert decode({"type": "PurePosixPath", "path": "a"}) == pathlib.PurePosixPath("a")


# --- interrupted -----------------------------------------------------------------------------------------

POLY: Bases = {"poly": [[1, 2], [2, 1], [3, 3]], "poly_X": [[1, 2]]}


def prepared(storage: Any) -> Any:
    """A store of two metrics and of one that reads them."""
    CM = filled(storage, POLY)
    with_reader(CM).get("reader")
    return storage


def with_reader(CM: Any) -> Any:  # noqa: N803
    """The same manager, which declares who reads the others."""
    CM.collect("reader")(lambda: [CM["poly_1_2"][1], CM["poly_2_1"][1], CM["poly_X_1_2"][1]])
    return CM


def renamed(storage: Any) -> RenamePlan:
    """`poly` becomes `poly_X_2`."""
    return rename(with_reader(manager(storage, POLY)), "poly", "poly_X_2")


def swapped(storage: Any) -> RenamePlan:
    """The arguments of `poly` change places."""
    CM = with_reader(manager(storage, {}))
    CM.collect("poly", params_list=POLY["poly"])(lambda b, a: never())
    return rename_rows(CM, "poly", lambda params: params)


TASKS: dict[str, Callable[[Any], RenamePlan]] = {"other names": renamed, "other params": swapped}


class Faults:
    """At one of the calls by which a store is looked at or changed, does something else."""

    def __init__(self, instead: Callable[[], None], at: int) -> None:
        self.calls = 0
        self._instead = instead
        self._at = at

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.calls == self._at:
                self._instead()
            return function(*args, **keywords)

        return call


def contents(storage: Any) -> list[tuple[Any, Any]]:
    """When each stored value was computed, and the value; by whatever name."""
    stored = storage.recorded() if hasattr(storage, "recorded") else set(storage.kept)
    found = {}
    for name in stored:
        if not name.endswith("_date") and DatedCacheManager(storage, verbose=False).exists(name):
            found[record_of(storage, name).date] = storage.load(name)
    return sorted(found.items(), key=lambda item: item[0])


def is_fresh(storage: Any) -> bool:
    """Whether the reader finds all that it has read, as it was."""
    return DatedCacheManager(storage, verbose=False, stale_on=("inputs",)).why("reader") == ()


def interrupt() -> None:
    raise KeyboardInterrupt


def without_links(*_: Any, **__: Any) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    prepared(NpzStorageInterface(tmp_path / "origin"))
    return tmp_path / "origin"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_renaming_interrupted_at_any_step_is_finished_by_the_next(
    origin: Path, task: str, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = contents(NpzStorageInterface(origin))
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    done = NpzStorageInterface(shutil.copytree(origin, origin.parent / "done"))
    plan = TASKS[task](done)
    for at in range(1, 2000):
        storage = NpzStorageInterface(shutil.copytree(origin, origin.parent / "try"))
        faults = Faults(interrupt, at)
        with pytest.MonkeyPatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            for name in ("link", "replace", "unlink", "open") if links else ("replace", "unlink", "utime"):
                patched.setattr(os, name, faults.around(getattr(os, name)))
            TASKS[task](storage)
        assert alike(contents(storage), values), at
        assert is_fresh(storage), at
        begun = (storage.metrics_dir / ".smm" / "renaming.json").exists()
        again = TASKS[task](storage) if faults.calls >= at and (begun or task == "other names") else None
        if again is not None and begun:
            assert again.resumed
            assert names(again) == names(plan)
        if again is None and faults.calls >= at:
            assert results(storage) in (results(NpzStorageInterface(origin)), results(done)), at
        else:
            assert sorted(results(storage)) == sorted(results(done)), at
            assert not (storage.metrics_dir / ".smm" / "renaming.json").exists()
            if links:
                assert results(storage) == results(done), at
        assert alike(contents(storage), values), at
        assert is_fresh(storage), at
        shutil.rmtree(storage.metrics_dir)
        if faults.calls < at:
            break
    assert at > 20


def test_the_note_may_be_deleted_meanwhile(origin: Path) -> None:
    """`.smm` holds no results: other names are told from what is there without it, too."""
    values = contents(NpzStorageInterface(origin))
    for at in range(1, 200):
        storage = NpzStorageInterface(shutil.copytree(origin, origin.parent / "try"))
        faults = Faults(interrupt, at)
        with pytest.MonkeyPatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            for name in ("link", "replace", "unlink"):
                patched.setattr(os, name, faults.around(getattr(os, name)))
            renamed(storage)
        shutil.rmtree(storage.metrics_dir / ".smm")
        renamed(storage)
        assert storage.recorded() == {"poly_X_2_1_2", "poly_X_2_2_1", "poly_X_2_3_3", "poly_X_1_2", "reader"}
        assert alike(contents(storage), values), at
        shutil.rmtree(storage.metrics_dir)
        if faults.calls < at:
            break
    assert at > 15


@pytest.mark.parametrize("task", TASKS)
def test_a_process_killed_at_any_step_loses_nothing(origin: Path, task: str) -> None:
    values = contents(NpzStorageInterface(origin))
    done = NpzStorageInterface(shutil.copytree(origin, origin.parent / "done"))
    TASKS[task](done)
    for at in range(1, 200):
        storage = NpzStorageInterface(shutil.copytree(origin, origin.parent / "try"))
        status = ended(partial(task_killed_at, TASKS[task], storage, at))
        assert alike(contents(storage), values), at
        assert is_fresh(storage), at
        if (storage.metrics_dir / ".smm" / "renaming.json").exists() or task == "other names":
            TASKS[task](storage)
            assert results(storage) == results(done), at
        shutil.rmtree(storage.metrics_dir)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert at > 15


def task_killed_at(task: Callable[[Any], RenamePlan], storage: Any, at: int) -> None:
    faults = Faults(lambda: os.kill(os.getpid(), signal.SIGKILL), at)
    for name in ("link", "replace", "unlink"):
        setattr(os, name, faults.around(getattr(os, name)))
    task(storage)


def ended(check: Callable[[], Any]) -> int:
    """The exit status of a forked child that does this."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child needs nothing of
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


METHODS = ("exists", "save", "load", "stage", "delete", "read_record", "write_record")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("make", [MemoryStorageInterface, DeletingDict])
def test_other_storages_can_be_interrupted_too(make: Callable[[], Any], task: str) -> None:
    origin = prepared(make())
    values = contents(origin)
    done = copy.deepcopy(origin)
    TASKS[task](done)
    for at in range(1, 2000):
        storage = copy.deepcopy(origin)
        faults = Faults(interrupt, at)
        methods = [name for name in METHODS if hasattr(storage, name)]
        for name in methods:
            setattr(storage, name, faults.around(getattr(storage, name)))
        with contextlib.suppress(KeyboardInterrupt):
            TASKS[task](storage)
        for name in methods:
            delattr(storage, name)
        assert alike(contents(storage), values), at
        assert is_fresh(storage), at
        if faults.calls < at:
            break
        if storage.exists("smm_renaming_date") or task == "other names":
            TASKS[task](storage)
            assert vars(storage) == vars(done), at
    assert at > 50


def test_another_renaming_waits_for_the_one_that_was_interrupted(origin: Path) -> None:
    storage = NpzStorageInterface(origin)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", lambda *_, **__: interrupt())
        with pytest.raises(KeyboardInterrupt):
            renamed(storage)
    CM = manager(storage, POLY)
    before = results(storage)
    for other in (
        partial(rename, CM, "poly_X", "cube"),
        partial(plan_rename, CM, "poly_X", "cube"),
        partial(rename_rows, CM, "poly", {"a": "a"}),
    ):
        with pytest.raises(
            RenamePendingError, match="finish it with smm rename TARGET poly poly_X_2"
        ) as caught:
            other()
        assert str(origin / ".smm" / "renaming.json") in str(caught.value)
    assert results(storage) == before
    plan = plan_rename(CM, "poly", "poly_X_2")
    assert plan.resumed
    assert rename(CM, "poly", "poly_X_2") == plan
    rename(CM, "poly_X", "cube")
    assert storage.names() == {"poly_X_2_1_2", "poly_X_2_2_1", "poly_X_2_3_3", "cube_1_2", "reader"}


@pytest.mark.parametrize("note", ["", "[]", '{"smm_renaming": 2}', '{"smm_renaming": 1}'])
def test_a_note_that_cannot_be_read_is_not_passed_over(origin: Path, note: str) -> None:
    (origin / ".smm" / "renaming.json").write_text(note)
    with pytest.raises(RenamePendingError, match="it cannot be read"):
        renamed(NpzStorageInterface(origin))


def test_errors_keep_their_data_through_pickle(origin: Path) -> None:
    CM = manager(NpzStorageInterface(origin), POLY)
    with pytest.raises(RenameConflictError) as caught:
        rename(CM, "poly_1_2", "poly_2_1")
    pending = RenamePendingError(where="here", reason="finish it")
    for error in (caught.value, pending):
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), vars(again)) == (str(error), vars(error))
        assert isinstance(again, ValueError)


def test_rows_of_an_interrupted_renaming_say_how_to_go_on(origin: Path) -> None:
    storage = NpzStorageInterface(origin)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", lambda *_, **__: interrupt())
        with pytest.raises(KeyboardInterrupt):
            swapped(storage)
    with pytest.raises(RenamePendingError, match=r"smm\.maintain\.rename_rows\(CM, 'poly', \.\.\.\)"):
        renamed(storage)


def test_what_is_computed_again_in_the_middle_is_not_lost(origin: Path) -> None:
    """Between the interruption and the next try, code with the old names goes on computing."""
    storage = NpzStorageInterface(origin)
    written = []

    def stop_late(*args: Any, **options: Any) -> None:
        written.append(args)
        if len(written) == 3:  # the side-cars of two of the three rows are written
            raise KeyboardInterrupt
        write_small(*args, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("smm.file_storage.write_small", stop_late)
        with pytest.raises(KeyboardInterrupt):
            renamed(storage)
    CM = manager(storage, POLY)
    CM.get("poly_1_2", use_stored=False)
    newest = CM.date("poly_1_2")
    before = results(storage)
    with pytest.raises(RenameConflictError, match="that is stored already") as caught:
        renamed(storage)
    assert [conflict.old for conflict in caught.value.plan.conflicts] == ["poly_1_2"]
    assert "run it again when that is settled" in str(caught.value)
    assert results(storage) == before
    CM.delete("poly_X_2_1_2")
    assert renamed(storage).resumed
    assert record_of(storage, "poly_X_2_1_2").date == newest


def test_a_copy_of_an_old_file_is_not_swept_before_it_is_in_place(
    origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def swept(path: str) -> bool:
        """Another process makes its first file here: this one, since a lock belongs to the open file."""
        _files._swept.clear()
        if path.endswith(".npz"):
            JsonStorageInterface(origin).save("other", 1)
        return there(path)

    there = os.path.lexists
    storage = NpzStorageInterface(origin)
    for path in origin.glob("*.npz"):
        os.utime(path, (0, 0))
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os.path, "lexists", swept)
    renamed(storage)
    assert {"poly_X_2_1_2", "poly_X_2_2_1", "poly_X_2_3_3"} <= storage.recorded()


def test_what_is_computed_again_while_it_is_renamed_is_not_lost(origin: Path) -> None:
    storage = NpzStorageInterface(origin)
    link = os.link

    def late(source: str, target: str, **how: Any) -> None:
        link(source, target, **how)
        if "3_3" in source:  # the last one
            manager(storage, POLY).get("poly_1_2", use_stored=False)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", late)
        with pytest.raises(RenameConflictError) as caught:
            renamed(storage)
    assert "was computed again under its old name meanwhile" in str(caught.value)
    assert caught.value.begun
    assert {"poly_1_2", "poly_X_2_1_2"} <= storage.recorded()
    manager(storage, POLY).delete("poly_1_2")
    assert renamed(storage).resumed
    assert storage.recorded() == {"poly_X_2_1_2", "poly_X_2_2_1", "poly_X_2_3_3", "poly_X_1_2", "reader"}


def test_what_is_stored_under_the_new_name_meanwhile_is_not_lost(origin: Path) -> None:
    storage = NpzStorageInterface(origin)
    link = os.link

    def late(source: str, target: str, **how: Any) -> None:
        link(source, target, **how)
        if "1_2" in source:  # the first one
            manager(storage, {"poly_X_2": [[3, 3]]}).get("poly_X_2_3_3")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", late)
        with pytest.raises(RenameConflictError, match="poly_3_3 -> poly_X_2_3_3: that is stored already"):
            renamed(storage)
    assert {"poly_3_3", "poly_X_2_3_3"} <= storage.recorded()
    assert not alike(storage.load("poly_3_3"), storage.load("poly_X_2_3_3"))
    manager(storage, {"poly_X_2": [[3, 3]]}).delete("poly_X_2_3_3")
    assert renamed(storage).resumed
    assert is_fresh(storage)


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_are_old_and_new_at_once(tmp_path: Path, kind: str) -> None:
    """`f(1)` becomes what `f(1, 1)` was."""
    storage = KINDS[kind](tmp_path)
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    CM.collect("f", params_list=[[1], [1, 1], [1, 1, 1]])(lambda *x: [1.0 * len(x)])
    for name in CM:
        CM.get(name)
    plan = rename(CM, "f", "f_1")
    assert names(plan) == {"f_1": "f_1_1", "f_1_1": "f_1_1_1", "f_1_1_1": "f_1_1_1_1"}
    assert [list(storage.load(f"f_1{'_1' * n}")) for n in (1, 2, 3)] == [[1.0], [2.0], [3.0]]
    assert not storage.exists("f_1")
    assert record_of(storage, "f_1_1_1").params == {"*x": {"type": "tuple", "items": [1, 1]}}


def test_a_failing_disk_is_said_and_leaves_all_as_it_was(origin: Path) -> None:
    storage = NpzStorageInterface(origin)
    before = results(storage)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", full)
        patched.setattr(os, "utime", full)
        with pytest.raises(OSError, match="No space left"):
            renamed(storage)
    assert results(storage) == before
    assert os.listdir(origin / ".smm" / "tmp") == []
    renamed(storage)
    assert is_fresh(storage)


# --- the command -----------------------------------------------------------------------------------------

CODE = """
    import numpy as np

    def weekly(): return np.arange(3.0)
    def trend(window, x): return x[:window].sum()
"""

CONFIG = """
    metrics:
      weekly: {function: rename_code.weekly}
      trend:
        function: rename_code.trend
        inputs: {x: {metric: weekly}}
        params_list: [[1], [2]]
"""


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("rename_code.py", CODE)
    project.write("metrics.yaml", CONFIG)
    project.write(
        "renamed.yaml", CONFIG.replace("weekly:", "hourly:").replace("metric: weekly", "metric: hourly")
    )
    monkeypatch.chdir(project.folder)
    smm("run", "metrics.yaml", "--no-progress")
    return project


def test_the_command_renames(here: Project) -> None:
    dry = smm("rename", "renamed.yaml", "weekly", "hourly", "--dry-run")
    assert dry.exit_code == 0
    assert "1 stored metric to rename, " in dry.output
    assert "; 2 metrics that read it follow" in dry.output
    assert (here.folder / "results" / "weekly.npz").exists()
    done = smm("rename", "renamed.yaml", "weekly", "hourly")
    assert done.exit_code == 0
    assert done.output == dry.output.replace("to rename", "renamed")
    assert done.output.startswith("weekly -> hourly  ")
    status = json.loads(smm("status", "renamed.yaml", "--json").output)
    assert [(metric["name"], metric["stored"]) for metric in status["metrics"]] == [
        ("hourly", 1),
        ("trend", 2),
    ]
    again = smm("rename", "renamed.yaml", "weekly", "hourly")
    assert (again.exit_code, again.output) == (0, "nothing to do: nothing is stored as 'weekly'\n")


def test_the_command_tells_what_the_code_still_declares(here: Project) -> None:
    done = smm("rename", "metrics.yaml", "trend", "slope")
    assert done.output.splitlines()[-1] == (
        "the code still declares 'trend'; call it 'slope' there, or it is computed again"
    )
    assert done.output.splitlines()[0].startswith("trend_1 -> slope_1  ")


def test_the_command_as_json(here: Project) -> None:
    dry = json.loads(smm("rename", "renamed.yaml", "weekly", "hourly", "--json", "-n").output)
    size = (here.folder / "results" / "weekly.npz").stat().st_size
    assert dry == {
        "old": "weekly",
        "new": "hourly",
        "declared": "new",
        "done": False,
        "resumed": False,
        "moves": [{"old": "weekly", "new": "hourly", "bytes": size}],
        "followers": [{"name": f"trend_{window}", "inputs": ["weekly"]} for window in (1, 2)],
        "conflicts": [],
    }
    assert json.loads(smm("rename", "renamed.yaml", "weekly", "hourly", "--json").output) == dry | {
        "done": True
    }


def test_the_command_lists_conflicts(here: Project) -> None:
    smm("run", "renamed.yaml", "hourly", "--no-progress")
    for more in ((), ("--dry-run",)):
        result = smm("rename", "renamed.yaml", "weekly", "hourly", *more)
        assert result.exit_code == 2
        assert "renaming 'weekly' to 'hourly' meets 1 conflict, and nothing is renamed" in result.stderr
        assert "weekly -> hourly: that is stored already, computed on 2" in result.stderr
        result = smm("rename", "renamed.yaml", "weekly", "hourly", "--json", *more)
        assert result.exit_code == 2
        (conflict,) = json.loads(result.output)["conflicts"]
        assert (conflict["old"], conflict["new"]) == ("weekly", "hourly")


def test_the_command_refuses_unknown_names(here: Project) -> None:
    result = smm("rename", "metrics.yaml", "weakly", "hourly")
    assert result.exit_code == 2
    assert "no metric 'weakly'" in result.stderr
    assert "did you mean 'weekly'?" in result.stderr


def test_the_command_shows_twenty_of_many(here: Project) -> None:
    here.write(
        "metrics.yaml",
        CONFIG.replace("[[1], [2]]", "{range: [1, 30]}")
        .replace("params_list: ", "params_list: [grid: {window: ")
        .replace("30]}", "30]}}]"),
    )
    smm("run", "metrics.yaml", "--no-progress")
    result = smm("rename", "metrics.yaml", "trend", "slope", "-n")
    assert "and 9 more; --json lists them all" in result.output
    assert result.output.count(" -> ") == 20


def test_the_interrupted_command_says_how_to_go_on(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", lambda *_, **__: interrupt())
        result = smm("rename", "renamed.yaml", "weekly", "hourly")
    assert result.exit_code == 130
    assert "interrupted; the same command finishes what was begun" in result.stderr
    refused = smm("rename", "renamed.yaml", "trend", "slope")
    assert refused.exit_code == 2
    assert "finish it with smm rename TARGET weekly hourly" in refused.stderr
    assert "begun before, and interrupted" in smm("rename", "renamed.yaml", "weekly", "hourly").output
    assert (here.folder / "results" / "hourly.npz").exists()
