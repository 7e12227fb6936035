"""The way to chaos of the logistic map x -> r x (1 - x), collected with the decorator.

The functions say what is computed and stand here; which values of r are wanted stands in metrics.yaml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import smm

CM = smm.from_config(Path(__file__).with_name("metrics.yaml"))


@CM.collect
def orbit(r: float, steps: int = 20_000) -> NDArray[np.float64]:
    """The orbit of x = 0.4 at parameter r, once 1,000 steps have let it settle; shape (steps,)."""
    x = 0.4
    values = np.empty(steps)
    for step in range(-1_000, steps):
        x = r * x * (1 - x)
        if step >= 0:
            values[step] = x
    return values


@CM.collect
def lyapunov_exponent(r: float) -> float:
    """Rate at which neighbouring orbits part, per step: below 0 in a cycle, above in chaos, ln 2 at r = 4."""
    return float(np.log(np.abs(r * (1 - 2 * CM.orbit(r)))).mean())


@CM.collect
def periods() -> dict[str, Any]:
    """Length of the cycle at each r that orbits were asked for; 0 where there is none up to 64."""
    r = np.array(CM.orbit.params_list)
    return {"r": r, "period": np.array([_period(CM.orbit(value)) for value in r])}


def _period(values: NDArray[np.float64]) -> int:
    last = values[-1]
    returns = np.abs(values[-65:-1][::-1] - last) < 1e-6
    return int(returns.argmax()) + 1 if returns.any() else 0
