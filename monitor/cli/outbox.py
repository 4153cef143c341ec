"""outbox list, replay: messages that wait, and dead letters."""

from __future__ import annotations

from typing import Annotated

import typer

from monitor.cli.edge import guarded, print_json, store_of, table
from monitor.cli.incident import By, user
from monitor.cli.listing import Json

outbox = typer.Typer(help="Messages that wait, and dead letters.", no_args_is_help=True)
STATES = ("pending", "leased", "held", "sent", "dead", "cancelled", "unknown")


@outbox.command(name="list")
@guarded
def list_(
    context: typer.Context, state: Annotated[str | None, typer.Option("--state", help="Only of this state: " + ", ".join(STATES) + "; else all that is not sent.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 200, as_json: Json = False,
) -> None:
    """Messages that are not delivered yet, and those that never will be, newest first; and destinations that do not work."""
    from checks.core.errors import ConfigError
    from checks.core.window import iso
    from monitor.store import destinations
    from monitor.store import outbox as stored

    if state is not None and state not in STATES:
        raise ConfigError(f"{state!r} is no state of a message; allowed are {', '.join(STATES)}")
    store = store_of(context)
    with store.read() as connection:
        found = stored.listing(connection, (state,) if state else ("pending", "leased", "held", "dead", "unknown"), limit)
        shut = [r for r in destinations.all_of(connection) if r.failures or r.disabled_at]
    store.close()
    rows = [
        {
            "id": r.id, "incident": f"INC-{r.incident_id}" if r.incident_id else None, "sequence": r.sequence, "destination": r.destination,
            "kind": r.kind, "state": r.state, "attempts": r.attempts, "next": iso(r.next_at.replace(microsecond=0)) if r.state == "pending" else None,
            "key": r.key, "waits_for": r.held_by or None, "covered_by": r.covered_by or None, "error": r.error,
        }
        for r in found
    ]
    if as_json:
        print_json(rows)
        return
    table(rows, {"id": "id", "incident": "incident", "sequence": "message", "destination": "destination", "state": "state", "attempts": "tries", "next": "next try", "error": "error"}, "no message waits and none is dead")
    for r in shut:
        what = "switched off" if r.disabled_at else f"failed {r.failures} times in a row"
        typer.echo(f"channel {r.name}: {what}: {r.reason}" + (f"; driftd channel test {r.name} switches it on again" if r.disabled_at else ""))


@outbox.command(name="replay")
@guarded
def replay(
    context: typer.Context, number: Annotated[int | None, typer.Argument(help="The id of one dead letter; else all.")] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Only those of this channel.")] = None, by: By = None,
) -> None:
    """Send dead letters again, under the ids that they had; the daemon does it with its next tick."""
    from checks.core.errors import ConfigError
    from monitor.clock import system_clock
    from monitor.store import outbox as stored
    from monitor.store.store import audit

    store, now = store_of(context), system_clock().now()
    with store.read() as connection:
        off = sorted(stored.dead_of_switched_off(connection, number, channel))
    if off:
        raise ConfigError(f"channel {off[0]} is switched off: they would be dead again at once; mend it, then driftd channel test {off[0]} switches it on again")
    with store.write() as connection:
        count = stored.replay(connection, number, channel, now)
        audit(connection, now, by or user(), "outbox.replay", {"id": number, "channel": channel, "messages": count})
    store.close()
    if number is not None and not count:
        raise ConfigError(f"message {number} is no dead letter; see driftd outbox list --state dead")
    typer.echo(f"{count} message{'' if count == 1 else 's'} will be sent again")


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(outbox, name="outbox")
