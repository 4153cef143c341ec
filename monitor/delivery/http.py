"""Outgoing requests: https to public addresses unless the configuration allows the host by name; no redirects."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from checks.core.errors import DeliveryError

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
MOST_REPLY_BYTES = 64 * 1024

Resolver = Callable[[str, int], Sequence[str]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


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
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
    return bool(ip.is_global and not ip.is_multicast)


def request(
    method: str, url: str, *, allow_hosts: Sequence[str] = (), body: bytes | None = None,
    headers: Mapping[str, str] | None = None, resolver: Resolver = resolve_host,
) -> Reply:
    """One request to a checked and pinned address, or `DeliveryError`; ``sent`` says whether bytes may have left."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    allowed = host in allow_hosts
    if parts.scheme not in ("http", "https") or not host:
        raise DeliveryError(f"{shown(url)}: not an http or https URL", retryable=False)
    if parts.scheme == "http" and not allowed:
        raise DeliveryError(f"{shown(url)}: plain http is only for hosts in allow_hosts", retryable=False)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = resolver(host, port)
    except OSError as error:
        raise DeliveryError(f"{shown(url)}: the host cannot be resolved: {error.strerror or error}", retryable=True) from None
    if not allowed and not all(public(address) for address in addresses):
        raise DeliveryError(f"{shown(url)}: the host resolves to an address that is not public", retryable=False)
    if not addresses:
        raise DeliveryError(f"{shown(url)}: the host has no address", retryable=True)
    pinned = addresses[0]
    netloc = f"[{pinned}]:{port}" if ":" in pinned else f"{pinned}:{port}"
    target = parts._replace(netloc=netloc).geturl()
    sending = {"host": parts.netloc.rpartition("@")[2], "user-agent": "driftd", **(headers or {})}
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream(method, target, content=body, headers=sending, extensions={"sni_hostname": host}) as response,
        ):
            return Reply(response.status_code, dict(response.headers), _read(response))
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise DeliveryError(f"{shown(url)}: no connection: {error}", retryable=True) from None
    except (httpx.HTTPError, ssl_error()) as error:
        raise DeliveryError(f"{shown(url)}: {type(error).__name__}", retryable=True, sent=True) from None


def ssl_error() -> type[Exception]:
    import ssl

    return ssl.SSLError


def _read(response: httpx.Response) -> bytes:
    body = b""
    for chunk in response.iter_bytes(8192):
        body += chunk
        if len(body) >= MOST_REPLY_BYTES:
            break
    return body[:MOST_REPLY_BYTES]
