"""producers.logs.places, and the short way of `HubHandler` that uses it: it packs what the long way would."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from producers import HubHandler
from producers.logs import places
from producers.logs.places import PLACES_MAX, OwnRecord, Place, Places, key_of

NAME = "shop.cart"


class Way:
    """A handler that sends nothing: packs records, and counts those that took the long way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handler = HubHandler("/nowhere/socket")
        self.long = 0
        pack_any = self.handler._pack_any

        def counting(record: logging.LogRecord) -> tuple[bytes, bytes]:
            self.long += 1
            return pack_any(record)

        self._pack_any = pack_any
        monkeypatch.setattr(self.handler, "_pack_any", counting)

    def compare(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record that is sent, which is that of the long way."""
        (tag, entry), (tag_of_any, entry_of_any) = self.handler._packed(record), self._pack_any(record)
        time, fields = msgspec.msgpack.decode(entry)
        assert tag == tag_of_any
        assert [time, fields] == msgspec.msgpack.decode(entry_of_any)
        assert entry[:11] == entry_of_any[:11]
        assert isinstance(fields, dict)
        return fields


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Way:
    return Way(monkeypatch)


def record_of(message: object = "text", *args: object, level: int = 20, line: int = 7, **extra: Any) -> Any:
    record = logging.LogRecord(NAME, level, "/srv/cart.py", line, message, args, None, "charge")
    record.__dict__.update(extra)
    return record


def test_usual_records(way: Way) -> None:
    """Records with arguments, extra fields, deep and long values, and levels of the application take the short way."""
    deep: Any = "value"
    for _ in range(50):
        deep = [deep]
    for record in (
        record_of(),
        record_of("%d of %s", 3, "ten"),
        record_of(order=17, tags=["a", {"b": None}]),
        record_of("later", order=18, tags=[]),
        record_of("long", text="x" * 1000, deep=deep),
        record_of("own level", level=25),
        record_of("seven", **dict.fromkeys("abcdefg", 1)),
    ):
        way.compare(record)
        assert way.long == 0, record.msg


def test_extra_fields_that_change_at_one_place(way: Way) -> None:
    """Other names, as many other names, none: each record has its own."""
    for extra in ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}, {}, {"b": 2}, {"a": 3, "c": 1}, {"c": 1, "a": 3}, {1: 2}):
        record = record_of()
        record.__dict__.update(extra)
        fields = way.compare(record)
        assert {name: value for name, value in fields.items() if name in (*"abc", 1)} == extra


def without(name: str, **extra: Any) -> Any:
    record = record_of(**extra)
    del record.__dict__[name]
    return record


@pytest.mark.parametrize(
    "make",
    [
        lambda: record_of(level_="taken", lineno=7, func=1),
        lambda: record_of(a=object()),
        lambda: record_of(a="\udcff"),
        lambda: record_of(**{f"field{number}": number for number in range(9)}),
        lambda: record_of({"event": "a dict"}),
        lambda: record_of("no number %d", "x"),
        lambda: record_of(pathname=["no", "text"]),
        lambda: record_of(funcName="\udcff"),
        lambda: record_of(exc_text="Traceback (most recent call last):\n  somewhere"),
        lambda: record_of(stack_info="Stack:\n  here"),
        lambda: without("relativeCreated", a=1, b=2, c=3),
    ],
)  # fmt: skip
def test_unusual_records(way: Way, make: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> None:
    """They take the long way, also after a usual record of the same place."""
    way.compare(record_of(a=1, b=2))
    assert way.long == 0
    way.compare(make())
    assert way.long == 1


def test_too_deep(way: Way) -> None:
    """A value that no reader could decode takes the long way, which sends its `repr`."""
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]
    tag, entry = way.handler._packed(record_of(deep=deep))
    assert (tag, way.long) == (NAME.encode(), 1)
    assert b"mpsr.repr" in entry


def test_places_are_bounded() -> None:
    """Above the limit all are forgotten, and made again when they are needed."""
    known = Places(None, lambda tag: (tag or "default").encode())
    for line in range(PLACES_MAX):
        known[key_of(record_of(line=line).__dict__)]
    first = known[key_of(record_of(line=0).__dict__)]
    assert len(known) == PLACES_MAX
    known[key_of(record_of(line=PLACES_MAX).__dict__)]
    assert len(known) == 1
    assert known[key_of(record_of(line=0).__dict__)].packed == first.packed


def test_tags() -> None:
    """The tag is the given one, or the name of the logger, or for the root logger the default."""
    assert [Places(None, lambda tag: str(tag).encode()).tag_of(name) for name in ("a.b", "root")] == [b"a.b", b"None"]
    assert Places("given", lambda tag: str(tag).encode()).tag_of("a.b") == b"given"
    with pytest.raises(OwnRecord):
        Places("given", lambda tag: str(tag).encode()).tag_of("mpsr.producers")


def test_a_place_holds_its_fields() -> None:
    """Its bytes are the inside of a map."""
    place = Place(b"tag", {"level": "info", "lineno": 7})
    assert msgspec.msgpack.decode(bytes((0x80 | place.pairs,)) + place.packed) == {"level": "info", "lineno": 7}
    assert places.level_of(25, "\x1b[32mNOTICE\x1b[0m") == {"level": "notice", "levelno": 25}
