"""What all sources of files share: listing, windows, schemas, and noticing that a file changed."""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationInfo, field_validator

from checks.core.errors import SchemaError, SourceError
from checks.core.window import Window
from monitor.config.types import Section
from monitor.ports import Extent

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

REMOTE = re.compile(r"^[a-z][a-z0-9+.-]*://")
_GLOB = re.compile(r"[*?\[]")
BATCH_ROWS = 1 << 16
CONNECT_SECONDS, REQUEST_SECONDS, ATTEMPTS = 5.0, 30.0, 3


class FilesConfig(Section):
    """``path``: a file, a directory, a glob, or the address of one on S3, GCS or Azure.

    ``endpoint`` and ``region`` are of an S3 service other than Amazon's; ``anonymous`` signs no request. Credentials are
    those of the environment.
    """

    kind: str
    path: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            raise ValueError("path is empty")
        if REMOTE.match(value):
            return value
        base = (info.context or {}).get("base")
        return os.path.abspath(os.path.join(base, value)) if base else value


@dataclass(frozen=True, slots=True)
class Part:
    """One file, with what is known of it: ``first`` and ``last`` event time in microseconds, None where unknown."""

    path: str
    size: int
    modified: datetime
    schema: Any
    rows: int
    first: int | None
    last: int | None
    partitions: tuple[tuple[str, str], ...] = ()


class FileFormat(Protocol):
    """How one kind of file is understood. ``growing`` files may be appended to while they are read."""

    noun: str
    suffixes: tuple[str, ...]
    growing: bool

    def describe(self, filesystem: Any, info: Any, timestamp: str | None) -> tuple[Any, int, int | None, int | None]:
        """Schema, rows (-1 where unknown without reading), first and last event time."""
        ...

    def batches(
        self, filesystem: Any, part: Part, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str],
    ) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """Batches of ``columns``, each with whether all of its rows are known to lie in the window."""
        ...


class FilesSource:
    """Describes each file once per version, and reads only the files, columns and (Parquet) row groups of a window."""

    def __init__(self, config: FilesConfig, reader: FileFormat) -> None:
        self._config = config
        self._format = reader
        self._known: dict[tuple[str, str | None], tuple[int, datetime, Part]] = {}
        self._filesystem: Any = None

    # -- which files

    def _root(self) -> tuple[pafs.FileSystem, str, str | None]:
        """The filesystem, the path below which to list, and the pattern of a glob."""
        import pyarrow.fs as pafs

        address = self._config.path
        glob = bool(_GLOB.search(address))
        head = re.split(_GLOB, address)[0]
        if not REMOTE.match(address):
            self._filesystem = self._filesystem or pafs.LocalFileSystem()
            return self._filesystem, os.path.dirname(head) if glob else address, address if glob else None
        root = head.rsplit("/", 1)[0] if glob else head
        path = root.split("://", 1)[1]
        if self._filesystem is None:
            self._filesystem, path = self._connect(root)
        elif not root.startswith("s3://"):
            path = pafs.FileSystem.from_uri(root)[1]
        return self._filesystem, path, path + address[len(root) :] if glob else None

    def _connect(self, root: str) -> tuple[Any, str]:
        import pyarrow.fs as pafs

        if not root.startswith("s3://"):
            found: tuple[Any, str] = pafs.FileSystem.from_uri(root)
            return found
        config = self._config
        options: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS, "request_timeout": REQUEST_SECONDS, "anonymous": config.anonymous,
            "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        }
        if config.endpoint:
            scheme, _, host = config.endpoint.rpartition("://")
            options |= {"endpoint_override": host, "scheme": scheme or "https"}
        if config.region:
            options["region"] = config.region
        elif not config.endpoint:
            options["region"] = pafs.resolve_s3_region(root.split("/")[2])
        return pafs.S3FileSystem(**options), root.split("://", 1)[1]

    def _files(self) -> tuple[pafs.FileSystem, list[Any]]:
        import pyarrow as pa
        import pyarrow.fs as pafs

        address = self._config.path
        try:
            filesystem, path, pattern = self._root()
            info = filesystem.get_file_info(path)
            if info.type == pafs.FileType.NotFound:
                looked = f" ({path})" if path != address else ""
                raise SourceError(f"{address}: there is no such file or directory{looked}")
            if info.type == pafs.FileType.File:
                return filesystem, [info]
            found = filesystem.get_file_info(pafs.FileSelector(path, recursive=True))
        except (OSError, pa.ArrowException, ValueError) as error:
            raise SourceError(f"{address}: cannot be listed: {cause(error)}") from None
        if any("_delta_log" in f.path.split("/") for f in found):
            raise SourceError(
                f"{address}: this is a Delta table; read as plain files it would count deleted rows: use kind: delta"
            )
        files = [f for f in found if f.type == pafs.FileType.File and f.size and _visible(f.path[len(path) :])]
        if pattern:
            files = [f for f in files if _matches(f.path, pattern)]
        else:
            files = [f for f in files if f.path.lower().endswith(self._format.suffixes)]
        return filesystem, sorted(files, key=lambda f: f.path)

    def _parts(
        self, timestamp: str | None, window: Window | None = None, *, lenient: bool = False,
    ) -> tuple[pafs.FileSystem, list[Part]]:
        """The files that may hold rows of a window; one that cannot be described is an error, unless ``lenient``."""
        filesystem, files = self._files()
        parts, seen = [], {}
        for info in files:
            modified = (info.mtime or datetime(1970, 1, 1, tzinfo=UTC)).astimezone(UTC)
            key = (info.path, timestamp)
            known = self._known.get(key)
            if known is None or known[:2] != (info.size, modified):
                if window is not None and modified < window.start:
                    continue  # written before the window began: it cannot hold its rows
                try:
                    known = (info.size, modified, self._describe(filesystem, info, modified, timestamp))
                except SourceError:
                    if lenient:
                        continue
                    raise
            seen[key] = known
            part = known[2]
            if window is None or _overlaps(part, window):
                parts.append(part)
        self._known = {**{k: v for k, v in self._known.items() if k[1] != timestamp}, **seen}
        return filesystem, parts

    def _describe(self, filesystem: Any, info: Any, modified: datetime, timestamp: str | None) -> Part:
        import pyarrow as pa

        try:
            schema, rows, first, last = self._format.describe(filesystem, info, timestamp)
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{info.path}: not a readable {self._format.noun} file: {cause(error)}") from None
        partitions = tuple(
            (piece.split("=", 1)[0], piece.split("=", 1)[1]) for piece in info.path.split("/")[:-1] if "=" in piece
        )
        return Part(info.path, info.size, modified, schema, rows, first, last, partitions)

    # -- what is in them

    def types(self) -> dict[str, str]:
        _, parts = self._parts(None)
        if not parts:
            raise SourceError(f"{self._config.path}: there is no {self._format.noun} file yet")
        return part_types(max(parts, key=lambda part: (part.modified, part.path)))

    def types_in(self, timestamp: str | None, window: Window) -> dict[str, str]:
        _, parts = self._parts(timestamp, window)
        merged: dict[str, tuple[str, str]] = {}
        for part in parts:
            for name, kind in part_types(part).items():
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
            lacking = [name for name in merged if name not in part_types(part)]
            if lacking and part.rows:
                raise SchemaError(f"{part.path} has no column {lacking[0]!r}, which other files of the window have")
        return {name: kind for name, (kind, _) in merged.items()}

    def schema(self, timestamp: str | None, window: Window | None) -> pa.Schema:
        import pyarrow as pa

        from monitor.arrow_types import arrow_type

        _, parts = self._parts(timestamp, window)
        found: dict[str, Any] = {}
        for part in parts:
            for field in part.schema:
                if field.name not in found or pa.types.is_null(found[field.name]):
                    found[field.name] = field.type
            for name, kind in part_types(part).items():
                if name not in found:  # of the path, not of the file
                    found[name] = arrow_type(kind)
        return pa.schema(list(found.items()))

    def fingerprint(self, timestamp: str | None, window: Window) -> str:
        _, parts = self._parts(timestamp, window)
        text = "\n".join(f"{p.path} {p.size} {p.modified.isoformat()} {p.rows}" for p in parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def snapshot(self) -> str:
        return ""

    def lineage(self, timestamp: str | None, window: Window) -> dict[str, Any]:
        _, parts = self._parts(timestamp, window)
        return {"files": [[p.path, p.size, p.modified.isoformat()] for p in parts]}

    def extent(self, timestamp: str) -> Extent:
        _, parts = self._parts(timestamp, lenient=True)  # the windows that a broken file may belong to say so themselves
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

    def read(
        self, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        filesystem, parts = self._parts(timestamp, window)
        wanted = list(dict.fromkeys([*columns, *([timestamp] if timestamp else [])]))
        for part in parts:
            if not part.rows:
                continue
            for name in wanted:
                _need(part, name)
            physical = [name for name in wanted if name in part.schema.names]
            try:
                for batch, inside in self._format.batches(filesystem, part, physical, timestamp, window, dictionaries):
                    batch = _with_partitions(batch, part, wanted) if part.partitions else batch
                    if timestamp and window and not inside:
                        batch = cut(batch, timestamp, window, part.path)
                    if batch.num_rows:
                        yield batch
                self._unchanged(filesystem, part)
            except FileNotFoundError:
                raise SourceError(f"{part.path}: vanished while it was read") from None
            except (OSError, pa.ArrowException) as error:
                self._unchanged(filesystem, part)
                raise SourceError(f"{part.path}: cannot be read: {cause(error)}") from None

    def _unchanged(self, filesystem: Any, part: Part) -> None:
        """`SourceError` when a file is not any more what it was when it was listed."""
        import pyarrow.fs as pafs

        info = filesystem.get_file_info(part.path)
        if info.type == pafs.FileType.NotFound:
            raise SourceError(f"{part.path}: vanished while it was read")
        modified = (info.mtime or datetime(1970, 1, 1, tzinfo=UTC)).astimezone(UTC)
        if (info.size, modified) != (part.size, part.modified) and not (self._format.growing and info.size > part.size):
            raise SourceError(f"{part.path}: was replaced while it was read")


def cause(error: Exception) -> str:
    """The first line of an error, or its class."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _usual_gap(lasts: list[int]) -> float | None:
    gaps = sorted((b - a) / 1e6 for a, b in itertools.pairwise(lasts) if b > a)
    return gaps[len(gaps) // 2] if len(gaps) >= 2 else None


def _visible(relative: str) -> bool:
    return not any(piece.startswith(("_", ".")) for piece in relative.split("/") if piece and "=" not in piece)


def _matches(path: str, pattern: str) -> bool:
    pieces, wanted = path.split("/"), pattern.split("/")
    if "**" in wanted:
        return fnmatch.fnmatch(path, pattern.replace("**/", "*"))
    return len(pieces) == len(wanted) and all(fnmatch.fnmatch(a, b) for a, b in zip(pieces, wanted, strict=True))


def _need(part: Part, name: str) -> None:
    names = [*part.schema.names, *(key for key, _ in part.partitions)]
    if name not in names:
        raise SchemaError(f"{part.path} has no column {name!r}; it has {', '.join(names[:40])}")


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)


def micros_of(moment: datetime) -> int:
    """Whole microseconds since 1970; a time without a zone is UTC."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _overlaps(part: Part, window: Window) -> bool:
    if part.first is None or part.last is None:
        return True
    return part.first < micros_of(window.end) and part.last >= micros_of(window.start)


def _with_partitions(batch: pa.RecordBatch, part: Part, wanted: Sequence[str]) -> pa.RecordBatch:
    import pyarrow as pa

    for name, value in part.partitions:
        if name in wanted and name not in batch.schema.names:
            typed: Any = int(value) if re.fullmatch(r"-?\d{1,18}", value) else value
            batch = batch.append_column(name, pa.array([typed]).take(pa.array([0] * batch.num_rows)))
    return batch


def cut(batch: pa.RecordBatch, timestamp: str, window: Window, where: str) -> pa.RecordBatch:
    """The rows of a batch that lie in the window; a run of rows is cut out without a copy."""
    import pyarrow.compute as pc

    from monitor.arrow_types import to_micros

    micros = to_micros(batch.column(timestamp), f"{where}: {timestamp}")
    inside = pc.fill_null(pc.and_(pc.greater_equal(micros, micros_of(window.start)), pc.less(micros, micros_of(window.end))), False)
    count = pc.sum(inside).as_py() or 0
    if count == batch.num_rows:
        return batch
    if not count:
        return batch.slice(0, 0)
    first = pc.index(inside, True).as_py()
    if pc.sum(inside.slice(first, count)).as_py() == count:
        return batch.slice(first, count)
    return batch.filter(inside)


def event_times(batches: Iterator[pa.RecordBatch], timestamp: str, path: str) -> tuple[int, int | None, int | None]:
    """Rows, first and last event time of a stream of batches."""
    import pyarrow.compute as pc

    from monitor.arrow_types import to_micros

    rows = 0
    first: int | None = None
    last: int | None = None
    for batch in batches:
        rows += batch.num_rows
        ends = pc.min_max(to_micros(batch.column(timestamp), f"{path}: {timestamp}")).as_py()
        if ends["min"] is not None:
            first = ends["min"] if first is None else min(first, ends["min"])
            last = ends["max"] if last is None else max(last, ends["max"])
    return rows, first, last


def part_types(part: Part) -> dict[str, str]:
    """The logical types of a file's columns, those of its path included."""
    from monitor.arrow_types import logical_type

    found = {field.name: logical_type(field.type) for field in part.schema}
    for name, value in part.partitions:
        found.setdefault(name, "integer" if re.fullmatch(r"-?\d{1,18}", value) else "string")
    return found
