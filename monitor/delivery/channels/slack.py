"""slack: a bot that posts to a channel, or an incoming webhook."""

from __future__ import annotations

import logging
from typing import Any, Literal
from urllib.error import URLError

from pydantic import SecretStr, model_validator

from checks.core.errors import DeliveryError
from monitor.config.types import Section
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.delivery.http import shown
from monitor.delivery.retry import check
from monitor.ports import Message, Sender

MOST_CHARACTERS = 12_000
BLOCK_CHARACTERS = 3_000
MOST_BLOCKS = 50
TIMEOUT_SECONDS = 15
PERMANENT = frozenset({
    "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "no_permission", "missing_scope",
    "channel_not_found", "not_in_channel", "is_archived", "org_login_required",
})


class SlackConfig(Section):
    """A bot's ``token`` and ``channel``, or the ``url`` of an incoming webhook."""

    kind: Literal["slack"] = "slack"
    token: SecretStr | None = None
    channel: str | None = None
    url: SecretStr | None = None
    api_url: str = "https://slack.com/api/"

    @model_validator(mode="after")
    def _one_way(self) -> SlackConfig:
        if (self.url is None) == (self.token is None):
            raise ValueError("slack needs either token and channel, or url")
        if self.token is not None and not self.channel:
            raise ValueError("slack with a token needs a channel, such as '#ml-alerts'")
        return self


def escape(text: str) -> str:
    """Text of unknown origin as Slack shows it literally: no markup, no mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def blocks(text: str) -> list[dict[str, Any]]:
    """The text as section blocks within Slack's limits."""
    escaped = escape(text)[:MOST_CHARACTERS]
    pieces = [escaped[i : i + BLOCK_CHARACTERS] for i in range(0, len(escaped), BLOCK_CHARACTERS)]
    return [{"type": "section", "text": {"type": "mrkdwn", "text": piece}} for piece in pieces][:MOST_BLOCKS]


class SlackChannel:
    """Sends through slack-sdk, without its retries and with its logger, which would log the hook's URL, silenced."""

    def __init__(self, config: SlackConfig) -> None:
        self._config = config
        self._logger = logging.getLogger("driftd.slack")
        self._logger.disabled = True

    def send(self, message: Message) -> str:
        try:
            return self._hook(message) if self._config.url is not None else self._bot(message)
        except (URLError, OSError) as error:
            raise DeliveryError(f"slack: {type(error).__name__}", retryable=True, sent=True) from None

    def _hook(self, message: Message) -> str:
        from slack_sdk.webhook import WebhookClient

        assert self._config.url is not None
        url = self._config.url.get_secret_value()
        client = WebhookClient(url, timeout=TIMEOUT_SECONDS, logger=self._logger, retry_handlers=[])
        reply = client.send(text=escape(message.text)[:BLOCK_CHARACTERS], blocks=blocks(message.text))
        check(reply.status_code, dict(reply.headers), f"slack {shown(url)}", message.now)
        if reply.body.strip() != "ok":
            raise DeliveryError(f"slack {shown(url)}: the reply was 200 but not 'ok'", retryable=True, sent=True)
        return "ok"

    def _bot(self, message: Message) -> str:
        from slack_sdk import WebClient
        from slack_sdk.errors import SlackApiError

        assert self._config.token is not None
        client = WebClient(
            token=self._config.token.get_secret_value(), base_url=self._config.api_url, timeout=TIMEOUT_SECONDS,
            logger=self._logger, retry_handlers=[],
        )
        try:
            reply = client.chat_postMessage(
                channel=self._config.channel or "", text=escape(message.text)[:BLOCK_CHARACTERS], blocks=blocks(message.text),
                unfurl_links=False,
            )
        except SlackApiError as error:
            status = int(getattr(error.response, "status_code", 200))
            check(status, dict(getattr(error.response, "headers", {}) or {}), "slack", message.now)
            reason = str(error.response.get("error", "unknown")) if isinstance(error.response.data, dict) else "not JSON"
            raise DeliveryError(
                f"slack: {reason}", retryable=reason not in PERMANENT, sent=True, disable=reason in PERMANENT, status=status,
            ) from None
        return str(reply.get("ts", "ok"))


def _build(config: SlackConfig) -> Sender:
    return SlackChannel(config)


CHANNELS.register("slack")(ChannelPlugin(SlackConfig, _build))
