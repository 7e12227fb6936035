"""What a configuration file means: frozen values, and every problem with its line and column.

Nothing here imports a user's code; `smm.build` turns a Config into a manager.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from smm import _yaml
from smm._executors import EXECUTORS, WANTED, is_executor_text
from smm._keys import Keys, Refusal, Refused, dotted, nearest, read_list, refused, shown
from smm._metrics import METRICS_SCHEMA, age, causes, definitions, policy, read_metrics
from smm._metrics import MetricConfig as MetricConfig
from smm._overrides import FILE as OVERRIDES
from smm._overrides import merged
from smm._pause import collector_paused
from smm._storages import VARIABLE, read_folder, read_storage, resolved, storage_schema, typed
from smm._storages import CustomStorage as CustomStorage
from smm._storages import JsonStorage as JsonStorage
from smm._storages import MemoryStorage as MemoryStorage
from smm._storages import NpyStorage as NpyStorage
from smm._storages import NpzStorage as NpzStorage
from smm._storages import Storage as Storage
from smm._strict import key, schema, structure
from smm._text import SIZE, SIZE_PATTERN, parse_size
from smm._variables import filled
from smm.errors import ConfigError, Problem
from smm.metric import STALE_ON, OnStale, StaleOn

VERSION = 1
"""Of the format: what `smm:` says."""


def _read_version(value: Any) -> int:
    if type(value) is not int or value != VERSION:
        raise refused(f"found {shown(value)}, wanted {VERSION}, the version of this format")
    return value


def _read_pythonpath(value: Any) -> tuple[Path, ...]:
    return read_list(value, read_folder, "a list of folders, such as [.]")


def _read_executor(value: Any) -> str:
    executor = filled(value) if isinstance(value, str) else value
    if isinstance(executor, str) and is_executor_text(executor):
        return executor
    hint = nearest(executor, EXECUTORS) if isinstance(executor, str) else ""
    raise refused(f"found {shown(executor)}, wanted {WANTED}{hint}")


def _read_workers(value: Any) -> int:
    workers = typed(value)
    if type(workers) is not int or workers < 1:
        raise refused(f"found {shown(workers)}, wanted a whole number of workers from 1")
    return workers


def _read_size(value: Any) -> int:
    if type(value) is not str:
        raise refused(f"found {shown(value)}, wanted {SIZE}")
    try:
        return parse_size(value)
    except ValueError as error:
        raise refused(str(error)) from None


_EXECUTOR = key(
    "What computes the rows of a run: threads, processes, dask, or the address of a dask scheduler.",
    read=_read_executor,
    schema={"anyOf": [{"enum": list(EXECUTORS)}, {"type": "string", "pattern": "://"}, VARIABLE]},
)
_WORKERS = key(
    "How many of them; one per processor if not given.",
    read=_read_workers,
    schema={"anyOf": [{"type": "integer", "minimum": 1}, VARIABLE]},
)


@attrs.frozen(kw_only=True)
class RunConfig:
    """The section `run`: who computes, unless a run is told otherwise."""

    executor: str = attrs.field(default="threads", metadata=_EXECUTOR)
    """`threads`, `processes`, `dask`, or the address of a dask scheduler."""
    workers: int | None = attrs.field(default=None, metadata=_WORKERS)
    """None for one per processor."""


_SMM = key("Version of this format.", read=_read_version, schema={"type": "integer", "const": VERSION})
_PYTHONPATH = key(
    "Folders in which functions are found, relative to this file; [.] if not given.",
    read=_read_pythonpath,
    schema={"type": "array", "items": {"type": "string", "pattern": "^[^\\u0000]+$"}},
)
_STORAGE = key(
    "Where the results are kept; npz files in the folder `results` if not given.",
    read=read_storage,
    schema={"$ref": "#/definitions/storage"},
)
_VERBOSE = key("Print a line for everything that is done.")
_DYNAMIC = key("Compute calls whose params no row declares, too.")
_ON_STALE = policy("What becomes of a stored value that is stale.")
_MAX_AGE = age("How old a stored value may be: 7d, 12h; any age if not given.")
_STALE_ON = causes("What makes a stored value stale; all three if not given, nothing if empty.")
_RUN = key(
    "Who computes when many metrics are run; threads if not given.", schema={"$ref": "#/definitions/run"}
)
_MEMORY_LIMIT = key(
    "How much the values kept in memory may take: 2 GiB, 500 MB; without limit if not given.",
    read=_read_size,
    schema={"type": "string", "pattern": SIZE_PATTERN},
)
_METRICS = key("The metrics by name.", read=read_metrics, schema=METRICS_SCHEMA)


@attrs.frozen(kw_only=True)
class Origin:
    """Where a Config came from, to point at its places."""

    file: str
    """As the caller wrote it."""
    path: Path
    """Absolute."""
    place: _yaml.Place


@attrs.frozen(kw_only=True)
class Config:
    """A configuration, checked as far as that goes without the user's code."""

    smm: int = attrs.field(default=VERSION, metadata=_SMM)
    pythonpath: tuple[Path, ...] = attrs.field(default=(Path(),), metadata=_PYTHONPATH)
    """Absolute."""
    storage: Storage = attrs.field(factory=NpzStorage, metadata=_STORAGE)
    """Its `metrics_dir` is absolute."""
    verbose: bool = attrs.field(default=True, metadata=_VERBOSE)
    dynamic_metric_creation: bool = attrs.field(default=False, metadata=_DYNAMIC)
    on_stale: OnStale = attrs.field(default="warn", metadata=_ON_STALE)
    max_age: float | None = attrs.field(default=None, metadata=_MAX_AGE)
    """Seconds."""
    stale_on: tuple[StaleOn, ...] = attrs.field(default=STALE_ON, metadata=_STALE_ON)
    run: RunConfig = attrs.field(factory=RunConfig, metadata=_RUN)
    memory_limit: int | None = attrs.field(default=None, metadata=_MEMORY_LIMIT)
    """Bytes."""
    metrics: Mapping[str, MetricConfig] = attrs.field(metadata=_METRICS)
    """By base name."""
    origin: Origin = attrs.field(
        default=Origin(file="Config", path=Path(), place=_yaml.NO_MARK), eq=False, repr=False
    )

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self.origin.path

    @property
    def folder(self) -> Path:
        """The file's folder, absolute."""
        return self.origin.path.parent

    def is_written(self, key: str) -> bool:
        """Return True if the file, or an override in place of it, has this key of the outermost mapping."""
        place = self.origin.place
        return isinstance(place, _yaml.Places) and key in place.keys

    def is_overridden(self, key: str) -> bool:
        """Return True if the value of this key of the outermost mapping came from the overrides."""
        place = self.origin.place
        return isinstance(place, _yaml.Places) and place.keys.get(key) == _yaml.NO_MARK

    def problem(self, keys: Keys, message: str) -> Problem:
        """A problem with what `keys` lead to, with its place in the file, or the nearest place above it.

        Args:
            keys: such as `("metrics", "poly_Y", "params_list", 1)`.
            message: what was found, what is wanted, what to do.
        """
        return _problem(self.origin, Refusal(message, keys))


def load_config(path: str | os.PathLike[str], *, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and check a configuration file; none of the user's code is imported.

    Args:
        path: the YAML file. Relative paths in it are relative to its folder.
        overrides: values to put over those of the file, by dotted key: `{"storage.metrics_dir": "out"}`.
            They are typed as in YAML; relative paths are relative to the working directory. A name that holds
            a dot is written in quotes: `metrics.'a.b'.function`.

    Raises:
        ConfigError: with every problem found.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        raw = file.read(_yaml.MAX_BYTES + 1)
    return read_config(raw, path, overrides=overrides)


def read_config(
    raw: bytes, path: str | os.PathLike[str], *, overrides: Mapping[str, Any] | None = None
) -> Config:
    """`load_config` of a text that is at hand; no file is opened.

    Raises:
        ConfigError: with every problem found.
    """
    with collector_paused():
        return _read_config(raw, os.fspath(path), overrides or {})


def _read_config(raw: bytes, file: str, overrides: Mapping[str, Any]) -> Config:
    document = _yaml.read(raw, file)
    if not document.whole:
        raise ConfigError(problems=document.problems)
    data, place, problems = merged(document.data, document.place, overrides)
    problems = document.problems + problems
    origin = Origin(file=file, path=Path(file).absolute(), place=place)
    try:
        config = _structured(data)
    except Refused as error:
        raise ConfigError(problems=_all(problems, origin, error.refusals)) from None
    if problems:
        raise ConfigError(problems=problems)
    return _with_absolute_paths(attrs.evolve(config, origin=origin), data)


def _structured(data: Any) -> Config:
    if data is None:
        raise refused("the file is empty, wanted at least the key 'metrics'")
    if type(data) is dict and type(version := data.get("smm")) is int and version > VERSION:
        # What a later version may hold is not known here: nothing else of it can be judged.
        raise refused(f"found {shown(version)}, this smm reads up to {VERSION}; update smm-metrics", "smm")
    return structure(data, Config)


def _all(problems: Sequence[Problem], origin: Origin, refusals: Sequence[Refusal]) -> list[Problem]:
    """Problems of the text and of its meaning in the order of the file; beyond 1,000 only counted."""
    # What could not be read as text is not worth a second complaint about the same place.
    seen = {(problem.line, problem.column) for problem in problems if problem.line}
    meant = [_problem(origin, refusal) for refusal in refusals[: _yaml.MAX_PROBLEMS]]
    found = [*problems, *(each for each in meant if (each.line, each.column) not in seen)]
    found.sort(key=lambda each: (each.line == 0, each.line, each.column))
    if len(refusals) > _yaml.MAX_PROBLEMS:
        message = f"{len(refusals) - _yaml.MAX_PROBLEMS:,} more problems"
        found.append(Problem(file=origin.file, line=0, column=0, path="", message=message))
    return found


def _problem(origin: Origin, refusal: Refusal) -> Problem:
    mark = _yaml.find(origin.place, refusal.keys, at_key=refusal.at_key)
    line, column = _yaml.line_and_column(mark)
    return Problem(
        file=OVERRIDES if mark == _yaml.NO_MARK else origin.file,
        line=line,
        column=column,
        path=dotted(refusal.keys),
        message=refusal.message,
    )


def _with_absolute_paths(config: Config, data: Mapping[str, Any]) -> Config:
    """Paths of the file are relative to its folder, paths of the overrides to the working directory."""

    def base(*keys: Hashable) -> Path:
        given = _yaml.find(config.origin.place, keys) == _yaml.NO_MARK
        return Path.cwd() if given else config.folder

    stored = base("storage", "metrics_dir") if "metrics_dir" in data.get("storage", {}) else config.folder
    return attrs.evolve(
        config,
        storage=resolved(config.storage, stored),
        pythonpath=tuple(base("pythonpath", i) / path for i, path in enumerate(config.pythonpath)),
    )


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` of a command line as one entry of `overrides`, the value read as YAML.

    Raises:
        ConfigError: there is no `=`, or what follows is no YAML.
    """
    name, equals, value = text.partition("=")
    if not equals:
        message = f"found {shown(text)}, wanted key=value, such as storage.metrics_dir=results"
        raise ConfigError(problems=[Problem(file=OVERRIDES, line=0, column=0, path="", message=message)])
    document = _yaml.read(value, OVERRIDES)
    if document.problems:
        raise ConfigError(
            problems=[attrs.evolve(each, line=0, column=0, path=name) for each in document.problems]
        )
    return name, document.data


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 7, which editors know best) of configuration files.

    It takes whatever `load_config` takes. `load_config` also refuses what a schema cannot say: sweeps without
    or with too many rows, axes of different lengths in a zip, inputs that name no metric or form a circle,
    variables that are not set, infinite ends, times of more than 36,500 days, sizes of less than a byte, and
    numbers such as 1.0 where a whole one is wanted.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "smm configuration",
        **schema(Config),
        "definitions": definitions() | {"storage": storage_schema(), "run": schema(RunConfig)},
    }
