"""reference build, reference show."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monitor.cli.edge import guarded, pipeline_of, print_json

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
    from checks.core.profile import Binning, Profile
    from checks.core.window import format_duration, iso
    from monitor.config.types import format_budget
    from monitor.store import runs

    pipeline = pipeline_of(context)
    prepared = pipeline.prepare(monitor)
    assert pipeline.store is not None
    binning = Binning.from_json(prepared.binning)
    with pipeline.store.read() as connection:
        now = pipeline.clock.now()
        windows = runs.baseline(connection, monitor, prepared.binning_hash, now, 10_000, [])
    rows = Profile.from_bytes(prepared.reference, binning).rows
    count = min(len(windows), prepared.baseline_windows)
    per_window = prepared.monitor.drift.budget.per(prepared.grid.size)
    supported = per_window >= 1 / (2 * count) if count else False
    found: dict[str, Any] = {
        "monitor": monitor, "binning": prepared.binning_hash, "rows": rows, "window": format_duration(prepared.grid.size),
        "from": iso(prepared.settings.reference_from), "to": iso(prepared.settings.reference_to), "windows": len(windows),
        "budget": format_budget(prepared.monitor.drift.budget), "budget_supported": supported,
        "state": "ready" if count >= 28 else "learning",
        "columns": [{"name": c.name, "kind": c.kind, "role": c.role, "bins": c.bins} for c in binning.columns],
    }
    if as_json:
        print_json(found)
        return
    typer.echo(f"{monitor}: binning {found['binning']} from {rows:,} rows of {found['from']} to {found['to']}")
    typer.echo(f"{len(windows)} windows of {found['window']} known; the newest {count} are the baseline: {found['state']}")
    words = "supported" if supported else f"extrapolated from {count} windows: honoured, but not proved by them"
    typer.echo(f"budget {found['budget']}: {words}")
    for column in found["columns"]:
        typer.echo(f"  {column['name']:<24} {column['kind']:<9} {column['role']:<11} {column['bins']} bins")


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(reference, name="reference")
