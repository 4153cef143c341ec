"""Drift through the whole pipeline: levels that are accepted, small windows, versions, volume, what is held back, history."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from typer.testing import CliRunner

from checks.core.errors import ConfigError
from checks.core.window import Window
from monitor.cli.root import app
from monitor.handle import accept as carry_out
from monitor.store import incidents, outbox, runs
from tests.streams import START, Rows, Stream, bad_model, config_text, shift
from tests.world import World


def day(index: int) -> Window:
    return Window(START + timedelta(days=index), START + timedelta(days=index + 1))


def section(world: World, index: int, key: str = "drift") -> dict[str, Any]:
    with world.app.store.read() as connection:
        run = runs.current_run(connection, "m", day(index).start)
    assert run is not None
    found: dict[str, Any] = run.sections[key]
    return found


def known(world: World) -> list[Any]:
    with world.app.store.read() as connection:
        return list(reversed(incidents.listing(connection)))


def command(world: World, *arguments: str, code: int = 0) -> str:
    world.app.store.close()
    done = CliRunner().invoke(app, ["-c", str(world.folder / "config.yaml"), *arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    structlog.reset_defaults()  # it logs to a stream that is closed now
    world.app = world.open()
    return done.output


def fewer(rows: int) -> Any:
    def fault(found: Rows, random: np.random.Generator) -> None:
        for name, values in found.items():
            found[name] = values[:rows]

    return fault


def lasting(first: int, last: int, *faults: Any) -> dict[int, Any]:
    return {index: list(faults) for index in range(first, last)}


def test_an_accepted_level_ends_the_incident_and_does_not_come_back(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults=lasting(42, 60, shift("x0", 0.9))), labels=None)
    for index in range(40, 44):
        world.day(index)
    assert section(world, 43)["verdict"] == "warn"
    assert section(world, 43)["drivers"][0]["column"] == "x0"
    assert known(world)[0].members == ["drift", "drift[x0]"]
    assert "has no column 'zz'; allowed are (correlation), (rows), c0" in command(world, "accept", "INC-1", "--columns", "zz", code=2)
    assert "INC-1 is not about c0; its columns are" in command(world, "accept", "INC-1", "--columns", "c0", code=2)
    assert "--columns names no column" in command(world, "accept", "INC-1", "--columns", " ,", code=2)
    carry_out(world.app.watch.pipeline, "INC-1", ["x0"], "accept", "ann")
    assert "was accepted already" in command(world, "accept", "1", code=2)
    assert (known(world)[0].state, known(world)[0].reason) == ("closed", "accepted")
    for index in range(44, 50):
        world.day(index)
        assert section(world, index)["verdict"] == "pass", section(world, index)["sentence"]
    assert [(i.family, i.state, i.reason) for i in known(world)] == [("drift", "closed", "accepted")]
    assert world.inbox.types() == [("incident.fired", "drift"), ("incident.resolved", "drift")]
    assert "accepted by ann" in world.inbox.messages[-1].payload["data"]["why"]


def test_without_acceptance_a_lasting_level_is_the_new_normal_after_fourteen_windows(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults=lasting(42, 80, shift("x0", 0.9))), labels=None)
    world.days(20)
    (only,) = known(world)
    assert (only.state, only.reason, only.windows) == ("closed", "new normal", 14)
    assert all(section(world, index)["verdict"] == "pass" for index in range(57, 60))


def test_a_false_alarm_makes_the_chart_slower(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={42: [shift("x0", 0.9)], 47: [shift("x1", 0.24)]}), labels=None)
    for index in range(40, 46):
        world.day(index)
    told = command(world, "false-alarm", "INC-1", "--by", "ann")
    assert told == "counted as a false alarm: the drift limits are wider from now on\n", "it had ended by itself: it has no level"
    world.write(48)
    world.clock.move_to(START + timedelta(days=48, hours=2))
    prepared = world.app.watch.pipeline.prepare("m")
    assert world.app.watch.pipeline.history(prepared, day(47)).widen == 1.5
    assert known(world)[0].reason == "resolved"
    assert world.app.watch.pipeline.history(prepared, day(47)).accepted == ()
    assert all(b.window.start != day(42).start for b in world.app.watch.pipeline.history(prepared, day(47)).baseline)


def test_only_incidents_with_a_level_can_be_accepted(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults=lasting(42, 46, bad_model)), quality={"limits": {"roc_auc": {"fail_below": 0.6}}, "min_rows": 50})
    world.days(5)
    number = next(i.id for i in known(world) if i.family == "quality")
    assert "is of family quality: only drift and data incidents" in command(world, "accept", f"INC-{number}", code=2)
    assert "there is no incident INC-99" in command(world, "accept", "INC-99", code=2)
    assert "is no incident; allowed is a number" in command(world, "false-alarm", "soon", code=2)


def test_small_windows_are_carried_into_the_next_score_which_names_them(tmp_path: Path) -> None:
    faults = {41: [fewer(20)], 42: [fewer(25), shift("x0", 1.5)], 43: [fewer(40), shift("x0", 1.5)]}
    world = World(tmp_path, Stream(faults=faults), labels=None, service={"silent_after": "30d"})
    for index in range(40, 45):
        world.day(index)
    assert section(world, 41)["verdict"] == "insufficient"
    assert "20 rows; 50 are needed" in section(world, 41)["sentence"]
    assert section(world, 42)["verdict"] == "insufficient"
    pooled = section(world, 43)
    assert pooled["pooled"] == ["2024-02-11T00:00:00Z", "2024-02-12T00:00:00Z"]
    assert pooled["verdict"] == "warn"
    assert pooled["drivers"][0]["column"] == "x0"
    assert "pooled with 2 windows too small by themselves" in pooled["sentence"]
    assert "pooled" not in section(world, 44), "what was judged is spent"


def test_a_new_version_is_a_note_and_its_own_scores_are_judged_by_its_own_windows(tmp_path: Path) -> None:
    def calmer(rows: Rows, random: np.random.Generator) -> None:
        rows["score"] = 0.5 + 0.2 * (rows["score"] - 0.5)

    def broken(rows: Rows, random: np.random.Generator) -> None:
        rows["score"] = np.clip(rows["score"] + 0.3, 0, 1)

    faults: dict[int, Any] = lasting(42, 60, calmer) | {57: [calmer, broken]}
    world = World(tmp_path, Stream(faults=faults, versions={42: "v2"}, rows=800, seed=4), labels=None, drift={"seasonality": "none"})
    for index in range(40, 58):
        world.day(index)
    assert "version v2 is new: the baselines of score and prediction restart" in section(world, 42)["sentence"]
    assert section(world, 42)["prediction"]["p_value"] is None
    assert [section(world, index)["sentence"] for index in range(42, 57) if section(world, index)["verdict"] != "pass"] == []
    assert section(world, 56)["prediction"]["windows"] == 14
    (found,) = section(world, 57, "data")["findings"]
    assert (found["kind"], found["verdict"]) == ("prediction", "fail")
    assert "the mean of score is" in found["sentence"]
    assert [i.family for i in known(world)] == ["data"]


def test_halved_volume_is_said_at_once_and_costs_no_token(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults=lasting(44, 46, fewer(150))), labels=None)
    for index in range(40, 46):
        world.day(index)
    (found,) = section(world, 44, "data")["findings"]
    assert found["kind"] == "volume"
    assert "150 rows, usually 400 at this time" in found["sentence"]
    assert [i.family for i in known(world)] == ["data"]
    with world.app.store.read() as connection:
        assert incidents.tokens(connection, "m") == []


def test_what_is_held_back_is_said_once(tmp_path: Path) -> None:
    faults = {40 + 3 * k: [shift(f"x{k % 2}", 0.24 if k > 2 else 0.5)] for k in range(7)}
    world = World(tmp_path, Stream(faults=faults), labels=None, start_day=40, alerts={"clear": 1})
    world.days(22)
    states = [section(world, index)["state"] for index in range(40, 62)]
    assert states.count("watch") >= 1, states
    notices = [m for m in world.inbox.messages if m.payload["type"] == "drift.held_back"]
    assert 1 <= len(notices) < states.count("watch") or states.count("watch") == len(notices) == 1
    apart = [b.now - a.now for a, b in pairwise(notices)]
    assert all(gap > timedelta(days=7) for gap in apart)
    assert "held back: no token of the monitor's budget is left; the next comes" in notices[0].text
    drift = [i for i in known(world) if i.family == "drift"]
    with world.app.store.read() as connection:
        assert len(drift) == len(incidents.tokens(connection, "m")) <= 22 / 30 + 5
        assert outbox.counts(connection) == {"sent": len(world.inbox.messages)}


def test_drift_is_raised_to_fail_when_a_contract_fails_on_the_driver(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: m\n    properties:\n"
        "      - {name: x0, logicalType: number, logicalTypeOptions: {maximum: 4}}\n"
    )
    world = World(tmp_path, Stream(faults=lasting(42, 44, shift("x0", 1.5))), labels=None, contract="c.yaml")
    for index in range(40, 44):
        world.day(index)
    found = section(world, 42)
    assert found["verdict"] == "fail"
    assert found["note"] == "fail, as the contract's rule x0.maximum fails on it"
    assert {(i.family, i.severity) for i in known(world)} == {("contract", "fail"), ("drift", "fail")}


def test_a_training_file_as_reference_is_compared_at_once_and_wobble_is_learned(tmp_path: Path) -> None:
    import pyarrow as pa

    from tests.streams import write_table

    training = Stream(seed=9).day(0)
    write_table(pa.table({name: pa.array(training[name]) for name in ("x0", "x1", "c0")}), tmp_path / "training.parquet")
    world = World(tmp_path, Stream(), labels=None, reference={"path": str(tmp_path / "training.parquet")}, start_day=5)
    for index in range(5, 12):
        world.day(index)
    first = section(world, 5)
    assert first["verdict"] == "insufficient"
    assert first["statistics"][0]["value"] is not None
    assert "too few to say what is normal" in first["sentence"]
    later = section(world, 11)
    assert (later["state"], later["verdict"]) == ("learning", "pass")
    assert later["alert_below"] == 0.001


def test_limits_on_one_column_and_other_statistics_can_be_asked_for(tmp_path: Path) -> None:
    drift = {"limits": {"psi": {"warn_above": 5.0}, "psi[x0]": {"warn_above": 0.1, "fail_above": 0.4}}, "statistics": ["energy", "t_test"]}
    world = World(tmp_path, Stream(faults={41: [shift("x0", 1.0)]}), labels=None, drift=drift)
    world.days(2)
    found = section(world, 41)
    assert {s["kind"] for s in found["statistics"]} == {"psi", "energy", "t_test"}
    assert found["verdict"] == "fail"
    assert "psi of x0:" in found["note"]
    (tmp_path / "other").mkdir()
    with pytest.raises(Exception, match=r"there is no statistic 'nope'"):
        World(tmp_path / "other", Stream(), labels=None, drift={"statistics": ["nope"]})


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> World:
    stream = Stream(faults={50: [shift("x0", 0.9)], 60: [shift("x1", 0.9)]}, wobble=0.05)
    world = World(tmp_path_factory.mktemp("history"), stream, labels=None, end="2024-03-11")
    world.days(30)
    return world


def test_simulate_replays_stored_profiles_under_another_budget(history: World) -> None:
    found = json.loads(command(history, "simulate", "m", "--json"))
    assert {"monitor", "windows", "budget", "allowed", "pages", "watch", "state"} <= set(found)
    assert (found["monitor"], found["windows"], found["budget"]) == ("m", 30, "1 per 30d")
    pages = [p["window"][:10] for p in found["pages"]]
    assert {"2024-02-20", "2024-03-01"} <= set(pages)
    assert len(pages) <= found["bound"]
    with history.app.store.read() as connection:
        sent = [i.first_window.date().isoformat() for i in reversed(incidents.listing(connection)) if i.family == "drift"]
    assert pages == sent, "what is simulated under today's policy is what was sent"
    strict = json.loads(command(history, "simulate", "m", "--budget", "1 per 300d", "--json"))
    assert len(strict["pages"]) <= len(pages)
    assert strict["alert_below"] < found["alert_below"]
    x0 = next(s for s in found["sensitivity"] if s["column"] == "x0")
    assert 0.05 < x0["within"]["1"] < 0.9
    text = command(history, "simulate", "m", "--from", "2024-02-15", "--to", "2024-02-25")
    assert "10 windows judged under budget 1 per 30d" in text
    assert "smallest shift that is found half of the time" in text
    assert "there is nothing to replay" in command(history, "simulate", "m", "--from", "2024-03-01", "--to", "2024-02-01", code=2)
    assert "--budget: 'often' is not a budget" in command(history, "simulate", "m", "--budget", "often", code=2)


def test_history_can_be_replayed_without_a_store_by_one_scan(history: World, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config_text(history.folder, labels=None, start="2024-02-10", end="2024-03-11"))
    done = CliRunner().invoke(app, ["-c", str(tmp_path / "config.yaml"), "simulate", "m", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["windows"] == 30
    assert not (tmp_path / "store.db").exists()


def test_the_detection_matrix_says_what_is_caught_by_which_check(history: World) -> None:
    found = json.loads(command(history, "test", "m", "--json"))
    rows = {(r["fault"], r["column"]): r for r in found["faults"]}
    assert {name for name, _ in rows} >= {
        "mean +0.25 sd", "mean +0.5 sd", "mean +1 sd", "spread x1.5", "category mix 10 points", "new category 2%", "+5% nulls", "unit x1.8+32",
        "gradual, 1 sd in 20 windows", "volume halved",
    }
    assert rows["mean +1 sd", "x0"]["caught"] == rows["mean +1 sd", "x0"]["tried"] >= 1
    assert rows["mean +1 sd", "x0"]["windows"] == 1
    assert any(by.startswith("drift") for by in rows["mean +1 sd", "x0"]["by"])
    assert rows["unit x1.8+32", "x1"]["by"] == ["data"]
    assert rows["new category 2%", "c0"]["windows"] == 1
    assert rows["volume halved", "(rows)"]["caught"] == rows["volume halved", "(rows)"]["tried"]
    assert "after windows" in command(history, "test", "m")


def test_reference_show_says_what_the_baseline_knows(history: World) -> None:
    found = json.loads(command(history, "reference", "show", "m", "--json"))
    assert (found["windows"], found["state"], found["budget_supported"]) == (56, "ready", True)
    assert found["smallest_budget"] == "1 per 112d"
    x0 = next(c for c in found["columns"] if c["name"] == "x0")
    assert x0["natural"].endswith("sd")
    assert "worth" in command(history, "reference", "show", "m")


def test_a_report_has_a_page_of_calibration(history: World) -> None:
    path = Path(command(history, "report", "m", "--window", "2024-03-05").strip())
    text = path.read_text()
    assert "<h2>Calibration</h2>" in text
    assert "drift incident" in text
    assert "p-values of the baseline and since" in text


def test_an_accepted_data_incident_does_not_fire_again(tmp_path: Path) -> None:
    def unseen(rows: Rows, random: np.random.Generator) -> None:
        rows["c0"] = np.array(["new"] * len(rows["id"]), dtype=object)

    world = World(tmp_path, Stream(faults=lasting(42, 60, unseen)), labels=None)
    for index in range(40, 44):
        world.day(index)
    broken = next(i for i in known(world) if i.family == "data")
    with pytest.raises(ConfigError, match="is about c0: a data incident is accepted with all of its columns"):
        carry_out(world.app.watch.pipeline, f"INC-{broken.id}", ["x0"], "accept", "ann")
    carry_out(world.app.watch.pipeline, f"INC-{broken.id}", [], "accept", "ann")
    before = len(known(world))
    for index in range(44, 48):
        world.day(index)
        assert section(world, index, "data")["findings"] == []
    assert len(known(world)) == before


def test_days_made_of_hours_are_replayed_as_days(tmp_path: Path) -> None:
    stream = Stream(rows=100, step=timedelta(hours=6), faults={4 * 45 + k: [shift("x0", 1.0)] for k in range(4)})
    stream.write(tmp_path, range(4 * 50), labels=False)
    (tmp_path / "config.yaml").write_text(config_text(
        tmp_path, labels=None, window={"size": "6h", "lateness": "1h", "rollup": "1d"}, start="2024-02-05", end="2024-02-19",
        drift={"seasonality": "none"},
    ))
    done = CliRunner().invoke(app, ["-c", str(tmp_path / "config.yaml"), "simulate", "m", "--json"], catch_exceptions=False)
    structlog.reset_defaults()
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["windows"] == 14
    assert [p["window"] for p in found["pages"]] == ["2024-02-15T00:00:00Z"]


def test_a_log_that_names_no_version_is_compared_with_all_windows(tmp_path: Path) -> None:
    def nameless(rows: Rows, random: np.random.Generator) -> None:
        rows["version"] = np.array([None] * len(rows["id"]), dtype=object)
        rows["score"] = np.clip(rows["score"] + 0.3, 0, 1)

    world = World(tmp_path, Stream(faults={42: [nameless]}), labels=None)
    for index in range(40, 43):
        world.day(index)
    assert "version" not in section(world, 42)["sentence"]
    assert section(world, 42, "data")["findings"][0]["kind"] == "prediction"


def test_an_incident_that_ended_by_itself_has_no_level_to_accept(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults={41: [shift("x0", 0.9)]}), labels=None)
    world.days(5)
    assert known(world)[0].reason == "resolved"
    assert "is closed (resolved): there is no level left to make normal; driftd false-alarm INC-1 makes" in command(world, "accept", "INC-1", code=2)


def test_an_adopted_incident_stays_as_it_ended_when_its_first_windows_leave_the_range_of_the_fold(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(faults=lasting(42, 57, shift("x0", 0.9))), labels=None)
    world.days(40)
    found = [(i.family, i.state, i.reason) for i in known(world)]
    assert found[0] == ("drift", "closed", "new normal")
    assert len(found) >= 2, "the level went back: that is new again"
    assert all(state != "withdrawn" for _, state, _ in found)
    assert "incident.withdrawn" not in [kind for kind, _ in world.inbox.types()]
    with world.app.store.read() as connection:
        assert len([f for f in found if f[0] == "drift"]) == len(incidents.tokens(connection, "m"))
