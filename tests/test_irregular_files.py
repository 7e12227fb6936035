"""Stores in which somebody has put links, pipes, devices and folders in the place of files."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smm import DatedCacheManager, NpzStorageInterface, _files, _folders, _reading
from smm._code_archive import kept
from smm._locks import folder_lock
from smm._reading import open_file, read_text
from smm.errors import MetricNotStoredError, SmmWarning, StoreFileError
from smm.maintain import Garbage, gc, remove, rename, status, verify
from tests.stores import PickleFiles

pytestmark = pytest.mark.timeout(30, method="signal")  # what waits for a pipe waits for ever

DAY = 24 * 3600
DIGEST = "0123456789abcdef"


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be swept, looked at or said before."""
    monkeypatch.setattr(_files, "_swept", set())
    monkeypatch.setattr(_folders, "_looked_at", set())
    monkeypatch.setattr(_reading, "_said", set())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with the metrics `x` and `y`, where `y` reads `x`, and a log of a run."""
    cm = made(tmp_path / "results")
    cm.run()
    _files._swept.clear()
    _folders._looked_at.clear()
    return tmp_path / "results"


def made(folder: Path) -> DatedCacheManager:
    cm = DatedCacheManager(NpzStorageInterface(folder), verbose=False)
    cm.set_functions_dict({"x": one, "y": lambda: cm["x"] + 1, "missing": fails})
    return cm


def one() -> float:
    return 1.0


def fails() -> float:
    raise ValueError("no")


def age(path: Path, seconds: float = 9 * DAY) -> None:
    then = path.lstat().st_mtime - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


KINDS: dict[str, Callable[[Path], None]] = {"pipe": pipe, "device": device, "folder": directory}
every_kind = pytest.mark.parametrize("put", KINDS.values(), ids=KINDS)


@contextlib.contextmanager
def warned_of(*parts: str) -> Iterator[None]:
    """Expect one warning, with these words in it."""
    with pytest.warns(SmmWarning) as told:
        yield
    (message,) = {str(one.message) for one in told}
    for part in parts:
        assert part in message


# --- links that lead out of the store --------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of somebody else's, in which the files are old, and named as smm's temporary files are."""
    folder = tmp_path / "theirs"
    (folder / "tmp").mkdir(parents=True)
    (folder / "runs").mkdir()
    for path in (folder / "0123456789abcdef0123456789abcdef.npz", folder / "tmp" / ("0" * 32)):
        path.write_bytes(b"theirs")
        age(path)
    (folder / "runs" / "2020-01-01T00-00-00.000000.jsonl").write_bytes(b"theirs")
    age(folder / "runs" / "2020-01-01T00-00-00.000000.jsonl", 100 * DAY)
    return folder


def snapshot(folder: Path) -> dict[Path, Any]:
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def link_to_theirs(folder: Path, place: str, theirs: Path) -> Path:
    """Move what is at a place in the store away, and put a link there."""
    path = folder / place
    if path.exists():
        path.rename(folder.parent / "moved away")
    path.symlink_to(theirs)
    return path


@pytest.mark.parametrize("place", [".smm", ".smm/tmp"])
def test_nothing_is_written_or_swept_through_a_link(folder: Path, place: str, theirs: Path) -> None:
    link = link_to_theirs(folder, place, theirs)
    cm, before, stored = made(folder), snapshot(theirs), snapshot(folder)
    attempts: list[Callable[[], Any]] = [
        lambda: cm.storage_interface.save("z", 1.0),
        lambda: NpzStorageInterface(folder).write_record("x", "{}"),
        lambda: NpzStorageInterface(folder).check("z"),
        lambda: PickleFiles(folder).save("z", 1.0),
    ]
    for attempt in attempts:
        with pytest.raises(StoreFileError) as caught:
            attempt()
        assert caught.value.filename == str(link)
        assert str(caught.value) == (
            f"{link} is a link, which smm does not follow; remove the link, and smm makes a folder there"
        )
    assert (snapshot(theirs), snapshot(folder)) == (before, stored)


@pytest.mark.filterwarnings("ignore::smm.errors.SmmWarning")
def test_a_metric_is_refused_before_it_is_computed(folder: Path, theirs: Path) -> None:
    link_to_theirs(folder, ".smm", theirs)
    cm, before = made(folder), snapshot(theirs)
    cm.set_functions_dict({"z": lambda: pytest.fail("computed")})
    with pytest.raises(StoreFileError, match="is a link, which smm does not follow"):
        cm.get("z")
    assert snapshot(theirs) == before


def test_results_are_read_and_the_link_is_named_once(folder: Path, theirs: Path) -> None:
    link = link_to_theirs(folder, ".smm", theirs)
    before = snapshot(theirs)
    with warned_of(f"{link} is a link", "results are read, but none can be stored", "remove the link"):
        assert made(folder).get("x") == 1.0
    assert made(folder).get("y") == 2.0
    assert snapshot(theirs) == before


def test_no_lock_is_taken_through_a_link(folder: Path, theirs: Path) -> None:
    link = link_to_theirs(folder, ".smm", theirs)
    before = snapshot(theirs)
    with warned_of(f"{link} is a link"), folder_lock(folder, "x", waiting=lambda _: None):
        pass
    assert snapshot(theirs) == before


@pytest.mark.parametrize("place", [".smm", ".smm/tmp", ".smm/runs"])
def test_nothing_is_collected_through_a_link(folder: Path, place: str, theirs: Path) -> None:
    found = [
        Garbage(kind="temporary", name="0" * 32, path=folder / ".smm" / "tmp" / ("0" * 32), size=6),
        Garbage(kind="log", name="a", path=folder / ".smm/runs/2020-01-01T00-00-00.000000.jsonl", size=6),
    ]
    link_to_theirs(folder, place, theirs / "runs" if place.endswith("runs") else theirs)
    cm, before = made(folder), snapshot(theirs)
    with pytest.raises(StoreFileError, match="is a link"):
        gc(cm, keep_logs=0)
    for one in found:
        with contextlib.suppress(StoreFileError):
            assert list(remove(cm, [one])) == []
    assert snapshot(theirs) == before


def test_no_log_is_written_or_read_through_a_link(folder: Path, theirs: Path) -> None:
    link = link_to_theirs(folder, ".smm/runs", theirs / "runs")
    before = snapshot(theirs)
    with warned_of(f"{link} is a link", "the logs of runs are not read"):
        assert status(made(folder)).metrics
    cm = made(folder)
    cm.delete("x")
    with warned_of("the run goes on without its log", f"{link} is a link"):
        assert cm.run(["x"]).of("computed")
    assert snapshot(theirs) == before


def test_no_source_is_kept_or_read_through_a_link(folder: Path, theirs: Path) -> None:
    (theirs / f"{DIGEST}.py").write_text("theirs")
    link = link_to_theirs(folder, ".smm/code", theirs)
    before = snapshot(theirs)
    with warned_of(f"{link} is a link", "the source of the code"):
        assert kept(folder, DIGEST) is None
    other = DatedCacheManager(NpzStorageInterface(folder), verbose=False)
    other.set_functions_dict({"z": one})
    other.get("z")
    assert snapshot(theirs) == before


def test_no_renaming_is_noted_through_a_link(folder: Path, theirs: Path) -> None:
    link_to_theirs(folder, ".smm", theirs)
    before = snapshot(theirs)
    with pytest.raises(StoreFileError, match="is a link, which smm does not follow"):
        rename(made(folder), "x", "z")
    assert snapshot(theirs) == before


def test_only_files_named_as_smm_names_them_are_swept(folder: Path) -> None:
    tmp = folder / ".smm" / "tmp"
    mine = [tmp / ("0" * 32), tmp / ("1" * 32 + ".npz"), tmp / ("2" * 32 + ".db-journal")]
    others = [tmp / "notes.txt", tmp / ("3" * 31 + ".npz"), tmp / ("A" * 32), tmp / ("4" * 33)]
    for path in (*mine, *others):
        path.write_bytes(b"?")
        age(path)
    link = tmp / ("5" * 32)
    link.symlink_to(others[0])
    age(link)
    NpzStorageInterface(folder).save("z", 1.0)
    assert sorted(tmp.iterdir()) == sorted([*others, link])


SWAPPING = """
    import os, sys
    from pathlib import Path
    from smm import NpzStorageInterface
    from smm.errors import StoreFileError

    folder, theirs = Path(sys.argv[1]), sys.argv[2]
    storage = NpzStorageInterface(folder)
    own, away = folder / ".smm", folder / "away"
    if os.fork() == 0:  # exchanges `.smm` and a link all the time
        while os.getppid() == PARENT:
            os.rename(own, away)
            os.symlink(theirs, own)
            os.unlink(own)
            os.rename(away, own)
        os._exit(0)
    refused = saved = 0
    for turn in range(3_000):
        try:
            storage.save("z", float(turn))
            saved += 1
        except (StoreFileError, OSError):
            refused += 1
    print(saved > 0)
"""


def test_who_exchanges_the_folder_meanwhile_gets_nothing(tmp_path: Path, theirs: Path) -> None:
    NpzStorageInterface(tmp_path / "r").save("z", 0.0)
    before = snapshot(theirs)
    script = "\n".join(line.removeprefix("    ") for line in SWAPPING.splitlines())
    script = script.replace("PARENT", "parent").replace(
        "import os, sys", "import os, sys; parent = os.getpid()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "r"), str(theirs)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "True\n", done.stderr
    assert snapshot(theirs) == before


# --- links that people place -----------------------------------------------------------------------------


def test_data_and_side_cars_may_be_links_to_files(folder: Path) -> None:
    """git-annex and DVC put links in the place of files."""
    elsewhere = folder.parent / "annex"
    elsewhere.mkdir()
    for file in ("x.npz", "x_date.json"):
        (folder / file).rename(elsewhere / file)
        (folder / file).symlink_to(elsewhere / file)
    cm = made(folder)
    assert cm.get("x") == 1.0
    assert cm.record("x").base_name is None
    assert not [verdict for verdict in verify(cm) if verdict.problem]
    kept_there = snapshot(elsewhere)
    cm.get("x", use_stored=False)
    assert snapshot(elsewhere) == kept_there, "a link is replaced, not followed"
    assert not (folder / "x.npz").is_symlink()
    assert not (folder / "x_date.json").is_symlink()


def test_the_folder_of_results_may_be_a_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    cm = made(folder.parent / "link")
    assert cm.get("x", use_stored=False) == 1.0
    assert made(folder).get("x") == 1.0


# --- pipes, devices and folders in the place of files ----------------------------------------------------


@every_kind
def test_data_that_is_none_counts_as_missing(folder: Path, put: Callable[[Path], None]) -> None:
    put(folder / "x.npz")
    storage = NpzStorageInterface(folder)
    assert not storage.exists("x")
    assert storage.names() == storage.recorded() == {"y"}
    for load in (storage.load, NpzStorageInterface(folder, mmap=True).load):
        with pytest.raises(MetricNotStoredError, match=r"x\.npz is a "):
            load("x")
    cm = made(folder)
    if put is directory:
        with pytest.raises(StoreFileError, match=r"x\.npz is a folder; move it away") as caught:
            cm.get("x")
        assert caught.value.filename == str(folder / "x.npz")
    else:
        assert cm.get("x") == 1.0
        assert (folder / "x.npz").is_file()
        assert not (folder / "x.npz").is_symlink()


@every_kind
def test_data_of_a_users_format_that_is_none(tmp_path: Path, put: Callable[[Path], None]) -> None:
    storage = PickleFiles(tmp_path)
    storage.save("x", 1)
    put(tmp_path / "x.pickle")
    with pytest.raises(MetricNotStoredError, match=r"x\.pickle is a "):
        storage.load("x")


@every_kind
def test_a_side_car_that_is_none_is_missing_and_named(folder: Path, put: Callable[[Path], None]) -> None:
    path = folder / "x_date.json"
    put(path)
    cm = made(folder)
    with warned_of(f"{path} is a ", "the side-car of metric 'x' cannot be read, and counts as missing"):
        assert cm.why("x")
    status(cm)
    list(verify(cm))
    if put is directory:
        with pytest.raises(OSError, match="directory") as caught:
            cm.get("x")
        assert str(path) in str(caught.value)
    else:
        assert cm.get("x") == 1.0
        assert cm.record("x").date is not None


def test_a_side_car_without_end(folder: Path) -> None:
    path = folder / "x_date.json"
    with path.open("r+b") as file:
        file.truncate(_reading.RECORD_LIMIT + 1)  # takes no room on the disk
    with warned_of(f"{path} is a file of 67,108,865 bytes, and may have 67,108,864"):
        assert made(folder).get("x") == 1.0
    assert path.stat().st_size < 10_000


@every_kind
def test_a_log_that_is_none_is_passed_over(folder: Path, put: Callable[[Path], None]) -> None:
    path = folder / ".smm" / "runs" / "9999.jsonl"
    put(path)
    cm = made(folder)
    with warned_of(f"{path} is a ", "no log of a run, and passed over"):
        assert [reason.kind for reason in cm.why("missing")] == ["failed"]
    assert {one.base_name: one.failed for one in status(cm).metrics}["missing"] == 1
    cm.plan()
    assert [skipped.name for skipped in cm.run().of("skipped")] == ["missing"]
    assert gc(cm) == ()


def test_a_log_without_end(folder: Path) -> None:
    path = folder / ".smm" / "runs" / "9999.jsonl"
    with path.open("wb") as file:
        file.truncate(_reading.LOG_LIMIT + 1)
    with warned_of(f"{path} is a file of 1,073,741,825 bytes", "passed over"):
        assert [reason.kind for reason in made(folder).why("missing")] == ["failed"]


@every_kind
def test_a_source_that_is_none_is_not_shown(folder: Path, put: Callable[[Path], None]) -> None:
    (folder / ".smm" / "code").mkdir(exist_ok=True)
    path = folder / ".smm" / "code" / f"{DIGEST}.py"
    put(path)
    with warned_of(f"{path} is a "):
        assert kept(folder, DIGEST) is None


@every_kind
def test_a_note_of_a_renaming_that_is_none_is_named(folder: Path, put: Callable[[Path], None]) -> None:
    path = folder / ".smm" / "renaming.json"
    put(path)
    for attempt in (lambda: gc(made(folder)), lambda: rename(made(folder), "x", "z")):
        with pytest.raises(StoreFileError) as caught:
            attempt()
        assert caught.value.filename == str(path)


@every_kind
def test_a_lock_file_that_is_none_locks_nothing(folder: Path, put: Callable[[Path], None]) -> None:
    path = folder / ".smm" / "lock"
    put(path)
    with warned_of(f"cannot lock {path} ("), folder_lock(folder, "x", waiting=lambda _: None):
        pass
    assert made(folder).get("x", use_stored=False) == 1.0


@every_kind
def test_a_temporary_file_that_is_none_is_not_swept(folder: Path, put: Callable[[Path], None]) -> None:
    path = folder / ".smm" / "tmp" / ("0" * 32)
    put(path)
    age(path)
    made(folder).get("x", use_stored=False)
    assert gc(made(folder)) == ()
    assert path.is_symlink() or path.exists()


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    read = os.read

    def growing(descriptor: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"2" * size)
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", growing)
    with pytest.raises(StoreFileError, match="x is a file of more than 1,000 bytes"):
        read_text(str(path), 1_000)


def test_a_refused_file_leaves_no_descriptor(tmp_path: Path) -> None:
    pipe(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(StoreFileError, match="pipe is a named pipe; move it away"):
            open_file(str(tmp_path / "pipe"))
    assert len(os.listdir("/proc/self/fd")) == before
