"""Stored profiles are judged anew without a row being read, and hourly windows merge into days."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from checks.core.errors import PlanChanged
from checks.core.profile import Binning, Profile
from checks.core.window import Window
from monitor.cli.root import app as cli
from monitor.store import incidents, runs, tables
from tests.streams import START, Stream, shift
from tests.world import World

CONTRACT = """apiVersion: v3.1.0
kind: DataContract
id: c
version: {version}
status: active
schema:
  - name: t
    quality: [{{metric: rowCount, mustBeGreaterThan: {limit}}}]
    properties:
      - {{name: id}}
      - {{name: at}}
      - {{name: x1}}
      - {{name: c0}}
      - {{name: score}}
      - {{name: version}}
      - {{name: latency}}
      - name: x0
        logicalType: number
        logicalTypeOptions: {{maximum: {maximum}}}
"""
QUARTERS = {"size": "6h", "rollup": "1d", "lateness": "1h"}


def contract(folder: Path, version: str = "1.0.0", limit: int = 50, maximum: float = 100.0) -> None:
    (folder / "c.yaml").write_text(CONTRACT.format(version=version, limit=limit, maximum=maximum))


def run_of(world: World, start: Any) -> Any:
    with world.app.store.read() as connection:
        return runs.current_run(connection, "m", start)


def day(index: int) -> Window:
    return Window(START + timedelta(days=index), START + timedelta(days=index + 1))


def backfill(world: World, *options: str) -> Any:
    """The command on the world's store, with no data left to read."""
    return CliRunner().invoke(cli, ["-c", str(world.folder / "config.yaml"), "backfill", "m", "--from", "2024-02-10", "--to", "2024-02-12", *options])


def test_a_changed_threshold_is_judged_from_profiles_when_the_rows_are_gone(tmp_path: Path) -> None:
    contract(tmp_path)
    quality = {"metrics": ["roc_auc", "accuracy"], "slices": ["c0"], "min_rows": 100, "limits": {"roc_auc": {"fail_below": 0.5}}}
    world = World(tmp_path, Stream(), contract="c.yaml", quality=quality)
    world.days(3)
    before = run_of(world, day(41).start)
    assert (before.verdict, before.revision) == ("pass", 1)
    for folder in ("predictions", "labels"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("0.5", "0.99"))
    contract(tmp_path, "1.1.0", limit=5000)
    world.app = world.open()
    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    verdict = pipeline.evaluate("m", day(41), notify=False, stored=pipeline.stored(prepared, day(41)))
    after = run_of(world, day(41).start)
    assert (verdict, after.verdict, after.revision) == ("fail", "fail", 2)
    assert (after.rows, after.fingerprint, after.contract_version) == (before.rows, before.fingerprint, "1.1.0")
    assert after.sections["quality"]["verdict"] == "fail"
    assert after.sections["quality"]["labelled"] == before.sections["quality"]["labelled"]
    assert after.sections["drift"]["p_value"] == before.sections["drift"]["p_value"]
    assert [v["kind"] for v in after.sections["contract"]["violations"]] == ["rowCount"]
    assert world.inbox.messages == []


def test_a_rule_that_counts_other_rows_is_said_to_need_the_rows(tmp_path: Path) -> None:
    contract(tmp_path)
    world = World(tmp_path, Stream(), contract="c.yaml")
    world.days(2)
    contract(tmp_path, "1.1.0", maximum=1.0)
    world.app = world.open()
    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    with pytest.raises(PlanChanged, match=r"what rule x0\.maximum counts has changed: its rows must be counted again, with driftd backfill m --again"):
        pipeline.evaluate("m", day(41), notify=False, stored=pipeline.stored(prepared, day(41)))
    assert run_of(world, day(41).start).revision == 1
    with pytest.raises(PlanChanged, match="no stored profile under today's binning"):
        pipeline.stored(prepared, day(45))
    assert pipeline.evaluate("m", day(41), notify=False) in ("warn", "fail")


def test_backfill_says_what_it_could_not_do_and_again_does_it(tmp_path: Path) -> None:
    contract(tmp_path)
    world = World(tmp_path, Stream(), contract="c.yaml", start_day=40)
    world.days(2)
    world.app.store.close()
    done = backfill(world, "--from-profiles")
    assert (done.exit_code, "m: 2 windows: 2 pass" in done.output) == (0, True), done.output
    contract(tmp_path, "1.1.0", maximum=0.5)
    done = backfill(world, "--from-profiles")
    assert done.exit_code == 3
    assert "2 need their rows" in done.output
    assert "what rule x0.maximum counts has changed" in done.output
    done = backfill(world, "--again")
    assert (done.exit_code, "2 fail" in done.output) == (0, True), done.output
    assert backfill(world, "--again", "--from-profiles").exit_code == 2


def test_drift_is_decided_once_a_day_on_merged_profiles(tmp_path: Path) -> None:
    shifted = {43: [shift("x0", 1.0)], 44: [shift("x0", 1.0)]}
    world = World(tmp_path, Stream(faults=shifted), window=QUARTERS, drift={"seasonality": "none"})
    world.days(8)
    assert world.inbox.types() == [("incident.fired", "drift"), ("incident.resolved", "drift")]
    last = run_of(world, day(43).end - timedelta(hours=6))
    first = run_of(world, day(43).start)
    assert (first.sections["drift"]["state"], first.sections["drift"]["p_value"], first.sections["drift"]["verdict"]) == ("deferred", None, "pass")
    assert "decided with its day, which ends at" in first.sections["drift"]["sentence"]
    assert last.sections["drift"]["verdict"] == "warn"
    assert last.sections["drift"]["alert_below"] == pytest.approx(1 / 30 / 2, rel=0.1)
    assert last.sections["drift"]["drivers"][0]["column"] == "x0"
    with world.app.store.read() as connection:
        assert incidents.tokens(connection, "m") == [last.start]
        (merged,) = [d for d in runs.merged_days(connection, "m", last.binning, day(43).end, 1)]
        hours = runs.pieces(connection, "m", last.binning, day(43).start, day(43).end)
        body = runs.binning_body(connection, last.binning)
    binning = Binning.from_json(body)
    whole = Profile.from_bytes(merged.pieces[0], binning)
    parts = [Profile.from_bytes(p.profile, binning) for p in hours]
    assert (merged.window, len(parts), whole.rows) == (day(43), 4, sum(p.rows for p in parts))
    for name, column in whole.columns.items():
        assert column.layout().tolist() == sum(p.columns[name].layout() for p in parts).tolist()


def test_a_window_that_changes_has_its_day_decided_anew(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(), window=QUARTERS, drift={"seasonality": "none"})
    world.days(2)
    last = day(41).end - timedelta(hours=6)
    before = run_of(world, last)
    world.app.watch.pipeline.evaluate("m", Window(day(41).start, day(41).start + timedelta(hours=6)))
    after = run_of(world, last)
    assert (before.revision, after.revision, run_of(world, day(41).start).revision) == (1, 2, 2)
    assert after.sections["drift"]["p_value"] == before.sections["drift"]["p_value"]
    with world.app.store.write() as connection:
        p = tables.profile.c
        assert len(connection.execute(tables.profile.select().where(p.kind == "rollup", p.start == day(41).start)).all()) == 1
        connection.execute(tables.run.update().where(tables.run.c.start == last).values(plan={}))
    world.app.watch.pipeline.evaluate("m", Window(day(41).start, day(41).start + timedelta(hours=6)))
    assert run_of(world, last).revision == 3
    assert run_of(world, last).plan["rules"]


def test_hourly_profiles_are_forgotten_when_their_day_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(), window=QUARTERS, drift={"seasonality": "none"})
    world.days(5)
    with world.app.store.write() as connection:
        runs.prune(connection, timedelta(days=400), timedelta(days=400), timedelta(days=2), ["m"])
        p = tables.profile.c
        kept = {kind: sorted(row.start for row in connection.execute(tables.profile.select().where(p.kind == kind))) for kind in ("window", "rollup")}
    assert kept["window"][0] == day(42).start  # whole days only
    assert day(41).start in kept["rollup"]
    world.day(45)
    assert run_of(world, day(45).end - timedelta(hours=6)).sections["drift"]["p_value"] is not None


def test_reports_say_when_drift_is_decided_and_on_which_day(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={41: [shift("x0", 1.0)]}), window=QUARTERS, drift={"seasonality": "none"})
    world.days(2)
    quarter = timedelta(hours=6)
    early = world.app.report("m", Window(day(41).start, day(41).start + quarter)).read_text()
    assert "decided with its day, which ends at 2024-02-12T00:00Z" in early
    late = world.app.report("m", Window(day(41).end - quarter, day(41).end)).read_text()
    assert "2024-02-11T00:00Z to 2024-02-12T00:00Z: more unusual than" in late


def test_the_snapshot_of_a_delta_table_is_kept_with_the_run_and_shown(tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from deltalake import write_deltalake

    class DeltaWorld(World):
        def write(self, until: int, *, labels: bool = True) -> None:
            days = range(self.written, until)
            super().write(until, labels=labels)
            for index in days:
                write_deltalake(str(self.folder / "table"), pq.read_table(self.folder / "predictions" / f"{index:04d}.parquet"), mode="append")

    world = DeltaWorld(tmp_path, Stream(), source=str(tmp_path / "table"))
    assert world.app.watch.config.monitors["m"].source.kind == "delta"
    world.days(2)
    run = run_of(world, day(41).start)
    assert (run.rows, run.snapshot) == (400, "delta version 41")
    assert "delta version 41" in world.app.report("m", day(41)).read_text()


def test_an_empty_window_of_a_rolled_up_monitor_is_no_data_and_its_day_is_still_decided(tmp_path: Path) -> None:
    class Quiet(Stream):
        def day(self, index: int) -> Any:
            rows = super().day(index)
            keep = [i for i, t in enumerate(rows["at"]) if index < 40 or t.hour >= 6]
            return {name: [values[i] for i in keep] for name, values in rows.items()}

    world = World(tmp_path, Quiet(), window=QUARTERS, drift={"seasonality": "none"}, labels=None)
    world.days(1)
    assert run_of(world, day(40).start).verdict == "no_data"
    assert run_of(world, day(40).end - timedelta(hours=6)).sections["drift"]["p_value"] is not None


def test_days_are_decided_when_the_clocks_change(tmp_path: Path) -> None:
    """In Berlin 2024-03-31 has 23 hours; daily windows, and hours that make days."""
    (tmp_path / "rolled").mkdir()
    (tmp_path / "daily").mkdir()
    zone = {"timezone": "Europe/Berlin"}
    for folder, window in (("rolled", {**QUARTERS, **zone}), ("daily", {"size": "1d", "lateness": "1h", **zone})):
        world = World(tmp_path / folder, Stream(), start_day=88, window=window, drift={"seasonality": "none"}, labels=None)
        world.days(5)
        with world.app.store.read() as connection:
            rows = runs.recent_runs(connection, "m")
        assert {r.verdict for r in rows} <= {"pass", "warn", "insufficient"}, [(r.start, r.error) for r in rows if r.error]
        assert any((r.end - r.start).total_seconds() / 3600 in (5, 23) for r in rows)


def test_a_window_whose_error_is_over_has_its_day_decided_anew(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(), window=QUARTERS, drift={"seasonality": "none"}, labels=None)
    world.write(41)
    world.clock.move_to(day(40).end + timedelta(hours=2))
    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    first, *rest = [w for w in pipeline.due(prepared) if w.start < day(40).end]
    (tmp_path / "predictions").rename(tmp_path / "hidden")
    assert pipeline.evaluate("m", first) == "error"
    (tmp_path / "hidden").rename(tmp_path / "predictions")
    for window in rest:
        pipeline.evaluate("m", window)
    assert "1 of its windows could not be read" in run_of(world, rest[-1].start).sections["drift"]["sentence"]
    pipeline.evaluate("m", first)
    assert "could not be read" not in run_of(world, rest[-1].start).sections["drift"]["sentence"]
    with world.app.store.read() as connection:
        (merged,) = runs.merged_days(connection, "m", prepared.binning_hash, day(40).end, 1)
        assert Profile.from_bytes(merged.pieces[0], Binning.from_json(prepared.binning)).rows == 400


def test_the_day_of_an_open_incident_is_left_out_of_the_baseline_and_the_days_after_it_are_not(tmp_path: Path) -> None:
    from monitor.rollup import plan_rollup

    world = World(tmp_path, Stream(), window=QUARTERS, drift={"seasonality": "none"}, labels=None)
    world.days(6)
    prepared = world.app.watch.pipeline.prepare("m")
    last = Window(day(45).end - timedelta(hours=6), day(45).end)
    span = (day(43).end - timedelta(hours=6), day(43).end)
    with world.app.store.read() as connection:
        found = plan_rollup(connection, prepared, last, [span])
    assert found is not None
    kept = [d.window.start for d in found.before]
    assert day(43).start not in kept
    assert {day(42).start, day(44).start} <= set(kept)
