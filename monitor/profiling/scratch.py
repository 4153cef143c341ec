"""A DuckDB in memory for what no single pass can answer, with bounds on memory, time, and what its SQL may touch."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

MEMORY = "1GB"
DISK = "8GB"
SECONDS = 300.0
MOST_ROWS = 1001


class ScratchError(Exception):
    """The query failed, took too long, or needed more memory than it may have."""


class Scratch:
    """One in-memory database; spills to a temporary folder of its own."""

    def __init__(self, folder: str) -> None:
        self._connection = duckdb.connect(":memory:", config={
            "memory_limit": MEMORY, "threads": "2", "temp_directory": folder, "max_temp_directory_size": DISK,
            "python_enable_replacements": "false", "autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "allow_community_extensions": "false",
        })
        self._seconds = SECONDS
        self._late = False

    def lock(self, seconds: float) -> None:
        """From here on no statement may touch files, the network or the settings, or take longer than ``seconds``."""
        self._seconds = seconds
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def table(self, name: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch], sql: str | None = None) -> None:
        """A table from a stream of batches, or of what ``sql`` makes of them as ``stream``."""
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        try:
            self._connection.register("stream", reader)
        except duckdb.Error as error:
            raise ScratchError(f"DuckDB cannot read the columns: {str(error).strip().splitlines()[0][:200]}") from None
        try:
            self.run(f"CREATE TABLE {name} AS {sql or 'SELECT * FROM stream'}")
        finally:
            self._connection.unregister("stream")

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query; `ScratchError` with the first line of what went wrong."""
        self._late = False
        timer = threading.Timer(self._seconds, self._interrupt)
        timer.daemon = True
        timer.start()
        try:
            found = self._connection.sql(sql)  # as Arrow: rows of times would need pytz
            return [] if found is None else [tuple(row.values()) for row in _rows(found.limit(MOST_ROWS).to_arrow_table())]
        except duckdb.Error as error:
            if self._late:
                raise ScratchError(f"the query took longer than {self._seconds:g} s and was ended") from None
            raise ScratchError((str(error).strip().splitlines() or [type(error).__name__])[0][:300]) from None
        finally:
            timer.cancel()

    def arrow(self, sql: str) -> pa.Table:
        """The rows of a query as a table."""
        try:
            return self._connection.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise ScratchError((str(error).strip().splitlines() or [type(error).__name__])[0][:300]) from None

    def _interrupt(self) -> None:
        self._late = True
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()


@contextmanager
def scratch() -> Iterator[Scratch]:
    """A database that is gone afterwards, with what it wrote."""
    with tempfile.TemporaryDirectory(prefix="driftd-scratch-") as folder:
        found = Scratch(folder)
        try:
            yield found
        finally:
            found.close()


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows, also of columns that share a name."""
    found: list[dict[str, Any]] = table.rename_columns([str(i) for i in range(table.num_columns)]).to_pylist()
    return found


def quoted(name: str) -> str:
    """An identifier in quotes."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Sequence[str]) -> str:
    """Identifiers for a select list."""
    return ", ".join(quoted(name) for name in names)
