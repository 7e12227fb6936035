"""What rows take: from records, from what a run sees, and in a forecast."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._pace import Forecast, Pace, Paces, forecast, recorded
from smm.errors import MetricNotStoredError
from smm.metric import Reason, Record, Stamp
from smm.run import Failed, plan
from tests.runnable import Manager

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


class Recorded(Manager):
    """A manager whose records say what they are told, and which counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, Record] = {}
        self.asked: list[str] = []

    def keep(self, name: str, seconds: float | None = None, size: int | None = None) -> None:
        data = None if size is None else Stamp(size=size, mtime_ns=0, crc32=0)
        self.records[name] = Record(name=name, date=WHEN, duration_seconds=seconds, data=data)
        self.stored[name] = 1

    def record(self, name: str) -> Record:
        self.asked.append(name)
        if name not in self.records:
            raise MetricNotStoredError(name=name, where="a dict")
        return self.records[name]


@pytest.fixture
def manager() -> Recorded:
    return Recorded()


# --- records ---------------------------------------------------------------------------------------------


def test_the_mean_of_what_is_stored(manager: Recorded) -> None:
    manager.keep("a1", 1.0, 100)
    manager.keep("a2", 2.0, 300)
    found = recorded(manager, {"a": ["a1", "a2", "a3"], "b": ["b1"]}, {"a1", "a2"})
    assert found == {"a": Pace(seconds=1.5, size=200.0), "b": Pace()}
    assert manager.asked == ["a1", "a2"]


def test_records_that_know_only_a_part(manager: Recorded) -> None:
    manager.keep("a1")  # as the predecessor's
    manager.keep("a2", 2.0)  # as in a storage without files
    manager.keep("a3", None, 300)
    found = recorded(manager, {"a": ["a1", "a2", "a3"]}, {"a1", "a2", "a3"})
    assert found == {"a": Pace(seconds=2.0, size=300.0)}


def test_what_was_deleted_meanwhile(manager: Recorded) -> None:
    manager.keep("a1", 1.0)
    assert recorded(manager, {"a": ["a1", "a2"]}, {"a1", "a2"}) == {"a": Pace(seconds=1.0)}


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100, 10_000])
def test_a_few_records_stand_for_all(manager: Recorded, count: int) -> None:
    names = [f"a{number}" for number in range(count)]
    for number, name in enumerate(names):
        manager.keep(name, float(number))
    found = recorded(manager, {"a": names}, set(names))
    assert len(manager.asked) == min(count, 16)
    assert len(set(manager.asked)) == len(manager.asked)
    seconds = found["a"].seconds
    assert seconds is not None
    # From all over the rows: a sweep often becomes slower along its way.
    assert abs(seconds - (count - 1) / 2) <= count / 16


# --- what a run sees -------------------------------------------------------------------------------------


def test_what_a_run_sees_counts_more_than_what_was_recorded() -> None:
    paces = Paces(lambda name: name[0], {"a": Pace(seconds=10.0), "b": Pace()})
    assert (paces.seconds("a1"), paces.seconds("b1"), paces.seconds("c1")) == (10.0, None, None)
    paces.learn("a1", 1.0)
    paces.learn("a2", 2.0)
    paces.learn("c2", 0.0)
    assert (paces.seconds("a3"), paces.of_base("a")) == (1.5, 1.5)
    assert (paces.of_base("b"), paces.of_base("c")) == (None, 0.0)


# --- forecasts -------------------------------------------------------------------------------------------


def forecast_of(
    manager: Manager,
    *names: str,
    paces: Mapping[str, Pace],
    workers: int = 1,
    force: bool = False,
    failed: Collection[str] = (),
) -> Forecast:
    """Base names are what stands before the first digit."""
    by_base: dict[str, list[str]] = {}
    for name in manager.functions_dict:
        by_base.setdefault(name.rstrip("0123456789"), []).append(name)
    noted = {
        name: Failed(name=name, kind="E", message="", where=None, when=WHEN, log=Path("log"))
        for name in failed
    }
    planned = plan(manager, names or tuple(manager.functions_dict), force=force, failed=lambda asked: noted)
    return forecast(planned, by_base, paces, workers)


def rows(manager: Manager, base: str, count: int, *reads: str) -> None:
    for number in range(count):
        manager.add(f"{base}{number}", *(read.format(number) for read in reads))


@pytest.mark.parametrize(
    ("workers", "seconds"), [(1, 30.0), (2, 15.0), (3, 10.0), (10, 3.0), (11, 3.0), (1000, 3.0)]
)
def test_independent_rows_are_divided_among_the_workers(workers: int, seconds: float) -> None:
    manager = Manager()
    rows(manager, "a", 10)
    found = forecast_of(manager, paces={"a": Pace(seconds=3.0)}, workers=workers)
    assert found.seconds == seconds
    assert found.workers == workers


def test_a_chain_takes_as_long_as_all_its_rows() -> None:
    manager = Manager()
    rows(manager, "a", 1)
    rows(manager, "b", 1, "a{}")
    rows(manager, "c", 8, "b0")
    paces = {"a": Pace(seconds=10.0), "b": Pace(seconds=20.0), "c": Pace(seconds=1.0)}
    assert forecast_of(manager, paces=paces, workers=100).seconds == 31.0
    assert forecast_of(manager, paces=paces, workers=1).seconds == 38.0


def test_what_is_stored_takes_no_time() -> None:
    manager = Manager()
    rows(manager, "a", 1)
    rows(manager, "b", 1, "a0")
    manager.stored["a0"] = 1
    paces = {"a": Pace(seconds=10.0), "b": Pace(seconds=1.0)}
    assert forecast_of(manager, paces=paces).seconds == 1.0


def test_unknown_metrics_come_on_top_and_are_named() -> None:
    manager = Manager()
    rows(manager, "a", 2)
    rows(manager, "new", 3)
    rows(manager, "done", 1)
    manager.stored["done0"] = 1
    found = forecast_of(manager, paces={"a": Pace(seconds=2.0, size=10.0)})
    assert (found.seconds, found.size, found.unknown) == (4.0, 20.0, ("new",))


def test_nothing_is_known() -> None:
    manager = Manager()
    rows(manager, "a", 2)
    found = forecast_of(manager, paces={})
    assert (found.seconds, found.size, found.unknown) == (None, None, ("a",))


def test_nothing_to_do() -> None:
    manager = Manager()
    rows(manager, "a", 1)
    manager.stored["a0"] = 1
    found = forecast_of(manager, paces={"a": Pace(seconds=2.0, size=10.0)})
    assert found.unknown == ()
    assert (found.seconds, found.size) == (None, None)
    (metric,) = found.metrics
    assert (metric.rows, metric.stored, metric.reasons) == (0, 1, {})


def test_sizes_are_of_new_data() -> None:
    manager = Manager()
    rows(manager, "a", 10)
    rows(manager, "b", 4)
    manager.stored |= {"a0": 1, "a1": 1}
    paces = {"a": Pace(seconds=1.0, size=1e6), "b": Pace(size=5.0)}
    found = forecast_of(manager, paces=paces)
    assert (found.size, found.seconds) == (8e6 + 20, 8.0)


def test_each_metric_with_its_reasons() -> None:
    manager = Manager()
    rows(manager, "up", 2)
    rows(manager, "a", 4, "up0")
    rows(manager, "bad", 2)
    manager.stored |= {"a0": 1, "a1": 1}
    found = forecast_of(
        manager,
        *("a0", "a1", "a2", "a3", "bad0", "bad1"),
        paces={"a": Pace(seconds=1.0)},
        force=True,
        failed=["bad0"],
    )
    assert [metric.base_name for metric in found.metrics] == ["up", "a", "bad"], "as they are declared"
    up, a, bad = found.metrics
    assert up.reasons == {Reason(kind="needed"): 1}
    assert a.reasons == {Reason(kind="forced"): 2, Reason(kind="missing"): 2}
    assert bad.reasons == {Reason(kind="missing"): 1}
    assert [(metric.rows, metric.stored, metric.skipped) for metric in found.metrics] == [
        (1, 0, 0),
        (4, 0, 0),
        (1, 0, 1),
    ]
    assert a.pace == Pace(seconds=1.0)
    assert set(found.unknown) == {"up", "bad"}


def test_what_reads_a_skipped_one_is_skipped_too() -> None:
    manager = Manager()
    rows(manager, "bad", 2)
    rows(manager, "a", 2, "bad{}")
    found = forecast_of(manager, paces={"a": Pace(seconds=1.0), "bad": Pace(seconds=1.0)}, failed=["bad0"])
    assert [(metric.rows, metric.skipped) for metric in found.metrics] == [(1, 1), (1, 1)]
    assert found.seconds == 2.0


def test_what_is_read_and_not_declared_is_a_metric_of_its_own() -> None:
    manager = Manager()
    manager.add("a0", "lost")
    found = forecast_of(manager, paces={})
    assert [metric.base_name for metric in found.metrics] == ["a", "lost"]


def test_a_forecast_is_a_value() -> None:
    manager = Manager()
    rows(manager, "a", 1)
    found = forecast_of(manager, paces={})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        found.workers = 3  # type: ignore[misc]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.data())
def test_never_less_than_the_work_nor_than_the_longest_chain(
    width: int, depth: int, workers: int, data: st.DataObject
) -> None:
    manager = Manager()
    each = {"a": data.draw(st.floats(0.1, 10)), "b": data.draw(st.floats(0.1, 10))}
    for level in range(depth):
        for column in range(width):
            base = data.draw(st.sampled_from("ab"))
            above = [name for name in manager.functions_dict if level and f"_{level - 1}_" in name]
            name = f"{base}_{level}_{column}"
            manager.add(name, *(above[:1] if above else ()))
    by_base = {base: [name for name in manager.functions_dict if name[0] == base] for base in "ab"}
    planned = plan(manager, manager.functions_dict)
    found = forecast(
        planned, by_base, {base: Pace(seconds=seconds) for base, seconds in each.items()}, workers
    )
    assert found.seconds is not None
    total = sum(each[name[0]] for name in manager.functions_dict)
    assert found.seconds >= total / workers * (1 - 1e-9)
    assert found.seconds >= depth * min(each.values()) * (1 - 1e-9)
    assert found.seconds <= total * (1 + 1e-9)
    if workers == 1:
        assert found.seconds == pytest.approx(total)
