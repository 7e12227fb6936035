"""A metric that is computed again and comes out as it was makes nothing stale that read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import smm
from smm.protocols import StorageInterface
from tests.commands import run_process
from tests.stores import DictStorage


class Study:
    """`top` reads `middle`, which reads `base` and a constant; counts what is computed."""

    def __init__(self, storage: StorageInterface, **options: Any) -> None:
        self.cm = cm = smm.ParameterizedDatedCacheManager(storage, verbose=False, **options)
        self.value: Any = 10
        self.calls: list[str] = []

        @cm.collect
        def base() -> Any:
            self.calls.append("base")
            return self.value

        @cm.collect
        def middle() -> Any:
            self.calls.append("middle")
            return cm.base() // 10

        @cm.collect
        def top() -> Any:
            self.calls.append("top")
            return cm.middle() + 1

    def why(self) -> dict[str, list[str]]:
        """The kinds of reasons for which each metric is stale."""
        names = ("base", "middle", "top")
        return {name: [reason.kind for reason in self.cm.why(name) if reason.is_stale] for name in names}


FRESH: dict[str, list[str]] = {"base": [], "middle": [], "top": []}

STORAGES: dict[str, Callable[[Path], StorageInterface]] = {
    "npz": smm.NpzStorageInterface,
    "json": smm.JsonStorageInterface,
    "npy": smm.NpyStorageInterface,
    "memory": lambda _: smm.MemoryStorageInterface(),
    "three methods": lambda _: DictStorage(),
}


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageInterface:
    return STORAGES[request.param](tmp_path / "results")


def test_a_forced_computation_of_the_same_value_leaves_readers_fresh(storage: StorageInterface) -> None:
    study = Study(storage)
    study.cm.run()
    first = study.cm.record("base")
    study.cm.run("base", force=True)
    again = study.cm.record("base")
    assert again.date > first.date
    assert again.changed == first.changed == first.date
    assert study.why() == FRESH
    assert sorted(study.calls) == ["base", "base", "middle", "top"]


def test_another_value_makes_readers_stale_and_changes_the_date(storage: StorageInterface) -> None:
    study = Study(storage)
    study.cm.run()
    study.value = 25
    study.cm.base(use_stored=False)
    record = study.cm.record("base")
    assert record.changed == record.date
    assert study.why() == {"base": [], "middle": ["input"], "top": ["input"]}


def test_a_value_that_comes_back_is_another_change(storage: StorageInterface) -> None:
    study = Study(storage)
    study.cm.run()
    first = study.cm.record("base").changed
    for value in (25, 10):
        study.value = value
        study.cm.base(use_stored=False)
    assert study.cm.record("base").changed > first
    assert study.why()["middle"] == ["input"]


def test_a_deleted_value_that_is_computed_again_counts_as_changed(tmp_path: Path) -> None:
    study = Study(smm.NpzStorageInterface(tmp_path))
    study.cm.run()
    study.cm.delete("base")
    study.cm.run("base")
    assert study.why()["middle"] == ["input"]


def test_memory_serves_no_reader_of_a_changed_value(storage: StorageInterface) -> None:
    study = Study(storage, on_stale="recompute")
    study.cm.run()
    assert (study.cm.top(), study.cm.middle()) == (2, 1)
    study.value = 25
    study.cm.base(use_stored=False)
    assert (study.cm.top(), study.cm.middle()) == (3, 2)


def test_a_change_that_comes_out_the_same_half_way_stops_there(storage: StorageInterface) -> None:
    study = Study(storage, on_stale="recompute")
    study.cm.run()
    del study.calls[:]
    study.value = 11
    study.cm.base(use_stored=False)
    assert study.cm.top() == 2
    assert study.calls == ["base", "middle"], "middle came out as it was, so top is fresh"
    assert study.why() == FRESH


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_run_judges_readers_after_what_they_read(tmp_path: Path, executor: str) -> None:
    analysis = tmp_path / "halfway.py"
    text = (
        "from pathlib import Path\n"
        "def base(): return 10\n"
        "def middle(x): Path('middle').open('a').write('x'); return x // 10\n"
        "def top(y): Path('top').open('a').write('x'); return y + 1\n"
    )
    analysis.write_text(text)
    (tmp_path / "metrics.yaml").write_text(
        json.dumps(
            {
                "on_stale": "recompute",
                "verbose": False,
                "metrics": {
                    # The readers come first: order must come from what they read.
                    "top": {"function": "halfway.top", "inputs": {"y": "middle"}},
                    "middle": {"function": "halfway.middle", "inputs": {"x": "base"}},
                    "base": {"function": "halfway.base"},
                },
            }
        )
    )
    arguments = ("run", "metrics.yaml", "--executor", executor, "--jobs", "2")
    assert run_process(*arguments, cwd=tmp_path).returncode == 0
    analysis.write_text(text.replace("return 10", "return 12"))
    done = run_process(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ((tmp_path / "middle").read_text(), (tmp_path / "top").read_text()) == ("xx", "x")
    counts = {each["name"]: each["status"] for each in json.loads(done.stdout)["metrics"]}
    assert counts == {"base": "computed", "middle": "computed", "top": "stored"}
    checked = run_process("status", "metrics.yaml", "--check", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout


def test_an_input_that_only_warns_does_not_have_its_readers_computed_for_ever(tmp_path: Path) -> None:
    storage = smm.NpzStorageInterface(tmp_path)
    cm = smm.ParameterizedDatedCacheManager(storage, verbose=False)
    versions = {"base": 1}
    calls: list[str] = []

    def top(x: int) -> int:
        calls.append("top")
        return x

    def declare() -> None:
        version = versions["base"]
        cm.collect("base")(lambda: version)  # its code covers the version
        cm.declare(
            smm.Metric(
                base_name="top",
                function=top,
                inputs={"x": smm.metric.Input(metric="base")},
                trust=smm.metric.Trust(on_stale="recompute"),
            )
        )

    declare()
    assert cm.top() == 1
    versions["base"] = 2
    cm = smm.ParameterizedDatedCacheManager(storage, verbose=False)
    declare()
    with pytest.warns(smm.errors.SmmWarning, match="its input base is stale itself"):
        assert cm.top() == 1
    cm.clear_cache()
    assert cm.top() == 1
    assert calls == ["top"]


def test_a_record_of_an_earlier_smm_is_compared_by_its_date(tmp_path: Path) -> None:
    study = Study(smm.NpzStorageInterface(tmp_path), on_stale="recompute")
    study.cm.run()
    for name in ("base", "middle", "top"):
        side_car = tmp_path / f"{name}_date.json"
        noted = json.loads(side_car.read_text())
        del noted["changed"]
        side_car.write_text(json.dumps(noted))
    study = Study(smm.NpzStorageInterface(tmp_path))
    assert study.why() == FRESH
    study.cm.run("base", force=True)
    assert study.why() == FRESH, "the value is the same, and has been since the date that was noted"
    study.value = 25
    study.cm.run("base", force=True)
    assert study.why() == {"base": [], "middle": ["input"], "top": ["input"]}


def test_a_file_put_there_by_hand_is_no_former_value(tmp_path: Path) -> None:
    study = Study(smm.NpzStorageInterface(tmp_path), on_stale="recompute")
    study.cm.run()
    study.cm.storage_interface.save("base", 10)
    study.cm.storage_interface.save("base", 11)
    study.cm.run("base", force=True)
    assert study.why()["middle"] == ["input"], "11 was served in between"
    study.cm.run()
    study.value = 11
    study.cm.storage_interface.save("base", 11)
    study.cm.run("base", force=True)
    assert study.why()["middle"] == ["input"], "the record told of 10"


def test_nothing_read_in_between_is_taken_for_the_present(tmp_path: Path) -> None:
    """A reader that was being computed while its input changed is not served from memory afterwards."""
    study = Study(smm.NpzStorageInterface(tmp_path), on_stale="recompute")
    cm = study.cm

    @cm.collect
    def reader() -> Any:
        before = cm.base()
        if before == 10:
            study.value = 25
            cm.base(use_stored=False)  # as another thread would
        return before

    assert cm.reader() == 10
    assert cm.reader() == 25


values = st.one_of(
    st.integers(-3, 3),
    st.floats(width=16),
    st.text(max_size=2),
    st.lists(st.integers(0, 2), max_size=2),
    st.lists(st.integers(0, 2), max_size=2).map(lambda x: np.array(x, dtype=np.int16)),
)


@given(first=values, second=values)
def test_changed_moves_exactly_when_the_stored_bytes_do(
    tmp_path_factory: pytest.TempPathFactory, first: Any, second: Any
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for made in (smm.NpzStorageInterface(folder), smm.MemoryStorageInterface()):
        cm = smm.DatedCacheManager(made, verbose=False)
        holder = [first]
        cm.set_functions_dict({"x": lambda holder=holder: holder[0]})
        cm.get("x")
        before = cm.record("x").changed
        bytes_before = _bytes(folder)
        holder[0] = second
        cm.get("x", use_stored=False)
        if isinstance(made, smm.NpzStorageInterface):
            same = _bytes(folder) == bytes_before
        assert (cm.record("x").changed == before) == same


def _bytes(folder: Path) -> bytes:
    return (folder / "x.npz").read_bytes()
