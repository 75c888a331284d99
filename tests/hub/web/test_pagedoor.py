"""hub.web.pagedoor: names of the host, origins, tokens."""

from __future__ import annotations

import pytest

from hub.web.pagedoor import PageDoor

DOOR = PageDoor("gehäuse".encode, ["Logs.Example.org"])


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("localhost:8000", True),
        ("logs.example.org", True),
        ("LOGS.example.org:443", True),
        ("evil.example.org", False),
        ("logs.example.org.evil.net", False),
        ("127.0.0.1.evil.net:8000", False),
        ("", False),
    ],
)
def test_hosts(host: str, is_own: bool) -> None:
    """A host is an address, localhost, or a configured name, with any port."""
    assert DOOR.is_own_host(host) == is_own


@pytest.mark.parametrize(
    ("origin", "is_own"),
    [
        (None, True),
        ("http://127.0.0.1:8000", True),
        ("https://logs.example.org", True),
        ("https://logs.example.org:444", True),
        ("http://127.0.0.1:8001", False),
        ("http://localhost:8000", False),
        ("http://evil.example.org", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("ws://127.0.0.1:8000", False),
        ("http://", False),
    ],
)
def test_origins(origin: str | None, is_own: bool) -> None:
    """An origin is the server's own, or one with a configured name; a program that is no browser has none."""
    assert DOOR.is_own_origin(origin, "127.0.0.1:8000") == is_own


def test_tokens() -> None:
    """Only the whole token is one, as a text."""
    assert DOOR.is_token("gehäuse")
    assert DOOR.has_token("Bearer gehäuse".encode().decode("utf-8", "surrogateescape"))
    for text in ("", "gehäus", "gehäusee", "\ud800", None, 5, ["gehäuse"]):
        assert not DOOR.is_token(text)
    assert not DOOR.has_token("")
    assert not DOOR.has_token("Basic gehäuse")
