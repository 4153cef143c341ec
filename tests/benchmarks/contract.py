"""The price of a contract: 18 rules in the one scan, and as one query each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from checks.core.binning import Binning
from contracts.load import parse_contract
from monitor.evaluation.contract import Setting, Usual, bind_contract, judge_contract, nested_of
from monitor.evaluation.scan import scan
from monitor.ports import Source
from monitor.profiling.plan import Plan
from monitor.sources.csv import CsvConfig
from monitor.sources.parquet import ParquetConfig
from tests.benchmarks.data import DAY, START

Work = Callable[[], Any]
CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: bench
version: 1.0.0
status: active
schema:
  - name: rows
    properties:
      - {name: at}
      - {name: x0, required: true, logicalTypeOptions: {minimum: -3.5, maximum: 3.5}}
      - {name: x1, logicalTypeOptions: {minimum: 0, exclusiveMaximum: 40}}
      - {name: x2, required: true, logicalTypeOptions: {minimum: 0.05, maximum: 900}}
      - {name: x3, logicalTypeOptions: {minimum: 0, maximum: 4990}, quality: [{metric: nullValues, mustBeLessThan: 5, unit: percent}]}
      - {name: k, required: true, logicalTypeOptions: {minimum: 10}}
      - {name: c0, required: true, enum: [{value: red}, {value: green}, {value: blue}]}
      - {name: c1, logicalTypeOptions: {pattern: "^value [0-9]+$", maxLength: 8}}
      - {name: c2, quality: [{metric: invalidValues, arguments: {validValues: [a, b, c, null]}, mustBe: 0}]}
      - {name: flag}
"""
"""18 rules, each broken by some rows, so that no shortcut by extremes settles them."""

SQL = (
    "c2 NOT IN ('a', 'b', 'c')", "x0 IS NULL", "x0 < -3.5", "x0 > 3.5", "x1 < 0", "x1 >= 40", "x2 IS NULL", "x2 < 0.05", "x2 > 900", "x3 < 0", "x3 > 4990",
    "x3 IS NULL", "k IS NULL", "k < 10", "c0 IS NULL", "c0 NOT IN ('red', 'green', 'blue')", "NOT regexp_matches(c1, '^value [0-9]+$')",
    "length(c1) > 8",
)


def rows(path: Path, size: int) -> Path:
    """Ten columns of one day, as Parquet or CSV by the suffix."""
    if path.exists():
        return path
    random = np.random.default_rng(size)
    at = int(START.timestamp() * 1e6) + np.arange(size) * (DAY // size)
    words = pa.array([f"value {i}" for i in range(300)] + ["odd", "value 1000"])
    nulls = random.random(size) < 0.01
    table = pa.table({
        "at": pa.array(at, pa.timestamp("us", "UTC")), "x0": random.normal(size=size), "x1": random.lognormal(size=size),
        "x2": np.round(random.gamma(2, 50, size), 2), "x3": pa.array(random.integers(0, 5000, size) * 1.0, mask=nulls),
        "k": random.integers(0, 1000, size), "c0": pa.array(["red", "green", "blue", "Blue"]).take(pa.array(random.choice(4, size, p=[0.5, 0.3, 0.19, 0.01]))),
        "c1": words.take(pa.array(random.integers(0, 302, size))), "c2": pa.array(["a", "b", "c", None, "d"]).take(pa.array(random.choice(5, size, p=[0.4, 0.3, 0.2, 0.09, 0.01]))),
        "flag": random.random(size) < 0.5,
    })
    if path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        pq.write_table(table, path, compression="zstd", row_group_size=1 << 18)
    return path


def source_of(path: Path) -> Source:
    from monitor.sources import open_source

    return open_source(CsvConfig(path=str(path)) if path.suffix == ".csv" else ParquetConfig(path=str(path)))


def scan_of(path: Path, *, rules: bool, binning: Binning, judged: bool = False) -> Work:
    """The profile of all columns, with the contract's predicates counted in the same scan, or without."""
    source = source_of(path)
    types = source.types()
    contract = parse_contract(CONTRACT, "c.yaml")
    assert len(contract.rules) == 18
    setting = Setting(source, "parquet", "at", None, datetime(2024, 1, 2, tzinfo=UTC), b"k")
    bound = bind_contract(contract, setting, types)
    plan = Plan(binning, dict(bound.predicates) if rules else {}, timestamp="at", cross=False, nested=nested_of(bound, types))

    def work() -> Any:
        found = scan(source, plan, types, "at", None)
        if judged:
            return judge_contract(bound, found.profile, setting, types, found.failed, found.apart, Usual(binning)).section["rules"]
        return found.profile.rules

    work()  # compiles
    return work


def queries_of(path: Path) -> Work:
    """One DuckDB query per rule over the file, as tools do that generate one for each."""
    import duckdb

    connection = duckdb.connect(config={"threads": "2"})
    reader = "read_csv" if path.suffix == ".csv" else "read_parquet"

    def work() -> list[Any]:
        return [connection.execute(f"SELECT count(*) FROM {reader}('{path}') WHERE {rule}").fetchall() for rule in SQL]

    connection.execute(f"SELECT count(*) FROM {reader}('{path}')").fetchall()
    return work


def again_of(path: Path) -> Work:
    """Our own executor, once per rule."""
    source = source_of(path)
    types = source.types()
    setting = Setting(source, "csv", "at", None, datetime(2024, 1, 2, tzinfo=UTC), b"k")
    bound = bind_contract(parse_contract(CONTRACT, "c.yaml"), setting, types)
    plans = [Plan(Binning(()), {rule: predicate}, cross=False) for rule, predicate in bound.predicates.items()]
    return lambda: [scan(source, plan, types, None, None).profile.rules for plan in plans]

