"""The second pass over rules that failed: a few offending rows, lowest first, and their most frequent values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa

from checks.core.expression import Expression
from checks.core.expression import columns as columns_of
from monitor.arrow_types import to_micros
from monitor.ports import Relation
from monitor.profiling.lower import lower, without_nan
from monitor.profiling.masks import NOT_COUNTABLE, Masks
from monitor.profiling.nested import Nested, prefix_of

FEW = 5
ENOUGH = 1000
"""Offending rows of a rule from which its most frequent values are taken."""


@dataclass(slots=True)
class Offending:
    """Offending rows: where each is, and its values; the most frequent values with their rows; times off the event time."""

    rows: list[tuple[dict[str, Any], Any]] = field(default_factory=list)
    values: Counter[Any] = field(default_factory=Counter)
    leads: list[float] = field(default_factory=list)
    seen: int = 0

    @property
    def top(self) -> list[tuple[Any, int]]:
        """The most frequent values, the first in order where they are equally frequent."""
        return sorted(self.values.items(), key=lambda item: (-item[1], repr(item[0])))[:FEW]

    @property
    def lead(self) -> tuple[float, float] | None:
        """Median, and spread of the middle half, of the seconds by which the offending times lie off the event time."""
        if len(self.leads) < FEW:
            return None
        low, middle, high = np.quantile(self.leads, [0.25, 0.5, 0.75])
        return float(middle), float(high - low)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One failing rule: true of offending rows, and the columns or paths whose values are shown."""

    predicate: Expression
    shown: tuple[str, ...]


def from_stream(
    batches: Iterator[pa.RecordBatch], rules: Mapping[str, Wanted], types: Mapping[str, str], identifier: str | None,
    timestamp: str | None,
) -> dict[str, Offending]:
    """The offending rows of a stream; it is left when every rule has enough."""
    found = {rule: Offending() for rule in rules}
    masks, offset = Masks(types), 0
    for batch in batches:
        nested = Nested(batch, types)
        micros = to_micros(batch.column(timestamp), timestamp) if timestamp and timestamp in batch.schema.names else None
        for rule, wanted in rules.items():
            offending = found[rule]
            if offending.seen >= ENOUGH:
                continue
            try:
                mask = masks.of(batch, rule, wanted.predicate, nested)
            except NOT_COUNTABLE:
                continue
            places = np.flatnonzero(mask)[: ENOUGH - offending.seen]
            if len(places):
                _take(offending, batch, nested, wanted, places, offset, identifier, micros)
        offset += batch.num_rows
        if all(offending.seen >= ENOUGH for offending in found.values()):
            break
    return found


def _take(
    offending: Offending, batch: pa.RecordBatch, nested: Nested, wanted: Wanted, places: Any, offset: int, identifier: str | None,
    micros: pa.Array | None,
) -> None:
    offending.seen += len(places)
    elements = [name for name in wanted.shown if prefix_of(name) and name not in batch.schema.names]
    if elements:
        prefix = max((prefix_of(n) for n in elements), key=len)
        table, parents = nested.table([n for n in elements if prefix_of(n) == prefix], prefix)
        by_row: dict[int, list[Any]] = {}
        for parent, value in zip(parents.tolist() if parents is not None else [], table.column(0).to_pylist(), strict=True):
            by_row.setdefault(parent, []).append(value)
        values: list[Any] = [by_row.get(int(place), []) for place in places]
    else:
        chosen, _ = nested.table(list(wanted.shown), "")
        columns = [column.take(pa.array(places)).to_pylist() for column in chosen.columns]
        values = [row[0] if len(row) == 1 else dict(zip(wanted.shown, row, strict=True)) for row in zip(*columns, strict=True)]
        if len(wanted.shown) == 1 and micros is not None and pa.types.is_timestamp(chosen.column(0).type):
            own = to_micros(chosen.column(0).combine_chunks().take(pa.array(places)), wanted.shown[0]).to_pylist()
            event = micros.take(pa.array(places)).to_pylist()
            offending.leads += [(a - b) / 1e6 for a, b in zip(own, event, strict=True) if a is not None and b is not None]
    for value in values:
        offending.values[value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)] += 1
    known = batch.column(identifier).take(pa.array(places)).to_pylist() if identifier and identifier in batch.schema.names else None
    for index, (place, value) in enumerate(zip(places.tolist(), values, strict=True)):
        if len(offending.rows) >= FEW:
            break
        at: dict[str, Any] = {"row": offset + int(place)}
        if known is not None:
            at["id"] = known[index]
        offending.rows.append((at, value))


def from_engine(
    relation: Relation, rules: Mapping[str, Wanted], types: Mapping[str, str], identifier: str | None, timestamp: str | None,
) -> dict[str, Offending]:
    """The offending rows of an engine, lowest event time and id first; a rule that it cannot run has none."""
    found = {}
    for rule, wanted in rules.items():
        names = list(dict.fromkeys([*wanted.shown, *(n for n in (identifier, timestamp) if n)]))
        order = [n for n in (timestamp, identifier) if n] or list(wanted.shown[:1])
        offending = Offending()
        try:
            bad = relation.frame.filter(lower(without_nan(wanted.predicate, types), types))
            rows = relation.rows(bad.select(*names).sort(*order).head(FEW))
            if len(wanted.shown) == 1:
                name = wanted.shown[0]
                counted = bad.select(nw.col(name).alias("value")).group_by("value").agg(nw.len().alias("n")).top_k(FEW, by="n")
                offending.values.update({row["value"]: int(row["n"]) for row in relation.rows(counted)})
        except relation.errors as error:
            if relation.fatal(error):
                raise
            continue
        except NOT_COUNTABLE:
            continue
        for row in rows:
            at = {"id": row[identifier]} if identifier else {}
            value = row[wanted.shown[0]] if len(wanted.shown) == 1 else {n: row[n] for n in wanted.shown}
            offending.rows.append((at, value))
        offending.seen = len(rows)
        found[rule] = offending
    return found


def columns_read(rules: Mapping[str, Wanted]) -> list[str]:
    """The columns and paths that predicates and samples read."""
    names: dict[str, None] = {}
    for wanted in rules.values():
        names |= dict.fromkeys([*sorted(columns_of(wanted.predicate)), *wanted.shown])
    return list(names)


def quarantine(
    batches: Iterator[pa.RecordBatch], rules: Mapping[str, Expression], types: Mapping[str, str], keys: Mapping[str, tuple[Sequence[str], Any]],
) -> Iterator[pa.Table]:
    """The offending rows with one flag column per rule; ``keys`` are the repeated keys of rules on keys, as tables."""
    masks = Masks(types)
    for batch in batches:
        nested = Nested(batch, types)
        flags: dict[str, Any] = {}
        for rule, predicate in rules.items():
            try:
                flags[rule] = masks.of(batch, rule, predicate, nested)
            except NOT_COUNTABLE:
                continue
        for rule, (names, repeated) in keys.items():
            own, _ = nested.table(list(names), "")
            renamed = own.rename_columns(repeated.column_names)
            marked = renamed.cast(repeated.schema).append_column("at", pa.array(np.arange(batch.num_rows)))
            places = marked.join(repeated, repeated.column_names, join_type="inner").column("at").to_numpy()
            flag = np.zeros(batch.num_rows, np.bool_)
            flag[places] = True
            flags[rule] = flag
        if not flags:
            continue
        bad = np.logical_or.reduce(list(flags.values()))
        if bad.any():
            table = pa.Table.from_batches([batch])
            for rule, flag in flags.items():
                table = table.append_column(f"driftd:{rule}", pa.array(flag))
            yield table.filter(pa.array(bad))
