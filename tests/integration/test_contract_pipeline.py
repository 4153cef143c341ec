"""A contract in a monitor's life: windows, incidents, changes of the contract, keys over time, stored profiles."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from monitor.store import runs, tables
from tests.streams import START, Rows, Stream, nulls, write_table
from tests.world import World

HEAD = """apiVersion: v3.1.0
kind: DataContract
id: c
version: {version}
status: active
schema:
  - name: rows
    customProperties: [{{property: keyHistory, value: 14d}}]
    properties:
      - {{name: id, logicalType: string, primaryKey: true}}
      - {{name: at, logicalType: timestamp, required: true}}
      - {{name: x0, logicalType: number, required: true, logicalTypeOptions: {{maximum: {maximum}}}}}
      - {{name: x1, logicalType: number}}
      - name: c0
        logicalType: string
        {extra}
        quality:
          - {{metric: invalidValues, arguments: {{validValues: [a, b, c, d]}}, mustBe: 0}}
          - {{id: mean, type: sql, query: "SELECT AVG(x0) FROM {{object}}", mustBeBetween: [-1, 1]}}
      - {{name: score, logicalType: number}}
      - {{name: version, logicalType: string}}
      - {{name: latency, logicalType: number}}
slaProperties:
  - {{property: freshness, value: 12, unit: h, element: rows.at}}
"""


def contract(folder: Path, version: str = "1.0.0", maximum: float = 100, extra: str = "required: true") -> None:
    (folder / "c.yaml").write_text(HEAD.format(version=version, maximum=maximum, extra=extra))


def section(world: World, day: int) -> dict[str, Any]:
    with world.app.store.read() as connection:
        run = runs.current_run(connection, "m", START + timedelta(days=day))
    assert run is not None
    found: dict[str, Any] = run.sections["contract"]
    return found


def violated(world: World, day: int) -> dict[str, dict[str, Any]]:
    return {v["rule"]: v for v in section(world, day)["violations"]}


def again(day: int, of: Stream) -> Any:
    """Deliver the rows of an earlier day once more, at the times of this one."""

    def fault(rows: Rows, random: np.random.Generator) -> None:
        before = of.day(day)
        for name in ("id", "x0", "x1", "c0", "score"):
            rows[name] = before[name]

    return fault


def test_a_violation_is_new_then_ongoing_then_resolved(tmp_path: Path) -> None:
    contract(tmp_path)
    world = World(tmp_path, Stream(faults={41: [nulls("c0", 0.1)], 42: [nulls("c0", 0.1)]}), contract="c.yaml", labels=None)
    world.days(4)
    assert violated(world, 40) == {}
    first, second = violated(world, 41), violated(world, 42)
    assert set(first) == {"c0.required", "c0.invalidValues"}
    assert (first["c0.required"]["state"], second["c0.required"]["state"]) == ("new", "ongoing")
    assert second["c0.required"]["since"] == "2024-02-11T00:00:00Z"
    assert section(world, 43)["resolved"] == ["c0.required", "c0.invalidValues"]
    assert first["c0.required"]["together"] == ["c0.invalidValues"]
    assert [s["row"] for s in first["c0.required"]["samples"]] == sorted(s["row"] for s in first["c0.required"]["samples"])
    assert len(first["c0.required"]["samples"]) == 5
    assert first["c0.required"]["samples"][0]["id"].startswith("41-")
    assert section(world, 41)["rules"] == {"total": 18, "executed": 18, "manual": 0, "not_evaluated": 0, "error": 0}


def test_an_incident_says_that_the_contract_changed_before_it(tmp_path: Path) -> None:
    contract(tmp_path)
    world = World(tmp_path, Stream(), contract="c.yaml", labels=None)
    world.days(2)
    contract(tmp_path, "1.1.0", maximum=1)
    world.day(42)
    changed = section(world, 42)["changed"]
    assert (changed["from"]["version"], changed["to"]["version"], changed["after"]) == ("1.0.0", "1.1.0", "2024-02-11T00:00:00Z")
    (message,) = world.inbox.messages
    assert "The contract changed from version 1.0.0 to 1.1.0 with the window 2024-02-12T00:00:00Z." in message.text
    assert message.payload["data"]["contract_changed"]["to"]["version"] == "1.1.0"
    with world.app.store.read() as connection:
        recorded = [(r.contract_version, r.contract_hash) for r in runs.recent_runs(connection, "m")]
    assert [v for v, _ in recorded] == ["1.1.0", "1.0.0", "1.0.0"]
    assert len({h for _, h in recorded}) == 2


def test_a_batch_delivered_twice_is_named_and_one_window_again_is_not(tmp_path: Path) -> None:
    contract(tmp_path)
    world = World(tmp_path, Stream(faults={43: [again(41, Stream())]}), contract="c.yaml", labels=None)
    world.days(5)
    found = violated(world, 43)["keyHistory"]
    assert found["bad"] == 400
    assert found["cause"] == {"kind": "redelivered", "sentence": "100% of the keys are those of the window 2024-02-11T00:00Z: a re-delivered batch"}
    assert violated(world, 44) == {}
    # the same window evaluated once more is compared with others only
    world.app.watch.pipeline.evaluate("m", world.app.watch.pipeline.prepare("m").grid.at(START + timedelta(days=42)))
    assert violated(world, 42) == {}
    with world.app.store.read() as connection:
        digests = runs.key_digests(connection, "m", START + timedelta(days=45), 10)
    assert [start.day for start, _ in digests] == [10, 11, 12, 13, 14]
    assert all(len(body) < 6000 for _, body in digests)


def test_stored_profiles_answer_what_was_asked_apart_without_a_row(tmp_path: Path) -> None:
    contract(tmp_path)
    world = World(tmp_path, Stream(faults={41: [nulls("c0", 0.1)]}), contract="c.yaml", labels=None)
    world.days(2)
    before = section(world, 41)
    shutil.rmtree(tmp_path / "predictions")
    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    window = prepared.grid.at(START + timedelta(days=41))
    pipeline.evaluate("m", window, stored=pipeline.stored(prepared, window))
    after = section(world, 41)
    assert after["rules"] == before["rules"]
    assert {v["rule"]: (v["bad"], v["samples"]) for v in after["violations"]} == {v["rule"]: (v["bad"], v["samples"]) for v in before["violations"]}


def test_no_offending_value_is_stored_or_sent_as_it_is(tmp_path: Path) -> None:
    contract(tmp_path, extra='classification: restricted')

    def secret(rows: Rows, random: np.random.Generator) -> None:
        rows["c0"] = ["top-secret-value"] * 100 + list(rows["c0"][100:])

    world = World(tmp_path, Stream(faults={41: [secret]}), contract="c.yaml", labels=None)
    world.days(2)
    (violation,) = [v for v in violated(world, 41).values() if v["rule"] == "c0.invalidValues"]
    assert violation["bad"] == 100
    assert {s["shape"] for s in violation["samples"]} == {"aaa-aaaaaa-aaaaa"}
    assert violation["top"][0]["rows"] == 100
    world.app.store.close()
    stored = b"".join(p.read_bytes() for p in tmp_path.glob("store.db*"))
    assert b"top-secret-value" not in stored
    assert all("top-secret-value" not in m.text + str(m.payload) for m in world.inbox.messages)


def test_foreign_keys_are_looked_up_in_the_data_that_the_configuration_names(tmp_path: Path) -> None:
    contract(tmp_path)
    text = (tmp_path / "c.yaml").read_text().replace("        required: true\n", "        relationships: [{to: kinds.kind}]\n")
    text = text.replace("slaProperties:", "  - name: kinds\n    properties: [{name: kind, logicalType: string, required: true}]\nslaProperties:")
    (tmp_path / "c.yaml").write_text(text)
    write_table(pa.table({"kind": ["a", "b", "c"]}), tmp_path / "kinds.parquet")
    named = {"path": "c.yaml", "object": "rows", "data": {"kinds": "kinds.parquet"}}
    world = World(tmp_path, Stream(), contract=named, labels=None)
    world.days(1)
    found = violated(world, 40)["c0.foreignKey"]
    rows = Stream().day(40)["c0"]
    assert found["bad"] == int((rows == "d").sum())
    assert found["top"][0]["rows"] == found["bad"]
    other = {n["rule"]: n["reason"] for n in section(world, 40)["not_evaluated"]}
    assert set(other) == {"kinds/kind.logicalType", "kinds/kind.required"}
    assert section(world, 40)["verdict"] == "fail"


def test_the_store_keeps_every_violation_in_its_table(tmp_path: Path) -> None:
    contract(tmp_path, maximum=1)
    world = World(tmp_path, Stream(), contract="c.yaml", labels=None)
    world.days(1)
    with world.app.store.read() as connection:
        kept = connection.execute(tables.violation.select()).all()
    assert [(v.rule, v.body["state"]) for v in kept] == [("x0.maximum", "new")]


def test_a_rule_in_error_leaves_the_window_evaluated_and_its_labels_are_counted(tmp_path: Path) -> None:
    contract(tmp_path)
    (tmp_path / "c.yaml").write_text((tmp_path / "c.yaml").read_text().replace("AVG(x0)", "AVG(nosuch)"))
    world = World(tmp_path, Stream(), contract="c.yaml", quality={"min_rows": 100})
    world.write(41, labels=False)
    world.written = 40
    world.clock.move_to(START + timedelta(days=41, hours=2))
    (tmp_path / "labels" / "0040.parquet").unlink(missing_ok=True)
    world.app.watch.tick()
    with world.app.store.read() as connection:
        run = runs.current_run(connection, "m", START + timedelta(days=40))
    assert run is not None
    assert (run.verdict, run.error, run.rows, run.revision) == ("error", "", 400, 1)
    assert [(n["rule"], n["status"]) for n in section(world, 40)["not_evaluated"]] == [("mean", "error")]
    world.write(41)
    world.clock.move_to(START + timedelta(days=42, hours=1))
    world.app.watch.tick()
    with world.app.store.read() as connection:
        again_run = runs.current_run(connection, "m", START + timedelta(days=40))
    assert again_run is not None
    assert again_run.revision == 2
    assert again_run.sections["quality"]["labelled"] == 1.0
