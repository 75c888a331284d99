"""
Clients of HTTP: curl, and the exporter of OpenTelemetry's SDK. Each sends a script, and goes through a kill of the hub.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from tests.support import PATIENCE_S, HubProcess, eventually, free_port

pytestmark = pytest.mark.timeout(90)

TOKEN = "conformance"
BATCH = 40
CURL = """
n=0
while read -r text; do
    n=$((n + 1))
    until printf '{"tag":"curl","message":"%s"}\\n' "$text" |
        curl --silent --fail --output /dev/null --unix-socket "$1" http://hub/messages --data-binary @- \\
            -H 'Content-Type: application/x-ndjson' -H "X-Mpsr-Id: script-$$/$n"
    do sleep 0.05; done
    echo "$text"
done
"""
"""Posts each line of its input until that is acknowledged, and prints it then."""


class HttpHub(HubProcess):
    """A hub with HTTP at a path and at a port."""

    def __init__(self, folder: Path) -> None:
        self.web = str(folder / "web")
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.address = f"127.0.0.1:{free_port()}"  # a fixed one: clients look for it after a kill
        super().__init__(folder, "--http", self.web, "--http", self.address, "--http-token-file", str(token))

    def texts(self, tag: str) -> list[str]:
        return [message.record["message"] for message in self.messages(tag)]


@pytest.fixture
def hub(folder: Path) -> Iterator[HttpHub]:
    with HttpHub(folder) as hub:
        yield hub


def test_curl(hub: HttpHub) -> None:
    """Each acknowledged line is stored once and in order, although the hub is killed again and again."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (.ci/run installs it)")
    script = [f"line {n}" for n in range(60)]
    acknowledged: list[str] = []
    command = ["sh", "-c", CURL, "sh", hub.web]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        output = process.stdout
        assert output is not None
        reading = threading.Thread(target=lambda: acknowledged.extend(line.rstrip("\n") for line in output))
        reading.start()
        process.stdin.write("".join(f"{text}\n" for text in script))
        process.stdin.close()
        for kills in (1, 2):
            eventually(lambda seen=kills * 15: len(hub.texts("curl")) >= seen, "some lines")  # type: ignore[misc]
            hub.kill()
            hub.start()
        assert process.wait(PATIENCE_S) == 0
        reading.join()
    assert acknowledged == script
    assert hub.texts("curl") == script
    peer = hub.messages("curl")[0].peer
    assert (peer.comm, peer.verified) == ("curl", True)


def exporting(hub: HttpHub, compression: Compression | None = None) -> tuple[LoggerProvider, Logger]:
    """Return a provider of the SDK that exports to *hub*, and its logger."""
    exporter = OTLPLogExporter(
        endpoint=f"http://{hub.address}/v1/logs",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=PATIENCE_S,
        compression=compression,
    )
    provider = LoggerProvider(resource=Resource.create({"service.name": "shop", "host.name": "here"}))
    provider.add_log_record_processor(
        BatchLogRecordProcessor(exporter, schedule_delay_millis=20, max_export_batch_size=BATCH)
    )
    return provider, provider.get_logger("shop.cart", "1.2")


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_opentelemetry(hub: HttpHub, compression: Compression) -> None:
    """Each log record is one message with its fields, in order, also inside a span."""
    provider, logger = exporting(hub, compression)
    with TracerProvider().get_tracer("test").start_as_current_span("span") as span:
        for n in range(500):
            logger.emit(
                timestamp=1_764_190_000_000_000_000 + n,
                severity_number=SeverityNumber.WARN,
                severity_text="WARNING",
                body=f"number {n}",
                attributes={"n": n, "http.route": "/cart", "tags": ["a", "b"]},
            )
        context = span.get_span_context()
    provider.shutdown()
    messages = hub.messages("shop")
    assert [message.record["n"] for message in messages] == [*range(500)]
    first = messages[0]
    assert first.time == 1_764_190_000_000_000_000
    record = {key: value for key, value in first.record.items() if key not in ("resource", "flags")}
    assert record == {
        "level": "warning",
        "severity_number": 13,
        "severity_text": "WARNING",
        "message": "number 0",
        "n": 0,
        "http.route": "/cart",
        "tags": ["a", "b"],
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "scope": {"name": "shop.cart", "version": "1.2"},
    }
    assert first.record["resource"].items() >= {"service.name": "shop", "host.name": "here"}.items()
    assert (first.peer.comm, first.peer.verified) == ("127.0.0.1", False)


def test_opentelemetry_through_a_kill(hub: HttpHub, caplog: pytest.LogCaptureFixture) -> None:
    """The exporter sends again what was not acknowledged: nothing is missing, and at most its last request is twice."""
    caplog.set_level(logging.CRITICAL, "opentelemetry")
    provider, logger = exporting(hub)
    for n in range(200):
        logger.emit(body=str(n), attributes={"n": n})
    eventually(lambda: len(hub.messages("shop")) >= BATCH, "some are stored")
    hub.kill()
    for n in range(200, 400):
        logger.emit(body=str(n), attributes={"n": n})
    hub.start()
    provider.shutdown()
    numbers = [message.record["n"] for message in hub.messages("shop")]
    assert sorted(set(numbers)) == [*range(400)]
    twice = [n for n, group in groupby(sorted(numbers)) if len([*group]) == 2]
    assert len(numbers) == 400 + len(twice)
    assert len(twice) <= BATCH
    assert [n for at, n in enumerate(numbers) if n not in numbers[:at]] == [*range(400)]


def test_a_reader_with_curl_goes_on(hub: HttpHub) -> None:
    """A reader of events that comes back after a kill with the last id has everything once."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (.ci/run installs it)")
    curl = ["curl", "--silent", "--no-buffer", "--unix-socket", hub.web]

    def post(text: str) -> None:
        subprocess.run([*curl, "http://hub/messages?tag=t", "-d", text], check=True, stdout=subprocess.DEVNULL)

    def read(after: str, count: int) -> list[str]:
        accept = ["-H", "Accept: text/event-stream", "-H", f"Last-Event-ID: {after}"]
        command = [*curl, *accept, "http://hub/messages?follow&tag=t"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            ids: list[str] = []
            while len(ids) < count:
                line = process.stdout.readline()
                if line.startswith("id: "):
                    ids.append(line.split()[1])
            process.terminate()
        return ids

    post("one\ntwo\nthree")
    assert read("0", 2) == ["1", "2"]
    hub.kill()
    hub.start()
    post("four")
    assert read("2", 2) == ["3", "4"]
