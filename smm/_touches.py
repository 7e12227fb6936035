"""The names of modules that statements may change the values of, without giving them a new one.

A statement touches a name that it has as a target (`D["a"] = 2`, `conf.cfg.k = 2`), as a receiver
(`D.update(a=2)`) or as an argument (`fill(D)`), and by the functions that it calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from smm._syntax_dump import Chain, chain_of

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_INNER = (ast.stmt, ast.ExceptHandler, ast.match_case)
_IMMUTABLE = (ast.Constant, ast.UnaryOp, ast.BinOp, ast.Compare, ast.JoinedStr)

_LOOKING = frozenset(
    {"abs", "all", "any", "bool", "bytes", "callable", "complex", "dict", "enumerate", "float", "format"}
    | {"frozenset", "hash", "id", "int", "isinstance", "issubclass", "len", "list", "max", "min", "open"}
    | {"print", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "super", "tuple", "type"}
    | {"zip"}
)
"""Functions of Python's own that change none of their arguments."""
_READING = frozenset(
    {"copy", "count", "endswith", "format", "get", "index", "items", "join", "keys", "lower", "split"}
    | {"startswith", "strip", "upper", "values"}
)
"""Methods that change nothing, of containers and texts."""


@attrs.frozen(kw_only=True)
class Touches:
    """What statements may change."""

    names: frozenset[Chain]
    """Targets and receivers, from the name on as far as attributes go: `conf.cfg.k = 2` has all three."""
    arguments: frozenset[Chain]
    """What functions are given, which change it only if it can be changed."""
    calls: frozenset[Chain]
    """The functions that are called."""


def touches_of(statements: Iterable[ast.AST], *, deep: bool = False) -> Touches:
    """Return what statements touch when they run.

    Args:
        statements: each without the statements inside it.
        deep: with the statements inside, and inside of functions; then names that are local there are
            left out. For the body of a function.
    """
    found = _Found()
    local: set[str] = set()
    waiting: list[ast.AST] = list(statements)
    if deep:
        local, waiting = _local_names(waiting)
    else:
        waiting = [each for statement in waiting for each in _run_at_once(statement)]
    while waiting:
        node = waiting.pop()
        found.look(node)
        if deep or not isinstance(node, ast.Lambda):
            waiting += [each for each in ast.iter_child_nodes(node) if deep or not isinstance(each, _INNER)]
    return found.touches(local)


class _Found:
    def __init__(self) -> None:
        self._names: set[Chain] = set()
        self._arguments: set[Chain] = set()
        self._calls: set[Chain] = set()

    def touches(self, local: set[str]) -> Touches:
        """Return what was found, names of a function's own left out."""
        names, arguments, calls = (
            frozenset(chain for chain in found if chain[0] not in local)
            for found in (self._names, self._arguments, self._calls)
        )
        return Touches(names=names, arguments=arguments, calls=calls)

    def look(self, node: ast.AST) -> None:
        """Note what one node touches, without those inside it."""
        if isinstance(node, ast.Attribute | ast.Subscript):
            if not isinstance(node.ctx, ast.Load):
                self._add(self._names, node)
        elif isinstance(node, ast.Global):
            self._names |= {(name,) for name in node.names}
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:  # `@registry.add` is a call, too
                self._callee(decorator)

    def _call(self, node: ast.Call) -> None:
        self._callee(node.func)
        callee = chain_of(node.func)
        if callee is not None and callee[-1] in ("collect", *(_LOOKING if len(callee) == 1 else ())):
            return
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            for each in _names_in(argument):
                self._add(self._arguments, each)

    def _callee(self, function: ast.AST) -> None:
        chain = chain_of(function)
        if chain is not None:
            self._calls.add(chain)
        if isinstance(function, ast.Attribute) and function.attr not in _READING:
            self._add(self._names, function.value)

    def _add(self, found: set[Chain], node: ast.AST) -> None:
        while (chain := chain_of(node)) is None:
            if not isinstance(node, ast.Attribute | ast.Subscript):
                return
            node = node.value
        found.add(chain)


def _names_in(node: ast.AST) -> Iterator[ast.AST]:
    """Give the names in an argument, with their attributes."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if chain_of(here) is not None:
            yield here
        elif not isinstance(here, ast.Lambda | ast.Call):  # calls are looked at by themselves
            waiting += ast.iter_child_nodes(here)


def _run_at_once(statement: ast.AST) -> list[ast.AST]:
    """The statement, and what of a class runs when it is defined; of a function, its decorators."""
    if isinstance(statement, ast.ClassDef):
        inner = [each for each in statement.body if not isinstance(each, ast.ClassDef)]
        return [statement, *inner]
    return [statement]


def _local_names(nodes: list[ast.AST]) -> tuple[set[str], list[ast.AST]]:
    """Names that are local to functions, and what is in these."""
    local: set[str] = set()
    of_module: set[str] = set()
    inside: list[ast.AST] = []
    waiting = list(nodes)
    while waiting:
        node: Any = waiting.pop()
        if isinstance(node, ast.arg):
            local.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            local.add(node.id)
        elif isinstance(node, ast.Global):
            of_module.update(node.names)
        elif isinstance(node, ast.alias):
            local.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, _DEFINITIONS) and node not in nodes:
            local.add(node.name)
        waiting += ast.iter_child_nodes(node)
    for node in nodes:
        inside += node.body if isinstance(node, _DEFINITIONS) else [node]
    return local - of_module, inside


def cannot_change(statements: Iterable[ast.AST]) -> bool:
    """Return whether what gives a name its value is a function, a class, or a number or text written out.

    None of these is changed by a function that is given it.
    """
    return all(map(_is_unchanging, statements))


def _is_unchanging(statement: ast.AST) -> bool:
    if isinstance(statement, _DEFINITIONS):
        return True
    value = getattr(statement, "value", None) if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, ast.Tuple):
            waiting += here.elts
        elif not isinstance(here, _IMMUTABLE):
            return False
    return True
