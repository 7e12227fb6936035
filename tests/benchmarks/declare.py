"""Declaring: rows by decorator, metrics and rows by a configuration."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import smm
from tests.benchmarks import ours, work
from tests.benchmarks.measure import Area, Contestant, Goal, Race, Room, Sample

ROWS = [(a, b) for a in range(1_000) for b in range(100)]
METRICS = 1_000
METRICS_MODULE, ROWS_MODULE = "smm_benchmark_metrics", "smm_benchmark_rows"


def _usual_seconds(act: Callable[[], object]) -> float:
    """How long a call takes with the garbage collector at work, as it is for users."""
    gc.collect()
    gc.freeze()  # what other measurements have left is not to be gone through here
    try:
        start = time.perf_counter()
        kept = act()
        seconds = time.perf_counter() - start
        del kept
    finally:
        gc.unfreeze()
    return seconds


def _bytes_a_row(act: Callable[[], object]) -> float:
    """How much more memory is taken afterwards, by what the call returns."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = act()
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return taken / len(ROWS)


def _declared(room: Room) -> Callable[[], object]:
    """The rows, by decorator."""
    folder = room.folder()

    def act() -> object:
        made = ours.manager(folder)
        made.collect(base_name="f", params_list=ROWS)(work.product)
        return made

    return act


def _by_hand(_: Room) -> Callable[[], object]:
    return lambda: {f"f_{a}_{b}": (a, b) for a, b in ROWS}


# --- configurations --------------------------------------------------------------------------------------


def of_many_metrics(module: str) -> str:
    """A configuration of a thousand metrics of one row."""
    lines = [f"  metric_{i}: {{function: {module}.product, params_list: [[{i}, 2]]}}" for i in range(METRICS)]
    return "\n".join(
        ["storage: {type: json, metrics_dir: results}", "verbose: false", "metrics:", *lines, ""]
    )


def of_many_rows(module: str) -> str:
    """A configuration of one metric with all rows."""
    lines = [f"      - [{a}, {b}]" for a, b in ROWS]
    head = ["storage: {type: json, metrics_dir: results}", "verbose: false", "metrics:", "  f:"]
    return "\n".join([*head, f"    function: {module}.product", "    params_list:", *lines, ""])


def _written(room: Room, module: str, text: str) -> Path:
    """The file, with a module of its own beside it."""
    folder = room.folder()
    (folder / f"{module}.py").write_text("def product(a, b):\n    return a * 0.5 + b\n")
    path = folder / "metrics.yaml"
    path.write_text(text)
    return path


def _metrics_file(room: Room) -> Path:
    return _written(room, METRICS_MODULE, of_many_metrics(METRICS_MODULE))


def _rows_file(room: Room) -> Path:
    return _written(room, ROWS_MODULE, of_many_rows(ROWS_MODULE))


def _configured(file: Callable[[Room], Path], count: int) -> Callable[[Room], Sample]:
    def make(room: Room) -> Sample:
        path = room.once(file)
        found = len(smm.from_config(path).functions_dict)
        if found != count:
            raise AssertionError(f"{found} metrics are declared, not {count}")
        return lambda: _usual_seconds(lambda: smm.from_config(path))

    return make


def _yaml_load(file: Callable[[Room], Path]) -> Callable[[Room], Sample]:
    def make(room: Room) -> Sample:
        text = room.once(file).read_text()
        return lambda: _usual_seconds(lambda: _loaded(text))

    return make


def _loaded(text: str) -> Any:
    import yaml

    return yaml.load(text, Loader=yaml.CSafeLoader)


def _no_libyaml() -> str | None:
    import yaml

    return None if yaml.__with_libyaml__ else "PyYAML was built without libyaml here"


def _pair(what: str, file: Callable[[Room], Path], count: int) -> Goal:
    return Goal(
        text=f"a configuration of {what}",
        smm=Contestant(name="smm.from_config", make=_configured(file, count)),
        reference=Contestant(name="yaml.load, CSafeLoader", make=_yaml_load(file), why_not=_no_libyaml),
        limit=2,
    )


AREA = Area(
    name="declare",
    title="Declaring",
    says=(
        f"{len(ROWS):,} rows of two params by `@CM.collect(params_list=rows)`, against a dict of names and "
        "rows made by hand. A configuration is read, checked and declared, with all positions kept for "
        "messages, against loading the same text as plain data. The garbage collector is at work, as it "
        "is for users."
    ),
    races=(
        Race(
            rounds=11,
            quick_rounds=3,
            goals=(
                Goal(
                    text=f"{len(ROWS):,} rows",
                    smm=Contestant(
                        name="@CM.collect", make=lambda room: _sampled(_usual_seconds, _declared(room))
                    ),
                    reference=Contestant(
                        name="{name: row}", make=lambda room: _sampled(_usual_seconds, _by_hand(room))
                    ),
                    limit=4,
                ),
            ),
        ),
        Race(
            rounds=1,
            quick_rounds=1,
            goals=(
                Goal(
                    text="memory for a row",
                    smm=Contestant(
                        name="@CM.collect", make=lambda room: _sampled(_bytes_a_row, _declared(room))
                    ),
                    reference=Contestant(
                        name="{name: row}", make=lambda room: _sampled(_bytes_a_row, _by_hand(room))
                    ),
                    bound=600,
                    unit="B",
                ),
            ),
        ),
        Race(rounds=11, quick_rounds=3, goals=(_pair(f"{METRICS:,} metrics", _metrics_file, METRICS),)),
        Race(rounds=7, quick_rounds=2, goals=(_pair(f"{len(ROWS):,} rows", _rows_file, len(ROWS)),)),
    ),
)


def _sampled(measured: Callable[[Callable[[], object]], float], act: Callable[[], object]) -> Sample:
    return lambda: measured(act)
