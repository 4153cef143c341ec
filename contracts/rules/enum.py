"""enum: only the listed values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from checks.core.expression import And, Column, Expression, InSet, IsNull, Not, Scalar
from contracts.model import Data, Rule
from contracts.rules import NUMBERS, RULES, TEXTS, RowRule


def comparable(listed: Sequence[Any], kind: str) -> tuple[Scalar, ...]:
    """The listed values that a column of type ``kind`` can hold, null aside; `LookupError` where it can hold none of them."""
    values = [value for value in listed if value is not None]
    if kind == "null":
        return ()
    if kind in TEXTS:
        fit: list[Any] = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    elif kind == "boolean":
        fit = [v for v in values if isinstance(v, bool)]
    elif kind in NUMBERS:
        fit = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if kind == "integer":
            fit = [int(v) for v in fit if math.isfinite(v) and v == int(v) and abs(v) < 2**63]
    else:
        raise LookupError(f"blocked: values of type {kind} cannot be compared with a list")
    if values and not fit:
        raise LookupError(f"blocked: the column is of type {kind}, and none of the listed values is")
    return tuple(fit)


def outside(name: str, values: Sequence[Scalar]) -> Expression:
    """True of values, not of null, that are not listed."""
    column = Column(name)
    filled = Not(IsNull(column))
    return And((filled, Not(InSet(column, tuple(values))))) if values else filled


@RULES.register("enum")
class Enum(RowRule):
    """Bad rows hold a value that is not listed; null is a matter of `required`."""

    says = "hold a value that is not listed"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        name = rule.column or ""
        return outside(name, comparable(rule.argument, data.types[name]))
