"""The commands and their common options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import channel, contract, daemon, demo, evaluate, hands, history, incident, listing, outbox, quality, reference, setup

app = typer.Typer(
    name="driftd", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Watches machine-learning models in production: contracts, drift, quality, alerts, rollback.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from monitor import __version__

        typer.echo(f"driftd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option("-c", "--config", help="The configuration; else DRIFTD_CONFIG, else config.yaml.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say what is done, on standard error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Watches machine-learning models in production."""
    context.obj = {"config": config, "verbose": verbose}


setup.add(app)
reference.add(app)
evaluate.add(app)
daemon.add(app)
listing.add(app)
channel.add(app)
contract.add(app)
incident.add(app)
hands.add(app)
outbox.add(app)
history.add(app)
quality.add(app)
demo.add(app)
