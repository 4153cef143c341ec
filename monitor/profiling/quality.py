"""Predictions joined with their labels by id, and counted per slice and per model version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from checks.core.binning import Binning
from checks.core.errors import SchemaError
from checks.core.expression import Expression
from checks.core.outputs import ALL, OTHER
from checks.core.sketch import Sketch, cells_of
from checks.performance.counts import GRADES, SUMS, QualityCounts
from checks.performance.methods.counted import Counted, Pairs, Waiting, of_sums
from monitor.arrow_types import to_micros
from monitor.config.quality import Cut
from monitor.profiling import tally
from monitor.profiling.arrow import category_texts
from monitor.profiling.cuts import Cutting, cut_rows
from monitor.profiling.joining import EARLY, UNDATED, Labels, flat, join_codes, last_of_each, newest_labels, plain
from monitor.profiling.values import values_of

TRUE, FALSE = {"1", "true", "yes", "y", "t", "1.0"}, {"0", "false", "no", "n", "f", "0.0"}
MOST_CLASSES = 200
ENOUGH = 100
"""Labelled rows from which it is no chance that no label is a class that is predicted."""

MOST_VERSIONS = 10
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be counted, and which column is what.

    ``weight`` and ``version`` may be None; rows of a ``shadow`` version count for that version alone. ``end`` is the window's end,
    from which ages of labels are counted; ``now`` leaves out labels dated later.
    """

    task: str
    id: str
    label_id: str
    label: str
    label_time: str | None = None
    prediction: str | None = None
    score: str | None = None
    weight: str | None = None
    version: str | None = None
    timestamp: str | None = None
    cuts: Sequence[Cut] = ()
    custom: Sequence[tuple[str, Expression]] = ()
    shadow: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    key: bytes = b""
    binning: Binning | None = None
    end: datetime | None = None
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """Counts of a window, and what was noticed about its ids and labels; ``rows`` and ``labelled`` leave shadow versions out."""

    counted: Counted
    rows: int
    labelled: int
    duplicate_ids: int = 0
    null_ids: int = 0
    contradicting: int = 0
    repeated: int = 0
    future: int = 0
    early: int = 0

    @property
    def share(self) -> float:
        return self.labelled / self.rows if self.rows else 0.0

    @property
    def slices(self) -> dict[str, QualityCounts]:
        return self.counted.slices

    @property
    def notes(self) -> tuple[str, ...]:
        return self.counted.notes


@dataclass(frozen=True, slots=True)
class _Matched:
    """Rows of predictions with their labels: id codes, the served rows once each, the label row of each row (-1: none)."""

    codes: Rows
    rows: Rows
    label: Rows
    chosen: Labels
    versions: list[str]
    version_codes: Rows
    served: NDArray[np.bool_]
    early: int

    @property
    def null_ids(self) -> int:
        return int((self.served & (self.codes < 0)).sum())


def _match(predictions: pa.Table, labels: pa.Table, asked: Asked) -> _Matched:
    codes, label_codes = join_codes(flat(predictions, asked.id), flat(labels, asked.label_id))
    size = int(codes.max(initial=-1)) + 1
    versions, version_codes = _versions(predictions, asked)
    shadow = np.array([name in asked.shadow for name in versions], bool)
    served = ~shadow[version_codes]
    chosen = newest_labels(labels, label_codes, max(size, 1), asked.label, asked.label_time, asked.now)
    matched = chosen.row[np.maximum(codes, 0)]
    matched[codes < 0] = -1
    early = _early(predictions, chosen.micros, matched, asked)
    matched[early] = -1
    return _Matched(codes, last_of_each(np.where(served, codes, -1)), matched, chosen, versions, version_codes, served, int(early.sum()))


def count_labels(predictions: pa.Table, labels: pa.Table, asked: Asked) -> Joined:
    """Join by id and count.

    A repeated prediction id counts once, its last row; of labels that contradict each other the newest counts. A label dated
    over a day before its prediction, or after now, is none.
    """
    found = _match(predictions, labels, asked)
    counter = _Counter(predictions, flat(labels, asked.label), found.label, asked)
    cuts, failed = cut_rows(predictions, asked.cuts, asked.binning, asked.private, asked.key)
    counted = counter.slices(found.rows, cuts)
    if found.versions != [""]:
        counter.versions(counted, found)
    counted.failed, counted.broken = failed, counter.custom(counted, found.rows, cuts)
    duplicates = int((found.served & (found.codes >= 0)).sum()) - len(found.rows)
    labelled = int((found.label[found.rows] >= 0).sum())
    counted.rows = len(found.rows) + found.null_ids
    counted.notes = _notes(duplicates, found, counted, labelled, counter.weightless, asked)
    chosen = found.chosen
    return Joined(
        counted, counted.rows, labelled, duplicates, found.null_ids, chosen.contradicting, chosen.repeated, chosen.future, found.early,
    )


def labelled_errors(predictions: pa.Table, labels: pa.Table, asked: Asked) -> tuple[Rows, Floats]:
    """The served rows of ``predictions`` that have a label, and how wrong each is: 1 or 0, or the absolute error of a regression."""
    found = _match(predictions, labels, asked)
    return _Counter(predictions, flat(labels, asked.label), found.label, asked).errors(found.rows)


def _notes(duplicates: int, found: _Matched, counted: Counted, labelled: int, weightless: int, asked: Asked) -> tuple[str, ...]:
    whole, chosen = counted.whole, found.chosen
    unusable = labelled - whole.rows - (weightless if asked.weight else 0) if asked.task != "none" else 0
    said = (
        (duplicates, "prediction ids are repeated; the last row of each counts"),
        (found.null_ids, "prediction ids are null; they cannot have a label"),
        (chosen.repeated - chosen.contradicting, "labels repeat another of their id"),
        (chosen.contradicting, "ids have labels that contradict each other; the newest counts"),
        (found.early, "labels are dated over a day before their prediction; they are left out"),
        (chosen.future, "labels are dated in the future; they count from then on"),
        (weightless, "rows have no weight, or one that is no number above 0; they count nothing"),
        (unusable, "labelled rows have no usable prediction, or a label that is no number; they count in no metric"),
        (round(whole.bad_scores * whole.scale), "labelled rows have a score that is null, NaN or outside 0 to 1; they enter no score metric"),
        (round(whole.zero_targets * whole.scale), "labels are zero; they have no percentage error"),
    )
    return tuple(f"{count:,} {text}" for count, text in said if count > 0)


def _versions(table: pa.Table, asked: Asked) -> tuple[list[str], Rows]:
    """The most frequent versions, and the place of each row's; the rest together, and null as an empty text."""
    if asked.version is None or asked.version not in table.schema.names:
        return [""], np.zeros(table.num_rows, np.int64)
    values = flat(table, asked.version)
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    texts = ["" if text is None else text for text in category_texts(encoded.dictionary)] + [""]
    indices = encoded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(indices, minlength=len(texts))
    by_name: dict[str, int] = {}
    for text, count in zip(texts, counts.tolist(), strict=True):
        by_name[text] = by_name.get(text, 0) + count
    names = sorted((n for n, c in by_name.items() if c), key=lambda n: (-by_name[n], n))
    kept = [*names[:MOST_VERSIONS], *([OTHER] if len(names) > MOST_VERSIONS else [])]
    place = np.array([kept.index(t) if t in kept else len(kept) - 1 for t in texts], np.int64)
    return kept, place[indices]


def _early(table: pa.Table, micros: Rows | None, matched: Rows, asked: Asked) -> NDArray[np.bool_]:
    none = np.zeros(len(matched), bool)
    if micros is None or asked.timestamp is None or asked.timestamp not in table.schema.names or not len(micros):
        return none
    made = to_micros(flat(table, asked.timestamp), asked.timestamp).fill_null(UNDATED).to_numpy(zero_copy_only=False)
    dated = micros[np.maximum(matched, 0)]
    found: NDArray[np.bool_] = (matched >= 0) & (dated != UNDATED) & (made != UNDATED) & (dated < made - int(EARLY.total_seconds() * 1e6))
    return found


def binary(values: pa.Array, name: str, private: frozenset[str] = frozenset()) -> Rows:
    """1 for positive, 0 for negative, -1 for null; `SchemaError` names a value that is neither, unless the column is private."""
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    table = []
    for text in category_texts(encoded.dictionary):
        lowered = (text or "").strip().lower()
        if text is None or lowered == "nan":
            table.append(-1)
        elif lowered in TRUE or lowered in FALSE:
            table.append(int(lowered in TRUE))
        else:
            shown = "a value" if name in private else f"the value {text!r:.60}"
            raise SchemaError(f"{name} has {shown}; a binary task needs 0 and 1, true and false")
    indices = encoded.indices.fill_null(len(table)).to_numpy(zero_copy_only=False)
    coded: Rows = np.array([*table, -1], np.int64)[indices]
    return coded


def floats(values: pa.Array, name: str) -> Floats:
    """A numeric column as float64, null as NaN; `SchemaError` for another type."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        raise SchemaError(f"{name} is of type {values.type}; numbers are needed")
    numbers: Floats = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers


class _Counter:
    """Counts chosen rows of a table by slice; labels are those that ``matched`` names, -1 for rows without one."""

    def __init__(self, table: pa.Table, truth: pa.Array, matched: Rows, asked: Asked) -> None:
        self._table, self._asked = table, asked
        self._known = matched >= 0
        if pa.types.is_dictionary(truth.type):  # the labels of other rows are none of these rows' business
            truth = truth.dictionary_decode()
        self._truth = truth.take(pa.array(matched, mask=matched < 0))
        self._weights = np.ones(len(matched))
        self.weightless = 0
        if asked.weight is not None:
            weights = floats(flat(table, asked.weight), asked.weight)
            usable = np.isfinite(weights) & (weights > 0)
            self.weightless, self._weights = int((~usable).sum()), np.where(usable, weights, 0.0)
            self._known &= usable
        self._tally: Callable[[Rows, Sequence[Cutting]], list[dict[str, QualityCounts]]] = getattr(self, f"_{asked.task}")()

    def slices(self, rows: Rows, cuts: Sequence[Cutting]) -> Counted:
        """The counts of ``rows``, whole and by slice."""
        every = Cutting(ALL, (ALL,), np.zeros(self._table.num_rows, np.int32))
        counted = Counted(cuts={ALL: ALL})
        waiting = rows[~self._known[rows]]
        positive = self._positive()
        for cut, found in zip([every, *cuts], self._tally(rows, [every, *cuts]), strict=True):
            size = len(cut.labels)
            w = self._weights[waiting]
            open_rows, *open_weights = (
                np.bincount(cut.codes[waiting], weights=part, minlength=size) for part in (None, w, w * w, w * positive[waiting])
            )
            for at, label in enumerate(cut.labels):
                if label is None or (label not in found and not open_rows[at]):
                    continue
                counted.slices[label] = found.get(label, QualityCounts())
                counted.cuts[label] = cut.title
                if open_rows[at]:
                    counted.waiting[label] = Waiting(float(open_rows[at]), *(float(part[at]) for part in open_weights))
        return counted

    def errors(self, rows: Rows) -> tuple[Rows, Floats]:
        """The labelled of ``rows``, and how wrong each is."""
        rows = rows[self._known[rows]]
        if self._asked.task == "regression":
            rows = rows[np.isfinite(self._errors[rows])]
            return rows, np.abs(self._errors[rows])
        return rows, (~self._right[rows]).astype(np.float64)

    def _positive(self) -> Floats:
        if self._asked.task != "binary":
            return np.zeros(self._table.num_rows)
        found: Floats = (self._p == 1).astype(np.float64)
        return found

    def versions(self, counted: Counted, found: _Matched) -> None:
        """Counts by version, each id once in each; and the rows that two versions both predicted."""
        codes, names, version_codes = found.codes, found.versions, found.version_codes
        size = int(codes.max(initial=-1)) + 1
        together = np.where(codes >= 0, codes * len(names) + version_codes, -1)
        rows = last_of_each(together)
        cut = Cutting("version", tuple(names), version_codes.astype(np.int32))
        (counted.versions,) = self._tally(rows, [cut])
        if len(names) < 2:
            return
        rows = rows[self._known[rows]]
        where = np.full((len(names), max(size, 1)), -1, np.int64)
        where[version_codes[rows], codes[rows]] = rows
        for a in range(len(names)):
            for b in range(a + 1, len(names)):
                both = (where[a] >= 0) & (where[b] >= 0)
                if both.any():
                    first, second = (a, b) if names[a] < names[b] else (b, a)
                    counted.pairs[names[first], names[second]] = self._paired(where[first][both], where[second][both])

    def _paired(self, first: Rows, second: Rows) -> Pairs:
        if self._asked.task == "regression":
            gap = np.abs(self._errors[first]) - np.abs(self._errors[second])
            gap = gap[np.isfinite(gap)]
            return Pairs(float(len(gap)), gap=float(gap.sum()), gap_square=float((gap**2).sum()))
        a, b = self._right[first], self._right[second]
        return Pairs(float(len(a)), float((a & b).sum()), float((a & ~b).sum()), float((~a & b).sum()))

    def custom(self, counted: Counted, rows: Rows, cuts: Sequence[Cutting]) -> dict[str, str]:
        """Adds the custom metrics of ``rows``; answers why those that cannot be computed are not."""
        every = Cutting(ALL, (ALL,), np.zeros(self._table.num_rows, np.int32))
        broken: dict[str, str] = {}
        table = self._table
        if self._asked.custom and self._asked.label not in table.schema.names:
            table = table.append_column(self._asked.label, pa.chunked_array([self._truth]))
        for name, expression in self._asked.custom:
            try:
                values = values_of(table, expression)
            except SchemaError as error:
                broken[name] = str(error)
                continue
            for cut in (every, *cuts):
                sums = np.zeros((len(cut.labels), 7))
                codes = cut.codes[rows][None, :]
                tally.tally_values(values[rows], self._weights[rows], codes, np.zeros(1, np.int64), sums)
                for at, label in enumerate(cut.labels):
                    if label is not None and sums[at, 5:].any():
                        chosen = rows[cut.codes[rows] == at] if len(cut.labels) > 1 else rows
                        chosen = chosen[np.isfinite(values[chosen])]
                        sketch = Sketch.of(values[chosen], self._weights[chosen])
                        counted.custom.setdefault(label, {})[name] = of_sums(sums[at].tolist(), sketch)
        return broken

    # -- tasks

    def _none(self) -> Callable[[Rows, Sequence[Cutting]], list[dict[str, QualityCounts]]]:
        """Without a task there is nothing to be right or wrong about."""
        return lambda rows, cuts: [{} for _ in cuts]

    def _starts(self, cuts: Sequence[Cutting]) -> tuple[Rows, int]:
        sizes = [len(cut.labels) for cut in cuts]
        return np.array([0, *np.cumsum(sizes)[:-1]], np.int64), int(sum(sizes))

    def _split(
        self, cuts: Sequence[Cutting], starts: Rows, rows: Rows, sums: Floats, fill: Callable[[QualityCounts, int], None],
    ) -> list[dict[str, QualityCounts]]:
        names = SUMS[self._asked.task]
        found: list[dict[str, QualityCounts]] = []
        for cut, start in zip(cuts, starts.tolist(), strict=True):
            here: dict[str, QualityCounts] = {}
            for at, label in enumerate(cut.labels):
                slot = start + at
                if label is None or not (rows[slot] or sums[slot].any()):
                    continue
                counts = QualityCounts(rows=int(rows[slot]), **dict(zip(names, sums[slot].tolist(), strict=True)))
                fill(counts, slot)
                here[label] = here[label] + counts if label in here else counts
            found.append(here)
        return found

    def _codes(self, rows: Rows, cuts: Sequence[Cutting]) -> NDArray[np.int32]:
        return np.stack([cut.codes[rows] for cut in cuts])

    def _scores(self) -> Floats | None:
        return floats(flat(self._table, self._asked.score), self._asked.score) if self._asked.score else None

    def _predicted(self) -> Rows:
        if self._asked.prediction is not None:
            return binary(flat(self._table, self._asked.prediction), self._asked.prediction, self._asked.private)
        scores = self._scores()
        if scores is None:
            raise SchemaError("neither columns.prediction nor columns.score is named; quality needs one of them")
        found: Rows = np.where(np.isnan(scores), -1, (scores >= 0.5).astype(np.int64))
        return found

    def _binary(self) -> Callable[[Rows, Sequence[Cutting]], list[dict[str, QualityCounts]]]:
        y, p, scores = binary(self._truth, self._asked.label, self._asked.private), self._predicted(), self._scores()
        self._known &= y >= 0
        y[~self._known] = -1
        self._p, self._right = p, (y >= 0) & (y == p)

        def count(rows: Rows, cuts: Sequence[Cutting]) -> list[dict[str, QualityCounts]]:
            rows = rows[self._known[rows]]
            starts, size = self._starts(cuts)
            sums, counted = np.zeros((size, len(SUMS["binary"]))), np.zeros(size, np.int64)
            grids = np.zeros((size, 3, GRADES if scores is not None else 0))
            picked = scores[rows] if scores is not None else np.zeros(0)
            tally.tally_binary(y[rows], p[rows], picked, self._weights[rows], self._codes(rows, cuts), starts, sums, counted, grids)

            def fill(counts: QualityCounts, slot: int) -> None:
                counts.correct = counts.tp + counts.tn
                if scores is not None:
                    counts.positive, counts.negative, counts.scores = grids[slot].copy()

            return self._split(cuts, starts, counted, sums, fill)

        return count

    def _multiclass(self) -> Callable[[Rows, Sequence[Cutting]], list[dict[str, QualityCounts]]]:
        if self._asked.prediction is None:
            raise SchemaError("columns.prediction is not named; a multiclass task needs it")
        own, others = self._classes(self._truth), self._classes(flat(self._table, self._asked.prediction))
        names = sorted({*own[0], *others[0]})
        if len(names) > MOST_CLASSES:
            raise SchemaError(f"{self._asked.label} and {self._asked.prediction} have {len(names)} classes; {MOST_CLASSES} are the most")
        if (own[1] < len(own[0])).sum() >= ENOUGH and others[0] and not set(own[0]) & set(others[0]) and len(names) > 2:
            shown = "" if {self._asked.label, self._asked.prediction} & self._asked.private else f" ({own[0][0]!r:.40} and {others[0][0]!r:.40}, ..)"
            raise SchemaError(f"no label of {self._asked.label} is a class that {self._asked.prediction} predicts{shown}")
        y, p = (np.append(np.array([names.index(t) for t in texts], np.int64), -1)[codes] for texts, codes in (own, others))
        self._known &= y >= 0
        self._right = self._known & (y == p)
        cells = np.where(self._known & (p >= 0), y * len(names) + p, -1)
        scores = self._scores()

        def count(rows: Rows, cuts: Sequence[Cutting]) -> list[dict[str, QualityCounts]]:
            rows = rows[self._known[rows]]
            starts, size = self._starts(cuts)
            sums, counted = np.zeros((size, len(SUMS["multiclass"]))), np.zeros(size, np.int64)
            matrices = np.zeros((size, len(names) ** 2))
            tally.tally_classes(
                cells[rows], self._right[rows].astype(np.float64), self._weights[rows], self._codes(rows, cuts), starts, sums, counted, matrices
            )

            grids = np.zeros((size, 3, GRADES if scores is not None else 0))
            if scores is not None:  # of the predicted class: what an estimate of the accuracy is learned from
                right = np.where(cells[rows] >= 0, self._right[rows].astype(np.int64), -1)
                unused = np.zeros((size, len(SUMS["binary"]))), np.zeros(size, np.int64)
                codes = self._codes(rows, cuts)
                tally.tally_binary(right, np.ones(len(rows), np.int64), scores[rows], self._weights[rows], codes, starts, *unused, grids)

            def fill(counts: QualityCounts, slot: int) -> None:
                counts.classes, counts.confusion = tuple(names), matrices[slot].reshape(len(names), -1).copy()
                if scores is not None:
                    counts.positive, counts.negative, counts.scores = grids[slot].copy()

            return self._split(cuts, starts, counted, sums, fill)

        return count

    @staticmethod
    def _classes(values: pa.Array) -> tuple[list[str], Rows]:
        """The classes of a column as texts, whole numbers without a fraction, and the place of each row's; the last is none."""
        values = plain(values)
        encoded = values.dictionary_encode()
        texts = category_texts(encoded.dictionary)
        known = [t for t in texts if t is not None and t != "nan"]
        place = np.array([*(known.index(t) if t is not None and t != "nan" else len(known) for t in texts), len(known)], np.int64)
        return known, place[encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)]

    def _regression(self) -> Callable[[Rows, Sequence[Cutting]], list[dict[str, QualityCounts]]]:
        name = self._asked.prediction or self._asked.score
        if name is None:
            raise SchemaError("columns.prediction is not named; a regression needs it")
        predicted, target = floats(flat(self._table, name), name), floats(self._truth, self._asked.label)
        self._known &= np.isfinite(target)
        self._errors = np.where(self._known, predicted - np.where(self._known, target, 0.0), np.nan)
        edges = self._edges(name)

        def count(rows: Rows, cuts: Sequence[Cutting]) -> list[dict[str, QualityCounts]]:
            rows = rows[self._known[rows] & np.isfinite(self._errors[rows])]
            starts, size = self._starts(cuts)
            sums, counted = np.zeros((size, len(SUMS["regression"]))), np.zeros(size, np.int64)
            errors, weights, codes = self._errors[rows], self._weights[rows], self._codes(rows, cuts)
            tally.tally_regression(errors, target[rows], weights, codes, starts, sums, counted)
            known, place = np.unique(cells_of(errors), return_inverse=True)
            bins = np.searchsorted(edges, predicted[rows], side="right") if len(edges) else None
            grids: list[Floats] = []
            for cut, own in zip(cuts, codes, strict=True):
                width = max(len(known), 1)
                flat_counts = np.bincount(own.astype(np.int64) * width + place, weights=weights, minlength=len(cut.labels) * width)
                grids += list(flat_counts.reshape(len(cut.labels), width))

            def fill(counts: QualityCounts, slot: int) -> None:
                used = np.flatnonzero(grids[slot][: len(known)])
                counts.errors = Sketch(known[used], grids[slot][used])
                if bins is not None and slot == 0 and cuts[0].title == ALL:
                    size = len(edges) + 1
                    parts = (weights, weights * np.abs(errors), weights * errors**2)
                    counts.by_bin = np.stack([np.bincount(bins, weights=part, minlength=size) for part in parts], axis=1)

            return self._split(cuts, starts, counted, sums, fill)

        return count

    def _edges(self, name: str) -> Floats:
        binning = self._asked.binning
        column = next((c for c in binning.columns if c.name == name), None) if binning is not None else None
        return np.asarray(column.edges, np.float64) if column is not None and column.kind == "numeric" else np.zeros(0)
