"""status, incidents, runs, rollback list: what the store knows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monitor.cli.edge import config_of, guarded, print_json, store_of, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
rollback = typer.Typer(help="Rollbacks and their guards.", no_args_is_help=True)


def _store(context: typer.Context) -> Any:
    return store_of(context)


@guarded
def status(context: typer.Context, as_json: Json = False) -> None:
    """Per monitor: the newest window, its verdict, open incidents."""
    from monitor.clock import system_clock
    from monitor.web.overview import notices, overview

    config = config_of(context)
    from monitor.store.store import Store

    store = Store(config.store)
    rows = overview(store, config)
    if as_json:
        print_json(rows)
        return
    columns = {"monitor": "monitor", "verdict": "verdict", "window": "newest window", "rows": "rows", "windows": "windows",
               "open": "open incidents", "owner": "owner"}
    table([{**row, "open": ", ".join(row["open"])} for row in rows], columns, "no monitors")
    for text in notices(store, config, system_clock().now()):
        typer.echo(text)


@guarded
def incidents(
    context: typer.Context, incident: Annotated[str | None, typer.Argument(help="One, such as INC-3: all that happened to it.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="open, closed or withdrawn.")] = None, as_json: Json = False,
) -> None:
    """Incidents, newest first; or one with its messages, who did what, and its rollback."""
    from monitor.web.overview import incident_rows

    if incident is not None:
        _one(context, incident, as_json)
        return
    rows = incident_rows(_store(context), state)
    if as_json:
        print_json(rows)
        return
    columns = {"id": "incident", "monitor": "monitor", "family": "family", "severity": "severity", "state": "state",
               "opened_at": "opened", "windows": "windows", "headline": "headline"}
    table(rows, columns, "no incidents")


def _one(context: typer.Context, incident: str, as_json: bool) -> None:
    from checks.core.errors import ConfigError
    from monitor.handle import number_of
    from monitor.web.incident import incident_detail

    found = incident_detail(_store(context), number_of(incident))
    if found is None:
        raise ConfigError(f"there is no incident INC-{number_of(incident)}; see driftd incidents")
    if as_json:
        print_json(found)
        return
    ended = f", {found['state']} {found['closed_at'] or ''} ({found['reason']})" if found["state"] != "open" else ", open"
    typer.echo(f"{found['id']} [{found['severity']}] {found['monitor']}: {found['headline']}")
    typer.echo(f"family {found['family']}, owner {found['owner']}, windows {found['first_window']} to {found['last_window']}{ended}")
    typer.echo(f"acknowledged by {found['acked_by']}" if found["acked_by"] else "acknowledged by nobody")
    if found["rollback"] is not None:
        r = found["rollback"]
        typer.echo(f"rollback from {r['from_version'] or '?'} to {r['to_version'] or '?'}: {r['state'].replace('_', ' ')}; {r['detail']}")
    typer.echo("")
    rows = [{**t, "what": t["what"] + (f" (message {t['sequence']})" if t["sequence"] else "")} for t in found["timeline"]]
    table(rows, {"at": "when", "what": "what", "by": "by", "detail": "why"}, "nothing was announced")
    typer.echo("")
    table(found["deliveries"], {"sequence": "message", "destination": "to", "state": "state", "attempts": "tries", "at": "sent", "error": "error"}, "no messages")
    newest = next((t["text"] for t in reversed(found["timeline"]) if t["text"]), "")
    if newest:
        typer.echo(f"\n{newest}")


@guarded
def runs(
    context: typer.Context, monitor: Annotated[str | None, typer.Argument(help="Only this monitor.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many.")] = 1000, as_json: Json = False,
) -> None:
    """Evaluated windows, newest first."""
    from monitor.web.overview import run_rows

    if monitor is not None:
        config_of(context).monitor(monitor)
    rows = run_rows(_store(context), monitor, limit)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["start"] = row["window"]["start"]
    columns = {"monitor": "monitor", "start": "window", "revision": "revision", "verdict": "verdict", "rows": "rows", "seconds": "seconds"}
    table(rows, columns, "no windows have been evaluated")


def _rollbacks(context: typer.Context) -> list[dict[str, Any]]:
    from checks.core.window import iso
    from monitor.store import incidents as stored

    with _store(context).read() as connection:
        return [
            {
                "id": r.id, "incident": f"INC-{r.incident_id}", "monitor": r.monitor, "mode": r.mode, "state": r.state,
                "from_version": r.from_version, "to_version": r.to_version, "guards": r.guards, "detail": r.detail, "decided_by": r.decided_by or None,
                "code": r.payload_hash[:8] if r.state == "awaiting_approval" else None, "posts": r.posts,
                "until": iso(r.expires_at.replace(microsecond=0)) if r.state == "awaiting_approval" and r.expires_at else None,
            }
            for r in stored.rollbacks(connection)
        ]


@rollback.command(name="list")
@guarded
def rollback_list(context: typer.Context, as_json: Json = False) -> None:
    """Every rollback that was decided or blocked."""
    rows = _rollbacks(context)
    if as_json:
        print_json(rows)
        return
    columns = {"id": "id", "incident": "incident", "monitor": "monitor", "mode": "mode", "state": "state", "from_version": "from",
               "to_version": "to", "until": "until", "detail": "detail"}
    table(rows, columns, "no rollbacks", most=300)


@rollback.command(name="why-not")
@guarded
def why_not(context: typer.Context, incident: Annotated[str, typer.Argument(help="Such as INC-3.")]) -> None:
    """The guards of an incident's rollback."""
    from checks.core.errors import ConfigError
    from monitor.handle import number_of

    incident = f"INC-{number_of(incident)}"
    found = [r for r in _rollbacks(context) if r["incident"] == incident]
    if not found:
        raise ConfigError(f"{incident}: no rollback was considered; it is for fails of quality or service, of drift of the predictions, and for violations on prediction, score or version")
    table([{**g, "passed": "yes" if g["passed"] else "no"} for g in found[0]["guards"]],
          {"name": "guard", "passed": "passed", "detail": "detail"}, "no guards", most=1000)
    row = found[0]
    typer.echo(f"from {row['from_version'] or '?'} to {row['to_version'] or '?'}: {row['state'].replace('_', ' ')}; {row['detail']}")


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(status)
    app.command()(incidents)
    app.command()(runs)
    app.add_typer(rollback, name="rollback")
