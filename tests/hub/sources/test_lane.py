"""hub.sources.lane: one user's datagrams wait at that user's expense, and hold up nobody else for long."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Gate, Rule, Rules
from hub.budget import FREE_BYTES
from hub.intake import Intake
from hub.message import LOSS_TAG, Peer
from hub.sources import lane as lanes
from hub.sources.lane import FILES_MAX, NO_ROOM, Arrived, Lane, entries_of
from tests.hub.clients import until
from tests.hub.sources.served import Receiving
from tests.hub.sources.test_passed import memfd


class Rig(Receiving):
    """An endpoint whose receiver takes batches only while `may_take` is set, which it is not at first."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.may_take.clear()
        self.receiving = asyncio.create_task(self.receive())

    def lane(self, uid: int, **options: Any) -> tuple[Lane, Intake]:
        peer = Peer(100 + uid, uid, uid, f"of {uid}")
        intake = self.endpoint.intake(peer, Gate(self.endpoint.access, peer, lambda: None))
        return Lane(intake.user, self.budget, options.get("tag"), options.get("bytes_max", 1 << 20)), intake

    async def close(self, *closing: Lane) -> None:
        for lane in closing:
            lane.close()
        await self.endpoint.stop(timeout=0)
        self.endpoint.close()
        self.may_take.set()
        await self.receiving
        assert self.budget.loose_bytes == 0


async def fill(lane: Lane, intake: Intake, size: int = 4000) -> int:
    """Add datagrams until there is no room; return their number."""
    count = 0
    while await lane.room():
        lane.add(Arrived(intake, b"<13>%d %s" % (count, b"x" * size), None))
        count += 1
        await asyncio.sleep(0)
    return count


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "WAIT_S", 0.02)
    monkeypatch.setattr(lanes, "LOOK_S", 0.005)


def test_order_and_tags(tmp_path: Path) -> None:
    """Datagrams come out in order, each in the name of its writer, by their shape; a tag is for all."""

    async def main() -> None:
        rig = Rig(tmp_path)
        rig.may_take.set()
        lane, intake = rig.lane(1)
        other = rig.endpoint.intake(Peer(7, 1, 1, "other"), intake.gate)
        for n in range(600):
            lane.add(Arrived(intake if n % 3 else other, b"<13>app: %d\n" % n, None))
        lane.add(Arrived(intake, b"MESSAGE=native\n", None))
        await until(lambda: len(rig.got) == 601)
        assert [message.record["message"] for message in rig.got] == [*map(str, range(600)), "native"]
        assert [message.peer.pid for message in rig.got[:4]] == [7, 101, 101, 7]
        assert {message.tag for message in rig.got[:-1]} == {"syslog"}
        assert rig.got[-1].tag == "journald"
        tagged, intake = rig.lane(1, tag=b"log")
        tagged.add(Arrived(intake, b"text", None))
        tagged.add(Arrived(intake, b"MESSAGE=native\n", None))
        await until(lambda: len(rig.got) == 603)
        assert [message.tag for message in rig.got[-2:]] == ["log", "log"]
        assert (lane.is_idle, tagged.is_idle) == (True, True)
        await rig.close(lane, tagged)

    asyncio.run(main())


def count_waits(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a lane waits for room."""
    waits, look = [0], lane._look

    async def counted() -> None:
        waits[0] += 1
        await look()

    monkeypatch.setattr(lane, "_look", counted)
    return waits


def test_a_full_lane_is_a_loss_and_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that fills its share with something else waits shortly, then loses; another user's lane has room."""

    async def main() -> None:
        rig = Rig(tmp_path, inbox_bytes_max=256 << 10)
        rig.may_take.set()
        lane, intake = rig.lane(1)
        greedy = rig.lane(1)[1]
        rig.budget.arrived(greedy.holding, 300 << 10)  # half a frame of the same user: nothing is in the inbox
        assert await lane.room()
        lane._count(FREE_BYTES)
        waits = count_waits(lane, monkeypatch)
        assert not await lane.room()
        assert waits[0] >= 1
        waits[0] = 0
        for _ in range(100):
            assert not await lane.room()
        assert waits[0] == 0, "within the window it waits no more"
        lane.lose(intake, NO_ROOM, 50)
        lane.lose(intake, NO_ROOM, 60)
        other, theirs = rig.lane(2)
        assert await other.room()
        other.add(Arrived(theirs, b"<13>fine", None))
        await until(lambda: len(rig.got) == 2)
        (loss,) = [message for message in rig.got if message.tag == LOSS_TAG.decode()]
        assert (loss.record["reason"], loss.record["count"], loss.record["bytes"]) == (NO_ROOM, 2, 110)
        rig.budget.keep(greedy.holding, 0)
        assert await lane.room()
        lane._count(lanes.LANE_BYTES_MAX)
        assert not await lane.room()
        await rig.close(lane, other)

    asyncio.run(main())


def test_a_disk_that_stands_still_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the receiver takes nothing from anybody, writers wait, for longer than the window."""

    async def main() -> None:
        rig = Rig(tmp_path, inbox_bytes_max=256 << 10)
        lane, intake = rig.lane(1)
        waits = count_waits(lane, monkeypatch)
        filling = asyncio.create_task(fill(lane, intake))
        await until(lambda: waits[0] >= 30)  # of `LOOK_S`: longer than `WAIT_S`
        assert not filling.done()
        rig.may_take.set()
        await until(lambda: len(rig.got) >= 500)
        assert not filling.done(), "there is room again"
        filling.cancel()
        await asyncio.wait((filling,))
        assert not any(message.tag == LOSS_TAG.decode() for message in rig.got)
        await until(lambda: lane.is_idle)
        await rig.close(lane)

    asyncio.run(main())


def test_files(tmp_path: Path) -> None:
    """A file is read on a thread, closed, and bounded; so is the number of files that wait."""

    async def main() -> None:
        rig = Rig(tmp_path)
        rig.may_take.set()
        lane, intake = rig.lane(1, bytes_max=1000)
        files = [io.FileIO(memfd(data)) for data in (b"MESSAGE=in a file\n", b"x" * 1001, b"any text")]
        for file in files:
            lane.add(Arrived(intake, b"", file))
        await until(lambda: len(rig.got) == 3)
        assert [message.tag for message in rig.got] == ["journald", LOSS_TAG.decode(), "syslog"]
        assert rig.got[1].record["reason"] == "a file over the limit of 1000 bytes"
        assert all(file.closed for file in files)
        many = [io.FileIO(memfd()) for _ in range(FILES_MAX + 2)]
        for file in many:
            lane.add(Arrived(intake, b"", file))
        await until(lambda: len(rig.got) == 3 + FILES_MAX + 1)
        assert rig.got[-1].record["count"] == 2
        assert all(file.closed for file in many)
        await rig.close(lane)

    asyncio.run(main())


def test_who_may_not_send(tmp_path: Path) -> None:
    """It is refused, and its files are closed, too."""

    async def main() -> None:
        rig = Rig(tmp_path, access=Access({"send": Rules(deny=(Rule.parse("uid:1"),))}))
        rig.may_take.set()
        lane, intake = rig.lane(1)
        file = io.FileIO(memfd())
        lane.add(Arrived(intake, b"", file))
        await until(lambda: rig.endpoint.metrics.refused)
        await until(lambda: lane.is_idle)
        assert file.closed
        await rig.close(lane)

    asyncio.run(main())


def test_a_closed_hub_and_a_fault_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane whose inbox is closed ends; one that fails is logged, and takes the next datagram."""

    async def main() -> None:
        rig = Rig(tmp_path)
        rig.may_take.set()
        lane, intake = rig.lane(1)
        monkeypatch.setattr(lanes, "entries_of", lambda data: 1 / 0)
        lane.add(Arrived(intake, b"one", None))
        await until(lambda: lane.is_idle)
        monkeypatch.undo()
        lane.add(Arrived(intake, b"two", None))
        await until(lambda: len(rig.got) == 1)
        rig.endpoint.inbox.close()
        file = io.FileIO(memfd())
        lane.add(Arrived(intake, b"three", None))
        lane.add(Arrived(intake, b"", file))
        await until(lambda: lane.is_idle)
        lane.add(Arrived(intake, b"", io.FileIO(memfd())))
        await rig.close(lane)
        assert file.closed

    asyncio.run(main())


def test_shapes() -> None:
    """A datagram is one of journald by its shape, else a line of syslog, whatever it is."""
    assert entries_of(b"MESSAGE=x\n")[0] == b"journald"
    for data in (b"<13>x", b"text", b"", b'{"a": 1}', b"\xff\0", b"<13>A=b\n"):
        assert entries_of(data)[0] == b"syslog"
