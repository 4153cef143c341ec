"""The token ledger: however the data behaves, drift incidents <= budget x time + 5."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

TOKENS = 3.0
CREDIT = 2.0
LEARNING_LIMIT = 1e-3
EXTREME = 1e-5


@dataclass(frozen=True, slots=True)
class Budget:
    """``count`` false alarms in each ``period``."""

    count: float
    period: timedelta

    def per(self, length: timedelta) -> float:
        """The budget's share of a window of ``length``."""
        return self.count * (length / self.period)


def _walk(budget: Budget, spent: Iterable[datetime]) -> list[tuple[datetime, float]]:
    balance, at, walk = TOKENS, None, []
    for moment in sorted(spent):
        if at is not None:
            balance = min(TOKENS, balance + budget.per(moment - at))
        balance -= 1
        at = moment
        walk.append((moment, balance))
    return walk


def balance(budget: Budget, spent: Iterable[datetime], now: datetime) -> float:
    """Tokens left at ``now`` in event time; below zero on credit.

    At most three are held and one comes back per budget period. Spends after ``now`` are not counted.
    """
    walk = _walk(budget, (moment for moment in spent if moment <= now))
    if not walk:
        return TOKENS
    moment, left = walk[-1]
    return min(TOKENS, left + budget.per(now - moment))


def may_spend(budget: Budget, spent: Iterable[datetime], now: datetime, *, extreme: bool) -> bool:
    """Whether an incident may open at ``now``: a whole token is left, or, for the extreme, credit of at most two.

    A window that comes late may lie before other spends; those must still be covered.
    """
    after = _walk(budget, [*spent, now])
    own = min(left for moment, left in after if moment == now)
    floor = -CREDIT if extreme else 0.0
    return own >= floor - 1e-9 and all(left >= -CREDIT - 1e-9 for _, left in after)


def next_token(budget: Budget, spent: Iterable[datetime], now: datetime) -> datetime:
    """When a whole token will be there again, if none is spent until then."""
    lacking = max(1 - balance(budget, spent, now), 0.0)
    return now + lacking * budget.period / budget.count


def alert_below(budget_per_window: float, learning: bool) -> float:
    """The p-value below which a window may open an incident: half the budget's share of one window.

    Half, so that noise leaves tokens for the real thing; while the baseline is being learned, only below 1e-3.
    """
    return LEARNING_LIMIT if learning else min(budget_per_window / 2, 0.5)
