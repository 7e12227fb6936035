"""Two values, and two stores, held against each other."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm import (
    DatedCacheManager,
    FileBasedStorageInterface,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
)
from smm._compare import Change, compare
from smm.errors import StorageAbilityError, TargetError, UnknownMetricError
from smm.maintain import Difference, diff, ranked
from tests.commands import run_cli as smm
from tests.projects import Project, project
from tests.stores import DictStorage, PickleFiles
from tests.strategies import npz_values

__all__ = ["project"]


def held(one: Any, other: Any, *, rtol: float = 1e-9, atol: float = 0.0) -> Change:
    return compare(one, other, rtol=rtol, atol=atol)


def turned(change: Change) -> Change:
    """What must come out if the two values change places."""
    return Change(
        likeness=change.likeness,
        relative=change.relative,
        absolute=change.absolute,
        place=change.place,
        before=change.after,
        after=change.before,
        count=change.count,
    )


# --- two values -----------------------------------------------------------------------------------------

NAT = np.array(["2020-01-01", "NaT"], "M8[D]")
PAIR = np.dtype([("a", "f8"), ("b", "i4", (2,))])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (math.nan, math.nan),
        (0.0, -0.0),
        (math.inf, math.inf),
        (complex(math.nan, 1), complex(math.nan, 1)),
        (np.array([math.nan, -math.inf, 0.0]), np.array([math.nan, -math.inf, -0.0])),
        (NAT, NAT.copy()),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({math.nan: 1}, {float("nan"): 1}),
        (np.ones((2, 3)), np.asfortranarray(np.ones((2, 3)))),
        (np.zeros(0), np.zeros(0)),
        (np.zeros(2, "V0"), np.zeros(2, "V0")),
        (np.array([b"ab"], "V2"), np.array([b"ab"], "V2")),
        (np.array([{"a": [1]}, None], object), np.array([{"a": [1]}, None], object)),
        ([1.0, math.nan], [1.0, math.nan]),
        (10**400, 10**400),
    ],
)
def test_what_is_the_same(one: Any, other: Any) -> None:
    assert held(one, other, rtol=0.0) == Change(likeness="same")


@pytest.mark.parametrize(
    ("one", "other", "place", "relative", "absolute"),
    [
        (1.0, 2.0, "", 0.5, 1.0),
        (1, -1, "", 2.0, 2.0),
        (0.0, 1e-300, "", 1.0, 1e-300),
        (1.0, math.nan, "", math.inf, math.inf),
        (math.inf, -math.inf, "", math.inf, math.inf),
        (math.inf, 1e308, "", math.inf, math.inf),
        (1e308, -1e308, "", 2.0, math.inf),
        (complex(1e308, 1e308), complex(-1e308, -1e308), "", 2.0, math.inf),
        (3 + 4j, 3 + 3j, "", 0.2, 1.0),
        (complex(math.nan, 1), complex(math.nan, 2), "", math.inf, math.inf),
        (np.float64(4), np.float64(5), "", 0.2, 1.0),
        (np.array(4.0), np.array(5.0), "", 0.2, 1.0),
        (np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]]), "[1, 1]", 0.2, 1.0),
        ({"co2": [1.0, 2.0, 3.0, 4.0]}, {"co2": [1.0, 2.0, 3.0, 5.0]}, "['co2'][3]", 0.2, 1.0),
        ({(1, "a"): (0, [4])}, {(1, "a"): (0, [5])}, "[(1, 'a')][1][0]", 0.2, 1.0),
        ([4, None], [5, None], "[0]", 0.2, 1.0),
        (np.array([(4.0, (1, 2))], PAIR), np.array([(5.0, (1, 2))], PAIR), "['a'][0]", 0.2, 1.0),
        (np.array([(4.0, (1, 2))], PAIR), np.array([(4.0, (1, 4))], PAIR), "['b'][0, 1]", 0.5, 2.0),
        (np.array([4, "a"], object), np.array([5, "a"], object), "[0]", 0.2, 1.0),
        (np.array([-(2**63)]), np.array([2**63 - 1]), "[0]", 2.0, 2.0**64),
        (np.array([2**63], "u8"), np.array([2**63 + 2**62], "u8"), "[0]", 1 / 3, 2.0**62),
        (np.array([4.0], "f2"), np.array([5.0], "f2"), "[0]", 0.2, 1.0),
        (np.array([4.0], ">f4"), np.array([5.0], ">f4"), "[0]", 0.2, 1.0),
        (np.array([4.0], "g"), np.array([5.0], "g"), "[0]", 0.2, 1.0),
        (10**400, 2 * 10**400, "", 0.5, math.inf),
    ],
)
def test_how_far_a_number_moved(one: Any, other: Any, place: str, relative: float, absolute: float) -> None:
    found = held(one, other)
    assert (found.likeness, found.place, found.count) == ("beyond", place, 1)
    assert found.relative == pytest.approx(relative)
    assert found.absolute == pytest.approx(absolute)
    assert held(other, one) == turned(found)


@pytest.mark.parametrize(
    ("one", "other", "place", "before", "after"),
    [
        (1, 1.0, "", "int 1", "float 1.0"),
        (True, 1, "", "bool True", "int 1"),
        (None, 0, "", "None", "int 0"),
        (np.float32(1), np.float64(1), "", "np.float32 1.0", "np.float64 1.0"),
        (np.arange(3), np.arange(3.0), "", "array of int64, shape 3", "array of float64, shape 3"),
        (
            np.zeros((3, 4)),
            np.zeros((4, 3)),
            "",
            "array of float64, shape 3x4",
            "array of float64, shape 4x3",
        ),
        (np.zeros(2, "<f8"), np.zeros(2, ">f8"), "", "array of float64, shape 2", "array of >f8, shape 2"),
        ([1, 2], (1, 2), "", "list of 2", "tuple of 2"),
        ([1, 2], [1, 2, 3], "", "list of 2", "list of 3"),
        ({"a": [1, 2]}, {"a": [1]}, "['a']", "list of 2", "list of 1"),
        ({"a": 1, "b": 2}, {"a": 1}, "['b']", "int 2", "nothing"),
        ({1: 2}, {True: 2}, "[1]", "int 2", "nothing"),
        ("abc", "abd", "", "'abc'", "'abd'"),
        (np.str_("a\0"), np.str_("a"), "", "'a\\x00'", "'a'"),
        ("x" * 90 + "a", "x" * 90 + "b", "[90]", "...'xxxxxxxxxxa'...", "...'xxxxxxxxxxb'..."),
        (b"a", b"b", "", "b'a'", "b'b'"),
        (np.array(["a", "b"]), np.array(["a", "c"]), "[1]", "'b'", "'c'"),
        (np.array(["a"]), np.array(["a"], "U3"), "", "array of <U1, shape 1", "array of <U3, shape 1"),
        (np.array([True, False]), np.array([True, True]), "[1]", "False", "True"),
        (NAT, NAT + np.timedelta64(1, "D"), "[0]", "2020-01-01", "2020-01-02"),
        (np.datetime64("NaT", "D"), np.datetime64("2020"), "", "np.datetime64 NaT", "np.datetime64 2020"),
        (np.array([b"ab"], "V2"), np.array([b"ac"], "V2"), "[0]", r"b'\x61\x62' (|V2)", r"b'\x61\x63' (|V2)"),
        (10**400, 1.0, "", "int int of 1,329 bits", "float 1.0"),
    ],
)
def test_what_is_different(one: Any, other: Any, place: str, before: str, after: str) -> None:
    found = held(one, other, rtol=1e6)
    assert (found.likeness, found.place, found.before, found.after) == ("different", place, before, after)


def test_what_is_different_also_says_how_far_its_numbers_moved() -> None:
    found = held({"a": "x", "b": [4.0, 1.0]}, {"a": "y", "b": [5.0, 1.0]})
    assert (found.likeness, found.place, found.relative, found.absolute) == ("different", "['a']", 0.2, 1.0)
    assert held(np.array([4]), np.array([5.0])).relative == 0.2


def test_objects_that_cannot_be_compared_are_different() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        def __hash__(self) -> int:
            return 0

    odd = Odd()
    assert held(odd, odd).likeness == "same"
    assert held(odd, Odd()).likeness == "different"


@pytest.mark.parametrize(
    ("rtol", "atol", "likeness"),
    [
        (0.0, 0.0, "beyond"),
        (0.19, 0.0, "beyond"),
        (0.2, 0.0, "within"),
        (0.0, 0.99, "beyond"),
        (0.0, 1.0, "within"),
        (0.1, 1.0, "within"),
    ],
)
def test_either_tolerance_is_enough(rtol: float, atol: float, likeness: str) -> None:
    assert held([4.0, 1], [5.0, 1], rtol=rtol, atol=atol).likeness == likeness
    assert held(np.array([4]), np.array([5]), rtol=rtol, atol=atol).likeness == likeness
    assert held(4, 5, rtol=rtol, atol=atol).likeness == likeness


def test_the_place_is_that_of_a_number_beyond_the_tolerance() -> None:
    found = held(np.array([1e-20, 100.0, 50.0]), np.array([2e-20, 101.0, 49.9]), atol=1e-12)
    assert (found.place, found.count, found.before, found.after) == ("[1]", 2, "100.0", "101.0")
    assert found.absolute == 1.0


def test_the_number_that_moved_most_is_shown_wherever_it_stands() -> None:
    for order in ("abc", "bca", "cab"):
        values = {"a": 10.0, "b": [np.array([10.0])], "c": 10}
        moved = {"a": 11.0, "b": [np.array([15.0])], "c": 30}
        one, other = ({name: part[name] for name in order} for part in (values, moved))
        found = held(one, other)
        assert (found.place, found.relative, found.absolute, found.count) == ("['c']", 2 / 3, 20.0, 3)
        found = held(one, {**other, "c": 10})
        assert (found.place, found.absolute, found.count) == ("['b'][0][0]", 5.0, 2)


@pytest.mark.parametrize("bad", [-1e-9, math.nan, math.inf])
def test_a_tolerance_that_is_none(bad: float) -> None:
    with pytest.raises(ValueError, match="rtol is"):
        diff(MemoryStorageInterface(), MemoryStorageInterface(), rtol=bad)
    with pytest.raises(ValueError, match="atol is"):
        diff(MemoryStorageInterface(), MemoryStorageInterface(), atol=bad)


def test_values_nested_beyond_any_stack_are_compared() -> None:
    one: Any = [1.0]
    other: Any = [2.0]
    for _ in range(20_000):
        one, other = [one], [other]
    found = held(one, other)
    assert (found.likeness, found.place) == ("beyond", "[0]" * 20_001)


def test_blocks_of_a_large_array_are_one_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smm._compare._BLOCK", 4)
    one = np.arange(30.0).reshape(5, 6)
    other = one.copy()
    other[2, 3] *= 1.5
    other[4, 5] += 100
    found = held(one, other)
    assert (found.place, found.count, found.absolute) == ("[4, 5]", 2, 100.0)
    assert held(one.astype(str), other.astype(str)).place == "[2, 3]"


# --- properties -----------------------------------------------------------------------------------------


@given(npz_values())
def test_a_value_is_the_same_as_itself(value: Any) -> None:
    storage = NpzStorageInterface("unused")
    assert held(value, storage.canonical("x", value), rtol=0.0) == Change(likeness="same")


@given(npz_values(), npz_values(), st.sampled_from([0.0, 1e-9, 0.5]), st.sampled_from([0.0, 1.0]))
def test_which_value_comes_first_makes_no_difference(one: Any, other: Any, rtol: float, atol: float) -> None:
    there = held(one, other, rtol=rtol, atol=atol)
    back = held(other, one, rtol=rtol, atol=atol)
    assert back == turned(there)
    assert (there.likeness == "same") == (there.count == 0)


FLOATS = st.floats(-1e100, 1e100).filter(lambda value: abs(value) > 1e-100)
WRAPS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda value: value, ""),
    (lambda value: {"a": (None, value)}, "['a'][1]"),
    (lambda value: [value, "text"], "[0]"),
]


@given(
    st.lists(FLOATS, min_size=1, max_size=8),
    st.integers(0, 7),
    st.floats(1e-7, 0.5),
    st.sampled_from(WRAPS),
    st.booleans(),
)
def test_a_change_of_relative_size_e_is_found_with_that_size(
    values: list[float], index: int, size: float, wrap: tuple[Callable[[Any], Any], str], as_list: bool
) -> None:
    index %= len(values)
    one = np.array(values)
    other = one.copy()
    other[index] *= 1 + size
    around, place = wrap
    made = (one.tolist(), other.tolist()) if as_list else (one, other)
    found = held(*map(around, made), rtol=size / 10)
    assert (found.likeness, found.count, found.place) == ("beyond", 1, f"{place}[{index}]")
    assert found.relative == pytest.approx(size / (1 + size), rel=1e-6)
    assert found.absolute == pytest.approx(abs(one[index]) * size, rel=1e-6)
    assert held(*map(around, made), rtol=size).likeness == "within"


@given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
def test_ints_are_compared_exactly(one: int, other: int) -> None:
    found = held(one, other, rtol=0.0)
    if one == other:
        assert found.likeness == "same"
        return
    exact = Fraction(abs(one - other), max(abs(one), abs(other)))
    assert (found.relative, found.absolute) == (float(exact), float(abs(one - other)))
    in_array = held([one], [other], rtol=0.0)
    assert in_array.relative == pytest.approx(float(exact), rel=1e-12)


# --- two stores -----------------------------------------------------------------------------------------


def filled(storage: Any, values: dict[str, Any]) -> DatedCacheManager:
    CM = DatedCacheManager(storage, verbose=False)
    CM.set_functions_dict({name: (lambda value=value: value) for name, value in values.items()})
    for name in values:
        CM.get(name)
    CM.clear_cache()
    return CM


def outcomes(differences: Any) -> dict[str, str]:
    return {one.name: one.outcome for one in differences}


BASE = {"a": 1.0, "b": np.arange(3.0), "c": "text", "d": [1, 2]}
NEW = {"a": 1.0 + 1e-12, "b": np.array([0.0, 1.0, 3.0]), "c": "texts", "e": 0}
EXPECTED = {"a": "within", "b": "beyond", "c": "different", "d": "only in A", "e": "only in B"}


@pytest.mark.parametrize("kind", ["folder", "storage", "manager", "memory", "three methods", "pickles"])
def test_two_stores(kind: str, tmp_path: Path) -> None:
    folders = [tmp_path / "A", tmp_path / "B"]
    by_kind: dict[str, list[Any]] = {
        "memory": [MemoryStorageInterface(), MemoryStorageInterface()],
        "three methods": [DictStorage(), DictStorage()],
        "pickles": [PickleFiles(folder) for folder in folders],
    }
    storages = by_kind.get(kind) or [NpzStorageInterface(folder) for folder in folders]
    managers = [filled(storages[0], BASE), filled(storages[1], NEW)]
    stores: dict[str, list[Any]] = {"folder": folders, "three methods": managers, "manager": managers}
    pair = stores.get(kind, storages)
    assert outcomes(diff(*pair)) == EXPECTED
    swapped = {"only in A": "only in B", "only in B": "only in A"}
    turned_round = {name: swapped.get(outcome, outcome) for name, outcome in EXPECTED.items()}
    assert outcomes(diff(pair[1], pair[0])) == turned_round
    assert [len(manager.cache) for manager in managers] == [0, 0]


@pytest.mark.parametrize("made", [NpzStorageInterface, NpyStorageInterface, JsonStorageInterface])
def test_a_store_is_the_same_as_itself_and_as_its_copy(made: Any, tmp_path: Path) -> None:
    filled(made(tmp_path / "A"), {"x": 1.5, "y": [1, 2, 3]})
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    for other in "AB":
        assert outcomes(diff(tmp_path / "A", tmp_path / other)) == {"x": "same", "y": "same"}


def swept(folder: Path, factor: float) -> ParameterizedDatedCacheManager:
    CM = ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False)

    @CM.collect(params_list=[[n] for n in (1, 2, 3)])
    def slope(n: int) -> float:
        return 2.0 + factor * n

    @CM.collect(params_list=[[n, "x"] for n in (1, 2, 3)])
    def offset(n: int, kind: str = "y") -> dict[str, float]:
        return {kind: 1.0}

    CM.run()
    return CM


def test_differences_carry_params_and_are_ranked(tmp_path: Path) -> None:
    a, b = swept(tmp_path / "A", 0.0), swept(tmp_path / "B", 0.1)
    b.delete("offset_2_x")
    found = ranked(diff(a, b))
    assert [one.name for one in found] == [
        *("slope_3", "slope_2", "slope_1"),
        *("offset_2_x", "offset_1_x", "offset_3_x"),
    ]
    assert [one.matters for one in found] == [True] * 4 + [False] * 2
    assert found[0].base_name == "slope"
    assert found[0].params == {"n": 3}
    assert found[3].params == {"n": 2, "kind": "x"}
    assert found[0].change is not None
    assert found[0].change.relative == pytest.approx(0.3 / 2.3)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["slope"], {"slope_1", "slope_2", "slope_3"}),
        (["slope_2", "offset_*"], {"slope_2", "offset_1_x", "offset_2_x", "offset_3_x"}),
        (["*_2*"], {"slope_2", "offset_2_x"}),
        ([], set()),
    ],
)
def test_names_are_metrics_base_names_and_globs(names: list[str], expected: set[str], tmp_path: Path) -> None:
    a, b = swept(tmp_path / "A", 0.0), swept(tmp_path / "B", 0.1)
    assert set(outcomes(diff(a, b, names=names))) == expected
    with pytest.raises(UnknownMetricError, match="did you mean 'slope'"):
        diff(a, b, names=["slop"])


def test_a_value_that_cannot_be_read_is_a_difference(tmp_path: Path) -> None:
    for folder in "AB":
        filled(NpzStorageInterface(tmp_path / folder), {"x": 1, "y": 2})
    (tmp_path / "B" / "x.npz").write_bytes(b"PK")
    x, y = diff(tmp_path / "A", tmp_path / "B")
    assert (x.outcome, x.reason, x.matters) == ("unreadable", "in B, damaged: cut short", True)
    assert y.outcome == "same"


def test_a_damaged_side_car_does_not_keep_values_from_being_compared(tmp_path: Path) -> None:
    for folder in "AB":
        filled(NpzStorageInterface(tmp_path / folder), {"x": 1})
        (tmp_path / folder / "x_date.json").write_text("{")
    (found,) = diff(tmp_path / "A", tmp_path / "B")
    assert (found.outcome, found.params) == ("same", None)


def test_what_is_replaced_meanwhile_is_read_as_one_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CM = filled(NpzStorageInterface(tmp_path), {"x": 1.0})
    storage = CM.storage_interface
    load = NpzStorageInterface.load_verified
    replaced: list[str] = []

    def replacing(self: NpzStorageInterface, name: str, stamp: Any) -> Any:
        if not replaced:
            replaced.append(name)
            CM.set_functions_dict({"x": lambda: 2.0})
            CM.get("x", use_stored=False)
            # The new data as large and as old as the record in hand says: its check sum is another's.
            os.utime(tmp_path / "x.npz", ns=(stamp.mtime_ns, stamp.mtime_ns))
        return load(self, name, stamp)

    monkeypatch.setattr(NpzStorageInterface, "load_verified", replacing)
    kept = MemoryStorageInterface()
    filled(kept, {"x": 2.0})
    assert outcomes(diff(storage, kept)) == {"x": "same"}
    assert replaced == ["x"]


def test_without_a_manager_a_storage_must_list() -> None:
    with pytest.raises(StorageAbilityError, match="DictStorage has no method 'names'"):
        diff(DictStorage(), MemoryStorageInterface())


# --- folders --------------------------------------------------------------------------------------------


def store_error(folder: Path) -> str:
    with pytest.raises(TargetError) as caught:
        diff(folder, folder)
    assert caught.value.target == str(folder)
    return caught.value.reason


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    assert store_error(tmp_path / "none").startswith("is not there")
    (tmp_path / "results").mkdir()
    assert "did you mean 'results'?" in store_error(tmp_path / "result")
    assert store_error(tmp_path / "results").startswith("is an empty folder")
    filled(NpzStorageInterface(tmp_path / "results"), {"x": 1})
    assert f"did you mean {str(tmp_path / 'results')!r}" in store_error(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "package.json").write_text("{}")
    assert "none of its files is a metric in npz, npy or json" in store_error(tmp_path / "code")
    (tmp_path / "file").touch()
    assert store_error(tmp_path / "file").startswith("is no folder")
    filled(PickleFiles(tmp_path / "pickles"), {"x": 1})
    assert "files that end in .pickle" in store_error(tmp_path / "pickles")


def test_a_folder_of_several_formats_says_so(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), {"x": 1, "y": 2})
    filled(JsonStorageInterface(tmp_path), {"z": 1})
    assert store_error(tmp_path).startswith("holds results of several formats, 2 npz and 1 json; say which")


def test_other_files_beside_the_results_do_not_count(tmp_path: Path) -> None:
    filled(NpzStorageInterface(tmp_path), {"x": 1})
    (tmp_path / "notes.json").write_text("{}")
    np.save(tmp_path / "figure.npy", np.zeros(2))
    assert outcomes(diff(tmp_path, tmp_path)) == {"x": "same"}


def test_data_without_any_side_car_is_compared(tmp_path: Path) -> None:
    for folder, value in (("A", 1.0), ("B", 2.0)):
        NpzStorageInterface(tmp_path / folder).save("x", value)
    assert outcomes(diff(tmp_path / "A", tmp_path / "B")) == {"x": "beyond"}


def test_stores_of_the_predecessor() -> None:
    store = Path(__file__).parent / "data" / "legacy_store_0_5"
    for kind in ("npz", "npy", "json"):
        found = list(diff(store / kind, store / kind))
        assert {one.outcome for one in found} == {"same"}
        assert "poly_Y_1_2" in {one.name for one in found}


# --- the command ----------------------------------------------------------------------------------------

CODE = """
    import numpy as np
    def walk(seed): return np.random.default_rng(seed).normal(size=30).cumsum()
    def spread(seed, path): return {"std": float(path.std()), "n": 30}
"""
CONFIG = """
    metrics:
      walk: {function: diff_code.walk, params_list: [1, 2]}
      spread:
        function: diff_code.spread
        inputs: {path: {metric: walk, params: [seed]}}
        params_list: [1, 2]
"""


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("diff_code.py", CODE)
    project.write("metrics.yaml", CONFIG)
    monkeypatch.chdir(project.folder)
    assert smm("run", "metrics.yaml", "--no-progress").exit_code == 0
    return project


@pytest.fixture
def changed(here: Project) -> Project:
    """The same results, those of seed 2 changed by a thousandth, in the folder `try`."""
    shutil.copytree("results", "try")
    CM = filled(NpzStorageInterface("try"), {})
    value = CM.load("spread_2")
    CM.storage_interface.save("spread_2", value | {"std": value["std"] * 1.001})
    return here


def test_no_difference_is_exit_code_0(here: Project) -> None:
    result = smm("diff", "results", "metrics.yaml")
    assert (result.exit_code, result.stdout) == (0, "4 compared: 4 the same\n")


def test_a_difference_is_exit_code_1_and_a_table(changed: Project) -> None:
    result = smm("diff", "results", "try")
    assert result.exit_code == 1
    table = [line.split() for line in result.stdout.splitlines()]
    assert table[0] == ["metric", "relative", "absolute", "where", "A", "B", "params"]
    assert table[1][:3] == ["spread_2", "beyond", "0.000999"]
    assert table[1][4] == "['std']"
    assert table[1][-1] == "seed=2"
    assert result.stdout.splitlines()[-1] == "4 compared: 3 the same, 1 beyond the tolerance"


def test_within_the_tolerance_is_exit_code_0(changed: Project) -> None:
    for tolerance in (("--rtol", "0.01"), ("--atol", "10"), ("walk",)):
        result = smm("diff", "results", "try", *tolerance)
        assert result.exit_code == 0
    assert smm("diff", "results", "try", "--rtol", "0.01").stdout.splitlines()[-1] == (
        "4 compared: 3 the same, 1 within the tolerance"
    )


def test_diff_as_json(changed: Project) -> None:
    (changed.folder / "try" / "walk_1.npz").unlink()
    result = smm("diff", "results", "try", "--json", "--atol", "1e-3")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["rtol"], found["atol"]) == (1e-9, 1e-3)
    assert {key: count for key, count in found["counts"].items() if count} == {
        "same": 2,
        "beyond": 1,
        "only in A": 1,
    }
    assert [one["name"] for one in found["metrics"]] == ["spread_2", "walk_1", "spread_1", "walk_2"]
    first = found["metrics"][0]
    assert (first["outcome"], first["place"], first["count"]) == ("beyond", "['std']", 1)
    assert (first["base_name"], first["params"]) == ("spread", {"seed": 2})
    assert first["relative"] == pytest.approx(0.001 / 1.001)
    assert found["metrics"][1]["relative"] is None


def test_infinite_changes_in_json_are_text(tmp_path: Path) -> None:
    for folder, value in (("A", 1.0), ("B", math.nan)):
        filled(NpzStorageInterface(tmp_path / folder), {"x": value})
    result = smm("diff", str(tmp_path / "A"), str(tmp_path / "B"), "--json")
    assert json.loads(result.stdout)["metrics"][0]["relative"] == "inf"


def test_the_most_changed_20_or_all(tmp_path: Path) -> None:
    for folder, factor in (("A", 1.0), ("B", 1.5)):
        filled(NpzStorageInterface(tmp_path / folder), {f"x{n:02}": n * factor for n in range(1, 31)})
    pair = str(tmp_path / "A"), str(tmp_path / "B")
    few, everything = smm("diff", *pair).stdout.splitlines(), smm("diff", *pair, "--all").stdout.splitlines()
    assert len([line for line in few if "beyond" in line]) == 21
    assert "and 10 more; --all shows them" in few
    assert len([line for line in everything if "beyond" in line]) == 31


def test_yaml_files_are_compared_without_importing_their_code(changed: Project) -> None:
    """Two checkouts of a project have modules of the same names."""
    changed.write("diff_code.py", "raise RuntimeError('must not be imported')")
    changed.write("other/metrics.yaml", CONFIG + "    storage: {metrics_dir: ../try}\n")
    assert smm("diff", "metrics.yaml", "other/metrics.yaml").exit_code == 1


def test_a_manager_in_a_module_is_a_store(changed: Project) -> None:
    changed.write(
        "diff_module.py",
        """
        import smm
        CM = smm.DatedCacheManager(smm.NpzStorageInterface("results"))
        """,
    )
    assert smm("diff", "diff_module:CM", "results").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results", "tri"], "'tri' is no folder of results, no YAML file and no module:CM"),
        (["results", "empty"], "'empty' is an empty folder"),
        (["results", "."], "'.' is a folder without results; did you mean 'results'?"),
        (["results", "unrun.yaml"], "'unrun.yaml' has nothing stored in"),
        (["results", "broken.yaml"], "broken.yaml:1:1: "),
        (["results", "results", "walks"], "no metric 'walks'"),
        (["results", "results", "--rtol", "-1"], "rtol is -1.0"),
        (["results", "results", "--rtol", "nan"], "rtol is nan"),
        (
            ["results", "results", "--format", "npy"],
            "no results in npy, but in files that end in .npz; leave --format out",
        ),
        (["results"], "Missing argument 'STORE_B'"),
    ],
)
def test_wrong_usage_is_exit_code_2(here: Project, arguments: list[str], message: str) -> None:
    (here.folder / "empty").mkdir()
    here.write("unrun.yaml", CONFIG + "    storage: {metrics_dir: unrun}\n")
    here.write("broken.yaml", "metric: {}")
    result = smm("diff", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_format_is_chosen_where_there_are_two(here: Project) -> None:
    filled(JsonStorageInterface("results"), {"z": 1})
    result = smm("diff", "results", "results")
    assert (result.exit_code, "4 npz and 1 json; say which with --format" in result.stderr) == (2, True)
    assert smm("diff", "results", "results", "--format", "json").stdout == "1 compared: 1 the same\n"


def test_differences_are_values() -> None:
    one = Difference(name="x", outcome="only in A")
    assert one == Difference(name="x", outcome="only in A")
    assert one.matters


# --- a store beside itself -------------------------------------------------------------------------------


class ByIdentity:
    """Equal to nothing but itself, as most classes are."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Ambiguous:
    """As a frame of pandas: `==` gives no single answer."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> Any:
        return np.array([True, True])

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "value",
    [
        ByIdentity(3),
        Ambiguous([1, 2]),
        pd.DataFrame({"a": [1, np.nan]}),
        np.array([ByIdentity(1), None, pd.Timestamp("2026-01-01")], dtype=object),
        [ByIdentity(1), {"a": Ambiguous(2)}],
        pd.NaT,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_store_never_differs_from_itself(tmp_path: Path, value: Any) -> None:
    storage = PickleFiles(tmp_path)
    storage.save("x", value)
    (found,) = diff(storage, storage)
    assert found.outcome == "same", found
    other = PickleFiles(tmp_path / "other")
    other.save("x", [value, 1])
    (found,) = diff(storage, other)
    assert found.outcome == "different"


class Texts(FileBasedStorageInterface):
    """A storage whose values cannot be pickled, as open files cannot, and are equal to nothing."""

    def __init__(self, metrics_dir: Path) -> None:
        super().__init__(".txt", metrics_dir)

    def _save(self, filepath: Any, data: Any) -> None:
        Path(filepath).write_text(str(data))

    def _load(self, filepath: Any) -> Any:
        text = Path(filepath).read_text()
        return ByIdentity(lambda: text)


def test_nor_does_one_whose_values_cannot_be_pickled(tmp_path: Path) -> None:
    storage, other = Texts(tmp_path), Texts(tmp_path / "other")
    storage.save("x", "one")
    other.save("x", "one")
    (found,) = diff(storage, Texts(tmp_path))
    assert found.outcome == "same"
    (found,) = diff(storage, other)
    assert found.outcome == "different", "nobody can tell"


@given(npz_values())
def test_no_value_differs_from_itself(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    storage = NpzStorageInterface(tmp_path_factory.mktemp("itself"), allow_pickle=True)
    storage.save("x", value)
    (found,) = diff(storage, storage)
    assert found.outcome == "same", found
