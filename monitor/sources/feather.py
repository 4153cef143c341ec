"""Feather (Arrow IPC files): a file, a directory or a glob."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from checks.core.window import Window
from monitor.ports import Source
from monitor.sources import SOURCES, SourcePlugin
from monitor.sources.files import FilesConfig, FilesSource, Part, event_times

if TYPE_CHECKING:
    import pyarrow as pa


class FeatherConfig(FilesConfig):
    """Feather files of version 2, which are Arrow IPC files; see `FilesConfig`."""

    kind: Literal["feather"] = "feather"


class FeatherFormat:
    """Reads batch by batch, of each only the columns that are needed."""

    noun = "Feather"
    suffixes: tuple[str, ...] = (".feather", ".arrow", ".ipc")
    growing = False

    def describe(self, filesystem: Any, info: Any, timestamp: str | None) -> tuple[Any, int, int | None, int | None]:
        import pyarrow.ipc as ipc

        with filesystem.open_input_file(info.path) as file:
            schema = ipc.open_file(file).schema
        if timestamp is None or timestamp not in schema.names:
            return schema, -1, None, None
        return schema, *event_times(self._read(filesystem, info.path, schema, [timestamp]), timestamp, info.path)

    def batches(
        self, filesystem: Any, part: Part, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str],
    ) -> Iterator[tuple[pa.RecordBatch, bool]]:
        for batch in self._read(filesystem, part.path, part.schema, list(columns)):
            yield batch, False

    @staticmethod
    def _read(filesystem: Any, path: str, schema: Any, columns: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow.ipc as ipc

        options = ipc.IpcReadOptions(included_fields=sorted(schema.get_field_index(name) for name in columns))
        with filesystem.open_input_file(path) as file:
            reader = ipc.open_file(file, options=options)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index).select(columns)


def _build(config: FeatherConfig) -> Source:
    return FilesSource(config, FeatherFormat())


SOURCES.register("feather")(SourcePlugin(FeatherConfig, _build))
