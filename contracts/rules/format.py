"""format: well-known forms of texts, widths of numbers, patterns of dates."""

from __future__ import annotations

import re

from checks.core.expression import And, Column, Compare, Expression, IsNaN, Literal, Or, never
from contracts.model import Data, Rule
from contracts.rules import NUMBERS, RULES, TEXTS, TIMES, RowRule
from contracts.rules.text import unmatched

_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
TEXT_FORMATS = {
    "email": r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
    "uuid": r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "uri": r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s]+$",
    "hostname": rf"^{_LABEL}(\.{_LABEL})*$",
    "ipv4": rf"^{_BYTE}(\.{_BYTE}){{3}}$",
    "ipv6": r"^(([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){0,6})?::([0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){0,6})?)$",
    "date": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
    "date-time": r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$",
    "time": r"^\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?$",
    "byte": r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
ANY = frozenset(("password", "binary", "f64"))
"""Formats that every value has."""

_FIELDS = {
    "yyyy": r"\d{4}", "uuuu": r"\d{4}", "yy": r"\d{2}", "MM": r"(0[1-9]|1[0-2])", "dd": r"(0[1-9]|[12]\d|3[01])", "HH": r"([01]\d|2[0-3])",
    "hh": r"(0[1-9]|1[0-2])", "mm": r"[0-5]\d", "ss": r"[0-5]\d", "SSS": r"\d{3}", "SSSSSS": r"\d{6}", "SSSSSSSSS": r"\d{9}", "a": r"[AaPp][Mm]",
    "X": r"(Z|[+-]\d{2})", "XX": r"(Z|[+-]\d{4})", "XXX": r"(Z|[+-]\d{2}:\d{2})", "Z": r"[+-]\d{4}", "M": r"(1[0-2]|[1-9])",
    "d": r"(3[01]|[12]\d|[1-9])", "H": r"(2[0-3]|1?\d)", "MMM": r"[A-Z][a-z]{2}", "EEE": r"[A-Z][a-z]{2}", "DDD": r"\d{3}",
}


def date_pattern(text: str) -> str | None:
    """The regular expression of a date pattern such as ``yyyy-MM-dd'T'HH:mm:ss``, None where a field is not known."""
    out, at = "^", 0
    while at < len(text):
        if text[at] == "'":
            end = text.find("'", at + 1)
            end = len(text) if end < 0 else end
            out += re.escape(text[at + 1 : end])
            at = end + 1
        elif text[at].isalpha():
            run = re.match(rf"{text[at]}+", text[at:])
            field = run.group(0) if run else text[at]
            if field not in _FIELDS:
                return None
            out += _FIELDS[field]
            at += len(field)
        else:
            out += re.escape(text[at])
            at += 1
    return out + "$"


@RULES.register("format")
class Format(RowRule):
    """Bad rows are texts of another form, or numbers beyond the width; dates have no form once they are dates."""

    says = "have another form"

    def predicate(self, rule: Rule, data: Data) -> Expression | None:
        name, wanted = rule.column or "", str(rule.argument)
        kind, column = data.types[name], Column(name)
        if wanted in ANY:
            return never(column)
        if kind in NUMBERS:
            return _width(column, wanted, kind)
        if kind in TIMES:
            return never(column)
        if kind not in TEXTS:
            raise LookupError(f"blocked: a format has no meaning on a column of type {kind}")
        pattern = TEXT_FORMATS.get(wanted) or date_pattern(wanted)
        if pattern is None:
            raise LookupError(f"the format {wanted!r} is none that driftd knows: write it as a pattern")
        return unmatched(name, pattern)


def _width(column: Column, wanted: str, kind: str) -> Expression:
    found = re.fullmatch(r"([iuf])(8|16|32|64|128)", wanted)
    if found is None:
        raise LookupError(f"the format {wanted!r} is none of a number")
    sort, bits = found.group(1), int(found.group(2))
    low: float
    high: float
    if sort == "f":
        high = 3.4028234663852886e38 if bits <= 32 else 1.7976931348623157e308
        low = -high
        beyond = Or((Compare("<", column, Literal(low)), Compare(">", column, Literal(high))))
        finite = And((Compare(">=", column, Literal(-1.7976931348623157e308)), Compare("<=", column, Literal(1.7976931348623157e308))))
        return And((finite, beyond))
    low, high = (0, 2**bits - 1) if sort == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if kind == "integer" and bits >= 64:
        return Compare("<", column, Literal(0)) if sort == "u" else never(column)
    if kind == "number":
        low, high = float(low), float(high)
    outside = Or((Compare("<", column, Literal(low)), Compare(">", column, Literal(high))))
    return Or((IsNaN(column), outside)) if kind == "number" else outside
