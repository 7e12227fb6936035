"""The base of all storages that keep one file per metric in one folder."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from smm._files import (
    NewFile,
    check_folder,
    check_type,
    remove_file,
    write_small,
)
from smm._folders import look_at
from smm._listing import RECORD_ENDING as _RECORD_ENDING
from smm._listing import listed, listing, recorded, stems
from smm._listing import record_endings as _record_endings
from smm._reading import (
    RECORD_LIMIT,
    close,
    crc32_of_open,
    irregular,
    kind_of,
    open_file,
    read_text,
    warn_of,
    warn_of_damage,
)
from smm._refusals import Keeps, Refused
from smm._text import visible
from smm._tree import Damaged, Newer, Pickled
from smm.errors import (
    CorruptMetricError,
    MetricNameError,
    MetricNotStoredError,
    NewerFormatError,
    PickleRefusedError,
    StoreFileError,
    UnstorableError,
)
from smm.metric import Record, Stamp
from smm.protocols import SIDECAR

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
else:
    from smm import _numpy as np


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
    fsync: bool

    _shown: ClassVar[tuple[str, ...]] = ("file_ext", "metrics_dir", "fsync")
    """The arguments that repr shows."""

    def __init__(self, file_ext: str, metrics_dir: str | os.PathLike[str], *, fsync: bool = False) -> None:
        if not _is_ending(file_ext):
            raise ValueError(f"file_ext {file_ext!r} must be a dot and plain characters, such as '.npz'")
        self.file_ext = file_ext
        self.metrics_dir = os.path.abspath(os.path.expanduser(metrics_dir))
        self.fsync = fsync

    @property
    def metrics_dir(self) -> Path:
        """The folder, absolute."""
        from pathlib import Path  # which takes a while, and serving a value does not need it

        return Path(self._folder)

    @metrics_dir.setter
    def metrics_dir(self, folder: str | os.PathLike[str]) -> None:
        self._folder = vars(self)["metrics_dir"] = os.fspath(folder)  # for `Shelf`, too

    def __repr__(self) -> str:
        shown = {key: getattr(self, key) for key in self._shown} | {"metrics_dir": self._folder}
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
        descriptor, status = open_file(path)
        try:
            summed = stamp is not None and stamp.fits(status)
            total = crc32_of_open(descriptor, path) if summed else None
        finally:
            close(descriptor, path)
        if stamp is not None and total is not None and total != stamp.crc32:
            raise Damaged("its check sum is not the one noted when it was written")
        return self._load(path)

    # --- StorageInterface -------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Return whether the metric's file is there; for `x_date`, whether `x` has a side-car. Opens nothing.

        Raises:
            NameTypeError: `name` is no str.
            OSError: the folder may not be searched.
        """
        check_type(name)
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
        self.stage(name, data).publish(alone=True)

    def load(self, name: str) -> Any:
        """Return the data of a name; for `x_date`, the date in the side-car of `x`, as ISO 8601 text.

        Raises:
            MetricNotStoredError: there is none.
            CorruptMetricError: the file is damaged.
            PickleRefusedError: it holds pickled objects, and this storage does not allow them.
            NewerFormatError: a later version of smm wrote it.
            NameTypeError: `name` is no str.
            OSError: it cannot be read.

        Warns:
            SmmWarning: the folder's `.smm` is a link, once a process; or the side-car is damaged.
        """
        check_type(name)
        owner = owner_of(name)
        sidecar = None if owner is None else self._sidecar(owner)
        if sidecar is not None:
            text, saved_as_data = sidecar
            date = noted_date(text)
            if date is not None and (date == text or not saved_as_data):
                return date
        return self.load_verified(name, None)

    def _refusal(self, name: str, refused: Refused) -> UnstorableError:
        return unstorable(self, name, refused)

    # --- further abilities ------------------------------------------------------------------------------

    def stage(self, name: str, data: Any) -> StagedFile:
        """Write the data to its temporary file; an exception leaves nothing. Raises as `save`."""
        check_type(name)
        target, *others = self._paths(name, (self.file_ext,))
        replaced = tuple(others)
        owner = owner_of(name)
        if owner is not None and self.file_ext != ".json":
            # Someone keeps a side-car as data: from now on that is the one.
            replaced = (*replaced, *self._paths(owner, (_RECORD_ENDING,)))
        file = NewFile(self._folder, self.file_ext, fsync=self.fsync)
        try:
            self._write(file, data)
            stamp = file.finish()
        except BaseException as error:
            file.discard()
            if isinstance(error, Refused):
                raise self._refusal(name, error) from None
            error.add_note(visible(f"while storing metric {name!r} in {self.metrics_dir}"))
            raise
        return StagedFile(file, target, stamp, replaced, fsync=self.fsync)

    def load_verified(self, name: str, stamp: Stamp | None) -> Any:
        """The data, every byte of it checked; raises as `load`.

        A file of the stamp's size and time must have its check sum. A file of another size or time was put
        there by someone else, and is believed if the format's own checks pass.
        """
        check_type(name)
        look_at(self._folder)
        detail = ""
        try:
            paths = self._paths(name, (self.file_ext,))
        except MetricNameError:
            raise self._not_stored(name) from None  # what cannot be a file's name is not there
        for path in paths:
            try:
                return self._read(path, stamp)
            except Damaged as error:
                raise CorruptMetricError(name=name, path=_as_path(path), reason=error.reason) from None
            except Pickled:
                raise PickleRefusedError(name=name, path=_as_path(path)) from None
            except Newer as error:
                found, known = error.found, error.known
                raise NewerFormatError(name=name, path=_as_path(path), found=found, known=known) from None
            except StoreFileError as error:
                detail = f"{error.path} is {error.found}"
            except Exception as error:
                absent = isinstance(error, (FileNotFoundError, NotADirectoryError)) and not _is_file(path)
                if absent:
                    continue  # it has another form, or none; or was removed a moment ago
                error.add_note(visible(f"while loading metric {name!r} from {path}"))
                raise
        raise MetricNotStoredError(name=name, where=self._folder, detail=detail)

    def check(self, name: str) -> None:
        """Raise now what `save` would raise whatever the data; creates nothing.

        Raises:
            MetricNameError: the name is no str, or makes no file name.
            StoreFileError: `.smm` is a link, or a folder has the name of the metric's file.
            OSError: the folder is a file, or cannot be written.
        """
        check_type(name)
        target = self._paths(name, (self.file_ext,))[0]
        try:
            check_folder(self._folder)
            _check_target(target)
        except OSError as error:
            note = f"metric {name!r} could not be stored in {self.metrics_dir}; "
            note += "make it a folder you can write to, or choose another metrics_dir"
            error.add_note(visible(note))
            raise

    def delete(self, name: str) -> None:
        """Remove side-car and data, in this order; fine if they are not there."""
        check_type(name)
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
        """Return whether there is a side-car, of any form. Opens nothing."""
        check_type(name)
        return self._find(name, self._record_endings) is not None

    def read_record(self, name: str) -> str | None:
        """Return the side-car's text: a record's JSON, or a bare date; None if it is missing or damaged.

        Warns:
            SmmWarning: it is damaged, so that there is no text.
        """
        check_type(name)
        sidecar = self._sidecar(name)
        return None if sidecar is None else sidecar[0]

    def write_record(self, name: str, text: str) -> None:
        """Write the side-car in one step, and remove its older forms."""
        check_type(name)
        target, *older = self._paths(name, self._record_endings)
        try:
            write_small(self._folder, target, text.encode(), fsync=self.fsync)
        except BaseException as error:
            error.add_note(visible(f"while storing the side-car of metric {name!r} in {self._folder}"))
            raise
        for path in older:
            remove_file(path)

    def remove_record(self, name: str) -> None:
        """Remove the side-car in all its forms; fine if there is none."""
        check_type(name)
        for path in self._paths(name, self._record_endings):
            remove_file(path, fsync=self.fsync)

    def recorded(self) -> set[str]:
        """The names that have data and a side-car, by one listing of the folder."""
        return recorded(self._folder, self.file_ext)

    @property
    def _record_endings(self) -> tuple[str, ...]:
        return _record_endings(self.file_ext)

    def _sidecar(self, name: str) -> tuple[str, bool] | None:
        """Return the side-car's text, and whether someone saved it as data: the predecessor, or a wrapper."""
        try:
            begun = stems(name, self.file_ext)
        except MetricNameError:
            return None
        # One by one, since nearly always the first one is there.
        for stem in begun:
            for ending in _record_endings(self.file_ext):
                path = f"{self._folder}/{stem}{ending}"
                try:
                    if ending == _RECORD_ENDING:
                        text = read_text(path, RECORD_LIMIT)
                        return (json.loads(text), True) if text[:1] == '"' else (text, False)
                    if _is_file(path):
                        saved = _as_text(self._read(path, None))
                        return None if saved is None else (saved, True)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # it has another form, or none; or was removed a moment ago
                except StoreFileError as error:
                    warn_of(error, f"the side-car of metric {name!r} cannot be read, and counts as missing")
                except (OSError, MemoryError) as error:
                    error.add_note(visible(f"while loading the side-car of metric {name!r} from {path}"))
                    raise
                except Exception as error:  # noqa: BLE001 - a class of the user's may raise anything
                    warn_of_damage(name, path, error)
                    return None
        return None

    # --- names and paths --------------------------------------------------------------------------------

    def _paths(self, name: str, endings: tuple[str, ...]) -> tuple[str, ...]:
        """All files that may be there; the first is the one to write."""
        begun = stems(name, self.file_ext)
        if len(begun) == len(endings) == 1:  # nearly always
            return (f"{self._folder}/{begun[0]}{endings[0]}",)
        return tuple(f"{self._folder}/{stem}{ending}" for stem in begun for ending in endings)

    def _find(self, name: str, endings: tuple[str, ...]) -> str | None:
        """The first of these files that is there."""
        try:
            paths = self._paths(name, endings)
        except MetricNameError:
            return None  # what cannot be a file's name is not there
        return next(filter(_is_file, paths), None)

    def _listing(self) -> set[str]:
        """The names of all files in the folder."""
        return listing(self._folder)

    def _listed(self, files: Iterable[str], endings: tuple[str, ...]) -> set[str]:
        """The metrics of which a file with one of these endings is listed; side-cars are no metrics."""
        return listed(files, endings, self.file_ext)

    def _not_stored(self, name: str) -> MetricNotStoredError:
        return MetricNotStoredError(name=name, where=self._folder)


class StagedFile:
    """A metric's new file, written in full, and where it goes."""

    def __init__(
        self, file: NewFile, target: str, stamp: Stamp, replaced: Sequence[str], *, fsync: bool
    ) -> None:
        self.stamp: Stamp | None = stamp
        self._file = file
        self._target = target
        self._replaced = replaced
        self._fsync = fsync

    def is_stored(self) -> bool:
        """Return whether the file that this one replaces has the very same bytes; False if there is none."""
        try:
            return self._file.has_bytes_of(self._target)
        except (FileNotFoundError, StoreFileError):
            return False

    def publish(self, *, alone: bool = False) -> None:
        """Move the file into place, and remove other forms of what it replaces.

        With `fsync`, a file that replaces nothing is brought to the disk together with its side-car, which
        counts for nothing if a power failure leaves it alone; at once if it comes `alone`, without one.

        Raises:
            OSError: it could not be moved; the old data is as it was.
        """
        self._file.publish(self._target, last=alone or (self._fsync and os.path.lexists(self._target)))
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


def _check_target(path: str) -> None:
    """Raise now what moving a file to `path` would raise because a folder is there.

    Raises:
        StoreFileError: there is one.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(status.st_mode):
        raise irregular(path, kind_of(status))


def unstorable(storage: object, name: str, refused: Refused, keeps: Keeps | None = None) -> UnstorableError:
    """Return the error for a refusal, with the storage, the metric and a way out that works.

    Args:
        storage: that refuses.
        name: the metric's.
        refused: the value.
        keeps: what the storage makes of a value, to try ways out; None if it cannot tell.
    """
    from smm._npz import canonical_npz

    return UnstorableError(
        name=name,
        storage=type(storage).__name__,
        place=refused.place,
        found=refused.found,
        way_out=refused.way_out if keeps is None else refused.working_way_out(keeps, canonical_npz),
    )


def _is_ending(text: str) -> bool:
    plain = text[1:].translate(_NO_SIGNS)
    return text[:1] == "." and 1 < len(text) <= 31 and text.isascii() and (not plain or plain.isalnum())


_NO_SIGNS = dict.fromkeys(map(ord, "._~=+,-"))


def _is_file(path: str) -> bool:
    """Whether there is a file, or a link to one. A folder that may not be searched is an error, not a no."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _as_text(data: Any) -> str | None:
    """A text as storages give it back: a str, or an array without dimensions that holds one."""
    if isinstance(data, str):
        return data
    return str(data) if isinstance(data, np.ndarray) and data.shape == () and data.dtype.kind == "U" else None


def _as_path(path: str) -> Path:
    from pathlib import Path

    return Path(path)
