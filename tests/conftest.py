"""Hypothesis profiles, processes, time limits, and what every test gets."""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Tests edit modules twice within a second; Python would run the bytecode of the first edit, also in children.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

# `dev` is the default suite; a time bound would make a slow machine look like a wrong answer.
_QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "dev", max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=_QUIET
)
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=80, derandomize=True)
settings.register_profile(
    "nightly", parent=settings.get_profile("dev"), max_examples=3000, stateful_step_count=80
)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")
settings.load_profile(_PROFILE)


_STDERR = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long variants")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STDERR] = os.dup(2)  # which pytest captures while a test runs


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    nightly = _PROFILE == "nightly"
    for item in items:
        if nightly:
            item.add_marker(pytest.mark.timeout(7200))
        elif "slow" in item.keywords or "stress" in item.keywords:
            item.add_marker(pytest.mark.timeout(900))
        if "slow" in item.keywords and not (nightly or config.getoption("--slow")):
            item.add_marker(pytest.mark.skip(reason="a long variant: --slow or HYPOTHESIS_PROFILE=nightly"))


# --- processes -------------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run the whole suite in as many processes as there are cores, and a choice of tests in this process.

    There a debugger can be used, output be seen as it comes, and no process has to be waited for.
    """
    folders = all(Path(each).is_dir() for each in config.args)
    chosen = not folders or config.getoption("keyword") or config.getoption("lf", default=False)
    return 0 if chosen or config.getoption("capture") == "no" else None


@pytest.fixture(scope="session", autouse=True)
def hears_ctrl_c() -> Iterator[None]:
    """Hear Ctrl-C, also in processes that tests start: the background job of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# --- time limits -----------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: Any, settings: Any) -> bool:
    """Start the timer of a test, in place of pytest-timeout's own.

    That one says nothing in a worker of xdist, and leaves the processes that the test has started. One that
    was forked would keep xdist waiting for the worker.
    """
    timer = threading.Timer(settings.timeout, _give_up, (item, settings.timeout))
    timer.daemon = True

    def cancel() -> None:
        timer.cancel()
        timer.join()

    item.cancel_timeout = cancel  # which pytest-timeout calls
    timer.start()
    return True


def _give_up(item: pytest.Item, seconds: float) -> None:
    """Show the stacks of all threads and what was captured, and end this process and its children."""
    stderr = item.config.stash[_STDERR]
    os.write(stderr, f"\n\n{item.nodeid} has not ended within {seconds:g} s\n".encode())
    faulthandler.dump_traceback(stderr, all_threads=True)
    psutil = importlib.import_module("psutil")
    try:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        capture: Any = item.config.pluginmanager.getplugin("capturemanager")
        if capture.is_globally_capturing():
            capture.suspend_global_capture(in_=True)
            os.write(stderr, "".join(capture.read_global_capture()).encode())
    finally:
        os._exit(1)
