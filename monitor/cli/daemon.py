"""run."""

from __future__ import annotations

import typer

from monitor.cli.edge import config_of, guarded


@guarded
def run(context: typer.Context) -> None:
    """The daemon: schedule, evaluate, deliver, serve. SIGTERM ends it, SIGHUP reads the configuration again."""
    from monitor.run import serve

    config = config_of(context)
    serve(config, context.obj["config"], verbose=True)


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(run)
