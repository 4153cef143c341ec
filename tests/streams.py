"""Streams of windows with known truth: columns, seasons, wobble and planted faults, for every test that needs to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

START = datetime(2024, 1, 1, tzinfo=UTC)

Rows = dict[str, Any]
Fault = Callable[[Rows, np.random.Generator], None]


@dataclass(frozen=True)
class Stream:
    """Daily windows of a binary model: numbers, categories, score, prediction, version, latency, labels.

    ``weekday`` and ``wobble`` move every number's mean, in standard deviations; ``faults`` change the rows of single days.
    """

    rows: int = 400
    numbers: int = 2
    categories: int = 1
    weekday: float = 0.0
    wobble: float = 0.0
    seed: int = 1
    faults: dict[int, Sequence[Fault]] = field(default_factory=dict)
    versions: dict[int, str] = field(default_factory=dict)
    step: timedelta = timedelta(days=1)

    def day(self, index: int) -> Rows:
        """The rows of the window ``index`` (0 starts at `START`), labels among them under ``label``."""
        random = np.random.default_rng([self.seed, index])
        start = START + index * self.step
        offsets = np.sort(random.random(self.rows)) * self.step.total_seconds() * 0.999
        rows: Rows = {
            "id": [f"{index}-{i}" for i in range(self.rows)],
            "at": [start + timedelta(seconds=float(s)) for s in offsets],
        }
        move = self.weekday * (index % 7 >= 5) + self.wobble * random.normal()
        for k in range(self.numbers):
            rows[f"x{k}"] = random.normal(move, 1.0, self.rows)
        for k in range(self.categories):
            rows[f"c{k}"] = random.choice(["a", "b", "c", "d"], self.rows, p=[0.4, 0.3, 0.2, 0.1]).astype(object)
        signal: NDArray[np.float64] = random.normal(0.0, 1.0, self.rows)
        rows["score"] = 1 / (1 + np.exp(-1.5 * signal))
        rows["label"] = random.random(self.rows) < rows["score"]
        rows["version"] = np.full(self.rows, self.version(index), dtype=object)
        rows["latency"] = random.gamma(4.0, 3.0, self.rows)
        for fault in self.faults.get(index, ()):
            fault(rows, random)
        return rows

    def version(self, index: int) -> str:
        """The version that serves in the window ``index``."""
        known = [day for day in self.versions if day <= index]
        return self.versions[max(known)] if known else "v1"

    def write(self, folder: Path, days: range, *, labels: bool = True) -> None:
        """One Parquet file of predictions a window under ``predictions/``, and one of labels under ``labels/``."""
        for index in days:
            rows = self.day(index)
            label = rows.pop("label")
            table = pa.table({name: pa.array(values) for name, values in rows.items()})
            write_table(table, folder / "predictions" / f"{index:04d}.parquet")
            if labels:
                times = pa.array([t + timedelta(hours=1) for t in rows["at"]])
                known = pa.table({"id": pa.array(rows["id"]), "label": pa.array(label), "known_at": times})
                write_table(known, folder / "labels" / f"{index:04d}.parquet")


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial)
    partial.replace(path)


def shift(column: str, by: float) -> Fault:
    """Move a number's mean."""

    def fault(rows: Rows, random: np.random.Generator) -> None:
        rows[column] = rows[column] + by

    return fault


def nulls(column: str, share: float) -> Fault:
    """Make a share of a column null."""

    def fault(rows: Rows, random: np.random.Generator) -> None:
        chosen = random.random(len(rows["id"])) < share
        rows[column] = [None if gone else value for value, gone in zip(rows[column], chosen, strict=True)]

    return fault


def convert(column: str, factor: float, offset: float = 0.0) -> Fault:
    """Log a number in another unit."""

    def fault(rows: Rows, random: np.random.Generator) -> None:
        rows[column] = rows[column] * factor + offset

    return fault


def bad_model(rows: Rows, random: np.random.Generator) -> None:
    """Serve the score of the wrong class."""
    rows["score"] = 1 - rows["score"]


def config_text(folder: Path, **monitor: Any) -> str:
    """A config.yaml for one monitor ``m`` of a stream in ``folder``; keyword arguments are keys of the monitor."""
    import json

    body: dict[str, Any] = {
        "owner": "log", "source": str(folder / "predictions"),
        "columns": {"timestamp": "at", "id": "id", "score": "score", "version": "version", "latency": "latency"},
        "labels": {"source": str(folder / "labels"), "complete": 0.9},
        "window": {"size": "1d", "lateness": "1h"}, "start": "2024-02-10", "task": "binary",
    }
    body.update(monitor)
    body = {key: value for key, value in body.items() if value is not None}
    return json.dumps({"store": "sqlite:///store.db", "web": {"port": 0}, "monitors": {"m": body}}, default=str)
