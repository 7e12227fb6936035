from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm.errors import CircularMetricError
from smm.graph import upstream_first


def test_upstream_comes_first_and_the_given_order_stays_otherwise() -> None:
    assert upstream_first({"c": ["a", "b"], "a": [], "b": [], "z": []}) == ["a", "b", "c", "z"]
    assert upstream_first({"z": [], "c": ["b"], "b": ["a"], "a": []}) == ["z", "a", "b", "c"]


def test_a_name_that_is_only_read_is_in_the_order_too() -> None:
    assert upstream_first({"b": ["a"]}) == ["a", "b"]


def test_nothing_gives_nothing() -> None:
    assert upstream_first({}) == []


def test_a_circle_is_told_from_reader_to_what_it_reads() -> None:
    with pytest.raises(CircularMetricError) as caught:
        upstream_first({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]})
    chain = tuple(caught.value.chain)
    assert chain in {("a", "b", "c", "a"), ("b", "c", "a", "b"), ("c", "a", "b", "c")}


def test_a_metric_that_reads_itself() -> None:
    with pytest.raises(CircularMetricError, match="a -> a: a metric cannot read itself"):
        upstream_first({"a": ["a"]})


def test_a_long_chain_needs_no_recursion() -> None:
    names = [f"m{i}" for i in range(20_000)]
    assert upstream_first({name: [up] for up, name in pairwise(names)}) == names


_NAMES = st.sampled_from("abcdef")


@given(st.dictionaries(_NAMES, st.lists(_NAMES, unique=True)))
def test_either_every_read_goes_back_in_the_order_or_there_is_a_circle(inputs: dict[str, list[str]]) -> None:
    circle: tuple[str, ...] | None = None
    order: list[str] = []
    try:
        order = upstream_first(inputs)
    except CircularMetricError as error:
        circle = tuple(error.chain)
    if circle is not None:
        assert len(circle) >= 2
        assert circle[0] == circle[-1]
        assert all(up in inputs[name] for name, up in pairwise(circle))
    else:
        assert sorted(order) == sorted({*inputs, *(up for ups in inputs.values() for up in ups)})
        assert all(order.index(up) < order.index(name) for name, ups in inputs.items() for up in ups)
