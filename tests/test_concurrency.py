"""One computation of a metric however many threads and processes ask, and nobody waits for the dead."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from smm import (
    DatedCacheManager,
    MemoryStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
    StorageInterface,
    _flights,
)
from smm.errors import CircularMetricError, MetricNotStoredError
from tests.stores import MAKERS, DictStorage

LONG = 30.0
"""Seconds after which a test that hangs is given up; nothing waits this long when all is well."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads
        for held in Held.all:  # a test that failed leaves no thread behind that waits
            held.go.set()
        Held.all.clear()


class Waiters(logging.Handler):
    """Counts the threads that have said that they wait."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.said = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line.startswith("Wait for "):
            with self.said:
                self.lines.append(line)
                self.said.notify_all()

    def until(self, count: int) -> None:
        """Return when `count` threads wait."""
        with self.said:
            assert self.said.wait_for(lambda: len(self.lines) >= count, LONG), self.lines


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiters]:
    """Threads say that they wait as soon as they do."""
    monkeypatch.setattr(_flights, "_SAY_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(_flights, "_LOOK_EVERY_SECONDS", 0.001)
    handler = Waiters()
    logger = logging.getLogger("smm")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


class Held:
    """A metric's function that tells when it has begun, and ends when it is told to."""

    all: ClassVar[list[Held]] = []

    def __init__(self, result: Any = "value") -> None:
        self.all.append(self)
        self.result = result
        self.calls = 0
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self) -> Any:
        self.calls += 1
        self.begun.release()
        assert self.go.wait(LONG)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def has_begun(self) -> None:
        assert self.begun.acquire(timeout=LONG)


def manager(storage: StorageInterface, **functions: Callable[[], Any]) -> DatedCacheManager:
    made = DatedCacheManager(storage, verbose=False, on_stale="serve")
    made.set_functions_dict(functions)
    return made


# --- threads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_many_threads_one_computation(
    tmp_path: Path, kind: str, pool: ThreadPoolExecutor, waiters: Waiters
) -> None:
    held = Held(np.arange(3.0))
    cm = manager(MAKERS[kind](tmp_path), x=held)
    asks: list[Callable[[], Any]] = [
        lambda: cm.get("x"),
        lambda: cm["x"],
        lambda: cm.save("x"),
        lambda: cm.compute("x"),
    ]
    first = pool.submit(cm.get, "x")
    held.has_begun()
    others = [pool.submit(asks[n % 4]) for n in range(8)]
    waiters.until(8)
    held.go.set()
    values = [future.result(LONG) for future in [first, *others]]
    assert all(np.asarray(value).tolist() == [0.0, 1.0, 2.0] for value in values)
    assert held.calls == 1


def test_threads_that_begin_at_once(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    for round_ in range(20):
        counted = Held(7)
        counted.go.set()
        cm = manager(NpzStorageInterface(tmp_path / str(round_)), x=counted)
        barrier = threading.Barrier(8)

        def ask(cm: DatedCacheManager = cm, barrier: threading.Barrier = barrier) -> Any:
            barrier.wait(LONG)
            return cm["x"]

        assert [future.result(LONG) for future in [pool.submit(ask) for _ in range(8)]] == [7] * 8
        assert counted.calls == 1


def test_two_managers_of_one_folder_compute_once(
    tmp_path: Path, pool: ThreadPoolExecutor, waiters: Waiters
) -> None:
    held = Held()
    (tmp_path / "link").symlink_to(tmp_path / "results")
    one = manager(NpzStorageInterface(tmp_path / "results"), x=held)
    other = manager(NpzStorageInterface(tmp_path / "link"), x=held)
    first = pool.submit(one.get, "x")
    held.has_begun()
    second = pool.submit(other.get, "x")
    waiters.until(1)
    held.go.set()
    assert (first.result(LONG), second.result(LONG)) == ("value", "value")
    assert held.calls == 1


def test_two_managers_of_one_storage_compute_once(pool: ThreadPoolExecutor, waiters: Waiters) -> None:
    for storage in (MemoryStorageInterface(), DictStorage()):
        held = Held()
        first = pool.submit(manager(storage, x=held).get, "x")
        held.has_begun()
        waiters.lines.clear()
        second = pool.submit(manager(storage, x=held).get, "x")
        waiters.until(1)
        held.go.set()
        assert (first.result(LONG), second.result(LONG), held.calls) == ("value", "value", 1)


def test_different_metrics_at_the_same_time(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    both = threading.Barrier(2)
    cm = manager(NpzStorageInterface(tmp_path), x=lambda: both.wait(LONG) * 0, y=lambda: both.wait(LONG) * 0)
    assert [future.result(LONG) for future in [pool.submit(cm.get, "x"), pool.submit(cm.get, "y")]] == [0, 0]


def test_different_rows_at_the_same_time(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    both = threading.Barrier(2)
    cm = ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, dynamic_metric_creation=True
    )
    calls: list[int] = []

    @cm.collect
    def row(a: int) -> int:
        calls.append(a)
        both.wait(LONG)
        return a

    futures = [pool.submit(cm.row, a) for a in (1, 2, 1, 2)]
    assert [future.result(LONG) for future in futures] == [1, 2, 1, 2]
    assert sorted(calls) == [1, 2]


def test_no_lock_is_held_but_of_what_runs(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """While `a` runs, which has read `b`, others may compute `b` again."""
    held = Held()
    cm = manager(NpzStorageInterface(tmp_path), a=lambda: [cm["b"], held()], b=lambda: 1)
    first = pool.submit(cm.get, "a")
    held.has_begun()
    assert cm.get("b", use_stored=False) == 1
    held.go.set()
    assert first.result(LONG) == [1, "value"]


def test_a_memory_hit_waits_for_nobody(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    held = Held("new")
    cm = manager(NpzStorageInterface(tmp_path), x=lambda: "old")
    cm.get("x")
    cm.functions_dict["x"] = held
    first = pool.submit(cm.get, "x", use_stored=False)
    held.has_begun()
    assert cm["x"] == "old"
    held.go.set()
    assert first.result(LONG) == "new"
    assert cm["x"] == "new"


def test_who_waited_for_a_failed_computation_gets_its_exception(
    tmp_path: Path, pool: ThreadPoolExecutor, waiters: Waiters
) -> None:
    error = ValueError("no")
    held = Held(error)
    cm = manager(NpzStorageInterface(tmp_path), x=held, y=lambda: cm["x"])
    first = pool.submit(cm.get, "x")
    held.has_begun()
    others = [pool.submit(cm.get, "x"), pool.submit(cm.compute, "x"), pool.submit(cm.get, "y")]
    waiters.until(3)
    held.go.set()
    assert first.exception(LONG) is error
    for other in others:
        assert isinstance(other.exception(LONG), ValueError)
    assert held.calls == 1
    held.result = "mended"
    assert cm["x"] == "mended", "who asks later computes"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_another_threads_interrupt_is_not_shared(
    tmp_path: Path, pool: ThreadPoolExecutor, waiters: Waiters, error: BaseException
) -> None:
    held = Held(error)
    cm = manager(NpzStorageInterface(tmp_path), x=held)
    first = pool.submit(cm.get, "x")
    held.has_begun()
    cm.functions_dict["x"] = lambda: "other"
    second = pool.submit(cm.get, "x")
    waiters.until(1)
    held.go.set()
    assert first.exception(LONG) is error
    assert second.result(LONG) == "other"


def test_who_waited_for_a_failed_recomputation_gets_the_old_value(
    tmp_path: Path, pool: ThreadPoolExecutor, waiters: Waiters
) -> None:
    manager(NpzStorageInterface(tmp_path), x=lambda: "old").get("x")
    held = Held(ValueError("no"))
    first = pool.submit(manager(NpzStorageInterface(tmp_path), x=held).get, "x", use_stored=False)
    held.has_begun()
    second = pool.submit(manager(NpzStorageInterface(tmp_path), x=dict).get, "x")
    waiters.until(1)
    held.go.set()
    assert isinstance(first.exception(LONG), ValueError)
    assert second.result(LONG) == "old"


@pytest.mark.parametrize("change", ["computed again", "deleted"])
def test_what_was_read_before_a_change_does_not_come_into_memory_after_it(
    tmp_path: Path, pool: ThreadPoolExecutor, change: str
) -> None:
    """A stored pair is read without waiting for anybody; what happens meanwhile counts all the same."""
    changes: list[Callable[[], Any]] = []

    class Slow(NpzStorageInterface):
        def load_verified(self, name: str, stamp: Any) -> Any:
            value = super().load_verified(name, stamp)
            if changes:
                pool.submit(changes.pop()).result(LONG)
            return value

    values = iter(["old", "new", "newer"])
    cm = manager(Slow(tmp_path), x=lambda: next(values))
    assert cm.get("x") == "old"
    cm.clear_cache()
    if change == "deleted":
        changes.append(lambda: cm.delete("x"))
    else:
        changes.append(lambda: cm.get("x", use_stored=False))
    assert cm.get("x") == "new"
    assert not changes
    assert cm["x"] == cm.load("x", force=True) == "new"


def test_an_error_of_deleting_is_not_shared(
    tmp_path: Path, pool: ThreadPoolExecutor, waiters: Waiters
) -> None:
    held = Held(OSError(30, "Read-only file system"))

    class Undeletable(NpzStorageInterface):
        def delete(self, name: str) -> None:
            held()

    storage = Undeletable(tmp_path)
    cm = manager(storage, x=lambda: 1)
    cm.get("x")
    cm.clear_cache()
    first = pool.submit(cm.delete, "x")
    held.has_begun()
    second = pool.submit(cm.get, "x")
    waiters.until(1)
    held.go.set()
    assert isinstance(first.exception(LONG), OSError)
    assert second.result(LONG) == 1


def test_use_stored_false_computes_again_for_each_who_asks(
    tmp_path: Path, pool: ThreadPoolExecutor, waiters: Waiters
) -> None:
    held = Held()
    cm = manager(NpzStorageInterface(tmp_path), x=held)
    first = pool.submit(cm.get, "x", use_stored=False)
    held.has_begun()
    second = pool.submit(cm.get, "x", use_stored=False)
    waiters.until(1)
    assert held.calls == 1, "one after the other"
    held.go.set()
    assert (first.result(LONG), second.result(LONG), held.calls) == ("value", "value", 2)


@pytest.mark.parametrize("kind", ["npz", "three methods, dict"])
def test_metrics_that_read_each_other_from_several_threads(
    tmp_path: Path, kind: str, pool: ThreadPoolExecutor
) -> None:
    for round_ in range(10):
        inside = threading.Barrier(3)

        cm = DatedCacheManager(MAKERS[kind](tmp_path / str(round_)), verbose=False)

        def reads(name: str, cm: DatedCacheManager = cm, inside: threading.Barrier = inside) -> Any:
            inside.wait(LONG)
            return cm[name]

        cm.set_functions_dict({name: functools.partial(reads, other) for name, other in ("ab", "bc", "ca")})
        errors = [future.exception(LONG) for future in [pool.submit(cm.get, name) for name in "abc"]]
        for error in errors:
            assert isinstance(error, CircularMetricError), error
            assert error.chain[0] == error.chain[-1]
            assert set(error.chain) == {"a", "b", "c"}
        assert cm.cache == {}


def test_threads_of_a_metric_may_compute_others(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    cm = manager(
        NpzStorageInterface(tmp_path),
        total=lambda: sum(future.result(LONG) for future in [pool.submit(cm.get, name) for name in "ab"]),
        a=lambda: 1,
        b=lambda: cm["a"] + 1,
    )
    assert cm["total"] == 3


def test_a_thread_that_waits_says_for_what(
    tmp_path: Path,
    pool: ThreadPoolExecutor,
    waiters: Waiters,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = Held()
    cm = manager(NpzStorageInterface(tmp_path), x=held)
    first = pool.submit(cm.get, "x")
    held.has_begun()
    second = pool.submit(cm.get, "x", verbose=True)
    third = pool.submit(cm.get, "x")
    waiters.until(2)
    held.go.set()
    assert (first.result(LONG), second.result(LONG), third.result(LONG)) == ("value",) * 3
    line = "Wait for x: another thread is working on it"
    assert waiters.lines == [line, line], "once each"
    assert capsys.readouterr().out == line + "\n"


def test_how_long_nothing_is_said() -> None:
    from smm import _locks

    assert _flights._SAY_AFTER_SECONDS == _locks._SAY_AFTER_SECONDS == 5.0


def test_a_stress_of_everything(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """Whatever many threads do, a value is whole and belongs to its name."""
    storage = NpzStorageInterface(tmp_path)
    names = [f"m{n}" for n in range(6)]

    def made() -> DatedCacheManager:
        cm = DatedCacheManager(storage, verbose=False, on_stale="serve")
        cm.set_functions_dict(
            {
                name: (lambda name=name, n=n: [name, np.full(50, n)] + ([cm[names[n - 1]]] if n else []))
                for n, name in enumerate(names)
            }
        )
        return cm

    managers = [made(), made()]

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(40):
            cm, n = managers[random.integers(2)], int(random.integers(6))
            what = random.integers(7)
            try:
                if what == 0:
                    cm.delete(names[n])
                elif what == 1:
                    cm.clear_cache()
                elif what == 2:
                    value = cm.load(names[n])
                else:
                    value = cm.get(names[n], use_stored=bool(what > 3))
                if what > 1:
                    assert value[0] == names[n]
                    assert value[1].tolist() == [n] * 50
            except MetricNotStoredError:
                assert what in (0, 2)

    for future in [pool.submit(work, seed) for seed in range(8)]:
        future.result(LONG)
    assert list((tmp_path / ".smm" / "tmp").iterdir()) == []


# --- processes --------------------------------------------------------------------------------------------

CHILD = """
import json, os, sys
import numpy as np
import smm
from smm import _locks
from smm.errors import SmmError

folder, kind = sys.argv[1:]
_locks._SAY_AFTER_SECONDS = 0.0

def say(*words):
    # one write a line: several processes may share a terminal
    os.write(1, (json.dumps(words) + "\\n").encode())

def pause(*words):
    say(*words)
    return sys.stdin.readline().split()

class Pausing(smm.NpzStorageInterface):
    # stops at the steps of publishing that it is told
    at = ()
    def stage(self, name, data):
        staged = super().stage(name, data)
        publish = staged.publish
        outer = self
        class Told:
            stamp = staged.stamp
            discard = staticmethod(staged.discard)
            @staticmethod
            def publish():
                outer.step("publish")
                publish()
        self.step("staged")
        return Told()
    def step(self, name):
        if name in self.at:
            pause("step", name)
    def remove_record(self, name):
        self.step("remove_record")
        super().remove_record(name)
    def write_record(self, name, text):
        self.step("write_record")
        super().write_record(name, text)
        self.step("done")

storage = {"npz": smm.NpzStorageInterface, "pausing": Pausing}[kind](folder)
cm = smm.DatedCacheManager(storage, verbose=False)

def held():
    with open(os.path.join(folder, "..", "computed"), "a") as file:
        file.write(f"{os.getpid()}\\n")
    answer = pause("computing")
    if answer == ["fail"]:
        raise ValueError("no")
    return {"pid": os.getpid(), "data": np.full(1000, os.getpid())}

def quick():
    with open(os.path.join(folder, "..", "computed"), "a") as file:
        file.write(f"{os.getpid()}\\n")
    return {"pid": os.getpid(), "data": np.full(1000, os.getpid())}

def half(other):
    def function():
        pause("inside")
        return cm.get(other)
    return function

cm.set_functions_dict({"x": held, "y": held, "quick": quick, "a": half("b"), "b": half("a")})

def waiting(line):
    if line.startswith("Wait for "):
        say("waiting", line)
    return True

import logging
logging.getLogger("smm").setLevel(logging.INFO)
class Handler(logging.Handler):
    def emit(self, record):
        waiting(record.getMessage())
logging.getLogger("smm").addHandler(Handler())

say("ready", os.getpid())
while line := sys.stdin.readline():
    what, *rest = line.split()
    try:
        if what == "get":
            value = cm.get(*rest)
            say("value", value["pid"], bool((value["data"] == value["pid"]).all()))
        elif what == "load":
            value = cm.load(*rest)
            say("value", value["pid"], bool((value["data"] == value["pid"]).all()))
        elif what == "record":
            say("value", cm.record(*rest).name)
        elif what == "again":
            value = cm.get(*rest, use_stored=False)
            say("value", value["pid"], True)
        elif what == "delete":
            cm.delete(*rest)
            say("ok")
        elif what == "pause_at":
            storage.at = rest
            say("ok")
        elif what == "storm":
            # computes and stores different data for ever
            n = 0
            while True:
                n += 1
                cm.functions_dict["storm"] = lambda: np.full(20_000 + n % 7, n)
                cm.get("storm", use_stored=False)
                say("stored", n)
        elif what == "race":
            for n in range(int(rest[0])):
                cm.clear_cache()
                cm.functions_dict["race"] = lambda: np.full(100, os.getpid())
                value = cm.get("race", use_stored=n % 3 > 0)
                assert (value == value[0]).all()
            say("value", os.getpid(), True)
    except (SmmError, ValueError) as error:
        say("error", type(error).__name__, str(error))
"""


class Child:
    """Another process with a manager over the same folder, told what to do line by line."""

    def __init__(self, folder: Path, kind: str = "npz") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CHILD, str(folder), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self.process.pid
        # No pipe is read for ever: a child that hangs is gone after a while, and the test fails.
        self.watch = threading.Timer(LONG, self.process.kill)
        self.watch.daemon = True
        self.watch.start()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hears(self, *expected: Any) -> list[Any]:
        """The next line the process says, which begins as expected; `gone` if there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        words: list[Any] = json.loads(line) if line else ["gone"]
        assert words[: len(expected)] == [*expected]
        return words

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(LONG)

    def close(self) -> None:
        self.watch.cancel()
        self.process.kill()
        self.process.wait(LONG)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Family:
    """The processes of one test, over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []

    def born(self, count: int = 1, kind: str = "npz") -> list[Child]:
        """Start processes, side by side, and wait until they are ready."""
        new = [Child(self.folder, kind) for _ in range(count)]
        self.children += new
        for child in new:
            child.hears("ready", child.pid)
        return new

    def computed(self) -> list[int]:
        """Which processes have computed, in order."""
        path = self.folder.parent / "computed"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path / "results")
    made.folder.mkdir()
    try:
        yield made
    finally:
        for child in made.children:
            child.close()


def test_processes_compute_once_and_say_for_whom_they_wait(family: Family) -> None:
    one, two, three = family.born(3)
    one.tell("get x")
    one.hears("computing")
    for other in (two, three):
        other.tell("get x")
        other.hears("waiting", f"Wait for x: process {one.pid} is working on it")
    one.tell("go")
    for child in (one, two, three):
        child.hears("value", one.pid, True)
    assert family.computed() == [one.pid]


def test_processes_that_begin_at_once(family: Family) -> None:
    children = family.born(4)
    for child in children:
        child.tell("get quick")
    values = set()
    for child in children:
        while (words := child.hears())[0] == "waiting":
            pass
        values.add(tuple(words))
    assert len(values) == 1
    assert len(family.computed()) == 1


def test_processes_compute_different_metrics_at_the_same_time(family: Family) -> None:
    one, two = family.born(2)
    one.tell("get x")
    two.tell("get y")
    one.hears("computing")
    two.hears("computing")
    for child in (one, two):
        child.tell("go")
        child.hears("value", child.pid, True)


def test_a_killed_holder_blocks_nobody(family: Family) -> None:
    one, two = family.born(2)
    one.tell("get x")
    one.hears("computing")
    two.tell("get x")
    two.hears("waiting")
    one.kill()
    two.hears("computing")
    two.tell("go")
    two.hears("value", two.pid, True)
    assert family.computed() == [one.pid, two.pid]


def test_a_killed_waiter_blocks_nobody(family: Family) -> None:
    one, two, three = family.born(3)
    one.tell("get x")
    one.hears("computing")
    for child in (two, three):
        child.tell("get x")
        child.hears("waiting")
    two.kill()
    one.tell("go")
    for child in (one, three):
        child.hears("value", one.pid, True)


def test_after_a_failure_the_waiting_process_computes(family: Family) -> None:
    one, two = family.born(2)
    one.tell("get x")
    one.hears("computing")
    two.tell("get x")
    two.hears("waiting")
    one.tell("fail")
    one.hears("error", "ValueError")
    two.hears("computing")
    two.tell("go")
    two.hears("value", two.pid, True)


def test_reading_a_complete_pair_waits_for_nobody_and_writes_nothing(family: Family) -> None:
    one, two = family.born(2)
    one.tell("get quick")
    one.hears("value", one.pid)
    before = {path.name: path.stat().st_mtime_ns for path in family.folder.iterdir()}
    two.tell("get quick")
    two.hears("value", one.pid, True)
    assert {path.name: path.stat().st_mtime_ns for path in family.folder.iterdir()} == before
    one.tell("get x")
    one.hears("computing")
    one.tell("go")
    one.hears("value")
    one.tell("again x")
    one.hears("computing")
    two.tell("get x")
    two.hears("value", one.pid, True)  # the old value, while the new one is computed


def test_metrics_that_read_each_other_from_two_processes(family: Family) -> None:
    one, two = family.born(2)
    one.tell("get a")
    two.tell("get b")
    for child in (one, two):
        child.hears("inside")
    for child in (one, two):
        child.tell("go")
        child.tell("go")  # for the one that does without the lock, which would never come, and computes both
    for child in (one, two):
        while (words := child.hears())[0] in ("inside", "waiting"):
            pass
        assert words[:2] == ["error", "CircularMetricError"]
        assert words[2].startswith(("a -> b -> a:", "b -> a -> b:"))


@pytest.mark.parametrize("step", ["publish", "write_record"])
@pytest.mark.parametrize("ask", ["load", "record", "get"])
def test_a_reader_looks_again_before_it_says_not_stored(family: Family, step: str, ask: str) -> None:
    [one] = family.born(1, "pausing")
    [two] = family.born(1)
    one.tell("get quick")
    one.hears("value")
    one.tell(f"pause_at {step}")
    one.hears("ok")
    one.tell("again quick")
    one.hears("step", step)
    two.tell(f"{ask} quick")
    two.hears("waiting")
    one.tell("go")
    one.hears("value")
    two.hears("value", "quick" if ask == "record" else one.pid)
    assert family.computed() == [one.pid, one.pid]


def test_deleting_waits_for_who_is_storing(family: Family) -> None:
    """Else the side-car would be written after its data is gone."""
    [one] = family.born(1, "pausing")
    [two] = family.born(1)
    one.tell("pause_at write_record")
    one.hears("ok")
    one.tell("get quick")
    one.hears("step", "write_record")
    two.tell("delete quick")
    two.hears("waiting", f"Wait for quick: process {one.pid} is working on it")
    one.tell("go")
    one.hears("value")
    two.hears("ok")
    assert {path.name for path in family.folder.iterdir()} == {".smm"}


@pytest.mark.parametrize("step", ["staged", "remove_record", "publish", "write_record", "done"])
def test_killed_at_each_step_of_publishing(family: Family, step: str) -> None:
    [one] = family.born(1, "pausing")
    [two] = family.born(1)
    one.tell("get quick")
    one.hears("value", one.pid)
    one.tell(f"pause_at {step}")
    one.hears("ok")
    one.tell("again quick")
    one.hears("step", step)
    one.kill()
    whole = step in ("staged", "remove_record", "done")
    if whole:
        two.tell("load quick")
        two.hears("value", one.pid, True)
    else:
        two.tell("load quick")
        two.hears("error", "MetricNotStoredError")
        two.tell("get quick")
        two.hears("value", two.pid, True)
    visible = {path.name for path in family.folder.iterdir()} - {".smm"}
    assert visible == {"quick.npz", "quick_date.json"}


def storms(count: int, family: Family) -> None:
    """Kill a process that stores for ever, again and again."""
    for round_ in range(count):
        cm = DatedCacheManager(NpzStorageInterface(family.folder), verbose=False)
        [child] = family.born(1)
        child.tell("storm")
        for n in range(round_ % 5 + 1):
            child.hears("stored", n + 1)
        child.kill()  # somewhere in the next one
        if cm.exists("storm"):
            value = cm.load("storm")
            assert value.tolist() == [value[0]] * len(value)
            assert len(value) == 20_000 + value[0] % 7
            assert cm.record("storm").name == "storm"
        assert {path.name for path in family.folder.iterdir()} <= {"storm.npz", "storm_date.json", ".smm"}
        assert (family.folder / "storm.npz").exists()
        child.close()
    # what the killed have left is swept when it is a day old
    temporary = family.folder / ".smm" / "tmp"
    assert len(list(temporary.iterdir())) <= 2 * count
    for path in temporary.iterdir():
        os.utime(path, ns=(0, 0))
    [child] = family.born(1)
    child.tell("get quick")
    child.hears("value", child.pid)
    assert list(temporary.iterdir()) == []


def test_killed_while_storing(family: Family) -> None:
    storms(4, family)


@pytest.mark.slow
def test_killed_200_times_while_storing(family: Family) -> None:
    storms(200, family)


def test_processes_that_replace_and_read_side_by_side(family: Family) -> None:
    """Torn pairs would be warned of as damage, and warnings are errors in these processes."""
    children = family.born(3)
    for child in children:
        child.tell("race 100")
    for child in children:
        while (words := child.hears())[0] == "waiting":
            pass
        assert words == ["value", child.pid, True]


class Replaced(NpzStorageInterface):
    """Between the looks at side-car and data, another process replaces both, within a tick of the clock."""

    def __init__(self, folder: Path, newer: Path) -> None:
        super().__init__(folder)
        self.newer = newer

    def load_verified(self, name: str, stamp: Any) -> Any:
        for path in self.newer.glob("x*"):
            os.replace(path, self.metrics_dir / path.name)
        return super().load_verified(name, stamp)


@pytest.mark.parametrize("ask", ["get", "load", "save"])
def test_a_pair_that_is_replaced_between_two_reads_is_no_damage(tmp_path: Path, ask: str) -> None:
    for folder, value in (("old", 1), ("new", 2)):
        manager(NpzStorageInterface(tmp_path / folder), x=functools.partial(int, value)).get("x")
    status = (tmp_path / "old" / "x.npz").stat()
    newer = tmp_path / "new" / "x.npz"
    assert newer.stat().st_size == status.st_size
    os.utime(newer, ns=(status.st_atime_ns, status.st_mtime_ns))
    side_car = tmp_path / "new" / "x_date.json"
    noted = json.loads(side_car.read_text())
    noted["data"]["mtime_ns"] = status.st_mtime_ns
    side_car.write_text(json.dumps(noted))

    cm = manager(Replaced(tmp_path / "old", tmp_path / "new"), x=lambda: 3)
    assert getattr(cm, ask)("x") == 2


def test_without_the_service_folder_nothing_is_lost(family: Family) -> None:

    one, two = family.born(2)
    one.tell("get quick")
    one.hears("value", one.pid)
    shutil.rmtree(family.folder / ".smm")
    two.tell("get quick")
    two.hears("value", one.pid, True)
    assert not (family.folder / ".smm").exists(), "reading makes nothing"
    two.tell("again quick")
    two.hears("value", two.pid)
    one.tell("get x")
    one.hears("computing")
    two.tell("get x")
    two.hears("waiting")
    one.tell("go")
    one.hears("value", one.pid)
    two.hears("value", one.pid)


def test_a_forked_child_holds_nothing(tmp_path: Path) -> None:
    """A metric that forks, as multiprocessing does, leaves the child free to ask for others."""
    code = (
        "import os, sys, smm\n"
        f"cm = smm.DatedCacheManager(smm.NpzStorageInterface({str(tmp_path)!r}), verbose=False)\n"
        "def forked():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(cm['y'])\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "cm.set_functions_dict({'x': forked, 'y': lambda: 7})\n"
        "print(cm['x'], cm['x'], cm.exists('y'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG)
    assert done.stdout.split() == ["7", "7", "True"], done.stderr
