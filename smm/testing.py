"""What a storage promises, as tests that any storage class can inherit.

    from smm.testing import StorageContract

    class TestMyStorage(StorageContract):
        def make(self, place):
            return MyStorage(place)

pytest collects the tests of the base class with it. A class with the three methods of `StorageInterface`
can pass; the tests of further abilities (`delete`, `names`, records, two-step saves ...) are skipped where it
lacks them. They look around the storage as well: at the files beside the data, and at what a refused save
leaves.
"""
# ruff: noqa: S101, D102 - tests are made of asserts, and a test's name is its docstring

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, ClassVar
from unittest import SkipTest

import attrs
import numpy as np

from smm._files import OWN_FOLDER
from smm.errors import CorruptMetricError, MetricNameError
from smm.manager import DatedCacheManager
from smm.storage import (
    SIDECAR,
    AdoptingStorage,
    CanonicalStorage,
    CheckedStorage,
    DeletingStorage,
    RecordStorage,
    StagingStorage,
    StorageInterface,
    VerifyingStorage,
)

ODD_NAMES = (
    *("a b", "a/b", "../a", "/a", ".a", "..", "a.npz", "a%20b", "a%2Fb", "ä", "日本", "a\nb", "a\0b"),
    *("'\"$`\\", "B", "~", "-a", "_", "a:b", "x" * 200),
)
"""Names that a careless storage would take for something else; add them to `names` if yours is careful."""

_RECORD = '{"smm_record": 1, "date": "2026-01-31T12:00:00.000001+00:00"}'
_OTHER_RECORD = '{"smm_record": 1, "date": "2026-02-01T12:00:00.000001+00:00"}'


class StorageContract:
    """Inherit this in a class named `Test...`, and write `make`; the attributes may be changed too."""

    persistent: ClassVar[bool] = True
    """Whether a second storage made at the same place has the first one's data."""

    names: ClassVar[tuple[str, ...]] = ("a", "b", "poly_Y_1_2", "poly_Y_1p5_lo~0123456789abcdef", "a_1=-2")
    """Metric names to save under, `a` and `b` among them."""

    values: ClassVar[tuple[Any, ...]] = (
        np.arange(5.0),
        np.array([[1, 2], [3, 4]]),
        np.array([True, False]),
        np.zeros((0, 3)),
    )
    """What the storage must keep; at least two, and the first two different."""

    refused: ClassVar[tuple[Any, ...]] = ()
    """What it must refuse with a TypeError."""

    def make(self, place: Path) -> StorageInterface:
        """A storage that keeps everything it keeps in the folder `place`, which is not there yet."""
        raise NotImplementedError("write make(self, place), which returns your storage")

    def same(self, loaded: Any, saved: Any) -> bool:
        """Whether `loaded` is what a load must give for `saved`, its canonical form."""
        return alike(loaded, saved)

    # --- three methods ----------------------------------------------------------------------------------

    def test_it_is_a_storage(self, tmp_path: Path) -> None:
        assert isinstance(self.make(tmp_path / "store"), StorageInterface)

    def test_at_first_nothing_is_there(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        for name in self.names:
            assert not storage.exists(name)
            assert not storage.exists(name + SIDECAR)
            with must_raise(KeyError, FileNotFoundError):
                storage.load(name)
        assert not files_below(tmp_path), "looking for a metric made files"

    def test_a_load_gives_what_was_saved(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        for value in self.values:
            expected = self._canonical(storage, value)
            for name in self.names:
                storage.save(name, value)
                assert storage.exists(name)
                assert self.same(storage.load(name), expected)
                assert self.same(storage.load(name), expected), "the second load differs"

    def test_what_was_given_back_can_be_saved(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        for value in self.values:
            storage.save("a", value)
            loaded = storage.load("a")
            storage.save("b", loaded)
            assert self.same(storage.load("b"), loaded)

    def test_names_do_not_mix(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        one, other = self.values[:2]
        for name in self.names:
            storage.save(name, one)
        for name in self.names:
            storage.save(name, other)
            assert self.same(storage.load(name), self._canonical(storage, other))
            for left in self.names[self.names.index(name) + 1 :]:
                assert self.same(storage.load(left), self._canonical(storage, one)), f"{name!r} took {left!r}"

    def test_another_storage_at_the_same_place_has_the_data(self, tmp_path: Path) -> None:
        first = self.make(tmp_path / "store")
        first.save("a", self.values[0])
        second = self.make(tmp_path / "store")
        assert second.exists("a") == self.persistent
        if self.persistent:
            assert self.same(second.load("a"), self._canonical(second, self.values[0]))
            second.save("a", self.values[1])
            assert self.same(first.load("a"), self._canonical(first, self.values[1]))

    def test_nothing_lies_outside_its_place(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        for name in self.names:
            storage.save(name, self.values[0])
        assert {path.parts[0] for path in files_below(tmp_path)} <= {"store"}

    def test_saving_again_leaves_no_more_files(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        for name in self.names:
            storage.save(name, self.values[0])
        before = files_below(tmp_path).keys()
        for name in self.names:
            storage.save(name, self.values[1])
        assert files_below(tmp_path).keys() == before

    def test_a_refused_save_leaves_everything_as_it_was(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        for value in self.refused:
            with must_raise(TypeError):
                storage.save("a", value)
            assert not storage.exists("a")
        assert not files_below(tmp_path), "a refused value made files"
        storage.save("a", self.values[0])
        if isinstance(storage, RecordStorage):
            storage.write_record("a", _RECORD)
        before = files_below(tmp_path)
        for value in self.refused:
            with must_raise(TypeError):
                storage.save("a", value)
            assert self.same(storage.load("a"), self._canonical(storage, self.values[0]))
        assert files_below(tmp_path) == before, "a refused value left or changed files"

    def test_side_cars_can_be_kept_as_data(self, tmp_path: Path) -> None:
        # What a manager does with a storage that knows only names and values.
        storage = self.make(tmp_path / "store")
        storage.save("a", self.values[0])
        for text in ("unfinished", _RECORD):
            storage.save("a" + SIDECAR, text)
            assert storage.exists("a" + SIDECAR)
            assert str(storage.load("a" + SIDECAR)) == text
        assert self.same(storage.load("a"), self._canonical(storage, self.values[0]))

    def test_a_manager_computes_once(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        calls = 0

        def compute() -> Any:
            nonlocal calls
            calls += 1
            return self.values[0]

        for _ in range(2):
            manager = DatedCacheManager(storage, verbose=False)
            manager.set_functions_dict({"a": compute})
            assert self.same(manager.get("a"), self._canonical(storage, self.values[0]))
            assert self.same(manager.get("a"), self._canonical(storage, self.values[0]))
            if self.persistent:
                storage = self.make(tmp_path / "store")
        assert calls == 1

    # --- further abilities, where the storage has them --------------------------------------------------

    def test_canonical_is_what_a_load_gives(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, CanonicalStorage):
            raise lacking(storage, CanonicalStorage)
        for value in self.values:
            canonical = storage.canonical("a", value)
            assert self.same(storage.canonical("a", canonical), canonical)
        for value in self.refused:
            with must_raise(TypeError):
                storage.canonical("a", value)
        assert not storage.exists("a")
        assert not files_below(tmp_path), "canonical made files"

    def test_what_is_adopted_is_what_a_load_gives(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, AdoptingStorage):
            raise lacking(storage, AdoptingStorage)
        for value in self.values:
            expected = self._canonical(storage, value)
            adopted = storage.adopt("a", copy.deepcopy(value))
            storage.save("a", adopted)
            assert self.same(adopted, expected)
            assert self.same(storage.load("a"), expected)
        for value in self.refused:
            with must_raise(TypeError):
                storage.adopt("a", value)

    def test_a_loaded_value_belongs_to_the_caller(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, CanonicalStorage):
            raise lacking(storage, CanonicalStorage)
        for value in self.values:
            storage.save("a", value)
            loaded = storage.load("a")
            if isinstance(loaded, np.ndarray) and loaded.dtype.kind in "biuf" and loaded.flags.writeable:
                loaded[...] = 0
            elif isinstance(loaded, list):
                loaded.clear()
            assert self.same(storage.load("a"), self._canonical(storage, value))

    def test_staged_data_is_not_there_until_it_is_published(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, StagingStorage):
            raise lacking(storage, StagingStorage)
        storage.stage("a", self.values[0]).discard()
        assert not storage.exists("a")
        storage.save("a", self.values[0])
        before = files_below(tmp_path)
        staged = storage.stage("a", self.values[1])
        assert self.same(storage.load("a"), self._canonical(storage, self.values[0]))
        staged.discard()
        staged.discard()
        assert files_below(tmp_path) == before
        storage.stage("a", self.values[1]).publish()
        assert self.same(storage.load("a"), self._canonical(storage, self.values[1]))
        assert files_below(tmp_path).keys() == before.keys()

    def test_threads_see_whole_values(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, StagingStorage):
            raise lacking(storage, StagingStorage)
        whole = [self._canonical(storage, value) for value in self.values]
        storage.save("a", self.values[0])
        wrong: list[Any] = []
        start = Barrier(len(self.values) + 2)

        def save(value: Any) -> None:
            start.wait()
            for _ in range(20):
                storage.save("a", value)

        def load() -> None:
            start.wait()
            for _ in range(50):
                loaded = storage.load("a")
                if not any(self.same(loaded, value) for value in whole):
                    wrong.append(loaded)

        threads = [Thread(target=save, args=(value,)) for value in self.values]
        threads += [Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_records_lie_beside_the_data(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, RecordStorage):
            raise lacking(storage, RecordStorage)
        for name in self.names:
            assert not storage.has_record(name)
            assert storage.read_record(name) is None
            storage.remove_record(name)
        assert storage.names() == storage.recorded() == set()
        for name in self.names:
            storage.save(name, self.values[0])
        assert storage.names() == set(self.names)
        assert storage.recorded() == set()
        for name in self.names:
            for text in (_OTHER_RECORD, _RECORD):
                storage.write_record(name, text)
                assert storage.has_record(name)
                assert storage.read_record(name) == text
            assert storage.exists(name + SIDECAR)
            assert storage.load(name + SIDECAR) == "2026-01-31T12:00:00.000001+00:00"
            storage.save(name, self.values[1])
            assert storage.read_record(name) == _RECORD, "a save touched the side-car"
        assert storage.names() == storage.recorded() == set(self.names)
        for name in self.names:
            storage.remove_record(name)
            assert not storage.has_record(name)
            assert not storage.exists(name + SIDECAR)
            assert storage.exists(name)
        assert storage.recorded() == set()

    def test_a_deleted_metric_leaves_nothing(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, DeletingStorage):
            raise lacking(storage, DeletingStorage)
        storage.delete("a")
        assert not files_below(tmp_path)
        for name in self.names:
            storage.save(name, self.values[0])
            if isinstance(storage, RecordStorage):
                storage.write_record(name, _RECORD)
        for number, name in enumerate(self.names):
            storage.delete(name)
            storage.delete(name)
            assert not storage.exists(name)
            assert not storage.exists(name + SIDECAR)
            assert all(map(storage.exists, self.names[number + 1 :]))
        left = {
            path
            for path, content in files_below(tmp_path).items()
            if content is not None and OWN_FOLDER not in path.parts
        }
        assert not left, f"{left} are left of deleted metrics"

    def test_damage_does_not_go_unseen(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not (isinstance(storage, VerifyingStorage) and isinstance(storage, StagingStorage)):
            raise lacking(storage, VerifyingStorage)
        expected = self._canonical(storage, self.values[0])
        staged = storage.stage("a", self.values[0])
        staged.publish()
        assert self.same(storage.load_verified("a", staged.stamp), expected)
        assert self.same(storage.load_verified("a", None), expected)
        assert staged.stamp is not None
        other_sum = attrs.evolve(staged.stamp, crc32=staged.stamp.crc32 ^ 1)
        with must_raise(CorruptMetricError):
            storage.load_verified("a", other_sum)
        replaced = attrs.evolve(other_sum, mtime_ns=other_sum.mtime_ns - 1)
        assert self.same(storage.load_verified("a", replaced), expected)
        with must_raise(KeyError):
            storage.load_verified("b", None)

    def test_what_can_be_known_is_said_before(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, CheckedStorage):
            raise lacking(storage, CheckedStorage)
        for name in self.names:
            storage.check(name)
        for name in ("", "a" * 300, "\ud800"):
            with must_raise(MetricNameError):
                storage.check(name)
            with must_raise(MetricNameError):
                storage.save(name, self.values[0])
            assert not storage.exists(name)
        assert not files_below(tmp_path), "a check made files"

    def test_a_name_that_is_no_str_is_refused(self, tmp_path: Path) -> None:
        storage = self.make(tmp_path / "store")
        if not isinstance(storage, RecordStorage):
            raise lacking(storage, RecordStorage)
        arguments: dict[str, tuple[Any, ...]] = {
            **dict.fromkeys(("exists", "load", "has_record", "read_record", "remove_record"), ()),
            **dict.fromkeys(("delete", "check"), ()),
            **dict.fromkeys(("save", "stage"), (self.values[0],)),
            "write_record": (_RECORD,),
            "load_verified": (None,),
        }
        for name in (5, None, b"a", ["a"], Path("a")):
            for method, others in arguments.items():
                if hasattr(storage, method):
                    with must_raise(MetricNameError):
                        getattr(storage, method)(name, *others)
        assert not files_below(tmp_path), "a refused name made files"

    def _canonical(self, storage: StorageInterface, value: Any) -> Any:
        return storage.canonical("a", value) if isinstance(storage, CanonicalStorage) else value


def lacking(storage: StorageInterface, ability: type) -> SkipTest:
    """What to raise where a storage lacks an ability; pytest reports the test as skipped."""
    return SkipTest(f"{type(storage).__name__} is no {ability.__name__}")


@contextlib.contextmanager
def must_raise(*kinds: type[BaseException]) -> Iterator[None]:
    """Fail unless the block raises one of these."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"{' or '.join(kind.__name__ for kind in kinds)} was not raised")


def files_below(place: Path) -> dict[Path, bytes | None]:
    """Every file and folder below a folder, and what the files hold; without the lock file."""
    return {
        path.relative_to(place): path.read_bytes() if path.is_file() else None
        for path in sorted(place.rglob("*"))
        if path.parts[-2:] != (OWN_FOLDER, "lock")
    }


def alike(one: Any, other: Any) -> bool:
    """Equal, with the same types and dtypes at every depth; nan is nan, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and (
            alike(one.tolist(), other.tolist()) if one.dtype.hasobject else one.tobytes() == other.tobytes()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return alike([*one.items()], [*other.items()])
    if isinstance(one, float | complex):
        return repr(one) == repr(other)
    return bool(one == other)
