"""Channels against what they are for: a real Alertmanager, a real mail server, scripted servers for the rest; golden payloads."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from checks.core.errors import DeliveryError
from monitor.delivery.channels import CHANNELS
from monitor.delivery.channels.alertmanager import AlertmanagerChannel, AlertmanagerConfig
from monitor.delivery.channels.apprise import AppriseChannel, AppriseConfig
from monitor.delivery.channels.email import EmailChannel, EmailConfig, mail_of
from monitor.delivery.channels.pagerduty import PagerDutyChannel, PagerDutyConfig
from monitor.delivery.channels.slack import SlackChannel, SlackConfig, blocks
from monitor.delivery.channels.webhook import WebhookChannel, WebhookConfig, signing_key
from monitor.ports import Message
from tests.conftest import absent
from tests.receiver import Receiver, Script

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
LOCAL = ["127.0.0.1"]
PAUSE = threading.Event()


def message(kind: str = "fired", sequence: int = 1, text: str = "FIRING [fail] m: temp is bad (INC-7, message 1)\n- 30% of 1,000 rows\nOwner: ops.", **data: Any) -> Message:
    body = {
        "incident": "INC-7", "sequence": sequence, "covers": [sequence], "monitor": "m", "family": "data", "severity": "fail", "owner": "ops",
        "headline": "temp is bad", "why": "", "opened_at": "2024-03-01T11:00:00Z", "links": {}, **data,
    }
    now = datetime.now(UTC)
    return Message(f"msg_{sequence}", {"type": f"incident.{kind}", "timestamp": "2024-03-01T12:00:00Z", "data": body}, text, sequence, now)


def awkward() -> Message:
    """Whatever data may hold: markup, lone surrogates, NUL, right-to-left, a very long name."""
    return message(text="FIRING <!channel> & *x* \ud800 \x00 \u202eabc " + "n" * 10_000 + "\n" + "\n".join(f"- column {k} " + "x" * 5000 for k in range(80)))


# -- golden payloads

def test_pagerduty_gets_one_alert_per_incident_from_trigger_to_resolve(receiver: Receiver) -> None:
    receiver.default = Script(202, '{"status": "success"}')
    channel = PagerDutyChannel(PagerDutyConfig(routing_key=SecretStr("R0UTE"), url=receiver.url, allow_hosts=LOCAL))
    channel.send(message())
    channel.send(message("resolved", 2))
    first, second = (r.json for r in receiver.ledger)
    assert first == {
        "routing_key": "R0UTE", "event_action": "trigger", "dedup_key": "INC-7", "client": "driftd",
        "payload": {
            "summary": "FIRING [fail] m: temp is bad (INC-7, message 1)", "source": "m", "timestamp": "2024-03-01T12:00:00Z", "severity": "critical",
            "component": "m", "class": "data", "group": "ops", "custom_details": {"message": message().text, "message_id": "msg_1"},
        },
    }
    assert second == {"routing_key": "R0UTE", "event_action": "resolve", "dedup_key": "INC-7"}
    channel.send(awkward())
    assert len(receiver.ledger[2].json["payload"]["summary"]) <= 1024


def test_slack_gets_escaped_blocks(receiver: Receiver) -> None:
    SlackChannel(SlackConfig(url=SecretStr(receiver.url + "/x"), allow_hosts=LOCAL)).send(message(text="FIRING <!channel> a & b"))
    assert receiver.ledger[0].json == {
        "text": "FIRING &lt;!channel&gt; a &amp; b\n", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "FIRING &lt;!channel&gt; a &amp; b\n"}}],
    }


def test_alertmanager_gets_labels_that_stay_the_same_and_ends_the_warning_of_a_fail(receiver: Receiver) -> None:
    channel = AlertmanagerChannel(AlertmanagerConfig(url=receiver.url, labels={"team": "ml"}, allow_hosts=LOCAL))
    channel.send(message())
    channel.send(message("resolved", 2))
    fired, ended = (r.json for r in receiver.ledger)
    assert receiver.ledger[0].path == "/api/v2/alerts"
    assert fired[0]["labels"] == {
        "alertname": "driftd_data", "monitor": "m", "incident": "INC-7", "family": "data", "owner": "ops", "team": "ml", "severity": "fail",
    }
    assert [a["labels"]["severity"] for a in fired] == ["fail", "warn"]
    assert fired[0]["startsAt"] == "2024-03-01T11:00:00Z"
    assert [a["labels"] for a in ended] == [a["labels"] for a in fired]
    assert all(datetime.fromisoformat(a["endsAt"]) <= datetime.now(UTC) for a in ended)


def test_a_mail_has_text_and_html_and_an_id_that_shows_a_duplicate() -> None:
    config = EmailConfig(host="x", sender="driftd@example.org", to=["a@example.org"])
    mail = mail_of(message(text="FIRING <b>\nsecond"), config)
    assert (mail["Subject"], mail["Message-ID"], mail["References"]) == ("FIRING <b>", "<msg_1@example.org>", "<INC-7.driftd@example.org>")
    text, page = mail.get_payload()  # type: ignore[misc]
    assert "FIRING <b>" in text.get_content()  # type: ignore[union-attr]
    assert "FIRING &lt;b&gt;" in page.get_content()  # type: ignore[union-attr]
    assert mail_of(awkward(), config).as_bytes()


@pytest.mark.parametrize("kind", ["slack", "webhook", "pagerduty", "alertmanager", "log"])
def test_every_channel_carries_whatever_data_may_hold(kind: str, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, dict[str, Any]] = {
        "slack": {"url": receiver.url, "allow_hosts": LOCAL}, "webhook": {"url": receiver.url, "allow_hosts": LOCAL},
        "pagerduty": {"routing_key": "r", "url": receiver.url, "allow_hosts": LOCAL}, "alertmanager": {"url": receiver.url, "allow_hosts": LOCAL}, "log": {},
    }
    plugin = CHANNELS[kind]
    plugin.build(plugin.config.model_validate({"kind": kind, **options[kind]})).send(awkward())
    if kind == "log":
        assert json.loads(capsys.readouterr().out)["type"] == "incident.fired"
    else:
        assert json.loads(receiver.ledger[0].body)


def test_slack_blocks_keep_every_limit() -> None:
    made = blocks(awkward().text)
    assert len(made) <= 50
    assert all(len(b["text"]["text"]) <= 3000 for b in made)
    assert sum(len(b["text"]["text"]) for b in made) <= 12_000
    assert all(not b["text"]["text"].rstrip("\n").endswith(("&", "&a", "&am", "&amp", "&l", "&lt", "&g", "&gt")) for b in blocks("<&>" * 40_000))


# -- webhook

def test_while_a_secret_is_rotated_both_verify(receiver: Receiver) -> None:
    channel = WebhookChannel(WebhookConfig(url=SecretStr(receiver.url), secret=SecretStr("new"), previous_secret=SecretStr("old"), allow_hosts=LOCAL))
    channel.send(message())
    (got,) = receiver.ledger
    for secret in ("new", "old"):
        assert Webhook(signing_key(secret)).verify(got.body, got.headers)
        signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
        independent = "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
        assert independent in got.headers["webhook-signature"].split(" ")
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(signing_key("another")).verify(got.body, got.headers)


# -- slack, scripted

def hook(receiver: Receiver) -> SlackChannel:
    return SlackChannel(SlackConfig(url=SecretStr(receiver.url + "/services/T0/SECRETPATH"), allow_hosts=LOCAL))


@pytest.mark.parametrize(
    ("script", "retryable"),
    [
        (Script(200, "ok"), None), (Script(200, "no_text"), True), (Script(429, "", {"retry-after": "30"}), True),
        (Script(302, "", {"location": "/elsewhere"}), False), (Script(500, "no"), True), (Script(drop=True), True), (Script(410, "gone"), False),
    ],
)
def test_what_an_incoming_webhook_of_slack_answers(receiver: Receiver, script: Script, retryable: bool | None) -> None:
    receiver.script.append(script)
    if retryable is None:
        assert hook(receiver).send(message()) == "ok"
    else:
        with pytest.raises(DeliveryError) as caught:
            hook(receiver).send(message())
        assert caught.value.retryable is retryable
        assert "SECRETPATH" not in str(caught.value)
        assert caught.value.retry_after == (30 if script.status == 429 else None)
    assert len(receiver.ledger) == 1, "neither redirect nor a second request"


def test_what_slack_calls_malformed_goes_once_more_as_plain_text_and_is_then_dead(receiver: Receiver) -> None:
    receiver.script.append(Script(400, "invalid_blocks"))
    assert hook(receiver).send(message()) == "ok"
    assert "blocks" not in receiver.ledger[1].json
    receiver.script.extend([Script(400, "invalid_blocks"), Script(400, "invalid_payload")])
    with pytest.raises(DeliveryError) as caught:
        hook(receiver).send(message())
    assert not caught.value.retryable


def test_a_bot_keeps_a_thread_per_incident_and_updates_its_first_message(receiver: Receiver) -> None:
    channel = SlackChannel(SlackConfig(token=SecretStr("xoxb-SECRET"), channel="#ml", api_url=receiver.url + "/api/", allow_hosts=LOCAL))
    receiver.default = Script(200, json.dumps({"ok": True, "channel": "C7", "ts": "17.1"}))
    receipt = channel.send(message())
    assert receipt == "C7:17.1"
    resolved = message("resolved", 2, "RESOLVED m")
    channel.send(Message(resolved.key, resolved.payload, resolved.text, 2, resolved.now, receipt))
    calls = [(r.path, r.json if r.headers["content-type"].startswith("application/json") else {k: v[0] for k, v in parse_qs(r.body.decode()).items()}) for r in receiver.ledger]
    assert [path for path, _ in calls] == ["/api/chat.postMessage", "/api/chat.postMessage", "/api/chat.update"]
    assert (calls[1][1]["channel"], str(calls[1][1]["thread_ts"])) == ("C7", "17.1")
    assert (calls[2][1]["channel"], str(calls[2][1]["ts"])) == ("C7", "17.1")
    receiver.script.extend([Script(200, json.dumps({"ok": True, "channel": "C7", "ts": "17.2"})), Script(200, json.dumps({"ok": False, "error": "cant_update_message"}))])
    assert channel.send(Message(resolved.key, resolved.payload, resolved.text, 3, resolved.now, receipt)) == receipt, "the message is there, its thread's head is only not renewed"


@pytest.mark.parametrize(
    ("script", "retryable", "disable"),
    [
        (Script(200, '{"ok": false, "error": "token_revoked"}'), False, True), (Script(200, '{"ok": false, "error": "internal_error"}'), True, False),
        (Script(200, "<html>a proxy's page</html>"), True, False), (Script(302, "", {"location": "/elsewhere"}), False, False),
        (Script(500, "no"), True, False), (Script(429, "{}", {"retry-after": "7"}), True, False), (Script(drop=True), True, False),
    ],
)
def test_what_slacks_api_answers_a_bot(receiver: Receiver, script: Script, retryable: bool, disable: bool) -> None:
    channel = SlackChannel(SlackConfig(token=SecretStr("xoxb-SECRET"), channel="#ml", api_url=receiver.url + "/api/", allow_hosts=LOCAL))
    receiver.script.append(script)
    with pytest.raises(DeliveryError) as caught:
        channel.send(message())
    assert (caught.value.retryable, caught.value.disable) == (retryable, disable)
    assert "SECRET" not in str(caught.value)
    assert len(receiver.ledger) == 1


# -- apprise

def test_apprise_sends_and_follows_no_redirect(receiver: Receiver) -> None:
    channel = AppriseChannel(AppriseConfig(url=SecretStr(receiver.url.replace("http://", "json://") + "/secretpath")))
    channel.send(message())
    assert receiver.ledger[0].json["title"].startswith("FIRING [fail] m: temp is bad")
    receiver.script.append(Script(302, "", {"location": "/elsewhere"}))
    with pytest.raises(DeliveryError) as caught:
        channel.send(message())
    assert caught.value.retryable
    assert "secretpath" not in str(caught.value)
    assert len(receiver.ledger) == 2
    with pytest.raises(DeliveryError, match="does not know this URL"):
        AppriseChannel(AppriseConfig(url=SecretStr("nonsense://x"))).send(message())


# -- a real mail server

class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.reply = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return self.reply


def certificate(folder: Path) -> tuple[Path, Path]:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True,
    )
    return folder / "cert.pem", folder / "key.pem"


def test_a_mail_goes_over_starttls_to_a_real_server_and_is_tried_again_when_it_is_busy(tmp_path: Path) -> None:
    import ssl

    from aiosmtpd.controller import Controller

    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    box = Mailbox()
    server = Controller(box, hostname="localhost", port=free_port(), tls_context=context, require_starttls=True)
    server.start()
    try:
        config = EmailConfig(host="localhost", port=server.port, sender="driftd@example.org", to=["a@example.org", "b@example.org"], ca_file=str(cert))
        assert EmailChannel(config).send(message()) == "2 of 2 addresses"
        (got,) = box.mails
        assert got.rcpt_tos == ["a@example.org", "b@example.org"]
        assert b"Message-ID: <msg_1@example.org>" in got.content
        assert b"text/html" in got.content
        box.reply = "451 busy"
        with pytest.raises(DeliveryError) as caught:
            EmailChannel(config).send(message())
        assert caught.value.retryable
        box.reply = "554 never"
        with pytest.raises(DeliveryError) as caught:
            EmailChannel(config).send(message())
        assert not caught.value.retryable
        with pytest.raises(DeliveryError, match="SSLCertVerificationError"):
            EmailChannel(config.model_copy(update={"ca_file": None})).send(message())
    finally:
        server.stop()
    with pytest.raises(DeliveryError) as caught:
        EmailChannel(config).send(message())
    assert caught.value.retryable
    assert not caught.value.sent


# -- a real Alertmanager

def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[str]:
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        absent("Debian's prometheus-alertmanager")
        return
    (tmp_path / "am.yml").write_text(
        "route: {receiver: out, group_by: [monitor], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}\n"
        f"receivers:\n- name: out\n  webhook_configs:\n  - {{url: '{receiver.url}/am', send_resolved: true}}\n"
    )
    port = free_port()
    process = subprocess.Popen(
        [binary, f"--config.file={tmp_path}/am.yml", f"--storage.path={tmp_path}/am", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urlopen(UrlRequest(url + "/-/ready"), timeout=5).close()
                break
            except OSError:
                PAUSE.wait(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def alerts(url: str) -> list[Any]:
    with urlopen(url + "/api/v2/alerts", timeout=10) as reply:
        found: list[Any] = json.load(reply)
    return found


def test_a_real_alertmanager_receives_groups_and_resolves(alertmanager: str, receiver: Receiver) -> None:
    channel = AlertmanagerChannel(AlertmanagerConfig(url=alertmanager, allow_hosts=LOCAL))
    channel.send(message(severity="warn", opened_at=(datetime.now(UTC) - timedelta(minutes=3)).isoformat()))
    assert [a["labels"]["severity"] for a in alerts(alertmanager)] == ["warn"]
    channel.send(message("updated", 2))
    channel.send(message(incident="INC-8", family="drift", severity="warn"))
    assert sorted(a["labels"]["incident"] + a["labels"]["severity"] for a in alerts(alertmanager)) == ["INC-7fail", "INC-8warn"]

    def told() -> list[Any]:
        return [json.loads(r.body) for r in receiver.ledger]

    def until(condition: Any) -> None:
        for _ in range(300):
            if condition():
                return
            PAUSE.wait(0.1)
        raise AssertionError(told())

    until(lambda: any({a["labels"]["incident"] for a in t["alerts"] if a["status"] == "firing"} == {"INC-7", "INC-8"} for t in told()))
    assert {t["groupLabels"]["monitor"] for t in told()} == {"m"}, "both incidents of the monitor are one group"
    channel.send(message("resolved", 3))
    channel.send(message("resolved", 2, incident="INC-8", family="drift", severity="warn"))
    until(lambda: told()[-1]["status"] == "resolved")
    assert alerts(alertmanager) == []
