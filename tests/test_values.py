"""Stored values as text and as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from smm._values import summary, value_json, value_lines

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (1.5, "1.5"),
        ("word", "'word'"),
        ("x" * 100, f"'{'x' * 60}'... (100 long)"),
        (b"\0", "b'\\x00'"),
        pytest.param(10**5000, "int of 16,610 bits", id="long int"),
        ([1, 2], "list of 2"),
        ((), "tuple of 0"),
        ({"a": 1}, "dict of 1"),
        (np.float32(0.5), "0.5 (float32)"),
        (np.arange(6.0).reshape(2, 3), "array of float64, shape 2x3, from 0.0 to 5.0"),
        (np.array([1.0, NAN, 3.0]), "array of float64, shape 3, from 1.0 to 3.0, 1 missing"),
        (np.array([NAN]), "array of float64, shape 1, 1 missing"),
        (np.array([], dtype="i4"), "array of int32, shape 0"),
        (np.array(5), "array of int64, shape (), from 5 to 5"),
        (np.array([True, False, True]), "array of bool, shape 3, 2 of 3 true"),
        (np.array(["a"]), "array of <U1, shape 1"),
        (np.array([1 + 2j]), "array of complex128, shape 1"),
        (
            np.array(["2020-01-01", "NaT", "2021-01-01"], dtype="M8[D]"),
            "array of datetime64[D], shape 3, from 2020-01-01 to 2021-01-01, 1 missing",
        ),
    ],
)
def test_a_value_in_one_line(value: Any, text: str) -> None:
    assert summary(value) == text


def test_a_container_over_several_lines() -> None:
    value = {"a": [1, {"b": (2, "x")}], 3: np.zeros(2), "empty": []}
    assert list(value_lines(value)) == [
        "dict of 3",
        "  'a': list of 2",
        "    [0]: 1",
        "    [1]: dict of 1",
        "      'b': tuple of 2",
        "        [0]: 2",
        "        [1]: 'x'",
        "  3: array of float64, shape 2, from 0.0 to 0.0",
        "  'empty': list of 0",
    ]


def test_many_entries_are_cut() -> None:
    shown = list(value_lines(list(range(1000))))
    assert len(shown) == 22
    assert shown[-1] == "  ... and 980 more"


def test_a_large_array_shows_a_few_values() -> None:
    shown = list(value_lines(np.arange(1_000_000)))
    assert shown == [
        "array of int64, shape 1000000, from 0 to 999999",
        "[     0      1      2 ... 999997 999998 999999]",
    ]


def test_a_text_is_shown_as_text() -> None:
    assert list(value_lines("one\ntwo")) == ["one", "two"]
    assert list(value_lines("")) == ["''"]
    assert list(value_lines("a\x1b[31mb")) == ["'a\\x1b[31mb'"]
    assert list(value_lines("x\n" * 30))[-1] == "... and 10 more lines"


def test_nesting_without_end_is_cut() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert len(list(value_lines(value))) < 10
    while value != 1:  # Python itself would run out of stack when it frees this at once
        (value,) = value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        ("x", "x"),
        (NAN, "nan"),
        (float("-inf"), "-inf"),
        ([1, [2]], [1, [2]]),
        ((1,), {"type": "tuple", "value": [1]}),
        ({"a": 1}, {"a": 1}),
        ({"type": 1}, {"type": "dict", "items": [["type", 1]]}),
        ({1: "a"}, {"type": "dict", "items": [[1, "a"]]}),
        (b"\xff", {"type": "bytes", "value": "ff"}),
        (1 + 2j, {"type": "complex", "value": [1.0, 2.0]}),
        pytest.param(2**2000, {"type": "int", "value": hex(2**2000)}, id="long int"),
        (np.float32(0.5), {"type": "float32", "value": 0.5}),
        (np.array([[1, 2]]), {"type": "array", "dtype": "<i8", "shape": [1, 2], "values": [[1, 2]]}),
        (np.array([NAN]), {"type": "array", "dtype": "<f8", "shape": [1], "values": ["nan"]}),
        (np.array(1.0), {"type": "array", "dtype": "<f8", "shape": [], "values": 1.0}),
        (
            np.array(["2020-01-01"], dtype="M8[D]"),
            {"type": "array", "dtype": "<M8[D]", "shape": [1], "values": ["2020-01-01"]},
        ),
    ],
)
def test_a_value_as_json(value: Any, expected: Any) -> None:
    assert value_json(value) == expected


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(), st.binary()
)
ARRAYS = npst.arrays(
    dtype=st.one_of(npst.scalar_dtypes(), npst.array_dtypes(max_size=2)),
    shape=npst.array_shapes(min_dims=0, min_side=0, max_side=3),
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.dictionaries(st.integers(), inner, max_size=3),
    ),
    max_leaves=6,
)


@given(VALUES)
def test_any_value_can_be_shown_and_is_strict_json(value: Any) -> None:
    assert summary(value)
    assert all(isinstance(line, str) for line in value_lines(value))
    text = json.dumps(value_json(value), allow_nan=False)
    assert json.loads(text) == json.loads(json.dumps(value_json(value)))
