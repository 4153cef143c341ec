"""Versions through the whole pipeline: canaries, shadows, releases under watch, commands, runs reproduced."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from checks.core.errors import ConfigError
from monitor.again import find_run, reproduce
from monitor.store import deployments, incidents
from tests.quality import (
    column,
    driftd,
    every_day,
    opened,
    quality,
    rows_of,
    split,
)
from tests.streams import START, Rows, Stream, write_table
from tests.world import World


def test_a_canary_is_compared_on_the_windows_that_both_served(tmp_path: Path) -> None:
    faults = {k: [split(0.2, worse=True)] for k in range(42, 50)}
    world = World(tmp_path, Stream(rows=600, faults=faults), quality={"deployment": {"watch": "0h"}})
    world.days(5)
    compared = quality(world, 44)["compared"]
    assert (compared["first_version"], compared["second_version"], compared["verdict"]) == ("v1", "v2", "worse")
    assert compared["evidence"] >= 100
    versions = {v["version"]: v for v in quality(world, 44)["versions"]}
    assert versions["v1"]["metrics"]["accuracy"][0] > 0.6 > 0.4 > versions["v2"]["metrics"]["accuracy"][0]
    assert versions["v1"]["rows"] + versions["v2"]["rows"] == 600


def test_a_shadow_counts_for_itself_alone_and_is_compared_row_by_row(tmp_path: Path) -> None:
    def shadowed(rows: Rows, random: np.random.Generator) -> None:
        n = len(rows["id"])
        for name in list(rows):
            rows[name] = np.concatenate([rows[name], rows[name]]).tolist() if name not in ("x0", "x1") else np.concatenate([rows[name]] * 2)
        rows["version"] = ["v1"] * n + ["v2"] * n
        rows["score"] = [*rows["score"][:n], *np.clip(np.array(rows["score"][n:]) * 0.2, 0, 1)]

    world = World(tmp_path, Stream(rows=500, faults=every_day(shadowed)), quality={"shadow": "v2", "metrics": ["accuracy"]})
    world.days(2)
    section = quality(world, 40)
    assert "compared" not in section
    assert rows_of(section, metric="accuracy", slice="ALL", estimated=False)[0]["n"] == 500
    assert not [n for n in section.get("notes", []) if "repeated" in n]
    assert {v["version"]: v["shadow"] for v in section["versions"]} == {"v1": False, "v2": True}
    from monitor.ports import CompareJob

    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    with world.app.store.read() as connection:
        windows = deployments.label_counts(connection, "m", START)
    spans = tuple(prepared.grid.at(start) for start, _ in windows)
    found = pipeline.workers.run(CompareJob(prepared.monitor, prepared.settings, "v1", "v2", windows, None, 0.01, spans))
    assert (found["paired"], found["verdict"]) == (True, "worse")
    assert found["delong"]["rows"] == 1000
    assert found["delong"]["low"] <= 0 <= found["delong"]["high"]  # a factor leaves the order of scores


def test_a_bad_release_is_found_within_hours_before_any_label_and_ends_with_it(tmp_path: Path) -> None:
    def nulls(rows: Rows, random: np.random.Generator) -> None:
        late = np.array([at >= START + timedelta(days=44, hours=9) for at in rows["at"]])
        rows["version"] = np.where(late, "v2", rows["version"]).astype(object)
        rows["score"] = [None if bad else s for bad, s in zip(late & (random.random(len(late)) < 0.3), rows["score"], strict=True)]

    rollback = {"url": "http://127.0.0.1:9/rollback", "mode": "approve", "allow_hosts": ["127.0.0.1"], "secret": "s"}
    world = World(tmp_path, Stream(rows=2400, faults={44: [nulls]}), rollback=rollback, quality={"min_rows": 100})
    world.days(4)
    world.write(45)
    world.clock.move_to(START + timedelta(days=44, hours=12, minutes=30))
    world.app.watch.tick()
    with world.app.store.read() as connection:
        (watched,) = deployments.of_monitor(connection, "m")
        (incident,) = [i for i in incidents.listing(connection, "open", "m") if i.members == ["service.deployment[v2]"]]
        decided = incidents.rollback_of(connection, incident.id)
    assert (watched.version, watched.previous, watched.verdict) == ("v2", "v1", "fail")
    assert watched.first_seen == START + timedelta(days=44, hours=9)
    assert "of scores or predictions that are missing" in incident.headline or "missing" in incident.headline
    assert (decided.state, decided.from_version, decided.to_version) == ("awaiting_approval", "v2", "v1")
    for index in range(44, 47):
        world.day(index)
    with world.app.store.read() as connection:
        (watched,) = deployments.of_monitor(connection, "m")
    assert watched.state == "ended"
    assert "does not serve any more" in watched.body["ended"]
    assert ("fail", ["service.deployment[v2]"], "closed") in opened(world)


def test_a_good_release_is_watched_and_says_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=1200, versions={43: "v2"}))
    world.days(9)
    with world.app.store.read() as connection:
        (watched,) = deployments.of_monitor(connection, "m")
    assert (watched.state, watched.verdict) == ("ended", "pass")
    assert watched.body["against"] == "the same hours of earlier days"
    assert opened(world) == []


def test_empty_versions_are_no_release(tmp_path: Path) -> None:
    empty = [column("version", lambda rows, r: [None] * len(rows["id"]))]
    world = World(tmp_path, Stream(faults={42: empty, 43: empty}))
    world.days(5)
    with world.app.store.read() as connection:
        assert deployments.of_monitor(connection, "m") == []
    assert quality(world, 42)["verdict"] in ("pass", "insufficient")


def test_a_run_is_reproduced_to_the_last_digit_and_a_changed_file_is_named(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=600), quality={"slices": ["c0"]})
    world.days(4)
    pipeline = world.app.watch.pipeline
    run = find_run(pipeline, "m@2024-02-11")
    assert run.plan["source"]["files"][0][0].endswith("0041.parquet")
    found = reproduce(pipeline, run)
    assert (found["same"], found["differences"], found["notes"]) == (True, [], [])
    assert found["results"] > 5
    assert find_run(pipeline, str(run.id)).id == run.id
    rows = world.stream.day(41)
    rows.pop("label")
    rows["x0"] = rows["x0"] + 100.0
    write_table(pa.table({name: pa.array(values) for name, values in rows.items()}), tmp_path / "predictions" / "0041.parquet")
    changed = reproduce(pipeline, run)
    assert not changed["same"]
    assert any("0041.parquet has changed" in note for note in changed["notes"])
    with pytest.raises(ConfigError, match="there is no run"):
        find_run(pipeline, "99999")


def test_the_commands_say_it_in_words_and_in_json_and_end_as_a_gate_needs(tmp_path: Path) -> None:
    faults: dict[int, Any] = {k: [split(0.2, worse=True)] for k in range(42, 48)}
    faults |= {k: [split(0.3, "v3")] for k in range(40, 42)}
    world = World(tmp_path, Stream(rows=1500, faults=faults))
    world.days(6)
    world.app.close()
    worse = driftd(world, "compare", "m", "v1", "v2", code=1)
    assert "v2 is worse by accuracy against v1" in worse
    assert json.loads(driftd(world, "compare", "m", "v2", "v1", "--json"))["verdict"] == "better"
    assert json.loads(driftd(world, "compare", "m", "v1", "v3", "--json", "--margin", "0.5"))["verdict"] == "equivalent"
    alone = driftd(world, "compare", "m", "v2", "v3", code=1)
    assert "none together" in alone
    assert "known are v1, v2, v3" in driftd(world, "compare", "m", "v1", "v9", code=2)
    assert "cannot be compared by 'mae'" in driftd(world, "compare", "m", "v1", "v2", "--metric", "mae", code=2)
    releases = {r["version"]: r for r in json.loads(driftd(world, "deployments", "m", "--json"))}
    assert releases["v2"]["previous"] == "v1"
    assert "v2" in driftd(world, "deployments")
    assert "none confirmed" in driftd(world, "weakest", "m", "--window", "2024-02-10") or "SLICE" in driftd(world, "weakest", "m", "--window", "2024-02-10")
    assert json.loads(driftd(world, "weakest", "m", "--from", "2024-02-10", "--to", "2024-02-14", "--json"))["rows"] == 6000
    assert "the same" in driftd(world, "reproduce", "m@2024-02-12")
    body = json.loads(driftd(world, "reproduce", "m@2024-02-12", "--json"))
    assert body["same"]
    assert body["lineage"]["source"]["files"]
    assert "names no run" in driftd(world, "reproduce", "m", code=2)
    checked = driftd(world, "check", "m", "--window", "2024-02-12", code=0)
    assert "estimated accuracy" in checked


def test_a_bad_version_that_stays_keeps_its_incident_until_it_is_gone(tmp_path: Path) -> None:
    slow = [column("latency", lambda rows, r: np.asarray(rows["latency"]) * 4), column("version", lambda rows, r: ["v2"] * len(rows["id"]))]
    faults: dict[int, Any] = dict.fromkeys(range(42, 56), slow)
    world = World(tmp_path, Stream(rows=600, faults=faults))
    world.days(15)
    release = [(s, state) for s, m, state in opened(world) if m == ["service.deployment[v2]"]]
    assert release == [("fail", "open")]
    for index in range(55, 58):
        world.day(index)
    world.day(58)
    assert [state for _, m, state in opened(world) if m == ["service.deployment[v2]"]] == ["closed"]


def test_what_a_person_closed_stays_closed(tmp_path: Path) -> None:
    slow = [column("latency", lambda rows, r: np.asarray(rows["latency"]) * 4), column("version", lambda rows, r: ["v2"] * len(rows["id"]))]
    world = World(tmp_path, Stream(rows=600, faults=dict.fromkeys(range(42, 60), slow)))
    world.days(4)
    with world.app.store.write() as connection:
        (row,) = [i for i in incidents.listing(connection, "open", "m") if i.members == ["service.deployment[v2]"]]
        incidents.update(connection, row.id, state="closed", reason="known, and wanted")
    world.day(44)
    world.day(45)
    assert [state for _, m, state in opened(world) if m == ["service.deployment[v2]"]] == ["closed"]


def test_it_is_the_same_on_postgresql(tmp_path: Path, postgres: str) -> None:
    faults: dict[int, Any] = {k: [split(0.3, worse=True)] for k in range(42, 46)}
    world = World(tmp_path, Stream(rows=600, faults=faults))
    text = (tmp_path / "config.yaml").read_text().replace("sqlite:///store.db", postgres)
    (tmp_path / "config.yaml").write_text(text)
    world.app.close()
    world.app = world.open()
    world.days(5)
    assert world.app.store.engine.dialect.name == "postgresql"
    assert quality(world, 44)["compared"]["verdict"] == "worse"
    with world.app.store.read() as connection:
        (release,) = deployments.of_monitor(connection, "m")
        assert deployments.triangle(connection, "m")
    assert (release.version, release.previous) == ("v2", "v1")
    pipeline = world.app.watch.pipeline
    assert reproduce(pipeline, find_run(pipeline, "m@2024-02-13"))["same"]
    world.app.close()
