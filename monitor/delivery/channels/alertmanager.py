"""alertmanager: API v2 of Prometheus Alertmanager, which groups, silences and routes on its own."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import SecretStr

from checks.core.window import iso
from monitor.alerting.incidents import over, went_wrong
from monitor.config.types import Section, reveal
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.delivery.http import request, shown
from monitor.delivery.retry import check
from monitor.ports import Message, Sender

OPEN_FOR = timedelta(days=365)
"""Alertmanager ends an alert by itself unless it is told how long it lasts; driftd says when it is over."""

MOST_TEXT = 8000


class AlertmanagerConfig(Section):
    """The ``url`` of an Alertmanager, such as https://alertmanager.example.org, and labels that every alert gets."""

    kind: Literal["alertmanager"] = "alertmanager"
    url: str
    token: SecretStr | None = None
    labels: dict[str, str] = {}
    allow_hosts: list[str] = []


def alerts_of(message: Message, labels: dict[str, str]) -> list[dict[str, Any]]:
    """The alert of an incident; it also ends the same incident at its other severity, as labels tell alerts apart."""
    data = message.payload.get("data", {})
    ended = over(message.payload)
    family, severity = str(data.get("family") or "notice"), str(data.get("severity") or "warn")
    if ended and went_wrong(message.payload):  # a page of its own, as the incident is over; it ends by itself
        own = {"alertname": "driftd_rollback", "monitor": str(data.get("monitor")), "incident": str(data.get("incident")), "severity": "fail", **labels}
        said = {"summary": message.text.splitlines()[0], "description": message.text[:MOST_TEXT], "message_id": message.key}
        return [{"labels": own, "annotations": said, "startsAt": iso(message.now), "endsAt": iso(message.now + timedelta(hours=4))}]
    own = {
        "alertname": f"driftd_{family}", "monitor": str(data.get("monitor") or "driftd"), "incident": str(data.get("incident") or message.key),
        "family": family, "owner": str(data.get("owner") or ""), **labels,
    }
    links = data.get("links") or {}
    lines = message.text.splitlines() or ["driftd"]
    since = _time(str(data.get("opened_at") or ""), message.now)
    alert = {
        "startsAt": iso(since), "annotations": {"summary": lines[0], "description": message.text[:MOST_TEXT], "message_id": message.key},
        **({"generatorURL": links["incident"]} if links.get("incident") else {}),
    }
    lasting = data.get("incident") is not None
    until = message.now if ended else message.now + (OPEN_FOR if lasting else timedelta(minutes=5))
    found = [{**alert, "labels": {**own, "severity": severity}, "endsAt": iso(until)}]
    if lasting:  # what it was before it got graver, or less grave
        found.append({**alert, "labels": {**own, "severity": "warn" if severity == "fail" else "fail"}, "endsAt": iso(message.now)})
    return found


def _time(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return min(found, otherwise)


class AlertmanagerChannel:
    """Posts alerts."""

    people = False

    def __init__(self, config: AlertmanagerConfig) -> None:
        self._config = config

    def send(self, message: Message) -> str:
        url = self._config.url.rstrip("/") + "/api/v2/alerts"
        token = reveal(self._config.token)
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
        body = json.dumps(alerts_of(message, self._config.labels)).encode()
        reply = request("POST", url, allow_hosts=self._config.allow_hosts, body=body, headers=headers)
        check(reply.status, reply.headers, f"alertmanager {shown(url)}", message.now)
        return f"status {reply.status}"


def _build(config: AlertmanagerConfig) -> Sender:
    return AlertmanagerChannel(config)


CHANNELS.register("alertmanager")(ChannelPlugin(AlertmanagerConfig, _build))
