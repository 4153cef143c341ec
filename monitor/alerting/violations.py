"""A window's violations beside those of the window before: new, ongoing, resolved, and whether the contract changed between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def beside(section: Mapping[str, Any], before: Mapping[str, Any] | None, window: str) -> dict[str, Any]:
    """``section`` with the ``state`` of every violation, the rules ``resolved`` since, and ``changed`` where the contract is
    another one than in the window before, which starts at ``window``."""
    old = {v["rule"]: v for v in (before or {}).get("violations", [])}
    violations = []
    for violation in section["violations"]:
        known = old.get(violation["rule"])
        since = {"since": known.get("since") or window} if known else {}
        violations.append({**violation, "state": "ongoing" if known else "new", **since})
    here = {v["rule"] for v in violations} | {n["rule"] for n in section["not_evaluated"]}
    found = {**section, "violations": violations, "resolved": [rule for rule in old if rule not in here]}
    then, now = (before or {}).get("contract"), section["contract"]
    if then and then.get("hash") != now["hash"]:
        keys = ("id", "version", "hash")
        found["changed"] = {"from": {k: then.get(k) for k in keys}, "to": {k: now[k] for k in keys}, "after": window}
    return found


def change_sentence(change: Mapping[str, Any]) -> str:
    """When the contract changed, in words."""
    before, after = change["from"], change["to"]
    versions = f"from version {before['version']} to {after['version']}"
    if before["version"] == after["version"]:
        versions = f"within version {after['version']}, {str(before['hash'])[7:15]} to {str(after['hash'])[7:15]}"
    return f"the contract changed {versions} with the window {change['window']}"
