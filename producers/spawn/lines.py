"""
Converts the bytes of a child's stream to messages: one per line, per traceback, and per JSON object.

    {"stream": "stdout", "message": "the line"}         text, whatever its bytes (hub.wire.text)
    {"stream": "stderr", "level": "info", "n": 1}       a JSON object; its `time` is taken out (hub.wire.jsonlines)
    {"stream": "stdout", "continued": true, "message": "..."}    the rest of a line over the limit

Always true:
- all bytes come out, in order, except line ends (``\\n`` or ``\\r\\n``);
- at most one line of the limit is held, and the lines that wait to be joined; a longer line comes out in parts of the
  limit;
- for plain text one read costs a split and a join, not work per line.

Not here: which lines belong together (producers.spawn.multiline), reading (producers.spawn.supervisor).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from hub.entries import RECORD_NESTING_MAX, is_deeper, stamp, str_header
from hub.wire.jsonlines import may_be_too_deep, parse_time
from producers.spawn.multiline import Joiner

LINE_BYTES_MAX = 1 << 20

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode
_NO_RECORD = (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError)


class Join(enum.Enum):
    """Which lines become one message."""

    TRACEBACK = "traceback"
    INDENT = "indent"  # tracebacks too
    NONE = "none"


class LineRun(NamedTuple):
    """Consecutive messages that are packed alike."""

    messages: list[bytes]
    is_rest: bool = False  # the rest of a line whose beginning is in an earlier run
    has_json: bool = False  # one of the messages may be a JSON object


class Lines:
    """Cuts one stream: `receive` for data, `flush` when no data has come for a while, `finish` at the end."""

    def __init__(self, *, join: Join = Join.TRACEBACK, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._joiner = None if join is Join.NONE else Joiner(indent=join is Join.INDENT, bytes_max=line_bytes_max)
        self._half: list[bytes] = []
        self._half_bytes = 0
        self._is_rest = False  # the beginning of the half line was already returned

    @property
    def is_holding(self) -> bool:
        """Whether complete lines wait to be joined with others; `flush` returns them."""
        return self._joiner is not None and self._joiner.is_holding

    def receive(self, data: bytes) -> list[LineRun]:
        """Return the messages that *data* completes."""
        end = data.rfind(b"\n")
        if end == -1:
            return self._hold(data)
        self._half.append(data[:end])
        runs = self._whole(b"".join(self._half))
        self._half.clear()
        self._half_bytes = 0
        if end + 1 < len(data):
            runs += self._hold(data[end + 1 :])
        return runs

    def flush(self) -> list[LineRun]:
        """Return the lines that were waiting to be joined."""
        done = [] if self._joiner is None else self._joiner.flush()
        return [LineRun(done)] if done else []

    def finish(self) -> list[LineRun]:
        """Return everything that is left, including a last line without a line end."""
        runs = self._whole(b"".join(self._half), has_end=False) if self._half_bytes else []
        self._half.clear()
        self._half_bytes = 0
        return runs + self.flush()

    def _whole(self, block: bytes, *, has_end: bool = True) -> list[LineRun]:
        """Return the messages of complete lines. *block* lacks the last line's ``\\n``, if *has_end*."""
        has_json = b"{" in block and (block.startswith(b"{") or b"\n{" in block)
        lines = block.split(b"\n")
        if has_end and b"\r" in block:
            lines = [line.removesuffix(b"\r") for line in lines]
        runs: list[LineRun] = []
        if self._is_rest:
            self._is_rest = False
            runs += self._rest(lines.pop(0), is_rest=True)
        if len(block) > self._line_bytes_max:
            for short, long in self._by_length(lines):
                runs += self._joined(short, has_json)
                if long is not None:
                    runs += self.flush()
                    runs += self._rest(long, is_rest=False)
            return runs
        return runs + self._joined(lines, has_json)

    def _joined(self, lines: list[bytes], has_json: bool) -> list[LineRun]:
        if self._joiner is not None:
            lines = self._joiner.add(lines)
        return [LineRun(lines, has_json=has_json)] if lines else []

    def _by_length(self, lines: list[bytes]) -> Iterator[tuple[list[bytes], bytes | None]]:
        """Yield the lines within the limit up to each longer line, with that line."""
        begin = 0
        for index, line in enumerate(lines):
            if len(line) > self._line_bytes_max:
                yield lines[begin:index], line
                begin = index + 1
        yield lines[begin:], None

    def _hold(self, data: bytes) -> list[LineRun]:
        self._half.append(data)
        self._half_bytes += len(data)
        if self._half_bytes <= self._line_bytes_max:
            return []
        parts = list(self._parts(b"".join(self._half)))
        self._half = [parts.pop()]
        self._half_bytes = len(self._half[0])
        runs = self.flush() if not self._is_rest else []
        for part in parts:
            runs.append(LineRun([part], is_rest=self._is_rest))
            self._is_rest = True
        return runs

    def _rest(self, line: bytes, *, is_rest: bool) -> list[LineRun]:
        """Return a line in parts. All but the first are marked as continued; with *is_rest* the first is, too."""
        return [LineRun([part], is_rest=is_rest or index > 0) for index, part in enumerate(self._parts(line))]

    def _parts(self, line: bytes) -> Iterator[bytes]:
        """Yield *line* in parts of the limit. No part ends inside a UTF-8 character."""
        begin = 0
        while len(line) - begin > self._line_bytes_max:
            end = begin + self._line_bytes_max
            back = next((n for n in range(4) if line[end - n] & 0xC0 != 0x80), 0)
            end = end - back if end - back > begin else end
            yield line[begin:end]
            begin = end
        yield line[begin:]


def pack(run: LineRun, stream: str, time_ns: int) -> bytes:
    """Return the concatenated entries of a run that arrived at *time_ns*."""
    heads = _Heads(stamp(time_ns) + _record_head(stream, is_rest=run.is_rest))
    messages = run.messages
    if run.has_json:
        return b"".join(
            [
                (message[:1] == b"{" and _pack_object(message, stream, time_ns)) or heads[len(message)] + message
                for message in messages
            ]
        )
    parts: list[bytes] = [b""] * (2 * len(messages))
    parts[::2] = map(heads.__getitem__, map(len, messages))
    parts[1::2] = messages
    return b"".join(parts)


class _Heads(dict[int, bytes]):
    """The bytes before a text, by its length: many lines share few lengths."""

    def __init__(self, before: bytes) -> None:
        self._before = before

    def __missing__(self, length: int) -> bytes:
        head = self[length] = self._before + str_header(length)
        return head


def _record_head(stream: str, *, is_rest: bool) -> bytes:
    """Return a record up to its last value, the text."""
    name = _encode("stream") + _encode(stream)
    rest = _encode("continued") + _encode(True) if is_rest else b""
    return bytes((0x83 if is_rest else 0x82,)) + name + rest + _encode("message")


def _pack_object(line: bytes, stream: str, time_ns: int) -> bytes | None:
    """Return the entry of a JSON object. None if *line* is not one, or if no record can hold it."""
    try:
        record = {"stream": stream, **_decode_object(line)}
        if may_be_too_deep(line) and is_deeper(_encode(record), RECORD_NESTING_MAX):
            return None
        own_time_ns = parse_time(record.get("time"))
        if own_time_ns is not None:
            del record["time"]
            time_ns = own_time_ns
        return stamp(time_ns) + _encode(record)
    except _NO_RECORD:
        return None
