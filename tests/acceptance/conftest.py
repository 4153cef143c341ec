"""Whole processes: the demo is run once for all tests that look at it."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DRIFTD = [sys.executable, "-c", "from monitor.cli import main; main()"]


def driftd(*arguments: str, folder: Path, expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder``; assert its exit code and that no traceback reaches the user."""
    done = subprocess.run(
        [*DRIFTD, *arguments], cwd=folder, capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, "DO_NOT_TRACK": "1", **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    if expect is not None:
        assert done.returncode == expect, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    return done


@dataclass(frozen=True)
class DemoRun:
    folder: Path
    summary: dict[str, Any]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The whole demo, run once even under xdist."""
    shared = tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.getbasetemp()
    folder = shared / "demo-run"
    folder.mkdir(exist_ok=True)
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        summary = folder / "summary.json"
        if not summary.exists():
            done = driftd("demo", "--dir", str(folder), "--json", folder=folder)
            summary.write_text(done.stdout)
    return DemoRun(folder, json.loads(summary.read_text()))
