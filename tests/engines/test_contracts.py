"""One contract with every kind of rule gives the same violations and counts on every engine; what runs apart is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from contracts.load import parse_contract
from contracts.rules import RULES
from tests.contracting import TableSource, judged
from tests.engines.cases import START, WINDOW
from tests.engines.engines import Open

pytestmark = pytest.mark.xdist_group("engines")

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: engines
version: 1.0.0
status: active
schema:
  - name: rows
    properties:
      - {name: at, logicalType: timestamp, required: true, logicalTypeOptions: {minimum: "2024-03-10T00:00:10Z"}}
      - {name: made, logicalType: timestamp}
      - {name: id, logicalType: integer, primaryKey: true, primaryKeyPosition: 1}
      - {name: part, logicalType: string, primaryKey: true, primaryKeyPosition: 2}
      - name: x
        logicalType: number
        physicalType: double
        required: true
        logicalTypeOptions: {minimum: 0, exclusiveMaximum: 100, multipleOf: 0.25, format: f32}
        quality:
          - {metric: nullValues, mustBeLessThan: 5, unit: percent}
          - id: where
            metric: nullValues
            mustBe: 0
            customProperties: [{property: where, value: "part = 'a'"}]
          - {id: sql, type: sql, query: "SELECT COUNT(*) FROM {object} WHERE {property} > 50", mustBe: 0}
          - {id: sqlnested, type: sql, query: "WITH t AS (SELECT part, MAX(x) AS m FROM {object} GROUP BY part) SELECT COUNT(*) FROM t", mustBeGreaterThan: 10}
      - {name: whole, logicalType: integer, logicalTypeOptions: {multipleOf: 2, maximum: 30, format: i8}}
      - {name: turned, logicalType: integer, logicalTypeOptions: {minimum: 0}}
      - name: c
        logicalType: string
        enum: [{value: red}, {value: blue}, {value: Gruen}]
        logicalTypeOptions: {minLength: 3, maxLength: 4, pattern: "^[a-z]"}
        quality:
          - {metric: invalidValues, arguments: {validValues: [red, blue, null]}, mustBe: 0}
          - {metric: missingValues, arguments: {missingValues: ["n/a", "", null]}, mustBeLessThan: 3}
          - {id: look, metric: invalidValues, arguments: {pattern: "^(?!n)"}, mustBe: 0}
          - {id: dup, metric: duplicateValues, mustBeLessThan: 3}
      - {name: u, logicalType: string, unique: true}
      - name: js
        logicalType: object
        properties:
          - {name: k, logicalType: integer, required: true, logicalTypeOptions: {minimum: 2}}
          - name: l
            logicalType: array
            logicalTypeOptions: {maxItems: 2}
            items: {logicalType: integer, logicalTypeOptions: {maximum: 9}}
      - name: parent
        logicalType: integer
        relationships: [{to: rows.id}]
    quality:
      - {metric: rowCount, mustBeBetween: [1, 20]}
      - {metric: duplicateValues, arguments: {properties: [part, c]}, mustBe: 0}
      - {id: expression, type: custom, engine: driftd, implementation: "x <= whole OR part = 'b'"}
      - {id: soda, type: custom, engine: soda, implementation: "checks"}
      - {id: words, type: text, description: "looks right"}
slaProperties:
  - {property: freshness, value: 1.5, unit: h, element: rows.made}
  - {property: latency, value: 10, unit: min, element: "rows.at, rows.made", customProperties: [{property: percentile, value: 0.9}]}
  - {property: frequency, value: 30, unit: s, element: rows.at}
  - {property: retention, value: 1, unit: h, element: rows.made}
  - {property: generalAvailability, value: "2024-01-01"}
"""


def table() -> pa.Table:
    rows = 40
    x: list[float | None] = [i * 2.5 for i in range(rows)]
    x[3], x[7], x[11] = None, float("nan"), -0.5
    colours = (["red", "blue", "n/a", "", None, "Gruen", "ab"] * 6)[:rows]
    return pa.table({
        "at": pa.array([START + timedelta(seconds=7 * i + (60 if i > 30 else 0)) for i in range(rows)], pa.timestamp("us", "UTC")),
        "made": pa.array([START + timedelta(seconds=7 * i, minutes=12 if i % 3 == 0 else 1) for i in range(rows)], pa.timestamp("us", "UTC")),
        "id": pa.array([i // 2 * 2 for i in range(rows)], pa.int64()), "part": ["ab"[i % 5 == 0] for i in range(rows)], "x": pa.array(x),
        "whole": pa.array([i if i % 7 else None for i in range(rows)], pa.int64()), "turned": [str(i) for i in range(rows)],
        "c": pa.array(colours), "u": pa.array([None if i % 9 == 0 else f"u{i // 3}" for i in range(rows)]),
        "js": pa.array([None if i % 8 == 0 else "{bad" if i == 5 else f'{{"k": {i % 4}, "l": {list(range(i % 4 + 7, i % 4 + 8 + i % 3))}}}' for i in range(rows)]),
        "parent": pa.array([i if i % 3 else 1000 + i for i in range(rows)], pa.int64()),
        "surprise": [1] * rows,
    })


AS_OF = START + timedelta(hours=2)
INSIDE = {"js.k.required", "js.k.minimum", "js.k.logicalType", "js.logicalType", "js.l.maxItems", "js.l[].maximum", "js.l[].logicalType", "js.l.logicalType"}
PATTERNS = {"duckdb": {"look"}, "postgres": set[str](), "spark": set[str]()}
"""Patterns that an engine has no syntax for: those are counted apart."""


def test_every_kind_of_rule_counts_the_same_on_every_engine(engine: tuple[str, Open], tmp_path: Path) -> None:
    name, open_table = engine
    contract = parse_contract(CONTRACT, "c.yaml")
    wanted = judged(contract, TableSource(table()), as_of=AS_OF, timestamp="at", window=WINDOW, identifier="id")
    found = judged(contract, open_table(table(), tmp_path), as_of=AS_OF, timestamp="at", window=WINDOW, identifier="id")
    shown: Callable[[Any], dict[str, Any]] = lambda j: {v["rule"]: (v["bad"], v["rows"], v["kind"]) for v in j.section["violations"]}  # noqa: E731
    assert shown(found) == shown(wanted)
    skipped = {n["rule"]: n["status"] for n in wanted.section["not_evaluated"]}
    assert {n["rule"]: n["status"] for n in found.section["not_evaluated"]} == skipped
    assert skipped == {"turned.minimum": "not_evaluated", "soda": "not_evaluated", "words": "manual", "generalAvailability": "not_evaluated"}
    assert found.section["rules"] == wanted.section["rules"]
    apart = set(found.section["apart"])
    assert apart == (set() if name == "arrow" else INSIDE | PATTERNS[name]), found.section["apart"]
    samples = {v["rule"]: [s.get("id") for s in v["samples"]] for v in found.section["violations"] if v["rule"] in ("x.minimum", "c.enum", "js.k.minimum")}
    assert all(samples.values()), samples
    kinds = {v.rule.kind for v in wanted.outcome.violations} | {contract.rules[i].kind for i, r in enumerate(contract.rules) if r.id in wanted.outcome.passed}
    untried = set(RULES.kinds()) - kinds - {  # of types that a table here does not have, or tried elsewhere
        "keyHistory", "timezone", "defaultTimezone", "minItems", "uniqueItems", "minProperties", "maxProperties", "objectRequired", "dimensions",
        "exclusiveMinimum",
    }
    assert untried == set()


def test_sql_that_never_ends_fails_alone_and_in_time(engine: tuple[str, Open], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monitor.profiling import queries

    name, open_table = engine
    seconds = 8.0 if name == "spark" else 1.0  # Spark needs as long for a query that ends
    monkeypatch.setattr(queries, "SQL_SECONDS", seconds)
    crossed = ", ".join(f"{{object}} t{i}" for i in range(7 if name == 'spark' else 12))
    text = CONTRACT.replace("SELECT COUNT(*) FROM {object} WHERE {property} > 50", f"SELECT COUNT(*) FROM {crossed}")
    found = judged(parse_contract(text, "c.yaml"), open_table(table(), tmp_path), as_of=AS_OF, timestamp="at", window=WINDOW)
    (failed,) = [n for n in found.section["not_evaluated"] if n["status"] == "error"]
    assert failed["rule"] == "sql"
    assert f"longer than {seconds:g} s" in failed["reason"], name
    assert {v["rule"] for v in found.section["violations"]} >= {"x.minimum", "sqlnested", "primaryKey"}


def test_key_digests_are_the_same_whatever_engine_made_them(engine: tuple[str, Open], tmp_path: Path) -> None:
    _, open_table = engine
    text = CONTRACT.replace("    quality:\n      - {metric: rowCount", "    customProperties: [{property: keyHistory, value: 30d}]\n    quality:\n      - {metric: rowCount")
    contract = parse_contract(text, "c.yaml")
    before = judged(contract, TableSource(table()), as_of=AS_OF, timestamp="at", window=WINDOW)
    assert before.keys is not None
    earlier = [(datetime(2024, 3, 9, tzinfo=UTC), before.keys)]
    found = judged(contract, open_table(table(), tmp_path), as_of=AS_OF, timestamp="at", window=WINDOW, earlier=earlier)
    assert found.keys == before.keys
    (violation,) = [v for v in found.section["violations"] if v["kind"] == "keyHistory"]
    assert violation["cause"]["kind"] == "redelivered"
    assert "2024-03-09" in violation["reason"]
