"""Reading files whole: into memory, mapped, as text; and their check sums."""

from __future__ import annotations

import errno
import functools
import os
import stat
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    from smm import _numpy as np

_MUCH = 1 << 12
_SMALL = 1 << 13
_PIECE = 1 << 19
_BUFFER = 1 << 17
# Without waiting for a pipe that someone has put in a file's place.
_TO_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def read_whole(path: str) -> tuple[NDArray[np.uint8], os.stat_result, int]:
    """All bytes of a file, in writable memory of their own, what the file looked like, and its check sum.

    Raises:
        FileNotFoundError: there is nothing, or no file.
        OSError: it cannot be read.
    """
    descriptor, status = _opened(path)
    try:
        content = _memory(status.st_size)
        view = content.data
        total = filled = 0
        # Piece by piece, so that each is summed up while it is in the processor's cache.
        while filled < len(view) and (count := os.readv(descriptor, [view[filled : filled + _PIECE]])):
            total = crc32(view[filled : filled + count], total)
            filled += count
        return content[:filled] if filled < len(view) else content, status, total
    finally:
        os.close(descriptor)


def _memory(size: int) -> NDArray[np.uint8]:
    """Memory to read a file into."""
    if size < _PIECE:
        return np.empty(size, np.uint8)
    # Large memory begins 16 bytes behind the start of a page; to copy a page there takes half as long again.
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def map_whole(path: str) -> tuple[Any, os.stat_result]:
    """All bytes of a file, in memory that is read from the disk when it is touched, and read-only.

    It stays as it is when the file is replaced or removed; who cuts the file short in its place ends every
    process that touches what was behind. Where nothing more can be mapped, the file is read.

    Raises:
        FileNotFoundError: there is nothing, or no file.
        OSError: it cannot be read.
    """
    import mmap

    descriptor, status = _opened(path)
    try:
        if status.st_size == 0:
            return b"", status
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)), status
    except OSError as error:
        # Each mapping keeps a descriptor; and not every file system has any.
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV):
            raise
    finally:
        os.close(descriptor)
    return read_whole(path)[:2]


def read_bytes(path: str) -> tuple[bytes, os.stat_result, int]:
    """As `read_whole`, as plain bytes, for what needs no memory that can be written to."""
    descriptor, status = _opened(path)
    try:
        # One byte more, to see in the same call that there is no more.
        content = os.read(descriptor, status.st_size + 1)
        if len(content) != status.st_size:
            while more := os.read(descriptor, _BUFFER):
                content += more
        return content, status, crc32(content)
    finally:
        os.close(descriptor)


def read_text(path: str) -> str:
    """The text of a small file, UTF-8.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    descriptor = os.open(path, _TO_READ)
    try:
        content = os.read(descriptor, _SMALL)
        if len(content) == _SMALL:
            while more := os.read(descriptor, _BUFFER):
                content += more
        return content.decode()
    finally:
        os.close(descriptor)


def _opened(path: str) -> tuple[int, os.stat_result]:
    descriptor = os.open(path, _TO_READ)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "Not a file", path)
    return descriptor, status


def crc32(data: Any, total: int = 0) -> int:
    """As `zlib.crc32`, and of much data five times as fast."""
    return zlib.crc32(data, total) if len(data) < _MUCH else _crc32_of_much()(data, total)


@functools.cache
def _crc32_of_much() -> Callable[[Any, int], int]:
    from zlib_ng import zlib_ng  # which little data needs no import of

    return zlib_ng.crc32


def crc32_of_file(path: str) -> int:
    """The check sum of a file's bytes, read piece by piece."""
    total, piece = 0, bytearray(_BUFFER)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(piece):
            total = crc32(memoryview(piece)[:count], total)
    return total
