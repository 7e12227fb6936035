"""The statements that run when modules of the project are imported, by the names whose values they change."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from smm._parts import Following, Part, Statements
from smm._places import Place
from smm._statements import Bound
from smm._syntax_dump import Chain, Imported
from smm._touches import cannot_change, touches_of

Target: TypeAlias = tuple[Place, str]
"""A module, and a name that it gives a meaning."""
Touching: TypeAlias = dict[Target, list[Part]]
"""By what is touched, the statements."""


class ModuleStatements:
    """The statements at the level of modules that touch names of these or of other modules.

    A name's own part has the statements of its module that touch it directly. Here are the others: those of
    modules that import it, and those that call a function which touches it.

    Args:
        following: finds modules, and what the statements lead to in turn.
    """

    def __init__(self, following: Following) -> None:
        self._following = following
        self._touching: dict[Place, Touching] = {}
        self._touched: dict[Place, dict[Target, Part]] = {}
        self._effects: dict[Target, tuple[set[Target], list[Target]]] = {}

    def touching(self, place: Place) -> Touching:
        """Return the statements that run when a module is imported, by the names that they touch.

        Those of the modules that it imports, too; without those that are part of the name itself, since they
        stand in its module and touch it directly.
        """
        known = self._touching.get(place)
        if known is None:
            known = {}
            for each in self._imported_with(place):
                for target, part in self._touched_in(each).items():
                    known.setdefault(target, []).append(part)
            known = self._touching.setdefault(place, known)
        return known

    def unseen(self, place: Place) -> list[str]:
        """Return clauses for what a module does when it is imported that cannot be followed."""
        if place.file is None:
            return []
        clauses = set()
        for touches, _ in place.source.touching:
            called = {chain[0] for chain in touches.calls if len(chain) == 1 and not place.bounds(chain[0])}
            clauses |= {f"calls {name}" for name in called & {"exec", "eval", "globals"}}
            if any(chain[:2] == ("sys", "modules") for chain in touches.names | touches.arguments):
                clauses.add("changes sys.modules")
        return [f"{place.shown} {clause} when it is imported" for clause in sorted(clauses)]

    def _imported_with(self, place: Place) -> list[Place]:
        """The module and all modules of the project that are imported when it is, in a fixed order."""
        found = {place: None}
        waiting = [place]
        for here in waiting:  # grows while it is read
            for name in self._imports_of(here):
                other = self._following.module(name)
                if other is not None and other not in found:
                    found[other] = None
                    waiting.append(other)
        return waiting

    def _imports_of(self, place: Place) -> Iterator[str]:
        """Names of the modules that may run when a module is imported: packages around it, its imports."""
        parts = place.name.split(".")
        yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))
        for source in place.sources():
            for node in source.imports:
                for alias in node.names:
                    if isinstance(node, ast.Import):
                        inner = alias.name.split(".")
                        yield from (".".join(inner[: depth + 1]) for depth in range(len(inner)))
                        continue
                    module = place.absolute(node.module or "", node.level)
                    yield module
                    package = self._following.module(module)
                    if package is not None and package.is_package and not package.bounds(alias.name):
                        yield f"{module}.{alias.name}"

    def _touched_in(self, place: Place) -> dict[Target, Part]:
        """The statements of one module, by what they touch of others, or of itself by what they call."""
        known = self._touched.get(place)
        if known is None:
            nodes: dict[Target, dict[ast.AST, None]] = {}
            sources = [] if place.file is None else [place.source]  # the names of cells have theirs already
            for source in sources:
                for touches, shown in source.touching:
                    direct = self._targets_of(place, touches.names, touches.arguments)
                    others = {target for target in direct if target[0] is not place}
                    for target in others | self._effects_of(place, touches.calls):
                        nodes.setdefault(target, {})[shown] = None
            in_order = sorted(nodes.items(), key=lambda item: (item[0][0].name, item[0][1]))
            known = {
                target: Statements(self._following, place, target[1], list(shown))
                for target, shown in in_order
            }
            known = self._touched.setdefault(place, known)  # one part for a statement, whoever asks
        return known

    def _targets_of(self, place: Place, names: Iterable[Chain], arguments: Iterable[Chain]) -> set[Target]:
        """The names that are touched where chains of a module are, under the names their own modules give."""
        found = {target for chain in names for target in self._targets(place, chain)}
        given = {target for chain in arguments for target in self._targets(place, chain)}
        return found | {target for target in given if not _is_fixed(target)}

    def _targets(self, place: Place, chain: Chain, seen: frozenset[Target] = frozenset()) -> set[Target]:
        """The module and name that a chain begins with, through imports from other project modules."""
        name, rest = chain[0], chain[1:]
        if (place, name) in seen:
            return set()
        seen |= {(place, name)}
        bounds = place.bounds(name)
        found = {(place, name)} if any(each.alias is None for each in bounds) else set()
        imports = [import_of(each, rest) for each in bounds if each.alias is not None]
        if not bounds:
            imports = [
                Imported(module=node.module or "", level=node.level, name=name, chain=rest)
                for node in place.stars()
            ]
        for one in imports:
            module = place.absolute(one.module, one.level)
            target = self._following.module(module)
            submodule = None if one.name is None else f"{module}.{one.name}"
            inner = (*(() if one.name is None else (one.name,)), *one.chain)
            if target is not None and target.is_package and submodule is not None and one.chain:
                package = self._following.module(submodule)
                found |= set() if package is None else self._targets(package, one.chain, seen)
            while target is not None and len(inner) > 1 and not target.bounds(inner[0]):
                target, inner = self._following.module(f"{target.name}.{inner[0]}"), inner[1:]  # import a.b
            if target is not None and inner:
                found |= self._targets(target, inner, seen)
        return found

    def _effects_of(self, place: Place, calls: Iterable[Chain]) -> set[Target]:
        """The names that are touched by the project's functions that are called under these chains."""
        found: set[Target] = set()
        seen: set[Target] = set()
        waiting = [target for chain in calls for target in self._targets(place, chain)]
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            own, name = here
            if here not in self._effects:
                touches = touches_of(_bodies(own, name), deep=True)
                inner = [target for chain in touches.calls for target in self._targets(own, chain)]
                self._effects[here] = self._targets_of(own, touches.names, touches.arguments), inner
            touched, inner = self._effects[here]
            found |= touched
            waiting += inner
        return found


def _bodies(place: Place, name: str) -> list[ast.AST]:
    """What runs when a name of a module is called: a function, or the methods that make an instance."""
    nodes = [each.node for each in place.bounds(name) if each.binds]
    functions: list[ast.AST] = [node for node in nodes if isinstance(node, _FUNCTIONS)]
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            functions += [each for each in node.body if isinstance(each, _FUNCTIONS) and each.name in _MAKERS]
    return functions


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MAKERS = ("__init__", "__new__", "__post_init__")


def _is_fixed(target: Target) -> bool:
    """Return whether what a name means cannot be changed by a function that is given it."""
    given = [each.node for each in target[0].bounds(target[1]) if each.binds and each.alias is None]
    return cannot_change(given)


def import_of(bound: Bound, rest: Chain) -> Imported:
    """An import at the level of a module, and what is read from what it gives."""
    alias = bound.alias
    assert alias is not None  # noqa: S101 - for mypy; only imports come here
    if isinstance(bound.node, ast.ImportFrom):
        module, level = bound.node.module or "", bound.node.level
        return Imported(module=module, level=level, name=alias.name, chain=rest)
    module = alias.name if alias.asname else alias.name.partition(".")[0]
    return Imported(module=module, level=0, name=None, chain=rest)
