"""What a configuration names in the user's code: functions, rows made by code, a storage class."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from smm import sweep
from smm._blame import shown
from smm._keys import Keys
from smm._resolve import AlreadyReportedError, Resolver, UnresolvedError
from smm.config import Config, CustomStorage, MetricConfig
from smm.errors import ConfigError, Problem


class Problems:
    """What is wrong between one configuration and the code, collected before any of it is raised."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._found: list[Problem] = []
        self._cause: BaseException | None = None

    def __len__(self) -> int:
        return len(self._found)

    def add(self, keys: Keys, message: str, cause: BaseException | None = None) -> None:
        """Note a problem at a place of the file; `cause` is what the user's code raised, if it did."""
        self._found.append(self._config.problem(keys, message))
        self._cause = self._cause or cause

    def raise_any(self) -> None:
        """Raise all problems, in the order of the file, if there are any.

        Raises:
            ConfigError: from the first exception of the user's code, if one was noted.
        """
        if self._found:
            in_file = sorted(self._found, key=lambda problem: (problem.file, problem.line, problem.column))
            raise ConfigError(problems=tuple(in_file)) from self._cause


def named_objects(config: Config, allow: Iterable[str] | None, problems: Problems) -> dict[Keys, Any]:
    """Import everything that a configuration names.

    Args:
        config: the configuration.
        allow: modules that are all it may name, see `Resolver`.
        problems: is given what cannot be imported or used.

    Returns:
        By the place of each dotted path that names something usable: a callable, or for `rows_from` a list of
        rows.

    Raises:
        ConfigError: the file names what it may not. Then nothing of it has been imported.
    """
    resolver = Resolver(config.pythonpath, allow)
    for index, folder in enumerate(config.pythonpath):
        if not folder.is_dir():
            problems.add(("pythonpath", index), f"there is no folder {folder}; correct or remove it")
    paths = list(_dotted_paths(config))
    for keys, path in paths:
        if (refusal := resolver.refusal(path)) is not None:
            problems.add(keys, refusal)
    problems.raise_any()
    objects = {}
    for keys, path in paths:
        try:
            thing = resolver.resolve(path)
            objects[keys] = _rows(path, thing) if keys[-1] == "rows_from" else _function(path, thing)
        except AlreadyReportedError:
            pass
        except UnresolvedError as error:
            problems.add(keys, str(error), error.__cause__)
    return objects


def _dotted_paths(config: Config) -> Iterator[tuple[Keys, str]]:
    if isinstance(config.storage, CustomStorage):
        yield ("storage", "type"), config.storage.type
    for name, metric in config.metrics.items():
        yield from metric_paths(name, metric)


def metric_paths(name: str, metric: MetricConfig) -> Iterator[tuple[Keys, str]]:
    """Every dotted path of a metric, and where it stands."""
    if metric.function is not None:
        yield ("metrics", name, "function"), metric.function
    if metric.name_generation_function is not None:
        yield ("metrics", name, "name_generation_function"), metric.name_generation_function
    for index, item in enumerate(metric.params_list):
        if isinstance(item, sweep.RowsFrom):
            yield rows_keys(name, index), item.path


def rows_keys(name: str, index: int) -> Keys:
    """Where the dotted path of a `rows_from` entry stands."""
    return ("metrics", name, "params_list", index, "rows_from")


def _function(path: str, thing: Any) -> Any:
    if not callable(thing):
        raise UnresolvedError(f"{path!r} is {_a(thing)}, which cannot be called; name a function")
    return thing


def _rows(path: str, thing: Any) -> list[Any]:
    """The rows of an iterable, or of what a function makes."""
    if isinstance(thing, Iterator):
        # A second manager in this process would find it empty.
        raise UnresolvedError(
            f"{path!r} is {_a(thing)}, used up by one reading; name a function that makes it"
        )
    called = not isinstance(thing, Iterable) and callable(thing)
    try:
        rows = thing() if called else thing
        usable = isinstance(rows, Iterable) and not isinstance(rows, str | bytes | Mapping)
        found = list(itertools.islice(rows, sweep.MAX_ROWS + 1)) if usable else []
    except Exception as error:
        raise UnresolvedError(f"{path!r} raised {shown(error)}") from error
    if len(found) > sweep.MAX_ROWS:
        raise UnresolvedError(f"{path!r} gives more than {sweep.MAX_ROWS:,} rows; name one that gives fewer")
    if usable:
        return found
    raise UnresolvedError(
        f"{path!r} {'returned' if called else 'is'} {_a(rows)}; "
        "it must be an iterable of rows, such as [[1, 2], [1, 3]]"
    )


def _a(thing: object) -> str:
    """What something is, for a sentence: `a float`, `an ndarray`."""
    kind = type(thing).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
