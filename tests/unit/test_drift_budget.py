"""The promise: drift incidents <= budget x time + 5 on any stream, through decision and fold, for a monitor and for an owner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from checks.calibration.ledger import Budget, balance, next_token
from checks.core.window import Window
from monitor.alerting.drift import decide
from monitor.alerting.fold import Accepted, Episode, Policy, WindowResults, fold
from monitor.ports import RuleResult

DAY = timedelta(days=1)
ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)
BUDGET = Budget(1, 30 * DAY)

P_VALUES = st.one_of(st.just(1e-9), st.just(1e-3), st.just(0.5), st.floats(0, 1), st.none())


def window(index: int) -> Window:
    return Window(ORIGIN + index * DAY, ORIGIN + (index + 1) * DAY)


class Monitor:
    """Decides and folds as the pipeline does: every window once or again, in any order."""

    def __init__(self, owner: list[datetime], owner_budget: Budget | None) -> None:
        self.results: dict[int, RuleResult] = {}
        self.spent: list[datetime] = []
        self.accepted: list[Accepted] = []
        self.owner, self.owner_budget = owner, owner_budget

    def episodes(self) -> tuple[Episode, ...]:
        windows = [WindowResults(window(i), [r]) for i, r in sorted(self.results.items())]
        return fold(windows, Policy(), frozenset(self.spent), self.accepted).episodes

    def judge(self, index: int, p_value: float | None, learning: bool) -> None:
        is_open = any(e.closed is None for e in self.episodes())
        decision = decide(p_value, learning, window(index), BUDGET, self.spent, self.owner_budget, self.owner, is_open)
        if decision.spend:
            self.spent.append(window(index).start)
            self.owner.append(window(index).start)
        self.results[index] = RuleResult("drift", "drift", decision.verdict, p_value, state=decision.state)

    def accept(self) -> None:
        for episode in self.episodes():
            if episode.closed is None:
                self.accepted.append(Accepted("drift", episode.last, "accepted"))


def within(opened: list[datetime], budget: Budget) -> bool:
    opened = sorted(opened)
    return all(
        last - first + 1 <= budget.per(opened[last] - opened[first]) + 5 + 1e-9 for first in range(len(opened)) for last in range(first, len(opened))
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 90), P_VALUES, st.booleans(), st.booleans()), max_size=90))
def test_no_stream_no_order_and_no_acceptance_opens_more_incidents_than_the_budget(events: list[tuple[int, float | None, bool, bool]]) -> None:
    monitor = Monitor([], None)
    ever: set[datetime] = set()
    for index, p_value, learning, accept in events:
        monitor.judge(index, p_value, learning)
        if accept:
            monitor.accept()
        ever |= {e.first for e in monitor.episodes()}
        assert within([e.first for e in monitor.episodes()], BUDGET)
    assert within(monitor.spent, BUDGET)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), P_VALUES), max_size=80))
def test_an_owners_budget_caps_the_sum_over_monitors(events: list[tuple[int, int, float | None]]) -> None:
    owner_budget = Budget(1, 15 * DAY)
    shared: list[datetime] = []
    monitors = [Monitor(shared, owner_budget) for _ in range(4)]
    for number, index, p_value in events:
        monitors[number].judge(index, p_value, False)
    opened = [e.first for m in monitors for e in m.episodes()]
    assert within(opened, owner_budget)
    assert len(opened) <= len(shared)


def test_the_next_token_is_said_when_there_is_none() -> None:
    spent = [ORIGIN, ORIGIN + DAY, ORIGIN + 2 * DAY]
    now = ORIGIN + 3 * DAY
    assert balance(BUDGET, spent, now) < 1
    when = next_token(BUDGET, spent, now)
    assert abs(balance(BUDGET, spent, when) - 1) < 1e-6
    held = decide(1e-3, False, window(3), BUDGET, spent, None, (), False)
    assert held.state == "watch"
    assert held.reason == f"held back: no token of the monitor's budget is left; the next comes {when:%Y-%m-%d}"
