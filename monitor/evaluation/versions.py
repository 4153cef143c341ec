"""Versions compared on the windows that both served, from stored counts; and row by row where both predicted the same rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from checks.core.errors import ConfigError
from checks.performance.methods.compare import METRICS, compare, paired, paired_delong
from checks.performance.methods.counted import Pairs, from_bytes
from monitor.config.model import MonitorConfig
from monitor.evaluation.sections import number
from monitor.ports import CompareJob, Source
from monitor.profiling.joining import flat, join_codes, newest_labels
from monitor.profiling.quality import binary, floats


def compare_versions(job: CompareJob, source: Source | None = None, labels: Source | None = None) -> dict[str, Any]:
    """The verdict on ``job.second`` against ``job.first``, with its evidence; paired where the same rows had both.

    ``source`` and ``labels`` are read only for DeLong's test of the last windows, where both scored the same rows.
    """
    metric = job.metric or default_metric(job.monitor)
    if metric not in METRICS or (metric == "mae") != (job.monitor.task == "regression"):
        raise ConfigError(f"monitor {job.monitor.name}: versions cannot be compared by {metric!r}; allowed are {', '.join(allowed(job.monitor))}")
    counted = [(start, from_bytes(body)) for start, body in job.windows]
    both = [(c.versions[job.first], c.versions[job.second]) for _, c in counted if job.first in c.versions and job.second in c.versions]
    names = sorted((job.first, job.second))
    shared = [c.pairs[names[0], names[1]] for _, c in counted if (names[0], names[1]) in c.pairs]
    if names[0] != job.first:
        shared = [Pairs(p.rows, p.both, p.second, p.first, -p.gap, p.gap_square) for p in shared]
    together = sum(p.rows for p in shared)
    alone = sum(min(a.rows, b.rows) for a, b in both)
    use_pairs = together >= 0.5 * alone and together > 0 and metric in ("accuracy", "mae")
    found = paired(shared, job.margin, regression=metric == "mae") if use_pairs else compare(both, metric, job.margin)
    answer = {key: number(value) if isinstance(value, float) else value for key, value in asdict(found).items()}
    answer |= {
        "first_version": job.first, "second_version": job.second, "margin": job.margin, "paired": use_pairs,
        "rows": list(found.rows), "from": next((s.isoformat() for s, c in counted if job.first in c.versions and job.second in c.versions), None),
        "served": {v: sum(v in c.versions and c.versions[v].rows > 0 for _, c in counted) for v in (job.first, job.second)},
    }
    if use_pairs and job.monitor.task == "binary" and job.monitor.columns.score and source is not None and labels is not None:
        answer["delong"] = _delong(job, source, labels)
    return answer


def allowed(monitor: MonitorConfig) -> list[str]:
    """The metrics by which a monitor's versions can be compared."""
    if monitor.task == "regression":
        return ["mae"]
    return ["accuracy"] if monitor.task == "multiclass" else [m for m in METRICS if m != "mae"]


def default_metric(monitor: MonitorConfig) -> str:
    """Accuracy of a classification, mean absolute error of a regression."""
    return "mae" if monitor.task == "regression" else "accuracy"


def _delong(job: CompareJob, source: Source, labels: Source) -> dict[str, Any] | None:
    columns, settings = job.monitor.columns, job.settings
    names = [str(n) for n in (columns.id, columns.score, columns.version)]
    tables = [table for window in job.spans for table in source.read(names, columns.timestamp, window)]
    truth = list(labels.read([n for n in (settings.label_id, settings.label_column) if n], None, None))
    if not tables or not truth:
        return None
    rows, known = pa.Table.from_batches(tables), pa.Table.from_batches(truth)
    versions = flat(rows, names[2]).cast(pa.string())
    codes, label_codes = join_codes(flat(rows, names[0]), flat(known, settings.label_id or ""))
    size = int(codes.max(initial=-1)) + 1
    label = newest_labels(known, label_codes, max(size, 1), settings.label_column or "", None).row
    score = floats(flat(rows, names[1]), names[1])
    places = []
    for version in (job.first, job.second):
        at = np.full(max(size, 1), -1, np.int64)
        own = np.flatnonzero(pc.fill_null(pc.equal(versions, version), False).to_numpy(zero_copy_only=False) & (codes >= 0) & np.isfinite(score))
        at[codes[own]] = own
        places.append(at)
    ids = np.flatnonzero((places[0] >= 0) & (places[1] >= 0) & (label >= 0))
    if not len(ids):
        return None
    y = binary(flat(known, settings.label_column or "").take(pa.array(label[ids])), settings.label_column or "")
    ids, y = ids[y >= 0], y[y >= 0]
    found = paired_delong((score[places[0][ids]], score[places[1][ids]]), y == 1)
    if found is None:
        return None
    return dict(zip(("first", "second", "low", "high"), map(number, found), strict=True)) | {"rows": len(ids)}
