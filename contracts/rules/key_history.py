"""keyHistory: keys that an earlier window had already, from small persistent digests."""

from __future__ import annotations

from contracts.model import Data, Observation, Rule
from contracts.query import KeyHistory, Query
from contracts.rules import RULES, Broken, RuleKind


@RULES.register("keyHistory")
class KeyHistoryRule(RuleKind):
    """Broken when keys of this window are in the digest of an earlier one.

    A digest keeps the keyed hashes of the keys that are lowest in hash order, at most 8192 of a window: the same keys in
    every window, so that what two windows share shows in both. Up to that many keys it is exact, beyond it an estimate.
    """

    def query(self, rule: Rule, data: Data) -> Query | None:
        return KeyHistory(rule.columns or (rule.column or "",), float(rule.argument["seconds"]), int(rule.argument["windows"]))

    def judge(self, rule: Rule, seen: Observation) -> Broken:
        answer = seen.answer
        if not answer["compared"]:
            return None
        share = answer["repeated"] / answer["compared"]
        if share <= rule.tolerance:
            return None
        bad = round(share * answer["keys"])
        about = "" if answer["exact"] else "about "
        text = f"{about}{bad:,} of {answer['keys']:,} keys were in an earlier window already"
        if answer["share"] >= 0.9:
            text = f"{answer['share']:.0%} of the keys are those of the window {answer['window']}: a re-delivered batch"
        return bad, {key: answer[key] for key in ("keys", "repeated", "compared", "window", "share")}, text
