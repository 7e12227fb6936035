"""Warnings of smm point at the line that called it."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from pathlib import Path

import pytest

from smm import DatedCacheManager, NpyStorageInterface
from smm._warn import warn_user
from smm.errors import SmmWarning


def line_here() -> int:
    """Return the line number of the caller."""
    return sys._getframe(1).f_lineno


def test_a_warning_points_at_the_first_line_outside_of_smm() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_user("look here")
        expected = line_here() - 1
    (one,) = caught
    assert (one.filename, one.lineno, str(one.message)) == (__file__, expected, "look here")
    assert one.category is SmmWarning


def test_frames_of_the_standard_library_are_passed_over() -> None:
    with warnings.catch_warnings(record=True) as caught, contextlib.ExitStack() as stack:
        warnings.simplefilter("always")
        stack.callback(warn_user, "look here")  # called by contextlib
        stack.close()
        expected = line_here() - 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, expected)


def test_a_thread_without_a_line_of_the_users() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=warn_user, args=("look here",))
        thread.start()
        thread.join(10)
    assert [str(one.message) for one in caught] == ["look here"]


def test_one_line_is_warned_once_and_another_one_anew() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            warn_user("look here")
        warn_user("look here")
    assert len(caught) == 2


def test_a_warning_may_be_made_an_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmmWarning)
        with pytest.raises(SmmWarning, match="look here"):
            warn_user("look here")


def test_damage_is_warned_of_at_the_line_that_asked(tmp_path: Path) -> None:
    storage = NpyStorageInterface(tmp_path)
    first = DatedCacheManager(storage, verbose=False)
    first.set_functions_dict({"x": lambda: 1.5})
    first["x"]
    (tmp_path / "x.npy").write_bytes(b"")
    second = DatedCacheManager(storage, verbose=False)
    second.set_functions_dict({"x": lambda: 1.5, "reads_x": lambda: second["x"] + 1})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert second.get("reads_x") == 2.5
    (one,) = caught
    assert one.filename == __file__
    line = Path(__file__).read_text().splitlines()[one.lineno - 1]
    assert 'second["x"]' in line
