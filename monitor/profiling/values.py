"""Expressions over the rows of a table as numbers: what custom metrics are computed from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from checks.core.errors import SchemaError
from checks.core.expression import Arithmetic, Column, Expression, Literal
from checks.core.expression import columns as columns_of
from monitor.arrow_types import logical_type
from monitor.profiling.joining import flat
from monitor.profiling.masks import NOT_COUNTABLE, Masks

Floats = NDArray[np.float64]


def values_of(table: pa.Table, expression: Expression) -> Floats:
    """The value of each row, 1 and 0 for true and false, NaN where it has none; `SchemaError` says what is missing or of no use."""
    for name in sorted(columns_of(expression)):
        if name not in table.schema.names:
            raise SchemaError(f"the window has no column {name!r}")
    with np.errstate(all="ignore"):
        found = _value(table, expression)
    return np.where(np.isfinite(found), found, np.nan)


def _value(table: pa.Table, expression: Expression) -> Floats:
    match expression:
        case Literal(value) if isinstance(value, (int, float)):
            return np.full(table.num_rows, float(value))
        case Column(name):
            return _numbers(flat(table, name), name)
        case Arithmetic(symbol, left, right):
            a, b = _value(table, left), _value(table, right)
            return a + b if symbol == "+" else a - b if symbol == "-" else a * b if symbol == "*" else a / b
    try:
        types = {field.name: logical_type(field.type) for field in table.schema}
        names = sorted(columns_of(expression)) or table.schema.names[:1]
        batch = pa.RecordBatch.from_arrays([flat(table, name) for name in names], names)
        return Masks(types).of(batch, "custom", expression).astype(np.float64)
    except NOT_COUNTABLE as error:
        raise SchemaError((str(error).splitlines() or [type(error).__name__])[0]) from None


def _numbers(values: pa.Array, name: str) -> Floats:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = logical_type(values.type)
    if kind not in ("number", "integer", "boolean", "null"):
        raise SchemaError(f"{name} is of type {kind}; numbers are needed")
    if kind == "boolean":
        values = values.cast(pa.int8())
    found: Floats = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return found
