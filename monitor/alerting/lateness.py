"""How late labels usually come, and whether they are later than that now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

AGES = tuple(timedelta(hours=hours) for hours in (0, 1, 3, 6, 12, 24, 36, 48, 72, 96, 168, 336, 720, 1440, 2160))
"""The ages of a window, since its end, at which its labelled share is known."""

LEARNED = 60
ENOUGH = 10
"""Windows from which the usual share at an age is learned."""

HALF = 0.5
"""Labels are late when a window has less than half of what the slowest of the learned windows had at its age."""

SURE = 20
"""Labels that must be missing at least."""


@dataclass(frozen=True, slots=True)
class Usual:
    """Share labelled by age: that of the slowest twentieth, and the median, over ``windows`` windows; by the ages that enough have."""

    windows: int
    low: dict[timedelta, float]
    median: dict[timedelta, float]

    def expected(self, age: timedelta) -> float:
        """The share that the slowest windows had at the last known age that ``age`` has reached."""
        reached = [at for at in self.low if at <= age]
        return self.low[max(reached)] if reached else 0.0


def usual_of(triangle: Sequence[Sequence[float | None]]) -> Usual | None:
    """What the windows of a maturity triangle have in common: rows are windows, columns the ages that each has reached."""
    by_age = {age: sorted(s for row in triangle[-LEARNED:] if len(row) > at and (s := row[at]) is not None) for at, age in enumerate(AGES)}
    known = {age: shares for age, shares in by_age.items() if len(shares) >= ENOUGH}
    if not known:
        return None
    return Usual(
        max(len(s) for s in known.values()), {age: s[len(s) // 20] for age, s in known.items()}, {age: s[len(s) // 2] for age, s in known.items()},
    )


def late_labels(
    usual: Usual | None, shares: Mapping[datetime, tuple[float, int]], ends: Mapping[datetime, datetime], now: datetime, after: timedelta | None,
) -> str:
    """Why labels are late, or empty: a sentence on the oldest window that has too few for its age.

    ``shares`` are labelled share and rows by window start; ``after`` is the owner's own age at which a window must have labels.
    """
    for start in sorted(shares):
        share, rows = shares[start]
        age = now - ends[start]
        name = f"the window of {start:%Y-%m-%dT%H:%MZ}"
        if after is not None:
            if age >= after and share <= 0.0 and rows:
                return f"{name} has no label after {_words(age)}; labels are to come within {_words(after)}"
            continue
        expected = usual.expected(age) if usual is not None else 0.0
        if expected > 0 and share < HALF * expected and (expected - share) * rows >= SURE:
            assert usual is not None
            return (
                f"{name} has labels for {share:.0%} of its rows after {_words(age)}; of {usual.windows} windows the slowest had "
                f"{expected:.0%} at that age"
            )
    return ""


def _words(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours / 24:.3g} days" if hours >= 48 else f"{hours:.3g} h"
