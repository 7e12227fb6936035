"""What a manager's storage holds of what it declares: list, pick, and clear."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

import attrs

from smm._files import name_of_stem
from smm._select import groups as groups
from smm._select import select as select
from smm._select import stored_names as stored_names
from smm.errors import MetricNotStoredError
from smm.manager import DatedCacheManager
from smm.protocols import FolderStorage, RecordStorage


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
    waiting: bool = False
    """Declared without a function: `@CM.collect` has not brought it yet."""

    @property
    def missing(self) -> int:
        """Rows that are not stored."""
        return self.declared - self.stored


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
    """How much of what is declared is stored. Opens one side-car a metric where there are files.

    Args:
        manager: whose metrics.
        names: declared names to look at; all by default.
    """
    stored = stored_names(manager)
    files = _file_facts(manager, stored)
    wanted = None if names is None else set(names)
    metrics = []
    for base_name, rows in groups(manager).items():
        seen = rows if wanted is None else [name for name in rows if name in wanted]
        if seen:
            there = [name for name in seen if name in stored]
            metrics.append(_metric_status(manager, base_name, len(seen), there, files))
    waiting = manager.waiting if wanted is None else ()
    metrics += [
        MetricStatus(base_name=name, declared=0, stored=0, last=None, size=None, waiting=True)
        for name in waiting
    ]
    return Status(metrics=tuple(metrics), undeclared=len(stored - manager.functions_dict.keys()))


def _metric_status(
    manager: DatedCacheManager,
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
    return MetricStatus(base_name=base_name, declared=declared, stored=len(stored), last=last, size=size)


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
            name = name_of_stem(stem) or stem  # the predecessor wrote names as they are
            if name not in stored:
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
