"""hub.sources.kmsg: the kernel's log, with the real device, and with one whose records are overwritten."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Rule, Rules
from hub.errors import SourceError
from hub.message import Batch, Position
from hub.sources import kmsg
from hub.sources.kinds import KMSG, Kmsg, SourceTable
from hub.sources.kmsg import KmsgSource
from hub.sources.kmsgdevice import boot_id
from hub.sources.source import Lag
from hub.sources.values import Tag
from hub.wire.kmsg import RECORD_BYTES_MAX
from tests.hub.clients import Run, both_loops, until
from tests.hub.sources.repeated import Committed, Life, living


class Device:
    """A ring of records in the place of the kernel's: a reader that it overtakes gets EPIPE once."""

    def __init__(self, size: int = 50) -> None:
        self.records: deque[tuple[int, bytes]] = deque(maxlen=size)
        self.next = 0
        self.at = 0
        self.pipe = os.pipe()
        os.set_blocking(self.pipe[0], False)
        self._given: set[int] = set()

    def write(self, count: int = 1) -> None:
        """Write records, and wake the reader."""
        for _ in range(count):
            self.records.append((self.next, b"6,%d,%d,-;r%d\n" % (self.next, self.next, self.next)))
            self.next += 1
        os.write(self.pipe[1], b"x")

    def open(self) -> int:
        """Return a descriptor that reads from the oldest record on."""
        self.at = 0
        os.write(self.pipe[1], b"x")
        given = os.dup(self.pipe[0])
        self._given.add(given)
        return given

    def close(self) -> None:
        """Close what is open, also what a source that was killed has left."""
        for fd in self._given:
            with contextlib.suppress(OSError):
                if os.path.sameopenfile(fd, self.pipe[0]):
                    os.close(fd)
        for fd in self.pipe:
            os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        """Read the next record, as the kernel does."""
        assert size == RECORD_BYTES_MAX
        if not self.records or self.at >= self.next:
            with_nothing = os.read(fd, 1 << 16)
            assert with_nothing
            raise BlockingIOError
        first = self.records[0][0]
        if self.at < first:
            is_new, self.at = self.at == 0, first
            if not is_new:
                raise OSError(errno.EPIPE, "overwritten")
        record = self.records[self.at - first][1]
        self.at += 1
        return record

    def make(self, table: SourceTable, *others: Any) -> KmsgSource:
        """Return the source that reads it."""
        assert isinstance(table, Kmsg)
        return KmsgSource(table, *others, read=self.read)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device in the place of the kernel's."""
    made = Device()
    monkeypatch.setattr(kmsg, "open_device", made.open)
    yield made
    made.close()


def texts(*numbers: int) -> list[str]:
    """Return the texts of records."""
    return [f"r{number}" for number in numbers]


@both_loops
def test_the_real_device(run: Run, tmp_path: Path) -> None:
    """What a program writes to the kernel's log arrives once, across restarts, with the time and the sequence."""
    if not os.access(KMSG, os.R_OK | os.W_OK):
        pytest.skip(f"needs root: {KMSG} is not for this user, or not there")
    mark = f"mpsr test {time.time_ns()}"
    committed = Committed()

    def write(text: str) -> None:
        with open(KMSG, "wb", buffering=0) as file:
            file.write(f"<14>{text}\n".encode())

    async def main() -> None:
        async with living(tmp_path, committed, Kmsg(tag=Tag("kernel"))) as life:
            write(f"{mark} one")
            await until(lambda: f"{mark} one" in committed.texts)
            assert life.source.where == KMSG
        write(f"{mark} two")
        async with living(tmp_path, committed, Kmsg(tag=Tag("kernel"))) as life:
            await until(lambda: f"{mark} two" in committed.texts)
            await until(lambda: life.source.lag == Lag(messages=0))  # type: ignore[attr-defined]
        assert [text for text in committed.texts if mark in str(text)] == [f"{mark} one", f"{mark} two"]

    run(main())
    (message,) = [each for each in committed.messages if each.record["message"] == f"{mark} two"]
    assert (message.tag, message.record["facility"], message.record["level"]) == ("kernel", "user", "info")
    assert abs(message.time - time.time_ns()) < 60 * 10**9
    assert (message.peer.comm, message.peer.verified, message.peer.uid) == ("kmsg", False, -1)
    (position,) = committed.positions(b"kmsg:")
    assert position.name == b"kmsg:" + boot_id()
    numbers = [each.positions[0].number for each in committed.batches if each.positions]
    assert numbers == sorted(set(numbers))


@both_loops
def test_from_the_oldest_on(run: Run, device: Device, tmp_path: Path) -> None:
    """The first time all that the kernel has is read; what it has overwritten by then is no loss."""
    committed = Committed()
    device.write(60)

    async def main() -> None:
        async with living(tmp_path, committed, Kmsg(), make_source=device.make) as life:
            assert life.source.lag == Lag()  # type: ignore[attr-defined]
            await until(lambda: committed.texts == texts(*range(10, 60)))
            device.write()
            await until(lambda: committed.texts[-1:] == texts(60))
            assert life.source.lag == Lag(messages=0)  # type: ignore[attr-defined]
        assert committed.losses == []

    run(main())


@both_loops
def test_overwritten_records(run: Run, device: Device, tmp_path: Path) -> None:
    """They are counted exactly, while the hub runs and while it does not."""
    committed = Committed()

    async def main() -> None:
        async with living(tmp_path, committed, Kmsg(), make_source=device.make):
            device.write(5)
            await until(lambda: len(committed.texts) == 5)
            device.write(53)  # at once: 3 more than the ring holds
            await until(lambda: len(committed.texts) == 55)
        device.write(60)
        async with living(tmp_path, committed, Kmsg(), make_source=device.make):
            await until(lambda: len(committed.texts) == 105)
        assert [(loss["reason"], loss["count"], loss["tag"]) for loss in committed.losses] == [
            (kmsg.OVERWRITTEN, 3, "kmsg"),
            (kmsg.OVERWRITTEN, 10, "kmsg"),
        ]
        assert committed.texts == texts(*range(5), *range(8, 58), *range(68, 118))

    run(main())


@both_loops
def test_another_start_of_the_machine(run: Run, device: Device, tmp_path: Path) -> None:
    """What was overwritten before the hub came is a loss if a hub has read the kernel's log before."""
    committed = Committed()
    committed.commit(Batch(b"", b"\xdd\0\0\0\0", 0, positions=(Position(b"kmsg:another", 9),)))
    device.write(60)

    async def main() -> None:
        async with living(tmp_path, committed, Kmsg(), make_source=device.make):
            await until(lambda: len(committed.texts) == 50)
        assert committed.lost == 10

    run(main())


def test_a_history(device: Device, tmp_path: Path) -> None:
    """Writes, kills, stops, and a hub that commits nothing for a while: each record once, or counted in a loss."""

    async def main(seed: int) -> None:
        chance, committed, first = random.Random(seed), Committed(), device.next
        committed.commit(Batch(b"", b"\xdd\0\0\0\0", 0, positions=(position(first - 1),) if first else ()))
        life = Life(tmp_path, committed, Kmsg(), device.make)
        for _ in range(30):
            step = chance.choice(("write", "write", "kill", "stop", "pause", "go on"))
            if step == "write":
                device.write(chance.choice((1, 10, 70)))
            elif step in ("kill", "stop"):
                await (life.kill() if step == "kill" else life.stop())
                life = Life(tmp_path, committed, Kmsg(), device.make)
            elif step == "pause":
                life.may_commit.clear()
            else:
                life.may_commit.set()
            for _ in range(chance.choice((0, 5, 50))):
                await asyncio.sleep(0)
        device.write()
        life.may_commit.set()
        await until(lambda: committed.texts[-1:] == texts(device.next - 1), f"seed {seed}")
        await life.stop()
        numbers = [int(text[1:]) for text in committed.texts]
        assert numbers == sorted(set(numbers)), seed
        assert len(numbers) + committed.lost == device.next - (first or numbers[0]), seed

    for seed in range(20):
        asyncio.run(asyncio.wait_for(main(seed), 60))


def position(number: int) -> Position:
    """Return the position after a record."""
    return Position(b"kmsg:" + boot_id(), number)


@both_loops
def test_what_is_no_record(run: Run, device: Device, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is in the log, and passed over."""
    committed = Committed()
    device.write()
    device.records[0] = 0, b"nonsense"
    device.write()

    async def main() -> None:
        async with living(tmp_path, committed, Kmsg(), make_source=device.make):
            await until(lambda: committed.texts == texts(1))

    run(main())
    events = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [each["sample"] for each in events if each["event"] == "kmsg.unreadable"] == [b"nonsense".hex()]


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "no"), b""])
def test_a_device_that_fails(monkeypatch: pytest.MonkeyPatch, device: Device, tmp_path: Path, fault: Any) -> None:
    """An error, or an end, is a fault of the source."""

    def read(fd: int, size: int) -> bytes:
        if isinstance(fault, OSError):
            raise fault
        return bytes(fault)

    monkeypatch.setattr(device, "read", read)

    async def main() -> None:
        life = Life(tmp_path, Committed(), Kmsg(), device.make)
        with pytest.raises((OSError, SourceError)):
            await life.running
        await life.kill()

    asyncio.run(main())


@both_loops
def test_the_position_is_stored_again(
    run: Run, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Now and again, although nothing arrives: it would be forgotten."""
    committed = Committed()
    device.write(3)

    async def main() -> None:
        monkeypatch.setattr(kmsg, "REFRESH_S", 0.001)
        async with living(tmp_path, committed, Kmsg(), make_source=device.make):
            await until(lambda: len(committed.batches) >= 3)
        assert [batch.count for batch in committed.batches[:3]] == [3, 0, 0]
        assert {each.number for each in committed.positions(b"kmsg:")} == {2}

    run(main())


def test_rules(device: Device, tmp_path: Path) -> None:
    """A rule that denies what this source sends is a fault of the source."""
    access = Access({"send": Rules(deny=(Rule.parse("comm:kmsg"),))})

    async def main() -> None:
        with pytest.raises(SourceError, match="send_deny"):
            Life(tmp_path, Committed(), Kmsg(), device.make, access=access)

    asyncio.run(main())
