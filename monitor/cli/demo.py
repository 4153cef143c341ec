"""demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.edge import guarded


@guarded
def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Where the demo writes its log, store and reports.")] = Path(),
    serve: Annotated[bool, typer.Option("--serve", help="Keep the status page up afterwards.")] = False,
    days: Annotated[int | None, typer.Option("--days", help="Replay only so many days.", hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """A year of real flights, a model, three planted faults and a rollback, end to end in about two minutes."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from monitor.cli.edge import print_json
    from monitor.demo.simulate import Demo
    from monitor.logs import configure

    configure(verbose=False, json=False)
    console = Console(stderr=True)
    console.print("Training the model and writing the reference log (February 16 to April 15) ...")
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    with bar:
        task = bar.add_task("replaying 2013", total=None)
        summary = Demo(folder.absolute(), days).run(
            lambda done, total, day: bar.update(task, completed=done, total=total, description=f"replaying {day}")
        )
    if as_json:
        print_json(summary)
    else:
        _print(summary, folder)
    if serve:
        from monitor.app import load_config
        from monitor.run import serve as serve_forever

        serve_forever(load_config(folder / "config.yaml"), folder / "config.yaml", verbose=True)


def _print(summary: dict[str, Any], folder: Path) -> None:
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary["verdicts"].items())
    typer.echo(f"\n{summary['windows']} windows evaluated: {verdicts}")
    typer.echo(f"{len(summary['incidents'])} incidents:")
    for item in summary["incidents"]:
        planted = f"  <- planted: {item['planted']}" if item["planted"] else ""
        state = item["state"] if not item["reason"] else f"{item['state']}, {item['reason']}"
        typer.echo(f"  INC-{item['id']:<3} {item['first']} {item['family']:<9} {item['severity']:<5} {item['windows']:>3} windows ({state}){planted}")
        typer.echo(f"          {item['headline'][:150]}")
    september = summary["september"]
    if september["expected"] is not None:
        typer.echo(f"In September the model expected {september['expected']:.0%} late flights; {september['late']:.0%} came late.")
    months = ", ".join(f"{month[5:]} {value:g}" for month, value in summary["temperature"])
    typer.echo(f"Temperature against the frozen reference, PSI by month: {months}")
    typer.echo(f"Messages: {summary['messages']['delivered']} delivered, in {folder / 'demo' / 'messages.txt'}")
    for item in summary["rollbacks"]:
        typer.echo(f"Rollback from {item['from']} to {item['to']}: {item['state']} ({item['detail']})")
    typer.echo(f"Rollback requests that the deployment server took: {summary['calls']}")
    typer.echo(f"Reports: {summary['reports']}")
    typer.echo(f"Evidently's drill-down: {summary['evidently']}")
    typer.echo(f"Next: driftd -c {folder / 'config.yaml'} status, incidents, run; or open a report in a browser")


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(demo)
