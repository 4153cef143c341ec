"""Every kind of rule on a small example: what breaks it, how many rows, and how each engine finds out; written to
docs/contract-conformance.md by ``DRIFTD_WRITE_DOCS=1 pytest tests/conformance/test_contract_table.py``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from checks.core.profile import Binning
from contracts.load import parse_contract
from contracts.rules import RULES
from monitor.evaluation.contract import Setting, Usual, bind_contract, judge_contract, nested_of
from monitor.evaluation.scan import scan
from monitor.ports import Source
from monitor.profiling.plan import Plan
from tests.contracting import TableSource
from tests.engines.engines import ENGINES

pytestmark = pytest.mark.xdist_group("engines")
DOC = Path(__file__).parents[2] / "docs" / "contract-conformance.md"
AS_OF = datetime(2024, 5, 2, tzinfo=UTC)
Yaml = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """``prop`` is what the property x says, ``item`` what the object says beside; ``bad`` the rows that break ``rule``."""

    kind: str
    prop: Yaml
    values: Any
    bad: int
    rule: str = ""
    item: Yaml | None = None
    level: Yaml | None = None
    others: dict[str, Any] | None = None
    shown: str = ""

    @property
    def name(self) -> str:
        return self.rule or f"x.{self.kind}"

    @property
    def clause(self) -> str:
        """The clause as a reader would write it."""
        return self.shown or yaml.safe_dump(self.level or self.item or self.prop, default_flow_style=True, width=1000).strip()[1:-1]


def opts(kind: str, **options: Any) -> Yaml:
    return {"logicalType": kind, "logicalTypeOptions": options}


def custom(**values: Any) -> Yaml:
    return {"customProperties": [{"property": k, "value": v} for k, v in values.items()]}


def at(*hours: float | None) -> Any:
    return pa.array([None if h is None else AS_OF - timedelta(hours=h) for h in hours], pa.timestamp("us", "UTC"))


NAN, INF = float("nan"), float("inf")
DOUBLES = pa.array([1.0, 0.25, None, NAN, -0.4, 1.0004, INF], pa.float64())
DOCUMENTS = pa.array(['{"k": 1, "l": [1, 2]}', '{"k": -1, "l": []}', "oops", None, '{"l": [3, 3]}'])
STRUCTS = pa.array([{"k": 1, "s": "a"}, {"k": None, "s": None}, None, {"k": -1, "s": "b"}], pa.struct([("k", pa.int64()), ("s", pa.string())]))
LISTS = pa.array([[1, 2], [], [3, 3], None, [-1, None]], pa.list_(pa.int64()))

CASES = [
    Case("required", {"required": True}, DOUBLES, 2), Case("required", {"required": True}, pa.array(["a", "", None]), 1),
    Case("logicalType", {"logicalType": "integer"}, pa.array(["1", "2"]), 2, shown="logicalType: integer on texts"),
    Case("logicalType", {"logicalType": "integer"}, pa.array([1.0, -0.4, None, NAN]), 1, shown="logicalType: integer on real numbers"),
    Case("physicalType", {"physicalType": "varchar(18)"}, pa.array([1, 2]), 2),
    Case("minimum", opts("integer", minimum=0), pa.array([1.0, -0.4, None]), 1, shown="minimum: 0 on an integer that is real"),
    Case("minimum", opts("number", minimum=0), DOUBLES, 2), Case("maximum", opts("number", maximum=1), DOUBLES, 3),
    Case("exclusiveMinimum", opts("number", exclusiveMinimum=0.25), DOUBLES, 3), Case("exclusiveMaximum", opts("number", exclusiveMaximum=1), DOUBLES, 4),
    Case("minimum", opts("date", minimum="2024-01-01"), pa.array([date(2023, 12, 31), date(2024, 1, 1), None]), 1),
    Case("exclusiveMaximum", opts("timestamp", exclusiveMaximum="2024-05-02T00:00:00Z"), at(0, 1, None), 1),
    Case("maximum", opts("time", maximum="12:00:00"), pa.array([time(11), time(12), time(13)], pa.time64("us")), 1),
    Case("multipleOf", opts("number", multipleOf=0.25), DOUBLES, 4), Case("multipleOf", opts("integer", multipleOf=2), pa.array([1, 2, None, -3]), 2),
    Case("format", opts("integer", format="i8"), pa.array([127, 128, -129]), 2), Case("format", opts("string", format="email"), pa.array(["a@b.de", "a", None]), 1),
    Case("format", opts("string", format="uuid"), pa.array(["123e4567-e89b-12d3-a456-426614174000", "x"]), 1),
    Case("pattern", opts("string", pattern="[0-9]"), pa.array(["a1", "b", None, ""]), 2),
    Case("pattern", opts("string", pattern="^(?!x).*$"), pa.array(["a", "xb", None]), 1, shown="pattern with a look-ahead"),
    Case("minLength", opts("string", minLength=2), pa.array(["a", "ab", "ÄÖ", None]), 1), Case("maxLength", opts("string", maxLength=2), pa.array(["abc", "ab", None]), 1),
    Case("enum", {"enum": [{"value": "a"}, {"value": "b"}]}, pa.array(["a", "c", None]), 1),
    Case("timezone", opts("timestamp", timezone=True), pa.array([datetime(2024, 1, 1)], pa.timestamp("us")), 1),
    Case("defaultTimezone", opts("timestamp", defaultTimezone="Etc/UTC"), at(1), 0),
    Case("unique", {"unique": True}, pa.array([1, 1, 1, 2, None, None]), 2),
    Case("primaryKey", {"logicalType": "integer", "primaryKey": True}, pa.array([1, 2, None]), 1),
    Case("uniqueKey", {"primaryKey": True}, pa.array([1, 2, 2]), 1, rule="primaryKey", shown="primaryKey: true, as a whole"),
    Case("nullValues", {"quality": [{"metric": "nullValues", "mustBeLessThan": 20, "unit": "percent"}]}, DOUBLES, 2),
    Case("missingValues", {"quality": [{"metric": "missingValues", "arguments": {"missingValues": ["n/a", ""]}, "mustBe": 0}]}, pa.array(["n/a", "", "a", None]), 2),
    Case("invalidValues", {"quality": [{"metric": "invalidValues", "arguments": {"validValues": ["", None, "n/a"]}, "mustBe": 0}]}, pa.array(["", None, "n/a", "x"]), 1),
    Case("invalidValues", {"quality": [{"metric": "invalidValues", "arguments": {"validValues": ["a"]}, "mustBe": 0}]}, pa.array(["a", None, "x"]), 2),
    Case("duplicateValues", {"quality": [{"metric": "duplicateValues", "mustBeLessThan": 2}]}, pa.array(["a", "a", "a", "b", None, None]), 2),
    Case("rowCount", {}, pa.array([1, 2, 3]), 3, rule="rowCount", item={"quality": [{"metric": "rowCount", "mustBeGreaterThan": 5}]}),
    Case("sql", {"quality": [{"type": "sql", "query": "SELECT COUNT(*) FROM {object} WHERE {property} < 0", "mustBe": 0}]}, pa.array([1, -2, -3]), 2),
    Case("rowExpression", {}, pa.array([1, -2, None]), 1, rule="custom", item={"quality": [{"id": "custom", "type": "custom", "engine": "driftd", "implementation": "x >= 0"}]}),
    Case("nullValues", {}, pa.array([1, None, None]), 1, rule="scoped", others={"y": pa.array(["a", "a", "b"])}, shown="nullValues with where: y = 'a'"),
    Case("foreignKey", {"relationships": [{"to": "t.y"}]}, pa.array([1, 2, 9]), 1, others={"y": pa.array([1, 2, 3])}),
    Case("keyHistory", {**custom(keyHistory="30d")}, pa.array([1, 2]), 0),
    Case("freshness", {}, at(3, 1.51), 2, rule="freshness", level={"property": "freshness", "value": 1.5, "unit": "h", "element": "t.x"}),
    Case("freshness", {}, at(1, -2), 1, rule="freshness", level={"property": "freshness", "value": 5, "unit": "h", "element": "t.x"}, shown="freshness, a time in the future"),
    Case("latency", {}, at(9, 9, 9), 1, rule="latency", others={"y": at(8.9, 8.9, 5)}, level={"property": "latency", "value": 1, "unit": "h", "element": "t.x, t.y"}),
    Case("frequency", {}, at(9, 8, 2), 0, rule="frequency", level={"property": "frequency", "value": 2, "unit": "h", "element": "t.x"}, shown="frequency: 2 h, a gap of six"),
    Case("retention", {}, at(100, 1), 1, rule="retention", level={"property": "retention", "value": 2, "unit": "d", "element": "t.x"}),
    Case("minItems", opts("array", minItems=1), LISTS, 1), Case("maxItems", opts("array", maxItems=1), LISTS, 3), Case("uniqueItems", opts("array", uniqueItems=True), LISTS, 1),
    Case("minimum", {"logicalType": "array", "items": opts("integer", minimum=0)}, LISTS, 1, rule="x[].minimum", shown="items with minimum: 0"),
    Case("required", {"logicalType": "array", "items": {"required": True}}, LISTS, 1, rule="x[].required", shown="items with required: true"),
    Case("dimensions", opts("vector", dimensions=2), pa.array([[0.1, 0.2], [0.1]], pa.list_(pa.float64())), 1),
    Case("minProperties", opts("object", minProperties=1), STRUCTS, 1), Case("maxProperties", opts("object", maxProperties=1), STRUCTS, 2),
    Case("objectRequired", opts("object", required=["k"]), STRUCTS, 1),
    Case("minimum", {"logicalType": "object", "properties": [{"name": "k", **opts("integer", minimum=0)}]}, STRUCTS, 1, rule="x.k.minimum", shown="a property of a struct with minimum: 0"),
    Case("minimum", {"logicalType": "object", "properties": [{"name": "k", **opts("integer", minimum=0)}]}, DOCUMENTS, 1, rule="x.k.minimum", shown="a property of a JSON text with minimum: 0"),
    Case("logicalType", {"logicalType": "object", "properties": [{"name": "k"}]}, DOCUMENTS, 1, rule="x.logicalType", shown="logicalType: object on JSON texts"),
]
SCOPED = {"quality": [{"id": "scoped", "metric": "nullValues", "mustBe": 0, **custom(where="y = 'a'")}]}
NESTED_ONLY = (pa.types.is_struct, pa.types.is_list, pa.types.is_time)


def document(case: Case) -> str:
    prop = {"name": "x", **case.prop, **(SCOPED if case.rule == "scoped" else {})}
    others = [{"name": name} for name in case.others or {}]
    item = {"name": "t", "properties": [prop, *others], **(case.item or {})}
    head = {"apiVersion": "v3.2.0", "kind": "DataContract", "id": "c", "version": "1", "schema": [item]}
    return yaml.safe_dump({**head, **({"slaProperties": [case.level]} if case.level else {})}, sort_keys=False, allow_unicode=True)


def outcome(case: Case, source: Source) -> tuple[int, str]:
    """Bad rows of the case's rule, and how they were found."""
    contract = parse_contract(document(case), "c.yaml")
    types = source.types()
    setting = Setting(source, "parquet", None, None, AS_OF, b"k")
    bound = bind_contract(contract, setting, types)
    found = scan(source, Plan(Binning(()), dict(bound.predicates), nested=nested_of(bound, types), cross=False), types, None, None, types)
    judged = judge_contract(bound, found.profile, setting, types, found.failed, found.apart, Usual())
    assert judged.section["not_evaluated"] == [], judged.section["not_evaluated"]
    assert case.kind in {r.kind for r in contract.rules}
    how = "query" if case.name in bound.queries else "apart" if case.name in found.apart else "scan" if case.name in bound.predicates else "schema"
    broken = {v["rule"]: v for v in judged.section["violations"]}
    if case.kind == "frequency":
        assert "nothing came for 6 h" in broken["frequency"]["reason"]
    others = {name for name in broken if name not in (case.name, "x.logicalType", "x.physicalType") and not name.endswith(".required")}
    assert others <= {"x.primaryKey", "primaryKey"}, others
    return broken.get(case.name, {"bad": 0})["bad"], how


def fits(case: Case, engine: str) -> bool:
    """Whether an engine's test table can hold the values."""
    return engine in ("arrow", "duckdb") or not any(kind(case.values.type) for kind in NESTED_ONLY)



ENGINES_TRIED = ("arrow", "duckdb", "postgres")


def found_on(engine: str, case: Case, folder: Path, address: str) -> str:
    """How an engine finds what breaks the case's rule; it must find the right number of rows."""
    from monitor.sources.sql import CONNECTIONS

    table = pa.table({"x": case.values, **(case.others or {})})
    folder.mkdir(parents=True)
    source: Source = TableSource(table) if engine == "arrow" else ENGINES[engine](table, folder, address)
    try:
        bad, how = outcome(case, source)
    finally:
        CONNECTIONS.close()
        if engine == "postgres":
            import psycopg

            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("DROP TABLE rows")
    assert bad == case.bad, (engine, case.clause)
    return how


def test_every_kind_counts_its_example_and_the_documents_say_how(tmp_path: Path, postgres_server: str) -> None:
    lines = [
        "# Contract conformance", "",
        "Made by `DRIFTD_WRITE_DOCS=1 pytest tests/conformance/test_contract_table.py`; the test fails when it is not what it finds.",
        "`scan`: counted in the one scan, `query`: asked apart in the engine, `apart`: the columns are fetched and counted, as the engine cannot,",
        "`schema`: known from the data's types or the number of rows. The same on Spark: `make test-spark`.", "",
        "| rule | clause | bad rows of the example | files | DuckDB | PostgreSQL |", "|---|---|---|---|---|---|",
    ]
    for index, case in enumerate(CASES):
        how = {
            engine: found_on(engine, case, tmp_path / engine / str(index), postgres_server) if fits(case, engine) else "" for engine in ENGINES_TRIED
        }
        clause = case.clause.replace("|", "\\|")
        lines.append(f"| {case.kind} | `{clause}` | {case.bad} of {len(case.values)} | {how['arrow']} | {how['duckdb']} | {how['postgres']} |")
    assert {case.kind for case in CASES} == set(RULES.kinds())
    text = "\n".join(lines) + "\n"
    if os.environ.get("DRIFTD_WRITE_DOCS"):
        DOC.write_text(text)
    assert DOC.read_text() == text, "run it once with DRIFTD_WRITE_DOCS=1"
