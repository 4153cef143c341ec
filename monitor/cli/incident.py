"""accept, false-alarm: a person's hand on an incident."""

from __future__ import annotations

from typing import Annotated

import typer

from checks.core.errors import ConfigError
from monitor.cli.edge import guarded, pipeline_of

Incident = Annotated[str, typer.Argument(help="Such as INC-3.")]
By = Annotated[str | None, typer.Option("--by", help="Who says so; else the user of this machine.")]


@guarded
def accept(
    context: typer.Context, incident: Incident,
    columns: Annotated[str | None, typer.Option("--columns", help="Only these, with commas between them; else every column.")] = None,
    by: By = None,
) -> None:
    """Make the level that a drift or data incident shows normal from the next window on, and close it."""
    names = [c.strip() for c in (columns or "").split(",") if c.strip()]
    if columns is not None and not names:
        raise ConfigError("--columns names no column; leave it out to accept every one")
    _act(context, incident, names, "accept", by)


@guarded
def false_alarm(context: typer.Context, incident: Incident, by: By = None) -> None:
    """Accept an incident's level, and be slower to alarm: the chart then counts half as many chances again."""
    _act(context, incident, [], "false-alarm", by)


def _act(context: typer.Context, incident: str, columns: list[str], kind: str, by: str | None) -> None:
    from monitor.handle import accept as carry_out

    done = carry_out(pipeline_of(context), incident, columns, kind, by or user())
    what = "the level of " + (", ".join(columns) if columns else "every column")
    if done["was_open"]:
        typer.echo(f"{done['incident']}: {what} since {done['since']} is normal for {done['monitor']} from its next window on")
    if kind == "false-alarm":
        typer.echo("counted as a false alarm: the drift limits are wider from now on")


def user() -> str:
    """Who calls the command."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "somebody"


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(accept)
    app.command(name="false-alarm")(false_alarm)
