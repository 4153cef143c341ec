"""Secrets as references: ``${env:NAME}``, ``${env:NAME:-default}`` and ``${file:PATH}`` inside any text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(r"\$\{(env|file):([^}]*?)(?::-([^}]*))?\}")

Place = tuple[str | int, ...]


def resolve(value: Any, base: Path, environ: Mapping[str, str] = os.environ) -> tuple[Any, dict[Place, str]]:
    """``value`` with every reference replaced, and what could not be resolved, by its place.

    An unresolved reference leaves None; the caller decides whether that part is in use.
    """
    missing: dict[Place, str] = {}
    return _walk(value, base, environ, (), missing), missing


def _walk(value: Any, base: Path, environ: Mapping[str, str], place: Place, missing: dict[Place, str]) -> Any:
    if isinstance(value, dict):
        return {key: _walk(item, base, environ, (*place, key), missing) for key, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, base, environ, (*place, index), missing) for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    problem = ""

    def replace(match: re.Match[str]) -> str:
        nonlocal problem
        kind, name, default = match[1], match[2], match[3]
        if kind == "env":
            found = environ.get(name) or default
            if found is None:
                problem = f"the environment variable {name} is not set"
                return ""
            return found
        try:
            return (base / name).read_text(encoding="utf-8").strip()
        except OSError as error:
            problem = f"the secret file {name} cannot be read: {error.strerror}"
            return ""

    text = _REFERENCE.sub(replace, value)
    if not problem and "${" in text and _REFERENCE.search(value) is None:
        problem = "a reference is ${env:NAME}, ${env:NAME:-default} or ${file:PATH}"
    if problem:
        missing[place] = problem
        return None
    return text or None
