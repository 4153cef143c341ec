"""One thread's part of an Arrow scan: accumulators for every column of a plan, filled batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from checks.core.binning import Binning, ColumnBinning
from checks.core.column import ColumnProfile
from checks.core.cross import CrossProducts
from checks.core.outputs import ALL, NO_SCORE, OutputCounts, output_shape
from monitor.profiling import kernel
from monitor.profiling.plan import Plan, private_category
from monitor.profiling.slices import SliceKey, slice_keys, split

CHUNK = 16_384
"""Rows whose standardised values are multiplied at once: 30 columns of them stay in the cache."""

DENSE = 1 << 21
"""Most cells of slices that are counted in an array; more are counted by sorting."""

_NOTHING = np.zeros(0)
_ALL_VALID = np.zeros(0, np.uint8)


def buffers(values: pa.Array, kind: Any) -> tuple[Any, NDArray[np.uint8], int]:
    """The values of a primitive array, its validity bitmap (empty: all valid), and the bit of its first value."""
    validity, data = values.buffers()[:2]
    if not len(values) or data is None:
        return np.zeros(len(values), kind), _ALL_VALID, 0
    raw = np.frombuffer(data, kind)[values.offset : values.offset + len(values)]
    return raw, np.frombuffer(validity, np.uint8) if values.null_count and validity is not None else _ALL_VALID, values.offset


def encoded(values: pa.Array) -> pa.Array:
    """The values dictionary-encoded, with int32 indices."""
    found = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    if found.type.index_type != pa.int32():
        found = pa.DictionaryArray.from_arrays(found.indices.cast(pa.int32()), found.dictionary)
    return found


class Codes:
    """Categories of one column as codes: their place in the binning, then other, then missing."""

    def __init__(self, binning: ColumnBinning, key: bytes) -> None:
        self.binning = binning
        self._known = pa.array(binning.categories, pa.string())
        self._hashed = {c: i for i, c in enumerate(binning.categories) if c.startswith("#")}
        self._key = key
        self._last: tuple[Any, tuple[Any, ...], NDArray[np.int64]] | None = None

    def table(self, dictionary: pa.Array) -> NDArray[np.int64]:
        """The code of each dictionary value."""
        place = (*(b.address if b else 0 for b in dictionary.buffers()), dictionary.offset, len(dictionary))
        if self._last is not None and self._last[1] == place:  # the dictionary is kept, so its address is its own
            return self._last[2]
        other = self.binning.bins
        texts = dictionary.cast(pa.string())
        found = pc.index_in(texts, value_set=self._known) if other else pa.nulls(len(texts), pa.int32())
        codes: NDArray[np.int64] = found.fill_null(other).cast(pa.int64()).to_numpy().copy()
        if self._hashed:
            for at in np.flatnonzero(codes == other):
                text = texts[int(at)].as_py()
                if text is not None:
                    codes[at] = self._hashed.get(private_category(text, self._key), other)
        if texts.null_count:
            codes[texts.is_null().to_numpy(zero_copy_only=False)] = other + 1
        self._last = (dictionary, place, codes)
        return codes

    def rows(self, values: pa.Array) -> NDArray[np.int64]:
        """The code of each row."""
        if pa.types.is_null(values.type):
            return np.full(len(values), self.binning.bins + 1, np.int64)
        coded = encoded(values)
        indices, valid, offset = buffers(coded.indices, np.int32)
        codes = np.empty(len(values), np.int64)
        kernel.translate(indices, valid, offset, self.table(coded.dictionary), self.binning.bins + 1, codes)
        return codes


class Lane:
    """Accumulators of one thread. ``add`` is given record batches, ``columns``, ``cross`` and ``outputs`` what came of them."""

    def __init__(self, plan: Plan, unreadable: Mapping[str, str]) -> None:
        binning: Binning = plan.binning
        self._plan = plan
        self._readable = [c for c in binning.columns if c.name not in unreadable]
        self._numbers = {c.name: kernel.NumberAccumulator(c) for c in binning.columns if c.kind == "numeric"}
        self._codes = {c.name: Codes(c, plan.key) for c in binning.columns if c.kind == "category"}
        self._categories = {c.name: np.zeros(c.bins + 2, np.int64) for c in binning.columns if c.kind == "category"}
        self._texts = {c.name: ColumnProfile.empty(c) for c in binning.columns if c.kind == "text"}
        self._crossed = list(binning.crossed) if plan.cross else []
        self._cross = CrossProducts.empty(len(self._crossed))
        self._standard = np.zeros((len(self._crossed), CHUNK)) if self._crossed else np.zeros((0, 0))
        self._keys: Sequence[SliceKey] = slice_keys(binning, plan.slices)
        self._shape = output_shape(binning)
        self._width = self._shape[0] * self._shape[1] * self._shape[2]
        self._all = np.zeros(self._width, np.int64)
        self._dense = [np.zeros(k.size * self._width, np.int64) if k.size * self._width <= DENSE else None for k in self._keys]
        self._sparse: list[OutputCounts] = [OutputCounts() for _ in self._keys]

    def add(self, batch: pa.RecordBatch) -> None:
        """Count all rows of ``batch``."""
        numbers: dict[str, tuple[Any, NDArray[np.uint8], int]] = {}
        crossed = {c.name for c in self._crossed}
        for column in self._readable:
            values = batch.column(column.name)
            if column.kind == "category":
                self._category(column, values)
            elif column.kind == "text":
                self._text(column, values)
            else:
                found = _floats(values)
                if column.name in crossed:
                    numbers[column.name] = found
                else:
                    self._numbers[column.name].add(*found, _NOTHING)
        if self._crossed:
            for start in range(0, batch.num_rows, CHUNK):
                self._multiply(numbers, start, min(start + CHUNK, batch.num_rows))
        if self._plan.outputs:
            self._outputs(batch)

    def _category(self, column: ColumnBinning, values: pa.Array) -> None:
        total = self._categories[column.name]
        if pa.types.is_null(values.type):
            total[-1] += len(values)
            return
        coded = encoded(values)
        indices, valid, offset = buffers(coded.indices, np.int32)
        counts = np.zeros(len(coded.dictionary) + 1, np.int64)
        kernel.tally(indices, valid, offset, counts)
        np.add.at(total, self._codes[column.name].table(coded.dictionary), counts[:-1])
        total[-1] += counts[-1]

    def _text(self, column: ColumnBinning, values: pa.Array) -> None:
        total = self._texts[column.name]
        if pa.types.is_null(values.type):
            total.nulls += len(values)
            return
        lengths = pc.utf8_length(values.cast(pa.large_string()))
        total.nulls += lengths.null_count
        total.total += float(pc.sum(lengths).as_py() or 0)
        total.other += int(pc.sum(pc.equal(lengths, 0)).as_py() or 0)

    def _multiply(self, numbers: Mapping[str, tuple[Any, NDArray[np.uint8], int]], start: int, stop: int) -> None:
        rows = stop - start
        standard = self._standard[:, :rows]
        gaps = False
        for index, column in enumerate(self._crossed):
            if column.name in numbers:
                values, valid, offset = numbers[column.name]
                gaps |= self._numbers[column.name].add(values[start:stop], valid, offset + start, standard[index]) > 0
            else:
                standard[index] = 0.0
                gaps = True
        with np.errstate(over="ignore", invalid="ignore"):
            self._products(numbers, standard, start, stop, gaps)

    def _products(
        self, numbers: Mapping[str, tuple[Any, NDArray[np.uint8], int]], standard: NDArray[np.float64], start: int, stop: int,
        gaps: bool,
    ) -> None:
        rows = stop - start
        products = standard @ standard.T
        if not gaps:
            sums = np.repeat(standard.sum(axis=1)[:, None], len(standard), axis=1)
            self._cross += CrossProducts(np.full(products.shape, rows, np.int64), sums, products)
            return
        there = np.zeros(standard.shape)
        for index, column in enumerate(self._crossed):
            if column.name in numbers:
                values, valid, offset = numbers[column.name]
                kernel.present(values[start:stop], valid, offset + start, there[index])
        self._cross += CrossProducts((there @ there.T).astype(np.int64), standard @ there.T, products)

    def _outputs(self, batch: pa.RecordBatch) -> None:
        binning = self._plan.binning
        cells = np.zeros(batch.num_rows, np.int64)
        readable = {c.name for c in self._readable}
        score, prediction, label = (binning.of_role(role) for role in ("score", "prediction", "label"))
        classes, labels = self._shape[1:]
        if score is not None:
            if score.name in readable:
                kernel.score_bins(*_floats(batch.column(score.name)), classes * labels, cells)
            else:
                cells += classes * labels * NO_SCORE
        for column, size, width in ((prediction, classes, labels), (label, labels, 1)):
            if column is None or size == 1:
                continue
            if column.name in readable:
                cells += width * self._codes[column.name].rows(batch.column(column.name))
            else:
                cells += width * (size - 1)
        self._all += np.bincount(cells, minlength=self._width)
        for index, key in enumerate(self._keys):
            slices = self._slices(key, batch, readable)
            dense = self._dense[index]
            if dense is not None:
                kernel.tally_slices(slices, cells, self._width, dense)
            else:
                places, counts = np.unique(slices * self._width + cells, return_counts=True)
                self._sparse[index] += OutputCounts(places, counts.astype(np.int64))

    def _slices(self, key: SliceKey, batch: pa.RecordBatch, readable: set[str]) -> NDArray[np.int64]:
        slices = np.zeros(batch.num_rows, np.int64)
        for index, column in enumerate(key.columns):
            names = len(key.names[index])
            if column.name in readable:
                places = np.array([key.place(index, code) for code in range(column.bins + 2)], np.int64)
                slices = slices * names + places[self._codes[column.name].rows(batch.column(column.name))]
            else:
                slices = slices * names + names - 1
        return slices

    # -- what came of it

    def columns(self, unreadable: Mapping[str, str]) -> dict[str, ColumnProfile]:
        """The profile of every column; an unreadable one is empty."""
        found = {}
        for column in self._plan.binning.columns:
            if column.name in unreadable:
                found[column.name] = ColumnProfile.empty(column)
            elif column.kind == "numeric":
                found[column.name] = self._numbers[column.name].profile()
            elif column.kind == "category":
                counts = self._categories[column.name]
                found[column.name] = ColumnProfile(counts[:-2].copy(), np.zeros(0), nulls=int(counts[-1]), other=int(counts[-2]))
            else:
                found[column.name] = self._texts[column.name]
        return found

    @property
    def cross(self) -> CrossProducts | None:
        """The cross products of the plan; None where it takes none."""
        return self._cross if self._plan.cross else None

    def outputs(self) -> dict[str, OutputCounts]:
        """Counts of the whole and of every slice that has rows."""
        if not self._plan.outputs:
            return {}
        found = {ALL: OutputCounts.of(self._all)}
        for key, dense, sparse in zip(self._keys, self._dense, self._sparse, strict=True):
            counted = OutputCounts.of(dense) if dense is not None else sparse
            found.update(split(key, counted, self._width))
        return found


def _floats(values: pa.Array) -> tuple[Any, NDArray[np.uint8], int]:
    if pa.types.is_null(values.type):
        return np.zeros(len(values)), np.zeros(len(values) // 8 + 1, np.uint8), 0
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return buffers(values if values.type == pa.float64() else values.cast(pa.float64(), safe=False), np.float64)
