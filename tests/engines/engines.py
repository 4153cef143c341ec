"""The engines under test: each takes an Arrow table and gives a source over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from monitor.ports import Source
from monitor.sources import open_source
from monitor.sources.parquet import ParquetConfig
from monitor.sources.spark import SparkConfig
from monitor.sources.sql import SqlConfig

Open = Callable[[pa.Table, Path], Source]


def parquet(table: pa.Table, folder: Path) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(table, path)
    return path


def arrow(table: pa.Table, folder: Path, address: str) -> Source:
    return open_source(ParquetConfig(path=str(parquet(table, folder))))


def duckdb(table: pa.Table, folder: Path, address: str) -> Source:
    import duckdb as engine

    with engine.connect(str(folder / "rows.duckdb")) as connection:
        connection.register("given", table)
        connection.execute("CREATE TABLE rows AS SELECT * FROM given")
    return open_source(SqlConfig.model_validate({"url": f"duckdb://{folder}/rows.duckdb", "table": "rows"}))


def postgres(table: pa.Table, folder: Path, address: str) -> Source:
    from adbc_driver_postgresql import dbapi

    flat = pa.table({
        name: column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    })
    plain = address.replace("+psycopg", "")
    with dbapi.connect(plain) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("rows", flat, mode="create")
        connection.commit()
    return open_source(SqlConfig.model_validate({"url": plain, "table": "public.rows"}))


def spark(table: pa.Table, folder: Path, address: str) -> Source:
    where = {"remote": address} if address.startswith("sc://") else {"master": address}
    return open_source(SparkConfig.model_validate({**where, "path": str(parquet(table, folder))}))


ENGINES = {"arrow": arrow, "duckdb": duckdb, "postgres": postgres, "spark": spark}
