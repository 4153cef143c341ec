"""Tables, paths and queries of Spark: profiled in the cluster, through a master or Spark Connect."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SecretStr, field_serializer, model_validator

from checks.core.errors import SourceError
from checks.core.window import format_duration
from contracts.rules.sql import TABLE, over
from monitor.config.types import Duration, Section
from monitor.ports import Relation, Source
from monitor.sources import SOURCES, SourcePlugin
from monitor.sources.engines import EngineSource, PlainRelation, check_select, first_line

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

SEED = 20130101
BATCH_ROWS = 65_536
CONNECT_SECONDS = 10
GONE = ("cancel", "Job aborted", "FAILED_READ_FILE", "ExecutorLostFailure")
"""What errors say that are about the cluster or the files, not about one query."""

RETRIES, MOST_WAIT = 4, 4000
"""How often, and with at most how many milliseconds between, a Spark Connect server is asked again: else for 10 minutes."""



class SparkConfig(Section):
    """A ``table``, a ``path`` (with its ``format``) or a ``query``, at a ``master`` or at ``remote``, an ``sc://`` address.

    ``timeout`` ends what one call asks of the cluster; ``ingested`` names the column that says when a row was written;
    ``conf`` are settings of the session.
    """

    kind: Literal["spark"] = "spark"
    master: str | None = None
    remote: SecretStr | None = None
    table: str | None = None
    path: str | None = None
    query: str | None = None
    format: str = "parquet"
    options: dict[str, str] = {}
    conf: dict[str, str] = {}
    timeout: Duration = timedelta(minutes=10)
    ingested: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _address(cls, value: Any) -> Any:
        """``sc://host:15002#schema.table`` in one text."""
        if isinstance(value, dict) and str(value.get("path", "")).startswith("sc://"):
            address, _, table = str(value["path"]).partition("#")
            rest = {k: v for k, v in value.items() if k != "path"}
            return {"remote": address, **({"table": table} if table else {}), **rest}
        return value

    @model_validator(mode="after")
    def _one(self) -> SparkConfig:
        if sum(v is not None for v in (self.table, self.path, self.query)) != 1:
            raise ValueError("a spark source has one of table, path and query; an sc:// address names its table after #")
        if self.master is not None and self.remote is not None:
            raise ValueError("a spark source has a master or a remote address, not both")
        if self.query is not None:
            check_select(self.query, "spark")
        if self.remote is not None and not self.remote.get_secret_value().startswith("sc://"):
            raise ValueError("remote must be a Spark Connect address such as sc://host:15002")
        return self

    @field_serializer("conf", "options", when_used="json")
    def _hidden(self, options: dict[str, str]) -> dict[str, str]:
        """Their names: a secret may be among them."""
        return dict.fromkeys(options, "***")

    @field_serializer("remote", when_used="json")
    def _shown(self, remote: SecretStr | None) -> str | None:
        """The address without its parameters, a token among them."""
        return remote.get_secret_value().split("/;")[0] if remote is not None else None

    @property
    def where(self) -> str:
        """What errors call the source; a token in the address is left out."""
        address = self._shown(self.remote) or self.master or "local[2]"
        return f"spark {address} {self.table or self.path or 'query'}"


class SparkRelation(PlainRelation):
    """The rows of one window in Spark."""

    def __init__(self, frame: nw.LazyFrame[Any], errors: tuple[type[Exception], ...], lost: tuple[type[Exception], ...]) -> None:
        self.frame = frame
        self.errors = errors
        self._lost = lost

    def sample(self, fraction: float) -> nw.LazyFrame[Any]:
        import narwhals as nw

        found: nw.LazyFrame[Any] = nw.from_native(self.frame.to_native().sample(fraction=fraction, seed=SEED))
        return found

    @property
    def dialect(self) -> str:
        return "spark"

    def query(self, text: str, names: Sequence[str], seconds: float) -> list[tuple[Any, ...]]:
        native = self.frame.to_native()
        session = native.sparkSession
        late = threading.Event()

        def end() -> None:
            late.set()
            _cancel(session)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        native.createOrReplaceTempView(TABLE)
        timer.start()
        try:
            return [tuple(row) for row in session.sql(over(text, names, self.dialect)).limit(1001).collect()]
        except self.errors:
            if late.is_set():
                raise LookupError(f"the query took longer than {seconds:g} s and was ended") from None
            raise
        finally:
            timer.cancel()
            session.catalog.dropTempView(TABLE)

    def fatal(self, error: Exception) -> bool:
        text = str(error)
        return isinstance(error, self._lost) or _stopped(error) or any(word in text for word in GONE)


class SparkSource(EngineSource):
    """One session per address and process; a session whose cluster was lost is stopped and made anew."""

    _sessions: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: SparkConfig) -> None:
        super().__init__(config.where, config.ingested)
        self._config = config

    @property
    def _key(self) -> str:
        config = self._config
        return config.remote.get_secret_value() if config.remote else config.master or "local[2]"

    def _connect(self) -> Any:
        from pyspark.sql import SparkSession

        found: Any = self._sessions.get(self._key)
        if found is not None:
            return found
        config = self._config
        self._probe()
        self.close()  # pyspark has one cluster to a process
        builder: Any = SparkSession.builder.appName("driftd")
        if config.remote is not None:
            builder = builder.remote(config.remote.get_secret_value())
        else:
            master = config.master or "local[2]"
            quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.sql.shuffle.partitions": "8"}
            if master.startswith("local"):
                quiet |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
            builder = builder.master(master)
            for name, value in (quiet | config.conf).items():
                builder = builder.config(name, value)
        session = builder.getOrCreate()
        if config.remote is not None:
            from pyspark.sql.connect.client.retries import DefaultPolicy

            session.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES, max_backoff=MOST_WAIT)])
        for name, value in ({"spark.sql.session.timeZone": "UTC"} | (config.conf if config.remote else {})).items():
            session.conf.set(name, value)
        self._sessions[self._key] = session
        return session

    def _probe(self) -> None:
        """`OSError` when nobody listens at the address: the clients would wait for minutes."""
        refused: OSError | None = None
        for host, port in re.findall(r"(?:^(?:sc|spark)://|,)([^:/,;]+)(?::(\d+))?", self._key):
            try:
                socket.create_connection((host, int(port or 15002)), CONNECT_SECONDS).close()
            except OSError as error:
                refused = error
            else:
                return
        if refused is not None:
            raise refused

    @classmethod
    def close(cls) -> None:
        """Stop the sessions of this process."""
        while cls._sessions:
            cls._sessions.popitem()[1].stop()
        for name in ("SPARK_CONNECT_MODE_ENABLED", "SPARK_REMOTE"):  # pyspark's mark of a process that spoke Spark Connect
            os.environ.pop(name, None)

    def _forget(self) -> None:
        session = self._sessions.pop(self._key, None)
        if session is not None:
            with suppress(*self._lost):
                session.stop()

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        """What says that the cluster is gone."""
        from py4j.protocol import Py4JNetworkError

        found: list[type[Exception]] = [Py4JNetworkError, ConnectionError]
        if self._config.remote is not None:
            from grpc import RpcError
            from pyspark.errors.exceptions.connect import SparkConnectGrpcException

            found += [RpcError, SparkConnectGrpcException]
        return tuple(found)

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        import narwhals as nw
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        return (PySparkException, Py4JError, nw.exceptions.NarwhalsError, NotImplementedError, *self._lost)

    @contextmanager
    def session(self) -> Iterator[nw.LazyFrame[Any]]:
        """All rows, with a timer that cancels what the cluster still does for this session, which has one call at a time."""
        import narwhals as nw

        where, late = self._where, threading.Event()
        try:
            expected: tuple[type[Exception], ...] = (*self._errors, OSError, ValueError, RuntimeError)
        except ModuleNotFoundError:
            raise SourceError(f"{where}: needs driftd's extra: pip install 'driftd[spark]'") from None
        try:
            session: Any = self._connect()
        except expected as error:
            self._sessions.pop(self._key, None)
            raise SourceError(f"{where}: cannot be reached ({type(error).__name__}): {first_line(error)}") from None
        def end() -> None:
            late.set()
            _cancel(session)

        timer = threading.Timer(self._config.timeout.total_seconds(), end)
        timer.daemon = True
        timer.start()
        try:
            yield nw.from_native(self._frame(session))
        except SourceError as error:
            raise type(error)(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
        except expected as error:
            if late.is_set():
                text = f"the query outlived its time-out of {format_duration(self._config.timeout)} and was cancelled"
            else:
                text = f"the query failed ({type(error).__name__}): {first_line(error)}"
            if isinstance(error, self._lost) or _stopped(error):
                self._forget()
            raise SourceError(f"{where}: {text}") from None
        finally:
            timer.cancel()

    def _frame(self, session: Any) -> Any:
        config = self._config
        if config.table is not None:
            return session.table(config.table)
        if config.query is not None:
            return session.sql(config.query.strip().rstrip(";"))
        return session.read.format(config.format).options(**config.options).load(config.path)

    def relation(self, frame: nw.LazyFrame[Any]) -> Relation:
        return SparkRelation(frame, self._errors, self._lost)

    def batches(self, frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
        yield from frame.to_native().toArrow().to_batches(max_chunksize=BATCH_ROWS)


def _cancel(session: Any) -> None:
    """End all that the session's cluster still does for it; tasks stop at the next row that they hand on."""
    if "connect" in type(session).__module__:
        session.interruptAll()
    else:
        session.sparkContext.cancelAllJobs()


def _stopped(error: Exception) -> bool:
    text = str(error)
    return "stopped SparkContext" in text or "SparkContext was shut down" in text or "Master removed our application" in text


def _build(config: SparkConfig) -> Source:
    return SparkSource(config)


SOURCES.register("spark")(SourcePlugin(SparkConfig, _build))
