"""A hub with every way in that local clients use, in a process of its own."""

from __future__ import annotations

from pathlib import Path

from hub.journal.reader import open_reader
from hub.message import Message
from hub.query.query import Query
from tests.support import HubProcess, eventually, free_port


class Host(HubProcess):
    """The hub, and the paths of its ways in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datagram, self.fifo, self.pickle = (str(folder / way) for way in ("log", "lines", "pickle"))
        self.port = free_port()  # a fixed one: clients look for it after a kill
        self.http = str(folder / "http")
        ways = ("--datagram", self.datagram, "--fifo", self.fifo, "--pickle", self.pickle)
        super().__init__(folder, *ways, "--http", self.http, "--tcp", f"127.0.0.1:{self.port}")
        self._open = open_reader(self.journal)

    def next(self, count: int) -> list[Message]:
        """Return the messages that are new since the last call, when there are *count* of them."""
        found: list[Message] = []

        def are_there() -> bool:
            found.extend(Query().messages(self._open.read(follow=True)))
            return len(found) >= count

        eventually(are_there, f"{count} messages")
        return found

    def __exit__(self, *args: object) -> None:
        self._open.close()
        super().__exit__(*args)
