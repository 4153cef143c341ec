"""A monitor from its log to its messages, in one process with a clock of its own."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from checks.core.errors import DriftdError
from monitor.app import load_config
from monitor.demo.server import DeploymentServer
from monitor.store import incidents, outbox, runs, tables
from tests.receiver import Receiver, Script
from tests.streams import START, Stream, bad_model, nulls, shift, write_table
from tests.world import World

LIMITS = {"limits": {"roc_auc": {"fail_below": 0.6}}, "metrics": ["roc_auc", "accuracy"], "slices": ["c0"], "min_rows": 100}


def current(world: World, day: int) -> Any:
    with world.app.store.read() as connection:
        return runs.current_run(connection, "m", START + timedelta(days=day))


def found(world: World) -> list[tuple[str, str, str]]:
    with world.app.store.read() as connection:
        return [(i.family, i.severity, i.state) for i in reversed(incidents.listing(connection))]


def test_quiet_windows_are_evaluated_once_each_in_order_and_say_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(), quality=LIMITS)
    world.days(8)
    with world.app.store.read() as connection:
        rows = runs.recent_runs(connection, "m")
        assert [r.start for r in reversed(rows)] == [START + timedelta(days=40 + k) for k in range(8)]
        assert {r.rows for r in rows} == {400}
    assert found(world) == []
    assert world.inbox.messages == []
    final = current(world, 44)
    assert (final.quality_state, final.revision) == ("final", 1)
    assert final.sections["quality"]["metrics"][0]["slice"] == "ALL"
    assert json.dumps(final.sections, allow_nan=False)


def test_a_shift_is_a_drift_incident_that_names_its_column_and_closes(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={43: [shift("x0", 1.0)], 44: [shift("x0", 1.0)]}))
    world.days(8)
    assert world.inbox.types() == [("incident.fired", "drift"), ("incident.resolved", "drift")]
    fired = world.inbox.messages[0]
    assert "x0 +" in fired.text
    assert fired.payload["data"]["drivers"][0]["column"] == "x0"
    sequences = [m.payload["data"]["sequence"] for m in world.inbox.messages]
    assert sequences == list(range(1, len(sequences) + 1))
    with world.app.store.read() as connection:
        assert incidents.tokens(connection, "m") == [START + timedelta(days=43)]


def test_nulls_break_the_contract_and_are_not_told_twice(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n    properties:\n"
        + "".join(f"      - {{name: {n}}}\n" for n in ("id", "at", "x0", "x1", "score", "version", "latency"))
        + "      - {name: c0, required: true}\n"
    )
    world = World(tmp_path, Stream(faults={42: [nulls("c0", 1.0)]}), contract="c.yaml")
    world.days(6)
    assert found(world) == [("contract", "fail", "closed")]
    run = current(world, 42)
    assert run.sections["data"]["findings"][0]["reported_by"] == "c0.required"
    (violation,) = run.sections["contract"]["violations"]
    assert (violation["bad"], violation["line"], violation["kind"]) == (400, 16, "required")
    assert run.contract_version == "1.0.0"


def test_late_labels_make_a_new_revision_and_a_retraction_is_said_once(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(), quality=LIMITS, labels={"source": str(tmp_path / "labels"), "complete": 0.3, "label": "label"})
    wrong = Stream(faults={41: [bad_model]})
    half = wrong.day(41)
    world.day(40)
    stream_rows = world.stream.day(41)
    world.write(42, labels=False)
    keep = range(0, 400, 2)
    flipped = [not bool(half["label"][i]) for i in keep]
    times = [half["at"][i] + timedelta(hours=1) for i in keep]
    write_table(pa.table({"id": [half["id"][i] for i in keep], "label": flipped, "known_at": times}), tmp_path / "labels" / "wrong.parquet")
    world.clock.move_to(START + timedelta(days=42, hours=2))
    world.app.watch.tick()
    assert ("incident.fired", "quality") in world.inbox.types()
    late = pa.table({"id": stream_rows["id"], "label": pa.array(stream_rows["label"]), "known_at": [t + timedelta(hours=9) for t in stream_rows["at"]]})
    write_table(late, tmp_path / "labels" / "right.parquet")
    world.clock.advance(timedelta(hours=7))
    world.app.watch.tick()
    assert world.inbox.types() == [("incident.fired", "quality"), ("incident.withdrawn", "quality")]
    run = current(world, 41)
    assert (run.revision, run.quality_state) == (2, "final")
    world.clock.advance(timedelta(hours=7))
    world.app.watch.tick()
    assert len(world.inbox.messages) == 2


def rollback_world(tmp_path: Path, server: str, **options: Any) -> World:
    config = {"mode": "auto", "url": server + "/rollback", "status_url": server + "/live", "secret": "s", "allow_hosts": ["127.0.0.1"], **options}
    stream = Stream(versions={0: "v1", 44: "v2"}, faults={k: [bad_model] for k in (44, 45)})
    return World(tmp_path, stream, quality=LIMITS, rollback=config)


def rollback_of(world: World) -> Any:
    with world.app.store.read() as connection:
        (row,) = incidents.rollbacks(connection)
    return row


def test_a_bad_version_is_rolled_back_once_and_verified(tmp_path: Path) -> None:
    server = DeploymentServer("v1", "s")
    world = rollback_world(tmp_path, server.address)
    world.days(4)
    server.version = "v2"
    world.day(44)
    assert server.version == "v1"
    row = rollback_of(world)
    assert (row.state, row.from_version, row.to_version) == ("accepted", "v2", "v1")
    world.clock.advance(timedelta(minutes=11))
    world.app.watch.deliver()
    assert rollback_of(world).state == "confirmed"
    world.stream.versions[45] = "v1"
    for day in (45, 46, 47):
        world.day(day)
        world.clock.advance(timedelta(minutes=11))
        world.app.watch.deliver()
    assert len(server.calls) == 1
    assert rollback_of(world).state == "effective"
    assert "held in 2 windows after it" in rollback_of(world).detail
    with world.app.store.read() as connection:
        steps = [r.action for r in connection.execute(tables.audit.select().order_by(tables.audit.c.id)) if r.action.startswith("rollback.")]
    assert steps[-5:] == ["rollback.dispatched", "rollback.accepted", "rollback.confirmed", "rollback.verified", "rollback.effective"]
    assert any("Rollback from v2 to v1" in m.text for m in world.inbox.messages)
    server.close()


def test_verification_fails_and_says_so_when_the_version_never_changes(tmp_path: Path, receiver: Receiver) -> None:
    receiver.default = Script(200, json.dumps({"version": "v2", "in_progress": False}))
    world = rollback_world(tmp_path, receiver.url)
    world.days(5)
    world.clock.advance(timedelta(minutes=11))
    world.app.watch.deliver()
    assert rollback_of(world).state == "failed"
    assert "says that v2 is live" in rollback_of(world).detail
    assert world.inbox.messages[-1].payload["data"]["rollback"]["state"] == "failed"


def test_a_lost_reply_is_probed_and_never_repeated_when_it_had_its_effect(tmp_path: Path, receiver: Receiver) -> None:
    world = rollback_world(tmp_path, receiver.url)
    world.days(4)
    receiver.script.append(Script(drop=True))
    receiver.default = Script(200, json.dumps({"version": "v1", "in_progress": False}))
    world.day(44)
    assert rollback_of(world).state == "unknown"
    world.app.watch.deliver()
    assert rollback_of(world).state == "confirmed"
    assert [r.method for r in receiver.ledger].count("POST") == 1


def test_a_lost_reply_without_effect_is_repeated_once_with_the_same_id(tmp_path: Path, receiver: Receiver) -> None:
    world = rollback_world(tmp_path, receiver.url)
    world.days(4)
    receiver.script.append(Script(drop=True))
    receiver.default = Script(200, json.dumps({"version": "v2", "in_progress": False}))
    world.day(44)
    for _ in range(4):
        world.clock.advance(timedelta(minutes=11))
        world.app.watch.deliver()
    posts = [r for r in receiver.ledger if r.method == "POST"]
    assert len(posts) == 2
    assert len({r.headers["webhook-id"] for r in posts}) == 1
    assert rollback_of(world).state == "failed"


@pytest.mark.parametrize(("mode", "state"), [("dry_run", "dry_run"), ("approve", "awaiting_approval")])
def test_other_modes_send_nothing(tmp_path: Path, receiver: Receiver, mode: str, state: str) -> None:
    world = rollback_world(tmp_path, receiver.url, mode=mode, approve_within="3d")
    world.days(6)
    assert rollback_of(world).state == state
    assert receiver.ledger == []


def test_what_is_known_of_a_monitor_follows_a_reload(tmp_path: Path, receiver: Receiver) -> None:
    world = rollback_world(tmp_path, receiver.url)
    world.days(1)
    path = tmp_path / "config.yaml"
    text = json.loads(path.read_text())
    text["monitors"]["m"]["rollback"]["mode"] = "off"
    path.write_text(json.dumps(text))
    world.app.watch.reload(load_config(path), {"log": world.inbox})
    known = world.app.watch.pipeline.known("m")
    assert known is not None
    assert known.monitor.rollback.effective_mode == "off"


def test_the_kill_switch_stops_a_decided_rollback(tmp_path: Path, receiver: Receiver) -> None:
    world = rollback_world(tmp_path, receiver.url)
    world.days(4)
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kill_switch": "no-rollback"}))
    world.app = world.open()
    (tmp_path / "no-rollback").touch()
    world.days(5)
    assert rollback_of(world).state == "blocked"
    assert receiver.ledger == []


# -- bad input: each a clear error or verdict; other monitors go on; nothing is lost


def error_of(world: World, day: int) -> str:
    run = current(world, day)
    assert run.verdict == "error", run.sections
    return str(run.error)


def test_a_truncated_file_is_an_error_that_names_it_and_the_next_try_heals(tmp_path: Path) -> None:
    world = World(tmp_path, Stream())
    world.days(2)
    path = tmp_path / "predictions" / "0042.parquet"
    world.write(43)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    world.clock.move_to(START + timedelta(days=43, hours=2))
    world.app.watch.tick()
    assert "0042.parquet: not a readable Parquet file" in error_of(world, 42)
    assert "0042.parquet: not a readable Parquet file" in world.app.watch.problems["m"]
    assert world.inbox.messages[-1].payload["data"]["owner"] == "platform"
    path.write_bytes(whole)
    world.clock.advance(timedelta(hours=1))
    world.app.watch.tick()
    assert current(world, 42).verdict == "pass"
    assert world.app.watch.problems == {}


def test_a_missing_column_and_a_changed_type_are_data_incidents_and_hide_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path, Stream())
    world.days(2)
    rows = world.stream.day(42)
    rows.pop("label")
    rows.pop("x1")
    rows["x0"] = [str(v) for v in rows["x0"]]
    world.write(42)
    write_table(pa.table({k: pa.array(v) for k, v in rows.items()}), tmp_path / "predictions" / "0042.parquet")
    world.written = 43
    world.day(42)
    run = current(world, 42)
    sentences = {f["column"]: f["sentence"] for f in run.sections["data"]["findings"]}
    assert sentences["x1"] == "x1: the column is missing"
    assert "the column is of type string" in sentences["x0"]
    assert run.sections["drift"]["p_value"] is not None
    assert run.rows == 400


def test_no_rows_and_all_null_columns_are_said_and_hold_everything_else(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={41: [nulls("x0", 1.0)]}))
    world.days(2)
    assert current(world, 41).sections["data"]["findings"][0]["kind"] == "mostly_missing"
    world.written = 43
    world.day(43)
    empty = current(world, 42)
    assert (empty.verdict, empty.rows) == ("no_data", 0)
    assert {s["verdict"] for s in empty.sections.values()} <= {"no_data", "insufficient"} | {"pass"}
    assert any(m.payload["data"]["headline"] == "the window has no rows" for m in world.inbox.messages)


def test_duplicate_ids_are_counted_once_and_said(tmp_path: Path) -> None:
    def twice(rows: dict[str, Any], random: Any) -> None:
        rows["id"] = [rows["id"][i // 2] for i in range(len(rows["id"]))]

    world = World(tmp_path, Stream(faults={41: [twice]}), quality=LIMITS)
    world.days(3)
    run = current(world, 41)
    assert any(f["kind"] == "duplicate_ids" and "200 of 400" in f["sentence"] for f in run.sections["data"]["findings"])
    assert "200 prediction ids are repeated" in run.sections["quality"]["notes"][0]


def test_event_times_that_cannot_be_read_are_an_error_naming_file_and_value(tmp_path: Path) -> None:
    world = World(tmp_path, Stream())
    world.days(2)
    rows = world.stream.day(42)
    rows.pop("label")
    rows["at"] = [t.isoformat() for t in rows["at"][:-1]] + ["yesterday-ish"]
    world.write(42)
    write_table(pa.table({k: pa.array(v) for k, v in rows.items()}), tmp_path / "predictions" / "0042.parquet")
    world.written = 43
    world.clock.move_to(START + timedelta(days=43, hours=2))
    world.app.watch.tick()
    assert "'yesterday-ish'" in error_of(world, 42)
    assert "0042.parquet" in error_of(world, 42)


def test_a_broken_monitor_stops_no_other_and_goes_to_platform(tmp_path: Path) -> None:
    world = World(tmp_path, Stream())
    text = json.loads((tmp_path / "config.yaml").read_text())
    text["monitors"]["broken"] = {**text["monitors"]["m"], "source": str(tmp_path / "nowhere")}
    (tmp_path / "empty").mkdir()
    text["monitors"]["empty"] = {**text["monitors"]["m"], "source": str(tmp_path / "empty")}
    (tmp_path / "config.yaml").write_text(json.dumps(text))
    world.app = world.open()
    world.days(2)
    assert "there is no such file or directory" in world.app.watch.problems["broken"]
    assert "there is no Parquet file yet" in world.app.watch.problems["empty"]
    with world.app.store.read() as connection:
        assert runs.count_runs(connection, "m") == 2


def test_a_delta_table_read_as_parquet_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, Stream())
    (tmp_path / "predictions" / "_delta_log").mkdir()
    (tmp_path / "predictions" / "_delta_log" / "0.json").write_text("{}")
    with pytest.raises(DriftdError, match="use kind: delta"):
        world.app.watch.pipeline.prepare("m")


def test_missed_windows_are_caught_up_in_order_and_messages_say_that_they_are_late(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={42: [shift("x0", 2.0)], 49: [shift("x1", 2.0)]}))
    world.write(50)
    world.clock.move_to(START + timedelta(days=50, hours=2))
    world.app.watch.tick()
    with world.app.store.read() as connection:
        order = [r.start for r in sorted(runs.recent_runs(connection, "m"), key=lambda r: r.id)]
    assert order == [START + timedelta(days=40 + k) for k in range(10)]
    by_type = {m.payload["type"]: m for m in world.inbox.messages}
    assert sorted(by_type) == ["incident.fired", "incident.summary"], "what came and went is a line, what still fires a message"
    assert "x1" in by_type["incident.fired"].text
    assert "CAME AND WENT while m was catching up: 1 incident" in by_type["incident.summary"].text
    assert "INC-1 [warn] m: " in by_type["incident.summary"].text


def test_silence_between_windows_is_an_incident_and_ends_when_events_return(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(), service={"silent_after": "3h"})
    world.days(2)
    world.clock.advance(timedelta(hours=12))
    world.app.watch.tick()
    assert world.inbox.types() == [("incident.fired", "service")]
    world.clock.advance(timedelta(hours=1))
    world.app.watch.tick()
    assert len(world.inbox.messages) == 1
    world.day(42)
    assert world.inbox.types() == [("incident.fired", "service"), ("incident.resolved", "service")]


def test_a_rerun_announces_nothing_again(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={41: [shift("x0", 2.0)]}))
    world.days(4)
    before = len(world.inbox.messages)
    with world.app.store.write() as connection:
        connection.execute(tables.run.update().values(fingerprint="changed"))
    world.clock.advance(timedelta(hours=7))
    world.app.watch.tick()
    assert current(world, 43).revision >= 2
    assert len(world.inbox.messages) == before
    with world.app.store.read() as connection:
        assert outbox.counts(connection) == {"sent": before}


def test_what_retention_forgets_is_not_evaluated_again(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={41: [shift("x0", 2.0)]}))
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), "retention": {"results": "3d", "profiles": "60d"}}))
    world.app = world.open()
    world.days(8)
    before = len(world.inbox.messages)
    with world.app.store.write() as connection:
        runs.prune(connection, timedelta(days=60), timedelta(days=3))
        assert runs.count_runs(connection, "m") == 4
    world.clock.advance(timedelta(hours=7))
    world.app.watch.tick()
    with world.app.store.read() as connection:
        assert runs.count_runs(connection, "m") == 4
    assert len(world.inbox.messages) == before


def test_personal_columns_leave_no_text_in_the_store(tmp_path: Path) -> None:
    columns = {"timestamp": "at", "id": "id", "score": "score", "version": "version", "latency": "latency", "personal": ["c0"]}

    def names(rows: dict[str, Any], random: Any) -> None:
        rows["c0"] = ["zebrafinch" if value == "a" else value for value in rows["c0"]]

    stream = Stream(faults={k: [names] for k in range(50)})
    world = World(tmp_path, stream, columns=columns, quality={**LIMITS})
    world.days(3)
    world.app.store.close()
    stored = b"".join(p.read_bytes() for p in tmp_path.glob("store.db*"))
    assert b"zebrafinch" not in stored


def test_rare_categories_are_stored_as_hashes(tmp_path: Path) -> None:
    def rare(rows: dict[str, Any], random: Any) -> None:
        rows["c0"][0] = "wombat"

    world = World(tmp_path, Stream(faults={39: [rare]}))
    world.days(1)
    binning = world.app.watch.pipeline.prepare("m").binning
    assert "wombat" not in binning
    assert '"a"' in binning


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_other_tasks_are_measured_too(tmp_path: Path, task: str) -> None:
    def values(rows: dict[str, Any], random: Any) -> None:
        if task == "regression":
            rows["label"] = rows["score"] + random.normal(0, 0.1, len(rows["id"]))
        else:
            rows["label"] = rows["c0"]

    columns = {"timestamp": "at", "id": "id", "version": "version", "prediction": "score" if task == "regression" else "c0"}
    stream = Stream(faults={k: [values] for k in range(50)})
    world = World(tmp_path, stream, task=task, columns=columns, quality={"min_rows": 50})
    world.days(2)
    metrics = {m["metric"]: m["value"] for m in current(world, 40).sections["quality"]["metrics"]}
    if task == "regression":
        assert metrics["mae"] == pytest.approx(0.08, abs=0.02)
        assert metrics["rmse"] == pytest.approx(0.1, abs=0.02)
    else:
        assert metrics == {"accuracy": 1.0, "macro_f1": 1.0}


def test_an_empty_window_is_one_incident_and_inhibits_its_other_rules(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n    properties: []\n"
        "    quality: [{metric: rowCount, mustBeGreaterThan: 10}]\n"
    )
    world = World(tmp_path, Stream(), contract="c.yaml")
    world.days(2)
    world.written = 43
    world.day(43)
    assert [family for family, _, _ in found(world)] == ["service"]
    assert current(world, 42).sections["contract"]["verdict"] == "inhibited"


def test_the_whole_way_works_on_postgresql(tmp_path: Path, postgres: str) -> None:
    server = DeploymentServer("v1", "s")
    world = rollback_world(tmp_path, server.address)
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), "store": postgres}))
    world.app = world.open()
    world.days(4)
    server.version = "v2"
    world.day(44)
    world.clock.advance(timedelta(minutes=11))
    world.app.watch.deliver()
    assert rollback_of(world).state == "confirmed"
    assert len(server.calls) == 1
    assert ("incident.fired", "quality") in world.inbox.types()
    world.app.close()
    server.close()
