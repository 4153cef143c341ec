"""Warehouses that cannot be run here: the plan compiles to their SQL, which has the shape that makes it one small answer."""

from __future__ import annotations

from typing import Any

import ibis
import narwhals as nw
import pytest
import sqlglot
import sqlglot.expressions as exp
from ibis.backends.sql import compilers

from monitor.profiling.pushdown import PushDown
from monitor.sources.engines import EventTime, logical_types
from monitor.sources.sql import SqlRelation
from tests.engines.cases import CASES, WINDOW, Case

DIALECTS = {
    "bigquery": compilers.BigQueryCompiler, "snowflake": compilers.SnowflakeCompiler, "trino": compilers.TrinoCompiler,
    "databricks": compilers.DatabricksCompiler, "clickhouse": compilers.ClickHouseCompiler,
}


class Warehouse:
    """A relation that compiles what it is asked, and answers as a table of ten rows would."""

    errors: tuple[type[Exception], ...] = ()

    def __init__(self, case: Case, dialect: str) -> None:
        self._case = case
        self._compiler = DIALECTS[dialect]()
        self._dialect = dialect
        table = ibis.table(ibis.Schema.from_pyarrow(flat(case.table.schema)), name="predictions")
        everything: Any = nw.from_native(table)
        self.types = logical_types(everything)
        self.frame = EventTime(everything, "at", "predictions").within(everything, WINDOW)
        self.statements: list[str] = []

    def sample(self, fraction: float) -> Any:
        return SqlRelation(self.frame.to_native(), (), ()).sample(fraction)

    def bucketed(self, numbers: Any, edges: Any) -> None:
        return None

    def fatal(self, error: Exception) -> bool:
        return True

    def rows(self, query: Any) -> list[dict[str, Any]]:
        tree = self._compiler.to_sqlglot(query.to_native().unbind())
        self.statements.append(tree.sql(dialect=self._compiler.dialect, pretty=True))
        names = query.collect_schema().names()
        if names[0] == "rows":
            return [dict.fromkeys(names, 0) | {"rows": 10**6}]
        if "code" in names:
            counted = [c for c in self._case.columns if c.kind != "text"]
            zeros = dict.fromkeys(names, 0)
            return [zeros | {"what": i, "code": 0 if c.kind == "numeric" else 1, "n": 10**6} for i, c in enumerate(counted)]
        return [] if names[0] == "what" else [dict.fromkeys(names, 0)]


def flat(schema: Any) -> Any:
    """The schema without dictionaries, which tables have not."""
    import pyarrow as pa

    return pa.schema([(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", [c for c in CASES if c.timestamp == "at" and not c.name.startswith("event times")], ids=lambda c: c.name)
def test_the_plan_compiles_to_the_sql_of_a_warehouse(case: Case, dialect: str) -> None:
    warehouse = Warehouse(case, dialect)
    pushed = PushDown(case.plan, warehouse.types)
    profile = pushed.scan(warehouse)
    assert (pushed.failed, pushed.unreadable) == ({}, {})
    assert warehouse.statements
    for statement in warehouse.statements:
        tree = sqlglot.parse_one(statement, dialect=DIALECTS[dialect]().dialect)
        assert isinstance(tree, exp.Query)
        assert {t.name for t in tree.find_all(exp.Table)} - {c.alias for c in tree.find_all(exp.CTE)} == {"predictions"}
        assert tree.find(exp.AggFunc), "only aggregates may cross the wire"
        condition = statement[statement.upper().index("WHERE") :]
        assert "2024-03-10" in condition or "2024" in condition
    wanted = 1 + any(c.kind != "text" for c in case.columns) + bool(case.outputs) + bool(case.binning.crossed)
    assert len(warehouse.statements) == wanted
    assert profile.rows == 10**6


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_edge_is_written_with_all_its_digits(dialect: str) -> None:
    warehouse = Warehouse(CASES[0], dialect)
    PushDown(CASES[0].plan, warehouse.types).scan(warehouse)
    assert any("0.10000000000000002" in s and "0.3333333333333333" in s for s in warehouse.statements)
