"""hub.bench.check: what a journal lacks, has twice, or has out of order is found, also when its oldest part is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.bench.check import Checked, check
from hub.bench.load import Orders, group_entries
from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail
from tests.hub.clients import connect, frame_of, read_acks
from tests.support import HubProcess, eventually

CHUNK, SIZE, TAG = 10, 2000, b"bench.0"


def orders(client: str = "raw", *, ack: bool = True) -> Orders:
    return Orders("", 0, client, 0, 0.0, SIZE, CHUNK if ack else 1, ack)


def raw(counter: int, *, life: str = "s", cut: int = 0) -> bytes:
    """Return a chunk as the raw client sends it; *cut*: its last entries have other numbers."""
    entries = group_entries(orders())
    payload = b"".join(entries[: CHUNK - cut] + entries[:cut])
    return encode_frame_head(TAG, len(payload)) + payload + encode_frame_tail(pack_own(life * 22, counter), CHUNK)


def numbered(counter: int) -> bytes:
    """Return a chunk as one of our producers sends it: its messages count on."""
    first = (counter - 1) * CHUNK
    return frame_of(pack_own("s" * 22, counter), *({"n": first + at, "x": "x" * SIZE} for at in range(CHUNK)), tag=TAG)


def unbatched(first: int, count: int = CHUNK) -> bytes:
    """Return Message frames as the raw client sends them, cut at any place."""
    entries = group_entries(orders(ack=False))
    return b"".join(b"\x93\xa7" + TAG + entries[(first + at) % len(entries)][1:] for at in range(count))


def has_id(frame: bytes) -> bool:
    """Return whether the frame is a chunk that is acknowledged."""
    return b"\xa5chunk" in frame[-80:]


def store(hub: HubProcess, *frames: bytes, messages: int) -> None:
    """Send *frames*, and wait until the hub has stored *messages* in all; then stop it."""
    with connect(hub.socket, timeout=60) as client:
        for frame in frames:
            client.sendall(frame)
            if has_id(frame):
                read_acks(client, 1)
    eventually(lambda: hub.stats()["messages"] == messages, f"{messages} messages")
    assert hub.stop() == 0


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([raw(1), raw(2), raw(3)], Checked(30, 0, 0, 0)),
        ([raw(1), raw(2)], Checked(20, 10, 0, 0)),
        ([raw(1), raw(3)], Checked(20, 10, 0, 10)),
        ([raw(1), raw(2), raw(2, life="t"), raw(3)], Checked(40, 0, 10, 0)),
        ([raw(1), raw(2, cut=1), raw(3)], Checked(30, 0, 0, 10)),
        ([numbered(1), numbered(2), numbered(3)], Checked(30, 0, 0, 0)),
        ([numbered(1), numbered(3)], Checked(20, 10, 0, 1)),
        ([unbatched(0), unbatched(10), unbatched(20)], Checked(30, 0, 0, 0)),
        ([unbatched(0, 30)], Checked(30, 0, 0, 0)),
    ],
)
def test_what_is_wrong_is_found(hub: HubProcess, frames: list[bytes], fault: Checked) -> None:
    """Of three chunks of ten: one that is missing, is there twice, or is not what was sent."""
    store(hub, *frames, messages=fault.messages)
    client = "producer" if frames[0] == numbered(1) else "raw"
    assert check(hub.journal, [orders(client, ack=has_id(frames[0]))], {0: 3 * CHUNK}) == fault


@pytest.mark.parametrize("make", [raw, numbered, lambda counter: unbatched((counter - 1) * CHUNK)])
def test_what_has_expired_is_no_loss(tmp_path: Path, make: Callable[[int], bytes]) -> None:
    """In a run that outgrew its journal, what is left is compared; a message that is missing there is still found."""
    count, filling = 300, 100
    client = "producer" if make is numbered else "raw"
    own = orders(client, ack=make in (raw, numbered))
    for missing in ((), (count - 2,)):
        folder = tmp_path / f"{len(missing)}"
        folder.mkdir()
        with HubProcess(folder, "--journal-size", "4MiB") as hub:
            frames = [frame_of(pack_own("f" * 22, number + 1), {"x": "x" * 9000}) for number in range(filling)]
            frames += [make(number) for number in range(1, count + 1) if number not in missing]
            store(hub, *frames, messages=filling + (count - len(missing)) * CHUNK)
            checked = check(hub.journal, [own], {0: count * CHUNK}, after=filling)
        assert CHUNK < checked.messages < count * CHUNK, "something has expired"
        assert (checked.lost, checked.duplicated) == (CHUNK * len(missing), 0)
        assert bool(checked.disordered) == bool(missing)
