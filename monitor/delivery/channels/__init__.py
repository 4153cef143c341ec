"""Where messages go: one file per kind, with its configuration and its sender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from checks.core.registry import Registry
from monitor.config.types import Section
from monitor.ports import Sender


@dataclass(frozen=True, slots=True)
class ChannelPlugin:
    """A kind of channel: its configuration, and the factory of its sender."""

    config: type[Section]
    build: Callable[[Any], Sender]


CHANNELS: Registry[ChannelPlugin] = Registry("channel", "monitor.delivery.channels", "driftd.channels")


def open_channel(config: Section) -> Sender:
    """The sender that ``config`` describes."""
    return CHANNELS[str(getattr(config, "kind", ""))].build(config)
