"""
The base of lines and length-prefixed JSON: the texts of a stream, and how they become batches.

Each text is decided on its own: a JSON object is a request or a message (hub.wire.jsonlines), a text that begins with
``<PRI>`` is a line of syslog (hub.wire.sysloglines), everything else is a plain text message (hub.wire.text). No text
is refused.

A line of syslog or text is only copied: the fields of syslog are read later (hub.entries).

Always true:
- adjacent messages with the same tag that arrived together form one batch; the order of all items is kept;
- a text over the limit costs that text: it becomes one loss of the received bytes, and the stream continues after it;
- one `receive` decodes a limited number of texts, and the next call the others.

Not here: where a text ends (hub.wire.lines, hub.wire.length_prefixed).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import ClassVar

from hub import entries as codec
from hub.checksum import crc32
from hub.entries import str_header
from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire import jsonlines, sysloglines, text
from hub.wire.buffer import ByteBuffer
from hub.wire.frame import FRAME_BYTES_MAX, INLINE_BYTES
from hub.wire.items import Items
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.jsonrpc import Request
from hub.wire.payload import Unopened
from hub.wire.sysloglines import COUNT_BYTES_MAX, is_syslog

TEXTS_MAX = 3000
"""
Maximum number of texts per `receive`. A plain text takes 0.2 µs, JSON 0.5 µs, with its own tag and time 2.5 µs.
A read of 100-byte lines is decoded in one call.
"""
WINDOW_BYTES = 256 << 10
"""Maximum number of bytes per `receive`, one read: JSON of this size takes 6 ms at most."""
SAMPLE_BYTES = 64


_BRACE, _ANGLE = b"{", b"<"
_OPENING = frozenset((_BRACE, b"["))
_first = itemgetter(slice(1))
_RUN_MIN = 4  # fewer objects are added one by one just as fast


class Batcher:
    """Takes texts and losses, returns items. Unless *takes_requests*, a request is a message like any other object."""

    def __init__(self, peer: Peer, origin: Origin | None, *, takes_requests: bool = True) -> None:
        self._peer = peer
        self._origin = origin
        self._takes_requests = takes_requests
        self._items: Items[Request | Unopened] = Items()
        self._tag = b""
        self._before = b""  # the bytes of an entry before the header of its text, in the present run
        self._parts: list[bytes] = []  # of the entries of the run
        self._count = 0
        self.has_syslog = False
        """Whether a line of syslog has been added."""

    def add(self, line: bytes) -> None:
        """Add one text."""
        first = line[:1]
        if first in _OPENING and self._add_json(line, first):
            return
        tag = sysloglines.TAG if first == _ANGLE and is_syslog(line) else text.TAG
        if tag != self._tag:
            self._begin(tag)
        self._parts += (self._before, str_header(len(line)), line)
        self._count += 1
        if first in _OPENING and self._takes_requests and (broken := jsonlines.broken_call(line)) is not None:
            self._add_request(broken)

    def _add_json(self, line: bytes, first: bytes) -> bool:
        """Add a text that begins with *first*, a bracket. Return False if it is only a text."""
        if len(line) > JSON_BYTES_MAX:
            return False
        parsed: Request | tuple[bytes, bytes] | None
        if not self._takes_requests:
            parsed = jsonlines.parse_message(line) if first == _BRACE else None
        else:
            parsed = jsonlines.parse(line) if first == _BRACE else jsonlines.parse_batch(line)
        if isinstance(parsed, Request):
            self._add_request(parsed)
        elif parsed is not None:
            tag, entry = parsed
            if tag != self._tag:
                self._begin(tag)
            self._parts.append(entry)
            self._count += 1
        return parsed is not None

    def _add_request(self, request: Request) -> None:
        self._flush()
        self._items.add(request)

    def add_lines(self, lines: list[bytes], *, may_be_syslog: bool, ends_with_nul: bool) -> int:
        """
        Add *lines*, faster than `add` adds each. Return their number.

        End before the first frame of syslog that may not end where its line does: its length is in front of it, or,
        if *ends_with_nul* is true, it may end at a NUL.
        """
        at, count = 0, len(lines)
        while at < count:
            if lines[at][:1] == _BRACE:
                at = self._add_objects(lines, at)
                continue
            stop = self._add_texts(lines, at, may_be_syslog=may_be_syslog, ends_with_nul=ends_with_nul)
            if stop < count and lines[stop][:1] != _BRACE:
                return stop
            at = stop
        return count

    def _add_objects(self, lines: list[bytes], at: int) -> int:
        """Add the lines from *at* on that begin with a brace, at once if possible. Return the offset of the next."""
        _, objects = next(groupby(islice(lines, at, at + jsonlines.RUN_MAX), _first))  # the first has a brace
        run = list(objects)
        found = jsonlines.parse_run(run) if len(run) >= _RUN_MIN else None
        if found is None:
            for line in run:
                self.add(line)
        else:
            for tag, count, entries in found:
                self._begin(tag)
                self._parts.append(entries)
                self._count += count
        return at + len(run)

    def _add_texts(self, lines: list[bytes], at: int, *, may_be_syslog: bool, ends_with_nul: bool) -> int:
        """Add the lines from *at* on, up to one that begins with a brace, or ends `add_lines`. Return its offset."""
        tag, parts, heads = b"", self._parts, text.heads(b"")
        for number, line in enumerate(islice(lines, at, None), at):
            first, kind = line[:1], text.TAG
            if first in _OPENING:
                if first == _BRACE:
                    return number
                if jsonlines.may_be_batch(line):
                    self.add(line)
                    tag = b""
                    continue
            if may_be_syslog:
                if first == _ANGLE and is_syslog(line):
                    if ends_with_nul:
                        return number
                    kind = sysloglines.TAG
                elif line.find(b" <", 1, COUNT_BYTES_MAX) != -1 and sysloglines.match_count(line) is not None:
                    return number
            if tag is not kind:
                self._begin(kind)
                tag, parts, heads = kind, self._parts, text.heads(self._before)
            parts += (heads[len(line)], line)
            self._count += 1
        return len(lines)

    def add_entry(self, tag: bytes, entry: bytes) -> None:
        """Add one message."""
        if tag != self._tag:
            self._begin(tag)
        self._parts.append(entry)
        self._count += 1

    def add_syslog(self, lines: list[bytes]) -> None:
        """Add *lines*, all of syslog."""
        self._begin(sysloglines.TAG)
        heads, parts = text.heads(self._before), self._parts
        for line in lines:
            parts += (heads[len(line)], line)
        self._count += len(lines)

    def add_large(self, parts: list[bytes]) -> None:
        """Add one text that arrived in *parts* and is too large to be copied here."""
        size = sum(map(len, parts))
        work = partial(text.open_text, parts, self._peer, self._origin)
        if is_syslog(parts[0]):
            work = partial(work, tag=sysloglines.TAG, before=sysloglines.before_line())
        self.add_unopened(Unopened(work, size))

    def add_unopened(self, payload: Unopened) -> None:
        """Add messages that take too long to read here."""
        self._flush()
        self._items.add(payload)

    def add_loss(self, loss: Loss) -> None:
        """Add the loss of a text that could not be kept."""
        self._flush()
        self._items.add_loss(loss)

    def take(self) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return everything added since the last call."""
        self._flush()
        return self._items.take()

    def _begin(self, tag: bytes) -> None:
        """Begin a run of entries with *tag*, unless it is the present one."""
        if tag != self._tag:
            self._flush()
            self._tag, self._before = tag, text.BEFORE_LINE
            if tag == sysloglines.TAG:
                self._before = sysloglines.before_line()
                self.has_syslog = True

    def _flush(self) -> None:
        if self._count:
            entries = codec.join(self._parts, self._count)
            self._items.add(Batch(self._tag, entries, self._count, None, self._peer, self._origin, crc=crc32(entries)))
        self._parts, self._count, self._tag = [], 0, b""


class TextDecoder(abc.ABC):
    """
    Cuts a byte stream into texts. Feed it with `receive`, and call `finish` at the end of the stream.

    While `has_more` is true, let other connections run, then call ``receive(b"")``.
    """

    _kind: ClassVar[str]
    """The word for a text in the reason of a loss."""

    def __init__(
        self,
        peer: Peer = UNKNOWN_PEER,
        origin: Origin | None = None,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        takes_requests: bool = True,
    ) -> None:
        self._batcher = Batcher(peer, origin, takes_requests=takes_requests)
        self._text_bytes_max = frame_bytes_max
        self._rest = b""  # received, not decoded yet
        self._half = ByteBuffer()  # of the current text
        self._dropped = 0  # bytes of the current text that were discarded, if it is over the limit
        self._sample = b""  # of that text

    @property
    def held_bytes(self) -> int:
        """Number of bytes held: half a text, and received bytes that are not decoded yet."""
        return self._half.held_bytes + len(self._rest)

    @property
    def has_more(self) -> bool:
        """Whether `receive` has work to do without new bytes."""
        return bool(self._rest)

    @property
    def waits(self) -> bool:
        """False: a text is complete."""
        return False

    def release(self, *, everything: bool = False) -> None:  # noqa: B027  nothing waits
        """Do nothing."""

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return the items that *data* completes, or the first part of them."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        self._rest = self._cut(data)
        return self._batcher.take()

    def finish(self) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return everything that is left."""
        items: list[Batch | Loss | Request | Unopened] = []
        while self._rest:
            items += self.receive(b"")
        self._end()
        return [*items, *self._batcher.take()]

    def limit(self, frame_bytes_max: int) -> None:
        """Change the limit, for the next text at the latest."""
        self._text_bytes_max = frame_bytes_max

    @abc.abstractmethod
    def _cut(self, data: bytes) -> bytes:
        """Take the texts in *data* and the beginning of the last one. Return what is left for the next call."""

    @abc.abstractmethod
    def _end(self) -> None:
        """Take what is held at the end of the stream."""

    def _add(self, text: bytes) -> None:
        """Add one whole text."""
        self._batcher.add(text)

    def _end_text(self) -> None:
        """Take the held bytes as a whole text."""
        if self._dropped:
            self._end_of_dropped()
        elif self._half.held_bytes > INLINE_BYTES:
            self._batcher.add_large(self._half.take_parts())
        else:
            self._add(self._half.take())

    def _end_of_dropped(self) -> None:
        reason = f"a {self._kind} over the limit of {self._text_bytes_max} bytes"
        self._batcher.add_loss(Loss(reason, lost_bytes=self._dropped, sample=self._sample))
        self._dropped, self._sample = 0, b""
