"""What is wrong with a contract document before any data is seen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VERSIONS = ("v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0")
TYPES = (
    "string", "date", "timestamp", "time", "number", "integer", "object", "array", "boolean", "map", "vector",
)
DOCUMENT_KEYS = frozenset(
    ["apiVersion", "kind", "id", "version", "name", "status", "tenant", "domain", "dataProduct", "description", "servers", "schema", "support", "price", "team", "roles", "slaProperties", "slaDefaultElement", "tags", "customProperties", "authoritativeDefinitions", "contractCreatedTs"]
)
OBJECT_KEYS = frozenset(
    ["id", "name", "physicalName", "physicalType", "logicalType", "businessName", "description", "dataGranularityDescription", "properties", "quality", "relationships", "tags", "customProperties", "authoritativeDefinitions"]
)
PROPERTY_KEYS = frozenset(
    ["id", "name", "physicalName", "physicalType", "logicalType", "logicalTypeOptions", "businessName", "description", "required", "unique", "primaryKey", "primaryKeyPosition", "partitioned", "partitionKeyPosition", "classification", "encryptedName", "transformSourceObjects", "transformLogic", "transformDescription", "criticalDataElement", "examples", "enum", "properties", "items", "quality", "relationships", "tags", "customProperties", "authoritativeDefinitions", "semanticType"]
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; an error keeps the contract from being used."""

    path: str
    line: int
    message: str
    error: bool = True

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def lint_document(document: Any, path: str) -> Iterator[Finding]:
    """Every finding in a document read by `contracts.load.read_yaml`."""
    if not isinstance(document, dict):
        yield Finding(path, 1, "not an ODCS document: a mapping with apiVersion, kind and schema is needed")
        return
    lines = getattr(document, "lines", {})
    version = document.get("apiVersion")
    if version not in VERSIONS:
        yield Finding(path, lines.get("apiVersion", 1), f"apiVersion {version!r} is not known; allowed are {', '.join(VERSIONS)}")
    if document.get("kind") != "DataContract":
        yield Finding(path, lines.get("kind", 1), f"kind {document.get('kind')!r} is not DataContract")
    yield from _unknown(document, DOCUMENT_KEYS, path)
    for key in ("slaProperties", "schema"):
        if document.get(key) is not None and not _mappings(document[key]):
            yield Finding(path, lines.get(key, 1), f"{key} must be a list of mappings")
    objects = document.get("schema")
    if not objects or not _mappings(objects):
        yield Finding(path, lines.get("schema", 1), "schema needs at least one object")
        return
    for item in objects:
        yield from _unknown(item, OBJECT_KEYS, path)
        for key in ("properties", "quality"):
            if item.get(key) is not None and not _mappings(item[key]):
                yield Finding(path, item.lines[key], f"{key} must be a list of mappings")
                return
        for prop in item.get("properties") or []:
            yield from _property(prop, path)


def _mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _unknown(mapping: Any, known: frozenset[str], path: str) -> Iterator[Finding]:
    for key in mapping:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield Finding(path, mapping.lines[key], f"unknown key {key!r}{hint}")


def _property(prop: Any, path: str) -> Iterator[Finding]:
    options: Any
    if not prop.get("name"):
        yield Finding(path, prop.line, "a property needs a name")
        return
    name = prop["name"]
    yield from _unknown(prop, PROPERTY_KEYS, path)
    kind = prop.get("logicalType")
    if kind is not None and kind not in TYPES:
        yield Finding(path, prop.lines["logicalType"], f"{name}: logicalType {kind!r} is not one of {', '.join(TYPES)}")
    if prop.get("quality") is not None and not _mappings(prop["quality"]):
        yield Finding(path, prop.lines["quality"], f"{name}: quality must be a list of mappings")
    if prop.get("enum") is not None and not isinstance(prop["enum"], list):
        yield Finding(path, prop.lines["enum"], f"{name}: enum must be a list")
    options = prop.get("logicalTypeOptions") or {}
    if type(options).__name__ not in ("dict", "Lined"):
        yield Finding(path, prop.lines["logicalTypeOptions"], f"{name}: logicalTypeOptions must be a mapping")
        return
    low, high = options.get("minimum"), options.get("maximum")
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"):
        value = options.get(key)
        numeric = kind in (None, "number", "integer") or "Length" in key
        if value is not None and numeric and (isinstance(value, bool) or not isinstance(value, (int, float))):
            yield Finding(path, options.lines[key], f"{name}: {key} {value!r} is not a number")
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
        yield Finding(path, options.lines["maximum"], f"{name}: maximum {high} is below minimum {low}")
    pattern = options.get("pattern")
    if pattern is not None:
        try:
            re.compile(str(pattern))
        except re.error as error:
            yield Finding(path, options.lines["pattern"], f"{name}: pattern {pattern!r} is not a regular expression: {error}")
