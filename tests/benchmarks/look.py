"""Looking: a folder of a hundred thousand results."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from smm import maintain
from tests.benchmarks import ours, work
from tests.benchmarks.measure import Area, Contestant, Goal, Race, Room, Sample, for_each, seconds_of

MANY = 100_000
QUICK = 10_000
FEW = 10
FOLDERS = 300
"""With a few each: as long as one reads on, no file is one that was read a moment ago."""


@attrs.frozen(kw_only=True)
class Store:
    """A folder of so many results, and a manager that declares them."""

    folder: Path
    manager: Any
    names: Sequence[str]


def same(i: int) -> float:
    """The same for every row, so that what one file holds is what all hold."""
    del i
    return work.one()


def filled(folder: Path, count: int) -> Store:
    """A store as smm would have made it in a while: each pair is a copy of the first one, with its own name.

    Raises:
        AssertionError: smm does not find them all, or not the values.
    """
    made = ours.collected(folder, same, range(count))
    first, *others = made.f.names()
    made.f(0)
    data = (folder / f"{first}.json").read_bytes()
    mtime_ns = os.stat(folder / f"{first}.json").st_mtime_ns
    text = (folder / f"{first}_date.json").read_text()
    record = json.loads(text)
    separators = (", ", ": ") if '": ' in text else (",", ":")
    for i, name in enumerate(others, 1):
        _write(folder / f"{name}.json", data, mtime_ns)
        text = json.dumps(record | {"name": name, "params": {"i": i}}, separators=separators)
        _write(folder / f"{name}_date.json", text.encode(), mtime_ns)
    store = Store(folder=folder, manager=made, names=[first, *others])
    if stored(store) != set(store.names):
        raise AssertionError("smm does not find what was written for it")
    looked_at = random.Random(1).sample(store.names, min(count, 20))
    if any(made.record(name).name != name or made.load(name) != work.one() for name in looked_at):
        raise AssertionError("smm does not read what was written for it")
    made.clear_cache()
    return store


def _write(path: Path, content: bytes, mtime_ns: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        os.write(descriptor, content)
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(descriptor)


def many(room: Room) -> Store:
    """The large store."""
    return filled(room.folder(), QUICK if room.quick else MANY)


def few(room: Room) -> list[Store]:
    """The small ones."""
    return [filled(room.folder(), FEW) for _ in range(FOLDERS // 4 if room.quick else FOLDERS)]


def stored(store: Store) -> set[str]:
    """Which of the declared rows are stored."""
    return maintain.stored_names(store.manager).intersection(store.manager.functions_dict)


def _stored(room: Room) -> Sample:
    store = room.once(many)
    return lambda: seconds_of(lambda: stored(store))


def _status(room: Room) -> Sample:
    store = room.once(many)
    return lambda: seconds_of(lambda: maintain.status(store.manager))


def _listed(room: Room) -> Sample:
    store = room.once(many)
    return lambda: seconds_of(lambda: os.listdir(store.folder))


def _from_many(room: Room) -> Sample:
    store = room.once(many)
    count = len(store.names)
    order = random.Random(2).sample(range(count), count)
    chunks = [(store.folder, order[start : start + FEW]) for start in range(0, count, FEW)]
    return gets(itertools.cycle(chunks))


def _from_few(room: Room) -> Sample:
    return gets(itertools.cycle([(store.folder, range(FEW)) for store in room.once(few)]))


def gets(chunks: Iterator[tuple[Path, Sequence[int]]]) -> Sample:
    """Seconds for a get of a row that neither memory nor manager have seen: nine to a manager."""

    def some() -> float:
        folder, rows = next(chunks)
        made = ours.collected(folder, same, rows)
        first, *others = made.f.names()
        made.get(first)  # reads the function's code
        return for_each(made.get, others)

    return lambda: sum(some() for _ in range(10)) / 10


AREA = Area(
    name="look",
    title="Looking",
    says=(
        f"{MANY:,} rows of one metric are declared and stored, in {2 * MANY:,} files of one folder; in a "
        "quick run, a tenth of them. A cold get is that of a row which neither memory nor manager have seen "
        "before; small folders are read one after another, too."
    ),
    races=(
        Race(
            rounds=15,
            goals=(
                Goal(
                    text=f"which of {MANY:,} are stored",
                    smm=Contestant(name="maintain.stored_names", make=_stored),
                    reference=Contestant(name="os.listdir", make=_listed),
                    limit=2.5,
                ),
            ),
        ),
        Race(
            rounds=3,
            quick_rounds=1,
            slow=True,
            goals=(
                Goal(
                    text=f"how {MANY:,} are, each judged",
                    smm=Contestant(name="maintain.status", make=_status),
                    reference=Contestant(name="os.listdir", make=_listed),
                ),
            ),
        ),
        Race(
            rounds=25,
            goals=(
                Goal(
                    text="a cold get",
                    smm=Contestant(name=f"CM.get among {MANY:,}", make=_from_many),
                    reference=Contestant(name=f"CM.get among {FEW}", make=_from_few),
                    limit=1.3,
                ),
            ),
        ),
    ),
)
