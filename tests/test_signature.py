"""Which functions can be metrics, and which calls fit them: as Python says."""

# ruff: noqa: N803 - `CM` is the field's name

from __future__ import annotations

import functools
import inspect
import operator
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import _signature
from smm._signature import Parameter
from smm.errors import DeclarationError
from smm.identity import Binder


def name_of(function: Callable[..., Any], *args: Any, **named: Any) -> str:
    binder = Binder(function, base_name="f")
    return binder.name(binder.bind(args, named))


# --- what fits ------------------------------------------------------------------------------------------


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """The argument list of a function, of every kind of parameter."""
    only, plain, last = (draw(st.integers(0, 2)) for _ in range(3))
    first_default = draw(st.integers(0, only + plain))
    words = [f"p{index}" for index in range(only)] + [f"a{index}" for index in range(plain)]
    words = [word if index < first_default else f"{word}=-{index + 1}" for index, word in enumerate(words)]
    if only:
        words.insert(only, "/")
    rest = draw(st.booleans())
    if rest or last:
        words.append("*rest" if rest else "*")
    words += [f"k{index}={index}" if draw(st.booleans()) else f"k{index}" for index in range(last)]
    return ", ".join([*words, *(["**options"] if draw(st.booleans()) else [])])


@given(signatures())
def test_arguments_are_read_as_inspect_reads_them(arguments: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def f({arguments}): ...", namespace)
    read = _signature._of_code(namespace["f"])
    assert [(name, each.kind, each.default) for name, each in read.items()] == [
        (name, Parameter.KINDS[each.kind], Parameter.empty if each.default is each.empty else each.default)
        for name, each in inspect.signature(namespace["f"]).parameters.items()
    ]


@given(
    signatures(),
    st.lists(st.integers(0, 9), max_size=5),
    st.dictionaries(
        st.sampled_from(["p0", "p1", "a0", "a1", "k0", "k1", "z"]), st.integers(0, 9), max_size=4
    ),
)
def test_calls_fit_as_in_python(arguments: str, args: list[int], named: dict[str, int]) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def f({arguments}): return locals()", namespace)
    function = namespace["f"]
    binder = Binder(function, base_name="f")
    try:
        expected = function(*args, **named)
    except TypeError as error:
        with pytest.raises(TypeError) as caught:
            binder.bind(args, named)
        # Of several mistakes Python may name another one first; and it counts keyword-only arguments too.
        if len(named) < 2 and "(and" not in str(error):
            expected = str(error).partition(". Did you mean")[0]  # since Python 3.13
            assert str(caught.value).partition("; did")[0] == expected
        return
    call = binder.bind(args, named)
    positional, by_name = call.arguments()
    assert function(*positional, **by_name) == expected
    assert call.key == binder.bind(positional, by_name).key
    assert binder.name(call) == binder.name(binder.bind(positional, by_name))


def test_calls_that_mean_the_same_are_one() -> None:
    def f(a: Any, b: Any = 2, *, c: Any = 3) -> Any:
        return a, b, c

    binder = Binder(f, base_name="f")
    calls = [
        binder.bind(args, named)
        for args, named in (
            ((1,), {}),
            ((1, 2), {}),
            ((1,), {"b": 2}),
            ((), {"b": 2, "a": 1}),
            ((1,), {"c": 3}),
            ((np.int8(1),), {"c": np.uint64(3)}),
        )
    ]
    assert len({call.key for call in calls}) == 1
    assert {binder.name(call) for call in calls} == {"f_1_2_c=3"}
    assert all(call.arguments() == ((1, 2), {"c": 3}) for call in calls)


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        ((), {}, "f() missing 1 required positional argument: 'alpha'"),
        ((1, 2, 3), {}, "f() takes from 1 to 2 positional arguments but 3 were given"),
        ((1,), {"alpha": 2}, "f() got multiple values for argument 'alpha'"),
        ((1,), {"alpa": 2}, "f() got an unexpected keyword argument 'alpa'; did you mean 'alpha'?"),
        ((1,), {3: 2}, "f() takes argument names, not 3"),
    ],
)
def test_what_does_not_fit_is_said_as_python_says_it(args: Any, named: Any, message: str) -> None:
    binder = Binder(lambda alpha, beta=1: 0, base_name="f")
    with pytest.raises(TypeError) as caught:
        binder.bind(args, named)
    assert str(caught.value) == message


# --- functions of all kinds -----------------------------------------------------------------------------


class Model:
    """A class, its instances and its methods can all be functions of metrics."""

    def __init__(self, a: Any, b: Any = 2) -> None:
        self.a, self.b = a, b

    def __call__(self, x: Any, y: Any = 3) -> Any:
        return self.a, x, y

    def method(self, x: Any) -> Any:
        return self.a, x

    @classmethod
    def of_class(cls, x: Any) -> Any:
        return cls, x

    @staticmethod
    def static(x: Any) -> Any:
        return x


def plain(a: Any, b: Any = 2, *, k: Any = 3) -> Any:
    return a, b, k


@functools.wraps(plain)
def wrapped(*args: Any, **named: Any) -> Any:
    return plain(*args, **named)


def with_its_own_signature(*args: Any) -> Any:
    return args


with_its_own_signature.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY, default=5)]
)


@pytest.mark.parametrize(
    ("function", "args", "named", "name"),
    [
        (plain, (1,), {}, "f_1_2_k=3"),
        (wrapped, (1,), {"k": 4}, "f_1_2_k=4"),
        (functools.partial(plain, 1), (), {}, "f_2_k=3"),
        (functools.partial(plain, b=7), (1,), {}, "f_1_b=7_k=3"),
        (functools.partial(plain, k=7), (1,), {"k": 8}, "f_1_2_k=8"),
        (functools.partial(Model(1), y=4), (2,), {}, "f_2_y=4"),
        (Model, (1,), {}, "f_1_2"),
        (Model(1), (2,), {}, "f_2_3"),
        (Model(1).method, (2,), {}, "f_2"),
        (Model.of_class, (2,), {}, "f_2"),
        (Model.static, (2,), {}, "f_2"),
        (with_its_own_signature, (), {}, "f_5"),
        (operator.add, (1, 2), {}, "f_1_2"),
        ("text".upper, (), {}, "f"),
        (lambda a: a, (1,), {}, "f_1"),
    ],
)
def test_functions_of_many_kinds(function: Any, args: Any, named: Any, name: str) -> None:
    assert name_of(function, *args, **named) == name


def test_a_partial_is_called_as_it_was_declared() -> None:
    partial = functools.partial(plain, b=7)
    args, named = Binder(partial, base_name="f").bind((1,), {}).arguments()
    assert partial(*args, **named) == (1, 7, 3)


def test_builtins_that_do_not_tell_their_arguments_take_them_by_position() -> None:
    assert name_of(time.time) == name_of(dict) == "f"
    assert name_of(max, 1, 2) == "f_1_2"
    with pytest.raises(TypeError, match=r"f\(\) got an unexpected keyword argument 'key'"):
        name_of(max, 1, key=2)


async def coroutine() -> int:
    return 1


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Awaiting:
    async def __call__(self) -> int:
        return 1

    async def method(self) -> int:
        return 1


def manager_first(CM: Any, a: Any) -> Any:
    return CM, a


@pytest.mark.parametrize(
    ("function", "named", "reason"),
    [
        (3, {}, "3 is no function"),
        (coroutine, {}, "its function is async; declare a plain one that runs it with asyncio.run(...)"),
        (async_generator, {}, "its function is async"),
        (Awaiting(), {}, "its function is async"),
        (Awaiting().method, {}, "its function is async"),
        (functools.partial(coroutine), {}, "its function is async"),
        (generator, {}, "its function is a generator, which can be read only once; return a list instead"),
        (functools.partial(generator), {}, "its function is a generator"),
        (lambda cache=1: 0, {}, "'cache' is a keyword of every collected metric; rename that argument"),
        (lambda *, use_stored: 0, {}, "'use_stored' is a keyword of every collected metric"),
        (lambda *cache: 0, {}, "'cache' is a keyword of every collected metric"),
        (manager_first, {}, "CM is passed by name; make it the last argument, or a keyword-only one"),
        (lambda CM, *rest: 0, {}, "CM is passed by name"),
        (lambda CM, /: 0, {}, "CM is passed by name"),
        (lambda **CM: 0, {}, "CM is passed by name"),
        (plain, {"ignore": ["kk"]}, "ignore names 'kk', which is no argument of its function (a, b, k); did"),
        (
            lambda: 0,
            {"ignore": ["k"]},
            "ignore names 'k', which is no argument of its function (it takes none)",
        ),
        (plain, {"inputs": ["z"]}, "it has an input 'z', which is no argument of its function (a, b, k)"),
        (plain, {"inputs": ["a"], "ignore": ["a"]}, "ignore names 'a', which is no part of a call anyway"),
        (lambda a, CM: 0, {"inputs": ["CM"]}, "CM is always the manager; rename that input"),
        (lambda a, CM: 0, {"ignore": ["CM"]}, "ignore names 'CM', which is no part of a call anyway"),
        (lambda a, /: 0, {"inputs": ["a"]}, "its input 'a' cannot be passed by name"),
        (lambda *a: 0, {"inputs": ["a"]}, "its input 'a' cannot be passed by name"),
        (lambda a, *rest: 0, {"inputs": ["a"]}, "its input 'a' stands before *args; make it keyword-only"),
    ],
)
def test_what_cannot_be_declared(function: Any, named: Any, reason: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        Binder(function, base_name="f", **named)
    assert caught.value.reason.startswith(reason)
    assert str(caught.value).startswith("metric 'f' cannot be declared: ")


def test_a_class_of_awaiting_objects_is_no_async_function() -> None:
    assert name_of(Awaiting) == "f"


# --- inputs and the manager -----------------------------------------------------------------------------


def test_inputs_are_filled_by_name_wherever_they_stand() -> None:
    def f(a: Any, x: Any, b: Any = 2, CM: Any = None, *, y: Any, k: Any = 3) -> Any:
        return a, x, b, CM, y, k

    binder = Binder(f, base_name="f", inputs=("x", "y"))
    assert binder.takes_manager
    call = binder.bind_row([1, 5])
    assert binder.name(call) == "f_1_5_k=3"
    assert binder.params(call) == {"a": 1, "b": 5, "k": 3}
    args, named = call.arguments()
    named.update(x="x", y="y", CM="CM")
    assert f(*args, **named) == (1, "x", 5, "CM", "y", 3)
    assert call.key == binder.bind_row({"b": 5, "a": 1}).key


def test_an_input_of_a_function_that_takes_any_keyword() -> None:
    binder = Binder(lambda a, **rest: 0, base_name="f", inputs=("x",))
    assert binder.bind((1,), {"y": 2}).arguments() == ((1,), {"y": 2})
    with pytest.raises(TypeError, match="gets its argument 'x' from another metric; leave it out"):
        binder.bind((1,), {"x": 2})


@pytest.mark.parametrize(("name", "source"), [("x", "another metric"), ("CM", "the manager")])
def test_inputs_cannot_be_passed(name: str, source: str) -> None:
    binder = Binder(lambda a, x, CM: 0, base_name="f", inputs=("x",))
    with pytest.raises(TypeError, match=rf"f\(\) gets its argument '{name}' from {source}; leave it out"):
        binder.bind((1,), {name: 2})
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        binder.bind((1, 2), {})


@pytest.mark.parametrize(
    ("function", "needed"),
    [(plain, True), (lambda a=1, *b, c=2, **d: 0, False), (lambda *, c: 0, True), (lambda CM: 0, False)],
)
def test_whether_params_are_needed(function: Any, needed: bool) -> None:
    assert Binder(function, base_name="f").needs_params is needed


def test_a_row_that_only_inputs_fill_needs_no_params() -> None:
    assert not Binder(lambda x, CM: 0, base_name="f", inputs=("x",)).needs_params
