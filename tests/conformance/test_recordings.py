"""What clients have sent that cannot be installed everywhere is replayed; the journal and the replies are compared."""

from __future__ import annotations

import socket

import msgpack
import pytest

from tests.conformance.host import Host
from tests.conformance.recordings import FOLDER, RECORDINGS, read
from tests.hub.clients import connect, read_acks

pytestmark = pytest.mark.timeout(90, method="signal")


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording(host: Host, name: str) -> None:
    """
    Each message is there, in order, and each frame that wants it is acknowledged with its own chunk id, in order. If
    everything is sent once more, in pieces, chunks with an id are acknowledged again, and not stored again.
    """
    recording, datagrams = RECORDINGS[name], read(name)
    for size in (1 << 20, 7):
        host.next(0)
        if recording.are_datagrams:
            send(host.datagram, datagrams)
        else:
            assert replay(host.socket, datagrams[0], size, recording.acknowledged) == chunks_of(datagrams[0])
        if size == 7 and recording.acknowledged:
            assert host.next(0) == []
            return
        messages = host.next(len(recording.texts))
        assert [message.record[recording.key] for message in messages] == recording.texts
        for message in messages:
            assert message.tag == recording.tag
            assert message.record.items() >= recording.fields.items()
        assert recording.time_ns in (None, messages[0].time)


def send(path: str, datagrams: list[bytes]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(path)
        for datagram in datagrams:
            client.send(datagram)


def replay(path: str, data: bytes, size: int, count: int) -> list[str | bytes]:
    """Send *data*, *size* bytes at a time. Return the acknowledged chunk ids, one more than *count* at most."""
    with connect(path) as client:
        for at in range(0, len(data), size):
            client.sendall(data[at : at + size])
        client.shutdown(socket.SHUT_WR)
        return read_acks(client, count + 1)


def chunks_of(data: bytes) -> list[str]:
    """Return the chunk ids in a stream of frames, of which one that is something else has none."""
    unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
    unpacker.feed(data)
    options = (frame[-1] for frame in unpacker if isinstance(frame, list) and isinstance(frame[-1], dict))
    return [option["chunk"] for option in options if "chunk" in option]


def test_every_file_has_its_row() -> None:
    """There is no recording that nothing replays, and each row says how many acknowledgements its client wanted."""
    assert {path.stem for path in FOLDER.iterdir()} == RECORDINGS.keys()
    for name, recording in RECORDINGS.items():
        assert len(chunks_of(read(name)[0])) == recording.acknowledged
