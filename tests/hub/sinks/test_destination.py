"""hub.sinks.destination: servers as the configuration names them."""

from __future__ import annotations

import pytest

from hub.sinks.destination import Header, Server, Url


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


@pytest.mark.parametrize(
    ("text", "whole", "host", "port", "authority", "path"),
    [
        ("http://a", "http://a/v1/logs", "a", 80, "a", "/v1/logs"),
        ("https://a.b/", "https://a.b/v1/logs", "a.b", 443, "a.b", "/v1/logs"),
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/logs", "127.0.0.1", 4318, "127.0.0.1:4318", "/v1/logs"),
        ("https://[::1]:1/x/y?z=%20", "https://[::1]:1/x/y?z=%20", "::1", 1, "[::1]:1", "/x/y?z=%20"),
    ],
)
def test_a_url(text: str, whole: str, host: str, port: int, authority: str, path: str) -> None:
    """Without a path, it is that of OTLP for logs."""
    url = Url.parse(text)
    assert url == whole == Url.parse(url)
    assert (url.host, url.port, url.authority, url.path) == (host, port, authority, path)
    assert url.is_tls == text.startswith("https")


@pytest.mark.parametrize(
    "given",
    [
        "", "a:4318", "ftp://a", "http://", "http://a:0", "http://a:65536", "http://a b/", "http://u:p@a/", "http://a/#x",
        "http://a/\r\nX: y", "http://a/ b", "http://[::g]/", "http://::1/", "http://a/\u00fc", 5, None, "http://a?x=1",
    ],
)  # fmt: skip
def test_what_is_no_url(given: object) -> None:
    """Names and passwords have no place in it, and no line may be added to a request."""
    with pytest.raises(ValueError, match=r"write it like https://collector\.example:4318/v1/logs"):
        Url.parse(given)


@pytest.mark.parametrize("text", ["X-Scope-OrgID: team-a", "X-Scope-OrgID:team-a", " X-Scope-OrgID:  team-a "])
def test_a_header(text: str) -> None:
    """Blanks around the value do not count."""
    header = Header.parse(text)
    assert (header.name, header.value) == ("X-Scope-OrgID", "team-a")


@pytest.mark.parametrize("given", ["", "secret", ": secret", "a b: secret", "A: b\r\nC: secret", "A: \u00fc", 5])
def test_what_is_no_header(given: object) -> None:
    """The error does not quote it: it may be secret."""
    with pytest.raises(ValueError, match="not a header of HTTP") as error:
        Header.parse(given)
    assert "secret" not in str(error.value)
