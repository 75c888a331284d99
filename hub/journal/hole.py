"""
Places of a journal, and what a place without a whole block is: the end, a torn commit, or damage.

Always true: everything here is pure. It decides from blocks that were found, and reads nothing.
Not here: finding the blocks (hub.journal.segment); what follows from the decision (hub.journal.recovery,
hub.journal.reader).
Source: FORMAT.md, "Recovery", step 5, and "Reading".
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from hub.journal.block import ENTRY_BYTES_MIN, Block
from hub.journal.seal import Seal, is_sealed


class Hole(Enum):
    """What a place without a whole block is."""

    END = "end"
    """The end of the journal: nothing was written here."""
    TORN = "torn"
    """A commit that was cut off, or is being written. None of it was acknowledged."""
    DAMAGE = "damage"
    """A block that was acknowledged is not readable."""


class Place(NamedTuple):
    """
    An offset in the segment that begins with the sequence *segment*. A block there would have *sequence*.
    """

    segment: int
    offset: int
    sequence: int

    def after(self, block: Block) -> Place:
        """Return the place after *block*, which is at this place or after it."""
        return Place(self.segment, block.end, block.next_sequence)


class Limits(NamedTuple):
    """
    What is known about the end of a segment: the first sequence of the next segment, None if there is none yet, and the
    seal of the journal, None if it is not known.
    """

    next_segment: int | None = None
    seal: Seal | None = None

    def is_committed(self, place: Place) -> bool:
        """Return whether a block at *place* must have been committed, if any block follows."""
        return self.next_segment is not None or is_sealed(self.seal, place.segment, place.offset)

    def excludes(self, block: Block) -> bool:
        """
        Return whether *block* does not count: its segment was given up, and the next one has its sequence.

        A block without messages has the sequence of the next message, so at the end of a segment it has that of the
        next segment, and counts. If it was given up with its segment, its positions are right all the same: they cover
        nothing but what needs no message.
        """
        return self.next_segment is not None and block.sequence >= self.next_segment + (not block.count)

    def may_follow(self, block: Block, place: Place) -> bool:
        """
        Return whether *block* can be a block of this segment after the damaged *place*. Otherwise it is quoted inside a
        message.

        Its sequence is not below the one expected at *place*, nor above what the bytes between can hold.
        """
        if self.next_segment is not None and block.next_sequence > self.next_segment:
            return False
        most = place.sequence + (block.offset - place.offset) // ENTRY_BYTES_MIN
        return place.sequence <= block.sequence <= most


def classify_hole(place: Place, following: Iterable[Block], *, is_committed: bool, is_blank: bool) -> Hole:
    """
    Return what *place* is, which has no whole block.

    *following* are the whole blocks after it, by offset; no more of them are taken than the decision needs. With
    *is_committed* (a sealed segment, or before the seal's offset) any of them proves damage. *is_blank*: only zeros, or
    the end of the file, are at *place*.

    Elsewhere the proof is a block of a later commit: that commit could only begin after the one at *place* was synced.
    If the first block after *place* lacks the beginning of its own commit, the same rule is applied to that beginning.
    """
    proved_after = None
    for block in following:
        if is_committed:
            return Hole.DAMAGE
        if proved_after is None:
            begins_between = place.offset < block.commit_offset < block.offset
            proved_after = block.commit_offset if begins_between else place.offset
        if block.commit_offset > proved_after:
            return Hole.DAMAGE
    return Hole.END if proved_after is None and is_blank else Hole.TORN
