"""FastAPI: the status page, the JSON API, reports, health and metrics. Reads the store, changes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from checks.core.result import ROLL_UP
from monitor import __version__
from monitor.config.types import reveal
from monitor.daemon import Watch
from monitor.heartbeat import health
from monitor.store import outbox, runs
from monitor.web.incident import incident_detail
from monitor.web.overview import incident_rows, notices, overview, release_rows, run_rows

TEMPLATES = Path(__file__).parent / "templates"


def create(watch: Callable[[], Watch]) -> FastAPI:
    """The web application of a daemon."""
    api = FastAPI(title="driftd", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined)

    def authorised(request: Request) -> None:
        token = reveal(watch().config.web.token)
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not secrets.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "a bearer token is needed")

    guard = [Depends(authorised)]

    @api.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz")
    def readyz() -> JSONResponse:
        ready, facts = health(watch())
        return JSONResponse({"status": "ok" if ready else "not ready", **facts}, 200 if ready else 503)

    @api.get("/metrics")
    def metrics() -> Response:
        return Response(_metrics(watch()), media_type="text/plain; version=0.0.4")

    @api.get("/api/status", dependencies=guard)
    def status() -> list[dict[str, Any]]:
        return overview(watch().store, watch().config)

    @api.get("/api/incidents", dependencies=guard)
    def all_incidents(state: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
        return incident_rows(watch().store, state, min(max(limit, 1), 1000))

    @api.get("/api/incidents/{number}", dependencies=guard)
    def one_incident(number: int) -> dict[str, Any]:
        return _incident(watch(), number)

    @api.get("/incidents/{number}", dependencies=guard)
    def incident_page(number: int) -> HTMLResponse:
        found = _incident(watch(), number)
        return HTMLResponse(pages.get_template("incident.html").render(i=found, report=_written(watch(), found["report"])))

    @api.get("/api/runs", dependencies=guard)
    def all_runs(monitor: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
        return run_rows(watch().store, monitor, min(max(limit, 1), 1000))

    @api.get("/", dependencies=guard)
    def page() -> HTMLResponse:
        here = watch()
        return HTMLResponse(pages.get_template("status.html").render(
            monitors=overview(here.store, here.config), notices=notices(here.store, here.config, here.clock.now()), incidents=incident_rows(here.store, limit=50), releases=release_rows(here.store),
            runs=[{**r, "report": _report(here, r)} for r in run_rows(here.store, None, 60)], problems=here.problems,
        ))

    @api.get("/reports/{monitor}/{name}", dependencies=guard)
    def report(monitor: str, name: str) -> FileResponse:
        root = watch().config.reports.path.resolve()
        path = (root / monitor / name).resolve()
        if monitor not in watch().config.monitors or not path.is_relative_to(root) or path.suffix != ".html" or not path.is_file():
            raise HTTPException(404, "there is no such report")
        return FileResponse(path, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"})

    return api


def _incident(watch: Watch, number: int) -> dict[str, Any]:
    found = incident_detail(watch.store, number) if 0 < number < 2**31 else None
    if found is None:
        raise HTTPException(404, f"there is no incident INC-{number}")
    return found


def _report(watch: Watch, row: dict[str, Any]) -> str | None:
    name = f"{row['window']['start'][:16].replace(':', '')}Z.html"
    return _written(watch, f"{row['monitor']}/{name}")


def _written(watch: Watch, path: str | None) -> str | None:
    """The address of a report, if it was written."""
    return f"/reports/{path}" if path is not None and (watch.config.reports.path / path).exists() else None


def _metrics(watch: Watch) -> bytes:
    registry = CollectorRegistry()
    verdict = Gauge("driftd_verdict", "1 for the verdict of the newest window", ["monitor", "verdict"], registry=registry)
    newest = Gauge("driftd_newest_window_end_seconds", "End of the newest evaluated window", ["monitor"], registry=registry)
    rows = Gauge("driftd_window_rows", "Rows of the newest evaluated window", ["monitor"], registry=registry)
    opened = Gauge("driftd_open_incidents", "Open incidents", ["monitor", "family"], registry=registry)
    messages = Gauge("driftd_outbox_messages", "Messages by state", ["state"], registry=registry)
    with watch.store.read() as connection:
        for name in watch.config.monitors:
            found = runs.recent_runs(connection, name, limit=1)
            if found:
                for each in ROLL_UP:
                    verdict.labels(name, str(each)).set(1 if found[0].verdict == each else 0)
                newest.labels(name).set(found[0].end.timestamp())
                rows.labels(name).set(found[0].rows)
        for state, count in outbox.counts(connection).items():
            messages.labels(state).set(count)
    for item in incident_rows(watch.store, "open"):
        opened.labels(item["monitor"], item["family"]).inc()
    return generate_latest(registry)
