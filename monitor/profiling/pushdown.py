"""The push-down executor: a plan as aggregate queries in the engine that holds the rows; only the profile comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np

from checks.core.binning import ColumnBinning
from checks.core.column import ColumnProfile
from checks.core.cross import CrossProducts
from checks.core.errors import SourceError
from checks.core.outputs import ALL, BAD_SCORE, NO_SCORE, SCORE_BINS, OutputCounts, output_shape
from checks.core.profile import Profile
from monitor.arrow_types import to_micros
from monitor.ports import Relation
from monitor.profiling.lower import lower, without_nan
from monitor.profiling.plan import Plan, private_category, unreadable_columns
from monitor.profiling.slices import SliceKey, slice_keys, split

CANDIDATES = 10_000
"""Texts of one column, the most frequent that are not known by name, whose keyed hashes are looked up."""

VERSIONS = 1000
CROSS_ROWS = 25_000
"""About so many rows are sampled for cross products: a correlation is then known to about 0.006."""

GAPPED = 12
"""Columns with missing values that take part in cross products: each asks for sums with every other column."""

LARGEST = 1.7976931348623157e308
NULL, NAN, INFINITE = -1, -2, -3
KNOWN, OTHER, CANDIDATE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _Part:
    """One group-by of the union: ``what`` it counts, for which column."""

    what: int
    column: ColumnBinning | None
    query: nw.LazyFrame[Any]


class PushDown:
    """Runs a plan as lazy narwhals queries over a relation: one row of scalars and rules, one union of group-bys by bin
    number or category, and where the plan asks for them one of outputs by slice and one of cross products.

    ``failed`` says, after a scan, which rules the engine could not count and why; ``unreadable`` which columns of the
    binning are missing, of a type that cannot be binned, or could not be aggregated.
    """

    def __init__(self, plan: Plan, types: Mapping[str, str]) -> None:
        self._plan = plan
        self._types = types
        self.failed: dict[str, str] = {}
        self.unreadable = unreadable_columns(plan, types)
        self._names: dict[str, dict[str, int]] = {}

    def scan(self, relation: Relation) -> Profile:
        """The profile of all rows of ``relation``; `SourceError` when the rows changed between two queries."""
        total = Profile.empty(self._plan.binning)
        total.rules = dict.fromkeys(self._plan.rules, 0)
        self._scalars(relation, total)
        if total.rows:
            self._groups(relation, total)
            for column in self._plan.binning.columns:
                self._whole(column, total)
            if self._plan.outputs:
                total.outputs = self._outputs(relation)
        if self._plan.cross:
            total.cross = self._cross(relation, total)
        return total

    @property
    def _readable(self) -> list[ColumnBinning]:
        return [c for c in self._plan.binning.columns if c.name not in self.unreadable and self._types.get(c.name) != "null"]

    def _whole(self, column: ColumnBinning, total: Profile) -> None:
        found = total.columns[column.name]
        if self._types.get(column.name) == "null" and column.name not in self.unreadable:
            found.nulls = total.rows
        if column.kind == "text" or column.name in self.unreadable:
            return
        rows = found.filled + found.other + found.missing
        if rows != total.rows:
            raise SourceError(f"the rows changed while they were counted: {total.rows}, then {rows} of column {column.name}")

    # -- scalars and rules

    def _scalars(self, relation: Relation, total: Profile) -> None:
        wanted: dict[str, nw.Expr] = {"rows": nw.len()}
        if self._plan.timestamp:
            wanted |= {"first": nw.col(self._plan.timestamp).min(), "last": nw.col(self._plan.timestamp).max()}
        texts = [c for c in self._readable if c.kind == "text"]
        for index, column in enumerate(texts):
            value = nw.col(column.name)
            length = value.str.len_chars()
            wanted[f"t{index}n"] = _count(value.is_null())
            wanted[f"t{index}l"] = length.sum()
            wanted[f"t{index}e"] = _count(length == 0)
        flags = self._flags()
        try:
            row = _row(relation, relation.frame, wanted | {f"r{i}": flag for i, flag in enumerate(flags.values())})
        except relation.errors as error:
            if not flags or relation.fatal(error):
                raise
            row = _row(relation, relation.frame, wanted)
            row |= self._rule_by_rule(relation, flags)
        total.rows = int(row["rows"])
        for index, column in enumerate(texts):
            found = total.columns[column.name]
            found.nulls, found.other = int(row[f"t{index}n"] or 0), int(row[f"t{index}e"] or 0)
            found.total = float(row[f"t{index}l"] or 0)
        for index, rule in enumerate(flags):
            if rule not in self.failed:
                total.rules[rule] = int(row[f"r{index}"] or 0)
        if total.rows and self._plan.timestamp:
            total.first, total.last = _micros(row["first"]), _micros(row["last"])

    def _flags(self) -> dict[str, nw.Expr]:
        found = {}
        for rule, expression in self._plan.rules.items():
            try:
                found[rule] = _count(lower(without_nan(expression, self._types), self._types))
            except (nw.exceptions.NarwhalsError, TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError) as error:
                self.failed[rule] = _first_line(error)
        return found

    def _rule_by_rule(self, relation: Relation, flags: Mapping[str, nw.Expr]) -> dict[str, Any]:
        """Counts rule by rule, so that one that the engine cannot run fails alone."""
        found: dict[str, Any] = {}
        for index, (rule, flag) in enumerate(flags.items()):
            try:
                found |= _row(relation, relation.frame, {f"r{index}": flag})
            except relation.errors as error:
                if relation.fatal(error):
                    raise
                self.failed[rule] = _first_line(error)
        return found

    # -- bins and categories

    def _groups(self, relation: Relation, total: Profile) -> None:
        parts = self._parts(relation)
        if not parts:
            return
        try:
            rows = relation.rows(nw.concat([p.query for p in parts], how="vertical"))
        except relation.errors as error:
            if relation.fatal(error):
                raise
            parts = self._parts(relation, guarded=True)
            rows = self._part_by_part(relation, parts)
        groups: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(int(row["what"]), []).append(row)
        for part in parts:
            found = groups.get(part.what, [])
            if part.column is None:
                for row in found:
                    name = str(row["key"] or "")
                    total.versions[name] = total.versions.get(name, 0) + int(row["n"])
            elif part.column.name in self.unreadable:
                continue
            elif part.column.kind == "numeric":
                _fill_numbers(total.columns[part.column.name], found)
            else:
                self._fill_categories(part.column, total.columns[part.column.name], found)

    def _part_by_part(self, relation: Relation, parts: Sequence[_Part]) -> list[dict[str, Any]]:
        """Counts column by column, so that one that the engine cannot aggregate is reported alone."""
        rows: list[dict[str, Any]] = []
        failed = 0
        for part in parts:
            try:
                rows += relation.rows(part.query)
            except relation.errors as error:
                failed += 1
                if relation.fatal(error) or part.column is None or failed == len(parts):
                    raise  # when no column can be counted it is not the columns' fault
                self.unreadable[part.column.name] = f"the engine could not aggregate it: {_first_line(error)}"
        return rows

    def _parts(self, relation: Relation, *, guarded: bool = False) -> list[_Part]:
        frame = relation.frame
        parts: list[_Part] = []
        for column in self._readable:
            if column.kind == "numeric":
                parts.append(_Part(len(parts), column, _by_bin(relation, column, len(parts), guarded)))
            elif column.kind == "category":
                parts.append(_Part(len(parts), column, self._by_category(frame, column, len(parts))))
                if any(c.startswith("#") for c in column.categories):
                    parts[-1] = _Part(parts[-1].what, column, nw.concat(
                        [parts[-1].query, self._candidates(frame, column, parts[-1].what)], how="vertical"
                    ))
        if self._plan.version:
            key = nw.col(self._plan.version).cast(nw.String)
            counted = frame.select(key.alias("key")).group_by("key").agg(nw.len().alias("n")).top_k(VERSIONS, by="n")
            parts.append(_Part(len(parts), None, _uniform(counted, len(parts), code=nw.lit(0))))
        return parts

    def _text(self, column: ColumnBinning) -> nw.Expr:
        """The category as text: booleans as true and false."""
        value = nw.col(column.name)
        if self._types.get(column.name) == "boolean":
            return nw.when(value).then(nw.lit("true")).otherwise(nw.when(~value).then(nw.lit("false")))
        return value.cast(nw.String)

    def _by_category(self, frame: nw.LazyFrame[Any], column: ColumnBinning, what: int) -> nw.LazyFrame[Any]:
        known = [c for c in column.categories if not c.startswith("#")]
        keyed = frame.select(self._text(column).alias("key"))
        keyed = keyed.with_columns(code=_category_code(nw.col("key"), known))
        keyed = keyed.with_columns(key=nw.when(nw.col("code") == KNOWN).then(nw.col("key")))
        return _uniform(keyed.group_by("code", "key").agg(nw.len().alias("n")), what, code=nw.col("code"))

    def _candidates(self, frame: nw.LazyFrame[Any], column: ColumnBinning, what: int) -> nw.LazyFrame[Any]:
        """The most frequent texts that are not known by name: some may be known by their hash."""
        known = [c for c in column.categories if not c.startswith("#")]
        keyed = frame.select(self._text(column).alias("key"))
        keyed = keyed.filter(_category_code(nw.col("key"), known) == OTHER)
        counted = keyed.group_by("key").agg(nw.len().alias("n")).top_k(CANDIDATES, by="n")
        return _uniform(counted, what, code=nw.lit(CANDIDATE))

    def _fill_categories(self, column: ColumnBinning, found: ColumnProfile, rows: Sequence[Mapping[str, Any]]) -> None:
        places = {name: i for i, name in enumerate(column.categories)}
        names = self._names.setdefault(column.name, {n: i for n, i in places.items() if not n.startswith("#")})
        for row in rows:
            code, n = int(row["code"]), int(row["n"])
            if code == NULL:
                found.nulls += n
            elif code == OTHER:
                found.other += n
            elif code == KNOWN:
                found.counts[names[row["key"]]] += n
            else:
                place = places.get(private_category(row["key"], self._plan.key))
                if place is not None:
                    names[row["key"]] = place
                    found.counts[place] += n
                    found.other -= n

    # -- outputs

    def _outputs(self, relation: Relation) -> dict[str, OutputCounts]:
        binning = self._plan.binning
        shape = output_shape(binning)
        width = shape[0] * shape[1] * shape[2]
        keys: list[SliceKey | None] = [None, *slice_keys(binning, self._plan.slices)]
        readable = {c.name for c in self._readable}
        classes = [c for c in (binning.of_role("prediction"), binning.of_role("label")) if c is not None and c.kind == "category"]
        wide = max(len(k.columns) if k else 0 for k in keys) + len(classes)
        queries = []
        for index, key in enumerate(keys):
            columns = [*classes, *(key.columns if key else ())]
            queries.append(self._by_output(relation.frame, index, columns, wide, readable))
        cells: list[dict[int, int]] = [{} for _ in keys]
        for row in relation.rows(nw.concat(queries, how="vertical")):
            index = int(row["what"])
            key = keys[index]
            codes = [
                self._place(column, row[f"c{at}"], row[f"k{at}"]) if column.name in readable else column.bins + 1
                for at, column in enumerate([*classes, *(key.columns if key else ())])
            ]
            cell = int(row["score"]) if shape[0] > 1 else 0
            for column, code in zip(classes, codes, strict=False):
                cell = cell * (column.bins + 2) + code
            place = 0
            for at, code in enumerate(codes[len(classes) :]):
                assert key is not None
                place = place * len(key.names[at]) + key.place(at, code)
            whole = place * width + cell
            cells[index][whole] = cells[index].get(whole, 0) + int(row["n"])
        found: dict[str, OutputCounts] = {}
        for key, counted in zip(keys, cells, strict=True):
            order = sorted(counted)
            output = OutputCounts(np.array(order, np.int64), np.array([counted[c] for c in order], np.int64))
            found |= {ALL: output} if key is None else split(key, output, width)
        return found

    def _by_output(
        self, frame: nw.LazyFrame[Any], what: int, columns: Sequence[ColumnBinning], wide: int, readable: set[str],
    ) -> nw.LazyFrame[Any]:
        score = self._plan.binning.of_role("score")
        chosen: dict[str, nw.Expr] = {
            "score": _score_bin(nw.col(score.name)) if score and score.name in readable else nw.lit(NO_SCORE, nw.Int64)
        }
        for at in range(wide):
            column = columns[at] if at < len(columns) else None
            if column is None or column.name not in readable:
                chosen |= {f"c{at}": nw.lit(NULL, nw.Int64), f"k{at}": nw.lit(None, nw.String)}
                continue
            text = self._text(column)
            code = _category_code(text, list(self._names.get(column.name, {})))
            chosen |= {f"c{at}": code, f"k{at}": nw.when(code == KNOWN).then(text)}
        coded = frame.select(*(e.alias(name) for name, e in chosen.items()))
        counted = coded.group_by(*chosen).agg(nw.len().alias("n"))
        return counted.select(nw.lit(what, nw.Int64).alias("what"), *(nw.col(n) for n in chosen), nw.col("n").cast(nw.Int64))

    def _place(self, column: ColumnBinning, code: Any, key: Any) -> int:
        if int(code) == KNOWN:
            return self._names[column.name][key]
        return column.bins + 1 if int(code) == NULL else column.bins

    # -- cross products

    def _cross(self, relation: Relation, total: Profile) -> CrossProducts:
        crossed = list(self._plan.binning.crossed)
        empty = CrossProducts.empty(len(crossed))
        if not crossed or not total.rows:
            return empty
        readable = {c.name for c in self._readable}
        gapped: dict[int, bool] = {}
        for index, column in enumerate(crossed):
            found = total.columns[column.name]
            gaps = found.filled < total.rows
            if column.name in readable and found.filled and not (gaps and sum(gapped.values()) >= GAPPED):
                gapped[index] = gaps
        if not gapped:
            return CrossProducts(empty.pairs, empty.sums, empty.products, sampled=True)
        fraction = min(1.0, CROSS_ROWS / total.rows)
        frame = relation.sample(fraction) if fraction < 1 else relation.frame
        try:
            row = _row(relation, *_products(frame, crossed, gapped))
        except relation.errors as error:  # a product beyond the range of a double: these sums cannot be known
            if relation.fatal(error):
                raise
            return CrossProducts(empty.pairs, empty.sums, empty.products, sampled=True)
        n = int(row["n"])
        for i in gapped:
            for j in gapped:
                low, high = min(i, j), max(i, j)
                pair = [k for k in dict.fromkeys((low, high)) if gapped[k]]
                empty.pairs[i, j] = n if not pair else int(row["n" + "_".join(map(str, pair))] or 0)
                empty.sums[i, j] = float(row[f"s{i}_{j}" if gapped[j] and i != j else f"s{i}"] or 0.0)
                empty.products[i, j] = float(row[f"q{low}_{high}"] or 0.0)
        return CrossProducts(empty.pairs, empty.sums, empty.products, sampled=fraction < 1)


def _products(
    frame: nw.LazyFrame[Any], crossed: Sequence[ColumnBinning], gapped: Mapping[int, bool],
) -> tuple[nw.LazyFrame[Any], dict[str, nw.Expr]]:
    """Standardised values and whether they are there, and the sums over them that cross products need."""
    standard = {}
    for index, gaps in gapped.items():
        column = crossed[index]
        value = nw.col(column.name).cast(nw.Float64)
        shifted = (value - column.center) * column.scale
        if gaps:
            finite = ~value.is_null() & ~value.is_nan() & (value >= -LARGEST) & (value <= LARGEST)
            standard[f"p{index}"] = nw.when(finite).then(1.0).otherwise(0.0)
            shifted = nw.when(finite).then(shifted).otherwise(0.0)
        standard[f"z{index}"] = shifted
    wanted: dict[str, nw.Expr] = {"n": nw.len()}
    order = sorted(gapped)
    for place, i in enumerate(order):
        wanted[f"s{i}"] = nw.col(f"z{i}").sum()
        if gapped[i]:
            wanted[f"n{i}"] = nw.col(f"p{i}").sum()
        for j in order[place:]:
            wanted[f"q{i}_{j}"] = (nw.col(f"z{i}") * nw.col(f"z{j}")).sum()
            if i != j and gapped[i] and gapped[j]:
                wanted[f"n{i}_{j}"] = (nw.col(f"p{i}") * nw.col(f"p{j}")).sum()
        wanted |= {f"s{i}_{j}": (nw.col(f"z{i}") * nw.col(f"p{j}")).sum() for j in order if i != j and gapped[j]}
    return frame.select(*(e.alias(name) for name, e in standard.items())), wanted


def _by_bin(relation: Relation, column: ColumnBinning, what: int, guarded: bool) -> nw.LazyFrame[Any]:
    """Rows, sum, extremes and squares by bin number; null, NaN and infinite values in groups of their own.

    ``guarded`` is slower and outlives squares that a double cannot hold.
    """
    value = nw.col("x")
    shifted = value - column.center
    square = shifted * shifted
    if guarded:  # PostgreSQL refuses a product beyond the range of a double
        size = nw.when(shifted < 0.0).then(0.0 - shifted).otherwise(shifted)
        square = nw.when(size > 1e154).then(nw.lit(math.inf)).otherwise(nw.when(size < 1e-154).then(nw.lit(0.0)).otherwise(square))
    numbers = relation.frame.select(nw.col(column.name).cast(nw.Float64).alias("x"))
    edges = column.edges
    ready = relation.bucketed(numbers, edges) if len(edges) > 2 else None
    inside = _halved(value, edges, 1, len(edges) - 1) if ready is None else nw.col("inside")
    counted = (numbers if ready is None else ready).with_columns(code=_bin(value, edges, inside)).group_by("code").agg(
        nw.len().alias("n"), value.sum().alias("total"), value.min().alias("low"), value.max().alias("high"),
        square.sum().alias("square"),
    )
    numeric = {name: nw.col(name) for name in ("total", "low", "high", "square")}
    return _uniform(counted, what, code=nw.col("code"), key=nw.lit(None, nw.String), **numeric)


def _bin(value: nw.Expr, edges: Sequence[float], inside: nw.Expr) -> nw.Expr:
    """The bin number; most rows are asked for two edges only, and then for ``inside``.

    What is not below the last edge may be null, NaN or infinite: some engines sort NaN above all numbers, in the others
    it compares with none.
    """
    number = nw.lit(len(edges), nw.Int64)
    low = nw.when(value >= -LARGEST).then(nw.lit(0, nw.Int64)).otherwise(nw.lit(INFINITE, nw.Int64))
    infinite = value > LARGEST
    if not edges:
        infinite = infinite | (value < -LARGEST)
    high = nw.when(infinite).then(nw.lit(INFINITE, nw.Int64)).otherwise(number)
    high = nw.when(value.is_nan()).then(nw.lit(NAN, nw.Int64)).otherwise(high)
    high = nw.when(value.is_null()).then(nw.lit(NULL, nw.Int64)).otherwise(high)
    if not edges:
        return high
    within = nw.when(value < nw.lit(edges[-1], nw.Float64)).then(inside).otherwise(high) if len(edges) > 1 else high
    below = nw.when(value < nw.lit(edges[0], nw.Float64)).then(low).otherwise(within)
    return below


def _halved(value: nw.Expr, edges: Sequence[float], low: int, high: int) -> nw.Expr:
    """The bin number between ``low`` and ``high`` by halving."""
    if low >= high:
        return nw.lit(low, nw.Int64)
    middle = (low + high) // 2
    below, above = _halved(value, edges, low, middle), _halved(value, edges, middle + 1, high)
    return nw.when(value < nw.lit(edges[middle], nw.Float64)).then(below).otherwise(above)


def _category_code(key: nw.Expr, known: Sequence[str]) -> nw.Expr:
    inside = nw.when(key.is_in(known)).then(nw.lit(KNOWN, nw.Int64)).otherwise(nw.lit(OTHER, nw.Int64)) if known else nw.lit(OTHER, nw.Int64)
    return nw.when(key.is_null()).then(nw.lit(NULL, nw.Int64)).otherwise(inside)


def _score_bin(score: nw.Expr) -> nw.Expr:
    value = score.cast(nw.Float64)
    inside = nw.when(value >= 1.0).then(nw.lit(SCORE_BINS - 1, nw.Int64)).otherwise((value * SCORE_BINS).floor().cast(nw.Int64))
    known = nw.when(value.is_nan() | (value < 0.0) | (value > 1.0)).then(nw.lit(BAD_SCORE, nw.Int64)).otherwise(inside)
    return nw.when(value.is_null()).then(nw.lit(NO_SCORE, nw.Int64)).otherwise(known)


def _uniform(counted: nw.LazyFrame[Any], what: int, **columns: nw.Expr) -> nw.LazyFrame[Any]:
    """Counted groups with the columns that all parts of the union share."""
    nothing = nw.lit(None, nw.Float64)
    chosen = {"what": nw.lit(what, nw.Int64), "key": nw.col("key") if "key" not in columns else columns["key"], "n": nw.col("n")}
    chosen |= {name: nothing for name in ("total", "low", "high", "square")} | columns
    order = ("what", "code", "key", "n", "total", "low", "high", "square")
    whole = ("what", "code", "n")
    return counted.select(*((chosen[name].cast(nw.Int64) if name in whole else chosen[name]).alias(name) for name in order))


def _fill_numbers(found: ColumnProfile, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        code, n = int(row["code"]), int(row["n"])
        if code == NULL:
            found.nulls += n
        elif code == NAN:
            found.nans += n
        elif code == INFINITE:
            found.other += n
        else:
            found.counts[code] += n
            found.sums[code] += float(row["total"])
            found.square += float(row["square"])
            found.minimum, found.maximum = min(found.minimum, float(row["low"])), max(found.maximum, float(row["high"]))
    found.total = float(found.sums.sum())


def _count(predicate: nw.Expr) -> nw.Expr:
    return nw.when(predicate).then(1).otherwise(0).sum()


def _row(relation: Relation, frame: nw.LazyFrame[Any], wanted: Mapping[str, nw.Expr]) -> dict[str, Any]:
    return relation.rows(frame.select(*(e.alias(name) for name, e in wanted.items())))[0]


def _micros(value: Any) -> int | None:
    import pyarrow as pa

    return None if value is None else to_micros(pa.array([value]), "event time")[0].as_py()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

