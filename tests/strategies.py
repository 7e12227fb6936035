"""Hypothesis strategies of exactly the values each storage keeps, and of values it must refuse."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

# --- comparing -------------------------------------------------------------------------------------------


def identical(left: Any, right: Any) -> bool:
    """Whether two values are the same to the last bit that matters.

    Type, dtype, shape, byte order and memory order of arrays, dict order, nan, -0.0, NaT. Not the padding
    of structures, the alignment flag of dtypes, or which nan. Iterative, for values nested to any depth.
    """
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, np.ndarray):
            if not _same_array(one, other, pairs):
                return False
        elif isinstance(one, (list, tuple)):
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif isinstance(one, dict):
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
            pairs += zip(one.values(), other.values(), strict=True)
        elif not _same_scalar(one, other, pairs):
            return False
    return True


def _same_scalar(one: Any, other: Any, pairs: list[tuple[Any, Any]]) -> bool:
    if isinstance(one, (str, bytes)):
        return len(one) == len(other) and list(one) == list(other)  # numpy's == overlooks zeros at the end
    if isinstance(one, np.generic):
        return _same_array(np.asarray(one), np.asarray(other), pairs)
    if isinstance(one, complex):
        return _same_float(one.real, other.real) and _same_float(one.imag, other.imag)
    if isinstance(one, float):
        return _same_float(one, other)
    return bool(one == other)


def _same_float(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other and math.copysign(1, one) == math.copysign(1, other)


def _same_array(one: NDArray[Any], other: NDArray[Any], pairs: list[tuple[Any, Any]]) -> bool:
    if (one.dtype, one.dtype.str, one.shape) != (other.dtype, other.dtype.str, other.shape):
        return False
    if one.nbytes == 0:
        return True  # without bytes there is no memory order either
    if (one.flags.c_contiguous, one.flags.fnc) != (other.flags.c_contiguous, other.flags.fnc):
        return False
    if one.dtype.names is not None:
        pairs += [(np.array(one[name]), np.array(other[name])) for name in one.dtype.names]
        return True
    if one.dtype.kind == "O":
        pairs += zip(one.reshape(-1), other.reshape(-1), strict=True)
        return True
    if one.dtype.kind == "c":
        pairs += [(one.real.copy(), other.real.copy()), (one.imag.copy(), other.imag.copy())]
        return True
    if one.dtype.kind == "f":
        both_nan = np.isnan(one) & np.isnan(other)
        return bool(np.all(both_nan | ((one == other) & (np.signbit(one) == np.signbit(other)))))
    return one.tobytes() == other.tobytes()


# --- parts -----------------------------------------------------------------------------------------------


def text() -> st.SearchStrategy[str]:
    """Any str, with lone surrogates, zeros and controls."""
    odd = st.sampled_from(
        ["", "a\0", "\0", "\ud83d", "\ud83d\ude00", "ünïcode", "日本", "arr_0", "../x", "file"]
    )
    return odd | st.text(st.characters(), max_size=8)


def integers() -> st.SearchStrategy[int]:
    """Small ones, those around the widths of machines, and long ones that still print."""
    edges = [sign * (2**bits + by) for sign in (1, -1) for bits in (31, 63, 64) for by in (-1, 0, 1)]
    return st.integers() | st.sampled_from([*edges, 10**4000])


def floats() -> st.SearchStrategy[float]:
    """With nan, inf and -0.0."""
    return st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324])


def _simple_dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    return st.one_of(
        npst.scalar_dtypes(),
        st.sampled_from(
            [np.dtype(spelled) for spelled in ("q", "Q", "g", "G", "S3", "U2", ">U2", "V3", "M8", ">M8[25s]")]
        ),
    )


def structured_dtypes() -> st.SearchStrategy[np.dtype[Any]]:
    """Nested, packed and aligned, with titles, subarrays, padding, odd names and fields without bytes."""
    special = [
        np.dtype([("a", "u1"), ("b", "f8")], align=True),
        np.dtype([("x", np.dtype([("a", "u1"), ("b", "f8")], align=True)), ("y", "u1")]),
        np.dtype([(("a title", "a"), "u1"), ("b", ">f4", (2, 3))]),
        np.dtype({"names": ["a", "b"], "formats": ["u1", "u1"], "offsets": [2, 5], "itemsize": 9}),
        np.dtype([("längengrad", "f8"), ("日本", "i2"), ('it\'s "a" \\ name', "u1")]),
        np.dtype([("a", "S0"), ("b", "U0"), ("c", "V0")]),
        np.dtype([("t", "M8[ns]"), ("d", "m8[25s]"), ("q", "q")]),
        np.dtype([("a", [("b", [("c", "f4", (2,))], (1,))])]),
        np.dtype([]),
        np.dtype([("a", "f4", (0,))]),
    ]
    made = npst.nested_dtypes(subtype_strategy=npst.scalar_dtypes(), max_leaves=4, max_itemsize=60).filter(
        _has_no_inner_array
    )
    return st.sampled_from(special) | made


def _has_no_inner_array(dtype: np.dtype[Any]) -> bool:
    return dtype.subdtype is None  # an array would make dimensions of it


def arrays() -> st.SearchStrategy[NDArray[Any]]:
    """Every plain array: 0-d, empty, Fortran order, big-endian, not contiguous, without bytes."""
    shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    made = st.builds(
        _filled, _simple_dtypes() | structured_dtypes(), shapes, st.binary(min_size=1, max_size=24)
    )
    special = st.sampled_from(
        [
            np.ndarray((2, 3), "S0"),
            np.ndarray((2,), "V0"),
            np.ndarray((), "U0"),
            np.zeros((0, 7)),
            np.array(np.nan),
            np.broadcast_to(np.arange(3), (4, 3)),
            np.array([-0.0, np.nan, np.inf], dtype=np.longdouble),
        ]
    )
    return st.builds(_laid_out, made | special, st.sampled_from(["C", "F", "strided", "reversed"]))


def _filled(dtype: np.dtype[Any], shape: tuple[int, ...], pattern: bytes) -> NDArray[Any]:
    """An array of the pattern's bytes over and over, where they make values."""
    array: NDArray[Any] = np.ndarray(shape, dtype)
    parts: list[NDArray[Any]] = [array]
    while parts:
        part = parts.pop()
        if part.dtype.names is not None:
            parts += [part[name] for name in part.dtype.names]
            continue
        kind, size = part.dtype.kind, part.size * part.dtype.itemsize
        raw = np.frombuffer((pattern * (size // len(pattern) + 1))[:size], np.uint8)
        if size == 0:
            continue
        if kind == "b":
            raw = raw & np.uint8(1)
        if kind == "U":
            raw = (raw.view(np.uint32) & 0x3FF).astype(part.dtype.byteorder + "u4").view(np.uint8)
        if part.dtype.char in "gG":
            part[...] = np.resize(raw, part.shape)
        else:
            part[...] = raw.view(part.dtype).reshape(part.shape)
    return array


def _laid_out(array: NDArray[Any], layout: str) -> NDArray[Any]:
    if layout == "F":
        return array.T
    if layout == "strided":
        return array[..., ::2] if array.ndim else array
    if layout == "reversed":
        return array[::-1] if array.ndim else array
    return array


def times_without_unit() -> st.SearchStrategy[Any]:
    """Which are in stores of earlier days. Since numpy 2.5 only a view makes them without a warning."""
    nat = np.datetime64("NaT", "s").view("M8")
    return st.just(nat) | st.integers(-3, 3).map(lambda number: np.int64(number).view("m8"))


def numpy_scalars() -> st.SearchStrategy[Any]:
    """Of every kind, with void ones, longlong and zeros at the end."""
    special = [
        np.str_("a\0"),
        np.bytes_(b"a\0"),
        np.str_(""),
        np.longlong(-1),
        np.ulonglong(1),
        np.float16("nan"),
        np.longdouble("0.1"),
        np.clongdouble(complex(-0.0, math.nan)),
        np.datetime64("NaT", ("s", 25)),
        np.timedelta64(3, "D"),
        np.void(b""),
        np.void(b"\0a\0"),
        np.zeros((), [("a", "u1"), ("b", ">f8")])[()],
    ]
    from_arrays = npst.arrays(dtype=npst.scalar_dtypes(), shape=()).map(lambda array: array[()])
    return st.sampled_from(special) | times_without_unit() | from_arrays


def _python_scalars() -> st.SearchStrategy[Any]:
    complexes = st.builds(complex, floats(), floats())
    return st.one_of(st.none(), st.booleans(), integers(), floats(), complexes, text(), st.binary(max_size=8))


def keys() -> st.SearchStrategy[Any]:
    """What a dict key may be in an npz."""
    return text() | st.recursive(_python_scalars(), lambda inner: st.tuples(inner, inner), max_leaves=4)


# --- what each storage keeps -----------------------------------------------------------------------------


def npz_values() -> st.SearchStrategy[Any]:
    """Everything NpzStorageInterface keeps exactly, and layouts of arrays that it makes contiguous."""
    leaves = arrays() | numpy_scalars() | _python_scalars()
    flat = st.one_of(
        arrays(),
        st.lists(arrays(), max_size=12),
        st.dictionaries(text(), arrays(), max_size=4),
    )
    return flat | st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(keys(), inner, max_size=4),
        ),
        max_leaves=8,
    )


def npy_values() -> st.SearchStrategy[Any]:
    """What NpyStorageInterface keeps: arrays, and scalars and lists that become arrays without a change."""
    whole = st.integers(-(2**63), 2**63 - 1)
    letters = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=5)
    kinds: list[st.SearchStrategy[Any]] = [
        st.booleans(),
        whole,
        floats(),
        st.builds(complex, floats(), floats()),
        letters,
        st.binary(max_size=5).filter(lambda content: not content.endswith(b"\0")),
    ]
    of_one_kind = st.one_of(*(kind | st.lists(kind, max_size=5) | _tables(kind) for kind in kinds))
    return arrays() | of_one_kind


def _tables(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists of equally long lists."""
    return st.integers(0, 3).flatmap(
        lambda width: st.lists(st.lists(kind, min_size=width, max_size=width), max_size=3)
    )


def json_values() -> st.SearchStrategy[Any]:
    """What JsonStorageInterface gives back exactly as it was."""
    words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), floats(), words, st.just(10**4299))
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
        max_leaves=10,
    )


def json_changed_values() -> st.SearchStrategy[Any]:
    """What JsonStorageInterface keeps as something else: arrays, tuples and numpy scalars, nested."""
    numbers = st.one_of(
        npst.integer_dtypes(), npst.floating_dtypes(sizes=(16, 32, 64)), npst.boolean_dtypes()
    )
    made = npst.arrays(dtype=numbers, shape=npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    leaves = made | made.filter(lambda array: array.ndim == 0).map(lambda array: array[()]) | json_values()
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.just("k"), inner),
        ),
        max_leaves=6,
    )


# --- what they refuse ------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Words(str):
    """A str, and yet not."""


Point = collections.namedtuple("Point", "x y")


class Unknown:
    """Of a class that no storage has heard of."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        raise AssertionError("a storage must not run code of what it refuses")


def _cycles() -> list[Any]:
    of_lists: list[Any] = [1]
    of_lists.append(of_lists)
    of_dicts: dict[str, Any] = {}
    of_dicts["a"] = [(of_dicts,)]
    return [of_lists, of_dicts]


def _refused_everywhere() -> list[Any]:
    """Fresh each time, because some are used up by looking."""
    return [
        {1, 2},
        frozenset({1}),
        (number for number in range(3)),
        iter([1]),
        range(3),
        bytearray(b"a"),
        memoryview(b"a"),
        collections.OrderedDict(a=1),
        collections.defaultdict(int),
        collections.Counter("aab"),
        Point(1, 2),
        Colour.RED,
        Level.LOW,
        Words("a"),
        dt.date(2026, 1, 31),
        dt.datetime(2026, 1, 31),
        dt.timedelta(days=1),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        pathlib.PurePosixPath("a"),
        Unknown(),
        Unknown,
        len,
        np,
        Ellipsis,
        *_cycles(),
        *_refused_arrays(),
    ]


def _refused_arrays() -> list[Any]:
    records = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    made = [
        np.ma.array([1, 2], mask=[True, False]),
        np.ma.masked,
        records,
        records[0],
        np.asarray(records),
        np.zeros(2, np.dtype("f8", metadata={"unit": "m"})),
        np.zeros(2, [("a", np.dtype("f8", metadata={"unit": "m"}))]),
        np.zeros(2, {"names": ["a", "b"], "formats": ["u4", "u1"], "offsets": [0, 1]}),
        np.zeros(2, {"names": ["a", "b"], "formats": ["u1", "u1"], "offsets": [1, 0]}),
        np.zeros(2, {"names": ["a"], "formats": ["u1"], "titles": [dt.date(2026, 1, 31)]}),
        np.array([object()]),
        np.array([None, "a"], dtype=object),
        np.zeros(2, [("a", "O")]),
    ]
    if hasattr(np.dtypes, "StringDType"):
        made.append(np.array(["a"], dtype=np.dtypes.StringDType()))
    return made


def _somewhere_inside(number: int, around: int) -> Any:
    """A refused value, by its number, in plain surroundings."""
    value = _refused_everywhere()[number]
    wrapped = [value, [value], {"a": [1, value]}, ((0, {"b": value}),)]
    return wrapped[around % len(wrapped)]


def _bad_keys() -> list[Any]:
    return [
        np.str_("a"),
        np.float64(1.0),
        np.int64(1),
        frozenset({1}),
        Level.LOW,
        Words("a"),
        (1, Words("a")),
        len,
    ]


def refused_by_npz() -> st.SearchStrategy[Any]:
    """Values, and structures around them, that NpzStorageInterface refuses without allow_pickle."""
    inside = st.builds(_somewhere_inside, st.integers(0, len(_refused_everywhere()) - 1), st.integers(0, 3))
    return inside | st.sampled_from(_bad_keys()).map(lambda key: {"a": {key: 1}})


def refused_by_npy() -> st.SearchStrategy[Any]:
    """Values that NpyStorageInterface refuses: as npz, and what is no array without a change."""
    changed = [
        None,
        {},
        {"a": np.zeros(2)},
        [1, "a"],
        [1, 2.5],
        [True, 2],
        [[1, 2], [3]],
        [1, [2]],
        [None],
        "a\0",
        b"a\0",
        ["a", "b\0"],
        2**64,
        [2**63, -1],
        [b"a", "a"],
        np.str_("a\0"),
        [np.float32(1), 1.0],
    ]
    return refused_by_npz() | st.sampled_from(changed)


def refused_by_json() -> st.SearchStrategy[Any]:
    """Values that JsonStorageInterface refuses: as npz, and what JSON does not have."""
    foreign = [
        b"a",
        1j,
        {1: 2},
        {None: 1},
        {("a",): 1},
        np.datetime64("2026-01-31"),
        np.zeros(2, "M8[D]"),
        np.zeros(2, "S2"),
        np.zeros(2, [("a", "u1")]),
        np.zeros(2, np.longdouble),
        np.longdouble(1),
        np.zeros(2, complex),
        np.complex128(1j),
        "\ud83d\ude00",
        {"\ud83d\ude00": 1},
        np.void(b"a"),
    ]
    too_long = st.builds(pow, st.just(10), st.just(4300))  # such ints cannot be printed
    placed = (st.sampled_from(foreign) | too_long).flatmap(
        lambda value: st.sampled_from([value, [value], {"a": [0, value]}])
    )
    return refused_by_npz() | placed
