"""
A real OpenTelemetry collector (rotel) between two hubs: the sink `otlp` sends to it, and it sends to our source `http`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers import Producer
from tests.support import HubProcess, eventually, free_port
from tests.system.test_sinks import wait_for_delivery

pytestmark = pytest.mark.timeout(120)

MESSAGES = 5000
TOKEN = "0123456789abcdef0123"
SINK = """
[[sinks]]
type = "otlp"
name = "collector"
from = "start"
url = "http://127.0.0.1:{port}"
"""
SOURCE = """
[[sources]]
type = "http"
address = "127.0.0.1:{port}"
token_file = "{folder}/token"
"""


class RealCollector:
    """The program, which receives at *port* and exports to *target*; without batches, in which it loses resources."""

    def __init__(self, folder: Path, target: str) -> None:
        spec = importlib.util.find_spec("rotel")
        if spec is None or spec.origin is None:
            pytest.skip("rotel is not installed: it is built for Linux on x86_64 only")
        self.port = free_port()
        arguments = {
            "otlp-http-endpoint": f"127.0.0.1:{self.port}",
            "otlp-grpc-endpoint": f"127.0.0.1:{free_port()}",
            "exporter": "otlp",
            "otlp-exporter-protocol": "http",
            "otlp-exporter-endpoint": target,
            "otlp-exporter-logs-endpoint": f"{target}/v1/logs",
            "otlp-exporter-custom-headers": f"Authorization=Bearer {TOKEN}",
        }
        flags = [f"--{name}={value}" for name, value in arguments.items()]
        program = Path(spec.origin).with_name("rotel-agent")
        # It needs Python's own library, which not every installation has, and few in a folder that is searched for it.
        environment = {**os.environ, "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
        tried = subprocess.run([program, "--version"], check=False, env=environment, capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"rotel does not start: {tried.stderr.strip()}")
        with (folder / "rotel.log").open("wb") as log:
            command = [str(program), "start", "--disable-batching", *flags]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def hub_in(folder: Path, config: str) -> HubProcess:
    folder.mkdir()
    (folder / "hub.toml").write_text(config)
    return HubProcess(folder, "--config", str(folder / "hub.toml"))


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[tuple[HubProcess, int]]:
    """The hub that gets everything from the collector, and its port."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    port = free_port()
    with hub_in(tmp_path / "two", SOURCE.format(port=port, folder=tmp_path)) as hub:
        yield hub, port


def test_a_collector_takes_what_the_sink_sends(tmp_path: Path, behind: tuple[HubProcess, int]) -> None:
    """Each message arrives once, with its fields, tag, time and id."""
    two, port = behind
    collector = RealCollector(tmp_path, f"http://127.0.0.1:{port}")
    try:
        with (
            hub_in(tmp_path / "one", SINK.format(port=collector.port)) as one,
            Producer(one.socket, tag="app.web") as producer,
        ):
            for number in range(MESSAGES):
                producer.send({"level": "warning", "message": f"order {number}", "n": number, "x": [1.5, {"a": None}]})
            producer.flush(timeout=60)
            wait_for_delivery(one)
            eventually(lambda: len(two.messages("app.web")) >= MESSAGES, timeout=60)
            found = sorted(two.messages("app.web"), key=lambda message: message.record["n"])
            sent = one.messages("app.web")
    finally:
        collector.close()
    assert [message.record["n"] for message in found] == [*range(MESSAGES)]
    assert len({message.record["log.record.uid"] for message in found}) == MESSAGES
    for given, got in zip(sent, found, strict=True):
        assert got.time == given.time
        assert {key: got.record[key] for key in given.record} == given.record
