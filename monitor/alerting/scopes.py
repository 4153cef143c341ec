"""When the trouble is the source's and not one monitor's: half of its monitors, in the same way, at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

GROUP_INTERVAL = timedelta(minutes=5)
SHARE = 0.5
SILENT = "silent"
NOTHING_COMES = ("service.silence", "service.no_data", "service.error", "service.unwatched")
QUIET_WINDOWS = 2
"""Windows without an open incident of its monitors after which a source's incident ends."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An open incident of a monitor: ``kind`` says what it has in common with others."""

    incident: int
    monitor: str
    family: str
    kind: str
    severity: str
    parent: int | None = None


def kind_of(family: str, rules: Sequence[str], began: datetime) -> str:
    """What incidents of one source have in common: silence at any time; of everything else, the family and the window it began with."""
    if family == "service" and any(r in NOTHING_COMES for r in rules):
        return SILENT
    return f"{family} {began:%Y-%m-%dT%H:%MZ}"


def shown(kind: str) -> str:
    """A kind of trouble in words."""
    family, _, began = kind.partition(" ")
    return f"{family} since {began}" if began else "silence"


def gathered(troubles: Sequence[Trouble], monitors: int) -> list[str]:
    """The kinds of trouble that at least half of a source's ``monitors``, and at least two, have."""
    names: dict[str, set[str]] = {}
    for trouble in troubles:
        names.setdefault(trouble.kind, set()).add(trouble.monitor)
    return [kind for kind, found in names.items() if len(found) >= 2 and len(found) >= SHARE * monitors]


def headline(source: str, troubles: Sequence[Trouble], monitors: int) -> str:
    """What a source's incident says in one line."""
    names = {t.monitor for t in troubles}
    if len(names) == 1:
        return f"of the {monitors} monitors on {source} that were in trouble at once, {next(iter(names))} still is"
    families = sorted({"silence" if t.kind == SILENT else t.family for t in troubles})
    return f"{len(names)} of the {monitors} monitors on {source} are in trouble at once ({', '.join(families)}): look at the source, not at the models"


def wait(size: timedelta) -> timedelta:
    """How long a monitor that shares its source waits for the others: five minutes, at most a window."""
    return min(GROUP_INTERVAL, size)
