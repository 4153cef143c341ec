"""The frozen edges and categories under which windows are profiled, and compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

PLAN_VERSION = 1
CROSSED = 30
"""At most so many numeric features have their cross products taken."""


@dataclass(frozen=True, slots=True)
class ColumnBinning:
    """Frozen edges or categories of one column.

    Parameters
    ----------
    kind : ``numeric`` (edges), ``category`` (categories) or ``text`` (only nulls, length and emptiness).
    role : ``feature``, ``score``, ``prediction``, ``label``, ``latency`` or ``status``.
    edges : ascending; bin i holds ``edges[i-1] <= x < edges[i]``, the first and the last bin are open.
    categories : texts, or ``#`` and a keyed hash where the text may not be stored.
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

    @property
    def scale(self) -> float:
        """What standardises the column: 1 / spread, or 1 for a constant."""
        return 1.0 / self.spread if self.spread > 1e-300 else 1.0


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

    def of_role(self, role: str) -> ColumnBinning | None:
        """The first column of a role, or None."""
        return next((c for c in self.columns if c.role == role), None)

    @property
    def crossed(self) -> tuple[ColumnBinning, ...]:
        """The columns whose cross products are taken: the first 30 numeric features."""
        return tuple(c for c in self.columns if c.kind == "numeric" and c.role == "feature")[:CROSSED]

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
