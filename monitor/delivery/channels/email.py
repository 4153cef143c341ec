"""email: SMTP with STARTTLS, as plain text and HTML; an incident is a thread."""

from __future__ import annotations

import contextlib
import html
import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Annotated, Literal

import httpcore
from pydantic import Field, SecretStr

from checks.core.errors import DeliveryError
from monitor.config.types import Section, reveal
from monitor.delivery.channels import CHANNELS, ChannelPlugin
from monitor.delivery.http import Deadline, within
from monitor.ports import Message, Sender

TIMEOUT_SECONDS = 15.0


class EmailConfig(Section):
    """A mail server, whom the mail is from, and to whom it goes.

    ``security`` is starttls (refused when the server does not offer it), tls from the first byte, or none.
    """

    kind: Literal["email"] = "email"
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: SecretStr | None = None
    sender: Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$")]
    to: Annotated[list[Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$")]], Field(min_length=1)]
    ca_file: str | None = None


def clean(text: str) -> str:
    """Text that a mail can carry: lone surrogates and NUL replaced."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")


def mail_of(message: Message, config: EmailConfig) -> EmailMessage:
    """The mail: its id is the message's, so that a duplicate is recognisable; replies refer to the incident."""
    domain = config.sender.rpartition("@")[2]
    data = message.payload.get("data", {})
    text = clean(message.text)
    mail = EmailMessage()
    mail["Subject"] = " ".join((text.splitlines() or ["driftd"])[0].split())[:200]
    mail["From"], mail["To"] = config.sender, ", ".join(config.to)
    mail["Date"] = format_datetime(message.now)
    mail["Message-ID"] = f"<{message.key}@{domain}>"
    if data.get("incident"):
        root = f"<{data['incident']}.driftd@{domain}>".replace(" ", "")
        mail["References"] = root
        mail["In-Reply-To"] = root
        mail["X-Driftd-Incident"] = str(data["incident"])
    mail.set_content(text)
    shown = "".join(f"<p style='margin:0 0 4px'>{html.escape(line)}</p>" for line in text.splitlines())
    mail.add_alternative(f"<html><body style='font-family:sans-serif;font-size:14px'>{shown}</body></html>", subtype="html")
    return mail


class _Talk:
    """A conversation with a mail server, which a time-out of smtplib's for each single step does not bound."""

    def __init__(self) -> None:
        self.server: smtplib.SMTP | None = None
        self.sent = False

    def end(self) -> None:
        """Cut it off: the thread that waits for the server ends with an error."""
        if self.server is not None and self.server.sock is not None:
            with contextlib.suppress(OSError):
                self.server.sock.shutdown(socket.SHUT_RDWR)


class EmailChannel:
    """Sends one mail to all of its addresses."""

    people = True

    def __init__(self, config: EmailConfig) -> None:
        self._config = config

    def send(self, message: Message) -> str:
        where, talk = f"mail server {self._config.host}", _Talk()
        try:
            return within(Deadline(), lambda: self._send(message, where, talk))
        except httpcore.ReadTimeout:
            talk.end()
            raise DeliveryError(f"{where}: it took longer than 15 s", retryable=True, sent=talk.sent) from None

    def _send(self, message: Message, where: str, talk: _Talk) -> str:
        config = self._config
        try:
            mail = mail_of(message, config)
            with self._connect() as server:
                talk.server = server
                if config.user is not None:
                    server.login(config.user, reveal(config.password) or "")
                talk.sent = True
                refused = server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as error:
            again = any(400 <= code < 500 for code, _ in error.recipients.values())
            raise DeliveryError(f"{where}: every address was refused", retryable=again) from None
        except smtplib.SMTPAuthenticationError as error:
            raise DeliveryError(f"{where}: the login was refused ({error.smtp_code})", retryable=False, disable=True) from None
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryError(f"{where}: {error}", retryable=False) from None
        except smtplib.SMTPResponseException as error:
            raise DeliveryError(f"{where}: it answered {error.smtp_code}", retryable=400 <= error.smtp_code < 500, sent=talk.sent) from None
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"{where}: {type(error).__name__}", retryable=True, sent=talk.sent) from None
        return f"{len(config.to) - len(refused)} of {len(config.to)} addresses"

    def _connect(self) -> smtplib.SMTP:
        config = self._config
        if config.security == "none":
            return smtplib.SMTP(config.host, config.port, timeout=TIMEOUT_SECONDS)
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.security == "tls":
            return smtplib.SMTP_SSL(config.host, config.port, timeout=TIMEOUT_SECONDS, context=context)
        server = smtplib.SMTP(config.host, config.port, timeout=TIMEOUT_SECONDS)
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
        return server


def _build(config: EmailConfig) -> Sender:
    return EmailChannel(config)


CHANNELS.register("email")(ChannelPlugin(EmailConfig, _build))
