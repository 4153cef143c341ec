"""The chart on streams with known truth, structural breaks, and the token ledger's bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.calibration.chart import Chart, DriftScore, Season
from checks.calibration.ledger import Budget, alert_below, balance, may_spend
from checks.calibration.structural import find_breaks
from checks.core.profile import Binning, Profile
from monitor.config.model import MonitorConfig
from monitor.profiling.arrow import Executor
from monitor.profiling.binning import build_binning
from monitor.profiling.plan import Plan
from tests.streams import Stream, bad_model, convert, nulls, shift

TYPES = {"x0": "number", "x1": "number", "c0": "string"}
BUDGET = Budget(1, timedelta(days=30))


def table(stream: Stream, day: int) -> pa.Table:
    rows = stream.day(day)
    return pa.table({name: pa.array(rows[name]) for name in TYPES})


def profiles(stream: Stream, days: range) -> tuple[Binning, list[Profile]]:
    from monitor.sources.parquet import ParquetConfig

    monitor = MonitorConfig.model_validate(
        {"name": "m", "owner": "log", "source": {"path": "/x"}, "columns": {"timestamp": "at"}},
        context={"source": lambda value: ParquetConfig(path="/x")},
    )
    tables = [table(stream, day) for day in days]
    binning = build_binning(monitor, TYPES, pa.concat_tables(tables[:56]), frozenset(), b"k")
    plan = Plan(binning)
    return binning, [Executor(plan, TYPES).scan(t.to_batches()) for t in tables]


def chart(binning: Binning, past: list[Profile], days: range) -> Chart:
    return Chart(binning, past, [float(i) for i in days], Season("weekday", [i % 7 for i in days], 7))


def scored(stream: Stream, day: int) -> DriftScore:
    binning, found = profiles(stream, range(day + 1))
    return chart(binning, found[day - 56 : day], range(day - 56, day)).score(found[day], day % 7, day)


def alarms(stream: Stream, quiet: int) -> int:
    binning, found = profiles(stream, range(56 + quiet))
    limit = alert_below(BUDGET.per(timedelta(days=1)), learning=False)
    scores = [chart(binning, found[i - 56 : i], range(i - 56, i)).score(found[i], i % 7, i) for i in range(56, 56 + quiet)]
    return sum(s.p_value is not None and s.p_value < limit for s in scores)


@pytest.mark.parametrize("stream", [Stream(seed=11), Stream(seed=12, weekday=1.0), Stream(seed=13, wobble=0.3)], ids=["independent", "weekday", "wobble"])
def test_quiet_windows_alarm_within_the_budget(stream: Stream) -> None:
    # At half the budget's share, 120 quiet windows should give 2 alarms; 8 or more have a chance below 1 in 1000.
    assert alarms(stream, 120) < 8


@pytest.mark.parametrize(
    ("fault", "column"),
    [(shift("x0", 1.0), "x0"), (convert("x1", 1.6), "x1"), (nulls("c0", 0.15), "c0"), (nulls("x0", 0.15), "x0")],
    ids=["mean", "spread", "nulls of a category", "nulls of a number"],
)
def test_a_real_change_is_found_in_its_first_window_and_named(fault: object, column: str) -> None:
    found = scored(Stream(seed=21, wobble=0.1, faults={60: [fault]}), 60)  # type: ignore[dict-item,list-item]
    assert found.p_value is not None
    assert found.p_value < 1 / 60
    assert found.drivers[0].column == column


def test_too_few_windows_are_said_to_be_too_few() -> None:
    stream = Stream(seed=31)
    binning, found = profiles(stream, range(5))
    assert chart(binning, found[:2], range(2)).score(found[4], 4, 4).p_value is None
    learning = chart(binning, found[:4], range(4)).score(found[4], 4, 4)
    assert learning.learning
    assert learning.p_value is not None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (nulls("c0", 1.0), "mostly_missing"), (convert("x0", 1000.0, 0.0), "beyond_range"), (convert("x1", 0.0, 4.0), "constant"),
    ],
)
def test_structural_breaks_are_named(fault: object, kind: str) -> None:
    def far(rows: dict[str, object], random: np.random.Generator) -> None:
        rows["x0"] = np.abs(np.asarray(rows["x0"], float)) + 500.0

    chosen = far if kind == "beyond_range" else fault
    binning, found = profiles(Stream(seed=41, faults={56: [chosen]}), range(57))  # type: ignore[dict-item,list-item]
    assert [b.kind for b in find_breaks(binning, found[56], found[:56])] == [kind]
    assert find_breaks(binning, found[55], found[:55]) == []


def test_a_unit_change_is_named_as_such() -> None:
    def fahrenheit(rows: dict[str, object], random: np.random.Generator) -> None:
        rows["x0"] = 60 + 10 * np.asarray(rows["x0"], float)

    def celsius(rows: dict[str, object], random: np.random.Generator) -> None:
        rows["x0"] = (np.asarray(rows["x0"], float) - 32) / 1.8

    faults = {i: [fahrenheit] for i in range(56)} | {56: [fahrenheit, celsius]}
    binning, found = profiles(Stream(seed=42, faults=faults), range(57))  # type: ignore[arg-type]
    (only,) = find_breaks(binning, found[56], found[:56])
    assert only.kind == "unit_change"
    assert "Celsius instead of Fahrenheit" in only.sentence


def test_a_bad_model_moves_no_input() -> None:
    found = scored(Stream(seed=22, faults={60: [bad_model]}), 60)
    assert found.p_value is not None
    assert found.p_value > 1 / 60


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=400))
def test_incidents_never_exceed_budget_times_time_plus_five_on_any_stream(events: list[tuple[int, bool]]) -> None:
    origin = datetime(2024, 1, 1, tzinfo=UTC)
    spent: list[datetime] = []
    for day, extreme in events:  # in any order: late windows too
        moment = origin + timedelta(days=day)
        if moment not in spent and may_spend(BUDGET, spent, moment, extreme=extreme):
            spent.append(moment)
    for first in sorted(spent):
        for last in spent:
            inside = [m for m in spent if first <= m <= last]
            assert len(inside) <= BUDGET.per(last - first) + 5 if inside else True


def test_tokens_come_back_one_a_period_and_at_most_three_are_held() -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC)
    assert balance(BUDGET, [], day) == 3
    assert balance(BUDGET, [day, day + timedelta(days=1)], day + timedelta(days=1)) == pytest.approx(1 + 1 / 30)
    assert balance(BUDGET, [day], day + timedelta(days=300)) == 3
