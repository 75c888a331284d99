"""The example programs, run as a reader would run them."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import hub
import producers
from tests.support import HubProcess, eventually

FOLDER = Path(producers.__file__).parent / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def command(name: str, *args: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", f"producers.examples.{name}", *args]


def run(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(name, *args), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_uses_the_public_api_only(name: str) -> None:
    """Each is under 40 lines, and imports from `hub` and `producers` nothing but their public names."""
    source = (FOLDER / f"{name}.py").read_text()
    assert source.count("\n") < 40
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("hub", "producers"):
            package = {"hub": hub, "producers": producers}[node.module]
            assert {alias.name for alias in node.names} <= set(package.__all__)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.module.partition(".")[0] not in ("hub", "producers")


def test_server_and_clients(tmp_path: Path) -> None:
    """The server prints what five concurrent clients sent, and what any program wrote before it closed."""
    path = str(tmp_path / "s")
    server = subprocess.Popen(command("server", path), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == f"Server listening on {path}\n"
        done = run("clients", path)
        assert (done.returncode, done.stderr) == (0, "")
        sent = [f"[Producer {n}] Sent: Hello from producer {n}" for n in range(5)]
        assert sorted(done.stdout.splitlines()) == sent
        received = sorted(server.stdout.readline() for _ in range(5))
        assert received == [f"[Server] Received: Hello from producer {n}\n" for n in range(5)]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"Hello from producer 0")
        assert server.stdout.readline() == "[Server] Received: Hello from producer 0\n"
    finally:
        server.kill()
        server.communicate()


def test_clients_without_a_server_say_so(tmp_path: Path) -> None:
    """Each client that cannot connect says so on standard error, all five of them."""
    done = run("clients", str(tmp_path / "absent"))
    assert done.stdout == ""
    lines = sorted(done.stderr.splitlines())
    assert [line.split(":")[0] for line in lines] == [f"[Producer {n}] Failed to connect" for n in range(5)]


def test_both_in_one_program() -> None:
    """Hub and producers in one program print the lines of the combined tokio example."""
    done = run("both")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "[Server] Listening..."
    assert len(lines) == 11


def test_ping_pong() -> None:
    """100 rounds, `end` closes, and what is no message closes its own connection only."""
    done = run("ping_pong")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "[Server] mpsr.loss: malformed Forward frame: the tag is not a string",
        '[Client] 100 rounds, then {"jsonrpc":"2.0","id":100,"result":"bye"}',
    ]


def test_clients_work_with_the_service(tmp_path: Path) -> None:
    """The same clients, with a real hub."""
    with HubProcess(tmp_path) as service:
        assert run("clients", service.socket).returncode == 0
        eventually(lambda: service.stats()["messages"] == 5)
        assert {message.tag for message in service.messages()} == {"example"}
