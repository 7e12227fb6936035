"""Whatever happens in the middle of a save, a name holds the whole old data or the whole new data.

Exceptions, Ctrl-C, full disks, folders that cannot be written, and processes killed at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from smm import DatedCacheManager, _files, maintain
from smm.errors import UnstorableError
from smm.metric import Record, Stamp
from smm.storage import (
    FileBasedStorageInterface,
    JsonStorageInterface,
    NpzStorageInterface,
)
from smm.testing import files_below
from tests.saving import KINDS, LOOPS, NEW, OLD, RECORD, is_old, save_pair, value_of
from tests.stores import PickleFiles


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def storage(kind: str, tmp_path: Path) -> FileBasedStorageInterface:
    """With a stored pair `x` in it."""
    made = KINDS[kind](tmp_path / "results")
    made.save("x", OLD)
    made.write_record("x", RECORD)
    return made


def leftovers(storage: FileBasedStorageInterface) -> list[str]:
    return os.listdir(storage.metrics_dir / ".smm" / "tmp")


# --- exceptions and Ctrl-C -------------------------------------------------------------------------------


class Faults:
    """Raises in place of one of the calls by which files are changed, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int) -> None:
        self.calls = 0
        self._error = error
        self._at = at
        for module, names in (
            (os, ("open", "replace", "stat", "fstat", "dup", "mkdir")),
            (fcntl, ("flock",)),
            (_files, ("crc32", "crc32_of_open")),
        ):
            for name in names:
                monkeypatch.setattr(module, name, self._failing(getattr(module, name)))

    def _failing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.calls == self._at:
                raise self._error
            return function(*args, **keywords)

        return call


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("boom")], ids=repr)
def test_an_exception_at_any_step_leaves_old_or_new(
    storage: FileBasedStorageInterface, error: BaseException
) -> None:
    for at in range(1, 100):
        before = files_below(storage.metrics_dir)
        with pytest.MonkeyPatch.context() as patched, contextlib.suppress(type(error)):
            faults = Faults(patched, error, at)
            storage.save("x", NEW)
        loaded = list(storage.load("x"))
        assert loaded in (OLD, NEW)
        assert leftovers(storage) == []
        if loaded == OLD:
            assert files_below(storage.metrics_dir) == before
        storage.save("x", OLD)
        if faults.calls < at:
            break
    assert at > 5, "the faults were not where the work is done"


def test_a_file_that_fails_to_close_is_not_closed_again(
    storage: FileBasedStorageInterface, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems tell of a full disk there; another thread may have the number a moment later."""
    close = os.close
    others: list[int] = []

    def full(descriptor: int) -> None:
        close(descriptor)
        if not others:
            others.append(os.open(os.devnull, os.O_RDONLY))
            assert others == [descriptor]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", full)
        with pytest.raises(OSError, match="No space left"):
            storage.save("x", [3.0, 4.0])
    os.fstat(others[0])
    close(others[0])
    assert leftovers(storage) == []
    assert list(storage.load("x")) in (OLD, [3.0, 4.0])


def test_an_exception_in_the_middle_of_a_users_save_leaves_the_old(tmp_path: Path) -> None:
    class Half(PickleFiles):
        def _save(self, filepath: Any, data: Any) -> None:
            Path(filepath).write_bytes(b"half of it")
            Path(filepath + ".more").write_bytes(b"")
            raise KeyboardInterrupt

    PickleFiles(tmp_path).save("x", OLD)
    with pytest.raises(KeyboardInterrupt):
        Half(tmp_path).save("x", NEW)
    assert PickleFiles(tmp_path).load("x") == OLD
    assert all(name.endswith(".more") for name in os.listdir(tmp_path / ".smm" / "tmp"))


def test_a_generator_that_fails_late_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    storage = NpzStorageInterface(tmp_path / "results")
    with pytest.raises(UnstorableError):
        storage.save("x", [np.zeros(100_000), np.ones(100_000), object()])
    assert os.listdir(tmp_path) == []


# --- errors of the operating system ----------------------------------------------------------------------


class FailingSystem:
    """Lets the n-th call into the operating system fail, with the path that it was given, as Python does."""

    NAMES = (
        *("open", "read", "readv", "write", "close", "dup", "fsync", "fstat", "stat", "lstat", "utime"),
        *("scandir", "mkdir", "replace", "unlink", "link", "fchmod"),
    )

    def __init__(self, patched: pytest.MonkeyPatch, at: int) -> None:
        self.calls = 0
        self.failed = ""
        self._at = at
        for name in self.NAMES:
            patched.setattr(os, name, self._failing(name, getattr(os, name)))
        patched.setattr(fcntl, "lockf", self._failing("lockf", fcntl.lockf))

    def _failing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            self.calls += 1
            if self.calls != self._at:
                return function(*args, **keywords)
            self.failed = name
            if name == "close":
                function(*args, **keywords)
            path = args[:1] if args and isinstance(args[0], str | os.PathLike) else ()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *path)

        return call


@pytest.fixture
def renamed() -> Iterator[None]:
    """Let hard links be impossible, so that renaming copies."""

    def no_links(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", no_links)
        yield


def manager(folder: Path) -> DatedCacheManager:
    cm = DatedCacheManager(NpzStorageInterface(folder, fsync=True), verbose=False)
    cm.set_functions_dict({"x": lambda: 1.5, "y": lambda: cm["x"] * 2, "new": lambda: 2.5})
    return cm


OPERATIONS: dict[str, Callable[[DatedCacheManager], object]] = {
    "get": lambda cm: cm.get("y"),
    "get again": lambda cm: cm.get("y", use_stored=False),
    "compute": lambda cm: cm.get("new"),
    "load": lambda cm: cm.load("x"),
    "date": lambda cm: cm.date("x"),
    "exists": lambda cm: cm.exists("x"),
    "delete": lambda cm: cm.delete("x"),
    "save": lambda cm: cm.storage_interface.save("x", 3.0),
    "save by path": lambda cm: PickleFiles(storage_of(cm).metrics_dir).save("x", 3.0),
    "load by path": lambda cm: PickleFiles(storage_of(cm).metrics_dir).load_verified("p", Stamp(**PICKLED)),
    "mapped": lambda cm: NpzStorageInterface(storage_of(cm).metrics_dir, mmap=True).load("x"),
    "json": lambda cm: JsonStorageInterface(storage_of(cm).metrics_dir).load("j"),
    "names": lambda cm: storage_of(cm).names(),
    "recorded": lambda cm: storage_of(cm).recorded(),
    "status": maintain.status,
    "why": lambda cm: cm.why("y"),
    "gc": maintain.gc,
    "verify": lambda cm: list(maintain.verify(cm)),
    "rename": lambda cm: maintain.rename(cm, "x", "z"),
    "folder": lambda cm: maintain.storage_in(storage_of(cm).metrics_dir),
}
PICKLED: dict[str, int] = {}


def storage_of(cm: DatedCacheManager) -> NpzStorageInterface:
    assert isinstance(cm.storage_interface, NpzStorageInterface)
    return cm.storage_interface


@pytest.mark.filterwarnings("ignore::smm.errors.SmmWarning")  # without a lock, or the log of a run
@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_of_the_system_names_a_path(tmp_path: Path, name: str) -> None:
    origin = tmp_path / "origin"
    manager(origin).run()
    JsonStorageInterface(origin).save("j", 1)
    staged = PickleFiles(origin).stage("p", [1])
    staged.publish()
    assert staged.stamp is not None
    PICKLED.update(attrs.asdict(staged.stamp))
    raised: set[str] = set()
    for at in range(1, 300):
        folder = tmp_path / str(at)
        shutil.copytree(origin, folder)
        cm = manager(folder)
        error: OSError | None = None
        with pytest.MonkeyPatch.context() as patched:
            system = FailingSystem(patched, at)
            try:
                OPERATIONS[name](cm)
            except OSError as failure:
                error = failure
        shutil.rmtree(folder)
        if error is not None:
            raised.add(system.failed)
            said = "".join(getattr(error, "__notes__", ()))
            named = isinstance(error.filename, str | os.PathLike) and os.path.isabs(error.filename)
            assert named or str(folder) in said, f"{system.failed} fails at {at}: {error!r}"
            assert str(folder) in f"{error}{said}" or error.filename == __file__
        if system.calls < at:
            break
    assert raised


def test_a_full_disk_while_renaming_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: None
) -> None:
    cm = manager(tmp_path)
    cm.get("x")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        maintain.rename(cm, "x", "z")
    assert str(caught.value).startswith(f"[Errno 28] No space left on device: '{tmp_path}/.smm/tmp/")


# --- a full disk -----------------------------------------------------------------------------------------


def run_child(code: str, *args: object, **environment: str) -> str:
    """Run code in a process of its own, with `args` in `sys.argv`, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL_DISK = """
    import os, resource, sys
    from tests.saving import KINDS, NEW
    storage = KINDS[sys.argv[1]](sys.argv[2])

    def attempt(save, limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
        try:
            save()
        except OSError as error:
            print(error.errno, *error.__notes__)
        else:
            print("saved")

    # Below and above the size of the write buffer, and when the buffer is written out at the end.
    for length, limit in ((40_000, 1 << 16), (10_000, 5_000), (10_000, 0), (40_000, 200_000)):
        attempt(lambda: storage.save("x", NEW[:length]), limit)
    attempt(lambda: storage.write_record("x", "{" + " " * 100_000 + "}"), 1 << 16)
"""


def test_a_full_disk_leaves_the_old(storage: FileBasedStorageInterface, kind: str) -> None:
    before = files_below(storage.metrics_dir)
    assert run_child(FULL_DISK, kind, storage.metrics_dir).splitlines() == [
        *[f"{errno.EFBIG} while storing metric 'x' in {storage.metrics_dir}"] * 4,
        f"{errno.EFBIG} while storing the side-car of metric 'x' in {storage.metrics_dir}",
    ]
    assert files_below(storage.metrics_dir) == before
    assert is_old(storage)


# --- folders and files without the right to them ---------------------------------------------------------

AS_NOBODY = """
    import os, sys, warnings
    from pathlib import Path
    from tests.saving import NEW, is_old
    from smm.storage import NpzStorageInterface
    storage = NpzStorageInterface(sys.argv[1])
    storage.load("x")  # so that everything is imported
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
"""


@pytest.fixture
def shared() -> Iterator[FileBasedStorageInterface]:
    """In a folder that every user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="smm-test-") as place:
        os.chmod(place, 0o755)
        made = NpzStorageInterface(Path(place) / "results")
        made.save("x", OLD)
        made.write_record("x", RECORD)
        for folder, _, files in os.walk(made.metrics_dir):
            os.chmod(folder, 0o555)
            for file in files:
                os.chmod(Path(folder) / file, 0o444)
        yield made
        for folder, _, _ in os.walk(made.metrics_dir):
            os.chmod(folder, 0o755)


def test_a_read_only_folder_can_be_read_and_says_so_before_a_save(shared: FileBasedStorageInterface) -> None:
    told = run_child(
        AS_NOBODY
        + """
    assert is_old(storage) and storage.exists("x") and storage.recorded() == {"x"}
    for attempt in (
        lambda: storage.check("y"),
        lambda: storage.save("x", NEW),
        lambda: storage.write_record("x", "{}"),
        lambda: storage.remove_record("x"),
        lambda: storage.delete("x"),
        lambda: NpzStorageInterface(Path(sys.argv[1]) / "deeper").check("y"),
    ):
        try:
            attempt()
        except PermissionError as error:
            print(*getattr(error, "__notes__", ["-"]))
    assert is_old(storage)
        """,
        shared.metrics_dir,
    ).splitlines()
    assert len(told) == 6
    assert told[0] == (
        f"metric 'y' could not be stored in {shared.metrics_dir}; "
        "make it a folder you can write to, or choose another metrics_dir"
    )
    assert is_old(shared)


def test_what_may_not_be_read_is_an_error_and_no_damage(shared: FileBasedStorageInterface) -> None:
    for path in shared.metrics_dir.iterdir():
        if path.is_file():
            path.chmod(0)
    told = run_child(
        AS_NOBODY.replace('storage.load("x")', "import numpy")
        + """
    for attempt in (lambda: storage.load("x"), lambda: storage.read_record("x")):
        try:
            attempt()
        except PermissionError as error:
            print(*error.__notes__)
    os.getuid() or sys.exit("still root")
        """,
        shared.metrics_dir,
    ).splitlines()
    data, side_car = f"x{shared.file_ext}", "x_date.json"
    assert told == [
        f"while loading metric 'x' from {shared.metrics_dir / data}",
        f"while loading the side-car of metric 'x' from {shared.metrics_dir / side_car}",
    ]


def test_a_folder_that_may_not_be_searched_is_an_error_and_not_empty(
    shared: FileBasedStorageInterface,
) -> None:
    code = (
        AS_NOBODY
        + """
    os.getuid() or sys.exit("still root")
    sys.stdin.readline()
    for attempt in (lambda: storage.exists("x"), lambda: storage.load("x"), storage.names):
        try:
            print(attempt())
        except PermissionError as error:
            print("PermissionError", error.filename.startswith(sys.argv[1]))
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(shared.metrics_dir)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        shared.metrics_dir.chmod(0)
        told, _ = child.communicate("\n")
    shared.metrics_dir.chmod(0o755)
    assert told.splitlines() == ["PermissionError True"] * 3


def test_a_file_in_the_folders_place_is_said_before_anything_is_computed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "results").write_bytes(b"mine")
    storage = KINDS[kind](tmp_path / "results")
    attempts: list[Callable[[], None]] = [lambda: storage.check("x"), lambda: storage.save("x", OLD)]
    for attempt in attempts:
        with pytest.raises(NotADirectoryError) as caught:
            attempt()
        assert str(storage.metrics_dir) in "".join(caught.value.__notes__)
    assert not storage.exists("x")
    assert (tmp_path / "results").read_bytes() == b"mine"


# --- processes killed while they save --------------------------------------------------------------------

# A server forks workers that save in a loop, and kills them: 200 interpreters would take a minute to start.
KILLING = """
    import os, random, signal, sys, time
    from tests.saving import LOOPS
    save = LOOPS[sys.argv[1]]
    chance = random.Random(int(sys.argv[4]))
    for number in range(int(sys.argv[3])):
        reader, writer = os.pipe()
        worker = os.fork()
        if not worker:
            save(sys.argv[2], number)
            os.write(writer, b"1")
            while True:
                number += 1
                save(sys.argv[2], number)
        os.close(writer)
        os.read(reader, 1) or sys.exit("the worker failed")
        os.close(reader)
        time.sleep(chance.uniform(0, 0.004))  # any moment will do
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
"""

DYING = """
    import os, signal, sys
    from tests.saving import LOOPS
    save = LOOPS[sys.argv[1]]

    def dying(function, left):
        def call(*args, **keywords):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **keywords)
        return call

    save(sys.argv[2], 0)
    step, alive = 0, False
    while not alive:
        step += 1
        worker = os.fork()
        if not worker:
            left = [step]
            for name in ("open", "replace", "unlink", "stat", "fstat", "close", "mkdir"):
                setattr(os, name, dying(getattr(os, name), left))
            save(sys.argv[2], step)
            os._exit(0)
        _, status = os.waitpid(worker, 0)
        alive = os.WIFEXITED(status)
        status in (0, signal.SIGKILL) or sys.exit("the worker failed")
    print(step)
"""


def check_what_is_visible(place: Path) -> None:
    """Every file whole, no side-car without its data, nothing else in the folder."""
    storage = NpzStorageInterface(place)
    visible = set(os.listdir(place)) - {".smm"}
    sidecars = {name for name in visible if name.endswith("_date.json")}
    assert {f"{name}.npz" for name in storage.names()} == visible - sidecars
    assert storage.recorded() == {name.removesuffix("_date.json") for name in sidecars}
    for name in storage.names():
        text = storage.read_record(name)
        stamp: Stamp | None = None
        if text is not None:
            stamp = Record.from_json(name, text).data
            assert stamp is not None
            status = (place / f"{name}.npz").stat()
            assert (status.st_size, status.st_mtime_ns) == (stamp.size, stamp.mtime_ns)
        loaded = storage.load_verified(name, stamp)
        expected = value_of(loaded["turn"])
        assert loaded["data"].tolist() == expected["data"].tolist()
        assert name == f"x_{loaded['turn'] % 3}"


def check_that_leftovers_are_swept(place: Path) -> None:
    tmp = place / ".smm" / "tmp"
    for path in tmp.iterdir():
        os.utime(path, (0, 0))
    run_child("import sys; from tests.saving import save_pair; save_pair(sys.argv[1], 1)", place)
    assert os.listdir(tmp) == []
    assert set(os.listdir(place / ".smm")) <= {"code", "tmp", "lock"}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_killed_200_times_while_saving(tmp_path: Path, loop: str) -> None:
    for seed in range(4):
        run_child(KILLING, loop, tmp_path, 50, seed)
        check_what_is_visible(tmp_path)
    assert len(os.listdir(tmp_path / ".smm" / "tmp")) <= 200
    check_that_leftovers_are_swept(tmp_path)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_killed_at_each_step_of_a_save(tmp_path: Path, loop: str) -> None:
    steps = int(run_child(DYING, loop, tmp_path))
    assert steps > 8, "it died where nothing is done"
    check_what_is_visible(tmp_path)
    check_that_leftovers_are_swept(tmp_path)


def test_the_loop_leaves_whole_pairs(tmp_path: Path) -> None:
    for turn in range(6):
        save_pair(str(tmp_path), turn)
    check_what_is_visible(tmp_path)
    assert json.loads((tmp_path / "x_0_date.json").read_text())["smm_record"] == 1
