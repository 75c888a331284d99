"""hub.sources.spool: messages of dead producers arrive once, in order, as theirs, at no other user's cost."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub.access import Rule, Rules
from hub.lockfile import is_owner_dead
from hub.message import Batch
from hub.sources import userfiles
from hub.sources.spoolfolder import SHARED_MODE
from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_head
from hub.wire.spoolfile import folder_beside, lock_name, pack_header, segment_name
from producers import Producer, call
from producers.backlog import Backlog, new_session
from producers.spool import Spool
from tests.hub.clients import until, without_collection
from tests.hub.sources.spools import (
    GROUP,
    STRANGER,
    Rig,
    as_user,
    beside_a_socket,
    entry,
    folder_at,
    frame,
    leave,
    leave_segment,
    living,
    named,
    needs_root,
    numbered_frames,
    permit,
    segment,
    write,
)
from tests.speed import holds
from tests.support import PATIENCE_S, HubProcess, eventually

NOBODY = 65534


@pytest.fixture
def path() -> Iterator[Path]:
    """A spool folder beside a socket of a group."""
    with beside_a_socket(gid=GROUP if os.geteuid() == 0 else -1) as place:
        assert folder_at(place).prepare()
        yield place


@pytest.fixture
def base(path: Path) -> Path:
    """A folder for a hub process, with a path short enough for a socket, accessible to other users."""
    (path.parent / "hub").mkdir()
    (path.parent / "hub").chmod(0o755)
    return path.parent / "hub"


# Spools that are left.


def test_what_is_left_arrives(path: Path) -> None:
    """All chunks arrive in order, with the uid of the file's owner and the declared pid and name; no file stays."""
    leave(path, 100)
    rig = Rig(path).run()
    assert rig.numbers() == list(range(100))
    assert rig.metrics.adopted == 100
    (peer,) = {batch.peer for batch in rig.got}
    name = Path("/proc/self/comm").read_text().strip()
    assert (peer.pid, peer.uid, peer.comm, peer.verified) == (os.getpid(), os.getuid(), name, False)
    assert os.listdir(path) == []
    assert rig.run().numbers() == list(range(100)), "and there is nothing more"


def test_acknowledged_is_not_sent_again(path: Path) -> None:
    """Chunks that the producer knew to be stored are skipped, in every segment."""
    for acknowledged in (1, 30, 40_000):
        leave(path, 80_000, acknowledged=acknowledged)
        numbers = Rig(path).run().numbers()
        assert 0 <= 80_000 - acknowledged - len(numbers) < 10
        assert numbers == list(range(80_000 - len(numbers), 80_000))


def test_a_file_stays_until_all_of_it_is_stored(path: Path) -> None:
    """While a message waits for the disk all files stay, and an inbox that closes loses nothing."""
    leave(path, 100)
    before = sorted(os.listdir(path))
    rig = Rig(path, receives=False)

    async def main() -> None:
        sweeping = asyncio.create_task(rig.source.sweep())
        taken: list[Batch] = []
        together = []
        while sum(batch.count for batch in taken) < 100:
            together.append(await rig.inbox.take(1))
            taken += together[-1]
        for batch in taken[:-1]:
            batch.acknowledge()
        for each in together:
            each.release()
        for _ in range(50):  # gives a premature removal time to happen
            assert sorted(await asyncio.to_thread(os.listdir, path)) == before
        taken[-1].acknowledge()
        await sweeping
        assert os.listdir(path) == []
        leave(path, 100)
        rig.inbox.close()
        await rig.source.sweep()
        assert len(os.listdir(path)) == 2

    rig.run(main)


def test_the_first_look(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`first_look` returns when what was found at the start is stored, or after its limit."""
    leave(path, 10)
    rig = Rig(path, receives=False)

    async def main() -> None:
        running = asyncio.create_task(rig.source.run())
        with monkeypatch.context() as patch:
            patch.setattr("hub.sources.spool.FIRST_LOOK_S", 0.001)
            await rig.source.first_look()
        looking = asyncio.create_task(rig.source.first_look())
        await until(lambda: rig.inbox.held_bytes)
        for _ in range(50):  # gives a premature end time to happen
            await asyncio.sleep(0)
        assert not looking.done()
        while not looking.done():
            for batch in (taken := await rig.inbox.take(1 << 20)):
                batch.acknowledge()
            taken.release()
            await until(lambda: looking.done() or rig.inbox.held_bytes)
        running.cancel()

    rig.run(main)
    assert os.listdir(path) == []


def test_it_ends_with_the_inbox(path: Path) -> None:
    """When the inbox is closed, the task ends, and the files stay."""
    rig = Rig(path)

    async def main() -> None:
        running = asyncio.create_task(rig.source.run())
        await rig.source.has_looked.wait()
        leave(path, 10)
        rig.inbox.close()
        rig.connection_ended.set()
        await running

    rig.run(main)
    assert len(os.listdir(path)) == 2


def test_compressed_is_damage(path: Path) -> None:
    """A compressed frame, which our producers never write, is damage, and nothing is decompressed."""
    session = new_session()
    packer = zlib.compressobj(wbits=31)
    payload = packer.compress(entry(0) + entry(1)) + packer.flush()
    option = b"\x83\xa5chunk" + pack_own(session, 1) + msgpack.packb("size") + b"\x02" + msgpack.packb("compressed")
    packed = encode_frame_head(b"left", len(payload)) + payload + option + msgpack.packb("gzip")
    leave_segment(path, segment(session, [packed]), session)
    rig = Rig(path).run()
    assert rig.numbers() == []
    assert rig.reasons() == ["a spool with damage: a frame that is not the next one"]


def test_damage_costs_what_is_behind_it(path: Path) -> None:
    """Chunks before the damage arrive; the rest of that segment is one loss."""
    leave(path, 20)
    (left,) = path.glob("*.seg")
    data = bytearray(left.read_bytes())
    at = data.index(msgpack.packb({"n": 9})) + 20
    data[at : at + 200] = b"\xc1" * 200
    left.write_bytes(data)
    rig = Rig(path).run()
    numbers = rig.numbers()
    assert 4 < len(numbers) < 20
    assert numbers == list(range(len(numbers)))
    assert rig.metrics.losses >= 1
    assert os.listdir(path) == []


def test_a_newer_version_stays(path: Path) -> None:
    """Spools of a newer version are no loss, and stay for a newer hub."""
    session = new_session()
    data = bytearray(pack_header(session, 1, "x"))
    data[40] = 2
    left = leave_segment(path, bytes(data), session)
    rig = Rig(path).run().run()
    assert not rig.got
    assert left.read_bytes() == bytes(data)


# The living.


def test_the_living_are_left_alone(path: Path) -> None:
    """A living producer keeps its files and its lock; closed, it leaves what no hub has stored."""
    socket = path.with_suffix("")
    spool = path
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


def test_a_child_does_not_keep_the_dead_alive(path: Path) -> None:
    """The spool of a killed process is adopted while a child that it forked lives."""
    socket = path.with_suffix("")
    spool = path
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


# One user's files, and another's.


@needs_root
def test_another_users_file_for_a_spool(path: Path) -> None:
    """It affects neither the spool's acknowledgements nor its lock, even if its name and session are known."""
    session = new_session()
    name = leave(path, 10, session=session)
    for file in (lock_name(name), segment_name(name, 1)):
        os.chown(path / file, STRANGER, GROUP)
    data = segment(session, [frame(session, 1, entry(77), 1)])

    def attack() -> None:
        write(path / segment_name(name, 2), segment(session, [], acknowledged=1 << 63))
        write(path / segment_name(name, 3), data)

    assert as_user(STRANGER + 1, attack, groups=[GROUP]) == 0
    rig = Rig(path).run()
    by_user: dict[int, list[Any]] = {}
    for batch in rig.got:
        by_user.setdefault(batch.peer.uid, []).extend(message.record["n"] for message in batch.messages())
    assert by_user == {STRANGER: list(range(10))}
    assert os.listdir(path) == []
    leave(path, 10, name=name, session=session)
    (path / lock_name(name)).unlink()
    os.chown(path / segment_name(name, 1), STRANGER, GROUP)
    theirs = named(Spool(str(path), session), name)
    with living(STRANGER + 1, lambda: theirs.allocate(4096), groups=[GROUP]):
        assert rig.run().numbers()[-10:] == list(range(10)), "that user's lock does not keep it"
        assert lock_name(name) in os.listdir(path)


@needs_root
def test_an_inode_that_another_user_has_now(path: Path) -> None:
    """A file that was left alone is read when another user has its inode and its name."""
    session = new_session()
    data = segment(session, [frame(session, 1, entry(1), 1)])
    newer = bytearray(data)
    newer[40] = 2
    left = leave_segment(path, bytes(newer), session)
    for each in path.iterdir():
        os.chown(each, STRANGER, GROUP)
    rig = Rig(path)

    async def main() -> None:
        for _ in range(2):
            await rig.source.sweep()
        assert left.read_bytes() == newer
        left.write_bytes(data)
        await rig.source.sweep()
        assert left.read_bytes() == data, "it is the same file of the same user"
        for each in path.iterdir():
            os.chown(each, 0, GROUP)
        await rig.source.sweep()

    assert rig.run(main).numbers() == [1]
    assert os.listdir(path) == []


def test_an_incomplete_look_adopts_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a look does not see every name, all files stay until one does; then all are adopted."""
    for _ in range(3):
        leave(path, 10)
    before = set(os.listdir(path))
    rig = Rig(path)

    async def main() -> None:
        monkeypatch.setattr(userfiles, "ENTRIES_MAX", len(before) - 1)
        await rig.source.sweep()
        assert (rig.got, set(os.listdir(path))) == ([], before)
        monkeypatch.setattr(userfiles, "ENTRIES_MAX", len(before))
        await rig.source.sweep()

    assert sorted(map(str, rig.run(main).numbers())) == sorted(map(str, [*range(10)] * 3))
    assert os.listdir(path) == []


@needs_root
@pytest.mark.parametrize("rule", [f"uid:{NOBODY}", "group:nogroup", "comm:hand", "all"])
def test_refused(path: Path, rule: str) -> None:
    """A user that may not send is refused here too, also by its groups: counted, reported, removed."""
    session = new_session()
    frames = [frame(session, counter, entry(counter), 1) for counter in (1, 2)]

    def plant() -> None:
        os.chown(leave_segment(path, segment(session, frames), session), NOBODY, GROUP)

    plant()
    rig = Rig(path, rules=Rules(deny=(Rule.parse(rule),))).run()
    assert (rig.numbers(), rig.metrics.refused, rig.metrics.adopted) == ([], 2, 0)
    assert rig.reasons() == [f"refused: uid {NOBODY} may not send"]
    assert os.listdir(path) == []
    plant()
    assert Rig(path, rules=Rules(allow=(Rule.parse("group:nogroup"),))).run().numbers() == [1, 2]


@needs_root
@pytest.mark.parametrize(
    ("deny", "allow", "numbers"),
    [
        ("", "", [1]),
        (f"gid:{GROUP}", "", []),
        ("gid:77", "", []),
        ("", f"gid:{GROUP}", []),
        ("", f"uid:{STRANGER}", [1]),
    ],
)
def test_a_user_whose_groups_nobody_knows(path: Path, deny: str, allow: str, numbers: list[int]) -> None:
    """The file's group proves nothing about its writer: every rule by group counts against it."""
    session = new_session()
    data = segment(session, [frame(session, 1, entry(1), 1)])
    assert as_user(STRANGER, lambda: write(path / segment_name(session, 1), data), groups=[GROUP, 77]) == 0
    rules = Rules(
        allow=(Rule.parse(allow),) if allow else (),
        deny=(Rule.parse(deny),) if deny else (),
    )
    rig = Rig(path, rules=rules).run()
    assert rig.numbers() == numbers
    assert rig.metrics.refused == 1 - len(numbers)


@needs_root
def test_a_user_who_may_not_open_the_socket(path: Path) -> None:
    """After the socket is closed to its group, no remaining file of that group is accepted."""
    session = new_session()
    data = segment(session, [frame(session, 1, entry(1), 1)])
    assert as_user(STRANGER, lambda: write(path / segment_name(session, 1), data), groups=[GROUP]) == 0
    permit(path.with_suffix(""), 0o600)
    rig = Rig(path).run()
    assert (rig.numbers(), rig.metrics.refused, rig.metrics.adopted) == ([], 1, 0)
    assert rig.reasons() == [f"refused: uid {STRANGER} may not open the socket"]
    assert os.listdir(path) == []
    assert as_user(STRANGER, lambda: write(path / "x"), groups=[GROUP]) == 1


@needs_root
def test_a_link_to_roots_file(path: Path) -> None:
    """Text that another user wrote into a file of root is not stored as root's, in whatever way it got here."""
    session = new_session()
    data = segment(session, [frame(session, 1, entry(1), 1)])
    linked = write(path.parent / "linked", data, mode=0o666)
    (path.parent / "open").mkdir()
    (path.parent / "open").chmod(0o777)
    write(path.parent / "open" / "moved", data, mode=0o666)

    def attack() -> None:
        os.link(linked, path / segment_name(session, 1))
        (path.parent / "open" / "moved").rename(path / segment_name(session, 2))

    assert as_user(STRANGER, attack, groups=[GROUP]) == 0
    rig = Rig(path).run()
    assert rig.got == []
    assert linked.read_bytes() == data


@needs_root
def test_no_user_waits_for_another(path: Path) -> None:
    """While many files of one user are adopted, and while its losses wait, another user's message arrives early."""
    for number in range(2000):
        session = f"{number:022}"
        data = segment(session, [frame(session, 1, entry(number), 1)]) if number % 2 else b"garbage"
        os.chown(leave_segment(path, data, session), STRANGER, GROUP)
        os.chown(path / lock_name(session), STRANGER, GROUP)
    leave(path, 1, name="z" * 22)
    rig = Rig(path)

    async def main() -> None:
        running = asyncio.create_task(rig.source.run())
        await until(lambda: any(batch.peer.uid == 0 for batch in rig.got))
        assert sum(batch.peer.uid == STRANGER for batch in rig.got) < 300
        running.cancel()

    rig.run(main)


@needs_root
def test_what_is_too_much_is_a_loss(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Excess files are removed after a time and reported as lost once; other users lose nothing."""
    monkeypatch.setattr("hub.sources.spoolfolder.SpoolFolder.room", lambda _: (100_000, 1000))
    rig = Rig(path)

    def keep() -> None:
        spool = Spool(str(path), new_session())
        backlog = Backlog(allocate=spool.allocate)
        assert backlog.append(b"left", entry(1))
        kept.append((spool, backlog))

    async def main() -> None:
        await rig.source.sweep()
        assert len(list(path.glob("*.seg"))) == 1, "a hub that has just come reads what has piled up"
        rig.now += userfiles.PATIENCE_S
        leave_segment(path, segment(session, [frame(session, 1, entry(7), 1)]), session)
        for _ in range(3):
            await rig.source.sweep()

    kept: list[object] = []
    session = new_session()
    with living(STRANGER, keep, groups=[GROUP]):
        rig.run(main)
        assert [left.suffix for left in path.iterdir()] == [".lock"], "the process lives, and keeps its lock"
    assert rig.numbers() == [7]
    (loss,) = rig.records(b"mpsr.loss")
    assert (loss["count"], loss["bytes"]) == (1, 1 << 20)
    assert str(userfiles.FILES_MAX) in str(loss["reason"])
    assert loss["peer"] == {"pid": 0, "uid": STRANGER, "gid": -1, "comm": ""}


@needs_root
def test_log_lines_are_rationed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any number of bad files of one user cause one log line of each kind per second; another user has its own."""

    def plant() -> None:
        for number in range(100):
            write(path / f"junk {number}")
            write(path / segment_name(f"{number:022}", 1), b"garbage")

    for uid in (STRANGER, STRANGER + 1):
        assert as_user(uid, plant if uid == STRANGER else lambda: write(path / "x"), groups=[GROUP]) == 0
    rig = Rig(path)
    for lines in (rig.users.of(uid).lines for uid in (STRANGER, STRANGER + 1)):
        lines._clock = lambda: 1000.0  # time stands still

    async def main() -> None:
        for _ in range(2):
            await rig.source.sweep()
            as_user(STRANGER, lambda: write(path / "more junk"), groups=[GROUP])

    rig.run(main)
    logged = capsys.readouterr().err
    assert logged.count("spool.foreign_files") == 2
    assert logged.count("message.lost") == 1
    assert rig.metrics.losses == 100


@needs_root
def test_steps_on_the_loop_are_short(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the worst known files, no callback on the event loop takes 20 ms of CPU time."""
    unread, read = new_session(), new_session()
    frames = numbered_frames(unread, 30_000, b"\x92\xc0\x80", 1, tag=b"")
    files = {unread: segment(unread, frames)}
    frames = numbered_frames(read, 500_000, b"", 0, tag=b"")
    files[read] = segment(read, frames, acknowledged=1 << 63)
    files |= {f"{number:022}": b"garbage" for number in range(500)}
    worst_s = 0.0
    original = asyncio.events.Handle._run

    def run(fd: asyncio.Handle) -> None:
        nonlocal worst_s
        began = time.thread_time()
        original(fd)
        worst_s = max(worst_s, time.thread_time() - began)

    monkeypatch.setattr(asyncio.events.Handle, "_run", run)
    monkeypatch.setattr("hub.users.LOSSES_PER_S", 1e6)

    def longest() -> float:
        nonlocal worst_s
        for name, content in files.items():
            leave_segment(path, content, name)
        rig, worst_s = Rig(path), 0.0
        with without_collection():
            rig.run()
        assert rig.metrics.adopted == 30_000
        return worst_s

    holds(0.02, longest)


@needs_root
@pytest.mark.parametrize("is_member", [True, False])
def test_another_user(base: Path, is_member: bool) -> None:
    """A member of the socket's group spools, whatever its umask, and its file names it; others keep memory."""
    with HubProcess(base, "--mode", "0666", "--group", "daemon") as hub:
        spool = Path(folder_beside(hub.socket))
        described = spool.stat()
        assert (stat.S_IMODE(described.st_mode), described.st_uid) == (SHARED_MODE, 0)

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

        code = as_user(NOBODY, send, groups=[described.st_gid] if is_member else [])
        assert code == (-signal.SIGKILL if is_member else 0)
        messages = eventually(lambda: hub.messages("left"), "they arrive")
        assert [message.record["n"] for message in messages] == list(range(10))
        (peer,) = {message.peer for message in messages}
        assert (peer.uid, peer.verified) == (NOBODY, not is_member)
        eventually(lambda: not os.listdir(spool), "nothing stays")


def test_files_can_be_read_by_the_hub(path: Path) -> None:
    """Whatever the umask, the hub's group may read a spool, and other users may not."""
    before = os.umask(0o077)
    try:
        leave(path, 1)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in path.iterdir()} == {0o640}


# The hub.


def test_a_hub_that_is_killed_while_it_adopts(base: Path) -> None:
    """Killed repeatedly during adoption, it duplicates and loses nothing, and each session is in order."""
    with HubProcess(base) as hub:
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
    """A starting hub reads the spools before it accepts, so a restarted program keeps its order."""
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


@needs_root
def test_a_reload_of_the_mode(base: Path) -> None:
    """The folder follows the socket after a reload, and after a manual change of the socket's file."""
    config = base / "hub.toml"
    config.write_text('mode = "0660"\n')
    with HubProcess(base, "--config", str(config)) as hub:
        spool = Path(folder_beside(hub.socket))
        assert stat.S_IMODE(spool.stat().st_mode) == SHARED_MODE
        config.write_text('mode = "0600"\ngroup = "daemon"\n')
        call("reload", path=hub.socket)
        assert stat.S_IMODE(spool.stat().st_mode) == 0o700
        config.write_text('mode = "0660"\ngroup = "daemon"\n')
        call("reload", path=hub.socket)
        there = spool.stat()
        assert (stat.S_IMODE(there.st_mode), there.st_gid) == (SHARED_MODE, os.stat(hub.socket).st_gid)
        os.chmod(hub.socket, 0o600)
        hub.stats()  # this connection ends
        eventually(lambda: stat.S_IMODE(spool.stat().st_mode) == 0o700, "it follows")


@needs_root
def test_a_folder_of_a_stranger(base: Path) -> None:
    """The hub runs, logs it once, and reads nothing from there."""
    spool = base / "hub.sock.spool"
    spool.mkdir()
    leave(spool, 10)
    os.chown(spool, STRANGER, STRANGER)
    with HubProcess(base) as hub:
        for _ in range(3):
            hub.stats()
        assert [event["error"] for event in hub.log if event["event"] == "spool.unavailable"] == [
            f"it belongs to user {STRANGER} (remove it)"
        ]
        assert hub.messages() == []
        assert (len(os.listdir(spool)), spool.stat().st_uid) == (2, STRANGER)
        assert hub.stop() == 0
