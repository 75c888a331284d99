"""
Imports one file, once.

The hub remembers for each file how far it has it: a name, an offset in the content, and a digest of the content up to
there (hub.wire.claim). The name is that of the file's first line and a number, since files may begin alike. A file is
known if its content up to one of these offsets has the digest that belongs to it. Names of files, compression, format
and tag do not matter, and a file that has grown since is continued.

Behind the digest, the hub keeps which run has imported it, and from where on: what two programs have imported of one
file is counted once. (Of three at once, what one of them has may be counted for another, too.)

The hub stores a chunk only if it begins where the hub is, so nothing is stored twice, whatever was on its way when
this program or the hub ended. Afterwards the hub is asked again: it may have been another file's place by then, or two
programs import the same file, or files that begin alike and were given the same name. Then all begins again, with what
the hub says.

Not here: reading files (hub.importing.contents), cutting them (hub.importing.cutting).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hub.importing.contents import BadContents, Contents
from hub.importing.cutting import BadContent, Chunk, Cutter, cutter
from hub.importing.delivery import Broken, Delivery
from hub.importing.formats import SAMPLE_BYTES, detect
from hub.wire.frame import FRAME_BYTES_MAX
from producers import NotConnected, NotTrusted, call
from producers.connecting import describe

HEAD_BYTES_MAX = 1024
"""Maximum bytes of the first line by which the places of a file are found."""
DIGEST_BYTES = 16
RUN_BYTES = 8
"""Random bytes that tell a run from others."""
FRAME_COST_BYTES = 1024
"""Bytes of a frame in addition to its tag and its entries, rounded up."""
RETRY_S = 0.1
STALLS_MAX = 5
"""How often in a row everything may be acknowledged and not kept, while no other program imports a file like this."""


class Row(NamedTuple):
    """A row of the hub: a name, an offset, and the digest of the content up to there, with what follows it."""

    name: str
    offset: int
    detail: bytes

    @property
    def digest(self) -> bytes:
        """The digest of the content."""
        return self.detail[:DIGEST_BYTES]

    @property
    def run(self) -> bytes:
        """The run that has imported the last of it; empty: an older version has."""
        return self.detail[DIGEST_BYTES : DIGEST_BYTES + RUN_BYTES]

    @property
    def since(self) -> int:
        """Where that run went on with what another one had imported."""
        return min(int.from_bytes(self.detail[DIGEST_BYTES + RUN_BYTES :], "big"), self.offset)


class Stalled(Exception):
    """The hub stores no more of the file; the text names the likely cause."""


class Result:
    """The outcome for one file."""

    def __init__(self) -> None:
        self.messages: int = 0
        self.bytes: int = 0
        """Bytes of content that were stored."""
        self.known_bytes: int = 0
        """Bytes of content that the hub had before, or has from another run."""
        self.left_out: int = 0
        """The number of messages that could not be kept."""
        self.fault: str = ""
        """Why the rest of the file could not be read; empty if all of it was."""


class _Place:
    """A place in the content for *run*: the hub has a *row* for it, or it is the beginning."""

    def __init__(self, row: Row, digest: hashlib.blake2b, run: bytes) -> None:
        self.row = row
        """The row of the hub if it has the content up to here."""
        self._digest = digest
        self._after = bytearray()  # content after it
        self._run = run
        self._since = row.since if row.run == run else row.offset

    @property
    def is_ours(self) -> bool:
        """Whether this run has imported what is before it."""
        return self.row.run == self._run

    def add(self, data: bytes) -> None:
        """Note the content that follows."""
        self._after += data

    def advance(self, offset: int) -> None:
        """Go on to *offset*."""
        size = offset - self.row.offset
        self._digest.update(memoryview(self._after)[:size])
        del self._after[:size]
        detail = self._digest.digest() + self._run + self._since.to_bytes(8, "big")
        self.row = Row(self.row.name, offset, detail)


class _Sent(NamedTuple):
    """The chunks that were sent on one connection: their ends and their numbers of messages."""

    chunks: list[tuple[int, int]]
    is_acknowledged: bool
    """Whether all of it is acknowledged."""
    fault: str = ""
    is_all: bool = True
    """Whether that was all of the content."""


class Importer:
    """
    Imports files into the hub at *path*. Without a *tag*, it is the name of the format; without a *kind*, the format is
    found. *progress* is called with each step.
    """

    def __init__(
        self,
        path: str,
        *,
        tag: str | None = None,
        kind: str | None = None,
        timeout: float,
        progress: Callable[[Contents], None] = lambda contents: None,
    ) -> None:
        self._path = path
        self._tag = tag
        self._kind = kind
        self._timeout = timeout
        self._progress = progress
        self._is_known = False  # whether the hub has answered once
        self._frame_bytes_max = FRAME_BYTES_MAX  # the hub's, as it has answered

    def run(self, contents: Contents) -> Result:
        """Import the file. Raises NotConnected, CommandFailed, Stalled or OSError."""
        result = Result()
        sample, result.fault = _sample(contents)
        if not sample:
            return result
        kind = self._kind or detect(sample)
        first_line = sample.partition(b"\n")[0][:HEAD_BYTES_MAX]
        head = hashlib.blake2b(first_line, digest_size=DIGEST_BYTES).hexdigest()
        rows, run = self._rows(head), os.urandom(RUN_BYTES)
        place = self._find(contents, head, rows, run)
        tried: set[str] = set()  # names under which chunks may be on their way
        result.known_bytes, stalls, moved = place.row.offset, 0, time.monotonic()
        while True:
            name, begin = place.row.name, place.row.offset
            is_new = not begin and name not in tried
            tried.add(name)
            sent = self._send(contents, place, kind, result, is_new=is_new)
            if sent.is_acknowledged and not sent.chunks:
                break
            before, rows = rows, self._rows(head)
            is_there = sent.is_acknowledged and sent.is_all and place.row in rows
            if not is_there:
                contents.look()
                place = self._find(contents, head, rows, run)
            ours = begin if place.row.name != name else place.row.offset if place.is_ours else place.row.since
            result.messages += sum(count for end, count in sent.chunks if end <= ours)
            result.bytes += max(ours - begin, 0)
            result.known_bytes += max(place.row.offset - max(ours, begin), 0)
            if is_there:
                break
            if place.row.offset > begin or rows != before:
                stalls, moved = 0, time.monotonic()
                continue
            stalls += sent.is_acknowledged
            if stalls == STALLS_MAX or time.monotonic() > moved + self._timeout:
                raise Stalled(sent.fault or "the hub does not keep it (what does `mpsr call losses` say?)")
            time.sleep(RETRY_S)
        return result

    def _find(self, contents: Contents, head: str, rows: list[Row], run: bytes) -> _Place:
        """Return the place for *run* up to which the hub, which knows *rows*, has the content. Raises OSError."""
        found: _Place | None = None
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        at = 0
        blocks = _readable(contents)
        block = memoryview(b"")
        for row in sorted(rows, key=lambda row: row.offset):
            while at + len(block) < row.offset and (more := next(blocks, None)) is not None:
                digest.update(block)
                at += len(block)
                block = memoryview(more)
                self._progress(contents)
            if at + len(block) < row.offset:
                break
            there = digest.copy()
            there.update(block[: row.offset - at])
            if there.digest() == row.digest:
                found = _Place(row, there, run)
        if found is not None:
            return found
        taken = {row.name for row in rows}
        free = next(name for number in itertools.count() if (name := f"{head}.{number:06}") not in taken)
        return _Place(Row(free, 0, b""), hashlib.blake2b(digest_size=DIGEST_BYTES), run)

    def _send(self, contents: Contents, place: _Place, kind: str, result: Result, *, is_new: bool) -> _Sent:
        """
        Send the content from *place* on. If its name *is_new*, the second chunk is sent only after the hub has kept the
        first one: the name may be another file's by now. Raises OSError.
        """
        chunks: list[tuple[int, int]] = []
        tag = self._tag or kind
        try:
            delivery = Delivery(self._path, tag, timeout=self._timeout)
        except OSError as error:
            return _Sent(chunks, is_acknowledged=False, fault=describe(error, self._path))
        cut = cutter(
            kind, place.row.offset, chunk_bytes_max=self._frame_bytes_max - len(tag.encode()) - FRAME_COST_BYTES
        )
        try:
            for chunk in self._chunks(contents, place, cut, result):
                if is_new and len(chunks) == 1:
                    delivery.settle()
                    if place.row not in self._rows(place.row.name):
                        return _Sent(chunks, is_acknowledged=True, is_all=False)
                name, start, before = place.row
                place.advance(chunk.end)
                chunks.append((chunk.end, chunk.messages))
                delivery.send(chunk, (name.encode(), start, before, chunk.end, place.row.detail))
            delivery.settle()
        except Broken as error:
            return _Sent(chunks, is_acknowledged=False, fault=str(error))
        finally:
            delivery.close()
            result.left_out = max(result.left_out, cut.left_out)
        return _Sent(chunks, is_acknowledged=True)

    def _chunks(self, contents: Contents, place: _Place, cut: Cutter, result: Result) -> Iterator[Chunk]:
        """Yield the chunks of the content from *place* on, as far as it can be read."""
        try:
            for block in contents.blocks(place.row.offset):
                place.add(block)
                yield from cut.take(block)
                self._progress(contents)
            yield from cut.finish()
        except (BadContents, BadContent) as error:
            result.fault = str(error)

    def _rows(self, head: str) -> list[Row]:
        """
        Return what the hub knows of files that begin so. A hub that has answered before is waited for.

        Raises NotConnected or CommandFailed.
        """
        rows: list[Row] = []
        left_off, deadline = 1, time.monotonic() + self._timeout
        while left_off:
            after = rows[-1].name if rows else ""
            try:
                answer = call("imports", {"prefix": head, "after": after}, path=self._path, timeout=self._timeout)
            except NotConnected as error:
                if not self._is_known or isinstance(error, NotTrusted) or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)
                continue
            self._is_known = True
            self._frame_bytes_max = answer.get("frame_size", FRAME_BYTES_MAX)
            rows += [Row(name, offset, bytes.fromhex(detail)) for name, offset, detail in answer["imports"]]
            left_off = answer["left_off"]
        return rows


def _sample(contents: Contents) -> tuple[bytes, str]:
    """Return the beginning of the content, and why there is no more of it, if that is a fault."""
    sample = b""
    try:
        for block in contents.blocks():
            sample += block
            if len(sample) >= SAMPLE_BYTES:
                break
    except BadContents as error:
        return sample, str(error)
    return sample, ""


def _readable(contents: Contents) -> Iterator[bytes]:
    """Yield the content as far as it can be read."""
    try:
        yield from contents.blocks()
    except BadContents:
        return
