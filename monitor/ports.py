"""What the parts of the shell say to each other: protocols, and the plain values that cross processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from checks.calibration.ledger import Budget
from checks.core.window import Window
from monitor.config.model import MonitorConfig

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

T = TypeVar("T")


class Source(Protocol):
    """Rows of a log, by event time. Built and used only in a scanning worker."""

    def types(self) -> dict[str, str]:
        """The logical type of every column, from the newest part of the source."""
        ...

    def read(
        self, columns: Sequence[str], timestamp: str | None, window: Window | None, dictionaries: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """Batches of ``columns`` of the rows whose ``timestamp`` lies in ``window``; all rows without one.

        Columns in ``dictionaries`` may come dictionary-encoded.
        """
        ...

    def types_in(self, timestamp: str | None, window: Window) -> dict[str, str]:
        """The logical types of the columns in the part of the source that holds ``window``."""
        ...

    def schema(self, timestamp: str | None, window: Window | None) -> pa.Schema:
        """The columns of the part of the source that holds ``window`` with their Arrow types, nested ones included."""
        ...

    def fingerprint(self, timestamp: str | None, window: Window) -> str:
        """A text that changes when the data of ``window`` may have changed."""
        ...

    def snapshot(self) -> str:
        """What version of the source was read last, where it has versions; else empty."""
        ...

    def lineage(self, timestamp: str | None, window: Window) -> dict[str, Any]:
        """What the rows of ``window`` are read from: files with size and time of change, or table, query and fingerprint."""
        ...

    def extent(self, timestamp: str) -> Extent:
        """The outermost event times, and how late files are against their rows."""
        ...


class Relation(Protocol):
    """Rows that lie in an engine, as a lazy frame over which aggregates are computed there.

    ``errors`` are what the engine raises for a query that it cannot run; ``dialect`` is sqlglot's name of its SQL.
    """

    frame: nw.LazyFrame[Any]
    errors: tuple[type[Exception], ...]

    @property
    def dialect(self) -> str: ...

    def query(self, text: str, names: Sequence[str], seconds: float) -> list[tuple[Any, ...]]:
        """At most 1001 rows of the SELECT ``text`` in which ``names`` stand for the rows; `LookupError` when it takes longer."""
        ...

    def sample(self, fraction: float) -> nw.LazyFrame[Any]:
        """About that share of the rows."""
        ...

    def rows(self, query: nw.LazyFrame[Any]) -> list[dict[str, Any]]:
        """The few rows that ``query`` gives."""
        ...

    def bucketed(self, numbers: nw.LazyFrame[Any], edges: Sequence[float]) -> nw.LazyFrame[Any] | None:
        """``numbers`` with ``inside``, how many ``edges`` are not above column ``x``; None without a function for it."""
        ...

    def fatal(self, error: Exception) -> bool:
        """Whether no other query can succeed either: the connection is lost, the time is over."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A source whose rows lie in an engine that can aggregate them itself."""

    def aggregate(
        self, columns: Sequence[str], timestamp: str | None, window: Window | None, work: Callable[[Relation], T],
    ) -> T:
        """What ``work`` makes of the rows of a window (all without one), in one read-only transaction where there are any.

        `SourceError` names the source and the cause when the engine cannot be reached, refuses, or takes too long.
        """
        ...

    def fingerprints(self, timestamp: str | None, windows: Sequence[Window]) -> dict[Window, str]:
        """The fingerprints of several windows from one query."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """First and newest event, newest write, rows, seconds between the newest row of each part and its write.

    ``gap`` is the usual number of seconds between the newest rows of consecutive parts; None with fewer than three.
    """

    first: datetime | None
    last: datetime | None
    written: datetime | None
    rows: int
    lags: tuple[float, ...] = ()
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What driftd found out about a monitor's data, frozen in the store when it was first seen."""

    size_seconds: float
    lateness_seconds: float
    types: dict[str, str]
    start: datetime
    reference_from: datetime
    reference_to: datetime
    label_id: str | None = None
    label_column: str | None = None
    label_timestamp: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work for a scanning worker, about one monitor."""

    monitor: MonitorConfig


@dataclass(frozen=True, slots=True)
class ResolveJob(Job):
    """Find out window size, lateness, reference range, label columns. Answer: `Settings`."""

    now: datetime


@dataclass(frozen=True, slots=True)
class ReferenceJob(Job):
    """Freeze the binning and profile the reference windows, without judging them. Answer: `ReferenceAnswer`."""

    settings: Settings
    key: bytes


@dataclass(frozen=True, slots=True)
class ProfiledWindow:
    """A window's profile as bytes."""

    window: Window
    rows: int
    profile: bytes


@dataclass(frozen=True, slots=True)
class ReferenceAnswer:
    """The binning as JSON with its hash, the profile of the whole reference, and those of its windows."""

    binning: str
    hash: str
    total: bytes
    rows: int
    windows: tuple[ProfiledWindow, ...]


@dataclass(frozen=True, slots=True)
class BaselineWindow:
    """One window of a baseline, with its stored profile."""

    window: Window
    revision: int
    profile: bytes


@dataclass(frozen=True, slots=True)
class StoredScan:
    """What an earlier scan of a window left: profile, label counts, outputs by slice, quality section, lineage.

    ``plan`` is that of `Outcome`.
    """

    profile: bytes
    counts: bytes | None
    labelled: float | None
    plan: dict[str, Any]
    fingerprint: str
    snapshot: str
    outputs: bytes | None = None
    quality: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Day:
    """A day of hourly windows: the profiles that make it, or its own, merged before."""

    window: Window
    pieces: tuple[bytes, ...]
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Rollup:
    """Drift is decided on whole days: ``today`` lacks the window at hand, ``before`` are the days of the baseline.

    ``due`` says whether the window at hand is the last of its day; ``missing`` how many of the day have no profile.
    """

    due: bool
    today: Day
    before: tuple[Day, ...] = ()
    missing: int = 0


@dataclass(frozen=True, slots=True)
class RunJob(Job):
    """Scan one window, or take what an earlier scan left, and judge it. Answer: `Outcome`.

    ``keys`` are the digests of earlier windows' keys, oldest first; ``carried`` the windows just before that were too small to
    judge; ``accepted`` from when on the level of which columns (None: of all) is normal; ``widen`` multiplies the chances of
    alarm after false ones. ``calibration`` is what `CalibrationJob` learned, ``uncalibrated`` why it is missing.
    """

    settings: Settings
    binning: str
    key: bytes
    window: Window
    as_of: datetime
    now: datetime
    baseline: tuple[BaselineWindow, ...]
    reference: bytes
    stored: StoredScan | None = None
    rollup: Rollup | None = None
    keys: tuple[tuple[datetime, bytes], ...] = ()
    carried: tuple[BaselineWindow, ...] = ()
    accepted: tuple[tuple[datetime, tuple[str, ...] | None], ...] = ()
    widen: float = 1.0
    calibration: bytes | None = None
    uncalibrated: str = ""


@dataclass(frozen=True, slots=True)
class ProfileJob(Job):
    """Profile windows without judging them. Answer: a tuple of `ProfiledWindow`."""

    settings: Settings
    binning: str
    key: bytes
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class NormalJob(Job):
    """Say what a baseline shows to be normal. Answer: a dict, see `monitor.evaluation.simulate.normal`."""

    settings: Settings
    binning: str
    reference: bytes
    windows: tuple[BaselineWindow, ...]


@dataclass(frozen=True, slots=True)
class HistoryJob(Job):
    """Replay the profiles of a history under a budget, from ``since`` on, or (``faults``) with faults injected into it.

    ``baseline`` is how many windows the rolling baseline holds. Answer: a dict, see `monitor.evaluation.simulate`.
    """

    settings: Settings
    binning: str
    windows: tuple[BaselineWindow, ...]
    since: datetime
    budget: Budget
    baseline: int
    faults: bool = False


@dataclass(frozen=True, slots=True)
class QualityJob(Job):
    """Count one window's labels again; its weakest slices unless they are ``searched``.

    With ``measure`` business figures and parity, too. Answer: `QualityAnswer`.
    """

    settings: Settings
    key: bytes
    window: Window
    now: datetime
    binning: str
    searched: bool = False
    measure: bool = False


@dataclass(frozen=True, slots=True)
class CalibrationJob(Job):
    """Count the labels of the reference windows, to learn what scores mean. Answer: the counts as bytes, the share labelled."""

    settings: Settings
    binning: str
    windows: tuple[Window, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class CompareJob(Job):
    """Compare two versions over stored counts by window start. Answer: a dict, see `monitor.evaluation.versions`.

    ``spans`` are windows whose rows may be read for DeLong's test; none without.
    """

    settings: Settings
    first: str
    second: str
    windows: tuple[tuple[datetime, bytes], ...]
    metric: str | None = None
    margin: float = 0.01
    spans: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class WeakestJob(Job):
    """Search the weakest slices of a window. Answer: a dict, see `monitor.evaluation.weakest`, or None."""

    settings: Settings
    binning: str
    key: bytes
    window: Window
    now: datetime


@dataclass(frozen=True, slots=True)
class HoursJob(Job):
    """Count what each version did in each hour. Answer: a tuple of `ProfiledWindow`."""

    settings: Settings
    hours: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class DeploymentJob(Job):
    """Judge ``version``, first seen in the hour ``first``, against ``previous``. Answer: `DeploymentAnswer`."""

    settings: Settings
    version: str
    previous: str
    first: datetime
    hours: tuple[ProfiledWindow, ...]
    calibration: bytes | None = None


@dataclass(frozen=True, slots=True)
class DeploymentAnswer:
    """The verdict, what it rests on, and the newest hour that it knows."""

    verdict: str
    body: dict[str, Any]
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class ObserveJob(Job):
    """Look what is new. ``windows`` are closed windows that may have been revised, ``labels`` those still open to labels.

    Answer: `Observation`.
    """

    settings: Settings
    windows: tuple[Window, ...]
    labels: tuple[Window, ...]
    labels_seen: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """Newest event and write, fingerprints by window start, and labelled share by window start.

    ``others`` are the fingerprints of business figures and offline features. ``unknown_labels`` of the ``label_rows`` since the first open window are of no prediction in the open windows.
    """

    newest_event: datetime | None
    newest_write: datetime | None
    fingerprints: dict[datetime, str]
    labelled: dict[datetime, float]
    labels_seen: str
    usual_gap: float | None = None
    unknown_labels: int = 0
    label_rows: int = 0
    others: dict[datetime, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionsJob(Job):
    """Which versions serve from a moment on. Answer: rows by version."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class ReportJob(Job):
    """Render a run's report. Answer: the HTML text."""

    view: dict[str, Any]
    binning: str
    profile: bytes | None
    reference: bytes
    baseline: tuple[BaselineWindow, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidentlyJob(Job):
    """Evidently's drill-down on a bounded sample of the window against the reference. Answer: the HTML text."""

    settings: Settings
    window: Window
    rows: int = 5000


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The result of one rule in one window, as the store keeps it and as the fold reads it.

    ``family`` is contract, data, drift, quality or service; ``state`` is watch, learning, provisional, limit, driver or empty. A
    driver is a column that drives an incident: it becomes a member of one, and never opens one. ``definition`` tells one limit of
    the rule from another; empty where it is not known.
    """

    rule: str
    family: str
    verdict: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    column: str | None = None
    slice: str | None = None
    state: str = ""
    cleared: bool = True
    reason: str = ""
    definition: str = ""


@dataclass(frozen=True, slots=True)
class QualityAnswer:
    """A window's quality section, its rule results and counts, and the labelled share."""

    section: dict[str, Any]
    results: tuple[RuleResult, ...]
    counts: bytes
    labelled: float
    duplicate_ids: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker says of a window: sections of the check object, rule results, the profile, and lineage.

    ``plan`` names what was counted (`monitor.profiling.plan.Plan.lineage`), ``snapshot`` the version of a source that has
    versions; ``outputs`` holds the score, class and label counts by slice; ``days`` the days that were merged; ``keys`` the
    digest of the window's keys.
    """

    rows: int
    sections: dict[str, Any]
    results: tuple[RuleResult, ...]
    profile: bytes
    model_versions: dict[str, int]
    fingerprint: str
    quality_counts: bytes | None
    labelled: float | None
    contract_id: str
    contract_version: str
    contract_hash: str
    seconds: float
    violations: tuple[dict[str, Any], ...] = field(default=())
    drift_p_value: float | None = None
    drift_learning: bool = False
    plan: dict[str, Any] = field(default_factory=dict)
    snapshot: str = ""
    outputs: bytes | None = None
    days: tuple[ProfiledWindow, ...] = ()
    keys: bytes | None = None


class Workers(Protocol):
    """Runs jobs in scanning processes; `WorkerError` when one is lost, the job's own error when it fails."""

    def run(self, job: Job) -> Any: ...

    def retire_idle(self) -> None: ...

    def close(self) -> None: ...


class Sender(Protocol):
    """A channel: delivers one message or raises `checks.core.errors.DeliveryError`."""

    def send(self, message: Message) -> str:
        """Send; answers a short receipt for the record."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to one channel: the facts (a Standard Webhooks payload) and their plain text.

    ``thread`` is the receipt of the incident's first message there, for channels that have threads.
    """

    key: str
    payload: dict[str, Any]
    text: str
    sequence: int
    now: datetime
    thread: str = ""
