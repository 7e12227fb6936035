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

from smm._folders import OWN_FOLDER as OWN_FOLDER
from smm._folders import (
    TEMPORARY,
    OwnFolder,
    check_own_folder,
    flush_to_disk,
    make_own_folder,
    not_a_folder,
    to_disk,
)
from smm._reading import close, crc32, crc32_of_open, have_same_bytes, name_place, open_file
from smm.errors import MetricNameError, NameTypeError
from smm.metric import Stamp

_ASIDE = os.path.join(OWN_FOLDER, TEMPORARY)

LONGEST_FILE_NAME = 255
"""Bytes; the limit of every common file system."""

_TO_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_BY_EFFECTIVE_ID = os.access in os.supports_effective_ids
_DAY_NS = 24 * 3600 * 10**9
_BUFFER = 1 << 17


# --- names -----------------------------------------------------------------------------------------------

_PLAIN_STEM = re.compile(r"[A-Za-z0-9_~=+,-][A-Za-z0-9._~=+,-]*")
_ENCODED_STEM = r"(?:[A-Za-z0-9._~=+,-]|%[0-9A-F]{2})+"
_ENCODED = r"[^A-Za-z0-9._~=+,-]|^\."


def check_type(name: object) -> None:
    """Refuse a metric's name that is no str.

    Raises:
        NameTypeError: it is none.
    """
    if not isinstance(name, str):
        reason = f"is of class {type(name).__name__}, not str; give the name of a metric"
        raise NameTypeError(name=repr(name), reason=reason)


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
    to leave it alone. Every OSError names the file.

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
        self._aside: OwnFolder | None = None  # until the file is made
        self._name = ""  # the same
        self._descriptor = -1
        self._pending = bytearray()  # small parts, to be written together
        self._written = False
        self._crc32 = 0

    @property
    def path(self) -> str:
        """Path of the temporary file, made now if need be; for writers that open files themselves."""
        return f"{self._made_aside().path}/{self._name}"

    def make(self) -> None:
        """Make the temporary file now, which stays locked then until it is published.

        Raises:
            OSError: it cannot be made.
        """
        self._made_aside()

    def set_times(self, status: os.stat_result) -> None:
        """Give the finished file the times of another one.

        Raises:
            OSError: it cannot have them.
        """
        try:
            os.utime(self._descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
        except OSError as error:
            raise name_place(error, self.path) from None

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
        """End the writing, and return what the file looks like; to be called once.

        Raises:
            StoreFileError: who opened the file by its path has put something else there.
            OSError: the disk is full; here at the latest.
        """
        if not self._written:
            return self._finish_written_by_path()
        brief = self._aside is None  # all of it is still here
        if brief:
            self._make(brief=True)
        self._flush()
        try:
            if self._fsync:
                flush_to_disk(self._descriptor)
            status = os.fstat(self._descriptor)
            # Network file systems tell of a full disk when a descriptor closes; a lock needs this one open.
            if brief:
                # First: what fails to close is closed all the same, and its number may be another's soon.
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)
            else:
                os.close(os.dup(self._descriptor))
        except OSError as error:
            raise name_place(error, self.path) from None
        return Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, crc32=self._crc32)

    def _finish_written_by_path(self) -> Stamp:
        aside, path = self._made_aside(), self.path
        # By its name: who opened it by its path may have put another file there.
        descriptor, _ = open_file(path, within=aside.descriptor)
        try:
            total = crc32_of_open(descriptor, path)
            if self._fsync:
                flush_to_disk(descriptor)
            status = os.fstat(descriptor)
        except OSError as error:
            raise name_place(error, path) from None
        finally:
            close(descriptor, path)
        return Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, crc32=total)

    def has_bytes_of(self, path: str) -> bool:
        """Return whether the finished file has the very bytes of another one.

        Raises:
            StoreFileError: there is no regular file.
            OSError: it is not there, or cannot be read.
        """
        return have_same_bytes(self.path, path, within=self._made_aside().descriptor)

    def publish(self, target: str, *, last: bool = True, into: OwnFolder | None = None) -> None:
        """Move the finished file to `target`, in place of a file or link there.

        Args:
            target: in the folder it was made for; with `into`, a name in that folder.
            last: whether nothing follows that will bring the folder to the disk; matters for `fsync`.
            into: one of smm's own folders of the same store.

        Raises:
            OSError: it stays where it was, or with `fsync`, may not have reached the disk.
        """
        aside = self._made_aside()
        try:
            self._flush()
            _move(aside, self._name, target, into)
        except BaseException:
            self.discard()
            raise
        self._name = ""
        self.discard()
        if self._fsync and last:
            if into is None:
                to_disk(os.path.dirname(target))
            else:
                into.sync()

    def discard(self) -> None:
        """Remove the temporary file; fine if it is published, was never made, or is gone."""
        aside, self._aside = self._aside, None
        if aside is None:
            return
        name, self._name = self._name, ""
        descriptor, self._descriptor = self._descriptor, -1
        with aside:
            try:
                if name:
                    aside.remove(name)
            finally:
                if descriptor >= 0:
                    close(descriptor, f"{aside.path}/{name}")

    def _made_aside(self) -> OwnFolder:
        """Return the open folder of the temporary file, which is made if need be."""
        return self._aside or self._make()

    def _make(self, *, brief: bool = False) -> OwnFolder:
        name = _unused_name() + self._ending
        aside, self._descriptor = _made(name, self._folder, fsync=self._fsync)
        self._aside, self._name = aside, name
        if not brief:
            with contextlib.suppress(OSError):  # a file system without locks; its old files stay
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if aside.path not in _swept:
            try:
                now_ns = os.fstat(self._descriptor).st_mtime_ns
            except OSError as error:
                raise name_place(error, f"{aside.path}/{name}") from None
            _sweep_once(aside, now_ns=now_ns)
        return aside

    def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self._put(pending)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            aside = self._made_aside()
            self._crc32 = crc32(data, self._crc32)
            _write_all(self._descriptor, data, f"{aside.path}/{self._name}")


def write_small(folder: str, target: str, content: bytes, *, fsync: bool = False) -> None:
    """Write a small file of a folder in one step, in place of one that is there.

    As a small `NewFile` does, in fewer steps: nobody notes what a side-car looks like.

    Raises:
        OSError: it could not be written; what was there is as it was.
    """
    name = _unused_name()
    aside, descriptor = _made(name, folder, fsync=fsync)
    with aside:
        path = f"{aside.path}/{name}"
        try:
            try:
                _write_all(descriptor, content, path)
                if fsync:
                    flush_to_disk(descriptor)
            finally:
                os.close(descriptor)  # where network file systems tell of a full disk
            _move(aside, name, target, None)
        except BaseException as error:
            with contextlib.suppress(OSError):
                aside.remove(name)
            if isinstance(error, OSError) and error.filename is None:
                raise name_place(error, path) from None
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


def _made(name: str, folder: str, *, fsync: bool) -> tuple[OwnFolder, int]:
    """Make a temporary file, with its folders if they are missing; return its open folder and descriptor."""
    while True:
        aside = make_own_folder(folder, TEMPORARY, fsync=fsync)
        try:
            return aside, aside.open(name, _TO_MAKE)
        except FileNotFoundError:
            aside.close()  # deleted since it was opened
        except BaseException:
            aside.close()
            raise


def _move(aside: OwnFolder, name: str, target: str, into: OwnFolder | None) -> None:
    """Move a temporary file to its place, as of `NewFile.publish`."""
    try:
        os.replace(
            name, target, src_dir_fd=aside.descriptor, dst_dir_fd=None if into is None else into.descriptor
        )
    except OSError as error:
        error.filename2 = target if into is None else f"{into.path}/{target}"
        raise name_place(error, f"{aside.path}/{name}") from None


def _write_all(descriptor: int, data: bytes | bytearray | memoryview, path: str) -> None:
    try:
        written = os.write(descriptor, data)
        while written < len(data):  # over 2 GiB, or nearly over a limit, which the next attempt tells
            written += os.write(descriptor, memoryview(data)[written:])
    except OSError as error:
        raise name_place(error, path) from None


def check_folder(folder: str) -> None:
    """Raise what `NewFile` would raise because of the folder, as far as it can be known. Makes nothing.

    Raises:
        StoreFileError: `.smm`, or the folder for temporary files in it, is a link.
        NotADirectoryError: the folder, or one above it, is a file.
        PermissionError: the folder, or what smm needs in it, or the one it would be made in, is read-only.
    """
    check_own_folder(folder)
    if _is_writable(f"{folder}/{_ASIDE}") and _is_writable(folder):
        return
    nearest = folder
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    own = os.path.join(folder, OWN_FOLDER)
    for path in (nearest, own, os.path.join(own, TEMPORARY)):
        if not os.path.lexists(path):
            continue
        if not os.path.isdir(path):
            raise not_a_folder(path)
        if not _is_writable(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _is_writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=_BY_EFFECTIVE_ID)


def remove_file(path: str, *, fsync: bool = False) -> None:
    """Remove a file; fine if it is not there."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise name_place(error, path) from None
    if fsync:
        to_disk(os.path.dirname(path))


# --- sweeping --------------------------------------------------------------------------------------------

_TEMPORARY = re.compile(r"[0-9a-f]{32}(?:\.[A-Za-z0-9._~=+,-]*)?")

_swept: set[str] = set()


def is_temporary(name: str) -> bool:
    """Return whether a file in `.smm/tmp` has a name as smm gives it, or one that begins with such a name."""
    return _TEMPORARY.fullmatch(name) is not None


def _sweep_once(aside: OwnFolder, *, now_ns: int) -> None:
    """Remove what killed processes left a day ago or earlier; to be called once per process and directory.

    Args:
        aside: the folder of temporary files.
        now_ns: by the clock of its file system, which may be another machine's.
    """
    _swept.add(aside.path)
    with contextlib.suppress(OSError):
        for entry in aside.entries():
            if is_temporary(entry.name):
                with contextlib.suppress(OSError):
                    if now_ns - entry.stat(follow_symlinks=False).st_mtime_ns > _DAY_NS:
                        _remove_unless_locked(aside, entry.name)


def _remove_unless_locked(aside: OwnFolder, name: str) -> None:
    """Remove a temporary file, unless its writer lives, or it is no regular file.

    Raises:
        OSError: its writer lives, or someone else's file cannot be opened.
    """
    descriptor = aside.open(name, os.O_RDWR | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside.remove(name)
    finally:
        os.close(descriptor)
