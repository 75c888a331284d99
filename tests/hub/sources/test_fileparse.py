"""hub.sources.fileparse: whole lines to messages; what may continue stays in the file."""

from __future__ import annotations

from typing import Any

import pytest

from hub.message import Batch
from hub.sources import fileparse
from hub.sources.fileparse import FileParser, Run

TRACEBACK = b'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n'


def parsed(parser: FileParser, data: bytes, *, limit: int = 1000, is_last: bool = False) -> tuple[list[Any], int]:
    """Return the records (and the bytes of losses) in *data*, and how many bytes of it were taken."""
    found: list[Any] = []
    size = 0
    for run in parser.runs(data, line_bytes_max=limit, is_last=is_last):
        size += run.size
        found += [run.loss.lost_bytes] if run.loss is not None else records(run)
    return found, size


def records(run: Run) -> list[Any]:
    return [message.record for message in Batch(b"t", run.entries, run.messages).messages()]


def test_lines() -> None:
    """Each line is a message, empty ones too; a carriage return at its end is no part of it."""
    data = b"one\r\n\ntwo\n"
    assert parsed(FileParser(), data) == ([{"message": "one"}, {"message": ""}, {"message": "two"}], len(data))


@pytest.mark.parametrize("multiline", [None, "auto"])
def test_a_line_over_the_limit_costs_that_line(multiline: str | None) -> None:
    """It is a loss between its neighbours."""
    data = b"one\n" + b"x" * 11 + b"\ntwo\nthree\n" + b"y" * 12 + b"\n"
    found, size = parsed(FileParser(multiline=multiline), data, limit=10)
    assert found == [{"message": "one"}, 11, {"message": "two"}, {"message": "three"}, 12]
    assert size == len(data)


def test_formats() -> None:
    """The lines are what the format says; what is open stays, or is taken as it is at the end."""
    assert parsed(FileParser("json"), b'{"a": 1}\nx\n')[0] == [{"a": 1}, {"message": "x"}]
    line = b"2026-11-27T10:00:00Z stdout F whole\n"
    half = b"2026-11-27T10:00:01Z stdout P half\n"
    whole = {"message": "whole", "stream": "stdout"}
    assert parsed(FileParser("cri"), line + half) == ([whole], len(line))
    assert parsed(FileParser("cri"), half) == ([], 0)
    found, size = parsed(FileParser("cri"), line + half, is_last=True)
    assert found == [whole, {"message": "half", "stream": "stdout", "partial": True}]
    assert size == len(line + half)


def test_tracebacks() -> None:
    """A traceback is one message with its level, once it is whole; until then it stays, with what may follow it."""
    parser = FileParser(multiline="auto")
    assert parsed(parser, b"before\r\n" + TRACEBACK) == ([{"message": "before"}], 8)
    assert parsed(parser, TRACEBACK + b"E: x\n") == ([], 0)
    data = TRACEBACK + b"E: x\n"
    found, size = parsed(parser, data + b"after\n")
    assert found == [{"level": "error", "message": data.decode()[:-1]}, {"message": "after"}]
    assert size == len(data) + 6
    assert parsed(parser, data, is_last=True) == (found[:1], len(data))


def test_indent() -> None:
    """Indented lines belong to the line before them."""
    found, size = parsed(FileParser(multiline="indent"), b"a\n  b\nc\n")
    assert (found, size) == ([{"message": "a\n  b"}], 6)


def test_an_expression_begins_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines belong to the last one that the expression matches, up to a limit."""
    parser = FileParser(multiline=r"\d")
    assert parsed(parser, b"x\n1 a\nb\n2 c\n") == ([{"message": "x"}, {"message": "1 a\nb"}], 8)
    assert parsed(parser, b"2 c\n", is_last=True) == ([{"message": "2 c"}], 4)
    assert parsed(parser, b"", is_last=True) == ([], 0)
    monkeypatch.setattr(fileparse, "EVENT_BYTES_MAX", 6)
    assert parsed(parser, b"1 a\nb\nc\n")[0] == [{"message": "1 a\nb"}]


def test_a_bad_expression() -> None:
    """It is an error before anything is read."""
    with pytest.raises(ValueError, match="neither auto, indent nor a regular expression"):
        FileParser(multiline="(")
