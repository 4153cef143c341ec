"""Migrations with Alembic, after a back-up."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Engine

HERE = Path(__file__).parent


def _config(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE / "migrations"))
    config.attributes["engine"] = engine
    return config


def upgrade(engine: Engine, to: str = "head") -> None:
    """Bring the schema to a version, the newest without one, in one transaction where the database can."""
    command.upgrade(_config(engine), to)


def head(engine: Engine) -> str:
    """The newest version that there is a migration for."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory.from_config(_config(engine)).get_current_head())


def back_up(engine: Engine, now: datetime) -> Path | None:
    """Copy a SQLite store beside itself; None for PostgreSQL, which has tools of its own (pg_dump)."""
    if engine.url.get_backend_name() != "sqlite" or not engine.url.database:
        return None
    source = Path(engine.url.database)
    if not source.exists():
        return None
    target = source.with_name(f"{source.name}.{now:%Y%m%dT%H%M%S}.bak")
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
    return target
