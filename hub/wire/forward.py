"""
Fluent Forward: a byte stream to batches and losses.

Plan. A frame's end is found first: by its declared length, so that a partial one is waited for and not looked at, or by
msgpack's `skip`, which resumes where it stopped. Then the whole frame is cut up. Message frames that begin with the
same bytes and want no acknowledgement are gathered into one batch, a slice each. Whatever becomes a batch has been
checked: nesting, lengths, count (hub.entries.is_well_formed).

Always true:
- nothing before a fault is lost by it: what came before is given first, then one `Loss`;
- half a frame costs its own bytes, and a slow sender costs no more than a fast one;
- a fault inside a frame whose end is known costs that frame; a fault in the framing is fatal;
- a frame over the limit costs that frame if its length is declared (PackedForward), else it is fatal.

Not here: the anatomy of a frame (hub.wire.frame), its payload (hub.wire.payload), the handshake (a Unix socket has file
permissions).
Source: Fluent Forward protocol v1 and v1.5; what clients really send: fluentd, Fluent Bit, Docker, Go, Python, Node.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence

import msgpack

from hub import entries as codec
from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.compression import METHODS
from hub.wire.frame import (
    FRAME_BYTES_MAX,
    NO_OPTION,
    OPTION_BYTES_MAX,
    UNPACK_FAULTS,
    Incomplete,
    Malformed,
    Option,
    Outer,
    is_array,
    look_why_not,
    read_array,
    read_option,
    read_outer,
    why_not,
)
from hub.wire.oversize import Oversize, oversize_reason
from hub.wire.parts import Parts
from hub.wire.payload import Compressed, open_payload, payload_loss
from hub.wire.repeated import Repeats
from hub.wire.runs import Run, cut_at_once

_RESCAN_BYTES = 64 << 10  # a longer half frame is scanned on where it stopped, not again from its start
_NIL = 0xC0


class ForwardDecoder:
    """Cut a byte stream into batches and losses. Feed it with `receive`, and say `finish` at the end of the stream."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._peer = peer
        self._origin = origin
        self._frame_bytes_max = frame_bytes_max
        self._repeats = Repeats()
        self._half = Parts()
        self._needed = 0  # worth looking again when so many bytes are held
        self._scanner: msgpack.Unpacker | None = None  # in the middle of something long whose length nobody declared
        self._scanned_max = 0  # and which is too long if it does not end before so many bytes are held
        self._oversize: Oversize | None = None
        self._units: list[Batch | Loss | Compressed] = []

    @property
    def held_bytes(self) -> int:
        """How many bytes of a half frame are held."""
        return self._half.held_bytes

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Compressed]:
        """Return what *data* completes. After a fatal loss the decoder must not be fed again."""
        self._units = []
        try:
            if self._oversize is not None:
                if not self._finish_oversize(data):
                    return self._units
                data = self._half.take()
            elif self._half.held_bytes:
                if not self._is_worth_looking(data):
                    return self._units
                data = self._half.take()
            self._decode(data)
        except Malformed as fault:
            self._fail(fault, data[:64])
        return self._units

    def finish(self) -> Sequence[Batch | Loss | Compressed]:
        """Return the loss of the half frame that the stream ended in, if it did."""
        if self._oversize is not None:
            return [self._oversize.loss(NO_OPTION)]
        if not self._half.held_bytes:
            return []
        tail = self._half.take()
        return [Loss("half a frame at the end of the stream", lost_bytes=len(tail), sample=tail[:64])]

    # Half frames.

    def _hold(self, tail: bytes, needed: int) -> None:
        """Hold *tail*, while nothing else is held, until *needed* bytes are there, and one more than now at least."""
        if tail:
            self._half.add(tail)
            self._needed = max(needed, len(tail) + 1)

    def _hold_scanning(self, tail: bytes, start: int, held_max: int) -> None:
        """Hold a half frame until the object at *start* of it is whole, or cannot be, or *held_max* bytes are held."""
        self._hold(tail, 0)
        if len(tail) <= _RESCAN_BYTES:
            return
        self._scanner = msgpack.Unpacker(max_buffer_size=held_max)
        self._scanned_max = held_max
        self._scanner.feed(memoryview(tail)[start:])
        with contextlib.suppress(msgpack.OutOfData, *UNPACK_FAULTS):  # not whole, as before; it goes on from here
            self._scanner.skip()

    def _is_worth_looking(self, data: bytes) -> bool:
        self._half.add(data)
        if self._half.held_bytes < self._needed:
            return False
        if self._scanner is not None and self._half.held_bytes <= self._scanned_max:
            try:
                self._scanner.feed(data)
                self._scanner.skip()
            except msgpack.OutOfData:
                return False
            except UNPACK_FAULTS:
                pass  # found again, and said, by those who take the frame apart
        self._scanner = None
        return True

    # Whole frames.

    def _decode(self, data: bytes) -> None:
        at, end = 0, len(data)
        try:
            while at < end:
                if data[at] == _NIL:
                    at += 1
                    continue
                if (frame := self._repeats.next(data, at, self._frame_bytes_max)) is not None:
                    payload, at = memoryview(data)[frame.payload], frame.end
                    self._units += open_payload(frame.tag, payload, frame.option, self._peer, self._origin)
                    continue
                outer = read_outer(data, at)
                if outer.packed is None:
                    self._decode_run(data, at)
                    return
                at = self._packed_frame(data, at, outer)
        except Incomplete as incomplete:
            self._hold(data[at:], incomplete.needed)
        except Malformed as fault:
            self._fail(fault, data[at : at + 64])

    def _packed_frame(self, data: bytes, at: int, outer: Outer) -> int:
        """Cut up the PackedForward frame at *at*, or hold what is there of it; return where it ends."""
        assert outer.packed is not None
        stop: int = outer.packed.stop
        is_oversize = stop - at > self._frame_bytes_max
        option, end = NO_OPTION, stop
        try:
            if len(data) < stop + (outer.size == 3):
                raise Incomplete(stop + (outer.size == 3) - at)
            if outer.size == 3:
                option, end = read_option(data, stop)
                self._repeats.note(data, at, outer)
        except Incomplete as incomplete:
            if is_oversize:
                self._begin_oversize(data, outer)
            elif incomplete.needed:
                self._hold(data[at:], incomplete.needed)
            else:
                self._hold_scanning(data[at:], stop - at, stop - at + OPTION_BYTES_MAX)
            return len(data)
        self._add_packed(data, at, outer, option)
        return end

    def _decode_run(self, data: bytes, at: int) -> None:
        """Cut up the frames from *at* on by msgpack's own idea of where each ends; gather plain Message frames."""
        at = self._many_messages(data, at)
        unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
        unpacker.feed(memoryview(data)[at:])
        start, run = at, Run()
        skip, tell, is_next = unpacker.skip, unpacker.tell, data.startswith
        try:
            while True:
                skip()
                end = start + tell()
                if is_next(run.prefix, at):
                    run.slices.append(data[at + run.cut : end])
                else:
                    run = self._frame(data, at, end, run)
                at = end
        except msgpack.OutOfData:
            self._add_run(run)
            if at > start:
                self._decode(data[at:])  # this half frame may be of the kind that declares its length
            elif len(data) - at > self._frame_bytes_max:
                self._fail(Malformed(oversize_reason(self._frame_bytes_max)), data[at : at + 64])
            else:
                self._hold_scanning(data[at:], 0, self._frame_bytes_max)
        except UNPACK_FAULTS as error:
            self._add_run(run)
            self._fail(Malformed(why_not(error)), data[at : at + 64])
        except Malformed as fault:
            self._add_run(run)
            self._fail(fault, data[at : at + 64])

    def _many_messages(self, data: bytes, at: int) -> int:
        """Cut up the plain Message frames of one tag at *at*, if there are many; return where the rest begins."""
        outer = read_outer(data, at)
        if outer.size == 3 and not is_array(data[outer.body]) and len(data) <= self._frame_bytes_max:
            many = cut_at_once(data, at, data[at : outer.body + 1])
            if many is not None:
                entries, count, at = many
                self._add(data[outer.tag], entries, count, None)
        return at

    def _frame(self, data: bytes, at: int, end: int, run: Run) -> Run:
        """Cut up one whole frame; return the run that the next frame may continue."""
        if data[at] == _NIL:
            return run
        outer = read_outer(data, at)
        tag = data[outer.tag]
        if outer.packed is not None:
            self._add_run(run)
            self._packed_frame(data, at, outer)
            return Run()
        if end - at > self._frame_bytes_max:
            raise Malformed(oversize_reason(self._frame_bytes_max))
        if is_array(data[outer.body]):
            self._add_run(run)
            self._add_forward(tag, data, outer, end)
            return Run()
        return self._message(tag, data, outer, at, end, run)

    def _message(self, tag: bytes, data: bytes, outer: Outer, at: int, end: int, run: Run) -> Run:
        if outer.size < 3:
            raise Malformed("an array of two that is no Forward frame")
        stop, option = end, NO_OPTION
        if outer.size == 4:
            stop = _end_of_objects(data, outer.body, end, 2)
            if data[stop:end] != b"\x80":  # Go's logger always sends a map, and mostly this one
                option = read_option(data, stop)[0]
        if option.chunk is not None or run.tag != tag:
            self._add_run(run)
            run = Run(tag)
        run.slices.append(data[outer.body : stop])
        if option.chunk is not None:
            self._add_run(run, option.chunk)
            return Run()
        if outer.size == 3 and len(data) <= self._frame_bytes_max:  # so that all frames here are within the limit
            # The time's first byte is part of the prefix: what begins so is a Message frame too.
            run.prefix, run.cut = data[at : outer.body + 1], outer.body - at
        return run

    # Batches.

    def _add_run(self, run: Run, chunk: bytes | None = None) -> None:
        """Give the gathered Message frames as one batch."""
        slices, run.slices = run.slices, []
        if not slices:
            return
        entries = b"\x92".join((codec.array_header(len(slices)), *slices))
        if codec.is_well_formed(entries):
            self._add(run.tag, entries, len(slices), chunk)
            return
        good = 0
        while codec.is_well_formed(codec.join((b"\x92", slices[good]), 1)):
            good += 1
        if good:
            self._add(run.tag, b"\x92".join((codec.array_header(good), *slices[:good])), good, None)
        raise Malformed(look_why_not(b"\x92" + slices[good]), slices[good][:64], chunk)

    def _add_forward(self, tag: bytes, data: bytes, outer: Outer, end: int) -> None:
        start, count = read_array(data, outer.body)
        stop = _end_of_objects(data, start, end, count)
        option = read_option(data, stop)[0] if outer.size == 3 else NO_OPTION
        counted = option._replace(size=count)
        self._units += open_payload(tag, memoryview(data)[start:stop], counted, self._peer, self._origin)

    def _add_packed(self, data: bytes, at: int, outer: Outer, option: Option) -> None:
        """Give the payload of the whole PackedForward frame at *at*, or word of it."""
        assert outer.packed is not None
        tag, payload = data[outer.tag], memoryview(data)[outer.packed]
        if outer.packed.stop - at > self._frame_bytes_max:
            reason = oversize_reason(self._frame_bytes_max)
        elif option.signal:
            reason = f"not a log but fluent_signal {option.signal}"
        elif option.compressed in (None, "text"):
            self._units += open_payload(tag, payload, option, self._peer, self._origin)
            return
        elif option.compressed in METHODS:
            limit = self._frame_bytes_max
            self._units.append(Compressed(tag, bytes(payload), option, self._peer, self._origin, limit))
            return
        else:
            reason = f"compressed as {option.compressed[:32]!r}, which this hub does not read"
        self._units.append(payload_loss(reason, tag, payload, option))

    def _add(self, tag: bytes, entries: bytes, count: int, chunk: bytes | None) -> None:
        if count or chunk is not None:
            self._units.append(Batch(tag, entries, count, chunk, self._peer, self._origin, crc=zlib.crc32(entries)))

    def _fail(self, fault: Malformed, sample: bytes) -> None:
        """End the stream here: everything from the fault on is one loss."""
        self._half.take()
        reason = f"malformed Forward frame: {fault.reason}"
        self._units.append(Loss(reason, sample=fault.sample or sample, chunk=fault.chunk, fatal=True))

    # Frames over the limit: their payload is let go as it comes, their options are read, for the chunk id.

    def _begin_oversize(self, data: bytes, outer: Outer) -> None:
        assert outer.packed is not None
        size = outer.packed.stop - outer.packed.start
        self._oversize = Oversize(size, data[outer.tag], outer.size == 3, self._frame_bytes_max)
        self._hold(self._oversize.swallow(data[outer.packed.start :]), 0)

    def _finish_oversize(self, data: bytes) -> bool:
        """Let the payload go, read the options behind it; True when they are whole: what follows them is then held."""
        assert self._oversize is not None
        self._half.add(self._oversize.swallow(data))
        if self._oversize.left:
            return False
        data = self._half.take()
        option, end = NO_OPTION, 0
        if self._oversize.has_option:
            try:
                option, end = read_option(data, 0)
            except Incomplete:
                self._hold(data, 0)
                return False
        self._units.append(self._oversize.loss(option))
        self._oversize = None
        self._hold(data[end:], 0)
        return True


def _end_of_objects(data: bytes, at: int, end: int, count: int) -> int:
    """Return where the *count* objects at *at* end; they are known to end before *end*."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(end - at, 1))
    unpacker.feed(memoryview(data)[at:end])
    for _ in range(count):
        unpacker.skip()
    return at + int(unpacker.tell())
