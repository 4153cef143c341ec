"""Predictions joined with their labels by id, and counted per slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from checks.core.errors import SchemaError
from checks.core.outputs import SCORE_BINS
from checks.performance.counts import CLIP, QualityCounts
from monitor.profiling.arrow import category_texts
from monitor.profiling.plan import private_category

MOST_SLICES = 200
MISSING = "(missing)"
TRUE, FALSE = {"1", "true", "yes", "y", "t", "1.0"}, {"0", "false", "no", "n", "f", "0.0"}


@dataclass(frozen=True, slots=True)
class Joined:
    """Counts per slice, and what was noticed about the ids and labels of a window."""

    slices: dict[str, QualityCounts]
    rows: int
    labelled: int
    duplicate_ids: int
    null_ids: int
    contradicting: int
    notes: tuple[str, ...] = field(default=())

    @property
    def share(self) -> float:
        return self.labelled / self.rows if self.rows else 0.0


def join_codes(ids: pa.Array, label_ids: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both id columns as codes of one dictionary; a null id is -1."""
    if logical(ids) != logical(label_ids):
        ids, label_ids = ids.cast(pa.string()), label_ids.cast(pa.string())
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if pa.types.is_dictionary(label_ids.type):
        label_ids = label_ids.dictionary_decode()
    both = pa.concat_arrays([ids, label_ids.cast(ids.type)]).dictionary_encode()
    codes = both.indices.fill_null(-1).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return codes[: len(ids)], codes[len(ids) :]


def logical(values: pa.Array) -> str:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    return "integer" if pa.types.is_integer(kind) else "text" if not pa.types.is_floating(kind) else "number"


def flat(table: pa.Table, name: str) -> pa.Array:
    """A column of a table as one array."""
    column = table.column(name).combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def count_labels(
    predictions: pa.Table, labels: pa.Table, *, task: str, id_column: str, label_id: str, label: str,
    label_time: str | None, prediction: str | None, score: str | None, slices: Sequence[tuple[str, ...]],
    private: frozenset[str], key: bytes,
) -> Joined:
    """Join by id and count.

    A repeated prediction id counts once, its last row; of labels that contradict each other the newest by
    ``label_time`` wins, without one the last read.
    """
    codes, label_codes = join_codes(flat(predictions, id_column), flat(labels, label_id))
    null_ids = int((codes < 0).sum())
    last_row = np.full(int(codes.max(initial=-1)) + 1, -1, np.int64)
    valid = np.flatnonzero(codes >= 0)
    last_row[codes[valid]] = valid
    rows = np.sort(last_row[last_row >= 0])
    duplicates = len(valid) - len(rows)
    label_row, contradicting = _newest_labels(labels, label_codes, label, label_time, max(len(last_row), 1))
    matched = label_row[codes[rows]] if len(rows) else np.zeros(0, np.int64)
    joined = rows[matched >= 0]
    notes = []
    if duplicates:
        notes.append(f"{duplicates} prediction ids are repeated; the last row of each counts")
    if null_ids:
        notes.append(f"{null_ids} prediction ids are null; they cannot have a label")
    if contradicting:
        notes.append(f"{contradicting} ids have labels that contradict each other; the newest counts")
    taken = predictions.take(pa.array(joined))
    truth = flat(labels, label).take(pa.array(matched[matched >= 0]))
    counted = _count(taken, truth, task, prediction, score, label)
    table = {"ALL": counted(np.ones(len(joined), bool))}
    for keys in slices:
        table.update(_sliced(taken, keys, counted, private, key))
    return Joined(table, len(rows) + null_ids, len(joined), duplicates, null_ids, contradicting, tuple(notes))


def _newest_labels(
    labels: pa.Table, codes: NDArray[np.int64], label: str, label_time: str | None, size: int,
) -> tuple[NDArray[np.int64], int]:
    """The row of the label that counts, by id code (-1 without one), and how many ids have contradicting labels."""
    usable = np.flatnonzero((codes >= 0) & (codes < size) & ~flat(labels, label).is_null().to_numpy(zero_copy_only=False))
    if label_time is not None and len(usable):
        from monitor.arrow_types import to_micros

        times = to_micros(flat(labels, label_time), label_time).fill_null(0).to_numpy(zero_copy_only=False)
        usable = usable[np.argsort(times[usable], kind="stable")]
    newest = np.full(size, -1, np.int64)
    newest[codes[usable]] = usable
    contradicting = 0
    if len(usable) > int((newest >= 0).sum()):
        texts = flat(labels, label).cast(pa.string()).dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        differs = texts[usable] != texts[newest[codes[usable]]]
        contradicting = len(np.unique(codes[usable][differs]))
    return newest, contradicting


def _binary(values: pa.Array, name: str) -> NDArray[np.int64]:
    """1 for positive, 0 for negative, -1 for null; `SchemaError` names a value that is neither."""
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    table = []
    for text in category_texts(encoded.dictionary):
        lowered = (text or "").strip().lower()
        if text is None:
            table.append(-1)
        elif lowered in TRUE or lowered in FALSE:
            table.append(int(lowered in TRUE))
        else:
            raise SchemaError(f"{name} has the value {text!r:.60}; a binary task needs 0 and 1, true and false")
    indices = encoded.indices.fill_null(len(table)).to_numpy(zero_copy_only=False)
    coded: NDArray[np.int64] = np.array([*table, -1], np.int64)[indices]
    return coded


def _floats(values: pa.Array, name: str) -> NDArray[np.float64]:
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_decimal(values.type)):
        raise SchemaError(f"{name} is of type {values.type}; numbers are needed")
    numbers: NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers


def _count(table: pa.Table, truth: pa.Array, task: str, prediction: str | None, score: str | None, label: str) -> Any:
    scores = _floats(flat(table, score), score) if score else None
    if task == "regression":
        return _regression(_floats(flat(table, prediction or score or ""), prediction or score or ""), _floats(truth, label))
    if task == "multiclass":
        predicted = flat(table, prediction or "").cast(pa.string())
        right = pc.fill_null(pc.equal(predicted, truth.cast(pa.string())), False).to_numpy(zero_copy_only=False)
        return lambda mask: QualityCounts(rows=int(mask.sum()), correct=int(right[mask].sum()))
    y = _binary(truth, label)
    if prediction is not None:
        p = _binary(flat(table, prediction), prediction)
    else:
        assert scores is not None
        p = np.where(np.isnan(scores), -1, (scores >= 0.5).astype(np.int64))
    return _binary_counter(y, p, scores)


def _binary_counter(y: NDArray[np.int64], p: NDArray[np.int64], scores: NDArray[np.float64] | None) -> Any:
    known = (y >= 0) & (p >= 0)
    usable = np.zeros(len(y), bool)
    if scores is not None:
        with np.errstate(invalid="ignore"):
            usable = (y >= 0) & (scores >= 0) & (scores <= 1)
        clipped = np.clip(np.where(usable, scores, 0.5), CLIP, 1 - CLIP)
        loss = -np.log(np.where(y == 1, clipped, 1 - clipped))
        bins = np.minimum((clipped * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)

    def count(mask: NDArray[np.bool_]) -> QualityCounts:
        rows = mask & known
        cells = np.bincount(2 * p[rows] + y[rows], minlength=4)
        found = QualityCounts(
            rows=int(rows.sum()), correct=int(cells[0] + cells[3]), tn=int(cells[0]), fn=int(cells[1]), fp=int(cells[2]),
            tp=int(cells[3]),
        )
        if scores is not None:
            good = mask & usable
            found.scored, found.bad_scores = int(good.sum()), int((mask & (y >= 0) & ~usable).sum())
            found.score_sum, found.label_sum = float(scores[good].sum()), float(y[good].sum())
            found.residual_square = float(((y[good] - scores[good]) ** 2).sum())
            found.loss, found.loss_square = float(loss[good].sum()), float((loss[good] ** 2).sum())
            found.positive = np.bincount(bins[good & (y == 1)], minlength=SCORE_BINS)
            found.negative = np.bincount(bins[good & (y == 0)], minlength=SCORE_BINS)
        return found

    return count


def _regression(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> Any:
    finite = np.isfinite(predicted) & np.isfinite(truth)
    error = np.where(finite, predicted - truth, 0.0)

    def count(mask: NDArray[np.bool_]) -> QualityCounts:
        chosen = error[mask & finite]
        return QualityCounts(
            rows=len(chosen), absolute_error=float(np.abs(chosen).sum()), square_error=float((chosen**2).sum()),
            fourth_error=float((chosen**4).sum()),
        )

    return count


def _sliced(
    table: pa.Table, keys: tuple[str, ...], counted: Any, private: frozenset[str], key: bytes,
) -> Mapping[str, QualityCounts]:
    names, codes = [], np.zeros(table.num_rows, np.int64)
    for name in keys:
        encoded = flat(table, name)
        encoded = encoded if pa.types.is_dictionary(encoded.type) else encoded.dictionary_encode()
        texts = [MISSING if t is None else private_category(t, key) if name in private else t for t in category_texts(encoded.dictionary)]
        texts.append(MISSING)
        names.append(texts)
        codes = codes * len(texts) + encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
    found, sizes = np.unique(codes, return_counts=True)
    largest = found[np.argsort(-sizes, kind="stable")][:MOST_SLICES]
    slices: dict[str, QualityCounts] = {}
    for code in sorted(largest.tolist()):
        parts, rest = [], code
        for name, texts in zip(reversed(keys), reversed(names), strict=True):
            parts.append(f"{name}={texts[rest % len(texts)]}")
            rest //= len(texts)
        label = " & ".join(reversed(parts))
        here = counted(codes == code)
        slices[label] = slices[label] + here if label in slices else here
    return slices
