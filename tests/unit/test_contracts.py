"""Contracts: documents with lines, every rule accounted for, the right rows counted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from checks.core.errors import ContractError
from contracts.load import load_contract, parse_contract
from contracts.model import ContractOutcome
from tests.contracting import check

HEAD = "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n    properties:\n"
NOW = datetime(2024, 1, 2, tzinfo=UTC)


def run(properties: str, table: pa.Table, tail: str = "") -> ContractOutcome:
    contract = parse_contract(HEAD + properties + tail, "c.yaml")
    return check(contract, table, as_of=NOW, last=NOW.replace(day=1))


def broken(outcome: ContractOutcome) -> dict[str, int]:
    return {v.rule.id: v.bad for v in outcome.violations}


NUMBER = "      - {name: x, logicalType: number, required: true, logicalTypeOptions: {minimum: 0, exclusiveMaximum: 1}}\n"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 0.999], {}), ([-0.4, 0.5], {"x.minimum": 1}), ([1.0, 1.0004], {"x.exclusiveMaximum": 2}), ([None, 0.5], {"x.required": 1}),
        ([float("nan"), 0.5], {"x.required": 1, "x.minimum": 1, "x.exclusiveMaximum": 1}), ([float("inf")], {"x.exclusiveMaximum": 1}), ([float("-inf")], {"x.minimum": 1}),
    ],
)
def test_bounds_and_nulls_of_numbers(values: list[Any], expected: dict[str, int]) -> None:
    assert broken(run(NUMBER, pa.table({"x": pa.array(values, pa.float64())}))) == expected


def test_an_integer_column_that_turned_text_is_one_violation_and_blocks_what_reads_it() -> None:
    outcome = run("      - {name: x, logicalType: integer, logicalTypeOptions: {minimum: 0}}\n", pa.table({"x": ["1", "2"]}))
    assert broken(outcome) == {"x.logicalType": 2}
    assert {n.rule.id: n.reason for n in outcome.not_evaluated} == {"x.minimum": "blocked: the column is of type string"}


def test_a_missing_column_is_one_violation_and_an_extra_one_a_warning() -> None:
    outcome = run(NUMBER, pa.table({"y": [1.0]}))
    assert broken(outcome) == {"x.missingColumn": 1, "y.extraColumn": 1}
    assert [str(v.verdict) for v in outcome.violations] == ["fail", "warn"]
    assert {n.reason for n in outcome.not_evaluated} == {"blocked by missing column"}


@pytest.mark.parametrize("pattern", ["^[A-Z]{2}$", "^(?=[A-Z])..$"])
def test_a_pattern_is_evaluated_even_where_the_engine_cannot_run_it(pattern: str) -> None:
    outcome = run(
        f"      - {{name: c, logicalType: string, logicalTypeOptions: {{pattern: '{pattern}'}}}}\n", pa.table({"c": ["AA", "aa", None, "BB", "x"]})
    )
    assert broken(outcome) == {"c.pattern": 2}


def test_sets_counts_and_freshness() -> None:
    properties = (
        "      - name: c\n        quality:\n          - {metric: invalidValues, arguments: {validValues: [a, b]}, mustBe: 0, severity: warning}\n"
        "    quality:\n      - {metric: rowCount, mustBeBetween: [5, 10]}\n      - {type: text, description: looks right}\n"
        "      - {type: sql, query: 'SELECT 1', mustBe: 0}\n"
        "slaProperties:\n  - {property: freshness, value: 1.5, unit: h}\n"
    )
    outcome = run(properties, pa.table({"c": ["a", "z", None]}))
    assert broken(outcome) == {"c.invalidValues": 2, "rowCount": 3, "sql": 1, "freshness": 3}
    assert {n.rule.kind for n in outcome.not_evaluated} == {"text"}
    assert sum(n.rule.manual for n in outcome.not_evaluated) == 1


def test_an_empty_window_never_passes_a_rule() -> None:
    outcome = run(NUMBER, pa.table({"x": pa.array([], pa.float64())}))
    assert outcome.passed == ()
    assert {n.reason for n in outcome.not_evaluated} == {"the window is empty"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not YAML"), ("[]", "not an ODCS document"), (HEAD.replace("v3.1.0", "v9") + NUMBER, "c.yaml:1: apiVersion 'v9' is not known"),
        (HEAD + "      - {name: x, requird: true}\n", "c.yaml:9: schema[0].properties[0]: unknown key 'requird'; did you mean 'required'"),
        (HEAD + "      - {name: x, name: y}\n", "is there twice"), (HEAD + NUMBER.replace("minimum: 0", "minimum: low"), "c.yaml:9: schema[0].properties[0].logicalTypeOptions.minimum: 'low' is not a number"),
        (HEAD + "      - {name: x, logicalType: string, logicalTypeOptions: {pattern: '['}}\n", "not a regular expression"),
        (HEAD + "      - {name: x, logicalTypeOptions: {minimum: 5, maximum: 1}}\n", "maximum 1 is below minimum 5"), ("x" * 3_000_000, "at most"),
        ("a: &a [1,1]\nb: [" + ",".join(["*a"] * 200) + "]\n", "aliases"), (HEAD.split("schema")[0], "schema needs at least one object"),
    ],
)
def test_a_document_that_cannot_be_used_is_refused_with_file_line_and_reason(text: str, words: str) -> None:
    with pytest.raises(ContractError, match=r"c\.yaml") as caught:
        parse_contract(text, "c.yaml")
    assert words in str(caught.value)


def test_the_example_contract_has_no_rule_that_is_not_executed() -> None:
    contract = load_contract(Path(__file__).parents[2] / "contracts/examples/flight-delay.odcs.yaml")
    assert [r.id for r in contract.rules if r.not_evaluated or r.manual] == []
    assert len(contract.rules) > 40
