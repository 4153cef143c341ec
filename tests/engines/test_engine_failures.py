"""What goes wrong with an engine is said with its class and cause, changes nothing, and is over with the next try."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from checks.core.errors import SchemaError, SourceError
from checks.core.profile import Binning, ColumnBinning
from checks.core.window import Window
from monitor.evaluation.scan import scan
from monitor.ports import Source
from monitor.profiling.plan import Plan
from monitor.sources import open_source
from monitor.sources.spark import SparkConfig
from monitor.sources.sql import SqlConfig
from tests.engines.cases import CASES, WINDOW
from tests.engines.conftest import Cluster
from tests.engines.engines import duckdb, postgres

pytestmark = pytest.mark.xdist_group("engines")
CASE = CASES[0]
BINNING = Binning((ColumnBinning("x", "numeric", edges=(0.0,)),))


def sql(**keys: object) -> Source:
    return open_source(SqlConfig.model_validate(keys))


def count(source: Source) -> int:
    plan = Plan(BINNING, timestamp="at", cross=False)
    return scan(source, plan, source.types(), "at", WINDOW).profile.rows


def test_a_query_is_read_like_a_table_and_nothing_can_be_written(tmp_path: Path, postgres: str) -> None:
    plain = filled(tmp_path, postgres)
    source = sql(url=plain, query="SELECT at, x FROM rows WHERE x > 0;")
    assert source.types() == {"at": "timestamp", "x": "number"}
    assert 0 < count(source) < CASE.table.num_rows
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("CREATE FUNCTION sneak() RETURNS float8 LANGUAGE sql AS 'DELETE FROM rows RETURNING x'")
    with pytest.raises(SourceError, match=r"ReadOnlySqlTransaction.*cannot execute DELETE in a read-only transaction"):
        count(sql(url=plain, query="SELECT at, sneak() AS x FROM rows"))
    assert count(sql(url=plain, table="rows")) == CASE.table.num_rows


def filled(folder: Path, address: str) -> str:
    postgres_engine(CASE.table, folder, address)
    return address.replace("+psycopg", "")


postgres_engine = postgres


@pytest.mark.parametrize(("keys", "message"), [
    ({"query": "DELETE FROM rows"}, "must be one SELECT"), ({"query": "SELECT 1; SELECT 2"}, "must be one SELECT"),
    ({"query": "WITH a AS (DELETE FROM rows RETURNING x) SELECT * FROM a"}, "writes nothing"), ({"query": "SELEC x"}, "query"),
    ({}, "either a table or a query"), ({"table": "a", "query": "SELECT 1"}, "either a table or a query"),
])
def test_a_source_is_one_table_or_one_select(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SqlConfig.model_validate({"url": "postgresql://127.0.0.1/db", **keys})


def test_a_query_that_outlives_its_time_out_is_ended_and_the_next_one_runs(tmp_path: Path, postgres: str) -> None:
    plain = filled(tmp_path, postgres)
    slow = sql(url=plain, query="SELECT at, x + coalesce(length(pg_sleep(0.05)::text), 0) AS x FROM rows", timeout="1s")
    started = time.monotonic()
    with pytest.raises(SourceError, match=r"query: the query outlived its time-out of 1s and was ended \(QueryCanceled\)"):
        count(slow)
    assert time.monotonic() - started < 20
    assert count(sql(url=plain, table="rows")) == CASE.table.num_rows


def test_duckdb_is_interrupted_too(tmp_path: Path) -> None:
    duckdb(CASE.table, tmp_path, "")
    query = "SELECT r.at, r.x + sin(a.range * b.range) AS x FROM rows r, range(100000) a, range(100000) b"
    with pytest.raises(SourceError, match="outlived its time-out of 1s"):
        count(sql(url=f"duckdb://{tmp_path}/rows.duckdb", query=query, timeout="1s"))
    assert count(sql(url=f"duckdb://{tmp_path}/rows.duckdb", table="rows")) == CASE.table.num_rows


def test_what_cannot_be_reached_or_is_refused_is_named_without_the_password(tmp_path: Path, postgres: str) -> None:
    with pytest.raises(SourceError, match=r"postgresql://127\.0\.0\.1:1/db rows: cannot be reached.*refused") as caught:
        sql(url="postgresql://me:hunter2@127.0.0.1:1/db", table="rows").types()
    assert "hunter2" not in str(caught.value)
    plain = filled(tmp_path, postgres)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("CREATE ROLE nobody_" + tmp_path.name.replace("-", "_")[-20:] + " LOGIN")
    refused = plain.replace("postgresql://postgres:", "postgresql://nobody_" + tmp_path.name.replace("-", "_")[-20:] + ":")
    assert refused != plain
    with pytest.raises(SourceError, match=r"InsufficientPrivilege\): permission denied for table rows"):
        count(sql(url=refused, table="rows"))
    with pytest.raises(SourceError, match="there is no such table"):
        sql(url=plain, table="nothing").types()
    with pytest.raises(SourceError, match=r"cannot be reached"):
        sql(url=f"duckdb://{tmp_path}/none.duckdb", table="rows").types()


def test_a_connection_that_the_server_ends_is_made_anew(tmp_path: Path, postgres: str) -> None:
    plain = filled(tmp_path, postgres)
    source = sql(url=plain, table="rows")
    assert count(source) == CASE.table.num_rows
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'driftd'")
    with pytest.raises(SourceError, match=r"AdminShutdown|cannot be reached"):
        count(source)
    assert count(source) == CASE.table.num_rows


def test_event_times_that_an_engine_cannot_compare_are_refused_in_words(tmp_path: Path) -> None:
    duckdb(pa.table({"at": ["2024-03-10T00:00:00"], "x": [1.0]}), tmp_path, "")
    with pytest.raises(SchemaError, match="at holds event times of type String; allowed are timestamps, dates and whole numbers"):
        count(sql(url=f"duckdb://{tmp_path}/rows.duckdb", table="rows"))


def test_rows_that_came_or_changed_later_are_noticed(tmp_path: Path, postgres: str) -> None:
    plain = filled(tmp_path, postgres)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("ALTER TABLE rows ADD COLUMN written timestamptz DEFAULT '2024-03-11'")
        watched, plainly = sql(url=plain, table="rows", ingested="written"), sql(url=plain, table="rows")
        before = watched.fingerprint("at", WINDOW), plainly.fingerprint("at", WINDOW)
        assert before == (watched.fingerprint("at", WINDOW), plainly.fingerprint("at", WINDOW))
        connection.execute("UPDATE rows SET x = 5, written = '2024-03-12' WHERE at = (SELECT min(at) FROM rows)")
        after = watched.fingerprint("at", WINDOW), plainly.fingerprint("at", WINDOW)
        assert (after[0] != before[0], after[1] == before[1]) == (True, True)
        connection.execute("DELETE FROM rows WHERE x = 5")
        assert plainly.fingerprint("at", WINDOW) != before[1]
        assert watched.extent("at").written is not None
        windows = [Window(WINDOW.start + timedelta(minutes=k), WINDOW.start + timedelta(minutes=k + 1)) for k in range(300)]
        together = watched.fingerprints("at", windows)
        assert together[windows[3]] == watched.fingerprint("at", windows[3]) != watched.fingerprint("at", windows[250])


# -- Spark


def spark(folder: Path, address: str, **keys: object) -> Source:
    where = {"remote": address} if address.startswith("sc://") else {"master": address}
    table = pa.table({"at": pa.array(np.full(1000, int(WINDOW.start.timestamp() * 1e6)), pa.timestamp("us", "UTC")), "x": np.arange(1000.0)})
    pq.write_table(table, folder / "rows.parquet")
    return open_source(SparkConfig.model_validate({**where, **({} if "query" in keys else {"path": str(folder / "rows.parquet")}), **keys}))


SLOW = "SELECT timestamp_micros(1710028800000000) AS at, CAST(sum(sqrt(a.id * b.id)) AS double) AS x FROM range(3000000) a, range(3000000) b"


@pytest.mark.spark
@pytest.mark.parametrize("where", ["local", "connect"])
def test_spark_is_cancelled_at_its_time_out(request: pytest.FixtureRequest, where: str, tmp_path: Path) -> None:
    address = request.getfixturevalue(f"spark_{where}")
    with pytest.raises(SourceError, match="outlived its time-out of 4s and was cancelled"):
        count(spark(tmp_path, address, query=SLOW, timeout=timedelta(seconds=4)))
    assert count(spark(tmp_path, address)) == 1000


@pytest.mark.spark
def test_lost_workers_are_an_error_and_new_ones_serve_the_next_try(cluster: Cluster, tmp_path: Path) -> None:
    source = spark(tmp_path, cluster.address)
    assert count(source) == 1000
    for worker in cluster.workers:
        cluster.kill(worker)
    with pytest.raises(SourceError, match=r"spark://127\.0\.0\.1:\d+ .*rows\.parquet: the query"):
        count(spark(tmp_path, cluster.address, timeout=timedelta(seconds=8)))
    cluster.workers = [cluster.start_worker(i) for i in range(2)]
    assert count(source) == 1000


@pytest.mark.spark
def test_a_cluster_that_does_not_answer_is_an_error_at_once(tmp_path: Path) -> None:
    for address in ("sc://127.0.0.1:1", "spark://127.0.0.1:1"):
        with pytest.raises(SourceError, match=r"cannot be reached \(ConnectionRefusedError\)"):
            spark(tmp_path, address).types()


@pytest.mark.spark
def test_a_path_or_table_that_is_not_there_is_named(spark_local: str, tmp_path: Path) -> None:
    spark(tmp_path, spark_local)
    with pytest.raises(SourceError, match=r"spark local\[2\] .*gone.*AnalysisException.*PATH_NOT_FOUND"):
        open_source(SparkConfig.model_validate({"path": str(tmp_path / "gone")})).types()
    with pytest.raises(SourceError, match="TABLE_OR_VIEW_NOT_FOUND"):
        open_source(SparkConfig.model_validate({"table": "nowhere.gone"})).types()


def test_a_password_is_in_no_message_and_no_dump_however_it_is_written() -> None:
    from monitor.sources.engines import first_line

    with pytest.raises(ValidationError, match="must be written as %2F") as caught:
        SqlConfig.model_validate({"url": "postgresql://me:hun/ter2@h/db", "table": "t"})
    assert [e for e in caught.value.errors() if "ter2" in e["msg"]] == []  # what driftd shows of it
    assert "ter2" not in first_line(ValueError("cannot connect to postgresql://me:hun@ter2@h/db"))
    shown = SqlConfig.model_validate({"url": "postgresql://me:hunter2@h/db", "table": "t", "options": {"password": "hunter2"}}).model_dump_json()
    shown += SparkConfig.model_validate({"table": "t", "conf": {"spark.secret": "hunter2"}}).model_dump_json()
    assert "hunter2" not in shown
    assert "password" in shown


@pytest.mark.parametrize("query", ["DROP TABLE t", "INSERT INTO t SELECT 1", "SELECT 1; SELECT 2"])
def test_a_spark_query_is_one_select_too(query: str) -> None:
    with pytest.raises(ValueError, match="query must be one SELECT"):
        SparkConfig.model_validate({"query": query})
