"""A house for whole daemons: their folder, their clock, what receives their messages, and what must be true at the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import sqlalchemy as sa

from tests.receiver import Receiver, Script
from tests.streams import START, Stream, config_text

ROOT = Path(__file__).parents[2]
PAUSE = threading.Event()  # waiting on what a process does, never on time itself
MARK = "S3CRET"
"""What every secret of a test's daemon has in it; searched for after the whole suite."""

SECRETS = {
    "hook": "whsec-S3CRETHOOK", "rollback": "S3CRETROLLBACK", "path": "S3CRETPATH", "token": "xoxb-S3CRETTOKEN", "password": "S3CRETPASSWORD",
}
CONTRACT = (
    "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n    properties:\n"
    + "".join(f"      - {{name: {n}}}\n" for n in ("id", "at", "x0", "x1", "version", "latency"))
    + "      - {name: c0, required: true}\n      - {name: score, required: true}\n"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Deployments:
    """A deployment API with a ledger: what is live, and every change that really took effect.

    ``script`` is for the POSTs: a `Script`, or the word ``lost`` (takes effect, the reply is dropped), ``ignored`` (200 and nothing happens),
    ``slow`` (takes effect, answers only when released), ``later`` (the reply is dropped, and it takes effect only with `finish`).
    """

    def __init__(self, version: str = "v1") -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self.version = version
        self.calls: list[tuple[str, dict[str, str], Any]] = []
        self.effects: list[tuple[str, str, str]] = []
        self.script: list[Any] = []
        self.seen: set[str] = set()
        self.in_progress = False
        self.pending: tuple[str, dict[str, Any]] | None = None
        self.on_change: Callable[[str], None] = lambda version: None
        self.released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, {"version": owner.live(self.path), "in_progress": owner.in_progress})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {k.lower(): v for k, v in self.headers.items()}
                owner.calls.append((self.path, headers, body))
                how = owner.how()
                if isinstance(how, Script):
                    self._answer(how.status, {})
                    return
                if how == "later":
                    owner.pending = (headers["webhook-id"], body["data"])
                status = 200 if how in ("ignored", "later") else owner.take(headers["webhook-id"], body["data"])
                if how == "slow":
                    owner.released.wait(60)
                if how in ("lost", "slow", "later"):
                    self.close_connection = True
                    self.connection.close()
                    return
                self._answer(status, {})

            def _answer(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                return None

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                return None

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def finish(self) -> None:
        """What takes its time is done."""
        assert self.pending is not None
        self.take(*self.pending)
        self.in_progress = False

    def live(self, path: str) -> str:
        """The version that serves."""
        return self.version

    def how(self) -> Any:
        """What becomes of the next request."""
        return self.script.pop(0) if self.script else "ok"

    def take(self, key: str, data: dict[str, Any]) -> int:
        """Do what is asked: compare and set, and a repeated id has no second effect."""
        if key in self.seen:
            return 200
        if data["expected_current_version"] != self.version:
            return 409
        self.seen.add(key)
        self.effects.append((data["incident"], data["from_version"], data["to_version"]))
        self.version = data["to_version"]
        self.on_change(self.version)
        return 200

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class House:
    """A folder with data, a configuration, a clock that the test moves, and daemons that are real processes."""

    def __init__(self, folder: Path, receiver: Receiver, stream: Stream | None = None, *, store: str | None = None, start: int = 40) -> None:
        self.folder, self.receiver = folder, receiver
        self.stream = stream or Stream(rows=120)
        self.store_url = store or f"sqlite:///{folder}/store.db"
        self._engine: sa.Engine | None = None
        self.start = start
        self.port = free_port()
        self.written = 0
        self.config: dict[str, Any] = {
            "store": self.store_url, "web": {"port": self.port},
            "channels": {
                "hook": {"kind": "webhook", "url": receiver.url + "/" + SECRETS["path"], "secret": SECRETS["hook"], "allow_hosts": ["127.0.0.1"]},
                "spare": {"kind": "slack", "token": SECRETS["token"], "channel": "#ml", "api_url": receiver.url + "/api/", "allow_hosts": ["127.0.0.1"]},
            },
            "owners": {"ops": {"channels": ["hook"]}}, "monitors": {},
        }
        (folder / "contract.yaml").write_text(CONTRACT)
        self.clock = folder / "clock"
        self.at(start)

    # -- what there is

    def monitor(self, name: str = "m", *, folder: Path | None = None, **keys: Any) -> House:
        """Add a monitor on the stream, or on what lies in ``folder``."""
        base = json.loads(config_text(folder or self.folder))["monitors"]["m"]
        base |= {"owner": "ops", "contract": "contract.yaml", "start": (START + timedelta(days=self.start)).date().isoformat()}
        base |= keys
        self.config["monitors"][name] = {k: v for k, v in base.items() if v is not None}
        return self

    def save(self) -> House:
        path = self.folder / "config.yaml"
        path.with_suffix(".new").write_text(json.dumps(self.config, default=str))
        path.with_suffix(".new").replace(path)
        return self

    def write(self, until: int) -> House:
        """Write the stream's days up to ``until``."""
        self.stream.write(self.folder, range(self.written, until))
        self.written = max(self.written, until)
        return self

    def at(self, day: float, hours: float = 2.0) -> House:
        """Move the clock to some hours into a day of the stream."""
        return self.moment(START + timedelta(days=day, hours=hours))

    def moment(self, moment: datetime) -> House:
        partial = self.clock.with_suffix(".new")
        partial.write_text(moment.isoformat())
        partial.replace(self.clock)
        return self

    def now(self) -> datetime:
        return datetime.fromisoformat(self.clock.read_text())

    def later(self, **length: float) -> House:
        return self.moment(self.now() + timedelta(**length))

    # -- daemons

    def start_daemon(self, crash: str = "", arguments: tuple[str, ...] = ("run",), **environment: str) -> subprocess.Popen[str]:
        self.save()
        names = {"DRIFTD_CLOCK_FILE": str(self.clock), "DRIFTD_CRASH_AT": crash, "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        with (self.folder / "stderr.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.acceptance.crashing", *arguments], cwd=self.folder, stdout=log, stderr=log, text=True,
                env={**os.environ, **names, **environment},
            )

    @contextmanager
    def daemon(self, crash: str = "", arguments: tuple[str, ...] = ("run",), **environment: str) -> Iterator[subprocess.Popen[str]]:
        process = self.start_daemon(crash, arguments, **environment)
        try:
            yield process
        finally:
            if process.poll() is None:
                with_children(process, signal.SIGKILL)
            process.wait(30)

    def run_until(self, condition: Callable[[], Any], what: str, **environment: str) -> Any:
        """A daemon that runs until something is true, and then ends as told."""
        with self.daemon(**environment) as process:
            found = self.until(condition, what, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0, self.log()[-3000:]
        return found

    def crash(self, point: str, arguments: tuple[str, ...] = ("run",), **environment: str) -> None:
        """A daemon, or another command, that dies at a crash point."""
        with self.daemon(point, arguments, **environment) as process:
            assert process.wait(60) == -signal.SIGKILL, self.log()[-3000:]

    def until(self, condition: Callable[[], Any], what: str, process: subprocess.Popen[str] | None = None, tries: int = 900) -> Any:
        for _ in range(tries):
            found = condition()
            if found:
                return found
            if process is not None and process.poll() is not None:
                raise AssertionError(f"the daemon ended with {process.returncode} before: {what}\n{self.log()[-3000:]}")
            PAUSE.wait(0.05)
        raise AssertionError(f"never: {what}\n{self.log()[-4000:]}")

    def command(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command of driftd at the house's own time."""
        self.save()
        done = subprocess.run(
            [sys.executable, "-c", "from monitor.cli import main; main()", *arguments], cwd=self.folder, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "DRIFTD_CLOCK_FILE": str(self.clock), "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"},
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert expect is None or done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done

    def ready(self) -> dict[str, Any]:
        """What ``/readyz`` says; empty while nobody answers."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as reply:
                found: dict[str, Any] = json.load(reply)
        except HTTPError as error:
            found = json.load(error)
        except OSError:
            return {}
        return found

    def rounds(self, count: int, process: subprocess.Popen[str]) -> None:
        """Wait until the delivery has gone round so many times."""
        begun = self.until(lambda: self.ready().get("delivery_rounds"), "the first round", process)
        self.until(lambda: self.ready().get("delivery_rounds", 0) >= begun + count, f"{count} rounds", process)

    def log(self) -> str:
        path = self.folder / "stderr.txt"
        return path.read_text() if path.exists() else ""

    # -- what came of it

    def query(self, text: str) -> list[Any]:
        """Rows of the store; none while there is no store yet."""
        if self._engine is None or str(self._engine.url) != self.store_url:
            self._engine = sa.create_engine(self.store_url, poolclass=sa.pool.NullPool)
        try:
            with self._engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sa.text(text))]
        except sa.exc.DBAPIError:
            return []

    def windows(self, monitor: str | None = None, verdict: str | None = None) -> int:
        where = (f" AND monitor = '{monitor}'" if monitor else "") + (f" AND verdict = '{verdict}'" if verdict else "")
        rows = self.query(f"SELECT count(*) FROM run WHERE current{where}")
        return int(rows[0][0]) if rows else 0

    def incidents(self) -> list[tuple[str, str, str, str]]:
        """Monitor, family, state and reason of every incident, the oldest first."""
        return self.query("SELECT monitor, family, state, reason FROM incident ORDER BY id")

    def drained(self) -> bool:
        """Whether nothing is left to be sent."""
        return self.query("SELECT count(*) FROM outbox WHERE state IN ('pending', 'leased')") == [(0,)]

    def told(self) -> list[dict[str, Any]]:
        """The bodies that the receiver got on incidents, in the order of arrival."""
        found = [r.json for r in list(self.receiver.ledger) if r.method == "POST" and r.body[:1] == b"{"]
        return [f for f in found if str(f.get("type", "")).startswith("incident.") and "sequence" in f["data"]]

    def types(self) -> list[str]:
        """What was told of monitors and sources, each message once; but for reminders, which a clock that the test moves brings about."""
        seen: dict[tuple[str, int], str] = {}
        for body in self.told():
            data = body["data"]
            if "sequence" in data and not str(data["monitor"]).startswith("channel "):
                seen.setdefault((data["incident"], data["sequence"]), body["type"].removeprefix("incident."))
        return [kind for kind in seen.values() if kind != "reminder"]

    def duplicates(self) -> int:
        keys = [r.headers["webhook-id"] for r in self.receiver.ledger if "webhook-id" in r.headers]
        return len(keys) - len(set(keys))

    def verify(self, deployments: Deployments | None = None) -> None:
        """No lost transition, order per incident, at most one effective rollback each, replay gives the same state, no secret told."""
        announced = self.query("SELECT incident_id, sequence FROM announcement ORDER BY incident_id, sequence")
        by_incident: dict[int, list[int]] = {}
        for incident, sequence in announced:
            by_incident.setdefault(incident, []).append(sequence)
        assert all(found == list(range(1, len(found) + 1)) for found in by_incident.values()), "gaps in the announced log"
        rows = self.query("SELECT incident_id, sequence, destination, state, covered_by, key FROM outbox WHERE kind = 'alert' AND incident_id IS NOT NULL")
        posted = {(i, s) for i, s, *_ in rows}
        children = {i for (i,) in self.query("SELECT id FROM incident WHERE parent_id IS NOT NULL")}
        assert {a for a in announced if a[0] not in children} <= posted, "announced and never posted"
        arrived = {r.headers.get("webhook-id") for r in self.receiver.ledger}
        for incident, sequence, destination, state, covered, key in rows:
            if destination == "hook" and state == "sent" and not covered:
                assert key in arrived, f"INC-{incident} {sequence} was never received"
            assert state in ("sent", "held", "pending") or covered, (incident, sequence, destination, state)
        order: dict[str, list[int]] = {}
        for body in self.told():
            if "sequence" in body["data"] and body["data"]["sequence"] not in order.setdefault(body["data"]["incident"], []):
                order[body["data"]["incident"]].append(body["data"]["sequence"])
        assert all(found == sorted(found) for found in order.values()), f"out of order: {order}"
        if deployments is not None:
            effective = [incident for incident, _, _ in deployments.effects]
            assert len(effective) == len(set(effective)), f"a second effective rollback: {deployments.effects}"
        self._replay()
        self.no_secret()

    def _replay(self) -> None:
        """Folding everything again announces nothing."""
        from monitor.announce import Announcer, Committed
        from monitor.app import build, inline_workers, load_config
        from monitor.clock import ManualClock
        from monitor.store import runs

        app = build(load_config(self.folder / "config.yaml"), clock=ManualClock(self.now()), workers=inline_workers(), channels={}, reports=False)
        try:
            for name in self.config["monitors"]:
                prepared = app.watch.pipeline.known(name)
                if prepared is None:
                    continue
                with app.store.engine.connect() as connection:
                    newest = runs.recent_runs(connection, name, limit=1)
                    if newest:
                        from checks.core.window import Window

                        count = sa.text("SELECT count(*) FROM announcement")
                        before = connection.execute(count).scalar()
                        Announcer(app.config, prepared).follow(connection, Committed(Window(newest[0].start, newest[0].end), self.now(), True))
                        assert connection.execute(count).scalar() == before, f"{name}: a replay announces something"
                    connection.rollback()
        finally:
            app.close()

    def no_secret(self) -> None:
        """Neither the log nor the store nor a report has a secret in it."""
        if self.store_url.startswith("postgresql"):
            engine = sa.create_engine(self.store_url, poolclass=sa.pool.NullPool)
            with engine.connect() as connection:
                for table in sa.inspect(connection).get_table_names():
                    text = str(connection.execute(sa.text(f'SELECT * FROM "{table}"')).all())
                    assert not [s for s in SECRETS.values() if s in text], f"a secret in the table {table}"
            engine.dispose()
        places = [p for p in self.folder.rglob("*") if p.is_file() and p.name not in ("config.yaml", "config.new") and p.suffix != ".parquet"]
        for path in places:
            body = path.read_bytes()
            for secret in SECRETS.values():
                assert secret.encode() not in body, f"{secret} in {path}"


def with_children(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a daemon; its scanning processes end by themselves when it is gone."""
    process.send_signal(number)


def command_lines() -> str:
    """The command lines of every process."""
    found = []
    for each in psutil.process_iter():
        try:
            found.append(" ".join(each.cmdline()))
        except psutil.Error:
            continue
    return "\n".join(found)


def utc(day: float) -> datetime:
    return (START + timedelta(days=day)).astimezone(UTC)
