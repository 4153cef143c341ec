"""apprise: every other service that the apprise package knows, by its URL; needs the extra ``apprise``."""

from __future__ import annotations

import logging
from typing import Any, Literal

import httpcore
from pydantic import SecretStr

from checks.core.errors import DeliveryError
from monitor.config.types import Section, reveal
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.delivery.http import Deadline, within
from monitor.ports import Message, Sender


class AppriseConfig(Section):
    """The ``url`` of a service, such as ``ntfys://example.org/topic``; it is a secret."""

    kind: Literal["apprise"] = "apprise"
    url: SecretStr


class AppriseChannel:
    """Sends through apprise, which follows no redirect here, and says little of why it failed."""

    people = True

    def __init__(self, config: AppriseConfig) -> None:
        self._config = config
        self._service: Any = None

    def _open(self) -> Any:
        if self._service is None:
            try:
                import apprise
            except ModuleNotFoundError:
                raise DeliveryError("apprise is not installed: install driftd[apprise]", retryable=False) from None
            logging.getLogger("apprise").disabled = True  # it writes URLs
            asset = apprise.AppriseAsset(async_mode=False, secure_logging=True)
            service = apprise.Apprise.instantiate(reveal(self._config.url) or "", asset=asset, suppress_exceptions=True)
            if service is None:
                raise DeliveryError("apprise does not know this URL", retryable=False, disable=True)
            service.redirects = False
            self._service = service
        return self._service

    def send(self, message: Message) -> str:
        service = self._open()
        first, _, rest = message.text.encode("utf-8", "replace").decode().replace("\x00", "").partition("\n")
        kind = {"incident.resolved": "success", "incident.withdrawn": "info"}.get(str(message.payload.get("type")))
        kind = kind or ("failure" if message.payload.get("data", {}).get("severity") == "fail" else "warning")
        try:
            done = within(Deadline(), lambda: service.notify(title=first[:250], body=rest or first, notify_type=kind, body_format="text"))
        except httpcore.ReadTimeout:
            self._service = None  # what still waits in it is left to itself
            raise DeliveryError(f"apprise {service.service_name}: it took longer than 15 s", retryable=True, sent=True) from None
        except (TypeError, ValueError, OSError) as error:
            raise DeliveryError(f"apprise {service.service_name}: {type(error).__name__}", retryable=True, sent=True) from None
        if not done:
            raise DeliveryError(f"apprise {service.service_name}: the service did not take it", retryable=True, sent=True)
        return f"taken by {service.service_name}"


def _build(config: AppriseConfig) -> Sender:
    return AppriseChannel(config)


CHANNELS.register("apprise")(ChannelPlugin(AppriseConfig, _build))
