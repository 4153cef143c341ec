"""What was measured, what follows from it, and how verdicts roll up."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The seven answers; a breach is `WARN` or `FAIL`, the others are never one."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    ERROR = "error"
    NO_DATA = "no_data"
    INSUFFICIENT = "insufficient"
    INHIBITED = "inhibited"

    @property
    def breach(self) -> bool:
        return self in (Verdict.WARN, Verdict.FAIL)

    @property
    def known(self) -> bool:
        return self in (Verdict.PASS, Verdict.WARN, Verdict.FAIL)


ROLL_UP = (
    Verdict.FAIL, Verdict.WARN, Verdict.ERROR, Verdict.NO_DATA, Verdict.INHIBITED, Verdict.INSUFFICIENT, Verdict.PASS,
)


def roll_up(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of ``verdicts`` in the order fail, warn, error, no_data, inhibited, insufficient, pass."""
    found = set(verdicts)
    return next((verdict for verdict in ROLL_UP if verdict in found), Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Statistic:
    """A measured number with the interval it lies in; knows nothing of thresholds.

    ``value`` is None exactly when ``n`` is 0: there was nothing to measure.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str = ""
    p_value: float | None = None

    @classmethod
    def nothing(cls, unit: str = "") -> Statistic:
        """What is known when there are no rows."""
        return cls(None, None, None, 0, unit)

    @classmethod
    def exact(cls, value: float, n: int, unit: str = "", p_value: float | None = None) -> Statistic:
        """A number without an interval of its own."""
        return cls(value, value, value, n, unit, p_value)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where a statistic warns, fails and clears; any may be None."""

    warn_above: float | None = None
    fail_above: float | None = None
    clear_below: float | None = None
    warn_below: float | None = None
    fail_below: float | None = None
    clear_above: float | None = None

    def __str__(self) -> str:
        parts = []
        for name in ("warn_above", "fail_above", "warn_below", "fail_below"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name.replace('_', ' ')} {value:g}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A statistic with the verdict on it and the reason in words."""

    statistic: Statistic
    verdict: Verdict
    reason: str
    cleared: bool = True


def finite(value: float | None) -> float | None:
    """``value``, or None where it is None, NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None
