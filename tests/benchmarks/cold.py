"""Cold hits: memory is empty, the value is on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from tests.benchmarks import arrays, ours, peers, work
from tests.benchmarks.measure import Area, Contestant, Goal, Race, Room, Sample, for_each, seconds_of


@attrs.frozen(kw_only=True)
class Load:
    """What is stored, and how many of it are read in one sample."""

    function: Callable[[int], Any]
    rows: int
    one_by_one: bool = False
    """Let go of each value before the next is read: for large ones."""

    def sample(self, serve: Callable[[int], Any], before: Callable[[], object] = lambda: None) -> Sample:
        """Seconds to serve one row; `before` is done first, untimed.

        Raises:
            AssertionError: a value (of large ones: the first) is not what was stored.
        """
        rows = range(self.rows)
        before()
        for i in rows if not self.one_by_one else rows[:1]:
            if not np.array_equal(serve(i), self.function(i)):
                raise AssertionError(f"row {i} is not what was stored")

        def together() -> float:
            before()
            return for_each(serve, rows)

        def one_by_one() -> float:
            seconds = 0.0
            for i in rows:
                before()
                seconds += seconds_of(lambda i=i: serve(i))  # type: ignore[misc]
            return seconds / len(rows)

        return one_by_one if self.one_by_one else together


FLOATS = Load(function=work.scaled, rows=200)
SMALL = Load(function=arrays.array_8kb, rows=100)
LARGE = Load(function=arrays.array_8mb, rows=3, one_by_one=True)
HUGE = Load(function=arrays.array_256mb, rows=1, one_by_one=True)


def _smm(load: Load, storage: str, **options: Any) -> Contestant:
    def make(room: Room) -> Sample:
        folder = room.folder()
        ours.collected(folder, load.function, range(load.rows), storage).run(workers=1)
        made = ours.collected(folder, load.function, range(load.rows), storage, **options)
        return load.sample(made.f, made.clear_cache)

    written = "".join(f", {key}={value}" for key, value in options.items())
    return Contestant(name=f"smm, {storage}{written}", make=make, why_not=_lacks(storage, options))


def _new_manager(load: Load, storage: str) -> Contestant:
    """A manager that has not served these rows before, and decides for each of them whether it is stale."""

    def make(room: Room) -> Sample:
        folder = room.folder()
        rows = range(load.rows + 1)
        ours.collected(folder, load.function, rows, storage).run(workers=1)

        def sample() -> float:
            made = ours.collected(folder, load.function, rows, storage)
            made.f(load.rows)  # the first one reads the function's code
            return for_each(made.f, rows[:-1])

        return sample

    return Contestant(name=f"smm, {storage}, a new manager", make=make)


def _lacks(storage: str, options: Sequence[str] | dict[str, Any]) -> Callable[[], str | None]:
    def why_not() -> str | None:
        return next((why for option in options if (why := ours.has_option(storage, option)())), None)

    return why_not


def _joblib(load: Load) -> Contestant:
    def make(room: Room) -> Sample:
        cached = peers.memory(room).cache(load.function)
        for i in range(load.rows):
            cached(i)
        return load.sample(cached)

    return Contestant(name="joblib.Memory", make=make, why_not=peers.needs("joblib"))


def _diskcache(load: Load, name: str, key: Callable[[int], Any]) -> Contestant:
    def make(room: Room) -> Sample:
        cache = peers.cache(room)
        for i in range(load.rows):
            cache.set(key(i), load.function(i))
        return load.sample(lambda i: cache.get(key(i)))

    return Contestant(name=name, make=make, why_not=peers.needs("diskcache"))


def _cachier(load: Load) -> Contestant:
    def make(room: Room) -> Sample:
        cached = peers.cached_by_cachier(room, load.function)
        for i in range(load.rows):
            cached(i)
        return load.sample(cached)

    return Contestant(name="cachier", make=make, why_not=peers.needs("cachier"))


def _numpy(load: Load) -> Contestant:
    def make(room: Room) -> Sample:
        folder = room.folder()
        paths = [str(folder / f"{i}.npy") for i in range(load.rows)]
        for i, path in enumerate(paths):
            np.save(path, load.function(i))
        return load.sample(lambda i: np.load(paths[i]))

    return Contestant(name="numpy.load, npy", make=make)


FLOAT_JSON, FLOAT_NPZ = _smm(FLOATS, "json"), _smm(FLOATS, "npz")
FLOAT_JOBLIB, FLOAT_CACHIER = _joblib(FLOATS), _cachier(FLOATS)
FLOAT_DISKCACHE = _diskcache(FLOATS, "diskcache", lambda i: ("f", i))
SMALL_NPZ, SMALL_NPY, SMALL_NUMPY = _smm(SMALL, "npz"), _smm(SMALL, "npy"), _numpy(SMALL)
LARGE_NPZ, LARGE_NPY, LARGE_NUMPY = _smm(LARGE, "npz"), _smm(LARGE, "npy"), _numpy(LARGE)
HUGE_NPZ, HUGE_NUMPY = _smm(HUGE, "npz"), _numpy(HUGE)
LARGE_JOBLIB, HUGE_JOBLIB = _joblib(LARGE), _joblib(HUGE)

AREA = Area(
    name="cold",
    title="Cold hits",
    says=(
        "The manager's memory is emptied, then each stored row is served once: its record is read, and "
        "every byte is checked (with `mmap=True`, size and time). A new manager decides of each row "
        "whether it is stale, too; others have done so before. The operating system has all files in its "
        "memory, for everyone. diskcache has one dict for all functions, so its keys are name and params, "
        "as `memoize` makes them. `numpy.load` checks nothing."
    ),
    races=(
        Race(
            rounds=25,
            goals=(
                Goal(text="a float", smm=FLOAT_JSON, reference=FLOAT_DISKCACHE, limit=1.0),
                Goal(text="a float", smm=FLOAT_JSON, reference=FLOAT_JOBLIB, limit=0.2),
                Goal(text="a float", smm=FLOAT_JSON, reference=FLOAT_CACHIER),
                Goal(
                    text="a float",
                    smm=FLOAT_JSON,
                    reference=_diskcache(FLOATS, "diskcache, number as key", lambda i: i),
                ),
                Goal(text="a float", smm=_new_manager(FLOATS, "json"), reference=FLOAT_JOBLIB),
                Goal(text="a float", smm=FLOAT_NPZ, reference=FLOAT_JOBLIB),
            ),
        ),
        Race(
            rounds=25,
            goals=(
                Goal(text="an array of 8 KB", smm=SMALL_NPZ, reference=SMALL_NUMPY, limit=0.8),
                Goal(text="an array of 8 KB", smm=SMALL_NPZ, reference=_joblib(SMALL), limit=0.25),
                Goal(text="an array of 8 KB", smm=SMALL_NPY, reference=SMALL_NUMPY),
            ),
        ),
        Race(
            rounds=25,
            goals=(
                Goal(text="an array of 8 MB", smm=LARGE_NPZ, reference=LARGE_NUMPY, limit=1.4),
                Goal(text="an array of 8 MB", smm=LARGE_NPZ, reference=LARGE_JOBLIB, limit=1.0),
                Goal(text="an array of 8 MB", smm=LARGE_NPY, reference=LARGE_NUMPY),
                Goal(
                    text="an array of 8 MB, before it is touched",
                    smm=_smm(LARGE, "npy", mmap=True),
                    reference=LARGE_NUMPY,
                    limit=0.1,
                ),
                Goal(
                    text="an array of 8 MB, before it is touched",
                    smm=_smm(LARGE, "npz", mmap=True),
                    reference=LARGE_NUMPY,
                    limit=0.1,
                ),
            ),
        ),
        Race(
            rounds=7,
            slow=True,
            goals=(
                Goal(text="an array of 256 MB", smm=HUGE_NPZ, reference=HUGE_NUMPY, limit=1.4),
                Goal(text="an array of 256 MB", smm=HUGE_NPZ, reference=HUGE_JOBLIB, limit=1.0),
            ),
        ),
    ),
)
