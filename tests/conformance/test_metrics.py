"""Metrics against scikit-learn, on real data and edge cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics
from sklearn.datasets import load_breast_cancer, load_diabetes
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


def joined(score: Any, label: Any, *, task: str = "binary", slices: list[tuple[str, ...]] | None = None, **columns: Any) -> Joined:
    ids = list(range(len(score)))
    predictions = pa.table({"id": ids, "score": pa.array(score), **{k: pa.array(v) for k, v in columns.items()}})
    labels = pa.table({"id": ids[::-1], "label": pa.array(list(label)[::-1])})
    cuts = [Cut(parts=tuple(Slice(column=name) for name in group)) for group in slices or []]
    prediction = "score" if task == "regression" else None
    return count_labels(predictions, labels, Asked(task, "id", "id", "label", prediction=prediction, score="score", cuts=cuts))


@pytest.fixture(scope="module")
def cancer() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.0005))
    return cross_val_predict(model, x, y, cv=5, method="predict_proba")[:, 1], y


@pytest.mark.parametrize(
    ("kind", "reference", "bound"),
    [
        ("accuracy", lambda y, s: metrics.accuracy_score(y, s >= 0.5), 1e-12),
        ("precision", lambda y, s: metrics.precision_score(y, s >= 0.5), 1e-12),
        ("recall", lambda y, s: metrics.recall_score(y, s >= 0.5), 1e-12), ("f1", lambda y, s: metrics.f1_score(y, s >= 0.5), 1e-12),
        ("log_loss", metrics.log_loss, 1e-9), ("roc_auc", metrics.roc_auc_score, 0.001),
        ("calibration", lambda y, s: y.mean() - s.mean(), 1e-9),
    ],
)
def test_it_agrees_with_scikit_learn_on_real_data_and_in_every_slice(kind: str, reference: Any, bound: float, cancer: Any) -> None:
    score, label = cancer
    group = np.where(np.arange(len(score)) % 3 == 0, "a", "b")
    found = joined(score, label, group=group.tolist(), slices=[("group",)])
    for name, mask in (("ALL", slice(None)), ("group=a", group == "a"), ("group=b", group == "b")):
        statistic = METRICS[kind](found.slices[name])
        assert statistic.value == pytest.approx(reference(label[mask], score[mask]), abs=bound)
        assert statistic.low is not None
        assert statistic.high is not None
        assert statistic.low <= statistic.value <= statistic.high


def test_regression_errors_agree_with_scikit_learn() -> None:
    x, y = load_diabetes(return_X_y=True)
    predicted = cross_val_predict(LinearRegression(), x, y)
    counts = joined(predicted, y, task="regression").slices["ALL"]
    assert METRICS["mae"](counts).value == pytest.approx(metrics.mean_absolute_error(y, predicted))
    assert METRICS["rmse"](counts).value == pytest.approx(metrics.root_mean_squared_error(y, predicted))


@pytest.mark.parametrize("kind", METRICS.kinds())
def test_no_rows_are_nothing_and_never_a_number(kind: str) -> None:
    assert METRICS[kind](QualityCounts()).value is None


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


def test_wilson_intervals_cover_at_their_nominal_rate() -> None:
    from checks.performance._interval import wilson

    random = np.random.default_rng(3)
    for n in (50, 500):
        hits = [low <= 0.3 <= high for low, high in (wilson(int(k), n) for k in random.binomial(n, 0.3, 3000))]
        assert 0.93 <= np.mean(hits) <= 0.97
