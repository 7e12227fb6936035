"""Managers as a user makes them, to be measured."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import smm

STORAGES: dict[str, type[Any]] = {
    "json": smm.JsonStorageInterface,
    "npy": smm.NpyStorageInterface,
    "npz": smm.NpzStorageInterface,
}


def manager(folder: Path, storage: str = "json", **options: Any) -> smm.ParameterizedDatedCacheManager:
    """A manager that prints nothing; the options are the storage's."""
    kept = STORAGES[storage](folder, **options)
    return smm.ParameterizedDatedCacheManager(kept, verbose=False)


def collected(
    folder: Path, function: Callable[..., Any], rows: Sequence[Any], storage: str = "json", **options: Any
) -> smm.ParameterizedDatedCacheManager:
    """A manager in which `CM.f` is this function at these rows."""
    made = manager(folder, storage, **options)
    made.collect(base_name="f", params_list=rows)(function)
    return made


def check_report(report: smm.RunReport, status: Literal["computed", "stored"], count: int) -> None:
    """That a run ended as it should: it does not raise for what fails.

    Raises:
        AssertionError: it did not.
    """
    if report.counts()[status] != count or len(report.outcomes) != count:
        raise AssertionError(f"not {count} {status}: {report!r}")


def has_option(storage: str, option: str) -> Callable[[], str | None]:
    """Why a storage's option cannot be measured: for `Contestant.why_not`."""

    def why_not() -> str | None:
        known = inspect.signature(STORAGES[storage]).parameters
        return None if option in known else f"{STORAGES[storage].__name__} has no {option}= yet"

    return why_not
