"""Managers on one folder against a dict and a call counter, whatever is done in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from smm import ParameterizedDatedCacheManager, Record, StorageInterface
from smm.errors import MetricNotStoredError, StorageAbilityError, UnknownMetricError
from tests.stores import MAKERS

NAMES = st.sampled_from(["manual", "row_1", "row_2", "top"])


class Failure(Exception):  # noqa: N818 - a metric's own
    """A metric's own."""


@attrs.define
class Kept:
    """What the model says of one manager: its memory, by name the value and whether it is unsaved."""

    manager: ParameterizedDatedCacheManager
    memory: dict[str, tuple[int, bool]] = attrs.field(factory=dict)
    changes: int = 0
    """How often a stored value was replaced by another one, or deleted."""

    def forget_readers(self) -> None:
        """Let `top` leave memory, if it is stored: what it read has changed."""
        self.changes += 1
        if not self.memory.get("top", (0, False))[1]:
            self.memory.pop("top", None)


class Managers(RuleBasedStateMachine):
    """Every value is how often anything was computed, so that no two computations give the same.

    `manual` is a functions_dict entry, `row_1` and `row_2` are rows, and `top` reads `row_1`.
    """

    make: Callable[[Path], StorageInterface]

    managers = Bundle("managers")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="smm-stateful-"))
        self.shared = type(self).make(self.folder)
        self.stored: dict[str, int] = {}
        self.dates: dict[str, Record] = {}
        self.computed = 0
        self.broken: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # --- managers, made and made again

    def computes(self, name: str) -> Any:
        if name in self.broken:
            raise Failure(name)
        self.computed += 1
        return {"n": self.computed, "list": [np.full(3, self.computed)]}

    @rule(target=managers, own_storage=st.booleans())
    def open(self, own_storage: bool) -> Kept:
        in_folder = hasattr(self.shared, "metrics_dir")
        storage = type(self).make(self.folder) if own_storage and in_folder else self.shared
        cm = ParameterizedDatedCacheManager(storage, verbose=False, workers=1, on_stale="serve")
        cm.set_functions_dict({"manual": lambda: self.computes("manual")})

        @cm.collect(params_list=[1, 2])
        def row(a: int) -> Any:
            return self.computes(f"row_{a}")

        @cm.collect
        def top() -> Any:
            if "top" in self.broken:
                raise Failure("top")
            return cm.row(1)

        return Kept(cm)

    @rule(kept=consumes(managers))
    def forget(self, kept: Kept) -> None:
        """A session ends, unsaved values with it."""

    # --- the model

    def look_up(self, kept: Kept, name: str) -> int | None:
        """What a get finds without computing, and what it does to memory and storage."""
        value, unsaved = kept.memory.get(name, (None, False))
        if value is None:
            value = self.stored.get(name)
        if value is None:
            return None
        if unsaved:
            self.store(kept, name, value)
        kept.memory[name] = (value, False)
        return value

    def store(self, kept: Kept, name: str, value: int) -> bool:
        """Store a value; whether it replaces another one."""
        is_changed = self.stored.get(name, value) != value
        if is_changed:
            kept.forget_readers()
        self.stored[name] = value
        self.dates.pop(name, None)
        return is_changed

    def compute_model(self, kept: Kept, name: str, count: int) -> int | None:
        """The value a computation gives that begins when `count` were made; None if it fails."""
        if name in self.broken:
            return None
        if name != "top":
            return count + 1
        found = self.look_up(kept, "row_1")
        if found is None and (found := self.compute_model(kept, "row_1", count)) is not None:
            self.store(kept, "row_1", found)
            kept.memory["row_1"] = (found, False)
        return found

    def serve(self, kept: Kept, name: str, again: bool) -> int | None:
        changes = kept.changes
        found = None if again else self.look_up(kept, name)
        if found is None and (found := self.compute_model(kept, name, self.computed)) is not None:
            is_changed = self.store(kept, name, found)
            kept.memory[name] = (found, False)
            if name == "top" and kept.changes != changes + is_changed:
                del kept.memory[name]  # what it read was replaced while it was computed
        return found

    def holds(self, call: Callable[[], Any], expected: int | None, count: int) -> None:
        """The call gives the expected value, by as many computations as the model made; None: it fails."""
        if expected is None:
            with pytest.raises(Failure) as caught:
                call()
            assert any("while computing metric" in note for note in caught.value.__notes__)
            assert self.computed == count
        else:
            value = call()
            assert value["n"] == expected
            assert [array.tolist() for array in value["list"]] == [[expected] * 3]
            assert self.computed == max(count, expected)
            value["list"].clear()  # what a caller does to its value reaches nobody

    # --- what is asked

    @rule(kept=managers, name=NAMES, again=st.booleans())
    def get(self, kept: Kept, name: str, again: bool) -> None:
        count = self.computed
        expected = self.serve(kept, name, again)
        self.holds(lambda: kept.manager.get(name, use_stored=not again), expected, count)

    @rule(kept=managers, a=st.sampled_from([1, 2]), again=st.booleans())
    def call(self, kept: Kept, a: int, again: bool) -> None:
        count = self.computed
        expected = self.serve(kept, f"row_{a}", again)
        self.holds(lambda: kept.manager.row(a, use_stored=not again), expected, count)

    @rule(kept=managers)
    def get_all(self, kept: Kept) -> None:
        """A failing row keeps no other from being stored."""
        before = self.computed
        expected = []
        for name in ("row_1", "row_2"):
            found = self.look_up(kept, name)
            if found is None and name not in self.broken:
                before += 1
                found = before
                self.store(kept, name, found)
                kept.memory[name] = (found, False)
            expected.append(found)
        if None in expected:
            with pytest.raises(Failure):
                kept.manager.row.get_all()
        else:
            assert [value["n"] for value in kept.manager.row.get_all()] == expected
        assert self.computed == before

    @rule(kept=managers, name=NAMES, force=st.booleans())
    def compute(self, kept: Kept, name: str, force: bool) -> None:
        count = self.computed
        expected = None if force else kept.memory.get(name, (None, False))[0]
        if expected is None and (expected := self.compute_model(kept, name, self.computed)) is not None:
            kept.memory[name] = (expected, True)
        self.holds(lambda: kept.manager.compute(name, force), expected, count)

    @rule(kept=managers, name=NAMES, force=st.booleans())
    def save(self, kept: Kept, name: str, force: bool) -> None:
        count = self.computed
        if not force and name in kept.memory and name not in self.stored:
            self.store(kept, name, kept.memory[name][0])
        expected = self.serve(kept, name, force)
        self.holds(lambda: kept.manager.save(name, force), expected, count)

    @rule(kept=managers, name=NAMES, force=st.booleans())
    def load(self, kept: Kept, name: str, force: bool) -> None:
        count = self.computed
        if not force and name in kept.memory:
            expected: int | None = kept.memory[name][0]
        elif (expected := self.stored.get(name)) is not None:
            kept.memory[name] = (expected, False)
        if expected is None:
            with pytest.raises(MetricNotStoredError):
                kept.manager.load(name, force)
        else:
            self.holds(lambda: kept.manager.load(name, force), expected, count)

    @rule(kept=managers, name=NAMES)
    def delete(self, kept: Kept, name: str) -> None:
        if name in self.stored and not hasattr(self.shared, "delete"):
            with pytest.raises(StorageAbilityError):
                kept.manager.delete(name)
        elif name in self.stored or name in kept.memory or self.shared.exists(name):  # unfinished data, too
            is_there = self.shared.exists(name)
            kept.manager.delete(name)
            if is_there:
                kept.forget_readers()
            self.stored.pop(name, None)
            self.dates.pop(name, None)
            kept.memory.pop(name, None)
        else:
            with pytest.raises(MetricNotStoredError):
                kept.manager.delete(name)

    @rule(kept=managers)
    def clear_cache(self, kept: Kept) -> None:
        kept.manager.clear_cache()
        kept.memory.clear()

    @rule(kept=managers, name=NAMES)
    def record(self, kept: Kept, name: str) -> None:
        if name not in self.stored:
            with pytest.raises(MetricNotStoredError):
                kept.manager.record(name)
            return
        record = kept.manager.record(name)
        assert record.name == name
        assert record == self.dates.setdefault(name, record), "the same until the value is replaced"
        assert kept.manager.date(name) == record.date

    @rule(kept=managers)
    def ask_for_something_unknown(self, kept: Kept) -> None:
        with pytest.raises(UnknownMetricError):
            kept.manager.get("row_3")

    # --- what else happens to a store

    @rule(name=NAMES)
    def break_or_mend(self, name: str) -> None:
        self.broken ^= {name}

    @rule(name=NAMES)
    @precondition(lambda self: hasattr(self.shared, "remove_record"))
    def lose_the_side_car(self, name: str) -> None:
        """As after a process that died while publishing."""
        self.shared.remove_record(name)  # type: ignore[attr-defined]
        self.stored.pop(name, None)
        self.dates.pop(name, None)

    @rule(name=NAMES)
    def save_by_hand(self, name: str) -> None:
        """A file put there by someone else is served, under the old date."""
        if name in self.stored:
            self.computed += 1
            value = {"n": self.computed, "list": [np.full(3, self.computed)]}
            self.shared.save(name, value)
            self.stored[name] = self.computed

    @rule()
    def delete_the_service_folder(self) -> None:
        """Deleting `.smm` loses no result."""
        shutil.rmtree(self.folder / ".smm", ignore_errors=True)

    @rule(kept=managers, name=NAMES)
    def look(self, kept: Kept, name: str) -> None:
        assert kept.manager.exists(name) == (name in kept.memory or name in self.stored)
        assert dict.fromkeys(kept.manager.cache) == dict.fromkeys(kept.memory) or (
            set(kept.manager.cache) == set(kept.memory)
        )
        unsaved = sum(unsaved for _, unsaved in kept.memory.values())
        assert (f"{unsaved} unsaved" in repr(kept.manager)) == (unsaved > 0)

    @invariant()
    def nothing_is_left_over(self) -> None:
        if hasattr(self, "folder"):
            temporary = self.folder / ".smm" / "tmp"
            assert not temporary.exists() or list(temporary.iterdir()) == []


def machine(kind: str) -> Any:
    made = type(f"{kind.title()}Managers", (Managers,), {"make": staticmethod(MAKERS[kind])})
    return made.TestCase  # type: ignore[attr-defined]


TestNpz = machine("npz")
TestMemory = machine("memory")
TestThreeMethods = machine("three methods, dict")
TestSubclass = machine("subclass")
