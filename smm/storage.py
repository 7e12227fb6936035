"""The storages that come with smm, and the protocols of storages in general."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from smm._files import NewFile, check_type
from smm._json import canonical_json, read_json, write_json
from smm._reading import map_whole, read_bytes, read_whole
from smm._refusals import Refused
from smm._tree import Damaged, hand_out
from smm.errors import MetricNotStoredError, UnstorableError
from smm.file_storage import FileBasedStorageInterface as FileBasedStorageInterface
from smm.file_storage import noted_date, owner_of, unstorable
from smm.metric import Stamp
from smm.protocols import SIDECAR as SIDECAR
from smm.protocols import AdoptingStorage as AdoptingStorage
from smm.protocols import CanonicalStorage as CanonicalStorage
from smm.protocols import CheckedStorage as CheckedStorage
from smm.protocols import DeletingStorage as DeletingStorage
from smm.protocols import FolderStorage as FolderStorage
from smm.protocols import RecordStorage as RecordStorage
from smm.protocols import Staged as Staged
from smm.protocols import StagingStorage as StagingStorage
from smm.protocols import StorageInterface as StorageInterface
from smm.protocols import VerifyingStorage as VerifyingStorage

# The formats that need numpy are imported when the first storage of theirs is made.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    from smm import _numpy as np


class _OwnFormat(FileBasedStorageInterface):
    """Reads and writes whole files in one go, which sums up their bytes on the way."""

    mmap = False
    """Whether files are mapped into memory instead of being read; then nothing sums them up."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not {"_save", "_load"}.isdisjoint(vars(cls)):
            raise TypeError(
                f"{cls.__name__} has a _save or _load, which a storage with smm's own format never calls; "
                "derive it from FileBasedStorageInterface instead"
            )

    def canonical(self, name: str, data: Any) -> Any:
        """What `load(name)` would give after `save(name, data)`; shares nothing mutable with `data`.

        Touches nothing.

        Raises:
            UnstorableError: this storage cannot keep the data.
        """
        return self._made_canonical(name, data, given_away=False)

    def adopt(self, name: str, data: Any) -> Any:
        """As `canonical`, of data that nobody but the caller holds, who gives it away: it may come back."""
        return self._made_canonical(name, data, given_away=True)

    def _made_canonical(self, name: str, data: Any, *, given_away: bool) -> Any:
        try:
            return self._canonical(data, given_away=given_away)
        except Refused as refused:
            raise self._refusal(name, refused) from None

    def _refusal(self, name: str, refused: Refused) -> UnstorableError:
        return unstorable(self, name, refused, lambda data: self._canonical(data, given_away=False))

    def _read(self, path: str, stamp: Stamp | None) -> Any:
        content, status, total = self._content(path)
        checked = False
        if stamp is not None and stamp.fits(status):
            if total is not None and total != stamp.crc32:
                raise Damaged("its check sum is not the one noted when it was written")
            checked = True
        return self._decode(content, checked)

    def _content(self, path: str) -> tuple[Any, os.stat_result, int | None]:
        """The file's bytes, how it looked, and its check sum, if they have been read."""
        return (*map_whole(path), None) if self.mmap else read_whole(path)

    def _canonical(self, data: Any, *, given_away: bool) -> Any:
        raise NotImplementedError

    def _decode(self, content: NDArray[np.uint8], checked: bool) -> Any:
        raise NotImplementedError


class JsonStorageInterface(_OwnFormat):
    """JSON text: what a person can read, and any program.

    Keeps None, bool, int of up to 4,300 digits, float with nan and infinities, str, and lists and dicts with
    str keys of these, nested up to 100 deep. Arrays and tuples become lists, numpy scalars Python's. The rest
    is refused at save.

    Args:
        metrics_dir: the folder; made by the first save.
        fsync: let every save survive a power failure.
    """

    _shown: ClassVar[tuple[str, ...]] = ("metrics_dir", "fsync")

    def __init__(self, metrics_dir: str | os.PathLike[str], *, fsync: bool = False) -> None:
        super().__init__(".json", metrics_dir, fsync=fsync)

    def _canonical(self, data: Any, *, given_away: bool) -> Any:
        del given_away  # what JSON keeps is made anew in any case
        return canonical_json(data)

    def _write(self, file: NewFile, data: Any) -> None:
        file.write(write_json(canonical_json(data)))

    def _content(self, path: str) -> tuple[bytes, os.stat_result, int | None]:
        return read_bytes(path)

    def _decode(self, content: Any, checked: bool) -> Any:
        del checked  # JSON has no check sums of its own
        return read_json(content)


class NpyStorageInterface(_OwnFormat):
    """One plain array per file, which `numpy.load` reads.

    Keeps every plain array exactly: dtype, shape, byte and memory order. Numbers, text, bytes and lists of
    these become arrays, where no element changes its value or kind by it. The rest is refused at save.

    Args:
        metrics_dir: the folder; made by the first save.
        allow_pickle: also keep arrays of Python objects, by pickling; reading such a file runs code in it.
        fsync: let every save survive a power failure.
        mmap: map files into memory, so that an array is read from the disk where it is touched. Arrays come
            back read-only, also from `load`. A file whose size and time are as noted is believed; its check
            sum is not computed.
    """

    _shown: ClassVar[tuple[str, ...]] = ("metrics_dir", "allow_pickle", "fsync", "mmap")

    def __init__(
        self,
        metrics_dir: str | os.PathLike[str],
        allow_pickle: bool = False,
        *,
        fsync: bool = False,
        mmap: bool = False,
    ) -> None:
        super().__init__(".npy", metrics_dir, fsync=fsync)
        self.allow_pickle = allow_pickle
        self.mmap = mmap

    def _canonical(self, data: Any, *, given_away: bool) -> Any:
        from smm._npy import own_array
        from smm._stack import stack

        # What a list holds may be held by others, too.
        given_away = given_away and type(data) is np.ndarray
        array = stack(data, allow_pickle=self.allow_pickle)
        return own_array(array, allow_pickle=self.allow_pickle, given_away=given_away)

    def _write(self, file: NewFile, data: Any) -> None:
        from smm._npy import write_npy
        from smm._stack import stack

        write_npy(file, stack(data, allow_pickle=self.allow_pickle), allow_pickle=self.allow_pickle)

    def _decode(self, content: NDArray[np.uint8], checked: bool) -> Any:
        del checked  # npy has no check sums of its own
        from smm._npy import read_npy

        return read_npy(content, allow_pickle=self.allow_pickle)


class NpzStorageInterface(_OwnFormat):
    """Arrays, and lists, tuples and dicts of arrays, numbers and text to any depth: all of it, exactly.

    The file is a plain npz: `numpy.load` gives a single array as `arr_0`, a list of two or more as `arr_0`,
    `arr_1`, ..., and a dict's arrays by their keys. Only memmaps change, to arrays in memory. Masked arrays,
    unknown classes and the like are refused at save.

    Args:
        metrics_dir: the folder; made by the first save.
        compress: take less room, and many times as long.
        allow_pickle: also keep arrays of Python objects, by pickling; reading such a file runs code in it.
        list_limit: refuse a list (or tuple) of more elements, which someone meant to be an array.
        fsync: let every save survive a power failure.
        mmap: map files into memory, as `NpyStorageInterface` does; not together with `compress`. A file that
            is not as noted, or of which nothing is noted, is summed up nevertheless.

    Raises:
        ValueError: `compress` and `mmap`.
    """

    _shown: ClassVar[tuple[str, ...]] = (
        "metrics_dir",
        "compress",
        "allow_pickle",
        "list_limit",
        "fsync",
        "mmap",
    )

    def __init__(
        self,
        metrics_dir: str | os.PathLike[str],
        compress: bool = False,
        allow_pickle: bool = False,
        list_limit: int | None = None,
        *,
        fsync: bool = False,
        mmap: bool = False,
    ) -> None:
        if compress and mmap:
            raise ValueError("what is compressed cannot be mapped into memory: leave compress or mmap out")
        super().__init__(".npz", metrics_dir, fsync=fsync)
        self.mmap = mmap
        self.compress = compress
        self.allow_pickle = allow_pickle
        self.list_limit = list_limit

    def _canonical(self, data: Any, *, given_away: bool) -> Any:
        from smm._npz import canonical_npz

        self._check_length(data)
        return canonical_npz(data, allow_pickle=self.allow_pickle, given_away=given_away)

    def _write(self, file: NewFile, data: Any) -> None:
        from smm._npz import write_npz

        self._check_length(data)
        write_npz(file, data, compress=self.compress, allow_pickle=self.allow_pickle)

    def _decode(self, content: NDArray[np.uint8], checked: bool) -> Any:
        from smm._npz import read_npz

        return read_npz(content, allow_pickle=self.allow_pickle, checked=checked)

    def _check_length(self, data: Any) -> None:
        if self.list_limit is not None and type(data) in (list, tuple) and len(data) > self.list_limit:
            raise Refused(
                found=f"a {type(data).__name__} of {len(data)} elements",
                way_out=f"save np.array(x), or raise list_limit, which is {self.list_limit}",
            )


class MemoryStorageInterface:
    """A dict: what npz keeps, as npz gives it back, until the process ends.

    Any number of threads may use it; the last save wins.
    """

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}
        self._records: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def exists(self, name: str) -> bool:
        """Return whether there is data of that name; for `x_date`, whether `x` has a side-car.

        Raises:
            NameTypeError: `name` is no str; so do the other methods.
        """
        check_type(name)
        return name in self._data or owner_of(name) in self._records

    def save(self, name: str, data: Any) -> None:
        """Keep a canonical copy of the data; its side-car is left as it is.

        Raises:
            UnstorableError: this storage cannot keep the data; nothing is touched.
        """
        self.stage(name, data).publish()

    def load(self, name: str) -> Any:
        """A copy of the data; for `x_date`, the date in the side-car of `x`, as ISO 8601 text.

        Raises:
            MetricNotStoredError: there is none.
        """
        check_type(name)
        if name in self._data:
            return hand_out(self._data[name], writable=True)
        date = noted_date(self._records.get(owner_of(name) or "", ""))
        if date is None:
            raise MetricNotStoredError(name=name, where=type(self).__name__)
        return date

    def canonical(self, name: str, data: Any) -> Any:
        """What `load(name)` would give after `save(name, data)`; shares nothing mutable with `data`.

        Raises:
            UnstorableError: this storage cannot keep the data.
        """
        from smm._npz import canonical_npz

        try:
            return canonical_npz(data)
        except Refused as refused:
            raise unstorable(self, name, refused, canonical_npz) from None

    def stage(self, name: str, data: Any) -> StagedValue:
        """Make the copy, and keep it apart until it is published. Raises as `save`."""
        check_type(name)
        return StagedValue(self._data, name, self.canonical(name, data))

    def delete(self, name: str) -> None:
        """Forget side-car and data; fine if they are not there."""
        check_type(name)
        self.remove_record(name)
        self._data.pop(name, None)
        self._records.pop(owner_of(name) or "", None)

    def names(self) -> set[str]:
        """The names that have data."""
        return {name for name in set(self._data) if not name.endswith(SIDECAR)}

    def has_record(self, name: str) -> bool:
        """Return whether there is a side-car."""
        check_type(name)
        return name in self._records

    def read_record(self, name: str) -> str | None:
        """Return the side-car's text, or None."""
        check_type(name)
        return self._records.get(name)

    def write_record(self, name: str, text: str) -> None:
        """Keep the side-car's text, in place of one that was saved as data."""
        check_type(name)
        self._records[name] = text
        self._data.pop(name + SIDECAR, None)

    def remove_record(self, name: str) -> None:
        """Forget the side-car; fine if there is none."""
        check_type(name)
        self._records.pop(name, None)
        self._data.pop(name + SIDECAR, None)

    def recorded(self) -> set[str]:
        """The names that have data and a side-car."""
        return self.names() & set(self._records)


class StagedValue:
    """A canonical value on its way into a dict."""

    stamp: Stamp | None = None

    def __init__(self, data: dict[str, Any], name: str, value: Any) -> None:
        self._data = data
        self._name = name
        self._value = value

    def publish(self) -> None:
        """Put it in."""
        self._data[self._name] = self._value

    def discard(self) -> None:
        """Nothing to throw away: nobody else has seen the value."""
