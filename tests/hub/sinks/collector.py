"""
A strict double of an OpenTelemetry collector, written from the protocol's documentation alone: OTLP/HTTP 1.9, the
.proto files, RFC 9110 and 9112. (A real collector: tests/conformance/test_collector.py.)

It notes whatever the documentation forbids: another path, type or encoding, a body that is not an
ExportLogsServiceRequest, fields that the .proto files do not have, attributes with the same key. *manners* are taken
one by one for requests that carry log records (the last one again and again):

    "good"       200, an empty response
    "busy"       429 with Retry-After: 0; "away": 503; "broken": 500; "locked": 401; "lost": 404
    "partial"    200, rejects one log record; "nothing": rejects all; "warning": accepts all, with a text
    "picky"      400 for a request with a log record that is *bad*; else 200
    "small"      413 for more than one log record; else 200
    "hanging"    no answer; "cut": closes without an answer; "garbage": no HTTP
    "closing"    200, and closes the connection without saying so before
    "own"        200 with a body of another format
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

STATUSES = {"busy": 429, "away": 503, "broken": 500, "locked": 401, "lost": 404}


def value_of(value: AnyValue) -> Any:
    """Return what an AnyValue holds."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        assert len({pair.key for pair in value.kvlist_value.values}) == len(value.kvlist_value.values)
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes_of(owner: Any) -> dict[str, Any]:
    found = {pair.key: value_of(pair.value) for pair in owner.attributes}
    assert len(found) == len(owner.attributes), "the keys of attributes are unique"
    return found


def has_unknown_fields(message: Message) -> bool:
    """Return whether *message* has fields that the .proto files do not have: what is known has other bytes then."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.ByteSize() != message.ByteSize()


class Collector:
    """Listens at a port of its own. *context*: TLS; *token*: what `Authorization` must be."""

    def __init__(
        self,
        *manners: str,
        context: ssl.SSLContext | None = None,
        token: str = "",
        bad: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self.manners = list(manners or ("good",))
        self.choosing = threading.Lock()
        self.requests: list[ExportLogsServiceRequest] = []
        """Those that were accepted, without those that carry nothing."""
        self.headers: list[dict[str, str]] = []
        self.empty = self.connections = 0
        self.faults: list[str] = []
        """What the documentation forbids."""
        self.token, self.bad = token, bad
        self.hanging = threading.Event()
        self.may_end = threading.Event()
        self._server = _Server(self, context)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._server.server_address[1]}/v1/logs"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        assert self.faults == []

    def close(self) -> None:
        """Close all, and end."""
        self.may_end.set()
        self._server.shutdown()
        self._thread.join(30)
        self._server.end()

    @property
    def records(self) -> list[Any]:
        """All log records that were accepted."""
        return [
            record
            for request in self.requests
            for of_resource in request.resource_logs
            for of_scope in of_resource.scope_logs
            for record in of_scope.log_records
        ]

    @property
    def numbers(self) -> list[Any]:
        """The attribute n of all log records."""
        return [attributes_of(record).get("n") for record in self.records]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, collector: Collector, context: ssl.SSLContext | None) -> None:
        self.collector = collector
        self._context = context
        self._clients: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = super().get_request()
        self.collector.connections += 1
        if self._context is not None:
            client.settimeout(30)
            client = self._context.wrap_socket(client, server_side=True)
        self._clients.append(client)
        return client, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that left

    def end(self) -> None:
        self.server_close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            client.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the base
        pass

    def do_POST(self) -> None:
        collector = self.server.collector
        body = self.rfile.read(int(self.headers["Content-Length"]))
        collector.headers.append(dict(self.headers.items()))
        if self.headers.get("Authorization", "") != collector.token:
            self._reply(401, b"no token")
            return
        request = self._parsed(body)
        if request is None:
            self._reply(400, b"")
            return
        self._answer(request)

    def _parsed(self, body: bytes) -> ExportLogsServiceRequest | None:
        """Return the request, or note what is wrong with it."""
        faults = self.server.collector.faults
        if self.path != "/v1/logs" or self.headers.get("Content-Type") != "application/x-protobuf":
            faults.append(f"{self.path} {self.headers.get('Content-Type')}")
        if self.headers.get("Host", "").rpartition(":")[0] != "127.0.0.1":
            faults.append(f"Host: {self.headers.get('Host')}")
        encoding = self.headers.get("Content-Encoding")
        if encoding not in (None, "gzip"):
            faults.append(f"Content-Encoding: {encoding}")
        try:
            request = ExportLogsServiceRequest.FromString(gzip.decompress(body) if encoding == "gzip" else body)
        except (OSError, DecodeError) as error:
            faults.append(repr(error))
            return None
        for of_resource in request.resource_logs:
            attributes_of(of_resource.resource)
            for of_scope in of_resource.scope_logs:
                faults += [str(record) for record in of_scope.log_records if len(record.trace_id) not in (0, 16)]
                for record in of_scope.log_records:
                    attributes_of(record)
        if has_unknown_fields(request):
            faults.append("unknown fields")
        return request

    def _answer(self, request: ExportLogsServiceRequest) -> None:
        collector = self.server.collector
        records = [
            record
            for of_resource in request.resource_logs
            for of_scope in of_resource.scope_logs
            for record in of_scope.log_records
        ]
        if not records:
            collector.empty += 1
            self._reply(400 if collector.manners[0] == "refusing" else 200, b"")
            return
        with collector.choosing:  # a client that has given up may have sent a request that is still read
            manner = collector.manners.pop(0) if len(collector.manners) > 1 else collector.manners[0]
        if manner in STATUSES:
            self._reply(STATUSES[manner], b"not now \x1b[31m", {"Retry-After": "0"} if manner == "busy" else {})
        elif manner == "refusing" or (manner == "picky" and any(map(collector.bad, records))):
            self._reply(400, b"bad request")
        elif manner == "small" and len(records) > 1:
            self._reply(413, b"")
        elif manner in ("hanging", "cut", "garbage"):
            self.close_connection = True
            if manner == "garbage":
                self.wfile.write(b"SSH-2.0-garbage\r\n")
            if manner == "hanging":
                collector.hanging.set()
                collector.may_end.wait(60)
        else:
            collector.requests.append(request)
            self._accept(manner, len(records))

    def _accept(self, manner: str, count: int) -> None:
        response = ExportLogsServiceResponse()
        if manner in ("partial", "nothing"):
            response.partial_success.rejected_log_records = 1 if manner == "partial" else count
        if manner in ("partial", "nothing", "warning"):
            response.partial_success.error_message = "too old"
        self._reply(200, b'{"text": "ok"}' if manner == "own" else response.SerializeToString())
        self.close_connection = manner == "closing"

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
