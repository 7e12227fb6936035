"""Starting: whole processes, from their start to their end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.measure import Area, Contestant, Goal, Race, Room, Sample, process

CO2 = Path(__file__).resolve().parents[2] / "configs" / "co2"
SERVES = """\
import smm

CM = smm.ParameterizedDatedCacheManager(smm.JsonStorageInterface("results"), verbose=False)


@CM.collect
def answer():
    return 42


print(CM.answer())
"""


def _python(code: str) -> Callable[[Room], Sample]:
    return lambda room: process([sys.executable, "-c", code], room.folder(), room)


def _command() -> list[str]:
    """The command `smm` beside this Python, or what it does."""
    beside = Path(sys.executable).with_name("smm")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "smm"]


def _help(room: Room) -> Sample:
    return process([*_command(), "--help"], room.folder(), room)


def _example(room: Room) -> Path:
    """The CO2 example, with few bootstrap resamples: what is stored takes the same room."""
    folder = room.folder() / "co2"
    shutil.copytree(CO2, folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    analysis = folder / "analysis.py"
    analysis.write_text(analysis.read_text().replace("RESAMPLES = 80_000", "RESAMPLES = 100"))
    return folder


def _status(*, stored: bool) -> Callable[[Room], Sample]:
    def make(room: Room) -> Sample:
        folder = _example(room)
        if stored:
            subprocess.run(
                [*_command(), "run", "--no-progress", "metrics.yaml"],
                cwd=folder,
                check=True,
                capture_output=True,
            )
        return process([*_command(), "status", "metrics.yaml"], folder, room)

    return make


def _serves(room: Room) -> Sample:
    folder = room.folder()
    (folder / "script.py").write_text(SERVES)
    arguments = [sys.executable, "script.py"]
    for _ in range(2):  # computed, then served
        done = subprocess.run(arguments, cwd=folder, check=True, capture_output=True, text=True)
        if done.stdout != "42\n":
            raise AssertionError(f"it prints {done.stdout!r}")
    return process(arguments, folder, room)


PASS = Contestant(name="python -c pass", make=_python("pass"))
NUMPY = Contestant(name='python -c "import numpy"', make=_python("import numpy"))

AREA = Area(
    name="start",
    title="Starting",
    says=(
        "New processes, from their start to their end, of the Python that runs the benchmarks. `smm status` "
        "looks at all 160 results of the example in configs/co2, and whether each is stale."
    ),
    races=(
        Race(
            rounds=31,
            quick_rounds=7,
            goals=(
                Goal(
                    text="import",
                    smm=Contestant(name='python -c "import smm"', make=_python("import smm")),
                    reference=PASS,
                    limit=1.5,
                ),
                Goal(text="help", smm=Contestant(name="smm --help", make=_help), reference=PASS, limit=5.5),
                Goal(
                    text="status, all stored",
                    smm=Contestant(name="smm status", make=_status(stored=True)),
                    reference=NUMPY,
                    limit=2.5,
                ),
                Goal(
                    text="status, nothing stored",
                    smm=Contestant(name="smm status", make=_status(stored=False)),
                    reference=NUMPY,
                ),
                Goal(
                    text="one stored JSON value",
                    smm=Contestant(name="a script that serves it", make=_serves),
                    reference=PASS,
                    limit=4,
                ),
            ),
        ),
    ),
)
