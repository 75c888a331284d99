"""Link: when to connect, what to send and what to resend; histories as data, with a fake clock and fixed jitter."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.entries import stamp
from producers.arena import Chunk
from producers.backlog import Backlog
from producers.backoff import BACKOFF_MAX_S, BACKOFF_MIN_S
from producers.link import Link, LinkState


class Rig:
    """A link, its clock, and the chunks sent on its connections, each as the numbers of its messages."""

    def __init__(self, *, jitter: float = 1.0, linger_s: float = 1.0, window: int = 1 << 20, chunk: int = 1) -> None:
        self.backlog = Backlog(chunk_bytes_max=chunk)
        self.link = Link(self.backlog, linger_s=linger_s, window_bytes=window, jitter=lambda: jitter)
        self.now = 1000.0
        self.sent: dict[str, bytes] = {}  # messages of a chunk, as text -> its frame

    def send(self, *numbers: int, size: int = 0, tag: bytes = b"t") -> None:
        for number in numbers:
            assert self.backlog.append(tag, stamp(0) + msgpack.packb({"n": number, "pad": "x" * size}))
            self.link.appended(self.now)

    def connect(self) -> None:
        assert self.link.may_connect(self.now)
        self.link.connecting()

    def up(self) -> None:
        self.connect()
        self.link.connected()

    def out(self) -> list[str]:
        """Take all chunks that may be sent now; check that the bytes of a chunk never change."""
        names = []
        while (chunk := self.link.outgoing(self.now)) is not None:
            names.append(name := self._name(chunk))
            assert self.sent.setdefault(name, bytes(chunk.frame)) == bytes(chunk.frame)
        return names

    def ack(self, *names: str) -> None:
        ids = [msgpack.unpackb(self.sent[name])[2]["chunk"] for name in names]
        self.link.received(b"".join(msgpack.packb({"ack": chunk_id}) for chunk_id in ids))

    def fail(self, reason: str = "gone") -> None:
        self.link.failed(self.now, reason)

    def wait(self) -> float:
        """Advance the clock until the link is due; return by how much."""
        due = self.link.due(self.now)
        assert due is not None
        self.now += due
        return due

    def _name(self, chunk: Chunk) -> str:
        entries = msgpack.Unpacker(ext_hook=msgpack.ExtType)
        entries.feed(msgpack.unpackb(bytes(chunk.frame))[1])
        return ",".join(str(record["n"]) for _, record in entries)


# Connecting.


def test_refusals() -> None:
    """A refusal is known until the next attempt ends or `want` is called; retries follow as usual."""
    rig = Rig()
    rig.send(0)
    rig.connect()
    rig.link.failed(rig.now, "a stranger", is_refused=True)
    assert (rig.link.is_refused, rig.link.last_error) == (True, "a stranger")
    assert rig.wait() == pytest.approx(BACKOFF_MIN_S)
    rig.connect()
    rig.fail()
    assert not rig.link.is_refused
    for end in (rig.link.want, rig.link.connected):
        rig.wait()
        rig.connect()
        rig.link.failed(rig.now, "a stranger", is_refused=True)
        if end == rig.link.connected:
            rig.wait()
            rig.connect()
        end()
        assert not rig.link.is_refused


def test_nothing_to_send_is_no_reason_to_connect() -> None:
    """A link connects only if there is something to send or a connection is wanted."""
    rig = Rig()
    assert (rig.link.may_connect(rig.now), rig.link.due(rig.now)) == (False, None)
    rig.send(0)
    assert (rig.link.may_connect(rig.now), rig.link.due(rig.now)) == (True, 0.0)
    wanted = Rig()
    wanted.link.want()
    assert (wanted.link.may_connect(wanted.now), wanted.link.due(wanted.now)) == (True, 0.0)


def test_a_want_is_satisfied_by_one_connection() -> None:
    """A want that was met by a connection does not cause another one after that is lost."""
    rig = Rig()
    rig.link.want()
    rig.up()
    rig.link.want()
    rig.fail()
    assert (rig.link.may_connect(rig.now + 10), rig.link.due(rig.now)) == (False, None)


def test_back_off_doubles_up_to_its_limit() -> None:
    """Each failure waits twice as long as the one before, up to the limit, exactly by the clock."""
    rig = Rig()
    rig.send(0)
    waited = []
    for _ in range(9):
        rig.connect()
        assert rig.link.due(rig.now) is None, "while it is connecting, it waits for the outcome"
        rig.fail()
        waited.append(rig.link.due(rig.now))
        assert waited[-1] is not None
        assert not rig.link.may_connect(rig.now + waited[-1] - 0.001)
        rig.wait()
    assert waited == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0])
    assert (waited[0], waited[-1]) == pytest.approx((BACKOFF_MIN_S, BACKOFF_MAX_S))


@pytest.mark.parametrize(("jitter", "first"), [(0.0, 0.01), (0.5, 0.015), (1.0, 0.02)])
def test_back_off_is_jittered(jitter: float, first: float) -> None:
    """A wait is between half of the back-off and all of it."""
    rig = Rig(jitter=jitter)
    rig.send(0)
    rig.connect()
    rig.fail()
    assert rig.wait() == pytest.approx(first)


def test_back_off_begins_anew_with_an_acknowledgement() -> None:
    """A connection alone does not reset the back-off; an acknowledgement does."""
    rig = Rig()
    rig.send(0, 1, 2)
    waited = []
    for acknowledged in ((), (), ("0",), (), ("1",)):
        rig.up()
        rig.link.hurry()
        rig.out()
        rig.ack(*acknowledged)
        rig.fail()
        waited.append(rig.wait())
    assert waited == pytest.approx([0.02, 0.04, 0.02, 0.04, 0.02])


def test_a_repeated_acknowledgement_proves_nothing() -> None:
    """Only a new acknowledgement resets the back-off."""
    rig = Rig()
    rig.send(0, 1)
    rig.up()
    rig.link.hurry()
    rig.out()
    rig.ack("0")
    rig.fail()
    rig.wait()
    rig.up()
    rig.ack("0")
    rig.fail()
    assert rig.wait() == pytest.approx(0.04)


def test_why_there_is_no_hub() -> None:
    """The last error is kept until there is a connection again."""
    rig = Rig()
    rig.send(0)
    rig.connect()
    rig.fail("no hub")
    assert (rig.link.state, rig.link.last_error) == (LinkState.DISCONNECTED, "no hub")
    rig.wait()
    rig.up()
    assert (rig.link.state, rig.link.last_error) == (LinkState.CONNECTED, "")


@pytest.mark.parametrize("steps", ["connected", "failed", "connecting connecting", "connecting connected connected"])
def test_what_is_not_in_the_table_is_a_mistake_of_ours(steps: str) -> None:
    """Only the transitions of the diagram are allowed."""
    rig = Rig()
    *before, last = steps.split()
    for step in before:
        getattr(rig.link, step)()
    with pytest.raises(AssertionError):
        rig.fail() if last == "failed" else getattr(rig.link, last)()


# Sending.


def test_nothing_goes_out_without_a_connection() -> None:
    """While disconnected or connecting nothing is sent, even if it is due."""
    rig = Rig()
    rig.send(0, 1)
    rig.link.hurry()
    assert rig.out() == []
    rig.connect()
    assert rig.out() == []
    rig.link.connected()
    assert rig.out() == ["0", "1"]


def test_the_open_chunk_lingers() -> None:
    """Messages wait for others for the linger time of the first in their chunk, and are then sent together."""
    rig = Rig(chunk=1000)
    rig.send(0)
    rig.up()
    assert (rig.out(), rig.link.due(rig.now)) == ([], 1.0)
    rig.now += 0.75
    rig.send(1)
    assert (rig.out(), rig.link.due(rig.now)) == ([], 0.25)
    rig.now += 0.25
    assert rig.link.due(rig.now) == 0.0
    assert (rig.out(), rig.link.due(rig.now)) == (["0,1"], None)


def test_a_chunk_cut_for_its_tag_lingers_from_its_first_message() -> None:
    """A new connection sends the cut chunks at once; a chunk that was open then lingers, also when it is cut later."""
    rig = Rig(chunk=10_000)
    rig.send(0, tag=b"a")
    rig.send(1, tag=b"b")
    rig.up()
    assert rig.out() == ["0"]
    rig.now += 0.5
    rig.send(2, tag=b"a")
    assert rig.out() == []
    assert rig.wait() == pytest.approx(0.5)
    assert rig.out() == ["1"]
    assert rig.wait() == pytest.approx(0.5)
    assert rig.out() == ["2"]


def test_a_full_chunk_does_not_linger() -> None:
    """
    A message that does not fit cuts the chunk, which is sent at once; the rest lingers from its own first message.
    """
    rig = Rig(chunk=1)
    rig.send(0)
    rig.up()
    rig.now += 0.5
    rig.send(1)
    assert rig.link.due(rig.now) == 0.0
    assert (rig.out(), rig.link.due(rig.now)) == (["0"], 1.0)


def test_hurry() -> None:
    """After hurry the present messages do not linger; later ones do, in the same chunk or in the next."""
    rig = Rig(chunk=1000)
    rig.send(0)
    rig.up()
    rig.link.hurry()
    assert rig.link.due(rig.now) == 0.0
    assert rig.out() == ["0"]
    rig.send(1)
    assert (rig.out(), rig.link.due(rig.now)) == ([], 1.0)
    rig.link.hurry()
    rig.send(2)
    assert rig.out() == ["1,2"]
    rig.link.hurry()
    rig.send(3)
    assert rig.out() == [], "nothing was there when it was asked for"


def test_the_window() -> None:
    """A chunk goes out only while less than a window is in flight, and each acknowledgement makes room for more."""
    rig = Rig(window=1000)
    rig.send(*range(10), size=250)  # frames of some 350 bytes
    rig.link.hurry()
    rig.up()
    assert (rig.out(), rig.link.due(rig.now)) == (["0", "1", "2"], None)
    rig.ack("0")
    assert rig.link.due(rig.now) == 0.0
    assert rig.out() == ["3"]
    rig.ack("2", "3")
    assert (rig.out(), rig.link.due(rig.now)) == ([], None), "the first is still in flight"
    rig.ack("1")
    assert rig.out() == ["4", "5", "6"]


def test_one_chunk_larger_than_the_window() -> None:
    """A chunk larger than the window is sent alone."""
    rig = Rig(window=1000)
    rig.send(0, size=5000)
    rig.send(1, 2)
    rig.link.hurry()
    rig.up()
    assert rig.out() == ["0"]
    rig.ack("0")
    assert rig.out() == ["1", "2"]


def test_the_window_of_a_new_connection_is_empty() -> None:
    """The bytes in flight on a lost connection do not count on the next; the chunks are sent again from the oldest."""
    rig = Rig(window=1000)
    rig.send(*range(5), size=250)
    rig.link.hurry()
    rig.up()
    assert rig.out() == ["0", "1", "2"]
    rig.ack("0")
    rig.fail()
    assert rig.out() == []
    rig.wait()
    rig.up()
    assert rig.out() == ["1", "2", "3"]


# Acknowledgements.


@pytest.mark.parametrize("cut", range(1, 52))
def test_acknowledgements_in_pieces(cut: int) -> None:
    """Acknowledgements may arrive in any pieces."""
    rig = Rig()
    rig.send(0)
    rig.link.hurry()
    rig.up()
    (name,) = rig.out()
    whole = msgpack.packb({"ack": msgpack.unpackb(rig.sent[name])[2]["chunk"]})
    rig.link.received(whole[:cut])
    assert rig.backlog.acknowledged == (cut >= len(whole))
    rig.link.received(whole[cut:])
    assert rig.backlog.acknowledged == 1


def test_half_an_acknowledgement_dies_with_its_connection() -> None:
    """A partial acknowledgement is not completed by the next connection."""
    rig = Rig()
    rig.send(0)
    rig.link.hurry()
    rig.up()
    rig.out()
    rig.link.received(b"\x81\xa3ack\xd9\x2cmps")
    rig.fail()
    rig.wait()
    rig.up()
    rig.ack(*rig.out())
    assert rig.backlog.is_empty


@pytest.mark.parametrize("data", [b"\x80", b"\x81\xa3ack\x01", b"\x81\xa3ack\xa1\xff", b"\x81\x01\x02", b""])
def test_what_acknowledges_nothing_is_passed_over(data: bytes) -> None:
    """Maps that are not acknowledgements of our chunks change nothing."""
    rig = Rig()
    rig.send(0)
    rig.link.hurry()
    rig.up()
    rig.out()
    rig.link.received(data)
    assert rig.backlog.acknowledged == 0
    rig.ack("0")
    assert rig.backlog.acknowledged == 1


GARBAGE = {
    "a number": b"\x01",
    "text": b"HTTP/1.1",
    "a list": b"\x93\x01\x02\x03",
    "the byte that is never used": b"\xc1",
    "a list as a key": b"\x81\x90\xc0",
    "a map as a key": b"\x81\x80\xc0",
    "nested beyond reason": b"\x91" * 5000,
    "a broken timestamp": b"\xc7\x03\xff\x00\x00\x00",
    "more than any acknowledgement": b"\xdb\x00\x20\x00\x00" + bytes(2 << 20),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_value_error(data: bytes) -> None:
    """Any other answer of a server is a ValueError."""
    rig = Rig()
    rig.link.want()
    rig.up()
    with pytest.raises(ValueError, match=r"."):
        rig.link.received(data)


# Any history.

STEP = st.sampled_from(["send", "send", "send big", "hurry", "out", "out", "ack", "ack", "ack late", "fail", "tick"])


@settings(max_examples=200, derandomize=True)
@given(st.lists(STEP, max_size=60))
def test_any_history(steps: list[str]) -> None:
    """On every connection the chunks are sent in order and without a gap, from the oldest that is not acknowledged."""
    rig, number = Rig(window=1000, chunk=200), 0
    on_wire: list[str] = []  # of this connection
    waiting: list[str] = []  # sent on it, not acknowledged
    for step in steps:
        if step.startswith("send"):
            rig.send(number, size=400 if "big" in step else 10)
            number += 1
        elif step == "hurry":
            rig.link.hurry()
        elif step == "tick":
            rig.now += 0.3
        elif step == "fail" and rig.link.state is LinkState.CONNECTED:
            rig.fail()
            on_wire, waiting = [], []
        elif step.startswith("ack") and waiting:
            rig.ack(waiting.pop(0 if step == "ack" else -1))
        elif step == "out":
            if rig.link.may_connect(rig.now):
                rig.up()
            names = rig.out()
            on_wire += names
            waiting += names
            assert sum(len(rig.sent[name]) for name in waiting[:-1]) < 1000 or not names
        flat = [int(part) for name in on_wire for part in name.split(",")]
        assert flat == sorted(set(flat))
        due = rig.link.due(rig.now)
        assert due is None or due >= 0.0
        assert due != 0.0 or rig.link.may_connect(rig.now) or rig.link.state is LinkState.CONNECTED
    _settle(rig)
    assert rig.backlog.acknowledged == number
    assert rig.link.due(rig.now) is None


def _settle(rig: Rig) -> None:
    """Send and acknowledge everything, acting only when `due` asks for it."""
    rig.link.hurry()
    for _ in range(1000):
        if rig.backlog.is_empty:
            return
        if rig.link.may_connect(rig.now):
            rig.up()
        if names := rig.out():
            rig.ack(*names)
        elif (due := rig.link.due(rig.now)) is None:  # it waits for acknowledgements
            rig.ack(*rig.sent)
        else:
            rig.now += due
    raise AssertionError("it does not come to an end")
