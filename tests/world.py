"""A monitor on a stream with a clock of its own, evaluated in this process."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from monitor.app import App, build, inline_workers, load_config
from monitor.clock import ManualClock
from monitor.ports import Message
from tests.streams import START, Stream, config_text


class Inbox:
    """A channel that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> str:
        self.messages.append(message)
        return "kept"

    def types(self) -> list[tuple[str, str]]:
        """Type and family of every message on an incident, but for reminders."""
        told = [m.payload for m in self.messages if m.payload["type"] != "incident.reminder"]
        return [(p["type"], p["data"]["family"]) for p in told if "family" in p["data"]]


class World:
    """Writes the stream up to a day, moves the clock, ticks."""

    def __init__(self, folder: Path, stream: Stream, *, start_day: int = 40, **monitor: Any) -> None:
        self.folder, self.stream = folder, stream
        self.start_day = start_day
        monitor.setdefault("start", (START + timedelta(days=start_day)).date().isoformat())
        (folder / "config.yaml").write_text(config_text(folder, **monitor))
        self.clock = ManualClock(START + timedelta(days=start_day, hours=2))
        self.inbox = Inbox()
        self.written = 0
        self.write(start_day)
        self.app = self.open()

    def open(self) -> App:
        config = load_config(self.folder / "config.yaml")
        return build(config, clock=self.clock, workers=inline_workers(), channels={"log": self.inbox}, reports=False)

    def write(self, until: int, *, labels: bool = True) -> None:
        self.stream.write(self.folder, range(self.written, until), labels=labels)
        self.written = max(self.written, until)

    def day(self, index: int) -> None:
        """Write the window ``index`` and tick after it has closed."""
        self.write(index + 1)
        self.clock.move_to(START + timedelta(days=index + 1, hours=2))
        self.app.watch.tick()

    def days(self, count: int) -> None:
        for index in range(self.start_day, self.start_day + count):
            self.day(index)
