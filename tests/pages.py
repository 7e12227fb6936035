"""Runs the code blocks of a documentation page, top to bottom, in the working directory: `pages.py PAGE`.

A comment before a block says what is special about it:

    <!-- file: analysis.py -->       the block is written to this file, and run by what comes later
    <!-- not run here: why -->       the block is left alone
    <!-- exits: 2 -->                the block's last command ends with this code
    <!-- with: configs -->           a copy of the repository's configs/ is there from now on, made faster

python      is run in one namespace a page; with `>>>` as a doctest, whose outputs are compared.
yaml        is checked as a configuration.
console     each line after `$ ` is run by the shell; what follows it is compared with what it prints,
            whatever the dates, durations, sizes, versions and digests in it.

Compared as doctest does, `...` standing for anything and white space for white space.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[1]
CHECKED = ("python", "yaml", "console")
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_BLOCK = re.compile(
    r"(?P<comments>(?:^<!--[^\n]*-->\n)*)^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_COMMENT = re.compile(r"<!-- (?P<key>[a-z ]+): (?P<value>.*?) -->")
HOME = "/home/you/work"
"""What pages show for the working directory."""
_UNSETTLED = {
    r"\d{4}-\d\d-\d\d \d\d:\d\d": "<date>",
    r"\b[\d.]+ (?:µs|ms|s)\b": "<time>",
    r"\b[\d.]+ (?:B|kB|MB)\b": "<size>",
    r"\b\d+\.\d+\.\d+\w*": "<version>",
    r"\b[0-9a-f]{8}(?=, \d+ definition)": "<digest>",
}


@attrs.frozen(kw_only=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int
    """Of its first line of text, from 1."""
    said: dict[str, str]
    """What the comments before it say."""


def blocks(page: str) -> Iterator[Block]:
    """Give the fenced blocks of a page."""
    for found in _BLOCK.finditer(page):
        yield Block(
            language=found["language"].strip(),
            text=found["text"],
            line=page.count("\n", 0, found.start("text")) + 1,
            said={comment["key"]: comment["value"] for comment in _COMMENT.finditer(found["comments"])},
        )


def run(page: Path) -> None:
    """Run a page's blocks in the working directory.

    Raises:
        AssertionError: a block fails, or prints something else than the page says; it names page and line.
    """
    names: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks(page.read_text()):
        where = f"{page.name}:{block.line}"
        if block.said.get("with") == "configs":
            _copy_configs()
        if "not run here" in block.said or block.language not in CHECKED:
            continue
        if "file" in block.said:
            Path(block.said["file"]).write_text(block.text)
            continue
        if block.language == "python":
            _run_python(block, names, where)
        elif block.language == "yaml":
            _check_configuration(block, where)
        else:
            _run_console(block, where)


def _run_python(block: Block, names: dict[str, Any], where: str) -> None:
    if ">>> " not in block.text:
        # Lines are counted from the page's first, so that a traceback points into the page.
        exec(compile("\n" * (block.line - 1) + block.text, where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(block.text, names, where, where, block.line - 1)
    said: list[str] = []
    # doctest works on a copy of the names, and clears it at the end unless told otherwise.
    doctest.DocTestRunner(optionflags=_FLAGS).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not said, f"{where}:\n{''.join(said)}"


def _check_configuration(block: Block, where: str) -> None:
    from smm import load_config

    path = Path(f"line-{block.line}.yaml")
    path.write_text(block.text)
    try:
        load_config(path)
    except Exception as error:
        raise AssertionError(f"{where}: {error}") from error


def _run_console(block: Block, where: str) -> None:
    commands = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not commands[0], f"{where}: a console block begins with `$ `"
    wanted_codes = [0] * (len(commands) - 2) + [int(block.said.get("exits", 0))]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    for text, code in zip(commands[1:], wanted_codes, strict=True):
        command, _, wanted = text.partition("\n")
        done = subprocess.run(
            command, shell=True, env=environment, capture_output=True, text=True, check=False
        )
        # Progress, on standard error, is no part of what a page shows.
        got = (done.stdout + (done.stderr if code else "")).replace(os.getcwd(), HOME)
        assert done.returncode == code, (
            f"{where}: {command} exits with {done.returncode}, not {code}:\n{got}{done.stderr}"
        )
        assert not wanted or doctest.OutputChecker().check_output(_settled(wanted), _settled(got), _FLAGS), (
            f"{where}: {command}\nthe page says:\n{wanted}\nit prints:\n{got}"
        )


def _settled(text: str) -> str:
    """A command's output without what differs from run to run and from machine to machine."""
    for pattern, word in _UNSETTLED.items():
        text = re.sub(pattern, word, text)
    return text


def _copy_configs() -> None:
    """The examples, with few bootstrap resamples: pages show nothing that depends on their number."""
    shutil.copytree(ROOT / "configs", "configs", ignore=shutil.ignore_patterns("results", "__pycache__"))
    analysis = Path("configs/co2/analysis.py")
    analysis.write_text(analysis.read_text().replace("RESAMPLES = 80_000", "RESAMPLES = 100"))


if __name__ == "__main__":
    # As in a session: what the page writes is imported, and smm from where it is installed.
    sys.path.insert(0, os.getcwd())
    run(Path(sys.argv[1]).resolve())
