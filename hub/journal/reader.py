"""
Reads a journal forward, from any process. Only read permission is needed.

Always true:
- sequences rise, and no message is returned twice;
- missing sequences are never skipped silently: they are returned as a `Gap`;
- blocks without messages are passed over, except with *with_empty*; messages that have expired by rule are passed over
  too, and are not missing;
- `read` can be called again, and continues where it stopped.

Not here: which messages are wanted (hub.query.query), waiting for more (hub.journal.journal).
Source: FORMAT.md, "Reading".
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Callable, Iterator

import msgspec

from hub.errors import JournalTooNew, JournalUnusable
from hub.journal.block import VERSION, Block
from hub.journal.files import DiskFiles, Files
from hub.journal.hole import Limits, Place
from hub.journal.seal import NAME as SEAL_NAME
from hub.journal.seal import is_sealed, read_seal
from hub.journal.segment import SEQUENCE_MAX, Segment, list_segments
from hub.message import LOSS_TAG, UNKNOWN_PEER, Batch, Loss, Message

FIRST_NAMES = frozenset({"lock", "new.tmp", "lost+found"})
"""The files that a hub makes before the first segment, and what an empty disk holds."""
_TIME_MAX = (1 << 64) - 1
_REASON = "damaged, or expired before it was read"


class Gap(msgspec.Struct, frozen=True):
    """
    Sequences that are no longer in the journal: *count* of them from *sequence* on, the reason, and the place.
    *received* is about when they were received, and none of them was before *earliest* (0: it is not known).
    """

    sequence: int
    count: int
    reason: str
    place: str
    received: int
    earliest: int = 0

    def as_batch(self) -> Batch:
        """Return the gap as a loss at its first sequence, for callers that read messages."""
        loss = Loss(f"{self.reason} ({self.place})", self.count, tag=b"")
        batch = loss.as_batch(peer=UNKNOWN_PEER)
        return Batch(LOSS_TAG, batch.entries, 1, None, UNKNOWN_PEER, None, self.sequence, self.received)


def last_sequence_of(message: Message) -> int:
    """Return the last sequence that *message* stands for: the loss that a gap is shown as stands for all of it."""
    if message.tag != LOSS_TAG.decode() or message.peer != UNKNOWN_PEER or message.home is not None:
        return message.sequence
    reason, count = message.record.get("reason"), message.record.get("count")
    if isinstance(reason, str) and reason.startswith(f"{_REASON} (") and isinstance(count, int):
        return message.sequence + count - 1
    return message.sequence


def open_reader(folder: str, *, after: int = 0, since: int | None = None) -> Reader:
    """
    Return a reader of the journal in *folder* that begins after sequence *after*.

    *since* is a time of receipt in nanoseconds; older segments are skipped. Raises JournalUnusable if no journal exists
    or it cannot be read.
    """
    if not has_journal(folder):
        raise JournalUnusable(folder, "there is no journal here (is --journal right? has a hub run?)")
    files = DiskFiles(folder)
    try:
        if since is not None:
            after = max(after, sequence_before(files, since))
    except OSError as error:
        raise JournalUnusable(folder, f"cannot be read: {error.strerror}") from error
    return Reader(files, after=after, path=folder)


def has_journal(folder: str) -> bool:
    """
    Return whether *folder* holds a journal. False: a hub can begin one there, or is about to.

    Raises JournalUnusable if it cannot be read, or holds other files and no journal.
    """
    files = DiskFiles(folder)
    try:
        names = set(files.list())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalUnusable(folder, f"cannot be read: {error.strerror}") from error
    if SEAL_NAME in names or list_segments(files):
        return True
    if names - FIRST_NAMES:
        raise JournalUnusable(folder, "this folder holds other files and no journal (is --journal right?)")
    return False


def sequence_before(files: Files, received: int) -> int:
    """
    Return a sequence that precedes every message received at *received* or later. Binary search over the segments.
    """
    firsts = list_segments(files)

    def begun(index: int) -> int:
        for first in firsts[index:]:  # a damaged or deleted segment takes the time of the next one
            with contextlib.suppress(FileNotFoundError), Segment(files, first) as segment:
                if segment.header is not None:
                    return segment.header.received
        return _TIME_MAX

    index = bisect.bisect_left(range(len(firsts)), received, key=begun)
    return firsts[index - 1] - 1 if index else 0


class Reader:
    """
    Reads the batches whose last message has a sequence above *after*.

    *committed* returns the last sequence that may be read; readers in the hub use it. Other readers see everything that
    is written. *with_empty*: return also batches without messages, and a gap of 0 for damage that has cost no message.
    *hint*: the place of the block that begins after *after*, if it is known.
    """

    def __init__(
        self,
        files: Files,
        *,
        after: int = 0,
        path: str = "",
        committed: Callable[[], int] | None = None,
        with_empty: bool = False,
        hint: Place | None = None,
    ) -> None:
        self._files = files
        self._path = path
        self._hint = hint
        self._with_empty = with_empty
        self._committed = committed or (lambda: SEQUENCE_MAX)
        self._may_see_half = committed is None
        self._half: Place | None = None  # where a follower has found half a block
        self._expected = after + 1
        self._has_begun = after > 0  # until then, expired messages are not a gap
        self._hub_id: bytes | None = None  # of the last segment whose header was readable
        self._segment: Segment | None = None
        self._place = Place(0, 0, 0)  # in this segment
        self._limits = Limits()  # of this segment; without a next segment, with the seal of a journal closed in order
        self._received = self._earliest = 0  # bounds of the time of receipt of what comes next
        self.expired: int = 0
        """Messages that were passed over because they have expired by rule."""

    @property
    def last_sequence(self) -> int:
        """The last sequence that was returned or skipped."""
        return self._expected - 1

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def read(self, *, follow: bool = False) -> Iterator[Batch | Gap]:
        """
        Yield what the journal holds now. *follow*: more is expected, so zeros at the end are not searched for damage,
        and half a block not at once.
        """
        while self._segment is not None or self._enter(self._expected):
            assert self._segment is not None
            yield from self._read_segment(self._segment, follow=follow)
            if not self._leave():
                break
        if (seal := self._limits.seal) is not None:  # a journal closed in order contained all of these
            if self._with_empty and is_sealed(seal, self._place.segment, self._place.offset):
                yield from self._damage(seal.next_sequence, "at the end of the journal")
            yield from self._gap(seal.next_sequence, "at the end of the journal")

    def _read_segment(self, segment: Segment, *, follow: bool) -> Iterator[Batch | Gap]:
        yield from self._gap(segment.first_sequence, f"before {segment.name}")
        self._earliest = self._received
        committed = self._committed()
        while True:
            yield from self._read_run(segment, committed)
            block = segment.block_at(self._place.offset)
            is_resumed = block is None
            if block is None:
                block = self._resume(segment, follow=follow)
            if block is None or self._limits.excludes(block):
                return  # the end, or blocks after the end of a segment that was given up
            # A block without messages is known to be committed when the next message is.
            if max(block.sequence, block.next_sequence - 1) > committed:
                segment.forget()  # it may be withdrawn, and other bytes written in its place
                return
            # With a damaged header, the first block is searched for from offset 0, and nothing before it is missing.
            if is_resumed and self._with_empty and block.offset > self._place.offset > 0:
                yield from self._damage(block.sequence, f"{segment.name} before offset {block.offset}")
            if block.sequence > self._expected:
                yield from self._gap(block.sequence, f"{segment.name} before offset {block.offset}")
            following = block.next_sequence
            is_new = following > self._expected
            is_wanted = is_new or (self._with_empty and not block.count)
            batch = segment.batch(block) if is_wanted and not block.is_expired else None
            if is_new and block.is_expired:
                self.expired += following - self._expected
            elif is_new and batch is None:
                yield from self._gap(following, f"{segment.name} at offset {block.offset}")
            # The state is updated before the yield: a caller that stops here gets the next batch next time.
            self._has_begun = True
            if is_new:
                self._expected = following
            self._received = self._earliest = block.received
            self._place = self._place.after(block)
            if batch is not None:
                yield batch

    def _read_run(self, segment: Segment, committed: int) -> Iterator[Batch]:
        """Yield what there is nothing to decide about: whole blocks that were read together and follow each other."""
        following, first = self._limits.next_segment, segment.first_sequence
        below = committed + 1 if following is None else min(committed + 1, following)
        for end, batch in segment.run(self._place.offset, self._expected, below):
            self._has_begun = True
            self._expected = expected = batch.sequence + batch.count
            self._received = self._earliest = batch.received
            self._place = Place(first, end, expected)
            yield batch

    def _resume(self, segment: Segment, *, follow: bool) -> Block | None:
        """At a place without a block: return the next whole block if the place is damaged, or None at the end."""
        if follow and not self._limits.is_committed(self._place):
            if segment.is_zero_at(self._place.offset):
                return None
            if self._may_see_half and self._half != self._place:
                self._half = self._place  # probably a commit that is being written; the next read searches the file
                return None
        return segment.examine(self._place, self._limits).block

    def _leave(self) -> bool:
        """Move to the next segment, if one exists."""
        assert self._segment is not None
        if self._segment.is_replaced:
            return self._go_to_form()
        following = self._following(self._segment)
        if following is None or following - 1 > self._committed():
            return False  # not all of this segment is committed yet
        if following != self._limits.next_segment:
            self._limits = Limits(following)
            return True  # read again: now that the next segment exists, nothing more is written here
        if self._segment.first_sequence in list_segments(self._files):
            self._has_begun = True  # it has not expired, so its unreadable messages are a gap
        return self._go_to(following)

    def _go_to_form(self) -> bool:
        """
        Move to the file that has the name now: the same segment in another form, or one that begins where this one had
        to be given up.
        """
        assert self._segment is not None
        header, place = self._segment.header, self._place
        if not self._go_to(self._segment.first_sequence):
            return False
        if header is not None and header == self._segment.header:
            self._place = place
        return True

    def _go_to(self, sequence: int) -> bool:
        self.close()
        return self._enter(sequence)

    def _enter(self, sequence: int) -> bool:
        """Open the segment that contains *sequence*, or the oldest one after it."""
        while firsts := list_segments(self._files):
            first = firsts[max(bisect.bisect_right(firsts, sequence) - 1, 0)]
            try:
                segment = Segment(self._files, first)
            except FileNotFoundError:  # expired after it was listed
                continue
            except OSError as error:
                raise JournalUnusable(self._path, f"cannot be read: {error.strerror}") from error
            self._open(segment, firsts)
            return True
        return False

    def _open(self, segment: Segment, firsts: list[int]) -> None:
        header = segment.header
        if header is not None and header.version > VERSION:
            segment.close()
            raise JournalTooNew(self._path, header.version, VERSION)
        if header is not None:
            self._hub_id = header.hub_id
            self._received = max(self._received, header.received)  # a gap may be the first that is found
        elif self._hub_id is None:
            try:
                self._hub_id = self._any_hub_id(firsts)
            except BaseException:
                segment.close()
                raise
        segment.identify(self._hub_id)
        self._segment, self._place = segment, segment.start
        if self._expected > segment.first_sequence and self._has_begun:
            is_hinted = self._hint is not None and self._hint[::2] == (segment.first_sequence, self._expected)
            self._place = self._hint if self._hint and is_hinted else segment.skip_to(self._expected)
        following = self._following(segment)
        seal = read_seal(self._files) if following is None else None
        self._limits = Limits(following, seal if seal is not None and seal.hub_id == self._hub_id else None)
        if segment.first_sequence > self._expected and not self._has_begun:
            self._expected = segment.first_sequence

    def _any_hub_id(self, firsts: list[int]) -> bytes:
        for first in firsts:
            with contextlib.suppress(FileNotFoundError), Segment(self._files, first) as segment:
                if segment.header is not None:
                    return segment.header.hub_id
        if (seal := read_seal(self._files)) is not None:
            return seal.hub_id
        raise JournalUnusable(self._path, "no segment has a readable header (move the folder away, or restore it)")

    def _following(self, segment: Segment) -> int | None:
        firsts = list_segments(self._files)
        index = bisect.bisect_right(firsts, segment.first_sequence)
        return firsts[index] if index < len(firsts) else None

    def _damage(self, sequence: int, place: str) -> Iterator[Gap]:
        """Yield a gap of 0 if *sequence* is the expected one: damage there has cost no message."""
        if sequence == self._expected:
            yield Gap(sequence, 0, "damaged", place, self._received, self._earliest)

    def _gap(self, sequence: int, place: str) -> Iterator[Gap]:
        """Yield the gap between the expected sequence and *sequence*, if any."""
        missing = sequence - self._expected
        if missing > 0:
            first, self._expected = self._expected, sequence
            yield Gap(first, missing, _REASON, place, self._received, self._earliest)
