"""The data of the benchmarks, written once per folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
GROUP = 1_000_000


def wide(path: Path, rows: int, numbers: int = 40, categories: int = 10, shift: float = 0.0) -> Path:
    """Rows of one day: normal, log-normal, rounded and whole numbers, and skewed categories; zstd Parquet."""
    if path.exists():
        return path
    random = np.random.default_rng(rows + numbers)
    values = pa.array([f"value {i}" for i in range(30)])
    writer = None
    for start in range(0, rows, GROUP):
        size = min(GROUP, rows - start)
        at = int(START.timestamp() * 1e6) + (np.arange(start, start + size) * (DAY // rows))
        columns: dict[str, Any] = {"at": pa.array(at, pa.timestamp("us", "UTC"))}
        for k in range(numbers):
            kinds = (random.normal(shift, 1, size), random.lognormal(size=size), np.round(random.gamma(2, 50, size), 2), random.integers(0, 5000, size) * 1.0)
            columns[f"x{k}"] = kinds[k % 4]
        for k in range(categories):
            columns[f"c{k}"] = values.take(pa.array(np.minimum(random.geometric(0.15, size) - 1, 29)))
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path.with_suffix(".part"), table.schema, compression="zstd")
        writer.write_table(table, row_group_size=GROUP)
    assert writer is not None
    writer.close()
    path.with_suffix(".part").rename(path)
    return path


def scored(path: Path, rows: int = 1_000_000) -> Path:
    """Scores, predictions, labels and a slice column of ten values beside twenty numbers."""
    if path.exists():
        return path
    random = np.random.default_rng(7)
    score = random.random(rows)
    at = int(START.timestamp() * 1e6) + np.arange(rows) * (DAY // rows)
    columns: dict[str, Any] = {"at": pa.array(at, pa.timestamp("us", "UTC")), "score": score}
    columns["label"] = pa.array(np.where(random.random(rows) < score, "yes", "no"))
    columns["predicted"] = pa.array(np.where(score >= 0.5, "yes", "no"))
    columns["slice"] = pa.array([f"s{i}" for i in range(10)]).take(pa.array(random.integers(0, 10, rows)))
    columns |= {f"x{k}": random.normal(size=rows) for k in range(20)}
    pq.write_table(pa.table(columns), path, compression="zstd")
    return path
