"""pagerduty: Events API v2; an incident is one alert there, from trigger to resolve."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import SecretStr

from monitor.alerting.incidents import over, went_wrong
from monitor.config.types import Section, reveal
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.delivery.http import request, shown
from monitor.delivery.retry import check
from monitor.ports import Message, Sender

SEVERITY = {"fail": "critical", "warn": "warning"}
MOST_SUMMARY = 1024
MOST_DETAIL = 8000
NO_PAGE = frozenset({"incident.summary", "incident.digest", "drift.held_back"})
"""What is for reading and not for waking: its incidents have pages of their own, or none."""


class PagerDutyConfig(Section):
    """The ``routing_key`` of an Events API v2 integration."""

    kind: Literal["pagerduty"] = "pagerduty"
    routing_key: SecretStr
    url: str = "https://events.pagerduty.com/v2/enqueue"
    allow_hosts: list[str] = []


def event_of(message: Message, routing_key: str) -> dict[str, Any]:
    """The event: what is said of an incident that is over resolves, everything else triggers under the same ``dedup_key``, the
    incident's id. A rollback that went wrong after the end is a page of its own, which a person closes."""
    data = message.payload.get("data", {})
    ended = over(message.payload)
    lines = message.text.splitlines() or ["driftd"]
    key = str(data.get("incident") or message.key)
    if ended and went_wrong(message.payload):
        ended, key = False, f"{key}/rollback"
    event: dict[str, Any] = {"routing_key": routing_key, "event_action": "resolve" if ended else "trigger", "dedup_key": key}
    if ended:
        return event
    link = (data.get("links") or {}).get("incident")
    return {
        **event,
        "payload": {
            "summary": lines[0][:MOST_SUMMARY], "source": str(data.get("monitor") or "driftd"), "timestamp": str(message.payload.get("timestamp")),
            "severity": SEVERITY.get(str(data.get("severity")), "warning"), "component": str(data.get("monitor") or "driftd"),
            "class": str(data.get("family") or "driftd"), "group": str(data.get("owner") or ""),
            "custom_details": {"message": message.text[:MOST_DETAIL], "message_id": message.key},
        },
        "client": "driftd", **({"links": [{"href": link, "text": "incident"}]} if link else {}),
    }


class PagerDutyChannel:
    """Sends events: each by itself, as a resolve closes only what a trigger has opened."""

    people = False

    def __init__(self, config: PagerDutyConfig) -> None:
        self._config = config

    def send(self, message: Message) -> str:
        if message.payload.get("type") in NO_PAGE:
            return "nothing to page for"
        body = json.dumps(event_of(message, reveal(self._config.routing_key) or "")).encode()
        headers = {"content-type": "application/json"}
        reply = request("POST", self._config.url, allow_hosts=self._config.allow_hosts, body=body, headers=headers)
        check(reply.status, reply.headers, f"pagerduty {shown(self._config.url)}", message.now)
        return f"status {reply.status}"


def _build(config: PagerDutyConfig) -> Sender:
    return PagerDutyChannel(config)


CHANNELS.register("pagerduty")(ChannelPlugin(PagerDutyConfig, _build))
