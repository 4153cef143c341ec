"""The same rows from every kind of file, plain and compressed, local and in an object store; and what goes wrong with them."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from checks.core.errors import SchemaError, SourceError
from checks.core.profile import Binning, ColumnBinning
from checks.core.window import Window
from monitor.evaluation.scan import scan
from monitor.ports import Source
from monitor.profiling.plan import Plan
from monitor.sources import SOURCES, open_source, sniff

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(days=1))
BINNING = Binning((ColumnBinning("x", "numeric", edges=(100.0, 400.0)), ColumnBinning("c", "category", categories=("a", "b"))))
ROWS = 1500


def table() -> pa.Table:
    """Rows a minute apart: 1440 of the window and 60 of the day after."""
    return pa.table({
        "at": pa.array([START + timedelta(minutes=i) for i in range(ROWS)], pa.timestamp("us", "UTC")),
        "x": pa.array([None if i % 100 == 0 else i / 2 for i in range(ROWS)], pa.float64()), "c": pa.array(["abz"[i % 3] for i in range(ROWS)]),
        "unread": pa.array(["long text that no rule needs"] * ROWS),
    })


def as_csv(path: Path) -> None:
    pacsv.write_csv(table(), path)


def as_csv_gz(path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "gzip") as stream:
        pacsv.write_csv(table(), stream)


def as_csv_zst(path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        pacsv.write_csv(table(), stream)


def as_lines(path: Path) -> None:
    path.write_text(lines())


def lines() -> str:
    return "".join(json.dumps(row, default=lambda t: t.isoformat()) + "\n" for row in table().to_pylist())


def as_lines_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(lines().encode()))


def as_feather(path: Path) -> None:
    feather.write_feather(table(), path, compression="zstd", chunksize=200)


def as_parquet(path: Path) -> None:
    pq.write_table(table(), path, row_group_size=300)


def as_delta(path: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake(str(path), table())


FILES: dict[str, Callable[[Path], None]] = {
    "rows.csv": as_csv, "rows.csv.gz": as_csv_gz, "rows.csv.zst": as_csv_zst, "rows.jsonl": as_lines, "rows.jsonl.gz": as_lines_gz,
    "rows.feather": as_feather, "rows.parquet": as_parquet, "rows_delta": as_delta,
}


def opened(address: str, **keys: Any) -> Source:
    kind = sniff(address)
    return open_source(SOURCES[kind].config.model_validate({"path": address, **keys}))


def profiled(source: Source) -> tuple[list[int], list[int], int]:
    plan = Plan(BINNING, timestamp="at")
    profile = scan(source, plan, source.types_in("at", WINDOW), "at", WINDOW).profile
    return profile.columns["x"].layout().tolist(), profile.columns["c"].layout().tolist(), profile.rows


WANTED = ([198, 594, 633, 0, 15], [480, 480, 480, 0], 1440)


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_profile(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    source = opened(str(tmp_path / name))
    assert profiled(source) == WANTED
    assert source.types() == {"at": "timestamp", "x": "number", "c": "string", "unread": "string"}
    extent = source.extent("at")
    assert (extent.first, extent.last, extent.rows) == (START, START + timedelta(minutes=ROWS - 1), ROWS)
    assert source.fingerprint("at", WINDOW) == source.fingerprint("at", WINDOW)
    assert source.snapshot() == ("delta version 0" if name.endswith("delta") else "")


@pytest.mark.parametrize("name", [n for n in FILES if n != "rows_delta"])
def test_a_folder_of_files_is_sniffed_and_read_together(name: str, tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        FILES[name](tmp_path / part / name)
    assert sniff(str(tmp_path)) == sniff(name)
    assert profiled(opened(str(tmp_path)))[2] == 2 * 1440


def test_only_the_columns_that_are_needed_are_decoded(tmp_path: Path) -> None:
    as_parquet(tmp_path / "rows.parquet")
    whole = bytearray((tmp_path / "rows.parquet").read_bytes())
    group = pq.ParquetFile(tmp_path / "rows.parquet").metadata.row_group(0)
    unread = group.column(3)
    assert unread.path_in_schema == "unread"
    start = unread.dictionary_page_offset or unread.data_page_offset
    whole[start : start + 20] = b"\0" * 20
    last = pq.ParquetFile(tmp_path / "rows.parquet").metadata.row_group(4).column(1)
    (tmp_path / "rows.parquet").write_bytes(whole)
    assert profiled(opened(str(tmp_path / "rows.parquet"))) == WANTED
    early = Window(START, START + timedelta(hours=1))
    whole[last.data_page_offset : last.data_page_offset + 20] = b"\0" * 20
    (tmp_path / "rows.parquet").write_bytes(whole)
    source = opened(str(tmp_path / "rows.parquet"))
    assert sum(b.num_rows for b in source.read(["x"], "at", early)) == 60
    with pytest.raises(SourceError, match=r"rows\.parquet: cannot be read"):
        list(source.read(["x"], "at", Window(START, START + timedelta(days=2))))


# -- files that change


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.feather"])
@pytest.mark.parametrize("fault", ["vanished", "was replaced"])
def test_a_file_that_changes_while_it_is_read_is_an_error_and_the_next_try_reads_the_new_one(name: str, fault: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    source = opened(str(tmp_path / name))
    batches = source.read(["x"], "at", WINDOW)
    next(batches)
    if fault == "vanished":
        (tmp_path / name).unlink()
    else:
        new = tmp_path / "other"
        FILES[name](new)
        os.utime(new, (1, 1))
        new.replace(tmp_path / name)
    with pytest.raises(SourceError, match=rf"{name}: {fault} while it was read"):
        list(batches)
    FILES[name](tmp_path / name)
    assert profiled(source) == WANTED


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_log_that_is_being_written_is_read_up_to_its_last_whole_line(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    text = (tmp_path / name).read_text().splitlines(keepends=True)
    head = "".join(text[:1001])
    half = text[1001][:10]
    (tmp_path / name).write_text(head + half)
    source = opened(str(tmp_path / name))
    rows = 1001 if name.endswith("jsonl") else 1000
    batches = source.read(["x"], "at", WINDOW)
    found = next(batches).num_rows
    with (tmp_path / name).open("a") as file:
        file.write(text[1001][10:] + "".join(text[1002:]))
    assert found + sum(b.num_rows for b in batches) == rows
    assert profiled(source) == WANTED


def test_a_later_value_of_another_type_names_the_file_and_types_can_be_fixed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("at,x,c\n" + "2024-01-01T00:00:00Z,1,a\n" * 1_000_000 + "2024-01-01T00:00:00Z,oops,b\n")
    with pytest.raises(SourceError, match=r"rows\.csv: (cannot be read|not a readable CSV file).*oops"):
        profiled(opened(str(tmp_path / "rows.csv")))
    (tmp_path / "fixed.csv").write_text("at,x,c\n2024-01-01T00:00:00Z,1,007\n2024-01-01T01:00:00Z,NULL,8\n")
    fixed = opened(str(tmp_path / "fixed.csv"), types={"c": "string", "x": "number"})
    assert fixed.types()["c"] == "string"
    assert profiled(fixed) == ([1, 0, 0, 0, 1], [0, 0, 2, 0], 2)


@pytest.mark.parametrize(("name", "body"), [
    ("rows.csv", b"at,x\n1\n"), ("rows.jsonl", b"{not json}\n"), ("rows.feather", b"ARROW1 but not"), ("rows.parquet", b"PAR1xx"),
    ("rows.csv.gz", b"not gzip"), ("rows.jsonl.zst", b"not zstd"),
])
def test_a_broken_file_is_named(name: str, body: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises((SourceError, SchemaError), match=name.replace(".", r"\.")):
        profiled(opened(str(tmp_path / name)))


# -- Delta


def test_a_delta_table_is_read_at_one_snapshot_without_its_deleted_rows(tmp_path: Path) -> None:
    from deltalake import DeltaTable, write_deltalake

    as_delta(tmp_path / "rows_delta")
    source = opened(str(tmp_path / "rows_delta"))
    before = source.fingerprint("at", WINDOW)
    batches = source.read(["x"], "at", WINDOW)
    DeltaTable(str(tmp_path / "rows_delta")).delete("c = 'a'")
    assert sum(b.num_rows for b in batches) == 1440
    assert source.snapshot() == "delta version 0"
    assert source.fingerprint("at", WINDOW) != before
    assert profiled(source)[2] == 960
    assert source.snapshot() == "delta version 1"
    with pytest.raises(SourceError, match=r"this is a Delta table.*use kind: delta"):
        open_source(SOURCES["parquet"].config.model_validate({"path": str(tmp_path / "rows_delta")})).types()
    write_deltalake(str(tmp_path / "rows_delta"), table().slice(0, 3), mode="append")
    assert source.extent("at").rows == 1003


# -- object stores


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a real S3 API on the loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    import pyarrow.fs as pafs

    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_EC2_METADATA_DISABLED", "true")):
        monkeypatch.setenv(name, value)
    files = pafs.S3FileSystem(endpoint_override=s3.removeprefix("http://"), scheme="http", allow_bucket_creation=True, region="us-east-1")
    name = "logs-" + tmp_path.name.replace("_", "-")[-40:].strip("-").lower()
    files.create_dir(name)
    return name, files


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv.gz", "rows.jsonl", "rows.feather"])
def test_files_in_an_object_store_are_read_like_local_ones(name: str, bucket: Any, s3: str, tmp_path: Path) -> None:
    place, files = bucket
    FILES[name](tmp_path / name)
    with files.open_output_stream(f"{place}/model/day=1/{name}", compression=None) as stream:
        stream.write((tmp_path / name).read_bytes())
    for address in (f"s3://{place}/model/day=1/{name}", f"s3://{place}/model", f"s3://{place}/model/*/rows.*"):
        source = open_source(SOURCES[sniff(name)].config.model_validate({"path": address, "endpoint": s3, "region": "us-east-1"}))
        assert profiled(source) == WANTED, address


def test_what_an_object_store_refuses_is_said_with_its_cause(bucket: Any, s3: str) -> None:
    place, _ = bucket
    source = opened(f"s3://{place}/none.parquet", endpoint=s3, region="us-east-1")
    with pytest.raises(SourceError, match=rf"s3://{place}/none\.parquet: there is no such file"):
        source.types()
    with pytest.raises(SourceError, match=r"s3://gone-bucket/x\.parquet: "):
        opened("s3://gone-bucket/x.parquet", endpoint=s3, region="us-east-1").types()
    with pytest.raises(SourceError, match=r"cannot be listed: "):
        opened(f"s3://{place}/x.parquet", endpoint="http://127.0.0.1:1", region="us-east-1").types()


def test_files_that_disagree_are_named_and_whole_numbers_go_with_real_ones(tmp_path: Path) -> None:
    from monitor.profiling.binning import sample

    head = "at,x,c\n"
    (tmp_path / "a.csv").write_text(head + "2024-01-01T00:00:00Z,1,a\n")
    (tmp_path / "b.csv").write_text(head + "2024-01-01T01:00:00Z,2.5,a\n")
    source = opened(str(tmp_path))
    assert profiled(source)[2] == 2
    table = sample(source.read(["x"], "at", WINDOW))
    assert table is not None
    assert table.column("x").to_pylist() == [1.0, 2.5]
    (tmp_path / "c.csv").write_text(head + "2024-01-01T02:00:00Z,oops,a\n")
    with pytest.raises(SchemaError, match=r"x is of type number in .*b\.csv and of type string in .*c\.csv"):
        source.types_in("at", WINDOW)
    with pytest.raises(SchemaError, match=r"files disagree on the type of a column"):
        sample(source.read(["x"], "at", WINDOW))


def test_a_broken_file_does_not_hide_what_the_others_hold(tmp_path: Path) -> None:
    as_csv_gz(tmp_path / "a.csv.gz")
    (tmp_path / "b.csv.gz").write_bytes((tmp_path / "a.csv.gz").read_bytes()[:500])
    source = opened(str(tmp_path))
    assert source.extent("at").last == START + timedelta(minutes=ROWS - 1)
    with pytest.raises(SourceError, match=r"b\.csv\.gz: not a readable CSV file"):
        profiled(source)


def test_rows_appended_to_a_delta_table_are_read_without_a_look_before(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    as_delta(tmp_path / "rows_delta")
    source = opened(str(tmp_path / "rows_delta"))
    assert sum(b.num_rows for b in source.read(["x"], None, None)) == ROWS
    write_deltalake(str(tmp_path / "rows_delta"), table().slice(0, 3), mode="append")
    assert sum(b.num_rows for b in source.read(["x"], None, None)) == ROWS + 3
