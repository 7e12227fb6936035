"""The shortest way of a call gives what the long one does, and nothing that is not in memory any more."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import JsonStorageInterface, MemoryStorageInterface, ParameterizedDatedCacheManager, _warm
from smm.errors import CircularMetricError

ROWS: list[Any] = [1, 1.0, True, "1", None, 0, 0.0, -0.0, False, float("nan"), 2.5, 300, b"1", 10**30]


def of(count: int) -> Callable[..., str]:
    """A function with so many arguments, which says what it was given."""

    def none() -> str:
        return "()"

    def one(a: Any = 7) -> str:
        return repr((a,))

    def two(a: Any, b: Any = 7) -> str:
        return repr((a, b))

    def three(a: Any, b: Any, c: Any = 7) -> str:
        return repr((a, b, c))

    functions: list[Callable[..., str]] = [none, one, two, three]
    return functions[count]


def collected(count: int) -> tuple[ParameterizedDatedCacheManager, Any]:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False, dynamic_metric_creation=True)
    CM.collect("f")(of(count))
    return CM, CM.f


def is_quick(manager: ParameterizedDatedCacheManager, name: str) -> bool:
    """Whether the shortest way has a value."""
    return len(manager._cells.get(name, [])) == 2


params = st.sampled_from(ROWS)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
@given(data=st.data())
def test_every_call_is_told_from_every_other(count: int, data: st.DataObject) -> None:
    _, f = collected(count)
    plain = of(count)
    at_least = max(0, count - 1)
    for _ in range(12):
        given_params = data.draw(st.lists(params, min_size=at_least, max_size=count))
        expected = plain(*given_params)
        for _ in range(4):  # computed, then by the long way, then noted, then by the short one
            assert f(*given_params) == expected


@pytest.mark.parametrize(
    ("count", "args", "named", "same_as"),
    [
        (1, (), {}, (7,)),
        (1, (), {"a": 1}, (1,)),
        (2, (1,), {}, (1, 7)),
        (2, (1,), {"b": 2}, (1, 2)),
        (2, (), {"b": 2, "a": 1}, (1, 2)),
        (3, (1, 2), {"c": 3}, (1, 2, 3)),
    ],
)
def test_by_position_by_name_and_by_default(
    count: int, args: tuple[Any, ...], named: dict[str, Any], same_as: tuple[Any, ...]
) -> None:
    CM, f = collected(count)
    for _ in range(3):
        assert f(*args, **named) == repr(same_as)
        assert f(*same_as) == repr(same_as)
    assert len(CM.cache) == 1


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_call_that_does_not_fit_is_a_type_error(count: int) -> None:
    _, f = collected(count)
    fitting = (1,) * count
    f(*fitting)
    f(*fitting)
    for extra in range(1, 4):
        with pytest.raises(TypeError, match="argument"):
            f(*fitting, *(True,) * extra)
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        f(*fitting, z=1)
    if count > 1:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
            f(b=1)
    with pytest.raises(TypeError):
        f(*fitting, **{"*more": 1})


def test_an_error_on_the_long_way_shows_nothing_of_the_short_one() -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)

    @CM.collect(params_list=[[1, 2]])
    def f(a: int, b: int) -> float:
        return a / 0

    with pytest.raises(ZeroDivisionError) as caught:
        CM.f(1, 2)
    assert caught.value.__context__ is None


def test_what_is_not_hashable_goes_the_long_way() -> None:
    _, f = collected(2)
    for _ in range(3):
        assert f([1], 2) == "([1], 2)"
        assert f(np.int64(1), 2) == "(1, 2)"


@pytest.mark.parametrize(
    "take_away",
    [
        lambda manager: manager.clear_cache(),
        lambda manager: manager.cache.clear(),
        lambda manager: manager.cache.pop("f_1_2"),
        lambda manager: manager.cache.popitem(),
        lambda manager: manager.cache.__delitem__("f_1_2"),
        lambda manager: manager.delete("f_1_2"),
    ],
)
def test_what_left_memory_is_not_served(take_away: Callable[[Any], Any]) -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    calls: list[int] = []

    @CM.collect(params_list=[[1, 2]])
    def f(a: int, b: int) -> int:
        calls.append(1)
        return a + b

    for _ in range(4):
        assert CM.f(1, 2) == 3
    assert is_quick(CM, "f_1_2")
    take_away(CM)
    assert not is_quick(CM, "f_1_2")
    CM.storage_interface.delete("f_1_2")  # type: ignore[attr-defined]
    assert CM.f(1, 2) == CM["f_1_2"] == 3
    assert len(calls) == 2


@pytest.mark.parametrize(
    "put",
    [
        lambda cache: cache.__setitem__("f_1", "mine"),
        lambda cache: cache.update(f_1="mine"),
        lambda cache: cache.__ior__({"f_1": "mine"}),
    ],
)
def test_what_was_put_into_memory_by_hand_is_served(put: Callable[[Any], Any]) -> None:
    CM, f = collected(1)
    for _ in range(4):
        assert f(1) == "(1,)"
    put(CM.cache)
    for _ in range(4):
        assert f(1) == "mine"
        assert CM["f_1"] == "mine"
    assert CM.cache.setdefault("f_1", "other") == "mine"


def test_a_new_value_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    CM = ParameterizedDatedCacheManager(JsonStorageInterface(tmp_path), verbose=False)
    values = iter(range(10))

    @CM.collect
    def f() -> int:
        return next(values)

    for _ in range(4):
        assert CM.f() == CM["f"] == 0
    assert CM.f(use_stored=False) == 1
    for _ in range(4):
        assert CM.f() == CM["f"] == 1
    assert CM.f(cache=False) == 2
    assert CM.f() == 1


@pytest.mark.parametrize("value", [np.arange(3), [1, 2], {"a": 1}, np.float64(1.5)])
def test_what_can_be_changed_is_served_by_the_long_way(value: Any) -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)

    @CM.collect
    def f() -> Any:
        return value

    first, *others = [CM.f() for _ in range(4)]
    assert not is_quick(CM, "f")
    assert all(np.array_equal(other, first) for other in others)
    if not isinstance(value, np.float64):
        assert len({id(each) for each in (first, *others)}) == 4


def test_a_metric_that_is_computed_notes_what_it_reads_by_the_short_way() -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)

    @CM.collect
    def low() -> int:
        return 1

    for _ in range(4):
        CM.low()
    assert is_quick(CM, "low")

    @CM.collect
    def high() -> int:
        return int(CM.low()) + int(CM["low"])

    CM.high()
    read = CM.record("high").inputs
    assert read is not None
    assert [each.name for each in read] == ["low"]
    assert not _warm.in_flight


def test_a_metric_that_reads_its_own_old_value_is_a_circle() -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    deep = [False]

    @CM.collect
    def f() -> int:
        return int(CM.f()) + 1 if deep[0] else 0

    for _ in range(4):
        CM.f()
    deep[0] = True
    with pytest.raises(CircularMetricError, match=r"f -> f"):
        CM.f(use_stored=False)
    CM.clear_cache()
    with pytest.raises(CircularMetricError, match=r"f -> f"):
        CM.f(use_stored=False)
    assert CM.f() == 0


def test_a_function_that_was_pickled_by_value_knows_what_is_in_flight_where_it_is() -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    _, f = collected(2)
    for _ in range(4):
        f(1, 2)
    copied = pickle.loads(cloudpickle.dumps(f))
    assert copied(1, 2) == "(1, 2)"
    assert copied.__globals__ is not vars(_warm)
    assert copied.__globals__["in_flight"] is _warm.in_flight


def test_ignored_arguments_are_not_noted() -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)

    @CM.collect(params_list=[[1, 0]], ignore=["seed"])
    def f(a: int, seed: int) -> int:
        return a

    for seed in range(50):
        assert CM.f(1, seed) == 1
    noted: Any = CM.f
    assert {} in noted.__defaults__, "none of the 50 calls is kept"


def test_a_memory_with_a_limit_is_always_asked() -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False, memory_limit="1 MiB")

    @CM.collect(params_list=[[1]])
    def f(a: int) -> int:
        return a

    for _ in range(5):
        assert CM.f(1) == CM["f_1"] == 1
    assert not is_quick(CM, "f_1")


def test_no_thread_is_served_what_another_has_taken_away() -> None:
    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    version = [0]

    @CM.collect
    def f() -> int:
        return version[0]

    CM.f()
    stop = threading.Event()
    wrong: list[tuple[int, int]] = []

    def read() -> None:
        while not stop.is_set():
            least = version[0] - 1  # which the other thread has finished publishing, or is about to
            found = CM.f()
            if found < least:
                wrong.append((found, least))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 400):
            version[0] = number
            assert CM.f(use_stored=False) == number
            assert CM.f() == number
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not wrong
