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
        found = measure(kind, CASES[name], CASES[name])
        if kind == "cramer_von_mises":  # its least value is below zero and depends on the ties
            assert found.value is not None
            assert found.value <= measure(kind, CASES[name], CASES[name] + 1.0).value  # type: ignore[operator]
            return
        neutral = 1.0 if kind == "fisher" and name == "constant" else STATISTICS[kind].neutral
        assert found.value == pytest.approx(neutral, abs=1e-9)


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
    assert found.low <= found.value <= found.high
    lower = STATISTICS[kind].lower
    assert lower is None or found.low >= lower - 1e-12
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
    # Statistics of shares group numbers by the reference's deciles; of categories they are symmetric.
    shares = "category" in STATISTICS[kind].applies
    left = TEXTS if shares else NUMBERS
    other = RANDOM.choice(["a", "b", "c"], 500) if shares else RANDOM.normal(0.3, 1.2, 500)
    assert measure(kind, left, other).value == pytest.approx(measure(kind, other, left).value)


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


def anderson(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """A2akN by its definition (Scholz and Stephens 1987, equation 7), a loop over the distinct values."""
    pooled, total = np.sort(np.concatenate([left, right])), 0.0
    whole = len(pooled)
    values, counts = np.unique(pooled, return_counts=True)
    for sample in (left, right):
        ordered = np.sort(sample)
        own = np.searchsorted(ordered, values, "right") - np.searchsorted(ordered, values, "left")
        middle = np.cumsum(own) - own / 2
        before = np.cumsum(counts) - counts / 2
        inner = counts / whole * (whole * middle - before * len(sample)) ** 2 / (before * (whole - before) - whole * counts / 4)
        total += inner.sum() / len(sample)
    return float(total * (whole - 1) / whole)


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
            ("energy", stats.energy_distance(left / left.std(), right / left.std())),
            ("cramer_von_mises", stats.cramervonmises_2samp(left, right, method="asymptotic").statistic),
            ("anderson_darling", anderson(left, right)),
            ("mann_whitney", stats.mannwhitneyu(right, left).statistic / (len(left) * len(right))),
            ("t_test", stats.ttest_ind(right, left, equal_var=False).statistic),
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


SMALL, LARGE = RANDOM.normal(size=90), RANDOM.normal(0.3, 1.3, 70)
RARE = [np.repeat(list("ab"), [40, 3]), np.repeat(list("ab"), [30, 9])]


@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        ("kolmogorov_smirnov", stats.ks_2samp(SMALL, LARGE, method="asymp").pvalue),
        ("cramer_von_mises", stats.cramervonmises_2samp(SMALL, LARGE, method="asymptotic").pvalue),
        ("mann_whitney", stats.mannwhitneyu(SMALL, LARGE, method="asymptotic").pvalue),
        ("t_test", stats.ttest_ind(SMALL, LARGE, equal_var=False).pvalue),
    ],
)
def test_p_values_against_scipy(kind: str, exact: float) -> None:
    found = measure(kind, SMALL, LARGE).p_value
    assert found == pytest.approx(exact, rel=0.15 if kind == "kolmogorov_smirnov" else 1e-6)


def test_anderson_darling_against_scipys_p_value() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy says that it floors and caps the p-value, and announces new names
        exact = stats.anderson_ksamp([SMALL, LARGE])
    assert measure("anderson_darling", SMALL, LARGE).p_value == pytest.approx(float(exact.pvalue), rel=1e-3)


def test_fisher_and_z_against_scipy_and_the_formula() -> None:
    table = [[30, 9], [40, 3]]
    fisher = measure("fisher", *RARE)
    assert fisher.p_value == pytest.approx(stats.fisher_exact(table).pvalue)
    assert fisher.value == pytest.approx(30 * 3 / (9 * 40))
    first, second, pooled = 40 / 43, 30 / 39, 70 / 82
    z = (second - first) / np.sqrt(pooled * (1 - pooled) * (1 / 43 + 1 / 39))
    assert measure("z_test", *RARE).value == pytest.approx(z)
    # The square of z is Pearson's statistic of the 2 x 2 table.
    assert measure("z_test", *RARE).value ** 2 == pytest.approx(stats.chi2_contingency(table, correction=False).statistic)  # type: ignore[operator]
    assert measure("z_test", *RARE, category="b").value == pytest.approx(-z)


def test_g_test_kl_hellinger_and_the_rest_against_independent_values() -> None:
    left, right = np.repeat(list("abc"), [500, 300, 200]), np.repeat(list("abc"), [200, 300, 500])
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    table = [[500, 300, 200], [200, 300, 500]]
    assert measure("g_test", left, right).value == pytest.approx(stats.chi2_contingency(table, lambda_="log-likelihood").statistic)
    assert measure("kl", left, right).value == pytest.approx(float(stats.entropy(q, p)), abs=2e-3)
    assert measure("hellinger", left, right).value == pytest.approx(float(np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / np.sqrt(2)))
    assert measure("total_variation", left, right).value == pytest.approx(0.3)
    assert measure("l_infinity", left, right).value == pytest.approx(0.3)
    from scipy.spatial.distance import jensenshannon

    assert measure("jensen_shannon", left, right, base=np.e).value == pytest.approx(jensenshannon(p, q))
    assert measure("jensen_shannon", left, right, divergence=True).value == pytest.approx(jensenshannon(p, q, base=2) ** 2)


def test_wasserstein_can_be_normed_and_psi_given_other_bins() -> None:
    assert measure("wasserstein", NUMBERS, NUMBERS + 2, normed=True).value == pytest.approx(2 / NUMBERS.std(), rel=1e-9)
    assert measure("psi", NUMBERS, NUMBERS + 0.5, bins=20).value > measure("psi", NUMBERS, NUMBERS + 0.5, bins=2).value  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("nothing", NUMBERS, NUMBERS), {}, "there is no statistic 'nothing'; allowed are anderson_darling"),
        (("psi", NUMBERS, NUMBERS), {"bin": 3}, "psi has no option 'bin'; allowed are bins"),
        (("t_test", TEXTS, TEXTS), {}, "t_test does not apply to category data; it measures numeric"),
        (("psi", NUMBERS.reshape(2, -1), NUMBERS), {}, "must be 1-D arrays"), (("psi", [[1], [2, 3]], [1]), {}, "lists of unequal lists"),
        (("psi", NUMBERS, NUMBERS), {"bins": 0}, "bins is 0; allowed is a whole number from 2 on"),
        (("chi_square", [1.0, 2.0], ["a", "b"]), {}, "numbers cannot be compared with"),
        (("fisher", TEXTS, TEXTS), {"category": "zz"}, "there is no category 'zz'"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_allowed(arguments: Any, options: dict[str, Any], words: str) -> None:
    from checks.core.errors import ConfigError

    with pytest.raises(ConfigError, match=words):
        measure(*arguments, **options)


def test_measure_takes_profiles_with_their_binning() -> None:
    from checks.core.errors import ConfigError

    edges = quantile_edges(np.sort(NUMBERS))
    binning, profile = binned(NUMBERS, edges)
    assert measure("kolmogorov_smirnov", profile, profile, binning=binning).value == 0
    with pytest.raises(ConfigError, match="need the binning"):
        measure("kolmogorov_smirnov", profile, NUMBERS)


@pytest.mark.parametrize("frozen", [True, False])
def test_intervals_hold_on_odd_samples(frozen: bool) -> None:
    """Constants inside a bin, heavy ties, few rows; edges of the reference itself or of something else."""
    random = np.random.default_rng(8)
    odd = [
        lambda n: random.normal(size=n), lambda n: np.full(n, random.normal()), lambda n: np.round(random.normal(size=n)),
        lambda n: np.where(random.random(n) < 0.7, 0.25, random.normal(size=n)), lambda n: np.repeat(random.normal(size=2), n)[:n],
    ]
    other = np.sort(random.normal(size=3000))
    for _ in range(400):
        left, right = (odd[random.integers(len(odd))](int(random.integers(2, 60))) for _ in range(2))
        binning, a = binned(left, quantile_edges(np.sort(left)) if frozen else quantile_edges(other))
        binning = ColumnBinning("x", "numeric", edges=binning.edges, center=0.0)
        a, b = profile_numbers(binning, left), profile_numbers(binning, right)
        for kind in ("kolmogorov_smirnov", "cramer_von_mises", "anderson_darling", "mann_whitney", "energy", "wasserstein"):
            exact = measure(kind, left, right).value
            found = STATISTICS[kind](binning, a, b)
            assert exact is not None
            assert found.low is not None
            assert found.high is not None
            if kind == "energy":  # the reference's own deviation is that of the rows in both
                assert found.low - 1e-6 <= exact <= found.high + 1e-6, (kind, found, exact)
            else:
                assert found.low - 1e-9 <= exact <= found.high * (1 + 1e-9) + 1e-9, (kind, found, exact, left, right)


def test_a_missing_value_is_missing_in_an_array_of_objects() -> None:
    values = np.array(["a", "b", None, float("nan")], dtype=object)
    assert measure("z_test", values, values).n == 2
