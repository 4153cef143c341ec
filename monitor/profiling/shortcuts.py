"""Rules that need no engine: small windows have thousands of them, and an engine's query costs more than the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from checks.core.expression import And, Column, Compare, Expression, InSet, IsNaN, IsNull, Literal, Not, Or

FEW = 1000
"""Dictionary values up to which a rule is asked of each in Python."""


class Ranges:
    """What is known of the columns of one batch without looking at rows: nulls, NaNs, extremes; each computed once."""

    def __init__(self, columns: Mapping[str, pa.Array]) -> None:
        self._columns = columns
        self._ends: dict[str, tuple[Any, Any] | None] = {}
        self._nans: dict[str, int] = {}

    def count(self, expression: Expression) -> int | None:
        """How many rows ``expression`` is true of, where that can be told; else None."""
        match expression:
            case IsNull(Column(name)):
                values = self._columns.get(name)
                return None if values is None or pa.types.is_dictionary(values.type) else values.null_count
            case IsNaN(Column(name)):
                return self._nan(name)
            case Compare(symbol, Column(name), Literal(value)) if isinstance(value, (int, float)) and not isinstance(value, bool):
                return self._never(name, symbol, value)
            case And(terms):
                return 0 if any(self.count(term) == 0 for term in terms) else None
            case Or(terms):
                return self._either([self.count(term) for term in terms])
        return None

    @staticmethod
    def _either(counts: list[int | None]) -> int | None:
        some = [count for count in counts if count != 0]
        return 0 if not some else some[0] if len(some) == 1 else None

    def _nan(self, name: str) -> int | None:
        if name not in self._columns or pa.types.is_dictionary(self._columns[name].type):
            return None
        if name not in self._nans:
            values = self._columns[name]
            self._nans[name] = (pc.sum(pc.is_nan(values)).as_py() or 0) if pa.types.is_floating(values.type) else 0
        return self._nans[name]

    def _never(self, name: str, symbol: str, value: float) -> int | None:
        """0 when no value of the column can compare so; NaN compares with nothing but ``<>``."""
        if name not in self._ends:
            values = self._columns.get(name)
            plain = values is not None and (pa.types.is_floating(values.type) or pa.types.is_integer(values.type))
            found = pc.min_max(values).as_py() if plain else None
            self._ends[name] = (found["min"], found["max"]) if found else None
        ends = self._ends[name]
        if ends is None:
            return None
        low, high = ends
        if low is None:
            return 0  # null in every row
        if low != low or high != high:
            return None
        outside = {"<": low >= value, "<=": low > value, ">": high <= value, ">=": high < value, "=": value < low or value > high}
        return 0 if outside.get(symbol, False) else None


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
