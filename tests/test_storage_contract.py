"""The contract suite, inherited for every kind of storage: smm's own, and classes as users write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from smm.errors import CorruptMetricError
from smm.storage import (
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    StorageInterface,
)
from smm.testing import ODD_NAMES, StorageContract
from tests.stores import DictStorage, NumpyFiles, PickleFiles


class OfBuiltIn(StorageContract):
    names: ClassVar[tuple[str, ...]] = (*StorageContract.names, *ODD_NAMES)
    refused: ClassVar[tuple[Any, ...]] = ({1}, [np.ma.array([1])], object())


class TestNpz(OfBuiltIn):
    values = (*StorageContract.values, {"a": [np.arange(3), (1, None)]}, "text", b"\0", 1 + 2j)

    def make(self, place: Path) -> StorageInterface:
        return NpzStorageInterface(place)


class TestCompressedNpz(TestNpz):
    def make(self, place: Path) -> StorageInterface:
        return NpzStorageInterface(place, compress=True)


class Mapped(StorageContract):
    """What is mapped is not summed up: of damage, only what size, time and format show is seen."""

    def test_damage_does_not_go_unseen(self, tmp_path: Path) -> None:
        storage: Any = self.make(tmp_path / "store")
        storage.save("a", self.values[0])
        (file,) = (tmp_path / "store").glob("a.*")
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(CorruptMetricError):
            storage.load("a")


class TestMappedNpz(Mapped, TestNpz):
    def make(self, place: Path) -> StorageInterface:
        return NpzStorageInterface(place, mmap=True)


class TestSyncedJson(StorageContract):
    def make(self, place: Path) -> StorageInterface:
        return JsonStorageInterface(place, fsync=True)


class TestNpy(OfBuiltIn):
    values = (*StorageContract.values, 1.5, "text", [[1], [2]])
    refused = (*OfBuiltIn.refused, None, {"a": 1}, [1, "a"], "a\0")

    def make(self, place: Path) -> StorageInterface:
        return NpyStorageInterface(place)


class TestMappedNpy(Mapped, TestNpy):
    def make(self, place: Path) -> StorageInterface:
        return NpyStorageInterface(place, mmap=True)


class TestJson(OfBuiltIn):
    values = (*StorageContract.values, {"a": [1.5, None, {"b": True}]}, "text", float("nan"), (1, 2))
    refused = (*OfBuiltIn.refused, b"a", 1j, {1: 2}, np.array([1j]))

    def make(self, place: Path) -> StorageInterface:
        return JsonStorageInterface(place)


class TestMemory(OfBuiltIn):
    persistent = False
    names = StorageContract.names

    def make(self, place: Path) -> StorageInterface:
        return MemoryStorageInterface()


class TestSubclassOfFiles(StorageContract):
    names = (*StorageContract.names, *ODD_NAMES)

    def make(self, place: Path) -> StorageInterface:
        return PickleFiles(place)


class TestThreeMethods(StorageContract):
    persistent = False

    def make(self, place: Path) -> StorageInterface:
        return DictStorage()


class TestThreeMethodsOverFiles(StorageContract):
    def make(self, place: Path) -> StorageInterface:
        return NumpyFiles(place)


class Passing:
    """Three methods that pass everything on."""

    def __init__(self, inner: StorageInterface) -> None:
        self._inner = inner

    def exists(self, name: str) -> bool:
        return self._inner.exists(name)

    def save(self, name: str, data: Any) -> None:
        self._inner.save(name, data)

    def load(self, name: str) -> Any:
        return self._inner.load(name)


class TestWrapperOfNpz(StorageContract):
    def make(self, place: Path) -> StorageInterface:
        return Passing(NpzStorageInterface(place))


class TestWrapperOfJson(StorageContract):
    values = (1, [2, "a"], {"b": None})

    def make(self, place: Path) -> StorageInterface:
        return Passing(JsonStorageInterface(place))
