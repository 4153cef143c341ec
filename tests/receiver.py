"""A scripted HTTP server on 127.0.0.1 with a ledger of everything it received."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Script:
    """One scripted reply; ``drop`` closes the connection without one, after the request was taken; ``hang`` waits for `Receiver.released`.

    ``drip`` sends a byte a second; ``megabytes`` is how much of a body follows the head, as far as anybody reads it.
    """

    status: int = 200
    body: str = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    hang: bool = False
    drip: bool = False
    megabytes: int = 0


class Receiver:
    """Replies as scripted, then with ``default``; keeps a ledger."""

    def __init__(self) -> None:
        self.ledger: list[Request] = []
        self.script: deque[Script] = deque()
        self.default = Script()
        self.choose: Callable[[Request], Script | None] = lambda request: None
        self.sent_bytes = 0
        self.released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                owner.ledger.append(Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                reply = owner.choose(owner.ledger[-1]) or (owner.script.popleft() if owner.script else owner.default)
                if reply.hang:
                    owner.released.wait(60)
                if reply.drop or reply.hang:
                    self.close_connection = True
                    self.connection.close()
                    return
                if reply.drip or reply.megabytes:
                    self._long(reply)
                    return
                data = reply.body.encode()
                self.send_response(reply.status)
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _long(self, reply: Script) -> None:
                self.close_connection = True
                try:
                    if reply.drip:
                        for letter in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok":
                            self.wfile.write(bytes([letter]))
                            if owner.released.wait(1):
                                return
                    else:
                        self.wfile.write(f"HTTP/1.1 {reply.status} OK\r\ncontent-length: {reply.megabytes * 1_000_000}\r\n\r\nok".encode())
                        for _ in range(reply.megabytes):
                            self.wfile.write(b"x" * 1_000_000)
                            owner.sent_bytes += 1_000_000
                except OSError:
                    return

            do_GET = do_POST = do_PUT = _any

            def log_message(self, format: str, *args: Any) -> None:
                return None

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                return None

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
