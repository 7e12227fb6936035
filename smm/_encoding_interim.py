"""Params as values of their own: canonical copies, a tagged byte encoding, and how a person reads them."""

from __future__ import annotations

import enum
import math
import reprlib
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

_DEEPEST = 100
"""Containers in containers, so that no recursion here can come near Python's limit."""


class NoIdentityError(TypeError):
    """A value without a lasting identity: where inside the param, and what it is."""

    def __init__(self, found: str, place: str = "") -> None:
        super().__init__(found, place)
        self.found = found
        self.place = place


def canonical(value: Any, depth: int = 0) -> Any:
    """The Python value that stands for a param: numpy scalars as Python's, containers and arrays copied.

    Raises:
        NoIdentityError: the value, or one inside it, is of a type that cannot be told apart for good.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind in _CONTAINERS:
        if depth == _DEEPEST:
            raise NoIdentityError(f"nested deeper than {_DEEPEST}, or contains itself")
        return _CONTAINERS[kind](value, depth + 1)
    if isinstance(value, enum.Enum | PurePath):
        return value
    if isinstance(value, np.generic):
        return _canonical_scalar(value)
    if kind is np.ndarray:
        return _canonical_array(value)
    if kind in _ENCODERS:
        return value
    raise NoIdentityError(f"of type {kind.__module__}.{kind.__qualname__}")


def is_shared(value: Any) -> bool:
    """Whether a canonical value can be given to many callers, since none can change it."""
    if type(value) is tuple:
        return all(is_shared(item) for item in value)
    return not isinstance(value, list | dict | set | np.ndarray)


def encode(value: Any) -> bytes:
    """The bytes that identify a canonical value: equal for equal params, different for any two others.

    Each value is one tag and what follows from it, so that no value is a prefix of another:

    - None `N`, True `T`, False `F`, int `i` hex `;`, float `f` `float.hex` `;` (every nan is `nan`), complex
      `c` with the two floats;
    - str `s` length `:` UTF-8 (lone surrogates passed), bytes `b` length `:` bytes;
    - tuple `(` items `)`, list `[` items `]`, set `{` sorted items `}`, frozenset `<` sorted items `>`, dict `d`
      pairs sorted by their key's bytes `e`;
    - anything else `x`, then the name of its type and its text, both as str: date, datetime and time in ISO
      8601 with fold and zone, timedelta as days, seconds, microseconds, Decimal and Fraction as `str`, UUID as hex,
      paths with their flavour, Enum members by module, class and name, range and slice as their three parts;
    - arrays `a`, then as str the dtype, as tuple the shape, as bytes the elements: little-endian, C order; fields
      one after the other.
    """
    kind = type(value)
    encoder = _ENCODERS.get(kind)
    if encoder is not None:
        return encoder(value)
    if isinstance(value, enum.Enum):
        name = value.name if value.name is not None else repr(value.value)
        return _other("Enum", f"{kind.__module__}.{kind.__qualname__}.{name}")
    flavour = "windows" if isinstance(value, PureWindowsPath) else "posix"
    return _other("path", f"{flavour} {value}")


def digest(encoded: bytes) -> str:
    """Sixteen hex digits: blake2b of 8 bytes."""
    return blake2b(encoded, digest_size=8).hexdigest()


def readable(value: Any) -> str:
    """A canonical value as a short text for people; different values may read the same."""
    match value:
        case np.ndarray():
            return f"{value.dtype}[{'x'.join(map(str, value.shape))}]"
        case str() | PurePath():
            return str(value)
        case enum.Enum():
            return f"{type(value).__name__}.{value.name}"
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | Fraction() | UUID() | timedelta():
            return str(value)
        case int() if abs(value) >= 10**100:
            return f"{value:#x}"
        case _:
            return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxother = _SHORT.maxstring = _SHORT.maxlong = 60


def to_json(value: Any) -> Any:
    """A canonical value as JSON; two values have one form only if they are one param.

    None, bool, int, finite float and str are themselves; all else is an object: its type, its text for people,
    and the digest that tells it apart.
    """
    kind = type(value)
    if value is None or kind in (bool, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is int and abs(value) < 10**1000:
        return value
    return {"type": kind.__name__, "text": readable(value), "digest": digest(encode(value))}


# --- canonical forms ------------------------------------------------------------------------------------


def _items(values: Iterable[Any], depth: int) -> list[Any]:
    found = []
    for index, item in enumerate(values):
        try:
            found.append(canonical(item, depth))
        except NoIdentityError as error:
            raise NoIdentityError(error.found, f"[{index}]{error.place}") from None
    return found


def _members(values: Iterable[Any], depth: int) -> list[Any]:
    try:
        return [canonical(item, depth) for item in values]
    except NoIdentityError as error:
        raise NoIdentityError(error.found, f"{{...}}{error.place}") from None


def _canonical_dict(value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    found = {}
    for key, item in value.items():
        try:
            found[canonical(key, depth)] = canonical(item, depth)
        except NoIdentityError as error:
            raise NoIdentityError(error.found, f"[{_SHORT.repr(key)}]{error.place}") from None
    return found


def _canonical_slice(value: slice, depth: int) -> slice:
    return slice(*_items((value.start, value.stop, value.step), depth))


_CONTAINERS: dict[type, Callable[[Any, int], Any]] = {
    tuple: lambda value, depth: tuple(_items(value, depth)),
    list: _items,
    set: lambda value, depth: set(_members(value, depth)),
    frozenset: lambda value, depth: frozenset(_members(value, depth)),
    dict: _canonical_dict,
    slice: _canonical_slice,
}


def _canonical_scalar(value: np.generic) -> Any:
    match value:
        case np.bool_() | np.str_() | np.bytes_():
            return value.item()
        case np.timedelta64():
            return value
        case np.integer():
            return value.item()
        case np.floating() | np.complexfloating() if not isinstance(value, np.longdouble | np.clongdouble):
            return value.item()
        case np.datetime64():
            return value
        case _:
            raise NoIdentityError(f"of type numpy.{type(value).__name__}")


def _canonical_array(value: NDArray[Any]) -> NDArray[Any]:
    if value.dtype.hasobject or value.dtype.kind not in "biufcSUmMV":
        raise NoIdentityError(f"an array of dtype {value.dtype}")
    for kind in _plain_dtypes(value.dtype):
        if kind.kind in "fc" and kind.itemsize not in (2, 4, 8, 16) or kind in (np.longdouble, np.clongdouble):
            raise NoIdentityError(f"an array of dtype {value.dtype}, whose bytes depend on the machine")
    return value.copy(order="C")


def _plain_dtypes(dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
    """The dtypes of all fields, at any depth."""
    if dtype.subdtype is not None:
        return _plain_dtypes(dtype.subdtype[0])
    if dtype.fields is None:
        return [dtype]
    return [plain for name in dtype.names or () for plain in _plain_dtypes(dtype.fields[name][0])]


# --- the encoding ---------------------------------------------------------------------------------------


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(data), data)


def _other(name: str, text: str) -> bytes:
    return b"x" + _text(name) + _text(text)


def _float(value: float) -> bytes:
    return b"f%b;" % value.hex().encode()


def _sequence(opening: bytes, closing: bytes) -> Callable[[Iterable[Any]], bytes]:
    return lambda value: opening + b"".join(map(encode, value)) + closing


def _collection(opening: bytes, closing: bytes) -> Callable[[Iterable[Any]], bytes]:
    return lambda value: opening + b"".join(sorted(map(encode, value))) + closing


def _dict(value: dict[Any, Any]) -> bytes:
    return b"d" + b"".join(sorted(encode(key) + encode(item) for key, item in value.items())) + b"e"


def _zoned(value: datetime | time) -> str:
    zone = value.tzinfo
    if zone is None:
        return f"{value.isoformat()} fold={value.fold}"
    if not isinstance(zone, timezone | ZoneInfo):
        raise NoIdentityError(f"a {type(value).__name__} with a tzinfo of class {type(zone).__qualname__}")
    return f"{value.isoformat()} fold={value.fold} {zone}"


def _array(value: NDArray[Any]) -> bytes:
    dtype = value.dtype.newbyteorder("<")
    head = b"a" + _text(str(dtype.descr if dtype.names else dtype.str)) + encode(tuple(value.shape))
    return head + encode(_elements(value, dtype))


def _elements(value: NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    """Little-endian, C order, one field after the other (between fields may lie bytes that mean nothing)."""
    if dtype.names:
        return b"".join(_elements(value[name], value[name].dtype.newbyteorder("<")) for name in dtype.names)
    plain = value.astype(dtype, order="C")
    if plain.dtype.kind in "fc":
        plain[np.isnan(plain)] = np.nan  # nan is one, whatever its bits
    return plain.tobytes()


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i%b;" % format(value, "x").encode(),
    float: _float,
    complex: lambda value: b"c" + _float(value.real) + _float(value.imag),
    str: _text,
    bytes: lambda value: b"b%d:%b" % (len(value), value),
    tuple: _sequence(b"(", b")"),
    list: _sequence(b"[", b"]"),
    set: _collection(b"{", b"}"),
    frozenset: _collection(b"<", b">"),
    dict: _dict,
    date: lambda value: _other("date", value.isoformat()),
    datetime: lambda value: _other("datetime", _zoned(value)),
    time: lambda value: _other("time", _zoned(value)),
    timedelta: lambda value: _other("timedelta", f"{value.days} {value.seconds} {value.microseconds}"),
    Decimal: lambda value: _other("Decimal", str(value)),
    Fraction: lambda value: _other("Fraction", str(value)),
    UUID: lambda value: _other("UUID", value.hex),
    range: lambda value: _other("range", f"{value.start} {value.stop} {value.step}"),
    slice: lambda value: b"x" + _text("slice") + encode((value.start, value.stop, value.step)),
    np.ndarray: _array,
    np.datetime64: lambda value: _other(value.dtype.newbyteorder("<").str, str(value.view("i8"))),
    np.timedelta64: lambda value: _other(value.dtype.newbyteorder("<").str, str(value.view("i8"))),
}
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
