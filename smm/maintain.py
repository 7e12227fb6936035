"""What a manager's storage holds of what it declares, to be listed, cleared, checked and compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from smm._listing import name_of
from smm._select import groups as groups
from smm._select import select as select
from smm._select import stored_names as stored_names
from smm.errors import MetricNotStoredError
from smm.manager import DatedCacheManager
from smm.protocols import FolderStorage, RecordStorage

if TYPE_CHECKING:
    import attrs

    from smm._compare import Change as Change
    from smm._diff import Difference as Difference
    from smm._diff import diff as diff
    from smm._diff import ranked as ranked
    from smm._gc import Garbage as Garbage
    from smm._gc import gc as gc
    from smm._gc import remove as remove
    from smm._rename import plan_rename as plan_rename
    from smm._rename import rename as rename
    from smm._rename import rename_rows as rename_rows
    from smm._rename_plan import Conflict as Conflict
    from smm._rename_plan import Follower as Follower
    from smm._rename_plan import Move as Move
    from smm._rename_plan import RenameConflictError as RenameConflictError
    from smm._rename_plan import RenamePendingError as RenamePendingError
    from smm._rename_plan import RenamePlan as RenamePlan
    from smm._staleness import Look
    from smm._stored import storage_in as storage_in
    from smm._verify import Verdict as Verdict
    from smm._verify import verify as verify
else:
    from smm import _attrs as attrs

# Each is imported when it is first asked for: most callers want one of them.
_ROOMS = {
    "_compare": ("Change",),
    "_diff": ("Difference", "diff", "ranked"),
    "_gc": ("Garbage", "gc", "remove"),
    "_rename": ("plan_rename", "rename", "rename_rows"),
    "_rename_plan": (
        "Conflict",
        "Follower",
        "Move",
        "RenameConflictError",
        "RenamePendingError",
        "RenamePlan",
    ),
    "_stored": ("storage_in",),
    "_verify": ("Verdict", "verify"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'smm.maintain' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"smm.{_HOME[name]}"), name)
    return value


@attrs.frozen(kw_only=True)
class FileFacts:
    """What the file system says of a stored metric's data."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since 1970 UTC."""


@attrs.frozen(kw_only=True)
class MetricStatus:
    """How much of one declared metric is stored."""

    base_name: str
    declared: int
    """Rows."""
    stored: int
    """Rows that are stored with their side-car."""
    last: datetime | None
    """When the computation of the newest stored row ended; by files, the one that was written last."""
    size: int | None
    """Bytes of all stored rows, without side-cars; None where there are no files."""
    stale: int = 0
    """Rows that are stored, and not what would be computed now, as far as that can be told."""
    earlier: int = 0
    """Rows that are stored and whose code an earlier smm noted, so that it cannot be compared."""
    unseen: int = 0
    """Rows that are stored and of whose code or reads something could not be seen."""
    failed: int = 0
    """Rows that are not stored, and at which an earlier run failed."""
    waiting: bool = False
    """Declared without a function: `@CM.collect` has not brought it yet."""

    @property
    def fresh(self) -> int:
        """Rows that are stored and not stale."""
        return self.stored - self.stale

    @property
    def missing(self) -> int:
        """Rows that are not stored, and have not failed either."""
        return self.declared - self.stored - self.failed

    @property
    def is_settled(self) -> bool:
        """Whether every row is fresh."""
        return self.fresh == self.declared


@attrs.frozen(kw_only=True)
class Status:
    """What is declared and what is stored."""

    metrics: tuple[MetricStatus, ...]
    undeclared: int
    """Stored metrics that nothing declares; 0 for a storage that cannot list its names."""


@runtime_checkable
class _Files(FolderStorage, RecordStorage, Protocol):
    """A storage of one file per metric."""

    file_ext: str


def status(manager: DatedCacheManager, names: Iterable[str] | None = None) -> Status:
    """How much of what is declared is stored, and still holds. Opens the side-car of every stored row.

    Args:
        manager: whose metrics.
        names: declared names to look at; all by default.
    """
    stored = stored_names(manager)
    files = _file_facts(manager, stored)
    wanted = None if names is None else set(names)
    by_base = groups(manager)
    if wanted is not None:
        by_base = {base: [name for name in rows if name in wanted] for base, rows in by_base.items()}
    failed = manager._failed_before(
        [name for rows in by_base.values() for name in rows if name not in stored]
    )
    look = manager._staleness.look()
    metrics = []
    for base_name, seen in by_base.items():
        if seen:
            there = [name for name in seen if name in stored]
            found = _metric_status(manager, look, base_name, len(seen), there, files)
            metrics.append(attrs.evolve(found, failed=sum(name in failed for name in seen)))
    waiting = manager.waiting if wanted is None else ()
    metrics += [
        MetricStatus(base_name=name, declared=0, stored=0, last=None, size=None, waiting=True)
        for name in waiting
    ]
    return Status(metrics=tuple(metrics), undeclared=len(stored - manager.functions_dict.keys()))


def _metric_status(
    manager: DatedCacheManager,
    look: Look,
    base_name: str,
    declared: int,
    stored: Sequence[str],
    files: Mapping[str, FileFacts] | None,
) -> MetricStatus:
    if files is None:
        dates = [date for name in stored if (date := _date(manager, name)) is not None]
        last, size = max(dates, default=None), None
    else:
        facts = {name: files[name] for name in stored if name in files}
        newest = max(facts, key=lambda name: facts[name].mtime_ns, default=None)
        last = None if newest is None else _date(manager, newest)
        size = sum(fact.size for fact in facts.values())
    doubts = _doubts(manager, look, stored)
    return MetricStatus(
        base_name=base_name,
        declared=declared,
        stored=len(stored),
        last=last,
        size=size,
        stale=doubts["stale"],
        earlier=doubts["earlier"],
        unseen=doubts["unseen"],
    )


def _doubts(manager: DatedCacheManager, look: Look, stored: Sequence[str]) -> dict[str, int]:
    """Count the stored rows that are stale, that an earlier smm noted, and that are not fully seen."""
    stale = earlier = unseen = 0
    for name in stored:
        sidecar = manager._shelf.sidecar(name)
        stale += look.is_stale(name, sidecar)
        if sidecar is not None:
            earlier += look.is_earlier(sidecar)
            unseen += sidecar.is_unseen
    return {"stale": stale, "earlier": earlier, "unseen": unseen}


def _date(manager: DatedCacheManager, name: str) -> datetime | None:
    try:
        return manager.date(name)
    except MetricNotStoredError:
        return None  # deleted meanwhile, or its side-car is damaged


def _file_facts(manager: DatedCacheManager, stored: set[str]) -> dict[str, FileFacts] | None:
    """Size and time of every stored metric's file; None for a storage without files."""
    storage = manager.storage_interface
    return dict(_files_of(storage, stored)) if isinstance(storage, _Files) else None


def _files_of(storage: _Files, stored: set[str]) -> Iterator[tuple[str, FileFacts]]:
    try:
        entries = os.scandir(storage.metrics_dir)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if not entry.name.endswith(storage.file_ext):
                continue
            stem = entry.name.removesuffix(storage.file_ext)
            plain = stem.isascii() and stem.isidentifier()  # then it is its own stem
            name = stem if plain else name_of(stem, storage.file_ext)
            if name is None or name not in stored:
                continue
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue  # deleted since it was listed
            yield name, FileFacts(size=found.st_size, mtime_ns=found.st_mtime_ns)


def clear(manager: DatedCacheManager, names: Iterable[str]) -> Iterator[str]:
    """Delete metrics from memory and storage, data and side-car, giving each name when it is gone.

    Raises:
        StorageAbilityError: the storage has no `delete`.
    """
    for name in names:
        try:
            manager.delete(name)
        except MetricNotStoredError:
            continue  # someone was quicker
        yield name
