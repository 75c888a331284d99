"""
Fluent Forward: a byte stream to batches and losses.

Plan. Frames that are whole in the received data are cut there: PackedForward by the declared length, the others by
msgpack's `skip`. A frame that is not whole becomes an `Arriving`, which scans no byte twice. Message frames that begin
with the same bytes and want no acknowledgement are gathered into one batch, one slice each. A frame of more than
`INLINE_BYTES` is returned as `Unopened`, like a payload that takes long to open. Every batch has been checked.

Always true:
- a fault does not lose what precedes it: earlier items are returned first, then one `Loss`;
- half a frame costs its own bytes, and a slow sender costs no more than a fast one;
- one `receive` takes a few milliseconds at most: its work is limited by `WORK_MAX`, and the next call does the rest;
- a fault inside a frame whose end is known costs that frame; a fault in the framing is fatal;
- a frame over the limit costs that frame if its length is declared (PackedForward); otherwise it is fatal.

Not here: the parts of a frame (hub.wire.frame), its payload (hub.wire.payload), the handshake (a Unix socket has file
permissions).
Source: Fluent Forward protocol v1 and v1.5; the traffic of real clients: fluentd, Fluent Bit, Docker, Go, Python, Node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgpack

from hub import entries as codec
from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.arriving import Arriving
from hub.wire.frame import (
    FRAME_BYTES_MAX,
    INLINE_BYTES,
    NO_OPTION,
    UNPACK_FAULTS,
    Incomplete,
    Malformed,
    Option,
    Outer,
    find_fault,
    is_array,
    oversize_reason,
    read_array,
    read_option,
    read_outer,
    why_not,
)
from hub.wire.output import Output
from hub.wire.payload import Unopened
from hub.wire.repeated import Repeats
from hub.wire.runs import MessageRun, count_good, cut_at_once
from hub.wire.scanner import end_of_objects

WORK_MAX = 1000
"""
Maximum work of one `receive`, in frames of any kind. A frame costs 2 to 6 µs, including a little for its bytes. One
read of our own producers holds 20 frames, or 1,500 of one message each.
"""
_OPTION_BYTES_A_FRAME = 64  # foreign options are read pair by pair, at most 50 ns a byte
_RUN_MAX = 10_000  # Message frames that begin like the one before, per call: 0.3 µs each
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
        self._rest = b""  # received, not decoded yet
        self._half = b""  # the beginning of a frame whose outside is not whole
        self._needed = 0  # bytes of it that must be held before it is read again
        self._arriving: Arriving | None = None
        self._may_cut = False  # whether to try to cut many messages at once; tried once per arrival
        self._output = Output(peer, origin, frame_bytes_max)

    @property
    def held_bytes(self) -> int:
        """Number of bytes held: half a frame, and received bytes that are not decoded yet."""
        arriving = self._arriving.held_bytes if self._arriving is not None else 0
        return len(self._half) + len(self._rest) + arriving

    @property
    def has_more(self) -> bool:
        """Whether `receive` has work to do without new bytes."""
        return bool(self._rest)

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Unopened]:
        """
        Return the items that *data* completes, or the first part of them. Do not call it again after a fatal loss.
        """
        self._may_cut = bool(data)
        self._output.work = WORK_MAX
        at = 0
        if self._rest:
            data, self._rest = self._rest + data, b""
        try:
            if self._arriving is not None:
                data, at = self._go_on(self._arriving, data, 0)
            elif len(self._half) + len(data) < self._needed:
                self._half, data = self._half + data, b""
            else:
                data, self._half, self._needed = self._half + data, b"", 0
            self._decode(data, at)
        except Malformed as fault:
            begin = self._arriving.begin() if self._arriving is not None else b""
            self._fail(fault, (begin + data)[:64])
        return self._output.take()

    def finish(self) -> Sequence[Batch | Loss | Unopened]:
        """Return everything that is left, including the loss of half a frame at the end of the stream."""
        items: list[Batch | Loss | Unopened] = []
        while self._rest:
            items += self.receive(b"")
        if self._arriving is not None:
            items.append(self._arriving.half_loss())
        elif self._half:
            half = self._half
            items.append(Loss("half a frame at the end of the stream", lost_bytes=len(half), sample=half[:64]))
        self._arriving, self._half = None, b""
        return items

    # Frames that are not whole.

    def _begin(self, data: bytes, at: int, outer: Outer) -> tuple[bytes, int]:
        """Take the available bytes of the frame at *at*. Return the data and the offset to continue with."""
        arriving = Arriving(data, at, outer, self._frame_bytes_max)
        rest, place = self._go_on(arriving, data, arriving.start)
        # Otherwise the scanner found an end where `skip` did not, and this would loop for ever.
        assert rest is data or not rest
        return rest, place

    def _go_on(self, arriving: Arriving, data: bytes, at: int) -> tuple[bytes, int]:
        """Take the bytes from *at* on that belong to the frame. Return the data and the offset to continue with."""
        self._output.work -= 1
        at = arriving.take(data, at)
        if not arriving.is_whole:
            self._arriving = arriving
            self._rest = data[at:]  # not empty if the scanner reached its limit for one call
            return b"", 0
        if not arriving.is_declared and arriving.held_bytes <= INLINE_BYTES:
            self._arriving = None
            return arriving.take_all(memoryview(data)[at:]), 0
        option = arriving.option()
        self._arriving = None
        if arriving.is_oversize:
            self._output.add_loss(arriving.oversize_loss(option))
        elif arriving.is_declared:
            size = arriving.body.held_bytes
            self._output.add_packed(arriving.tag, arriving.body.take_parts(), size, option)
        else:
            self._output.add_large(arriving, option)
        return data, at

    # Whole frames.

    def _decode(self, data: bytes, at: int) -> None:
        """Cut the frames from *at* on, up to the work limit. Hold the bytes that follow."""
        try:
            while at < len(data):
                if self._output.work <= 0:
                    self._rest = data[at:]
                    return
                if data[at] == _NIL:
                    at = _match_nils(data, at).end()  # type: ignore[union-attr]  # it matches at least one
                    continue
                self._output.work -= 1
                if (frame := self._repeats.next(data, at, self._frame_bytes_max)) is not None:
                    self._output.add_payload(frame.tag, memoryview(data)[frame.payload], frame.option)
                    at = frame.end
                    continue
                outer = read_outer(data, at)
                cut = self._run if outer.packed is None else self._packed_frame
                data, at = cut(data, at, outer)
        except Incomplete as incomplete:
            self._half, self._needed = data[at:], incomplete.needed
        except Malformed as fault:
            self._fail(fault, data[at : at + 64])

    def _packed_frame(self, data: bytes, at: int, outer: Outer) -> tuple[bytes, int]:
        """
        Cut the PackedForward frame at *at*, or take its available bytes. Return the data and the offset to continue
        with.
        """
        assert outer.packed is not None
        option, end = NO_OPTION, outer.packed.stop
        if len(data) < end + (outer.size == 3):
            return self._begin(data, at, outer)
        if outer.size == 3:
            try:
                option, end = read_option(data, outer.packed.stop)
            except Incomplete:
                return self._begin(data, at, outer)
            self._repeats.note(data, at, outer)
            self._output.work -= (end - outer.packed.stop) // _OPTION_BYTES_A_FRAME
        tag, payload = data[outer.tag], memoryview(data)[outer.packed]
        if outer.packed.stop - at > self._frame_bytes_max:
            reason = oversize_reason(self._frame_bytes_max)
            self._output.add_lost(reason, tag, [payload], len(payload), option)
        else:
            self._output.add_packed(tag, [payload], len(payload), option)
        return data, end

    def _run(self, data: bytes, at: int, outer: Outer) -> tuple[bytes, int]:
        """
        Cut the frames from *at* on where msgpack's `skip` finds their ends. Gather plain Message frames.

        Return the data and the offset to continue with.
        """
        begin = at
        if self._may_cut:
            at = self._many_messages(data, at, outer)
        window = memoryview(data)[at : at + INLINE_BYTES]
        unpacker = msgpack.Unpacker(read_size=len(window), max_buffer_size=INLINE_BYTES)  # it allocates `read_size`
        unpacker.feed(window)
        start, run = at, MessageRun()
        skip, tell, is_next = unpacker.skip, unpacker.tell, data.startswith
        try:
            for _ in range(_RUN_MAX):
                skip()
                end = start + tell()
                if is_next(run.prefix, at):
                    run.slices.append(data[at + run.cut : end])
                else:
                    run = self._frame(data, at, end, run, outer if at == begin else None)
                    self._output.work -= 1
                at = end
                if self._output.work <= 0:
                    break
            else:
                self._output.work = 0
            self._add_run(run)
        except msgpack.OutOfData:
            self._add_run(run)
            if at == start:
                return self._begin(data, at, read_outer(data, at))
        except UNPACK_FAULTS as error:
            self._add_run(run)
            self._fail(Malformed(why_not(error)), data[at : at + 64])
            return b"", 0
        except Malformed as fault:
            self._add_run(run)
            self._fail(fault, data[at : at + 64])
            return b"", 0
        return data, at

    def _many_messages(self, data: bytes, at: int, outer: Outer) -> int:
        """
        Cut the plain Message frames of one tag at *at* if there are many. Return the offset where the rest begins.
        """
        self._may_cut = False
        if outer.size == 3 and not is_array(data[outer.body]) and len(data) <= self._frame_bytes_max:
            many = cut_at_once(data, at, data[at : outer.body + 1])
            if many is not None:
                entries, count, at = many
                self._output.add(data[outer.tag], entries, count, None)
                self._output.work -= count // _CUT_AT_ONCE_A_FRAME
                self._may_cut = True
        return at

    def _frame(self, data: bytes, at: int, end: int, run: MessageRun, outer: Outer | None) -> MessageRun:
        """Cut one whole frame, whose outside may be known. Return the run that the next frame may continue."""
        if data[at] == _NIL:
            return run
        outer = outer or read_outer(data, at)
        tag = data[outer.tag]
        if outer.packed is not None:
            self._add_run(run)
            self._packed_frame(data, at, outer)
            return MessageRun()
        if end - at > self._frame_bytes_max:
            raise Malformed(oversize_reason(self._frame_bytes_max))
        if is_array(data[outer.body]):
            self._add_run(run)
            self._add_forward(tag, data, outer, end)
            return MessageRun()
        return self._message(tag, data, outer, at, end, run)

    def _message(self, tag: bytes, data: bytes, outer: Outer, at: int, end: int, run: MessageRun) -> MessageRun:
        if outer.size < 3:
            raise Malformed("an array of two that is no Forward frame")
        stop, option = end, NO_OPTION
        if outer.size == 4:
            stop = end_of_objects(data, outer.body, end, 2)
            if data[stop:end] != b"\x80":  # Go's logger always sends a map, usually this one
                option = self._read_option(data, stop)
        if option.chunk_id is not None or run.tag != tag:
            self._add_run(run)
            run = MessageRun(tag)
        run.slices.append(data[outer.body : stop])
        if option.chunk_id is not None:
            self._add_run(run, option.chunk_id)
            return MessageRun()
        if outer.size == 3 and len(data) <= self._frame_bytes_max:  # so that all frames in *data* are within the limit
            # The prefix includes the first byte of the time. So whatever begins with it is a Message frame too.
            run.prefix, run.cut = data[at : outer.body + 1], outer.body - at
        return run

    def _read_option(self, data: bytes, at: int) -> Option:
        option, end = read_option(data, at)
        self._output.work -= (end - at) // _OPTION_BYTES_A_FRAME
        return option

    def _add_run(self, run: MessageRun, chunk_id: bytes | None = None) -> None:
        """Emit the gathered Message frames as one batch."""
        slices, run.slices = run.slices, []
        if not slices:
            return
        entries = b"\x92".join((codec.array_header(len(slices)), *slices))
        if codec.is_well_formed(entries):
            self._output.add(run.tag, entries, len(slices), chunk_id)
            return
        good = count_good(slices)
        if good:
            entries = b"\x92".join((codec.array_header(good), *slices[:good]))
            self._output.add(run.tag, entries, good, None)
        raise Malformed(find_fault(b"\x92" + slices[good]), slices[good][:64], chunk_id)

    def _add_forward(self, tag: bytes, data: bytes, outer: Outer, end: int) -> None:
        start, count = read_array(data, outer.body)
        stop = end_of_objects(data, start, end, count)
        option = self._read_option(data, stop) if outer.size == 3 else NO_OPTION
        self._output.add_payload(
            tag, memoryview(data)[start:stop], Option(option.chunk_id, count, option.compressed, option.signal)
        )

    def _fail(self, fault: Malformed, sample: bytes) -> None:
        """End the stream here. Everything from the fault on is one loss."""
        self._rest = self._half = b""
        self._arriving = None
        reason = f"malformed Forward frame: {fault.reason}"
        self._output.add_loss(Loss(reason, sample=fault.sample or sample, chunk_id=fault.chunk_id, fatal=True))
