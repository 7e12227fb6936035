"""Metrics of functions that are not Python's own: they are called with what was given."""

from __future__ import annotations

import abc
import functools
import inspect
import math
import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smm import NpzStorageInterface, ParameterizedDatedCacheManager
from smm.errors import DeclarationError


def _tells_its_arguments(function: Any) -> bool:
    try:
        inspect.signature(function)
    except ValueError:
        return False
    return True


needs_signatures = pytest.mark.skipif(
    not _tells_its_arguments(np.sin), reason="this numpy does not tell the arguments of its functions"
)


@pytest.fixture
def cm(tmp_path: Path) -> ParameterizedDatedCacheManager:
    return ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, dynamic_metric_creation=True
    )


@needs_signatures
def test_a_ufunc(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(base_name="sn", params_list=[0.0, 0.5])(np.sin)
    assert cm.sn.get_all() == [np.sin(0.0), np.sin(0.5)]
    assert cm.sn(0.5, dtype="float32").dtype == np.float32
    assert (cm.sn.record(0.5).params or {})["x"] == 0.5


@functools.wraps(np.sin)
def wrapped_sine(*args: Any, **named: Any) -> Any:
    return np.sin(*args, **named)


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (math.hypot, (3.0, 4.0), {}),
        (round, (2.567,), {"ndigits": 1}),
        (round, (2.567,), {}),
        (np.add, (1, 2), {}),
        (functools.partial(np.multiply, 3), (2,), {}),
        (sorted, ([3, 1],), {"reverse": True}),
        (sum, ([1, 2],), {"start": 3}),
        (np.sum, ([[1.0, 2.0], [3.0, 4.0]],), {"axis": 0}),
        (np.mean, ([1.0, 2.0],), {}),
        (functools.partial(np.max, axis=0), ([[1.0, 2.0]],), {}),
        (wrapped_sine, (0.5,), {}),
        (functools.lru_cache(np.cos), (0.5,), {}),
    ],
)
def test_functions_of_c_give_what_they_give(
    cm: ParameterizedDatedCacheManager, function: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    cm.collect(base_name="m")(function)
    assert np.array_equal(cm.m(*arguments, **named), function(*arguments, **named))


def test_defaults_of_a_python_function_are_part_of_its_name(cm: ParameterizedDatedCacheManager) -> None:
    @cm.collect
    def f(a: int, b: int = 2) -> int:
        return a + b

    assert (f.__name__, cm.f(1), cm.f.name(1)) == ("f", 3, "f_1_2")


@needs_signatures
def test_defaults_that_are_no_params_count_where_they_are_given(cm: ParameterizedDatedCacheManager) -> None:
    square = [[1.0, 2.0], [3.0, 4.0]]
    axes: Any = [(-2, -1), (-2, -1), (-1, -2)]
    cm.collect(base_name="product")(np.matmul)  # its `axes` is by default a mark of numpy's own
    assert np.array_equal(cm.product(square, square), np.matmul(square, square))
    turned = cm.product(square, square, axes=axes)
    assert np.array_equal(turned, np.matmul(square, square, axes=axes))
    assert cm.product.name(square, square) != cm.product.name(square, square, axes=axes)
    assert "axes" not in (cm.product.record(square, square).params or {})
    assert "axes" in (cm.product.record(square, square, axes=axes).params or {})


@needs_signatures
def test_what_comes_after_such_a_default_goes_by_name(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(base_name="draw")(np.random.default_rng(1).integers)  # (low, high, size, dtype, endpoint)
    drawn = cm.draw(3, size=4, endpoint=True)
    assert (drawn.shape, drawn.dtype) == ((4,), np.int64)
    assert cm.draw(3, 9, 4, "int8").dtype == np.int8
    assert cm.draw.name(3, size=4) == cm.draw.name(3, None, 4)


class Abstract(abc.ABC):
    @abc.abstractmethod
    def made(self) -> int: ...


def _two(a: int, b: int) -> int:
    return a + b


two: Any = _two


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (Abstract, "cannot be called: Python makes no object of this class; give a function"),
        (types.FrameType, "cannot be called: Python makes no object of this class"),
        (
            functools.partial(two, 1, 2, 3),
            "cannot be called: it gives its function arguments that do not fit",
        ),
        (functools.partial(two, c=3), "cannot be called: it gives its function arguments that do not fit"),
    ],
)
def test_what_cannot_be_called_is_refused_when_it_is_declared(
    cm: ParameterizedDatedCacheManager, function: Any, reason: str
) -> None:
    with pytest.raises(DeclarationError, match=re.escape(reason)):
        cm.collect(base_name="m")(function)
    assert list(cm) == []


@pytest.mark.parametrize("function", [max, functools.partial(max, 3), dict, int])
def test_what_does_not_tell_its_arguments_may_be_declared(
    cm: ParameterizedDatedCacheManager, function: Any
) -> None:
    cm.collect(base_name="m", params_list=[[3, 2]] if function is not dict else ((),))(function)
    assert len(list(cm)) == 1
