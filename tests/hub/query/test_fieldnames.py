"""hub.query.fieldnames: names, types and examples, within limits."""

from __future__ import annotations

from typing import Any

import pytest

from hub.message import Message
from hub.query import fieldnames
from hub.query.fieldnames import EXAMPLE_CHARS_MAX, FIELDS_EACH_MAX, NAME_CHARS_MAX, Field, FieldNames


def collected(*records: dict[Any, Any]) -> FieldNames:
    names = FieldNames()
    names.add(Message("t", 0, record, 1, 0) for record in records)
    return names


def test_fields() -> None:
    """Fields inside maps have dotted names; those of the most messages come first."""
    first = {"message": "one", "http": {"status": 200, "ok": True}, "list": [1], "none": None, "empty": {}}
    names = collected(first, {"message": "two"})
    assert names.messages == 2
    assert names.fields() == [
        Field("message", "one", "string", 2),
        Field("empty", "{}", "other", 1),
        Field("http.ok", "true", "boolean", 1),
        Field("http.status", "200", "number", 1),
        Field("list", "[1]", "array", 1),
        Field("none", "null", "null", 1),
    ]


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts, long names, many fields and deep maps cost a bounded amount."""
    (field,) = collected({"m": "x" * 1000, "y" * (NAME_CHARS_MAX + 1): 1, 5: 1}).fields()
    assert field.example == "x" * EXAMPLE_CHARS_MAX + "…"
    assert len(collected({f"f{number}": 1 for number in range(FIELDS_EACH_MAX + 5)}).fields()) == FIELDS_EACH_MAX
    (deep,) = collected({"a": {"b": {"c": {"d": {"e": 1}}}}}).fields()
    assert deep.name == "a.b.c.d"
    monkeypatch.setattr(fieldnames, "NAMES_MAX", 2)
    assert len(collected({"a": 1, "b": 2, "c": 3}).fields()) == 2
