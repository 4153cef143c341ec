"""Faults of delivery: what is killed, refused, slow or lies between the commit and the receiver. Numbered as in docs/operations.md."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import House
from tests.receiver import Receiver, Script
from tests.streams import START, Stream, nulls

pytestmark = pytest.mark.xdist_group("faults-delivery")


@pytest.fixture
def house(tmp_path: Path, receiver: Receiver) -> House:
    """One monitor, five windows; c0 is null on the third: an incident that fires there and resolves with the next window."""
    stream = Stream(rows=120, faults={42: [nulls("c0", 0.05)]})
    return House(tmp_path, receiver, stream).monitor().write(45).at(45)


def finished(house: House) -> bool:
    return house.windows() == 5 and house.drained()


def run_to_the_end(house: House, **environment: str) -> None:
    house.run_until(lambda: finished(house), "all windows and messages", **environment)


def delayed(house: House) -> None:
    """The fixture's windows are old by the time they are evaluated: they are delivered as a finished range is."""
    for monitor in house.config["monitors"].values():
        monitor["end"] = "2024-02-15"


# -- 1 to 7: crashes

@pytest.mark.parametrize(
    ("fault", "point"), [("1 kill after the check, before the commit", "checked:3"), ("1b kill inside the transaction", "announced:3"), ("2 kill after the commit, before the claim", "committed:3")],
)
def test_fault_01_02_a_kill_around_the_commit_loses_nothing(house: House, fault: str, point: str) -> None:
    delayed(house)
    house.crash(point)
    run_to_the_end(house)
    assert house.types() == ["fired", "resolved"], fault
    assert house.duplicates() == 0
    assert house.query("SELECT count(*), max(revision), max(attempts) FROM run") == [(5, 1, 1)]
    house.verify()


def test_fault_03_a_kill_after_the_claim_is_sent_at_once_by_the_next_daemon_of_the_machine(house: House) -> None:
    delayed(house)
    house.crash("claimed:1")
    assert house.told() == []
    run_to_the_end(house)
    assert house.types() == ["fired", "resolved"]
    house.verify()


def test_fault_03_a_kill_after_the_claim_is_sent_by_another_machine_after_the_lease(house: House) -> None:
    delayed(house)
    house.crash("claimed:1")
    with sqlite3.connect(house.folder / "store.db") as connection:  # the claim of a machine whose processes nobody here can see
        assert connection.execute("UPDATE outbox SET lease_owner = 'elsewhere/1:99:abc' WHERE state = 'leased'").rowcount == 1
    with house.daemon() as process:
        house.until(lambda: house.windows() == 5, "all windows", process)
        house.later(seconds=58)
        house.rounds(4, process)
        assert house.told() == [], "the lease still holds"
        house.later(seconds=3)
        house.until(lambda: finished(house), "both messages", process)
    assert house.types() == ["fired", "resolved"]
    house.verify()


def test_fault_04_a_kill_after_the_post_makes_one_duplicate_with_the_same_id(house: House) -> None:
    delayed(house)
    house.crash("posted:1")
    run_to_the_end(house)
    assert [b["data"]["sequence"] for b in house.told()] == [1, 1, 2]
    assert house.duplicates() == 1
    house.verify()


def test_fault_05_a_kill_in_a_migration_leaves_the_old_schema_or_the_new_one(house: House) -> None:
    delayed(house)
    house.crash("migrating:7")
    with sqlite3.connect(house.folder / "store.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,), "nothing of it"
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    run_to_the_end(house)
    assert house.types() == ["fired", "resolved"]
    house.verify()


def test_fault_05_a_kill_in_the_migration_of_a_store_with_rows_keeps_them_and_the_old_schema(house: House) -> None:
    from alembic import command

    from monitor.store.engine import open_engine
    from monitor.store.migrate import _config

    delayed(house)
    run_to_the_end(house)
    engine = open_engine(house.store_url)
    command.downgrade(_config(engine), "0004")
    engine.dispose()
    house.crash("adding:9", arguments=("migrate",))
    state = house.query("SELECT (SELECT version_num FROM alembic_version), (SELECT count(*) FROM run), (SELECT count(*) FROM outbox)")
    assert state == [("0004", 5, 2)]
    assert "held_by" not in {r[1] for r in house.query("PRAGMA table_info(outbox)")}
    house.command("migrate")
    assert house.query("SELECT version_num FROM alembic_version") == [("0005",)]
    starts = house.log().count('"event": "driftd runs"')
    house.run_until(lambda: house.log().count('"event": "driftd runs"') > starts and house.ready().get("status") == "ok", "a daemon on the mended store")
    assert house.query("SELECT count(*) FROM run") == [(5,)]
    house.verify()


def test_fault_07_sigterm_in_a_send_ends_within_ten_seconds_and_loses_nothing(house: House, receiver: Receiver) -> None:
    delayed(house)
    receiver.script.append(Script(hang=True))
    with house.daemon() as process:
        house.until(lambda: receiver.ledger, "a message that hangs", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert house.query("SELECT count(*) FROM outbox WHERE state = 'leased'") == [(0,)]
    receiver.released.set()
    run_to_the_end(house)
    assert house.types() == ["fired", "resolved"]
    house.verify()


# -- 8 to 16: what receivers answer

def two_channels(house: House, receiver: Receiver, kind: dict[str, Any]) -> None:
    delayed(house)
    house.config["channels"]["other"] = {"allow_hosts": ["127.0.0.1"], **kind}
    house.config["owners"]["ops"] = {"channels": ["hook", "other"]}


SLACK = {"kind": "slack"}


def slack(receiver: Receiver) -> dict[str, Any]:
    return {"kind": "slack", "url": receiver.url + "/slack"}


def of_slack(receiver: Receiver) -> int:
    return sum(r.path == "/slack" for r in receiver.ledger)


def answer_slack(receiver: Receiver, *replies: Script, then: Script | None = None) -> None:
    left = list(replies)
    receiver.choose = lambda request: (left.pop(0) if left else then) if request.path == "/slack" else None


def waits(house: House, receiver: Receiver, seconds: int, text: str) -> None:
    """Slack says when to come again: no call before, the other channel gets everything at once."""
    two_channels(house, receiver, slack(receiver))
    answer_slack(receiver, Script(429, "", {"retry-after": text}))
    with house.daemon() as process:
        house.until(lambda: house.types() == ["fired", "resolved"] and of_slack(receiver) == 1, "the other channel", process)
        house.later(seconds=seconds - 1)
        house.rounds(3, process)
        assert of_slack(receiver) == 1, "no call before the time that it gave"
        house.later(seconds=2)
        house.until(lambda: house.drained(), "slack's message", process)
    assert of_slack(receiver) == 2, "both in one message"
    assert "Delivered late, as one: fired" in receiver.ledger[-1].json["text"]
    house.verify()


def test_fault_08_a_429_with_30_s_is_respected_and_holds_no_other_up(house: House, receiver: Receiver) -> None:
    waits(house, receiver, 30, "30")


@pytest.mark.parametrize(("text", "seconds"), [("Thu, 15 Feb 2024 02:02:00 GMT", 120), ("999999", 3600)])
def test_fault_09_a_429_with_a_date_or_a_very_long_wait(house: House, receiver: Receiver, text: str, seconds: int) -> None:
    waits(house, receiver, seconds, text)


def test_fault_09_a_429_with_garbage_waits_as_any_failure(house: House, receiver: Receiver) -> None:
    two_channels(house, receiver, slack(receiver))
    answer_slack(receiver, Script(429, "", {"retry-after": "soon"}))
    with house.daemon() as process:
        house.until(lambda: of_slack(receiver) == 1 and house.types() == ["fired", "resolved"], "the first try", process)
        house.later(seconds=3)
        house.rounds(3, process)
        assert of_slack(receiver) == 1, "5 s, as after any failure, and 20% of jitter"
        house.later(seconds=4)
        house.until(lambda: house.drained() and house.windows() == 5, "the second", process)
    assert of_slack(receiver) == 2
    house.verify()


def test_fault_10_slack_is_down_for_two_hours_and_tells_one_late_message(tmp_path: Path, receiver: Receiver) -> None:
    """Hourly windows: it fires ten minutes after Slack went down, and resolves an hour later; Slack comes back after two."""
    stream = Stream(rows=120, step=timedelta(hours=1), faults={102: [nulls("c0", 0.05)]})
    house = House(tmp_path, receiver, stream).monitor(
        window={"size": "1h", "lateness": "5m"}, start=(START + timedelta(hours=100)).isoformat(), labels=None, schedule={"every": "5m"},
        end=(START + timedelta(hours=104)).isoformat(), reference={"from": START.isoformat(), "to": (START + timedelta(hours=100)).isoformat()}, drift={"budget": "1 per 365d"}, alerts={"fire": "1 of 1"},
    )
    house.config["channels"]["other"] = {"allow_hosts": ["127.0.0.1"], **slack(receiver)}
    house.config["owners"]["ops"] = {"channels": ["hook", "other"]}
    house.write(102).moment(START + timedelta(hours=102, minutes=6))
    answer_slack(receiver, then=Script(503))
    with house.daemon() as process:
        house.until(lambda: house.windows() == 2, "two good hours", process)
        house.write(103).moment(START + timedelta(hours=103, minutes=6))
        house.until(lambda: house.types() == ["fired"] and of_slack(receiver) == 1, "it fires", process)
        house.write(104)
        for minutes in (10, 10, 10, 30):
            house.later(minutes=minutes)
            house.rounds(3, process)
        house.until(lambda: house.types() == ["fired", "resolved"], "it resolves", process)
        for _ in range(6):
            house.later(minutes=10)
            house.rounds(3, process)
        tried = of_slack(receiver)
        assert tried <= 8, "0, 5 s, 30 s, 2 m, 5 m, 15 m, 30 m, 1 h: no storm"
        answer_slack(receiver)
        house.later(hours=1, minutes=15)
        house.until(lambda: house.drained(), "the late message", process)
        assert of_slack(receiver) == tried + 1, "one message"
    late = [r.json["text"] for r in receiver.ledger if r.path == "/slack"][-1]
    assert late.startswith("RESOLVED")
    assert "Delivered late, as one: fired 07:06Z, resolved 08:06Z" in late
    assert house.query("SELECT count(*) FROM outbox WHERE destination = 'other' AND state = 'sent' AND covered_by <> ''") == [(1,)]
    house.verify()


def test_fault_11_a_redirect_to_a_page_that_answers_200_is_a_failure(house: House, receiver: Receiver) -> None:
    two_channels(house, receiver, slack(receiver))
    answer_slack(receiver, then=Script(302, "", {"location": receiver.url + "/welcome"}))
    house.run_until(lambda: house.query("SELECT count(*) FROM outbox WHERE destination = 'other' AND state = 'dead'") == [(2,)] and dead_letters(receiver), "dead letters, and the owner told by the other channel")
    assert not any(r.path == "/welcome" for r in receiver.ledger), "never followed"
    assert len(dead_letters(receiver)) == 1, "at most one an hour"
    assert house.types() == ["fired", "resolved"], "the other channel got everything"


def dead_letters(receiver: Receiver) -> list[str]:
    bodies = [json.loads(r.body) for r in receiver.ledger if r.path != "/slack" and r.body[:1] == b"{"]
    return [b["data"]["headline"] for b in bodies if b["data"].get("channel") and b["type"] in ("incident.fired", "incident.updated")]


def test_fault_12_a_200_without_ok_is_tried_again(house: House, receiver: Receiver) -> None:
    two_channels(house, receiver, slack(receiver))
    answer_slack(receiver, Script(200, "<html>login</html>"))
    with house.daemon() as process:
        house.until(lambda: of_slack(receiver) == 1 and house.types() == ["fired", "resolved"], "the first try", process)
        house.later(seconds=10)
        house.until(lambda: house.drained() and house.windows() == 5, "the second", process)
    assert of_slack(receiver) == 2
    house.verify()


def test_fault_13_a_lost_reply_makes_a_duplicate_with_the_same_id(house: House, receiver: Receiver) -> None:
    delayed(house)
    receiver.script.append(Script(drop=True))
    with house.daemon() as process:
        house.until(lambda: len(receiver.ledger) == 1 and house.windows() == 5, "the first try", process)
        house.later(seconds=10)
        house.until(lambda: finished(house), "the second", process)
    assert [b["data"]["sequence"] for b in house.told()] == [1, 1, 2]
    assert house.duplicates() == 1
    house.verify()


def test_fault_14_fifty_columns_and_very_long_names_are_one_message_within_the_limits(tmp_path: Path, receiver: Receiver) -> None:
    import pyarrow as pa

    from tests.streams import START, write_table

    folder, names = tmp_path / "wide", [f"column {k} " + "n" * (10_000 if k == 0 else 200) for k in range(50)]
    stream = Stream(rows=60, numbers=0, categories=0)
    for index in range(44):
        rows = stream.day(index)
        rows.pop("label")
        broken = index == 43
        table = {n: pa.array(v) for n, v in rows.items()} | {n: pa.array([None if broken else i / 7 + k for i in range(60)], pa.float64()) for k, n in enumerate(names)}
        write_table(pa.table(table), folder / "predictions" / f"{index:04d}.parquet")
    house = House(tmp_path, receiver, start=42).monitor(folder=folder, labels=None, contract=None).at(44)
    house.config["channels"]["other"] = slack(receiver) | {"allow_hosts": ["127.0.0.1"]}
    house.config["owners"]["ops"] = {"channels": ["hook", "other"]}
    house.config["monitors"]["m"]["end"] = (START.replace(month=2, day=14)).date().isoformat()
    house.run_until(lambda: house.windows() == 2 and house.drained(), "both windows")
    fired = [b["data"] for b in house.told() if b["type"] == "incident.fired" and b["data"]["broken"] == 50]
    assert sorted(f["family"] for f in fired) == ["contract", "data"], "one message of each family for fifty columns"
    assert [len(f["members"]) for f in fired] == [5, 5]
    assert all("null" in m["reason"] or "missing" in m["reason"] for f in fired for m in f["members"]), "though one name has 10,000 characters"
    assert max(len(r.body) for r in receiver.ledger if r.path != "/slack") < 20_000
    slack_bodies = [r.json for r in receiver.ledger if r.path == "/slack"]
    assert any("and 45 more" in json.dumps(body) for body in slack_bodies)
    for body in slack_bodies:
        texts = [b["text"]["text"] for b in body["blocks"]]
        assert len(texts) <= 50
        assert max(map(len, texts)) <= 3000
        assert sum(map(len, texts)) <= 12_000
    house.verify()


def test_fault_15_a_revoked_hook_is_switched_off_the_owner_is_told_and_a_test_switches_it_on(house: House, receiver: Receiver) -> None:
    two_channels(house, receiver, slack(receiver))
    answer_slack(receiver, then=Script(404, "no_service"))
    house.run_until(lambda: dead_letters(receiver) and house.windows() == 5, "the other channel told")
    assert of_slack(receiver) == 1, "nothing more is sent to it"
    assert "switched off" in house.command("outbox", "list").stdout
    assert house.command("channel", "test", "other", expect=3).returncode == 3
    answer_slack(receiver)
    assert "is on again" in house.command("channel", "test", "other").stdout
    assert "will be sent again" in house.command("outbox", "replay").stdout
    house.run_until(lambda: house.drained() and house.query("SELECT count(*) FROM outbox WHERE state = 'dead'") == [(0,)], "what was dead")
    house.verify()


def test_fault_16_an_endpoint_that_drips_a_byte_a_second_is_cut_off_and_holds_no_other_up(house: House, receiver: Receiver) -> None:
    delayed(house)
    house.config["channels"]["other"] = {"kind": "webhook", "url": receiver.url + "/slack", "allow_hosts": ["127.0.0.1"]}
    house.config["owners"]["ops"] = {"channels": ["hook", "other"]}
    answer_slack(receiver, Script(drip=True))
    with house.daemon() as process:
        house.until(lambda: house.types()[:2] == ["fired", "resolved"], "the other channel, while the slow one drips", process)
        assert "it took longer than 15 s" not in house.log()
        house.until(lambda: "it took longer than 15 s" in house.log(), "the end of the slow one", process)
        house.later(seconds=10)
        house.until(lambda: finished(house), "the second try", process)
    house.verify()


# -- 17, 18: hostile addresses and replies

@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "10.0.0.1", "::1"])
def test_fault_17_an_address_that_is_not_public_is_not_connected_to(house: House, receiver: Receiver, address: str) -> None:
    from monitor.delivery.http import public

    assert not public(address)


def test_fault_17_a_name_that_resolves_inwards_or_changes_its_mind_is_not_connected_to(house: House, receiver: Receiver) -> None:
    delayed(house)
    port = receiver.url.rpartition(":")[2]
    house.config["channels"] |= {
        "meta": {"kind": "webhook", "url": "https://meta.example/latest"}, "mapped": {"kind": "webhook", "url": f"https://mapped.example:{port}/"},
        "rebind": {"kind": "webhook", "url": f"https://rebind.example:{port}/"},
    }
    house.config["owners"]["ops"] = {"channels": ["hook", "meta", "mapped", "rebind"]}
    hosts = {"meta.example": [["169.254.169.254"]], "mapped.example": [["::ffff:127.0.0.1"]], "rebind.example": [["93.184.216.34"], ["127.0.0.1"]]}
    with socket.socket() as listener:  # what a rebinding name leads to: were it asked twice for one request, there would be a connection
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        listener.setblocking(False)
        inside = listener.getsockname()[1]
        house.config["channels"]["rebind"]["url"] = f"https://rebind.example:{inside}/"
        house.config["channels"]["mapped"]["url"] = f"https://mapped.example:{inside}/"
        with house.daemon(DRIFTD_TEST_HOSTS=json.dumps(hosts)) as process:
            house.until(lambda: dead(house) == 4 and house.windows() == 5, "the dead letters of two", process)
            house.until(lambda: house.query("SELECT count(*) FROM outbox WHERE destination = 'rebind' AND attempts > 0 AND incident_id = 1") == [(1,)], "the first try of the third", process)
            house.later(seconds=10)
            house.until(lambda: dead(house) == 6, "the dead letters of the third, whose name has changed its mind", process)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {r.path for r in receiver.ledger} == {"/S3CRETPATH"}
    assert house.types() == ["fired", "resolved"]
    assert {e for (e,) in house.query("SELECT error FROM outbox WHERE state = 'dead' AND incident_id = 1")} == {e for (e,) in house.query("SELECT error FROM outbox WHERE error LIKE '%an address that is not public'")}


def dead(house: House) -> int:
    return len(house.query("SELECT id FROM outbox WHERE state = 'dead' AND incident_id = 1"))


def test_fault_18_of_a_reply_of_a_gigabyte_64_kb_are_read(house: House, receiver: Receiver) -> None:
    delayed(house)
    receiver.script.extend([Script(200, megabytes=1000), Script(200, megabytes=1000)])
    run_to_the_end(house)
    assert receiver.sent_bytes < 10_000_000, "as much as the socket's buffers took"
    assert house.types() == ["fired", "resolved"]
    house.verify()
