"""Metrics of functions that are not Python's own: they are called with what was given."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smm import NpzStorageInterface, ParameterizedDatedCacheManager


@pytest.fixture
def cm(tmp_path: Path) -> ParameterizedDatedCacheManager:
    return ParameterizedDatedCacheManager(
        NpzStorageInterface(tmp_path), verbose=False, dynamic_metric_creation=True
    )


def test_a_ufunc(cm: ParameterizedDatedCacheManager) -> None:
    cm.collect(base_name="sn", params_list=[0.0, 0.5])(np.sin)
    assert cm.sn.get_all() == [np.sin(0.0), np.sin(0.5)]
    assert cm.sn(0.5, dtype="float32").dtype == np.float32
    assert (cm.sn.record(0.5).params or {})["x"] == 0.5


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
    ],
)
def test_functions_of_c_give_what_they_give(
    cm: ParameterizedDatedCacheManager, function: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    cm.collect(base_name="m")(function)
    assert cm.m(*arguments, **named) == function(*arguments, **named)


def test_defaults_of_a_python_function_are_part_of_its_name(cm: ParameterizedDatedCacheManager) -> None:
    @cm.collect
    def f(a: int, b: int = 2) -> int:
        return a + b

    assert (f.__name__, cm.f(1), cm.f.name(1)) == ("f", 3, "f_1_2")
