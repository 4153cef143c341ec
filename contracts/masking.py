"""Values as people may see them: type, length, shape and a keyed hash, not the value."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from typing import Any

MOST_SHAPE = 40


def masked(value: Any, key: bytes) -> dict[str, Any]:
    """``{"type", "length", "shape", "hash"}`` of a value: ``aaa@aaa.aaa`` for an address, and 8 hex digits of a keyed hash."""
    if value is None:
        return {"type": "null", "length": 0, "shape": "", "hash": ""}
    text = str(value)
    kind = type(value).__name__
    digest = hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:8]
    return {"type": kind, "length": len(text), "shape": shape(text), "hash": digest}


def without_values(text: str) -> str:
    """What an engine says of an error, without what may be a value of the data."""
    found = re.sub(r"'[^']*'", "'...'", text)
    if re.search(r"(?i)conver|cast|invalid input|out of range|parse|malformed|overflow", found):
        found = re.sub(r'"[^"]*"', '"..."', found)
    return found


def shape(text: str) -> str:
    """Letters as a and A, digits as 9, all else as it is."""
    found = "".join("9" if c.isdigit() else "A" if c.isalpha() and c.isupper() else "a" if c.isalpha() else c for c in text[:MOST_SHAPE])
    return found + ("..." if len(text) > MOST_SHAPE else "")


def shown(value: Any, key: bytes, *, plain: bool) -> dict[str, Any]:
    """The masked value, and the value itself where it may be shown."""
    found = masked(value, key)
    if not plain:
        return found
    finite = not isinstance(value, float) or math.isfinite(value)  # JSON has neither NaN nor infinity
    return {**found, "value": value if finite and isinstance(value, (str, int, float, bool, type(None))) else str(value)}
