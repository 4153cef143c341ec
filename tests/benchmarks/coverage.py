"""How often the 95% intervals of every metric hold the truth: ``python -m tests.benchmarks.coverage [DRAWS]`` prints a line per stream and n.

The truth is the metric of half a million rows of the same stream. A metric is left out at an n at which it says nothing of some draws.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow as pa

from checks.performance import METRICS
from checks.performance.counts import QualityCounts
from monitor.profiling.quality import Asked, count_labels


def even(n: int, random: np.random.Generator) -> tuple[str, Any, Any]:
    """A binary model that is somewhat off, both labels about as frequent."""
    signal = random.normal(size=n)
    return "binary", 1 / (1 + np.exp(-1.2 * signal)), random.random(n) < 1 / (1 + np.exp(0.2 - signal))


def rare(n: int, random: np.random.Generator) -> tuple[str, Any, Any]:
    """A calibrated binary model, about one label in twelve positive."""
    score = 1 / (1 + np.exp(3.5 - 1.5 * random.normal(size=n)))
    return "binary", score, random.random(n) < score


def normal(n: int, random: np.random.Generator) -> tuple[str, Any, Any]:
    """A regression with normal errors."""
    predicted = random.normal(100, 10, n)
    return "regression", predicted, predicted + random.normal(0.2, 1.5, n)


def heavy(n: int, random: np.random.Generator) -> tuple[str, Any, Any]:
    """A regression with log-normal errors."""
    predicted = random.normal(100, 10, n)
    return "regression", predicted, predicted + random.lognormal(0.0, 1.2, n)


STREAMS = (even, rare, normal, heavy)


def counts(task: str, predicted: Any, label: Any) -> QualityCounts:
    """The counts of one draw."""
    ids = np.arange(len(label))
    asked = Asked(task, "id", "id", "label", prediction=None if task == "binary" else "p", score="p" if task == "binary" else None)
    return count_labels(pa.table({"id": ids, "p": predicted}), pa.table({"id": ids, "label": label}), asked).slices["ALL"]


def main() -> None:
    """Print every stream's coverage."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for stream in STREAMS:
        random = np.random.default_rng(21)
        task = stream(1, random)[0]
        kinds = [k for k in METRICS.kinds() if task in METRICS[k].tasks and not METRICS[k].needs_costs]
        whole = counts(*stream(500_000, random))
        for n in (50, 500, 5000):
            found = [counts(*stream(n, random)) for _ in range(draws)]
            shown = []
            for kind in kinds:
                true, values = METRICS[kind](whole).value, [METRICS[kind](c) for c in found]
                if all(v.value is not None for v in values):
                    hits = sum(v.low is not None and v.high is not None and true is not None and v.low <= true <= v.high for v in values)
                    shown.append(f"{kind} {100 * hits / draws:.1f}")
            print(f"{stream.__name__} {n}: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
