"""Planning and carrying out a run, over a manager of nothing but dicts."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._blame import last_line, shown, user_line, user_traceback
from smm.errors import CircularMetricError, MetricNotStoredError, UndeclaredParamsError
from smm.metric import Record
from smm.run import Outcome, Plan, RunReport, execute, plan


class Metric:
    """A function of `functions_dict` that reads others through its manager."""

    def __init__(
        self, manager: Manager, reads: tuple[str, ...] = (), error: BaseException | None = None
    ) -> None:
        self.manager = manager
        self.given = reads
        self.error = error

    def reads(self) -> tuple[str, ...]:
        return self.given

    def __call__(self) -> list[Any]:
        values = [self.manager.get(name) for name in self.given]
        if self.error is not None:
            raise self.error
        return values


class Manager:
    """Keeps, loads and counts; `stored` is its disk."""

    def __init__(self) -> None:
        self.functions_dict: dict[str, Callable[[], Any]] = {}
        self.cache: dict[str, Any] = {}
        self.stored: dict[str, Any] = {}
        self.dates: dict[str, datetime] = {}
        self.computed: list[str] = []
        self.most_in_memory = 0

    def add(self, name: str, *reads: str, error: BaseException | None = None) -> None:
        self.functions_dict[name] = Metric(self, reads, error)

    def exists(self, name: str) -> bool:
        return name in self.cache or name in self.stored

    def get(self, name: str, use_stored: bool = True) -> Any:
        if use_stored and name in self.cache:
            return self.cache[name]
        if not use_stored or name not in self.stored:
            value = self.functions_dict[name]()
            self.computed.append(name)
            self.stored[name] = value
            self.dates[name] = datetime.now(UTC)
        self.cache[name] = self.stored[name]
        self.most_in_memory = max(self.most_in_memory, len(self.cache))
        return self.cache[name]

    def record(self, name: str) -> Record:
        if name not in self.dates:
            raise MetricNotStoredError(name=name, where="a dict")
        return Record(name=name, date=self.dates[name], duration_seconds=0.0)


def outcomes(manager: Manager, *names: str, force: bool = False) -> list[Outcome]:
    chosen = names or tuple(manager.functions_dict)
    planned = plan(manager, chosen, force=force)
    return list(execute(manager, planned, force=chosen if force else ()))


def ended(found: list[Outcome]) -> dict[str, str]:
    return {outcome.name: outcome.status for outcome in found}


@pytest.fixture
def manager() -> Manager:
    return Manager()


# --- order ----------------------------------------------------------------------------------------------


def test_what_is_read_comes_first(manager: Manager) -> None:
    manager.add("c", "b")
    manager.add("b", "a")
    manager.add("a")
    assert [outcome.name for outcome in outcomes(manager)] == ["a", "b", "c"]
    assert manager.computed == ["a", "b", "c"]


def test_what_is_read_and_missing_is_run_though_nobody_asked(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    manager.add("other")
    assert ended(outcomes(manager, "b")) == {"a": "computed", "b": "computed"}


def test_what_is_read_and_stored_is_not_reported(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    manager.stored["a"] = 1
    assert ended(outcomes(manager, "b")) == {"b": "computed"}
    assert manager.computed == ["b"]


def test_a_name_given_twice_counts_once(manager: Manager) -> None:
    manager.add("a")
    assert len(outcomes(manager, "a", "a")) == 1


def test_a_second_run_only_looks(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    outcomes(manager)
    manager.computed.clear()
    assert ended(outcomes(manager)) == {"a": "stored", "b": "stored"}
    assert manager.computed == []
    assert manager.cache == {}


def test_force_computes_what_was_asked_for_and_nothing_else(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    outcomes(manager)
    manager.computed.clear()
    assert ended(outcomes(manager, "b", force=True)) == {"b": "computed"}
    assert manager.computed == ["b"]


def test_force_of_both_computes_each_once(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    outcomes(manager)
    manager.computed.clear()
    outcomes(manager, force=True)
    assert manager.computed == ["a", "b"]


def test_the_names_known_to_be_stored_are_not_asked_for(manager: Manager) -> None:
    manager.add("a")
    manager.add("b")
    planned = plan(manager, ["a", "b"], stored={"a"})
    assert (planned.stored, planned.compute) == (("a",), ("b",))


def test_what_another_process_has_stored_since_is_not_computed(manager: Manager) -> None:
    manager.add("a")
    planned = plan(manager, ["a"])
    manager.stored["a"] = 1
    assert ended(list(execute(manager, planned))) == {"a": "stored"}


def test_what_another_process_computed_meanwhile_is_not_claimed() -> None:
    class Shared(Manager):
        def record(self, name: str) -> Record:
            return Record(name=name, date=datetime.now(UTC), duration_seconds=60.0)

    manager = Shared()
    manager.add("a")  # which takes less than the minute that its record speaks of
    assert ended(outcomes(manager)) == {"a": "stored"}


def test_a_circle_is_an_error_before_anything_runs(manager: Manager) -> None:
    manager.add("a", "b")
    manager.add("b", "a")
    with pytest.raises(CircularMetricError) as caught:
        plan(manager, ["a"])
    assert set(caught.value.chain) == {"a", "b"}
    assert manager.computed == []


# --- failures -------------------------------------------------------------------------------------------


def test_a_failure_stops_only_what_depends_on_it(manager: Manager) -> None:
    error = ValueError("no")
    manager.add("bad", error=error)
    manager.add("child", "bad")
    manager.add("grandchild", "child")
    manager.add("good")
    found = {outcome.name: outcome for outcome in outcomes(manager)}
    assert ended(list(found.values())) == {
        "bad": "failed",
        "child": "failed",
        "grandchild": "failed",
        "good": "computed",
    }
    assert (found["bad"].error, found["bad"].upstream) == (error, None)
    assert (found["child"].error, found["child"].upstream) == (error, "bad")
    assert (found["grandchild"].error, found["grandchild"].upstream) == (error, "child")
    assert "child" not in manager.computed


def test_a_metric_that_ends_the_process_ends_only_itself(manager: Manager) -> None:
    manager.add("bad", error=SystemExit(0))
    manager.add("good")
    assert ended(outcomes(manager)) == {"bad": "failed", "good": "computed"}


def test_inputs_that_cannot_be_told_are_this_metrics_failure(manager: Manager) -> None:
    class Lost(Metric):
        def reads(self) -> tuple[str, ...]:
            raise UndeclaredParamsError(base_name="x", call="x(3)")

    manager.functions_dict["lost"] = Lost(manager)
    manager.add("good")
    found = outcomes(manager)
    assert ended(found) == {"lost": "failed", "good": "computed"}
    assert isinstance(found[0].error, UndeclaredParamsError)


def test_ctrl_c_passes_and_what_is_done_is_stored(manager: Manager) -> None:
    manager.add("a")
    manager.add("b", error=KeyboardInterrupt())
    manager.add("c")
    running = execute(manager, plan(manager, ["a", "b", "c"]))
    assert next(running).name == "a"
    with pytest.raises(KeyboardInterrupt):
        next(running)
    assert list(manager.stored) == ["a"]


def test_a_failure_keeps_none_of_its_locals_alive(manager: Manager) -> None:
    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    def bad() -> None:
        big = Big()
        alive.append(weakref.ref(big))
        raise ValueError("no")

    manager.functions_dict["bad"] = bad
    found = outcomes(manager)
    assert found[0].status == "failed"
    assert alive[0]() is None


# --- memory ---------------------------------------------------------------------------------------------


def test_values_do_not_stay_in_memory(manager: Manager) -> None:
    manager.add("all")
    for number in range(20):
        manager.add(f"x{number}")
        manager.add(f"y{number}", f"x{number}", "all")
    outcomes(manager)
    assert manager.cache == {}
    assert manager.most_in_memory <= 3


def test_what_was_in_memory_before_stays(manager: Manager) -> None:
    manager.add("a")
    manager.add("b", "a")
    kept = manager.get("a")
    outcomes(manager)
    assert manager.cache == {"a": kept}


def test_a_value_that_could_not_be_stored_is_not_lost(manager: Manager) -> None:
    def full() -> None:
        manager.cache["full"] = 1
        raise OSError("disk full")

    manager.functions_dict["full"] = full
    outcomes(manager)
    assert manager.cache == {"full": 1}


# --- any graph ------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, tuple[str, ...]], set[str], set[str]]:
    count = draw(st.integers(1, 8))
    names = [f"m{number}" for number in range(count)]
    reads = {
        name: tuple(draw(st.sets(st.sampled_from(names[:index])))) if index else ()
        for index, name in enumerate(names)
    }
    order = draw(st.permutations(names))
    failing = draw(st.sets(st.sampled_from(names), max_size=2))
    stored = draw(st.sets(st.sampled_from(names)))
    return {name: reads[name] for name in order}, failing, stored


@given(graphs())
def test_of_any_graph_all_is_stored_that_can_be(
    graph: tuple[dict[str, tuple[str, ...]], set[str], set[str]],
) -> None:
    reads, failing, stored = graph
    manager = Manager()
    for name, read in reads.items():
        manager.add(name, *read, error=ValueError(name) if name in failing else None)
    manager.stored = dict.fromkeys(stored)

    def fails(name: str) -> bool:
        return name not in stored and (name in failing or any(fails(read) for read in reads[name]))

    expected = {
        name: "stored" if name in stored else "failed" if fails(name) else "computed" for name in reads
    }
    assert ended(outcomes(manager)) == expected
    assert len(manager.computed) == len(set(manager.computed))
    assert manager.cache == {}


# --- reports --------------------------------------------------------------------------------------------


def test_a_report_sorts_by_how_things_ended() -> None:
    done = Outcome(name="a", status="computed", seconds=1.0)
    bad = Outcome(name="b", status="failed", error=ValueError())
    report = RunReport(outcomes=(done, bad), seconds=1.5)
    assert report.of("computed") == (done,)
    assert report.of("failed") == (bad,)
    assert report.of("stored") == ()


def test_an_empty_plan_does_nothing(manager: Manager) -> None:
    assert plan(manager, []) == Plan(stored=(), compute=(), reads={}, unreadable={})


# --- whose line it was ----------------------------------------------------------------------------------


def caught(function: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as info:  # noqa: PT011 - any will do
        function()
    return info.value


def test_the_users_line_is_named_not_the_librarys() -> None:
    import numpy as np

    def metric() -> Any:
        return np.linalg.inv(np.zeros((2, 2)))

    line = metric.__code__.co_firstlineno + 1
    error = caught(metric)
    assert user_line(error) == f"{__file__}:{line}"
    assert shown(error) == f"LinAlgError: Singular matrix ({__file__}:{line})"


def test_an_error_that_was_never_raised_has_no_line() -> None:
    assert user_line(ValueError()) is None
    assert shown(ValueError("a")) == "ValueError: a"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(), "ValueError"),
        (ValueError(""), "ValueError"),
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("\n\n  one\ntwo"), "ValueError: one"),
        (KeyError("x"), "KeyError: 'x'"),
        (type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})(), "Odd"),
    ],
)
def test_an_error_in_one_line(error: Exception, line: str) -> None:
    assert last_line(error) == line


def test_a_note_is_no_part_of_the_line() -> None:
    error = ValueError("a")
    error.add_note("while")
    assert last_line(error) == "ValueError: a"


def test_a_traceback_begins_where_the_users_code_does(manager: Manager) -> None:
    def bad() -> None:
        raise ValueError("no")

    error = caught(bad)
    text = user_traceback(error)
    assert text.startswith("Traceback")
    assert text.rstrip().endswith("ValueError: no")
