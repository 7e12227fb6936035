"""What a run is made of: plans and reports, and a plan carried out by the calling thread."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._blame import last_line, message, shown, user_line, user_traceback
from smm.errors import CircularMetricError, FailedBeforeError, UndeclaredParamsError
from smm.metric import Reason
from smm.run import Failed, Outcome, Plan, RunReport, plan
from tests.runnable import SECONDS, Manager, Metric, outcomes, ran, scheduled

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
"""When earlier runs were."""


def ended(found: list[Outcome]) -> dict[str, str]:
    return {outcome.name: outcome.status for outcome in found}


def failed_before(*names: str, when: datetime = BEFORE) -> Callable[[Collection[str]], Mapping[str, Failed]]:
    """What a log says of these names."""

    def ask(asked: Collection[str]) -> dict[str, Failed]:
        assert len(asked) == len(set(asked)) > 0
        return {
            name: Failed(
                name=name, kind="ValueError", message="no", where="a.py:3", when=when, log=Path("log.jsonl")
            )
            for name in names
            if name in asked
        }

    return ask


@pytest.fixture
def manager() -> Manager:
    return Manager()


def lost(manager: Manager, name: str) -> UndeclaredParamsError:
    """Declare a metric whose inputs cannot be told."""
    error = UndeclaredParamsError(base_name="x", call="x(3)")

    class Lost(Metric):
        def reads(self) -> tuple[str, ...]:
            raise error

    manager.functions_dict[name] = Lost(manager, name, ())
    return error


# --- plans: order and reasons ----------------------------------------------------------------------------


def test_what_is_read_comes_first(manager: Manager) -> None:
    manager.add("c", "b")
    manager.add("b", "a")
    manager.add("a")
    planned = plan(manager, ["c", "b", "a"])
    assert planned.compute == ("a", "b", "c")
    assert planned.reads == {"a": (), "b": ("a",), "c": ("b",)}
    assert set(planned.reasons.values()) == {Reason(kind="missing")}


def test_the_reasons(manager: Manager) -> None:
    manager.add("needed")
    manager.add("stored upstream")
    manager.add("missing", "needed", "stored upstream", "asked for, too")
    manager.add("asked for, too")
    manager.add("forced", "needed")
    manager.stored |= {"forced": 1, "stored upstream": 2}
    planned = plan(manager, ["missing", "asked for, too", "forced"], force=True)
    assert planned.reasons == {
        "needed": Reason(kind="needed", about="missing"),
        "missing": Reason(kind="missing"),
        "asked for, too": Reason(kind="missing"),
        "forced": Reason(kind="forced"),
    }
    assert planned.forced == {"forced"}
    assert planned.stored == ()


def test_without_force_what_is_stored_is_left(manager: Manager) -> None:
    manager.add("a")
    manager.add("b", "a")
    manager.stored["b"] = 1
    planned = plan(manager, ["b"])
    assert (planned.stored, planned.compute, planned.reads) == (("b",), (), {})
    assert planned.forced == frozenset()


def test_an_upstream_is_needed_through_several_others(manager: Manager) -> None:
    manager.add("a")
    manager.add("b", "a")
    manager.add("c", "b")
    planned = plan(manager, ["c"])
    assert planned.reasons["a"] == Reason(kind="needed", about="b")
    assert planned.reasons["b"] == Reason(kind="needed", about="c")


def test_a_name_given_twice_counts_once(manager: Manager) -> None:
    manager.add("a")
    manager.add("b")
    manager.stored["b"] = 1
    planned = plan(manager, ["a", "b", "a", "b"])
    assert (planned.stored, planned.compute) == (("b",), ("a",))


def test_the_names_known_to_be_stored_are_not_asked_for(manager: Manager) -> None:
    manager.add("a")
    manager.add("b")
    manager.stored["a"] = 1
    planned = plan(manager, ["a", "b"], stored={"b"})
    assert (planned.stored, planned.compute) == (("b",), ("a",))


def test_a_circle_is_an_error_before_anything_runs(manager: Manager) -> None:
    manager.add("a", "b")
    manager.add("b", "c")
    manager.add("c", "a")
    with pytest.raises(CircularMetricError) as caught:
        plan(manager, ["a"])
    assert caught.value.chain[0] == caught.value.chain[-1]
    assert set(caught.value.chain) == {"a", "b", "c"}


def test_a_metric_that_reads_itself(manager: Manager) -> None:
    manager.add("a", "a")
    with pytest.raises(CircularMetricError, match="a -> a"):
        plan(manager, ["a"])


def test_inputs_that_cannot_be_told_stop_no_plan(manager: Manager) -> None:
    error = lost(manager, "lost")
    manager.add("child", "lost")
    planned = plan(manager, ["child"])
    assert planned.compute == ("lost", "child")
    assert planned.unreadable == {"lost": error}


def test_an_empty_plan(manager: Manager) -> None:
    def never(names: Collection[str]) -> dict[str, Failed]:
        raise AssertionError("nothing is missing")

    manager.add("a")
    manager.stored["a"] = 1
    for names in ([], ["a"]):
        planned = plan(manager, names, failed=never)
        assert planned == Plan(
            stored=tuple(names), compute=(), reads={}, unreadable={}, reasons={}, skipped={}
        )


# --- plans: what failed before ---------------------------------------------------------------------------


def test_what_failed_before_is_not_planned(manager: Manager) -> None:
    manager.add("bad")
    manager.add("good")
    planned = plan(manager, ["bad", "good"], failed=failed_before("bad"))
    assert planned.compute == ("good",)
    assert list(planned.skipped) == ["bad"]
    assert set(planned.reasons) == {"good"}
    assert set(planned.reads) == {"bad", "good"}


def test_a_known_failure_is_tried_again_when_its_upstream_is_computed(manager: Manager) -> None:
    manager.add("up")
    manager.add("bad", "up")
    manager.add("below", "bad")
    planned = plan(manager, ["below"], failed=failed_before("bad", "below"))
    assert (planned.compute, planned.skipped) == (("up", "bad", "below"), {})


def test_a_known_failure_is_tried_again_when_its_upstream_is_forced(manager: Manager) -> None:
    manager.add("up")
    manager.add("bad", "up")
    ran(manager, "up")
    asked = failed_before("bad", when=datetime.now(UTC))
    assert set(plan(manager, ["up", "bad"], failed=asked).skipped) == {"bad"}
    planned = plan(manager, ["up", "bad"], force=True, failed=asked)
    assert (planned.compute, planned.skipped) == (("up", "bad"), {})


def test_a_known_failure_is_tried_again_when_its_upstream_was_computed_since(manager: Manager) -> None:
    manager.add("up")
    manager.add("bad", "up")
    ran(manager, "up")
    date = manager.dates["up"]
    later, earlier = date + timedelta(seconds=1), date - timedelta(seconds=1)
    assert set(plan(manager, ["bad"], failed=failed_before("bad", when=later)).skipped) == {"bad"}
    assert set(plan(manager, ["bad"], failed=failed_before("bad", when=date)).skipped) == {"bad"}
    assert plan(manager, ["bad"], failed=failed_before("bad", when=earlier)).compute == ("bad",)


def test_an_upstream_without_a_record_has_not_changed(manager: Manager) -> None:
    manager.add("up")
    manager.add("bad", "up")
    manager.cache["up"] = 1
    assert set(plan(manager, ["bad"], failed=failed_before("bad")).skipped) == {"bad"}


def test_a_known_failure_behind_another_is_skipped_too(manager: Manager) -> None:
    manager.add("bad")
    manager.add("worse", "bad")
    planned = plan(manager, ["worse"], failed=failed_before("bad", "worse"))
    assert (planned.compute, set(planned.skipped)) == ((), {"bad", "worse"})
    assert [noted.name for noted in planned.skipped.values()] == ["bad", "worse"]


def test_what_is_tried_again_but_reads_a_skipped_one_is_not_tried(manager: Manager) -> None:
    manager.add("bad")
    manager.add("fresh")
    manager.add("both", "fresh", "bad")
    planned = plan(manager, ["both"], failed=failed_before("bad", "both"))
    assert (planned.compute, set(planned.skipped)) == (("fresh",), {"bad", "both"})
    assert planned.skipped["both"].name == "bad"


def test_whatever_depends_on_a_skipped_one_is_skipped_in_the_run(manager: Manager) -> None:
    manager.add("bad")
    manager.add("child", "bad")
    manager.add("grandchild", "child")
    manager.add("both", "grandchild", "good")
    manager.add("good")
    planned = plan(manager, list(manager.functions_dict), failed=failed_before("bad"))
    assert {name: noted.name for name, noted in planned.skipped.items()} == dict.fromkeys(
        ("bad", "child", "grandchild", "both"), "bad"
    )
    assert planned.compute == ("good",)
    schedule = scheduled(manager, planned)
    found = {outcome.name: outcome for outcome in outcomes(manager, schedule)}
    assert schedule.left == 0
    assert ended(list(found.values())) == {
        "bad": "skipped",
        "child": "skipped",
        "grandchild": "skipped",
        "both": "skipped",
        "good": "computed",
    }
    error = found["bad"].error
    assert isinstance(error, FailedBeforeError)
    assert (error.name, error.kind, error.text, found["bad"].where) == ("bad", "ValueError", "no", "a.py:3")
    for name, upstream in {"child": "bad", "grandchild": "child", "both": "grandchild"}.items():
        assert (found[name].upstream, found[name].where) == (upstream, None)
        assert str(found[name].error) == str(error)
    assert manager.computed == ["good"]


# --- carried out by the calling thread -------------------------------------------------------------------


def test_what_is_read_and_missing_is_run_though_nobody_asked(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    manager.add("other")
    assert ended(ran(manager, "b")) == {"a": "computed", "b": "computed"}


def test_what_is_read_and_stored_is_not_reported(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    manager.stored["a"] = 1
    assert ended(ran(manager, "b")) == {"b": "computed"}
    assert manager.computed == ["b"]


def test_a_second_run_only_looks(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    ran(manager)
    manager.computed.clear()
    assert ended(ran(manager)) == {"a": "stored", "b": "stored"}
    assert manager.computed == []
    assert manager.cache == {}


def test_force_computes_what_was_asked_for_and_nothing_else(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    ran(manager)
    manager.computed.clear()
    assert ended(ran(manager, "b", force=True)) == {"b": "computed"}
    assert manager.computed == ["b"]


def test_force_of_both_computes_each_once(manager: Manager) -> None:
    manager.add("b", "a")
    manager.add("a")
    ran(manager)
    manager.computed.clear()
    ran(manager, force=True)
    assert manager.computed == ["a", "b"]


def test_what_another_process_has_stored_since_is_not_computed(manager: Manager) -> None:
    manager.add("a")
    planned = plan(manager, ["a"])
    manager.stored["a"] = 1
    assert ended(list(outcomes(manager, scheduled(manager, planned)))) == {"a": "stored"}
    assert manager.computed == []


def test_two_inputs_that_read_the_same_row(manager: Manager) -> None:
    manager.add("a")
    manager.add("b", "a", "a")
    assert ended(ran(manager)) == {"a": "computed", "b": "computed"}
    assert manager.cache == {}


def test_a_failure_stops_only_what_depends_on_it(manager: Manager) -> None:
    error = ValueError("no")
    manager.add("bad", errors=[error])
    manager.add("child", "bad")
    manager.add("grandchild", "child")
    manager.add("good")
    found = {outcome.name: outcome for outcome in ran(manager)}
    assert ended(list(found.values())) == {
        "bad": "failed",
        "child": "failed",
        "grandchild": "failed",
        "good": "computed",
    }
    assert (found["bad"].error, found["bad"].upstream) == (error, None)
    assert (found["child"].error, found["child"].upstream) == (error, "bad")
    assert (found["grandchild"].error, found["grandchild"].upstream) == (error, "child")
    assert manager.computed == ["good"]


@pytest.mark.parametrize("error", [SystemExit(0), asyncio.CancelledError(), GeneratorExit(), BaseException()])
def test_a_metric_that_would_end_the_process_ends_only_itself(manager: Manager, error: BaseException) -> None:
    manager.add("bad", errors=[error])
    manager.add("good")
    found = ran(manager)
    assert ended(found) == {"bad": "failed", "good": "computed"}
    assert found[0].error is error


def test_inputs_that_cannot_be_told_are_this_metrics_failure_and_its_readers(manager: Manager) -> None:
    error = lost(manager, "lost")
    manager.add("child", "lost")
    manager.add("grandchild", "child")
    manager.add("good")
    found = {outcome.name: outcome for outcome in ran(manager)}
    assert ended(list(found.values())) == {
        "lost": "failed",
        "child": "failed",
        "grandchild": "failed",
        "good": "computed",
    }
    assert {outcome.error for outcome in found.values()} == {error, None}
    assert found["grandchild"].upstream == "child"


def test_retries_are_counted(manager: Manager) -> None:
    errors = [ValueError(str(number)) for number in range(3)]
    manager.add("flaky", errors=errors)
    (outcome,) = ran(manager, retries={"flaky": 1})
    assert (outcome.status, outcome.tries, outcome.error) == ("failed", 2, errors[1])


def test_a_retry_that_succeeds(manager: Manager) -> None:
    class Once(Metric):
        def __call__(self) -> list[Any]:
            if not tried:
                tried.append(1)
                raise ValueError
            return []

    tried: list[int] = []
    manager.functions_dict["flaky"] = Once(manager, "flaky", ())
    manager.add("child", "flaky")
    found = ran(manager, retries={"flaky": 5})
    assert [(outcome.name, outcome.status, outcome.tries) for outcome in found] == [
        ("flaky", "computed", 2),
        ("child", "computed", 1),
    ]


def test_ctrl_c_stops_and_tells_of_what_its_batch_had_stored(manager: Manager) -> None:
    for number in range(20):  # of rows that are this quick, the first ten go together
        manager.add(f"a{number}", errors=[KeyboardInterrupt()] if number == 3 else ())
    schedule = scheduled(manager, plan(manager, manager.functions_dict), paces={"a": 1e-6})
    found = list(outcomes(manager, schedule))
    assert ended(found) == {"a0": "computed", "a1": "computed", "a2": "computed"}
    assert {outcome.seconds for outcome in found} == {SECONDS}, "from the records"
    assert (schedule.interrupted, schedule.left) == (True, 17)
    assert manager.computed == ["a0", "a1", "a2"]


# --- memory ----------------------------------------------------------------------------------------------


class Big:
    pass


def test_a_failure_keeps_none_of_its_locals_alive(manager: Manager) -> None:
    alive: list[weakref.ref[Big]] = []

    def inner() -> None:
        big = Big()
        alive.append(weakref.ref(big))
        raise KeyError("no")

    def from_another() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("no") from error

    def while_handling() -> None:
        try:
            inner()
        except KeyError:
            raise ValueError("no")  # noqa: B904 - what is tested

    def together() -> None:
        try:
            inner()
        except KeyError as error:
            raise ExceptionGroup("all", [error])  # noqa: B904 - no cause, a part

    functions = (inner, from_another, while_handling, together)
    for number, function in enumerate(functions):
        manager.functions_dict[f"bad{number}"] = function
    found = ran(manager)
    assert [outcome.status for outcome in found] == ["failed"] * len(functions)
    gc.collect()
    assert [ref() for ref in alive] == [None] * len(functions)


def test_an_exception_that_the_caller_handles_keeps_its_locals(manager: Manager) -> None:
    def outer() -> None:
        local = "of the caller"
        raise RuntimeError(local)

    manager.add("bad", errors=[ValueError()])
    try:
        outer()
    except RuntimeError as error:
        assert ran(manager)[0].status == "failed"
        trace = error.__traceback__
        assert trace is not None
        assert trace.tb_next is not None
        assert trace.tb_next.tb_frame.f_locals == {"local": "of the caller"}


@pytest.mark.parametrize("by_base", [False, True])
def test_values_do_not_stay_in_memory(manager: Manager, by_base: bool) -> None:
    manager.add("all")
    for number in range(20):
        manager.add(f"x{number}")
        manager.add(f"y{number}", f"x{number}", "all")
    names = sorted(manager.functions_dict) if by_base else list(manager.functions_dict)
    planned = plan(manager, names)
    # With a timeout each is a batch of its own: besides `all`, memory has one row and what it reads.
    list(outcomes(manager, scheduled(manager, planned, timeouts=dict.fromkeys(names, 60.0))))
    assert len(manager.computed) == 41
    assert manager.cache == {}
    assert manager.most_in_memory == 3


def test_a_batch_of_quick_rows_is_all_that_stays_in_memory(manager: Manager) -> None:
    for number in range(1000):
        manager.add(f"x{number}")
        manager.add(f"y{number}", f"x{number}")
    planned = plan(manager, sorted(manager.functions_dict))
    list(outcomes(manager, scheduled(manager, planned, paces={"x": 0.01, "y": 0.01})))
    assert manager.cache == {}
    assert manager.most_in_memory < 1000


def test_what_several_read_is_loaded_once(manager: Manager) -> None:
    manager.add("all")
    for number in range(20):
        manager.add(f"y{number}", "all")
    ran(manager)
    assert manager.loaded == ["all"]


def test_what_was_in_memory_before_stays(manager: Manager) -> None:
    manager.add("a")
    manager.add("b", "a")
    kept = manager.cache["a"] = manager.stored["a"] = [1]
    ran(manager)
    assert list(manager.cache) == ["a"]
    assert manager.cache["a"] is kept


def test_what_was_in_memory_before_and_is_computed_again_stays(manager: Manager) -> None:
    manager.add("a")
    manager.cache["a"] = manager.stored["a"] = "old"
    ran(manager, force=True)
    assert manager.cache == {"a": []}


def test_a_value_that_could_not_be_stored_is_not_lost(manager: Manager) -> None:
    def full() -> None:
        manager.cache["full"] = 1
        manager.unsaved.add("full")
        raise OSError("disk full")

    manager.functions_dict["full"] = full
    manager.add("good")
    ran(manager)
    assert manager.cache == {"full": 1}


def test_all_may_be_kept(manager: Manager) -> None:
    manager.add("a")
    manager.add("b", "a")
    list(outcomes(manager, scheduled(manager, plan(manager, ["b"]), keep_all=True)))
    assert sorted(manager.cache) == ["a", "b"]


# --- any graph -------------------------------------------------------------------------------------------


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


@given(graphs(), st.booleans())
def test_of_any_graph_all_is_stored_that_can_be(
    graph: tuple[dict[str, tuple[str, ...]], set[str], set[str]], known: bool
) -> None:
    reads, failing, stored = graph
    manager = Manager()
    for name, read in reads.items():
        manager.add(name, *read, errors=[ValueError(name)] if name in failing else ())
    manager.stored |= dict.fromkeys(stored)

    def fails(name: str) -> bool:
        return name not in stored and (name in failing or any(fails(read) for read in reads[name]))

    expected = {
        name: "stored" if name in stored else "failed" if fails(name) else "computed" for name in reads
    }
    schedule = scheduled(manager, plan(manager, reads), paces={"m": 1e-6} if known else {})
    found = list(outcomes(manager, schedule))
    assert ended(found) == expected
    assert len(found) == len(reads)
    assert len(manager.computed) == len(set(manager.computed))
    assert manager.cache == {}
    assert schedule.left == 0


@given(graphs())
def test_a_plan_of_any_graph(graph: tuple[dict[str, tuple[str, ...]], set[str], set[str]]) -> None:
    reads, known, stored = graph
    manager = Manager()
    for name, read in reads.items():
        manager.add(name, *read)
    manager.stored |= dict.fromkeys(stored)
    planned = plan(manager, reads, failed=failed_before(*known) if len(stored) < len(reads) else None)
    assert set(planned.stored) == stored
    assert set(planned.compute) | set(planned.skipped) == set(reads) - stored
    assert not set(planned.compute) & set(planned.skipped)
    assert {noted.name for noted in planned.skipped.values()} <= known
    assert set(planned.reads) == set(planned.compute) | set(planned.skipped)
    assert set(planned.reasons) == set(planned.compute)
    for index, name in enumerate(planned.compute):
        earlier = {*stored, *planned.compute[:index]}
        assert set(reads[name]) <= earlier
    for name, noted in planned.skipped.items():
        if noted.name == name:
            assert not set(reads[name]) & set(planned.compute)
        else:
            assert set(reads[name]) & set(planned.skipped)


# --- reports ---------------------------------------------------------------------------------------------


def test_a_report_sorts_by_how_things_ended() -> None:
    done = Outcome(name="a", status="computed", seconds=1.0)
    bad = Outcome(name="b", status="failed", error=ValueError())
    report = RunReport(outcomes=(done, bad), seconds=1.5)
    assert report.of("computed") == (done,)
    assert report.of("failed") == (bad,)
    assert report.of("stored") == ()
    assert report.counts() == {"computed": 1, "stored": 0, "failed": 1, "skipped": 0, "held": 0}


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (RunReport(outcomes=(), seconds=0.0), "<RunReport: nothing to do, 0 s>"),
        (
            RunReport(outcomes=(Outcome(name="a", status="stored"),) * 1200, seconds=0.0123),
            "<RunReport: 1,200 stored, 0.0123 s>",
        ),
        (
            RunReport(
                outcomes=(Outcome(name="a", status="failed"), Outcome(name="b", status="computed")),
                seconds=61,
                left=3,
            ),
            "<RunReport: 1 computed, 1 failed, 3 left, 61 s>",
        ),
    ],
)
def test_a_report_in_a_line(report: RunReport, text: str) -> None:
    assert repr(report) == text


# --- whose line it was -----------------------------------------------------------------------------------


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


def test_a_message_that_cannot_be_said() -> None:
    assert message(type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})()) == ""
    assert message(ValueError("a\nb")) == "a\nb"


def test_a_traceback_begins_where_the_users_code_does(manager: Manager) -> None:
    def bad() -> None:
        raise ValueError("no")

    error = caught(bad)
    text = user_traceback(error)
    assert text.startswith("Traceback")
    assert text.rstrip().endswith("ValueError: no")
