"""Binding calls to signatures, typed keys, and the names that last."""

from __future__ import annotations

import datetime as dt
import json
import math
import pathlib
import sys
from collections import deque, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._nearest import nearest
from smm.errors import MetricNameError, UnsupportedParamError
from smm.identity import (
    Binder,
    Call,
    check_base_name,
    digest,
    legacy_metric_name,
    metric_name,
    params_to_json,
    show_call,
)
from tests.params import Colour, Level, Mode, params

NAN = float("nan")


def bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Binder, Call]:
    binder = Binder(function, base_name="f")
    return binder, binder.bind(args, kwargs)


def name_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    binder, call = bound(function, *args, **kwargs)
    return binder.name(call)


def anything(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def one(a: Any) -> Any:
    return a


# --- the table that pins the names for good -------------------------------------------------------------

NAMES: list[tuple[tuple[Any, ...], str]] = [
    ((1, 2), "f_1_2"),
    ((-1, 10**20), "f_-1_100000000000000000000"),
    ((True, False, None), "f_True_False_None"),
    ((1.5, -0.5, 0.0, -0.0), "f_1p5_-0p5_0p0_-0p0"),
    ((1e-05, 1e16, 1.5e-07), "f_1e-05_1e+16_1p5e-07"),
    (("lo", "A-1"), "f_lo_A-1"),
    (("a", "date", 1), "f_a_date_1"),
    ((np.int8(1), np.float32(0.5), np.str_("lo"), np.True_), "f_1_0p5_lo_True"),
    (("date",), "f_date~40fc9d8836620785"),
    (("x", "date"), "f_x_date~829e24a19de6e524"),
    (("",), "f_~012c00ffc69bd7ed"),
    (("1",), "f_1~69325cccd46c74f7"),
    (("a_b",), "f_a_b~dbea4244afa3630a"),
    (("a b/c~d\n",), "f_a-b-c-d-~dc6f43faa6df2200"),
    (("None",), "f_None~079ed1bd3f46ecd3"),
    (("INF",), "f_INF~c994df02bff5806a"),
    (("x" * 40,), "f_" + "x" * 40),
    (("x" * 41,), "f_" + "x" * 40 + "~efac005b20962d5c"),
    (("東京",), "f_東京~ce1dd08c947f0854"),
    (("é" * 30,), "f_éééééé~18dd65590ddb2e1f"),
    (("\ud800",), "f_-~cf33f5ad4caeb257"),
    ((NAN,), "f_nan~fc465c1be2d4afa4"),
    ((float("-inf"),), "f_-inf~a80c2de0143cf863"),
    ((1 + 2j,), "f_1.0,2.0~ff695af5b1c088a4"),
    ((b"ab",), "f_6162~38c29536eebbaf9f"),
    ((2**2001,), "f_2002-bits~a786034fbd943394"),
    ((10**130,), "f_1" + "0" * 119 + "~2249f98a4a1011fd"),
    (((1, "a"),), "f_1,a~30b9d9672ce250a4"),
    (([1, [2.5]],), "f_1,2.5~20271d3a899f9012"),
    (([],), "f_list~4d32428a1f57783a"),
    (((),), "f_tuple~726d16c8a763c22d"),
    (({"b": 1, "a": [2]},), "f_a=2,b=1~c6d45c08eead978e"),
    (({},), "f_dict~9afda2dbe78a9aaa"),
    (({2, 1},), "f_1,2~d4c8d432934814c5"),
    ((frozenset(),), "f_set~b1278f3f0ac02f2c"),
    ((dt.date(2020, 1, 31),), "f_2020-01-31~ce24a604d7a779db"),
    ((dt.datetime(2020, 1, 31, 12, 30, tzinfo=dt.UTC),), "f_2020-01-31T12-30-00~b1e1c273bd0baec1"),
    ((dt.timedelta(1),), "f_1,0,0~a41d7d34975ce73d"),
    ((pathlib.PurePosixPath("a/b.csv"),), "f_a-b.csv~aaae513750ad3bf3"),
    ((Colour.RED,), "f_Colour.RED~f82eb45e91d09dc6"),
    ((Mode(0),), "f_Mode.0~3ff166a2c641568d"),
    ((range(3),), "f_0,3,1~9c47c9ebf8595ec9"),
    ((slice(None, 5),), "f_None,5,None~2d4f84564e5160fe"),
    ((np.datetime64("2020-01-31T00"),), "f_2020-01-31T00~085e168e37dd584a"),
    ((np.datetime64("NaT", "s"),), "f_NaT~c1dc187f46abe163"),
    ((np.timedelta64(90, "s"),), "f_90s~28e802360d51ff95"),
    ((np.zeros((2, 3)),), "f_float64-2x3~2408d606d0b245a2"),
    ((np.array(1, dtype="i4"),), "f_int32~66b1660b49ad510b"),
    ((np.array(["ab"]),), "f_str64-1~fbdb692aaf85d41f"),
    ((np.zeros(2, dtype=[("a", "i4")]),), "f_void32-2~a17df53f781feca1"),
    ((1, [2], "a"), "f_1_2_a~b0ea73684cfbdf7c"),
]


@pytest.mark.parametrize(("args", "name"), NAMES, ids=[row[1][:40] for row in NAMES])
def test_names_last(args: tuple[Any, ...], name: str) -> None:
    assert name_of(anything, *args) == name


def keywords(a: Any, *, k: Any = 2, long_name: Any = None, **extra: Any) -> Any:
    return a, k, long_name, extra


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ({}, "f_1_k=2_long_name=None"),
        ({"long_name": "date"}, "f_1_k=2_long_name=date"),
        ({"long_name": 0.5, "k": "lo"}, "f_1_k=lo_long_name=0p5"),
        ({"z": 1, "y": "a"}, "f_1_k=2_long_name=None_y=a_z=1"),
        ({"k": [1]}, "f_1_k=1_long_name=None~76264d0930ef3e26"),
        ({"z_z": 1}, "f_1_k=2_long_name=None_z_z=1~aab34b05870b77cd"),
        ({"a=1_b": 1}, "f_1_k=2_long_name=None_a=1_b=1~16105c67bd796361"),
        (
            {"k": "date", "long_name": "x" * 40, "z": "y" * 40, "y": "z" * 40},
            f"f_1_k=date_long_name={'x' * 40}_y={'z' * 40}_z={'y' * 15}~38670556b3287e40",
        ),
    ],
)
def test_names_with_keywords_last(named: dict[str, Any], name: str) -> None:
    assert name_of(keywords, 1, **named) == name


def test_a_name_without_params_is_the_base_name() -> None:
    assert name_of(lambda: 1) == "f"
    assert name_of(anything) == "f"
    assert metric_name("f") == "f"


def test_the_digest_is_of_all_params() -> None:
    assert name_of(anything, 1, [2]) == f"f_1_2~{digest(((1, [2]), {}))}"
    assert (
        name_of(keywords, "a b")
        == f"f_a-b_k=2_long_name=None~{digest((('a b',), {'k': 2, 'long_name': None}))}"
    )


def test_an_argument_may_be_renamed() -> None:
    assert name_of(lambda a: a, [1]) == name_of(lambda alpha: alpha, [1])


@given(st.lists(params(), max_size=12))
def test_every_name_makes_a_short_file_name(args: list[Any]) -> None:
    name = name_of(anything, *args)
    safe = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~=+,-")
    length = sum(1 if character in safe else 3 * len(character.encode()) for character in name)
    assert length <= len("f_") + 120 + len("~0123456789abcdef")
    assert not name.endswith("_date")


# --- all rows at once -----------------------------------------------------------------------------------

PLAIN_OR_NOT = [
    1,
    -2,
    0,
    10**700,
    True,
    1.5,
    0.0,
    -0.0,
    NAN,
    math.inf,
    "a",
    "date",
    "no word",
    "nan",
    None,
    b"b",
    (1,),
]


def rows() -> st.SearchStrategy[Any]:
    """Params lists, of which many have rows that are alike."""
    value = st.sampled_from(
        [
            st.integers(),
            st.booleans(),
            st.floats(),
            st.text(max_size=3),
            st.none(),
            st.sampled_from(PLAIN_OR_NOT),
        ]
    ).flatmap(lambda kind: kind)
    column = st.sampled_from(
        [st.integers(), st.booleans(), st.floats(), st.sampled_from(["a", "date"]), value]
    )
    alike = st.lists(column, min_size=1, max_size=3).flatmap(
        lambda kinds: st.lists(st.tuples(*kinds), max_size=4)
    )
    named = st.permutations(["a", "b"]).flatmap(
        lambda names: st.lists(
            st.tuples(value, value).map(lambda row: dict(zip(names, row, strict=True))), max_size=3
        )
    )
    lists = alike.map(lambda given: [list(row) for row in given])
    return st.one_of(alike, lists, named, st.lists(value, max_size=3), st.lists(st.lists(value, max_size=3)))


@given(
    rows(),
    st.sampled_from([anything, one, lambda a, b=0.5: 0, lambda a, b=-0.0, c="x y": 0, lambda *, a, b: 0]),
)
def test_rows_bound_at_once_are_those_bound_one_by_one(rows: Any, function: Callable[..., Any]) -> None:
    binder = Binder(function, base_name="50%")
    alike = binder.bind_alike(rows)
    if alike is None:
        return
    calls = [Binder(function, base_name="50%").bind_row(row) for row in rows]
    keys, names = alike
    assert list(map(repr, keys)) == [repr(call.key) for call in calls]
    assert names == [binder.name(call) for call in calls]
    again = [binder.call(key) for key in keys]
    assert [repr(call.arguments()) for call in again] == [repr(call.arguments()) for call in calls]
    assert list(map(binder.show, again)) == list(map(binder.show, calls))


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 2.5), [3, 4.5]],
        [[1, "a"], [2, "b"]],
        [{"b": 1, "a": 2}, {"b": 3, "a": 4}],
        [[1], [2]],
        range(3),
        np.array([[1, 2], [3, 4]], ">i2"),
        np.ones((2, 2), np.float32),
    ],
)
def test_rows_that_are_bound_at_once(rows: Any) -> None:
    binder = Binder(lambda a, b=3: 0, base_name="f")
    alike = binder.bind_alike(rows)
    assert alike is not None
    calls = [binder.bind_row(row) for row in rows]
    assert alike == ([call.key for call in calls], [binder.name(call) for call in calls])


@pytest.mark.parametrize(
    "rows",
    [
        [],
        (row for row in [(1, 2)]),
        [(1, 2), (1,)],
        [(1, 2), (1.0, 2)],
        [(1, 2), (True, 2)],
        [(0.0, 1), (1.0, 2)],
        [(NAN, 1), (1.0, 2)],
        [(1, "date")],
        [(1, "no word")],
        [(1, b"bytes")],
        [(1, (2,))],
        [(1, 2, 3)],
        [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
        [{"a": 1, "c": 2}],
        [{1: 1}],
        [(10**700, 1)],
        [(10**5000, 1)],
        np.ones((2, 2), np.complex128),
        np.ones((2, 2), np.longdouble),
    ],
)
def test_rows_that_are_bound_one_by_one(rows: Any) -> None:
    assert Binder(lambda a, b=3: 0, base_name="f").bind_alike(rows) is None


def test_rows_with_ignored_or_keyword_only_arguments_are_bound_one_by_one() -> None:
    assert Binder(lambda a, b: 0, base_name="f", ignore=("b",)).bind_alike([(1, 2)]) is None
    assert Binder(lambda a, *, b=1: 0, base_name="f").bind_alike([(1,)]) is None


# --- injective ------------------------------------------------------------------------------------------

NEAR = [1, 1.0, True, "1", "True", 0.0, -0.0, 0, NAN, -NAN, "nan", None, "None", "", "a", "a_b", "b", "x=1"]
NEAR += [b"a", (1,), [1], (1.0,), {1}, frozenset({1}), {1: 1}, {1: True}, 1 + 0j, np.array(1), Level.LOW]


def near() -> st.SearchStrategy[tuple[list[Any], dict[str, Any]]]:
    """Calls that are easily taken for one another, and often are the same."""
    names = st.sampled_from(["x", "y", "a_x", "*args"])
    value = st.sampled_from([*NEAR, "date"])
    return st.tuples(st.lists(value, max_size=3), st.dictionaries(names, value, max_size=2))


@given(near(), near())
def test_keys_names_and_json_forms_are_equal_together(one: Any, other: Any) -> None:
    binder = Binder(anything, base_name="f")
    calls = [binder.bind(args, kwargs) for args, kwargs in (one, other)]
    keys = [call.key for call in calls]
    names = [binder.name(call) for call in calls]
    forms = [json.dumps(params_to_json(binder.params(call))) for call in calls]
    same = keys[0] == keys[1]
    assert (names[0] == names[1]) == (forms[0] == forms[1]) == same
    assert not same or hash(keys[0]) == hash(keys[1])


@given(st.lists(params(), max_size=3), st.lists(params(), max_size=3))
def test_different_params_never_share_a_name(one: list[Any], other: list[Any]) -> None:
    binder = Binder(anything, base_name="f")
    calls = [binder.bind(args, {}) for args in (one, other)]
    forms = [json.dumps(params_to_json(binder.params(call))) for call in calls]
    assert (binder.name(calls[0]) == binder.name(calls[1])) == (forms[0] == forms[1])
    assert (calls[0].key == calls[1].key) == (forms[0] == forms[1])


def test_names_do_not_run_into_one_another() -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("lo",), {"x": 1}),
        ((), {"lo_x": 1}),
        ((), {"lo": 1, "x": 1}),
        ((1,), {}),
        ((), {"args": 1}),
        ((), {"*args": (1,)}),
        ((("a", "b"),), {}),
        (("a", "b"), {}),
        (("a_b",), {}),
        (("a,b",), {}),
        (([],), {}),
        (("list",), {}),
        (("x=1",), {}),
        ((), {"x": 1}),
        ((), {"x": 1, "y": 2}),
        ((), {"x": "1_y=2"}),
    ]
    assert len({name_of(anything, *args, **named) for args, named in calls}) == len(calls)


@given(params())
def test_what_comes_back_is_the_same_param(value: Any) -> None:
    binder, call = bound(one, value)
    again = binder.bind(*call.arguments())
    assert again.key == call.key
    assert binder.name(again) == binder.name(call)


# --- rows -----------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "row",
    [
        [1, 2],
        (1, 2),
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        Pair(1, 2),
        deque([1, 2]),
        range(1, 3),
        np.array([1, 2]),
        np.array([1, 2], dtype="u1"),
        [1],
        1,
        np.int64(1),
        {"a": 1},
    ],
    ids=repr,
)
def test_rows_of_many_kinds(row: Any) -> None:
    binder = Binder(lambda a, b=2: 0, base_name="f")
    call = binder.bind_row(row)
    assert binder.name(call) == "f_1_2"
    assert [type(value) for value in call.arguments()[0]] == [int, int]


@pytest.mark.parametrize(
    "scalar",
    [
        "ab",
        b"ab",
        np.str_("ab"),
        1.5,
        None,
        dt.date(2020, 1, 31),
        pathlib.Path("a"),
        slice(3),
        {1, 2},
        Level.LOW,
        np.array(1),
    ],
    ids=repr,
)
def test_a_scalar_is_the_one_argument(scalar: Any) -> None:
    binder = Binder(one, base_name="f")
    assert binder.bind_row(scalar).key == binder.bind((scalar,), {}).key


def test_a_row_for_a_function_without_arguments() -> None:
    assert Binder(lambda: 0, base_name="f").bind_row(()).arguments() == ((), {})


@pytest.mark.parametrize("row", [[1, 2, 3], {"a": 1, "z": 2}, {}, [], {1: 2}, np.array([[1, 2]])])
def test_rows_that_do_not_fit(row: Any) -> None:
    with pytest.raises(TypeError, match=r"^f\(\) "):
        Binder(lambda a, b: 0, base_name="f").bind_row(row)


# --- copies ---------------------------------------------------------------------------------------------


def test_a_call_shares_nothing_that_can_change() -> None:
    array, items, mapping = np.zeros(3), [1, [2]], {"a": [1]}
    binder, call = bound(anything, array, items, mapping, key=items)
    name = binder.name(call)
    array[0] = 7
    items[1].append(3)  # type: ignore[attr-defined]
    mapping["b"] = []
    args, named = call.arguments()
    assert args[0].tolist() == [0, 0, 0]
    assert args[1:] == ([1, [2]], {"a": [1]})
    assert named == {"key": [1, [2]]}
    args[0][0] = 7
    args[1].append(3)
    named["key"].append(3)
    assert binder.name(call) == name
    assert call.arguments()[0][1] == [1, [2]]


def test_a_default_that_can_change() -> None:
    def f(a: Any, seen: list[Any] = []) -> list[Any]:  # noqa: B006 - what is tested
        seen.append(a)
        return seen

    binder = Binder(f, base_name="f")
    before = binder.name(binder.bind((1,), {}))
    f("by hand")
    call = binder.bind((1,), {})
    args, named = call.arguments()
    assert f(*args, **named) == [1]
    assert binder.name(binder.bind((1,), {})) == binder.name(call) == before
    assert call.key == binder.bind((1, []), {}).key


def test_ignored_arguments_are_passed_as_they_are() -> None:
    log: list[str] = []
    binder = Binder(lambda a, log=None, *, out=sys.stdout: 0, base_name="f", ignore=("log", "out"))
    call = binder.bind((1, log), {"out": len})
    args, named = call.arguments()
    assert args[1] is log
    assert named["out"] is len
    assert binder.params(call) == {"a": 1}
    assert binder.name(call) == "f_1"
    plain = binder.bind((1,), {})
    assert plain.key == call.key
    assert plain.arguments() == ((1, None), {"out": sys.stdout})


def test_ignored_rest_and_options() -> None:
    binder = Binder(anything, base_name="f", ignore=("args", "verbose"))
    call = binder.bind((object(), 2), {"verbose": object(), "k": 1})
    assert binder.params(call) == {"**kwargs": {"k": 1}}
    assert binder.name(call) == "f_k=1"
    assert call.key == binder.bind((), {"k": 1}).key
    everything = Binder(anything, base_name="f", ignore=("kwargs",))
    assert everything.bind((1,), {"a": len}).key == everything.bind((1,), {}).key


@pytest.mark.parametrize(
    ("args", "named", "argument"),
    [
        ((object(),), {}, "a"),
        (([1, object()],), {}, "a[1]"),
        ((1, 2, {"x": object()}), {}, "rest[1]['x']"),
        ((1,), {"k": object()}, "k"),
        ((1,), {"z": [object()]}, "z[0]"),
    ],
)
def test_a_refused_param_is_named_with_the_way_out(args: Any, named: Any, argument: str) -> None:
    def f(a: Any, *rest: Any, k: Any = 0, **options: Any) -> Any:
        return a, rest, k, options

    binder = Binder(f, base_name="f")
    with pytest.raises(UnsupportedParamError) as caught:
        binder.bind(args, named)
    assert caught.value.argument == argument
    assert caught.value.found == "an object of class object"
    word = argument.partition("[")[0]
    assert f"ignore=({word!r},)" in str(caught.value)
    Binder(f, base_name="f", ignore=(word,)).bind(args, named)


def test_a_place_that_is_deep_inside_is_cut() -> None:
    value: Any = object()
    for _ in range(90):
        value = [value]
    with pytest.raises(UnsupportedParamError) as caught:
        bound(one, value)
    assert caught.value.argument == "a" + ("[0]" * 90)[:80] + "..."


def test_a_default_that_is_no_param_is_refused_when_it_is_used() -> None:
    binder = Binder(lambda a, log=print: 0, base_name="f")
    assert binder.name(binder.bind((1, "quiet"), {})) == "f_1_quiet"
    with pytest.raises(UnsupportedParamError, match=r"argument 'log'.*ignore=\('log',\)"):
        binder.bind((1,), {})


# --- other names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weekly", "a b", "date", "../x", "é", "_", "x_dates", "ä/ö"])
def test_base_names(name: str) -> None:
    check_base_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty; give another one with base_name=..."),
        ("<lambda>", "is every lambda's; give another one with base_name=..."),
        ("x_date", "ends in '_date', which names side-cars; give another one with base_name=..."),
        ("_date", "ends in '_date', which names side-cars; give another one with base_name=..."),
        ("\udc80", "has a lone surrogate, which no file name can hold; give another one with base_name=..."),
        (3, "is of class int, not str; give another one with base_name=..."),
        (np.str_("a"), "is of class str_, not str; give another one with base_name=..."),
    ],
)
def test_what_is_no_base_name(name: Any, reason: str) -> None:
    with pytest.raises(MetricNameError) as caught:
        check_base_name(name)
    assert caught.value.reason == reason


def test_a_name_generation_function_gets_params_without_trailing_defaults() -> None:
    def f(a: Any, b: Any = 2, c: Any = -0.0, *rest: Any, k: Any = None, log: Any = print) -> Any:
        return a, b, c, rest, k, log

    binder = Binder(f, base_name="f", ignore=["log"])
    seen: list[tuple[Any, ...]] = []

    def record(base_name: str, given: tuple[Any, ...]) -> str:
        seen.append(given)
        return f"{base_name}/{len(seen)}"

    rows: list[Any] = [
        [1],
        [1, 2, -0.0],
        [1, 2, 0.0],
        [1, 3],
        {"a": 1, "k": 4},
        [1, 2, -0.0, 5],
        {"a": 1, "log": 3},
    ]
    names = [binder.name(binder.bind_row(row), record) for row in rows]
    assert names == [f"f/{index}" for index in range(1, 8)]
    assert seen == [(1,), (1,), (1, 2, 0.0), (1, 3), (1, 2, -0.0, 4), (1, 2, -0.0, 5), (1,)]


def test_a_name_generation_function_cannot_change_a_row() -> None:
    binder, call = bound(anything, [1], z=[2])

    def meddle(_: str, given: tuple[Any, ...]) -> str:
        given[0].append(2)
        given[1]["z"].append(3)
        return "name"

    assert binder.name(call, meddle) == "name"
    assert call.arguments() == (([1],), {"z": [2]})


@pytest.mark.parametrize(
    ("made", "reason"), [("", "is empty"), ("x_date", "ends in '_date'"), (3, "not str")]
)
def test_a_name_generation_function_that_gives_no_name(made: Any, reason: str) -> None:
    binder, call = bound(one, 1)
    with pytest.raises(MetricNameError, match=f"{reason}.*let name_generation_function give another one"):
        binder.name(call, lambda *_: made)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ([], "poly.Y"),
        ([1, 2], "poly.Y_1_2"),
        ([1.5, "lo"], "poly.Y_1.5_lo"),
        (([1, 2], None), "poly.Y_[1, 2]_None"),
    ],
)
def test_legacy_names(params: Any, name: str) -> None:
    assert legacy_metric_name("poly.Y", params) == name.replace(".", "p")


def test_a_legacy_name_leaves_trailing_defaults_out() -> None:
    binder = Binder(lambda a, b=2.5: 0, base_name="f")
    assert binder.name(binder.bind_row([1]), legacy_metric_name) == "f_1"
    assert binder.name(binder.bind_row([1, 0.5]), legacy_metric_name) == "f_1_0p5"


# --- params to read -------------------------------------------------------------------------------------


def test_params_by_argument_name() -> None:
    def f(a: Any, /, b: Any = 2, *rest: Any, k: Any = 3, CM: Any, **options: Any) -> Any:  # noqa: N803
        return a, b, rest, k, CM, options

    binder = Binder(f, base_name="f")
    assert binder.params(binder.bind((1,), {})) == {"a": 1, "b": 2, "k": 3}
    full = binder.bind((1, 5, 6, 7), {"z": 1, "a": 2})
    expected = {"a": 1, "b": 5, "*rest": (6, 7), "k": 3, "**options": {"a": 2, "z": 1}}
    assert binder.params(full) == expected
    assert list(binder.params(full)) == list(expected)
    assert binder.show(full) == "f(1, 5, 6, 7, k=3, a=2, z=1)"
    assert show_call("f", binder.params(full)) == "f(1, 5, 6, 7, 3, a=2, z=1)"


def test_params_as_json() -> None:
    binder, call = bound(
        lambda *, a, b, c, d, e: 0,
        a=1.5,
        b=(1, {"x": NAN}),
        c=np.zeros((1, 2)),
        d=2**3000,
        e=dt.date(2020, 1, 31),
    )
    assert params_to_json(binder.params(call)) == {
        "a": 1.5,
        "b": {
            "type": "tuple",
            "items": [1, {"type": "dict", "items": [["x", {"type": "float", "value": "nan"}]]}],
        },
        "c": {"type": "array", "dtype": "<f8", "shape": [1, 2], "digest": digest(bytes(16))},
        "d": {"type": "int", "hex": "1" + "0" * 750},
        "e": {"type": "date", "iso": "2020-01-31"},
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a'b", '"a\'b"'),
        (2**5000, "<int of 5001 bits>"),
        ([1, [2**5000]], "[1, [<int of 5001 bits>]]"),
        (np.zeros((2, 3)), "<array of float64, shape (2, 3)>"),
        ([np.zeros(1)], "[<array of float64, shape (1,)>]"),
        (list(range(50)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
        ("x" * 100, f"'{'x' * 27}...{'x' * 28}'"),
    ],
    ids=lambda case: str(type(case)),
)
def test_a_call_is_shown_on_one_short_line(value: Any, shown: str) -> None:
    binder, call = bound(one, value)
    assert binder.show(call) == f"f({shown})"


def test_a_long_call_is_cut() -> None:
    binder, call = bound(anything, *range(500))
    assert len(binder.show(call)) <= 210
    assert binder.show(call).endswith("...)")


@given(st.lists(params(), max_size=4))
def test_any_call_can_be_shown(args: list[Any]) -> None:
    binder, call = bound(anything, *args)
    assert "\n" not in binder.show(call)


# --- the closest row ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "closest"),
    [
        ([1, 3], "f(1, 2)"),
        ([40, 51], "f(40, 50)"),
        (["1", 2], "f(1, 2)"),
        ([1.0, 2], "f(1, 2)"),
        ([7, "lox"], "f(7, 'low')"),
        ([1, 2, 3], "f(1, 2)"),
        ([math.inf, NAN], "f(1, 2)"),
        ([10**400, 0.5], "f(1, 2)"),
        ([[1], np.zeros(3)], "f(1, 2)"),
        (["", 10**5000], "f(1, 2)"),
        ([-math.inf, "hi"], "f(7, 'high')"),
    ],
)
def test_the_nearest_row(asked: list[Any], closest: str) -> None:
    binder = Binder(anything, base_name="f")
    rows = [binder.bind_row(row) for row in ([1, 2], [40, 50], [7, "low"], [7, "high"])]
    found = nearest(binder.bind_row(asked), rows)
    assert found is not None
    assert binder.show(found) == closest


def test_nothing_is_nearest_to_nothing() -> None:
    assert nearest(bound(one, 1)[1], []) is None
