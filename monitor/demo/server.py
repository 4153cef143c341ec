"""The demo's deployment server: which model version is live, and a webhook that rolls it back."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from monitor.delivery.channels.webhook import signing_key


class DeploymentServer:
    """Serves ``GET /live`` and ``POST /rollback`` on 127.0.0.1; a rollback takes effect for the next day.

    It verifies the signature (without the age check: the demo's clock is in 2013), honours
    ``expected_current_version`` and does a webhook id only once.
    """

    def __init__(self, version: str, secret: str, port: int = 0) -> None:
        self.version = version
        self.calls: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._secret = secret
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, {"version": owner.version, "in_progress": False})

            def do_POST(self) -> None:
                body = self.rfile.read(min(int(self.headers.get("content-length", 0)), 65536))
                status, reply = owner.rollback(body, {k.lower(): v for k, v in self.headers.items()})
                self._answer(status, reply)

            def _answer(self, status: int, reply: dict[str, Any]) -> None:
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True, name="demo-server").start()

    def rollback(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Verify and do what a rollback webhook asks for."""
        identifier = headers.get("webhook-id", "")
        try:
            expected = _signature(self._secret, identifier, headers.get("webhook-timestamp", "0"), body)
        except (ValueError, WebhookVerificationError):
            return 400, {"error": "bad headers"}
        if headers.get("webhook-signature") != expected:
            return 401, {"error": "bad signature"}
        data = json.loads(body)["data"]
        with self._lock:
            if identifier in self._seen:
                return 200, {"version": self.version, "repeated": True}
            if data["expected_current_version"] != self.version:
                return 409, {"version": self.version}
            self._seen.add(identifier)
            self.calls.append(data)
            self.version = data["to_version"]
        return 202, {"version": self.version}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _signature(secret: str, identifier: str, timestamp: str, body: bytes) -> str:
    from datetime import UTC, datetime

    return Webhook(signing_key(secret)).sign(identifier, datetime.fromtimestamp(int(timestamp), UTC), body.decode())
