"""hub.wire.pieces: the pieces of Docker's long lines become one message, or are kept as they are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import Loss
from hub.wire import pieces
from hub.wire.detect import Item
from hub.wire.forward import ForwardDecoder
from hub.wire.pieces import FIELDS_MAX, MESSAGE_BYTES_MAX, MESSAGES_MAX
from tests.hub.wire.feeding import CUTS, PROPERTY, batches, cut, feed, losses

ID = "a" * 64


def frame(record: dict[str, Any], *, time: int = 1700000000, tag: str = "docker", option: Any = ()) -> bytes:
    packed: bytes = msgpack.packb([tag, time, record, *([] if option is None else [dict(option)])])
    return packed


def piece(number: int, text: Any, *, last: bool = False, name: str = ID, time: int = 1700000000, **more: Any) -> bytes:
    record = {"container_id": "c", "source": "stdout", "log": text, "partial_message": "true", "partial_id": name}
    record |= {"partial_ordinal": str(number), "partial_last": "true" if last else "false"}
    return frame(record, time=time, **more)


def stored(items: Sequence[Item]) -> list[tuple[str, Any]]:
    """Return tag and text of each message; of pieces, the ordinal in front of the text."""
    rows: list[tuple[str, Any]] = []
    for batch in batches(items):
        for time, record in msgpack.unpackb(batch.entries, unicode_errors="surrogateescape"):
            assert time == 1700000000
            ordinal = record.get("partial_ordinal")
            rows.append((batch.tag.decode(), record["log"] if ordinal is None else (ordinal, record["log"])))
        assert codec.is_well_formed(batch.entries)
    return rows


def plain(text: str) -> bytes:
    return frame({"log": text})


WHOLE: dict[str, tuple[bytes, list[Any]]] = {
    "two": (piece(1, "a") + piece(2, "b", last=True), ["ab"]),
    "an empty last piece": (piece(1, "a" * 16384) + piece(2, "", last=True), ["a" * 16384]),
    "one": (piece(1, "a", last=True), ["a"]),
    "twelve": (b"".join(piece(n, str(n), last=n == 12) for n in range(1, 13)), ["123456789101112"]),
    "among others": (
        plain("x") + piece(1, "a") + plain("y") + piece(2, "b", last=True) + plain("z"),
        ["x", "y", "ab", "z"],
    ),
    "two streams": (
        piece(1, "a") + piece(1, "A", name="b") + piece(2, "B", name="b", last=True) + piece(2, "b", last=True),
        ["AB", "ab"],
    ),
    "one after the other": ((piece(1, "a") + piece(2, "b", last=True)) * 2, ["ab", "ab"]),
}
NOT_WHOLE: dict[str, tuple[bytes, list[Any]]] = {
    "the end is missing": (piece(1, "a") + piece(2, "b"), [("1", "a"), ("2", "b")]),
    "the beginning is missing": (piece(2, "b") + piece(3, "c", last=True), [("2", "b"), ("3", "c")]),
    "the middle is missing": (piece(1, "a") + piece(3, "c", last=True), [("1", "a"), ("3", "c")]),
    "a piece twice": (piece(1, "a") + piece(1, "a") + piece(2, "b", last=True), [("1", "a"), "ab"]),
    "no ordinal": (piece(1, "a").replace(b"\xa11", b"\xa1x"), [("x", "a")]),
    "no text": (piece(1, 5), [("1", 5)]),
    "another tag": (piece(1, "a") + piece(2, "b", last=True, tag="t"), [("2", "b"), ("1", "a")]),
    "no options": (piece(1, "a", option=None), [("1", "a")]),
}


@pytest.mark.parametrize("name", WHOLE | NOT_WHOLE)
def test_pieces(name: str) -> None:
    """Pieces of one id that follow each other are one message; whatever is not complete is kept as it is."""
    data, expected = (WHOLE | NOT_WHOLE)[name]
    for parts in ([data], cut(data, [300]), cut(data, range(0, len(data), 7))):
        decoder = ForwardDecoder()
        items = feed(decoder, *parts)
        assert [text for _, text in stored(items)] == expected
        assert decoder.held_bytes == 0


def test_the_record_of_a_joined_message() -> None:
    """It has the time and the fields of the first piece, without those about pieces, and the bytes of all texts."""
    first = piece(1, "xxxx", time=1).replace(b"xxxx", b"\xf0\x9f\xffx")
    last = piece(2, "y" * 300, last=True, time=2)
    (batch,) = batches(feed(ForwardDecoder(), first + last))
    assert msgpack.unpackb(batch.entries, raw=True) == [
        [1, {b"container_id": b"c", b"source": b"stdout", b"log": b"\xf0\x9f\xffx" + b"y" * 300}]
    ]
    assert batch.count == 1


def test_fields_are_kept_as_they_are() -> None:
    """Also those that Python cannot hold: binaries, nesting, numbers of any size, keys of any type, and their order."""
    odd = b"\x91" * 1000 + b"\x90" + b"\xc4\x01b" + b"\xc7\x01\x80e" + b"\xca\x7f\xc0\x00\x01"
    fields = piece(1, "a", last=True, option=None)[len(b"\x93\xa6docker\xce....") :]
    data = b"\x94\xa6docker\x01\x8a" + odd + fields[1:] + b"\x01\xcf" + b"\xff" * 8 + b"\x80"
    (batch,) = batches(feed(ForwardDecoder(), data))
    record = b"\x86" + odd + b"\xaccontainer_id\xa1c\xa6source\xa6stdout\xa3log\xa1a\x01\xcf" + b"\xff" * 8
    assert batch.entries == codec.join((b"\x92\x01" + record,), 1)


def test_many_fields() -> None:
    """As many as a piece may have are joined; a record with more is stored as it is."""
    for more, expected in ((FIELDS_MAX - 7, "ab"), (FIELDS_MAX - 6, ("1", "a"))):
        labels = {f"label{n}": n for n in range(more)}
        items = feed(ForwardDecoder(), _with(piece(1, "a"), labels) + _with(piece(2, "b", last=True), labels))
        assert stored(items)[0] == ("docker", expected)
        (entry, *_) = msgpack.unpackb(batches(items)[0].entries)
        assert labels.items() <= entry[1].items()


def _with(data: bytes, fields: dict[str, Any]) -> bytes:
    """Return a frame with more *fields* in its record."""
    tag, time, record, option = msgpack.unpackb(data)
    return frame(record | fields, time=time, tag=tag, option=option)


def test_held_pieces_cost_what_is_counted() -> None:
    """Records of many small objects take no more memory than bytes; tiny pieces count with what they cost."""
    fills: list[dict[str, Any]] = [{"n": [[]] * 60_000}, {}]
    for fill in fills:
        decoder = ForwardDecoder()
        tracemalloc.start()
        for number in range(1, 15 if fill else 1500):
            assert not decoder.receive(_with(piece(number, "x"), fill))
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert decoder.held_bytes > 700_000
        assert taken < 1.5 * decoder.held_bytes


def test_a_step_reads_a_few_pieces() -> None:
    """Small pieces with many fields take time, so one call reads only some of them."""
    many = _with(piece(1, "a", last=True), {str(n): n for n in range(FIELDS_MAX - 7)}) * 200
    decoder = ForwardDecoder()
    assert 0 < sum(batch.count for batch in batches(list(decoder.receive(many)))) < 100
    assert decoder.has_more


def test_pieces_that_want_an_acknowledgement_are_stored_one_by_one() -> None:
    """Docker sends the next piece when this one is acknowledged, so none is held."""
    decoder = ForwardDecoder()
    items = list(
        decoder.receive(piece(1, "a", option={"chunk": "1"}) + piece(2, "b", option={"chunk": "2"}, last=True))
    )
    assert [(batch.chunk_id, batch.count) for batch in batches(items)] == [(b"\xa11", 1), (b"\xa12", 1)]
    assert not decoder.waits


def test_pieces_do_not_wait_for_ever() -> None:
    """What has waited from one call of `release` to the next is returned, in its order; the rest is kept as pieces."""
    decoder = ForwardDecoder()
    assert not decoder.receive(piece(1, "a") + piece(2, "b"))
    decoder.release()
    assert not decoder.receive(piece(1, "A", name="other"))
    assert (decoder.waits, decoder.has_more) == (True, False)
    decoder.release()
    assert decoder.has_more
    assert stored(list(decoder.receive(b""))) == [("docker", ("1", "a")), ("docker", ("2", "b"))]
    items = list(decoder.receive(piece(3, "c", last=True) + piece(2, "B", name="other", last=True)))
    assert stored(items) == [("docker", ("3", "c")), ("docker", "AB")]
    assert (decoder.waits, decoder.has_more, decoder.held_bytes) == (False, False, 0)
    decoder.receive(piece(1, "a"))
    decoder.release(everything=True)
    assert stored(list(decoder.receive(plain("x")[:5]))) == [("docker", ("1", "a"))]


def test_what_is_held_is_bounded() -> None:
    """A message over the limit is kept as pieces, and so is the oldest of more than a few."""
    text = "x" * 16384
    count = MESSAGE_BYTES_MAX // 16384 + 5
    decoder, items, held = ForwardDecoder(), list[Item](), 0
    for number in range(1, count + 1):
        items += decoder.receive(piece(number, text, last=number == count))
        held = max(held, decoder.held_bytes)
    assert MESSAGE_BYTES_MAX * 0.9 < held <= MESSAGE_BYTES_MAX
    assert stored([*items, *decoder.finish()]) == [("docker", (str(number), text)) for number in range(1, count + 1)]
    decoder, items = ForwardDecoder(), []
    for number in range(MESSAGES_MAX + 1):
        items += decoder.receive(piece(1, str(number), name=f"{number}" * 64))
    assert stored(items) == [("docker", ("1", "0"))]


def test_a_fault_does_not_cost_pieces() -> None:
    """Pieces that wait are kept when the stream breaks off or is broken."""
    for end in (b"\xc1", piece(2, "b")[:20]):
        items = feed(ForwardDecoder(), piece(1, "a") + end)
        assert stored(items) == [("docker", ("1", "a"))]
        assert len(losses(items)) == 1
        assert isinstance(items[-1], Loss)


names = st.sampled_from(["p", "q", "r", "s", "t", "u"])
steps = st.lists(st.tuples(names, st.integers(1, 4), st.booleans(), st.booleans()), max_size=20)


@PROPERTY
@given(steps, CUTS, st.booleans())
def test_no_text_is_lost_or_doubled(rows: list[tuple[str, int, bool, bool]], places: list[int], by_clock: bool) -> None:
    """Whatever pieces come, in any order, each text is in exactly one message."""
    data = b""
    for number, (name, ordinal, last, is_piece) in enumerate(rows):
        text = f"<{number}>"
        data += piece(ordinal, text, last=last, name=name) if is_piece else plain(text)
    decoder, items = ForwardDecoder(), list[Item]()
    for part in cut(data, places):
        items += decoder.receive(part)
        if by_clock:
            decoder.release()
    items += decoder.finish()
    texts = "".join(text if isinstance(text, str) else text[1] for _, text in stored(items))
    assert sorted(texts.replace(">", "> ").split()) == sorted(f"<{number}>" for number in range(len(rows)))


@pytest.mark.parametrize("record", [b"\x80", b"\xc0", b"\x81\xaflog\x01", b"\x81\xafpartial_message\xa4true"])
def test_what_only_resembles_a_piece_is_no_piece(record: bytes) -> None:
    """An entry that contains the key, and is no piece of Docker's, stays where it is."""
    assert pieces._read(b"\x92\x01" + record) is None
    entry = msgpack.packb([1, {"x": {"partial_message": "true"}}])
    assert pieces.Pieces().take(b"t", codec.join((entry,), 1)) == [(b"t", entry)]
