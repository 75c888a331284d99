"""hub.adoption: what dead producers left arrives once, in order, as theirs; the living, and the hub, are left alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgpack
import pytest

from hub.access import Access, Rules, parse_rule
from hub.adoption import FOLDER_MODE, Adoption
from hub.entries import stamp
from hub.errors import HubClosed
from hub.inbox import Inbox
from hub.lockfile import is_owner_dead
from hub.message import Batch
from hub.metrics import Metrics
from hub.wire.chunkid import pack_own
from hub.wire.frame import FRAME_BYTES_MAX, encode_frame_head
from hub.wire.spooled import HEADER_BYTES, STATE, folder_beside, lock_name, pack_header, segment_name
from producers import Producer
from producers.backlog import Backlog, new_session
from producers.spool import Spool
from tests.support import PATIENCE_S, HubProcess, eventually

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in it, and which other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="mpsr-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def entry(number: int) -> bytes:
    return stamp(number) + msgpack.packb({"n": number})


def leave(folder: Path | str, count: int, *, acknowledged: int = 0, chunk_bytes_max: int = 100) -> str:
    """Leave *count* messages as a dead producer would; return its session."""
    session = new_session()
    spool = Spool(str(folder), session)
    backlog = Backlog(session=session, allocate=spool.allocate, chunk_bytes_max=chunk_bytes_max)
    for number in range(count):
        assert backlog.append(b"left", entry(number))
    while backlog.acknowledged < acknowledged:
        chunk = backlog.next_unsent()
        assert chunk is not None
        backlog.acknowledge(chunk.id)
    assert backlog.is_all_in_files
    assert spool.is_in_use
    backlog.close(keep=True)
    spool.close(keep=True)
    return session


def leave_frames(folder: Path, *frames: bytes, session: str = "") -> str:
    """Leave frames made by hand, as chunks of a session."""
    session = session or new_session()
    data = bytearray(pack_header(session, 7, "hand") + b"".join(frames))
    words = memoryview(data)[:HEADER_BYTES].cast("Q")
    words[STATE], words[2] = len(data), 1
    words.release()
    (folder / lock_name(session)).touch()
    (folder / segment_name(session, 1)).write_bytes(data)
    return session


class Rig:
    """An adoption, and a receiver that keeps and acknowledges what comes, unless *receives* is false."""

    def __init__(self, folder: Path, *, rules: Rules | None = None, receives: bool = True) -> None:
        self._folder = folder
        self._access = Access({"send": rules or Rules()})
        self._receives = receives
        self.metrics = Metrics()
        self.got: list[Batch] = []
        self.begin()

    def begin(self) -> None:
        """Be a hub that has just started."""
        self.inbox = Inbox()
        self.adoption = Adoption(
            str(self._folder),
            self.inbox,
            access=self._access,
            metrics=self.metrics,
            frame_bytes_max=FRAME_BYTES_MAX,
            clock=lambda: 7,
        )

    async def _receive(self) -> None:
        while batches := await self.inbox.take(1):
            self.got += batches
            for batch in batches:
                batch.acknowledge()
            batches.release()

    def run(self, main: Callable[[], Awaitable[None]] | None = None) -> Rig:
        """Sweep once, or do *main*."""

        async def guarded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                receiving = asyncio.create_task(self._receive() if self._receives else asyncio.sleep(0))
                await (main or self.adoption.sweep)()
                receiving.cancel()

        asyncio.run(guarded())
        self.begin()
        return self

    def records(self, tag: bytes = b"left") -> list[dict[str, object]]:
        return [message.record for batch in self.got if batch.tag == tag for message in batch.messages()]

    def numbers(self) -> list[object]:
        return [record["n"] for record in self.records()]


# What is left.


def test_what_is_left_arrives(folder: Path) -> None:
    """Cut chunks and the open one, in order, with uid of the file's owner, pid and name as declared; nothing stays."""
    leave(folder, 100)
    rig = Rig(folder).run()
    assert rig.numbers() == list(range(100))
    assert rig.metrics.adopted == 100
    (peer,) = {batch.peer for batch in rig.got}
    name = Path("/proc/self/comm").read_text().strip()
    assert (peer.pid, peer.uid, peer.comm, peer.verified) == (os.getpid(), os.getuid(), name, False)
    assert os.listdir(folder) == []
    assert rig.run().numbers() == list(range(100)), "and there is nothing more"


def test_acknowledged_is_not_sent_again(folder: Path) -> None:
    """What its producer knew to be stored is passed over, in every segment."""
    for acknowledged in (1, 30, 40_000):
        leave(folder, 80_000, acknowledged=acknowledged)
        numbers = Rig(folder).run().numbers()
        assert 0 <= 80_000 - acknowledged - len(numbers) < 10
        assert numbers == list(range(80_000 - len(numbers), 80_000))


def test_several_segments_in_order(folder: Path) -> None:
    """Segments are read in the order of their chunks, whatever their names say."""
    session = leave(folder, 80_000, chunk_bytes_max=5000)
    paths = sorted(folder.glob("*.seg"))
    assert len(paths) > 1
    for number, path in enumerate(reversed(paths)):
        path.rename(folder / f"{session}.{90_000_000 + number}.seg")
    assert Rig(folder).run().numbers() == list(range(80_000))


def test_a_file_stays_until_all_of_it_is_stored(folder: Path) -> None:
    """While anything waits for the disk everything is there, and an inbox that closes loses nothing."""
    leave(folder, 100)
    before = sorted(os.listdir(folder))
    rig = Rig(folder, receives=False)

    async def main() -> None:
        sweeping = asyncio.create_task(rig.adoption.sweep())
        taken: list[Batch] = []
        together = []
        while sum(batch.count for batch in taken) < 100:
            together.append(await rig.inbox.take(1))
            taken += together[-1]
        for batch in taken[:-1]:
            batch.acknowledge()
        for each in together:
            each.release()
        for _ in range(50):  # whoever wants to delete too early has his chance
            assert sorted(await asyncio.to_thread(os.listdir, folder)) == before
        taken[-1].acknowledge()
        await sweeping
        assert os.listdir(folder) == []
        leave(folder, 100)
        rig.inbox.close()
        with pytest.raises(HubClosed):
            await rig.adoption.sweep()
        assert len(os.listdir(folder)) == 2

    rig.run(main)


def test_compressed_is_opened(folder: Path) -> None:
    """A frame that our producers never write is treated as over a connection: opened, within bounds."""
    session = new_session()
    packer = zlib.compressobj(wbits=31)
    payload = packer.compress(entry(0) + entry(1)) + packer.flush()
    option = b"\x83\xa5chunk" + pack_own(session, 1) + msgpack.packb("size") + b"\x02" + msgpack.packb("compressed")
    frame = encode_frame_head(b"left", len(payload)) + payload + option + msgpack.packb("gzip")
    leave_frames(folder, frame, session=session)
    assert Rig(folder).run().numbers() == [0, 1]


def test_looking_is_linear(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many dead sessions there are, the folder is listed twice."""
    for _ in range(100):
        leave(folder, 1)
    listed = []
    original = os.listdir

    def listdir(path: str) -> list[str]:
        listed.append(path)
        return original(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert Rig(folder).run().numbers() == [0] * 100
    assert len(listed) == 2


# The living.


def test_the_living_are_left_alone(folder: Path) -> None:
    """A producer of the same process keeps its files and its lock; closed, it leaves what no hub has taken."""
    socket = folder / "s"
    spool = Path(folder_beside(str(socket)))
    spool.mkdir()
    producer = Producer(socket)
    for number in range(100):
        producer.send({"n": number}, tag="left")
    rig = Rig(spool)
    for _ in range(3):
        assert rig.run().numbers() == []
    (lock,) = spool.glob("*.lock")
    pid = os.fork()
    if pid == 0:
        os._exit(is_owner_dead(str(lock)))
    assert os.waitpid(pid, 0)[1] == 0, "another process sees the lock too"
    producer.close()
    assert rig.run().numbers() == list(range(100))
    assert os.listdir(spool) == []


def test_a_child_does_not_keep_the_dead_alive(folder: Path) -> None:
    """What a killed process left is adopted while a child that it forked lives."""
    socket = folder / "s"
    spool = Path(folder_beside(str(socket)))
    spool.mkdir()
    (ready, told), (wait, release) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        producer = Producer(socket)
        for number in range(10):
            producer.send({"n": number}, tag="left")
        if os.fork() == 0:
            os.close(release)
            os.write(told, b"x")
            os.read(wait, 1)
            os._exit(0)
        signal.pause()
    os.read(ready, 1)
    rig = Rig(spool)
    assert rig.run().numbers() == []
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert rig.run().numbers() == list(range(10))
    for descriptor in (ready, told, wait, release):
        os.close(descriptor)


# Hostile files.

GARBAGE = {
    "empty": b"",
    "zeros": bytes(5000),
    "noise": bytes(range(256)) * 20,
    "half a header": pack_header("s" * 22, 1, "x")[:50],
    "another session": pack_header("o" * 22, 1, "x") + bytes(100),
}


def plant(folder: Path) -> None:
    """Put into a folder what somebody might who means harm."""
    for content in GARBAGE.values():
        session = new_session()
        (folder / lock_name(session)).touch()
        (folder / segment_name(session, 1)).write_bytes(content)
    makers: list[Callable[[Path], object]] = [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to(path),
        lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    ]
    for make in makers:
        session = new_session()
        (folder / lock_name(session)).touch()
        make(folder / segment_name(session, 1))
        make(folder / lock_name(new_session()))
    session = new_session()
    with (folder / segment_name(session, 1)).open("wb") as huge:
        data = bytearray(pack_header(session, 1, "x"))
        memoryview(data)[:HEADER_BYTES].cast("Q")[STATE] = (1 << 40) - 1
        huge.write(data)
        huge.truncate(1 << 38)
    (folder / "what is this").write_bytes(b"?")


def test_hostile_files(folder: Path) -> None:
    """Nothing hangs, is followed, fills the memory or costs another's messages; what is no spool is told once."""
    plant(folder)
    session = leave(folder, 100)
    rig = Rig(folder).run()
    assert rig.numbers() == list(range(100))
    assert not (folder / lock_name(session)).exists()
    reasons = [str(record["reason"]) for record in rig.records(b"mpsr.loss")]
    assert all(reason.startswith("a spool with damage") for reason in reasons), reasons
    assert len(reasons) == rig.metrics.losses == 4, "noise, half a header, another session, a terabyte of zeros"
    assert {record["count"] for record in rig.records(b"mpsr.loss")} == {1}
    assert rig.run().metrics.losses == 4
    assert (folder / "what is this").read_bytes() == b"?"
    assert b"root" in Path("/etc/passwd").read_bytes()


def test_damage_costs_what_is_behind_it(folder: Path) -> None:
    """Chunks before the damage arrive; the rest of that segment is one loss."""
    leave(folder, 20)
    (path,) = folder.glob("*.seg")
    data = bytearray(path.read_bytes())
    at = data.index(msgpack.packb({"n": 9})) + 20
    data[at : at + 200] = b"\xc1" * 200
    path.write_bytes(data)
    rig = Rig(folder).run()
    numbers = rig.numbers()
    assert 4 < len(numbers) < 20
    assert numbers == list(range(len(numbers)))
    assert rig.metrics.losses >= 1
    assert os.listdir(folder) == []


def test_an_unreadable_file_is_said_once(folder: Path) -> None:
    """A lock that cannot be looked at stays, is said once, and costs nobody else anything."""
    with HubProcess(folder) as hub:
        spool = Path(folder_beside(hub.socket))
        session = new_session()
        (spool / lock_name(session)).symlink_to("nowhere")
        for count in (1, 2):
            leave(spool, 5)
            hub.stats()  # a connection that ends
            eventually(lambda count=count: len(hub.messages("left")) == 5 * count, "it is adopted")  # type: ignore[misc]
        said = [event for event in hub.log if event["event"] == "spool.unreadable"]
        assert [event["session"] for event in said] == [session]


# Who.


@needs_root
@pytest.mark.parametrize("rule", [f"uid:{NOBODY}", "group:nogroup", "comm:hand", "all"])
def test_refused(folder: Path, rule: str) -> None:
    """Who may not send is refused here too, by its groups as well: counted, told, deleted."""
    frame = encode_frame_head(b"left", len(entry(0))) + entry(0)
    session = new_session()
    frame += b"\x82\xa5chunk" + pack_own(session, 1) + b"\xa4size\xce\x00\x00\x00\x01"
    leave_frames(folder, frame, session=session)
    os.chown(folder / segment_name(session, 1), NOBODY, 0)
    rig = Rig(folder, rules=Rules(deny=(parse_rule(rule),))).run()
    assert (rig.numbers(), rig.metrics.refused, rig.metrics.adopted) == ([], 1, 0)
    (loss,) = rig.records(b"mpsr.loss")
    assert loss["reason"] == f"refused: uid {NOBODY} may not send"
    assert os.listdir(folder) == []
    leave_frames(folder, frame, session=session)
    os.chown(folder / segment_name(session, 1), NOBODY, 0)
    rig = Rig(folder, rules=Rules(allow=(parse_rule("group:nogroup"),))).run()
    assert rig.numbers() == [0]


def as_nobody(function: Callable[[], None], *, group: int) -> int:
    """Call *function* in a child of another user; return how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(PATIENCE_S))
            os.setgroups([])
            os.setgid(group)
            os.setuid(NOBODY)
            os.umask(0o077)
            function()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_root
@pytest.mark.parametrize("is_member", [True, False])
def test_another_user(folder: Path, is_member: bool) -> None:
    """A member of the socket's group spools, whatever its umask, and is named by its file; who is none keeps memory."""
    with HubProcess(folder, "--mode", "0666", "--group", "daemon") as hub:
        spool = Path(folder_beside(hub.socket))
        described = spool.stat()
        assert (stat.S_IMODE(described.st_mode), described.st_uid) == (FOLDER_MODE, 0)

        def send() -> None:
            producer = Producer(hub.socket, tag="left", linger_s=3600)
            for number in range(10):
                producer.send({"n": number})
            stats = producer.stats()
            assert (stats["spool"] == str(spool)) == is_member, stats
            assert ("Permission denied" in stats["spool_fault"]) != is_member, stats
            if is_member:
                os.kill(os.getpid(), signal.SIGKILL)
            producer.flush(PATIENCE_S)
            os._exit(0)

        code = as_nobody(send, group=described.st_gid if is_member else NOBODY)
        assert code == (-signal.SIGKILL if is_member else 0)
        messages = eventually(lambda: hub.messages("left"), "they arrive")
        assert [message.record["n"] for message in messages] == list(range(10))
        (peer,) = {message.peer for message in messages}
        assert (peer.uid, peer.verified) == (NOBODY, not is_member)
        eventually(lambda: not os.listdir(spool), "nothing stays")


def test_files_can_be_read_by_the_hub(folder: Path) -> None:
    """Whatever the umask: the hub's group may read a spool, and nobody else."""
    before = os.umask(0o077)
    try:
        leave(folder, 1)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


# The folder.


def test_the_folder(folder: Path) -> None:
    """It is made, or taken as it is, with its mode; where something else is, there is none."""
    rig = Rig(folder / "new")
    for _ in range(2):
        assert rig.adoption.make_folder()
        assert stat.S_IMODE((folder / "new").stat().st_mode) == FOLDER_MODE
    (folder / "file").touch()
    (folder / "link").symlink_to(folder / "new")
    (folder / "loop").symlink_to(folder / "loop")
    for name in ("file", "link", "loop", "absent/folder"):
        assert not Rig(folder / name).adoption.make_folder()
        Rig(folder / name).run()
    assert stat.S_IMODE((folder / "file").stat().st_mode) != FOLDER_MODE


@needs_root
def test_a_folder_that_somebody_else_made(folder: Path) -> None:
    """The folder is the hub's afterwards: else its maker could list and remove what is in it."""
    (folder / "theirs").mkdir()
    os.chown(folder / "theirs", NOBODY, NOBODY)
    assert Rig(folder / "theirs").adoption.make_folder()
    assert (folder / "theirs").stat().st_uid == 0


# The hub.


def test_a_hub_that_is_killed_while_it_adopts(folder: Path) -> None:
    """Killed again and again in mid-adoption: nothing is doubled, nothing is missing, each session is in order."""
    with HubProcess(folder) as hub:
        spool = Path(folder_beside(hub.socket))
        hub.kill()
        sizes = [3000, 2000, 1000]
        for size in sizes:
            leave(spool, size, chunk_bytes_max=200)
        seen = 0
        for _ in range(5):
            hub.start()
            eventually(lambda seen=seen: len(hub.messages("left")) > seen or not os.listdir(spool))  # type: ignore[misc]
            hub.kill()
            seen = len(hub.messages("left"))
        hub.start()
        eventually(lambda: not os.listdir(spool), "all is adopted")
        numbers = [int(message.record["n"]) for message in hub.messages("left")]
        starts = [at for at, number in enumerate(numbers) if number == 0]
        runs = [numbers[one:two] for one, two in pairwise([*starts, len(numbers)])]
        assert sorted(map(len, runs), reverse=True) == sizes
        assert all(run == list(range(len(run))) for run in runs)
        assert hub.messages("mpsr.loss") == []


def test_what_a_dead_producer_left_comes_before_its_successor(tmp_path: Path) -> None:
    """A hub that starts reads what was left before it accepts, so a program that was restarted keeps its order."""
    code = (
        "import os, sys; from producers import Producer; p = Producer(sys.argv[1], tag='app')\n"
        "for n in range(int(sys.argv[2])): p.send({'life': sys.argv[3], 'n': n})\n"
        "os._exit(0) if sys.argv[3] == '1' else p.flush(30)"
    )
    with HubProcess(tmp_path) as hub:
        hub.kill()
        command = [sys.executable, "-c", code, hub.socket]
        subprocess.run([*command, "20000", "1"], check=True)
        successor = subprocess.Popen([*command, "10", "2"])
        hub.start()
        assert successor.wait(30) == 0
        found = [(message.record["life"], message.record["n"]) for message in hub.messages("app")]
    assert found == [*(("1", n) for n in range(20_000)), *(("2", n) for n in range(10))]
