"""The stand-in for attrs: to everybody else, its classes are classes of attrs."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from smm.metric import Metric, Reason, Record, Stamp, Trust

if TYPE_CHECKING:
    import attrs as stand_in
else:
    from smm import _attrs as stand_in


def _check(_: object, field: Any, value: Any) -> None:
    if value == "bad":
        raise ValueError(f"{field.name} is bad")


@stand_in.frozen(kw_only=True)
class Ours:
    a: int
    b: Any = stand_in.field(default="b", validator=_check)
    c: list[int] = stand_in.field(factory=list)
    d: Any = stand_in.field(default=0, eq=False, repr=False)

    @property
    def double(self) -> int:
        return 2 * self.a


@attrs.frozen(kw_only=True)
class Theirs:
    a: int
    b: Any = attrs.field(default="b", validator=_check)
    c: list[int] = attrs.field(factory=list)
    d: Any = attrs.field(default=0, eq=False, repr=False)


def test_values_are_those_of_attrs() -> None:
    value = Ours(a=1, b=2.5)
    assert attrs.asdict(value) == attrs.asdict(Theirs(a=1, b=2.5)) == {"a": 1, "b": 2.5, "c": [], "d": 0}
    assert repr(value) == repr(Theirs(a=1, b=2.5)).replace("Theirs", "Ours")
    assert value.double == 2
    assert value.c is not Ours(a=1).c
    assert attrs.evolve(value, a=3) == stand_in.evolve(value, a=3) == Ours(a=3, b=2.5)
    assert stand_in.evolve(Theirs(a=1), a=3) == Theirs(a=3)
    assert stand_in.NOTHING is attrs.NOTHING


def test_fields_are_described_to_attrs() -> None:
    described: Any = attrs.fields(Ours)
    expected: Any = attrs.fields(Theirs)
    assert attrs.has(Ours)
    assert [field.name for field in described] == ["a", "b", "c", "d"]
    for ours, theirs in zip(described, expected, strict=True):
        assert (ours.default, ours.type, ours.validator, ours.eq) == (
            theirs.default,
            theirs.type,
            theirs.validator,
            theirs.eq,
        )


def test_equality_is_of_class_and_fields() -> None:
    assert Ours(a=1) == Ours(a=1, d=5) != Ours(a=2)
    other: object = Theirs(a=1)
    assert other != Ours(a=1)
    stamp = Stamp(size=1, mtime_ns=2, crc32=3)
    assert hash(stamp) == hash(Stamp(size=1, mtime_ns=2, crc32=3))
    assert len({Trust(), Trust(), Reason(kind="code"), Reason(kind="age")}) == 3


@pytest.mark.parametrize("change", [lambda value: setattr(value, "a", 2), lambda value: delattr(value, "a")])
def test_values_never_change(change: Any) -> None:
    value = Ours(a=1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        change(value)
    assert value == Ours(a=1)


@pytest.mark.parametrize("given", [{}, {"b": 1}, {"a": 1, "z": 2}, {"z": 2}])
def test_what_does_not_fit_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"^(Ours\(\) missing .*'a'|Ours\(\) got an unexpected .*'z')$"):
        Ours(**given)
    with pytest.raises(TypeError):
        Theirs(**given)


def test_validators_are_asked() -> None:
    for made in (Ours, Theirs):
        with pytest.raises(ValueError, match=r"^b is bad$"):
            made(a=1, b="bad")
    with pytest.raises(ValueError, match="retries of metric 'x'"):
        Metric(base_name="x", retries=-1)


def test_values_travel() -> None:
    value = Ours(a=1, c=[1], d=4)
    for again in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert (again, again.d) == (value, 4)
    assert copy.deepcopy(value).c is not value.c
    record = Record.from_json("x", "2026-01-31")
    assert pickle.loads(pickle.dumps(record)) == record
