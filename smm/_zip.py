"""Zip archives in memory: members as views on one buffer, and writing with data on 64-byte boundaries.

The standard library's reader copies each member through its own buffers and its own check sum; here a
stored member costs no copy, and nothing is believed that the bytes do not bear out. Only what numpy
writes is read: members one after another from the first byte, stored or deflated.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

import numpy as np
from zlib_ng import zlib_ng

from smm._tree import Damaged

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 1 << 0, 1 << 3, 1 << 11
# Deflate cannot do better than this; a larger claim is a lie.
_BEST_RATIO = 1032
_ALIGN = 64
_ALIGNMENT_FIELD = 0xD935
_YEAR_1980 = 0x0021
"""The same data gives the same bytes at any time."""
_CHUNK = 1 << 24
_SMALL = 1 << 12


class Member(NamedTuple):
    """One file of an archive, its bytes not yet looked at."""

    name: str
    size: int
    """Bytes it unpacks to, as claimed."""
    crc32: int
    deflated: bool
    packed: memoryview

    def head(self, size: int) -> memoryview:
        """Its first bytes, at most `size`; unpacks no more than these.

        Raises:
            Damaged: they do not unpack.
        """
        if not self.deflated:
            return self.packed[:size]
        return memoryview(_inflated(self.packed, size, self.name))

    def data(self, *, checked: bool) -> memoryview:
        """All its bytes: a view on the archive's buffer if it is stored, else new memory.

        Args:
            checked: a check sum over the whole archive was right, so the member's own is not computed.

        Raises:
            Damaged: they do not unpack, are more or less than claimed, or have another check sum.
        """
        # One byte more than claimed, to notice that there is more.
        data = memoryview(_inflated(self.packed, self.size + 1, self.name)) if self.deflated else self.packed
        if len(data) != self.size:
            raise Damaged(f"{self.name!r} does not unpack to its {self.size} bytes")
        if not checked and zlib_ng.crc32(data) != self.crc32:
            raise Damaged(f"the check sum of {self.name!r} is wrong")
        if not self.deflated:
            return data
        # Into memory that may be written to, as that of a member that is not deflated.
        own: Any = np.frombuffer(data, np.uint8).copy()
        return memoryview(own)


def _inflated(packed: memoryview, limit: int, name: str) -> bytes:
    try:
        return zlib_ng.decompressobj(-zlib_ng.MAX_WBITS).decompress(packed, limit)
    except zlib_ng.error:  # type: ignore[misc]  # its stub says instance
        raise Damaged(f"{name!r} does not unpack") from None


# --- reading ---------------------------------------------------------------------------------------------


def members_as_written(buffer: Any) -> list[Member] | None:
    """The members of an archive that `ZipWriter` has stored, in a third of the time; None for all others.

    Only for bytes that are known to be what was written: of what is told twice, one is not looked at.
    """
    data = memoryview(buffer).cast("B")
    found, at, last = [], 0, len(data) - _END.size - _LOCAL.size
    while at <= last and bytes(data[at : at + 4]) == b"PK\3\4":
        _, _, flags, method, _, _, crc, packed_size, size, named, extra = _LOCAL.unpack_from(data, at)
        if flags & ~_UTF8 or method != _STORED or packed_size != size or size == _MAX32:
            return None
        at += _LOCAL.size + named + extra
        raw_name = bytes(data[at - named - extra : at - extra])
        try:
            name = raw_name.decode("utf-8" if flags else "ascii")
        except UnicodeDecodeError:
            return None  # of a code page
        found.append(Member(name, size, crc, False, data[at : at + size]))
        at += size
    count, length = len(found), len(data) - _END.size - at
    if length < 0 or _END.unpack_from(data, at + length) != (b"PK\5\6", 0, 0, count, count, length, at, 0):
        return None
    return found


def members(buffer: Any) -> list[Member]:
    """The members of the archive in `buffer`, in the order of its directory. Their data is not looked at.

    Raises:
        Damaged: no zip archive; a directory that disagrees with the members; members that overlap, have
            the same name, are encrypted or packed in another way than numpy packs.
    """
    data = memoryview(buffer).cast("B")
    count, start, end = _directory(data)
    entries = _entries(data, start, end)
    found = [_member(data, entry, start) for entry in entries]
    if len(found) != count or len({member.name for member in found}) != count:
        raise Damaged("a directory with members missing or named twice")
    # Members that share bytes are how a small archive unpacks to a huge one.
    covered = 0
    for offset, size in sorted((entry.offset, entry.packed_size) for entry in entries):
        if offset < covered:
            raise Damaged("members that overlap")
        covered = offset + _LOCAL.size + size
    return found


class _Entry(NamedTuple):
    raw_name: bytes
    flags: int
    method: int
    crc32: int
    packed_size: int
    size: int
    offset: int


def _directory(data: memoryview) -> tuple[int, int, int]:
    """How many members the directory has, and where it starts and ends."""
    at = len(data) - _END.size
    if at < 0:
        raise Damaged("cut short" if len(data) else "empty")
    if bytes(data[at : at + 4]) != b"PK\5\6":
        # Someone may have added a comment, of at most 65,535 bytes.
        tail = bytes(data[max(0, at - _MAX16) :])
        at = len(data) - len(tail) + tail.rfind(b"PK\5\6", 0, -_END.size + 4)
        if at < len(data) - len(tail):
            raise Damaged("cut short, or no zip archive")
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(data, at)
    if at + _END.size + comment != len(data):
        raise Damaged("bytes after the end of the archive")
    locator = at - _LOCATOR64.size
    if locator >= 0 and bytes(data[locator : locator + 4]) == b"PK\6\7":
        at, disk, first_disk, here, count, size, start = _directory64(data, locator)
    if disk or first_disk or here != count or start + size != at:
        raise Damaged("a directory that is not where the archive's end says")
    return count, start, at


def _directory64(data: memoryview, locator: int) -> tuple[int, ...]:
    """The wide form of what the archive's end says, and where it is itself: right before its locator."""
    at = _LOCATOR64.unpack_from(data, locator)[2]
    if at != locator - _END64.size or bytes(data[at : at + 4]) != b"PK\6\6":
        raise Damaged("an end of the archive that does not parse")
    return at, *_END64.unpack_from(data, at)[4:]


def _entries(data: memoryview, at: int, end: int) -> list[_Entry]:
    """The entries of the directory, in its own order."""
    entries = []
    while at < end:
        if end - at < _ENTRY.size:
            raise Damaged("a directory that does not parse")
        fields = _ENTRY.unpack_from(data, at)
        mark, flags, method, offset = fields[0], fields[3], fields[4], fields[16]
        crc, packed_size, size, named, extra, comment = fields[7:13]
        name_at, extra_at = at + _ENTRY.size, at + _ENTRY.size + named
        at = extra_at + extra + comment
        if mark != b"PK\1\2" or at > end:
            raise Damaged("a directory that does not parse")
        if _MAX32 in (packed_size, size, offset):
            size, packed_size, offset = _sizes64(
                data[extra_at : extra_at + extra], [size, packed_size, offset]
            )
        name = bytes(data[name_at:extra_at])
        entries.append(_Entry(name, flags, method, crc, packed_size, size, offset))
    return entries


def _sizes64(extra: memoryview, values: list[int]) -> list[int]:
    """Fill in from the extra field what does not fit into 32 bits."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = struct.iter_unpack("<Q", extra[4 : 4 + length][: length - length % 8])
            return [next(wide, (value,))[0] if value == _MAX32 else value for value in values]
        extra = extra[4 + length :]
    return values


def _member(data: memoryview, entry: _Entry, limit: int) -> Member:
    """What an entry points to; `limit` is where the directory starts."""
    at = entry.offset
    if at + _LOCAL.size > limit:
        raise Damaged("a directory that points beside a member")
    mark, _, flags, method, _, _, crc, _, _, named, extra = _LOCAL.unpack_from(data, at)
    start = at + _LOCAL.size + named + extra
    end = start + entry.packed_size
    if mark != b"PK\3\4" or end > limit:
        raise Damaged("a directory that points beside a member")
    same = bytes(data[at + _LOCAL.size : start - extra]) == entry.raw_name
    if not same or (flags, method) != (entry.flags, entry.method):
        raise Damaged("a directory that disagrees with a member")
    if not flags & _SIZES_FOLLOW and crc != entry.crc32:
        raise Damaged("a directory that disagrees with a member")
    name = _name(entry)
    if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
        raise Damaged(f"{name!r} is encrypted, or packed in a way numpy never uses")
    if entry.size > entry.packed_size * (1 if method == _STORED else _BEST_RATIO):
        raise Damaged(f"{name!r} cannot unpack to {entry.size} bytes")
    return Member(name, entry.size, entry.crc32, method == _DEFLATED, data[start:end])


def _name(entry: _Entry) -> str:
    try:
        return entry.raw_name.decode("utf-8" if entry.flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise Damaged("a member whose name is no text") from None


# --- writing ---------------------------------------------------------------------------------------------


class _File(Protocol):
    def write(self, data: Any, /) -> object: ...


class ZipWriter:
    """Writes an archive front to back, without seeking. Memory: the packed bytes of one member at a time.

    Args:
        file: a binary file whose `write` takes everything; the archive starts at its first byte.
        compress: deflate the members, instead of storing them so that they can be read as views.
    """

    def __init__(self, file: _File, *, compress: bool = False) -> None:
        self._file = file
        self._compress = compress
        self._at = 0
        self._entries: list[_Entry] = []

    def add(self, name: str, *parts: Any) -> None:
        """Write one member, its bytes given in parts with the buffer interface."""
        size = sum(map(_size, parts))
        if size < _SMALL:
            parts = (b"".join(parts),)  # one thing to sum up and to write
        crc = 0
        for part in parts:
            crc = zlib_ng.crc32(part, crc)
        packed = _deflated(parts) if self._compress else parts
        raw_name = name.encode()
        entry = _Entry(
            raw_name,
            flags=0 if raw_name.isascii() else _UTF8,
            method=_DEFLATED if self._compress else _STORED,
            crc32=crc,
            packed_size=sum(map(_size, packed)) if self._compress else size,
            size=size,
            offset=self._at,
        )
        self._entries.append(entry)
        self._write(self._local_header(entry))
        for part in packed:
            self._write(part)

    def close(self) -> None:
        """Write the directory. The file itself stays open."""
        start = self._at
        self._write(b"".join(map(_directory_entry, self._entries)))
        count, end = len(self._entries), self._at
        if count >= _MAX16 or end >= _MAX32:
            self._write(_END64.pack(b"PK\6\6", 44, 45, 45, 0, 0, count, count, end - start, start))
            self._write(_LOCATOR64.pack(b"PK\6\7", 0, end, 1))
        short = min(count, _MAX16)
        self._write(_END.pack(b"PK\5\6", 0, 0, short, short, min(end - start, _MAX32), min(start, _MAX32), 0))

    def _write(self, part: Any) -> None:
        self._file.write(part)
        self._at += _size(part)

    def _local_header(self, entry: _Entry) -> bytes:
        large = max(entry.size, entry.packed_size) >= _MAX32
        extra = struct.pack("<2H2Q", 1, 16, entry.size, entry.packed_size) if large else b""
        unaligned = self._at + _LOCAL.size + len(entry.raw_name) + len(extra)
        padding = -unaligned % _ALIGN
        if padding:
            # The field that Android's zipalign uses: the alignment, then zeros.
            padding += _ALIGN if padding < 6 else 0
            extra += struct.pack("<3H", _ALIGNMENT_FIELD, padding - 4, _ALIGN) + bytes(padding - 6)
        header = _LOCAL.pack(
            b"PK\3\4",
            45 if large else 20,
            entry.flags,
            entry.method,
            0,
            _YEAR_1980,
            entry.crc32,
            _MAX32 if large else entry.packed_size,
            _MAX32 if large else entry.size,
            len(entry.raw_name),
            len(extra),
        )
        return header + entry.raw_name + extra


def _size(part: Any) -> int:
    """Bytes."""
    return len(part) if type(part) is bytes else memoryview(part).nbytes


def _directory_entry(entry: _Entry) -> bytes:
    wide = [value for value in (entry.size, entry.packed_size, entry.offset) if value >= _MAX32]
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = 45 if wide else 20
    header = _ENTRY.pack(
        b"PK\1\2",
        3 << 8 | version,  # made on Unix, for the modes below
        version,
        entry.flags,
        entry.method,
        0,
        _YEAR_1980,
        entry.crc32,
        min(entry.packed_size, _MAX32),
        min(entry.size, _MAX32),
        len(entry.raw_name),
        len(extra),
        0,
        0,
        0,
        0o100644 << 16,
        min(entry.offset, _MAX32),
    )
    return header + entry.raw_name + extra


def _deflated(parts: tuple[Any, ...]) -> list[bytes]:
    packer = zlib_ng.compressobj(wbits=-zlib_ng.MAX_WBITS)
    packed = []
    for part in parts:
        view = memoryview(part).cast("B")
        # In pieces, so that Ctrl-C is heard in between.
        packed += [packer.compress(view[at : at + _CHUNK]) for at in range(0, len(view), _CHUNK)]
    return [*packed, packer.flush()]
