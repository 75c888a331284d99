"""
A search that shows much, on more than one processor.

Where most messages match, nearly all of the time goes into decoding and rendering them. So the batches of such a search
are handed out in parts: to helpers, which are forked processes, and one part is done here meanwhile.

Always true:
- the lines and their order are those of one process alone;
- a helper that ends early costs time and no line: its part is done here;
- helpers end with this process, also if it is killed;
- a search that is short, or finds little, has no helpers: to hand out a part costs more than to search it.

The caller has no threads, because it is forked.

Not here: what is wanted (hub.query.query), how it looks (hub.query.rendering).
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

import msgspec

from hub.cli.output import Encoded, Lines, discard_output, encoded
from hub.journal.reader import Gap
from hub.message import Batch, Home, Peer
from hub.writeall import write_all

PART_BYTES = 1 << 20
"""Entries that are handed out at once: 5 to 10 ms of work, so that the wake-ups for it do not count."""
ALONE_S = 0.05
"""Processor time of a search before it has helpers. To fork takes a few milliseconds."""
COSTLY_NS = 2.0
"""Processor time per byte from which a part is handed out. A search that finds nothing takes 0.3, rendering 6 to 40."""
PROCESSES_MAX = 4
"""Processes that work on one search, this one included: it also reads and writes for all of them."""
Part = Sequence[Batch | Gap]
Work = Callable[[Iterable[Batch | Gap]], Iterator[Lines]]
_LENGTH = struct.Struct("=QQ")  # lines and bytes that follow


def shared(batches: Iterable[Batch | Gap], work: Work) -> Iterator[Lines]:
    """Yield what *work* makes of *batches*, which it gets in parts, in their order."""
    failures: list[Exception] = []
    parts = _parts(batches, failures)
    spent_s = 0.0
    for part in parts:
        began = time.process_time()
        yield from work(part)
        taken_s = time.process_time() - began
        spent_s += taken_s
        if spent_s >= ALONE_S and _is_costly(taken_s, part):
            with contextlib.ExitStack() as stack:
                if helpers := _helpers(work, stack):
                    yield from _with_helpers(parts, work, helpers)
    if failures:
        raise failures[0]


def _with_helpers(parts: Iterator[Part], work: Work, helpers: Sequence[Helper]) -> Iterator[Lines]:
    """Yield what is made of *parts*, until there are no more, or one of them shows that helpers are not worth it."""
    done: list[Encoded] = []
    is_costly = True
    while is_costly:
        given = list(zip(helpers, parts, strict=False))  # takes no part that it does not give
        for helper, part in given:
            helper.give(part)
        yield from done  # of the last round, while the helpers work
        own = next(parts, ())
        began = time.process_time()
        last = encoded(work(own))
        is_costly = bool(own) and _is_costly(time.process_time() - began, own)
        done = [encoded(work(part)) if (taken := helper.take()) is None else taken for helper, part in given]
        done.append(last)
    yield from done


def _parts(batches: Iterable[Batch | Gap], failures: list[Exception]) -> Iterator[Part]:
    """Yield *batches* in parts of `PART_BYTES`, each with its last batch. What ends them is put into *failures*."""
    part: list[Batch | Gap] = []
    size = 0
    try:
        for found in batches:
            part.append(found)
            size += _size(found)
            if size >= PART_BYTES:
                yield part
                part, size = [], 0
    except Exception as failure:  # noqa: BLE001  it is raised after the lines of what was read before
        failures.append(failure)
    if part:
        yield part


def _size(found: Batch | Gap) -> int:
    return len(found.entries) if isinstance(found, Batch) else 0


def _is_costly(taken_s: float, part: Part) -> bool:
    return taken_s * 1e9 > COSTLY_NS * sum(map(_size, part))


def _helpers(work: Work, stack: contextlib.ExitStack) -> list[Helper]:
    """Return as many helpers as there are processors for them. They end with *stack*."""
    helpers: list[Helper] = []
    with contextlib.suppress(OSError):  # no more processes or descriptors: the search goes on without
        for _ in range(min(len(os.sched_getaffinity(0)), PROCESSES_MAX) - 1):
            helpers.append(stack.enter_context(contextlib.closing(Helper(work))))
    return helpers


class Helper:
    """A process that does *work* for parts, one at a time. Raises OSError if there can be none."""

    def __init__(self, work: Work) -> None:
        requests, self._to = os.pipe()
        self._from, results = os.pipe()
        try:
            self._pid = os.fork()
            if not self._pid:
                os.close(self._to)
                os.close(self._from)
                _serve(requests, results, work)
        except OSError:
            os.close(self._to)
            os.close(self._from)
            raise
        finally:
            os.close(requests)
            os.close(results)

    def give(self, part: Part) -> None:
        """Let it work on *part*. If it has ended, `take` finds out."""
        data = _encode([_Sent.of(found) for found in part])
        with contextlib.suppress(BrokenPipeError):
            write_all(self._to, _LENGTH.pack(0, len(data)) + data)

    def take(self) -> Encoded | None:
        """Wait for the result of the part that it was given; None if it has ended."""
        return _receive(self._from)

    def close(self) -> None:
        """Let it end: what it reads has an end now, and nobody takes its result."""
        os.close(self._to)
        os.close(self._from)
        with contextlib.suppress(ChildProcessError):  # our parent ignores SIGCHLD, and we inherited that
            os.waitpid(self._pid, 0)


def _serve(requests: int, results: int, work: Work) -> NoReturn:
    """Work for the process that has forked this one, until it ends."""
    try:
        discard_output()  # it is not ours: who reads it waits for its end
        while (request := _receive(requests)) is not None:
            lines, data = encoded(work([sent.found() for sent in _decode(request.data)]))
            write_all(results, _LENGTH.pack(lines, len(data)) + data)
    finally:  # whatever has happened, also Ctrl-C: the other process does the part itself, and reports what is wrong
        os._exit(0)


def _receive(fd: int) -> Encoded | None:
    """Return what the other process has sent; None if it has ended."""
    head = _read(fd, _LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    lines, size = _LENGTH.unpack(head)
    data = _read(fd, size)
    return Encoded(lines, data) if len(data) == size else None


def _read(fd: int, size: int) -> bytes:
    """Read *size* bytes, fewer only at the end."""
    data = bytearray(size)
    left = memoryview(data)
    while left and (count := os.readv(fd, (left,))):
        left = left[count:]
    return bytes(data[: size - len(left)])


class _Sent(msgspec.Struct, array_like=True):
    """A batch on its way to a helper, with what queries and renderers know of it; or a gap."""

    tag: bytes
    entries: memoryview
    count: int
    peer: Peer
    sequence: int
    received: int
    home: Home | None
    gap: Gap | None = None

    @classmethod
    def of(cls, found: Batch | Gap) -> _Sent:
        if isinstance(found, Gap):
            return cls(b"", memoryview(b""), 0, Peer(), 0, 0, None, found)
        entries = memoryview(found.entries)
        return cls(found.tag, entries, found.count, found.peer, found.sequence, found.received, found.home)

    def found(self) -> Batch | Gap:
        if self.gap is not None:
            return self.gap
        return Batch(
            self.tag, self.entries, self.count, peer=self.peer, sequence=self.sequence, received=self.received,
            home=self.home,
        )  # fmt: skip


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(list[_Sent]).decode
