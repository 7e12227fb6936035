"""What others have written, on a terminal: names, params, exceptions, side-cars, logs, archives, files."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import pty
import re
import select
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

import smm
from smm import JsonStorageInterface, ParameterizedDatedCacheManager, errors
from smm._terminal import Console, Text
from smm.cli import main
from smm.errors import SmmWarning, StaleMetricError
from smm.metric import Reason
from tests.commands import runner
from tests.projects import Project, project

__all__ = ["project"]

PACKAGE = Path(smm.__file__).parent

BAD = "\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[31m\x9b1m\x08\u202egnp\u2066\u200f\u061c"
"""Sets the clipboard and the title, rings, changes the colour twice, goes back, turns the writing around."""
BAD_SHOWN = r"\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[31m\x9b1m\x08\u202egnp\u2066\u200f\u061c"
EVIL = f"{BAD}\u2028\x85\r"
"""The same with what ends a line."""
SHOWN = rf"{BAD_SHOWN}\u2028\x85\r"
MARKUP = "[red]x[/red][link=//a]y[/link]:bomb:"

NAME = f"evil{EVIL}{MARKUP}"


def controls(text: str, *, but: str = "\n") -> list[str]:
    """Characters of a text that a terminal would obey."""
    hidden = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
    return [ascii(found) for found in hidden.findall(text) if found not in but]


def joined(text: str) -> str:
    """A text without what a table puts between its parts when it folds a cell."""
    return "".join(text.split())


CODE = """
    import json
    import warnings

    import smm

    NAME = json.loads({name!r})
    BAD = json.loads({bad!r})
    EVIL = json.loads({evil!r})

    def good(a):
        return str(a)

    def bad(a):
        raise ValueError(BAD + " [bold]no[/bold]\\n  second" + EVIL)

    def named(base_name, params):
        return NAME + "-" + str(len(params[0]))

    CM = smm.ParameterizedDatedCacheManager(smm.JsonStorageInterface("results"), verbose=False)
    CM.collect(base_name=NAME, params_list=[[EVIL], [2]], ignore=())(good)
    CM.collect(base_name="bad" + EVIL, params_list=[[1], [2]])(bad)
    CM.collect(base_name="named", params_list=[[EVIL]], name_generation_function=named)(good)
    CM.collect(base_name="plain", params_list=[[1]])(good)
"""


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write(
        "evil_code.py", CODE.format(name=json.dumps(NAME), bad=json.dumps(BAD), evil=json.dumps(EVIL))
    )
    monkeypatch.chdir(project.folder)
    return project


def said(*arguments: str, text: str | None = None) -> str:
    """What a command prints on both streams; there is nothing in it that a terminal would obey."""
    sys.modules.pop("evil_code", None)
    result = runner().invoke(main, arguments, input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert controls(result.stdout + result.stderr) == []
    return result.stdout + result.stderr


# --- runs ------------------------------------------------------------------------------------------------


def test_a_run_shows_names_and_exceptions_as_text(here: Project) -> None:
    shown = said("run", "evil_code:CM", "-v")
    assert f"bad{SHOWN}_1: failed, ValueError: {BAD_SHOWN} [bold]no[/bold]" in shown, "a line of progress"
    assert f"evil{SHOWN}{MARKUP}" in shown, "the table"
    assert f"\n  second{SHOWN}\n" in shown, "the lines of a traceback stay lines"
    again = said("run", "evil_code:CM")
    assert f"skipped, it failed in an earlier run, ValueError: {BAD_SHOWN} [bold]no[/bold]" in again
    assert "skipped; ValueError:" in again, "the table"
    assert again.count(r"\x1b]52") > 4


def test_bars_show_names_and_exceptions_as_text(here: Project) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "400", "NO_COLOR": "1"}
    running = subprocess.Popen(
        [sys.executable, "-m", "smm", "run", "evil_code:CM"],
        stdout=theirs,
        stderr=theirs,
        cwd=here.folder,
        env=environment,
    )
    os.close(theirs)
    shown = b""
    until = time.monotonic() + 120
    try:
        while time.monotonic() < until and select.select([ours], [], [], 120)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not chunk:
                break
            shown += chunk
        assert running.wait(timeout=120) == 1
    finally:
        running.kill()
        running.wait()
        os.close(ours)
    text = shown.decode()
    assert "\x1b[31m" not in text
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert drawn != text, "rich draws with escape sequences of its own"
    assert controls(drawn, but="\r\n") == []
    assert f"ValueError: {BAD_SHOWN} [bold]no[/bold]" in drawn
    assert MARKUP in drawn


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["plan"],
        ["plan", "--force"],
        ["graph"],
        ["graph", "--rows"],
        ["graph", "--format", "mermaid"],
        ["graph", "--format", "dot"],
        ["show", "*"],
        ["show", "named"],
        ["why", "*"],
        ["verify"],
        ["accept", "*", "-n"],
        ["rename", "named", f"other{EVIL}", "-n"],
        ["rename", NAME, "plain", "-n"],
        ["rename", f"nothing{EVIL}", "other"],
        ["show", f"nothing{EVIL}"],
        ["why", f"nothing{EVIL}"],
        ["clear", "named"],
        ["clear", "named", "-y"],
        ["clear", "named", "--json"],
        ["gc", "--unknown"],
        ["run", f"nothing{EVIL}"],
        ["run", "--executor", f"nothing{EVIL}"],
    ],
    ids=" ".join,
)
def test_no_command_lets_a_name_through(here: Project, command: list[str]) -> None:
    said("run", "evil_code:CM", "--no-progress")
    (here.folder / "results" / f"stray{EVIL}.json").write_text("1")
    shown = said(command[0], "evil_code:CM", *command[1:], text="n\n")
    quiet = {"verify", "accept", "plan", "clear"}  # nothing is wrong, or only base names are shown
    assert command[0] in quiet or r"\x1b" in shown or "#92;x1b" in shown


def test_a_question_shows_names_as_text(here: Project) -> None:
    said("run", "evil_code:CM", "--no-progress")
    result = runner().invoke(main, ["clear", "evil_code:CM", "named"], input="n\n")
    assert f"Delete 1 stored metric ({NAME.replace(EVIL, SHOWN)}-" in result.stderr


# --- what files say --------------------------------------------------------------------------------------


def side_car(folder: Path, name: str) -> Path:
    (path,) = (file for file in folder.glob("*_date.json") if json.loads(file.read_text())["name"] == name)
    return path


def test_a_side_car_is_shown_as_text(here: Project) -> None:
    said("run", "evil_code:CM", "--no-progress")
    path = side_car(here.folder / "results", "plain_1")
    record = json.loads(path.read_text())
    record |= {"smm_version": f"1{EVIL}{MARKUP}", "python_version": EVIL, "numpy_version": EVIL}
    record["code"]["digest"] = "0" * len(record["code"]["digest"])
    record["code"]["parts"] = {f"evil_code.{EVIL}{MARKUP}": "0" * 16}
    record["inputs"] = {f"read{EVIL}": record["date"]}
    path.write_text(json.dumps(record))
    shown = said("show", "evil_code:CM", "plain_1")
    assert joined(f"smm 1{SHOWN}{MARKUP}, Python {SHOWN}, numpy {SHOWN}") in joined(shown)
    assert f"{SHOWN}{MARKUP}" in said("why", "evil_code:CM", "plain_1")
    for command in (["status"], ["graph", "--rows"], ["accept", "plain", "-n"], ["plan"], ["gc"], ["verify"]):
        said(command[0], "evil_code:CM", *command[1:])
    said("diff", "results", "results")
    record["base_name"], record["params"] = f"plain{EVIL}", {f"a{EVIL}": f"b{EVIL}"}
    path.write_text(json.dumps(record))
    here.write("bare.py", "import smm\nCM = smm.DatedCacheManager(smm.JsonStorageInterface('results'))")
    assert joined(f"plain{SHOWN}(a{SHOWN}=b{SHOWN})") in joined(said("show", "bare:CM", "plain_1"))
    said("show", "evil_code:CM", "plain_1")  # which now is another row's
    CM = ParameterizedDatedCacheManager(JsonStorageInterface("results"), verbose=False)
    CM.collect(base_name="plain", params_list=[[1]])(lambda a: str(a))
    reasons = CM.why("plain_1")
    assert reasons
    assert controls("\n".join(map(str, reasons))) == []


def test_an_old_error_of_a_log_is_shown_as_text(here: Project) -> None:
    said("run", "evil_code:CM", "--no-progress")
    (log,) = (here.folder / "results" / ".smm" / "runs").glob("*.jsonl")
    log.write_text(log.read_text().replace('"type": "ValueError"', f'"type": {json.dumps("E" + EVIL)}'))
    assert f"E{SHOWN}" in said("why", "evil_code:CM", "bad*")
    assert f"E{SHOWN}" in said("run", "evil_code:CM")
    said("status", "evil_code:CM")
    said("plan", "evil_code:CM")


def test_a_difference_from_the_archive_is_shown_as_text(here: Project) -> None:
    said("run", "evil_code:CM", "--no-progress")
    archived = list((here.folder / "results" / ".smm" / "code").glob("*.py"))
    assert archived
    for file in archived:
        file.write_text(f"def good(a):\n\treturn 1  # {BAD}{MARKUP}\n")
    code = here.folder / "evil_code.py"
    code.write_text(code.read_text().replace("return str(a)", "return str(a) + ''"))
    shown = said("why", "evil_code:CM", "plain_1")
    assert f"    -       return 1  # {BAD_SHOWN}{MARKUP}\n" in shown


def test_stored_values_are_shown_as_text(here: Project) -> None:
    storage = smm.NpzStorageInterface("values")
    CM = ParameterizedDatedCacheManager(storage, verbose=False)
    np = pytest.importorskip("numpy")
    values = {"text": EVIL + "\n" + EVIL, "scalar": np.str_(EVIL), "dict": {EVIL: [EVIL]}}
    CM.set_functions_dict({name: lambda value=value: value for name, value in values.items()})
    for name in values:
        CM.get(name)
    here.write("values.py", "import smm\nCM = smm.DatedCacheManager(smm.NpzStorageInterface('values'))")
    for name in ("text", "scalar", "dict", "*"):
        sys.modules.pop("values", None)
        assert r"\x1b]52" in said("show", "values:CM", name)


@pytest.mark.parametrize(
    "text",
    [
        'metrics: {"a\\e]52;c;x\\a\\u202e": {function: "no\\e]52;c;x\\a"}}',
        '"a\\e]52;c;x\\a": 1',
        'metrics: {"a\\e]52;c;x\\a\\n": {function: evil_code.nope, params_list: ["\\e]52;c;x\\a"]}}',
        'metrics: {a: {function: evil_code.good, params_list: [{grid: {"\\e]52": [1]}}]}}',
        'metrics: {a: {function: evil_code.bad_import, params_list: [1]}}\npythonpath: ["\\e]52;c;x\\a"]',
        "metrics: {a: {function: raising.f}}",
        "metrics: \x1b]52;c;x\x07",
    ],
)
def test_problems_of_a_file_are_shown_as_text(here: Project, text: str) -> None:
    here.write("raising.py", f"raise ValueError({EVIL!r})")
    here.write("evil.yaml", text)
    shown = said("check", "evil.yaml")
    assert "problem" in shown
    assert "\\x1b" in shown or "U+001B" in shown
    with pytest.raises(errors.ConfigError) as caught:
        smm.from_config("evil.yaml")
    assert controls(str(caught.value)) == []
    assert len(str(caught.value).splitlines()) == len(caught.value.problems)


# --- errors, warnings, notes, lines ----------------------------------------------------------------------

EVIL_ERRORS = [
    errors.CorruptMetricError(name="a", path=Path(EVIL), reason=EVIL),
    errors.MetricNotStoredError(name="a", where=EVIL, detail=EVIL),
    StaleMetricError(name="a", reasons=[EVIL, "b"]),
    errors.WorkerError(kind="E", text=EVIL),
    errors.FailedBeforeError(name="a", kind="E", text=EVIL),
    errors.TargetError(target="a", reason=EVIL),
    errors.CircularMetricError(chain=[f"a{EVIL}", "b"]),
    errors.Problem(file=EVIL, line=1, column=2, path=EVIL, message=f"{EVIL}\n{EVIL}"),
    Reason(kind="code", about=f"a{EVIL}", detail=f"changed{EVIL}"),
    SmmWarning(f"a{EVIL}"),
]


@pytest.mark.parametrize("error", EVIL_ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_says_what_it_is_about_as_text(error: Any) -> None:
    assert controls(str(error)) == []
    assert SHOWN in str(error)


def test_the_data_of_an_error_stays_as_it_is() -> None:
    error = errors.WorkerError(kind="E", text=EVIL)
    assert error.text == EVIL


def test_warnings_are_printed_as_text() -> None:
    shown = warnings.formatwarning(SmmWarning(f"of {EVIL}"), SmmWarning, "code.py", 1, "line")
    assert shown == f"code.py:1: SmmWarning: of {SHOWN}\n  line\n"


def test_lines_about_what_is_done_are_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    CM = ParameterizedDatedCacheManager(JsonStorageInterface(tmp_path), verbose=True)
    CM.set_functions_dict({f"a{EVIL}\nb": lambda: 1})
    with caplog.at_level(logging.INFO, logger="smm"):
        CM.get(f"a{EVIL}\nb")
        CM.clear_cache()
        CM.get(f"a{EVIL}\nb")
    shown = capsys.readouterr().out
    assert controls(shown) == []
    assert controls(caplog.text) == []
    assert all(rf"a{SHOWN}\nb" in line for line in shown.splitlines())
    assert shown.splitlines() == [record.getMessage() for record in caplog.records]


def test_notes_name_folders_as_text(tmp_path: Path) -> None:
    file = tmp_path / f"a{EVIL}"
    file.write_text("")
    storage = JsonStorageInterface(file)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        storage.check("a")
    notes = [note for note in caught.value.__notes__ if SHOWN in note]
    assert notes
    assert controls("\n".join(notes)) == []
    (tmp_path / f"b{EVIL}").mkdir()
    (tmp_path / f"b{EVIL}" / "a.json").mkdir()
    storage = JsonStorageInterface(tmp_path / f"b{EVIL}")
    with pytest.raises(Exception) as found:  # noqa: PT011
        storage.load("a")
    assert controls("\n".join([str(found.value), *getattr(found.value, "__notes__", ())])) == []


# --- the doors -------------------------------------------------------------------------------------------


@pytest.fixture
def drawn() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=300), out


def test_texts_and_tables_are_drawn_as_text(drawn: tuple[Console, io.StringIO]) -> None:
    console, out = drawn
    table = Table(f"head{EVIL}{MARKUP}")
    table.add_row(f"a str{EVIL}{MARKUP}")
    table.add_row(Text(f"a Text{EVIL}{MARKUP}\nb"))
    console.print(table)
    console.print(f"printed{EVIL}{MARKUP}")
    console.print(Text.assemble((f"assembled{EVIL}", "red"), "  ", MARKUP).append(f"more{EVIL}", style="dim"))
    assert controls(out.getvalue()) == []
    for begin in ("head", "a str", "a Text", "printed"):
        assert f"{begin}{SHOWN}{MARKUP}" in out.getvalue()
    assert rf"{MARKUP}\nb" in out.getvalue()
    assert f"assembled{SHOWN}  {MARKUP}more{SHOWN}" in out.getvalue()


DOORS = {"_carrying", "_command", "_ending", "_keeping", "_progress", "_terminal"}
"""Modules that print. Each makes what it prints visible, or prints texts of smm's own."""


def prints(source: str) -> set[str]:
    """What of a module writes to a terminal past the doors."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found.add("print")
            case ast.Attribute(value=ast.Name(id="click"), attr="echo" | "secho" | "confirm" | "prompt"):
                found.add(f"click.{node.attr}")
            case ast.Attribute(value=ast.Attribute(attr="stdout" | "stderr"), attr="write"):
                found.add("write")
            case ast.ImportFrom(module="rich.text" | "rich.console" | "rich"):
                names = {alias.name for alias in node.names} & {"Text", "Console", "print", "text", "console"}
                found |= {f"{node.module}.{name}" for name in names}
            case ast.Import():
                found |= {alias.name for alias in node.names if alias.name in ("rich.text", "rich.console")}
    return found


def test_nothing_is_printed_past_the_doors() -> None:
    found = {path.stem: prints(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert {module for module, ways in found.items() if ways} == DOORS
    assert prints("import click\nclick.echo('a')\nprint('b')") == {"click.echo", "print"}
