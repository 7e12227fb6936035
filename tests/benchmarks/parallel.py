"""Sweeps with two processes: `python -m tests.benchmarks.parallel smm|joblib FOLDER ROWS SWEEPS`.

Prints the seconds of the last one. In the first one the workers start, in later ones those that are kept
work on. Imports and declarations are done before the clock starts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import work


def with_smm(folder: Path, rows: int) -> Callable[[], object]:
    """A sweep of a manager, JSON files."""
    from tests.benchmarks import ours

    made = ours.collected(folder, work.scaled, range(rows))
    return lambda: ours.check_report(made.f.run(executor="processes", workers=2), "computed", rows)


def with_joblib(folder: Path, rows: int) -> Callable[[], object]:
    """Calls of a function under joblib.Memory by joblib.Parallel."""
    import joblib

    cached = joblib.Memory(folder, mmap_mode=None, verbose=0).cache(work.scaled)
    return lambda: joblib.Parallel(n_jobs=2)(joblib.delayed(cached)(i) for i in range(rows))


def main(which: str, folder: Path, rows: int, sweeps: int) -> None:
    """Some sweeps in a row, each into a folder of its own."""
    seconds = 0.0
    for number in range(sweeps):
        sweep = {"smm": with_smm, "joblib": with_joblib}[which](folder / str(number), rows)
        start = time.perf_counter()
        sweep()
        seconds = time.perf_counter() - start
    print(seconds)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
