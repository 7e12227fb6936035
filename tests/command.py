"""The command line as a person has it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `smm` with arguments in a folder, and return what it printed.

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
