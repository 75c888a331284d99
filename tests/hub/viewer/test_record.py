"""A message in full."""

from __future__ import annotations

from hub.message import Home, Message, Peer
from hub.viewer.record import CHARS_MAX, LINES_MAX, lines_of

PEER = Peer(17, 0, 0, "web\x1b", cgroup="/system.slice/nginx.service", verified=False)
TIME = 1_764_266_400_123_456_789


def test_everything_is_there() -> None:
    """Origin, times, text with all its lines, and fields as a tree."""
    record = {
        "message": "one\n\ttwo\x1b",
        "level": "error",
        "http": {"status": 500, "tags": ["a", {"b": None}], "empty": {}},
        "trace": "x\ny",
    }
    message = Message("app", TIME, record, 1234, TIME + 5_000_000, PEER, Home("db1", b"", 1, 2))
    lines = [text for text, _ in lines_of(message, utc=True)]
    assert lines == [
        "message 1,234",
        "time      2025-11-27 18:00:00.123456789 UTC",
        "received  +0.005000 s",
        "tag       app",
        r"from      web\x1b[17] uid 0 gid 0",
        "          the kernel does not vouch for all of it",
        "unit      nginx.service",
        "host      db1",
        "",
        "one",
        r"    two\x1b",
        "",
        "level: error",
        "http",
        "  status: 500",
        "  tags",
        "    0: a",
        "    1",
        "      b: null",
        "  empty: {}",
        "trace",
        "  x",
        "  y",
    ]


def test_it_is_bounded() -> None:
    """Long, wide and deep records end with what else to do."""
    deep: object = 1
    for _ in range(60):
        deep = {"a": deep}
    for record in (
        {"m": "x\n" * LINES_MAX * 2},
        {"message": "x" * 2 * CHARS_MAX},
        {str(n): n for n in range(LINES_MAX)},
    ):
        lines = lines_of(Message("app", 0, record, 5), utc=True)
        assert lines[-1][0] == "… the rest: mpsr logs --after 4 -o json"
        assert sum(len(text) for text, _ in lines) < CHARS_MAX + 100
        assert len(lines) <= LINES_MAX + 1
    assert len(lines_of(Message("app", 0, {"deep": deep}), utc=True)) < 60
