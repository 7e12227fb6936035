"""Among the processes that share a folder, one computation of a metric at a time.

Each metric has a range of one byte in `<folder>/.smm/lock`, an empty file, at an offset its name gives. The
process that has locked the range computes; the kernel gives the range back when that process ends, however
it ends. Such POSIX ranges have habits that shape this module:

- They belong to the process, not to a thread. So threads first claim the name in `_LockFile.claims`, and
  only who has the claim asks the kernel.
- All are lost when the process closes any descriptor of the file. So there is one per file, found by device
  and inode, and it is closed only when nothing is held. Other code in the process that opens and closes the
  file (a backup of the folder) takes the locks away; then two processes may compute the same metric.
- A child made by fork has none of them. So it begins with empty tables; what its parent held, it asks for.
- The kernel knows no threads and sees circles where there are none. So waiting is asking again after growing
  pauses, and circles are looked for here: whoever holds `a` and waits for `b` announces that by a shared
  lock in the upper half of the file, at a place that both give, where others can ask for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from smm._folders import make_own_folder, share
from smm._reading import irregular, kind_of, warn_of
from smm._warn import warn_user
from smm.errors import StoreFileError

_SAY_AFTER_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.05

_IDLE_FILES = 16
"""How many descriptors stay open while nothing is held through them."""

Identity: TypeAlias = tuple[int, int]
"""Device and inode."""
Wait: TypeAlias = tuple[int, int]
"""Who is held and who is wanted, as 31 bits each (`FolderLock.node`)."""
_NODE_BITS = 31
_NODES = 1 << _NODE_BITS
_ANNOUNCEMENTS = 1 << 62
"""Below lie the names' ranges, from here on the announced waits."""
_LONGEST_RUN = 1000
"""Neighbouring locks of one process show as one; a longer one is not of this module's making."""

_TAKEN = {errno.EACCES, errno.EAGAIN}
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EOVERFLOW}
"""What file systems answer that have no locks, or none at such offsets."""

# `struct flock`, for the one question fcntl has no function for.
_DARWIN = sys.platform == "darwin"
_FLOCK = struct.Struct("@qqihh" if _DARWIN else "@hhqqi0q")
_BY_EFFECTIVE_ID = os.access in os.supports_effective_ids

# Reentrant, because a signal handler or a finalizer may ask for a metric at any point; a bare lock, because
# an interrupt cannot cut the C code that enters and leaves it in two.
_mutex = threading.RLock()
"""Guards opening and closing lock files, and announcements."""
_files: dict[Identity, _LockFile] = {}
_said: set[Hashable] = set()
"""What need not be warned of again."""


class Holder(Protocol):
    """What a lock needs of the flight it is taken in; `smm._flights.Flight` is one."""

    name: str
    lock: Any
    """The `FolderLock` it holds; set and cleared here."""

    def dependents(self) -> Sequence[Holder]:
        """This one and all others of this process that cannot go on before it has ended."""


def folder_lock(
    folder: Path, name: str, *, waiting: Callable[[str], None], flight: Holder | None = None
) -> FolderLock:
    """Be the only process that works on metric `name` of `folder`, for the length of a `with` block.

    A lock saves work; nothing rests on it. Where it cannot be had (no right to write in the folder, a file
    system without locks, `.smm` deleted meanwhile, processes that would wait for each other for ever) the
    block runs without, and a metric may be computed twice.

    Args:
        folder: Where the metric is stored; made on entering, with `.smm/lock` in it, if missing.
        name: The metric.
        waiting: Called once, with a sentence saying for whom, when the wait has lasted 5 s.
        flight: The flight this is taken in; it holds one lock at a time. Through it, processes that wait
            for each other are noticed, and the lock is given back at the end of the flight at the latest,
            even if Ctrl-C cut the end of this block short.

    Warns:
        SmmWarning: once a file system or folder, where locking does not work though writing does.
    """
    return FolderLock(folder, name, waiting, flight)


class FolderLock:
    """A lock on one name of one folder; made by `folder_lock`."""

    def __init__(self, folder: Path, name: str, tell: Callable[[str], None], flight: Holder | None) -> None:
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self.offset = int.from_bytes(digest, "big") >> 2
        """Of the name's byte."""
        self._folder = folder
        self._name = name
        self._tell = tell
        self._flight = flight
        self._announced: list[tuple[_LockFile, Wait]] = []
        self.file: _LockFile | None = None
        """Where it is held or waited for."""
        self.owner: int | None = None
        """In a forked child, the process that has the lock if anybody has; None for this process."""
        self.node = 0
        """Stands for this name of this file in announcements."""

    def __enter__(self) -> None:
        """Wait until no other process has the name; then go on, with the lock or without."""
        try:
            while (file := _use_file(self._folder, self)) is not None and not self._attempt(file):
                had = self._wait(file)
                if had and file.is_that_of(self._folder):
                    return
                self.release()
                if not had:
                    return
                # `.smm` was deleted during the wait; whoever came later locks in a new one.
        except BaseException:
            self.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self.release()

    def release(self) -> None:
        """Undo what `__enter__` got to; nothing happens a second time, nor in a forked child."""
        file = self.file
        if file is not None:
            self._withdraw()
            if file.claims.get(self.offset) is self:
                # The claim goes last: the next to claim would find its own lock undone here.
                file.unlock(self.offset)
                file.claims.pop(self.offset, None)
            file.users.discard(self)
            self.file = None
        if self._flight is not None and self._flight.lock is self:
            self._flight.lock = None

    def is_held(self) -> bool:
        """Whether it is still held: here, or by the process that this one was forked from meanwhile."""
        if self.file is None or self.owner is None:
            return self.file is not None
        with suppress(OSError), _mutex:
            return _open(self._folder, _path(self._folder)).holder(self.offset) == self.owner
        return False

    def _attempt(self, file: _LockFile) -> bool:
        if file.claims.setdefault(self.offset, self) is not self or not file.lock(self.offset):
            return False
        if self._flight is not None:
            self._flight.lock = self
        return True

    def _wait(self, file: _LockFile) -> bool:
        """Ask until the lock is had; False if it never would be."""
        started = time.monotonic()
        pause = _FIRST_PAUSE_SECONDS
        told = False
        while not self._attempt(file):
            if self._flight is not None and self._closes_circle(self._flight):
                return False
            if not told and time.monotonic() - started >= _SAY_AFTER_SECONDS:
                told = True
                self._tell(self._for_whom(file))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        self._withdraw()
        return True

    def _for_whom(self, file: _LockFile) -> str:
        if file.claims.get(self.offset) is not self:
            who = "another thread"
        else:
            # 0 or less for a process of another machine, or one that a container hides.
            pid = file.holder(self.offset)
            who = f"process {pid}" if pid > 0 else "another process"
        return f"Wait for {self._flight.name if self._flight else self._name}: {who} is working on it"

    def _closes_circle(self, flight: Holder) -> bool:
        """Announce who waits for this name, and see whether its holder waits for one of them in turn.

        Answers about other processes are of different moments. That shows no circle among metrics that have
        none, since who reads whom is the same at all of them.
        """
        locks = [other.lock for other in flight.dependents()]
        held = [lock for lock in locks if isinstance(lock, FolderLock) and lock.is_held()]
        if not held:
            return False
        with _mutex:
            for lock in held:
                self._announce(lock)
            targets = {lock.node for lock in held}
            seen = {self.node}
            todo = [self.node]
            for node in todo:
                if node in targets:
                    return True
                found = {wanted for file in _files.values() for wanted in file.wanted_by(node)} - seen
                seen |= found
                todo.extend(found)
        return False

    def _announce(self, held: FolderLock) -> None:
        file = _files.get(held.file.identity) if held.file is not None else None
        wait = held.node, self.node
        if file is not None and (file, wait) not in self._announced:
            self._announced.append((file, wait))
            file.announce(wait, self)

    def _withdraw(self) -> None:
        while self._announced:
            with _mutex:
                file, wait = self._announced[-1]
                file.withdraw(wait, self)
                self._announced.pop()


class _LockFile:
    """The one descriptor of a lock file in this process, and who uses it for what.

    Announcements need `_mutex`; claims are made and dropped by single steps of a dict and need nothing.
    """

    def __init__(self, path: str, descriptor: int, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self.descriptors = [descriptor]
        """The first is used; closing any of them would lose all locks."""
        self.users: set[FolderLock] = set()
        self.claims: dict[int, FolderLock] = {}
        """By offset, who has the range or is asking for it."""
        self.announced: dict[Wait, set[FolderLock]] = {}
        self.has_locks = True
        """False on a file system without, and once closed."""

    def is_that_of(self, folder: Path) -> bool:
        """Whether this is still the file that others would lock in."""
        try:
            return _identity(os.lstat(_path(folder))) == self.identity
        except OSError:
            return False

    def lock(self, offset: int) -> bool:
        """Take a range, or pretend to where there are no locks; False if another process has it."""
        if not self.has_locks:
            return True
        try:
            fcntl.lockf(self.descriptors[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            self._give_up(error)
        return True

    def unlock(self, offset: int) -> None:
        """Give a range back."""
        self._request(fcntl.LOCK_UN, offset)

    def holder(self, offset: int) -> int:
        """Id of the process that has the range; 0 if none has, or none that is known here."""
        found = self._first_lock(offset, 1)
        return found[0] if found else 0

    def announce(self, wait: Wait, by: FolderLock) -> None:
        """Let other processes see a wait; shared, since two of them may be in the same."""
        self.announced.setdefault(wait, set()).add(by)
        self._request(fcntl.LOCK_SH | fcntl.LOCK_NB, _place(wait))

    def withdraw(self, wait: Wait, by: FolderLock) -> None:
        """Take an announcement back."""
        others = self.announced.get(wait, set())
        others.discard(by)
        if not others:
            self._request(fcntl.LOCK_UN, _place(wait))
            self.announced.pop(wait, None)

    def wanted_by(self, held: int) -> Iterator[int]:
        """Whom the holder of `held`, in this process or another, announced to wait for."""
        yield from [wanted for holder, wanted in self.announced if holder == held]
        base, end = _place((held, 0)), _place((held + 1, 0))
        start = base
        while start < end and (found := self._first_lock(start, end - start)) is not None:
            _, first, length = found
            if not 0 < length <= _LONGEST_RUN:
                return
            stop = min(first + length, end)
            yield from range(max(first, start) - base, stop - base)
            start = stop

    def close(self) -> None:
        """Close every descriptor, unless someone else has closed and reused its number."""
        self.has_locks = False
        for descriptor in self.descriptors:
            with suppress(OSError):
                if _identity(os.fstat(descriptor)) == self.identity:
                    os.close(descriptor)

    def _request(self, what: int, offset: int) -> None:
        """A request that cannot matter when it fails."""
        if self.has_locks:
            with suppress(OSError):
                fcntl.lockf(self.descriptors[0], what, 1, offset)

    def _first_lock(self, start: int, length: int) -> tuple[int, int, int] | None:
        """Process, start and length of the first lock another process has in a stretch of the file."""
        if not self.has_locks:
            return None
        question = (start, length, 0, fcntl.F_WRLCK, os.SEEK_SET)
        if not _DARWIN:
            question = (fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        try:
            answer = _FLOCK.unpack(fcntl.fcntl(self.descriptors[0], fcntl.F_GETLK, _FLOCK.pack(*question)))
        except OSError:
            return None
        start, length, pid, kind, _ = answer if _DARWIN else (*answer[2:], *answer[:2])
        return None if kind == fcntl.F_UNLCK else (pid, start, length)

    def _give_up(self, error: OSError) -> None:
        """Do without locks here: for good where there are none, else until the next descriptor."""
        if error.errno in _WITHOUT_LOCKS:
            self.has_locks = False
            _warn_once(("no locks", self.identity[0]), self.path, error)
        else:  # such as EBADF: someone closed the descriptor, or ESTALE on a network
            with _mutex:
                _files.pop(self.identity, None)


def _place(wait: Wait) -> int:
    held, wanted = wait
    return _ANNOUNCEMENTS + (held << _NODE_BITS) + wanted


def _path(folder: Path) -> str:
    return f"{folder}/.smm/lock"


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _use_file(folder: Path, lock: FolderLock) -> _LockFile | None:
    """The lock file of `folder`, made if missing and kept open for `lock`; None where it cannot be had."""
    path = _path(folder)
    try:
        known = _identity(os.lstat(path))
    except OSError:
        known = None
    try:
        with _mutex:
            file = _files.get(known) if known else None
            file = file or _open(folder, path)
            lock.file = file  # first, so that a release after an interrupt finds it
            lock.node = (lock.offset ^ file.identity[1]) % _NODES
            file.users.add(lock)
            return file
    except StoreFileError as error:
        if str(error.path) != path:  # `.smm` itself: nothing can be stored there
            warn_of(error, "results are read, but none can be stored")
        else:
            _warn_once(("no file", path), path, error)
        return None
    except OSError as error:
        # Without the right to write there is nothing to compute for, or saving will say it better.
        if os.path.isdir(folder) and os.access(folder, os.W_OK, effective_ids=_BY_EFFECTIVE_ID):
            _warn_once(("no file", path), path, error)
        return None


def _open(folder: Path, path: str) -> _LockFile:
    """The lock file that is at `path` now, by a new descriptor if it has none yet. Needs `_mutex`."""
    with suppress(FileNotFoundError):
        known = _files.get(_identity(os.lstat(path)))  # another thread may have opened it a moment ago
        if known is not None:
            return known
    descriptor = _descriptor(folder, path)
    identity = _identity(os.fstat(descriptor))
    file = _files.get(identity)
    if file is not None:  # moved here since the look above
        file.descriptors.append(descriptor)
        return file
    idle = [file for file in _files.values() if not file.users]
    for file in idle[: max(0, len(idle) - _IDLE_FILES)]:
        del _files[file.identity]
        file.close()
    file = _files[identity] = _LockFile(path, descriptor, identity)
    return file


def _descriptor(folder: Path, path: str) -> int:
    """Open the lock file, which is made with its folders if missing, for whoever may write in `folder`.

    Raises:
        StoreFileError: it is no regular file, or `.smm` is a link.
        OSError: it cannot be opened or made.
    """
    flags = os.O_RDWR | os.O_NONBLOCK
    while True:  # others make and delete it too
        with make_own_folder(str(folder)) as own:
            with suppress(FileNotFoundError):
                return _regular(own.open("lock", flags), path)
            with suppress(FileExistsError, FileNotFoundError):
                descriptor = own.open("lock", flags | os.O_CREAT | os.O_EXCL)
                share(descriptor, str(folder), 0o666, 0o600)
                return descriptor


def _regular(descriptor: int, path: str) -> int:
    """Return a descriptor if it is that of a regular file; else close it.

    Raises:
        StoreFileError: it is not.
    """
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor
    os.close(descriptor)
    raise irregular(path, kind_of(status))


def _warn_once(key: Hashable, path: str, error: OSError) -> None:
    if key in _said:
        return
    _said.add(key)
    reason, way_out = error.strerror, ""
    if isinstance(error, StoreFileError):
        reason, way_out = f"it is {error.found}", f"; {error.way_out}"
    elif isinstance(error, PermissionError):
        way_out = "; give all who write to the folder the right to write in .smm and to this file"
    warn_user(
        f"cannot lock {path} ({reason}): processes that want the same metric at the same time may "
        f"each compute it, nothing else can go wrong{way_out}"
    )


def _forget_all() -> None:
    """After a fork, in the child: it holds nothing. Closing its descriptors takes nothing from the parent."""
    global _mutex
    _mutex = threading.RLock()  # a thread that is gone may have held it
    for file in _files.values():
        for lock in file.claims.values():
            lock.owner = os.getppid()
        file.close()
    _files.clear()


os.register_at_fork(after_in_child=_forget_all)
