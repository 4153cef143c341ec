"""Tables, plans and rules that every engine must count alike, and an oracle in plain Python."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from checks.core.binning import Binning, ColumnBinning
from checks.core.expression import Expression, parse
from checks.core.profile import Profile
from checks.core.window import Window
from monitor.profiling.plan import Plan, private_category

START = datetime(2024, 3, 10, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(days=1))
KEY = b"secret of the tests"
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """``rules`` are SQL and the same in Python; ``inside`` says whether a row lies in the window."""

    name: str
    table: pa.Table
    columns: tuple[ColumnBinning, ...]
    rules: tuple[tuple[str, Callable[[Row], bool]], ...] = ()
    inside: Callable[[Row], bool] = lambda row: True
    timestamp: str = "at"
    slices: tuple[tuple[str, ...], ...] = ()
    outputs: bool = False
    version: str | None = None

    @property
    def binning(self) -> Binning:
        return Binning(self.columns)

    @property
    def plan(self) -> Plan:
        rules: dict[str, Expression] = {sql: parse(sql) for sql, _ in self.rules}
        return Plan(self.binning, rules, self.version, self.timestamp, KEY, self.slices, self.outputs)


def times(rows: int, step: timedelta = timedelta(seconds=7)) -> pa.Array:
    return pa.array([START + step * i for i in range(rows)], pa.timestamp("us", "UTC"))


def numbers() -> Case:
    edges = (-1.5, 0.0, 0.1, float(np.nextafter(0.1, 1)), 1 / 3, 2.0, 1e15)
    values: list[float | None] = [
        None, math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-300, -1.5, float(np.nextafter(-1.5, -2)), 0.1, float(np.nextafter(0.1, 0)),
        float(np.nextafter(0.1, 1)), 1 / 3, float(np.nextafter(1 / 3, 0)), 2.0, 1e15, 1e15 + 0.125, 123.456, None, math.nan,
    ]
    random = np.random.default_rng(3)
    values += [float(v) for v in random.normal(size=980)]
    other = [None if i % 7 == 0 else v for i, v in enumerate(random.lognormal(size=1000).tolist())]
    return Case(
        "NaN, null, infinite values and values on an edge",
        pa.table({"at": times(1000), "x": pa.array(values, pa.float64()), "y": pa.array(other, pa.float64())}),
        (ColumnBinning("x", "numeric", edges=edges, center=0.1, spread=1.2), ColumnBinning("y", "numeric", edges=(1.0,), spread=2.0)),
        (
            ("x > 0.1", lambda r: r["x"] is not None and r["x"] > 0.1), ("x IS NULL", lambda r: r["x"] is None),
            ("ISNAN(x)", lambda r: r["x"] is not None and math.isnan(r["x"])),
            ("x + y > 1 AND NOT ISNAN(x)", lambda r: r["x"] is not None and r["y"] is not None and r["x"] + r["y"] > 1),
            ("y BETWEEN 0.5 AND 1.5 OR x = 2", lambda r: (r["y"] is not None and 0.5 <= r["y"] <= 1.5) or r["x"] == 2),
        ),
    )


def small(name: str, rows: int) -> Case:
    table = numbers().table.slice(14, rows)
    if not rows:
        table = pa.table({"at": [START - timedelta(days=2)], "x": [1.0], "y": [1.0]}, schema=table.schema)
    return Case(name, table, numbers().columns, numbers().rules, lambda r: bool(rows))


def integers() -> Case:
    top = 2**53
    values = [0, 1, -1, top - 1, top, top + 1, top + 2, top + 3, -top - 1, 2**63 - 1, -(2**63), None, *range(50)]
    edges = (-1.0, 0.0, 10.0, float(top), float(top + 2), 9.2e18)
    return Case(
        "integers beyond 2^53",
        pa.table({"at": times(len(values)), "n": pa.array(values, pa.int64()), "k": pa.array([i % 3 for i in range(len(values))], pa.int16())}),
        (ColumnBinning("n", "numeric", edges=edges), ColumnBinning("k", "category", categories=("0", "2"))),
        (
            ("n > 9007199254740992", lambda r: r["n"] is not None and r["n"] > top), ("n = 9007199254740993", lambda r: r["n"] == top + 1),
            ("k IN (0, 2)", lambda r: r["k"] in (0, 2)),
        ),
    )


def decimals() -> Case:
    values = [None if i % 11 == 0 else Decimal(i * 37 - 500) / 100 for i in range(400)]
    return Case(
        "decimals", pa.table({"at": times(400), "d": pa.array(values, pa.decimal128(12, 2))}),
        (ColumnBinning("d", "numeric", edges=(-2.5, 0.1, 0.35, 10.0, 99.99), center=3.3, spread=7.0),),
        (("d > 10.5", lambda r: r["d"] is not None and r["d"] > Decimal("10.5")), ("d <= -2", lambda r: r["d"] is not None and r["d"] <= -2)),
    )


def booleans() -> Case:
    values = [None if i % 5 == 0 else i % 3 == 0 for i in range(300)]
    return Case(
        "booleans", pa.table({"at": times(300), "b": pa.array(values, pa.bool_())}),
        (ColumnBinning("b", "category", categories=("false", "true")),),
        (("b = TRUE", lambda r: r["b"] is True), ("b IS NULL", lambda r: r["b"] is None)),
    )


def dates() -> Case:
    days = [None if i % 9 == 0 else date(2024, 1, 1) + timedelta(days=i) for i in range(90)]
    moments = [None if i % 4 == 0 else datetime(2024, 3, 10, 1, tzinfo=UTC) + timedelta(hours=i) for i in range(90)]
    return Case(
        "dates and times in rules",
        pa.table({"at": times(90), "d": pa.array(days, pa.date32()), "t": pa.array(moments, pa.timestamp("us", "UTC")), "x": np.arange(90.0)}),
        (ColumnBinning("x", "numeric", edges=(10.0, 50.0)),),
        (
            ("d < '2024-02-01'", lambda r: r["d"] is not None and r["d"] < date(2024, 2, 1)),
            ("t >= '2024-03-11T00:00:00+00:00'", lambda r: r["t"] is not None and r["t"] >= datetime(2024, 3, 11, tzinfo=UTC)),
        ),
    )


def zones(name: str, kind: Any, values: list[Any]) -> Case:
    """Rows about the edges of the window, by event times of one kind."""
    moments = [_moment(v) for v in values]
    return Case(
        f"event times: {name}", pa.table({"at": pa.array(values, kind), "x": np.arange(float(len(values)))}),
        (ColumnBinning("x", "numeric", edges=(2.0, 5.0)),),
        inside=lambda r: moments[int(r["x"])] is not None and WINDOW.start <= moments[int(r["x"])] < WINDOW.end,
    )


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    size = 1 if value < 10**11 else 1000 if value < 10**14 else 10**6
    return datetime.fromtimestamp(value / size, UTC)


def event_times() -> list[Case]:
    step = timedelta(hours=5, microseconds=1)
    edge = [START, START - timedelta(microseconds=1), WINDOW.end, WINDOW.end - timedelta(microseconds=1)]
    moments = [START - timedelta(hours=7) + step * i for i in range(8)] + edge
    eastern = [m.astimezone(ZoneInfo("America/New_York")) for m in moments]
    return [
        zones("UTC", pa.timestamp("us", "UTC"), [*moments, None]),
        zones("another zone", pa.timestamp("us", "America/New_York"), eastern),
        zones("without a zone", pa.timestamp("us"), [m.replace(tzinfo=None) for m in moments]),
        zones("dates", pa.date32(), [date(2024, 3, 8) + timedelta(days=i) for i in range(5)]),
        zones("seconds", pa.int64(), [int(m.timestamp()) for m in moments[:8]]),
        zones("milliseconds", pa.int64(), [round(m.timestamp() * 1000) for m in moments[:8]]),
    ]


def texts() -> Case:
    awkward = ["Zürich", "東京", "🙂", "e\u0301", "é", "it's", 'a"b', "50%_", "back\\slash", "new\nline", "", " ", "NULL", "#hash", "abc"]
    values = [None if i % 13 == 0 else awkward[i % len(awkward)] for i in range(500)]
    return Case(
        "unicode", pa.table({"at": times(500), "c": pa.array(values), "t": pa.array(values)}),
        (ColumnBinning("c", "category", categories=tuple(awkward[:10])), ColumnBinning("t", "text")),
        (
            ("c = 'Zürich'", lambda r: r["c"] == "Zürich"), ("c IN ('it''s', '東京')", lambda r: r["c"] in ("it's", "東京")),
            ("LENGTH(t) > 4", lambda r: r["t"] is not None and len(r["t"]) > 4),
            ("REGEXP_MATCHES(t, '^[A-Z]')", lambda r: r["t"] is not None and r["t"][:1].isascii() and r["t"][:1].isupper()),
        ),
    )


def dictionaries() -> Case:
    values = pa.array([None if i % 6 == 0 else "abcd"[i % 4] for i in range(240)]).dictionary_encode()
    versions = pa.array([f"v{i % 3}" for i in range(240)]).dictionary_encode()
    return Case(
        "dictionary columns", pa.table({"at": times(240), "c": values, "v": versions}),
        (ColumnBinning("c", "category", categories=("b", "a", "zz")),), (("c <> 'a'", lambda r: r["c"] is not None and r["c"] != "a"),),
        version="v",
    )


def many() -> Case:
    size = 1_000_000
    head = [f"top{i}" for i in range(200)]
    values = pa.array([head[i // 5 % 200] if i % 5 == 0 else f"user-{i}" for i in range(size)])
    at = pa.array(np.full(size, int(START.timestamp() * 1e6)), pa.timestamp("us", "UTC"))
    return Case(
        "a million categories", pa.table({"at": at, "c": values}), (ColumnBinning("c", "category", categories=tuple(head)),),
        (("c = 'user-7'", lambda r: r["c"] == "user-7"),),
    )


def private() -> Case:
    values = [None if i % 10 == 0 else f"name{i % 23}" for i in range(460)]
    hashed = tuple(private_category(f"name{i}", KEY) for i in range(1, 20, 2))
    return Case(
        "categories known by their hash", pa.table({"at": times(460), "c": pa.array(values)}),
        (ColumnBinning("c", "category", categories=(*hashed, "name2", "name4"), private=True),),
    )


def outputs() -> Case:
    rows = 600
    random = np.random.default_rng(9)
    scores: list[float | None] = [*random.random(rows - 8).tolist(), None, math.nan, -0.1, 1.1, 1.0, 0.0, 0.5, math.inf]
    return Case(
        "scores and classes by slice",
        pa.table({
            "at": times(rows), "s": pa.array(scores, pa.float64()), "p": pa.array([None if i % 50 == 0 else i % 3 == 0 for i in range(rows)]),
            "c": pa.array(["abc"[i % 3] if i % 7 else None for i in range(rows)]), "g": pa.array([i % 4 for i in range(rows)], pa.int32()),
        }),
        (
            ColumnBinning("s", "numeric", "score", edges=(0.25, 0.5, 0.75), center=0.5, spread=0.3),
            ColumnBinning("p", "category", "prediction", categories=("false", "true")),
            ColumnBinning("c", "category", categories=("a", private_category("b", KEY))), ColumnBinning("g", "category", categories=("1", "0", "3")),
        ),
        slices=(("c",), ("c", "g")), outputs=True,
    )


def crossed() -> Case:
    random = np.random.default_rng(4)
    x = random.normal(size=800)
    y = 0.7 * x + random.normal(size=800)
    gaps = [None if i % 5 == 0 else math.nan if i % 31 == 0 else v for i, v in enumerate((x - y).tolist())]
    return Case(
        "cross products", pa.table({"at": times(800), "x": x, "y": y, "z": pa.array(gaps, pa.float64())}),
        tuple(ColumnBinning(n, "numeric", edges=(0.0,), center=0.1, spread=1.3) for n in "xyz"),
    )


def huge() -> Case:
    values = [1e200, -1e200, 1e-200, 3.0, 1e154, -4e-160, None, 1.7976931348623157e308, 5e-324]
    return Case(
        "numbers whose squares a double cannot hold", pa.table({"at": times(9), "x": pa.array(values, pa.float64())}),
        (ColumnBinning("x", "numeric", edges=(-1e199, 0.0, 1.0, 1e199)),),
    )


CASES = [
    numbers(), huge(), small("an empty window", 0), small("one row", 1), integers(), decimals(), booleans(), dates(), *event_times(), texts(),
    dictionaries(), private(), outputs(), crossed(),
]


# -- the oracle


def expected(case: Case) -> Profile:
    """The profile by plain Python: one row at a time, sums by ``fsum``."""
    rows = [row for row in case.table.to_pylist() if case.inside(row)]
    total = Profile.empty(case.binning)
    total.rows = len(rows)
    for column in case.columns:
        found = total.columns[column.name]
        values = [row[column.name] for row in rows]
        found.nulls = sum(v is None for v in values)
        known = [v for v in values if v is not None]
        if column.kind == "numeric":
            floats = [float(v) for v in known]
            finite = [v for v in floats if math.isfinite(v)]
            found.nans, found.other = sum(map(math.isnan, floats)), sum(map(math.isinf, floats))
            bins: dict[int, list[float]] = {}
            for v in finite:
                bins.setdefault(bisect_right(column.edges, v), []).append(v)
            for place, members in bins.items():
                found.counts[place], found.sums[place] = len(members), math.fsum(members)
            found.minimum, found.maximum = min(finite, default=math.inf), max(finite, default=-math.inf)
            found.square = math.fsum((v - column.center) * (v - column.center) for v in finite)
        elif column.kind == "category":
            for text, n in Counter(map(as_text, known)).items():
                hashed = private_category(text, KEY)
                place = next((i for i, c in enumerate(column.categories) if c in (hashed, text) and not (c == text and c[:1] == "#")), None)
                if place is None:
                    found.other += n
                else:
                    found.counts[place] += n
        else:
            found.total, found.other = float(sum(map(len, known))), sum(v == "" for v in known)
    total.rules = {sql: sum(bool(holds(row)) for row in rows) for sql, holds in case.rules}
    if case.version:
        total.versions = dict(Counter(row[case.version] for row in rows))
    return total


def as_text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def magnitude(case: Case, name: str) -> float:
    """The sum of absolute values of a numeric column: what a relative error is relative to."""
    values = [float(v) for v in case.table.column(name).to_pylist() if v is not None]
    return math.fsum(abs(v) for v in values if math.isfinite(v))
