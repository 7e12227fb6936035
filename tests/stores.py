"""Storage classes as users write them, and a storage that tells what is asked of it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from smm import (
    FileBasedStorageInterface,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    StorageInterface,
)


class DictStorage:
    """Three methods over a dict, which keeps the very objects it is given."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def exists(self, name: str) -> bool:
        return name in self.kept

    def save(self, name: str, data: Any) -> None:
        self.kept[name] = data

    def load(self, name: str) -> Any:
        return self.kept[name]


class NumpyFiles:
    """Three methods over a folder, with numpy's own functions and nothing else: what people write first."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def exists(self, name: str) -> bool:
        return self._path(name).exists()

    def save(self, name: str, data: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(self._path(name), data, allow_pickle=False)

    def load(self, name: str) -> Any:
        for _ in range(20):
            try:
                return np.load(self._path(name), allow_pickle=False)
            except SystemError:  # numpy parses headers; in two threads Python 3.11 fails at it (gh-106905)
                continue
        raise AssertionError


class PickleFiles(FileBasedStorageInterface):
    """A file storage that says only how data becomes a file, as the predecessor's users did."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(".pickle", folder)

    def _save(self, filepath: Any, data: Any) -> None:
        Path(filepath).write_bytes(pickle.dumps(data))

    def _load(self, filepath: Any) -> Any:
        return pickle.loads(Path(filepath).read_bytes())


class Recording:
    """Passes everything on to another storage of three methods, and notes it."""

    def __init__(self, kept: StorageInterface | None = None) -> None:
        self.kept = DictStorage() if kept is None else kept
        self.asked: list[tuple[str, str]] = []
        self.saved: list[tuple[str, Any]] = []

    def exists(self, name: str) -> bool:
        self.asked.append(("exists", name))
        return self.kept.exists(name)

    def save(self, name: str, data: Any) -> None:
        self.asked.append(("save", name))
        self.saved.append((name, data))
        self.kept.save(name, data)

    def load(self, name: str) -> Any:
        self.asked.append(("load", name))
        return self.kept.load(name)


MAKERS: dict[str, Callable[[Path], StorageInterface]] = {
    "npz": NpzStorageInterface,
    "npy": NpyStorageInterface,
    "json": JsonStorageInterface,
    "memory": lambda _: MemoryStorageInterface(),
    "three methods, dict": lambda _: DictStorage(),
    "three methods, files": NumpyFiles,
    "subclass": PickleFiles,
}
"""Every kind of storage a manager may be given, each made for an empty folder."""
