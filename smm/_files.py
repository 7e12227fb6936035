"""Files that are whole or not there: names for metrics, atomic writing.

A file is written in `<folder>/.smm/tmp/` and moved over the real one. What a killed process leaves there is
swept by a later one; everything else removes its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from typing import Any

from smm._reading import crc32, crc32_of_file
from smm.errors import MetricNameError
from smm.metric import Stamp

OWN_FOLDER = ".smm"
"""Within each folder of results, what smm needs besides them; deleting it loses no result."""

_ASIDE = os.path.join(OWN_FOLDER, "tmp")

LONGEST_FILE_NAME = 255
"""Bytes; the limit of every common file system."""

_TO_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BY_EFFECTIVE_ID = os.access in os.supports_effective_ids
_DAY_NS = 24 * 3600 * 10**9
_BUFFER = 1 << 17


# --- names -----------------------------------------------------------------------------------------------

_PLAIN_STEM = re.compile(r"[A-Za-z0-9_~=+,-][A-Za-z0-9._~=+,-]*")
_ENCODED_STEM = r"(?:[A-Za-z0-9._~=+,-]|%[0-9A-F]{2})+"
_ENCODED = r"[^A-Za-z0-9._~=+,-]|^\."


def file_stem(name: str, *, longest_ending: int) -> str:
    """A metric's name as the first part of a file name; different names give different stems.

    Everything outside `[A-Za-z0-9._~=+,-]`, and a dot at the start, is percent-encoded as UTF-8, so that no
    name leaves the folder or hides in it.

    Args:
        name: the metric's.
        longest_ending: bytes that the longest ending of its files needs.

    Raises:
        MetricNameError: the name is empty, no valid Unicode, or makes a file name of over 255 bytes.
    """
    try:
        stem = name if _PLAIN_STEM.fullmatch(name) else re.sub(_ENCODED, _percent, name)
    except UnicodeEncodeError:
        raise MetricNameError(
            name=name, reason="has a character that no file name can hold (a lone surrogate); leave it out"
        ) from None
    if not stem:
        raise MetricNameError(name=name, reason="is empty; give the metric a name")
    longest = LONGEST_FILE_NAME - longest_ending
    if len(stem) > longest:
        raise MetricNameError(
            name=name,
            reason=f"takes {len(stem)} bytes as a file name, {longest} at most; shorten it, "
            "with base_name or a name_generation_function",
        )
    return stem


def name_of_stem(stem: str) -> str | None:
    """The metric name of which `file_stem` makes `stem`; None if there is none."""
    if _PLAIN_STEM.fullmatch(stem):
        return stem
    if not re.fullmatch(_ENCODED_STEM, stem):
        return None
    from urllib.parse import unquote_to_bytes

    try:
        name = unquote_to_bytes(stem).decode()
    except UnicodeDecodeError:
        return None
    return name if re.sub(_ENCODED, _percent, name) == stem else None


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


# --- writing ---------------------------------------------------------------------------------------------


class NewFile:
    """A file that is written aside and then moved into place, whole.

    Nothing is made before the first bytes go out, or a look at `path`, so that a refused value leaves no
    trace. The temporary file has a name no one can guess, and its mode follows the umask. One that is not
    written in a single go stays locked (`flock`) while it lives, which tells the sweeper of another process
    to leave it alone.

    Used by one thread. It ends with `publish` or `discard`.

    Args:
        folder: where it will lie; made if missing, or if someone has deleted it since.
        ending: of the temporary file's name, because some writers (`np.save`) insist on theirs.
        fsync: make what `publish` did survive a power failure.
    """

    def __init__(self, folder: str, ending: str, *, fsync: bool = False) -> None:
        self._folder = folder
        self._ending = ending
        self._fsync = fsync
        self._path = ""  # until the file is made
        self._descriptor = -1
        self._pending = bytearray()  # small parts, to be written together
        self._written = False
        self._crc32 = 0

    @property
    def path(self) -> str:
        """Of the temporary file, made now if need be; for writers that open files themselves."""
        if not self._path:
            self._make()
        return self._path

    def write(self, data: Any) -> None:
        """Add bytes, from anything with the buffer interface; nothing of it is kept.

        Raises:
            OSError: the disk is full, or whatever else keeps a file from being written.
        """
        self._written = True
        view = data if type(data) is bytes else memoryview(data).cast("B")
        if len(view) >= _BUFFER:
            self._flush()
            self._put(view)
            return
        self._pending += view
        if len(self._pending) >= _BUFFER:
            self._flush()

    def finish(self) -> Stamp:
        """End the writing, and say what the file looks like; to be called once.

        Raises:
            OSError: the disk is full; here at the latest.
        """
        if not self._written:
            total = crc32_of_file(self.path)
            if self._fsync:
                to_disk(self.path)
            status = os.stat(self._path)  # who opened it by its path may have put another file there
            return Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, crc32=total)
        brief = not self._path  # all of it is still here
        if brief:
            self._make(brief=True)
        self._flush()
        if self._fsync:
            _sync(self._descriptor)
        status = os.fstat(self._descriptor)
        # Network file systems tell of a full disk when a descriptor closes; a lock needs this one open.
        if brief:
            self._close()
        else:
            os.close(os.dup(self._descriptor))
        return Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, crc32=self._crc32)

    def publish(self, target: str, *, last: bool = True) -> None:
        """Move the finished file to `target`, in place of a file or link there.

        Args:
            target: in the folder it was made for.
            last: whether nothing follows that will bring the folder to the disk; matters for `fsync`.

        Raises:
            OSError: it stays where it was, or with `fsync`, may not have reached the disk.
        """
        try:
            self._flush()
            os.replace(self._path, target)
        except BaseException:
            self.discard()
            raise
        self._path = ""
        self._close()
        if self._fsync and last:
            to_disk(os.path.dirname(target))

    def discard(self) -> None:
        """Remove the temporary file; fine if it is published, was never made, or is gone."""
        path, self._path = self._path, ""
        if path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._close()

    def _make(self, *, brief: bool = False) -> None:
        directory = f"{self._folder}/{_ASIDE}"
        path = f"{directory}/{_unused_name()}{self._ending}"
        self._descriptor = _made(path, self._folder, fsync=self._fsync)
        self._path = path
        if not brief:
            with contextlib.suppress(OSError):  # a file system without locks; its old files stay
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if directory not in _swept:
            _sweep_once(directory, now_ns=os.fstat(self._descriptor).st_mtime_ns)

    def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self._put(pending)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            if self._descriptor < 0:
                self._make()
            self._crc32 = crc32(data, self._crc32)
            _write_all(self._descriptor, data)

    def _close(self) -> None:
        # First: what fails to close is closed all the same, and its number may be another file's by now.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def write_small(folder: str, target: str, content: bytes, *, fsync: bool = False) -> None:
    """Write a small file of a folder in one step, in place of one that is there.

    As a small `NewFile` does, in fewer steps: nobody notes what a side-car looks like.

    Raises:
        OSError: it could not be written; what was there is as it was.
    """
    path = f"{folder}/{_ASIDE}/{_unused_name()}"
    descriptor = _made(path, folder, fsync=fsync)
    try:
        try:
            _write_all(descriptor, content)
            if fsync:
                _sync(descriptor)
        finally:
            os.close(descriptor)  # where network file systems tell of a full disk
        os.replace(path, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    if fsync:
        to_disk(folder)


_unused_names: list[str] = []
_AT_ONCE = 128


def _unused_name() -> str:
    """For a temporary file: one that no one can guess, drawn with others since drawing is a system call."""
    while True:
        try:
            return _unused_names.pop()
        except IndexError:
            drawn = os.urandom(16 * _AT_ONCE).hex()
            _unused_names.extend(drawn[at : at + 32] for at in range(0, len(drawn), 32))


os.register_at_fork(after_in_child=_unused_names.clear)  # its names would be the parent's, too


def _made(path: str, folder: str, *, fsync: bool) -> int:
    """A descriptor of a new temporary file, its folders made if they are missing."""
    try:
        return os.open(path, _TO_MAKE, 0o666)
    except FileNotFoundError:
        make_folders(folder, fsync=fsync)
        return os.open(path, _TO_MAKE, 0o666)


def _write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    written = os.write(descriptor, data)
    while written < len(data):  # over 2 GiB, or nearly over a limit, which the next attempt tells
        written += os.write(descriptor, memoryview(data)[written:])


def make_folders(folder: str, *, fsync: bool = False) -> None:
    """Make a folder of results, those above it, and `.smm/tmp` inside, where they are missing.

    `.smm` gets the mode of the folder it is in, so that a group that shares the one can share the other.

    Raises:
        NotADirectoryError: the folder, or one above it, is a file.
        OSError: it cannot be made.
    """
    missing, above = [], folder
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise _not_a_folder(folder) from None
    if fsync:
        for made in missing:
            to_disk(os.path.dirname(made))
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    for own in (OWN_FOLDER, os.path.join(OWN_FOLDER, "tmp")):
        path = os.path.join(folder, own)
        try:
            os.mkdir(path)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):  # not every file system has modes
            os.chmod(path, mode)


def check_folder(folder: str) -> None:
    """Raise what `NewFile` would raise because of the folder, as far as it can be known. Makes nothing.

    Raises:
        NotADirectoryError: the folder, or one above it, is a file.
        PermissionError: the folder, or what smm needs in it, or the one it would be made in, is read-only.
    """
    if _is_writable(f"{folder}/{_ASIDE}") and _is_writable(folder):
        return
    nearest = folder
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    own = os.path.join(folder, OWN_FOLDER)
    for path in (nearest, own, os.path.join(own, "tmp")):
        if not os.path.lexists(path):
            continue
        if not os.path.isdir(path):
            raise _not_a_folder(path)
        if not _is_writable(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _is_writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=_BY_EFFECTIVE_ID)


def _not_a_folder(path: str) -> NotADirectoryError:
    """The error, naming what lies in the folder's place."""
    return NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def remove_file(path: str, *, fsync: bool = False) -> None:
    """Remove a file; fine if it is not there."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if fsync:
        to_disk(os.path.dirname(path))


def to_disk(path: str) -> None:
    """Wait until what was written to a file or folder survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, whose fsync stops at the disk's own cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


# --- sweeping --------------------------------------------------------------------------------------------

_swept: set[str] = set()


def _sweep_once(directory: str, *, now_ns: int) -> None:
    """Remove what killed processes left a day ago or earlier; to be called once per process and directory.

    Args:
        directory: of temporary files.
        now_ns: by the clock of its file system, which may be another machine's.
    """
    _swept.add(directory)
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if now_ns - entry.stat(follow_symlinks=False).st_mtime_ns > _DAY_NS:
                    _remove_unless_locked(entry.path)


def _remove_unless_locked(path: str) -> None:
    """Remove a temporary file, unless its writer lives.

    Raises:
        OSError: it lives, or someone else's file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)
