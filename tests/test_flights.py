from __future__ import annotations

import contextvars
import gc
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from smm import _flights
from smm._flights import current, enter, refuse_circle
from smm.errors import CircularMetricError

PATIENCE = 20.0
"""Seconds after which a test that would hang fails instead."""


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_flights, "_LOOK_EVERY_SECONDS", 0.01)
    yield
    assert current() is None
    assert not _flights._flying


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def key(name: str) -> _flights.Key:
    return ("space", name)


class Signal(threading.Event):
    """An event whose wait fails rather than hangs."""

    def await_(self) -> None:
        assert self.wait(PATIENCE)


def waits_for(flight_of: str) -> None:
    """Return when somebody waits for the flight of this name."""
    done = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        flight = _flights._flying.get(key(flight_of))
        if flight is not None and flight._waiters:
            return
        done.wait(0.005)
    raise AssertionError(f"nobody waits for {flight_of}")


class Lock:
    """Stands for a folder lock."""

    released = 0
    held_by_parent = True

    def release(self) -> None:
        self.released += 1

    def is_held(self) -> bool:
        return self.held_by_parent


# --- alone ----------------------------------------------------------------------------------------------


def test_a_flight_begins_and_ends_with_its_block() -> None:
    with enter(key("a"), "a") as flight:
        assert current() is flight
        assert flight.previous is None
        assert flight.parent is None
    assert current() is None


def test_flights_know_the_flight_they_were_entered_from() -> None:
    with enter(key("a"), "a") as outer, enter(key("b"), "b") as inner:
        assert inner.parent is outer
        assert inner.dependents() == [inner, outer]
        assert outer.dependents() == [outer]


def test_an_exception_ends_the_flight() -> None:
    with pytest.raises(ZeroDivisionError), enter(key("a"), "a"):
        raise ZeroDivisionError
    with enter(key("a"), "a") as flight:
        assert flight.previous is None  # nobody waited; the failure is history


def test_one_name_in_two_spaces_is_two_metrics() -> None:
    with enter(("one", "a"), "a"), enter(("two", "a"), "a") as flight:
        assert flight.parent is not None


def test_nothing_of_a_failed_flight_is_kept_alive() -> None:
    class Big:
        pass

    gone: list[weakref.ref[Big]] = []

    def fail() -> None:
        big = Big()
        gone.append(weakref.ref(big))
        with enter(key("a"), "a") as flight:
            try:
                raise ZeroDivisionError
            except ZeroDivisionError as error:
                flight.failure = error
                raise

    gc.disable()  # no cycle either: a big array would stay until the collector comes
    try:
        with suppress(ZeroDivisionError):
            fail()
        assert gone[0]() is None
    finally:
        gc.enable()


def test_a_lock_is_given_back_at_the_end_at_the_latest() -> None:
    lock = Lock()
    with enter(key("a"), "a") as flight:
        flight.lock = lock
    assert lock.released == 1


# --- among threads --------------------------------------------------------------------------------------


def test_threads_take_turns(pool: ThreadPoolExecutor) -> None:
    began, finish = Signal(), Signal()

    def lead() -> None:
        with enter(key("a"), "a"):
            began.set()
            finish.await_()

    def follow() -> BaseException | None:
        with enter(key("a"), "a") as flight:
            return flight.previous

    leader = pool.submit(lead)
    began.await_()
    follower = pool.submit(follow)
    waits_for("a")
    assert not follower.done()
    finish.set()
    leader.result(PATIENCE)
    assert follower.result(PATIENCE) is None


def test_all_who_waited_get_the_same_failure(pool: ThreadPoolExecutor) -> None:
    began, finish = Signal(), Signal()
    error = ZeroDivisionError("once")

    def lead() -> None:
        with enter(key("a"), "a") as flight:
            began.set()
            finish.await_()
            flight.failure = error
            raise error

    def follow() -> None:
        with enter(key("a"), "a") as flight:
            if flight.previous is not None:
                raise flight.previous

    leader = pool.submit(lead)
    began.await_()
    followers = [pool.submit(follow) for _ in range(5)]
    while len(_flights._flying[key("a")]._waiters) < 5:
        waits_for("a")
    finish.set()
    for future in [leader, *followers]:
        assert future.exception(PATIENCE) is error


def test_different_metrics_fly_at_the_same_time(pool: ThreadPoolExecutor) -> None:
    together = threading.Barrier(4, timeout=PATIENCE)

    def fly(name: str) -> None:
        with enter(key(name), name):
            together.wait()

    for future in [pool.submit(fly, name) for name in "abcd"]:
        future.result(PATIENCE)


def test_at_most_one_is_in_flight_however_many_ask(pool: ThreadPoolExecutor) -> None:
    flying: list[int] = []
    most: list[int] = []

    def fly() -> None:
        for _ in range(50):
            with enter(key("a"), "a"):
                flying.append(1)
                most.append(len(flying))
                flying.pop()

    for future in [pool.submit(fly) for _ in range(8)]:
        future.result(PATIENCE)
    assert len(most) == 400
    assert set(most) == {1}


def test_a_long_wait_is_told_once(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_flights, "_SAY_AFTER_SECONDS", 0.0)
    told: list[str] = []
    began, finish, heard = Signal(), Signal(), Signal()

    def lead() -> None:
        with enter(key("a"), "a"):
            began.set()
            finish.await_()

    def hear(text: str) -> None:
        told.append(text)
        heard.set()

    def follow() -> None:
        with enter(key("a"), "a", waiting=hear):
            pass

    leader = pool.submit(lead)
    began.await_()
    follower = pool.submit(follow)
    heard.await_()
    finish.set()
    leader.result(PATIENCE)
    follower.result(PATIENCE)
    assert told == ["Wait for a: another thread is working on it"]


def test_a_waiter_that_gives_up_leaves_no_trace(pool: ThreadPoolExecutor) -> None:
    began, finish = Signal(), Signal()
    leader_flight: list[_flights.Flight] = []

    def lead() -> None:
        with enter(key("a"), "a") as flight:
            leader_flight.append(flight)
            began.set()
            finish.await_()

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    leader = pool.submit(lead)
    began.await_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_flights, "_SAY_AFTER_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt), enter(key("a"), "a", waiting=interrupt):
            pass
    assert not leader_flight[0]._waiters
    finish.set()
    leader.result(PATIENCE)


# --- circles --------------------------------------------------------------------------------------------


def test_a_metric_that_reads_itself() -> None:
    with (
        enter(key("a"), "a"),
        pytest.raises(CircularMetricError, match=r"^a -> a: a metric cannot read itself"),
        enter(key("a"), "a"),
    ):
        pass


def test_a_chain_back_to_a_metric_above() -> None:
    with enter(key("top"), "top"), enter(key("a"), "a"), enter(key("b"), "b"), enter(key("c"), "c") as inner:
        with pytest.raises(CircularMetricError) as caught, enter(key("a"), "a"):
            pass
        assert caught.value.chain == ("a", "b", "c", "a")
        assert current() is inner


def test_reading_an_old_value_of_what_is_computed_is_a_circle_too() -> None:
    refuse_circle(key("a"), "a")
    with enter(key("a"), "a"), enter(key("b"), "b"):
        refuse_circle(key("c"), "c")
        with pytest.raises(CircularMetricError, match=r"^a -> b -> a: "):
            refuse_circle(key("a"), "a")
    refuse_circle(key("a"), "a")


def read_in_turn(
    pool: ThreadPoolExecutor, chains: dict[str, list[str]], together: int
) -> dict[str, Future[None]]:
    """Each thread flies its chain's first name; when all do, it enters the others one inside the other."""
    barrier = threading.Barrier(together, timeout=PATIENCE)

    def down(names: list[str]) -> None:
        if not names:
            return
        with enter(key(names[0]), names[0]) as flight:
            if flight.previous is not None:
                raise flight.previous
            if flight.parent is None:
                barrier.wait()
            try:
                down(names[1:])
            except CircularMetricError as error:
                flight.failure = error
                raise

    return {name: pool.submit(down, names) for name, names in chains.items()}


def test_two_threads_that_wait_for_each_other(pool: ThreadPoolExecutor) -> None:
    futures = read_in_turn(pool, {"1": ["a", "b"], "2": ["b", "a"]}, 2)
    for future in futures.values():
        error = future.exception(PATIENCE)
        assert isinstance(error, CircularMetricError)
        assert tuple(error.chain) in {("a", "b", "a"), ("b", "a", "b")}


def test_three_threads_in_a_circle_with_detours(pool: ThreadPoolExecutor) -> None:
    futures = read_in_turn(pool, {"1": ["a", "x", "b"], "2": ["b", "y", "c"], "3": ["c", "z", "a"]}, 3)
    circle = ["a", "x", "b", "y", "c", "z"]
    for future in futures.values():
        error = future.exception(PATIENCE)
        assert isinstance(error, CircularMetricError)
        start = circle.index(error.chain[0])
        assert list(error.chain) == [*circle[start:], *circle[:start], circle[start]]


def test_a_diamond_is_no_circle(pool: ThreadPoolExecutor) -> None:
    futures = read_in_turn(pool, {"1": ["a", "c"], "2": ["b", "c"], "3": ["d", "b", "c"]}, 3)
    for future in futures.values():
        assert future.exception(PATIENCE) is None


def test_a_thread_with_a_copied_context_belongs_to_the_flight(pool: ThreadPoolExecutor) -> None:
    def again() -> None:
        with enter(key("a"), "a"):
            pass

    with enter(key("a"), "a"):
        future = pool.submit(contextvars.copy_context().run, again)
        assert isinstance(future.exception(PATIENCE), CircularMetricError)


def test_dependents_reach_over_threads(pool: ThreadPoolExecutor) -> None:
    began, finish = Signal(), Signal()

    def lead() -> list[str]:
        with enter(key("b"), "b") as flight, enter(key("c"), "c") as inner:
            assert flight.parent is None
            began.set()
            finish.await_()
            return [other.name for other in inner.dependents() if other._leader is None]

    def wait() -> None:
        with enter(key("a"), "a"), enter(key("b"), "b"):
            pass

    leader = pool.submit(lead)
    began.await_()
    waiter = pool.submit(wait)
    waits_for("b")
    finish.set()
    assert leader.result(PATIENCE) == ["c", "b", "a"]
    waiter.result(PATIENCE)


# --- interrupts -----------------------------------------------------------------------------------------


class Interrupt:
    """Raise KeyboardInterrupt at the n-th place in `_flights` where Python may do so.

    That is on entering a Python function and on return from a C function; between the other steps of a
    straight piece of code the interpreter looks at no signal.
    """

    def __init__(self, place: int) -> None:
        self.left = place

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event in {"call", "c_return"} and frame.f_code.co_filename == _flights.__file__:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def during(self, scene: Callable[[], None]) -> bool:
        """Whether the scene was interrupted; False when it has fewer places."""
        sys.setprofile(self)
        try:
            scene()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        return self.left <= 0


def fly_anew(pool: ThreadPoolExecutor) -> None:
    def fly() -> None:
        with enter(key("a"), "a"):
            pass

    pool.submit(fly).result(PATIENCE)
    fly()


def alone() -> None:
    with enter(key("a"), "a"):
        pass


def test_an_interrupt_anywhere_leaves_the_metric_free(pool: ThreadPoolExecutor) -> None:
    place = 1
    while Interrupt(place).during(alone):
        fly_anew(pool)
        place += 1
    assert place > 10


def test_after_an_interrupt_the_same_thread_can_ask_again() -> None:
    # On entering __exit__, before its first line: nothing of it has run.
    def scene() -> None:
        with enter(key("a"), "a"):
            armed.append(1)

    def on_exit(frame: FrameType, event: str, _: Any) -> None:
        if armed and event == "call" and frame.f_code.co_name == "__exit__":
            raise KeyboardInterrupt

    armed: list[int] = []
    sys.setprofile(on_exit)
    try:
        with pytest.raises(KeyboardInterrupt) as kept:  # with its traceback, as a notebook keeps it
            scene()
    finally:
        sys.setprofile(None)
    alone()
    del kept


def test_an_interrupted_wait_leaves_the_metric_free(pool: ThreadPoolExecutor) -> None:
    place = 1
    while True:
        began, finish = Signal(), Signal()

        def lead(began: Signal = began, finish: Signal = finish) -> None:
            with enter(key("a"), "a"):
                began.set()
                finish.await_()

        def wait(finish: Signal = finish) -> None:
            with enter(key("a"), "a", waiting=lambda _: finish.set()):
                pass

        leader = pool.submit(lead)
        began.await_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_flights, "_SAY_AFTER_SECONDS", 0.0)
            interrupted = Interrupt(place).during(wait)
        finish.set()
        leader.result(PATIENCE)
        fly_anew(pool)
        if not interrupted:
            break
        place += 1
    assert place > 15


# --- fork -----------------------------------------------------------------------------------------------


def in_child(check: Callable[[], None]) -> int:
    """The exit status of a forked child that runs `check`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what this is about
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_keeps_the_flights_it_is_in_and_no_other() -> None:
    began, finish = Signal(), Signal()

    def elsewhere() -> None:
        with enter(key("other"), "other"):
            began.set()
            finish.await_()

    def check() -> None:
        with enter(key("other"), "other") as flight:  # its thread does not exist here
            assert flight.previous is None
        with pytest.raises(CircularMetricError, match="a -> b -> a"), enter(key("a"), "a"):
            pass
        # As the worker of a pool that outlives the metric it was made in:
        lock.held_by_parent = False
        with enter(key("a"), "a") as flight:
            assert flight.parent is None

    thread = threading.Thread(target=elsewhere)
    thread.start()
    began.await_()
    lock = Lock()
    with enter(key("a"), "a") as outer, enter(key("b"), "b") as inner:
        outer.lock = inner.lock = lock
        status = in_child(check)
    finish.set()
    thread.join(PATIENCE)
    assert status == 0
