"""The tables. Times are UTC, kept as microseconds since 1970."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A time with a zone, stored as whole microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        return None if value is None else (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=int(value))


class Name(sa.types.TypeDecorator[str]):
    """A text of at most ``size`` characters; the end of a longer one is a hash of the whole, so that it stays a name of its own."""

    impl = sa.String
    cache_ok = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        if value is None or len(value) <= self.size:
            return value
        return value[: self.size - 17] + "~" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


metadata = sa.MetaData()
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _id() -> sa.Column[Any]:
    return sa.Column("id", _Id, primary_key=True, autoincrement=True)


def _text(name: str, size: int = 200, **options: Any) -> sa.Column[Any]:
    options.setdefault("nullable", False)
    return sa.Column(name, Name(size), **options)


def _time(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcTime, nullable=nullable)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=False)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, nullable=False, default=0, server_default="0")


meta = sa.Table("meta", metadata, sa.Column("key", sa.String(100), primary_key=True), sa.Column("value", sa.Text, nullable=False))

monitor = sa.Table(
    "monitor", metadata, sa.Column("name", sa.String(200), primary_key=True), _text("settings_key"), _json("settings"),
    _text("binning", nullable=True), sa.Column("reference", sa.LargeBinary), _time("created_at"), _time("newest_event", True),
    _time("newest_write", True), _time("silent_since", True), _text("labels_seen", default=""), _text("config_hash", default=""),
)

binning = sa.Table(
    "binning", metadata, sa.Column("hash", sa.String(100), primary_key=True), sa.Column("body", sa.Text, nullable=False),
    _time("created_at"),
)

run = sa.Table(
    "run", metadata, _id(), _text("monitor"), _time("start"), _time("end"),
    sa.Column("revision", sa.Integer, nullable=False), sa.Column("current", sa.Boolean, nullable=False), _text("verdict", 20),
    sa.Column("rows", sa.BigInteger, nullable=False), _time("as_of"), _time("evaluated_at"),
    sa.Column("seconds", sa.Float, nullable=False), _text("config_hash"), _text("binning", nullable=True), _json("baseline"),
    _text("contract_id", default=""), _text("contract_version", default=""), _text("contract_hash", default=""),
    _json("model_versions"), _text("fingerprint", default=""), sa.Column("labelled", sa.Float), _time("labels_checked", True),
    _text("quality_state", 20, default=""), _text("driftd_version", 50), _json("sections"),
    sa.Column("attempts", sa.Integer, nullable=False, default=1), _time("retry_at", True),
    sa.Column("error", sa.Text, nullable=False, default=""), _text("snapshot", default=""),
    sa.Column("plan", sa.JSON, nullable=False, default=dict), sa.UniqueConstraint("monitor", "start", "revision", name="run_once"),
    sa.Index("run_current", "monitor", "current", "start"),
)

profile = sa.Table(
    "profile", metadata, sa.Column("monitor", sa.String(200), primary_key=True), sa.Column("start", UtcTime, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True), sa.Column("kind", sa.String(20), primary_key=True), _time("end"),
    _text("binning"), sa.Column("rows", sa.BigInteger, nullable=False), sa.Column("body", sa.LargeBinary, nullable=False),
)

result = sa.Table(
    "result", metadata, _id(), sa.Column("run_id", _Id, sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("rule", 500), _text("family", 20), _text("verdict", 20), sa.Column("value", sa.Float), sa.Column("low", sa.Float),
    sa.Column("high", sa.Float), sa.Column("n", sa.BigInteger, nullable=False), _text("column", nullable=True),
    _text("slice", 500, nullable=True), _text("state", 20, default=""), sa.Column("cleared", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""), _text("definition", 40, default="", server_default=""),
)

violation = sa.Table(
    "violation", metadata, _id(), sa.Column("run_id", _Id, sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False, index=True),
    _text("rule", 500), _json("body"),
)

alert = sa.Table(
    "alert", metadata, sa.Column("monitor", sa.String(200), primary_key=True), sa.Column("rule", Name(500), primary_key=True),
    _text("family", 20), _text("state", 20), _text("severity", 20), _time("since"),
)

incident = sa.Table(
    "incident", metadata, _id(), _text("monitor"), _text("family", 20), _text("severity", 20), _text("state", 20),
    sa.Column("headline", sa.Text, nullable=False), _text("owner"), _time("opened_at"), _time("closed_at", True),
    _text("reason", 100, default=""), _time("first_window"), _time("last_window"), _time("closed_window", True),
    sa.Column("windows", sa.Integer, nullable=False), _json("members"), _json("facts"), _text("hold_by", default=""),
    _text("scope", 20, default="monitor", server_default="monitor"), _text("source", 500, default="", server_default=""),
    sa.Column("parent_id", _Id, nullable=True), _text("acked_by", default="", server_default=""), _time("acked_at", True),
    _time("escalated_at", True), _time("reminded_at", True), _count("reminders"), _count("flapping"), _time("since", True), _time("fail_since", True),
    sa.Index("incident_of", "monitor", "state"), sa.Index("incident_state", "state", "parent_id"),
)

announcement = sa.Table(
    "announcement", metadata, _id(), sa.Column("incident_id", _Id, sa.ForeignKey("incident.id"), nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False), _text("type", 50), _time("at"), _json("payload"),
    sa.UniqueConstraint("incident_id", "sequence", name="announcement_once"),
)

token = sa.Table(
    "token", metadata, _id(), _text("monitor"), _text("owner"), _time("window"), _time("at"),
    sa.UniqueConstraint("monitor", "window", name="token_once"),
)

outbox = sa.Table(
    "outbox", metadata, _id(), _text("key", 100, unique=True), sa.Column("incident_id", _Id, nullable=True),
    _text("destination"), _text("kind", 20), sa.Column("sequence", sa.Integer, nullable=False), _json("payload"),
    sa.Column("text", sa.Text, nullable=False), _text("state", 20), sa.Column("attempts", sa.Integer, nullable=False),
    _time("next_at"), _time("created_at"), _time("sent_at", True), _text("lease_owner", default=""), _time("lease_until", True),
    sa.Column("epoch", sa.Integer, nullable=False), _time("not_after", True), sa.Column("error", sa.Text, nullable=False),
    _text("held_by", 500, default="", server_default=""), _text("covered_by", 500, default="", server_default=""),
    sa.Index("outbox_due", "state", "next_at"), sa.Index("outbox_destination", "destination", "state", "next_at"), sa.Index("outbox_order", "incident_id", "destination", "sequence"),
)

delivery_attempt = sa.Table(
    "delivery_attempt", metadata, _id(), sa.Column("outbox_id", _Id, sa.ForeignKey("outbox.id"), nullable=False, index=True),
    _time("at"), _text("outcome", 20), sa.Column("detail", sa.Text, nullable=False),
)

rollback = sa.Table(
    "rollback", metadata, _id(), sa.Column("incident_id", _Id, sa.ForeignKey("incident.id"), nullable=False, unique=True),
    _text("monitor"), _text("mode", 20), _text("state", 20), _text("from_version"), _text("to_version"), _json("guards"),
    _json("payload"), _text("webhook_id", 100), _time("created_at"), _time("not_after", True), _time("dispatched_at", True),
    _time("settle_until", True), _time("confirmed_at", True), sa.Column("posts", sa.Integer, nullable=False),
    sa.Column("detail", sa.Text, nullable=False), _text("payload_hash", 100, default="", server_default=""),
    _text("decided_by", default="", server_default=""), _time("decided_at", True), _time("expires_at", True), _time("verified_at", True),
    sa.Index("rollback_state", "state"),
)

silence = sa.Table(
    "silence", metadata, _id(), _text("monitor"), _text("rule", 500, nullable=True), _text("author"),
    sa.Column("reason", sa.Text, nullable=False), _time("starts_at"), _time("ends_at"), sa.Column("incident_id", _Id, nullable=True), _text("family", 20, nullable=True),
    _text("kind", 20, default="", server_default=""), _time("ended_at", True),
)

destination = sa.Table(
    "destination", metadata, sa.Column("name", sa.String(200), primary_key=True), sa.Column("failures", sa.Integer, nullable=False),
    _time("open_until", True), _time("failing_since", True), _time("disabled_at", True), _time("told_at", True), sa.Column("reason", sa.Text, nullable=False),
)

thread = sa.Table(
    "thread", metadata, sa.Column("incident_id", _Id, sa.ForeignKey("incident.id"), primary_key=True),
    sa.Column("destination", sa.String(200), primary_key=True), _text("ref", 500),
)

acceptance = sa.Table(
    "acceptance", metadata, _id(), _text("monitor"), sa.Column("incident_id", _Id, sa.ForeignKey("incident.id"), nullable=False),
    _text("family", 20), _text("kind", 20), _time("since"), _time("until"), sa.Column("columns", sa.JSON, nullable=True), _text("author"),
    _time("at"), sa.Index("acceptance_of", "monitor", "since"),
)

lease = sa.Table(
    "lease", metadata, sa.Column("name", sa.String(200), primary_key=True), _text("owner"), _time("until"),
    sa.Column("epoch", sa.Integer, nullable=False),
)

audit = sa.Table("audit", metadata, _id(), _time("at"), _text("actor"), _text("action"), _json("body"))

deployment = sa.Table(
    "deployment", metadata, _id(), _text("monitor"), _text("version"), _text("previous"), _time("first_seen"), _time("until"),
    _text("state", 20), _text("verdict", 20), _json("body"), sa.Column("incident_id", _Id, sa.ForeignKey("incident.id"), nullable=True),
    _time("updated_at"), sa.UniqueConstraint("monitor", "version", name="deployment_once"),
)
