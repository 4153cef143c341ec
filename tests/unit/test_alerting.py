"""The fold, the diff, drift decisions and rollback guards."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.calibration.ledger import Budget
from checks.core.result import Verdict
from checks.core.window import Window
from monitor.alerting.drift import decide
from monitor.alerting.fold import Accepted, Begun, Policy, WindowResults, fold
from monitor.alerting.incidents import FIRED, RESOLVED, UPDATED, WITHDRAWN, Known, diff
from monitor.alerting.retraction import passed_since, unknown_for
from monitor.alerting.rollback import Evidence, Witness, not_after, propose, propose_release
from monitor.alerting.silence import silent_since
from monitor.ports import RuleResult

DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
BUDGET = Budget(1, timedelta(days=30))


def window(index: int) -> Window:
    return Window(START + index * DAY, START + (index + 1) * DAY)


def results(verdicts: str, family: str = "quality", rule: str = "quality.roc_auc[ALL]") -> list[WindowResults]:
    """p pass, w warn, f fail, e error, n no_data, i insufficient, - no result at all, c passing without clearing."""
    names = {"p": "pass", "w": "warn", "f": "fail", "e": "error", "n": "no_data", "i": "insufficient", "c": "pass"}
    return [
        WindowResults(window(k), [] if v == "-" else [
            RuleResult(rule, family, names[v], 0.5, 0.4, 0.6, 100, cleared=v != "c", reason="it is bad")
        ])
        for k, v in enumerate(verdicts)
    ]


def episodes(verdicts: str, **options: object) -> list[tuple[int, int | None, str]]:
    folded = fold(results(verdicts), Policy(**options), frozenset())  # type: ignore[arg-type]
    return [
        ((e.first - START) // DAY, (e.closed - START) // DAY if e.closed else None, str(e.severity)) for e in folded.episodes
    ]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ("ppp", []), ("pwp", [(1, None, "warn")]), ("pwpp", [(1, 3, "warn")]), ("pwfpp", [(1, 4, "fail")]), ("pwpwpp", [(1, 5, "warn")]),
        ("pwppwpp", [(1, None, "warn")]), ("pwppwppppp", [(1, 9, "warn")]), ("pwccpp", [(1, 5, "warn")]), ("pienp", []), ("pfeinp", [(1, None, "fail")]),
        ("pf-p-p", [(1, 5, "fail")]), ("w" + "-" * 14, [(0, 14, "warn")]),
    ],
)
def test_rules_fire_hold_clear_and_expire(verdicts: str, expected: list[tuple[int, int | None, str]]) -> None:
    assert episodes(verdicts) == expected


@pytest.mark.parametrize(("state", "verdict"), list(product(["ok", "firing"], list(Verdict))))
def test_only_known_verdicts_move_a_rule(state: str, verdict: Verdict) -> None:
    before = "p" if state == "ok" else "f"
    letters = {"pass": "p", "warn": "w", "fail": "f", "error": "e", "no_data": "n", "insufficient": "i", "inhibited": "i"}
    folded = fold(results(before + letters[str(verdict)]), Policy(), frozenset())
    (rule,) = folded.rules.values()
    if verdict.breach:
        assert rule.state == "firing"
    elif not verdict.known:
        assert rule.state == state
    else:
        assert rule.state == ("ok" if state == "ok" else "recovering")


def test_two_of_three_are_needed_where_there_is_no_interval() -> None:
    noisy = [WindowResults(w.window, [replace(r, low=None, high=None) for r in w.results]) for w in results("pwpwp", "service", "service.x")]
    assert [e.first for e in fold(noisy, Policy(fire=(2, 3)), frozenset()).episodes] == [window(3).start]


@given(st.text("pwfein-", max_size=30), st.randoms())
def test_the_state_does_not_depend_on_the_order_of_arrival(verdicts: str, random: object) -> None:
    in_order = results(verdicts)
    arrived = list(in_order)
    random.shuffle(arrived)  # type: ignore[attr-defined]
    again = sorted(arrived, key=lambda w: w.window.start)
    assert fold(again, Policy(), frozenset()) == fold(in_order, Policy(), frozenset())


def test_drift_opens_only_where_a_token_was_spent() -> None:
    stream = results("pwwpp", "drift", "drift")
    assert fold(stream, Policy(), frozenset()).episodes == ()
    assert [e.first for e in fold(stream, Policy(), frozenset({window(2).start})).episodes] == [window(2).start]


def test_a_level_that_lasts_fourteen_windows_is_the_new_normal() -> None:
    (episode,) = fold(results("w" * 14, "drift", "drift"), Policy(), frozenset({window(0).start})).episodes
    assert (episode.reason, episode.closed) == ("new normal", window(13).start)


def known(**changes: object) -> Known:
    base = Known(7, "quality", "warn", "open", window(1).start, window(1).start, None, ("quality.roc_auc[ALL]",))
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdicts", "announced", "expected"),
    [
        ("pw", [], [FIRED]), ("pw", [known()], []), ("pwf", [known()], [UPDATED]), ("pwpp", [known()], [RESOLVED]), ("pp", [known()], [WITHDRAWN]),
        ("pwpp", [], [FIRED, RESOLVED]), ("pp", [known(state="withdrawn")], []), ("pwpp", [known(state="closed", closed=window(3).start)], []),
        ("pp", [known(first=START - 9 * DAY)], []),
    ],
)
def test_only_the_difference_is_announced(verdicts: str, announced: list[Known], expected: list[str]) -> None:
    folded = fold(results(verdicts), Policy(), frozenset())
    assert [t.type for t in diff(folded.episodes, announced, START)[0]] == expected


def test_an_incident_from_before_the_range_ends_when_it_cleared_or_cannot_be_known_for_long() -> None:
    old = known(first=START - 9 * DAY, last=START - 9 * DAY)
    assert [(t.type, t.why) for t in diff([], [old], START, over=frozenset({7}))[0]] == [(RESOLVED, "resolved")]
    assert [(t.type, t.why) for t in diff([], [old], START, lost=frozenset({7}))[0]] == [(RESOLVED, "expired")]
    stream = results("ccccpcpp")
    assert passed_since(START - DAY, old.members, stream[:5]) == 1, "a pass short of the limit that clears is none"
    assert passed_since(START - DAY, old.members, stream) == 3
    assert unknown_for(old.members, results("pien")) == 3


def test_drift_costs_a_token_and_without_one_it_is_watched() -> None:
    here = window(40)
    first = decide(0.001, False, here, BUDGET, [], None, [], False)
    assert (first.verdict, first.state, first.spend) == ("warn", "", True)
    spent = [window(37).start, window(38).start, window(39).start]
    held = decide(0.001, False, here, BUDGET, spent, None, [], False)
    assert (held.verdict, held.state, held.spend) == ("warn", "watch", False)
    assert decide(1e-7, False, here, BUDGET, spent, None, [], False).spend
    inside = decide(0.001, False, here, BUDGET, spent, None, [], True)
    assert (inside.state, inside.spend) == ("", False)
    assert decide(0.5, False, here, BUDGET, [], None, [], False).verdict == "pass"
    assert decide(0.005, True, here, BUDGET, [], None, [], False).verdict == "pass"
    assert decide(0.001, False, here, BUDGET, [], BUDGET, spent, False).state == "watch"


def test_silence_is_three_usual_gaps_and_at_least_half_an_hour() -> None:
    assert silent_since(START, START + timedelta(minutes=29), timedelta(minutes=1), None, None) is None
    assert silent_since(START, START + timedelta(minutes=31), timedelta(minutes=1), None, None) == START
    assert silent_since(START, START + 2 * DAY, DAY, None, None) is None
    assert silent_since(START, START + 4 * DAY, DAY, None, None) == START
    assert silent_since(START, START + 4 * DAY, DAY, None, START + 2 * DAY) is None


def witness(index: int, version: str, found: str | None, **changes: object) -> Witness:
    rules = {"quality.roc_auc[ALL]": found} if found else {}
    base = Witness(window(index), {version: 1000}, "pass", rules, 1000, True)  # type: ignore[arg-type]
    return replace(base, **changes)  # type: ignore[arg-type]


def evidence(**changes: object) -> Evidence:
    base = Evidence(
        "quality", "fail", ("quality.roc_auc[ALL]",), (1, 1), 2,
        [witness(0, "v1", "pass"), witness(1, "v1", "pass"), witness(2, "v2", "fail"), witness(3, "v2", "insufficient")],
        window(3).end + timedelta(hours=2), DAY, timedelta(hours=1), timedelta(hours=72), timedelta(hours=24), "last_good", None,
        frozenset(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_bad_version_is_rolled_back_to_the_last_good_one() -> None:
    proposal = propose(evidence())
    assert proposal.allowed, proposal.guards
    assert (proposal.from_version, proposal.to_version) == ("v2", "v1")


@pytest.mark.parametrize(
    ("guard", "changes"),
    [
        ("family", {"family": "drift"}), ("family", {"severity": "warn"}),
        ("evidence", {"witnesses": [witness(0, "v1", "pass"), witness(1, "v1", "pass"), witness(2, "v2", "fail", enough=False)]}),
        ("evidence", {"witnesses": [witness(0, "v1", "pass"), witness(1, "v1", "pass"), witness(2, "v2", "insufficient")]}),
        ("evidence", {"witnesses": [witness(1, "v1", "pass"), witness(2, "v2", "fail", versions={"v1": 500, "v2": 500})]}),
        ("attribution", {"witnesses": [witness(0, "v1", "fail"), witness(1, "v1", "fail"), witness(2, "v2", "fail")]}),
        ("attribution", {"witnesses": [witness(0, "v1", "pass"), witness(1, "v1", "pass"), *(witness(k, "v2", "pass") for k in range(2, 8)), witness(8, "v2", "fail")], "now": window(9).start}),
        ("attribution", {"witnesses": [witness(2, "v1", "fail")], "now": window(3).start}),
        ("versions", {"bad_versions": frozenset({"v1"})}), ("versions", {"to_version": "v2"}),
        ("versions", {"previous_rollbacks": [(START - 30 * DAY, "v1", "v0")]}),
        ("frequency", {"previous_rollbacks": [(window(3).end, "v9", "v1")]}), ("frequency", {"fleet_today": 3}),
        ("timely", {"kill_switch": True}), ("timely", {"held_by": "ann"}), ("timely", {"now": window(30).start}),
        ("timely", {"maintenance": "new tables (ann)"}), ("timely", {"pending": "INC-2"}), ("scope", {"source_incident": "INC-1"}),
        ("frequency", {"previous_rollbacks": [(window(3).end, "v9", "v1")], "cooldown": timedelta(hours=1)}),
        ("comparison", {"compared": {"first_version": "v1", "second_version": "v2", "verdict": "better", "metric": "roc_auc"}}),
        ("versions", {"to_version": "v" * 201}), ("versions", {"to_version": "v1\x00"}),
        ("evidence", {"fire": (2, 3)}),
        ("evidence", {"witnesses": [witness(0, "v1", "pass"), witness(1, "v1", "pass"), witness(2, "v2", "fail", verdict="error")]}),
        ("evidence", {"witnesses": [witness(0, "v1", "pass"), witness(1, "v1", "pass"), witness(2, "v2", "fail"), witness(3, "v2", "pass")], "now": window(4).start}),
        ("attribution", {"witnesses": [witness(1, "v1", "pass"), witness(2, "v2", "fail")]}),
        ("family", {"family": "contract", "on_output": True, "now": window(9).start, "witnesses": [
            witness(0, "v1", "pass"), witness(1, "v1", "pass"), *(witness(k, "v2", "pass") for k in range(2, 7)), witness(7, "v2", "fail"),
        ]}),
    ],
)
def test_each_guard_stops_a_rollback_that_would_not_help(guard: str, changes: dict[str, object]) -> None:
    proposal = propose(evidence(**changes))
    assert not proposal.allowed
    assert guard in {g.name for g in proposal.guards if not g.passed}


def released(**changes: object) -> object:
    return propose_release(evidence(**changes), "v2", "v1", window(2).start, "worse by 3 points")


def test_a_release_that_is_worse_is_left_unless_it_has_been_left_already() -> None:
    assert released().allowed  # type: ignore[attr-defined]
    hotfix = [witness(0, "v1", "pass"), witness(1, "v1", "pass"), witness(2, "v2", "fail"), witness(3, "v3", "pass")]
    failed = [g.name for g in released(witnesses=hotfix).guards if not g.passed]  # type: ignore[attr-defined]
    assert failed == ["evidence"], "v3 serves now"
    unknown = [witness(0, "v1", "pass"), witness(1, "v1", "pass", verdict="error"), witness(2, "v2", "fail")]
    assert not released(witnesses=unknown).allowed, "one known window of v1 is too few"  # type: ignore[attr-defined]


def test_a_decided_rollback_leaves_within_two_windows_and_an_hour() -> None:
    assert not_after(START, DAY) == START + timedelta(hours=1)
    assert not_after(START, timedelta(minutes=15)) == START + timedelta(minutes=30)


def test_what_is_held_back_or_decided_later_moves_no_rule() -> None:
    watched = [WindowResults(w.window, [replace(r, state="watch") for r in w.results]) for w in results("w", "drift", "drift")]
    assert fold(watched, Policy(), frozenset({window(0).start})).episodes == ()
    later = [*results("f"), *(WindowResults(w.window, [replace(r, state="deferred") for r in w.results]) for w in results("fpp")[1:])]
    assert fold(later, Policy(), frozenset()).rules["quality.roc_auc[ALL]"].state == "firing"


def test_a_fallback_needs_no_history() -> None:
    alone = [witness(2, "v2", "fail")]
    assert propose(evidence(witnesses=alone, fallback="rules", now=window(3).start)).allowed


def test_an_incident_from_before_the_range_is_adopted_by_all_its_windows_and_pays_once() -> None:
    stream = results("wwppw", "drift", "drift")
    begun = Begun(window(1).start, 12)
    found = fold(stream, Policy(), frozenset({window(0).start}), (), begun).episodes
    assert [(e.first, e.closed, e.reason) for e in found] == [(window(0).start, window(1).start, "new normal")]
    young = fold(stream, Policy(), frozenset({window(0).start}), (), Begun(window(1).start, 3)).episodes
    assert [(e.first, e.closed, e.reason) for e in young] == [(window(0).start, window(3).start, "resolved")]


def test_what_a_person_accepts_ends_then_and_what_breaches_later_is_new() -> None:
    stream = results("wwwww", "drift", "drift")
    accepted = [Accepted("drift", window(1).start, "accepted")]
    openers = frozenset({window(0).start, window(3).start})
    found = fold(stream, Policy(), openers, accepted).episodes
    assert [(e.first, e.closed, e.reason) for e in found] == [
        (window(0).start, window(1).start, "accepted"), (window(3).start, None, ""),
    ]
    assert fold(stream, Policy(), openers, [Accepted("quality", window(1).start, "accepted")]).episodes[0].closed is None
    last = fold(stream[:2], Policy(), openers, accepted).episodes
    assert (last[0].closed, last[0].reason) == (window(1).start, "accepted")


def test_a_driver_is_a_member_and_opens_nothing() -> None:
    driver = RuleResult("drift[x]", "drift", "warn", column="x", state="driver")
    stream = [WindowResults(window(0), [RuleResult("drift", "drift", "pass"), driver])]
    assert fold(stream, Policy(), frozenset({window(0).start})).episodes == ()
    stream = [WindowResults(window(0), [RuleResult("drift", "drift", "warn"), driver])]
    (episode,) = fold(stream, Policy(), frozenset({window(0).start})).episodes
    assert list(episode.members) == ["drift", "drift[x]"]
    assert fold(stream, Policy(), frozenset()).episodes == ()
