"""Durations as service levels write them."""

from __future__ import annotations

import re

UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0), **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0), **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 7 * 86400.0), **dict.fromkeys(("mo", "month", "months"), 30.4375 * 86400.0),
    **dict.fromkeys(("y", "yr", "year", "years"), 365.25 * 86400.0),
}
_ISO = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+(?:\.\d+)?)D)?(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_PARTS = (365.25 * 86400.0, 30.4375 * 86400.0, 7 * 86400.0, 86400.0, 3600.0, 60.0, 1.0)


def seconds(value: object, unit: object) -> float:
    """Seconds of a value with its unit, or of a text such as ``90m`` or ``PT1.5H``; `LookupError` where it is no duration."""
    if isinstance(value, str):
        iso = _ISO.fullmatch(value)
        if iso is not None and any(iso.groups()):
            return sum(float(part) * size for part, size in zip(iso.groups(), _PARTS, strict=True) if part)
        plain = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        if plain is not None:
            value, unit = float(plain.group(1)), plain.group(2) or unit
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LookupError(f"{value!r} is no duration")
    name = "d" if unit in (None, "") else str(unit).lower()
    if name not in UNITS:
        raise LookupError(f"the unit {unit!r} is none of s, m, h, d, w, mo, y")
    if not 0 <= value < 1e12:
        raise LookupError(f"{value!r:.40} is no duration that can be meant")
    return float(value) * UNITS[name]


def words(amount: float) -> str:
    """``1.5 h``: a duration for people."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if abs(amount) >= 2 * size or (unit == "min" and abs(amount) >= 60):
            return f"{_figure(amount / size)} {unit}"
    return f"{_figure(amount)} s"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
