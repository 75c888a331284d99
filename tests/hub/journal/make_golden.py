"""
Makes golden journals: `python -m tests.hub.journal.make_golden` writes golden/format-N for the format of this program,
and golden/packed-N, the same journal with its sealed segment packed and without what is under one of its tags.

Each golden journal was written once, by a hub of its format, and is never changed: test_journal_golden.py lets today's
hub read and continue it. Run this when block.VERSION has been raised, and commit the new folder beside the old ones.

The journal has two segments and a seal. It holds batches of two users, with chunk ids of our own, of other clients, and
without; rows of both deduplication tables in the snapshot of the second segment; an unverified peer; a commit of
several batches; from format 2 on positions, in batches with and without messages, of which some are in the snapshot,
one is replaced and one forgotten. expected.json describes the same, independent of the code that reads journals.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgpack
import msgspec

from hub import entries as codec
from hub.journal.block import VERSION
from hub.journal.files import DiskFiles
from hub.journal.rewriting import rewrite
from hub.journal.seal import Seal, write_seal
from hub.journal.segment import list_segments, segment_name
from hub.message import FORGET, Batch, Peer, Position, position_batches
from hub.wire import chunkid
from tests.hub.journal.world import NS, Life

FOLDER = Path(__file__).parent / "golden"
HUB_ID = bytes(range(100, 116))
ALICE, BOB = Peer(4321, 1000, 1000, "worker", True), Peer(77, 1001, 100, "naïve name", False)
SESSION = "golden-session-".ljust(chunkid.SESSION_LENGTH, "0")
FILES = Peer(0, 1000, -1, "files", False)
TIME = 1_750_000_000 * NS + 123_456_789


def _batch(tag: str, peer: Peer, chunk_id: bytes | None, *records: dict[str, Any]) -> Batch:
    parts = [codec.stamp(TIME + number) + msgpack.packb(record) for number, record in enumerate(records)]
    return Batch(tag.encode(), codec.join(parts, len(parts)), len(parts), chunk_id, peer)


def _read(position: Position, *records: dict[str, Any]) -> Batch:
    return msgspec.structs.replace(_batch("file.log", FILES, None, *records), positions=(position,))


COMMITS = [
    [_batch("app", ALICE, chunkid.pack_own(SESSION, 1), {"message": "first", "n": 1})],
    [
        _batch("app", ALICE, chunkid.pack_own(SESSION, 2), {"nested": {"list": [1, -2.5, None, True]}}, {"n": 3}),
        _batch("sys.log", BOB, chunkid.pack("text id"), {"message": "grüße 🙂"}),
        _batch("sys.log", BOB, chunkid.pack(b"\x00bytes\xff"), {"big": 2**63}, {}, {"x": "y" * 600}),
    ],
    [_batch("plain", BOB, None, {"message": "without a chunk id"})],
    [
        _read(Position(b"files:1", 40, b"/var/log/one"), {"message": "a line"}, {"message": "another"}),
        *position_batches([Position(b"files:2", 2**63 - 1, b"\x00\xff"), Position(b"files:3", 5)], peer=FILES),
    ],
    [_batch("app", ALICE, chunkid.pack_own(SESSION, 3), {"filling": "z" * 700})],  # does not fit: a new segment
    [_batch("app", BOB, chunkid.pack_own(SESSION, 1), {"message": "the session of another user"})],
    [_read(Position(b"files:1", 0, b"/var/log/one"), {"message": "after a truncation"})],
    position_batches([Position(b"files:3", FORGET), Position(b"import:4", 0)], peer=FILES),
]
POSITIONS = [["files:1", 0, b"/var/log/one".hex()], ["files:2", 2**63 - 1, "00ff"], ["import:4", 0, ""]]


EXPIRED = "sys.log"
"""The tag of the messages that the packed journal lacks."""


def write_packed(folder: Path) -> None:
    """Write the journal with its first segment rewritten, and its description, into the empty *folder*."""
    write(folder)
    files = DiskFiles(str(folder))
    first, following = list_segments(files)
    name = rewrite(files, first, following, has_expired=lambda batch: batch.tag == EXPIRED.encode())
    assert name is not None
    files.rename(name, segment_name(first))
    path = folder / "expected.json"
    description = json.loads(path.read_text(encoding="ascii"))
    description["batches"] = [each for each in description["batches"] if each["tag"] != EXPIRED]
    path.write_text(json.dumps(description, indent=1, ensure_ascii=True) + "\n", encoding="ascii")


def write(folder: Path) -> None:
    """Write the journal and its description into the empty *folder*."""
    files = DiskFiles(str(folder))
    write_seal(files, Seal(HUB_ID, 1, 0, 1))  # for the hub id, which would be random
    life = Life(files)
    described, sequence = [], 1
    for batches in COMMITS:
        commit = life.append(*batches)
        for batch in batches:
            if batch.count:
                described.append(_describe(batch, sequence, commit.received))
            sequence += batch.count
    life.writer.close()
    description = {"next_sequence": sequence, "positions": POSITIONS, "batches": described}
    text = json.dumps(description, indent=1, ensure_ascii=True)
    (folder / "expected.json").write_text(text + "\n", encoding="ascii")


def _describe(batch: Batch, sequence: int, received: int) -> dict[str, Any]:
    peer = batch.peer
    entries = msgpack.unpackb(bytes(batch.entries), ext_hook=lambda code, data: data.hex())
    return {
        "sequence": sequence,
        "received": received,
        "tag": batch.tag.decode(),
        "chunk_id": None if batch.chunk_id is None else batch.chunk_id.hex(),
        "peer": [peer.pid, peer.uid, peer.gid, peer.comm, peer.verified],
        "messages": [{"time": TIME + number, "record": record} for number, (_, record) in enumerate(entries)],
    }


def main() -> None:
    made = {FOLDER / f"format-{VERSION}": write, FOLDER / f"packed-{VERSION}": write_packed}
    missing = [folder for folder in made if not folder.exists()]
    if not missing:
        sys.exit(f"{FOLDER} has them; a golden journal is never made again")
    for folder in missing:
        folder.mkdir(parents=True)
        made[folder](folder)
        for path in sorted(folder.iterdir()):
            print(path.relative_to(FOLDER), path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
