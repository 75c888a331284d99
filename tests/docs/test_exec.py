"""
The examples of docs/exec, as children of a real hub: Kafka against the broker for tests that librdkafka has, the others
against strict doubles, written from the documentation of each protocol. The hub is killed in between.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from producers import Producer as HubProducer
from tests.support import HubProcess, eventually
from tests.system.test_sinks import wait_for_delivery

pytestmark = pytest.mark.timeout(120)

EXAMPLES = Path(__file__).parents[2] / "docs" / "exec"
HOST = socket.gethostname()
MESSAGES = 1200
BAD = "bad"
"""A message with this text is refused."""
SINK = """
[[sinks]]
type = "exec"
name = "example"
from = "start"
command = [{command}]
"""


class Double(ThreadingHTTPServer):
    """An HTTP server that gives each request to *answer*, which returns a status and a body. It notes what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        self.found: list[Any] = []
        """What is stored: a number for each message, in the order of arrival."""
        self.known: set[Any] = set()
        self.faults: list[str] = []
        self.requests = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        raise NotImplementedError

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.faults.append(what)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a child that was killed

    def end(self) -> None:
        self.shutdown()
        self.thread.join(30)
        self.server_close()
        assert self.faults == []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Double

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the base
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        status, reply = self.server.answer(self, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')  # as S3 does
        self.end_headers()
        self.wfile.write(reply)

    do_POST = _serve  # noqa: N815  the names that the base looks for
    do_PUT = _serve  # noqa: N815


class Loki(Double):
    """`POST /loki/api/v1/push`: refuses all of a request with a bad line, and is away once."""

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        self.expect(request.path == "/loki/api/v1/push", request.path)
        self.expect(request.headers["Content-Type"] == "application/json", "type")
        if self.requests == 2:
            return 503, b"away"
        streams = json.loads(body)["streams"]
        lines = [(tuple(sorted(each["stream"].items())), *value) for each in streams for value in each["values"]]
        for labels, at, line in lines:
            self.expect({name for name, _ in labels} == {"host", "tag", "level"}, str(labels))
            self.expect(isinstance(at, str) and at.isdecimal() and len(at) == 19, at)
            if BAD in line:
                return 400, b"the line is\nbad"
        for key in lines:
            if key not in self.known:  # the same labels, time and line
                self.known.add(key)
                self.found.append(json.loads(key[2])["n"])
        return 204, b""


class Elasticsearch(Double):
    """`POST /{index}/_bulk`: a status for each item; the first ones are told to come again."""

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        self.expect(request.path == "/logs/_bulk", request.path)
        self.expect(request.headers["Content-Type"] == "application/x-ndjson", "type")
        self.expect(body.endswith(b"\n"), "the last line has no end")
        lines = [json.loads(line) for line in body.splitlines()]
        items = [
            self._item(action["create"]["_id"], document)
            for action, document in zip(lines[::2], lines[1::2], strict=True)
        ]
        return 200, json.dumps(
            {"errors": any(item["status"] > 201 for item in items), "items": [{"create": item} for item in items]}
        ).encode()

    def _item(self, key: str, document: dict[str, Any]) -> dict[str, Any]:
        self.expect(document["@timestamp"][10] == "T", document["@timestamp"])
        if BAD in str(document["record"]):
            return {"status": 400, "error": {"type": "document_parsing_exception"}}
        if self.requests == 1:
            return {"status": 429, "error": {"type": "es_rejected_execution_exception"}}
        if key in self.known:
            return {"status": 409, "error": {"type": "version_conflict_engine_exception"}}
        self.known.add(key)
        self.found.append(document["record"]["n"])
        return {"status": 201}


class S3(Double):
    """`PUT /{bucket}/{key}`: an object with a signature, whose checksum is right."""

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        self.expect(request.path.startswith(f"/bucket/{HOST}/"), request.path)
        self.expect(request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/"), "signature")
        checksum = request.headers["x-amz-content-sha256"]
        self.expect(checksum in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()), f"checksum {checksum}")
        if self.requests == 1:
            return 503, b"<Error><Code>SlowDown</Code></Error>"
        for line in gzip.decompress(body).splitlines():
            message = json.loads(line)
            if message["sequence"] not in self.known and "n" in message["record"]:
                self.known.add(message["sequence"])
                self.found.append(message["record"]["n"])
        return 200, b""


@contextlib.contextmanager
def hub_with(folder: Path, script: str, *arguments: str) -> Iterator[HubProcess]:
    """Run a hub whose sink runs an example."""
    command = ", ".join(json.dumps(word) for word in (sys.executable, str(EXAMPLES / script), *arguments))
    (folder / "hub.toml").write_text(SINK.format(command=command))
    env = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with HubProcess(folder, "--config", str(folder / "hub.toml"), env=env) as hub:
        yield hub


def send(hub: HubProcess, first: int, *, bad: bool = False) -> None:
    with HubProducer(hub.socket, tag="app.web") as producer:
        for number in range(first, first + MESSAGES):
            producer.send({"level": "info", "message": f"order {number} ✓", "n": number})
        if bad:
            producer.send({"message": BAD})
        producer.flush(timeout=60)


def deliver(hub: HubProcess, *, refuses: bool) -> None:
    """Send, kill the hub, send more, and wait until everything is delivered."""
    send(hub, 0, bad=refuses)
    hub.kill()
    hub.start()
    send(hub, MESSAGES)
    wait_for_delivery(hub)
    dead = [message.record["entry"] for message in hub.messages("mpsr.dead")]
    assert [BAD in str(entry) for entry in dead] == [True] * refuses


@pytest.mark.parametrize(
    ("script", "double", "arguments", "refuses"),
    [
        ("loki.py", Loki, (), True), ("elasticsearch.py", Elasticsearch, ("logs",), True),
        ("s3.py", S3, ("bucket",), False),
    ],
)  # fmt: skip
def test_over_http(
    tmp_path: Path, script: str, double: type[Double], arguments: tuple[str, ...], refuses: bool
) -> None:
    """Each message is there once, in order; what the server refuses is a dead letter."""
    server = double()
    try:
        with hub_with(tmp_path, script, server.url, *arguments) as hub:
            deliver(hub, refuses=refuses)
    finally:
        server.end()
    assert server.found == [*range(2 * MESSAGES)]


def test_kafka(tmp_path: Path) -> None:
    """Each message is there, in the order of its tag; what comes again has the same sequence."""
    broker = Producer({"test.mock.num.brokers": 1})  # a broker in this process, which others can reach
    (address,) = [f"{each.host}:{each.port}" for each in broker.list_topics(timeout=30).brokers.values()]
    AdminClient({"bootstrap.servers": address}).create_topics([NewTopic("logs", 1, 1)])
    with hub_with(tmp_path, "kafka.py", address, "logs") as hub:
        deliver(hub, refuses=False)
    found: dict[Any, int] = {}
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe(["logs"])

    def has_all() -> bool:
        for message in consumer.consume(1000, timeout=0.2):
            assert (message.error(), message.key()) == (None, b"app.web")
            headers = dict(message.headers() or [])
            found.setdefault(headers["sequence"], json.loads(message.value() or b"")["record"]["n"])
        return len(found) >= 2 * MESSAGES

    eventually(has_all, timeout=60)
    consumer.close()
    assert [*found.values()] == [*range(2 * MESSAGES)]
