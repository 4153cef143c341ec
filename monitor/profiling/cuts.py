"""Slices of the rows of a table: by categories, by bins of numbers, by expressions, and their crossings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from checks.core.binning import Binning, ColumnBinning
from checks.core.errors import SchemaError
from checks.core.expression import columns as columns_of
from checks.core.expression import parse
from checks.core.outputs import MISSING, OTHER
from monitor.arrow_types import logical_type
from monitor.config.quality import Cut, Slice
from monitor.profiling.arrow import category_texts
from monitor.profiling.binning import PUBLIC_ROWS
from monitor.profiling.joining import flat
from monitor.profiling.masks import NOT_COUNTABLE, Masks
from monitor.profiling.plan import private_category
from monitor.profiling.slices import FEWEST, MOST

Codes = NDArray[np.int32]
LONGEST = 100
BINS = 4
"""Bins of a numeric column that is named as a slice without any: quarters of the reference."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """The slices of one cut: the code of each row, and the slice of each code; None is no slice."""

    title: str
    labels: tuple[str | None, ...]
    codes: Codes


def cut_columns(cuts: Sequence[Cut]) -> list[str]:
    """The columns that the cuts read."""
    found: list[str] = []
    for part in (part for cut in cuts for part in cut.parts):
        found += [part.column] if part.column else sorted(columns_of(parse(part.where or "")))
    return list(dict.fromkeys(found))


def cut_rows(
    table: pa.Table, cuts: Sequence[Cut], binning: Binning | None, private: frozenset[str], key: bytes,
) -> tuple[list[Cutting], dict[str, str]]:
    """Every cut of the rows of ``table``, and why those that cannot be made are not, by title."""
    known = {c.name: c for c in binning.columns} if binning is not None else {}
    made: dict[tuple[str, int], tuple[list[str | None], Codes]] = {}
    found, failed = [], {}
    for cut in cuts:
        try:
            parts = []
            for part in cut.parts:
                at = (part.title, min(len(cut.parts), 3))
                if at not in made:
                    made[at] = _part(table, part, known, len(cut.parts), private, key)
                parts.append(made[at])
            found.append(_crossed(cut.title, parts))
        except (SchemaError, *NOT_COUNTABLE) as error:
            failed[cut.title] = (str(error).splitlines() or [type(error).__name__])[0]
    return found, failed


def _part(
    table: pa.Table, part: Slice, known: Mapping[str, ColumnBinning], together: int, private: frozenset[str], key: bytes,
) -> tuple[list[str | None], Codes]:
    if part.where is not None:
        expression = parse(part.where)
        for name in sorted(columns_of(expression)):
            if name not in table.schema.names:
                raise SchemaError(f"the window has no column {name!r}")
        types = {field.name: logical_type(field.type) for field in table.schema}
        names = sorted(columns_of(expression)) or table.schema.names[:1]
        rows = pa.RecordBatch.from_arrays([_decoded(flat(table, n)) for n in names], names)
        return [None, str(part.name)], Masks(types).of(rows, str(part.name), expression).astype(np.int32)
    name = str(part.column)
    if name not in table.schema.names:
        raise SchemaError(f"the window has no column {name!r}")
    values = flat(table, name)
    column, kind = known.get(name), logical_type(values.type)
    frozen = column is not None and column.kind == "numeric"
    if part.bins is None and not frozen and kind != "number":
        return _categories(name, values, column, together, name in private, key)
    if kind not in ("number", "integer", "null"):
        raise SchemaError(f"{name} is of type {kind}; bins need numbers")
    edges = part.bins if isinstance(part.bins, list) else edges_of(column if frozen else None, part.bins or BINS)
    if not edges:
        raise SchemaError(f"{name} is a number whose usual values are not known: give its bins, such as [0, 10]")
    if name in private and not isinstance(part.bins, list):
        raise SchemaError(f"{name} is personal: its usual values may not be shown; give its bins, such as [0, 10]")
    return _bins(name, values, edges)


def _decoded(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def edges_of(column: ColumnBinning | None, bins: int) -> list[float]:
    """Reference quantiles: the frozen edges are about equally heavy."""
    if column is None or not column.edges:
        return []
    at = [round(len(column.edges) * i / bins) for i in range(1, bins)]
    return sorted({column.edges[min(i, len(column.edges) - 1)] for i in at})


def _edge(edge: float) -> tuple[str, bool]:
    """An edge as text; and whether the value itself lies below it: frozen edges are one step beyond values that are frequent."""
    before = float(np.nextafter(edge, -np.inf))
    if len(repr(before)) < len(repr(edge)):
        return f"{before:.6g}", True
    return f"{edge:.6g}", False


def below(name: str, edge: float) -> str:
    """``name<edge``, or ``name<=value``."""
    text, inside = _edge(edge)
    return f"{name}{'<=' if inside else '<'}{text}"


def above(name: str, edge: float) -> str:
    """``name>=edge``, or ``name>value``."""
    text, inside = _edge(edge)
    return f"{name}{'>' if inside else '>='}{text}"


def between(name: str, low: float, high: float) -> str:
    """``low<=name<high``."""
    (first, beyond), (last, inside) = _edge(low), _edge(high)
    if first == last:
        return f"{name}={first}"
    return f"{first}{'<' if beyond else '<='}{name}{'<=' if inside else '<'}{last}"


def _bins(name: str, values: pa.Array, edges: Sequence[float]) -> tuple[list[str | None], Codes]:
    labels: list[str | None] = [below(name, edges[0])]
    labels += [between(name, low, high) for low, high in itertools.pairwise(edges)]
    labels += [above(name, edges[-1]), f"{name}={MISSING}"]
    numbers = _decoded(values).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    codes = np.searchsorted(np.asarray(edges, np.float64), numbers, side="right").astype(np.int32)
    codes[np.isnan(numbers)] = len(labels) - 1
    return labels, codes


def _categories(
    name: str, values: pa.Array, column: ColumnBinning | None, together: int, private: bool, key: bytes,
) -> tuple[list[str | None], Codes]:
    """The reference's categories first, then the window's most frequent others; what is left over is one slice.

    Texts that few rows have may tell who somebody is: they are left over, unless the reference knows them by their hash.
    """
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    indices = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    texts = category_texts(encoded.dictionary)
    counts = np.bincount(indices, minlength=len(texts) + 1)
    most = MOST.get(together, FEWEST)
    names = list(column.categories[:most]) if column is not None and column.kind == "category" else []
    place = {text: at for at, text in enumerate(names)}
    table = np.full(len(texts) + 1, -1, np.int64)
    table[-1] = -2
    for index in sorted(range(len(texts)), key=lambda i: (-counts[i], str(texts[i]))):
        text = texts[index]
        if text is None:
            table[index] = -2
            continue
        shown = private_category(text, key) if private else text if len(text) <= LONGEST else f"{text[:LONGEST]}.."
        at = place.get(shown, place.get(private_category(text, key), -1) if column is not None else -1)
        if at < 0 and len(names) < most and counts[index] >= (1 if private else PUBLIC_ROWS):
            at = place[shown] = len(names)
            names.append(shown)
        table[index] = at
    codes = np.where(table == -1, len(names), np.where(table == -2, len(names) + 1, table))[indices].astype(np.int32)
    return [f"{name}={text}" for text in (*names, OTHER, MISSING)], codes


def _crossed(title: str, parts: Sequence[tuple[list[str | None], Codes]]) -> Cutting:
    labels, codes = parts[0]
    for more, other in parts[1:]:
        codes = codes * np.int32(len(more)) + other
        labels = [None if a is None or b is None else f"{a} & {b}" for a in labels for b in more]
    return Cutting(title, tuple(labels), codes.astype(np.int32))
