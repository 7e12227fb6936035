"""Nested data as a program, and the copies callers get."""

from __future__ import annotations

import datetime as dt
import decimal
import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from smm._npz import canonical_npz
from smm._refusals import Refused, refusal_of
from smm._tree import Build, Damaged, duplicate, flatten, freeze, hand_out, is_plain_key, unflatten
from tests.strategies import Colour, Level, Point, Unknown, identical, json_values, npz_values

DEEP = 100_000


def same(value: Any) -> Any:
    return value


def nested(depth: int) -> Any:
    data: Any = 1
    for level in range(depth):
        data = ([data], (data,), {"k": data})[level % 3]
    return data


# --- programs --------------------------------------------------------------------------------------------


def test_the_program_of_a_small_value() -> None:
    data = {"a": [1, (2.5,)], ("k", None): []}
    of_a = ["a", 1, 2.5, Build("tuple", 1), Build("list", 2)]
    of_k = ["k", None, Build("tuple", 2), Build("list", 0)]
    assert flatten(data, same) == [*of_a, *of_k, Build("dict", 2)]


@given(json_values())
def test_unflatten_undoes_flatten(data: Any) -> None:
    assert identical(unflatten(flatten(data, same)), data)


def test_nesting_has_no_limit() -> None:
    data = nested(DEEP)
    canonical = canonical_npz(data)
    assert identical(hand_out(freeze(canonical)), data)
    del canonical, data
    gc.collect()


def test_what_is_contained_twice_is_no_cycle() -> None:
    inner = [1]
    made = unflatten(flatten([inner, {"a": inner}], same))
    assert made == [[1], {"a": [1]}]
    assert made[0] is not made[1]["a"]


def test_nan_keys_stay_apart() -> None:
    data = {float("nan"): 1, float("nan"): 2}
    assert list(unflatten(flatten(data, same)).values()) == [1, 2]


def test_a_cycle_is_refused_where_it_closes() -> None:
    data: dict[str, Any] = {"a": [0]}
    data["a"].append((data,))
    with pytest.raises(Refused) as caught:
        flatten(data, same)
    assert str(caught.value) == (
        "['a'][1][0]: a dict that contains itself; save a copy without the inner reference"
    )


def test_a_refusal_names_the_place() -> None:
    def leaf(value: Any) -> Any:
        raise refusal_of(value)

    with pytest.raises(Refused) as caught:
        flatten({"a": [[], [{3: {1, 2}}]]}, lambda value: leaf(value) if type(value) is set else value)
    assert (caught.value.place, caught.value.found, caught.value.way_out) == (
        "['a'][1][0][3]",
        "set",
        "save list(x)",
    )


def test_the_middle_of_a_long_place_is_left_out() -> None:
    data: Any = {1}
    for _ in range(DEEP):
        data = [data]
    with pytest.raises(Refused) as caught:
        canonical_npz(data)
    assert caught.value.place == "[0][0][0][0]...(99992 deeper)...[0][0][0][0]"


@pytest.mark.parametrize(
    "key", [np.str_("a"), np.int64(1), np.float64(1), frozenset(), Level.LOW, (1, (Level.LOW,))]
)
def test_odd_keys_are_refused(key: Any) -> None:
    with pytest.raises(Refused, match=r"a dict with the key .*use keys that are") as caught:
        flatten({"a": [{key: 1}]}, same)
    assert caught.value.place.startswith("['a'][0]")


def test_keys_are_limited_in_depth_because_hashing_recurses() -> None:
    key: Any = ()
    for _ in range(99):
        key = (key,)
    assert is_plain_key(key)
    assert not is_plain_key((key,))


@pytest.mark.parametrize(
    "program",
    [
        [],
        [1, 2],
        [Build("list", 1)],
        [1, Build("dict", 1)],
        [1, Build("tuple", 2)],
        [[], 1, Build("dict", 1)],
        [np.int64(1), 1, Build("dict", 1)],
        ["a", 1, "a", 2, Build("dict", 2)],
        [1, "a", 1.0, "b", Build("dict", 2)],
    ],
)
def test_a_program_that_does_not_add_up_is_damage(program: list[Any]) -> None:
    with pytest.raises(Damaged):
        unflatten(program)


# --- copies for callers ----------------------------------------------------------------------------------


@given(npz_values())
def test_what_is_handed_out_is_the_canonical_value(data: Any) -> None:
    frozen = freeze(canonical_npz(data))
    assert identical(hand_out(frozen), canonical_npz(data))
    assert identical(hand_out(frozen, writable=True), canonical_npz(data))


def test_shared_arrays_cannot_be_written() -> None:
    frozen = freeze(canonical_npz({"a": np.arange(3.0), "b": [np.arange(2)]}))
    given_out = hand_out(frozen)
    for array in (given_out["a"], given_out["b"][0]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.setflags(write=True)
    assert np.shares_memory(given_out["a"], frozen["a"])


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, np.frombuffer])
def test_freezing_reaches_the_owner_of_the_memory(kind: Any) -> None:
    memory = kind(bytearray(64)) if kind is not np.frombuffer else np.frombuffer(bytearray(64), np.uint8)
    frozen = freeze([np.ndarray((4,), float, memory, 8)])
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        hand_out(frozen)[0].setflags(write=True)


def test_what_a_caller_does_reaches_nobody_else() -> None:
    void = np.zeros((), [("a", "i4")])[()]
    frozen = freeze(canonical_npz({"list": [1, [2]], "array": np.arange(4), "void": void}))
    for writable in (False, True):
        mine = hand_out(frozen, writable=writable)
        mine["list"][1].append(3)
        mine["new"] = 1
        mine["void"]["a"] = 5
        mine["array"] = mine["array"].reshape(2, 2)
        if writable:
            mine["array"][:] = 9
    expected = canonical_npz({"list": [1, [2]], "array": np.arange(4), "void": void})
    assert identical(hand_out(frozen), expected)


def test_each_caller_has_a_view_of_his_own() -> None:
    frozen = freeze(canonical_npz(np.arange(4)))
    first, second = hand_out(frozen), hand_out(frozen)
    assert first is not second
    assert first is not frozen


def test_writable_copies_are_writable() -> None:
    data = {"a": np.asfortranarray(np.ones((2, 3))), "b": (np.array(1),)}
    mine = hand_out(freeze(canonical_npz(data)), writable=True)
    mine["a"][0, 0] = 5
    mine["b"][0][()] = 2
    assert mine["a"].flags.f_contiguous


def test_objects_are_copied_for_every_caller() -> None:
    frozen = freeze(canonical_npz(np.array([[1], {"a": 2}], dtype=object), allow_pickle=True))
    void = freeze(canonical_npz(np.array([([1],)], dtype=[("a", "O")])[0], allow_pickle=True))
    hand_out(void)["a"].append(2)
    assert hand_out(void)["a"] == [1]
    mine = hand_out(frozen)
    mine[0].append(5)
    with pytest.raises(ValueError, match="read-only"):
        mine[0] = None
    assert hand_out(frozen)[0] == [1]
    assert hand_out(frozen, writable=True).flags.writeable


def test_the_canonical_value_shares_nothing_with_the_data() -> None:
    array, objects, void = np.arange(3.0), np.array([[1]], dtype=object), np.zeros(1, [("a", "u1")])[0]
    inner = [array]
    data = {"a": inner, "f": array[::-1], "o": objects, "v": void}
    canonical = canonical_npz(data, allow_pickle=True)
    array[:], void["a"] = 9, 9
    inner.append(array)
    objects[0] = 5
    assert canonical["a"][0].tolist() == [0, 1, 2]
    assert canonical["f"].tolist() == [2, 1, 0]
    assert canonical["o"].tolist() == [[1]]
    assert canonical["v"]["a"] == 0
    assert len(canonical["a"]) == 1


def test_a_memmap_becomes_an_array_in_memory(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "x", dtype="f8", mode="w+", shape=(3,))
    canonical = canonical_npz([mapped])[0]
    assert type(canonical) is np.ndarray
    mapped[0] = 5
    assert canonical[0] == 0


def test_duplicating_keeps_dtypes_without_bytes() -> None:
    # A copy by numpy makes S1 of it, and takes a second for each 10**9 of nothing.
    array = duplicate(np.ndarray((10**15,), "S0"))
    assert (array.dtype.str, array.shape) == ("|S0", (10**15,))


def test_what_cannot_be_frozen_is_refused_and_left_alone() -> None:
    array = np.arange(3)
    with pytest.raises(Refused) as caught:
        freeze([array, Unknown()])
    assert caught.value.place == "[1]"
    assert array.flags.writeable
    for writable in (False, True):
        with pytest.raises(Refused):
            hand_out({"a": Unknown()}, writable=writable)


def test_memory_that_numpy_was_lent_is_copied() -> None:
    memory = np.arange(3)

    class Lender:
        __array_interface__ = memory.__array_interface__

    frozen = freeze(np.asarray(Lender()))
    assert not np.shares_memory(frozen, memory)
    assert frozen.tolist() == [0, 1, 2]


# --- refusals --------------------------------------------------------------------------------------------


class Slotted:
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "found", "way_out"),
    [
        ({1}, "set", "save list(x)"),
        (Point(1, 2), "tests.strategies.Point", "save tuple(x)"),
        (Colour.RED, "tests.strategies.Colour", "save x.value"),
        (Level.LOW, "tests.strategies.Level", "save x.value"),
        ((i for i in [1]), "generator", "save list(x)"),
        (bytearray(), "bytearray", "save bytes(x)"),
        (len, "builtin_function_or_method", "save what it returns"),
        (int, "type", "save its name"),
        (
            np.ma.array([1]),
            "numpy.ma.MaskedArray",
            "save {'data': x.data, 'mask': np.ma.getmaskarray(x)}",
        ),
        (Unknown(), "tests.strategies.Unknown", "save np.asarray(x)"),
        (
            Slotted(),
            "tests.test_tree.Slotted",
            "save plain data: arrays, numbers, str, bytes, None, and lists, tuples and dicts of these",
        ),
    ],
)
def test_refusals_say_what_it_is_and_what_to_do(value: Any, found: str, way_out: str) -> None:
    refused = refusal_of(value)
    assert (refused.found.replace("numpy.ma.core", "numpy.ma"), refused.way_out) == (found, way_out)


_UNIT = np.dtype("f8", metadata={"unit": "m"})


@pytest.mark.parametrize(
    "x",
    [
        np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.asarray(np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])),
        np.zeros(2, _UNIT),
        np.zeros(2, [("a", _UNIT), ("b", "i2")]),
        np.zeros(2, {"names": ["a", "b"], "formats": ["u4", "u1"], "offsets": [0, 1]}),
        np.zeros(2, {"names": ["a"], "formats": ["u1"], "titles": [Colour.RED]}),
        np.ma.array([1]),
        np.array([1, 2.5], dtype=object),
        {1, 2},
        range(3),
        Point(1, 2),
        Level.LOW,
        Colour.RED,
        bytearray(b"a"),
        decimal.Decimal("1.5"),
        dt.date(2026, 1, 31),
        dt.timedelta(1),
    ],
)
def test_every_way_out_leads_out(x: Any) -> None:
    with pytest.raises(Refused) as caught:
        canonical_npz(x)
    way_out = caught.value.way_out.removeprefix("save ").split(", or ")[0].split(" or ")[0]
    canonical_npz(eval(way_out, {"x": x, "np": np}))
