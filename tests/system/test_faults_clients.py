"""
Clients of a hub that misbehave in every way, in real processes: only they bear the cost, and honest clients are served.

Not here: the decoders one by one (tests.hub.wire), one connection's part (tests.hub.test_connection).
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import random
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub.entries import NESTING_MAX
from hub.wire import chunkid
from hub.wire.compression import METHODS
from hub.wire.frame import FRAME_BYTES_MAX, encode_frame_head, encode_frame_tail
from producers import NotConnected, Producer
from tests import support
from tests.hub.clients import chunk, connect, frame_of, read_acks, read_to_end
from tests.support import HubProcess, eventually, mpsr
from tests.system.test_faults import LOSS, numbers_of

CLIENTS = int(os.environ.get("MPSR_CLIENTS", "4000"))


@contextlib.contextmanager
def _honest(hub: HubProcess) -> Iterator[Producer]:
    """A producer that is served before, during and after the block."""
    with Producer(hub.socket, tag="honest") as producer:
        producer.send({"n": 0})
        producer.flush(timeout=30)
        yield producer
        producer.send({"n": "last"})
        producer.flush(timeout=30)


def _losses(hub: HubProcess, least: int) -> int:
    try:
        return int(eventually(lambda: (losses := hub.stats()["losses"]) >= least and losses))
    except AssertionError:
        raise AssertionError(f"{least} losses were awaited: {hub.stats()}") from None


def _peak_bytes(hub: HubProcess) -> int:
    lines = Path(f"/proc/{hub.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _loss_records(hub: HubProcess) -> list[dict[str, Any]]:
    return [message.record for message in hub.messages() if message.tag == LOSS]


# Clients that do not read, or stop sending.

CROWD = """
import contextlib, resource, socket, sys
path, count = sys.argv[1], int(sys.argv[2])
data = open(sys.argv[3], "rb").read()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
clients = []
for _ in range(count):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    clients.append(client)
    with contextlib.suppress(OSError):
        client.sendall(data)
print("there", flush=True)
sys.stdin.read()
"""


class Crowd:
    """A process with many clients; each sends the same data and then stalls for ever."""

    def __init__(self, hub: HubProcess, count: int, data: bytes) -> None:
        file = Path(hub.socket).with_name("crowd")
        file.write_bytes(data)
        command = [sys.executable, "-c", CROWD, hub.socket, str(count), str(file)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait(self) -> None:
        """Wait until all clients have sent."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"there\n"

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


MANY_LOSSES = "from hub import users; users.LOSSES_PER_S = 1e6"


def test_clients_that_read_no_acks_and_4000_in_mid_frame_hold_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Honest clients are served beside two that never read and 4,000 that stall in mid-frame; each costs its own."""
    script = f"{MANY_LOSSES}\nfrom hub.cli import main\nmain()"
    monkeypatch.setattr(support, "MPSR", (sys.executable, "-c", script))
    count = min(CLIENTS, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2 * 2
    half = b"\x93\xa3half" + b"\xc6\x00\x01\x00\x00" + b"x" * 2000
    chunks = [chunk(f"greedy.{number}", tag=b"greedy") for number in range(40_000)]
    with HubProcess(tmp_path) as hub, _honest(hub) as producer:
        before = hub.stats()["rss_bytes"]
        with Crowd(hub, 2, b"".join(chunks)) as greedy:
            greedy.wait()
            with Crowd(hub, count // 2, half) as one, Crowd(hub, count // 2, half) as two:
                one.wait()
                two.wait()
                eventually(lambda: _is_crowded(hub, count + 4), "all are connected, and who asks")
                for number in range(1, 50):
                    producer.send({"n": number})
                    producer.flush(timeout=10)
                eventually(lambda: hub.stats()["messages"] == 40_050, "what the greedy sent is kept")
                eventually(lambda: hub.stats()["duplicates"] == 40_000, "once")
                assert hub.stats()["losses"] == 0
                assert hub.stats()["rss_bytes"] - before < (50 << 20) + count * 16_000
            assert _losses(hub, count) == count, "each half frame is a loss"
        eventually(lambda: hub.stats()["acks_dropped"] > 0, "what was not read is dropped")
        producer.flush(timeout=10)
        assert numbers_of(hub.messages("honest"), "honest") == list(range(50))


def _is_crowded(hub: HubProcess, connections: int) -> bool:
    try:
        return bool(hub.stats()["connections"] >= connections)
    except NotConnected:  # it accepts the crowd first
        return False


BUDGET = """
from hub import budget
budget.LOOK_S = 0.05
budget.Budget.__init__.__kwdefaults__["stall_s"] = 0.2
"""


def test_half_frames_beyond_the_budget_are_broken_off_and_the_honest_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of incomplete frames of twice the budget, stalled ones are closed, each as one loss; memory is bounded."""
    script = f"{BUDGET}\nfrom hub.cli import main\nmain()"
    monkeypatch.setattr(support, "MPSR", (sys.executable, "-c", script))
    half = b"\x93\xa3app\xc6\x00\x20\x00\x00" + b"x" * (1 << 20)
    with HubProcess(tmp_path) as hub, _honest(hub) as producer, Crowd(hub, 128, half) as crowd:
        for number in range(1, 20):
            producer.send({"n": number})
            producer.flush(timeout=30)
        crowd.wait()
        lost = _losses(hub, 60)
        producer.send({"n": 20})
        producer.flush(timeout=30)
        assert _peak_bytes(hub) < 220 << 20
        reasons = [record["reason"] for record in _loss_records(hub)]
        assert len(reasons) >= lost
        assert set(reasons) == {"stood still in the middle of a frame while memory was short"}
        assert numbers_of(hub.messages("honest"), "honest") == list(range(21))


def test_what_a_client_sends_that_closes_without_reading_is_stored(tmp_path: Path) -> None:
    """All data is stored of a client that closes without reading its acknowledgements, or is killed."""
    frames = b"".join(chunk(f"{number}", tag=b"gone", text="x" * 500) for number in range(2000))
    with HubProcess(tmp_path) as hub:
        for _ in range(2):
            with connect(hub.socket, frames):
                pass
        with Crowd(hub, 1, frames.replace(b"gone", b"dead")) as crowd:
            crowd.wait()
        eventually(lambda: hub.stats()["messages"] == 4000 and hub.stats()["duplicates"] == 2000, "all is stored")
        assert hub.stats()["losses"] == 0
        messages = hub.messages()
    assert sum(message.tag == "gone" for message in messages) == sum(message.tag == "dead" for message in messages)


# Memory, for each protocol.

FRAME = 1 << 20
"""The limit of a frame in a journal of 8 MiB."""
SENT = 32 << 20
GROWN_BYTES_MAX = 20 << 20
"""Half of it is for the chunk ids that are remembered; lines take 7 MiB, JSON 3."""
READ_BYTES_MAX = 3 << 20
"""What the kernel and the hub keep for a client that reads nothing: a third of the replies at most."""
PIECE = bytes(1 << 20)
TEXT_PIECE = b"x" * len(PIECE)
STATS = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "stats", "params": ["x" * 1000]}).encode()


def _many(piece: bytes, size: int = SENT) -> Iterator[bytes]:
    """Yield *piece* as often as it fits into *size*, in larger pieces."""
    whole = piece * max(FRAME // len(piece), 1)
    return itertools.repeat(whole, size // len(whole))


def _msgpack() -> Iterator[bytes]:
    """Yield a frame over the limit, frames with acknowledgements of 16 MiB, and a frame that never ends."""
    yield encode_frame_head(b"app", SENT)
    yield from itertools.repeat(PIECE, SENT >> 20)
    yield b"\x80"
    yield from (frame_of(chunkid.pack(f"{n:01000}"), {"n": n}) for n in range(SENT // 2000))
    yield encode_frame_head(b"app", SENT) + PIECE


def _lines() -> Iterator[bytes]:
    """Yield a line over the limit, short lines, empty ones, and a line that never ends."""
    yield from itertools.repeat(TEXT_PIECE, SENT >> 20)
    yield b"\n"
    yield from _many(b"a line of text\n", SENT // 4)
    yield from _many(b"\n", SENT >> 5)
    yield from itertools.repeat(PIECE, SENT >> 20)


def _json() -> Iterator[bytes]:
    """Yield JSON that grows when it is decoded, requests with replies of 7 MiB, and a line that never ends."""
    yield from _many(b'{"a":[' + b",".join([b"[]"] * 10_000) + b"]}\n", SENT // 4)
    yield from _many(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 60_000 + b'"}\n', SENT // 4)
    yield from _many(STATS + b"\n", 10 << 20)
    yield b'{"a":"'
    yield from itertools.repeat(TEXT_PIECE, SENT >> 20)


def _length_prefixed() -> Iterator[bytes]:
    """Yield a text over the limit, requests with replies of 7 MiB, empty texts, and half a text of 4 GiB."""
    yield b"\0\0\0\1x"  # a length that begins otherwise would select lines
    yield SENT.to_bytes(4, "big")
    yield from itertools.repeat(PIECE, SENT >> 20)
    yield from _many(len(STATS).to_bytes(4, "big") + STATS, 10 << 20)
    yield from _many(b"\0\0\0\0", SENT >> 5)
    yield b"\xff\xff\xff\xff"
    yield from itertools.repeat(PIECE, SENT >> 20)


@pytest.mark.parametrize(
    ("stream", "losses"),
    [(_msgpack, 2), (_lines, 2), (_json, 1), (_length_prefixed, 2)],
    ids=lambda row: getattr(row, "__name__", ""),
)
def test_whatever_a_client_sends_costs_no_memory(
    stream: Callable[[], Iterator[bytes]], losses: int, tmp_path: Path
) -> None:
    """In any protocol a client costs the hub a bounded amount of memory, even if it does not read the replies."""
    with HubProcess(tmp_path, "--journal-size", "8MiB") as hub, _honest(hub), connect(hub.socket) as client:
        before, sent = _peak_bytes(hub), 0
        for data in stream():
            client.sendall(data)
            sent += len(data)
        assert sent > SENT
        client.shutdown(socket.SHUT_WR)
        _losses(hub, losses)
        assert _peak_bytes(hub) - before < GROWN_BYTES_MAX
        assert len(read_to_end(client)) < READ_BYTES_MAX


# Frames that are too large.


def _bomb(method: str) -> bytes:
    """Return 65 MiB of entries, compressed less strongly than a bomb that is refused for its ratio."""
    if method == "gzip":
        return gzip.compress(msgpack.packb([1, {"text": "x" * (1 << 20)}]) * 65, 1)
    zstandard = pytest.importorskip("zstandard")
    return bytes(zstandard.compress(msgpack.packb([1, {"text": random.Random(1).randbytes(1 << 19).hex()}]) * 65))


def _compressed(method: str, payload: bytes, name: str) -> bytes:
    option = msgpack.packb({"chunk": name, "compressed": method})
    return b"\x93\xa3app\xc6" + len(payload).to_bytes(4, "big") + payload + option


def test_what_is_too_large_is_one_loss_and_acknowledged_and_the_connection_goes_on(tmp_path: Path) -> None:
    """A frame declared over the limit and bombs of every kind are losses; data before and after them is kept."""
    size = FRAME_BYTES_MAX + (1 << 20)
    with HubProcess(tmp_path) as hub, connect(hub.socket) as client:
        client.sendall(chunk("before"))
        assert read_acks(client, 1) == ["before"]
        before = _peak_bytes(hub)
        client.sendall(encode_frame_head(b"app", size))
        for _ in range(size >> 20):
            client.sendall(bytes(1 << 20))
        client.sendall(encode_frame_tail(chunkid.pack("large"), 7))
        assert read_acks(client, 1) == ["large"]
        assert _peak_bytes(hub) - before < 20 << 20, "what is dropped is not held"
        for method in METHODS:
            client.sendall(_compressed(method, _bomb(method), method) + chunk(f"behind {method}"))
            assert read_acks(client, 2) == [method, f"behind {method}"]
        assert _peak_bytes(hub) - before < 200 << 20, "the limit, twice at most"
        losses = _loss_records(hub)
        assert [message.tag for message in hub.messages()] == ["app", LOSS, *[LOSS, "app"] * len(METHODS)]
    assert [record["count"] for record in losses] == [7] + [1] * len(METHODS)
    assert losses[0]["reason"] == f"a frame over the limit of {FRAME_BYTES_MAX} bytes"
    assert [record["reason"] for record in losses[1:]] == [
        f"{method} of more than {FRAME_BYTES_MAX} bytes" for method in METHODS
    ]


@pytest.mark.parametrize("kind", ["Message", "Forward"])
def test_a_frame_of_undeclared_length_over_the_limit_ends_its_connection(kind: str, tmp_path: Path) -> None:
    """Its end is unknown: it is one unacknowledged loss, and the connection is closed; earlier data is kept."""
    piece = b"\xc6" + (1 << 20).to_bytes(4, "big") + bytes(1 << 20)
    start = b"\x94\xa3app\x01\xdd\0\0\1\0" if kind == "Message" else b"\x93\xa3app\xdd\0\0\1\0"
    with HubProcess(tmp_path) as hub, connect(hub.socket) as client, _honest(hub):
        client.sendall(chunk("before") + msgpack.packb(["app", 1, {"n": 1}]))
        before = _peak_bytes(hub)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(start)
            for _ in range(70):
                client.sendall(piece)
            client.sendall(msgpack.packb({"chunk": "large"}))
        replies = read_to_end(client)
        assert replies == msgpack.packb({"ack": "before"})[: len(replies)], "it is not acknowledged"
        assert _losses(hub, 1) == 1
        assert _peak_bytes(hub) - before < 3.5 * FRAME_BYTES_MAX
        (loss,) = _loss_records(hub)
        assert f"over the limit of {FRAME_BYTES_MAX} bytes" in loss["reason"]
        assert [message.record.get("n") for message in hub.messages("app")] == [0, 1]


# Nesting.


def _nested(kind: str, depth: int) -> bytes:
    """Return a frame whose record holds *depth* nested lists."""
    record = b"\x81\xa1x" + b"\x91" * depth + b"\xc0"
    entry = b"\x92\x01" + record
    if kind == "Message":
        return b"\x93\xa3app\x01" + record
    if kind == "Forward":
        return b"\x92\xa3app\x91" + entry
    if kind == "line":
        return b'{"tag":"app","x":' + b"[" * depth + b"]" * depth + b"}\n"
    return encode_frame_head(b"app", len(entry)) + entry + encode_frame_tail(chunkid.pack(f"{depth}"), 1)


def test_nesting_is_kept_up_to_a_limit_and_beyond_it_the_loss_names_it(tmp_path: Path) -> None:
    """
    1,000 levels are kept, and every reader continues after them. 1,500 and 100,000 levels are a loss that names the
    limit. A JSON line with any of these depths is stored as text. Memory does not jump.
    """
    kinds, depths = ("Message", "Forward", "PackedForward", "line"), (1000, 1500, 100_000)
    with HubProcess(tmp_path) as hub:
        before = _peak_bytes(hub)
        for kind, depth in itertools.product(kinds, depths):
            with connect(hub.socket, _nested(kind, depth)) as client:
                client.shutdown(socket.SHUT_WR)
                acks = read_to_end(client)
            assert acks == (msgpack.packb({"ack": f"{depth}"}) if kind == "PackedForward" else b"")
        with connect(hub.socket, chunk("behind")) as client:
            assert read_acks(client, 1) == ["behind"]
        assert _peak_bytes(hub) - before < 20 << 20
        messages = hub.messages()
        assert hub.stop() == 0
        journal = hub.journal
    assert [message.tag for message in messages] == [*["app", LOSS, LOSS] * 3, *["text"] * 3, "app"]
    assert all(
        f"nested more than {NESTING_MAX} levels deep" in message.record["reason"]
        for message in messages
        if message.tag == LOSS
    )
    for options in (["--output", "json"], ["--output", "pretty"], ["--output", "text"], ["--tag", "app"]):
        shown = mpsr("logs", "--journal", journal, *options)
        assert (shown.returncode, shown.stderr) == (0, b"")
        assert len(shown.stdout.splitlines()) == (len(messages) if options[0] == "--output" else 4)
    conditions = [f"--where={condition}" for condition in ("x=1", "x!=1", "x>1", "x.y=1")]
    for option in (*conditions, "--grep=x", "--grep=^x", "--level=info"):
        shown = mpsr("logs", "--journal", journal, option)
        assert (shown.returncode, shown.stderr) == (0, b""), option
    assert mpsr("verify", "--journal", journal).returncode == 0


def test_entries_that_are_no_messages_show_as_losses_at_their_own_sequence(tmp_path: Path) -> None:
    """Valid msgpack that is not a message is one loss; its neighbours are kept, readers and `verify` continue."""
    odd: list[Any] = [["soon", {}], [1, ["no", "map"]], [1, {"a": 1}, 2], 5, None, [[1, {}], "x"], {"a": 1}, [None, {}]]
    entries = [[1, {"n": -1}], *(entry for n, one in enumerate(odd) for entry in (one, [1, {"n": n}]))]
    payload = b"".join(map(msgpack.packb, entries)) + b"\x92\x01\x81\xa1x\xa2\xff\xff\x92\x01\x81\xa1n\x63"
    count = len(entries) + 2
    with HubProcess(tmp_path) as hub, connect(hub.socket) as client:
        client.sendall(
            encode_frame_head(b"app", len(payload)) + payload + encode_frame_tail(chunkid.pack("odd"), count)
        )
        client.sendall(frame_of(chunkid.pack("next"), {"n": "next"}))
        assert read_acks(client, 2) == ["odd", "next"]
        shown = mpsr("logs", "--journal", hub.journal, "--output", "json")
        assert hub.stop() == 0
        assert mpsr("verify", "--journal", hub.journal).returncode == 0
    assert shown.returncode == 0
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(1, count + 2))
    for number in range(len(odd) - 1):
        assert "unreadable entry" in lines[2 * number + 1]["record"]["reason"]
        assert lines[2 * number + 2]["record"] == {"n": number}
    assert lines[2 * len(odd) - 1]["record"] == {}, "a message without a time is one"
    assert lines[-1]["record"] == {"n": "next"}
    assert lines[-2]["record"] == {"n": 99}
    assert lines[-3]["record"]["x"] == "\ufffd\ufffd"


# Garbage.


def _after_tag(rest: bytes) -> bytes:
    return b"\x93\xa3app" + rest


_FRAME = _after_tag(b"\x01\x80")
"""Selects Forward: without it, what cannot be a frame would be text."""

GARBAGE: dict[str, bytes] = {
    **{f"random bytes {seed}": _FRAME + b"\x93" + random.Random(seed).randbytes(5000) for seed in range(5)},
    "an array of integers": _FRAME + b"\x93\x01\x02\x03",
    "an array of none": _FRAME + b"\x90" * 10,
    "a map in place of entries": b"\x92\xa3app\x81\x01\x02",
    "options that are a text": _after_tag(b"\x91\x92\x01\x80\xa3abc"),
    "a byte that msgpack never uses": _after_tag(b"\xc1" * 10),
    "nested 100,000 deep": _after_tag(b"\x91" * 100_000),
    "nested 100,000 deep in a message": _after_tag(b"\x01\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"),
    "nested 100,000 deep in a payload": _after_tag(
        b"\xc6" + (100_000).to_bytes(4, "big") + b"\x91" * 100_000 + b"\x80"
    ),
    "4 GiB of payload": _after_tag(b"\xc6\xff\xff\xff\xff" + b"x" * 1000),
    "4 Gi entries": _after_tag(b"\xdd\xff\xff\xff\xff" + b"\x92\x01\x80" * 100),
    "an array of 4 Gi": _FRAME + b"\xdd\xff\xff\xff\xff\xa3app",
    "a tag of 4 GiB": b"\x93\xdb\xff\xff\xff\xff" + b"x" * 1000,
    "a record of 4 Gi keys": _after_tag(b"\x01\xdf\xff\xff\xff\xff" + b"\xa1x\x01" * 100),
    "options of 4 Gi keys": _after_tag(b"\xc4\x00\xdf\xff\xff\xff\xff" + b"\xa1x\x01" * 100),
}


def test_garbage_is_one_loss_each_and_costs_no_memory(tmp_path: Path) -> None:
    """Any garbage is one loss and ends its connection; it costs little memory and affects no other client."""
    with HubProcess(tmp_path) as hub, connect(hub.socket) as honest:
        honest.sendall(chunk("first"))
        assert read_acks(honest, 1) == ["first"]
        before = _peak_bytes(hub)
        for number, (name, data) in enumerate(GARBAGE.items(), 1):
            with connect(hub.socket) as client:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == b"", name
            assert _losses(hub, number) == number, name
            honest.sendall(chunk(name))
            assert read_acks(honest, 1) == [name]
        assert _peak_bytes(hub) - before < 100 << 20
        messages = hub.messages()
    assert sum(message.tag == LOSS for message in messages) == len(GARBAGE)
    assert [message.record for message in messages if message.tag == "app" and message.record.get("text") == "x"] == [
        {"n": 0, "text": "x"}
    ] * (len(GARBAGE) + 1)
