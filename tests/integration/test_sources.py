"""The Parquet source: files, directories, globs, hive partitions; only what a window needs is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from checks.core.errors import SchemaError, SourceError
from checks.core.window import Window
from monitor.sources.parquet import ParquetConfig, ParquetSource
from tests.streams import write_table

START = datetime(2024, 1, 1, tzinfo=UTC)


def day(index: int) -> Window:
    return Window(START + timedelta(days=index), START + timedelta(days=index + 1))


def fill(folder: Path, names: list[str]) -> None:
    for index, name in enumerate(names):
        times = [START + timedelta(days=index, hours=h) for h in range(24)]
        write_table(pa.table({"at": times, "x": [float(index)] * 24}), folder / name)


def rows(path: Path | str, window: Window, *columns: str) -> list[dict[str, object]]:
    source = ParquetSource(ParquetConfig(path=str(path)))
    return [row for batch in source.read(list(columns) or ["x"], "at", window) for row in batch.to_pylist()]


@pytest.mark.parametrize("pattern", ["a.parquet", "", "*.parquet", "sub/../*.parquet"])
def test_a_file_a_directory_and_a_glob_give_the_rows_of_a_window(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "sub").mkdir()
    fill(tmp_path, ["a.parquet", "b.parquet", "_hidden.parquet"])
    (tmp_path / "note.txt").write_text("no Parquet")
    path = ParquetConfig.model_validate({"path": pattern or "."}, context={"base": tmp_path}).path
    assert [r["x"] for r in rows(path, day(0))] == [0.0] * 24


def test_hive_partitions_are_columns(tmp_path: Path) -> None:
    fill(tmp_path, ["region=eu/n=1/a.parquet", "region=us/n=2/b.parquet"])
    source = ParquetSource(ParquetConfig(path=str(tmp_path)))
    assert source.types_in("at", day(1)) == {"at": "timestamp", "x": "number", "region": "string", "n": "integer"}
    (row, *_) = rows(tmp_path, day(1), "x", "region", "n")
    assert (row["region"], row["n"]) == ("us", 2)


def test_files_of_other_windows_are_not_opened(tmp_path: Path) -> None:
    fill(tmp_path, ["a.parquet", "b.parquet"])
    source = ParquetSource(ParquetConfig(path=str(tmp_path)))
    before = source.fingerprint("at", day(0))
    assert len([b for b in source.read(["x"], "at", day(1))]) == 1
    (tmp_path / "b.parquet").write_bytes(b"")
    assert source.fingerprint("at", day(0)) == before
    fill(tmp_path, ["a.parquet"])
    assert source.fingerprint("at", day(0)) != before


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    fill(tmp_path, ["a.parquet"])
    with pytest.raises(SchemaError, match=r"a\.parquet has no column 'y'; it has at, x"):
        rows(tmp_path, day(0), "y")
    with pytest.raises(SourceError, match="there is no such file or directory"):
        rows(tmp_path / "none", day(0))


def test_files_of_one_window_that_disagree_are_an_error_naming_both(tmp_path: Path) -> None:
    fill(tmp_path, ["a.parquet"])
    write_table(pa.table({"at": [START], "x": ["text"]}), tmp_path / "z.parquet")
    with pytest.raises(SchemaError, match=r"x is of type number in .*a\.parquet and of type string in .*z\.parquet"):
        ParquetSource(ParquetConfig(path=str(tmp_path))).types_in("at", day(0))
