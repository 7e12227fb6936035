"""The base of all storages that keep one file per metric in one folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from smm._files import (
    NewFile,
    check_folder,
    crc32_of_file,
    file_stem,
    is_as_noted,
    name_of_stem,
    remove_file,
)
from smm._npy import Pickled
from smm._npz import Newer
from smm._refusals import Refused
from smm._tree import Damaged
from smm.errors import (
    CorruptMetricError,
    MetricNameError,
    MetricNotStoredError,
    NewerFormatError,
    PickleRefusedError,
    UnstorableError,
)
from smm.metric import Record, Stamp
from smm.protocols import SIDECAR

_RECORD_ENDING = SIDECAR + ".json"
_FILE_EXT = re.compile(r"\.[A-Za-z0-9._~=+,-]{1,30}")


class FileBasedStorageInterface:
    """One file per metric in one folder; a subclass says how data becomes a file.

    It has two methods. `_save(filepath, data)` writes all of `data` to the file `filepath`, which exists, is
    empty, and has a name of its own in `.smm/tmp`; `_load(filepath)` reads it. The rest is done here: a save
    moves the finished file into place, so that a name holds the whole old data or the whole new data whatever
    happens, and the side-car lies beside it as JSON.

    File names are the metric names, percent-encoded where needed. Files that the predecessor wrote under the
    bare name are found too, and replaced. Any number of threads and processes may use one folder; nothing
    is locked, the last save wins.

    Args:
        file_ext: the files' ending, with its dot: `.pkl`.
        metrics_dir: the folder; `~` is expanded, and a relative path means the working directory of now. It
            is made by the first save.
        fsync: let every save survive a power failure; takes as long as the disk does.

    Raises:
        ValueError: `file_ext` is no ending.
    """

    file_ext: str
    metrics_dir: Path
    fsync: bool

    _shown: ClassVar[tuple[str, ...]] = ("file_ext", "metrics_dir", "fsync")
    """The arguments that repr shows."""

    def __init__(self, file_ext: str, metrics_dir: str | os.PathLike[str], *, fsync: bool = False) -> None:
        if not _FILE_EXT.fullmatch(file_ext):
            raise ValueError(f"file_ext {file_ext!r} must be a dot and plain characters, such as '.npz'")
        self.file_ext = file_ext
        self.metrics_dir = Path(os.path.abspath(os.path.expanduser(metrics_dir)))
        self.fsync = fsync

    def __repr__(self) -> str:
        shown = {key: getattr(self, key) for key in self._shown} | {"metrics_dir": str(self.metrics_dir)}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"

    # --- what a subclass says ---------------------------------------------------------------------------

    def _save(self, filepath: str, data: Any) -> None:
        """Write `data` to the file `filepath`; an exception leaves everything as it was."""
        raise NotImplementedError(f"{type(self).__name__} has no _save(filepath, data)")

    def _load(self, filepath: str) -> Any:
        """Read what `_save` wrote."""
        raise NotImplementedError(f"{type(self).__name__} has no _load(filepath)")

    def _write(self, file: NewFile, data: Any) -> None:
        self._save(file.path, data)

    def _read(self, path: str, stamp: Stamp | None) -> Any:
        """The data of a file, held against the stamp if its size and time are the stamp's."""
        as_noted = stamp is not None and is_as_noted(os.stat(path), stamp)
        if as_noted and stamp is not None and crc32_of_file(path) != stamp.crc32:
            raise Damaged("its check sum is not the one noted when it was written")
        return self._load(path)

    # --- StorageInterface -------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether the metric's file is there; for `x_date`, whether `x` has a side-car. Opens nothing."""
        if self._find(name, (self.file_ext,)) is not None:
            return True
        owner = owner_of(name)
        return owner is not None and self.has_record(owner)

    def save(self, name: str, data: Any) -> None:
        """Store data under a name, in one step; its side-car is left as it is.

        Raises:
            UnstorableError: this storage cannot keep the data; nothing is touched.
            MetricNameError: it cannot hold the name; nothing is touched.
            OSError: it could not be written; the old data is as it was.
        """
        self.stage(name, data).publish()

    def load(self, name: str) -> Any:
        """The data stored under a name; for `x_date`, the date in the side-car of `x`, as ISO 8601 text.

        Raises:
            MetricNotStoredError: there is none.
            CorruptMetricError: the file is damaged.
            PickleRefusedError: it holds pickled objects, and this storage does not allow them.
            NewerFormatError: a later version of smm wrote it.
            OSError: it cannot be read.
        """
        owner = owner_of(name)
        sidecar = None if owner is None else self._sidecar(owner)
        if sidecar is not None:
            text, saved_as_data = sidecar
            date = noted_date(text)
            if date is not None and (date == text or not saved_as_data):
                return date
        return self.load_verified(name, None)

    # --- further abilities ------------------------------------------------------------------------------

    def stage(self, name: str, data: Any) -> StagedFile:
        """Write the data to its temporary file; an exception leaves nothing. Raises as `save`."""
        target, *replaced = self._paths(name, (self.file_ext,))
        owner = owner_of(name)
        if owner is not None and self.file_ext != ".json":
            # Someone keeps a side-car as data: from now on that is the one.
            replaced += self._paths(owner, (_RECORD_ENDING,))
        file = NewFile(str(self.metrics_dir), self.file_ext, fsync=self.fsync)
        try:
            self._write(file, data)
            stamp = file.finish()
        except BaseException as error:
            file.discard()
            if isinstance(error, Refused):
                raise unstorable(self, name, error) from None
            error.add_note(f"while storing metric {name!r} in {self.metrics_dir}")
            raise
        return StagedFile(file, target, stamp, replaced)

    def load_verified(self, name: str, stamp: Stamp | None) -> Any:
        """The data, every byte of it checked; raises as `load`.

        A file of the stamp's size and time must have its check sum. A file of another size or time was put
        there by someone else, and is believed if the format's own checks pass.
        """
        path = self._find(name, (self.file_ext,))
        if path is None:
            raise self._not_stored(name)
        try:
            return self._read(path, stamp)
        except Damaged as error:
            raise CorruptMetricError(name=name, path=Path(path), reason=error.reason) from None
        except Pickled:
            raise PickleRefusedError(name=name, path=Path(path)) from None
        except Newer as error:
            raise NewerFormatError(name=name, path=Path(path), found=error.found, known=error.known) from None
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not os.path.lexists(path):
                raise self._not_stored(name) from None  # removed a moment ago
            error.add_note(f"while loading metric {name!r} from {path}")
            raise

    def check(self, name: str) -> None:
        """Raise now what `save` would raise whatever the data; creates nothing.

        Raises:
            MetricNameError: the name makes no file name.
            OSError: the folder is a file, or cannot be written.
        """
        self._stems(name)
        try:
            check_folder(str(self.metrics_dir))
        except OSError as error:
            error.add_note(
                f"metric {name!r} could not be stored in {self.metrics_dir}; "
                "make it a folder you can write to, or choose another metrics_dir"
            )
            raise

    def delete(self, name: str) -> None:
        """Remove side-car and data, in this order; fine if they are not there."""
        self.remove_record(name)
        for path in self._paths(name, (self.file_ext,)):
            remove_file(path, fsync=self.fsync)
        owner = owner_of(name)
        if owner is not None:
            self.remove_record(owner)

    def names(self) -> set[str]:
        """The names that have data, by one listing of the folder."""
        return self._listed(self._listing(), (self.file_ext,))

    # --- side-cars --------------------------------------------------------------------------------------

    def has_record(self, name: str) -> bool:
        """Whether there is a side-car, of any form. Opens nothing."""
        return self._find(name, self._record_endings) is not None

    def read_record(self, name: str) -> str | None:
        """The side-car's text: a record's JSON, or a bare date; None if it is missing or damaged."""
        sidecar = self._sidecar(name)
        return None if sidecar is None else sidecar[0]

    def write_record(self, name: str, text: str) -> None:
        """Write the side-car in one step, and remove its older forms."""
        target, *older = self._paths(name, self._record_endings)
        file = NewFile(str(self.metrics_dir), ".json", fsync=self.fsync)
        try:
            file.write(text.encode())
            StagedFile(file, target, file.finish(), older).publish()
        except BaseException as error:
            file.discard()
            error.add_note(f"while storing the side-car of metric {name!r} in {self.metrics_dir}")
            raise

    def remove_record(self, name: str) -> None:
        """Remove the side-car in all its forms; fine if there is none."""
        for path in self._paths(name, self._record_endings):
            remove_file(path, fsync=self.fsync)

    def recorded(self) -> set[str]:
        """The names that have data and a side-car, by one listing of the folder."""
        listing = self._listing()
        return self._listed(listing, (self.file_ext,)) & self._listed(listing, self._record_endings)

    @property
    def _record_endings(self) -> tuple[str, ...]:
        """What a side-car may end in: as smm writes it, then as the predecessor did."""
        return tuple(dict.fromkeys((_RECORD_ENDING, SIDECAR + self.file_ext)))

    def _sidecar(self, name: str) -> tuple[str, bool] | None:
        """The side-car's text, and whether someone saved it as data: the predecessor, or a wrapper."""
        path = self._find(name, self._record_endings)
        if path is None:
            return None
        try:
            if not path.endswith(_RECORD_ENDING):
                saved = _as_text(self._read(path, None))
                return None if saved is None else (saved, True)
            text = Path(path).read_text("utf-8")
            return (json.loads(text), True) if text.startswith('"') else (text, False)
        except (OSError, MemoryError) as error:
            if isinstance(error, FileNotFoundError):
                return None  # removed a moment ago
            error.add_note(f"while loading the side-car of metric {name!r} from {path}")
            raise
        except Exception:  # noqa: BLE001 - a subclass's _load may raise anything at damaged bytes
            return None

    # --- names and paths --------------------------------------------------------------------------------

    def _stems(self, name: str) -> tuple[str, ...]:
        """What a metric's files may begin with: as smm writes it, then as the predecessor did."""
        stem = file_stem(name, longest_ending=max(len(self.file_ext), len(_RECORD_ENDING)))
        # What is another metric's encoded name stays that one's.
        bare = name_of_stem(name) is None and name[0] != "." and "/" not in name and "\0" not in name
        return (stem, name) if bare else (stem,)

    def _paths(self, name: str, endings: tuple[str, ...]) -> list[str]:
        """All files that may be there; the first is the one to write."""
        return [
            os.path.join(self.metrics_dir, stem + ending) for stem in self._stems(name) for ending in endings
        ]

    def _find(self, name: str, endings: tuple[str, ...]) -> str | None:
        """The first of these files that is there."""
        try:
            paths = self._paths(name, endings)
        except MetricNameError:
            return None  # what cannot be a file's name is not there
        return next(filter(_is_file, paths), None)

    def _listing(self) -> set[str]:
        try:
            with os.scandir(self.metrics_dir) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return set()

    def _listed(self, listing: set[str], endings: tuple[str, ...]) -> set[str]:
        """The names of which a file with one of these endings is listed; side-cars are no metrics."""
        found = {
            self._name_of(file.removesuffix(ending))
            for ending in endings
            for file in listing
            if file.endswith(ending)
        }
        return {name for name in found if name is not None and not name.endswith(SIDECAR)}

    def _name_of(self, stem: str) -> str | None:
        name = name_of_stem(stem)
        if name is None:
            with contextlib.suppress(MetricNameError):
                name = stem if stem in self._stems(stem) else None
        return name

    def _not_stored(self, name: str) -> MetricNotStoredError:
        return MetricNotStoredError(name=name, where=str(self.metrics_dir))


class StagedFile:
    """A metric's new file, written in full, and where it goes."""

    def __init__(self, file: NewFile, target: str, stamp: Stamp, replaced: list[str]) -> None:
        self.stamp: Stamp | None = stamp
        self._file = file
        self._target = target
        self._replaced = replaced

    def publish(self) -> None:
        """Move the file into place, and remove other forms of what it replaces.

        Raises:
            OSError: it could not be moved; the old data is as it was.
        """
        self._file.publish(self._target)
        for path in self._replaced:
            remove_file(path)

    def discard(self) -> None:
        """Remove the file; fine if that is done already, or if it is published."""
        self._file.discard()


def owner_of(name: str) -> str | None:
    """The metric whose side-car goes by this name; None if it is no side-car's."""
    return (name.removesuffix(SIDECAR) or None) if name.endswith(SIDECAR) else None


def noted_date(text: str) -> str | None:
    """The date in a side-car's text, as it is written there; None if the text is no record."""
    try:
        Record.from_json("", text)
    except ValueError:
        return None
    return str(json.loads(text)["date"]) if text.startswith("{") else text


def unstorable(storage: object, name: str, refused: Refused) -> UnstorableError:
    """The refusal, with the storage and the metric."""
    return UnstorableError(
        name=name,
        storage=type(storage).__name__,
        place=refused.place,
        found=refused.found,
        way_out=refused.way_out,
    )


def _is_file(path: str) -> bool:
    """Whether there is a file, or a link to one. A folder that may not be searched is an error, not a no."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _as_text(data: Any) -> str | None:
    """A text as storages give it back: a str, or an array without dimensions that holds one."""
    if isinstance(data, np.ndarray) and data.shape == () and data.dtype.kind == "U":
        return str(data)
    return data if isinstance(data, str) else None
