"""Rows of two tables brought together by id, and what is odd about ids and labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitor.arrow_types import logical_type, to_micros

Rows = NDArray[np.int64]

EARLY = timedelta(days=1)
"""A label dated so long before its prediction is of another row of that id."""


def flat(table: pa.Table, name: str) -> pa.Array:
    """A column of a table as one array."""
    column = table.column(name).combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _plain(ids: pa.Array) -> pa.Array:
    """Ids without a dictionary; whole numbers among real ones as whole numbers."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if pa.types.is_floating(ids.type):
        numbers = ids.to_numpy(zero_copy_only=False)
        known = numbers[~np.isnan(numbers)]
        if (known == np.floor(known)).all() and (np.abs(known) < 2**53).all():
            whole = np.where(np.isnan(numbers), 0.0, numbers).astype(np.int64)
            return pa.array(whole, mask=np.isnan(numbers))
    return ids


def join_codes(ids: pa.Array, other: pa.Array) -> tuple[Rows, Rows]:
    """Both id columns as codes of one dictionary; a null id is -1."""
    ids, other = _plain(ids), _plain(other)
    if logical_type(ids.type) != logical_type(other.type):
        ids, other = ids.cast(pa.string()), other.cast(pa.string())
    both = pa.concat_arrays([ids, other.cast(ids.type)]).dictionary_encode()
    codes = both.indices.fill_null(-1).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return codes[: len(ids)], codes[len(ids) :]


def last_of_each(codes: Rows) -> Rows:
    """The last row of each code that is not negative, ascending."""
    valid = np.flatnonzero(codes >= 0)
    last = np.full(int(codes.max(initial=-1)) + 1, -1, np.int64)
    last[codes[valid]] = valid
    kept = np.zeros(len(codes), bool)
    kept[last[last >= 0]] = True
    return np.flatnonzero(kept)


@dataclass(frozen=True, slots=True)
class Labels:
    """The label row that counts for each id code (-1 without one), and what was odd.

    ``repeated`` labels are left out for a newer one of their id, ``contradicting`` counts ids whose labels differ, ``future`` labels
    dated after now, which count from then on.
    """

    row: Rows
    repeated: int = 0
    contradicting: int = 0
    future: int = 0
    micros: Rows | None = None
    notes: tuple[str, ...] = field(default=())


def newest_labels(
    labels: pa.Table, codes: Rows, size: int, label: str, label_time: str | None, now: datetime | None = None,
) -> Labels:
    """For each id the label with the newest time, of equal ones and without times the last read; null labels are none."""
    usable = np.flatnonzero((codes >= 0) & ~flat(labels, label).is_null().to_numpy(zero_copy_only=False))
    micros, future = None, 0
    if label_time is not None:
        micros = to_micros(flat(labels, label_time), label_time).fill_null(0).to_numpy(zero_copy_only=False)
        if now is not None:
            late = micros[usable] > int(now.timestamp() * 1e6)
            future = int((codes[usable[late]] < size).sum())
            usable = usable[~late]
    usable = usable[codes[usable] < size]
    newest = np.full(size, -1, np.int64)
    newest[codes[usable]] = usable
    repeated, contradicting = len(usable) - int((newest >= 0).sum()), 0
    if repeated:
        if micros is not None:
            usable = usable[np.argsort(micros[usable], kind="stable")]
            newest[codes[usable]] = usable
        texts = flat(labels, label).cast(pa.string()).dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        differs = texts[usable] != texts[newest[codes[usable]]]
        contradicting = len(np.unique(codes[usable][differs]))
    return Labels(newest, repeated, contradicting, future, micros)
