"""The configuration of what follows from a verdict: alerts, owners, rollback, actions, the dead man's switch."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from monitor.config.template import Expression, Template, unknown_names
from monitor.config.types import BudgetField, Duration, Fire, Section

COMMON = frozenset({"incident", "monitor", "payload", "id"})
ROLLBACK_FACTS = COMMON | {"from_version", "to_version", "expected_current_version", "reason", "not_after", "dry_run"}
ACTION_FACTS = COMMON | {"purpose", "family", "severity", "headline", "window"}
"""What the templates of a request know."""

RELATIVE = frozenset({"latest", "previous", "current", "stable", "prod", "production", "champion", "rollback"})
"""Names that mean another version tomorrow: nothing that a receiver could compare and set."""


def allowed(url: str | None, hosts: list[str], key: str = "url") -> None:
    """`ValueError` for an address that no request would be sent to."""
    if url is not None and url.startswith("http://") and urlsplit(url).hostname not in hosts and "{" not in url.split("/")[2]:
        raise ValueError(f"{key}: plain http is only for hosts in allow_hosts; add {urlsplit(url).hostname} there, or use https")


def _checked(facts: frozenset[str], **templates: str | None) -> None:
    for key, text in templates.items():
        wrong = unknown_names(text, facts)
        if wrong:
            raise ValueError(f"{key}: there is no {wrong[0]!r} for a template; allowed are {', '.join(sorted(facts))}")


class Alerts(Section):
    """How many windows make and clear an alert."""

    fire: Fire = "auto"
    clear: Annotated[int, Field(ge=1, le=100)] = 2


class Call(Section):
    """A request that driftd sends: ``body`` is a Jinja template over its facts; without one the facts go as a Standard Webhooks body."""

    url: str | None = None
    secret: SecretStr | None = None
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: dict[str, SecretStr] = {}
    body: Template | None = None
    allow_hosts: list[str] = []

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("url must begin with https:// (or http:// for a host in allow_hosts)")
        return value


class RollbackConfig(Call):
    """The rollback webhook, how its effect is seen, and its guards' settings."""

    mode: Literal["off", "dry_run", "approve", "auto"] | None = None
    to_version: str = "last_good"
    status_url: str | None = None
    status_headers: dict[str, SecretStr] = {}
    status_version: Expression = "reply.version"
    status_in_progress: Expression = "reply.in_progress"
    settle: Duration = timedelta(minutes=10)
    attribution: Duration = timedelta(hours=72)
    cooldown: Duration = timedelta(hours=24)
    approve_within: Duration = timedelta(hours=1)
    fallback: str | None = None
    bad_versions: list[str] = []

    @property
    def effective_mode(self) -> str:
        """``dry_run`` once there is a URL, else ``off``."""
        return self.mode or ("dry_run" if self.url else "off")

    @model_validator(mode="after")
    def _complete(self) -> RollbackConfig:
        if self.effective_mode != "off" and not self.url:
            raise ValueError(f"mode {self.effective_mode} needs a url")
        for name in (self.to_version, self.fallback):
            if name is not None and name.lower() in RELATIVE:
                raise ValueError(f"{name!r} is no version of its own; allowed are last_good, or a name that means the same version for ever")
        allowed(self.url, self.allow_hosts)
        allowed(self.status_url, self.allow_hosts, "status_url")
        _checked(ROLLBACK_FACTS, url=self.url, body=self.body, status_url=self.status_url)
        return self


class Action(Call):
    """Another request on an incident, such as a retraining: ``on`` is a family, or family and severity, such as quality.fail."""

    on: str
    kind: Literal["webhook"] = "webhook"
    purpose: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,50}$")] = "action"

    @field_validator("on")
    @classmethod
    def _known(cls, value: str) -> str:
        family, _, severity = value.partition(".")
        families = ("contract", "data", "drift", "quality", "service")
        if family not in families or severity not in ("", "warn", "fail"):
            raise ValueError(f"{value!r} is no event; allowed is one of {', '.join(families)}, with .warn or .fail")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Action:
        if not self.url:
            raise ValueError("an action needs a url")
        allowed(self.url, self.allow_hosts)
        _checked(ACTION_FACTS, url=self.url, body=self.body)
        return self

    @property
    def key(self) -> str:
        """What tells it from the monitor's other actions, wherever it stands in the list."""
        return f"{self.purpose}:{hashlib.sha256(f'{self.method} {self.url} {self.body}'.encode()).hexdigest()[:8]}"

    def meant(self, family: str, severity: str) -> bool:
        """Whether an incident of that family and severity is one that the action is for."""
        wanted, _, grave = self.on.partition(".")
        return wanted == family and (not grave or grave == severity or (grave == "warn" and severity == "fail"))


class Escalation(Section):
    """Who else is told when a fail is not acknowledged."""

    after: Duration
    to: list[str]


class Owner(Section):
    """Whom messages go to, by severity."""

    channels: dict[Literal["warn", "fail"], list[str]] | list[str] = ["log"]
    escalate: Escalation | None = None
    budget: BudgetField | None = None

    def route(self, severity: str) -> list[str]:
        """The channels for a severity, in order."""
        if isinstance(self.channels, list):
            return self.channels
        return self.channels.get("fail" if severity == "fail" else "warn", [])

    @property
    def all_channels(self) -> list[str]:
        """Every channel that a message of this owner can go to."""
        named = self.channels if isinstance(self.channels, list) else [c for group in self.channels.values() for c in group]
        return list(dict.fromkeys([*named, *(self.escalate.to if self.escalate else [])]))


class DeadMan(Section):
    """A URL that is pinged while driftd makes progress."""

    url: SecretStr
    every: Duration = timedelta(minutes=5)
    allow_hosts: list[str] = []

    @model_validator(mode="after")
    def _reachable(self) -> DeadMan:
        allowed(self.url.get_secret_value(), self.allow_hosts)
        return self
