"""`CM.run`, `CM.plan` and `get_all` of real managers, with workers in this process."""

from __future__ import annotations

import functools
import importlib
import json
import os
import pickle
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import smm._worker
from smm import (
    DatedCacheManager,
    JsonStorageInterface,
    MemoryStorageInterface,
    Metric,
    NpzStorageInterface,
    ParameterizedDatedCacheManager,
    RunReport,
)
from smm.errors import (
    CircularMetricError,
    FailedBeforeError,
    RunInterrupted,
    RunRefusedError,
    SmmWarning,
    TravelError,
    UndeclaredParamsError,
    UnknownMetricError,
    UnstorableError,
    WorkerError,
)
from smm.metric import Argument, Input, Reason
from smm.run import Outcome
from tests.projects import Project, project
from tests.stores import DictStorage, NumpyFiles

__all__ = ["project"]

PATIENCE = 60.0
"""Seconds after which a test that hangs has failed."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def cm(folder: Path) -> Any:
    """Two threads, and a folder that is not there yet."""
    return ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False, workers=2)


def ended(report: RunReport) -> dict[str, str]:
    assert len({outcome.name for outcome in report.outcomes}) == len(report.outcomes)
    return {outcome.name: outcome.status for outcome in report.outcomes}


def outcome_of(report: RunReport, name: str) -> Outcome:
    (outcome,) = [outcome for outcome in report.outcomes if outcome.name == name]
    return outcome


def logged(report: RunReport) -> dict[str, str]:
    """What the log has, by name."""
    assert report.log is not None
    lines = [json.loads(line) for line in report.log.read_text().splitlines()]
    return {line["name"]: line["outcome"] for line in lines}


def declare(cm: Any) -> Counter[str]:
    """Three metrics, of which one reads another; counts the calls of each."""
    calls: Counter[str] = Counter()

    def up(a: int) -> int:
        calls["up"] += 1
        return a

    def f(a: int, x: int) -> int:
        calls["f"] += 1
        return 10 * a + x

    def g() -> str:
        calls["g"] += 1
        return "g"

    cm.collect(params_list=[1, 2])(up)
    source = Input(metric="up", params=(Argument(name="a"),))
    cm.declare(Metric(base_name="f", function=f, params_list=[[1], [2]], inputs={"x": source}))
    cm.collect(g)
    return calls


# --- what is run -----------------------------------------------------------------------------------------


def test_all_that_is_declared(cm: Any, folder: Path) -> None:
    calls = declare(cm)
    report = cm.run()
    assert ended(report) == dict.fromkeys(["up_1", "up_2", "f_1", "f_2", "g"], "computed")
    assert calls == {"up": 2, "f": 2, "g": 1}
    assert sorted(path.name for path in folder.glob("*.npz")) == [
        f"{name}.npz" for name in ("f_1", "f_2", "g", "up_1", "up_2")
    ]
    assert (cm.f(2), cm.g()) == (22, "g")
    assert calls == {"up": 2, "f": 2, "g": 1}
    assert (report.left, report.interrupted, report.executor, report.workers) == (0, False, "threads", 2)
    assert report.counts() == {"computed": 5, "stored": 0, "failed": 0, "skipped": 0, "held": 0}
    assert repr(report).startswith("<RunReport: 5 computed, ")
    assert logged(report) == ended(report)
    again = cm.run()
    assert ended(again) == dict.fromkeys(ended(report), "stored")
    assert again.log is None
    assert repr(again).startswith("<RunReport: 5 stored, ")
    assert len(list((folder / ".smm" / "runs").iterdir())) == 1


@pytest.mark.parametrize(
    ("names", "computed"),
    [
        (None, ["up_1", "up_2", "f_1", "f_2", "g"]),
        ("g", ["g"]),
        ("f", ["up_1", "up_2", "f_1", "f_2"]),
        (["f"], ["up_1", "up_2", "f_1", "f_2"]),
        ("f_2", ["up_2", "f_2"]),
        (["f_2", "up_1", "g"], ["up_2", "f_2", "up_1", "g"]),
        ("*_1", ["up_1", "f_1"]),
        (["f_[12]", "f_1"], ["up_1", "up_2", "f_1", "f_2"]),
        (("?",), ["g"]),
        (iter(["g", "g"]), ["g"]),
        ("*", ["up_1", "up_2", "f_1", "f_2", "g"]),
        ([], []),
        ((), []),
    ],
)
def test_names(cm: Any, folder: Path, names: Any, computed: list[str]) -> None:
    declare(cm)
    assert ended(cm.run(names)) == dict.fromkeys(computed, "computed")
    assert folder.exists() == bool(computed)


@pytest.mark.parametrize("names", ["h", ["f", "h"], "h*", ["g", "f_3"], ""])
def test_a_name_that_means_nothing(cm: Any, folder: Path, names: Any) -> None:
    calls = declare(cm)
    for ask in (cm.run, cm.plan):
        with pytest.raises(UnknownMetricError):
            ask(names)
    assert not calls
    assert not folder.exists()


def test_a_metrics_own_name_comes_before_anothers_base_name(cm: Any) -> None:
    cm.collect("f", [1])(lambda a: a)
    cm.collect("f_1", [[2], [3]])(lambda b: b)
    assert ended(cm.f.run()) == {"f_1": "computed"}
    assert ended(cm.run("f_1")) == {"f_1": "stored"}
    assert ended(cm.run("f_1_*")) == {"f_1_2": "computed", "f_1_3": "computed"}


def test_a_base_name_that_is_also_one_of_its_rows(cm: Any) -> None:
    cm.collect("g", [[], [2]])(lambda *a: len(a))
    assert ended(cm.run("g")) == {"g": "computed", "g_2": "computed"}


def test_ten_thousand_names(cm: Any) -> None:
    cm.collect("f", range(10_000))(lambda a: a)
    assert len(cm.plan(cm.f.names()).plan.compute) == 10_000


def test_a_metric_that_waits_for_its_function_is_none_yet(cm: Any, folder: Path) -> None:
    cm.declare(Metric(base_name="later", params_list=[[1]]))
    assert ended(cm.run("later")) == ended(cm.run()) == {}
    assert not folder.exists()
    cm.collect("later")(lambda a: a)
    assert ended(cm.run("later")) == {"later_1": "computed"}


def test_force(cm: Any) -> None:
    calls = declare(cm)
    cm.run()
    dates = {name: cm.date(name) for name in cm}
    assert ended(cm.run("f", force=True)) == {"f_1": "computed", "f_2": "computed"}
    assert calls == {"up": 2, "f": 4, "g": 1}
    assert {name for name in cm if cm.date(name) != dates[name]} == {"f_1", "f_2"}


def test_functions_of_a_dict(folder: Path) -> None:
    manager = DatedCacheManager(JsonStorageInterface(folder), verbose=False)
    manager.set_functions_dict({"a": lambda: 1, "b": lambda: 1 + manager.get("a")})
    assert ended(manager.run(workers=1)) == {"a": "computed", "b": "computed"}
    assert manager.load("b") == 2


def test_an_entry_put_in_by_hand(cm: Any) -> None:
    declare(cm)
    cm.functions_dict["hand"] = lambda: cm.g() + "!"
    assert ended(cm.run("hand")) == {"hand": "computed"}
    assert cm.get("hand") == "g!"


def test_rows_that_calls_have_added(folder: Path) -> None:
    manager: Any = ParameterizedDatedCacheManager(
        NpzStorageInterface(folder), verbose=False, dynamic_metric_creation=True
    )
    manager.collect("f", [1])(lambda a: a)
    manager.f(5)
    manager.delete("f_5")
    assert ended(manager.run("f")) == {"f_1": "computed", "f_5": "computed"}
    assert ended(manager.f.run()) == {"f_1": "stored"}, "of one metric, those that are declared"


def test_a_metrics_own_run(cm: Any) -> None:
    declare(cm)
    report = cm.f.run(workers=1)
    assert ended(report) == dict.fromkeys(("up_1", "up_2", "f_1", "f_2"), "computed")
    assert report.workers == 1
    assert ended(cm.f.run(force=True)) == {"f_1": "computed", "f_2": "computed"}
    cm.collect("none", [])(lambda a: a)
    assert ended(cm.none.run()) == {}
    with pytest.raises(TypeError):
        cm.f.run(names="g")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": True}, "workers is True"),
        ({"executor": "thread"}, "did you mean 'threads'"),
        ({"executor": object()}, "executor is <object"),
    ],
)
def test_options_that_mean_nothing(cm: Any, folder: Path, option: dict[str, Any], said: str) -> None:
    declare(cm)
    nothing: list[str] = []
    for names in (None, nothing):
        for ask in (cm.run, cm.plan):
            with pytest.raises(ValueError, match=said):
                ask(names, **option)
    assert not folder.exists()


# --- failures --------------------------------------------------------------------------------------------


def test_a_failure_stops_only_what_depends_on_it(cm: Any) -> None:
    declare(cm)
    error = ValueError("no")

    def bad() -> None:
        raise error

    cm.functions_dict["up_1"] = bad
    report = cm.run()
    assert ended(report) == {
        "up_1": "failed",
        "f_1": "failed",
        "up_2": "computed",
        "f_2": "computed",
        "g": "computed",
    }
    assert outcome_of(report, "up_1").error is error
    assert outcome_of(report, "f_1").upstream == "up_1"
    assert "while computing metric 'up_1'" in error.__notes__
    assert logged(report) == ended(report)
    assert not cm.exists("f_1")


def test_whatever_can_be_called_may_fail(cm: Any) -> None:
    error = ValueError("no")
    cm.functions_dict["odd"] = mock.Mock(side_effect=error, spec=lambda: None)  # its code is no code
    for _ in range(2):
        report = cm.run("odd")
        assert (ended(report), outcome_of(report, "odd").error) == ({"odd": "failed"}, error)


def test_what_a_failure_tells(cm: Any) -> None:
    def bad() -> None:
        raise ZeroDivisionError("by zero")

    cm.collect(bad)
    outcome = outcome_of(cm.run(), "bad")
    line = bad.__code__.co_firstlineno + 1
    assert outcome.where == f"{__file__}:{line}"
    assert outcome.files == (__file__,)
    assert outcome.traceback.rstrip().splitlines()[-2:] == [
        "ZeroDivisionError: by zero",
        "while computing metric 'bad'",
    ]
    assert "smm/_" not in outcome.traceback
    assert outcome.worker.partition(":")[2].partition(":")[0] == str(os.getpid())
    assert outcome.worker.rpartition(":")[2].startswith("smm-")


def test_retries(cm: Any) -> None:
    calls: Counter[str] = Counter()

    def flaky(a: int) -> int:
        calls[str(a)] += 1
        if calls[str(a)] < a:
            raise ValueError(a)
        return a

    cm.collect(params_list=[1, 2, 3], retries=1)(flaky)
    report = cm.run()
    assert ended(report) == {"flaky_1": "computed", "flaky_2": "computed", "flaky_3": "failed"}
    assert [outcome_of(report, f"flaky_{a}").tries for a in (1, 2, 3)] == [1, 2, 2]
    assert calls == {"1": 1, "2": 2, "3": 2}


def test_not_going_on_after_a_failure(cm: Any) -> None:
    def f(a: int) -> float:
        return 6 / a

    cm.collect(params_list=[1, 0, 2, 3])(f)
    report = cm.run(keep_going=False, workers=1)
    assert ended(report) == {"f_1": "computed", "f_0": "failed"}
    assert (report.left, report.interrupted) == (2, False)
    assert repr(report).startswith("<RunReport: 1 computed, 1 failed, 2 left, ")
    assert ended(cm.run(keep_going=False, workers=1)) == {
        "f_1": "stored",
        "f_0": "skipped",
        "f_2": "computed",
        "f_3": "computed",
    }


def test_a_known_failure_is_tried_on_demand(cm: Any, folder: Path) -> None:
    calls: list[int] = []

    def f(a: int) -> float:
        calls.append(a)
        return 1 / a

    cm.collect(params_list=[0, 1])(f)
    first = cm.run()
    assert ended(first) == {"f_0": "failed", "f_1": "computed"}
    again = cm.run()
    assert ended(again) == {"f_0": "skipped", "f_1": "stored"}
    outcome = outcome_of(again, "f_0")
    assert isinstance(outcome.error, FailedBeforeError)
    assert (outcome.error.kind, outcome.error.text) == ("ZeroDivisionError", "division by zero")
    assert outcome.where == outcome_of(first, "f_0").where
    assert again.log is None
    assert len(list((folder / ".smm" / "runs").iterdir())) == 1, "a run that only skips leaves no log"
    assert ended(cm.run(retry_failed=True)) == {"f_0": "failed", "f_1": "stored"}
    assert sorted(calls) == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        cm.f(0)  # whoever asks for the value itself has it tried


def inverse(a: int, one: int = 1) -> float:
    return one / a


@functools.wraps(inverse)
def wrapped(*args: Any) -> Any:
    return inverse(*args)


@pytest.mark.parametrize(
    "function",
    [inverse, wrapped, functools.lru_cache(inverse), functools.partial(inverse, one=2)],
    ids=["plain", "wrapped", "lru_cache", "partial"],
)
def test_a_failure_is_remembered_however_the_function_is_wrapped(
    cm: Any, function: Callable[..., Any]
) -> None:
    cm.collect("f", [0])(function)
    assert list(ended(cm.run()).values()) == ["failed"]
    assert list(ended(cm.run()).values()) == ["skipped"]


@pytest.mark.parametrize(
    "error",
    [OSError(28, "disk full"), MemoryError(), ImportError("torch"), SystemExit(3), FileNotFoundError()],
)
def test_a_failure_of_the_moment_is_tried_again(cm: Any, error: BaseException) -> None:
    def unlucky() -> None:
        raise error

    cm.collect(unlucky)
    for _ in range(2):
        assert ended(cm.run()) == {"unlucky": "failed"}


@pytest.mark.parametrize("what", ["function", "helper"])
def test_a_known_failure_is_tried_again_when_its_code_changes(
    project: Project, folder: Path, what: str
) -> None:
    project.write("helper_of_bad.py", "def help(a):\n    return 1 / a\n")
    project.write(
        "bad_metric.py",
        f"""
        import smm
        import helper_of_bad

        CM = smm.ParameterizedDatedCacheManager(smm.NpzStorageInterface({str(folder)!r}), verbose=False)

        @CM.collect(params_list=[0, 1])
        def f(a):
            return helper_of_bad.help(a)
        """,
    )
    sys.path.insert(0, str(project.folder))
    module = importlib.import_module("bad_metric")
    assert ended(module.CM.run()) == {"f_0": "failed", "f_1": "computed"}
    assert ended(module.CM.run()) == {"f_0": "skipped", "f_1": "stored"}
    edited = project.folder / ("bad_metric.py" if what == "function" else "helper_of_bad.py")
    text = edited.read_text()
    edited.write_text(text.replace("return", "return 7 if a == 0 else"))
    # As in a notebook whose reader has forgotten to load the module again: the old code fails once more.
    assert ended(module.CM.run()) == {"f_0": "failed", "f_1": "stored"}
    for name in ("helper_of_bad", "bad_metric"):
        importlib.reload(sys.modules[name])
    with pytest.warns(SmmWarning, match="metric 'f_1' is stale"):  # it was computed by the code of before
        assert ended(module.CM.run()) == {"f_0": "computed", "f_1": "stored"}


def test_a_known_failure_is_tried_again_when_an_input_changes(cm: Any) -> None:
    calls = declare(cm)

    def never(a: int, x: int) -> None:
        raise ValueError

    source = Input(metric="up", params=(Argument(name="a"),))
    cm.declare(Metric(base_name="bad", function=never, params_list=[[1], [2]], inputs={"x": source}))
    assert ended(cm.run("bad"))["bad_1"] == "failed"
    assert ended(cm.run("bad")) == {"bad_1": "skipped", "bad_2": "skipped"}
    cm.run("up_1", force=True)
    assert ended(cm.run("bad")) == {"bad_1": "failed", "bad_2": "skipped"}
    assert ended(cm.run("bad")) == {"bad_1": "skipped", "bad_2": "skipped"}
    assert calls["up"] == 3


@pytest.mark.parametrize("changed", ["timeout", "input", "storage"])
def test_a_known_failure_is_tried_again_when_it_is_declared_otherwise(folder: Path, changed: str) -> None:
    def manager(**said: Any) -> Any:
        kind = JsonStorageInterface if said.get("storage") else NpzStorageInterface
        made = ParameterizedDatedCacheManager(kind(folder), verbose=False)
        made.collect("up", [1, 2])(lambda a: a)
        params = (Argument(name="b" if said.get("input") else "a"),)
        made.declare(
            Metric(
                base_name="bad",
                function=never,
                params_list=[[1, 2]],
                inputs={"x": Input(metric="up", params=params)},
                timeout_seconds=said.get("timeout"),
            )
        )
        made.run("up")
        return made

    def never(a: int, b: int, x: int) -> None:
        raise ValueError

    assert ended(manager().run("bad")) == {"bad_1_2": "failed"}
    assert ended(manager().run("bad")) == {"bad_1_2": "skipped"}
    other = manager(**{changed: 60.0})
    with mock.patch("smm._engines.refuse_timeouts"):
        assert ended(other.run("bad")) == {"bad_1_2": "failed"}


def test_inputs_that_cannot_be_told(cm: Any) -> None:
    cm.collect("up", [1])(lambda a: a)
    source = Input(metric="up", params=(Argument(name="a"),))
    cm.declare(Metric(base_name="f", function=lambda a, x: x, params_list=[[1], [7]], inputs={"x": source}))
    report = cm.run()
    assert ended(report) == {"up_1": "computed", "f_1": "computed", "f_7": "failed"}
    assert isinstance(outcome_of(report, "f_7").error, UndeclaredParamsError)
    assert logged(report)["f_7"] == "failed"
    assert ended(cm.run()) == {"up_1": "stored", "f_1": "stored", "f_7": "failed"}
    cm.collect("up", [1, 7])(cm.up.original_function)
    assert ended(cm.run())["f_7"] == "computed"


def test_a_circle_of_inputs(cm: Any, folder: Path) -> None:
    cm.declare(Metric(base_name="a", function=lambda x: x, inputs={"x": Input(metric="b")}))
    cm.declare(Metric(base_name="b", function=lambda x: x, inputs={"x": Input(metric="a")}))
    for ask in (cm.run, cm.plan, cm.a.get_all):
        with pytest.raises(CircularMetricError):
            ask()
    assert not folder.exists()


def test_a_circle_in_code_fails_as_a_metric(cm: Any) -> None:
    cm.collect("a")(lambda: cm.b())
    cm.collect("b")(lambda: cm.a())
    report = cm.run(workers=1)
    assert ended(report) == {"a": "failed", "b": "failed"}
    assert isinstance(outcome_of(report, "a").error, CircularMetricError)


def test_a_value_that_the_storage_refuses(cm: Any) -> None:
    cm.collect("bad")(lambda: {1, 2})
    cm.collect("good")(lambda: 1)
    report = cm.run()
    assert ended(report) == {"bad": "failed", "good": "computed"}
    error = outcome_of(report, "bad").error
    assert isinstance(error, UnstorableError)
    assert error.value == {1, 2}


# --- timeouts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_timeout_needs_workers_that_can_be_stopped(cm: Any, folder: Path, workers: int) -> None:
    calls = declare(cm)
    cm.collect("slow", [1, 2], timeout="1min")(lambda a: a)
    for ask in (cm.run, cm.slow.run):
        with pytest.raises(RunRefusedError, match=r"'slow_1' has a timeout.*executor='processes' or 'dask'"):
            ask(workers=workers)
    cm.workers = workers
    with pytest.raises(RunRefusedError):
        cm.slow.get_all()
    assert not calls
    assert not folder.exists()
    assert ended(cm.run("f"))["f_1"] == "computed", "the others can be run"
    assert cm.slow(1) == 1, "a call has the time it needs"
    with ThreadPoolExecutor(1) as pool, pytest.raises(RunRefusedError, match="executor='ThreadPoolExecutor'"):
        cm.run(executor=pool)


def test_a_timeout_within_another_metric_is_that_ones_matter(cm: Any) -> None:
    cm.collect("slow", [1, 2], timeout="1min")(lambda a: a)
    cm.collect("outer")(lambda: sum(cm.slow.get_all()))
    assert ended(cm.run("outer")) == {"outer": "computed"}
    assert cm.outer() == 3


# --- memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, "100 kB"])
def test_memory_holds_afterwards_what_it_held_before(folder: Path, limit: str | None) -> None:
    cm: Any = ParameterizedDatedCacheManager(
        NpzStorageInterface(folder), verbose=False, workers=2, memory_limit=limit
    )
    declare(cm)
    cm.up(2)
    before = dict(cm.cache)
    cm.run()
    assert dict(cm.cache) == before == {"up_2": 2}
    cm.run(force=True)
    assert dict(cm.cache) == before
    cm.clear_cache()
    cm.run(force=True)
    assert dict(cm.cache) == {}


class Full(NpzStorageInterface):
    """A disk that may be full."""

    full = True

    def stage(self, name: str, data: Any) -> Any:
        if self.full and name.startswith("f"):
            raise OSError(28, "No space left on device")
        return super().stage(name, data)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_value_that_could_not_be_stored_stays_until_it_can(folder: Path, workers: int) -> None:
    cm: Any = ParameterizedDatedCacheManager(Full(folder), verbose=False, workers=workers)
    calls = declare(cm)
    report = cm.run()
    assert ended(report) == {
        "up_1": "computed",
        "up_2": "computed",
        "f_1": "failed",
        "f_2": "failed",
        "g": "computed",
    }
    assert isinstance(outcome_of(report, "f_1").error, OSError)
    assert sorted(cm.cache) == ["f_1", "f_2"]
    assert ended(cm.run())["f_1"] == "failed", "the next run tries again, and computes nothing"
    Full.full = False
    try:
        assert ended(cm.run("f")) == {"f_1": "stored", "f_2": "stored"}
    finally:
        Full.full = True
    assert calls == {"up": 2, "f": 2, "g": 1}
    assert cm.date("f_1")


def test_what_memory_has_is_stored_again_when_its_file_was_taken_away(cm: Any, folder: Path) -> None:
    calls = declare(cm)
    cm.g()
    for file in folder.glob("g*"):
        file.unlink()
    assert ended(cm.run("g")) == {"g": "stored"}
    assert (calls["g"], cm._shelf.exists("g")) == (1, True)


def test_what_memory_has_anew_is_stored_in_place_of_the_old(cm: Any) -> None:
    numbers = iter(range(10))
    cm.collect("g")(lambda: next(numbers))
    cm.g()
    old = cm.date("g")
    cm.compute("g", force=True)
    assert ended(cm.run("g")) == {"g": "stored"}
    assert (cm.load("g", force=True), next(numbers)) == (1, 2)
    assert cm.date("g") > old


def test_values_come_back_read_only(cm: Any) -> None:
    cm.collect("a", [2, 3])(lambda n: np.arange(n))
    cm.run()
    for value in (*cm.a.get_all(), *cm.a.iter_all(), cm.a(2)):
        assert not value.flags.writeable
    cm.read_only = False
    (one, other), (again, _) = cm.a.get_all(), cm.a.get_all()
    one[0] = 7
    assert (again[0], other.flags.writeable) == (0, True)


def test_a_run_within_a_metric(cm: Any) -> None:
    calls = declare(cm)

    def outer() -> str:
        assert ended(cm.run("f")) == dict.fromkeys(("up_1", "up_2", "f_1", "f_2"), "computed")
        return "done"

    cm.collect(outer)
    assert ended(cm.run("outer")) == {"outer": "computed"}
    assert calls["f"] == 2
    cm.collect("circle")(lambda: str(cm.run("circle").outcomes[0].error))
    assert cm.circle().startswith("circle -> circle: ")


# --- where it runs ---------------------------------------------------------------------------------------


def meeting(cm: Any) -> None:
    """Declare two rows that end only if they run at the same time."""
    both = threading.Barrier(2)

    def met(a: int) -> int:
        both.wait(PATIENCE)
        return threading.get_ident()

    cm.collect(params_list=[1, 2])(met)


def test_threads(cm: Any) -> None:
    meeting(cm)
    report = cm.run()
    assert ended(report) == {"met_1": "computed", "met_2": "computed"}
    assert threading.get_ident() not in cm.met.get_all()
    assert len(set(cm.met.get_all())) == 2


def test_threads_end_with_the_run(cm: Any) -> None:
    meeting(cm)
    cm.run()
    for thread in threading.enumerate():
        if thread.name.startswith("smm-"):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_one_worker_is_the_calling_thread(cm: Any) -> None:
    cm.collect("thread", [1, 2])(lambda a: threading.get_ident())
    report = cm.run(workers=1)
    assert set(cm.thread.get_all()) == {threading.get_ident()}
    assert {outcome.worker.count(":") for outcome in report.outcomes} == {1}


def test_the_managers_own_way(folder: Path) -> None:
    with ThreadPoolExecutor(2, thread_name_prefix="own") as pool:
        cm: Any = ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False, executor=pool)
        meeting(cm)
        report = cm.run()
        assert (report.executor, report.workers) == ("ThreadPoolExecutor", 2)
        assert all(":own" in outcome.worker for outcome in report.outcomes)
        other = cm.run(executor="threads", workers=5, force=True)
        assert (other.executor, other.workers) == ("threads", 5)
        assert pool.submit(int).result() == 0, "it stays open"
    assert ended(cm.run(force=False)) == {"met_1": "stored", "met_2": "stored"}


class Here(Executor):
    """Does what it is given at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - as executors do
            done.set_exception(error)
        return done


class Elsewhere(Here):
    """Does it as another process would, without this one's managers; everything goes to and fro as bytes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        def away() -> Any:
            function, given, named = pickle.loads(pickle.dumps((fn, args, kwargs)))
            with mock.patch.dict(smm._worker._shared, clear=True):
                return pickle.loads(pickle.dumps(function(*given, **named)))

        return super().submit(away)


def test_an_executor_that_works_in_the_calling_thread(cm: Any) -> None:
    declare(cm)
    report = cm.run(executor=Here())
    assert set(ended(report).values()) == {"computed"}
    assert report.executor == "Here"
    assert cm.cache == {}


@pytest.mark.parametrize("make", [Here, lambda: ThreadPoolExecutor(2)])
def test_a_circle_is_seen_through_an_executor(cm: Any, make: Callable[[], Executor]) -> None:
    with make() as executor:

        def a() -> None:
            (outcome,) = cm.run("b", executor=executor).outcomes
            raise outcome.error

        cm.collect(a)
        cm.collect("b")(lambda: cm.a())
        with pytest.raises(CircularMetricError, match="a -> b -> a"):
            cm.a()


def test_an_executor_that_was_shut_down(cm: Any) -> None:
    declare(cm)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(Exception, match="shutdown"):
        cm.run(executor=pool)


def test_a_run_in_another_thread(cm: Any) -> None:
    declare(cm)
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(cm.run).result(PATIENCE)
    assert len(report.of("computed")) == 5


def test_two_runs_at_the_same_time_compute_each_metric_once(cm: Any) -> None:
    calls = declare(cm)
    with ThreadPoolExecutor(2) as pool:
        reports = [each.result(PATIENCE) for each in [pool.submit(cm.run), pool.submit(cm.run)]]
    assert calls == {"up": 2, "f": 2, "g": 1}
    assert sum(len(report.of("computed")) for report in reports) == 5


def test_a_cluster_is_not_started_for_nothing(cm: Any) -> None:
    pytest.importorskip("distributed")
    declare(cm)
    cm.run()
    with mock.patch("smm._dask.engine", side_effect=AssertionError):
        report = cm.run(executor="dask", workers=3)
        assert set(ended(report).values()) == {"stored"}
        assert (report.executor, report.workers) == ("dask", 3)
        with pytest.raises(AssertionError):
            cm.run(executor="dask", force=True)


# --- workers that do not share memory --------------------------------------------------------------------


def third(a: int) -> float:
    return 3 / a


def with_upstream(a: int, x: float) -> float:
    return a + x


def unstorable() -> Any:
    return lambda: 1


class OddError(Exception):
    """Pickles, and cannot be made again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


def odd() -> None:
    raise OddError(1, 2)


def locked() -> None:
    error = ValueError("locked")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


def test_workers_elsewhere_store_what_they_compute(cm: Any) -> None:
    cm.collect(params_list=[1, 0, 3])(third)
    source = Input(metric="third", params=(Argument(name="a"),))
    cm.declare(
        Metric(base_name="sum", function=with_upstream, params_list=[[1], [0], [3]], inputs={"x": source})
    )
    report = cm.run(executor=Elsewhere())
    assert ended(report) == {
        "third_1": "computed",
        "third_0": "failed",
        "third_3": "computed",
        "sum_1": "computed",
        "sum_0": "failed",
        "sum_3": "computed",
    }
    assert isinstance(outcome_of(report, "third_0").error, ZeroDivisionError)
    assert (outcome_of(report, "third_0").where or "").startswith(__file__)
    assert cm.cache == {}
    assert cm.sum(3) == 4.0
    assert ended(cm.run(executor=Elsewhere()))["third_0"] == "skipped"


def test_errors_that_cannot_be_sent(cm: Any) -> None:
    for function in (odd, locked, unstorable):
        cm.collect(function)
    report = cm.run(executor=Elsewhere())
    error = outcome_of(report, "locked").error
    assert isinstance(error, WorkerError)
    assert (error.kind, error.text) == ("ValueError", "locked")
    assert "while computing metric 'locked'" in error.__notes__
    # As itself, where a library such as dask teaches pickle more than it knows.
    assert isinstance(outcome_of(report, "odd").error, WorkerError | OddError)
    refused = outcome_of(report, "unstorable").error
    assert isinstance(refused, UnstorableError)
    assert refused.value is None, "it stays where it was computed"


def test_rows_that_calls_have_added_travel(folder: Path) -> None:
    cm: Any = ParameterizedDatedCacheManager(
        NpzStorageInterface(folder), verbose=False, dynamic_metric_creation=True
    )
    cm.collect(third)
    cm.rows_of("third").find((3,), {})
    assert ended(cm.run(executor=Elsewhere())) == {"third_3": "computed"}


def test_a_storage_that_the_others_do_not_see() -> None:
    cm: Any = ParameterizedDatedCacheManager(DictStorage(), verbose=False)
    cm.collect(params_list=[1, 2])(third)
    with pytest.raises(RunRefusedError, match=r"'third_1'.*a DictStorage of its own.*executor='threads'"):
        cm.run(executor=Elsewhere())


# --- storages --------------------------------------------------------------------------------------------


def test_a_storage_with_three_methods(tmp_path: Path) -> None:
    for storage in (DictStorage(), NumpyFiles(tmp_path)):
        cm: Any = ParameterizedDatedCacheManager(storage, verbose=False, workers=2)
        calls = declare(cm)
        report = cm.run()
        assert (set(ended(report).values()), report.log) == ({"computed"}, None)
        assert set(ended(cm.run()).values()) == {"stored"}
        assert calls == {"up": 2, "f": 2, "g": 1}
        assert cm.cache == {}


def test_a_storage_with_three_methods_that_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Named(NumpyFiles):
        def __init__(self, folder: str) -> None:
            super().__init__(folder)
            self.metrics_dir = folder

    monkeypatch.chdir(tmp_path)
    cm: Any = ParameterizedDatedCacheManager(Named("results"), verbose=False, workers=2)
    cm.collect(params_list=[1, 0])(third)
    assert ended(cm.run()) == {"third_1": "computed", "third_0": "failed"}
    report = cm.run()
    assert ended(report) == {"third_1": "stored", "third_0": "skipped"}
    (_,) = (tmp_path / "results" / ".smm" / "runs").iterdir()
    assert cm._place == str(tmp_path / "results")


def test_a_storage_in_memory() -> None:
    cm: Any = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False, workers=2)
    cm.collect(params_list=[1, 0])(third)
    with pytest.raises(TravelError, match="MemoryStorageInterface"):
        cm.run(executor="processes")
    assert cm.storage_interface.names() == set()
    report = cm.run()
    assert (ended(report), report.log) == ({"third_1": "computed", "third_0": "failed"}, None)
    assert ended(cm.run()) == {"third_1": "stored", "third_0": "failed"}, "nobody remembers what failed"


# --- get_all ---------------------------------------------------------------------------------------------


def test_get_all_computes_in_threads(cm: Any) -> None:
    meeting(cm)
    assert len(set(cm.met.get_all())) == 2
    assert sorted(cm.cache) == ["met_1", "met_2"]


def test_get_all_raises_the_first_failing_rows_own_exception(cm: Any) -> None:
    errors = {0: ValueError("of 0"), 3: KeyError("of 3")}
    both = threading.Barrier(2)

    def f(a: int) -> int:
        if a in errors:
            both.wait(PATIENCE)
            raise errors[a]
        return a

    cm.collect(params_list=[5, 0, 3, 7])(f)
    with pytest.raises(ValueError, match="of 0") as caught:
        cm.f.get_all()
    assert caught.value is errors[0]
    assert caught.value.__notes__ == [
        "while computing metric 'f_0'",
        "2 of 4 rows of 'f' failed; the others are stored",
    ]
    assert sorted(name for name in cm if cm._shelf.exists(name)) == ["f_5", "f_7"]
    with pytest.raises(ValueError, match="of 0"):
        cm.f.get_all()  # what failed is tried again


def test_get_all_raises_what_failed_upstream(cm: Any) -> None:
    error = ValueError("up")

    def up(a: int) -> int:
        raise error

    cm.collect(params_list=[1])(up)
    source = Input(metric="up", params=(Argument(name="a"),))
    cm.declare(Metric(base_name="f", function=lambda a, x: x, params_list=[[1]], inputs={"x": source}))
    with pytest.raises(ValueError, match="up") as caught:
        cm.f.get_all()
    assert caught.value is error


def test_get_all_within_a_metric_stays_in_its_thread(cm: Any) -> None:
    cm.collect("inner", [1, 2, 3])(lambda a: threading.get_ident())
    cm.collect("outer")(lambda: [threading.get_ident(), *cm.inner.get_all()])
    assert len(set(cm.outer())) == 1
    cm.delete("outer")
    for name in cm.inner.names():
        cm.delete(name)
    assert ended(cm.run("outer")) == {"outer": "computed"}
    (thread,) = set(cm.outer())
    assert thread != 0


def test_get_all_within_a_metric_sees_circles(cm: Any) -> None:
    cm.collect("inner", [1, 2])(lambda a: cm.outer())
    cm.collect("outer")(lambda: cm.inner.get_all())
    with pytest.raises(CircularMetricError, match=r"outer -> inner_1 -> outer"):
        cm.outer()
    cm.collect("selfish", [1, 2])(lambda a: cm.selfish.get_all())
    with pytest.raises(CircularMetricError):
        cm.selfish(1)


def test_get_all_keeps_no_log(cm: Any, folder: Path) -> None:
    cm.collect(params_list=[1, 2])(third)
    assert cm.third.get_all() == [3.0, 1.5]
    assert not (folder / ".smm" / "runs").exists()


def test_get_all_computes_again(cm: Any) -> None:
    calls = declare(cm)
    assert cm.f.get_all() == [11, 22]
    assert cm.f.get_all() == [11, 22]
    assert calls == {"up": 2, "f": 2}
    assert cm.f.get_all(use_stored=False) == [11, 22]
    assert calls == {"up": 2, "f": 4}


# --- iter_all --------------------------------------------------------------------------------------------


def test_iter_all_computes_each_when_it_is_asked_for(cm: Any) -> None:
    calls: list[int] = []

    def f(a: int) -> int:
        calls.append(a)
        return a

    cm.collect(params_list=[1, 2, 1, 3])(f)
    values = cm.f.iter_all()
    assert calls == []
    assert (next(values), calls) == (1, [1])
    assert cm.cache == {}
    assert (list(values), calls) == ([2, 1, 3], [1, 2, 3])
    assert cm.cache == {}
    assert (list(cm.f.iter_all(use_stored=False)), calls) == ([1, 2, 1, 3], [1, 2, 3, 1, 2, 3])


def test_iter_all_leaves_in_memory_what_is_there(cm: Any) -> None:
    declare(cm)
    cm.f(1)
    held = set(cm.cache)
    for value in cm.f.iter_all():
        assert set(cm.cache) == held
        if value == 11:
            cm.g()
            held |= {"g"}
    assert set(cm.cache) == held == {"f_1", "up_1", "g"}


def test_iter_all_leaves_memory_alone_when_a_row_fails(cm: Any) -> None:
    cm.collect("up", [0, 1])(lambda a: a)
    source = Input(metric="up", params=(Argument(name="a"),))
    cm.declare(
        Metric(base_name="f", function=lambda a, x: 1 / x, params_list=[[1], [0]], inputs={"x": source})
    )
    values = cm.f.iter_all()
    assert next(values) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(values)
    assert cm.cache == {}


def test_tables_leave_in_memory_what_is_there(cm: Any) -> None:
    declare(cm)
    cm.up(2)
    assert cm.f.to_dict() == {}
    assert cm.f.to_dict(compute=True) == {"f_1": 11, "f_2": 22}
    assert set(cm.cache) == {"up_2"}
    assert cm.f.to_dict() == {"f_1": 11, "f_2": 22}
    assert set(cm.cache) == {"up_2"}
    cm.collect(params_list=[1, 0])(third)
    with pytest.raises(ZeroDivisionError):
        cm.third.to_dict(compute=True)
    assert set(cm.cache) == {"up_2"}


# --- plans -----------------------------------------------------------------------------------------------


def test_a_plan_computes_nothing(cm: Any, folder: Path) -> None:
    calls = declare(cm)
    forecast = cm.plan("f")
    assert forecast.plan.compute == ("up_1", "f_1", "up_2", "f_2"), "a value is read soon after it was made"
    assert [(metric.base_name, dict(metric.reasons)) for metric in forecast.metrics] == [
        ("up", {Reason(kind="needed"): 2}),
        ("f", {Reason(kind="missing"): 2}),
    ]
    assert (forecast.workers, forecast.seconds, forecast.size) == (2, None, None)
    assert set(forecast.unknown) == {"up", "f"}
    assert not calls
    assert not folder.exists()
    assert cm.cache == {}


def test_a_plan_knows_what_rows_took(cm: Any) -> None:
    declare(cm)
    cm.run(["f_1", "g"])
    forecast = cm.plan(force=True, workers=4)
    assert forecast.workers == 4
    f = next(metric for metric in forecast.metrics if metric.base_name == "f")
    assert f.pace.seconds == cm.record("f_1").duration_seconds
    assert f.pace.size == cm.record("f_1").data.size
    assert f.reasons == {Reason(kind="forced"): 1, Reason(kind="missing"): 1}
    assert forecast.unknown == ()
    assert forecast.size is not None


def test_a_plan_says_what_is_skipped(cm: Any) -> None:
    cm.collect(params_list=[1, 0])(third)
    cm.run()
    (metric,) = cm.plan().metrics
    assert (metric.rows, metric.stored, metric.skipped) == (0, 1, 1)
    (metric,) = cm.plan(retry_failed=True).metrics
    assert (metric.rows, metric.stored, metric.skipped) == (1, 1, 0)


@pytest.mark.parametrize(
    ("executor", "workers", "count"),
    [("threads", 3, 3), ("processes", None, 2), ("dask", 5, 5), ("tcp://nowhere:1", None, 2)],
)
def test_a_plan_starts_no_workers(cm: Any, executor: str, workers: int | None, count: int) -> None:
    declare(cm)
    assert cm.plan(executor=executor, workers=workers).workers == count


# --- what is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_of_a_manager_that_talks(folder: Path, capfd: pytest.CaptureFixture[str], workers: int) -> None:
    cm: Any = ParameterizedDatedCacheManager(NpzStorageInterface(folder), workers=workers)
    declare(cm)
    cm.collect("reader")(lambda: cm.g() + "!")
    cm.run()
    out, err = capfd.readouterr()
    assert out == "", "how far it is takes the place of a line for each action"
    assert err.splitlines()[0].startswith("6 to compute, 0 already stored")
    assert len(err.splitlines()) == 7
    cm.run(force=True, progress=False)
    assert capfd.readouterr() == ("", "")
    assert cm.g() == "g"
    assert capfd.readouterr().out.startswith("Load g"), "afterwards it talks again"


def test_a_quiet_manager_may_tell_how_far_it_is(cm: Any, capfd: pytest.CaptureFixture[str]) -> None:
    declare(cm)
    cm.run("g", progress=True)
    out, err = capfd.readouterr()
    assert (out, err.splitlines()[1][:9]) == ("", "[1/1] g: ")


# --- interrupted -----------------------------------------------------------------------------------------


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers are as they were."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_keyboard_interrupt_carries_the_report(cm: Any, signals: None, workers: int) -> None:
    def f(a: int) -> int:
        if a == 3:
            raise KeyboardInterrupt
        return a

    cm.collect(params_list=[1, 2, 3, 4])(f)
    with pytest.raises(RunInterrupted, match="run again for the rest") as caught:
        cm.run(workers=workers)
    report = caught.value.report
    assert report.interrupted
    assert {"f_1": "computed", "f_2": "computed"}.items() <= ended(report).items()
    assert report.left == 4 - len(report.outcomes) > 0
    assert logged(report) == ended(report)
    assert cm.cache == {}
    assert isinstance(caught.value, KeyboardInterrupt)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_the_running_row_end(
    cm: Any, signals: None, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def f(a: int) -> int:
        if a == 2:
            signal.raise_signal(number)
        return a

    cm.collect(params_list=[1, 2, 3])(f)
    with pytest.raises(RunInterrupted) as caught:
        cm.run(workers=1)
    assert ended(caught.value.report) == {"f_1": "computed", "f_2": "computed"}
    assert caught.value.report.left == 1
    assert "Ctrl-C again stops at once" in capfd.readouterr().err
    assert ended(cm.run()) == {"f_1": "stored", "f_2": "stored", "f_3": "computed"}


def test_the_second_signal_stops_at_once(cm: Any, signals: None) -> None:
    def f(a: int) -> int:
        if a == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return a

    cm.collect(params_list=[1, 2, 3])(f)
    with pytest.raises(RunInterrupted) as caught:
        cm.run(workers=1)
    assert ended(caught.value.report) == {"f_1": "computed"}
    assert not cm.exists("f_2")


def test_get_all_is_interrupted_with_a_report(cm: Any, signals: None) -> None:
    def f(a: int) -> int:
        raise KeyboardInterrupt

    cm.collect(params_list=[1, 2])(f)
    with pytest.raises(RunInterrupted) as caught:
        cm.f.get_all()
    assert caught.value.report.left == 2


def test_an_interrupt_within_a_metric_ends_the_run_around_it(cm: Any, signals: None) -> None:
    cm.collect("inner", [1, 2])(lambda a: signal.raise_signal(signal.SIGINT) if a == 1 else 2)
    cm.collect("outer")(lambda: cm.inner.get_all())
    cm.collect("never")(lambda: 1)
    with pytest.raises(RunInterrupted) as caught:
        cm.run(["outer", "never"], workers=1)
    assert ended(caught.value.report) == {"outer": "computed"}, "the first lets what is running end"
    assert caught.value.report.left == 1


def test_seconds_are_of_the_clock(cm: Any) -> None:
    declare(cm)
    started = time.perf_counter()
    report = cm.run()
    assert 0 < report.seconds <= time.perf_counter() - started
    assert sum(outcome.seconds for outcome in report.outcomes) <= 2 * report.seconds
