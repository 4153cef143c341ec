"""The fold: the current results of a monitor's windows, in order, give the state of its rules and its incidents.

It reads no clock and no history of its own, so that a rerun, a duplicate, a backfill or a late window leads to the same
state as if everything had come in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from checks.core.result import Verdict
from checks.core.window import Window
from monitor.ports import RuleResult

FORGET_AFTER = 14
"""Windows after which a rule that cannot be known closes, and after which a drifted level is the new normal."""

DRIFT_RULE = "drift"
DRIVER = "driver"
"""The state of a result that names a column which drives drift: a member of an incident, never its cause."""

FLAP_WINDOWS, FLAP_CHANGES = 10, 4
"""A rule whose state changes more often than this many times in so many windows flaps."""

REOPEN_WINDOWS = 5
"""An incident that fires again within so many windows of its end goes on: it comes and goes."""

FLAP_CLEAR = 5
"""Good windows in a row that end an incident which flaps, or has come back."""

DEFERRED = "deferred"
"""The state of a window whose drift is decided later, with its day: it changes nothing."""


@dataclass(frozen=True, slots=True)
class WindowResults:
    """The current results of one window."""

    window: Window
    results: Sequence[RuleResult]


@dataclass(frozen=True, slots=True)
class Policy:
    """How many breaching windows fire, and how many good ones clear.

    ``fire`` is (k, n); ``contract_clear`` is the number for contract and data rules, of which a single good window is
    proof enough. ``always`` says that the owner has chosen k and n, for every rule.
    """

    fire: tuple[int, int] = (1, 1)
    clear: int = 2
    contract_clear: int = 1
    always: bool = False

    def clear_of(self, family: str) -> int:
        return self.contract_clear if family in ("contract", "data") else self.clear

    def fire_of(self, result: RuleResult) -> tuple[int, int]:
        sure = result.family in ("contract", "data", "drift") or (result.low is not None and result.high is not None)
        return (1, 1) if sure and not self.always else self.fire


@dataclass(slots=True)
class RuleState:
    """Where one rule stands: ok, pending, firing or recovering."""

    rule: str
    family: str
    state: str = "ok"
    severity: Verdict = Verdict.WARN
    since: datetime | None = None
    good: int = 0
    unknown: int = 0
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=100))
    flips: deque[bool] = field(default_factory=lambda: deque(maxlen=FLAP_WINDOWS))
    reopened: bool = False
    definition: str = ""

    @property
    def flapping(self) -> bool:
        """Whether it comes and goes."""
        return sum(self.flips) > FLAP_CHANGES


@dataclass(slots=True)
class Episode:
    """What one incident is about: a stretch of windows in which rules of one family fired.

    ``windows`` are the starts of the breaching windows, ``since`` the first of them after it came back; ``closed`` is the window
    that ended it, None while open;
    ``reason`` is resolved, expired, new normal or rule changed; ``before`` counts breaching windows from before the range;
    ``reopened`` says how often it ended and fired again soon after, ``flapping`` that it comes and goes.
    """

    family: str
    first: datetime
    last: datetime
    severity: Verdict
    members: dict[str, RuleResult] = field(default_factory=dict)
    windows: list[datetime] = field(default_factory=list)
    closed: datetime | None = None
    reason: str = ""
    before: int = 0
    reopened: int = 0
    flapping: bool = False
    ended: int = -1
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Folded:
    """The desired state: every episode in the range, and where each rule stands at its end."""

    episodes: tuple[Episode, ...]
    rules: Mapping[str, RuleState]


@dataclass(frozen=True, slots=True)
class Begun:
    """A drift incident that began before the range: ``windows`` breached before it, the last one that is known at ``last``."""

    last: datetime
    windows: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """What ends a family's incident after the window that starts at ``until``: a person's word, or that it ended so before."""

    family: str
    until: datetime
    reason: str


def fold(
    windows: Sequence[WindowResults], policy: Policy, openers: frozenset[datetime], accepted: Sequence[Accepted] = (),
    begun: Begun | None = None,
) -> Folded:
    """Fold the windows, ordered by start.

    ``openers`` are the windows for which the token ledger let a drift incident open; ``accepted`` end what is open then;
    ``begun`` is the drift incident that goes on from before the range.
    """
    left = sorted(accepted, key=lambda a: a.until)
    rules: dict[str, RuleState] = {}
    episodes: list[Episode] = []
    open_by_family: dict[str, Episode] = {}
    for index, item in enumerate(windows):
        start = item.window.start
        while left and left[0].until < start:
            _accept(left.pop(0), rules, open_by_family)
        here = {result.rule: result for result in item.results if result.state != DRIVER}
        for rule, state in rules.items():
            if rule not in here:
                _unknown(state)
        _changed(here, rules, open_by_family, start)
        for rule, result in here.items():
            state = rules.setdefault(rule, RuleState(rule, result.family))
            state.definition = result.definition or state.definition
            current = open_by_family.get(result.family)
            allowed = rule != DRIFT_RULE or start in openers or current is not None
            _step(state, result, policy, start, allowed)
        families = dict.fromkeys([*open_by_family, *(state.family for state in rules.values())])
        for family in families:
            _family(family, index, item, here, rules, open_by_family, episodes, begun)
    for last in left:
        _accept(last, rules, open_by_family)
    return Folded(tuple(episodes), rules)


def _accept(accepted: Accepted, rules: Mapping[str, RuleState], open_by_family: dict[str, Episode]) -> None:
    """Close the open episode of the family, and forget where its rules stood."""
    episode = open_by_family.get(accepted.family)
    if episode is None or episode.first > accepted.until:
        return
    for state in rules.values():
        if state.family == accepted.family:
            _reset(state)
    episode.closed, episode.reason = accepted.until, accepted.reason
    del open_by_family[accepted.family]


def _changed(
    here: Mapping[str, RuleResult], rules: Mapping[str, RuleState], open_by_family: dict[str, Episode], start: datetime,
) -> None:
    """A rule with another limit than before begins anew; an incident of nothing but such rules ends."""
    for rule, result in here.items():
        state = rules.get(rule)
        if state is None or not result.definition or state.definition in ("", result.definition):
            continue
        fired = state.state in ("firing", "recovering")
        _reset(state)
        state.flips.clear()
        episode = open_by_family.get(state.family)
        others = any(s.family == state.family and s.state in ("firing", "recovering") for s in rules.values())
        if fired and episode is not None and not others:
            episode.closed, episode.reason = start, "rule changed"
            del open_by_family[state.family]


def _unknown(state: RuleState) -> None:
    if state.state in ("firing", "recovering"):
        state.unknown += 1


def _step(state: RuleState, result: RuleResult, policy: Policy, start: datetime, allowed: bool) -> None:
    if result.state == DEFERRED:
        return
    if state.state == "ok" and result.verdict == "pass":  # nearly all of them
        state.unknown = 0
        state.recent.append(False)
        state.flips.append(False)
        return
    verdict = Verdict(result.verdict)
    if not verdict.known:
        _unknown(state)
        return
    state.unknown = 0
    was = state.state
    _move(state, result, verdict, policy, start, allowed)
    state.flips.append(state.state != was)


def _move(state: RuleState, result: RuleResult, verdict: Verdict, policy: Policy, start: datetime, allowed: bool) -> None:
    if verdict.breach and ((allowed and result.state != "watch") or state.state in ("firing", "recovering")):
        state.recent.append(True)
        need, of = policy.fire_of(result)
        state.good = 0
        if state.state == "recovering":
            state.state = "firing"
        if state.state == "firing":
            state.severity = _graver(state.severity, verdict)
        elif sum(list(state.recent)[-of:]) >= need:
            state.state, state.since, state.severity = "firing", start, verdict
        else:
            state.state = "pending"
        return
    state.recent.append(False)
    if state.state in ("firing", "recovering"):
        if not verdict.breach and result.cleared:
            state.good += 1
            state.state = "recovering"
        need = policy.clear_of(state.family)
        if state.good >= (max(need, FLAP_CLEAR) if state.reopened or state.flapping else need):
            _reset(state)
    elif state.state == "pending":
        state.state = "ok"


def _reset(state: RuleState) -> None:
    state.state, state.since, state.good, state.unknown = "ok", None, 0, 0
    state.severity, state.reopened = Verdict.WARN, False
    state.recent.clear()


def _graver(left: Verdict, right: Verdict) -> Verdict:
    return Verdict.FAIL if Verdict.FAIL in (left, right) else Verdict.WARN


def _again(family: str, index: int, fresh: Sequence[RuleState], episodes: Sequence[Episode]) -> Episode | None:
    """The incident of one of these rules that ended a few windows ago: what fires again so soon is the same."""
    last = next((e for e in reversed(episodes) if e.family == family), None)
    if family == "drift" or last is None or last.reason != "resolved" or index - last.ended > REOPEN_WINDOWS:
        return None
    return last if any(state.rule in last.members for state in fresh) else None


def _family(
    family: str, index: int, item: WindowResults, here: Mapping[str, RuleResult], rules: Mapping[str, RuleState],
    open_by_family: dict[str, Episode], episodes: list[Episode], begun: Begun | None,
) -> None:
    start = item.window.start
    members = [state for state in rules.values() if state.family == family]
    firing = [state for state in members if state.state in ("firing", "recovering")]
    episode = open_by_family.get(family)
    if episode is None:
        fresh = [state for state in firing if state.state == "firing"]
        if not fresh:
            return
        severity = Verdict.FAIL if any(s.severity is Verdict.FAIL for s in fresh) else Verdict.WARN
        episode = _again(family, index, fresh, episodes)
        if episode is not None:
            episode.closed, episode.reason, episode.reopened = None, "", episode.reopened + 1
            episode.since, episode.severity, episode.members = start, severity, {}  # what it was before is over
            for state in fresh:
                state.reopened = True
        else:
            episode = Episode(family, start, start, severity)
            episodes.append(episode)
        if begun is not None and family == "drift" and start <= begun.last and not any(e.family == family and e is not episode for e in episodes):
            episode.before = begun.windows
        open_by_family[family] = episode
    breached = False
    for state in firing:
        result = here.get(state.rule)
        if result is not None and Verdict(result.verdict).breach and state.state == "firing":
            before = episode.members.get(state.rule)
            if before is None or before.verdict == "warn" or result.verdict == "fail":  # the newest, but no warning hides a fail
                episode.members[state.rule] = result
            episode.severity = _graver(episode.severity, Verdict(result.verdict))
            breached = True
    if breached and family == "drift" and DRIFT_RULE in here and Verdict(here[DRIFT_RULE].verdict).breach:
        for result in item.results:
            if result.state == DRIVER:
                episode.members.setdefault(result.rule, result)
    if breached:
        episode.last = start
        episode.windows.append(start)
    expired = [state for state in firing if state.unknown >= FORGET_AFTER]
    for state in expired:
        _reset(state)
    adopted = family == "drift" and episode.before + len(episode.windows) >= FORGET_AFTER
    if adopted:
        for state in firing:
            if state.rule == DRIFT_RULE:
                _reset(state)
    episode.flapping = any(state.flapping for state in firing)
    if not any(state.state in ("firing", "recovering") for state in members):
        episode.closed, episode.ended = start, index
        episode.reason = "new normal" if adopted else "expired" if expired else "resolved"
        del open_by_family[family]
