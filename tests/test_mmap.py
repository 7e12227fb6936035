"""Files that are mapped into memory instead of being read."""

from __future__ import annotations

import errno
import json
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smm
from smm import ParameterizedDatedCacheManager, _reading
from smm.errors import CorruptMetricError
from smm.maintain import verify
from smm.storage import NpyStorageInterface, NpzStorageInterface

CLASSES = [NpyStorageInterface, NpzStorageInterface]
VALUE = np.arange(1000.0)
MAPPING = mmap.mmap


def manager(folder: Path, cls: Any, **options: Any) -> ParameterizedDatedCacheManager:
    CM = ParameterizedDatedCacheManager(cls(folder, **options), verbose=False)

    @CM.collect
    def x() -> Any:
        return VALUE

    return CM


def mapped(array: Any) -> bool:
    """Whether an array lies in a mapped file."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array.obj if isinstance(array, memoryview) else array, MAPPING)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_stored_array_is_a_view_of_its_file(tmp_path: Path, cls: Any) -> None:
    manager(tmp_path, cls).x()
    found = manager(tmp_path, cls, mmap=True).x()
    assert mapped(found)
    assert not mapped(manager(tmp_path, cls).x())
    assert type(found) is np.ndarray
    assert found.dtype == VALUE.dtype
    assert np.array_equal(found, VALUE)
    assert not found.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        found.setflags(write=True)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_writable_copy_is_given_where_that_is_wanted(tmp_path: Path, cls: Any) -> None:
    manager(tmp_path, cls).x()
    CM = ParameterizedDatedCacheManager(cls(tmp_path, mmap=True), verbose=False, read_only=False)
    found = CM.load("x")
    found[0] = 7
    assert CM.load("x")[0] == 0


@pytest.mark.parametrize("cls", CLASSES)
def test_what_was_given_out_stays_when_its_file_is_replaced_or_removed(tmp_path: Path, cls: Any) -> None:
    manager(tmp_path, cls).x()
    CM = manager(tmp_path, cls, mmap=True)
    found = CM.x()
    cls(tmp_path).save("x", np.zeros(1000))
    assert np.array_equal(found, VALUE)
    assert np.array_equal(CM.load("x", force=True), np.zeros(1000))
    CM.delete("x")
    assert np.array_equal(found, VALUE)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_file_that_is_cut_short_is_damaged(tmp_path: Path, cls: Any) -> None:
    CM = manager(tmp_path, cls, mmap=True)
    CM.x()
    path = tmp_path / f"x{CM.storage_interface.file_ext}"  # type: ignore[attr-defined]
    os.truncate(path, path.stat().st_size - 8)
    CM.clear_cache()
    with pytest.raises(CorruptMetricError):
        CM.load("x")
    path.write_bytes(b"")
    with pytest.raises(CorruptMetricError, match="empty"):
        CM.load("x")


def test_an_npz_that_is_not_as_noted_is_summed_up(tmp_path: Path) -> None:
    CM = manager(tmp_path, NpzStorageInterface, mmap=True)
    CM.x()
    path = tmp_path / "x.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    CM.clear_cache()
    with pytest.raises(CorruptMetricError, match="check sum"):
        CM.load("x")


@pytest.mark.parametrize("cls", CLASSES)
def test_verify_reads_every_byte_all_the_same(tmp_path: Path, cls: Any) -> None:
    CM = manager(tmp_path, cls, mmap=True)
    CM.x()
    assert [verdict.problem for verdict in verify(CM)] == [None]
    path = tmp_path / f"x{CM.storage_interface.file_ext}"  # type: ignore[attr-defined]
    content, status = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [verdict.trouble for verdict in verify(CM)] == ["damaged"]
    assert mapped(CM.load("x", force=True))


@pytest.mark.parametrize("cls", CLASSES)
def test_where_nothing_more_can_be_mapped_the_file_is_read(
    tmp_path: Path, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager(tmp_path, cls).x()

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("mmap.mmap", full)
    found = manager(tmp_path, cls, mmap=True).x()
    assert not mapped(found)
    assert np.array_equal(found, VALUE)


def test_what_is_compressed_is_not_mapped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave compress or mmap out"):
        NpzStorageInterface(tmp_path, compress=True, mmap=True)
    (tmp_path / "m.yaml").write_text(
        "storage: {type: npz, compress: true, mmap: true}\nmetrics: {x: {params_list: [[1]]}}\n"
    )
    with pytest.raises(smm.errors.ConfigError, match="leave compress or mmap out"):
        smm.load_config(tmp_path / "m.yaml")


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_configuration_may_ask_for_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "m.yaml").write_text(json.dumps({"storage": {"type": kind, "mmap": True}, "metrics": {}}))
    storage: Any = smm.from_config(tmp_path / "m.yaml").storage_interface
    assert storage.mmap is True


def test_a_large_file_is_summed_up_piece_by_piece(tmp_path: Path) -> None:
    content = os.urandom(3 * _reading._PIECE + 17)
    (tmp_path / "a").write_bytes(content)
    whole, _, total = _reading.read_whole(str(tmp_path / "a"))
    assert whole.tobytes() == content
    assert total == _reading.crc32(content)
    assert whole.ctypes.data % 64 == 0
