"""Freezing edges and categories from reference rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from checks.core.errors import SchemaError
from checks.core.profile import Binning, ColumnBinning
from monitor.arrow_types import together
from monitor.config.model import MonitorConfig
from monitor.profiling.arrow import category_texts
from monitor.profiling.plan import private_category

SAMPLE_ROWS = 1_000_000
TOP_CATEGORIES = 200
KNOWN = 0.5
"""Share of the rows that the most frequent categories must have, for a column of many to be one of categories."""

FEW_INTEGERS = 20
ATOM = 0.01
PUBLIC_ROWS = 20
SEED = 20130101


def binned_columns(monitor: MonitorConfig, types: Mapping[str, str]) -> dict[str, str]:
    """The columns that are profiled, with their role; ids, times, versions, ignored and nested ones are not."""
    roles = monitor.columns.roles
    found = {}
    for name, kind in types.items():
        role = roles.get(name, "feature")
        if role in ("timestamp", "id", "version", "weight") or name in monitor.columns.ignore:
            continue
        if kind in ("integer", "number", "string", "boolean", "null"):
            found[name] = role
    return found


def sample(batches: Iterable[pa.RecordBatch], most: int = SAMPLE_ROWS) -> pa.Table | None:
    """All rows, or a seeded sample of about ``most`` when there are more; None without rows."""
    random = np.random.default_rng(SEED)
    kept: list[pa.RecordBatch] = []
    rows, share = 0, 1.0
    for batch in batches:
        if share < 1.0:
            batch = batch.filter(pa.array(random.random(batch.num_rows) < share))
        kept.append(batch)
        rows += batch.num_rows
        while rows > 2 * most:
            kept = [b.filter(pa.array(random.random(b.num_rows) < 0.5)) for b in kept]
            rows, share = sum(b.num_rows for b in kept), share / 2
    return together(kept) if rows else None


def build_binning(monitor: MonitorConfig, types: Mapping[str, str], table: pa.Table, classified: frozenset[str], key: bytes) -> Binning:
    """The binning that ``table``, rows of the reference, supports."""
    columns = []
    for name, role in binned_columns(monitor, types).items():
        private = name in monitor.columns.personal or name in classified
        columns.append(_column(name, role, types[name], table.column(name).combine_chunks(), private, key))
    return Binning(tuple(columns))


def _column(name: str, role: str, kind: str, values: Any, private: bool, key: bytes) -> ColumnBinning:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if kind == "null":
        return ColumnBinning(name, "category", role, private=private)
    if kind == "number" or role in ("score", "latency"):
        return _numeric(name, role, values)
    if kind == "integer" and role != "prediction" and pc.count_distinct(values, mode="only_valid").as_py() > FEW_INTEGERS:
        return _numeric(name, role, values)
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    codes = encoded.indices.drop_null().to_numpy(zero_copy_only=False)
    counts = np.bincount(codes, minlength=len(encoded.dictionary)) if len(codes) else np.zeros(0, np.int64)
    distinct, rows = int((counts > 0).sum()), int(counts.sum())
    if kind == "string" and rows > 100 and distinct > max(0.5 * rows, TOP_CATEGORIES):
        return ColumnBinning(name, "text", role, private=private)
    if kind == "string" and rows > 100 and distinct > TOP_CATEGORIES and np.sort(counts)[-TOP_CATEGORIES:].sum() < KNOWN * rows:
        return ColumnBinning(name, "text", role, private=private)  # nearly an identifier: which of its values come says nothing
    texts = category_texts(encoded.dictionary)
    order = sorted((i for i in range(len(counts)) if counts[i]), key=lambda i: (-counts[i], str(texts[i])))[:TOP_CATEGORIES]
    categories = []
    for index in order:
        text = texts[index]
        if text is None:
            continue
        public = not private and counts[index] >= PUBLIC_ROWS
        categories.append(text if public and not text.startswith("#") else private_category(text, key))
    return ColumnBinning(name, "category", role, categories=tuple(categories), private=private)


def _numeric(name: str, role: str, values: Any) -> ColumnBinning:
    try:
        numbers = values.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise SchemaError(f"columns.{role}: {name} is of type {values.type} and holds what is no number") from None
    numbers = np.sort(numbers[np.isfinite(numbers)])
    if not len(numbers):
        return ColumnBinning(name, "numeric", role)
    edges = quantile_edges(numbers)
    return ColumnBinning(name, "numeric", role, edges=tuple(edges), center=float(numbers.mean()), spread=float(numbers.std()))


def quantile_edges(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Reference quantiles at multiples of 1/60 and at .5% and 99.5%; an atom of over 1% gets a bin of its own."""
    shares = np.unique(np.r_[np.arange(1, 60) / 60, 0.005, 0.995])
    edges = set(np.quantile(numbers, shares, method="inverted_cdf").tolist())
    distinct, counts = np.unique(numbers, return_counts=True)
    for value in distinct[counts > ATOM * len(numbers)].tolist():
        edges |= {value, float(np.nextafter(value, np.inf))}
    return sorted(edge for edge in edges if np.isfinite(edge))
