"""Rows of two tables brought together by id, and what is odd about ids and labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitor.arrow_types import logical_type, to_micros

Rows = NDArray[np.int64]

UNDATED = -(2**62)
"""The time of a row without one: older than any."""

EARLY = timedelta(days=1)
"""A label dated so long before its prediction is of another row of that id."""


def flat(table: pa.Table, name: str) -> pa.Array:
    """A column of a table as one array."""
    column = table.column(name).combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def plain(ids: pa.Array) -> pa.Array:
    """Values without a dictionary; real numbers that are all whole as whole numbers."""
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
    ids, other = plain(ids), plain(other)
    if ids.type != other.type:
        ids, other = _alike(ids, other)
    both = pa.concat_arrays([ids, other]).dictionary_encode()
    codes = both.indices.fill_null(-1).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return codes[: len(ids)], codes[len(ids) :]


def _alike(ids: pa.Array, other: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Both of one type: whole numbers of any width, else texts."""
    if pa.types.is_null(ids.type) or pa.types.is_null(other.type):
        kind = other.type if pa.types.is_null(ids.type) else ids.type
        return ids.cast(kind), other.cast(kind)
    if {logical_type(ids.type), logical_type(other.type)} == {"integer"}:
        try:
            return ids.cast(pa.int64()), other.cast(pa.int64())
        except pa.ArrowInvalid:  # beyond 2 to the 63
            pass
    return ids.cast(pa.large_string()), other.cast(pa.large_string())


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
    usable = np.flatnonzero((codes >= 0) & ~flat(labels, label).is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    micros, future = None, 0
    if label_time is not None:
        micros = to_micros(flat(labels, label_time), label_time).fill_null(UNDATED).to_numpy(zero_copy_only=False)
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
