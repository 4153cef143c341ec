"""Quality through the whole pipeline: slices, estimates, late labels, versions, releases, business figures, parity, lineage."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from checks.core.errors import ConfigError
from monitor.app import load_config, write_report
from monitor.ports import WeakestJob
from tests.quality import (
    COLUMNS,
    column,
    current,
    every_day,
    foreign_labels,
    hold_labels,
    late_labels,
    opened,
    quality,
    rows_of,
)
from tests.streams import START, Rows, Stream, write_table
from tests.world import World

# -- slices and metrics of one's own


def test_slices_by_column_bins_crossing_and_expression_are_measured_and_one_that_disappears_says_so(tmp_path: Path) -> None:
    def gone(rows: Rows, random: np.random.Generator) -> None:
        del rows["c0"]

    slices = ["c0", {"column": "x0", "bins": [-0.5, 0.5]}, ["c0", {"column": "x1", "bins": 2}], {"name": "high", "where": "x0 > 1 and c0 = 'a'"}]
    world = World(tmp_path, Stream(rows=800, faults={41: [gone]}), quality={"slices": slices, "metrics": ["accuracy"], "min_rows": 30})
    world.days(2)
    found = {row["slice"]: row for row in rows_of(quality(world, 40), metric="accuracy", estimated=False)}
    assert {"c0=a", "x0<-0.5", "-0.5<=x0<0.5", "x0>=0.5", "high"} <= set(found)
    assert sum(found[f"c0={c}"]["n"] for c in "abcd") == 800
    assert found["x0<-0.5"]["n"] + found["-0.5<=x0<0.5"]["n"] + found["x0>=0.5"]["n"] == 800
    crossed = [name for name in found if name.startswith("c0=a & x1")]
    assert sum(found[name]["n"] for name in crossed) == found["c0=a"]["n"]
    (small,) = [row for row in found.values() if row["slice"] == "high"]
    rows = world.stream.day(40)
    assert small["n"] == int(((rows["x0"] > 1) & (rows["c0"] == "a")).sum())
    after = quality(world, 41)
    broken = {row["slice"]: row["reason"] for row in after["metrics"] if row["verdict"] == "error"}
    assert broken["c0"] == "the window has no column 'c0'"
    assert after["verdict"] == "error"
    assert rows_of(after, metric="accuracy", slice="x0<-0.5", estimated=False)


def test_a_small_slice_is_insufficient_and_says_what_it_could_have_shown(tmp_path: Path) -> None:
    limits = {"accuracy": {"fail_below": 0.99}}
    world = World(tmp_path, Stream(rows=400), quality={"slices": ["c0"], "metrics": ["accuracy"], "min_rows": 100, "limits": limits})
    world.days(1)
    found = {row["slice"]: row for row in rows_of(quality(world, 40), estimated=False)}
    assert found["c0=d"]["verdict"] == "insufficient"
    n, p = found["c0=d"]["n"], found["c0=d"]["value"]
    assert found["c0=d"]["detectable"] == pytest.approx(2.8 * np.sqrt(p * (1 - p) / n), rel=0.15)
    assert not any("c0=d" in rule for _, members, _ in opened(world) for rule in members)


def test_metrics_of_the_owner_need_no_labels_and_have_limits(tmp_path: Path) -> None:
    shop = [column("cost", lambda rows, r: r.gamma(2.0, 5.0, len(rows["id"]))), column("orders", lambda rows, r: r.integers(0, 5, len(rows["id"])))]
    custom = [
        {"name": "cost_per_order", "expr": "cost / orders", "aggregate": "mean"}, {"name": "dear", "expr": "cost > 20", "aggregate": "share"},
        {"name": "cost_p95", "expr": "cost", "aggregate": "p95"}, {"name": "wrong", "expr": "nothing + 1"},
    ]
    limits = {"cost_per_order": {"warn_above": 1.0}}
    world = World(
        tmp_path, Stream(rows=600, faults=every_day(*shop)), labels=None, quality={"custom": custom, "limits": limits, "slices": ["c0"]},
    )
    world.days(1)
    section = quality(world, 40)
    assert section["state"] == "unlabelled"
    rows = world.stream.day(40)
    found = {(row["metric"], row["slice"]): row for row in section["metrics"]}
    usable = rows["orders"] > 0
    assert found["cost_per_order", "ALL"]["value"] == pytest.approx(float((rows["cost"][usable] / rows["orders"][usable]).mean()), rel=1e-5)
    assert found["cost_per_order", "ALL"]["missing"] == int((~usable).sum())
    assert found["cost_per_order", "ALL"]["verdict"] == "warn"
    assert found["dear", "ALL"]["value"] == pytest.approx(float((rows["cost"] > 20).mean()), rel=1e-5)
    assert found["cost_p95", "ALL"]["value"] == pytest.approx(float(np.quantile(rows["cost"], 0.95)), rel=0.02)
    assert found["wrong", "ALL"]["verdict"] == "error"
    assert "no column 'nothing'" in found["wrong", "ALL"]["reason"]
    assert found["cost_per_order", "c0=a"]["n"] > 100


def test_groups_are_compared_for_fairness_with_limits(tmp_path: Path) -> None:
    def unfair(rows: Rows, random: np.random.Generator) -> None:
        rows["score"] = np.where(rows["c0"] == "b", rows["score"] * 0.6, rows["score"])

    fair = {"column": "c0", "limits": {"selection_rate_ratio": {"fail_below": 0.8}}}
    world = World(tmp_path, Stream(rows=2000, faults=every_day(unfair)), quality={"fairness": fair, "min_rows": 100})
    world.days(1)
    found = {(row["metric"], row["slice"]): row for row in quality(world, 40)["metrics"] if row.get("fairness")}
    rows = world.stream.day(40)
    rate = {c: float((rows["score"][rows["c0"] == c] >= 0.5).mean()) for c in "ab"}
    assert found["selection_rate_ratio", "c0=b"]["value"] == pytest.approx(rate["b"] / rate["a"], rel=1e-5)
    assert found["selection_rate_ratio", "c0=b"]["against"] == "c0=a"
    assert found["selection_rate_ratio", "c0=b"]["verdict"] == "fail"
    assert found["selection_rate_difference", "c0=c"]["verdict"] == "pass"
    assert any(members == ["quality.fairness.selection_rate_ratio[c0=b]"] for _, members, _ in opened(world))


def test_business_figures_have_values_limits_and_errors_of_their_own(tmp_path: Path) -> None:
    for index in range(44):
        orders = [10.0] * 50 if index != 41 else [10.0] * 5
        times = [START + timedelta(days=index, minutes=10 * i) for i in range(len(orders))]
        write_table(pa.table({"sold_at": times, "amount": orders}), tmp_path / "sales" / f"{index:04d}.parquet")
    kpis = {
        "revenue": {"source": str(tmp_path / "sales"), "timestamp": "sold_at", "value": "amount", "limits": {"fail_below": 300}},
        "sales": {"source": str(tmp_path / "sales"), "timestamp": "sold_at", "aggregate": "count"},
        "lost": {"source": str(tmp_path / "nowhere"), "timestamp": "sold_at", "value": "amount"},
    }
    world = World(tmp_path, Stream(), kpis=kpis)
    world.days(3)
    assert quality(world, 40)["kpis"]["revenue"]["value"] == 500.0
    assert quality(world, 40)["kpis"]["sales"]["value"] == 50.0
    assert quality(world, 41)["kpis"]["revenue"]["verdict"] == "fail"
    assert quality(world, 41)["kpis"]["lost"]["verdict"] in ("error", "no_data")
    assert ("fail", ["quality.kpi[revenue]"]) in [(severity, members) for severity, members, _ in opened(world)]


def test_parity_tells_which_features_differ_from_their_offline_values(tmp_path: Path) -> None:
    stream = Stream(rows=600)
    for index in range(43):
        rows = stream.day(index)
        random = np.random.default_rng(index)
        x0 = np.where(random.random(600) < 0.05, rows["x0"] + 1.0, rows["x0"])
        table = pa.table({"row": rows["id"][::-1], "x0": x0[::-1], "x1": rows["x1"][::-1] * (1 + 1e-9), "c0": rows["c0"][::-1]})
        write_table(table, tmp_path / "offline" / f"{index:04d}.parquet")
    world = World(tmp_path, stream, parity={"source": str(tmp_path / "offline"), "id": "row", "limits": {"warn_above": 0.02}})
    world.days(2)
    parity = quality(world, 40)["parity"]
    found = {row["column"]: row for row in parity["columns"]}
    assert parity["matched"] == 1.0
    assert set(found) == {"x0", "x1", "c0"}
    assert found["x1"]["share"] == found["c0"]["share"] == 0.0
    assert found["x0"]["share"] == pytest.approx(0.05, abs=0.03)
    assert ("warn", ["quality.parity[x0]"]) in [(severity, members) for severity, members, _ in opened(world)]


# -- labels that come late


def test_a_limit_fires_on_few_labels_only_when_no_others_could_undo_it_and_is_withdrawn_when_they_do(tmp_path: Path) -> None:
    limits = {"accuracy": {"fail_below": 0.55}}
    world = World(tmp_path, Stream(rows=400), quality={"metrics": ["accuracy"], "limits": limits, "min_rows": 100, "estimate": False})
    world.days(2)
    hold_labels(world, 42)
    assert quality(world, 42)["state"] == "waiting"
    late_labels(world, 42, 0.4, right=False)
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    section = quality(world, 42)
    assert (section["state"], section["labelled"]) == ("provisional", 0.4)
    assert rows_of(section, metric="accuracy", slice="ALL")[0]["verdict"] == "insufficient"  # the other 60% may all be right
    late_labels(world, 42, 0.7, right=False)
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    assert rows_of(quality(world, 42), metric="accuracy", slice="ALL")[0]["verdict"] == "fail"
    assert ("fail", ["quality.accuracy[ALL]"], "open") in opened(world)
    late_labels(world, 42, 1.0, right=True)  # the labels are corrected: the newest count
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    assert quality(world, 42)["state"] == "final"
    assert ("fail", ["quality.accuracy[ALL]"], "withdrawn") in opened(world)
    assert world.inbox.types()[-1] == ("incident.withdrawn", "quality")


def test_labels_that_are_later_than_usual_are_an_alert_of_their_own_and_it_ends(tmp_path: Path) -> None:
    world = World(tmp_path, Stream())
    world.days(14)
    for index in range(54, 57):
        hold_labels(world, index)
    found = [(s, m, state) for s, m, state in opened(world) if m == ["service.labels_late"]]
    assert found == [("warn", ["service.labels_late"], "open")]
    (text,) = [m.text for m in world.inbox.messages if m.payload["type"] != "incident.reminder" and "labels" in m.payload["data"]["headline"]]
    assert "has labels for 0% of its rows after" in text
    assert re.search(r"of 1\d windows the slowest had \d+% at that age", text)
    for index in range(54, 57):
        late_labels(world, index, 1.0)
    world.day(57)
    world.day(58)
    assert [state for _, m, state in opened(world) if m == ["service.labels_late"]] == ["closed"]


def test_labels_of_another_model_are_told(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=300))
    for index in range(40, 43):
        hold_labels(world, index)
        foreign_labels(world, index, 3)
        world.clock.advance(timedelta(hours=2))
        world.app.watch.tick()
    assert opened(world) == [("warn", ["service.labels_unknown"], "open")]
    for index in range(40, 43):
        late_labels(world, index, 1.0)
    world.day(43)
    world.day(44)
    assert opened(world) == [("warn", ["service.labels_unknown"], "closed")]


def test_a_table_with_the_labels_of_other_models_too_is_no_alarm_and_is_named_when_labels_are_late(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=300))
    for index in range(40, 53):
        foreign_labels(world, index, 4)
        world.day(index)
    assert opened(world) == []
    for index in range(53, 56):
        hold_labels(world, index)
        foreign_labels(world, index, 30)
        world.clock.advance(timedelta(hours=2))
        world.app.watch.tick()
    assert opened(world) == [("warn", ["service.labels_late"], "open")]


def test_odd_labels_are_counted_and_said_and_make_no_wrong_number(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=300), quality={"metrics": ["accuracy"], "estimate": False})
    world.days(1)
    hold_labels(world, 41)
    rows = world.stream.day(41)
    now = world.clock.now()
    ids, label = rows["id"], rows["label"].tolist()
    table = pa.table({
        "id": [*ids[:200], *ids[:10], *ids[10:15], *ids[200:220], *ids[220:230], None],
        "label": [*label[:200], *label[:10], *[not v for v in label[10:15]], *label[200:220], *label[220:230], True],
        "known_at": [*[now - timedelta(hours=1)] * 210, *[now - timedelta(minutes=30)] * 5, *[now + timedelta(days=2)] * 20,
                     *[t - timedelta(hours=2) for t in rows["at"][220:230]], now],
    })
    write_table(table, tmp_path / "labels" / "odd.parquet")
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    section = quality(world, 41)
    said = " ".join(section["notes"])
    assert "10 labels repeat another of their id" in said
    assert "5 ids have labels that contradict each other" in said
    assert "20 labels are dated in the future" in said
    assert section["labelled"] == pytest.approx(210 / 300, abs=1e-4)
    right = [(s >= 0.5) == (v if not 10 <= i < 15 else not v) for i, (s, v) in enumerate(zip(rows["score"], label, strict=True))]
    counted = [*range(200), *range(220, 230)]
    assert rows_of(section, metric="accuracy", slice="ALL")[0]["value"] == pytest.approx(np.mean([right[i] for i in counted]), abs=1e-5)


# -- estimates


def test_quality_is_estimated_while_labels_are_awaited_and_shown_beside_what_came(tmp_path: Path) -> None:
    limits = {"estimated.accuracy": {"fail_below": 0.65}, "accuracy": {"fail_below": 0.5}}
    blind = [column("score", lambda rows, r: 0.5 + (rows["score"] - 0.5) * 0.1)]
    world = World(tmp_path, Stream(rows=1000, faults={42: blind}), quality={"limits": limits, "metrics": ["accuracy", "roc_auc"]})
    world.days(1)
    hold_labels(world, 41)
    section = quality(world, 41)
    (guess,) = rows_of(section, metric="accuracy", slice="ALL", estimated=True)
    assert section["state"] == "waiting"
    assert section["estimate"]["model"] in ("calibrated scores", "scores as they are")
    rows = world.stream.day(41)
    assert guess["value"] == pytest.approx(float(((rows["score"] >= 0.5) == rows["label"]).mean()), abs=0.04)
    late_labels(world, 41, 1.0)
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    section = quality(world, 41)
    assert section["state"] == "final"
    assert rows_of(section, metric="accuracy", slice="ALL", estimated=True) == [guess]
    hold_labels(world, 42)
    assert any(members == ["quality.estimated.accuracy[ALL]"] for _, members, _ in opened(world))


# -- weakest slices, lineage, report


def test_the_weakest_slice_of_a_window_is_found_and_shown_in_the_report(tmp_path: Path) -> None:
    def weak(rows: Rows, random: np.random.Generator) -> None:
        inside = (rows["c0"] == "b") & (rows["x0"] > 0.5)
        rows["label"] = np.where(inside & (random.random(len(inside)) < 0.6), rows["score"] < 0.5, rows["label"])

    world = World(tmp_path, Stream(rows=6000, faults={40: [weak]}), quality={"slices": ["c0"]})
    world.days(1)
    section = quality(world, 40)
    assert section["state"] == "final"
    best = section["weakest"]["slices"][0]
    assert "c0=b" in best["slice"]
    assert "x0" in best["slice"]
    assert best["error"] > 1.5 * best["overall"]
    pipeline = world.app.watch.pipeline
    window = pipeline.prepare("m").grid.at(START + timedelta(days=40))
    html = write_report(pipeline, "m", window).read_text()
    for words in ("Weakest slices", escape(best["slice"]), "Realised and estimated", "read from 1 file"):
        assert words in html
    prepared = pipeline.prepare("m")
    again = pipeline.workers.run(WeakestJob(prepared.monitor, prepared.settings, prepared.binning, prepared.key, window, world.clock.now()))
    assert again == section["weakest"]


def test_rows_are_set_against_the_usual_of_their_hour(tmp_path: Path) -> None:
    def fewer(rows: Rows, random: np.random.Generator) -> None:
        for name in list(rows):
            rows[name] = rows[name][:120]

    stream = Stream(rows=400, faults={42: [fewer]})
    world = World(tmp_path, stream, service={"limits": {"traffic": {"warn_below": 0.5}}}, labels=None)
    world.days(4)
    service = current(world, 41).sections["service"]
    assert service["traffic"] == {"against_usual": 1.0, "usual_rows": 400.0}
    assert service["verdict"] == "pass"
    assert current(world, 42).sections["service"]["traffic"]["against_usual"] == 0.3
    assert ("warn", ["service.traffic"], "open") in opened(world)


def test_counts_of_an_older_driftd_are_read(tmp_path: Path) -> None:
    import zlib

    from checks.performance import METRICS
    from checks.performance.methods.counted import from_bytes

    positive, negative = [0] * 512, [0] * 512
    positive[400], positive[100], negative[50], negative[300] = 40, 10, 45, 5
    row = ["ALL", 100, 85, 40, 5, 10, 45, 100, 0, 40.0, 12.0, 50.0, 38.0, 25.0, 0.0, 0.0, 0.0, positive, negative]
    found = from_bytes(b"\x01" + zlib.compress(json.dumps([row, ["c0=a", *row[1:]]]).encode())).slices
    assert METRICS["accuracy"](found["ALL"]).value == 0.85
    assert METRICS["roc_auc"](found["c0=a"]).value is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quality": {"slices": [{"bins": 3}]}}, "a slice needs either a column or where"),
        ({"quality": {"slices": [{"where": "x0 >"}]}}, "needs a name"),
        ({"quality": {"limits": {"estimated.nonsense": {"fail_below": 1}}}}, "there is no metric 'nonsense'"),
        ({"quality": {"custom": {"accuracy": "x0 + 1"}}}, "is the name of a metric"),
        ({"quality": {"custom": {"a": "x0 +"}}}, "not a SQL expression"),
        ({"quality": {"metrics": ["business_value"]}}, "business_value needs costs"),
        ({"quality": {"costs": {"tp": 1, "xx": 2}}}, "costs know tp, fp, fn and tn, not xx"),
        ({"kpis": {"a": {"source": "x.parquet", "timestamp": "t"}}}, "needs a value column"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    from tests.streams import config_text

    (tmp_path / "config.yaml").write_text(config_text(tmp_path, **change))
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "config.yaml")


def test_the_accuracy_of_a_multiclass_task_is_estimated_from_the_score_of_the_predicted_class(tmp_path: Path) -> None:
    def classes(rows: Rows, random: np.random.Generator) -> None:
        n = len(rows["id"])
        rows["confidence"] = random.beta(5, 2, n)
        rows["label"] = np.where(random.random(n) < rows["confidence"], rows["c0"], "z").astype(object)

    columns = {"timestamp": "at", "id": "id", "prediction": "c0", "score": "confidence", "ignore": ["score"]}
    world = World(tmp_path, Stream(rows=800, faults=every_day(classes)), task="multiclass", columns=columns)
    world.days(1)
    hold_labels(world, 41)
    (guess,) = rows_of(quality(world, 41), metric="accuracy", slice="ALL", estimated=True)
    rows = world.stream.day(41)
    assert guess["value"] == pytest.approx(float((rows["label"] == rows["c0"]).mean()), abs=0.04)


def test_errors_of_a_regression_are_estimated_from_predictions_of_the_same_size(tmp_path: Path) -> None:
    def numbers(rows: Rows, random: np.random.Generator) -> None:
        n = len(rows["id"])
        rows["guess"] = random.gamma(3.0, 10.0, n) * (2.0 if rows["at"][0] >= START + timedelta(days=41) else 1.0)
        rows["label"] = rows["guess"] + random.normal(0, 0.2 * rows["guess"])

    columns = {"timestamp": "at", "id": "id", "prediction": "guess", "ignore": ["score"]}
    world = World(tmp_path, Stream(rows=1500, faults=every_day(numbers)), task="regression", columns=columns)
    world.days(1)
    hold_labels(world, 41)
    estimated = {row["metric"]: row["value"] for row in rows_of(quality(world, 41), slice="ALL", estimated=True)}
    realised = {row["metric"]: row["value"] for row in rows_of(quality(world, 40), slice="ALL", estimated=False)}
    rows = world.stream.day(41)
    truth = float(np.abs(rows["guess"] - rows["label"]).mean())
    assert truth > 1.8 * realised["mae"]
    assert estimated["mae"] == pytest.approx(truth, rel=0.15)


def test_a_shadow_is_no_traffic(tmp_path: Path) -> None:
    def doubled(rows: Rows, random: np.random.Generator) -> None:
        n = len(rows["id"])
        for name in list(rows):
            rows[name] = [*rows[name], *rows[name]]
        rows["version"] = ["v1"] * n + ["v9"] * n

    world = World(tmp_path, Stream(rows=300, faults={42: [doubled], 43: [doubled]}), quality={"shadow": ["v9"]})
    world.days(4)
    run = current(world, 42)
    assert (run.rows, run.model_versions) == (300, {"v1": 300})
    assert opened(world) == []


# -- what a review found


def test_a_metric_of_the_owner_that_needs_the_label_waits_for_labels(tmp_path: Path) -> None:
    custom = {"positives": {"expr": "label", "aggregate": "share"}}
    world = World(tmp_path, Stream(rows=400), quality={"custom": custom, "limits": {"positives": {"fail_below": 0.3}}, "min_rows": 20})
    world.days(1)
    hold_labels(world, 41)
    rows = world.stream.day(41)
    first = [i for i, label in enumerate(rows["label"]) if not label][:40]
    now = world.clock.now() - timedelta(minutes=5)
    negatives = pa.table({"id": [rows["id"][i] for i in first], "label": [False] * 40, "known_at": [now] * 40})
    write_table(negatives, tmp_path / "labels" / "few.parquet")
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    (row,) = rows_of(quality(world, 41), metric="positives", slice="ALL")
    assert (row["value"], row["verdict"]) == (0.0, "insufficient")
    assert opened(world) == []


def test_labels_that_bear_an_early_time_but_always_come_days_later_are_not_late(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=300))
    for index in range(40, 58):
        hold_labels(world, index)
        if index >= 43:
            rows = world.stream.day(index - 3)
            table = pa.table({"id": rows["id"], "label": rows["label"], "known_at": [t + timedelta(hours=1) for t in rows["at"]]})
            write_table(table, tmp_path / "labels" / f"{index - 3:04d}.parquet")
    assert opened(world) == []
    assert quality(world, 50)["state"] == "final"


def test_one_odd_label_or_value_stops_neither_the_window_nor_the_others(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=300), quality={"metrics": ["accuracy"], "estimate": False})
    world.days(1)
    foreign = pa.table({"id": pa.array([12345678901234]), "label": ["maybe"], "known_at": [world.clock.now()]})
    write_table(foreign, tmp_path / "labels" / "0000-foreign.parquet")
    world.day(41)
    run = current(world, 41)
    assert run.error == ""
    assert run.sections["drift"] is not None
    assert world.app.watch.problems == {}


def test_orders_that_come_after_the_window_correct_its_figure(tmp_path: Path) -> None:
    def sales(index: int, count: int) -> None:
        times = [START + timedelta(days=index, minutes=10 * i) for i in range(count)]
        write_table(pa.table({"sold_at": times, "amount": [10.0] * count}), tmp_path / "sales" / f"{index:04d}-{count}.parquet")

    sales(39, 50)
    sales(40, 10)
    kpis = {"revenue": {"source": str(tmp_path / "sales"), "timestamp": "sold_at", "value": "amount", "limits": {"fail_below": 300}}}
    world = World(tmp_path, Stream(), kpis=kpis, labels=None)
    world.days(1)
    assert quality(world, 40)["kpis"]["revenue"]["verdict"] == "fail"
    sales(40, 40)
    sales(41, 50)
    world.day(41)
    assert quality(world, 40)["kpis"]["revenue"]["value"] == 500.0
    assert ("fail", ["quality.kpi[revenue]"], "withdrawn") in opened(world)


def test_stored_counts_are_judged_again_with_what_was_odd_and_refused_for_what_was_not_counted(tmp_path: Path) -> None:
    from checks.core.errors import PlanChanged

    def gone(rows: Rows, random: np.random.Generator) -> None:
        del rows["c0"]

    world = World(tmp_path, Stream(rows=500, faults={41: [gone]}), quality={"slices": ["c0"], "custom": {"mean_x": "x0"}})
    world.days(2)
    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    before = [quality(world, index) for index in (40, 41)]
    for index in (40, 41):
        window = prepared.grid.at(START + timedelta(days=index))
        pipeline.evaluate("m", window, stored=pipeline.stored(prepared, window))
    after = [quality(world, index) for index in (40, 41)]
    assert [a["metrics"] for a in after] == [b["metrics"] for b in before]
    assert after[1]["verdict"] == "error"
    (world.folder / "config.yaml").write_text((world.folder / "config.yaml").read_text().replace('"mean_x": "x0"', '"mean_x": "x1"'))
    world.app = world.open()
    pipeline = world.app.watch.pipeline
    prepared = pipeline.prepare("m")
    window = prepared.grid.at(START + timedelta(days=40))
    with pytest.raises(PlanChanged, match="custom metric mean_x is new, or computes something else"):
        pipeline.evaluate("m", window, stored=pipeline.stored(prepared, window))


@pytest.mark.parametrize("slices", [[{"name": "ALL", "where": "x0 > 1"}], [{"name": "a", "where": "x0 > 1"}, {"name": "a", "where": "x0 > 2"}]])
def test_names_that_would_hide_other_counts_are_refused(tmp_path: Path, slices: Any) -> None:
    from tests.streams import config_text

    (tmp_path / "config.yaml").write_text(config_text(tmp_path, quality={"slices": slices}))
    with pytest.raises(ConfigError, match=r"no name of a slice|two slices are named"):
        load_config(tmp_path / "config.yaml")


def test_personal_columns_are_never_shown(tmp_path: Path) -> None:
    post = [column("postcode", lambda rows, r: r.integers(10000, 99999, len(rows["id"]))), column("mail", lambda rows, r: [f"u{i % 7}@x.org" for i in range(len(rows["id"]))])]
    columns = COLUMNS | {"personal": ["postcode", "mail"]}
    world = World(tmp_path, Stream(rows=600, faults=every_day(*post)), columns=columns, quality={"slices": ["postcode", "mail"], "min_rows": 20})
    world.days(1)
    text = json.dumps(current(world, 40).sections)
    assert "@x.org" not in text
    assert "it is personal" in text or "is personal: its usual values may not be shown" in text


def test_a_table_of_figures_that_grows_or_fails_makes_no_window_be_scanned_again(tmp_path: Path) -> None:
    def sales(days: int) -> None:
        times = [START + timedelta(days=d, minutes=10 * i) for d in range(38, days) for i in range(50)]
        write_table(pa.table({"sold_at": times, "amount": [10.0] * len(times)}), tmp_path / "sales" / "all.parquet")

    sales(41)
    kpis = {"revenue": {"source": str(tmp_path / "sales"), "timestamp": "sold_at", "value": "amount"}}
    world = World(tmp_path, Stream(rows=300), kpis=kpis, labels=None)
    world.days(1)
    for index in range(41, 45):
        sales(index + 1)
        world.day(index)
    assert [current(world, index).revision for index in range(40, 45)] == [1] * 5
    assert {quality(world, index)["kpis"]["revenue"]["value"] for index in range(40, 45)} == {500.0}
    (tmp_path / "sales" / "all.parquet").rename(tmp_path / "elsewhere.parquet")
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    (tmp_path / "elsewhere.parquet").rename(tmp_path / "sales" / "all.parquet")
    world.clock.advance(timedelta(hours=2))
    world.app.watch.tick()
    assert {quality(world, index)["kpis"]["revenue"]["value"] for index in range(40, 45)} == {500.0}


def test_labels_that_stop_for_good_stay_an_alert(tmp_path: Path) -> None:
    world = World(tmp_path, Stream(rows=200), labels={"source": str(tmp_path / "labels"), "complete": 0.9, "give_up": "90d"})
    world.days(12)
    for index in range(52, 64):
        hold_labels(world, index)
        if index > 53:
            assert ("warn", ["service.labels_late"], "open") in opened(world)
    assert [m for _, m, _ in opened(world)].count(["service.labels_late"]) == 1
