"""How a manager goes to another process: as the recipe by which that process makes it again.

Three recipes, the first that fits: the name it has in an importable module; the configuration it was made
from; its storage and its declarations by value. Memory is never part of it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from smm.collect import Row, Rows
from smm.errors import TravelError
from smm.storage import MemoryStorageInterface

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

Reduced: TypeAlias = tuple[Any, ...]

_main_is_run_again: ContextVar[bool] = ContextVar("smm_main_is_run_again", default=False)
"""Whether the process that makes the manager again has run this one's script, as multiprocessing does."""

_INSTALLED = ("site-packages", "dist-packages")


@attrs.frozen(kw_only=True)
class Recipe:
    """A function and its arguments that make a manager, and what it then declares."""

    make: Callable[..., Any]
    path: str
    options: Mapping[str, Any]
    declares: frozenset[str]
    """Base names."""


class Traveller(Protocol):
    """What travelling needs of a manager."""

    storage_interface: Any
    functions_dict: dict[str, Callable[[], Any]]
    _recipe: Recipe | None
    _rows: dict[str, Rows]

    def _options(self) -> dict[str, Any]:
        """Keyword arguments of its constructor besides the storage."""

    def _declarations(self) -> dict[str, Any]:
        """What `__setstate__` declares again."""


def packed(manager: Any, by_value: bool) -> bytes:
    """The manager as bytes for workers in other processes.

    Args:
        manager: to send.
        by_value: for processes that know nothing of this one's script; functions of a script or a notebook go
            by value, for which cloudpickle is needed. Otherwise the worker is a process of multiprocessing,
            which has run the script again.

    Raises:
        TravelError: it cannot be made again there.
    """
    if isinstance(manager.storage_interface, MemoryStorageInterface):
        raise TravelError(
            reason="it keeps its results in the memory of this one (MemoryStorageInterface), where workers "
            "in other processes could not store them; use executor='threads', or a storage in a folder"
        )
    if not by_value:
        _check_main(manager)
    try:
        with _running_main_again(not by_value and _has_script()):
            if by_value and (dumps := _by_value()) is not None:
                return dumps(manager)
            import pickle

            return pickle.dumps(manager)
    except TravelError:
        raise
    except Exception as error:
        raise TravelError(
            reason=f"{type(error).__name__}: {error}; give it a name in a module of its own, with its "
            "functions in modules too, or use executor='threads'"
        ) from error


@contextlib.contextmanager
def _running_main_again(does: bool) -> Iterator[None]:
    token = _main_is_run_again.set(does)
    try:
        yield
    finally:
        _main_is_run_again.reset(token)


def _by_value() -> Callable[[Any], bytes] | None:
    """How to pickle functions by value; None where no library for it is installed."""
    import importlib.util

    if importlib.util.find_spec("cloudpickle") is None:
        return None
    dumps: Callable[[Any], bytes] = importlib.import_module("cloudpickle").dumps
    return dumps


def _check_main(manager: Traveller) -> None:
    """Refuse functions of a `__main__` that no other process can run again."""
    if _has_script():
        return
    for name, function in _functions(manager):
        if _module_of(function) == "__main__":
            raise TravelError(
                reason=f"{name!r} is defined in a notebook, at a prompt or in a __main__.py, which a worker "
                "process cannot import; use executor='threads' or 'dask', or move the function to a module"
            )


def _has_script() -> bool:
    """Whether workers of multiprocessing run `__main__` again: no notebook, no prompt, no `__main__.py`."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).rpartition(".")[2] != "__main__"
    file = getattr(main, "__file__", None)
    return isinstance(file, str) and os.path.isfile(file)


# --- the three recipes -----------------------------------------------------------------------------------


def reduced(manager: Any) -> Reduced:
    """What `__reduce__` of a manager returns."""
    modules = sorted({module for _, function in _functions(manager) if (module := _module_of(function))})
    reachable = all(module != "__main__" or _main_is_run_again.get() for module in modules)
    named = _named(manager) if reachable else None
    # A script whose functions are in modules may make it where no worker comes: under `if __name__ ...`.
    if named is not None and (named[0] != "__main__" or "__main__" in modules):
        return _by_name(named, modules)
    recipe = manager._recipe
    if recipe is not None and recipe.declares == _base_names(manager):
        return cooked, (recipe.make, recipe.path, dict(recipe.options))
    kind = next(cls for cls in type(manager).__mro__ if cls.__module__ == "smm.manager")
    value = (type(manager), kind, manager.storage_interface, manager._options())
    declarations = manager._declarations()
    if named is not None and not _can_be_pickled((value, declarations)):
        return _by_name(named, modules)
    return assembled, value, declarations


def _by_name(named: tuple[str, str], modules: list[str]) -> Reduced:
    from smm._worker import recalled

    module, name = named
    return recalled, (module, name, modules, _folders([module, *modules]))


def _can_be_pickled(value: Any) -> bool:
    import pickle

    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - whatever a class of the user's raises
        return False
    return True


def cooked(make: Callable[..., Any], path: str, options: dict[str, Any]) -> Any:
    """The manager of a configuration file."""
    return make(path, **options)


def assembled(cls: type[Any], kind: type[Any], storage: Any, options: dict[str, Any]) -> Any:
    """A manager over a storage, without declarations: functions of these may refer to the manager itself."""
    manager: Any = object.__new__(cls)
    kind.__init__(manager, storage, **options)
    return manager


def _base_names(manager: Traveller) -> frozenset[str]:
    """Base names of all that is declared, with names that no row has."""
    others = {name for name, entry in manager.functions_dict.items() if not isinstance(entry, Row)}
    return frozenset(manager._rows) | others


def _functions(manager: Traveller) -> Iterator[tuple[str, Any]]:
    for base_name, rows in manager._rows.items():
        yield base_name, rows.function
        if rows.name_generation_function is not None:
            yield base_name, rows.name_generation_function
    for name, entry in manager.functions_dict.items():
        if not isinstance(entry, Row):
            yield name, entry


def _module_of(function: Any) -> str | None:
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None)
    return module if isinstance(module, str) and module in sys.modules else None


def _named(manager: Any) -> tuple[str, str] | None:
    """A module that can be imported, and the name under which it has the manager."""
    found: list[tuple[str, str]] = []
    for name, module in list(sys.modules.items()):
        if type(module) is ModuleType and _can_be_imported(name, module):
            found += [(name, key) for key, value in list(vars(module).items()) if value is manager]
    # Others may have imported it: the module whose functions it computes is the one that made it.
    homes = {_module_of(function) for _, function in _functions(manager)}
    found.sort(key=lambda place: (place[0] not in homes, place[0] == "__main__", place))
    return found[0] if found else None


def _can_be_imported(name: str, module: ModuleType) -> bool:
    if name == "__main__":
        return _main_is_run_again.get()
    return name != "__mp_main__" and not name.startswith("smm.") and module.__spec__ is not None


def _folders(modules: list[str]) -> list[str]:
    """Where top-level modules were found, other than among the installed ones."""
    found: dict[str, None] = {}
    for name in modules:
        file = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
        if name != "__main__" and isinstance(file, str):
            path = Path(file)
            folder = path.parent.parent if path.stem == "__init__" else path.parent
            if not set(_INSTALLED) & set(folder.parts):
                found[str(folder.absolute())] = None
    return list(found)
