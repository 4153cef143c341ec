"""Outgoing requests: https to public addresses unless the configuration allows the host by name; no redirects."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpcore

from checks.core.errors import DeliveryError
from monitor.clock import SystemClock

CONNECT_SECONDS = 5.0
ALL_SECONDS = 15.0
"""For a whole request, however slowly the reply drips."""

MOST_REPLY_BYTES = 64 * 1024

T = TypeVar("T")
Resolver = Callable[[str, int], Sequence[str]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_INWARD = tuple(ipaddress.ip_network(n) for n in ("64:ff9b:1::/48", "fec0::/10", "::/96", "::ffff:0:0:0/96"))
"""Translations and site-local ranges that Python calls global."""



@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and the first 64 kB of a reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def resolve_host(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, from the system's resolver."""
    return list(dict.fromkeys(str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def shown(url: str) -> str:
    """A URL as it may be logged: its host and 8 hex digits of a hash."""
    return f"{urlsplit(url).hostname or '?'}#{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def public(address: str) -> bool:
    """Whether an address is public; IPv4 inside IPv6 is unwrapped first."""
    ip: Any = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in _INWARD):
            return False
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
    return bool(ip.is_global and not ip.is_multicast)


class Deadline:
    """Until when all of it must be over: name, connection, request and reply, of one request or of several that belong together."""

    def __init__(self, seconds: float = ALL_SECONDS) -> None:
        self._clock = SystemClock()
        self._until = self._clock.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; `httpcore.ReadTimeout` when none is."""
        left = self._until - self._clock.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left


def within(deadline: Deadline, work: Callable[[], T]) -> T:
    """What ``work`` answers; `httpcore.ReadTimeout` when it takes longer: it is then left to itself, as nothing can end it."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # handed to whoever waits
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name="driftd-wait").start()
    try:
        return answer.result(deadline.left())
    except FutureTimeout:
        raise httpcore.ReadTimeout from None


def request(
    method: str, url: str, *, allow_hosts: Sequence[str] = (), body: bytes | None = None,
    headers: Mapping[str, str] | None = None, resolver: Resolver | None = None, deadline: Deadline | None = None,
) -> Reply:
    """One request to a checked and pinned address, or `DeliveryError`; ``sent`` says whether bytes may have left."""
    deadline = deadline or Deadline()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        host.encode("idna")
    except (ValueError, UnicodeError):
        raise DeliveryError("not an http or https URL", retryable=False) from None
    allowed = host in allow_hosts
    if parts.scheme not in ("http", "https") or not host:
        raise DeliveryError(f"{shown(url)}: not an http or https URL", retryable=False)
    if parts.scheme == "http" and not allowed:
        raise DeliveryError(f"{shown(url)}: plain http is only for hosts in allow_hosts", retryable=False)
    try:
        addresses = within(deadline, lambda: (resolver or resolve_host)(host, port))
    except httpcore.ReadTimeout:
        raise DeliveryError(f"{shown(url)}: no connection: its name was not resolved in time", retryable=True) from None
    except (OSError, UnicodeError) as error:
        raise DeliveryError(f"{shown(url)}: the host cannot be resolved: {getattr(error, 'strerror', None) or error}", retryable=True) from None
    if not allowed and not all(public(address) for address in addresses):
        raise DeliveryError(f"{shown(url)}: the host resolves to an address that is not public", retryable=False)
    if not addresses:
        raise DeliveryError(f"{shown(url)}: the host has no address", retryable=True)
    tls = parts.scheme == "https"
    sending = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "driftd", "Content-Length": str(len(body or b"")), **(headers or {})}
    backend = _Pinned(addresses, deadline)
    target = httpcore.URL(
        scheme=parts.scheme.encode(), host=host.encode("idna"), port=port,
        target=((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode("ascii", "replace"),
    )
    try:
        with (
            httpcore.ConnectionPool(ssl_context=_tls() if tls else None, network_backend=backend) as pool,
            pool.stream(method, target, headers=[(k.encode(), v.encode()) for k, v in sending.items()], content=body) as response,
        ):
            found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
            return Reply(response.status, found, _read(response))
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
        said = "no connection" if not backend.wrote else "no reply"
        why = "it took longer than 15 s" if isinstance(error, httpcore.TimeoutException) and backend.wrote else type(error).__name__
        raise DeliveryError(f"{shown(url)}: {said}: {why}", retryable=True, sent=backend.wrote) from None


def _read(response: httpcore.Response) -> bytes:
    body = b""
    for chunk in response.iter_stream():
        body += chunk
        if len(body) >= MOST_REPLY_BYTES:
            break
    return body[:MOST_REPLY_BYTES]


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Pinned(httpcore.NetworkBackend):
    """Connects to addresses that were checked, whatever the name resolves to by now, and ends when the time is over.

    ``wrote`` says whether any byte of the request may have left.
    """

    def __init__(self, addresses: Sequence[str], deadline: Deadline) -> None:
        self._addresses = list(addresses)
        self._inner = httpcore.SyncBackend()
        self.left = deadline.left
        self.wrote = False

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        error: Exception = httpcore.ConnectError()
        for address in self._addresses[:3]:
            try:
                return _Timed(self._inner.connect_tcp(address, port, min(CONNECT_SECONDS, self.left())), self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as caught:
                error = caught
        raise error


class _Timed(httpcore.NetworkStream):
    """A stream whose every step fits into what is left of the request's time."""

    def __init__(self, inner: httpcore.NetworkStream, owner: _Pinned) -> None:
        self._inner, self._owner = inner, owner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._owner.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._owner.left()
        self._owner.wrote = True
        self._inner.write(buffer, left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, min(CONNECT_SECONDS, self._owner.left())), self._owner)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
