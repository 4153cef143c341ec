"""The scanning processes: long-lived, spawned on the first work, watched for time and memory, replaced when lost."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import psutil

from checks.core.errors import DriftdError, LimitError, WorkerError
from monitor.clock import Clock, SystemClock
from monitor.ports import Job

if TYPE_CHECKING:
    from monitor.evaluation.evaluator import Evaluator

POLL_SECONDS = 0.2


def serve(pipe: Connection) -> None:
    """The body of a scanning process: answers jobs until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    one_thread()
    from monitor.evaluation.evaluator import Evaluator

    evaluator = Evaluator()
    while True:
        try:
            job = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        reply = pickle.dumps(answer(evaluator, job))
        try:
            pipe.send_bytes(reply)
        except OSError:  # the parent is gone
            return


def one_thread() -> None:
    """A scan brings its own two threads: a matrix library that starts more only makes them wait. Before numpy is loaded."""
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def answer(evaluator: Evaluator, job: Job) -> tuple[str, Any]:
    """``("ok", value)``, or ``("error", text)`` for what driftd refuses and ``("crash", text)`` for what it did not foresee."""
    try:
        return "ok", evaluator.answer(job)
    except DriftdError as error:
        return "error", (type(error), str(error))
    except MemoryError:
        return "crash", "out of memory"
    except Exception as error:  # the edge of a run: whatever a check raises becomes the window's verdict
        return "crash", f"{type(error).__name__}: {error}"


def open_answer(job: Job, reply: tuple[str, Any]) -> Any:
    """The value of an answer, or the error that it carries."""
    kind, value = reply
    if kind == "ok":
        return value
    if kind == "error":
        raise value[0](value[1])
    raise WorkerError(f"monitor {job.monitor.name}: {type(job).__name__} failed: {value}")


class InlineWorkers:
    """Runs jobs in this process: for single commands and for tests."""

    def __init__(self) -> None:
        one_thread()
        from monitor.evaluation.evaluator import Evaluator

        self._evaluator = Evaluator()

    def run(self, job: Job) -> Any:
        return open_answer(job, answer(self._evaluator, job))

    def retire_idle(self) -> None:
        return None

    def close(self) -> None:
        return None


@dataclass(slots=True)
class _Process:
    process: BaseProcess
    pipe: Connection
    idle_since: float = 0.0


@dataclass(slots=True)
class WorkerPool:
    """At most ``size`` scanning processes.

    ``seconds`` and ``megabytes`` are the limits of one job; a process that is idle for ``idle_seconds`` retires.
    """

    size: int = 2
    seconds: float = 900.0
    megabytes: float = 4000.0
    idle_seconds: float = 20.0
    clock: Clock = field(default_factory=SystemClock)
    _idle: list[_Process] = field(default_factory=list)
    _busy: list[_Process] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _places: threading.Semaphore | None = None
    _closed: bool = False

    def run(self, job: Job) -> Any:
        """The job's answer; `WorkerError` when the process is lost or breaks a limit."""
        if self._places is None:
            with self._lock:
                self._places = self._places or threading.Semaphore(self.size)
        with self._places:
            worker = self._take()
            try:
                worker.pipe.send_bytes(pickle.dumps(job))
                self._wait(worker, job)
                reply = pickle.loads(worker.pipe.recv_bytes())
            except (EOFError, OSError, BrokenPipeError):
                self._discard(worker)
                code = worker.process.exitcode
                raise LimitError(f"monitor {job.monitor.name}: the scanning process was lost (exit code {code})") from None
            except BaseException:
                self._discard(worker)
                raise
            self._give_back(worker)
        return open_answer(job, reply)

    def _take(self) -> _Process:
        with self._lock:
            if self._closed:
                raise WorkerError("the scanning processes are closed")
            while self._idle:
                worker = self._idle.pop()
                if worker.process.is_alive():
                    self._busy.append(worker)
                    return worker
            one_thread()  # inherited: the allocator reads its variable before the first line of Python runs
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs,), daemon=True, name="driftd-scan")
            process.start()
            theirs.close()
            worker = _Process(process, ours)
            self._busy.append(worker)
            return worker

    def _wait(self, worker: _Process, job: Job) -> None:
        deadline = self.clock.monotonic() + self.seconds
        watched = psutil.Process(worker.process.pid) if worker.process.pid else None
        while not worker.pipe.poll(POLL_SECONDS):
            if not worker.process.is_alive():
                raise EOFError
            if self.clock.monotonic() > deadline:
                raise LimitError(f"monitor {job.monitor.name}: the scan took longer than {self.seconds:g} s and was stopped")
            try:
                used = watched.memory_info().rss / 1e6 if watched else 0.0
            except psutil.NoSuchProcess:
                raise EOFError from None
            if used > self.megabytes:
                raise LimitError(
                    f"monitor {job.monitor.name}: the scan used {used:.0f} MB, more than {self.megabytes:.0f} MB, and was stopped"
                )

    def _give_back(self, worker: _Process) -> None:
        with self._lock:
            self._busy.remove(worker)
            worker.idle_since = self.clock.monotonic()
            self._idle.append(worker)

    def _discard(self, worker: _Process) -> None:
        worker.process.kill()
        worker.process.join(5)
        worker.pipe.close()
        with self._lock:
            if worker in self._busy:
                self._busy.remove(worker)

    def retire_idle(self) -> None:
        """End the processes that have had nothing to do for a while."""
        now = self.clock.monotonic()
        with self._lock:
            old = [w for w in self._idle if now - w.idle_since > self.idle_seconds]
            self._idle = [w for w in self._idle if w not in old]
        for worker in old:
            self._discard(worker)

    def close(self) -> None:
        """End every process; a running job fails with `WorkerError`."""
        with self._lock:
            self._closed = True
            workers, self._idle = [*self._idle, *self._busy], []
        for worker in workers:
            worker.process.kill()
            worker.process.join(5)
