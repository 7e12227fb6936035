"""Where an object is defined: the modules whose code runs when it is called.

A name says little: `logging.os.system` is `posix.system`, a partial of it is no better, and a function
of numpy's may call itself whatever numpy likes. So the object itself is asked, and what it wraps.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import (
    BuiltinMethodType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

_SLOTS = (ClassMethodDescriptorType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType)


def is_standard(module: str) -> bool:
    """Whether a module belongs to Python itself, by its name; a module that hides one counts as it."""
    return module.partition(".")[0] in sys.stdlib_module_names


def lies_below(module: str, allowed: tuple[str, ...]) -> bool:
    """Whether a module (or any dotted path) is one of `allowed`, or below one."""
    return any(module == entry or module.startswith(entry + ".") for entry in allowed)


def module_names(module: ModuleType) -> set[str]:
    """What a module is called: by itself, and by the import that made it, which need not agree."""
    own = vars(module)  # not by attribute: a lazy module would make some up
    return _names(own.get("__name__"), getattr(own.get("__spec__"), "name", None))


def homes(thing: object) -> set[str]:
    """Names of the modules that define `thing`, or everything it wraps.

    What only passes a call on (partials, bound methods, wrappers that say what they wrap) is judged by
    what it passes the call to. Calls nothing of `thing`'s and imports nothing, but reads attributes.

    Returns:
        At least one name; more than one where an object and its surroundings disagree, or where it wraps
        several. `builtins` for what belongs to no module.
    """
    found: set[str] = set()
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        inner = list(_wrapped(one))
        if inner:
            waiting += inner
        else:
            found |= _own_homes(one) or {"builtins"}
    return found or {"builtins"}


def _wrapped(thing: object) -> Iterator[object]:
    """Every object that a call of `thing` is passed on to.

    All of them count: `update_wrapper(partial(os.system), mine)` says `__wrapped__` of one function and calls
    another.
    """
    if isinstance(thing, functools.partial):
        yield thing.func
    if isinstance(thing, MethodType):
        yield thing.__func__
        return
    inner = getattr(thing, "__wrapped__", None)
    if inner is not None and not isinstance(thing, type):
        yield inner
    pyfunc = getattr(thing, "pyfunc", None)  # numpy.vectorize
    if callable(pyfunc) and type(thing).__module__.partition(".")[0] == "numpy":
        yield pyfunc


def _own_homes(thing: object) -> set[str]:
    if isinstance(thing, ModuleType):
        return module_names(thing)
    if isinstance(thing, type):
        return _names(thing.__module__)
    if isinstance(thing, _SLOTS):
        owner = getattr(thing, "__objclass__", None) or type(getattr(thing, "__self__", None))
        return _names(owner.__module__)
    if isinstance(thing, BuiltinMethodType):
        return _names(thing.__module__) | _bound_to(thing.__self__)
    surroundings = getattr(thing, "__globals__", None)
    if isinstance(surroundings, dict):  # functions, also compiled ones
        spec = surroundings.get("__spec__")
        return _names(
            getattr(thing, "__module__", None), surroundings.get("__name__"), getattr(spec, "name", None)
        )
    return _names(type(thing).__module__) | _call_of(type(thing))


def _bound_to(owner: object) -> set[str]:
    """What a function in C belongs to: its module, or the class whose method it is."""
    if owner is None:
        return set()
    if isinstance(owner, ModuleType):
        return module_names(owner)
    return _names((owner if isinstance(owner, type) else type(owner)).__module__)


def _call_of(kind: type) -> set[str]:
    """Where `__call__` of a class is defined, which may be a base class far away."""
    for base in kind.__mro__:
        call: Any = vars(base).get("__call__")
        if isinstance(call, FunctionType):
            return homes(call)
        if call is not None:
            return _names(base.__module__)
    return set()


def _names(*names: object) -> set[str]:
    return {name for name in names if isinstance(name, str)}
