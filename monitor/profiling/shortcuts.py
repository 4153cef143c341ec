"""Rules that need no engine: small windows have thousands of them, and an engine's query costs more than the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from checks.core.expression import And, Column, Compare, Expression, InSet, IsNaN, IsNull, Literal, Not, Or

FEW = 1000
"""Dictionary values up to which a rule is asked of each in Python."""

EXACT = 2**53
"""Whole numbers up to which a double is exact."""

_NUMPY: dict[str, Any] = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "=": np.equal}


class Ranges:
    """What plain rules on the columns of one batch count, without an engine: nulls, NaNs, comparisons with a number."""

    def __init__(self, columns: Mapping[str, pa.Array]) -> None:
        self._columns = columns
        self._nans: dict[str, int] = {}
        self._numbers: dict[str, tuple[NDArray[Any], NDArray[np.bool_] | None]] = {}

    def count(self, expression: Expression) -> int | None:
        """How many rows ``expression`` is true of, where that can be told; else None."""
        match expression:
            case IsNull(Column(name)):
                values = self._columns.get(name)
                return None if values is None or pa.types.is_dictionary(values.type) else values.null_count
            case IsNaN(Column(name)):
                return self._nan(name)
            case Compare(symbol, Column(name), Literal(value)) if isinstance(value, (int, float)) and not isinstance(value, bool):
                return self._compared(name, symbol, value)
            case Or((IsNaN(Column(name)) | IsNull(Column(name)), (Compare(_, Column(other)) | IsNaN(Column(other))) as term)) if name == other:
                return self._apart(expression.terms[0], term)
            case And(terms):
                return 0 if any(self.count(term) == 0 for term in terms) else None
            case Or(terms):
                return self._either([self.count(term) for term in terms])
        return None

    def _apart(self, one: Expression, other: Expression) -> int | None:
        """Of terms that no row satisfies both: null, NaN, and a comparison of the same column."""
        if isinstance(other, Compare) and other.operator == "<>":
            return None
        counts = [self.count(one), self.count(other)]
        return None if counts[0] is None or counts[1] is None else counts[0] + counts[1]

    @staticmethod
    def _either(counts: list[int | None]) -> int | None:
        some = [count for count in counts if count != 0]
        return 0 if not some else some[0] if len(some) == 1 else None

    def _nan(self, name: str) -> int | None:
        if name not in self._columns or pa.types.is_dictionary(self._columns[name].type):
            return None
        if name not in self._nans:
            values = self._columns[name]
            self._nans[name] = self._count_nans(name) if pa.types.is_floating(values.type) else 0
        return self._nans[name]

    def _count_nans(self, name: str) -> int:
        numbers, valid = self._plain(name)
        with np.errstate(invalid="ignore", over="ignore"):
            if not np.isnan(numbers.sum()):  # one NaN makes the sum one
                return 0
        nan = np.isnan(numbers)
        return int(np.count_nonzero(nan if valid is None else nan & valid))

    def _compared(self, name: str, symbol: str, value: float) -> int | None:
        """How many values of a plain column of numbers compare so; NaN compares with nothing but ``<>``."""
        values = self._columns.get(name)
        if values is None or symbol not in _NUMPY or not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
            return None
        if values.null_count == len(values):
            return 0
        if abs(value) > EXACT and pa.types.is_integer(values.type):
            return None
        numbers, valid = self._plain(name)
        found = _NUMPY[symbol](numbers, value)
        return int(np.count_nonzero(found if valid is None else found & valid))

    def _plain(self, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The values as they lie in memory, and which of them are no null."""
        if name not in self._numbers:
            values = self._columns[name]
            kind = values.type.to_pandas_dtype()
            numbers = np.frombuffer(values.buffers()[1], kind)[values.offset : values.offset + len(values)]
            if pa.types.is_floating(values.type) and kind is not np.float64:
                numbers = numbers.astype(np.float64)  # else numpy would round the bound to the column's type
            self._numbers[name] = numbers, values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else None
        return self._numbers[name]


def flags(expression: Expression, name: str, values: list[Any]) -> list[bool] | None:
    """Whether ``expression`` is true of each text of column ``name``; None where that takes an engine."""
    if len(values) > FEW or not _plain(expression, name):
        return None
    return [_truth(expression, value) is True for value in values]


def _plain(expression: Expression, name: str) -> bool:
    match expression:
        case IsNull(Column(column)):
            return column == name
        case InSet(Column(column), texts):
            return column == name and all(isinstance(text, str) for text in texts)
        case Compare("=" | "<>", Column(column), Literal(text)):
            return column == name and isinstance(text, str)
        case And(terms) | Or(terms):
            return all(_plain(term, name) for term in terms)
        case Not(term):
            return _plain(term, name)
    return False


def _truth(expression: Expression, value: Any) -> bool | None:
    """True, false, or None for unknown, as SQL has it."""
    match expression:
        case IsNull():
            return value is None
        case InSet(_, texts):
            return None if value is None else value in texts
        case Compare(symbol, _, Literal(text)):
            return None if value is None else (value == text) is (symbol == "=")
        case And(terms):
            found = [_truth(term, value) for term in terms]
            return False if False in found else None if None in found else True
        case Or(terms):
            found = [_truth(term, value) for term in terms]
            return True if True in found else None if None in found else False
        case Not(term):
            inner = _truth(term, value)
            return None if inner is None else not inner
    raise TypeError(expression)
