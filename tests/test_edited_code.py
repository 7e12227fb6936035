"""Code that is edited while a manager is at work is seen by the next call, whatever was looked at before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.notebook import BEFORE, EDITS, LOOKS, POLICIES

Outcomes = dict[str, dict[str, list[tuple[Any, int]]]]

SCRIPT = Path(__file__).with_name("notebook.py")


@pytest.fixture(scope="module", params=["cells", "reload", "autoreload"])
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What calling the metrics again gave, for all combinations of one way of editing."""
    folder = tmp_path_factory.mktemp("edited")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), request.param, str(folder)],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "IPYTHONDIR": str(folder / "ipython")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-3000:]
    found: Outcomes = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_edit_is_seen_after_every_look(outcomes: Outcomes, policy: str, look: str) -> None:
    seen = {
        edit: outcomes[f"{policy}, {look}, {edit}"]
        for edit in EDITS
        if f"{policy}, {look}, {edit}" in outcomes
    }
    assert len(seen) >= 4
    for edit, found in seen.items():
        for name, after in EDITS[edit][1].items():
            values = [value for value, _ in found[name]]
            warned = sum(count for _, count in found[name])
            if after == BEFORE[name] or policy == "serve":
                assert (values, warned) == (BEFORE[name], 0), (edit, name)
            elif policy == "warn":
                assert (values, warned) == (BEFORE[name], 1), (edit, name)
            elif policy == "recompute":
                assert (values, warned) == (after, 0), (edit, name)
            else:
                assert values == ["StaleMetricError"] * 2, (edit, name)
