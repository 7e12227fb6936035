"""A manager of nothing but dicts, and an engine that answers by a script, for tests of what a run decides."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from datetime import UTC, datetime
from typing import Any

from smm._engines import Answer, Engine, Inline, Pack
from smm._hidden_frames import HiddenFrames
from smm._pace import Pace, Paces
from smm._schedule import Schedule
from smm._worker import Batch, Job, Task, compute, shared
from smm.errors import MetricNotStoredError
from smm.metric import Record
from smm.run import Outcome, Plan, plan

SECONDS = 0.25
"""What a record says that a row took."""


class Metric:
    """A function of `functions_dict` that reads others, which must be stored by then."""

    def __init__(self, manager: Manager, name: str, reads: tuple[str, ...]) -> None:
        self.manager = manager
        self.name = name
        self.given = reads

    def reads(self) -> tuple[str, ...]:
        return self.given

    def __call__(self) -> list[Any]:
        values = [self.manager.load(name) for name in self.given]
        errors = self.manager.errors.get(self.name)
        if errors:
            raise errors.popleft() if len(errors) > 1 else errors[0]
        return values


class Manager:
    """Keeps, loads and counts. `stored` is its disk, which a twin shares; memory it does not."""

    verbose = False
    _place = "a dict"

    def __init__(self, disk: Manager | None = None) -> None:
        self.functions_dict: dict[str, Callable[[], Any]] = {}
        self.cache: MutableMapping[str, Any] = {}
        self.stored: dict[str, Any] = disk.stored if disk else {}
        self.dates: dict[str, datetime] = disk.dates if disk else {}
        self.computed: list[str] = disk.computed if disk else []
        self.errors: dict[str, deque[BaseException]] = disk.errors if disk else {}
        self.loaded: list[str] = []
        self.unsaved: set[str] = set()
        self.hidden_frames = HiddenFrames()
        self.most_in_memory = 0

    def add(self, name: str, *reads: str, errors: Sequence[BaseException] = ()) -> None:
        """Declare a metric that raises these one after another, the last of them for ever."""
        self.functions_dict[name] = Metric(self, name, reads)
        if errors:
            self.errors[name] = deque(errors)

    def twin(self) -> Manager:
        """The same in another process."""
        twin = Manager(self)
        for name, function in self.functions_dict.items():
            other = copy.copy(function)
            if isinstance(other, Metric):
                other.manager = twin
            twin.functions_dict[name] = other
        return twin

    def exists(self, name: str) -> bool:
        return name in self.cache or name in self.stored

    def load(self, name: str) -> Any:
        if name not in self.cache:
            self.loaded.append(name)
            self._remember(name, self.stored[name])
        return self.cache[name]

    def bring(self, name: str, use_stored: bool = True, *, verbose: bool | None = None) -> bool:
        if use_stored and name in self.stored:
            return False
        value = self.functions_dict[name]()
        self.computed.append(name)
        self.dates[name] = datetime.now(UTC)
        self.stored[name] = value
        self._remember(name, value)
        return True

    def record(self, name: str) -> Record:
        if name not in self.dates:
            raise MetricNotStoredError(name=name, where="a dict")
        return Record(name=name, date=self.dates[name], duration_seconds=SECONDS)

    def _release(self, is_wanted: Callable[[str], bool]) -> None:
        for name in list(self.cache):
            if not is_wanted(name) and name not in self.unsaved:
                del self.cache[name]

    def _warm_up(self, names: Iterable[str]) -> None:
        """Nothing here takes longer the first time."""

    def _add_row(self, base_name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        raise AssertionError("no row here was added by a call")

    def _remember(self, name: str, value: Any) -> None:
        self.cache[name] = value
        self.most_in_memory = max(self.most_in_memory, len(self.cache))


# --- engines ---------------------------------------------------------------------------------------------


class Scripted:
    """Workers that answer when the schedule waits for one, in an order and with an end that a script says.

    Each number of the script ends one batch that is under way. It says which of them, and how far its worker
    gets: as far as the end, only a part of it, or into a death after some rows. Without a script, batches
    are answered whole in the order of their submission.

    Args:
        manager: the one whose metrics are run; workers apart have twins.
        workers: how many.
        apart: whether they share its memory.
        script: numbers of any size.
        kills: how often each of these rows ends its worker's process before it is stored.
    """

    name = "scripted"

    def __init__(
        self,
        manager: Manager,
        workers: int = 2,
        *,
        apart: bool = False,
        script: Sequence[int] = (),
        kills: Mapping[str, int] | None = None,
    ) -> None:
        self.workers = workers
        self.apart = apart
        self.log: list[tuple[str, str]] = []
        """`("begun", name)`, in order; the test may add others."""
        self.batches: list[Batch] = []
        self.most_flying = 0
        self.kept: list[tuple[Batch, set[str]]] = []
        """For each answered batch, what its worker has in memory afterwards."""
        self.deaths = 0
        self.deaths_alone: Counter[str] = Counter()
        """How often a worker died over each row while it had no other, and had not stored it."""
        self._script = deque(script)
        self._kills = Counter(kills or {})
        self._manager = manager
        self._flying: list[tuple[Batch, Answer]] = []

    def open(
        self, job: Job, tasks: Sequence[Task], pack: Pack, place: str, changed: Callable[[], None]
    ) -> None:
        raise AssertionError("the schedule opens nothing")

    def capacity(self) -> int:
        return self.workers

    def submit(self, batch: Batch) -> Answer:
        answer: Answer = Future()
        self._flying.append((batch, answer))
        self.most_flying = max(self.most_flying, len(self._flying))
        assert len(self._flying) <= self.workers
        self.batches.append(batch)
        self.log += [("begun", task.name) for task in batch.tasks]
        return answer

    def look(self) -> None:
        """They live."""

    def kill(self, answer: Answer) -> bool:
        return False

    def close(self, *, at_once: bool) -> None:
        raise AssertionError("the schedule closes nothing")

    def step(self) -> None:
        """End one batch."""
        number = self._script.popleft() if self._script else 0
        batch, answer = self._flying.pop(number % len(self._flying))
        number //= 7
        reached = len(batch.tasks) - (number // 3) % (len(batch.tasks) + 1)
        how = ("whole", "partial", "death")[number % 3]
        worker = self._manager.twin() if self.apart else self._manager
        outcomes: list[Outcome] = []
        if how == "whole":
            reached = len(batch.tasks)
        elif how == "partial":
            reached = max(reached, 1)
        for task in batch.tasks[:reached]:
            if self._kills[task.name] > 0:
                self._kills[task.name] -= 1
                how = "death"
                break
            outcomes.append(compute(worker, task))
        if how == "death":
            self.deaths += 1
            if len(batch.tasks) == 1 and batch.tasks[0].name not in self._manager.stored:
                self.deaths_alone[batch.tasks[0].name] += 1
            answer.set_exception(BrokenExecutor("a scripted death"))
            return
        if self.apart:
            worker._release(batch.keep.__contains__)
            self.kept.append((batch, set(worker.cache)))
        answer.set_result(outcomes)


class Pump:
    """The schedule's queue: whoever waits at it while it is empty has the engine end a batch."""

    def __init__(self, engine: Scripted) -> None:
        self._engine = engine
        self._events: deque[Answer | None] = deque()

    def put(self, event: Answer | None) -> None:
        self._events.append(event)

    def get(self, timeout: float | None = None) -> Answer | None:
        while not self._events:
            self._engine.step()
        return self._events.popleft()


# --- a run -----------------------------------------------------------------------------------------------


def scheduled(
    manager: Manager,
    planned: Plan,
    engine: Engine | None = None,
    *,
    retries: Mapping[str, int] | None = None,
    paces: Mapping[str, float] | None = None,
    timeouts: Mapping[str, float] | None = None,
    keep_all: bool = False,
) -> Schedule:
    """A schedule for a plan, with the calling thread as its only worker unless an engine is given.

    Args:
        manager: whose metrics are run.
        planned: what there is to do.
        engine: opened.
        retries: by metric name.
        paces: seconds of a row by base name, which is what stands before the first digit of a name.
        timeouts: seconds by metric name.
        keep_all: leave values in memory.
    """
    known = {base: Pace(seconds=seconds) for base, seconds in (paces or {}).items()}
    forced = planned.forced
    tasks = {
        name: Task(name=name, use_stored=name not in forced, timeout_seconds=(timeouts or {}).get(name))
        for name in planned.compute
    }
    schedule = Schedule(
        manager,
        planned,
        tasks,
        lambda name: (retries or {}).get(name, 0),
        engine or inline(),
        Paces(lambda name: name.rstrip("0123456789"), known),
        keep_all=keep_all,
    )
    if isinstance(engine, Scripted):
        schedule._events = Pump(engine)  # type: ignore[assignment]
    return schedule


def inline() -> Inline:
    """The calling thread as an engine, for whichever manager `outcomes` shares."""
    engine = Inline()
    engine.open(Job(token="here"), (), lambda _: b"", "", lambda: None)
    return engine


def outcomes(manager: Manager, schedule: Schedule) -> Iterator[Outcome]:
    """What the schedule gives, while workers of this process find the manager."""
    with shared("here", manager):
        yield from schedule.outcomes()


def ran(
    manager: Manager,
    *names: str,
    force: bool = False,
    retries: Mapping[str, int] | None = None,
    stored: Collection[str] | None = None,
) -> list[Outcome]:
    """Run metrics in the calling thread, all that are declared by default."""
    planned = plan(manager, names or tuple(manager.functions_dict), force=force, stored=stored)
    return list(outcomes(manager, scheduled(manager, planned, retries=retries)))
