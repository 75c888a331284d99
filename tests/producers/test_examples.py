"""The examples, each run as the program that a reader runs."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hub as hub_package
import producers
import producers.examples
from tests.support import PATIENCE_S, HubProcess

FILES = sorted(Path(next(iter(producers.examples.__path__))).glob("[!_]*.py"))
HELLOS = [f"Hello from producer {number}" for number in range(5)]


def command(name: str, *args: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error", "-m", f"producers.examples.{name}", *args]


def run(name: str, *args: str, socket: str = "") -> tuple[int, list[str], list[str]]:
    """Run an example to its end; return its exit code, the lines of standard output, and the complaints."""
    env = {**os.environ, "MPSR_SOCKET": socket}
    done = subprocess.run(
        command(name, *args), capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=env
    )
    return done.returncode, done.stdout.splitlines(), complaints_in(done.stderr)


def complaints_in(text: str) -> list[str]:
    """Return the lines of standard error, without what the debug mode of asyncio logs on a slow machine."""
    return [line for line in text.splitlines() if not re.match(r"Executing <.* took [\d.]+ seconds$", line)]


def test_there_are_eight() -> None:
    """Every example is tested here."""
    assert [path.stem for path in FILES] == [
        "both", "clients", "gunicorn_app", "logging_app", "loguru_app", "ping_pong", "server", "structlog_app",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_are_short_and_use_public_names_only(path: Path) -> None:
    """Each has fewer than 40 lines, and imports only names that `hub` and `producers` export."""
    text = path.read_text()
    assert len(text.splitlines()) < 40
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("hub", "producers"):
            public = {"hub": hub_package.__all__, "producers": producers.__all__}[node.module or ""]
            assert {alias.name for alias in node.names} <= set(public)
        elif isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= {*sys.stdlib_module_names, "structlog"}
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")


def test_both() -> None:
    """A hub and five producers in one program: it listens first, each sends, each message arrives."""
    code, out, err = run("both")
    assert (code, err) == (0, [])
    assert out[0] == "[Server] Listening..."
    expected = [f"[Producer {number}] Sent." for number in range(5)]
    expected += [f"[Server] Got: Message from producer {number}" for number in range(5)]
    assert sorted(out[1:]) == expected


def test_ping_pong() -> None:
    """100 rounds pass, `end` gets its reply, and the client that sent no message loses its connection."""
    code, out, err = run("ping_pong")
    assert code == 0
    assert sorted(out) == [
        '[Client] 100 rounds, then {"jsonrpc":"2.0","id":100,"result":"bye"}',
        "[Server] mpsr.loss: malformed Forward frame: not msgpack (FormatError)",
    ]
    assert [line for line in err if "message.lost" not in line] == []


def test_server_and_clients(folder: Path) -> None:
    """Each client's message is acknowledged after the server handled it; Ctrl-C ends the server without output."""
    path = str(folder / "s")
    server = subprocess.Popen(command("server", path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == f"Server listening on {path}\n"
        code, out, err = run("clients", path)
        server.send_signal(signal.SIGINT)
        received, logged = server.communicate(timeout=PATIENCE_S)
    finally:
        server.kill()
        server.wait()
    sent = [f"[Producer {n}] Sent: {hello}" for n, hello in enumerate(HELLOS)]
    assert (code, sorted(out), err) == (0, sent, [])
    assert sorted(received.splitlines()) == [f"[Server] Received: {hello}" for hello in HELLOS]
    assert (server.returncode, complaints_in(logged), os.path.exists(path)) == (0, [], False)


def test_clients_of_a_service(hub: HubProcess) -> None:
    """The clients work with any hub: the messages are in the journal of a real one."""
    code, out, err = run("clients", hub.socket)
    assert (code, len(out), err) == (0, 5, [])
    assert sorted(message.record["message"] for message in hub.messages("example")) == HELLOS


def test_clients_without_a_server(folder: Path) -> None:
    """Each client reports that it cannot connect and why, and the program ends normally."""
    path = str(folder / "s")
    code, out, err = run("clients", path)
    assert (code, out) == (0, [])
    because = f"no hub answers at {path}: no hub at {path}"
    assert sorted(err) == [f"[Producer {number}] Failed to connect: {because}" for number in range(5)]


def test_logging_app(folder: Path) -> None:
    """
    Two orders are charged, the third fails with its traceback; everything is in the journal when the program ends.
    """
    with HubProcess(folder) as hub:
        assert run("logging_app", socket=hub.socket) == (0, [], [])
        records = [message.record for message in hub.messages("shop.orders")]
    assert [(record["level"], record["order"]) for record in records] == [("info", 0), ("info", 1), ("error", 2)]
    assert records[2]["exc_info"]["message"] == "amount is -1.0"


def test_structlog_app(folder: Path) -> None:
    """Each of three requests has its own context in its events, and one fails."""
    with HubProcess(folder) as hub:
        assert run("structlog_app", socket=hub.socket) == (0, [], [])
        records = [message.record for message in hub.messages("shop.web")]
    events = {n: [record["event"] for record in records if record["request"] == n] for n in range(3)}
    assert events == {
        0: ["request started", "request failed"],
        **{n: ["request started", "request finished"] for n in (1, 2)},
    }


def test_loguru_app(folder: Path) -> None:
    """Bound and contextualized values are fields; the exception that loguru caught is one, too."""
    pytest.importorskip("loguru", reason="loguru is not installed")
    with HubProcess(folder) as hub:
        assert run("loguru_app", socket=hub.socket) == (0, [], [])
        records = [message.record for message in hub.messages("shop")]
    assert [record.get("order") for record in records] == [0, 1, 2, None]
    assert {record["customer"] for record in records} == {"ada"}
    assert records[3]["exc_info"]["type"] == "ValueError"
