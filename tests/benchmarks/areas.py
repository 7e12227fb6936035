"""All areas, in the order of the report."""

from __future__ import annotations

from tests.benchmarks import cold, declare, look, start, store, sweep, warm
from tests.benchmarks.measure import Area

AREAS: dict[str, Area] = {
    module.AREA.name: module.AREA for module in (warm, cold, store, sweep, look, declare, start)
}
