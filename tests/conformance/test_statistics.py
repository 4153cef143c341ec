"""Laws of every registered statistic, and values against independent computations."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from checks.core.profile import ColumnBinning, ColumnProfile
from checks.statistics import STATISTICS, measure
from monitor.profiling.binning import quantile_edges
from tests.profiles import profile_numbers

KINDS = STATISTICS.kinds()
RANDOM = np.random.default_rng(5)
NUMBERS = RANDOM.normal(size=800)
TEXTS = RANDOM.choice(["a", "b", "c"], 800, p=[0.5, 0.3, 0.2])
CASES: dict[str, Any] = {
    "numbers": NUMBERS, "constant": np.full(50, 3.0), "one row": np.array([1.0]), "all NaN": np.full(20, np.nan),
    "infinite": np.array([np.inf, -np.inf, 1.0, 2.0]), "texts": TEXTS, "nulls": np.array([None] * 20, dtype=object),
    "one text": np.array(["a"]),
}


def applies(kind: str, *values: Any) -> bool:
    numeric = all(v.dtype.kind == "f" for v in values)
    texts = all(v.dtype.kind in "UO" for v in values)
    return (numeric and "numeric" in STATISTICS[kind].applies) or (texts and "category" in STATISTICS[kind].applies)


def binned(values: np.ndarray[Any, Any], edges: list[float]) -> tuple[ColumnBinning, ColumnProfile]:
    binning = ColumnBinning("x", "numeric", edges=tuple(edges))
    return binning, profile_numbers(binning, values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["numbers", "texts", "constant"])
def test_it_is_zero_on_identical_data(kind: str, name: str) -> None:
    if applies(kind, CASES[name]):
        value = measure(kind, CASES[name], CASES[name]).value
        assert value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("left", "right"), list(product(CASES, CASES)))
def test_it_is_finite_and_in_its_range_whatever_the_data(kind: str, left: str, right: str) -> None:
    if not applies(kind, CASES[left], CASES[right]):
        return
    found = measure(kind, CASES[left], CASES[right])
    if found.n == 0:
        assert found.value is None
        return
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert np.isfinite([found.value, found.low, found.high]).all()
    assert -1e-12 <= found.low <= found.value <= found.high
    upper = STATISTICS[kind].upper
    assert upper is None or found.high <= upper + 1e-12
    assert found.p_value is None or 0 <= found.p_value <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_empty_data_is_nothing_and_never_zero(kind: str) -> None:
    for left, right in ((NUMBERS, NUMBERS[:0]), (NUMBERS[:0], NUMBERS)):
        if applies(kind, left, right):
            assert measure(kind, left, right).value is None


@pytest.mark.parametrize("kind", [k for k in KINDS if STATISTICS[k].symmetric])
def test_it_is_symmetric_where_it_claims_so(kind: str) -> None:
    other = RANDOM.normal(0.3, 1.2, 500)
    assert measure(kind, NUMBERS, other).value == pytest.approx(measure(kind, other, NUMBERS).value)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_partitions_changes_nothing(kind: str) -> None:
    if "numeric" not in STATISTICS[kind].applies:
        return
    edges = quantile_edges(np.sort(NUMBERS))
    current = RANDOM.normal(0.2, 1.0, 600)
    binning, reference = binned(NUMBERS, edges)
    whole = binned(current, edges)[1]
    parts = binned(current[:100], edges)[1] + binned(current[100:350], edges)[1] + binned(current[350:], edges)[1]
    a, b = STATISTICS[kind](binning, reference, whole), STATISTICS[kind](binning, reference, parts)
    assert a.value == pytest.approx(b.value, rel=1e-9)


@pytest.mark.parametrize("sampler", ["normal", "t3", "lognormal", "rounded"])
def test_intervals_from_bins_contain_the_exact_value_of_scipy(sampler: str) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        draw = {
            "normal": lambda n, r=random: r.normal(size=n), "t3": lambda n, r=random: r.standard_t(3, n),
            "lognormal": lambda n, r=random: r.lognormal(0, 1.5, n), "rounded": lambda n, r=random: np.round(r.normal(size=n), 1),
        }[sampler]
        left, right = draw(3000), draw(1000) * 1.1 + 0.1
        binning, a = binned(left, quantile_edges(np.sort(left)))
        b = profile_numbers(binning, right)
        for kind, exact in (
            ("kolmogorov_smirnov", stats.ks_2samp(left, right).statistic),
            ("wasserstein", stats.wasserstein_distance(left, right)),
        ):
            found = STATISTICS[kind](binning, a, b)
            assert found.low is not None
            assert found.high is not None
            assert found.low - 1e-9 <= exact <= found.high + 1e-9, (kind, found, exact)
            assert measure(kind, left, right).value == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_chi_square_against_scipys_contingency_table() -> None:
    left, right = RANDOM.choice(list("abc"), 900), RANDOM.choice(list("abc"), 700, p=[0.5, 0.3, 0.2])
    table = [[int((x == c).sum()) for c in "abc"] for x in (left, right)]
    exact = stats.chi2_contingency(table, correction=False)
    found = measure("chi_square", left, right)
    assert found.value == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue)


def test_jensen_shannon_against_scipy_in_base_2() -> None:
    from scipy.spatial.distance import jensenshannon

    left, right = np.repeat(list("abc"), [50, 30, 20]), np.repeat(list("abc"), [20, 30, 50])
    assert measure("jensen_shannon", left, right).value == pytest.approx(jensenshannon([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], base=2))


def test_psi_against_a_value_computed_by_hand() -> None:
    # Shares .6/.4 and .4/.6 of 10,000 rows: 2 * .2 * ln 1.5 = 0.162186, up to the smoothing of half a row.
    left, right = np.repeat(["a", "b"], [6000, 4000]), np.repeat(["a", "b"], [4000, 6000])
    assert measure("psi", left, right).value == pytest.approx(0.162186, abs=1e-4)
