"""Replies: what a hub sends, cut into lines."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.jsonrpc import Reply, Value
from producers import replies
from producers.replies import Replies

LINES = [
    {"jsonrpc": "2.0", "id": 1, "result": None},
    {"jsonrpc": "2.0", "method": "stream", "params": {"id": 2, "value": {"a": "ä" * 20}}},
    {"jsonrpc": "2.0", "id": 3, "error": {"code": -1, "message": "no", "data": [1]}},
]
DATA = b"".join(json.dumps(line).encode() + b"\n" for line in LINES)
ANSWERS = [Reply(1), Value(2, {"a": "ä" * 20}), Reply(3, None, -1, "no", [1])]


@given(st.lists(st.integers(0, len(DATA))))
def test_pieces(cuts: list[int]) -> None:
    """However the stream is cut, the same answers come out."""
    places = [0, *sorted(cuts), len(DATA)]
    cutter = Replies()
    pieces = (DATA[begin:end] for begin, end in itertools.pairwise(places))
    assert [answer for piece in pieces for answer in cutter.feed(piece)] == ANSWERS


NO_VALUE = b'{"jsonrpc":"2.0","method":"stream","params":{"id":1}}'


@pytest.mark.parametrize("line", [b"", b"x", b"\xff", b"[]", b"{}", NO_VALUE, b'{"result":1}'])
def test_what_is_no_answer(line: bytes) -> None:
    """Any other line is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011  of several kinds
        Replies().feed(line + b"\n")


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that does not end is given up."""
    monkeypatch.setattr(replies, "LINE_BYTES_MAX", 100)
    cutter = Replies()
    assert cutter.feed(b" " * 100) == []
    with pytest.raises(ValueError, match="a line of more than 100 bytes"):
        cutter.feed(b" ")
