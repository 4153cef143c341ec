"""Opening the store: SQLite in WAL mode with immediate transactions, or PostgreSQL; and its schema version."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from checks.core.errors import StoreError

HEAD = "0005"
"""The schema version that this code works with; a test compares it with the newest migration."""

READ = {"driftd_read": True}

PATIENCE = {
    "connect_timeout": 5, "keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
    "options": "-c idle_in_transaction_session_timeout=30000 -c lock_timeout=15000",
}
"""A daemon that was stopped inside a transaction, or that the network has lost, must not keep the others waiting for its locks."""

_SECRET = re.compile(r"pass|secret|token|key", re.IGNORECASE)


def redacted(url: str) -> str:
    """The URL without its password."""
    try:
        parsed = make_url(url)
        hidden = {name: "***" for name in parsed.query if _SECRET.search(name)}
        return parsed.update_query_dict(hidden).render_as_string(hide_password=True)
    except ArgumentError:
        return "(not a database URL)"


def open_engine(url: str) -> Engine:
    """An engine for ``url``; nothing is connected yet."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(parsed, hide_parameters=True, connect_args={"timeout": 60, "check_same_thread": False})
            event.listen(engine, "connect", _sqlite_connect)
            event.listen(engine, "begin", _sqlite_begin)
            return engine
        if parsed.get_backend_name() == "postgresql":
            engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=8, hide_parameters=True, connect_args=PATIENCE)
            event.listen(engine, "before_cursor_execute", _without_nul, retval=True)
            return engine
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(f"store {redacted(url)}: {error}") from None
    except ModuleNotFoundError as error:
        raise StoreError(f"store {redacted(url)}: {error}; install driftd[sql]") from None
    except OSError as error:
        raise StoreError(f"store {redacted(url)}: {error}") from None
    raise StoreError(f"store {redacted(url)}: allowed are sqlite:/// and postgresql+psycopg://")


def _without_nul(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
    """PostgreSQL holds no NUL in a text; what a log's texts have of it is shown as a replacement character."""
    return statement, _plain(parameters)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd") if "\x00" in value else value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else value


def _sqlite_connect(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("busy_timeout=60000", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _to_wal(cursor)
    cursor.close()


def _to_wal(cursor: sqlite3.Cursor) -> None:
    """Switch a new file to WAL. SQLite does not wait for another process that does the same: it is asked again."""
    for left in range(100, -1, -1):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if not left:
                raise
            time.sleep(0.05)


def _sqlite_begin(connection: Connection) -> None:
    read = connection.get_execution_options().get("driftd_read")
    connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")


def schema_version(engine: Engine) -> str | None:
    """The version that the store has; None for an empty store. `StoreError` when it cannot be reached."""
    try:
        with engine.connect().execution_options(**READ) as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            return str(found) if found is not None else None
    except SQLAlchemyError as error:
        raise StoreError(f"store {redacted(str(engine.url))}: cannot be opened: {reason(error)}") from None


def reason(error: SQLAlchemyError) -> str:
    """What the database said, in one line and without parameters."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(original).strip().splitlines() or [type(original).__name__])[0]


def ensure_schema(engine: Engine) -> None:
    """Create the schema in an empty store; refuse an older or newer one."""
    version = schema_version(engine)
    if version is None:
        from monitor.store.migrate import upgrade

        upgrade(engine)
    elif version != HEAD:
        older = version < HEAD
        action = "run driftd migrate" if older else "this driftd is older than the store: install a newer one"
        raise StoreError(f"store {redacted(str(engine.url))}: its schema is {version}, this driftd needs {HEAD}; {action}")
