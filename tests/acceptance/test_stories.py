"""Three stories, whole: a bad release on a Friday, an upstream outage, a weekly retraining."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.harness import CONTRACT, SECRETS, Deployments, House
from tests.receiver import Receiver, Script
from tests.streams import START, Stream, nulls

pytestmark = pytest.mark.xdist_group("stories")
HOUR = timedelta(hours=1)


@pytest.fixture
def deployments() -> Iterator[Deployments]:
    server = Deployments("v1")
    yield server
    server.released.set()
    server.close()


def hourly(house: House, hours: int, name: str = "m", **keys: Any) -> None:
    """A monitor with windows of an hour whose reference is the first ``hours``."""
    base: dict[str, Any] = {
        "window": {"size": "1h", "lateness": "5m"}, "start": (START + hours * HOUR).isoformat(), "schedule": {"every": "10m"}, "labels": None,
        "reference": {"from": START.isoformat(), "to": (START + hours * HOUR).isoformat()}, "drift": {"budget": "1 per 365d"},
    }
    house.monitor(name, **(base | keys))


def at_hour(house: House, hour: float, minutes: float = 6) -> None:
    house.moment(START + hour * HOUR + timedelta(minutes=minutes))


def rollback_state(house: House) -> str:
    rows = house.query("SELECT state FROM rollback ORDER BY id DESC")
    return str(rows[0][0]) if rows else ""


def test_a_bad_friday_release_is_rolled_back_once_and_verified(tmp_path: Path, receiver: Receiver, deployments: Deployments) -> None:
    """v2 goes live in hour 112 (a Friday afternoon): 30% of its scores are null. Labels come in 45 days; Slack is down; the
    deployment API drops its reply and takes 90 s; somebody acknowledges; the daemon is killed while the API works on it."""
    first = 112
    stream = Stream(rows=150, numbers=1, categories=0, step=HOUR, versions={0: "v1", first: "v2"}, faults={k: [nulls("score", 0.3)] for k in range(first, 400)})
    house = House(tmp_path, receiver, stream)
    (tmp_path / "contract.yaml").write_text(CONTRACT.replace("      - {name: x1}\n", "").replace("      - {name: c0, required: true}\n", ""))
    slack_down = [True]
    receiver.choose = lambda request: Script(503) if request.path == "/slack" and slack_down[0] else None
    house.config["channels"]["chat"] = {"kind": "slack", "url": receiver.url + "/slack", "allow_hosts": ["127.0.0.1"]}
    house.config["owners"] |= {"ops": {"channels": ["chat", "hook"]}, "platform": {"channels": ["hook"]}}
    hourly(
        house, 100, labels={"source": str(tmp_path / "labels"), "complete": 0.9, "late_after": "60d", "give_up": "60d"}, end=(START + 117 * HOUR).isoformat(), task="binary", quality={"min_rows": 50, "deployment": {"watch": "0d"}},
        columns={"timestamp": "at", "id": "id", "score": "score", "version": "version", "ignore": ["x0", "latency"]},
        rollback={
            "mode": "auto", "url": deployments.url + "/rollback", "status_url": deployments.url + "/live", "secret": SECRETS["rollback"], "settle": "10m",
            "allow_hosts": ["127.0.0.1"],
        },
    )
    house.stream.write(tmp_path, range(10))
    house.stream.write(tmp_path, range(10, 112), labels=False)
    house.written = 112
    deployments.version = "v2"  # somebody has just deployed it
    deployments.script, deployments.in_progress = ["later"], True

    def live_on(version: str) -> None:
        """What the deployment API does shows in the log at once."""
        if version == "v1":
            house.stream.versions[113] = "v1"
            for k in range(113, 400):
                house.stream.faults.pop(k, None)

    deployments.on_change = live_on
    at_hour(house, 112)
    with house.daemon() as process:
        house.until(lambda: house.windows() == 12, "twelve good hours", process, tries=1500)
        assert house.told() == []
        house.stream.write(tmp_path, range(112, 113), labels=False)
        at_hour(house, 113)
        house.until(lambda: rollback_state(house) == "unknown", "the request, whose reply is lost", process, tries=1500)
        assert "rollback from v2 to v1 is unknown" in house.command("ack", "INC-1", "--by", "ann").stdout
        process.send_signal(signal.SIGKILL)  # while the API still works on it
        process.wait(30)
    house.later(seconds=60)
    with house.daemon() as process:
        house.until(lambda: house.ready().get("delivery_rounds", 0) >= 4, "a daemon that asks which version is live", process, tries=1500)
        assert (rollback_state(house), len(deployments.calls)) == ("unknown", 1), "in progress: it is waited for"
        house.later(seconds=30)
        deployments.finish()
        house.until(lambda: rollback_state(house) == "confirmed", "the probe of the live version", process, tries=1500)
        house.stream.write(tmp_path, range(113, 114), labels=False)
        at_hour(house, 114)
        house.until(lambda: house.windows() == 14, "the hour of the rollback", process, tries=1500)
        for hour in (114, 115, 116):
            house.stream.write(tmp_path, range(hour, hour + 1), labels=False)
            at_hour(house, hour + 1)
            house.until(lambda hour=hour: house.windows() == hour - 99, f"hour {hour}", process, tries=1500)
        house.until(lambda: rollback_state(house) == "effective", "verified, and effective", process, tries=1500)
        before = sum(r.path == "/slack" for r in receiver.ledger)
        slack_down[0] = False
        house.later(hours=1, minutes=15)
        house.until(house.drained, "slack's late message", process, tries=1500)
        told = house.query("SELECT count(DISTINCT incident_id) FROM outbox WHERE destination = 'chat'")[0][0]
        assert sum(r.path == "/slack" for r in receiver.ledger) == before + told, "one late message for each incident"
        said = len(house.told())
        house.moment(START + timedelta(days=50))  # the labels of the bad hour come: v2 was as good as v1 but for its nulls
        for hour in range(100, 117):
            house.stream.write(tmp_path, range(hour, hour + 1))
        house.until(lambda: house.query("SELECT count(*) FROM run WHERE current AND quality_state = 'final'")[0][0] >= 15, "labels after 45 days", process, tries=1500)
        house.rounds(3, process)
        assert len(house.told()) == said, "nothing is told again, and nothing rolled back"
    assert (len(deployments.calls), [e[1:] for e in deployments.effects]) == (1, [("v2", "v1")])
    steps = [a.removeprefix("rollback.") for (a,) in house.query("SELECT action FROM audit WHERE action LIKE 'rollback.%' ORDER BY id")]
    assert steps[-6:] == ["requested", "dispatched", "unknown", "confirmed", "verified", "effective"], steps
    chat = [r.json["text"] for r in receiver.ledger if r.path == "/slack"]
    assert any("Delivered late, as one" in text for text in chat)
    assert house.query("SELECT acked_by FROM incident WHERE id = 1") == [("ann",)]
    closed = house.query("SELECT state, reason FROM incident WHERE family = 'contract'")
    assert closed == [("closed", "resolved")]
    house.verify(deployments)


def fahrenheit(rows: dict[str, Any], random: Any) -> None:
    rows["x0"] = rows["x0"] * 1.8 + 32


def duplicated(rows: dict[str, Any], random: Any) -> None:
    half = len(rows["id"]) // 2
    rows["id"][half:] = rows["id"][: len(rows["id"]) - half]


def shuffled(rows: dict[str, Any], random: Any) -> None:
    rows["label"] = np.asarray(random.permutation(rows["label"]))


def test_an_upstream_outage_of_twelve_models_is_one_source_incident(tmp_path: Path, receiver: Receiver, deployments: Deployments) -> None:
    """One table feeds twelve models. It falls silent for six hours, comes back with duplicates and Fahrenheit, then with
    shuffled labels. A thirteenth model, on a table of its own, fails by itself and must page."""
    base, silent, odd, wrong, end = 100, 104, 110, 111, 113
    faults: dict[int, Any] = {odd: [duplicated, fahrenheit], wrong: [shuffled]}
    stream = Stream(rows=150, numbers=1, categories=0, step=HOUR, faults=faults, versions={0: "v1", 102: "v2"})  # released shortly before
    house = House(tmp_path, receiver, stream)
    house.config["owners"]["platform"] = {"channels": ["hook"]}
    (tmp_path / "contract.yaml").write_text(
        CONTRACT.replace("      - {name: x1}\n", "").replace("      - {name: c0, required: true}\n", "").replace(
            "      - {name: x0}\n", "      - {name: x0, logicalType: number, logicalTypeOptions: {maximum: 20}}\n",
        ).replace("      - {name: id}\n", "      - {name: id, unique: true}\n")
    )
    quality = {"metrics": ["roc_auc"], "min_rows": 50, "limits": {"roc_auc": {"fail_below": 0.65}}, "deployment": {"watch": "0d"}}
    undo = {
        "mode": "auto", "url": deployments.url + "/rollback", "status_url": deployments.url + "/live", "secret": SECRETS["rollback"], "allow_hosts": ["127.0.0.1"],
    }
    columns = {"timestamp": "at", "id": "id", "score": "score", "version": "version", "ignore": ["latency"]}
    labels = {"source": str(tmp_path / "labels"), "complete": 0.9}
    for k in range(12):
        hourly(house, base, f"model{k:02d}", labels=labels, quality=quality, rollback=undo, columns=columns, service={"silent_after": "2h"}, alerts={"fire": "1 of 1"})
    own = tmp_path / "own"
    lone = Stream(rows=150, numbers=1, categories=0, seed=5, step=HOUR, faults={107: [nulls("score", 0.5)]})
    hourly(house, base, "thirteenth", folder=own, labels=None, columns=columns, service={"silent_after": "9d"}, alerts={"fire": "1 of 1"})
    house.config["monitors"]["thirteenth"]["source"] = str(own / "predictions")
    stream.write(tmp_path, range(silent))
    lone.write(own, range(silent), labels=False)
    at_hour(house, silent)
    with house.daemon() as process:
        house.until(lambda: house.windows() == 13 * (silent - base) and house.drained(), "the good hours", process, tries=2400)
        assert house.told() == []
        for hour in range(silent, end):
            if hour >= odd:
                if hour == odd:  # what came late is there at once
                    house.stream.faults.update({k: [duplicated] for k in range(silent, odd)})
                    stream.write(tmp_path, range(silent, odd))
                stream.write(tmp_path, range(hour, hour + 1))
            lone.write(own, range(hour, hour + 1), labels=False)
            at_hour(house, hour + 1)
            house.until(lambda hour=hour: house.windows() == 13 * (hour + 1 - base), f"hour {hour}", process, tries=2400)
            house.later(minutes=8)
            house.rounds(4, process)
        for hour in range(end, end + 6):
            stream.write(tmp_path, range(hour, hour + 1))
            lone.write(own, range(hour, hour + 1), labels=False)
            at_hour(house, hour + 1)
            house.until(lambda hour=hour: house.windows() == 13 * (hour + 1 - base), f"hour {hour}", process, tries=2400)
            house.later(minutes=8)
            house.rounds(4, process)
        house.until(house.drained, "all messages", process)
    source = [b for b in house.told() if b["data"]["monitor"] is None]
    print("source messages:", [(b["type"], b["data"]["why"]) for b in source])
    assert len({b["data"]["incident"] for b in source}) == 1, "one source incident"
    assert len(source) <= 4
    assert sorted(source[0]["data"]["monitors"]) == [f"model{k:02d}" for k in range(12)]
    assert [b for b in house.told() if str(b["data"]["monitor"]).startswith("model")] == [], "and nothing of the single models"
    lone_types = [b["type"] for b in house.told() if b["data"]["monitor"] == "thirteenth" and b["data"]["family"] == "contract"]
    assert lone_types == ["incident.fired", "incident.resolved"]
    assert deployments.calls == []
    proposed = house.query("SELECT r.id, r.state FROM rollback r JOIN incident i ON i.id = r.incident_id WHERE i.family = 'quality' AND r.monitor LIKE 'model%'")
    assert len(proposed) == 12, "each was considered"
    first: dict[int, tuple[str, Any]] = {}
    for action, body in house.query("SELECT action, body FROM audit WHERE action LIKE 'rollback.%' ORDER BY id"):
        found = json.loads(body)
        first.setdefault(found["rollback"], (action, {g["name"] for g in found.get("guards", []) if not g["passed"]}))
    for number, state in proposed:
        assert state in ("blocked", "cancelled")
        assert first[number] in (("rollback.blocked", {"scope"}), ("rollback.requested", set())), "but for its source it would have been rolled back"
    house.verify(deployments)


def test_a_weekly_retraining_is_no_incident(tmp_path: Path, receiver: Receiver) -> None:
    """Every Monday a new version goes live, as good as the one before; scores differ a little; nobody is woken."""

    def retrained(rows: dict[str, Any], random: Any) -> None:
        rows["score"] = np.clip(rows["score"] + 0.004, 0.0, 1.0)

    versions = {k: f"v{k // 7 + 1}" for k in range(0, 90, 7)}
    stream = Stream(rows=300, weekday=0.2, versions=versions, faults={k: [retrained] for k in range(90) if (k // 7) % 2})
    house = House(tmp_path, receiver, stream, start=69).monitor(
        contract=None, quality={"metrics": ["roc_auc", "log_loss"], "min_rows": 100, "limits": {"roc_auc": {"fail_below": 0.65}}},
        columns={"timestamp": "at", "id": "id", "score": "score", "version": "version", "latency": "latency"}, service={"silent_after": "9d"},
    )
    with house.daemon() as process:
        for day in range(70, 85):
            house.write(day).at(day)
            house.until(lambda day=day: house.windows() == day - 69 and house.drained(), f"day {day}", process, tries=1500)
    fired = [(b["data"]["family"], b["data"]["headline"]) for b in house.told() if b["type"] == "incident.fired"]
    assert fired == []
    assert len(json.loads(house.command("deployments", "m", "--json").stdout)) >= 2, "each release was watched"
    house.verify()
