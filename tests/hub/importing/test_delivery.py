"""hub.importing.delivery: chunks out, acknowledgements in, against a hub that the test controls."""

from __future__ import annotations

import threading
from pathlib import Path

import msgpack
import pytest

from hub.importing import delivery
from hub.importing.cutting import Chunk
from hub.importing.delivery import Broken, Delivery
from hub.wire.claim import Claim
from tests.producers.fakehub import FakeConnection, FakeHub
from tests.support import PATIENCE_S

ENTRY = b"\x92\xc0\x81\xa7message\xa1a"
CHUNK = Chunk(ENTRY * 2, 2, 4)
CLAIM: Claim = (b"name", 0, b"", 4, b"digest")


def accepted(folder: Path, timeout: float = PATIENCE_S) -> tuple[FakeHub, Delivery, FakeConnection]:
    hub = FakeHub(str(folder / "s"))
    client = Delivery(hub.path, "tag", timeout=timeout)
    return hub, client, hub.accept()


def test_a_chunk_and_its_acknowledgement(folder: Path) -> None:
    """The frame has the entries, their number and the claim; it is settled when it is acknowledged."""
    hub, client, connection = accepted(folder)
    with hub:
        client.send(CHUNK, CLAIM)
        received = connection.chunk()
        tag, entries, options = msgpack.unpackb(received.raw)
        assert (tag, entries, options["size"]) == ("tag", ENTRY * 2, 2)
        assert options["position"] == [b"name", 0, b"", 4, b"digest"]
        connection.ack(received.id)
        client.settle()
        client.send(CHUNK, CLAIM)
        assert connection.chunk().id != received.id
        client.close()


def test_what_is_on_its_way_is_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full window, sending waits for an acknowledgement."""
    monkeypatch.setattr(delivery, "WINDOW_BYTES", 200)
    hub, client, connection = accepted(folder)
    with hub:
        done = threading.Event()

        def send() -> None:
            for _ in range(4):
                client.send(CHUNK, CLAIM)
            done.set()

        thread = threading.Thread(target=send)
        thread.start()
        first, second = connection.chunk(), connection.chunk()
        assert not done.is_set()
        for received in (first, second):
            connection.ack(received.id)
        for _ in range(2):
            connection.ack(connection.chunk().id)
        thread.join(PATIENCE_S)
        assert done.is_set()
        client.settle()
        client.close()


def test_a_hub_that_does_not_answer(folder: Path) -> None:
    """It is given up after the time."""
    hub, client, _ = accepted(folder, timeout=0.05)
    with hub:
        client.send(CHUNK, CLAIM)
        with pytest.raises(Broken, match=r"did not answer within 0\.05 s"):
            client.settle()
        client.close()


def test_a_hub_that_ends(folder: Path) -> None:
    """Whether it is noticed in sending or in waiting."""
    hub, client, connection = accepted(folder)
    with hub:
        client.send(CHUNK, CLAIM)
        connection.close()
        with pytest.raises(Broken, match="the connection"):
            client.settle()
        with pytest.raises(Broken):
            client.send(Chunk(ENTRY * 100_000, 100_000, 4), CLAIM)
        client.close()


def test_a_hub_that_sends_something_else(folder: Path) -> None:
    """That is no hub."""
    hub, client, connection = accepted(folder)
    with hub:
        client.send(CHUNK, CLAIM)
        connection.sock.sendall(b"\xc1garbage")
        with pytest.raises(Broken, match="something other than"):
            client.settle()
        client.close()
