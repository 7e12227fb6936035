"""A source taken apart: which statements give a name of the module its meaning, and where running code is."""

from __future__ import annotations

import ast
import os
import re
import textwrap
import threading
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from smm._syntax_dump import chain_of
from smm._touches import Touches, cannot_change, touches_of

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BRANCHES = ("body", "orelse", "finalbody", "handlers", "cases")
_INNER = (ast.stmt, ast.ExceptHandler, ast.match_case)

# The file name under which sources are compiled, so that nothing is warned of twice.
_COMPILED = "<smm source>"
_QUIET = ("ignore", None, Warning, re.compile(_COMPILED), 0)


AGAIN = "import it again, or start Python anew"
"""What to do when what runs is not what the file holds."""


class UnreadError(Exception):
    """Source that is not there, or is not what runs; the clause says which and what to do."""


class OtherCodeError(UnreadError):
    """What runs is not what a source holds."""

    def __init__(self, code: CodeType, file: str) -> None:
        super().__init__(f"what runs as {code.co_qualname} is not what {file} holds; {AGAIN}")
        self.file = file


def _compiled(text: str, file: str, flags: int) -> Any:
    """Return the text compiled, or with `ast.PyCF_ONLY_AST` parsed.

    What Python warned of when it was imported is not said again.

    Raises:
        UnreadError: it cannot be parsed.
    """
    if warnings.filters[:1] != [_QUIET]:
        warnings.filterwarnings("ignore", module=_COMPILED)
    for attempt in range(_ATTEMPTS):
        try:
            with _parsing:
                return compile(text, _COMPILED, "exec", flags, dont_inherit=True)
        except SystemError:
            # Python 3.11 counts the depth of all threads' trees in one place (gh-106905), and another thread
            # may parse something, too.
            if attempt == _ATTEMPTS - 1:
                raise
        except (SyntaxError, ValueError, MemoryError) as error:
            raise UnreadError(f"its source, {file}, cannot be parsed: {error}") from error
    raise AssertionError


_ATTEMPTS = 20
_parsing = threading.Lock()


def _after_fork() -> None:
    """In a forked child: the thread that was parsing is gone."""
    global _parsing
    _parsing = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


BindingKind: TypeAlias = Literal["new", "more", "touch", "argument"]
"""A statement may give a name its meaning, add to the one it has, change what the name stands for, or give
that to a function, which may change it."""


@attrs.frozen(kw_only=True, eq=False)
class Bound:
    """A statement at the level of a module by which a name has its meaning."""

    node: ast.stmt
    alias: ast.alias | None
    """Which of the names of an import."""
    kind: BindingKind
    shown: ast.AST
    """The statement within what is around it (`if`, `try`), whose other branches are emptied."""

    @property
    def binds(self) -> bool:
        """True if the statement gives the name a meaning."""
        return self.kind in ("new", "more")


@attrs.frozen(kw_only=True, eq=False)
class Definition:
    """A function or a class anywhere in a source, or a lambda."""

    node: ast.AST
    qualname: str
    top: str
    """The name, at the level of the module, of the definition that it is or lies in; empty if in none."""
    is_top: bool
    """Whether it is the definition of that name, or a method or class in it, and no function's inner part."""


class Source:
    """A file, or a cell of a notebook, taken apart.

    Raises:
        UnreadError: it cannot be parsed.
        RecursionError: it is nested too deep for what is left of the stack.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.bound: dict[str, list[Bound]] = {}
        """By name, the statements that count: a new meaning given in any case voids those before it."""
        self.stars: list[ast.ImportFrom] = []
        """`from module import *`."""
        self.touching: list[tuple[Touches, ast.AST]] = []
        """What statements at the level of the module touch, and each within what is around it."""
        self.imports: list[ast.Import | ast.ImportFrom] = []
        """The imports that run when the module is imported."""
        self.setters: dict[str, list[str]] = {}
        """For names that functions declare `global`, the names of the top-level definitions these lie in."""
        self._text = text
        self._definitions: dict[int, list[Definition]] = {}  # by first line, decorators included
        self._statements: list[tuple[ast.stmt, str]] = []
        self._codes: dict[int, dict[str, list[CodeType]]] = {}  # by flags, by qualified name
        self._lambdas_by_line: dict[int, list[Definition]] | None = None
        self._take_apart(_compiled(text, file, ast.PyCF_ONLY_AST))
        self._drop_harmless_arguments()

    def _take_apart(self, tree: ast.Module) -> None:
        waiting: list[_Visit] = [(node, (), "", "") for node in reversed(tree.body)]
        while waiting:
            node, around, prefix, top = waiting.pop()
            if top == "" and isinstance(node, ast.stmt):
                self._statements.append((node, node.name if isinstance(node, _DEFINITIONS) else ""))
                self._bind(node, around)
            if isinstance(node, _DEFINITIONS):
                prefix, top = self._define(node, prefix, top or node.name)
            elif isinstance(node, ast.Global) and top:
                for name in node.names:
                    self.setters.setdefault(name, []).append(top)
            for branch in ("orelse",) if _is_for_type_checkers(node) else _BRANCHES:
                inner = getattr(node, branch, None)
                if isinstance(inner, list):
                    waiting += [(each, (*around, (node, branch)), prefix, top) for each in reversed(inner)]

    def _define(self, node: _AnyDefinition, prefix: str, top: str) -> tuple[str, str]:
        qualname = prefix + node.name
        found = Definition(node=node, qualname=qualname, top=top, is_top="<locals>" not in prefix)
        first = min(each.lineno for each in (node, *node.decorator_list))
        self._definitions.setdefault(first, []).append(found)
        return qualname + ("." if isinstance(node, ast.ClassDef) else ".<locals>."), top

    def _drop_harmless_arguments(self) -> None:
        """Leave out statements that give a name to a function, which cannot change what the name means."""
        for name, bounds in self.bound.items():
            given = [each.node for each in bounds if each.binds and each.alias is None]
            if given and cannot_change(given):
                self.bound[name] = [each for each in bounds if each.kind != "argument"]

    def _bind(self, node: ast.stmt, around: _Around) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.append(node)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            self.stars.append(node)
            return
        touches = touches_of([node])
        shown = _within(node, around) if touches.names or touches.arguments or touches.calls else None
        if shown is not None:
            self.touching.append((touches, shown))
        for name, kind, alias in _bindings(node, touches, ":=" in self._text):
            known = self.bound.setdefault(name, [])
            if known and kind == "new" and not around and not _builds_on(node, name):
                known.clear()
            shown = shown or _within(node, around)
            known.append(Bound(node=node, kind=kind, alias=alias, shown=shown))

    # --- running code -----------------------------------------------------------------------------------

    def definitions(self, code: CodeType) -> list[Definition]:
        """Where the source of running code is; several only if they begin on one line, or are the same.

        Raises:
            OtherCodeError: what runs is not what is here.
        """
        at = self._lambdas() if code.co_name == "<lambda>" else self._definitions
        found = [
            each
            for line in self._lines(code)
            for each in at.get(line, ())
            if each.qualname.rpartition(".")[2] == code.co_name
        ]
        if not found:
            raise OtherCodeError(code, self.file)
        return found

    def named(self, qualname: str) -> list[Definition]:
        """All definitions that say they have this name."""
        return [each for found in self._definitions.values() for each in found if each.qualname == qualname]

    def _lambdas(self) -> dict[int, list[Definition]]:
        if self._lambdas_by_line is None:
            self._lambdas_by_line = self._found_lambdas()
        return self._lambdas_by_line

    def _found_lambdas(self) -> dict[int, list[Definition]]:
        found: dict[ast.Lambda, Definition] = {}
        for statement, top in self._statements:  # the inner ones after those around them
            for node in ast.walk(statement):
                if isinstance(node, ast.Lambda):
                    name = top or _assigned(statement, node)
                    is_top = name != top
                    found[node] = Definition(node=node, qualname="<lambda>", top=name, is_top=is_top)
        lines: dict[int, list[Definition]] = {}
        for node, one in found.items():
            lines.setdefault(node.lineno, []).append(one)
        return lines

    def _lines(self, code: CodeType) -> list[int]:
        """The first lines of what, compiled, gives this code; if need be on other lines than it says."""
        flags = code.co_flags & annotations.compiler_flag  # cells of a notebook pass it on
        if flags not in self._codes:
            codes: dict[str, list[CodeType]] = {}
            waiting = [_compiled(self._text, self.file, flags)]
            while waiting:
                for each in waiting.pop().co_consts:
                    if isinstance(each, CodeType):
                        codes.setdefault(each.co_qualname, []).append(each)
                        waiting.append(each)
            self._codes[flags] = codes
        likely = self._codes[flags].get(code.co_qualname, ())
        if any(each == code for each in likely):
            return [code.co_firstlineno]
        elsewhere = [each.co_firstlineno for each in likely if _without_place(each) == _without_place(code)]
        return elsewhere or self._lines_if_alone(code, flags)

    def _lines_if_alone(self, code: CodeType, flags: int) -> list[int]:
        """Return the first lines of definitions that give this code when each is compiled by itself.

        IPython's autoreload does so, and Python then compiles calls of imported functions differently.
        """
        return [
            line
            for line, found in self._definitions.items()
            for each in found
            if each.qualname.rpartition(".")[2] == code.co_name
            if _compiled_alone(each, flags) == _without_place(code)
        ]


def _compiled_alone(definition: Definition, flags: int) -> CodeType | None:
    node = definition.node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or "<locals>" in definition.qualname:
        return None
    text = ast.unparse(node).removeprefix("".join(f"@{ast.unparse(each)}\n" for each in node.decorator_list))
    if "." in definition.qualname:
        text = "class _:\n" + textwrap.indent(text, "    ")
    made: CodeType = _compiled(text, definition.qualname, flags)
    while made.co_name != node.name:
        made = next(each for each in made.co_consts if isinstance(each, CodeType))
    return _without_place(made)


def _without_place(code: CodeType) -> CodeType:
    inner = (_without_place(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_firstlineno=1, co_linetable=b"", co_qualname=code.co_name, co_consts=tuple(inner))


_AnyDefinition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Around: TypeAlias = tuple[tuple[ast.AST, str], ...]
_Visit: TypeAlias = tuple[ast.AST, _Around, str, str]


def _assigned(statement: ast.stmt, value: ast.expr) -> str:
    """The name that a statement does nothing but give to a value."""
    if isinstance(statement, ast.Assign) and statement.value is value:
        target = statement.targets[0]
        return target.id if isinstance(target, ast.Name) else ""
    return ""


def _within(node: ast.stmt, around: _Around) -> ast.AST:
    """A statement in copies of what is around it, that hold nothing else."""
    shown: ast.AST = node
    for outer, branch in reversed(around):
        empty = _emptied(outer)
        setattr(empty, branch, [shown])
        shown = empty
    return shown


def _emptied(node: ast.AST) -> ast.AST:
    """A copy of a compound statement without what lies in its branches."""
    import copy  # most sources need none

    empty = copy.copy(node)
    for branch in _BRANCHES:
        inner = getattr(node, branch, None)
        if isinstance(inner, list):
            kept: list[ast.AST] = [_emptied(each) for each in inner] if branch == "handlers" else []
            setattr(empty, branch, [ast.Pass()] if branch == "body" else kept)
    return empty


# --- what a statement binds -------------------------------------------------------------------------------

_Binding: TypeAlias = tuple[str, BindingKind, ast.alias | None]


def _bindings(node: ast.stmt, touches: Touches, with_walrus: bool) -> Iterator[_Binding]:
    """The names that a statement at the level of a module, without its branches, binds or touches."""
    bound = dict.fromkeys(name for name, _, _ in _given(node, with_walrus))
    yield from _given(node, with_walrus)
    touched = dict.fromkeys(sorted(chain[0] for chain in touches.names))
    for name in touched:
        if name not in bound:
            yield name, "touch", None
    for name in dict.fromkeys(sorted(chain[0] for chain in touches.arguments)):
        if name not in bound and name not in touched:
            yield name, "argument", None


def _given(node: Any, with_walrus: bool) -> Iterator[_Binding]:
    """The names that a statement gives a meaning."""
    if isinstance(node, _DEFINITIONS):
        yield node.name, "new", None
    elif isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], "new", alias
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, "new", alias
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _targets(target, "new")
    elif isinstance(node, ast.AnnAssign):
        yield from _targets(node.target, "new") if node.value is not None else ()
    elif isinstance(node, ast.AugAssign | ast.For | ast.AsyncFor):
        yield from _targets(node.target, "more")
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            yield from _targets(item.optional_vars, "more")
    elif isinstance(node, ast.Match):
        for case in node.cases:
            for each in ast.walk(case.pattern):
                name = getattr(each, "name", getattr(each, "rest", None))
                if name is not None:
                    yield name, "more", None
    elif type(node).__name__ == "TypeAlias":  # Python 3.12
        yield node.name.id, "new", None
    if with_walrus and not isinstance(node, _DEFINITIONS):
        yield from _walruses(node)


def _targets(target: ast.AST | None, kind: BindingKind) -> Iterator[_Binding]:
    if isinstance(target, ast.Name):
        yield target.id, kind, None
    elif isinstance(target, ast.Starred):
        yield from _targets(target.value, kind)
    elif isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from _targets(each, kind)


def _is_for_type_checkers(node: ast.AST) -> bool:
    """Return whether a statement is `if TYPE_CHECKING:`, whose body never runs."""
    chain = chain_of(node.test) if isinstance(node, ast.If) else None
    return chain is not None and chain[-1] == "TYPE_CHECKING"


def _walruses(node: ast.AST) -> Iterator[_Binding]:
    waiting = [child for child in ast.iter_child_nodes(node) if not isinstance(child, _INNER)]
    while waiting:
        here = waiting.pop()
        if isinstance(here, ast.NamedExpr):
            yield here.target.id, "more", None
        waiting += [child for child in ast.iter_child_nodes(here) if not isinstance(child, ast.Lambda)]


def _builds_on(node: ast.stmt, name: str) -> bool:
    """Whether a statement that gives a name its meaning uses the one it had."""
    parts: list[ast.AST] = [node]
    if isinstance(node, _DEFINITIONS):
        parts = [*node.decorator_list]
    return any(
        isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Load)
        for part in parts
        for each in ast.walk(part)
    )
