"""Lint, schemas, diff, masks and causes: what is said of contracts and of violations without a window."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from checks.core.result import Verdict
from contracts.causes import Clues, one_edit, suspect
from contracts.diff import diff
from contracts.document import read_yaml
from contracts.lint import lint_document
from contracts.load import load_contract, parse_contract
from contracts.masking import masked, shape
from contracts.model import Rule, Violation
from contracts.rules._duration import seconds, words
from contracts.rules.format import date_pattern
from contracts.rules.physical_type import family
from contracts.schema import schema_of
from monitor.cli.root import app

HEAD = "apiVersion: v3.2.0\nkind: DataContract\nid: c\nversion: {version}\nschema:\n  - name: t\n    properties:\n"


def contract(properties: str, version: str = "1.0.0", tail: str = "") -> str:
    return HEAD.format(version=version) + "".join(f"      - {line}\n" for line in properties.splitlines()) + tail


def graded(text: str) -> list[tuple[str, str]]:
    return [(f.grade, f.message) for f in lint_document(read_yaml(text, "c.yaml", times_as_text=True), "c.yaml")]


def test_our_copy_of_the_schema_says_what_the_package_of_the_standard_says() -> None:
    def stripped(node: Any) -> Any:
        if isinstance(node, dict):
            prose = ("description", "examples", "title", "default", "$comment", "deprecated")
            return {k: stripped(v) for k, v in node.items() if not (k in prose and not isinstance(v, dict))}
        return [stripped(v) for v in node] if isinstance(node, list) else node

    theirs = json.loads((files("open_data_contract_standard") / "schema.json").read_text())
    ours = json.loads((files("contracts") / "schemas" / "odcs-v3.2.0.json").read_text())
    assert ours == stripped(theirs)


def test_the_published_schema_is_mended_for_properties_without_a_type() -> None:
    clauses = [c for c in schema_of("3.2.0")["$defs"]["SchemaBaseProperty"]["allOf"] if c.get("then", {}).get("required") == ["map"]]
    assert [c["if"]["required"] for c in clauses] == [["logicalType"]]
    assert graded(contract("{name: x}\n{name: y, logicalTypeOptions: {minimum: 1}}")) == []


@pytest.mark.parametrize(
    ("text", "grade", "words"),
    [
        (contract("{name: x, quality: [{metric: nullValues, mustBe: 0, mustBeLessThan: 3}]}"), "note", "mustBe and mustBeLessThan; all must hold"),
        (contract("{name: x, quality: [{metric: nullValues, mustBe: 0, severity: dire}]}"), "note", "the severity 'dire' is not known and taken for error"),
        (contract("{name: x, quality: [{metric: nullValues, mustBe: 0, unit: boxes}]}"), "note", "neither rows nor percent"),
        (contract("{name: x, customProperties: [{property: strictColumn, value: true}]}"), "note", "did you mean 'strictColumns'"),
        (contract("{name: x, relationships: [{to: nosuch.id}]}"), "warning", "names nothing in this contract"),
        (contract("{name: x}", tail="slaProperties: [{property: freshness, value: 1, unit: d, element: t.y}]\n"), "warning", "the element 't.y' names nothing"),
        (contract("{name: x, quality: [{type: sql, query: 'SELECT COUNT(*) FROM others', mustBe: 0}]}"), "warning", "reads the table 'others'"),
        (contract("{name: x}", tail="slaProperties: [{property: freshness, value: soon}]\n"), "error", "'soon' is no duration"),
        (contract("{name: x, logicalType: integer, enum: [{value: a}]}"), "error", "the enum value 'a' is no integer"),
        (contract("{name: x, logicalType: array, items: {logicalType: string, logicalTypeOptions: {patern: a}}}"), "error", "did you mean 'pattern'"),
        (contract("{name: x, logicalType: date, logicalTypeOptions: {minimum: '2024-02-01', maximum: '2024-01-01'}}"), "error", "is below minimum"),
        (contract("{name: x, logicalType: number, logicalTypeOptions: {exclusiveMinimum: 1, maximum: 1}}"), "error", "not above exclusiveMinimum"),
        (contract("{name: x}", tail="    quality: [{metric: duplicateValues, arguments: {properties: [xx]}, mustBe: 0}]\n"), "error", "there is no property 'xx'; did you mean 'x'"),
        (contract("{name: x}", tail="    quality: [{type: custom, engine: driftd, implementation: 'x >'}]\n"), "error", "is not a SQL expression"),
        (contract("{name: x}", tail="team: {nam: us}\n"), "error", "did you mean 'name'"),
    ],
)
def test_the_lint_says_what_and_how_grave(text: str, grade: str, words: str) -> None:
    found = graded(text)
    assert any(g == grade and words in message for g, message in found), found


CHANGES = [
    ("{name: x}", "{name: x, required: true}", "tightening"), ("{name: x, required: true}", "{name: x}", "loosening"),
    ("{name: x, logicalTypeOptions: {minimum: 0}}", "{name: x, logicalTypeOptions: {minimum: 1}}", "tightening"),
    ("{name: x, logicalTypeOptions: {maximum: 5}}", "{name: x, logicalTypeOptions: {maximum: 9}}", "loosening"),
    ("{name: x, enum: [{value: a}]}", "{name: x, enum: [{value: a}, {value: b}]}", "loosening"), ("{name: x, enum: [{value: a}]}", "{name: x, enum: [{value: b}]}", "both"),
    ("{name: x, logicalType: integer}", "{name: x, logicalType: number}", "loosening"), ("{name: x, logicalType: string}", "{name: x, logicalType: number}", "both"),
    ("{name: x, logicalType: string, logicalTypeOptions: {pattern: a}}", "{name: x, logicalType: string, logicalTypeOptions: {pattern: b}}", "both"),
    ("{name: x}\n{name: y}", "{name: x}", "loosening"), ("{name: x}", "{name: x}\n{name: y}", "tightening"), ("{name: x}", "{name: x}\n{name: y, required: true}", "tightening"),
    ("{name: x, quality: [{metric: nullValues, mustBeLessThan: 5}]}", "{name: x, quality: [{metric: nullValues, mustBeLessThan: 9}]}", "loosening"),
    ("{name: x, quality: [{metric: nullValues, mustBeBetween: [0, 9]}]}", "{name: x, quality: [{metric: nullValues, mustBeBetween: [1, 8]}]}", "tightening"),
    ("{name: x, quality: [{metric: nullValues, mustBe: 0}]}", "{name: x, quality: [{metric: nullValues, mustBe: 0, severity: info}]}", "loosening"),
    ("{name: x, required: true}", "{name: x, required: true, customProperties: [{property: tolerance, value: 0.1}]}", "loosening"),
    ("{name: x, customProperties: [{property: unitOfMeasure, value: degF}]}", "{name: x, customProperties: [{property: unitOfMeasure, value: degC}]}", "both"),
    ("{name: x, description: old}", "{name: x, description: new}", None),
]


@pytest.mark.parametrize(("old", "new", "effect"), CHANGES)
def test_a_change_loosens_or_tightens(old: str, new: str, effect: str | None) -> None:
    changes = diff([parse_contract(contract(old), "a.yaml")], [parse_contract(contract(new), "b.yaml")])
    assert [c.effect for c in changes] == ([effect] if effect else [])
    breaks = {"tightening": ("producer",), "loosening": ("consumer",), "both": ("producer", "consumer"), "neutral": ()}
    assert all(c.breaks == breaks[c.effect] for c in changes)


def test_freshness_is_compared_by_how_long_it_is() -> None:
    levels = [f"slaProperties: [{{property: freshness, value: {v}, element: t.x}}]\n" for v in ("24, unit: h", "1, unit: d", "2, unit: d")]
    parsed = [parse_contract(contract("{name: x, logicalType: timestamp}", tail=level), "c.yaml") for level in levels]
    assert [c.effect for c in diff([parsed[0]], [parsed[1]])] == ["neutral"]
    assert [c.effect for c in diff([parsed[1]], [parsed[2]])] == ["loosening"]


def test_the_commands_end_with_the_codes_that_the_documents_name(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    good, odd, bad = tmp_path / "good.yaml", tmp_path / "odd.yaml", tmp_path / "bad.yaml"
    good.write_text(contract("{name: x, logicalType: integer, logicalTypeOptions: {minimum: 0}}"))
    odd.write_text(contract("{name: x, logicalType: integer, relationships: [{to: nosuch.id}]}"))
    bad.write_text("a: [1")
    for name, values in (("clean", [1, 2]), ("broken", [-1, 2])):
        pq.write_table(pa.table({"x": values}), tmp_path / f"{name}.parquet")

    def run(*words: Any) -> Any:
        return CliRunner().invoke(app, ["contract", *map(str, words)])

    assert [run("lint", path).exit_code for path in (good, odd, bad)] == [0, 1, 2]
    assert ": not YAML: " in run("lint", bad).stdout
    assert run("test", good, "--data", tmp_path / "clean.parquet").exit_code == 0
    found = run("test", good, "--data", tmp_path / "broken.parquet", "--json", "--quarantine", tmp_path / "q")
    assert found.exit_code == 1
    body = json.loads(found.stdout)
    assert body["rules"] == {"total": 2, "executed": 2, "manual": 0, "not_evaluated": 0, "error": 0}
    assert body["violations"][0]["bad"] == 1
    assert pq.read_table(tmp_path / "q" / "t.parquet").num_rows == 1
    assert run("test", good, "--data", tmp_path / "none.parquet").exit_code == 3
    assert run("test", bad, "--data", tmp_path / "clean.parquet").exit_code == 2
    assert run("test", tmp_path / "none.yaml", "--data", tmp_path / "clean.parquet").exit_code == 2
    assert (run("diff", good, good).exit_code, run("diff", good, odd).exit_code) == (0, 1)
    assert run("infer", tmp_path / "clean.parquet", "--out", tmp_path / "new.yaml").exit_code == 0
    assert load_contract(tmp_path / "new.yaml").columns[0].name == "x"
    assert run("infer", tmp_path / "clean.parquet", "--out", tmp_path / "new.yaml").exit_code == 2


def test_a_monitor_is_tested_on_its_first_served_days_against_its_reference(tmp_path: Path) -> None:
    from tests.streams import START, Stream, config_text, convert, shift

    del START
    Stream(faults={40: [convert("x0", 1.8, 32.0), shift("x1", 3.0)]}).write(tmp_path, range(44))
    (tmp_path / "config.yaml").write_text(config_text(tmp_path))
    found = CliRunner().invoke(app, ["-c", str(tmp_path / "config.yaml"), "contract", "test", "m", "--against", "reference", "--to", "2024-02-11", "--json"])
    assert found.exit_code == 1, found.output
    skew = {(s["column"], s["kind"]) for s in json.loads(found.stdout)["skew"]}
    assert ("x1", "shift") in skew
    assert ("x0", "unit") in skew
    quiet = CliRunner().invoke(app, ["-c", str(tmp_path / "config.yaml"), "contract", "test", "m", "--against", "reference", "--from", "2024-02-11", "--json"])
    assert quiet.exit_code == 0, quiet.output


def test_a_masked_value_shows_its_shape_and_not_itself() -> None:
    found = masked("foo@bar.de", b"key")
    assert (found["type"], found["length"], found["shape"], len(found["hash"])) == ("str", 10, "aaa@aaa.aa", 8)
    assert masked("foo@bar.de", b"other")["hash"] != found["hash"]
    assert shape("A1-ä " * 20).endswith("...")


def violation(kind: str, argument: Any) -> Violation:
    return Violation(Rule(f"x.{kind}", kind, "x", Verdict.FAIL, argument, 1), 5, 100, {}, Verdict.FAIL)


@pytest.mark.parametrize(
    ("value", "known", "how"),
    [("jfk", "JFK", "case"), (" JFK", "JFK", "spaces"), ("new-york", "New York", "spelling"), ("Bostn", "Boston", "one letter"), ("Bsoton", "Boston", "one letter"), ("Paris", "Boston", "")],
)
def test_a_renamed_category_is_recognised(value: str, known: str, how: str) -> None:
    found = suspect(violation("enum", [known]), Clues(top=[(value, 50)], listed=[known]))
    assert (found is not None and how in found["sentence"]) if how else found is None
    hidden = suspect(violation("enum", [known]), Clues(top=[(value, 50)], listed=[known], plain=False))
    assert hidden is None or value not in hidden["sentence"]


def test_a_shift_by_whole_hours_is_a_time_zone() -> None:
    found = suspect(violation("freshness", {}), Clues(lead=(5 * 3600.0, 2.0)))
    assert found == {"kind": "zone", "sentence": "the times are off by +5 h: a time zone, as of local times logged as UTC"}
    assert suspect(violation("freshness", {}), Clues(lead=(5000.0, 2.0))) is None


def test_small_things() -> None:
    assert one_edit("abc", "abd") and one_edit("abc", "ab") and not one_edit("abc", "xyz")
    assert [seconds("PT1.5H", None), seconds(1.5, "h"), seconds("90m", None), seconds(2, None)] == [5400, 5400, 5400, 172800]
    assert [words(5400), words(172800), words(90), words(3)] == ["90 min", "2 d", "1.5 min", "3 s"]
    assert family("VARCHAR(18)") == {"string"} and family("NUMBER(38, 0)") == {"integer"} and family("geography") is None
    assert date_pattern("yyyy-MM-dd'T'HH:mm:ss") == r"^\d{4}\-(0[1-9]|1[0-2])\-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d$"
    assert date_pattern("qqqq") is None
