"""The command line: what it prints, and the exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run_cli as smm
from tests.projects import Project, project

__all__ = ["project"]

CODE = """
    import numpy as np

    def one(): return 1
    def series(a):
        print("metric says hello")
        return np.arange(float(a))
    def scaled(a, b, x):
        if b == 13:
            raise ValueError("unlucky\\nsecond line")
        return {"values": x * b, "pair": (1, None)}
"""

CONFIG = """
    metrics:
      one: {function: cli_code.one}
      series: {function: cli_code.series, params_list: [[3], [4]]}
      scaled:
        function: cli_code.scaled
        inputs: {x: {metric: series, params: [a]}}
        params_list: [{grid: {a: [3, 4], b: [2, 5]}}]
"""


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("cli_code.py", CODE)
    project.write("metrics.yaml", CONFIG)
    project.write("failing.yaml", CONFIG.replace("b: [2, 5]", "b: [2, 13]"))
    monkeypatch.chdir(project.folder)
    return project


def process(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


PAYS = (
    "runs on a thread per processor; --executor processes pays where time goes into Python code, "
    "not numpy or waiting"
)


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# --- check ----------------------------------------------------------------------------------------------


def test_check_of_a_good_file(here: Project) -> None:
    result = smm("check", "metrics.yaml")
    said = ["metrics.yaml is fine: 3 metrics, 7 rows", PAYS]
    assert (result.exit_code, result.stdout.splitlines()) == (0, said)
    assert not (here.folder / "results").exists()


def test_check_without_import_runs_none_of_the_users_code(here: Project) -> None:
    here.write("cli_code.py", "raise RuntimeError('must not run')")
    result = smm("check", "--no-import", "metrics.yaml", "--json")
    assert json.loads(result.stdout) == {
        "ok": True,
        "metrics": [{"name": "one", "rows": 1}, {"name": "series", "rows": 2}, {"name": "scaled", "rows": 4}],
        "problems": [],
    }
    assert result.exit_code == 0
    assert smm("check", "metrics.yaml").exit_code == 2


def test_check_reports_every_problem(here: Project) -> None:
    here.write("bad.yaml", "metrics:\n  a: {function: cli_code.nope}\n  b: {function: cli_code.series}\n")
    result = smm("check", "bad.yaml")
    assert result.exit_code == 2
    first, second, last = result.stderr.splitlines()
    assert first.startswith("bad.yaml:2:17: metrics.a.function: module 'cli_code'")
    assert second.startswith("bad.yaml:3:6: metrics.b: ")
    assert last == "2 problems"
    found = json.loads(smm("check", "bad.yaml", "--json").stdout)
    assert found["ok"] is False
    assert [(problem["line"], problem["column"], problem["path"]) for problem in found["problems"]] == [
        (2, 17, "metrics.a.function"),
        (3, 6, "metrics.b"),
    ]


def test_a_broken_module_is_shown_with_its_own_line_and_no_traceback(here: Project) -> None:
    file = here.write("cli_code.py", "\nimport smm_needs_this")
    done = process("check", "metrics.yaml", cwd=here.folder)
    assert done.returncode == 2
    why = f"ModuleNotFoundError: No module named 'smm_needs_this' ({file}:2)"
    assert done.stderr.splitlines() == [
        f"metrics.yaml:3:19: metrics.one.function: importing 'cli_code' failed: {why}",
        "1 problem",
    ]


# --- run ------------------------------------------------------------------------------------------------


def test_run_computes_what_is_missing_and_ends_with_a_table(here: Project) -> None:
    first = smm("run", "metrics.yaml")
    assert first.exit_code == 0
    table = [line for line in lines(first.stdout) if line[:2] != ["metric", "says"]]
    assert table[0] == ["metric", "computed", "already", "stored", "failed", "time"]
    assert [line[:4] for line in table[1:]] == [
        ["one", "1", "-", "-"],
        ["series", "2", "-", "-"],
        ["scaled", "4", "-", "-"],
        ["in", "all", "7", "-"],
    ]
    assert first.stdout.count("metric says hello") == 2
    second = smm("run", "metrics.yaml")
    assert [line[:4] for line in lines(second.stdout)[1:]] == [
        ["one", "-", "1", "-"],
        ["series", "-", "2", "-"],
        ["scaled", "-", "4", "-"],
        ["in", "all", "-", "7"],
    ]


def test_run_tells_each_metric_where_there_is_no_terminal(here: Project) -> None:
    result = smm("run", "metrics.yaml", "series")
    first, *rest = result.stderr.splitlines()
    assert first == "2 to compute, 0 already stored"
    assert [line.partition(" ")[0] for line in rest] == ["[1/2]", "[2/2]"]
    assert {line.partition(": ")[0].partition(" ")[2] for line in rest} == {"series_3", "series_4"}


def test_run_goes_past_a_failing_row_and_says_where_it_failed(here: Project) -> None:
    result = smm("run", "failing.yaml")
    assert result.exit_code == 1
    assert ["scaled", "2", "-", "2"] in [line[:4] for line in lines(result.stdout)]
    assert "scaled_3_13  ValueError: unlucky  cli_code.py:10" in result.stdout
    assert "scaled_4_13  ValueError: unlucky  cli_code.py:10" in result.stdout
    assert "Traceback" not in result.output
    assert sum("failed, ValueError: unlucky" in line for line in result.stderr.splitlines()) == 2


def test_run_verbose_prints_the_users_traceback(here: Project) -> None:
    result = smm("run", "-v", "failing.yaml", "scaled_3_13")
    assert 'raise ValueError("unlucky\\nsecond line")' in result.stderr
    assert "_serving.py" not in result.stderr


def test_run_does_not_try_what_depends_on_a_failure(here: Project) -> None:
    here.write("cli_code.py", CODE.replace('print("metric says hello")', "1 / 0"))
    result = smm("run", "metrics.yaml", "--json")
    assert result.exit_code == 1
    found = {entry["name"]: entry for entry in json.loads(result.stdout)["metrics"]}
    assert found["series_3"]["error"] == {
        "type": "ZeroDivisionError",
        "message": "division by zero",
        "where": f"{here.folder}/cli_code.py:6",
        "traceback": found["series_3"]["error"]["traceback"],
        "upstream": None,
    }
    assert found["series_3"]["error"]["traceback"].splitlines()[-2:] == [
        "ZeroDivisionError: division by zero",
        "while computing metric 'series_3'",
    ]
    assert found["scaled_3_2"]["error"]["upstream"] == "series_3"
    assert found["one"]["status"] == "computed"
    assert "series_3 failed, which it reads" in smm("run", "metrics.yaml").stdout


def test_run_json_is_json_whatever_the_metrics_print(here: Project) -> None:
    result = smm("run", "metrics.yaml", "--json")
    found = json.loads(result.stdout)
    assert {key: found[key] for key in ("computed", "stored", "failed", "interrupted")} == {
        "computed": 7,
        "stored": 0,
        "failed": 0,
        "interrupted": False,
    }
    one = next(entry for entry in found["metrics"] if entry["name"] == "one")
    assert (one["status"], one["tries"], one["error"]) == ("computed", 1, None)
    assert "metric says hello" in result.stderr


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["one"], {"one"}),
        (["series_*"], {"series_3", "series_4"}),
        (["scaled_3_2"], {"scaled_3_2", "series_3"}),
        (["one", "series_4"], {"one", "series_4"}),
        (["series"], {"series_3", "series_4"}),
    ],
)
def test_run_takes_names_base_names_and_globs(here: Project, names: list[str], expected: set[str]) -> None:
    found = json.loads(smm("run", "metrics.yaml", *names, "--json").stdout)
    assert {entry["name"] for entry in found["metrics"]} == expected


def test_run_force_computes_again(here: Project) -> None:
    smm("run", "metrics.yaml")
    here.write("cli_code.py", CODE.replace("return 1", "return 2"))
    del sys.modules["cli_code"]
    result = smm("run", "metrics.yaml", "one", "--force", "--json")
    assert json.loads(result.stdout)["computed"] == 1
    assert "2" in smm("show", "metrics.yaml", "one").stdout.splitlines()[-1]


def test_run_looks_for_the_garbage_of_metrics_as_python_does(here: Project) -> None:
    here.write("cli_code.py", CODE.replace("return 1", "import gc; return list(gc.get_threshold())"))
    assert process("run", "metrics.yaml", "one").returncode == 0
    (shown,) = json.loads(process("show", "metrics.yaml", "one", "--json").stdout)["metrics"]
    usual = [sys.executable, "-c", "import gc; print(*gc.get_threshold())"]
    assert shown["value"] == [
        int(number) for number in subprocess.run(usual, capture_output=True, check=True).stdout.split()
    ]


def test_run_says_what_waits_for_code(here: Project) -> None:
    here.write("waits.yaml", "metrics: {one: {function: cli_code.one}, later: {params_list: [[1]]}}")
    result = smm("run", "waits.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "not run, for want of @CM.collect in code: later"


@pytest.mark.filterwarnings("default::smm.errors.SmmWarning")
def test_a_damaged_file_is_computed_again_with_one_line_of_warning(here: Project) -> None:
    smm("run", "metrics.yaml")
    (here.folder / "results" / "series_3.npz").write_bytes(b"")
    result = smm("run", "metrics.yaml", "scaled_3_2", "--force")
    assert result.exit_code == 0
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "series_3" in warning


# --- known failures, plans, workers ----------------------------------------------------------------------


@pytest.mark.filterwarnings("default::smm.errors.SmmWarning")
def test_what_failed_is_skipped_until_asked_for_or_changed(here: Project) -> None:
    assert smm("run", "failing.yaml").exit_code == 1
    again = smm("run", "failing.yaml")
    assert again.exit_code == 1
    assert lines(again.stdout)[0] == ["metric", "computed", "already", "stored", "failed", "skipped", "time"]
    assert "skipped; ValueError: unlucky" in again.stdout
    assert "--retry-failed" in again.stdout
    found = json.loads(smm("run", "failing.yaml", "--retry-failed", "--json").stdout)
    assert (found["failed"], found["skipped"]) == (2, 0)
    here.write("cli_code.py", CODE.replace("b == 13", "b == 14"))
    del sys.modules["cli_code"]
    last = smm("run", "failing.yaml", "--json")
    assert json.loads(last.stdout)["computed"] == 2
    assert "warning: metric 'scaled_3_2' is stale: the code of cli_code.scaled changed" in last.stderr


def test_fail_fast_begins_nothing_more(here: Project) -> None:
    here.write("cli_code.py", CODE.replace("return 1", "return 1 / 0"))
    found = json.loads(smm("run", "metrics.yaml", "-j", "1", "--fail-fast", "--json").stdout)
    assert (found["failed"], found["computed"], found["left"]) == (1, 0, 6)


def test_plan_says_what_and_why_and_how_long(here: Project) -> None:
    smm("run", "metrics.yaml", "series_3", "scaled_3_2")
    result = smm("plan", "metrics.yaml", "one", "scaled", "-j", "2")
    assert result.exit_code == 0
    table = lines(result.stdout)
    assert table[0] == ["metric", "to", "compute", "already", "stored", "each", "in", "all", "size", "why"]
    assert [(line[0], line[1], line[-1]) for line in table[1:4]] == [
        ("one", "1", "missing"),
        ("series", "1", "others"),
        ("scaled", "3", "missing"),
    ]
    last = result.stdout.splitlines()[-1]
    assert last.startswith("in all 5 to compute, about ")
    assert last.endswith("not counted, since no row has been stored yet: one")
    assert "on 2 workers" in last
    found = json.loads(smm("run", "metrics.yaml", "scaled", "--force", "--dry-run", "--json").stdout)
    assert found["metrics"][1]["reasons"] == {"forced": 1, "missing": 3}
    assert found["rows"] == 5
    assert smm("plan", "metrics.yaml", "series_3").stdout == "nothing to compute: 1 stored\n"
    assert not (here.folder / "results" / "one.npz").exists()


def test_workers_that_make_no_sense(here: Project) -> None:
    assert smm("run", "metrics.yaml", "--executor", "thread").exit_code == 2
    assert "did you mean 'threads'?" in smm("run", "metrics.yaml", "--executor", "thread").stderr
    assert smm("run", "metrics.yaml", "-j", "0").exit_code == 2
    assert smm("run", "metrics.yaml", "--dask", "localhost").exit_code == 2
    both = smm("run", "metrics.yaml", "--dask", "tcp://a:1", "--executor", "threads")
    assert both.exit_code == 2
    assert not (here.folder / "results").exists()


def test_a_timeout_needs_processes(here: Project) -> None:
    here.write("timed.yaml", "metrics: {one: {function: cli_code.one, timeout: 60s}}")
    refused = smm("run", "timed.yaml")
    assert refused.exit_code == 2
    assert "'one' has a timeout" in refused.stderr
    assert smm("run", "timed.yaml", "--executor", "processes", "-j", "1").exit_code == 0


def test_no_progress_is_silence(here: Project) -> None:
    result = smm("run", "metrics.yaml", "--no-progress", "one")
    assert (result.exit_code, result.stderr) == (0, "")


# --- set ------------------------------------------------------------------------------------------------


def test_set_replaces_what_the_file_says(here: Project) -> None:
    result = smm(
        "run", "metrics.yaml", "one", "--set", "storage.metrics_dir=other", "--set", "storage.type=json"
    )
    assert result.exit_code == 0
    assert (here.folder / "other" / "one.json").read_text().strip() == "1"


@pytest.mark.parametrize("setting", ["storage.metrics_dri=x", "storage", "=", "verbose=maybe", "verbose=["])
def test_set_that_is_wrong_is_an_error(here: Project, setting: str) -> None:
    result = smm("status", "metrics.yaml", "--set", setting)
    assert result.exit_code == 2
    assert "1 problem" in result.stderr


# --- status ---------------------------------------------------------------------------------------------


def test_status_counts_rows(here: Project) -> None:
    smm("run", "metrics.yaml", "scaled_3_2")
    result = smm("status", "metrics.yaml")
    assert result.exit_code == 0
    assert lines(result.stdout)[0] == ["metric", "rows", "fresh", "missing", "last", "size"]
    assert [line[:4] for line in lines(result.stdout)[1:]] == [
        ["one", "1", "-", "1"],
        ["series", "2", "1", "1"],
        ["scaled", "4", "1", "3"],
        ["in", "all", "7", "2"],
    ]
    found = json.loads(smm("status", "metrics.yaml", "--json").stdout)
    assert set(found) == {"metrics", "undeclared"}
    assert {**found["metrics"][1], "last": "", "bytes": 0} == {
        "name": "series",
        "declared": 2,
        "stored": 1,
        "fresh": 1,
        "stale": 0,
        "missing": 1,
        "failed": 0,
        "last": "",
        "bytes": 0,
        "earlier": 0,
        "unseen": 0,
        "waiting": False,
    }
    assert found["metrics"][0]["last"] is None
    assert found["metrics"][1]["bytes"] > 0


def test_status_of_some(here: Project) -> None:
    found = json.loads(smm("status", "metrics.yaml", "scaled_3_*", "--json").stdout)
    assert [(metric["name"], metric["declared"]) for metric in found["metrics"]] == [("scaled", 2)]


def test_status_counts_what_nothing_declares(here: Project) -> None:
    smm("run", "metrics.yaml")
    here.write("less.yaml", "metrics: {one: {function: cli_code.one}}")
    assert (
        smm("status", "less.yaml").stdout.splitlines()[-1]
        == "6 stored metrics that nothing declares any more"
    )


# --- show -----------------------------------------------------------------------------------------------


def test_show_prints_the_record_and_the_value(here: Project) -> None:
    smm("run", "metrics.yaml")
    result = smm("show", "metrics.yaml", "series_4")
    text = result.stdout.splitlines()
    assert text[0] == "series_4"
    assert text[1].split(maxsplit=1) == ["call", "series(4)"]
    assert text[2].startswith("computed   20")
    assert ", in " in text[2]
    assert [line.split("  ")[0] for line in text[3:6]] == ["with", "code", "stored in"]
    assert text[5].startswith(f"stored in  {here.folder}/results, ")
    assert text[-2:] == ["array of float64, shape 4, from 0.0 to 3.0", "[0. 1. 2. 3.]"]


def test_show_prints_containers(here: Project) -> None:
    smm("run", "metrics.yaml")
    result = smm("show", "metrics.yaml", "scaled_3_2")
    assert result.stdout.splitlines()[-5:] == [
        "dict of 2",
        "  'values': array of float64, shape 3, from 0.0 to 4.0",
        "  'pair': tuple of 2",
        "    [0]: 1",
        "    [1]: None",
    ]


def test_show_of_several_is_a_table(here: Project) -> None:
    smm("run", "metrics.yaml", "one", "series_4")
    result = smm("show", "metrics.yaml", "one", "series")
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [
        "metric",
        "one",
        "series_3",
        "series_4",
    ]
    assert "not stored" in result.stdout.splitlines()[2]
    assert "array of float64, shape 4, from 0.0 to 3.0" in result.stdout.splitlines()[3]


def test_show_json(here: Project) -> None:
    smm("run", "metrics.yaml")
    (found,) = json.loads(smm("show", "metrics.yaml", "scaled_3_2", "--json").stdout)["metrics"]
    assert found["record"]["name"] == "scaled_3_2"
    assert found["record"]["params"] == {"a": 3, "b": 2}
    assert found["value"] == {
        "values": {"type": "array", "dtype": "<f8", "shape": [3], "values": [0.0, 2.0, 4.0]},
        "pair": {"type": "tuple", "value": [1, None]},
    }


def test_show_json_of_endless_nesting_is_no_traceback(here: Project) -> None:
    here.write(
        "cli_code.py",
        "def one():\n    value = []\n    for _ in range(5000): value = [value]\n    return value",
    )
    here.write("deep.yaml", "metrics: {one: {function: cli_code.one}}")
    assert smm("run", "deep.yaml").exit_code == 0
    result = smm("show", "deep.yaml", "one", "--json")
    assert result.exit_code == 2
    assert result.stderr == "error: metric 'one' is nested too deeply for JSON; leave --json out\n"
    assert smm("show", "deep.yaml", "one").exit_code == 0


def test_show_of_what_is_not_stored(here: Project) -> None:
    result = smm("show", "metrics.yaml", "one")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: metric 'one' is not stored in ")


def test_show_of_what_nothing_declares_any_more(here: Project) -> None:
    smm("run", "metrics.yaml")
    here.write("less.yaml", "metrics: {one: {function: cli_code.one}}")
    assert "call       series(a=4)" in smm("show", "less.yaml", "series_4").stdout


def test_show_of_a_damaged_file(here: Project) -> None:
    smm("run", "metrics.yaml")
    (here.folder / "results" / "series_3.npz").write_bytes(b"")
    result = smm("show", "metrics.yaml", "series_3")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: metric 'series_3' is damaged: ")
    assert "damaged: " in smm("show", "metrics.yaml", "series").stdout


# --- clear ----------------------------------------------------------------------------------------------


def test_clear_asks_first(here: Project) -> None:
    smm("run", "metrics.yaml")
    assert smm("clear", "metrics.yaml", "series", text="n\n").stderr.endswith("nothing deleted\n")
    nobody = process("clear", "metrics.yaml", "series", stdin=subprocess.DEVNULL)
    assert nobody.returncode == 2
    assert "nothing deleted" in nobody.stderr
    result = smm("clear", "metrics.yaml", "series", text="y\n")
    assert "Delete 2 stored metrics (series_3, series_4)?" in result.stderr
    assert result.stdout.splitlines()[-1] == "2 stored metrics deleted"
    assert json.loads(smm("status", "metrics.yaml", "--json").stdout)["metrics"][1]["stored"] == 0


def test_clear_json(here: Project) -> None:
    smm("run", "metrics.yaml")
    result = smm("clear", "metrics.yaml", "-y", "one", "series_*", "--json")
    assert json.loads(result.stdout) == {"cleared": ["one", "series_3", "series_4"]}
    assert smm("clear", "metrics.yaml", "one").stdout == "0 stored metrics deleted\n"


def test_clear_of_what_nothing_declares_any_more(here: Project) -> None:
    smm("run", "metrics.yaml")
    here.write("less.yaml", "metrics: {one: {function: cli_code.one}}")
    assert smm("clear", "less.yaml", "-y", "scaled_*").stdout == "4 stored metrics deleted\n"


# --- schema, help, version ------------------------------------------------------------------------------


def test_schema_is_json_schema() -> None:
    schema = json.loads(smm("schema").stdout)
    assert "metrics" in schema["properties"]


@pytest.mark.parametrize("command", ["check", "run", "status", "show", "clear", "schema"])
def test_every_command_has_help(command: str) -> None:
    result = smm(command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_version() -> None:
    from smm import __version__

    assert smm("--version").stdout == f"smm, version {__version__}\n"


# --- targets --------------------------------------------------------------------------------------------


@pytest.fixture
def module(here: Project) -> Project:
    here.write(
        "cli_module.py",
        """
        import smm
        CM = smm.ParameterizedDatedCacheManager(smm.NpzStorageInterface("made"))
        class Holder: CM = CM
        number = 3
        @CM.collect(params_list=[[1], [2]])
        def squared(n): return n * n
        """,
    )
    here.write("cli_empty.py", "")
    here.write("cli_broken.py", "\n1 / 0")
    return here


def test_a_manager_in_a_module(module: Project) -> None:
    assert smm("check", "cli_module:CM").stdout.splitlines()[0] == "cli_module:CM is fine: 1 metric, 2 rows"
    assert json.loads(smm("run", "cli_module:CM", "--json").stdout)["computed"] == 2
    assert "squared" in smm("status", "cli_module:Holder.CM").stdout
    assert (module.folder / "made" / "squared_2.npz").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("metrics.yml", "is no file; did you mean 'metrics.yaml'?"),
        ("nowhere/metrics.yaml", "is no file: there is no folder nowhere"),
        (".", "is a folder; give a file in it: failing.yaml"),
        ("cli_code", "is a module; which manager in it? write cli_code:CM"),
        ("metrics", "is no file; did you mean 'metrics.yaml'?"),
        ("cli_modul:CM", "is no file, and there is no module 'cli_modul' here or installed"),
        ("cli_module:", "names no manager: the module has cli_module:CM"),
        ("cli_module:CN", "has no 'CN': the module has cli_module:CM"),
        ("cli_module:number", "is no manager but of type 'int': the module has cli_module:CM"),
        ("cli_empty:CM", "has no 'CM': the module has no manager; make one with smm.from_config or"),
        (
            "cli_broken:CM",
            "cannot be imported: ZeroDivisionError: division by zero ({folder}/cli_broken.py:2)",
        ),
        (":CM", "is no file, and '' is no module name"),
        ("", "is no file"),
        ("a b:CM", "is no file, and 'a b' is no module name"),
        ("os:path", "is no manager but of type 'module': the module has no manager"),
    ],
)
def test_a_target_that_is_none(module: Project, target: str, message: str) -> None:
    result = smm("status", target)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {target!r} {message.format(folder=module.folder)}")
    assert "Traceback" not in result.stderr


def test_set_and_no_import_are_for_files(module: Project) -> None:
    result = smm("run", "cli_module:CM", "--set", "verbose=false")
    assert (result.exit_code, "--set changes nothing" in result.stderr) == (2, True)
    result = smm("check", "cli_module:CM", "--no-import")
    assert (result.exit_code, "leave --no-import out" in result.stderr) == (2, True)


def test_an_unknown_name_gives_the_closest(here: Project) -> None:
    for command in ("run", "status", "show", "clear"):
        result = smm(command, "metrics.yaml", "scald")
        assert result.exit_code == 2
        assert "no metric 'scald'" in result.stderr
        assert "did you mean 'scaled'?" in result.stderr


def test_a_file_that_cannot_be_read(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied", "metrics.yaml")

    monkeypatch.setattr("smm._target.from_config", refuse)
    result = smm("status", "metrics.yaml")
    assert (result.exit_code, result.stderr) == (2, "error: metrics.yaml: Permission denied\n")


# --- as a process ---------------------------------------------------------------------------------------


def test_as_a_process(here: Project) -> None:
    first = process("run", "metrics.yaml", cwd=here.folder)
    assert first.returncode == 0
    assert process("status", "nope.yaml", cwd=here.folder).returncode == 2
    assert process("run", "failing.yaml", cwd=here.folder).returncode == 1
    assert process("frobnicate").returncode == 2


def test_a_closed_pipe_is_no_traceback(here: Project) -> None:
    command = [sys.executable, "-m", "smm", "schema"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


def test_ctrl_c_ends_with_one_line_and_keeps_what_is_done(here: Project) -> None:
    here.write(
        "slow_code.py",
        """
        import os, signal
        def f(n):
            if n == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return n
        """,
    )
    here.write("slow.yaml", "metrics: {f: {function: slow_code.f, params_list: [[1], [2], [3]]}}")
    done = process("run", "slow.yaml", "-j", "1", cwd=here.folder)
    assert done.returncode == 130
    assert done.stdout.splitlines()[-1] == "not come to: 1; run again for the rest"
    assert (
        done.stderr.splitlines()[-1] == "interrupted: 2 computed and stored, 1 left; run again for the rest"
    )
    assert "stopping: what is running is finished and stored; Ctrl-C again stops at once" in done.stderr
    assert "Traceback" not in done.stderr
    assert (here.folder / "results" / "f_2.npz").exists()
    assert not (here.folder / "results" / "f_3.npz").exists()
    found = json.loads(process("run", "slow.yaml", "--json", cwd=here.folder).stdout)
    assert (found["stored"], found["computed"]) == (2, 1)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_twice_ends_at_once(here: Project, jobs: str) -> None:
    here.write(
        "slow_code.py",
        """
        import os, signal, threading
        def f(n):
            if n == 1:
                return n
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()
        """,
    )
    here.write("slow.yaml", "metrics: {f: {function: slow_code.f, params_list: [[1], [2]]}}")
    done = process("run", "slow.yaml", "-j", jobs, cwd=here.folder, timeout=60)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert not (here.folder / "results" / "f_2.npz").exists()
    assert json.loads(process("status", "slow.yaml", "--json", cwd=here.folder).stdout)["metrics"][0][
        "missing"
    ]


def test_ctrl_c_while_code_is_imported(here: Project) -> None:
    here.write("cli_code.py", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()")
    done = process("check", "metrics.yaml", cwd=here.folder)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_on_a_terminal_there_is_a_bar_and_colour(here: Project) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "smm", "run", "metrics.yaml"]
    running = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=here.folder, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert running.wait() == 0
    text = shown.decode()
    assert "7/7" in text or "0/7" in text
    assert "\x1b[" in text
    assert "in all" in text


def test_help_loads_only_click_and_the_standard_library() -> None:
    code = """
import sys
before = set(sys.modules)
from smm.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(name for name in loaded - set(sys.stdlib_module_names) if not name.startswith("__editable__")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['click', 'smm']"


def test_a_terminated_run_leaves_whole_files(here: Project) -> None:
    here.write(
        "killed_code.py",
        "import os, signal\ndef f(n):\n    if n == 2: os.kill(os.getpid(), signal.SIGKILL)\n    return n",
    )
    here.write("killed.yaml", "metrics: {f: {function: killed_code.f, params_list: [[1], [2]]}}")
    done = process("run", "killed.yaml", "-j", "1", cwd=here.folder)
    assert done.returncode == -signal.SIGKILL
    found = json.loads(process("status", "killed.yaml", "--json", cwd=here.folder).stdout)
    assert found["metrics"][0]["stored"] == 1


def test_output_that_the_terminal_cannot_spell_is_no_crash(here: Project, tmp_path: Path) -> None:
    here.write("cli_code.py", CODE.replace("return 1", "return 'gr\\u00fc\\u00df \\ud800'"))
    assert process("run", "metrics.yaml", "one", cwd=here.folder).returncode == 0
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for arguments in (
        ["show", "metrics.yaml", "one"],
        ["show", "metrics.yaml", "one", "--json"],
        ["status", "metrics.yaml"],
    ):
        done = process(*arguments, cwd=here.folder, env=environment)
        assert done.returncode == 0, done.stderr
