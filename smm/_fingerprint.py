"""The fingerprint of a metric's code, to tell later whether it is still the same.

What counts is the source of the function, and of everything it reaches in the user's project, without
comments, docstrings and layout. Names of modules and places of files do not count: what is moved stays the
same. A variable that is renamed counts as a change.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from smm._blake import blake2b
from smm._imported import note_imports
from smm._module_statements import Touching
from smm._parts import Part
from smm._places import Place
from smm._project_files import forget
from smm._reach import Reach
from smm._statements import OtherCodeError, UnreadError

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs

__all__ = ["Fingerprint", "Unknown", "changed", "fingerprint", "note_imports"]

Change: TypeAlias = Literal["added", "changed", "removed"]

READING = 2
"""The version of this way of reading code. Raise it whenever the same source gets another fingerprint."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""This Python; another one may see other syntax in the same source."""


@attrs.frozen(kw_only=True)
class Fingerprint:
    """What code was made of."""

    digest: str
    """Of all; the same for code that was only moved to other modules. Sixteen hexadecimal digits."""
    parts: Mapping[str, str]
    """By name, the digest of each definition that is reached; the function itself first."""
    sources: Mapping[str, str] = attrs.field(eq=False, repr=False)
    """By name, what counts of the source of each; written when it is read."""
    python: str
    """The version of Python that saw it so: `3.11`."""
    unseen: tuple[str, ...] = ()
    """Clauses that name what the code does that cannot be followed: `analysis.f calls exec`."""


@attrs.frozen(kw_only=True)
class Unknown:
    """In place of a fingerprint that cannot be had."""

    reason: str
    """A clause that says why, and what to do if there is something."""


class _Memory:
    """What was found in this process, as long as it holds."""

    def __init__(self) -> None:
        self.reach = Reach()
        self.known: dict[int, tuple[weakref.ref[Any], Any, Fingerprint | Unknown]] = {}
        """By the id of a function: the function, what it ran as then, and what was found."""


_memory: _Memory | None = None


def fingerprint(function: Callable[..., Any] | None) -> Fingerprint | Unknown:
    """Return the fingerprint of a function, as it runs in this process.

    Taken once a process, and again after a module of the project has been imported anew or a cell of a
    notebook has been run. Reads source files, each once; imports nothing and runs none of the user's code.
    Any number of threads may ask.
    """
    memory = _remembered()
    known = memory.known.get(id(function))
    code = function.__code__ if isinstance(function, FunctionType) else None
    if known is not None and known[0]() is function and known[1] is code:
        return known[2]
    try:
        found = _found(function, memory)
    except RecursionError:  # with less on the stack it may go well
        return Unknown(reason="its source is nested too deep to be read from here")
    with contextlib.suppress(TypeError):  # None, and instances of some classes with slots
        _remembered().known[id(function)] = weakref.ref(function), code, found
    return found


def state_of_code() -> object:
    """Return an object that is another one as soon as code of the project may have changed.

    Keep it while it is compared. Code changes where a module is reloaded, or a cell of a notebook is run.
    """
    return _remembered()


def _remembered() -> _Memory:
    global _memory
    memory = _memory
    if memory is None or not memory.reach.holds():
        memory = _memory = _Memory()
    return memory


def _found(function: Any, memory: _Memory) -> Fingerprint | Unknown:
    global _memory
    try:
        try:
            return _taken(memory.reach.root(function), memory.reach)
        except OtherCodeError as error:
            # IPython's autoreload puts new code into a module without importing it.
            if not forget(error.file):
                raise
            _memory = None
            reach = _remembered().reach
            return _taken(reach.root(function), reach)
    except UnreadError as error:
        return Unknown(reason=str(error))
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001 - no result may be lost because its code is strange
        return Unknown(reason=f"looking at it failed: {type(error).__name__}: {error}")


def _taken(root: Part, reach: Reach) -> Fingerprint:
    """Collect all parts reached from one, in the order in which they are met, and a digest of the whole.

    That digest covers which name of which part leads to which other, by their numbers in that order. So it
    tells apart what has the same parts put together otherwise, whatever their modules are called.
    """
    order = [root]
    numbers = {root: 0}
    forms: list[str] = []
    links: list[int] = []
    searched = 0
    ties = _Ties(reach)
    while searched < len(order):
        for part in order[len(forms) :]:
            look = part.look
            forms.append(look.form)
            for target in look.targets:
                number = numbers.get(target)
                if number is None:
                    number = numbers[target] = len(order)
                    order.append(target)
                links.append(number)
        if len(forms) == len(order):  # only then: what a table holds is mostly reached by its source
            for target in order[searched].look.inside:
                if target not in numbers:
                    links += (-1 - searched, len(order))
                    numbers[target] = len(order)
                    order.append(target)
            searched += 1
        if searched == len(order):
            ties.add_statements(order, numbers)
    text = "\n".join((*forms, *map(str, links), *ties.lines))
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    named = _named(order)
    parts = {name: part.look.digest for name, part in named.items()}
    unseen = dict.fromkeys(clause for part in order for clause in part.look.unseen)
    for place in dict.fromkeys(part.look.places[0] for part in order if part.look.places):
        unseen |= dict.fromkeys(reach.statements.unseen(place))
    return Fingerprint(
        digest=digest, parts=parts, sources=_Sources(named), python=PYTHON, unseen=tuple(unseen)
    )


class _Ties:
    """The statements that run when the modules of parts are imported, and the parts that they touch."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._places: dict[Place, Touching] = {}
        self._looked_at = 0
        self.lines: dict[str, None] = {}
        """The numbers of a part that is touched, and of the statements."""

    def add_statements(self, order: list[Part], numbers: dict[Part, int]) -> None:
        """Add those to the parts that touch one of them."""
        for part in order[self._looked_at :]:
            for place in part.look.places:
                if place not in self._places:
                    self._places[place] = self._reach.statements.touching(place)
        self._looked_at = len(order)
        for touching in self._places.values():
            for (place, name), statements in touching.items():
                touched = self._reach.known_part(place, name)
                if touched is None or touched not in numbers:
                    continue
                for each in statements:
                    if each not in numbers:
                        numbers[each] = len(order)
                        order.append(each)
                    self.lines[f"{numbers[touched]} {numbers[each]}"] = None


def _named(parts: list[Part]) -> dict[str, Part]:
    """By name; where several have one (closures made by one function), with numbers."""
    named = {part.full_name: part for part in parts}
    if len(named) < len(parts):
        named = {}
        for part in parts:
            name, count = part.full_name, 1
            while name in named:
                count += 1
                name = f"{part.full_name}#{count}"
            named[name] = part
    return named


class _Sources(Mapping[str, str]):
    """Sources that are written when they are read."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> str:
        return self._parts[name].source()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def changed(noted: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, Change]]:
    """Which definitions differ between the parts of two fingerprints: first those of `now`, in its order.

    A definition that is in another module now is the same one: it is not listed if its digest is the same,
    and as changed if only one can be meant.
    """
    found: dict[str, Change] = {name: "changed" for name in now if noted.get(name, now[name]) != now[name]}
    added = {name: now[name] for name in now if name not in noted}
    removed = {name: noted[name] for name in noted if name not in now}
    for name, digest in list(removed.items()):
        moved = next((other for other in added if added[other] == digest), None)
        if moved is not None:
            del added[moved], removed[name]
    for name in list(removed):
        likely = [other for other in added if _own_name(other) == _own_name(name)]
        if len(likely) == 1:
            found[likely[0]] = "changed"
            del added[likely[0]], removed[name]
    found |= dict.fromkeys(added, "added")
    in_order: list[tuple[str, Change]] = [(name, found[name]) for name in now if name in found]
    return in_order + [(name, "removed") for name in removed]


def _own_name(name: str) -> str:
    """Of a part, without the module that it is in."""
    top = name.partition(".<locals>")[0]
    return name[top.rfind(".") + 1 :]
