"""The moments at which the code of a running project may become another one.

A module that is reloaded is noticed when Python looks for it; cells of a notebook may define a function again
at any moment while they run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any
from weakref import WeakMethod

_unfinished: list[tuple[str, object]] = []
"""Names of modules whose reload has begun, with the spec that each had before."""
_begun = 0
_listeners: list[WeakMethod[Callable[[], None]]] = []


class _ReloadFinder:
    """An entry of `sys.meta_path` that finds nothing, and learns of every reload.

    `importlib.reload` alone, which IPython's autoreload calls as well, gives the module as `target`.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Tell the listeners if a module is about to be reloaded."""
        global _begun
        del path
        if target is not None:
            _begun += 1
            _unfinished.append((name, _spec_of(name)))
            _tell_listeners()


def on_reload(listener: Callable[[], None]) -> None:
    """Call a bound method whenever a module is about to be reloaded, as long as its object lives."""
    _listeners.append(WeakMethod(listener, _listeners.remove))
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def reloads_begun() -> int:
    """Return how many reloads have begun in this process, since the first manager was made."""
    return _begun


def code_may_change() -> bool:
    """Return whether code can become another one at this moment without another notice.

    True in IPython, whose cells may define anything again, and while a module that is being reloaded still
    is the old one.
    """
    if _unfinished:
        _unfinished[:] = [(name, spec) for name, spec in _unfinished if _spec_of(name) is spec]
    return bool(_unfinished) or cells_run() is not None


def cells_run() -> int | None:
    """Return how many cells of a notebook have been begun so far; None outside of IPython."""
    cells = getattr(sys.modules.get("__main__"), "__dict__", {}).get("In")
    return len(cells) if isinstance(cells, list) else None


def _spec_of(name: str) -> object:
    return getattr(sys.modules.get(name), "__spec__", None)


def _tell_listeners() -> None:
    for listener in _listeners:
        call = listener()
        if call is not None:
            call()


_finder: Any = _ReloadFinder()
