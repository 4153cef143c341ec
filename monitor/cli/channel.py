"""channel test."""

from __future__ import annotations

from typing import Any

import typer

from monitor.cli.edge import UNKNOWN, config_of, guarded

channel = typer.Typer(help="Channels that messages go to.", no_args_is_help=True)


@channel.callback()
def _group() -> None:
    """Channels that messages go to."""


@channel.command(name="test")
@guarded
def test(context: typer.Context, name: str) -> None:
    """Send a real test message; a channel that was switched off is switched on again when it arrives."""
    from checks.core.errors import ConfigError, DeliveryError
    from checks.core.window import iso
    from monitor.clock import system_clock
    from monitor.delivery.channels import open_channel
    from monitor.ports import Message

    config = config_of(context)
    if name not in config.channels:
        raise ConfigError(f"{config.path}: there is no channel {name!r}; allowed are {', '.join(config.channels)}")
    now = system_clock().now()
    payload: dict[str, Any] = {
        "type": "test", "timestamp": iso(now), "data": {"headline": "A test message of driftd; nothing is wrong.", "channel": name},
    }
    try:
        receipt = open_channel(config.channels[name]).send(
            Message(f"msg_test_{int(now.timestamp())}", payload, "TEST: driftd can reach this channel; nothing is wrong.", 1, now)
        )
    except DeliveryError as error:
        typer.echo(f"driftd: channel {name}: {error}", err=True)
        raise typer.Exit(UNKNOWN) from None
    typer.echo(f"channel {name}: delivered ({receipt})" + (_switched_on(config.store, name)))


def _switched_on(url: str, name: str) -> str:
    """Switch the channel on again where a daemon had switched it off."""
    from monitor.store import destinations
    from monitor.store.store import Store

    store = Store(url)
    try:
        with store.write() as connection:
            known = destinations.of(connection, name)
            destinations.works(connection, name)
    finally:
        store.close()
    return "; it was switched off and is on again: driftd outbox replay sends what is dead" if known is not None and known.disabled_at else ""


def add(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.add_typer(channel, name="channel")
