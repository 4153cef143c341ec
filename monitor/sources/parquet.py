"""Parquet: a file, a directory (hive partitions too) or a glob, on local disk or an object store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from checks.core.window import Window
from monitor.ports import Source
from monitor.sources import SOURCES, SourcePlugin
from monitor.sources.files import BATCH_ROWS, FilesConfig, FilesSource, Part, micros_of

if TYPE_CHECKING:
    import pyarrow as pa

_Range = tuple[int, int, bool]

BUFFER, REMOTE_BUFFER = 1 << 18, 4 << 20
"""Bytes of a column chunk that are held undecoded: whole row groups would not fit however large they are."""


class ParquetConfig(FilesConfig):
    """Parquet files; see `FilesConfig`."""

    kind: Literal["parquet"] = "parquet"


class ParquetFormat:
    """Reads footers for the times, and of the rows only the row groups that a window needs."""

    noun = "Parquet"
    suffixes: tuple[str, ...] = (".parquet", ".parq", ".pq")
    growing = False

    def describe(self, filesystem: Any, info: Any, timestamp: str | None) -> tuple[Any, int, int | None, int | None]:
        import pyarrow.parquet as pq

        with filesystem.open_input_file(info.path) as stream:
            metadata = pq.read_metadata(stream)
        schema = metadata.schema.to_arrow_schema()
        groups = group_ranges(metadata, timestamp)
        if groups is None or not groups:
            return schema, metadata.num_rows, None, None
        return schema, metadata.num_rows, min(g[0] for g in groups), max(g[1] for g in groups)

    def batches(
        self, filesystem: Any, part: Part, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str],
    ) -> Iterator[tuple[pa.RecordBatch, bool]]:
        import pyarrow.parquet as pq

        flat = [n for n in columns if n in dictionaries and _text(part.schema.field(n).type)]
        with filesystem.open_input_file(part.path) as stream:
            size = BUFFER if filesystem.type_name == "local" else REMOTE_BUFFER
            file = pq.ParquetFile(stream, read_dictionary=flat or None, pre_buffer=False, buffer_size=size)
            ranges = group_ranges(file.metadata, timestamp) if window else None
            for inside, groups in _chosen(ranges, file.metadata.num_row_groups, window):
                for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(columns), use_threads=True):
                    yield batch, inside


def _chosen(ranges: list[_Range] | None, groups: int, window: Window | None) -> list[tuple[bool, list[int]]]:
    """Runs of row groups that touch the window, each with whether all their rows lie inside."""
    if window is None:
        return [(True, list(range(groups)))]
    if ranges is None:
        return [(False, list(range(groups)))]
    start, end = micros_of(window.start), micros_of(window.end)
    runs: list[tuple[bool, list[int]]] = []
    for group, (first, last, complete) in enumerate(ranges):
        if first >= end or last < start:
            continue
        inside = start <= first and last < end and complete
        if runs and runs[-1][0] == inside:
            runs[-1][1].append(group)
        else:
            runs.append((inside, [group]))
    return runs


def group_ranges(metadata: Any, timestamp: str | None) -> list[_Range] | None:
    """Of each row group the first and last event time in microseconds, and whether every row has one.

    From its statistics; None where a group has none.
    """
    if timestamp is None:
        return None
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if timestamp not in paths:
        return None
    index = paths.index(timestamp)
    found = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(index).statistics
        if statistics is None or not statistics.has_min_max or not isinstance(statistics.min, datetime):
            return None
        complete = bool(statistics.has_null_count and statistics.null_count == 0)
        found.append((micros_of(statistics.min), micros_of(statistics.max), complete))
    return found


def _text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


class ParquetSource(FilesSource):
    """Footers are read once per file version."""

    def __init__(self, config: ParquetConfig) -> None:
        super().__init__(config, ParquetFormat())


def _build(config: ParquetConfig) -> Source:
    return ParquetSource(config)


SOURCES.register("parquet")(SourcePlugin(ParquetConfig, _build))
