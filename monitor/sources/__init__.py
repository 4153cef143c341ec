"""Where rows come from: one file per kind, with its configuration and its factory."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from checks.core.registry import Registry
from monitor.config.types import Section
from monitor.ports import Source


@dataclass(frozen=True, slots=True)
class SourcePlugin:
    """A kind of source: its configuration, and the factory that a worker calls."""

    config: type[Section]
    build: Callable[[Any], Source]


SOURCES: Registry[SourcePlugin] = Registry("source", "monitor.sources", "driftd.sources")


SUFFIXES = {
    "csv": (".csv", ".tsv"), "jsonl": (".jsonl", ".ndjson", ".json"), "feather": (".feather", ".arrow", ".ipc"),
    "parquet": (".parquet", ".parq", ".pq"),
}
SCHEMES = {"sql": ("postgresql", "postgres", "duckdb", "bigquery", "snowflake", "trino", "databricks", "clickhouse", "mysql"), "spark": ("sc",)}


def sniff(address: str, base: Path | None = None) -> str:
    """The kind of source that an address speaks of: by its scheme, its suffix, or what a local directory holds."""
    scheme = address.split("://", 1)[0].split("+", 1)[0] if "://" in address else ""
    for kind, schemes in SCHEMES.items():
        if scheme in schemes:
            return kind
    if not scheme and address.partition("#")[0].endswith((".duckdb", ".ddb")):
        return "sql"
    found = _by_suffix(address)
    if found is None and not scheme:
        folder = (base or Path()) / address
        if (folder / "_delta_log").is_dir():
            return "delta"
        if folder.is_dir():
            names = itertools.islice((name for _, _, files in os.walk(folder) for name in sorted(files)), 1000)
            found = next((kind for kind in map(_by_suffix, names) if kind), None)
    return found or "parquet"


def _by_suffix(name: str) -> str | None:
    plain = re.sub(r"\.(gz|zst|bz2)$", "", name.lower())
    return next((kind for kind, suffixes in SUFFIXES.items() if plain.endswith(suffixes)), None)


def open_source(config: Section) -> Source:
    """The source that ``config`` describes."""
    return SOURCES[str(getattr(config, "kind", ""))].build(config)


def identity(config: Section) -> str:
    """A text that is equal for equal configurations, secrets included: for a cache, never for people."""
    return json.dumps(config.model_dump(), sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
