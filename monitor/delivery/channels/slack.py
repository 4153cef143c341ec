"""slack: a bot that keeps a thread per incident, or an incoming webhook."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Literal
from urllib.request import Request

from pydantic import SecretStr, field_validator, model_validator

from checks.core.errors import DeliveryError
from monitor.config.types import Section, reveal
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.delivery.http import Deadline, Reply, request, shown
from monitor.delivery.retry import check
from monitor.ports import Message, Sender

MOST_CHARACTERS = 12_000
BLOCK_CHARACTERS = 3_000
MOST_BLOCKS = 50
PERMANENT = frozenset({
    "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "no_permission", "missing_scope",
    "channel_not_found", "not_in_channel", "is_archived", "org_login_required",
})
MALFORMED = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long", "invalid_arguments", "no_text"})


class SlackConfig(Section):
    """A bot's ``token`` and ``channel``, or the ``url`` of an incoming webhook; hosts that may be plain http or private."""

    kind: Literal["slack"] = "slack"
    token: SecretStr | None = None
    channel: str | None = None
    url: SecretStr | None = None
    api_url: str = "https://slack.com/api/"
    allow_hosts: list[str] = []

    @field_validator("url")
    @classmethod
    def _address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")) and value.get_secret_value() != "unset":
            raise ValueError("url must begin with https://")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> SlackConfig:
        if (self.url is None) == (self.token is None):
            raise ValueError("slack needs either token and channel, or url")
        if self.token is not None and not self.channel:
            raise ValueError("slack with a token needs a channel, such as '#ml-alerts'")
        return self


def escape(text: str) -> str:
    """Text of unknown origin as Slack shows it literally: no markup, no mentions, nothing that is not a character."""
    clean = text.encode("utf-8", "replace").decode().replace("\x00", "")
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def pieces(text: str) -> list[str]:
    """The escaped text in parts of at most 3000 characters, 12,000 in all, cut between lines and never inside an entity."""
    found: list[str] = []
    current, left = "", MOST_CHARACTERS
    for line in text.splitlines() or [""]:
        line = line[:1000]
        shown_as = escape(line)
        while len(shown_as) > BLOCK_CHARACTERS - 1 and line:
            line = line[:-100]
            shown_as = escape(line) + "…"
        if len(shown_as) + 1 > left:
            break
        left -= len(shown_as) + 1
        if len(current) + len(shown_as) + 1 > BLOCK_CHARACTERS:
            found.append(current)
            current = ""
        current += shown_as + "\n"
    return [*found, current][:MOST_BLOCKS]


def blocks(text: str) -> list[dict[str, Any]]:
    """The text as section blocks within Slack's limits."""
    return [{"type": "section", "text": {"type": "mrkdwn", "text": piece}} for piece in pieces(text)]


class SlackChannel:
    """Sends what slack-sdk builds, over driftd's own connection: checked addresses, a time-out for all of it, no redirect.

    The library retries nothing, and its logger, which would write the hook's URL, is silent.
    """

    people = True

    def __init__(self, config: SlackConfig) -> None:
        self._config = config
        self.threads = config.token is not None
        self._logger = logging.getLogger("driftd.slack")
        self._logger.disabled = True

    def send(self, message: Message) -> str:
        return self._hook(message) if self._config.url is not None else self._bot(message)

    def _carrier(self) -> Callable[[str, Request], Reply]:
        """Carries the requests of one message, which share its 15 seconds."""
        deadline = Deadline()

        def carry(url: str, made: Request) -> Reply:
            data = made.data
            body = data if isinstance(data, bytes) else b""
            hosts, headers = self._config.allow_hosts, dict(made.header_items())
            return request(made.get_method(), url, allow_hosts=hosts, body=body, headers=headers, deadline=deadline)

        return carry

    def _hook(self, message: Message) -> str:
        from slack_sdk.webhook import WebhookClient, WebhookResponse

        carry = self._carrier()

        class Client(WebhookClient):
            def _perform_http_request_internal(self, url: str, req: Request) -> Any:
                reply = carry(url, req)
                return WebhookResponse(url=url, status_code=reply.status, body=reply.body.decode("utf-8", "replace"), headers=dict(reply.headers))

        url = reveal(self._config.url) or ""
        client = Client(url, logger=self._logger, retry_handlers=[])
        made = blocks(message.text)
        reply = client.send(text=made[0]["text"]["text"], blocks=made)
        if reply.status_code == 400:  # perhaps Slack does not like the blocks: once more as plain text
            reply = client.send(text="\n".join(pieces(message.text)))
        check(reply.status_code, dict(reply.headers), f"slack {shown(url)}", message.now)
        if reply.body.strip() != "ok":
            raise DeliveryError(f"slack {shown(url)}: the reply was 200 but not 'ok'", retryable=True, sent=True)
        return "ok"

    def _bot(self, message: Message) -> str:
        from slack_sdk import WebClient

        carry = self._carrier()

        class Client(WebClient):
            def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
                reply = carry(url, req)
                text = reply.body.decode("utf-8", "replace")
                try:
                    json.loads(text)
                except ValueError:  # a proxy's page: the status tells what it was worth, and 200 without JSON is no success
                    text = json.dumps({"ok": False, "error": "not_json"})
                return {"status": reply.status, "headers": reply.headers, "body": text}

        client = Client(token=reveal(self._config.token), base_url=self._config.api_url, logger=self._logger, retry_handlers=[])
        channel, _, thread = message.thread.partition(":")
        made = blocks(message.text)
        options: dict[str, Any] = {"thread_ts": thread, "reply_broadcast": _loud(message)} if thread else {}
        call = {"channel": channel or self._config.channel or "", "text": made[0]["text"]["text"], "unfurl_links": False, **options}
        try:
            reply = self._called(client.chat_postMessage, message, blocks=made, **call)
        except DeliveryError as error:
            if str(error).partition(": ")[2] not in MALFORMED and error.status != 400:
                raise
            call["text"] = "\n".join(pieces(message.text))
            reply = self._called(client.chat_postMessage, message, **call)
        if thread:
            self._update(client, message, channel, thread, made)
            return message.thread
        return f"{reply.get('channel') or self._config.channel}:{reply.get('ts', '')}"

    def _update(self, client: Any, message: Message, channel: str, thread: str, made: list[dict[str, Any]]) -> None:
        """The incident's first message shows its state now; that it cannot be changed any more is no failure of the message."""
        if message.payload.get("type") == "incident.reminder":
            return
        try:
            self._called(client.chat_update, message, channel=channel, ts=thread, text=made[0]["text"]["text"], blocks=made)
        except DeliveryError:
            return

    @staticmethod
    def _called(method: Any, message: Message, **arguments: Any) -> Any:
        from slack_sdk.errors import SlackApiError

        try:
            reply = method(**arguments)
        except SlackApiError as error:
            status = int(getattr(error.response, "status_code", 200))
            headers = dict(getattr(error.response, "headers", {}) or {})
            data = error.response.data if isinstance(error.response.data, dict) else {}
            reason = str(data.get("error", "unknown"))
            if status != 400:
                check(status, headers, "slack", message.now)
            raise DeliveryError(
                f"slack: {reason}", retryable=reason not in PERMANENT | MALFORMED, sent=True, disable=reason in PERMANENT, status=status,
            ) from None
        return reply


def _loud(message: Message) -> bool:
    """Whether a message in a thread is shown in the channel, too: when it got graver, or was escalated."""
    why = str(message.payload.get("data", {}).get("why", ""))
    return why.startswith(("now fail", "open again", "not acknowledged", "rollback"))


def _build(config: SlackConfig) -> Sender:
    return SlackChannel(config)


CHANNELS.register("slack")(ChannelPlugin(SlackConfig, _build))
