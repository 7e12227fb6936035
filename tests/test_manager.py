"""What each call of a manager uses, fills and returns; what it says, records and refuses."""

from __future__ import annotations

import functools
import json
import logging
import os
import pickle
import platform
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smm
from smm import (
    DatedCacheManager,
    MemoryStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
)
from smm.errors import (
    CircularMetricError,
    CorruptMetricError,
    DeclarationError,
    MetricNameError,
    MetricNotStoredError,
    NameClashError,
    PickleRefusedError,
    SmmWarning,
    StorageAbilityError,
    UnknownMetricError,
)
from tests.stores import MAKERS, DictStorage, NumpyFiles, Recording


class Counting:
    """A metric's function that returns how often it was called."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls = 0
        self.error = error

    def __call__(self) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def cm(folder: Path) -> DatedCacheManager:
    return DatedCacheManager(NpzStorageInterface(folder), verbose=False)


@pytest.fixture(params=list(MAKERS.values()), ids=list(MAKERS))
def any_cm(request: pytest.FixtureRequest, folder: Path) -> DatedCacheManager:
    return DatedCacheManager(request.param(folder), verbose=False)


def again(manager: DatedCacheManager) -> DatedCacheManager:
    """Another manager over the same storage, as the next session makes it."""
    return DatedCacheManager(manager.storage_interface, verbose=False)


def files(folder: Path) -> set[str]:
    """What lies in a folder of results, smm's own sub-folder aside."""
    return {path.name for path in folder.iterdir()} - {".smm"} if folder.exists() else set()


# --- set_functions_dict ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DatedCacheManager, ParameterizedDatedCacheManager])
def test_a_manager_keeps_what_its_runs_use(kind: type[DatedCacheManager]) -> None:
    storage = MemoryStorageInterface()
    assert (kind(storage).executor, kind(storage).workers) == ("threads", None)
    with ThreadPoolExecutor(1) as pool:
        for executor in ("processes", "dask", "tcp://host:8786", pool):
            made = kind(storage, executor=executor, workers=2)
            assert (made.executor, made.workers) == (executor, 2)


@pytest.mark.parametrize("kind", [DatedCacheManager, ParameterizedDatedCacheManager])
@pytest.mark.parametrize(
    ("arguments", "policy"),
    [
        ({}, ("warn", None, ("code", "inputs", "age"))),
        ({"on_stale": "recompute"}, ("recompute", None, ("code", "inputs", "age"))),
        ({"max_age": "7d", "stale_on": ["age"]}, ("warn", 604_800.0, ("age",))),
        ({"max_age": timedelta(milliseconds=1), "stale_on": "code"}, ("warn", 0.001, ("code",))),
        ({"on_stale": "error", "stale_on": ()}, ("error", None, ())),
        ({"stale_on": ["age", "code", "age"]}, ("warn", None, ("age", "code"))),
    ],
)
def test_a_manager_keeps_its_policy_and_takes_it_along(
    kind: type[DatedCacheManager], arguments: dict[str, Any], policy: object
) -> None:
    made = kind(NpzStorageInterface("results"), **arguments)
    assert (made.on_stale, made.max_age_seconds, made.stale_on) == policy
    there = pickle.loads(pickle.dumps(made))
    assert type(there) is kind
    assert (there.on_stale, there.max_age_seconds, there.stale_on) == policy


@pytest.mark.parametrize("kind", [DatedCacheManager, ParameterizedDatedCacheManager])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"executor": "treads"}, "executor is 'treads'; it must be threads, .*; did you mean 'threads'"),
        ({"executor": None}, "executor is None; it must be threads, processes, dask, or the address"),
        ({"executor": ThreadPoolExecutor}, "executor is <class .*or a concurrent.futures.Executor"),
        ({"workers": 0}, "workers is 0; it must be a whole number from 1, or None for one per processor"),
        ({"workers": True}, "workers is True; it must be a whole number from 1"),
        ({"workers": 2.0}, r"workers is 2\.0; it must be a whole number from 1"),
        ({"on_stale": "wran"}, "on_stale is 'wran'; it must be one of serve, warn, .*; did you mean 'warn'"),
        ({"on_stale": None}, "on_stale is None; it must be one of serve, warn, recompute, error$"),
        ({"stale_on": "input"}, "stale_on is 'input'; it must be one of code, .*; did you mean 'inputs'"),
        ({"stale_on": ["code", 3]}, "stale_on is 3; it must be one of code, inputs, age$"),
        ({"stale_on": None}, "stale_on is None; it must be a list of code, inputs, age, or an empty one$"),
        ({"max_age": "7"}, "max_age: found '7', wanted a time above 0 with its unit"),
        ({"max_age": 7}, "max_age: found 7, wanted .*, or a datetime.timedelta$"),
    ],
)
def test_what_no_run_or_policy_could_use_is_refused(
    kind: type[DatedCacheManager], arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        kind(MemoryStorageInterface(), **arguments)


def test_set_functions_dict_makes_the_manager_usable_inside_the_functions(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"one": lambda: 1, "two": lambda: any_cm["one"] + 1})
    assert any_cm["two"] == 2


def test_set_functions_dict_replaces_what_the_former_call_gave(cm: DatedCacheManager) -> None:
    cm.set_functions_dict({"old": lambda: 1, "same": lambda: "old"})
    cm.compute("old")
    cm.compute("same")
    cm.set_functions_dict({"same": lambda: "new"})
    assert list(cm) == ["same"]
    assert not cm.exists("old"), "values of the former dict leave memory"
    assert cm.compute("same") == "new"
    with pytest.raises(UnknownMetricError):
        cm["old"]


def test_set_functions_dict_leaves_collected_metrics_and_refuses_their_names(cm: DatedCacheManager) -> None:
    @cm.collect
    def collected() -> int:
        return 7

    cm.set_functions_dict({"manual": lambda: 1})
    cm.compute("manual")
    with pytest.raises(NameClashError, match=r"'collected'.*collected metric has this name"):
        cm.set_functions_dict({"other": lambda: 2, "collected": lambda: 3})
    assert list(cm) == ["collected", "manual"], "a refused dict changes nothing"
    assert cm.exists("manual")
    cm.set_functions_dict({})
    assert list(cm) == ["collected"]
    assert cm["collected"] == 7


def test_a_name_that_set_functions_dict_gave_once_may_be_collected(cm: DatedCacheManager) -> None:
    cm.set_functions_dict({"metric": lambda: 1})
    cm.set_functions_dict({})
    cm.collect("metric")(lambda: 2)
    cm.set_functions_dict({})
    assert cm["metric"] == 2


def test_set_functions_dict_gives_the_manager_to_a_parameter_called_cm(cm: DatedCacheManager) -> None:
    cm.set_functions_dict({"one": lambda: 1, "two": lambda CM: CM["one"] + 1})  # noqa: N803
    assert cm["two"] == 2


def test_set_functions_dict_does_not_keep_the_dict(cm: DatedCacheManager) -> None:
    given: dict[str, Callable[[], int]] = {"one": lambda: 1}
    cm.set_functions_dict(given)
    given["two"] = lambda: 2
    assert list(cm) == ["one"]


def test_set_functions_dict_takes_whatever_can_be_called(cm: DatedCacheManager) -> None:
    def add(a: int, b: int = 2) -> int:
        return a + b

    cm.set_functions_dict(
        {
            "partial": functools.partial(add, 1),
            "builtin": time.time,
            "bound": "a".upper,
            "object": Counting(),
        }
    )
    assert [cm[name] for name in cm if name != "builtin"] == [3, "A", 1]
    assert cm["builtin"] <= time.time()


async def coroutine() -> int:
    return 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("name", "function", "kind"),
    [
        ("x", 3, DeclarationError),
        ("x", lambda needed: needed, (DeclarationError, TypeError)),
        ("x", coroutine, DeclarationError),
        ("x", generator, DeclarationError),
        ("x", async_generator, DeclarationError),
        ("x", lambda cache=True: cache, DeclarationError),
        ("x", lambda use_stored=True: use_stored, DeclarationError),
        ("x_date", lambda: 1, (DeclarationError, MetricNameError)),
        ("", lambda: 1, (DeclarationError, MetricNameError)),
        (3, lambda: 1, (DeclarationError, MetricNameError, TypeError)),
    ],
)
def test_set_functions_dict_refuses(cm: DatedCacheManager, name: Any, function: Any, kind: Any) -> None:
    cm.set_functions_dict({"fine": lambda: 1})
    with pytest.raises(kind, match=str(name) or "empty"):
        cm.set_functions_dict({"other": lambda: 2, name: function})
    assert list(cm) == ["fine"]


# --- exists, clear_cache ---------------------------------------------------------------------------------


def test_exists_in_memory_or_stored_with_its_side_car(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: 1})
    assert not any_cm.exists("x"), "declared is not existing"
    any_cm.compute("x")
    assert any_cm.exists("x"), "in memory"
    assert not again(any_cm).exists("x")
    any_cm.save("x")
    any_cm.clear_cache()
    assert any_cm.exists("x"), "stored"
    assert again(any_cm).exists("x")


def test_data_without_side_car_does_not_exist(any_cm: DatedCacheManager) -> None:
    any_cm.storage_interface.save("x", 1)
    assert any_cm.storage_interface.exists("x")
    assert not any_cm.exists("x")


def test_side_car_without_data_does_not_exist(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    cm.clear_cache()
    (folder / "x.npz").unlink()
    assert not cm.exists("x")


def test_exists_opens_nothing(cm: DatedCacheManager, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    cm.clear_cache()

    def opened(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("opened a file")

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", opened)
        patched.setattr("io.open", opened)
        patched.setattr("os.open", opened)
        assert cm.exists("x")
        assert not cm.exists("y")


def test_clear_cache_empties_memory_and_leaves_the_storage(any_cm: DatedCacheManager) -> None:
    counting = Counting()
    any_cm.set_functions_dict({"x": counting, "y": Counting()})
    any_cm.get("x")
    any_cm.compute("y")
    any_cm.clear_cache()
    assert any_cm.cache == {}
    assert any_cm["x"] == 1
    assert counting.calls == 1, "loaded"
    assert not any_cm.exists("y"), "an unsaved value goes with it"


# --- compute ---------------------------------------------------------------------------------------------


def test_compute_leaves_the_storage_untouched(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: 1})
    assert cm.compute("x") == 1
    assert not folder.exists()


def test_compute_neither_reads_nor_writes_a_storage() -> None:
    storage = Recording()
    cm = DatedCacheManager(storage, verbose=False)
    cm.set_functions_dict({"x": lambda: 1})
    assert cm.compute("x") == 1
    assert cm.compute("x", force=True) == 1
    assert storage.asked == []


def test_compute_ignores_what_is_stored(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: "stored"})
    any_cm.get("x")
    other = again(any_cm)
    other.set_functions_dict({"x": lambda: "computed"})
    assert other.compute("x") == "computed"
    assert again(any_cm).load("x") == "stored"


@pytest.mark.parametrize("store", ["get", "save", "use_stored"])
def test_a_computed_value_is_unsaved_until_get_or_save_stores_it(
    any_cm: DatedCacheManager, store: str
) -> None:
    counting = Counting()
    any_cm.set_functions_dict({"x": counting})
    any_cm.compute("x")
    assert "1 unsaved" in repr(any_cm)
    assert not again(any_cm).exists("x")
    if store == "use_stored":
        assert any_cm.get("x", use_stored=False) == 2
    else:
        assert getattr(any_cm, store)("x") == 1, "stored without computing again"
    assert again(any_cm).load("x") == counting.calls
    assert "unsaved" not in repr(any_cm)


def test_compute_uses_memory_unless_forced(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": Counting()})
    assert [any_cm.compute("x"), any_cm.compute("x"), any_cm.compute("x", force=True)] == [1, 1, 2]
    assert any_cm.compute("x", True) == 3
    assert any_cm.get("x") == 3, "the newest value is what is stored"
    assert again(any_cm).load("x") == 3


def test_compute_of_an_unknown_name(cm: DatedCacheManager) -> None:
    cm.set_functions_dict({"weekly": lambda: 1})
    with pytest.raises(UnknownMetricError, match=r"no metric 'weekyl'.*did you mean 'weekly'\?") as caught:
        cm.compute("weekyl")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)


# --- save ------------------------------------------------------------------------------------------------


def test_save_computes_what_is_missing_and_returns_it(any_cm: DatedCacheManager) -> None:
    counting = Counting()
    any_cm.set_functions_dict({"x": counting})
    assert any_cm.save("x") == 1
    assert any_cm.save("x") == 1
    assert again(any_cm).save("x") == 1, "a stored one is loaded; it needs no function"
    assert counting.calls == 1


def test_save_with_force_computes_again_and_replaces_both(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": Counting()})
    any_cm.save("x")
    before = any_cm.date("x")
    assert any_cm.save("x", force=True) == 2
    assert any_cm["x"] == 2
    assert again(any_cm).load("x") == 2
    assert any_cm.date("x") > before


def test_save_stores_again_what_memory_has_and_the_storage_lost(cm: DatedCacheManager, folder: Path) -> None:
    counting = Counting()
    cm.set_functions_dict({"x": counting})
    cm.get("x")
    noted = cm.record("x")
    for path in (folder / "x.npz", folder / "x_date.json"):
        path.unlink()
    assert cm.save("x") == 1
    assert counting.calls == 1
    assert again(cm).load("x") == 1
    assert cm.date("x") == noted.date, "it is still the old computation"
    assert cm.record("x").duration_seconds == noted.duration_seconds


# --- load ------------------------------------------------------------------------------------------------


def test_load_computes_nothing(any_cm: DatedCacheManager) -> None:
    counting = Counting()
    any_cm.set_functions_dict({"x": counting})
    with pytest.raises(MetricNotStoredError, match="metric 'x' is not stored in") as caught:
        any_cm.load("x")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, FileNotFoundError)
    assert counting.calls == 0
    any_cm.compute("x")
    assert any_cm.load("x") == 1, "from memory"
    any_cm.save("x")
    assert again(any_cm).load("x") == 1, "from the storage; it needs no function"


def test_load_fills_memory(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: 1})
    any_cm.get("x")
    other = again(any_cm)
    other.load("x")
    assert list(other.cache) == ["x"]


def test_load_with_force_reads_the_storage_again(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": Counting()})
    any_cm.get("x")
    other = again(any_cm)
    other.load("x")
    any_cm.get("x", use_stored=False)
    assert other.load("x") == 1
    assert other.load("x", force=True) == 2
    assert other.load("x") == 2


def test_what_is_loaded_is_not_unsaved(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": Counting()})
    any_cm.get("x")
    any_cm.compute("x", force=True)
    assert any_cm.load("x", force=True) == 1
    assert "unsaved" not in repr(any_cm)
    assert any_cm.get("x") == 1


def test_load_that_is_told_of_a_never_finished_metric(cm: DatedCacheManager) -> None:
    cm.storage_interface.save("x", 1)
    with pytest.raises(MetricNotStoredError, match=r"nothing declares it .*without a side-car.*finished\)$"):
        cm.load("x")
    cm.set_functions_dict({"x": Counting()})
    with pytest.raises(MetricNotStoredError, match=r"without a side-car.*CM.get\('x'\) computes"):
        cm.load("x")


# --- get, CM[name] ---------------------------------------------------------------------------------------


def test_get_computes_stores_and_remembers(any_cm: DatedCacheManager) -> None:
    counting = Counting()
    any_cm.set_functions_dict({"x": counting})
    assert [any_cm.get("x"), any_cm["x"], again(any_cm).get("x"), again(any_cm)["x"]] == [1, 1, 1, 1]
    assert counting.calls == 1


def test_use_stored_false_computes_again_and_replaces_both(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": Counting()})
    any_cm.get("x")
    assert any_cm.get("x", use_stored=False) == 2
    assert any_cm["x"] == 2
    assert again(any_cm)["x"] == 2
    assert again(any_cm).load("x") == 2
    assert any_cm.get("x", False) == 3


def test_none_is_a_value(folder: Path) -> None:
    for storage in (NpzStorageInterface(folder), DictStorage()):
        cm = DatedCacheManager(storage, verbose=False)
        calls: list[None] = []
        cm.set_functions_dict({"x": lambda calls=calls: calls.append(None)})
        assert [cm["x"], cm["x"], again(cm)["x"], cm.load("x"), cm.compute("x")] == [None] * 5
        assert len(calls) == 1


def test_get_of_an_unknown_name_creates_nothing(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"weekly": lambda: 1})
    for ask in (cm.get, cm.__getitem__, cm.save, cm.compute):
        with pytest.raises(UnknownMetricError, match=r"'weekley'.*did you mean 'weekly'"):
            ask("weekley")
    for ask in (cm.load, cm.date, cm.record, cm.delete):
        with pytest.raises(MetricNotStoredError, match=r"'weekley'.*did you mean 'weekly'"):
            ask("weekley")
    assert not cm.exists("weekley")
    assert not folder.exists()
    assert "weekley" not in cm


@pytest.mark.parametrize("name", ["", "../up", "a/b", "ü", "a b", ".hidden", "A", "a%2F", "nul\0"])
def test_no_name_leaves_the_folder(cm: DatedCacheManager, folder: Path, name: str) -> None:
    cm.functions_dict[name] = lambda: 1
    if not name:
        with pytest.raises(MetricNameError):
            cm.get(name)
        return
    assert cm.get(name) == 1
    assert again(cm).load(name) == 1
    assert os.listdir(folder.parent) == ["results"]
    assert len(files(folder)) == 2


# --- date, record ----------------------------------------------------------------------------------------


def test_date_is_aware_utc_and_when_the_computation_ended(any_cm: DatedCacheManager) -> None:
    ended: list[datetime] = []

    def function() -> int:
        ended.append(datetime.now(UTC))
        return 1

    any_cm.set_functions_dict({"x": function})
    any_cm.get("x")
    stored = datetime.now(UTC)
    date = any_cm.date("x")
    assert date.tzinfo is not None
    assert date.utcoffset() == timedelta(0)
    assert ended[0] - timedelta(microseconds=1) <= date <= stored
    assert again(any_cm).date("x") == date


def test_the_record_of_a_computation(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: 1})
    started = time.perf_counter()
    any_cm.get("x")
    took = time.perf_counter() - started
    record = again(any_cm).record("x")
    assert isinstance(record, smm.Record)
    assert record.name == "x"
    assert record.duration_seconds is not None
    assert 0 <= record.duration_seconds <= took
    assert record.smm_version == smm.__version__
    assert record.python_version == platform.python_version()
    assert record.numpy_version == np.__version__
    assert record == any_cm.record("x")


def test_the_record_of_a_row(folder: Path) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False)

    @cm.collect(params_list=[[1, 0.5]], base_name="poly")
    def function(a: int, b: float, c: str = "linear") -> float:
        return a * b

    cm.poly(1, 0.5)
    record = cm.record("poly_1_0p5_linear")
    assert (record.name, record.base_name) == ("poly_1_0p5_linear", "poly")
    assert record.params is not None
    assert list(record.params.items()) == [("a", 1), ("b", 0.5), ("c", "linear")]
    assert record == cm.poly.record(1, 0.5)


def test_date_and_record_read_the_storage_and_not_memory(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": Counting()})
    any_cm.compute("x")
    for ask in (any_cm.date, any_cm.record):
        with pytest.raises(MetricNotStoredError, match=r"in memory, unsaved\); CM.save\('x'\) stores"):
            ask("x")
    any_cm.get("x")
    other = again(any_cm)
    other.load("x")
    before = other.date("x")
    any_cm.get("x", use_stored=False)
    assert other.date("x") == any_cm.date("x") > before
    assert other.load("x") == 1


def test_the_side_car_on_disk(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: np.arange(5.0)})
    cm.get("x")
    assert files(folder) == {"x.npz", "x_date.json"}
    noted = json.loads((folder / "x_date.json").read_text("utf-8"))
    assert noted["smm_record"] == 1
    assert datetime.fromisoformat(noted["date"]) == cm.date("x")
    assert noted["date"].endswith("+00:00")
    assert len(noted["date"]) == len("2026-01-31T12:00:00.000000+00:00"), "microseconds, always"
    status = (folder / "x.npz").stat()
    assert (noted["data"]["size"], noted["data"]["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert noted["changed"] == noted["date"]
    assert noted["data"]["crc32"] == zlib.crc32((folder / "x.npz").read_bytes())
    assert set(noted["code"]) == {"digest", "parts", "python", "reading"}
    assert (noted["inputs"], noted["accepted"]) == ([], None)


def test_unknown_fields_of_a_record_are_passed_over(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    record = cm.record("x")
    side_car = folder / "x_date.json"
    noted = json.loads(side_car.read_text("utf-8")) | {"smm_record": 2, "weather": "fine"}
    side_car.write_text(json.dumps(noted), "utf-8")
    assert again(cm).record("x") == record
    assert again(cm).load("x") == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"smm_record": 1}', '{"date": 3}', "\0\0", '{"smm_record": 1,']
)
def test_a_damaged_side_car_counts_as_missing(cm: DatedCacheManager, folder: Path, text: str) -> None:
    counting = Counting()
    cm.set_functions_dict({"x": counting})
    cm.get("x")
    cm.clear_cache()
    (folder / "x_date.json").write_text(text, "utf-8")
    for ask in (cm.load, cm.date, cm.record):
        with (
            pytest.raises(MetricNotStoredError),
            pytest.warns(
                SmmWarning, match="the side-car of metric 'x' in .* is damaged .*: it counts as missing"
            ),
        ):
            ask("x")
    with pytest.warns(SmmWarning, match="the side-car of metric 'x'"):
        assert cm.get("x") == 2
    assert cm.record("x").date is not None


# --- side-cars by name -----------------------------------------------------------------------------------


def test_the_date_as_text(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: 1})
    with pytest.raises(MetricNotStoredError):
        any_cm.load("x_date")
    assert not any_cm.exists("x_date")
    any_cm.get("x")
    text = any_cm.load("x_date")
    assert isinstance(text, str)
    assert datetime.fromisoformat(text) == any_cm.date("x")
    assert any_cm.exists("x_date")
    assert any_cm.storage_interface.exists("x_date")
    assert "x_date" not in list(any_cm)


@pytest.mark.parametrize("kind", ["npz", "npy", "json", "memory", "subclass"])
def test_the_storage_answers_for_the_date_too(folder: Path, kind: str) -> None:
    cm = DatedCacheManager(MAKERS[kind](folder), verbose=False)
    cm.set_functions_dict({"x": lambda: 1})
    assert not cm.storage_interface.exists("x_date")
    cm.get("x")
    assert cm.storage_interface.exists("x_date")
    text = cm.storage_interface.load("x_date")
    assert isinstance(text, str)
    assert datetime.fromisoformat(text) == cm.date("x")


# --- delete ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "npy", "json", "memory", "subclass"])
def test_delete_drops_memory_data_and_side_car(folder: Path, kind: str) -> None:
    cm = DatedCacheManager(MAKERS[kind](folder), verbose=False)
    counting = Counting()
    cm.set_functions_dict({"x": counting})
    cm.get("x")
    assert cm.delete("x") is None  # type: ignore[func-returns-value]
    assert not cm.exists("x")
    assert not cm.storage_interface.exists("x")
    assert not cm.storage_interface.exists("x_date")
    assert files(folder) == set()
    with pytest.raises(MetricNotStoredError):
        cm.load("x")
    assert cm.get("x") == 2, "it is still declared"


def test_delete_of_what_is_only_in_memory(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: 1})
    any_cm.compute("x")
    any_cm.delete("x")
    assert not any_cm.exists("x")


def test_delete_of_data_that_was_never_finished(cm: DatedCacheManager, folder: Path) -> None:
    cm.storage_interface.save("x", 1)
    cm.delete("x")
    assert files(folder) == set()


def test_delete_needs_a_storage_that_can(folder: Path) -> None:
    cm = DatedCacheManager(NumpyFiles(folder), verbose=False)
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    with pytest.raises(StorageAbilityError, match="NumpyFiles has no method 'delete'"):
        cm.delete("x")
    assert cm.exists("x")
    assert again(cm).load("x") == 1


def test_delete_with_a_storage_of_four_methods() -> None:
    class Deleting(DictStorage):
        def delete(self, name: str) -> None:
            self.kept.pop(name, None)

    cm = DatedCacheManager(Deleting(), verbose=False)
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    cm.delete("x")
    assert cm.storage_interface.kept == {}  # type: ignore[attr-defined]


# --- what is said ----------------------------------------------------------------------------------------


def test_verbose_prints_a_line_for_each_action(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cm = DatedCacheManager(NpzStorageInterface(folder))
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    first = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in first] == [["Compute", "x"], ["Completed", "x"], ["Save", "x"]]
    DatedCacheManager(NpzStorageInterface(folder)).get("x")
    assert capsys.readouterr().out.startswith("Load x")
    cm.delete("x")
    assert capsys.readouterr().out.startswith("Delete x")


def test_a_memory_hit_touches_no_disk_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    storage = Recording()
    cm = DatedCacheManager(storage)
    cm.set_functions_dict({"x": lambda: [1, 2]})
    cm.get("x")
    capsys.readouterr()
    storage.asked.clear()
    for ask in (cm.get, cm.load, cm.compute, cm.__getitem__):
        assert ask("x") == [1, 2]
    assert cm.exists("x")
    assert storage.asked == []
    assert capsys.readouterr().out == ""


def test_a_memory_hit_survives_the_folder(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    shutil.rmtree(folder)
    assert [cm["x"], cm.load("x"), cm.compute("x")] == [1, 1, 1]
    assert not folder.exists()


@pytest.mark.parametrize("of_manager", [True, False])
def test_verbose_of_a_call_overrides_the_managers(
    folder: Path, capsys: pytest.CaptureFixture[str], of_manager: bool
) -> None:
    cm = DatedCacheManager(NpzStorageInterface(folder), verbose=of_manager)
    cm.set_functions_dict({"x": Counting()})
    calls: list[Callable[..., Any]] = [
        functools.partial(cm.compute, "x"),
        functools.partial(cm.save, "x"),
        functools.partial(cm.load, "x", force=True),
        functools.partial(cm.get, "x", use_stored=False),
        functools.partial(cm.delete, "x"),
    ]
    for call in calls:
        call(verbose=not of_manager)
        assert (capsys.readouterr().out == "") is of_manager
    for call in calls:
        call(verbose=None)
        assert (capsys.readouterr().out != "") is of_manager


def test_every_line_goes_to_the_logger_too(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="smm"):
        loud = DatedCacheManager(NpzStorageInterface(folder))
        loud.set_functions_dict({"x": lambda: 1, "100%": lambda: 1})
        loud.get("x")
        loud.get("100%")
        printed = capsys.readouterr().out.splitlines()
        assert [record.getMessage() for record in caplog.records] == printed
        assert {record.levelno for record in caplog.records} == {logging.INFO}
        caplog.clear()
        DatedCacheManager(NpzStorageInterface(folder), verbose=False).get("x")
        assert capsys.readouterr().out == ""
        assert len(caplog.records) == 1


# --- the manager as a collection -------------------------------------------------------------------------


def test_contains_declared_or_stored(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: 1})
    assert "x" in any_cm
    assert "y" not in any_cm
    assert "x" not in again(any_cm)
    any_cm.get("x")
    assert "x" in again(any_cm)
    assert 3 not in any_cm
    assert None not in any_cm


def test_iteration_over_declared_names(cm: DatedCacheManager) -> None:
    cm.set_functions_dict({"b": lambda: 1, "a": lambda: 2})
    assert list(cm) == ["b", "a"]
    other = again(cm)
    cm.get("a")
    other.load("a")
    assert list(other) == [], "stored, but not declared"
    for name in cm:
        cm.functions_dict[name + "2"] = lambda: 1


def test_an_empty_manager_is_not_false(cm: DatedCacheManager) -> None:
    assert bool(cm) is True
    assert not hasattr(cm, "__len__")


def test_repr_counts(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: 1, "y": lambda: 2, "z": lambda: 3})
    cm.get("x")
    cm.compute("y")
    text = repr(cm)
    assert text.startswith("<DatedCacheManager: 3 declared, 2 in memory, 1 unsaved, NpzStorageInterface(")
    assert str(folder) in text


def test_completion(cm: DatedCacheManager) -> None:
    @cm.collect
    def weekly() -> int:
        return 1

    cm.set_functions_dict({"manual": lambda: 1})
    assert {"weekly", "get", "functions_dict"} <= set(dir(cm))
    assert cm._ipython_key_completions_() == ["weekly", "manual"]


def test_an_unknown_attribute_names_the_closest_metric(cm: DatedCacheManager) -> None:
    @cm.collect
    def weekly() -> int:
        return 1

    with pytest.raises(AttributeError, match=r"no metric or method 'weekyl'; did you mean 'weekly'\?"):
        _ = cm.weekyl
    assert not hasattr(cm, "__wrapped__")


def test_what_stays_readable(cm: DatedCacheManager, folder: Path) -> None:
    def one() -> int:
        return 1

    cm.set_functions_dict({"one": one})
    cm.get("one")
    assert cm.functions_dict["one"] is one
    assert cm.cache == {"one": 1}
    assert isinstance(cm.storage_interface, NpzStorageInterface)
    assert cm.parameterized_metrics == []


def test_an_entry_put_into_functions_dict_is_used_from_then_on(any_cm: DatedCacheManager) -> None:
    any_cm.functions_dict["x"] = lambda: 1
    assert any_cm["x"] == 1
    assert "x" in any_cm
    any_cm.functions_dict["x"] = lambda: 2
    assert any_cm["x"] == 1, "memory has a value"
    assert any_cm.get("x", use_stored=False) == 2
    del any_cm.functions_dict["x"]
    assert any_cm["x"] == 2, "a stored name needs no function"
    with pytest.raises(UnknownMetricError):
        any_cm.get("x", use_stored=False) if not any_cm.exists("x") else any_cm.compute("x", force=True)


def test_an_entry_put_in_under_a_side_cars_name(any_cm: DatedCacheManager) -> None:
    any_cm.functions_dict.update({"x": lambda: 1, "x_date": lambda: 2})
    any_cm.get("x")
    for ask in (any_cm.get, any_cm.save, any_cm.compute):
        with pytest.raises(MetricNameError, match="_date"):
            ask("x_date")
    assert again(any_cm).load("x") == 1
    assert again(any_cm).date("x") == any_cm.date("x")


def test_use_stored_false_needs_a_function(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"x": lambda: 1})
    any_cm.get("x")
    other = again(any_cm)
    for call in (functools.partial(other.get, use_stored=False), functools.partial(other.save, force=True)):
        with pytest.raises(UnknownMetricError):
            call("x")
    assert other.load("x") == 1


def test_the_predecessors_aliases() -> None:
    assert smm.DataCacheManager is DatedCacheManager
    assert smm.ParameterizedDataCacheManager is ParameterizedDatedCacheManager


# --- metrics that read each other ------------------------------------------------------------------------


def test_a_metric_that_reads_itself(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"a": lambda: any_cm["a"]})
    with pytest.raises(CircularMetricError, match="a -> a") as caught:
        any_cm["a"]
    assert tuple(caught.value.chain) == ("a", "a")
    assert not any_cm.exists("a")


@pytest.mark.parametrize("ask", ["get", "compute", "save"])
def test_metrics_that_read_each_other(any_cm: DatedCacheManager, ask: str) -> None:
    def read(name: str) -> Callable[[], Any]:
        return lambda: getattr(any_cm, ask)(name)

    any_cm.set_functions_dict({"out": read("a"), "a": read("b"), "b": read("c"), "c": read("a")})
    with pytest.raises(CircularMetricError, match="a -> b -> c -> a") as caught:
        any_cm.get("out")
    assert tuple(caught.value.chain) == ("a", "b", "c", "a")
    assert any_cm.cache == {}
    with pytest.raises(CircularMetricError, match="b -> c -> a -> b"):
        any_cm.get("b")


def test_a_metric_that_reads_itself_through_another_manager(cm: DatedCacheManager, folder: Path) -> None:
    other = DatedCacheManager(NpzStorageInterface(folder), verbose=False)
    cm.set_functions_dict({"a": lambda: other["b"]})
    other.set_functions_dict({"b": lambda: cm["a"]})
    with pytest.raises(CircularMetricError, match="a -> b -> a"):
        cm["a"]


def test_a_metric_that_reads_itself_through_a_link_to_the_folder(cm: DatedCacheManager, folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    other = DatedCacheManager(NpzStorageInterface(folder.parent / "link"), verbose=False)
    cm.set_functions_dict({"a": lambda: other["a"]})
    other.set_functions_dict({"a": lambda: 1})
    with pytest.raises(CircularMetricError, match="a -> a"):
        cm["a"]


def test_two_stores_may_use_one_name(tmp_path: Path) -> None:
    raw = DatedCacheManager(NpzStorageInterface(tmp_path / "raw"), verbose=False)
    fine = DatedCacheManager(NpzStorageInterface(tmp_path / "fine"), verbose=False)
    raw.set_functions_dict({"x": lambda: 1})
    fine.set_functions_dict({"x": lambda: raw["x"] + 1})
    assert fine["x"] == 2


def test_a_metric_computed_again_that_reads_itself(any_cm: DatedCacheManager) -> None:
    any_cm.set_functions_dict({"a": lambda: 1})
    any_cm.get("a")
    any_cm.functions_dict["a"] = lambda: any_cm["b"] + 1
    any_cm.functions_dict["b"] = lambda: any_cm["a"] + 1
    with pytest.raises(CircularMetricError, match="a -> b -> a"):
        any_cm.get("a", use_stored=False)
    assert any_cm["a"] == 1


def test_a_cycle_that_a_metric_catches_is_no_cycle(any_cm: DatedCacheManager) -> None:
    def careful() -> str:
        try:
            return str(any_cm["a"])
        except CircularMetricError:
            return "none"

    any_cm.set_functions_dict({"a": careful})
    assert any_cm["a"] == "none"


def depth() -> int:
    """How many Python frames are on the stack."""
    frame: Any = sys._getframe(1)
    count = 0
    while frame is not None:
        count += 1
        frame = frame.f_back
    return count


def test_at_most_eight_frames_for_each_nested_metric(folder: Path) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False)
    depths: dict[str, int] = {}

    @cm.collect(params_list=[[n] for n in range(100)])
    def deep(n: int) -> int:
        depths[f"call {n}"] = depth()
        return 0 if n == 99 else int(cm.deep(n + 1)) + 1

    def chained(name: str, upstream: str) -> Callable[[], int]:
        def function() -> int:
            depths[name] = depth()
            return int(cm[upstream]) + 1

        return function

    cm.set_functions_dict({f"item_{n}": chained(f"item {n}", f"item_{n + 1}") for n in range(20)})
    cm.functions_dict["item_20"] = lambda: 0
    cm.declare(
        smm.Metric(
            base_name="top",
            function=lambda below: depths.setdefault("top", depth()) * 0,
            inputs={"below": smm.metric.Input(metric="middle")},
        )
    )
    assert cm.deep(0) == 99
    assert cm["item_0"] == 20
    # a metric's own frame is one of each difference
    assert max(depths[f"call {n + 1}"] - depths[f"call {n}"] for n in range(99)) <= 8 + 1
    assert max(depths[f"item {n + 1}"] - depths[f"item {n}"] for n in range(19)) <= 8 + 1


def test_a_chain_of_a_hundred_metrics_within_a_third_of_the_stack(folder: Path) -> None:
    cm = DatedCacheManager(NpzStorageInterface(folder), verbose=False)
    cm.set_functions_dict(
        {f"m{n}": (lambda n=n: cm[f"m{n + 1}"] + 1) for n in range(100)} | {"m100": lambda: 0}
    )
    assert cm["m0"] == 100
    assert len(files(folder)) == 202


# --- exceptions ------------------------------------------------------------------------------------------


class Failure(Exception):  # noqa: N818 - a metric's own
    """A metric's own."""


@pytest.mark.parametrize("error", [Failure("no"), KeyboardInterrupt(), SystemExit(3), OSError(5, "disk")])
@pytest.mark.parametrize("ask", ["get", "compute", "save"])
def test_an_exception_inside_a_metric(any_cm: DatedCacheManager, error: BaseException, ask: str) -> None:
    any_cm.set_functions_dict({"x": Counting(error)})
    with pytest.raises(type(error)) as caught:
        getattr(any_cm, ask)("x")
    assert caught.value is error, "the caller gets it as itself"
    assert any("'x'" in note for note in error.__notes__)
    assert any_cm.cache == {}
    assert not any_cm.exists("x")
    assert not any_cm.storage_interface.exists("x")
    assert not any_cm.storage_interface.exists("x_date")
    any_cm.functions_dict["x"] = lambda: 1
    assert any_cm["x"] == 1, "nothing is left locked"


@pytest.mark.parametrize("error", [Failure("no"), KeyboardInterrupt()])
def test_after_a_failed_computation_the_old_value_and_date_stay(
    any_cm: DatedCacheManager, error: BaseException
) -> None:
    counting = Counting()
    any_cm.set_functions_dict({"x": counting})
    any_cm.get("x")
    date = any_cm.date("x")
    counting.error = error
    for call in (
        functools.partial(any_cm.get, use_stored=False),
        functools.partial(any_cm.save, force=True),
        functools.partial(any_cm.compute, force=True),
    ):
        with pytest.raises(type(error)):
            call("x")
        assert any_cm["x"] == 1
        assert any_cm.load("x", force=True) == 1
        assert any_cm.date("x") == date


def test_the_note_names_every_metric_on_the_way(cm: DatedCacheManager) -> None:
    error = Failure("no")
    cm.set_functions_dict({"a": lambda: cm["b"], "b": Counting(error)})
    with pytest.raises(Failure):
        cm["a"]
    assert ["'b'" in error.__notes__[0], "'a'" in error.__notes__[1]] == [True, True]


def test_what_a_failing_metric_read_is_kept(cm: DatedCacheManager) -> None:
    cm.set_functions_dict({"a": lambda: cm["b"] / 0, "b": lambda: 1})
    with pytest.raises(ZeroDivisionError):
        cm["a"]
    assert again(cm).load("b") == 1


# --- what is known before computing ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "npy", "json", "subclass"])
def test_a_folder_that_is_a_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    for place in ("file", "file/below"):
        cm = DatedCacheManager(MAKERS[kind](tmp_path / place), verbose=False)
        counting = Counting()
        cm.set_functions_dict({"x": counting})
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the message is held below
            cm.get("x")
        assert str(tmp_path / "file") in "\n".join(
            [str(caught.value), *getattr(caught.value, "__notes__", ())]
        )
        assert counting.calls == 0
        assert cm.compute("x") == 1, "computing alone needs no folder"
        assert not cm.exists("y")
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(cm: DatedCacheManager, folder: Path) -> None:
    counting = Counting()
    cm.set_functions_dict({"x": counting, "stored": lambda: 7})
    cm.get("stored")
    folder.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            cm.get("x")
        assert counting.calls == 0
        assert again(cm).get("stored") == 7
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("name", ["n" * 300, "ü" * 100], ids=["ascii", "encoded"])
def test_a_name_too_long(cm: DatedCacheManager, folder: Path, name: str) -> None:
    counting = Counting()
    cm.functions_dict[name] = counting
    with pytest.raises(MetricNameError, match=r"takes \d+ bytes.*shorten it"):
        cm.get(name)
    assert counting.calls == 0
    assert not folder.exists(), "a refused name creates nothing, not even a folder"


# --- damage ----------------------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": data[: len(data) // 2],
            "text": b"not a file of numpy's",
            "bit": data[:-30] + bytes([data[-30] ^ 1]) + data[-29:],
        }[how]
    )


@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize("how", ["empty", "cut", "text"])
def test_a_damaged_file_is_computed_again_and_replaced(folder: Path, kind: str, how: str) -> None:
    storage: Any = MAKERS[kind](folder)
    cm = DatedCacheManager(storage, verbose=False)
    counting = Counting()
    cm.set_functions_dict({"x": counting})
    cm.get("x")
    cm.clear_cache()
    path = folder / f"x.{kind}"
    damage(path, how)
    for ask in (storage.load, cm.load):
        with pytest.raises(CorruptMetricError, match="'x' is damaged") as caught:
            ask("x")
        assert Path(caught.value.path) == path
    assert cm.exists("x"), "nothing is opened to answer this"
    with pytest.warns(SmmWarning, match="'x' is damaged") as warned:
        assert cm.get("x") == 2
    assert len(warned) == 1
    assert again(cm).load("x") == 2


def test_a_damaged_file_is_warned_of_once_a_metric(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": Counting(), "y": Counting()})
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for name in ("x", "x", "y"):
            cm.get(name)
            cm.clear_cache()
            damage(folder / f"{name}.npz", "cut")
            cm.get(name)
    assert {item.category for item in warned} == {SmmWarning}
    assert ["'x'" in str(warned[0].message), "'y'" in str(warned[1].message)] == [True, True]
    assert len(warned) == 2


def test_a_flipped_bit_is_seen(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: np.arange(1000.0)})
    cm.get("x")
    cm.clear_cache()
    path = folder / "x.npz"
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the medium failed: no one wrote the file
    with pytest.raises(CorruptMetricError):
        cm.load("x")


def test_damage_without_a_function_is_an_error(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    damage(folder / "x.npz", "cut")
    other = again(cm)
    for ask in (other.get, other.save, other.load):
        with pytest.raises(CorruptMetricError):
            ask("x")


def test_use_stored_false_replaces_a_damaged_file_unread(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": Counting()})
    cm.get("x")
    damage(folder / "x.npz", "cut")
    assert cm.get("x", use_stored=False) == 2
    assert again(cm).load("x") == 2


def test_damage_whose_repair_fails_stays_damage(cm: DatedCacheManager, folder: Path) -> None:
    counting = Counting()
    cm.set_functions_dict({"x": counting})
    cm.get("x")
    cm.clear_cache()
    damage(folder / "x.npz", "cut")
    broken = (folder / "x.npz").read_bytes()
    counting.error = Failure("no")
    with pytest.warns(SmmWarning), pytest.raises(Failure):
        cm.get("x")
    assert (folder / "x.npz").read_bytes() == broken
    with pytest.raises(CorruptMetricError):
        cm.load("x")


def test_pickled_content_is_refused_and_never_replaced(cm: DatedCacheManager, folder: Path) -> None:
    counting = Counting()
    cm.set_functions_dict({"x": counting})
    folder.mkdir()
    np.savez(folder / "x.npz", np.array([{}], dtype=object))
    (folder / "x_date.json").write_text('"2020-01-31"')
    before = (folder / "x.npz").read_bytes()
    for ask in (cm.get, cm.load, cm.save):
        with pytest.raises(PickleRefusedError):
            ask("x")
    assert counting.calls == 0
    assert (folder / "x.npz").read_bytes() == before


def test_an_error_of_the_system_is_no_damage(folder: Path) -> None:
    class Failing(NpzStorageInterface):
        failing = False

        def load_verified(self, name: str, stamp: Any) -> Any:
            if self.failing:
                raise OSError(5, "Input/output error")
            return super().load_verified(name, stamp)

    storage = Failing(folder)
    cm = DatedCacheManager(storage, verbose=False)
    counting = Counting()
    cm.set_functions_dict({"x": counting})
    cm.get("x")
    cm.clear_cache()
    storage.failing = True
    for ask in (cm.get, cm.load, cm.save):
        with pytest.raises(OSError, match="Input/output"):
            ask("x")
    assert counting.calls == 1
    storage.failing = False
    assert cm["x"] == 1


# --- publishing ------------------------------------------------------------------------------------------


class Watched(NpzStorageInterface):
    """An npz storage that tells in what order things become visible, and can fail at each step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.steps: list[str] = []
        self.fail_at: str | None = None

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.fail_at:
            raise OSError(28, "No space left on device")

    def stage(self, name: str, data: Any) -> Any:
        self._step("stage")
        staged = super().stage(name, data)
        publish = staged.publish

        class Told:
            stamp = staged.stamp
            discard = staticmethod(staged.discard)

            @staticmethod
            def publish() -> None:
                self._step("publish")
                publish()

        return Told()

    def remove_record(self, name: str) -> None:
        self._step("remove_record")
        super().remove_record(name)

    def write_record(self, name: str, text: str) -> None:
        self._step("write_record")
        super().write_record(name, text)


STEPS = ["stage", "remove_record", "publish", "write_record"]


def test_the_order_of_publishing(folder: Path) -> None:
    storage = Watched(folder)
    cm = DatedCacheManager(storage, verbose=False)
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    assert storage.steps == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_each_step_of_publishing(folder: Path, step: str) -> None:
    storage = Watched(folder)
    cm = DatedCacheManager(storage, verbose=False)
    cm.set_functions_dict({"x": Counting()})
    cm.get("x")
    date = cm.date("x")
    storage.fail_at = step
    with pytest.raises(OSError, match="No space left") as caught:
        cm.get("x", use_stored=False)
    assert any("CM.save('x')" in note for note in caught.value.__notes__)
    other = DatedCacheManager(NpzStorageInterface(folder), verbose=False)
    if other.exists("x"):
        assert (other.load("x"), other.date("x")) == (1, date), "the old pair, whole"
    else:
        assert step != "stage", "refusals and full disks leave the old pair as it was"
        with pytest.raises(MetricNotStoredError):
            other.load("x")
    assert cm.compute("x") == 2, "the computed value is in memory"
    storage.fail_at = None
    assert cm.save("x") == 2, "and is stored without computing again"
    assert other.load("x", force=True) == 2
    assert files(folder) == {"x.npz", "x_date.json"}
    assert list((folder / ".smm" / "tmp").iterdir()) == []


def test_a_storage_with_three_methods_is_told_of_unfinished_data() -> None:
    storage = Recording()
    cm = DatedCacheManager(storage, verbose=False)
    cm.set_functions_dict({"x": Counting()})
    cm.get("x")
    assert [name for name, _ in storage.saved] == ["x_date", "x", "x_date"]
    assert storage.saved[0][1] == "unfinished"
    assert json.loads(storage.saved[2][1])["smm_record"] == 1
    assert all(type(data) is str for name, data in storage.saved if name == "x_date")


def test_an_interrupted_save_to_a_storage_with_three_methods() -> None:
    class Failing(DictStorage):
        failing = False

        def save(self, name: str, data: Any) -> None:
            if self.failing and name == "x":
                raise OSError(28, "No space left on device")
            super().save(name, data)

    storage = Failing()
    cm = DatedCacheManager(storage, verbose=False)
    cm.set_functions_dict({"x": Counting()})
    cm.get("x")
    storage.failing = True
    with pytest.raises(OSError, match="No space"):
        cm.get("x", use_stored=False)
    assert not again(cm).exists("x"), "unfinished"
    with pytest.raises(MetricNotStoredError):
        again(cm).load("x")
    storage.failing = False
    assert cm.save("x") == 2
    assert again(cm).load("x") == 2


@pytest.mark.parametrize("kind", ["three methods, dict", "three methods, files"])
def test_a_damaged_side_car_of_a_storage_with_three_methods(folder: Path, kind: str) -> None:
    storage = MAKERS[kind](folder)
    cm = DatedCacheManager(storage, verbose=False)
    cm.set_functions_dict({"x": Counting()})
    cm.get("x")
    cm.clear_cache()
    if kind.endswith("files"):
        (folder / "x_date.npy").write_bytes(b"broken")
        assert cm.get("x") == 2
    else:
        storage.save("x_date", "{broken")
        with pytest.warns(SmmWarning, match="the side-car of metric 'x' in DictStorage is damaged"):
            assert cm.get("x") == 2
    assert again(cm).load("x") == 2


def test_a_file_saved_by_hand_is_served(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": Counting()})
    cm.get("x")
    side_car = (folder / "x_date.json").read_bytes()
    cm.storage_interface.save("x", "by hand")
    assert (folder / "x_date.json").read_bytes() == side_car, "it touches no side-car"
    assert cm["x"] == 1, "memory has a value"
    assert again(cm)["x"] == "by hand"
    assert cm.load("x", force=True) == "by hand"


# --- stores of the predecessor ---------------------------------------------------------------------------


@pytest.mark.parametrize("ext", ["npz", "npy", "json"])
def test_a_side_car_of_the_predecessor_knows_only_its_date(folder: Path, ext: str) -> None:
    cm = DatedCacheManager(MAKERS[ext](folder), verbose=False)
    cm.set_functions_dict({"x": Counting()})
    cm.storage_interface.save("x", np.arange(3))
    side_car = folder / f"x_date.{ext}"
    if ext == "json":
        side_car.write_text('"2020-01-31"')
    elif ext == "npy":
        np.save(side_car, "2020-01-31")
    else:
        np.savez(side_car, "2020-01-31")
    record = cm.record("x")
    assert record == smm.Record(name="x", date=datetime(2020, 1, 31, tzinfo=UTC))
    assert list(cm.get("x")) == [0, 1, 2]
    assert cm.load("x_date") == "2020-01-31"
    assert cm.exists("x_date")
    cm.get("x", use_stored=False)
    assert files(folder) == {f"x.{ext}", "x_date.json"}, "replacing removes the older form"
    assert cm.record("x").smm_version == smm.__version__


def test_a_json_side_car_wins_over_older_forms(cm: DatedCacheManager, folder: Path) -> None:
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    date = cm.date("x")
    np.savez(folder / "x_date.npz", "1999-12-31")
    assert cm.date("x") == date
    cm.delete("x")
    assert files(folder) == set()
