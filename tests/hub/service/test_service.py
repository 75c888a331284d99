"""hub.service.service: the hub as a process. What it accepted is on disk, however it ends, and only one hub runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgpack
import pytest

from hub.errors import JournalUnavailable, SocketError, SocketInUse
from hub.journal.journal import Journal
from hub.journal.reader import Gap
from hub.journal.writer import Commit
from hub.message import Batch
from hub.service.config import Config
from hub.service.service import Service
from hub.service.settings import load
from hub.sources.spool import SpoolSource
from producers import Producer
from tests import support
from tests.hub.clients import Run, both_loops, chunk, connect, read_acks, read_to_end, until
from tests.support import HubProcess, eventually, mpsr


def events(hub: HubProcess, name: str) -> list[dict[str, Any]]:
    return [event for event in hub.log if event["event"] == name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it(hub: HubProcess, number: signal.Signals) -> None:
    """After SIGTERM or SIGINT everything accepted is committed and acknowledged, the path is gone, the code is 0."""
    for n in range(200):
        connect(hub.socket, f"line {n}\n".encode()).close()
    clients = [connect(hub.socket, chunk(f"id {n}", 5, tag=b"app")) for n in range(50)]
    hub.process.send_signal(number)
    assert hub._wait() == 0
    assert [read_acks(client, 2) for client in clients] == [[f"id {n}"] for n in range(50)]
    for client in clients:
        client.close()
    assert {message.record["message"] for message in hub.messages("text")} == {f"line {n}" for n in range(200)}
    assert len(hub.messages("app")) == 250
    assert [message.sequence for message in hub.messages()] == list(range(1, 451))
    assert not os.path.exists(hub.socket)
    assert hub.log[-1]["event"] == "hub.stopped"
    assert hub.log[-1]["last_sequence"] == 450


def test_a_stop_stores_what_waits_for_a_rate_limit(tmp_path: Path) -> None:
    """It was read, and its sender may be gone: a connection, a pipe and datagrams are let through at once."""
    config = tmp_path / "hub.toml"
    config.write_text("[[limits]]\nmessages_per_s = 0.001\n")
    pipe, log = tmp_path / "pipe", tmp_path / "log"
    with HubProcess(tmp_path, "--config", str(config), "--fifo", str(pipe), "--datagram", str(log)) as hub:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(str(log))
            for _ in range(2):
                connect(hub.socket, b"of a connection\n").close()
                client.send(b"<13>a datagram")
                pipe.write_bytes(b'{"tag": "pipe"}\n')
                eventually(lambda: Counter(message.tag for message in hub.messages()) == ONE_EACH)
        assert hub.stop() == 0
        assert Counter(message.tag for message in hub.messages()) == ONE_EACH + ONE_EACH
        assert not events(hub, "hub.stopped_late")


ONE_EACH = Counter(["text", "syslog", "pipe"])


def test_a_source_that_is_removed_stores_what_waits_for_a_rate_limit(tmp_path: Path) -> None:
    """What it has taken is stored before the reload ends; other senders go on waiting."""
    config, pipe, log = tmp_path / "hub.toml", tmp_path / "pipe", tmp_path / "log"
    limits = "[[limits]]\nmessages_per_s = 0.001\n"
    config.write_text(f'fifo = ["{pipe}"]\ndatagram = ["{log}"]\n{limits}')
    with (
        HubProcess(tmp_path, "--config", str(config)) as hub,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client,
    ):
        client.connect(str(log))
        for _ in range(2):
            connect(hub.socket, b"of a connection\n").close()
            client.send(b"<13>a datagram")
            pipe.write_bytes(b'{"tag": "pipe"}\n')
            eventually(lambda: Counter(message.tag for message in hub.messages()) == ONE_EACH)
        config.write_text(limits)
        hub.process.send_signal(signal.SIGHUP)
        eventually(lambda: events(hub, "config.reloaded"))
        assert Counter(message.tag for message in hub.messages()) == ONE_EACH + Counter(["syslog", "pipe"])


def test_print(tmp_path: Path) -> None:
    """All committed messages are printed, including the last, in order."""
    with HubProcess(tmp_path, "--print", stdout=tmp_path / "out") as hub:
        with Producer(hub.socket, tag="app") as producer:
            for n in range(2000):
                producer.send({"message": f"number {n}"})
        for n in range(100):
            connect(hub.socket, f"late {n}\n".encode()).close()
        assert hub.stop() == 0
        lines = (tmp_path / "out").read_text().splitlines()
        assert [line.rpartition("] ")[2] for line in lines[:2000]] == [f"number {n}" for n in range(2000)]
        assert len(lines) == len(hub.messages()) == 2100


def test_print_decodes_no_large_frame(tmp_path: Path) -> None:
    """A frame whose values would take much memory is stored, and printed as one line without its messages."""
    entries = msgpack.packb([1, {"a": [{}] * 300_000}])
    with HubProcess(tmp_path, "--print", stdout=tmp_path / "out") as hub:
        connect(hub.socket, msgpack.packb(["big\x1b", entries])).close()
        connect(hub.socket, b"small\n").close()
        assert hub.stop() == 0
        assert len(hub.messages()) == 2
    small, big = sorted((tmp_path / "out").read_text().splitlines())
    assert big == f"not printed: 1 message of big\\x1b, {len(entries) + 5} bytes (read them with `mpsr logs`)"
    assert small.endswith("] small")


def test_print_to_nobody(tmp_path: Path) -> None:
    """A hub whose printed output is no longer read continues, and stops as usual."""
    os.mkfifo(tmp_path / "out")
    reader = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    with HubProcess(tmp_path, "--print", stdout=tmp_path / "out") as hub:
        os.close(reader)
        for n in range(3):
            client = connect(hub.socket, chunk(f"{n}"))
            assert read_acks(client, 1) == [f"{n}"]
            client.close()
        assert hub.stop() == 0
        assert len(hub.messages()) == 3


@pytest.mark.parametrize(
    ("socket_of", "journal_of", "sentence"),
    [
        ("first", "second", "mpsr: cannot listen on {socket}: process {pid} is already listening there"),
        ("second", "first", "mpsr: journal {journal}: process {pid} is already writing to it"),
        ("first", "first", "mpsr: journal {journal}: process {pid} is already writing to it"),
    ],
)
def test_a_second_hub_is_refused(
    hub: HubProcess, tmp_path: Path, socket_of: str, journal_of: str, sentence: str
) -> None:
    """A hub on a taken socket or journal names the other process in one line and exits with 1."""
    sockets = {"first": hub.socket, "second": str(tmp_path / "second.sock")}
    journals = {"first": hub.journal, "second": str(tmp_path / "second")}
    ran = mpsr("hub", "--socket", sockets[socket_of], "--journal", journals[journal_of])
    line = ran.stderr.decode()
    assert (ran.returncode, ran.stdout, line.count("\n")) == (1, b"", 1)
    assert line.startswith(sentence.format(socket=hub.socket, journal=hub.journal, pid=hub.process.pid))
    assert not os.path.exists(sockets["second"])
    client = connect(hub.socket, chunk("still there"))
    assert read_acks(client, 1) == ["still there"]
    client.close()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--group", "no-such-group"], 2, "no such group: no-such-group"),
        (["--socket", "/tmp/" + "x" * 120], 2, "choose a shorter --socket"),
        (["--socket", "{tmp}"], 1, "a folder is already there"),
        (["--journal", "{tmp}/file"], 1, "{tmp}/file"),
        (["--socket", "{tmp}/file/s"], 1, "choose a --socket"),
    ],
)
def test_what_it_cannot_have(tmp_path: Path, options: list[str], code: int, words: str) -> None:
    """A group, socket or journal that cannot be used is one line, with exit code 2 for usage, else 1."""
    (tmp_path / "file").touch()
    given = [option.format(tmp=tmp_path) for option in options]
    defaults = ["--socket", str(tmp_path / "s"), "--journal", str(tmp_path / "j")]
    ran = mpsr("hub", *defaults, *given)
    line = ran.stderr.decode()
    assert (ran.returncode, ran.stdout, line.count("\n")) == (code, b"", 1)
    assert words.format(tmp=tmp_path) in line
    assert not (tmp_path / "s").exists()


def test_killed_hubs_leave_nothing_in_the_way(hub: HubProcess) -> None:
    """After a kill the next hub gets the same socket and journal, with everything acknowledged."""
    for n in range(3):
        client = connect(hub.socket, chunk(f"{n}"))
        assert read_acks(client, 1) == [f"{n}"]
        hub.kill()
        assert os.path.exists(hub.socket)
        client.close()
        hub.start()
    assert hub.stop() == 0
    assert len(hub.messages()) == 3


def test_relaxed(tmp_path: Path) -> None:
    """With relaxed durability a crash of the hub loses nothing that was acknowledged."""
    with HubProcess(tmp_path, "--durability", "relaxed") as hub:
        clients = [connect(hub.socket, chunk(f"{n}", 10)) for n in range(20)]
        assert [read_acks(client, 1) for client in clients] == [[f"{n}"] for n in range(20)]
        hub.kill()
        assert len(hub.messages()) == 200
        hub.start()
        assert events(hub, "hub.listening")[-1]["last_sequence"] == 200
        assert hub.stop() == 0
        for client in clients:
            client.close()


def test_mode_and_start(tmp_path: Path) -> None:
    """The socket has the requested mode; the first line of the log names socket, journal and process."""
    with HubProcess(tmp_path, "--mode", "0600") as hub:
        assert os.stat(hub.socket).st_mode & 0o777 == 0o600
        (started,) = events(hub, "hub.listening")
        assert (started["socket"], started["journal"]) == (hub.socket, hub.journal)
        assert (started["pid"], started["last_sequence"], started["missing"]) == (hub.process.pid, 0, 0)


def memory(hub: HubProcess) -> int:
    """Return the hub's peak memory in bytes."""
    status = Path(f"/proc/{hub.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_memory_is_bounded(hub: HubProcess) -> None:
    """200 MB from four clients that never wait arrive at a bounded cost of memory."""
    before = memory(hub)
    piece = (b"x" * 9999 + b"\n") * 100

    def pour() -> None:
        with connect(hub.socket) as client:
            for _ in range(50):
                client.sendall(piece)

    threads = [threading.Thread(target=pour) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: hub.stats()["messages"] == 20_000, "all messages")
    assert memory(hub) - before < 120 << 20
    stats = hub.stats()
    assert (stats["inbox_bytes"], stats["losses"]) == (0, 0)
    assert stats["rss_bytes"] <= memory(hub)


def test_out_of_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub with few descriptors makes further clients wait and loses none, while it runs or at the stop."""
    monkeypatch.setattr(support, "MPSR", ("sh", "-c", 'ulimit -n 40; exec "$@"', "sh", *support.MPSR))
    with HubProcess(tmp_path) as hub:
        idle = [connect(hub.socket) for _ in range(50)]
        for n in range(100):
            connect(hub.socket, f"at work {n}\n".encode()).close()
        eventually(lambda: events(hub, "listener.paused"), "out of descriptors")
        for client in idle:
            client.close()
        eventually(lambda: len(hub.messages()) == 100, "all messages")
        idle = [connect(hub.socket) for _ in range(50)]
        for n in range(100):
            connect(hub.socket, f"at the stop {n}\n".encode()).close()
        assert hub.stop() == 0
        assert len(hub.messages()) == 200
        for client in idle:
            assert read_to_end(client) == b""
            client.close()


def test_it_takes_what_descriptors_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A low soft limit is raised: more clients than the limit are connected at once."""
    monkeypatch.setattr(support, "MPSR", ("sh", "-c", 'ulimit -S -n 40; exec "$@"', "sh", *support.MPSR))
    with HubProcess(tmp_path) as hub:
        clients = [connect(hub.socket, chunk(f"{n}")) for n in range(100)]
        assert [read_acks(client, 1) for client in clients] == [[f"{n}"] for n in range(100)]
        assert hub.stats()["connections"] == 101
        for client in clients:
            client.close()


def test_nobody_reads_its_log(tmp_path: Path) -> None:
    """A hub whose log is no longer read continues: faults are stored as losses, and it stops as usual."""
    command = [*support.MPSR, "hub", "--socket", str(tmp_path / "s"), "--journal", str(tmp_path / "j")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert any(json.loads(line)["event"] == "hub.listening" for line in process.stderr)
        process.stderr.close()
        for _ in range(3):
            bad = connect(str(tmp_path / "s"), chunk("good") + b"\x93\xc1")
            assert read_acks(bad, 2) == ["good"]
            bad.close()
        process.terminate()
        assert process.wait(30) == 0
    tags = Counter(message.tag for message in support.read_messages(str(tmp_path / "j")))
    assert tags == {"app": 1, "mpsr.loss": 3}


AT_HAND = """
import os, signal, sys
from hub.cli import main
from hub.journal.journal import Journal

opening, closing = ([getattr(signal, name) for name in names.split(",") if name] for names in sys.argv[1:3])
open_, close = Journal.open, Journal.close

async def opened(*args, **options):
    for number in opening:
        os.kill(os.getpid(), number)
    return await open_(*args, **options)

async def closed(journal):
    for number in closing:
        os.kill(os.getpid(), number)
    await close(journal)
    for number in closing:
        os.kill(os.getpid(), number)

Journal.open, Journal.close = opened, closed
del sys.argv[1:3]
main()
"""
"""A hub that sends itself signals before its journal is opened, and before and after it is closed."""


def signalled(monkeypatch: pytest.MonkeyPatch, *, opening: str = "", closing: str = "") -> None:
    monkeypatch.setattr(support, "MPSR", (sys.executable, "-c", AT_HAND, opening, closing))


def test_hang_ups_during_the_start_are_one_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP before the journal is open does not end the hub; it reloads once, when it has started."""
    signalled(monkeypatch, opening="SIGHUP,SIGHUP")
    with HubProcess(tmp_path) as hub:
        eventually(lambda: events(hub, "config.reloaded"), "the reload")
        assert hub.stop() == 0
        assert len(events(hub, "config.reloaded")) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP,SIGTERM"])
def test_a_stop_during_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As soon as the journal is open it is closed again: exit code 0, a sealed journal, and never a socket."""
    signalled(monkeypatch, opening=name)
    done = support.mpsr("hub", "--socket", str(tmp_path / "s"), "--journal", str(tmp_path / "j"))
    said = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert (done.returncode, said) == (0, ["hub.stopped"])
    assert sorted(os.listdir(tmp_path)) == ["j"]
    assert (tmp_path / "j" / "seal").exists()


def test_signals_while_the_journal_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second SIGTERM, or SIGHUP, during the last step of a stop does not interrupt it: the seal is written."""
    signalled(monkeypatch, closing="SIGHUP,SIGTERM,SIGINT")
    with HubProcess(tmp_path) as hub:
        assert hub.stop() == 0
        assert hub.log[-1]["event"] == "hub.stopped"
    assert (tmp_path / "journal" / "seal").exists()


@both_loops
def test_a_stop_while_the_spools_are_read(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop during the start does not wait for the first look at the spools of dead producers."""
    looking = asyncio.Event()

    async def first_look(_: SpoolSource) -> None:
        looking.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SpoolSource, "first_look", first_look)

    async def main() -> None:
        service = Service(config(tmp_path))
        running = asyncio.create_task(service.run())
        await looking.wait()
        service.stop()
        await running
        assert (tmp_path / "j" / "seal").exists()

    run(main())


# In one process, with a journal that the test can break.


class BrokenJournal:
    """A journal that stores nothing and raises *error*."""

    def __init__(self, journal: Journal, error: Exception) -> None:
        self._journal, self._error = journal, error

    async def append(self, batches: Sequence[Batch]) -> Commit:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


def broken(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    original = Journal.open

    async def opened(*args: Any, **kwargs: Any) -> Any:
        return BrokenJournal(await original(*args, **kwargs), error)

    monkeypatch.setattr(Journal, "open", opened)


def config(tmp_path: Path, **more: str) -> Config:
    return load({"socket": str(tmp_path / "s"), "journal": str(tmp_path / "j"), **more}, environ={}).config


async def connected(path: str, data: bytes) -> socket.socket:
    await until(lambda: os.path.exists(path))
    return connect(path, data)


@both_loops
def test_a_disk_that_stays_full(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop while the journal is unavailable raises an error; unstored messages were not acknowledged."""
    monkeypatch.setattr("hub.receiver.RETRY_S", 0.001)
    broken(monkeypatch, JournalUnavailable("/j", "no space"))

    async def main() -> None:
        service = Service(config(tmp_path, stop_timeout="50ms"))
        running = asyncio.create_task(service.run())
        client = await connected(str(tmp_path / "s"), chunk("a"))
        service.stop()
        with pytest.raises(JournalUnavailable, match="not acknowledged"):
            await running
        assert read_to_end(client) == b""
        client.close()
        assert not (tmp_path / "s").exists()

    run(main())


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_hub_whose_lock_is_gone_ends(tmp_path: Path, busy: bool) -> None:
    """Within a second, or at the next message, it ends with an error; it acknowledges nothing more."""
    with HubProcess(tmp_path) as hub:
        with connect(hub.socket, chunk("first")) as client:
            assert read_acks(client, 1) == ["first"]
            (tmp_path / "journal" / "lock").unlink()
            if busy:
                client.sendall(chunk("second"))
                assert read_acks(client, 1) == []
        assert hub.process.wait(30) == 1
    assert "its lock file was removed or replaced" in hub.log[-1]["event"]
    hub.start()
    with hub, connect(hub.socket, chunk("first")) as client:
        client.sendall(chunk("second"))
        assert read_acks(client, 2) == ["first", "second"]
        assert len(hub.messages("app")) == 2


def test_a_socket_that_is_removed(tmp_path: Path) -> None:
    """The path, its lock and the spool are there again after a while; connected clients notice nothing."""
    with HubProcess(tmp_path) as hub:
        with connect(hub.socket, chunk("first")) as client:
            assert read_acks(client, 1) == ["first"]
            os.unlink(hub.socket)
            os.unlink(f"{hub.socket}.lock")
            os.rmdir(f"{hub.socket}.spool")
            eventually(lambda: os.path.exists(hub.socket))
            hub.look_for_spools()
            eventually(lambda: os.path.exists(f"{hub.socket}.spool"))
            client.sendall(chunk("second"))
            assert read_acks(client, 1) == ["second"]
        with connect(hub.socket, chunk("third")) as client:
            assert read_acks(client, 1) == ["third"]
        assert hub.stop() == 0
        assert [event["socket"] for event in events(hub, "socket.renewed")] == [hub.socket]
        assert not os.path.exists(hub.socket)
        assert len(hub.messages("app")) == 3


def test_a_socket_that_is_replaced(tmp_path: Path) -> None:
    """With something else in its place the hub ends in order, with an error that says what is there."""
    with HubProcess(tmp_path) as hub:
        with connect(hub.socket, chunk("first")) as client:
            os.unlink(hub.socket)
            Path(hub.socket).mkdir()
            assert read_acks(client, 1) == ["first"]
        assert hub._wait() == 1
        assert "a folder is already there" in hub.log[-1]["event"]
        assert len(hub.messages("app")) == 1
        assert os.path.isdir(hub.socket)


@both_loops
def test_a_receiver_that_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours in the receiver stops the service, which raises it; journal and socket are free again."""
    broken(monkeypatch, ZeroDivisionError("ours"))

    async def main() -> None:
        running = asyncio.create_task(Service(config(tmp_path, stop_timeout="1000s")).run())
        client = await connected(str(tmp_path / "s"), chunk("a"))
        with pytest.raises(ZeroDivisionError):
            await running
        assert read_to_end(client) == b""
        client.close()
        monkeypatch.undo()
        service = Service(config(tmp_path))
        running = asyncio.create_task(service.run())
        client = await connected(str(tmp_path / "s"), chunk("a"))
        assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
        client.close()
        service.stop()
        await running

    run(main())


async def failed(*_: object) -> NoReturn:
    await asyncio.sleep(0)
    raise ZeroDivisionError("ours")


def failed_at_once(*_: object) -> NoReturn:
    raise ZeroDivisionError("ours")


@both_loops
@pytest.mark.parametrize(
    ("patched", "failing"),
    [
        ("hub.service.watchdog.Watchdog.run", failed),
        ("hub.journal.journal.Journal.check_lock", failed),
        ("hub.journal.journal.Journal.expire", failed),
        ("hub.service.systemd.Notifier.status", failed_at_once),
        ("hub.sinks.stdout.Printer._wake", failed),
        ("hub.receiver.Receiver.run", failed),
        ("hub.sources.spool.SpoolSource.look", failed),
        ("hub.sources.spool.SpoolSource.first_look", failed),
        ("hub.listener.Listener._accept_next", failed),
        ("hub.service.service.Service._reload_after_hangups", failed),
    ],
)
def test_a_part_that_dies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patched: str, failing: Callable[..., Any]
) -> None:
    """Any part that fails ends the service with its error, and socket and journal are free again."""
    monkeypatch.setattr(patched, failing)
    monkeypatch.setattr("hub.service.housekeeping.LOCK_INTERVAL_S", 0.001)
    monkeypatch.setattr("hub.service.housekeeping.EXPIRY_INTERVAL_MIN_S", 0.001)
    expected = SocketError if "listener" in patched else ZeroDivisionError

    async def main() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            async with asyncio.timeout(support.PATIENCE_S):
                with pytest.raises(expected) as raised:
                    await Service(config(tmp_path, journal_age="1s"), print_batch=lambda _: None).run()
        assert isinstance(raised.value.__cause__ or raised.value, ZeroDivisionError)
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("mpsr-")] == []
        assert not (tmp_path / "s").exists()
        journal = await Journal.open(str(tmp_path / "j"))
        await journal.close()

    run(main())


async def last_sequence(folder: Path) -> int:
    """Return the last sequence in the journal that `config` names, which no service has open."""
    journal = await Journal.open(str(folder / "j"))
    await journal.close()
    return journal.last_sequence


@both_loops
@pytest.mark.parametrize("name", ["expire", "report"])
def test_what_was_sent_when_a_part_dies(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What clients had sent is stored before the service ends, also if they ask for no acknowledgement."""
    dying = asyncio.Event()

    async def die(*_: object) -> None:
        await dying.wait()
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(f"hub.service.housekeeping.{name}", die)

    async def main() -> None:
        running = asyncio.create_task(Service(config(tmp_path)).run())
        client = await connected(str(tmp_path / "s"), chunk("a"))
        assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
        for _ in range(100):
            connect(str(tmp_path / "s"), b"no acknowledgement is asked for\n").close()
        dying.set()
        with pytest.raises(ZeroDivisionError):
            await running
        client.close()
        assert await last_sequence(tmp_path) == 101

    run(main())


@both_loops
def test_a_sink_that_dies(run: Run, tmp_path: Path) -> None:
    """An error in what prints the messages, on its thread, ends the service; what was committed stays."""

    async def main() -> None:
        running = asyncio.create_task(Service(config(tmp_path), print_batch=failed_at_once).run())
        client = await connected(str(tmp_path / "s"), chunk("a"))
        with pytest.raises(ZeroDivisionError):
            await running
        client.close()
        assert await last_sequence(tmp_path) == 1

    run(main())


@both_loops
def test_print_batch_is_called_with_everything(run: Run, tmp_path: Path) -> None:
    """*print_batch* gets everything committed after the start, up to the last, and nothing older."""

    async def main() -> None:
        for expected in ([1, 2, 3], [4, 5, 6]):
            printed: list[Batch | Gap] = []
            service = Service(config(tmp_path), print_batch=printed.append)
            running = asyncio.create_task(service.run())
            client = await connected(str(tmp_path / "s"), chunk(f"a {expected}") + chunk(f"b {expected}"))
            assert len(await asyncio.to_thread(read_acks, client, 2)) == 2
            client.sendall(chunk(f"c {expected}"))
            service.stop()
            await running
            assert [batch.sequence for batch in printed] == expected
            client.close()

    run(main())


@both_loops
def test_a_taken_socket_frees_the_journal(run: Run, tmp_path: Path) -> None:
    """A service that cannot bind its socket releases the journal."""

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "s"))
            other.listen()
            with pytest.raises(SocketInUse):
                await Service(config(tmp_path)).run()
        journal = await Journal.open(str(tmp_path / "j"))
        await journal.close()

    run(main())


@both_loops
def test_cancelled(run: Run, tmp_path: Path) -> None:
    """A cancelled service closes its clients, its socket and its journal."""

    async def main() -> None:
        running = asyncio.create_task(Service(config(tmp_path)).run())
        client = await connected(str(tmp_path / "s"), chunk("a"))
        assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert read_to_end(client) == b""
        client.close()
        assert not (tmp_path / "s").exists()
        assert await last_sequence(tmp_path) == 1

    run(main())
