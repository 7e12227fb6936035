"""Nested data as a flat program and back; the copies of it that callers get.

Everything here is iterative: nesting is limited by memory alone, never by the interpreter's stack.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from smm._refusals import Refused as Refused
from smm._refusals import refusal_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    from smm import _numpy as np

PYTHON_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
"""What a dict key may be, besides tuples of these."""

_CONTAINERS = frozenset({list, tuple, dict})
_KEY_DEPTH = 100


class Damaged(ValueError):  # noqa: N818 - a verdict; who knows the file makes an error of it
    """Bytes that cannot be what was written. `reason` is for the message, without the file's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Pickled(ValueError):  # noqa: N818 - the same
    """The bytes hold pickled objects, and the caller did not allow them."""


class Newer(ValueError):  # noqa: N818 - the same
    """Written in a later layout than this version reads; `found` and `known` are for the message."""

    def __init__(self, *, found: str, known: str) -> None:
        super().__init__(found, known)
        self.found = found
        self.known = known


class Build(tuple[str, int]):
    """A program's step: make a container of the last values."""

    # Not a NamedTuple: the first of a process takes as long to declare as all else here.
    __slots__ = ()

    def __new__(cls, kind: str, size: int) -> Build:
        return super().__new__(cls, (kind, size))

    @property
    def kind(self) -> str:
        """`list`, `tuple` or `dict`."""
        return self[0]

    @property
    def size(self) -> int:
        """How many elements; a dict takes two values for each, the key first."""
        return self[1]


class _Open:
    """A container whose elements are being visited."""

    __slots__ = ("build", "container", "items", "key")

    def __init__(self, container: Any) -> None:
        self.container = container
        self.key: Any = None
        self.build = Build(type(container).__name__, len(container))
        self.items: Iterator[tuple[Any, Any]] = iter(
            container.items() if type(container) is dict else enumerate(container)
        )


# --- data to program and back ----------------------------------------------------------------------------


def flatten(data: Any, leaf: Callable[[Any], Any]) -> list[Any]:
    """Turn nested data into a program in postfix order, which `unflatten` follows.

    The program holds `leaf(value)` for each value that is not exactly a list, tuple or dict, and a `Build`
    after the last element of each of these. Dict keys come as leaves before their values. What is
    contained twice is visited twice.

    Raises:
        Refused: a container within itself, a dict key that is not plain, whatever `leaf` refuses; with
            the place inside `data`.
    """
    program: list[Any] = []
    if type(data) not in _CONTAINERS:
        return [leaf(data)]
    walk = [_Open(data)]
    around = {id(data)}
    try:
        while walk:
            here = walk[-1]
            keyed = here.build.kind == "dict"
            for key, value in here.items:
                here.key = key
                if keyed:
                    program += _flat_key(key, leaf)
                if type(value) in _CONTAINERS:
                    if id(value) in around:
                        raise _cycle(value)
                    around.add(id(value))
                    walk.append(_Open(value))
                    break
                program.append(leaf(value))
            else:
                program.append(here.build)
                around.remove(id(here.container))
                walk.pop()
    except Refused as refused:
        raise refused.at(_place(walk)) from None
    return program


def unflatten(program: Iterable[Any]) -> Any:
    """Build what `flatten` took apart: new lists, tuples and dicts around the program's values.

    Raises:
        Damaged: the program does not add up to one value, or a dict key is not plain or comes twice.
    """
    values: list[Any] = []
    for step in program:
        if type(step) is not Build:
            values.append(step)
            continue
        start = len(values) - step.size * (2 if step.kind == "dict" else 1)
        if start < 0:
            raise Damaged(f"a {step.kind} of {step.size} elements, of which some are missing")
        made: Any = values[start:]
        del values[start:]
        if step.kind == "tuple":
            made = tuple(made)
        elif step.kind == "dict":
            made = _dict(made[::2], made[1::2])
        values.append(made)
    if len(values) != 1:
        raise Damaged(f"the parts make {len(values)} values instead of one")
    return values[0]


def _flat_key(key: Any, leaf: Callable[[Any], Any]) -> list[Any]:
    if type(key) in PYTHON_ATOMS:
        return [leaf(key)]
    if not is_plain_key(key):
        raise Refused(
            found=f"a dict with the key {reprlib.repr(key)} of type {type(key).__name__}",
            way_out="use keys that are None, bool, int, float, complex, str, bytes or tuples of these",
        )
    return flatten(key, leaf)


def is_plain_key(key: Any) -> bool:
    """Whether a dict key can be kept: an atom of Python's, or tuples of these nested up to 100 deep.

    Hashing a nested tuple recurses in C without a check, hence the limit.
    """
    level = [key]
    for _ in range(_KEY_DEPTH):
        if not all(type(part) in PYTHON_ATOMS or type(part) is tuple for part in level):
            return False
        level = [inner for part in level if type(part) is tuple for inner in part]
        if not level:
            return True
    return False


def _dict(keys: list[Any], values: list[Any]) -> dict[Any, Any]:
    if not PYTHON_ATOMS.issuperset(map(type, keys)) and not all(map(is_plain_key, keys)):
        raise Damaged("a dict with a key that cannot be one")
    made = dict(zip(keys, values, strict=True))
    if len(made) != len(keys):
        raise Damaged("a dict with the same key twice")
    return made


def _cycle(value: Any) -> Refused:
    kind = type(value).__name__
    return Refused(found=f"a {kind} that contains itself", way_out="save a copy without the inner reference")


def _place(walk: list[_Open]) -> str:
    """Where the walk stands, as it would be written in code; the middle of a long way is left out."""
    steps = [f"[{reprlib.repr(here.key)}]" for here in (walk if len(walk) <= 12 else walk[:4] + walk[-4:])]
    if len(walk) > 12:
        steps.insert(4, f"...({len(walk) - 8} deeper)...")
    return "".join(steps)


# --- copies for callers ----------------------------------------------------------------------------------


def duplicate(array: NDArray[Any]) -> NDArray[Any]:
    """A writable copy that owns its memory: same dtype and shape, objects inside copied too.

    In C order, or in Fortran order if the array is only that.
    """
    if array.dtype.hasobject:
        import pickle

        # A canonical object array came out of pickle, so it goes through it again.
        copied: NDArray[Any] = pickle.loads(pickle.dumps(array, protocol=4))  # noqa: S301
        return copied
    order: Any = "F" if array.flags.fnc else "C"
    if array.dtype.itemsize == 0:
        # copy() would make S0 an S1, and walk through as many nothings as the shape says.
        return np.ndarray(array.shape, array.dtype, order=order)
    return array.copy(order)


def freeze(data: Any) -> Any:
    """Make every array in a value read-only for good: `setflags(write=True)` on what is handed out fails.

    Args:
        data: a value that belongs to the caller alone. Its arrays change in place, together with the arrays
            they are views of; one on other writable memory (a bytearray) is replaced by a copy.

    Returns:
        The value, its containers built anew.

    Raises:
        Refused: a class that no storage of smm keeps, which cannot be frozen; nothing has changed then.
    """
    if type(data) not in _CONTAINERS:
        return _frozen(_known_leaf(data))
    return unflatten(map(_frozen, flatten(data, _known_leaf)))


def hand_out(data: Any, *, writable: bool = False) -> Any:
    """The copy of a frozen value that one caller gets; what the caller does to it reaches nobody else.

    Args:
        data: what `freeze` returned.
        writable: give arrays that are copies, instead of read-only views that share the memory.

    Returns:
        New lists, tuples and dicts; numbers and text as they are. Arrays with Python objects are copied in
        either case, because their elements cannot be frozen.

    Raises:
        Refused: as `freeze`.
    """
    leaf = _writable_leaf if writable else _shared_leaf
    kind = type(data)
    if kind not in _CONTAINERS:
        return leaf(data)
    if kind is list:
        kinds = set(map(type, data))
        if kinds <= PYTHON_ATOMS or (kinds.isdisjoint(_CONTAINERS) and kinds <= _atoms()):
            return data.copy()  # a long list of numbers, at the speed of C
    return unflatten(flatten(data, leaf))


# Python's own types come first below: a value without numpy's is served without loading numpy.


@functools.cache
def _atoms() -> frozenset[type]:
    """Types whose values nobody can change, numpy's with them."""
    return PYTHON_ATOMS | {kind for kind in np.sctypeDict.values() if kind not in (np.void, np.object_)}


def _frozen(step: Any) -> Any:
    """Of a program's steps, an array made read-only; others as they are."""
    kind = type(step)
    if kind in PYTHON_ATOMS or kind is Build or kind is not np.ndarray:
        return step
    array = owner = step
    while isinstance(owner, np.ndarray):
        owner.setflags(write=False)
        owner = owner.base
    if owner is not None and not _is_read_only(owner):
        array = duplicate(array)
        array.setflags(write=False)
    return array


def _is_read_only(memory: Any) -> bool:
    try:
        return memoryview(memory).readonly
    except TypeError:  # it gave its memory to numpy in another way
        return False


def _known_leaf(value: Any) -> Any:
    kind = type(value)
    if kind in PYTHON_ATOMS or kind in _atoms() or kind is np.ndarray or kind is np.void:
        return value
    raise refusal_of(value)


def _shared_leaf(value: Any) -> Any:
    kind = type(value)
    if kind in PYTHON_ATOMS:
        return value
    if kind is np.ndarray:
        if value.dtype.hasobject:
            value = duplicate(value)
            value.setflags(write=False)
        # A view each: shape and dtype of an array can be assigned to.
        return value.view()
    return value if kind in _atoms() else _writable_leaf(value)


def _writable_leaf(value: Any) -> Any:
    kind = type(value)
    if kind in PYTHON_ATOMS:
        return value
    if kind is np.ndarray:
        return duplicate(value)
    return duplicate(np.asarray(value))[()] if kind is np.void else _known_leaf(value)
