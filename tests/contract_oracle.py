"""What a contract means, in plain Python over rows: written apart from driftd, from docs/contracts.md alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

Row = dict[str, Any]


def nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def missing(value: Any) -> bool:
    return value is None or nan(value)


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def multiple(value: float, step: float) -> bool:
    if not math.isfinite(value):
        return False
    if isinstance(value, int) and float(step).is_integer():
        return value % int(step) == 0
    times = value / step
    return abs(times - round(times)) <= 1e-9 + abs(times) * 1e-15


def comparable(bound: Any, value: Any) -> Any:
    if isinstance(bound, str) and isinstance(value, datetime):
        return datetime.fromisoformat(bound)
    if isinstance(bound, str) and isinstance(value, date):
        return date.fromisoformat(bound)
    return bound


def beyond(kind: str, value: Any, bound: Any) -> bool:
    if value is None:
        return False
    if nan(value):
        return True
    bound = comparable(bound, value)
    return {
        "minimum": lambda: value < bound, "maximum": lambda: value > bound, "exclusiveMinimum": lambda: value <= bound,
        "exclusiveMaximum": lambda: value >= bound,
    }[kind]()


FORMS = {"uuid": r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "email": r"^[^@\s]+@[^@\s]+\.[^@\s]+$"}
WIDTHS = {"i8": (-128, 127), "u8": (0, 255), "i16": (-32768, 32767), "f32": (-3.5e38, 3.5e38)}


def option(kind: str, bound: Any, value: Any) -> bool:
    """Whether a value breaks a logicalTypeOption."""
    if kind in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        return beyond(kind, value, bound)
    if value is None:
        return False
    match kind:
        case "multipleOf":
            return not multiple(value, bound)
        case "minLength":
            return len(value) < bound
        case "maxLength":
            return len(value) > bound
        case "pattern":
            return re.search(bound, value) is None
        case "format" if bound in FORMS:
            return re.search(FORMS[bound], value, re.I) is None
        case "format":
            special = bound == "f32" and not math.isfinite(value)  # NaN and infinity are of every width
            return not special and not WIDTHS[bound][0] <= value <= WIDTHS[bound][1]
        case "minItems":
            return len(value) < bound
        case "maxItems":
            return len(value) > bound
        case "uniqueItems":
            return bool(bound) and len({repr(v) for v in value}) < len(value)
        case "minProperties":
            return sum(v is not None for v in value.values()) < bound
        case "maxProperties":
            return sum(v is not None for v in value.values()) > bound
        case "required":
            return any(value.get(name) is None for name in bound)
    raise AssertionError(kind)


def surplus(values: list[Any]) -> int:
    counted = Counter(v for v in values if not any(missing(part) for part in (v if isinstance(v, tuple) else (v,))))
    return sum(n - 1 for n in counted.values())


def metric(quality: dict[str, Any], name: str | None, rows: list[Row]) -> int:
    """The number that a library metric counts."""
    arguments, kind = quality.get("arguments", {}), quality["metric"]
    if kind == "rowCount":
        return len(rows)
    if kind == "duplicateValues":
        names = arguments.get("properties") or [name]
        return surplus([row[names[0]] if len(names) == 1 else tuple(row[n] for n in names) for row in rows])
    values = [row[name] for row in rows]
    if kind == "nullValues":
        return sum(missing(v) for v in values)
    if kind == "missingValues":
        listed = arguments["missingValues"]
        return sum((None in listed and missing(v)) or (v is not None and not nan(v) and v in listed) for v in values)
    assert kind == "invalidValues"
    bad = 0
    for value in values:
        listed, pattern = arguments.get("validValues"), arguments.get("pattern")
        wrong = listed is not None and (None not in listed if value is None else value not in [v for v in listed if v is not None])
        wrong = wrong or (pattern is not None and value is not None and re.search(pattern, value) is None)
        bad += wrong
    return bad


def holds(quality: dict[str, Any], value: float) -> bool:
    checks = {
        "mustBe": lambda b: value == b, "mustNotBe": lambda b: value != b, "mustBeGreaterThan": lambda b: value > b,
        "mustBeGreaterOrEqualTo": lambda b: value >= b, "mustBeLessThan": lambda b: value < b, "mustBeLessOrEqualTo": lambda b: value <= b,
        "mustBeBetween": lambda b: b[0] <= value <= b[1], "mustNotBeBetween": lambda b: not b[0] <= value <= b[1],
    }
    return all(check(quality[key]) for key, check in checks.items() if key in quality)


def clauses(document: dict[str, Any]) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """Every clause of the one object: id, kind, column, and what it stands in."""
    item = document["schema"][0]

    def of(prop: dict[str, Any], name: str) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
        for key in ("logicalType", "physicalType", "required", "primaryKey", "unique", "enum"):
            if prop.get(key):
                yield f"{name}.{key}", key, name, prop
        for key in prop.get("logicalTypeOptions", {}):
            kind = "objectRequired" if key == "required" else key
            yield f"{name}.{kind}", f"option {key}", name, prop
        for quality in prop.get("quality", []):
            yield quality.get("id", f"{name}.{quality.get('metric')}"), "quality", name, quality
        for child in prop.get("properties", []):
            yield from of(child, f"{name}.{child['name']}")
        if prop.get("items"):
            yield from of(prop["items"], f"{name}[]")

    for prop in item["properties"]:
        yield from of(prop, prop["name"])
    if any(p.get("primaryKey") for p in item["properties"]):
        yield "primaryKey", "key", None, item
    for quality in item.get("quality", []):
        yield quality.get("id", str(quality.get("metric"))), "quality", None, quality


def reach(row: Row, path: str) -> list[Any]:
    """The values at a path: one, or one per element; none where what holds it is not there."""
    values: list[Any] = [row]
    for step in re.findall(r"\[\]|[^.\[\]]+", path):
        if step == "[]":
            values = [v for holder in values if holder is not None for v in holder]
        else:
            values = [holder[step] for holder in values if holder is not None]
    return values


def broken(document: dict[str, Any], rows: list[Row]) -> dict[str, int]:
    """The rules that the rows break, with the number of bad rows."""
    found: dict[str, int] = {}
    for rule, kind, name, where in clauses(document):
        if kind == "quality":
            value = metric(where, name, rows)
            share = 100 * value / len(rows) if where.get("unit") == "percent" else value
            if not holds(where, share):
                found[rule] = value
            continue
        if kind == "key":
            names = [p["name"] for p in where["properties"] if p.get("primaryKey")]
            bad = surplus([row[names[0]] if len(names) == 1 else tuple(row[n] for n in names) for row in rows])
        elif kind == "unique":
            bad = surplus([row[name] for row in rows])
        elif kind in ("required", "primaryKey"):
            bad = sum(any(missing(v) for v in reach(row, name)) for row in rows)
        elif kind == "enum":
            listed = [v["value"] for v in where["enum"]]
            bad = sum(any(v is not None and v not in listed for v in reach(row, name)) for row in rows)
        elif kind == "logicalType" and where["logicalType"] == "integer":
            bad = sum(any(number(v) and not nan(v) and not (math.isfinite(v) and v == int(v)) for v in reach(row, name)) for row in rows)
        elif kind.startswith("option"):
            key = kind.removeprefix("option ")
            bad = sum(any(option(key, where["logicalTypeOptions"][key], v) for v in reach(row, name)) for row in rows)
        else:
            bad = 0
        if bad:
            found[rule] = bad
    return found
