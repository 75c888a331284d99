"""
A real hub's writes and syncs, recorded by strace, and the journal that a power cut at each of them leaves to the next
hub.

The record is replayed on a disk that forgets (tests.hub.journal.forgetting): data written before the cut without a sync
is present, missing or torn, page by page. Three hubs are recorded: one that syncs each commit, one that syncs once a
second (durability ``relaxed``), one that expires quickly. Each also reads a file that grows, whose position must be the
end of the last line stored. `MPSR_POWER_CUTS=100 MPSR_SEED=7 pytest tests/system/test_power_cut.py` is a long run.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgpack
import pytest

from hub.dedupe import Dedupe
from hub.journal.files import DIRECT_BYTES
from hub.journal.reader import Gap, Reader
from hub.journal.recovery import Recovered, recover
from hub.journal.segment import list_segments
from hub.message import Batch, Peer
from hub.wire import chunkid
from hub.wire.chunkid import unpack_own
from hub.wire.frame import decode_acks
from tests import support
from tests.hub.clients import connect, frame_of, read_acks
from tests.hub.journal.forgetting import ForgettingFiles
from tests.support import HubProcess, eventually
from tests.system.test_positions import hub_with_grown

pytestmark = pytest.mark.durability

CUTS = int(os.environ.get("MPSR_POWER_CUTS", "1"))  # at each operation
SEED = int(os.environ.get("MPSR_SEED", "1"))
PRODUCERS = 4
LINES = 1500  # in each half of a recording
CALLS = "openat,pwritev,pwritev2,pwrite64,writev,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,unlink"
STRACE = ("strace", "-D", "-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={CALLS},unlinkat,sendto")

_CALL = re.compile(r"(\d+) +(\w+)\((.*)\) += (\d+)(?:<.*>)?$", re.DOTALL)
_UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$", re.DOTALL)
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_TEXT = re.compile(r'"([\\x0-9a-f]*)"')  # of \x.. only; a group for each byte takes twenty times as long
_PATH = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)>")


class Operation(NamedTuple):
    """One call that changed the journal, or that acknowledged something to a client."""

    call: str
    name: str  # name of the file; empty for the folder
    data: bytes = b""
    number: int = 0  # offset or size
    new_name: str = ""
    acks: tuple[bytes, ...] = ()


class Recording(NamedTuple):
    """
    A recorded hub: its options, the chunks per producer, and a call to wait for halfway, without load: it comes after
    the last call *after*.
    """

    options: tuple[str, ...]
    chunks: int
    awaited: str = ""
    after: str = ""


RECORDINGS = {
    "fsync": Recording(("--journal-size", "4MiB"), 60),
    "relaxed": Recording(("--journal-size", "4MiB", "--durability", "relaxed"), 60, "fdatasync", "pwrite"),
    "retain": Recording(("--journal-size", "8MiB", "--journal-age", "1s"), 40, "unlink", "sendto"),
}


# The recording.


def _record(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Operation]:
    """Let producers send to a hub under strace; return its operations."""
    trace, recording = folder / "trace", RECORDINGS[kind]
    monkeypatch.setattr(support, "MPSR", (*STRACE, "-o", str(trace), *hub_with_grown(folder)))
    file = folder / "file"
    file.touch()
    with HubProcess(folder, *recording.options, "--fifo", str(file)) as hub:
        for half in (1, 2):
            with file.open("a") as grown:
                grown.writelines(_line(number) + "\n" for number in range((half - 1) * LINES, half * LINES))
            args = (hub.socket, half, recording.chunks // 2)
            threads = [threading.Thread(target=_produce, args=(number, *args)) for number in range(PRODUCERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            if half == 1 and recording.awaited:
                eventually(lambda: _has_come(trace.read_bytes(), recording), f"{recording.awaited} without load")
        eventually(lambda: hub.stats()["sources"][0]["messages"] == 2 * LINES, "the file is read")
        pid = hub.process.pid
        assert hub.stop() == 0
    last = re.compile(rf"^{pid} +\+\+\+ exited with 0", re.MULTILINE)
    text = eventually(lambda: last.search(read := trace.read_text()) and read, "the end of the trace")
    return list(_operations(text, hub.journal))


def _has_come(trace: bytes, recording: Recording) -> bool:
    """Return whether the call that is awaited is the last one."""
    call = re.compile(rf"^\d+ +(<\.\.\. )?{recording.awaited}\b.*= 0$".encode(), re.MULTILINE)
    return max((found.start() for found in call.finditer(trace)), default=-1) > trace.rfind(recording.after.encode())


def _line(number: int) -> str:
    return f"{number} {'x' * (number % 200)}"


def _session(producer: int) -> str:
    return f"{producer}".rjust(chunkid.SESSION_LENGTH, "s")


def _produce(producer: int, path: str, half: int, chunks: int) -> None:
    dice = random.Random(producer * 2 + half)
    number, counter = (half - 1) * 10_000, (half - 1) * chunks
    with connect(path) as client:
        while counter < half * chunks:
            burst = min(dice.randint(1, 6), half * chunks - counter)
            for _ in range(burst):
                count, size = dice.randint(1, 4), dice.choice([0, 20, 700, 5000, 20_000, 60_000])
                records = [{"p": producer, "n": number + index, "x": "x" * size} for index in range(count)]
                number, counter = number + count, counter + 1
                client.sendall(frame_of(chunkid.pack_own(_session(producer), counter), *records))
            assert len(read_acks(client, burst)) == burst


def _operations(text: str, journal: str) -> Iterator[Operation]:
    """Yield the journal's operations. A call counts when it has returned, an acknowledgement when it is begun."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        if unfinished := _UNFINISHED.match(line):
            pid, call, front = unfinished.groups()
            if call == "sendto":
                yield from _acknowledgement(front)
            else:
                begun[pid] = f"{pid} {call}({front}"
            continue
        if resumed := _RESUMED.match(line):
            if resumed[2] == "sendto":
                continue
            line = begun.pop(resumed[1]) + resumed[3]  # noqa: PLW2901  the whole line
        if found := _CALL.match(line):
            _, call, arguments, result = found.groups()
            if call == "sendto":
                yield from _acknowledgement(arguments)
            else:
                yield from _operation(call, arguments, int(result), journal)
        else:
            assert " = -1 " in line or "+++ " in line or "--- " in line, f"not understood: {line[:200]}"


def _acknowledgement(arguments: str) -> Iterator[Operation]:
    data = b"".join(_texts(arguments))
    if data.startswith(b"\x81\xa3ack"):
        yield Operation("ack", "", acks=tuple(decode_acks(msgpack.Unpacker(), data)))


def _operation(call: str, arguments: str, result: int, journal: str) -> Iterator[Operation]:
    if call in ("rename", "renameat", "renameat2", "unlink", "unlinkat", "openat"):
        names = [os.path.basename(path) for text in _texts(arguments) if _is_in(path := text.decode(), journal)]
        if not names or (call == "openat" and "O_CREAT" not in arguments) or names == ["lock"]:
            return
        yield Operation("create" if call == "openat" else call[:6], names[0], new_name=names[-1])
        return
    described = _PATH.match(arguments)
    path = _bytes(described[1]).decode() if described else ""
    if not path.startswith(journal) or path.endswith("/lock"):
        return
    name = "" if path == journal else os.path.basename(path)
    numbers = [int(number) for number in re.findall(r", (\d+)(?=,|$)", arguments)]
    if call.startswith("pwrite"):
        data = b"".join(_texts(arguments))
        assert len(data) == result, "strace does not show all"
        flags = arguments.rsplit(", ", 1)[1] if call == "pwritev2" else "0"
        assert flags in ("0", "RWF_DSYNC"), f"flags that are not replayed: {flags}"
        offset = numbers[-2] if call == "pwritev2" and flags == "0" else numbers[-1]
        yield Operation("write", name, data, offset)
        if flags == "RWF_DSYNC":  # two steps: the power may fail between them
            yield Operation("sync_range", name, data, offset)
    elif call in ("fallocate", "ftruncate"):
        yield Operation(call, name, number=numbers[-1])
    else:
        assert call in ("fsync", "fdatasync"), f"the journal is written with {call}, which is not replayed"
        yield Operation(call, name)


def _is_in(path: str, journal: str) -> bool:
    return os.path.dirname(path) == journal


def _texts(arguments: str) -> list[bytes]:
    return [_bytes(text) for text in _TEXT.findall(arguments)]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


# The replay.


def _replay(operations: Sequence[Operation]) -> Iterator[tuple[ForgettingFiles, Operation]]:
    """Yield the disk after each operation, and the operation."""
    disk = ForgettingFiles()
    for operation in operations:
        _apply(disk, operation)
        yield disk, operation


def _apply(disk: ForgettingFiles, operation: Operation) -> None:
    call, name = operation.call, operation.name
    if call in ("ack", "create"):  # a file is made with its space: size 0 is one of its possible sizes
        return
    if call == "unlink":
        disk.remove(name)
    elif call == "rename":
        disk.rename(name, operation.new_name)
    elif call == "fallocate":
        disk.close(disk.create(name, operation.number))
    elif call == "ftruncate":
        disk._seen(name).sizes.append(operation.number)
    elif not name:
        assert call == "fsync"
        disk.sync_folder()
    else:
        handle = disk.open(name)
        if call == "write":
            disk.write(handle, operation.number, (operation.data,))
        elif call == "sync_range":
            disk.sync_range(handle, operation.number, len(operation.data))
        elif call == "fdatasync":
            disk.sync(handle)
        else:
            disk.sync_all(handle)
        disk.close(handle)


Truth = dict[int, tuple[bytes, int, bytes]]
"""The batches by first sequence: chunk id (empty for lines of the file), number of messages, bytes."""


def _truth(operations: Sequence[Operation]) -> Truth:
    """Return everything that the hub has written, read while it was recorded, before it expired."""
    truth: Truth = {}
    reader = None
    for disk, operation in _replay(operations):
        reader = reader or Reader(disk)
        if operation.call in ("write", "fdatasync"):
            for batch in reader.read(follow=True):
                assert isinstance(batch, Batch)
                assert (batch.chunk_id is None) == (batch.tag == b"grown")
                truth[batch.sequence] = batch.chunk_id or b"", batch.count, bytes(batch.entries)
    return truth


@pytest.mark.parametrize("kind", RECORDINGS)
def test_a_power_cut_at_any_moment_keeps_what_is_promised(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Wherever a recorded hub loses power, all acknowledged chunks are stored, once, in order, without holes.

    For the relaxed hub, this holds for everything written before the last sync.
    """
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    operations = _record(kind, tmp_path, monkeypatch)
    truth = _truth(operations)
    _check_recording(kind, operations, truth)
    dice = random.Random(SEED)
    last_of = _last_of(truth)
    offsets = _offsets(truth)
    safe = torn = 0
    reader = None
    following = [operation.call for operation in operations[1:]] + [""]
    for (disk, operation), next_call in zip(_replay(operations), following, strict=True):
        reader = reader or Reader(disk)
        if kind != "relaxed":
            safe = max([safe, *(last_of[chunk] for chunk in operation.acks)])
        elif operation.call == "fdatasync":
            safe = max([safe, *(batch.sequence + batch.count - 1 for batch in reader.read(follow=True))])
        if next_call == "ack":
            continue  # the next operation promises more about the same disk
        oldest = min(list_segments(disk), default=1)
        for after in (disk.after_kill(), *(_power_cut(disk, dice) for _ in range(CUTS))):
            torn += _check(after, truth, offsets, safe, oldest, dice)
    assert safe >= max(last_of.values())
    assert torn, "no cut has met a torn commit: this proves nothing"


def _check_recording(kind: str, operations: Sequence[Operation], truth: Truth) -> None:
    """The hub has written what was sent, once and in order, and every operation to be cut has occurred."""
    numbers: list[list[int]] = [[] for _ in range(PRODUCERS)]
    lines: list[str] = []
    expected = 1
    for sequence, (_, count, entries) in truth.items():
        assert sequence == expected
        expected += count
        for _, record in msgpack.unpackb(entries, ext_hook=lambda code, data: None):
            lines.append(record["message"]) if "message" in record else numbers[record["p"]].append(record["n"])
    for found in numbers:
        half = found.index(10_000)
        assert found == [*range(half), *range(10_000, 10_000 + len(found) - half)]
    assert lines == [*map(_line, range(2 * LINES))]
    chunks = PRODUCERS * RECORDINGS[kind].chunks
    assert len(_last_of(truth)) == chunks
    assert len({chunk for operation in operations for chunk in operation.acks}) == chunks
    calls = [operation.call for operation in operations]
    syncs = sum(call in ("fdatasync", "sync_range") for call in calls)
    assert calls.count("rename") > 4, "segments are begun under load"
    assert any(len(operation.data) >= DIRECT_BYTES for operation in operations), "large commits go past the page cache"
    assert "unlink" in calls, "segments expire"
    assert (syncs < calls.count("write") // 3) == (kind == "relaxed")
    assert kind == "relaxed" or "fdatasync" in calls, "large commits are synced with a call of their own"


def _power_cut(disk: ForgettingFiles, dice: random.Random) -> ForgettingFiles:
    """Return a disk on which most, few or half of the unsynced pages have arrived."""
    bias = dice.choice([0.1, 0.5, 0.9])

    def choose(count: int) -> int:
        return count - 1 if dice.random() < bias else dice.randrange(count)

    return disk.after_power_cut(choose, tear_at=dice.randrange(512))


def _last_of(truth: Truth) -> dict[bytes, int]:
    """
    Return the sequence of the last message of each chunk, or of the batch that it was made part of: that has the id of
    its last chunk.
    """
    last_of: dict[bytes, int] = {}
    stored: dict[bytes, int] = {}  # the last counter of each session
    for sequence, (chunk_id, count, _) in truth.items():
        if own := unpack_own(chunk_id):
            session, counter = own
            for each in range(stored.get(session, 0) + 1, counter + 1):
                last_of[chunkid.pack_own(session.decode(), each)] = sequence + count - 1
            stored[session] = counter
    return last_of


def _offsets(truth: Truth) -> dict[int, int]:
    """Return how far the file has been read, by the sequence of the last message of each batch."""
    offsets, offset = {}, 0
    for sequence, (chunk, count, entries) in truth.items():
        if not chunk:
            offset += sum(
                len(record["message"]) + 1 for _, record in msgpack.unpackb(entries, ext_hook=lambda *_: None)
            )
        offsets[sequence + count - 1] = offset
    return offsets


def _check(
    disk: ForgettingFiles, truth: Truth, offsets: dict[int, int], safe: int, oldest: int, dice: random.Random
) -> bool:
    """Open the journal left by the cut, and by a second cut; return whether a torn end was cut off."""
    if not list_segments(disk):
        assert not safe
        return False
    dedupe = Dedupe()
    recovered = recover(disk, dedupe, now=0)
    assert not recovered.missing
    last = recovered.next_sequence - 1
    assert last >= safe, "acknowledged messages are missing"
    _check_stored(disk, truth, last, oldest)
    _check_position(recovered, offsets, last)
    kept = _counters(truth, last)
    for producer in range(PRODUCERS):
        _check_resends(dedupe, kept.get(_session(producer).encode(), 0), producer)
    again = _power_cut(disk, dice)
    _check_stored(again, truth, last, oldest)  # a second cut removes nothing that recovery counted
    _check_position(recover(again, Dedupe(), now=0), offsets, last)
    return recovered.cut_bytes > 0


def _check_position(recovered: Recovered, offsets: dict[int, int], last: int) -> None:
    """The file goes on after the last line that is stored."""
    found = [position.number for position in recovered.positions.starting_with(b"grown:")]
    assert (found or [0]) == [offsets.get(last, 0)], "position and messages disagree"


def _check_stored(disk: ForgettingFiles, truth: Truth, last: int, oldest: int) -> None:
    """Messages up to *last* are stored, at least from *oldest*; a segment whose unlink was unsynced may reappear."""
    found = _read(disk)
    first = next(iter(found), last + 1)
    assert first <= oldest, "more has expired than the hub had deleted"
    assert found == {sequence: batch for sequence, batch in truth.items() if first <= sequence <= last}


def _counters(truth: Truth, last: int) -> dict[bytes, int]:
    """Return the highest counter of each session in the messages up to *last*."""
    kept: dict[bytes, int] = {}
    for sequence, (chunk_id, _, _) in truth.items():
        if sequence <= last and (own := unpack_own(chunk_id)):
            kept[own[0]] = max(own[1], kept.get(own[0], 0))
    return kept


def _check_resends(dedupe: Dedupe, kept: int, producer: int) -> None:
    """A resend of the last chunk that is stored is recognised; the producer's next chunk is not, so it is stored."""
    peer = Peer(uid=os.geteuid())
    resent = [Batch(b"", b"", 1, chunkid.pack_own(_session(producer), counter), peer) for counter in (kept, kept + 1)]
    assert dedupe.unseen(resent[:1], 1 << 62) == [] or not kept
    assert dedupe.unseen(resent[1:], 1 << 62) == resent[1:]


def _read(disk: ForgettingFiles) -> Truth:
    reader = Reader(disk)
    found: Truth = {}
    for batch in reader.read():
        assert not isinstance(batch, Gap), batch
        assert batch.sequence not in found
        found[batch.sequence] = batch.chunk_id or b"", batch.count, bytes(batch.entries)
    reader.close()
    return found
