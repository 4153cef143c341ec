"""An incident as a page, as JSON and as a command shows it: what was said, to whom, and who did what."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from monitor.hands import acknowledge
from monitor.run import _web
from monitor.web.incident import incident_detail
from monitor.web.overview import incident_rows
from tests.streams import Stream, bad_model
from tests.world import World


class Site:
    """The status page of a world, served."""

    def __init__(self, world: World) -> None:
        self.server, self.thread = _web(world.app)
        assert self.thread is not None
        self.base = f"http://127.0.0.1:{world.app.config.web.port}"
        while not self.server.started:
            self.thread.join(0.01)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(self.base + path, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    served = Site(world)
    yield served
    served.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """v2 goes live with window 42 and is bad: a quality incident with a rollback that is a dry run."""
    stream = Stream(rows=400, versions={0: "v1", 42: "v2"}, faults={k: [bad_model] for k in range(42, 60)})
    made = World(
        tmp_path, stream, quality={"metrics": ["roc_auc"], "min_rows": 50, "limits": {"roc_auc": {"fail_below": 0.6}}, "deployment": {"watch": "0d"}},
        rollback={"url": "https://deploy.example.org/rollback", "status_url": "https://deploy.example.org/live"}, drift={"budget": "1 per 365d"},
        columns={"timestamp": "at", "id": "id", "score": "score", "version": "version"},
    )
    text = json.loads((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(json.dumps({**text, "public_url": "https://driftd.example.org/", "web": {"port": free_port()}}))
    made.app.close()
    made.app = made.open()
    made.days(3)
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quality_incident(world: World) -> str:
    (found,) = [r for r in incident_rows(world.app.store) if r["family"] == "quality"]
    return str(found["id"])


def test_the_link_in_a_message_leads_to_a_page_with_everything_that_happened(world: World, site: Site) -> None:
    number = int(quality_incident(world)[4:])
    acknowledge(world.app.store, f"INC-{number}", "ann <script>", world.clock.now())
    fired = next(m for m in world.inbox.messages if m.payload["type"] == "incident.fired" and m.payload["data"]["family"] == "quality")
    link = fired.payload["data"]["links"]["incident"]
    assert link == f"https://driftd.example.org/incidents/{number}"
    assert f"Incident: {link}; Report: https://driftd.example.org/reports/m/" in fired.text
    status, page = site.get(f"/incidents/{number}")
    assert status == 200
    for words in ("roc_auc", "dry run", "attribution", "v2 went live", "ann &lt;script&gt;", "message 1", "Owner: "):
        assert words in page, words
    assert "<script>" not in page
    assert f'href="/incidents/{number}"' in site.get("/")[1]
    one = json.loads(site.get(f"/api/incidents/{number}")[1])
    assert [(t["what"], t["by"]) for t in one["timeline"] if t["what"] in ("fired", "ack")] == [("fired", "driftd"), ("ack", "ann <script>")]
    assert [g["passed"] for g in one["rollback"]["guards"]] == [True] * len(one["rollback"]["guards"])
    assert {d["state"] for d in one["deliveries"] if d["sequence"] == 1} == {"sent"}


@pytest.mark.parametrize("number", ["0", "999", str(2**40), "x"])
def test_an_incident_that_is_not_there_is_no_error_of_the_server(world: World, site: Site, number: str) -> None:
    assert site.get(f"/incidents/{number}")[0] == (422 if number == "x" else 404)
    assert incident_detail(world.app.store, 999) is None


def test_the_command_shows_one_incident(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from monitor.cli.root import app

    number = quality_incident(world)
    shown = CliRunner().invoke(app, ["-c", str(world.folder / "config.yaml"), "incidents", number])
    assert shown.exit_code == 0, shown.output
    for words in (number, "acknowledged by nobody", "rollback from v2 to v1: dry run", "fired (message 1)", "sent", "FIRING [fail] m"):
        assert words in shown.output, words
    assert "there is no incident" in CliRunner().invoke(app, ["-c", str(world.folder / "config.yaml"), "incidents", "INC-77"]).output
