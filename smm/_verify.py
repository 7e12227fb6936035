"""Whether what is stored is still what was stored: every byte, against its record and its format."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import attrs

from smm._shelf import Shelf
from smm._stored import (
    Noted,
    Reading,
    Store,
    Trouble,
    data_file,
    matching,
    names_with_data,
    noted,
    on_steady_pair,
    read,
    shelf_of,
    sidecar_file,
)
from smm.metric import Stamp


@attrs.frozen(kw_only=True)
class Verdict:
    """What became of a stored metric's bytes."""

    name: str
    problem: str | None
    """What is wrong, in words; None if every byte is as it should be."""
    trouble: Trouble | None = None
    """`damaged`: the bytes are not what was written. `replaced`: somebody has written a whole file in the
    place of the one that the record describes. `side-car`: the record is damaged, or another metric's.
    `pickled`: the storage may not read it. `newer`: a later version of smm wrote it. `unreadable`: the
    operating system, or the storage's own class, does not give it out."""
    path: Path | None = None
    """Of the file that is meant; None for storages without files."""
    size: int | None = None
    """Bytes of the data."""
    against: Literal["record", "format"] = "format"
    """`record`: the check sum noted when it was written. `format`: no more than the format's own checks, for
    want of a noted check sum; those of npy and json miss most changes of single bytes."""


def verify(store: Store, names: Iterable[str] | None = None) -> Iterator[Verdict]:
    """Read every stored metric, and hold every byte against its record and its format.

    One value at a time, which nothing keeps: neither a manager's memory nor its staleness is touched. Nothing
    is written or locked, nothing is computed. What others replace or delete meanwhile is no problem.

    Args:
        store: a manager, a storage, or a folder of results.
        names: metric names, base names or globs; everything that has data by default, also what nothing
            declares any more, and what has no side-car.

    Raises:
        UnknownMetricError: a name means nothing.
        TargetError: the folder holds no results, or results of several formats.
        StorageAbilityError: the storage cannot list what it has.
    """
    shelf = _unmapped(shelf_of(store))
    chosen = names_to_verify(store, names)
    return (verdict for name in chosen if (verdict := _verdict(shelf, name)) is not None)


def names_to_verify(store: Store, patterns: Iterable[str] | None) -> list[str]:
    """The names that `verify` comes to; raises as `verify`."""
    shelf = shelf_of(store)

    def base_name(name: str) -> str | None:
        record = noted(shelf, name).record
        return None if record is None else record.base_name

    return matching(names_with_data(store, shelf), patterns, base_name=base_name, store=store)


def _unmapped(shelf: Shelf) -> Shelf:
    """The same, but for a storage that maps its files, which would leave most of their bytes unread."""
    if not getattr(shelf.storage, "mmap", False):
        return shelf
    storage: Any = copy.copy(shelf.storage)
    storage.mmap = False
    return Shelf(storage)


def _verdict(shelf: Shelf, name: str) -> Verdict | None:
    """Check one metric; None if it has just been deleted."""
    try:
        return on_steady_pair(shelf, name, lambda seen: _judged(shelf, name, seen))
    except OSError as error:  # of the side-car, or of the whole folder
        return Verdict(
            name=name,
            problem=f"it cannot be read: {error.strerror or error}",
            trouble="unreadable",
            path=None if error.filename is None else Path(error.filename),
        )


def _judged(shelf: Shelf, name: str, seen: Noted) -> Verdict | None:
    path = data_file(shelf, name)
    stamp = None if seen.record is None else seen.record.data
    try:
        status = None if path is None else os.stat(path)
    except FileNotFoundError:
        return None
    found = _read_strictly(shelf, name, stamp, status)
    if found is None:
        return None
    trouble, problem = found.trouble, found.reason
    if seen.problem:
        if trouble is None:
            trouble, path = "newer" if seen.is_newer else "side-car", sidecar_file(shelf, name)
        problem = "; ".join(filter(None, (problem, f"its side-car {seen.problem}")))
    summed = stamp is not None and status is not None and status.st_size == stamp.size
    return Verdict(
        name=name,
        problem=problem or None,
        trouble=trouble,
        path=path,
        size=None if status is None else status.st_size,
        against="record" if summed else "format",
    )


def _read_strictly(
    shelf: Shelf, name: str, stamp: Stamp | None, status: os.stat_result | None
) -> Reading | None:
    """Read a value and let go of it. Storages believe a file of another time than noted; not so here."""
    if stamp is None or status is None:
        return _without_value(read(shelf, name, None))
    if status.st_size != stamp.size:
        text = f"it has {status.st_size:,} bytes, where its record notes {stamp.size:,}"
        found = _without_value(read(shelf, name, None))
        return _replaced(text) if found is not None and found.trouble is None else found
    summed = _without_value(read(shelf, name, attrs.evolve(stamp, mtime_ns=status.st_mtime_ns)))
    if summed is None or summed.trouble != "damaged" or status.st_mtime_ns == stamp.mtime_ns:
        return summed
    by_format = _without_value(read(shelf, name, None))
    if by_format is not None and by_format.trouble is None:
        return _replaced(summed.reason)
    return summed if by_format is None or by_format.trouble != "damaged" else by_format


def _without_value(found: Reading | None) -> Reading | None:
    return None if found is None else attrs.evolve(found, value=None)


def _replaced(why: str) -> Reading:
    return Reading(trouble="replaced", reason=f"it is whole, but not the file that was stored: {why}")
