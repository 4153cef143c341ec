"""YAML to contract, with the line of every rule; nothing of the document is dropped in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from checks.core.errors import ContractError
from checks.core.result import Verdict
from contracts.lint import lint_document
from contracts.model import Column, Contract, Rule
from contracts.rules import RULES

MOST_BYTES = 2_000_000
MOST_ALIASES = 100
SEVERITIES = {
    **dict.fromkeys(("info", "low", "minor", "trivial", "warning", "warn"), Verdict.WARN),
    **dict.fromkeys(("error", "major", "high", "critical", "blocker"), Verdict.FAIL),
}
OPTIONS = ("minLength", "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


class Lined(dict[str, Any]):
    """A mapping that remembers its line and those of its keys."""

    line = 1

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


def read_yaml(text: str, path: str) -> Any:
    """The document with `Lined` mappings; duplicate keys, tags and heavy aliasing are refused."""
    if len(text) > MOST_BYTES:
        raise ContractError(f"{path}: the document has {len(text):,} characters; at most {MOST_BYTES:,} are read")
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        if aliases > MOST_ALIASES:
            raise ContractError(f"{path}: {aliases} aliases; at most {MOST_ALIASES} are allowed")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ContractError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    return _plain(node, path, [0]) if node is not None else None


def _plain(node: yaml.Node, path: str, made: list[int]) -> Any:
    made[0] += 1
    if made[0] > 200_000:
        raise ContractError(f"{path}: the document expands to more than 200,000 nodes")
    if isinstance(node, yaml.MappingNode):
        mapping = Lined()
        mapping.line = node.start_mark.line + 1
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in mapping:
                raise ContractError(f"{path}:{key_node.start_mark.line + 1}: the key {key!r} is there twice")
            mapping.lines[key] = key_node.start_mark.line + 1
            mapping[key] = _plain(value_node, path, made)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path, made) for item in node.value]
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        raise ContractError(f"{path}:{node.start_mark.line + 1}: {node.value!r}: {error}") from None


def load_contract(path: Path, object_name: str | None = None) -> Contract:
    """The contract in the file at ``path``; `ContractError` names file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ContractError(f"{path}: there is no such contract file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: cannot be read: {error}") from None
    return parse_contract(text, str(path), object_name)


def parse_contract(text: str, path: str, object_name: str | None = None) -> Contract:
    """The contract that the ODCS document ``text`` holds for the object of that name, or for its first object."""
    document = read_yaml(text, path)
    for finding in lint_document(document, path):
        if finding.error:
            raise ContractError(str(finding))
    objects = document["schema"]
    chosen = next((o for o in objects if object_name in (o.get("name"), o.get("physicalName"))), objects[0])
    rules = list(_number(_rules(document, chosen)))
    columns = tuple(
        Column(
            str(p.get("physicalName") or p["name"]), p.get("logicalType"), p.get("classification"), p.line,
        )
        for p in chosen.get("properties") or []
    )
    return Contract(
        id=str(document.get("id", "")), version=str(document.get("version", "")),
        hash="sha256:" + hashlib.sha256(text.encode()).hexdigest()[:16],
        object=str(chosen.get("name", "")), columns=columns, rules=tuple(rules), path=path,
        strict_columns=_custom(chosen, "strictColumns") is True,
    )


def _custom(mapping: Lined, name: str) -> Any:
    for item in mapping.get("customProperties") or []:
        if item.get("property") == name:
            return item.get("value")
    return None


def _severity(quality: Lined) -> Verdict:
    return SEVERITIES.get(str(quality.get("severity", "error")).lower(), Verdict.FAIL)


def _rules(document: Lined, chosen: Lined) -> Iterator[Rule]:
    for prop in chosen.get("properties") or []:
        yield from _property_rules(prop)
    for quality in chosen.get("quality") or []:
        yield _quality_rule(quality, None)
    for sla in document.get("slaProperties") or []:
        kind = str(sla.get("property", ""))
        reason = "" if kind in ("freshness", "latency") else f"the service level {kind!r} is not evaluated by this version"
        yield Rule(
            kind if reason else "freshness", "freshness" if not reason else kind, None, Verdict.FAIL, dict(sla), sla.line,
            "timeliness", not_evaluated=reason,
        )
    for other in document["schema"]:
        if other is not chosen:
            yield Rule(
                f"{other.get('name')}.object", "object", None, Verdict.FAIL, None, other.line,
                not_evaluated=f"the contract's object {other.get('name')!r} is not the one that this monitor reads",
            )


def _property_rules(prop: Lined) -> Iterator[Rule]:
    name = str(prop.get("physicalName") or prop["name"])

    def rule(kind: str, argument: Any, line: int, reason: str = "") -> Rule:
        return Rule(f"{name}.{kind}", kind, name, Verdict.FAIL, argument, line, not_evaluated=reason)

    if prop.get("logicalType"):
        yield rule("logicalType", prop["logicalType"], prop.lines["logicalType"])
    if prop.get("required") is True or prop.get("primaryKey") is True:
        yield rule("required", True, prop.lines.get("required", prop.line))
    for key in ("unique", "primaryKey"):
        if prop.get(key) is True:
            yield rule("unique", True, prop.lines[key], "exact uniqueness is not evaluated by this version")
    if prop.get("enum"):
        yield rule("enum", [_enum_value(v) for v in prop["enum"]], prop.lines["enum"])
    options = prop.get("logicalTypeOptions") or Lined()
    for key, value in options.items():
        reason = "" if key in OPTIONS else f"the option {key!r} is not evaluated by this version"
        yield rule(key, value, options.lines[key], reason)
    for nested in ("properties", "items"):
        if prop.get(nested):
            yield rule(nested, None, prop.lines[nested], "nested columns are not evaluated by this version")
    for quality in prop.get("quality") or []:
        yield _quality_rule(quality, name)


def _enum_value(value: Any) -> Any:
    return value.get("value") if isinstance(value, dict) else value


def _quality_rule(quality: Lined, column: str | None) -> Rule:
    kind = str(quality.get("type", "library"))
    metric = str(quality.get("metric") or quality.get("rule") or "")
    operators = {key: value for key, value in quality.items() if key.startswith("must")}
    name = metric or kind
    base: dict[str, Any] = {
        "severity": _severity(quality), "line": quality.line, "dimension": str(quality.get("dimension", "")),
        "description": str(quality.get("description", "")),
    }
    prefix = f"{column}." if column else ""
    identifier = str(quality.get("id") or quality.get("name") or prefix + name)
    if kind == "text":
        return Rule(identifier, "text", column, argument=quality.get("description"), manual=True, **base)
    if kind == "library" and metric == "rowCount" and column is None:
        return Rule(identifier, "rowCount", None, argument=operators, **base)
    arguments = quality.get("arguments") or {}
    zero = operators == {"mustBe": 0}
    if kind == "library" and metric == "nullValues" and column and zero:
        return Rule(identifier, "required", column, argument=True, **base)
    if kind == "library" and metric == "invalidValues" and column and zero and set(arguments) == {"validValues"}:
        return Rule(identifier, "enum", column, argument=list(arguments["validValues"]), **base)
    if kind == "library" and metric == "invalidValues" and column and zero and set(arguments) == {"pattern"}:
        return Rule(identifier, "pattern", column, argument=arguments["pattern"], **base)
    return Rule(
        identifier, name, column, argument=operators,
        not_evaluated=f"quality rules of type {kind!r} with metric {metric!r} and these operators are not evaluated by this version",
        **base,
    )


def _number(rules: Iterator[Rule]) -> Iterator[Rule]:
    from dataclasses import replace

    seen: dict[str, int] = {}
    for rule in rules:
        seen[rule.id] = seen.get(rule.id, 0) + 1
        numbered = rule if seen[rule.id] == 1 else replace(rule, id=f"{rule.id}#{seen[rule.id]}")
        if not numbered.not_evaluated and not numbered.manual and numbered.kind not in RULES:
            numbered = replace(numbered, not_evaluated=f"rules of kind {numbered.kind!r} are not evaluated by this version")
        yield numbered
