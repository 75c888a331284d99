"""
Foreign clients in number, clients that misbehave, and any program that writes bytes.

Not here: known clients, which tests/conformance has.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys

import pytest

from hub.message import Message
from tests.hub.clients import chunk, connect, read_acks
from tests.support import HubProcess, eventually


def wait_for(hub: HubProcess, count: int) -> list[Message]:
    """Return the messages once *count* are stored. These clients have no acknowledgement to wait for."""
    eventually(lambda: hub.stats()["messages"] >= count, f"{count} messages")
    return hub.messages()


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def test_socat_asks_a_command(hub: HubProcess) -> None:
    """A JSON-RPC line is answered on the same connection and is not a message."""
    socat = need("socat")
    request = b'{"jsonrpc": "2.0", "id": 7, "method": "ping"}\n'
    done = subprocess.run(
        [socat, "-t5", "-", f"UNIX-CONNECT:{hub.socket}"], input=request, capture_output=True, check=True, timeout=30
    )
    assert json.loads(done.stdout) == {"jsonrpc": "2.0", "id": 7, "result": "pong"}
    assert hub.stats()["messages"] == 0


def test_a_client_that_writes_and_goes_away(hub: HubProcess) -> None:
    """The bytes that a client writes before it closes are one message, with or without a newline."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(hub.socket)
        client.sendall(b"Hello from producer 0")
    assert wait_for(hub, 1)[0].record == {"message": "Hello from producer 0"}


def test_garbage_costs_its_own_connection_only(hub: HubProcess) -> None:
    """Data before the garbage is kept, there is one loss, and other connections are unaffected."""
    whole = b"\x93\xa3app\xce\x65\x53\xf1\x00\x81\xa1n\x01"
    with socket.socket(socket.AF_UNIX) as honest, socket.socket(socket.AF_UNIX) as garbled:
        honest.connect(hub.socket)
        honest.sendall(b"before\n")
        wait_for(hub, 1)
        garbled.connect(hub.socket)
        garbled.sendall(whole + b"\xc1\xff\x00 this is no frame")
        assert garbled.recv(1) == b"", "closed"
        honest.sendall(b"after\n")
        messages = wait_for(hub, 4)
    assert [message.tag for message in messages] == ["text", "app", "mpsr.loss", "text"]
    loss = messages[2]
    assert loss.record["sample"].startswith("c1ff00")
    assert loss.record["peer"]["pid"] == loss.peer.pid != 0


def test_kill_of_a_client_keeps_what_the_kernel_has(hub: HubProcess) -> None:
    """Data that a producer handed to the kernel is kept when the producer is killed directly after."""
    program = "import os,socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    program += "s.sendall(b''.join(b'line %d\\n' % n for n in range(5000))); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, hub.socket], check=False, timeout=30)
    messages = wait_for(hub, 5000)
    assert [message.record["message"] for message in messages] == [f"line {n}" for n in range(5000)]


def test_two_clients_with_the_same_tag_and_chunk_ids(hub: HubProcess) -> None:
    """
    Two workers of one program count their chunks from 1: every chunk of both is stored, and a resend of either is not.
    """
    names = [str(number) for number in range(1, 51)]
    with connect(hub.socket) as one, connect(hub.socket) as other:
        for _ in range(2):
            for name in names:
                one.sendall(chunk(name, text=f"one {name}"))
                other.sendall(chunk(name, text=f"other {name}"))
            assert read_acks(one, 50) == read_acks(other, 50) == names
    texts = [message.record["text"] for message in hub.messages("app")]
    for worker in ("one", "other"):
        assert [text for text in texts if text.startswith(worker)] == [f"{worker} {name}" for name in names]
    assert len(texts) == 100
    assert hub.stats()["duplicates"] == 100


def test_a_thousand_connections_at_once(hub: HubProcess) -> None:
    """1,000 clients are connected at the same time, each sends a line, and every line is stored."""
    clients = [socket.socket(socket.AF_UNIX) for _ in range(1000)]
    try:
        for client in clients:
            client.connect(hub.socket)
        for number, client in enumerate(clients):
            client.sendall(b"%d\n" % number)
        messages = wait_for(hub, 1000)
        assert hub.stats()["connections"] >= 1000
    finally:
        for client in clients:
            client.close()
    assert sorted(int(message.record["message"]) for message in messages) == list(range(1000))
