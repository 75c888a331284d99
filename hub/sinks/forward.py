"""
The sink `forward`: chunks of stored messages to a Forward server: another hub, Fluentd, Fluent Bit, Vector.

Several chunks are in flight. The server acknowledges them in the order in which they were sent; all else is a fault.
After a fault, the chunks that are not acknowledged are made again from the journal, with the same ids.

    which server     the one used last; after a fault, the next one that can be reached. While chunks may have been
                     stored by a server, it is tried for `failover` first: another one cannot know them.

Always true:
- at most `WINDOW_CHUNKS` and `WINDOW_BYTES` (and one chunk) are in flight;
- what is acknowledged has been acknowledged with everything before it;
- a server that does not acknowledge, or replies something else, is a fault, never a success.

Not here: a chunk (hub.sinks.forwardchunk), the connection (hub.sinks.forwardlink), retries (hub.sinks.runner).
Source: Forward Protocol Specification v1 and v1.5.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hub.log import get_logger
from hub.sinks.clienttls import client_context, secret_of
from hub.sinks.destination import Server
from hub.sinks.forwardchunk import Sender, make_chunk
from hub.sinks.forwardlink import ForwardLink, Terms
from hub.sinks.kinds import Forward
from hub.sinks.sink import Host, SinkFault
from hub.sinks.stored import Stored
from hub.wire.frame import INLINE_BYTES
from hub.wire.replies import NoAcknowledgement, Replies

WINDOW_CHUNKS = 64
WINDOW_BYTES = 8 << 20
"""Another hub acknowledges after its commit, which takes milliseconds: in that time, some megabytes arrive."""
BATCH_BYTES_MAX = INLINE_BYTES - 512
"""With its options, such a chunk is one that another hub stores without a look at each entry."""
log = get_logger("mpsr.sinks")


class _Flying(NamedTuple):
    """A chunk that is sent and not acknowledged."""

    chunk_id: bytes
    last: int
    size: int


class ForwardSink:
    """Delivers to the servers of *table*."""

    def __init__(self, table: Forward, host: Host) -> None:
        self._table = table
        self._host = host
        self.batch_bytes_max: int = BATCH_BYTES_MAX
        self.entry_bytes_max: int = int(table.message_size)
        self.safe: int = 0
        self._sender = Sender(host.hub_id, table.name, host.rewinds, host.boot_id)
        self._link: ForwardLink | None = None
        self._replies = Replies()
        self._flying: deque[_Flying] = deque()
        self._flying_bytes = 0
        self._is_confirmed = False

    def open(self, after: int, detail: bytes) -> None:
        """Connect to a server. Raises SinkFault, OSError or Halted."""
        terms = terms_of(self._table)
        faults: list[str] = []
        for server in self._candidates():
            link = self._link = ForwardLink(server, terms, self._host)
            try:
                link.open()
            except SinkFault as fault:
                link.close()
                faults.append(str(fault))
            else:
                if self._host.kept.setdefault("server", self._table.servers[0]) != server:
                    log.warning("forward.moved", name=self._table.name, server=str(server))
                self._host.kept["server"] = server
                return
        raise SinkFault("; ".join(faults))

    def deliver_stored(self, batches: Sequence[Stored]) -> None:
        """Send *batches*. Raises SinkFault or Halted."""
        for stored in batches:
            chunk = make_chunk(stored, self._sender, self._table.compress)
            size = sum(map(len, chunk.parts))
            while self._is_full(size):
                self._await_some()
            assert self._link is not None
            self._flying.append(_Flying(chunk.chunk_id, stored.last, size))
            self._flying_bytes += size
            self._take(self._link.send(chunk.parts))
            self._host.rest()
        if not self._is_confirmed:  # only now is it known that the server takes anything
            self._settle()

    def settle(self) -> bytes:
        """Return when all chunks are acknowledged. Raises SinkFault or Halted."""
        self._settle()
        return b""

    def idle(self, now: int) -> None:
        """Return when all chunks are acknowledged. Raises SinkFault if the server has closed the connection."""
        self._settle()
        assert self._link is not None
        self._take(self._link.poll())

    def close(self) -> None:
        """Close the connection, and note whether its server may have chunks that it has not acknowledged."""
        if self._link is not None:
            if self._flying and "since" not in self._host.kept:
                self._host.kept["since"] = time.monotonic()
            self._link.close()

    def _candidates(self) -> Sequence[Server]:
        """Return the servers in the order in which to try them."""
        servers, kept = self._table.servers, self._host.kept
        at = servers.index(kept["server"]) if "server" in kept else 0
        if (since := kept.get("since")) is not None:
            if time.monotonic() < since + self._table.failover:
                return servers[at : at + 1]
            del kept["since"]
            at += 1
        return (*servers[at:], *servers[:at])

    def _is_full(self, more: int) -> bool:
        """Return whether *more* bytes are to wait for an acknowledgement."""
        is_over = self._flying_bytes + more > WINDOW_BYTES and len(self._flying) > 0
        return is_over or len(self._flying) >= WINDOW_CHUNKS

    def _settle(self) -> None:
        while self._flying:
            self._await_some()
        self._host.kept.pop("since", None)

    def _await_some(self) -> None:
        """Return when a chunk is acknowledged. Raises SinkFault or Halted."""
        before = len(self._flying)
        until = time.monotonic() + self._table.timeout
        assert self._link is not None
        while len(self._flying) == before:
            data = self._link.receive(until)
            if not data:
                raise self._fault(f"it has acknowledged nothing in {self._table.timeout.text}")
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Take the acknowledgements in *data*. Raises SinkFault."""
        if not data:
            return
        try:
            acknowledged = self._replies.receive(data)
        except NoAcknowledgement as error:
            raise self._fault(str(error)) from error
        for chunk_id in acknowledged:
            if not self._flying or self._flying[0].chunk_id != chunk_id:
                raise self._fault("it has acknowledged another chunk than the one that it got first")
            done = self._flying.popleft()
            self._flying_bytes -= done.size
            self.safe = done.last
            self._is_confirmed = True

    def _fault(self, reason: str) -> SinkFault:
        assert self._link is not None
        return SinkFault(f"{self._link.server}: {reason}")


def terms_of(table: Forward) -> Terms:
    """Return what the servers of *table* are asked for. Its files are read now. Raises SinkFault."""
    key = None if table.shared_key_file is None else secret_of(table.shared_key_file)
    context = client_context(table.tls_ca, table.tls_cert, table.tls_key) if table.has_tls else None
    return Terms(key, context, table.tls_name, float(table.timeout))


def check_table(table: Forward) -> None:
    """Check that the files of *table* can be read. No server is looked for: it may start later. Raises SinkFault."""
    terms_of(table)
