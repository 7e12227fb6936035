"""Params as values: what may be one, what a function gets, and the encoding that lasts."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import json
import pathlib
import sys
import types
import uuid
import zoneinfo
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._encoding import DEEPEST, Unsupported, canonical, digest, encode, fresh, json_form
from tests.params import Colour, Level, Mode, Side, Zone, params

NAN = float("nan")


def alike(one: Any, other: Any) -> bool:
    """Equal, of one type, nan like nan, 0.0 unlike -0.0; arrays also in dtype, order and shape."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        same: bool = (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        return same
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return alike(
            sorted(one.items(), key=lambda item: encode(item)),
            sorted(other.items(), key=lambda item: encode(item)),
        )
    if isinstance(one, set | frozenset):
        return sorted(map(encode, one)) == sorted(map(encode, other))
    return repr(one) == repr(other)


# --- the table that pins the encoding for good ----------------------------------------------------------

TABLE: list[tuple[Any, bytes | None, str]] = [
    (None, b"n0:", "3c123d121d79e5d8"),
    (False, b"b1:0", "ec8a08a30ceae134"),
    (True, b"b1:1", "7799f333ea932515"),
    (0, b"i1:0", "aaa9a94ba7fb8484"),
    (1, b"i1:1", "b4c0ba02c6ad1752"),
    (-255, b"i3:-ff", "3dbaf6c548e8f10d"),
    (2**64, b"i17:10000000000000000", "200ab8ed2aaab3f3"),
    (0.0, b"f8:0x0.0p+0", "437fc961f6e24af5"),
    (-0.0, b"f9:-0x0.0p+0", "dcd40dfd049ed243"),
    (1.0, b"f20:0x1.0000000000000p+0", "ea718be2a81b949b"),
    (0.1, b"f20:0x1.999999999999ap-4", "7aaacf961e4daa45"),
    (-1.5e300, b"f23:-0x1.1eb2d66005835p+997", "dcd8d78fdeeacb1f"),
    (float("inf"), b"f3:inf", "30352095495f0f3e"),
    (NAN, b"f3:nan", "f8c2b6b9a1256f0f"),
    ("", b"s0:", "250a665ca99db8f4"),
    ("1", b"s1:1", "c56ec076080bbd25"),
    ("é", b"s2:\xc3\xa9", "fd0caa2124543efc"),
    ("\ud800", b"s3:\xed\xa0\x80", "6c31bcbab9abb4f2"),
    (b"", b"y0:", "4a0f86effcbcd557"),
    (b"1", b"y1:1", "7f9cce9652f74322"),
    (1 + 2j, b"o58:s7:complexf20:0x1.0000000000000p+0f20:0x1.0000000000000p+1", "ab38e9119c722ad0"),
    (complex(NAN, -0.0), b"o28:s7:complexf3:nanf9:-0x0.0p+0", "dd7662ba20e34f58"),
    ([], b"l0:", "bc321a3cb99275a4"),
    ((), b"t0:", "fce039767759f806"),
    ([1, 1.0], b"l28:i1:1f20:0x1.0000000000000p+0", "e2002e2bc7f84c77"),
    ((1, (2,)), b"t11:i1:1t4:i1:2", "8bfda4a7980cdc65"),
    ({}, b"d0:", "29c1fd6db1fdcb61"),
    ({"b": 1, "a": [2]}, b"d19:s1:al4:i1:2s1:bi1:1", "58ceefb6c826f6b3"),
    (set(), b"S0:", "12672e6cfde8a7f6"),
    ({1, "1", 1.5}, b"S32:f20:0x1.8000000000000p+0i1:1s1:1", "6e0e2c22db5487fa"),
    (frozenset({None}), b"F3:n0:", "c88acb094196d0a1"),
    (dt.date(2020, 1, 31), b"o21:s4:dates10:2020-01-31", "a56e8c554ce2983a"),
    (dt.datetime(2020, 1, 31), b"o41:s8:datetimes19:2020-01-31T00:00:00i1:0n0:", "defe827c758c3942"),
    (
        dt.datetime(2020, 1, 31, 1, 2, 3, 4, fold=1),
        b"o48:s8:datetimes26:2020-01-31T01:02:03.000004i1:1n0:",
        "b133ac8d5831917a",
    ),
    (
        dt.datetime(2020, 1, 31, tzinfo=dt.UTC),
        b"o52:s8:datetimes19:2020-01-31T00:00:00i1:0l10:i1:0s3:UTC",
        "b855d98402d1ae01",
    ),
    (
        dt.datetime(2020, 1, 31, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET")),
        b"o59:s8:datetimes19:2020-01-31T00:00:00i1:0l17:i8:d693a400s3:CET",
        "f3791bcc9bf5345e",
    ),
    (
        dt.datetime(2020, 1, 31, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        b"o54:s8:datetimes19:2020-01-31T00:00:00i1:0s12:Europe/Paris",
        "20c743d21c052982",
    ),
    (dt.time(1, 2), b"o25:s4:times8:01:02:00i1:0n0:", "3b874d85eb5cc851"),
    (dt.timedelta(days=-1, microseconds=5), b"o25:s9:timedeltai2:-1i1:0i1:5", "efb6f9a7d01e8826"),
    (decimal.Decimal("1.0"), b"o16:s7:Decimals3:1.0", "ee5c36a2f99ee1fd"),
    (decimal.Decimal("1.00"), b"o17:s7:Decimals4:1.00", "c964d719a1348304"),
    (decimal.Decimal("1E+30"), b"o18:s7:Decimals5:1E+30", "205afb7ffd77a377"),
    (decimal.Decimal("sNaN"), b"o17:s7:Decimals4:sNaN", "b5ae3f9fd4198b9d"),
    (fractions.Fraction(1, 3), b"o19:s8:Fractioni1:1i1:3", "51d061c6e6f697e8"),
    (uuid.UUID(int=1), b"o43:s4:UUIDs32:00000000000000000000000000000001", "0e4d9a542d916990"),
    (pathlib.PurePosixPath("a/b"), b"o23:s13:PurePosixPaths3:a/b", "f5047d3e2e3c391b"),
    (pathlib.PureWindowsPath("a/b"), b"o25:s15:PureWindowsPaths3:a\\b", "e819021a946e461b"),
    (range(3), b"o20:s5:rangei1:0i1:3i1:1", "afbafded425fde47"),
    (slice(None, 5, 2), b"o19:s5:slicen0:i1:5i1:2", "1c090a8935b5c889"),
    (Colour.RED, b"o36:s4:enums19:tests.params.Colours3:RED", "37f5dee9d8b145f1"),
    (Level.LOW, b"o35:s4:enums18:tests.params.Levels3:LOW", "211a1eab49ae812c"),
    (Side.LEFT, b"o35:s4:enums17:tests.params.Sides4:LEFT", "390a83802601554f"),
    (Mode.READ | Mode.WRITE, b"o42:s4:enums17:tests.params.Modes10:READ|WRITE", "6884e2c5e35536cc"),
    (Mode(0), b"o32:s4:enums17:tests.params.Modei1:0", "afec499fe79a7d1d"),
    (np.datetime64("2020-01-31"), b"o30:s10:datetime64s6:<M8[D]i4:4774", "22897ecfdee52c3f"),
    (np.datetime64("NaT", "ns"), b"o45:s10:datetime64s7:<M8[ns]i17:-8000000000000000", "4e5c2ea1f659eb1a"),
    (np.timedelta64(90, "s"), b"o29:s11:timedelta64s6:<m8[s]i2:5a", "28125b589019a683"),
    (
        np.array([1, 2], dtype="<i4"),
        b"o32:s5:arrays3:<i4l4:i1:2y8:\x01\x00\x00\x00\x02\x00\x00\x00",
        "eb25f68c08e971a9",
    ),
    (
        np.array([[1.5], [NAN]]),
        b"o45:s5:arrays3:<f8l8:i1:2i1:1y16:\x00\x00\x00\x00\x00\x00\xf8?\x00\x00\x00\x00\x00\x00\xf8\x7f",
        "6c6948f8e82df232",
    ),
    (np.array(1.5), b"o28:s5:arrays3:<f8l0:y8:\x00\x00\x00\x00\x00\x00\xf8?", "9fd73e1bc8ad7c21"),
    (
        np.array(["a", "bc"]),
        b"o41:s5:arrays3:<U2l4:i1:2y16:a\x00\x00\x00\x00\x00\x00\x00b\x00\x00\x00c\x00\x00\x00",
        "02f80139d6537371",
    ),
    (np.array([True, False]), b"o26:s5:arrays3:|b1l4:i1:2y2:\x01\x00", "431d9fc928a44e27"),
    (np.zeros((0, 3), dtype="c8"), b"o28:s5:arrays3:<c8l8:i1:0i1:3y0:", "680a49110ad2ca6c"),
    (np.array([(1, [2, 3])], dtype=[("x", "<i2"), ("y", "<f4", (2,))]), None, "77922531722ab8a4"),
    (
        np.array(["2020-01-31"], dtype="M8[D]"),
        b"o35:s5:arrays6:<M8[D]l4:i1:1y8:tG\x00\x00\x00\x00\x00\x00",
        "3d86909324126e62",
    ),
]


def _id(value: Any) -> str:
    """The name of a test for this value; sets have another order in every process."""
    return f"{sorted(map(repr, value))}" if isinstance(value, set) else repr(value)[:40]


@pytest.mark.parametrize(("value", "encoding", "its_digest"), TABLE, ids=[_id(row[0]) for row in TABLE])
def test_the_encoding_lasts(value: Any, encoding: bytes | None, its_digest: str) -> None:
    assert encoding in (None, encode(canonical(value)))
    assert digest(canonical(value)) == its_digest


def test_a_long_encoding_lasts() -> None:
    structured = np.array([(1, [2, 3])], dtype=[("x", ">i2"), ("y", "<f4", (2,))])
    dtype = b"l35:l10:s1:xs3:<i2l17:s1:ys3:<f4l4:i1:2"
    data = b"y10:\x01\x00\x00\x00\x00@\x00\x00@@"
    assert encode(canonical(structured)) == b"o68:s5:array" + dtype + b"l4:i1:1" + data


def test_values_of_the_table_are_told_apart() -> None:
    values = [canonical(value) for value, _, _ in TABLE]
    assert len({encode(value) for value in values}) == len(values)
    assert len({json.dumps(json_form(value), sort_keys=True) for value in values}) == len(values)


# --- canonical values -----------------------------------------------------------------------------------


@given(params())
def test_canonical_is_a_fixed_point(value: Any) -> None:
    once = canonical(value)
    assert alike(canonical(once), once)
    assert alike(fresh(once), once)
    assert encode(fresh(once)) == encode(once)


def near() -> st.SearchStrategy[Any]:
    """Values that are easily taken for one another, and often are the same."""
    pool = [
        0,
        0.0,
        -0.0,
        False,
        None,
        "0",
        "",
        b"",
        0j,
        -0j,
        NAN,
        complex(0, NAN),
        decimal.Decimal(0),
        Mode(0),
    ]
    return st.recursive(
        st.sampled_from(pool),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2),
            st.lists(inner, max_size=2).map(tuple),
            st.dictionaries(st.sampled_from(pool), inner, max_size=2),
            st.sets(st.sampled_from(pool), max_size=2),
        ),
        max_leaves=4,
    )


@given(near(), near())
def test_encodings_are_equal_exactly_for_like_values(one: Any, other: Any) -> None:
    assert (encode(one) == encode(other)) == alike(one, other)


@given(params(), params())
def test_encodings_and_json_forms_are_equal_together(one: Any, other: Any) -> None:
    forms = [json.dumps(json_form(canonical(value)), allow_nan=False) for value in (one, other)]
    encodings = [encode(canonical(value)) for value in (one, other)]
    assert (forms[0] == forms[1]) == (encodings[0] == encodings[1])
    assert json.dumps(json.loads(forms[0])) == forms[0]


def test_surrogates_are_not_the_character_they_make() -> None:
    apart, whole = "\ud83d\ude00", "\U0001f600"
    assert encode(apart) != encode(whole)
    assert json.dumps(json_form(apart)) != json.dumps(json_form(whole))


def test_decimals_do_not_depend_on_the_context() -> None:
    values = [decimal.Decimal("1E+30"), decimal.Decimal("1." + "0" * 50 + "1"), decimal.Decimal("1E-999999")]
    before = [encode(value) for value in values]
    with decimal.localcontext(capitals=0, prec=3, Emin=-5, Emax=5):
        assert [encode(value) for value in values] == before
    assert len(set(before)) == 3


def test_the_order_of_dicts_and_sets_is_no_part_of_them() -> None:
    one, other = {"a": 1, "b": {2, 3}}, {"b": {3, 2}, "a": 1}
    assert encode(one) == encode(other)
    assert json_form(one) == json_form(other)
    assert list(canonical(other)) == ["b", "a"], "the function gets it as it was given"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.True_, True),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.longlong(7), 7),
        (np.float16(0.5), 0.5),
        (np.float32(0.1), 0.10000000149011612),
        (np.float64("nan"), NAN),
        (np.float64(-0.0), -0.0),
        (np.complex64(1 - 2j), 1 - 2j),
        (np.complex128(2j), 2j),
        (np.str_("a\0"), "a\0"),
        (np.bytes_(b"a\0"), b"a\0"),
        ([np.int64(1), (np.float32(2),)], [1, (2.0,)]),
        ({np.str_("a"): np.int16(1)}, {"a": 1}),
        ({np.int64(1), "x"}, {1, "x"}),
        (slice(np.int64(1), None, np.uint8(2)), slice(1, None, 2)),
        (range(np.int64(3)), range(3)),
    ],
    ids=_id,
)
def test_numpy_scalars_count_as_pythons(given: Any, kept: Any) -> None:
    assert alike(canonical(given), kept)


@pytest.mark.parametrize(
    "value",
    [np.datetime64("2020-01-31"), np.timedelta64(3, "D"), Colour.RED, Level.LOW, Side.LEFT, Mode(0)],
    ids=repr,
)
def test_these_stay_what_they_are(value: Any) -> None:
    assert canonical(value) is value


def test_an_alias_of_an_enum_member_is_that_member() -> None:
    assert encode(Colour.CRIMSON) == encode(Colour.RED)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1.5, 2]), np.array([1.5, 2], dtype=">f8")),
        (np.array([[1, 2], [3, 4]]), np.asfortranarray([[1, 2], [3, 4]])),
        (np.arange(3), np.arange(6)[::2] // 2),
        (np.array([NAN, 1]), -np.array([NAN, -1])),
        (np.array([complex(NAN, 1)]), np.array([complex(-NAN, 1)])),
        (np.array([1], dtype="i4"), np.array([1], dtype=np.dtype("i4", metadata={"unit": "m"}))),
        (np.array([1], dtype="q"), np.array([1], dtype="l")),
        (
            np.array([(1, 2.0)], dtype=[("a", "u1"), ("b", "f8")]),
            np.array([(1, 2.0)], dtype=np.dtype([("a", "u1"), ("b", "f8")], align=True)),
        ),
    ],
    ids=range(8),
)
def test_arrays_of_equal_values_are_one_param(one: Any, other: Any) -> None:
    assert alike(canonical(one), canonical(other))
    assert encode(canonical(one)) == encode(canonical(other))


def test_a_memmap_is_read(tmp_path: pathlib.Path) -> None:
    mapped = np.memmap(tmp_path / "x", dtype="i4", mode="w+", shape=3)
    assert alike(canonical(mapped), np.zeros(3, dtype="i4"))


def test_arrays_and_their_values_are_different_params() -> None:
    assert encode(canonical(np.array(1))) != encode(canonical(1))
    assert encode(canonical(np.array([1]))) != encode(canonical([1]))
    assert encode(canonical(np.array([1], "i4"))) != encode(canonical(np.array([1], "i8")))
    assert encode(canonical(np.zeros((0, 3)))) != encode(canonical(np.zeros((3, 0))))


def test_what_a_caller_changes_afterwards_changes_nothing() -> None:
    inner, array, members = [1], np.zeros(2), {1}
    kept = canonical([inner, (array, members), {"a": inner}])
    before = encode(kept)
    inner.append(2)
    array[0] = 7
    members.add(2)
    assert encode(kept) == before
    with pytest.raises(ValueError, match="read-only"):
        kept[1][0][0] = 7


def test_what_a_function_changes_changes_nothing() -> None:
    kept = canonical([[1], (np.zeros(2), {1}), {"a": [1]}, slice([1], None)])
    before = encode(kept)
    given = fresh(kept)
    given[0].append(2)
    given[1][0][0] = 7
    given[1][1].add(2)
    given[2]["a"].append(2)
    given[3].start.append(2)
    assert encode(kept) == before


# --- refusals -------------------------------------------------------------------------------------------


class Text(str):
    __slots__ = ()


class Number(int):
    pass


Row = namedtuple("Row", "a b")


@pytest.mark.parametrize(
    ("value", "place", "found"),
    [
        (object(), "", "an object of class object"),
        (Text("a"), "", "an object of class tests.test_encoding.Text, a subclass of str"),
        (Number(1), "", "an object of class tests.test_encoding.Number, a subclass of int"),
        (Row(1, 2), "", "an object of class tests.test_encoding.Row, a subclass of tuple"),
        (OrderedDict(a=1), "", "an object of class collections.OrderedDict, a subclass of dict"),
        (bytearray(b"a"), "", "an object of class bytearray"),
        (memoryview(b"a"), "", "an object of class memoryview"),
        (iter([1]), "", "an object of class list_iterator"),
        (sys, "", "an object of class module"),
        (len, "", "an object of class builtin_function_or_method"),
        (int, "", "an object of class type"),
        (types.SimpleNamespace(), "", "an object of class types.SimpleNamespace"),
        (np.longdouble(1), "", "an object of class numpy.longdouble"),
        (np.array([object()]), "", "an array of dtype object"),
        (
            np.ma.masked_array([1]),
            "",
            f"an object of class {np.ma.MaskedArray.__module__}.MaskedArray, a subclass of ndarray",
        ),
        (np.array([(1,)], dtype=[("a", "i4")])[0], "", "an object of class numpy.void"),
        ([1, (2, {"a": [object()]})], "[1][1]['a'][0]", "an object of class object"),
        ({10**5000: sys}, "[<int of 16610 bits>]", "an object of class module"),
        ({(1, sys): 2}, "", "a container with an object of class module among its keys or members"),
        ({sys}, "", "a container with an object of class module among its keys or members"),
        (slice(sys), "[1]", "an object of class module"),
        (
            [dt.datetime(2020, 1, 31, tzinfo=Zone())],
            "[0]",
            "a datetime whose zone, of class tests.params.Zone, has no lasting name",
        ),
    ],
    ids=lambda case: str(type(case)),
)
def test_what_has_no_lasting_identity_is_refused(value: Any, place: str, found: str) -> None:
    with pytest.raises(Unsupported) as caught:
        canonical(value)
    assert (caught.value.place, caught.value.found.partition(" (")[0]) == (place, found)


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 2 has it")
def test_arrays_of_variable_width_strings_are_refused() -> None:
    with pytest.raises(Unsupported, match="StringDType"):
        canonical(np.array(["a"], dtype=np.dtypes.StringDType()))


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="longdouble is double here")
@pytest.mark.parametrize("dtype", ["g", "G"])
def test_arrays_of_longdouble_are_refused(dtype: str) -> None:
    with pytest.raises(Unsupported, match=r"bytes differ between machines \(use float64\)"):
        canonical(np.zeros(2, dtype=dtype))


def test_what_contains_itself_is_refused() -> None:
    by_list: list[Any] = [1]
    by_list.append((by_list,))
    by_dict: dict[str, Any] = {}
    by_dict["a"] = [by_dict]
    for value, place in ((by_list, "[1][0]"), (by_dict, "['a'][0]")):
        with pytest.raises(Unsupported, match="contains itself") as caught:
            canonical(value)
        assert caught.value.place == place


def test_a_container_that_is_there_twice_is_no_cycle() -> None:
    shared = [1]
    assert canonical([shared, shared, (shared,)]) == [[1], [1], ([1],)]


def test_nesting_has_an_end() -> None:
    value: Any = 1
    for _ in range(DEEPEST):
        value = (value,)
    assert fresh(canonical(value)) == value
    assert json.loads(json.dumps(json_form(value)))
    for _ in range(100_000):
        value = (value,)
    with pytest.raises(Unsupported, match="nested more than 100 deep"):
        canonical(value)
