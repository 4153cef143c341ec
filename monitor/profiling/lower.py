"""Expressions lowered to narwhals; nowhere else."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from typing import Any

import narwhals as nw

from checks.core.expression import (
    And,
    Arithmetic,
    Column,
    Compare,
    Expression,
    InSet,
    IsNaN,
    IsNull,
    Later,
    Length,
    Literal,
    Matches,
    MultipleOf,
    Not,
    Or,
    columns,
)
from monitor.clock import stopwatch

PATTERN_SECONDS = 10.0
"""How long a pattern may search the texts of one batch."""

WHOLE = 4503599627370496.0
"""From here on, 2 to the 52, every double is a whole number."""

LARGEST = 1.7976931348623157e308
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}


def lower(expression: Expression, types: Mapping[str, str]) -> nw.Expr:
    """The narwhals expression; ``types`` are the logical types of the columns."""
    match expression:
        case Column(name):
            return nw.col(name)
        case Literal(value):
            return nw.lit(value)
        case Compare(symbol, left, right):
            low, high = _temporal(left, right, types)
            compared: nw.Expr = _OPERATORS[symbol](low, high)
            return compared
        case Arithmetic(symbol, left, right):
            computed: nw.Expr = _OPERATORS[symbol](lower(left, types), lower(right, types))
            return computed
        case And(terms):
            return reduce(operator.and_, (lower(term, types) for term in terms))
        case Or(terms):
            return reduce(operator.or_, (lower(term, types) for term in terms))
        case Not(term):
            return ~lower(term, types)
        case IsNull(term):
            return lower(term, types).is_null()
        case IsNaN(term):
            if isinstance(term, Column) and types.get(term.name) != "number":
                return nw.col(term.name).is_null() & nw.lit(False)  # of as many rows as the others
            return lower(term, types).cast(nw.Float64).is_nan().fill_null(False)
        case InSet(term, ()):
            return lower(term, types).is_null() & nw.lit(False)
        case InSet(term, values):
            return lower(term, types).is_in(list(values))
        case Matches(term, pattern):
            return lower(term, types).str.contains(pattern)
        case Length(term):
            return lower(term, types).str.len_chars()
        case MultipleOf(term, step):
            return _multiple(term, step, types)
        case Later(left, right, seconds):
            return (lower(left, types) - lower(right, types)) > nw.lit(timedelta(seconds=seconds))


def _multiple(term: Expression, step: float, types: Mapping[str, str]) -> nw.Expr:
    value = lower(term, types)
    if isinstance(term, Column) and types.get(term.name) == "integer" and step == int(step):
        whole: nw.Expr = value % int(step) == 0
        return whole
    times = value.cast(nw.Float64) / step
    size = times.abs()
    near = (times - times.round(0)).abs() <= size * 1e-15 + 1e-9
    return nw.when(size < WHOLE).then(near).otherwise(size <= LARGEST)  # some engines round into whole numbers of 64 bits


def _temporal(left: Expression, right: Expression, types: Mapping[str, str]) -> tuple[Any, Any]:
    """Both sides of a comparison; an ISO text beside a date or time column is read as one."""
    sides = [lower(left, types), lower(right, types)]
    for index, (one, other) in enumerate(((left, right), (right, left))):
        if isinstance(one, Literal) and isinstance(one.value, str) and isinstance(other, Column):
            kind = types.get(other.name)
            if kind == "date":
                sides[index] = nw.lit(date.fromisoformat(one.value[:10]))
            elif kind == "timestamp":
                moment = datetime.fromisoformat(one.value)
                sides[index] = nw.lit(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return sides[0], sides[1]


class PatternTimeout(Exception):
    """A pattern took too long on one text."""


def matching(values: list[Any], pattern: str) -> list[Any]:
    """The texts in which ``pattern`` is found: for patterns that an engine cannot run. `PatternTimeout` for one that does
    not end."""
    import regex

    compiled, began = regex.compile(pattern), stopwatch()
    found = []
    for value in values:
        left = PATTERN_SECONDS - (stopwatch() - began)
        try:
            if isinstance(value, str) and compiled.search(value, timeout=max(left, 0.001)):
                found.append(value)
        except TimeoutError:
            text = f"the pattern {pattern!r} took longer than {PATTERN_SECONDS:g} s, last on a text of {len(value)} characters"
            raise PatternTimeout(text) from None
    return found


def patterns(expression: Expression) -> list[Matches]:
    """Every pattern match inside ``expression``."""
    match expression:
        case Matches():
            return [expression]
        case And(terms) | Or(terms):
            return [found for term in terms for found in patterns(term)]
        case Not(term) | IsNull(term) | IsNaN(term) | InSet(term) | Length(term) | MultipleOf(term):
            return patterns(term)
        case Compare(_, left, right) | Arithmetic(_, left, right) | Later(left, right):
            return patterns(left) + patterns(right)
    return []


def replace_matches(expression: Expression, known: Mapping[Matches, tuple[Any, ...]]) -> Expression:
    """``expression`` with each pattern match replaced by membership among the texts that match."""
    match expression:
        case Matches(term) if expression in known:
            return InSet(term, known[expression])
        case And(terms):
            return And(tuple(replace_matches(term, known) for term in terms))
        case Or(terms):
            return Or(tuple(replace_matches(term, known) for term in terms))
        case Not(term):
            return Not(replace_matches(term, known))
    return expression


def without_nan(expression: Expression, types: Mapping[str, str]) -> Expression:
    """``expression`` for an engine that takes NaN for a number above all others, as PostgreSQL, DuckDB and Spark do.

    A comparison with NaN is made false there too, as IEEE 754 has it and as Arrow counts.
    """

    def again(term: Expression) -> Expression:
        return without_nan(term, types)

    match expression:
        case Compare(symbol, left, right) if symbol != "<>":
            sides = [s for s in (left, right) if any(types.get(name) == "number" for name in columns(s))]
            kept: list[Expression] = [Not(IsNaN(side)) for side in sides]
            if not isinstance(left, Literal) and not isinstance(right, Literal):  # of a null beside a NaN nothing is known
                kept = [Or((IsNull(expression), term)) for term in kept]
            return And((expression, *kept)) if kept else expression
        case MultipleOf(term):
            return And((expression, Not(IsNaN(term))))
        case And(terms):
            return And(tuple(map(again, terms)))
        case Or(terms):
            return Or(tuple(map(again, terms)))
        case Not(term):
            return Not(again(term))
    return expression
