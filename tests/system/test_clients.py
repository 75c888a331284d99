"""Foreign clients as their users run them: fluent-logger, socat, nc, and any program that writes bytes."""

from __future__ import annotations

import json
import logging
import logging.handlers
import shutil
import socket
import subprocess
import sys
import time

import fluent.asynchandler
import fluent.handler
import fluent.sender
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


def test_fluent_logger(hub: HubProcess) -> None:
    """fluent-logger over unix:// is decoded, with whole seconds and with nanoseconds, in order."""
    for precise in (False, True):
        sender = fluent.sender.FluentSender("app", host=f"unix://{hub.socket}", nanosecond_precision=precise)
        for number in range(1000):
            assert sender.emit_with_time("web", 1700000000.25 if precise else 1700000000, {"n": number})
        sender.close()
    messages = wait_for(hub, 2000)
    assert {message.tag for message in messages} == {"app.web"}
    assert [message.record["n"] for message in messages] == [*range(1000), *range(1000)]
    assert [messages[0].time, messages[-1].time] == [1700000000_000000000, 1700000000_250000000]


def test_fluent_logging_handler(hub: HubProcess) -> None:
    """The logging handler of fluent-logger, synchronous and asynchronous, delivers its records."""
    for handler_class in (fluent.handler.FluentHandler, fluent.asynchandler.FluentHandler):
        handler = handler_class("app.log", host=f"unix://{hub.socket}")
        handler.setFormatter(fluent.handler.FluentRecordFormatter({"level": "%(levelname)s"}))
        logger = logging.Logger("test")
        logger.addHandler(handler)
        for number in range(50):
            logger.warning("number %d", number)
        handler.close()
    messages = wait_for(hub, 100)
    assert [message.record["message"] for message in messages] == [f"number {n}" for n in range(50)] * 2
    assert {message.record["level"] for message in messages} == {"WARNING"}


def test_socat(hub: HubProcess) -> None:
    """`echo hello | socat - UNIX-CONNECT:hub.sock` works; a last line without a newline counts; JSON is a record."""
    socat = need("socat")
    given = b'hello\n{"tag": "app", "time": 1700000000.5, "n": 1}\n{broken json\nlast'
    subprocess.run([socat, "-", f"UNIX-CONNECT:{hub.socket}"], input=given, check=True, timeout=30)
    messages = wait_for(hub, 4)
    assert [(message.tag, message.record) for message in messages] == [
        ("text", {"message": "hello"}),
        ("app", {"n": 1}),
        ("text", {"message": "{broken json"}),
        ("text", {"message": "last"}),
    ]
    assert messages[1].time == 1700000000_500000000
    assert {message.peer.comm for message in messages} == {"socat"}


def test_socat_asks_a_command(hub: HubProcess) -> None:
    """A JSON-RPC line is answered on the same connection and is not a message."""
    socat = need("socat")
    request = b'{"jsonrpc": "2.0", "id": 7, "method": "ping"}\n'
    done = subprocess.run(
        [socat, "-t5", "-", f"UNIX-CONNECT:{hub.socket}"], input=request, capture_output=True, check=True, timeout=30
    )
    assert json.loads(done.stdout) == {"jsonrpc": "2.0", "id": 7, "result": "pong"}
    assert hub.stats()["messages"] == 0


def test_netcat(hub: HubProcess) -> None:
    """`nc -NU` works like socat."""
    netcat = need("nc")
    subprocess.run([netcat, "-NU", hub.socket], input=b"over nc\n", check=True, timeout=30)
    assert wait_for(hub, 1)[0].record == {"message": "over nc"}


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


LOGGER = {
    "as it is": ([], {}),
    "RFC 3164": (["--rfc3164"], {"host": socket.gethostname().partition(".")[0]}),
    "RFC 5424": (["--rfc5424=notime", "--msgid", "M1"], {"host": socket.gethostname(), "msgid": "M1"}),
    "counted": (["--octet-count"], {}),
    "RFC 5424, counted": (["--octet-count", "--rfc5424"], {"host": socket.gethostname()}),
}


@pytest.mark.parametrize("form", LOGGER)
def test_logger(hub: HubProcess, form: str) -> None:
    """`logger -u hub.sock` is taken apart in every form it has, and each of its lines is a message."""
    options, fields = LOGGER[form]
    began = time.time_ns()
    words = [need("logger"), "-u", hub.socket, "-t", "app", "--id=42", "-p", "local3.warning", *options]
    subprocess.run(words, input=b"[1] hot: <13>x\ngr\xc3\xbc\xc3\x9fe\n", check=True, timeout=30)
    messages = wait_for(hub, 2)
    assert [message.tag for message in messages] == ["syslog"] * 2
    assert [message.record.pop("message") for message in messages] == ["[1] hot: <13>x", "grüße"]
    expected = {"level": "warning", "facility": "local3", "pri": 156, "app": "app", "procid": "42", **fields}
    for message in messages:
        assert message.record.items() >= expected.items()
        assert abs(message.time - began) < 60_000_000_000
        assert began - 1_000_000_000 < message.time or "timestamp" not in message.record


def test_syslog_handler(hub: HubProcess) -> None:
    """logging's SysLogHandler on the stream: levels, idents, and a traceback stays one message with its lines."""
    handler = logging.handlers.SysLogHandler(hub.socket, socktype=socket.SOCK_STREAM)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error("first")
    for number in range(2000):
        logger.info("number %d\n  more", number)
    handler.ident = "app[42]: "
    try:
        raise KeyError("why")
    except KeyError:
        logger.exception("it broke")
    handler.close()
    messages = wait_for(hub, 2002)
    assert {message.tag for message in messages} == {"syslog"}
    first, *numbers, last = (message.record for message in messages)
    assert first == {"message": "first", "level": "error", "facility": "user", "pri": 11}
    assert [record["message"] for record in numbers] == [f"number {number}\n  more" for number in range(2000)]
    assert {record["level"] for record in numbers} == {"info"}
    assert (last["app"], last["procid"], last["level"]) == ("app", "42", "error")
    assert last["message"].startswith("it broke\nTraceback (most recent call last):\n")
    assert last["message"].endswith("KeyError: 'why'")


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
