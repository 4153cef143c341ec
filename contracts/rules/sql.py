"""sql: one read-only SELECT over the window whose number the operators bound."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from contracts.model import Data, Observation, Rule
from contracts.query import Query, Sql
from contracts.rules import RULES, Broken, RuleKind, holds

_OBJECT = re.compile(r"\$?\{\s*(object|table|model|schema)\s*\}")
_PROPERTY = re.compile(r"\$?\{\s*(property|column|field)\s*\}")
TABLE = "driftd_window"
WRITES = (
    "Insert", "Update", "Delete", "Into", "Merge", "Create", "Drop", "Alter", "Copy", "Command", "Attach", "Detach", "Pragma", "Set",
    "Use", "Grant", "TruncateTable", "Export", "LoadData", "Install", "Lock",
)
READS = ("ReadCSV", "ReadParquet")
FILE_FUNCTIONS = re.compile(
    r"^(read_|pg_|lo_|dblink|glob$|parquet_|sniff_|query$|query_table$|getenv$|current_setting$|set_config$|"
    r"sleep$|benchmark$|sqlite_|postgres_|mysql_|iceberg_|delta_|httpfs|http_|xp_|java_method$|reflect$|load_|copy_|st_read|"
    r"txid|nextval$|setval$|query_to_xml|table_to_xml|database_to_xml|schema_to_xml|cursor_to_xml|ts_stat|crosstab|connectby|plpy|system$|shell|has_|inet_|raise_error$|assert_true$)", re.I,
)


class SqlRefused(ValueError):
    """The query writes, reads files, or is no SELECT."""


BACKTICKS = frozenset(("spark", "databricks", "hive", "mysql", "bigquery", "clickhouse"))
"""Dialects in which double quotes are texts."""


def rendered(text: str, column: str | None, dialect: str = "duckdb") -> str:
    """The query with the placeholders of object and property filled in, as the dialect quotes names."""
    mark = "`" if dialect in BACKTICKS else '"'
    quoted = mark + column.replace(mark, mark * 2) + mark if column else ""
    found = _OBJECT.sub(TABLE, text)
    if _PROPERTY.search(found) and not column:
        raise LookupError("the query names {property}, and the rule is on no property")
    return _PROPERTY.sub(lambda match: quoted, found).strip().rstrip(";")


def real_tables(tree: Any) -> list[Any]:
    """The tables that a query reads, those aside that name one of its own WITH clauses: by SQL's scopes, not by names."""
    from sqlglot import exp
    from sqlglot.optimizer.scope import traverse_scope

    found = {id(source): source for scope in traverse_scope(tree) for source in scope.sources.values() if isinstance(source, exp.Table)}
    inside = {id(t) for scope in traverse_scope(tree) for t in scope.tables}
    found |= {id(table): table for table in tree.find_all(exp.Table) if id(table) not in inside}
    return list(found.values())


def over(text: str, names: Sequence[str], dialect: str, rows: Any = None) -> str:
    """The query with every table called one of ``names`` replaced by the subquery ``rows``, or by `TABLE` without one."""
    import sqlglot
    from sqlglot import exp

    wanted = {name.lower() for name in names}
    tree = sqlglot.parse_one(text, dialect=dialect)
    for table in real_tables(tree):
        if table.name.lower() in wanted:
            alias = exp.TableAlias(this=exp.to_identifier(table.alias or table.name, quoted=True))
            table.replace(exp.Subquery(this=rows.copy(), alias=alias) if rows is not None else exp.alias_(exp.to_table(TABLE), alias.name, table=True))
    return str(tree.sql(dialect))


def check(text: str, dialect: str, names: frozenset[str]) -> None:
    """`SqlRefused` for what could do harm, `LookupError` for what driftd cannot run: ``names`` are those of the window."""
    import sqlglot
    from sqlglot import exp

    try:
        parsed = sqlglot.parse(text, dialect=dialect)
    except sqlglot.errors.SqlglotError as error:
        raise LookupError(f"the query is not SQL: {str(error).splitlines()[0]}") from None
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Query):
        raise SqlRefused("the query must be one SELECT")
    tree = parsed[0]
    for node in tree.walk():
        kind = type(node).__name__
        if kind in WRITES:
            raise SqlRefused(f"the query must be one SELECT that writes nothing; it has {node.sql()[:60]!r}")
        name = node.name if isinstance(node, exp.Anonymous) else kind if kind in READS else ""
        if kind in READS or (name and FILE_FUNCTIONS.match(name)):
            raise SqlRefused(f"the query calls {name or kind}, which reads files or settings, or waits")
    outside = {id(table) for table in real_tables(tree)}
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise SqlRefused(f"the query reads {table.sql()[:60]!r}, which is no table of the contract")
        name = table.name
        if re.search(r"[/\\.:*]", name):
            raise SqlRefused(f"the query reads the file {name!r}")
        if id(table) in outside and name.lower() not in {TABLE} | {n.lower() for n in names}:
            raise LookupError(f"the query reads the table {name!r}; only the rows of the window, {{object}}, are there")


def mentioned(text: str, column: str | None) -> frozenset[str]:
    """The names in a query that may be columns; none where it cannot be parsed."""
    import sqlglot
    from sqlglot import exp

    try:
        tree = sqlglot.parse_one(rendered(text, column), dialect="duckdb")
    except (sqlglot.errors.SqlglotError, LookupError):
        return frozenset()
    return frozenset(found.name for found in tree.find_all(exp.Column))


@RULES.register("sql")
class SqlRule(RuleKind):
    """Broken when the one number that the query gives does not satisfy the operators."""

    def query(self, rule: Rule, data: Data) -> Query | None:
        if not rule.operators:
            raise LookupError("the rule has no operator such as mustBe")
        rendered(str(rule.argument), rule.column)
        return Sql(str(rule.argument), tuple(rule.written.get("names", ())), rule.column)

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        value = seen.answer["value"]
        if value is None:
            raise LookupError("the query gave null")
        if value == value and holds(rule.operators, value):
            return None
        if not math.isfinite(value):
            return seen.rows, {"value": str(value)}, f"the query gave {value}"
        bad = int(value) if float(value) == int(value) and 0 <= value <= seen.rows else seen.rows
        return bad, {"value": value}, f"the query gave {value:g}"
