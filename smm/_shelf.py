"""A metric's data and its side-car as one thing, whatever the storage under it can do.

The order of every publication is the same, so that each failure in the middle is safe: the data is encoded
and written aside; the side-car goes; the data moves into place; the side-car is written. Data without a
side-car was never finished, and counts as not stored.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from smm import __version__
from smm._flights import current
from smm._reading import warn_of_damage
from smm.errors import MetricNotStoredError, StorageAbilityError
from smm.metric import Code, Read, Record, SideCar
from smm.protocols import (
    SIDECAR,
    AdoptingStorage,
    CanonicalStorage,
    CheckedStorage,
    ComparableData,
    DeletingStorage,
    FolderStorage,
    RecordStorage,
    Staged,
    StagingStorage,
    StorageInterface,
    VerifyingStorage,
    able,
)

if TYPE_CHECKING:
    from pathlib import Path

    import attrs
else:
    from smm import _attrs as attrs

UNFINISHED = "unfinished"
"""What a storage with only three methods keeps in the side-car's place while the data is being replaced."""


@attrs.frozen(kw_only=True)
class Published:
    """A pair of data and record that has just been stored."""

    value: Any
    """The canonical value, as a load would give it."""
    record: Record
    """The record as it was written, its stamp aside."""
    replaced: bool
    """True if a complete pair was there before."""


class Shelf:
    """Where a manager's metrics lie: one storage, seen as pairs of data and side-car.

    Holds nothing in memory but the storage. Safe for many threads if the storage is.
    """

    def __init__(self, storage: StorageInterface) -> None:
        self.storage = storage
        self._canonical: CanonicalStorage | None = able(storage, CanonicalStorage)
        self._adopting: AdoptingStorage | None = _adopting(storage)
        self._checked: CheckedStorage | None = able(storage, CheckedStorage)
        self._records: RecordStorage | None = able(storage, RecordStorage)
        self._staging: StagingStorage | None = able(storage, StagingStorage)
        self._verifying: VerifyingStorage | None = able(storage, VerifyingStorage)
        self._folder = _folder_of(storage)
        self._suffix = getattr(storage, "file_ext", "") if self._folder else ""
        # Two storages on one folder and with one file form keep the same metrics.
        self.space: tuple[object, ...] = (
            (os.path.realpath(self._folder), self._suffix) if self._folder else (id(storage),)
        )

    @cached_property
    def folder(self) -> Path | None:
        """Where the data lies; None for storages without a folder."""
        from pathlib import Path

        return Path(self._folder) if self._folder else None

    @property
    def where(self) -> str:
        """The storage as a message names it: its folder, else its class."""
        return self._folder or type(self.storage).__name__

    # --- looking ----------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the pair is there. Opens no data; of a storage with three methods, the side-car."""
        if not self.storage.exists(name):
            return False
        return self.record(name) is not None if self._records is None else self._records.has_record(name)

    def stored(self) -> set[str]:
        """The names of all pairs, by one listing of the folder.

        Raises:
            StorageAbilityError: the storage cannot list what it has.
        """
        if self._records is None:
            raise self._unable("recorded", "listing what is stored")
        return self._records.recorded()

    def record(self, name: str) -> Record | None:
        """The side-car's record; None if there is no side-car, or a damaged one, which counts as missing."""
        noted = self.sidecar(name)
        return None if noted is None else noted.record()

    def sidecar(self, name: str) -> SideCar | None:
        """Return the side-car, of which no more is read than the text; None as `record`.

        Warns:
            SmmWarning: it is damaged.
        """
        text = self._text(name)
        if text is None or text == UNFINISHED:
            return None
        try:
            return SideCar(name, text)
        except ValueError as error:
            warn_of_damage(name, self.where, error)
            return None

    def _text(self, name: str) -> str | None:
        return self._note(name) if self._records is None else self._records.read_record(name)

    def _note(self, name: str) -> str | None:
        """The side-car's text in a storage that knows only names and values."""
        if not self.storage.exists(name + SIDECAR):
            return None
        try:
            # A storage of arrays gives a text back as an array without dimensions.
            text = str(self.storage.load(name + SIDECAR))
        except (OSError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - whatever this class raises for damage: the side-car counts as missing
            return None
        return None if text == UNFINISHED else text

    def date_text(self, name: str) -> str:
        """The date as the side-car has it, ISO 8601: a time, or the day that the predecessor wrote.

        Raises:
            MetricNotStoredError: there is no side-car, or a damaged one.
        """
        noted = self.sidecar(name)
        if noted is None:
            raise MetricNotStoredError(name=name, where=self.where)
        return noted.date_text

    # --- reading ----------------------------------------------------------------------------------------

    def read(self, name: str) -> tuple[Any, SideCar] | None:
        """The pair, every byte of the data checked once; None if it is not stored or not finished.

        Raises:
            CorruptMetricError: the data's bytes are damaged.
        """
        if self._records is None and not self.storage.exists(name):
            return None
        noted = self.sidecar(name)
        if noted is None:
            return None
        try:
            if self._verifying is not None:
                return self._own(self._verifying.load_verified(name, noted.data)), noted
            return (self._own(self.storage.load(name)), noted) if self.storage.exists(name) else None
        except MetricNotStoredError:
            return None  # deleted between the look and the read

    # --- writing ----------------------------------------------------------------------------------------

    def check(self, name: str) -> None:
        """Raise now what storing `name` would raise after the computation, as far as it can be known.

        Raises:
            MetricNameError: the storage cannot hold this name.
            OSError: the folder cannot be written.
        """
        if self._checked is not None:
            self._checked.check(name)

    def canonical(self, name: str, data: Any, *, given_away: bool = False) -> Any:
        """What `load` would give after `save(name, data)`; a copy of `data` where only a save can tell.

        Args:
            name: the metric's.
            data: its value.
            given_away: whether nobody but the caller has `data`, who will let it go unless it is refused.

        Raises:
            UnstorableError: the storage refuses the value.
        """
        if given_away and self._adopting is not None:
            return self._adopting.adopt(name, data)
        return copied(data) if self._canonical is None else self._canonical.canonical(name, data)

    def _own(self, data: Any) -> Any:
        """A loaded value that nobody else holds: a class of the user's may give out the object it keeps."""
        return copied(data) if self._canonical is None else data

    def write(self, name: str, data: Any, record: Record) -> Published:
        """Publish the pair.

        A value with the same bytes as the one that it replaces keeps that one's `changed`, so that what read
        the old one stays fresh.

        After an exception while the data is written aside, the old pair is as it was. After one in the later
        steps, or in any with a storage of only the three methods, the metric counts as not stored.

        Raises:
            UnstorableError: refused.
            OSError: could not be written.
        """
        staged = self._staging.stage(name, data) if self._staging is not None else None
        try:
            before = self.sidecar(name)
            if before is not None and self._is_same(name, data, staged, before):
                record = attrs.evolve(record, changed=before.changed)
            if self._records is not None:
                self._records.remove_record(name)
            else:
                self.storage.save(name + SIDECAR, UNFINISHED)
            if staged is not None:
                staged.publish()
            else:
                self.storage.save(name, data)
        except BaseException:
            if staged is not None:
                staged.discard()
            raise
        text = record.text_with(None if staged is None else staged.stamp)
        if self._records is not None:
            self._records.write_record(name, text)
        else:
            self.storage.save(name + SIDECAR, text)
        value = data if self._canonical is not None else self._own(self.storage.load(name))
        return Published(value=value, record=record, replaced=before is not None)

    def _is_same(self, name: str, data: Any, staged: Staged | None, before: SideCar) -> bool:
        """Return whether new data has the very bytes of the stored data, which is complete.

        Of storages without files, the values that they give back are compared by what an npz would hold.
        """
        stamp = None if staged is None else staged.stamp
        if stamp is not None:
            noted = before.data
            same_sum = noted is not None and (stamp.size, stamp.crc32) == (noted.size, noted.crc32)
            comparable: ComparableData | None = able(staged, ComparableData)
            return same_sum and comparable is not None and comparable.is_stored()
        try:
            stored = self.storage.load(name) if self.storage.exists(name) else None
        except (OSError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - whatever this class raises for damage: it is not the same then
            return False
        from smm._npz import same_npz

        return same_npz(stored, data)

    def write_record(self, record: Record) -> None:
        """Put another record in the place of a stored metric's; the data stays.

        Raises:
            OSError: could not be written.
        """
        if self._records is not None:
            self._records.write_record(record.name, record.to_json())
        else:
            self.storage.save(record.name + SIDECAR, record.to_json())

    def delete(self, name: str) -> None:
        """Remove data and side-car.

        Raises:
            StorageAbilityError: the storage has no `delete`.
        """
        if not isinstance(self.storage, DeletingStorage):
            raise self._unable("delete", "deleting a metric")
        self.storage.delete(name)
        if self._records is None and self.storage.exists(name + SIDECAR):
            self.storage.delete(name + SIDECAR)

    # --- one process at a time --------------------------------------------------------------------------

    def lock(self, name: str, *, waiting: Callable[[str], None]) -> AbstractContextManager[object]:
        """Hold the metric among the processes that share the folder; nothing to do for other storages."""
        if self.folder is None:
            return nullcontext()
        take: Callable[..., AbstractContextManager[object]] = _folder_lock()
        return take(self.folder, name + self._suffix, waiting=waiting, flight=current())

    def _unable(self, method: str, purpose: str) -> StorageAbilityError:
        return StorageAbilityError(storage=type(self.storage).__name__, method=method, purpose=purpose)


def _folder_of(storage: StorageInterface) -> str | None:
    """Where a storage keeps its data, as text; `pathlib` takes a while to import."""
    folder: Any = getattr(storage, "__dict__", {}).get("metrics_dir")
    if type(folder) is not str:
        folder = storage.metrics_dir if isinstance(storage, FolderStorage) else None
    # A class of the user's may note it relative to where the process is now.
    return None if folder is None else os.path.join(os.getcwd(), folder)


@cache
def _folder_lock() -> Any:
    from smm._locks import folder_lock

    return folder_lock


def _adopting(storage: Any) -> AdoptingStorage | None:
    """The storage, if it adopts, and nobody has put a `canonical` of another class before its own."""
    classes = type(storage).__mro__
    adopts = next((cls for cls in classes if "adopt" in vars(cls)), None)
    knows = next((cls for cls in classes if "canonical" in vars(cls)), None)
    own = "canonical" in getattr(storage, "__dict__", {})
    return storage if adopts is knows is not None and not own else None


def nobody_else_has(made: list[Any]) -> bool:
    """Whether the first element of a list is in no other variable or container, nor weakly referred to.

    Args:
        made: of which the caller holds nothing but the list. A variable would not do: who looks at the frame
            (`f_locals`) refers to that, too.
    """
    if not hasattr(sys, "getrefcount"):  # another Python than CPython
        return False
    for _ in range(2):  # before and after the other question: by a weak reference, others may have come to it
        if sys.getrefcount(made[0]) != _HELD_BY_A_LIST or weakref.getweakrefcount(made[0]):
            return False
    return True


_HELD_BY_A_LIST = 2
"""References to what only a list has: the list's, and that of whoever counts."""


def copied(data: Any) -> Any:
    """A copy that shares nothing with `data`; `data` itself if its class cannot be copied."""
    import copy

    try:
        return copy.deepcopy(data)
    except Exception:  # noqa: BLE001 - a lock, an open file, a compiled model: shared, since it cannot be copied
        return data


def new_record(
    name: str,
    *,
    base_name: str | None = None,
    params: dict[str, Any] | None = None,
    duration_seconds: float | None = None,
    code: Code | None = None,
    inputs: tuple[Read, ...] | None = None,
    reads_unseen: str | None = None,
) -> Record:
    """Return the record of a computation that ended now; the data's stamp is added when it is written."""
    numpy = sys.modules.get("numpy")  # what has not loaded it owes nothing to it
    now = datetime.now(UTC)
    return Record(  # with all fields, which are quicker made so
        name=name,
        base_name=base_name,
        params=params,
        date=now,
        changed=now,
        duration_seconds=duration_seconds,
        data=None,
        code=code,
        inputs=inputs,
        reads_unseen=reads_unseen,
        accepted=None,
        smm_version=__version__,
        python_version=_python_version(),
        numpy_version=getattr(numpy, "__version__", None),
    )


@cache
def _python_version() -> str:
    import platform

    return platform.python_version()
