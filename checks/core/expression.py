"""SQL scalar expressions over a row, as values; `monitor.profiling` alone lowers them to an engine.

A predicate says which rows are *bad*. Every node is null-safe by construction: a comparison with null is not true.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING

from checks.core.errors import ExpressionError

if TYPE_CHECKING:
    import sqlglot.expressions as exp

Scalar = str | int | float | bool | date | datetime | time


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its name in the source."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Compare:
    """``left OP right`` with OP one of ``= <> < <= > >=``."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``left OP right`` with OP one of ``+ - * /``."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    term: Expression


@dataclass(frozen=True, slots=True)
class IsNull:
    """True for null; NaN is not null."""

    term: Expression


@dataclass(frozen=True, slots=True)
class IsNaN:
    """True for a floating-point NaN; never true of other types."""

    term: Expression


@dataclass(frozen=True, slots=True)
class InSet:
    """True when the value is one of ``values``; null is not."""

    term: Expression
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Matches:
    """True when the regular expression is found anywhere in the text; null is not."""

    term: Expression
    pattern: str


@dataclass(frozen=True, slots=True)
class Length:
    """The number of characters of a text."""

    term: Expression


@dataclass(frozen=True, slots=True)
class MultipleOf:
    """True when a number is a whole multiple of ``step``, within a billionth of its size; null is not."""

    term: Expression
    step: float


@dataclass(frozen=True, slots=True)
class Later:
    """True when the time ``left`` is more than ``seconds`` after the time ``right``."""

    left: Expression
    right: Expression
    seconds: float


Expression = (
    Column | Literal | Compare | Arithmetic | And | Or | Not | IsNull | IsNaN | InSet | Matches | Length | MultipleOf | Later
)



def never(term: Expression) -> Expression:
    """True of no row: of a rule that no value of this column can break."""
    return And((IsNull(term), Not(IsNull(term))))


_COMPARE = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
_ARITHMETIC = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}


def columns(expression: Expression) -> frozenset[str]:
    """The names of the columns that ``expression`` reads."""
    match expression:
        case Column(name):
            return frozenset((name,))
        case Literal():
            return frozenset()
        case Compare(_, left, right) | Arithmetic(_, left, right) | Later(left, right):
            return columns(left) | columns(right)
        case And(terms) | Or(terms):
            return frozenset().union(*(columns(term) for term in terms))
        case Not(term) | IsNull(term) | IsNaN(term) | InSet(term) | Matches(term) | Length(term) | MultipleOf(term):
            return columns(term)


def parse(text: str) -> Expression:
    """The expression that the SQL ``text`` means, or `ExpressionError` naming what is not supported."""
    import sqlglot

    try:
        tree = sqlglot.parse_one(text, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise ExpressionError(f"{text!r} is not a SQL expression: {str(error).splitlines()[0]}") from None
    return _node(tree, text)


def _node(tree: exp.Expression, text: str) -> Expression:
    name = type(tree).__name__
    if name in _COMPARE:
        return Compare(_COMPARE[name], _node(tree.left, text), _node(tree.right, text))  # type: ignore[attr-defined]
    if name in _ARITHMETIC:
        return Arithmetic(_ARITHMETIC[name], _node(tree.left, text), _node(tree.right, text))  # type: ignore[attr-defined]
    child = tree.this
    match name:
        case "Paren":
            return _node(child, text)
        case "Column":
            return Column(tree.name)
        case "Boolean":
            return Literal(bool(child))
        case "Literal":
            return Literal(child if tree.is_string else float(child) if "." in child or "e" in child.lower() else int(child))
        case "Neg":
            return Arithmetic("-", Literal(0), _node(child, text))
        case "And":
            return And((_node(tree.left, text), _node(tree.right, text)))  # type: ignore[attr-defined]
        case "Or":
            return Or((_node(tree.left, text), _node(tree.right, text)))  # type: ignore[attr-defined]
        case "Not":
            return Not(_node(child, text))
        case "Is" if type(tree.expression).__name__ == "Null":
            return IsNull(_node(child, text))
        case "IsNan":
            return IsNaN(_node(child, text))
        case "Length":
            return Length(_node(child, text))
        case "RegexpLike":
            return Matches(_node(child, text), str(tree.expression.this))
        case "Between":
            term = _node(child, text)
            return And((Compare(">=", term, _node(tree.args["low"], text)), Compare("<=", term, _node(tree.args["high"], text))))
        case "In" if tree.expressions:
            values = tuple(_node(item, text) for item in tree.expressions)
            if all(isinstance(value, Literal) for value in values):
                return InSet(_node(child, text), tuple(v.value for v in values if isinstance(v, Literal)))
    raise ExpressionError(
        f"{tree.sql()!r} in {text!r} is not supported; allowed are columns, literals, = <> < <= > >= + - * /, AND OR NOT, "
        "IS NULL, ISNAN, BETWEEN, IN (..), LENGTH and REGEXP_MATCHES"
    )
