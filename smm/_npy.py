"""One array as the bytes of an npy file, and back.

numpy's own reader allocates what a header claims, evaluates headers of any shape and copies the data; this
one checks every claim against the bytes that are there before it does anything, and gives views.
"""

from __future__ import annotations

import ast
import functools
import math
import pickle
import re
import reprlib
import struct
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from smm._refusals import Refused, refusal_of, ways_of_objects
from smm._tree import Damaged, duplicate
from smm._tree import Pickled as Pickled

Buffer: TypeAlias = Any
"""Anything with the buffer interface; best an `np.empty(size, np.uint8)` that a file was read into."""

MAX_HEADER = 1 << 20
"""Bytes; some 30,000 fields. Parsing takes a hundred times as much memory, so a lie must be bounded."""

_MAGIC = b"\x93NUMPY"
_ALIGN = 64
_SHORT = 500
_SHAPE_ROOM = 4096
_DTYPE_DEPTH = 32


class Writable(Protocol):
    """A binary file whose `write` takes everything it is given."""

    def write(self, data: Any, /) -> object: ...


# --- which arrays are kept -------------------------------------------------------------------------------


def plain_array(array: NDArray[Any], *, allow_pickle: bool = False) -> NDArray[Any]:
    """The array that reading gives back after writing: equal, with the same dtype, shape and byte order.

    It is in C order, or in Fortran order if `array` is only that; a memmap becomes an ndarray. What numpy
    takes for the same dtype is one: an alignment flag, or `longlong` for `int64`, is not kept.

    Returns:
        `array` itself or a view of it where that is enough; a copy of other memory layouts.

    Raises:
        Refused: other subclasses, and dtypes that an npy header cannot spell: StringDType, user-defined
            ones, metadata, np.record, overlapping fields; Python objects unless `allow_pickle`.
    """
    if type(array) is not np.ndarray:
        if type(array) is not np.memmap:
            raise refusal_of(array)
        array = array.view(np.ndarray)
    if array.dtype.kind == "T":
        ways = ("np.array(x.tolist())", "x.tolist()")
        raise Refused(found="a StringDType array", ways=ways, value=array)
    dtype = _plain_dtype(array.dtype)
    if dtype.hasobject:
        if not allow_pickle:
            raise _refused_objects(array)
        return array
    if not array.flags.forc:
        array = duplicate(array)
    return array if dtype is array.dtype else array.view(dtype)


def own_array(array: NDArray[Any], *, allow_pickle: bool = False, given_away: bool = False) -> NDArray[Any]:
    """`plain_array` as a writable copy that shares nothing with `array`; objects are copied by pickling.

    Args:
        array: what is wanted.
        allow_pickle: whether it may hold objects.
        given_away: nobody else holds `array`, and the caller will not: instead of a copy, the array itself
            comes back if its memory is its own. It is read-only if it was so before.

    Raises:
        Refused: as `plain_array` does, and for objects that cannot be pickled.
    """
    plain = plain_array(array, allow_pickle=allow_pickle)
    if plain.dtype.hasobject:
        copied: NDArray[Any] = pickle.loads(_pickled(plain))  # noqa: S301 - made in this line
        return copied
    if not array.flags.forc:
        return plain  # a copy
    return plain if given_away and array.flags.owndata else duplicate(plain)


def _plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that reading makes of a header with this one; the same object for most simple ones."""
    simple = dtype.names is None
    for part, depth in _dtype_parts(dtype):
        if depth > _DTYPE_DEPTH:
            raise Refused(found=f"a dtype nested more than {_DTYPE_DEPTH} deep", way_out=_FIELDS_APART)
        if part.metadata:
            way_out = "save x.astype(np.lib.format.drop_metadata(x.dtype))"
            raise Refused(found="a dtype with metadata", way_out=way_out)
        if part.type is np.record:
            raise Refused(found="an array of np.record", way_out="save x.astype(x.dtype.descr)")
    try:
        spelled = _dtype_of(dtype.str) if simple else _spelled_structure(dtype)
    except Damaged:
        spelled = None
    if spelled is None or spelled != dtype:
        way_out = "save x.astype(float), or another dtype of numpy's own" if simple else _FIELDS_APART
        raise Refused(found=f"an array of dtype {reprlib.repr(dtype)}", way_out=way_out)
    return dtype if simple and spelled.char == dtype.char else spelled


def _dtype_parts(dtype: np.dtype[Any]) -> Iterator[tuple[np.dtype[Any], int]]:
    """The dtype and all it is made of, each with its depth."""
    parts = [(dtype, 0)]
    while parts:
        part, depth = parts.pop()
        yield part, depth
        if depth > _DTYPE_DEPTH:
            continue
        if part.subdtype is not None:
            parts.append((part.subdtype[0], depth + 1))
        if part.names is not None and part.fields is not None:
            parts += [(part.fields[name][0], depth + 1) for name in part.names]


_FIELDS_APART = "save {name: x[name] for name in x.dtype.names}"


def _spelled_structure(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A structured dtype, written into a header and read again."""
    try:
        text = _header_text(np.ndarray((0,), dtype))
    except ValueError:  # numpy has no description of overlapping fields
        raise Refused(found="a dtype with overlapping or unordered fields", way_out=_FIELDS_APART) from None
    if len(text.encode()) > MAX_HEADER - _SHAPE_ROOM:
        raise Refused(found="a dtype whose description takes over 1 MiB", way_out=_FIELDS_APART)
    return _parsed(text)[2]


def _refused_objects(array: NDArray[Any]) -> Refused:
    found = "an array of Python objects" if array.dtype.names is None else "an array with Python objects"
    otherwise = ", or give the storage allow_pickle=True"
    return Refused(found=found, ways=ways_of_objects(array), value=array, otherwise=otherwise)


# --- writing ---------------------------------------------------------------------------------------------


def write_npy(file: Writable, array: NDArray[Any], *, allow_pickle: bool = False) -> None:
    """Write an array as a whole npy file, which numpy.load reads too. Memory: none beyond the array's.

    Raises:
        Refused: as `plain_array` does, before anything is written.
    """
    for part in npy_parts(plain_array(array, allow_pickle=allow_pickle)):
        file.write(part)


def npy_parts(plain: NDArray[Any]) -> tuple[bytes, Buffer]:
    """Header and data of an npy file, the data as a view on the array's memory (its pickle, for objects).

    Args:
        plain: what `plain_array` returned.

    Raises:
        Refused: objects that cannot be pickled.
    """
    header = _header(plain)
    if plain.dtype.hasobject:
        return header, _pickled(plain)
    if plain.nbytes == 0:
        return header, b""
    in_order = plain if plain.flags.c_contiguous else plain.T
    # Through uint8, because datetime64 and some others have no buffer interface.
    return header, in_order.reshape(-1).view(np.uint8).data


def _header(array: NDArray[Any]) -> bytes:
    """Magic, version, length and text; a multiple of 64 bytes, so that the data of a mapped file is aligned.

    Written here because numpy warns about versions 2 and 3, which readers of this decade all know.
    """
    text = _header_text(array)
    encoding = "latin-1" if text.isascii() or max(text) <= "\xff" else "utf-8"
    raw = text.encode(encoding)
    version = 3 if encoding == "utf-8" else 1 if len(raw) + _ALIGN < 1 << 16 else 2
    length_size = 2 if version == 1 else 4
    start = len(_MAGIC) + 2 + length_size
    padding = -(start + len(raw) + 1) % _ALIGN
    length = struct.pack("<H" if version == 1 else "<I", len(raw) + padding + 1)
    return _MAGIC + bytes([version, 0]) + length + raw + b" " * padding + b"\n"


def _header_text(array: NDArray[Any]) -> str:
    descr = array.dtype.str if array.dtype.names is None else npy_format.dtype_to_descr(array.dtype)
    fortran_order = not array.flags.c_contiguous and array.flags.f_contiguous
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran_order}, 'shape': {array.shape!r}, }}"


def _pickled(array: NDArray[Any]) -> bytes:
    try:
        return pickle.dumps(array, protocol=4)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # pickling runs the objects' own code
        raise Refused(
            found=f"an array with objects that cannot be pickled ({type(error).__name__}: {error})",
            ways=ways_of_objects(array),
            value=array,
        ) from error


# --- reading ---------------------------------------------------------------------------------------------


def read_npy(buffer: Buffer, *, allow_pickle: bool = False) -> NDArray[Any]:
    """The array in the bytes of a whole npy file.

    Returns:
        A view on `buffer`, writable if it is; a copy where the data is not aligned in memory.

    Raises:
        Damaged: the bytes are no npy file, or not as many as its header says.
        Pickled: objects, and not `allow_pickle`. What unpickling raises passes, unless it shows damage.
    """
    data = memoryview(buffer).cast("B")
    shape, fortran_order, dtype, start = _read_header(data)
    if dtype.hasobject:
        if not allow_pickle:
            raise Pickled
        return _unpickled(data[start:], dtype, shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) - start != expected:
        raise Damaged(f"{len(data) - start} bytes of data, where the header says {expected}")
    order: Any = "F" if fortran_order else "C"
    try:
        # An empty array has no place in the buffer.
        array = np.ndarray(shape, dtype, data if expected else None, start if expected else 0, order=order)
    except (ValueError, OverflowError) as error:
        raise Damaged(f"an impossible shape in the header: {error}") from None
    return array if array.flags.aligned else duplicate(array)


def npy_size(head: Buffer) -> int | None:
    """The bytes of the npy file that begins with `head`; None if it holds objects, whose size is not noted.

    Args:
        head: the first `MAX_HEADER` bytes or more, or all of them.

    Raises:
        Damaged: no npy header.
    """
    shape, _, dtype, start = _read_header(memoryview(head).cast("B"))
    return None if dtype.hasobject else start + math.prod(shape) * dtype.itemsize


def is_npy(data: Buffer) -> bool:
    """Whether the bytes begin as an npy file does."""
    return bytes(data[: len(_MAGIC)]) == _MAGIC


_Header: TypeAlias = tuple[tuple[int, ...], bool, np.dtype[Any]]

_SIMPLE_HEADER = re.compile(
    r"\{'descr': '([^']{1,60})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,20}, )*(?:\d{1,20},?)?)\), \} *\n?"
)
# Exactly what numpy's headers are made of: no operators, names or prefixes that a parser could choke on.
_PIECE = (
    r"""[\s{}()\[\],:]|True|False|None|\d{1,20}L?"""
    r"""|'(?:[^'\\\n\0]|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4}))*+'"""
    r"""|"(?:[^"\\\n\0]|\\(?:[\\'"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4}))*+\""""
)
_TOKENS = re.compile(f"(?:{_PIECE})*+")
_TEXT_OR_BRACKET = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[\[({]|[\])}]|\d+L""")
_TYPE = re.compile(r"[<>|=]?(?:[?biufcmMOSUV]\d{0,18})(?:\[[0-9a-zA-Zμ/]{1,40}\])?")


def _read_header(data: memoryview) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, dtype, and where the data starts."""
    if len(data) < len(_MAGIC) + 4 or not is_npy(data):
        raise Damaged("empty" if len(data) == 0 else "not an npy file")
    version = (data[6], data[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise Damaged(f"npy format {version[0]}.{version[1]}, which does not exist")
    start = 10 if version == (1, 0) else 12
    length = int.from_bytes(data[8:start], "little")
    if length > MAX_HEADER:
        raise Damaged(f"a header of {length} bytes, over 1 MiB")
    if len(data) < start + length:
        raise Damaged("cut short within the header")
    try:
        text = str(data[start : start + length], "utf-8" if version == (3, 0) else "latin-1")
    except UnicodeDecodeError:
        raise Damaged("a header that is no text") from None
    return *_parsed(text), start + length


# The same few headers come again and again; parsing one takes longer than reading 8 KB.
@functools.lru_cache(maxsize=256)
def _simply_parsed(text: str) -> _Header | None:
    """The same, of what nearly every header looks like; None for others."""
    simple = _SIMPLE_HEADER.fullmatch(text)
    if not simple:
        return None
    type_text, order, numbers = simple.groups()
    return tuple(map(int, re.findall(r"\d+", numbers))), order == "True", _dtype_of(type_text)


def _parsed(text: str) -> _Header:
    """The three values of a header's text."""
    parsed = _simply_parsed(text) if len(text) <= _SHORT else None
    if parsed is not None:
        return parsed
    header = _literal(text)
    if type(header) is not dict or header.keys() != {"descr", "fortran_order", "shape"}:
        raise Damaged("a header without exactly descr, fortran_order and shape")
    shape, order = header["shape"], header["fortran_order"]
    if type(shape) is not tuple or not all(type(length) is int for length in shape):
        raise Damaged(f"a header with the shape {reprlib.repr(shape)}")
    if type(order) is not bool:
        raise Damaged(f"a header with fortran_order {reprlib.repr(order)}")
    return shape, order, _dtype_of(header["descr"])


def _literal(text: str) -> Any:
    """`ast.literal_eval`, after a look that leaves nothing in the text that could exhaust or crash it."""
    if not _TOKENS.fullmatch(text):
        raise Damaged("a header that does not parse")
    depth = 0

    def watch(found: re.Match[str]) -> str:
        nonlocal depth
        piece = found[0]
        depth += (piece in "[({") - (piece in "])}")
        if depth > 3 * _DTYPE_DEPTH:
            raise Damaged("a header nested too deep")
        return piece.removesuffix("L") if piece[0].isdigit() else piece  # 3L is how Python 2 wrote it

    text = _TEXT_OR_BRACKET.sub(watch, text).strip()
    for _ in range(_ATTEMPTS):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError):
            raise Damaged("a header that does not parse") from None
        except SystemError:  # Python 3.11 fails where another thread parses something, too (gh-106905)
            continue
    return ast.literal_eval(text)


_ATTEMPTS = 20
"""How often a header is parsed before an error of Python's own counts."""


def _dtype_of(descr: Any) -> np.dtype[Any]:
    """The dtype of a header's `descr`."""
    parts = [descr]
    while parts:
        part = parts.pop()
        if type(part) is str:
            # np.dtype would also take a whole language of comma-separated formats.
            if not _TYPE.fullmatch(part):
                raise Damaged(f"a header with the dtype {reprlib.repr(part)}")
        elif type(part) is list:
            if not all(type(field) is tuple and len(field) in (2, 3) for field in part):
                raise Damaged("a header with a field that is none")
            parts += [field[1] for field in part]
        elif type(part) is tuple and len(part) == 2:
            parts.append(part[0])
        else:
            raise Damaged("a header without a dtype")
    try:
        return npy_format.descr_to_dtype(descr)
    except (ValueError, TypeError, OverflowError, KeyError, IndexError, AttributeError) as error:
        raise Damaged(f"a header with an impossible dtype: {error}") from None


def _unpickled(data: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        array = pickle.loads(data)  # noqa: S301 - the caller allowed it
    except (pickle.UnpicklingError, EOFError) as error:
        raise Damaged(f"pickled objects that do not read: {error}") from None
    if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
        raise Damaged("pickled objects that are not the array of the header")
    return array
