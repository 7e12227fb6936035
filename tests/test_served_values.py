"""The value a caller gets: canonical, the caller's own but for shared read-only arrays, and never lost."""

from __future__ import annotations

import functools
import math
import resource
import struct
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from smm import (
    DatedCacheManager,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
    StorageInterface,
)
from smm.errors import ChangedInMemoryError, MetricNotStoredError, SmmWarning, UnstorableError
from tests.stores import MAKERS, DictStorage, NumpyFiles, PickleFiles


def manager(storage: StorageInterface, function: Callable[[], Any], **options: Any) -> DatedCacheManager:
    # Functions are exchanged freely here; what that makes of stored values is not the topic.
    made = DatedCacheManager(storage, verbose=False, on_stale="serve", **options)
    made.set_functions_dict({"x": function})
    return made


def alike(one: Any, other: Any) -> bool:
    """Equal, with the same type, dtype, shape and byte order; nan is nan, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        if one.dtype.hasobject:
            return one.shape == other.shape and alike(one.tolist(), other.tolist())
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return (
            len(one) == len(other) and alike([*one], [*other]) and alike([*one.values()], [*other.values()])
        )
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, complex):
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    return bool(one == other)


def arrays_in(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [array for part in value for array in arrays_in(part)] if isinstance(value, list | tuple) else []


ARRAYS = npst.arrays(
    st.one_of(npst.boolean_dtypes(), npst.integer_dtypes(), npst.floating_dtypes(), npst.datetime64_dtypes()),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.complex_numbers(),
    st.text(),
    st.binary(),
)
JSON_ATOMS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.text())


def nested(atoms: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(keys, inner, max_size=3),
        ),
        max_leaves=6,
    )


NPZ = nested(
    st.one_of(ATOMS, ARRAYS, ARRAYS.map(lambda array: array[()])), st.one_of(st.text(), st.integers())
)
JSON = nested(st.one_of(JSON_ATOMS, npst.arrays(np.float64, (2, 2)), st.just(np.int8(3))), st.text())
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "npz": NPZ,
    "npy": ARRAYS,
    "json": JSON,
    "memory": NPZ,
    "three methods, dict": NPZ,
    "three methods, files": ARRAYS,
    "subclass": NPZ,
}


# --- canonical -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_the_first_call_memory_and_a_reload_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    value = data.draw(VALUES[kind])
    storage = MAKERS[kind](tmp_path_factory.mktemp("results"))
    cm = manager(storage, lambda: value)
    first = cm["x"]
    assert alike(cm["x"], first)
    assert alike(cm.load("x", force=True), first)
    assert alike(manager(storage, lambda: None)["x"], first)
    assert alike(storage.load("x"), first)
    if hasattr(storage, "canonical"):
        assert alike(storage.canonical("x", value), first)
        assert alike(cm.compute("x", force=True), first)
        assert alike(cm.save("x"), first)
    writable = manager(storage, lambda: None, read_only=False)["x"]
    assert alike(writable, first)


@pytest.mark.parametrize(
    ("maker", "given_value", "canonical"),
    [
        (JsonStorageInterface, (1, np.arange(2)), [1, [0, 1]]),
        (JsonStorageInterface, {"a": np.float64(0.5)}, {"a": 0.5}),
        (NpyStorageInterface, [1, 2], np.array([1, 2])),
        (NpyStorageInterface, 1.5, np.array(1.5)),
        (NumpyFiles, 1.5, np.array(1.5)),
        (NumpyFiles, [[1, 2]], np.array([[1, 2]])),
    ],
)
def test_what_a_storage_gives_back_changed_is_changed_on_the_first_call(
    tmp_path: Path, maker: Any, given_value: Any, canonical: Any
) -> None:
    cm = manager(maker(tmp_path), lambda: given_value)
    assert alike(cm["x"], canonical)
    assert alike(cm["x"], canonical)
    assert alike(manager(maker(tmp_path), lambda: None)["x"], canonical)


def test_a_function_inside_a_metric_gets_the_canonical_value(tmp_path: Path) -> None:
    cm = DatedCacheManager(JsonStorageInterface(tmp_path), verbose=False)
    cm.set_functions_dict({"a": lambda: (1, 2), "b": lambda: type(cm["a"]).__name__})
    assert cm["b"] == "list"


# --- the caller's own, but for shared read-only arrays ------------------------------------------------------


def tree() -> Any:
    return {
        "list": [np.arange(3.0), [np.ones((2, 2))]],
        "tuple": (np.array("text"), 1),
        "void": np.zeros(2, "i4,f8"),
    }


WITH_ARRAYS = ["npz", "memory", "three methods, dict", "subclass"]


@pytest.fixture(params=WITH_ARRAYS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageInterface:
    return MAKERS[request.param](tmp_path)


@pytest.fixture(params=["first", "memory", "compute", "reload"])
def fetched(request: pytest.FixtureRequest, storage: StorageInterface) -> Callable[..., Any]:
    """Something that brings a manager whose metric `x` came about in each of the ways it can."""

    def fetch(function: Callable[[], Any] = tree, **options: Any) -> DatedCacheManager:
        cm = manager(storage, function, **options)
        if request.param == "compute":
            cm.compute("x")
            return cm
        cm.get("x")
        if request.param == "memory":
            cm.get("x")
        return manager(storage, function, **options) if request.param == "reload" else cm

    return fetch


def test_arrays_are_read_only(fetched: Callable[..., DatedCacheManager]) -> None:
    cm = fetched()
    for array in arrays_in(cm.load("x")):
        with pytest.raises(ValueError, match="assignment destination is read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            array.setflags(write=True)
        array.copy()[...] = 0
    assert alike(cm.load("x"), tree())


def test_arrays_are_shared(fetched: Callable[..., DatedCacheManager]) -> None:
    cm = fetched()
    for one, other in zip(arrays_in(cm.load("x")), arrays_in(cm.load("x")), strict=True):
        assert np.shares_memory(one, other)


def test_containers_are_built_anew(fetched: Callable[..., DatedCacheManager]) -> None:
    cm = fetched()
    value = cm.load("x")
    value["list"][1].append("more")
    value["list"].clear()
    value["new"] = 1
    del value["tuple"]
    assert alike(cm.load("x"), tree())


@pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array:DeprecationWarning")
def test_shape_and_dtype_belong_to_the_caller(fetched: Callable[..., DatedCacheManager]) -> None:
    cm = fetched(lambda: np.arange(4.0))
    value = cm.load("x")
    value.shape = (2, 2)
    assert cm.load("x").shape == (4,)


def test_a_structured_scalar_belongs_to_the_caller(fetched: Callable[..., DatedCacheManager]) -> None:
    cm = fetched(lambda: [np.zeros(1, "i4,f8")[0]])
    value = cm.load("x")
    with suppress(ValueError):  # a read-only one is as good
        value[0]["f0"] = 7
    assert cm.load("x")[0]["f0"] == 0


def test_read_only_false_gives_every_caller_a_writable_copy(
    fetched: Callable[..., DatedCacheManager],
) -> None:
    cm = fetched(read_only=False)
    value = cm.load("x")
    for array in arrays_in(value):
        assert array.flags.writeable
        array[...] = np.zeros((), array.dtype)
    assert alike(cm.load("x"), tree())
    assert not any(
        np.shares_memory(one, other)
        for one, other in zip(arrays_in(cm.load("x")), arrays_in(cm.load("x")), strict=True)
    )


def test_the_manager_keeps_its_own_copy(fetched: Callable[..., DatedCacheManager]) -> None:
    own = tree()
    cm = fetched(lambda: own)
    for array in arrays_in(own):
        assert array.flags.writeable, "the function's arrays stay the function's"
        array[...] = np.ones((), array.dtype)
    own["list"].clear()
    assert alike(cm.load("x"), tree())


def test_views_of_the_functions_array_are_copied(fetched: Callable[..., DatedCacheManager]) -> None:
    own = np.arange(10.0)
    cm = fetched(lambda: [own[::2], own[5:]])
    assert own.flags.writeable
    own[:] = -1
    assert alike(
        [array.tolist() for array in cm.load("x")], [[0.0, 2.0, 4.0, 6.0, 8.0], [5.0, 6.0, 7.0, 8.0, 9.0]]
    )


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("kind", [NpyStorageInterface, NpzStorageInterface])
def test_an_array_that_nobody_else_holds_is_not_copied(tmp_path: Path, kind: Any) -> None:
    places: list[int] = []

    def fresh() -> np.ndarray[Any, Any]:
        made = np.arange(12.0).reshape(3, 4).copy()
        places.append(_address(made))
        return made

    cm = manager(kind(tmp_path), fresh)
    assert _address(cm["x"]) == places[0]
    with pytest.raises(ValueError, match="read-only"):
        cm["x"][0] = 1.0
    cm.get("x", use_stored=False)
    assert _address(cm["x"]) == places[1]


_held: list[Any] = []


def _hold_view(made: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _held.append(made.view())
    return made


def _hold_weakly(made: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _held.append(weakref.ref(made))
    return made


def _hold_buffer(made: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _held.append(memoryview(made.data))
    return made


def _hold_in_frame(made: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    def frame() -> Iterator[np.ndarray[Any, Any]]:
        kept = made
        yield kept
        kept[0] = -1.0
        yield kept

    steps = frame()
    _held.append(steps)
    return next(steps)


def _hold_itself(made: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _held.append(made)
    return made


def _give_part(made: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _held.append(made)
    return made[:]


def _give_bytes(made: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _held.append(bytearray(made.tobytes()))
    return np.frombuffer(_held[-1])


def _change_what_is_held() -> None:
    for held in _held:
        if isinstance(held, weakref.ref):
            held = held()
        if held is None:
            continue
        if isinstance(held, Iterator):
            next(held)
        elif isinstance(held, np.ndarray):
            held[0] = -1.0
        else:
            memoryview(held).cast("B")[:8] = np.float64(-1.0).tobytes()
    _held.clear()


@pytest.mark.parametrize("kind", [NpyStorageInterface, NpzStorageInterface])
@pytest.mark.parametrize(
    "hold",
    [_hold_view, _hold_weakly, _hold_buffer, _hold_in_frame, _hold_itself, _give_part, _give_bytes],
)
def test_what_others_can_still_change_is_copied(tmp_path: Path, kind: Any, hold: Any) -> None:
    _held.clear()
    cm = manager(kind(tmp_path), lambda: hold(np.arange(4.0)))
    first = cm["x"]
    _change_what_is_held()
    assert first.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert cm["x"].tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("kind", [NpyStorageInterface, NpzStorageInterface])
def test_who_looks_at_the_frames_meanwhile_changes_nothing(tmp_path: Path, kind: Any) -> None:
    made = functools.cache(lambda: np.arange(4.0))

    def looked_at() -> np.ndarray[Any, Any]:
        traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)
        return made()

    first = manager(kind(tmp_path), looked_at)["x"]
    made()[0] = -1.0
    assert first.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_array_that_others_come_to_by_a_weak_reference_in_time_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weakly: list[weakref.ref[Any]] = []
    held: list[Any] = []

    def fresh() -> np.ndarray[Any, Any]:
        made = np.arange(4.0)
        weakly.append(weakref.ref(made))
        return made

    def too_late(made: Any) -> int:
        """What another thread may do between two questions: take the array, and drop the weak reference."""
        held.extend(each() for each in weakly if each() is made)
        weakly.clear()
        return count(made)

    count = weakref.getweakrefcount
    monkeypatch.setattr("smm._shelf.weakref.getweakrefcount", too_late)
    cm = manager(NpzStorageInterface(tmp_path), fresh)
    first = cm["x"]
    (mine,) = held
    mine[0] = -1.0
    assert first.tolist() == [0.0, 1.0, 2.0, 3.0]


class Rounding:
    """Stores half as many bytes in another's storage, and says so."""

    def __init__(self, inner: NpzStorageInterface) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def canonical(self, name: str, data: Any) -> Any:
        return self.inner.canonical(name, np.asarray(data, np.float32))

    def stage(self, name: str, data: Any) -> Any:
        return self.inner.stage(name, np.asarray(data, np.float32))


class RoundingToo(NpzStorageInterface):
    def canonical(self, name: str, data: Any) -> Any:
        return super().canonical(name, np.asarray(data, np.float32))

    def stage(self, name: str, data: Any) -> Any:
        return super().stage(name, np.asarray(data, np.float32))


def _rounding_by_hand(folder: Path) -> NpzStorageInterface:
    storage = NpzStorageInterface(folder)
    canonical, stage = storage.canonical, storage.stage
    vars(storage)["canonical"] = lambda name, data: canonical(name, np.asarray(data, np.float32))
    vars(storage)["stage"] = lambda name, data: stage(name, np.asarray(data, np.float32))
    return storage


@pytest.mark.parametrize(
    "make", [lambda folder: Rounding(NpzStorageInterface(folder)), RoundingToo, _rounding_by_hand]
)
def test_a_storage_with_its_own_canonical_is_asked_for_it(tmp_path: Path, make: Any) -> None:
    values = [manager(make(tmp_path), lambda: np.arange(3.0) / 3)["x"] for _ in range(2)]
    assert [value.dtype for value in values] == [np.float32, np.float32]
    assert alike(*values)


def test_what_a_storage_keeps_is_not_the_callers(tmp_path: Path) -> None:
    storage = DictStorage()
    cm = manager(storage, tree)
    cm["x"]["list"].clear()
    manager(storage, tree)["x"]["list"].clear()
    assert alike(storage.kept["x"], tree())
    assert alike(cm["x"], tree())
    storage.save("y", [np.zeros(2)])
    storage.save("y_date", "2020-01-31")
    kept = storage.kept["y"]
    cm.load("y")
    assert kept[0].flags.writeable, "reading does not change what the storage keeps"


@pytest.mark.parametrize("read_only", [True, False])
def test_objects_in_arrays_are_no_shared_state(tmp_path: Path, read_only: bool) -> None:
    storage = NpzStorageInterface(tmp_path, allow_pickle=True)
    own = np.array([[1], {"a": 2}, None], dtype=object)
    for cm in (manager(storage, lambda: own, read_only=read_only), manager(storage, lambda: own)):
        value = cm["x"]
        value[0].append(2)
        value[1]["b"] = 3
        assert cm["x"].tolist() == [[1], {"a": 2}, None]
    assert own.tolist() == [[1], {"a": 2}, None]


# --- storages of users keep what they like ------------------------------------------------------------------


class Thing:
    """A user's own."""

    def __init__(self) -> None:
        self.parts = [1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and self.parts == other.parts

    __hash__ = None  # type: ignore[assignment]


ANYTHING: dict[str, Any] = {
    "object": Thing(),
    "nested": {"things": [Thing(), (Thing(),)]},
    "keys": {date(2020, 1, 31): [1], Thing: 2},
    "set": {1, 2, (3,)},
    "masked": np.ma.masked_array([1, 2], mask=[True, False]),
    "objects": np.array([{"a": 1}], dtype=object),
}


@pytest.mark.parametrize("what", ANYTHING)
@pytest.mark.parametrize("maker", [lambda _: DictStorage(), PickleFiles], ids=["dict", "pickle"])
def test_a_users_storage_keeps_what_it_can(tmp_path: Path, maker: Any, what: str) -> None:
    value = ANYTHING[what]
    storage = maker(tmp_path)
    cm = manager(storage, lambda: value)
    for given_back in (cm["x"], cm["x"], manager(storage, lambda: None)["x"], cm.load("x", force=True)):
        assert type(given_back) is type(value)
        assert np.all(given_back == value)


def test_a_users_storage_may_keep_what_cannot_be_copied() -> None:
    lock = threading.Lock()
    cm = manager(DictStorage(), lambda: {"lock": lock, date(2020, 1, 31): [1]})
    for value in (cm["x"], cm["x"], cm.load("x", force=True)):
        assert value == {"lock": lock, date(2020, 1, 31): [1]}


@pytest.mark.parametrize("maker", [lambda _: DictStorage(), PickleFiles], ids=["dict", "pickle"])
def test_a_users_storage_may_keep_a_circle(tmp_path: Path, maker: Any) -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    storage = maker(tmp_path)
    cm = manager(storage, lambda: circle)
    for value in (cm["x"], cm["x"], manager(storage, lambda: None)["x"]):
        assert value[0] == 1
        assert value[1][1][0] == 1


def test_a_storage_with_some_abilities() -> None:
    class WithRecords(DictStorage):
        def __init__(self) -> None:
            super().__init__()
            self.notes: dict[str, str] = {}

        def has_record(self, name: str) -> bool:
            return name in self.notes

        def read_record(self, name: str) -> str | None:
            return self.notes.get(name)

        def write_record(self, name: str, text: str) -> None:
            self.notes[name] = text

        def remove_record(self, name: str) -> None:
            self.notes.pop(name, None)

        def names(self) -> set[str]:
            return set(self.kept)

        def recorded(self) -> set[str]:
            return self.names() & set(self.notes)

    class WithCanonical(DictStorage):
        def canonical(self, name: str, data: Any) -> Any:
            return [*data]

    with_records = WithRecords()
    cm = manager(with_records, lambda: [1])
    assert cm["x"] == [1]
    assert set(with_records.kept) == {"x"}
    assert cm.date("x") == manager(with_records, lambda: None).date("x")
    assert manager(with_records, lambda: None)["x"] == [1]
    assert cm.load("x_date").startswith(str(cm.date("x").year))

    with_canonical = WithCanonical()
    assert manager(with_canonical, lambda: (1, 2))["x"] == [1, 2]
    assert manager(with_canonical, lambda: None)["x"] == [1, 2]


# --- a computed value is not lost ---------------------------------------------------------------------------

REFUSED: list[tuple[Any, Any, str]] = [
    (NpzStorageInterface, {"a": [1, 2, 3, {4}]}, r"\['a'\]\[3\]: .*set"),
    (NpzStorageInterface, np.array([None]), "an array of Python objects"),
    (NpyStorageInterface, {"a": 1}, "dict"),
    (JsonStorageInterface, {"a": [1, b"x"]}, r"\['a'\]\[1\]: .*bytes"),
    (lambda _: MemoryStorageInterface(), Thing(), r".*Thing; save plain data"),
]


@pytest.mark.parametrize(("maker", "value", "words"), REFUSED)
@pytest.mark.parametrize("ask", ["get", "save", "compute"])
def test_a_refusal_carries_the_value(tmp_path: Path, maker: Any, value: Any, words: str, ask: str) -> None:
    storage = maker(tmp_path / "results")
    cm = manager(storage, lambda: value)
    with pytest.raises(UnstorableError, match=f"metric 'x': {words}") as caught:
        getattr(cm, ask)("x")
    assert caught.value.value is value
    assert isinstance(caught.value, TypeError)
    assert set(cm.cache) == {"x"}
    assert "1 unsaved" in repr(cm)
    assert not storage.exists("x")
    assert not storage.exists("x_date")


@pytest.mark.parametrize(("maker", "value", "words"), REFUSED)
def test_a_refusal_leaves_the_old_value_and_date(tmp_path: Path, maker: Any, value: Any, words: str) -> None:
    storage = maker(tmp_path)
    cm = manager(storage, lambda: [1.0, 2.0])
    before, date_before = cm["x"], cm.date("x")
    cm.functions_dict["x"] = lambda: value
    with pytest.raises(UnstorableError):
        cm.get("x", use_stored=False)
    assert alike(cm["x"], before)
    assert alike(cm.load("x", force=True), before)
    assert cm.date("x") == date_before


def test_a_refusal_of_an_upstream_metric_carries_the_upstream_value(tmp_path: Path) -> None:
    cm = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    cm.set_functions_dict({"up": lambda: {1}, "down": lambda: cm["up"]})
    with pytest.raises(UnstorableError) as caught:
        cm["down"]
    assert (caught.value.name, caught.value.value) == ("up", {1})


@contextmanager
def small_files_only(size: int) -> Iterator[None]:
    """As on a full disk: nothing may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", ["npz", "npy", "json", "subclass", "three methods, files"])
def test_after_a_full_disk_the_value_stays_in_memory(tmp_path: Path, kind: str) -> None:
    calls: list[None] = []

    def function() -> Any:
        calls.append(None)
        return np.arange(100_000.0)

    cm = manager(MAKERS[kind](tmp_path / "results"), function)
    with small_files_only(100_000), pytest.raises(OSError) as caught:  # noqa: PT011 - any of the system's
        cm.get("x")
    assert any("CM.save('x')" in note for note in caught.value.__notes__)
    assert "1 unsaved" in repr(cm)
    assert cm.exists("x")
    with small_files_only(100_000), pytest.raises(OSError):  # noqa: PT011
        cm.get("x")
    with pytest.raises(MetricNotStoredError):
        manager(cm.storage_interface, function).load("x")
    assert len(cm.save("x")) == 100_000
    assert len(calls) == 1
    assert len(manager(cm.storage_interface, function).load("x")) == 100_000
    if kind != "three methods, files":
        assert list((tmp_path / "results" / ".smm" / "tmp").iterdir()) == []


@pytest.mark.parametrize("kind", ["npz", "npy", "json", "subclass"])
def test_a_full_disk_leaves_the_old_pair(tmp_path: Path, kind: str) -> None:
    sizes = iter([10, 100_000])
    cm = manager(MAKERS[kind](tmp_path), lambda: np.zeros(next(sizes)))
    cm.get("x")
    date_before = cm.date("x")
    with small_files_only(100_000), pytest.raises(OSError):  # noqa: PT011
        cm.get("x", use_stored=False)
    assert len(cm.load("x")) == 100_000, "the new value is in memory"
    assert len(manager(cm.storage_interface, lambda: None).load("x")) == 10, "the old one is stored, whole"
    assert cm.date("x") == date_before


class Picky(DictStorage):
    """A storage that refuses in its own words."""

    error: BaseException | None = ValueError("too purple")

    def save(self, name: str, data: Any) -> None:
        if self.error is not None and not name.endswith("_date"):
            raise self.error
        super().save(name, data)


@pytest.mark.parametrize("error", [ValueError("too purple"), TypeError("purple"), KeyboardInterrupt()])
def test_whatever_a_storage_raises_the_value_is_not_lost(error: BaseException) -> None:
    storage = Picky()
    storage.error = error
    calls: list[None] = []

    def function() -> list[int]:
        calls.append(None)
        return [1]

    cm = manager(storage, function)
    with pytest.raises(type(error)) as caught:
        cm.get("x")
    assert caught.value is error
    assert cm.compute("x") == [1]
    storage.error = None
    assert cm.save("x") == [1]
    assert len(calls) == 1
    assert manager(storage, lambda: None).load("x") == [1]


def test_a_refusal_that_comes_with_the_save_carries_the_value_too() -> None:
    """A storage that cannot say beforehand what it refuses."""
    storage = Picky()
    storage.error = None
    values = iter([[1], [2]])
    cm = manager(storage, lambda: next(values))
    cm.get("x")
    storage.error = UnstorableError(name="x", storage="Picky", place="", found="a list", way_out="save 1")
    with pytest.raises(UnstorableError) as caught:
        cm.get("x", use_stored=False)
    assert caught.value.value == [2]
    assert cm.compute("x") == [2], "this storage has lost the old one"


def test_a_subclass_that_cannot_write_this(tmp_path: Path) -> None:
    storage = PickleFiles(tmp_path)
    values: Iterator[Any] = iter([[1], [lambda: 1]])
    cm = manager(storage, lambda: next(values))
    cm.get("x")
    date_before = cm.date("x")
    with pytest.raises(Exception, match="lambda"):
        cm.get("x", use_stored=False)
    assert manager(storage, lambda: None).load("x") == [1], "the old pair, whole"
    assert cm.date("x") == date_before
    assert list((tmp_path / ".smm" / "tmp").iterdir()) == []
    assert cm.compute("x")[0]() == 1, "what was computed is not lost"


# --- numpy before 2.5 writes into read-only arrays -------------------------------------------------------


needs_old_numpy = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) >= "2.5.0", reason="this numpy refuses to write into them"
)


@needs_old_numpy
@pytest.mark.parametrize("inside", [False, True])
def test_an_array_that_numpy_has_written_into_is_read_again(tmp_path: Path, inside: bool) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)

    @cm.collect
    def counts() -> Any:
        made = np.zeros(3)
        return {"a": [made]} if inside else made

    def array() -> Any:
        return cm.counts()["a"][0] if inside else cm.counts()

    @cm.collect(params_list=[1, 2])
    def total(n: int) -> float:
        return float(array().sum()) + n

    assert cm.total(1) == 1.0
    np.add.at(array(), [0, 0], 1)
    assert array().sum() == 2.0, "nobody looked yet"
    with pytest.warns(SmmWarning, match="written into the read-only arrays of metric 'counts' in memory"):
        assert cm.total(2) == 2.0
    assert array().sum() == 0.0


@needs_old_numpy
def test_an_unsaved_array_that_numpy_has_written_into_is_an_error(tmp_path: Path) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    cm.collect("counts")(lambda: np.zeros(3))
    cm.collect("total", params_list=[1, 2])(lambda n: float(cm.compute("counts").sum()) + n)
    assert cm.total(1) == 1.0
    np.add.at(cm.compute("counts"), [0], 1)
    with pytest.raises(ChangedInMemoryError, match="'counts' in memory was changed in its place"):
        cm.total(2)
    cm.compute("counts", force=True)
    assert cm.total(2) == 2.0
