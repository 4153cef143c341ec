"""The daemon as a real process: SIGKILL, SIGTERM, SIGHUP, health, memory."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from tests.acceptance.conftest import DRIFTD, driftd
from tests.receiver import Receiver, Script
from tests.streams import START, Stream, config_text, shift

pytestmark = pytest.mark.xdist_group("processes")
PAUSE = threading.Event()  # waiting on what a process does, never on time itself


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configure(folder: Path, days: int, port: int, url: str | None = None, **monitor: Any) -> None:
    faults = {day: [shift("x0", 2.0)] for day in range(45, 40 + days, 12)}
    Stream(rows=200, faults=faults).write(folder, range(40 + days))
    text = json.loads(config_text(folder, end=(START + timedelta(days=40 + days)).date().isoformat(), **monitor))
    text["web"] = {"port": port}
    if url is not None:
        text["channels"] = {"hook": {"kind": "webhook", "url": url, "allow_hosts": ["127.0.0.1"]}}
        text["owners"] = {"ops": {"channels": ["hook"]}}
        text["monitors"]["m"]["owner"] = "ops"
    (folder / "config.yaml").write_text(json.dumps(text))


@contextmanager
def daemon(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with (folder / "stderr.txt").open("a") as log:
        process = subprocess.Popen([*DRIFTD, "run"], cwd=folder, stdout=log, stderr=log, text=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)


def query(folder: Path, text: str) -> list[Any]:
    try:
        with sqlite3.connect(f"file:{folder}/store.db?mode=ro", uri=True, timeout=30) as connection:
            return connection.execute(text).fetchall()
    except sqlite3.OperationalError:
        return []


def until(condition: Callable[[], Any], what: str, tries: int = 900) -> Any:
    for _ in range(tries):
        found = condition()
        if found:
            return found
        PAUSE.wait(0.05)
    raise AssertionError(f"never: {what}")


def windows(folder: Path) -> int:
    rows = query(folder, "SELECT count(*) FROM run WHERE current")
    return int(rows[0][0]) if rows else 0


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except OSError as error:
        return int(getattr(error, "code", 0)), ""


def pss(process: psutil.Process) -> float:
    """Proportional set size in MB."""
    try:
        return sum(int(line.split()[1]) for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")) / 1024
    except (OSError, ProcessLookupError):
        return 0.0


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def scanners(parent: psutil.Process) -> int:
    """How many scanning processes there are; one that is just ending does not count."""
    found = 0
    for child in parent.children():
        with suppress(psutil.Error):
            found += "spawn_main" in " ".join(child.cmdline())
    return found


def test_kill_9_in_a_backfill_loses_no_window_and_no_message(tmp_path: Path, receiver: Receiver) -> None:
    days = 60
    configure(tmp_path, days, free_port(), receiver.url)
    chance = random.Random(7)
    for _ in range(4):
        goal = min(windows(tmp_path) + chance.randint(5, 12), days)
        with daemon(tmp_path) as process:
            until(lambda goal=goal: windows(tmp_path) >= goal, f"{goal} windows")
            process.send_signal(signal.SIGKILL)
            process.wait(30)
    with daemon(tmp_path) as process:
        until(lambda: windows(tmp_path) == days, "all windows")
        until(lambda: query(tmp_path, "SELECT count(*) FROM outbox WHERE state NOT IN ('sent')") == [(0,)], "all messages", 3000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert query(tmp_path, "SELECT count(*), count(DISTINCT start), max(revision) FROM run WHERE current") == [(days, days, 1)]
    announced = query(tmp_path, "SELECT incident_id, sequence, type FROM announcement ORDER BY incident_id, sequence")
    assert len(announced) >= 4
    first_seen = list(dict.fromkeys((r.json["data"]["incident"], r.json["data"]["sequence"], r.json["type"]) for r in receiver.ledger))
    assert sorted(first_seen) == sorted((f"INC-{i}", s, kind) for i, s, kind in announced), "lost or invented"
    for incident in {i for i, _, _ in first_seen}:
        sequences = [s for i, s, _ in first_seen if i == incident]
        assert sequences == sorted(sequences), "out of order"
    assert not (tmp_path / "stderr.txt").read_text().count("Traceback")


def test_sigterm_in_the_middle_of_work_ends_within_ten_seconds_and_leaves_no_process(tmp_path: Path) -> None:
    configure(tmp_path, 60, free_port())
    with daemon(tmp_path) as process:
        until(lambda: windows(tmp_path) >= 3, "work")
        family = [process.pid, *(c.pid for c in psutil.Process(process.pid).children(recursive=True))]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    until(lambda: not any(lives(pid) for pid in family), "all gone", 200)
    assert query(tmp_path, "SELECT count(*) FROM run WHERE verdict = 'error'") == [(0,)]
    assert query(tmp_path, "SELECT count(*) FROM lease WHERE until > 0 AND owner = 'nobody'") == [(0,)]


def test_sigterm_does_not_wait_for_an_endpoint_that_hangs_and_the_message_is_sent_after_the_start(tmp_path: Path, receiver: Receiver) -> None:
    configure(tmp_path, 8, free_port(), receiver.url)
    receiver.default = Script(hang=True)
    with daemon(tmp_path) as process:
        until(lambda: receiver.ledger, "a message that hangs")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    receiver.default = Script()
    receiver.released.set()
    with daemon(tmp_path) as process:
        until(lambda: query(tmp_path, "SELECT count(*) FROM outbox WHERE state = 'sent'")[0][0] > 0, "sent")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert len(receiver.ledger) >= 2
    assert receiver.ledger[0].headers["webhook-id"] == receiver.ledger[1].headers["webhook-id"]


def test_health_metrics_reload_and_memory(tmp_path: Path) -> None:
    port = free_port()
    configure(tmp_path, 18, port)
    with daemon(tmp_path) as process:
        until(lambda: windows(tmp_path) == 18, "work")
        until(lambda: get(port, "/readyz")[0] == 200, "ready")
        assert get(port, "/livez") == (200, '{"status":"ok"}')
        assert 'driftd_verdict{monitor="m",verdict="pass"}' in get(port, "/metrics")[1]
        assert "INC-" in get(port, "/")[1]
        assert [row["monitor"] for row in json.loads(get(port, "/api/status")[1])] == ["m"]
        assert get(port, "/reports/m/2024-02-10T0000Z.html")[0] == 200
        assert get(port, "/reports/m/..%2f..%2fconfig.yaml")[0] == 404
        text = json.loads((tmp_path / "config.yaml").read_text())
        good = json.dumps(text)
        (tmp_path / "config.yaml").write_text(good.replace('"owner"', '"ownr"'))
        process.send_signal(signal.SIGHUP)
        until(lambda: "the old one stays in force" in (tmp_path / "stderr.txt").read_text(), "refusal")
        assert process.poll() is None
        text["monitors"]["second"] = text["monitors"]["m"]
        (tmp_path / "config.yaml").write_text(json.dumps(text))
        process.send_signal(signal.SIGHUP)
        until(lambda: query(tmp_path, "SELECT count(*) FROM run WHERE current AND monitor = 'second'") == [(18,)], "the new monitor")
        parent = psutil.Process(process.pid)
        until(lambda: scanners(parent) == 0, "retired workers", 2400)
        tree = [parent, *parent.children(recursive=True)]
        used = {p.pid: pss(p) for p in tree}
        assert used[parent.pid] < 120, used
        assert sum(used.values()) < 250, used
        print(f"PSS after work: parent {used[parent.pid]:.0f} MB, tree {sum(used.values()):.0f} MB")
        loaded = Path(f"/proc/{parent.pid}/maps").read_text()
        assert not [name for name in ("numba", "scipy", "duckdb", "libarrow_dataset") if name in loaded]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_second_daemon_on_the_same_store_doubles_nothing(tmp_path: Path, receiver: Receiver) -> None:
    configure(tmp_path, 30, free_port(), receiver.url)
    with daemon(tmp_path) as one, daemon(tmp_path) as two:
        until(lambda: windows(tmp_path) == 30, "all windows")
        until(lambda: query(tmp_path, "SELECT count(*) FROM outbox WHERE state NOT IN ('sent')") == [(0,)], "all messages")
        for process in (one, two):
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
    assert query(tmp_path, "SELECT count(*), max(revision) FROM run") == [(30, 1)]
    keys = [r.headers["webhook-id"] for r in receiver.ledger]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("monitors: [", "not YAML"), ("version: 2\nmonitors: {m: {owner: log, source: x/, columns: {timestamp: at}}}\n", "config.yaml:1: version"),
        ("monitors: {m: {owner: log, source: x/, columns: {timestamp: at}}}\nstore: postgresql+psycopg://u:hunter2@127.0.0.1:1/d\n", "cannot be opened"),
        ("monitors: {m: {owner: log, source: x/, columns: {timestamp: at}}}\nretentoin: {}\n", "did you mean 'retention'"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    done = driftd("run", folder=tmp_path, expect=None)
    assert done.returncode in (2, 3)
    assert words in done.stderr
    assert "hunter2" not in done.stderr


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    program = "import sys; sys.argv = ['driftd', '--help']\nfrom monitor.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([DRIFTD[0], "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ))
    assert "Commands" in done.stdout
    for heavy in ("'numpy'", "'pandas'", "'pyarrow'", "'sqlalchemy'", "'fastapi'", "'scipy'", "'numba'"):
        assert heavy not in done.stderr


def test_a_configuration_that_is_wrong_takes_nobodys_hand_away(tmp_path: Path) -> None:
    configure(tmp_path, 2, 0)
    driftd("backfill", "m", "--from", "2024-02-08", "--to", "2024-02-10", folder=tmp_path)
    text = json.loads((tmp_path / "config.yaml").read_text())
    text["monitors"]["m"]["owner"] = "nobody"
    (tmp_path / "config.yaml").write_text(json.dumps(text))
    for command in (["incidents"], ["silences"], ["rollback", "list"], ["rollback", "stop", "--by", "ann"], ["outbox", "list"]):
        done = driftd(*command, folder=tmp_path)
        assert "the configuration is wrong, and the store is used all the same" in done.stderr, command
    assert "there is no incident INC-7" in driftd("ack", "INC-7", folder=tmp_path, expect=2).stderr
