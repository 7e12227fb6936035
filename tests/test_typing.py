"""What a type checker sees of a manager; the check of these types is mypy's, which reads this file too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, assert_type

import smm
from smm.collected import Cached
from smm.run import Outcome

STORAGE = smm.MemoryStorageInterface()
CM = smm.ParameterizedDatedCacheManager(STORAGE, verbose=False, dynamic_metric_creation=True)


@CM.collect
def bare(a: int, b: str = "x") -> list[float]:
    return [float(a)] * len(b)


@CM.collect()
def called() -> dict[str, int]:
    return {"a": 1}


@CM.collect(params_list=[[1], [4]], ignore=("log",))
def with_params(a: int, log: Callable[[str], None] | None = None) -> int:
    return a


@CM.collect("another_name", [[1]], lambda base_name, params: f"{base_name}-{params[0]}")
def named(a: int) -> str:
    return str(a)


def test_the_plain_signature() -> None:
    assert_type(bare(1), list[float])
    assert_type(bare(1, b="y"), list[float])
    assert_type(called(), dict[str, int])
    assert_type(with_params(1), int)
    assert_type(named(3), str)


def test_the_way_through_the_manager() -> None:
    assert_type(bare(1, cache=True), list[float])
    assert_type(bare(1, b="y", cache=True, use_stored=False), list[float])
    assert_type(called(cache=True), dict[str, int])
    assert_type(with_params(1, cache=True), int)
    assert_type(named(1, cache=True, use_stored=True), str)


def test_mistakes_that_a_type_checker_sees() -> None:
    mistakes: list[Callable[[], object]] = [
        lambda: bare("1"),  # type: ignore[call-overload]
        lambda: bare(),  # type: ignore[call-overload]
        lambda: bare(1, c=2),  # type: ignore[call-overload]
        lambda: bare(1, use_stored=False),  # type: ignore[call-overload]
        lambda: CM.collect(3),  # type: ignore[call-overload]
        lambda: CM.collect(params=[[1]]),  # type: ignore[call-overload]
        lambda: smm.DatedCacheManager(STORAGE, False),  # type: ignore[call-arg]
        lambda: smm.DatedCacheManager(object()),  # type: ignore[arg-type]
        lambda: smm.DatedCacheManager(STORAGE, dynamic_metric_creation=True),  # type: ignore[call-arg]
    ]
    assert len(mistakes) == 9


def test_what_the_decorator_gives() -> None:
    assert_type(bare.__wrapped__(1), list[float])
    assert_type(bare.__name__, str)

    def accepts(function: Cached[[int], str]) -> None:
        assert_type(function(1), str)

    accepts(named)
    accepted: Callable[[int], str] = named
    assert accepted(3) == "3"


def test_the_managers_attributes() -> None:
    assert_type(CM.bare, smm.CollectedMetric)
    assert_type(CM.bare(1), Any)
    assert_type(CM.with_params.get_all(), list[Any])
    assert_type(CM.with_params.name(1), str)
    assert_type(CM.with_params.exists(1), bool)
    CM.with_params(1)
    assert_type(CM.with_params.record(1), smm.Record)
    assert_type(CM.with_params.base_name, str)
    assert_type(CM.with_params.names(), list[str])
    assert_type(CM.with_params.iter_all(), Iterator[Any])
    assert_type(CM.with_params.to_dict(compute=True), dict[str, Any])
    assert_type(CM.storage_interface, smm.StorageInterface)
    assert_type(CM.parameterized_metrics, list[smm.CollectedMetric])
    assert_type("bare" in CM, bool)
    assert_type(list(CM), list[str])
    manager: smm.DatedCacheManager = CM
    metric: smm.CollectedMetric = CM.with_params
    assert (manager is CM, metric.base_name) == (True, "with_params")


def test_runs_and_plans() -> None:
    assert_type(CM.run("with_params", workers=1, progress=False), smm.RunReport)
    assert_type(CM.run(["with_params"], executor=ThreadPoolExecutor(1), force=False), smm.RunReport)
    assert_type(CM.with_params.run(keep_going=False), smm.RunReport)
    report = CM.run(iter(["with_params_1"]), retry_failed=True)
    assert_type(report.outcomes, tuple[Outcome, ...])
    assert_type(report.of("failed"), tuple[Outcome, ...])
    assert_type(report.counts(), dict[str, int])
    assert_type(report.log, Path | None)
    assert_type(report.outcomes[0].error, BaseException | None)
    forecast = CM.plan("with_params", executor="processes", workers=3)
    assert_type(forecast.seconds, float | None)
    assert_type(forecast.plan.compute, tuple[str, ...])
    mistakes: list[Callable[[], object]] = [
        lambda: CM.run(3),  # type: ignore[arg-type]
        lambda: CM.run(workers="2"),  # type: ignore[arg-type]
        lambda: CM.run("f", "threads"),  # type: ignore[call-arg]
        lambda: report.of("done"),  # type: ignore[arg-type]
        lambda: CM.plan(keep_going=False),  # type: ignore[call-arg]
    ]
    assert (report.counts()["stored"], len(mistakes)) == (1, 5)


def test_every_storage_is_a_storage() -> None:
    makers: list[Callable[[str], smm.StorageInterface]] = [
        smm.JsonStorageInterface,
        smm.NpyStorageInterface,
        smm.NpzStorageInterface,
        lambda folder: smm.FileBasedStorageInterface(".txt", folder),
        lambda folder: smm.MemoryStorageInterface(),
    ]
    assert len(makers) == 5
