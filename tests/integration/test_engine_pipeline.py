"""A monitor whose rows lie in a database: the same verdicts as over files, and errors that leave the others alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from monitor.sources.sql import CONNECTIONS
from monitor.store import runs, tables
from tests.streams import START, Stream, shift
from tests.world import World

LIMITS = {"limits": {"roc_auc": {"fail_below": 0.55}}, "metrics": ["roc_auc"], "slices": ["c0"], "min_rows": 100}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    CONNECTIONS.close()


class DatabaseWorld(World):
    """Writes the same days into a database, too."""

    def __init__(self, folder: Path, stream: Stream, url: str, **monitor: Any) -> None:
        self.url = url
        monitor.setdefault("source", {"kind": "sql", "url": url, "table": "predictions", "ingested": "at"})
        monitor.setdefault("labels", {"source": {"kind": "sql", "url": url, "query": "SELECT id, label, known_at FROM labels"}, "label": "label"})
        super().__init__(folder, stream, **monitor)

    def write(self, until: int, *, labels: bool = True) -> None:
        from adbc_driver_postgresql import dbapi

        days = range(self.written, until)
        super().write(until, labels=labels)
        with dbapi.connect(self.url) as connection, connection.cursor() as cursor:
            for day in days:
                for name in ("predictions", "labels"):
                    cursor.adbc_ingest(name, pq.read_table(self.folder / name / f"{day:04d}.parquet"), mode="create_append")
            connection.commit()


def run_of(world: World, day: int) -> Any:
    with world.app.store.read() as connection:
        return runs.current_run(connection, "m", START + timedelta(days=day))


def test_a_table_gives_the_verdicts_of_the_files_it_was_made_of(tmp_path: Path, postgres: str) -> None:
    stream = Stream(faults={43: [shift("x0", 1.0)]})
    (tmp_path / "files").mkdir()
    (tmp_path / "table").mkdir()
    files = World(tmp_path / "files", stream, quality=LIMITS)
    table = DatabaseWorld(tmp_path / "table", stream, postgres.replace("+psycopg", ""), quality=LIMITS)
    files.days(5)
    table.days(5)
    assert table.inbox.types() == files.inbox.types()
    assert ("incident.fired", "drift") in table.inbox.types()
    for day in range(40, 45):
        one, other = run_of(files, day), run_of(table, day)
        assert (one.verdict, one.rows, one.labelled) == (other.verdict, other.rows, other.labelled)
        assert one.sections["drift"]["p_value"] == pytest.approx(other.sections["drift"]["p_value"], rel=1e-6)
        assert one.sections["contract"]["verdict"] == other.sections["contract"]["verdict"]
        assert one.sections["quality"]["metrics"] == other.sections["quality"]["metrics"]
    with files.app.store.read() as connection, table.app.store.read() as second:
        bodies = [
            [row.body for row in c.execute(tables.profile.select().where(tables.profile.c.kind == "outputs").order_by(tables.profile.c.start))]
            for c in (connection, second)
        ]
    assert len(bodies[0]) == 5
    assert bodies[0] == bodies[1]


def test_a_database_that_is_lost_is_an_error_of_its_windows_and_is_tried_again(tmp_path: Path, postgres: str) -> None:
    plain = postgres.replace("+psycopg", "")
    world = DatabaseWorld(tmp_path, Stream(), plain)
    world.days(2)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("ALTER TABLE predictions RENAME TO hidden")
    with pytest.raises(psycopg.errors.UndefinedTable), psycopg.connect(plain) as connection:
        connection.execute("SELECT 1 FROM predictions")
    World.write(world, 43)
    world.written = 42
    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    window = prepared.grid.at(START + timedelta(days=42))
    assert pipeline.evaluate("m", window) == "error"
    run = run_of(world, 42)
    assert "predictions" in run.error
    assert "there is no such table" in run.error
    assert run.retry_at is not None
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("ALTER TABLE hidden RENAME TO predictions")
    assert pipeline.evaluate("m", window) == "no_data"
    assert run_of(world, 42).attempts == 2


def test_the_address_of_a_database_is_shown_without_its_password(tmp_path: Path) -> None:
    from monitor.app import load_config
    from monitor.prepare import settings_key
    from tests.streams import config_text

    def config(password: str, host: str = "db") -> Any:
        (tmp_path / "config.yaml").write_text(config_text(tmp_path, source=f"postgresql://me:{password}@{host}/logs#public.predictions", labels=None))
        return load_config(tmp_path / "config.yaml").monitors["m"]

    monitor = config("hunter2")
    assert monitor.source.kind == "sql"
    assert monitor.source.table == "public.predictions"
    assert monitor.model_dump(mode="json")["source"]["url"] == "postgresql://db/logs"
    assert "hunter2" not in repr(monitor)
    assert settings_key(monitor) == settings_key(config("rotated"))
    assert settings_key(monitor) != settings_key(config("hunter2", "other"))


@pytest.mark.parametrize("address", ["logs.duckdb#rows", "duckdb://logs.duckdb#rows", "duckdb://{folder}/logs.duckdb#rows"])
def test_a_duckdb_file_is_found_beside_the_file_that_names_it(tmp_path: Path, address: str) -> None:
    import duckdb

    from monitor.app import load_config
    from monitor.sources import open_source
    from tests.streams import config_text

    with duckdb.connect(str(tmp_path / "logs.duckdb")) as connection:
        connection.execute("CREATE TABLE rows AS SELECT TIMESTAMP '2024-01-01' AS at, 1.5 AS x")
    (tmp_path / "config.yaml").write_text(config_text(tmp_path, source=address.format(folder=tmp_path), labels=None))
    assert open_source(load_config(tmp_path / "config.yaml").monitors["m"].source).types() == {"at": "timestamp", "x": "number"}
