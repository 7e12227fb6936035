"""Runs with processes of this machine and with executors handed in: real kills, signals, errors, memory."""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from types import FrameType
from typing import Any

import pytest

from smm import MemoryStorageInterface, NpzStorageInterface, ParameterizedDatedCacheManager
from smm._engines import Answer
from smm._worker import Batch
from smm.errors import (
    RunRefusedError,
    TimedOutError,
    TravelError,
    UnstorableError,
    WorkerDiedError,
    WorkersLostError,
)
from smm.run import Outcome, RunReport, plan
from tests.pages import _copy_configs
from tests.projects import project
from tests.runnable import Manager, Scripted, scheduled
from tests.running import LONG, MANAGER, Script, Stage, is_true_soon, stage, wait_until_gone

__all__ = ["project", "stage"]


def manager_of(stage: Stage, text: str) -> Any:
    """The manager of a module that begins as all do."""
    return stage.manager(MANAGER + text)


def run(manager: Any, **how: Any) -> RunReport:
    report = manager.run(**{"executor": "processes", "workers": 2, **how})
    assert isinstance(report, RunReport)
    return report


def ended(report: RunReport) -> dict[str, str]:
    return {outcome.name: outcome.status for outcome in report.outcomes}


def outcome_of(report: RunReport, name: str) -> Outcome:
    return next(outcome for outcome in report.outcomes if outcome.name == name)


# --- the same values as a serial run's -------------------------------------------------------------------

VALUES = """
    @CM.collect
    def base():
        return {"a": np.linspace(0, 1, 100), "b": [1, 2.5, None, "text", b"bytes"], "c": (True, 1j)}

    @CM.collect(params_list=[[n, kind] for n in (0, 1, 7) for kind in ("f8", ">i4", "M8[D]", "c8")])
    def arrays(n, kind):
        return np.arange(n * 3).astype("i8").astype(kind).reshape(n, 3)

    @CM.collect(params_list=[0, 1, 2, 3])
    def above(n):
        return CM.base()["a"] * n + (CM.above(n - 1) if n else 0)
"""

SCRIPT = f"""{MANAGER}{VALUES}
    if __name__ == "__main__":
        print(CM.run(**eval(sys.argv[1])))
"""

YAML = """
    storage: {type: npz, metrics_dir: results}
    metrics:
      base: {function: plain.base}
      arrays: {function: plain.arrays, params_list: [{grid: {n: [0, 1, 7], kind: [f8, ">i4", c8]}}]}
      above: {function: plain.above, inputs: {base: base}, params_list: [0, 1, 2, 3]}
"""

PLAIN = """
    import numpy as np

    def base():
        return {"a": np.linspace(0, 1, 100), "b": [1, 2.5, None, "text"]}

    def arrays(n, kind):
        return np.arange(n * 3).astype(kind).reshape(n, 3)

    def above(n, *, base):
        return base["a"] * n
"""


def both_ways(stage: Stage, *arguments: str, ways: tuple[list[str], list[str]]) -> None:
    """Run serially, set the results aside, run with processes, and compare."""
    results = []
    for way in ways:
        code, out, err = stage.done(*arguments, *way)
        assert code == 0, out + err
        results.append(stage.stored())
        (stage.folder / "results").rename(stage.folder / f"results-{len(results)}")
    serial, processes = results
    assert len(serial) > 10
    assert processes == serial


CLI_WAYS = (["-j", "1"], ["--executor", "processes", "-j", "2"])


def test_a_module_stores_what_a_serial_run_stores(stage: Stage) -> None:
    stage.write("metrics_here.py", MANAGER + VALUES)
    both_ways(stage, "-m", "smm", "run", "metrics_here:CM", ways=CLI_WAYS)


def test_a_script_stores_what_a_serial_run_stores(stage: Stage) -> None:
    script = stage.write("script.py", SCRIPT)
    ways = ["dict(workers=1)"], ["dict(executor='processes', workers=2)"]
    both_ways(stage, str(script), ways=ways)


def test_a_configuration_stores_what_a_serial_run_stores(stage: Stage) -> None:
    stage.write("plain.py", PLAIN)
    stage.write("metrics.yaml", YAML)
    both_ways(stage, "-m", "smm", "run", "metrics.yaml", ways=CLI_WAYS)


def test_the_co2_example_stores_what_a_serial_run_stores(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stage.folder)
    _copy_configs()
    target = "configs/co2/metrics.yaml"
    where = ["--set", f"storage.metrics_dir={stage.folder / 'results'}"]
    both_ways(stage, "-m", "smm", "run", target, *where, ways=CLI_WAYS)


def test_a_package_run_by_its_name(stage: Stage) -> None:
    """A module run with -m is a script that workers can run again; `__main__.py` is not run by them."""
    stage.write("package/__init__.py", "")
    stage.write("package/script.py", SCRIPT)
    code, _, err = stage.done("-m", "package.script", "dict(executor='processes', workers=2)")
    assert code == 0, err
    stage.write("package/__main__.py", SCRIPT)
    code, _, err = stage.done("-m", "package", "dict(executor='processes', workers=2, force=True)")
    assert code == 1
    assert "TravelError" in err
    assert "__main__.py" in err
    assert "move the function to a module" in err.splitlines()[-1]


# --- who cannot go ---------------------------------------------------------------------------------------


def test_a_script_without_guard_is_refused_and_ends(stage: Stage) -> None:
    text = """
    note("imported")

    @CM.collect
    def one():
        return 1

    CM.run(executor="processes", workers=2)
    """
    code, _, err = stage.done(str(stage.write("script.py", MANAGER + text)))
    assert code == 1
    assert err.splitlines()[-1].startswith("smm.errors.RunRefusedError: cannot run with executor='processes'")
    assert "if __name__ == '__main__':" in err.splitlines()[-1]
    assert "PicklingError" not in err, "what the workers say is no riddle"
    assert stage.noted()["imported"] <= 3, "one process, and its two workers"
    assert stage.stored() == {}


PROMPT = f"""{MANAGER}
    @CM.collect
    def one():
        return 1

    CM.run(executor="processes", workers=2)
"""


def test_functions_of_a_prompt_are_refused(stage: Stage) -> None:
    code, _, err = stage.done("-c", Stage.dedented(PROMPT))
    assert code == 1
    assert "TravelError" in err
    last = err.splitlines()[-1]
    assert "'one' is defined in a notebook, at a prompt" in last
    assert "executor='threads' or 'dask'" in last


def test_a_prompt_may_run_functions_of_modules(stage: Stage) -> None:
    stage.write("plain.py", "def one(a): return a + 1")
    text = """
    import plain
    CM.collect(params_list=[1, 2, 3])(plain.one)
    print(CM.run(executor="processes", workers=2))
    """
    code, out, err = stage.done("-c", Stage.dedented(MANAGER + text))
    assert code == 0, err
    assert out.startswith("<RunReport: 3 computed")


UNDER_GUARD = """
    import sys
    import smm
    import plain
    from noting import *

    def here(a):
        return a

    if __name__ == "__main__":
        CM = smm.ParameterizedDatedCacheManager(smm.NpzStorageInterface(HERE / "results"), verbose=False)
        CM.collect(params_list=[1, 2, 3])({function})
        print(CM.run(executor="processes", workers=2))
"""


def test_a_script_may_make_its_manager_under_the_guard(stage: Stage) -> None:
    stage.write("plain.py", "def one(a): return a + 1")
    code, out, err = stage.done(str(stage.write("script.py", UNDER_GUARD.format(function="plain.one"))))
    assert (code, out[:23]) == (0, "<RunReport: 3 computed,"), err
    code, _, err = stage.done(str(stage.write("script.py", UNDER_GUARD.format(function="here"))))
    assert code == 1
    assert "__main__ has no 'CM' when it is imported; make that outside of any `if`" in err.splitlines()[-1]


def test_a_manager_made_in_a_function_goes_by_value(stage: Stage) -> None:
    text = """
    def two(): return 2
    def plain(a, CM): return a * CM.two()
    """
    manager_of(stage, text)
    module = sys.modules["metrics_here"]
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(stage.folder / "results"), verbose=False)
    cm.collect("row", params_list=[1, 2, 3])(module.plain)
    cm.set_functions_dict({"three": module.two})
    cm.collect(module.two)
    assert not run(cm).of("failed")
    assert len(stage.stored()) == 5
    assert [cm.load(f"row_{n}") for n in (1, 2, 3)] == [2, 4, 6]


def test_functions_that_no_module_has_are_refused(stage: Stage) -> None:
    cm = ParameterizedDatedCacheManager(NpzStorageInterface(stage.folder / "results"), verbose=False)
    cm.collect("local", params_list=[1])(lambda a: a)
    with pytest.raises(TravelError, match=r"lambda.*in modules too, or use executor='threads'"):
        run(cm)


def test_results_in_memory_are_refused(stage: Stage) -> None:
    cm = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    cm.collect("two", params_list=[1])(len)
    with pytest.raises(TravelError, match="MemoryStorageInterface"):
        run(cm)


def test_a_worker_that_would_store_elsewhere_is_refused(stage: Stage) -> None:
    text = """
    CM = smm.DatedCacheManager(smm.NpzStorageInterface(HERE / f"results-{os.getpid()}"), verbose=False)

    @CM.collect
    def one():
        note("one")
        return 1
    """
    with pytest.raises(RunRefusedError, match=r"a worker would store in .*, this process in .*absolute"):
        run(manager_of(stage, text))
    assert stage.noted() == {}


def test_metrics_that_workers_do_not_declare_are_refused(stage: Stage) -> None:
    text = """
    def one(): note("one"); return 1

    if __name__ == "__main__":
        CM.collect(one)
        CM.run(executor="processes", workers=2)
    """
    code, _, err = stage.done(str(stage.write("script.py", MANAGER + text)))
    assert code == 1
    assert "a worker's manager does not declare 'one'" in err.splitlines()[-1]
    assert stage.noted() == {}


def test_a_module_that_workers_cannot_import_is_refused(stage: Stage) -> None:
    text = """
    if os.environ.get("SMM_TEST_PARENT") != str(os.getpid()):
        raise ValueError("only once")

    @CM.collect
    def one(): return 1
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMM_TEST_PARENT", str(os.getpid()))
        cm = manager_of(stage, text)
        with pytest.raises(RunRefusedError, match=r"ValueError: only once \(.*metrics_here.py:10\)"):
            run(cm)


def test_arguments_that_cannot_be_pickled_are_refused(stage: Stage) -> None:
    text = """
    import threading
    CM = smm.ParameterizedDatedCacheManager(CM.storage_interface, verbose=False, dynamic_metric_creation=True)

    @CM.collect(ignore=["lock"])
    def row(a, lock=None):
        return a
    """
    cm = manager_of(stage, text)
    cm.row(1, sys.modules["metrics_here"].threading.Lock())
    cm.delete("row_1")
    for executor in ("processes", ProcessPoolExecutor(1, mp_context=get_context("spawn"))):
        with pytest.raises(TravelError, match=r"'row_1'.*cannot pickle '_thread.lock'.*params_list"):
            run(cm, executor=executor)
        if isinstance(executor, Executor):
            executor.shutdown()


def test_rows_that_calls_have_added_are_computed(stage: Stage) -> None:
    text = """
    import enum
    CM = smm.ParameterizedDatedCacheManager(CM.storage_interface, verbose=False, dynamic_metric_creation=True)

    class Colour(enum.Enum):
        RED = 1

    @CM.collect
    def row(a, b=0):
        return [str(a), b]
    """
    cm = manager_of(stage, text)
    module = sys.modules["metrics_here"]
    calls = [(1, 2), (module.Colour.RED,), ((1, "a", None),)]
    for call in calls:
        cm.row(*call)
        cm.delete(cm.row.name(*call))
    assert list(ended(run(cm)).values()) == ["computed"] * 3
    assert cm.load(cm.row.name(module.Colour.RED)) == ["Colour.RED", 0]


# --- workers that die ------------------------------------------------------------------------------------


def test_a_row_whose_worker_is_killed_is_tried_again(stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[[n] for n in range(12)])
    def row(n):
        note(n)
        if n == 5 and once("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full(3, n)
    """
    report = run(manager_of(stage, text))
    assert set(ended(report).values()) == {"computed"}
    assert stage.noted() == {str(n): 2 if n == 5 else 1 for n in range(12)}
    assert len(stage.stored()) == 12


def test_a_worker_that_is_killed_leaves_processes_behind(stage: Stage) -> None:
    """They hold the pipes open by whose end the pool would know."""
    text = """
    @CM.collect(params_list=[0, 1, 2])
    def row(n):
        note(n)
        if n == 1 and once("kill"):
            child = os.fork()
            if not child:
                block()
            say(child)
            os.kill(os.getpid(), signal.SIGKILL)
        return n
    """
    report = run(manager_of(stage, text))
    assert set(ended(report).values()) == {"computed"}
    assert stage.noted() == {"0": 1, "1": 2, "2": 1}
    wait_until_gone(*map(int, stage.ear.hears()))


def test_a_worker_that_is_killed_within_its_answer(stage: Stage) -> None:
    text = """
    from multiprocessing.connection import Connection

    def half(self, buffer, *_):
        os.write(self.fileno(), bytes(buffer)[:len(buffer) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    @CM.collect(params_list=[0, 1, 2])
    def row(n):
        note(n)
        if n == 1:
            Connection._send = half
        return n
    """
    report = run(manager_of(stage, text))
    assert set(ended(report).values()) == {"computed"}
    assert stage.noted() == {"0": 1, "1": 1, "2": 1}, "it had been stored"


DIES_AT_IMPORT = """
    import multiprocessing
    if {where} and once("kill"):
        if not os.fork():
            block()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_dies_while_it_starts_ends_the_run(stage: Stage) -> None:
    text = """
    @CM.collect
    def one():
        return 1
    """
    cm = manager_of(stage, DIES_AT_IMPORT.format(where="multiprocessing.parent_process()") + text)
    with pytest.raises(RunRefusedError, match="a worker process ended while it started"):
        run(cm)
    assert ended(run(cm)) == {"one": "computed"}


def test_a_row_whose_own_process_dies_while_it_starts_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    @CM.collect(params_list=[1], timeout="1h")
    def row(n):
        note(n)
        return n
    """
    # Neither this process nor a worker of multiprocessing.
    where = "os.environ['SMM_TEST_PARENT'] != str(os.getpid()) and not multiprocessing.parent_process()"
    monkeypatch.setenv("SMM_TEST_PARENT", str(os.getpid()))
    cm = manager_of(stage, DIES_AT_IMPORT.format(where=where) + text)
    with spawned() as executor:
        assert ended(run(cm, executor=executor)) == {"row_1": "computed"}
    assert (stage.folder / "once-kill").exists()
    assert stage.noted() == {"1": 1}


def test_a_stale_row_whose_worker_is_killed_is_computed_again(stage: Stage) -> None:
    """What is stored of it is not what the worker was to store."""
    text = """
    CM = smm.ParameterizedDatedCacheManager(CM.storage_interface, verbose=False, on_stale="recompute")
    FACTOR = 1

    @CM.collect(params_list=[0, 1, 2])
    def row(n):
        if n == 1 and FACTOR > 1 and once("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return n * FACTOR
    """
    run(manager_of(stage, text))
    del sys.modules["metrics_here"]
    cm = manager_of(stage, text.replace("FACTOR = 1", "FACTOR = 10"))
    assert ended(run(cm)) == dict.fromkeys(("row_0", "row_1", "row_2"), "computed")
    assert [cm.load(f"row_{n}") for n in range(3)] == [0, 10, 20]


def test_a_neighbour_of_a_killed_worker_goes_on(stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[0, 1])
    def row(n):
        note(n)
        if n == 0:
            wait()
        elif once("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            say("again")
        return os.getpid()
    """
    cm = manager_of(stage, text)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run, cm)
        assert stage.ear.hears() == ["again"]
        stage.gate.open()
        report = running.result(LONG)
    assert ended(report) == {"row_0": "computed", "row_1": "computed"}
    assert stage.noted() == {"0": 1, "1": 2}


def test_a_row_that_kills_every_worker_has_failed(stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[[n] for n in range(6)])
    def row(n):
        note(n)
        print("metric says", n)
        os.system("echo so does what it starts")
        if n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    @CM.collect
    def other():
        return 1
    """
    stage.write("metrics_here.py", MANAGER + text)
    code, out, err = stage.done("-m", "smm", "run", "metrics_here:CM", *CLI_WAYS[1], "--json")
    assert code == 1
    found = json.loads(out)
    assert (found["computed"], found["failed"], found["left"]) == (6, 1, 0)
    (failed,) = [metric for metric in found["metrics"] if metric["status"] == "failed"]
    assert (failed["name"], failed["error"]["type"]) == ("row_2", "WorkerDiedError")
    assert (found["executor"], found["workers"]) == ("processes", 2)
    # Once more, if at first it was not alone in its batch.
    assert stage.noted().pop("2") in (3, 4)
    assert {n: count for n, count in stage.noted().items() if n != "2"} == dict.fromkeys("01345", 1)
    assert err.count("so does what it starts") == sum(stage.noted().values())


def test_workers_that_cannot_be_replaced_end_the_run(stage: Stage) -> None:
    """As when a module is edited during a run, and has a mistake in it."""
    text = """
    if (HERE / "edited").exists():
        raise ValueError("a mistake")

    @CM.collect(params_list=[[n] for n in range(4)])
    def row(n):
        if n == 1 and once("kill"):
            (HERE / "edited").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return n
    """
    cm = manager_of(stage, text)
    with pytest.raises(
        WorkersLostError, match=r"ValueError: a mistake .*; .* run again for the rest"
    ) as caught:
        run(cm, workers=1, executor="processes")
    assert caught.value.executor == "processes"
    assert set(stage.stored()) == {"row_0"}
    (stage.folder / "edited").unlink()
    report = run(cm, workers=1)
    assert ended(report)["row_3"] == "computed", "the loss of the workers is not held against the rows"


def test_what_a_metric_starts_hears_signals(stage: Stage) -> None:
    text = """
    import multiprocessing, subprocess

    def square(n):
        return n * n

    @CM.collect
    def server():
        process = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        process.terminate()
        return process.wait()

    @CM.collect(params_list=["spawn", "forkserver"])
    def pool(how):
        with multiprocessing.get_context(how).Pool(1) as pool:
            return pool.map(square, [1, 2, 3])
    """
    report = run(manager_of(stage, text))
    assert set(ended(report).values()) == {"computed"}, report.outcomes


# --- time-outs and retries --------------------------------------------------------------------------------

STUCK = """
    @CM.collect(params_list=[1], timeout="300ms", retries=1)
    def stuck(n):
        block()

    @CM.collect(params_list=[1, 2], timeout="1h")
    def quick(n):
        note("quick")
        return n
"""


def spawned() -> Executor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


def forked() -> Executor:
    return ProcessPoolExecutor(2, mp_context=get_context("fork"))


def lokys() -> Executor:
    executor: Executor = importlib.import_module("loky").get_reusable_executor(max_workers=2)
    return executor


def threads() -> Executor:
    return ThreadPoolExecutor(2)


# The warning is right about other code that forks a process with threads; these workers hold no lock.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.parametrize(
    "executor",
    [
        "processes",
        spawned,
        pytest.param(forked, marks=[forks, pytest.mark.slow]),
        pytest.param(lokys, marks=pytest.mark.slow),
    ],
)
def test_rows_that_take_too_long_are_stopped(stage: Stage, executor: str | Callable[[], Executor]) -> None:
    cm = manager_of(stage, STUCK)
    made = executor if isinstance(executor, str) else executor()
    report = run(cm, executor=made)
    if isinstance(made, Executor):
        made.shutdown()
    assert ended(report) == {"stuck_1": "failed", "quick_1": "computed", "quick_2": "computed"}
    outcome = outcome_of(report, "stuck_1")
    assert isinstance(outcome.error, TimedOutError)
    assert (outcome.error.name, outcome.error.seconds) == ("stuck_1", 0.3)
    assert outcome.tries == 2
    assert outcome.seconds >= 0.6
    assert stage.noted() == {"quick": 2}


def test_what_a_stopped_row_has_started_ends_with_it(stage: Stage) -> None:
    text = """
    import subprocess

    @CM.collect(params_list=[1], timeout="1h")
    def row(n):
        process = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        note(process.pid)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    cm = manager_of(stage, text)
    with spawned() as pool:
        for count, executor in enumerate(("processes", pool), 1):
            report = run(cm, executor=executor, retry_failed=True)
            assert isinstance(outcome_of(report, "row_1").error, WorkerDiedError)
            started = [int(pid) for pid in stage.noted()]
            assert len(started) == 3 * count
            wait_until_gone(*started)


@pytest.mark.parametrize("executor", ["threads", threads])
@pytest.mark.parametrize("workers", [1, 2])
def test_threads_cannot_be_stopped(
    stage: Stage, executor: str | Callable[[], Executor], workers: int
) -> None:
    cm = manager_of(stage, STUCK)
    made = executor if isinstance(executor, str) else executor()
    with pytest.raises(RunRefusedError, match=r"'stuck_1' has a timeout.*executor='processes'"):
        run(cm, executor=made, workers=workers)
    assert stage.noted() == {}


def test_a_row_may_fail_twice_and_then_succeed(stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[1, 2], retries=2)
    def row(n):
        note(n)
        if n == 1 and (once("first") or once("second")):
            raise ConnectionError("not yet")
        return n

    @CM.collect(params_list=[1], retries=1)
    def hopeless(n):
        note("hopeless")
        raise ConnectionError("never")
    """
    report = run(manager_of(stage, text))
    assert ended(report) == {"row_1": "computed", "row_2": "computed", "hopeless_1": "failed"}
    assert [outcome_of(report, name).tries for name in ("row_1", "row_2", "hopeless_1")] == [3, 1, 2]
    assert stage.noted() == {"1": 3, "2": 1, "hopeless": 2}


# --- errors -----------------------------------------------------------------------------------------------

ERRORS = """
    import threading, types

    class Demanding(Exception):
        def __init__(self, what, more):
            super().__init__(f"{what} and {more}")

    class Locked(Exception):
        def __init__(self, what):
            super().__init__(what)
            self.lock = threading.Lock()

    class Dumb(Exception):
        def __str__(self):
            raise ZeroDivisionError

    class Heavy(Exception):
        def __reduce__(self):
            raise MemoryError

    def elsewhere():
        # a class of a module that only the worker has
        module = sys.modules["smm_test_elsewhere"] = types.ModuleType("smm_test_elsewhere")
        module.Foreign = type("Foreign", (Exception,), {"__module__": "smm_test_elsewhere"})
        return module.Foreign("from elsewhere")

    def noted():
        error = ValueError("look at the note")
        error.add_note("a note of the metric")
        return error

    RAISED = {
        "demanding": lambda: Demanding("this", "that"),
        "locked": lambda: Locked("it holds a lock"),
        "dumb": Dumb,
        "heavy": lambda: Heavy("no way"),
        "elsewhere": elsewhere,
        "noted": noted,
        "group": lambda: ExceptionGroup("two", [ValueError("1"), TypeError("2")]),
        "exit": lambda: SystemExit(3),
    }

    @CM.collect(params_list=list(RAISED))
    def row(kind):
        raise RAISED[kind]()

    @CM.collect
    def refused():
        return {"generator": (n for n in range(3)), "large": np.zeros(1000)}

    @CM.collect
    def fine():
        return 1
"""
RAISED: dict[str, tuple[str, str]] = {
    "demanding": ("WorkerError", "Demanding: this and that"),
    "locked": ("WorkerError", "Locked: it holds a lock"),
    "dumb": ("Dumb", ""),
    "heavy": ("WorkerError", "Heavy: no way"),
    "elsewhere": ("WorkerError", "Foreign: from elsewhere"),
    "noted": ("ValueError", "look at the note"),
    "group": ("ExceptionGroup", "two (2 sub-exceptions)"),
    "exit": ("SystemExit", "3"),
}


@pytest.mark.parametrize(
    ("executor", "timeout"),
    [("processes", ""), (spawned, ""), (lokys, ""), (spawned, ', timeout="1h"')],
    ids=["processes", "spawned", "lokys", "spawned-in-a-child"],
)
def test_errors_arrive(stage: Stage, executor: str | Callable[[], Executor], timeout: str) -> None:
    cm = manager_of(stage, ERRORS.replace("list(RAISED))", f"list(RAISED){timeout})"))
    made = executor if isinstance(executor, str) else executor()
    report = run(cm, executor=made)
    if isinstance(made, Executor):
        assert made.submit(abs, -1).result(LONG) == 1, "the executor is whole"
        made.shutdown()
    assert len(report.of("failed")) == len(RAISED) + 1
    line = next(
        number
        for number, text in enumerate((stage.folder / "metrics_here.py").read_text().splitlines(), 1)
        if "raise RAISED" in text
    )
    for kind, (name, text) in RAISED.items():
        outcome = outcome_of(report, f"row_{kind}")
        error = outcome.error
        assert type(error).__name__ == name, kind
        if kind != "dumb":
            assert str(error) == text
        assert outcome.traceback.startswith(("Traceback", "  + Exception Group Traceback"))
        assert "raise RAISED[kind]()" in outcome.traceback
        assert outcome.where == f"{stage.folder}/metrics_here.py:{line}"
        assert f"while computing metric 'row_{kind}'" in getattr(error, "__notes__", ()), kind
    assert "a note of the metric" in getattr(outcome_of(report, "row_noted").error, "__notes__", ())
    refused = outcome_of(report, "refused").error
    assert isinstance(refused, UnstorableError)
    assert (refused.place, refused.value) == ("['generator']", None)


def test_an_error_of_a_scripts_own_class_arrives(stage: Stage) -> None:
    text = """
    class Odd(Exception):
        pass

    @CM.collect
    def one():
        raise Odd("of the script")

    if __name__ == "__main__":
        (outcome,) = CM.run(executor="processes", workers=1).outcomes
        print(type(outcome.error) is Odd, outcome.error)
    """
    code, out, err = stage.done(str(stage.write("script.py", MANAGER + text)))
    assert (code, out) == (0, "True of the script\n"), err


# --- executors handed in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [spawned, pytest.param(forked, marks=forks), lokys, threads])
def test_an_executor_handed_in(stage: Stage, make: Callable[[], Executor]) -> None:
    cm = manager_of(stage, VALUES)
    run(cm, executor="threads", workers=1)
    serial = stage.stored()
    for name in serial:
        cm.delete(name)
    with make() as executor:
        report = run(cm, executor=executor, workers=None)
        assert executor.submit(abs, -1).result(LONG) == 1, "it stays open"
    assert set(ended(report).values()) <= {"computed", "stored"}
    assert (report.executor, report.workers) == (type(executor).__name__, 2)
    assert stage.stored() == serial


@pytest.mark.parametrize("make", [spawned, lokys])
def test_a_worker_that_dies_breaks_an_executor_handed_in(stage: Stage, make: Callable[[], Executor]) -> None:
    text = """
    @CM.collect(params_list=[[n] for n in range(4)])
    def row(n):
        if n == 2 and once("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return n
    """
    cm = manager_of(stage, text)
    lost = pytest.raises(WorkersLostError, match=r"over .*'row_2'.*executor='processes' replaces")
    with make() as executor, lost as caught:
        run(cm, executor=executor)
    assert "row_2" in caught.value.names
    assert set(ended(run(cm)).values()) == {"computed", "stored"}, "no row is blamed for it"


def test_an_executor_handed_in_whose_worker_leaves_a_process_behind(stage: Stage) -> None:
    """Which holds the pipes open by whose end the executor would know."""
    text = """
    @CM.collect(params_list=[0, 1])
    def row(n):
        if n == 1:
            child = os.fork()
            if not child:
                block()
            note(child)
            os.kill(os.getpid(), signal.SIGKILL)
        return n
    """
    cm = manager_of(stage, text)
    with spawned() as executor:
        try:
            with pytest.raises(WorkersLostError, match=r"over 'row_1'.*executor='processes' replaces"):
                run(cm, executor=executor)
        finally:
            for child in stage.noted():
                os.kill(int(child), signal.SIGKILL)


def test_a_pool_that_a_script_without_guard_hands_in_is_refused(stage: Stage) -> None:
    text = """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    @CM.collect
    def one():
        return 1

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        CM.run(executor=pool)
    """
    code, _, err = stage.done(str(stage.write("script.py", MANAGER + text)))
    assert code == 1
    assert err.splitlines()[-1].startswith("smm.errors.RunRefusedError: cannot run with executor='ProcessP")
    assert "if __name__ == '__main__':" in err.splitlines()[-1]


# --- signals ----------------------------------------------------------------------------------------------

WAITING = """
    @CM.collect(params_list=[[n] for n in range(8)])
    def row(n):
        note(n)
        if n >= 4:
            say(n, os.getpid())
            wait()
        return n
"""
STOPPING = "stopping: what is running is finished and stored; Ctrl-C again stops at once"


def started(stage: Stage, executor: str, text: str = WAITING, **environment: str) -> tuple[Script, list[int]]:
    """A run of which two rows have begun and wait, and the processes that they are in."""
    stage.write("metrics_here.py", MANAGER + text)
    command = "-m", "smm", "run", "metrics_here:CM", "--executor", executor, "-j", "2"
    script = stage.start(*command, **environment)
    return script, [int(stage.ear.hears()[1]) for _ in range(2)]


def hears_stopping(script: Script) -> bool:
    return is_true_soon(lambda: STOPPING in script.said()[1])


@pytest.mark.parametrize(
    ("executor", "stop"),
    [
        ("threads", "Ctrl-C"),
        ("threads", "SIGTERM"),
        ("processes", "Ctrl-C"),
        ("processes", "SIGTERM"),
        ("processes", "SIGTERM to all"),
    ],
)
def test_once_asked_to_stop_what_runs_is_finished(stage: Stage, executor: str, stop: str) -> None:
    script, pids = started(stage, executor)
    if stop == "Ctrl-C":
        script.press_ctrl_c()
    else:
        for pid in {script.pid, *pids} if stop == "SIGTERM to all" else {script.pid}:
            os.kill(pid, signal.SIGTERM)
    assert hears_stopping(script)
    stage.gate.open()
    code, out, err = script.ended()
    assert code == 130
    assert "interrupted: 6 computed and stored, 2 left; run again for the rest" in err
    assert "Traceback" not in err
    assert "not come to: 2" in out
    assert set(stage.stored()) == {f"row_{n}" for n in range(6)}
    assert stage.noted() == {str(n): 1 for n in range(6)}
    if stop == "Ctrl-C":
        assert stage.done("-m", "smm", "run", "metrics_here:CM")[0] == 0
        assert stage.noted() == {str(n): 1 for n in range(8)}, "no row is computed twice"


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_twice_asked_to_stop_it_stops_at_once(stage: Stage, executor: str) -> None:
    script, pids = started(stage, executor, WAITING.replace("wait()", "block()"))
    script.press_ctrl_c()
    assert hears_stopping(script)
    script.press_ctrl_c()
    code, out, err = script.ended()
    assert code == 130
    assert "interrupted: 4 computed and stored, 4 left" in err
    assert "Traceback" not in err
    assert "not come to: 4" in out
    wait_until_gone(*pids)
    assert set(stage.stored()) == {f"row_{n}" for n in range(4)}


def test_a_run_of_one_thread_stops_twice_asked(stage: Stage) -> None:
    """The metric is in the main thread, which the signal interrupts."""
    stage.write("metrics_here.py", MANAGER + WAITING.replace("wait()", "block()"))
    script = stage.start("-m", "smm", "run", "metrics_here:CM", "-j", "1")
    stage.ear.hears()
    script.press_ctrl_c()
    assert hears_stopping(script)
    script.press_ctrl_c()
    code, _, err = script.ended()
    assert (code, "4 computed and stored, 4 left" in err) == (130, True)
    assert set(stage.stored()) == {f"row_{n}" for n in range(4)}


def test_ctrl_c_while_workers_start(stage: Stage) -> None:
    text = """
    import multiprocessing
    if multiprocessing.parent_process() is not None:
        say("importing", os.getpid())
        block()
    """
    stage.write("metrics_here.py", MANAGER + text + WAITING)
    script = stage.start("-m", "smm", "run", "metrics_here:CM", *CLI_WAYS[1])
    pids = [int(stage.ear.hears()[1]) for _ in range(2)]
    script.press_ctrl_c()
    code, _, err = script.ended()
    assert code == 130
    assert err.splitlines()[-1] == "interrupted"
    wait_until_gone(*pids)


def test_a_run_in_the_background_of_a_shell_is_deaf_to_ctrl_c(stage: Stage) -> None:
    """Its Ctrl-C is meant for what runs in the foreground: the shell has had it ignored."""
    stage.write("metrics_here.py", MANAGER + WAITING)
    deaf = "import signal, runpy; signal.signal(signal.SIGINT, signal.SIG_IGN); runpy.run_module('smm')"
    script = stage.start("-c", deaf, "run", "metrics_here:CM", "-j", "2")
    for _ in range(2):
        stage.ear.hears()
    script.press_ctrl_c()
    stage.gate.open()
    code, _, err = script.ended()
    assert code == 0, err
    assert len(stage.stored()) == 8


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_after_sigkill_workers_end_and_the_rest_is_computed(stage: Stage, executor: str) -> None:
    script, pids = started(stage, executor)
    os.kill(script.pid, signal.SIGKILL)
    wait_until_gone(script.pid, *pids)
    assert set(stage.stored()) == {f"row_{n}" for n in range(4)}
    cut = {word for word in stage.noted() if int(word) >= 4}
    assert len(cut) == 2
    stage.gate.open()
    assert stage.done("-m", "smm", "run", "metrics_here:CM", *CLI_WAYS[1])[0] == 0
    assert stage.noted() == {str(n): 2 if str(n) in cut else 1 for n in range(8)}
    assert len(stage.stored()) == 8


def test_what_a_stopping_run_waits_for_may_run_programs(stage: Stage) -> None:
    """Ctrl-C reaches the workers' programs no more than the workers."""
    text = """
    import subprocess
    PROGRAM = "import sys; sys.path.insert(0, '.'); import noting; noting.say(1, 2); noting.wait()"

    @CM.collect(params_list=[1, 2, 3, 4])
    def row(n):
        return subprocess.run([sys.executable, "-c", PROGRAM], cwd=HERE, check=True).returncode
    """
    script, _ = started(stage, "processes", text)
    script.press_ctrl_c()
    assert hears_stopping(script)
    stage.gate.open()
    code, _, err = script.ended()
    assert (code, "2 computed and stored, 2 left" in err) == (130, True), err
    assert len(stage.stored()) == 2


def test_a_signal_that_does_not_end_a_wait_is_heard_all_the_same() -> None:
    """Python hears signals between two instructions: one that comes just before a wait is heard after it."""

    class HeardError(Exception):
        pass

    class Blocked(Scripted):
        """A worker that does not answer before the signal has come."""

        def submit(self, batch: Batch) -> Answer:
            caller.start()
            return super().submit(batch)

    def hear(_number: int, _frame: FrameType | None) -> None:
        raise HeardError

    def call() -> None:
        # To this thread, which it does not keep from anything: the main one goes on waiting.
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    manager = Manager()
    manager.add("a")
    engine = Blocked(manager, 1)
    schedule = scheduled(manager, plan(manager, ["a"]), engine)
    schedule._events = queue.SimpleQueue()
    before = signal.signal(signal.SIGUSR1, hear)
    caller = threading.Timer(0.1, call)
    watch = threading.Timer(LONG, engine.step)
    watch.start()
    try:
        with pytest.raises(HeardError):
            list(schedule.outcomes())
    finally:
        caller.join()
        watch.cancel()
        signal.signal(signal.SIGUSR1, before)
