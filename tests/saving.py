"""What the child processes of `test_faults` run; imports little, because many of them start."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from smm.manager import DatedCacheManager
from smm.metric import Record
from smm.storage import (
    FileBasedStorageInterface,
    JsonStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
)
from tests.stores import PickleFiles

KINDS: dict[str, Callable[[Path], FileBasedStorageInterface]] = {
    "json": JsonStorageInterface,
    "npy": NpyStorageInterface,
    "npz": NpzStorageInterface,
    "npz compressed": lambda place: NpzStorageInterface(place, compress=True),
    "subclass": PickleFiles,
}

OLD = [1.0, 2.0]
NEW = np.random.default_rng(0).normal(size=40_000).tolist()
"""320 kB that do not compress."""

RECORD = '{"smm_record": 1, "date": "2026-01-31T12:00:00.000001+00:00"}'


def is_old(storage: FileBasedStorageInterface) -> bool:
    """Whether the pair `x` is as it was before."""
    return list(storage.load("x")) == OLD and storage.read_record("x") == RECORD


def value_of(turn: int) -> dict[str, Any]:
    """Data of which any mixture with another turn's would show."""
    return {"turn": turn, "data": np.full(1000 + 100 * (turn % 7), float(turn))}


def save_pair(place: str, turn: int) -> None:
    """Publish a pair as managers do; three names in turn."""
    storage, name = NpzStorageInterface(place), f"x_{turn % 3}"
    staged = storage.stage(name, value_of(turn))
    storage.remove_record(name)
    staged.publish()
    record = Record(name=name, date=datetime(2026, 1, 31, tzinfo=UTC), data=staged.stamp)
    storage.write_record(name, record.to_json())


def save_by_manager(place: str, turn: int) -> None:
    """Compute one of three metrics in turn, whatever is stored."""
    manager = DatedCacheManager(NpzStorageInterface(place), verbose=False)
    manager.set_functions_dict({f"x_{turn % 3}": lambda: value_of(turn)})
    manager.get(f"x_{turn % 3}", use_stored=False)


LOOPS: dict[str, Callable[[str, int], None]] = {"storage": save_pair, "manager": save_by_manager}
