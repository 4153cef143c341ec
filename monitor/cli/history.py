"""simulate, test: what history would have led to, and what faults in it would be found."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monitor.cli.edge import guarded, pipeline_of, print_json, table

Since = Annotated[str | None, typer.Option("--from", help="First window; else the monitor's start.")]
Until = Annotated[str | None, typer.Option("--to", help="First window not replayed; else everything that is closed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


MOST_LINES = 10


def _more(items: list[Any]) -> None:
    if len(items) > MOST_LINES:
        typer.echo(f"  and {len(items) - MOST_LINES} more; --json has them all")


@guarded
def simulate(
    context: typer.Context, monitor: str,
    budget: Annotated[str | None, typer.Option("--budget", help="Such as '1 per 30d'; else the configured one.")] = None,
    since: Since = None, until: Until = None, as_json: Json = False,
) -> None:
    """Replay history under a false-alarm budget: what would have been sent and when, and the smallest shifts that are found."""
    found = _history(context, monitor, budget, since, until, faults=False)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{monitor}: {found['windows']} windows judged under budget {found['budget']} ({found['state']})")
    typer.echo(
        f"{len(found['pages'])} drift incidents; the budget allows {found['allowed']:g}, at most {found['bound']:g} on any data; "
        f"noise alone would put {found['expected']:g} windows below the limit {found['alert_below']:g}, {found['below_limit']} were"
    )
    for page in found["pages"]:
        typer.echo(f"  {page['window']} {page['sentence']}")
    if found["watch"]:
        typer.echo(f"held back, as no token was left: {len(found['watch'])} windows")
        for item in found["watch"][:MOST_LINES]:
            typer.echo(f"  {item['window']} {item['sentence']}")
        _more(found["watch"])
    if found["data"]:
        typer.echo(f"outside the budget, structural breaks, volume and the model's own output: {len(found['data'])} windows")
        for item in found["data"][:MOST_LINES]:
            typer.echo(f"  {item['window']} {item['sentences'][0]}")
        _more(found["data"])
    rows = [
        {"column": s["column"], "unit": s["unit"], **{f"w{k}": "-" if v is None else v for k, v in s["within"].items()}, "wobble": s["wobble"]}
        for s in found["sensitivity"]
    ]
    if rows:
        typer.echo("smallest shift that is found half of the time (-: none up to 3 sd):")
        table(rows, {"column": "column", "w1": "within 1 window", "w3": "within 3", "w10": "within 10", "unit": "unit", "wobble": "natural variation"}, "")


@guarded
def inject(
    context: typer.Context, monitor: str, since: Since = None, until: Until = None, as_json: Json = False,
) -> None:
    """Inject faults into the monitor's own history, and print which are caught, after how many windows, by which check."""
    found = _history(context, monitor, None, since, until, faults=True)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{monitor}: faults begun at {', '.join(o[:10] for o in found['onsets'])} of {found['windows']} windows")
    rows = [
        {"fault": f["fault"], "column": f["column"], "caught": f"{f['caught']} of {f['tried']}",
         "windows": "-" if f["windows"] is None else str(f["windows"]), "by": ", ".join(f["by"])}
        for f in found["faults"]
    ]
    table(rows, {"fault": "fault", "column": "column", "caught": "caught", "windows": "after windows", "by": "by"}, "no windows")


def _history(context: typer.Context, name: str, budget: str | None, since: str | None, until: str | None, *, faults: bool) -> dict[str, Any]:
    from checks.core.errors import ConfigError
    from monitor.cli.evaluate import _has_store
    from monitor.config.types import parse_budget
    from monitor.ports import HistoryJob

    pipeline = pipeline_of(context, store=_has_store(context))
    config = pipeline.config.monitor(name)
    try:
        allowed = parse_budget(budget) if budget else config.drift.budget
    except ValueError as error:
        raise ConfigError(f"--budget: {error}") from None
    prepared = pipeline.prepare(name, save=False)
    grid = prepared.grid
    first = grid.parse_start(since).start if since else prepared.settings.start
    last = grid.parse_start(until).start if until else pipeline.newest_closed(prepared).end
    if last <= first:
        raise ConfigError(f"--from {first:%Y-%m-%d} is not before --to {last:%Y-%m-%d}: there is nothing to replay")
    begin = max(prepared.settings.reference_from, grid.back(grid.at(first), 2 * prepared.baseline_windows).start)
    begin = begin if config.reference.path is None else first
    windows = pipeline.past_profiles(prepared, begin, last)
    job = HistoryJob(config, prepared.settings, prepared.binning, windows, first, allowed, prepared.baseline_windows, faults)
    found: dict[str, Any] = pipeline.workers.run(job)
    return found


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(simulate)
    app.command(name="test")(inject)
