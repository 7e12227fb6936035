"""Sweeps: thousands of rows by one call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import ours, peers, work
from tests.benchmarks.measure import Area, Contestant, Goal, Race, Room, Sample, seconds_of

ROWS = range(2_000)
SLOW_ROWS = range(200)
ROOT = Path(__file__).resolve().parents[2]


def _check(values: list[Any]) -> None:
    if values != [work.scaled(i) for i in ROWS]:
        raise AssertionError("the values are not those that were stored")


def _all_computed(report: Any) -> None:
    ours.check_report(report, "computed", len(ROWS))


def _all_stored(report: Any) -> None:
    ours.check_report(report, "stored", len(ROWS))


# --- computing and storing -------------------------------------------------------------------------------


def _run(storage: str) -> Callable[[Room], Sample]:
    def make(room: Room) -> Sample:
        def sample() -> float:
            made = ours.collected(room.folder(), work.scaled, ROWS, storage)
            return seconds_of(lambda: made.f.run(executor="threads", workers=1), _all_computed)

        return sample

    return make


def _calls(begin: Callable[[Room], Callable[[int], Any]]) -> Callable[[Room], Sample]:
    """One call after the other of a function that is cached in a fresh folder."""

    def make(room: Room) -> Sample:
        def sample() -> float:
            cached = begin(room)
            return seconds_of(lambda: [cached(i) for i in ROWS], _check)

        return sample

    return make


def _joblib(room: Room) -> Callable[[int], Any]:
    cached: Callable[[int], Any] = peers.memory(room).cache(work.scaled)
    return cached


def _diskcache(room: Room) -> Callable[[int], Any]:
    return peers.through(peers.cache(room), work.scaled)


def _script(which: str, sweeps: int) -> Callable[[Room], Sample]:
    """A new process that does sweeps (`tests.benchmarks.parallel`), and says what the last one took."""

    def make(room: Room) -> Sample:
        def sample() -> float:
            arguments = [which, str(room.folder()), str(len(ROWS)), str(sweeps)]
            done = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.parallel", *arguments],
                cwd=ROOT,
                env=room.environment,
                check=True,
                capture_output=True,
                text=True,
            )
            return float(done.stdout)

        return sample

    return make


def _slow(**options: Any) -> Callable[[Room], Sample]:
    def make(room: Room) -> Sample:
        def sample() -> float:
            made = ours.collected(room.folder(), work.slow, SLOW_ROWS)
            return seconds_of(
                lambda: made.f.run(**options),
                lambda report: ours.check_report(report, "computed", len(SLOW_ROWS)),
            )

        return sample

    return make


# --- all stored ------------------------------------------------------------------------------------------


def _smm_folder(room: Room) -> Path:
    folder = room.folder()
    ours.collected(folder, work.scaled, ROWS).run(workers=1)
    return folder


def _again(
    work_of: Callable[[Any], Any], check: Callable[[Any], None], *, declaring: bool = False
) -> Callable[[Room], Sample]:
    """A new manager over a folder that has everything."""

    def make(room: Room) -> Sample:
        folder = room.once(_smm_folder)
        _check(ours.collected(folder, work.scaled, ROWS).f.get_all())

        def sample() -> float:
            if declaring:
                return seconds_of(lambda: work_of(ours.collected(folder, work.scaled, ROWS)), check)
            made = ours.collected(folder, work.scaled, ROWS)
            return seconds_of(lambda: work_of(made), check)

        return sample

    return make


def _joblib_again(room: Room) -> Sample:
    cached = _joblib(room)
    _check([cached(i) for i in ROWS])
    return lambda: seconds_of(lambda: [cached(i) for i in ROWS], _check)


def _diskcache_again(room: Room) -> Sample:
    cached = _diskcache(room)
    _check([cached(i) for i in ROWS])
    return lambda: seconds_of(lambda: [cached(i) for i in ROWS], _check)


def _of_joblib(name: str, make: Callable[[Room], Sample]) -> Contestant:
    return Contestant(name=name, make=make, why_not=peers.needs("joblib"))


def _of_diskcache(name: str, make: Callable[[Room], Sample]) -> Contestant:
    return Contestant(name=name, make=make, why_not=peers.needs("diskcache"))


SERIAL = Contestant(name="run, one worker", make=_run("json"))
SERIAL_NPZ = Contestant(name="run, one worker, npz", make=_run("npz"))
JOBLIB = _of_joblib("joblib.Memory", _calls(_joblib))
DISKCACHE = _of_diskcache("diskcache", _calls(_diskcache))
AGAIN = Contestant(name="CM.run()", make=_again(lambda made: made.run(), _all_stored))
AGAIN_DECLARED = Contestant(
    name="declare, CM.run()", make=_again(lambda made: made.run(), _all_stored, declaring=True)
)
ALL = Contestant(name="CM.f.get_all()", make=_again(lambda made: made.f.get_all(), _check))
JOBLIB_AGAIN = _of_joblib("joblib.Memory", _joblib_again)
DISKCACHE_AGAIN = _of_diskcache("diskcache", _diskcache_again)
SLOW_SERIAL = Contestant(name="run, one worker", make=_slow(workers=1))

AREA = Area(
    name="sweep",
    title="Sweeps",
    says=(
        f"{len(ROWS):,} rows of a function that does next to nothing, from a module that imports nothing, "
        "computed and stored as JSON in a fresh folder. Two processes: in a script of its own each, from the "
        "call on, so that the start of the workers is in it; in a second sweep of the same script, joblib's "
        "workers are there already. "
        f"{len(SLOW_ROWS)} rows that sleep for 10 ms each, so that two workers do not need two free "
        "processors. When all is stored: a new manager each time."
    ),
    races=(
        Race(
            rounds=5,
            quick_rounds=2,
            goals=(
                Goal(text="one after another", smm=SERIAL, reference=JOBLIB, limit=0.35),
                Goal(text="one after another", smm=SERIAL, reference=DISKCACHE, limit=0.8),
                Goal(text="one after another", smm=SERIAL_NPZ, reference=JOBLIB),
            ),
        ),
        Race(
            rounds=7,
            quick_rounds=2,
            goals=(
                Goal(
                    text="two processes, started for it",
                    smm=Contestant(name="run, two processes", make=_script("smm", 1)),
                    reference=_of_joblib("joblib.Parallel and Memory", _script("joblib", 1)),
                    limit=0.6,
                ),
            ),
        ),
        Race(
            rounds=5,
            slow=True,
            goals=(
                Goal(
                    text="two processes, second sweep",
                    smm=Contestant(name="run, two processes", make=_script("smm", 2)),
                    reference=_of_joblib("joblib.Parallel and Memory", _script("joblib", 2)),
                ),
            ),
        ),
        Race(
            rounds=5,
            quick_rounds=2,
            goals=(
                Goal(
                    text="10 ms a row, two threads",
                    smm=Contestant(name="run, two threads", make=_slow(workers=2)),
                    reference=SLOW_SERIAL,
                    limit=0.53,
                ),
                Goal(
                    text="10 ms a row, two processes",
                    smm=Contestant(
                        name="run, two processes",
                        make=_slow(executor="processes", workers=2),
                    ),
                    reference=SLOW_SERIAL,
                ),
            ),
        ),
        Race(
            rounds=15,
            quick_rounds=3,
            goals=(
                Goal(text="again, all stored", smm=AGAIN, reference=JOBLIB_AGAIN, limit=0.05),
                Goal(text="again, all stored", smm=AGAIN_DECLARED, reference=JOBLIB_AGAIN),
                Goal(text="all values", smm=ALL, reference=JOBLIB_AGAIN, limit=0.15),
                Goal(text="all values", smm=ALL, reference=DISKCACHE_AGAIN),
            ),
        ),
    ),
)
