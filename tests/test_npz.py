"""Nested data as the bytes of an npz file, and the zip archive below it."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from smm import _zip
from smm._npz import Newer, Pickled, canonical_npz, read_npz, write_npz
from smm._refusals import Refused
from smm._tree import Damaged
from smm._zip import ZipWriter, members, members_as_written
from tests.strategies import identical, npz_values, refused_by_npz


def written(data: Any, **options: bool) -> bytes:
    file = io.BytesIO()
    write_npz(file, data, **options)
    return file.getvalue()


def archive(**contents: bytes) -> bytes:
    """A zip file of Python's own; `__` in a name is a dot."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in contents.items():
            made.writestr(name.replace("__", "."), content)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def told(program: Any, layout: Any = 1) -> bytes:
    return json.dumps({"smm_npz": layout, "program": program}).encode()


# --- the quick way, for bytes that are known to be what was written -----------------------------------------


@given(npz_values())
def test_members_as_they_were_written_are_the_members(data: Any) -> None:
    content = written(data)
    assert members_as_written(content) == members(content)
    assert identical(read_npz(bytearray(content), checked=True), canonical_npz(data))


@given(npz_values())
def test_what_is_compressed_is_read_the_slow_way(data: Any) -> None:
    content = written(data, compress=True)
    assert members_as_written(content) in (None, [])
    assert identical(read_npz(bytearray(content), checked=True), canonical_npz(data))


@given(npz_values(), st.data())
def test_other_bytes_are_read_the_slow_way_or_as_that_reads_them(data: Any, chosen: st.DataObject) -> None:
    content = bytearray(written(data))
    for _ in range(chosen.draw(st.integers(1, 3))):
        content[chosen.draw(st.integers(0, len(content) - 1))] = chosen.draw(st.integers(0, 255))
    content = content[: chosen.draw(st.sampled_from([len(content), len(content) - 1, len(content) // 2]))]
    found = members_as_written(bytes(content))
    if found is not None:
        assert sum(len(member.packed) for member in found) <= len(content)
        assert all(len(member.packed) == member.size for member in found)


def test_archives_of_others_are_read_the_slow_way() -> None:
    assert members_as_written(archive(a__npy=npy(1)) + b"comment") is None
    assert members_as_written(b"") is None
    assert members_as_written(b"PK\3\4") is None
    coded = archive(ä__npy=npy(1)).replace("ä".encode(), b"\x84\x84")
    assert members_as_written(coded) is None
    deflated = io.BytesIO()
    np.savez_compressed(deflated, a=np.arange(3))
    assert members_as_written(deflated.getvalue()) is None


# --- the law ---------------------------------------------------------------------------------------------


@given(npz_values(), st.booleans())
def test_what_is_written_is_read(data: Any, compress: bool) -> None:
    content = written(data, compress=compress)
    canonical = canonical_npz(data)
    assert identical(read_npz(content), canonical)
    assert identical(read_npz(content, checked=True), canonical)
    assert identical(canonical_npz(canonical), canonical)


@given(npz_values())
def test_other_readers_find_a_sound_archive(data: Any) -> None:
    content = written(data)
    with zipfile.ZipFile(io.BytesIO(content)) as other:
        assert other.testzip() is None
    with np.load(io.BytesIO(content)) as loaded:
        assert len(loaded.files) == len(members(content))


def test_the_same_data_gives_the_same_bytes() -> None:
    data = {"a": np.arange(3), "b": [1.5, "x", np.float32(2)]}
    assert written(data) == written(canonical_npz(data))


def test_what_no_strategy_can_print_or_compare_comes_back() -> None:
    assert read_npz(written([10**10_000, {-(10**10_000): None}])) == [10**10_000, {-(10**10_000): None}]
    deep: Any = np.arange(2)
    for level in range(100_000):
        deep = [deep] if level % 2 else {"k": (deep,)}
    assert identical(read_npz(written(deep)), deep)


@given(refused_by_npz())
def test_what_is_refused_is_refused_before_anything_is_written(data: Any) -> None:
    file = io.BytesIO()
    with pytest.raises(Refused) as at_save:
        write_npz(file, data)
    assert file.getvalue() == b""
    with pytest.raises(Refused) as before:
        canonical_npz(data)
    if "Counter" not in str(at_save.value) and "generator" not in str(at_save.value):
        assert str(at_save.value) == str(before.value)


def test_objects_come_back_if_allowed() -> None:
    data = {"a": np.array([{1}, None], dtype=object), "b": [np.zeros(1, [("o", "O")])[0]]}
    with pytest.raises(Refused) as caught:
        written(data)
    assert caught.value.place == "['a']"
    for compress in (False, True):
        content = written(data, allow_pickle=True, compress=compress)
        with pytest.raises(Pickled):
            read_npz(content)
        back = read_npz(content, allow_pickle=True)
        assert back["a"].tolist() == [{1}, None]
        assert back["b"][0]["o"] == 0


# --- what the file is to others --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "files"),
    [
        (np.arange(3), ["arr_0"]),
        ([np.arange(3), np.zeros(2)], ["arr_0", "arr_1"]),
        ([np.array(n) for n in range(11)], [f"arr_{n}" for n in range(11)]),
        ({"a": np.arange(3), "größe in m": np.array(1)}, ["a", "größe in m"]),
        ({}, []),
        (2.5, ["arr_0", "smm.json"]),
        ("text", ["arr_0", "smm.json"]),
        (np.float32(2.5), ["arr_0", "smm.json"]),
        (None, ["smm.json"]),
        ([], ["smm.json"]),
        ([np.arange(3)], ["arr_0", "smm.json"]),
        ((np.arange(3), np.arange(2)), ["arr_0", "arr_1", "smm.json"]),
        ({"map": np.arange(3), "mean": 1.0, "parts": [np.zeros(1)]}, ["map", "arr_0", "smm.json"]),
        ({1: np.zeros(1)}, ["arr_0", "smm.json"]),
    ]
    + [
        ({key: np.zeros(1)}, ["arr_0", "smm.json"])
        for key in (
            "arr_0",
            "arr_7",
            "file",
            "../x",
            "a/b",
            "a\\b",
            "C:x",
            "a.npy",
            "",
            ".x",
            "x.",
            "a\0",
            "x" * 101,
        )
    ],
)
def test_the_members_of_the_file(data: Any, files: list[str]) -> None:
    content = written(data)
    with np.load(io.BytesIO(content)) as loaded:
        assert loaded.files == files
    assert identical(read_npz(content), canonical_npz(data))


def test_numpy_shows_numbers_and_fields() -> None:
    with np.load(io.BytesIO(written({"map": np.arange(3), "mean": 1.5}))) as loaded:
        assert loaded["map"].tolist() == [0, 1, 2]
    with np.load(io.BytesIO(written(-0.0))) as loaded:
        assert str(loaded["arr_0"]) == "-0.0"


def test_the_format_is_pinned() -> None:
    data = {
        "mean": 1.5,
        "maps": np.arange(2),
        "rest": [(1j, b"a"), {None: np.float32(1), 2**70: float("nan")}],
    }
    assert json.loads(zipfile.ZipFile(io.BytesIO(written(data))).read("smm.json")) == {
        "smm_npz": 1,
        "program": [
            *("mean", 1.5, "maps", ["array", "maps"], "rest"),
            *(["complex", "0x0.0p+0", "0x1.0000000000000p+0"], ["bytes", "YQ=="], ["tuple", 2]),
            *(
                None,
                ["numpy", "<f4", "0000803f"],
                ["int", "0x400000000000000000"],
                ["float", "nan"],
                ["dict", 2],
            ),
            *(["list", 2], ["dict", 3]),
        ],
    }


# --- files of others -------------------------------------------------------------------------------------


def _savez(compress: bool, *args: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, *args, **named)
    return file.getvalue()


@pytest.mark.parametrize("compress", [False, True])
def test_files_of_the_predecessor_read_as_it_read_them(compress: bool) -> None:
    a, b, zero = np.arange(3.0), np.asfortranarray(np.ones((2, 3))), np.array(5)
    assert identical(read_npz(_savez(compress, a)), a)
    assert identical(read_npz(_savez(compress, zero)), zero)
    assert identical(read_npz(_savez(compress, a, b)), [a, b])
    assert identical(
        read_npz(_savez(compress, *[np.array(n) for n in range(12)])), [np.array(n) for n in range(12)]
    )
    assert identical(read_npz(_savez(compress, a=a, b=zero)), {"a": a, "b": zero})
    assert identical(read_npz(_savez(compress)), {})
    assert identical(read_npz(_savez(compress, arr_1=a)), {"arr_1": a})
    # A list in the order of its numbers, however the members lie.
    assert identical(read_npz(_savez(compress, arr_1=b, arr_0=a)), [a, b])
    # The predecessor could not read this one at all.
    assert identical(read_npz(_savez(compress, arr_0=a, b=b)), {"arr_0": a, "b": b})


def test_members_that_are_no_arrays_read_as_numpy_has_them() -> None:
    assert identical(
        read_npz(archive(a__npy=npy(1), note__txt=b"hello")), {"a": np.array(1), "note.txt": b"hello"}
    )


def test_a_comment_after_the_archive_does_no_harm() -> None:
    file = io.BytesIO(written(np.arange(3)))
    with zipfile.ZipFile(file, "a") as other:
        other.comment = b"from a colleague"
    assert read_npz(file.getvalue()).tolist() == [0, 1, 2]


def test_an_archive_written_without_seeking_is_read() -> None:
    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: Any) -> int:
            raise OSError("a stream")

        def tell(self) -> int:
            raise OSError("a stream")

    file = Stream()
    np.savez(file, a=np.arange(3), b=np.zeros(2))  # sizes and sums follow the members
    assert identical(read_npz(file.getvalue()), {"a": np.arange(3), "b": np.zeros(2)})


# --- views -----------------------------------------------------------------------------------------------


def test_arrays_are_aligned_views_on_the_buffer() -> None:
    data = {"a": np.arange(3.0), "bb": np.ones((2, 2), np.longdouble), "c": [np.arange(5, dtype="i2")]}
    buffer = np.frombuffer(bytearray(written(data)), np.uint8)
    back = read_npz(buffer)
    for array in (back["a"], back["bb"], back["c"][0]):
        assert np.shares_memory(array, buffer)
        assert array.flags.writeable
        assert array.flags.aligned
        offset = array.__array_interface__["data"][0] - buffer.__array_interface__["data"][0]
        assert offset % 64 == 0


def test_files_of_numpy_are_copied_where_they_are_not_aligned() -> None:
    back = read_npz(np.frombuffer(bytearray(_savez(False, abc=np.arange(3.0))), np.uint8))
    assert back["abc"].flags.aligned


# --- large archives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [65_535, 65_536])
def test_many_members(count: int) -> None:
    file = io.BytesIO()
    writer = ZipWriter(file)
    for number in range(count):
        writer.add(str(number))
    writer.close()
    assert len(members(file.getvalue())) == count
    with zipfile.ZipFile(file) as other:
        assert len(other.namelist()) == count


def test_sizes_beyond_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit moved down, since 4 GiB would take a while."""
    data = {"a": np.arange(100.0), "b": np.arange(3), "c": [1.5]}
    monkeypatch.setattr(_zip, "_MAX32", 300)
    content = bytearray(written(data))
    monkeypatch.undo()
    for short in (at for at in range(len(content) - 4) if content[at : at + 4] == struct.pack("<L", 300)):
        content[short : short + 4] = b"\xff" * 4
    assert identical(read_npz(content), data)
    with np.load(io.BytesIO(content)) as loaded:
        assert identical(loaded["a"], data["a"])


# --- damage ----------------------------------------------------------------------------------------------

_SMALL: Any = [
    np.arange(3, dtype="<i2"),
    {"größe": np.zeros(2), "b": np.array(1, dtype=">f4")},
    {"a": [1, "x", b"y", 1j, 2**70], ("k",): np.float32(1), "m": np.zeros((0, 2))},
    1.5,
    {},
    [],
]


@pytest.mark.parametrize("data", _SMALL)
@pytest.mark.parametrize("compress", [False, True])
def test_cut_short_anywhere_is_damage(data: Any, compress: bool) -> None:
    content = written(data, compress=compress)
    for length in range(len(content)):
        with pytest.raises(Damaged):
            read_npz(content[:length])
        with pytest.raises(Damaged):
            read_npz(content[length + 1 :])


@pytest.mark.parametrize("data", _SMALL)
@pytest.mark.parametrize("compress", [False, True])
def test_a_flipped_bit_gives_damage_or_the_old_data(data: Any, compress: bool) -> None:
    content = written(data, compress=compress)
    survived = 0
    for at in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        try:
            back = read_npz(bytes(flipped))
        except (Damaged, Newer, Pickled):
            continue
        survived += 1
        assert identical(back, canonical_npz(data)), f"bit {at}"
    assert survived < 8 * len(content) // 2


@given(st.binary(max_size=200))
def test_any_bytes_are_data_or_damage(content: bytes) -> None:
    with pytest.raises(Damaged):
        read_npz(content)


@given(st.data())
def test_a_spoilt_archive_is_data_or_damage(data: st.DataObject) -> None:
    content = bytearray(
        written({"a": np.arange(3), "b": [1, np.zeros(2)]}, compress=data.draw(st.booleans()))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    with suppress(Damaged, Newer, Pickled):
        read_npz(bytes(content), checked=True)  # not even the sums catch it then


_STEPS = st.recursive(
    st.none()
    | st.integers(-2, 3)
    | st.sampled_from(["array", "list", "dict", "tuple", "int", "numpy", "arr_0", "<f8", "|O"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "list"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.lists(_STEPS, max_size=5))
def test_any_program_is_data_or_damage(program: Any) -> None:
    with suppress(Damaged):
        read_npz(archive(arr_0__npy=npy(1), smm__json=told(program)))


def deflated(content: bytes, size: int | None = None) -> bytes:
    """An archive of one deflated array whose directory claims another size."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("arr_0.npy", content)
    raw = bytearray(file.getvalue())
    if size is not None:
        for at in range(len(raw) - 4):
            if raw[at : at + 4] == struct.pack("<L", len(content)):
                raw[at : at + 4] = struct.pack("<L", size)
    return bytes(raw)


_ENTRY = b"PK\1\2"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"PK\3\4", "cut short"),
        (b"\0" * 100, "cut short, or no zip archive"),
        (npy(np.arange(10)), "cut short, or no zip archive"),
        (written(1.5) + b"x", "bytes after the end"),
        (b"x" + written(1.5), "a directory that is not where"),
        (deflated(npy(np.zeros(1000)), 1 << 30), "'arr_0.npy' cannot unpack to 1073741824 bytes"),
        (
            deflated(npy(np.zeros(1 << 21)), (1 << 24) + 5),
            "'arr_0.npy': 16777221 bytes, where the header says",
        ),
        (deflated(npy(np.zeros(1000)), 100), "'arr_0.npy': 'arr_0.npy' does not unpack to its 100 bytes"),
        (archive(arr_0__npy=b""), "'arr_0.npy': empty"),
        (archive(arr_0__npy=npy(1)[:-1]), "'arr_0.npy': 7 bytes of data, where the header says 8"),
        (archive(arr_0__npy=npy(1) + b"x"), "'arr_0.npy': 9 bytes of data"),
        (archive(smm__json=b"[]"), "smm.json is not smm's"),
        (archive(smm__json=b"[" * 100_000), "smm.json does not parse"),
        (archive(smm__json=b"\xff\xfe"), "smm.json does not parse"),
        (archive(smm__json=b'{"smm_npz": 1}'), "smm.json has no program"),
        (archive(smm__json=told([1], layout=True)), "smm.json is not smm's"),
        (archive(smm__json=told([["array", "b"]])), "smm.json has the step ['array', 'b']"),
        (archive(smm__json=told([{}])), "smm.json has the step {}"),
        (archive(smm__json=told([["list", -1]])), "smm.json has the step ['list', -1]"),
        (archive(smm__json=told([["list", True]])), "smm.json has the step ['list', True]"),
        (archive(smm__json=told([["pickle", "x"]])), "smm.json has the step ['pickle', 'x']"),
        (archive(smm__json=told([["numpy", "|O", "00" * 8]])), "smm.json has the step ['numpy'"),
        (archive(smm__json=told([["bytes", "no base64!"]])), "smm.json has the step ['bytes'"),
        (archive(smm__json=told([1, 2])), "the parts make 2 values"),
        (archive(arr_0__npy=npy(1), smm__json=told([1])), "smm.json has no place for 'arr_0'"),
        (
            archive(a__npy=npy(1), smm__json=told([["array", "a"], ["array", "a"], ["list", 2]])),
            "smm.json has the step",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "archive",  # whose bytes tell the time
)
def test_lies_are_damage_and_cost_nothing(content: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Damaged) as caught:
            read_npz(content)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.reason.startswith(reason)


def test_encrypted_repeated_and_overlapping_members_are_damage() -> None:
    content = archive(a__npy=npy(1))
    encrypted = bytearray(content)
    encrypted[6] |= 1
    encrypted[content.index(_ENTRY) + 8] |= 1
    with pytest.raises(Damaged, match="encrypted"):
        read_npz(encrypted)
    with warnings.catch_warnings(), zipfile.ZipFile(repeated := io.BytesIO(), "w") as made:
        warnings.simplefilter("ignore", UserWarning)
        made.writestr("a.npy", npy(1))
        made.writestr("a.npy", npy(2))
    with pytest.raises(Damaged, match="named twice"):
        read_npz(repeated.getvalue())
    with zipfile.ZipFile(packed := io.BytesIO(), "w", zipfile.ZIP_LZMA) as made:
        made.writestr("a.npy", npy(1))
    with pytest.raises(Damaged, match="packed in a way numpy never uses"):
        read_npz(packed.getvalue())


def test_members_that_share_their_bytes_are_damage() -> None:
    """The way of the archives that unpack to a hundred thousand times their size."""
    inner = bytearray(archive(b__npy=npy(1)))
    del inner[inner.index(_ENTRY) :]
    outer = archive(a__npy=bytes(inner))
    start = outer.index(_ENTRY)
    entry = outer[start : outer.index(b"PK\5\6")]
    second = bytearray(archive(b__npy=npy(1)))
    second = second[second.index(_ENTRY) : second.index(b"PK\5\6")]
    second[42:46] = struct.pack("<L", outer.index(b"PK\3\4", 1))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(entry + second), start, 0)
    with pytest.raises(Damaged, match="overlap"):
        read_npz(outer[:start] + entry + bytes(second) + end)


def test_a_wrong_sum_is_damage_unless_the_caller_has_checked() -> None:
    content = bytearray(written(np.arange(3.0)))
    at = content.index(np.arange(3.0).tobytes()) + 17
    content[at] ^= 1
    with pytest.raises(Damaged, match=r"^'arr_0\.npy': the check sum of 'arr_0\.npy' is wrong$"):
        read_npz(content)
    assert read_npz(content, checked=True).shape == (3,)


def test_a_later_layout_is_no_damage() -> None:
    with pytest.raises(Newer) as caught:
        read_npz(archive(arr_0__npy=npy(1), smm__json=told({"anything": "else"}, layout=2)))
    assert (caught.value.found, caught.value.known) == ("npz layout 2", "npz layout 1")


class Trap:
    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


def test_objects_are_never_unpickled_unless_allowed() -> None:
    header = npy(np.zeros(()))[:128].replace(b"'<f8'", b"'|O' ")
    for name in ("arr_0__npy", "x", "x__npy"):
        with pytest.raises(Pickled):
            read_npz(archive(**{name: header + pickle.dumps(Trap())}))
    assert not Trap.sprung


def test_python_agrees_about_the_sums() -> None:
    array: NDArray[Any] = np.arange(1000.0)
    (member,) = members(written(array))
    assert member.crc32 == zlib.crc32(npy(array))
