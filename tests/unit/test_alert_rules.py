"""Reminders, silences, scopes, flapping, retraction, inhibition, coalescing: the pure rules of alerting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.core.errors import ConfigError
from checks.core.result import Verdict
from checks.core.window import Window
from monitor.alerting import messages, silences
from monitor.alerting.coalesce import Waiting, coalesced
from monitor.alerting.definition import defined
from monitor.alerting.fold import Policy, WindowResults, fold
from monitor.alerting.incidents import FIRED, RESOLVED, UPDATED, Known, diff
from monitor.alerting.inhibition import inhibit
from monitor.alerting.reminders import DIGEST, ESCALATE, REMIND, Announced, remind
from monitor.alerting.retraction import settled
from monitor.alerting.rollback import code_of, effect, payload_hash
from monitor.alerting.scopes import Trouble, gathered, kind_of, wait
from monitor.ports import RuleResult

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
RULE = "quality.roc_auc[ALL]"
LETTERS = {"p": "pass", "w": "warn", "f": "fail", "e": "error", "n": "no_data", "i": "insufficient", "h": "inhibited"}


def results(verdicts: str, family: str = "quality", rule: str = RULE, **changes: object) -> list[WindowResults]:
    made = []
    for k, letter in enumerate(verdicts):
        window = Window(START + k * DAY, START + (k + 1) * DAY)
        result = RuleResult(rule, family, LETTERS.get(letter, "pass"), 0.5, 0.4, 0.6, 100, reason="it is bad")
        made.append(WindowResults(window, [] if letter == "-" else [replace(result, **changes)]))  # type: ignore[arg-type]
    return made


# -- states

PATHS = {"ok": "p", "pending": "pw", "firing": "f", "recovering": "fp"}


@pytest.mark.parametrize(("state", "verdict"), list(product(PATHS, Verdict)))
def test_every_state_meets_every_verdict(state: str, verdict: Verdict) -> None:
    """ok -> pending -> firing -> recovering -> ok, where 2 of 3 fire and 2 clear; what is not known moves nothing."""
    letter = next(k for k, v in LETTERS.items() if v == str(verdict))
    noisy = {"low": None, "high": None} if state in ("ok", "pending") else {}
    before = results(PATHS[state], **noisy)
    after = results(PATHS[state] + letter, **noisy)
    policy = Policy(fire=(2, 3))
    assert fold(before, policy, frozenset()).rules[RULE].state == state
    found = fold(after, policy, frozenset()).rules[RULE].state
    if not verdict.known:
        assert found == state
    elif verdict.breach:
        assert found == {"ok": "pending", "pending": "firing", "firing": "firing", "recovering": "firing"}[state]
    else:
        assert found == {"ok": "ok", "pending": "ok", "firing": "recovering", "recovering": "ok"}[state]


@given(st.text("pwfeinh-", max_size=40), st.integers(0, 40))
def test_a_window_that_comes_late_gives_the_state_that_it_would_have_given_in_order(verdicts: str, late: int) -> None:
    complete = results(verdicts)
    without = [w for k, w in enumerate(complete) if k != late]
    fold(without, Policy(), frozenset())
    again = sorted([*without, *complete[late : late + 1]], key=lambda w: w.window.start)
    assert fold(again, Policy(), frozenset()) == fold(complete, Policy(), frozenset())


@given(st.text("pwfein-", max_size=40))
def test_the_announced_log_follows_any_history_without_contradiction(verdicts: str) -> None:
    """Announced window by window, an incident fires once, resolves only when open, and the end agrees with the fold."""
    stream, known = results(verdicts), {}
    for upto in range(1, len(stream) + 1):
        folded = fold(stream[:upto], Policy(), frozenset())
        transitions, matched = diff(folded.episodes, list(known.values()), START)
        number = len(known)
        for transition in transitions:
            if transition.type == FIRED:
                number += 1
                assert transition.episode is not None
                known[number] = Known(number, "quality", str(transition.episode.severity), "open", transition.episode.first, transition.episode.last, None, (RULE,))
            elif transition.type == RESOLVED:
                which = transition.incident or number
                assert known[which].state == "open"
                known[which] = replace(known[which], state="closed", closed=stream[upto - 1].window.start)
            elif transition.type == UPDATED:
                assert transition.incident is not None
                state = "open" if transition.why.startswith("open again") else known[transition.incident].state
                known[transition.incident] = replace(known[transition.incident], state=state, severity=str(transition.episode.severity), closed=None)  # type: ignore[union-attr]
        for which, episode in matched.items():
            known[which] = replace(known[which], last=episode.last)
    open_now = [e for e in fold(stream, Policy(), frozenset()).episodes if e.closed is None]
    assert sum(k.state == "open" for k in known.values()) == len(open_now)


@pytest.mark.parametrize("pattern", ["fp", "fpp", "fppp", "fppf", "wwp", "ffp", "fpppp"])
@pytest.mark.parametrize("family", ["quality", "contract", "service"])
def test_a_breach_that_oscillates_for_200_windows_is_one_incident_and_three_messages(pattern: str, family: str) -> None:
    stream = results((pattern * 200)[:200], family, f"{family}.x")
    known: list[Known] = []
    said: list[str] = []
    for upto in range(1, 201):
        since = stream[max(0, upto - 21)].window.start
        folded = fold(stream[max(0, upto - 21) : upto], Policy(), frozenset())
        transitions, matched = diff(folded.episodes, known, since)
        for transition in transitions:
            episode = transition.episode
            if transition.type == FIRED and episode is not None:
                known.append(Known(len(known) + 1, family, str(episode.severity), "open", episode.first, episode.last, None, (f"{family}.x",)))
            elif transition.type == RESOLVED:
                known[-1] = replace(known[-1], state="closed", closed=stream[upto - 1].window.start)
            elif transition.type == UPDATED:
                known[-1] = replace(known[-1], state="open", severity=str(episode.severity) if episode else "warn", closed=None)
            said.append(transition.type)
        for which, episode in matched.items():
            known[which - 1] = replace(known[which - 1], last=episode.last)
    assert len(known) == 1
    assert len(said) <= 3, said


def test_a_flapping_incident_ends_after_five_good_windows() -> None:
    (episode,) = fold(results("fppfp" + "pppp"), Policy(), frozenset()).episodes
    assert episode.closed == START + 8 * DAY
    (episode,) = fold(results("fppfpppp"), Policy(), frozenset()).episodes
    assert episode.closed is None
    assert episode.flapping


def test_a_rule_with_another_limit_begins_anew_and_the_open_incident_ends_as_changed() -> None:
    old, new = results("ff", definition="a"), results("--ff", definition="b")
    folded = fold([*old, *new[2:]], Policy(), frozenset())
    assert [(e.first, e.closed, e.reason) for e in folded.episodes] == [
        (START, START + 2 * DAY, "rule changed"), (START + 2 * DAY, None, ""),
    ]
    passing = fold([*old, *results("--p", definition="b")[2:]], Policy(), frozenset())
    assert [(e.closed, e.reason) for e in passing.episodes] == [(START + 2 * DAY, "rule changed")]


def test_the_definition_of_a_rule_is_its_limit() -> None:
    rows = [RuleResult("quality.roc_auc[ALL]", "quality", "pass"), RuleResult("contract.a.required", "contract", "pass", definition="its own"), RuleResult("data.x", "data", "pass")]
    one = defined(rows, {"quality": {"roc_auc": {"fail_below": 0.5}}})
    two = defined(rows, {"quality": {"roc_auc": {"fail_below": 0.6}}})
    assert [a.definition == b.definition for a, b in zip(one, two, strict=True)] == [False, True, True]
    assert [r.definition for r in one[1:]] == ["its own", ""]


# -- retraction, inhibition

@pytest.mark.parametrize(
    ("now", "state", "expected"),
    [("pp", "final", True), ("pf", "final", True), ("pi", "final", False), ("p-", "", False), ("pp", "provisional", False), ("ph", "", False), ("pe", "", False)],
)
def test_only_what_is_known_on_final_labels_settles_what_became_of_an_incident(now: str, state: str, expected: bool) -> None:
    assert settled(START, START + DAY, (RULE,), results(now, state=state)) is expected


@pytest.mark.parametrize(("history", "order", "fire"), [("fppf", (0, 1, 3, 2), (2, 3)), ("wwpf", (0, 2, 3, 1), (2, 3)), ("fpfpp", (0, 2, 4, 1, 3), (2, 3))])
def test_whatever_order_windows_come_in_the_same_incidents_are_open_in_the_end(history: str, order: tuple[int, ...], fire: tuple[int, int]) -> None:
    """Announced after each arrival, the incidents that are open at the end are those of the whole history."""
    stream, policy = results(history, low=None, high=None), Policy(fire=fire)
    known: dict[int, Known] = {}
    for upto in range(1, len(order) + 1):
        here = sorted((stream[k] for k in order[:upto]), key=lambda w: w.window.start)
        episodes = fold(here, policy, frozenset()).episodes
        unsure = frozenset(i for i, k in known.items() if not settled(k.first, k.last, k.members, here))
        transitions, matched = diff(episodes, list(known.values()), START, unsure)
        for transition in transitions:
            if transition.type == FIRED and transition.episode is not None:
                e = transition.episode
                known[len(known) + 1] = Known(len(known) + 1, "quality", str(e.severity), "open", e.first, e.last, None, (RULE,))
            elif transition.type == UPDATED and transition.incident is not None:
                known[transition.incident] = replace(known[transition.incident], state="open", closed=None)
            else:
                which = transition.incident or len(known)
                state = "closed" if transition.type == RESOLVED else "withdrawn"
                known[which] = replace(known[which], state=state, closed=here[-1].window.start)
        for which, episode in matched.items():
            known[which] = replace(known[which], first=episode.first, last=episode.last)
    wanted = [e for e in fold(stream, policy, frozenset()).episodes if e.closed is None]
    assert [(k.first, k.last) for k in known.values() if k.state == "open"] == [(e.first, e.last) for e in wanted]


def test_an_owner_who_chose_k_of_n_and_clear_chose_it_for_every_family() -> None:
    for family in ("quality", "contract", "data", "service"):
        chosen = Policy(fire=(2, 3), clear=3, contract_clear=3, always=True)
        assert fold(results("pf", family, f"{family}.x"), chosen, frozenset()).episodes == ()
        (episode,) = fold(results("pffpp", family, f"{family}.x"), chosen, frozenset()).episodes
        assert episode.closed is None
        (episode,) = fold(results("pffppp", family, f"{family}.x"), chosen, frozenset()).episodes
        assert episode.closed == START + 5 * DAY


def test_an_incident_that_comes_back_is_about_what_broke_it_now() -> None:
    (episode,) = fold(results("fppw"), Policy(), frozenset()).episodes
    assert (episode.first, episode.since, str(episode.severity), episode.reopened) == (START, START + 3 * DAY, "warn", 1)
    assert [m.verdict for m in episode.members.values()] == ["warn"]
    assert len(fold(results("fpp" + "p" * 5 + "f"), Policy(), frozenset()).episodes) == 2, "long after its end it is another"


def test_what_is_not_refuted_stays_as_it_is() -> None:
    known = [Known(7, "quality", "fail", "open", START + DAY, START + DAY, None, (RULE,))]
    episodes = fold(results("pi"), Policy(), frozenset()).episodes
    assert [t.type for t in diff(episodes, known, START)[0]] == ["incident.withdrawn"]
    assert diff(episodes, known, START, frozenset({7}))[0] == []


def test_no_data_inhibits_the_window_and_a_missing_column_only_what_reads_it() -> None:
    rows = [
        RuleResult("service.no_data", "service", "warn"), RuleResult("quality.x", "quality", "fail"), RuleResult("drift", "drift", "warn"),
    ]
    assert [r.verdict for r in inhibit(rows)] == ["warn", "inhibited", "inhibited"]
    rows = [
        RuleResult("data.a", "data", "fail", column="a"), RuleResult("drift.psi[a]", "drift", "warn", column="a"),
        RuleResult("drift.psi[b]", "drift", "warn", column="b"), RuleResult("contract.a.required", "contract", "fail", column="a"),
    ]
    assert [r.verdict for r in inhibit(rows, ["a"])] == ["fail", "inhibited", "warn", "fail"]


# -- reminders

def announced(**changes: object) -> Announced:
    return replace(Announced("fail", START, START), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "after", "expected"),
    [
        ({}, 3.9, []), ({}, 4, [REMIND]), ({"severity": "warn"}, 23, []), ({"severity": "warn"}, 24, [REMIND]), ({"acked": True}, 100, []),
        ({"flapping": True}, 100, []), ({"reminders": 5, "reminded": START}, 23, []), ({"reminders": 5, "reminded": START}, 24, [DIGEST]),
        ({"reminders": 2, "reminded": START + 8 * HOUR}, 11, []), ({"reminders": 2, "reminded": START + 8 * HOUR}, 12, [REMIND]),
        ({"escalate_after": 30 * timedelta(minutes=1)}, 0.4, []), ({"escalate_after": 30 * timedelta(minutes=1)}, 0.5, [ESCALATE]),
        ({"escalate_after": HOUR, "escalated": True}, 2, []), ({"escalate_after": HOUR, "severity": "warn"}, 2, []),
        ({"escalate_after": HOUR, "acked": True}, 2, []), ({"escalate_after": HOUR, "flapping": True}, 9, [ESCALATE]),
        ({"said": START + 3 * HOUR}, 6, []), ({}, 24 * 30, [REMIND]),
    ],
)
def test_what_time_asks_for_of_an_open_incident(changes: dict[str, object], after: float, expected: list[str]) -> None:
    assert remind(announced(**changes), START + after * HOUR) == expected


# -- silences

def test_a_silence_names_author_reason_and_an_end_within_seven_days() -> None:
    silences.check(7 * DAY, "we know", "ann")
    for length, reason, author in ((8 * DAY, "x", "ann"), (timedelta(0), "x", "ann"), (HOUR, " ", "ann"), (HOUR, "x", "")):
        with pytest.raises(ConfigError):
            silences.check(length, reason, author)


def test_a_silence_covers_what_it_names_until_its_end() -> None:
    base = silences.Silence(1, "m", START, START + HOUR, "ann", "why")
    assert silences.silenced([base], "m", "drift", 3, START) is base
    assert silences.silenced([base], "m", "drift", 3, START + HOUR) is None
    assert silences.silenced([base], "other", "drift", 3, START) is None
    assert silences.silenced([replace(base, monitor="*")], "other", "drift", 3, START) is not None
    assert silences.silenced([replace(base, incident=4)], "m", "drift", 3, START) is None
    assert silences.silenced([replace(base, family="data")], "m", "drift", 3, START) is None


def test_at_the_end_of_a_silence_what_fires_is_sent_what_was_known_and_ended_too_and_the_rest_is_a_line() -> None:
    held = [silences.Held(1, 10, "a", 1), silences.Held(2, 10, "a", 2), silences.Held(3, 11, "a", 1), silences.Held(4, 11, "a", 2), silences.Held(5, 12, "a", 4)]
    found = silences.release(held, frozenset({10}), frozenset({(12, "a")}))
    assert (found.send, found.drop, found.passing) == ((1, 2, 5), (3, 4), (11,))


# -- scopes

def trouble(monitor: str, kind: str = "silent", **changes: object) -> Trouble:
    return replace(Trouble(1, monitor, kind.partition(" ")[0], kind, "fail"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "monitors", "expected"),
    [(["a", "b"], 4, ["silent"]), (["a"], 2, []), (["a", "a"], 2, []), (["a", "b"], 5, []), (["a", "b", "c"], 5, ["silent"])],
)
def test_half_of_the_monitors_and_at_least_two_make_it_the_sources_trouble(names: list[str], monitors: int, expected: list[str]) -> None:
    assert gathered([trouble(n) for n in names], monitors) == expected


def test_only_the_same_trouble_in_the_same_window_counts_together() -> None:
    assert kind_of("service", ["service.silence"], START) == kind_of("service", ["service.no_data"], START + DAY) == "silent"
    assert kind_of("contract", ["contract.x"], START) != kind_of("contract", ["contract.x"], START + DAY)
    assert kind_of("contract", ["contract.x"], START) != kind_of("quality", ["quality.x"], START)
    assert kind_of("service", ["service.latency_p95"], START) != "silent"
    assert (wait(HOUR), wait(timedelta(minutes=1))) == (timedelta(minutes=5), timedelta(minutes=1))


# -- messages

def waiting(sequence: int, kind: str, text: str) -> Waiting:
    return Waiting(sequence, START + sequence * HOUR, {"type": f"incident.{kind}", "data": {"incident": "INC-4", "sequence": sequence}}, text)


def test_messages_that_waited_are_one_that_says_what_it_covers() -> None:
    payload, text = coalesced([waiting(1, "fired", "FIRING m\n- temp is bad\nNext: x"), waiting(2, "updated", "UPDATE m"), waiting(3, "resolved", "RESOLVED m\nOwner: o.")])
    assert payload["type"] == "incident.resolved"
    assert payload["data"]["covers"] == [1, 2, 3]
    assert payload["data"]["delayed"]
    assert text == "RESOLVED m\nDelivered late, as one: fired 01:00Z, updated 02:00Z, resolved 03:00Z (2024-01-01).\n- temp is bad\nOwner: o."
    assert coalesced([waiting(1, "fired", "x")])[1] == "x"


def facts(**changes: object) -> messages.Facts:
    base = messages.Facts(
        "incident.fired", 7, 1, "fraud", "quality", "fail", "ops", "roc_auc of ALL: 0.61", Window(START, START + DAY), START, START + DAY,
        members=[RuleResult(RULE, "quality", "fail", 0.61, 0.58, 0.64, 941, reason="roc_auc of ALL: 0.61 (0.58 to 0.64) is below 0.7")],
        normal=["contract"], unknown=["drift (learning)"], rows=1000, versions={"v2": 1000}, live_since=("v2", START), tokens=2, runbook="https://wiki",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_message_is_readable_without_any_link() -> None:
    text = messages.text(facts(rollback_mode="approve", rollback={"from_version": "v2", "to_version": "v1", "state": "awaiting_approval", "detail": "approve with: x", "expires": "2024-01-02T01:00:00Z"}))
    for words in (
        "FIRING [fail] fraud: roc_auc of ALL: 0.61 (INC-7, message 1)", "firing since 2024-01-01T00:00:00Z", "0.61 (0.58 to 0.64) is below 0.7",
        "Rows in the window: 1,000", "v2 since 2024-01-01T00:00:00Z", "Cause: it began with the window in which v2 went live", "Normal: contract", "Not known: drift (learning)",
        "Rollback from v2 to v1: awaiting approval (approve with: x; until 2024-01-02T01:00:00Z)", "runbook https://wiki", "driftd ack INC-7", "driftd hold INC-7", "Owner: ops.",
    ):
        assert words in text, (words, text)


def test_fifty_columns_are_one_message_of_five_and_a_count() -> None:
    many = [RuleResult(f"drift.psi[c{k}]", "drift", "warn", reason=f"psi of c{k}") for k in range(50)]
    text = messages.text(facts(members=many))
    assert text.count("psi of c") == 5
    assert "and 45 more" in text
    assert len(messages.payload(facts(members=many))["data"]["members"]) == 5


@pytest.mark.parametrize(
    ("live", "since", "words"),
    [
        (("v2", START), START + 5 * HOUR, "5 h after v2 went live"), (("v2", START + DAY), START, "not v2: it went live only later"),
        (("v1", START - 30 * DAY), START, "not a new version: v1 has served since"), (("v1", None), START, "not a new version: v1 has served for a long time"),
    ],
)
def test_the_cause_is_said_as_far_as_times_tell(live: tuple[str, datetime | None], since: datetime, words: str) -> None:
    assert words in messages.cause(facts(live_since=live, since=since))


def test_the_withdrawal_of_an_alarm_that_was_followed_by_a_rollback_says_so() -> None:
    text = messages.text(facts(type="incident.withdrawn", rollback={"from_version": "v2", "to_version": "v1", "state": "verified"}))
    assert "A rollback had followed (verified): look whether v2 should serve again." in text


# -- rollback

def test_an_approval_is_bound_to_versions_and_proposal_but_not_to_the_time_that_bounds_it() -> None:
    data = {"incident": "INC-1", "from_version": "v2", "to_version": "v1", "not_after": None, "proposed_at": "t1"}
    assert payload_hash(data) == payload_hash({**data, "not_after": "later"})
    assert len({code_of(payload_hash({**data, **change})) for change in ({}, {"to_version": "v0"}, {"incident": "INC-2"}, {"proposed_at": "t2"})}) == 4


@pytest.mark.parametrize(
    ("after", "state"), [("ff", "no_effect"), ("pf", "no_effect"), ("pp", "effective"), ("p", ""), ("ii", ""), ("", ""), ("ipp", "effective")],
)
def test_a_rollback_is_effective_when_its_cause_is_gone_for_as_many_windows_as_clear(after: str, state: str) -> None:
    stream = results("ff" + after)
    assert effect(stream, (RULE,), START + 2 * DAY, 2, 50)[0] == state
    assert effect(stream, (RULE,), START + 2 * DAY, 2, 500)[0] == ""


def test_a_withdrawn_incident_does_not_swallow_the_next_one() -> None:
    withdrawn = Known(1, "quality", "fail", "withdrawn", START + DAY, START + DAY, None, (RULE,))
    episodes = fold(results("pppppf"), Policy(), frozenset()).episodes
    assert [t.type for t in diff(episodes, [withdrawn], START)[0]] == [FIRED]
    episodes = fold(results("pf"), Policy(), frozenset()).episodes
    assert [(t.type, t.why) for t in diff(episodes, [withdrawn], START)[0]] == [(UPDATED, "open again after late data")]


def test_what_goes_on_as_another_incident_ends_and_so_does_what_enough_good_windows_followed() -> None:
    one = Known(1, "quality", "fail", "open", START, START, None, (RULE,))
    two = Known(2, "quality", "fail", "open", START + 2 * DAY, START + 2 * DAY, None, (RULE,))
    merged = fold(results("fpf"), Policy(), frozenset()).episodes
    assert [(t.type, t.incident, t.why) for t in diff(merged, [one, two], START, frozenset({1, 2}))[0]] == [(RESOLVED, 2, "goes on as INC-1")]
    nothing = fold(results("ippp"), Policy(), frozenset()).episodes
    assert [(t.type, t.why) for t in diff(nothing, [one], START, frozenset({1}), frozenset({1}))[0]] == [(RESOLVED, "resolved")]
