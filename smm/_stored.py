"""Stores as those see them who look after them: a manager's, a storage, or a folder known by its files alone.

Nothing here takes a lock, or writes: a store may be an archive, and others may be at work in it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs

from smm._blame import last_line
from smm._listing import RECORD_ENDING as RECORD_ENDING
from smm._listing import record_endings
from smm._listing import stems as stems_of
from smm._select import base_names, stored_names
from smm._shelf import Shelf
from smm.errors import (
    CorruptMetricError,
    MetricNameError,
    MetricNotStoredError,
    NewerFormatError,
    PickleRefusedError,
    StorageAbilityError,
    TargetError,
    UnknownMetricError,
    closest,
)
from smm.manager import DatedCacheManager
from smm.metric import RECORD_VERSION, Record, Stamp
from smm.protocols import FolderStorage, RecordStorage, StorageInterface, VerifyingStorage
from smm.storage import (
    FileBasedStorageInterface,
    JsonStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
)

if TYPE_CHECKING:
    from smm.config import Config

T = TypeVar("T")

Store: TypeAlias = DatedCacheManager | StorageInterface | str | os.PathLike[str]
"""What can be looked after: a manager, its storage, or a folder of results."""

_TRIES = 5
"""How often a pair is looked at that others are replacing; one of them would have to be very quick."""


@runtime_checkable
class FileStorage(FolderStorage, RecordStorage, Protocol):
    """A storage of one file per metric."""

    file_ext: str


def shelf_of(store: Store) -> Shelf:
    """Where a store's metrics lie.

    Raises:
        TargetError: a folder that holds no results, or results in several formats.
    """
    if isinstance(store, DatedCacheManager):
        return Shelf(store.storage_interface)
    return Shelf(storage_in(store) if isinstance(store, str | os.PathLike) else store)


# --- which format a folder is in -------------------------------------------------------------------------

FORMATS: Mapping[str, Callable[[Path], FileBasedStorageInterface]] = {
    "npz": NpzStorageInterface,
    "npy": NpyStorageInterface,
    "json": JsonStorageInterface,
}


def storage_in(folder: str | os.PathLike[str], form: str | None = None) -> FileBasedStorageInterface:
    """The storage whose results a folder holds, as its files tell.

    What counts are metrics with their side-cars; where there are none, npz and npy files alone. A json file
    without a side-car may be anybody's.

    Args:
        folder: of results.
        form: `npz`, `npy` or `json`, where the files alone do not tell.

    Raises:
        TargetError: there are none of these, or of several.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        what, hint = ("is no folder", "") if path.exists() else ("is not there", _closest_folder(path))
        raise TargetError(target=str(folder), reason=f"{what}; give a folder of results{hint}")
    storages = {name: make(path) for name, make in FORMATS.items() if form in (None, name)}
    found = {name: len(storage.recorded()) for name, storage in storages.items()}
    if not any(found.values()):
        found = {name: len(storage.names()) for name, storage in storages.items() if name != "json" or form}
    there = {name: count for name, count in found.items() if count}
    if not there:
        raise TargetError(target=str(folder), reason=_no_results(path, form))
    if len(there) > 1:
        counts = " and ".join(f"{count:,} {name}" for name, count in there.items())
        raise TargetError(
            target=str(folder),
            reason=f"holds results of several formats, {counts}; say which with --format, or give the "
            "configuration file, or in Python the storage",
        )
    return storages[next(iter(there))]


def configured(config: Config) -> StorageInterface | None:
    """The storage of a configuration; None if that is a class of the user's, or the memory of a process."""
    from smm.config import JsonStorage, NpyStorage, NpzStorage

    classes: Mapping[type, Callable[..., StorageInterface]] = {
        NpzStorage: NpzStorageInterface,
        NpyStorage: NpyStorageInterface,
        JsonStorage: JsonStorageInterface,
    }
    made = classes.get(type(config.storage))
    return None if made is None else made(**attrs.asdict(config.storage, recurse=False))


def _closest_folder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return closest(path.name, sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir()))
    return ""


def _no_results(path: Path, form: str | None) -> str:
    """Why a folder is no store, and where one may be."""
    files = _listing(path)
    if not files and not any(path.iterdir()):
        return "is an empty folder; run the metrics first, or give the folder of their results"
    below = [entry.name for entry in sorted(path.iterdir()) if entry.is_dir() and _looks_like_store(entry)]
    if below:
        return f"is a folder without results; did you mean {str(path / below[0])!r}?"
    stems = {file.removesuffix(RECORD_ENDING) for file in files if file.endswith(RECORD_ENDING)}
    endings = {file.removeprefix(stem) for stem in stems for file in files if file.startswith(stem + ".")}
    if endings and form:
        there = ", ".join(sorted(endings))
        return f"holds no results in {form}, but in files that end in {there}; leave --format out"
    if endings:
        return (
            f"holds results in files that end in {', '.join(sorted(endings))}; give the configuration file, "
            "or the manager as module:CM, that knows how to read them"
        )
    kinds = form or "npz, npy or json"
    return (
        f"is a folder without results: none of its files is a metric in {kinds}; give the folder they are in"
    )


def _looks_like_store(path: Path) -> bool:
    return any(file.endswith(RECORD_ENDING) for file in _listing(path))


def _listing(path: Path) -> list[str]:
    """The names of the files in a folder; none if it is missing, or may not be read."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, PermissionError):
        return []


# --- which names are there -------------------------------------------------------------------------------


def names_with_data(store: Store, shelf: Shelf) -> set[str]:
    """The names that have data, with a side-car or without; of a storage that cannot list, declared ones.

    Raises:
        StorageAbilityError: the storage cannot list what it has, and there is no manager to tell names.
    """
    if isinstance(shelf.storage, RecordStorage):
        return shelf.storage.names()
    if isinstance(store, DatedCacheManager):
        return {name for name in stored_names(store) if shelf.storage.exists(name)}
    raise StorageAbilityError(
        storage=type(shelf.storage).__name__, method="names", purpose="listing what is stored"
    )


def matching(
    names: Collection[str],
    patterns: Iterable[str] | None,
    *,
    base_name: Callable[[str], str | None],
    store: Store | None = None,
) -> list[str]:
    """The stored names that patterns mean, sorted; all of them for None.

    Args:
        names: what is stored.
        patterns: metric names, base names (for all their rows), or globs with `* ? [...]`.
        base_name: of a stored metric, by its record; asked where a pattern is no stored name.
        store: a manager's declared metrics may be meant, though none of them is stored.

    Raises:
        UnknownMetricError: a pattern means nothing; with the closest name.
    """
    if patterns is None:
        return sorted(names)
    declared = base_names(store) if isinstance(store, DatedCacheManager) else {}
    known = {*declared, *declared.values(), *(store.waiting if isinstance(store, DatedCacheManager) else ())}
    by_base: dict[str, set[str]] = {}
    chosen: set[str] = set()
    for pattern in patterns:
        meant = {pattern} & set(names) or set(_globbed(pattern, names))
        if not meant:
            by_base = by_base or _by_base(names, lambda name: declared.get(name) or base_name(name))
            meant = by_base.get(pattern, set())
        if not meant and pattern not in known and not any(_globbed(pattern, known)):
            raise UnknownMetricError(name=pattern, hint=closest(pattern, [*by_base, *names, *known]))
        chosen |= meant
    return sorted(chosen)


def _globbed(pattern: str, names: Iterable[str]) -> Iterator[str]:
    if set("*?[") & set(pattern):
        matches = re.compile(fnmatch.translate(pattern)).match
        yield from (name for name in names if matches(name))


def _by_base(names: Iterable[str], base_name: Callable[[str], str | None]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(base_name(name) or name, set()).add(name)
    return found


# --- the files of a metric -------------------------------------------------------------------------------


def data_file(shelf: Shelf, name: str) -> Path | None:
    """The file with a metric's data; None if it is not there, or the storage has no files."""
    storage = shelf.storage
    return _first(storage, name, (storage.file_ext,)) if isinstance(storage, FileStorage) else None


def sidecar_file(shelf: Shelf, name: str) -> Path | None:
    """The file with a metric's side-car; None if it is not there, or the storage has no files."""
    storage = shelf.storage
    if not isinstance(storage, FileStorage):
        return None
    return _first(storage, name, record_endings(storage.file_ext))


def _first(storage: FileStorage, name: str, endings: Sequence[str]) -> Path | None:
    paths = (storage.metrics_dir / (stem + ending) for stem in stems(storage, name) for ending in endings)
    return next((path for path in paths if path.is_file()), None)


def stems(storage: FileStorage, name: str) -> tuple[str, ...]:
    """Return what a metric's files may begin with; nothing for a name that no file can have."""
    try:
        return stems_of(name, storage.file_ext)
    except MetricNameError:
        return ()


# --- a value, and what is wrong with it -------------------------------------------------------------------

Trouble: TypeAlias = Literal["damaged", "replaced", "side-car", "pickled", "newer", "unreadable"]


@attrs.frozen(kw_only=True)
class Reading:
    """A value that was read, or why it could not be."""

    value: Any = None
    trouble: Trouble | None = None
    reason: str = ""
    """In words; empty if there is a value."""


def read(shelf: Shelf, name: str, stamp: Stamp | None) -> Reading | None:
    """Read a value into nobody's cache; None if it has just been deleted.

    Args:
        shelf: where it lies.
        name: the metric's.
        stamp: what its file must be, if it has the stamp's size and time.
    """
    storage = shelf.storage
    try:
        if isinstance(storage, VerifyingStorage):
            return Reading(value=storage.load_verified(name, stamp))
        return Reading(value=storage.load(name))
    except MetricNotStoredError:
        return None
    except CorruptMetricError as error:
        return Reading(trouble="damaged", reason=error.reason)
    except PickleRefusedError:
        way_out = "give the storage allow_pickle=True if you trust who wrote it"
        return Reading(trouble="pickled", reason=f"it holds pickled objects; {way_out}")
    except NewerFormatError as error:
        reason = f"it is written in {error.found}, this smm reads up to {error.known}"
        return Reading(trouble="newer", reason=reason)
    except MemoryError:
        return Reading(trouble="unreadable", reason="it does not fit into memory")
    except Exception as error:  # noqa: BLE001 - a user's class, or objects in a pickle, may raise anything
        if not storage.exists(name):
            return None
        said = error.strerror if isinstance(error, OSError) and error.strerror else last_line(error)
        return Reading(trouble="unreadable", reason=f"it cannot be read: {said}")


# --- a pair of data and side-car -------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Noted:
    """What a metric's side-car says, as far as it can be read."""

    record: Record | None
    """None if there is no side-car, or one that is no record."""
    problem: str = ""
    """What is wrong with a side-car that is there."""
    is_newer: bool = False
    """Whether that is only that a later version of smm wrote it."""


def noted(shelf: Shelf, name: str) -> Noted:
    """Read a metric's side-car.

    Raises:
        OSError: it cannot be read.
    """
    storage = shelf.storage
    if not isinstance(storage, RecordStorage):
        return Noted(record=shelf.record(name))
    text = storage.read_record(name)
    if text is None:
        return Noted(record=None, problem="cannot be read" if storage.has_record(name) else "")
    try:
        record = Record.from_json(name, text)
    except ValueError:
        return Noted(record=None, problem="is no record")
    if not text.startswith("{"):
        return Noted(record=record)  # the predecessor's, a bare date
    written: dict[str, Any] = json.loads(text)
    if written["smm_record"] > RECORD_VERSION:
        problem = f"is a record of version {written['smm_record']}, this smm reads up to {RECORD_VERSION}"
        return Noted(record=record, problem=problem, is_newer=True)
    if written.get("name") != name:
        return Noted(record=record, problem=f"was written for {written.get('name')!r}")
    return Noted(record=record)


def on_steady_pair(shelf: Shelf, name: str, look: Callable[[Noted], T]) -> T:
    """Look at data and side-car that belong together, though others may be replacing them meanwhile.

    A publication removes the side-car, moves the data into place, and writes the new side-car, with another
    date. So a side-car that is the same before and after is that of the data in between.

    Args:
        shelf: where they lie.
        name: the metric's.
        look: called with what the side-car says; again if that has changed since.
    """
    before = noted(shelf, name)
    for _ in range(_TRIES):
        found = look(before)
        after = noted(shelf, name)
        if after == before:
            break
        before = after
    return found
