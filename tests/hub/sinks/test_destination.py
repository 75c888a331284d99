"""hub.sinks.destination: servers as the configuration names them."""

from __future__ import annotations

import pytest

from hub.sinks.destination import Server


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("log.example:24224", "log.example", 24224), ("127.0.0.1:1", "127.0.0.1", 1), ("[::1]:65535", "::1", 65535),
        (" collector_1:05 ", "collector_1", 5), ("a.b.c.:5", "a.b.c.", 5),
    ],
)  # fmt: skip
def test_a_host_and_a_port(text: str, host: str, port: int) -> None:
    """A name or an address; one of IPv6 stands in brackets."""
    server = Server.parse(text)
    assert (server.host, server.port, server.is_unix) == (host, port, False)
    assert Server.parse(str(server)) == server


def test_a_socket() -> None:
    """An absolute path has neither host nor port."""
    server = Server.parse("/run/mpsr/hub.sock")
    assert (server.is_unix, server.host, server.port) == (True, "", 0)


@pytest.mark.parametrize(
    "given",
    ["", "a", "a:", ":5", "a:0", "a:65536", "a b:5", "::1:5", "[::g]:5", "run/a.sock", "/a\0", "-a:5", "a:5x", 5, None],
)  # fmt: skip
def test_what_is_no_server(given: object) -> None:
    """The error shows the forms."""
    with pytest.raises(ValueError, match=r"write it like log\.example:24224"):
        Server.parse(given)
