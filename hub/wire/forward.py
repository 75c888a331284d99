"""
Fluent Forward: a byte stream to batches and losses.

Plan. Frames that are whole in the received data are cut there: PackedForward by the declared length, the others by
msgpack's `skip`. A frame that is not whole becomes an `Arriving`, which scans no byte twice. Message frames that begin
with the same bytes and want no acknowledgement are gathered into one batch, one slice each. A frame of more than
`INLINE_BYTES` is returned as `Unopened`, like a payload that takes long to open. Every batch has been checked. The
pieces of one message of Docker's are joined (hub.wire.pieces).

Calls go one way: `receive` decodes, finds the end of a frame (`_cut`) or takes what has arrived of it (`_begin`), and
adds its content to the output (`_add`). Each step moves `_at`. A fault is raised where it is found, and reported by
`receive`, at `_at`.

Always true:
- a fault does not lose what precedes it: earlier items are returned first, then one `Loss`;
- half a frame costs its own bytes, and a slow sender costs no more than a fast one;
- one `receive` takes a few milliseconds at most: its work is limited by `WORK_MAX`, and the next call does the rest;
- a fault inside a frame whose end is known costs that frame, as does a tag over the limit; a fault in the framing is
  fatal;
- a frame over the limit costs that frame if its length is declared (PackedForward); otherwise it is fatal.

Not here: the parts of a frame (hub.wire.frame), its payload (hub.wire.payload), the handshake (a Unix socket has file
permissions).
Source: Fluent Forward protocol v1 and v1.5; the traffic of real clients: fluentd, Fluent Bit, Docker, Go, Python, Node.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from operator import itemgetter

from hub import entries as codec
from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire import pieces
from hub.wire.arriving import Arriving
from hub.wire.frame import (
    FRAME_BYTES_MAX,
    INLINE_BYTES,
    NO_OPTION,
    Frame,
    Incomplete,
    LongTag,
    Malformed,
    Option,
    find_fault,
    is_array,
    oversize_reason,
    read_array,
    read_frame,
    read_option,
)
from hub.wire.longtag import LongTagged
from hub.wire.output import Output
from hub.wire.payload import Unopened
from hub.wire.repeated import Repeats
from hub.wire.runs import MessageRun, count_good, cut_at_once
from hub.wire.scanner import end_of_objects, object_ends

WORK_MAX = 1000
"""
Maximum work of one `receive`, in frames of any kind. A frame costs 2 to 6 µs, including a little for its bytes. One
read of our own producers holds 20 frames, or 1,500 of one message each.
"""
_OPTION_BYTES_A_FRAME = 64  # foreign options are read pair by pair, at most 50 ns a byte
_PIECE_WORK = 16  # a piece of Docker's with as many fields as it may have: 30 to 60 µs
_RUN_MAX = 10_000  # Message frames that begin like the one before, looked for at once
_RUN_A_FRAME = 16  # such frames: 0.3 µs each
_CUT_AT_ONCE_A_FRAME = 32  # Message frames cut at once: 0.1 µs each
_NIL = 0xC0
_match_nils = re.compile(b"\xc0+").match


class ForwardDecoder:
    """
    Cuts a byte stream into batches and losses. Feed it with `receive`, and call `finish` at the end of the stream.

    While `has_more` is true, let other connections run, then call ``receive(b"")``.
    """

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._repeats = Repeats()
        self._data = b""  # received, not decoded yet
        self._at = 0  # how far it is decoded; 0 between two calls
        self._needed = 0  # bytes that must have arrived before it is read again: its frame's headers are not whole
        self._arriving: Arriving | LongTagged | None = None
        self._may_cut = False  # whether to try to cut many messages at once; tried once per arrival
        self._run = MessageRun()
        self._output = Output(peer, origin, frame_bytes_max)
        self._pieces = pieces.Pieces()
        self._released: Sequence[tuple[bytes, bytes]] = ()  # pieces that no longer wait, for the next `receive`

    @property
    def held_bytes(self) -> int:
        """Number of bytes held: half a frame, pieces of a message, and received bytes that are not decoded yet."""
        arriving = self._arriving.held_bytes if self._arriving is not None else 0
        return len(self._data) + arriving + self._pieces.held_bytes

    @property
    def has_more(self) -> bool:
        """Whether `receive` has work to do without new bytes."""
        return bool(self._released) or (len(self._data) > 0 and len(self._data) >= self._needed)

    @property
    def waits(self) -> bool:
        """Whether pieces of a message wait for the others (hub.wire.pieces)."""
        return self._pieces.held_bytes > 0

    def release(self, *, everything: bool = False) -> None:
        """Let `receive` return the pieces that have waited since the last call, or all."""
        self._released = [*self._released, *self._pieces.release(everything=everything)]

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Unopened]:
        """
        Return the items that *data* completes, or the first part of them. Do not call it again after a fatal loss.
        """
        self._may_cut = bool(data)
        self._output.work = WORK_MAX
        if self._released:
            released, self._released = self._released, ()
            self._add_tagged(released)
        self._data += data
        if len(self._data) < self._needed:
            return self._output.take()
        self._needed = 0
        try:
            self._decode()
        except Incomplete as incomplete:
            self._needed = max(incomplete.needed, len(self._data) - self._at + 1)
        except LongTag as long:
            self._arriving, self._at = LongTagged(long, self._frame_bytes_max), long.start
        except Malformed as fault:
            self._fail(fault)
        self._data, self._at = self._data[self._at :], 0
        return self._output.take()

    def finish(self) -> Sequence[Batch | Loss | Unopened]:
        """Return everything that is left, including the loss of half a frame at the end of the stream."""
        items: list[Batch | Loss | Unopened] = []
        while self.has_more:
            items += self.receive(b"")
        if self.waits:
            self.release(everything=True)
            items += self.receive(b"")
        if self._arriving is not None:
            items.append(self._arriving.half_loss())
        elif self._data:
            half = self._data
            items.append(Loss("half a frame at the end of the stream", lost_bytes=len(half), sample=half[:64]))
        self._arriving, self._data, self._needed = None, b"", 0
        return items

    def limit(self, frame_bytes_max: int) -> None:
        """Change the limit, for all frames but one that is arriving."""
        self._frame_bytes_max = self._output.frame_bytes_max = frame_bytes_max

    def _decode(self) -> None:
        """Decode up to the work limit. Raises Incomplete, LongTag, Malformed."""
        while self._at < len(self._data) and self._output.work > 0:
            data, at = self._data, self._at
            if self._arriving is not None:
                self._take_arriving(self._arriving, at)
            elif data[at] == _NIL:
                self._at = _match_nils(data, at).end()  # type: ignore[union-attr]  # it matches at least one
                continue
            elif (repeated := self._repeats.next(data, at, self._frame_bytes_max)) is not None:
                self._output.add_payload(repeated.tag, memoryview(data)[repeated.payload], repeated.option)
                self._at = repeated.end
            else:
                self._cut(read_frame(data, at))
            self._output.work -= 1

    def _fail(self, fault: Malformed) -> None:
        """End the stream here. Everything from the fault on is one loss."""
        self._add_tagged(self._pieces.release(everything=True))
        begin = self._arriving.begin() if self._arriving is not None else b""
        sample = fault.sample or (begin + self._data[self._at : self._at + 64])[:64]
        self._data, self._at, self._arriving = b"", 0, None
        reason = f"malformed Forward frame: {fault.reason}"
        self._output.add_loss(Loss(reason, sample=sample, chunk_id=fault.chunk_id, fatal=True))

    # The ends of frames.

    def _cut(self, frame: Frame) -> None:
        """Cut *frame*, and frames after it that are cut with it."""
        if frame.packed is not None:
            self._cut_declared(frame, frame.packed.stop)
        elif not self._cut_many(frame):
            self._cut_one_by_one(frame)

    def _cut_declared(self, frame: Frame, stop: int) -> None:
        """Cut a PackedForward frame whose payload ends at *stop*."""
        if len(frame.data) < stop + (frame.size == 3):
            self._begin(frame)
            return
        try:
            option, end = self._read_option(frame.data, stop) if frame.size == 3 else (NO_OPTION, stop)
        except Incomplete:
            self._begin(frame)
        else:
            self._add_packed(frame, option)
            self._at = end

    def _cut_many(self, frame: Frame) -> bool:
        """Cut the plain Message frames of one tag at once if there are many. Return whether there are."""
        may_cut, self._may_cut = self._may_cut, False
        if not may_cut or frame.size != 3 or not frame.is_message or not self._is_within_limit(frame.data):
            return False
        many = cut_at_once(frame.data, frame.at, frame.data[frame.at : frame.body + 1])
        if many is None:
            return False
        entries, count, self._at = many
        self._output.add(frame.tag, entries, count, None)
        self._output.work -= count // _CUT_AT_ONCE_A_FRAME
        self._may_cut = True
        return True

    def _cut_one_by_one(self, frame: Frame) -> None:
        """Cut frames where msgpack's `skip` finds their ends."""
        data, at, run = frame.data, frame.at, self._run
        is_next = data.startswith
        try:
            for end in object_ends(data, at, INLINE_BYTES, _RUN_MAX):
                if is_next(run.prefix, at):
                    run.slices.append(data[at + run.cut : end])
                else:
                    if data[at] != _NIL:
                        self._add_whole(frame if at == frame.at else read_frame(data, at), end)
                    self._output.work -= 1
                self._at = at = end
                if self._output.work <= 0:
                    break
        finally:
            self._add_run()
        if at == frame.at:
            self._begin(frame)

    def _begin(self, frame: Frame) -> None:
        """Take what has arrived of a frame that is not whole."""
        arriving = Arriving(frame, self._frame_bytes_max)
        self._take_arriving(arriving, arriving.start)
        # Otherwise the scanner found an end where `skip` did not, and this would loop for ever.
        assert self._data is frame.data

    def _take_arriving(self, arriving: Arriving | LongTagged, at: int) -> None:
        """Take the bytes from *at* on that belong to the frame, and its content if it is whole."""
        at = arriving.take(self._data, at)
        if not arriving.is_whole:
            self._arriving, self._at = arriving, at
            self._output.work = 0  # everything is taken, or the scanner reached its limit for one call
        elif isinstance(arriving, Arriving) and not arriving.is_declared and arriving.held_bytes <= INLINE_BYTES:
            self._arriving = None
            self._data, self._at = arriving.take_all(memoryview(self._data)[at:]), 0
        else:
            option = arriving.option()
            self._arriving, self._at = None, at
            self._add_arrived(arriving, option)

    def _read_option(self, data: bytes, at: int) -> tuple[Option, int]:
        """Read the options at *at*. Return them and the offset of their end. Raises Incomplete, Malformed."""
        option, end = read_option(data, at)
        self._output.work -= (end - at) // _OPTION_BYTES_A_FRAME
        return option, end

    def _is_within_limit(self, data: bytes) -> bool:
        """Return whether every frame in *data* is within the limit, without a look at each."""
        return len(data) <= self._frame_bytes_max

    # Their content.

    def _add_arrived(self, arriving: Arriving | LongTagged, option: Option) -> None:
        if isinstance(arriving, LongTagged) or arriving.is_lost:
            self._output.add_loss(arriving.loss(option))
        elif arriving.is_declared:
            size = arriving.body.held_bytes
            self._output.add_packed(arriving.tag, arriving.body.take_parts(), size, option)
        else:
            self._output.add_large(arriving, option)

    def _add_whole(self, frame: Frame, end: int) -> None:
        """Add the content of any frame that ends at *end*."""
        if frame.packed is not None:
            self._add_run()
            option = self._read_option(frame.data, frame.packed.stop)[0] if frame.size == 3 else NO_OPTION
            self._add_packed(frame, option)
        elif end - frame.at > self._frame_bytes_max:
            raise Malformed(oversize_reason(self._frame_bytes_max))
        elif is_array(frame.data[frame.body]):
            self._add_run()
            self._add_forward(frame, end)
        else:
            self._add_message(frame, end)

    def _add_packed(self, frame: Frame, option: Option) -> None:
        assert frame.packed is not None
        self._repeats.note(frame)
        payload = memoryview(frame.data)[frame.packed]
        if frame.packed.stop - frame.at > self._frame_bytes_max:
            reason = oversize_reason(self._frame_bytes_max)
            self._output.add_lost(reason, frame.tag, [payload], len(payload), option)
        else:
            self._output.add_packed(frame.tag, [payload], len(payload), option)

    def _add_forward(self, frame: Frame, end: int) -> None:
        start, count = read_array(frame.data, frame.body)
        stop = end_of_objects(frame.data, start, end, count)
        option = self._read_option(frame.data, stop)[0] if frame.size == 3 else NO_OPTION
        self._output.add_payload(
            frame.tag,
            memoryview(frame.data)[start:stop],
            option._replace(size=count, is_own=False),
        )

    def _add_message(self, frame: Frame, end: int) -> None:
        """Add a Message frame to the run, or as a batch of its own if it wants an acknowledgement."""
        if frame.size < 3:
            raise Malformed("an array of two that is no Forward frame")
        data, run, stop, chunk_id = frame.data, self._run, end, None
        if frame.size == 4:
            stop = end_of_objects(data, frame.body, end, 2)
            if data[stop:end] != b"\x80":  # Go's logger always sends a map, usually this one
                chunk_id = self._read_option(data, stop)[0].chunk_id
        if chunk_id is not None or run.tag != frame.tag:
            self._add_run()
            run.begin(frame.tag)
        run.slices.append(data[frame.body : stop])
        if frame.size == 4:
            run.has_options = True
            if pieces.MARK in run.slices[-1]:  # work for `_add_run`, which does not stop in the middle
                self._output.work -= _PIECE_WORK
        if chunk_id is not None:
            self._add_run(chunk_id)
        elif frame.size == 3 and self._is_within_limit(data):
            # The prefix includes the first byte of the time. So whatever begins with it is a Message frame too.
            run.prefix, run.cut = data[frame.at : frame.body + 1], frame.body - frame.at

    def _add_run(self, chunk_id: bytes | None = None) -> None:
        """Add the gathered Message frames as one batch. Raises Malformed at the first fault in them."""
        if not self._run.slices:
            return
        may_be_pieces = self._run.has_options and chunk_id is None
        tag, slices = self._run.tag, self._run.take()
        self._output.work -= len(slices) // _RUN_A_FRAME
        entries = b"\x92".join((codec.array_header(len(slices)), *slices))
        if codec.is_well_formed(entries):
            if may_be_pieces and pieces.MARK in entries:
                self._add_tagged(self._pieces.take(tag, entries))
            else:
                self._output.add(tag, entries, len(slices), chunk_id)
            return
        good = count_good(slices)
        if good:
            entries = b"\x92".join((codec.array_header(good), *slices[:good]))
            self._output.add(tag, entries, good, None)
        raise Malformed(find_fault(b"\x92" + slices[good]), slices[good][:64], chunk_id)

    def _add_tagged(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Add checked entries, each with its tag."""
        for tag, group in itertools.groupby(entries, itemgetter(0)):
            alike = [entry for _, entry in group]
            self._output.add(tag, codec.join(alike, len(alike)), len(alike), None)
