"""`driftd run`: ticks, signals, the web server, and an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor as Executor
from apscheduler.schedulers.background import BackgroundScheduler

from checks.core.errors import ConfigError, DriftdError
from monitor.app import App, build, load_config, senders
from monitor.clock import Clock, SystemClock
from monitor.config.model import Config
from monitor.heartbeat import Heartbeat, notify
from monitor.logs import configure
from monitor.store import runs

LOG = structlog.get_logger("driftd")
EVALUATE_SECONDS = 2
DELIVER_SECONDS = 1
KEEP_SECONDS = 5
HEARTBEAT_SECONDS = 10
STOP_SECONDS = 6.0
CLOSE_SECONDS = 2.0
PRUNE_EVERY = timedelta(hours=6)
SET_BACK = timedelta(seconds=1)


class Steps:
    """Notices that a clock was set back: that it went on less than a counter that cannot be set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before = (SystemClock().now(), clock.now(), clock.monotonic())

    def back(self) -> bool:
        """Whether the clock, or the machine's, has been set back since it was asked last."""
        machine, now, counter = SystemClock().now(), self._clock.now(), self._clock.monotonic()
        before, self._before = self._before, (machine, now, counter)
        gone = timedelta(seconds=counter - before[2])
        return machine - before[0] < gone - SET_BACK or now < before[1] - SET_BACK


class Daemon:
    """The running daemon: the scheduler holds no truth, every tick asks the store what is due."""

    def __init__(self, app: App, given: Path | None) -> None:
        self.app = app
        self._given = given
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._looks = ThreadPoolExecutor(2, thread_name_prefix="driftd-look")
        self._waiting: set[str] = set()
        self._pruned: datetime | None = None
        options: dict[str, Any] = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        self._scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults=options,
            executors={name: Executor(1) for name in ("default", "evaluate", "deliver", "heartbeat")},
        )
        self._heartbeat = Heartbeat(app.watch, app.clock)
        self._scheduler.add_job(self._edge(self.evaluate), "interval", seconds=EVALUATE_SECONDS, executor="evaluate")
        self._scheduler.add_job(self._edge(self.deliver), "interval", seconds=DELIVER_SECONDS, executor="deliver")
        self._scheduler.add_job(self._edge(self.keep), "interval", seconds=KEEP_SECONDS, executor="default")
        self._scheduler.add_job(self._edge(self._heartbeat.tick), "interval", seconds=HEARTBEAT_SECONDS, executor="heartbeat")

    def _edge(self, body: Callable[[], None]) -> Callable[[], None]:
        def tick() -> None:
            try:
                body()
            except Exception as error:  # the edge of a tick: the scheduler must never see an exception
                LOG.error("tick failed", tick=body.__name__, reason=f"{type(error).__name__}: {error}")

        return tick

    def evaluate(self) -> None:
        """Hand every due monitor to a thread; a slow one holds no other up."""
        if not self._stop.is_set():
            for name in self.app.watch.due_monitors():
                if name not in self._waiting:
                    self._waiting.add(name)
                    self._looks.submit(self._look, name)
            self.app.watch.progress["evaluate_tick"] = self.app.clock.now()

    def _look(self, name: str) -> None:
        try:
            self.app.watch.look(name)
        finally:
            self._waiting.discard(name)

    def deliver(self) -> None:
        self.app.watch.deliver(wait=False)

    def keep(self) -> None:
        """Retire idle scanning processes and forget what retention says."""
        self.app.watch.renew()
        self.app.watch.keep_up()
        self.app.workers.retire_idle()
        now = self.app.clock.now()
        if self._pruned is None or now - self._pruned > PRUNE_EVERY:
            self._pruned = now
            retention = self.app.config.retention
            with self.app.store.write() as connection:
                rolled = [name for name, monitor in self.app.config.monitors.items() if monitor.window.rollup]
                runs.prune(connection, retention.profiles, retention.results, retention.hourly_profiles, rolled)

    def reload(self) -> None:
        """Read the configuration again; an invalid one leaves the old one in force."""
        try:
            config = load_config(self._given)
        except (ConfigError, RecursionError, OSError, ValueError) as error:
            LOG.error("configuration not reloaded, the old one stays in force", reason=str(error))
            self.app.watch.problems["configuration"] = f"the file is wrong: the one from before stays in force, and driftd would not start with this one: {str(error).splitlines()[0]}"
            return
        self.app.watch.problems.pop("configuration", None)
        if (config.web.host, config.web.port) != (self.app.config.web.host, self.app.config.web.port):
            LOG.warning("the status page keeps its address until a restart")
        if config.store != self.app.config.store:
            LOG.error("configuration not reloaded: another store needs a restart")
            return
        self.app.config = config
        self.app.watch.reload(config, senders(config))
        LOG.info("configuration reloaded", monitors=len(config.monitors))

    def _go_on_now(self) -> None:
        """The clock was set back: without this the scheduler would stand still until the old time comes again."""
        LOG.warning("the clock was set back")
        self.app.watch.clock_set_back()
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=SystemClock().now())

    def run(self) -> None:
        """Go on until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        self.app.watch.reclaim()
        self._scheduler.start()
        server, thread = _web(self.app)
        LOG.info("driftd runs", monitors=len(self.app.config.monitors), store=self.app.store.name, pid=os.getpid())
        notify("READY=1")
        steps = Steps(self.app.clock)
        while not self._stop.wait(0.2):
            if self._reload.is_set():
                self._reload.clear()
                self.reload()
            if steps.back():
                self._go_on_now()
        LOG.info("driftd stops")
        notify("STOPPING=1")
        self.app.watch.stop()
        if server is not None:
            server.should_exit = True
        self._scheduler.shutdown(wait=False)
        ended = threading.Thread(target=self._looks.shutdown, kwargs={"wait": True, "cancel_futures": True}, daemon=True)
        ended.start()
        ended.join(STOP_SECONDS)
        # A store that is locked or away must not hold the end up: leases run out by themselves.
        closed = threading.Thread(target=self.app.close, daemon=True)
        closed.start()
        closed.join(CLOSE_SECONDS)
        if thread is not None:
            thread.join(1.0)


def _web(app: App) -> tuple[Any, threading.Thread | None]:
    """Serve the status page in a thread; a port in use is said and does not keep driftd from watching."""
    import socket

    import uvicorn

    from monitor.web.server import create

    web = app.config.web
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in web.host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((web.host, web.port))
        except OSError as error:
            LOG.error(
                "the status page is not served: neither pages nor /livez, /readyz and /metrics; free the port or set web.port, then restart",
                host=web.host, port=web.port, reason=error.strerror,
            )
            return None, None
    settings = uvicorn.Config(
        create(lambda: app.watch), host=web.host, port=web.port, log_level="warning", access_log=False, lifespan="off", workers=1,
    )
    server = uvicorn.Server(settings)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, daemon=True, name="driftd-web")
    thread.start()
    LOG.info("status page", address=f"http://{web.host}:{web.port}/")
    return server, thread


def serve(config: Config, given: Path | None, *, verbose: bool) -> None:
    """Run the daemon in this process until it is told to stop."""
    configure(verbose=verbose, json=not sys.stderr.isatty())
    try:
        app = build(config)
    except DriftdError as error:
        LOG.error("driftd cannot start", reason=str(error))
        raise
    Daemon(app, given).run()
    # A message that hangs in a slow endpoint must not hold the end up: it is in the outbox and will be sent again.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
