"""A document against the JSON Schema of its own version of the standard, and the keys that are known at each place."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from contracts.document import line_at

SCHEMAS = {"v3.0.0": "3.0.1", "v3.0.1": "3.0.1", "v3.0.2": "3.0.2", "v3.1.0": "3.1.0", "v3.2.0": "3.2.0"}
"""The schema that is published for each version of the standard."""

COMMON = "3.1.0"
Place = list[str | int]


@cache
def schema_of(version: str) -> dict[str, Any]:
    """The JSON Schema of a version, mended.

    As published, ``logicalType: map`` and ``vector`` are taken for given on properties without any logicalType, and a rule
    may have one operator only; driftd evaluates rules with several, all of which must hold.
    """
    text = (files("contracts") / "schemas" / f"odcs-v{version}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    definitions = schema["$defs"]
    for clause in definitions["SchemaBaseProperty"]["allOf"]:
        kind = clause.get("if", {}).get("properties", {}).get("logicalType", {}).get("const")
        if kind in ("map", "vector"):
            clause["if"]["required"] = ["logicalType"]
    operators = definitions.get("DataQualityOperators")
    if operators is not None:
        operators["anyOf"] = operators.pop("oneOf")
    return schema


def _plain(value: Any, path: str = "") -> Any:
    """The document as JSON; the options of a property without a logicalType are left to the lint."""
    if isinstance(value, dict):
        untyped = "logicalType" not in value
        return {k: _plain(v) for k, v in value.items() if not (untyped and k == "logicalTypeOptions" and isinstance(v, dict))}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value


def violations(document: Any, version: str) -> list[tuple[Place, str]]:
    """Where ``document`` breaks the JSON Schema of ``version`` and that of 3.1, too, and how: of its own schema."""
    found = _violations(document, SCHEMAS[version])
    if found and SCHEMAS[version] != COMMON and not _violations({**document, "apiVersion": "v3.1.0"}, COMMON):
        return []
    return found


def _violations(document: Any, version: str) -> list[tuple[Place, str]]:
    import jsonschema_rs

    found: dict[tuple[str, str], tuple[Place, str]] = {}
    for error in _validator(version).iter_errors(_plain(document)):
        place: Place = list(error.instance_path)
        message = error.message
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
            message = f"the key {error.kind.property!r} is needed"
        elif "is not of type \"string\"" in message and not isinstance(error.instance, (dict, list)):
            message = f"{message.split(' is not', 1)[0]} must be a text: put it in quotes"
        elif isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Enum):
            options = [str(option) for option in error.kind.options]
            near = difflib.get_close_matches(str(error.instance), options, 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            message = f"{error.instance!r} is not one of {', '.join(options)}{hint}"
        elif isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AnyOf) and "quality" in place:
            message = "the rule needs an operator such as mustBe with a number; mustBeBetween and mustNotBeBetween need two: [low, high]"
        elif isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Type) and not isinstance(error.instance, (dict, list)):
            wanted = message.rpartition("is not of type ")[2].replace('"', "")
            message = f"{error.instance!r} is not {'an' if wanted[:1] in 'aeiou' else 'a'} {wanted}"
        elif "nevaluated properties" in message or "dditional properties" in message:
            message = message[0].upper() + message[1:]
        found.setdefault((str(place), message), (place, message if len(message) < 300 else message[:297] + "..."))
    return list(found.values())


@cache
def _validator(version: str) -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft201909Validator(schema_of(version))


def unknown_keys(document: Any, version: str) -> Iterator[tuple[Place, str, str]]:
    """Every key, at any depth, that neither the schema of ``version`` nor that of 3.1 knows: place, key, nearest known key."""
    schemas = [schema_of(v) for v in dict.fromkeys((SCHEMAS[version], COMMON))]
    yield from _walk(document, [(s, s) for s in schemas], [])


Node = tuple[dict[str, Any], dict[str, Any]]


def _walk(value: Any, nodes: Sequence[Node], place: Place) -> Iterator[tuple[Place, str, str]]:
    expanded = [part for node in nodes for part in _expand(*node)]
    if isinstance(value, dict):
        known: dict[str, list[Node]] = {}
        for root, node in expanded:
            for key, child in node.get("properties", {}).items():
                known.setdefault(key, []).append((root, child))
        for key, item in value.items():
            if known and key not in known:
                near = difflib.get_close_matches(key, known, 1)
                yield [*place, key], key, near[0] if near else ""
            elif key in known:
                yield from _walk(item, known[key], [*place, key])
    elif isinstance(value, list):
        items = [(root, node["items"]) for root, node in expanded if isinstance(node.get("items"), dict)]
        for index, item in enumerate(value):
            yield from _walk(item, items, [*place, index])


def _expand(root: dict[str, Any], node: dict[str, Any], depth: int = 0) -> Iterator[Node]:
    """``node`` and all that it refers to, whether its conditions hold or not."""
    yield root, node
    if depth > 8:
        return
    inner = [*node.get("allOf", ()), *node.get("anyOf", ()), *node.get("oneOf", ())]
    inner += [node[key] for key in ("then", "else") if isinstance(node.get(key), dict)]
    if "$ref" in node:
        target: Any = root
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        inner.append(target)
    for part in inner:
        if isinstance(part, dict):
            yield from _expand(root, part, depth + 1)


def where(place: Place) -> str:
    """``schema[0].properties[2].logicalType``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


__all__ = ["SCHEMAS", "line_at", "schema_of", "unknown_keys", "violations", "where"]
