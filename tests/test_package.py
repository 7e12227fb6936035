"""The package as a whole: who imports whom, what importing costs, and what the door gives."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import smm

PACKAGE = Path(smm.__file__).parent

# A module imports only from rows above its own.
LAYERS: list[set[str]] = [
    # stand for what takes long to import; the garbage collector; small texts
    {"_attrs", "_blake", "_dates", "_hidden_frames", "_numpy", "_pause", "_pieces", "_reloads", "_text"},
    # know nothing of each other
    {
        "errors",
        "metric",
        "_blame",
        "_child",
        "_encoding",
        "_homes",
        "_imported",
        "_interrupt",
        "_marks",
        "_plain",
        "_projects",
        "_refusals",
        "_syntax",
        "_syntax_dump",
        "_terminal",
        "_values",
        "_warm",
    },
    {"_touches", "_warn"},
    {"_statements"},
    # how files and folders are opened, whatever lies there
    {"_reading"},
    {"_folders"},
    # one idea each: files, locks, names, nested data, dotted paths, what a storage can do
    {
        "_columns",
        "_compare",
        "_decoding",
        "_ending",
        "_executors",
        "_files",
        "_flights",
        "_keys",
        "_locks",
        "_memory",
        "_names",
        "_nearest",
        "_policies",
        "_project_files",
        "_resolve",
        "_signature",
        "_tree",
        "graph",
        "protocols",
    },
    # the pieces of formats, of a configuration, of a call; one pair of data and side-car; a run
    {
        "_array_sums",
        "_code_archive",
        "_listing",
        "_npy",
        "_places",
        "_sources",
        "_strict",
        "_tables",
        "_variables",
        "_yaml",
        "_zip",
        "identity",
        "run",
        "sweep",
    },
    {
        "_json",
        "_metrics",
        "_npz",
        "_overrides",
        "_pace",
        "_parts",
        "_runlog",
        "_stack",
        "_storages",
        "_worker",
        "collect",
    },
    {"_module_statements"},
    # one value at a time; where the many are worked off, and who looks on
    {
        "_engines",
        "_new_names",
        "_progress",
        "_reach",
        "_select",
        "_shelf",
        "collected",
        "config",
        "file_storage",
    },
    {"_code", "_dask", "_fingerprint", "_moving", "_processes", "_schedule", "storage"},
    # whether a value still holds, and how it comes about
    {"_staleness"},
    {"_keeping"},
    {"_recipe", "_serving"},
    {"_carrying", "_trusting"},
    {"_running"},
    {"manager"},
    # what stores hold, looked after
    {"_rename_plan", "_stored"},
    {"_diff", "_gc", "_rename", "_verify"},
    {"build", "maintain", "testing"},
    {"_render", "_target"},
    {"_command", "_render_stores", "_render_trust"},
    {"_rename_command", "_store_commands", "_trust_commands"},
    {"cli"},
    {"_start"},
    {"__main__"},
]
LEVEL = {module: level for level, row in enumerate(LAYERS) for module in row}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def test_the_docs_say_where_every_module_is() -> None:
    page = (Path(__file__).parent.parent / "docs" / "inside.md").read_text(encoding="utf-8")
    table = page[: page.index("## A call")]
    assert {module for module in MODULES if f"`{module}`" not in table} == set()


def imported(module: str) -> set[str]:
    """The modules of smm that a module's source imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if node.module == "smm":
                found |= {alias.name for alias in node.names if alias.name in MODULES}
            elif (node.module or "").startswith("smm."):
                found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("smm.")}
    return found


def test_every_module_has_its_row() -> None:
    assert set(MODULES) == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    upwards = {other for other in imported(module) if LEVEL[other] >= LEVEL[module]}
    assert not upwards, f"{module} (row {LEVEL[module]}) imports {upwards}"


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_stay_readable(module: str) -> None:
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    assert source.count("\n") <= (650 if module == "errors" else 510)  # many errors are one idea
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            assert length <= 45, f"{module}.{node.name} has {length} lines"


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after `code`, beyond what Python itself loads."""
    script = (
        f"import json, sys; before = set(sys.modules)\n{code}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def foreign(modules: set[str]) -> set[str]:
    return {
        name
        for name in modules
        if name not in sys.stdlib_module_names and not name.startswith("__editable__")
    }


def test_import_smm_loads_the_standard_library_only() -> None:
    assert foreign(loaded_by("import smm")) == {"smm"}


def test_help_loads_click_besides() -> None:
    code = (
        "import smm.cli, contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    smm.cli.main(['--help'])"
    )
    assert foreign(loaded_by(code)) <= {"smm", "click", "colorama"}


# What serving a number or a text does without: importing any of these takes longer than the work itself.
NOT_TO_SERVE = {
    *("numpy", "attr", "attrs", "cattrs", "yaml", "click", "rich", "cachetools", "zlib_ng"),
    *("asyncio", "concurrent", "multiprocessing", "socket", "subprocess", "tempfile", "shutil"),
    *("inspect", "dataclasses", "linecache", "tokenize", "traceback", "logging", "difflib", "platform"),
    *("pathlib", "urllib", "hashlib", "secrets", "random", "decimal", "fractions", "uuid", "zoneinfo"),
    *("pickle", "string", "sysconfig"),
}
BY_HAND = """
import smm

CM = smm.DatedCacheManager(smm.JsonStorageInterface("results"), verbose=False)
"""
COLLECTED = (
    BY_HAND
    + """

@CM.collect
def answer():
    return {"a": [1, 2.5, None], "b": "x"}
"""
)
SERVE_LATER = {
    "load": BY_HAND + "assert CM.load('answer')['a'][1] == 2.5",
    "get": BY_HAND + "assert CM['answer']['b'] == 'x'",
    "call": COLLECTED + "assert CM.answer() == CM.answer(use_stored=True) == CM['answer']",
}


@pytest.mark.parametrize("how", SERVE_LATER)
def test_a_stored_json_value_is_served_by_little_code(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded_by_script(tmp_path, COLLECTED + "CM.answer()")
    assert loaded_by_script(tmp_path, SERVE_LATER[how]) & NOT_TO_SERVE == set()


def loaded_by_script(folder: Path, code: str) -> set[str]:
    """As `loaded_by`, of a script: its functions have a source, which is held against the one noted."""
    (folder / "script.py").write_text(
        f"import sys\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))", encoding="utf-8"
    )
    # Alone, without what a virtual environment or an installed package may load at every start.
    before = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1])) - set(before.stdout.split())
    return {name.split(".")[0] for name in loaded}


def test_numpy_values_are_known_where_numpy_comes_late(tmp_path: Path) -> None:
    code = (
        "import sys, smm\n"
        f"storage = smm.JsonStorageInterface({str(tmp_path)!r})\n"
        "CM = smm.ParameterizedDatedCacheManager(storage, verbose=False, dynamic_metric_creation=True)\n"
        "@CM.collect\n"
        "def f(a): return [a, {'b': a}]\n"
        "assert f(1, cache=True) == [1, {'b': 1}] and CM.f.name(1) == 'f_1'\n"
        "import numpy as np\n"
        "assert CM.f.name(np.int64(1)) == 'f_1' and CM.f(np.float64(1.5)) == [1.5, {'b': 1.5}]\n"
        "CM.f.original_function.__code__ = (lambda a: [np.arange(2), np.float32(0.5), (a,)]).__code__\n"
        "assert CM.f(3) == [[0, 1], 0.5, [3]]"
    )
    assert "numpy" in loaded_by(code)


def test_status_loads_nothing_that_only_a_run_needs(tmp_path: Path) -> None:
    (tmp_path / "metrics.yaml").write_text("metrics: {later: {}}", encoding="utf-8")
    code = (
        "import smm.cli, contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    smm.cli.main(['status', {str(tmp_path / 'metrics.yaml')!r}])"
    )
    assert loaded_by(code) & {"asyncio", "concurrent", "multiprocessing", "subprocess", "tempfile"} == set()


def test_the_door_gives_every_public_name() -> None:
    for name in smm.__all__:
        assert getattr(smm, name) is not None
    assert set(smm.__all__) <= set(dir(smm))
    assert smm.DataCacheManager is smm.DatedCacheManager
    assert smm.ParameterizedDataCacheManager is smm.ParameterizedDatedCacheManager


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec("from smm import *", namespace)
    assert set(smm.__all__) <= set(namespace)


def test_unknown_attributes_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        getattr(smm, "nope")  # noqa: B009 - the static form is a type error


def test_all_modules_import_in_a_fresh_process() -> None:
    names = [module.name for module in pkgutil.iter_modules([str(PACKAGE)]) if module.name != "__main__"]
    code = "\n".join(f"import smm.{name}" for name in names)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert importlib.import_module("smm").__version__
