"""Contracts over the whole grammar against an oracle in plain Python, on data that breaks one rule, some, or none."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from contracts.load import parse_contract
from tests.contract_oracle import broken, clauses
from tests.contracting import check

NOW = datetime(2024, 5, 1, tzinfo=UTC)
POOLS: dict[str, list[Any]] = {
    "number": [-1e9, -5.0, -0.4, 0.0, 0.25, 0.5, 1.0, 1.0004, 2.0, 3.0, 7.5, 100.0, 1e9, float("nan"), float("inf"), float("-inf"), None],
    "integer": [-40000, -129, -1, 0, 1, 2, 3, 4, 6, 100, 255, 256, 2**40, None],
    "string": ["", " ", "a", "A1", "abc", "N/A", "n/a", "foo@bar.de", "x-y", "ÄÖ", "long enough text", "123e4567-e89b-12d3-a456-426614174000", None],
    "date": [date(1999, 12, 31), date(2024, 1, 1), date(2024, 2, 29), date(2030, 1, 1), None],
    "timestamp": [datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None],
    "boolean": [True, False, None],
    "array": [[], [1], [1, 1], [1, 2, 3], [5, -7], [1, None], None],
    "object": [{"city": "Rome", "zip": 1}, {"city": None, "zip": 2}, {"city": "x", "zip": None}, {"city": "Oslo", "zip": -9}, {"city": None, "zip": None}, None],
}
ARROW = {
    "number": pa.float64(), "integer": pa.int64(), "string": pa.string(), "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC"),
    "boolean": pa.bool_(), "array": pa.list_(pa.int64()), "object": pa.struct([("city", pa.string()), ("zip", pa.int64())]),
}
TEXTUAL = {"minLength": st.integers(0, 3), "maxLength": st.integers(3, 20), "pattern": st.sampled_from(["[a-z]", "^A", "^(?!N/A).*$", "\\d"]), "format": st.sampled_from(["email", "uuid"])}
NUMERIC = {
    "minimum": st.sampled_from([-5, 0, 0.5]), "exclusiveMinimum": st.sampled_from([-6, 0]), "maximum": st.sampled_from([1, 100, 1e6]),
    "exclusiveMaximum": st.sampled_from([2, 255.5]), "multipleOf": st.sampled_from([0.25, 1, 2]),
}
MOMENTS = {
    "date": {"minimum": st.just("2000-01-01"), "exclusiveMaximum": st.just("2030-01-01"), "exclusiveMinimum": st.just("1999-12-31")},
    "timestamp": {"minimum": st.just("2024-01-01T00:00:00+00:00"), "exclusiveMaximum": st.just("2024-01-02T03:04:05+00:00")},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "string": TEXTUAL, "number": {**NUMERIC, "format": st.just("f32")}, "integer": {**NUMERIC, "format": st.sampled_from(["i8", "u8", "i16"])}, **MOMENTS,
    "boolean": {}, "array": {"minItems": st.integers(0, 2), "maxItems": st.integers(1, 3), "uniqueItems": st.just(True)},
    "object": {"minProperties": st.integers(0, 2), "maxProperties": st.just(1), "required": st.sampled_from([["city"], ["city", "zip"]])},
}
OPERATORS = st.one_of(
    st.just({"mustBe": 0}), st.builds(lambda n: {"mustBeLessThan": n}, st.integers(1, 4)), st.builds(lambda n: {"mustBeLessOrEqualTo": n}, st.integers(0, 3)),
    st.just({"mustBeBetween": [0, 2]}), st.builds(lambda n: {"mustBeLessThan": n, "unit": "percent"}, st.sampled_from([1, 10, 33.3])),
    st.just({"mustNotBe": 1}), st.just({"mustNotBeBetween": [1, 2]}), st.just({"mustBeGreaterOrEqualTo": 0, "mustBeLessThan": 3}),
)


@st.composite
def properties(draw: Any, name: str) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(POOLS)))
    prop: dict[str, Any] = {"name": name, "logicalType": kind}
    options = {key: draw(values) for key, values in OPTIONS[kind].items() if draw(st.integers(0, 2)) == 0}
    if options:
        prop["logicalTypeOptions"] = options
    if draw(st.booleans()):
        prop["required"] = True
    pool = [v for v in POOLS[kind] if v is not None and v == v]
    if kind in ("string", "integer") and draw(st.integers(0, 3)) == 0:
        prop["enum"] = [{"value": v} for v in draw(st.lists(st.sampled_from(pool), min_size=3, unique=True))]
    if kind == "array" and draw(st.booleans()):
        prop["items"] = {"logicalType": "integer", "logicalTypeOptions": {"minimum": 0}, **({"required": True} if draw(st.booleans()) else {})}
    if kind == "object" and draw(st.booleans()):
        prop["properties"] = [{"name": "city", "logicalType": "string", "required": draw(st.booleans())}, {"name": "zip", "logicalType": "integer", "logicalTypeOptions": {"minimum": 0}}]
    if kind in ("string", "integer", "number") and draw(st.integers(0, 5)) == 0:
        prop["unique"] = True
    prop["quality"] = draw(st.lists(qualities(name, kind, pool), max_size=2))
    for index, quality in enumerate(prop["quality"]):
        quality["id"] = f"{name}-q{index}"
    return prop


@st.composite
def qualities(draw: Any, name: str, kind: str, pool: list[Any]) -> dict[str, Any]:
    metrics = ["nullValues", *(["missingValues", "invalidValues", "duplicateValues"] if kind in ("string", "integer") else [])]
    metric = draw(st.sampled_from(metrics))
    arguments: dict[str, Any] = {}
    if metric == "missingValues":
        arguments = {"missingValues": draw(st.lists(st.sampled_from([*pool, None]), min_size=1, max_size=4, unique_by=repr))}
    if metric == "invalidValues":
        if kind == "integer" or draw(st.booleans()):
            arguments["validValues"] = draw(st.lists(st.sampled_from([*pool, None]), min_size=2, unique_by=repr))
            assume([v for v in arguments["validValues"] if v is not None])
        if kind == "string" and (draw(st.booleans()) or not arguments):
            arguments["pattern"] = draw(st.sampled_from(["[a-z]", "^(?=.*\\d).+$"]))
    return {"metric": metric, **({"arguments": arguments} if arguments else {}), **draw(OPERATORS)}


@st.composite
def documents(draw: Any) -> dict[str, Any]:
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    listed = [draw(properties(name)) for name in names]
    keyed = [p for p in listed if p["logicalType"] in ("string", "integer")]
    if keyed and draw(st.booleans()):
        for position, prop in enumerate(keyed[: draw(st.integers(1, 2))]):
            prop |= {"primaryKey": True, "primaryKeyPosition": position + 1}
    quality = [{"metric": "rowCount", **draw(OPERATORS)}] if draw(st.integers(0, 3)) == 0 else []
    quality = [{k: v for k, v in q.items() if k != "unit"} for q in quality]
    return {
        "apiVersion": "v3.2.0", "kind": "DataContract", "id": "c", "version": "1", "status": "active",
        "schema": [{"name": "t", "properties": listed, "quality": quality}],
    }


def table(document: dict[str, Any], rows: list[dict[str, Any]]) -> pa.Table:
    listed = document["schema"][0]["properties"]
    return pa.table({p["name"]: pa.array([row[p["name"]] for row in rows], ARROW[p["logicalType"]]) for p in listed})


def usable(document: dict[str, Any]) -> Any:
    """The contract; documents whose own bounds exclude each other are refused by the lint, and not of interest here."""
    from checks.core.errors import ContractError

    try:
        return parse_contract(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), "c.yaml")
    except ContractError as error:
        assume(not ("is below" in str(error) or "not above" in str(error)))
        raise


def counts(document: dict[str, Any], rows: list[dict[str, Any]], size: int = 1 << 16) -> dict[str, int]:
    contract = usable(document)
    assert len(contract.rules) == len(list(clauses(document))), "a clause became no rule"
    outcome = check(contract, table(document, rows), as_of=NOW, size=size)
    assert [(n.rule.id, n.reason) for n in outcome.not_evaluated] == []
    return {v.rule.id: v.bad for v in outcome.violations}


def row_of(document: dict[str, Any], data: Any) -> dict[str, Any]:
    return {p["name"]: data.draw(st.sampled_from(POOLS[p["logicalType"]])) for p in document["schema"][0]["properties"]}


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(documents(), st.data(), st.sampled_from([3, 1 << 16]))
def test_any_data_breaks_the_rules_that_plain_python_says(document: dict[str, Any], data: Any, size: int) -> None:
    rows = [row_of(document, data) for _ in range(data.draw(st.integers(1, 12)))]
    assert counts(document, rows, size) == broken(document, rows)


@QUICK
@given(documents(), st.data())
def test_data_that_breaks_one_rule_fails_that_rule_alone(document: dict[str, Any], data: Any) -> None:
    """Rows that break nothing, and then some values of one column changed so that one rule alone is broken."""
    listed = document["schema"][0]["properties"]
    document["schema"][0]["quality"] = []
    good: dict[str, list[Any]] = {}
    for prop in listed:
        alone = {**document, "schema": [{"name": "t", "properties": [{k: v for k, v in prop.items() if k not in ("unique", "primaryKey")}]}]}
        good[prop["name"]] = [v for v in POOLS[prop["logicalType"]] if not broken(alone, [{prop["name"]: v}])]
        assume(good[prop["name"]])
    rows = [{name: data.draw(st.sampled_from(values)) for name, values in good.items()} for _ in range(data.draw(st.integers(1, 6)))]
    rows = [row for i, row in enumerate(rows) if not broken(document, rows[: i + 1])]
    assume(rows and not broken(document, rows))
    assert counts(document, rows) == {}
    found = False
    for prop in listed:
        for value in POOLS[prop["logicalType"]]:
            changed = [dict(row) for row in rows]
            for row in changed[: data.draw(st.integers(1, len(rows)))]:
                row[prop["name"]] = value
            wanted = broken(document, changed)
            if len(wanted) == 1:
                found = True
                assert counts(document, changed) == wanted
    assume(found)
