"""Each storage against a dict: random saves, loads, deletes and reopenings."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from smm.errors import MetricNotStoredError, UnstorableError
from smm.storage import (
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
)
from smm.testing import ODD_NAMES
from tests import strategies

BuiltIn = JsonStorageInterface | NpyStorageInterface | NpzStorageInterface | MemoryStorageInterface


class AgainstADict(RuleBasedStateMachine):
    """Random saves, loads, deletes and reopenings; each subclass says of which storage."""

    values: ClassVar[st.SearchStrategy[Any]]
    refused: ClassVar[st.SearchStrategy[Any]]
    names = Bundle("names")

    def make(self) -> BuiltIn:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="smm-test-"))
        self.storage = self.make()
        self.data: dict[str, Any] = {}
        self.records: dict[str, str] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    @initialize(target=names)
    def the_first_name(self) -> str:
        return "x"

    @rule(target=names, name=st.sampled_from(ODD_NAMES) | st.text("ab%2F ./é", min_size=1, max_size=6))
    def another_name(self, name: str) -> str:
        return name

    @rule(name=names, data=st.data())
    def save(self, name: str, data: st.DataObject) -> None:
        value = data.draw(self.values)
        self.storage.save(name, value)
        self.data[name] = self.storage.canonical(name, value)

    @rule(name=names, data=st.data(), publish=st.booleans())
    def stage(self, name: str, data: st.DataObject, publish: bool) -> None:
        value = data.draw(self.values)
        staged = self.storage.stage(name, value)
        self.load(name)
        if publish:
            staged.publish()
            self.data[name] = self.storage.canonical(name, value)
        else:
            staged.discard()

    @rule(name=names, data=st.data())
    def save_what_is_refused(self, name: str, data: st.DataObject) -> None:
        with pytest.raises(UnstorableError):
            self.storage.save(name, data.draw(self.refused))
        self.load(name)

    @rule(name=names)
    def load(self, name: str) -> None:
        if name in self.data:
            assert strategies.identical(self.storage.load(name), self.data[name])
        else:
            with pytest.raises(MetricNotStoredError):
                self.storage.load(name)

    @rule(name=names, day=st.integers(1, 31))
    def write_record(self, name: str, day: int) -> None:
        text = json.dumps({"smm_record": 1, "date": f"2026-01-{day:02}T00:00:00+00:00"})
        self.storage.write_record(name, text)
        self.records[name] = text

    @rule(name=names)
    def remove_record(self, name: str) -> None:
        self.storage.remove_record(name)
        self.records.pop(name, None)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.storage.delete(name)
        self.data.pop(name, None)
        self.records.pop(name, None)

    @rule(name=names)
    def look(self, name: str) -> None:
        assert self.storage.exists(name) == (name in self.data)
        assert self.storage.has_record(name) == (name in self.records)
        assert self.storage.read_record(name) == self.records.get(name)
        assert self.storage.exists(f"{name}_date") == (name in self.records)
        if name in self.records:
            assert self.storage.load(f"{name}_date") == json.loads(self.records[name])["date"]

    @rule()
    def reopen(self) -> None:
        self.storage = self.make()

    @invariant()
    def the_listing_agrees(self) -> None:
        assert self.storage.names() == set(self.data)
        assert self.storage.recorded() == set(self.data) & set(self.records)

    @invariant()
    def no_temporary_file_is_left(self) -> None:
        tmp = self.place / ".smm" / "tmp"
        assert not tmp.exists() or os.listdir(tmp) == []


class NpzMachine(AgainstADict):
    values = strategies.npz_values()
    refused = strategies.refused_by_npz()

    def make(self) -> BuiltIn:
        return NpzStorageInterface(self.place)


class NpyMachine(AgainstADict):
    values = strategies.npy_values()
    refused = strategies.refused_by_npy()

    def make(self) -> BuiltIn:
        return NpyStorageInterface(self.place)


class JsonMachine(AgainstADict):
    values = strategies.json_values() | strategies.json_changed_values()
    refused = strategies.refused_by_json()

    def make(self) -> BuiltIn:
        return JsonStorageInterface(self.place)


class MemoryMachine(AgainstADict):
    values = strategies.npz_values()
    refused = strategies.refused_by_npz()

    def __init__(self) -> None:
        self._one = MemoryStorageInterface()
        super().__init__()

    def make(self) -> BuiltIn:
        return self._one


TestNpzAgainstADict = NpzMachine.TestCase
TestNpyAgainstADict = NpyMachine.TestCase
TestJsonAgainstADict = JsonMachine.TestCase
TestMemoryAgainstADict = MemoryMachine.TestCase
