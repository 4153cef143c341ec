"""Spark as users have it: in this process, a standalone cluster of real processes, and Spark Connect."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.sources.spark import SparkSource
from monitor.sources.sql import CONNECTIONS
from tests.conftest import absent
from tests.engines.engines import ENGINES, Open

SPARK = [pytest.param(name, marks=pytest.mark.spark) for name in ("spark-local", "spark-cluster", "spark-connect")]


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pyspark() -> Path:
    try:
        import pyspark
    except ModuleNotFoundError:
        absent("pyspark: make test-spark installs it")
        raise
    if shutil.which("java") is None:
        absent("a Java runtime")
    return Path(pyspark.__file__).parent


def wait_for(port: int, seconds: float = 60) -> None:
    """Until something listens at ``port`` of the loopback."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    CONNECTIONS.close()


@pytest.fixture(scope="session")
def spark_local() -> str:
    _pyspark()
    return "local[2]"


class Cluster:
    """One master and two workers on the loopback, started by the pyspark wheel's own ``spark-class``."""

    def __init__(self, folder: Path) -> None:
        self._home = _pyspark()
        self._folder = folder
        self._environment = {**os.environ, "SPARK_HOME": str(self._home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        self.port = _port()
        self.address = f"spark://127.0.0.1:{self.port}"
        master = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(self.port), "--webui-port", str(_port())]
        self.master = self._start("master", master)
        wait_for(self.port)
        self.workers = [self.start_worker(i) for i in range(2)]

    def start_worker(self, index: int) -> subprocess.Popen[bytes]:
        arguments = [
            "org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "1g", "--webui-port", str(_port()),
            "--work-dir", str(self._folder / f"work{index}"), self.address,
        ]
        return self._start(f"worker{index}", arguments)

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [str(self._home / "bin" / "spark-class"), *arguments], env=self._environment, stdout=log, stderr=log, start_new_session=True,
            )

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """SIGKILL to a process and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in (*self.workers, self.master):
            self.kill(process)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def spark_cluster(cluster: Cluster) -> str:
    return cluster.address


@pytest.fixture(scope="session")
def spark_connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Spark Connect server with two local cores."""
    home, port = _pyspark(), _port()
    log = (tmp_path_factory.mktemp("connect") / "server.log").open("wb")
    process = subprocess.Popen(
        [str(home / "bin" / "spark-submit"), "--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "--master", "local[2]",
         "--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.connect.grpc.binding.address=127.0.0.1",
         "--conf", "spark.ui.enabled=false", "spark-internal"],
        env={**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}, stdout=log, stderr=log, start_new_session=True,
    )
    wait_for(port)
    yield f"sc://127.0.0.1:{port}"
    SparkSource.close()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    log.close()


@pytest.fixture(scope="session", params=["arrow", "duckdb", "postgres", *SPARK])
def place(request: pytest.FixtureRequest) -> str:
    """Which engine; of the session, so that all tests of one cluster follow each other."""
    return str(request.param)


@pytest.fixture
def engine(request: pytest.FixtureRequest, place: str) -> tuple[str, Open]:
    """The engine's kind, and what opens a table in it."""
    kind, _, where = place.partition("-")
    fixture = f"spark_{where}" if where else "postgres" if kind == "postgres" else None
    address = request.getfixturevalue(fixture) if fixture else ""
    return kind, lambda table, folder: ENGINES[kind](table, folder, address)
