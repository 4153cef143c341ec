"""What other tools get wrong: bad types cast into good ones, rules lost, one odd rule that stops a batch, documents that harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from checks.core.errors import ContractError
from contracts.load import parse_contract
from contracts.model import ContractOutcome
from monitor.profiling import lower, queries
from monitor.sources import open_source
from monitor.sources.csv import CsvConfig
from tests.contracting import TableSource, check, judged

HEAD = "apiVersion: v3.2.0\nkind: DataContract\nid: c\nversion: 1.0.0\nschema:\n  - name: t\n    properties:\n"
NOW = datetime(2024, 5, 2, tzinfo=UTC)


def run(properties: str, columns: dict[str, Any], tail: str = "") -> ContractOutcome:
    lines = "".join(f"      - {line}\n" for line in properties.splitlines())
    return check(parse_contract(HEAD + lines + tail, "c.yaml"), pa.table(columns), as_of=NOW)


def broken(outcome: ContractOutcome) -> dict[str, int]:
    return {v.rule.id: v.bad for v in outcome.violations}


def skipped(outcome: ContractOutcome) -> dict[str, str]:
    return {n.rule.id: n.reason for n in outcome.not_evaluated}


NAN, INF = float("nan"), float("inf")


def test_an_integer_column_that_turned_text_is_no_integer_even_where_every_text_is_one() -> None:
    outcome = run("{name: x, logicalType: integer, logicalTypeOptions: {minimum: 0}}", {"x": ["1", "2"]})
    assert broken(outcome) == {"x.logicalType": 2}


def test_a_fraction_below_zero_is_not_cut_to_zero() -> None:
    outcome = run("{name: x, logicalType: integer, logicalTypeOptions: {minimum: 0}}", {"x": [1.0, -0.4, 2.0]})
    assert broken(outcome) == {"x.logicalType": 1, "x.minimum": 1}


def test_a_little_over_the_maximum_is_over_it() -> None:
    assert broken(run("{name: x, logicalType: number, logicalTypeOptions: {maximum: 1}}", {"x": [1.0, 1.0004]})) == {"x.maximum": 1}


def test_nan_and_infinity_are_in_no_range_and_nan_is_missing() -> None:
    clause = "{name: x, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 9}, quality: [{metric: nullValues, mustBe: 0}]}"
    outcome = run(clause, {"x": [1.0, NAN, INF, -INF, None]})
    assert broken(outcome) == {"x.minimum": 2, "x.maximum": 2, "x.nullValues": 2}


def test_two_rules_of_one_metric_on_one_column_are_two() -> None:
    clause = "{name: x, quality: [{metric: nullValues, mustBe: 0}, {metric: nullValues, mustBeLessThan: 50, unit: percent}]}"
    outcome = run(clause, {"x": [1, None, 3]})
    assert broken(outcome) == {"x.nullValues": 1}
    assert outcome.passed == ("x.nullValues#2",)


def test_both_exclusive_bounds_hold_at_once() -> None:
    clause = "{name: x, logicalType: number, logicalTypeOptions: {exclusiveMinimum: 0, exclusiveMaximum: 1}}"
    assert broken(run(clause, {"x": [0.0, 0.5, 1.0, 1.5]})) == {"x.exclusiveMinimum": 1, "x.exclusiveMaximum": 2}


def test_version_30_says_with_true_that_a_bound_is_exclusive() -> None:
    text = HEAD.replace("v3.2.0", "v3.0.2").replace("version: 1.0.0", "version: 1.0.0\nstatus: active")
    clause = "      - {name: x, logicalType: number, logicalTypeOptions: {minimum: 0, exclusiveMinimum: true, maximum: 1, exclusiveMaximum: false}}\n"
    outcome = check(parse_contract(text + clause, "c.yaml"), pa.table({"x": [0.0, 0.5, 1.0]}), as_of=NOW)
    assert broken(outcome) == {"x.exclusiveMinimum": 1}


def test_a_lookahead_pattern_is_evaluated() -> None:
    clause = "{name: x, logicalType: string, logicalTypeOptions: {pattern: '^(?!test_).+$'}}"
    assert broken(run(clause, {"x": ["test_a", "b", None]})) == {"x.pattern": 1}


@pytest.mark.parametrize(("minutes", "bad"), [(89, {}), (91, {"freshness": 2})])
def test_freshness_of_an_hour_and_a_half_is_ninety_minutes(minutes: int, bad: dict[str, int]) -> None:
    times = pa.array([NOW - timedelta(days=2), NOW - timedelta(minutes=minutes)], pa.timestamp("us", "UTC"))
    tail = "slaProperties:\n  - {property: freshness, value: 1.5, unit: h, element: t.x}\n"
    assert broken(run("{name: x, logicalType: timestamp}", {"x": times}, tail)) == bad


def test_a_time_in_the_future_is_not_fresh_but_wrong() -> None:
    times = pa.array([NOW - timedelta(hours=1), NOW + timedelta(hours=5)], pa.timestamp("us", "UTC"))
    tail = "slaProperties:\n  - {property: freshness, value: 1, unit: d, element: t.x}\n"
    outcome = run("{name: x, logicalType: timestamp}", {"x": times}, tail)
    assert broken(outcome) == {"freshness": 1}
    assert "1 of 2 rows lie in the future, the farthest by 5 h" in outcome.violations[0].reason


@pytest.mark.parametrize(("strict", "verdict"), [("", "warn"), ("    customProperties: [{property: strictColumns, value: true}]\n", "fail")])
def test_an_extra_column_is_said(strict: str, verdict: str) -> None:
    outcome = run("{name: x}", {"x": [1], "y": [2]}, strict)
    assert [(v.rule.kind, str(v.verdict)) for v in outcome.violations] == [("extraColumn", verdict)]


def test_a_list_of_valid_values_with_null_in_it_still_says_no() -> None:
    clause = "{name: x, quality: [{metric: invalidValues, arguments: {validValues: ['', null, 'n/a']}, mustBe: 0}]}"
    assert broken(run(clause, {"x": ["", None, "n/a", "other"]})) == {"x.invalidValues": 1}
    without = clause.replace("'', null, 'n/a'", "'', 'n/a'")
    assert broken(run(without, {"x": ["", None, "n/a", "other"]})) == {"x.invalidValues": 2}


def test_an_empty_window_passes_nothing_on_rows() -> None:
    clause = "{name: x, logicalType: number, required: true, unique: true, quality: [{metric: nullValues, mustBeLessThan: 1, unit: percent}]}"
    outcome = run(clause, {"x": pa.array([], pa.float64())}, "    quality: [{metric: rowCount, mustBeGreaterThan: 0}]\n")
    assert outcome.passed == ()
    assert broken(outcome) == {"rowCount": 0}
    assert set(skipped(outcome).values()) == {"the window is empty"}


def test_one_odd_rule_fails_alone() -> None:
    clauses = (
        "{name: x, logicalType: integer, logicalTypeOptions: {minimum: 1}}\n"
        "{name: y, quality: [{id: odd, type: sql, query: 'SELECT nosuch FROM {object}', mustBe: 0}, {id: table, type: sql, query: 'SELECT COUNT(*) FROM elsewhere', mustBe: 0}]}"
    )
    outcome = run(clauses, {"x": [0, 1], "y": [1, 1]})
    assert broken(outcome) == {"x.minimum": 1}
    assert [n.rule.id for n in outcome.not_evaluated if n.error] == ["odd", "table"]
    assert "reads the table 'elsewhere'" in skipped(outcome)["table"]


def test_a_file_of_texts_counts_the_values_that_do_not_parse(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x,y\n1,2024-01-01\noops,2024-13-77x\n3,2024-01-02\n")
    text = HEAD + "      - {name: x, logicalType: integer, logicalTypeOptions: {minimum: 2}}\n      - {name: y, logicalType: date}\n"
    found = judged(parse_contract(text, "c.yaml"), open_source(CsvConfig(path=str(tmp_path / "rows.csv"))), as_of=NOW, kind="csv")
    assert {v["rule"]: v["bad"] for v in found.section["violations"]} == {"x.logicalType": 1, "y.logicalType": 1}


def test_a_rule_that_cannot_be_known_leaves_the_whole_insufficient_and_never_passed() -> None:
    text = HEAD + "      - {name: x, quality: [{id: soda, type: custom, engine: soda, implementation: 'x'}]}\n"
    found = judged(parse_contract(text, "c.yaml"), TableSource(pa.table({"x": [1]})), as_of=NOW)
    assert found.section["verdict"] == "insufficient"
    failing = text.replace("type: custom, engine: soda, implementation: 'x'", "type: sql, query: 'SELECT nosuch FROM {object}', mustBe: 0")
    assert judged(parse_contract(failing, "c.yaml"), TableSource(pa.table({"x": [1]})), as_of=NOW).section["verdict"] == "error"


def test_a_column_without_any_value_breaks_only_rules_on_nulls() -> None:
    clause = "{name: x, logicalType: string, required: true, enum: [{value: a}], logicalTypeOptions: {minLength: 1}, quality: [{metric: invalidValues, arguments: {validValues: [a]}, mustBe: 0}]}"
    assert broken(run(clause, {"x": pa.nulls(3)})) == {"x.required": 3, "x.invalidValues": 3}


# -- documents and rules that would do harm


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x" * 10_000_000, "c.yaml: the document has 10,000,000 characters"), ("[" * 5000 + "]" * 5000, "c.yaml:1: it is nested more than 100 deep"),
        ("a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else '*a'] * 9)}]\n" for i in range(9)), "expands to more than"),
        ("a: !!python/object:os.system x", "c.yaml:1: the tag"), (HEAD.replace("v3.2.0", "v2.2.2"), "c.yaml:1: apiVersion 'v2.2.2' is not known; allowed are v3.0.0"),
        (HEAD.replace("DataContract", "Pod"), "c.yaml:2: kind 'Pod' is not DataContract"),
        (HEAD + "      - {name: x, logicalType: string, logicalTypeOptions: {minimum: 1}}\n", "minimum"),
        (HEAD + "      - {name: x, quality: [{metric: rowCount, mustBe: 1}]}\n", "c.yaml:8: rowCount: rowCount belongs to an object"),
        (HEAD + "      - {name: x, quality: [{metric: nullValues, mustBeBetween: [9, 1]}]}\n", "mustBeBetween [9, 1] is turned round"),
        (HEAD + "      - {name: x, quality: [{metric: invalidValues, arguments: {validvalues: [a]}, mustBe: 0}]}\n", "did you mean 'validValues'"),
        (HEAD + "      - {name: x}\n      - {name: x}\n", "c.yaml:9: the property 'x' is there twice, first in line 8"),
        (HEAD + "      - {name: x, customProperties: [{property: tolerance, value: 7}]}\n", "is no share of rows"),
        (HEAD + "      - {name: x, logicalTypes: string}\n", "did you mean 'logicalType'"),
        (HEAD + "      - {name: x, quality: [{type: sql, query: 'DELETE FROM {object}', mustBe: 0}]}\n", "c.yaml:8: sql: the query must be one SELECT"),
        (HEAD + "      - {name: x, quality: [{type: sql, query: \"SELECT * FROM read_csv('/etc/passwd')\", mustBe: 0}]}\n", "reads files"),
        (HEAD + "      - {name: x, quality: [{type: sql, query: \"SELECT COUNT(*) FROM '/etc/passwd'\", mustBe: 0}]}\n", "reads the file"),
        (HEAD + "      - {name: x, quality: [{type: sql, query: \"SELECT pg_read_file('/etc/passwd')\", mustBe: 0}]}\n", "c.yaml:8"),
        (HEAD + "      - {name: x, quality: [{type: sql, query: 'SELECT 1; SELECT 2', mustBe: 0}]}\n", "must be one SELECT"),
    ],
)
def test_a_document_that_harms_is_refused_with_file_line_and_reason(text: str, words: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(text, "c.yaml")
    assert words in str(caught.value)


def test_sql_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "SQL_SECONDS", 0.5)
    query = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT MAX(n) FROM t"
    outcome = run(f"{{name: x, required: true, quality: [{{id: endless, type: sql, query: '{query}', mustBe: 0}}]}}", {"x": [1, None]})
    assert skipped(outcome) == {"endless": "error: the query took longer than 0.5 s and was ended"}
    assert broken(outcome) == {"x.required": 1}


def test_a_pattern_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower, "PATTERN_SECONDS", 0.3)
    clause = "{name: x, required: true, logicalType: string, logicalTypeOptions: {pattern: '^(?=a)(a|aa)+$'}}"
    outcome = run(clause, {"x": ["a" * 60 + "!", None]})
    assert "took longer than 0.3 s" in skipped(outcome)["x.pattern"]
    assert broken(outcome) == {"x.required": 1}


def test_quarantine_holds_the_offending_rows_with_a_flag_for_each_rule(tmp_path: Path) -> None:
    from monitor.evaluation.adhoc import Given, apply_contract, export_quarantine

    text = HEAD + "      - {name: x, logicalType: integer, required: true, logicalTypeOptions: {minimum: 0}}\n      - {name: k, unique: true}\n"
    source = TableSource(pa.table({"x": [1, None, -3, 4], "k": ["a", "b", "c", "a"], "z": [1, 2, 3, 4]}), size=2)
    judged_rows, bound, setting = apply_contract(parse_contract(text, "c.yaml"), Given(source, "parquet"), NOW, {})
    written = export_quarantine(tmp_path / "q", bound, judged_rows, setting, source.types())
    table = pq.read_table(written["path"])
    assert written["rows"] == 4
    assert table.column("z").to_pylist() == [1, 2, 3, 4]
    assert table.column("driftd:x.required").to_pylist() == [False, True, False, False]
    assert table.column("driftd:x.minimum").to_pylist() == [False, False, True, False]
    assert table.column("driftd:k.unique").to_pylist() == [True, False, False, True]


def test_local_times_logged_as_utc_are_a_time_zone() -> None:
    at = [NOW - timedelta(minutes=m) for m in range(40)]
    table = pa.table({"at": pa.array(at, pa.timestamp("us", "UTC")), "x": pa.array([t + timedelta(hours=2) for t in at], pa.timestamp("us", "UTC"))})
    text = HEAD + "      - {name: at}\n      - {name: x, logicalType: timestamp}\nslaProperties:\n  - {property: freshness, value: 1, unit: d, element: t.x}\n"
    found = judged(parse_contract(text, "c.yaml"), TableSource(table), as_of=NOW, timestamp="at")
    (violation,) = found.section["violations"]
    assert (violation["bad"], violation["cause"]["kind"]) == (40, "zone")
    assert "+2 h" in violation["cause"]["sentence"]


@pytest.mark.parametrize("query", [
    "WITH secrets AS (SELECT * FROM secrets) SELECT COUNT(*) FROM secrets", "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT COUNT(*) FROM a",
    "SELECT COUNT(*) FROM {object} WHERE x IN (SELECT y FROM secrets)", "SELECT COUNT(*) FROM {object}, LATERAL (SELECT * FROM secrets) s",
    "WITH t AS (SELECT 1) SELECT COUNT(*) FROM information_schema.tables", "SELECT 1 UNION SELECT COUNT(*) FROM secrets",
])
@pytest.mark.parametrize("dialect", ["duckdb", "postgres", "spark"])
def test_no_name_of_a_with_clause_hides_a_table(query: str, dialect: str) -> None:
    from contracts.rules.sql import check as check_sql
    from contracts.rules.sql import rendered

    with pytest.raises(LookupError, match="reads the table"):
        check_sql(rendered(query, "x", dialect), dialect, frozenset(("rows",)))


def test_sql_may_call_the_rows_by_the_objects_names() -> None:
    clause = "{name: x, quality: [{id: named, type: sql, query: 'SELECT COUNT(*) FROM public.t a JOIN t b ON a.x = b.x', mustBe: 3}]}"
    assert broken(run(clause, {"x": [1, 2, 3]})) == {}


# -- what a review found


def test_a_key_called_like_the_count_is_counted() -> None:
    outcome = run("{name: n, unique: true}\n{name: N, quality: [{metric: duplicateValues, mustBe: 0}]}", {"n": [7, 7, 7, 1, 2, 2], "N": [1, 1, 2, 3, 4, 5]})
    assert broken(outcome) == {"n.unique": 3, "N.duplicateValues": 1}
    assert outcome.violations[0].observed == {"surplus": 3, "keys": 2, "rows": 5}


def test_lists_structs_and_times_of_a_real_file_are_read(tmp_path: Path) -> None:
    from datetime import time

    table = pa.table({
        "ts": pa.array([NOW], pa.timestamp("us", "UTC")), "l": [[1]], "s": [{"k": 1}], "t": pa.array([time(1)], pa.time64("us")),
        "v": pa.array([[0.1, 0.2]], pa.list_(pa.float32(), 2)),
    })
    pq.write_table(table, tmp_path / "rows.parquet")
    from monitor.sources.parquet import ParquetConfig

    text = HEAD + "".join(f"      - {line}\n" for line in (
        "{name: ts, logicalType: timestamp, logicalTypeOptions: {minimum: '2024-01-01T00:00:00+01:00'}}", "{name: l, logicalType: array, logicalTypeOptions: {minItems: 2}}",
        "{name: s, logicalType: object, properties: [{name: k, logicalType: integer, logicalTypeOptions: {minimum: 5}}]}", "{name: t, logicalType: time}",
        "{name: v, logicalType: vector, logicalTypeOptions: {dimensions: 3}}",
    ))
    found = judged(parse_contract(text, "c.yaml"), open_source(ParquetConfig(path=str(tmp_path / "rows.parquet"))), as_of=NOW)
    assert {v["rule"] for v in found.section["violations"]} == {"l.minItems", "s.k.minimum", "v.dimensions"}
    assert found.section["not_evaluated"] == []


def test_no_sample_and_no_error_shows_what_is_classified() -> None:
    clauses = (
        "{name: amount, logicalType: number, customProperties: [{property: mask, value: false}], quality: "
        "[{id: both, type: custom, engine: driftd, implementation: \"amount > 0 AND ssn <> 'x'\"}]}\n"
        "{name: ssn, logicalType: string, classification: secret, quality: [{id: cast, type: sql, query: 'SELECT SUM(CAST(ssn AS INT)) FROM {object}', mustBe: 0}]}\n"
        "{name: p, logicalType: object, classification: secret, properties: [{name: s, logicalType: string, enum: [{value: a}], customProperties: [{property: mask, value: false}]}]}"
    )
    text = HEAD + "".join(f"      - {line}\n" for line in clauses.splitlines())
    rows = pa.table({"amount": [-1.0, 2.0], "ssn": ["123-45-6789", "top"], "p": [{"s": "topsecret"}, {"s": "a"}]})
    found = judged(parse_contract(text, "c.yaml"), TableSource(rows), as_of=NOW)
    assert {v["rule"] for v in found.section["violations"]} == {"both", "p.s.enum"}
    assert [n["rule"] for n in found.section["not_evaluated"]] == ["cast"]
    assert not any(secret in str(found.section) for secret in ("123-45", "topsecret"))


@pytest.mark.parametrize(
    ("clause", "values"),
    [
        ("{name: x, quality: [{type: sql, query: 'SELECT MAX({property}) FROM {object}', mustBeLessThan: 10}]}", [1.0, INF]),
        ("{name: x, quality: [{type: sql, query: 'SELECT MAX({property}) FROM {object}', mustBeLessThan: 10}]}", [1.0, NAN]),
        ("{name: x, customProperties: [{property: keyHistory, value: 3}]}", [1.0, NAN, INF]),
        ("{name: x, logicalType: integer, logicalTypeOptions: {maximum: 18446744073709551615}}", [1, 2]),
        ("{name: x, quality: [{metric: invalidValues, arguments: {validValues: [1, 100000000000000000000000000, .inf, .nan]}, mustBe: 0}]}", [1, 2]),
        ("{name: x, quality: [{metric: missingValues, arguments: {missingValues: [null, 'n/a']}, mustBe: 1}]}", [1, None]),
        ("{name: x, logicalTypeOptions: {maximum: 1.0e+39}}", pa.array([INF, 1.0], pa.float32())),
    ],
)
def test_odd_values_and_arguments_end_no_evaluation(clause: str, values: Any) -> None:
    outcome = run(clause + "\n{name: y, required: true}", {"x": values, "y": pa.array([1, *[None] * (len(values) - 1)])})
    assert broken(outcome)["y.required"] == len(values) - 1
    assert not any(n.error for n in outcome.not_evaluated)


def test_a_json_value_of_another_type_is_there() -> None:
    clause = "{name: js, logicalType: object, properties: [{name: a, logicalType: integer, required: true}]}"
    outcome = run(clause, {"js": ['{"a": "z"}', '{"a": 1}', "{}", "null", "oops", None]})
    assert broken(outcome) == {"js.a.logicalType": 1, "js.a.required": 1, "js.logicalType": 1}


def test_a_column_with_a_dot_is_no_part_of_another() -> None:
    outcome = run("{name: a, required: true}\n{name: a.b, required: true}", {"a": [1, None, 1], "a.b": [None, None, 1]})
    assert broken(outcome) == {"a.required": 1, "a.b.required": 2}


def test_rules_of_one_name_keep_counts_of_their_own() -> None:
    rules = "{name: f, quality: [{name: a, metric: nullValues, mustBe: 0}, {name: a, metric: nullValues, mustBe: 2}]}\n{name: g, quality: [{name: a#2, metric: nullValues, mustBe: 0}]}"
    outcome = run(rules, {"f": [None, None, 1], "g": [None, 1, 1]})
    assert broken(outcome) == {"a": 2, "a#2#2": 1}
    assert outcome.passed == ("a#2",)


def test_a_null_list_hides_what_lies_under_it() -> None:
    values = pa.ListArray.from_arrays(pa.array([0, 2, 4]), pa.array([1, 2, -3, -4]), mask=pa.array([False, True]))
    assert broken(run("{name: x, logicalType: array, items: {logicalType: integer, logicalTypeOptions: {minimum: 0}}}", {"x": values})) == {}


def test_quarantine_takes_the_texts_of_pandas_and_any_name_of_an_object(tmp_path: Path) -> None:
    from monitor.evaluation.adhoc import Given, apply_contract, export_quarantine

    text = HEAD.replace("name: t", "name: ../../t") + "      - {name: at, unique: true}\n"
    source = TableSource(pa.table({"at": pa.array(["a", "b", "a"], pa.large_string())}))
    found, bound, setting = apply_contract(parse_contract(text, "c.yaml"), Given(source, "parquet"), NOW, {})
    written = export_quarantine(tmp_path / "q", bound, found, setting, source.types())
    assert (written["rows"], Path(written["path"]).parent) == (2, tmp_path / "q")


def test_repeated_times_are_shown_without_another_library() -> None:
    times = pa.array([NOW, NOW, None], pa.timestamp("us", "UTC"))
    outcome = run("{name: x, unique: true}", {"x": times})
    assert broken(outcome) == {"x.unique": 1}


def test_a_conversion_must_explain_a_shift_and_not_only_allow_it() -> None:
    from checks.core.units import likely

    assert likely(0.00016, 0.0028, 0.00408, 0.01369, 0.0041) == []
    assert [c.name for c in likely(7.0, 8.0, 45.0, 15.0, 4.5)] == ["degrees Celsius instead of Fahrenheit"]
    assert [c.factor for c in likely(4.3, 1000.0, 0.0, 1.0, 0.3)] == [0.001]


def test_rules_on_a_column_that_is_gone_or_turned_are_blocked_and_not_in_error() -> None:
    clauses = (
        "{name: gone, quality: [{id: s, type: sql, query: 'SELECT COUNT(*) FROM {object} WHERE {property} < 0', mustBe: 0}]}\n"
        "{name: x, logicalType: integer, quality: [{id: mean, type: sql, query: 'SELECT SUM(gone) FROM {object}', mustBe: 0}]}"
    )
    tail = "    quality: [{id: positive, type: custom, engine: driftd, implementation: 'x > 0 AND gone > 0'}, {id: plain, type: custom, engine: driftd, implementation: 'x > 0'}]\n"
    outcome = run(clauses, {"x": ["1", "2"]}, tail)
    assert broken(outcome) == {"gone.missingColumn": 2, "x.logicalType": 2}
    assert skipped(outcome) == {
        "s": "blocked by missing column", "mean": "blocked by missing column gone", "positive": "blocked by missing column gone",
        "plain": "blocked: x is of type string, and is compared with a number",
    }


def test_freshness_reads_event_times_that_are_written_as_numbers() -> None:
    at = [int((NOW - timedelta(hours=h)).timestamp()) for h in (5, 3)]
    text = HEAD + "      - {name: at, logicalType: integer}\nslaProperties:\n  - {property: freshness, value: 2, unit: h, element: t.at}\n"
    found = judged(parse_contract(text, "c.yaml"), TableSource(pa.table({"at": at})), as_of=NOW, timestamp="at")
    (violation,) = found.section["violations"]
    assert (violation["rule"], violation["observed"]) == ("freshness", {"age_hours": 3.0})


def test_a_repeated_key_is_shown_only_where_every_part_of_it_may_be() -> None:
    clauses = (
        "{name: shop, logicalType: string, customProperties: [{property: mask, value: false}]}\n"
        "{name: person, logicalType: string, classification: secret}"
    )
    text = HEAD + "".join(f"      - {line}\n" for line in clauses.splitlines())
    text += "    quality: [{metric: duplicateValues, arguments: {properties: [shop, person]}, mustBe: 0}]\n"
    found = judged(parse_contract(text, "c.yaml"), TableSource(pa.table({"shop": ["north", "north"], "person": ["alice", "alice"]})), as_of=NOW)
    (violation,) = found.section["violations"]
    assert (violation["bad"], violation["top"][0]["rows"]) == (1, 2)
    assert "alice" not in str(found.section)
