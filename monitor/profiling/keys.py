"""Digests of a window's keys: small, of bounded size, and comparable between windows.

A digest keeps the lowest of the keyed hashes (a bottom-k sample: E. Cohen, H. Kaplan, PODC 2007). The same keys have the
same hashes in every window, so below the smaller of two windows' highest kept hashes, what they share shows exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MOST = 8192
FULL = np.uint64(2**64 - 1)
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Digest:
    """The lowest ``hashes`` of a window's keys, ascending, and about how many different ``keys`` there are."""

    hashes: Hashes

    @classmethod
    def empty(cls) -> Digest:
        return cls(np.empty(0, np.uint64))

    @property
    def exact(self) -> bool:
        """Whether every key is in it."""
        return len(self.hashes) < MOST

    @property
    def limit(self) -> np.uint64:
        """The hash up to which every key of the window is known."""
        return FULL if self.exact else np.uint64(self.hashes[-1])

    @property
    def keys(self) -> int:
        """Different keys of the window, estimated from how densely the hashes lie where not all are kept."""
        if self.exact:
            return len(self.hashes)
        return round((MOST - 1) / (float(self.limit) / float(FULL)))

    def with_keys(self, batch: pa.RecordBatch, key: bytes) -> Digest:
        """The digest of these keys, too; those with a null are none."""
        found = np.union1d(self.hashes, hashed(batch, key))[:MOST]
        return Digest(found)

    def to_bytes(self) -> bytes:
        """8 bytes a hash."""
        return self.hashes.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, body: bytes) -> Digest:
        """What `to_bytes` wrote."""
        return cls(np.frombuffer(body, "<u8").astype(np.uint64))


def hashed(batch: pa.RecordBatch, key: bytes) -> Hashes:
    """Keyed 64-bit hashes of the rows that have no null, each different one once."""
    columns = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in batch.columns]
    table = pa.table(dict(enumerate_names(columns))).drop_null()
    if len(columns) == 1:
        rows: Sequence[Any] = table.column(0).unique().to_pylist()
        texts = [_text(value) for value in rows if value == value]
    else:
        tuples = zip(*(c.to_pylist() for c in table.columns), strict=True)
        texts = ["\x1f".join(map(_text, row)) for row in tuples if all(v == v for v in row)]
    blake, seed = hashlib.blake2b, key[:64]
    raw = b"".join(blake(t.encode("utf-8", "surrogatepass"), digest_size=8, key=seed).digest() for t in texts)
    return np.unique(np.frombuffer(raw, "<u8").astype(np.uint64))


def enumerate_names(columns: Sequence[pa.Array]) -> list[tuple[str, pa.Array]]:
    """Columns under names of their own."""
    return [(f"k{i}", column) for i, column in enumerate(columns)]


def _text(value: Any) -> str:
    """A key as text: a whole number is the same whether it is stored as an integer or a real one."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def compare(now: Digest, earlier: Sequence[tuple[datetime, bytes]]) -> dict[str, Any]:
    """What of a window's keys is in earlier windows' digests.

    ``compared`` keys could be looked up in at least one digest, ``repeated`` of them were found; ``window`` is the one
    that shares the most, with its ``share`` of the keys that both digests speak of.
    """
    repeated = np.zeros(len(now.hashes), np.bool_)
    known = np.zeros(len(now.hashes), np.bool_)
    best, window = 0.0, None
    for start, body in earlier:
        before = Digest.from_bytes(body)
        comparable = now.hashes <= min(now.limit, before.limit)
        same = comparable & np.isin(now.hashes, before.hashes)
        known |= comparable
        repeated |= same
        share = float(same.sum()) / max(int(comparable.sum()), 1)
        if share > best:
            best, window = share, start
    return {
        "keys": now.keys, "compared": int(known.sum()), "repeated": int(repeated.sum()), "exact": now.exact,
        "window": f"{window:%Y-%m-%dT%H:%MZ}" if window is not None else None, "share": round(best, 4),
    }
