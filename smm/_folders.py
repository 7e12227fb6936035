"""The folders of a store: the one of the results, and `.smm` in it, where no link is followed.

Whoever may write to a store could put a link in the place of `.smm`, or of a folder in it, and smm would
write, lock and delete files somewhere else. So each folder on the way is opened by itself, a link is refused,
and what lies in a folder is used through the folder's descriptor: who exchanges the folder meanwhile changes
nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from smm._reading import close, irregular, name_place, open_file, read_open, warn_of
from smm.errors import StoreFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

OWN_FOLDER = ".smm"
"""Within each folder of results, what smm needs besides them; deleting it loses no result."""

TEMPORARY = "tmp"
"""The folder in `.smm` where files are written before they are moved into place."""

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To use what is in a folder takes the right to search it; to list it, the right to read it as well.
_TO_SEARCH = _FOLDER | getattr(os, "O_PATH", os.O_RDONLY)
_TO_LIST = _FOLDER | os.O_RDONLY


class OwnFolder:
    """An open folder that is `.smm` or lies in it; to be closed, or used in a `with` block.

    Every OSError that it raises names the whole path.

    Args:
        path: the folder's, for messages.
        descriptor: of the open folder.
    """

    __slots__ = ("descriptor", "path")

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    def __enter__(self) -> OwnFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; fine if that is done already."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            close(descriptor, self.path)

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """Open or make a file in the folder and return its descriptor.

        Raises:
            StoreFileError: there is a link.
            OSError: as `os.open`.
        """
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.descriptor)
        except OSError as error:
            raise self._named(error, name) from None

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file in the folder.

        Raises:
            StoreFileError: it is no regular file, or has more than `limit` bytes.
            OSError: it is missing, or cannot be read.
        """
        path = f"{self.path}/{name}"
        descriptor, status = open_file(path, limit=limit, within=self.descriptor)
        return read_open(descriptor, status, path, limit)

    def status(self, name: str) -> os.stat_result | None:
        """Return what a regular file in the folder looks like; None if there is none of this name."""
        try:
            status = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._named(error, name) from None
        return status if stat.S_ISREG(status.st_mode) else None

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """List the folder; `stat(follow_symlinks=False)` works for an entry until the next is asked for."""
        try:
            descriptor = os.open(".", _TO_LIST, dir_fd=self.descriptor)
            try:
                with os.scandir(descriptor) as entries:
                    yield from entries
            finally:
                os.close(descriptor)
        except OSError as error:
            raise name_place(error, self.path) from None

    def remove(self, name: str) -> None:
        """Remove a file or link from the folder; fine if it is not there."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._named(error, name) from None

    def sync(self) -> None:
        """Wait until the folder's list of files survives a power failure."""
        try:
            descriptor = os.open(".", _TO_LIST, dir_fd=self.descriptor)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise name_place(error, self.path) from None

    def _named(self, error: OSError, name: str) -> OSError:
        path = f"{self.path}/{name}"
        if error.errno == errno.ELOOP:
            return irregular(path, "a link, which smm does not follow", "remove it")
        return name_place(error, path)


def open_own_folder(folder: str, below: str = "") -> OwnFolder:
    """Open `.smm` of a folder of results, or a folder in it.

    Args:
        folder: of results; it may be reached by links.
        below: the name of the folder in `.smm`; `.smm` itself by default.

    Raises:
        FileNotFoundError: it is not there.
        StoreFileError: it, or `.smm`, is a link.
        NotADirectoryError: it, or `.smm`, is a file.
        OSError: it may not be opened.
    """
    path = f"{folder}/{OWN_FOLDER}"
    descriptor = _open_folder(path, path, None)
    if not below:
        return OwnFolder(path, descriptor)
    inner = f"{path}/{below}"
    try:
        return OwnFolder(inner, _open_folder(inner, below, descriptor))
    finally:
        close(descriptor, path)


def make_own_folder(folder: str, below: str = "", *, fsync: bool = False) -> OwnFolder:
    """Open `.smm` or a folder in it, made if it is missing, with the folders above.

    A new one gets the mode and the group of `folder`, so that a group that shares the one shares the other.

    Args:
        folder: of results.
        below: as of `open_own_folder`.
        fsync: let `folder` survive a power failure, if it is made.

    Raises:
        StoreFileError: it, or `.smm`, is a link.
        NotADirectoryError: it, `.smm`, `folder` or one above is a file.
        OSError: it cannot be made.
    """
    while True:  # others may delete `.smm` at any time
        with contextlib.suppress(FileNotFoundError):
            return open_own_folder(folder, below)
        make_folder(folder, fsync=fsync)
        path = f"{folder}/{OWN_FOLDER}"
        _make_one(path, path, None, folder)
        if below:
            with contextlib.suppress(FileNotFoundError), open_own_folder(folder) as own:
                _make_one(f"{path}/{below}", below, own.descriptor, folder)


def make_folder(folder: str, *, fsync: bool = False) -> None:
    """Make a folder of results and those above it, where they are missing.

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
        raise not_a_folder(folder) from None
    except OSError as error:
        raise name_place(error, folder) from None
    if fsync:
        for made in missing:
            to_disk(os.path.dirname(made))


def check_own_folder(folder: str) -> None:
    """Raise what opening `.smm` and `.smm/tmp` for writing would raise because one of them is a link.

    Raises:
        StoreFileError: one of them is.
    """
    path = f"{folder}/{OWN_FOLDER}"
    try:
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            path = f"{path}/{TEMPORARY}"
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                return
    except OSError:
        return  # nothing there, or nothing that may be known
    raise _linked(path)


def share(descriptor: int, folder: str, most: int, least: int) -> None:
    """Give a new file or folder the group and the rights of `folder`, as far as one may.

    Args:
        descriptor: of what is new.
        folder: of results.
        most: the bits that it may have.
        least: the bits that it gets in any case.

    Raises:
        OSError: nothing can be known about `folder`.
    """
    status = os.stat(folder)
    with contextlib.suppress(OSError):
        os.fchown(descriptor, -1, status.st_gid)
    with contextlib.suppress(OSError):  # not every file system has modes
        os.fchmod(descriptor, status.st_mode & most | least)


def to_disk(path: str) -> None:
    """Wait until what was written to a file or folder survives a power failure.

    Raises:
        OSError: it could not be opened, or may not have reached the disk.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            flush_to_disk(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise name_place(error, path) from None


def flush_to_disk(descriptor: int) -> None:
    """Wait until what was written to an open file or folder survives a power failure."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, whose fsync stops at the disk's own cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def not_a_folder(path: str) -> NotADirectoryError:
    """Return the error that names what lies in a folder's place."""
    return NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _linked(path: str) -> StoreFileError:
    return irregular(
        path, "a link, which smm does not follow", "remove the link, and smm makes a folder there"
    )


def _open_folder(path: str, name: str, within: int | None, flags: int = _TO_SEARCH) -> int:
    """Open a folder that is no link; `path` is for messages, `name` relative to the folder `within`."""
    try:
        return os.open(name, flags, dir_fd=within)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and _is_link(name, within):
            raise _linked(path) from None
        raise name_place(error, path) from None


def _is_link(name: str, within: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _make_one(path: str, name: str, within: int | None, folder: str) -> None:
    """Make one of smm's own folders; fine if it is there."""
    try:
        os.mkdir(name, dir_fd=within)
    except FileExistsError:
        return
    except OSError as error:
        raise name_place(error, path) from None
    descriptor = _open_folder(path, name, within, _TO_LIST)
    try:
        share(descriptor, folder, 0o7777, 0o700)
    except OSError as error:
        raise name_place(error, folder) from None
    finally:
        close(descriptor, path)


_looked_at: set[str] = set()


def look_at(folder: str) -> None:
    """Look once a process whether the `.smm` of a folder that is read is a link.

    Warns:
        SmmWarning: it is; reading results needs nothing of it, so they are read all the same.
    """
    if folder in _looked_at:
        return
    _looked_at.add(folder)
    try:
        check_own_folder(folder)
    except StoreFileError as error:
        warn_of(error, "results are read, but none can be stored")
