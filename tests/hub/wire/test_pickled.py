"""hub.wire.pickled: log records as SocketHandler pickles them become what our own handler sends."""

from __future__ import annotations

import datetime
import logging
import logging.handlers
import pickle
import struct
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.entries import Entry, array_header, read_each
from hub.message import Batch, Loss, Message
from hub.wire import pickled
from hub.wire.frame import INLINE_BYTES
from hub.wire.payload import Unopened
from hub.wire.pickled import CLASSES_MAX, PickleDecoder, read_record
from hub.wire.plainpickle import STEPS_MAX, Unreadable
from producers.logs import handler as ours
from producers.logs import places

MAKER = logging.handlers.SocketHandler("/nowhere", None)


def record_of(message: object = "text", *args: object, level: int = 20, name: str = "shop", **extra: Any) -> Any:
    record = logging.LogRecord(name, level, "/srv/cart.py", 7, message, args, None, "charge")
    record.__dict__.update(extra)
    return record


def sent(record: Any) -> bytes:
    """Return what the standard library's handler sends for *record*."""
    return bytes(MAKER.makePickle(record))


def framed(value: object, protocol: int = 1) -> bytes:
    data = pickle.dumps(value, protocol)
    return struct.pack(">I", len(data)) + data


def read(data: bytes, step: int = 1 << 20, **options: Any) -> list[Any]:
    """Return the items for a stream of *data*, given in pieces of *step* bytes; large ones opened."""
    decoder = PickleDecoder(**options)
    items: list[Any] = []
    for at in range(0, len(data), step):
        items += decoder.receive(data[at : at + step])
        while decoder.has_more:
            items += decoder.receive(b"")
    items += decoder.finish()
    assert decoder.held_bytes == 0
    return [each for item in items for each in (item.open() if isinstance(item, Unopened) else [item])]


def messages(items: Sequence[Any]) -> list[Message]:
    return [message for item in items if isinstance(item, Batch) for message in item.messages()]


class Spy:
    """Stands for the producer of our handler."""

    path = ""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []

    def tag_bytes(self, tag: str | None) -> bytes:
        return (tag or "python").encode()

    def put(self, tag: bytes, entry: bytes, timeout: float) -> None:
        self.sent.append((tag, entry))


def failing() -> Any:
    try:
        raise ValueError("no cart")
    except ValueError:
        return sys.exc_info()


@pytest.mark.parametrize(
    "record",
    [
        record_of("charged %d for %s", 17, "x"),
        record_of("root", name="root"),
        *(record_of("level", level=level) for level in (10, 30, 40, 50, 0, 25)),
        record_of("extra", amount=19.9, user={"id": 5, "tags": ["a", ("b", None)]}, raw=b"\xff"),
        record_of("reserved", level_=1, message_=2, logger="own", task="t", traceback="mine", extra={"a": 1}),
        record_of("with a stack", stack_info="Stack:\n  here"),
    ],
    ids=lambda record: f"{record.msg} {record.levelno}",
)
def test_it_is_what_our_handler_sends(record: Any) -> None:
    """Level, message, place, names and extra fields are the same, and so are time and tag."""
    spy = Spy()
    handler = ours.HubHandler(producer=spy)  # type: ignore[arg-type]
    handler.emit(record)
    ((tag, entry),) = spy.sent
    (decoded,) = read_each(array_header(1) + entry, 1)
    assert isinstance(decoded, Entry)
    fields = decoded.record
    fields.pop("task", None) if "task" not in record.__dict__ else None
    if "extra" in record.__dict__:  # our handler unfolds it, for loguru
        fields["extra"] = record.__dict__["extra"]
        del fields["a"]
    (message,) = messages(read(sent(record)))
    assert message.record == fields
    assert (message.tag, message.time) == (tag.decode(), decoded.time)


def test_exceptions_are_texts() -> None:
    """The handler formats the traceback; it is the field that our handler fills, too."""
    record = record_of("failed", level=40)
    record.exc_info = failing()
    (message,) = messages(read(sent(record)))
    assert message.record["traceback"].startswith("Traceback (most recent call last):\n")
    assert message.record["traceback"].endswith("ValueError: no cart")


def test_the_tables_are_our_handlers() -> None:
    """Levels and names are written in two places, because the wire does not import producers. They agree."""
    assert pickled._LEVELS == places.LEVELS
    assert pickled._RESERVED == ours.RESERVED
    assert pickled._STANDARD - {"taskName"} == ours.STANDARD - {"taskName"}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_pieces_do_not_matter(step: int) -> None:
    """The same comes out however the stream is cut, with the order kept, and batches of one tag."""
    stream = b"".join(sent(record_of(f"{n}", name="a" if n < 5 else "b")) for n in range(10))
    items = read(stream, step)
    assert [message.record["message"] for message in messages(items)] == [*map(str, range(10))]
    assert [message.tag for message in messages(items)] == ["a"] * 5 + ["b"] * 5
    assert step < 1000 or len(items) < 10


def test_objects_are_a_loss_and_the_rest_is_kept() -> None:
    """The class of an object is named, once for a stream; the record has its other fields."""
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    items = read(sent(record_of("first", when=when, n=1)) + sent(record_of("second", when=when)))
    first, second = messages(items)
    assert (first.record["message"], first.record["when"], first.record["n"]) == ("first", "<datetime.datetime>", 1)
    assert second.record["when"] == "<datetime.datetime>"
    (loss,) = [item for item in items if isinstance(item, Loss)]
    assert (loss.reason, loss.count) == ("objects of datetime.datetime, which is not loaded, are kept as its name", 0)


def test_args_that_need_a_class() -> None:
    """A handler that leaves the arguments in the record: they are kept, as far as they are plain."""
    record = {"msg": "at %s", "levelno": 30, "levelname": "WARNING", "args": (datetime.date(2026, 1, 1), 5)}
    items = read(framed(record))
    (message,) = messages(items)
    assert (message.record["level"], message.record["args"]) == ("warning", ["<datetime.date>", 5])
    assert [item.reason for item in items if isinstance(item, Loss)] == [
        "objects of datetime.date, which is not loaded, are kept as its name"
    ]


def test_classes_are_bounded() -> None:
    """A client that invents names of classes causes a bounded number of losses."""
    stream = b"".join(
        struct.pack(">I", len(data)) + data for n in range(200) for data in [b"}X\x01\x00\x00\x00acm\n%d\ns." % n]
    )
    assert sum(isinstance(item, Loss) for item in read(stream)) == CLASSES_MAX


def test_other_dicts_are_kept_as_they_are() -> None:
    """A dict that is no log record is a message with these fields."""
    (message,) = messages(read(framed({"a": 1, (1, "x"): {"b": None}})))
    assert (message.tag, message.record) == ("python", {"a": 1, "(1, 'x')": {"b": None}})


def test_values_that_msgpack_does_not_have() -> None:
    """Long integers, half surrogates and special floats are kept."""
    values = {"long": 1 << 64, "longer": 1 << 5000, "half": "\ud800", "inf": float("inf"), "neg": -(1 << 63)}
    (message,) = messages(read(framed(values)))
    assert message.record["long"] == str(1 << 64)
    assert message.record["longer"] == hex(1 << 5000)
    assert message.record["half"] == "\\ud800"
    assert (message.record["inf"], message.record["neg"]) == (float("inf"), -(1 << 63))


def test_a_tag_of_the_source() -> None:
    """With a tag, all records have it; the logger stays a field."""
    (message,) = messages(read(sent(record_of()), tag=b"app"))
    assert (message.tag, message.record["logger"]) == ("app", "shop")


def test_the_stream_goes_on_after_what_is_unreadable() -> None:
    """Bytes that are no pickle, and pickles that are no dict, are a loss each; records around them are kept."""
    bad = [b"\0\0\0\x05hello", b"\0\0\0\0", framed([1]), framed("x")]
    items = read(sent(record_of("before")) + b"".join(bad) + sent(record_of("after")))
    assert [message.record["message"] for message in messages(items)] == ["before", "after"]
    losses = [item for item in items if isinstance(item, Loss)]
    assert sum(loss.count for loss in losses) == len(bad)
    assert not any(loss.fatal for loss in losses)


def shared(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value] * 10
    return value


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [shared(9), itself(), ["x" * 10_000] * 5000, {"k": ["x"] * STEPS_MAX}],
    ids=["lists", "itself", "texts", "many"],
)
def test_what_becomes_large_is_a_loss(value: Any) -> None:
    """A small pickle of a record that would be large: it is counted, and not built."""
    (loss,) = read(framed({"a": value}))
    assert isinstance(loss, Loss)


def test_long_numbers_that_are_used_again() -> None:
    """Their digits are counted each time."""
    number = b"\x8b" + struct.pack("<I", 10_000) + b"\x7f" * 10_000
    for times in (1, 5000):
        data = b"}X\x01\x00\x00\x00a](" + number + b"q\x00" + b"h\x00" * times + b"es."
        items = read(struct.pack(">I", len(data)) + data)
        assert [type(item) for item in items] == [Batch if times == 1 else Loss]


def test_depth() -> None:
    """A record may be nested up to the limit; deeper, it is a loss."""
    (message,) = messages(read(framed({"a": deep(pickled.NESTING_MAX - 2)})))
    assert message.tag == "python"
    dicts: Any = 1
    for _ in range(pickled.NESTING_MAX - 2):
        dicts = {"a": dicts}
    assert len(messages(read(framed({"a": dicts})))) == 1
    data = b"}X\x01\x00\x00\x00a]" + b"]" * pickled.NESTING_MAX + b"a" * pickled.NESTING_MAX + b"s."
    (loss,) = read(struct.pack(">I", len(data)) + data)
    assert isinstance(loss, Loss)


def test_unfinished_values_are_no_data() -> None:
    """A mark of the machine that is left in a value is not shown."""
    with pytest.raises(Unreadable, match="unfinished"):
        read_record(b"}X\x01\x00\x00\x00a(\x85s.")


def test_large_records_are_opened_on_a_thread() -> None:
    """A record over 256 KiB is an unopened payload; an unreadable one is a loss then."""
    large = "x" * (INLINE_BYTES + 1)
    stream = sent(record_of(large, when=datetime.date(2026, 1, 1))) + struct.pack(">I", len(large)) + large.encode()
    decoder = PickleDecoder()
    items = [*decoder.receive(stream), *decoder.finish()]
    assert [type(item) for item in items] == [Unopened, Unopened]
    batch, loss, lost = read(stream)
    assert messages([batch])[0].record["message"] == large
    assert "datetime.date" in loss.reason
    assert (lost.lost_bytes, lost.count) == (len(large), 1)


def test_a_record_over_the_limit() -> None:
    """It is a loss, and the next one is read."""
    items = read(sent(record_of("x" * 5000)) + sent(record_of("small")), 100, frame_bytes_max=1000)
    assert [type(item) for item in items] == [Loss, Batch]
    assert items[0].reason == "a record over the limit of 1000 bytes"


def test_half_a_record() -> None:
    """At the end of the stream it is a loss."""
    (loss,) = read(sent(record_of())[:-1])
    assert loss.reason == "half a text at the end of the stream"


def test_one_step_is_bounded() -> None:
    """One `receive` reads some records, and the next call the others."""
    stream = b"".join(sent(record_of(f"{n}")) for n in range(500))
    decoder = PickleDecoder()
    first = messages(decoder.receive(stream))
    assert (0 < len(first) < 200, decoder.has_more) == (True, True)


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(1, 50))
def test_any_stream(parts: list[bytes], step: int) -> None:
    """Whatever the parts are, each is a message or a loss, however it is cut."""
    stream = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    items = read(stream, step)
    counted = sum(item.count for item in items)
    assert counted == len(parts)


def test_what_msgpack_cannot_hold_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """If even text in the place of a value does not help, the record is a loss."""
    monkeypatch.setattr(pickled, "pack", lambda _: None)
    (loss,) = read(framed({"a": 1}))
    assert (loss.reason, loss.count) == ("a pickle of values that cannot be kept", 1)
