"""
Processes that share the work of a long search: each renders a part of what is found, on a processor of its own.

They are forked when the search has lasted a while. A helper gets a batch in memory that it shares with this process,
and returns its lines there. What a helper cannot do is done here: because its memory is too small, because it failed,
or because it was killed.

Always true:
- the results are those of this process alone, in the same order;
- each helper has at most `SLOTS` batches, so what is read ahead is bounded;
- a helper ends when this process does, however that ends.

Not here: what is done with a batch (hub.cli.stored), writing (hub.cli.output).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from hub.cli.output import Encoded, Lines, encode

if TYPE_CHECKING:
    from types import TracebackType

ALONE_S = 0.2
"""The processor time of a search before helpers are forked: that takes some milliseconds each."""
HELPERS_MAX = 4
"""The most helpers; this process reads and writes for no more."""
SLOTS = 2
"""Batches that a helper has at once, so that it works while this process is busy."""
SLOT_BYTES = 16 << 20
"""The room for a batch, and then for its lines. What is not used takes no memory."""
_ORDER = struct.Struct("=II")  # the slot, and the bytes in it
_RESULT = struct.Struct("=qI")  # the number of lines, or `_FAILED`, and the bytes in the slot
_FAILED = -1
Work = Callable[[Any], Lines]


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared(work: Work, items: Iterable[Any]) -> Iterator[Lines]:
    """Yield what *work* returns for each of *items*, in their order. Items can be pickled. No thread is running."""
    items, begun = iter(items), time.process_time()
    count = min(processors(), HELPERS_MAX)
    for item in items:
        yield work(item)
        if count > 1 and time.process_time() - begun >= ALONE_S:
            break
    else:
        return
    with Helpers(work, count) as helpers:
        yield from helpers.map(items)


class Helpers:
    """*count* processes that do *work*. Use it in a ``with``."""

    def __init__(self, work: Work, count: int) -> None:
        self._work = work
        self._helpers: list[_Helper] = []
        with contextlib.suppress(OSError):  # the limit of processes, or of memory: fewer helpers, or none
            for _ in range(count):
                self._helpers.append(_Helper(work))

    def __enter__(self) -> Helpers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in self._helpers:
            helper.close()
        for helper in self._helpers:
            helper.join()

    @property
    def pids(self) -> list[int]:
        """The helpers' process ids."""
        return [helper.pid for helper in self._helpers]

    def map(self, items: Iterable[Any]) -> Iterator[Lines]:
        """Yield what the work returns for each of *items*, in their order."""
        helpers = self._helpers
        waiting: deque[tuple[Any, _Helper | None, int]] = deque()
        for number, item in enumerate(items):
            if waiting and len(waiting) == len(helpers) * SLOTS:
                yield self._result(*waiting.popleft())
            if not helpers:
                yield self._work(item)
                continue
            helper, slot = helpers[number % len(helpers)], number // len(helpers) % SLOTS
            waiting.append((item, helper if helper.give(slot, item) else None, slot))
        while waiting:
            yield self._result(*waiting.popleft())

    def _result(self, item: Any, helper: _Helper | None, slot: int) -> Lines:
        found = helper.take(slot) if helper is not None else None
        return self._work(item) if found is None else found


class _Helper:
    """One process, and the memory that it shares with this one. Results come in the order of what was given."""

    def __init__(self, work: Work) -> None:
        self._memory = [mmap.mmap(-1, SLOT_BYTES) for _ in range(SLOTS)]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for the caller, which ends it
        try:
            with theirs:
                self.pid = os.fork()
                if not self.pid:
                    _serve(work, theirs, ours, self._memory)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._socket = ours

    def give(self, slot: int, item: Any) -> bool:
        """Give *item* to the process. False if that is impossible."""
        import pickle

        packed = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        if len(packed) > SLOT_BYTES:
            return False
        self._memory[slot][: len(packed)] = packed
        with contextlib.suppress(OSError):  # it has ended
            self._socket.send(_ORDER.pack(slot, len(packed)), socket.MSG_NOSIGNAL)
            return True
        return False

    def take(self, slot: int) -> Encoded | None:
        """Wait for the result of what was given in *slot*. None if there is none."""
        with contextlib.suppress(OSError):
            if result := self._socket.recv(_RESULT.size):
                lines, size = _RESULT.unpack(result)
                return None if lines == _FAILED else Encoded(lines, self._memory[slot][:size])
        return None

    def close(self) -> None:
        """Let the process end."""
        self._socket.close()
        for memory in self._memory:
            memory.close()

    def join(self) -> None:
        """Wait until it has ended."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(work: Work, orders: socket.socket, callers: socket.socket, memory: list[mmap.mmap]) -> NoReturn:
    """Work until the caller has ended, in the forked process. It never returns."""
    try:
        callers.close()
        while order := orders.recv(_ORDER.size):
            slot, size = _ORDER.unpack(order)
            orders.send(_RESULT.pack(*_done(work, memory[slot], size)), socket.MSG_NOSIGNAL)
    finally:
        os._exit(0)


def _done(work: Work, memory: mmap.mmap, size: int) -> tuple[int, int]:
    import pickle

    try:
        lines, data = encode(work(pickle.loads(memory[:size])))
        memory[: len(data)] = data
    except Exception:  # noqa: BLE001  the caller tries it again, and reports the error
        return _FAILED, 0
    return lines, len(data)
