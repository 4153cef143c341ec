"""webhook: a signed Standard Webhooks request."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import SecretStr, field_validator, model_validator

from checks.core.errors import DeliveryError
from monitor.alerting.messages import brief
from monitor.config.alerts import allowed
from monitor.config.types import Section, reveal
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.delivery.http import request, shown
from monitor.delivery.retry import check
from monitor.ports import Message, Sender

MOST_BYTES = 20_000
LONG = 300
MOST_TEXT = 4000


class WebhookConfig(Section):
    """``url``, the signing ``secret`` (``whsec_`` and base64, or any text), and hosts that may be plain http or private.

    While a secret is being rotated, ``previous_secret`` signs, too: the receiver may know either.
    """

    kind: Literal["webhook"] = "webhook"
    url: SecretStr
    secret: SecretStr | None = None
    previous_secret: SecretStr | None = None
    allow_hosts: list[str] = []

    @field_validator("url")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("http://", "https://")) and value.get_secret_value() != "unset":
            raise ValueError("url must begin with https:// (or http:// for a host in allow_hosts)")
        return value


    @model_validator(mode="after")
    def _reachable(self) -> WebhookConfig:
        allowed(self.url.get_secret_value(), self.allow_hosts)
        return self


def signing_key(secret: str) -> str:
    """A secret as the standardwebhooks package takes it: base64, with or without its prefix."""
    if secret.startswith("whsec_"):
        return secret
    return base64.b64encode(secret.encode()).decode()


def signed_headers(key: str, body: bytes, now: datetime, secrets: Sequence[str | None]) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature for every secret; without a secret, without a signature.

    ``now`` carries a time zone: the library mis-signs naive times.
    """
    from standardwebhooks import Webhook

    headers = {"content-type": "application/json", "webhook-id": key, "webhook-timestamp": str(int(now.timestamp()))}
    signatures = [Webhook(signing_key(secret)).sign(key, now, body.decode()) for secret in secrets if secret]
    if signatures:
        headers["webhook-signature"] = " ".join(signatures)
    return headers


def body_of(message: Message) -> bytes:
    """The JSON body, cut to what receivers take: first long texts are shortened, then drivers and members go."""
    payload = {**message.payload, "data": {**message.payload.get("data", {}), "text": brief(message.text, MOST_TEXT)}}
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=True).encode()
    if len(body) > MOST_BYTES:
        data = {**_shortened(payload.get("data", {})), "truncated": True}
        body = json.dumps({**payload, "data": data}, separators=(",", ":"), ensure_ascii=True).encode()
    if len(body) > MOST_BYTES:
        data = {**payload.get("data", {}), "drivers": [], "members": [], "text": brief(message.text, 1000), "truncated": True}
        for key in ("lines", "incidents", "monitors"):
            if key in data:
                data[key] = [str(item)[:200] for item in data[key][:40]]
        data["model_versions"] = dict(list((data.get("model_versions") or {}).items())[:20])
        data["cause"] = str(data.get("cause", ""))[:500]
        data["headline"] = str(data.get("headline", ""))[:2000]
        body = json.dumps({**payload, "data": data}, separators=(",", ":"), ensure_ascii=True).encode()
    return body


def _shortened(value: Any) -> Any:
    """Every long text inside it without its middle."""
    if isinstance(value, str):
        return brief(value, LONG)
    if isinstance(value, dict):
        return {brief(str(key), LONG): _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list | tuple) else value


class WebhookChannel:
    """Posts a message to one URL; a machine reads it, so each message goes by itself."""

    people = False

    def __init__(self, config: WebhookConfig) -> None:
        self._config = config

    def send(self, message: Message) -> str:
        body = body_of(message)
        if len(body) > MOST_BYTES:
            raise DeliveryError(f"the message has {len(body)} bytes; {MOST_BYTES} are the most", retryable=False)
        url = self._config.url.get_secret_value()
        secrets = (reveal(self._config.secret), reveal(self._config.previous_secret))
        headers = signed_headers(message.key, body, message.now, secrets)
        reply = request("POST", url, allow_hosts=self._config.allow_hosts, body=body, headers=headers)
        check(reply.status, reply.headers, shown(url), message.now)
        return f"status {reply.status}"


def _build(config: WebhookConfig) -> Sender:
    return WebhookChannel(config)


CHANNELS.register("webhook")(ChannelPlugin(WebhookConfig, _build))
