"""
A server that takes web hooks. *manners* are taken one by one, the last one again and again:

    "good"       200: the report is noted in `got`
    "broken"     500, with a text; "busy": 429 with Retry-After: 0
    "late"       200, but it is noted only: the connection is closed before the answer is sent
    "hanging"    no answer until the server ends
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

import msgspec


class Report(NamedTuple):
    """A request: its headers, and its body."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Receiver:
    """Listens at a port of its own."""

    def __init__(self, *manners: str) -> None:
        self.manners = list(manners or ("good",))
        self.got: list[Report] = []
        self.requests = 0
        self.hanging, self.may_end = threading.Event(), threading.Event()
        handler = type("Handler", (_Handler,), {"receiver": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks/secret"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.may_end.set()
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()

    def manner(self) -> str:
        """Return how the next request is treated."""
        self.requests += 1
        return self.manners.pop(0) if len(self.manners) > 1 else self.manners[0]


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a report."""
        report = Report(dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
        manner = self.receiver.manner()
        if manner == "hanging":
            self.receiver.hanging.set()
            self.receiver.may_end.wait(60)
            self.close_connection = True
            return
        if manner in ("good", "late"):
            self.receiver.got.append(report)
        if manner == "late":
            self.close_connection = True
            return
        text = b"" if manner == "good" else b"not\nnow"
        self.send_response({"good": 200, "busy": 429}.get(manner, 500))
        if manner == "busy":
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_request(self, *_: object) -> None:
        """Print nothing."""
