"""CSV with a header line: a file, a directory or a glob, plain or gz, zst, bz2."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from checks.core.window import Window
from monitor.ports import Source
from monitor.sources import SOURCES, SourcePlugin
from monitor.sources.files import FilesConfig, FilesSource, Part, event_times
from monitor.sources.streams import open_lines, suffixes

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 8 << 20
ColumnType = Literal["number", "integer", "string", "boolean", "timestamp", "date"]


class CsvConfig(FilesConfig):
    """CSV files. ``types`` fixes columns whose type the first block would guess wrongly; ``nulls`` are texts that mean null."""

    kind: Literal["csv"] = "csv"
    delimiter: str = ","
    types: dict[str, ColumnType] = {}
    nulls: list[str] = ["", "NULL", "null", "NA", "N/A", "None", "\\N"]


class CsvFormat:
    """Types are those of the first block; a later value of another type is an error that names the file."""

    noun = "CSV"
    suffixes = suffixes(".csv", ".tsv")
    growing = True

    def __init__(self, config: CsvConfig) -> None:
        self._config = config

    def describe(self, filesystem: Any, info: Any, timestamp: str | None) -> tuple[Any, int, int | None, int | None]:
        with open_lines(filesystem, info.path, info.size) as stream:
            schema = self._open(stream, info.path, None).schema
        if timestamp is None or timestamp not in schema.names:
            return schema, -1, None, None
        return schema, *event_times(self._read(filesystem, info.path, info.size, [timestamp]), timestamp, info.path)

    def batches(
        self, filesystem: Any, part: Part, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str],
    ) -> Iterator[tuple[pa.RecordBatch, bool]]:
        for batch in self._read(filesystem, part.path, part.size, list(columns)):
            yield batch, False

    def _read(self, filesystem: Any, path: str, size: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with open_lines(filesystem, path, size) as stream:
            yield from self._open(stream, path, columns)

    def _open(self, stream: Any, path: str, columns: list[str] | None) -> Any:
        import pyarrow.csv as csv

        from monitor.arrow_types import arrow_type

        delimiter = "\t" if ".tsv" in path.lower() and self._config.delimiter == "," else self._config.delimiter
        convert = csv.ConvertOptions(
            include_columns=columns, column_types={name: arrow_type(kind) for name, kind in self._config.types.items()},
            null_values=self._config.nulls, strings_can_be_null=True, quoted_strings_can_be_null=False,
        )
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=False)
        return csv.open_csv(stream, csv.ReadOptions(block_size=BLOCK), parse, convert)


def _build(config: CsvConfig) -> Source:
    return FilesSource(config, CsvFormat(config))


SOURCES.register("csv")(SourcePlugin(CsvConfig, _build))
