"""What a storage can do, in small protocols: three methods are enough, each further ability is one more.

A manager asks once, when it is made (`able`). What needs an ability that a storage lacks says so, by
class name (`StorageAbilityError`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from smm.metric import Stamp

if TYPE_CHECKING:
    from pathlib import Path

SIDECAR = "_date"
"""What the name of a side-car adds to its metric's; no metric's own name ends in it."""


@runtime_checkable
class StorageInterface(Protocol):
    """Keeps data by name. A class with just these three methods works everywhere."""

    def exists(self, name: str) -> bool:
        """Whether data of that name is stored. Opens nothing, creates nothing."""

    def save(self, name: str, data: Any) -> None:
        """Store data under a name, in place of what was there.

        Whatever happens in the middle, the name holds the whole old data or the whole new data.

        Raises:
            TypeError: the storage cannot keep this data; everything is as it was.
        """

    def load(self, name: str) -> Any:
        """The data stored under a name.

        Raises:
            KeyError: nothing is (`MetricNotStoredError` in smm's own storages).
        """


@runtime_checkable
class CanonicalStorage(Protocol):
    """Knows without a save what a load would give."""

    def canonical(self, name: str, data: Any) -> Any:
        """What `load(name)` would give after `save(name, data)`; shares nothing mutable with `data`.

        Touches nothing. `canonical(name, canonical(name, data))` is like `canonical(name, data)`.

        Raises:
            UnstorableError: the storage cannot keep this data.
        """


@runtime_checkable
class AdoptingStorage(Protocol):
    """Need not copy what it is given.

    It is asked in place of `canonical`, if the same class has both.
    """

    def adopt(self, name: str, data: Any) -> Any:
        """As `canonical(name, data)`, of data that nobody else holds, and the caller gives away.

        `data` may come back itself. A manager makes the arrays in what comes back read-only for good.

        Raises:
            UnstorableError: the storage cannot keep this data, which is then as it was.
        """


class Staged(Protocol):
    """Data that is written in full, but not under its name yet. End it with one of the two methods."""

    @property
    def stamp(self) -> Stamp | None:
        """What the file looks like; None where there is no file."""

    def publish(self) -> None:
        """Put the data under its name, in one step."""

    def discard(self) -> None:
        """Throw the data away; fine if that is done already, or if it is published."""


@runtime_checkable
class ComparableData(Protocol):
    """Staged data that can be compared with what is stored under its name."""

    def is_stored(self) -> bool:
        """Return whether the stored data has the very same bytes; False if there is none.

        Raises:
            OSError: the stored data cannot be read.
        """


@runtime_checkable
class StagingStorage(Protocol):
    """Saves in two steps, so that all refusals and full disks come before anything visible changes."""

    def stage(self, name: str, data: Any) -> Staged:
        """Write the data aside. An exception leaves nothing.

        Raises:
            UnstorableError: the storage cannot keep this data.
            MetricNameError: it cannot hold this name.
            OSError: it could not be written.
        """


@runtime_checkable
class RecordStorage(Protocol):
    """Keeps a short text beside the data: the side-car."""

    def has_record(self, name: str) -> bool:
        """Whether there is a side-car, of any form. Opens nothing."""

    def read_record(self, name: str) -> str | None:
        """The side-car's text: a record's JSON, or the bare date the predecessor wrote.

        None if there is no side-car, or if its bytes are damaged, which counts as missing.
        """

    def write_record(self, name: str, text: str) -> None:
        """Write the side-car in one step, and remove its older forms."""

    def remove_record(self, name: str) -> None:
        """Remove the side-car in all its forms; fine if there is none."""

    def names(self) -> set[str]:
        """The names that have data, by one listing."""

    def recorded(self) -> set[str]:
        """The names that have data and a side-car, by one listing."""


@runtime_checkable
class VerifyingStorage(Protocol):
    """Can hold what it reads against a stamp noted when it was written."""

    def load_verified(self, name: str, stamp: Stamp | None) -> Any:
        """The data, every byte of it checked.

        A file of the stamp's size and time must have its check sum. A file of another size or time was
        put there by someone else, and is believed if the format's own checks pass.

        Raises:
            CorruptMetricError: the bytes are damaged.
            MetricNotStoredError: there are none.
        """


@runtime_checkable
class DeletingStorage(Protocol):
    """Can remove what it keeps."""

    def delete(self, name: str) -> None:
        """Remove data and side-car; fine if there are none."""


@runtime_checkable
class CheckedStorage(Protocol):
    """Can say beforehand that a save will fail."""

    def check(self, name: str) -> None:
        """Raise now what `save` would raise whatever the data. Creates nothing.

        Raises:
            MetricNameError: the storage cannot hold this name.
            OSError: its folder is a file, or cannot be written.
        """


@runtime_checkable
class FolderStorage(Protocol):
    """Keeps its data in a folder that other processes may share."""

    metrics_dir: Path
    """Where; may be missing until the first save."""


def able(storage: object, protocol: Any) -> Any:
    """The storage as what has a protocol's methods; None if it lacks one.

    As `isinstance`, which from Python 3.12 on imports `inspect` for that.
    """
    methods = [name for name in vars(protocol) if not name.startswith("_")]
    return storage if all(hasattr(storage, name) for name in methods) else None
