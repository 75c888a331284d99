"""
The claim of a client about the place of a chunk in a file that it imports: the option ``position`` of a frame.

    [name, start, before, end, after]

*name* identifies the file, *start* and *end* are where the chunk begins and ends in it, and *before* and *after* are
digests of the content up to there. The chunk is stored only if *start* and *before* are what the hub has committed for
this name; then *end* and *after* take their place, in the same commit. So it is stored once, no matter which client
sends it again, or when.

Always true: a client names no other rows than its own: the hub adds the user, as the kernel reports it. A claim of
another form, or of a client whose user is not verified, is ignored.
Not here: whether a chunk is stored (hub.journal.positions).
"""

from __future__ import annotations

from typing import NamedTuple

from hub.message import Peer, Position

NAME_BYTES_MAX = 64
DIGEST_BYTES_MAX = 32
_LENGTH = 5
_NUMBER_MAX = 1 << 63

Claim = tuple[bytes, int, bytes, int, bytes]


class Placed(NamedTuple):
    """The fields of a batch that name its place."""

    positions: tuple[Position, ...] = ()
    continues: Position | None = None


UNPLACED = Placed()


def read_claim(value: object) -> Claim | None:
    """Return the claim in the value of an option, or None."""
    if not isinstance(value, list) or len(value) != _LENGTH:
        return None
    name, start, before, end, after = (each.encode() if isinstance(each, str) else each for each in value)
    if not (type(name) is bytes and type(before) is bytes and type(after) is bytes):
        return None
    if not (type(start) is int and type(end) is int and 0 <= start < end < _NUMBER_MAX):
        return None
    if not 0 < len(name) <= NAME_BYTES_MAX or max(len(before), len(after)) > DIGEST_BYTES_MAX:
        return None
    return name, start, before, end, after


def place(claim: Claim | None, peer: Peer) -> Placed:
    """Return where a chunk with this claim belongs."""
    if claim is None or not has_places(peer):
        return UNPLACED
    name, start, before, end, after = claim
    row = prefix_of(peer.uid) + name
    return Placed((Position(row, end, after),), Position(row, start, before))


def has_places(peer: Peer) -> bool:
    """Return whether the kernel has identified the user of *peer*: others have no rows."""
    return peer.verified and peer.uid >= 0


def prefix_of(uid: int) -> bytes:
    """Return how the names of a user's rows begin."""
    return b"import:%d:" % uid
