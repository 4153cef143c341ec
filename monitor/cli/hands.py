"""ack, hold, silence, silences, resolve: a person's hand on an incident; rollback approve, reject, stop, go."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from monitor.cli.edge import config_of, guarded, pipeline_of, print_json, store_of, table
from monitor.cli.incident import By, Incident, user
from monitor.cli.listing import Json, rollback

Reason = Annotated[str, typer.Option("--reason", help="Why, for the next person.")]


def _store(context: typer.Context) -> Any:
    return store_of(context)


def _now() -> Any:
    from monitor.clock import system_clock

    return system_clock().now()


@guarded
def ack(context: typer.Context, incident: Incident, by: By = None) -> None:
    """I am looking at it: no more reminders, no escalation. A rollback that is pending is named, and not stopped."""
    from monitor.hands import acknowledge

    typer.echo(acknowledge(_store(context), incident, by or user(), _now()))


@guarded
def hold(
    context: typer.Context, incident: Incident, by: By = None,
    release: Annotated[bool, typer.Option("--release", help="Lift the hold.")] = False,
) -> None:
    """Stop the rollback of an incident, and of its model's others, before it is sent."""
    from checks.core.errors import ConfigError
    from monitor.hands import hold as carry_out

    store, config = _store(context), None
    with contextlib.suppress(ConfigError):  # said already: a rollback is stopped all the same, and only nobody told
        config = config_of(context)
    typer.echo(carry_out(store, incident, by or user(), _now(), release=release, config=config))


@guarded
def silence(
    context: typer.Context, target: Annotated[str, typer.Argument(help="INC-3, a monitor's name, or all; with --end the silence's number.")],
    length: Annotated[str | None, typer.Option("--for", help="A duration such as 2h, at most 7d.")] = None, reason: Reason = "", by: By = None,
    maintenance: Annotated[bool, typer.Option("--maintenance", help="Stop rollbacks, too.")] = False,
    end: Annotated[bool, typer.Option("--end", help="End the silence of that number now.")] = False,
) -> None:
    """Let messages wait until an end; evaluation goes on. At the end one message says what still fires and changed."""
    from checks.core.errors import ConfigError
    from checks.core.window import parse_duration
    from monitor.hands import silence as begin
    from monitor.hands import unsilence

    if end:
        if not target.isdecimal():
            raise ConfigError(f"{target!r} is no silence; with --end give its number, see driftd silences")
        typer.echo(unsilence(_store(context), int(target), by or user(), _now()))
        return
    if length is None:
        raise ConfigError("a silence needs an end; give a duration such as 2h with --for, at most 7d")
    config = config_of(context)
    typer.echo(begin(_store(context), config, target, parse_duration(length), reason, by or user(), _now(), maintenance=maintenance))


@guarded
def silences(context: typer.Context, as_json: Json = False) -> None:
    """Silences and maintenance, newest first."""
    from checks.core.window import iso
    from monitor.store import silences as stored

    now = _now()
    with _store(context).read() as connection:
        rows = [
            {
                "id": r.id, "what": r.kind, "monitor": "all" if r.monitor == "*" else r.monitor, "incident": f"INC-{r.incident_id}" if r.incident_id else None,
                "until": iso(r.ends_at.replace(microsecond=0)), "state": "over" if r.ended_at or r.ends_at <= now else "lasts", "author": r.author, "reason": r.reason,
            }
            for r in stored.listing(connection)
        ]
    if as_json:
        print_json(rows)
        return
    table(rows, {"id": "id", "what": "what", "monitor": "monitor", "incident": "incident", "until": "until", "state": "state", "author": "by", "reason": "reason"}, "no silences")


@guarded
def resolve(context: typer.Context, incident: Incident, reason: Reason = "", by: By = None) -> None:
    """Close an incident by hand; a later breach opens a new one."""
    from monitor.hands import resolve as carry_out

    typer.echo(carry_out(pipeline_of(context), incident, by or user(), reason))


@rollback.command(name="approve")
@guarded
def approve(
    context: typer.Context, incident: Incident, code: Annotated[str, typer.Argument(help="The code that the message and rollback list show.")],
    by: By = None,
) -> None:
    """Approve just the rollback that was proposed; the guards are asked again."""
    from monitor.hands import approve as carry_out

    typer.echo(carry_out(pipeline_of(context), incident, code, by or user()))


@rollback.command(name="reject")
@guarded
def reject(context: typer.Context, incident: Incident, reason: Reason = "", by: By = None) -> None:
    """Refuse a rollback for good."""
    from monitor.hands import reject as carry_out

    typer.echo(carry_out(pipeline_of(context), incident, by or user(), reason))


@rollback.command(name="stop")
@guarded
def stop(context: typer.Context, by: By = None) -> None:
    """Stop every rollback of every model, until rollback go."""
    from monitor.hands import stop_rollbacks

    typer.echo(stop_rollbacks(_store(context), by or user(), _now()))


@rollback.command(name="go")
@guarded
def go(context: typer.Context, by: By = None) -> None:
    """Let rollbacks be sent again."""
    from monitor.hands import stop_rollbacks

    typer.echo(stop_rollbacks(_store(context), by or user(), _now(), config_of(context)))


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (ack, hold, silence, silences, resolve):
        app.command()(command)
