"""Desired state against what was announced: which transitions are due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.alerting.fold import Episode

FIRED, UPDATED, RESOLVED, WITHDRAWN = (
    "incident.fired", "incident.updated", "incident.resolved", "incident.withdrawn",
)


NO_WINDOW = ("service.error", "service.no_data")
WRONG = ("failed", "no_effect")


def over(payload: Mapping[str, Any]) -> bool:
    """Whether the incident that a message is on has ended, as far as the message knows."""
    return payload.get("type") in (RESOLVED, WITHDRAWN) or payload.get("data", {}).get("state") in ("closed", "withdrawn")


def went_wrong(payload: Mapping[str, Any]) -> bool:
    """Whether a message says that a rollback failed or did not help."""
    data = payload.get("data", {})
    return (data.get("rollback") or {}).get("state") in WRONG and str(data.get("why", "")).startswith("rollback")


@dataclass(frozen=True, slots=True)
class Known:
    """An incident as it was announced."""

    id: int
    family: str
    severity: str
    state: str
    first: datetime
    last: datetime
    closed: datetime | None
    members: tuple[str, ...]
    windows: int = 1


@dataclass(frozen=True, slots=True)
class Transition:
    """One thing to announce: of an incident that is known, or (``incident`` None) of a new one."""

    type: str
    incident: int | None
    episode: Episode | None
    why: str = ""


def diff(
    episodes: Sequence[Episode], known: Sequence[Known], since: datetime, unsure: frozenset[int] = frozenset(), over: frozenset[int] = frozenset(),
    lost: frozenset[int] = frozenset(),
) -> tuple[list[Transition], dict[int, Episode]]:
    """The transitions from the announced incidents to the desired ``episodes``, and which episode each incident is.

    An episode is the incident of its family that shares a window with it. An announced incident that began at or after
    ``since`` and has no episode any more is withdrawn, once. Those in ``unsure`` stay as they are: what fired them is not known
    now, on final labels or complete data; unless another incident goes on with their windows, or (``over``) enough good windows
    have come since. An open one from before ``since`` ends only with those, or (``lost``) when nothing is known of it for long.
    """
    transitions: list[Transition] = []
    matched: dict[int, Episode] = {}
    left = sorted(known, key=lambda k: k.first)
    for episode in sorted(episodes, key=lambda e: (e.first, e.family)):
        same = next((k for k in left if k.family == episode.family and _overlap(k, episode)), None)
        if same is None:
            transitions.append(Transition(FIRED, None, episode))
            if episode.closed is not None:
                transitions.append(Transition(RESOLVED, None, episode, episode.reason))
            continue
        left.remove(same)
        matched[same.id] = episode
        transitions += _of_known(same, episode)
    for gone in left:
        other = next((i for i, e in matched.items() if e.family == gone.family and e.first <= gone.last and gone.first <= (e.closed or e.last)), None)
        if gone.state == "open" and other is not None and gone.first >= since:
            transitions.append(Transition(RESOLVED, gone.id, None, f"goes on as INC-{other}"))
            continue
        if gone.id in unsure and gone.first >= since:
            if gone.state == "open" and gone.id in over:
                transitions.append(Transition(RESOLVED, gone.id, None, "resolved"))
            continue
        if gone.state != "withdrawn" and gone.first >= since:
            failed = gone.members and all(rule in NO_WINDOW for rule in gone.members)
            if not failed:
                transitions.append(Transition(WITHDRAWN, gone.id, None, "withdrawn after late data"))
            elif gone.state == "open":  # the window could not be read, and now it can
                transitions.append(Transition(RESOLVED, gone.id, None, "resolved"))
        elif gone.state == "open" and gone.id in over:
            transitions.append(Transition(RESOLVED, gone.id, None, "resolved"))
        elif gone.state == "open" and gone.id in lost:
            transitions.append(Transition(RESOLVED, gone.id, None, "expired"))
    return transitions, matched


def _overlap(known: Known, episode: Episode) -> bool:
    end = episode.closed or episode.last
    known_end = known.closed or known.last
    if known.state == "open" and known.closed is None and episode.closed is None:
        return True
    return known.first <= max(end, episode.last) and episode.first <= max(known_end, known.last)


def _of_known(known: Known, episode: Episode) -> list[Transition]:
    found: list[Transition] = []
    if known.state == "open":
        risen = known.severity == "warn" and str(episode.severity) == "fail"
        new = [rule for rule in episode.members if rule not in known.members]
        if risen:
            found.append(Transition(UPDATED, known.id, episode, "now fail"))
        elif new:
            found.append(Transition(UPDATED, known.id, episode, f"also {', '.join(r[6:-1] if r.startswith('drift[') else r for r in new[:5])}"))
        if episode.closed is not None:
            found.append(Transition(RESOLVED, known.id, episode, episode.reason))
    elif known.state in ("closed", "withdrawn") and episode.closed is None:
        again = "open again: it comes and goes" if episode.reopened else "open again after late data"
        found.append(Transition(UPDATED, known.id, episode, again))
    return found
