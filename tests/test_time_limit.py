"""A test that hangs is a failure with stacks, whatever holds it and whatever it has started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import LONG

HANGS = """
import os, threading

def test_before():
    pass

def test_hangs():
    print("what it says")
    if not os.fork():
        threading.Event().wait()  # with the pipes open by which xdist would see the end of its worker
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
"""


@pytest.mark.parametrize("processes", [0, 1])
def test_a_test_that_hangs_has_failed(tmp_path: Path, processes: int) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text(HANGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 1\ntimeout_method = thread\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", str(processes)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 1
    assert "test_it.py::test_hangs has not ended within 1 s" in done.stderr
    assert 'test_it.py", line 13 in test_hangs' in done.stderr
    assert "what it says" in done.stderr
    assert not processes or "1 failed, 1 passed" in done.stdout
