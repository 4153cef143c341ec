"""Faults of the world around: databases, clocks, disks, other daemons, restarts."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.harness import PAUSE, SECRETS, House, command_lines
from tests.receiver import Receiver
from tests.streams import START, Stream, nulls

pytestmark = pytest.mark.xdist_group("faults-world")


@pytest.fixture
def house(tmp_path: Path, receiver: Receiver) -> House:
    """One monitor; c0 is null on window 42: an incident that fires there and resolves with the next window."""
    stream = Stream(rows=120, faults={42: [nulls("c0", 0.05)]})
    house = House(tmp_path, receiver, stream).monitor().write(41).at(41)
    house.config["owners"]["platform"] = {"channels": ["hook"]}
    return house


def days(house: House, process: Any, *indices: int) -> None:
    """Live through some days: what each says is sent before the next begins."""
    for day in indices:
        house.write(day).at(day)
        house.until(lambda day=day: house.windows() == day - house.start and house.drained(), f"day {day}", process, tries=1500)


def waiting(process: Any) -> None:
    """Until the daemon's threads have waited for the database for a while: their processor time stands still."""
    for _ in range(40):
        PAUSE.wait(0.5)
    assert process.poll() is None


def test_fault_21_a_database_that_is_locked_is_waited_for(house: House) -> None:
    with house.daemon(DRIFTD_TEST_BUSY="500") as process:
        days(house, process, 41, 42)
        house.write(43)
        with sqlite3.connect(house.folder / "store.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            house.at(43)
            house.until(lambda: "database is locked" in house.log(), "the lock", process)
            assert house.windows() == 2, "the window is not there"
            other.execute("ROLLBACK")
        house.at(43, 3)
        days(house, process, 44)
    assert house.types() == ["fired", "resolved"]
    assert house.query("SELECT max(revision), count(*) FROM run") == [(1, 4)]
    house.verify()


def test_fault_21_a_lock_of_a_minute_is_outlasted_by_the_daemons_own_patience(house: House) -> None:
    """With the time-out that driftd has: the commit waits, and nothing is said of it."""
    with house.daemon() as process:
        days(house, process, 41, 42)
        house.write(43)
        with sqlite3.connect(house.folder / "store.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            house.at(43)
            waiting(process)
            assert house.windows() == 2
            other.execute("ROLLBACK")
        days(house, process, 43, 44)
        assert "database is locked" not in house.log()
    assert house.types() == ["fired", "resolved"]
    house.verify()


@pytest.mark.parametrize("room", [0, 60_000], ids=["at an insert", "at the commit"])
def test_fault_22_a_full_disk_loses_nothing(house: House, room: int) -> None:
    with house.daemon() as process:
        days(house, process, 41, 42)
        store = psutil.Process(process.pid)
        size = (house.folder / "store.db-wal").stat().st_size
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + room, unlimited[1]))  # no file may grow beyond what the journal is now
        house.write(43).at(43)
        house.until(lambda: "disk I/O error" in house.log() or "database or disk is full" in house.log(), "no room", process)
        assert house.windows() == 2, "the window is not there"
        assert house.told() == []
        assert store.is_running()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        house.at(43, 3)
        days(house, process, 44)
    assert house.types() == ["fired", "resolved"]
    with sqlite3.connect(house.folder / "store.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    house.verify()


@pytest.mark.parametrize(("how", "words"), [("corrupt", ("malformed", "not a database")), ("read-only", ("readonly", "unable to open"))])
def test_fault_23_a_store_that_cannot_be_used_is_refused_with_a_clear_text(house: House, how: str, words: tuple[str, ...]) -> None:
    with house.daemon() as process:
        days(house, process, 41)
        process.send_signal(signal.SIGTERM)
        process.wait(15)
    path = house.folder / "store.db"
    if how == "corrupt":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path.write_bytes(b"this is no database" * 1000)
    environment = {"DRIFTD_TEST_BUSY": "readonly"} if how == "read-only" else {}
    with house.daemon(**environment) as process:
        assert process.wait(60) == 3
    last = house.log().strip().splitlines()[-1]
    assert last.startswith("driftd: store ")
    assert any(w in last for w in words), last
    assert "Traceback" not in house.log()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_fault_24_of_two_daemons_the_one_that_was_stopped_is_fenced(kind: str, tmp_path: Path, receiver: Receiver, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres") if kind == "postgres" else None
    stream = Stream(rows=120, faults={42: [nulls("c0", 0.05)]})
    house = House(tmp_path, receiver, stream, store=url).monitor().write(42).at(42)
    gate = tmp_path / "gate"
    with house.daemon(DRIFTD_TEST_SCAN=json.dumps({"m": f"wait:{gate}"})) as first:
        (tmp_path / "gate").touch()
        house.until(lambda: house.windows() == 2 and house.drained(), "two windows", first)
        gate.unlink()
        (tmp_path / "gate.there").unlink()
        house.write(43).at(43)
        house.until(lambda: (tmp_path / "gate.there").exists(), "the third window begun", first)
        first.send_signal(signal.SIGSTOP)
        house.later(seconds=90)
        house.config["web"]["port"] = 0
        with house.daemon() as second:
            house.until(lambda: house.windows() == 3 and house.drained(), "the other daemon", second, tries=1500)
            gate.touch()
            first.send_signal(signal.SIGCONT)
            house.until(lambda: "lease lost" in house.log() or "taken it over" in house.log(), "the fence", first)
            days(house, second, 44)
    assert house.query("SELECT count(*), count(DISTINCT start), max(revision) FROM run") == [(4, 4, 1)]
    assert house.types() == ["fired", "resolved"]
    house.verify()


def test_fault_25_the_same_window_twice_at_once_and_late_data_make_one_incident(house: House) -> None:
    with house.daemon() as one:
        days(house, one, 41, 42)
        house.config["web"]["port"] = 0
        with house.daemon() as two:
            days(house, one, 43)
            assert two.poll() is None
            rows = house.stream.day(42)  # what was null arrives after all
            house.stream.faults.clear()
            assert rows
            house.stream.write(house.folder, range(42, 43))
            house.at(43, 5)
            house.until(lambda: house.query("SELECT state FROM incident") == [("withdrawn",)] and house.drained(), "the withdrawal", one, tries=1500)
    assert house.types() == ["fired", "withdrawn"]
    assert house.query("SELECT start, max(revision) FROM run GROUP BY start HAVING max(revision) > 1")[0][1] == 2
    assert "withdrawn after late data" in json.dumps(house.told()[-1])
    house.verify()


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(hours=-1), timedelta(hours=8)], ids=["a day ahead", "an hour back", "suspended for 8 h"])
def test_fault_26_a_clock_that_jumps_loses_and_repeats_nothing(house: House, jump: timedelta) -> None:
    with house.daemon() as process:
        days(house, process, 41, 42, 43)
        if jump == timedelta(hours=8):
            process.send_signal(signal.SIGSTOP)
        house.write(44).moment(house.now() + jump)
        if jump == timedelta(hours=8):
            process.send_signal(signal.SIGCONT)
        house.rounds(2, process)
        days(house, process, 44, 45)
    assert house.types() == ["fired", "resolved"]
    assert house.query("SELECT count(*), count(DISTINCT start), max(revision) FROM run WHERE current") == [(5, 5, 1)]
    house.verify()


def test_fault_26_a_clock_that_was_a_day_ahead_and_is_put_right_lets_nothing_wait_and_nothing_unseen(tmp_path: Path, receiver: Receiver) -> None:
    """Hourly windows: the clock is a day ahead for a moment, so that a day of empty windows is evaluated; then it is right again."""
    hour = timedelta(hours=1)
    stream = Stream(rows=120, step=hour, faults={104: [nulls("c0", 0.05)]})
    house = House(tmp_path, receiver, stream).monitor(
        window={"size": "1h", "lateness": "5m"}, start=(START + 100 * hour).isoformat(), labels=None, service={"silent_after": "30d"}, alerts={"fire": "1 of 1"},
        reference={"from": START.isoformat(), "to": (START + 100 * hour).isoformat()}, drift={"budget": "1 per 365d"},
    )
    house.config["owners"]["platform"] = {"channels": ["hook"]}
    house.write(103).moment(START + 103 * hour + timedelta(minutes=6))
    with house.daemon() as process:
        house.until(lambda: house.windows() == 3, "three hours", process)
        house.later(days=1)
        house.until(lambda: house.windows() == 27, "a day of nothing", process)
        house.moment(START + 103 * hour + timedelta(minutes=20))
        house.until(lambda: "the clock was set back" in house.log(), "the step back noticed", process)
        for k in (104, 105, 106):
            house.write(k).moment(START + k * hour + timedelta(minutes=6))
            house.until(lambda k=k: house.query(f"SELECT rows FROM run WHERE current AND start = {int((START + (k - 1) * hour).timestamp() * 1e6)}") == [(120,)], f"hour {k}", process)
        house.until(lambda: house.drained() and house.ready().get("status") == "ok", "what was to be said", process)
    told = [(b["type"], b["data"]["family"]) for b in house.told()]
    assert ("incident.fired", "contract") in told, "the breach of hour 104"
    assert ("incident.resolved", "contract") in told
    house.verify()


def test_fault_27_local_days_of_23_24_and_a_half_and_25_hours_are_one_window_each(tmp_path: Path, receiver: Receiver) -> None:
    house = House(tmp_path, receiver, Stream(rows=100), start=87)
    house.written = 30
    house.write(101)
    house.written = 240  # enough of a reference for October
    house.write(304).at(304)
    zones = {"berlin": "Europe/Berlin", "howe": "Australia/Lord_Howe", "sydney": "Australia/Sydney"}
    for name, zone in zones.items():
        house.monitor(name, contract=None, labels=None, window={"size": "1d", "lateness": "1h", "timezone": zone}, end="2024-04-10", service={"silent_after": "30d"})
    for name, zone, first, end in (("autumn", "Europe/Berlin", "2024-10-24", "2024-10-30"), ("spring", "Australia/Lord_Howe", "2024-10-03", "2024-10-09")):
        window = {"size": "1d", "lateness": "1h", "timezone": zone}
        house.monitor(name, contract=None, labels=None, window=window, start=first, end=end, service={"silent_after": "300d"})
    house.run_until(lambda: house.windows() == 3 * 13 + 2 * 6, "all days")
    hours = {
        name: Counter((b - a) / 3.6e9 for a, b in house.query(f'SELECT start, "end" FROM run WHERE monitor = \'{name}\''))
        for name in (*zones, "autumn", "spring")
    }
    assert hours == {
        "berlin": {23.0: 1, 24.0: 12}, "howe": {24.0: 12, 24.5: 1}, "sydney": {24.0: 12, 25.0: 1}, "autumn": {24.0: 5, 25.0: 1}, "spring": {24.0: 5, 23.5: 1},
    }
    for name in hours:
        spans = sorted(house.query(f'SELECT start, "end" FROM run WHERE monitor = \'{name}\''))
        assert all(a[1] == b[0] for a, b in pairwise(spans)), "no gap, no overlap"


def test_fault_37_a_bad_configuration_on_reload_keeps_the_old_one_and_says_so(house: House) -> None:
    with house.daemon() as process:
        days(house, process, 41, 42)
        (house.folder / "config.yaml").write_text("monitors: {m: {ownr: x")
        process.send_signal(signal.SIGHUP)
        house.until(lambda: "the old one stays in force" in house.log(), "the refusal", process)
        days(house, process, 43)
        refusals = house.log().count("the old one stays in force")
        house.config["monitors"]["m"]["owner"] = "nobody"
        house.save()
        process.send_signal(signal.SIGHUP)
        house.until(lambda: house.log().count("the old one stays in force") > refusals and "there is no owner 'nobody'" in house.log(), "the second refusal", process)
        house.config["monitors"]["m"]["owner"] = "ops"
        days(house, process, 44)
        house.config["monitors"]["m"]["runbook"] = "https://wiki.example/m"
        house.save()
        process.send_signal(signal.SIGHUP)
        house.until(lambda: "configuration reloaded" in house.log(), "the new one", process)
    assert house.types() == ["fired", "resolved"]
    house.verify()


def test_fault_39_a_breach_that_oscillates_is_one_incident_and_three_messages(tmp_path: Path, receiver: Receiver) -> None:
    """200 windows of an hour; fire 1 of 1; the latency is beyond its limit in every third."""

    def slow(rows: dict[str, Any], random: Any) -> None:
        rows["latency"] = rows["latency"] + 500.0

    hour = timedelta(hours=1)
    stream = Stream(rows=60, numbers=1, categories=0, step=hour, faults={k: [slow] for k in range(60, 260, 3)})
    house = House(tmp_path, receiver, stream)
    house.written = 0
    house.write(260)
    house.monitor(
        contract=None, labels=None, window={"size": "1h", "lateness": "5m"}, start=(START + 60 * hour).isoformat(), end=(START + 260 * hour).isoformat(),
        reference={"from": START.isoformat(), "to": (START + 60 * hour).isoformat()}, alerts={"fire": "1 of 1"}, drift={"budget": "1 per 365d"},
        service={"limits": {"latency_p95": {"fail_above": 300}}, "silent_after": "30d"}, columns={"timestamp": "at", "id": "id", "score": "score", "version": "version", "latency": "latency"},
    )
    house.moment(START + 261 * hour)
    with house.daemon() as process:
        house.until(lambda: house.windows() == 200 and house.drained(), "200 windows", process, tries=2400)
        for _ in range(3):  # days go by while it is open: what flaps is not repeated
            house.later(hours=25)
            house.rounds(2, process)
        house.until(house.drained, "nothing more", process)
    mine = house.query("SELECT count(*) FROM incident WHERE members LIKE '%latency%'")
    assert mine == [(1,)]
    said = [b for b in house.told() if "latency" in b["data"]["headline"]]
    print("messages:", [b["type"] for b in said])
    assert [b["type"] for b in house.told()] == ["incident.fired", "incident.resolved", "incident.updated"], "it comes and goes: and that is all"
    house.verify()


def test_fault_41_thirty_restarts_in_ten_minutes_announce_nothing_again(house: House) -> None:
    with house.daemon() as process:
        days(house, process, 41, 42, 43)
    assert house.types() == ["fired"]
    for k in range(30):
        house.later(seconds=20)
        begun = house.log().count('"event": "driftd runs"')
        with house.daemon() as process:
            house.until(lambda begun=begun: house.log().count('"event": "driftd runs"') > begun, f"start {k}", process)
            house.until(lambda: house.ready().get("last_keep_up_seconds") is not None and house.ready().get("last_evaluate_tick_seconds") is not None, "its first rounds", process)
            house.rounds(2, process)
    assert [b["type"] for b in house.told()] == ["incident.fired"]
    house.run_until(lambda: house.write(44).at(44) and house.windows() == 4 and house.drained(), "the end of it")
    assert house.types() == ["fired", "resolved"]
    assert house.duplicates() == 0
    house.verify()


def test_a_daemon_that_makes_no_progress_pings_nobody_and_says_why(house: House, receiver: Receiver) -> None:
    import socket

    address = str(house.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        house.config["dead_man"] = {"url": receiver.url + "/alive", "every": "1s", "allow_hosts": ["127.0.0.1"]}
        with house.daemon(NOTIFY_SOCKET=address) as process:
            assert systemd.recv(100) == b"READY=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            house.until(lambda: [r for r in receiver.ledger if r.path == "/alive"], "a ping", process)
            assert house.ready()["status"] == "ok"
            assert not [s for s in SECRETS.values() if s in command_lines()], "no secret in the process list"
            with sqlite3.connect(house.folder / "store.db", isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                house.later(minutes=20)
                house.until(lambda: house.ready().get("status") == "not ready", "not ready", process)
                pings = sum(r.path == "/alive" for r in receiver.ledger)
                reasons = house.ready()["not_well"]
                assert reasons
                other.execute("ROLLBACK")
            assert sum(r.path == "/alive" for r in receiver.ledger) <= pings + 1
            house.until(lambda: house.ready().get("status") == "ok", "progress again", process)


