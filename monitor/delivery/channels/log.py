"""log: a line of JSON on standard output; the default channel."""

from __future__ import annotations

import json
import sys
from typing import Literal

from monitor.config.types import Section
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.ports import Message, Sender


class LogConfig(Section):
    """Nothing to set."""

    kind: Literal["log"] = "log"


class LogChannel:
    """Writes a message as one line."""

    people = False

    def send(self, message: Message) -> str:
        sys.stdout.write(json.dumps({"event": "message", "id": message.key, "text": message.text, **message.payload}) + "\n")
        sys.stdout.flush()
        return "written"


def _build(config: LogConfig) -> Sender:
    return LogChannel()


CHANNELS.register("log")(ChannelPlugin(LogConfig, _build))
