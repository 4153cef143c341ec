"""Many monitors on one daemon: hourly windows of 1000 rows x 10 columns, until all are evaluated."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 1000


def prepare(folder: Path, monitors: int, reference_hours: int, windows: int) -> None:
    """One log that every monitor reads under a name of its own, and the configuration."""
    random = np.random.default_rng(1)
    (folder / "log").mkdir(parents=True)
    hours = reference_hours + windows + 4
    for first in range(0, hours, 24):
        size = 24 * ROWS
        at = int(START.timestamp() * 1e6) + first * 3_600_000_000 + np.arange(size) * (3_600_000_000 // ROWS)
        columns: dict[str, Any] = {"at": pa.array(at, pa.timestamp("us", "UTC"))}
        columns |= {f"x{k}": random.normal(size=size) for k in range(7)}
        columns |= {f"c{k}": random.choice(["a", "b", "c", "d"], size) for k in range(3)}
        path = folder / "log" / f"{first:05d}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=ROWS)
        written = START.timestamp() + (first + 24) * 3600
        os.utime(path, (written, written))
    (folder / "logs").mkdir()
    for index in range(monitors):
        (folder / "logs" / f"{index:04d}").symlink_to(folder / "log")


def configure(folder: Path, monitors: int, reference_hours: int, windows: int) -> None:
    """Every monitor evaluates the first ``windows`` windows after the reference."""
    start = START + timedelta(hours=reference_hours)
    body = {
        "owner": "log", "columns": {"timestamp": "at"}, "window": {"size": "1h", "lateness": "1h"}, "start": start.isoformat(),
        "end": (start + timedelta(hours=windows)).isoformat(), "reference": {"from": START.isoformat(), "to": start.isoformat()},
        "schedule": {"every": "1h"},
    }
    found = {f"m{index:04d}": {**body, "source": str(folder / "logs" / f"{index:04d}")} for index in range(monitors)}
    text = {"store": "sqlite:///fleet.db", "web": {"port": 0}, "reports": {"path": "reports"}, "monitors": found}
    (folder / "config.yaml").write_text(json.dumps(text))


def pss(process: psutil.Process) -> float:
    """Proportional set size of a process in MB: shared pages are divided by those who share them."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def run(folder: Path, wanted: int) -> dict[str, float]:
    """Run the daemon until ``wanted`` runs are stored: windows a second between 10% and 90%, and the peak of the tree."""
    log = (folder / "daemon.log").open("ab")
    command = [sys.executable, "-c", "from monitor.cli import main; main()", "-c", str(folder / "config.yaml"), "run"]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    parent, peak, seen = psutil.Process(process.pid), 0.0, []
    store = folder / "fleet.db"
    began = count(store) if store.exists() else 0
    try:
        while True:
            time.sleep(1)
            if process.poll() is not None:
                raise RuntimeError(f"the daemon ended: {(folder / 'daemon.log').read_text()[-2000:]}")
            with contextlib.suppress(OSError, psutil.Error):
                peak = max(peak, sum(pss(p) for p in (parent, *parent.children(recursive=True))))
            done = count(store) if store.exists() else 0
            seen.append((time.monotonic(), done - began))
            if done >= wanted:
                break
    finally:
        used = [p.cpu_times() for p in (parent, *parent.children(recursive=True))]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        log.close()
    total = wanted - began
    inside = [(at, n) for at, n in seen if 0.1 * total <= n <= 0.9 * total]
    (first, low), (last, high) = inside[0], inside[-1]
    return {"rate": (high - low) / max(last - first, 1e-9), "pss": peak, "cpu": sum(u.user + u.system for u in used) / total}


def count(store: Path) -> int:
    """How many runs are stored."""
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as connection:
            return int(connection.execute("SELECT count(*) FROM run WHERE verdict != 'error'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def measure(folder: Path, monitors: int = 1000, reference_hours: int = 72, windows: int = 3) -> dict[str, float]:
    """First one window each, with the reference; then ``windows`` more, which are measured."""
    prepare(folder, monitors, reference_hours, windows + 1)
    configure(folder, monitors, reference_hours, 1)
    run(folder, monitors)
    configure(folder, monitors, reference_hours, windows + 1)
    return run(folder, monitors * (windows + 1))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), *(int(a) for a in sys.argv[2:]))))
