"""Which metrics a folder of results holds, as the names of its files tell."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from smm._files import file_stem, name_of_stem
from smm._reading import name_place
from smm.errors import MetricNameError
from smm.protocols import SIDECAR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RECORD_ENDING = SIDECAR + ".json"
"""What a side-car's file ends in, as smm writes it."""


@functools.lru_cache(maxsize=64)  # those of one metric are asked for several times in a row
def stems(name: str, file_ext: str) -> tuple[str, ...]:
    """Return what a metric's files may begin with: as smm writes it, then as the predecessor did.

    The one rule for file names, with `name_of` as its other direction: who lists, reads, deletes or collects
    files asks here.

    Raises:
        MetricNameError: no file can have such a name.
    """
    stem = file_stem(name, longest_ending=max(len(file_ext), len(RECORD_ENDING)))
    if stem == name:
        return (stem,)
    # What is another metric's encoded name stays that one's.
    bare = name_of_stem(name) is None and name[0] != "." and "/" not in name and "\0" not in name
    return (stem, name) if bare else (stem,)


@functools.cache
def record_endings(file_ext: str) -> tuple[str, ...]:
    """What a side-car may end in: as smm writes it, then as the predecessor did."""
    other = SIDECAR + file_ext
    return (RECORD_ENDING,) if other == RECORD_ENDING else (RECORD_ENDING, other)


def listing(folder: str) -> set[str]:
    """Return the names of all files in a folder, and of links to files; none if the folder is missing."""
    with _scanned(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}


def listed(files: Iterable[str], endings: tuple[str, ...], file_ext: str) -> set[str]:
    """The metrics of which a file with one of these endings is listed; side-cars are no metrics."""
    begun = {file.removesuffix(ending) for ending in endings for file in files if file.endswith(ending)}
    return {name for name in _named(begun, file_ext) if not name.endswith(SIDECAR)}


def recorded(folder: str, file_ext: str) -> set[str]:
    """The metrics that have data and a side-car, by one listing of the folder."""
    data, records = _both_kinds(folder, file_ext)
    both = set(records)
    if len(both) == len(data) and both.issuperset(data):
        return _named(both, file_ext)  # nearly always; another set would take as long as this one
    both.intersection_update(data)
    named = _named(both, file_ext)
    if len(both) < max(len(data), len(records)):
        # Of some, one of the two may be of a form that the predecessor wrote.
        named = named | (_named(set(data) - both, file_ext) & _named(set(records) - both, file_ext))
    return named


def _both_kinds(folder: str, file_ext: str) -> tuple[list[str], list[str]]:
    """What stands before the endings of all files of data, and of all side-cars."""
    data: list[str] = []
    records: list[str] = []
    endings = record_endings(file_ext)
    before, before_record, before_older = -len(file_ext), -len(RECORD_ENDING), -len(endings[-1])
    with _scanned(folder) as entries:
        for entry in entries:  # of which there may be 200,000: hence nothing that is called for each
            file = entry.name
            if file.endswith(endings):
                if entry.is_file():
                    records.append(file[: before_record if file.endswith(RECORD_ENDING) else before_older])
            elif file.endswith(file_ext) and entry.is_file():
                data.append(file[:before])
    return data, records


@contextlib.contextmanager
def _scanned(folder: str) -> Iterator[Iterable[os.DirEntry[str]]]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield ()
        return
    except OSError as error:
        raise name_place(error, folder) from None
    try:
        try:
            # Entries of a descriptor do not each make their whole path.
            with os.scandir(descriptor) as entries:
                yield entries
        finally:
            os.close(descriptor)
    except OSError as error:
        raise name_place(error, folder) from None


def _named(begun: set[str], file_ext: str) -> set[str]:
    """The metrics whose files begin so."""
    together = "_" + "".join(begun)
    if together.isascii() and together.isidentifier():  # plain words, as nearly all: their own stems
        return begun
    return {name for stem in begun if (name := name_of(stem, file_ext)) is not None}


def name_of(stem: str, file_ext: str) -> str | None:
    """Return the metric whose files begin so, by smm or by the predecessor; None if none's do."""
    name = name_of_stem(stem)
    if name is None:
        with contextlib.suppress(MetricNameError):
            name = stem if stem in stems(stem, file_ext) else None
    return name
