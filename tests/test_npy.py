"""One array as the bytes of an npy file."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from smm._npy import MAX_HEADER, Pickled, own_array, plain_array, read_npy, write_npy
from smm._refusals import Refused
from smm._tree import Damaged
from tests.strategies import arrays, identical


def written(array: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    write_npy(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def with_header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + data


def header(descr: str = "'<f8'", shape: str = "(3,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


# --- the law ---------------------------------------------------------------------------------------------


@given(arrays())
def test_what_is_written_is_read(array: NDArray[Any]) -> None:
    plain = own_array(array)
    assert identical(read_npy(written(array)), plain)
    assert identical(own_array(plain), plain)
    assert plain.dtype == array.dtype
    assert plain.flags.forc


@given(arrays())
def test_numpy_reads_what_is_written(array: NDArray[Any]) -> None:
    if array.dtype.hasobject or array.dtype.itemsize == 0:
        return
    assert identical(np.load(io.BytesIO(written(array))), own_array(array))


@given(arrays())
def test_what_numpy_writes_is_read(array: NDArray[Any]) -> None:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpy warns of format 3.0
        np.save(file, array)
    assert identical(read_npy(file.getvalue()), own_array(array))


def test_names_beyond_latin_and_long_headers_warn_nobody() -> None:
    many = np.zeros(2, [(f"längengrad_{number}_日本", "f4") for number in range(5000)])
    content = written(many)
    assert content[6] == 3
    assert identical(read_npy(content), many)
    assert written(np.zeros(2, [(f"a_rather_long_name_{n}", "f4") for n in range(5000)]))[6] == 2


def test_data_starts_on_a_boundary_of_64_bytes() -> None:
    for array in (np.zeros(3), np.zeros(3, [("日本", "f8")]), np.zeros((1, 2, 3), "i2")):
        assert (len(written(array)) - array.nbytes) % 64 == 0


# --- which arrays ----------------------------------------------------------------------------------------


def test_a_plain_array_is_not_copied() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert plain_array(array) is array
    fortran = array.T
    assert plain_array(fortran) is fortran
    assert plain_array(array[:, ::2]).flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([None]), "an array of Python objects"),
        (np.zeros(1, [("a", "O")]), "an array with Python objects"),
        (np.zeros(1, np.dtype("f8", metadata={"a": 1})), "a dtype with metadata"),
        (np.zeros(1, [("a", [("b", np.dtype("f8", metadata={"a": 1}))])]), "a dtype with metadata"),
        (np.zeros(1, np.dtype((np.record, [("a", "u1")]))), "an array of np.record"),
        (
            np.zeros(1, {"names": ["a", "b"], "formats": ["u4", "u1"], "offsets": [0, 1]}),
            "a dtype with overlapping or unordered fields",
        ),
        (
            np.zeros(1, [(f"{'x' * 900}{n}", "u1") for n in range(1200)]),
            "a dtype whose description takes over 1 MiB",
        ),
    ],
)
def test_what_a_header_cannot_spell_is_refused(array: NDArray[Any], found: str) -> None:
    with pytest.raises(Refused) as caught:
        plain_array(array)
    assert caught.value.found == found
    assert caught.value.place == ""


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="comes with numpy 2")
def test_string_dtype_is_refused_even_with_pickle() -> None:
    array = np.array(["a"], dtype=np.dtypes.StringDType())
    with pytest.raises(Refused, match=r"StringDType array; save np\.array\(x\.tolist\(\)\)"):
        plain_array(array, allow_pickle=True)


def test_deep_dtypes_are_refused() -> None:
    dtype: np.dtype[Any] = np.dtype("u1")
    for _ in range(40):
        dtype = np.dtype([("a", dtype)])
    with pytest.raises(Refused, match="a dtype nested more than 32 deep"):
        plain_array(np.zeros(1, dtype))
    for _ in range(9):
        assert dtype.fields is not None
        dtype = dtype.fields["a"][0]
    array = np.ones(1, dtype)
    assert identical(read_npy(written(array)), own_array(array))


def test_alignment_and_longlong_are_what_numpy_takes_for_the_same() -> None:
    aligned = np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True))
    plain = plain_array(aligned)
    assert plain.dtype == aligned.dtype
    assert plain.dtype.itemsize == 16
    assert not plain.dtype.isalignedstruct
    assert plain_array(np.zeros(2, "q")).dtype.char == np.dtype("i8").char


def test_refused_means_nothing_written() -> None:
    file = io.BytesIO()
    for array in (np.array([None]), np.ma.array([1])):
        with pytest.raises(Refused):
            write_npy(file, array)
    with pytest.raises(Refused, match="cannot be pickled"):
        write_npy(file, np.array([lambda: 0]), allow_pickle=True)
    assert file.getvalue() == b""


# --- views -----------------------------------------------------------------------------------------------


def test_arrays_are_views_on_the_buffer() -> None:
    buffer = np.frombuffer(bytearray(written(np.arange(3.0))), np.uint8)
    array = read_npy(buffer)
    assert np.shares_memory(array, buffer)
    assert array.flags.writeable
    assert not read_npy(bytes(buffer)).flags.writeable


def test_unaligned_data_is_copied() -> None:
    content = written(np.arange(3.0))
    buffer = np.frombuffer(bytearray(b"." + content), np.uint8)[1:]
    array = read_npy(buffer)
    assert array.flags.aligned
    assert not np.shares_memory(array, buffer)
    assert array.tolist() == [0, 1, 2]


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array", [np.arange(5, dtype="<i4"), np.zeros(2, [("日本", "f8")]), np.array(1.5), np.zeros((0, 3))]
)
def test_cut_short_anywhere_is_damage(array: NDArray[Any]) -> None:
    content = written(array)
    for length in range(len(content)):
        with pytest.raises(Damaged):
            read_npy(content[:length])
    with pytest.raises(Damaged, match="where the header says"):
        read_npy(content + b"\0")


def test_a_flipped_bit_of_the_header_gives_damage_or_an_array() -> None:
    content = written(np.zeros((2, 3), [("a", "<f8"), (("title", "b"), ">i2", (2,))]))
    for at in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        with suppress(Damaged, Pickled):
            assert type(read_npy(bytes(flipped))) is np.ndarray


@given(st.binary(max_size=80))
def test_any_bytes_are_an_array_or_damage(content: bytes) -> None:
    for start in (b"", b"\x93NUMPY\1\0", with_header("")[:10]):
        with pytest.raises(Damaged):
            read_npy(start + content)


_PIECES = (
    "{ } [ ] ( ) , : 3 0 10L -1 1e9 9**9 f() True False None 'descr' 'fortran_order' 'shape' '<f8' '|O' 'V0'"
)
_FRAGMENTS = st.sampled_from([*_PIECES.split(), " ", "''", "'a'", "'\\x41'", "u'a'", "b'a'"])


@given(st.lists(_FRAGMENTS, max_size=30).map("".join) | st.builds(header, _FRAGMENTS, _FRAGMENTS, _FRAGMENTS))
def test_any_header_is_an_array_or_damage(text: str) -> None:
    with suppress(Damaged, Pickled):
        assert type(read_npy(with_header(text))) is np.ndarray


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"PK\3\4 something else", "not an npy file"),
        (b"\x93NUMPY\7\0" + bytes(20), "npy format 7.0, which does not exist"),
        (
            with_header(header(shape="(10000000000000,)"), bytes(8)),
            "8 bytes of data, where the header says 80000000000000",
        ),
        (with_header(header(shape=f"({'9' * 19}, {'9' * 19})"), bytes(8)), "8 bytes of data, where"),
        (with_header(header(shape=f"(0, {'9' * 19}, {'9' * 19})")), "an impossible shape"),
        (with_header(header(shape=f"({'1, ' * 70})"), bytes(8)), "an impossible shape"),
        (with_header(header(shape="(-1,)")), "a header that does not parse"),
        (with_header(header(shape="(True,)"), bytes(8)), "a header with the shape (True,)"),
        (with_header(header(shape="[3]"), bytes(24)), "a header with the shape [3]"),
        (with_header(header(order="0"), bytes(24)), "a header with fortran_order 0"),
        (with_header(header(descr="'f8,f8'")), "a header with the dtype 'f8,f8'"),
        (with_header(header(descr="'T16'")), "a header with the dtype 'T16'"),
        (with_header(header(descr="'f99'")), "a header with an impossible dtype"),
        (with_header(header(descr="'V9999999999999999999'")), "a header with the dtype"),
        (with_header(header(descr="3")), "a header without a dtype"),
        (with_header(header(descr="[('a',)]")), "a header with a field that is none"),
        (with_header(header(descr="[('a', '<f8'), ('a', '<f8')]")), "a header with an impossible dtype"),
        (with_header("(" * 60000), "a header nested too deep"),
        (with_header("-" * 60000 + "1"), "a header that does not parse"),
        (with_header("9**9**9"), "a header that does not parse"),
        (with_header("'" + "\\" * 60001), "a header that does not parse"),
        (with_header("{'descr': '<f8'}"), "a header without exactly descr, fortran_order and shape"),
        (with_header("[]"), "a header without exactly descr, fortran_order and shape"),
        (with_header("x" * (MAX_HEADER + 1), version=2), "a header of 1048577 bytes, over 1 MiB"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff", "a header of 4294967295 bytes"),
        (b"\x93NUMPY\3\0\4\0\0\0\xff\xff\xff\xff", "a header that is no text"),
    ],
)
def test_lies_are_damage_and_cost_nothing(content: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Damaged) as caught:
            read_npy(content)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.reason.startswith(reason)


def test_headers_of_python_2_and_of_other_writers_are_read() -> None:
    numbers = np.arange(3.0)
    for text in (
        header(shape="(3L,)"),
        '{"descr":"<f8","fortran_order":False,"shape":(3,)}',
        "{'shape': (3,), 'fortran_order': False, 'descr': '<f8'}   \n",
        header(descr="'=f8'"),
    ):
        for version in (1, 2, 3):
            assert read_npy(with_header(text, numbers.tobytes(), version)).tolist() == [0, 1, 2]


# --- pickle ----------------------------------------------------------------------------------------------


class Trap:
    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


def test_objects_are_never_unpickled_unless_allowed() -> None:
    content = with_header(header(descr="'|O'", shape="()"), pickle.dumps(Trap()))
    hidden = with_header(header(descr="[('a', [('b', '|O')])]", shape="()"), pickle.dumps(Trap()))
    for trapped in (content, hidden):
        with pytest.raises(Pickled):
            read_npy(trapped)
    assert not Trap.sprung


def test_objects_come_back_if_allowed() -> None:
    for array in (
        np.array([[1, "a"], [None, {"b": [2]}]], dtype=object),
        np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=object)),
        np.array({"a": 1}, dtype=object),
        np.array([(1, "x")], dtype=[("a", "i4"), ("b", "O")]),
        np.array([], dtype=object),
    ):
        content = written(array, allow_pickle=True)
        assert identical(read_npy(content, allow_pickle=True), own_array(array, allow_pickle=True))
        assert identical(
            np.load(io.BytesIO(content), allow_pickle=True), read_npy(content, allow_pickle=True)
        )


def test_pickles_that_are_not_the_headers_array_are_damage() -> None:
    start = header(descr="'|O'", shape="(2,)")
    for content in (
        b"",
        b"no pickle",
        pickle.dumps([1, 2]),
        pickle.dumps(np.array([None])),
        pickle.dumps(np.zeros(2)),
    ):
        with pytest.raises(Damaged):
            read_npy(with_header(start, content), allow_pickle=True)
