"""
Real clients on TCP, with a hub in a process of its own: without a key, with a shared key, with TLS, and with a kill.

Node's client does the handshake and TLS by itself; it is that of the conformance tests, and runs where they run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fluent.sender
import msgpack
import pytest

from hub.address import Address
from hub.peer import peer_of_certificate, peer_of_host
from tests.certificates import Certificates
from tests.forwardshake import shake_hands
from tests.hub.clients import chunk, read_acks
from tests.support import PATIENCE_S, HubProcess, eventually, free_port, mpsr

KEY = b"a shared key"
NODE_MODULES = Path(__file__).parents[2] / ".venv-node/node_modules"
SEND = """
const fs = require("fs");
const { FluentClient } = require("@fluent-org/logger");
const [port, key, ca, cert, certKey, count] = process.argv.slice(2);
const read = (path) => path && fs.readFileSync(path);
const client = new FluentClient("shop", {
  socket: {
    host: "127.0.0.1",
    port: +port,
    timeout: 30000,
    disableReconnect: true,
    ...(ca && { tls: { ca: read(ca), cert: read(cert), key: read(certKey) } }),
  },
  ack: { ackTimeout: 30000 },
  ...(key && { security: { clientHostname: "client.example", sharedKey: key } }),
});
const fail = (error) => { console.error(`${error}`); process.exit(1); };
client.socketOn("error", fail);
client.connect().catch(fail);
const sent = [...Array(+count).keys()].map((n) => client.emit("web", { n }));
Promise.all(sent).then(() => { console.log("acknowledged"); process.exit(0); });
"""


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    path.chmod(0o600)
    return str(path)


@contextlib.contextmanager
def hub_on_tcp(folder: Path, address: str = "127.0.0.1:0", **options: str) -> Iterator[tuple[HubProcess, int]]:
    """A hub with a source of type tcp, and its port."""
    config = folder / "hub.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"address": address, **options}.items()]
    config.write_text("\n".join(["[[sources]]", 'type = "tcp"', *lines]))
    with HubProcess(folder, "--config", str(config)) as hub:
        yield hub, Address(hub.stats()["sources"][0]["path"]).port


def tls_options(certificates: Certificates, *, names: bool = False) -> dict[str, str]:
    options = {"tls_cert": certificates.server.cert, "tls_key": certificates.server.key}
    return options | ({"tls_client_ca": certificates.authority.cert} if names else {})


def test_without_a_key(tmp_path: Path) -> None:
    """fluent-logger, SysLogHandler and logger send to a port on loopback; the flag is enough."""
    with HubProcess(tmp_path, "--tcp", "127.0.0.1:0") as hub:
        port = Address(hub.stats()["sources"][0]["path"]).port
        sender = fluent.sender.FluentSender("shop", host="127.0.0.1", port=port)
        assert sender.emit("web", {"n": 1})
        sender.close()
        handler = logging.handlers.SysLogHandler(("127.0.0.1", port), socktype=socket.SOCK_STREAM)
        handler.handle(logging.makeLogRecord({"msg": "from Python", "levelname": "ERROR"}))
        handler.close()
        messages = eventually(lambda: (found := hub.messages()) and len(found) == 2 and found)
        assert sorted(message.tag for message in messages) == ["shop.web", "syslog"]
        assert {message.peer for message in messages} == {peer_of_host("127.0.0.1")}
        if shutil.which("logger") is not None:
            command = ["logger", "--tcp", "--server", "127.0.0.1", "--port", str(port), "from a shell"]
            subprocess.run(command, check=True, timeout=PATIENCE_S)
            eventually(lambda: len(hub.messages("syslog")) == 2)
        assert b'"comm":"127.0.0.1"' in mpsr("logs", "--journal", hub.journal, "--output", "json").stdout
        shown = mpsr("logs", "--journal", hub.journal, "--comm", "127.0.0.1", "--tag", "shop.web").stdout
        assert shown.endswith(b" shop.web 127.0.0.1 n=1\n")
        assert hub.stop() == 0


@pytest.mark.parametrize(
    ("key", "tls", "names", "said"),
    [
        (KEY.decode(), False, False, ""),
        ("", True, False, ""),
        (KEY.decode(), True, True, ""),
        ("another key", False, False, "its shared key is another one"),
    ],
    ids=["key", "TLS", "key, TLS, certificate", "wrong key"],
)
def test_node(
    key: str, tls: bool, names: bool, said: str, tmp_path: Path, key_file: str, certificates: Certificates
) -> None:
    """Node's client does the handshake and TLS, and gets its acknowledgements; with another key it is refused."""
    if shutil.which("node") is None or not (NODE_MODULES / "@fluent-org/logger").exists():
        pytest.skip("needs Node and @fluent-org/logger")
    options = tls_options(certificates, names=names) if tls else {}
    if key:
        options["shared_key_file"] = key_file
    script = tmp_path / "send.cjs"
    script.write_text(SEND)
    with hub_on_tcp(tmp_path, **options) as (hub, port):
        files = (certificates.authority.cert, *certificates.client) if tls else ("", "", "")
        run = subprocess.run(
            ["node", str(script), str(port), key, *files, "100"],
            env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if said:
            assert run.stdout == ""
            assert hub.stats()["connections_unproved"] == 1
            lines = [line for line in hub.log if line["event"] == "connection.unproved"]
            assert (lines[0]["reason"], hub.messages()) == (said, [])
            return
        assert (run.stdout, run.stderr) == ("acknowledged\n", "")
        messages = hub.messages("shop.web")
        assert sorted(message.record["n"] for message in messages) == [*range(100)]
        expected = peer_of_certificate("client.example") if names else peer_of_host("127.0.0.1")
        assert {message.peer for message in messages} == {expected}


def test_a_kill(tmp_path: Path, key_file: str, certificates: Certificates) -> None:
    """A client that resends what was not acknowledged goes through kills of the hub: each message is stored once."""
    context, sent, acknowledged = certificates.context(), 600, set[str]()
    port = free_port()
    options = {**tls_options(certificates), "shared_key_file": key_file}
    with hub_on_tcp(tmp_path, f"127.0.0.1:{port}", **options) as (hub, _):
        for at in range(0, sent, 200):
            names = [f"{n}" for n in range(at, at + 200)]
            with contextlib.suppress(OSError), connected(context, port) as client:
                client.sendall(b"".join(chunk(name) for name in names[:100]))
                acknowledged |= {str(name) for name in read_acks(client, 50)}
                hub.process.send_signal(signal.SIGSTOP)
                client.sendall(b"".join(chunk(name) for name in names[100:]))  # on their way when it dies
                hub.kill()
                acknowledged |= {str(name) for name in read_acks(client, 200)}
            hub.start()
            with connected(context, port) as client:
                left = [name for name in names if name not in acknowledged]
                assert left  # the kill came in the middle
                client.sendall(b"".join(chunk(name) for name in left))
                acknowledged |= {str(name) for name in read_acks(client, len(left))}
        assert acknowledged == {f"{n}" for n in range(sent)}
        assert len(hub.messages("app")) == sent
        assert hub.stop() == 0


@contextlib.contextmanager
def connected(context: ssl.SSLContext, port: int) -> Iterator[ssl.SSLSocket]:
    """A client in TLS that knows the key."""
    raw = eventually(lambda: _connect(port))
    with context.wrap_socket(raw, server_hostname="localhost") as client:
        assert shake_hands(client, KEY)[1]
        yield client


def _connect(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    except ConnectionRefusedError:
        return None


def test_check_and_reload(tmp_path: Path, key_file: str) -> None:
    """`--check` names what is wrong; a reload adds a source, changes it, and removes it."""
    config = tmp_path / "hub.toml"
    table = '[[sources]]\ntype = "tcp"\naddress = "{}"\n'

    def check() -> tuple[int, str]:
        arguments = ("--socket", str(tmp_path / "s"), "--journal", str(tmp_path / "j"), "--config", str(config))
        run = mpsr("hub", "--check", *arguments)
        return run.returncode, run.stderr.decode()

    config.write_text(table.format("0.0.0.0:24224"))
    code, said = check()
    assert code == 2
    assert "other hosts can reach 0.0.0.0:24224: add a shared_key_file, or tls_cert, tls_key and tls_client_ca" in said
    os.chmod(key_file, 0o644)
    config.write_text(table.format("0.0.0.0:24224") + f'shared_key_file = "{key_file}"\n')
    assert check() == (
        1,
        f"mpsr: source 0.0.0.0:24224: {key_file} can be read or changed by other users "
        "(chmod 600, or 640 for a group)\n",
    )
    os.chmod(key_file, 0o600)
    assert check() == (0, "")
    config.write_text("")
    with HubProcess(tmp_path, "--config", str(config)) as hub:

        def reload(text: str) -> list[dict[str, object]]:
            config.write_text(text)
            run = mpsr("call", "reload", "--socket", hub.socket)
            assert run.returncode == 0, run.stderr
            sources: list[dict[str, object]] = hub.stats()["sources"]
            return sources

        (source,) = reload(table.format("127.0.0.1:0"))
        assert source["state"] == "open"
        client = _connect(Address(str(source["path"])).port)
        assert client is not None
        client.sendall(b"kept\n")
        eventually(lambda: hub.messages("text"))
        (source,) = reload(table.format("127.0.0.1:0") + 'tag = "ours"\n')
        client.close()
        client = _connect(Address(str(source["path"])).port)
        assert client is not None
        client.sendall(b"ours\n")
        eventually(lambda: hub.messages("ours"))
        assert reload("") == []
        assert client.recv(1) == b""
        client.close()
        assert [message.record for message in hub.messages()] == [{"message": "kept"}, {"message": "ours"}]


def test_a_frame_of_a_client_that_is_no_client(tmp_path: Path, key_file: str) -> None:
    """A PING with a digest of nothing, and a frame behind it, stores nothing."""
    with hub_on_tcp(tmp_path, shared_key_file=key_file) as (hub, port):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
            client.sendall(msgpack.packb(["PING", "a", "b", "c", "", ""]) + chunk("a"))
            with contextlib.suppress(ConnectionResetError):
                while client.recv(65536):
                    pass
        assert hub.stats()["connections_unproved"] == 1
        assert hub.messages() == []
