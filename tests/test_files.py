"""Files that are whole or not there: names, modes, links, locks, sweeping, power failures."""

from __future__ import annotations

import fcntl
import os
import string
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import _files
from smm._files import NewFile, check_folder, file_stem, name_of_stem
from smm._reading import crc32, crc32_of_file, read_whole
from smm.errors import MetricNameError

ENDING = len("_date.json")
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15)
awkward = st.text(st.sampled_from("%2Fa./A\0é _~-"), min_size=1, max_size=15)
DAY = 24 * 3600


def publish(folder: Path, content: bytes, **options: Any) -> Path:
    file = NewFile(str(folder), ".npz", **options)
    file.write(content)
    file.finish()
    file.publish(str(folder / "x.npz"))
    return folder / "x.npz"


def leftovers(folder: Path) -> list[str]:
    return os.listdir(folder / ".smm" / "tmp")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("poly_Y_1_2", "poly_Y_1_2"),
        ("a~0123+,=-.b", "a~0123+,=-.b"),
        ("a.b", "a.b"),
        (".a", "%2Ea"),
        ("..", "%2E."),
        ("../a", "%2E.%2Fa"),
        ("/etc", "%2Fetc"),
        ("a b", "a%20b"),
        ("a%20b", "a%2520b"),
        ("ä", "%C3%A4"),
        ("日", "%E6%97%A5"),
        ("a\0b", "a%00b"),
        ("a\n", "a%0A"),
        ("\u2028", "%E2%80%A8"),
    ],
)
def test_file_names_are_the_metric_names(name: str, stem: str) -> None:
    assert file_stem(name, longest_ending=ENDING) == stem
    assert name_of_stem(stem) == name


@given(names | awkward)
def test_every_name_has_a_file_name_of_its_own_that_stays_in_the_folder(name: str) -> None:
    stem = file_stem(name, longest_ending=ENDING)
    assert set(stem) <= {*string.ascii_letters, *string.digits, *"._~=+,-%"}
    assert not stem.startswith(".")
    assert name_of_stem(stem) == name


@given(awkward)
def test_a_file_name_belongs_to_one_name_or_to_none(stem: str) -> None:
    name = name_of_stem(stem)
    assert name is None or file_stem(name, longest_ending=0) == stem


@pytest.mark.parametrize("stem", ["%2e", "%", "%2", "%41", "a/b", ".a", "", "%FF", "a%2", "%ED%A0%80"])
def test_files_of_others_have_no_name(stem: str) -> None:
    assert name_of_stem(stem) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty; give the metric a name"),
        ("\ud800", "has a character that no file name can hold (a lone surrogate); leave it out"),
        ("a" * 246, "takes 246 bytes as a file name, 245 at most; shorten it, "),
        ("ä" * 42, "takes 252 bytes as a file name, 245 at most; shorten it, "),
    ],
)
def test_names_that_no_file_can_have(name: str, reason: str) -> None:
    with pytest.raises(MetricNameError) as caught:
        file_stem(name, longest_ending=ENDING)
    assert reason in str(caught.value)
    assert caught.value.name == name


def test_the_longest_name_makes_files_of_255_bytes(tmp_path: Path) -> None:
    stem = file_stem("a" * 245, longest_ending=ENDING)
    (tmp_path / (stem + "_date.json")).touch()
    assert len(os.listdir(tmp_path)[0]) == 255


# --- reading ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_check_sums_are_those_of_zlib(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert crc32(content) == crc32_of_file(str(path)) == zlib.crc32(content)
    whole, status, total = read_whole(str(path))
    assert total == zlib.crc32(content)
    assert whole.tobytes() == content
    assert status.st_size == len(content)
    assert whole.flags.writeable


def test_a_long_file_is_summed_piece_by_piece(tmp_path: Path) -> None:
    content = os.urandom(1_000_003)
    (tmp_path / "a").write_bytes(content)
    assert crc32_of_file(str(tmp_path / "a")) == zlib.crc32(content)


# --- writing ---------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(0, 300_000))
def test_what_is_written_is_there_and_as_stamped(tmp_path: Path, pieces: list[bytes], many: int) -> None:
    pieces = [*pieces, bytes(many)]
    file = NewFile(str(tmp_path), ".npz")
    for piece in pieces:
        file.write(memoryview(piece))
    stamp = file.finish()
    assert os.path.basename(file.path).endswith(".npz")
    file.publish(str(tmp_path / "x"))
    content, status, _ = read_whole(str(tmp_path / "x"))
    assert content.tobytes() == b"".join(pieces)
    assert (stamp.size, stamp.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert stamp.crc32 == zlib.crc32(b"".join(pieces))
    assert leftovers(tmp_path) == []


def test_writers_that_open_files_themselves_may_even_replace_them(tmp_path: Path) -> None:
    for write in (lambda path: Path(path).write_bytes(b"new"), _write_and_move):
        file = NewFile(str(tmp_path), ".npz")
        write(file.path)
        stamp = file.finish()
        assert (stamp.size, stamp.crc32) == (3, zlib.crc32(b"new"))
        file.publish(str(tmp_path / "x"))
        assert (tmp_path / "x").read_bytes() == b"new"


def _write_and_move(path: str) -> None:
    Path(path + ".mine").write_bytes(b"new")
    os.replace(path + ".mine", path)


def test_a_forked_child_and_its_parent_draw_different_names() -> None:
    script = """
        import os
        from smm._files import _unused_name
        _unused_name()  # from now on, more are in reserve
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.write(writing, " ".join(_unused_name() for _ in range(200)).encode())
            os._exit(0)
        os.wait()
        theirs = set(os.read(reading, 10_000).decode().split())
        ours = {_unused_name() for _ in range(200)}
        print(len(theirs), len(ours), len(theirs & ours))
    """
    done = subprocess.run([sys.executable, "-c", _dedented(script)], check=True, capture_output=True)
    assert done.stdout.split() == [b"200", b"200", b"0"]


def test_nothing_is_made_before_the_first_byte(tmp_path: Path) -> None:
    file = NewFile(str(tmp_path / "results"), ".npz")
    file.discard()
    assert os.listdir(tmp_path) == []


def test_a_discarded_file_is_gone(tmp_path: Path) -> None:
    file = NewFile(str(tmp_path), ".npz")
    file.write(b"a")
    file.finish()
    file.discard()
    file.discard()
    assert leftovers(tmp_path) == []


def test_folders_are_made_anew_when_someone_deletes_them(tmp_path: Path) -> None:
    results = tmp_path / "some" / "where"
    publish(results, b"1")
    (results / ".smm" / "tmp").rmdir()
    publish(results, b"2")
    (results / ".smm" / "tmp").rmdir()
    (results / ".smm").rmdir()
    (results / "x.npz").unlink()
    results.rmdir()
    results.parent.rmdir()
    assert publish(results, b"3").read_bytes() == b"3"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o027])
def test_modes_follow_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        path = publish(tmp_path / "results", b"1")
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    for folder in (path.parent, path.parent / ".smm", path.parent / ".smm" / "tmp"):
        assert folder.stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_group_that_shares_the_folder_shares_what_is_in_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    with umask(0o077):
        publish(tmp_path, b"1")
    assert (tmp_path / ".smm").stat().st_mode & 0o7777 == 0o2775
    assert (tmp_path / ".smm" / "tmp").stat().st_mode & 0o7777 == 0o2775


def test_a_link_at_the_final_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"mine")
    results = tmp_path / "results"
    results.mkdir()
    (results / "x.npz").symlink_to(tmp_path / "other")
    path = publish(results, b"new")
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"
    assert (tmp_path / "other").read_bytes() == b"mine"
    os.link(path, tmp_path / "second")
    publish(results, b"newer")
    assert (tmp_path / "second").read_bytes() == b"new"


def test_a_failed_move_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        publish(tmp_path, b"1")
    assert leftovers(tmp_path) == []


def test_fsync_syncs_the_file_then_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    replace, fsync = os.replace, os.fsync

    def noting_replace(source: str, target: str, **how: Any) -> None:
        steps.append("move")
        replace(source, target, **how)

    def noting_fsync(descriptor: int) -> None:
        folders = {
            path.stat().st_ino: path.name for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir()
        }
        steps.append(folders.get(os.fstat(descriptor).st_ino, "file"))
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", noting_replace)
    monkeypatch.setattr(os, "fsync", noting_fsync)
    above = tmp_path.name
    publish(tmp_path / "some" / "where", b"1", fsync=True)
    assert steps == ["some", above, "file", "move", "where"]
    steps.clear()
    publish(tmp_path / "some" / "where", b"1", fsync=True)
    assert steps == ["file", "move", "where"]
    steps.clear()
    publish(tmp_path / "some" / "where", b"1")
    assert steps == ["move"]


# --- folders that cannot be written ----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["results", "results/deeper"])
def test_a_file_in_the_folders_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "results").write_bytes(b"")
    with pytest.raises(NotADirectoryError) as caught:
        check_folder(str(tmp_path / place))
    assert caught.value.filename == str(tmp_path / "results")
    with pytest.raises(NotADirectoryError, match="results"):
        publish(tmp_path / place, b"")


def test_a_file_in_the_place_of_smms_own_folder(tmp_path: Path) -> None:
    (tmp_path / ".smm").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"\.smm"):
        check_folder(str(tmp_path))
    with pytest.raises(NotADirectoryError, match=r"\.smm"):
        publish(tmp_path, b"")


def test_a_check_makes_nothing(tmp_path: Path) -> None:
    check_folder(str(tmp_path / "not" / "there"))
    assert os.listdir(tmp_path) == []


# --- sweeping --------------------------------------------------------------------------------------------


@pytest.fixture
def unswept(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    swept: set[str] = set()
    monkeypatch.setattr(_files, "_swept", swept)
    return swept


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_what_was_left_a_day_ago_is_swept_once(tmp_path: Path, unswept: set[str]) -> None:
    publish(tmp_path, b"1")
    unswept.clear()
    tmp = tmp_path / ".smm" / "tmp"
    young = "2" * 32 + ".npz"
    for name, seconds in (("0" * 32 + ".npz", DAY + 60), ("1" * 32, 9 * DAY), (young, DAY - 600)):
        (tmp / name).write_bytes(b"?")
        age(tmp / name, seconds)
    publish(tmp_path, b"2")
    assert leftovers(tmp_path) == [young]
    age(tmp / young, DAY)
    publish(tmp_path, b"3")
    assert leftovers(tmp_path) == [young], "a process looks once"
    unswept.clear()
    publish(tmp_path, b"4")
    assert leftovers(tmp_path) == []


def test_the_file_of_a_living_writer_is_never_swept(tmp_path: Path, unswept: set[str]) -> None:
    slow = NewFile(str(tmp_path), ".npz")
    assert os.path.exists(slow.path), "made by the look at it, and so not in a single go"
    slow.write(b"slow")
    slow.finish()
    age(Path(slow.path), 9 * DAY)
    # Another process has to respect it too: flock belongs to the open file, so this one stands for it.
    unswept.clear()
    publish(tmp_path, b"quick")
    slow.publish(str(tmp_path / "slow"))
    assert (tmp_path / "slow").read_bytes() == b"slow"


def test_sweeping_leaves_alone_what_is_no_temporary_file(tmp_path: Path, unswept: set[str]) -> None:
    publish(tmp_path, b"1")
    unswept.clear()
    (tmp_path / "mine").write_bytes(b"mine")
    tmp = tmp_path / ".smm" / "tmp"
    (tmp / "folder").mkdir()
    (tmp / "link").symlink_to(tmp_path / "mine")
    age(tmp_path / "mine", 9 * DAY)
    age(tmp / "folder", 9 * DAY)
    os.utime(tmp / "link", (0, 0), follow_symlinks=False)
    publish(tmp_path, b"2")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp / "folder").is_dir()


def test_a_killed_writers_file_is_swept_by_the_next_process(tmp_path: Path) -> None:
    die = f"""
        import os, signal
        from smm._files import NewFile
        file = NewFile({str(tmp_path)!r}, ".npz")
        file.write(b"1")
        file.finish()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", _dedented(die)], check=False)
    (left,) = leftovers(tmp_path)
    path = tmp_path / ".smm" / "tmp" / left
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its lock died with it
    age(path, 2 * DAY)
    save = f"""
        from smm._files import NewFile
        file = NewFile({str(tmp_path)!r}, ".npz")
        file.write(b"1")
        file.finish()
        file.discard()
    """
    subprocess.run([sys.executable, "-c", _dedented(save)], check=True)
    assert leftovers(tmp_path) == []


def _dedented(code: str) -> str:
    return "\n".join(line.removeprefix(" " * 8) for line in code.splitlines())


def test_a_file_system_without_locks_is_written_all_the_same(
    tmp_path: Path, unswept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    publish(tmp_path, b"1")
    unswept.clear()
    old = "0" * 32
    (tmp_path / ".smm" / "tmp" / old).write_bytes(b"")
    age(tmp_path / ".smm" / "tmp" / old, 9 * DAY)
    assert publish(tmp_path, b"2").read_bytes() == b"2"
    assert leftovers(tmp_path) == [old], "whether its writer lives cannot be known"
