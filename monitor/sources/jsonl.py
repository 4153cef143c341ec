"""JSON lines: a file, a directory or a glob, plain or gz, zst, bz2."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from checks.core.window import Window
from monitor.ports import Source
from monitor.sources import SOURCES, SourcePlugin
from monitor.sources.csv import BLOCK, ColumnType
from monitor.sources.files import FilesConfig, FilesSource, Part, event_times
from monitor.sources.streams import open_lines, suffixes

if TYPE_CHECKING:
    import pyarrow as pa


class JsonLinesConfig(FilesConfig):
    """JSON lines. ``types`` fixes columns whose type the first block would guess wrongly."""

    kind: Literal["jsonl"] = "jsonl"
    types: dict[str, ColumnType] = {}


class JsonLinesFormat:
    """Types are those of the first block; a later value of another type is an error that names the file."""

    noun = "JSON lines"
    suffixes = suffixes(".jsonl", ".ndjson", ".json")
    growing = True

    def __init__(self, config: JsonLinesConfig) -> None:
        self._config = config

    def describe(self, filesystem: Any, info: Any, timestamp: str | None) -> tuple[Any, int, int | None, int | None]:
        with open_lines(filesystem, info.path, info.size) as stream:
            schema = self._open(stream, None).schema
        if timestamp is None or timestamp not in schema.names:
            return schema, -1, None, None
        return schema, *event_times(self._read(filesystem, info.path, info.size, schema, [timestamp]), timestamp, info.path)

    def batches(
        self, filesystem: Any, part: Part, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str],
    ) -> Iterator[tuple[pa.RecordBatch, bool]]:
        for batch in self._read(filesystem, part.path, part.size, part.schema, list(columns)):
            yield batch, False

    def _read(self, filesystem: Any, path: str, size: int, schema: Any, columns: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        wanted = pa.schema([schema.field(name) for name in columns])
        with open_lines(filesystem, path, size) as stream:
            for batch in self._open(stream, wanted):
                yield batch.select(columns)

    def _open(self, stream: Any, schema: Any) -> Any:
        import pyarrow as pa
        import pyarrow.json as json

        from monitor.arrow_types import arrow_type

        if schema is None:
            fixed = pa.schema([pa.field(name, arrow_type(kind)) for name, kind in self._config.types.items()])
            parse = json.ParseOptions(explicit_schema=fixed, unexpected_field_behavior="infer", newlines_in_values=False)
        else:
            parse = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore", newlines_in_values=False)
        return json.open_json(stream, json.ReadOptions(block_size=BLOCK), parse)


def _build(config: JsonLinesConfig) -> Source:
    return FilesSource(config, JsonLinesFormat(config))


SOURCES.register("jsonl")(SourcePlugin(JsonLinesConfig, _build))
