"""`make bench`: figures as ratios, side by side in one run, in CPU seconds and peak memory; written to docs/benchmarks.md."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from checks.core.profile import Binning
from checks.core.window import Window
from monitor.config.model import MonitorConfig
from monitor.ports import RuleResult
from monitor.profiling.arrow import Executor
from monitor.profiling.binning import build_binning
from monitor.profiling.plan import Plan
from monitor.sources.parquet import ParquetConfig, ParquetSource
from monitor.store import incidents, outbox, runs
from monitor.store.store import Store

ROWS, NUMBERS, CATEGORIES, REPEATS = 1_000_000, 20, 5, 3
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = Window(START, START + timedelta(days=1))
DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of this process and its children, user and system."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(a.ru_utime + a.ru_stime - b.ru_utime - b.ru_stime for a, b in zip(after, before, strict=True))


def median(work: Callable[[], Any]) -> float:
    return statistics.median(cpu(work) for _ in range(REPEATS))


def data(folder: Path) -> Path:
    random = np.random.default_rng(1)
    columns: dict[str, Any] = {"at": pa.array(np.sort(random.integers(0, 86_400_000_000, ROWS)) + int(START.timestamp() * 1e6), pa.timestamp("us", "UTC"))}
    columns |= {f"x{k}": random.normal(size=ROWS) for k in range(NUMBERS)}
    columns |= {f"c{k}": pa.array(random.choice([f"value {i}" for i in range(30)], ROWS)) for k in range(CATEGORIES)}
    path = folder / "data.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd")
    return path


def scans(folder: Path) -> list[tuple[str, str]]:
    path = data(folder)
    source = ParquetSource(ParquetConfig(path=str(path)))
    types = source.types()
    monitor = MonitorConfig.model_validate(
        {"name": "m", "owner": "log", "source": {}, "columns": {"timestamp": "at"}}, context={"source": lambda _: ParquetConfig(path=str(path))}
    )
    binning: Binning = build_binning(monitor, types, pq.read_table(path).slice(0, 200_000), frozenset(), b"k")
    plan = Plan(binning, timestamp="at")

    def scan() -> None:
        Executor(plan, types).scan(source.read(plan.columns(types), "at", DAY))

    def decode() -> None:
        for _ in ds.dataset(path).scanner(columns=list(types)).to_batches():
            pass

    scan()
    scanned, decoded = median(scan), median(decode)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = f"profile of {ROWS:,} rows x {NUMBERS} numeric + {CATEGORIES} text columns against decoding them"
    return [(name, f"{scanned / decoded:.2f} x ({scanned:.2f} against {decoded:.2f} CPU s); peak {peak:.0f} MB, making the data included")]


def commits(folder: Path) -> list[tuple[str, str]]:
    store = Store(f"sqlite:///{folder}/store.db")
    with store.write() as connection:
        incident = incidents.create(
            connection, monitor="m", family="data", severity="fail", state="open", headline="h", owner="o", opened_at=START, reason="",
            first_window=START, last_window=START, windows=1, members=[], facts={}, hold_by="",
        )
    results = [RuleResult(f"r{k}", "contract", "pass", n=1000) for k in range(50)]

    def commit(index: int) -> None:
        start = START + timedelta(days=index)
        with store.write() as connection:
            values = {
                "monitor": "m", "start": start, "end": start + timedelta(days=1), "verdict": "pass", "rows": 1, "as_of": start,
                "evaluated_at": start, "seconds": 0.0, "config_hash": "", "binning": None, "baseline": [], "contract_id": "",
                "contract_version": "", "contract_hash": "", "model_versions": {}, "fingerprint": "", "quality_state": "",
                "driftd_version": "0", "sections": {}, "error": "",
            }
            runs.insert_run(connection, values, results, [])
            for k in range(3):
                outbox.add(connection, incident=incident, sequence=3 * index + k, destination="log", kind="alert", payload={}, text="", now=start)

    commit(0)
    used = cpu(lambda: [commit(i) for i in range(1, 101)]) / 100
    return [("commit of a run with 50 results and 3 messages, SQLite", f"{1000 * used:.1f} ms CPU")]


def help_text() -> list[tuple[str, str]]:
    command = [sys.executable, "-c", "from monitor.cli import main; main()", "--help"]
    bare = median(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    helped = median(lambda: subprocess.run(command, check=True, capture_output=True))
    return [("driftd --help", f"{helped:.2f} CPU s (a bare Python {bare:.2f})")]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*help_text(), *scans(folder), *commits(folder)]
    table = "\n".join(["| work | figure |", "|---|---|", *(f"| {work} | {figure} |" for work, figure in rows)])
    print(table)
    DOCS.write_text(f"# Benchmarks\n\nWritten by `make bench`; medians of {REPEATS} on the machine that ran it last.\n\n{table}\n")


if __name__ == "__main__":
    main()
