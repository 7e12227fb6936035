"""Which metric reads which: order, and cycles."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping

from smm.errors import CircularMetricError


def upstream_first(inputs: Mapping[str, Iterable[str]]) -> list[str]:
    """Order metrics so that each comes after everything it reads.

    Args:
        inputs: For each metric name, the names it reads directly.

    Returns:
        Every name mentioned, once. Metrics that do not depend on each other keep, level by level, the
        order in which they were given.

    Raises:
        CircularMetricError: a metric would need its own value; `chain` is one such circle, `a, b, a` for
            an `a` that reads `b` that reads `a`.
    """
    sorter = graphlib.TopologicalSorter(inputs)
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        # graphlib lists a circle from upstream to downstream; a chain reads the other way.
        raise CircularMetricError(chain=tuple(reversed(error.args[1]))) from None
