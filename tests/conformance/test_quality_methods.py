"""What is made of counts beside metrics: comparison at any time, estimates, weakest slices, fairness, provisional limits, releases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nchypergeom_fisher

from checks.core.errors import SchemaError
from checks.core.interval import newcombe
from checks.core.result import Threshold, Verdict
from checks.core.sketch import Sketch
from checks.performance import METRICS
from checks.performance.counts import QualityCounts
from checks.performance.methods.compare import RATIOS, compare, hypergeometric, paired, paired_delong
from checks.performance.methods.counted import Pairs, Waiting, to_bytes
from checks.performance.methods.deployment import Bounds, Hour, judge
from checks.performance.methods.estimate import learn
from checks.performance.methods.fairness import gaps
from checks.performance.methods.provisional import certain, reachable
from checks.performance.methods.weakest import Feature, weakest
from monitor.alerting.lateness import AGES, late_labels, usual_of
from monitor.profiling.quality import Asked, count_labels

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def right(n: int, k: int) -> QualityCounts:
    return QualityCounts(rows=n, weight=n, weight_square=n, correct=k)


# -- comparison


def test_the_likelihood_of_a_ratio_is_fishers() -> None:
    found = hypergeometric(14, 60, 40, 30)
    for at in (20, 150, 200, 250, 380):
        assert found[at] == pytest.approx(nchypergeom_fisher.logpmf(14, 100, 30, 40, np.exp(RATIOS[at])), abs=1e-8)


def test_looking_after_every_window_without_a_difference_is_wrong_at_most_once_in_a_hundred() -> None:
    """200 windows, a verdict after each: over 300 monitors at most 1% are ever called better or worse (bound: 3)."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        windows = []
        for _ in range(200):
            share = random.beta(20, 4)  # the level wobbles from window to window, alike for both
            n1, n2 = random.poisson(300), random.poisson(40)
            windows.append((right(n1, random.binomial(n1, share)), right(n2, random.binomial(n2, share))))
        total = np.cumsum([hypergeometric(b.correct, a.rows, b.rows, a.correct + b.correct) for a, b in windows], axis=0)
        wrong += _ever(total)
    assert wrong <= 3


def _ever(total: np.ndarray[Any, Any]) -> bool:
    """Whether the evidence passes 100 after any window."""
    from scipy.special import logsumexp

    from checks.performance.methods.compare import MIDDLE, _prior

    evidence = logsumexp(total, b=_prior(), axis=1) - total[:, MIDDLE]
    return bool((evidence >= np.log(100)).any())


@pytest.mark.parametrize("metric", ["log_loss", "mae"])
def test_means_looked_at_after_every_window_are_wrong_at_most_once_in_a_hundred(metric: str) -> None:
    random = np.random.default_rng(2)
    wrong = 0
    for _ in range(300):
        windows = []
        ever = False
        for _ in range(200):
            level = random.gamma(20, 0.05)
            pair = []
            for n in (300, 60):
                values = random.gamma(2.0, level / 2, n)
                if metric == "mae":
                    pair.append(QualityCounts(rows=n, weight=n, weight_square=n, absolute_error=values.sum(), square_error=(values**2).sum()))
                else:
                    pair.append(QualityCounts(rows=n, weight=n, weight_square=n, scored=n, loss=values.sum(), loss_square=(values**2).sum()))
            windows.append((pair[0], pair[1]))
            ever = ever or compare(windows, metric, 0.0).verdict in ("better", "worse")
        wrong += ever
    assert wrong <= 3


def test_a_difference_is_found_and_its_bounds_hold_it() -> None:
    random = np.random.default_rng(3)
    windows = []
    for _ in range(20):
        share = random.beta(20, 4)
        windows.append((right(900, random.binomial(900, share)), right(300, random.binomial(300, share - 0.06))))
    found = compare(windows, "accuracy", 0.01)
    assert found.verdict == "worse"
    assert found.low is not None
    assert found.high is not None
    assert found.low <= -0.06 <= found.high < 0
    other_way = compare([(b, a) for a, b in windows], "accuracy", 0.01)
    assert other_way.verdict == "better"


def test_enough_rows_without_a_difference_are_equivalent() -> None:
    random = np.random.default_rng(4)
    windows = [(right(20_000, random.binomial(20_000, 0.9)), right(20_000, random.binomial(20_000, 0.9))) for _ in range(10)]
    assert compare(windows, "accuracy", 0.01).verdict == "equivalent"
    assert compare(windows[:1], "accuracy", 0.0001).verdict == "undecided"
    assert compare([], "accuracy", 0.01).verdict == "undecided"


def test_pairs_are_told_apart_by_the_rows_on_which_only_one_is_right() -> None:
    random = np.random.default_rng(5)
    wrong = 0
    for _ in range(1000):
        first = np.cumsum(random.binomial(30, 0.5, 200))
        rows = 30 * np.arange(1, 201)
        wrong += any(paired([Pairs(10 * n, 9 * n, a, n - a)], 0.0, regression=False).verdict in ("better", "worse")
                     for n, a in zip(rows[::10], first[::10], strict=True))
    assert wrong <= 10
    assert paired([Pairs(1000, 800, 150, 50)], 0.01, regression=False).verdict == "worse"
    assert paired([Pairs(1000, 800, 50, 150)], 0.01, regression=False).verdict == "better"
    assert paired([Pairs(1_000_000, 990_000, 5000, 5000)], 0.01, regression=False).verdict == "equivalent"
    gap = paired([Pairs(500, gap=150.0, gap_square=600.0)], 0.01, regression=True)
    assert gap.verdict == "better"  # the second's errors are smaller


def test_paired_delong_is_that_of_its_variance_formula() -> None:
    random = np.random.default_rng(6)
    label = random.random(400) < 0.4
    a = label + random.normal(0, 1.2, 400)
    b = label + random.normal(0, 1.2, 400)
    found = paired_delong((a, b), label)
    assert found is not None
    from sklearn.metrics import roc_auc_score

    assert found[0] == pytest.approx(roc_auc_score(label, a))
    assert found[1] == pytest.approx(roc_auc_score(label, b))
    draws = []
    for _ in range(400):
        rows = random.integers(0, 400, 400)
        draws.append(roc_auc_score(label[rows], b[rows]) - roc_auc_score(label[rows], a[rows]))
    assert (found[3] - found[2]) / 3.92 == pytest.approx(np.std(draws), rel=0.15)
    assert paired_delong((a[:20], b[:20]), label[:20]) is None


# -- weakest slices


def table(random: np.random.Generator, rows: int) -> list[Feature]:
    features = []
    for k in range(6):
        features.append(Feature(f"c{k}", random.integers(0, 7, rows), tuple(f"c{k}={i}" for i in range(7)), np.eye(7)))
    below = [np.arange(8) < edge for edge in range(1, 8)]
    members = np.array([*below, *(~b for b in below)], np.float64)
    for k in range(6):
        names = (*(f"x{k}<{i}" for i in range(1, 8)), *(f"x{k}>={i}" for i in range(1, 8)))
        features.append(Feature(f"x{k}", random.integers(0, 8, rows), names, members))
    return features


def test_a_planted_slice_is_found_in_19_of_20_and_without_one_nothing_is_confirmed() -> None:
    found = false = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        features = table(random, 50_000)
        chance = np.full(50_000, 0.12)
        false += any(w.confirmed for w in weakest(features, (random.random(50_000) < chance).astype(float), seed))
        inside = (features[0].codes == 1) & (features[1].codes == 2)
        assert 0.018 < inside.mean() < 0.023
        chance[inside] *= 2
        best = [w.name for w in weakest(features, (random.random(50_000) < chance).astype(float), seed) if w.confirmed][:3]
        found += "c0=1 & c1=2" in best
    assert found >= 19
    assert false <= 1


def test_few_rows_are_not_searched() -> None:
    assert weakest(table(np.random.default_rng(0), 150), np.ones(150)) == []


# -- estimates


def counts_of(score: Any, label: Any) -> QualityCounts:
    ids = np.arange(len(score))
    tables = pa.table({"id": ids, "score": score}), pa.table({"id": ids, "label": label})
    return count_labels(*tables, Asked("binary", "id", "id", "label", score="score")).slices["ALL"]


def test_calibration_is_used_only_where_it_lowers_the_error_of_windows_it_has_not_seen() -> None:
    random = np.random.default_rng(8)
    good, bad = [], []
    for _ in range(10):
        chance = random.beta(2, 3, 2000)
        label = random.random(2000) < chance
        good.append(counts_of(chance, label))
        bad.append(counts_of(chance**2, label))
    plain, fitted = learn(good), learn(bad)
    assert not isinstance(plain, str)
    assert not isinstance(fitted, str)
    assert fitted.isotonic
    bins = (np.arange(512) + 0.5) / 512
    inner = (bins > 0.02) & (bins < 0.6)
    assert np.abs(fitted.chances[inner] - np.sqrt(bins[inner])).mean() < 0.03
    assert np.abs(plain.chances[inner] - bins[inner]).mean() < 0.03
    assert (np.diff(fitted.chances) >= -1e-9).all()
    assert "300 are needed" in str(learn(good[:0]))


# -- provisional limits


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=60, max_size=200), st.integers(30, 59), st.randoms(use_true_random=False))
def test_no_label_that_comes_later_leads_out_of_what_can_be_reached(rows: Any, known: int, random: Any) -> None:
    score, label = np.array([s for s, _ in rows]), np.array([y for _, y in rows])
    first = counts_of(score[:known], label[:known])
    final = counts_of(score, label)
    n = len(rows) - known
    waiting = Waiting(n, n, n, float((score[known:] >= 0.5).sum()))
    for kind in ("accuracy", "precision", "recall", "f1", "log_loss", "brier", "calibration"):
        ends, value = reachable(kind, first, waiting), METRICS[kind](final).value
        if ends is not None and value is not None:
            assert ends[0] - 1e-9 <= value <= ends[1] + 1e-9, kind
    assert reachable("roc_auc", first, waiting) is None


def test_only_what_cannot_recover_is_certain() -> None:
    limit = Threshold(fail_below=0.8, warn_below=0.9)
    assert certain(limit, (0.1, 0.79)) is Verdict.FAIL
    assert certain(limit, (0.1, 0.85)) is Verdict.WARN
    assert certain(limit, (0.1, 0.95)) is None
    assert certain(limit, None) is None


# -- labels in any order


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_labels_in_any_order_repeated_and_in_any_number_of_batches_end_in_the_same_counts(data: Any) -> None:
    n = 60
    random = np.random.default_rng(9)
    score, label = random.random(n), random.random(n) < 0.5
    predictions = pa.table({"id": [f"r{i}" for i in range(n)], "score": score, "g": random.choice(["a", "b"], n)})
    order = data.draw(st.permutations(range(n)))
    repeated = data.draw(st.lists(st.integers(0, n - 1), max_size=40))
    rows = [*order, *repeated]
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(shuffled)))
    parts = [
        pa.table({
            "id": pa.array([f"r{i}" for i in part], pa.string()), "label": pa.array([bool(label[i]) for i in part], pa.bool_()),
            "at": pa.array([1000 + i for i in part], pa.int64()),
        })
        for part in (shuffled[:cut], shuffled[cut:])
    ]
    asked = Asked("binary", "id", "id", "label", "at", score="score")
    plain = pa.table({"id": [f"r{i}" for i in range(n)], "label": label, "at": [1000 + i for i in range(n)]})
    wanted = count_labels(predictions, plain, asked)
    found = count_labels(predictions, pa.concat_tables(parts), asked)
    found.counted.notes = wanted.counted.notes  # how many were repeated
    assert (found.labelled, to_bytes(found.counted)) == (wanted.labelled, to_bytes(wanted.counted))


def test_ids_of_other_types_meet() -> None:
    label = {"label": [True, False]}
    asked = Asked("binary", "id", "id", "label", score="score")
    for left, right_ids in (([1, 2], ["1", "2"]), ([1.0, 2.0], [1, 2]), (["1", "2"], [1, 2]), ([1.0, 2.0], ["1", "2"])):
        found = count_labels(pa.table({"id": left, "score": [0.9, 0.1]}), pa.table({"id": right_ids, **label}), asked)
        assert (found.labelled, found.counted.whole.correct) == (2, 2), (left, right_ids)


# -- fairness


def test_groups_are_set_against_the_reference_with_intervals_for_all_of_them() -> None:
    a = QualityCounts(rows=1000, weight=1000, weight_square=1000, tp=300, fp=100, fn=100, tn=500)
    b = QualityCounts(rows=1000, weight=1000, weight_square=1000, tp=150, fp=50, fn=250, tn=550)
    found = {(g.rate, g.group): g for g in gaps({"a": a, "b": b}, "a")}
    assert found["selection_rate", "b"].difference.value == pytest.approx(0.2 - 0.4)
    assert found["tpr", "b"].ratio.value == pytest.approx((150 / 400) / (300 / 400))
    assert (found["selection_rate", "b"].difference.low, found["selection_rate", "b"].difference.high) == pytest.approx(newcombe(200, 1000, 400, 1000))
    wide = gaps({"a": a, "b": b, "c": b, "d": b}, "a")[0].difference
    narrow = found["selection_rate", "b"].difference
    assert (wide.high or 0) - (wide.low or 0) > (narrow.high or 0) - (narrow.low or 0)


# -- releases


def hour(random: np.random.Generator, rows: int = 100, *, slow: float = 1.0, errors: float = 0.002, nulls: float = 0.0, shift: float = 0.0) -> Hour:
    unusable = float(random.binomial(rows, nulls))
    scores = 1 / (1 + np.exp(-(1.5 * random.normal(size=rows - int(unusable)) + shift)))
    bins = np.minimum((scores * 512).astype(int), 511)
    chosen = scores >= 0.5
    return Hour(
        rows, float(random.binomial(rows, errors)), rows, float(chosen.sum()), rows - unusable, unusable, rows, Sketch.of(random.gamma(4, 3, rows) * slow),
        np.bincount(bins, minlength=512).astype(float), np.bincount(bins[chosen], minlength=512).astype(float),
    )


FAULTS = {"latency": {"slow": 2.0}, "errors": {"errors": 0.05}, "unusable": {"nulls": 0.3}, "scores": {"shift": 3.0}}


@pytest.mark.parametrize("kind", sorted(FAULTS))
@pytest.mark.parametrize("together", [True, False])
def test_a_bad_release_fails_within_six_hours(kind: str, together: bool) -> None:
    random = np.random.default_rng(10)
    old = [hour(random) for _ in range(6)]
    new = [hour(random, **FAULTS[kind]) for _ in range(6)]
    days = [hour(random, 600) for _ in range(7)]
    found = judge(new, list(zip(new, old, strict=True)) if together else [], [] if together else days, Bounds())
    assert (found.verdict, found.together) == ("fail", together)
    assert kind in {f.kind for f in found.findings}


def test_a_good_release_is_called_bad_in_no_hour_of_50_releases() -> None:
    random = np.random.default_rng(11)
    chances = (np.arange(512) + 0.5) / 512
    wrong = 0
    for _ in range(50):
        new, days = [], [hour(random, 1200, shift=random.normal(0, 0.05)) for _ in range(7)]
        for _ in range(12):
            new.append(hour(random, shift=random.normal(0, 0.05)))
            wrong += judge(new, [], days, Bounds(), chances).verdict in ("warn", "fail")
    assert wrong == 0
    assert judge([hour(random, 50)], [], days, Bounds()).verdict == "insufficient"


# -- late labels


def test_labels_are_late_only_against_what_was_learned_or_the_owner_said() -> None:
    rows = [[min(at.total_seconds() / 86400 / 3, 1.0) for at in AGES] for _ in range(12)]
    usual = usual_of(rows)
    assert usual is not None
    assert usual.windows == 12
    start = NOW - timedelta(days=3)
    ends = {start: start + timedelta(days=1)}
    assert late_labels(usual, {start: (0.6, 500)}, ends, NOW, None) == ""
    said = late_labels(usual, {start: (0.1, 500)}, ends, NOW, None)
    assert "10% of its rows after 2 days" in said
    assert late_labels(usual, {start: (0.1, 10)}, ends, NOW, None) == ""
    assert late_labels(None, {start: (0.0, 500)}, ends, NOW, None) == ""
    assert "labels are to come within 36 h" in late_labels(None, {start: (0.0, 500)}, ends, NOW, timedelta(hours=36))
    assert usual_of(rows[:9]) is None


# -- what a review found


def test_a_version_that_is_better_in_every_window_is_better_however_the_traffic_was_split() -> None:
    windows = [(right(9000, 8100), right(1000, 970))] * 5 + [(right(1000, 600), right(9000, 7020))] * 5
    found = compare(windows, "accuracy", 0.01)
    assert found.verdict == "better"
    assert found.difference == pytest.approx(0.125, abs=0.001)
    assert found.low is not None
    assert 0 < found.low <= found.difference
    assert compare([(b, a) for a, b in windows], "accuracy", 0.01).verdict == "worse"


def test_waiting_rows_weigh_what_they_weigh() -> None:
    ids = np.arange(100)
    predictions = pa.table({"id": ids, "score": [0.9] * 100, "w": [100.0] * 100})
    labels = pa.table({"id": ids[:10], "label": [False] * 10})
    counted = count_labels(predictions, labels, Asked("binary", "id", "id", "label", score="score", weight="w")).counted
    ends = reachable("accuracy", counted.whole, counted.waiting["ALL"])
    assert ends is not None
    assert ends[0] < 0.01
    assert ends[1] > 0.9


def test_ids_of_any_width_meet_and_one_odd_label_breaks_nothing() -> None:
    predictions = pa.table({"id": pa.array([1, 2], pa.int32()), "score": [0.9, 0.1]})
    asked = Asked("binary", "id", "id", "label", score="score")
    for odd in (2**40, -5):
        labels = pa.table({"id": pa.array([odd, 1, 2], pa.int64()), "label": [True, True, False]})
        assert count_labels(predictions, labels, asked).counted.whole.correct == 2
    wide = pa.table({"id": pa.array([2**64 - 1, 1], pa.uint64()), "label": [True, True]})
    assert count_labels(predictions, wide, asked).labelled == 1


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("encoded", [False, True])
def test_a_foreign_label_that_is_no_label_decides_nothing_wherever_it_stands(place: int, encoded: bool) -> None:
    ids, texts = ["a", "b"], ["1", "0"]
    ids.insert(place, "foreign")
    texts.insert(place, "maybe")
    label = pa.array(texts).dictionary_encode() if encoded else pa.array(texts)
    predictions = pa.table({"id": ["a", "b", "c"], "score": [0.9, 0.1, 0.5]})
    found = count_labels(predictions, pa.table({"id": ids, "label": label}), Asked("binary", "id", "id", "label", score="score"))
    assert (found.labelled, found.counted.whole.correct) == (2, 2)


def test_labels_that_are_nan_are_none() -> None:
    labels = pa.table({"id": [1, 2, 2], "label": [1.0, 0.0, float("nan")], "at": [1, 1, 2]})
    predictions = pa.table({"id": [1, 2, 3], "score": [0.9, 0.1, 0.5]})
    found = count_labels(predictions, labels, Asked("binary", "id", "id", "label", "at", score="score"))
    assert (found.labelled, found.counted.whole.rows) == (2, 2)


def test_classes_of_other_types_meet_or_say_that_they_do_not() -> None:
    asked = Asked("multiclass", "id", "id", "label", prediction="p")
    labels = pa.table({"id": [1, 2, 3], "label": [0.0, 1.0, float("nan")]})
    found = count_labels(pa.table({"id": [1, 2, 3], "p": [0, 1, 2]}), labels, asked)
    assert (found.counted.whole.classes, found.counted.whole.correct, found.labelled) == (("0", "1", "2"), 2.0, 2)
    ids = list(range(150))
    animals = pa.table({"id": ids, "p": ["cat", "dog", "cow"] * 50})
    with pytest.raises(SchemaError, match="no label of label is a class"):
        count_labels(animals, pa.table({"id": ids, "label": [1, 2, 3] * 50}), asked)
    assert count_labels(animals, pa.table({"id": ids[:5], "label": ["emu"] * 5}), asked).counted.whole.correct == 0


def test_rare_events_are_told_apart_by_the_bins() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    random = np.random.default_rng(12)
    logit = random.normal(-8, 1.5, 100_000)
    chance = 1 / (1 + np.exp(-logit))
    label = random.random(100_000) < chance
    counts = counts_of(chance, label)
    assert METRICS["roc_auc"](counts).value == pytest.approx(roc_auc_score(label, chance), abs=0.001)
    assert METRICS["pr_auc"](counts).value == pytest.approx(average_precision_score(label, chance), rel=0.03)


def test_what_is_left_out_is_said() -> None:
    predictions = pa.table({"id": [1, 2, 3, 4], "score": [0.9, 1.7, float("nan"), 0.2], "p": [True, True, None, False]})
    labels = pa.table({"id": [1, 2, 3, 4], "label": [True, True, True, False]})
    said = " ".join(count_labels(predictions, labels, Asked("binary", "id", "id", "label", prediction="p", score="score")).notes)
    assert "1 labelled rows have no usable prediction" in said
    assert "2 labelled rows have a score that is null, NaN or outside 0 to 1" in said


def test_a_release_is_compared_with_the_same_hours_only() -> None:
    """Twice the latency by day: the old version's one night hour is no measure of the new one's day."""
    random = np.random.default_rng(13)
    night, day = hour(random, 300), [hour(random, 300, slow=2.0) for _ in range(8)]
    days = [hour(random, 1500, slow=1.0) + hour(random, 1500, slow=2.0) for _ in range(7)]
    found = judge([night, *day], [(night, hour(random, 300))], days, Bounds())
    assert (found.together, found.verdict) == (False, "pass")


def test_what_was_found_in_the_hours_that_both_served_stands_when_the_old_version_is_gone() -> None:
    random = np.random.default_rng(14)
    bad = [hour(random, 300, errors=0.1) for _ in range(5)]
    old = [hour(random, 300) for _ in range(3)]
    found = judge(bad, list(zip(bad[:3], old, strict=True)), [], Bounds())
    assert (found.verdict, found.together) == ("fail", True)
