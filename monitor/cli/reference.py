"""reference build, reference show."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monitor.cli.edge import guarded, pipeline_of, print_json, table

reference = typer.Typer(help="The binning and the baseline of a monitor.", no_args_is_help=True)


@reference.command()
@guarded
def build(context: typer.Context, monitor: str) -> None:
    """Freeze the binning and profile the reference windows again."""
    prepared = pipeline_of(context).prepare(monitor, rebuild=True)
    typer.echo(f"{monitor}: binning {prepared.binning_hash}, {sum(1 for p in prepared.profiled if p.rows)} reference windows")


@reference.command()
@guarded
def show(context: typer.Context, monitor: str, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what the baseline holds and which budget it supports."""
    from checks.core.window import format_duration, iso
    from monitor.config.types import format_budget
    from monitor.ports import NormalJob

    pipeline = pipeline_of(context)
    prepared = pipeline.prepare(monitor)
    history = pipeline.history(prepared, prepared.grid.at(pipeline.clock.now()))
    normal = pipeline.workers.run(NormalJob(prepared.monitor, prepared.settings, prepared.binning, prepared.reference, history.baseline))
    count = len(history.baseline)
    per_window = prepared.monitor.drift.budget.per(prepared.grid.size)
    supported = bool(count) and per_window >= 1 / (2 * count)
    found: dict[str, Any] = {
        "monitor": monitor, "binning": prepared.binning_hash, "window": format_duration(prepared.grid.size),
        "from": iso(prepared.settings.reference_from), "to": iso(prepared.settings.reference_to), "windows": count,
        "budget": format_budget(prepared.monitor.drift.budget), "budget_supported": supported,
        "smallest_budget": f"1 per {format_duration(prepared.grid.size * max(round(2 * count), 1))}", **normal,
    }
    if as_json:
        print_json(found)
        return
    typer.echo(f"{monitor}: binning {found['binning']} from {found['rows']:,} rows of {found['from']} to {found['to']}")
    typer.echo(f"{count} windows of {found['window']} are the baseline, worth {found['effective']:g} independent ones: {found['state']}")
    words = "supported" if supported else f"extrapolated from {count} windows: honoured, but not proved by them"
    typer.echo(f"budget {found['budget']}: {words}; the baseline supports budgets from {found['smallest_budget']} up")
    typer.echo(f"season {found['seasonality']}: found in {found['seasonal']:.0%} of the variation; trend in {found['trend']:.0%}; "
               f"{found['contrasts']} contrasts, worth {found['chances']:g} independent chances of alarm")
    table(
        found["columns"], {"name": "column", "kind": "kind", "role": "role", "bins": "bins", "natural": "natural variation",
                           "carry": "memory", "season": "season"}, "no columns",
    )


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(reference, name="reference")
