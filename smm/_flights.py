"""In this process, one computation of a metric at a time, and no metric that waits for itself.

Who computes a metric enters its flight; who wants the same metric meanwhile waits until that flight has
ended. A flight knows the flight it was entered from, so a wait that could never end is seen before it
begins and raised as CircularMetricError.

The flight that a piece of code runs in is a context variable: nested calls see it, and so do threads that
were started with a copy of the context, and forked processes. Of a thread without one nobody knows whose it
is. It may work for each flight that was there when the thread began; a flight notes which threads were there
before it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import IO, Any, Protocol, Self, TypeAlias

from smm import _warm
from smm.errors import CircularMetricError

Key: TypeAlias = tuple[Hashable, str]
"""What is computed: a space (whatever keeps two metrics of one name apart) and a metric name."""

_SAY_AFTER_SECONDS = 5.0
_LOOK_EVERY_SECONDS = 1.0
"""How often a waiter makes sure that whom it waits for is still there."""
_OF_PARENT_PROCESS = 0
"""Stands for the thread in flights that a forked child inherits; no thread's id."""

# Bare locks on purpose, here and for each flight's gate: entering and leaving `with lock` is C code that an
# interrupt cannot cut in two. Condition and Event are Python, and Ctrl-C inside them can leave them locked.
# Reentrant, because a signal handler or a finalizer may ask for a metric at any point.
_mutex = threading.RLock()
"""Guards `_flying` and the waiters of each flight. Held for lookups only."""
_flying: dict[Key, Flight] = _warm.in_flight
_begun = 0
"""How many flights there have been."""
_current: ContextVar[Flight | None] = ContextVar("smm_flight", default=None)


class Lock(Protocol):
    """What a flight may hold besides itself."""

    def release(self) -> None:
        """Give it back; nothing happens if that is done already."""

    def is_held(self) -> bool:
        """In a forked child: whether the process it was forked from still has it."""


class Flight:
    """One computation, made by `enter`, which says how to use it.

    Enter it with a `with` statement of a plain function (no ExitStack, no generator): a flight lasts as
    long as the frame of that statement, and whoever waits checks that the frame is still running.
    """

    def __init__(self, key: Key, name: str, tell: Callable[[str], None] | None) -> None:
        self.key = key
        self.name = name
        self.parent: Flight | None = None
        """The flight whose function asked for this one."""
        self.previous: BaseException | None = None
        """The last `failure` among the flights this one waited for in turn; None for none."""
        self._may_be_in_circle = False  # as far as a long wait has shown
        self.failure: BaseException | None = None
        """Set inside the block: what those who wait for this flight should hear of."""
        self.reads: dict[Hashable, Any] = {}
        """What its function has read, by whatever tells two of them apart; for whoever notes it."""
        self.reads_unseen: str | None = None
        """A clause that says why `reads` may lack some; None if all were seen."""
        self.lock: Lock | None = None
        """The folder lock it holds; released at the end of the flight at the latest."""
        self._tell = tell
        self._leader: Flight | None = None  # whom this one waited for last
        self._waiters: set[Flight] = set()
        self._gate = threading.Lock()  # locked while in flight
        self._thread = threading.get_ident()
        self._threads_before: list[threading.Thread] = []
        self._children: IO[bytes] | None = None  # where forked processes write what they read
        self._frame: FrameType | None = None

    def __enter__(self) -> Self:
        """Wait until no other flight has this key, then begin."""
        self.parent = _current.get()
        while self.parent is not None and self.parent._is_over():
            self.parent = self.parent.parent
        self._frame = sys._getframe(1)
        try:
            if (leader := self._begin()) is not None:
                self._wait(leader)
            _current.set(self)
            return self
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the flight; those who wait for it go on."""
        self._end()
        _current.set(self.parent)

    # --- reads ------------------------------------------------------------------------------------------

    def note_read(self, key: Hashable, read: Any, text: str) -> None:
        """Note what the function has read, first come first noted.

        Args:
            key: what tells two reads apart.
            read: what is noted.
            text: the same as one line, by which a forked process tells its parent.
        """
        self.reads.setdefault(key, read)
        if self._children is not None and self._thread == _OF_PARENT_PROCESS:
            os.write(self._children.fileno(), f"{text}\n".encode())

    def read_by_children(self) -> list[str]:
        """Return the lines of what forked processes have read so far."""
        if self._children is None:
            return []
        self._children.seek(0)
        return self._children.read().decode().splitlines()

    def share_reads(self) -> None:
        """Let processes that are forked from now on tell what they read."""
        if self._children is None:
            import tempfile  # most metrics fork nothing

            try:
                self._children = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115 - `_end` closes it
            except OSError as error:
                self.reads_unseen = f"its child processes could not tell what they read: {error}"

    def may_own(self, thread: threading.Thread) -> bool:
        """Return whether a thread began while this was in flight, so that it may work for it."""
        return (
            self._thread not in (_OF_PARENT_PROCESS, thread.ident)
            and thread not in self._threads_before
            and not self._is_over()
        )

    def shared_failure(self) -> BaseException | None:
        """Return what the computations that this one waited for have raised; None for nothing.

        Of another thread's Ctrl-C it hears only where the two may have waited for each other.
        """
        is_heard = isinstance(self.previous, Exception) or self._may_be_in_circle
        return self.previous if is_heard else None

    def dependents(self) -> list[Flight]:
        """This flight and every flight of this process that cannot go on before it has ended."""
        with _mutex:
            return list(_dependents(self))

    def _begin(self) -> Flight | None:
        """Take the key, or return who has it, now with this flight among those who wait."""
        global _begun
        with _mutex:
            leader = _flying.get(self.key)
            if leader is not None and leader._is_over():
                leader = None
            if self._leader is not None and self._leader is not leader:
                # One that had waited too, and passed on what it heard of, has no failure of its own.
                if self._leader.failure is not None:
                    self.previous = self._leader.failure
                self._leader._waiters.discard(self)
                self._leader = None
            if leader is not None:
                _refuse_circle(leader, self)
                self._leader = leader
                leader._waiters.add(self)
                return leader
            self._gate.acquire(blocking=False)
            self._threads_before = threading.enumerate()
            _flying[self.key] = self  # before the count: who has read the new one sees this, too
            _begun += 1
            return None

    def _wait(self, leader: Flight | None) -> None:
        started = time.monotonic()
        tell = self._tell
        while leader is not None:
            if leader._gate.acquire(timeout=_LOOK_EVERY_SECONDS):
                leader._gate.release()
            elif tell is not None and time.monotonic() - started >= _SAY_AFTER_SECONDS:
                chain = _possible_circle(leader)
                self._may_be_in_circle = bool(chain)
                tell(_waiting_for(leader, chain))
                tell = None
            leader = self._begin()

    def _end(self) -> None:
        """Undo whatever `__enter__` got to; nothing happens a second time."""
        if self.lock is not None:
            self.lock.release()
        with _mutex:
            if self._leader is not None:
                self._leader._waiters.discard(self)
            if not self._waiters:
                self.failure = None  # which would only keep its traceback, and so this flight, alive
            if _flying.get(self.key) is self:
                del _flying[self.key]
                self._gate.release()
        self._frame = None
        if self._children is not None and self._thread != _OF_PARENT_PROCESS:
            self._children.close()

    def _is_over(self) -> bool:
        """Whether its `with` block was left, be it without `__exit__`.

        That happens: Python may raise KeyboardInterrupt before the first line of any function. The frame
        that holds the `with` statement is then no longer on its thread's stack. Of a flight in the process
        this one was forked from, only the lock can tell.
        """
        if self._thread == _OF_PARENT_PROCESS:
            return self.lock is None or not self.lock.is_held()
        frame = None if self._frame is None else sys._current_frames().get(self._thread)
        while frame is not None:
            if frame is self._frame:
                return False
            frame = frame.f_back
        return True


def enter(key: Key, name: str, *, waiting: Callable[[str], None] | None = None) -> Flight:
    """Be the only one in this process that computes `key`, for the length of a `with` block.

    The flight begins with the block, after waiting until nobody else is computing `key`, and ends with it,
    however it is left. Whoever computes sets `flight.failure` to what went wrong; who waited finds it in
    `flight.previous`, and can raise the same error, or look for the value again.

    Args:
        key: What is computed.
        name: The metric, as messages call it.
        waiting: Called once, with a sentence, when another thread has been waited for longer than 5 s.

    Raises:
        CircularMetricError: (on entering the block) the wait would never end, because whoever computes
            `key` waits, directly or not, for the flight this was called from.
    """
    return Flight(key, name, waiting)


def current() -> Flight | None:
    """The innermost flight this code runs in; None outside of any."""
    return _current.get()


def readers() -> list[Flight]:
    """Return the flights that the code this is called from may read for.

    The innermost one that the code runs in; without one, all that were in flight when this thread began.
    """
    current = _current.get()
    if current is not None:
        return [current]
    thread = threading.current_thread()
    with _mutex:
        flying = list(_flying.values())
    return [flight for flight in flying if flight.may_own(thread)]


def _waiting_for(leader: Flight, chain: list[str]) -> str:
    """Say what this thread waits for, and if it may be that nobody ever goes on."""
    said = f"Wait for {leader.name}: another thread is working on it"
    if not chain:
        return said
    return (
        f"{said}, and may wait for this one in turn: {' -> '.join(chain)}. If these metrics wait for each "
        "other through threads that they started, nobody goes on; Ctrl-C ends it"
    )


def _possible_circle(leader: Flight) -> list[str]:
    """Return the metrics from `leader` through threads that they may have started back to it; empty for none.

    In a circle all threads wait. One that computes has not started this thread in order to wait for it.
    """
    frames, threads = sys._current_frames(), {thread.ident: thread for thread in threading.enumerate()}
    with _mutex:
        flying = [flight for flight in _flying.values() if not flight._is_over()]
    waiting_ones = [flight for flight in flying if _is_waiting(frames.get(flight._thread))]
    outer: dict[Flight, Flight | None] = {}
    steps: list[tuple[Flight | None, Flight | None]] = [(None, None)]
    while steps:
        here, inner = steps.pop()  # the flight that began last comes first: it is the likeliest
        if here is not None:
            if here in outer:
                continue
            outer[here] = inner
        thread = threading.current_thread() if here is None else threads.get(here._thread)
        if here is not None and here.parent is not None:
            steps.append((here.parent, here))
        elif thread is not None:
            steps += [(flight, here) for flight in waiting_ones if flight.may_own(thread)]
    if leader not in outer:
        return []
    chain = [leader.name]
    step = outer[leader]
    while step is not None:
        chain.append(step.name)
        step = outer[step]
    return [*chain, leader.name]


def _is_waiting(frame: FrameType | None) -> bool:
    """Return whether a thread waits for other threads, for processes or for a flight, by where it stands."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module == __name__ or module.partition(".")[0] in ("concurrent", "multiprocessing", "subprocess"):
            return True
        if module != "threading" or frame.f_code.co_qualname == "Thread.join":
            return module == "threading"
        frame = frame.f_back  # a condition, which may be one of a future
    return False


def calm() -> int | None:
    """A mark of this moment, for `still_calm`; None while anything is in flight."""
    begun = _begun  # first: a flight that begins now is either seen here or seen later
    return None if _flying else begun


def beginnings() -> threading.RLock:
    """While this is held, no other thread begins a flight."""
    return _mutex


def still_calm(mark: int) -> bool:
    """Whether no flight has begun since; to be asked with `beginnings()` held."""
    return mark == _begun


def refuse_circle(key: Key, name: str) -> None:
    """Raise if the code this is called from runs to compute `key`, whose old value it is about to read.

    Raises:
        CircularMetricError: it does.
    """
    flight = _current.get()
    chain = [name]
    while flight is not None:
        chain.append(flight.name)
        if flight.key == key and not flight._is_over():
            raise CircularMetricError(chain=tuple(reversed(chain)))
        flight = flight.parent


def _dependents(flight: Flight) -> dict[Flight, Flight | None]:
    """Everyone who cannot go on before `flight` has ended, each with whom it waits for. Needs `_mutex`.

    A flight waits for those entered from it, and for those that these wait for in other threads.
    """
    found: dict[Flight, Flight | None] = {flight: None}
    todo = [flight]
    for reached in todo:
        blocked = [*reached._waiters] if reached.parent is None else [reached.parent, *reached._waiters]
        for other in blocked:
            if other not in found:
                found[other] = reached
                todo.append(other)
    return found


def _refuse_circle(leader: Flight, flight: Flight) -> None:
    """Raise if `leader` cannot end before `flight`, which is about to wait for it. Needs `_mutex`."""
    waits_for = _dependents(flight)
    if leader not in waits_for:
        return
    chain = []
    step: Flight | None = leader
    while step is not None:
        # One that has not begun stands for its wish alone; the flight it waits for has the same name.
        if step._leader is None or step is flight:
            chain.append(step.name)
        step = waits_for[step]
    raise CircularMetricError(chain=tuple(chain))


def _keep_own_flights() -> None:
    """After a fork, in the child: the other threads are gone, and their flights with them.

    Those that the forking code runs in stay for as long as the parent holds their locks: it may wait for this
    child. (A child may outlive them too, as the worker of a pool that a metric made.)
    """
    global _mutex
    _mutex = threading.RLock()  # a thread that is gone may have held it
    _flying.clear()
    flight = _current.get()
    while flight is not None:
        flight._waiters.clear()
        flight._thread = _OF_PARENT_PROCESS
        _flying[flight.key] = flight
        flight = flight.parent


def _share_reads() -> None:
    """Before a fork: the child shall tell what it reads for the metric that is being computed here."""
    flight = _current.get()
    if flight is not None:
        flight.share_reads()


os.register_at_fork(before=_share_reads, after_in_child=_keep_own_flights)
