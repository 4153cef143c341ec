"""The simulation day by day: the live version logs, labels follow, driftd looks, and what it decides has effect."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from checks.core.errors import ConfigError
from monitor.app import App, build, load_config, put
from monitor.clock import ManualClock
from monitor.demo import flights
from monitor.demo.server import DeploymentServer
from monitor.ports import EvidentlyJob, Message
from monitor.store import incidents, outbox, runs

ZONE = ZoneInfo("America/New_York")
MONITOR = "flight-delay"
SECRET = "demo secret, only for this machine"
MARKER = ".driftd-demo"
GOOD, BAD = "v1", "v2-bad"


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault that the demo plants, and the families in which driftd is to find it."""

    name: str
    first: date
    days: int
    families: tuple[str, ...]

    def on(self, day: date) -> bool:
        return self.first <= day < self.first + timedelta(days=self.days)


NULL_CARRIER = Planted("carrier is null", date(2013, 6, 18), 3, ("contract",))
CELSIUS = Planted("temperature in Celsius", date(2013, 8, 6), 4, ("data", "drift"))
BAD_VERSION = Planted("a bad model version goes live", date(2013, 10, 9), 1, ("quality", "service"))
PLANTED = (NULL_CARRIER, CELSIUS, BAD_VERSION)


class Inbox:
    """The demo's receiver of messages: keeps them, and writes each as text to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.messages: list[Message] = []

    def send(self, message: Message) -> str:
        self.messages.append(message)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(message.text + "\n\n")
        return "written"


@dataclass(slots=True)
class Demo:
    """A demo in a folder: log, server, store, reports."""

    folder: Path
    days: int | None = None
    server: DeploymentServer = field(init=False)
    app: App = field(init=False)
    clock: ManualClock = field(init=False)
    inbox: Inbox = field(init=False)

    def run(self, progress: Callable[[int, int, str], None]) -> dict[str, Any]:
        """Replay the year; answers the summary."""
        self._place()
        work = self.folder / "demo"
        table = flights.load()
        day_of = table["day"]
        model = flights.Model(table[(day_of >= flights.TRAIN_FROM) & (day_of < flights.TRAIN_TO)])
        by_day = dict(list(table[(day_of >= flights.LOG_FROM) & (day_of < flights.LOG_TO)].groupby("day", sort=True)))
        writer = _LogWriter(work / "log", model)
        port = 8322 if _free(8322) else 0
        self.server = DeploymentServer(GOOD, SECRET, port)
        os.environ.update({"DRIFTD_DEMO_SERVER": self.server.address, "DRIFTD_DEMO_SECRET": SECRET})
        config = load_config(self.folder / "config.yaml")
        self.inbox = Inbox(work / "messages.txt")
        start = config.monitors[MONITOR].start
        assert start is not None
        first = date.fromisoformat(start)
        self.clock = ManualClock(_local(first, 0))
        self.app = build(config, clock=self.clock, channels={"log": self.inbox})
        try:
            return self._replay(by_day, first, writer, progress)
        finally:
            self.app.close()
            self.server.close()

    def _replay(
        self, by_day: dict[Any, pd.DataFrame], first: date, writer: _LogWriter, progress: Callable[[int, int, str], None],
    ) -> dict[str, Any]:
        days = sorted(by_day)
        replayed = [d for d in days if d >= first][: self.days]
        for day in [d for d in days if d < first]:
            writer.predictions(by_day[day], day, GOOD)
            writer.labels(by_day[day], day)
        for index, day in enumerate(replayed):
            if day == BAD_VERSION.first:
                self.server.version = BAD
            writer.predictions(by_day[day], day, self.server.version)
            yesterday = day - timedelta(days=1)
            if yesterday in by_day and yesterday >= first:
                writer.labels(by_day[yesterday], yesterday)
            self.clock.move_to(_local(day + timedelta(days=1), 2.5))
            self.app.watch.tick()
            # The settling time passes, and the deployment server is asked which version is live.
            self.clock.advance(timedelta(minutes=11))
            self.app.watch.deliver()
            progress(index + 1, len(replayed), f"{day}")
        last = replayed[-1]
        writer.labels(by_day[last], last)
        self.clock.move_to(_local(last + timedelta(days=2), 2.5))
        self.app.watch.tick()
        drill = self._evidently()
        return self.summary(drill)

    def _evidently(self) -> str:
        pipeline = self.app.watch.pipeline
        prepared = pipeline.prepare(MONITOR)
        day = CELSIUS.first if self.days is None else date.fromisoformat("2013-04-16")
        window = prepared.grid.parse_start(day.isoformat())
        try:
            html = pipeline.workers.run(EvidentlyJob(prepared.monitor, prepared.settings, window))
        except Exception as error:  # the drill-down is an extra: without it the demo is still whole
            return f"not made: {error}"
        return str(put(self.app.config.reports.path / MONITOR / f"evidently-{day}.html", html))

    def _place(self) -> None:
        """Put the configuration and the contract in the folder, and clear what an earlier demo left."""
        folder, work = self.folder, self.folder / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in (("config.yaml", config_template()), ("contracts/examples/flight-delay.odcs.yaml", contract_template())):
            target = folder / name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        if "demo/log/predictions" not in (folder / "config.yaml").read_text(encoding="utf-8"):
            raise ConfigError(f"{folder / 'config.yaml'} is not the demo's; name another folder with --dir")
        if work.exists():
            if any(work.iterdir()) and not (work / MARKER).exists():
                raise ConfigError(f"{work} is there and was not made by driftd demo; name another folder with --dir")
            shutil.rmtree(work)
        (work / "log" / "predictions").mkdir(parents=True)
        (work / "log" / "labels").mkdir(parents=True)
        (work / MARKER).write_text("made by driftd demo; the next demo clears this folder\n", encoding="utf-8")

    def summary(self, drill_down: str) -> dict[str, Any]:
        """What the demo found, as plain values."""
        store = self.app.store
        with store.read() as connection:
            found = list(reversed(incidents.listing(connection)))
            current = runs.recent_runs(connection, MONITOR)
            rollbacks = incidents.rollbacks(connection)
            sent = outbox.counts(connection)
            whole = [runs.current_run(connection, MONITOR, r.start) for r in reversed(current)]
            september = [r for r in whole if r is not None and r.start.astimezone(ZONE).month == 9]
        expected, late = _september(september)
        return {
            "windows": len(current), "verdicts": dict(sorted(pd.Series([r.verdict for r in current]).value_counts().items())),
            "incidents": [
                {
                    "id": i.id, "family": i.family, "severity": i.severity, "first": i.first_window.astimezone(ZONE).date().isoformat(),
                    "windows": i.windows, "state": i.state, "reason": i.reason, "headline": i.headline,
                    "planted": next((p.name for p in PLANTED if _overlaps(p, i)), ""),
                }
                for i in found
            ],
            "messages": {"delivered": len(self.inbox.messages), **sent},
            "rollbacks": [
                {"from": r.from_version, "to": r.to_version, "mode": r.mode, "state": r.state, "detail": r.detail} for r in rollbacks if r.state != "blocked"
            ],
            "calls": len(self.server.calls), "reports": str(self.app.config.reports.path / MONITOR), "evidently": drill_down,
            "september": {"expected": expected, "late": late}, "temperature": _temperature(whole),
        }


def _overlaps(planted: Planted, incident: Any) -> bool:
    if incident.family not in planted.families:
        return False
    first, last = (m.astimezone(ZONE).date() for m in (incident.first_window, incident.last_window))
    return bool(first < planted.first + timedelta(days=planted.days) and last >= planted.first)


def _temperature(found: list[Any]) -> list[tuple[str, float]]:
    """How far the temperature is from the frozen reference: the median PSI of the windows of each month."""
    months: dict[str, list[float]] = {}
    for run in found:
        for row in ((run.sections or {}).get("drift") or {}).get("statistics", []):
            if row["column"] == "temp" and row["kind"] == "psi" and row["value"] is not None:
                months.setdefault(f"{run.start.astimezone(ZONE):%Y-%m}", []).append(row["value"])
    return [(month, round(float(np.median(values)), 2)) for month, values in months.items()]


def _september(found: list[Any]) -> tuple[float | None, float | None]:
    """The share of late flights that the model expected in September, and the share that came."""
    expected, late, rows = 0.0, 0.0, 0
    for run in found:
        quality = (run.sections or {}).get("quality") or {}
        labelled = next((m["n"] for m in quality.get("metrics", []) if m["slice"] == "ALL" and m["metric"] == "calibration"), 0)
        if "mean_score" in quality:
            expected, late, rows = expected + labelled * quality["mean_score"], late + labelled * quality["mean_label"], rows + labelled
    return (round(expected / rows, 3), round(late / rows, 3)) if rows else (None, None)


@dataclass(slots=True)
class _LogWriter:
    """Writes the log of a day as the service would: one file of predictions, one of labels."""

    folder: Path
    model: flights.Model

    def predictions(self, rows: pd.DataFrame, day: date, version: str) -> None:
        score = self.model.score(rows, bad=version == BAD)
        logged = rows.drop(columns=["day", "late"]).copy()
        if CELSIUS.on(day):
            logged["temp"] = (logged["temp"] - 32) / 1.8
        if NULL_CARRIER.on(day):
            logged["carrier"] = pd.Series([None] * len(logged), dtype="str", index=logged.index)
        random = np.random.default_rng(int(f"{day:%Y%m%d}"))
        logged["p_late"] = score
        logged["predicted_late"] = score >= 0.5
        logged["model_version"] = version
        logged["latency_ms"] = np.round(random.gamma(4.0, 3.0, len(logged)), 2)
        logged["http_status"] = np.where(random.random(len(logged)) < 0.001, 503, 200)
        _write(logged, self.folder / "predictions" / f"{day}.parquet")

    def labels(self, rows: pd.DataFrame, day: date) -> None:
        known = rows[rows["late"].notna()]
        labels = pd.DataFrame({
            "prediction_id": known["prediction_id"], "was_late": known["late"].astype(bool),
            "labelled_at": known["predicted_at"] + pd.Timedelta(days=1),
        })
        _write(labels, self.folder / "labels" / f"{day}.parquet")


def _write(table: pd.DataFrame, path: Path) -> None:
    partial = path.with_suffix(".partial")
    table.to_parquet(partial, index=False)
    partial.replace(path)


def _local(day: date, hours: float) -> datetime:
    return (datetime.combine(day, time(0), ZONE) + timedelta(hours=hours)).astimezone(ZoneInfo("UTC"))


def _free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def config_template() -> Path:
    """config.yaml as it is packaged, or that of the source tree."""
    packaged = Path(__file__).parent / "config.yaml"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "config.yaml"


def contract_template() -> Path:
    """The example contract."""
    import contracts

    return Path(contracts.__file__).parent / "examples" / "flight-delay.odcs.yaml"


__all__ = ["MONITOR", "PLANTED", "Demo"]
