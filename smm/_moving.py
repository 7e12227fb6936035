"""A stored pair under another name, and the note of what a renaming still has to do.

A pair is moved in steps, in this order: the data gets its new name besides the old one, the new side-car is
written, the old side-car goes, the old data goes. So whatever stops it, the pair is whole under the old name,
under the new one, or under both; and what was done of it can be told from what is there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smm._files import NewFile
from smm._folders import OWN_FOLDER, open_own_folder
from smm._reading import LOG_LIMIT, close, have_same_bytes, name_place, open_file, read_piece
from smm._shelf import UNFINISHED, Shelf
from smm.errors import StorageAbilityError
from smm.file_storage import FileBasedStorageInterface
from smm.metric import Record, Stamp
from smm.protocols import SIDECAR, DeletingStorage, FolderStorage, RecordStorage, StagingStorage

JOURNAL = "smm_renaming" + SIDECAR
"""Names the note in storages without a folder, and the lock of whoever renames; no metric's name."""
_VERSION = 1


# --- side-cars as text -----------------------------------------------------------------------------------
# A record of a later version may have fields that this one does not know: they go along.


def renamed_text(
    text: str, name: str, base_name: str | None, params: Mapping[str, Any] | None, inputs: Mapping[str, str]
) -> str:
    """A side-car's text for another name. A bare date, which knows no name, stays as it is.

    Args:
        text: of the old side-car.
        name: the new name.
        base_name: the new base name.
        params: as the new record has them.
        inputs: new names of metrics that it may have read.
    """
    if not text.startswith("{"):
        return text
    noted = json.loads(text)
    noted |= {"name": name, "base_name": base_name, "params": None if params is None else dict(params)}
    return json.dumps(_following(noted, inputs))


def following_text(text: str, inputs: Mapping[str, str]) -> str:
    """A side-car's text with other names for metrics that were read."""
    return json.dumps(_following(json.loads(text), inputs)) if text.startswith("{") else text


def _following(noted: dict[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    reads = noted.get("inputs")
    for read in reads if isinstance(reads, list) else ():
        if isinstance(read, dict) and read.get("store") is None and read.get("name") in inputs:
            read["name"] = inputs[read["name"]]
    return noted


# --- pairs -----------------------------------------------------------------------------------------------


class Pairs:
    """The pairs of one storage as seen by who renames them. Takes no locks; who calls it has them.

    Raises:
        StorageAbilityError: the storage has no `delete`.
    """

    def __init__(self, shelf: Shelf) -> None:
        storage = shelf.storage
        if not isinstance(storage, DeletingStorage):
            name = type(storage).__name__
            raise StorageAbilityError(storage=name, method="delete", purpose="renaming a metric")
        self._delete = storage.delete
        self._shelf = shelf
        self._storage = shelf.storage
        self._files = storage if isinstance(storage, FileBasedStorageInterface) else None
        self._records = storage if isinstance(storage, RecordStorage) else None

    # --- looking ----------------------------------------------------------------------------------------

    def stored(self, candidates: Iterable[str]) -> dict[str, tuple[str, Record]]:
        """Every pair's side-car, as text and as record, by name.

        Args:
            candidates: names to ask for where the storage cannot list what it has.
        """
        names = self._records.recorded() if self._records is not None else dict.fromkeys(candidates)
        pairs = {name: self.whole(name) for name in sorted(names)}
        return {name: sidecar for name, sidecar in pairs.items() if sidecar is not None}

    def alone(self, candidates: Iterable[str]) -> dict[str, Record]:
        """The records of side-cars without data. `candidates` as for `stored`."""
        if self._files is not None:
            files = self._files._listing()
            names = set(self._files._listed(files, self._files._record_endings)) - self._files.names()
        else:
            names = {
                name for name in candidates if self._has_sidecar(name) and not self._storage.exists(name)
            }
        sidecars = {name: self.sidecar(name) for name in sorted(names)}
        return {name: sidecar[1] for name, sidecar in sidecars.items() if sidecar is not None}

    def exists(self, name: str) -> bool:
        """Whether there is data of this name, finished or not."""
        return self._storage.exists(name)

    def whole(self, name: str) -> tuple[str, Record] | None:
        """The side-car of a stored metric; None if it is not stored, or not finished."""
        return self.sidecar(name) if self._storage.exists(name) else None

    def sidecar(self, name: str) -> tuple[str, Record] | None:
        """A side-car as text and as record; None if it is missing, unfinished or damaged."""
        text = self._shelf._text(name)
        try:
            return None if text is None else (text, Record.from_json(name, text))
        except ValueError:
            return None

    def size(self, name: str) -> int | None:
        """Bytes of the data; None where there are no files."""
        path = self._path(name)
        try:
            return None if path is None else os.stat(path).st_size
        except FileNotFoundError:
            return None  # removed since it was looked for

    def _path(self, name: str) -> str | None:
        return None if self._files is None else self._files._find(name, (self._files.file_ext,))

    def _has_sidecar(self, name: str) -> bool:
        if self._records is not None:
            return self._records.has_record(name)
        return self._storage.exists(name + SIDECAR)

    # --- moving -----------------------------------------------------------------------------------------

    def obstacle(self, old: str, new: str, text: str, *, begun: bool) -> str | None:
        """What keeps a pair from its new name; None if nothing does, or if it has that name already.

        Args:
            old: its name, under which it is whole.
            new: the new name.
            text: of the new side-car.
            begun: this very renaming was begun before, and the new name was free then.
        """
        has_data, has_sidecar = self._storage.exists(new), self._has_sidecar(new)
        if not has_data:
            unfinished = begun and self.sidecar(new) is None
            return (
                None
                if unfinished or not has_sidecar
                else "a side-car of that name lies there without data; smm gc removes it"
            )
        there = self.sidecar(new)
        if there is None:
            if self._is_copy(old, new, begun):
                return None
            return "data of that name lies there without a side-car, never finished; smm gc removes it"
        certain = begun or text.startswith("{")
        if there[1].date == Record.from_json(new, text).date and self._is_copy(old, new, certain):
            return None
        return f"that is stored already, computed on {_shown(there[1])}; smm clear deletes one of the two"

    def add(self, old: str, new: str, text: str) -> None:
        """Give a pair a second name, with this side-car; `old` stays as it is. There is no obstacle.

        Raises:
            OSError: it could not be done; `old` is as it was, and `new` is whole or not stored.
        """
        if self._files is not None:
            self._add_file(self._files, old, new, text)
            return
        data = self._storage.load(old)
        stamp: Stamp | None = None
        if self._records is None:
            self._storage.save(new + SIDECAR, UNFINISHED)
        if isinstance(self._storage, StagingStorage):
            staged = self._storage.stage(new, data)
            staged.publish()
            stamp = staged.stamp
        else:
            self._storage.save(new, data)
        self.write(new, _with_stamp(text, stamp))

    def write(self, name: str, text: str) -> None:
        """Write a side-car, in place of the one there."""
        if self._records is None:
            self._storage.save(name + SIDECAR, text)
            return
        # A bare date in a file that ends in .json: as JSON.
        bare = self._files is not None and text[:1] not in '{"'
        self._records.write_record(name, json.dumps(text) if bare else text)

    def remove(self, old: str, new: str, wanted: str | None) -> str | None:
        """Take the old name from a pair that has both; what keeps it from that, or None.

        What was finished before is finished again.

        Args:
            old: the old name.
            new: the new one.
            wanted: what the new side-car would say by the old one; None if that is gone already.
        """
        there = self.whole(new)
        has_data = self._storage.exists(old)
        if there is None:
            return None if not has_data else "what was just stored under that name is gone again; start over"
        if wanted is not None and has_data:
            same = there[1].date == Record.from_json(new, wanted).date
            if not same or not self._is_copy(old, new, True):
                return "it was computed again under its old name meanwhile; smm clear deletes one of the two"
        elif has_data and not self._is_copy(old, new, True):
            return None  # never finished, and not this one's: left alone
        self._take_away(old)
        return None

    def _take_away(self, name: str) -> None:
        """Side-car first: data without one counts as not stored."""
        if self._records is not None:
            self._delete(name)
            return
        for each in (name + SIDECAR, name):
            if self._storage.exists(each):
                self._delete(each)

    def _is_copy(self, old: str, new: str, otherwise: bool) -> bool:
        """Whether the data under two names is the same; `otherwise` where there are no files to compare."""
        if self._files is None:
            return otherwise
        one, other = self._path(old), self._path(new)
        return one is not None and other is not None and _are_same(one, other)

    def _add_file(self, files: FileBasedStorageInterface, old: str, new: str, text: str) -> None:
        source, target = self._path(old), self._path(new)
        if source is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(files.metrics_dir / old))
        if target is None:
            target = files._paths(new, (files.file_ext,))[0]
            before = _status(source)
            _link_or_copy(source, target, files)
            text = _with_time(text, before, _status(target))
        self.write(new, text)


def _shown(record: Record) -> str:
    return f"{record.date.astimezone():%Y-%m-%d %H:%M:%S}"


def _with_stamp(text: str, stamp: Stamp | None) -> str:
    if not text.startswith("{"):
        return text
    noted = json.loads(text)
    data = None
    if stamp is not None:
        data = {"size": stamp.size, "mtime_ns": stamp.mtime_ns, "crc32": stamp.crc32}
    return json.dumps(noted | {"data": data})


def _with_time(text: str, before: os.stat_result, now: os.stat_result) -> str:
    """The text with the time of a copy, if the file was as noted and the copy could not keep its time."""
    if not text.startswith("{") or before.st_mtime_ns == now.st_mtime_ns:
        return text
    noted = json.loads(text)
    data = noted.get("data")
    if isinstance(data, dict) and data.get("mtime_ns") == before.st_mtime_ns:
        data["mtime_ns"] = now.st_mtime_ns
    return json.dumps(noted)


def _status(path: str, *, follow: bool = True) -> os.stat_result:
    try:
        return os.stat(path, follow_symlinks=follow)
    except OSError as error:
        raise name_place(error, path) from None


def _are_same(old: str, new: str) -> bool:
    """Return whether two files are one, or have the same bytes; False if `new` is a link to `old`."""
    one, other = _status(old, follow=False), _status(new, follow=False)
    if os.path.samestat(one, other):
        return True
    return not stat.S_ISLNK(other.st_mode) and have_same_bytes(old, new)


def _link_or_copy(source: str, target: str, files: FileBasedStorageInterface) -> None:
    """Give a file's bytes a second name, never in place of another file."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError as error:
        raise name_place(error, target) from None
    except (OSError, NotImplementedError):  # a file system without hard links, or someone else's file
        _copy(source, target, files)


def _copy(source: str, target: str, files: FileBasedStorageInterface) -> None:
    file = NewFile(str(files.metrics_dir), files.file_ext, fsync=files.fsync)
    try:
        old, status = open_file(source)
        try:
            file.make()  # made before it is written to, it stays locked: its time will be an old one
            while piece := read_piece(old, source):
                file.write(piece)
        finally:
            close(old, source)
        file.finish()
        file.set_times(status)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        file.publish(target)
    except BaseException:
        file.discard()
        raise


# --- the note --------------------------------------------------------------------------------------------


class Journal:
    """What a renaming still has to do; kept with the results until it is done.

    In a folder it is `.smm/renaming.json`, else a text under a name that no metric can have.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._storage = shelf.storage
        folder = shelf.storage.metrics_dir if isinstance(shelf.storage, FolderStorage) else None
        self._folder = folder
        self.path = None if folder is None else Path(folder) / OWN_FOLDER / "renaming.json"
        """None without a folder."""

    def read(self) -> dict[str, Any] | None:
        """Return what `write` wrote; None if nothing is to be done.

        Raises:
            ValueError: it is damaged, or a later version wrote it.
            StoreFileError: it is no regular file, or `.smm` is a link.
            OSError: it cannot be read.
        """
        text = self._text()
        if text is None:
            return None
        try:
            noted = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        if not isinstance(noted, dict) or noted.get("smm_renaming") != _VERSION:
            raise ValueError("it is of another version of smm")
        return noted

    def _text(self) -> str | None:
        if self.path is None:
            exists = self._storage.exists(JOURNAL)
            return str(self._storage.load(JOURNAL)) if exists else None
        try:
            with open_own_folder(str(self._folder)) as own:
                return own.read(self.path.name, LOG_LIMIT).decode()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, content: Mapping[str, Any]) -> None:
        """Note it, in one step.

        Raises:
            OSError: it could not be written; what was noted before still is.
        """
        text = json.dumps({"smm_renaming": _VERSION} | dict(content))
        if self.path is None:
            self._storage.save(JOURNAL, text)
            return
        file = NewFile(str(self._folder), ".json", fsync=getattr(self._storage, "fsync", False))
        try:
            file.write(text.encode())
            file.finish()
            with open_own_folder(str(self._folder)) as own:
                file.publish(self.path.name, into=own)
        except BaseException:
            file.discard()
            raise

    def remove(self) -> None:
        """Note that nothing more is to be done.

        Raises:
            OSError: the note cannot be removed.
        """
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError), open_own_folder(str(self._folder)) as own:
                own.remove(self.path.name)
        elif isinstance(self._storage, DeletingStorage) and self._storage.exists(JOURNAL):
            self._storage.delete(JOURNAL)
