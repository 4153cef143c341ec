"""The same tables give the same counts on every engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from checks.core.outputs import ALL
from monitor.evaluation.scan import Scan, sample_rows, scan
from monitor.ports import Source
from tests.engines.cases import CASES, WINDOW, Case, expected, magnitude, many
from tests.engines.engines import ENGINES, Open

pytestmark = pytest.mark.xdist_group("engines")
LOOK_BEHIND = "REGEXP_MATCHES(t, '(?<=ab)c')"
APART = {"duckdb"}
"""Engines whose expressions have no look-behind: they count with RE2."""


def scanned(case: Case, source: Source) -> Scan:
    return scan(source, case.plan, source.types_in(case.timestamp, WINDOW), case.timestamp, WINDOW, source.types())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_counts_are_those_of_plain_python(engine: tuple[str, Open], case: Case, tmp_path: Path) -> None:
    _, open_table = engine
    found = scanned(case, open_table(case.table, tmp_path))
    wanted = expected(case)
    profile = found.profile
    assert (dict(found.failed), dict(found.unreadable)) == ({}, {})
    assert (profile.rows, profile.versions) == (wanted.rows, wanted.versions)
    for column in case.columns:
        one, other = profile.columns[column.name], wanted.columns[column.name]
        assert one.layout().tolist() == other.layout().tolist(), column.name
        assert (one.nulls, one.nans, one.minimum, one.maximum) == (other.nulls, other.nans, other.minimum, other.maximum), column.name
        if column.kind == "numeric":
            size = magnitude(case, column.name)
            assert np.abs(one.sums - other.sums).max(initial=0.0) <= 1e-12 * size
            assert one.square == pytest.approx(other.square, rel=1e-11)
        else:
            assert one.total == other.total
    assert profile.rules == wanted.rules


@pytest.mark.parametrize("case", [c for c in CASES if c.outputs or c.name == "cross products"], ids=lambda case: case.name)
def test_outputs_and_cross_products_are_those_of_the_arrow_executor(engine: tuple[str, Open], case: Case, tmp_path: Path) -> None:
    _, open_table = engine
    (tmp_path / "a").mkdir()
    wanted = scanned(case, ENGINES["arrow"](case.table, tmp_path / "a", "")).profile
    profile = scanned(case, open_table(case.table, tmp_path)).profile
    assert set(profile.outputs) == set(wanted.outputs)
    for label, counts in wanted.outputs.items():
        assert profile.outputs[label].cells.tolist() == counts.cells.tolist(), label
        assert profile.outputs[label].counts.tolist() == counts.counts.tolist(), label
    if case.outputs:
        assert profile.outputs[ALL].rows == case.table.num_rows
    assert profile.cross is not None
    assert wanted.cross is not None
    assert (profile.cross.pairs == wanted.cross.pairs).all()
    assert np.allclose(profile.cross.sums, wanted.cross.sums, rtol=1e-11, atol=1e-9)
    assert np.allclose(profile.cross.products, wanted.cross.products, rtol=1e-11, atol=1e-9)
    assert not profile.cross.sampled


def test_a_million_categories_are_counted_and_stay_in_the_engine(engine: tuple[str, Open], tmp_path: Path) -> None:
    _, open_table = engine
    case = many()
    profile = scanned(case, open_table(case.table, tmp_path)).profile
    column = profile.columns["c"]
    assert (column.counts == 1000).all()
    assert (len(column.counts), column.other, column.nulls, profile.rules["c = 'user-7'"]) == (200, 800_000, 0, 1)
    assert len(profile.to_bytes()) < 5000


def test_a_large_window_has_its_cross_products_sampled_and_says_so(engine: tuple[str, Open], tmp_path: Path) -> None:
    name, open_table = engine
    random = np.random.default_rng(11)
    x = random.normal(size=120_000)
    case = next(c for c in CASES if c.name == "cross products")
    at = pa.array(np.full(len(x), int(WINDOW.start.timestamp() * 1e6)), pa.timestamp("us", "UTC"))
    source = open_table(pa.table({"at": at, "x": x, "y": 0.6 * x + 0.8 * random.normal(size=len(x)), "z": x}), tmp_path)
    cross = scanned(case, source).profile.cross
    assert cross is not None
    assert cross.sampled is (name != "arrow")
    assert cross.correlation()[0, 1] == pytest.approx(0.6, abs=0.03)
    table = sample_rows(source, ["x"], "at", WINDOW, 10_000)
    assert table is not None
    assert 5_000 < table.num_rows < 20_001


def test_rows_are_read_as_they_are(engine: tuple[str, Open], tmp_path: Path) -> None:
    _, open_table = engine
    case = next(c for c in CASES if c.name == "unicode")
    source = open_table(case.table, tmp_path)
    found = pa.Table.from_batches(list(source.read(["c"], "at", WINDOW)))
    assert sorted(map(str, found.column("c").to_pylist())) == sorted(map(str, case.table.column("c").to_pylist()))
    extent = source.extent("at")
    assert (extent.first, extent.last) == (case.table.column("at")[0].as_py(), case.table.column("at")[-1].as_py())


def test_what_an_engine_cannot_count_is_counted_apart_and_said(engine: tuple[str, Open], tmp_path: Path) -> None:
    name, open_table = engine
    case = next(c for c in CASES if c.name == "unicode")
    case = replace(case, rules=(case.rules[2], (LOOK_BEHIND, lambda r: "abc" in (r["t"] or ""))))
    found = scanned(case, open_table(case.table, tmp_path))
    wanted = expected(case).rules
    assert wanted["LENGTH(t) > 4"] > 0
    assert (dict(found.failed), found.profile.rules) == ({}, wanted)
    assert set(found.apart) == ({LOOK_BEHIND} if name in APART else set())
