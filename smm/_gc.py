"""What lies in a store and nobody needs any more: found first, and removed only when somebody says so."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import attrs

from smm._files import is_temporary
from smm._folders import OWN_FOLDER, TEMPORARY, OwnFolder, open_own_folder
from smm._listing import name_of
from smm._moving import Journal
from smm._reading import name_place
from smm._rename_plan import RenamePendingError
from smm._runlog import RUNS, failures
from smm._shelf import Shelf
from smm._stored import RECORD_ENDING, FileStorage, data_file, noted, sidecar_file, stems
from smm._text import visible
from smm.errors import StorageAbilityError
from smm.manager import DatedCacheManager
from smm.metric import Record
from smm.protocols import SIDECAR, FolderStorage, RecordStorage

log = logging.getLogger("smm")

GarbageKind: TypeAlias = Literal["undeclared", "unfinished", "side-car", "temporary", "log"]
KINDS: tuple[GarbageKind, ...] = get_args(GarbageKind)

KEEP_LOGS = 20
"""So many of the newest logs of runs stay, however old."""
_KEEP_LOG_SECONDS = 30 * 24 * 3600
"""Logs that were last written to since then stay, however many."""
_YOUNG_SECONDS = 60
"""A temporary file is left alone for so long: its writer locks it only when it has made it."""


@attrs.frozen(kw_only=True)
class Garbage:
    """One thing that may go.

    `undeclared`: a stored metric that nothing declares any more. `unfinished`: data without a side-car, which
    was never finished, and counts as not stored. `side-car`: one without data. `temporary`: a file that a
    killed process was writing. `log`: of an old run.
    """

    kind: GarbageKind
    name: str
    """The metric's; the file's for what is no metric."""
    path: Path | None = None
    """Of the data, or of the one file; None for storages without files."""
    size: int | None = None
    """Bytes, of data and side-car together; None for storages without files."""
    date: datetime | None = None
    """When a stored metric was computed."""


def gc(
    manager: DatedCacheManager,
    *,
    also: Iterable[DatedCacheManager] = (),
    keep_logs: int = KEEP_LOGS,
    unknown: bool = False,
) -> tuple[Garbage, ...]:
    """Find what nobody needs any more; removes nothing, computes nothing, takes no lock.

    A stored metric is declared if its name is. If it is not, its record says which base name it was computed
    for: rows of one that waits for `@CM.collect`, or whose rows come as they are called (a manager with
    `dynamic_metric_creation`), count as declared, since their names are not known here. Where the record has
    no base name, as in the predecessor's stores, those whose name begins with such a base name do.

    What may be somebody else's is no garbage: under a name that is not declared, data without a side-car that
    can be read, and a `_date` file that is no record; and what shares a side-car with a file of another
    format. Logs whose failures still keep rows from being tried again stay.

    Args:
        manager: whose storage.
        also: others that keep their results there; what they declare is declared.
        keep_logs: so many logs of runs stay, the newest, and all of the last 30 days.
        unknown: also what has no side-car that can be read, though it may be somebody else's.

    Returns:
        By kind, then by name.

    Raises:
        StorageAbilityError: the storage cannot list what it has.
        RenamePendingError: a renaming goes on, or was interrupted; until then names are not what they seem.
        ValueError: `keep_logs` is below 0.
    """
    if keep_logs < 0:
        raise ValueError(f"keep_logs is {keep_logs!r}; give a number from 0")
    declared = _Declared([manager, *also], unknown)
    shelf = Shelf(manager.storage_interface)
    if _is_renaming(shelf):
        raise RenamePendingError(
            where=str(Journal(shelf).path or shelf.where), reason="finish it with smm rename, then collect"
        )
    found = [
        *_metrics(shelf, declared),
        *_sidecars(shelf, declared),
        *_temporary(shelf),
        *_logs(shelf, declared, keep_logs),
    ]
    return tuple(sorted(found, key=lambda one: (KINDS.index(one.kind), one.name)))


def remove(manager: DatedCacheManager, garbage: Iterable[Garbage]) -> Iterator[Garbage]:
    """Remove what `gc` found, giving each when it is gone. What is in use again by then is left alone.

    A metric is removed under its lock, if it is still the one that was found: another process that computes
    it, or has just stored it, keeps it. One that somebody works on for more than five seconds is left.

    Raises:
        StorageAbilityError: the storage has no `delete`.
        OSError: a file cannot be removed.
    """
    shelf = Shelf(manager.storage_interface)
    for one in garbage:
        if one.kind == "temporary":
            gone = one.path is not None and _remove_temporary(shelf, one.path.name)
        elif one.kind == "log":
            gone = one.path is not None and _remove_log(shelf, one.path.name, one.size)
        else:
            gone = _remove_metric(manager, shelf, one)
        if gone:
            log.info("Remove %s", visible(str(one.path or one.name)))
            yield one


# --- what is declared ------------------------------------------------------------------------------------


class _Declared:
    """The names that some managers declare, and the base names whose rows they do not know beforehand."""

    def __init__(self, managers: Sequence[DatedCacheManager], unknown: bool) -> None:
        self._unknown = unknown
        self.names = {name for manager in managers for name in manager.functions_dict}
        self._open = {name for manager in managers for name in manager.waiting} | {
            metric.base_name
            for manager in managers
            if manager.dynamic_metric_creation
            for metric in manager.parameterized_metrics
        }

    def covers(self, name: str, record: Record) -> bool:
        """Whether a stored metric is one of theirs."""
        if name in self.names:
            return True
        if record.base_name is not None:
            return record.base_name in self._open
        return any(name == base or name.startswith(f"{base}_") for base in self._open)

    def may_go(self, name: str) -> bool:
        """Whether what has this name, and no record to tell whose it is, may be removed."""
        return self._unknown or name in self.names


# --- metrics ---------------------------------------------------------------------------------------------


def _metrics(shelf: Shelf, declared: _Declared) -> Iterator[Garbage]:
    storage = shelf.storage
    if not isinstance(storage, RecordStorage):
        raise StorageAbilityError(
            storage=type(storage).__name__, method="recorded", purpose="listing what is stored"
        )
    recorded = storage.recorded()
    foreign = _foreign_stems(storage)
    for name in storage.names() - recorded:
        if declared.may_go(name):
            yield _garbage(shelf, "unfinished", name, None)
    for name in recorded - declared.names:
        record = noted(shelf, name).record
        if _shares(storage, name, foreign):
            continue
        if record is None and declared.may_go(name):
            yield _garbage(shelf, "unfinished", name, None)
        elif record is not None and not declared.covers(name, record):
            yield _garbage(shelf, "undeclared", name, record.date)


def _sidecars(shelf: Shelf, declared: _Declared) -> Iterator[Garbage]:
    """Side-cars of which no file in the folder is the data, in whatever format."""
    storage = shelf.storage
    if not isinstance(storage, FileStorage):
        return
    foreign = _foreign_stems(storage)
    for file in _listing(storage.metrics_dir):
        ending = next((e for e in (RECORD_ENDING, SIDECAR + storage.file_ext) if file.endswith(e)), None)
        if ending is None:
            continue
        stem = file.removesuffix(ending)
        name = name_of(stem, storage.file_ext)
        if name is None or stem in foreign or storage.exists(name):
            continue
        record = noted(shelf, name).record
        if record is not None or (storage.has_record(name) and declared.may_go(name)):
            yield _garbage(shelf, "side-car", name, None if record is None else record.date)


def _foreign_stems(storage: object) -> set[str]:
    """What files of other formats begin with, up to each of their dots: their side-cars are theirs too."""
    if not isinstance(storage, FileStorage):
        return set()
    others = [
        file
        for file in _listing(storage.metrics_dir)
        if not file.endswith(storage.file_ext) and not file.endswith(RECORD_ENDING)
    ]
    return {file[:at] for file in others for at, letter in enumerate(file) if letter == "."}


def _shares(storage: object, name: str, foreign: Set[str]) -> bool:
    """Whether a metric's side-car may be that of a file of another format."""
    return isinstance(storage, FileStorage) and not foreign.isdisjoint(stems(storage, name))


def _listing(folder: Path) -> list[str]:
    """The names of the files in a folder, and of links to files; none if it is not there."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except FileNotFoundError:
        return []


def _garbage(shelf: Shelf, kind: GarbageKind, name: str, date: datetime | None) -> Garbage:
    files = [path for path in (data_file(shelf, name), sidecar_file(shelf, name)) if path is not None]
    size = sum(map(_size, files)) if files else None
    return Garbage(kind=kind, name=name, path=files[0] if files else None, size=size, date=date)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_renaming(shelf: Shelf) -> bool:
    """Whether metrics are being renamed, or a renaming was interrupted: both names may be needed then."""
    try:
        return Journal(shelf).read() is not None
    except ValueError:
        return True


class _Busy(Exception):  # noqa: N818 - a verdict
    """Somebody else has the metric's lock."""


def _give_up(_: str) -> None:
    raise _Busy


def _remove_metric(manager: DatedCacheManager, shelf: Shelf, one: Garbage) -> bool:
    try:
        with shelf.lock(one.name, waiting=_give_up):
            if _is_renaming(shelf) or not _STILL[one.kind](manager, shelf, one):
                return False
            if one.kind == "side-car" and isinstance(shelf.storage, RecordStorage):
                shelf.storage.remove_record(one.name)
            else:
                shelf.delete(one.name)
    except _Busy:
        return False
    if one.kind == "undeclared":
        manager.cache.pop(one.name, None)
    return True


def _still_undeclared(manager: DatedCacheManager, shelf: Shelf, one: Garbage) -> bool:
    if one.name in manager.functions_dict:
        return False
    record = noted(shelf, one.name).record
    return record is not None and record.date == one.date and shelf.storage.exists(one.name)


def _still_unfinished(_: DatedCacheManager, shelf: Shelf, one: Garbage) -> bool:
    return shelf.storage.exists(one.name) and noted(shelf, one.name).record is None


def _still_alone(_: DatedCacheManager, shelf: Shelf, one: Garbage) -> bool:
    storage = shelf.storage
    return (
        isinstance(storage, RecordStorage) and storage.has_record(one.name) and not storage.exists(one.name)
    )


_STILL: Mapping[str, Callable[[DatedCacheManager, Shelf, Garbage], bool]] = {
    "undeclared": _still_undeclared,
    "unfinished": _still_unfinished,
    "side-car": _still_alone,
}


# --- temporary files -------------------------------------------------------------------------------------


def _temporary(shelf: Shelf) -> Iterator[Garbage]:
    with _own_folder(shelf, TEMPORARY) as tmp:
        for name, status in _own_files(tmp):
            # The age first: a look at the lock of a file that was just made could keep its writer from it.
            if not is_temporary(name) or time.time() - status.st_mtime < _YOUNG_SECONDS:
                continue
            if tmp is not None and _is_left(tmp, name):
                path = Path(tmp.path) / name
                yield Garbage(kind="temporary", name=name, path=path, size=status.st_size)


def _is_left(tmp: OwnFolder, name: str) -> bool:
    """Return whether no living writer has a temporary file; False if it is gone, or may not be opened."""
    try:
        return _if_unlocked(tmp, name)
    except OSError:
        return False


def _remove_temporary(shelf: Shelf, name: str) -> bool:
    with _own_folder(shelf, TEMPORARY) as tmp:
        try:
            return tmp is not None and _if_unlocked(tmp, name, tmp.remove)
        except FileNotFoundError:
            return False


def _if_unlocked(tmp: OwnFolder, name: str, then: Callable[[str], object] = lambda _: None) -> bool:
    """Do something to a file that no living writer has locked, while none can; return whether that was so.

    Raises:
        OSError: it cannot be opened, or there is nothing to be had of locks here.
    """
    descriptor = tmp.open(name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        # Shared, for which reading is enough on every file system; writers lock exclusively.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        then(name)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        raise name_place(error, f"{tmp.path}/{name}") from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _own_folder(shelf: Shelf, below: str) -> Iterator[OwnFolder | None]:
    """Open one of smm's own folders; None if it is not there.

    Raises:
        StoreFileError: it, or `.smm`, is a link.
    """
    storage = shelf.storage
    if isinstance(storage, FolderStorage):
        try:
            opened = open_own_folder(str(storage.metrics_dir), below)
        except FileNotFoundError:
            pass
        else:
            with opened:
                yield opened
            return
    yield None


def _own_files(folder: OwnFolder | None) -> list[tuple[str, os.stat_result]]:
    """List the regular files in one of smm's own folders, with what they look like."""
    found = []
    for entry in () if folder is None else folder.entries():
        with contextlib.suppress(FileNotFoundError):  # published or removed a moment ago
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                found.append((entry.name, status))
    return found


# --- logs ------------------------------------------------------------------------------------------------


def _logs(shelf: Shelf, declared: _Declared, keep: int) -> Iterator[Garbage]:
    storage = shelf.storage
    if not isinstance(storage, FolderStorage):
        return
    with _own_folder(shelf, RUNS) as runs:
        logs = [(name, status) for name, status in _own_files(runs) if name.endswith(".jsonl")]
    logs.sort(key=lambda log: log[0], reverse=True)  # they are named by when the run began
    old = {
        storage.metrics_dir / OWN_FOLDER / RUNS / name: status.st_size
        for name, status in logs[keep:]
        if time.time() - status.st_mtime >= _KEEP_LOG_SECONDS
    }
    if not old:
        return
    stored = storage.recorded() if isinstance(storage, RecordStorage) else set()
    needed = {failed.log for failed in failures(storage.metrics_dir, declared.names - stored).values()}
    for path, size in old.items():
        if path not in needed:
            yield Garbage(kind="log", name=path.name, path=path, size=size)


def _remove_log(shelf: Shelf, name: str, size: int | None) -> bool:
    """Remove a log, unless the run still writes to it; return whether it is gone now."""
    with _own_folder(shelf, RUNS) as runs:
        status = None if runs is None else runs.status(name)
        if runs is None or status is None or status.st_size != size:
            return False
        runs.remove(name)
    return True
