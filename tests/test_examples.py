"""The decorated example, and that every example's configuration is right."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture
def decorated(tmp_path: Path) -> Path:
    folder = tmp_path / "decorated"
    shutil.copytree(CONFIGS / "decorated", folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    return folder


def python(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/metrics.yaml")), ids=lambda path: path.parent.name)
def test_every_example_is_checked_without_a_problem(path: Path) -> None:
    python("-m", "smm", "check", str(path), cwd=path.parent)


def test_every_example_is_in_the_readme() -> None:
    readme = (CONFIGS.parent / "README.md").read_text()
    for path in CONFIGS.glob("*/metrics.yaml"):
        assert f"configs/{path.parent.name}" in readme


def test_decorated_functions_meet_their_rows(decorated: Path) -> None:
    def run() -> list[str]:
        outcomes = json.loads(python("-m", "smm", "run", "--json", "logistic:CM", cwd=decorated))["metrics"]
        return [outcome["status"] for outcome in outcomes]

    assert run() == ["computed"] * 99
    assert run() == ["stored"] * 99


def test_the_logistic_map_does_what_is_known_of_it(decorated: Path) -> None:
    program = """
import json
from logistic import CM
found = CM.periods()
print(json.dumps({
    "periods": dict(zip(found["r"].tolist(), found["period"].tolist())),
    "exponents": [CM.lyapunov_exponent(r) for r in (2.5, 3.25, 3.5, 4.0)],
}))
"""
    found = json.loads(python("-c", program, cwd=decorated))
    # The cycle doubles at r = 3, 3.449 and 3.544; chaos begins at 3.5699; a cycle of three at 3.8284.
    for r, period in {"2.5": 1, "2.75": 1, "3.25": 2, "3.40625": 2, "3.5": 4, "4.0": 0, "3.625": 0}.items():
        assert found["periods"][r] == period, r
    settled, cycle_of_two, cycle_of_four, chaos = found["exponents"]
    assert settled == pytest.approx(-0.6931, abs=1e-3)  # ln |2 - r|
    assert cycle_of_two < 0
    assert cycle_of_four < 0
    assert chaos == pytest.approx(0.6931, abs=0.02)  # ln 2
