"""Looking what is new at a source, without judging: newest event, changed windows, labels that came."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow.compute as pc

from checks.core.errors import DriftdError
from checks.core.window import Window
from monitor.config.model import MonitorConfig
from monitor.evaluation.quality import read_table
from monitor.ports import Engine, Extent, Observation, ObserveJob, Source
from monitor.profiling.joining import flat, join_codes
from monitor.profiling.masks import NOT_COUNTABLE


def others_of(monitor: MonitorConfig, window: Window, open_source: Callable[[Any], Source]) -> str | None:
    """The fingerprint of the tables of business figures and offline features; None where one cannot be looked at."""
    tables = [(kpi.source, kpi.timestamp) for kpi in monitor.kpis.values()]
    if monitor.parity is not None and monitor.parity.timestamp is not None:
        tables.append((monitor.parity.source, monitor.parity.timestamp))
    try:
        found = [open_source(config).fingerprint(timestamp, window) for config, timestamp in tables]
    except (DriftdError, OSError):
        return None
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] if found else None


SKEW = timedelta(days=1)
"""So far ahead of the clock an event may be."""


def observe(job: ObserveJob, source: Source, labels: Source | None, open_source: Callable[[Any], Source]) -> Observation:
    """What the next tick has to do for one monitor."""
    name = job.monitor.columns.timestamp
    extent = source.extent(name)
    if isinstance(source, Engine):
        prints = {w.start: text for w, text in source.fingerprints(name, job.windows).items()}
    else:
        prints = {w.start: source.fingerprint(name, w) for w in job.windows}
    others = {w.start: text for w in job.windows if (text := others_of(job.monitor, w, open_source)) is not None}
    shares: dict[datetime, float] = {}
    seen = job.labels_seen
    found = Observation(_newest(extent, job.now), extent.written, prints, shares, seen, extent.gap, others=others)
    if labels is None or not job.labels:
        return found
    try:
        return _labels_seen(job, source, labels, found)
    except (DriftdError, *NOT_COUNTABLE):  # the count of each window's labels says what is odd; the windows go on
        return found


def _newest(extent: Extent, now: datetime) -> datetime | None:
    """The newest event that can be one: of a time far in the future nothing follows, and the newest write stands in for it."""
    if extent.last is None or extent.last <= now + SKEW:
        return extent.last
    return extent.written if extent.written is not None and extent.written <= now + SKEW else None


def _labels_seen(job: ObserveJob, source: Source, labels: Source, found: Observation) -> Observation:
    first, last = job.labels[0], job.labels[-1]
    timed = job.settings.label_timestamp
    span = Window(first.start, max(job.now, last.end))
    text = labels.fingerprint(timed, span) + first.start.isoformat() + last.end.isoformat()
    seen = hashlib.sha256(text.encode()).hexdigest()[:16]
    if seen == job.labels_seen:
        return found
    return replace(_shares(job, source, labels, span, found), labels_seen=seen)


def _shares(job: ObserveJob, source: Source, labels: Source, span: Window, seen: Observation) -> Observation:
    identifier, label = job.settings.label_id or "", job.settings.label_column or ""
    timed = job.settings.label_timestamp
    table = read_table(labels, [identifier, label], timed, span if timed else None)
    if table is None:
        return seen
    table = table.filter(pc.invert(pc.is_null(table.column(label), nan_is_null=True)))
    known = flat(table, identifier)
    column = job.monitor.columns.id or ""
    shares: dict[datetime, float] = {}
    unmatched = np.ones(len(known), bool)
    for window in job.labels:
        rows = read_table(source, [column], job.monitor.columns.timestamp, window)
        if rows is None:
            continue
        codes, label_codes = join_codes(flat(rows, column), known)
        there = np.zeros(max(int(codes.max(initial=-1)), int(label_codes.max(initial=-1))) + 2, bool)
        there[label_codes[label_codes >= 0]] = True
        shares[window.start] = float(there[codes[codes >= 0]].sum()) / rows.num_rows
        there[:] = False
        there[codes[codes >= 0]] = True
        unmatched &= ~(there[np.maximum(label_codes, 0)] & (label_codes >= 0))
    first, last = job.labels[0], job.labels[-1]
    give_up = job.monitor.labels.give_up if job.monitor.labels is not None else timedelta(0)
    # What is not open to labels: the rows since the last window that was evaluated, and those before the first one.
    for beyond in (Window(last.end, max(job.now, last.end)), Window(first.start - give_up, first.start)):
        if timed is None or unmatched.sum() <= 0.5 * len(known) or beyond.start == beyond.end:
            break
        rows = read_table(source, [column], job.monitor.columns.timestamp, beyond)
        if rows is not None:
            codes, label_codes = join_codes(flat(rows, column), known)
            unmatched &= ~np.isin(label_codes, codes[codes >= 0])
    if timed is None:
        unmatched[:] = False
    return replace(seen, labelled=shares, unknown_labels=int(unmatched.sum()), label_rows=len(known))
