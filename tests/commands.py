"""The command line: called within this process, or in one of its own as a person has it."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from smm.cli import main


def runner() -> CliRunner:
    """Return a runner that keeps standard output and standard error apart, with any version of click."""
    apart: dict[str, Any] = {}
    if "mix_stderr" in inspect.signature(CliRunner).parameters:  # before click 8.2, which always does
        apart["mix_stderr"] = False
    return CliRunner(**apart)


def run_cli(*arguments: str, text: str | None = None) -> Result:
    """Return what `smm` with these arguments and this standard input gives.

    Raises:
        Exception: what the command raises, but for its exit.
    """
    result = runner().invoke(main, arguments, input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `smm` in a process of its own, in a folder, and return what it printed.

    Python writes no bytecode: of two edits within a second it would keep the first one's.
    """
    return subprocess.run(
        [sys.executable, "-m", "smm", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
