"""
Owner: a session belongs to one user; a process that becomes another user begins another; no message is lost or doubled.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.wire.spoolfile import folder_beside, unpack_header
from producers import Producer, outgoing
from producers.connecting import connected_socket
from producers.owner import Owner
from tests.producers.fakehub import FakeHub, numbers
from tests.producers.helpers import flushed
from tests.support import PATIENCE_S, HubProcess, eventually
from tests.users import ALICE, NEEDS_ROOT, as_user, open_folder

pytestmark = NEEDS_ROOT
Script = Callable[[Callable[[str], None]], object]


def become(uid: int) -> None:
    """Drop privileges, like a daemon."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def run(script: Script, answers: dict[str, Callable[[], object]]) -> str:
    """
    Run *script* in a child that belongs to root; for each word that it prints, the entry of *answers* runs here first.
    """
    ours, theirs = socket.socketpair()

    def ask(word: str) -> None:
        theirs.sendall(word.encode() + b"\n")
        assert theirs.recv(1) == b"."

    def serve() -> None:
        for word in asked:
            answers[word.strip()]()
            ours.sendall(b".")

    with ours, theirs, ours.makefile() as asked:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return as_user(0, lambda: script(ask))
        finally:
            theirs.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


@pytest.mark.parametrize("is_spooled", [True, False])
def test_a_daemon_that_drops_its_privileges(is_spooled: bool) -> None:
    """
    Between two connections root becomes Alice: every message arrives once, in order, with its user.

    Messages in root's files arrive as root's, and one flush reports that they were left; messages in memory arrive as
    Alice's.
    """

    def script(ask: Callable[[str], None]) -> str:
        producer = Producer(path, tag="t", spool=is_spooled, linger_s=0.0)

        def send(first: int) -> None:
            for number in range(first, first + 10):
                producer.send({"n": number})

        send(0)
        producer.flush(PATIENCE_S)
        ask("kill")
        send(10)
        assert bool(producer.stats()["spool"]) == is_spooled
        eventually(lambda: producer.stats()["state"] == "disconnected")
        become(ALICE)
        eventually(lambda: producer._out._owner.uid == ALICE, "it tries to connect, as Alice")
        send(20)
        assert bool(producer.stats()["spool"]) == is_spooled, producer.stats()["spool_fault"]
        ask("start")
        first, second = flushed(producer), flushed(producer)
        assert (first, second) == ((10, 0) if is_spooled else (0, 0), (0, 0))
        stats = producer.stats()
        assert stats["appended"] == 30
        assert (stats["left"], stats["acknowledged"]) == ((10, 20) if is_spooled else (0, 30))
        assert (stats["pending"], producer.pending) == (0, 0)
        producer.close(PATIENCE_S)
        return "done"

    with open_folder() as root, HubProcess(root, "--mode", "0666", "--group", str(ALICE)) as hub:
        path = hub.socket
        assert run(script, {"kill": hub.kill, "start": hub.start}) == "done"
        eventually(lambda: not os.listdir(folder_beside(path)), "what root has left is adopted, and nothing else is")
        messages = hub.messages("t")
        uids = {message.record["n"]: message.peer.uid for message in messages}
        assert uids == {n: 0 if n < 10 or (is_spooled and n < 20) else ALICE for n in range(30)}
        assert len(messages) == 30
        for uid in (0, ALICE):
            of_user = [message.record["n"] for message in messages if message.peer.uid == uid]
            assert of_user == sorted(of_user)


def test_what_was_under_way_is_not_sent_again_as_another(fake: FakeHub) -> None:
    """A chunk in root's file that was in flight, and may be stored already, is not sent over Alice's connection."""
    folder = Path(folder_beside(fake.path))
    folder.mkdir(mode=0o777)
    os.chown(folder, 0, ALICE)
    folder.chmod(0o3730)
    folder.parent.chmod(0o755)
    os.chmod(fake.path, 0o666)

    def script(ask: Callable[[str], None]) -> object:
        producer = Producer(fake.path, chunk_bytes_max=1)
        for number in range(3):
            producer.send({"n": number})
        ask("take all, acknowledge one")
        eventually(lambda: producer.stats()["state"] == "disconnected" or producer.stats()["acknowledged"])
        become(ALICE)
        ask("hang up")
        eventually(lambda: producer.stats()["state"] == "connected" and producer.stats()["left"])
        producer.send({"n": 3})
        ask("take the next")
        assert flushed(producer) == (2, 0)
        stats = producer.stats()
        producer.close(PATIENCE_S)
        return stats["appended"], stats["acknowledged"], stats["left"]

    def take_all() -> None:
        connections.append(fake.accept())
        chunks.extend(connections[0].chunks_until(2))
        connections[0].ack(chunks[0])

    def take_next() -> None:
        connections.append(fake.accept())
        chunks.append(connections[1].chunk())
        connections[1].ack(chunks[-1])

    connections, chunks = [], []  # type: ignore[var-annotated]
    answers = {"take all, acknowledge one": take_all, "hang up": lambda: connections[0].close()}  # noqa: PLW0108  still empty
    assert run(script, {**answers, "take the next": take_next}) == "(4, 2, 2)"
    assert numbers(chunks) == [0, 1, 2, 3]
    sessions = [chunk.id.split(".")[1] for chunk in chunks]
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3]
    assert int(chunks[3].id[-16:], 16) == 1
    assert len({path.name.split(".")[0] for path in folder.iterdir()}) == 1
    headers = [unpack_header(path.read_bytes()) for path in folder.glob("*.seg")]
    assert {header and header.session for header in headers} == {sessions[0]}


def test_a_session_that_nobody_has_used() -> None:
    """
    If a producer is created as root and first used as Alice, its session and files are Alice's from the first message.
    """

    def script(_: object) -> object:
        producer = Producer(path)
        session = producer._out.backlog.session
        become(ALICE)
        producer.send({"n": 0})
        assert producer.stats()["spool"]
        assert producer._out.backlog.session == session
        os._exit(0)

    with open_folder() as root:
        path = root / "s"
        spool = Path(folder_beside(str(path)))
        spool.mkdir()
        os.chown(spool, 0, ALICE)
        spool.chmod(0o3730)
        run(script, {})
        assert {file.stat().st_uid for file in spool.iterdir()} == {ALICE}


def test_no_file_of_another_user(fake: FakeHub) -> None:
    """While the process runs as another user than its session's, messages wait in memory."""
    folder = Path(folder_beside(fake.path))
    folder.mkdir()
    folder.parent.chmod(0o711)
    producer = Producer(fake.path, linger_s=0.0)
    producer.send({"n": 0, "pad": "x" * 900_000})
    connection = fake.accept()
    first = connection.chunk()
    assert len(list(folder.glob("*.seg"))) == 1
    os.seteuid(ALICE)
    try:
        producer.send({"n": 1, "pad": "x" * 900_000})
        assert producer.stats()["spool_fault"].endswith(
            "for files of user 0, but this process now runs as another user"
        )
    finally:
        os.seteuid(0)
    assert len(list(folder.glob("*.seg"))) == 1
    connection.ack(first, connection.chunk())
    producer.close(PATIENCE_S)


def test_another_user_while_it_connects(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection made as another user than the session's is not used; the next one gets another session."""
    os.chmod(fake.path, 0o666)
    Path(fake.path).parent.chmod(0o755)

    def connect(path: str) -> socket.socket:
        sock = connected_socket(path)
        os.seteuid(ALICE)
        return sock

    monkeypatch.setattr(outgoing, "connected_socket", connect)
    producer = Producer(fake.path, spool=False)
    session = producer._out.backlog.session
    try:
        producer.send({"n": 0})
        assert fake.accept().is_closed_by_peer()
        connection = fake.accept()
        chunk = connection.chunk()
        assert session not in chunk.id
        connection.ack(chunk)
        producer.close(PATIENCE_S)
    finally:
        os.seteuid(0)


def test_claims() -> None:
    """The first claim sets the user."""
    owner = Owner()
    assert owner.uid is None
    os.seteuid(ALICE)
    try:
        assert owner.claim()
    finally:
        os.seteuid(0)
    assert not owner.claim()
    assert owner.uid == ALICE
