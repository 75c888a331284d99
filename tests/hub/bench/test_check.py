"""hub.bench.check: what a journal lacks, has twice, or has out of order is found, also when its oldest part is gone."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.bench.check import Checked, check, left_out
from hub.bench.load import GROUP, Group, group_entries
from hub.bench.orders import Orders
from hub.journal.files import DiskFiles
from hub.journal.rewriting import rewrite
from hub.journal.segment import list_segments, segment_name
from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail
from tests.hub.clients import connect, frame_of, read_acks
from tests.support import HubProcess, eventually

CHUNK, SIZE, TAG = 10, 2000, b"bench.0"


def orders(client: str = "raw", *, ack: bool = True) -> Orders:
    return Orders("", 0, client, 0, 0.0, SIZE, CHUNK if ack else 1, ack)


@functools.cache
def group() -> Group:
    """Unbatched messages, as the raw client repeats them."""
    return Group(orders(ack=False), b"\x93\xa7" + TAG, skip=1)


def raw(counter: int, *, life: str = "s", cut: int = 0) -> bytes:
    """Return a chunk as the raw client sends it; *cut*: its last entries have other numbers."""
    entries = group_entries(orders())
    payload = b"".join(entries[: CHUNK - cut] + entries[:cut])
    return encode_frame_head(TAG, len(payload)) + payload + encode_frame_tail(pack_own(life * 22, counter), CHUNK)


def numbered(counter: int, *, life: str = "s") -> bytes:
    """Return a chunk as one of our producers sends it: its messages count on."""
    first = (counter - 1) * CHUNK
    records = ({"n": first + at, "x": "x" * SIZE} for at in range(CHUNK))
    return frame_of(pack_own(life * 22, counter), *records, tag=TAG)


def unbatched(first: int, count: int = CHUNK, *, wrong: bytes = b"x") -> bytes:
    """Return Message frames as the raw client sends them, from message *first* on."""
    frames = b"".join(group().entry(*divmod(number, GROUP)) for number in range(first, first + count))
    return frames[:-1] + wrong


def lines(*numbers: int) -> bytes:
    """Return lines as the client sends them that connects anew for each."""
    return b"".join(b"bench.0 %d xxx\n" % number for number in numbers)


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


CASES = {
    "raw": [
        ([raw(1), raw(2), raw(3)], Checked(30, 0, 0, 0, 0)),
        ([raw(1), raw(2)], Checked(20, 10, 0, 0, 0)),
        ([raw(1), raw(3)], Checked(20, 10, 0, 0, 0)),
        ([raw(1), raw(2), raw(2, life="t"), raw(3)], Checked(40, 0, 10, 0, 0)),
        ([raw(1), raw(1, life="t"), raw(3)], Checked(30, 10, 10, 0, 0)),
        ([raw(1), raw(3), raw(2, life="t")], Checked(30, 0, 0, 10, 0)),
        ([raw(1), raw(2, cut=1), raw(3)], Checked(30, 0, 0, 0, 10)),
    ],
    "producer": [
        ([numbered(1), numbered(2), numbered(3)], Checked(30, 0, 0, 0, 0)),
        ([numbered(1), numbered(3)], Checked(20, 10, 0, 0, 0)),
        ([numbered(1), numbered(2), numbered(2, life="t"), numbered(3)], Checked(40, 0, 10, 0, 0)),
        ([numbered(1), numbered(3), numbered(2, life="t")], Checked(30, 0, 0, 10, 0)),
    ],
    "unbatched": [
        ([unbatched(0), unbatched(10), unbatched(20)], Checked(30, 0, 0, 0, 0)),
        ([unbatched(0, 30)], Checked(30, 0, 0, 0, 0)),
        ([unbatched(0), unbatched(20)], Checked(20, 10, 0, 0, 0)),
        ([unbatched(0, 30), unbatched(0, 30)], Checked(60, 0, 30, 0, 0)),
        ([unbatched(0), unbatched(0), unbatched(20)], Checked(30, 10, 10, 0, 0)),
        ([unbatched(0), unbatched(20), unbatched(10)], Checked(30, 0, 0, 10, 0)),
        ([unbatched(0, 30, wrong=b"y")], Checked(30, 1, 0, 0, 1)),
        ([unbatched(0), unbatched(GROUP + 10, 20)], Checked(30, GROUP, 0, 0, 0)),
    ],
    "connect": [
        ([lines(*range(30))], Checked(30, 0, 0, 0, 0)),
        ([lines(*range(29, -1, -1))], Checked(30, 0, 0, 0, 0)),
        ([lines(*range(10), *range(20, 30))], Checked(20, 10, 0, 0, 0)),
        ([lines(*range(30), *range(10))], Checked(40, 0, 10, 0, 0)),
        ([lines(*range(20), *range(10))], Checked(30, 10, 10, 0, 0)),
        ([], Checked(0, 30, 0, 0, 0)),
    ],
}


@pytest.mark.parametrize(
    ("client", "frames", "fault"),
    [(client, *case) for client, cases in CASES.items() for case in cases],
    ids=[f"{client}-{number}" for client, cases in CASES.items() for number in range(len(cases))],
)
def test_what_is_wrong_is_found(hub: HubProcess, client: str, frames: list[bytes], fault: Checked) -> None:
    """Of thirty messages: some that are missing, are there twice, come late, or are not what was sent."""
    store(hub, *frames, messages=fault.messages)
    sent = fault.messages + fault.lost - fault.duplicated - fault.damaged * (client == "unbatched")
    asked = orders("raw" if client == "unbatched" else client, ack=client != "unbatched")
    assert check(hub.journal, [asked], {0: sent}) == fault


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
        faults = (checked.lost, checked.duplicated, checked.disordered, checked.damaged)
        assert faults == (CHUNK * len(missing), 0, 0, 0)


@pytest.mark.parametrize("make", [raw, numbered])
def test_what_has_expired_by_rule_is_no_loss(tmp_path: Path, make: Callable[[int], bytes]) -> None:
    """What is left is compared: a message that is missing is still found, and so is one that is there twice."""
    count = 200
    own = orders("producer" if make is numbered else "raw")
    for change, numbers in (("none", []), ("missing", [150]), ("twice", [150])):
        folder = tmp_path / change
        folder.mkdir()
        with HubProcess(folder, "--journal-size", "8MiB") as hub:
            frames = [make(number) for number in range(1, count + 1) if change != "missing" or number not in numbers]
            if change == "twice":
                frames.append(make(numbers[0]).replace(b"s" * 22, b"t" * 22))
            store(hub, *frames, messages=len(frames) * CHUNK)
        files = DiskFiles(hub.journal)
        gone = 0
        for first, following in list(itertools.pairwise(list_segments(files)))[::2]:
            name = rewrite(files, first, following, has_expired=lambda each: each.sequence % (3 * CHUNK) < CHUNK)
            assert name is not None
            files.rename(name, segment_name(first))
            gone += sum(each.messages for each in left_out(hub.journal, first - 1) if each.sequence < following)
        checked = check(hub.journal, [own], {0: count * CHUNK})
        assert checked.messages == len(frames) * CHUNK - gone < len(frames) * CHUNK
        faults = (checked.lost, checked.duplicated, checked.disordered, checked.damaged)
        assert faults == (CHUNK * (change == "missing"), CHUNK * (change == "twice"), 0, 0)
