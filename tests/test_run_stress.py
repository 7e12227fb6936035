"""Runs on one folder while their workers are killed; and how much memory a run of large results takes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.projects import project
from tests.running import MANAGER, Stage, stage

__all__ = ["project", "stage"]

# --- killers ----------------------------------------------------------------------------------------------

ROWS = """
    @CM.collect(params_list=[[n] for n in range({rows})])
    def base(n):
        note(f"base_{{n}}")
        say("at", os.getpid())
        return np.random.default_rng(n).normal(size=1000)

    @CM.collect(params_list=[[n] for n in range({rows})])
    def derived(n):
        mean, following = CM.base(n).mean(), CM.base((n + 1) % {rows})[:10]
        note(f"derived_{{n}}")
        say("at", os.getpid())
        return {{"mean": mean, "next": following}}
"""
"""Each row says where it is computed, for whoever wants to kill somebody."""


@pytest.mark.stress
@pytest.mark.parametrize(
    ("rows", "kills"), [(40, 8), pytest.param(600, 150, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_two_runs_on_one_folder_while_workers_are_killed(stage: Stage, rows: int, kills: int) -> None:
    """In the end every row is stored and right, and none was computed twice but for a kill."""
    stage.write("metrics_here.py", MANAGER + ROWS.format(rows=rows))
    command = "-m", "smm", "run", "metrics_here:CM", "--executor", "processes", "-j", "2", "--json"
    killed = 0
    rng = random.Random(20240805)
    parents = [stage.start(*command) for _ in range(2)]
    with ThreadPoolExecutor(2) as waiting:
        ended = [waiting.submit(parent.ended) for parent in parents]
        while not all(future.done() for future in ended):
            heard = stage.ear.heard(until=lambda: all(future.done() for future in ended))
            if heard is not None and killed < kills and rng.random() < 0.3 and _kill(int(heard[1])):
                killed += 1
    reports = [future.result() for future in ended]
    for code, out, err in reports:
        assert code in (0, 1), err
        json.loads(out)
    # A row over which three workers died has failed: that is as it should be, and tried once more.
    last = stage.start(*command, "--retry-failed")
    with ThreadPoolExecutor(1) as waiting:
        future = waiting.submit(last.ended)
        while not future.done():
            stage.ear.heard(until=future.done)
    code, out, err = future.result()
    assert code == 0, err
    assert killed == kills
    names = {f"{base}_{n}" for base in ("base", "derived") for n in range(rows)}
    stored = stage.stored()
    assert set(stored) == names
    computed = stage.noted()
    assert set(computed) == names
    assert computed.total() <= len(names) + killed
    for n in range(rows):
        expected = np.random.default_rng(n).normal(size=1000)
        assert stored[f"base_{n}"]["arr_0"][2] == expected.tobytes()
        following = np.random.default_rng((n + 1) % rows).normal(size=1000)
        assert stored[f"derived_{n}"]["next"][2] == following[:10].tobytes()


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


# --- memory -----------------------------------------------------------------------------------------------

LARGE = """
    CM = smm.ParameterizedDatedCacheManager(
        smm.NpzStorageInterface(HERE / "results", compress=True), verbose=False
    )

    @CM.collect(params_list=[[n] for n in range({rows})])
    def large(n):
        return np.full(1_000_000, n, float)

    @CM.collect(params_list=[[n] for n in range(0, {rows}, 10)])
    def pair(n):
        return CM.large(n) + CM.large(n + 1)

    def peak():
        # Not ru_maxrss, in which Linux counts what the process was before it became this program.
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

    if __name__ == "__main__":
        report = CM.run(executor=sys.argv[1], workers=2)
        print(len(report.of("computed")), peak(), len(CM.cache))
"""


@pytest.mark.stress
@pytest.mark.parametrize("rows", [60, pytest.param(2_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_memory_holds_a_few_of_many_large_results(stage: Stage, executor: str, rows: int) -> None:
    script = stage.write("script.py", MANAGER + LARGE.format(rows=rows))
    code, out, err = stage.done(str(script), executor)
    assert code == 0, err
    computed, peak, left = map(int, out.split())
    assert computed >= rows * 0.9, "8 MB each, 480 MB together"
    assert left == 0
    megabytes = peak / 1024
    assert megabytes < 300
    shutil.rmtree(stage.folder / "results")
