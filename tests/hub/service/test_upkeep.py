"""hub.service.upkeep: a running hub has the segments of its journal packed, and their indexes made."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.indexfile import index_name
from hub.journal.journal import Journal
from hub.journal.retention import NOTHING_NEEDED
from hub.journal.segment import list_segments
from hub.journal.tagrules import Retention, TagRule
from hub.journal.verify import Verified, verify
from hub.message import Batch
from hub.service import upkeep
from hub.service.upkeep import Upkeep
from tests.hub.journal.world import batch
from tests.support import PATIENCE_S, logged

RETAIN_BYTES = 16 << 20  # segments of 2 MiB
BATCH = batch("x", 500, size=1900)


async def fill(journal: Journal, count: int = 3) -> None:
    """Append *count* segments, and begin another one."""
    for _ in range(count * 2 + 1):
        await journal.append([BATCH])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  other processes set no event
            await asyncio.sleep(0.01)


def are_packed(folder: Path) -> bool:
    """Return whether all segments but the last one are packed."""
    return all(path.read_bytes()[:8] == b"MPSRPAK\n" for path in sorted(folder.glob("*.seg"))[:-1])


def size_of(folder: Path) -> int:
    """Return the size of segments and indexes together."""
    return sum(path.stat().st_size for pattern in ("*.idx", "*.seg") for path in folder.glob(pattern))


def test_segments_are_packed_and_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Segments are packed and get an index soon after they are sealed. The index counts in the size, and is deleted with
    its segment. Messages stay the same.
    """
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)

    async def run() -> None:
        journal = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES)
        task = asyncio.create_task(Upkeep(journal).run())
        await fill(journal)
        files = DiskFiles(str(tmp_path))
        await until(lambda: are_packed(tmp_path) and not journal.sealed(0, is_indexed=False))
        names = {path.name for path in tmp_path.glob("*.idx")}
        assert names == {index_name(first) for first in list_segments(files)[:-1]}
        assert journal.size_bytes == size_of(tmp_path)
        plain = 7 * len(BATCH.entries)
        assert journal.size_bytes < plain // 2
        assert [found.count for found in journal.read().read()] == [BATCH.count] * 7
        assert not [*tmp_path.glob("*.tmp")]
        journal.retain(RETAIN_BYTES // 4, None)
        await fill(journal, 10)
        assert journal.size_bytes <= RETAIN_BYTES // 4
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left = {path.name for path in tmp_path.glob("*.idx")}
        assert left & names == set()
        await journal.close()
        reopened = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES)
        assert reopened.size_bytes == size_of(tmp_path)
        await reopened.close()

    asyncio.run(run())


def test_rules_of_retention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What has expired by rule is left out soon, also after the rules have changed, and the size shrinks. What each tag
    takes is known afterwards.
    """
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)
    rules: list[TagRule] = []
    lines = {tag: batch("x", 500, size=1900, tag=tag) for tag in (b"debug", b"app")}

    async def run() -> None:
        journal = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES)
        keeper = Upkeep(journal, lambda: Retention((*rules,)))
        task = asyncio.create_task(keeper.run())
        for number in range(9):
            await journal.append([lines[(b"debug", b"app")[number % 2]]])
        await until(lambda: keeper.tags)
        assert {row["tag"]: row["messages"] for row in keeper.tags} == {"debug": 2500, "app": 2000}
        journal.need(2001)
        rules.append(TagRule("deb*", size=1))
        await until(lambda: {row["tag"]: row["messages"] for row in keeper.tags} == {"debug": 1500, "app": 2000})
        journal.need(NOTHING_NEEDED)
        rules[0] = TagRule("deb*", age_s=1e-9)
        await until(lambda: {row["tag"]: row["messages"] for row in keeper.tags} == {"debug": 500, "app": 2000})
        await until(lambda: not journal.sealed(0, is_indexed=False))
        assert journal.size_bytes == size_of(tmp_path)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [found.sequence for found in journal.read().read()] == [501, 1501, 2501, 3501, 4001]
        await journal.close()

    asyncio.run(run())
    assert verify(DiskFiles(str(tmp_path))) == Verified(2500, 5, 5, (), 2000)


def test_rules_that_change_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process leaves out by the rules of before is not put in place."""
    monkeypatch.setattr(upkeep, "LOOK_S", 0.0)
    rules = [TagRule("*", age_s=1e-9)]

    async def run() -> None:
        journal = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES)
        await fill(journal, 2)

        async def adopt(name: str) -> bool:
            rules.clear()  # when the first segment is packed
            return True

        monkeypatch.setattr(journal, "adopt", adopt)
        keeper = Upkeep(journal, lambda: Retention((*rules,)))
        task = asyncio.create_task(keeper.run())
        await until(lambda: keeper.tags)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [found.count for found in journal.read().read()] == [BATCH.count] * 5
        await journal.close()

    asyncio.run(run())


def test_a_process_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is logged, and the segments are not tried again; a process that cannot be started is logged, too."""
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)
    monkeypatch.setattr(upkeep, "_COMMAND", "raise SystemExit(3)")

    async def run() -> None:
        journal = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES)
        await fill(journal, 2)
        for executable, error in ((sys.executable, "the process ended with 3"), (os.devnull, "Permission denied")):
            monkeypatch.setattr(sys, "executable", executable)
            task = asyncio.create_task(Upkeep(journal).run())
            events: list[dict[str, object]] = []
            while not events:
                await asyncio.sleep(0.01)
                events += logged(capsys)
            await asyncio.sleep(0.05)  # several looks later
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            events += logged(capsys)
            assert len(events) == 1
            assert events[0]["event"] == "journal.upkeep_failed"
            assert error in str(events[0]["error"])
        await journal.close()

    asyncio.run(run())


def test_a_stop_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for."""
    monkeypatch.setattr(upkeep, "LOOK_S", 0.0)
    begun = tmp_path / "begun"
    command = f"import os, time; open({str(begun)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    monkeypatch.setattr(upkeep, "_COMMAND", command)

    async def run() -> None:
        journal = await Journal.open(str(tmp_path / "journal"), retain_bytes=RETAIN_BYTES)
        await fill(journal, 2)
        task = asyncio.create_task(Upkeep(journal).run())
        await until(lambda: begun.exists() and begun.read_text())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(ProcessLookupError):
            os.kill(int(begun.read_text()), 0)
        await journal.close()

    asyncio.run(run())


def test_a_hub_that_stops_while_segments_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one removes what is left and goes on, until all are packed; the messages stay the same."""
    monkeypatch.setattr(upkeep, "LOOK_S", 0.0)

    def packed() -> int:
        return sum(path.read_bytes()[:8] == b"MPSRPAK\n" for path in tmp_path.glob("*.seg"))

    async def life(is_enough: Callable[[], object]) -> list[tuple[int, bytes]]:
        journal = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES)
        assert not [*tmp_path.glob("*.seg.*.tmp")]
        if not journal.last_sequence:
            await fill(journal)
        task = asyncio.create_task(Upkeep(journal).run())
        await until(is_enough)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found = [(batch.sequence, bytes(batch.entries)) for batch in journal.read().read() if isinstance(batch, Batch)]
        await journal.close()
        return found

    before = asyncio.run(life(lambda: True))
    for is_enough in (
        lambda: [*tmp_path.glob("*.seg.*.tmp")] or packed(),
        lambda: packed() >= 2,
        lambda: packed() >= 3,
    ):
        assert asyncio.run(life(is_enough)) == before
    assert packed() >= 3
