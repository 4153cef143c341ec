"""What sources share whose rows lie in an engine: logical types, event times, the rows of a window."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from checks.core.errors import SchemaError
from checks.core.window import Window
from monitor.ports import Extent, Relation
from monitor.sources.files import micros_of

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

T = TypeVar("T")
TOGETHER = 200
"""Windows whose fingerprints one query asks for."""


def logical_types(frame: nw.LazyFrame[Any]) -> dict[str, str]:
    """The logical type of every column of a lazy frame."""
    import narwhals as nw

    def kind(dtype: Any) -> str:
        if dtype.is_integer():
            return "integer"
        if dtype.is_float() or dtype.is_decimal():
            return "number"
        for found, name in (
            ((nw.String, nw.Categorical, nw.Enum), "string"), ((nw.Boolean,), "boolean"), ((nw.Datetime,), "timestamp"),
            ((nw.Date,), "date"), ((nw.Time,), "time"), ((nw.List, nw.Array), "array"),
        ):
            if isinstance(dtype, found):
                return name
        return "object"

    return {name: kind(dtype) for name, dtype in frame.collect_schema().items()}


class EventTime:
    """How the event times of one column are written, and so how a moment is compared with them.

    A timestamp without a zone is UTC, a date is its midnight, and whole numbers are seconds, milliseconds, microseconds
    or nanoseconds since 1970 by the size of the largest (``scale`` microseconds each, 0 for nanoseconds).
    """

    def __init__(self, frame: nw.LazyFrame[Any], name: str, where: str) -> None:
        import narwhals as nw

        from monitor.arrow_types import epoch_scale

        schema = frame.collect_schema()
        if name not in schema:
            raise SchemaError(f"{where} has no column {name!r}; it has {', '.join(list(schema)[:40])}")
        dtype = schema[name]
        self.name = name
        self._date = isinstance(dtype, nw.Date)
        self._zoned = isinstance(dtype, nw.Datetime) and dtype.time_zone is not None
        self.scale: int | None = None
        self.certain = True
        if dtype.is_integer():
            largest = frame.select(nw.col(name).max().alias("largest")).collect("pyarrow").rows()[0][0]
            self.scale = epoch_scale(int(largest or 0))
            self.certain = largest is not None  # an empty table does not say what its numbers count
        elif not self._date and not isinstance(dtype, nw.Datetime):
            raise SchemaError(
                f"{where}: {name} holds event times of type {dtype}; allowed are timestamps, dates and whole numbers: convert it "
                "in a query"
            )

    def literal(self, moment: datetime) -> Any:
        """The smallest value of the column that is not before ``moment``."""
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if self.scale is not None:
            micros = micros_of(moment)
            return -(-micros // self.scale) if self.scale else micros * 1000
        moment = moment.astimezone(UTC)
        if self._date:
            day = moment.date()
            return day if moment == datetime.combine(day, datetime.min.time(), UTC) else day + timedelta(days=1)
        return moment if self._zoned else moment.replace(tzinfo=None)

    def within(self, frame: nw.LazyFrame[Any], window: Window) -> nw.LazyFrame[Any]:
        """The rows of ``window``; the engine sees a plain comparison with the column, which an index can answer."""
        return frame.filter(self.inside(window))

    def inside(self, window: Window) -> nw.Expr:
        """Whether a row lies in ``window``."""
        import narwhals as nw

        time = nw.col(self.name)
        return (time >= nw.lit(self.literal(window.start))) & (time < nw.lit(self.literal(window.end)))

    def moment(self, value: Any) -> datetime | None:
        """A value of the column as a moment."""
        if value is None:
            return None
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(value, date):
            return datetime.combine(value, datetime.min.time(), UTC)
        scale = self.scale if self.scale is not None else 1
        return datetime.fromtimestamp((int(value) * scale if scale else int(value) // 1000) / 1e6, UTC)


def check_select(query: str, dialect: str) -> None:
    """`ValueError` when ``query`` is not one SELECT that writes nothing."""
    import sqlglot

    try:
        found = sqlglot.parse(query, dialect=dialect)
    except sqlglot.errors.SqlglotError as error:
        raise ValueError(f"query is not SQL: {str(error).splitlines()[0]}") from None
    except ValueError:
        found = sqlglot.parse(query)
    if len(found) != 1 or not isinstance(found[0], sqlglot.exp.Query):
        raise ValueError("query must be one SELECT")
    if any(found[0].find(kind) for kind in (sqlglot.exp.Insert, sqlglot.exp.Update, sqlglot.exp.Delete, sqlglot.exp.Into)):
        raise ValueError("query must be one SELECT that writes nothing")


def collected(query: nw.LazyFrame[Any]) -> list[dict[str, Any]]:
    """The rows of a query, of few rows, as dictionaries."""
    return query.collect("pyarrow").rows(named=True)


class PlainRelation:
    """What every engine can do as it is."""

    def rows(self, query: nw.LazyFrame[Any]) -> list[dict[str, Any]]:
        return collected(query)

    def bucketed(self, numbers: nw.LazyFrame[Any], edges: Sequence[float]) -> nw.LazyFrame[Any] | None:
        return None


def selected(frame: nw.LazyFrame[Any], columns: list[str], where: str) -> nw.LazyFrame[Any]:
    """The columns of a frame, or `SchemaError` naming the first that is not there."""
    there = frame.collect_schema().names()
    for name in columns:
        if name not in there:
            raise SchemaError(f"{where} has no column {name!r}; it has {', '.join(there[:40])}")
    return frame.select(*columns) if columns else frame


def first_line(error: Exception) -> str:
    """The first line of what an engine's client says, without what may be a password in an address."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"://\S*@", "://***@", text)[:300]


class EngineSource(ABC):
    """A source over one lazy frame.

    Parameters
    ----------
    where : what errors call the source.
    ingested : the column that says when a row was written; without one, rows that change unseen are not noticed.
    """

    def __init__(self, where: str, ingested: str | None) -> None:
        self._where = where
        self._ingested = ingested
        self._times: dict[str, EventTime] = {}

    @abstractmethod
    def session(self) -> AbstractContextManager[nw.LazyFrame[Any]]:
        """All rows; what the engine raises inside becomes a `SourceError` with ``where``, class and cause."""

    @abstractmethod
    def relation(self, frame: nw.LazyFrame[Any]) -> Relation:
        """The rows of ``frame`` to be aggregated."""

    @abstractmethod
    def batches(self, frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
        """The rows of ``frame``, fetched."""

    def _time(self, frame: nw.LazyFrame[Any], timestamp: str) -> EventTime:
        known = self._times.get(timestamp)
        if known is None:
            known = EventTime(frame, timestamp, self._where)
            if known.certain:
                self._times[timestamp] = known
        return known

    def _rows(
        self, frame: nw.LazyFrame[Any], columns: Sequence[str], timestamp: str | None, window: Window | None,
    ) -> nw.LazyFrame[Any]:
        """The wanted columns of the rows of a window."""
        wanted = list(dict.fromkeys([*columns, *([timestamp] if timestamp else [])]))
        chosen = selected(frame, wanted, self._where)
        return self._time(frame, timestamp).within(chosen, window) if timestamp and window else chosen

    def types(self) -> dict[str, str]:
        with self.session() as frame:
            return logical_types(frame)

    def types_in(self, timestamp: str | None, window: Window) -> dict[str, str]:
        return self.types()

    def schema(self, timestamp: str | None, window: Window | None) -> pa.Schema:
        with self.session() as frame:
            return frame.head(0).collect("pyarrow").to_native().schema

    def fingerprint(self, timestamp: str | None, window: Window) -> str:
        """Rows of the window and, where there is an ingestion time, the newest."""
        return self.fingerprints(timestamp, (window,))[window]

    def fingerprints(self, timestamp: str | None, windows: Sequence[Window]) -> dict[Window, str]:
        """The fingerprint of each window, from one look at all of them together."""
        found: dict[Window, str] = {}
        for start in range(0, len(windows), TOGETHER):
            found |= self._fingerprints(timestamp, windows[start : start + TOGETHER])
        return found

    def _fingerprints(self, timestamp: str | None, windows: Sequence[Window]) -> dict[Window, str]:
        import narwhals as nw

        ingested = self._ingested
        span = Window(min(w.start for w in windows), max(w.end for w in windows))
        with self.session() as frame:
            rows = self._rows(frame, [ingested] if ingested else [], timestamp, span)
            wanted = []
            for index, window in enumerate(windows):
                inside = self._time(frame, timestamp).inside(window) if timestamp else nw.lit(True)
                wanted.append(nw.when(inside).then(1).otherwise(0).sum().alias(f"rows{index}"))
                if ingested:
                    wanted.append(nw.when(inside).then(nw.col(ingested)).max().alias(f"newest{index}"))
            (row,) = collected(rows.select(*wanted))
        return {
            window: hashlib.sha256(repr((int(row[f"rows{i}"] or 0), row.get(f"newest{i}"))).encode()).hexdigest()[:16]
            for i, window in enumerate(windows)
        }

    def snapshot(self) -> str:
        return ""

    def lineage(self, timestamp: str | None, window: Window) -> dict[str, Any]:
        config = getattr(self, "_config", None)
        named = {key: str(getattr(config, key)) for key in ("table", "query", "where") if getattr(config, key, None)}
        return {**named, "fingerprint": self.fingerprint(timestamp, window)}

    def extent(self, timestamp: str) -> Extent:
        import narwhals as nw

        ingested = self._ingested
        with self.session() as frame:
            times = {name: self._time(frame, name) for name in (timestamp, ingested) if name}
            rows = selected(frame, list(times), self._where)
            wanted = [nw.col(timestamp).min().alias("first"), nw.col(timestamp).max().alias("last")]
            wanted += [nw.col(ingested).max().alias("written")] if ingested else []
            (row,) = collected(rows.select(*wanted))
        last = times[timestamp].moment(row["last"])
        written = times[ingested].moment(row["written"]) if ingested else last
        return Extent(times[timestamp].moment(row["first"]), last, written, -1)

    def read(
        self, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        with self.session() as frame:
            for batch in self.batches(self._rows(frame, columns, timestamp, window)):
                if batch.num_rows:
                    yield batch

    def aggregate(
        self, columns: Sequence[str], timestamp: str | None, window: Window | None, work: Callable[[Relation], T],
    ) -> T:
        with self.session() as frame:
            return work(self.relation(self._rows(frame, columns, timestamp, window)))
