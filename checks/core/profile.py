"""What one scan learned of one window: a monoid of counts under a frozen binning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.core.binning import Binning, ColumnBinning
from checks.core.column import ColumnProfile, Counts, Sums
from checks.core.cross import CrossProducts
from checks.core.encoding import decode, encode
from checks.core.errors import BinningMismatch
from checks.core.outputs import OutputCounts


@dataclass(slots=True)
class Profile:
    """What one scan learned of a window under a binning: ``a + b`` merges, ``Profile.empty(binning)`` is neutral.

    ``rules`` counts the rows that break each row rule, ``versions`` rows per model version, ``first`` and ``last`` are
    the outermost event times in microseconds since 1970 (None without rows). ``cross`` holds the cross products of
    `Binning.crossed`, None where they were not taken; ``outputs`` the score, class and label counts per slice.
    """

    binning: Binning
    rows: int = 0
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    cross: CrossProducts | None = None
    outputs: dict[str, OutputCounts] = field(default_factory=dict)

    @classmethod
    def empty(cls, binning: Binning) -> Profile:
        return cls(binning, 0, {c.name: ColumnProfile.empty(c) for c in binning.columns})

    def __add__(self, other: Profile) -> Profile:
        if self.binning is not other.binning and self.binning.hash != other.binning.hash:
            raise BinningMismatch(
                f"a profile under binning {other.binning.hash} cannot be merged into one under {self.binning.hash}"
            )
        return Profile(
            self.binning, self.rows + other.rows,
            {name: column + other.columns[name] for name, column in self.columns.items()},
            _sum(self.rules, other.rules), _sum(self.versions, other.versions),
            _outer(min, self.first, other.first), _outer(max, self.last, other.last),
            _cross(self, other), _sum(self.outputs, other.outputs),
        )

    def to_bytes(self) -> bytes:
        """A version byte and the compressed counts; the binning is stored apart, under its hash."""
        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes, binning: Binning, *, light: bool = False) -> Profile:
        """The profile that `to_bytes` wrote under ``binning``; a ``light`` one leaves out the outputs."""
        return cls(binning, **decode(data, binning, light=light))


def merge(binning: Binning, profiles: Iterable[Profile]) -> Profile:
    """The profile of all rows of ``profiles`` together."""
    total = Profile.empty(binning)
    for profile in profiles:
        total = total + profile
    return total


def _sum(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: left[key] + right[key] if key in left and key in right else left[key] if key in left else right[key]
        for key in [*left, *(k for k in right if k not in left)]
    }


def _cross(left: Profile, right: Profile) -> CrossProducts | None:
    """Together; without rows nothing is missing, with rows and no products the whole cannot be known."""
    if left.cross is not None and right.cross is not None:
        return left.cross + right.cross
    if left.cross is None and not left.rows:
        return right.cross
    return left.cross if right.cross is None and not right.rows else None


def _outer(pick: Any, left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return right if left is None else left
    return int(pick(left, right))


__all__ = ["Binning", "ColumnBinning", "ColumnProfile", "Counts", "Profile", "Sums", "merge"]
