"""What `@CM.collect` takes, adds and refuses, and which calls are one metric."""

from __future__ import annotations

import enum
import functools
import importlib
import re
import sys
from collections import deque, namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import numpy as np
import pytest

from smm import (
    CollectedMetric,
    DatedCacheManager,
    MemoryStorageInterface,
    Metric,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
)
from smm.errors import (
    DeclarationError,
    MetricNameError,
    NameClashError,
    UndeclaredParamsError,
    UnknownMetricError,
    UnsupportedParamError,
)
from smm.metric import Argument, Input, Literal, Trust

Row = namedtuple("Row", "a b")


class Colour(enum.Enum):
    RED = 1


@pytest.fixture
def cm() -> ParameterizedDatedCacheManager:
    return ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)


@pytest.fixture
def plain() -> DatedCacheManager:
    return DatedCacheManager(MemoryStorageInterface(), verbose=False)


@pytest.fixture
def dynamic() -> ParameterizedDatedCacheManager:
    return ParameterizedDatedCacheManager(
        MemoryStorageInterface(), verbose=False, dynamic_metric_creation=True
    )


@pytest.fixture(params=[DatedCacheManager, ParameterizedDatedCacheManager])
def either(request: pytest.FixtureRequest) -> DatedCacheManager:
    manager: DatedCacheManager = request.param(MemoryStorageInterface(), verbose=False)
    return manager


def poly(a: int, b: int = 2) -> int:
    """A polynomial."""
    return 10 * a + b


def counted(function: Callable[..., Any]) -> Any:
    """The function with a list `calls` of the arguments it was called with."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        wrapper.calls.append((args, kwargs))  # type: ignore[attr-defined]
        return function(*args, **kwargs)

    wrapper.calls = []  # type: ignore[attr-defined]
    return wrapper


# --- forms -----------------------------------------------------------------------------------------------


def test_collect_bare_and_called(either: DatedCacheManager) -> None:
    @either.collect
    def bare() -> int:
        return 1

    @either.collect()
    def called() -> int:
        return 2

    @either.collect("named")
    def function() -> int:
        return 3

    @either.collect(base_name="by keyword")
    def another() -> int:
        return 4

    assert [either.bare(), either.called(), either.named(), either["by keyword"]] == [1, 2, 3, 4]
    assert getattr(either, "by keyword")() == 4
    assert list(either) == ["bare", "called", "named", "by keyword"]
    assert [metric.base_name for metric in either.parameterized_metrics] == list(either)


def test_collect_as_a_plain_call(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect("first", [[1], [4]])(poly)
    cm.collect(poly, params_list=[[1, 2], [1, 3]])  # type: ignore[call-overload]
    assert cm.first.names() == ["first_1_2", "first_4_2"]
    assert cm.poly.names() == ["poly_1_2", "poly_1_3"]


@pytest.mark.parametrize("params_list", [[[1]], [1, 2], [{"a": 1}], iter([[1]])])
def test_params_need_the_parameterized_manager(plain: DatedCacheManager, params_list: Any) -> None:
    with pytest.raises(DeclarationError, match=r"'poly'.*ParameterizedDatedCacheManager"):
        plain.collect(params_list=params_list)(poly)
    assert list(plain) == []
    assert not hasattr(plain, "poly")


def test_a_function_with_params_needs_the_parameterized_manager(plain: DatedCacheManager) -> None:
    with pytest.raises(DeclarationError, match=r"'poly'.*ParameterizedDatedCacheManager"):
        plain.collect(poly)
    assert not hasattr(plain, "poly")


def test_defaults_enter_the_name(either: DatedCacheManager) -> None:
    @either.collect
    def window(days: int = 7) -> int:
        return days

    assert list(either) == ["window_7"]
    assert either.window() == either.window(7) == either.window(days=7) == 7
    assert list(either.cache) == ["window_7"]


def test_a_bare_collect_of_a_function_that_needs_params(cm: ParameterizedDatedCacheManager) -> None:
    with pytest.raises((TypeError, DeclarationError), match="poly"):
        cm.collect(poly)
    assert list(cm) == []
    assert not hasattr(cm, "poly")


# --- what it adds ----------------------------------------------------------------------------------------


def test_the_collected_metric(cm: ParameterizedDatedCacheManager) -> None:
    rows = [[1, 2], (1, 3), {"a": 4}]
    decorated = cm.collect(params_list=rows)(poly)
    metric: CollectedMetric = cm.poly
    assert metric.original_function is poly
    assert metric.base_name == "poly"
    assert metric.params_list == rows
    assert [type(row) for row in metric.params_list] == [list, tuple, dict]
    assert metric.params_list is not rows
    assert metric.name_generation_function is None
    assert metric.__name__ == "poly"
    assert metric.__doc__ == "A polynomial."
    assert metric.__wrapped__ is poly
    assert cm.parameterized_metrics == [metric]
    assert isinstance(metric, type(poly)), "a function object: the fast path"
    assert decorated.__wrapped__ is poly
    assert decorated.__name__ == "poly"
    assert decorated.__doc__ == "A polynomial."


def test_calls_of_the_collected_metric(cm: ParameterizedDatedCacheManager) -> None:
    function = counted(poly)
    cm.collect(params_list=[[1]])(function)
    assert cm.poly(1) == 12
    assert cm.poly(1) == 12
    assert len(function.calls) == 1
    assert cm.poly(1, use_stored=False) == 12
    assert len(function.calls) == 2
    assert cm.poly(1, cache=False) == 12
    assert len(function.calls) == 3
    assert cm.poly(5, 6, cache=False) == 56, "without the cache, any params"
    assert list(cm.cache) == ["poly_1_2"]


def test_questions_to_the_collected_metric(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(params_list=[[1]])(poly)
    assert cm.poly.name(1) == cm.poly.name(a=1, b=2) == "poly_1_2"
    assert cm.poly.name(8, 9) == "poly_8_9", "a name needs no declaration"
    assert not cm.poly.exists(1)
    assert not cm.poly.exists(8, 9)
    cm.poly(1)
    assert cm.poly.exists(1)
    assert cm.poly.exists(1, b=2)
    assert cm.poly.record(1) == cm.record("poly_1_2")
    assert list(cm) == ["poly_1_2"]


def test_the_decorated_name_stays_the_plain_function(cm: ParameterizedDatedCacheManager) -> None:
    function = counted(poly)
    decorated = cm.collect(params_list=[[1]])(function)
    assert decorated(1) == 12
    assert decorated(7, b=8) == 78
    assert cm.cache == {}
    assert decorated(1, cache=True) == 12
    assert decorated(1, 2, cache=True) == 12
    assert len(function.calls) == 3
    assert decorated(1, cache=True, use_stored=False) == 12
    assert len(function.calls) == 4
    assert decorated(1, cache=False) == 12
    with pytest.raises(UndeclaredParamsError):
        decorated(7, 8, cache=True)
    with pytest.raises(TypeError, match="cache=True"):
        decorated(1, use_stored=False)


def test_one_function_in_two_managers(
    cm: ParameterizedDatedCacheManager, dynamic: ParameterizedDatedCacheManager
) -> None:
    cm.collect(params_list=[[1]])(poly)
    dynamic.collect(params_list=[[1]])(cm.collect(params_list=[[1]])(poly))
    assert cm.poly(1) == dynamic.poly(1) == dynamic.poly(1, 2) == 12


# --- params lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2], [1, 3]],
        ((1, 2), (1, 3)),
        [{"a": 1}, {"b": 3, "a": 1}],
        [Row(1, 2), Row(1, 3)],
        np.array([[1, 2], [1, 3]]),
        (np.array([1, 2]), np.array([1, 3])),
        deque([[1], [1, 3]]),
        [1, (1, 3)],
        [np.int64(1), {"a": np.uint8(1), "b": np.int32(3)}],
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_params_lists_of_many_kinds(cm: ParameterizedDatedCacheManager, rows: Any) -> None:
    function = counted(poly)
    cm.collect(params_list=rows)(function)
    assert list(cm) == ["poly_1_2", "poly_1_3"]
    assert cm.poly.get_all() == [12, 13]
    assert type(cm.poly.params_list) is type(rows)
    assert np.array_equal(np.array(cm.poly.params_list, dtype=object), np.array(rows, dtype=object))
    received = [value for args, named in function.calls for value in [*args, *named.values()]]
    assert [type(value) for value in received] == [int] * 4, "Python's numbers, whatever the row's"


@pytest.mark.parametrize("rows", [(np.array([1]),), (np.array([]),), ([],), [[]], [()]])
def test_params_lists_of_one_row(cm: ParameterizedDatedCacheManager, rows: Any) -> None:
    cm.collect("with_default", params_list=rows)(lambda a=1: a)
    assert list(cm) == ["with_default_1"]
    assert cm.with_default.get_all() == [1]


def test_a_params_list_that_can_be_read_once(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(params_list=(row for row in ([1, 2], [1, 3])))(poly)
    assert cm.poly.params_list == [[1, 2], [1, 3]]
    assert cm.poly.get_all() == cm.poly.get_all() == [12, 13]


def test_a_set_of_rows(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(params_list={(1, 2), (1, 3)})(poly)
    assert cm.poly.params_list == {(1, 2), (1, 3)}
    assert sorted(cm.poly.get_all()) == [12, 13]


def test_a_range_of_scalars(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(params_list=range(1, 4))(poly)
    assert cm.poly.params_list == range(1, 4)
    assert cm.poly.get_all() == [12, 22, 32]


def test_a_sweep_of_many_rows(cm: Any) -> None:
    rows = [[a, b] for a in range(30) for b in range(40)]

    cm.collect(base_name="poly", params_list=rows)(lambda a, b: 100 * a + b)
    rows[5][0] = 99
    assert cm.poly.names() == list(cm) == [f"poly_{a}_{b}" for a in range(30) for b in range(40)]
    assert cm.poly.params_list[5] == [0, 5]
    assert cm.functions_dict["poly_3_4"]() == cm.poly(3, 4) == cm.poly(b=4, a=3) == 304
    row = cm.functions_dict["poly_7_8"]
    assert (row.params(), repr(row), row.rows) == ({"a": 7, "b": 8}, "<row poly(7, 8)>", cm.rows_of("poly"))
    with pytest.raises(UndeclaredParamsError, match=re.escape("poly(29, 39)")):
        cm.poly(29, 40)
    with pytest.raises(UndeclaredParamsError):
        cm.poly(3.0, 4)


def test_a_repeated_row_of_a_sweep(cm: Any) -> None:
    cm.collect(base_name="twice", params_list=[(1, 2), (3, 4), (1, 2)])(lambda a, b: a)
    assert cm.twice.names() == ["twice_1_2", "twice_3_4", "twice_1_2"]
    assert list(cm) == ["twice_1_2", "twice_3_4"]
    assert cm.twice.get_all() == [1, 3, 1]


def test_a_row_that_does_not_fit_among_many(cm: Any) -> None:
    with pytest.raises(TypeError, match="takes 2 positional") as caught:
        cm.collect(base_name="f", params_list=[(i, i, i) for i in range(10)])(lambda a, b: a)
    assert caught.value.__notes__ == ["in params_list[0] of metric 'f'"]
    assert list(cm) == []


def test_a_collected_metric_is_one_object(cm: Any) -> None:
    cm.declare(Metric(base_name="f", function=poly, params_list=[(1,)]))
    assert "f" in dir(cm)
    assert cm.f is cm.f is cm.parameterized_metrics[0]
    before = cm.f
    cm.declare(Metric(base_name="g", function=poly, params_list=[(1,)]))
    cm.declare(Metric(base_name="f", function=poly, params_list=[(2,)]))
    assert cm.f is not before
    assert cm.parameterized_metrics == [cm.g, cm.f]


def test_an_empty_params_list(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(params_list=[])(poly)
    assert cm.poly.get_all() == []
    assert list(cm) == []
    with pytest.raises(UndeclaredParamsError, match="none is"):
        cm.poly(1)


@pytest.mark.parametrize("change", ["row", "list", "array", "dict", "nested"])
def test_a_caller_who_changes_a_row_afterwards_changes_nothing(
    cm: ParameterizedDatedCacheManager, change: str
) -> None:
    nested = [1, [2, 3]]
    rows: list[Any] = [[1, 2], {"a": 1, "b": 3}, np.array([1, 4]), [nested, 5]]
    cm.collect("rows", params_list=rows)(lambda a, b: [a, b])
    names = list(cm)
    if change == "row":
        rows[0][1] = 7
    elif change == "list":
        rows.clear()
    elif change == "array":
        rows[2][1] = 7
    elif change == "dict":
        rows[1]["b"] = 7
    else:
        nested[1][0] = 7  # type: ignore[index]
    assert list(cm) == names == cm.rows.names()
    assert cm.rows.get_all() == [[1, 2], [1, 3], [1, 4], [[1, [2, 3]], 5]]
    assert cm.rows([1, [2, 3]], 5) == [[1, [2, 3]], 5]
    assert len(cm.rows.params_list) == 4


def test_the_params_list_that_is_shown_is_not_the_one_that_is_computed(
    cm: ParameterizedDatedCacheManager,
) -> None:
    cm.collect("f", params_list=[[[1, 2]], [np.arange(2)]])(lambda a: [int(x) for x in a])
    cm.f.params_list[0][0].append(3)
    cm.f.params_list[1][0][:] = 9
    assert cm.f.get_all() == [[1, 2], [0, 1]]


def test_params_are_copied_when_given(cm: ParameterizedDatedCacheManager) -> None:
    rows = [[1, 2]]
    decorator = cm.collect(params_list=rows)
    rows[0][1] = 7
    decorator(poly)
    assert list(cm) == ["poly_1_2"]


def test_a_decorator_used_twice(cm: ParameterizedDatedCacheManager) -> None:
    decorator = cm.collect(params_list=iter([[1], [4]]))

    @decorator
    def one(a: int) -> int:
        return a

    @decorator
    def two(a: int) -> int:
        return -a

    assert (cm.one.get_all(), cm.two.get_all()) == ([1, 4], [-1, -4])


def test_a_function_that_changes_its_arguments(cm: ParameterizedDatedCacheManager) -> None:
    @cm.collect(params_list=[[[3, 1, 2]]])
    def largest(values: list[int]) -> int:
        values.sort()
        return values.pop()

    assert cm.largest([3, 1, 2]) == 3
    assert cm.largest([3, 1, 2], use_stored=False) == 3
    assert cm.largest.get_all(use_stored=False) == [3]
    assert cm.largest.params_list == [[[3, 1, 2]]]


def test_a_repeated_row_is_one_metric(cm: ParameterizedDatedCacheManager) -> None:
    function = counted(poly)
    cm.collect(params_list=[[1, 2], [4, 5], [1], {"a": 1, "b": 2}])(function)
    assert list(cm) == ["poly_1_2", "poly_4_5"]
    assert cm.poly.names() == ["poly_1_2", "poly_4_5", "poly_1_2", "poly_1_2"]
    assert cm.poly.get_all() == [12, 45, 12, 12]
    assert len(function.calls) == 2
    assert cm.poly.get_all(use_stored=False) == [12, 45, 12, 12]
    assert len(function.calls) == 4


@pytest.mark.parametrize(
    ("params_list", "place"),
    [
        ([[1, 2], [1, 2, 3]], r"params_list\[1\]"),
        ([[1], {"c": 1}], r"params_list\[1\]"),
        ([[1], {"a": 1}, {"b": 1}], r"params_list\[2\]"),
        ([[]], r"params_list\[0\]"),
        ([[1, object()]], r"params_list\[0\]"),
        (["ab", [lambda: 1]], r"params_list\[1\]"),
        ("ab", "params_list"),
        (b"ab", "params_list"),
        ({"a": 1}, "params_list"),
        (3, "params_list"),
    ],
)
def test_a_row_that_does_not_fit(cm: ParameterizedDatedCacheManager, params_list: Any, place: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        cm.collect(params_list=params_list)(poly)

    assert re.search(place, "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())]))
    assert list(cm) == [], "a declaration happens whole or not at all"
    assert not hasattr(cm, "poly")
    assert cm.parameterized_metrics == []


# --- which calls are one metric --------------------------------------------------------------------------


def test_calls_bind_to_the_signature_with_defaults(cm: ParameterizedDatedCacheManager) -> None:
    function = counted(poly)
    cm.collect(params_list=[[1]])(function)
    assert {cm.poly(1), cm.poly(1, b=2), cm.poly(a=1, b=2), cm.poly(1, 2), cm.poly(b=2, a=1)} == {12}
    assert len(function.calls) == 1


@pytest.mark.parametrize("scalar", [np.int8, np.uint64, np.int_, np.longlong])
def test_numpy_integers_count_as_pythons(cm: ParameterizedDatedCacheManager, scalar: Any) -> None:
    cm.collect(params_list=[[1]])(poly)
    assert cm.poly(scalar(1), scalar(2)) == 12
    assert list(cm.cache) == ["poly_1_2"]


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (np.bool_(True), True),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.complex128(1j), 1j),
        (np.complex64(1j), 1j),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), b"a"),
        (float("nan"), -float("nan")),
    ],
)
def test_other_numpy_scalars_count_as_pythons(dynamic: Any, given: Any, same: Any) -> None:
    received: list[Any] = []
    dynamic.collect("f")(lambda x: received.append(x))
    dynamic.f(given)
    dynamic.f(same)
    assert [type(value) for value in received] == [type(same)]


def test_equal_but_different_params_are_different_metrics(dynamic: Any) -> None:
    dynamic.collect("f")(lambda x: repr(x))
    params = [
        1,
        1.0,
        True,
        "1",
        0.0,
        -0.0,
        b"1",
        1 + 0j,
        Decimal(1),
        (1,),
        [1],
        {1},
        frozenset({1}),
        None,
        "None",
    ]
    assert [dynamic.f(x) for x in params] == [repr(x) for x in params]
    assert len(list(dynamic)) == len(params)


@pytest.mark.parametrize(
    "params",
    [
        None,
        Colour.RED,
        date(2020, 1, 31),
        PurePosixPath("a/b"),
        range(3),
        slice(1, None, 2),
        np.array([1.5, 2.0]),
        np.datetime64("2020-01-31"),
        {"b": [1, (2,)], "a": {1, 2}},
    ],
    ids=repr,
)
def test_params_of_many_kinds_reach_the_function(cm: Any, params: Any) -> None:
    received: list[Any] = []
    cm.collect("f", params_list=[[params]])(lambda x: received.append(x))
    cm.f(params)
    assert len(list(cm)) == 1
    assert type(received[0]) is type(params)
    assert np.all(received[0] == params)


@pytest.mark.parametrize("params", [object(), lambda: 1, [object()], {"a": open}, iter([1]), sys])
def test_params_without_a_lasting_identity_are_refused(dynamic: Any, params: Any) -> None:
    dynamic.collect("f")(lambda first, x=None: 1)
    with pytest.raises(UnsupportedParamError, match=r"argument .x.*ignore=\('x',\)"):
        dynamic.f(1, params)
    assert list(dynamic) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f(),
        lambda f: f(1, 2, 3),
        lambda f: f(1, c=2),
        lambda f: f(1, a=2),
    ],
)
@pytest.mark.parametrize("ask", ["call", "name", "exists", "record", "cache"])
def test_a_call_that_does_not_fit_raises_pythons_type_error(cm: Any, call: Any, ask: str) -> None:
    decorated = cm.collect(params_list=[[1]])(poly)
    function = {"call": cm.poly, "cache": functools.partial(decorated, cache=True)}.get(ask) or getattr(
        cm.poly, ask
    )
    with pytest.raises(TypeError) as pythons:
        call(poly)
    with pytest.raises(TypeError) as ours:
        call(function)
    word = "'c'" if "'c'" in str(pythons.value) else "'a'" if "'a'" in str(pythons.value) else "poly"
    assert word in str(ours.value)


def test_variable_arguments(dynamic: Any) -> None:
    dynamic.collect("f")(lambda *args, key=0, **rest: [args, key, sorted(rest.items())])
    assert dynamic.f(1, 2, key=3, z=1, y=2) == [(1, 2), 3, [("y", 2), ("z", 1)]]
    assert dynamic.f(1, 2, y=2, z=1, key=3) == [(1, 2), 3, [("y", 2), ("z", 1)]]
    assert list(dynamic.cache) == ["f_1_2_key=3_y=2_z=1"]


# --- undeclared and dynamic ------------------------------------------------------------------------------


def test_undeclared_params_name_the_closest_row(cm: Any) -> None:
    function = counted(poly)
    cm.collect(params_list=[[1, 2], [40, 50]])(function)
    with pytest.raises(UndeclaredParamsError, match=r"poly\(1, 3\) is not among.*closest is poly\(1, 2\)"):
        cm.poly(1, 3)
    with pytest.raises(ValueError, match=r"closest is poly\(40, 50\).*dynamic_metric_creation"):
        cm.poly(40, 51)
    assert function.calls == []
    assert list(cm) == ["poly_1_2", "poly_40_50"]
    assert cm.cache == {}


def test_dynamic_metric_creation(dynamic: ParameterizedDatedCacheManager) -> None:
    function = counted(poly)
    dynamic.collect(params_list=[[1, 2]])(function)
    assert dynamic.poly(12, 13) == 133
    assert dynamic.poly(12, b=13) == 133
    assert len(function.calls) == 1
    assert list(dynamic) == ["poly_1_2", "poly_12_13"]
    assert dynamic.poly.get_all() == [12], "params_list says what all are"
    assert dynamic["poly_12_13"] == 133


def test_a_bare_collect_with_dynamic_metric_creation(dynamic: Any) -> None:
    dynamic.collect(poly)
    assert list(dynamic) == []
    assert dynamic.poly(1, 2) == 12
    assert dynamic.poly.get_all() == []


def test_a_refused_call_creates_nothing(tmp_path: Path) -> None:
    def name_of(base_name: str, params: Any) -> str:
        return {1: "x_date", 2: "", 3: "n" * 300}.get(params[0], "fine")

    for dynamic in (False, True):
        cm: Any = ParameterizedDatedCacheManager(
            NpzStorageInterface(tmp_path / "results"), verbose=False, dynamic_metric_creation=dynamic
        )
        cm.collect("f", [[0]], name_of)(lambda a: a)
        for params in ((1,), (2,), (3,), (object(),), (), (1, 2)):
            with pytest.raises((ValueError, TypeError)):
                cm.f(*params)
        assert not (tmp_path / "results").exists()
        assert cm.cache == {}


def test_dynamic_metrics_never_share_a_name(dynamic: Any) -> None:
    dynamic.collect("f")(lambda *rest: ["f", *rest])
    dynamic.collect("f_g")(lambda *rest: ["f_g", *rest])
    assert dynamic.f("g", 1) == ["f", "g", 1]
    with pytest.raises(NameClashError, match="f_g_1"):
        dynamic.f_g(1)
    assert dynamic.f("g", 1) == ["f", "g", 1]


def test_dynamic_rows_that_a_name_generation_function_cannot_tell_apart(dynamic: Any) -> None:
    dynamic.collect("f", name_generation_function=lambda base_name, params: "one")(lambda a: ["f", a])
    dynamic.collect("g", name_generation_function=lambda base_name, params: "one")(lambda a: ["g", a])
    assert dynamic.f(1) == ["f", 1]
    clashes: list[Callable[[], Any]] = [lambda: dynamic.f(2), lambda: dynamic.g(1), lambda: dynamic.f(True)]
    for clash in clashes:
        with pytest.raises(NameClashError, match="'one'"):
            clash()
    assert dynamic.f(1) == ["f", 1]


# --- CM as a parameter -----------------------------------------------------------------------------------


def test_a_parameter_called_cm_is_given_the_manager(cm: ParameterizedDatedCacheManager) -> None:
    @cm.collect(params_list=[[1], [2]])
    def last(a: int, CM: Any) -> Any:  # noqa: N803 - the field's name
        return [a, CM is cm]

    @cm.collect(params_list=[[1]])
    def keyword_only(a: int, *, CM: Any, b: int = 3) -> Any:  # noqa: N803
        return [a, b, CM is cm]

    assert cm.last.names() == ["last_1", "last_2"], "no part of rows, nor of the identity"
    assert cm.last.get_all() == [[1, True], [2, True]]
    assert cm.keyword_only(1) == [1, 3, True]
    assert cm.last(1, cache=False) == [1, True]
    with pytest.raises(TypeError):
        cm.last(1, CM=cm)


# --- refusals --------------------------------------------------------------------------------------------


def hidden_names() -> list[str]:
    manager = DatedCacheManager(MemoryStorageInterface())
    return sorted(
        {name for name in dir(manager) if not name.startswith("_")}
        | {"run", "plan", "why", "status", "graph", "accept", "rename", "verify", "report"}
        | {"functions_dict", "cache", "storage_interface", "parameterized_metrics", "__init__", "__class__"}
    )


@pytest.mark.parametrize("name", hidden_names())
def test_a_name_that_hides_something_of_the_manager(either: DatedCacheManager, name: str) -> None:
    before = {known: getattr(either, known, None) for known in hidden_names()}
    with pytest.raises((DeclarationError, MetricNameError), match=f"'{name}'"):
        either.collect(name)(lambda: 1)
    with pytest.raises((DeclarationError, MetricNameError), match=f"'{name}'"):
        either.declare(Metric(base_name=name))
    assert {known: getattr(either, known, None) for known in hidden_names()} == before


@pytest.mark.parametrize("name", ["x_date", "_date", ""])
def test_names_that_no_metric_can_have(cm: DatedCacheManager, name: str) -> None:
    with pytest.raises((DeclarationError, MetricNameError)):
        cm.collect(name)(lambda: 1)
    assert list(cm) == []


def test_a_generated_name_that_no_metric_can_have(cm: DatedCacheManager) -> None:
    for made in ("x_date", "", 3):
        make: Any = lambda base_name, params, made=made: made  # noqa: E731
        with pytest.raises((DeclarationError, MetricNameError, TypeError)):
            cm.collect("f", [[1]], make)(lambda a: a)
    assert list(cm) == []


def test_a_base_name_that_is_no_name(cm: DatedCacheManager) -> None:
    for given in (3, ["a"], [[1, 2]], b"f"):
        with pytest.raises((DeclarationError, MetricNameError, TypeError)):
            cm.collect(given)(poly)  # type: ignore[call-overload]
    assert list(cm) == []


def test_a_last_part_called_date_does_not_make_a_side_cars_name(cm: Any) -> None:
    cm.collect("f", params_list=["date", "other"])(lambda what: what)
    names = cm.f.names()
    assert names[1] == "f_other"
    assert names[0].startswith("f_date~")
    assert cm.f.get_all() == ["date", "other"]


async def coroutine() -> int:
    return 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        async_generator,
        generator,
        lambda cache: cache,
        lambda *, use_stored=True: use_stored,
        functools.partial(coroutine),
    ],
)
def test_functions_that_cannot_be_metrics(either: DatedCacheManager, function: Any) -> None:
    with pytest.raises(DeclarationError, match="'metric' cannot be declared"):
        either.collect("metric")(function)
    assert list(either) == []


def test_two_functions_under_one_name(either: DatedCacheManager) -> None:
    @either.collect
    def metric() -> int:
        return 1

    def other() -> int:
        return 2

    either.metric()
    with pytest.raises(NameClashError, match=r"another function has this name.*base_name"):
        either.collect("metric")(other)
    assert either.metric() == 1
    assert len(either.parameterized_metrics) == 1


def test_two_partials_under_one_name(either: DatedCacheManager) -> None:
    either.collect("metric")(functools.partial(poly, 1))
    with pytest.raises(NameClashError):
        either.collect("metric")(functools.partial(poly, 2))


def test_a_collected_name_that_set_functions_dict_gave(either: DatedCacheManager) -> None:
    either.set_functions_dict({"metric": lambda: 1})
    with pytest.raises(NameClashError, match="'metric'"):
        either.collect("metric")(lambda: 2)
    assert either["metric"] == 1
    assert not hasattr(either, "metric")


def test_something_callable_without_a_name(either: DatedCacheManager) -> None:
    with pytest.raises(DeclarationError, match="base_name"):
        either.collect(functools.partial(poly, 1))
    decorated = either.collect("metric")(functools.partial(poly, 1))
    assert either["metric_2"] == 12
    assert decorated(cache=True) == 12
    with pytest.raises(TypeError, match="cache=True"):
        decorated(use_stored=False)


# --- declared again --------------------------------------------------------------------------------------


def test_the_same_function_declared_again_replaces_the_old_one(either: DatedCacheManager) -> None:
    def cell(value: int) -> None:
        @either.collect
        def metric() -> int:
            return value

    cell(1)
    assert either.metric() == 1
    either.storage_interface.delete("metric")  # type: ignore[attr-defined]
    cell(2)
    assert "metric" not in either.cache, "its values leave memory"
    assert either.metric() == 2
    assert len(either.parameterized_metrics) == 1
    assert list(either) == ["metric"]


def test_rows_that_a_new_declaration_lacks_are_gone(cm: ParameterizedDatedCacheManager) -> None:
    def cell(rows: Any) -> None:
        @cm.collect(params_list=rows)
        def metric(a: int) -> int:
            return a

    cell([1, 2])
    cm.metric.get_all()
    cell([2, 3])
    assert list(cm) == ["metric_2", "metric_3"]
    assert cm.cache == {}
    with pytest.raises(UndeclaredParamsError):
        cm.metric(1)
    assert cm["metric_1"] == 1, "what is stored stays"


def test_a_refused_new_declaration_leaves_the_old_one(cm: ParameterizedDatedCacheManager) -> None:
    def cell(rows: Any) -> None:
        @cm.collect(params_list=rows)
        def metric(a: int) -> int:
            return a

    cell([1, 2])
    cm.metric.get_all()
    with pytest.raises(TypeError):
        cell([1, [2, 3]])
    assert list(cm) == ["metric_1", "metric_2"]
    assert cm.cache.keys() == {"metric_1", "metric_2"}, "in any order: they were computed side by side"
    assert cm.metric(1) == 1


def test_a_module_that_is_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def metric():\n    return {}\n"
    module_file = tmp_path / "reloaded_metrics.py"
    module_file.write_text(source.format(1))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("reloaded_metrics")
    cm = DatedCacheManager(MemoryStorageInterface(), verbose=False)
    cm.collect(module.metric)
    assert cm.metric() == 1
    module_file.write_text(source.format(2))
    cm.collect(importlib.reload(module).metric)
    assert cm.metric.original_function() == 2
    assert cm.cache == {}
    monkeypatch.delitem(sys.modules, "reloaded_metrics")


# --- names -----------------------------------------------------------------------------------------------


def test_name_generation_function(cm: Any) -> None:
    seen: list[Any] = []

    def make(base_name: str, params: tuple[Any, ...]) -> str:
        seen.append((base_name, params))
        return "-".join([base_name, *map(str, params)])

    cm.collect(params_list=[[1], [4, 5], {"a": 6, "b": 2}], name_generation_function=make)(poly)
    assert list(cm) == ["poly-1", "poly-4-5", "poly-6"]
    assert seen == [("poly", (1,)), ("poly", (4, 5)), ("poly", (6,))], "without trailing defaults"
    assert cm.poly.name_generation_function is make
    assert cm.poly(4, 5) == cm["poly-4-5"] == 45
    assert cm.poly.name(8) == "poly-8"


def test_rows_that_a_name_generation_function_cannot_tell_apart(cm: Any) -> None:
    with pytest.raises(NameClashError, match=r"poly\(4, 2\) and poly\(1, 2\).*share the name 'poly'"):
        cm.collect(params_list=[[1], [4]], name_generation_function=lambda base_name, params: base_name)(poly)
    assert list(cm) == []


def test_rows_of_two_metrics_that_would_share_a_name(cm: Any) -> None:
    cm.collect("f", params_list=[["g", 1]])(lambda a, b: 1)
    with pytest.raises(NameClashError, match=r"'f_g_1'.*f\('g', 1\)"):
        cm.collect("f_g", params_list=[[1]])(lambda b: 2)
    cm.set_functions_dict({"f_h_1": lambda: 3})
    with pytest.raises(NameClashError, match="'f_h_1'"):
        cm.collect("f_h", params_list=[[1]])(lambda b: 4)
    assert list(cm) == ["f_g_1", "f_h_1"]
    assert not hasattr(cm, "f_g")


def test_two_rows_that_share_a_name_are_seen_at_load(tmp_path: Path) -> None:
    def manager(base_name: str, row: list[Any], value: int) -> Any:
        cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
        cm.collect(base_name, params_list=[row])(lambda *rest: value)
        return cm

    one = manager("f", ["g", 1], 1)
    assert one.f("g", 1) == 1
    two = manager("f_g", [1], 2)
    for ask in (two.get, two.load, two.save, functools.partial(two.get, use_stored=False)):
        with pytest.raises(NameClashError, match=r"f_g_1"):
            ask("f_g_1")
    assert one.load("f_g_1", force=True) == 1, "nor is it replaced"


def test_equal_params_of_another_type_are_seen_at_load(tmp_path: Path) -> None:
    def manager(param: Any) -> Any:
        cm = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
        cm.collect("f", [[param]], lambda base_name, params: base_name)(lambda a: repr(a))
        return cm

    assert manager(1).f(1) == "1"
    assert manager(1).f(1) == "1"
    for other in (1.0, True, "1", 2):
        with pytest.raises(NameClashError):
            manager(other).f(other)


def test_an_argument_may_be_renamed(tmp_path: Path) -> None:
    first = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    first.collect("f", params_list=[[1]])(lambda a: a)
    first.f(1)
    second = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False, on_stale="serve")
    second.collect("f", params_list=[[1]])(lambda better_name: 7)
    assert second.f(1) == 1


# --- ignore ----------------------------------------------------------------------------------------------


def test_ignored_arguments_are_no_part_of_the_identity(cm: Any) -> None:
    received: list[Any] = []

    def function(a: int, log: Any = None) -> int:
        received.append((a, log))
        return a

    log = object()
    cm.collect("f", params_list=[[1]], ignore=["log"])(function)
    assert list(cm) == ["f_1"]
    assert cm.f(1, log=log) == 1
    assert cm.f(1) == 1
    assert cm.f(1, "other") == 1
    assert received == [(1, log)], "what the call brings is what the function gets"
    cm.f(1, log=3, use_stored=False)
    assert received[1:] == [(1, 3)]
    assert cm.record("f_1").params == {"a": 1}
    with pytest.raises(UndeclaredParamsError):
        cm.f(2, log=log)


def test_ignore_takes_one_name_too(cm: Any) -> None:
    cm.collect("f", params_list=[[1, 2]], ignore="log")(lambda a, log: a)
    assert list(cm) == ["f_1"]


def test_ignore_of_an_unknown_argument(cm: Any) -> None:
    with pytest.raises(DeclarationError, match=r"lag.*log"):
        cm.collect("f", params_list=[[1, 2]], ignore=["lag"])(lambda a, log: a)


def test_ignored_with_an_entry_put_into_functions_dict(cm: Any) -> None:
    cm.collect("f", params_list=[[1]], ignore=["log"])(lambda a, log=None: a)
    cm.functions_dict["f_1"] = lambda: "by hand"
    assert cm.f(1, log=3) == "by hand"


# --- get_all ---------------------------------------------------------------------------------------------


def test_get_all_finishes_the_rest_when_a_row_fails(cm: Any) -> None:
    function = counted(lambda a: 10 // a)
    cm.collect("f", params_list=[1, 0, 2, 0, 5])(function)
    with pytest.raises(ZeroDivisionError) as caught:
        cm.f.get_all()
    assert sorted(cm.cache) == ["f_1", "f_2", "f_5"]
    notes = "\n".join(caught.value.__notes__)
    assert "'f_0'" in notes
    assert "1 of 4 rows" in notes
    cm.functions_dict["f_0"] = lambda: "mended"
    assert cm.f.get_all() == [10, "mended", 5, "mended", 2]
    assert len([call for call in function.calls if call[0] != (0,)]) == 3


def test_get_all_raises_the_first_failing_rows_own_exception(cm: Any) -> None:
    errors = [ValueError("first"), KeyError("second")]

    def function(a: int) -> None:
        raise errors[a]

    cm.collect("f", params_list=[0, 1])(function)
    with pytest.raises(ValueError, match="first") as caught:
        cm.f.get_all()
    assert caught.value is errors[0]
    assert any("2 of 2 rows" in note for note in caught.value.__notes__)


def test_ctrl_c_ends_get_all(cm: Any) -> None:
    def function(a: int) -> int:
        if a == 1:
            raise KeyboardInterrupt
        return a

    function = counted(function)
    cm.collect("f", params_list=[0, 1, 2])(function)
    cm.workers = 1  # in order
    with pytest.raises(KeyboardInterrupt):
        cm.f.get_all()
    assert len(function.calls) == 2  # type: ignore[attr-defined]
    assert list(cm.cache) == ["f_0"]


def test_get_all_passes_its_arguments_on(cm: Any, capsys: pytest.CaptureFixture[str]) -> None:
    function = counted(poly)
    cm.collect(params_list=[1, 4])(function)
    assert cm.poly.get_all(verbose=True) == [12, 42]
    assert "Compute poly_4_2" in capsys.readouterr().out
    assert cm.poly.get_all(use_stored=False) == [12, 42]
    assert len(function.calls) == 4
    assert cm.poly.get_all(False, False) == [12, 42]
    assert capsys.readouterr().out == ""


# --- declared by value: inputs, and metrics that wait for their function -----------------------------------


def test_inputs_are_fetched_when_the_metric_is_computed(cm: Any) -> None:
    fetched = counted(lambda a: [a])
    cm.collect("up", params_list=[1, 2])(fetched)
    cm.declare(
        Metric(
            base_name="down",
            function=lambda a, x, b=0: [a, b, x],
            params_list=[[1], [2, 5]],
            inputs={"x": Input(metric="up", params=[Argument(name="a")])},
        )
    )
    assert cm.down.names() == ["down_1_0", "down_2_5"], "inputs are no part of name or identity"
    assert fetched.calls == []
    assert cm.down(1) == [1, 0, [1]]
    assert cm.down(2, b=5) == [2, 5, [2]]
    assert len(fetched.calls) == 2
    assert cm.down(1) == [1, 0, [1]]
    assert cm.down(1, cache=False) == [1, 0, [1]]
    assert cm.record("down_1_0").params == {"a": 1, "b": 0}
    with pytest.raises(TypeError):
        cm.down(1, x=3)


@pytest.mark.parametrize(
    "params",
    [
        [Argument(name="lo"), Literal(value="hi")],
        {"b": Literal(value="hi"), "a": Argument(name="lo")},
    ],
)
def test_inputs_with_literals_and_by_name(cm: Any, params: Any) -> None:
    cm.collect("up", params_list=[[1, "hi"]])(lambda a, b: f"{a}{b}")
    cm.declare(
        Metric(
            base_name="down",
            function=lambda x, lo: x,
            params_list=[{"lo": 1}],
            inputs={"x": Input(metric="up", params=params)},
        )
    )
    assert cm.down(1) == "1hi"


def test_inputs_without_params(either: Any) -> None:
    either.declare(Metric(base_name="up", function=lambda: 1))
    either.declare(
        Metric(base_name="down", function=lambda x: x + 1, inputs={"x": Input(metric="up")}),
    )
    assert either.down() == 2
    assert either["down"] == 2


def test_an_input_that_no_row_declares(cm: Any) -> None:
    cm.collect("up", params_list=[1])(lambda a: a)
    cm.declare(
        Metric(
            base_name="down",
            function=lambda a, x: x,
            params_list=[1, 2],
            inputs={"x": Input(metric="up", params=[Argument(name="a")])},
        )
    )
    assert cm.down(1) == 1
    with pytest.raises(UndeclaredParamsError, match=r"up\(2\).*up\(1\)"):
        cm.down(2)
    cm.declare(
        Metric(base_name="lost", function=lambda x: x, inputs={"x": Input(metric="upp")}),
    )
    with pytest.raises(UnknownMetricError, match=r"'upp'.*'up'"):
        cm.lost()


def test_an_input_that_is_no_argument(cm: Any) -> None:
    with pytest.raises(DeclarationError, match="'y'"):
        cm.declare(Metric(base_name="down", function=lambda x: x, inputs={"y": Input(metric="up")}))
    assert list(cm) == []


def test_an_input_that_follows_an_ignored_argument(cm: Any) -> None:
    cm.collect("up", params_list=[1])(lambda a: a)
    metric = Metric(
        base_name="down",
        function=lambda a, lag, x: x,
        params_list=[[1, 1]],
        ignore=("lag",),
        inputs={"x": Input(metric="up", params=[Argument(name="lag")])},
    )
    cm.declare(metric)
    assert cm.down(1, 1) == 1


def test_a_metric_that_waits_for_its_function(cm: ParameterizedDatedCacheManager) -> None:
    cm.declare(Metric(base_name="later", params_list=[[1], [2]]))
    assert list(cm.waiting) == ["later"]
    with pytest.raises(AttributeError, match=r"'later' is declared without a function.*@CM.collect"):
        _ = cm.later

    @cm.collect
    def later(a: int) -> int:
        return 10 * a

    assert list(cm.waiting) == []
    assert cm.later.get_all() == [10, 20]
    assert later(7) == 70
    assert list(cm) == ["later_1", "later_2"]


def test_only_one_place_says_the_params(cm: Any) -> None:
    cm.declare(Metric(base_name="later", params_list=[[1], [2]]))
    with pytest.raises(DeclarationError, match="params_list"):
        cm.collect("later", params_list=[[3]])(lambda a: a)
    with pytest.raises(DeclarationError, match="ignore"):
        cm.collect("later", ignore=["a"])(lambda a: a)
    with pytest.raises(DeclarationError, match="leave timeout and retries to the configuration"):
        cm.collect("later", timeout="10min", retries=1)(lambda a: a)
    with pytest.raises(DeclarationError, match="leave on_stale and max_age and stale_on to the configur"):
        cm.collect("later", on_stale="serve", max_age="7d", stale_on=[])(lambda a: a)
    cm.collect("later")(lambda a: a)
    assert cm.later.names() == ["later_1", "later_2"]


def test_how_a_row_is_run(cm: Any) -> None:
    cm.collect("quick")(lambda: 1)
    cm.collect("slow", timeout="10min", retries=2)(lambda: 1)
    cm.collect("slower", timeout=timedelta(hours=1))(lambda: 1)
    cm.declare(Metric(base_name="given", function=lambda: 1, timeout_seconds=0.5, retries=3))
    cm.declare(Metric(base_name="later", timeout_seconds=7.0, retries=4))
    cm.collect("later")(lambda: 1)
    said = {name: (rows.timeout_seconds, rows.retries) for name in cm if (rows := cm.rows_of(name))}
    assert said == {
        "quick": (None, 0),
        "slow": (600.0, 2),
        "slower": (3600.0, 0),
        "given": (0.5, 3),
        "later": (7.0, 4),
    }
    metric = cm.rows_of("slow").metric
    assert (metric.base_name, metric.timeout_seconds, metric.retries) == ("slow", 600.0, 2)


def test_how_a_metric_goes_stale(cm: Any) -> None:
    cm.collect("plain")(lambda: 1)
    cm.collect("own", on_stale="error", max_age="7d", stale_on=["age"])(lambda: 1)
    cm.collect("never", stale_on=[])(lambda: 1)
    cm.collect("young", max_age=timedelta(hours=1), stale_on="age")(lambda: 1)
    cm.declare(Metric(base_name="later", trust=Trust(on_stale="recompute")))
    cm.collect("later")(lambda: 1)
    assert {name: cm.rows_of(name).metric.trust for name in cm} == {
        "plain": Trust(),
        "own": Trust(on_stale="error", max_age_seconds=604_800.0, stale_on=("age",)),
        "never": Trust(stale_on=()),
        "young": Trust(max_age_seconds=3600.0, stale_on=("age",)),
        "later": Trust(on_stale="recompute"),
    }


def test_a_metric_leaves_open_what_its_manager_says() -> None:
    general = Trust(on_stale="warn", max_age_seconds=60.0, stale_on=("code",))
    assert Trust().over(general) == general
    own = Trust(on_stale="serve", max_age_seconds=1.0, stale_on=())
    assert own.over(general) == own
    assert Trust(stale_on=()).over(general) == attrs.evolve(general, stale_on=())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"on_stale": "recompute it"}, "^on_stale is 'recompute it'.*; did you mean 'recompute'"),
        ({"stale_on": ["codes"]}, "^stale_on is 'codes'; it must be one of .*; did you mean 'code'"),
        ({"max_age": "a week"}, "^max_age: found 'a week', wanted a time above 0 with its unit"),
        ({"timeout": 10}, "^timeout: found 10, wanted a time above 0 with its unit .* such as '10min'"),
        ({"timeout": "10"}, "^timeout: found '10', wanted a time above 0 with its unit"),
        ({"timeout": timedelta(0)}, r"^timeout: found datetime.timedelta\(0\), wanted a time above 0"),
        ({"retries": -1}, "^retries of metric 'poly' is -1; give a whole number from 0$"),
        ({"retries": True}, "^retries of metric 'poly' is True; give a whole number from 0$"),
        ({"retries": 1.0}, "^retries of metric 'poly' is 1.0; give a whole number from 0$"),
    ],
)
def test_settings_that_are_none(cm: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cm.collect(params_list=[[1, 2]], **arguments)(poly)
    assert list(cm) == []


@pytest.mark.parametrize("seconds", [0, -1.0, True, "10min", float("inf"), float("nan")])
def test_a_metric_by_value_gives_its_timeout_in_seconds(seconds: Any) -> None:
    with pytest.raises(ValueError, match=r"^timeout_seconds of metric 'x' is .*; give seconds above 0$"):
        Metric(base_name="x", timeout_seconds=seconds)


def test_a_waiting_metric_that_does_not_fit_its_function(cm: Any) -> None:
    cm.declare(Metric(base_name="later", params_list=[[1, 2, 3]]))
    with pytest.raises(TypeError, match="later"):
        cm.collect("later")(poly)
    assert list(cm) == []
    assert list(cm.waiting) == ["later"]


def test_the_nouns_are_inert() -> None:
    metric = Metric(base_name="x")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        metric.base_name = "y"  # type: ignore[misc]
