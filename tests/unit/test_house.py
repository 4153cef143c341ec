"""The house itself: small files, documented commands and keys, pinned names, figures with their commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [p for room in ("checks", "contracts", "monitor", "tests") for p in (ROOT / room).rglob("*.py")]


def test_no_file_is_over_600_lines() -> None:
    assert [p.name for p in SOURCES if len(p.read_text().splitlines()) > 600] == []


def test_every_command_is_documented() -> None:
    from typer.main import get_command

    from monitor.cli.root import app

    docs = " ".join(p.read_text() for p in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert re.search(rf"\b{name}\b", docs), name


def test_every_key_of_the_configuration_is_documented() -> None:
    from monitor.config.model import Config, MonitorConfig

    docs = (ROOT / "docs" / "configuration.md").read_text()
    internal = {"path", "hashes", "warnings", "name", "version", "monitors"}
    for model in (Config, MonitorConfig):
        for key in set(model.model_fields) - internal:
            assert f"`{key}`" in docs, key


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    assert any(line.startswith("pandas==3.0") or line.startswith("pandas==2") for line in lines)


@pytest.mark.parametrize("room", ["checks", "contracts", "monitor"])
def test_every_module_says_what_it_is(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        text = path.read_text()
        assert not text.strip() or text.lstrip().startswith('"""'), path


def test_only_the_clock_reads_the_time() -> None:
    banned = re.compile(r"datetime\.now\(|time\.time\(|\.utcnow\(|date\.today\(|time\.monotonic\(|perf_counter\(")
    for room in ("checks", "contracts", "monitor"):
        for path in (ROOT / room).rglob("*.py"):
            if path.name != "clock.py":
                assert not banned.search(path.read_text()), path


def test_the_parent_loads_no_scan_library() -> None:
    import sys

    program = "import sys; import monitor.run, monitor.web.server, monitor.app; monitor.app.registries(); print(sorted(m for m in sys.modules if m.split('.')[0] in ('numba','scipy','duckdb','ibis','pyarrow','pandas','numpy','narwhals','pyspark','deltalake')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout[:500]
