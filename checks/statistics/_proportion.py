"""One category against all others, in two samples."""

from __future__ import annotations

from checks.core.errors import ConfigError
from checks.core.profile import ColumnBinning, ColumnProfile


def split(binning: ColumnBinning, reference: ColumnProfile, current: ColumnProfile, category: str | None) -> tuple[int, int, int, int]:
    """Rows with the category and rows with a value, of the reference and of the current data.

    Without a name the category is that which most rows of the reference hold. Missing values do not count.
    """
    if category is None:
        place = int(reference.counts.argmax()) if len(reference.counts) else 0
    elif category in binning.categories:
        place = binning.categories.index(category)
    else:
        known = ", ".join(binning.categories[:10]) or "none"
        raise ConfigError(f"{binning.name}: there is no category {category!r} in the reference; some are {known}")
    held = (int(p.counts[place]) if len(p.counts) else 0 for p in (reference, current))
    first, second = held
    return first, reference.filled + reference.other, second, current.filled + current.other
