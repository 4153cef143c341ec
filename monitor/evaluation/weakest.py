"""The second pass: slices in which the model is worst, over at most 200,000 labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from checks.core.binning import Binning, ColumnBinning
from checks.core.outputs import MISSING, OTHER
from checks.performance.methods.weakest import Feature, weakest
from monitor.evaluation.quality import Question, label_rows
from monitor.evaluation.scan import sample_rows
from monitor.evaluation.sections import number
from monitor.ports import Source
from monitor.profiling.cuts import above, below, between, edges_of
from monitor.profiling.joining import flat
from monitor.profiling.lanes import Codes
from monitor.profiling.quality import floats, labelled_errors

MOST_ROWS = 200_000
LEAST_ROWS = 1000
"""Labelled rows from which a window is searched: of fewer, no slice of two predicates would be confirmed."""

CATEGORIES, BINS = 30, 8


def find_weakest(question: Question, binning: Binning, predictions: Source, labels: Source, types: Mapping[str, str]) -> dict[str, Any] | None:
    """The slices of a window, as a part of the quality section; None with too few labelled rows."""
    columns = question.monitor.columns
    usable = [
        c for c in binning.columns
        if c.role == "feature" and c.kind in ("numeric", "category") and c.bins > 1 and c.name in types and not c.private
        and c.name not in question.private and (c.kind == "category" or types[c.name] in ("integer", "number"))
    ]
    own = [n for n in (columns.id, columns.score, columns.prediction, columns.weight, columns.timestamp, columns.version) if n]
    names = list(dict.fromkeys([*own, *(c.name for c in usable)]))
    table = sample_rows(predictions, names, columns.timestamp, question.window, MOST_ROWS)
    if table is None or not usable:
        return None
    if table.num_rows > MOST_ROWS:
        table = table.take(np.sort(np.random.default_rng(20130101).choice(table.num_rows, MOST_ROWS, replace=False)))
    truth, asked = label_rows(question, table, labels)
    rows, errors = labelled_errors(table, truth, asked)
    if len(rows) < LEAST_ROWS:
        return None
    features = [_feature(column, flat(table, column.name).take(pa.array(rows)), question.key) for column in usable]
    found = weakest([f for f in features if len(f.predicates) > 1], errors)
    return {
        "rows": len(rows), "error": number(float(errors.mean())), "unit": "absolute error" if question.monitor.task == "regression" else "share wrong",
        "slices": [
            {
                "slice": w.name, "rows": w.rows, "error": number(w.error), "overall": number(w.overall), "p_value": number(w.p_value),
                "confirmed": w.confirmed,
            }
            for w in found if w.confirmed
        ],
        "tried": len(found),
    }


def _feature(column: ColumnBinning, values: pa.Array, key: bytes) -> Feature:
    if column.kind == "category":
        codes = Codes(column, key).rows(values)
        kept = min(column.bins, CATEGORIES)
        codes = np.where(codes < kept, codes, np.where(codes <= column.bins, kept, kept + 1))
        shown = [f"{column.name}={text}" for text in (*column.categories[:kept], OTHER, MISSING)]
        return Feature(column.name, codes, tuple(shown), np.eye(len(shown)))
    edges = edges_of(column, BINS)
    numbers = floats(values, column.name)
    codes = np.searchsorted(np.asarray(edges), numbers, side="right")
    codes[np.isnan(numbers)] = len(edges) + 1
    size = len(edges) + 2
    places = np.arange(size)
    predicates, members = [], []
    for at, edge in enumerate(edges):
        predicates += [below(column.name, edge), above(column.name, edge)]
        members += [places <= at, (places > at) & (places < size - 1)]
    for at in range(1, len(edges)):
        predicates.append(between(column.name, edges[at - 1], edges[at]))
        members.append(places == at)
    predicates.append(f"{column.name}={MISSING}")
    members.append(places == size - 1)
    return Feature(column.name, codes, tuple(predicates), np.array(members, np.float64))
