"""Looking what is new at a source, without judging: newest event, changed windows, labels that came."""

from __future__ import annotations

import hashlib
from datetime import datetime

import pyarrow.compute as pc

from checks.core.window import Window
from monitor.evaluation.quality import read_table
from monitor.ports import Engine, Observation, ObserveJob, Source
from monitor.profiling.quality import flat


def observe(job: ObserveJob, source: Source, labels: Source | None) -> Observation:
    """What the next tick has to do for one monitor."""
    name = job.monitor.columns.timestamp
    extent = source.extent(name)
    if isinstance(source, Engine):
        prints = {w.start: text for w, text in source.fingerprints(name, job.windows).items()}
    else:
        prints = {w.start: source.fingerprint(name, w) for w in job.windows}
    shares: dict[datetime, float] = {}
    seen = job.labels_seen
    if labels is not None and job.labels:
        first, last = job.labels[0], job.labels[-1]
        timed = job.settings.label_timestamp
        span = Window(first.start, max(job.now, last.end))
        text = labels.fingerprint(timed, span) + first.start.isoformat() + last.end.isoformat()
        seen = hashlib.sha256(text.encode()).hexdigest()[:16]
        if seen != job.labels_seen:
            shares = _shares(job, source, labels, span)
    return Observation(extent.last, extent.written, prints, shares, seen, extent.gap)


def _shares(job: ObserveJob, source: Source, labels: Source, span: Window) -> dict[datetime, float]:
    identifier, label = job.settings.label_id or "", job.settings.label_column or ""
    timed = job.settings.label_timestamp
    table = read_table(labels, [identifier, label], timed, span if timed else None)
    if table is None:
        return {}
    table = table.filter(pc.is_valid(table.column(label)))
    known = flat(table, identifier)
    column = job.monitor.columns.id or ""
    shares = {}
    for window in job.labels:
        rows = read_table(source, [column], job.monitor.columns.timestamp, window)
        if rows is None:
            continue
        ids = flat(rows, column)
        inside = pc.is_in(ids, value_set=known.cast(ids.type))
        shares[window.start] = (pc.sum(inside).as_py() or 0) / rows.num_rows
    return shares
