"""What is wrong with a contract document before any data is seen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Any

from checks.core.errors import ContractError, ExpressionError
from checks.core.expression import columns, parse
from contracts.document import Lined, line_at
from contracts.parse import LEVELS, OPERATORS, SEVERITIES, SHORT_LEVELS, custom, history, name_of, share
from contracts.rules._duration import seconds
from contracts.rules.sql import SqlRefused, check, rendered
from contracts.schema import SCHEMAS, Place, unknown_keys, violations, where

VERSIONS = tuple(SCHEMAS)
OURS = ("where", "rowExpression", "tolerance", "strictColumns", "keyHistory", "unitOfMeasure", "role", "mask", "percentile", "severity")
ROLES = ("input", "prediction", "score", "label", "timestamp", "id", "version")
TEXT_OPTIONS, NUMBER_OPTIONS = ("minLength", "maxLength", "pattern"), ("multipleOf",)
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
OPTIONS = frozenset((
    *TEXT_OPTIONS, *NUMBER_OPTIONS, *BOUNDS, "format", "timezone", "defaultTimezone", "minItems", "maxItems", "uniqueItems", "minProperties",
    "maxProperties", "required", "dimensions", "elementType", "distanceMetric", "embeddingModel", "embeddingModelVersion", "normalized",
))
SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "dimensions")
NUMERIC, TEMPORAL = ("number", "integer"), ("date", "timestamp", "time")
KINDS = {
    "minLength": ("string",), "maxLength": ("string",), "pattern": ("string",), "multipleOf": NUMERIC, "minItems": ("array",),
    "maxItems": ("array",), "uniqueItems": ("array",), "minProperties": ("object", "map"), "maxProperties": ("object", "map"),
    "required": ("object", "map"), "dimensions": ("vector",), "timezone": TEMPORAL, "defaultTimezone": TEMPORAL,
    **dict.fromkeys(BOUNDS, (*NUMERIC, *TEMPORAL)),
}
"""The logical types that an option has a meaning on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: an ``error`` keeps the contract from being used, a ``warning`` one rule from being evaluated; the rest are notes."""

    path: str
    line: int
    message: str
    grade: str = "error"

    @property
    def error(self) -> bool:
        return self.grade == "error"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" + ("" if self.error else f" ({self.grade})")


def lint_document(document: Any, path: str) -> list[Finding]:
    """Every finding in a document read by `contracts.document.read_yaml`, by line."""
    if not isinstance(document, Lined):
        return [Finding(path, 1, "not an ODCS document: a mapping with apiVersion, kind and schema is needed")]
    version = document.get("apiVersion")
    if version not in VERSIONS:
        line = document.lines.get("apiVersion", 1)
        return [Finding(path, line, f"apiVersion {version!r} is not known; allowed are {', '.join(VERSIONS)}")]
    if document.get("kind") != "DataContract":
        return [Finding(path, document.lines.get("kind", 1), f"kind {document.get('kind')!r} is not DataContract")]
    found = list(_structure(document, str(version), path))
    objects = document.get("schema")
    if not isinstance(objects, list) or not objects:
        found.append(Finding(path, document.lines.get("schema", 1), "schema needs at least one object"))
    if not any(f.error for f in found):
        found += _Semantics(document, path).findings()
    return sorted(dict.fromkeys(found), key=lambda f: f.line)


def _structure(document: Lined, version: str, path: str) -> Iterator[Finding]:
    """Unknown keys with the nearest known one, then what else breaks the JSON Schema."""
    told: list[Place] = []
    for place, key, near in unknown_keys(document, version):
        told.append(place)
        hint = f"; did you mean {near!r}?" if near else ""
        yield Finding(path, line_at(document, place), f"{where(place[:-1])}: unknown key {key!r}{hint}" if place[:-1] else f"unknown key {key!r}{hint}")
    for place, message in violations(document, version):
        known = message.startswith(("Unevaluated", "Additional")) and any(t[: len(place)] == place for t in told)
        deeper = message.startswith("Unevaluated") and any(
            other[: len(place)] == place for other, said in violations(document, version) if said != message
        )
        if not known and not deeper:
            at = where(place)
            yield Finding(path, line_at(document, place), f"{at}: {message}" if at else message)


class _Semantics:
    """What the schema cannot say: names that name nothing, bounds that exclude each other, rules without a meaning."""

    def __init__(self, document: Lined, path: str) -> None:
        self._document = document
        self._path = path
        self._found: list[Finding] = []
        self._ids: dict[str, int] = {}

    def findings(self) -> list[Finding]:
        """All of them."""
        names: dict[str, int] = {}
        for item in self._document["schema"]:
            name = str(item.get("name"))
            if name in names:
                self._say(item.line, f"the object {name!r} is there twice, first in line {names[name]}")
            names[name] = item.line
            self._ids = {}
            properties = item.get("properties") or []
            self._names(properties)
            for prop in properties:
                self._property(prop, item, top=True)
            for quality in item.get("quality") or []:
                self._quality(quality, None, item)
            for relation in item.get("relationships") or []:
                self._relation(relation)
            self._customs(item)
        for level in self._document.get("slaProperties") or []:
            self._level(level)
        if self._document.get("status") in ("deprecated", "retired"):
            self._note(self._document.lines["status"], f"the contract's status is {self._document['status']}")
        return self._found

    def _say(self, line: int, message: str) -> None:
        self._found.append(Finding(self._path, line, message))

    def _warn(self, line: int, message: str) -> None:
        self._found.append(Finding(self._path, line, message, "warning"))

    def _note(self, line: int, message: str) -> None:
        self._found.append(Finding(self._path, line, message, "note"))

    def _try(self, line: int, name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (LookupError, ContractError, ExpressionError) as error:
            self._say(line, f"{name}: {error.args[0] if error.args else error}")
        return None

    # -- properties

    def _names(self, properties: list[Lined]) -> None:
        seen: dict[str, int] = {}
        for prop in properties:
            name = name_of(prop)
            if name in seen:
                self._say(prop.line, f"the property {name!r} is there twice, first in line {seen[name]}")
            seen[name] = prop.line

    def _property(self, prop: Lined, item: Lined, *, top: bool) -> None:
        name, kind = name_of(prop) or "items", prop.get("logicalType")
        self._options(prop, name, kind)
        for value in prop.get("enum") or []:
            given = value.get("value") if isinstance(value, dict) else value
            if kind in NUMERIC and given is not None and (isinstance(given, bool) or not isinstance(given, (int, float))):
                self._say(prop.lines["enum"], f"{name}: the enum value {given!r} is no {kind}")
        for quality in prop.get("quality") or []:
            self._quality(quality, prop, item)
        for relation in prop.get("relationships") or []:
            self._relation(relation)
        self._customs(prop)
        children = prop.get("properties") or []
        self._names(children)
        for child in [*children, *([prop["items"]] if isinstance(prop.get("items"), dict) else []), *(prop.get("map") or {}).values()]:
            self._property(child, item, top=False)
        if not top and prop.get("unique") is True:
            self._note(prop.lines["unique"], f"{name}: uniqueness of nested values is counted apart, over all rows of the window")

    def _options(self, prop: Lined, name: str, kind: str | None) -> None:
        options = prop.get("logicalTypeOptions")
        if not isinstance(options, Lined):
            return
        for key, value in options.items():
            line = options.lines[key]
            if key not in OPTIONS:
                near = difflib.get_close_matches(key, OPTIONS, 1)
                self._say(line, f"{name}: unknown option {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
            elif kind is not None and kind not in KINDS.get(key, (kind,)):
                self._say(line, f"{name}: {key} has no meaning on the type {kind}")
            elif key == "pattern":
                self._pattern(value, line, name)
            elif key in BOUNDS and not isinstance(value, bool):
                self._bound(key, value, kind, line, name)
            elif key == "multipleOf" and not (_number(value) and value > 0):
                self._say(line, f"{name}: multipleOf {value!r} is not a number above 0")
            elif key in SIZES and not (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63):
                self._say(line, f"{name}: {key} {value!r} is not a whole number")
            elif key == "required" and not isinstance(value, list):
                self._say(line, f"{name}: {key} {value!r} is not a list of properties")
        for low, high in (
            ("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"),
            ("exclusiveMinimum", "exclusiveMaximum"), ("minimum", "exclusiveMaximum"), ("exclusiveMinimum", "maximum"),
        ):
            below, above = _ordered(options.get(low), kind), _ordered(options.get(high), kind)
            if below is None or above is None or type(below) is not type(above):
                continue
            if below > above or (below == above and "exclusive" in low + high):
                self._say(options.lines[high], f"{name}: {high} {options[high]} is {'below' if below > above else 'not above'} {low} {options[low]}")
        for key in ("exclusiveMinimum", "exclusiveMaximum"):
            if options.get(key) is True and key.removeprefix("exclusive").lower() not in options:
                self._note(options.lines[key], f"{name}: {key} is true, and there is no {key.removeprefix('exclusive').lower()}")

    def _bound(self, key: str, value: Any, kind: str | None, line: int, name: str) -> None:
        if kind in TEMPORAL:
            if _ordered(value, kind) is None:
                self._say(line, f"{name}: {key} {value!r} is no {kind} in ISO 8601")
        elif kind in NUMERIC or not isinstance(value, str):
            if not _number(value):
                self._say(line, f"{name}: {key} {value!r} is not a number")
        elif kind is None and isinstance(value, str) and _ordered(value, "timestamp") is None:
            self._say(line, f"{name}: {key} {value!r} is not a number, and no time either")

    def _pattern(self, value: Any, line: int, name: str) -> None:
        import regex

        try:
            regex.compile(str(value))
        except regex.error as error:
            self._say(line, f"{name}: pattern {value!r} is not a regular expression: {error}")

    # -- rules

    def _quality(self, quality: Lined, prop: Lined | None, item: Lined) -> None:
        kind = str(quality.get("type") or "library")
        metric = str(quality.get("metric") or quality.get("rule") or "")
        name = str(quality.get("id") or quality.get("name") or metric or kind)
        line = quality.line
        given = str(quality.get("id") or "")
        if given:
            if given in self._ids:
                self._say(line, f"the rule id {given!r} is there twice, first in line {self._ids[given]}")
            self._ids[given] = line
        severity = quality.get("severity")
        if severity is not None and str(severity).lower() not in SEVERITIES:
            self._note(quality.lines["severity"], f"{name}: the severity {severity!r} is not known and taken for error; known are {', '.join(SEVERITIES)}")
        self._operators(quality, name, kind)
        self._customs(quality)
        expression = custom(quality, "rowExpression")
        if kind == "custom" and quality.get("engine") == "driftd":
            expression = expression or quality.get("implementation")
        for key, text in (("where", custom(quality, "where")), ("rowExpression", expression)):
            if text is not None:
                self._expression(str(text), key, line, name, item)
        unit = str(quality.get("unit") or "rows").lower()
        if unit not in ("rows", "row", "percent", "%", "percentage"):
            self._note(quality.lines["unit"], f"{name}: the unit {quality['unit']!r} is neither rows nor percent and taken for rows")
        if kind == "custom" and quality.get("engine") != "driftd" and expression is None:
            self._warn(line, f"{name}: it is written for the engine {quality.get('engine')!r} and is not evaluated")
        if expression is not None or kind in ("text", "custom"):
            return
        if kind == "sql":
            self._sql(quality, prop, item, name)
            return
        self._metric(quality, metric, prop, item, name)

    def _metric(self, quality: Lined, metric: str, prop: Lined | None, item: Lined, name: str) -> None:
        line, arguments = quality.line, quality.get("arguments") or Lined()
        if metric == "rowCount" and prop is not None:
            self._say(line, f"{name}: rowCount belongs to an object, not to the property {name_of(prop)!r}")
        if metric in ("nullValues", "missingValues", "invalidValues") and prop is None:
            self._say(line, f"{name}: {metric} belongs to a property, not to the object {item.get('name')!r}")
        if metric == "duplicateValues":
            listed = arguments.get("properties")
            if prop is None and not listed:
                self._say(line, f"{name}: duplicateValues on an object needs arguments.properties")
            self._known_columns(listed, item, quality, name)
        if metric == "invalidValues":
            if not {"validValues", "pattern"} & set(arguments):
                self._say(line, f"{name}: invalidValues needs arguments.validValues or arguments.pattern")
            if "pattern" in arguments:
                self._pattern(arguments["pattern"], arguments.lines["pattern"], name)
        allowed = {"missingValues": ("missingValues",), "invalidValues": ("validValues", "pattern"), "duplicateValues": ("properties",)}.get(metric, ())
        for key, value in arguments.items():
            if metric in ("nullValues", "rowCount", *("missingValues", "invalidValues", "duplicateValues")) and key not in allowed:
                near = difflib.get_close_matches(key, allowed, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self._say(arguments.lines[key], f"{name}: {metric} has no argument {key!r}{hint}")
            elif key in ("missingValues", "validValues", "properties") and not isinstance(value, list):
                self._say(arguments.lines[key], f"{name}: arguments.{key} must be a list")
            elif isinstance(value, list) and {type(v) for v in value} >= {str, bool}:
                self._note(arguments.lines[key], f"{name}: arguments.{key} has true or false among texts: YAML reads yes, no, on and off so, unless they are in quotes")

    def _operators(self, quality: Lined, name: str, kind: str) -> None:
        used = [key for key in OPERATORS if key in quality]
        if len(used) > 1:
            self._note(quality.lines[used[1]], f"{name}: has {' and '.join(used)}; all must hold")
        for key in used:
            value, line = quality[key], quality.lines[key]
            if "Between" in key:
                if not (isinstance(value, list) and len(value) == 2 and all(_number(v) for v in value)):
                    self._say(line, f"{name}: {key} needs two numbers")
                elif value[0] > value[1]:
                    self._say(line, f"{name}: {key} {list(value)} is turned round")
            elif not _number(value):
                self._say(line, f"{name}: {key} {value!r} is not a number")
        if not used and kind in ("library", "sql") and custom(quality, "rowExpression") is None:
            self._warn(quality.line, f"{name}: has no operator such as mustBe and cannot be evaluated")

    def _sql(self, quality: Lined, prop: Lined | None, item: Lined, name: str) -> None:
        line = quality.lines.get("query", quality.line)
        names = frozenset(str(item[key]).rpartition(".")[2] for key in ("name", "physicalName") if item.get(key))
        try:
            check(rendered(str(quality.get("query") or ""), name_of(prop) if prop is not None else None), "duckdb", names)
        except SqlRefused as error:
            self._say(line, f"{name}: {error}")
        except LookupError as error:
            self._warn(line, f"{name}: {error.args[0]}; it is not evaluated")

    def _expression(self, text: str, key: str, line: int, name: str, item: Lined) -> None:
        found = self._try(line, f"{name}: {key}", lambda: parse(text))
        if found is not None:
            known = {name_of(p) for p in item.get("properties") or []}
            for column in sorted(columns(found) - known):
                if known:
                    near = difflib.get_close_matches(column, known, 1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    self._warn(line, f"{name}: {key} reads the column {column!r}, which the contract does not have{hint}")

    def _known_columns(self, listed: Any, item: Lined, quality: Lined, name: str) -> None:
        known = {str(p.get(key)) for p in item.get("properties") or [] for key in ("name", "physicalName") if p.get(key)}
        for column in listed if isinstance(listed, list) else []:
            if str(column) not in known:
                near = difflib.get_close_matches(str(column), known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self._say(quality.line, f"{name}: there is no property {column!r}{hint}")

    def _relation(self, relation: Lined) -> None:
        for key in ("from", "to"):
            given = relation.get(key)
            for text in [] if given is None else given if isinstance(given, list) else [given]:
                if "#" not in str(text) and not self._names_something(str(text)):
                    self._warn(relation.lines[key], f"the relationship's {key} {text!r} names nothing in this contract")

    def _names_something(self, text: str) -> bool:
        parts = [p for p in text.split("/") if p and p not in ("schema", "properties")] if "/" in text else text.split(".")
        for item in self._document["schema"]:
            if parts[0] in (item.get("name"), item.get("physicalName"), item.get("id")):
                return len(parts) == 1 or _finds(item.get("properties") or [], parts[1:])
        return False

    def _level(self, level: Lined) -> None:
        written = str(level.get("property"))
        kind = SHORT_LEVELS.get(written, written)
        element = level.get("element") or (self._document.get("slaDefaultElement") if kind in LEVELS else None)
        line = level.lines.get("element", level.line)
        for text in str(element).split(",") if element else []:
            name = text.strip()
            bare = any(_finds(item.get("properties") or [], name.split(".")) for item in self._document["schema"])
            if name and not bare and not self._names_something(name):
                self._warn(line, f"{written}: the element {name!r} names nothing in this contract")
        near = difflib.get_close_matches(kind, LEVELS, 1, 0.8)
        if kind not in LEVELS and near:
            self._note(level.line, f"the service level {written!r} is not evaluated; did you mean {near[0]!r}?")
        if kind in LEVELS:
            self._try(level.lines.get("value", level.line), written, lambda: seconds(level.get("value"), level.get("unit")))
        percentile = custom(level, "percentile")
        if percentile is not None and not (_number(percentile) and 0 < percentile < 1):
            self._say(level.line, f"{written}: percentile {percentile!r} is not between 0 and 1")

    def _customs(self, mapping: Lined) -> None:
        """Our own custom properties: their values, and near misses of their names."""
        for item in mapping.get("customProperties") or []:
            name, value, line = str(item.get("property")), item.get("value"), item.line
            if name not in OURS:
                near = difflib.get_close_matches(name, OURS, 1, 0.85)
                if near:
                    self._note(line, f"the custom property {name!r} has no effect; did you mean {near[0]!r}?")
            elif name == "tolerance" and "property" not in mapping:
                self._try(line, name, partial(share, value))
            elif name == "keyHistory" and value not in (None, False):
                self._try(line, name, partial(history, value))
            elif name in ("strictColumns", "mask") and not isinstance(value, bool):
                self._say(line, f"{name} must be true or false, not {value!r}")
            elif name == "role" and value not in ROLES and "logicalType" in mapping:
                self._say(line, f"role {value!r} is none of {', '.join(ROLES)}")


def _finds(properties: list[Lined], parts: list[str]) -> bool:
    for prop in properties:
        if parts[0] in (prop.get("name"), prop.get("physicalName"), prop.get("id")):
            return len(parts) == 1 or _finds(prop.get("properties") or [], parts[1:])
    return False


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e308


def _ordered(value: Any, kind: str | None) -> Any:
    """A bound that can be compared with another of its type, or None."""
    if _number(value):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        if kind == "time":
            return time.fromisoformat(value)
        if kind == "date":
            return date.fromisoformat(value[:10])
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError:
        return None
