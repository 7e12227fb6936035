"""Warm hits: what is in memory already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smm.errors import UndeclaredParamsError
from tests.benchmarks import arrays, ours, peers, work
from tests.benchmarks.measure import Area, Contestant, Goal, Race, Room, Sample, loop

ROWS = [(a, b) for a in range(1, 11) for b in range(1, 11)]


def _plain(room: Room) -> Sample:
    made = ours.manager(room.folder())
    made.collect(base_name="f")(work.one)
    made.f()
    return loop(room, "CM.f()", CM=made)


def _with_params(statement: str) -> Callable[[Room], Sample]:
    def make(room: Room) -> Sample:
        made = ours.collected(room.folder(), work.product, ROWS)
        made.f.get_all()
        for other in (1.0, True, "1"):
            _check_refused(made, other)
        return loop(room, statement, CM=made, a=1, b=2, name="f_1_2")

    return make


def _check_refused(made: Any, other: object) -> None:
    """What equals a param without being one, or looks like it, is not taken for it, however fast it goes."""
    try:
        made.f(other, 2)
    except UndeclaredParamsError:
        return
    raise AssertionError(f"{other!r} is served for 1")


def _array(room: Room) -> Sample:
    made = ours.collected(room.folder(), arrays.array_8kb, range(10), "npz")
    made.f(1)
    return loop(room, "CM.f(1)", CM=made)


def _in_a_metric(room: Room) -> Sample:
    """The same call by a metric that is being computed, whose record notes what it reads."""
    made = ours.collected(room.folder(), work.product, ROWS)
    made.f.get_all()

    @made.collect(base_name="reader")
    def reader() -> float:
        return loop(room, "CM.f(a, b)", CM=made, a=1, b=2)()

    return lambda: float(made.reader(use_stored=False))


def _dict(statement: str) -> Callable[[Room], Sample]:
    def make(room: Room) -> Sample:
        by_name = {f"f_{a}_{b}": work.product(a, b) for a, b in ROWS} | {"f": 1.5}
        by_params = {(a, b): work.product(a, b) for a, b in ROWS}
        return loop(room, statement, by_name=by_name, by_params=by_params, a=1, b=2, name="f_1_2")

    return make


def _joblib(room: Room) -> Sample:
    cached = peers.memory(room).cache(work.product)
    cached(1, 2)
    return loop(room, "f(a, b)", f=cached, a=1, b=2)


def _diskcache(room: Room) -> Sample:
    cache = peers.cache(room)
    cache[1, 2] = work.product(1, 2)
    return loop(room, "cache[a, b]", cache=cache, a=1, b=2)


def _cachier(room: Room) -> Sample:
    cached = peers.cached_by_cachier(room, work.product)
    cached(1, 2)
    return loop(room, "f(a, b)", f=cached, a=1, b=2)


PLAIN = Contestant(name="CM.f()", make=_plain)
CALL = Contestant(name="CM.f(1, 2)", make=_with_params("CM.f(a, b)"))
BY_NAME = Contestant(name='CM["f_1_2"]', make=_with_params("CM[name]"))
ARRAY = Contestant(name="CM.f(1), an array", make=_array)
IN_A_METRIC = Contestant(name="CM.f(1, 2) in a metric", make=_in_a_metric)
DICT_PLAIN = Contestant(name='dict["f"]', make=_dict("by_name['f']"))
DICT_CALL = Contestant(name="dict[(1, 2)]", make=_dict("by_params[(a, b)]"))
DICT_NAME = Contestant(name='dict["f_1_2"]', make=_dict("by_name[name]"))
JOBLIB = Contestant(name="joblib.Memory", make=_joblib, why_not=peers.needs("joblib"))
DISKCACHE = Contestant(name="diskcache", make=_diskcache, why_not=peers.needs("diskcache"))
CACHIER = Contestant(name="cachier", make=_cachier, why_not=peers.needs("cachier"))

AREA = Area(
    name="warm",
    title="Warm hits",
    says=(
        "A float that is in memory already, served over and over in a loop timed as `timeit` does it, and "
        'told from `1.0`, `True` and `"1"` all the while. The peers have no memory of their own, and go '
        "to the disk."
    ),
    races=(
        Race(
            rounds=25,
            goals=(
                Goal(text="without params", smm=PLAIN, reference=DICT_PLAIN, limit=5),
                Goal(text="two params", smm=CALL, reference=DICT_CALL, limit=2.5),
                Goal(text="by name", smm=BY_NAME, reference=DICT_NAME, limit=6),
                Goal(text="two params, read by a metric", smm=IN_A_METRIC, reference=DICT_CALL),
                Goal(text="an array of 8 KB", smm=ARRAY, reference=DICT_PLAIN),
                Goal(text="two params", smm=CALL, reference=DISKCACHE),
                Goal(text="two params", smm=CALL, reference=JOBLIB),
                Goal(text="two params", smm=CALL, reference=CACHIER),
            ),
        ),
    ),
)
