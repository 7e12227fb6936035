"""Where an object is defined: the modules whose code runs when it is called.

A name says little: `logging.os.system` is `posix.system`, a partial of it is no better, and a function
of numpy's may call itself whatever numpy likes. So the object itself is asked, and what it wraps. A class or
an instance may inherit what runs: then the class counts in whose `__dict__` that stands.
"""

from __future__ import annotations

import builtins
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

_PLAIN = ("enum", "smm", "typing")
"""Modules whose classes only build a value, or, for smm, a storage that a configuration may have anyway."""


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
    """Return the names of the modules that define `thing`, or everything it wraps.

    What only passes a call on (partials, bound methods, wrappers that say what they wrap) is judged by
    what it passes the call to. A class is judged by its own module and by the classes that its `__new__`, its
    `__init__` and the `__call__` of its metaclass come from. Those of the builtin types, of enums and of
    smm's storages do not count. Any other object is judged by its class and by the one that `__call__` comes
    from. Calls nothing of `thing`'s and imports nothing, but reads attributes.

    Returns:
        At least one name; more than one where an object and its surroundings disagree, where it wraps
        several, or inherits what runs. `builtins` for what belongs to no module.
    """
    return _homes(thing, frozenset()) or {"builtins"}


def _homes(thing: object, within: frozenset[int]) -> set[str]:
    """Return the same without what is being judged already, by its id: a thing may wrap itself."""
    found: set[str] = set()
    seen = set(within)
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
            found |= _own_homes(one, within | {id(one)}) or {"builtins"}
    return found


def _wrapped(thing: object) -> Iterator[object]:
    """Yield every object that a call of `thing` is passed on to.

    All of them count: `update_wrapper(partial(os.system), mine)` says `__wrapped__` of one function and calls
    another.
    """
    if isinstance(thing, functools.partial):
        yield thing.func
        provider, call = _provided(type(thing), "__call__")
        if provider is not functools.partial:
            yield call
    if isinstance(thing, MethodType):
        yield thing.__func__
        return
    if isinstance(thing, FunctionType):
        for name in ("_partialmethod", "__partialmethod__"):  # before Python 3.13, and since
            method = vars(thing).get(name)
            if isinstance(method, functools.partialmethod):
                yield method.func
    inner = getattr(thing, "__wrapped__", None)
    if inner is not None and not isinstance(thing, type):
        yield inner
    pyfunc = getattr(thing, "pyfunc", None)  # numpy.vectorize
    if callable(pyfunc) and type(thing).__module__.partition(".")[0] == "numpy":
        yield pyfunc


def _own_homes(thing: object, within: frozenset[int]) -> set[str]:
    if isinstance(thing, ModuleType):
        return module_names(thing)
    if isinstance(thing, type):
        return _names(thing.__module__) | _constructor_homes(thing, within)
    if isinstance(thing, _SLOTS):
        owner = getattr(thing, "__objclass__", None) or type(getattr(thing, "__self__", None))
        return _names(owner.__module__)
    if isinstance(thing, BuiltinMethodType):
        return _names(thing.__module__) | _bound_to(thing)
    surroundings = getattr(thing, "__globals__", None)
    if isinstance(surroundings, dict):  # functions, also compiled ones
        spec = surroundings.get("__spec__")
        return _names(
            getattr(thing, "__module__", None), surroundings.get("__name__"), getattr(spec, "name", None)
        )
    return _names(type(thing).__module__) | _provider_homes(type(thing), "__call__", within)


# --- what is inherited -----------------------------------------------------------------------------------


def _constructor_homes(kind: type, within: frozenset[int]) -> set[str]:
    """Return the modules whose code runs when a class is called, without those that only build a value."""
    found: set[str] = set()
    for owner, name in ((type(kind), "__call__"), (kind, "__new__"), (kind, "__init__")):
        provider, _ = _provided(owner, name)
        if vars(builtins).get(provider.__name__) is not provider and not _is_plain(provider.__module__):
            found |= _provider_homes(owner, name, within)
    return {home for home in found if not _is_plain(home)}


def _is_plain(module: object) -> bool:
    return isinstance(module, str) and lies_below(module, _PLAIN)


def _provider_homes(kind: type, name: str, within: frozenset[int]) -> set[str]:
    """Return the module of the class that a method comes from, and the method's own, which may be another.

    A method that was made of a text (by namedtuple, for example) may name a module that does not exist.
    """
    provider, method = _provided(kind, name)
    if method is None:
        return set()
    return _names(provider.__module__) | (_homes(method, within) & sys.modules.keys())


def _provided(kind: type, name: str) -> tuple[type, Any]:
    """Return the class in whose `__dict__` a method stands, and what stands there.

    Returns:
        object and None if no class has it.
    """
    for base in kind.__mro__:
        if name in vars(base):
            return base, vars(base)[name]
    return object, None


def _bound_to(function: BuiltinMethodType) -> set[str]:
    """Return what a function in C belongs to: its module, or the class in which it is a method."""
    owner = function.__self__
    if owner is None:
        return set()
    if isinstance(owner, ModuleType):
        return module_names(owner)
    kinds = (owner, type(owner)) if isinstance(owner, type) else (type(owner),)
    bases = [base for kind in kinds for base in kind.__mro__]
    for base in bases:
        if _makes(vars(base).get(function.__name__), function):
            return _names(base.__module__)
    if function.__module__:
        return set()  # as functions of pybind11: their module is all that counts
    return _names(*(base.__module__ for base in bases if base is not object))


def _makes(entry: object, function: BuiltinMethodType) -> bool:
    """Return whether reading an entry of a class gives this function in C."""
    owner: Any = function.__self__
    if isinstance(entry, staticmethod):
        entry = entry.__func__
    elif isinstance(entry, MethodDescriptorType) and isinstance(owner, entry.__objclass__):
        entry = entry.__get__(owner)
    elif isinstance(entry, ClassMethodDescriptorType) and isinstance(owner, type):
        entry = entry.__get__(None, owner) if issubclass(owner, entry.__objclass__) else None
    return isinstance(entry, BuiltinMethodType) and entry == function


def _names(*names: object) -> set[str]:
    return {name for name in names if isinstance(name, str)}
