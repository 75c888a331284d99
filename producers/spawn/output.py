"""
The output of the children: pipes to lines to parcels, which are delivered.

    pipes ─▶ select, in the order in which they became readable ─▶ lines ─▶ merge ─▶ parcels ─▶ delivery

Always true:
- the lines of one stream keep their order;
- across streams, the one that became readable first is read first. Lines are in order if they are further apart than
  one wake-up and read (about 0.1 ms); closer lines may be grouped by stream, because a pipe does not record the time of
  a write;
- place and time of a message are those of its first byte: the child's other stream waits for a traceback that is not
  complete, at most `HOLD_MAX_S`, and for half a line, at most `IDLE_S`;
- while there is no room for data that was read, no stream is read.

Not here: starting children, and their ends (producers.spawn.supervisor), cutting (producers.spawn.lines), the order of
two streams (producers.spawn.merge), delivery of messages (producers.spawn.delivery).
"""

from __future__ import annotations

import asyncio
import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from hub.wire.multiline import Join, Moment
from producers.spawn.delivery import Delivery, Parcel
from producers.spawn.lines import LINE_BYTES_MAX, LineRun, Lines, pack
from producers.spawn.merge import Merge

READ_BYTES = 256 << 10
IDLE_S = 0.1
"""How long lines are held for others that may belong to them."""
HOLD_MAX_S = 1.0
"""
How long a message without its end is held (a traceback without its exception), and how long a child's other stream
waits for a message whose lines come one by one.
"""
DRAIN_BYTES_MAX = 16 << 20
"""
Maximum bytes read from a stream after its child has exited: more than a pipe holds, but bounded, because other
processes of its group may keep writing.
"""
_ROUNDS = 16  # reads before yielding to the loop


class OutputOptions(NamedTuple):
    """How the output is cut into messages."""

    join: Join = Join.AUTO
    line_bytes_max: int = LINE_BYTES_MAX


class _Stream:
    """One pipe of a child."""

    def __init__(self, child: ChildOutput, name: str, pipe: Any, options: OutputOptions) -> None:
        self.child = child
        self.name = name
        self.pipe = pipe
        self.fd: int = pipe.fileno()
        self.lines = Lines(join=options.join, line_bytes_max=options.line_bytes_max)
        self.flushing: asyncio.TimerHandle | None = None
        self.held: Moment | None = None  # the first byte of the message that is not complete
        self.held_at = 0.0  # when that was read, by the loop's clock


class ChildOutput:
    """The output of one life of the child *tag*."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.streams: list[_Stream] = []  # the open ones
        self.merge = Merge()


class Output:
    """Reads the output of all children, and gives it to *delivery*."""

    def __init__(self, delivery: Delivery, options: OutputOptions) -> None:
        self._delivery = delivery
        self._options = options
        self._streams: set[_Stream] = set()  # open ones, also of earlier lives: other processes may hold the write ends
        self._reads = 0
        self._selector = selectors.DefaultSelector()  # separate: it reports ready pipes in order, which a loop need not
        self._held: deque[Parcel] = deque()
        self._catching_up: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    def begin(self) -> None:
        """Read from now on, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._listen()

    def open(self, child: ChildOutput, process: subprocess.Popen[bytes]) -> None:
        """Read the pipes of *process*, one life of *child*."""
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            if pipe is None:
                continue
            stream = _Stream(child, name, pipe, self._options)
            child.streams.append(stream)
            self._streams.add(stream)
            self._selector.register(stream.fd, selectors.EVENT_READ, stream)

    def add(self, child: ChildOutput | None, parcel: Parcel) -> None:
        """Deliver *parcel* after what *child* has written by now."""
        if child is None:
            self._deliver(parcel)
            return
        child.merge.add(self._moment().number, parcel)
        self._release(child)

    def finish(self, child: ChildOutput) -> None:
        """Read what is left of a child that has exited."""
        if not self._held:
            self._readable()
        for stream in list(child.streams):
            self._drain(stream)

    async def finish_all(self) -> None:
        """Read what is left of all streams. Return when it is delivered."""
        for stream in list(self._streams):
            self._drain(stream)
        if self._catching_up is not None:
            await self._catching_up

    def close(self) -> None:
        """Read and deliver no more, and close the pipes."""
        if self._catching_up is not None:
            self._catching_up.cancel()
        self._loop.remove_reader(self._selector.fileno())
        for stream in self._streams:
            if stream.flushing is not None:
                stream.flushing.cancel()
            stream.pipe.close()
        self._selector.close()

    # Reading.

    def _listen(self) -> None:
        self._loop.add_reader(self._selector.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(_ROUNDS):
            events = self._selector.select(0)
            for key, _ in events:
                self._read(key.data)
            if not events or self._held:
                return

    def _read(self, stream: _Stream) -> int:
        """Read once. Return the number of bytes, 0 at the end or if there is no data now."""
        try:
            data = os.read(stream.fd, READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._close(stream)
            return 0
        self._take(stream, stream.lines.receive(data, self._moment()))
        return len(data)

    def _drain(self, stream: _Stream) -> None:
        left = DRAIN_BYTES_MAX
        while left > 0 and stream in self._streams and (size := self._read(stream)):
            left -= size
        self._take(stream, stream.lines.finish())

    def _close(self, stream: _Stream) -> None:
        self._take(stream, stream.lines.finish())
        self._selector.unregister(stream.fd)
        stream.child.streams.remove(stream)
        self._streams.remove(stream)
        stream.pipe.close()

    def _moment(self) -> Moment:
        self._reads += 1
        return Moment(self._reads, time.time_ns())

    def _take(self, stream: _Stream, runs: Sequence[LineRun]) -> None:
        child = stream.child
        tag = child.tag
        for run in runs:
            child.merge.add(
                run.moment.number, Parcel(tag, pack(run, stream.name), len(run.messages), run.messages, tag)
            )
        if stream.flushing is not None:
            stream.flushing.cancel()
            stream.flushing = None
        held = stream.lines.held_since
        if held != stream.held:
            stream.held, stream.held_at = held, self._loop.time()
        if held is not None:
            idle_s = HOLD_MAX_S if stream.lines.is_incomplete else IDLE_S
            stream.flushing = self._loop.call_later(idle_s, self._flush, stream)
        self._release(child)

    def _flush(self, stream: _Stream) -> None:
        """No data has come for a while: return the held lines, unless their continuation only waits to be read."""
        if self._catching_up is not None:
            stream.flushing = self._loop.call_later(IDLE_S, self._flush, stream)
            return
        before = stream.flushing
        self._readable()
        if stream.flushing is before and stream in self._streams:
            self._take(stream, stream.lines.flush())

    def _release(self, child: ChildOutput) -> None:
        """Deliver the messages of *child* that need not wait for one that began before them."""
        latest = self._loop.time() - HOLD_MAX_S
        held = [one.held.number for one in child.streams if one.held is not None and one.held_at > latest]
        for parcel in child.merge.release(held):
            self._deliver(parcel)

    # Delivering.

    def _deliver(self, parcel: Parcel) -> None:
        if not self._held and self._delivery.offer(parcel):
            return
        self._held.append(parcel)
        if self._catching_up is None:
            self._loop.remove_reader(self._selector.fileno())
            self._catching_up = self._loop.create_task(self._catch_up(), name="mpsr-catch-up")

    async def _catch_up(self) -> None:
        """Deliver the held parcels in a thread, where waiting blocks nothing else; then resume reading."""
        while self._held:
            await asyncio.to_thread(self._delivery.insist, self._held[0])
            self._held.popleft()
        self._catching_up = None
        self._listen()
