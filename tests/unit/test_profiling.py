"""Profiles: a monoid, exact counts, compact bytes, private texts hashed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.core.errors import BinningMismatch, ProfileFormatError
from checks.core.profile import Binning, ColumnBinning, Profile, merge
from monitor.profiling.arrow import Executor
from monitor.profiling.plan import Plan, private_category

BINNING = Binning((
    ColumnBinning("x", "numeric", edges=(-1.0, 0.0, 1.0), center=0.2), ColumnBinning("c", "category", categories=("a", "b")),
    ColumnBinning("t", "text"), ColumnBinning("flag", "category", categories=("true", "false")),
))
TYPES = {"x": "number", "c": "string", "t": "string", "flag": "boolean", "v": "string"}
ROW = st.tuples(
    st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=32)), st.one_of(st.none(), st.sampled_from("abz")),
    st.one_of(st.none(), st.text(max_size=3)), st.one_of(st.none(), st.booleans()), st.sampled_from(["v1", "v2"]),
)


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    x, c, t, flag, v = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return pa.table({
        "x": pa.array(x, pa.float64()), "c": pa.array(c, pa.string()), "t": pa.array(t, pa.string()), "flag": pa.array(flag, pa.bool_()),
        "v": pa.array(v, pa.string()),
    })


def scan(rows: list[tuple[Any, ...]]) -> Profile:
    return Executor(Plan(BINNING, version="v"), TYPES).scan(table(rows).to_batches())


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, max_size=40), st.data())
def test_any_partition_in_any_order_merges_to_the_profile_of_the_whole(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    merged = merge(BINNING, [scan(p) for p in data.draw(st.permutations(parts))])
    whole = scan(rows)
    assert (merged.rows, merged.versions) == (whole.rows, whole.versions)
    for name, column in whole.columns.items():
        other = merged.columns[name]
        assert column.layout().tolist() == other.layout().tolist()
        assert (column.nulls, column.nans, column.minimum, column.maximum) == (other.nulls, other.nans, other.minimum, other.maximum)
        size = abs(column.sums).sum() + 1e-300
        assert np.allclose(column.sums, other.sums, rtol=0, atol=1e-9 * size)


@settings(max_examples=50, deadline=None)
@given(st.lists(ROW, max_size=30))
def test_counts_agree_with_plain_python(rows: list[tuple[Any, ...]]) -> None:
    profile = scan(rows)
    numbers = [r[0] for r in rows if r[0] is not None]
    finite = [v for v in numbers if np.isfinite(v)]
    assert profile.columns["x"].counts.tolist() == [
        sum(v < -1 for v in finite), sum(-1 <= v < 0 for v in finite), sum(0 <= v < 1 for v in finite), sum(v >= 1 for v in finite),
    ]
    assert profile.columns["x"].nulls == len(rows) - len(numbers)
    assert profile.columns["x"].nans == sum(np.isnan(v) for v in numbers)
    assert profile.columns["x"].other == sum(np.isinf(v) for v in numbers)
    texts = [r[1] for r in rows]
    assert profile.columns["c"].layout().tolist() == [texts.count("a"), texts.count("b"), texts.count("z"), texts.count(None)]
    assert profile.columns["t"].other == [r[2] for r in rows].count("")


@given(st.lists(ROW, max_size=20))
@settings(max_examples=30, deadline=None)
def test_bytes_read_back_as_they_were_written(rows: list[tuple[Any, ...]]) -> None:
    profile = scan(rows)
    again = Profile.from_bytes(profile.to_bytes(), BINNING)
    assert again.to_bytes() == profile.to_bytes()


def test_other_binnings_and_formats_are_refused() -> None:
    other = Binning((ColumnBinning("x", "numeric", edges=(5.0,)),))
    with pytest.raises(BinningMismatch):
        Profile.empty(BINNING) + Profile.empty(other)
    with pytest.raises(BinningMismatch):
        Profile.from_bytes(Profile.empty(BINNING).to_bytes(), other)
    with pytest.raises(ProfileFormatError):
        Profile.from_bytes(b"\x09abc", BINNING)


def test_private_categories_are_counted_by_their_keyed_hash() -> None:
    key = b"secret"
    binning = Binning((ColumnBinning("c", "category", categories=(private_category("ann", key),), private=True),))
    batch = pa.table({"c": ["ann", "ann", "bob", None]}).to_batches()
    profile = Executor(Plan(binning, key=key), {"c": "string"}).scan(batch)
    assert profile.columns["c"].layout().tolist() == [2, 1, 1]
    assert "ann" not in binning.to_json()
    assert private_category("ann", b"another key") != private_category("ann", key)


def test_whole_numbers_dictionaries_decimals_and_timestamps_are_read() -> None:
    from decimal import Decimal

    from monitor.arrow_types import to_micros

    binning = Binning((ColumnBinning("x", "numeric", edges=(2.0,)), ColumnBinning("c", "category", categories=("a",))))
    for column in (pa.array([1, 2, 2**60]), pa.array([Decimal("1.5"), Decimal("2.5"), Decimal("3")])):
        batch = pa.table({"x": column, "c": pa.array(["a", "b", None]).dictionary_encode()}).to_batches()
        profile = Executor(Plan(binning), {"x": "number", "c": "string"}).scan(batch)
        assert profile.columns["x"].counts.tolist() == [1, 2]
        assert profile.columns["c"].layout().tolist() == [1, 1, 1]
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    micros = int(moment.timestamp() * 1e6)
    for times in (
        pa.array([moment]), pa.array([moment.replace(tzinfo=None)]), pa.array(["2024-01-01T01:00:00+01:00"]), pa.array([micros // 10**6]),
        pa.array([micros // 1000]), pa.array([micros * 1000]), pa.array([micros]),
    ):
        assert to_micros(times, "at").to_pylist() == [micros]
