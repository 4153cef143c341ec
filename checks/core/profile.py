"""What one scan learned of one window: a monoid of counts under a frozen binning."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checks.core.errors import BinningMismatch, ProfileFormatError

Counts = NDArray[np.int64]
Sums = NDArray[np.float64]

PLAN_VERSION = 1
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ColumnBinning:
    """Frozen edges or categories of one column.

    Parameters
    ----------
    kind : ``numeric`` (edges), ``category`` (categories) or ``text`` (only nulls, length and emptiness).
    role : ``feature``, ``score``, ``prediction``, ``latency`` or ``status``.
    edges : ascending; bin i holds ``edges[i-1] <= x < edges[i]``, the first and the last bin are open.
    categories : texts, or ``#`` and a keyed hash where ``hashed`` says so per category.
    center : the reference mean, about which squares are summed.
    spread : the reference standard deviation, the unit of effects.
    """

    name: str
    kind: str
    role: str = "feature"
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    private: bool = False
    center: float = 0.0
    spread: float = 1.0

    @property
    def bins(self) -> int:
        """How many counts the column has."""
        if self.kind == "numeric":
            return len(self.edges) + 1
        return len(self.categories) if self.kind == "category" else 0


@dataclass(frozen=True, slots=True)
class Binning:
    """The frozen binnings of all columns; its hash is the ``reference`` of every result."""

    columns: tuple[ColumnBinning, ...]
    version: int = PLAN_VERSION
    _digest: list[str] = field(default_factory=list, compare=False, repr=False)

    def __getitem__(self, name: str) -> ColumnBinning:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def to_json(self) -> str:
        """The canonical text, equal for equal binnings."""
        return json.dumps({"version": self.version, "columns": [asdict(c) for c in self.columns]}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Binning:
        """The binning that `to_json` wrote."""
        data = json.loads(text)
        columns = tuple(
            ColumnBinning(**{**c, "edges": tuple(c["edges"]), "categories": tuple(c["categories"])}) for c in data["columns"]
        )
        return cls(columns, data["version"])

    @property
    def hash(self) -> str:
        """The binning's name in results, computed once."""
        if not self._digest:
            self._digest.append("sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()[:16])
        return self._digest[0]


@dataclass(slots=True)
class ColumnProfile:
    """Counts of one column in one window.

    ``counts`` has one entry per bin or category. For numbers ``sums`` holds the sum in each bin, ``square`` the sum of
    squares about the binning's ``center``; for text ``total`` is the summed length. ``other`` counts categories unseen
    in the reference, infinities of numbers, and empty texts.
    """

    counts: Counts
    sums: Sums
    nulls: int = 0
    nans: int = 0
    other: int = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    total: float = 0.0
    square: float = 0.0

    @classmethod
    def empty(cls, binning: ColumnBinning) -> ColumnProfile:
        numeric = binning.bins if binning.kind == "numeric" else 0
        return cls(np.zeros(binning.bins, np.int64), np.zeros(numeric, np.float64))

    def __add__(self, other: ColumnProfile) -> ColumnProfile:
        return ColumnProfile(
            self.counts + other.counts, self.sums + other.sums, self.nulls + other.nulls, self.nans + other.nans,
            self.other + other.other, min(self.minimum, other.minimum), max(self.maximum, other.maximum),
            self.total + other.total, self.square + other.square,
        )

    @property
    def missing(self) -> int:
        """Nulls and NaNs."""
        return self.nulls + self.nans

    @property
    def filled(self) -> int:
        """Rows that fell into a bin or category."""
        return int(self.counts.sum())

    def layout(self) -> Counts:
        """``[bins.., other, missing]``, the layout that the chart and the statistics read."""
        return np.concatenate([self.counts, [self.other, self.missing]]).astype(np.int64)

    def mean(self) -> float | None:
        """The mean of the finite values, or None without any."""
        return self.total / self.filled if self.filled else None

    def deviation(self, center: float) -> float | None:
        """The standard deviation of the finite values, or None without any."""
        if not self.filled:
            return None
        shift = self.total / self.filled - center
        return math.sqrt(max(self.square / self.filled - shift * shift, 0.0))


@dataclass(slots=True)
class Profile:
    """What one scan learned of a window under a binning: ``a + b`` merges, ``Profile.empty(binning)`` is neutral.

    ``rules`` counts the rows that break each row rule, ``versions`` rows per model version, ``first`` and ``last`` are
    the outermost event times in microseconds since 1970 (None without rows).
    """

    binning: Binning
    rows: int = 0
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None

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
        )

    def to_bytes(self) -> bytes:
        """A version byte and the compressed counts; the binning is stored apart, under its hash."""
        head = {
            "binning": self.binning.hash, "rows": self.rows, "rules": self.rules, "versions": self.versions,
            "first": self.first, "last": self.last,
            "columns": [
                [c.nulls, c.nans, c.other, c.minimum.hex(), c.maximum.hex(), float(c.total).hex(), float(c.square).hex()]
                for c in self.columns.values()
            ],
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        arrays = b"".join(c.counts.astype("<i8").tobytes() + c.sums.astype("<f8").tobytes() for c in self.columns.values())
        return bytes([FORMAT_VERSION]) + zlib.compress(len(text).to_bytes(4, "little") + text + arrays, 6)

    @classmethod
    def from_bytes(cls, data: bytes, binning: Binning) -> Profile:
        """The profile that `to_bytes` wrote under ``binning``."""
        if not data or data[0] != FORMAT_VERSION:
            raise ProfileFormatError(f"stored profile format {data[:1]!r} is not {FORMAT_VERSION}")
        raw = zlib.decompress(data[1:])
        size = int.from_bytes(raw[:4], "little")
        head = json.loads(raw[4 : 4 + size])
        if head["binning"] != binning.hash:
            raise BinningMismatch(f"a profile under binning {head['binning']} cannot be read under {binning.hash}")
        at = 4 + size
        columns = {}
        for spec, values in zip(binning.columns, head["columns"], strict=True):
            counts = np.frombuffer(raw, "<i8", spec.bins, at).astype(np.int64)
            at += 8 * spec.bins
            sums = np.frombuffer(raw, "<f8", spec.bins if spec.kind == "numeric" else 0, at).astype(np.float64)
            at += 8 * len(sums)
            nulls, nans, other = values[:3]
            columns[spec.name] = ColumnProfile(counts, sums, nulls, nans, other, *(float.fromhex(v) for v in values[3:]))
        return cls(binning, head["rows"], columns, head["rules"], head["versions"], head["first"], head["last"])


def merge(binning: Binning, profiles: Iterable[Profile]) -> Profile:
    """The profile of all rows of ``profiles`` together."""
    total = Profile.empty(binning)
    for profile in profiles:
        total = total + profile
    return total


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in [*left, *(k for k in right if k not in left)]}


def _outer(pick: Any, left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return right if left is None else left
    return int(pick(left, right))
