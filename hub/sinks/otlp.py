"""
The sink `otlp`: messages to an OpenTelemetry collector, or to any vendor that takes OTLP/HTTP in protobuf.

What a reply means:

    200                    stored; log records that it rejects (`partial_success`) are lost: it does not say which
    400, 413, 422          it refuses the content: the request is halved until the messages that it refuses are found
    429, 503 and others    not now: all of it comes again, after `Retry-After`

Always true:
- messages are sent in order, a request at a time; `safe` follows what is accepted, also inside a portion;
- a destination that refuses everything, an empty request included, is a fault: a wrong URL makes no dead letters.

Not here: the bytes (hub.sinks.otlpencode), HTTP (hub.sinks.httplink).
Source: OpenTelemetry Protocol specification 1.9, OTLP/HTTP. It forbids to repeat a request after statuses other than
429, 502, 503 and 504. A status such as 401 or 404 is not about the messages, though: here, it stops the sink, and loses
nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from itertools import chain

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from hub.log import get_logger
from hub.message import Message
from hub.query.found import Group, last_of
from hub.sinks.clienttls import client_context, headers_in
from hub.sinks.gzipped import gzipped
from hub.sinks.httplink import TEXT_MAX, HttpLink, Reply, reason_in, retry_after_s
from hub.sinks.kinds import Otlp
from hub.sinks.otlpencode import encode_groups
from hub.sinks.sink import Host, SinkFault

MESSAGES_MAX = 2048
"""Messages of a request, unless the first group has more."""
REFUSALS = frozenset((400, 413, 422))
REPORT_S = 60.0
"""One warning of a server is logged in that time."""
log = get_logger("mpsr.sinks")


class OtlpSink:
    """Posts to the URL of *table*."""

    def __init__(self, table: Otlp, host: Host) -> None:
        self._table = table
        self._host = host
        self.groups_max: int = MESSAGES_MAX
        self.safe: int = 0
        self._uid = (host.hub_id + host.boot_id).hex() + (f"-{host.rewinds}" if host.rewinds else "")
        self._host_name = socket.gethostname()
        self._headers: dict[str, str] = {}
        self._link: HttpLink
        self._warned_at = -REPORT_S

    def open(self, after: int, detail: bytes) -> None:
        """Read the files. The first request connects. Raises SinkFault."""
        self._headers = headers_of(self._table)
        self._link = link_of(self._table, self._host)

    def deliver_groups(self, groups: Sequence[Group]) -> None:
        """Send the messages of *groups*. Raises SinkFault and Halted."""
        parts: list[Sequence[Group]] = [*_requests(groups)][::-1]  # the next one is the last
        refused: list[tuple[Message, str]] = []  # by a server that has not accepted anything yet
        while parts:
            part = parts.pop()
            reason = self._send(part)
            if reason is None:
                self._host.kept["has_accepted"] = True
                self._refuse(refused)
                refused = []
                self.safe = last_of(part[-1])
                continue
            messages = [*chain.from_iterable(part)]
            if len(messages) > 1:
                middle = len(messages) // 2
                parts += [[messages[middle:]], [messages[:middle]]]
            else:
                refused.append((messages[0], reason))
                if "has_accepted" in self._host.kept:
                    self._refuse(refused)
                    refused = []
                    self.safe = messages[0].sequence
        if refused:
            if (reason := self._send(())) is not None:
                raise SinkFault(f"{self._table.url}: it refuses every request: {reason} (is the URL right?)")
            self._refuse(refused)

    def settle(self) -> bytes:
        """Return nothing: what was sent is accepted."""
        return b""

    def idle(self, now: int) -> None:
        """Do nothing: a connection that the server closes is replaced by the next request."""

    def close(self) -> None:
        """Close the connection."""
        if hasattr(self, "_link"):
            self._link.close()

    def _refuse(self, refused: Sequence[tuple[Message, str]]) -> None:
        for message, reason in refused:
            self._host.refuse(message, reason)

    def _send(self, groups: Sequence[Group]) -> str | None:
        """Send *groups* in a request. Return why the server refuses its content, if it does. Raises SinkFault."""
        body = encode_groups(groups, self._uid, self._host_name)
        self._host.rest()
        headers = {**self._headers}
        if self._table.compress == "gzip":
            body = gzipped(body)
            headers["Content-Encoding"] = "gzip"
        reply = self._link.post({**headers, "Content-Length": str(len(body))}, body)
        if reply.status in REFUSALS:
            return f"HTTP {reply.status}{reason_in(reply)}"
        if not 200 <= reply.status < 300:
            raise SinkFault(f"{self._table.url}: HTTP {reply.status}{reason_in(reply)}", retry_after_s(reply))
        self._look_at(reply, groups)
        return None

    def _look_at(self, reply: Reply, groups: Sequence[Group]) -> None:
        """Report what the server has rejected of a request that it has accepted."""
        try:
            partial = ExportLogsServiceResponse.FromString(reply.body).partial_success
        except DecodeError:  # some vendors reply something of their own
            return
        sent = sum(map(len, groups))
        rejected = min(partial.rejected_log_records, sent)
        text = partial.error_message[:TEXT_MAX]
        if sent and rejected == sent:
            self._refuse([(message, f"rejected: {text}") for message in chain.from_iterable(groups)])
        elif rejected > 0:
            first, last = next(iter(groups[0])).sequence, last_of(groups[-1])
            self._host.lose(rejected, f"rejected, of the sequences {first} to {last}: {text}")
        elif text and time.monotonic() >= self._warned_at + REPORT_S:
            self._warned_at = time.monotonic()
            log.warning("otlp.warned", name=self._table.name, text=text)


def _requests(groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
    """Yield *groups* in parts, for a request each."""
    request: list[Group] = []
    count = 0
    for group in groups:
        if request and count + len(group) > MESSAGES_MAX:
            yield request
            request, count = [], 0
        request.append(group)
        count += len(group)
    if request:
        yield request


def headers_of(table: Otlp) -> dict[str, str]:
    """Return the headers of each request. Those in a file are read now. Raises SinkFault."""
    headers = {"Host": table.url.authority, "Content-Type": "application/x-protobuf", "User-Agent": "mpsr"}
    return headers | headers_in(table.headers, table.headers_file)


def link_of(table: Otlp, host: Host) -> HttpLink:
    """Return what sends requests. The files of TLS are read now. Raises SinkFault."""
    context = client_context(table.tls_ca, table.tls_cert, table.tls_key) if table.url.is_tls else None
    return HttpLink(table.url, context, float(table.timeout), host)


def check_table(table: Otlp) -> None:
    """Check that the files of *table* can be read. The server may start later. Raises SinkFault."""
    headers_of(table)
    if table.url.is_tls:
        client_context(table.tls_ca, table.tls_cert, table.tls_key)
