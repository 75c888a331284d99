"""hub.sources.journald: the systemd journal, with a real journald and journalctl. Others: test_journald_program.py."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.sources import journald
from hub.sources.values import Tag
from tests.hub.clients import Run, both_loops, until
from tests.hub.sources.journaldlife import journald_source, kill_children, own, table_of, texts, wait_for
from tests.hub.sources.repeated import Committed, Life, living
from tests.journald import Daemon, running

FIRST = int(os.environ.get("MPSR_HISTORY", "0"))
COUNT = int(os.environ.get("MPSR_JOURNALD_HISTORIES", "6"))
BOOT = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A journald, and its journal."""
    (tmp_path / "journald").mkdir()
    with running(tmp_path / "journald") as started:
        yield started


@both_loops
def test_from_now_on_and_across_restarts(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    """What is there before the first start is left out; what is written while no hub runs is read at the next start."""
    committed, table = Committed(), table_of(daemon.directory, begin="end")
    daemon.write(*texts(1, 2))
    daemon.settled("n2")

    async def main() -> None:
        async with living(tmp_path, committed, table) as life:
            await until(lambda: committed.positions(b"journald:"), "the place is stored although nothing is read")
            daemon.write(*texts(3))
            await wait_for(committed, "n3")
            assert life.source.where == str(daemon.directory)
        daemon.write(*texts(4))
        async with living(tmp_path, committed, table):
            daemon.write(*texts(5))
            await wait_for(committed, "n5")
        async with living(tmp_path, committed, table):
            pass
        assert own(committed) == texts(3, 4, 5)
        assert committed.losses == []

    run(main())


@both_loops
def test_another_start_of_the_machine(run: Run, tmp_path: Path) -> None:
    """
    What was written before the machine was started again is read, and the place in it is found. Without --merge,
    journalctl would show the present start only.
    """
    committed = Committed()
    (tmp_path / "journald").mkdir()

    async def read(daemon: Daemon, *expected: int) -> None:
        async with living(tmp_path, committed, table_of(daemon.directory)):
            await wait_for(committed, f"n{expected[-1]}")
        assert own(committed) == texts(*expected)

    async def main() -> None:
        with running(tmp_path / "journald", boot=BOOT) as daemon:
            daemon.write(*texts(1))
            await read(daemon, 1)
            daemon.write(*texts(2, 3))
            daemon.settled("n3")
        with running(tmp_path / "journald") as daemon:
            daemon.write(*texts(4))
            last = daemon.settled("n4")
            await read(daemon, 1, 2, 3, 4)
        assert (committed.losses, len(committed.messages)) == ([], last)
        boots = {each.record["boot_id"] for each in committed.messages}
        assert (len(boots), BOOT.replace("-", "") in boots) == (2, True)

    run(main())


@both_loops
def test_the_fields(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    """journald's own fields are there under the names of ours; the peer is journald, and not verified."""
    committed = Committed()

    async def main() -> None:
        async with living(tmp_path, committed, table_of(daemon.directory, tag=Tag("sys"))) as life:
            daemon.write("hello", CODE_LINE="7")
            await wait_for(committed, "hello")
            assert life.source.tally.messages == len(committed.messages)
        (message,) = [each for each in committed.messages if each.record["message"] == "hello"]
        record = message.record
        assert (record["level"], record["app"], record["CODE_LINE"]) == ("info", "test", "7")
        assert (record["pid"], record["uid"]) == (os.getpid(), os.geteuid())
        assert record["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        assert not [name for name in record if name.startswith("__")]
        assert (message.tag, message.peer.comm, message.peer.verified, message.peer.uid) == (
            "sys",
            "journald",
            False,
            -1,
        )
        assert abs(message.time - int(record["_SOURCE_REALTIME_TIMESTAMP"]) * 1000) < 10**10

    run(main())


@both_loops
def test_a_vacuum_while_no_hub_runs(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    """What was deleted before it was read is counted, once."""
    committed, table = Committed(), table_of(daemon.directory)

    async def main() -> None:
        async with living(tmp_path, committed, table):
            daemon.write(*texts(1))
            await wait_for(committed, "n1")
        daemon.write(*texts(*range(2, 50)))
        daemon.settled("n49")
        daemon.rotate()
        daemon.write(*texts(50))
        last = daemon.settled("n50")
        daemon.vacuum()
        for _ in range(2):
            async with living(tmp_path, committed, table):
                await wait_for(committed, "n50")
        assert own(committed) == texts(1, 50)
        (loss,) = committed.losses
        assert (loss["reason"], loss["tag"]) == (journald.MISSING, "journald")
        assert loss["count"] + len(committed.messages) == last
        assert loss["count"] >= 48

    run(main())


@both_loops
def test_a_vacuum_that_journalctl_does_not_notice(run: Run, daemon: Daemon, tmp_path: Path) -> None:
    """Files that are deleted while the hub is too slow are counted: journalctl goes on with the next one in silence."""
    committed = Committed()
    padding = "x" * 4000

    async def main() -> None:
        async with living(tmp_path, committed, table_of(daemon.directory), inbox_bytes_max=1 << 20) as life:
            daemon.write(*texts(0))
            await wait_for(committed, "n0")
            life.may_commit.clear()
            for turn in range(4):
                daemon.write(*texts(*range(1 + turn * 500, 501 + turn * 500)), PAD=padding)
                daemon.settled(f"n{500 + turn * 500}")
                daemon.rotate()
            daemon.vacuum()
            daemon.write("end")
            last = daemon.settled("end")
            life.may_commit.set()
            await wait_for(committed, "end")
        assert committed.lost > 0
        assert committed.lost + len(committed.messages) == last
        assert own(committed) == sorted(own(committed), key=lambda text: int(text[1:]) if text != "end" else 10**6)

    run(main())


class History:
    """What happens to a journal and to the hub that reads it, drawn from *seed*."""

    def __init__(self, seed: int, daemon: Daemon, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.committed = Committed()
        self._daemon = daemon
        self._folder = folder
        self._written = 0

    def begin(self) -> Life:
        """Start a hub."""
        table = table_of(self._daemon.directory)
        return Life(self._folder, self.committed, table, journald_source, inbox_bytes_max=1 << 20)

    def write(self) -> None:
        """Write some entries."""
        first, count = self._written, self.chance.choice((1, 3, 200))
        self._daemon.write(*texts(*range(first, first + count)), PAD="x" * self.chance.choice((1, 2000)))
        self._written += count
        self._daemon.settled(self.last)

    @property
    def last(self) -> str:
        """The text of the last entry."""
        return f"n{self._written - 1}"

    async def arrives(self, life: Life, text: str) -> None:
        """Let the hub commit, and return when *text* is there."""

        def has_arrived() -> bool:
            life.look()
            return text in own(self.committed)

        life.may_commit.set()
        await until(has_arrived, f"{text} is committed")

    async def take(self, life: Life) -> Life:
        """Take a step; return the hub that runs then."""
        steps = ("write", "write", "rotate", "vacuum", "kill", "stop", "child", "pause", "wait")
        step = self.chance.choice(steps)
        if step in ("kill", "stop"):
            life.look()
            await (life.kill() if step == "kill" else life.stop())
            for _ in range(self.chance.choice((0, 1, 2))):
                self.chance.choice((self.write, self._daemon.rotate, self._daemon.vacuum))()
            return self.begin()
        if step == "pause":
            life.may_commit.clear()
        elif step == "wait":
            self.write()
            await self.arrives(life, self.last)
        else:
            at_once = {"write": self.write, "rotate": self._daemon.rotate, "vacuum": self._daemon.vacuum}
            at_once.get(step, kill_children)()
        return life


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_history(daemon: Daemon, tmp_path: Path, seed: int) -> None:
    """
    Entries, rotations, vacuums, kills of the hub and of journalctl, stops, and a hub that commits nothing for a while:
    each entry is committed once, or counted in a loss, and not both.
    """
    history = History(seed, daemon, tmp_path)
    committed = history.committed

    async def main() -> None:
        life = history.begin()
        try:
            history.write()
            await history.arrives(life, "n0")  # what is deleted before the first look is no loss
            for _ in range(25):
                life = await history.take(life)
                for _ in range(history.chance.choice((0, 10, 1000))):
                    await asyncio.sleep(0)
            daemon.write("end")
            last = daemon.settled("end")
            await history.arrives(life, "end")
            await life.stop()
        finally:
            await life.kill()
        assert committed.lost + len(committed.messages) == last
        assert len(own(committed)) == len(set(own(committed))), "nothing twice"

    asyncio.run(asyncio.wait_for(main(), 120))
