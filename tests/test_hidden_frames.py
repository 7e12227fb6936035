"""Frames of smm are hidden from IPython and pytest until they are asked for, and keep no values."""

from __future__ import annotations

import gc
import subprocess
import sys
import traceback
import weakref
from pathlib import Path

from smm import MemoryStorageInterface, ParameterizedDatedCacheManager, from_config
from tests.projects import Project, project
from tests.test_ipython import CALLS, in_ipython

__all__ = ["project"]

DECLARED = """
import smm

CM = smm.ParameterizedDatedCacheManager(smm.MemoryStorageInterface(), verbose=False, workers=1)

@CM.collect
def bad():
    return 1 / 0

@CM.collect(params_list=[1, 2])
def row(a):
    return CM.bad() + a

@CM.collect(params_list=[(1, 2)])
def pair(a, b):
    return CM["row_1"]

@CM.collect
def chain(*, CM):
    return CM.row(1)
"""
FURTHER = ["CM.row.to_dict(compute=True)", "CM.row.to_frame(compute=True)", "CM.pair(1, 2, cache=False)"]
OWN = "/smm/"
"""In the output that shows a frame of smm: `.../smm/_serving.py`."""


def test_calls_for_many_rows_are_hidden_too(tmp_path: Path) -> None:
    printed = in_ipython(tmp_path, [DECLARED, *FURTHER])
    assert printed.count("ZeroDivisionError: division by zero") == len(FURTHER)
    assert OWN not in printed


def test_internal_frames_are_shown_to_who_asks_for_them(tmp_path: Path) -> None:
    cells = [
        "CM.bad()",
        "CM.show_internal_frames = True\n%tb",
        "CM.row.get_all()",
        "CM.show_internal_frames = False\n%tb",
    ]
    hidden, again, later, off = in_ipython(tmp_path, [DECLARED, *cells]).split(">>> ")[2:]
    assert OWN not in hidden
    assert "_serving.py" in again
    assert "_serving.py" in later
    assert OWN not in off


def test_pytest_shows_the_users_frames_alone(tmp_path: Path) -> None:
    calls = [*CALLS, *FURTHER]
    tests = "\n".join(f"def test_{number}():\n    {call}\n" for number, call in enumerate(calls))
    (tmp_path / "test_it.py").write_text(f"{DECLARED}\n{tests}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_it.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert f"{len(calls)} failed" in done.stdout
    assert "return 1 / 0" in done.stdout
    assert OWN not in done.stdout


class Large:
    """What a failing metric works with."""


def test_frames_that_an_error_of_a_run_keeps_hold_no_values() -> None:
    cm = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False, workers=1)
    made: list[weakref.ref[Large]] = []

    @cm.collect(params_list=[[1]])
    def bad(a: int) -> float:
        large = Large()
        made.append(weakref.ref(large))
        return a / 0

    (outcome,) = cm.run(progress=False).outcomes
    assert isinstance(outcome.error, ZeroDivisionError)
    gc.collect()
    assert [reference() for reference in made] == [None]
    kept = [set(frame.f_locals) for frame, _ in traceback.walk_tb(outcome.error.__traceback__)]
    assert any("__tracebackhide__" in names for names in kept)
    assert not any(names & {"args", "kwargs"} for names in kept)


def test_nor_do_they_hold_upstream_values(project: Project) -> None:
    project.write("failing.py", "def made():\n    return list('large')\n\ndef bad(x):\n    return 1 / 0\n")
    file = project.write(
        "m.yaml",
        """
        storage: {type: memory}
        metrics:
          made: {function: failing.made}
          bad: {function: failing.bad, inputs: {x: made}}
        """,
    )
    (outcome,) = from_config(file).run("bad", workers=1, progress=False).of("failed")
    assert isinstance(outcome.error, ZeroDivisionError)
    for frame, _ in traceback.walk_tb(outcome.error.__traceback__):
        held = {name for name, value in frame.f_locals.items() if "large" in repr(value)}
        assert held == set(), frame.f_code.co_name
