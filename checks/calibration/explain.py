"""A drift score in words that hold against the data."""

from __future__ import annotations

from collections.abc import Sequence

from checks.calibration.chart import DriftScore, Driver
from checks.calibration.names import CORRELATION, ROWS

NAMED_DRIVERS = 3
WORTH_NAMING = 0.05


def sentence(score: DriftScore, windows: str = "windows") -> str:
    """What a person reads of a score; ``windows`` names those compared with, such as ``Tuesdays``.

    ``more unusual than all but 0.1% of normal Tuesdays; driven by income +0.42 sd (usual ±0.12; mean 51.2, usually 48.0)``.
    """
    if score.p_value is None:
        return f"{score.windows} baseline windows: too few to say what is normal"
    share = min(score.p_value, 1.0)
    shown = "100%" if share >= 0.995 else f"{100 * share:.2g}%" if share >= 1e-6 else "under 0.0001%"
    start = "as unusual as" if share >= WORTH_NAMING else "more unusual than all but"
    text = f"{start} {shown} of normal {windows}"
    if score.drivers and share < WORTH_NAMING:
        text += "; driven by " + " and ".join(words(d) for d in distinct(score.drivers)[:NAMED_DRIVERS])
    return text


def distinct(drivers: Sequence[Driver]) -> list[Driver]:
    """The first driver of every column."""
    first: dict[str, Driver] = {}
    for driver in drivers:
        first.setdefault(driver.column, driver)
    return list(first.values())


def words(driver: Driver) -> str:
    """One driver: what it is, how far it is from the usual, and how far it usually is."""
    wobble = max(abs(driver.usual[0]), abs(driver.usual[1]))
    if driver.column == ROWS:
        return f"{driver.value:,.0f} rows (usual {driver.expected:,.0f} ±{wobble:,.0f})"
    if driver.column == CORRELATION:
        if driver.contrast == "mahalanobis":
            return f"the correlations together (distance {driver.value:.2f}, usual {driver.expected:.2f} ±{wobble:.2f})"
        return f"correlation {driver.detail} {driver.value:+.2f} (usual {driver.expected:+.2f} ±{wobble:.2f})"
    if driver.unit == "sd":
        what, plain = ("", "mean") if driver.contrast == "location" else (" spread", "standard deviation")
        measured = ""
        if driver.observed is not None and driver.usually is not None and (driver.observed > driver.usually) == (driver.effect > 0):
            measured = f"; {plain} {driver.observed:.4g}, usually {driver.usually:.4g}"
        return f"{driver.column}{what} {driver.effect:+.2f} sd (usual ±{wobble:.2f}{measured})"
    what = {"other": "unseen values", "missing": "missing values"}.get(driver.contrast, driver.detail)
    return f"{driver.column} {what} {driver.value:.1%} (usual {driver.expected:.1%} ±{wobble:.1%})"
