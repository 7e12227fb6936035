"""Every stored byte held against its record and its format."""

from __future__ import annotations

import json
import os
import shutil
import weakref
from pathlib import Path
from typing import Any

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
from smm.errors import SmmWarning, StorageAbilityError, TargetError, UnknownMetricError
from smm.maintain import Verdict, verify
from smm.testing import files_below
from tests.commands import run_cli as smm
from tests.projects import Project, project
from tests.stores import DictStorage, NumpyFiles, PickleFiles

__all__ = ["project"]

LEGACY = Path(__file__).parent / "data" / "legacy_store_0_5"


def filled(storage: Any, **values: Any) -> DatedCacheManager:
    CM = DatedCacheManager(storage, verbose=False)
    CM.set_functions_dict({name: (lambda value=value: value) for name, value in values.items()})
    for name in values:
        CM.get(name)
    CM.clear_cache()
    return CM


def problems(store: Any, names: Any = None) -> dict[str, tuple[str | None, str | None]]:
    return {verdict.name: (verdict.trouble, verdict.problem) for verdict in verify(store, names)}


def flip(path: Path, position: int, mask: int, *, keep_time: bool) -> None:
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= mask
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- what is damaged ------------------------------------------------------------------------------------

STORAGES: dict[str, Any] = {
    "npz": NpzStorageInterface,
    "compressed": lambda folder: NpzStorageInterface(folder, compress=True),
    "npy": NpyStorageInterface,
    "json": JsonStorageInterface,
    "subclass": PickleFiles,
}


@pytest.mark.parametrize("kind", STORAGES)
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_any_flipped_byte_is_found(
    kind: str, tmp_path_factory: pytest.TempPathFactory, position: int, mask: int, keep_time: bool
) -> None:
    folder = tmp_path_factory.mktemp("store")
    CM = filled(STORAGES[kind](folder), x=[1.5, 2.5, -3.0], y=[1, 2])
    assert problems(CM) == {"x": (None, None), "y": (None, None)}
    (path,) = folder.glob(f"x{CM.storage_interface.file_ext}")  # type: ignore[attr-defined]
    flip(path, position, mask, keep_time=keep_time)
    found = {verdict.name: verdict for verdict in verify(CM)}
    assert found["y"].problem is None
    assert found["x"].path == path
    assert found["x"].problem
    if keep_time:
        assert found["x"].trouble == "damaged"
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", STORAGES)
def test_a_file_cut_short_is_found(kind: str, tmp_path: Path) -> None:
    CM = filled(STORAGES[kind](tmp_path), x=[1.5, 2.5, -3.0])
    (path,) = tmp_path.glob(f"x{CM.storage_interface.file_ext}")  # type: ignore[attr-defined]
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        (verdict,) = verify(CM)
        assert verdict.trouble in ("damaged", "replaced", "unreadable")
        assert verdict.size == length
    path.write_bytes(whole)  # a copy has another time, and is as good
    assert problems(CM) == {"x": (None, None)}


def test_the_reason_is_the_most_telling_one(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), x=np.arange(100.0), y=np.arange(100.0), z=1)
    flip(tmp_path / "x.npz", 1000, 1, keep_time=True)
    flip(tmp_path / "y.npz", 500, 1, keep_time=False)
    (tmp_path / "z.npz").write_bytes(b"")
    assert problems(CM) == {
        "x": ("damaged", "its check sum is not the one noted when it was written"),
        "y": ("damaged", "'arr_0.npy': the check sum of 'arr_0.npy' is wrong"),
        "z": ("damaged", "empty"),
    }


def test_a_whole_file_that_is_not_the_stored_one(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    CM = filled(storage, x=1.0, y=np.arange(3.0))
    storage.save("x", 2.0)
    storage.save("y", np.arange(4.0))
    found = problems(CM)
    sum_differs = "its check sum is not the one noted when it was written"
    assert found["x"] == ("replaced", f"it is whole, but not the file that was stored: {sum_differs}")
    assert found["y"][0] == "replaced"
    assert "bytes, where its record notes" in (found["y"][1] or "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "its side-car is no record"),
        ("{", "its side-car is no record"),
        ('{"smm_record": 1, "name": "x"}', "its side-car is no record"),
        (b"\xff\xfe", "its side-car cannot be read"),
        ('{"smm_record": 1, "name": "y", "date": "2026-01-31"}', "its side-car was written for 'y'"),
        ("yesterday", "its side-car is no record"),
    ],
)
def test_side_cars_that_are_damaged(text: str | bytes, problem: str, tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), x=1)
    sidecar = tmp_path / "x_date.json"
    sidecar.write_bytes(text if isinstance(text, bytes) else text.encode())
    if isinstance(text, bytes):
        with pytest.warns(SmmWarning, match="the side-car of metric 'x'"):
            (verdict,) = verify(tmp_path)
    else:
        (verdict,) = verify(tmp_path)
    assert (verdict.trouble, verdict.problem, verdict.path) == ("side-car", problem, sidecar)
    sidecar.write_text("yesterday")
    (tmp_path / "x.npz").write_bytes(b"")
    (verdict,) = verify(tmp_path)
    assert (verdict.trouble, verdict.problem) == ("damaged", "empty; its side-car is no record")


def test_formats_of_later_versions(tmp_path: Path) -> None:
    from smm._zip import ZipWriter

    CM = filled(NpzStorageInterface(tmp_path), x=1, y=1)
    with open(tmp_path / "x.npz", "wb") as file:
        archive = ZipWriter(file)
        archive.add("smm.json", b'{"smm_npz": 2}')
        archive.close()
    record = json.loads((tmp_path / "y_date.json").read_text()) | {"smm_record": 2}
    (tmp_path / "y_date.json").write_text(json.dumps(record))
    found = problems(CM)
    assert found["x"] == ("newer", "it is written in npz layout 2, this smm reads up to npz layout 1")
    assert found["y"] == ("newer", "its side-car is a record of version 2, this smm reads up to 1")


def test_pickled_objects_are_read_only_where_they_may_be(tmp_path: Path) -> None:
    allowing = NpzStorageInterface(tmp_path, allow_pickle=True)
    filled(allowing, x=np.array([{1}, None]))
    assert problems(allowing) == {"x": (None, None)}
    trouble, problem = problems(NpzStorageInterface(tmp_path))["x"]
    assert trouble == "pickled"
    assert "allow_pickle=True" in (problem or "")
    flip(tmp_path / "x.npz", 100, 1, keep_time=False)
    assert problems(NpzStorageInterface(tmp_path))["x"][0] == "damaged"


def test_what_the_system_does_not_give_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CM = filled(NpzStorageInterface(tmp_path), x=1, y=2, z=3)
    whole = NpzStorageInterface.load_verified
    errors = {"x": PermissionError(13, "Permission denied", "x.npz"), "y": MemoryError()}

    def refusing(self: NpzStorageInterface, name: str, stamp: Any) -> Any:
        if name in errors:
            raise errors[name]
        return whole(self, name, stamp)

    monkeypatch.setattr(NpzStorageInterface, "load_verified", refusing)
    assert problems(CM) == {
        "x": ("unreadable", "it cannot be read: Permission denied"),
        "y": ("unreadable", "it does not fit into memory"),
        "z": (None, None),
    }


def test_a_side_car_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CM = filled(NpzStorageInterface(tmp_path), x=1)
    path = str(tmp_path / "x_date.json")

    def refusing(self: NpzStorageInterface, name: str) -> str | None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(NpzStorageInterface, "read_record", refusing)
    (verdict,) = verify(CM)
    assert (verdict.trouble, verdict.problem) == ("unreadable", "it cannot be read: Permission denied")
    assert verdict.path == Path(path)


# --- what is fine ---------------------------------------------------------------------------------------


def test_a_verdict_tells_what_was_checked(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path)
    filled(storage, x=1)
    storage.save("bare", 2)
    size = (tmp_path / "x.npz").stat().st_size
    bare, x = verify(tmp_path)
    assert x == Verdict(
        name="x", problem=None, trouble=None, path=tmp_path / "x.npz", size=size, against="record"
    )
    assert (bare.name, bare.problem, bare.against) == ("bare", None, "format")


@pytest.mark.parametrize("kind", ["npz", "npy", "json"])
def test_a_store_of_the_predecessor_is_checked_by_its_format(kind: str, tmp_path: Path) -> None:
    shutil.copytree(LEGACY / kind, tmp_path / kind)
    found = list(verify(tmp_path / kind))
    assert {verdict.problem for verdict in found} == {None}
    assert {verdict.against for verdict in found} == {"format"}
    assert "poly_Y_1p5_lo" in {verdict.name for verdict in found}
    (tmp_path / kind / f"single.{kind}").write_bytes(b"{")
    assert problems(tmp_path / kind)["single"][0] == "damaged"


def test_names_the_predecessor_wrote_bare(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), **{"ü x": 1})
    for ending in (".npz", "_date.json"):
        (stored,) = (path for path in tmp_path.glob(f"*{ending}"))
        stored.rename(tmp_path / f"ü x{ending}")
    (verdict,) = verify(tmp_path)
    assert (verdict.name, verdict.problem, verdict.path) == ("ü x", None, tmp_path / "ü x.npz")


@pytest.mark.parametrize(
    "storage", [MemoryStorageInterface(), DictStorage()], ids=["memory", "three methods"]
)
def test_storages_without_files(storage: Any) -> None:
    CM = filled(storage, x=1, y=[1.5])
    assert [(verdict.name, verdict.problem, verdict.path) for verdict in verify(CM)] == [
        ("x", None, None),
        ("y", None, None),
    ]


def test_a_users_class_that_fails_to_read(tmp_path: Path) -> None:
    CM = filled(NumpyFiles(tmp_path), x=np.arange(3.0), y=np.arange(2.0))
    (tmp_path / "x.npy").write_bytes(b"nothing")
    found = problems(CM)
    assert found["y"] == (None, None)
    assert found["x"][0] == "unreadable"
    assert "ValueError" in (found["x"][1] or "")
    with pytest.raises(StorageAbilityError, match="NumpyFiles has no method 'names'"):
        verify(CM.storage_interface)


def test_what_is_deleted_meanwhile_is_no_problem(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path), x=1, y=2)
    going = verify(CM)
    assert next(going).name == "x"
    CM.delete("y")
    assert list(going) == []


def test_what_is_replaced_meanwhile_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CM = filled(NpzStorageInterface(tmp_path), x=1.0)
    whole = NpzStorageInterface.load_verified
    replaced: list[str] = []

    def replacing(self: NpzStorageInterface, name: str, stamp: Any) -> Any:
        if not replaced:
            replaced.append(name)
            CM.set_functions_dict({"x": lambda: 2.0})
            CM.get("x", use_stored=False)
        return whole(self, name, stamp)

    monkeypatch.setattr(NpzStorageInterface, "load_verified", replacing)
    assert problems(CM) == {"x": (None, None)}
    assert replaced == ["x"]


# --- names, memory and folders --------------------------------------------------------------------------


def test_names_are_metrics_base_names_and_globs(tmp_path: Path) -> None:
    CM = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)

    @CM.collect(params_list=[[1], [2]])
    def slope(n: int) -> int:
        return n

    @CM.collect
    def unstored() -> int:
        return 1

    for n in (1, 2):
        CM.slope(n)
    for store in (CM, tmp_path):
        assert set(problems(store, ["slope"])) == {"slope_1", "slope_2"}
        assert set(problems(store, ["slope_2"])) == {"slope_2"}
        assert set(problems(store, ["*_1"])) == {"slope_1"}
        with pytest.raises(UnknownMetricError, match="did you mean 'slope'"):
            verify(store, ["slop"])
    assert problems(CM, ["unstored"]) == {}


class Counting(DictStorage):
    """Counts the values that somebody holds."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.most = 0

    def load(self, name: str) -> Any:
        value = super().load(name)
        if isinstance(value, np.ndarray):
            value = value.copy()
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(value, self._gone)
        return value

    def _gone(self) -> None:
        self.alive -= 1


def test_one_value_is_held_at_a_time_and_none_in_memory() -> None:
    storage = Counting()
    CM = filled(storage, **{f"x{n}": np.arange(float(n)) for n in range(1, 6)})
    assert storage.alive == 0
    storage.most = 0
    assert [verdict.problem for verdict in verify(CM)] == [None] * 5
    assert (storage.most, storage.alive) == (1, 0)
    assert len(CM.cache) == 0


def test_verifying_writes_nothing(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), x=1, y=2)
    shutil.rmtree(tmp_path / ".smm")
    flip(tmp_path / "x.npz", 50, 1, keep_time=True)
    before = files_below(tmp_path)
    assert problems(tmp_path)["x"][0] == "damaged"
    assert files_below(tmp_path) == before
    assert not (tmp_path / ".smm").exists()


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="is an empty folder"):
        verify(tmp_path)
    assert problems(NpzStorageInterface(tmp_path / "none")) == {}


# --- the command ----------------------------------------------------------------------------------------

CODE = """
    import numpy as np
    def walk(seed): return np.random.default_rng(seed).normal(size=30).cumsum()
"""
CONFIG = "metrics: {walk: {function: verify_code.walk, params_list: [1, 2, 3]}}"


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("verify_code.py", CODE)
    project.write("metrics.yaml", CONFIG)
    monkeypatch.chdir(project.folder)
    assert smm("run", "metrics.yaml", "--no-progress").exit_code == 0
    return project


@pytest.mark.parametrize("target", ["metrics.yaml", "results"])
def test_whole_stores_are_exit_code_0(here: Project, target: str) -> None:
    result = smm("verify", target)
    assert result.exit_code == 0
    assert result.stdout.startswith("3 of 3 are whole, ")


def test_damage_is_exit_code_1_and_named(here: Project) -> None:
    flip(here.folder / "results" / "walk_2.npz", 300, 8, keep_time=True)
    (here.folder / "results" / "walk_3_date.json").unlink()
    result = smm("verify", "metrics.yaml")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[1].split()[:2] == ["walk_2", "damaged"]
    assert lines[1].endswith("results/walk_2.npz")
    assert lines[-2].startswith("2 of 3 are whole, ")
    assert lines[-1] == "1 of these by their format alone: no record notes their check sum"
    assert smm("verify", "metrics.yaml", "walk_1").exit_code == 0


def test_verify_as_json(here: Project) -> None:
    flip(here.folder / "results" / "walk_2.npz", 300, 8, keep_time=True)
    result = smm("verify", "metrics.yaml", "--json", "walk")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["checked"], found["damaged"]) == (3, 1)
    assert [one["trouble"] for one in found["metrics"]] == [None, "damaged", None]
    assert found["metrics"][1]["path"].endswith("results/walk_2.npz")
    assert found["metrics"][1]["against"] == "record"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["metrics.yaml", "walks"], "no metric 'walks': it is neither stored nor declared; did you mean"),
        (["results", "--set", "a=b"], "'results' is a folder, where --set changes nothing"),
        (["."], "'.' is a folder without results; did you mean 'results'?"),
        (["nope"], "'nope' is no file"),
    ],
)
def test_wrong_usage_is_exit_code_2(here: Project, arguments: list[str], message: str) -> None:
    result = smm("verify", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_many_damaged_ones_are_counted(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), **{f"x{n}": n for n in range(30)})
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(b"")
    lines = smm("verify", str(tmp_path)).stdout.splitlines()
    assert "and 10 more; --json lists them all" in lines
    assert lines[-1] == "0 of 30 are whole, 0 B read"
