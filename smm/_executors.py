"""What a run may be told about its workers: how they are made, and how many."""

from __future__ import annotations

from typing import Any

from smm.errors import closest

EXECUTORS = ("threads", "processes", "dask")

WANTED = f"{', '.join(EXECUTORS)}, or the address of a dask scheduler such as tcp://host:8786"
"""The words for an executor, as a message says them."""


def is_executor_text(text: str) -> bool:
    """Whether a text is one of the words, or the address of a dask scheduler."""
    return text in EXECUTORS or "://" in text


def check_executor(executor: Any) -> None:
    """Refuse what no run could use.

    Raises:
        ValueError: it is no executor, nor a word or an address for one.
    """
    if isinstance(executor, str) and is_executor_text(executor):
        return
    from concurrent.futures import Executor

    if isinstance(executor, Executor):
        return
    hint = closest(executor, EXECUTORS) if isinstance(executor, str) else ""
    raise ValueError(f"executor is {executor!r}; it must be {WANTED}, or a concurrent.futures.Executor{hint}")


def check_workers(workers: Any) -> None:
    """Refuse a number of workers that is none; None stands for one per processor.

    Raises:
        ValueError: it is no whole number from 1.
    """
    if workers is not None and (type(workers) is not int or workers < 1):
        raise ValueError(
            f"workers is {workers!r}; it must be a whole number from 1, or None for one per processor"
        )
