"""Runs on a real dask scheduler with two real workers, and on clusters that runs start themselves."""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smm import _dask
from smm.errors import RunRefusedError, TimedOutError, WorkerDiedError, WorkersLostError
from smm.run import RunReport
from tests.projects import project
from tests.running import LONG, MANAGER, NOTING, Script, Stage, is_true_soon, stage, wait_until_gone
from tests.test_run_processes import (
    CLI_WAYS,
    ERRORS,
    PLAIN,
    RAISED,
    SCRIPT,
    STOPPING,
    VALUES,
    YAML,
    both_ways,
    outcome_of,
)

__all__ = ["project", "stage"]

distributed: Any = pytest.importorskip("distributed")

_NUMBERS = itertools.count(1)


# A program of dask's that ends, hard, when its input does: with these tests, however they end.
_PROGRAM = """
import os, runpy, signal, sys, threading

def end():
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)

threading.Thread(target=end, daemon=True).start()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class Cluster:
    """A scheduler and two workers of one thread each, as `dask scheduler` and `dask worker` start them."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        ports = "--port", "0", "--dashboard-address", "127.0.0.1:0"
        self.address = self._start("scheduler", *ports, until="Scheduler at: *(tcp://.*)")
        for _ in range(workers):
            self._start("worker", self.address, "--nthreads", "1", until="Registered to:(.*)")

    def _start(self, what: str, *arguments: str, until: str) -> str:
        """Start one of dask's programs; what it says of itself, in a line of its log."""
        log = self._folder / f"{what}-{len(self._processes)}"
        command = [sys.executable, "-c", _PROGRAM, f"distributed.cli.dask_{what}", "--host", "127.0.0.1"]
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._processes.append(process)
        assert is_true_soon(lambda: re.search(until, log.read_text()) is not None), log.read_text()
        found = re.search(until, log.read_text())
        assert found is not None
        return found[1]

    def kill_scheduler(self) -> None:
        self._processes[0].kill()

    def end_worker(self) -> None:
        """End the worker that was started last, and its nanny."""
        self._processes.pop().communicate(timeout=LONG)

    def close(self) -> None:
        """End them all."""
        for process in reversed(self._processes):
            process.communicate(timeout=LONG)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


def anew(stage: Stage, text: str) -> tuple[str, str]:
    """A module's text and name that no dask worker has imported before: it keeps what it has imported."""
    number = next(_NUMBERS)
    stage.write(f"noting_{number}.py", NOTING)
    return text.replace("noting", f"noting_{number}"), f"metrics_{number}"


def manager_of(stage: Stage, text: str) -> Any:
    text, module = anew(stage, MANAGER + text)
    return stage.manager(text, module)


def run(manager: Any, executor: str, **how: Any) -> RunReport:
    report = manager.run(executor=executor, **how)
    assert isinstance(report, RunReport)
    return report


# --- the same values as a serial run's -------------------------------------------------------------------


def test_a_module_stores_what_a_serial_run_stores(cluster: Cluster, stage: Stage) -> None:
    text, module = anew(stage, MANAGER + VALUES)
    stage.write(f"{module}.py", text)
    ways = CLI_WAYS[0], ["--dask", cluster.address]
    both_ways(stage, "-m", "smm", "run", f"{module}:CM", ways=ways)


def test_a_script_stores_what_a_serial_run_stores(cluster: Cluster, stage: Stage) -> None:
    text, _ = anew(stage, SCRIPT)
    script = stage.write("script.py", text)
    ways = ["dict(workers=1)"], [f"dict(executor='{cluster.address}')"]
    both_ways(stage, str(script), ways=ways)


def test_a_configuration_stores_what_a_serial_run_stores(cluster: Cluster, stage: Stage) -> None:
    number = next(_NUMBERS)
    stage.write(f"plain_{number}.py", PLAIN)
    stage.write("metrics.yaml", YAML.replace("plain.", f"plain_{number}."))
    ways = CLI_WAYS[0], ["--dask", cluster.address]
    both_ways(stage, "-m", "smm", "run", "metrics.yaml", ways=ways)


def test_functions_of_a_prompt_go_by_value(cluster: Cluster, stage: Stage) -> None:
    text = """
    class Odd(Exception):
        pass

    FACTOR = 3

    def helper(n):
        return np.arange(n) * FACTOR

    @CM.collect(params_list=[1, 2, 3])
    def row(n):
        if n == 3:
            raise Odd("three")
        return helper(n)

    @CM.collect
    def total():
        return CM.row(1).sum() + CM.row(2).sum()

    report = CM.run(executor=sys.argv[1])
    for outcome in report.outcomes:
        print(outcome.name, outcome.status, outcome.error)
    """
    text, _ = anew(stage, MANAGER + text)
    code, out, err = stage.done("-c", Stage.dedented(text), cluster.address)
    assert code == 0, err
    assert sorted(out.splitlines()) == [
        "row_1 computed None",
        "row_2 computed None",
        "row_3 failed Odd: three",
        "total computed None",
    ]
    assert len(stage.stored()) == 3


# --- workers that die, rows that take too long ------------------------------------------------------------


def test_a_row_whose_worker_is_killed_is_tried_again(cluster: Cluster, stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[[n] for n in range(12)])
    def row(n):
        note(n)
        if n == 5 and once("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return n
    """
    report = run(manager_of(stage, text), cluster.address)
    assert not report.of("failed")
    assert len(stage.stored()) == 12
    assert stage.noted() == {str(n): 2 if n == 5 else 1 for n in range(12)}


def test_a_row_that_kills_every_worker_has_failed(cluster: Cluster, stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[[n] for n in range(6)])
    def row(n):
        note(n)
        if n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return n
    """
    report = run(manager_of(stage, text), cluster.address)
    assert len(stage.stored()) == 5
    assert isinstance(outcome_of(report, "row_2").error, WorkerDiedError)


def test_rows_that_take_too_long_are_stopped(cluster: Cluster, stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[1, 2], timeout="300ms")
    def stuck(n):
        block()

    @CM.collect(params_list=[1, 2, 3, 4], timeout="1h")
    def quick(n):
        note("quick")
        return n
    """
    report = run(manager_of(stage, text), cluster.address)
    assert len(report.of("computed")) == 4
    for name in ("stuck_1", "stuck_2"):
        assert isinstance(outcome_of(report, name).error, TimedOutError)
    assert stage.noted() == {"quick": 4}


def test_a_scheduler_that_dies_ends_the_run(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = Cluster(tmp_path_factory.mktemp("own"), workers=1)
    text = """
    @CM.collect(params_list=[1, 2, 3])
    def row(n):
        if n == 2:
            say("waits")
            wait()
        return n
    """
    cm = manager_of(stage, text)
    try:
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(run, cm, own.address)
            assert stage.ear.hears() == ["waits"]
            own.kill_scheduler()
            with pytest.raises(WorkersLostError, match=r"over 'row_2'.* run again for the rest"):
                running.result(LONG)
    finally:
        own.close()
    assert set(stage.stored()) == {"row_1"}


def test_a_worker_with_yesterdays_code_is_refused(cluster: Cluster, stage: Stage) -> None:
    """A dask worker imports a module once; its file may have been edited since."""
    number = next(_NUMBERS)
    helper = stage.write(f"helper_{number}.py", "def value(): return 1")
    cm = manager_of(
        stage,
        f"""
    import helper_{number}

    @CM.collect(params_list=[1, 2])
    def row(n):
        return n * helper_{number}.value()
    """,
    )
    run(cm, cluster.address)
    assert cm.load("row_1") == 1
    helper.write_text("def value(): return 2")
    for name in ("row_1", "row_2"):
        cm.delete(name)
    with pytest.raises(RunRefusedError, match=rf"helper_{number}.py.* start the workers anew"):
        run(cm, cluster.address)
    assert stage.stored() == {}


def test_errors_arrive(cluster: Cluster, stage: Stage) -> None:
    report = run(manager_of(stage, ERRORS), cluster.address)
    assert len(report.of("failed")) == len(RAISED) + 1
    for kind, (name, text) in RAISED.items():
        outcome = outcome_of(report, f"row_{kind}")
        assert type(outcome.error).__name__ == name, kind
        if kind != "dumb":
            assert str(outcome.error) == text
        assert "raise RAISED[kind]()" in outcome.traceback
        assert f"while computing metric 'row_{kind}'" in getattr(outcome.error, "__notes__", ()), kind


# --- who is there -----------------------------------------------------------------------------------------

ONE = """
    @CM.collect(params_list=[1, 2, 3])
    def row(n):
        return [n, os.getpid()]
"""


def test_where_no_scheduler_answers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dask, "_CONNECT_SECONDS", 0.5)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RunRefusedError, match=r"no scheduler answers there within 0.5 s; start one"):
            run(manager_of(stage, ONE), address)


@pytest.mark.parametrize(
    "address", ["tcp://nobody.invalid:8786", "tcp://127.0.0.1:nonsense", "what://x:1", "tcp://"]
)
def test_an_address_that_is_none(stage: Stage, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dask, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(RunRefusedError, match="no scheduler answers"):
        run(manager_of(stage, ONE), address)
    # A half-made client that the garbage collector is left to close has made later ones hang.
    clients = [each for each in gc.get_objects() if type(each) is distributed.Client]
    assert {client.status for client in clients} <= {"closed"}


def test_a_scheduler_without_workers(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = Cluster(tmp_path_factory.mktemp("own"), workers=0)
    try:
        with pytest.raises(RunRefusedError, match=f"has no workers; start some: dask worker {own.address}"):
            run(manager_of(stage, ONE), own.address)
    finally:
        own.close()


def test_a_scheduler_whose_workers_have_left(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dask, "_WITHOUT_WORKERS_SECONDS", 1)
    text = """
    @CM.collect
    def one():
        say("begun")
        wait()
    """
    own = Cluster(tmp_path_factory.mktemp("own"), workers=1)
    try:
        cm = manager_of(stage, text)
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(run, cm, own.address)
            assert stage.ear.hears() == ["begun"]
            own.end_worker()
            with pytest.raises(WorkersLostError, match=r"no workers for 1 s; start some: dask worker tcp://"):
                running.result(LONG)
    finally:
        own.close()


@pytest.mark.slow
def test_a_local_cluster_of_a_script_without_guard_is_refused(stage: Stage) -> None:
    text = """
    note("imported")

    @CM.collect
    def one():
        return 1

    CM.run(executor="dask", workers=1)
    """
    code, _, err = stage.done(str(stage.write("script.py", MANAGER + text)))
    assert code == 1
    assert err.splitlines()[-1].startswith("smm.errors.RunRefusedError: cannot run with executor='dask'")
    assert "if __name__ == '__main__':" in err.splitlines()[-1]
    assert stage.noted()["imported"] <= 3, "its own process, its worker, and that once more perhaps"


def test_a_local_cluster_ends_with_the_run(stage: Stage) -> None:
    cm = manager_of(stage, ONE)
    report = run(cm, "dask", workers=2)
    assert (report.executor, report.workers, len(report.of("computed"))) == ("dask", 2, 3)
    pids = {cm.load(f"row_{n}")[1] for n in (1, 2, 3)}
    assert os.getpid() not in pids
    wait_until_gone(*pids)
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()


def test_the_client_that_is_there_is_used(cluster: Cluster, stage: Stage) -> None:
    cm = manager_of(stage, ONE)
    with distributed.Client(cluster.address) as client:
        report = run(cm, "dask")
        assert (report.workers, len(report.of("computed"))) == (2, 3)
        assert set(client.run(os.getpid).values()) >= {cm.load(f"row_{n}")[1] for n in (1, 2, 3)}
        assert client.submit(abs, -1).result(LONG) == 1, "it stays open"


def test_workers_that_are_threads_of_this_process_share_the_manager(stage: Stage) -> None:
    cm = manager_of(stage, ONE)
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
    ) as client:
        report = run(cm, "dask")
        assert len(report.of("computed")) == 3
        assert cm.load("row_1")[1] == os.getpid()
        assert cm.cache.keys() == {"row_1"}
        assert cm.run(executor=client.get_executor(), force=True).executor == "ClientExecutor"


# --- signals ----------------------------------------------------------------------------------------------

WAITING = """
    @CM.collect(params_list=[[n] for n in range(6)])
    def row(n):
        note(n)
        if n >= 2:
            say(n, os.getpid())
            wait()
        return n
"""


def started(stage: Stage, text: str, *how: str) -> tuple[Script, str, list[int]]:
    """A run of which two rows have begun and wait, and the processes that they are in."""
    text, module = anew(stage, MANAGER + text)
    stage.write(f"{module}.py", text)
    script = stage.start("-m", "smm", "run", f"{module}:CM", *how)
    return script, module, [int(stage.ear.hears()[1]) for _ in range(2)]


@pytest.mark.parametrize("local", [False, True])
def test_once_asked_to_stop_what_runs_is_finished(cluster: Cluster, stage: Stage, local: bool) -> None:
    how = ("--executor", "dask", "-j", "2") if local else ("--dask", cluster.address)
    script, _, pids = started(stage, WAITING, *how)
    script.press_ctrl_c()
    assert is_true_soon(lambda: STOPPING in script.said()[1])
    stage.gate.open()
    code, out, err = script.ended()
    assert code == 130
    assert "interrupted: 4 computed and stored, 2 left; run again for the rest" in err
    assert "not come to: 2" in out
    assert local or "Traceback" not in err, "but for what dask's workers say as they close"
    assert set(stage.stored()) == {f"row_{n}" for n in range(4)}
    assert stage.noted() == {str(n): 1 for n in range(4)}
    if local:
        wait_until_gone(*pids)


@pytest.mark.parametrize("local", [False, True])
def test_twice_asked_to_stop_it_stops_at_once(cluster: Cluster, stage: Stage, local: bool) -> None:
    how = ("--executor", "dask", "-j", "2") if local else ("--dask", cluster.address)
    # At a scheduler, which nobody ends, rows must end some time for the tests that come.
    script, _, pids = started(stage, WAITING.replace("wait()", "block()") if local else WAITING, *how)
    script.press_ctrl_c()
    assert is_true_soon(lambda: STOPPING in script.said()[1])
    script.press_ctrl_c()
    code, out, err = script.ended()
    assert code == 130
    assert "interrupted: 2 computed and stored, 4 left" in err
    assert "not come to: 4" in out
    assert local or "Traceback" not in err
    assert len(stage.stored()) == 2
    if local:
        wait_until_gone(*pids)
    stage.gate.open()


def test_json_is_json_whatever_the_metrics_print(stage: Stage) -> None:
    text = """
    @CM.collect(params_list=[1, 2])
    def row(n):
        print("metric says", n)
        os.system("echo so does what it starts")
        return n
    """
    stage.write("metrics_here.py", MANAGER + text)
    code, out, err = stage.done(
        "-m", "smm", "run", "metrics_here:CM", "--executor", "dask", "-j", "1", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["computed"] == 2
    assert err.count("so does what it starts") == 2
