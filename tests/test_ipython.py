"""In IPython and Jupyter: a user's error shows the user's code, warnings point at it, names are completed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

import smm
from smm import MemoryStorageInterface, ParameterizedDatedCacheManager
from smm.errors import SmmWarning

DEFINITIONS = """
    import smm
    STORAGE = smm.MemoryStorageInterface()
    CM = smm.ParameterizedDatedCacheManager(STORAGE, verbose=False, workers=1)

    @CM.collect
    def bad():
        return 1 / 0

    @CM.collect(params_list=[1, 2])
    def row(a):
        raise ValueError("no luck")

    @CM.collect(params_list=[(1, 2)])
    def pair(a, b):
        return CM.bad()

    @CM.collect
    def chain(*, CM):
        return CM.row(1)
"""
CALLS = [
    "CM.bad()",
    "CM['bad']",
    "CM.get('bad')",
    "CM.save('bad')",
    "CM.compute('bad')",
    "CM.row(1)",
    "CM.row(a=2)",
    "CM.row.get_all()",
    "list(CM.row.iter_all())",
    "CM.pair(1, 2)",
    "CM.chain()",
    "bad(cache=True)",
]


def in_ipython(folder: Path, cells: list[str]) -> str:
    """What cells print, run in an IPython of its own, without colours."""
    script = (
        "import sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance(colors='NoColor')\n"
        f"for cell in {cells!r}:\n"
        "    print('>>>', cell.strip().splitlines()[-1], flush=True)\n"
        "    shell.run_cell(cell, store_history=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "IPYTHONDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)


def test_a_users_error_shows_the_users_code_and_no_frame_of_smm(tmp_path: Path) -> None:
    printed = in_ipython(tmp_path, [textwrap.dedent(DEFINITIONS), *CALLS])
    parts = {part.splitlines()[0]: part for part in printed.split(">>> ")[2:]}
    assert list(parts) == CALLS
    own = str(Path(smm.__file__).parent)
    for call, part in parts.items():
        assert "return 1 / 0" in part or 'raise ValueError("no luck")' in part, call
        frames = [line for line in part.splitlines() if line.startswith("File ") and own in line]
        assert frames == [], call


def test_plain_python_shows_all_frames() -> None:
    cm = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    cm.collect("bad")(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        cm.bad()
    names = []
    trace = caught.value.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "serve" in names


def test_a_stale_warning_points_at_the_users_line(tmp_path: Path) -> None:
    def manager(factor: int) -> ParameterizedDatedCacheManager:
        made = ParameterizedDatedCacheManager(tmp_path, verbose=False)
        made.collect("x")(lambda: factor)
        return made

    manager(1).x()
    cm = manager(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cm.x()  # this line
    (warning,) = caught
    assert issubclass(warning.category, SmmWarning)
    assert warning.filename == __file__
    assert "# this line" in Path(__file__).read_text().splitlines()[warning.lineno - 1]


def test_names_of_a_manager_are_completed_in_jupyter(tmp_path: Path) -> None:
    """By the request that a notebook sends to its kernel, with jedi as it is by default."""
    script = textwrap.dedent(
        """
        from ipykernel.ipkernel import IPythonKernel
        kernel = IPythonKernel.instance()
        shell = kernel.shell
        shell.Completer.use_jedi = True
        shell.run_cell('''
        import smm
        CM = smm.ParameterizedDatedCacheManager(smm.MemoryStorageInterface(), verbose=False)
        @CM.collect(params_list=[1])
        def roughness(a): return a
        ''')
        print(kernel.do_complete("CM.", 3)["matches"])
        print(kernel.do_complete("CM.rough", 8)["matches"])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    everything, some = done.stdout.splitlines()[-2:]
    assert "'roughness'" in everything or "'CM.roughness'" in everything
    assert "'run'" in everything or "'CM.run'" in everything
    assert "roughness" in some


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_stands_for_the_npz_storage_in_it(tmp_path: Path, kind: Any) -> None:
    cm = smm.DatedCacheManager(kind(tmp_path / "results"), verbose=False)
    cm.set_functions_dict({"x": lambda: 1})
    cm.get("x")
    assert isinstance(cm.storage_interface, smm.NpzStorageInterface)
    assert (tmp_path / "results" / "x.npz").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "storage_interface is 3, which has no method 'exists'"),
        (None, "storage_interface is None"),
        (smm.NpzStorageInterface, "is the class NpzStorageInterface; give an object of it"),
    ],
)
def test_what_is_no_storage_is_refused_at_once(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        smm.DatedCacheManager(given)


def test_a_base_name_says_that_it_has_rows() -> None:
    cm = ParameterizedDatedCacheManager(MemoryStorageInterface(), verbose=False)
    cm.collect("f", params_list=[1, 2, 3, 4])(lambda a: a)
    for ask in (cm.get, cm.save, cm.compute, cm.load, cm.date, cm.record, cm.why, cm.delete, cm.__getitem__):
        with pytest.raises(KeyError) as caught:
            ask("f")
        said = str(caught.value)
        assert "'f' is the base name of 4 rows" in said
        assert "'f_1', 'f_2', 'f_3', ..." in said
        assert "CM.f.get_all()" in said


def test_a_base_name_counts_the_rows_that_calls_have_added() -> None:
    storage = MemoryStorageInterface()
    cm = ParameterizedDatedCacheManager(storage, verbose=False, dynamic_metric_creation=True)

    @cm.collect
    def f(a: int) -> int:
        return a

    with pytest.raises(KeyError, match="'f' is the base name of a metric without rows"):
        cm["f"]
    cm.f(7)
    with pytest.raises(KeyError, match=r"'f' is the base name of 1 row, each with .*: 'f_7'; ask for"):
        cm["f"]
