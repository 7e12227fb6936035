"""Params as values: which types may be one, in which form a function gets them, and their lasting encoding.

A param is first made canonical: a copy that its giver can no longer change, in Python's own types where
numpy's count as those. Its encoding, and the digest of that, are the same on every machine and for good.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
import math
import re
import reprlib
import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from smm._blake import blake2b

if TYPE_CHECKING:
    import decimal

    import numpy as np
else:
    from smm import _numpy as np

ATOMS = frozenset({types.NoneType, bool, int, float, str, bytes})
"""Types whose values are canonical as they are and hash by what they are (0.0, -0.0 and nan apart)."""

DEEPEST = 100
"""How many containers may lie within one another."""

BITS_IN_DECIMAL = 2000
"""Integers up to this size are written in decimal; Python may be told to refuse more than 640 digits."""


class Unsupported(Exception):  # noqa: N818 - never seen by a user: it becomes an UnsupportedParamError
    """A value that cannot be a param."""

    def __init__(self, found: str, place: str = "") -> None:
        super().__init__(found, place)
        self.found = found
        """What is there, with its article: `an object of class pandas.DataFrame`."""
        self.place = place
        """Where inside the value: `[0]['a']`, empty for the value itself."""


# --- canonical values -----------------------------------------------------------------------------------


def canonical(value: Any, above: tuple[int, ...] = ()) -> Any:
    """The value as a function gets it: a copy that shares nothing that can change with what was given.

    numpy's bool, integer, float (up to 64 bits), complex, str and bytes scalars become Python's. Arrays
    become read-only, C-ordered, packed and in native byte order, with every nan the same nan; a memmap is
    read. All else keeps its type. `canonical(canonical(x))` is like `canonical(x)`.

    Args:
        value: what a caller gave for an argument.
        above: ids of the containers that this value lies in.

    Raises:
        Unsupported: the value, or one inside it, is of a type without lasting identity, contains itself,
            or is nested too deep.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind in _CONTAINERS:
        if id(value) in above:
            raise Unsupported(f"a {kind.__name__} that contains itself")
        if len(above) == DEEPEST:
            raise Unsupported(f"nested more than {DEEPEST} deep")
        return _CONTAINERS[kind](value, (*above, id(value)))
    conversions = _conversions()
    if kind in conversions:
        return conversions[kind](value)
    if kind in _told_by_parts() or isinstance(value, enum.Enum):
        return value
    raise Unsupported(_described(value))


def fresh(value: Any) -> Any:
    """A canonical value for one call to change as it likes: containers built anew, arrays writable."""
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is np.ndarray:
        return value.copy()
    if kind in (list, tuple):
        return kind(map(fresh, value))
    if kind is dict:
        return {key: fresh(item) for key, item in value.items()}
    if kind is slice:
        return slice(fresh(value.start), fresh(value.stop), fresh(value.step))
    return set(value) if kind is set else value


def _items(values: Iterable[Any], above: tuple[int, ...]) -> list[Any]:
    done: list[Any] = []
    for value in values:
        try:
            done.append(canonical(value, above))
        except Unsupported as error:
            raise Unsupported(error.found, f"[{len(done)}]{error.place}") from None
    return done


def _members(values: Iterable[Any], above: tuple[int, ...]) -> list[Any]:
    """Of a set, or the keys of a dict: they have no place of their own to name."""
    try:
        return [canonical(value, above) for value in values]
    except Unsupported as error:
        raise Unsupported(f"a container with {error.found} among its keys or members") from None


def _dict(value: dict[Any, Any], above: tuple[int, ...]) -> dict[Any, Any]:
    done: dict[Any, Any] = {}
    for key, (given, item) in zip(_members(value, above), value.items(), strict=True):
        try:
            done[key] = canonical(item, above)
        except Unsupported as error:
            raise Unsupported(error.found, f"[{short(given)}]{error.place}") from None
    return done


def _slice(value: slice, above: tuple[int, ...]) -> slice:
    return slice(*_items((value.start, value.stop, value.step), above))


_CONTAINERS: dict[type, Callable[[Any, tuple[int, ...]], Any]] = {
    list: _items,
    tuple: lambda value, above: tuple(_items(value, above)),
    dict: _dict,
    set: lambda value, above: set(_members(value, above)),
    frozenset: lambda value, above: frozenset(_members(value, above)),
    slice: _slice,
}


def _array(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    copy = np.array(value, dtype=_plain_dtype(value.dtype), order="C", subok=False)
    with np.errstate(invalid="ignore"):  # a signalling nan says so when it is looked at
        _make_nans_one(copy)
    copy.setflags(write=False)
    return copy


def _plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in native byte order, without padding, titles and metadata."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_plain_dtype(base), shape))
    if dtype.names is not None:
        formats = [_plain_dtype(dtype[name]) for name in dtype.names]
        return np.dtype({"names": list(dtype.names), "formats": formats})
    if dtype.char not in "?bhilqpnBHILQPNefdgFDGSUVMm" or (dtype.kind == "V" and dtype.isbuiltin == 2):
        raise Unsupported(f"an array of dtype {dtype}")
    if dtype.itemsize > {"f": 8, "c": 16}.get(dtype.kind, dtype.itemsize):
        raise Unsupported(f"an array of {dtype}, whose bytes differ between machines (use float64)")
    return np.dtype(dtype.str).newbyteorder("=")


def _make_nans_one(array: np.ndarray[Any, Any]) -> None:
    """Which nan it is depends on the processor that made it: 0/0 gives -nan on some."""
    if array.dtype.names is not None:
        for name in array.dtype.names:
            _make_nans_one(array[name])
    elif array.dtype.kind == "c":
        _make_nans_one(array.real)
        _make_nans_one(array.imag)
    elif array.dtype.kind == "f":
        array[np.isnan(array)] = np.nan


def _with_lasting_zone(value: dt.datetime | dt.time) -> dt.datetime | dt.time:
    _zone(value)
    return value


# The tables below need a number of libraries, numpy among them, and most calls need none of the tables.


@functools.cache
def _conversions() -> dict[type, Callable[[Any], Any]]:
    """By type, what makes a value canonical."""
    return {
        dt.datetime: _with_lasting_zone,
        dt.time: _with_lasting_zone,
        np.ndarray: _array,
        np.memmap: _array,
        np.bool_: bool,
        np.str_: str.__str__,  # str() would drop NULs at the end
        np.bytes_: bytes.__bytes__,
        **{np.dtype(code).type: int for code in np.typecodes["AllInteger"]},
        **{np.dtype(code).type: float for code in "efd"},
        **{np.dtype(code).type: complex for code in "FD"},
    }


def _described(value: Any) -> str:
    """A refused value, for a message. Never its repr, which may be long, slow or fail."""
    kind = type(value)
    text = f"an object of class {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")
    known = (*ATOMS, *_CONTAINERS, *_conversions(), *_told_by_parts())
    over = next((other for other in kind.__mro__[1:] if other in known), None)
    return f"{text}, a subclass of {over.__name__}" if over else text


class _Short(reprlib.Repr):
    """One short line for any canonical value, whatever its size."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = 60
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = 10

    def repr_int(self, x: int, level: int) -> str:
        """Python may refuse to write a long one out."""
        bits = x.bit_length()
        return super().repr_int(x, level) if bits <= BITS_IN_DECIMAL else f"<int of {bits} bits>"

    def repr_ndarray(self, x: np.ndarray[Any, Any], _: int) -> str:
        """Its elements would take several lines."""
        return f"<array of {x.dtype}, shape {x.shape}>"


short = _Short().repr
"""A canonical value as a message shows it: `[1, 2]`, `<array of float64, shape (3,)>`."""


# --- encoding -------------------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    """The lasting encoding of a canonical value: different for different values, the same everywhere.

    Every value is `<tag><length>:<payload>`, where the tag is one letter, the length counts the payload's
    bytes in decimal, and the payload is

    | tag | type | payload |
    |---|---|---|
    | `n` | None | nothing |
    | `b` | bool | `1` or `0` |
    | `i` | int | `format(value, "x")` |
    | `f` | float | `value.hex()`; `nan` for any nan |
    | `s` | str | UTF-8, lone surrogates as they would be there |
    | `y` | bytes | themselves |
    | `l` `t` | list, tuple | the encodings of the items |
    | `d` | dict | for each item the encodings of key and value, joined; these sorted |
    | `S` `F` | set, frozenset | the encodings of the members, sorted |
    | `o` | all other types | the encoding of the type's name (a str), then those of its parts |

    The parts of the other types, in this order:

    - `complex`: real, imag (floats)
    - `date`: `isoformat()`
    - `datetime`, `time`: `isoformat()` without zone, fold (an int), zone: None, the key of a ZoneInfo, or
      for a fixed zone a list of its offset in microseconds and its name
    - `timedelta`: days, seconds, microseconds (ints)
    - `Decimal`: the scientific string, exponent by `E`
    - `Fraction`: numerator, denominator (ints)
    - `UUID`: 32 hexadecimal digits
    - `PosixPath`, `PurePosixPath`, `WindowsPath`, `PureWindowsPath`: the path as a str
    - `enum`: `module.qualname` of the class; the name, or if it has none the value
    - `range`, `slice`: start, stop, step
    - `datetime64`, `timedelta64`: the little-endian dtype (`<M8[ns]`), the count (an int)
    - `array`: the little-endian dtype, as `dtype.str` or for fields a list of lists of name, dtype and,
      for a field that is an array, its shape; the shape (a list of ints); the C-order bytes, packed
    """
    kind = type(value)
    if kind in _SCALARS:
        tag, payload = _SCALARS[kind]
        return _tagged(tag, payload(value))
    if kind in _SEQUENCES:
        return _tagged(_SEQUENCES[kind], b"".join(map(encode, value)))
    if kind in _UNORDERED:
        return _tagged(_UNORDERED[kind], b"".join(sorted(map(encode, value))))
    if kind is dict:
        return _tagged(b"d", b"".join(sorted(map(_encode_item, value.items()))))
    name, fields = parts(value)
    return _tagged(b"o", b"".join(map(encode, (name, *fields.values()))))


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits: blake2b with an eight-byte digest over `encode(value)`."""
    return blake2b(encode(value), digest_size=8).hexdigest()


def _encode_item(item: tuple[Any, Any]) -> bytes:
    key, value = item
    return encode(key) + encode(value)


def _tagged(tag: bytes, payload: bytes) -> bytes:
    return b"%s%d:%s" % (tag, len(payload), payload)


_SCALARS: dict[type, tuple[bytes, Callable[[Any], bytes]]] = {
    types.NoneType: (b"n", lambda _: b""),
    bool: (b"b", lambda value: b"1" if value else b"0"),
    int: (b"i", lambda value: b"%x" % value),
    float: (b"f", lambda value: value.hex().encode()),
    str: (b"s", lambda value: value.encode("utf-8", "surrogatepass")),
    bytes: (b"y", lambda value: value),
}
_SURROGATE = "[\ud800-\udfff]"
_SEQUENCES: dict[type, bytes] = {list: b"l", tuple: b"t"}
_UNORDERED: dict[type, bytes] = {set: b"S", frozenset: b"F"}


def json_form(value: Any) -> Any:
    """A canonical value as JSON can hold it; the texts of two are equal exactly if the encodings are.

    None, bool, int, finite float, str and lists are themselves. Anything else, also a very long int or a str
    with lone surrogates, is an object with its `type` and what else makes it: an array's are dtype, shape
    and the digest of its bytes.
    """
    kind = type(value)
    if kind is int and value.bit_length() > BITS_IN_DECIMAL:
        return {"type": "int", "hex": f"{value:x}"}
    if kind is float and not math.isfinite(value):
        return {"type": "float", "value": str(value)}
    # JSON takes two of them for the character they make.
    if kind is str and not value.isascii() and re.search(_SURROGATE, value):
        return {"type": "str", "hex": value.encode("utf-8", "surrogatepass").hex()}
    if kind in (types.NoneType, bool, int, float, str):
        return value
    if kind is list:
        return list(map(json_form, value))
    name, fields = _json_parts(value)
    return {"type": name, **fields}


def _json_parts(value: Any) -> tuple[str, dict[str, Any]]:
    kind = type(value)
    if kind is bytes:
        return "bytes", {"hex": value.hex()}
    if kind is tuple:
        return "tuple", {"items": list(map(json_form, value))}
    if kind in _UNORDERED:
        return kind.__name__, {"items": list(map(json_form, sorted(value, key=encode)))}
    if kind is dict:
        items = sorted(value.items(), key=_encode_item)
        return "dict", {"items": [[json_form(key), json_form(item)] for key, item in items]}
    name, fields = parts(value)
    if kind is np.ndarray:
        fields["digest"] = digest(fields.pop("data"))
    return name, {field: json_form(part) for field, part in fields.items()}


# --- types that are told by their parts ----------------------------------------------------------------


def parts(value: Any) -> tuple[str, dict[str, Any]]:
    """The type's name, and the named parts that make the value what it is, in the order of `encode`."""
    if isinstance(value, enum.Enum):
        kind = type(value)
        name: str | None = value.name  # None for a Flag without any of its bits
        member = value.value if name is None else name
        return "enum", {"class": f"{kind.__module__}.{kind.__qualname__}", "name": member}
    name, parts_of = _told_by_parts()[type(value)]
    return name, parts_of(value)


def _zone(value: dt.datetime | dt.time) -> Any:
    import zoneinfo

    zone = value.tzinfo
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is dt.timezone:
        return [zone.utcoffset(None) // dt.timedelta(microseconds=1), zone.tzname(None)]
    if zone is not None:
        its_class = f"{type(zone).__module__}.{type(zone).__qualname__}"
        raise Unsupported(
            f"a {type(value).__name__} whose zone, of class {its_class}, has no lasting name "
            "(use zoneinfo.ZoneInfo or datetime.timezone)"
        )
    return None


def _moment(value: dt.datetime | dt.time) -> dict[str, Any]:
    naive = value.replace(tzinfo=None, fold=0)
    return {"iso": naive.isoformat(), "fold": value.fold, "zone": _zone(value)}


def _decimal(value: decimal.Decimal) -> str:
    import decimal

    # str() asks the current context whether the E is a capital.
    return decimal.Context(capitals=1).to_sci_string(value)


def _count(value: np.datetime64 | np.timedelta64) -> dict[str, Any]:
    return {"dtype": dtype_form(value.dtype), "count": int(value.view(np.int64))}


def _array_parts(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return {"dtype": dtype_form(value.dtype), "shape": list(value.shape), "data": little.tobytes()}


def dtype_form(dtype: np.dtype[Any]) -> Any:
    """A plain dtype as `encode` has it: its little-endian `str`, or a list of its fields."""
    if dtype.names is None:
        return dtype.newbyteorder("<").str
    fields: list[Any] = []
    for name in dtype.names:
        if (nested := dtype[name].subdtype) is None:
            fields.append([name, dtype_form(dtype[name])])
        else:
            fields.append([name, dtype_form(nested[0]), list(nested[1])])
    return fields


@functools.cache
def _told_by_parts() -> dict[type, tuple[str, Callable[[Any], dict[str, Any]]]]:
    """By type, its name, and what takes a value apart."""
    import decimal
    import fractions
    import pathlib
    import uuid

    paths = (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
    return {
        complex: ("complex", lambda value: {"real": value.real, "imag": value.imag}),
        dt.date: ("date", lambda value: {"iso": value.isoformat()}),
        dt.datetime: ("datetime", _moment),
        dt.time: ("time", _moment),
        dt.timedelta: (
            "timedelta",
            lambda value: {"days": value.days, "seconds": value.seconds, "microseconds": value.microseconds},
        ),
        decimal.Decimal: ("Decimal", lambda value: {"value": _decimal(value)}),
        fractions.Fraction: (
            "Fraction",
            lambda value: {"numerator": int(value.numerator), "denominator": int(value.denominator)},
        ),
        uuid.UUID: ("UUID", lambda value: {"hex": value.hex}),
        **{kind: (kind.__name__, lambda value: {"path": str(value)}) for kind in paths},
        range: ("range", lambda value: {"start": value.start, "stop": value.stop, "step": value.step}),
        slice: ("slice", lambda value: {"start": value.start, "stop": value.stop, "step": value.step}),
        np.datetime64: ("datetime64", _count),
        np.timedelta64: ("timedelta64", _count),
        np.ndarray: ("array", _array_parts),
    }
