"""Profiles as compact bytes: a version byte, then the compressed counts and sums."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from checks.core.binning import Binning
from checks.core.column import ColumnProfile
from checks.core.cross import CrossProducts
from checks.core.errors import BinningMismatch, ProfileFormatError
from checks.core.outputs import OutputCounts

if TYPE_CHECKING:
    from checks.core.profile import Profile

FORMAT_VERSION = 2
"""Version 1, without cross products and outputs, can still be read."""


def encode(profile: Profile) -> bytes:
    """The bytes of a profile; typically under 20 kB for 20 columns without slices."""
    whole, real, cross = [], [], profile.cross
    for column in profile.columns.values():
        whole.append(column.counts)
        real.append(column.sums)
    for counts in profile.outputs.values():
        whole += [np.diff(counts.cells, prepend=0), counts.counts]
    shape = 0
    if cross is not None:
        upper = np.triu_indices(len(cross.pairs))
        shape = 1 if cross.complete else 2
        whole.append(cross.pairs[:1, :1] if shape == 1 else cross.pairs[upper])
        real += [np.diag(cross.sums) if shape == 1 else cross.sums.ravel(), cross.products[upper]]
    head = {
        "binning": profile.binning.hash, "rows": profile.rows, "rules": profile.rules, "versions": profile.versions,
        "first": profile.first, "last": profile.last,
        "columns": [
            [c.nulls, c.nans, c.other, c.minimum.hex(), c.maximum.hex(), float(c.total).hex(), float(c.square).hex()]
            for c in profile.columns.values()
        ],
        **({"outputs": [[name, len(c.cells)] for name, c in profile.outputs.items()]} if profile.outputs else {}),
        **({"cross": [shape, len(cross.pairs), cross.sampled]} if cross is not None else {}),
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    body = len(text).to_bytes(4, "little") + text + _pack(whole, "<i8") + _pack(real, "<f8")
    return bytes([FORMAT_VERSION]) + zlib.compress(body, 6)


def decode(data: bytes, binning: Binning, *, light: bool = False) -> dict[str, Any]:
    """The fields of the profile that `encode` wrote under ``binning``; `ProfileFormatError`, `BinningMismatch`."""
    if not data or data[0] not in (1, FORMAT_VERSION):
        raise ProfileFormatError(f"stored profile format {data[:1]!r} is not {FORMAT_VERSION}")
    try:
        raw = zlib.decompress(data[1:])
        size = int.from_bytes(raw[:4], "little")
        head = json.loads(raw[4 : 4 + size])
    except (zlib.error, ValueError) as error:
        raise ProfileFormatError(f"a stored profile is damaged: {error}") from None
    if head["binning"] != binning.hash:
        raise BinningMismatch(f"a profile under binning {head['binning']} cannot be read under {binning.hash}")
    reader = _Reader(raw, 4 + size, head, binning) if data[0] == FORMAT_VERSION else _Interleaved(raw, 4 + size, head, binning)
    columns = {}
    for spec, values in zip(binning.columns, head["columns"], strict=True):
        counts, sums = reader.column(spec.bins, spec.bins if spec.kind == "numeric" else 0)
        columns[spec.name] = ColumnProfile(counts, sums, *values[:3], *(float.fromhex(v) for v in values[3:])).settled()
    kept = {key: head[key] for key in ("rows", "rules", "versions", "first", "last")}
    outputs = {}
    for name, length in head.get("outputs", ()):
        cells, counts = reader.whole(length), reader.whole(length)
        if not light:
            outputs[name] = OutputCounts(np.cumsum(cells), counts)
    cross = _cross(reader, *head["cross"]) if "cross" in head else None
    return {**kept, "columns": columns, "cross": cross, "outputs": outputs}


def _cross(reader: Any, shape: int, size: int, sampled: bool) -> CrossProducts:
    upper = np.triu_indices(size)
    if shape == 1:
        pairs = np.full((size, size), reader.whole(min(size, 1)).sum(), np.int64)
        sums = np.repeat(reader.real(size)[:, None], size, axis=1)
    else:
        pairs = _mirror(reader.whole(len(upper[0])), size)
        sums = reader.real(size * size).reshape(size, size)
    return CrossProducts(pairs, sums, _mirror(reader.real(len(upper[0])), size), sampled)


def _mirror(values: NDArray[Any], size: int) -> NDArray[Any]:
    full = np.zeros((size, size), values.dtype)
    upper = np.triu_indices(size)
    full[upper] = values
    full.T[upper] = values
    return full


def _pack(arrays: list[NDArray[Any]], kind: str) -> bytes:
    """Byte by byte instead of number by number: equal bytes stand together and compress."""
    if not arrays:
        return b""
    flat = np.concatenate([a.ravel() for a in arrays]).astype(kind)
    return flat.view(np.uint8).reshape(-1, 8).T.tobytes()


def _unpack(raw: bytes, kind: str) -> NDArray[Any]:
    return np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(8, -1).T).view(kind).ravel()


class _Reader:
    """All whole numbers, then all real ones, in the order in which they were written."""

    def __init__(self, raw: bytes, at: int, head: dict[str, Any], binning: Binning) -> None:
        wholes = sum(c.bins for c in binning.columns) + 2 * sum(length for _, length in head.get("outputs", ()))
        shape, size, _ = head.get("cross", (0, 0, False))
        wholes += 0 if not shape else min(size, 1) if shape == 1 else size * (size + 1) // 2
        self._whole = _unpack(raw[at : at + 8 * wholes], "<i8").astype(np.int64)
        self._real = _unpack(raw[at + 8 * wholes :], "<f8").astype(np.float64)
        self._at, self._real_at = 0, 0

    def whole(self, size: int) -> NDArray[np.int64]:
        self._at += size
        return self._whole[self._at - size : self._at].copy()

    def real(self, size: int) -> NDArray[np.float64]:
        self._real_at += size
        return self._real[self._real_at - size : self._real_at].copy()

    def column(self, counts: int, sums: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        return self.whole(counts), self.real(sums)


class _Interleaved(_Reader):
    """Version 1: counts and sums of one column after the other."""

    def __init__(self, raw: bytes, at: int, head: dict[str, Any], binning: Binning) -> None:
        self._raw, self._place = raw, at

    def column(self, counts: int, sums: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        found = np.frombuffer(self._raw, "<i8", counts, self._place).astype(np.int64)
        self._place += 8 * counts
        values = np.frombuffer(self._raw, "<f8", sums, self._place).astype(np.float64)
        self._place += 8 * sums
        return found, values
