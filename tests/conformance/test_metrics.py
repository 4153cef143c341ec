"""Metrics against scikit-learn, on real data and edge cases."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from checks.core.errors import SchemaError
from checks.performance import METRICS
from checks.performance.counts import QualityCounts
from checks.performance.methods.counted import Counted, from_bytes, to_bytes
from monitor.config.quality import Cut, Slice
from monitor.profiling.quality import Asked, Joined, count_labels


def joined(
    score: Any, label: Any, *, task: str = "binary", slices: list[tuple[str, ...]] | None = None, weight: str | None = None, **columns: Any,
) -> Joined:
    ids = list(range(len(score)))
    predictions = pa.table({"id": ids, "score": pa.array(score), **{k: pa.array(v) for k, v in columns.items()}})
    labels = pa.table({"id": ids[::-1], "label": pa.array(list(label)[::-1])})
    cuts = [Cut(parts=tuple(Slice(column=name) for name in group)) for group in slices or []]
    prediction = None if task == "binary" else "score"
    asked = Asked(task, "id", "id", "label", prediction=prediction, score="score" if task == "binary" else None, weight=weight, cuts=cuts)
    return count_labels(predictions, labels, asked)


@pytest.fixture(scope="module")
def cancer() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.0005))
    return cross_val_predict(model, x, y, cv=5, method="predict_proba")[:, 1], y


def thresholded(function: Any, **options: Any) -> Any:
    return lambda y, s, w: function(y, s >= 0.5, sample_weight=w, **options)


def specificity(y: Any, s: Any, w: Any) -> float:
    return float(metrics.recall_score(1 - y, s < 0.5, sample_weight=w))


def scored(function: Any) -> Any:
    return lambda y, s, w: function(y, s, sample_weight=w)


BINARY = [
    ("accuracy", thresholded(metrics.accuracy_score), 1e-12), ("precision", thresholded(metrics.precision_score), 1e-12),
    ("recall", thresholded(metrics.recall_score), 1e-12), ("f1", thresholded(metrics.f1_score), 1e-12),
    ("specificity", specificity, 1e-12), ("balanced_accuracy", thresholded(metrics.balanced_accuracy_score), 1e-12),
    ("matthews", thresholded(metrics.matthews_corrcoef), 1e-12), ("log_loss", scored(metrics.log_loss), 1e-9),
    ("brier", scored(metrics.brier_score_loss), 1e-12), ("roc_auc", scored(metrics.roc_auc_score), 0.001),
    ("pr_auc", scored(metrics.average_precision_score), 0.005),
    ("calibration", lambda y, s, w: np.average(y, weights=w) - np.average(s, weights=w), 1e-9),
]


def held(found: Any, value: float, bound: float) -> None:
    assert found.value == pytest.approx(value, abs=bound)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(("kind", "reference", "bound"), BINARY)
def test_it_agrees_with_scikit_learn_on_real_data_in_every_slice_with_and_without_weights(
    kind: str, reference: Any, bound: float, cancer: Any,
) -> None:
    score, label = cancer
    group = np.where(np.arange(len(score)) % 3 == 0, "a", "b")
    weight = np.random.default_rng(2).gamma(2.0, 1.0, len(score))
    for weights in (None, weight):
        columns = {} if weights is None else {"w": weights.tolist()}
        found = joined(score, label, group=group.tolist(), slices=[("group",)], weight=None if weights is None else "w", **columns)
        for name, mask in (("ALL", slice(None)), ("group=a", group == "a"), ("group=b", group == "b")):
            w = None if weights is None else weights[mask]
            held(METRICS[kind](found.slices[name]), reference(label[mask], score[mask], w), bound)


@pytest.fixture(scope="module")
def flown() -> Any:
    """A month of flights with the demo's model: score, label and origin of each that arrived."""
    from monitor.demo import flights

    table = flights.load()
    model = flights.Model(table[(table["day"] >= flights.TRAIN_FROM) & (table["day"] < flights.TRAIN_TO)])
    month = table[(table["day"] >= date(2013, 7, 1)) & (table["day"] < date(2013, 8, 1)) & table["late"].notna()]
    return model.score(month), month["late"].astype(bool).to_numpy(), month["origin"].to_numpy()


@pytest.mark.parametrize(("kind", "reference", "bound"), BINARY)
def test_it_agrees_with_scikit_learn_on_the_flights_by_airport(kind: str, reference: Any, bound: float, flown: Any) -> None:
    score, label, origin = flown
    found = joined(score, label, origin=origin.tolist(), slices=[("origin",)])
    for name, mask in (("ALL", np.ones(len(label), bool)), *((f"origin={o}", origin == o) for o in ("EWR", "JFK", "LGA"))):
        held(METRICS[kind](found.slices[name]), reference(label[mask], score[mask], np.ones(mask.sum())), max(bound, 1e-9))


REGRESSION = [
    ("mae", metrics.mean_absolute_error, 1e-9), ("rmse", metrics.root_mean_squared_error, 1e-9),
    ("r2", metrics.r2_score, 1e-9), ("mape", metrics.mean_absolute_percentage_error, 1e-9),
    ("bias", lambda y, p, sample_weight=None: np.average(p - y, weights=sample_weight), 1e-9),
]


@pytest.mark.parametrize(("kind", "reference", "bound"), REGRESSION)
def test_errors_of_a_regression_agree_with_scikit_learn(kind: str, reference: Any, bound: float) -> None:
    x, y = load_diabetes(return_X_y=True)
    predicted = cross_val_predict(LinearRegression(), x, y)
    sex = np.where(x[:, 1] > 0, "a", "b")
    weight = np.random.default_rng(2).gamma(2.0, 1.0, len(y))
    for weights in (None, weight):
        columns = {} if weights is None else {"w": weights.tolist()}
        found = joined(predicted, y, task="regression", sex=sex.tolist(), slices=[("sex",)], weight=None if weights is None else "w", **columns)
        for name, mask in (("ALL", slice(None)), ("sex=a", sex == "a"), ("sex=b", sex == "b")):
            w = None if weights is None else weights[mask]
            held(METRICS[kind](found.slices[name]), reference(y[mask], predicted[mask], sample_weight=w), bound)


def test_quantiles_of_the_error_are_within_a_hundredth_of_their_size() -> None:
    x, y = load_diabetes(return_X_y=True)
    predicted = cross_val_predict(LinearRegression(), x, y)
    counts = joined(predicted, y, task="regression").slices["ALL"]
    for share, kind in ((0.05, "error_p05"), (0.5, "error_p50"), (0.95, "error_p95")):
        exact = float(np.quantile(predicted - y, share, method="inverted_cdf"))
        held(METRICS[kind](counts), exact, 0.0101 * abs(exact))


@pytest.mark.parametrize("weighted", [False, True])
def test_classes_agree_with_scikit_learn(weighted: bool) -> None:
    x, y = load_iris(return_X_y=True)
    predicted = cross_val_predict(LogisticRegression(C=0.01), x, y, cv=5)
    names = np.array(["setosa", "versicolor", "virginica"])
    weights = np.random.default_rng(2).gamma(2.0, 1.0, len(y)) if weighted else None
    columns = {"w": weights.tolist()} if weights is not None else {}
    counts = joined(names[predicted].tolist(), names[y].tolist(), task="multiclass", weight="w" if weighted else None, **columns).slices["ALL"]
    options = {"sample_weight": weights, "zero_division": 0}
    held(METRICS["accuracy"](counts), metrics.accuracy_score(y, predicted, sample_weight=weights), 1e-12)
    held(METRICS["micro_f1"](counts), metrics.f1_score(y, predicted, average="micro", **options), 1e-12)
    for kind, function in (("precision", metrics.precision_score), ("recall", metrics.recall_score), ("f1", metrics.f1_score)):
        held(METRICS[f"macro_{kind}"](counts), function(y, predicted, average="macro", **options), 1e-12)
        each = function(y, predicted, average=None, **options)
        for at, name in enumerate(names.tolist()):
            held(METRICS[kind](counts.one_against_rest(name)), each[at], 1e-12)


def test_areas_from_bins_are_near_those_of_100_000_scores() -> None:
    random = np.random.default_rng(4)
    signal = random.normal(size=100_000)
    score, label = 1 / (1 + np.exp(-2 * signal - 1)), random.random(100_000) < 1 / (1 + np.exp(-2 * signal))
    counts = joined(score, label).slices["ALL"]
    held(METRICS["roc_auc"](counts), metrics.roc_auc_score(label, score), 0.001)
    held(METRICS["pr_auc"](counts), metrics.average_precision_score(label, score), 0.001)
    held(METRICS["log_loss"](counts), metrics.log_loss(label, score), 1e-9)


def test_the_calibration_error_is_none_of_a_calibrated_model_and_the_gap_of_one_that_is_off() -> None:
    random = np.random.default_rng(5)
    chance = random.beta(2, 3, 20_000)
    label = random.random(20_000) < chance
    calibrated = METRICS["ece"](joined(chance, label).slices["ALL"])
    assert calibrated.value == pytest.approx(0.0, abs=0.005)
    off = joined(np.clip(chance + 0.1, 0, 1), label).slices["ALL"]
    held(METRICS["ece"](off), 0.1, 0.01)
    parts = {kind: METRICS[kind](off).value or 0.0 for kind in ("brier", "brier_reliability", "brier_resolution")}
    uncertainty = label.mean() * (1 - label.mean())
    assert parts["brier_reliability"] == pytest.approx(0.01, abs=0.002)
    assert parts["brier"] == pytest.approx(parts["brier_reliability"] - parts["brier_resolution"] + uncertainty, abs=0.003)


def test_business_value_is_what_the_matrix_says() -> None:
    counts = joined([0.9, 0.9, 0.1, 0.1, 0.2], [True, False, True, False, False]).slices["ALL"]
    found = METRICS["business_value"](counts, {("1", "1"): 10.0, ("0", "1"): -4.0, ("1", "0"): -20.0})
    assert found.value == pytest.approx((10 - 4 - 20) / 5)


def test_zero_targets_are_left_out_of_percentages_and_counted() -> None:
    counts = joined([1.0, 2.0, 3.0], [0.0, 1.0, 2.0], task="regression").slices["ALL"]
    assert counts.zero_targets == 1
    assert METRICS["mape"](counts).value == pytest.approx((1.0 + 0.5) / 2)


@pytest.mark.parametrize("kind", METRICS.kinds())
def test_no_rows_are_nothing_and_never_a_number(kind: str) -> None:
    assert METRICS[kind](QualityCounts()).value is None


EDGES: dict[str, tuple[list[float], list[bool]]] = {
    "one class": ([0.2, 0.8] * 50, [True] * 100), "no positive predicted": ([0.1, 0.3] * 50, [True, False] * 50),
    "a constant score": ([0.3] * 100, [True, False] * 50), "ties": ([0.2, 0.2, 0.7, 0.7] * 25, [True, False, True, False] * 25),
    "certain and wrong": ([0.0, 1.0] * 50, [True, False] * 50), "one row": ([0.4], [True]), "two rows": ([0.4, 0.6], [True, False]),
    "scores outside": ([1.7, -1.0] * 50, [True, False] * 50), "scores that are NaN": ([float("nan")] * 100, [True, False] * 50),
    "perfect": ([0.0, 1.0] * 50, [False, True] * 50),
}


@pytest.mark.parametrize("name", sorted(EDGES))
def test_an_edge_case_gives_scikit_learns_number_or_none(name: str) -> None:
    score, label = EDGES[name]
    counts = joined(score, label).slices["ALL"]
    y, s = np.array(label), np.array(score)
    usable = (s >= 0) & (s <= 1)
    for kind, reference, bound in BINARY:
        found = METRICS[kind](counts)
        if found.value is None:
            assert found.low is None
            continue
        assert np.isfinite(found.value)
        assert found.low <= found.value <= found.high
        if kind in ("log_loss", "brier", "calibration", "roc_auc", "pr_auc") and len(set(y[usable])) == 2:
            clipped = np.clip(s[usable], 1e-15, 1 - 1e-15) if kind == "log_loss" else s[usable]
            assert found.value == pytest.approx(reference(y[usable], clipped, np.ones(usable.sum())), abs=max(bound, 1e-3 if kind == "log_loss" else 1e-6))
        elif usable.all() and kind not in ("log_loss", "brier"):
            assert found.value == pytest.approx(reference(y, s, np.ones(len(y))), abs=max(bound, 1e-6))
    for kind in ("ece", "brier_reliability", "brier_resolution"):
        value = METRICS[kind](counts).value
        assert value is None or 0 <= value <= 1


@pytest.mark.parametrize("target", [[0.0] * 40, [1.0] * 40, [float("nan")] * 40, [1e300, -1e300] * 20, [5.0]])
def test_edge_cases_of_a_regression_give_no_number_that_is_none(target: list[float]) -> None:
    counts = joined(list(np.linspace(0, 1, len(target))), target, task="regression").slices["ALL"]
    for kind in REGRESSION:
        found = METRICS[kind[0]](counts)
        assert found.value is None or found.value == found.value


def test_one_class_constant_scores_and_scores_outside_the_unit_interval_have_defined_answers() -> None:
    one_class = joined([0.2, 0.8] * 50, [True] * 100).slices["ALL"]
    assert METRICS["roc_auc"](one_class).value is None
    assert METRICS["recall"](one_class).value == 0.5
    constant = joined([0.3] * 100, [True, False] * 50).slices["ALL"]
    assert METRICS["roc_auc"](constant).value == pytest.approx(0.5)
    assert METRICS["precision"](constant).value is None
    wild = joined([0.2, 1.7, float("nan"), -1.0], [False, True, True, False]).slices["ALL"]
    assert (wild.scored, wild.bad_scores) == (1, 3)


def test_a_repeated_id_counts_once_and_the_newest_label_wins() -> None:
    predictions = pa.table({"id": ["a", "b", "b", None], "score": [0.9, 0.9, 0.1, 0.5]})
    labels = pa.table({"id": ["b", "a", "b", "zzz"], "label": [True, True, False, True], "at": [2, 1, 1, 1]})
    found = count_labels(predictions, labels, Asked("binary", "id", "id", "label", "at", score="score"))
    assert (found.labelled, found.duplicate_ids, found.null_ids, found.contradicting) == (2, 1, 1, 1)
    assert (found.slices["ALL"].tp, found.slices["ALL"].fn) == (1, 1)


def test_labels_that_are_not_binary_are_refused_by_value() -> None:
    with pytest.raises(SchemaError, match="'maybe'"):
        joined([0.5, 0.5], ["yes", "maybe"])


def test_counts_merge_and_survive_storage() -> None:
    random = np.random.default_rng(1)
    score = random.random(300)
    label = random.random(300) < score
    whole = joined(score, label).slices["ALL"]
    parts = joined(score[:120], label[:120]).slices["ALL"] + joined(score[120:], label[120:]).slices["ALL"]
    for kind in ("accuracy", "roc_auc", "log_loss"):
        assert METRICS[kind](parts).value == pytest.approx(METRICS[kind](whole).value)
    kept = from_bytes(to_bytes(Counted({"ALL": whole}))).slices["ALL"]
    assert METRICS["roc_auc"](kept) == METRICS["roc_auc"](whole)


def drawn(task: str, n: int, random: Any) -> Any:
    if task == "binary":
        signal = random.normal(size=n)
        return joined(1 / (1 + np.exp(-1.2 * signal)), random.random(n) < 1 / (1 + np.exp(0.2 - signal))).slices["ALL"]
    if task == "regression":
        predicted = random.normal(100, 10, n)
        return joined(predicted, predicted + random.normal(0.2, 1.5, n), task=task).slices["ALL"]
    label = random.integers(0, 3, n)
    predicted = np.where(random.random(n) < 0.3, random.integers(0, 3, n), label)
    names = np.array(list("abc"))
    return joined(names[predicted].tolist(), names[label].tolist(), task=task).slices["ALL"]


COVERED = {
    "binary": (
        "accuracy", "balanced_accuracy", "brier", "calibration", "f1", "log_loss", "matthews", "pr_auc", "precision", "recall", "roc_auc",
        "specificity",
    ),
    "regression": ("bias", "mae", "mape", "r2", "rmse", "error_p50"), "multiclass": ("accuracy", "macro_f1", "macro_precision", "macro_recall"),
}


@pytest.mark.parametrize("n", [50, 500, 5000])
@pytest.mark.parametrize("task", sorted(COVERED))
def test_intervals_cover_at_their_nominal_rate(task: str, n: int) -> None:
    """95% nominal gives 93 to 97%, with room for the chance of so few draws (2.5 standard errors of them)."""
    truth = drawn(task, 500_000, np.random.default_rng(6))
    random, draws = np.random.default_rng(7), 800
    found = [drawn(task, n, random) for _ in range(draws)]
    room = 2.5 * np.sqrt(0.05 * 0.95 / draws)
    for kind in COVERED[task]:
        values = [METRICS[kind](counts) for counts in found]
        known = [v for v in values if v.value is not None]
        if len(known) < draws:  # of areas few rows say nothing, and those that say something are no fair sample
            continue
        true = METRICS[kind](truth).value
        share = np.mean([v.low <= true <= v.high for v in known])
        assert 0.93 - room <= share <= 0.97 + room, (kind, share)
