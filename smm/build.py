"""From a configuration to a manager: the only part of smm that imports the user's code.

Every problem between the configuration and the code is found before anything is raised, each with its line
and column in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from smm import sweep
from smm._blame import shown
from smm._code import Problems, metric_paths, named_objects, rows_keys
from smm._keys import Keys
from smm._pause import collector_paused
from smm._policies import written_age
from smm._recipe import Recipe
from smm.collect import NO_PARAMS, Rows, binder_of, copied
from smm.config import (
    Config,
    CustomStorage,
    JsonStorage,
    MemoryStorage,
    MetricConfig,
    NpyStorage,
    NpzStorage,
    load_config,
)
from smm.errors import CircularMetricError, DeclarationError, SmmError, UndeclaredParamsError
from smm.graph import upstream_first
from smm.identity import Binder
from smm.manager import DatedCacheManager, ParameterizedDatedCacheManager
from smm.metric import Function, Metric, Trust
from smm.storage import (
    JsonStorageInterface,
    MemoryStorageInterface,
    NpyStorageInterface,
    NpzStorageInterface,
    StorageInterface,
)

_STORAGES: Mapping[type, Callable[..., StorageInterface]] = {
    JsonStorage: JsonStorageInterface,
    NpyStorage: NpyStorageInterface,
    NpzStorage: NpzStorageInterface,
    MemoryStorage: MemoryStorageInterface,
}

_MOST_SHOWN = 20
"""Bad rows of one metric that are reported one by one; a wrong axis of a grid would fill the screen."""


def from_config(
    path: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    allow: Iterable[str] | None = None,
    pythonpath: Iterable[str | os.PathLike[str]] | None = None,
) -> DatedCacheManager:
    """Make the manager that a YAML file describes, with its metrics declared.

    Imports the functions it names, and so runs their modules; computes nothing and creates no folder. The
    folders of `pythonpath` are appended to `sys.path`, where they stay.

    Args:
        path: the configuration file.
        overrides: values in place of the file's, by dotted key: `{"storage.metrics_dir": "/tmp/try"}`.
        allow: modules that, with what lies below them, are all that the file may name. Judged before anything
            is imported, and again by where each object is defined. An empty list allows nothing; None, every
            module outside Python's own. Unless it is None, the file does not say where modules are found: it
            may have no `pythonpath`, and its own folder does not stand for one.
        pythonpath: folders in which modules are found, in place of the file's; relative to the working
            directory. The same as `pythonpath` in `overrides`, but for `$`, which means nothing here.

    Returns:
        A `ParameterizedDatedCacheManager` if any metric has params or dynamic creation is on, else a
        `DatedCacheManager`.

    Raises:
        ConfigError: with every problem found. If a module of the user's raised while it was imported, that
            exception is the `__cause__`.
        OSError: the file cannot be read.
        TypeError, ValueError: `allow` is no list of module names, `pythonpath` no list of folders, or both
            `pythonpath` and `overrides` give folders.
    """
    if isinstance(allow, Iterator):
        allow = list(allow)  # workers are told, too
    overrides = _with_pythonpath(overrides or {}, pythonpath)
    config = load_config(path, overrides=overrides)
    problems = Problems(config)
    if allow is not None:
        config = _without_own_pythonpath(config, problems)
    objects = named_objects(config, allow, problems)
    storage = _storage(config, objects, problems)
    # A stand-in lets the search go on where the real storage could not be made.
    manager = _empty_manager(config, storage or MemoryStorageInterface())
    _Declaring(config, objects, manager, problems).declare_all()
    problems.raise_any()
    manager._recipe = _recipe(config, overrides, allow)
    return manager


def _with_pythonpath(
    overrides: Mapping[str, Any], pythonpath: Iterable[str | os.PathLike[str]] | None
) -> Mapping[str, Any]:
    """Return the overrides with the folders of the argument `pythonpath` among them.

    Raises:
        TypeError, ValueError: see `from_config`.
    """
    if pythonpath is None:
        return overrides
    if isinstance(pythonpath, str | os.PathLike):
        raise TypeError(
            f"pythonpath is the folder {os.fspath(pythonpath)!r}; give a list: [{os.fspath(pythonpath)!r}]"
        )
    if "pythonpath" in overrides:
        raise ValueError("pythonpath is given as an argument and in overrides; leave one of them out")
    return {**overrides, "pythonpath": [Path(folder) for folder in pythonpath]}


def _without_own_pythonpath(config: Config, problems: Problems) -> Config:
    """Return the configuration without the folders that the file itself adds to `sys.path`.

    A `pythonpath` that is written in it is among the problems. What the caller gave in its place stays.
    """
    if config.is_overridden("pythonpath"):
        return config
    if config.is_written("pythonpath"):
        problems.add(
            ("pythonpath",),
            "under `allow` a file may not say where modules are found; remove it, or give the folders to "
            "from_config(..., pythonpath=[...]), which replaces it",
        )
    return attrs.evolve(config, pythonpath=())


def _recipe(config: Config, overrides: Mapping[str, Any], allow: Iterable[str] | None) -> Recipe:
    """Return how another process, which may have another working directory, makes the same manager."""
    changed = dict(overrides)
    if any(key.startswith("storage") for key in changed) and hasattr(config.storage, "metrics_dir"):
        changed["storage.metrics_dir"] = str(config.storage.metrics_dir)
    if config.is_overridden("pythonpath"):
        changed["pythonpath"] = list(config.pythonpath)
    return Recipe(
        make=from_config,
        path=str(config.path),
        options={"overrides": changed, "allow": None if allow is None else list(allow)},
        declares=frozenset(name for name, metric in config.metrics.items() if metric.function is not None),
    )


def _storage(config: Config, objects: Mapping[Keys, Any], problems: Problems) -> StorageInterface | None:
    """The storage; None if it could not be made, which then is among the problems."""
    given = config.storage
    if not isinstance(given, CustomStorage):
        return _STORAGES[type(given)](**attrs.asdict(given, recurse=False))
    made = objects.get(("storage", "type"))
    if made is None:
        return None
    try:
        storage = made(**given.keywords)
    except Exception as error:  # noqa: BLE001 - the user's class may raise anything
        problems.add(("storage",), f"{given.type} could not be made: {shown(error)}", error)
        return None
    if not isinstance(storage, StorageInterface):
        problems.add(
            ("storage", "type"),
            f"{given.type} makes no storage; one needs exists(name), save(name, data) and load(name)",
        )
        return None
    return storage


def _empty_manager(config: Config, storage: StorageInterface) -> DatedCacheManager:
    dynamic = config.dynamic_metric_creation
    settings: dict[str, Any] = {
        "verbose": config.verbose,
        "executor": config.run.executor,
        "workers": config.run.workers,
        "memory_limit": config.memory_limit,
        "on_stale": config.on_stale,
        "max_age": written_age(config.max_age),
        "stale_on": config.stale_on,
    }
    if dynamic or not all(_is_one_value(metric) for metric in config.metrics.values()):
        return ParameterizedDatedCacheManager(storage, dynamic_metric_creation=dynamic, **settings)
    return DatedCacheManager(storage, **settings)


def _is_one_value(metric: MetricConfig) -> bool:
    """Whether a metric has one row, without params."""
    return tuple(metric.params_list) == ((),)


_AS_THE_MANAGER = Trust()


def _trust(given: MetricConfig) -> Trust:
    if given.on_stale is None and given.max_age is None and given.stale_on is None:
        return _AS_THE_MANAGER
    return Trust(on_stale=given.on_stale, max_age_seconds=given.max_age, stale_on=given.stale_on)


class _Declaring:
    """Declares the metrics of one configuration, and finds what is wrong with each."""

    def __init__(
        self, config: Config, objects: Mapping[Keys, Any], manager: DatedCacheManager, problems: Problems
    ) -> None:
        self._metrics = config.metrics
        self._objects = objects
        self._manager = manager
        self._problems = problems

    def declare_all(self) -> None:
        """Declare every metric whose code was found, then check what they read of each other."""
        with collector_paused():
            metrics = [self._metric(name, given) for name, given in self._metrics.items()]
            self._check_inputs([metric for metric in metrics if metric and self._declare(metric)])

    def _metric(self, name: str, given: MetricConfig) -> Metric | None:
        """The declaration, its dotted paths replaced by what they name; None if one of them failed."""
        if any(keys not in self._objects for keys, _ in metric_paths(name, given)):
            return None
        return Metric(
            base_name=name,
            function=self._objects.get(("metrics", name, "function")),
            params_list=NO_PARAMS if _is_one_value(given) else copied(self._all_rows(name)),
            name_generation_function=self._objects.get(("metrics", name, "name_generation_function")),
            ignore=given.ignore,
            inputs=given.inputs,
            trust=_trust(given),
            timeout_seconds=given.timeout,
            retries=given.retries,
        )

    def _all_rows(self, name: str) -> list[Any]:
        params_list = self._metrics[name].params_list
        if sweep.are_rows(params_list):
            return list(params_list)
        return [row for _, row in self._rows(name)]

    def _rows(self, name: str) -> Iterator[tuple[int, Any]]:
        """Each row, with the index of the entry it comes from."""
        params_list = self._metrics[name].params_list
        made = {
            item.path: self._objects[rows_keys(name, index)]
            for index, item in enumerate(params_list)
            if isinstance(item, sweep.RowsFrom)
        }
        return sweep.expand(params_list, lambda item: made[item.path])

    def _declare(self, metric: Metric) -> bool:
        before = len(self._problems)
        try:
            self._manager._declare(metric)
        except Exception as error:  # noqa: BLE001 - a name_generation_function may raise anything
            if metric.function is not None:
                self._explain(metric, metric.function)
            if len(self._problems) == before:
                self._problems.add(("metrics", metric.base_name), _reason(error), error)
            return False
        return True

    def _explain(self, metric: Metric, function: Function) -> None:
        """Find which keys of a metric made its declaration fail."""
        name = metric.base_name
        narrower: list[tuple[str, Callable[[], Binder]]] = [
            ("function", lambda: Binder(function, base_name=name)),
            ("ignore", lambda: Binder(function, base_name=name, ignore=metric.ignore)),
            ("inputs", lambda: binder_of(metric, function)),
        ]
        for key, make in narrower:
            try:
                binder = make()
            except (TypeError, ValueError) as error:
                self._problems.add(("metrics", name, key), _reason(error))
                return
        given = self._metrics[name].params_list
        found: list[tuple[Keys, str]] = []
        for index, row in self._rows(name):
            try:
                binder.name(binder.bind_row(row), metric.name_generation_function)
            except Exception as error:  # noqa: BLE001 - a name_generation_function may raise anything
                if given == ((),):
                    found.append((("metrics", name), f"{_reason(error)}; give its rows in `params_list`"))
                else:
                    found.append((("metrics", name, "params_list", index), _reason(error)))
        self._add_some(found)

    def _add_some(self, found: Sequence[tuple[Keys, str]]) -> None:
        """Add problems of rows; what rows of one place have in common is said once, with their number."""
        counts: dict[tuple[Keys, str], int] = {}
        for problem in found:
            counts[problem] = counts.get(problem, 0) + 1
        for (keys, message), count in list(counts.items())[:_MOST_SHOWN]:
            more = f" ({count:,} rows)" if count > 1 else ""
            self._problems.add(keys, message + more)
        if len(counts) > _MOST_SHOWN:
            keys = list(counts)[_MOST_SHOWN][0]
            self._problems.add(keys, f"and {len(counts) - _MOST_SHOWN} more rows like these")

    def _check_inputs(self, declared: Sequence[Metric]) -> None:
        """Each row must find the upstream rows it reads, and none read itself by way of others.

        What reads a metric that waits for `@CM.collect`, whose rows are not known yet, is left to its run.
        """
        known = {metric.base_name: metric for metric in declared if metric.function is not None}
        reads: dict[str, list[str]] = {}
        for name, metric in known.items():
            if metric.inputs and all(source.metric in known for source in metric.inputs.values()):
                reads |= self._reads(self._manager.rows_of(name))
        try:
            upstream_first(reads)
        except CircularMetricError as error:
            name = next(name for name in known if error.chain[0] in self._manager.rows_of(name).entries)
            self._problems.add(("metrics", name, "inputs"), str(error))

    def _reads(self, rows: Rows) -> dict[str, list[str]]:
        """For each row, the metric names it reads."""
        reads: dict[str, list[str]] = {}
        unable: dict[str, list[str]] = {}  # by the reason, which rows of a sweep may have in common
        undeclared: dict[str, list[tuple[str, UndeclaredParamsError]]] = {}  # by the metric that is read
        for name, row in rows.entries.items():
            try:
                reads[name] = row.reads()
            except UndeclaredParamsError as error:
                undeclared.setdefault(error.base_name, []).append((repr(row), error))
            except (TypeError, ValueError, LookupError) as error:
                unable.setdefault(_reason(error), []).append(repr(row))
        for each in undeclared.values():
            unable.setdefault(_undeclared([error for _, error in each]), []).extend(row for row, _ in each)
        keys: Keys = ("metrics", rows.base_name, "inputs")
        found = [(keys, f"{_subject(those)} inputs: {why}") for why, those in unable.items()]
        self._add_some(found)
        return reads


def _subject(rows: Sequence[str]) -> str:
    return f"{rows[0]} cannot read its" if len(rows) == 1 else f"{len(rows):,} rows cannot read their"


def _undeclared(errors: Sequence[UndeclaredParamsError]) -> str:
    """Return what calls of one metric have in common that no row of it has."""
    calls = list(dict.fromkeys(error.call for error in errors))
    if len(calls) == 1:
        return f"{errors[0].what()}; add it to the params list, or set dynamic_metric_creation: true"
    shown = ", ".join(calls[:3]) + (f" and {len(calls) - 3:,} more" if len(calls) > 3 else "")
    return (
        f"{shown} are not among the declared params of {errors[0].base_name!r}; add them to the params list, "
        "or set dynamic_metric_creation: true"
    )


def _reason(error: Exception) -> str:
    """The sentence of a refusal, without the name of the metric, which stands before it in a Problem."""
    if isinstance(error, DeclarationError):
        return error.reason
    return str(error) if isinstance(error, SmmError | TypeError | ValueError) else shown(error)
