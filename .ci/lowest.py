"""Print the lowest versions that pyproject.toml declares, for smm and its tests, as constraints for pip."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
    match = re.fullmatch(r"([\w.-]+)(?:>=([\w.]+))?", requirement)
    if match is None:
        sys.exit(
            f"pyproject.toml: {requirement!r} should be a name, or a name with >= and its lowest version"
        )
    if match[2] is not None:  # only stubs for type checkers are without
        print(f"{match[1]}=={match[2]}")  # noqa: T201 - that is what it is for
