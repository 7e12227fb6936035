"""The peers, each set up as its own documentation shows, with its own defaults."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

from tests.benchmarks.measure import Room

PEERS = ("joblib", "diskcache", "cachier")


def needs(library: str) -> Callable[[], str | None]:
    """Why a contestant that needs a library cannot be measured: for `Contestant.why_not`."""

    def why_not() -> str | None:
        if importlib.util.find_spec(library) is not None:
            return None
        return "not installed: pip install 'smm-metrics[bench]'"

    return why_not


def memory(room: Room) -> Any:
    """`joblib.Memory` in a folder of its own, saying nothing, its arrays read whole."""
    import joblib

    return joblib.Memory(room.folder(), mmap_mode=None, verbose=0)


def cache(room: Room) -> Any:
    """`diskcache.Cache` in a folder of its own."""
    import diskcache

    return room.at_end.enter_context(diskcache.Cache(room.folder()))


def through(cache: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function through a `diskcache.Cache`: got, or computed and set, under its name and its params.

    As `Cache.memoize` does it, and a little quicker than that.
    """
    name = function.__name__
    missing = object()

    def cached(*params: Any) -> Any:
        key = (name, *params)
        value = cache.get(key, missing)
        if value is missing:
            value = function(*params)
            cache.set(key, value)
        return value

    return cached


def cached_by_cachier(room: Room, function: Callable[..., Any]) -> Any:
    """A function under cachier, one file for each call, which is its quicker way with many calls.

    It caches under the function's name, hence a copy for each folder.
    """
    from cachier import cachier

    @functools.wraps(function)
    def copy(*args: Any) -> Any:
        return function(*args)

    return cachier(cache_dir=room.folder(), separate_files=True)(copy)
