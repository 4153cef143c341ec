"""Parquet: a file, a directory (hive partitions too) or a glob, on local disk or an object store."""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationInfo, field_validator

from checks.core.errors import SchemaError, SourceError
from checks.core.window import Window
from monitor.config.types import Section
from monitor.ports import Extent, Source
from monitor.sources import SOURCES, SourcePlugin

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

_REMOTE = re.compile(r"^[a-z][a-z0-9+.-]*://")
_GLOB = re.compile(r"[*?\[]")
BATCH_ROWS = 1 << 17


class ParquetConfig(Section):
    """``path``: a file, a directory, a glob, or the address of one on S3, GCS or Azure."""

    kind: Literal["parquet"] = "parquet"
    path: str

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            raise ValueError("path is empty")
        if _REMOTE.match(value):
            return value
        base = (info.context or {}).get("base")
        return os.path.abspath(os.path.join(base, value)) if base else value


@dataclass(frozen=True, slots=True)
class _Part:
    """One file, with what its footer says."""

    path: str
    size: int
    modified: datetime
    schema: Any
    rows: int
    first: int | None
    last: int | None
    partitions: tuple[tuple[str, str], ...]


class ParquetSource:
    """Reads footers once per file version, and of the rows only the columns and row groups that a window needs."""

    def __init__(self, config: ParquetConfig) -> None:
        self._config = config
        self._footers: dict[tuple[str, str | None], tuple[int, datetime, _Part]] = {}

    def _files(self) -> tuple[pafs.FileSystem, list[Any]]:
        import pyarrow as pa
        import pyarrow.fs as pafs

        address = self._config.path
        try:
            if _REMOTE.match(address):
                head = re.split(_GLOB, address)[0]
                root = head if not _GLOB.search(address) else head.rsplit("/", 1)[0]
                filesystem, path = pafs.FileSystem.from_uri(root)
                pattern = path + address[len(root) :] if _GLOB.search(address) else None
            else:
                filesystem = pafs.LocalFileSystem()
                pattern = address if _GLOB.search(address) else None
                path = os.path.dirname(re.split(_GLOB, address)[0]) if pattern else address
            info = filesystem.get_file_info(path)
            if info.type == pafs.FileType.NotFound:
                raise SourceError(f"{address}: there is no such file or directory ({path})")
            if info.type == pafs.FileType.File:
                return filesystem, [info]
            found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
        except (OSError, pa.ArrowException, ValueError) as error:
            raise SourceError(f"{address}: cannot be listed: {_first_line(error)}") from None
        if any("_delta_log" in f.path.split("/") for f in found):
            raise SourceError(
                f"{address}: this is a Delta table; read as plain Parquet it would count deleted rows: use kind: delta"
            )
        files = [f for f in found if f.type == pafs.FileType.File and f.size and _visible(f.path[len(path) :])]
        if pattern:
            files = [f for f in files if _matches(f.path, pattern)]
        else:
            files = [f for f in files if f.path.endswith((".parquet", ".parq", ".pq"))]
        return filesystem, sorted(files, key=lambda f: f.path)

    def _parts(self, timestamp: str | None, window: Window | None = None) -> tuple[pafs.FileSystem, list[_Part]]:
        filesystem, files = self._files()
        parts, seen = [], {}
        for info in files:
            modified = (info.mtime or datetime(1970, 1, 1, tzinfo=UTC)).astimezone(UTC)
            key = (info.path, timestamp)
            known = self._footers.get(key)
            if known is None or known[:2] != (info.size, modified):
                if window is not None and modified < window.start:
                    continue  # written before the window began: it cannot hold its rows
                known = (info.size, modified, self._footer(filesystem, info, modified, timestamp))
            seen[key] = known
            part = known[2]
            if window is None or _overlaps(part, window):
                parts.append(part)
        self._footers = {**{k: v for k, v in self._footers.items() if k[1] != timestamp}, **seen}
        return filesystem, parts

    def _footer(self, filesystem: Any, info: Any, modified: datetime, timestamp: str | None) -> _Part:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with filesystem.open_input_file(info.path) as stream:
                metadata = pq.read_metadata(stream)
            schema = metadata.schema.to_arrow_schema()
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{info.path}: not a readable Parquet file: {_first_line(error)}") from None
        partitions = tuple(
            (piece.split("=", 1)[0], piece.split("=", 1)[1]) for piece in info.path.split("/")[:-1] if "=" in piece
        )
        first, last = _range(metadata, schema, timestamp)
        return _Part(info.path, info.size, modified, schema, metadata.num_rows, first, last, partitions)

    def types(self) -> dict[str, str]:
        _, parts = self._parts(None)
        if not parts:
            raise SourceError(f"{self._config.path}: there is no Parquet file yet")
        return _types(max(parts, key=lambda part: (part.modified, part.path)))

    def types_in(self, timestamp: str | None, window: Window) -> dict[str, str]:
        _, parts = self._parts(timestamp, window)
        merged: dict[str, tuple[str, str]] = {}
        for part in parts:
            for name, kind in _types(part).items():
                if name in merged and merged[name][0] != kind and {merged[name][0], kind} - {"number", "integer", "null"}:
                    if "null" in (kind, merged[name][0]):
                        kind = kind if merged[name][0] == "null" else merged[name][0]
                    else:
                        raise SchemaError(
                            f"{name} is of type {merged[name][0]} in {merged[name][1]} and of type {kind} in {part.path}"
                        )
                if name in merged and {merged[name][0], kind} == {"number", "integer"}:
                    kind = "number"
                if not (name in merged and kind == "null"):
                    merged[name] = (kind, part.path)
        for part in parts:
            lacking = [name for name in merged if name not in _types(part)]
            if lacking and part.rows:
                raise SchemaError(f"{part.path} has no column {lacking[0]!r}, which other files of the window have")
        return {name: kind for name, (kind, _) in merged.items()}

    def fingerprint(self, timestamp: str | None, window: Window) -> str:
        _, parts = self._parts(timestamp, window)
        text = "\n".join(f"{p.path} {p.size} {p.modified.isoformat()} {p.rows}" for p in parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def extent(self, timestamp: str) -> Extent:
        _, parts = self._parts(timestamp)
        if not parts:
            return Extent(None, None, None, 0)
        for part in parts:
            _need(part, timestamp)
        firsts = [p.first for p in parts if p.first is not None]
        lasts = [p.last for p in parts if p.last is not None]
        lags = tuple(p.modified.timestamp() - p.last / 1e6 for p in parts if p.last is not None)
        return Extent(
            _moment(min(firsts)) if firsts else None, _moment(max(lasts)) if lasts else None,
            max(p.modified for p in parts), sum(p.rows for p in parts), lags, _usual_gap(sorted(lasts)),
        )

    def read(self, columns: Sequence[str], timestamp: str | None, window: Window | None) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.dataset as ds

        filesystem, parts = self._parts(timestamp, window)
        wanted = list(dict.fromkeys([*columns, *([timestamp] if timestamp else [])]))
        for part in parts:
            if not part.rows:
                continue
            for name in wanted:
                _need(part, name)
            physical = [name for name in wanted if name in part.schema.names]
            condition = None
            if timestamp and window and pa.types.is_timestamp(part.schema.field(timestamp).type):
                kind = part.schema.field(timestamp).type
                low, high = (_scalar(moment, kind) for moment in (window.start, window.end))
                condition = (pc.field(timestamp) >= low) & (pc.field(timestamp) < high)
            try:
                fragment = ds.ParquetFileFormat().make_fragment(part.path, filesystem)
                scanner = fragment.scanner(
                    schema=part.schema, columns=physical, filter=condition, batch_size=BATCH_ROWS, batch_readahead=2,
                    fragment_readahead=1,
                )
                for batch in scanner.to_batches():
                    if batch.num_rows:
                        batch = _with_partitions(batch, part, wanted)
                        if timestamp and window and condition is None:
                            batch = _cut(batch, timestamp, window, part.path)
                        if batch.num_rows:
                            yield batch
            except (OSError, pa.ArrowException) as error:
                raise SourceError(f"{part.path}: cannot be read: {_first_line(error)}") from None


def _usual_gap(lasts: list[int]) -> float | None:
    gaps = sorted((b - a) / 1e6 for a, b in itertools.pairwise(lasts) if b > a)
    return gaps[len(gaps) // 2] if len(gaps) >= 2 else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _visible(relative: str) -> bool:
    return not any(piece.startswith(("_", ".")) for piece in relative.split("/") if piece and "=" not in piece)


def _matches(path: str, pattern: str) -> bool:
    pieces, wanted = path.split("/"), pattern.split("/")
    if "**" in wanted:
        return fnmatch.fnmatch(path, pattern.replace("**/", "*"))
    return len(pieces) == len(wanted) and all(fnmatch.fnmatch(a, b) for a, b in zip(pieces, wanted, strict=True))


def _need(part: _Part, name: str) -> None:
    names = [*part.schema.names, *(key for key, _ in part.partitions)]
    if name not in names:
        raise SchemaError(f"{part.path} has no column {name!r}; it has {', '.join(names[:40])}")


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)


def _scalar(moment: datetime, kind: Any) -> Any:
    import pyarrow as pa

    value = moment if kind.tz else moment.replace(tzinfo=None)
    return pa.scalar(value, pa.timestamp("us", kind.tz)).cast(kind)


def _range(metadata: Any, schema: Any, timestamp: str | None) -> tuple[int | None, int | None]:
    """The outermost event times of a file in microseconds, from its row-group statistics; None where unknown."""
    if timestamp is None or timestamp not in schema.names:
        return None, None
    first: list[int] = []
    last: list[int] = []
    index = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(timestamp)
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(index).statistics
        if statistics is None or not statistics.has_min_max:
            return None, None
        low, high = statistics.min, statistics.max
        if not isinstance(low, datetime):
            return None, None
        first.append(_micros(low))
        last.append(_micros(high))
    return (min(first), max(last)) if first else (None, None)


def _micros(moment: datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _overlaps(part: _Part, window: Window) -> bool:
    if part.first is None or part.last is None:
        return True
    return part.first < _micros(window.end) and part.last >= _micros(window.start)


def _with_partitions(batch: pa.RecordBatch, part: _Part, wanted: Sequence[str]) -> pa.RecordBatch:
    import pyarrow as pa

    for name, value in part.partitions:
        if name in wanted and name not in batch.schema.names:
            typed: Any = int(value) if re.fullmatch(r"-?\d{1,18}", value) else value
            batch = batch.append_column(name, pa.array([typed]).take(pa.array([0] * batch.num_rows)))
    return batch


def _cut(batch: pa.RecordBatch, timestamp: str, window: Window, path: str) -> pa.RecordBatch:
    """The rows of a batch in the window, where event times are not of a timestamp type."""
    import pyarrow.compute as pc

    from monitor.arrow_types import to_micros

    micros = to_micros(batch.column(timestamp), f"{path}: {timestamp}")
    inside = pc.and_(pc.greater_equal(micros, _micros(window.start)), pc.less(micros, _micros(window.end)))
    return batch.filter(pc.fill_null(inside, False))


def _types(part: _Part) -> dict[str, str]:
    from monitor.arrow_types import logical_type

    found = {field.name: logical_type(field.type) for field in part.schema}
    for name, value in part.partitions:
        found.setdefault(name, "integer" if re.fullmatch(r"-?\d{1,18}", value) else "string")
    return found


def _build(config: ParquetConfig) -> Source:
    return ParquetSource(config)


SOURCES.register("parquet")(SourcePlugin(ParquetConfig, _build))
