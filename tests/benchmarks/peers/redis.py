"""Redis Streams over a Unix socket: XADD in pipelines to one stream; a reply means synced."""

from __future__ import annotations

import re
from pathlib import Path

from tests.benchmarks.peer import Failed, Peer, Work, output_of, program
from tests.benchmarks.peers.hub import sender_command
from tests.benchmarks.sender import connect


class Redis(Peer):
    durable = "`appendfsync always`: synced before the reply"
    counts = "XLEN"
    package = "redis-server (Debian)"

    def version(self) -> str:
        found = re.search(r"v=([\d.]+)", output_of(program("redis-server"), "--version"))
        return found[1] if found else "?"

    def start(self, folder: Path, work: Work) -> None:
        options = {
            "port": "0",
            "unixsocket": f"{folder}/s",
            "dir": str(folder),
            "save": "",
            "loglevel": "warning",
            "maxclients": "20000",
        }
        options |= {"appendonly": "yes", "appendfsync": "always", "daemonize": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.begin(folder, [program("redis-server"), *words])
        self.await_socket(folder / "s")

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        return sender_command("resp", f"{self.folder}/s", work, first=first, producers=producers)

    def counted(self) -> int:
        with connect(f"{self.folder}/s") as sock:
            sock.settimeout(30)
            sock.sendall(b"XLEN s\r\n")
            reply = sock.recv(100)
        if not reply.startswith(b":"):
            raise Failed(f"Redis answered {reply!r}")
        return int(reply[1:])
