"""Reads that a metric makes by threads and processes of its own are noted; those of others are not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

import smm
from smm import NpzStorageInterface, ParameterizedDatedCacheManager

PATIENCE = 60.0
"""Seconds after which a wait in a test has failed."""


@pytest.fixture
def cm(tmp_path: Path) -> ParameterizedDatedCacheManager:
    return with_base(tmp_path)


def with_base(folder: Path, more: int = 0) -> ParameterizedDatedCacheManager:
    """A manager with four rows of `base`."""
    made = ParameterizedDatedCacheManager(NpzStorageInterface(folder), verbose=False)
    made.collect("base", params_list=[0, 1, 2, 3])(lambda a: a + more)
    return made


def reads(cm: ParameterizedDatedCacheManager, name: str) -> set[str]:
    return {read.name for read in cm.record(name).inputs or ()}


ALL = {"base_0", "base_1", "base_2", "base_3"}


def test_reads_in_a_pool_that_the_metric_starts(cm: ParameterizedDatedCacheManager, tmp_path: Path) -> None:
    @cm.collect
    def total() -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(cm.base, range(4)))

    assert cm.total() == 6
    assert reads(cm, "total") == ALL
    with_base(tmp_path, 1).base(2, use_stored=False)
    assert [(reason.kind, reason.about) for reason in cm.why("total")] == [("input", "base_2")]


def test_reads_in_threads_of_threads(cm: ParameterizedDatedCacheManager) -> None:
    @cm.collect
    def total() -> int:
        found: list[int] = []

        def outer() -> None:
            inner = threading.Thread(target=lambda: found.append(cm.base(2)))
            inner.start()
            inner.join(PATIENCE)
            found.append(cm.base(3))

        thread = threading.Thread(target=outer)
        thread.start()
        thread.join(PATIENCE)
        return sum(found)

    assert cm.total() == 5
    assert reads(cm, "total") == {"base_2", "base_3"}


def test_a_copied_context_says_whose_a_read_is(cm: ParameterizedDatedCacheManager) -> None:
    """Two metrics at once: each thread reads for the one that its context says."""
    barrier = threading.Barrier(2, timeout=PATIENCE)

    @cm.collect(params_list=[1, 2])
    def part(a: int) -> Any:
        barrier.wait()  # both are in flight before either starts its thread
        found: list[int] = []
        thread = threading.Thread(target=copy_context().run, args=(lambda: found.append(cm.base(a)),))
        thread.start()
        thread.join(PATIENCE)
        barrier.wait()
        return found[0]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(cm.part, (1, 2))) == [1, 2]
    assert (reads(cm, "part_1"), reads(cm, "part_2")) >= ({"base_1"}, {"base_2"})
    assert "base_2" not in reads(cm, "part_1")
    assert "base_1" not in reads(cm, "part_2")


def test_a_thread_that_was_there_before_reads_for_nobody(cm: ParameterizedDatedCacheManager) -> None:
    """As the main thread of a notebook does, while a run goes on behind it."""
    begun, go = threading.Event(), threading.Event()

    @cm.collect
    def slow() -> int:
        begun.set()
        assert go.wait(PATIENCE)
        return 1

    run = threading.Thread(target=cm.run, args=("slow",))
    run.start()
    assert begun.wait(PATIENCE)
    assert cm.base(1) == 1, "read by the thread of this test, which was there before"
    go.set()
    run.join(PATIENCE)
    assert cm.record("slow").inputs == ()
    assert cm.record("slow").reads_unseen is None


def test_a_thread_whose_number_was_another_ones_is_a_new_thread(cm: ParameterizedDatedCacheManager) -> None:
    """Systems give the numbers of threads that have ended to new ones."""
    seen: list[tuple[int, int]] = []

    @cm.collect
    def total() -> int:
        ended.set()
        old.join(PATIENCE)
        new = threading.Thread(target=lambda: seen.append((threading.get_ident(), cm.base(3))))
        new.start()
        new.join(PATIENCE)
        return seen[0][1]

    ended = threading.Event()
    old = threading.Thread(target=ended.wait, args=(PATIENCE,))
    old.start()
    number = old.ident
    assert cm.total() == 3
    assert reads(cm, "total") == {"base_3"}, f"{number} and {seen[0][0]}"


needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)
_managers: list[ParameterizedDatedCacheManager] = []


def read_base(a: int) -> int:
    return int(_managers[-1].base(a))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_tells_what_it_reads(cm: ParameterizedDatedCacheManager) -> None:
    _managers.append(cm)

    @cm.collect
    def total() -> int:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            return sum(pool.map(read_base, range(4)))

    assert cm.total() == 6
    assert reads(cm, "total") == ALL


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_process_forked_from_a_forked_one_tells_it_too(cm: ParameterizedDatedCacheManager) -> None:
    def in_child(function: Any) -> None:
        child = os.fork()
        if not child:
            try:
                function()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

    @cm.collect
    def total() -> int:
        in_child(lambda: in_child(lambda: cm.base(2)))
        return 0

    cm.total()
    assert reads(cm, "total") == {"base_2"}


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_what_a_forked_process_cannot_tell_marks_the_record(
    cm: ParameterizedDatedCacheManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)

    @cm.collect
    def total() -> int:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        return 0

    with pytest.warns(smm.errors.SmmWarning, match="what metric 'total' read is not fully known"):
        assert cm.total() == 0
    cm.total(use_stored=False)  # the warning comes once
    assert "No space left" in (cm.record("total").reads_unseen or "")
    assert [reason.kind for reason in cm.why("total")] == ["unseen"]


CIRCLE = """
    import sys, threading
    from concurrent.futures import ThreadPoolExecutor
    import smm
    from smm import _flights

    _flights._SAY_AFTER_SECONDS = 0.2
    _flights._LOOK_EVERY_SECONDS = 0.05
    CM = smm.DatedCacheManager(smm.MemoryStorageInterface())

    def through_a_pool(name):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(CM.get, name).result()

    @CM.collect
    def a():
        return through_a_pool("b")

    @CM.collect
    def b():
        return through_a_pool("a")

    CM.a()
"""


def test_a_circle_through_threads_is_told_and_ends_by_an_interrupt(tmp_path: Path) -> None:
    script = tmp_path / "circle.py"
    script.write_text(textwrap.dedent(CIRCLE))
    running = subprocess.Popen(
        [sys.executable, "-u", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    guard = threading.Timer(PATIENCE, running.kill)
    guard.start()
    try:
        assert running.stdout is not None
        for line in running.stdout:
            if "Wait for a" in line:
                break
        assert "may wait for this one in turn: a -> b -> a" in line
        ended = threading.Event()
        interrupts = threading.Thread(target=_interrupt_until, args=(running, ended))
        interrupts.start()
        running.communicate(timeout=PATIENCE)
        ended.set()
        interrupts.join(PATIENCE)
    finally:
        guard.cancel()
        running.kill()
        running.communicate()
    assert running.returncode not in (0, -signal.SIGKILL)


def _interrupt_until(running: subprocess.Popen[str], ended: threading.Event) -> None:
    """Press Ctrl-C as an impatient person does."""
    while running.poll() is None and not ended.wait(0.3):
        running.send_signal(signal.SIGINT)


def test_a_circle_that_a_copied_context_shows_is_raised(cm: ParameterizedDatedCacheManager) -> None:
    @cm.collect
    def first() -> Any:
        return _through_a_thread(lambda: cm.second())

    @cm.collect
    def second() -> Any:
        return _through_a_thread(lambda: cm.first())

    with pytest.raises(smm.errors.CircularMetricError, match="first -> second -> first"):
        cm.first()


def _through_a_thread(function: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, function).result(PATIENCE)
