"""The storages: the round-trip law, refusals, side-cars, damage, and what lies in the folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smm import DatedCacheManager, errors
from smm._stored import data_file, shelf_of, sidecar_file
from smm.errors import (
    CorruptMetricError,
    MetricNameError,
    MetricNotStoredError,
    NewerFormatError,
    PickleRefusedError,
    SmmWarning,
    UnstorableError,
)
from smm.maintain import gc, verify
from smm.metric import Record
from smm.storage import (
    FileBasedStorageInterface,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    StorageInterface,
)
from smm.testing import alike, files_below
from tests import strategies
from tests.stores import PickleFiles

BuiltIn = JsonStorageInterface | NpyStorageInterface | NpzStorageInterface | MemoryStorageInterface
OfFiles = JsonStorageInterface | NpyStorageInterface | NpzStorageInterface
OWN: list[Callable[[Path], OfFiles]] = [JsonStorageInterface, NpyStorageInterface, NpzStorageInterface]

RECORD = '{"smm_record": 1, "date": "2026-01-31T12:00:00.000001+00:00"}'
DATE = "2026-01-31T12:00:00.000001+00:00"


# --- the round-trip law ----------------------------------------------------------------------------------

KEPT: dict[str, tuple[Callable[[Path], BuiltIn], st.SearchStrategy[Any]]] = {
    "npz": (NpzStorageInterface, strategies.npz_values()),
    "npz compressed": (lambda place: NpzStorageInterface(place, compress=True), strategies.npz_values()),
    "npy": (NpyStorageInterface, strategies.npy_values()),
    "json": (JsonStorageInterface, strategies.json_values() | strategies.json_changed_values()),
    "memory": (lambda _: MemoryStorageInterface(), strategies.npz_values()),
}
REFUSED: dict[str, tuple[Callable[[Path], BuiltIn], st.SearchStrategy[Any]]] = {
    "npz": (NpzStorageInterface, strategies.refused_by_npz()),
    "npy": (NpyStorageInterface, strategies.refused_by_npy()),
    "json": (JsonStorageInterface, strategies.refused_by_json()),
    "memory": (lambda _: MemoryStorageInterface(), strategies.refused_by_npz()),
}


@pytest.mark.parametrize("kind", KEPT)
@given(data=st.data())
def test_a_load_gives_the_canonical_value(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    make, values = KEPT[kind]
    storage, value = make(tmp_path), data.draw(values)
    canonical = storage.canonical("x", value)
    assert strategies.identical(storage.canonical("x", canonical), canonical)
    storage.save("x", value)
    assert strategies.identical(storage.load("x"), canonical)
    storage.save("x", canonical)
    loaded = storage.load("x")
    assert strategies.identical(loaded, canonical)
    storage.save("x", loaded)
    assert strategies.identical(storage.load("x"), canonical)


@given(strategies.npz_values())
def test_npz_and_memory_give_the_same(tmp_path: Path, value: Any) -> None:
    npz, memory = NpzStorageInterface(tmp_path), MemoryStorageInterface()
    npz.save("x", value)
    memory.save("x", value)
    assert strategies.identical(npz.load("x"), memory.load("x"))


@given(strategies.json_values())
def test_json_gives_back_its_own_kinds_as_they_were(tmp_path: Path, value: Any) -> None:
    storage = JsonStorageInterface(tmp_path)
    storage.save("x", value)
    assert strategies.identical(storage.load("x"), value)


@given(strategies.arrays())
def test_arrays_come_back_exactly_and_numpy_reads_them(tmp_path: Path, array: Any) -> None:
    npy, npz = NpyStorageInterface(tmp_path), NpzStorageInterface(tmp_path)
    npy.save("x", array)
    npz.save("x", array)
    for loaded in (npy.load("x"), npz.load("x")):
        assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
        assert strategies.identical(loaded, npy.canonical("x", array))
        assert loaded.flags.writeable
    if array.dtype.itemsize and array.dtype.names is None:
        # numpy's reader does not take every header that its writer makes
        assert np.load(tmp_path / "x.npy").tobytes() == array.tobytes()
        with np.load(tmp_path / "x.npz") as archive:
            assert archive["arr_0"].tobytes() == array.tobytes()


def test_arrays_out_of_a_compressed_file_are_the_callers_too(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path, compress=True)
    storage.save("x", [np.zeros(3), np.zeros(2)])
    assert all(array.flags.writeable for array in storage.load("x"))


@pytest.mark.parametrize("kind", REFUSED)
@given(data=st.data())
def test_a_refused_value_leaves_everything_as_it_was(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    make, values = REFUSED[kind]
    value = data.draw(values)
    storage = make(tmp_path / "empty")
    _refuses(storage, value)
    assert not (tmp_path / "empty").exists()
    storage = make(tmp_path / "full")
    storage.save("x", [1, 2])
    storage.write_record("x", RECORD)
    before = files_below(tmp_path)
    _refuses(storage, value)
    assert files_below(tmp_path) == before
    assert storage.read_record("x") == RECORD


def _refuses(storage: BuiltIn, value: Any) -> None:
    for attempt in (storage.save, storage.canonical, storage.stage):
        with pytest.raises(UnstorableError) as caught:
            attempt("x", value)
        assert caught.value.name == "x"
        assert caught.value.storage == type(storage).__name__
        assert caught.value.found
        assert caught.value.way_out


@pytest.mark.parametrize(
    ("make", "value", "message"),
    [
        (
            NpzStorageInterface,
            {"a": [0, 1, 2, {3}]},
            "NpzStorageInterface cannot keep metric 'x': ['a'][3]: set; save list(x)",
        ),
        (
            JsonStorageInterface,
            {"a": [0, 1, 2, b"b"]},
            (
                "JsonStorageInterface cannot keep metric 'x': ['a'][3]: bytes; "
                "save x.hex(), or use NpzStorageInterface"
            ),
        ),
        (
            JsonStorageInterface,
            [{(1, 2): 3}],
            (
                "JsonStorageInterface cannot keep metric 'x': [0][(1, 2)]: a dict key of type tuple; "
                "use str(key) as the key, or NpzStorageInterface, which keeps other keys too"
            ),
        ),
        (
            NpyStorageInterface,
            {"a": 1},
            (
                "NpyStorageInterface cannot keep metric 'x': dict; use NpzStorageInterface, "
                "which keeps it as it is"
            ),
        ),
        (
            NpyStorageInterface,
            [[1, 2], [3, 4.5]],
            (
                "NpyStorageInterface cannot keep metric 'x': [1][1]: float beside int; "
                "save np.array(x, dtype=float), or with the type you mean, "
                "or use NpzStorageInterface, which keeps it as it is"
            ),
        ),
        (
            NpyStorageInterface,
            [[1, 2], [3]],
            (
                "NpyStorageInterface cannot keep metric 'x': [1]: shape (1,) beside (2,); "
                "save np.array of equally long lists, or use NpzStorageInterface, which keeps it as it is"
            ),
        ),
        (
            lambda place: NpzStorageInterface(place, list_limit=2),
            [1, 2, 3],
            (
                "NpzStorageInterface cannot keep metric 'x': a list of 3 elements; "
                "save np.array(x), or raise list_limit, which is 2"
            ),
        ),
    ],
)
def test_a_refusal_says_what_and_where_and_what_to_do(
    tmp_path: Path, make: Callable[[Path], BuiltIn], value: Any, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make(tmp_path).save("x", value)
    assert str(caught.value) == message


def test_json_nesting_is_limited_so_that_it_can_always_be_read(tmp_path: Path) -> None:
    storage = JsonStorageInterface(tmp_path)
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    storage.save("x", deep)
    assert storage.load("x") == deep
    with pytest.raises(UnstorableError, match="nesting over 100 deep"):
        storage.save("x", [deep])
    nearly: Any = np.zeros((1,) * 30)
    for _ in range(70):
        nearly = (nearly,)
    storage.save("y", nearly)
    with pytest.raises(UnstorableError, match="nesting over 100 deep"):
        storage.save("y", (nearly,))
    assert storage.load("x") == deep
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnstorableError) as caught:
        storage.save("x", deep)
    assert len(str(caught.value)) < 300


def test_the_longest_int_json_keeps_has_4300_digits(tmp_path: Path) -> None:
    storage = JsonStorageInterface(tmp_path)
    for value in (10**4300 - 1, 1 - 10**4300):
        storage.save("x", value)
        assert storage.load("x") == value
    for value in (10**4300, -(10**4300), 10**100_000):
        with pytest.raises(UnstorableError, match="an int of more than 4300 digits"):
            storage.save("x", value)


def test_json_is_text_that_any_program_reads(tmp_path: Path) -> None:
    JsonStorageInterface(tmp_path).save("x", {"a": np.arange(3), "ä": [np.float32(0.5), True, None]})
    assert (tmp_path / "x.json").read_text("ascii") == '{"a": [0, 1, 2], "\\u00e4": [0.5, true, null]}'


def test_memmaps_become_arrays(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "raw", dtype="f8", mode="w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    for storage in (NpzStorageInterface(tmp_path), NpyStorageInterface(tmp_path), MemoryStorageInterface()):
        storage.save("x", mapped)
        for array in (storage.load("x"), storage.canonical("x", mapped)):
            assert type(array) is np.ndarray
            assert array.tolist() == [1, 2, 3]
            assert not np.shares_memory(array, mapped)


def test_an_npz_may_limit_the_length_of_lists(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path, list_limit=3)
    kept: list[Any] = [[1, 2, 3], {"a": [1, 2, 3, 4]}, np.arange(9)]
    for value in kept:
        storage.save("x", value)
    refused: list[Any] = [[1, 2, 3, 4], (1, 2, 3, 4)]
    for value in refused:
        with pytest.raises(UnstorableError, match="raise list_limit"):
            storage.canonical("x", value)


def test_objects_need_allow_pickle_on_both_ways(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None, [1, 2]], dtype=object)
    for kind in (NpyStorageInterface, NpzStorageInterface):
        plain, trusting = kind(tmp_path), kind(tmp_path, allow_pickle=True)
        with pytest.raises(UnstorableError, match="allow_pickle"):
            plain.save("x", objects)
        canonical = trusting.canonical("x", objects)
        assert canonical[0] is not objects[0]
        trusting.save("x", objects)
        assert trusting.load("x").tolist() == objects.tolist()
        with pytest.raises(PickleRefusedError, match="allow_pickle=True") as caught:
            plain.load("x")
        assert caught.value.path == tmp_path / ("x" + plain.file_ext)


def test_an_npz_of_a_later_layout_is_not_damage(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    storage.save("x", [1, (2,)])
    path = tmp_path / "x.npz"
    path.write_bytes(_with_layout_9(path.read_bytes()))
    with pytest.raises(NewerFormatError, match="update smm-metrics"):
        storage.load("x")


def _with_layout_9(content: bytes) -> bytes:
    """The same archive with another version number, and the member's check sum with it."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.namelist():
            new.writestr(member, old.read(member).replace(b'"smm_npz":1', b'"smm_npz":9'))
    return made.getvalue()


# --- names, places and arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        (JsonStorageInterface("/r"), "JsonStorageInterface(metrics_dir='/r', fsync=False)"),
        (
            NpyStorageInterface("/r", True, fsync=True),
            "NpyStorageInterface(metrics_dir='/r', allow_pickle=True, fsync=True, mmap=False)",
        ),
        (
            NpzStorageInterface(Path("/r"), True, True, 9),
            (
                "NpzStorageInterface(metrics_dir='/r', "
                "compress=True, allow_pickle=True, list_limit=9, fsync=False, mmap=False)"
            ),
        ),
        (MemoryStorageInterface(), "MemoryStorageInterface()"),
        (PickleFiles("/r"), "PickleFiles(file_ext='.pickle', metrics_dir='/r', fsync=False)"),
    ],
)
def test_a_storage_shows_its_arguments(storage: StorageInterface, shown: str) -> None:
    assert repr(storage) == shown


def test_the_folder_is_absolute_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    home, here = NpzStorageInterface("~/results"), NpzStorageInterface("results")
    assert (home.metrics_dir, home.file_ext) == (tmp_path / "home" / "results", ".npz")
    monkeypatch.chdir("/")
    here.save("x", 1)
    assert (tmp_path / "results" / "x.npz").is_file()


@pytest.mark.parametrize("ending", ["", "npz", ".", "/a", ".a/b", ".a b", ".\0"])
def test_a_file_ending_is_plain(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ValueError, match="must be a dot and plain characters"):
        FileBasedStorageInterface(ending, tmp_path)


def test_a_storage_pickles_as_its_arguments(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path, list_limit=3)
    storage.save("x", 1)
    copied = pickle.loads(pickle.dumps(storage))
    assert repr(copied) == repr(storage)
    assert copied.load("x") == 1


def test_a_storage_of_ones_own_says_two_methods(tmp_path: Path) -> None:
    class Half(FileBasedStorageInterface):
        pass

    storage = Half(".half", tmp_path)
    with pytest.raises(NotImplementedError, match="Half has no _save"):
        storage.save("x", 1)
    (tmp_path / "x.half").touch()
    with pytest.raises(NotImplementedError, match="Half has no _load"):
        storage.load("x")
    with pytest.raises(TypeError, match="derive it from FileBasedStorageInterface"):

        class Changed(NpzStorageInterface):
            def _save(self, filepath: str, data: Any) -> None:
                raise AssertionError


def test_files_of_other_programs_are_no_metrics(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    storage.save("x", 1)
    for name in (".hidden.npz", "readme.md", "x.npz.bak", "y_date.npz", "%zz.npz"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "dangling.npz").symlink_to(tmp_path / "nowhere")
    assert storage.names() == {"x", "%zz"}
    assert storage.recorded() == set()
    assert not storage.exists("folder")
    assert not storage.exists("dangling")


def test_a_link_to_data_is_read_and_then_replaced(tmp_path: Path) -> None:
    NpzStorageInterface(tmp_path / "shared").save("x", [1, 2])
    storage = NpzStorageInterface(tmp_path / "mine")
    storage.metrics_dir.mkdir()
    (storage.metrics_dir / "x.npz").symlink_to(tmp_path / "shared" / "x.npz")
    assert storage.load("x") == [1, 2]
    assert storage.names() == {"x"}
    storage.save("x", 3)
    assert NpzStorageInterface(tmp_path / "shared").load("x") == [1, 2]
    assert storage.load("x") == 3


def test_a_missing_metric_is_a_key_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as caught:
        NpzStorageInterface(tmp_path / "r").load("x")
    assert isinstance(caught.value, FileNotFoundError)
    assert str(tmp_path / "r") in str(caught.value)
    with pytest.raises(MetricNotStoredError, match="MemoryStorageInterface"):
        MemoryStorageInterface().load("x")


@pytest.mark.parametrize("name", ["", "a" * 300, "\ud800"])
def test_a_name_no_file_can_have(tmp_path: Path, name: str) -> None:
    storage = NpzStorageInterface(tmp_path / "r")
    for attempt in (storage.check, storage.delete, storage.remove_record):
        with pytest.raises(MetricNameError):
            attempt(name)
    with pytest.raises(MetricNameError):
        storage.save(name, 1)
    with pytest.raises(MetricNotStoredError):
        storage.load(name)
    assert not storage.exists(name)
    assert not storage.has_record(name)
    assert storage.read_record(name) is None
    assert os.listdir(tmp_path) == []


# --- files of the predecessor, whose names were not encoded ----------------------------------------------


@pytest.mark.parametrize("name", ["poly Y (1)", "a_[1, 2]", "ä", "100%", "it's"])
def test_files_under_bare_names_are_found_and_replaced(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / f"{name}.npz", np.arange(3))
    np.savez(tmp_path / f"{name}_date.npz", "2020-12-31")
    storage = NpzStorageInterface(tmp_path)
    assert storage.exists(name)
    assert storage.load(name).tolist() == [0, 1, 2]
    assert storage.names() == storage.recorded() == {name}
    assert storage.read_record(name) == storage.load(f"{name}_date") == "2020-12-31"
    storage.save(name, [1, 2])
    assert storage.load(name) == [1, 2]
    assert storage.recorded() == {name}
    storage.write_record(name, RECORD)
    assert storage.read_record(name) == RECORD
    assert not {f"{name}.npz", f"{name}_date.npz"} & set(os.listdir(tmp_path))
    storage.delete(name)
    assert os.listdir(tmp_path) == [".smm"]


@pytest.mark.parametrize("make", OWN)
def test_what_is_recorded_needs_both_files_in_whatever_form(
    tmp_path: Path, make: Callable[[Path], OfFiles]
) -> None:
    storage = make(tmp_path)
    for name in ("plain", "not plain", "9", "ä", "data only"):
        storage.save(name, 1)
    for name in ("plain", "not plain", "9", "ä", "record only"):
        storage.write_record(name, RECORD)
    assert storage.recorded() == {"plain", "not plain", "9", "ä"}
    # As the predecessor wrote the data, and smm its side-car.
    (tmp_path / f"data%20only{storage.file_ext}").rename(tmp_path / f"record only{storage.file_ext}")
    assert storage.recorded() == {"plain", "not plain", "9", "ä", "record only"}
    assert storage.names() == storage.recorded()


@pytest.mark.parametrize("make", OWN)
def test_folders_and_broken_links_are_not_recorded(tmp_path: Path, make: Callable[[Path], OfFiles]) -> None:
    storage = make(tmp_path)
    for name in ("folder", "link", "x"):
        storage.write_record(name, RECORD)
    (tmp_path / f"folder{storage.file_ext}").mkdir()
    (tmp_path / f"link{storage.file_ext}").symlink_to("nowhere")
    storage.save("x", 1)
    assert storage.recorded() == {"x"}


# --- side-cars -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OWN)
def test_the_newest_form_of_a_side_car_wins_and_replaces_the_others(
    tmp_path: Path, make: Callable[[Path], OfFiles]
) -> None:
    storage = make(tmp_path)
    storage.save("x", 1)
    storage.save("x_date", "2020-12-31")
    assert storage.load("x_date") == storage.read_record("x") == "2020-12-31"
    storage.write_record("x", RECORD)
    assert storage.load("x_date") == DATE
    assert sorted(os.listdir(tmp_path)) == [".smm", "x" + storage.file_ext, "x_date.json"]
    assert storage.names() == storage.recorded() == {"x"}
    storage.delete("x")
    assert os.listdir(tmp_path) == [".smm"]


@pytest.mark.parametrize("make", OWN)
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b'{"smm_re', b"\0" * 20, b'"\\ud8', b"2020-1", b"[1]"])
def test_a_damaged_side_car_is_no_record(
    tmp_path: Path, make: Callable[[Path], OfFiles], damage: bytes
) -> None:
    storage = make(tmp_path)
    storage.save("x", 1)
    storage.write_record("x", RECORD)
    (tmp_path / "x_date.json").write_bytes(damage)
    assert storage.has_record("x")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        text = storage.read_record("x")
    if text is None:
        assert str(tmp_path / "x_date.json") in str(told[0].message)
    else:
        assert _is_no_record(text)
        assert not told
    storage.write_record("x", RECORD)
    assert storage.read_record("x") == RECORD


def _is_no_record(text: str) -> bool:
    try:
        Record.from_json("x", text)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("make", [NpyStorageInterface, NpzStorageInterface, PickleFiles])
@pytest.mark.parametrize("damage", [b"", b"?", b"\x93NUMPY", b"PK\x03\x04"])
def test_a_damaged_side_car_of_the_predecessor_is_missing(
    tmp_path: Path, make: Callable[[Path], FileBasedStorageInterface], damage: bytes
) -> None:
    storage = make(tmp_path)
    storage.save("x", 1)
    (tmp_path / f"x_date{storage.file_ext}").write_bytes(damage)
    with pytest.warns(SmmWarning, match="the side-car of metric 'x' in .* is damaged"):
        assert storage.read_record("x") is None


def test_a_deleted_side_car_takes_every_form_with_it(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    storage.save("x", 1)
    storage.save("x_date", "unfinished")
    storage.delete("x_date")
    assert not storage.exists("x_date")
    assert storage.exists("x")
    storage.write_record("x", RECORD)
    storage.delete("x_date")
    assert not storage.has_record("x")


# --- damage ----------------------------------------------------------------------------------------------

DAMAGED: list[tuple[Callable[[Path], OfFiles], Any]] = [
    (NpzStorageInterface, [np.arange(20.0), "text", (None,)]),
    (lambda place: NpzStorageInterface(place, compress=True), {"a": np.arange(20.0)}),
    (NpyStorageInterface, np.arange(20.0)),
    (JsonStorageInterface, [1.5, "text", {"a": None}]),
]


@pytest.mark.parametrize(("make", "value"), DAMAGED, ids=["npz", "npz compressed", "npy", "json"])
def test_a_file_cut_anywhere_is_damaged(tmp_path: Path, make: Callable[[Path], OfFiles], value: Any) -> None:
    storage = make(tmp_path)
    storage.save("x", value)
    path = tmp_path / ("x" + storage.file_ext)
    whole = path.read_bytes()
    for length in range(0, len(whole), 1 if len(whole) < 300 else 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptMetricError) as caught:
            storage.load("x")
        assert caught.value.path == path
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(("make", "value"), DAMAGED, ids=["npz", "npz compressed", "npy", "json"])
@given(data=st.data())
def test_a_changed_byte_is_damage_under_the_same_stamp(
    tmp_path: Path, make: Callable[[Path], OfFiles], value: Any, data: st.DataObject
) -> None:
    storage = make(tmp_path)
    staged = storage.stage("x", value)
    staged.publish()
    path = tmp_path / ("x" + storage.file_ext)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert staged.stamp is not None
    os.utime(path, ns=(staged.stamp.mtime_ns, staged.stamp.mtime_ns))
    with pytest.raises(CorruptMetricError, match="check sum"):
        storage.load_verified("x", staged.stamp)


@given(data=st.data())
def test_a_changed_byte_in_an_npz_is_seen_without_a_stamp(tmp_path: Path, data: st.DataObject) -> None:
    storage = NpzStorageInterface(tmp_path)
    value = {"a": np.arange(20.0), "b": [1, "text"]}
    storage.save("x", value)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "x.npz").write_bytes(content)
    try:
        loaded = storage.load("x")
    except (CorruptMetricError, NewerFormatError):
        return
    assert alike(loaded, value), "a byte that says nothing"


@pytest.mark.parametrize("make", OWN)
@given(content=st.binary(max_size=100))
def test_any_bytes_are_data_or_damage(
    tmp_path: Path, make: Callable[[Path], OfFiles], content: bytes
) -> None:
    storage = make(tmp_path)
    (tmp_path / ("x" + storage.file_ext)).write_bytes(content)
    try:
        loaded = storage.load("x")
    except CorruptMetricError:
        return
    assert isinstance(storage, JsonStorageInterface)
    assert alike(loaded, json.loads(content))


@pytest.mark.parametrize(
    "make", [NpzStorageInterface, NpyStorageInterface, JsonStorageInterface, PickleFiles]
)
def test_what_someone_put_there_is_believed(
    tmp_path: Path, make: Callable[[Path], FileBasedStorageInterface]
) -> None:
    storage, other = make(tmp_path / "mine"), make(tmp_path / "other")
    staged = storage.stage("x", [1, 2])
    staged.publish()
    other.save("x", [3, 4])
    shutil.copy(other.metrics_dir / ("x" + other.file_ext), storage.metrics_dir)
    assert list(storage.load_verified("x", staged.stamp)) == [3, 4]


def test_a_touched_file_is_believed(tmp_path: Path) -> None:
    storage = NpyStorageInterface(tmp_path)
    staged = storage.stage("x", [1, 2])
    staged.publish()
    os.utime(tmp_path / "x.npy")
    assert storage.load_verified("x", staged.stamp).tolist() == [1, 2]


def test_deep_json_of_others_is_damage_and_no_crash(tmp_path: Path) -> None:
    storage = JsonStorageInterface(tmp_path)
    (tmp_path / "x.json").write_bytes(b'{"[": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    with pytest.raises(CorruptMetricError, match="nested more than 100 deep"):
        storage.load("x")


def test_errors_of_the_system_pass_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = NpzStorageInterface(tmp_path)
    storage.save("x", 1)

    def no_memory(*_: Any, **__: Any) -> Any:
        raise MemoryError

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(5, "Input/output error")

    for failure, kind in ((no_memory, MemoryError), (broken, OSError)):
        monkeypatch.setattr("smm.storage.read_whole", failure)
        with pytest.raises(kind) as caught:
            storage.load("x")
        assert not isinstance(caught.value, errors.SmmError)
        assert caught.value.__notes__ == [f"while loading metric 'x' from {tmp_path / 'x.npz'}"]


def test_an_error_of_ones_own_format_passes_with_a_note(tmp_path: Path) -> None:
    storage = PickleFiles(tmp_path)
    (tmp_path / "x.pickle").write_bytes(b"?")
    with pytest.raises(pickle.UnpicklingError) as caught:
        storage.load("x")
    assert caught.value.__notes__ == [f"while loading metric 'x' from {tmp_path / 'x.pickle'}"]
    with pytest.raises(AttributeError) as caught_saving:
        storage.save("y", lambda: None)
    assert caught_saving.value.__notes__ == [f"while storing metric 'y' in {tmp_path}"]
    assert os.listdir(tmp_path / ".smm" / "tmp") == []
    assert not storage.exists("y")


# --- fsync -----------------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to files, in order: `sync x`, `move x`, `remove x`; a file on its way is `aside`."""
    taken: list[str] = []
    replace, unlink, fsync = os.replace, os.unlink, os.fsync

    def noted_replace(source: str, target: str, **how: Any) -> None:
        replace(source, target, **how)
        taken.append(f"move {os.path.basename(target)}")

    def noted_unlink(path: str, **how: Any) -> None:
        unlink(path, **how)
        taken.append(f"remove {os.path.basename(path)}")

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        taken.append("sync aside" if path.parent.name == "tmp" else f"sync {path.name}")

    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(os, "unlink", noted_unlink)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    return taken


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which file a descriptor is of")
def test_with_fsync_each_step_is_on_the_disk_before_the_next(tmp_path: Path, steps: list[str]) -> None:
    storage = JsonStorageInterface(tmp_path / "r", fsync=True)
    cm = DatedCacheManager(storage, verbose=False)
    cm.set_functions_dict({"a": lambda: 1, "b": lambda: 2})
    cm.get("a")
    steps.clear()
    cm.get("b")
    assert steps == ["sync aside", "move b.json", "sync aside", "move b_date.json", "sync r"]
    steps.clear()
    cm.get("b", use_stored=False)
    data = ["sync aside", "remove b_date.json", "sync r", "move b.json", "sync r"]
    assert steps == [*data, "sync aside", "move b_date.json", "sync r"]
    for _ in range(2):
        steps.clear()
        storage.save("c", 3)
        assert steps == ["sync aside", "move c.json", "sync r"]


def test_without_fsync_nothing_waits_for_the_disk(tmp_path: Path, steps: list[str]) -> None:
    cm = DatedCacheManager(JsonStorageInterface(tmp_path), verbose=False)
    cm.set_functions_dict({"a": lambda: 1})
    cm.get("a")
    assert steps[:2] == ["move a.json", "move a_date.json"]
    assert not [step for step in steps if step.startswith("sync")]


# --- names that are none, and the one rule for file names ------------------------------------------------


@pytest.mark.parametrize("make", [JsonStorageInterface, lambda _: MemoryStorageInterface()])
@pytest.mark.parametrize("name", [5, None, b"x", ["x"]])
def test_a_name_that_is_no_str_is_said_so(tmp_path: Path, make: Callable[[Path], Any], name: Any) -> None:
    storage = make(tmp_path / "results")
    attempts: list[Callable[[], object]] = [
        lambda: storage.load(name),
        lambda: storage.exists(name),
        lambda: storage.save(name, 1),
        lambda: storage.delete(name),
    ]
    for attempt in attempts:
        with pytest.raises(MetricNameError) as caught:
            attempt()
        assert isinstance(caught.value, TypeError)
        said = f"is of class {type(name).__name__}, not str; give the name of a metric"
        assert str(caught.value) == f"metric name {repr(name)!r} {said}"
    assert os.listdir(tmp_path) == []


odd_names = st.text(st.sampled_from("%2Exy._/ é~-") | st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize("make", OWN)
@given(
    names=st.sets(odd_names.filter(lambda name: not name.endswith("_date") and len(name) < 20), max_size=5)
)
@example(names={".x", "..", "%2Ex", ".", "%2E.", "x", ".x.npz", "%2Ex.npz"})
def test_what_is_listed_is_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, make: Callable[[Path], OfFiles], names: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("listed")
    storage = make(folder)
    for name in names:
        storage.save(name, 1)
        storage.write_record(name, RECORD)
    assert storage.names() == storage.recorded() == names
    assert all(map(storage.exists, names))
    if names:
        shelf = shelf_of(storage)
        assert {data_file(shelf, name) for name in names} == {
            path for path in folder.iterdir() if path.is_file() and not path.name.endswith("_date.json")
        }
        assert {verdict.name for verdict in verify(storage)} == names


@pytest.mark.parametrize("make", OWN)
def test_hidden_files_are_nobodys(tmp_path: Path, make: Callable[[Path], OfFiles]) -> None:
    """They might be taken for what the predecessor wrote of `.x`, which it did not."""
    storage = make(tmp_path)
    storage.save("y", 1)
    storage.write_record("y", RECORD)
    for file in (f".x{storage.file_ext}", ".z_date.json"):
        (tmp_path / file).write_text(RECORD)
    shelf = shelf_of(storage)
    assert storage.names() == {"y"}
    assert data_file(shelf, ".x") is None
    assert sidecar_file(shelf, ".z") is None
    assert {one.name for one in gc(DatedCacheManager(storage, verbose=False), unknown=True)} == {"y"}
    assert not [name for name in (".x", ".z") if storage.exists(name) or storage.has_record(name)]
