"""One piece of work in a process of its own: prints its CPU seconds, wall seconds and peak memory as JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from checks.core.binning import Binning, ColumnBinning
from checks.core.window import Window
from monitor.config.model import MonitorConfig
from monitor.profiling.arrow import Executor
from monitor.profiling.binning import build_binning
from monitor.profiling.plan import Plan
from monitor.sources.files import BATCH_ROWS
from monitor.sources.parquet import ParquetConfig, ParquetSource
from tests.benchmarks import contract, labels
from tests.benchmarks.data import START

WINDOW = Window(START, START + timedelta(days=1))
Work = Callable[[], Any]
PREDICTED = {"id": "id", "score": "score", "predicted": "prediction"}


def binning_of(path: Path, roles: dict[str, str] | None = None) -> Binning:
    """The binning from the first 200,000 rows, kept beside the data."""
    kept = path.with_suffix(".binning.json")
    if not kept.exists():
        first = next(pq.ParquetFile(path).iter_batches(200_000))
        columns = {"timestamp": "at", **{role: name for name, role in (roles or {}).items() if role != "label"}}
        monitor = MonitorConfig.model_validate(
            {"name": "m", "owner": "log", "source": {}, "columns": columns}, context={"source": lambda _: ParquetConfig(path=str(path))}
        )
        table = pa.Table.from_batches([first])
        types = ParquetSource(ParquetConfig(path=str(path))).types()
        found = build_binning(monitor, types, table, frozenset(), b"k")
        if roles and "label" in roles.values():
            label = next(name for name, role in roles.items() if role == "label")
            relabelled = [ColumnBinning(c.name, c.kind, "label", c.edges, c.categories) if c.name == label else c for c in found.columns]
            found = Binning(tuple(relabelled))
        kept.write_text(found.to_json())
    return Binning.from_json(kept.read_text())


def scan_of(path: Path, *, cross: bool, outputs: bool = False, slices: tuple[tuple[str, ...], ...] = (), roles: dict[str, str] | None = None) -> Work:
    source = ParquetSource(ParquetConfig(path=str(path)))
    types = source.types()
    plan = Plan(binning_of(path, roles), timestamp="at", cross=cross, outputs=outputs, slices=slices)
    columns = plan.columns(types)
    early = Window(WINDOW.start, WINDOW.start + timedelta(seconds=1))
    Executor(plan, types).scan(source.read(columns, "at", early, plan.dictionaries))  # compiles
    return lambda: Executor(plan, types).scan(source.read(columns, "at", WINDOW, plan.dictionaries))


def decode_of(path: Path, *, lean: bool) -> Work:
    """pyarrow decoding the same columns in batches on its two threads; ``lean`` with dictionaries and small buffers."""
    pa.set_cpu_count(2)
    names = [n for n in pq.read_schema(path).names if n.startswith("c")] if lean else None

    def decode() -> int:
        file = pq.ParquetFile(path, read_dictionary=names, pre_buffer=False, buffer_size=1 << 20 if lean else 0)
        return sum(batch.num_rows for batch in file.iter_batches(BATCH_ROWS, use_threads=True))

    return decode


def statistics_of(folder: Path) -> Work:
    """All statistics of a window of 1M rows against a built reference."""
    from checks.core.profile import Profile
    from monitor.evaluation.sections import statistics_of as statistics

    path, reference = folder / "wide25.parquet", folder / "reference25.parquet"
    binning = binning_of(reference)
    built = folder / "reference25.profile"
    monitor = MonitorConfig.model_validate(
        {"name": "m", "owner": "log", "source": {}, "columns": {"timestamp": "at"}}, context={"source": lambda _: ParquetConfig(path=str(path))}
    )
    source, before = ParquetSource(ParquetConfig(path=str(path))), ParquetSource(ParquetConfig(path=str(reference)))
    types = source.types()
    plan = Plan(binning, timestamp="at")
    columns = plan.columns(types)
    if not built.exists():
        built.write_bytes(Executor(plan, types).scan(before.read(columns, "at", WINDOW, plan.dictionaries)).to_bytes())
    known = Profile.from_bytes(built.read_bytes(), binning)
    early = Window(WINDOW.start, WINDOW.start + timedelta(seconds=1))
    Executor(plan, types).scan(source.read(columns, "at", early, plan.dictionaries))

    def work() -> int:
        profile = Executor(plan, types).scan(source.read(columns, "at", WINDOW, plan.dictionaries))
        found, _ = statistics(monitor, binning, profile, known, {})
        return len(found["statistics"])

    return work


def evidently_of(folder: Path) -> Work:
    """Evidently's drift preset on both sets of 1M rows."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def work() -> Any:
        current, reference = (pd.read_parquet(folder / f"{name}25.parquet").drop(columns="at") for name in ("wide", "reference"))
        return Report([DataDriftPreset()]).run(current, reference).dict()

    return work


def complete_of(folder: Path) -> Work:
    """One run of 10,000 rows x 20 columns with everything that follows, committed."""
    from monitor.app import build, inline_workers, load_config
    from monitor.clock import ManualClock

    home = folder / f"complete-{os.getpid()}"
    (home / "log").mkdir(parents=True)
    import numpy as np

    random = np.random.default_rng(3)
    for day in range(62):
        at = pa.array(int(START.timestamp() * 1e6) + day * 86_400_000_000 + np.arange(10_000) * 8_000_000, pa.timestamp("us", "UTC"))
        columns: dict[str, Any] = {"at": at, **{f"x{k}": random.normal(size=10_000) for k in range(15)}}
        columns |= {f"c{k}": random.choice(["a", "b", "c", "d"], 10_000) for k in range(5)}
        path = home / "log" / f"{day:03d}.parquet"
        pq.write_table(pa.table(columns), path)
        written = START.timestamp() + (day + 1) * 86_400
        os.utime(path, (written, written))
    body = {"owner": "log", "source": str(home / "log"), "columns": {"timestamp": "at"}, "window": {"size": "1d", "lateness": "1h"},
            "start": (START + timedelta(days=56)).date().isoformat()}
    (home / "config.yaml").write_text(json.dumps({"store": "sqlite:///s.db", "monitors": {"m": body}}))
    clock = ManualClock(START + timedelta(days=62, hours=2))
    app = build(load_config(home / "config.yaml"), clock=clock, workers=inline_workers(), channels={}, reports=False)
    pipeline = app.watch.pipeline
    windows = pipeline.due(pipeline.prepare("m"))
    for window in windows[:-3]:
        pipeline.evaluate("m", window)

    def work() -> Any:
        for window in windows[-3:]:
            pipeline.evaluate("m", window)

    return work


def database(folder: Path, url: str) -> tuple[Any, Plan, dict[str, str]]:
    from monitor.sources.sql import SqlConfig, SqlSource

    source = SqlSource(SqlConfig.model_validate({"url": url, "table": "wide20"}))
    types = source.types()
    return source, Plan(binning_of(folder / "wide20.parquet"), timestamp="at", cross=False), types


def pushed_of(folder: Path, url: str) -> Work:
    from monitor.evaluation.scan import scan

    source, plan, types = database(folder, url)
    return lambda: scan(source, plan, types, "at", WINDOW)


def fetched_of(folder: Path, url: str, how: str) -> Work:
    """All rows fetched, by ADBC (binary COPY into Arrow) or by psycopg (rows into Arrow), and profiled here."""
    source, plan, types = database(folder, url)
    names = ", ".join(f'"{n}"' for n in plan.columns(types)) + ', "at"'
    small = pa.table({n: pa.array([0.5]) for n in plan.columns(types)} | {"at": pa.array([START])}).to_batches()
    Executor(plan, types).scan(small)

    def adbc() -> Any:
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {names} FROM wide20 WHERE at >= '2024-01-01Z' AND at < '2024-01-02Z'")
            return Executor(plan, types).scan(cursor.fetch_record_batch())

    def rows() -> Any:
        return Executor(plan, types).scan(source.read(plan.columns(types), "at", WINDOW))

    return adbc if how == "adbc" else rows


def chart_of(columns: int, windows: int, cycle: int, what: str) -> Work:
    """The drift chart of normal numbers: fitted to its baseline, or (``score``) ten windows on a fitted one."""
    import numpy as np

    from checks.calibration.chart import Chart, Season
    from checks.core.column import ColumnProfile
    from checks.core.profile import Profile

    random = np.random.default_rng(5)
    edges = tuple(np.linspace(-2, 2, 61).tolist())
    binning = Binning(tuple(ColumnBinning(f"x{k}", "numeric", edges=edges) for k in range(columns)))

    def window() -> Profile:
        found = Profile(binning, 1000)
        counts = random.multinomial(1000, np.full(62, 1 / 62), columns).astype(np.int64)
        found.columns = {
            f"x{k}": ColumnProfile(counts[k], np.zeros(62), 0, 0, 0, -3.0, 3.0, 0.0, 1000.0).settled() for k in range(columns)
        }
        return found

    past, new = [window() for _ in range(windows)], [window() for _ in range(10)]
    season = Season("season", [k % cycle for k in range(windows)], cycle)
    if what == "fit":
        return lambda: Chart(binning, past, None, season)
    chart = Chart(binning, past, None, season)
    return lambda: [chart.score(w) for w in new]


ROLES = {"score": "score", "predicted": "prediction", "label": "label"}


def work_of(kind: str, folder: Path, extra: list[str]) -> Work:
    """The work called ``kind``."""
    sliced = {"roles": ROLES, "outputs": True, "cross": False}
    made: dict[str, Callable[[], Work]] = {
        "decode": lambda: decode_of(folder / extra[0], lean=False), "lean": lambda: decode_of(folder / extra[0], lean=True),
        "scan": lambda: scan_of(folder / extra[0], cross=False), "crossed": lambda: scan_of(folder / extra[0], cross=True),
        "statistics": lambda: statistics_of(folder), "evidently": lambda: evidently_of(folder), "complete": lambda: complete_of(folder),
        "pushed": lambda: pushed_of(folder, extra[0]), "adbc": lambda: fetched_of(folder, extra[0], "adbc"),
        "rows": lambda: fetched_of(folder, extra[0], "rows"),
        "ruled": lambda: contract.scan_of(folder / extra[0], rules=True, binning=binning_of(folder / "rules.parquet")),
        "judged": lambda: contract.scan_of(folder / extra[0], rules=True, judged=True, binning=binning_of(folder / "rules.parquet")),
        "unruled": lambda: contract.scan_of(folder / extra[0], rules=False, binning=binning_of(folder / "rules.parquet")),
        "bare": lambda: contract.scan_of(folder / extra[0], rules=True, binning=Binning(())),
        "fitted": lambda: chart_of(int(extra[0]), int(extra[1]), int(extra[2]), "fit"),
        "judged_drift": lambda: chart_of(int(extra[0]), int(extra[1]), int(extra[2]), "score"),
        "each": lambda: contract.queries_of(folder / extra[0]), "again": lambda: contract.again_of(folder / extra[0]),
        "whole": lambda: scan_of(folder / "scored.parquet", **sliced),
        "predicted": lambda: labels.work_of(folder, binning_of(folder / "predicted.parquet", PREDICTED), quality=False),
        "judged_quality": lambda: labels.work_of(folder, binning_of(folder / "predicted.parquet", PREDICTED), quality=True),
        "sliced": lambda: scan_of(folder / "scored.parquet", slices=(("slice",),), **sliced),
    }
    return made[kind]()


def peak() -> float:
    """The most resident memory of this process in MB; `ru_maxrss` would count that of the process which started it."""
    return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def main() -> None:
    kind, folder, *extra = sys.argv[1:]
    work = work_of(kind, Path(folder), extra)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": used, "wall": wall, "peak": peak()}))


if __name__ == "__main__":
    main()
