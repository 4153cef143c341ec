"""What the demo must show, and what a newcomer does with it afterwards."""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.conftest import DemoRun, driftd
from tests.conftest import absent

pytestmark = pytest.mark.xdist_group("demo")


def query(demo: DemoRun, text: str) -> list[Any]:
    with sqlite3.connect(demo.folder / "demo" / "driftd.db") as connection:
        return connection.execute(text).fetchall()


def test_the_store_holds_one_current_run_per_window(demo: DemoRun) -> None:
    assert query(demo, "SELECT count(*), count(DISTINCT start) FROM run WHERE current") == [(260, 260)]
    assert demo.summary["windows"] == 260


def test_each_planted_fault_is_an_incident_of_the_right_family_from_its_first_day(demo: DemoRun) -> None:
    planted = {(i["planted"], i["family"], i["first"]) for i in demo.summary["incidents"] if i["planted"]}
    assert planted == {
        ("carrier is null", "contract", "2013-06-18"), ("temperature in Celsius", "data", "2013-08-06"),
        ("a bad model version goes live", "quality", "2013-10-09"), ("a bad model version goes live", "service", "2013-10-09"),
    }


def test_the_rollback_was_delivered_once_and_is_verified(demo: DemoRun) -> None:
    (rollback,) = demo.summary["rollbacks"]
    assert (rollback["from"], rollback["to"], rollback["state"]) == ("v2-bad", "v1", "verified")
    assert demo.summary["calls"] == 1
    versions = dict(query(demo, "SELECT start / 86400000000, model_versions FROM run WHERE current"))
    days = {day: json.loads(text) for day, text in versions.items()}
    bad = sorted(day for day, found in days.items() if "v2-bad" in found)
    assert len(bad) == 1  # the watch of the release found it without labels, which come a day later
    assert set(days[bad[-1] + 1]) == {"v1"}


def test_drift_keeps_the_ledgers_bound_and_every_message_was_delivered(demo: DemoRun) -> None:
    drift = [i for i in demo.summary["incidents"] if i["family"] == "drift"]
    assert 1 <= len(drift) <= 260 / 30 + 5
    assert set(demo.summary["messages"]) == {"delivered", "sent"}
    assert demo.summary["messages"]["delivered"] == query(demo, "SELECT count(*) FROM outbox WHERE kind = 'alert'")[0][0]


def test_a_year_of_flights_gives_few_drift_incidents_whose_sentences_hold_against_the_rows(demo: DemoRun) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    drift = [i for i in demo.summary["incidents"] if i["family"] == "drift" and not i["planted"]]
    assert len(drift) <= 10
    sections = {
        datetime.fromtimestamp(start / 1e6, ZoneInfo("America/New_York")).date().isoformat(): json.loads(text)["drift"]
        for start, text in query(demo, "SELECT start, sections FROM run WHERE current")
    }
    beyond = [d for d, s in sections.items() if s["p_value"] is not None and s["p_value"] < 1 / 60]
    print("drift incidents", len(drift), "windows beyond 1/60", len(beyond))
    assert len(beyond) <= 60
    for incident in drift:
        found = sections[incident["first"]]
        assert found["drivers"]
        assert incident["headline"].lower().startswith(found["sentence"].lower())
        rows = pq.read_table(demo.folder / "demo" / "log" / "predictions" / f"{incident['first']}.parquet")
        for driver in found["drivers"]:
            if driver["column"].startswith("("):
                continue
            column = rows.column(driver["column"])
            if driver["contrast"] == "missing":
                assert driver["value"] == pytest.approx(column.null_count / len(column), abs=1e-6)
            elif driver["contrast"] == "location":
                assert driver["observed"] == pytest.approx(pc.mean(column).as_py(), rel=1e-4)
                assert (driver["observed"] > driver["usually"]) == (driver["effect"] > 0)
            elif driver["contrast"] == "spread":
                assert driver["observed"] == pytest.approx(pc.stddev(column).as_py(), rel=1e-3)
            elif driver["contrast"] == "category":
                texts = pc.cast(column, "string")
                assert driver["value"] == pytest.approx(pc.sum(pc.equal(texts, driver["detail"])).as_py() / (len(column) - column.null_count), rel=1e-4)


def test_the_datas_own_drift_shows(demo: DemoRun) -> None:
    september = demo.summary["september"]
    assert september["expected"] > september["late"] + 0.04
    months = dict(demo.summary["temperature"])
    assert months["2013-04"] < months["2013-06"]
    assert max(months["2013-07"], months["2013-08"]) > 1.0


def test_check_prints_the_documented_object_and_stores_nothing(demo: DemoRun) -> None:
    before = query(demo, "SELECT count(*) FROM run")
    done = driftd("check", "flight-delay", "--window", "2013-07-01", "--json", folder=demo.folder, expect=None)
    found = json.loads(done.stdout)
    assert done.returncode == {"pass": 0, "warn": 1, "fail": 1}.get(found["verdict"], 3)
    assert list(found) == [
        "monitor", "window", "as_of", "verdict", "rows", "model_versions", "reference", "baseline", "seconds", "contract", "data", "drift",
        "quality", "service",
    ]
    assert found["window"] == {"start": "2013-07-01T04:00:00Z", "end": "2013-07-02T04:00:00Z"}
    assert found["as_of"] == "2013-07-02T06:00:00Z"
    assert (found["rows"], found["baseline"], found["model_versions"]) == (966, 56, {"v1": 966})
    assert set(found["drift"]) >= {"verdict", "state", "p_value", "alert_below", "budget", "tokens", "seasonality", "drivers", "sentence", "statistics"}
    assert found["drift"]["alert_below"] == pytest.approx(1 / 60, abs=1e-6)
    assert set(found["quality"]["metrics"][0]) == {"metric", "slice", "value", "low", "high", "n", "verdict", "estimated"}
    assert found["quality"]["state"] == "final"
    assert {"p50", "p95"} <= set(found["service"]["latency_ms"])
    assert found["reference"].startswith("sha256:")
    assert query(demo, "SELECT count(*) FROM run") == before


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["status"], {"monitor", "verdict", "window"}), (["runs", "flight-delay"], {"monitor", "window", "revision", "verdict", "rows", "seconds"}),
        (["incidents"], {"id", "monitor", "family", "severity", "state", "headline", "opened_at", "closed_at", "reason", "windows", "owner"}),
        (["rollback", "list"], {"id", "incident", "monitor", "mode", "state", "from_version", "to_version", "guards"}),
    ],
)
def test_every_listing_has_its_documented_keys(demo: DemoRun, arguments: list[str], keys: set[str]) -> None:
    rows = json.loads(driftd(*arguments, "--json", folder=demo.folder).stdout)
    assert rows
    assert keys <= set(rows[0])
    assert driftd(*arguments, folder=demo.folder).stdout.strip()


def test_the_other_commands_answer(demo: DemoRun) -> None:
    assert "valid, 1 monitors" in driftd("validate", folder=demo.folder).stdout
    assert "budget 1 per 30d: supported" in driftd("reference", "show", "flight-delay", folder=demo.folder).stdout
    assert json.loads(driftd("schema", folder=demo.folder).stdout)["title"]
    assert "is 0005 already" in driftd("migrate", folder=demo.folder).stdout
    assert '"type": "test"' in driftd("channel", "test", "log", folder=demo.folder).stdout
    incident = next(f"INC-{i['id']}" for i in demo.summary["incidents"] if i["family"] == "quality")
    assert "attribution" in driftd("rollback", "why-not", incident, folder=demo.folder).stdout
    assert "there is no monitor 'nobody'" in driftd("check", "nobody", folder=demo.folder, expect=2).stderr
    assert "there is no channel 'x'" in driftd("channel", "test", "x", folder=demo.folder, expect=2).stderr
    backfill = driftd("backfill", "flight-delay", "--from", "2013-04-10", "--to", "2013-04-13", folder=demo.folder)
    assert "3 windows" in backfill.stdout
    assert query(demo, "SELECT count(*) FROM incident WHERE first_window < 1366000000000000") == [(0,)]
    with sqlite3.connect(demo.folder / "demo" / "driftd.db") as connection:
        connection.execute("DELETE FROM result WHERE run_id IN (SELECT id FROM run WHERE start < 1366084800000000)")
        connection.execute("DELETE FROM violation WHERE run_id IN (SELECT id FROM run WHERE start < 1366084800000000)")
        connection.execute("DELETE FROM run WHERE start < 1366084800000000")


def test_five_lines_are_enough_and_the_defaults_are_printed(demo: DemoRun, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        f"""monitors:
  flights:
    owner: "slack:#flights"
    source: {demo.folder}/demo/log/predictions/
    labels: {demo.folder}/demo/log/labels/
    columns: {{timestamp: predicted_at, id: prediction_id, score: p_late, version: model_version}}
    task: binary
"""
    )
    token = {"SLACK_BOT_TOKEN": "xoxb-none"}
    plan = driftd("plan", folder=tmp_path, **token).stdout
    for words in ("size: 1d", "budget: 1 per 30d", "label: was_late", "p_late >= 0.5", "inferred from the reference", "mode: 'off'", "the log is old"):
        assert words in plan, plan
    assert "xoxb-none" not in plan
    found = json.loads(driftd("check", "flights", "--window", "2013-12-20", "--json", folder=tmp_path, expect=None, **token).stdout)
    assert found["rows"] > 800
    assert found["contract"]["rules"]["executed"] > 10
    assert not (tmp_path / "driftd.db").exists(), "a check stores nothing"
    done = driftd("backfill", "flights", "--from", "2013-12-20", "--to", "2013-12-23", folder=tmp_path, **token)
    assert "3 windows" in done.stdout


def test_reports_are_small_whole_and_ask_no_other_host(demo: DemoRun) -> None:
    reports = sorted((demo.folder / "demo" / "reports" / "flight-delay").glob("2013-*.html"))
    assert len(reports) == 260
    assert max(r.stat().st_size for r in reports) < 500_000
    text = next(r for r in reports if r.name.startswith("2013-08-06")).read_text()
    assert "Celsius instead of Fahrenheit" in text
    assert text.count("<svg") > 5
    assert "<script" not in text
    assert not re.search(r'(src|href)\s*=\s*"(https?:)?//', text)
    assert list((demo.folder / "demo" / "reports" / "flight-delay").glob("evidently-*.html"))


def test_a_real_browser_shows_the_report_without_javascript_or_requests(demo: DemoRun) -> None:
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        absent("Debian's chromium")
    from playwright.sync_api import sync_playwright

    report = next((demo.folder / "demo" / "reports" / "flight-delay").glob("2013-10-09*.html"))
    asked: list[str] = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=str(chromium), args=flags)
        page = browser.new_context(java_script_enabled=False).new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        assert "flight-delay" in page.locator("h1").inner_text()
        assert "v2-bad" in page.locator("body").inner_text()
        assert page.locator("svg").first.bounding_box()["height"] > 10  # type: ignore[index]
        browser.close()
    assert asked == [report.as_uri()]
