"""Whatever a baseline and a window are like, the chart gives a defined verdict."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.calibration.chart import Accepted, Chart, DriftScore, Season
from checks.calibration.explain import sentence
from checks.calibration.faults import affine, gradual, halved, mix, more_nulls, new_category, shifted, spread, uncorrelated, unit
from checks.calibration.fit import normal_equivalent, smoothing_variance, unskewed
from checks.calibration.sensitivity import sensitivity
from checks.core.binning import Binning, ColumnBinning
from checks.core.column import ColumnProfile
from checks.core.cross import CrossProducts
from checks.core.profile import Profile
from monitor.profiling.binning import quantile_edges

RANDOM = np.random.default_rng(3)
BASE = np.sort(RANDOM.normal(size=20_000))
BINNING = Binning((
    ColumnBinning("x", "numeric", edges=tuple(quantile_edges(BASE)), center=0.0, spread=1.0),
    ColumnBinning("y", "numeric", edges=tuple(quantile_edges(BASE)), center=0.0, spread=1.0),
    ColumnBinning("flat", "numeric", edges=(3.0, float(np.nextafter(3.0, 4.0))), center=3.0, spread=0.0),
    ColumnBinning("empty", "numeric"),
    ColumnBinning("c", "category", categories=("a", "b", "c")),
    ColumnBinning("many", "category", categories=tuple(f"v{i}" for i in range(200))),
    ColumnBinning("note", "text"),
))


def numbers(column: ColumnBinning, values: np.ndarray[Any, Any]) -> ColumnProfile:
    known = values[np.isfinite(values)]
    counts = np.bincount(np.searchsorted(np.asarray(column.edges), known, side="right"), minlength=column.bins)
    low, high = (float(known.min()), float(known.max())) if len(known) else (np.inf, -np.inf)
    square = float(((known - column.center) ** 2).sum())
    return ColumnProfile(counts.astype(np.int64), np.zeros(column.bins), 0, len(values) - len(known), 0, low, high, float(known.sum()), square)


def window(rows: int, seed: int = 0, *, move: float = 0.0, nulls: float = 0.0, together: float = 0.8, wide: float = 1.0) -> Profile:
    random = np.random.default_rng([seed, rows])
    x = random.normal(move, wide, rows)
    y = together * x + np.sqrt(1 - together**2) * random.normal(size=rows)
    gone = random.random(rows) < nulls
    profile = Profile.empty(BINNING)
    profile.rows = rows
    profile.columns["x"] = numbers(BINNING["x"], np.where(gone, np.nan, x))
    profile.columns["y"] = numbers(BINNING["y"], y)
    profile.columns["flat"] = numbers(BINNING["flat"], np.full(rows, 3.0))
    profile.columns["empty"] = ColumnProfile(np.zeros(1, np.int64), np.zeros(1), rows)
    profile.columns["c"] = ColumnProfile(random.multinomial(rows, [0.5, 0.3, 0.2]).astype(np.int64), np.zeros(0))
    many = random.multinomial(rows, np.r_[np.full(200, 0.1 / 200), 0.9])  # a million values: nearly all of them "other"
    profile.columns["many"] = ColumnProfile(many[:-1].astype(np.int64), np.zeros(0), other=int(many[-1]))
    profile.columns["note"] = ColumnProfile(np.zeros(0, np.int64), np.zeros(0), 2, 0, 1)
    values = np.stack([x, y, np.zeros(rows), np.zeros(rows)], 1)
    pairs = np.full((4, 4), rows, np.int64)
    profile.cross = CrossProducts(pairs, np.repeat(values.sum(0)[:, None], 4, 1), values.T @ values)
    return profile


PAST = [window(1000, seed) for seed in range(56)]
CHART = Chart(BINNING, PAST, None, Season("weekday", [i % 7 for i in range(56)], 7))


def defined(score: DriftScore) -> None:
    if score.p_value is None:
        assert score.learning
        assert "too few" in sentence(score)
        return
    assert 0.0 <= score.p_value <= 1.0
    assert score.raw is not None
    assert score.raw <= score.p_value + 1e-12
    for driver in score.drivers:
        assert np.isfinite([driver.effect, driver.z, *driver.usual, driver.value]).all(), driver
    assert sentence(score)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 9, 13, 28, 40])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_a_short_or_thin_baseline_gives_a_verdict_or_says_that_it_cannot(count: int, rows: int) -> None:
    chart = Chart(BINNING, [window(rows, s) for s in range(count)], None, Season("weekday", [i % 7 for i in range(count)], 7))
    for size in (1, 5, 1000):
        score = chart.score(window(size, 99), 3)
        defined(score)
        assert (score.p_value is None) == (count < 3)
        assert score.learning == (count < 28)


def test_one_row_a_window_is_never_a_miracle() -> None:
    chart = Chart(BINNING, [window(1, s) for s in range(56)])
    assert chart.score(window(1, 500)).p_value > 0.001  # type: ignore[operator]


def test_constant_null_and_text_columns_are_judged_by_what_they_have() -> None:
    turned = window(1000, 70)
    turned.columns["empty"] = ColumnProfile(np.array([1000]), np.zeros(1), 0, 0, 0, 1.0, 1.0, 1000.0, 0.0)
    assert CHART.score(turned, 0).drivers[0].column == "empty"
    moved = window(1000, 71)
    moved.columns["flat"] = numbers(BINNING["flat"], np.full(1000, 9.0))
    assert CHART.score(moved, 0).drivers[0].column == "flat"
    emptied = window(1000, 72)
    emptied.columns["note"] = ColumnProfile(np.zeros(0, np.int64), np.zeros(0), 400)
    (driver, *_) = CHART.score(emptied, 0).drivers
    assert (driver.column, driver.contrast, driver.value) == ("note", "missing", 0.4)


def test_rows_beyond_every_edge_are_far_and_not_an_exception() -> None:
    far = window(1000, 73, move=50.0)
    score = CHART.score(far, 0)
    defined(score)
    assert score.p_value < 1e-6  # type: ignore[operator]
    assert {d.column for d in score.drivers[:2]} == {"x", "y"}


def test_a_baseline_with_a_gap_remembers_only_neighbours() -> None:
    places = [float(i + (10 if i > 30 else 0)) for i in range(56)]
    chart = Chart(BINNING, PAST, places, Season("weekday", [int(p) % 7 for p in places], 7))
    defined(chart.score(window(1000, 99), 3, 90.0))
    every_other = Chart(BINNING, PAST, [2.0 * i for i in range(56)])
    assert every_other.normal is not None
    assert not every_other.normal.carry.any()


def test_an_unseen_season_key_is_expected_at_the_mean() -> None:
    chart = Chart(BINNING, PAST[:40], None, Season("weekday", [i % 6 for i in range(40)], 7))
    defined(chart.score(window(1000, 99), 6))


def test_windows_without_cross_products_are_judged_without_correlation() -> None:
    bare = window(1000, 74, together=0.0)
    assert CHART.score(bare, 0).drivers[0].column == "(correlation)"
    bare.cross = None
    score = CHART.score(bare, 0)
    defined(score)
    assert all(d.column != "(correlation)" for d in score.drivers)
    chart = Chart(BINNING, [*PAST[:-1], bare])
    assert chart.contrasts.correlated, "one window without them must not blind the others"
    assert chart.score(window(1000, 74, together=0.0), 0).drivers[0].column == "(correlation)"


def test_a_sparse_column_does_not_hide_the_correlation_of_others() -> None:
    def sparse(seed: int, together: float = 0.8) -> Profile:
        found = window(1000, seed, together=together)
        assert found.cross is not None
        pairs = found.cross.pairs.copy()
        pairs[3, :] = pairs[:, 3] = 0
        found.cross = CrossProducts(pairs, found.cross.sums, found.cross.products)
        return found

    score = Chart(BINNING, [sparse(s) for s in range(56)]).score(sparse(74, 0.0))
    assert score.p_value < 1e-6  # type: ignore[operator]
    assert "x ~ y" in [d.detail for d in score.drivers]


def test_a_weight_of_zero_leaves_a_column_out_and_a_small_one_needs_more() -> None:
    moved = window(1000, 75, move=0.3, together=0.8)
    heavy = Chart(BINNING, PAST, weights={"x": 0.0, "y": 0.0, "(correlation)": 0.0}).score(moved)
    assert all(d.column not in ("x", "y", "(correlation)") for d in heavy.drivers)
    assert heavy.p_value > 0.02  # type: ignore[operator]
    light = Chart(BINNING, PAST, weights={"x": 0.01, "y": 0.01}).score(moved)
    assert light.p_value > Chart(BINNING, PAST).score(moved).p_value  # type: ignore[operator]


def test_effects_too_small_to_matter_do_not_alarm_however_many_rows() -> None:
    past = [window(400_000, s) for s in range(30)]
    score = Chart(BINNING, past).score(window(400_000, 99, move=0.03))
    assert score.raw < 1e-3  # type: ignore[operator]
    assert score.p_value > 0.05  # type: ignore[operator]


def test_an_accepted_level_is_normal_from_the_next_window_on() -> None:
    moved = [window(1000, 200 + s, move=0.8) for s in range(3)]
    past = [*PAST[3:], *moved]
    places = [float(i) for i in range(56)]
    fresh = window(1000, 300, move=0.8)
    before = Chart(BINNING, PAST, places).score(fresh)
    assert before.p_value < 1e-6  # type: ignore[operator]
    accepted = Chart(BINNING, past, places, accepted=[Accepted(53.0, frozenset({"x", "y"}))]).score(fresh)
    assert accepted.p_value > 1 / 60  # type: ignore[operator]
    other = Chart(BINNING, past, places, accepted=[Accepted(53.0, frozenset({"c"}))]).score(window(1000, 301, move=1.6))
    assert other.drivers[0].column in ("x", "y")
    old = Chart(BINNING, past, places, accepted=[Accepted(53.0)]).score(window(1000, 302))
    assert old.p_value < 1 / 60, "the level of before is the unusual one now"  # type: ignore[operator]


def test_false_alarms_widen_the_limits() -> None:
    moved = window(1000, 76, move=0.13)
    narrow, wide = (Chart(BINNING, PAST, widen=w).score(moved).p_value for w in (1.0, 3.0))
    assert narrow < wide  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "change", "column"),
    [
        ("x", shifted(0.5), "x"), ("x", spread, "x"), ("x", unit, "x"), ("c", mix, "c"), ("c", new_category, "c"), ("x", more_nulls, "x"),
        ("x", uncorrelated, "(correlation)"), ("(rows)", halved, "(rows)"),
    ],
)
def test_every_injected_fault_is_found_in_its_first_window_and_named(name: str, change: Any, column: str) -> None:
    score = CHART.score(change(window(1000, 77), name, 0), 0)
    assert score.p_value < 1 / 60  # type: ignore[operator]
    assert column in [d.column for d in score.drivers[:3]]


def test_a_shift_alone_is_no_spread() -> None:
    score = CHART.score(shifted(1.0)(window(1000, 77), "x", 0), 0)
    assert ("x", "location") in [(d.column, d.contrast) for d in score.drivers]
    assert ("x", "spread") not in [(d.column, d.contrast) for d in score.drivers]


def test_injected_rows_are_those_of_the_changed_rows() -> None:
    values = RANDOM.normal(size=5000)
    binned = affine(BINNING["x"], numbers(BINNING["x"], values), 1.5, 0.3)
    exact = numbers(BINNING["x"], 1.5 * values + 0.3)
    assert np.abs(binned.counts - exact.counts).sum() < 0.06 * 5000
    assert binned.mean() == pytest.approx(exact.mean())
    assert binned.deviation(0.0) == pytest.approx(exact.deviation(0.0))
    assert gradual(window(1000, 1), "x", 19).columns["x"].mean() == pytest.approx(window(1000, 1).columns["x"].mean() + 1.0)  # type: ignore[operator]


def test_the_smallest_shift_said_is_about_what_is_found() -> None:
    (found,) = [s for s in sensitivity(CHART, 1 / 60) if s.column == "x"]
    assert found.unit == "sd"
    smallest = found.within[0]
    assert smallest is not None
    larger = [CHART.score(window(1000, 400 + k, move=1.4 * smallest), 0).p_value for k in range(20)]
    smaller = [CHART.score(window(1000, 400 + k, move=0.5 * smallest), 0).p_value for k in range(20)]
    assert sum(p < 1 / 60 for p in larger) > 14  # type: ignore[operator]
    assert sum(p < 1 / 60 for p in smaller) < 8  # type: ignore[operator]
    assert found.within[2] < smallest  # type: ignore[operator]


def test_the_slow_channels_variance_is_that_of_simulated_series() -> None:
    white, grid, coloured = smoothing_variance(56)
    random = np.random.default_rng(1)
    for phi, expected in ((0.0, white), (float(grid[10]), float(coloured[10]))):
        series = np.empty((4000, 56))
        state = random.normal(size=4000)
        for index in range(56):
            series[:, index] = state
            state = phi * state + np.sqrt(1 - phi**2) * random.normal(size=4000)
        series -= series.mean(1, keepdims=True)
        slow = np.zeros(4000)
        for index in range(56):
            slow = 0.85 * slow + 0.15 * series[:, index]
        assert slow.var() == pytest.approx(expected, rel=0.08)


def test_tails_of_t_and_of_skewed_means_against_scipy() -> None:
    from scipy import stats

    z, freedom = np.array([1.0, 3.0, 6.0, 12.0]), np.array([5.0, 10.0, 30.0, 80.0])
    exact = stats.norm.isf(stats.t.sf(z, freedom))
    assert normal_equivalent(z, freedom) == pytest.approx(exact, rel=0.02)
    gamma = (stats.gamma.isf([1e-2, 1e-3], 25) - 25) / 5
    assert unskewed(gamma, np.full(2, 2 / 5)) == pytest.approx(stats.norm.isf([1e-2, 1e-3]), abs=0.05)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 4, 30, 900]), st.floats(-60, 60), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.1, 30.0])), min_size=1, max_size=12),
    st.integers(0, 6),
)
def test_no_baseline_and_no_window_makes_an_exception(parts: list[tuple[int, float, float, float]], season: int) -> None:
    made = [window(rows, k, move=move, nulls=nulls, wide=wide) for k, (rows, move, nulls, wide) in enumerate(parts)]
    chart = Chart(BINNING, made[:-1], None, Season("weekday", [k % 7 for k in range(len(made) - 1)], 7))
    defined(chart.score(made[-1], season))


@pytest.mark.parametrize(("size", "zone"), [(2, "Europe/Berlin"), (4, "Europe/Helsinki"), (6, "Asia/Tokyo"), (12, "America/Chicago"), (24, "America/New_York"), (1, "UTC")])
def test_every_window_is_one_place_after_the_one_before(size: int, zone: str) -> None:
    from datetime import UTC, datetime, timedelta

    from checks.core.window import WindowGrid
    from monitor.evaluation.drift import position_of

    grid = WindowGrid(timedelta(hours=size), zone)
    windows = list(grid.between(datetime(2024, 1, 3, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)))
    places = [position_of(grid, w) for w in windows]
    assert {b - a for a, b in pairwise(places)} == {1.0}


def test_holidays_are_sundays() -> None:
    from datetime import UTC, datetime, timedelta
    from types import SimpleNamespace

    from checks.core.window import WindowGrid
    from monitor.evaluation.drift import season_of, weekday_of

    monitor: Any = SimpleNamespace(drift=SimpleNamespace(holidays=["2024-07-04"]))
    grid, hours = WindowGrid(timedelta(days=1), "America/New_York"), WindowGrid(timedelta(hours=1), "America/New_York")
    fourth = grid.at(datetime(2024, 7, 4, 12, tzinfo=UTC))
    assert weekday_of(monitor, grid, fourth) == (6, True)
    assert season_of(monitor, grid, fourth, "weekday") == 6
    assert season_of(monitor, hours, hours.at(datetime(2024, 7, 4, 12, 30, tzinfo=UTC)), "hour_of_week") == 6 * 24 + 8
    assert season_of(monitor, hours, hours.at(datetime(2024, 7, 5, 12, 30, tzinfo=UTC)), "hour_of_week") == 4 * 24 + 8
