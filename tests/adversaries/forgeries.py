"""
Attacks with the names and files of other users: spool files, chunk ids, sessions. The attacker may read the journal.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import msgpack

from hub.errors import JournalUnusable
from hub.journal.reader import Gap, Reader, open_reader
from hub.wire.chunkid import COUNTER_MAX, pack, pack_own, unpack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail
from hub.wire.spoolfile import ACKNOWLEDGED, FIRST, HEADER_BYTES, STATE, folder_beside, pack_header, segment_name
from producers.backlog import new_session
from tests.adversaries.stage import Stage

SPOOL_BYTES = 66 << 20
SMALL_FILES_MAX = 20_000
FORGED_AHEAD = 20
MANY_AT_ONCE = 500
MANY_MAX = 140_000
"""Maximum per act: more than twice the size of the hub's tables of sessions and of foreign ids."""
ENTRY = b"\x92\xc0\x81\xa1n\x00"


def _segment(session: str, frames: bytes, *, first: int = 1, acknowledged: int = 0) -> bytes:
    """Return a spool segment in a producer's format, with forged claims in its header."""
    header = bytearray(pack_header(session, os.getpid(), "forged"))
    for word, value in ((STATE, HEADER_BYTES + len(frames)), (FIRST, first), (ACKNOWLEDGED, acknowledged)):
        struct.pack_into("<Q", header, 8 * word, value)
    return bytes(header) + frames


def _frame(tag: str, packed_id: bytes, entries: bytes = ENTRY, count: int = 1) -> bytes:
    return encode_frame_head(tag.encode(), len(entries)) + entries + encode_frame_tail(packed_id, count)


def _place(stage: Stage, name: str, data: bytes) -> None:
    """Put a whole file into the spool folder."""
    folder = folder_beside(stage.socket)
    unseen = os.path.join(folder, f".{name}")
    try:
        with open(unseen, "wb") as file:
            file.write(data)
        os.chmod(unseen, 0o640)
        os.rename(unseen, os.path.join(folder, name))
    except OSError:
        stage.did["refused"] += 1
    else:
        stage.did["files"] += 1
        stage.did["bytes"] += len(data)


def acknowledged_spool(stage: Stage) -> Iterator[None]:
    """A spool file of 66 MiB with a million frames, all declared as acknowledged; a new one when it is gone."""
    session = new_session()
    one = _frame(stage.tag, pack_own(session, 0))
    before, after = one.split(b"%016x" % 0)
    frames = b"".join(before + b"%016x" % number + after for number in range(SPOOL_BYTES // len(one)))
    segment = _segment(session, frames, first=0, acknowledged=1 << 62)
    path = os.path.join(folder_beside(stage.socket), segment_name(session, 1))
    while True:
        yield
        while stage.goes_on():
            if not os.path.exists(path):
                _place(stage, segment_name(session, 1), segment)
            stage.pause(0.2)


def small_spools(stage: Stage) -> Iterator[None]:
    """Thousands of spool files of one message each, and files that are not spool files."""
    while True:
        yield
        for number in range(SMALL_FILES_MAX):
            if not stage.goes_on():
                break
            session = new_session()
            if number % 10:
                _place(stage, segment_name(session, 1), _segment(session, _frame(stage.tag, pack_own(session, 1))))
            else:
                _place(stage, stage.dice.choice(["core", f"{session}.lock.1", segment_name(session, 2)]), b"rubbish")
        while stage.goes_on():
            stage.pause(0.2)


def hard_links(stage: Stage) -> Iterator[None]:
    """Hard links in the spool folder to a world-writable file of root: its messages would count as root's."""
    while True:
        yield
        while stage.goes_on():
            session = new_session()
            with open(stage.facts["bait"], "wb") as bait:
                bait.write(_segment(session, _frame(stage.tag, pack_own(session, 1))))
            name = os.path.join(folder_beside(stage.socket), segment_name(session, 1))
            try:
                os.link(stage.facts["bait"], name)
                stage.did["links"] += 1
            except OSError:
                stage.did["refused"] += 1
            stage.pause(0.5)


def stolen_sessions(stage: Stage) -> Iterator[None]:
    """Spool files with the session of a producer that is about to die, which declare all of it as acknowledged."""
    while True:
        yield
        session = stage.facts["session"]
        stolen = _segment(session, _frame(stage.tag, pack_own(session, 1)), acknowledged=1 << 62)
        _place(stage, segment_name(session, 99), stolen)
        _place(stage, segment_name(session, 98), _segment(session, b"", first=1 << 62, acknowledged=1 << 62))
        while stage.goes_on():
            stage.pause(0.2)


def stolen_ids(stage: Stage) -> Iterator[None]:
    """Empty frames under the victims' tags, with the chunk ids that they use next and with their highest counter."""
    while True:
        yield
        try:
            reader = open_reader(stage.journal)
        except JournalUnusable:
            stage.did["unreadable"] += 1
            continue
        clients = stage.connect_many(1)
        while clients and stage.goes_on():
            forged = list(_forged(reader))
            stage.did["forged"] += len(forged)
            if forged and not stage.push({clients[0]: b"".join(forged)}, replies=True):
                clients = stage.connect_many(1)
            stage.pause(0.02)
        reader.close()
        for client in clients:
            client.close()


def _forged(reader: Reader) -> Iterator[bytes]:
    """Yield frames without messages for the chunks that the victims have sent since."""
    for batch in reader.read(follow=True):
        if isinstance(batch, Gap) or batch.chunk_id is None or not batch.tag.startswith(b"ordinary."):
            continue
        tag = batch.tag.decode()
        if own := unpack_own(batch.chunk_id):
            session = own[0].decode()
            yield from (_frame(tag, pack_own(session, number), b"", 0) for number in (own[1] + 1, COUNTER_MAX))
        else:
            name, _, number = msgpack.unpackb(batch.chunk_id).rpartition("-")
            for ahead in range(1, FORGED_AHEAD + 1):
                yield _frame(tag, pack(f"{name}-{int(number) + ahead}"), b"", 0)


def many_sessions(stage: Stage) -> Iterator[None]:
    """More sessions, and more foreign chunk ids, than the hub remembers for all users."""
    while True:
        yield
        clients = stage.connect_many(1)
        while clients and stage.goes_on() and stage.did["frames"] < MANY_MAX:
            ids = [_some_id(stage) for _ in range(MANY_AT_ONCE)]
            if not stage.push({clients[0]: b"".join(_frame(stage.tag, one) for one in ids)}, replies=True):
                clients = stage.connect_many(1)
            stage.did["frames"] += len(ids)
        while stage.pause(0.1):
            stage.read(*clients)
        for client in clients:
            client.close()


def _some_id(stage: Stage) -> bytes:
    if stage.dice.random() < 0.5:
        return pack_own(new_session(), 0)
    return pack(stage.dice.randbytes(12).hex())
