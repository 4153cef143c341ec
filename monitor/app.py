"""The composition root: discovers plugins, loads the configuration, builds the adapters."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.core.errors import ConfigError
from checks.core.window import Window
from monitor.announce import report_name
from monitor.clock import Clock, system_clock
from monitor.config import Config, load
from monitor.config.load import Registries
from monitor.daemon import Watch
from monitor.delivery.channels import CHANNELS, open_channel
from monitor.pipeline import Pipeline
from monitor.ports import Sender, Workers
from monitor.report_view import build_view
from monitor.sources import SOURCES, sniff
from monitor.store.store import Store

CONFIG_VARIABLE = "DRIFTD_CONFIG"

# Names only: the plugins themselves import scipy, which the parent process must not.
_METRIC_FILES = "checks.performance"
_STATISTIC_FILES = "checks.statistics"


def _names(package: str, group: str, skip: tuple[str, ...] = ()) -> dict[str, None]:
    """The kinds that the files of a plugin package and its entry points offer, without importing them."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    spec = find_spec(package.partition(".")[0])
    roots = list(spec.submodule_search_locations or []) if spec else []
    folder = Path(roots[0], *package.split(".")[1:]) if roots else Path()
    files = [p.stem for p in folder.glob("*.py") if not p.name.startswith("_") and p.stem not in skip]
    return dict.fromkeys([*sorted(files), *(point.name for point in entry_points(group=group))])


def registries() -> Registries:
    """What plugins offer to the configuration."""
    return Registries(
        sources={kind: plugin.config for kind, plugin in SOURCES.discover().items()},
        channels={kind: plugin.config for kind, plugin in CHANNELS.discover().items()},
        metrics=_names(_METRIC_FILES, "driftd.metrics", ("counts",)),
        statistics=_names(_STATISTIC_FILES, "driftd.statistics"), sniff=sniff,
    )


def config_path(given: Path | None) -> Path:
    """The configuration's path: what was given, ``DRIFTD_CONFIG``, or config.yaml here."""
    return given or Path(os.environ.get(CONFIG_VARIABLE) or "config.yaml")


def load_config(given: Path | None = None) -> Config:
    """The configuration, validated."""
    return load(config_path(given).absolute(), registries())


def inline_workers() -> Workers:
    """Workers in this process, for single commands."""
    from monitor.worker import InlineWorkers

    return InlineWorkers()


def senders(config: Config) -> dict[str, Sender]:
    """A sender for every configured channel."""
    return {name: open_channel(channel) for name, channel in config.channels.items()}


@dataclass(slots=True)
class App:
    """The parts of a running driftd."""

    config: Config
    store: Store
    workers: Workers
    clock: Clock
    watch: Watch

    def report(self, name: str, window: Window) -> Path:
        """Write the report of a window."""
        return write_report(self.watch.pipeline, name, window)

    def close(self) -> None:
        self.watch.stop()
        self.workers.close()
        self.watch.close()
        self.store.close()


def build(
    config: Config, *, clock: Clock | None = None, workers: Workers | None = None, channels: dict[str, Sender] | None = None,
    reports: bool = True,
) -> App:
    """Everything that the daemon, the demo and the commands that write need."""
    from monitor.worker import WorkerPool

    clock = clock or system_clock()
    store = Store(config.store)
    limits = config.workers
    workers = workers or WorkerPool(limits.count, limits.time.total_seconds(), float(limits.memory_mb))
    write: Callable[[str, Window], None] | None = None
    watch = Watch(config, store, workers, clock, channels if channels is not None else senders(config), None)
    if reports:

        def write(name: str, window: Window) -> None:
            write_report(watch.pipeline, name, window)

        watch.writes_reports(write)
    return App(config, store, workers, clock, watch)


def write_report(pipeline: Pipeline, name: str, window: Window) -> Path:
    """Render a window's report from the store and put it in its place at once."""
    assert pipeline.store is not None
    prepared = pipeline.prepare(name)
    with pipeline.store.read() as connection:
        job = build_view(connection, pipeline.config, prepared, window)
    html: str = pipeline.workers.run(job)
    return put(pipeline.config.reports.path / report_name(name, window), html)


def put(path: Path, text: str) -> Path:
    """Write a file so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def fail(message: str, code: int = 2) -> Any:
    """End the command with a message and no traceback."""
    sys.stderr.write(f"driftd: {message}\n")
    raise SystemExit(code)


__all__ = ["App", "ConfigError", "build", "config_path", "load_config", "registries", "senders", "write_report"]
