"""Reading the files of a store: into memory, mapped, as text; and their check sums.

`open_file` opens every one of them. What lies in a file's place may be a pipe that nobody writes to, a device
without end, or a link to one: it is not waited for, and nothing but a regular file is read.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smm._warn import warn_user
from smm.errors import StoreFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    from smm import _numpy as np

RECORD_LIMIT = 64 << 20
"""Bytes that a side-car may have, or the source of a definition; a usual one has a thousand."""
LOG_LIMIT = 1 << 30
"""Bytes that a run's log may have, or the note of a renaming: some hundred for each row."""

_MUCH = 1 << 12
_PIECE = 1 << 19
_BUFFER = 1 << 17
_TO_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


# --- opening ---------------------------------------------------------------------------------------------


def open_file(
    path: str, *, limit: int | None = None, within: int | None = None
) -> tuple[int, os.stat_result]:
    """Open a regular file for reading, without waiting; return its descriptor, and what it looks like.

    Args:
        path: of the file.
        limit: how many bytes it may have.
        within: descriptor of the folder that the file is in, where a link is not followed. Without it, a link
            to a regular file is: results are linked to by those who keep them elsewhere.

    Raises:
        StoreFileError: there is no regular file, or one of more than `limit` bytes.
        OSError: there is nothing, or it may not be read.
    """
    try:
        if within is None:
            descriptor = os.open(path, _TO_READ)
        else:
            descriptor = os.open(os.path.basename(path), _TO_READ | os.O_NOFOLLOW, dir_fd=within)
    except OSError as error:
        if error.errno == errno.ELOOP and within is not None:
            raise irregular(path, "a link, which smm does not follow", "remove it") from None
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket, or a device that is not there
            raise irregular(path, "no file") from None
        raise name_place(error, path) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise irregular(path, kind_of(status))
        if limit is not None and status.st_size > limit:
            raise irregular(path, f"a file of {status.st_size:,} bytes, and may have {limit:,}")
    except OSError as error:
        os.close(descriptor)
        raise name_place(error, path) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def irregular(path: str, found: str, way_out: str = "move it away") -> StoreFileError:
    """Return the error for what smm neither follows nor reads."""
    from pathlib import Path

    return StoreFileError(path=Path(path), found=found, way_out=way_out)


def kind_of(status: os.stat_result) -> str:
    """Return in words what something is, `a folder`."""
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a link",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(status.st_mode), "no file")


def name_place(error: OSError, path: str) -> OSError:
    """Let an error of the operating system say what file or folder it is about; return it."""
    if not isinstance(error, StoreFileError):
        if error.errno is None:  # its text would give way to the path
            error.add_note(f"at {path}")
        else:
            error.filename = path
    return error


def close(descriptor: int, path: str) -> None:
    """Close a descriptor.

    Raises:
        OSError: the file system says so late that something failed; it names the file. The descriptor is
            closed all the same.
    """
    try:
        os.close(descriptor)
    except OSError as error:
        raise name_place(error, path) from None


def read_open(descriptor: int, status: os.stat_result, path: str, limit: int | None = None) -> bytes:
    """Return the content of an open file, and close it.

    Args:
        descriptor: as `open_file` gives it.
        status: as `open_file` gives it.
        path: of the file.
        limit: how many bytes it may have, though it may have grown meanwhile.

    Raises:
        StoreFileError: it has more.
        OSError: it cannot be read.
    """
    try:
        try:
            # One byte more, to see in the same call that there is no more.
            content = os.read(descriptor, status.st_size + 1)
            if len(content) != status.st_size:
                while more := os.read(descriptor, _BUFFER):
                    content += more
                    if limit is not None and len(content) > limit:
                        raise irregular(path, f"a file of more than {limit:,} bytes")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise name_place(error, path) from None
    return content


# --- what is said of them --------------------------------------------------------------------------------

_said: set[str] = set()
"""Paths that a warning has named."""


def warn_of(error: StoreFileError, consequence: str) -> None:
    """Warn of something that is no file or folder of a store; once a process and path.

    Args:
        error: names it.
        consequence: what follows from it, as a clause.

    Warns:
        SmmWarning: always, the first time.
    """
    path = str(error.path)
    if path not in _said:
        _said.add(path)
        warn_user(f"{path} is {error.found}: {consequence}; {error.way_out}")


def warn_of_damage(name: str, where: str, error: Exception) -> None:
    """Warn of a side-car that is no record.

    Args:
        name: the metric's.
        where: its file, or the storage it is in.
        error: why it cannot be read.

    Warns:
        SmmWarning: always; Python shows the same text once.
    """
    warn_user(
        f"the side-car of metric {name!r} in {where} is damaged ({error}): it counts as missing, and is "
        "replaced when the metric is computed again"
    )


# --- reading ---------------------------------------------------------------------------------------------


def read_whole(path: str) -> tuple[NDArray[np.uint8], os.stat_result, int]:
    """All bytes of a file, in writable memory of their own, what the file looked like, and its check sum.

    Raises:
        StoreFileError: there is no regular file.
        OSError: there is nothing, or it cannot be read.
    """
    descriptor, status = open_file(path)
    try:
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
    except OSError as error:
        raise name_place(error, path) from None


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
        StoreFileError: there is no regular file.
        OSError: there is nothing, or it cannot be read.
    """
    import mmap

    descriptor, status = open_file(path)
    try:
        if status.st_size == 0:
            return b"", status
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)), status
    except OSError as error:
        # Each mapping keeps a descriptor; and not every file system has any.
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV):
            raise name_place(error, path) from None
    finally:
        close(descriptor, path)
    return read_whole(path)[:2]


def read_bytes(path: str) -> tuple[bytes, os.stat_result, int]:
    """As `read_whole`, as plain bytes, for what needs no memory that can be written to."""
    descriptor, status = open_file(path)
    content = read_open(descriptor, status, path)
    return content, status, crc32(content)


def read_text(path: str, limit: int) -> str:
    """Return the text of a small file, UTF-8.

    Raises:
        StoreFileError: there is no regular file, or one of more than `limit` bytes.
        OSError: there is nothing, or it cannot be read.
        UnicodeDecodeError: it is no text.
    """
    descriptor, status = open_file(path, limit=limit)
    return read_open(descriptor, status, path, limit).decode()


def crc32(data: Any, total: int = 0) -> int:
    """As `zlib.crc32`, and of much data five times as fast."""
    return zlib.crc32(data, total) if len(data) < _MUCH else _crc32_of_much()(data, total)


@functools.cache
def _crc32_of_much() -> Callable[[Any, int], int]:
    from zlib_ng import zlib_ng  # which little data needs no import of

    return zlib_ng.crc32


def crc32_of_file(path: str) -> int:
    """Return the check sum of a file's bytes, read piece by piece; raises as `open_file`."""
    descriptor, _ = open_file(path)
    try:
        return crc32_of_open(descriptor, path)
    finally:
        close(descriptor, path)


def crc32_of_open(descriptor: int, path: str) -> int:
    """Return the check sum of what is still to be read of an open file; `path` is for errors."""
    total, piece = 0, bytearray(_BUFFER)
    try:
        while count := os.readv(descriptor, [piece]):
            total = crc32(memoryview(piece)[:count], total)
    except OSError as error:
        raise name_place(error, path) from None
    return total


def have_same_bytes(one: str, other: str, *, within: int | None = None) -> bool:
    """Return whether two files have the same bytes, read piece by piece.

    Args:
        one: the path of the one.
        other: the path of the other.
        within: of the folder that `one` is in, as of `open_file`.

    Raises:
        StoreFileError: one of them is no regular file.
        OSError: one of them is not there, or cannot be read.
    """
    first, status = open_file(one, within=within)
    try:
        second, other_status = open_file(other)
        try:
            if status.st_size != other_status.st_size:
                return False
            while piece := read_piece(first, one):
                if piece != read_piece(second, other, len(piece)):
                    return False
            return not read_piece(second, other)
        finally:
            close(second, other)
    finally:
        close(first, one)


def read_piece(descriptor: int, path: str, size: int = _BUFFER) -> bytes:
    """Read on in an open file; `path` is for errors.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return os.read(descriptor, size)
    except OSError as error:
        raise name_place(error, path) from None
