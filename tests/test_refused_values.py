"""A value that the storage refuses is kept, since it was computed, and no other row is tried in vain."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smm
from smm import JsonStorageInterface, MemoryStorageInterface, NpzStorageInterface
from smm.errors import HeldBackError, UnstorableError
from smm.protocols import StorageInterface
from tests.commands import run_process

STORAGES: dict[str, Callable[[Path], StorageInterface]] = {
    "npz": NpzStorageInterface,
    "json": JsonStorageInterface,
    "memory": lambda _: MemoryStorageInterface(),
}


class Sweep:
    """A sweep whose values no storage keeps, and a metric beside it."""

    def __init__(self, storage: StorageInterface, **options: Any) -> None:
        self.calls: list[int] = []
        self.cm = cm = smm.ParameterizedDatedCacheManager(storage, verbose=False, workers=2, **options)

        @cm.collect(params_list=list(range(50)))
        def odd(a: int) -> Any:
            self.calls.append(a)
            return {a, a + 1}

        @cm.collect(params_list=list(range(5)))
        def even(a: int) -> Any:
            return a


@pytest.fixture(params=STORAGES)
def sweep(request: pytest.FixtureRequest, tmp_path: Path) -> Sweep:
    return Sweep(STORAGES[request.param](tmp_path / "results"))


def test_a_refused_value_stays_in_memory_and_is_not_computed_again(sweep: Sweep) -> None:
    cm = sweep.cm
    asks: list[Callable[[], Any]] = [
        lambda: cm.odd(3),
        lambda: cm.odd(3),
        lambda: cm.get("odd_3"),
        lambda: cm.save("odd_3"),
    ]
    for ask in asks:
        with pytest.raises(UnstorableError, match="cannot keep metric 'odd_3'") as caught:
            ask()
        assert caught.value.value == {3, 4}
    assert sweep.calls == [3]
    assert cm.compute("odd_3") == {3, 4}
    cm.compute("odd_3").clear()
    assert cm.compute("odd_3") == {3, 4}, "what a caller does to its value reaches nobody"
    assert "1 unsaved" in repr(cm)
    assert not cm.storage_interface.exists("odd_3")
    with pytest.raises(UnstorableError):
        cm.get("odd_3", use_stored=False)
    assert sweep.calls == [3, 3], "asked to compute again"


def test_a_function_that_was_mended_is_called(tmp_path: Path) -> None:
    cm = smm.DatedCacheManager(NpzStorageInterface(tmp_path), verbose=False)
    cm.functions_dict["x"] = lambda: {1, 2}
    with pytest.raises(UnstorableError):
        cm.get("x")
    cm.functions_dict["x"] = lambda: [1, 2]
    assert cm.get("x") == [1, 2]
    assert "unsaved" not in repr(cm)


def test_the_other_rows_are_held_back(sweep: Sweep) -> None:
    report = sweep.cm.run()
    counts = report.counts()
    assert len(sweep.calls) == counts["failed"] <= 2, "no more than there are workers"
    assert counts["held"] == 50 - counts["failed"]
    assert counts["computed"] == 5, "other metrics are none of it"
    (refused, *_) = report.of("failed")
    assert isinstance(refused.error, UnstorableError)
    assert refused.error.value == sweep.cm.compute(refused.name)
    held = report.of("held")[0]
    assert isinstance(held.error, HeldBackError)
    assert f"the storage refused '{held.error.name}' of the same metric" in str(held.error)
    assert "CM.run(keep_trying=True)" in str(held.error)


def test_who_knows_better_keeps_trying(sweep: Sweep) -> None:
    report = sweep.cm.run(keep_trying=True)
    assert sorted(sweep.calls) == list(range(50))
    assert (report.counts()["failed"], report.counts()["held"]) == (50, 0)
    sweep.cm.run(keep_trying=True, retry_failed=True)
    assert len(sweep.calls) == 50, "all values are in memory"


def test_get_all_raises_the_refusal_and_tries_no_more(sweep: Sweep) -> None:
    for _ in range(2):
        with pytest.raises(UnstorableError, match="cannot keep metric 'odd_") as caught:
            sweep.cm.odd.get_all()
        assert any("50 of 50 rows of 'odd' failed" in note for note in caught.value.__notes__)
    assert len(sweep.calls) <= 4


def test_readers_of_rows_that_are_held_back_are_held_back(tmp_path: Path) -> None:
    sweep = Sweep(NpzStorageInterface(tmp_path))
    inputs = {"x": smm.metric.Input(metric="odd", params=[smm.metric.Argument(name="a")])}
    reader = smm.Metric(
        base_name="reader", function=lambda a, x: len(x), params_list=list(range(50)), inputs=inputs
    )
    sweep.cm.declare(reader)
    counts = sweep.cm.run().counts()
    assert counts["computed"] == 5
    assert (counts["failed"], counts["held"]) == (2 * len(sweep.calls), 100 - 2 * len(sweep.calls))


def test_the_next_run_tries_none_of_them(tmp_path: Path) -> None:
    sweep = Sweep(NpzStorageInterface(tmp_path))
    sweep.cm.run()
    again = Sweep(NpzStorageInterface(tmp_path))
    counts = again.cm.run().counts()
    assert (again.calls, counts["skipped"], counts["stored"]) == ([], 50, 5)
    assert len(Sweep(NpzStorageInterface(tmp_path)).cm.run(retry_failed=True).of("failed")) <= 2
    pickling = Sweep(NpzStorageInterface(tmp_path, allow_pickle=True))
    pickling.cm.run()
    assert pickling.calls, "another storage may keep them"


CODE = """
    def refused(a):
        with open("calls", "a") as file:
            file.write("x")
        return {a}

    def lambdas(a):
        return lambda: a
"""


def project(folder: Path, function: str = "refused") -> Path:
    module = f"studies_{folder.name}"  # one process imports several of them
    (folder / f"{module}.py").write_text(textwrap.dedent(CODE))
    (folder / "metrics.yaml").write_text(
        json.dumps(
            {
                "verbose": False,
                "metrics": {"m": {"function": f"{module}.{function}", "params_list": list(range(30))}},
            }
        )
    )
    return folder


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_a_worker_hands_its_value_back(
    tmp_path: Path, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path))
    cm = smm.from_config("metrics.yaml")
    report = cm.run(executor=executor, workers=2, progress=False)
    (first, *_) = failed = report.of("failed")
    assert len(failed) <= 4
    assert len(Path("calls").read_text()) == len(failed)
    assert report.counts()["held"] == 30 - len(failed)
    assert isinstance(first.error, UnstorableError)
    expected = {int(first.name.removeprefix("m_"))}
    assert first.error.value == expected
    assert cm.compute(first.name) == expected, "it is in memory here"
    assert len(Path("calls").read_text()) == len(failed)


def test_a_worker_says_that_it_cannot_hand_its_value_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path, "lambdas"))
    report = smm.from_config("metrics.yaml").run(executor="processes", workers=1, progress=False)
    (refused, *_) = report.of("failed")
    assert isinstance(refused.error, UnstorableError)
    assert refused.error.value is None
    assert any("could not hand its value back" in note for note in refused.error.__notes__)


def test_the_command_line_says_what_became_of_it(tmp_path: Path) -> None:
    folder = project(tmp_path)
    done = run_process("run", "metrics.yaml", "--no-progress", "--jobs", "1", cwd=folder)
    assert done.returncode == 1
    assert (folder / "calls").read_text() == "x"
    assert "held back" in done.stdout.splitlines()[0]
    assert (
        "m: 1 value was computed and refused by the storage, and 29 more rows were held back." in done.stdout
    )
    assert "--keep-trying" in done.stdout
    found = json.loads(run_process("run", "metrics.yaml", "--json", cwd=folder).stdout)
    assert (found["skipped"], found["held"]) == (30, 0)
    done = run_process("run", "metrics.yaml", "--keep-trying", "--retry-failed", "--json", cwd=folder)
    assert json.loads(done.stdout)["failed"] == 30
    assert (folder / "calls").read_text() == "x" * 31
