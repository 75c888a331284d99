"""producers.logs.callsite: plain records are encoded faster, with the same fields."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.logs import callsite
from producers.logs.callsite import RESERVED, SITES_MAX, STANDARD, pack_plain
from producers.logs.handler import HubHandler

LOGGER = logging.getLogger("callsite")
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name not in STANDARD | RESERVED | {"extra"})
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def record_of(message: object = "hello", *args: object, level: int = 20, **extra: Any) -> logging.LogRecord:
    return LOGGER.makeRecord("callsite", level, "/app/x.py", 7, message, args, None, "work", extra)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that the handler makes in the other way."""
    handler = HubHandler("/nowhere/at/all")
    try:
        return handler._fields(record)
    finally:
        handler.close()


@given(st.text(), st.dictionaries(NAMES, VALUES, max_size=7), st.sampled_from([10, 20, 30, 40, 50]))
def test_the_fields_are_the_same(message: str, extra: dict[str, Any], level: int) -> None:
    """Whatever the message and the extra fields are, the map is the one that is made of all fields."""
    record = record_of(message, level=level, **extra)
    packed = pack_plain(record, None)
    assert packed is not None
    assert msgspec.msgpack.decode(packed) == msgspec.msgpack.decode(msgspec.msgpack.encode(fields_of(record)))


def test_the_place_is_that_of_the_call() -> None:
    """Two places of one function, and two loggers at one place, are not mixed up."""
    seen = set()
    for name, lineno in (("a", 1), ("a", 2), ("b", 1), ("a", 1)):
        record = LOGGER.makeRecord(name, 30, "/app/x.py", lineno, "%s", (name,), None, "work")
        packed = pack_plain(record, "task-1")
        assert packed is not None
        fields = msgspec.msgpack.decode(packed)
        seen.add((fields["logger"], fields["lineno"]))
        assert (fields["level"], fields["message"], fields["task"]) == ("warning", name, "task-1")
    assert seen == {("a", 1), ("a", 2), ("b", 1)}


def other_records() -> dict[str, logging.LogRecord]:
    """Return records that are not plain."""
    changed, early, traced = record_of(), record_of(), record_of()
    del changed.__dict__["process"]
    changed.__dict__["process"] = 1
    changed.__dict__["x"] = 1
    early.__dict__ = {"first": 1, **early.__dict__}
    traced.exc_text = "Traceback"
    return {
        "a dict": record_of({"event": "x"}),
        "a level without a name": record_of(level=25),
        "a name of ours": record_of(level=20, task="mine"),
        "loguru's": record_of(level=20, extra={"a": 1}),
        "many fields": record_of(level=20, **{f"f{number}": number for number in range(8)}),
        "set before": early,
        "an exception": traced,
    }


@pytest.mark.parametrize("record", other_records().values(), ids=other_records())
def test_other_records_are_left_alone(record: logging.LogRecord) -> None:
    """A record that is not plain is left to the handler."""
    assert pack_plain(record, None) is None


def test_a_value_that_cannot_be_encoded_is_raised() -> None:
    """The handler then takes the way that names the value."""
    with pytest.raises(TypeError):
        pack_plain(record_of(level=20, it=object()), None)
    nested: list[Any] = []
    for _ in range(600):
        nested = [nested]
    with pytest.raises(RecursionError):
        pack_plain(record_of(level=20, it=nested), None)


def test_made_up_places_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes up logger names does not fill the memory."""
    monkeypatch.setattr(callsite, "_sites", {})
    for number in range(SITES_MAX + 10):
        record = LOGGER.makeRecord(f"made.up.{number}", 20, "/app/x.py", 1, "x", (), None, "work")
        assert pack_plain(record, None) is not None
    assert len(callsite._sites) == 10
