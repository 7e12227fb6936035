"""A piece of source as syntax: what counts in it, and which names it takes from around it.

Nothing here goes by recursion: generated code may be nested deeper than the stack of a thread allows.
"""

from __future__ import annotations

import ast
import copy
import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

Chain: TypeAlias = tuple[str, ...]
"""A name and the attributes read from it: `helpers.rates.HIGH` is `("helpers", "rates", "HIGH")`."""

IsLeftOut: TypeAlias = Callable[[ast.expr], bool]
"""Whether a decorator does not count."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_UNSAID = frozenset({"ctx", "kind", "type_comment", "type_ignores"})  # follow from the rest, or are comments


def does_nothing(statement: object) -> bool:
    """Whether a statement is `pass`, or a constant by itself: a docstring, a text as a comment, `...`."""
    kind = type(statement)
    return kind is ast.Pass or (kind is ast.Expr and type(statement.value) is ast.Constant)  # type: ignore[attr-defined]


# --- as text ----------------------------------------------------------------------------------------------


def dump(nodes: Iterable[ast.AST], is_left_out: IsLeftOut) -> str:
    """Return what counts in a piece of source, as one text: the same exactly if the syntax is the same.

    Each node is written as `Kind(field=...)`. Left out are positions, comments, docstrings, statements that
    do nothing, annotations outside of the bodies of classes, fields that are None or empty (so that a version
    of Python that adds some changes nothing), and decorators for which `is_left_out` is true.
    """
    out: list[str] = []
    waiting: list[tuple[Any, _Around]] = [(node, _Around.MODULE) for node in nodes]
    waiting.reverse()
    while waiting:
        item, around = waiting.pop()
        kind = type(item)
        if kind is str:
            out.append(item)
        elif kind is ast.Name:
            out.append(f"Name({item.id!a})")
        elif kind is ast.Constant:
            out.append(f"Constant({_constant(item.value)})")
        else:
            item, inside = _without_annotations(item, around)
            parts: list[Any] = [f"{type(item).__name__}("]
            for field in item._fields:
                value = getattr(item, field, None)
                if value is None or field in _UNSAID or _is_annotation(item, field, around):
                    continue
                if isinstance(value, list):
                    value = _counting(field, value, is_left_out, inside)
                    if value:
                        parts += (f"{field}=[", *_listed(value), "]")
                else:
                    parts += (f"{field}=", value if isinstance(value, ast.AST) else f"{value!a},")
            parts.append(")")
            waiting += [(part, inside) for part in reversed(parts)]
    return "".join(out)


class _Around(enum.Enum):
    """The definition that a piece of source stands in, as far as its annotations are concerned."""

    MODULE = enum.auto()
    CLASS = enum.auto()
    FUNCTION = enum.auto()
    REGISTERED = enum.auto()
    """A function that is registered by the class of its first argument, as with singledispatch."""


def _without_annotations(node: Any, around: _Around) -> tuple[Any, _Around]:
    """Return a statement without its annotation, where that means nothing; and what its parts stand in.

    `x: int = 1` is `x = 1`, but for the body of a class, which may be a dataclass.
    """
    if isinstance(node, ast.AnnAssign) and node.value is not None and around is not _Around.CLASS:
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node), around
    if isinstance(node, ast.ClassDef):
        return node, _Around.CLASS
    if isinstance(node, _FUNCTIONS):
        called = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
        registers = any(isinstance(each, ast.Attribute) and each.attr == "register" for each in called)
        return node, _Around.REGISTERED if registers else _Around.FUNCTION
    return node, around


def _is_annotation(node: ast.AST, field: str, around: _Around) -> bool:
    """Return whether a field of a node is an annotation of a function, which means nothing."""
    if isinstance(node, ast.arg):
        return field == "annotation" and around is not _Around.REGISTERED
    return field == "returns" and isinstance(node, _FUNCTIONS)


def _counting(field: str, items: list[Any], is_left_out: IsLeftOut, around: _Around) -> list[Any]:
    """Return the items of a list of a node that count."""
    if field == "decorator_list":
        return [item for item in items if not is_left_out(item)]
    return [item for item in items if not (does_nothing(item) or _only_annotates(item, around))]


def _only_annotates(statement: object, around: _Around) -> bool:
    is_annotation = isinstance(statement, ast.AnnAssign) and statement.value is None
    return is_annotation and around is not _Around.CLASS


def _listed(items: list[Any]) -> Iterator[Any]:
    for item in items:
        yield item if isinstance(item, ast.AST) else f"{item!a},"


def _constant(value: object) -> str:
    # Python refuses to write very long integers in decimal; what repr escapes depends on its version.
    return f"{value:#x}" if type(value) is int else ascii(value)


def readable(nodes: Iterable[ast.AST], is_left_out: IsLeftOut) -> str:
    """What counts in a piece of source, as source.

    Raises:
        RecursionError: it is nested too deep to be written so.
    """
    return "\n".join(ast.unparse(_cleaned(node, is_left_out)) for node in nodes)


def _cleaned(node: ast.AST, is_left_out: IsLeftOut) -> ast.AST:
    """Return a copy with what counts only."""
    top: ast.AST
    top, inside = _without_annotations(copy.copy(node), _Around.MODULE)
    waiting: list[tuple[ast.AST, _Around]] = [(top, inside)]
    while waiting:
        here, around = waiting.pop()
        for field, value in ast.iter_fields(here):
            if _is_annotation(here, field, around):
                setattr(here, field, None)
            elif isinstance(value, list):
                kept = [_copied(item) for item in _counting(field, value, is_left_out, around)]
                if field == "body" and value and not kept:
                    kept = [ast.Pass()]
                cleaned = [_without_annotations(item, around) for item in kept]
                setattr(here, field, [item for item, _ in cleaned])
                waiting += [(item, inner) for item, inner in cleaned if isinstance(item, ast.AST)]
            elif isinstance(value, ast.AST):
                inner, inside = _without_annotations(copy.copy(value), around)
                setattr(here, field, inner)
                waiting.append((inner, inside))
    return top


def _copied(item: Any) -> Any:
    return copy.copy(item) if isinstance(item, ast.AST) else item


# --- names ------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Imported:
    """Something read by a name that an import inside the source gives."""

    module: str
    """As it is written, without the dots before it."""
    level: int
    """How many dots there were."""
    name: str | None
    """What of the module; None for the module itself."""
    chain: Chain
    """The attributes read from that."""


@attrs.frozen(kw_only=True)
class Names:
    """What a piece of source takes from around it."""

    free: frozenset[Chain]
    """Read from, or put into, the module."""
    imported: frozenset[Imported]
    runs: frozenset[tuple[str, int]]
    """The modules that imports inside the source run, as they are written, and how many dots there were."""
    imports_by_text: bool
    """True if it imports a module by a text that is no literal."""


class _Scope:
    """A module, a function (also a lambda, a comprehension) or the body of a class."""

    __slots__ = (
        "bound",
        "imports",
        "is_class",
        "is_comprehension",
        "loads",
        "of_module",
        "of_outer",
        "outer",
    )

    def __init__(
        self,
        outer: _Scope | None,
        bound: Iterable[str] = (),
        *,
        is_class: bool = False,
        is_comprehension: bool = False,
    ) -> None:
        self.outer = outer
        self.is_class = is_class
        self.is_comprehension = is_comprehension
        self.bound: set[str] = set(bound)
        self.of_module: set[str] = set()  # declared global
        self.of_outer: set[str] = set()  # declared nonlocal
        self.imports: dict[str, list[tuple[str, int, str | None]]] = {}
        self.loads: set[Chain] = set()

    def bind(self, name: str | None) -> None:
        if name is not None:
            self.bound.add(name)

    def owner(self, name: str) -> _Scope | None:
        """The scope a name read here belongs to; None for the module and what is around it.

        What the body of a class binds is read from it only until a function begins, and in it the module's
        own value may be meant just as well: such names count as the module's.
        """
        scope: _Scope | None = self
        while scope is not None and scope.outer is not None and name not in scope.of_module:
            hides = not scope.is_class or (scope is self and name in scope.imports)
            if hides and name in scope.bound and name not in scope.of_outer:
                return scope
            scope = scope.outer
        return None


def names(nodes: Iterable[ast.AST], is_left_out: IsLeftOut) -> Names:
    """The names that statements of a module read from around them. Annotations of functions name nothing."""
    walk = _Walk(is_left_out)
    walk.run(nodes)
    free: set[Chain] = set()
    imported: set[Imported] = set()
    for scope in walk.scopes:
        free.update((name,) for name in scope.of_module)
        for chain in scope.loads:
            owner = scope.owner(chain[0])
            if owner is None:
                free.add(chain)
            else:
                imported.update(
                    Imported(module=module, level=level, name=name, chain=chain[1:])
                    for module, level, name in owner.imports.get(chain[0], ())
                )
    imported |= walk.by_literal
    return Names(
        free=frozenset(free),
        imported=frozenset(imported),
        runs=frozenset(walk.runs | {(one.module, one.level) for one in walk.by_literal}),
        imports_by_text=walk.imports_by_text,
    )


class _Walk:
    """Goes through nodes, and notes for each scope what it binds and reads."""

    def __init__(self, is_left_out: IsLeftOut) -> None:
        self._is_left_out = is_left_out
        self._waiting: list[tuple[ast.AST, _Scope]] = []
        self.scopes: list[_Scope] = []
        self.by_literal: set[Imported] = set()  # importlib.import_module("helpers").rate
        self.runs: set[tuple[str, int]] = set()
        self.imports_by_text = False

    def run(self, nodes: Iterable[ast.AST]) -> None:
        self._add(nodes, self._scope(None))
        while self._waiting:
            node, scope = self._waiting.pop()
            _VISITS.get(type(node), _Walk._other)(self, node, scope)

    def _scope(self, outer: _Scope | None, *bound: str, **kind: bool) -> _Scope:
        self.scopes.append(_Scope(outer, bound, **kind))
        return self.scopes[-1]

    def _add(self, nodes: Iterable[ast.AST | None], scope: _Scope) -> None:
        self._waiting += [(node, scope) for node in nodes if node is not None]

    def _other(self, node: Any, scope: _Scope) -> None:
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                self._waiting.append((value, scope))
            elif isinstance(value, list):
                self._waiting += [(item, scope) for item in value if isinstance(item, ast.AST)]

    def _name(self, node: Any, scope: _Scope) -> None:
        if type(node.ctx) is ast.Load:
            scope.loads.add((node.id,))
        else:
            scope.bind(node.id)

    def _attribute(self, node: Any, scope: _Scope) -> None:
        chain = chain_of(node)
        if chain is not None:
            scope.loads.add(chain)
            return
        attributes, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        module = _imported_by_call(base)
        if module:
            rest = tuple(reversed(attributes))
            self.by_literal.add(Imported(module=module, level=0, name=None, chain=rest))
            self._waiting.append((base.func, scope))
        else:
            self._waiting.append((node.value, scope))

    def _call(self, node: Any, scope: _Scope) -> None:
        module = _imported_by_call(node)
        if module:
            self.by_literal.add(Imported(module=module, level=0, name=None, chain=()))
        elif module is None:
            self.imports_by_text = True
        self._other(node, scope)

    def _walrus(self, node: Any, scope: _Scope) -> None:
        target = scope
        while target.is_comprehension and target.outer is not None:
            target = target.outer
        target.bind(node.target.id)
        self._waiting.append((node.value, scope))

    def _parameters(self, node: Any, scope: _Scope) -> _Scope:
        """The scope inside a function or class that has parameters for types."""
        parameters = [each.name for each in getattr(node, "type_params", ())]
        return self._scope(scope, *parameters) if parameters else scope

    def _function(self, node: Any, scope: _Scope) -> None:
        scope.bind(node.name)
        self._add([each for each in node.decorator_list if not self._is_left_out(each)], scope)
        self._arguments(node.args, node.body, scope, self._parameters(node, scope))

    def _lambda(self, node: Any, scope: _Scope) -> None:
        self._arguments(node.args, [node.body], scope, scope)

    def _arguments(self, args: Any, body: Sequence[ast.AST], scope: _Scope, outer: _Scope) -> None:
        given = (*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg)
        self._add((*args.defaults, *args.kw_defaults), scope)
        self._add(body, self._scope(outer, *(each.arg for each in given if each is not None)))

    def _class(self, node: Any, scope: _Scope) -> None:
        scope.bind(node.name)
        self._add([each for each in node.decorator_list if not self._is_left_out(each)], scope)
        inner = self._parameters(node, scope)
        self._add((*node.bases, *node.keywords), inner)
        self._add(node.body, self._scope(inner, is_class=True))

    def _comprehension(self, node: Any, scope: _Scope) -> None:
        inner = self._scope(scope, is_comprehension=True)
        first, *others = node.generators
        self._add((first.iter,), scope)  # the only part that is evaluated outside
        self._add((first.target, *first.ifs, *others), inner)
        self._add((getattr(node, field) for field in node._fields if field != "generators"), inner)

    def _import(self, node: Any, scope: _Scope) -> None:
        for alias in node.names:
            self.runs.add((alias.name, 0))
            top = alias.name.partition(".")[0]
            bound, module = (alias.asname, alias.name) if alias.asname else (top, top)
            scope.bind(bound)
            scope.imports.setdefault(bound, []).append((module, 0, None))

    def _import_from(self, node: Any, scope: _Scope) -> None:
        self.runs.add((node.module or "", node.level))
        for alias in node.names:
            bound = alias.asname or alias.name
            scope.bind(bound)
            scope.imports.setdefault(bound, []).append((node.module or "", node.level, alias.name))

    def _annotated(self, node: Any, scope: _Scope) -> None:
        # A class may be made from its annotations: a dataclass.
        self._add((node.target, node.value, node.annotation if scope.is_class else None), scope)

    def _type_alias(self, node: Any, scope: _Scope) -> None:
        scope.bind(node.name.id)
        self._add((node.value,), self._parameters(node, scope))

    def _global(self, node: Any, scope: _Scope) -> None:
        scope.of_module.update(node.names)

    def _nonlocal(self, node: Any, scope: _Scope) -> None:
        scope.of_outer.update(node.names)

    def _named(self, node: Any, scope: _Scope) -> None:
        scope.bind(node.name)
        self._other(node, scope)

    def _rest(self, node: Any, scope: _Scope) -> None:
        scope.bind(node.rest)
        self._other(node, scope)


_VISITS: dict[type, Callable[[_Walk, Any, _Scope], None]] = {
    ast.Name: _Walk._name,
    ast.Attribute: _Walk._attribute,
    ast.Call: _Walk._call,
    ast.NamedExpr: _Walk._walrus,
    ast.Lambda: _Walk._lambda,
    ast.ClassDef: _Walk._class,
    ast.Import: _Walk._import,
    ast.ImportFrom: _Walk._import_from,
    ast.AnnAssign: _Walk._annotated,
    ast.Global: _Walk._global,
    ast.Nonlocal: _Walk._nonlocal,
    ast.ExceptHandler: _Walk._named,
    ast.MatchAs: _Walk._named,
    ast.MatchStar: _Walk._named,
    ast.MatchMapping: _Walk._rest,
    **dict.fromkeys(_FUNCTIONS, _Walk._function),
    **dict.fromkeys(_COMPREHENSIONS, _Walk._comprehension),
}
if hasattr(ast, "TypeAlias"):  # Python 3.12
    _VISITS[ast.TypeAlias] = _Walk._type_alias


def _imported_by_call(node: ast.AST) -> str | None:
    """Return the module that `importlib.import_module` or `__import__` is called for.

    None for a text that is no literal or begins with a dot, and the empty text for any other call.
    """
    chain = chain_of(node.func) if isinstance(node, ast.Call) else None
    if chain not in _IMPORTERS or not isinstance(node, ast.Call):
        return ""
    first = node.args[0] if len(node.args) == 1 and not node.keywords else None
    if not isinstance(first, ast.Constant) or type(first.value) is not str:
        return None
    return None if first.value[:1] in ("", ".") else first.value


_IMPORTERS = frozenset({("importlib", "import_module"), ("import_module",), ("__import__",)})


def chain_of(node: ast.AST) -> Chain | None:
    """`a.b.c` as a chain; None for what does not begin with a name."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None
