"""Rollbacks of other systems by templates: a plain endpoint, an MLflow alias, an Argo Rollouts abort, a GitHub-style dispatch; actions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr, ValidationError
from standardwebhooks import Webhook

from checks.core.errors import DeliveryError
from monitor.config.alerts import Action, RollbackConfig
from monitor.config.template import evaluate, render
from monitor.delivery.calls import live, post
from monitor.delivery.channels.webhook import signing_key
from tests.receiver import Receiver, Request, Script
from tests.streams import Stream, nulls
from tests.world import World

LOCAL = ["127.0.0.1"]
PAYLOAD: dict[str, Any] = {
    "type": "rollback.requested", "timestamp": "2024-03-01T12:00:00Z",
    "data": {
        "incident": "INC-3", "monitor": "fraud", "from_version": "v8", "to_version": "v7", "expected_current_version": "v8", "reason": 'null "score"', "not_after": None,
        "dry_run": False,
    },
}
DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


def documented(name: str, base: str) -> RollbackConfig:
    """The example of that name in the documentation, on the test's own server."""
    text = DOCS.read_text().partition("```yaml\n")[2].partition("```")[0]
    example = next(part for part in text.split("\n\n") if part.startswith(f"# {name}"))
    data = yaml.safe_load(example)["rollback"]
    for key in ("url", "status_url"):
        if key in data:
            data[key] = base + "/" + data[key].split("/", 3)[3]
    return RollbackConfig.model_validate({**data, "allow_hosts": LOCAL})


def sent(receiver: Receiver, config: RollbackConfig) -> Request:
    post(config, PAYLOAD, "msg_1", datetime.now(UTC))
    return receiver.ledger[-1]


def test_a_plain_endpoint_gets_a_signed_standard_webhook(receiver: Receiver) -> None:
    config = documented("a plain endpoint", receiver.url).model_copy(update={"secret": SecretStr("s")})
    got = sent(receiver, config)
    assert (got.method, got.path, got.json) == ("POST", "/rollback", PAYLOAD)
    assert Webhook(signing_key("s")).verify(got.body, got.headers) == PAYLOAD
    receiver.default = Script(200, json.dumps({"version": "v8", "in_progress": True}))
    assert live(config, PAYLOAD, "msg_1") == ("v8", True)


def test_mlflow_moves_an_alias_and_tells_which_version_has_it(receiver: Receiver) -> None:
    config = documented("MLflow", receiver.url)
    got = sent(receiver, config)
    assert (got.path, got.json) == ("/api/2.0/mlflow/registered-models/alias", {"name": "fraud", "alias": "champion", "version": "7"})
    receiver.default = Script(200, json.dumps({"model_version": {"name": "fraud", "version": "7"}}))
    assert live(config, PAYLOAD, "msg_1") == ("v7", False)
    assert receiver.ledger[-1].path == "/api/2.0/mlflow/registered-models/alias?name=fraud&alias=champion"


def test_argo_rollouts_aborts(receiver: Receiver) -> None:
    config = documented("Argo Rollouts", receiver.url)
    got = sent(receiver, config)
    assert (got.method, got.path, got.json) == ("PUT", "/api/v1/rollouts/ml/fraud/abort", {"name": "fraud", "namespace": "ml"})
    receiver.default = Script(200, json.dumps({"status": "Progressing", "containers": [{"image": "registry/fraud:v8"}]}))
    assert live(config, PAYLOAD, "msg_1") == ("v8", True)


def test_a_dispatch_in_githubs_style(receiver: Receiver) -> None:
    config = documented("a GitHub-style dispatch", receiver.url).model_copy(update={"headers": {"authorization": SecretStr("Bearer T0KEN")}})
    receiver.default = Script(204, "")
    got = sent(receiver, config)
    assert got.json == {"event_type": "rollback", "client_payload": {"to": "v7", "from": "v8", "id": "msg_1"}}
    assert got.headers["authorization"] == "Bearer T0KEN"
    assert live(config, PAYLOAD, "msg_1") == (None, False)


@pytest.mark.parametrize(
    "text",
    ["{{ ''.__class__.__mro__ }}", "{{ payload.__init__.__globals__ }}", "{{ missing }}", "{{ lipsum.__globals__ }}", "{% for i in range(10 ** 9) %}x{% endfor %}", "{{ 'x' * 100000 }}", "{{ data.update({}) }}"],
)
def test_a_template_reaches_nothing_but_its_facts(text: str) -> None:
    with pytest.raises(ValueError, match="template"):
        render(text, {"payload": {}, "data": {}})


def test_templates_and_expressions_are_checked_when_they_are_read(receiver: Receiver) -> None:
    for broken in ({"body": "{{ oh"}, {"status_version": "reply."}, {"url": "ftp://x/"}, {"method": "GET"}):
        with pytest.raises(ValidationError):
            RollbackConfig.model_validate({"url": "https://x.example/", **broken})
    assert evaluate("reply.a.b.c", {"reply": {}}) is None
    config = RollbackConfig(url=receiver.url, body="{{ to_version.of.nobody }}", allow_hosts=LOCAL)
    with pytest.raises(DeliveryError) as caught:
        post(config, PAYLOAD, "k", datetime.now(UTC))
    assert not caught.value.retryable
    assert not caught.value.sent
    assert receiver.ledger == []


@pytest.mark.parametrize("reply", [Script(500, "{}"), Script(200, "no json"), Script(200, "[]"), Script(drop=True), Script(302, "", {"location": "/x"})])
def test_a_status_that_says_nothing_is_no_version(receiver: Receiver, reply: Script) -> None:
    receiver.default = reply
    assert live(RollbackConfig(url=receiver.url, status_url=receiver.url + "/live", allow_hosts=LOCAL), PAYLOAD, "k") == (None, False)


def test_what_an_action_is_for() -> None:
    action = Action(on="quality.fail", url="https://x.example/")
    assert action.meant("quality", "fail")
    assert not action.meant("quality", "warn")
    assert not action.meant("drift", "fail")
    assert Action(on="drift", url="https://x.example/").meant("drift", "warn")
    with pytest.raises(ValidationError, match="no event"):
        Action(on="weather", url="https://x.example/")


def test_an_action_is_sent_once_for_an_incident_and_not_again_when_its_reply_is_lost(tmp_path: Path, receiver: Receiver) -> None:
    contract = tmp_path / "c.yaml"
    contract.write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n    properties:\n"
        + "".join(f"      - {{name: {n}}}\n" for n in ("id", "at", "x0", "x1", "score", "version", "latency")) + "      - {name: c0, required: true}\n"
    )
    action = {"on": "contract.fail", "purpose": "retrain", "url": receiver.url + "/train", "allow_hosts": LOCAL, "body": '{"model": {{ monitor | json }}, "why": {{ headline | json }}}'}
    receiver.script.append(Script(drop=True))
    world = World(tmp_path, Stream(faults={42: [nulls("c0", 0.05)], 43: [nulls("c0", 0.05)]}), contract="c.yaml", actions=[action])
    world.days(6)
    assert [r.json["model"] for r in receiver.ledger] == ["m"]
    with world.app.store.read() as connection:
        from monitor.store import tables

        (row,) = connection.execute(tables.outbox.select().where(tables.outbox.c.kind == "action")).all()
    assert row.state == "unknown"
