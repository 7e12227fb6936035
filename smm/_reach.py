"""What the code of a function reaches in the user's project.

Names are followed by the source of their modules, so that the answer is the same whether a module has been
imported yet or not; values only where the source does not say which: closures, partials, instances, and what
someone put in the place of a definition.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import sys
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from smm import _places
from smm._imported import note_imports
from smm._module_statements import ModuleStatements, import_of
from smm._parts import Found, Local, Named, Part, State
from smm._places import (
    MISSING,
    Mark,
    Place,
    are_current,
    is_smm,
    loaded_namespace,
    module_of,
    own_dict,
    undecorated,
    wrapped,
)
from smm._plain import plain
from smm._reloads import cells_run
from smm._statements import Bound, UnreadError
from smm._syntax_dump import Chain, Imported, chain_of


class Reach:
    """All that was found to be reached, shared among metrics. Safe for many threads: two find the same.

    Good for as long as `holds`: no module that was looked at has been imported anew, no cell has been run.
    """

    def __init__(self) -> None:
        self._cells_run = cells_run()
        self._places: dict[str, Place | None] = {}
        self._marks: list[Mark] = []  # of these
        self._notebooks: list[Place] = []  # among them
        self._unregistered: dict[int, tuple[Any, Place | None]] = {}  # with the namespace
        self._named: dict[tuple[Place, str], Part] = {}
        self.statements = ModuleStatements(self)
        """What the statements of modules touch."""
        self._of_values: dict[int, tuple[Any, Part]] = {}  # with the value; no other can take its id then
        note_imports()

    def holds(self) -> bool:
        """Return whether what was found would be found again. Asked for every value that is loaded."""
        return (
            self._cells_run == cells_run()
            and are_current(self._marks)
            and all(place.defines_the_same() for place in self._notebooks)
        )

    def root(self, function: Any) -> Part:
        """Where a metric's code begins.

        Raises:
            UnreadError: it has no source, or not as it runs.
        """
        while isinstance(function, FunctionType) and is_smm(function):
            function = vars(function)["original_function"]
        found = Found()
        self.value(function, (), found)
        if not found.parts:
            return self._outside(undecorated(function))
        if len(found.parts) == 1:
            return next(iter(found.parts))
        module = next(iter(found.parts)).module
        return State(self, module, f"{_name(function)} (bound)", {"method": function}, changeable=False)

    def _outside(self, function: Any) -> Part:
        """A function that is not of the project: its own source counts, and nothing that it reaches."""
        if not isinstance(function, FunctionType):
            what = "has no source in Python" if callable(function) else "is no function"
            raise UnreadError(f"{_name(function)} {what}")
        namespace, code = function.__globals__, function.__code__
        name = str(namespace.get("__name__"))
        place = Place(name, code.co_filename, namespace, "", is_registered=False)
        return Local(self, place, function, place.source.definitions(code), follows=False)

    # --- places and parts -------------------------------------------------------------------------------

    def module(self, name: str) -> Place | None:
        """Return the project's module of a dotted name; None if there is none. Imports nothing."""
        return self._place(name)

    def _place(self, name: str) -> Place | None:
        if name not in self._places:
            place = self._places.setdefault(name, _places.find(name))
            if place is not None:
                self._marks.append(place.mark)
                if place.file is None and place.namespace is not None:
                    self._notebooks.append(place)
        return self._places[name]

    def _place_around(self, function: FunctionType) -> Place | None:
        """The module in which a function runs."""
        namespace = function.__globals__
        name = namespace.get("__name__")
        if isinstance(name, str) and loaded_namespace(name) is namespace:
            return self._place(name)
        if id(namespace) not in self._unregistered:
            place = _places.unregistered(namespace, function.__code__.co_filename)
            self._unregistered.setdefault(id(namespace), (namespace, place))
        return self._unregistered[id(namespace)][1]

    def _part(self, place: Place, name: str) -> Part:
        part = self._named.get((place, name))
        return part or self._named.setdefault((place, name), Named(self, place, name))

    def _of_value(self, value: Any, part: Part) -> Part:
        return self._of_values.setdefault(id(value), (value, part))[1]

    # --- names ------------------------------------------------------------------------------------------

    def follow(self, place: Place, chain: Chain, found: Found) -> None:
        """What a name of a module, and the attributes read from it, lead to.

        Args:
            place: the module.
            chain: the name and the attributes; they matter as far as they are names of modules.
            found: is added to.

        Raises:
            UnreadError: something it leads to has no source, or not as it runs.
        """
        if (place, chain) in found.seen:
            return  # modules that import from each other
        found.seen.add((place, chain))
        name, rest = chain[0], chain[1:]
        value = place.value(name)
        if is_smm(value):
            return
        bounds = place.bounds(name)
        imports = [each for each in bounds if each.alias is not None]
        own = [each for each in bounds if each.alias is None and each.binds]
        if own and not (value is MISSING and all(self._makes_smm(place, each) for each in own)):
            found.parts[self._part(place, name)] = None
        is_given = not imports or value is MISSING
        for each in imports:
            one = import_of(each, rest)
            self.imported(place, one, found, name)
            now = self._now(place, one)
            is_given = is_given or now is value or plain(now) == plain(value) is not None
        if isinstance(value, ModuleType) if own else not is_given:
            self.value(value, rest, found)
            if not own and (text := plain(value)) is not None:
                found.lines.add(f"{name} is {text}")
        if not own and not imports:
            self._unbound(place, name, rest, found)

    def imported(self, place: Place, one: Imported, found: Found, name: str | None = None) -> None:
        """What an import leads to; `name` is what it is called, at the level of the module."""
        module = place.absolute(one.module, one.level)
        target = self._place(module)
        if target is None:
            if name is not None:
                found.lines.add(_written(one, name))
        elif one.name is None:
            self._module(target, one.chain, found)
        else:
            self.follow(target, (one.name, *one.chain), found)

    def _now(self, place: Place, one: Imported) -> Any:
        """What the import would give if it ran now."""
        module = place.absolute(one.module, one.level)
        if one.name is None:
            return sys.modules.get(module)
        namespace = loaded_namespace(module) or {}
        return namespace.get(one.name, sys.modules.get(f"{module}.{one.name}"))

    def _module(self, place: Place, rest: Chain, found: Found) -> None:
        if rest:
            self.follow(place, rest, found)
        else:  # it is handed around, and may be asked for anything
            for name in place.own_names():
                self.follow(place, (name,), found)

    def _unbound(self, place: Place, name: str, rest: Chain, found: Found) -> None:
        """A name that nothing in the module binds: a submodule, from `import *`, built in, or put there."""
        if name.startswith("__") and name.endswith("__"):
            return
        value = place.value(name)
        setters = place.setters(name)
        submodule = self._submodule(place, name)
        if setters:
            for setter in setters:
                self.follow(place, (setter,), found)
        elif submodule is not None:
            self._module(submodule, rest, found)
        elif value is not MISSING:
            if not self._star(place, name, rest, found):
                self._put_there(place, name, rest, found)
        elif not hasattr(builtins, name):
            if place.bounds("__getattr__"):
                found.parts[self._part(place, "__getattr__")] = None
            elif place.namespace is None:
                self._star(place, name, rest, found)

    def _submodule(self, place: Place, name: str) -> Place | None:
        """The module that a package has under a name, unless the name means something else there."""
        full_name = f"{place.name}.{name}"
        value = place.value(name)
        is_meant = value is MISSING or value is sys.modules.get(full_name)
        return self._place(full_name) if place.is_package and is_meant else None

    def _star(self, place: Place, name: str, rest: Chain, found: Found) -> bool:
        """Whether it may come from an `import *`."""
        others = set()
        for node in place.stars():
            target = self._place(place.absolute(node.module or "", node.level))
            if target is None:
                others.add(f"from {'.' * node.level}{node.module or ''} import *")
            elif target.provides(name) or any(target.stars()):
                self.follow(target, (name, *rest), found)
                return True
        found.lines |= others
        return bool(others)

    def _put_there(self, place: Place, name: str, rest: Chain, found: Found) -> None:
        value = place.value(name)
        text = plain(value)
        if text is not None:
            found.lines.add(f"{name} is {text}")
            return
        before = len(found.parts)
        self.value(value, rest, found)
        if len(found.parts) == before and _is_data(value):
            raise UnreadError(f"no statement of {place.shown} says what {name} is")

    def _makes_smm(self, place: Place, bound: Bound) -> bool:
        """Whether a statement, of a module that is not loaded, makes a manager or a storage."""
        value = getattr(bound.node, "value", None)
        chain = chain_of(value.func) if isinstance(value, ast.Call) else None
        return chain is not None and any(
            each.alias is not None and import_of(each, ()).module.partition(".")[0] == "smm"
            for each in place.bounds(chain[0])
        )

    def known_part(self, place: Place, name: str) -> Part | None:
        """Return the part of a name of a module, if something has been found to reach it."""
        return self._named.get((place, name))

    # --- values -----------------------------------------------------------------------------------------

    def value(self, value: Any, rest: Chain, found: Found) -> None:
        """What a value leads to; if it is a module, what is read from it does.

        Raises:
            UnreadError: something it leads to has no source, or not as it runs.
        """
        value = undecorated(value)
        if is_smm(value):
            return
        if isinstance(value, ModuleType):
            name = vars(value).get("__name__")
            place = self._place(name) if isinstance(name, str) and sys.modules.get(name) is value else None
            if place is not None:
                self._module(place, rest, found)
        elif isinstance(value, FunctionType):
            self._function(value, found)
        elif isinstance(value, type):
            self._class(value, found)
        elif isinstance(value, MethodType):
            self.value(value.__func__, (), found)
            self.value(value.__self__, (), found)
        elif isinstance(value, partial):
            self._partial(value, found)
        else:
            self._object(value, found)

    def _function(self, function: FunctionType, found: Found) -> None:
        part = self._by_name(function)
        if part is None:
            place = self._place_around(function)
            if place is None:
                return
            definitions = place.source_of(function.__code__).definitions(function.__code__)
            first = definitions[0]
            if first.is_top and any(
                each is first.node for bound in place.bounds(first.top) for each in ast.walk(bound.node)
            ):
                part = self._part(place, first.top)
            else:
                part = self._of_value(function, Local(self, place, function, definitions))
        found.parts[part] = None

    def _by_name(self, value: Any) -> Part | None:
        """The part of a function or class that can be had under the name it says it has; also if wrapped."""
        module, path = value.__module__, value.__qualname__.split(".")
        if "<locals>" in path or not isinstance(module, str):
            return None
        place = self._place(module)
        if place is None:
            return None
        thing = place.value(path[0])
        for attribute in path[1:]:
            thing = vars(thing).get(attribute, MISSING) if isinstance(thing, type) else MISSING
        own = any(each.alias is None and each.binds for each in place.bounds(path[0]))
        return self._part(place, path[0]) if own and any(each is value for each in wrapped(thing)) else None

    def _class(self, kind: type, found: Found) -> None:
        place = self._place(module_of(kind))
        if place is None:
            return
        part = self._by_name(kind)
        if part is None:
            definitions = [one for source in place.sources() for one in source.named(kind.__qualname__)]
            if not definitions:  # made by a call of `type`
                for each in (*kind.__bases__, *vars(kind).values()):
                    if isinstance(each, FunctionType | type):
                        self.value(each, (), found)
                return
            part = self._of_value(kind, Local(self, place, kind, definitions))
        found.parts[part] = None

    def _partial(self, value: partial[Any], found: Found) -> None:
        inner = Found()
        self.value(value.func, (), inner)
        held = {"func": value.func} | {f"args[{at}]": each for at, each in enumerate(value.args)}
        held |= {f"keywords.{name}": each for name, each in value.keywords.items()}
        first = next(iter(inner.parts), None)
        module, name = (first.module, first.name) if first is not None else ("functools", _name(value.func))
        part = State(self, module, f"partial({name})", held, changeable=True)
        found.parts[self._of_value(value, part)] = None

    def _object(self, value: Any, found: Found) -> None:
        """An instance: its class and what it holds, if it is one of the project's; and what it wraps."""
        kind = type(value)
        place = self._place(module_of(kind))
        if place is not None:
            held = {"class": kind} | _attributes(value)
            part = State(self, place.shown, f"{kind.__qualname__}()", held, changeable=False)
            found.parts[self._of_value(value, part)] = None
            return
        for each in wrapped(value):
            if each is not value and isinstance(each, FunctionType | type):
                self.value(each, (), found)

    def inside(self, value: Any, found: Found) -> None:
        """The functions and classes in a container, also in those that a class or an instance holds.

        Looks at ten thousand objects at most, and asks none of the user's code for them.

        Args:
            value: anything; what is no container, nor of a class of the project, holds nothing.
            found: is added to.

        Raises:
            UnreadError: something in it has no source, or not as it runs.
        """
        waiting, seen = self._held(value), {id(value)}
        for each in waiting:
            each = undecorated(each)
            if isinstance(each, FunctionType | partial | type):
                self.value(each, (), found)
            elif isinstance(each, _CONTAINERS) and id(each) not in seen and len(waiting) < _MOST:
                seen.add(id(each))
                waiting += self._held(each)

    def _held(self, value: Any) -> list[Any]:
        items: Any = ()
        if isinstance(value, dict):
            items = dict.values(value)
        elif isinstance(value, _CONTAINERS):
            base: Any = next(kind for kind in _CONTAINERS if isinstance(value, kind))
            items = base.__iter__(value)
        elif not is_smm(value) and not isinstance(value, ModuleType | FunctionType):
            owner = value if isinstance(value, type) else type(value)
            if self._place(module_of(owner)) is not None:
                attributes = vars(owner) if isinstance(value, type) else _attributes(value)
                items = [each for each in attributes.values() if isinstance(each, _CONTAINERS)]
        return list(itertools.islice(items, _MOST))


_CONTAINERS = (dict, list, tuple, set, frozenset)
_MOST = 10_000


def _written(one: Imported, name: str) -> str:
    """An import as a statement."""
    if one.name is None:
        return f"import {one.module}" + (f" as {name}" if name != one.module else "")
    again = f" as {name}" if name != one.name else ""
    return f"from {'.' * one.level}{one.module} import {one.name}{again}"


def _attributes(value: Any) -> dict[str, Any]:
    """What an instance holds itself, by sorted name."""
    held = dict(own_dict(value))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            descriptor: Any = vars(kind).get(slot)
            if hasattr(descriptor, "__get__") and slot not in ("__dict__", "__weakref__"):
                try:
                    held[slot] = descriptor.__get__(value)
                except AttributeError:  # nothing has been put there
                    continue
    return dict(sorted(held.items()))


def _is_data(value: Any) -> bool:
    return not callable(value) and not isinstance(value, ModuleType)


def _name(value: Any) -> str:
    if isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType):
        return value.__qualname__
    return f"an object of class {type(value).__qualname__}"
