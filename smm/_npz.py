"""Nested data as the bytes of an npz file, and back.

The file is a plain npz to numpy.load: one array is `arr_0`, a list of two or more `arr_0`, `arr_1`, ..., a
dict of arrays its keys. Where the arrays alone would not come back as the same data, one more member,
`smm.json`, says how to put it together:

    {"smm_npz": 1, "program": ["mean", 1.5, "maps", ["array", "maps"], ["dict", 2]]}

The program is followed from left to right: a plain value stands for itself, `["dict", 2]` makes a dict of
the last two keys and values, `["array", "maps"]` is the array of that name, and `_MAKERS` has the rest.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smm._blake import blake2b
from smm._npy import (
    MAX_HEADER,
    Buffer,
    Writable,
    is_npy,
    npy_parts,
    npy_size,
    own_array,
    plain_array,
    read_npy,
)
from smm._refusals import Refused as Refused
from smm._refusals import refusal_of
from smm._tree import PYTHON_ATOMS, Build, flatten, unflatten
from smm._tree import Damaged as Damaged
from smm._tree import Newer as Newer
from smm._tree import Pickled as Pickled
from smm._zip import Member, ZipWriter, members, members_as_written

_LAYOUT = 1
_PROGRAM = "smm.json"

_NUMPY_SCALARS = frozenset(kind for kind in np.sctypeDict.values() if kind is not np.object_)
_SURROGATE = re.compile("[\ud800-\udfff]")
# What would not name a member well: numpy gives some of it a meaning, other tools would unpack it elsewhere.
_ODD_KEY = re.compile(r"[/\\:]|^[. ]|[. ]$|\.npy$|^arr_\d+$|^file$|^smm\.json$")
_SCALAR_TYPE = re.compile(r"[<>|][?bBhHiIlLqQuefdgcFDGmM]\d{0,2}(\[[0-9a-zA-Zμ]{1,40}\])?")


# --- data to file ----------------------------------------------------------------------------------------


def canonical_npz(data: Any, *, allow_pickle: bool = False, given_away: bool = False) -> Any:
    """What `read_npz` gives after `write_npz` of `data`, sharing nothing that can change with `data`.

    Args:
        data: what is wanted.
        allow_pickle: whether it may hold objects.
        given_away: as of `own_array`, if `data` is an array; those in containers are copied.

    Raises:
        Refused: what cannot be kept, with its place.
    """

    def leaf(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return own_array(value, allow_pickle=allow_pickle, given_away=given_away and value is data)
        if type(value) is np.void:
            return own_array(np.asarray(value), allow_pickle=allow_pickle)[()]
        if type(value) not in PYTHON_ATOMS and type(value) not in _NUMPY_SCALARS:
            raise refusal_of(value)
        return value

    return unflatten(flatten(data, leaf))


def write_npz(file: Writable, data: Any, *, compress: bool = False, allow_pickle: bool = False) -> None:
    """Write data as a whole npz file. Memory: nothing beyond the arrays', unless `compress`.

    Raises:
        Refused: what cannot be kept, with its place; before anything is written.
    """
    packing = _Packing(allow_pickle=allow_pickle)
    program = packing.program(data)
    parts = {name: npy_parts(array) for name, array in packing.arrays.items()}
    archive = ZipWriter(file, compress=compress)
    for name, (header, content) in parts.items():
        archive.add(f"{name}.npy", header, content)
    if program != _assumed_program(list(parts)):
        told = json.dumps({"smm_npz": _LAYOUT, "program": program}, separators=(",", ":"))
        archive.add(_PROGRAM, told.encode())
    archive.close()


def same_npz(one: Any, other: Any) -> bool:
    """Return whether two values would be written as the very same bytes; False if one cannot be kept."""
    try:
        return _digest(one) == _digest(other)
    except Refused:
        return False


def _digest(data: Any) -> bytes:
    sums = _Sums()
    write_npz(sums, data)
    return sums.hash.digest()


class _Sums:
    """A file that keeps only the digest of what is written to it."""

    def __init__(self) -> None:
        self.hash = blake2b(digest_size=32)

    def write(self, data: Any) -> None:
        self.hash.update(data)


class _Stored(NamedTuple):
    """In the place of an array that has been taken out."""

    name: str


class _Packing:
    """Takes data apart: into `arrays`, by the names they are stored under, and a program."""

    def __init__(self, *, allow_pickle: bool) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self._allow_pickle = allow_pickle
        self._names = (f"arr_{number}" for number in itertools.count())

    def program(self, data: Any) -> list[Any]:
        """Its steps, all of them JSON. Call once."""
        if type(data) is dict and any(map(_is_named_array, data.items())):
            data = {
                key: self._stored_field(key, value) if _is_named_array((key, value)) else value
                for key, value in data.items()
            }
        elif _numpy_keeps(data):
            # So that numpy.load has something to show for a number or a text.
            self.arrays[next(self._names)] = np.asarray(data)
            return [["scalar" if isinstance(data, np.generic) else "item", "arr_0"]]
        return flatten(data, self._step)

    def _step(self, value: Any) -> Any:
        kind = type(value)
        if kind in _STEPS:
            return _STEPS[kind](value)
        if kind is _Stored:
            return ["array", value.name]
        if isinstance(value, np.ndarray):
            return ["array", self._store(next(self._names), value)]
        if kind is np.void:
            return ["scalar", self._store(next(self._names), np.asarray(value))]
        if kind in _NUMPY_SCALARS:
            return _numpy_step(value)
        raise refusal_of(value)

    def _stored_field(self, key: str, array: NDArray[Any]) -> _Stored:
        try:
            return _Stored(self._store(key, array))
        except Refused as refused:
            raise refused.at(f"[{key!r}]") from None

    def _store(self, name: str, array: NDArray[Any]) -> str:
        self.arrays[name] = plain_array(array, allow_pickle=self._allow_pickle)
        return name


def _is_named_array(item: tuple[Any, Any]) -> bool:
    """Whether a dict's item is an array that can be stored under its key."""
    key, value = item
    return (
        isinstance(value, np.ndarray)
        and type(key) is str
        and 0 < len(key) <= 100
        and key.isprintable()
        and not _ODD_KEY.search(key)
    )


def _numpy_keeps(value: Any) -> bool:
    """Whether a scalar comes back exactly from an array without dimensions."""
    kind = type(value)
    if kind is int:
        return bool(-(1 << 63) <= value < 1 << 63)
    if isinstance(value, (str, bytes)) and value:
        # numpy takes zeros at the end for padding
        return kind in (str, bytes, np.str_, np.bytes_) and value[-1] not in ("\0", 0)
    if kind in (bool, float, complex, str, bytes):
        return True
    return kind in _NUMPY_SCALARS and bool(np.dtype(value.dtype.str).type is kind)


# --- the program's steps ---------------------------------------------------------------------------------

# A plain value is its own step; what JSON does not keep exactly is a list of a kind and its arguments.


def _int_step(value: int) -> Any:
    return value if -(1 << 63) <= value < 1 << 63 else ["int", hex(value)]


def _float_step(value: float) -> Any:
    return value if math.isfinite(value) else ["float", value.hex()]


def _complex_step(value: complex) -> Any:
    return ["complex", value.real.hex(), value.imag.hex()]


def _str_step(value: str) -> Any:
    # JSON would read two surrogates side by side as one character.
    return value if value.isascii() or not _SURROGATE.search(value) else ["str", _text_to_base64(value)]


def _bytes_step(value: bytes) -> Any:
    return [type(value).__name__, base64.b64encode(value).decode()]


def _numpy_str_step(value: np.str_) -> Any:
    return ["str_", _text_to_base64(value)]


def _numpy_step(value: Any) -> Any:
    dtype = value.dtype
    # longlong and its like have the spelling of another type, but a character of their own.
    spelled = dtype.str if np.dtype(dtype.str).type is type(value) else dtype.str[0] + dtype.char
    return ["numpy", spelled, value.tobytes().hex()]


def _itself(value: Any) -> Any:
    return value


_STEPS: dict[type, Callable[[Any], Any]] = {
    type(None): _itself,
    bool: _itself,
    int: _int_step,
    float: _float_step,
    complex: _complex_step,
    str: _str_step,
    bytes: _bytes_step,
    np.str_: _numpy_str_step,
    np.bytes_: _bytes_step,
}


def _text_to_base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _text_from_base64(text: str) -> str:
    return base64.b64decode(text, validate=True).decode("utf-8", "surrogatepass")


def _numpy_from_hex(spelled: str, content: str) -> Any:
    if not _SCALAR_TYPE.fullmatch(spelled):
        raise ValueError(spelled)
    (value,) = np.frombuffer(bytes.fromhex(content), np.dtype(spelled))
    return value


_MAKERS: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda real, imag: complex(float.fromhex(real), float.fromhex(imag)),
    "str": _text_from_base64,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "str_": lambda text: np.str_(_text_from_base64(text)),
    "bytes_": lambda text: np.bytes_(base64.b64decode(text, validate=True)),
    "numpy": _numpy_from_hex,
}
_ARRAY_MAKERS: dict[str, Callable[[Any], Any]] = {
    "array": _itself,
    "scalar": lambda array: array[()],
    "item": lambda array: array.item(),
}


# --- file to data ----------------------------------------------------------------------------------------


def read_npz(buffer: Buffer, *, allow_pickle: bool = False, checked: bool = False) -> Any:
    """The data in the bytes of a whole npz file.

    A file without `smm.json` reads as the predecessor read it: `arr_0` alone is the value, with others it
    is a list in the order of their numbers, anything else a dict.

    Args:
        buffer: best an `np.empty(size, np.uint8)` that the file was read into.
        allow_pickle: read arrays of Python objects, which runs code that the file names.
        checked: the caller has compared a check sum of all bytes, so the members' own need no second pass.

    Returns:
        Data whose arrays are views on `buffer`, writable if it is, where they are stored uncompressed and
        aligned; smm's own files always align them.

    Raises:
        Damaged: the bytes are not what was written.
        Pickled: objects, and not `allow_pickle`.
        Newer: a later version of smm wrote it.
    """
    found = (members_as_written(buffer) if checked else None) or members(buffer)
    if len(found) == 1 and found[0].name == "arr_0.npy":  # what most metrics are: one array
        return _content(found[0], allow_pickle=allow_pickle, checked=checked)
    told = next((member for member in found if member.name == _PROGRAM), None)
    program = None if told is None else _told_program(told.data(checked=checked))
    arrays = {
        member.name.removesuffix(".npy"): _content(member, allow_pickle=allow_pickle, checked=checked)
        for member in found
        if member is not told
    }
    if program is None:
        program = _assumed_program(list(arrays))
    data = unflatten(_made(program, arrays))
    if arrays:
        raise Damaged(f"{_PROGRAM} has no place for {sorted(arrays)[0]!r}")
    return data


def _assumed_program(names: list[str]) -> list[Any]:
    """How arrays of these names are put together when no program is told."""
    if names == ["arr_0"]:
        return [["array", "arr_0"]]
    if "arr_0" in names:
        try:
            in_order = sorted(names, key=lambda name: int(name.split("_")[1]))
        except (IndexError, ValueError):
            pass  # other names among them: a dict that happens to have this key
        else:
            return [*(["array", name] for name in in_order), Build("list", len(names))]
    fields = ((_str_step(name), ["array", name]) for name in names)
    return [*itertools.chain.from_iterable(fields), Build("dict", len(names))]


def _told_program(content: memoryview) -> list[Any]:
    try:
        told = json.loads(bytes(content))
    except (ValueError, RecursionError):
        raise Damaged(f"{_PROGRAM} does not parse") from None
    layout = told.get("smm_npz") if isinstance(told, dict) else None
    if type(layout) is not int or layout < 1:
        raise Damaged(f"{_PROGRAM} is not smm's")
    if layout > _LAYOUT:
        raise Newer(found=f"npz layout {layout}", known=f"npz layout {_LAYOUT}")
    program = told.get("program")
    if type(program) is not list:
        raise Damaged(f"{_PROGRAM} has no program")
    return program


def _content(member: Member, *, allow_pickle: bool, checked: bool) -> Any:
    """A member's array; its bytes if it is none, as numpy.load has it."""
    try:
        if member.deflated and member.size > MAX_HEADER:
            # The array's header against the claimed size, before so much memory is filled.
            size = npy_size(member.head(2 * MAX_HEADER))
            if size is not None and size != member.size:
                raise Damaged(f"{member.size} bytes, where the header says {size}")
        data = member.data(checked=checked)
        if not member.name.endswith(".npy") and not is_npy(data):
            return bytes(data)
        return read_npy(data, allow_pickle=allow_pickle)
    except Damaged as damaged:
        raise Damaged(f"{member.name!r}: {damaged.reason}") from None


def _made(program: Sequence[Any], arrays: dict[str, Any]) -> Iterator[Any]:
    """The program with its steps carried out, as `unflatten` takes it; each array is taken once."""
    for step in program:
        try:
            yield step if type(step) in PYTHON_ATOMS else _made_step(step, arrays)
        except (KeyError, ValueError, TypeError, OverflowError, AttributeError):
            raise Damaged(f"{_PROGRAM} has the step {reprlib.repr(step)}") from None


def _made_step(step: Sequence[Any], arrays: dict[str, Any]) -> Any:
    kind, *arguments = step
    if kind in _MAKERS:
        return _MAKERS[kind](*arguments)
    (argument,) = arguments
    if kind in _ARRAY_MAKERS:
        return _ARRAY_MAKERS[kind](arrays.pop(argument))
    if kind not in ("list", "tuple", "dict") or type(argument) is not int or argument < 0:
        raise ValueError(kind)
    return Build(kind, argument)
