"""Which rows of a batch a predicate is true of: for nested values, for patterns that an engine cannot run, for samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from checks.core.expression import Expression
from checks.core.expression import columns as columns_of
from monitor.profiling.lower import PatternTimeout, lower, matching, patterns, replace_matches
from monitor.profiling.nested import Nested, prefix_of

NOT_COUNTABLE = (
    nw.exceptions.NarwhalsError, pa.ArrowException, TypeError, ValueError, NotImplementedError, AttributeError, LookupError, ArithmeticError,
    re.error, PatternTimeout,
)
"""What an engine raises for a predicate that it cannot run; the rule alone is then reported as error."""

Mask = NDArray[np.bool_]


class Masks:
    """Evaluates predicates on batches.

    ``types`` are the logical types of columns and paths; ``python`` names the rules whose patterns the engine refused.
    """

    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = types
        self.python: set[str] = set()

    def of(self, batch: pa.RecordBatch, rule: str, expression: Expression, nested: Nested | None = None) -> Mask:
        """True for each row of ``batch`` that the rule counts: with elements, for each that holds such an element."""
        table, parents = self._table(batch, expression, nested)
        flags = self._flags(table, rule, expression)
        if parents is None:
            return flags
        found = np.zeros(batch.num_rows, np.bool_)
        found[parents[flags]] = True
        return found

    def _table(self, batch: pa.RecordBatch, expression: Expression, nested: Nested | None) -> tuple[pa.Table, Any]:
        names = sorted(columns_of(expression)) or batch.schema.names[:1]
        prefix = max((prefix_of(n) for n in names if n not in batch.schema.names), key=len, default="")
        return (nested or Nested(batch, self._types)).table(names, prefix)

    def _flags(self, table: pa.Table, rule: str, expression: Expression) -> Mask:
        if rule not in self.python:
            try:
                return self._evaluate(table, expression)
            except NOT_COUNTABLE:
                if not patterns(expression):
                    raise
                self.python.add(rule)
        return self._evaluate(table, in_python(expression, table))

    def _evaluate(self, table: pa.Table, expression: Expression) -> Mask:
        flag = nw.when(lower(expression, self._types)).then(1).otherwise(0).alias("flag")
        values = nw.from_native(table, eager_only=True).select(flag)["flag"].to_numpy()
        return np.broadcast_to(np.asarray(values) == 1, (table.num_rows,))


def in_python(expression: Expression, table: pa.Table) -> Expression:
    """``expression`` with its patterns searched by Python, once per different text."""
    known = {}
    for found in patterns(expression):
        texts = table.column(getattr(found.term, "name", "")).unique().to_pylist()
        known[found] = tuple(matching(texts, found.pattern))
    return replace_matches(expression, known)
