"""The schedule over workers that answer by a script: order, failures, deaths, batches, memory, stopping."""

from __future__ import annotations

import itertools
import math
import queue
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smm._engines import Answer
from smm._schedule import BATCH_SECONDS, Schedule
from smm._worker import Batch, UnfitError
from smm.errors import TimedOutError, WorkerDiedError
from smm.run import Outcome, plan
from tests.runnable import SECONDS, Manager, Metric, Pump, Scripted, outcomes, scheduled

# --- any graph, any order of answers, any deaths ---------------------------------------------------------


class Case:
    """A graph of metrics, which of them fail or kill their workers, and in what order answers come."""

    def __init__(self, draw: st.DrawFn) -> None:
        count = draw(st.integers(1, 9))
        names = [f"{draw(st.sampled_from('ab'))}{number}" for number in range(count)]
        self.reads = {
            name: tuple(draw(st.lists(st.sampled_from(names[:index]), max_size=3))) if index else ()
            for index, name in enumerate(names)
        }
        some = st.sampled_from(names)
        self.stored = draw(st.sets(some, max_size=2))
        self.failures = draw(st.dictionaries(some, st.integers(1, 3), max_size=3))
        """How often each fails before it succeeds."""
        self.retries = draw(st.dictionaries(some, st.integers(1, 2)))
        self.kills = draw(st.dictionaries(some, st.integers(1, 5), max_size=3))
        self.script = draw(st.lists(st.integers(0, 2000), max_size=20))
        self.workers = draw(st.integers(1, 4))
        self.apart = draw(st.booleans())
        self.paces = {"a": 1e-6} if draw(st.booleans()) else {}
        self.order = draw(st.permutations(names))
        self.manager = Manager()
        for name in self.order:
            self.manager.add(name, *self.reads[name])
            self.manager.functions_dict[name] = Failing(
                self.manager, name, self.reads[name], self.failures.get(name, 0)
            )
        self.manager.stored |= dict.fromkeys(self.stored)
        self.engine = Scripted(
            self.manager, self.workers, apart=self.apart, script=self.script, kills=self.kills
        )

    def schedule(self) -> Schedule:
        planned = plan(self.manager, self.order)
        return scheduled(self.manager, planned, self.engine, retries=self.retries, paces=self.paces)

    def __repr__(self) -> str:
        return repr({key: value for key, value in vars(self).items() if key not in ("manager", "engine")})


class Failing(Metric):
    """Fails a few times before it succeeds; its twins count with it."""

    def __init__(self, manager: Manager, name: str, reads: tuple[str, ...], failures: int) -> None:
        super().__init__(manager, name, reads)
        self.left = [ValueError(name)] * failures

    def __call__(self) -> list[Any]:
        value = super().__call__()
        if self.left:
            raise self.left.pop()
        return value


cases = st.composite(Case)()


@given(cases)
def test_every_row_ends_once_and_as_it_must(case: Case) -> None:
    schedule = case.schedule()
    found: dict[str, Outcome] = {}
    for outcome in outcomes(case.manager, schedule):
        assert outcome.name not in found, "a row ends once"
        found[outcome.name] = outcome
        case.engine.log.append(("ended", outcome.name))
    assert set(found) == set(case.reads)
    assert schedule.left == 0
    assert not schedule.interrupted
    for name, outcome in found.items():
        _check_end(case, name, outcome, found)
    computed = Counter(case.manager.computed)
    assert set(computed.values()) <= {1}, "each is computed once"
    assert set(computed) == {name for name, outcome in found.items() if outcome.status == "computed"}


def _check_end(case: Case, name: str, outcome: Outcome, found: dict[str, Outcome]) -> None:
    retries = case.retries.get(name, 0)
    deaths = case.engine.deaths_alone[name]
    bad = [read for read in case.reads[name] if found[read].status == "failed"]
    if name in case.stored:
        assert outcome.status == "stored"
    elif bad:
        assert (outcome.status, outcome.upstream, outcome.error) == ("failed", bad[0], found[bad[0]].error)
        assert ("begun", name) not in case.engine.log
    elif isinstance(outcome.error, WorkerDiedError):
        assert (outcome.status, outcome.error.name, outcome.upstream) == ("failed", name, None)
        assert (outcome.error.tries, outcome.tries) == (deaths, retries + 1)
        assert deaths >= 3
    elif outcome.error is not None:
        assert (outcome.status, str(outcome.error), outcome.upstream) == ("failed", name, None)
        assert outcome.tries == retries + 1
    else:
        assert outcome.status == "computed"
        assert outcome.tries <= retries + 1
        assert retries or deaths < 3
    # What a row raised is lost with a worker that dies before it has answered.
    if name in case.failures and case.engine.deaths == 0 and not bad and name not in case.stored:
        assert (outcome.status == "failed") == (case.failures[name] > retries)


@given(cases)
def test_nothing_begins_before_what_it_reads_has_ended(case: Case) -> None:
    for outcome in outcomes(case.manager, case.schedule()):
        case.engine.log.append(("ended", outcome.name))
    ended: set[str] = set()
    for what, name in case.engine.log:
        if what == "ended":
            ended.add(name)
        else:
            assert set(case.reads[name]) <= ended
            assert name not in ended


@given(cases)
def test_no_more_batches_are_under_way_than_workers(case: Case) -> None:
    list(outcomes(case.manager, case.schedule()))
    assert case.engine.most_flying <= case.workers


@given(cases)
def test_memory_holds_afterwards_what_it_held_before(case: Case) -> None:
    before = sorted(case.stored)[:1]
    case.manager.cache.update(dict.fromkeys(before))
    list(outcomes(case.manager, case.schedule()))
    assert sorted(case.manager.cache) == before


@given(cases)
def test_workers_apart_keep_what_others_read_too(case: Case) -> None:
    case.engine.apart = True
    for outcome in outcomes(case.manager, case.schedule()):
        case.engine.log.append(("ended", outcome.name))
    readers = Counter(read for reads in case.reads.values() for read in set(reads))
    for batch, memory in case.engine.kept:
        read = {read for task in batch.tasks for read in case.reads[task.name]}
        assert batch.keep <= read
        assert memory <= batch.keep, "what it computed goes"
    assert all(readers[name] > 1 for batch in case.engine.batches for name in batch.keep)
    assert case.manager.cache == {}


@given(cases, st.integers(0, 8))
def test_stop_begins_nothing_more(case: Case, after: int) -> None:
    schedule = case.schedule()
    found: list[Outcome] = []
    begun = -1
    if after == 0:
        schedule.stop()
        begun = 0
    for outcome in outcomes(case.manager, schedule):
        found.append(outcome)
        if len(found) == after:
            schedule.stop()
            begun = len(case.engine.batches)
    if begun >= 0:
        assert len(case.engine.batches) == begun
    names = [outcome.name for outcome in found]
    assert len(names) == len(set(names))
    assert len(names) + schedule.left == len(case.reads)
    assert (schedule.left == 0) or begun >= 0
    computed = {outcome.name for outcome in found if outcome.status == "computed"}
    assert computed == set(case.manager.computed) or begun >= 0
    assert computed <= set(case.manager.computed)
    assert not schedule.interrupted


@given(cases)
def test_what_a_later_run_finds(case: Case) -> None:
    first = {outcome.name: outcome.status for outcome in outcomes(case.manager, case.schedule())}
    case.failures.clear()
    for function in case.manager.functions_dict.values():
        assert isinstance(function, Failing)
        function.left.clear()
    case.engine = Scripted(case.manager, case.workers)
    second = {outcome.name: outcome.status for outcome in outcomes(case.manager, case.schedule())}
    assert second == {name: "computed" if first[name] == "failed" else "stored" for name in case.reads}


# --- deaths ----------------------------------------------------------------------------------------------


def many(count: int, *, base: str = "a") -> Manager:
    manager = Manager()
    for number in range(count):
        manager.add(f"{base}{number}")
    return manager


def run_over(manager: Manager, engine: Scripted, **options: Any) -> dict[str, Outcome]:
    schedule = scheduled(manager, plan(manager, manager.functions_dict), engine, **options)
    return {outcome.name: outcome for outcome in outcomes(manager, schedule)}


def test_the_rest_of_a_dead_workers_batch_is_tried_row_by_row() -> None:
    manager = many(8)
    # The first batch has half of the rows, and its worker dies before the last two.
    engine = Scripted(manager, 1, script=[7 * (2 + 3 * 2)])
    found = run_over(manager, engine, paces={"a": 1e-6})
    sizes = [[task.name for task in batch.tasks] for batch in engine.batches]
    assert sizes[:3] == [["a0", "a1", "a2", "a3"], ["a2"], ["a3"]]
    assert {outcome.status for outcome in found.values()} == {"computed"}
    assert len(manager.computed) == 8
    assert (found["a0"].seconds, found["a1"].seconds) == (SECONDS, SECONDS), "from the records"
    assert found["a2"].tries == 1


def test_a_row_that_kills_three_workers_has_failed() -> None:
    manager = many(3)
    engine = Scripted(manager, 1, kills={"a1": 99})
    manager.add("reader", "a1")
    found = run_over(manager, engine, paces={"a": 1e-6})
    error = found["a1"].error
    assert isinstance(error, WorkerDiedError)
    assert (error.name, error.tries) == ("a1", 3)
    assert engine.deaths_alone == {"a1": 3}
    assert {name: outcome.status for name, outcome in found.items()} == {
        "a0": "computed",
        "a1": "failed",
        "a2": "computed",
        "reader": "failed",
    }


@pytest.mark.parametrize("kills", [1, 2])
def test_a_row_that_kills_fewer_is_computed(kills: int) -> None:
    manager = many(3)
    found = run_over(manager, Scripted(manager, 1, kills={"a1": kills}))
    assert {outcome.status for outcome in found.values()} == {"computed"}


def test_a_row_that_kills_for_ever_ends_in_spite_of_its_retries() -> None:
    manager = many(1)
    engine = Scripted(manager, 1, kills={"a0": 99})
    outcome = run_over(manager, engine, retries={"a0": 2})["a0"]
    assert (outcome.status, outcome.tries, engine.deaths_alone["a0"]) == ("failed", 3, 5)
    assert isinstance(outcome.error, WorkerDiedError)


class Chosen(Scripted):
    """Ends each batch as the test says."""

    def __init__(self, manager: Manager, ends: Sequence[Any], **options: Any) -> None:
        super().__init__(manager, **options)
        self.ends = list(ends)

    def step(self) -> None:
        if not self.ends:
            super().step()
            return
        end = self.ends.pop(0)
        batch, answer = self._flying.pop(0)
        if isinstance(end, BaseException):
            answer.set_exception(end)
        else:
            end(batch, answer)


def test_what_another_process_stored_meanwhile_is_not_this_runs() -> None:
    manager = many(1)

    def stored_elsewhere(batch: Batch, answer: Answer) -> None:
        manager.stored["a0"] = 1
        manager.dates["a0"] = datetime.now(UTC) - timedelta(hours=1)
        answer.set_exception(BrokenExecutor())

    outcome = run_over(manager, Chosen(manager, [stored_elsewhere]))["a0"]
    assert (outcome.status, outcome.tries) == ("stored", 1)


def test_a_forced_row_counts_when_it_is_stored_anew() -> None:
    manager = many(1)
    run_over(manager, Scripted(manager))
    old = manager.dates["a0"] = manager.dates["a0"] - timedelta(hours=1)
    planned = plan(manager, ["a0"], force=True)
    engine = Chosen(manager, [BrokenExecutor()])
    (outcome,) = outcomes(manager, scheduled(manager, planned, engine))
    assert (outcome.status, len(engine.batches)) == ("computed", 2)
    assert manager.dates["a0"] > old
    assert manager.computed == ["a0", "a0"]


@pytest.mark.parametrize("kind", ["CommClosedError", "TerminatedWorkerError"])
def test_deaths_that_other_executors_tell_of(kind: str) -> None:
    manager = many(1)
    engine = Chosen(manager, [type(kind, (Exception,), {})()])
    assert run_over(manager, engine)["a0"].status == "computed"
    assert len(engine.batches) == 2


def test_a_death_that_dask_tells_of_stands_for_several() -> None:
    manager = many(20)
    kind = type("KilledWorker", (Exception,), {})
    engine = Chosen(manager, [kind(), kind()], workers=1)
    found = run_over(manager, engine, paces={"a": 1e-6})
    error = found.pop("a0").error
    assert isinstance(error, WorkerDiedError)
    assert {outcome.status for outcome in found.values()} == {"computed"}
    assert [len(batch.tasks) for batch in engine.batches[:2]] == [10, 1]


@pytest.mark.parametrize("error", [UnfitError("it has no such module"), CancelledError()])
def test_workers_that_cannot_work_end_the_run(error: BaseException) -> None:
    manager = many(3)
    with pytest.raises(BrokenExecutor) as caught:
        run_over(manager, Chosen(manager, [error]))
    assert caught.value.__cause__ is error


def test_an_answer_that_was_cancelled_ends_the_run() -> None:
    manager = many(3)
    with pytest.raises(BrokenExecutor):
        run_over(manager, Chosen(manager, [lambda batch, answer: answer.cancel()]))


def test_rows_that_may_have_killed_a_worker_are_named() -> None:
    manager = many(20)
    schedule = scheduled(
        manager,
        plan(manager, manager.functions_dict),
        Chosen(manager, [BrokenExecutor(), RuntimeError()], workers=2),
        paces={"a": 1e-6},
    )
    with pytest.raises(RuntimeError):
        list(outcomes(manager, schedule))
    assert schedule.suspects[:5] == ("a0", "a1", "a2", "a3", "a4")
    assert set(schedule.suspects) < set(manager.functions_dict)


def test_what_is_no_death_passes() -> None:
    manager = many(3)
    error = RuntimeError("the engine itself is broken")
    with pytest.raises(RuntimeError) as caught:
        run_over(manager, Chosen(manager, [error]))
    assert caught.value is error


def test_no_workers_any_more() -> None:
    class Lost(Scripted):
        def capacity(self) -> int:
            if self.batches:
                raise BrokenExecutor("none is left")
            return 1

    manager = many(3)
    with pytest.raises(BrokenExecutor, match="none is left"):
        run_over(manager, Lost(manager, kills={"a0": 1}))


def test_what_has_ended_is_given_before_the_loss_of_the_workers_is_told() -> None:
    class Lost(Scripted):
        def submit(self, batch: Batch) -> Answer:
            if self.batches:
                raise BrokenExecutor("it takes nothing any more")
            return super().submit(batch)

    manager = many(3)
    schedule = scheduled(manager, plan(manager, manager.functions_dict), Lost(manager, 1))
    given = outcomes(manager, schedule)
    assert next(given).name == "a0"
    with pytest.raises(BrokenExecutor, match="nothing any more"):
        next(given)


def test_a_keyboard_interrupt_from_a_worker_ends_the_run() -> None:
    manager = many(40)
    manager.add("b")

    def interrupt(batch: Batch, answer: Answer) -> None:
        for task in batch.tasks[:3]:
            manager.bring(task.name)
        answer.set_exception(KeyboardInterrupt())

    engine = Chosen(manager, [interrupt], workers=2)
    schedule = scheduled(manager, plan(manager, manager.functions_dict), engine, paces={"a": 1e-6})
    found = list(outcomes(manager, schedule))
    assert schedule.interrupted
    assert len(engine.batches) == 2, "nothing more was begun, and the other worker was waited for"
    assert [outcome.name for outcome in found] == manager.computed
    assert len(found) == 3 + len(engine.batches[1].tasks)
    assert schedule.left == 41 - len(found)


# --- retries ---------------------------------------------------------------------------------------------


def test_a_row_is_not_retried_once_the_run_stops() -> None:
    manager = many(1)
    manager.functions_dict["a0"] = Failing(manager, "a0", (), 5)
    engine = Scripted(manager)
    schedule = scheduled(manager, plan(manager, ["a0"]), engine, retries={"a0": 9})

    class Stopping(Pump):
        def get(self, timeout: float | None = None) -> Answer | None:
            schedule._stopping = True
            return super().get(timeout)

    schedule._events = Stopping(engine)  # type: ignore[assignment]
    (outcome,) = outcomes(manager, schedule)
    assert (outcome.status, outcome.tries) == ("failed", 1)


def test_seconds_of_all_tries_together() -> None:
    manager = many(1)

    def end(status: Any, seconds: float) -> Any:
        error = ValueError() if status == "failed" else None
        return lambda batch, answer: answer.set_result(
            [Outcome(name="a0", status=status, seconds=seconds, error=error, worker="w")]
        )

    engine = Chosen(manager, [end("failed", 1.0), end("failed", 2.0), end("computed", 4.0)])
    schedule = scheduled(manager, plan(manager, ["a0"]), engine, retries={"a0": 2})
    (outcome,) = outcomes(manager, schedule)
    assert (outcome.status, outcome.tries, outcome.seconds, outcome.error) == ("computed", 3, 7.0, None)
    assert schedule.paces.seconds("a0") == 4.0, "what failed says nothing of what a row takes"


# --- timeouts --------------------------------------------------------------------------------------------


class Clock:
    """In place of the module `time` of the schedule; it goes on when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Patient(Pump):
    """Lets time pass up to the last deadline, before the engine answers anything."""

    def __init__(self, engine: Scripted, clock: Clock, schedule: Schedule) -> None:
        super().__init__(engine)
        self._clock = clock
        self._schedule = schedule

    def get(self, timeout: float | None = None) -> Answer | None:
        if self._events or not self._schedule._deadlines:
            return super().get(timeout)
        assert timeout is not None
        self._clock.now += timeout
        raise queue.Empty


class Killable(Scripted):
    """Workers that can be killed, some of which store their row with their last breath."""

    def __init__(self, manager: Manager, *, stores: bool = False, can_be_killed: bool = True) -> None:
        super().__init__(manager, workers=2)
        self.stores = stores
        self.can_be_killed = can_be_killed
        self.killed: list[str] = []

    def kill(self, answer: Answer) -> bool:
        if self.can_be_killed:
            (batch,) = [batch for batch, flying in self._flying if flying is answer]
            self._flying.remove((batch, answer))
            self.killed += [task.name for task in batch.tasks]
            if self.stores:
                self._manager.bring(batch.tasks[0].name)
            answer.set_exception(BrokenExecutor())
        return self.can_be_killed


def timed(
    manager: Manager, engine: Scripted, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[dict[str, Outcome], Clock]:
    """Run rows of which `a0` has a timeout of a minute."""
    clock = Clock()
    monkeypatch.setattr("smm._schedule.time", clock)
    planned = plan(manager, manager.functions_dict)
    schedule = scheduled(manager, planned, engine, timeouts={"a0": 60.0}, **options)
    schedule._events = Patient(engine, clock, schedule)  # type: ignore[assignment]
    return {outcome.name: outcome for outcome in outcomes(manager, schedule)}, clock


def test_a_row_whose_time_is_up_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = many(2)
    manager.add("reader", "a0")
    engine = Killable(manager)
    found, clock = timed(manager, engine, monkeypatch)
    assert engine.killed == ["a0"]
    assert clock.now == 1060.0
    error = found["a0"].error
    assert isinstance(error, TimedOutError)
    assert (error.name, error.seconds, found["a0"].seconds, found["a0"].tries) == ("a0", 60.0, 60.0, 1)
    assert (found["a1"].status, found["reader"].upstream) == ("computed", "a0")


def test_a_row_whose_time_is_up_has_its_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = many(1)
    engine = Killable(manager)
    found, clock = timed(manager, engine, monkeypatch, retries={"a0": 2})
    assert engine.killed == ["a0", "a0", "a0"]
    assert (clock.now, found["a0"].tries, found["a0"].seconds) == (1180.0, 3, 180.0)
    assert isinstance(found["a0"].error, TimedOutError)


def test_a_row_that_was_stored_before_its_worker_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = many(1)
    found, _ = timed(manager, Killable(manager, stores=True), monkeypatch)
    assert (found["a0"].status, found["a0"].error) == ("computed", None)


def test_workers_that_keep_the_time_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = many(1)
    found, clock = timed(manager, Killable(manager, can_be_killed=False), monkeypatch)
    assert clock.now >= 1060.0
    assert found["a0"].status == "computed", "what the worker says counts, however late"


def test_a_death_in_time_is_a_death(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = many(1)
    clock = Clock()
    monkeypatch.setattr("smm._schedule.time", clock)
    engine = Chosen(manager, [BrokenExecutor()])
    schedule = scheduled(manager, plan(manager, ["a0"]), engine, timeouts={"a0": 60.0})
    (outcome,) = outcomes(manager, schedule)
    assert (outcome.status, len(engine.batches)) == ("computed", 2)


# --- batches ---------------------------------------------------------------------------------------------


class Quick(Scripted):
    """Computes nothing, and says that each row took so long."""

    def __init__(self, manager: Manager, workers: int, seconds: float, *, first: float = math.inf) -> None:
        super().__init__(manager, workers)
        self.seconds = seconds
        self.at_most = first

    def step(self) -> None:
        batch, answer = self._flying.pop(0)
        # As `work` does: what takes longer than was thought comes back.
        ended = batch.tasks[: max(1, math.ceil(0.5 / self.seconds))]
        answer.set_result(
            [Outcome(name=task.name, status="computed", seconds=self.seconds, worker="w") for task in ended]
        )


def sizes(engine: Scripted) -> list[int]:
    return [len(batch.tasks) for batch in engine.batches]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_ten_thousand_quick_rows_make_few_batches(workers: int) -> None:
    manager = many(10_000)
    engine = Quick(manager, workers, 20e-6)
    assert len(run_over(manager, engine, paces={"a": 20e-6})) == 10_000
    assert sum(sizes(engine)) == 10_000
    assert len(engine.batches) < 20 + 25 * workers
    assert max(sizes(engine)) <= 1000


def test_a_batch_takes_about_a_tenth_of_a_second() -> None:
    manager = many(3000)
    engine = Quick(manager, 2, 1e-3)
    run_over(manager, engine, paces={"a": 1e-3})
    assert max(sizes(engine)) in (99, 100, 101)
    assert len(engine.batches) < 60


def test_slow_rows_go_alone() -> None:
    manager = many(50)
    engine = Quick(manager, 2, BATCH_SECONDS)
    run_over(manager, engine, paces={"a": BATCH_SECONDS})
    assert set(sizes(engine)) == {1}


def test_rows_of_which_nothing_is_known_go_alone_at_first() -> None:
    manager = many(5000)
    engine = Quick(manager, 4, 1e-5)
    run_over(manager, engine)
    assert sizes(engine)[:4] == [1, 1, 1, 1]
    assert sizes(engine)[4] > 100, "one has told"
    assert len(engine.batches) < 120


def test_what_is_not_known_does_not_join_what_is() -> None:
    manager = many(100)
    for number in range(100):
        manager.add(f"b{number}")
    engine = Quick(manager, 1, 1e-5)
    run_over(manager, engine, paces={"a": 1e-5})
    first_b = next(batch for batch in engine.batches if any(task.name[0] == "b" for task in batch.tasks))
    assert len(first_b.tasks) == 1


def test_a_row_with_a_timeout_goes_alone() -> None:
    manager = many(100)
    engine = Quick(manager, 1, 1e-5)
    engine.kill = lambda answer: False  # type: ignore[method-assign]
    run_over(manager, engine, paces={"a": 1e-5}, timeouts={"a3": 600.0, "a40": 600.0})
    for name in ("a3", "a40"):
        (batch,) = [batch for batch in engine.batches if any(task.name == name for task in batch.tasks)]
        assert len(batch.tasks) == 1


@pytest.mark.parametrize("rows", [1, 4, 7, 8, 100])
def test_all_workers_have_work(rows: int) -> None:
    manager = many(rows)
    engine = Quick(manager, 4, 1e-5)
    run_over(manager, engine, paces={"a": 1e-5})
    assert engine.most_flying == min(rows, 4)
    assert max(sizes(engine)) <= math.ceil(rows / 8)


def test_what_comes_back_unbegun_is_given_out_again() -> None:
    manager = many(200)
    engine = Quick(manager, 2, 0.1)  # a hundred times what is recorded
    assert len(run_over(manager, engine, paces={"a": 1e-3})) == 200
    assert sizes(engine)[0] > 5
    assert set(sizes(engine)[10:]) == {1}, "it has learnt"


def test_what_comes_first_in_the_plan_goes_first() -> None:
    manager = Manager()
    for number in range(6):
        manager.add(f"x{number}")
        manager.add(f"y{number}", f"x{number}")
    engine = Quick(manager, 1, 1.0)
    run_over(manager, engine)
    begun = [name for what, name in engine.log if what == "begun"]
    assert begun == list(manager.functions_dict), "a value is read soon after it was made"


def test_each_batch_says_how_loud_it_is_and_what_to_keep() -> None:
    manager = Manager()
    manager.add("all")
    for number in range(3):
        manager.add(f"x{number}")
        manager.add(f"y{number}", f"x{number}", "all")
    engine = Scripted(manager, 1, apart=True)
    planned = plan(manager, manager.functions_dict)
    schedule = scheduled(manager, planned, engine)
    list(outcomes(manager, schedule))
    keep = {task.name: batch.keep for batch in engine.batches for task in batch.tasks}
    assert keep == {
        "all": frozenset(),
        "x0": frozenset(),
        "x1": frozenset(),
        "x2": frozenset(),
        "y0": {"all"},
        "y1": {"all"},
        "y2": frozenset(),
    }
    assert not any(batch.verbose for batch in engine.batches)


def test_workers_that_share_memory_are_told_to_keep_nothing() -> None:
    manager = Manager()
    manager.add("all")
    manager.add("y0", "all")
    manager.add("y1", "all")
    engine = Scripted(manager, 1)
    run_over(manager, engine)
    assert {batch.keep for batch in engine.batches} == {frozenset()}


# --- looks at the workers --------------------------------------------------------------------------------


class Silent(Scripted):
    """A worker that answers nothing, and notes when it is looked at."""

    def __init__(self, manager: Manager, clock: Clock) -> None:
        super().__init__(manager, 1)
        self._clock = clock
        self.looks: list[float] = []

    def look(self) -> None:
        self.looks.append(self._clock.now)
        if self._clock.now >= 1010:
            raise BrokenExecutor("it is gone")


@pytest.mark.parametrize("timeouts", [{}, {"a0": 0.0}, {"a0": 3.0}])
@pytest.mark.parametrize("others", [False, True])
def test_workers_are_looked_at_every_second_while_they_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, timeouts: dict[str, float], others: bool
) -> None:
    """Also while other answers keep coming, and while an answer of a killed worker does not come."""
    clock = Clock()
    monkeypatch.setattr("smm._schedule.time", clock)
    manager = many(1)
    engine = Silent(manager, clock)
    schedule = scheduled(manager, plan(manager, ["a0"]), engine, timeouts=timeouts)
    monkeypatch.setattr(engine, "kill", lambda answer: True)

    class Passing(Pump):
        def get(self, timeout: float | None = None) -> Answer | None:
            assert timeout is not None
            clock.now += 0.01 if others else timeout
            if others:
                return None
            raise queue.Empty

    schedule._events = Passing(engine)  # type: ignore[assignment]
    with pytest.raises(BrokenExecutor, match="it is gone"):
        list(outcomes(manager, schedule))
    assert max(b - a for a, b in itertools.pairwise([1000.0, *engine.looks])) <= 1
    assert len(engine.looks) < 30, "no more often than it takes"


# --- events that come late -------------------------------------------------------------------------------


def test_an_engine_that_can_take_more_is_asked_again() -> None:
    class Growing(Scripted):
        def capacity(self) -> int:
            return self.workers

    manager = many(3)
    engine = Growing(manager, 0)
    schedule = scheduled(manager, plan(manager, manager.functions_dict), engine)

    class Late(Pump):
        def get(self, timeout: float | None = None) -> Answer | None:
            if not engine.workers:
                engine.workers = 1  # a worker took the place of one that died
                schedule.changed()
            return super().get(timeout)

    schedule._events = Late(engine)  # type: ignore[assignment]
    assert len(list(outcomes(manager, schedule))) == 3


def test_an_answer_that_nobody_waits_for_is_passed_over() -> None:
    manager = many(1)
    engine = Scripted(manager)
    schedule = scheduled(manager, plan(manager, ["a0"]), engine)
    stray: Answer = Future()
    stray.set_exception(RuntimeError())
    schedule._events.put(stray)
    assert [outcome.status for outcome in outcomes(manager, schedule)] == ["computed"]
