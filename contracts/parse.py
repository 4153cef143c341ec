"""From the mappings of a document to a contract: every clause becomes a rule, with its line."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from checks.core.errors import ContractError, ExpressionError
from checks.core.expression import Expression
from checks.core.expression import parse as parse_expression
from checks.core.result import Verdict
from contracts.document import Lined
from contracts.model import Column, Contract, Rule
from contracts.rules import RULES
from contracts.rules._duration import seconds

SEVERITIES = {
    **dict.fromkeys(("info", "low", "minor", "trivial", "warning", "warn"), Verdict.WARN),
    **dict.fromkeys(("error", "major", "high", "critical", "blocker"), Verdict.FAIL),
}
METRICS = ("nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount")
OPERATORS = (
    "mustBe", "mustNotBe", "mustBeGreaterThan", "mustBeGreaterOrEqualTo", "mustBeLessThan", "mustBeLessOrEqualTo", "mustBeBetween",
    "mustNotBeBetween",
)
LEVELS = ("freshness", "latency", "frequency", "retention")
SHORT_LEVELS = {"ly": "latency", "fr": "freshness", "fy": "frequency", "rt": "retention", "re": "retention"}
DESCRIBED = ("elementType", "distanceMetric", "embeddingModel", "embeddingModelVersion", "normalized")
"""Options of a vector that describe it and promise nothing that its values show."""

HISTORY_WINDOWS = 56
MOST_HISTORY = 120


def name_of(prop: Lined) -> str:
    """A property's or object's name in the data."""
    return str(prop.get("physicalName") or prop.get("name") or "")


def custom(mapping: Any, name: str) -> Any:
    """The value of a custom property, or None."""
    for item in mapping.get("customProperties") or []:
        if item.get("property") == name:
            return item.get("value")
    return None


def share(value: Any) -> float:
    """A tolerance as a share of rows: 0.001, or ``0.1%``; `LookupError` where it is none."""
    text = str(value).strip()
    try:
        found = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1:
        raise LookupError(f"tolerance {value!r} is no share of rows such as 0.001 or 0.1%")
    return found


def history(value: Any) -> tuple[float, int]:
    """How long keys are remembered: seconds, and windows; `LookupError` where ``value`` is neither a number nor a duration."""
    if value is True:
        return float("inf"), HISTORY_WINDOWS
    if isinstance(value, int) and not isinstance(value, bool):
        return float("inf"), max(1, min(value, MOST_HISTORY))
    return seconds(value, None), MOST_HISTORY


def contract_of(document: Lined, text: str, path: str, object_name: str | None = None) -> Contract:
    """The contract of one object of a document that passed the lint; `ContractError` where it has no such object."""
    objects = document["schema"]
    if object_name is not None:
        chosen = next((o for o in objects if object_name in (o.get("name"), o.get("physicalName"), o.get("id"))), None)
        if chosen is None:
            names = ", ".join(str(o.get("name")) for o in objects)
            raise ContractError(f"{path}: there is no object {object_name!r}; the contract has {names}")
    else:
        chosen = objects[0]
    reader = _Reader(document, chosen)
    rules = tuple(_number(reader.rules()))
    team = document.get("team")
    name = team.get("name") if isinstance(team, dict) else next((m.get("username") for m in team or [] if m.get("role") == "owner"), None)
    return Contract(
        id=str(document.get("id", "")), version=str(document.get("version", "")),
        hash="sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16],
        object=str(chosen.get("name", "")), columns=tuple(reader.columns), rules=rules, path=path,
        strict_columns=custom(chosen, "strictColumns") is True, team=str(name or ""),
        objects=tuple(str(o.get("name", "")) for o in objects),
    )


class _Reader:
    """Walks one object of a document."""

    def __init__(self, document: Lined, chosen: Lined) -> None:
        self._document = document
        self._object = chosen
        self._old = str(document.get("apiVersion")).startswith("v3.0")
        self.columns: list[Column] = []
        self._walked: list[Rule] = []
        self._properties(chosen.get("properties") or [], "", None, 0.0)

    def rules(self) -> Iterator[Rule]:
        """Every clause of the document, those of other objects as not evaluated here."""
        yield from self._walked
        yield from self._object_rules()
        for level in self._document.get("slaProperties") or []:
            yield self._level(level)
        for other in self._document["schema"]:
            if other is not self._object:
                reader = _Reader(self._document, other)
                for rule in [*reader._walked, *reader._object_rules()]:
                    reason = f"it is about the object {other.get('name')!r}, which this monitor does not read"
                    yield replace(rule, id=f"{other.get('name')}/{rule.id}", not_evaluated=reason, elsewhere=True)

    # -- properties

    def _properties(self, properties: Sequence[Lined], prefix: str, parent: str | None, tolerance: float) -> None:
        for prop in properties:
            self._property(prop, prefix + name_of(prop), parent, tolerance)

    def _property(self, prop: Lined, name: str, parent: str | None, tolerance: float) -> None:
        given = custom(prop, "tolerance")
        tolerance = share(given) if given is not None else tolerance
        holder = next((c for c in self.columns if c.name == parent), None)
        classification = prop.get("classification") or (holder.classification if holder is not None else None)
        self.columns.append(Column(
            name, prop.get("logicalType"), classification, prop.line, parent, custom(prop, "role"),
            custom(prop, "mask") is not False, custom(prop, "unitOfMeasure"), prop.get("required") is True or prop.get("primaryKey") is True,
            prop.get("physicalType"),
        ))
        self._walked += self._property_rules(prop, name, tolerance)
        self._properties(prop.get("properties") or [], f"{name}.", name, tolerance)
        items = prop.get("items")
        if isinstance(items, Lined):
            self._property(items, f"{name}[]", name, tolerance)
        pairs = prop.get("map")
        if isinstance(pairs, dict):
            for part in ("key", "value"):
                if isinstance(pairs.get(part), dict):
                    self._property(pairs[part], f"{name}[].{part}", name, tolerance)

    def _property_rules(self, prop: Lined, name: str, tolerance: float) -> Iterator[Rule]:
        def rule(kind: str, argument: Any, key: str, line: int, column: str | None = name, **more: Any) -> Rule:
            return Rule(f"{name}.{kind}", kind, column, Verdict.FAIL, argument, line, tolerance=tolerance, written={key: _plain(argument)}, **more)

        lines = prop.lines
        for key in ("logicalType", "physicalType"):
            if prop.get(key):
                yield rule(key, prop[key], key, lines[key], dimension="conformity")
        for key in ("required", "primaryKey"):
            if prop.get(key) is True:
                yield rule(key, True, key, lines[key], dimension="completeness")
        if prop.get("unique") is True:
            yield rule("unique", True, "unique", lines["unique"], dimension="uniqueness", columns=(name,))
        if prop.get("enum"):
            values = [item.get("value") if isinstance(item, dict) else item for item in prop["enum"]]
            yield rule("enum", values, "enum", lines["enum"], dimension="conformity")
        yield from self._options(prop, rule)
        keys = custom(prop, "keyHistory")
        if keys not in (None, False):
            yield rule("keyHistory", _history(keys), "keyHistory", _custom_line(prop, "keyHistory"), dimension="uniqueness", columns=(name,))
        for relation in prop.get("relationships") or []:
            yield self._relation(relation, (name,), tolerance)
        for quality in prop.get("quality") or []:
            yield self._quality(quality, name)

    def _options(self, prop: Lined, rule: Any) -> Iterator[Rule]:
        options = prop.get("logicalTypeOptions") or Lined()
        for key, value in options.items():
            line = options.lines[key]
            if key in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
                continue  # of version 3.0: it says how the bound is meant
            if key in ("minimum", "maximum") and options.get(f"exclusive{key.capitalize()}") is True:
                yield rule(f"exclusive{key.capitalize()}", value, key, line, dimension="conformity")
            elif key == "required" and isinstance(value, list):
                yield rule("objectRequired", list(value), key, line, dimension="completeness")
            elif key in DESCRIBED:
                reason = f"{key} describes the vector; its values do not show it"
                yield rule(key, value, key, line, not_evaluated=reason, elsewhere=True)
            else:
                yield rule(key, value, key, line, dimension="conformity")

    # -- the object as a whole

    def _object_rules(self) -> Iterator[Rule]:
        chosen = self._object
        keyed = [p for p in chosen.get("properties") or [] if p.get("primaryKey") is True]
        keyed.sort(key=lambda p: p.get("primaryKeyPosition") if isinstance(p.get("primaryKeyPosition"), int) else 1 << 30)
        names = tuple(name_of(p) for p in keyed)
        if names:
            yield Rule(
                "primaryKey", "uniqueKey", names[0] if len(names) == 1 else None, Verdict.FAIL, list(names), keyed[0].lines["primaryKey"],
                "uniqueness", columns=names, written={"primaryKey": list(names)},
            )
        keys = custom(chosen, "keyHistory")
        if keys not in (None, False):
            columns = names or tuple(c.name for c in self.columns if c.role == "id")
            line = _custom_line(chosen, "keyHistory")
            reason = "" if columns else "keyHistory needs a primary key, or a column with the role id"
            yield Rule(
                "keyHistory", "keyHistory", None, Verdict.FAIL, _history(keys), line, "uniqueness", columns=columns, not_evaluated=reason,
                written={"keyHistory": keys},
            )
        for relation in chosen.get("relationships") or []:
            given = relation.get("from")
            pairs = [self._target(str(part)) for part in (given if isinstance(given, list) else [given])]
            yield self._relation(relation, tuple(column for _, column in pairs), 0.0)
        for quality in chosen.get("quality") or []:
            yield self._quality(quality, None)

    def _relation(self, relation: Lined, columns: tuple[str, ...], tolerance: float) -> Rule:
        to = relation.get("to")
        targets = [self._target(str(part)) for part in (to if isinstance(to, list) else [to])]
        shown = ", ".join(str(part) for part in (to if isinstance(to, list) else [to]))
        reason = ""
        if any(target is None for target, _ in targets):
            reason = f"{shown} is outside of this contract"
        elif len({target for target, _ in targets}) > 1 or len(targets) != len(columns):
            reason = f"{shown} does not pair with {', '.join(columns)}"
        return Rule(
            f"{columns[0]}.foreignKey" if columns else "foreignKey", "foreignKey", columns[0] if len(columns) == 1 else None, Verdict.FAIL, shown,
            relation.line, "consistency", columns=columns, tolerance=tolerance, not_evaluated=reason, elsewhere=bool(reason),
            written={"to": shown, "object": str(targets[0][0] or ""), "columns": [column for _, column in targets]},
        )

    def _target(self, text: str) -> tuple[str | None, str]:
        """Object and column of ``object.column`` or ``schema/object/properties/column``, by names or ids."""
        if "#" in text:
            return None, text
        parts = [p for p in text.split("/") if p and p not in ("schema", "properties")] if "/" in text else text.split(".", 1)
        if len(parts) < 2:
            return None, text
        for item in self._document["schema"]:
            if parts[0] in (item.get("name"), item.get("physicalName"), item.get("id")):
                for prop in item.get("properties") or []:
                    if parts[1] in (prop.get("name"), prop.get("physicalName"), prop.get("id")):
                        return str(item.get("name")), name_of(prop)
                return str(item.get("name")), parts[1]
        return None, text

    # -- quality and service levels

    def _quality(self, quality: Lined, column: str | None) -> Rule:
        kind = str(quality.get("type") or "library")
        metric = str(quality.get("metric") or quality.get("rule") or "")
        operators = {key: _plain(quality[key]) for key in OPERATORS if key in quality}
        text = custom(quality, "rowExpression")
        if kind == "custom" and quality.get("engine") == "driftd" and text is None:
            text = quality.get("implementation")
        name = "rowExpression" if text is not None else metric if kind == "library" else kind
        where = custom(quality, "where")
        unit = str(quality.get("unit") or "rows").lower()
        tolerance = custom(quality, "tolerance")
        prefix = f"{column}." if column else ""
        arguments = quality.get("arguments") or {}
        base = Rule(
            id=str(quality.get("id") or quality.get("name") or prefix + name), kind=name, column=column,
            severity=SEVERITIES.get(str(quality.get("severity") or "error").lower(), Verdict.FAIL), argument=arguments, line=quality.line,
            dimension=str(quality.get("dimension") or ""), description=str(quality.get("description") or ""),
            name=str(quality.get("name") or ""), impact=str(quality.get("businessImpact") or ""), operators=operators,
            percent=unit in ("percent", "%", "percentage"), where=_expression(where) if where is not None else None,
            tolerance=share(tolerance) if tolerance is not None else 0.0, written=_plain(quality),
        )
        if text is not None:
            expression = _expression(str(text))
            return replace(base, argument={"expression": expression, "text": str(text)})
        if kind == "text":
            return replace(base, kind="text", argument=quality.get("description"), manual=True)
        if kind == "sql":
            names = [str(self._object[key]).rpartition(".")[2] for key in ("name", "physicalName") if self._object.get(key)]
            written = {**base.written, "names": names}
            return replace(base, argument=str(quality.get("query") or ""), written=written)
        if kind == "custom":
            engine = quality.get("engine")
            return replace(base, not_evaluated=f"it is written for the engine {engine!r}, which is not part of driftd")
        if metric == "duplicateValues":
            columns = tuple(str(n) for n in arguments.get("properties") or ()) or ((column,) if column else ())
            return replace(base, columns=tuple(self._named(n) for n in columns))
        if metric not in METRICS:
            return replace(base, not_evaluated=f"the metric {metric!r} is none of {', '.join(METRICS)}")
        if metric == "rowCount":
            return replace(base, column=None)
        return base

    def _named(self, name: str) -> str:
        """The name in the data of a property that a rule names."""
        for prop in self._object.get("properties") or []:
            if name in (prop.get("name"), prop.get("physicalName")):
                return name_of(prop)
        return name

    def _level(self, level: Lined) -> Rule:
        written = str(level.get("property") or "")
        kind = SHORT_LEVELS.get(written, written)
        element = level.get("element") or self._document.get("slaDefaultElement") or ""
        names = [part.strip() for part in str(element).split(",") if part.strip()]
        columns, elsewhere = [], ""
        reason = ""
        for name in names:
            target, column = self._element(name)
            if target is not None and target != str(self._object.get("name")):
                elsewhere = f"it is about the object {target!r}, which this monitor does not read"
            elif not any(c.name == column for c in self.columns):
                reason = f"the element {name!r} names nothing in this contract"
            columns.append(column)
        reason = elsewhere or reason
        if kind not in LEVELS:
            reason = elsewhere = f"the service level {written!r} does not show in the data; {', '.join(LEVELS)} do"
        argument = {"value": level.get("value"), "unit": level.get("unit")}
        for name, key in (("tolerance", "future"), ("percentile", "percentile")):
            given = custom(level, name)
            if given is not None:
                argument[key] = seconds(given, "s") if key == "future" else float(given)
        return Rule(
            kind, kind, None, SEVERITIES.get(str(custom(level, "severity") or "error").lower(), Verdict.FAIL), argument, level.line,
            "timeliness", str(level.get("description") or ""), columns=tuple(columns), not_evaluated=reason,
            elsewhere=bool(elsewhere), written=_plain(level),
        )

    def _element(self, text: str) -> tuple[str | None, str]:
        target, column = self._target(text)
        if target is not None:
            return target, column
        return None, self._named(text.rpartition(".")[2] if "." in text and not any(c.name == text for c in self.columns) else text)


def _history(value: Any) -> dict[str, Any]:
    span, windows = history(value)
    return {"value": value if value is not True else f"{windows} windows", "seconds": span, "windows": windows}


def _custom_line(mapping: Lined, name: str) -> int:
    for item in mapping.get("customProperties") or []:
        if item.get("property") == name:
            return int(item.line)
    return mapping.line


def _expression(text: str) -> Expression:
    try:
        return parse_expression(str(text))
    except ExpressionError as error:
        raise ContractError(str(error)) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)  # JSON has neither
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _number(rules: Iterator[Rule]) -> Iterator[Rule]:
    """Unique ids; a kind that nothing here executes is said so."""
    seen: set[str] = set()
    for rule in rules:
        free = rule.id
        count = 1
        while free in seen:
            count += 1
            free = f"{rule.id}#{count}"
        seen.add(free)
        numbered = rule if free == rule.id else replace(rule, id=free)
        if not numbered.not_evaluated and not numbered.manual and numbered.kind not in RULES:
            numbered = replace(numbered, not_evaluated=f"rules of kind {numbered.kind!r} are not evaluated by this version")
        yield numbered
