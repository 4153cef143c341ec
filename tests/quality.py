"""What the tests of quality share: sections, incidents, labels that come late, splits of traffic."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
from typer.testing import CliRunner

from monitor.cli.root import app
from monitor.store import incidents, runs
from tests.streams import START, Rows, write_table
from tests.world import World

COLUMNS = {"timestamp": "at", "id": "id", "score": "score", "version": "version", "latency": "latency"}


def current(world: World, index: int) -> Any:
    with world.app.store.read() as connection:
        return runs.current_run(connection, "m", START + timedelta(days=index))


def quality(world: World, index: int) -> dict[str, Any]:
    found: dict[str, Any] = current(world, index).sections["quality"]
    return found


def rows_of(section: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in section["metrics"] if all(row.get(k) == v for k, v in wanted.items())]


def opened(world: World) -> list[tuple[str, list[str], str]]:
    with world.app.store.read() as connection:
        return [(i.severity, i.members, i.state) for i in reversed(incidents.listing(connection, monitor="m"))]


def column(name: str, make: Any) -> Any:
    def fault(rows: Rows, random: np.random.Generator) -> None:
        rows[name] = make(rows, random)

    return fault


def every_day(*faults: Any, days: int = 70) -> dict[int, Any]:
    return dict.fromkeys(range(days), faults)


def hold_labels(world: World, index: int) -> None:
    world.write(index + 1, labels=False)
    world.clock.move_to(START + timedelta(days=index + 1, hours=2))
    world.app.watch.tick()


def late_labels(world: World, index: int, share: float, *, right: bool | None = None) -> None:
    """Labels of a share of a day's rows; all of them as the model says, or its contrary."""
    rows = world.stream.day(index)
    count = int(share * len(rows["id"]))
    label = rows["label"] if right is None else (rows["score"] >= 0.5) == right
    table = pa.table({
        "id": rows["id"][:count], "label": pa.array(np.asarray(label)[:count]),
        "known_at": [world.clock.now() - timedelta(minutes=5)] * count,
    })
    write_table(table, world.folder / "labels" / f"late-{index:04d}-{share}.parquet")


def foreign_labels(world: World, index: int, times: int = 1) -> None:
    ids = [f"other-{i}" for i in world.stream.day(index)["id"]] * times
    table = pa.table({"id": ids, "label": [True] * len(ids), "known_at": [world.clock.now() - timedelta(hours=1)] * len(ids)})
    write_table(table, world.folder / "labels" / f"foreign-{index}.parquet")


def split(share: float, second: str = "v2", worse: bool = False) -> Any:
    def fault(rows: Rows, random: np.random.Generator) -> None:
        chosen = random.random(len(rows["id"])) < share
        rows["version"] = np.where(chosen, second, rows["version"]).astype(object)
        if worse:
            rows["score"] = np.where(chosen, 1 - rows["score"], rows["score"])

    return fault


def driftd(world: World, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["-c", str(world.folder / "config.yaml"), *arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    structlog.reset_defaults()  # it logs to a stream that is closed now
    return done.output
