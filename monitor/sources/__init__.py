"""Where rows come from: one file per kind, with its configuration and its factory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from checks.core.registry import Registry
from monitor.config.types import Section
from monitor.ports import Source


@dataclass(frozen=True, slots=True)
class SourcePlugin:
    """A kind of source: its configuration, and the factory that a worker calls."""

    config: type[Section]
    build: Callable[[Any], Source]


SOURCES: Registry[SourcePlugin] = Registry("source", "monitor.sources", "driftd.sources")


def sniff(address: str) -> str:
    """The kind of source that an address speaks of."""
    return "parquet"


def open_source(config: Section) -> Source:
    """The source that ``config`` describes."""
    return SOURCES[str(getattr(config, "kind", ""))].build(config)
