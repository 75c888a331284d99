"""
Converts the bytes of a child's stream to messages: one per line, per traceback, and per JSON object.

    {"stream": "stdout", "message": "the line"}         text, whatever its bytes (hub.wire.text)
    {"stream": "stderr", "level": "info", "n": 1}       a JSON object; its `time` is taken out (hub.wire.jsonlines)
    {"stream": "stderr", "level": "error", "message": "Traceback ..."}    a traceback, or a line after `<3>`
    {"stream": "stdout", "continued": true, "message": "..."}    the rest of a line over the limit

A line ends with ``\\n``, ``\\r\\n`` or ``\\r``: each state of a progress bar is a line. A blank state is left out.

Always true:
- all bytes come out, in order, except line ends, blank states and sd-daemon prefixes;
- a message has the moment of its first byte;
- at most one line of the limit is held, and the lines that wait to be joined; a longer line comes out in parts of the
  limit;
- for plain text one read costs a split and a join, not work per line.

Not here: which lines belong together (hub.wire.multiline), reading (producers.spawn.output).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from hub.entries import RECORD_NESTING_MAX, is_deeper, stamp, str_header
from hub.wire.jsonlines import may_be_too_deep, parse_time
from hub.wire.multiline import Join, Joined, Joiner, Moment

LINE_BYTES_MAX = 1 << 20

_END = re.compile(rb"\r\n|\n|\r")
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode
_NO_RECORD = (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError)


class LineRun(NamedTuple):
    """Consecutive messages that are packed alike and began with the same read."""

    messages: list[bytes]
    moment: Moment
    is_rest: bool = False  # the rest of a line whose beginning is in an earlier run
    has_json: bool = False  # one of the messages may be a JSON object
    level: str | None = None


class Lines:
    """Cuts one stream: `receive` for data, `flush` when no data has come for a while, `finish` at the end."""

    def __init__(self, *, join: Join = Join.AUTO, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._joiner = Joiner(join, bytes_max=line_bytes_max)
        self._half: list[bytes] = []
        self._half_bytes = 0
        self._half_moment = Moment(0, 0)  # of its first byte
        self._is_half_passed = False  # nothing waits for the half line any more
        self._is_rest = False  # the beginning of the half line was already returned
        self._is_bar = False  # the current line has states that were returned

    @property
    def held_since(self) -> Moment | None:
        """
        The moment of the first byte that may still become a part of a message, or None.

        A half line counts until `flush`, held lines until they are returned.
        """
        if (since := self._joiner.held_since) is not None:
            return since
        return self._half_moment if self._half_bytes and not self._is_half_passed else None

    @property
    def is_incomplete(self) -> bool:
        """Whether lines are held that are certain to be continued."""
        return self._joiner.is_incomplete

    def receive(self, data: bytes, moment: Moment) -> list[LineRun]:
        """Return the messages that *data*, read at *moment*, completes."""
        runs: list[LineRun] = []
        if self._half_bytes and (end := _END.search(data)) is not None:
            self._half.append(data[: end.start()])
            runs = self._finish_half(ends_line=end[0] != b"\r")
            data = data[end.end() :]
        at = max(data.rfind(b"\n"), data.rfind(b"\r"))
        if at != -1:
            runs += self._whole(data[:at], moment, ends_line=data[at] == ord("\n"))
            data = data[at + 1 :]
        return runs + self._hold(data, moment) if data else runs

    def flush(self) -> list[LineRun]:
        """Return the lines that were waiting to be joined."""
        self._is_half_passed = self._half_bytes > 0
        return _runs(self._joiner.flush(), has_json=False)

    def finish(self) -> list[LineRun]:
        """Return everything that is left, including a last line without a line end."""
        runs = self._finish_half(ends_line=True) if self._half_bytes else []
        return runs + self.flush()

    def _finish_half(self, *, ends_line: bool) -> list[LineRun]:
        block = b"".join(self._half)
        self._half.clear()
        self._half_bytes = 0
        return self._whole(block, self._half_moment, ends_line=ends_line)

    def _whole(self, block: bytes, moment: Moment, *, ends_line: bool) -> list[LineRun]:
        """Return the messages of complete lines. *block* lacks the last end: ``\\n`` if *ends_line*, else ``\\r``."""
        if b"\r" in block or self._is_bar or not ends_line:
            lines = self._states(block, ends_line=ends_line)
            block = b"\n".join(lines)
        else:
            lines = block.split(b"\n")
        has_json = b"{" in block and (block.startswith((b"{", b"<")) or b"\n{" in block or b"\n<" in block)
        runs: list[LineRun] = []
        if self._is_rest and lines:
            self._is_rest = False
            runs += self._rest(lines.pop(0), moment, is_rest=True)
        if len(block) > self._line_bytes_max:
            for short, long in self._by_length(lines):
                runs += self._joined(short, moment, b"\n".join(short), has_json=has_json)
                if long is not None:
                    runs += _runs(self._joiner.flush(), has_json=False)
                    runs += self._rest(long, moment, is_rest=False)
            return runs
        return runs + self._joined(lines, moment, block, has_json=has_json)

    def _states(self, block: bytes, *, ends_line: bool) -> list[bytes]:
        """Return the lines of *block*, each followed by ``\\n`` or ``\\r``, without blank states of progress bars."""
        lines: list[bytes] = []
        block = (block + b"\n").replace(b"\r\n", b"\n")[:-1] if ends_line else block.replace(b"\r\n", b"\n") + b"\r"
        *ended, last = block.split(b"\n")
        for line in [*ended, last] if ends_line else ended:
            *states, rest = line.split(b"\r")
            shown = [state for state in states if state.strip()]
            self._is_bar = self._is_bar or bool(shown)
            lines += shown if self._is_bar and not rest.strip() else [*shown, rest]
            self._is_bar = False
        if not ends_line:
            shown = [state for state in last.split(b"\r") if state.strip()]
            self._is_bar = self._is_bar or bool(shown)
            lines += shown
        return lines

    def _joined(self, lines: list[bytes], moment: Moment, block: bytes, *, has_json: bool) -> list[LineRun]:
        return _runs(self._joiner.add(lines, moment, block), has_json=has_json) if lines else []

    def _by_length(self, lines: list[bytes]) -> Iterator[tuple[list[bytes], bytes | None]]:
        """Yield the lines within the limit up to each longer line, with that line."""
        begin = 0
        for index, line in enumerate(lines):
            if len(line) > self._line_bytes_max:
                yield lines[begin:index], line
                begin = index + 1
        yield lines[begin:], None

    def _hold(self, data: bytes, moment: Moment) -> list[LineRun]:
        if not self._half_bytes:
            self._half_moment, self._is_half_passed = moment, False
        self._half.append(data)
        self._half_bytes += len(data)
        if self._half_bytes <= self._line_bytes_max:
            return []
        parts = list(self._parts(b"".join(self._half)))
        self._half = [parts.pop()]
        self._half_bytes = len(self._half[0])
        runs = _runs(self._joiner.flush(), has_json=False) if not self._is_rest else []
        for part in parts:
            runs.append(LineRun([part], self._half_moment, is_rest=self._is_rest))
            self._is_rest = True
        self._half_moment = moment
        return runs

    def _rest(self, line: bytes, moment: Moment, *, is_rest: bool) -> list[LineRun]:
        """Return a line in parts. All but the first are marked as continued; with *is_rest* the first is, too."""
        parts = enumerate(self._parts(line))
        return [LineRun([part], moment, is_rest=is_rest or index > 0) for index, part in parts]

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


def _runs(joined: list[Joined], *, has_json: bool) -> list[LineRun]:
    return [LineRun(messages, moment, has_json=has_json, level=level) for messages, moment, level in joined]


def pack(run: LineRun, stream: str) -> bytes:
    """Return the concatenated entries of a run."""
    time_ns = run.moment.time_ns
    fields: dict[str, Any] = {"stream": stream}
    if run.level is not None:
        fields["level"] = run.level
    if run.is_rest:
        fields["continued"] = True
    heads = _Heads(stamp(time_ns) + _record_head(fields))
    messages = run.messages
    if run.has_json:
        return b"".join(
            [
                (message[:1] == b"{" and _pack_object(message, fields, time_ns)) or heads[len(message)] + message
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


def _record_head(fields: dict[str, Any]) -> bytes:
    """Return a record of *fields* and a text, up to the text."""
    pairs = b"".join(_encode(one) for pair in fields.items() for one in pair)
    return bytes((0x80 + len(fields) + 1,)) + pairs + _encode("message")


def _pack_object(line: bytes, fields: dict[str, Any], time_ns: int) -> bytes | None:
    """Return the entry of a JSON object. None if *line* is not one, or if no record can hold it."""
    try:
        record = {**fields, **_decode_object(line)}
        if may_be_too_deep(line) and is_deeper(_encode(record), RECORD_NESTING_MAX):
            return None
        own_time_ns = parse_time(record.get("time"))
        if own_time_ns is not None:
            del record["time"]
            time_ns = own_time_ns
        return stamp(time_ns) + _encode(record)
    except _NO_RECORD:
        return None
