"""Misses: a row is computed and stored for the first time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import smm
from tests.benchmarks import arrays, ours, peers, work
from tests.benchmarks.measure import Area, Contestant, Goal, Race, Room, Sample, for_each, seconds_of


@attrs.frozen(kw_only=True)
class Write:
    """What is stored, and how many of it in one sample."""

    function: Callable[[int], Any]
    rows: int
    before: Callable[[int], object] = lambda _: None
    """Called before `function` is called with the same number, while nothing is timed."""

    def contestant(
        self, name: str, begin: Callable[[Room], Callable[[int], Any]], library: str | None = None
    ) -> Contestant:
        """One that begins anew in a fresh folder for each sample, and stores one row before it is timed."""

        def make(room: Room) -> Sample:
            for i in range(self.rows + 1):
                self.before(i)
                self.function(i)  # what is made once and kept

            def sample() -> float:
                for i in range(self.rows + 1):
                    self.before(i)
                store = begin(room)
                store(self.rows)
                os.sync()  # else whoever comes next waits for what others have left to be written
                return for_each(store, range(self.rows))

            return sample

        return Contestant(name=name, make=make, why_not=peers.needs(library) if library else lambda: None)


FLOATS = Write(function=work.scaled, rows=200)
SMALL = Write(function=arrays.array_8kb, rows=100)
LARGE = Write(function=arrays.fresh_8mb, rows=2, before=arrays.make_ready)
KEPT = Write(function=arrays.array_8mb, rows=2)
SYNCED = Write(function=work.scaled, rows=16)
BATCH = 32


def _smm(write: Write, storage: str, **options: Any) -> Contestant:
    def begin(room: Room) -> Callable[[int], Any]:
        serve: Callable[[int], Any] = ours.collected(
            room.folder(), write.function, range(write.rows + 1), storage, **options
        ).f
        return serve

    written = "".join(f", {key}={value}" for key, value in options.items())
    return write.contestant(f"smm, {storage}{written}", begin)


def _joblib(write: Write) -> Contestant:
    def begin(room: Room) -> Callable[[int], Any]:
        cached: Callable[[int], Any] = peers.memory(room).cache(write.function)
        return cached

    return write.contestant("joblib.Memory", begin, "joblib")


def _diskcache(write: Write) -> Contestant:
    return write.contestant(
        "diskcache", lambda room: peers.through(peers.cache(room), write.function), "diskcache"
    )


def _memoized(write: Write) -> Contestant:
    def begin(room: Room) -> Callable[[int], Any]:
        cached: Callable[[int], Any] = peers.cache(room).memoize()(write.function)
        return cached

    return write.contestant("diskcache, memoize", begin, "diskcache")


def _set(write: Write) -> Contestant:
    def begin(room: Room) -> Callable[[int], Any]:
        cache = peers.cache(room)
        return lambda i: cache.set(i, write.function(i))

    return write.contestant("diskcache, only set", begin, "diskcache")


def _cachier(write: Write) -> Contestant:
    def begin(room: Room) -> Callable[[int], Any]:
        cached: Callable[[int], Any] = peers.cached_by_cachier(room, write.function)
        return cached

    return write.contestant("cachier", begin, "cachier")


def _plain_file(write: Write, *, fsync: bool = False) -> Contestant:
    def begin(room: Room) -> Callable[[int], Any]:
        folder = room.folder()
        return lambda i: _write_plain(folder / f"{i}.json", repr(write.function(i)).encode(), fsync)

    return write.contestant("one plain file" + (" and fsync" if fsync else ""), begin)


def _write_plain(path: Path, content: bytes, fsync: bool) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        os.write(descriptor, content)
        if fsync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _numpy(write: Write) -> Contestant:
    def begin(room: Room) -> Callable[[int], Any]:
        folder = room.folder()
        return lambda i: np.save(folder / f"{i}.npy", write.function(i))

    return write.contestant("numpy.save, npy", begin)


def _batch(name: str, bring: Callable[[smm.ParameterizedDatedCacheManager], object]) -> Contestant:
    """Rows of one fresh store whose saves survive a power failure."""

    def make(room: Room) -> Sample:
        def sample() -> float:
            made = ours.collected(room.folder(), work.scaled, range(BATCH + 1), fsync=True)
            made.f(BATCH)
            seconds = seconds_of(lambda: bring(made)) / BATCH
            if not all(made.storage_interface.exists(name) for name in made.f.names()):
                raise AssertionError("not all rows are stored")
            return seconds

        return sample

    return Contestant(name=name, make=make)


FLOAT_JSON, FLOAT_NPZ = _smm(FLOATS, "json"), _smm(FLOATS, "npz")
FLOAT_JOBLIB = _joblib(FLOATS)
SMALL_NPZ, SMALL_JOBLIB = _smm(SMALL, "npz"), _joblib(SMALL)
LARGE_NPY, LARGE_NPZ, LARGE_NUMPY = _smm(LARGE, "npy"), _smm(LARGE, "npz"), _numpy(LARGE)
KEPT_NPZ, KEPT_NUMPY = _smm(KEPT, "npz"), _numpy(KEPT)

AREA = Area(
    name="store",
    title="Misses: compute and store",
    says=(
        "New rows of a function that does next to nothing, each asked for once in a fresh folder: lock, "
        "data, record and side-car are all in it. One row is stored before the clock starts. diskcache is "
        "asked first, then told, as `memoize` does it. An array of 8 MB is new, made before the clock "
        "starts; of one that its function keeps, smm makes a copy, so that nobody can change what it has. "
        "Nothing is deleted until the end."
    ),
    races=(
        Race(
            goals=(
                Goal(text="a float", smm=FLOAT_JSON, reference=_diskcache(FLOATS), limit=0.7),
                Goal(text="a float", smm=FLOAT_JSON, reference=_memoized(FLOATS)),
                Goal(text="a float", smm=FLOAT_JSON, reference=_set(FLOATS)),
                Goal(text="a float", smm=FLOAT_JSON, reference=FLOAT_JOBLIB, limit=0.3),
                Goal(text="a float", smm=FLOAT_NPZ, reference=FLOAT_JOBLIB),
                Goal(text="a float", smm=FLOAT_JSON, reference=_plain_file(FLOATS)),
            ),
        ),
        Race(
            rounds=3,
            quick_rounds=1,
            goals=(
                Goal(
                    text="a float",
                    smm=_smm(Write(function=work.scaled, rows=20), "json"),
                    reference=_cachier(Write(function=work.scaled, rows=20)),
                ),
            ),
        ),
        Race(
            goals=(
                Goal(text="an array of 8 KB", smm=SMALL_NPZ, reference=SMALL_JOBLIB, limit=0.2),
                Goal(text="an array of 8 KB", smm=SMALL_NPZ, reference=_numpy(SMALL)),
            )
        ),
        Race(
            goals=(
                Goal(text="an array of 8 MB", smm=LARGE_NPY, reference=LARGE_NUMPY, limit=1.2),
                Goal(text="an array of 8 MB", smm=LARGE_NPZ, reference=LARGE_NUMPY, limit=1.3),
                Goal(text="an array of 8 MB", smm=LARGE_NPZ, reference=_joblib(LARGE)),
                Goal(text="an array of 8 MB that its function keeps", smm=KEPT_NPZ, reference=KEPT_NUMPY),
            )
        ),
        Race(
            goals=(
                Goal(
                    text="a float, to survive a power failure",
                    smm=_smm(SYNCED, "json", fsync=True),
                    reference=_plain_file(SYNCED, fsync=True),
                    limit=1.8,
                ),
                Goal(
                    text=f"{BATCH} floats, to survive a power failure",
                    smm=_batch("CM.f.run()", lambda made: made.f.run()),
                    reference=_batch("CM.f(i), one by one", lambda made: [made.f(i) for i in range(BATCH)]),
                    limit=0.6,
                ),
            )
        ),
    ),
)
