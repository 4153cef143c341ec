"""The streamed Arrow executor: record batches in, one profile out, bounded memory whatever the size of the files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from checks.core.expression import Expression
from checks.core.profile import ColumnBinning, ColumnProfile, Profile
from monitor.arrow_types import logical_type, to_micros
from monitor.profiling.kernel import profile_numbers
from monitor.profiling.lower import lower, matching, patterns, replace_matches
from monitor.profiling.plan import Plan, private_category

_NOT_COUNTABLE = (
    nw.exceptions.NarwhalsError, pa.ArrowException, TypeError, ValueError, NotImplementedError, AttributeError, re.error,
)
"""What an engine raises for a predicate that it cannot run; the rule alone is then reported as error."""


class Executor:
    """Runs a plan over batches.

    ``failed`` says, after a scan, which rules could not be counted and why; ``unreadable`` which columns of the binning
    are missing or of a type that cannot be binned.
    """

    def __init__(self, plan: Plan, types: Mapping[str, str]) -> None:
        self._plan = plan
        self._types = types
        self._codes = {c.name: _code_table(c) for c in plan.binning.columns if c.kind == "category"}
        self._python: set[str] = set()
        self.failed: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}
        for column in plan.binning.columns:
            actual = types.get(column.name)
            if types and actual is None:
                self.unreadable[column.name] = "the column is missing"
            elif actual is not None and not _fits(column, actual):
                self.unreadable[column.name] = f"the column is of type {actual}, the reference had {column.kind} values"

    def scan(self, batches: Iterable[pa.RecordBatch]) -> Profile:
        """The profile of all rows of ``batches``."""
        total = Profile.empty(self._plan.binning)
        total.rules = dict.fromkeys(self._plan.rules, 0)
        for batch in batches:
            self._batch(batch, total)
        return total

    def _batch(self, batch: pa.RecordBatch, total: Profile) -> None:
        total.rows += batch.num_rows
        for column in self._plan.binning.columns:
            if column.name not in self.unreadable:
                total.columns[column.name] += self._column(column, batch.column(column.name))
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

    def _column(self, binning: ColumnBinning, values: pa.Array) -> ColumnProfile:
        if pa.types.is_null(values.type):
            return _only_nulls(binning, len(values))
        if binning.kind == "numeric":
            nulls = values.null_count
            numbers = (values.drop_null() if nulls else values).cast(pa.float64(), safe=False)
            profile = profile_numbers(binning, numbers.to_numpy(zero_copy_only=False))
            profile.nulls = nulls
            return profile
        if binning.kind == "category":
            return self._categories(binning, values)
        profile = ColumnProfile.empty(binning)
        profile.nulls = values.null_count
        lengths = pc.utf8_length(values.cast(pa.large_string()))
        profile.total = float(pc.sum(lengths).as_py() or 0)
        profile.other = int(pc.sum(pc.equal(lengths, 0)).as_py() or 0)
        return profile

    def _categories(self, binning: ColumnBinning, values: pa.Array) -> ColumnProfile:
        profile = ColumnProfile.empty(binning)
        encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
        indices = encoded.indices
        profile.nulls = indices.null_count
        used = indices.drop_null().to_numpy(zero_copy_only=False)
        counts = np.bincount(used, minlength=len(encoded.dictionary)) if len(used) else np.zeros(0, np.int64)
        table, hashed = self._codes[binning.name]
        for text, count in zip(category_texts(encoded.dictionary), counts.tolist(), strict=False):
            if not count:
                continue
            if text is None:
                profile.nulls += count
                continue
            code = table.get(text)
            if code is None and hashed:
                code = table.get(private_category(text, self._plan.key))
            if code is None:
                profile.other += count
            else:
                profile.counts[code] += count
        return profile

    def _rules(self, batch: pa.RecordBatch) -> dict[str, int]:
        pending = {rule: e for rule, e in self._plan.rules.items() if rule not in self.failed}
        if not pending:
            return {}
        frame = nw.from_native(pa.Table.from_batches([batch]), eager_only=True)
        names = {rule: f"r{index}" for index, rule in enumerate(pending)}
        try:
            row = frame.select(*(self._count(e, names[rule], batch, rule) for rule, e in pending.items()))
            return {rule: int(row[name][0] or 0) for rule, name in names.items()}
        except _NOT_COUNTABLE:
            return self._one_by_one(frame, pending, names, batch)

    def _one_by_one(
        self, frame: Any, pending: Mapping[str, Expression], names: Mapping[str, str], batch: pa.RecordBatch,
    ) -> dict[str, int]:
        counts: dict[str, int] = {}
        for rule, expression in pending.items():
            for attempt in ("engine", "python"):
                if attempt == "python":
                    if not patterns(expression):
                        break
                    self._python.add(rule)
                try:
                    row = frame.select(self._count(expression, names[rule], batch, rule))
                except _NOT_COUNTABLE as error:
                    self.failed[rule] = (str(error).splitlines() or [type(error).__name__])[0]
                    continue
                counts[rule] = int(row[names[rule]][0] or 0)
                self.failed.pop(rule, None)
                break
        return counts

    def _count(self, expression: Expression, name: str, batch: pa.RecordBatch, rule: str) -> nw.Expr:
        if rule in self._python:
            known = {}
            for found in patterns(expression):
                texts = batch.column(getattr(found.term, "name", "")).unique().to_pylist()
                known[found] = tuple(matching(texts, found.pattern))
            expression = replace_matches(expression, known)
        return nw.when(lower(expression, self._types)).then(1).otherwise(0).sum().alias(name)


def category_texts(values: pa.Array) -> list[str | None]:
    """Category values as texts: booleans as true and false, whole numbers in decimal."""
    return [
        None if v is None else ("true" if v else "false") if isinstance(v, bool) else v if isinstance(v, str) else str(v)
        for v in values.to_pylist()
    ]


def _code_table(column: ColumnBinning) -> tuple[dict[str, int], bool]:
    table = {category: code for code, category in enumerate(column.categories)}
    return table, any(category.startswith("#") for category in column.categories)


def _fits(column: ColumnBinning, actual: str) -> bool:
    if actual == "null":
        return True
    if column.kind == "numeric":
        return actual in ("number", "integer")
    if column.kind == "text":
        return actual == "string"
    return actual in ("string", "boolean", "integer")


def _only_nulls(binning: ColumnBinning, rows: int) -> ColumnProfile:
    profile = ColumnProfile.empty(binning)
    profile.nulls = rows
    return profile


__all__ = ["Executor", "category_texts", "logical_type"]
