"""Whether an unusual window may open an incident: the limit, and the tokens that keep the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from checks.calibration.ledger import EXTREME, Budget, alert_below, balance, may_spend
from checks.core.window import Window


@dataclass(frozen=True, slots=True)
class DriftDecision:
    """``verdict`` and ``state`` of the drift section; ``spend`` says that this window costs a token."""

    verdict: str
    state: str
    limit: float
    tokens: int
    spend: bool
    reason: str


def decide(
    p_value: float | None, learning: bool, window: Window, budget: Budget, spent: Sequence[datetime],
    owner_budget: Budget | None, owner_spent: Sequence[datetime], incident_open: bool,
) -> DriftDecision:
    """The decision on a window with that p-value.

    A breach inside an open incident costs nothing. Without a token only the extreme opens one, on credit; everything
    else is ``watch``. A window that already paid stays paid.
    """
    limit = alert_below(budget.per(window.length), learning)
    left = int(balance(budget, spent, window.start))
    state = "learning" if learning else ""
    if p_value is None or p_value >= limit:
        return DriftDecision("pass" if p_value is not None else "insufficient", state, limit, left, False, "")
    if window.start in spent:
        return DriftDecision("warn", state, limit, left, False, "")
    if incident_open:
        return DriftDecision("warn", state, limit, left, False, "")
    extreme = p_value < EXTREME
    own = may_spend(budget, spent, window.start, extreme=extreme)
    owners = owner_budget is None or may_spend(owner_budget, owner_spent, window.start, extreme=extreme)
    if own and owners:
        return DriftDecision("warn", state, limit, max(left - 1, 0) if left > 0 else left - 1, True, "")
    whose = "monitor" if not own else "owner"
    return DriftDecision("warn", "watch", limit, left, False, f"held back: no token of the {whose}'s budget is left")
