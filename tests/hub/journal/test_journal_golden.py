"""
hub.journal.journal: a new hub reads the journals of every older format, and continues them.

golden/format-N was written once by a hub of that format, with make_golden.py, and is never changed. expected.json says
what is in it; it was written from what the hub was given, not from what was read. golden/packed-N has a packed segment,
from which one tag has expired by rule.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub import entries as codec
from hub.journal.block import VERSION
from hub.journal.files import DiskFiles
from hub.journal.journal import Journal
from hub.journal.reader import Reader
from hub.journal.verify import verify
from hub.message import Batch, Peer
from tests.hub.journal.make_golden import EXPIRED, FOLDER, write
from tests.hub.journal.world import own

GOLDEN = sorted(FOLDER.glob("format-*"))


@pytest.fixture(params=[*GOLDEN, *sorted(FOLDER.glob("packed-*"))], ids=lambda folder: folder.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden journal."""
    return Path(shutil.copytree(request.param, tmp_path / "journal"))


def expected(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="ascii"))
    return value


def described(reader: Reader) -> list[dict[str, Any]]:
    """Return what is read, in the form of expected.json."""
    found = []
    for batch in reader.read():
        assert isinstance(batch, Batch)
        peer = batch.peer
        found.append(
            {
                "sequence": batch.sequence,
                "received": batch.received,
                "tag": batch.tag.decode(),
                "chunk_id": None if batch.chunk_id is None else batch.chunk_id.hex(),
                "peer": [peer.pid, peer.uid, peer.gid, peer.comm, peer.verified],
                "messages": [{"time": message.time, "record": message.record} for message in batch.messages()],
            }
        )
    reader.close()
    return found


def test_every_format_has_a_golden_journal() -> None:
    """There is one for each version that a hub has written."""
    assert [folder.name for folder in GOLDEN] == [f"format-{version}" for version in range(1, VERSION + 1)]


def test_a_packed_journal_is_one() -> None:
    """It has a packed segment, and messages that have expired by rule; the others are those of the plain one."""
    packed, plain = FOLDER / f"packed-{VERSION}", FOLDER / f"format-{VERSION}"
    assert [path.read_bytes()[:8] for path in sorted(packed.glob("*.seg"))] == [b"MPSRPAK\n", b"MPSRSEG\n"]
    kept = [each for each in expected(plain)["batches"] if each["tag"] != EXPIRED]
    assert expected(packed) == {**expected(plain), "batches": kept}
    assert verify(DiskFiles(str(packed))).expired == sum(
        len(each["messages"]) for each in expected(plain)["batches"] if each["tag"] == EXPIRED
    )


def test_an_old_journal_is_read(golden: Path) -> None:
    """Every message has its tag, time, record, sender, sequence and time of receipt; nothing is damaged."""
    files = DiskFiles(str(golden))
    assert described(Reader(files)) == expected(golden)["batches"]
    assert verify(files).faults == ()


def test_an_old_journal_is_continued(golden: Path) -> None:
    """A new hub keeps every message and position, recognises every resend, and continues the order."""
    before = expected(golden)

    async def continue_it() -> None:
        journal = await Journal.open(str(golden))
        try:
            assert journal.recovered.missing == journal.recovered.cut_bytes == 0
            assert journal.last_sequence == before["next_sequence"] - 1
            positions = [[each.name.decode(), each.number, each.detail.hex()] for each in journal.positions(b"")]
            assert sorted(positions) == before.get("positions", [])
            resends = [_as_sent(each) for each in before["batches"] if each["chunk_id"]]
            commit = await journal.append(resends)
            assert (commit.stored, commit.duplicates) == (0, len(resends))
            assert (await journal.append([own("new", 1)])).last_sequence == before["next_sequence"]
            *old, new = described(journal.read())
            assert old == before["batches"]
            assert new["sequence"] == before["next_sequence"]
        finally:
            await journal.close()

    asyncio.run(continue_it())
    assert verify(DiskFiles(str(golden))).faults == ()


def _as_sent(batch: dict[str, Any]) -> Batch:
    """Return the batch as its producer sends it again."""
    parts = [codec.stamp(each["time"]) + msgpack.packb(each["record"]) for each in batch["messages"]]
    entries = codec.join(parts, len(parts))
    return Batch(batch["tag"].encode(), entries, len(parts), bytes.fromhex(batch["chunk_id"]), Peer(*batch["peer"]))


def test_the_newest_format_is_still_written(tmp_path: Path) -> None:
    """Today's hub writes the bytes of the newest golden journal. Other bytes are another format, or need a reason."""
    write(tmp_path)
    newest = FOLDER / f"format-{VERSION}"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in newest.iterdir()
    }
