"""Nested data as JSON text, and back: what JSON keeps exactly, and nothing else."""

from __future__ import annotations

import json
import math
import re
import reprlib
from typing import TYPE_CHECKING, Any

from smm._pieces import nesting
from smm._refusals import Refused, refusal_of, ways_of_objects
from smm._tree import Damaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    from smm import _numpy as np

MAX_DEPTH = 100
"""How deep lists and dicts may be nested; Python's own JSON reader recurses."""

MAX_DIGITS = 4300
"""Of an int; Python reads no longer ones from text."""

_TOO_LONG = 10**MAX_DIGITS
_EXACT = frozenset({type(None), bool, float})
_DECODER = json.JSONDecoder()
_CONTAINERS = frozenset({list, tuple, dict})
_LONG_PLACE = 80
_OTHERS = "use NpyStorageInterface or NpzStorageInterface"
# JSON writes each surrogate by itself, and reads a pair of them as one character.
_SURROGATE_PAIR = "[\ud800-\udbff][\udc00-\udfff]"


def canonical_json(data: Any) -> Any:
    """What reading gives after writing `data`: arrays and tuples as lists, numpy scalars as Python's.

    Shares nothing mutable with `data`.

    Raises:
        Refused: with the place, what JSON cannot keep.
    """
    if type(data) not in _CONTAINERS:
        return _leaf(data, 0)
    try:
        return _container(data, [])
    except Refused as refused:
        if len(refused.place) <= _LONG_PLACE:
            raise
        half = _LONG_PLACE // 2
        place = f"{refused.place[:half]}...{refused.place[-half:]}"
        raise refused.moved(place) from None


def write_json(canonical: Any) -> bytes:
    """The text, ASCII, of what `canonical_json` returned."""
    if type(canonical) is float and math.isfinite(canonical):
        return repr(canonical).encode()  # as `dumps` does, in a tenth of the time
    return json.dumps(canonical).encode("ascii")


def read_json(buffer: Any) -> Any:
    """The data in the bytes of a JSON file.

    Raises:
        Damaged: they are no JSON, or nested far deeper than `write_json` would.
    """
    content = bytes(buffer)
    if not content:
        raise Damaged("empty")
    try:
        text = content.decode("utf-8")
        if not text[:1].isspace():
            value, end = _DECODER.raw_decode(text)  # half of what `loads` takes for a number
            if end == len(text):
                return value
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise Damaged(f"no UTF-8 text at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Damaged(f"no JSON: {error}") from None
    except RecursionError:
        if nesting(text) > MAX_DEPTH:
            raise Damaged(f"nested more than {MAX_DEPTH} deep") from None
        raise


def _container(value: Any, around: list[int]) -> Any:
    """A list, tuple or dict; `around` holds the ids of those it is in."""
    if id(value) in around:
        raise Refused(
            found=f"a {type(value).__name__} that contains itself",
            way_out="save a copy without the inner reference",
        )
    if len(around) == MAX_DEPTH:
        raise _too_deep()
    around.append(id(value))
    keyed = type(value) is dict
    made: list[Any] = []
    key: Any = None
    try:
        for key, item in value.items() if keyed else enumerate(value):
            if keyed:
                _key(key)
            kind = type(item)
            if kind in _EXACT:
                made.append(item)
            elif kind in _CONTAINERS:
                made.append(_container(item, around))
            else:
                made.append(_leaf(item, len(around)))
    except Refused as refused:
        raise refused.at(f"[{reprlib.repr(key)}]") from None
    around.pop()
    return dict(zip(value, made, strict=True)) if keyed else made


def _leaf(value: Any, depth: int) -> Any:
    """What is no container, `depth` containers deep."""
    kind = type(value)
    if kind in _EXACT:
        return value
    if kind is int:
        return _int(value)
    if kind is str:
        return _text(value)
    if isinstance(value, np.ndarray):
        return _array(value, depth)
    if isinstance(value, np.generic):
        return _scalar(value)
    if kind is bytes:
        raise Refused(found="bytes", way_out="save x.hex(), or use NpzStorageInterface")
    if kind is complex:
        raise Refused(found="complex", way_out="save [x.real, x.imag], or use NpzStorageInterface")
    raise refusal_of(value)


def _key(key: Any) -> None:
    if type(key) is not str:
        raise Refused(
            found=f"a dict key of type {type(key).__name__}",
            way_out="use str(key) as the key, or NpzStorageInterface, which keeps other keys too",
        )
    _text(key)


def _int(value: int) -> int:
    if not -_TOO_LONG < value < _TOO_LONG:
        raise Refused(
            found=f"an int of more than {MAX_DIGITS} digits",
            way_out="save hex(x), or use NpzStorageInterface",
        )
    return value


def _text(value: str) -> str:
    if not value.isascii() and re.search(_SURROGATE_PAIR, value):
        raise Refused(
            found="a str with two surrogates that JSON reads as one character",
            way_out='save x.encode("utf-16", "surrogatepass").decode("utf-16"), or use NpzStorageInterface',
        )
    return value


def _array(array: NDArray[Any], depth: int) -> Any:
    from smm._npy import plain_array

    plain = plain_array(array, allow_pickle=True)
    if plain.dtype.kind not in "biufU" or plain.dtype.char == "g":
        if plain.dtype.hasobject:
            raise Refused(found="an array of Python objects", ways=ways_of_objects(plain), value=plain)
        raise Refused(found=f"an array of {plain.dtype}", way_out=_way_out_of(plain.dtype))
    if depth + plain.ndim > MAX_DEPTH:
        raise _too_deep()
    try:
        made = plain.tolist()
    except ValueError as error:
        raise Refused(found=f"an array of text that is no Unicode ({error})", way_out=_OTHERS) from None
    if plain.dtype.kind == "U":
        for text in plain.flat:
            _text(text)
    return made


def _scalar(value: np.generic) -> Any:
    if type(value) is np.str_:
        return _text("".join(value))  # str(value) would lose zeros at the end
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.dtype.char == "g":
        raise Refused(found=f"np.{type(value).__name__}", way_out=_way_out_of(array.dtype))
    return value.item()


def _way_out_of(dtype: np.dtype[Any]) -> str:
    return {
        "M": "save x.astype(str), or " + _OTHERS,
        "S": "save x.astype(str), or " + _OTHERS,
        "m": "save x.astype(int), or " + _OTHERS,
        "f": "save x.astype(float), or " + _OTHERS,
        "c": "save {'real': x.real, 'imag': x.imag}, or " + _OTHERS,
    }.get(dtype.kind, _OTHERS)


def _too_deep() -> Refused:
    return Refused(found=f"nesting over {MAX_DEPTH} deep", way_out="flatten it, or use NpzStorageInterface")
