"""A store that simple-metrics-manager 0.5.0 wrote reads back with the meaning it had there.

`data/legacy_store_0_5/expected.npz` holds the two arrays that the others were made of, and was no metric.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smm.metric import Record
from smm.storage import (
    FileBasedStorageInterface,
    JsonStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
)
from smm.testing import alike, files_below

STORE = Path(__file__).parent / "data" / "legacy_store_0_5"
with np.load(STORE / "expected.npz") as _archive:
    A, B = _archive["A"], _archive["B"]

KINDS: dict[str, Callable[[Path], FileBasedStorageInterface]] = {
    "json": JsonStorageInterface,
    "npy": NpyStorageInterface,
    "npz": NpzStorageInterface,
}


VALUES: dict[str, dict[str, Any]] = {
    "json": {
        "mapping": {"a": [1, 2], "b": None},
        "number": 7,
        "poly_Y_1_2": [1.0, 1],
        "poly_Y_1_3": [1.0, 1],
        "poly_Y_1p5_lo": [1.5, 2],
        "poly_Y_4_5": [4.0, 1],
        "single": A.tolist(),
        "text": "héllo",
    },
    "npy": {
        "ints": B,
        "poly_Y_1_2": np.array([1.0, 1.0]),
        "poly_Y_1_3": np.array([1.0, 1.0]),
        "poly_Y_1p5_lo": np.array([1.5, 2.0]),
        "poly_Y_4_5": np.array([4.0, 1.0]),
        "scalar": np.array(2.25),
        "single": A,
        "text": np.array("hello"),
    },
    "npz": {
        "mapping": {"a": A, "b": B},
        "mixed": {"a": np.array([1, 2, 4, 3]), "b": np.array(5)},
        "poly_Y_1_2": np.array([1.0, 1.0]),
        "poly_Y_1_3": np.array([1.0, 1.0]),
        "poly_Y_1p5_lo": np.array([1.5, 2.0]),
        "poly_Y_4_5": np.array([4.0, 1.0]),
        "scalar": np.array(3.5),
        "single": A,
        "text": np.array("hello"),
    },
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def storage(kind: str, tmp_path: Path) -> FileBasedStorageInterface:
    shutil.copytree(STORE / kind, tmp_path / kind)
    return KINDS[kind](tmp_path / kind)


def test_every_metric_is_listed_with_its_date(storage: FileBasedStorageInterface, kind: str) -> None:
    known = set(VALUES[kind]) | ({"eleven"} if kind == "npz" else set())
    assert storage.names() == storage.recorded() == known


def test_every_value_reads_back(storage: FileBasedStorageInterface, kind: str) -> None:
    for name, value in VALUES[kind].items():
        assert storage.exists(name)
        assert alike(storage.load(name), value), name
        assert alike(storage.load_verified(name, None), value), name


def test_the_elements_of_a_long_list_keep_their_order(tmp_path: Path) -> None:
    eleven = NpzStorageInterface(STORE / "npz").load("eleven")
    assert type(eleven) is list
    assert len(eleven) == 11
    with np.load(STORE / "npz" / "eleven.npz") as archive:
        assert all(alike(element, archive[f"arr_{number}"]) for number, element in enumerate(eleven))
    # As they were made: each element's values lie around its number.
    assert [round(float(element.mean())) for element in eleven] == pytest.approx(range(11), abs=1)


def test_every_date_reads_back(storage: FileBasedStorageInterface, kind: str) -> None:
    for name in VALUES[kind]:
        assert storage.exists(f"{name}_date")
        assert storage.load(f"{name}_date") == "2026-11-23"
        assert storage.has_record(name)
        text = storage.read_record(name)
        assert text == "2026-11-23"
        assert Record.from_json(name, text) == Record(name=name, date=datetime(2026, 11, 23, tzinfo=UTC))


def test_reading_changes_nothing(storage: FileBasedStorageInterface, kind: str) -> None:
    before = files_below(storage.metrics_dir)
    for name in VALUES[kind]:
        storage.load(name)
        storage.read_record(name)
        storage.canonical(name, storage.load(name))  # type: ignore[attr-defined]
    assert files_below(storage.metrics_dir) == before


def test_what_was_read_can_be_kept_as_it_is(storage: FileBasedStorageInterface, kind: str) -> None:
    for name, value in VALUES[kind].items():
        storage.save(name, storage.load(name))
        assert alike(storage.load(name), value)


def test_replacing_a_metric_removes_its_old_side_car(storage: FileBasedStorageInterface, kind: str) -> None:
    text = json.dumps({"smm_record": 1, "date": "2026-12-01T00:00:00.000000+00:00"})
    storage.save("single", [1, 2])
    assert storage.load("single_date") == "2026-11-23", "a save by hand touches no side-car"
    storage.write_record("single", text)
    assert storage.load("single_date") == "2026-12-01T00:00:00.000000+00:00"
    left = {name for name in os.listdir(storage.metrics_dir) if name.startswith("single")}
    assert left == {f"single{storage.file_ext}", "single_date.json"}
    storage.delete("text")
    assert not {name for name in os.listdir(storage.metrics_dir) if name.startswith("text")}
