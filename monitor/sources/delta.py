"""Delta tables: one snapshot per run, deleted rows left out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationInfo, field_validator

from checks.core.errors import SchemaError, SourceError
from checks.core.window import Window
from monitor.config.types import Section
from monitor.ports import Extent, Source
from monitor.sources import SOURCES, SourcePlugin
from monitor.sources.files import BATCH_ROWS, REMOTE, cause, cut, event_times, micros_of

if TYPE_CHECKING:
    import pyarrow as pa


class DeltaConfig(Section):
    """``path``: the table's folder or its address; ``options`` go to the object store's client as they are."""

    kind: Literal["delta"] = "delta"
    path: str
    options: dict[str, str] = {}

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            raise ValueError("path is empty")
        base = (info.context or {}).get("base")
        return os.path.abspath(os.path.join(base, value)) if base and not REMOTE.match(value) else value


class DeltaSource:
    """Looks at the newest snapshot whenever it is asked for a fingerprint or an extent, and reads that one."""

    def __init__(self, config: DeltaConfig) -> None:
        self._config = config
        self._table: Any = None
        self._looked = False

    def _load(self, *, newest: bool = False) -> Any:
        import pyarrow as pa
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            if self._table is None:
                self._table = DeltaTable(self._config.path, storage_options=self._config.options or None)
            elif newest:
                self._table.update_incremental()
            self._looked = self._looked or newest
        except (DeltaError, OSError, ValueError, pa.ArrowException) as error:
            self._table = None
            raise SourceError(f"{self._config.path}: not a readable Delta table: {cause(error)}") from None
        return self._table

    def _dataset(self) -> Any:
        from deltalake.exceptions import DeltaError

        try:
            return self._load().to_pyarrow_dataset()
        except (DeltaError, OSError, ValueError) as error:
            raise SourceError(f"{self._config.path}: cannot be read: {cause(error)}") from None

    def types(self) -> dict[str, str]:
        from monitor.arrow_types import logical_type

        self._load(newest=True)
        return {field.name: logical_type(field.type) for field in self._dataset().schema}

    def schema(self, timestamp: str | None, window: Window | None) -> pa.Schema:
        return self._dataset().schema

    def types_in(self, timestamp: str | None, window: Window) -> dict[str, str]:
        from monitor.arrow_types import logical_type

        self._load(newest=True)
        if not self._actions(timestamp, window):
            return {}
        return {field.name: logical_type(field.type) for field in self._dataset().schema}

    def _actions(self, timestamp: str | None, window: Window | None) -> list[dict[str, Any]]:
        """The files of the snapshot that may hold rows of the window."""
        import pyarrow as pa

        actions: list[dict[str, Any]] = pa.table(self._load().get_add_actions(flatten=True)).to_pylist()
        if timestamp is None or window is None:
            return actions
        low, high = f"min.{timestamp}", f"max.{timestamp}"
        start, end = micros_of(window.start), micros_of(window.end)
        return [
            a for a in actions
            if not isinstance(a.get(low), datetime) or not isinstance(a.get(high), datetime)
            or (micros_of(a[low]) < end and micros_of(a[high]) + 1000 >= start)  # the log keeps milliseconds
        ]

    def fingerprint(self, timestamp: str | None, window: Window) -> str:
        self._load(newest=True)
        text = "\n".join(sorted(f"{a['path']} {a['size_bytes']} {a['modification_time']}" for a in self._actions(timestamp, window)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def lineage(self, timestamp: str | None, window: Window) -> dict[str, Any]:
        found = sorted(self._actions(timestamp, window), key=lambda a: str(a["path"]))
        return {"snapshot": self.snapshot(), "files": [[a["path"], a["size_bytes"], str(a["modification_time"])] for a in found]}

    def snapshot(self) -> str:
        return f"delta version {self._load().version()}"

    def extent(self, timestamp: str) -> Extent:
        self._load(newest=True)
        schema = self._dataset().schema
        if timestamp not in schema.names:
            raise SchemaError(f"{self._config.path} has no column {timestamp!r}; it has {', '.join(schema.names[:40])}")
        actions = self._actions(None, None)
        if not actions:
            return Extent(None, None, None, 0)
        firsts = [_utc(a[f"min.{timestamp}"]) for a in actions if isinstance(a.get(f"min.{timestamp}"), datetime)]
        lasts = [_utc(a[f"max.{timestamp}"]) for a in actions if isinstance(a.get(f"max.{timestamp}"), datetime)]
        written = [_written(a["modification_time"]) for a in actions]
        lags = tuple(
            (_written(a["modification_time"]) - _utc(a[f"max.{timestamp}"])).total_seconds()
            for a in actions if isinstance(a.get(f"max.{timestamp}"), datetime)
        )
        if len(lasts) < len(actions):
            firsts, lasts = self._scan_ends(timestamp)
        rows = sum(int(a.get("num_records") or 0) for a in actions)
        return Extent(min(firsts, default=None), max(lasts, default=None), max(written), rows, lags)

    def _scan_ends(self, timestamp: str) -> tuple[list[datetime], list[datetime]]:
        _, first, last = event_times(self.read([timestamp], None, None), timestamp, self._config.path)
        if first is None or last is None:
            return [], []
        return [datetime.fromtimestamp(first / 1e6, UTC)], [datetime.fromtimestamp(last / 1e6, UTC)]

    def read(
        self, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self._looked:  # labels are read without a look before
            self._load(newest=True)
        self._looked = False
        dataset = self._dataset()
        wanted = list(dict.fromkeys([*columns, *([timestamp] if timestamp else [])]))
        for name in wanted:
            if name not in dataset.schema.names:
                raise SchemaError(f"{self._config.path} has no column {name!r}; it has {', '.join(dataset.schema.names[:40])}")
        condition = None
        if timestamp and window and pa.types.is_timestamp(dataset.schema.field(timestamp).type):
            kind = dataset.schema.field(timestamp).type
            low, high = (pa.scalar(m if kind.tz else m.replace(tzinfo=None), pa.timestamp("us", kind.tz)).cast(kind)
                         for m in (window.start, window.end))
            condition = (pc.field(timestamp) >= low) & (pc.field(timestamp) < high)
        try:
            scanner = dataset.scanner(
                columns=wanted, filter=condition, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1,
            )
            for batch in scanner.to_batches():
                if timestamp and window and condition is None:
                    batch = cut(batch, timestamp, window, self._config.path)
                if batch.num_rows:
                    yield batch
        except (OSError, pa.ArrowException) as error:
            text = f"{self.snapshot()} of {self._config.path}: cannot be read: {cause(error)}"
            self._table = None
            raise SourceError(text) from None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _written(value: Any) -> datetime:
    """A file's time in the log: a time, or milliseconds since 1970."""
    return _utc(value) if isinstance(value, datetime) else datetime.fromtimestamp(int(value) / 1000, UTC)


def _build(config: DeltaConfig) -> Source:
    return DeltaSource(config)


SOURCES.register("delta")(SourcePlugin(DeltaConfig, _build))
