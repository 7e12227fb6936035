"""Runs in real processes: scripts and their signals, what metrics say meanwhile, what is stored in the end.

The files of a test share one folder. In it, `noting.py` is what metrics import:

    note(word)     a line in the file `noted`, whole whoever else writes
    say(*words)    a line to the test, which waits for it (`Ear.hears`)
    wait()         goes on when the test opens the gate (`Gate`)
    once(word)     True for the first caller of all processes, False afterwards
    block()        for ever
"""

from __future__ import annotations

import fcntl
import importlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from tests.projects import Project

LONG = 60.0
"""Seconds after which a test that hangs is given up; nothing waits this long when all is well."""

MANAGER = """
    import os, signal, sys
    import numpy as np
    import smm
    from noting import *

    CM = smm.ParameterizedDatedCacheManager(smm.NpzStorageInterface(HERE / "results"), verbose=False)
"""
"""How a module of metrics begins."""

NOTING = """
    import fcntl, os, threading
    from pathlib import Path

    HERE = Path(__file__).parent

    def _append(path, line):
        # one write a line: several processes append
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode() + b"\\n")
        os.close(descriptor)

    def note(word):
        _append(HERE / "noted", str(word))

    def say(*words):
        _append(HERE / "ear", " ".join(map(str, words)))

    def wait():
        with open(HERE / "gate") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)

    def once(word):
        try:
            os.close(os.open(HERE / f"once-{word}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def block():
        threading.Event().wait()
"""


class Ear:
    """Hears what metrics say, in whatever process, line by line."""

    def __init__(self, folder: Path) -> None:
        os.mkfifo(folder / "ear")
        # For writing, too: it never ends, and is there for writers from the start.
        self._descriptor = os.open(folder / "ear", os.O_RDWR | os.O_NONBLOCK)
        self._heard = b""

    def hears(self) -> list[str]:
        """The words of the next line."""
        until = time.monotonic() + LONG
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, until - time.monotonic()))
            assert ready, "nobody says anything"
            self._heard += os.read(self._descriptor, 4096)
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode().split()

    def heard(self, until: Callable[[], bool]) -> list[str] | None:
        """The words of the next line; None once something is true, and nothing is left to be heard."""
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._descriptor], [], [], 0.05)
            if not ready and until():
                return None
            if ready:
                self._heard += os.read(self._descriptor, 4096)
        return self.hears()

    def close(self) -> None:
        os.close(self._descriptor)


class Gate:
    """Holds metrics that wait, until it is opened."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[str] = (folder / "gate").open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def open(self) -> None:
        """Let all pass, now and later."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self._file.close()


class Script:
    """A Python process in a session of its own, as a terminal would have it; warnings are errors in it."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._texts = [(folder / f"{stream}-{time.monotonic_ns()}").open("w+") for stream in ("out", "err")]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._texts[0],
            stderr=self._texts[1],
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=_hear_signals,
        )
        self.pid = self.process.pid

    def press_ctrl_c(self) -> None:
        """As a terminal does: to every process of the group."""
        os.killpg(self.pid, signal.SIGINT)

    def ended(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error, once it has ended."""
        code = self.process.wait(LONG)
        return code, *self.said()

    def said(self) -> tuple[str, str]:
        """Standard output and standard error so far."""
        return Path(self._texts[0].name).read_text(), Path(self._texts[1].name).read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LONG)
        for text in self._texts:
            text.close()


def _hear_signals() -> None:
    """A shell starts what runs in its background, such as these tests perhaps, deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Stage(Project):
    """A project whose metrics talk to the test."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.write("noting.py", NOTING)
        self.ear = Ear(folder)
        self.gate = Gate(folder)
        self._scripts: list[Script] = []

    def manager(self, text: str, module: str = "metrics_here") -> Any:
        """The manager `CM` of a module that is written and imported."""
        self.write(f"{module}.py", text)
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        return importlib.import_module(module).CM

    @staticmethod
    def dedented(text: str) -> str:
        """A text as a file would have it, for `python -c`."""
        return textwrap.dedent(text).replace("Path(__file__).parent", "Path()")

    def start(self, *arguments: str, **environment: str) -> Script:
        """Start Python with these arguments."""
        script = Script(self.folder, *arguments, **environment)
        self._scripts.append(script)
        return script

    def done(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """The same, to its end."""
        return self.start(*arguments, **environment).ended()

    def noted(self) -> Counter[str]:
        """How often metrics have noted each word."""
        path = self.folder / "noted"
        return Counter(path.read_text().split("\n")[:-1]) if path.exists() else Counter()

    def stored(self, where: str = "results") -> dict[str, Any]:
        """What is stored, as numpy reads it: for each metric its arrays as dtype, shape and bytes."""
        return {path.stem: contents(path) for path in sorted((self.folder / where).glob("*.npz"))}

    def close(self) -> None:
        self.gate.open()
        for script in self._scripts:
            script.close()
        self.ear.close()
        self.gate.close()


@pytest.fixture
def stage(project: Project) -> Iterator[Stage]:
    made = Stage(project.folder)
    yield made
    made.close()


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The arrays of an npz file, bit for bit."""
    with np.load(path) as file:
        arrays = {key: np.asarray(file[key]) for key in file.files}
    return {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in arrays.items()}


def wait_until_gone(*pids: int) -> None:
    """Return when none of these processes runs any more, whoever started it."""
    until = time.monotonic() + LONG
    for pid in pids:
        _wait_until_gone(pid, until)


def _wait_until_gone(pid: int, until: float) -> None:
    if not hasattr(os, "pidfd_open"):  # elsewhere than on Linux
        assert is_true_soon(lambda: not _is_there(pid)), f"process {pid} still runs"
        return
    try:
        opened = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([opened], [], [], max(0.0, until - time.monotonic()))
        assert ended, f"process {pid} still runs"
    finally:
        os.close(opened)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_true_soon(ask: Callable[[], bool]) -> bool:
    """Whether something comes true that only asking again can tell."""
    until = time.monotonic() + LONG
    while not (true := ask()) and time.monotonic() < until:
        time.sleep(0.01)
    return true
