"""What is declared and what is stored: statuses, picking names, clearing."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from smm import (
    DatedCacheManager,
    JsonStorageInterface,
    MemoryStorageInterface,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
)
from smm.errors import SmmWarning, StorageAbilityError, UnknownMetricError
from smm.maintain import clear, groups, select, status, stored_names


class ThreeMethods:
    """A storage that can do only what every storage can."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def exists(self, name: str) -> bool:
        return name in self.data

    def save(self, name: str, data: Any) -> None:
        self.data[name] = data

    def load(self, name: str) -> Any:
        return self.data[name]


def filled(storage: Any) -> ParameterizedDatedCacheManager:
    CM = ParameterizedDatedCacheManager(storage, verbose=False)

    @CM.collect
    def one() -> int:
        return 1

    @CM.collect(params_list=[[1, 2], [1, 3], [4, 2]])
    def add(a: int, b: int) -> int:
        return a + b

    return CM


# --- picking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], ["one", "add_1_2", "add_1_3", "add_4_2"]),
        (["one"], ["one"]),
        (["add_4_2", "add_1_2"], ["add_1_2", "add_4_2"]),
        (["add"], ["add_1_2", "add_1_3", "add_4_2"]),
        (["add_1_*"], ["add_1_2", "add_1_3"]),
        (["*_2", "one"], ["one", "add_1_2", "add_4_2"]),
        (["add_[14]_2"], ["add_1_2", "add_4_2"]),
        (["add_?_3"], ["add_1_3"]),
        (["*"], ["one", "add_1_2", "add_1_3", "add_4_2"]),
    ],
)
def test_names_are_picked_in_the_order_of_declaration(patterns: list[str], names: list[str]) -> None:
    assert select(filled(MemoryStorageInterface()), patterns) == names


@pytest.mark.parametrize(
    ("pattern", "hint"), [("ad", "'add'"), ("add_1_4", "'add_1_"), ("nothing_like_*", ""), ("ADD", "")]
)
def test_a_pattern_that_means_nothing_is_an_error_with_the_closest(pattern: str, hint: str) -> None:
    with pytest.raises(UnknownMetricError) as caught:
        select(filled(MemoryStorageInterface()), [pattern])
    assert repr(pattern) in str(caught.value)
    assert hint in str(caught.value)


def test_stored_names_that_nothing_declares_can_be_picked_too() -> None:
    CM = filled(MemoryStorageInterface())
    assert select(CM, ["old_*"], among={"old_2", "old_1", "one"}) == ["old_1", "old_2"]


def test_a_name_with_the_letters_of_globs_is_itself() -> None:
    CM = DatedCacheManager(MemoryStorageInterface(), verbose=False)
    CM.set_functions_dict({"a[1]": lambda: 1, "a1": lambda: 2})
    assert select(CM, ["a[1]"]) == ["a[1]"]


def test_groups_are_rows_by_base_name() -> None:
    CM = filled(MemoryStorageInterface())
    CM.functions_dict["by_hand"] = lambda: 2
    assert groups(CM) == {
        "one": ["one"],
        "add": ["add_1_2", "add_1_3", "add_4_2"],
        "by_hand": ["by_hand"],
    }


# --- status ---------------------------------------------------------------------------------------------


def summary(manager: DatedCacheManager, names: list[str] | None = None) -> dict[str, tuple[int, int, int]]:
    return {
        metric.base_name: (metric.declared, metric.stored, metric.missing)
        for metric in status(manager, names).metrics
    }


@pytest.mark.parametrize("kind", ["npz", "json", "memory", "three"])
def test_a_status_counts_what_is_stored(kind: str, tmp_path: Path) -> None:
    storage: Any = {
        "npz": lambda: NpzStorageInterface(tmp_path / "s"),
        "json": lambda: JsonStorageInterface(tmp_path / "s"),
        "memory": MemoryStorageInterface,
        "three": ThreeMethods,
    }[kind]()
    CM = filled(storage)
    assert summary(CM) == {"one": (1, 0, 1), "add": (3, 0, 3)}
    before = datetime.now(UTC)
    CM.get("add_1_2")
    CM.get("add_4_2")
    assert summary(CM) == {"one": (1, 0, 1), "add": (3, 2, 1)}
    assert summary(CM, ["add_1_3", "add_4_2"]) == {"add": (2, 1, 1)}
    one, add = status(CM).metrics
    assert one.last is None
    assert add.last is not None
    assert before <= add.last <= datetime.now(UTC)
    if kind in ("npz", "json"):
        assert add.size == sum(
            (tmp_path / "s" / f"{name}.{kind}").stat().st_size for name in ("add_1_2", "add_4_2")
        )
        assert one.size == 0
    else:
        assert add.size is None


def test_every_row_is_fresh_stale_missing_or_failed(tmp_path: Path) -> None:
    CM = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False, on_stale="serve")

    values = [2, 1]

    @CM.collect
    def base() -> int:
        return values.pop()

    @CM.collect(params_list=[1, 2, 3, 4])
    def shared(part: int) -> float:
        return float(CM.base() / (part - 3))

    CM.run("shared_[123]")
    CM.base(use_stored=False)  # another value, so that what read it is stale
    CM.shared(2, use_stored=False)
    found = {metric.base_name: metric for metric in status(CM).metrics}
    counts = {name: (m.fresh, m.stale, m.missing, m.failed, m.is_settled) for name, m in found.items()}
    assert counts == {"base": (1, 0, 0, 0, True), "shared": (1, 1, 1, 1, False)}
    (some,) = status(CM, ["shared_3", "shared_2"]).metrics
    assert (some.declared, some.fresh, some.stale, some.missing, some.failed) == (2, 1, 0, 0, 1)


def test_an_empty_store_makes_no_folder(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path / "s"))
    assert summary(CM) == {"one": (1, 0, 1), "add": (3, 0, 3)}
    assert not (tmp_path / "s").exists()


def test_data_without_a_side_car_is_missing(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path))
    CM.get("one")
    (tmp_path / "one_date.json").unlink()
    assert summary(CM)["one"] == (1, 0, 1)
    assert stored_names(CM) == set()


def test_a_damaged_side_car_does_not_hide_the_others(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path))
    CM.get("one")
    (tmp_path / "one_date.json").write_text("{")
    with pytest.warns(SmmWarning, match="the side-car of metric 'one'"):
        assert status(CM).metrics[0].last is None


def test_what_nothing_declares_is_counted(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path))
    CM.get("one")
    CM.get("add_1_2")
    other = DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    other.set_functions_dict({"one": lambda: 1})
    assert status(other).undeclared == 1


def noting(real: Callable[..., Any], paths: list[Any]) -> Callable[..., Any]:
    """`real`, with the path or descriptor it is called with noted."""

    def noted(path: Any = ".", *args: Any, **named: Any) -> Any:
        paths.append(path)
        return real(path, *args, **named)

    return noted


def test_a_status_lists_the_folder_instead_of_asking_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CM = ParameterizedDatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)

    @CM.collect(params_list=[[n] for n in range(200)])
    def number(n: int) -> int:
        return n

    number_of_stored = 5
    for n in range(number_of_stored):
        CM.number(n)
    asked: list[Any] = []
    for function in ("stat", "lstat", "open"):
        monkeypatch.setattr(os, function, noting(getattr(os, function), asked))
    listed: list[Any] = []
    monkeypatch.setattr(os, "scandir", noting(os.scandir, listed))
    monkeypatch.setattr(os, "listdir", noting(os.listdir, listed))
    found = status(CM)
    assert found.metrics[0].stored == number_of_stored
    assert len(asked) < 20
    assert len(listed) <= 2


def test_a_metric_that_waits_for_collect_is_said_to() -> None:
    from smm.metric import Metric

    CM = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    CM.declare(Metric(base_name="later", params_list=[[1], [2]]))
    (metric,) = status(CM).metrics
    assert (metric.base_name, metric.waiting, metric.declared) == ("later", True, 0)


# --- clearing -------------------------------------------------------------------------------------------


def test_clearing_removes_data_date_and_memory(tmp_path: Path) -> None:
    CM = filled(NpzStorageInterface(tmp_path))
    CM.get("one")
    CM.get("add_1_2")
    assert list(clear(CM, ["one", "add_1_3"])) == ["one"]
    assert stored_names(CM) == {"add_1_2"}
    assert "one" not in CM.cache
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "add_1_2.npz",
        "add_1_2_date.json",
    }


def test_a_storage_that_cannot_delete_says_so() -> None:
    CM = filled(ThreeMethods())
    CM.get("one")
    with pytest.raises(StorageAbilityError, match="ThreeMethods has no method 'delete'"):
        list(clear(CM, ["one"]))
