"""Windows, verdicts, thresholds, expressions."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest

from checks.core.errors import ConfigError, ExpressionError
from checks.core.expression import And, Column, Compare, InSet, Literal, columns, parse
from checks.core.result import ROLL_UP, Statistic, Threshold, Verdict, roll_up
from checks.core.window import Window, WindowGrid, format_duration, parse_duration
from checks.evaluate import evaluate


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2024, 3, 31), 23), ("Europe/Berlin", date(2024, 10, 27), 25), ("Europe/Berlin", date(2024, 7, 1), 24),
        ("Australia/Lord_Howe", date(2024, 4, 7), 24.5), ("America/New_York", date(2013, 11, 3), 25),
    ],
)
def test_a_daily_window_is_one_local_day(zone: str, day: date, hours: float) -> None:
    grid = WindowGrid(timedelta(days=1), zone)
    window = grid.parse_start(day.isoformat())
    assert window.length == timedelta(hours=hours)
    assert grid.local_date(window.start) == day
    assert grid.next(window).start == window.end


@pytest.mark.parametrize("size", ["15m", "1h", "2h", "6h", "1d", "2d"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
def test_windows_tile_the_time_without_gap_or_overlap_across_clock_changes(size: str, zone: str) -> None:
    grid = WindowGrid(parse_duration(size), zone)
    for start in (datetime(2024, 3, 9, tzinfo=UTC), datetime(2024, 11, 2, tzinfo=UTC), datetime(2024, 4, 6, tzinfo=UTC)):
        windows = list(grid.between(start, start + timedelta(days=3)))
        assert all(a.end == b.start for a, b in itertools.pairwise(windows))
        assert all(grid.at(w.start) == w and grid.at(w.end - timedelta(microseconds=1)) == w for w in windows)


def test_durations_read_back_as_they_are_written() -> None:
    for text in ("90s", "5m", "1h", "36h", "14d"):
        assert parse_duration(format_duration(parse_duration(text))) == parse_duration(text)
    with pytest.raises(ConfigError, match="'soon' is not a duration"):
        parse_duration("soon")


def test_a_window_without_a_zone_or_with_its_end_first_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Window(datetime(2024, 1, 1), datetime(2024, 1, 2))
    with pytest.raises(ValueError, match="end after"):
        Window(datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))


def test_verdicts_roll_up_in_the_documented_order() -> None:
    assert [str(v) for v in ROLL_UP] == ["fail", "warn", "error", "no_data", "inhibited", "insufficient", "pass"]
    for index, gravest in enumerate(ROLL_UP):
        assert roll_up(ROLL_UP[index:]) is gravest


@pytest.mark.parametrize(
    ("statistic", "verdict"),
    [
        (Statistic(0.5, 0.4, 0.6, 100), Verdict.PASS), (Statistic(0.9, 0.75, 0.95, 100), Verdict.WARN),
        (Statistic(0.9, 0.69, 0.95, 100), Verdict.PASS), (Statistic(0.99, 0.92, 1.0, 100), Verdict.FAIL),
        (Statistic(float("nan"), None, None, 100), Verdict.ERROR), (Statistic(float("inf"), None, None, 100), Verdict.ERROR),
        (Statistic(0.9, 0.8, 1.0, 3), Verdict.INSUFFICIENT), (Statistic.nothing(), Verdict.NO_DATA),
    ],
)
def test_a_limit_is_broken_when_the_whole_interval_lies_beyond_it(statistic: Statistic, verdict: Verdict) -> None:
    assert evaluate(statistic, Threshold(warn_above=0.7, fail_above=0.9), min_n=10).verdict is verdict


def test_an_expression_is_parsed_to_values_and_knows_its_columns() -> None:
    found = parse("temp > 100 AND carrier IN ('AA', 'UA')")
    assert found == And((Compare(">", Column("temp"), Literal(100)), InSet(Column("carrier"), ("AA", "UA"))))
    assert columns(found) == {"temp", "carrier"}


@pytest.mark.parametrize("text", ["SELECT 1", "read_csv('x')", "a +", "(SELECT a FROM b)", "a; DROP TABLE b"])
def test_what_is_outside_the_subset_is_refused_by_name(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)
