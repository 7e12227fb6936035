"""Two values held against each other, leaf by leaf: where they differ, and by how much.

Iterative, like all that walks nested data here; and piece by piece, so that large arrays need little memory
besides their own.
"""

from __future__ import annotations

import math
import pickle
import reprlib
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from smm._values import summary

Likeness: TypeAlias = Literal["same", "within", "beyond", "different"]

_BLOCK = 1 << 18
"""Elements that are compared at once."""
_LONGEST_TEXT = 60
"""Of a text that is shown whole."""
_NUMBERS = "iufc"
_TEXTS = "US"


@attrs.frozen(kw_only=True)
class Change:
    """How much one value differs from another, and where most."""

    likeness: Likeness
    """`same`; `within` the tolerance, or `beyond` it: only numbers differ; `different`: anything else does,
    such as a type, a shape, a key or a text."""
    relative: float | None = None
    """Of the number that moved most: |a - b| / max(|a|, |b|), between 0 and 2; infinite where one of the two
    is nan or infinite and the other is not the same. None if no number moved."""
    absolute: float | None = None
    """|a - b| of the number for which it is largest."""
    place: str = ""
    """Inside the value, `['co2'][3]`: of what is different, else of the number that moved most."""
    before: str = ""
    """What is there in the first value."""
    after: str = ""
    """What is there in the second one."""
    count: int = 0
    """Places that are different, else numbers that are beyond the tolerance, else numbers that moved."""


def check_tolerance(rtol: float, atol: float) -> None:
    """Refuse what is no tolerance.

    Raises:
        ValueError: it is below 0, infinite or nan.
    """
    for name, given in (("rtol", rtol), ("atol", atol)):
        if not 0 <= given < math.inf:
            raise ValueError(f"{name} is {given!r}; give a number from 0, such as 1e-9")


def compare(one: Any, other: Any, *, rtol: float, atol: float) -> Change:
    """How `other` differs from `one`.

    Two numbers are within the tolerance if |a - b| is at most `rtol` times the larger of |a| and |b|, or at
    most `atol`; so which of the two comes first makes no difference. nan equals nan, -0.0 equals 0.0, and
    infinite numbers equal only themselves. Everything else must be equal, with the same type, dtype and
    shape; the order of a dict's keys, and of an array in memory, does not count.
    """
    walk = _Walk(rtol, atol)
    walk.follow(one, other)
    return walk.change()


_Place: TypeAlias = "tuple[_Place, str] | None"
"""The way to a value: what is around it, and the step from there. Written out only for what is shown."""


def _written(place: _Place) -> str:
    steps = []
    while place is not None:
        place, step = place
        steps.append(step)
    return "".join(reversed(steps))


class _Most:
    """The numbers that moved on one side of the tolerance: how many, and which one most."""

    def __init__(self) -> None:
        self.count = 0
        self.relative = -1.0
        self.absolute = 0.0
        self.place: _Place = None
        self.before = self.after = ""


class _Walk:
    """Compares two values; what it found is in `change()`."""

    def __init__(self, rtol: float, atol: float) -> None:
        self._rtol = rtol
        self._atol = atol
        self._within = _Most()
        self._beyond = _Most()
        self._different = _Most()
        self._todo: list[tuple[_Place, Any, Any]] = []

    def follow(self, one: Any, other: Any) -> None:
        self._todo = [(None, one, other)]
        while self._todo:
            self._look(*self._todo.pop())

    def change(self) -> Change:
        different, moved = self._different, self._beyond if self._beyond.count else self._within
        shown = different if different.count else moved
        likeness: Likeness = "same"
        if shown.count:
            likeness = "different" if shown is different else "beyond" if moved is self._beyond else "within"
        return Change(
            likeness=likeness,
            relative=moved.relative if moved.count else None,
            absolute=moved.absolute if moved.count else None,
            place=_written(shown.place),
            before=shown.before,
            after=shown.after,
            count=shown.count,
        )

    # --- one pair at a time -----------------------------------------------------------------------------

    def _look(self, place: _Place, one: Any, other: Any) -> None:
        kind = type(one)
        if kind is not type(other):
            self._differ(place, described(one), described(other))
            if _is_number(one) and _is_number(other):
                self._numbers(place, one, other)
        elif kind is dict:
            self._dicts(place, one, other)
        elif kind in (list, tuple):
            self._rows(place, one, other)
        elif isinstance(one, np.ndarray):
            self._arrays(place, one, other)
        elif isinstance(one, str | bytes):
            if len(one) != len(other) or one != other:  # numpy's own overlook zeros at the end
                self._texts(place, one, other)
        elif _is_number(one):
            self._numbers(place, one, other)
        elif isinstance(one, np.generic) and one.dtype == other.dtype:
            self._arrays(place, np.asarray(one), np.asarray(other))
        elif not _is_equal(one, other):
            self._differ(place, described(one), described(other))

    def _dicts(self, place: _Place, one: dict[Any, Any], other: dict[Any, Any]) -> None:
        # By their text: to a dict 1, 1.0 and True are one key, and one nan is not the other.
        ones = {_key(key): value for key, value in one.items()}
        others = {_key(key): value for key, value in other.items()}
        for key in sorted(ones.keys() ^ others.keys()):
            before, after = (described(part[key]) if key in part else "nothing" for part in (ones, others))
            self._differ((place, f"[{key}]"), before, after)
        shared = sorted(ones.keys() & others.keys(), reverse=True)
        self._todo += [((place, f"[{key}]"), ones[key], others[key]) for key in shared]

    def _rows(self, place: _Place, one: Sequence[Any], other: Sequence[Any]) -> None:
        if len(one) != len(other):
            self._differ(place, described(one), described(other))
            return
        arrays = _as_array(one), _as_array(other)
        if arrays[0] is not None and arrays[1] is not None and arrays[0].dtype == arrays[1].dtype:
            self._numbers(place, *arrays)
            return
        pairs = enumerate(zip(one, other, strict=True))
        self._todo += reversed([((place, f"[{index}]"), *pair) for index, pair in pairs])

    def _arrays(self, place: _Place, one: NDArray[Any], other: NDArray[Any]) -> None:
        kinds = one.dtype.kind + other.dtype.kind
        both_text = kinds in ("UU", "SS")
        if one.shape != other.shape or (one.dtype != other.dtype and not both_text):
            self._differ(place, described(one), described(other))
            if one.shape == other.shape and set(kinds) <= set(_NUMBERS):
                self._numbers(place, one, other)
        elif one.dtype.names is not None:
            fields = reversed(one.dtype.names)
            self._todo += [((place, f"[{name!r}]"), one[name], other[name]) for name in fields]
        elif one.dtype.hasobject:
            self._todo += reversed(
                [((place, _index(spot)), one[spot], other[spot]) for spot in np.ndindex(one.shape)]
            )
        elif one.dtype.kind in _NUMBERS:
            self._numbers(place, one, other)
        elif not self._others(place, one, other) and one.dtype != other.dtype:
            self._differ(place, described(one), described(other))

    def _numbers(self, place: _Place, one: Any, other: Any) -> None:
        """Numbers, or arrays of them of one shape; of two dtypes only where that is told already."""
        if type(one) is int and type(other) is int:
            self._ints(place, one, other)
            return
        one, other = _as_one_dtype(one, other)
        shape, ones, others = one.shape, one.reshape(-1), other.reshape(-1)
        for start in range(0, ones.size, _BLOCK):
            x, y = ones[start : start + _BLOCK], others[start : start + _BLOCK]
            at = np.flatnonzero(~_equal_numbers(x, y))
            if at.size:
                x, y = x[at], y[at]
                self._moved(place, shape, start + at, x, y, *_distances(x, y))

    def _ints(self, place: _Place, one: int, other: int) -> None:
        """Of any length, exactly."""
        if one == other:
            return
        distance = abs(one - other)
        # Of very long ints the quotient may be too small for a float, and yet they are not the same.
        relative = distance / max(abs(one), abs(other)) or math.ulp(0.0)
        try:
            absolute = float(distance)
        except OverflowError:
            absolute = math.inf
        self._moved(place, (), np.zeros(1, int), [one], [other], np.array([absolute]), np.array([relative]))

    def _others(self, place: _Place, one: NDArray[Any], other: NDArray[Any]) -> bool:
        """Elements that are no numbers, and must be equal; whether any is not."""
        shape, ones, others = one.shape, one.reshape(-1), other.reshape(-1)
        found = False
        for start in range(0, ones.size, _BLOCK):
            x, y = ones[start : start + _BLOCK], others[start : start + _BLOCK]
            at = np.flatnonzero(_unequal_others(x, y))
            if at.size:
                found = True
                spot = (place, _index(np.unravel_index(start + at[0], shape)))
                self._differ(spot, _shown(x[at[0]]), _shown(y[at[0]]), count=at.size)
        return found

    def _texts(self, place: _Place, one: str | bytes, other: str | bytes) -> None:
        if max(len(one), len(other)) <= _LONGEST_TEXT:
            plain = str.__repr__ if isinstance(one, str) else bytes.__repr__  # numpy's own overlook zeros too
            self._differ(place, plain(one), plain(other))
            return
        lengths = min(len(one), len(other))
        at = next((index for index in range(lengths) if one[index] != other[index]), lengths)
        start = max(0, at - 10)
        pieces = (f"...{text[start : start + 40]!r}..." for text in (one, other))
        self._differ((place, f"[{at}]"), *pieces)

    # --- what was found ---------------------------------------------------------------------------------

    def _differ(self, place: _Place, before: str, after: str, *, count: int = 1) -> None:
        found = self._different
        if not found.count:
            found.place, found.before, found.after = place, before, after
        found.count += count

    def _moved(
        self,
        place: _Place,
        shape: tuple[int, ...],
        at: NDArray[np.intp],
        one: Any,
        other: Any,
        absolute: NDArray[np.float64],
        relative: NDArray[np.float64],
    ) -> None:
        """Note numbers that moved: `at` their places in an array of `shape`, by count in C order."""
        fine = (relative <= self._rtol) | (absolute <= self._atol)
        for most, chosen in ((self._within, fine), (self._beyond, ~fine)):
            if not chosen.any():
                continue
            most.count += int(np.count_nonzero(chosen))
            most.absolute = max(most.absolute, float(absolute[chosen].max()))
            top = int(np.where(chosen, relative, -1.0).argmax())
            if relative[top] > most.relative:
                most.relative = float(relative[top])
                most.place = (place, _index(np.unravel_index(at[top], shape))) if shape else place
                most.before, most.after = _shown(one[top]), _shown(other[top])


# --- numbers ---------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    if isinstance(value, np.generic):
        return value.dtype.kind in _NUMBERS
    return type(value) in (int, float, complex)


def _as_array(values: Sequence[Any]) -> NDArray[Any] | None:
    """A list of nothing but floats, or ints that fit, as an array, which is compared much faster."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return np.array(values, np.float64)
    if kinds == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            return None
    return None


def _as_one_dtype(one: Any, other: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    one, other = _own_array(one), _own_array(other)
    if one.dtype == other.dtype:
        return one, other
    common = np.result_type(one.dtype, other.dtype)
    return one.astype(common), other.astype(common)


def _own_array(number: Any) -> NDArray[Any]:
    array = np.asarray(number)
    # An int beyond 64 bits beside a float: about as large will do, where the types differ anyway.
    return np.asarray(_float(number)) if array.dtype == object else array


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _equal_numbers(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    """Which are equal, a nan to a nan too; complex ones in both parts."""
    if x.dtype.kind in "iu":
        return np.asarray(x == y)
    if x.dtype.kind == "c":
        return _equal_numbers(x.real, y.real) & _equal_numbers(x.imag, y.imag)
    return np.asarray((x == y) | (np.isnan(x) & np.isnan(y)))


def _distances(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of numbers that differ, |x - y| and |x - y| / max(|x|, |y|)."""
    if x.dtype.kind in "iu":
        # As if without bound: the difference of two's complements is right even where it would not fit.
        high, low = np.maximum(x, y).astype(np.uint64), np.minimum(x, y).astype(np.uint64)
        absolute = (high - low).astype(np.float64)
        return absolute, absolute / np.maximum(np.abs(x.astype(np.float64)), np.abs(y.astype(np.float64)))
    wide = np.result_type(x.dtype, np.float64)
    x, y = x.astype(wide), y.astype(wide)
    with np.errstate(all="ignore"):
        absolute, relative = _ratio(x, y)
        finite = np.isfinite(x) & np.isfinite(y)
        huge = finite & ~(np.isfinite(absolute) & np.isfinite(relative))
        if huge.any():  # the difference of two finite numbers need not be finite
            parts = [np.abs(part[huge]) for number in (x, y) for part in (number.real, number.imag)]
            scale = np.maximum.reduce(parts)
            relative[huge] = _ratio(x[huge] / scale, y[huge] / scale)[1]
        absolute[~finite] = relative[~finite] = math.inf
        return absolute.astype(np.float64), relative.astype(np.float64)


def _ratio(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    absolute = np.abs(x - y)
    return absolute, absolute / np.maximum(np.abs(x), np.abs(y))


# --- everything else -------------------------------------------------------------------------------------


def _unequal_others(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    """Which elements of bools, texts, dates or raw bytes are not equal; NaT equals NaT."""
    if x.dtype.kind == "V":
        if not x.dtype.itemsize:
            return np.zeros(x.shape, bool)
        raw = (np.ascontiguousarray(part).view(np.uint8).reshape(part.size, -1) for part in (x, y))
        return np.asarray((next(raw) != next(raw)).any(axis=1))
    unequal = np.asarray(x != y)
    if x.dtype.kind in "mM":
        unequal &= ~(np.isnat(x) & np.isnat(y))
    return unequal


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two objects are equal by what their class says, or written as the same bytes.

    Some classes compare by identity, and some do not say it in one word, as a frame of pandas.
    """
    try:
        if one is other or bool(one == other):
            return True
    except Exception:  # noqa: BLE001, S110 - a class of the user's may raise anything: the bytes tell then
        pass
    try:
        return pickle.dumps(one) == pickle.dumps(other)
    except Exception:  # noqa: BLE001 - what cannot be pickled cannot be held against each other
        return False


# --- in words --------------------------------------------------------------------------------------------


def _index(spot: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, spot))}]" if len(spot) else ""


def _key(key: Any) -> str:
    """A dict's key, as it would be written in code."""
    if type(key) is tuple:
        return f"({', '.join(map(_key, key))}{',' if len(key) == 1 else ''})"
    if type(key) is int:
        return str(key) if key.bit_length() <= 64 else hex(key)  # Python refuses to write very long ones out
    return repr(key)


def _shown(element: Any) -> str:
    """An element of a list or array, in short."""
    if isinstance(element, np.generic) and element.dtype.kind in _NUMBERS + "bmM":
        return str(element)
    if isinstance(element, np.generic) and element.dtype.kind in _TEXTS:
        element = element.item()
    return summary(element)


def described(value: Any) -> str:
    """Type and shape of a value, and what it is where that is short."""
    if isinstance(value, np.ndarray):
        shape = "x".join(map(str, value.shape)) or "()"
        return (
            f"array of {reprlib.repr(value.dtype.descr) if value.dtype.names else value.dtype}, shape {shape}"
        )
    if value is None or isinstance(value, dict | list | tuple):
        return summary(value)
    if isinstance(value, np.generic):
        return f"np.{type(value).__name__} {_shown(value)}"
    return f"{type(value).__name__} {summary(value)}"
