"""The scan of record batches: slices, cross products, the merge law, two lanes, awkward edges, old bytes."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.core.errors import ProfileFormatError
from checks.core.expression import parse
from checks.core.outputs import ALL, BAD_SCORE, MISSING, NO_SCORE, OTHER, SCORE_BINS, output_shape
from checks.core.profile import Binning, ColumnBinning, Profile, merge
from monitor.profiling import arrow
from monitor.profiling.arrow import Executor
from monitor.profiling.kernel import CROWDED, GRID
from monitor.profiling.plan import Plan
from tests.profiles import profile_numbers

BINNING = Binning((
    ColumnBinning("x", "numeric", edges=(-1.0, 0.0, 1.0), center=0.2, spread=1.4), ColumnBinning("y", "numeric", edges=(0.5,), spread=2.0),
    ColumnBinning("s", "numeric", "score", edges=(0.5,)), ColumnBinning("p", "category", "prediction", categories=("yes", "no")),
    ColumnBinning("c", "category", categories=("a", "b")), ColumnBinning("d", "category", categories=("u",)),
))
TYPES = {"x": "number", "y": "number", "s": "number", "p": "string", "c": "string", "d": "string"}
PLAN = Plan(BINNING, slices=(("c",), ("c", "d")), outputs=True)
NUMBER = st.one_of(st.none(), st.floats(-1e3, 1e3), st.just(float("nan")), st.just(float("inf")))
ROW = st.tuples(
    NUMBER, NUMBER, st.one_of(st.none(), st.floats(-0.1, 1.1), st.just(float("nan"))), st.sampled_from(["yes", "no", "maybe", None]),
    st.sampled_from(["a", "b", "z", None]), st.sampled_from(["u", "v"]),
)


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    kinds = [pa.float64()] * 3 + [pa.string()] * 3
    return pa.table({name: pa.array(values, kind) for name, values, kind in zip(TYPES, columns, kinds, strict=True)})


def scanned(rows: list[tuple[Any, ...]]) -> Profile:
    return Executor(PLAN, TYPES).scan(table(rows).to_batches())


def cell(score: float | None, prediction: str | None) -> int:
    bins = NO_SCORE if score is None else BAD_SCORE if not 0 <= score <= 1 else min(int(score * SCORE_BINS), SCORE_BINS - 1)
    return bins * 4 + {"yes": 0, "no": 1, None: 3}.get(prediction, 2)


def label(column: str, value: str | None, known: str) -> str:
    return f"{column}={MISSING if value is None else value if value in known else OTHER}"


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=50))
def test_outputs_are_the_counts_of_plain_python_in_every_slice(rows: list[tuple[Any, ...]]) -> None:
    profile = scanned(rows)
    wanted: dict[str, Counter[int]] = {ALL: Counter()}
    for _, _, score, prediction, c, d in rows:
        single = label("c", c, "ab")
        for key in (ALL, single, f"{single} & {label('d', d, 'u')}"):
            wanted.setdefault(key, Counter())[cell(score, prediction)] += 1
    assert output_shape(BINNING) == (SCORE_BINS + 2, 4, 1)
    assert {name: dict(zip(o.cells.tolist(), o.counts.tolist(), strict=True)) for name, o in profile.outputs.items()} == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=50))
def test_cross_products_are_those_of_the_rows_that_have_both(rows: list[tuple[Any, ...]]) -> None:
    cross = scanned(rows).cross
    assert cross is not None
    z = np.array([[((v - m) / s if v is not None and np.isfinite(v) else np.nan) for v, m, s in ((r[0], 0.2, 1.4), (r[1], 0.0, 2.0))] for r in rows])
    z = z.reshape(-1, 2)
    for i in range(2):
        for j in range(2):
            both = np.isfinite(z[:, i]) & np.isfinite(z[:, j])
            assert cross.pairs[i, j] == both.sum()
            assert cross.sums[i, j] == pytest.approx(z[both, i].sum(), abs=1e-9)
            assert cross.products[i, j] == pytest.approx((z[both, i] * z[both, j]).sum(), rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=50), st.data())
def test_any_partition_in_any_order_merges_to_the_whole_with_slices_and_cross_products(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    merged = merge(BINNING, [scanned(p) for p in data.draw(st.permutations(parts))])
    whole = scanned(rows)
    assert merged.rows == whole.rows
    for name, column in whole.columns.items():
        other = merged.columns[name]
        assert column.layout().tolist() == other.layout().tolist()
        assert np.abs(column.sums - other.sums).max(initial=0) <= 1e-12 * max(np.abs(column.sums).sum(), 1.0) * max(len(rows), 1)
    assert {n: (o.cells.tolist(), o.counts.tolist()) for n, o in merged.outputs.items()} == {
        n: (o.cells.tolist(), o.counts.tolist()) for n, o in whole.outputs.items()
    }
    assert merged.cross is not None
    assert whole.cross is not None
    assert (merged.cross.pairs == whole.cross.pairs).all()
    assert np.allclose(merged.cross.products, whole.cross.products, rtol=1e-9, atol=1e-6)
    again = Profile.from_bytes(merged.to_bytes(), BINNING)
    assert again.to_bytes() == merged.to_bytes()


def test_two_lanes_count_what_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    size = 50_001
    rows = pa.table({
        "x": pa.array(random.normal(size=size), mask=random.random(size) < 0.1), "y": random.normal(size=size), "s": random.random(size),
        "p": random.choice(["yes", "no"], size), "c": random.choice(["a", "b", "q"], size), "d": random.choice(["u", "v"], size),
    })
    both = Executor(PLAN, TYPES).scan(rows.to_batches())
    monkeypatch.setattr(arrow, "SMALL", 10**9)
    one = Executor(PLAN, TYPES).scan(rows.to_batches())
    assert both.rows == one.rows == size
    for name, column in one.columns.items():
        assert column.layout().tolist() == both.columns[name].layout().tolist()
        assert np.allclose(column.sums, both.columns[name].sums, rtol=1e-12, atol=1e-9)
    assert one.cross is not None
    assert both.cross is not None
    assert np.allclose(one.cross.correlation(), both.cross.correlation(), atol=1e-12)
    assert one.outputs[ALL].counts.tolist() == both.outputs[ALL].counts.tolist()
    assert {k: v.rows for k, v in one.outputs.items()} == {k: v.rows for k, v in both.outputs.items()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40, unique=True), st.data())
def test_every_value_falls_between_its_edges_whatever_the_edges(edges: list[float], data: st.DataObject) -> None:
    ordered = sorted({e + 0.0 for e in edges})
    with np.errstate(over="ignore"):
        near = [w for e in ordered for w in (e, float(np.nextafter(e, np.inf)), float(np.nextafter(e, -np.inf)))]
        values = np.array(near + data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20)))
        values = values[np.isfinite(values)]
        profile = profile_numbers(ColumnBinning("x", "numeric", edges=tuple(ordered)), values)
    wanted = np.bincount(np.searchsorted(ordered, values, side="right"), minlength=len(ordered) + 1)
    assert profile.counts.tolist() == wanted.tolist()


def test_edges_crowded_into_one_cell_of_the_table_are_searched() -> None:
    crowd = np.linspace(0.0, 1e-7, 5 * CROWDED)
    edges = (*crowd.tolist(), 1.0)
    assert 1.0 / GRID > 1e-7
    values = np.random.default_rng(2).uniform(-1e-8, 2e-7, 10_000)
    found = profile_numbers(ColumnBinning("x", "numeric", edges=edges), values).counts
    assert found.tolist() == np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).tolist()


def test_profiles_of_the_first_format_can_still_be_read() -> None:
    profile = scanned([(0.5, 1.0, 0.2, "yes", "a", "u"), (None, float("nan"), 0.9, "no", "b", "v")])
    head = {
        "binning": BINNING.hash, "rows": 2, "rules": {}, "versions": {}, "first": None, "last": None,
        "columns": [[c.nulls, c.nans, c.other, c.minimum.hex(), c.maximum.hex(), float(c.total).hex(), float(c.square).hex()] for c in profile.columns.values()],
    }
    text = json.dumps(head).encode()
    numbers = b"".join(c.counts.astype("<i8").tobytes() + c.sums.astype("<f8").tobytes() for c in profile.columns.values())
    old = b"\x01" + zlib.compress(len(text).to_bytes(4, "little") + text + numbers)
    read = Profile.from_bytes(old, BINNING)
    assert (read.rows, read.cross, read.outputs) == (2, None, {})
    assert {n: c.layout().tolist() for n, c in read.columns.items()} == {n: c.layout().tolist() for n, c in profile.columns.items()}
    assert (read + profile).cross is None
    for cut in (1, 5, 20):
        with pytest.raises(ProfileFormatError):
            Profile.from_bytes(profile.to_bytes()[:cut], BINNING)


def test_twenty_columns_take_under_twenty_kilobytes() -> None:
    random = np.random.default_rng(5)
    data = random.normal(size=(20, 20_000))
    edges = tuple(np.quantile(data[0], np.arange(1, 62) / 62).tolist())
    binning = Binning(tuple(ColumnBinning(f"x{i}", "numeric", edges=edges) for i in range(20)))
    profile = Executor(Plan(binning), dict.fromkeys((f"x{i}" for i in range(20)), "number")).scan(
        pa.table({f"x{i}": data[i] for i in range(20)}).to_batches()
    )
    assert profile.cross is not None
    assert len(profile.to_bytes()) < 20_000


EXPRESSIONS = [
    "x < 0", "x >= 0.5", "x = 3", "x <> 3", "x IS NULL", "ISNAN(x)", "x IS NULL OR ISNAN(x)", "NOT ISNAN(x) AND x > 999", "NOT (x > 5)",
    "n > 5", "n <= -1", "n = 2", "n IS NULL", "NOT (n IS NULL) AND n < 3", "c = 'a'", "c <> 'a'", "c IN ('a', 'b')", "NOT (c IN ('a', 'b'))",
    "NOT (c IS NULL) AND NOT (c IN ('a'))", "c IS NULL OR c = 'z'", "NOT (c = 'a' OR c = 'b')", "x > 1 OR c = 'a'", "ISNAN(n)",
]
RULES = {text: parse(text) for text in EXPRESSIONS}
MIXED = st.tuples(NUMBER, st.one_of(st.none(), st.integers(-3, 6)), st.sampled_from(["a", "b", "z", "", None]))


@settings(max_examples=80, deadline=None)
@given(st.lists(MIXED, max_size=12), st.booleans())
def test_what_needs_no_engine_is_counted_as_the_engine_counts(rows: list[tuple[Any, ...]], coded: bool) -> None:
    x, n, c = zip(*rows, strict=True) if rows else ((), (), ())
    texts = pa.array(c, pa.string())
    data = pa.table({"x": pa.array(x, pa.float64()), "n": pa.array(n, pa.int32()), "c": texts.dictionary_encode() if coded else texts})
    types = {"x": "number", "n": "integer", "c": "string"}

    def count() -> dict[str, int]:
        executor = Executor(Plan(Binning(()), RULES), types)
        found = executor.scan(data.to_batches()).rules
        assert executor.failed == {}
        return found

    quick = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow.Ranges, "count", lambda *_: None)
        patch.setattr(arrow, "flags", lambda *_: None)
        assert quick == count()
