"""The streamed Arrow executor: record batches in, one profile out, bounded memory whatever the size of the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from checks.core.errors import SourceError
from checks.core.expression import Expression
from checks.core.expression import columns as columns_of
from checks.core.profile import Profile
from monitor.arrow_types import logical_type, to_micros
from monitor.profiling import kernel
from monitor.profiling.lanes import Lane, buffers, encoded
from monitor.profiling.lower import lower, patterns
from monitor.profiling.masks import NOT_COUNTABLE, Mask, Masks, in_python
from monitor.profiling.nested import Nested
from monitor.profiling.plan import Plan, unreadable_columns
from monitor.profiling.shortcuts import FEW, Ranges, flags

THREADS = 2
SMALL = 20_000
"""Batches below so many rows are counted by one thread."""


class Executor:
    """Runs a plan over batches.

    ``failed`` says, after a scan, which rules could not be counted and why; ``unreadable`` which columns of the binning
    are missing or of a type that cannot be binned.
    """

    def __init__(self, plan: Plan, types: Mapping[str, str]) -> None:
        self._plan = plan
        self._types = {**types, **plan.nested} if plan.nested else types
        self._masks = Masks(self._types)
        self._asked: dict[str, tuple[pa.Array, dict[str, Mask]]] = {}
        self.failed: dict[str, str] = {}
        self.unreadable = unreadable_columns(plan, types)
        self._rule_columns = {rule: sorted(columns_of(e)) for rule, e in plan.rules.items()}

    def scan(self, batches: Iterable[pa.RecordBatch]) -> Profile:
        """The profile of all rows of ``batches``."""
        total = Profile.empty(self._plan.binning)
        total.rules = dict.fromkeys(self._plan.rules, 0)
        lanes: list[Lane] = []
        with ThreadPoolExecutor(THREADS, "driftd-scan") as pool:
            for batch in batches:
                try:
                    self._add(batch, total, lanes, pool)
                except UnicodeDecodeError:
                    raise SourceError(f"column {_not_utf8(batch)}: it holds text that is not UTF-8") from None
        for lane in lanes or [Lane(self._plan, self.unreadable)]:
            total = total + Profile(self._plan.binning, 0, lane.columns(self.unreadable), outputs=lane.outputs())
            if lane.cross is not None:
                total.cross = lane.cross if total.cross is None else total.cross + lane.cross
        return total

    def _add(self, batch: pa.RecordBatch, total: Profile, lanes: list[Lane], pool: ThreadPoolExecutor) -> None:
        parts = _halves(batch)
        while len(lanes) < len(parts):
            lanes.append(Lane(self._plan, self.unreadable))
        if len(parts) == 1:
            lanes[0].add(batch)
            self._rest(batch, total)
            return
        jobs = [pool.submit(lane.add, part) for lane, part in zip(lanes, parts, strict=True)]
        try:
            self._rest(batch, total)
        finally:
            for job in jobs:
                job.result()

    def _rest(self, batch: pa.RecordBatch, total: Profile) -> None:
        total.rows += batch.num_rows
        if self._plan.version and self._plan.version in batch.schema.names:
            for item in pc.value_counts(batch.column(self._plan.version)).to_pylist():
                name = "" if item["values"] is None else str(item["values"])
                total.versions[name] = total.versions.get(name, 0) + int(item["counts"])
        if self._plan.timestamp:
            micros = to_micros(batch.column(self._plan.timestamp), self._plan.timestamp)
            ends = pc.min_max(micros).as_py()
            if ends["min"] is not None:
                total.first = ends["min"] if total.first is None else min(total.first, ends["min"])
                total.last = ends["max"] if total.last is None else max(total.last, ends["max"])
        for rule, count in self._rules(batch).items():
            total.rules[rule] += count

    # -- rules

    def _rules(self, batch: pa.RecordBatch) -> dict[str, int]:
        """Rows that each rule counts; a rule on one dictionary column is asked of the dictionary, not of the rows."""
        found: dict[str, int] = {}
        plain: dict[str, Expression] = {}
        coded: dict[str, dict[str, Expression]] = {}
        inner: dict[str, Expression] = {}
        ranges = Ranges(dict(zip(batch.schema.names, batch.columns, strict=True)))
        for rule, expression in self._plan.rules.items():
            if rule in self.failed:
                continue
            if self._plan.inside(expression, batch.schema.names):
                inner[rule] = expression
                continue
            names = self._rule_columns[rule]
            known = ranges.count(expression) if set(names) <= set(batch.schema.names) else None
            if known is not None:
                found[rule] = known
                continue
            if len(names) == 1 and names[0] in batch.schema.names and pa.types.is_dictionary(batch.column(names[0]).type):
                coded.setdefault(names[0], {})[rule] = expression
            else:
                plain[rule] = expression
        for name, expressions in coded.items():
            column = encoded(batch.column(name))
            counts = np.zeros(len(column.dictionary) + 1, np.int64)
            kernel.tally(*buffers(column.indices, np.int32), counts)
            for rule, true in self._truths(name, column.dictionary, expressions).items():
                found[rule] = int(counts[true].sum())
        if plain:
            wanted = [n for n in dict.fromkeys(n for rule in plain for n in self._rule_columns[rule]) if n in batch.schema.names]
            if not wanted and batch.num_columns:
                wanted = [batch.schema.names[0]]
            arrays = [batch.column(n) for n in wanted]
            flat = [a.dictionary_decode() if pa.types.is_dictionary(a.type) else a for a in arrays]
            found |= self._count_all(pa.table(dict(zip(wanted, flat, strict=True))), plain)
        return found | self._inner(batch, inner)

    def _truths(self, name: str, dictionary: pa.Array, rules: Mapping[str, Expression]) -> dict[str, Mask]:
        """Which values of a dictionary, and null as the last, each rule counts; asked once of dictionaries that are equal."""
        known = self._asked.get(name)
        if known is not None and known[0].equals(dictionary):
            return known[1]
        values = pa.concat_arrays([dictionary, pa.nulls(1, dictionary.type)])
        texts = values.to_pylist() if len(values) <= FEW and pa.types.is_string(values.type) else None
        table = pa.RecordBatch.from_arrays([values], [name])
        truths: dict[str, Mask] = {}
        for rule, expression in rules.items():
            plain = flags(expression, name, texts) if texts is not None else None
            try:
                truths[rule] = np.array(plain, bool) if plain is not None else self._masks.of(table, rule, expression)
            except NOT_COUNTABLE as error:
                self.failed[rule] = (str(error).splitlines() or [type(error).__name__])[0]
        self._asked[name] = dictionary, truths
        return truths

    def _inner(self, batch: pa.RecordBatch, rules: Mapping[str, Expression]) -> dict[str, int]:
        """Rows with a nested value that a rule counts."""
        found = {}
        nested = Nested(batch, self._types)
        for rule, expression in rules.items():
            try:
                found[rule] = int(self._masks.of(batch, rule, expression, nested).sum())
            except NOT_COUNTABLE as error:
                self.failed[rule] = (str(error).splitlines() or [type(error).__name__])[0]
        return found

    def _count_all(self, table: pa.Table, pending: Mapping[str, Expression]) -> dict[str, int]:
        frame = nw.from_native(table, eager_only=True)
        names = {rule: f"r{index}" for index, rule in enumerate(pending)}
        try:
            return self._select(frame, {rule: self._flag(e, table, rule) for rule, e in pending.items()}, names)
        except NOT_COUNTABLE:
            return self._one_by_one(frame, table, pending, names)

    @staticmethod
    def _select(frame: Any, flags: Mapping[str, nw.Expr], names: Mapping[str, str]) -> dict[str, int]:
        row = frame.select(*(flag.sum().alias(names[rule]) for rule, flag in flags.items()))
        return {rule: int(row[names[rule]][0] or 0) for rule in flags}

    def _one_by_one(
        self, frame: Any, table: pa.Table, pending: Mapping[str, Expression], names: Mapping[str, str],
    ) -> dict[str, int]:
        counts: dict[str, int] = {}
        for rule, expression in pending.items():
            for attempt in ("engine", "python"):
                if attempt == "python":
                    if not patterns(expression):
                        break
                    self._masks.python.add(rule)
                try:
                    counts |= self._select(frame, {rule: self._flag(expression, table, rule)}, names)
                except NOT_COUNTABLE as error:
                    self.failed[rule] = (str(error).splitlines() or [type(error).__name__])[0]
                    continue
                self.failed.pop(rule, None)
                break
        return counts

    def _flag(self, expression: Expression, table: pa.Table, rule: str) -> nw.Expr:
        """1 for the rows that the rule counts, else 0."""
        if rule in self._masks.python:
            expression = in_python(expression, table)
        return nw.when(lower(expression, self._types)).then(1).otherwise(0)


def _halves(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    if batch.num_rows < SMALL:
        return [batch]
    middle = batch.num_rows // THREADS // 8 * 8
    return [batch.slice(0, middle), batch.slice(middle)]


def category_texts(values: pa.Array) -> list[str | None]:
    """Category values as texts: booleans as true and false, whole numbers in decimal."""
    return [
        None if v is None else ("true" if v else "false") if isinstance(v, bool) else v if isinstance(v, str) else str(v)
        for v in values.to_pylist()
    ]


__all__ = ["Executor", "category_texts", "logical_type", "unreadable_columns"]


def _not_utf8(batch: pa.RecordBatch) -> str:
    """The column of a batch whose texts are not UTF-8, as a reader that does not look may hand them out."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            return str(name)
    return "(unknown)"
