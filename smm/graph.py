"""Which metric reads which: order, and cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from smm.errors import CircularMetricError

if TYPE_CHECKING:
    import attrs
else:
    from smm import _attrs as attrs


@attrs.frozen(kw_only=True)
class Node:
    """A metric, or one row of it: how many of its rows are in which state."""

    name: str
    fresh: int = 0
    stale: int = 0
    missing: int = 0
    failed: int = 0
    """Missing, and an earlier run failed at them."""


@attrs.frozen(kw_only=True)
class Edge:
    """One metric reads another."""

    reader: str
    read: str
    declared: bool = False
    """By an input of its declaration."""
    observed: bool = False
    """While a value that is stored was computed."""


@attrs.frozen(kw_only=True)
class Graph:
    """What reads what."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    """The nodes they name need not be there: a metric may have read what is gone now."""


def upstream_first(inputs: Mapping[str, Iterable[str]]) -> list[str]:
    """Order metrics so that each comes after everything it reads.

    Args:
        inputs: For each metric name, the names it reads directly.

    Returns:
        Every name mentioned, once, in the order given: what a metric reads and has not come yet comes just
        before it. So a declared metric that reads others in its code, unseen here, still follows those
        declared above it, and a value is needed again soon after it was made.

    Raises:
        CircularMetricError: a metric would need its own value; `chain` is one such circle, `a, b, a` for
            an `a` that reads `b` that reads `a`.
    """
    reads = {name: tuple(upstream) for name, upstream in inputs.items()}
    if not any(reads.values()):
        return list(reads)
    import graphlib

    try:
        graphlib.TopologicalSorter(reads).prepare()
    except graphlib.CycleError as error:
        # graphlib lists a circle from upstream to downstream; a chain reads the other way.
        raise CircularMetricError(chain=tuple(reversed(error.args[1]))) from None
    order: dict[str, None] = {}
    for name in reads:
        todo = [name]
        while todo:
            missing = [upstream for upstream in reads.get(todo[-1], ()) if upstream not in order]
            if missing:
                todo.extend(reversed(missing))
            else:
                order[todo.pop()] = None
    return list(order)
