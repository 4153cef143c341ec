"""Contract rules that no predicate over single rows can hold, asked apart: in the engine that has the rows, or over a
stream of them, each in bounded time and memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from checks.core.errors import SourceError
from checks.core.expression import And, Expression, IsNaN, IsNull, Not, columns
from checks.core.expression import Column as Named
from contracts.masking import without_values
from contracts.query import Duplicates, Extremes, ForeignKey, Gap, KeyHistory, Query, Sql
from contracts.rules.sql import TABLE, SqlRefused, check, over, rendered
from monitor.arrow_types import to_micros
from monitor.ports import Relation
from monitor.profiling.keys import Digest, compare
from monitor.profiling.lower import lower, without_nan
from monitor.profiling.masks import Masks
from monitor.profiling.nested import Nested, prefix_of, top_of
from monitor.profiling.scratch import Scratch, ScratchError, listed, quoted, scratch

SQL_SECONDS = 30.0
TOP = 5
MOST_KEYS = 5_000_000
"""Distinct keys that are fetched from an engine; more are an error of the rule."""

Batches = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]


class QueryError(Exception):
    """The query cannot be answered."""


REFUSED = (
    QueryError, ScratchError, LookupError, pa.ArrowException, SqlRefused, nw.exceptions.NarwhalsError, NotImplementedError, ArithmeticError,
    ValueError, TypeError, AttributeError, SourceError,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers by rule id, why others failed, and the digest of this window's keys for each key history."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asking:
    """What the queries of one window need.

    ``read`` gives batches of named columns of the window; ``other`` those of another object of the contract, or raises
    `LookupError`; ``types`` are logical types of columns and paths, ``plain`` the names of columns; ``where`` the condition of each rule that has one;
    ``earlier`` the digests of earlier windows by rule; ``key`` keys the hashes.
    """

    read: Batches
    types: Mapping[str, str]
    plain: Sequence[str]
    other: Callable[[str, Sequence[str]], Iterator[pa.RecordBatch]]
    where: Mapping[str, Expression] = field(default_factory=dict)
    key: bytes = b""
    earlier: Mapping[str, Sequence[tuple[datetime, bytes]]] = field(default_factory=dict)
    window_start: datetime | None = None
    relation: Relation | None = None


def ask(queries: Mapping[str, Query], asking: Asking) -> Asked:
    """The answers; one that fails fails alone."""
    found = Asked()
    expected = (*REFUSED, *(asking.relation.errors if asking.relation is not None else ()))
    for rule, query in queries.items():
        try:
            match query:
                case Duplicates():
                    found.answers[rule] = _duplicates(rule, query, asking)
                case ForeignKey():
                    found.answers[rule] = _foreign_key(rule, query, asking)
                case Sql():
                    found.answers[rule] = _sql(query, asking)
                case Extremes(name):
                    found.answers[rule] = _extremes(name, asking)
                case Gap(name):
                    found.answers[rule] = _gap(name, asking)
                case KeyHistory():
                    digest = _digest(query, asking)
                    found.digests[rule] = digest.to_bytes()
                    earlier = asking.earlier.get(rule, ())
                    if asking.window_start is not None and query.seconds < float("inf"):
                        oldest = asking.window_start - timedelta(seconds=query.seconds)
                        earlier = [(start, body) for start, body in earlier if start >= oldest]
                    found.answers[rule] = compare(digest, earlier[-query.windows :])
        except expected as error:
            if asking.relation is not None and isinstance(error, asking.relation.errors) and asking.relation.fatal(error):
                raise
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            ours = isinstance(error, (QueryError, LookupError, SqlRefused, SourceError))
            found.failed[rule] = line if ours else without_values(line)
    return found


# -- rows as a stream


def _stream(rule: str, names: Sequence[str], asking: Asking) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The columns or paths, of the rows that the rule's ``where`` selects."""
    where = asking.where.get(rule)
    wanted = [*names, *(sorted(columns(where)) if where is not None else ())]
    if any(prefix_of(n) for n in names):
        raise QueryError("keys of the elements of lists are not compared")
    tops = list(dict.fromkeys(top_of(n, asking.plain) or n for n in wanted))
    masks = Masks(asking.types)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in asking.read(tops):
            table, _ = Nested(batch, asking.types).table(list(names), "")
            if where is not None:
                table = table.filter(pa.array(masks.of(batch, rule, where)))
            table = table.rename_columns(keys_of(names))
            yield from table.combine_chunks().to_batches()

    stream = batches()
    first = next(stream, None)
    if first is None:
        return pa.schema([(k, pa.null()) for k in keys_of(names)]), iter(())
    schema = first.schema
    return schema, (b.cast(schema) if b.schema != schema else b for b in itertools.chain([first], stream))


def keys_of(names: Sequence[str]) -> list[str]:
    """Columns under names that clash with nothing: ``k0``, ``k1`` and so on."""
    return [f"k{i}" for i in range(len(names))]


def _present(names: Sequence[str], asking: Asking) -> str:
    """The condition that no part of a key is null or NaN."""
    keyed = list(zip(keys_of(names), names, strict=True))
    terms = [f"{k} IS NOT NULL" for k, _ in keyed]
    terms += [f"NOT isnan({k})" for k, n in keyed if asking.types.get(n) == "number"]
    return " AND ".join(terms)


# -- duplicates


def _duplicates(rule: str, query: Duplicates, asking: Asking) -> dict[str, Any]:
    names = query.columns
    if asking.relation is not None and set(names) <= set(asking.plain):
        grouped = _grouped(rule, names, asking).filter(nw.col("n") > 1)
        total = asking.relation.rows(grouped.select(
            (nw.col("n") - 1).sum().alias("surplus"), nw.len().alias("keys"), nw.col("n").sum().alias("rows"),
        ))[0]
        top = asking.relation.rows(grouped.top_k(TOP, by="n"))
        return {
            "surplus": int(total["surplus"] or 0), "keys": int(total["keys"] or 0), "rows": int(total["rows"] or 0),
            "top": [[[row[k] for k in keys_of(names)], int(row["n"])] for row in top],
        }
    with scratch() as base:
        schema, stream = _stream(rule, names, asking)
        base.table("grouped", schema, stream, (
            f"SELECT {listed(keys_of(names))}, count(*) AS n FROM stream WHERE {_present(names, asking)} GROUP BY ALL HAVING count(*) > 1"
        ))
        ((surplus, keys, rows),) = base.run("SELECT coalesce(sum(n - 1), 0), count(*), coalesce(sum(n), 0) FROM grouped")
        keys_here = listed(keys_of(names))
        most = base.run(f"SELECT {keys_here}, n FROM grouped ORDER BY n DESC, {keys_here} LIMIT {TOP}")
    return {"surplus": int(surplus), "keys": int(keys), "rows": int(rows), "top": [[list(row[:-1]), int(row[-1])] for row in most]}


def _grouped(rule: str, names: Sequence[str], asking: Asking) -> nw.LazyFrame[Any]:
    """Keys with their number of rows, in the engine."""
    assert asking.relation is not None
    frame = asking.relation.frame
    where = asking.where.get(rule)
    terms: list[Expression] = [Not(IsNull(Named(n))) for n in names]
    terms += [Not(IsNaN(Named(n))) for n in names if asking.types.get(n) == "number"]
    terms += [without_nan(where, asking.types)] if where is not None else []
    kept = frame.filter(lower(And(tuple(terms)), asking.types))
    renamed = kept.select(*(nw.col(n).alias(k) for k, n in zip(keys_of(names), names, strict=True)))
    return renamed.group_by(*keys_of(names)).agg(nw.len().alias("n"))


def _keys(rule: str, names: Sequence[str], asking: Asking, base: Scratch) -> None:
    """A table ``grouped`` of the window's keys with their rows."""
    if asking.relation is None:
        schema, stream = _stream(rule, names, asking)
        base.table("grouped", schema, stream, f"SELECT {listed(keys_of(names))}, count(*) AS n FROM stream WHERE {_present(names, asking)} GROUP BY ALL")
        return
    found = _grouped(rule, names, asking).head(MOST_KEYS + 1).collect("pyarrow").to_native()
    if found.num_rows > MOST_KEYS:
        raise QueryError(f"the window has more than {MOST_KEYS:,} different keys")
    base.table("grouped", found.schema, iter(found.to_batches()))


def offending_keys(rule: str, query: Query, asking: Asking) -> tuple[tuple[str, ...], pa.Table] | None:
    """The keys that break a rule on keys, with their columns; None for a rule on no keys. `QueryError`, `ScratchError`."""
    if not isinstance(query, (Duplicates, ForeignKey)):
        return None
    with scratch() as base:
        if isinstance(query, ForeignKey):
            _lost(rule, query, asking, base)
            return query.columns, base.arrow(f"SELECT {listed(keys_of(query.columns))} FROM lost LIMIT {MOST_KEYS}")
        _keys(rule, query.columns, asking, base)
        return query.columns, base.arrow(f"SELECT {listed(keys_of(query.columns))} FROM grouped WHERE n > 1 LIMIT {MOST_KEYS}")


# -- foreign keys


def _foreign_key(rule: str, query: ForeignKey, asking: Asking) -> dict[str, Any]:
    names = query.columns
    with scratch() as base:
        _lost(rule, query, asking, base)
        ((bad, keys),) = base.run("SELECT coalesce(sum(n), 0), count(*) FROM lost")
        shown = listed(keys_of(names))
        top = base.run(f"SELECT {shown}, n FROM lost ORDER BY n DESC, {shown} LIMIT {TOP}")
    return {"bad": int(bad), "keys": int(keys), "top": [[list(row[:-1]), int(row[-1])] for row in top]}


def _lost(rule: str, query: ForeignKey, asking: Asking, base: Scratch) -> None:
    """A table ``lost`` of the window's keys, with their rows, that the object referred to does not have."""
    names = query.columns
    _keys(rule, names, asking, base)
    there = asking.other(query.object, query.to)
    first = next(there, None)
    if first is None:
        raise QueryError(f"the object {query.object!r} has no rows")
    base.table("there", first.schema, itertools.chain([first], there), f"SELECT DISTINCT {listed(query.to)} FROM stream")
    same = " AND ".join(f"g.{quoted(a)}::VARCHAR = t.{quoted(b)}::VARCHAR" for a, b in zip(keys_of(names), query.to, strict=True))
    plain = " AND ".join(f"g.{quoted(a)} = t.{quoted(b)}" for a, b in zip(keys_of(names), query.to, strict=True))
    try:
        base.run(f"CREATE TABLE lost AS SELECT g.* FROM grouped g ANTI JOIN there t ON {plain}")
    except ScratchError:  # of types that cannot be compared: as texts
        base.run(f"CREATE TABLE lost AS SELECT g.* FROM grouped g ANTI JOIN there t ON {same}")


# -- SQL


def _sql(query: Sql, asking: Asking) -> dict[str, Any]:
    dialect = asking.relation.dialect if asking.relation is not None else "duckdb"
    text, names = rendered(query.text, query.column, dialect), (TABLE, *query.names)
    check(text, dialect, frozenset(query.names))
    if asking.relation is not None:
        return {"value": _number(asking.relation.query(text, names, SQL_SECONDS))}
    with scratch() as base:
        batches = asking.read(_mentioned(text, asking.plain))
        first = next(batches, None)
        if first is None:
            raise QueryError("the window has no rows")
        base.table(TABLE, first.schema, itertools.chain([first], batches))
        base.lock(SQL_SECONDS)
        return {"value": _number(base.run(over(text, names, "duckdb")))}


def _mentioned(text: str, available: Sequence[str]) -> list[str]:
    """The columns that a query reads; all of them where it says ``*``."""
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(text, dialect="duckdb")
    named = {identifier.name.lower() for identifier in tree.find_all(exp.Identifier)}
    stars = [star for star in tree.find_all(exp.Star) if not isinstance(star.parent, exp.Count)]
    found = [name for name in available if name.lower() in named]
    return list(available) if stars else found or list(available[:1])


def _number(rows: Sequence[Sequence[Any]]) -> float | None:
    if len(rows) != 1 or len(rows[0]) != 1:
        raise QueryError(f"the query must give one number; it gave {len(rows) if len(rows) <= 1000 else 'over 1000'} rows of {len(rows[0]) if rows else 0} columns")
    value = rows[0][0]
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise QueryError(f"the query must give one number; it gave a {type(value).__name__}") from None


# -- times


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)


def _extremes(name: str, asking: Asking) -> dict[str, Any]:
    if asking.relation is not None:
        (row,) = asking.relation.rows(asking.relation.frame.select(nw.col(name).min().alias("a"), nw.col(name).max().alias("b")))
        ends = [None if v is None else to_micros(pa.array([v]), name)[0].as_py() for v in (row["a"], row["b"])]
        return {"first": _moment(ends[0]), "last": _moment(ends[1])}
    first = last = None
    for batch in asking.read([name]):
        found = pc.min_max(to_micros(batch.column(name), name)).as_py()
        if found["min"] is not None:
            first = found["min"] if first is None else min(first, found["min"])
            last = found["max"] if last is None else max(last, found["max"])
    return {"first": _moment(first), "last": _moment(last)}


def _gap(name: str, asking: Asking) -> dict[str, Any]:
    if asking.relation is not None:
        times = asking.relation.frame.select(name).unique().head(MOST_KEYS + 1).collect("pyarrow").to_native()
        batches: Iterator[pa.RecordBatch] = iter(times.to_batches())
    else:
        batches = asking.read([name])
    seen: list[Any] = []
    for batch in batches:
        values = np.unique(to_micros(batch.column(name), name).drop_null().to_numpy(zero_copy_only=False))
        seen.append(values)
        if sum(map(len, seen)) > 2 * MOST_KEYS:
            seen = [np.unique(np.concatenate(seen))]
            if len(seen[0]) > MOST_KEYS:
                raise QueryError(f"the window has more than {MOST_KEYS:,} different times")
    every = np.unique(np.concatenate(seen)) if seen else np.empty(0)
    if len(every) < 2:
        return {"seconds": None, "after": None}
    gaps = np.diff(every)
    place = int(gaps.argmax())
    moment = _moment(int(every[place]))
    return {"seconds": float(gaps[place]) / 1e6, "after": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}


# -- keys over time


def _digest(query: KeyHistory, asking: Asking) -> Digest:
    names = query.columns
    digest = Digest.empty()
    if asking.relation is not None:
        found = _grouped("", names, asking).head(MOST_KEYS + 1).collect("pyarrow").to_native()
        if found.num_rows > MOST_KEYS:
            raise QueryError(f"the window has more than {MOST_KEYS:,} different keys")
        stream: Iterator[pa.RecordBatch] = iter(found.select(keys_of(names)).to_batches())
    else:
        _, stream = _stream("", names, asking)
    for batch in stream:
        digest = digest.with_keys(batch, asking.key)
    return digest
