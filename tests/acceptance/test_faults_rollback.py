"""Faults of rollbacks: whatever is killed or lies, one incident has at most one effective rollback."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import SECRETS, Deployments, House, free_port
from tests.receiver import Receiver, Script
from tests.streams import START, Stream, bad_model

pytestmark = pytest.mark.xdist_group("faults-rollback")
LIMITS = {"metrics": ["roc_auc"], "min_rows": 50, "limits": {"roc_auc": {"fail_below": 0.6}}}


@pytest.fixture
def deployments() -> Iterator[Deployments]:
    server = Deployments("v2")
    yield server
    server.released.set()
    server.close()


@pytest.fixture
def house(tmp_path: Path, receiver: Receiver, deployments: Deployments) -> House:
    """A model whose version v2 goes live with window 43 and is bad from there on; the deployment API says that v2 is live."""
    stream = Stream(rows=300, versions={0: "v1", 43: "v2"}, faults={k: [bad_model] for k in range(43, 60)})
    house = House(tmp_path, receiver, stream).write(44).at(44)
    house.config["owners"]["platform"] = {"channels": ["hook"]}
    return house.monitor(
        contract=None, columns={"timestamp": "at", "id": "id", "score": "score", "version": "version"}, quality={**LIMITS, "deployment": {"watch": "0d"}},
        rollback=rollback(deployments), drift={"budget": "1 per 365d"},
    )


def rollback(deployments: Deployments, **options: Any) -> dict[str, Any]:
    return {
        "mode": "auto", "url": deployments.url + "/rollback", "status_url": deployments.url + "/live", "secret": SECRETS["rollback"],
        "allow_hosts": ["127.0.0.1"], "settle": "10m", **options,
    }


def state(house: House) -> str:
    rows = house.query("SELECT state FROM rollback ORDER BY id DESC")
    return str(rows[0][0]) if rows else ""


def good_again(house: House, day: int, version: str = "v1") -> None:
    """From that day on the stream is what the old version would log."""
    house.stream.versions[day] = version
    for k in range(day, 70):
        house.stream.faults.pop(k, None)


def test_fault_06_a_kill_in_the_dispatch_is_unknown_and_probed_and_has_no_second_effect(house: House, deployments: Deployments) -> None:
    house.crash("dispatched:1")
    assert len(deployments.effects) == 1
    assert state(house) == "dispatched"
    house.later(minutes=2)
    house.run_until(lambda: state(house) == "confirmed" and house.drained(), "the probe")
    assert len(deployments.calls) == 1
    house.verify(deployments)


def test_fault_06_a_kill_before_the_request_left_is_repeated_once_after_a_probe(house: House, deployments: Deployments) -> None:
    house.crash("dispatching:1")
    assert deployments.calls == []
    with house.daemon() as process:
        house.later(minutes=2)
        house.until(lambda: state(house) == "unknown", "unknown, as nobody knows what left", process)
        assert deployments.calls == []
        house.later(minutes=11)
        house.until(lambda: state(house) == "confirmed" and house.drained(), "one repeat and its probe", process)
    assert [c[1]["webhook-id"] for c in deployments.calls] == [deployments.calls[0][1]["webhook-id"]]
    assert len(deployments.effects) == 1
    house.verify(deployments)


def test_a_lost_reply_is_probed_and_not_repeated(house: House, deployments: Deployments) -> None:
    deployments.script = ["lost"]
    house.run_until(lambda: state(house) == "confirmed" and house.drained(), "the probe")
    assert (len(deployments.calls), len(deployments.effects)) == (1, 1)
    house.verify(deployments)


def test_an_api_that_takes_its_time_is_waited_for_and_not_asked_again(house: House, deployments: Deployments) -> None:
    """Its reply is lost, and for longer than the settling time it says that the change is in progress: one request, then confirmed."""
    deployments.script = ["later"]
    deployments.in_progress = True
    with house.daemon() as process:
        house.until(lambda: state(house) == "unknown", "the lost reply", process)
        house.later(minutes=11)
        house.rounds(4, process)
        assert (state(house), len(deployments.calls)) == ("unknown", 1)
        deployments.finish()
        house.until(lambda: state(house) == "confirmed" and house.drained(), "the change", process)
    assert (len(deployments.calls), len(deployments.effects)) == (1, 1)
    house.verify(deployments)


def test_an_api_that_is_in_progress_for_ever_is_given_up_and_pages(house: House, deployments: Deployments) -> None:
    deployments.script = ["later"]
    deployments.in_progress = True
    with house.daemon() as process:
        house.until(lambda: state(house) == "unknown", "the lost reply", process)
        house.later(minutes=31)
        house.until(lambda: state(house) == "failed" and house.drained(), "the end of patience", process)
    assert len(deployments.calls) == 1
    assert "has said so for long" in house.told()[-1]["data"]["rollback"]["detail"]


def test_an_api_that_answers_500_is_asked_twice_with_one_id_and_no_more(house: House, deployments: Deployments) -> None:
    deployments.script = [Script(500)] * 4
    with house.daemon() as process:
        house.until(lambda: state(house) == "unknown", "the first 500", process)
        house.later(minutes=11)
        house.until(lambda: "repeated" in str(house.query("SELECT detail FROM rollback")), "one repeat, as v2 is still live", process)
        house.later(minutes=11)
        house.until(lambda: state(house) == "failed" and house.drained(), "the end", process)
        house.later(minutes=11)
        house.rounds(4, process)
    assert len({c[1]["webhook-id"] for c in deployments.calls}) == 1
    assert len(deployments.calls) == 2
    house.verify(deployments)


def test_when_another_version_is_live_after_a_lost_reply_nothing_is_asked_again(house: House, deployments: Deployments) -> None:
    deployments.script = [Script(500)]
    with house.daemon() as process:
        house.until(lambda: state(house) == "unknown", "the 500", process)
        deployments.version = "v9"
        house.later(minutes=11)
        house.until(lambda: state(house) == "failed" and house.drained(), "the end", process)
    assert len(deployments.calls) == 1
    assert "v9 is live" in house.told()[-1]["data"]["rollback"]["detail"]


def test_a_request_that_never_left_is_tried_until_it_is_too_late_and_then_expires(house: House, deployments: Deployments) -> None:
    house.config["monitors"]["m"]["rollback"] = rollback(deployments, url=f"http://127.0.0.1:{free_port()}/rollback")
    with house.daemon() as process:
        house.until(lambda: "ConnectError" in str(house.query("SELECT detail FROM rollback")), "the refused connection", process)
        assert state(house) == "requested"
        house.later(minutes=61)
        house.until(lambda: state(house) == "expired" and house.drained(), "too late", process)
    assert deployments.calls == []
    assert house.told()[-1]["data"]["why"] == "rollback expired"


def test_a_repeat_asks_the_guards_again(house: House, deployments: Deployments) -> None:
    """The first request had no effect; before the settling time is over somebody holds the incident: it is not repeated."""
    deployments.script = [Script(500)]
    with house.daemon() as process:
        house.until(lambda: state(house) == "unknown" and house.drained(), "the 500", process)
        assert "has been sent already" in house.command("hold", "INC-1", "--by", "ann").stdout
        house.later(minutes=11)
        house.until(lambda: state(house) == "failed" and house.drained(), "the end", process)
    assert len(deployments.calls) == 1
    assert "not repeated: guard timely does not hold any more: held by ann" in house.told()[-1]["data"]["rollback"]["detail"]


def test_a_decision_from_before_a_kill_is_checked_again_before_it_leaves(house: House, deployments: Deployments) -> None:
    house.config["kill_switch"] = "no-rollback"
    house.crash("committed:4")
    assert state(house) == "requested"
    (house.folder / "no-rollback").touch()
    house.run_until(lambda: state(house) == "cancelled" and house.drained(), "the switch seen")
    assert deployments.calls == []
    house.verify(deployments)


def test_fault_19_an_endpoint_that_says_200_and_changes_nothing_is_a_failure_and_pages(house: House, deployments: Deployments) -> None:
    deployments.script = ["ignored"]
    with house.daemon() as process:
        house.until(lambda: state(house) == "accepted", "the answer", process)
        house.later(minutes=11)
        house.until(lambda: state(house) == "failed" and house.drained(), "the end of the settling time", process)
    assert len(deployments.calls) == 1
    last = house.told()[-1]["data"]
    assert last["rollback"]["state"] == "failed"
    assert "v2 is live" in last["rollback"]["detail"]
    house.verify(deployments)


def test_fault_20_a_rollback_that_worked_and_changed_nothing_pages_and_is_not_followed_by_another(house: House, deployments: Deployments) -> None:
    with house.daemon() as process:
        house.until(lambda: state(house) == "confirmed", "the rollback", process)
        house.stream.versions[44] = "v1"  # the old version serves, and is as bad: the data have changed
        house.write(47).at(47)
        house.until(lambda: state(house) == "verified", "the rows of the old version", process)
        house.write(48).at(48)
        house.until(lambda: state(house) == "no_effect" and house.drained(), "what followed", process)
        house.write(50).at(50)
        house.until(lambda: house.windows() == 10 and house.drained(), "two more windows", process)
    assert len(deployments.calls) == 1
    said = [b["data"]["rollback"]["state"] for b in house.told() if b["data"].get("rollback")]
    assert "no_effect" in said
    house.verify(deployments)


def test_a_rollback_that_helped_is_verified_and_effective(house: House, deployments: Deployments) -> None:
    with house.daemon() as process:
        house.until(lambda: state(house) == "confirmed", "the rollback", process)
        good_again(house, 44)
        house.write(46).at(46)
        house.until(lambda: state(house) == "verified", "the rows of the old version", process)
        house.write(47).at(47)
        house.until(lambda: state(house) == "effective" and house.drained(), "two good windows", process)
    assert house.incidents()[-1][2:] == ("closed", "resolved")
    house.verify(deployments)


def test_fault_38_a_forged_or_replayed_approval_sends_nothing(house: House, deployments: Deployments) -> None:
    house.config["monitors"]["m"]["rollback"] = rollback(deployments, mode="approve")
    house.run_until(lambda: state(house) == "awaiting_approval" and house.drained(), "the proposal")
    ((_, first),) = house.query("SELECT id, payload_hash FROM rollback")
    assert first[:8] in json.dumps(house.told()[-1])
    assert "is not the code" in house.command("rollback", "approve", "INC-1", "00000000", expect=2).stderr
    assert deployments.calls == []
    house.later(minutes=61)
    house.run_until(lambda: state(house) == "expired", "the end of the approval's time")
    assert house.command("rollback", "approve", "INC-1", first[:8], expect=2).stderr
    house.write(45).at(45)
    house.run_until(lambda: state(house) == "awaiting_approval" and house.drained(), "a new proposal with fresh guards")
    ((_, second),) = house.query("SELECT id, payload_hash FROM rollback")
    assert second != first
    assert "is not the code" in house.command("rollback", "approve", "INC-1", first[:8], expect=2).stderr, "an old approval is good for nothing"
    # Somebody who can write to the store sends for another version than the one that was approved: the dispatcher looks again.
    assert house.command("rollback", "approve", "INC-1", second[:8], "--by", "ann").returncode == 0
    import sqlalchemy as sa

    engine = sa.create_engine(house.store_url)
    with engine.begin() as connection:
        payload = json.loads(connection.execute(sa.text("SELECT payload FROM rollback")).scalar_one())
        payload["data"]["to_version"] = "v0-evil"
        connection.execute(sa.text("UPDATE rollback SET payload = :p, to_version = 'v0-evil'"), {"p": json.dumps(payload)})
    engine.dispose()
    house.run_until(lambda: state(house) == "cancelled" and house.drained(), "the refusal")
    assert deployments.calls == []
    actors = [a for (a,) in house.query("SELECT actor FROM audit WHERE action IN ('rollback.approved', 'rollback.approval_refused') ORDER BY id")]
    assert actors[-1] == "ann"
    assert len(actors) == 3


def test_an_approved_rollback_is_sent_once(house: House, deployments: Deployments) -> None:
    house.config["monitors"]["m"]["rollback"] = rollback(deployments, mode="approve")
    house.run_until(lambda: state(house) == "awaiting_approval" and house.drained(), "the proposal")
    ((digest,),) = house.query("SELECT payload_hash FROM rollback")
    assert "is awaiting approval, until" in house.command("ack", "INC-1", "--by", "ann").stdout
    assert house.command("rollback", "approve", "INC-1", digest[:8], "--by", "ann").returncode == 0
    assert house.command("rollback", "approve", "INC-1", digest[:8], "--by", "ann", expect=2).stderr
    house.run_until(lambda: state(house) == "confirmed" and house.drained(), "the rollback")
    assert (len(deployments.calls), len(deployments.effects)) == (1, 1)
    house.verify(deployments)


@pytest.mark.parametrize("how", ["hold", "file", "environment", "store", "maintenance"])
def test_what_stops_a_rollback_stops_it_before_a_byte_leaves(house: House, deployments: Deployments, how: str) -> None:
    house.config["kill_switch"] = "no-rollback"
    environment = {}
    if how == "file":
        (house.folder / "no-rollback").touch()
    elif how == "environment":
        environment["DRIFTD_NO_ROLLBACK"] = "1"
    elif how == "store":
        house.save().command("rollback", "stop", "--by", "ann")
    elif how == "maintenance":
        house.save().command("silence", "m", "--for", "1h", "--reason", "new tables", "--maintenance")
    else:
        house.config["monitors"]["m"]["rollback"] = rollback(deployments, mode="approve")
    house.run_until(lambda: state(house) in ("blocked", "awaiting_approval") and (how == "maintenance" or house.drained()), "the decision", **environment)
    if how == "hold":
        assert "is not sent" in house.command("hold", "INC-1", "--by", "ann").stdout
        assert state(house) == "cancelled"
    shown = house.command("rollback", "why-not", "1").stdout
    assert {"hold": "held by ann", "file": "kill switch", "environment": "kill switch", "store": "kill switch", "maintenance": "maintenance: new tables"}[how] in shown or how == "hold"
    assert deployments.calls == []


def test_fault_40_twenty_models_of_one_source_break_at_once_and_a_21st_from_elsewhere_still_pages(tmp_path: Path, receiver: Receiver, deployments: Deployments) -> None:
    stream = Stream(rows=200, versions={0: "v1", 43: "v2"}, faults={k: [bad_model] for k in range(43, 50)})
    house = House(tmp_path, receiver, stream).write(44).at(44)
    house.config["owners"]["platform"] = {"channels": ["hook"]}
    keys: dict[str, Any] = {
        "contract": None, "quality": {**LIMITS, "deployment": {"watch": "0d"}}, "drift": {"budget": "1 per 365d"}, "rollback": rollback(deployments), "service": {"silent_after": "3d"},
        "columns": {"timestamp": "at", "id": "id", "score": "score", "version": "version", "ignore": ["x0", "x1", "c0", "latency"]}, "start": (START + timedelta(days=40)).date().isoformat(),
    }
    for k in range(20):
        house.monitor(f"m{k:02d}", **keys)
    other = tmp_path / "elsewhere"
    Stream(rows=200, seed=9, versions={0: "v1"}, faults={43: [bad_model]}).write(other, range(44))
    house.monitor("alone", folder=other, **keys)
    with house.daemon() as process:
        house.until(lambda: house.windows() == 84, "four windows of 21 monitors", process, tries=2400)
        house.until(lambda: any(b["data"]["monitor"] == "alone" for b in house.told()), "the 21st pages at once", process)
        assert not [b for b in house.told() if str(b["data"]["monitor"]).startswith("m")], "the twenty wait for each other"
        house.later(minutes=6)
        house.until(house.drained, "all messages", process)
        house.rounds(3, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    about = [b for b in house.told() if b["data"]["monitor"] is None]
    assert [b["type"] for b in about] == ["incident.fired"]
    assert sorted(about[0]["data"]["monitors"]) == [f"m{k:02d}" for k in range(20)]
    assert len([b for b in house.told() if b["data"]["monitor"] == "alone" and b["type"] == "incident.fired"]) == 1
    assert len([b for b in house.told() if str(b["data"]["monitor"]).startswith("m")]) == 0
    assert deployments.calls == [], "trouble that models share with their source is no version's"
    decided = house.query("SELECT state, detail FROM rollback WHERE monitor <> 'alone'")
    assert len(decided) == 20
    assert {s for s, _ in decided} == {"cancelled"}, "each had every guard of its own"
    assert all("guard scope does not hold any more: it is part of INC-" in detail for _, detail in decided), decided[0]
    house.verify(deployments)
