"""When a failed message is tried again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from checks.core.errors import DeliveryError

STEPS = (5.0, 30.0, 120.0, 300.0, 900.0, 1800.0)
HOURLY = 3600.0
GIVE_UP = timedelta(hours=24)
JITTER = 0.2
RETRYABLE = frozenset({408, 425, 429})
GONE = frozenset({401, 403, 404, 410})


def delay(key: str, attempt: int) -> timedelta:
    """The wait after the ``attempt``-th try (from 1), with 20% jitter drawn from the message's own key."""
    base = STEPS[attempt - 1] if attempt <= len(STEPS) else HOURLY
    draw = int.from_bytes(hashlib.sha256(f"{key}/{attempt}".encode()).digest()[:4], "big") / 2**32
    return timedelta(seconds=base * (1 + JITTER * (2 * draw - 1)))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """``Retry-After`` in seconds, given as seconds or as an HTTP date, clamped to 1 s .. 1 h."""
    text = next((value for key, value in headers.items() if key.lower() == "retry-after"), None)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    if seconds != seconds:
        return None
    return min(max(seconds, 1.0), HOURLY)


def check(status: int, headers: Mapping[str, str], where: str, now: datetime) -> None:
    """Raise `DeliveryError` for every status that is not a success; redirects are failures."""
    if 200 <= status < 300:
        return
    again = status in RETRYABLE or status >= 500
    raise DeliveryError(
        f"{where}: the reply was {status}", retryable=again, retry_after=retry_after(headers, now) if again else None,
        sent=True, disable=status in GONE, status=status,
    )
