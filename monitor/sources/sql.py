"""Tables and queries of a database, through ibis: profiled where they lie, read-only and in bounded time."""

from __future__ import annotations

import atexit
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr, ValidationInfo, field_serializer, field_validator, model_validator

from checks.core.errors import SourceError
from checks.core.window import format_duration
from contracts.rules.sql import over
from monitor.config.types import Duration, Section
from monitor.ports import Relation, Source
from monitor.sources import SOURCES, SourcePlugin
from monitor.sources.engines import EngineSource, PlainRelation, check_select, first_line

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

BATCH_ROWS = 65_536
CONNECT_SECONDS = 10
KEPT = 4
MOST_ROWS = 1001
SCATTERED = 0.2
"""PostgreSQL's cost of one row of a window, from which the window is found only once: 0.03 is a scan that keeps all rows."""

POSTGRES = ("postgresql", "postgres")
_DIALECTS = {"postgresql": "postgres", "mssql": "tsql"}


class SqlConfig(Section):
    """``url`` of a database, and a ``table`` (``schema.table``) or a ``query``, one SELECT.

    ``timeout`` ends a statement; ``ingested`` names the column that says when a row was written, so that rows that came
    or changed later are noticed. ``options`` go to the client's connect call.
    """

    kind: Literal["sql"] = "sql"
    url: SecretStr
    table: str | None = None
    query: str | None = None
    timeout: Duration = timedelta(minutes=5)
    ingested: str | None = None
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _address(cls, value: Any) -> Any:
        """``postgresql://host/database#schema.table`` in one text."""
        if isinstance(value, dict) and "path" in value:
            address, _, table = str(value["path"]).partition("#")
            rest = {k: v for k, v in value.items() if k != "path"}
            address = address if "://" in address else f"duckdb://{address}"
            return {"url": address, **({"table": table} if table else {}), **rest}
        return value

    @field_validator("url")
    @classmethod
    def _scheme(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        base, text = (info.context or {}).get("base"), value.get_secret_value()
        if base and re.match(r"^duckdb://[^/:]", text):  # two slashes and a name: beside the file that names it
            return SecretStr(f"duckdb://{os.path.abspath(os.path.join(base, text.removeprefix('duckdb://')))}")
        if not re.match(r"^[a-z][a-z0-9+]*://", value.get_secret_value()):
            raise ValueError("url must be an address such as postgresql://user@host/database")
        try:
            _ = urlsplit(text).port
        except ValueError:
            raise ValueError("url cannot be read: a / @ : or # in its password must be written as %2F %40 %3A %23") from None
        return value

    @model_validator(mode="after")
    def _one(self) -> SqlConfig:
        if (self.table is None) == (self.query is None):
            raise ValueError("a sql source has either a table or a query; an address names its table after #")
        if self.query is not None:
            check_select(self.query, _DIALECTS.get(self.scheme, self.scheme))
        if self.timeout <= timedelta(0):
            raise ValueError("timeout must be longer than nothing")
        return self

    @field_serializer("options", when_used="json")
    def _hidden(self, options: dict[str, Any]) -> dict[str, str]:
        """Their names: a password may be among them."""
        return dict.fromkeys(options, "***")

    @field_serializer("url", when_used="json")
    def _shown(self, url: SecretStr) -> str:
        """The address without credentials: what people see, and what settings depend on."""
        parts = urlsplit(url.get_secret_value())
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
        socket = parse_qs(parts.query).get("host", [""])[0]
        return f"{parts.scheme}://{host}{parts.path}{f'?host={socket}' if socket and not host else ''}"

    @property
    def scheme(self) -> str:
        """The kind of database."""
        return self.url.get_secret_value().split("://", 1)[0].split("+", 1)[0]

    @property
    def where(self) -> str:
        """What errors call the source: its address without credentials, and the table."""
        return f"{self._shown(self.url)} {self.table or 'query'}"


class SqlRelation(PlainRelation):
    """The rows of one window in a database."""

    def __init__(
        self, native: Any, errors: tuple[type[Exception], ...], fatal: tuple[type[Exception], ...],
    ) -> None:
        import narwhals as nw

        self._native = native
        self._fatal = fatal
        self.errors = errors
        self.frame: nw.LazyFrame[Any] = nw.from_native(native)

    def sample(self, fraction: float) -> nw.LazyFrame[Any]:
        import ibis
        import narwhals as nw

        found: nw.LazyFrame[Any] = nw.from_native(self._native.filter(ibis.random() < fraction))
        return found

    def fatal(self, error: Exception) -> bool:
        return isinstance(error, self._fatal)

    @property
    def dialect(self) -> str:
        return str(self._native.get_backend().dialect.__name__).lower()

    def query(self, text: str, names: Sequence[str], seconds: float) -> list[tuple[Any, ...]]:
        backend = self._native.get_backend()
        sql = over(text, names, self.dialect, backend.compiler.to_sqlglot(self._native))
        late = threading.Event()

        def end() -> None:
            late.set()
            backend.con.interrupt()

        timer = threading.Timer(seconds, end) if hasattr(backend.con, "interrupt") else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            found: list[tuple[Any, ...]] = backend.con.execute(sql).fetchmany(MOST_ROWS)
        except self._fatal:
            if late.is_set():
                raise LookupError(f"the query took longer than {seconds:g} s and was ended") from None
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return found


class PostgresRelation(SqlRelation):
    """What makes PostgreSQL use its workers, measured with EXPLAIN ANALYZE.

    It takes a group-by on an expression for as many groups as the column has values, sorts all rows on disk and stays on
    one core; of a union it assumes 200 groups, so an empty arm makes the table one. It runs cursors on one core: results
    are fetched whole. It writes a subquery that is named twice to disk and scans that on one core; where the window is
    cheap to find again (an index, or most of the table) each group-by reads the table itself, all at once from the cache,
    and else the window is found once and kept.
    """

    def __init__(
        self, native: Any, errors: tuple[type[Exception], ...], fatal: tuple[type[Exception], ...], *, keep: bool,
    ) -> None:
        import ibis
        import narwhals as nw

        super().__init__(native, errors, fatal)
        self._backend = native.get_backend()
        self._keep = keep or self._scattered(native)
        self.frame = nw.from_native(native.union(native.filter(ibis.literal(False)), distinct=False))

    def _scattered(self, native: Any) -> bool:
        (row,) = self._execute("EXPLAIN (FORMAT JSON) " + self._backend.compile(native))
        plan = row[0][0]["Plan"]
        return bool(plan["Total Cost"] > SCATTERED * max(plan["Plan Rows"], 1000))

    def query(self, text: str, names: Sequence[str], seconds: float) -> list[tuple[Any, ...]]:
        import psycopg

        sql = over(text, names, self.dialect, self._backend.compiler.to_sqlglot(self._native))
        connection = self._backend.con
        (before,) = connection.execute("SHOW statement_timeout").fetchone()
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(int(seconds * 1000)),))
                found: list[tuple[Any, ...]] = connection.execute(sql).fetchmany(MOST_ROWS)
                connection.execute("SELECT set_config('statement_timeout', %s, true)", (before,))
        except psycopg.errors.QueryCanceled:
            raise LookupError(f"the query took longer than {seconds:g} s and was ended") from None
        return found

    def _execute(self, sql: str) -> list[Any]:
        with self._backend.con.transaction():  # a savepoint, so that a query that fails ends nothing else
            found: list[Any] = self._backend.con.execute(sql).fetchall()
        return found

    def rows(self, query: nw.LazyFrame[Any]) -> list[dict[str, Any]]:
        import sqlglot.expressions as exp

        tree = self._backend.compiler.to_sqlglot(query.to_native())
        if not self._keep:
            for named in tree.find_all(exp.CTE):
                named.set("materialized", False)
        names = query.collect_schema().names()
        return [dict(zip(names, row, strict=True)) for row in self._execute(tree.sql("postgres"))]

    def bucketed(self, numbers: nw.LazyFrame[Any], edges: Sequence[float]) -> nw.LazyFrame[Any] | None:
        import ibis
        import narwhals as nw

        native = numbers.to_native()
        bucket = _width_bucket()
        found: nw.LazyFrame[Any] = nw.from_native(native.mutate(inside=bucket(native.x, ibis.array(list(edges)))))
        return found


class Connections:
    """The connections to PostgreSQL that a process keeps: the least recently used is closed beyond ``KEPT``."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()
        atexit.register(self.close)

    def get(self, key: str, connect: Callable[[], Any]) -> Any:
        """The kept connection, or a new one."""
        backend = self._kept.pop(key, None)
        if backend is None or backend.con.closed or backend.con.broken:
            backend = connect()
        self._kept[key] = backend
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)[1].disconnect()
        return backend

    def close(self) -> None:
        """Close all."""
        while self._kept:
            self._kept.popitem()[1].disconnect()


CONNECTIONS = Connections()


class SqlSource(EngineSource):
    """Each call is one read-only transaction; connections to PostgreSQL are kept, a DuckDB file is let go."""

    def __init__(self, config: SqlConfig) -> None:
        super().__init__(config.where, config.ingested)
        self._config = config

    # -- connection and transaction

    def _connect(self) -> Any:
        import ibis

        config = self._config
        url = config.url.get_secret_value()
        if config.scheme in POSTGRES:
            import psycopg

            plain = "postgresql://" + url.split("://", 1)[1]
            connection = psycopg.connect(
                plain, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="driftd", **config.options
            )
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            return ibis.postgres.from_connection(connection)
        options = {"read_only": True, **config.options} if config.scheme == "duckdb" else config.options
        return ibis.connect(url, **options)

    @property
    def _address(self) -> str:
        return f"{self._config.url.get_secret_value()} {self._config.options}"

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        """What the client raises; of a database that driftd does not know better, anything."""
        import narwhals as nw
        from ibis.common.exceptions import IbisError

        known: tuple[type[Exception], ...] = (IbisError, nw.exceptions.NarwhalsError, NotImplementedError)
        if self._config.scheme in POSTGRES:
            import psycopg

            return (*known, psycopg.Error)
        if self._config.scheme == "duckdb":
            import duckdb

            return (*known, duckdb.Error)
        return (Exception,)

    @property
    def _fatal(self) -> tuple[type[Exception], ...]:
        if self._config.scheme in POSTGRES:
            import psycopg

            return (psycopg.OperationalError,)
        if self._config.scheme == "duckdb":
            import duckdb

            return (duckdb.InterruptException, duckdb.IOException)
        return ()

    @contextmanager
    def session(self) -> Iterator[nw.LazyFrame[Any]]:
        """The table in a read-only transaction."""
        import narwhals as nw

        config = self._config
        try:
            from ibis.common.exceptions import TableNotFound
        except ModuleNotFoundError:
            raise SourceError(f"{config.where}: needs driftd's extra: pip install 'driftd[sql]'") from None
        expected: tuple[type[Exception], ...] = (*self._errors, OSError, ValueError, ImportError)
        keep = config.scheme in POSTGRES
        try:
            backend = CONNECTIONS.get(self._address, self._connect) if keep else self._connect()
        except expected as error:
            hint = f"; its client is not installed: pip install 'ibis-framework[{config.scheme}]'" if isinstance(error, ImportError) else ""
            raise SourceError(f"{config.where}: cannot be reached: {first_line(error)}{hint}") from None
        try:
            with self._bounded(backend):
                yield nw.from_native(self._table(backend))
        except SourceError as error:
            if not str(error).startswith(config.where):
                raise type(error)(f"{config.where}: {error}") from None
            raise
        except TableNotFound:
            raise SourceError(f"{config.where}: there is no such table") from None
        except expected as error:
            raise SourceError(f"{config.where}: {self._explain(error)}") from None
        finally:
            if not keep:
                backend.disconnect()

    @contextmanager
    def _bounded(self, backend: Any) -> Iterator[None]:
        seconds = self._config.timeout.total_seconds()
        if self._config.scheme in POSTGRES:
            with backend.con.transaction():
                backend.con.execute("SELECT set_config('statement_timeout', %s, true)", (str(max(int(seconds * 1000), 1)),))
                yield
            return
        interrupt = getattr(backend.con, "interrupt", None)
        if interrupt is None:
            yield
            return
        timer = threading.Timer(seconds, interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _explain(self, error: Exception) -> str:
        kind = type(error).__name__
        if kind in ("QueryCanceled", "InterruptException"):
            return f"the query outlived its time-out of {format_duration(self._config.timeout)} and was ended ({kind})"
        return f"the query failed ({kind}): {first_line(error)}"

    def _table(self, backend: Any) -> Any:
        config = self._config
        if config.query is not None:
            query = config.query.strip().rstrip(";")
            return backend.sql(query, schema=self._schema(backend, query))
        schema, _, name = (config.table or "").rpartition(".")
        return backend.table(name, database=schema or None)

    def _schema(self, backend: Any, query: str) -> Any:
        """The columns of a query; ibis would make a view to learn them, which a read-only transaction refuses."""
        import ibis
        from ibis.backends.sql.datatypes import DuckDBType, PostgresType

        if self._config.scheme in POSTGRES:
            cursor = backend.con.execute(f"SELECT * FROM ({query}) AS asked LIMIT 0")
            named = [(c.name, c.type_code) for c in cursor.description]
            kinds = backend.con.execute("SELECT format_type(t, NULL) FROM unnest(%s::oid[]) AS t", ([k for _, k in named],)).fetchall()
            return ibis.schema({n: PostgresType.from_string(kind) for (n, _), (kind,) in zip(named, kinds, strict=True)})
        if self._config.scheme == "duckdb":
            rows = backend.con.execute(f"DESCRIBE {query}").fetchall()
            return ibis.schema({row[0]: DuckDBType.from_string(row[1]) for row in rows})
        return None

    # -- what an engine source is made of

    def relation(self, frame: nw.LazyFrame[Any]) -> Relation:
        if self._config.scheme in POSTGRES:
            return PostgresRelation(frame.to_native(), self._errors, self._fatal, keep=self._config.query is not None)
        return SqlRelation(frame.to_native(), self._errors, self._fatal)

    def batches(self, frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
        native = frame.to_native()
        if self._config.scheme == "duckdb":  # ibis 12 asks DuckDB 2 for a method that it has no more
            backend = native.get_backend()
            yield from backend.con.sql(backend.compile(native)).to_arrow_reader(BATCH_ROWS)
        else:
            yield from native.to_pyarrow_batches(chunk_size=BATCH_ROWS)


@cache
def _width_bucket() -> Any:
    """PostgreSQL's search of a sorted array; bins are lower-inclusive, as driftd's are."""
    import ibis

    @ibis.udf.scalar.builtin(signature=((float, list[float]), int))  # type: ignore[untyped-decorator]
    def width_bucket(x: Any, edges: Any) -> Any: ...

    return width_bucket


def _build(config: SqlConfig) -> Source:
    return SqlSource(config)


SOURCES.register("sql")(SourcePlugin(SqlConfig, _build))
