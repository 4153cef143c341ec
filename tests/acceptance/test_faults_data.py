"""Faults of data and of checks, each a monitor of one daemon: whatever one logs, the others are watched and page."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.acceptance.harness import House
from tests.receiver import Receiver
from tests.streams import START, Stream, nulls, write_table

pytestmark = pytest.mark.xdist_group("faults-data")
DAYS = 45


def table_of(rows: dict[str, Any]) -> pa.Table:
    rows = {k: v for k, v in rows.items() if k != "label"}
    return pa.table({name: pa.array(values) for name, values in rows.items()})


class Clinic:
    """One daemon over a healthy monitor and one for every fault, run until all of their windows are there."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.house = House(folder, receiver).at(DAYS - 2)
        self.house.config["owners"]["platform"] = {"channels": ["hook"]}
        self.house.config["workers"] = {"count": 2, "time": "20s", "memory_mb": 900}
        self.folder = folder
        self.names: list[str] = []
        self.days: list[Callable[[], None]] = []

    def add(self, name: str, spoil: Callable[[Path, dict[str, Any]], None] | None = None, stream: Stream | None = None, **keys: Any) -> None:
        """A monitor whose last day but one is spoilt."""
        here = self.folder / name
        stream = stream or Stream(rows=120, seed=len(self.names) + 1)
        labels = "labels" in keys
        stream.write(here, range(DAYS - 2), labels=labels)

        def go_on() -> None:
            stream.write(here, range(DAYS - 2, DAYS), labels=labels)
            if spoil is not None:
                spoil(here / "predictions" / f"{DAYS - 2:04d}.parquet", stream.day(DAYS - 2))

        self.days.append(go_on)
        keys.setdefault("labels", None)
        keys.setdefault("contract", None)
        keys.setdefault("end", (START + timedelta(days=DAYS)).date().isoformat())
        keys.setdefault("service", {"silent_after": "30d"})
        self.house.monitor(name, folder=here, **keys)
        self.names.append(name)

    def run(self, of: str, start: int) -> tuple[str, dict[str, Any], str]:
        rows = self.house.query(
            f"SELECT verdict, sections, error FROM run WHERE current AND monitor = '{of}' AND start = {int((START + timedelta(days=start)).timestamp() * 1e6)}"
        )
        verdict, sections, error = rows[0]
        return verdict, json.loads(sections) if isinstance(sections, str) else sections, error

    def spoilt(self, of: str) -> tuple[str, dict[str, Any], str]:
        return self.run(of, DAYS - 2)

    def incidents(self, of: str) -> list[tuple[str, str, str]]:
        return [(f, s, r) for m, f, s, r in self.house.incidents() if m == of]


def endless(path: Path, rows: dict[str, Any]) -> None:
    rows["latency"] = [float("inf") if k % 2 else 10.0 for k in range(120)]
    write_table(table_of(rows), path)


def not_finite(path: Path, rows: dict[str, Any]) -> None:
    rows["x0"] = [float("nan")] * 60 + [float("inf"), float("-inf")] * 30
    write_table(table_of(rows), path)


def empty(path: Path, rows: dict[str, Any]) -> None:
    write_table(table_of(rows).slice(0, 0), path)


def five(path: Path, rows: dict[str, Any]) -> None:
    write_table(table_of(rows).slice(0, 5), path)


def constant(path: Path, rows: dict[str, Any]) -> None:
    rows["x0"], rows["c0"] = [1.0] * 120, pa.array([None] * 120, pa.string())
    write_table(table_of(rows), path)


def monstrous(path: Path, rows: dict[str, Any]) -> None:
    texts = ["\u202eright to left", "nul \x00 inside", "<!channel>", "x" * 10_000_000, *(f"value {k}" for k in range(116))]
    table = table_of(rows)
    raw = pa.array([t.encode() for t in texts])
    lone = pa.Array.from_buffers(pa.string(), 120, raw.buffers())
    write_table(table.set_column(table.schema.get_field_index("c0"), "c0", lone), path)


def surrogate(path: Path, rows: dict[str, Any]) -> None:
    table = table_of(rows)
    raw = pa.array([b"\xed\xa0\x80 lone" if k % 2 else b"a" for k in range(120)])
    write_table(table.set_column(table.schema.get_field_index("c0"), "c0", pa.Array.from_buffers(pa.string(), 120, raw.buffers())), path)


def million(path: Path, rows: dict[str, Any]) -> None:
    step = (rows["at"][1] - rows["at"][0]).__class__(microseconds=50_000)
    many = 1_000_000
    begin = START + timedelta(days=DAYS - 2)
    write_table(pa.table({
        "id": [str(k) for k in range(many)], "at": [begin + step * k for k in range(many)], "x0": [0.5] * many, "x1": [float(k % 7) for k in range(many)],
        "c0": [f"category {k}" for k in range(many)], "score": [0.5] * many, "version": ["v1"] * many, "latency": [10.0] * many,
    }), path)


def truncated(path: Path, rows: dict[str, Any]) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def mid_window(path: Path, rows: dict[str, Any]) -> None:
    whole = table_of(rows)
    write_table(whole.slice(0, 60), path)
    later = whole.slice(60).drop_columns(["x1"]).set_column(2, "x0", pa.array([str(v) for v in rows["x0"][60:]]))
    write_table(later.append_column("new", pa.array([1] * 60)), path.with_name(f"{path.stem}-later.parquet"))


def mixed_times(path: Path, rows: dict[str, Any]) -> None:
    whole = table_of(rows)
    at = list(rows["at"])
    at[0], at[1] = datetime(1970, 1, 1, tzinfo=START.tzinfo), datetime(9999, 12, 31, tzinfo=START.tzinfo)
    rows["id"][5] = rows["id"][6] = rows["id"][7]
    whole = whole.set_column(0, "id", pa.array(rows["id"])).set_column(1, "at", pa.array(at, pa.timestamp("us", "America/New_York")))
    write_table(whole, path)
    naive = pa.table({**{n: whole[n].slice(0, 10) for n in whole.column_names}, "at": pa.array([t.replace(tzinfo=None) for t in rows["at"][10:20]], pa.timestamp("us"))})
    write_table(naive, path.with_name(f"{path.stem}-naive.parquet"))


def repeated(path: Path, rows: dict[str, Any]) -> None:
    rows["id"][60:] = rows["id"][:60]
    write_table(table_of(rows), path)


def one_class(rows: dict[str, Any], random: Any) -> None:
    rows["label"] = rows["label"] | True


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with Receiver() as receiver:
        made = Clinic(tmp_path_factory.mktemp("clinic"), receiver)
        made.add("healthy", stream=Stream(rows=120, seed=77, faults={DAYS - 2: [nulls("c0", 0.05)]}), contract="contract.yaml")
        for name, spoil in {
            "nan": not_finite, "empty": empty, "five": five, "constant": constant, "monstrous": monstrous, "surrogate": surrogate, "million": million,
            "truncated": truncated, "schema": mid_window, "times": mixed_times,
        }.items():
            made.add(name, spoil)
        limits = {"metrics": ["roc_auc"], "min_rows": 50, "limits": {"roc_auc": {"fail_below": 0.6}}}
        made.add("class", stream=Stream(rows=120, seed=50, faults={DAYS - 2: [one_class]}), labels={"source": str(made.folder / "class" / "labels"), "complete": 0.9}, quality=limits)
        made.add("endless", endless, service={"silent_after": "30d", "limits": {"latency_p95": {"fail_above": 500}}})
        repeats = made.folder / "repeats" / "labels"
        made.add("repeats", repeated, labels={"source": str(repeats), "complete": 0.9}, quality={"min_rows": 50})
        for name in ("segfault", "memory"):
            made.add(name)
        made.add("slow", schedule={"every": "1s"})
        house = made.house
        scans = {"segfault": "segfault", "memory": "memory", "slow": f"mark:{made.folder / 'slow.marks'}"}
        with house.daemon(DRIFTD_TEST_SCAN=json.dumps(scans)) as process:
            fine = [n for n in made.names if n not in ("segfault", "memory")]
            house.until(lambda: all(house.windows(n) == 3 for n in fine) and house.drained(), "three good windows of each", process, tries=1500)
            for go_on in made.days:
                go_on()
            house.at(DAYS)
            whole = [n for n in made.names if n not in ("segfault", "memory", "truncated")]
            house.until(lambda: all(house.windows(n) == 5 for n in whole), "every window of those that can be read", process, tries=3000)
            house.until(lambda: house.windows("segfault", "error") and house.windows("memory", "error"), "the scans that ended their process", process, tries=1500)
            house.until(lambda: house.windows("truncated") >= 4, "the windows beside a broken file", process)
            house.until(house.drained, "all messages", process)
            made.ready = house.ready()  # type: ignore[attr-defined]
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        yield made


def test_whatever_others_log_a_healthy_monitor_is_watched_and_pages(clinic: Clinic) -> None:
    assert ("contract", "closed", "resolved") in clinic.incidents("healthy")
    mine = [(b["type"], b["data"]["family"]) for b in clinic.house.told() if b["data"]["monitor"] == "healthy" and b["data"]["family"] == "contract"]
    assert mine == [("incident.fired", "contract"), ("incident.resolved", "contract")]
    assert "Traceback" not in clinic.house.log()
    clinic.house.verify()


def test_fault_28_a_check_slower_than_its_interval_runs_in_order_and_never_twice_at_once(clinic: Clinic) -> None:
    rows = clinic.house.query("SELECT start, id FROM run WHERE monitor = 'slow' ORDER BY id")
    assert len(rows) == 5
    marks = (clinic.folder / "slow.marks").read_text().split()
    assert marks == ["enter", "leave"] * (len(marks) // 2), "never two scans of it at once"
    assert len(marks) == 10
    assert [start for start, _ in rows] == sorted({start for start, _ in rows})
    assert clinic.house.query("SELECT max(revision), max(attempts) FROM run WHERE monitor = 'slow'") == [(1, 1)]


def test_fault_29_nan_and_infinite_values_are_never_compared(clinic: Clinic) -> None:
    verdict, sections, error = clinic.spoilt("nan")
    assert (verdict, error) == ("warn", "")
    assert {v["rule"] for v in sections["contract"]["violations"]} == {"x0.required", "x0.minimum", "x0.maximum"}
    json.dumps(sections, allow_nan=False)


def test_fault_29_an_infinite_metric_is_an_error_and_no_breach(clinic: Clinic) -> None:
    """Half of the latencies are infinite: so is their 95th percentile, which is above any limit and is not compared with it."""
    verdict, sections, _ = clinic.spoilt("endless")
    rows = clinic.house.query("SELECT x.verdict, x.value FROM result x JOIN run r ON r.id = x.run_id WHERE r.monitor = 'endless' AND x.rule = 'service.latency_p95' ORDER BY r.start")
    assert [v for v, _ in rows] == ["pass", "pass", "pass", "error", "pass"]
    assert rows[3][1] is None
    assert sections["service"]["latency_ms"]["p95"] is None
    assert verdict != "pass"
    assert not [i for i in clinic.incidents("endless") if i[0] == "service"]


def test_fault_30_an_empty_window_is_no_data_and_five_rows_are_insufficient(clinic: Clinic) -> None:
    assert clinic.spoilt("empty")[0] == "no_data"
    assert clinic.spoilt("empty")[1]["service"]["verdict"] == "no_data"
    assert [(f, s) for f, s, _ in clinic.incidents("empty")] == [("service", "open")], "its own rule says so, and its platform hears of it"
    few = clinic.spoilt("five")[1]
    assert few["drift"]["verdict"] == "insufficient"
    assert clinic.spoilt("five")[0] == "fail", "five rows where 120 are usual"
    assert clinic.incidents("five") == [("data", "closed", "resolved")]


def test_fault_31_a_constant_an_all_null_column_and_a_single_class(clinic: Clinic) -> None:
    findings = {f["column"]: f["kind"] for f in clinic.spoilt("constant")[1]["data"]["findings"]}
    assert findings == {"x0": "constant", "c0": "mostly_missing"}
    quality = clinic.spoilt("class")[1]["quality"]
    auc = next(m for m in quality["metrics"] if m["metric"] == "roc_auc" and m["slice"] == "ALL")
    assert auc["verdict"] == "insufficient"
    assert auc["value"] is None
    assert "quality" not in {f for f, _, _ in clinic.incidents("class")}


def test_fault_32_monstrous_texts_and_a_million_categories(clinic: Clinic) -> None:
    for name in ("monstrous", "million"):
        assert (clinic.spoilt(name)[0], clinic.spoilt(name)[2]) == ("fail", ""), name
    assert clinic.spoilt("surrogate")[0] == "error"
    assert clinic.spoilt("surrogate")[2] == "column c0: it holds text that is not UTF-8"
    for name in ("monstrous", "surrogate", "million"):
        assert all(clinic.run(name, DAYS - k)[0] in ("pass", "insufficient", "warn") for k in (5, 4, 3, 1)), name
    assert max(len(r.body) for r in clinic.house.receiver.ledger) < 20_000


def test_fault_33_a_truncated_file_is_an_error_that_names_it(clinic: Clinic) -> None:
    verdict, _, error = clinic.spoilt("truncated")
    assert verdict == "error"
    assert f"{DAYS - 2:04d}.parquet" in error
    assert ("service", "open", "") in clinic.incidents("truncated")
    owners = clinic.house.query("SELECT DISTINCT owner FROM incident WHERE monitor = 'truncated'")
    assert owners == [("platform",)]


def test_fault_34_a_schema_change_in_mid_window_is_said(clinic: Clinic) -> None:
    verdict, _, error = clinic.spoilt("schema")
    assert verdict == "error"
    assert "x0 is of type" in error
    assert "-later.parquet" in error
    assert ("service", "open", "") in clinic.incidents("schema") or ("service", "closed", "resolved") in clinic.incidents("schema")


def test_fault_35_mixed_zones_naive_times_1970_9999_and_repeated_ids(clinic: Clinic) -> None:
    verdict, _, error = clinic.spoilt("times")
    assert (verdict, error) == ("pass", "")
    ((rows,),) = clinic.house.query(f"SELECT rows FROM run WHERE current AND monitor = 'times' AND start = {int((START + timedelta(days=DAYS - 2)).timestamp() * 1e6)}")
    assert rows == 128, "all but 1970 and 9999, the ten naive ones among them"
    assert clinic.house.query("SELECT count(*) FROM run WHERE monitor = 'times' AND current") == [(5,)], "1970 and 9999 make no windows"
    assert clinic.incidents("times") == []


def test_fault_35_repeated_ids_are_counted_where_labels_are_joined_by_them(clinic: Clinic) -> None:
    (found,) = [f for f in clinic.spoilt("repeats")[1]["data"]["findings"] if f["kind"] == "duplicate_ids"]
    assert (found["verdict"], found["sentence"]) == ("warn", "60 of 120 prediction ids are repeated")
    assert clinic.incidents("repeats") == [("data", "closed", "resolved")]
    assert clinic.house.query("SELECT count(*) FROM result WHERE rule = 'data.duplicate_ids' AND verdict = 'pass' AND run_id IN (SELECT id FROM run WHERE monitor = 'times')") == [(0,)], "without labels ids are not read, and nothing is said of them"


def test_fault_36_a_check_that_ends_its_process_or_eats_the_memory_is_quarantined_alone(clinic: Clinic) -> None:
    log = clinic.house.log()
    assert "monitor segfault: the scanning process was lost (exit code -11)" in log
    assert "more than 900 MB, and was stopped" in log
    assert log.count("quarantined: monitor segfault") >= 1
    assert clinic.house.windows("segfault") == 1, "one window in error, and the monitor is left alone for a while"
    assert "quarantined" in clinic.ready["problems"]["segfault"]  # type: ignore[attr-defined]
    for name in ("segfault", "memory"):
        assert clinic.incidents(name) == [("service", "open", "")]
        assert "quarantined" in clinic.ready["problems"][name]  # type: ignore[attr-defined]


def test_a_file_that_was_replaced_while_it_was_read_is_an_error_that_heals(clinic: Clinic) -> None:
    """Part of fault 33: after the good file is there, the retry makes the window whole."""
    house = clinic.house
    path = clinic.folder / "truncated" / "predictions" / f"{DAYS - 2:04d}.parquet"
    write_table(table_of(Stream(rows=120, seed=9).day(DAYS - 2)), path)
    assert pq.read_table(path).num_rows == 120
    house.later(hours=7)
    house.run_until(lambda: house.windows("truncated") == 5 and not house.windows("truncated", "error") and house.drained(), "the healed window")
    assert clinic.spoilt("truncated")[2] == ""
