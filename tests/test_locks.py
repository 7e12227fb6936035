from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from smm import _locks
from smm._flights import enter
from smm._locks import folder_lock
from smm.errors import CircularMetricError, SmmWarning

PATIENCE = 30.0
"""Seconds after which a test that would hang fails instead."""

# A process that does what it reads: `take FOLDER NAME` inside of what it has taken, `release` the innermost.
CHILD = """
import sys
from pathlib import Path
from smm import _locks, errors
from smm._flights import enter
_locks._SAY_AFTER_SECONDS = 0.0

def tell(line):
    print(line, flush=True)

def obey():
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "release":
            return
        folder, name = words
        try:
            with enter((folder, name), name) as flight:
                with _locks.folder_lock(Path(folder), name, waiting=tell, flight=flight):
                    tell("has " + name if flight.lock else "goes without " + name)
                    obey()
            tell("released " + name)
        except errors.CircularMetricError as error:
            tell(" -> ".join(error.chain))

obey()
"""


class Other:
    """Another process that works in the same folders."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self.process.pid

    def say(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")

    def hear(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "the other process says nothing"
        return self.process.stdout.readline().decode().rstrip("\n")

    def take(self, folder: Path, name: str) -> str:
        self.say("take", folder, name)
        return self.hear()

    def release(self) -> str:
        self.say("release")
        return self.hear()

    def stop(self) -> None:
        """Keep it from looking around: what it has and announced stays."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_locks, "_said", set())
    yield
    for file in _locks._files.values():
        assert not file.users
        assert not file.claims
        assert not file.announced


@pytest.fixture
def others() -> Iterator[Callable[[], Other]]:
    made: list[Other] = []

    def make() -> Other:
        made.append(Other())
        return made[-1]

    yield make
    for other in made:
        other.close()


@pytest.fixture
def other(others: Callable[[], Other]) -> Other:
    return others()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_locks, "_SAY_AFTER_SECONDS", 0.0)


def silence(line: str) -> None:
    raise AssertionError(f"nothing to wait for: {line}")


def nothing(line: str) -> None:
    pass


def lock_file(folder: Path) -> Path:
    return folder / ".smm" / "lock"


# --- one process ----------------------------------------------------------------------------------------


def test_what_is_left_is_one_empty_file(folder: Path) -> None:
    for name in ("a", "b", "c" * 300, "größe\udc80"):
        with folder_lock(folder, name, waiting=silence):
            pass
    assert [path.relative_to(folder) for path in folder.rglob("*")] == [Path(".smm"), Path(".smm/lock")]
    assert lock_file(folder).stat().st_size == 0


def test_nothing_is_made_before_the_block(folder: Path) -> None:
    folder_lock(folder, "a", waiting=silence)
    assert not folder.exists()


def test_names_are_apart(folder: Path) -> None:
    with folder_lock(folder, "a", waiting=silence), folder_lock(folder, "b", waiting=silence):
        pass


def test_an_uncontended_lock_is_one_look_and_two_requests(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return function(*args, **kwargs)

        return counted

    with folder_lock(folder, "a", waiting=silence):
        pass
    for module, name in ((os, "lstat"), (os, "open"), (os, "fstat"), (fcntl, "lockf"), (fcntl, "fcntl")):
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
        pass
    monkeypatch.undo()
    assert calls == ["lstat", "lockf", "lockf"]


@pytest.mark.usefixtures("impatient")
def test_a_second_thread_waits(folder: Path) -> None:
    told: list[str] = []
    waits = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        waits.set()

    def second() -> bool:
        with folder_lock(folder, "a", waiting=tell):
            return first.is_set()

    first = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with folder_lock(folder, "a", waiting=silence):
            future = pool.submit(second)
            assert waits.wait(PATIENCE)
            first.set()
        assert future.result(PATIENCE)
    assert told == ["Wait for a: another thread is working on it"]


def test_a_flight_that_has_a_lock_does_not_wait_for_itself(folder: Path) -> None:
    with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
        had = flight.lock
        with folder_lock(folder, "a", waiting=silence, flight=flight):
            assert flight.lock is had
        assert flight.lock is had


def test_a_few_idle_descriptors_stay_open(tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(_locks._IDLE_FILES)]
    for folder in folders:
        with folder_lock(folder, "a", waiting=silence):
            pass
    open_files = {file.path for file in _locks._files.values()}
    assert open_files >= {str(lock_file(folder)) for folder in folders}


def test_only_so_many_descriptors_stay_open(tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(60)]
    with folder_lock(folders[0], "a", waiting=silence):
        for folder in folders[1:]:
            with folder_lock(folder, "a", waiting=silence):
                pass
        assert len(_locks._files) <= _locks._IDLE_FILES + 2  # the held one, and the last while it was
        assert _locks._identity(lock_file(folders[0]).stat()) in _locks._files
    open_files = [file for file in _locks._files.values() if str(tmp_path) in file.path]
    assert all(os.fstat(number) for file in open_files for number in file.descriptors)


def test_two_paths_of_one_folder_share_a_descriptor(folder: Path, tmp_path: Path) -> None:
    with folder_lock(folder, "a", waiting=silence):
        (tmp_path / "link").symlink_to(folder)
        with folder_lock(tmp_path / "link", "b", waiting=silence):
            files = [file for file in _locks._files.values() if str(tmp_path) in file.path]
            assert [len(file.descriptors) for file in files] == [1]


def test_the_group_of_the_folder_can_share_it(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o2775)
    before = os.umask(0o077)
    try:
        with folder_lock(folder, "a", waiting=silence):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / ".smm").stat().st_mode) == 0o2775
    assert stat.S_IMODE(lock_file(folder).stat().st_mode) == 0o664


# --- among processes ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_another_process_is_waited_for_by_name_and_id(folder: Path, other: Other) -> None:
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        other.say("release")

    assert other.take(folder, "a") == "has a"
    with folder_lock(folder, "b", waiting=silence):
        pass
    with folder_lock(folder, "a", waiting=tell):
        assert other.hear() == "released a"
        assert other.take(folder, "a") == f"Wait for a: process {os.getpid()} is working on it"
    assert other.hear() == "has a"
    assert told == [f"Wait for a: process {other.pid} is working on it"]


def test_nobody_waits_for_a_killed_process(folder: Path, other: Other) -> None:
    assert other.take(folder, "a") == "has a"
    other.kill()
    with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
        assert flight.lock is not None


@pytest.mark.usefixtures("impatient")
def test_who_waits_goes_on_when_the_holder_is_killed(folder: Path, other: Other) -> None:
    assert other.take(folder, "a") == "has a"
    with folder_lock(folder, "a", waiting=lambda _: other.kill()):
        pass


WORK_ON_ALL = """
import os, sys
from pathlib import Path
from smm._locks import folder_lock
folder = Path(sys.argv[1])
sys.stdin.readline()
for i in range(60):
    with folder_lock(folder, f"m{i}", waiting=print):
        if not (folder / f"m{i}").exists():
            with open(folder / "log", "a") as log:
                log.write(f"m{i} ")
            (folder / f"m{i}").touch()
"""


def test_each_metric_is_computed_once_by_four_processes(folder: Path) -> None:
    folder.mkdir()
    command = [sys.executable, "-c", WORK_ON_ALL, str(folder)]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    for worker in workers:
        worker.communicate(b"go\n", timeout=PATIENCE)
        assert worker.returncode == 0
    assert sorted((folder / "log").read_text().split()) == sorted(f"m{i}" for i in range(60))


def test_smm_may_be_deleted_while_locks_are_held(folder: Path, others: Callable[[], Other]) -> None:
    before, waiting, after = others(), others(), others()
    assert before.take(folder, "a") == "has a"
    assert waiting.take(folder, "a") == f"Wait for a: process {before.pid} is working on it"
    shutil.rmtree(folder / ".smm")
    assert after.take(folder, "a") == "has a"  # a new file: a second computation, nothing worse
    assert before.release() == "released a"
    # Who waited for the old lock does not go on with it, while others hold the new one.
    assert waiting.hear() == f"Wait for a: process {after.pid} is working on it"
    assert after.release() == "released a"
    assert waiting.hear() == "has a"
    assert before.take(folder, "a") == f"Wait for a: process {waiting.pid} is working on it"


def test_smm_deleted_and_made_anew_by_the_holder_itself(folder: Path, other: Other) -> None:
    with folder_lock(folder, "a", waiting=silence):
        shutil.rmtree(folder / ".smm")
        with folder_lock(folder, "b", waiting=silence):
            assert other.take(folder, "b").startswith("Wait for b")
        assert other.hear() == "has b"


def test_a_whole_folder_deleted_during_the_block(folder: Path) -> None:
    with folder_lock(folder, "a", waiting=silence):
        shutil.rmtree(folder)
    with folder_lock(folder, "a", waiting=silence):
        assert lock_file(folder).exists()


def test_a_lock_lost_to_a_closed_descriptor_costs_only_work(folder: Path, other: Other) -> None:
    with folder_lock(folder, "a", waiting=silence):
        lock_file(folder).read_bytes()  # opens and closes the file, as a copy of the folder does
        assert other.take(folder, "a") == "has a"
    # The release took nothing from the new holder.
    assert (
        _locks._files[_locks._identity(lock_file(folder).stat())].holder(
            folder_lock(folder, "a", waiting=silence).offset
        )
        == other.pid
    )
    assert other.release() == "released a"


def test_a_descriptor_closed_by_a_stranger_is_replaced(folder: Path, other: Other, tmp_path: Path) -> None:
    with folder_lock(folder, "a", waiting=silence):
        pass
    file = _locks._files[_locks._identity(lock_file(folder).stat())]
    number = file.descriptors[0]
    os.close(number)
    with folder_lock(folder, "a", waiting=silence):  # done without
        pass
    opened = os.open(tmp_path / "stranger", os.O_RDWR | os.O_CREAT)
    if opened != number:  # a lower one was free, too
        os.dup2(opened, number, inheritable=False)
        os.close(opened)
    file.close()
    os.fstat(number)  # still the stranger's, still open
    with folder_lock(folder, "a", waiting=silence):
        assert other.take(folder, "a").startswith("Wait for a")
    assert other.hear() == "has a"
    os.close(number)


# --- fork -----------------------------------------------------------------------------------------------


def fork(check: Callable[[], None]) -> int:
    """The id of a forked child that runs `check`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what this is about
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    """The exit status of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_holds_nothing_and_takes_nothing_away(folder: Path, other: Other) -> None:
    lock = folder_lock(folder, "a", waiting=silence)

    def check() -> None:
        assert not _locks._files
        with folder_lock(folder, "b", waiting=silence):
            pass
        lock.release()

    with lock:
        assert ended(fork(check)) == 0
        assert other.take(folder, "a") == f"Wait for a: process {os.getpid()} is working on it"
    assert other.hear() == "has a"


@pytest.mark.usefixtures("impatient")
def test_a_forked_child_waits_for_its_parent(folder: Path) -> None:
    parent = os.getpid()
    released = threading.Event()
    reading, writing = os.pipe()

    def check() -> None:
        def tell(line: str) -> None:
            assert line == f"Wait for a: process {parent} is working on it"
            os.write(writing, b".")

        with folder_lock(folder, "a", waiting=tell):
            pass

    lock = folder_lock(folder, "a", waiting=silence)
    lock.__enter__()

    def release_when_waited_for() -> None:
        os.read(reading, 1)
        lock.release()
        released.set()

    thread = threading.Thread(target=release_when_waited_for)
    thread.start()
    assert ended(fork(check)) == 0
    thread.join(PATIENCE)
    assert released.is_set()
    os.close(reading)
    os.close(writing)


def test_a_forked_child_sees_a_circle_through_its_parent(folder: Path, other: Other) -> None:
    def check() -> None:
        with enter(("s", "b"), "b") as inner, folder_lock(folder, "b", waiting=nothing, flight=inner):
            assert inner.lock is None

    assert other.take(folder, "b") == "has b"
    with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
        assert other.take(folder, "a").startswith("Wait for a")
        other.stop()
        assert ended(fork(check)) == 0
        other.go_on()
    assert other.hear() == "has a"


def test_a_forked_child_cannot_ask_for_what_its_parent_is_computing(folder: Path) -> None:
    def check() -> None:
        os.close(writing)
        with pytest.raises(CircularMetricError, match="a -> a"), enter(("s", "a"), "a"):
            pass
        os.write(answering, b".")
        assert os.read(reading, 1) == b""
        # The parent's flight has ended; this process may go on, like the worker of a pool made in a metric.
        with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
            assert flight.parent is None
            assert flight.lock is not None

    reading, writing = os.pipe()
    asking, answering = os.pipe()
    with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
        child = fork(check)
        assert os.read(asking, 1) == b"."
    os.close(writing)
    assert ended(child) == 0
    for number in (reading, asking, answering):
        os.close(number)


# --- mutual waiting -------------------------------------------------------------------------------------


def test_two_processes_that_wait_for_each_other(folder: Path, others: Callable[[], Other]) -> None:
    one, two = others(), others()
    assert one.take(folder, "a") == "has a"
    assert two.take(folder, "b") == "has b"
    assert one.take(folder, "b") == f"Wait for b: process {two.pid} is working on it"
    one.stop()
    assert two.take(folder, "a") == "goes without a"
    assert two.take(folder, "b") == "b -> a -> b"  # now one process has the whole circle in sight
    assert two.release() == "released a"
    assert two.release() == "released b"
    one.go_on()
    assert one.hear() == "has b"


def test_three_processes_that_wait_for_each_other(folder: Path, others: Callable[[], Other]) -> None:
    processes = [others() for _ in range(3)]
    for process, name in zip(processes, "abc", strict=True):
        assert process.take(folder, name) == f"has {name}"
    assert processes[0].take(folder, "b") == f"Wait for b: process {processes[1].pid} is working on it"
    assert processes[1].take(folder, "c") == f"Wait for c: process {processes[2].pid} is working on it"
    processes[0].stop()
    processes[1].stop()
    assert processes[2].take(folder, "a") == "goes without a"


def test_mutual_waiting_over_two_folders(folder: Path, tmp_path: Path, others: Callable[[], Other]) -> None:
    one, two = others(), others()
    assert one.take(folder, "a") == "has a"
    assert two.take(tmp_path / "more", "b") == "has b"
    assert one.take(tmp_path / "more", "b").startswith("Wait for b")
    one.stop()
    assert two.take(folder, "a") == "goes without a"


def test_a_killed_process_is_in_no_circle(folder: Path, others: Callable[[], Other]) -> None:
    one, two, three = others(), others(), others()
    assert one.take(folder, "a") == "has a"
    assert two.take(folder, "b") == "has b"
    assert one.take(folder, "b").startswith("Wait for b")
    one.kill()
    assert two.take(folder, "a") == "has a"
    assert three.take(folder, "c") == "has c"
    assert three.take(folder, "a").startswith("Wait for a")


@pytest.mark.usefixtures("impatient")
def test_threads_of_two_processes_that_only_seem_to_wait_for_each_other(folder: Path, other: Other) -> None:
    waits = threading.Event()

    def want_b() -> None:
        with (
            enter(("s", "b"), "b") as flight,
            folder_lock(folder, "b", waiting=lambda _: waits.set(), flight=flight),
        ):
            assert flight.lock is not None

    assert other.take(folder, "b") == "has b"
    with ThreadPoolExecutor(1) as pool:
        with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
            future = pool.submit(want_b)
            assert waits.wait(PATIENCE)
            # This process waits for the other, and the other for this one; but for another thread of it.
            assert other.take(folder, "a") == f"Wait for a: process {os.getpid()} is working on it"
        assert other.hear() == "has a"
        assert other.release() == "released a"
        assert other.release() == "released b"
        future.result(PATIENCE)


@pytest.mark.usefixtures("impatient")
def test_a_circle_that_passes_through_two_threads_of_a_process(folder: Path, other: Other) -> None:
    has_a, waits = threading.Event(), threading.Event()

    def c_reads_b() -> None:
        with (
            enter(("s", "c"), "c") as outer,
            folder_lock(folder, "c", waiting=silence, flight=outer),
            enter(("s", "b"), "b") as inner,
            folder_lock(folder, "b", waiting=lambda _: waits.set(), flight=inner),
        ):
            pass

    def a_reads_c() -> None:
        with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
            has_a.set()
            with enter(("s", "c"), "c"):
                pass

    assert other.take(folder, "b") == "has b"
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(c_reads_b)]
        assert waits.wait(PATIENCE)
        futures.append(pool.submit(a_reads_c))
        assert has_a.wait(PATIENCE)
        # Either process may see the circle first.
        answer = other.take(folder, "a")
        if answer.startswith("Wait"):
            answer = other.hear()
        assert answer in {"has a", "goes without a"}
        assert other.release() == "released a"
        assert other.release() == "released b"
        for future in futures:
            future.result(PATIENCE)


# --- without locks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_said_once(
    folder: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.warns(SmmWarning) as caught, folder_lock(folder, "a", waiting=silence):
        pass
    assert str(caught[0].message) == (
        f"cannot lock {lock_file(folder)} ({os.strerror(number)}): processes that want the same metric "
        "at the same time may each compute it, nothing else can go wrong"
    )
    with folder_lock(folder, "a", waiting=silence), folder_lock(tmp_path / "more", "b", waiting=silence):
        pass


def test_a_warning_made_an_error_leaves_nothing_locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(SmmWarning), folder_lock(folder, "a", waiting=silence):
        pass


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that this process has no right to write in."""
    base = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are closed to others
    uid = os.geteuid()
    try:
        base.chmod(0o555)
        if uid == 0:
            os.seteuid(65534)
        yield base
    finally:
        if uid == 0:
            os.seteuid(0)
        base.chmod(0o755)
        shutil.rmtree(base)


def test_a_read_only_folder_is_done_without_and_in_silence(as_nobody: Path) -> None:
    for folder in (as_nobody, as_nobody / "missing"):
        with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
            assert flight.lock is None
    assert list(as_nobody.iterdir()) == []


def test_a_lock_file_of_someone_else_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *args: Any, **how: Any) -> int:
        if path != "lock":
            return open_(path, *args, **how)
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    folder.mkdir()
    open_: Callable[..., int] = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.warns(SmmWarning) as caught, folder_lock(folder, "a", waiting=silence):
        pass
    assert str(caught[0].message) == (
        f"cannot lock {lock_file(folder)} (Permission denied): processes that want the same metric at the "
        "same time may each compute it, nothing else can go wrong; give all who write to the folder the "
        "right to write in .smm and to this file"
    )
    with folder_lock(folder, "a", waiting=silence):
        pass


def test_a_folder_that_is_a_file_is_left_to_the_storage(folder: Path) -> None:
    folder.write_text("not a folder")
    with folder_lock(folder, "a", waiting=silence):
        pass


def test_a_link_in_place_of_the_lock_file_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / ".smm").mkdir(parents=True)
    lock_file(folder).symlink_to(tmp_path / "elsewhere")
    with pytest.warns(SmmWarning, match="cannot lock"), folder_lock(folder, "a", waiting=silence):
        pass
    assert not (tmp_path / "elsewhere").exists()


# --- interrupts -----------------------------------------------------------------------------------------


class Interrupt:
    """Raise KeyboardInterrupt at the n-th place in `_locks` where Python may do so.

    That is on entering a Python function and on return from a C function.
    """

    def __init__(self, place: int) -> None:
        self.left = place

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event in {"call", "c_return"} and frame.f_code.co_filename == _locks.__file__:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def during(self, scene: Callable[[], None]) -> bool:
        """Whether the scene was interrupted; False when it has fewer places."""
        sys.setprofile(self)
        try:
            scene()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        return self.left <= 0


def test_an_interrupt_anywhere_leaves_the_metric_free(folder: Path, other: Other) -> None:
    def scene() -> None:
        with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
            pass

    scene()
    place = 1
    while Interrupt(place).during(scene):
        assert other.take(folder, "a") == "has a", place
        assert other.release() == "released a"
        scene()
        place += 1
    assert place > 20


def test_an_interrupt_anywhere_in_the_first_use_of_a_folder(tmp_path: Path, other: Other) -> None:
    place = 1
    while True:
        folder = tmp_path / str(place)

        def scene(folder: Path = folder) -> None:
            with enter(("s", "a"), "a") as flight, folder_lock(folder, "a", waiting=silence, flight=flight):
                pass

        interrupted = Interrupt(place).during(scene)
        assert other.take(folder, "a") == "has a", place
        assert other.release() == "released a"
        if not interrupted:
            break
        place += 1
    assert place > 30


def test_an_interrupted_wait_leaves_the_metric_free(
    folder: Path, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(_: float) -> None:
        if len(pauses) == 2:
            assert other.release() == "released a"
        pauses.append(1)

    def scene() -> None:
        with (
            enter(("s", "b"), "b") as outer,
            folder_lock(folder, "b", waiting=silence, flight=outer),
            enter(("s", "a"), "a") as flight,
            folder_lock(folder, "a", waiting=silence, flight=flight),
        ):
            pass

    monkeypatch.setattr(time, "sleep", pause)
    place = 1
    while True:
        pauses: list[int] = []
        assert other.take(folder, "a") == "has a"
        interrupted = Interrupt(place).during(scene)
        if len(pauses) < 3:
            assert other.release() == "released a"
        for name in "ab":
            assert other.take(folder, name) == f"has {name}", place
            assert other.release() == f"released {name}"
        if not interrupted:
            break
        place += 1
    assert place > 50


def test_what_is_told_may_raise(folder: Path, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError(line)

    monkeypatch.setattr(_locks, "_SAY_AFTER_SECONDS", 0.0)
    assert other.take(folder, "a") == "has a"
    with pytest.raises(BrokenPipeError), folder_lock(folder, "a", waiting=broken):
        pass
    assert other.release() == "released a"
    assert other.take(folder, "a") == "has a"
