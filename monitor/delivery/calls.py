"""Requests that driftd makes of other systems: a signed Standard Webhooks body, or whatever a template says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from checks.core.errors import DeliveryError
from monitor.config.alerts import Action, Call, RollbackConfig
from monitor.config.model import MonitorConfig
from monitor.config.template import evaluate, render
from monitor.config.types import reveal
from monitor.delivery.channels.webhook import signed_headers
from monitor.delivery.http import Reply, request, shown
from monitor.delivery.retry import check
from monitor.ports import Message


def facts_of(payload: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What a template knows: the payload's data by name, the whole ``payload``, and the ``id`` of the request."""
    return {**payload.get("data", {}), "payload": dict(payload), "id": key}


def body_of(call: Call, payload: Mapping[str, Any], key: str) -> bytes:
    """The body of a request; `DeliveryError` when its template cannot be filled in."""
    if call.body is None:
        return json.dumps(payload, separators=(",", ":")).encode()
    try:
        return render(call.body, facts_of(payload, key)).encode()
    except ValueError as error:
        raise DeliveryError(str(error), retryable=False) from None


def post(call: Call, payload: Mapping[str, Any], key: str, now: datetime) -> Reply:
    """Send the request once; `DeliveryError.sent` says whether it may have had an effect.

    The URL is a template, too, over the same facts.
    """
    body = body_of(call, payload, key)
    headers = signed_headers(key, body, now, (reveal(call.secret),))
    headers |= {name.lower(): reveal(value) or "" for name, value in call.headers.items()}
    return request(call.method, url_of(call.url or "", payload, key), allow_hosts=call.allow_hosts, body=body, headers=headers)


def url_of(text: str, payload: Mapping[str, Any], key: str) -> str:
    """A URL with its places filled in."""
    if "{" not in text:
        return text
    try:
        return render(text, facts_of(payload, key), address=True)
    except ValueError as error:
        raise DeliveryError(str(error), retryable=False) from None


def live(config: RollbackConfig, payload: Mapping[str, Any], key: str) -> tuple[str | None, bool]:
    """The version that ``status_url`` says is live, and whether a change is in progress; (None, False) when it does not say."""
    if config.status_url is None:
        return None, False
    try:
        headers = {name.lower(): reveal(value) or "" for name, value in config.status_headers.items()}
        reply = request("GET", url_of(config.status_url, payload, key), allow_hosts=config.allow_hosts, headers=headers)
        if not 200 <= reply.status < 300:
            return None, False
        facts = {**facts_of(payload, key), "reply": json.loads(reply.body)}
    except (DeliveryError, ValueError, RecursionError):
        return None, False
    version = evaluate(config.status_version, facts)
    busy = evaluate(config.status_in_progress, facts)
    return (None if version is None else str(version)), busy is True or str(busy).lower() == "true"


class ActionSender:
    """Sends the actions of a monitor's incidents: each once, without the guards of a rollback."""

    people = False

    def __init__(self, action: Action) -> None:
        self._action = action

    def send(self, message: Message) -> str:
        reply = post(self._action, message.payload, message.key, message.now)
        check(reply.status, reply.headers, f"action {self._action.purpose} {shown(self._action.url or '')}", message.now)
        return f"status {reply.status}"


def action_senders(monitors: Mapping[str, MonitorConfig]) -> dict[str, ActionSender]:
    """A sender for every action, by its destination."""
    return {
        f"action:{name}:{action.key}": ActionSender(action) for name, monitor in monitors.items() for action in monitor.actions
    }
