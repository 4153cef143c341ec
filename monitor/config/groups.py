"""Which monitors read the same source, and so fall silent and break together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from pydantic import SecretStr

_WHERE = ("kind", "path", "url", "table", "query", "master", "remote", "endpoint")


def source_label(monitor: Any) -> str:
    """What a monitor reads, in words: its ``upstream``, else the table or path of its source."""
    if monitor.upstream:
        return str(monitor.upstream)
    source = monitor.source
    name = getattr(source, "table", None) or getattr(source, "path", None) or getattr(source, "query", None) or source.kind
    text = " ".join(str(name).split())
    return text if len(text) <= 120 else text[:117] + "..."


def source_key(monitor: Any) -> str:
    """What tells one source from another: where it lies, and not how it is read."""
    if monitor.upstream:
        return f"upstream {monitor.upstream}"
    parts = []
    for name in _WHERE:
        value = getattr(monitor.source, name, None)
        parts.append(value.get_secret_value() if isinstance(value, SecretStr) else str(value))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def groups(monitors: Iterable[Any]) -> dict[str, list[str]]:
    """For each monitor the names of all that read its source."""
    by_key: dict[str, list[str]] = {}
    for each in monitors:
        by_key.setdefault(source_key(each), []).append(each.name)
    return {member: members for members in by_key.values() for member in members}
