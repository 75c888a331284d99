"""The sink `forward` delivers to a foreign server: that of the Fluent project's library for Node."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers import Producer
from tests.conformance.clients import NODE_MODULES
from tests.support import HubProcess, eventually, free_port
from tests.system.test_sinks import wait_for_delivery

MESSAGES = 3000
KEY = "secret"
SINK = """
[[sinks]]
type = "forward"
name = "node"
from = "start"
servers = ["127.0.0.1:{port}"]
{more}
"""


@contextlib.contextmanager
def node_server(port: int, file: Path, *key: str) -> Iterator[None]:
    """Run the server, which writes each entry as a line to *file*."""
    if not (NODE_MODULES / "@fluent-org").is_dir() or shutil.which("node") is None:
        pytest.skip("the Node libraries are not installed (.ci/run does it)")
    command = ["node", str(Path(__file__).with_name("node") / "receive.cjs"), str(NODE_MODULES), str(port), str(file)]
    with subprocess.Popen([*command, *key], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("more", "key"), [("", ()), ('compress = "gzip"', ()), ('shared_key_file = "{folder}/key"', (KEY,))]
)
def test_a_foreign_server(tmp_path: Path, more: str, key: tuple[str, ...]) -> None:
    """Each message arrives once, in order, whole: as it is, compressed, and after a handshake with a key."""
    port, got = free_port(), tmp_path / "got"
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "hub.toml").write_text(SINK.format(port=port, more=more.format(folder=tmp_path)))
    with node_server(port, got, *key), HubProcess(tmp_path, "--config", str(tmp_path / "hub.toml")) as hub:
        with Producer(hub.socket, tag="app.web") as producer:
            for number in range(MESSAGES):
                producer.send({"message": "é" * (number % 50), "n": number})
            producer.flush(timeout=60)
        wait_for_delivery(hub)
        eventually(lambda: got.read_bytes().count(b"\n") >= MESSAGES, "it writes what it has acknowledged")
    found = [json.loads(line) for line in got.read_bytes().splitlines()]
    assert found == [["app.web", {"message": "é" * (n % 50), "n": n}] for n in range(MESSAGES)]
