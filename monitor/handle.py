"""A person's hand on an incident: what it shows is normal from now on, or was a false alarm."""

from __future__ import annotations

from typing import Any

from checks.calibration.names import CORRELATION, ROWS
from checks.core.errors import ConfigError
from checks.core.window import Window, iso
from monitor.alerting.incidents import RESOLVED
from monitor.announce import Announcer, Committed, reason_of
from monitor.pipeline import Pipeline
from monitor.store import incidents, runs
from monitor.store.store import audit

ACCEPTABLE = ("drift", "data")


def number_of(text: str) -> int:
    """The number in ``INC-3``, ``inc-3`` or ``3``."""
    digits = text.upper().removeprefix("INC-")
    if not digits.isdecimal():
        raise ConfigError(f"{text!r} is no incident; allowed is a number such as INC-3, see driftd incidents")
    return int(digits)


def accept(pipeline: Pipeline, text: str, columns: list[str], kind: str, author: str) -> dict[str, Any]:
    """Make the level that an open incident shows normal from the next window on, and close it; answers what was done.

    Of one that ended by itself there is no level to move: a false alarm then widens the limits only.

    Parameters
    ----------
    columns : only these; all without any.
    kind : ``accept``, or ``false-alarm``, which widens the chart's limits, too.
    """
    assert pipeline.store is not None
    number, now = number_of(text), pipeline.clock.now()
    with pipeline.store.read() as connection:
        row = next((r for r in incidents.listing(connection) if r.id == number), None)
    if row is None:
        raise ConfigError(f"there is no incident INC-{number}; see driftd incidents")
    if row.family not in ACCEPTABLE:
        raise ConfigError(
            f"INC-{number} is of family {row.family}: only {' and '.join(ACCEPTABLE)} incidents have a level that can be made normal; "
            f"change the rule or its limit instead"
        )
    if row.state == "withdrawn":
        raise ConfigError(f"INC-{number} was withdrawn: there is nothing to make normal")
    with pipeline.store.read() as connection:
        if any(a.incident_id == number for a in incidents.acceptances(connection, row.monitor)):
            raise ConfigError(f"INC-{number} was accepted already")
    if row.state != "open" and kind == "accept":
        raise ConfigError(
            f"INC-{number} is closed ({row.reason}): there is no level left to make normal; driftd false-alarm INC-{number} makes the "
            f"limits wider"
        )
    prepared = pipeline.prepare(row.monitor)
    known = {c["name"] for c in _columns(prepared.binning)} | {ROWS, CORRELATION}
    for name in columns:
        if name not in known:
            raise ConfigError(f"monitor {row.monitor} has no column {name!r}; allowed are {', '.join(sorted(known))}")
    held = {m["column"] for m in row.facts.get("members", []) if m.get("column")}
    held |= {name[6:-1] for name in row.members if name.startswith("drift[")}
    if columns and row.family == "data" and not held <= set(columns):
        raise ConfigError(f"INC-{number} is about {', '.join(sorted(held))}: a data incident is accepted with all of its columns")
    if columns and held and not held & set(columns):
        raise ConfigError(f"INC-{number} is not about {', '.join(columns)}; its columns are {', '.join(sorted(held))}")
    with pipeline.store.write() as connection:
        if any(a.incident_id == number for a in incidents.acceptances(connection, row.monitor)):
            raise ConfigError(f"INC-{number} was accepted already")  # by somebody else, in the meantime
        newest = runs.recent_runs(connection, row.monitor, since=row.first_window, limit=1)
        until = max(row.last_window, newest[0].start) if row.state == "open" and newest else row.closed_window or row.last_window
        incidents.accept(
            connection, monitor=row.monitor, incident_id=number, family=row.family, kind=kind, since=row.first_window, until=until,
            columns=columns or None, author=author, at=now,
        )
        body = {"incident": number, "columns": columns, "since": iso(row.first_window), "until": iso(until)}
        audit(connection, now, author, f"incident.{kind}", body)
        if row.state == "open":
            incidents.update(connection, number, state="closed", closed_at=now, closed_window=until, reason=reason_of(kind))
            window = Window(row.last_window, prepared.grid.at(row.last_window).end)
            Announcer(pipeline.config, prepared).announce(
                connection, number, RESOLVED, Committed(window, now, False), f"{reason_of(kind)} by {author}"
            )
    return {"incident": f"INC-{number}", "monitor": row.monitor, "kind": kind, "columns": columns or None, "since": iso(row.first_window), "was_open": row.state == "open"}


def _columns(binning: str) -> list[dict[str, Any]]:
    import json

    found: list[dict[str, Any]] = json.loads(binning)["columns"]
    return found
