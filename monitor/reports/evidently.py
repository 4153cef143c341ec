"""Evidently's drill-down in a child process: it weighs 1 GB and takes seconds to import, so it never runs in the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from checks.core.errors import SourceError, WorkerError

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS = 300

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
folder = sys.argv[1]
reference, current = (pd.read_parquet(f"{folder}/{n}.parquet") for n in ("reference", "current"))
usable = [c for c in reference.columns if reference[c].notna().any() and current[c].notna().any()]
snapshot = Report([DataDriftPreset()]).run(current_data=current[usable], reference_data=reference[usable])
snapshot.save_html(f"{folder}/report.html")
"""


def drill_down(reference: pa.Table, current: pa.Table) -> str:
    """Evidently's data drift report of two bounded samples, as HTML."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(prefix="driftd-evidently-") as folder:
        pq.write_table(reference, f"{folder}/reference.parquet")
        pq.write_table(current, f"{folder}/current.parquet")
        environment = {**os.environ, "DO_NOT_TRACK": "1"}
        try:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, folder], env=environment, capture_output=True, text=True, timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise WorkerError(f"Evidently took longer than {SECONDS} s and was stopped") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            hint = "; install driftd[evidently]" if "No module named 'evidently'" in done.stderr else ""
            raise SourceError(f"Evidently's report could not be made: {last}{hint}")
        return Path(folder, "report.html").read_text(encoding="utf-8")
