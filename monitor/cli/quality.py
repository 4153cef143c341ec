"""compare, weakest, deployments, reproduce: what one asks of versions, slices and runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from checks.core.errors import ConfigError
from monitor.cli.edge import BREACH, OK, guarded, pipeline_of, print_json, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MOST_SPANS = 31


@guarded
def compare(
    context: typer.Context, monitor: str, v1: str, v2: str,
    metric: Annotated[str | None, typer.Option("--metric", help="accuracy, precision, recall, specificity, log_loss, brier or mae.")] = None,
    margin: Annotated[float, typer.Option("--margin", help="A difference up to this is none: of a share in points, of a loss in parts of it.")] = 0.01,
    since: Annotated[str | None, typer.Option("--from", help="First window; else the first that both served.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="First window that does not count; else the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Compare version V2 with V1 on the windows that both served. Exit 0 better or equivalent, 1 worse or undecided."""
    from monitor.ports import CompareJob
    from monitor.store import deployments

    pipeline = pipeline_of(context)
    config = pipeline.config.monitor(monitor)
    if config.columns.version is None:
        raise ConfigError(f"monitor {monitor}: columns.version is not named; without it there are no versions to compare")
    if config.labels is None:
        raise ConfigError(f"monitor {monitor} has no labels: versions are compared by what turned out to be true")
    if v1 == v2 or not 0 <= margin < 1:
        raise ConfigError("two different versions are needed, and a margin from 0 to below 1")
    prepared = pipeline.prepare(monitor)
    assert pipeline.store is not None
    first = prepared.grid.parse_start(since).start if since else prepared.settings.start
    last = prepared.grid.parse_start(until).start if until else None
    with pipeline.store.read() as connection:
        windows = deployments.label_counts(connection, monitor, first, last)
        known = deployments.known_versions(connection, monitor)
    for version in (v1, v2):
        if version not in known:
            raise ConfigError(f"monitor {monitor}: no evaluated window has a version {version!r}; known are {', '.join(sorted(known)) or 'none'}")
    spans = tuple(prepared.grid.at(start) for start, _ in windows[-MOST_SPANS:])
    found = pipeline.workers.run(CompareJob(config, prepared.settings, v1, v2, windows, metric, margin, spans))
    if as_json:
        print_json(found)
    else:
        _print_comparison(monitor, found)
    raise typer.Exit(OK if found["verdict"] in ("better", "equivalent") else BREACH)


def _print_comparison(monitor: str, found: dict[str, Any]) -> None:
    v1, v2 = found["first_version"], found["second_version"]
    typer.echo(f"{monitor}: {v2} is {found['verdict']} by {found['metric']} against {v1}: {found['reason']}")
    how = "the same rows predicted by both" if found["paired"] else f"{found['rows'][0]:,} rows of {v1} and {found['rows'][1]:,} of {v2}"
    windows = f"{found['windows']} window{'' if found['windows'] == 1 else 's'}"
    typer.echo(f"  {windows} that both served, {how}; evidence {found['evidence']:.3g} (100 decides, however often one looks)")
    if not found["windows"]:
        served = found["served"]
        typer.echo(f"  {v1} served {served[v1]} windows and {v2} {served[v2]}, none together: what changed from day to day cannot be told from the version")
    delong = found.get("delong")
    if delong:
        typer.echo(
            f"  ROC AUC on {delong['rows']:,} rows: {delong['second']:.4g} against {delong['first']:.4g}, difference {delong['low']:.3g} to "
            f"{delong['high']:.3g} (paired DeLong, 95%, for one look)"
        )


@guarded
def weakest(
    context: typer.Context, monitor: str,
    window: Annotated[str | None, typer.Option("--window", help="The window's start; else --from and --to, else the newest 30 days.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="First window.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="First window that does not count.")] = None,
    as_json: Json = False,
) -> None:
    """Search the slices in which the model is worst, confirmed on rows that had no part in finding them."""
    from checks.core.window import Window, iso
    from monitor.clock import system_clock
    from monitor.ports import WeakestJob

    pipeline = pipeline_of(context)
    config = pipeline.config.monitor(monitor)
    if config.labels is None or config.columns.id is None:
        raise ConfigError(f"monitor {monitor} has no labels: where it is worst cannot be known")
    prepared = pipeline.prepare(monitor)
    grid = prepared.grid
    if window is not None:
        span = grid.parse_start(window)
    else:
        end = grid.parse_start(until).start if until else pipeline.newest_closed(prepared).end
        start = grid.parse_start(since).start if since else max(end - timedelta(days=30), prepared.settings.reference_from)
        if start >= end:
            raise ConfigError(f"there is nothing from {iso(start)} to {iso(end)}")
        span = Window(start, end)
    found = pipeline.workers.run(WeakestJob(config, prepared.settings, prepared.binning, prepared.key, span, system_clock().now()))
    if found is None:
        raise ConfigError(f"monitor {monitor}: {span}: fewer than 1000 labelled rows; no slice could be confirmed")
    if as_json:
        print_json({"monitor": monitor, "from": iso(span.start), "to": iso(span.end), **found})
        return
    unit = found["unit"]
    typer.echo(f"{monitor} {iso(span.start)} to {iso(span.end)}: {found['rows']:,} labelled rows, {unit} {found['error']:.4g}")
    rows = [{**row, "times": row["error"] / row["overall"]} for row in found["slices"]]
    headings = {"slice": "SLICE", "rows": "ROWS", "error": unit.upper(), "overall": "ALL ROWS", "times": "TIMES", "p_value": "P"}
    table(rows, headings, f"no slice is worse than the rest: {found['tried']} were tried, none confirmed")


@guarded
def list_deployments(context: typer.Context, monitor: Annotated[str | None, typer.Argument()] = None, as_json: Json = False) -> None:
    """New model versions and what their first hours say: watched, and whether they are worse than the version before."""
    from checks.core.window import iso
    from monitor.store import deployments

    pipeline = pipeline_of(context)
    if monitor is not None:
        pipeline.config.monitor(monitor)
    assert pipeline.store is not None
    with pipeline.store.read() as connection:
        found = deployments.of_monitor(connection, monitor)
    rows = [
        {
            "monitor": r.monitor, "version": r.version, "previous": r.previous, "since": iso(r.first_seen), "until": iso(r.until), "state": r.state,
            "verdict": r.verdict, "incident": f"INC-{r.incident_id}" if r.incident_id else None, **({"watch": r.body} if as_json else {
                "says": r.body.get("ended") or r.body.get("sentence", "")
            }),
        }
        for r in found
    ]
    if as_json:
        print_json(rows)
        return
    headings = {"monitor": "MONITOR", "version": "VERSION", "previous": "BEFORE", "since": "SINCE", "state": "STATE", "verdict": "VERDICT", "says": "WHAT IT SAYS"}
    table(rows, headings, "no new version was seen yet")


@guarded
def reproduce(
    context: typer.Context, run: Annotated[str, typer.Argument(help="Such as flight-delay@2013-07-01, with #2 a revision, or a run's number.")],
    as_json: Json = False,
) -> None:
    """Evaluate a stored run again and compare digit by digit. Exit 0 the same, 1 different, 3 could not know."""
    from monitor.again import find_run
    from monitor.again import reproduce as carry_out

    pipeline = pipeline_of(context)
    found = carry_out(pipeline, find_run(pipeline, run))
    if as_json:
        print_json(found)
    else:
        typer.echo(
            f"run {found['run']} of {found['monitor']} {found['window']}, revision {found['revision']}: "
            + (f"the same, {found['results']} results to the last digit" if found["same"] else f"{len(found['differences'])} differences")
        )
        for note in found["notes"]:
            typer.echo(f"  {note}")
        for line in found["differences"][:20]:
            typer.echo(f"  {line['rule']} {line['field']}: {line['then']} then, {line['now']} now")
        if len(found["differences"]) > 20:
            typer.echo(f"  and {len(found['differences']) - 20} more")
        for key, value in found["lineage"].items():
            typer.echo(f"  {key}: {_short(value)}")
    raise typer.Exit(OK if found["same"] else BREACH)


def _short(value: Any) -> str:
    if isinstance(value, dict) and "files" in value:
        shown = ", ".join(str(f[0]) for f in value["files"][:3])
        return f"{len(value['files'])} files: {shown}" + (", .." if len(value["files"]) > 3 else "")
    return str(value)


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(compare)
    app.command()(weakest)
    app.command(name="deployments")(list_deployments)
    app.command()(reproduce)


