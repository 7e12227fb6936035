"""Where it was measured: without it, no figure means anything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import smm
from tests.benchmarks.peers import PEERS


def described(folder: Path) -> dict[str, str]:
    """Processor, system, versions and the file system of a folder, each as text; and today's date."""
    versions = {name: version(name) for name in ("numpy", *PEERS)}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "file system": file_system(folder),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "smm": smm.__version__,
        **{name: found for name, found in versions.items() if found is not None},
    }


def version(library: str) -> str | None:
    """Of an installed library."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The model, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on, `ext4`; `unknown` where the system does not tell."""
    if sys.platform != "linux":
        return "unknown"
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return "unknown"
