"""Every key of config.yaml, typed, with its default."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr, SerializeAsAny, ValidationInfo, field_validator, model_validator

from monitor.config.alerts import Action, Alerts, DeadMan, Owner, RollbackConfig
from monitor.config.groups import groups
from monitor.config.quality import Kpi, Parity, Quality
from monitor.config.types import (
    AutoDuration,
    BudgetField,
    Duration,
    Moment,
    Section,
    ThresholdConfig,
    parse_budget,
)


class Columns(Section):
    """Which column is what; all others are features."""

    timestamp: str
    id: str | None = None
    prediction: str | None = None
    score: str | None = None
    version: str | None = None
    latency: str | None = None
    status: str | None = None
    weight: str | None = None
    ignore: list[str] = []
    personal: list[str] = []

    @property
    def roles(self) -> dict[str, str]:
        """Role by column name, for the columns that are no features."""
        named = {
            "timestamp": self.timestamp, "id": self.id, "prediction": self.prediction, "score": self.score,
            "version": self.version, "latency": self.latency, "status": self.status, "weight": self.weight,
        }
        return {column: role for role, column in named.items() if column}


class Labels(Section):
    """Where labels come from and when a window has enough of them."""

    source: SerializeAsAny[Section]
    id: str | None = None
    label: str | None = None
    timestamp: str | None = None
    complete: Annotated[float, Field(gt=0, le=1)] = 0.95
    give_up: Duration = timedelta(days=14)
    late_after: AutoDuration = "auto"

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: Any, info: ValidationInfo) -> Any:
        return _build_source(value, info)


class WindowConfig(Section):
    """Size and place of windows."""

    size: AutoDuration = "auto"
    lateness: AutoDuration = "auto"
    revise: Duration = timedelta(days=3)
    timezone: str = "UTC"
    rollup: Duration | None = None

    @field_validator("rollup")
    @classmethod
    def _days(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and (value < timedelta(hours=1) or value % timedelta(hours=1) or timedelta(days=1) % min(value, timedelta(days=1))):
            raise ValueError("rollup must be whole hours that divide a day, or whole days, such as 1d")
        return value

    @model_validator(mode="after")
    def _longer(self) -> WindowConfig:
        if self.rollup is not None and self.size != "auto" and self.rollup <= self.size:
            raise ValueError("rollup must be longer than size")
        return self

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone of the IANA database, such as America/New_York") from None
        return value


class Schedule(Section):
    """How often a monitor is looked at: an interval, or cron in UTC."""

    every: Duration | None = None
    cron: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Schedule:
        if self.every is not None and self.cron is not None:
            raise ValueError("every and cron exclude each other")
        if self.every is not None and self.every < timedelta(seconds=1):
            raise ValueError("every must be at least 1s")
        if self.cron is not None:
            from apscheduler.triggers.cron import CronTrigger

            CronTrigger.from_crontab(self.cron, timezone="UTC")
        return self


class Reference(Section):
    """The windows that say what is normal at first: a range, or a training file."""

    since: Moment | None = Field(None, alias="from")
    to: Moment | None = None
    path: str | None = None


class Drift(Section):
    """The false-alarm budget and what shapes it.

    ``limits`` are on a statistic of every column, ``psi``, or of one, ``psi[temp]``; ``statistics`` are those that are measured,
    a choice of five without it.
    """

    budget: BudgetField = Field(default_factory=lambda: parse_budget("1 per 30d"))
    seasonality: Literal["auto", "none", "weekday", "hour_of_week"] = "auto"
    holidays: list[Moment] = []
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    min_rows: Annotated[int, Field(ge=1)] = 50
    statistics: list[str] | None = None
    limits: dict[str, ThresholdConfig] = {}

    def limit(self, kind: str, column: str) -> ThresholdConfig | None:
        """The limit on a statistic of a column: its own, or that of all."""
        return self.limits.get(f"{kind}[{column}]", self.limits.get(kind))

    @field_validator("limits")
    @classmethod
    def _named(cls, value: dict[str, ThresholdConfig]) -> dict[str, ThresholdConfig]:
        for name in value:
            if "[" in name and not name.endswith("]"):
                raise ValueError(f"{name!r} is neither a statistic nor a statistic of a column, such as psi[temp]")
        return value


class Service(Section):
    """Limits on latency, errors and traffic (rows against the usual for the hour), and when silence is an incident."""

    limits: dict[Literal["latency_p50", "latency_p95", "latency_p99", "error_share", "traffic"], ThresholdConfig] = {}
    silent_after: AutoDuration = "auto"


def _build_source(value: Any, info: ValidationInfo) -> Any:
    return (info.context or {})["source"](value)


def _short_labels(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


class ContractConfig(Section):
    """An ODCS document: its ``path``, the ``object`` that the monitor's rows are (else its first), and where the ``data`` of
    the other objects lies that foreign keys refer to."""

    path: Path
    object: str | None = None
    data: dict[str, SerializeAsAny[Section]] = {}

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, (str, Path)) else value

    @field_validator("path", mode="before")
    @classmethod
    def _beside(cls, value: Any, info: ValidationInfo) -> Any:
        return (info.context or {})["base"] / str(value)

    @field_validator("data", mode="before")
    @classmethod
    def _data(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            raise ValueError("data is a mapping from the names of objects to sources")
        return {name: _build_source(source, info) for name, source in value.items()}


class MonitorConfig(Section):
    """One model under watch."""

    name: str
    owner: str
    runbook: str | None = None
    upstream: str | None = None
    source: SerializeAsAny[Section]
    columns: Columns
    labels: Annotated[Labels | None, BeforeValidator(_short_labels)] = None
    window: WindowConfig = WindowConfig()
    schedule: Schedule = Schedule()
    start: Moment | None = None
    end: Moment | None = None
    reference: Reference = Field(default_factory=lambda: Reference.model_validate({}))
    contract: ContractConfig | None = None
    drift: Drift = Field(default_factory=Drift)
    task: Literal["binary", "multiclass", "regression"] = "binary"
    quality: Quality = Quality()
    service: Service = Service()
    kpis: dict[str, Kpi] = {}
    parity: Parity | None = None
    alerts: Alerts = Alerts()
    rollback: RollbackConfig = RollbackConfig()
    actions: list[Action] = []

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: Any, info: ValidationInfo) -> Any:
        return _build_source(value, info)

    @model_validator(mode="after")
    def _consistent(self) -> MonitorConfig:
        if self.labels is not None and self.columns.id is None:
            raise ValueError("labels need columns.id to join on")
        if self.labels is not None and self.columns.score is None and self.columns.prediction is None:
            raise ValueError("labels need columns.score or columns.prediction to compare with")
        keys = [action.key for action in self.actions]
        twice = next((a for a in self.actions if keys.count(a.key) > 1), None)
        if twice is not None:
            raise ValueError(f"actions: two of purpose {twice.purpose!r} send the same request; name both events in one, or give each a purpose of its own")
        own = {item.name for item in self.quality.custom}
        if self.quality.costs and self.task == "regression":
            raise ValueError("quality.costs are of right and wrong classes; a regression has none")
        of_class = [key for key in self.quality.limits if "[" in key]
        if of_class and self.task != "multiclass":
            raise ValueError(f"quality.limits: {of_class[0]} is on a class; only a multiclass task has them")
        if self.quality.shadow and self.columns.version is None:
            raise ValueError("quality.shadow names versions; columns.version says where they are")
        if self.labels is None and (set(self.quality.limits) - own or self.quality.fairness is not None):
            raise ValueError("quality.limits and quality.fairness need labels; only limits on custom metrics do without")
        if self.rollback.effective_mode == "auto" and not (self.rollback.status_url or self.columns.version):
            raise ValueError("rollback.mode auto needs a status_url or columns.version, or it could not be verified")
        if self.rollback.effective_mode != "off" and self.columns.version is None:
            raise ValueError("rollback needs columns.version to know which version to leave")
        return self


class Reports(Section):
    """Where reports are written and how long they are kept."""

    path: Path = Path("reports")
    keep: Duration = timedelta(days=90)


class Web(Section):
    """The status page's address."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8321
    token: SecretStr | None = None


class Retention(Section):
    """How long stored things are kept."""

    hourly_profiles: Duration = timedelta(days=14)
    profiles: Duration = timedelta(days=400)
    results: Duration = timedelta(days=400)


class WorkersConfig(Section):
    """How many scanning processes there are, and the limits of one scan."""

    count: Annotated[int, Field(ge=1, le=64)] = 2
    time: Duration = timedelta(minutes=15)
    memory_mb: Annotated[int, Field(ge=200)] = 4000


class Config(Section):
    """The whole configuration."""

    @field_validator("public_url")
    @classmethod
    def _link(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("public_url must begin with https:// or http://: it is what links in messages begin with")
        return value

    path: Path
    version: Literal[1] = 1
    store: str = "sqlite:///driftd.db"
    include: str | list[str] | None = None
    public_url: str | None = None
    reports: Reports = Reports()
    web: Web = Web()
    retention: Retention = Retention()
    workers: WorkersConfig = WorkersConfig()
    kill_switch: Path | None = None
    dead_man: DeadMan | None = None
    channels: dict[str, SerializeAsAny[Section]] = {}
    owners: dict[str, Owner] = {}
    defaults: dict[str, Any] = {}
    monitors: dict[str, MonitorConfig] = {}
    hashes: dict[str, str] = {}
    warnings: list[str] = []

    _groups: dict[str, list[str]] = PrivateAttr(default_factory=dict)

    def sharing(self, name: str) -> list[str]:
        """The monitors on the same source as that one, itself among them; of one that is not there, only its name."""
        if not self._groups:
            self._groups.update(groups(self.monitors.values()))
        return self._groups.get(name, [name])

    def monitor(self, name: str) -> MonitorConfig:
        """The monitor of that name, or `ConfigError` with the names there are."""
        from checks.core.errors import ConfigError

        if name not in self.monitors:
            known = ", ".join(sorted(self.monitors)) or "none"
            raise ConfigError(f"{self.path}: there is no monitor {name!r}; allowed are {known}")
        return self.monitors[name]
