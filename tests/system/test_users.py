"""
Messages of one user are never taken for a resend of another user's: a real hub, users with real ids.

Mallory knows everything that Alice knows (tags, chunk ids, her session) from reading the journal.
"""

from __future__ import annotations

import grp
import os
import subprocess
from collections.abc import Iterator

import pytest

from hub.errors import JournalUnusable
from hub.wire import chunkid
from producers import Producer
from tests.docs.pages import ROOT, blocks_of
from tests.hub.clients import chunk, connect, frame_of, read_acks
from tests.support import HubProcess
from tests.users import ALICE, MALLORY, NEEDS_ROOT, as_user, open_folder

pytestmark = NEEDS_ROOT


@pytest.fixture
def hub() -> Iterator[HubProcess]:
    """A hub to which every user may send."""
    with open_folder() as folder:
        (folder / "run").mkdir()
        with HubProcess(folder / "run", "--mode", "0666") as hub:
            yield hub


def test_a_group_reads_the_journal_as_documented() -> None:
    """The recipe of docs/operating.md opens the journal to a group, whatever the hub's umask, also what comes later."""
    (recipe,) = (
        block.text for block in blocks_of(ROOT / "docs/operating.md") if block.reason == "needs a second group"
    )
    group = grp.getgrnam("adm").gr_gid
    with open_folder() as folder:
        before = os.umask(0o077)
        try:
            hub = HubProcess(folder, "--journal-size", "4MiB")
        finally:
            os.umask(before)
        with hub:
            send_megabyte(hub)
            subprocess.run(["sh", "-ec", recipe], env={**os.environ, "MPSR_JOURNAL": hub.journal}, check=True)
            send_megabyte(hub)  # begins a segment
            stored = len(hub.messages())
            assert as_user(MALLORY, lambda: len(hub.messages()), groups=[group]) == str(stored)
            assert "cannot be read: Permission denied" in as_user(MALLORY, lambda: refusal(hub))
            hub.stop()
            hub.start()
            assert as_user(MALLORY, lambda: len(hub.messages()), groups=[group]) == str(stored)


def send_megabyte(hub: HubProcess) -> None:
    with Producer(hub.socket) as producer:
        for _ in range(11):
            producer.send({"text": "x" * 100_000})


def refusal(hub: HubProcess) -> str:
    with pytest.raises(JournalUnusable) as refused:
        hub.messages()
    return str(refused.value)


def acknowledged(uid: int, path: str, *frames: bytes) -> int:
    """Send frames with chunk ids as the user *uid*; return the number of acknowledgements."""

    def send_all() -> int:
        with connect(path, b"".join(frames)) as client:
            return len(read_acks(client, len(frames)))

    return int(as_user(uid, send_all))


def test_chunks_sent_before_under_the_same_ids_take_nothing_away(hub: HubProcess) -> None:
    """Chunks under the victim's tag and future ids, empty or full, do not prevent the victim's from being stored."""
    ids = [str(number) for number in range(1, 101)]
    empty = [frame_of(chunkid.pack(each), tag=b"app.orders") for each in ids]
    full = [chunk(each, tag=b"app.orders", text="mallory") for each in ids]
    assert acknowledged(MALLORY, hub.socket, *empty, *full) == 200
    mine = [chunk(each, tag=b"app.orders", text=f"order {each}") for each in ids]
    same = [chunk(each, tag=b"app.orders", text="mallory") for each in ids]
    for _ in range(2):  # the second time as after a lost acknowledgement
        assert acknowledged(ALICE, hub.socket, *mine, *same) == 200
    stored = hub.messages("app.orders")
    alices = [message.record["text"] for message in stored if message.peer.uid == ALICE]
    assert alices == [f"order {each}" for each in ids] + ["mallory"] * 100
    assert sum(message.peer.uid == MALLORY for message in stored) == 100


def test_two_workers_that_number_their_chunks_alike_lose_nothing(hub: HubProcess) -> None:
    """Programs of one user with one tag and equal chunk numbers are distinguished by content."""
    for worker in ("one", "two"):
        frames = [chunk(str(number), text=f"{worker} {number}") for number in range(100)]
        assert acknowledged(ALICE, hub.socket, *frames) == 100
    assert len(hub.messages("app")) == 200


def test_a_session_that_is_known_to_others_goes_on(hub: HubProcess) -> None:
    """Its highest counter, sent by another user, does not affect it, before and after a restart of the hub."""
    run_session(hub, "before")
    hub.kill()
    hub.start()
    run_session(hub, "after")


def run_session(hub: HubProcess, name: str) -> None:
    """Let Alice send, Mallory interfere, and Alice send again; check that all her messages are stored."""
    session = f"{name:_<22}"
    frames = [
        frame_of(chunkid.pack_own(session, number), {"n": number}, tag=name.encode()) for number in range(1, 1001)
    ]
    last = chunkid.pack_own(session, chunkid.COUNTER_MAX)
    assert acknowledged(ALICE, hub.socket, *frames[:1]) == 1
    assert acknowledged(MALLORY, hub.socket, frame_of(last), frame_of(last, {"text": "mallory"})) == 2
    assert acknowledged(ALICE, hub.socket, *frames) == 1000
    assert [message.record["n"] for message in hub.messages(name)] == list(range(1, 1001))
