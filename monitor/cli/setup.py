"""validate, plan, schema, migrate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from monitor.cli.edge import config_of, guarded, print_json


@guarded
def validate(context: typer.Context) -> None:
    """Check the configuration, its contracts, owners and channels."""
    from contracts.document import read_yaml
    from contracts.lint import lint_document
    from contracts.load import load_contract

    config = config_of(context)
    for name, monitor in config.monitors.items():
        if monitor.contract is not None:
            path = monitor.contract.path
            contract = load_contract(path, monitor.contract.object)
            text = path.read_text(encoding="utf-8")
            for finding in lint_document(read_yaml(text, str(path), times_as_text=True), str(path)):
                typer.echo(f"warning: {finding}", err=True)
            left = [r for r in contract.rules if r.not_evaluated]
            for rule in left:
                typer.echo(f"warning: {path}:{rule.line}: {rule.id}: {rule.not_evaluated}", err=True)
            typer.echo(f"{name}: contract {contract.id} {contract.version}: {len(contract.rules)} rules, {len(left)} not evaluated")
        typer.echo(f"{name}: owner {monitor.owner}, source {getattr(monitor.source, 'kind', '?')}, rollback {monitor.rollback.effective_mode}")
    for warning in config.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{config.path}: valid, {len(config.monitors)} monitors")


@guarded
def plan(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print every monitor's effective settings, with what driftd found out from the data."""
    from monitor.app import inline_workers
    from monitor.clock import system_clock
    from monitor.evaluation.quality import metrics_of
    from monitor.ports import ResolveJob

    config = config_of(context)
    workers, found = inline_workers(), {}
    for name, monitor in config.monitors.items():
        settings = workers.run(ResolveJob(monitor, system_clock().now()))
        found[name] = _effective(config, monitor, settings, metrics_of(monitor)[0] if monitor.labels else [])
    if as_json:
        print_json(found)
        return
    import yaml

    typer.echo(yaml.safe_dump({"monitors": found}, sort_keys=False, allow_unicode=True, width=120), nl=False)


def _effective(config: Any, monitor: Any, settings: Any, metrics: list[str]) -> dict[str, Any]:
    from datetime import timedelta

    from checks.core.window import format_duration, iso

    body: dict[str, Any] = monitor.model_dump(mode="json", by_alias=True, exclude_none=True)
    body.pop("name")
    body["window"] |= {
        "size": format_duration(timedelta(seconds=settings.size_seconds)),
        "lateness": format_duration(timedelta(seconds=settings.lateness_seconds)),
    }
    body["start"] = iso(settings.start)
    if monitor.reference.path is None:
        body["reference"] = {"from": iso(settings.reference_from), "to": iso(settings.reference_to)}
    if monitor.labels is not None:
        body["labels"] |= {"id": settings.label_id, "label": settings.label_column, "timestamp": settings.label_timestamp}
        body["quality"]["metrics"] = metrics
    if monitor.columns.prediction is None and monitor.columns.score is not None and monitor.task == "binary":
        body["columns"]["prediction"] = f"{monitor.columns.score} >= 0.5"
    if monitor.contract is None:
        body["contract"] = "inferred from the reference; it only warns"
    body["rollback"]["mode"] = monitor.rollback.effective_mode
    body["rollback"].pop("secret", None)
    body["features"] = [n for n in settings.types if n not in monitor.columns.roles and n not in monitor.columns.ignore]
    body["channels"] = config.owners[monitor.owner].all_channels
    body["store"] = _shown_store(config.store)
    body["found_out"] = list(settings.notes)
    return body


def _shown_store(url: str) -> str:
    from monitor.store.engine import redacted

    return redacted(url)


@guarded
def schema() -> None:
    """Print the JSON Schema of config.yaml."""
    from monitor.app import registries
    from monitor.config.schema import json_schema

    print_json(json_schema(registries()))


@guarded
def migrate(context: typer.Context) -> None:
    """Bring the store's schema to this version; a SQLite store is backed up first."""
    from monitor.clock import system_clock
    from monitor.store.engine import HEAD, open_engine, redacted, schema_version
    from monitor.store.migrate import back_up, upgrade

    config = config_of(context)
    engine = open_engine(config.store)
    before = schema_version(engine)
    if before == HEAD:
        typer.echo(f"{redacted(config.store)}: the schema is {HEAD} already")
        return
    if before is not None and before > HEAD:
        from checks.core.errors import StoreError

        raise StoreError(f"store {redacted(config.store)}: its schema {before} is newer than this driftd's {HEAD}")
    copy = back_up(engine, system_clock().now()) if before is not None else None
    if copy is not None:
        typer.echo(f"backed up to {copy}")
    upgrade(engine)
    typer.echo(f"{redacted(config.store)}: {before or 'empty'} -> {HEAD}")


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(validate)
    app.command()(plan)
    app.command()(schema)
    app.command()(migrate)
