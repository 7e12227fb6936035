"""Strategies for params: everything that may be one, and only that."""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
import zoneinfo
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

UNSIZED_DTYPES = (
    "?",
    "b",
    "B",
    "<i2",
    ">i4",
    "<u8",
    "<f2",
    ">f4",
    "<f8",
    ">f8",
    "<c8",
    ">c16",
    "S3",
    "<U2",
    ">U2",
)
ZONES = (None, dt.UTC, dt.timezone(dt.timedelta(hours=-3)), dt.timezone(dt.timedelta(hours=1), "CET"))


class Colour(enum.Enum):
    """Members of a plain Enum."""

    RED = "red"
    GREEN = "green"
    CRIMSON = "red"  # noqa: PIE796 - an alias


class Zone(dt.tzinfo):
    """A zone that only its own program knows."""

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def dst(self, _: dt.datetime | None) -> None:
        return None

    def tzname(self, _: dt.datetime | None) -> str:
        return "here"


class Level(enum.IntEnum):
    """Members that are ints too."""

    LOW = 1
    HIGH = 2


class Side(enum.StrEnum):
    """Members that are strs too."""

    LEFT = "left"


class Mode(enum.Flag):
    """Members that combine."""

    READ = 1
    WRITE = 2


def numpy_scalars() -> st.SearchStrategy[Any]:
    """Scalars that count as Python's, and numpy's own times."""
    kinds = ["?", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", "U3", "S3", "m8[s]", "M8[D]"]
    return st.sampled_from(kinds).flatmap(lambda kind: hnp.from_dtype(np.dtype(kind)))


def arrays() -> st.SearchStrategy[Any]:
    """Plain arrays of every allowed dtype, also structured, without dimensions, empty, in Fortran order."""
    simple = st.sampled_from([np.dtype(code) for code in (*UNSIZED_DTYPES, "<M8[D]", ">m8[s]")])
    structured = st.sampled_from(
        [
            np.dtype([("a", ">i4"), ("b", "<f8")]),
            np.dtype([("a", "u1"), ("b", "<f4", (2,))], align=True),
            np.dtype([("é", "U1"), ("in", [("x", "?"), ("y", "<i2")])]),
        ]
    )
    made = st.one_of(simple, structured).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    )
    return st.one_of(made, made.map(np.asfortranarray))


def atoms() -> st.SearchStrategy[Any]:
    """Scalars that Python can hash by what they are."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, 1, -1, 2**63, 10**700]),
        st.floats(),
        st.sampled_from([0.0, -0.0, 1.0, float("nan"), 1e16, 1.5]),
        st.complex_numbers(),
        st.text(st.characters(exclude_categories=()), max_size=5),
        st.sampled_from(["", "1", "1p0", "None", "date", "a", "a_b", "nan", "x" * 41]),
        st.binary(max_size=5),
        st.dates(),
        st.datetimes(timezones=st.sampled_from(ZONES)),
        st.datetimes(timezones=st.sampled_from(["Europe/Paris", "UTC"]).map(zoneinfo.ZoneInfo)),
        st.times(timezones=st.sampled_from(ZONES)),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.fractions(),
        st.uuids(),
        st.sampled_from(["a", "a/b", "/", "é"]).flatmap(
            lambda text: st.sampled_from(
                [pathlib.PurePosixPath(text), pathlib.PureWindowsPath(text), pathlib.Path(text)]
            )
        ),
        st.sampled_from([*Colour, *Level, *Side, *Mode, Mode.READ | Mode.WRITE, Mode(0)]),
        st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, -2])),
    )


def params(max_leaves: int = 6) -> st.SearchStrategy[Any]:
    """Any param, nested too, as a caller may give it."""
    hashable = st.recursive(
        atoms(),
        lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
        max_leaves=3,
    )
    leaves = st.one_of(
        atoms(),
        numpy_scalars(),
        arrays(),
        st.decimals(allow_nan=True),
        st.builds(slice, st.none() | st.integers(), st.integers()),
        st.sets(hashable, max_size=3),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(hashable, inner, max_size=3),
        ),
        max_leaves=max_leaves,
    )
