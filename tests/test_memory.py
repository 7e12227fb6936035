"""Memory with a limit: never more bytes, the least recently used goes first, what is unsaved never."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import smm
from smm import (
    DatedCacheManager,
    MemoryStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
    Record,
    _memory,
)
from smm._memory import BoundedMemory, weight
from tests.projects import Project, project
from tests.stores import MAKERS, DictStorage

__all__ = ["project"]

ENTRY = 512
"""What an entry takes besides its value."""


def record(name: str) -> Record:
    return Record(name=name, date=datetime(2026, 1, 31, tzinfo=UTC))


def block(number: int, count: int = 1000) -> np.ndarray[Any, Any]:
    """An array of 8 * count bytes that all say which it is."""
    return np.full(count, float(number))


def room_for(count: int, items: int = 1000) -> int:
    """A limit that so many blocks fit in, and no more. What was loaded keeps its file's head alive, too."""
    return count * (ENTRY + weight(block(0, items)) + 300)


# --- what a value weighs ---------------------------------------------------------------------------------


def test_arrays_weigh_their_bytes() -> None:
    assert 8_000_000 <= weight(np.zeros(10**6)) <= 8_000_200
    assert 1_000_000 <= weight(np.zeros((10, 10**5), "i1", order="F")) <= 1_000_200
    assert 0 < weight(np.empty(0)) < 200
    assert weight(np.zeros(1000, [("a", "f8"), ("b", "U5")])) >= 28_000


def test_memory_that_is_shared_weighs_once_and_a_view_as_what_it_keeps_alive() -> None:
    array = np.zeros(10**6)
    parts = [array[i : i + 10] for i in range(0, 1000, 10)]
    assert 8_000_000 <= weight(parts[0]) <= 8_000_400
    assert 8_000_000 <= weight(parts) <= 8_050_000
    assert weight([array, array, {"again": array}]) <= 8_002_000
    assert weight(np.broadcast_to(array, (10**6, 10**6))) <= 8_000_400
    assert weight([np.zeros(10**6), np.zeros(10**6)]) >= 16_000_000
    text = "x" * 10**6
    assert weight([text] * 1000) < 1_100_000


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (None, 1, 100),
        (3.5, 8, 100),
        (np.float64(3.5), 8, 100),
        ("x" * 10_000, 10_000, 10_100),
        (b"x" * 10_000, 10_000, 10_100),
        ([float(i) for i in range(10_000)], 10_000 * 32, 10_000 * 33),
        ([f"text {i}" for i in range(10_000)], 10_000 * 55, 10_000 * 80),
        ({f"{i}": i for i in range(10_000)}, 10_000 * 80, 10_000 * 140),
        ([np.zeros(100) for _ in range(100)], 100 * 800, 100 * 1000),
        ({"a": (np.zeros(1000), [np.ones(1000)])}, 16_000, 17_000),
        (np.array(["x" * 10_000, None], dtype=object), 10_000, 10_400),
        ({1, 2.5, "x" * 10_000}, 10_000, 10_500),
        (object(), 1, 100),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values(value: Any, least: int, most: int) -> None:
    assert least <= weight(value) <= most


def test_values_that_are_nested_deep_or_contain_themselves() -> None:
    deep: Any = [1.5]
    for _ in range(100_000):
        deep = [deep]
    assert weight(deep) > 5_000_000
    loop: list[Any] = ["x"]
    loop.append(loop)
    assert weight(loop) < 1000
    double: Any = [1]
    for _ in range(100):
        double = [double, double]
    assert weight(double) < 20_000
    while deep := deep[0]:  # taken apart by hand: Python's own way is recursive
        if not isinstance(deep, list):
            break


def test_an_object_that_does_not_say_how_large_it_is() -> None:
    class Silent:
        def __sizeof__(self) -> int:
            raise TypeError("ask someone else")

    assert 0 < weight(Silent()) < 1000


# --- the mapping against a model -------------------------------------------------------------------------

NAMES = st.sampled_from("abcdefgh")


class Memories(RuleBasedStateMachine):
    """A dict of the unsaved values, and an ordered one of the others that is cut to the limit."""

    @initialize(limit=st.integers(1, 10_000))
    def begin(self, limit: int) -> None:
        self.unsaved: set[str] = set()
        self.memory = BoundedMemory(limit, self.unsaved)
        self.held: dict[str, Any] = {}
        self.kept: OrderedDict[str, Any] = OrderedDict()

    def size(self) -> int:
        return sum(ENTRY + weight(value) for value in self.kept.values())

    def keep(self, name: str, value: Any) -> None:
        self.held.pop(name, None)
        self.kept.pop(name, None)
        if ENTRY + weight(value) <= self.memory.limit:
            self.kept[name] = value
        while self.size() > self.memory.limit:
            self.kept.popitem(last=False)

    def put(self, name: str, value: Any) -> None:
        if name in self.unsaved:
            self.kept.pop(name, None)
            self.held[name] = value
        else:
            self.keep(name, value)

    @rule(name=NAMES, value=st.binary(max_size=50) | st.integers(0, 12_000).map(bytes))
    def remember(self, name: str, value: bytes) -> None:
        self.memory.remember(name, value, record(name))
        self.put(name, value)

    @rule(name=NAMES, value=st.integers(0, 3_000).map(bytes))
    def set_by_hand(self, name: str, value: bytes) -> None:
        self.memory[name] = value
        self.put(name, value)

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        expected = self.held.get(name, self.kept.get(name))
        assert self.memory.get(name) is expected
        if name in self.kept:
            self.kept.move_to_end(name)
        if expected is None:
            with pytest.raises(KeyError, match=f"^'{name}'$"):
                self.memory[name]

    @rule(name=NAMES)
    def becomes_unsaved(self, name: str) -> None:
        self.unsaved.add(name)
        self.memory.place(name)
        if name in self.kept:
            self.held[name] = self.kept.pop(name)

    @rule(name=NAMES)
    def becomes_saved(self, name: str) -> None:
        self.unsaved.discard(name)
        self.memory.place(name)
        if name in self.held:
            self.keep(name, self.held[name])

    @rule(name=NAMES)
    def pop(self, name: str) -> None:
        expected = self.held.pop(name, self.kept.pop(name, None))
        assert self.memory.pop(name, None) is expected

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if name in self.memory:
            del self.memory[name]
        else:
            with pytest.raises(KeyError):
                del self.memory[name]
        self.held.pop(name, None)
        self.kept.pop(name, None)

    @rule()
    def clear(self) -> None:
        self.memory.clear()
        self.held.clear()
        self.kept.clear()

    @invariant()
    def as_the_model(self) -> None:
        if not hasattr(self, "memory"):
            return
        assert set(self.memory) == set(self.held) | set(self.kept)
        assert len(self.memory) == len(self.held) + len(self.kept)
        assert all((name in self.memory) == (name in self.held or name in self.kept) for name in "abcdefgh")
        assert self.memory.size == self.size() <= self.memory.limit


TestMemories = Memories.TestCase


def test_what_it_looks_like() -> None:
    memory = BoundedMemory(10_000, {"b"})
    memory["a"] = bytes(1000)
    memory["b"] = bytes(50_000)
    assert repr(memory) == "<2 values, 1.54 kB of at most 10 kB>"
    assert dict(memory) == {"a": bytes(1000), "b": bytes(50_000)}
    assert None not in memory


# --- what comes in the middle ----------------------------------------------------------------------------


class Between:
    """Do something at the n-th place in the memory or in cachetools where Python may look at signals.

    That is on entering a Python function and on return from a C function; between the other steps of a
    straight piece of code the interpreter looks at none.
    """

    def __init__(self, place: int, action: Callable[[], object]) -> None:
        self.left = place
        self.action = action

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event in {"call", "c_return"} and (file == _memory.__file__ or "cachetools" in file):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                self.action()

    def during(self, operation: Callable[[], object]) -> bool:
        """Whether it was done; False when the operation has fewer places."""
        sys.setprofile(self)
        try:
            operation()
        finally:
            sys.setprofile(None)
        return self.left <= 0


def add_unsaved(memory: BoundedMemory, unsaved: set[str]) -> None:
    unsaved.add("b")
    memory.remember("b", bytes(7), record("b"))


def save(memory: BoundedMemory, unsaved: set[str]) -> None:
    unsaved.discard("kept")
    memory.place("kept")


def unsave(memory: BoundedMemory, unsaved: set[str]) -> None:
    unsaved.add("c")
    memory.place("c")


def clear(memory: BoundedMemory, unsaved: set[str]) -> None:
    memory.clear()
    unsaved.clear()


OPERATIONS: dict[str, Callable[[BoundedMemory, set[str]], object]] = {
    "look up": lambda memory, _: memory.get("b"),
    "replace": lambda memory, _: memory.remember("b", bytes(900), record("b")),
    "replace by something larger": lambda memory, _: memory.remember("b", bytes(2000), record("b")),
    "add, and let others go": lambda memory, _: memory.remember("new", bytes(2500), record("new")),
    "add what is too large": lambda memory, _: memory.remember("b", bytes(10**6), record("b")),
    "add unsaved": add_unsaved,
    "save": save,
    "unsave": unsave,
    "delete": lambda memory, _: memory.pop("b"),
    "count": lambda memory, _: len(memory),
    "clear": clear,
}


def filled() -> tuple[BoundedMemory, set[str]]:
    """Room for five values of 1,000 bytes, four of them taken, and one that is unsaved."""
    unsaved: set[str] = {"kept"}
    memory = BoundedMemory(room_for(5, 125), unsaved)
    for name in ("a", "b", "c", "d"):
        memory.remember(name, block(ord(name), 125), record(name))
    memory.remember("kept", block(0, 10**5), record("kept"))
    return memory, unsaved


def works_as_new(memory: BoundedMemory, unsaved: set[str]) -> None:
    """Whether it keeps, for whatever happened, as much as a new one."""
    for name in list(unsaved):
        memory.pop(name, None)
        unsaved.discard(name)
    for i in range(20):
        memory.remember(f"x{i}", block(i, 125), record(f"x{i}"))
    assert list(memory) == [f"x{i}" for i in range(15, 20)]
    assert [memory[f"x{i}"][0] for i in range(15, 20)] == list(range(15, 20))
    assert memory.record("x19") == record("x19")
    assert memory.size == 5 * (ENTRY + weight(block(0, 125)))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_ctrl_c_anywhere(operation: Callable[[BoundedMemory, set[str]], object]) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt() -> None:
        raise Interrupt

    for number in range(1, 10_000):
        memory, unsaved = filled()
        before = {name: bytes(memory[name]) for name in memory}
        try:
            reached = Between(number, interrupt).during(partial(operation, memory, unsaved))
        except Interrupt:
            reached = True
        if not reached:
            assert number > 3
            return
        for name in ("a", "d"):  # with these, nothing is done
            assert bytes(memory.get(name, before[name])) == before[name]
        if "kept" in unsaved:
            assert operation is OPERATIONS["clear"] or bytes(memory["kept"]) == before["kept"]
        assert memory.size <= memory.limit
        works_as_new(memory, unsaved)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_signal_handler_anywhere(operation: Callable[[BoundedMemory, set[str]], object]) -> None:
    for number in range(1, 10_000):
        memory, unsaved = filled()
        before = {name: bytes(memory[name]) for name in memory}

        def handler(memory: BoundedMemory = memory, unsaved: set[str] = unsaved) -> None:
            memory.get("a")
            assert "nowhere" not in memory
            assert len(memory) == len(list(memory))
            memory.remember("a", b"new", record("a"))
            memory.pop("d", None)
            unsaved.add("mine")
            memory.place("mine")
            memory.remember("mine", b"mine", record("mine"))
            assert memory["mine"] == b"mine"

        if not Between(number, handler).during(partial(operation, memory, unsaved)):
            assert number > 3
            return
        assert memory.get("a", b"new") == b"new", "never what was replaced"
        assert "d" not in memory
        if operation is not OPERATIONS["clear"]:
            assert memory["mine"] == b"mine"
            assert "kept" not in unsaved or bytes(memory["kept"]) == before["kept"]
        assert memory.size <= memory.limit
        works_as_new(memory, unsaved)


def test_a_child_of_a_fork_waits_for_no_thread_of_its_parent() -> None:
    code = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")  # newer Pythons warn of forks with threads, which is what this is about
from smm._memory import BoundedMemory
memory = BoundedMemory(10_000, set())
memory["a"] = b"a"
inside, done = threading.Event(), threading.Event()
def stay(frame, event, arg):
    if "cachetools" in frame.f_code.co_filename and not inside.is_set():
        inside.set()
        done.wait()
def look():
    sys.setprofile(stay)
    memory.get("a")
thread = threading.Thread(target=look)
thread.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(30)
    memory["b"] = b"b"
    os._exit(0 if memory["b"] == b"b" and memory.get("a", b"a") == b"a" else 3)
print(os.waitpid(child, 0)[1])
done.set()
thread.join()
print(memory["a"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["0", "b'a'"]


# --- managers --------------------------------------------------------------------------------------------


class Failing(DictStorage):
    """A dict, into which nothing can be saved while `full` is True."""

    full = False

    def save(self, name: str, data: Any) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().save(name, data)

    def delete(self, name: str) -> None:
        del self.kept[name]


def stored_bytes(cm: DatedCacheManager) -> int:
    return sum(weight(cm.cache[name]) for name in cm.cache if name not in cm._unsaved)


def counting(cm: ParameterizedDatedCacheManager, rows: int = 20) -> list[int]:
    """Declares `f` of so many rows, each a block that says its row; what is computed is noted."""
    calls: list[int] = []

    @cm.collect(params_list=range(rows))
    def f(a: int) -> Any:
        calls.append(a)
        return block(a)

    return calls


@pytest.mark.parametrize("store", MAKERS)
def test_the_least_recently_used_goes_first(store: str, tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(
        MAKERS[store](tmp_path),
        verbose=False,
        memory_limit=110_000 if store == "json" else room_for(3),  # JSON makes lists of them
    )
    calls = counting(cm)
    for a in (1, 2, 3):
        cm.f(a)
    assert list(cm.cache) == ["f_1", "f_2", "f_3"]
    cm.f(1)
    cm.f(4)
    assert sorted(cm.cache) == ["f_1", "f_3", "f_4"]
    cm.load("f_3")
    cm.get("f_5")
    assert sorted(cm.cache) == ["f_3", "f_4", "f_5"]
    assert cm.f(2)[0] == 2.0
    assert sorted(cm.cache) == ["f_2", "f_3", "f_5"]
    assert calls == [1, 2, 3, 4, 5], "what left memory is read, not computed"


def test_without_a_limit_it_is_a_dict_and_cachetools_is_not_loaded() -> None:
    cm = DatedCacheManager(MemoryStorageInterface())
    assert isinstance(cm.cache, dict)
    assert cm.memory_limit is None
    code = """
import sys, smm
cm = smm.DatedCacheManager(smm.MemoryStorageInterface(), verbose=False)
cm.set_functions_dict({"x": lambda: 1})
cm.get("x")
assert "cachetools" not in sys.modules
smm.DatedCacheManager(smm.MemoryStorageInterface(), memory_limit="1 MB")
assert "cachetools" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", [DatedCacheManager, ParameterizedDatedCacheManager])
@pytest.mark.parametrize(("limit", "wanted"), [(1, 1), (10**9, 10**9), ("2 GiB", 2**31), ("1.5 kB", 1500)])
def test_limits(kind: type[DatedCacheManager], limit: int | str, wanted: int) -> None:
    cm = kind(MemoryStorageInterface(), memory_limit=limit)
    assert cm.memory_limit == wanted
    assert isinstance(cm.cache, BoundedMemory)
    assert cm.cache.limit == wanted
    assert "0 in memory" in repr(cm)


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "2", "2 G", "0 B", b"2 GB", [1]])
def test_what_is_no_limit(limit: Any) -> None:
    with pytest.raises(ValueError, match=r"^memory_limit: found .*or a whole number of bytes from 1$"):
        DatedCacheManager(MemoryStorageInterface(), memory_limit=limit)


def test_a_limit_from_a_file(project: Project) -> None:
    project.write("bounded_code.py", "import numpy\ndef f(a): return numpy.full(1000, float(a))")
    metric = "{function: bounded_code.f, params_list: [1, 2, 3]}"
    text = f"{{memory_limit: 20 kB, verbose: false, metrics: {{f: {metric}}}}}"
    cm = smm.from_config(project.write("metrics.yaml", text))
    assert cm.memory_limit == 20_000
    assert [value[0] for value in cm.f.get_all()] == [1.0, 2.0, 3.0]
    assert list(cm.cache) == ["f_2", "f_3"]
    without = smm.from_config(project.write("metrics.yaml", text.replace("memory_limit: 20 kB, ", "")))
    assert without.memory_limit is None


def test_a_value_beyond_the_limit_is_served_and_stored_but_not_kept(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, memory_limit=room_for(2)
    )
    calls = counting(cm)
    cm.f(1)
    cm.functions_dict["large"] = lambda: np.ones(10**6)
    assert cm.get("large").sum() == 10**6
    assert list(cm.cache) == ["f_1"], "it makes no room for what does not fit anyway"
    assert cm.get("large").sum() == 10**6
    assert cm.exists("large")
    assert cm.save("large").sum() == 10**6
    assert calls == [1]


def test_a_value_that_grows_beyond_the_limit_takes_the_old_one_along(tmp_path: Path) -> None:
    cm = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False, memory_limit=room_for(1))
    sizes = [10, 10**6]
    cm.set_functions_dict({"x": lambda: np.ones(sizes.pop(0))})
    assert cm.get("x").size == 10
    assert cm.get("x", use_stored=False).size == 10**6
    assert list(cm.cache) == []
    assert cm.get("x").size == 10**6


def test_what_could_not_be_stored_is_never_let_go() -> None:
    storage = Failing()
    cm = ParameterizedDatedCacheManager(storage, verbose=False, memory_limit=room_for(2))
    calls = counting(cm, 100)
    storage.full = True
    before = datetime.now(UTC)
    for a in (1, 2, 3):  # more than the limit
        with pytest.raises(OSError, match="No space left"):
            cm.f(a)
    assert "3 unsaved" in repr(cm)
    storage.full = False
    for a in range(10, 100):
        assert cm.f(a)[0] == a
    assert {"f_1", "f_2", "f_3"} <= set(cm.cache)
    assert stored_bytes(cm) <= room_for(2)
    assert np.array_equal(cm.save("f_1"), block(1))
    assert np.array_equal(storage.load("f_1"), block(1))
    assert before < cm.record("f_1").date < cm.record("f_10").date, "dated by when it was computed"
    assert cm.f(2)[0] == 2.0
    assert cm.f(3)[0] == 3.0
    assert calls == [1, 2, 3, *range(10, 100)], "none of them twice"
    assert len(cm.cache) == 2
    assert "unsaved" not in repr(cm)


def test_what_was_only_computed_is_never_let_go(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False, memory_limit=1)
    calls = counting(cm)
    for a in range(5):
        cm.compute(f"f_{a}")
    assert len(cm.cache) == 5
    assert list(tmp_path.iterdir()) == []
    for a in range(5):
        cm.save(f"f_{a}")
    assert len(cm.cache) == 0
    assert [cm.f(a)[0] for a in range(5)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert calls == [0, 1, 2, 3, 4]


def test_save_stores_again_what_memory_has_and_the_storage_lost() -> None:
    storage = Failing()
    cm = ParameterizedDatedCacheManager(storage, verbose=False, memory_limit=room_for(2))
    calls = counting(cm)
    cm.f(1)
    noted = cm.record("f_1")
    storage.kept.clear()
    storage.full = True
    with pytest.raises(OSError, match="No space left"):
        cm.save("f_1")
    storage.full = False
    for a in range(2, 8):
        cm.f(a)
    cm.save("f_1")
    assert cm.record("f_1") == noted
    assert calls == [1, 2, 3, 4, 5, 6, 7]


def test_delete_and_clear_cache(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, memory_limit=room_for(9)
    )
    calls = counting(cm)
    cm.f(1)
    cm.f(2)
    cm.compute("f_3")
    cm.delete("f_1")
    assert list(cm.cache) == ["f_3", "f_2"]
    cm.f(1)
    cm.clear_cache()
    assert list(cm.cache) == []
    assert cm.f(2)[0] == 2.0
    assert calls == [1, 2, 3, 1]


def test_writable_copies_leave_what_is_kept_alone(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, read_only=False, memory_limit=room_for(2)
    )
    counting(cm)
    cm.f(1)[:] = 7
    assert cm.f(1)[0] == 1.0


ACTIONS = st.tuples(
    st.sampled_from(["call", "again", "compute", "save", "load", "delete", "clear", "full", "empty"]),
    st.integers(0, 7),
)


@settings(max_examples=200)
@given(st.lists(ACTIONS, max_size=40), st.integers(1, 40_000))
def test_whatever_is_done_to_a_manager(actions: list[tuple[str, int]], limit: int) -> None:
    """Against a dict of what every name's value is, one of what is stored and a set of what is unsaved."""
    storage = Failing()
    cm = ParameterizedDatedCacheManager(storage, verbose=False, memory_limit=limit)
    versions = dict.fromkeys(range(8), 0)

    @cm.collect(params_list=range(8))
    def f(a: int) -> Any:
        versions[a] += 1
        return {"version": versions[a], "data": block(a, 10**a // 500)}

    known: dict[int, int] = {}
    unsaved: set[int] = set()
    for action, a in actions:
        name = f"f_{a}"
        before = versions[a]
        try:
            match action:
                case "full" | "empty":
                    storage.full = action == "full"
                    continue
                case "clear":
                    cm.clear_cache()
                    for each in unsaved:
                        known.pop(each, None)
                        if f"f_{each}" in storage.kept:
                            known[each] = storage.kept[f"f_{each}"]["version"]
                    unsaved.clear()
                    continue
                case "delete":
                    if known.pop(a, None) is not None:
                        cm.delete(name)
                    unsaved.discard(a)
                    continue
                case "load":
                    if a not in known:
                        continue
                    value = cm.load(name)
                case "again":
                    value = cm.get(name, use_stored=False)
                case _:
                    value = {"call": cm.get, "compute": cm.compute, "save": cm.save}[action](name)
        except OSError:
            assert storage.full
            unsaved.add(a)
        else:
            if action == "compute":
                unsaved |= {a} if versions[a] > before else set()
            elif action != "load":
                unsaved.discard(a)
            assert value["version"] == versions[a] if versions[a] > before else known[a]
            assert np.array_equal(value["data"], block(a, 10**a // 500))
        if versions[a] > before:
            # Neither what is in memory nor what is stored is computed again, unless one asks for it.
            assert a not in known or action in ("again", "compute")
            known[a] = versions[a]
        assert {f"f_{each}" for each in unsaved} <= set(cm.cache)
        assert stored_bytes(cm) <= limit
        assert cm._records == {}


@pytest.mark.parametrize("store", ["npz", "memory", "three methods, dict"])
def test_threads_hammering_it(store: str, tmp_path: Path) -> None:
    limit = room_for(4)
    cm = ParameterizedDatedCacheManager(MAKERS[store](tmp_path), verbose=False, memory_limit=limit)
    lock, calls = threading.Lock(), dict.fromkeys(range(12), 0)

    @cm.collect(params_list=range(12))
    def f(a: int) -> Any:
        with lock:
            calls[a] += 1
        return block(a)

    start = threading.Barrier(8)

    def hammer(seed: int) -> int:
        random = np.random.default_rng(seed)
        start.wait()
        for turn in range(150):
            a = int(random.integers(12))
            match int(random.integers(12)):
                case 0:
                    value = cm.load(f"f_{a}") if cm.exists(f"f_{a}") else block(a)
                case 1:
                    value = cm.save(f"f_{a}")
                case 2 if turn % 10 == 0:
                    cm.clear_cache()
                    continue
                case 3:
                    assert set(cm.cache) <= {f"f_{each}" for each in range(12)}
                    assert cm.cache.size <= limit  # type: ignore[attr-defined]
                    assert repr(cm)
                    continue
                case _:
                    value = cm.f(a)
            assert np.array_equal(value, block(a))
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hammer, range(8))) == list(range(8))
    assert set(calls.values()) <= {0, 1}
    assert stored_bytes(cm) <= limit
    for a in range(12):
        assert np.array_equal(cm.f(a), block(a))
    assert len(cm.cache) == 4


def test_threads_that_wait_for_a_value_beyond_the_limit(tmp_path: Path) -> None:
    cm = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False, memory_limit=1)
    start, calls = threading.Barrier(6), []

    def large() -> Any:
        calls.append(1)
        return np.arange(10**5)

    cm.set_functions_dict({"large": large})

    def ask(_: int) -> int:
        start.wait()
        return int(cm.get("large").sum())

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(ask, range(6))) == {sum(range(10**5))}
    assert calls == [1]


def test_a_chain_of_metrics_in_little_memory(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, dynamic_metric_creation=True, memory_limit=room_for(2)
    )

    @cm.collect
    def chain(n: int) -> Any:
        return cm.chain(n - 1) + 1 if n else block(0)

    assert cm.chain(100)[0] == 100.0
    assert len(cm.cache) == 2
    assert cm.chain(50)[0] == 50.0
