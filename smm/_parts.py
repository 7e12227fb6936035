"""The parts of the user's project that code is made of, and how each leads to others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from smm._blake import blake2b
from smm._places import MISSING, Place, is_smm, undecorated, wrapped
from smm._plain import plain
from smm._statements import Bound, Definition
from smm._syntax_dump import Chain, Imported, dump, names, readable

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

_CODE = (FunctionType, type, MethodType, partial)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Found:
    """What a name or a value leads to."""

    def __init__(self) -> None:
        self.parts: dict[Part, None] = {}
        self.lines: set[str] = set()
        """What is said of it where it is none of the project's: `import numpy as np`."""
        self.seen: set[tuple[Place, Chain]] = set()


class Following(Protocol):
    """What a part needs to find others."""

    def module(self, name: str) -> Place | None:
        """Return the project's module of a dotted name; None if there is none."""

    def follow(self, place: Place, chain: Chain, found: Found) -> None:
        """What a name of a module leads to."""

    def imported(self, place: Place, one: Imported, found: Found) -> None:
        """What an import inside a function leads to."""

    def value(self, value: Any, rest: Chain, found: Found) -> None:
        """What a value leads to, or what is read from it if it is a module."""

    def inside(self, value: Any, found: Found) -> None:
        """The functions and classes in a container, or in those that a class or an instance holds."""


@attrs.frozen(kw_only=True, eq=False)
class Look:
    """What there is to know of a part."""

    digest: str
    """Sixteen hexadecimal digits: of what counts in its source, and of what its names mean elsewhere."""
    form: str
    """The digest, and for each label of its links to how many parts it leads."""
    targets: tuple[Part, ...]
    """These parts, in the order of the labels."""
    inside: tuple[Part, ...]
    """What its value holds; by which statements, its source may not say: functions that were registered."""
    lines: Sequence[str]
    """What stands before its source: `import numpy as np`, `rate = other_rate`."""
    places: tuple[Place, ...] = ()
    """The module that it is in, and those that imports inside it run."""
    unseen: tuple[str, ...] = ()
    """Clauses that name what of it no fingerprint covers: `analysis.f calls exec`."""


class Part:
    """One thing that is reached. It is looked at when it is first asked, and then no more."""

    def __init__(self, reach: Following, module: str, name: str) -> None:
        self.reach = reach
        self.name = name
        """Within the module."""
        self.module = module
        self.full_name = f"{module}.{name}"
        self._look: Look | None = None

    def source(self) -> str:
        """What counts of it, as source."""
        return "\n".join(filter(None, (*self.look.lines, self._readable())))

    @property
    def look(self) -> Look:
        """What there is to know of it.

        Raises:
            UnreadError: something it leads to has no source, or not as it runs.
        """
        if self._look is None:  # two threads may look; no lock that a fork could find taken
            self._look = self._looked()
        return self._look

    def _looked(self) -> Look:
        lines: set[str] = set()
        links: dict[str, list[Part]] = {}
        for label, found in self._follow():
            lines |= found.lines
            if found.parts:
                links[label] = list(found.parts)
                # An import within the source says itself what its names mean; one outside does not.
                if not label.startswith("from "):
                    said = re.split("[. ]", label)
                    lines.update(f"{label} = {part.name}" for part in found.parts if part.name not in said)
        text = "\n".join((*sorted(lines), self._dump()))
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        labels = sorted(links)
        return Look(
            digest=digest,
            form="\n".join((digest, *(f"{label}: {len(links[label])}" for label in labels))),
            targets=tuple(part for label in labels for part in links[label]),
            inside=tuple(sorted(self._inside().parts, key=lambda part: part.name)),
            lines=sorted(lines),
            places=self._places(),
            unseen=self._unseen(),
        )

    def _places(self) -> tuple[Place, ...]:
        return ()

    def _unseen(self) -> tuple[str, ...]:
        return ()

    def _follow(self) -> Iterator[tuple[str, Found]]:
        """Everything it leads to, and what else counts, each under a label."""
        raise NotImplementedError

    def _inside(self) -> Found:
        return Found()

    def _led_to(self, value: Any, rest: Chain = ()) -> Found:
        found = Found()
        self.reach.value(value, rest, found)
        return found

    def _dump(self) -> str:
        return ""

    def _readable(self) -> str:
        return ""


class SourcePart(Part):
    """Statements of a module."""

    def __init__(self, reach: Following, place: Place, name: str, nodes: Sequence[ast.AST]) -> None:
        super().__init__(reach, place.shown, name)
        self.place = place
        self.nodes = nodes

    def _dump(self) -> str:
        return dump(self.nodes, self.place.is_collecting)

    def _readable(self) -> str:
        return readable(self.nodes, self.place.is_collecting)

    def _follow(self) -> Iterator[tuple[str, Found]]:
        taken = names(self.nodes, self.place.is_collecting)
        for chain in taken.free:
            yield ".".join(chain), self._free(chain)
        for one in taken.imported:
            found = Found()
            self.reach.imported(self.place, one, found)
            written = f"from {'.' * one.level}{one.module} import {one.name}"
            yield ".".join((written, *one.chain)), found

    def _free(self, chain: Chain) -> Found:
        found = Found()
        self.reach.follow(self.place, chain, found)
        return found

    def _places(self) -> tuple[Place, ...]:
        runs = sorted(names(self.nodes, self.place.is_collecting).runs)
        others = [self.reach.module(self.place.absolute(module, level)) for module, level in runs]
        return (self.place, *(other for other in others if other is not None))

    def _unseen(self) -> tuple[str, ...]:
        taken = names(self.nodes, self.place.is_collecting)
        clauses = unseen_in(taken.free, taken.imported, taken.imports_by_text, self.place)
        return tuple(f"{self.full_name} {clause}" for clause in clauses)


class Statements(SourcePart):
    """Statements of a module that run when it is imported, and touch a name of it or of another module."""

    def __init__(self, reach: Following, place: Place, name: str, nodes: Sequence[ast.AST]) -> None:
        super().__init__(reach, place, f"{name} (statements)", nodes)


class Named(SourcePart):
    """What gives a name of a module its meaning."""

    def __init__(self, reach: Following, place: Place, name: str) -> None:
        bounds = place.bounds(name)
        self._bounds = [each for each in bounds if each.alias is None]
        self._is_sole = len(self._bounds) == len(bounds)  # no import gives the name another meaning
        super().__init__(reach, place, name, list(dict.fromkeys(each.shown for each in self._bounds)))

    def _follow(self) -> Iterator[tuple[str, Found]]:
        yield from super()._follow()
        setters = self.place.setters(self.name)
        for setter in setters:
            yield f"global {setter}", self._free((setter,))
        value = undecorated(self.place.value(self.name))
        if value is MISSING:
            return
        if self._is_replaced(value):
            found = self._led_to(value)
            yield f"{self.name} now", found if found.parts else _said(f"{self.name} is {_kind(value)}")
        elif not setters and (said := _literal(self._bounds)) is not None:
            now = plain(value)
            if now is not None and now != said:
                yield "", _said(f"{self.name} is {now}")

    def _inside(self) -> Found:
        found = Found()
        self.reach.inside(self.place.value(self.name), found)
        return found

    def _unseen(self) -> tuple[str, ...]:
        lazy = (f"{self.module} gives names by its __getattr__",) if self.name == "__getattr__" else ()
        return (*lazy, *super()._unseen())

    def _is_replaced(self, value: Any) -> bool:
        """Whether something else stands in the place of what the source defines.

        Raises:
            UnreadError: what stands there is what the source defines, but not as the source has it now.
        """
        meant = [each.node for each in self._bounds if each.binds]
        ours = [each for each in wrapped(value) if any(self._is_meant(each, node) for node in meant)]
        for each in ours:
            for function in self._functions(each):
                self.place.source_of(function.__code__).definitions(function.__code__)
        return self._is_sole and not ours and all(self._says_all(node) for node in meant)

    def _is_meant(self, value: Any, node: ast.stmt) -> bool:
        if isinstance(value, FunctionType):
            name = getattr(node, "name", "<lambda>")
            return value.__code__.co_name == name and self.place.runs(value)
        return (
            isinstance(value, type)
            and isinstance(node, ast.ClassDef)
            and (value.__module__, value.__qualname__) == (self.place.value("__name__"), node.name)
        )

    def _functions(self, value: Any) -> Iterator[FunctionType]:
        """The function itself, or the methods of a class that its source defines."""
        if isinstance(value, FunctionType):
            yield value
        for method in list(vars(value).values()) if isinstance(value, type) else ():
            for each in wrapped(method):
                if isinstance(each, FunctionType) and self.place.holds(each.__code__):
                    yield each

    def _says_all(self, node: ast.stmt) -> bool:
        """Whether a statement tells exactly which object the name stands for: nothing decorates it."""
        if isinstance(node, _DEFINITIONS):
            return all(map(self.place.is_collecting, node.decorator_list))
        return isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)


class Local(SourcePart):
    """A function or class where it stands: in a function, without a name, or defined anew further down."""

    def __init__(
        self, reach: Following, place: Place, value: Any, found: list[Definition], *, follows: bool = True
    ) -> None:
        super().__init__(reach, place, found[0].qualname, [each.node for each in found])
        self._value = value
        self._follows = follows
        self._top = found[0].top
        functions = [value] if isinstance(value, FunctionType) else list(vars(value).values())
        self._cells = {
            name: cell
            for function in functions
            if isinstance(function, FunctionType)
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        }

    def _follow(self) -> Iterator[tuple[str, Found]]:
        if not self._follows:
            return
        yield from super()._follow()
        held = {name: _content(cell) for name, cell in self._cells.items()} | _defaults(self._value)
        around = False
        for name, value in held.items():
            text = plain(value)
            if text is not None and not self._is_set_inside(name):
                yield "", _said(f"{name} is {text}")
            elif isinstance(value, ModuleType) or is_smm(value):
                continue
            elif isinstance(value, _CODE):
                yield f"{name} here", self._led_to(value)
            elif value is not MISSING:
                around = True  # what it holds may change from call to call
                found = self._led_to(type(value))
                self.reach.inside(value, found)
                yield f"in {name}", found
        if around and self._top:
            yield f"around {self._top}", super()._free((self._top,))
        inner = vars(self._value).get("__wrapped__") if isinstance(self._value, FunctionType) else None
        if inner is not None:
            yield "__wrapped__", self._led_to(inner)

    def _free(self, chain: Chain) -> Found:
        if chain[0] not in self._cells:
            return super()._free(chain)
        value = _content(self._cells[chain[0]])
        return self._led_to(value, chain[1:]) if isinstance(value, ModuleType) else Found()

    def _is_set_inside(self, name: str) -> bool:
        """Whether a function beside it, or itself, may give the variable another value."""
        bounds = self.place.bounds(self._top)
        return any(
            isinstance(each, ast.Nonlocal) and name in each.names
            for bound in bounds
            for each in ast.walk(bound.node)
        )


class State(Part):
    """What a callable object holds: the arguments of a partial, the attributes of an instance.

    Args:
        reach: finds what these lead to.
        module: where it is defined.
        name: to call it by.
        held: these, by what they are called.
        changeable: write out lists, arrays and the like, too. Those of an instance may change while it works.
    """

    def __init__(
        self, reach: Following, module: str, name: str, held: Mapping[str, Any], *, changeable: bool
    ) -> None:
        super().__init__(reach, module, name)
        self._held = held
        self._changeable = changeable

    def _follow(self) -> Iterator[tuple[str, Found]]:
        for label, value in self._held.items():
            found = self._led_to(value)
            if found.parts:
                yield label, found
            elif not is_smm(value):
                text = plain(value, changeable=self._changeable)
                yield "", _said(f"{label} is {text or _kind(value)}")
                self.reach.inside(value, found)
                yield f"in {label}", found


def unseen_in(
    free: Iterable[Chain], imported: Iterable[Imported], imports_by_text: bool, place: Place
) -> list[str]:
    """Return clauses for what a piece of source does that cannot be followed: `calls exec`.

    Args:
        free: the names of the module that it reads.
        imported: what it reads by imports of its own.
        imports_by_text: True if it imports a module by a text that is computed.
        place: the module.
    """
    found = set()
    for chain in free:
        if chain[0] in ("exec", "eval", "globals") and not place.bounds(chain[0]):
            found.add(f"calls {chain[0]}")
        elif chain[:2] == ("sys", "modules"):
            found.add("reads sys.modules")
    for one in imported:
        if one.module == "sys" and [part for part in (one.name, *one.chain) if part][:1] == ["modules"]:
            found.add("reads sys.modules")
    if imports_by_text:
        found.add("imports a module by a computed name")
    return sorted(found)


def _said(line: str) -> Found:
    found = Found()
    found.lines.add(line)
    return found


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing has been put into it yet
        return MISSING


def _defaults(function: Any) -> dict[str, Any]:
    """The defaults of a function, which may be from around it, by the names of its parameters."""
    if not isinstance(function, FunctionType):
        return {}
    code, values = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    last = positional[len(positional) - len(values) :]
    return dict(zip(last, values, strict=True)) | (function.__kwdefaults__ or {})


def _literal(bounds: Sequence[Bound]) -> str | None:
    """The value that one assignment alone gives a name, if it is written out there."""
    node = bounds[0].node if len(bounds) == 1 and bounds[0].shown is bounds[0].node else None
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if not all(isinstance(target, ast.Name) for target in targets):
        return None
    if not isinstance(node.value, ast.Constant | ast.UnaryOp | ast.Tuple):
        return None
    try:
        return plain(ast.literal_eval(node.value))
    except (ValueError, TypeError):
        return None


def _kind(value: object) -> str:
    """What a value is that is not of the project: `numpy.mean`, `a pandas.DataFrame`."""
    named = isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType)
    kind: Any = value if named else type(value)
    return f"{'' if named else 'a '}{kind.__module__ or 'builtins'}.{kind.__qualname__}"
