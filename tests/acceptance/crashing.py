"""`driftd` as it is, with crash points: run as ``python -m tests.acceptance.crashing run``.

``DRIFTD_CRASH_AT=point:k`` kills the process with SIGKILL when it passes that point for the k-th time. The other variables
of this file stand for faults that no test can cause from outside: a resolver that lies, a scan that ends its process, a
database that loses patience early. Scanning processes import this file, too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

POINT, _, _AT = os.environ.get("DRIFTD_CRASH_AT", "").partition(":")
PASSED: Counter[str] = Counter()


def point(name: str) -> None:
    if name == POINT:
        PASSED[name] += 1
        if PASSED[name] == int(_AT or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def after(owner: Any, name: str, crash: str, *, found: bool = False) -> None:
    """Pass the crash point after ``owner.name`` has returned (``found``: something)."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value = original(*args, **kwargs)
        if not found or value:
            point(crash)
        return value

    setattr(owner, name, wrapped)


def before(owner: Any, name: str, crash: str) -> None:
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        point(crash)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def crash_points() -> None:
    import alembic.op

    import monitor.delivery.calls as calls
    import monitor.delivery.channels.webhook as webhook
    from monitor.announce import Announcer
    from monitor.delivery.worker import OutboxWorker
    from monitor.pipeline import Pipeline

    after(Pipeline, "judge", "checked")
    after(Announcer, "follow", "announced")
    after(Pipeline, "evaluate", "committed")
    after(OutboxWorker, "_claim", "claimed", found=True)
    after(webhook, "request", "posted")
    before(calls, "post", "dispatching")
    after(calls, "post", "dispatched")
    import monitor.delivery.rollback as rollback

    rollback.post = calls.post  # type: ignore[attr-defined]
    after(alembic.op, "create_table", "migrating")
    after(alembic.op, "add_column", "adding")


def resolver() -> None:
    """``DRIFTD_TEST_HOSTS``: by name, the list of answers, one after the other; the last one stays."""
    import monitor.delivery.http as http

    answers: dict[str, list[list[str]]] = json.loads(os.environ["DRIFTD_TEST_HOSTS"])
    original = http.resolve_host

    def resolve(host: str, port: int) -> Any:
        if host in answers:
            return answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return original(host, port)

    http.resolve_host = resolve


def impatient() -> None:
    """``DRIFTD_TEST_BUSY``: milliseconds that SQLite waits for a lock, or ``readonly``."""
    import monitor.store.engine as engine

    original = engine._sqlite_connect

    def connect(connection: Any, record: Any) -> None:
        original(connection, record)
        if os.environ["DRIFTD_TEST_BUSY"] == "readonly":
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.execute(f"PRAGMA busy_timeout={os.environ['DRIFTD_TEST_BUSY']}")

    engine._sqlite_connect = connect


def scans() -> None:
    """``DRIFTD_TEST_SCAN``: by monitor, what its scans do: segfault, memory, wait:FILE or mark:FILE (it takes seconds, and says so)."""
    from monitor.evaluation.evaluator import Evaluator
    from monitor.ports import RunJob

    wanted: dict[str, str] = json.loads(os.environ["DRIFTD_TEST_SCAN"])
    original = Evaluator.__dict__["answer"]

    def answer(self: Any, job: Any) -> Any:
        kind, _, value = wanted.get(job.monitor.name, "").partition(":")
        if isinstance(job, RunJob) and kind:
            if kind == "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            elif kind == "memory":
                held = [bytearray(50_000_000) for _ in range(40)]
                for block in held:
                    block[::4096] = b"x" * len(block[::4096])
                threading.Event().wait(60)
            elif kind == "mark":
                with Path(value).open("a") as marks:
                    marks.write("enter\n")
                time.sleep(3)
                try:
                    return original.__get__(self, Evaluator)(job)
                finally:
                    with Path(value).open("a") as marks:
                        marks.write("leave\n")
            elif kind == "wait":
                Path(value + ".there").touch()
                while not Path(value).exists():
                    time.sleep(0.05)
        return original.__get__(self, Evaluator)(job)

    Evaluator.answer = answer  # type: ignore[method-assign]


def hasten() -> None:
    """Tick several times as often, so that tests whose clock stands until they move it need not wait for a tick."""
    import monitor.delivery.rollback as rollback
    import monitor.run as run

    rollback.FIRST_PAUSE, rollback.LONGEST_PAUSE = 0.2, 0.5

    run.EVALUATE_SECONDS, run.DELIVER_SECONDS, run.KEEP_SECONDS = 0.4, 0.25, 1.0  # type: ignore[assignment]


if os.environ.get("DRIFTD_TEST_SCAN"):
    scans()
if __name__ == "__main__":
    hasten()
    crash_points()
    if os.environ.get("DRIFTD_TEST_HOSTS"):
        resolver()
    if os.environ.get("DRIFTD_TEST_BUSY"):
        impatient()
    from monitor.cli import main

    sys.argv[0] = "driftd"
    main()
