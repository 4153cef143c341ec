"""check, backfill, report."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monitor.cli.contract import print_skipped
from monitor.cli.edge import BREACH, OK, UNKNOWN, guarded, pipeline_of, print_json

CODES = {"pass": OK, "warn": BREACH, "fail": BREACH}


@guarded
def check(
    context: typer.Context, monitor: str,
    window: Annotated[str | None, typer.Option("--window", help="The window's start, a date or a time; else the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate one window now and store nothing. Exit 0 pass, 1 warn or fail, 3 could not know."""
    pipeline = pipeline_of(context, store=_has_store(context))
    pipeline.config.monitor(monitor)
    prepared = pipeline.prepare(monitor, save=False)
    found = pipeline.check(monitor, prepared.grid.parse_start(window) if window else None)
    if as_json:
        print_json(found)
    else:
        _print_check(found)
    raise typer.Exit(CODES.get(_verdict(found), UNKNOWN))


def _has_store(context: typer.Context) -> bool:
    """Whether the store is there already: a check must not make one."""
    from pathlib import Path

    from monitor.cli.edge import config_of
    from monitor.store.engine import open_engine

    url = open_engine(config_of(context).store).url
    return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()


def _verdict(found: dict[str, Any]) -> str:
    """The verdict for the exit code: labels that have not come yet do not make a pass unknown."""
    return str(found["verdict"])


def _print_check(found: dict[str, Any]) -> None:
    typer.echo(f"{found['monitor']} {found['window']['start']} to {found['window']['end']}: {found['verdict']}, {found['rows']:,} rows")
    if found.get("error"):
        typer.echo(f"  error: {found['error']}")
    contract, drift, quality = found["contract"], found["drift"], found["quality"]
    if contract:
        typer.echo(f"  contract {contract['verdict']}: {contract['rules']['executed']} of {contract['rules']['total']} rules executed")
        for violation in contract["violations"]:
            typer.echo(f"    {violation['verdict']} {violation['rule']}: {violation['reason']}; promised: {violation['threshold']}")
            if violation["cause"]:
                typer.echo(f"      suspected: {violation['cause']['sentence']}")
        print_skipped(contract["not_evaluated"], "    ")
    if found["data"]:
        typer.echo(f"  data {found['data']['verdict']}")
        for finding in found["data"]["findings"]:
            typer.echo(f"    {finding['verdict']} {finding['sentence']}")
    if drift:
        typer.echo(f"  drift {drift['verdict']}{' (' + drift['state'] + ')' if drift['state'] else ''}: {drift['sentence']}")
        if drift.get("note"):
            typer.echo(f"    {drift['note']}")
    if quality:
        _print_quality(quality)
    if found["service"]:
        typer.echo(f"  service {found['service']['verdict']}")


def _print_quality(quality: dict[str, Any]) -> None:
    state = "no labels" if quality["state"] == "unlabelled" else f"{quality['state']}, {quality['labelled']:.0%} labelled"
    typer.echo(f"  quality {quality['verdict']} ({state})" + (f": {quality['reason']}" if quality.get("reason") else ""))
    for row in quality["metrics"]:
        shown = row["slice"] == "ALL" or row["verdict"] in ("warn", "fail", "error")
        if shown and row["value"] is not None:
            name = ("estimated " if row["estimated"] else "") + row["metric"] + ("" if row["slice"] == "ALL" else f" of {row['slice']}")
            span = "" if row["low"] is None or row["high"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
            typer.echo(f"    {row['verdict']} {name} {row['value']:.4g}{span}")
        elif shown and row.get("reason"):
            typer.echo(f"    {row['verdict']} {row['metric'] if row['slice'] == 'ALL' else 'slice ' + row['slice']}: {row['reason']}")
    for name, figure in quality.get("kpis", {}).items():
        value = "unknown" if figure["value"] is None else f"{figure['value']:,.6g}"
        typer.echo(f"    {figure['verdict']} {name} {value}" + (f": {figure['reason']}" if figure.get("reason") else ""))
    if (quality.get("parity") or {}).get("reason"):
        typer.echo(f"    {quality['parity']['verdict']} parity: {quality['parity']['reason']}")
    for row in (quality.get("parity") or {}).get("columns", []):
        if row["verdict"] != "pass":
            typer.echo(f"    {row['verdict']} parity of {row['column']}: " + ("unknown" if row["share"] is None else f"{row['share']:.2%} of {row['n']:,} rows differ"))
    for note in quality.get("notes", []):
        typer.echo(f"    {note}")


@guarded
def backfill(
    context: typer.Context, monitor: str,
    since: Annotated[str | None, typer.Option("--from", help="First window; else the monitor's start.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="First window not evaluated; else everything that is closed.")] = None,
    notify: Annotated[bool, typer.Option("--notify", help="Open incidents and send messages, too.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Windows that have a run, too: read their rows again.")] = False,
    from_profiles: Annotated[bool, typer.Option(
        "--from-profiles", help="Judge evaluated windows anew from their stored profiles, without reading a row: after a changed "
        "threshold, budget or metric.")] = False,
) -> None:
    """Evaluate past windows that have no run yet, with a progress bar; sends nothing without --notify."""
    from rich.console import Console
    from rich.progress import Progress

    from checks.core.errors import ConfigError, PlanChanged
    from checks.core.window import iso
    from monitor.store import runs

    pipeline = pipeline_of(context)
    if again and from_profiles:
        raise ConfigError("--again reads the rows, --from-profiles does not: take one of them")
    prepared = pipeline.prepare(monitor)
    grid = prepared.grid
    first = grid.parse_start(since).start if since else prepared.settings.start
    last = grid.parse_start(until).start if until else pipeline.newest_closed(prepared).end
    assert pipeline.store is not None
    with pipeline.store.read() as connection:
        done = runs.evaluated_starts(connection, monitor, first)
    windows = list(grid.between(first, last))
    if from_profiles:
        windows = [w for w in windows if w.start in done and done[w.start][1] is None]
    elif not again:
        windows = [w for w in windows if w.start not in done or done[w.start][1] is not None]
    verdicts: dict[str, int] = {}
    refused: list[str] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(monitor, total=len(windows))
        for window in windows:
            try:
                stored = pipeline.stored(prepared, window) if from_profiles else None
                verdict = pipeline.evaluate(monitor, window, notify=notify, stored=stored)
            except PlanChanged as error:
                verdict = "need their rows"
                refused.append(str(error))
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
            progress.update(task, advance=1, description=f"{monitor} {iso(window.start)[:10]}")
    words = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "nothing to do"
    typer.echo(f"{monitor}: {len(windows)} windows: {words}")
    for line in refused[:3]:
        typer.echo(line, err=True)
    if len(refused) > 3:
        typer.echo(f"and {len(refused) - 3} more", err=True)
    if verdicts.get("error") or refused:
        raise typer.Exit(UNKNOWN)


@guarded
def report(
    context: typer.Context, monitor: str,
    window: Annotated[str | None, typer.Option("--window", help="The window's start; else the newest evaluated one.")] = None,
    evidently: Annotated[bool, typer.Option("--evidently", help="Evidently's drill-down on a sample, too.")] = False,
) -> None:
    """Write the HTML report of an evaluated window."""
    from checks.core.errors import StoreError
    from monitor.app import put, write_report
    from monitor.ports import EvidentlyJob
    from monitor.store import runs

    pipeline = pipeline_of(context)
    prepared = pipeline.prepare(monitor)
    assert pipeline.store is not None
    if window is None:
        with pipeline.store.read() as connection:
            newest = runs.recent_runs(connection, monitor, limit=1)
        if not newest:
            raise StoreError(f"monitor {monitor}: no window has been evaluated yet; see driftd backfill {monitor}")
        chosen = prepared.grid.at(newest[0].start)
    else:
        chosen = prepared.grid.parse_start(window)
    typer.echo(str(write_report(pipeline, monitor, chosen)))
    if evidently:
        html = pipeline.workers.run(EvidentlyJob(prepared.monitor, prepared.settings, chosen))
        name = f"evidently-{chosen.start:%Y-%m-%dT%H%MZ}.html"
        typer.echo(str(put(pipeline.config.reports.path / monitor / name, html)))


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(check)
    app.command()(backfill)
    app.command()(report)
