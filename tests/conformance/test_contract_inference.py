"""A contract inferred from two months of real flights: nothing on clean windows, every planted fault found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from checks.core.result import Verdict
from contracts.infer import infer_contract
from contracts.load import parse_contract
from contracts.model import Contract
from monitor.evaluation.adhoc import Given, Learned, apply_contract, inferred_document, learn, served_skews
from monitor.evaluation.contract import Usual
from tests.contracting import TableSource

NOW = datetime(2013, 4, 16, tzinfo=UTC)
CLEAN_ROWS = 1000
Fault = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    from monitor.demo.flights import load

    rows = load().drop(columns=["day", "late"])
    return rows[(rows.predicted_at >= "2013-02-16") & (rows.predicted_at < "2013-04-16")].reset_index(drop=True)


def given(frame: pd.DataFrame) -> Given:
    return Given(TableSource(pa.Table.from_pandas(frame, preserve_index=False)), "parquet", "predicted_at")


@pytest.fixture(scope="module")
def document(flights: pd.DataFrame) -> str:
    return inferred_document(given(flights), "flights", "flights")


@pytest.fixture(scope="module")
def learned(flights: pd.DataFrame) -> Learned:
    return learn(given(flights))


def violated(contract: Contract, frame: pd.DataFrame, usual: Usual | None = None) -> dict[str, dict[str, Any]]:
    judged, _, _ = apply_contract(contract, given(frame), NOW, {}, usual)
    assert judged.section["not_evaluated"] == []
    return {v["rule"]: v for v in judged.section["violations"]}


def test_forty_clean_windows_violate_nothing(document: str, flights: pd.DataFrame) -> None:
    contract = parse_contract(document, "c.yaml")
    found = [violated(contract, flights.sample(CLEAN_ROWS, random_state=seed)) for seed in range(40)]
    assert found == [{}] * 40


def test_forty_clean_days_violate_nothing(document: str, flights: pd.DataFrame) -> None:
    contract = parse_contract(document, "c.yaml")
    days = [day for _, day in flights.groupby(flights.predicted_at.dt.date)][:40]
    assert [violated(contract, day) for day in days] == [{}] * 40


def nulls(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(carrier=frame.carrier.where(np.random.default_rng(5).random(len(frame)) >= 0.05, None))


FAULTS: dict[str, tuple[Fault, str, str | None]] = {
    "Celsius for Fahrenheit": (lambda d: d.assign(temp=(d.temp - 32) / 1.8), "temp.sql", "unit"),
    "a thousand times": (lambda d: d.assign(distance=d.distance * 1000), "distance.maximum", "unit"),
    "a dropped column": (lambda d: d.drop(columns="carrier"), "carrier.missingColumn", None),
    "five per cent nulls": (nulls, "carrier.required", None),
    "a renamed category": (lambda d: d.assign(origin=d.origin.replace("JFK", "jfk")), "origin.enum", "renamed"),
    "numbers as texts": (lambda d: d.assign(hour=d.hour.astype(str)), "hour.logicalType", "type"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught_and_its_cause_named(document: str, flights: pd.DataFrame, learned: Learned, name: str) -> None:
    fault, rule, cause = FAULTS[name]
    usual = Usual(learned.binning, learned.profile, learned.types)
    found = violated_or_blocked(parse_contract(document, "c.yaml"), fault(flights.sample(CLEAN_ROWS, random_state=99)), usual)
    assert rule in found
    said = found[rule]["cause"]
    assert (said["kind"] if said else None) == cause, said


def violated_or_blocked(contract: Contract, frame: pd.DataFrame, usual: Usual) -> dict[str, dict[str, Any]]:
    judged, _, _ = apply_contract(contract, given(frame), NOW, {}, usual)
    assert all("blocked" in n["reason"] or "cannot be" in n["reason"] or n["status"] == "error" for n in judged.section["not_evaluated"])
    return {v["rule"]: v for v in judged.section["violations"]}


def test_what_a_monitor_without_a_contract_gets_only_warns_and_is_quiet_on_clean_days(flights: pd.DataFrame, learned: Learned) -> None:
    contract = infer_contract(learned.binning, learned.profile, learned.types)
    assert {rule.severity for rule in contract.rules} == {Verdict.WARN}
    assert not any(rule.kind == "sql" for rule in contract.rules)
    days = [day for _, day in flights.groupby(flights.predicted_at.dt.date)][:20]
    assert [violated(contract, day) for day in days] == [{}] * 20


def test_the_comments_say_what_was_seen(document: str) -> None:
    assert "# no null in 54,857 rows" in document
    assert "# 3 values, the rarest in 16,502 rows" in document


def test_skew_between_training_and_serving_is_named_per_column(flights: pd.DataFrame) -> None:
    half = len(flights) // 2
    training, serving = flights.iloc[:half], flights.iloc[half : half + 8000]
    clean, _ = served_skews(given(training), given(serving), None)
    assert [s for s in clean if s.kind not in ("shift",)] == []
    broken = nulls(serving.assign(
        temp=(serving.temp - 32) / 1.8, origin=serving.origin.replace("JFK", "KENNEDY"), hour=serving.hour.astype(str), extra=1,
    ).drop(columns="pressure"))
    found, _ = served_skews(given(training), given(broken), None)
    assert {(s.column, s.kind) for s in found} >= {
        ("temp", "unit"), ("origin", "unseen"), ("hour", "type"), ("pressure", "missing"), ("extra", "new"), ("carrier", "nulls"),
    }
